package block

import (
	"bytes"
	"context"
	"io"
	"sync"

	"github.com/gobcachefs/gobcachefs/errs"
)

// pageSize is the unit in which Sparse and Overlay keep bytes.
const pageSize = 4096

// Sparse is a device in memory that keeps only pages of 4 KiB which were
// written: an image of gigabytes that is mostly zero costs what is not. It is
// a Writer, to build images.
type Sparse struct {
	name   string
	size   int64
	mu     sync.RWMutex
	pages  map[int64]*[pageSize]byte
	closed bool
}

var _ Resizer = (*Sparse)(nil)

// NewSparse makes a device of size bytes, all zero.
func NewSparse(name string, size int64) *Sparse {
	return &Sparse{name: name, size: max(0, size), pages: map[int64]*[pageSize]byte{}}
}

// ReadSparse makes a device of everything that r gives; pages of zeros take no
// memory.
func ReadSparse(name string, r io.Reader) (*Sparse, error) {
	s := NewSparse(name, 0)
	for {
		pg := new([pageSize]byte)
		n, end, err := readFull(r, pg[:])
		if err != nil {
			return nil, err
		}
		if n > 0 && !allZero(pg[:n]) {
			s.pages[s.size/pageSize] = pg
		}
		s.size += int64(n)
		if end {
			return s, nil
		}
	}
}

// ReadAt implements Reader.
func (s *Sparse) ReadAt(p []byte, off int64) (int, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n, end, done := checkRange(s.name, len(p), off, s.size)
	if s.closed {
		return 0, errClosed(s.name)
	}
	if done {
		return 0, end
	}
	eachPage(off, int64(n), func(page, in, at, k int64) {
		dst := p[at : at+k]
		if pg := s.pages[page]; pg != nil {
			copy(dst, pg[in:])
		} else {
			clear(dst)
		}
	})
	return n, end
}

// WriteAt implements Writer. Zeros take memory only where a page is in use.
func (s *Sparse) WriteAt(p []byte, off int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := checkWrite(s.name, int64(len(p)), off, s.size); err != nil {
		return 0, err
	}
	if s.closed {
		return 0, errClosed(s.name)
	}
	eachPage(off, int64(len(p)), func(page, in, at, k int64) {
		src := p[at : at+k]
		pg := s.pages[page]
		if pg == nil {
			if allZero(src) {
				return
			}
			pg = new([pageSize]byte)
			s.pages[page] = pg
		}
		copy(pg[in:], src)
	})
	return len(p), nil
}

// Flush implements Writer; memory has nothing to flush.
func (s *Sparse) Flush(ctx context.Context) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return errClosed(s.name)
	}
	return ctx.Err()
}

// Discard implements Writer: the range reads as zero afterwards.
func (s *Sparse) Discard(ctx context.Context, off, n int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := checkWrite(s.name, n, off, s.size); err != nil {
		return err
	}
	if s.closed {
		return errClosed(s.name)
	}
	s.zero(off, n)
	return nil
}

// zero makes a range read as zero, with the lock held.
func (s *Sparse) zero(off, n int64) {
	drop := func(page int64) {
		pg, ok := s.pages[page]
		if !ok {
			return
		}
		from := max(0, off-page*pageSize)
		to := min(pageSize, off+n-page*pageSize)
		if to-from == pageSize {
			delete(s.pages, page)
		} else if from < to {
			clear(pg[from:to])
		}
	}
	// The range may be far larger than what is in use.
	if n/pageSize > int64(len(s.pages)) {
		for page := range s.pages {
			drop(page)
		}
		return
	}
	eachPage(off, n, func(page, _, _, _ int64) { drop(page) })
}

// Resize implements Resizer.
func (s *Sparse) Resize(ctx context.Context, size int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if size < 0 {
		return &errs.Error{Where: where(s.name, -1), Kind: errs.ErrUsage, Reason: "negative device size"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed(s.name)
	}
	if size < s.size {
		s.zero(size, s.size-size)
	}
	s.size = size
	return nil
}

// Size implements Reader.
func (s *Sparse) Size() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.size
}

// InUse is the memory that the pages take, in bytes.
func (s *Sparse) InUse() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return int64(len(s.pages)) * pageSize
}

// Info implements Reader.
func (s *Sparse) Info() Info {
	return Info{Name: s.name, Kind: KindMemory, LogicalBlock: SectorSize, PhysicalBlock: pageSize}
}

// Close implements Reader, and frees the memory.
func (s *Sparse) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.pages = true, nil
	return nil
}

// eachPage calls f for each page that n bytes at off touch: its number, the
// byte inside it, the byte inside the range, and how many bytes.
func eachPage(off, n int64, f func(page, in, at, k int64)) {
	for at := int64(0); at < n; {
		in := (off + at) % pageSize
		k := min(pageSize-in, n-at)
		f((off+at)/pageSize, in, at, k)
		at += k
	}
}

// zeros is what allZero compares with.
var zeros [pageSize]byte

// allZero reports whether b holds only zero bytes.
func allZero(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), pageSize)
		if !bytes.Equal(b[:n], zeros[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}
