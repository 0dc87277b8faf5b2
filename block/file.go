package block

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	"github.com/gobcachefs/gobcachefs/errs"
)

// fileReader is a regular file or a block device.
type fileReader struct {
	f      *os.File
	info   Info
	size   atomic.Int64
	align  int64 // raw devices of some systems take only multiples of this; 1 elsewhere
	closed atomic.Bool
	near   clusters
}

// geometry is what the system says about a block device; the probe of each
// operating system fills it in.
type geometry struct {
	size              int64
	logical, physical int
	rotational        bool
	readOnly          bool
	align             int64
}

// openFile opens a path. A file that is neither regular nor a disk (a fifo, a
// terminal, a directory) is refused before it is opened, as opening it could
// block or have effects.
func openFile(ctx context.Context, name string, opts Options) (Reader, error) {
	if !rawDeviceName(name) {
		st, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		if !st.Mode().IsRegular() && !isDisk(st) {
			return nil, notADevice(name, st.Mode())
		}
	}
	f, err := os.Open(name)
	if err != nil {
		if isBusy(err) {
			err = busy(name, "device is in use", nil)
		}
		return nil, err
	}
	r, err := newFileReader(f, name)
	if err == nil {
		err = r.lockShared(opts)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	if r.info.Kind != KindFile {
		return r, nil
	}
	packed, err := isZstd(r)
	if err != nil {
		r.Close()
		return nil, err
	}
	if !packed {
		return unwrap(r)
	}
	defer r.Close()
	spool, err := spoolZstd(ctx, r, opts)
	if err != nil {
		return nil, err
	}
	return unwrap(spool)
}

// newFileReader asks f what it is. f stays the caller's on error.
func newFileReader(f *os.File, name string) (*fileReader, error) {
	r := &fileReader{f: f, align: 1}
	r.info = Info{Name: name, Kind: KindFile, LogicalBlock: SectorSize, PhysicalBlock: 4096}
	var st fs.FileInfo
	raw := rawDeviceName(name)
	if !raw {
		var err error
		if st, err = f.Stat(); err != nil {
			return nil, err
		}
	}
	switch {
	case raw || isDisk(st):
		g, err := probe(f)
		if err != nil {
			return nil, ioError(name, -1, "cannot read the size of the device", err)
		}
		r.size.Store(g.size)
		r.align = max(1, g.align)
		r.info.Kind = KindBlockdev
		r.info.LogicalBlock = max(SectorSize, g.logical)
		r.info.PhysicalBlock = max(r.info.LogicalBlock, g.physical)
		r.info.Rotational, r.info.ReadOnly = g.rotational, g.readOnly
		r.info.ID = deviceID(name, st)
	case st.Mode().IsRegular():
		r.size.Store(st.Size())
		r.info.ReadOnly = st.Mode().Perm()&0o222 == 0
		r.info.ID = fileID(f, st)
	default:
		return nil, notADevice(name, st.Mode())
	}
	return r, nil
}

// lockShared takes the lock of a reader, unless the options say not to.
func (r *fileReader) lockShared(opts Options) error {
	if opts.NoLock {
		return nil
	}
	switch err := lockFile(r.f, false); {
	case err == nil:
		r.info.Locked = true
	case errors.Is(err, errs.ErrBusy):
		return busy(r.info.Name, "locked by a program that writes it", r.f)
	default:
		// Not every file system has locks: Info says that none is held.
	}
	return nil
}

// busy is the error for a device that somebody else uses; users says who, as
// far as that is known. f may be nil.
func busy(name, reason string, f *os.File) error {
	return &errs.Error{Where: where(name, -1), Kind: errs.ErrBusy, Reason: reason, Got: users(name, f)}
}

// notADevice is the error for directories, fifos, sockets and terminals.
func notADevice(name string, m fs.FileMode) error {
	what := "a special file"
	switch {
	case m.IsDir():
		what = "a directory"
	case m&fs.ModeNamedPipe != 0:
		what = "a fifo"
	case m&fs.ModeSocket != 0:
		what = "a socket"
	case m&fs.ModeCharDevice != 0:
		what = "a character device"
	}
	return &errs.Error{Where: where(name, -1), Kind: errs.ErrUnsupported, Reason: "not a device or image file",
		Want: "a block device or a regular file", Got: what}
}

// ReadAt implements Reader.
func (r *fileReader) ReadAt(p []byte, off int64) (int, error) {
	if r.closed.Load() {
		return 0, errClosed(r.info.Name)
	}
	size := r.size.Load()
	avail, end, done := checkRange(r.info.Name, len(p), off, size)
	if done {
		return 0, end
	}
	if from, n, ok := r.near.note(off, avail); ok {
		willNeed(r.f, from, n)
	}
	n, err := readAligned(r.f, p[:avail], off, r.align, size)
	if n == avail {
		return n, end
	}
	return n, readError(r.info.Name, off+int64(n), err)
}

// readError names the reason why a file gave less than its size promises.
func readError(name string, off int64, err error) error {
	switch {
	case errors.Is(err, os.ErrClosed):
		return errClosed(name)
	case err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		// The size was measured when it was opened: it shrank since, or lied.
		// The cause is not passed on, for nobody to take this for a good end.
		return ioError(name, off, "device ends before its size", nil)
	}
	return ioError(name, off, "read failed", err)
}

// Size implements Reader.
func (r *fileReader) Size() int64 { return r.size.Load() }

// Info implements Reader.
func (r *fileReader) Info() Info { return r.info }

// Close implements Reader. The lock goes with the descriptor.
func (r *fileReader) Close() error {
	if r.closed.Swap(true) {
		return nil
	}
	return r.f.Close()
}

// bounce holds the buffers of unaligned reads from raw devices.
var bounce = sync.Pool{New: func() any { b := make([]byte, bounceSize); return &b }}

const bounceSize = 64 << 10

// readAligned reads p at off from a device that takes only whole multiples of
// align bytes, through a bounce buffer where p does not fit. The size of such a
// device is a multiple of align; the caller checked that the range lies inside.
func readAligned(f io.ReaderAt, p []byte, off, align, size int64) (int, error) {
	if align <= 1 || (off%align == 0 && int64(len(p))%align == 0) {
		return f.ReadAt(p, off)
	}
	bp := bounce.Get().(*[]byte)
	defer bounce.Put(bp)
	buf := *bp
	if align > int64(len(buf)) {
		buf = make([]byte, align)
	}
	done := 0
	for done < len(p) {
		at := off + int64(done)
		start := at - at%align
		skip := at - start
		want := skip + int64(len(p)-done)
		want = min((want+align-1)/align*align, int64(len(buf))/align*align)
		n, err := f.ReadAt(buf[:want], start)
		got := int64(n) - skip
		if got <= 0 {
			if err == nil {
				err = io.ErrUnexpectedEOF
			}
			return done, err
		}
		c := copy(p[done:], buf[skip:skip+got])
		done += c
		if done < len(p) && int64(n) < want {
			if err == nil {
				err = io.ErrUnexpectedEOF
			}
			return done, err
		}
	}
	return done, nil
}
