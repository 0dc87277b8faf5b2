// Package blocktest has what tests of devices, and of what lives on them, need:
// the suites that every kind of block.Reader and block.Writer passes, devices
// that fail on demand (Fault, FaultWriter), and devices that record what is
// written to them (Recorder), so that a test can look at every state that a
// power cut could have left (Log.States):
//
//	r := blocktest.NewRecorder(base)
//	… make a volume on r, change it, sync …
//	r.Mark("synced")
//	… change it more …
//	for s := range r.Log().States(blocktest.StateOptions{}) {
//		w := s.Devices()[0]
//		… recover the volume on w; if s.Reached("synced"), what was synced
//		must be there; errors name s, which says what the power cut left …
//	}
package blocktest

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
)

// Suite checks the contract of block.Reader. open gives a fresh device that
// holds want each time; the suite closes it.
func Suite(t *testing.T, open func() block.Reader, want []byte) {
	t.Helper()
	size := int64(len(want))
	with := func(name string, f func(t *testing.T, r block.Reader)) {
		t.Run(name, func(t *testing.T) {
			r := open()
			f(t, r)
			if err := r.Close(); err != nil {
				t.Errorf("Close() = %v, want nil", err)
			}
		})
	}
	with("Info", func(t *testing.T, r block.Reader) {
		if got := r.Size(); got != size {
			t.Errorf("Size() = %d, want %d", got, size)
		}
		i := r.Info()
		if i.Name == "" || i.Kind == "" {
			t.Errorf("Info() = %+v, want a name and a kind", i)
		}
		if i.LogicalBlock < block.SectorSize || i.PhysicalBlock < i.LogicalBlock {
			t.Errorf("Info() = %+v, want block sizes of 512 at least, the physical not below the logical", i)
		}
		if j := r.Info(); j != i {
			t.Errorf("Info() = %+v, then %+v, want it to stay", i, j)
		}
	})
	with("Whole", func(t *testing.T, r block.Reader) {
		checkRead(t, r, want, 0, len(want))
	})
	with("SectionReader", func(t *testing.T, r block.Reader) {
		// It reads by three bytes: the end of the device is enough.
		off := max(0, size-20_000)
		if err := iotest.TestReader(io.NewSectionReader(r, off, size-off), want[off:]); err != nil {
			t.Error(err)
		}
	})
	with("Pieces", func(t *testing.T, r block.Reader) {
		rng := rand.New(rand.NewPCG(1, 2))
		for range 300 {
			off := rng.Int64N(size + 1)
			checkRead(t, r, want, off, int(rng.Int64N(min(size, 1<<17)+1)))
			checkRead(t, r, want, off, rng.IntN(9))
		}
	})
	with("Ends", func(t *testing.T, r block.Reader) {
		for _, c := range []struct {
			off int64
			n   int
		}{
			{0, 0}, {0, 1}, {size, 0}, {size, 1}, {size - 1, 1}, {size - 1, 2}, {size - 512, 4096},
			{size + 1, 1}, {size + 1<<40, 100}, {1<<63 - 1, 1}, {1<<63 - 512, 512}, {0, len(want) + 1},
		} {
			if c.off >= 0 {
				checkRead(t, r, want, c.off, c.n)
			}
		}
		if n, err := r.ReadAt(make([]byte, 8), -1); n != 0 || !errors.Is(err, errs.ErrUsage) {
			t.Errorf("ReadAt(8 bytes, -1) = %d, %v, want 0 and ErrUsage", n, err)
		}
	})
	with("Concurrent", func(t *testing.T, r block.Reader) {
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(3, uint64(g)))
				for range 40 {
					checkRead(t, r, want, rng.Int64N(size+1), rng.IntN(1<<16))
				}
			})
		}
		wg.Wait()
	})
	with("Closed", func(t *testing.T, r block.Reader) {
		if err := r.Close(); err != nil {
			t.Fatalf("Close() = %v, want nil", err)
		}
		if n, err := r.ReadAt(make([]byte, 1), 0); n != 0 || !errors.Is(err, os.ErrClosed) {
			t.Errorf("ReadAt after Close = %d, %v, want 0 and os.ErrClosed", n, err)
		}
		if got := r.Size(); got != size {
			t.Errorf("Size() after Close = %d, want %d", got, size)
		}
	})
	with("CloseWhileReading", func(t *testing.T, r block.Reader) {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				buf := make([]byte, min(len(want), 8192))
				for {
					n, err := r.ReadAt(buf, 0)
					if err == nil && !bytes.Equal(buf, want[:len(buf)]) {
						t.Errorf("ReadAt beside Close gave %d wrong bytes", n)
						return
					}
					if err != nil {
						if !errors.Is(err, os.ErrClosed) {
							t.Errorf("ReadAt beside Close = %v, want os.ErrClosed", err)
						}
						return
					}
				}
			})
		}
		if err := r.Close(); err != nil {
			t.Errorf("Close() = %v, want nil", err)
		}
		wg.Wait()
	})
}

// checkRead compares one read with what the contract says about it.
func checkRead(t *testing.T, r block.Reader, want []byte, off int64, n int) {
	t.Helper()
	var part []byte
	var wantErr error
	switch {
	case n == 0:
	case off >= int64(len(want)):
		wantErr = io.EOF
	case int64(n) > int64(len(want))-off:
		part, wantErr = want[off:], io.ErrUnexpectedEOF
	default:
		part = want[off : off+int64(n)]
	}
	const guard = 0xa5
	buf := bytes.Repeat([]byte{guard}, n+1)
	got, err := r.ReadAt(buf[:n], off)
	if got != len(part) || err != wantErr {
		t.Errorf("ReadAt(%d bytes, %d) = %d, %v, want %d, %v", n, off, got, err, len(part), wantErr)
		return
	}
	if !bytes.Equal(buf[:got], part) {
		i := 0
		for buf[i] == part[i] {
			i++
		}
		t.Errorf("ReadAt(%d bytes, %d): byte %d is %#02x, want %#02x", n, off, i, buf[i], part[i])
	}
	if buf[n] != guard {
		t.Errorf("ReadAt(%d bytes, %d) wrote behind its buffer", n, off)
	}
}

// Pattern returns n bytes that differ at each offset (so that misplaced bytes
// are seen) and hold runs of zeros (so that sparse kinds have holes).
func Pattern(n int) []byte {
	rng := rand.New(rand.NewPCG(uint64(n), 7))
	b := make([]byte, n)
	for i := 0; i < n; {
		run := min(1+rng.IntN(40000), n-i)
		if rng.IntN(3) > 0 {
			for j := range b[i : i+run] {
				b[i+j] = byte(rng.Uint32())
			}
		}
		i += run
	}
	return b
}
