package block

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/gobcachefs/gobcachefs/errs"
)

// newTestWriter opens a file of 64 KiB with a flush of the test's own.
func newTestWriter(t *testing.T, sync func(*os.File, bool) error) *fileWriter {
	t.Helper()
	p := filepath.Join(t.TempDir(), "x.img")
	if err := os.WriteFile(p, make([]byte, 64<<10), 0o644); err != nil {
		t.Fatal(err)
	}
	w, err := OpenWriter(context.Background(), p, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	fw := w.(imageWriter).fileWriter
	fw.sync = sync
	return fw
}

// TestFlushFailsForGood: the system forgets bytes that it could not write, and
// says so once.
func TestFlushFailsForGood(t *testing.T) {
	ctx := context.Background()
	calls := 0
	w := newTestWriter(t, func(*os.File, bool) error {
		if calls++; calls == 2 {
			return syscall.EIO
		}
		return nil
	})
	if err := w.Flush(ctx); err != nil {
		t.Fatalf("first Flush = %v, want nil", err)
	}
	for i := range 3 {
		if err := w.Flush(ctx); !errors.Is(err, errs.ErrIO) || !errors.Is(err, syscall.EIO) {
			t.Errorf("Flush %d after the first = %v, want ErrIO, EIO", i+1, err)
		}
	}
	if calls != 2 {
		t.Errorf("%d flushes of the file, want 2: a third would succeed without the bytes", calls)
	}
	if n, err := w.WriteAt([]byte{1}, 0); n != 0 || !errors.Is(err, errs.ErrIO) {
		t.Errorf("WriteAt after a failed Flush = %d, %v, want 0, ErrIO", n, err)
	}
	if err := w.Discard(ctx, 0, 4096); !errors.Is(err, errs.ErrIO) {
		t.Errorf("Discard after a failed Flush = %v, want ErrIO", err)
	}
	if err := (imageWriter{w}).Resize(ctx, 1); !errors.Is(err, errs.ErrIO) {
		t.Errorf("Resize after a failed Flush = %v, want ErrIO", err)
	}
	if n, err := w.ReadAt(make([]byte, 10), 0); n != 10 || err != nil {
		t.Errorf("ReadAt after a failed Flush = %d, %v, want 10, nil", n, err)
	}
}

// TestFlushesJoin: those who ask while one runs share the next one.
func TestFlushesJoin(t *testing.T) {
	ctx := context.Background()
	var mu sync.Mutex
	calls := 0
	entered, open := make(chan struct{}), make(chan struct{})
	w := newTestWriter(t, func(*os.File, bool) error {
		mu.Lock()
		calls++
		first := calls == 1
		mu.Unlock()
		if first {
			close(entered)
			<-open
		}
		return nil
	})
	var wg sync.WaitGroup
	ask := func() {
		if err := w.Flush(ctx); err != nil {
			t.Errorf("Flush = %v, want nil", err)
		}
	}
	wg.Go(ask)
	<-entered
	asked := make(chan struct{}, 16)
	for range 16 {
		wg.Go(func() {
			asked <- struct{}{}
			ask()
		})
	}
	for range 16 {
		<-asked
	}
	close(open)
	wg.Wait()
	// Those that got no further than to ask may have come late.
	if calls < 2 || calls > 17 {
		t.Errorf("%d flushes of the file for 17 callers", calls)
	}
	// For sure: one waits, another joins it.
	w.next = &flush{done: make(chan struct{}), err: syscall.EIO}
	close(w.next.done)
	if err := w.Flush(ctx); !errors.Is(err, syscall.EIO) {
		t.Errorf("Flush that joins another = %v, want its error", err)
	}
}

func TestWriteFails(t *testing.T) {
	w := newTestWriter(t, flushFile)
	name := w.info.Name
	ro, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	w.f.Close()
	w.f = ro // takes no writes
	n, err := w.WriteAt(make([]byte, 100), 1024)
	var e *errs.Error
	if n != 0 || !errors.Is(err, errs.ErrIO) || !errors.As(err, &e) || e.Sector != 2 || e.Path != name {
		t.Errorf("WriteAt = %d, %v, want 0, ErrIO at sector 2 of %s", n, err, name)
	}
	// A write that failed was not done, which is no reason to refuse others.
	if err := w.Flush(context.Background()); err != nil {
		t.Errorf("Flush after a failed WriteAt = %v, want nil", err)
	}
}

// pickyWriter takes only whole sectors, as raw devices of some systems do.
type pickyWriter struct{ picky }

func (p pickyWriter) WriteAt(b []byte, off int64) (int, error) {
	if off%p.align != 0 || int64(len(b))%p.align != 0 {
		return 0, errors.New("unaligned")
	}
	return copy(p.b[off:], b), nil
}

func TestWriteAligned(t *testing.T) {
	size := int64(512 << 10)
	for _, align := range []int64{512, 4096, 128 << 10} {
		for _, c := range [][2]int64{{0, size}, {0, 512}, {1, 1}, {511, 2}, {4095, 4097}, {100, 200 << 10}, {size - 3, 3}, {size - 5000, 4999}, {512, 70 << 10}, {7, 0}} {
			b := make([]byte, size)
			for i := range b {
				b[i] = byte(i>>9 + i)
			}
			want := bytes.Clone(b)
			p := bytes.Repeat([]byte{0xaa}, int(c[1]))
			copy(want[c[0]:], p)
			n, err := writeAligned(pickyWriter{picky{b, align}}, p, c[0], align)
			if n != len(p) || err != nil {
				t.Errorf("writeAligned(%d bytes at %d, align %d) = %d, %v, want %d, nil", c[1], c[0], align, n, err, c[1])
			} else if !bytes.Equal(b, want) {
				t.Errorf("writeAligned(%d bytes at %d, align %d) wrote wrong bytes", c[1], c[0], align)
			}
		}
	}
	// What cannot be read cannot be kept.
	if n, err := writeAligned(unreadable{}, make([]byte, 600), 0, 512); n != 0 || err == nil {
		t.Errorf("writeAligned to an unreadable device = %d, %v, want 0 and an error", n, err)
	}
	// A raw device goes through it.
	w := newTestWriter(t, flushFile)
	w.align = 512
	if n, err := w.WriteAt([]byte("unaligned"), 1000); n != 9 || err != nil {
		t.Errorf("WriteAt = %d, %v, want 9, nil", n, err)
	}
	got := make([]byte, 11)
	if _, err := w.ReadAt(got, 999); err != nil || string(got) != "\x00unaligned\x00" {
		t.Errorf("ReadAt = %q, %v, want what was written", got, err)
	}
}

type unreadable struct{ broken }

func (unreadable) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
