package blocktest

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
)

// WriterSuite checks the contract of block.Writer, that of block.Reader
// included. open gives a fresh device that holds want each time (of at least 64
// KiB); the suite closes it.
func WriterSuite(t *testing.T, open func() block.Writer, want []byte) {
	t.Helper()
	ctx := context.Background()
	size := int64(len(want))
	t.Run("Reader", func(t *testing.T) {
		Suite(t, func() block.Reader { return open() }, want)
	})
	with := func(name string, f func(t *testing.T, w block.Writer)) {
		t.Run(name, func(t *testing.T) {
			w := open()
			f(t, w)
			if err := w.Close(); err != nil {
				t.Errorf("Close() = %v, want nil", err)
			}
		})
	}
	with("Model", func(t *testing.T, w block.Writer) {
		model := bytes.Clone(want)
		rng := rand.New(rand.NewPCG(5, 6))
		for i := range 300 {
			off := rng.Int64N(size + 1)
			p := make([]byte, min(rng.Int64N(1+1<<rng.IntN(17)), size-off))
			if i%4 != 0 { // every fourth one writes zeros
				fillRandom(rng, p)
			}
			checkWrite(t, w, model, p, off)
			if i%16 == 0 {
				if err := w.Flush(ctx); err != nil {
					t.Fatalf("Flush() = %v, want nil", err)
				}
			}
			from := max(0, off-5000)
			checkRead(t, w, model, from, int(min(size-from, int64(len(p))+10_000)))
			if t.Failed() {
				t.Fatalf("after write %d, of %d bytes at %d", i, len(p), off)
			}
		}
		checkRead(t, w, model, 0, len(model))
	})
	with("Ends", func(t *testing.T, w block.Writer) {
		for _, c := range [][2]int64{{-1, 1}, {-1, 0}, {size, 1}, {size - 3, 4}, {0, size + 1}, {1<<63 - 1, 1}, {1<<63 - 512, 512}, {size + 1, 0}} {
			if n, err := w.WriteAt(make([]byte, c[1]), c[0]); n != 0 || !errors.Is(err, errs.ErrUsage) {
				t.Errorf("WriteAt(%d bytes, %d) = %d, %v, want 0, ErrUsage", c[1], c[0], n, err)
			}
			if err := w.Discard(ctx, c[0], c[1]); !errors.Is(err, errs.ErrUsage) {
				t.Errorf("Discard(%d, %d) = %v, want ErrUsage", c[0], c[1], err)
			}
		}
		if err := w.Discard(ctx, 0, -1); !errors.Is(err, errs.ErrUsage) {
			t.Errorf("Discard(0, -1) = %v, want ErrUsage", err)
		}
		for _, off := range []int64{0, 1, size} {
			if n, err := w.WriteAt(nil, off); n != 0 || err != nil {
				t.Errorf("WriteAt(nothing, %d) = %d, %v, want 0, nil", off, n, err)
			}
			if err := w.Discard(ctx, off, 0); err != nil {
				t.Errorf("Discard(%d, 0) = %v, want nil", off, err)
			}
		}
		checkRead(t, w, want, 0, len(want))
		model := bytes.Clone(want)
		checkWrite(t, w, model, []byte{1}, size-1)
		checkWrite(t, w, model, []byte{2, 3}, 0)
		checkRead(t, w, model, 0, len(want))
	})
	with("Discard", func(t *testing.T, w block.Writer) {
		model := bytes.Clone(want)
		for _, c := range [][2]int64{{0, 1}, {511, 2}, {4096, 4096}, {10_000, 20_000}, {size - 100, 100}} {
			if err := w.Discard(ctx, c[0], c[1]); err != nil {
				t.Fatalf("Discard(%d, %d) = %v, want nil", c[0], c[1], err)
			}
			// What is inside can be anything, but can be read, and stays.
			if n, err := w.ReadAt(model[c[0]:c[0]+c[1]], c[0]); int64(n) != c[1] || err != nil {
				t.Fatalf("ReadAt of a discarded range = %d, %v, want %d, nil", n, err, c[1])
			}
			checkRead(t, w, model, 0, len(model))
		}
		checkWrite(t, w, model, bytes.Repeat([]byte{7}, 9000), 9999)
		checkRead(t, w, model, 0, len(model))
	})
	with("Canceled", func(t *testing.T, w block.Writer) {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		if err := w.Flush(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Flush(canceled) = %v, want context.Canceled", err)
		}
		if err := w.Discard(ctx, 0, 4096); !errors.Is(err, context.Canceled) {
			t.Errorf("Discard(canceled) = %v, want context.Canceled", err)
		}
		checkRead(t, w, want, 0, len(want))
	})
	with("Concurrent", func(t *testing.T, w block.Writer) {
		// Neighbors share pages and sectors, but no byte.
		model := bytes.Clone(want)
		const each = 5001
		var wg sync.WaitGroup
		for g := range 8 {
			part := model[g*each : (g+1)*each]
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(8, uint64(g)))
				for i := range 30 {
					at := rng.IntN(each)
					p := make([]byte, rng.IntN(each-at))
					fillRandom(rng, p)
					checkWrite(t, w, part, p, int64(at), int64(g*each))
					got := make([]byte, each)
					if n, err := w.ReadAt(got, int64(g*each)); n != each || err != nil {
						t.Errorf("ReadAt beside writes = %d, %v, want %d, nil", n, err, each)
					} else if !bytes.Equal(got, part) {
						t.Errorf("part %d is not as written after write %d", g, i)
					}
					if i%10 == 0 {
						if err := w.Flush(ctx); err != nil {
							t.Errorf("Flush beside writes = %v, want nil", err)
						}
					}
				}
			})
		}
		wg.Wait()
		checkRead(t, w, model, 0, len(model))
	})
	with("Closed", func(t *testing.T, w block.Writer) {
		if err := w.Close(); err != nil {
			t.Fatalf("Close() = %v, want nil", err)
		}
		if n, err := w.WriteAt(make([]byte, 1), 0); n != 0 || !errors.Is(err, os.ErrClosed) {
			t.Errorf("WriteAt after Close = %d, %v, want 0, os.ErrClosed", n, err)
		}
		if err := w.Flush(ctx); !errors.Is(err, os.ErrClosed) {
			t.Errorf("Flush after Close = %v, want os.ErrClosed", err)
		}
		if err := w.Discard(ctx, 0, 4096); !errors.Is(err, os.ErrClosed) {
			t.Errorf("Discard after Close = %v, want os.ErrClosed", err)
		}
	})
	with("CloseWhileWriting", func(t *testing.T, w block.Writer) {
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				for {
					if n, err := w.WriteAt(make([]byte, 1000), int64(g*1000)); err != nil {
						if !errors.Is(err, os.ErrClosed) {
							t.Errorf("WriteAt beside Close = %d, %v, want os.ErrClosed", n, err)
						}
						return
					}
					if err := w.Flush(ctx); err != nil {
						if !errors.Is(err, os.ErrClosed) {
							t.Errorf("Flush beside Close = %v, want os.ErrClosed", err)
						}
						return
					}
				}
			})
		}
		if err := w.Close(); err != nil {
			t.Errorf("Close() = %v, want nil", err)
		}
		wg.Wait()
	})
}

// checkWrite writes p at off of the model and of the device, whose byte 0 is at
// the sum of base.
func checkWrite(t *testing.T, w block.Writer, model, p []byte, off int64, base ...int64) {
	t.Helper()
	at := off
	for _, b := range base {
		at += b
	}
	copy(model[off:], p)
	q := bytes.Clone(p)
	if n, err := w.WriteAt(q, at); n != len(p) || err != nil {
		t.Errorf("WriteAt(%d bytes, %d) = %d, %v, want %d, nil", len(p), at, n, err, len(p))
	}
	if !bytes.Equal(p, q) {
		t.Errorf("WriteAt(%d bytes, %d) changed its argument", len(p), at)
	}
	clear(q) // the device must not have kept it
}

func fillRandom(rng *rand.Rand, p []byte) {
	for i := range p {
		p[i] = byte(rng.Uint32())
	}
}
