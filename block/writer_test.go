package block_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/block/blocktest"
	"github.com/gobcachefs/gobcachefs/errs"
)

// mustWrite opens a device to write that the test closes at its end.
func mustWrite(t *testing.T, name string, opts block.Options) block.Writer {
	t.Helper()
	w, err := block.OpenWriter(context.Background(), name, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func TestFileWriterSuite(t *testing.T) {
	want := blocktest.Pattern(300_123)
	blocktest.WriterSuite(t, func() block.Writer { return mustWrite(t, writeFile(t, "x.img", want), block.Options{}) }, want)
}

func TestMemoryWriterSuites(t *testing.T) {
	want := blocktest.Pattern(300_123)
	t.Run("sparse", func(t *testing.T) {
		blocktest.WriterSuite(t, func() block.Writer { return writers(t, want)["sparse"] }, want)
	})
	t.Run("overlay", func(t *testing.T) {
		blocktest.WriterSuite(t, func() block.Writer { return writers(t, want)["overlay"] }, want)
	})
}

func TestFileWriterPersists(t *testing.T) {
	ctx := context.Background()
	want := blocktest.Pattern(50_000)
	p := writeFile(t, "x.img", want)
	w := mustWrite(t, p, block.Options{})
	if i := w.Info(); i.Name != p || i.Kind != block.KindFile || i.ReadOnly || !i.Locked || i.ID == "" {
		t.Errorf("Info() = %+v, want a locked, writable file", i)
	}
	if _, err := w.WriteAt([]byte("some bytes"), 12_345); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	copy(want[12_345:], "some bytes")
	if got, err := os.ReadFile(p); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the file is not as written (%v)", err)
	}
}

func TestWriterExcludes(t *testing.T) {
	ctx := context.Background()
	p := writeFile(t, "x.img", make([]byte, 8192))
	busy := func(what string, err error) {
		t.Helper()
		var e *errs.Error
		if !errors.As(err, &e) || !errors.Is(err, errs.ErrBusy) || e.Path != p {
			t.Errorf("%s = %v, want ErrBusy at %s", what, err, p)
		}
	}
	r := mustOpen(t, p, block.Options{})
	_, err := block.OpenWriter(ctx, p, block.Options{})
	busy("OpenWriter beside a reader", err)
	_, err = block.OpenWriter(ctx, p, block.Options{NoLock: true})
	busy("OpenWriter with NoLock beside a reader", err)
	_, err = block.Create(ctx, p, 5, block.Options{Force: true})
	busy("Create beside a reader", err)
	if st, err := os.Stat(p); err != nil || st.Size() != 8192 {
		t.Fatalf("a file that was busy has changed: %v, %v", st, err)
	}
	r.Close()
	w := mustWrite(t, p, block.Options{})
	_, err = block.Open(ctx, p, block.Options{})
	busy("Open beside a writer", err)
	_, err = block.OpenWriter(ctx, p, block.Options{})
	busy("OpenWriter beside a writer", err)
	mustOpen(t, p, block.Options{NoLock: true})
	w.Close()
	mustWrite(t, p, block.Options{}).Close()
	mustOpen(t, p, block.Options{})
}

func TestOpenWriterRefuses(t *testing.T) {
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	dir := t.TempDir()
	side := filepath.Join(dir, "side")
	o, err := block.OpenOverlayFile(block.NewMemory("m", make([]byte, 8192)), side)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		ctx  context.Context
		name string
		want error
		says string
	}{
		{context.Background(), "", errs.ErrUsage, ""},
		{context.Background(), "https://u:secret@host/x.img", errs.ErrReadOnly, "HTTP"},
		{context.Background(), dir, errs.ErrUnsupported, "a directory"},
		{context.Background(), filepath.Join(dir, "none"), fs.ErrNotExist, ""},
		{canceled, writeFile(t, "f", make([]byte, 5)), context.Canceled, ""},
		{context.Background(), writeFile(t, "z", compress(t, blocktest.Pattern(9000))), errs.ErrReadOnly, "zstd"},
		{context.Background(), writeFile(t, "q", []byte("QFI\xfb\x00\x00\x00\x03")), errs.ErrReadOnly, "qcow2"},
		{context.Background(), writeFile(t, "v", []byte("KDMV rest")), errs.ErrReadOnly, "vmdk"},
		{context.Background(), writeFile(t, "h", []byte("vhdxfile rest")), errs.ErrReadOnly, "vhdx"},
		{context.Background(), side, errs.ErrUsage, "overlay"},
	} {
		before, _ := os.ReadFile(tt.name)
		w, err := block.OpenWriter(tt.ctx, tt.name, block.Options{})
		if w != nil || !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("OpenWriter(%q) = %v, %v, want nil, %v that says %q", tt.name, w, err, tt.want, tt.says)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("OpenWriter(%q) = %v, which tells the password", tt.name, err)
		}
		if after, _ := os.ReadFile(tt.name); !bytes.Equal(before, after) {
			t.Errorf("OpenWriter(%q) changed the file that it refused", tt.name)
		}
	}
	// Such bytes further on are nobody's business, and neither is a short file.
	for _, b := range [][]byte{nil, []byte("QFI"), []byte("xQFI\xfb")} {
		mustWrite(t, writeFile(t, "x", b), block.Options{})
	}
}

func TestCreate(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	p := filepath.Join(dir, "x.img")
	w, err := block.Create(ctx, p, 300_000, block.Options{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(io.NewSectionReader(w, 0, w.Size()))
	if err != nil || !bytes.Equal(got, make([]byte, 300_000)) {
		t.Errorf("a new file has %d bytes, %v, want 300000 zeros", len(got), err)
	}
	if !w.Info().Locked {
		t.Error("a new file is not locked")
	}
	if _, err := block.Open(ctx, p, block.Options{}); !errors.Is(err, errs.ErrBusy) {
		t.Errorf("Open beside Create = %v, want ErrBusy", err)
	}
	if _, err := w.WriteAt([]byte("x"), 299_999); err != nil {
		t.Error(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	// It stands in its own way, unless forced.
	if _, err := block.Create(ctx, p, 10, block.Options{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create of a file that exists = %v, want ErrExist", err)
	}
	if st, err := os.Stat(p); err != nil || st.Size() != 300_000 {
		t.Errorf("a file that Create refused has changed: %v, %v", st, err)
	}
	w, err = block.Create(ctx, p, 400_000, block.Options{Force: true})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(io.NewSectionReader(w, 0, w.Size())); err != nil || !bytes.Equal(got, make([]byte, 400_000)) {
		t.Errorf("a forced file has %d bytes, %v, want 400000 zeros", len(got), err)
	}
	w.Close()
	// A compressed image can be replaced, too: nothing of it is kept.
	z := writeFile(t, "z", compress(t, blocktest.Pattern(9000)))
	if w, err = block.Create(ctx, z, 4096, block.Options{Force: true}); err != nil {
		t.Errorf("Create over a compressed image = %v, want nil", err)
	} else {
		w.Close()
	}

	canceled, cancel := context.WithCancel(ctx)
	cancel()
	fresh := filepath.Join(dir, "fresh")
	for _, tt := range []struct {
		ctx  context.Context
		name string
		size int64
		want error
	}{
		{ctx, "", 1, errs.ErrUsage},
		{ctx, fresh, -1, errs.ErrUsage},
		{ctx, "http://host/x", 1, errs.ErrReadOnly},
		{ctx, dir, 1, errs.ErrUnsupported},
		{ctx, filepath.Join(dir, "none", "x"), 1, fs.ErrNotExist},
		{canceled, fresh, 1, context.Canceled},
		{ctx, fresh, 1<<63 - 1, errs.ErrIO}, // no file system holds that
	} {
		w, err := block.Create(tt.ctx, tt.name, tt.size, block.Options{Force: true})
		if w != nil || !errors.Is(err, tt.want) {
			t.Errorf("Create(%q, %d) = %v, %v, want nil, %v", tt.name, tt.size, w, err, tt.want)
		}
	}
	if _, err := os.Stat(fresh); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that could not be created is there: %v", err)
	}
}

func TestResize(t *testing.T) {
	ctx := context.Background()
	content := blocktest.Pattern(100_000)
	sparse, err := block.ReadSparse("s", bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	p := writeFile(t, "x.img", content)
	for _, w := range []block.Writer{sparse, mustWrite(t, p, block.Options{})} {
		kind := w.Info().Kind
		r, ok := w.(block.Resizer)
		if !ok {
			t.Fatalf("%s: not a Resizer", kind)
		}
		model := bytes.Clone(content)
		for _, size := range []int64{200_001, 200_000, 70_001, 70_001, 90_000, 0, 5000, 100_000} {
			if err := r.Resize(ctx, size); err != nil {
				t.Fatalf("%s: Resize(%d) = %v, want nil", kind, size, err)
			}
			model = append(model[:min(size, int64(len(model)))], make([]byte, max(0, size-int64(len(model))))...)
			if r.Size() != size {
				t.Errorf("%s: Size() after Resize(%d) = %d", kind, size, r.Size())
			}
			got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
			if err != nil || !bytes.Equal(got, model) {
				t.Errorf("%s: after Resize(%d) it reads as %d other bytes, %v", kind, size, len(got), err)
			}
			if n, err := r.WriteAt([]byte{1}, size); n != 0 || !errors.Is(err, errs.ErrUsage) {
				t.Errorf("%s: WriteAt behind the new end = %d, %v, want 0, ErrUsage", kind, n, err)
			}
			if size > 10 {
				if _, err := r.WriteAt([]byte("end"), size-3); err != nil {
					t.Errorf("%s: WriteAt before the new end = %v, want nil", kind, err)
				}
				copy(model[size-3:], "end")
			}
		}
		if err := r.Resize(ctx, -1); !errors.Is(err, errs.ErrUsage) || r.Size() != 100_000 {
			t.Errorf("%s: Resize(-1) = %v, Size() = %d, want ErrUsage and no change", kind, err, r.Size())
		}
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		if err := r.Resize(canceled, 1); !errors.Is(err, context.Canceled) || r.Size() != 100_000 {
			t.Errorf("%s: Resize(canceled) = %v, Size() = %d, want context.Canceled and no change", kind, err, r.Size())
		}
		// Beside reads and writes of what stays.
		var wg sync.WaitGroup
		stop := make(chan struct{})
		for g := range 3 {
			wg.Go(func() {
				b, got := bytes.Repeat([]byte{byte(g)}, 1000), make([]byte, 1000)
				for {
					if _, err := r.WriteAt(b, int64(g)*1000); err != nil {
						t.Errorf("%s: WriteAt beside Resize = %v, want nil", kind, err)
					}
					if _, err := r.ReadAt(got, int64(g)*1000); err != nil || !bytes.Equal(got, b) {
						t.Errorf("%s: ReadAt beside Resize = %v, or other bytes", kind, err)
					}
					select {
					case <-stop:
						return
					default:
					}
				}
			})
		}
		for i := range 20 {
			if err := r.Resize(ctx, 3000+int64(i*7919%50_000)); err != nil {
				t.Errorf("%s: Resize beside reads and writes = %v", kind, err)
			}
		}
		close(stop)
		wg.Wait()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if err := r.Resize(ctx, 1); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s: Resize after Close = %v, want os.ErrClosed", kind, err)
		}
	}
	if st, err := os.Stat(p); err != nil || st.Size() != 3000+19*7919%50_000 {
		t.Errorf("the file has %d bytes, %v, want what Resize said last", st.Size(), err)
	}
}
