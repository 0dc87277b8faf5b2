package mkfs

import (
	"context"
	"sync/atomic"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// lazy is a device under format. There is nothing on it yet that a power cut
// could hurt, so that it need not be flushed before the volume is complete.
type lazy struct {
	block.Writer
	strict  atomic.Bool
	touched atomic.Bool
	heads   []int64 // where superblocks were put, in bytes
}

// Flush implements block.Writer.
func (l *lazy) Flush(ctx context.Context) error {
	if !l.strict.Load() {
		return ctx.Err()
	}
	return l.Writer.Flush(ctx)
}

// WriteAt implements block.Writer.
func (l *lazy) WriteAt(p []byte, off int64) (int, error) {
	l.touched.Store(true)
	return l.Writer.WriteAt(p, off)
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
