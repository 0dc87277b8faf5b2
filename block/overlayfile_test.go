package block_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/block/blocktest"
	"github.com/gobcachefs/gobcachefs/errs"
)

// mustOverlay opens an overlay that the test closes at its end.
func mustOverlay(t *testing.T, base block.Reader, path string) block.Writer {
	t.Helper()
	w, err := block.OpenOverlayFile(base, path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func mustClose(t *testing.T, w block.Writer) {
	t.Helper()
	if err := w.Close(); err != nil {
		t.Fatalf("Close() = %v, want nil", err)
	}
}

func put(t *testing.T, w block.Writer, p []byte, off int64) {
	t.Helper()
	if n, err := w.WriteAt(p, off); n != len(p) || err != nil {
		t.Fatalf("WriteAt(%d bytes, %d) = %d, %v, want %d, nil", len(p), off, n, err, len(p))
	}
}

func contents(t *testing.T, r block.Reader) []byte {
	t.Helper()
	b := make([]byte, r.Size())
	if _, err := r.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOverlayFileSuite(t *testing.T) {
	want := blocktest.Pattern(300_123)
	fresh := func() block.Writer {
		return mustOverlay(t, block.NewMemory("m", want), filepath.Join(t.TempDir(), "side"))
	}
	t.Run("New", func(t *testing.T) { blocktest.WriterSuite(t, fresh, want) })
	// One that brings most of what there is, after it was closed, or was not.
	below := bytes.Clone(want)
	patches := [][2]int{{0, 10}, {4096, 8192}, {100_000, 100_001}, {110_000, 250_000}, {300_000, 300_123}}
	for _, p := range patches {
		for i := p[0]; i < p[1]; i++ {
			below[i] ^= 0xff
		}
	}
	for _, closed := range []bool{true, false} {
		t.Run(fmt.Sprint("Reopened", closed), func(t *testing.T) {
			blocktest.WriterSuite(t, func() block.Writer {
				path := filepath.Join(t.TempDir(), "side")
				w := mustOverlay(t, block.NewMemory("m", below), path)
				for _, p := range patches {
					put(t, w, want[p[0]:p[1]], int64(p[0]))
				}
				if closed {
					mustClose(t, w)
				} else {
					path = copyFile(t, path) // as if the program had died
				}
				return mustOverlay(t, block.NewMemory("m", below), path)
			}, want)
		})
	}
}

func copyFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, "copy", b)
}

// TestOverlayFileSessions goes through many openings, with a small limit of
// garbage, against a model.
func TestOverlayFileSessions(t *testing.T) {
	ctx := context.Background()
	base := blocktest.Pattern(150_001)
	model := bytes.Clone(base)
	path := filepath.Join(t.TempDir(), "side")
	rng := rand.New(rand.NewPCG(3, 4))
	for session := range 12 {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		side := &plainSide{File: f}
		ws, err := block.OpenOverlay(side, []block.Reader{block.NewMemory("m", base)}, path, 100_000)
		if err != nil {
			t.Fatalf("session %d: %v", session, err)
		}
		w := ws[0]
		if got := contents(t, w); !bytes.Equal(got, model) {
			t.Fatalf("session %d: opened with other bytes than were there at the end of the last", session)
		}
		for range 60 {
			off := rng.IntN(len(model))
			p := make([]byte, min(rng.IntN(20_000), len(model)-off))
			for i := range p {
				p[i] = byte(rng.Uint32())
			}
			put(t, w, p, int64(off))
			copy(model[off:], p)
			if rng.IntN(5) == 0 {
				if err := w.Flush(ctx); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := contents(t, w); !bytes.Equal(got, model) {
			t.Fatalf("session %d: other bytes than were written", session)
		}
		if side.freed < 100_000 {
			t.Errorf("session %d: %d bytes given back, want more than the limit of garbage", session, side.freed)
		}
		mustClose(t, w)
	}
	if got, want := changed(t, path, base), int64(len(base)+4095)/4096*4096; got != want {
		t.Errorf("Changed() = %d, want %d", got, want)
	}
}

func changed(t *testing.T, path string, base []byte) int64 {
	t.Helper()
	w := mustOverlay(t, block.NewMemory("m", base), path)
	defer w.Close()
	return w.(interface{ Changed() int64 }).Changed()
}

// plainSide is a file that scribbles over the space that is given back.
type plainSide struct {
	*os.File
	freed int64
}

func (s *plainSide) Length() (int64, error) {
	st, err := s.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (s *plainSide) Free(off, n int64) {
	s.freed += n
	_, _ = s.WriteAt(bytes.Repeat([]byte{0xee}, int(n)), off)
}

func TestOverlayFileLeavesBaseAlone(t *testing.T) {
	want := blocktest.Pattern(100_000)
	p := writeFile(t, "x.img", want)
	side := filepath.Join(t.TempDir(), "side")
	w := mustOverlay(t, mustOpen(t, p, block.Options{}), side)
	if i := w.Info(); i.Kind != block.KindOverlay || i.ReadOnly || i.Name != p {
		t.Errorf("Info() = %+v, want a writable overlay named as the base", i)
	}
	put(t, w, make([]byte, 50_000), 100)
	// The base is locked against writers, the side file against everybody.
	if _, err := block.OpenWriter(context.Background(), p, block.Options{}); !errors.Is(err, errs.ErrBusy) {
		t.Errorf("OpenWriter of the base = %v, want ErrBusy", err)
	}
	if _, err := block.OpenOverlayFile(block.NewMemory("m", want), side); !errors.Is(err, errs.ErrBusy) {
		t.Errorf("OpenOverlayFile of a file in use = %v, want ErrBusy", err)
	}
	mustClose(t, w)
	if got, err := os.ReadFile(p); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the base has changed (%v)", err)
	}
	if st, err := os.Stat(side); err != nil || st.Mode().Perm()&0o077 != 0 && filepath.Separator == '/' {
		t.Errorf("the side file has mode %v, %v, want it for its owner: it may hold what only root reads", st.Mode(), err)
	}
}

func TestOverlayFileRefuses(t *testing.T) {
	base := blocktest.Pattern(100_000)
	mem := func(b []byte) block.Reader { return block.NewMemory("m", b) }
	change := func(i int) block.Reader {
		b := bytes.Clone(base)
		b[i]++
		return mem(b)
	}
	side := filepath.Join(t.TempDir(), "side")
	w := mustOverlay(t, mem(base), side)
	put(t, w, []byte("x"), 5)
	mustClose(t, w)
	two := filepath.Join(t.TempDir(), "two")
	ws, err := block.OpenOverlayFiles([]block.Reader{mem(base), mem(base)}, two)
	if err != nil {
		t.Fatal(err)
	}
	mustClose(t, ws[0])
	mustClose(t, ws[1])
	good, err := os.ReadFile(side)
	if err != nil {
		t.Fatal(err)
	}
	version := bytes.Clone(good)
	version[8] = 9
	block.OverlayHeaderSum(version)
	for _, tt := range []struct {
		name, path string
		base       block.Reader
		want       error
	}{
		{"a shorter base", side, mem(base[:99_999]), errs.ErrUsage},
		{"a base that changed at its start", side, change(4096), errs.ErrUsage},
		{"a base that changed at its end", side, change(99_999), errs.ErrUsage},
		{"an overlay of two devices", two, mem(base), errs.ErrUsage},
		{"another file", writeFile(t, "a", []byte("precious")), mem(base), errs.ErrUsage},
		{"another file that starts with zeros", writeFile(t, "a", make([]byte, 100_000)), mem(base), errs.ErrUsage},
		{"a directory", t.TempDir(), mem(base), errs.ErrUnsupported},
		{"a path that is not there", filepath.Join(t.TempDir(), "a", "b"), mem(base), os.ErrNotExist},
		{"another version", writeFile(t, "a", version), mem(base), errs.ErrUnsupported},
		{"a header that is cut", writeFile(t, "a", good[:5000]), mem(base), errs.ErrCorrupt},
		{"a file that is cut", writeFile(t, "a", good[:28<<10]), mem(base), errs.ErrCorrupt},
		{"an unreadable base", filepath.Join(t.TempDir(), "a"), blocktest.NewFault(mem(base), blocktest.EIO(0, 512)), errs.ErrIO},
	} {
		before, _ := os.ReadFile(tt.path)
		w, err := block.OpenOverlayFile(tt.base, tt.path)
		if w != nil || !errors.Is(err, tt.want) {
			t.Errorf("%s: OpenOverlayFile = %v, %v, want nil, %v", tt.name, w, err, tt.want)
		}
		if after, _ := os.ReadFile(tt.path); !bytes.Equal(before, after) {
			t.Errorf("%s: the file has changed", tt.name)
		}
		if _, err := tt.base.ReadAt(make([]byte, 1), 1024); err != nil {
			t.Errorf("%s: the base was closed: %v", tt.name, err)
		}
	}
	for _, n := range []int{0, 129} {
		if _, err := block.OpenOverlayFiles(slices.Repeat([]block.Reader{mem(base)}, n), filepath.Join(t.TempDir(), "a")); !errors.Is(err, errs.ErrUsage) {
			t.Errorf("OpenOverlayFiles of %d devices = %v, want ErrUsage", n, err)
		}
	}
	// A file that never became one: empty, or zeros as long as its head.
	for _, n := range []int{0, 10, 24 << 10} {
		w := mustOverlay(t, mem(base), writeFile(t, "a", make([]byte, n)))
		put(t, w, []byte("x"), 5)
		mustClose(t, w)
	}
}

// TestOverlayFileDamage flips a bit of each sector of an overlay file: what was
// written is read, or an error says that it cannot be.
func TestOverlayFileDamage(t *testing.T) {
	ctx := context.Background()
	base := blocktest.Pattern(100_000)
	model := bytes.Clone(base)
	path := filepath.Join(t.TempDir(), "side")
	w := mustOverlay(t, block.NewMemory("m", base), path)
	write := func(n int, off int64) {
		p := bytes.Repeat([]byte{byte(n), 0x55}, n/2)
		put(t, w, p, off)
		copy(model[off:], p)
		if err := w.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
	write(100, 50_000)
	write(9000, 3)
	mustClose(t, w) // an index
	w = mustOverlay(t, block.NewMemory("m", base), path)
	write(5000, 90_000)
	write(20, 4)
	write(4000, 60_000)
	// The file as a program that dies leaves it.
	for _, closed := range []bool{false, true} {
		if closed {
			mustClose(t, w)
		}
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		kinds := map[string]int{}
		for off := 0; off < len(good); off += 512 {
			for _, at := range []int{off, off + 37, off + 400} {
				b := bytes.Clone(good)
				b[at] ^= 0x40
				side := deviceSide{block.NewOverlay(block.NewMemory("side", b))}
				ws, err := block.OpenOverlay(side, []block.Reader{block.NewMemory("m", base)}, "side", 1<<20)
				switch {
				case errors.Is(err, errs.ErrCorrupt), errors.Is(err, errs.ErrUsage) && at < 8:
					kinds["refused"]++
					continue
				case err != nil:
					t.Errorf("byte %d flipped: OpenOverlay = %v, want nil or ErrCorrupt", at, err)
					continue
				}
				w := ws[0]
				got := make([]byte, len(model))
				switch n, err := w.ReadAt(got, 0); {
				case errors.Is(err, errs.ErrChecksum):
					kinds["checksum"]++
					if !bytes.Equal(got[:n], model[:n]) {
						t.Errorf("byte %d flipped: wrong bytes before the bad page", at)
					}
				case err != nil:
					t.Errorf("byte %d flipped: ReadAt = %v, want nil or ErrChecksum", at, err)
				case !bytes.Equal(got, model):
					t.Errorf("byte %d flipped: wrong bytes without an error", at)
				default:
					kinds["good"]++
				}
				w.Close()
			}
		}
		for _, k := range []string{"refused", "checksum", "good"} {
			if kinds[k] == 0 {
				t.Errorf("closed %v: no flip was %s: %v", closed, k, kinds)
			}
		}
	}
}

// TestOverlayFilesOfTwo: the members of a volume share a file, and an order.
func TestOverlayFilesOfTwo(t *testing.T) {
	a, b := blocktest.Pattern(50_000), blocktest.Pattern(60_000)
	path := filepath.Join(t.TempDir(), "side")
	open := func() []block.Writer {
		ws, err := block.OpenOverlayFiles([]block.Reader{block.NewMemory("a", a), block.NewMemory("b", b)}, path)
		if err != nil {
			t.Fatal(err)
		}
		return ws
	}
	ws := open()
	wantA, wantB := bytes.Clone(a), bytes.Clone(b)
	var wg sync.WaitGroup
	for i, want := range [][]byte{wantA, wantB} {
		wg.Go(func() {
			for n := range 50 {
				p := bytes.Repeat([]byte{byte(n + i)}, 1000)
				put(t, ws[i], p, int64(n)*900)
				copy(want[n*900:], p)
				if err := ws[i].Flush(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for range 2 {
		if !bytes.Equal(contents(t, ws[0]), wantA) || !bytes.Equal(contents(t, ws[1]), wantB) {
			t.Fatal("other bytes than were written")
		}
		mustClose(t, ws[0])
		mustClose(t, ws[0])
		put(t, ws[1], []byte("after"), 7)
		copy(wantB[7:], "after")
		mustClose(t, ws[1])
		ws = open()
	}
	mustClose(t, ws[0])
	mustClose(t, ws[1])
}

// deviceSide is a side file on a device. Its length is all of that, unless
// nothing was ever written but, maybe, in front of the log.
type deviceSide struct{ block.Writer }

func (s deviceSide) Length() (int64, error) {
	b := make([]byte, s.Size())
	if _, err := s.ReadAt(b, 0); err != nil {
		return 0, err
	}
	switch n := len(bytes.TrimRight(b, "\x00")); {
	case n == 0:
		return 0, nil
	case n <= 24<<10:
		return 24 << 10, nil
	}
	return s.Size(), nil
}
func (s deviceSide) Sync() error       { return s.Flush(context.Background()) }
func (s deviceSide) Free(off, n int64) { _ = s.Discard(context.Background(), off, n) }

// Truncate makes the rest zeros, as far as it was used.
func (s deviceSide) Truncate(size int64) error {
	b := make([]byte, s.Size()-size)
	if _, err := s.ReadAt(b, size); err != nil {
		return err
	}
	if b = bytes.TrimRight(b, "\x00"); len(b) == 0 {
		return nil
	}
	_, err := s.WriteAt(make([]byte, len(b)), size)
	return err
}

// TestOverlayFilePowerCuts cuts the power in every way: what was flushed is
// there, and of the rest a first part, in the order that it was written.
func TestOverlayFilePowerCuts(t *testing.T) {
	ctx := context.Background()
	base := blocktest.Pattern(64 << 10)
	open := func(w block.Writer) (block.Writer, error) {
		ws, err := block.OpenOverlay(deviceSide{w}, []block.Reader{block.NewMemory("m", base)}, "side", 40_000)
		if err != nil {
			return nil, err
		}
		return ws[0], nil
	}
	r := blocktest.NewRecorder(block.NewSparse("side", 480<<10))
	w, err := open(r)
	if err != nil {
		t.Fatal(err)
	}
	r.Mark("made")
	// history[i] is what the device held after i writes.
	history := [][]byte{bytes.Clone(base)}
	flushed := map[string]int{"made": 0}
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range 30 {
		off := rng.IntN(len(base))
		p := bytes.Repeat([]byte{byte(0x80 + i)}, min(1+rng.IntN(9000), len(base)-off))
		put(t, w, p, int64(off))
		next := bytes.Clone(history[i])
		copy(next[off:], p)
		history = append(history, next)
		switch {
		case i == 10:
			// The program dies, and starts again: it finds what it did not flush.
			if w, err = open(r.Log().Open(0)); err != nil {
				t.Fatal(err)
			}
		case i == 20:
			mustClose(t, w)
			if w, err = open(r.Log().Open(0)); err != nil {
				t.Fatal(err)
			}
		case i%3 == 2:
			if err := w.Flush(ctx); err != nil {
				t.Fatal(err)
			}
		default:
			continue
		}
		mark := fmt.Sprint("flushed ", i)
		flushed[mark] = i + 1
		r.Mark(mark)
	}
	states, later := 0, 0
	check := func(s *blocktest.State, w block.Writer) block.Writer {
		t.Helper()
		o, err := open(w)
		marks := s.Marks()
		if err != nil {
			// Before there is an overlay, there may be half a header.
			torn := errors.Is(err, errs.ErrUsage) || errors.Is(err, errs.ErrCorrupt) && strings.Contains(err.Error(), "bad header")
			if len(marks) > 0 || !torn {
				t.Fatalf("%v: OpenOverlay = %v, want nil", s, err)
			}
			return nil
		}
		from := 0
		if len(marks) > 0 {
			from = flushed[marks[len(marks)-1]]
		}
		got := contents(t, o)
		n := slices.IndexFunc(history[from:], func(h []byte) bool { return bytes.Equal(h, got) })
		if n < 0 {
			t.Fatalf("%v: the device holds what it never held after flush of write %d", s, from)
		}
		if n > 0 {
			later++
		}
		return o
	}
	again := 0
	for s := range r.Log().States(blocktest.StateOptions{Every: 2}) {
		states++
		rec := s.Recorders()
		o := check(s, rec[0])
		if o == nil || states%60 != 0 {
			continue
		}
		// The power goes again while it is mended and used.
		marked := len(s.Marks())
		put(t, o, []byte("again"), 1000)
		want := contents(t, o)
		if err := o.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		rec[0].Mark("again")
		for s2 := range rec[0].Log().States(blocktest.StateOptions{}) {
			again++
			if !s2.Reached("again") {
				if o, err := open(s2.Devices()[0]); err != nil && marked > 0 {
					t.Fatalf("%v, then %v: OpenOverlay = %v, want nil", s, s2, err)
				} else if err == nil {
					_ = contents(t, o)
				}
				continue
			}
			o, err := open(s2.Devices()[0])
			if err != nil {
				t.Fatalf("%v, then %v: OpenOverlay = %v, want nil", s, s2, err)
			}
			if !bytes.Equal(contents(t, o), want) {
				t.Fatalf("%v, then %v: what was flushed is not there", s, s2)
			}
		}
	}
	// A device that tears even sectors.
	for s := range r.Log().States(blocktest.StateOptions{Sector: 16, Subsets: -1, Samples: -1, Every: 3}) {
		states++
		check(s, s.Devices()[0])
	}
	t.Logf("%d states, %d with more than was flushed; %d states of second cuts", states, later, again)
	if states < 500 || later < 100 || again < 100 {
		t.Errorf("%d states, %d with more than was flushed, %d of second cuts: too few to tell", states, later, again)
	}
}

// TestOverlayFileFaults: a side file that fails gives errors, never wrong bytes.
func TestOverlayFileFaults(t *testing.T) {
	ctx := context.Background()
	base := blocktest.Pattern(64 << 10)
	var flushes []bool
	for n := range 30 {
		f := blocktest.NewFaultWriter(blocktest.NewRecorder(block.NewSparse("side", 1<<20)))
		ws, err := block.OpenOverlay(deviceSide{f}, []block.Reader{block.NewMemory("m", base)}, "side", 20_000)
		if err != nil {
			t.Fatal(err)
		}
		w := ws[0]
		model := bytes.Clone(base)
		f.DieAfter(n)
		failed, flushFailed := false, false
		for i := range 12 {
			p := bytes.Repeat([]byte{byte(i + 1)}, 4096)
			off := int64(i%5) * 8192
			k, err := w.WriteAt(p, off)
			copy(model[off:], p[:k])
			if err == nil && k != len(p) {
				t.Errorf("dead after %d: WriteAt = %d, nil", n, k)
			}
			ferr := w.Flush(ctx)
			if flushFailed && !errors.Is(ferr, errs.ErrIO) {
				t.Errorf("dead after %d: Flush = %v after one failed, want ErrIO", n, ferr)
			}
			flushFailed = flushFailed || ferr != nil
			failed = failed || flushFailed || err != nil
		}
		if !failed {
			t.Fatalf("dead after %d: nothing failed", n)
		}
		flushes = append(flushes, flushFailed)
		f.Clear()
		if got := contents(t, w); !bytes.Equal(got, model) {
			t.Errorf("dead after %d: reads what was not written", n)
		}
		if err := w.Close(); flushFailed != (err != nil && strings.Contains(err.Error(), "flush")) {
			t.Errorf("dead after %d: Close() = %v, want what failed before (a flush: %v)", n, err, flushFailed)
		}
	}
	if !slices.Contains(flushes, true) || !slices.Contains(flushes, false) {
		t.Errorf("flushes failed in %v, want some and not all", flushes)
	}
	// A base that fails where a page is not written as a whole.
	w := mustOverlay(t, blocktest.NewFault(block.NewMemory("m", blocktest.Pattern(400_000)), blocktest.EIO(200_000, 512)), filepath.Join(t.TempDir(), "side"))
	if n, err := w.WriteAt([]byte{1}, 200_001); n != 0 || !errors.Is(err, errs.ErrIO) {
		t.Errorf("WriteAt to part of an unreadable page = %d, %v, want 0, ErrIO", n, err)
	}
	if n, err := w.ReadAt(make([]byte, 400_000), 0); n != 200_000 || !errors.Is(err, errs.ErrIO) {
		t.Errorf("ReadAt over an unreadable sector = %d, %v, want 200000, ErrIO", n, err)
	}
	put(t, w, make([]byte, 8192), 196_608)
	if n, err := w.ReadAt(make([]byte, 400_000), 0); n != 400_000 || err != nil {
		t.Errorf("ReadAt after the page was rewritten = %d, %v, want 400000, nil", n, err)
	}
}

// FuzzOverlayFile changes an overlay file, mends the sum of one header, and reads
// it: no panic, no memory beyond the size of the file.
func FuzzOverlayFile(f *testing.F) {
	base := blocktest.Pattern(64 << 10)
	dir := f.TempDir()
	seed := filepath.Join(dir, "seed")
	w, err := block.OpenOverlayFile(block.NewMemory("m", base), seed)
	if err != nil {
		f.Fatal(err)
	}
	for i := range int64(3) {
		if _, err := w.WriteAt(make([]byte, 6000), i*9000); err != nil {
			f.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	if w, err = block.OpenOverlayFile(block.NewMemory("m", base), seed); err != nil {
		f.Fatal(err)
	}
	if _, err := w.WriteAt([]byte("x"), 50_000); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(seed)
	if err != nil {
		f.Fatal(err)
	}
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	const header, slots, log = 0, 16 << 10, 24 << 10
	for _, at := range []int{header + 32, header + 40, slots + 8, slots + 16, slots + 24, slots + 4096 + 8, slots + 4096 + 16, slots + 4096 + 24,
		slots + 4096 + 32, log + 4, log + 8, log + 16, log + 20, log + 24} {
		n := 40
		if at >= log {
			n = 40 // two pages
		}
		f.Add(uint32(at), uint64(0x8000000000000001), uint32(at&^4095), uint8(n))
		f.Add(uint32(at), uint64(0xffffffff), uint32(at&^4095), uint8(n))
	}
	f.Add(uint32(len(good)-8192+4), uint64(1<<31), uint32(len(good)-8192), uint8(36))
	f.Fuzz(func(t *testing.T, at uint32, value uint64, from uint32, n uint8) {
		b := bytes.Clone(good)
		if int(at) > len(b)-8 {
			return
		}
		for i := range 8 {
			b[int(at)+i] ^= byte(value >> (8 * i))
		}
		block.OverlayHeaderSum(b)
		block.OverlaySum(b, int(from), int(n))
		p := filepath.Join(dir, "x")
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		w, err := block.OpenOverlayFile(block.NewMemory("m", base), p)
		if err != nil {
			return
		}
		defer w.Close()
		if _, err := io.Copy(io.Discard, io.NewSectionReader(w, 0, w.Size())); err != nil && !errors.Is(err, errs.ErrChecksum) && !errors.Is(err, errs.ErrIO) {
			t.Errorf("reading gives %v, want nil, ErrChecksum or ErrIO", err)
		}
	})
}
