package block

import (
	"context"
	"errors"
	"io"
	"sync"
)

// Overlay is a device in memory above a Reader: what is written stays in
// memory and is read back, everything else comes from below, and below nothing
// ever changes. Tests patch sectors with it, and dry runs let the machinery
// write.
//
// Memory grows by one page of 4 KiB for each page touched by a write.
type Overlay struct {
	base   Reader
	mu     sync.RWMutex
	pages  map[int64]*[pageSize]byte
	closed bool
}

var _ Writer = (*Overlay)(nil)

// NewOverlay makes an overlay, which closes base when it is closed.
func NewOverlay(base Reader) *Overlay {
	return &Overlay{base: base, pages: map[int64]*[pageSize]byte{}}
}

// ReadAt implements Reader.
func (o *Overlay) ReadAt(p []byte, off int64) (int, error) {
	avail, end, done := checkRange(o.base.Info().Name, len(p), off, o.base.Size())
	o.mu.RLock()
	defer o.mu.RUnlock()
	if o.closed {
		return 0, errClosed(o.base.Info().Name)
	}
	if done {
		return 0, end
	}
	if len(o.pages) == 0 {
		n, err := o.base.ReadAt(p[:avail], off)
		if n == avail {
			err = end
		}
		return n, err
	}
	// Runs of pages that nobody wrote are one read below.
	var below int64 // first byte of the range not yet filled in
	var err error
	n := int64(avail)
	fill := func(to int64) bool {
		if below >= to {
			return true
		}
		var k int
		k, err = o.base.ReadAt(p[below:to], off+below)
		if int64(k) == to-below {
			err = nil
		}
		if err != nil {
			n = below + int64(k)
		}
		return err == nil
	}
	eachPage(off, int64(avail), func(page, in, at, k int64) {
		if err != nil {
			return
		}
		if pg := o.pages[page]; pg != nil && fill(at) {
			copy(p[at:at+k], pg[in:])
			below = at + k
		}
	})
	if err != nil || !fill(int64(avail)) {
		return int(n), err
	}
	return avail, end
}

// WriteAt implements Writer; it writes to memory only. Pages that p covers in
// part are first read from below, so a device that cannot deliver them fails
// the write, which then has changed nothing after the byte count returned.
func (o *Overlay) WriteAt(p []byte, off int64) (int, error) {
	name, size := o.base.Info().Name, o.base.Size()
	if err := checkWrite(name, int64(len(p)), off, size); err != nil {
		return 0, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return 0, errClosed(name)
	}
	var err error
	var n int64
	eachPage(off, int64(len(p)), func(page, in, at, k int64) {
		if err != nil {
			return
		}
		pg := o.pages[page]
		if pg == nil {
			pg = new([pageSize]byte)
			have := min(pageSize, size-page*pageSize)
			if k < have {
				_, e := o.base.ReadAt(pg[:have], page*pageSize)
				if e != nil && !errors.Is(e, io.EOF) {
					err = e
					return
				}
			}
			o.pages[page] = pg
		}
		copy(pg[in:], p[at:at+k])
		n += k
	})
	return int(n), err
}

// Flush implements Writer; memory has nothing to flush.
func (o *Overlay) Flush(ctx context.Context) error {
	o.mu.RLock()
	defer o.mu.RUnlock()
	if o.closed {
		return errClosed(o.base.Info().Name)
	}
	return ctx.Err()
}

// Discard implements Writer. It changes nothing, as what a discarded range
// reads as is undefined anyhow.
func (o *Overlay) Discard(ctx context.Context, off, n int64) error {
	if err := checkWrite(o.base.Info().Name, n, off, o.base.Size()); err != nil {
		return err
	}
	o.mu.RLock()
	defer o.mu.RUnlock()
	if o.closed {
		return errClosed(o.base.Info().Name)
	}
	return ctx.Err()
}

// Size implements Reader.
func (o *Overlay) Size() int64 { return o.base.Size() }

// Changed is the number of bytes in pages that were written.
func (o *Overlay) Changed() int64 {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return int64(len(o.pages)) * pageSize
}

// Info implements Reader: that of the device below, but for the kind.
func (o *Overlay) Info() Info {
	i := o.base.Info()
	i.Kind, i.ReadOnly = KindOverlay, false
	return i
}

// Close implements Reader: it drops what was written and closes the device
// below.
func (o *Overlay) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil
	}
	o.closed, o.pages = true, nil
	return o.base.Close()
}
