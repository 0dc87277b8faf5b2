package block_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/block/blocktest"
	"github.com/gobcachefs/gobcachefs/errs"
)

// writeFile makes a file in a directory of the test.
func writeFile(t *testing.T, name string, b []byte) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(p, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

// mustOpen opens a device that the test closes at its end.
func mustOpen(t *testing.T, name string, opts block.Options) block.Reader {
	t.Helper()
	r, err := block.Open(context.Background(), name, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestFileSuite(t *testing.T) {
	want := blocktest.Pattern(300_123)
	p := writeFile(t, "x.img", want)
	blocktest.Suite(t, func() block.Reader { return mustOpen(t, p, block.Options{}) }, want)
}

func TestFileInfo(t *testing.T) {
	a, b := writeFile(t, "a", []byte("some")), writeFile(t, "b", []byte("other"))
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(a, link); err != nil {
		t.Fatal(err)
	}
	ra, rl, rb := mustOpen(t, a, block.Options{}), mustOpen(t, link, block.Options{}), mustOpen(t, b, block.Options{})
	i := ra.Info()
	if i.Name != a || i.Kind != block.KindFile || i.ReadOnly || !i.Locked {
		t.Errorf("Info() = %+v, want a locked, writable file named %q", i, a)
	}
	if i.ID == "" || i.ID != rl.Info().ID || i.ID == rb.Info().ID {
		t.Errorf("ID of file, link to it, other file = %q, %q, %q, want the first two equal", i.ID, rl.Info().ID, rb.Info().ID)
	}
	if rl.Info().Name != link {
		t.Errorf("Info().Name = %q, want the name given, %q", rl.Info().Name, link)
	}
	if err := os.Chmod(b, 0o444); err != nil {
		t.Fatal(err)
	}
	if !mustOpen(t, b, block.Options{}).Info().ReadOnly {
		t.Errorf("Info().ReadOnly of a write-protected file = false, want true")
	}
	if _, ok := ra.(io.WriterAt); ok {
		t.Error("a device opened to read has a WriteAt method")
	}
}

func TestOpenRefuses(t *testing.T) {
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	dir := t.TempDir()
	file := writeFile(t, "f", []byte("x"))
	for _, tt := range []struct {
		ctx  context.Context
		name string
		want error
	}{
		{context.Background(), "", errs.ErrUsage},
		{context.Background(), dir, errs.ErrUnsupported},
		{context.Background(), filepath.Join(dir, "none"), fs.ErrNotExist},
		{context.Background(), "\x00", fs.ErrInvalid},
		{canceled, file, context.Canceled},
	} {
		r, err := block.Open(tt.ctx, tt.name, block.Options{})
		if r != nil || (!errors.Is(err, tt.want) && err == nil) {
			t.Errorf("Open(%q) = %v, %v, want nil, %v", tt.name, r, err, tt.want)
		}
		if tt.want != fs.ErrInvalid && !errors.Is(err, tt.want) {
			t.Errorf("Open(%q) = %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestFileShrinks(t *testing.T) {
	p := writeFile(t, "x.img", make([]byte, 100_000))
	r := mustOpen(t, p, block.Options{})
	if err := os.Truncate(p, 5000); err != nil {
		t.Fatal(err)
	}
	n, err := r.ReadAt(make([]byte, 8192), 0)
	var e *errs.Error
	if n != 5000 || !errors.Is(err, errs.ErrIO) || !errors.As(err, &e) || e.Sector != 5000/512 || e.Path != p {
		t.Errorf("ReadAt of a file that shrank = %d, %v, want 5000, ErrIO at sector 9", n, err)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("ReadAt of a file that shrank = %v, which looks like the end of the device", err)
	}
	// Growing changes nothing.
	if err := os.Truncate(p, 200_000); err != nil {
		t.Fatal(err)
	}
	if n, err := r.ReadAt(make([]byte, 10), 100_000); n != 0 || err != io.EOF {
		t.Errorf("ReadAt behind the size at opening = %d, %v, want 0, io.EOF", n, err)
	}
}

func TestEmptyFile(t *testing.T) {
	r := mustOpen(t, writeFile(t, "x.img", nil), block.Options{})
	if n, err := r.ReadAt(make([]byte, 1), 0); r.Size() != 0 || n != 0 || err != io.EOF {
		t.Errorf("empty file: Size, ReadAt = %d, %d, %v, want 0, 0, io.EOF", r.Size(), n, err)
	}
}

// FuzzOpen feeds files to Open, which looks for the compressed ones.
func FuzzOpen(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x28\xb5\x2f\xfd"))
	f.Add(compress(f, blocktest.Pattern(10_000)))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		p := filepath.Join(dir, "x")
		if err := os.WriteFile(p, b, 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := block.Open(context.Background(), p, block.Options{SpoolLimit: 1 << 20, SpoolDir: dir})
		if err != nil {
			return
		}
		defer r.Close()
		if r.Info().Kind == block.KindFile {
			got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
			if err != nil || !bytes.Equal(got, b) {
				t.Errorf("a plain file reads as %d bytes, %v, want its %d bytes", len(got), err, len(b))
			}
		}
	})
}
