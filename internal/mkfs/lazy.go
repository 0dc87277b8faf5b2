package mkfs

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// lazy is a device under format. There is nothing on it yet that a power cut
// could hurt, so that it need not be flushed before the volume is complete.
type lazy struct {
	block.Writer
	touched atomic.Bool
	dirty   atomic.Bool // written, superblocks aside, since the last real flush
	heads   []int64     // where superblocks were put, in bytes
	// barrier, once set, is called before a superblock is written: everything else
	// on all devices must be durable before one says that the volume is clean.
	barrier atomic.Pointer[func() error]
}

// Flush implements block.Writer. It does nothing: format flushes when it is
// through, and in its barrier.
func (l *lazy) Flush(ctx context.Context) error { return ctx.Err() }

// WriteAt implements block.Writer.
func (l *lazy) WriteAt(p []byte, off int64) (int, error) {
	l.touched.Store(true)
	if !slices.Contains(l.heads, off) {
		l.dirty.Store(true)
	} else if b := l.barrier.Load(); b != nil {
		if err := (*b)(); err != nil {
			return 0, err
		}
	}
	return l.Writer.WriteAt(p, off)
}

// newBarrier makes the barrier of devices: it flushes them all if anything but
// superblocks was written to any since the last time. One call waits for the
// other, and after a failure all fail.
func newBarrier(ctx context.Context, ls []*lazy) func() error {
	var mu sync.Mutex
	var failed error
	return func() error {
		mu.Lock()
		defer mu.Unlock()
		dirty := false
		for _, l := range ls {
			dirty = l.dirty.Swap(false) || dirty
		}
		if dirty && failed == nil {
			failed = flushAll(ctx, ls)
		}
		return failed
	}
}

// flushAll makes durable what was written to all devices.
func flushAll(ctx context.Context, ls []*lazy) error {
	var g errgroup.Group
	for _, l := range ls {
		g.Go(func() error { return l.Writer.Flush(ctx) })
	}
	return g.Wait()
}

// wipe takes the superblocks off a device whose format failed: what there is
// must not pass for a volume. It does what it can.
func (l *lazy) wipe() {
	if !l.touched.Load() {
		return
	}
	zero := make([]byte, 4096)
	for _, off := range append([]int64{0}, l.heads...) {
		_, _ = l.Writer.WriteAt(zero, off)
	}
	_ = l.Writer.Flush(context.Background())
}

// blank zeroes what is not zero already in a range, so that image files stay
// sparse.
func blank(w block.Writer, off, end int64) error {
	const step = 256 << 10
	buf, zero := make([]byte, step), make([]byte, step)
	for off < end {
		n := min(step, end-off)
		if _, err := w.ReadAt(buf[:n], off); err != nil {
			return err
		}
		if string(buf[:n]) != string(zero[:n]) {
			if _, err := w.WriteAt(zero[:n], off); err != nil {
				return err
			}
		}
		off += n
	}
	return nil
}

// note remembers where the superblocks of a device go.
func note(w block.Writer, l *ondisk.SBLayout) {
	if z, ok := w.(*lazy); ok {
		z.heads = nil
		for _, s := range l.Offsets {
			z.heads = append(z.heads, int64(s)*512)
		}
	}
}
