package blocktest

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/gobcachefs/gobcachefs/block"
)

// Readers gives the devices as the power cut left them, to read.
func (s *State) Readers() []block.Reader {
	var r []block.Reader
	for i := range s.cut.gen.devs {
		r = append(r, s.view(i))
	}
	return r
}

// Devices gives the devices as the power cut left them, to read and write: each
// call makes new ones, of which writes to one are not seen in another.
func (s *State) Devices() []block.Writer {
	var w []block.Writer
	for i := range s.cut.gen.devs {
		w = append(w, block.NewOverlay(s.view(i)))
	}
	return w
}

// Recorders is Devices as recorders with a log of their own, to cut the power
// again while the volume recovers.
func (s *State) Recorders() []*Recorder { return NewRecorders(s.Readers()...) }

// Patch writes a device into w, which holds the base of the recorder or another
// state of the same log: all pages that any entry of the log changed. It is for
// states that go to other programs, as files.
func (s *State) Patch(dev int, w io.WriterAt) error {
	v := s.view(dev)
	d := v.dev
	g := &s.cut.gen
	g.mu.RLock()
	pages := slices.Sorted(maps.Keys(d.versions))
	g.mu.RUnlock()
	buf := make([]byte, 256*pageSize)
	for len(pages) > 0 {
		n := 1
		for n < len(pages) && pages[n] == pages[0]+int64(n) && (n+1)*pageSize <= len(buf) {
			n++
		}
		off := pages[0] * pageSize
		b := buf[:min(int64(n)*pageSize, d.size-off)]
		if _, err := v.ReadAt(b, off); err != nil {
			return fmt.Errorf("%v: %w", s, err)
		}
		if _, err := w.WriteAt(b, off); err != nil {
			return fmt.Errorf("%v: %w", s, err)
		}
		pages = pages[n:]
	}
	return nil
}

// view is one device of a state. It keeps nothing: pages are put together when
// they are read.
type view struct {
	s      *State
	index  int
	dev    *devPages
	closed atomic.Bool
}

var _ block.Reader = (*view)(nil)

func (s *State) view(dev int) *view { return &view{s: s, index: dev, dev: &s.cut.gen.devs[dev]} }

// ReadAt implements block.Reader.
func (v *view) ReadAt(p []byte, off int64) (int, error) {
	if v.closed.Load() {
		return 0, errClosed(v.dev.base)
	}
	v.s.cut.index()
	mu := v.s.cut.gen.mu
	mu.RLock()
	defer mu.RUnlock()
	return readPages(v.dev, p, off, v.page)
}

// page puts a page together, with the lock of the log held; nil if it is as in
// the base.
func (v *view) page(page int64) ([]byte, error) {
	c, x := v.s.cut, &v.s.choice
	old := v.dev.at(page, c.durable[v.index])
	list := c.touched[v.index][page]
	// From the last write that covers the whole page on.
	from := 0
	for i := len(list) - 1; i >= 0; i-- {
		o := &c.gen.ops[c.pending[list[i]]]
		if !x.has(list[i]) || list[i] == x.torn || o.Off > page*pageSize || o.Off+o.N < page*pageSize+v.dev.length(page) {
			continue
		}
		if o.Off+o.N >= (page+1)*pageSize {
			old = o.chunk(page)
		} else {
			old = make([]byte, pageSize) // the last page of the device, which is short
			copy(old, o.chunk(page))
		}
		from = i + 1
		break
	}
	var b []byte
	for _, i := range list[from:] {
		if !x.has(i) {
			continue
		}
		if b == nil {
			b = make([]byte, pageSize)
			if old != nil {
				copy(b, old)
			} else if _, err := v.dev.base.ReadAt(b[:v.dev.length(page)], page*pageSize); err != nil {
				return nil, err
			}
		}
		o := &c.gen.ops[c.pending[i]]
		start := page * pageSize
		lo, hi := max(o.Off, start), min(o.Off+o.N, start+pageSize)
		if i != x.torn {
			o.apply(b, page, lo, hi)
			continue
		}
		o.apply(b, page, lo, min(hi, x.from))
		o.apply(b, page, max(lo, x.to), hi)
	}
	if b != nil {
		return b, nil
	}
	return old, nil
}

// chunk is the piece of a write or discard that lies in a page.
func (o *Op) chunk(page int64) []byte {
	if o.Kind == OpDiscard {
		start := page * pageSize
		return discardedPage[:min(o.Off+o.N, start+pageSize)-max(o.Off, start)]
	}
	return o.chunks[page-o.Off/pageSize]
}

// apply copies bytes lo to hi of the device, which lie in a page, into it.
func (o *Op) apply(b []byte, page, lo, hi int64) {
	if lo >= hi {
		return
	}
	start := page * pageSize
	piece := o.chunk(page)
	copy(b[lo-start:hi-start], piece[lo-max(o.Off, start):])
}

// Size implements block.Reader.
func (v *view) Size() int64 { return v.dev.size }

// Info implements block.Reader.
func (v *view) Info() block.Info { return infoOf(v.dev.base) }

// Close implements block.Reader. The base stays open.
func (v *view) Close() error {
	v.closed.Store(true)
	return nil
}
