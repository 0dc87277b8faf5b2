package block

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"

	"github.com/gobcachefs/gobcachefs/errs"
)

// overlayGarbage is how much of an overlay file may be out of date, in bytes,
// before a flush writes an index and gives the space back.
const overlayGarbage = 256 << 20

// OpenOverlayFile opens an overlay above base that is kept in the file path:
// what is written goes there, in pages of 4 KiB with a sum each, everything else
// comes from base, and base is never written. A file that does not exist, or is
// empty, becomes an overlay without changes; one that exists goes on where it
// ended, and must belong to base in its present state (errs.ErrUsage: a volume
// that was changed below its overlay makes no sense with it).
//
// The file is for this program alone (errs.ErrBusy). Power cuts leave what was
// written up to a point at or after the last Flush. A file that lost more is
// errs.ErrCorrupt when it is opened, errs.ErrChecksum when a page is read.
//
// The Writer closes base when it is closed, not when OpenOverlayFile fails. It
// has a method Changed() int64, the bytes of pages that differ.
func OpenOverlayFile(base Reader, path string) (Writer, error) {
	w, err := OpenOverlayFiles([]Reader{base}, path)
	if err != nil {
		return nil, err
	}
	return w[0], nil
}

// OpenOverlayFiles is OpenOverlayFile for all members of a volume, in one file:
// their writes are kept in the order that they were made, and a Flush of one
// flushes all. The file is closed with the last of them.
func OpenOverlayFiles(bases []Reader, path string) ([]Writer, error) {
	f, err := openSide(path)
	if err != nil {
		return nil, err
	}
	w, err := openOverlay(f, bases, path, overlayGarbage)
	if err != nil {
		f.Close()
		return nil, err
	}
	return w, nil
}

// openOverlay opens the overlay in f, which stays the caller's on error.
func openOverlay(f sideFile, bases []Reader, path string, garbage int64) ([]Writer, error) {
	if len(bases) == 0 || len(bases) > overlayDevices {
		return nil, &errs.Error{Where: where(path, -1), Kind: errs.ErrUsage, Reason: "overlay of a wrong number of devices",
			Want: fmt.Sprintf("1 to %d", overlayDevices), Got: fmt.Sprint(len(bases))}
	}
	var prints []overlayBase
	for _, b := range bases {
		p, err := fingerprint(b)
		if err != nil {
			return nil, err
		}
		prints = append(prints, p)
	}
	l, err := openOverlayLog(f, path, prints)
	if err != nil {
		var e *errs.Error
		if !errors.As(err, &e) {
			err = ioError(path, -1, "cannot open the overlay file", err)
		}
		return nil, err
	}
	s := &overlaySet{log: l, open: len(bases), limit: garbage}
	var w []Writer
	for i, b := range bases {
		w = append(w, &overlayFile{set: s, dev: uint32(i), base: b})
	}
	return w, nil
}

// overlaySet is the overlay file that some devices share. Locks: flushing before mu.
type overlaySet struct {
	flushing sync.Mutex // held by a flush, and to close
	mu       sync.RWMutex
	log      *overlayLog
	open     int   // devices not yet closed
	failed   error // why nothing can be written any more
	limit    int64 // of garbage
}

// overlayFile is one device of an overlaySet.
type overlayFile struct {
	set    *overlaySet
	dev    uint32
	base   Reader
	closed bool // under set.mu
}

var _ Writer = (*overlayFile)(nil)

// runBuffers holds buffers for a whole record.
var runBuffers = sync.Pool{New: func() any { b := make([]byte, (1+recordPages)*pageSize); return &b }}

// ReadAt implements Reader.
func (o *overlayFile) ReadAt(p []byte, off int64) (int, error) {
	avail, end, done := checkRange(o.base.Info().Name, len(p), off, o.base.Size())
	o.set.mu.RLock()
	defer o.set.mu.RUnlock()
	if o.closed {
		return 0, errClosed(o.base.Info().Name)
	}
	if done {
		return 0, end
	}
	if n, err := o.read(p[:avail], off); err != nil {
		return n, err
	}
	return avail, end
}

// read reads a range that exists. Runs of pages that are not changed are one
// read below.
func (o *overlayFile) read(p []byte, off int64) (int, error) {
	refs := o.set.log.refs[o.dev]
	below := 0 // first byte of p not yet filled in
	fill := func(to int) (int, error) {
		if below == to {
			return to, nil
		}
		n, err := o.base.ReadAt(p[below:to], off+int64(below))
		if n == to-below {
			return to, nil
		}
		return below + n, err
	}
	if len(refs) > 0 {
		var bp *[]byte
		for at := 0; at < len(p); {
			page, in := (off+int64(at))/pageSize, int((off+int64(at))%pageSize)
			k := min(pageSize-in, len(p)-at)
			ref, ok := refs[page]
			if !ok {
				at += k
				continue
			}
			if n, err := fill(at); err != nil {
				return n, err
			}
			if bp == nil {
				bp = bounce.Get().(*[]byte)
				defer bounce.Put(bp)
			}
			if err := o.set.log.page(o.dev, page, ref, *bp); err != nil {
				return at, err
			}
			copy(p[at:at+k], (*bp)[in:])
			at += k
			below = at
		}
	}
	return fill(len(p))
}

// WriteAt implements Writer: to the overlay file. Pages that p covers in part are
// read first, so one that cannot be read fails the write.
func (o *overlayFile) WriteAt(p []byte, off int64) (int, error) {
	name, size := o.base.Info().Name, o.base.Size()
	if err := checkWrite(name, int64(len(p)), off, size); err != nil {
		return 0, err
	}
	o.set.mu.Lock()
	defer o.set.mu.Unlock()
	if err := o.usable(); err != nil {
		return 0, err
	}
	bp := runBuffers.Get().(*[]byte)
	defer runBuffers.Put(bp)
	done := 0
	for done < len(p) {
		at := off + int64(done)
		first := at / pageSize
		n := min(len(p)-done, int((first+recordPages)*pageSize-at))
		last := (at + int64(n) - 1) / pageSize
		b := (*bp)[:(last-first+2)*pageSize]
		pages := b[pageSize:]
		for _, page := range slices.Compact([]int64{first, last}) {
			from, to := page*pageSize, min((page+1)*pageSize, size)
			if at <= from && at+int64(n) >= to {
				clear(pages[to-first*pageSize : (page-first+1)*pageSize])
				continue
			}
			pg := pages[(page-first)*pageSize:][:pageSize]
			clear(pg)
			if _, err := o.read(pg[:to-from], from); err != nil {
				return done, err
			}
		}
		copy(pages[at-first*pageSize:], p[done:done+n])
		if err := o.set.log.append(o.dev, first, b); err != nil {
			return done, ioError(name, at, "cannot write the overlay file", err)
		}
		done += n
	}
	return done, nil
}

// usable is what all that change something check first.
func (o *overlayFile) usable() error {
	if o.closed {
		return errClosed(o.base.Info().Name)
	}
	return o.set.failed
}

// Flush implements Writer, for all devices of the file.
func (o *overlayFile) Flush(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	o.set.flushing.Lock()
	defer o.set.flushing.Unlock()
	o.set.mu.RLock()
	err, end, slot := o.usable(), o.set.log.end, o.set.log.slot.end
	o.set.mu.RUnlock()
	if err != nil || end == slot {
		return err
	}
	return o.set.flush(end)
}

// flush makes the log durable up to end, with flushing held.
func (s *overlaySet) flush(end int64) error {
	err := s.log.f.Sync()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil:
	case s.log.garbage > s.limit:
		err = s.log.writeIndex()
	default:
		err = s.log.writeSlot(end)
	}
	if err != nil {
		s.failed = ioError(s.log.name, -1, "cannot flush the overlay file", err)
	}
	return s.failed
}

// Discard implements Writer. It changes nothing, as what a discarded range
// reads as is undefined anyhow.
func (o *overlayFile) Discard(ctx context.Context, off, n int64) error {
	if err := checkWrite(o.base.Info().Name, n, off, o.base.Size()); err != nil {
		return err
	}
	o.set.mu.RLock()
	defer o.set.mu.RUnlock()
	if err := o.usable(); err != nil {
		return err
	}
	return ctx.Err()
}

// Size implements Reader.
func (o *overlayFile) Size() int64 { return o.base.Size() }

// Changed is the number of bytes in pages that were written.
func (o *overlayFile) Changed() int64 {
	o.set.mu.RLock()
	defer o.set.mu.RUnlock()
	return int64(len(o.set.log.refs[o.dev])) * pageSize
}

// Info implements Reader: that of the device below, but for the kind.
func (o *overlayFile) Info() Info {
	i := o.base.Info()
	i.Kind, i.ReadOnly = KindOverlay, false
	return i
}

// Close implements Reader: the last one to close writes an index, so that
// everything is durable then, also what was not flushed.
func (o *overlayFile) Close() error {
	s := o.set
	s.flushing.Lock()
	defer s.flushing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.closed {
		return nil
	}
	o.closed = true
	err := o.base.Close()
	if s.open--; s.open > 0 {
		return err
	}
	if s.failed == nil && s.log.unindexed() {
		if e := s.log.writeIndex(); e != nil {
			s.failed = ioError(s.log.name, -1, "cannot flush the overlay file", e)
		}
	}
	return errors.Join(err, s.failed, s.log.f.Close())
}

// osSide is a sideFile of the system.
type osSide struct{ *os.File }

// openSide opens or makes the file of an overlay, for this program alone.
func openSide(path string) (sideFile, error) {
	st, err := os.Stat(path)
	fresh := errors.Is(err, fs.ErrNotExist)
	switch {
	case err != nil && !fresh:
		return nil, err
	case !fresh && !st.Mode().IsRegular():
		return nil, &errs.Error{Where: where(path, -1), Kind: errs.ErrUnsupported, Reason: "an overlay file must be a regular file"}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	switch err := lockFile(f, true); {
	case err == nil:
	case errors.Is(err, errs.ErrBusy):
		err = busy(path, "overlay file is in use", f)
		f.Close()
		return nil, err
	default:
		f.Close()
		return nil, &errs.Error{Where: where(path, -1), Kind: errs.ErrUnsupported, Reason: "cannot lock the overlay file", Cause: err}
	}
	if fresh {
		if err := syncDir(path); err != nil {
			f.Close()
			return nil, err
		}
	}
	return osSide{f}, nil
}

// Length implements sideFile.
func (s osSide) Length() (int64, error) {
	st, err := s.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// Sync implements sideFile.
func (s osSide) Sync() error { return flushFile(s.File, false) }

// Free implements sideFile.
func (s osSide) Free(off, n int64) { _ = discardRange(s.File, false, off, n) }
