package block

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"sync"
	"sync/atomic"

	"github.com/gobcachefs/gobcachefs/errs"
)

// OpenWriter opens a block device or a regular file to write. Nobody else may
// use it meanwhile: it is locked against readers and writers of this package,
// and a device that is mounted, swapped to, or part of another device is
// refused, as is an image file that is attached to a loop device.
//
// ctx bounds the opening. Errors: *fs.PathError for what the system refuses;
// errs.ErrBusy, with what is known about who uses it; errs.ErrReadOnly for what
// can only be read (URLs, zstd and qcow2 images, write-protected devices);
// errs.ErrUnsupported for what is neither file nor device; errs.ErrUsage for an
// empty name or an overlay file, which is not the device itself.
//
// For a regular file the Writer is also a Resizer.
func OpenWriter(ctx context.Context, name string, opts Options) (Writer, error) {
	if err := checkName(ctx, name); err != nil {
		return nil, err
	}
	if isURL(name) {
		return nil, onlyReadURL(name)
	}
	device := rawDeviceName(name)
	if !device {
		st, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		// What is neither is refused before it is opened, which could block.
		if device = isDisk(st); !device && !st.Mode().IsRegular() {
			return nil, notADevice(name, st.Mode())
		}
	}
	f, err := openToWrite(name, device)
	if err != nil {
		if isBusy(err) {
			err = busy(name, "device is in use", nil)
		}
		return nil, err
	}
	w, err := newFileWriter(f, name, opts)
	if err == nil {
		err = checkWritable(w)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return w.writer(), nil
}

// Create makes an image file of size bytes, all zero, and opens it like
// OpenWriter. With opts.Force a regular file that exists is emptied and used,
// unless somebody else uses it; without, it is fs.ErrExist. The file and its
// name are on stable storage when Create returns. Devices are not created
// (errs.ErrUnsupported).
func Create(ctx context.Context, name string, size int64, opts Options) (_ Writer, err error) {
	if err := checkName(ctx, name); err != nil {
		return nil, err
	}
	switch {
	case size < 0:
		return nil, &errs.Error{Where: where(name, -1), Kind: errs.ErrUsage, Reason: "negative device size"}
	case isURL(name):
		return nil, onlyReadURL(name)
	case rawDeviceName(name):
		return nil, &errs.Error{Where: where(name, -1), Kind: errs.ErrUnsupported, Reason: "a device cannot be created, only opened"}
	}
	st, statErr := os.Stat(name)
	fresh := errors.Is(statErr, fs.ErrNotExist)
	switch {
	case statErr != nil && !fresh:
		return nil, statErr
	case fresh:
	case isDisk(st):
		return nil, &errs.Error{Where: where(name, -1), Kind: errs.ErrUnsupported, Reason: "a device cannot be created, only opened"}
	case !st.Mode().IsRegular():
		return nil, notADevice(name, st.Mode())
	}
	// Not emptied by the open: that would be before the lock.
	flags := os.O_RDWR | os.O_CREATE
	if !opts.Force {
		flags |= os.O_EXCL
	}
	f, err := os.OpenFile(name, flags, 0o666)
	if err != nil {
		if isBusy(err) {
			err = busy(name, "file is in use", nil)
		}
		return nil, err
	}
	defer func() {
		if err == nil {
			return
		}
		f.Close()
		if fresh && !errors.Is(err, errs.ErrBusy) {
			_ = os.Remove(name)
		}
	}()
	w, err := newFileWriter(f, name, opts)
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(0); err != nil {
		return nil, ioError(name, -1, "cannot empty the file", err)
	}
	w.size.Store(0)
	i := imageWriter{w}
	if err := i.Resize(ctx, size); err != nil {
		return nil, err
	}
	if err := syncDir(name); err != nil {
		return nil, ioError(name, -1, "cannot sync the directory", err)
	}
	return i, nil
}

// onlyReadURL is the error for URLs, without the password that may be in one.
func onlyReadURL(name string) error {
	u, err := url.Parse(name)
	if err != nil {
		return onlyRead("", "an image behind HTTP")
	}
	return onlyRead(u.Redacted(), "an image behind HTTP")
}

// onlyRead is the error for kinds that have no writer.
func onlyRead(name, what string) error {
	return &errs.Error{Where: where(name, -1), Kind: errs.ErrReadOnly, Reason: what + " can only be read"}
}

// containers are the files that hold an image, and are not one: by their first
// bytes.
var containers = []struct {
	magic []byte
	what  string
}{
	{zstdMagic, "a zstd-compressed image"},
	{[]byte("QFI\xfb"), "a qcow2 image"},
	{[]byte("KDMV"), "a vmdk image"},
	{[]byte("vhdxfile"), "a vhdx image"},
}

// checkWritable refuses what the system lets us write, but we must not.
func checkWritable(w *fileWriter) error {
	name := w.info.Name
	if w.info.ReadOnly {
		return &errs.Error{Where: where(name, -1), Kind: errs.ErrReadOnly, Reason: "device is write-protected"}
	}
	if w.device {
		return nil
	}
	var head [8]byte
	if _, err := w.ReadAt(head[:], 0); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	for _, c := range containers {
		if bytes.HasPrefix(head[:], c.magic) {
			return onlyRead(name, c.what)
		}
	}
	if bytes.HasPrefix(head[:], overlayMagic) {
		return &errs.Error{Where: where(name, -1), Kind: errs.ErrUsage, Reason: "an overlay file is not a device; it belongs to one"}
	}
	return nil
}

// fileWriter is a fileReader that can write. The fileReader says what device it
// is, and reads.
type fileWriter struct {
	*fileReader
	device bool
	sync   func(f *os.File, device bool) error // flushFile; tests fail it
	// shape is held to write by who needs ranges to stand still beyond its own:
	// unaligned writes to raw devices, and Resize.
	shape     sync.RWMutex
	failed    atomic.Pointer[errs.Error] // the flush that failed
	noDiscard atomic.Bool                // the device knows no discards

	flushing sync.Mutex // held by the one flush that runs; before join
	join     sync.Mutex // next
	next     *flush     // waits to run, and may be joined; nil if none does
}

// flush is one flush of the device, shared by all that asked before it began.
type flush struct {
	done chan struct{}
	err  error // valid when done is closed
}

var (
	_ Writer  = (*fileWriter)(nil)
	_ Resizer = imageWriter{}
)

// newFileWriter asks f what it is, and locks it. f stays the caller's on error.
func newFileWriter(f *os.File, name string, opts Options) (*fileWriter, error) {
	r, err := newFileReader(f, name)
	if err != nil {
		return nil, err
	}
	w := &fileWriter{fileReader: r, device: r.info.Kind == KindBlockdev, sync: flushFile}
	switch err := lockFile(f, true); {
	case err == nil:
		r.info.Locked = true
	case errors.Is(err, errs.ErrBusy):
		return nil, busy(name, "device is in use", f)
	case !opts.NoLock:
		return nil, &errs.Error{Where: where(name, -1), Kind: errs.ErrUnsupported, Reason: "cannot lock the device", Cause: err}
	}
	if w.device {
		return w, nil
	}
	r.info.ReadOnly = false // it is open to write, whatever its mode says
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if by := attached(st); by != "" {
		return nil, &errs.Error{Where: where(name, -1), Kind: errs.ErrBusy, Reason: "device is in use", Got: "attached to " + by}
	}
	return w, nil
}

// writer is w as the interfaces that its kind has.
func (w *fileWriter) writer() Writer {
	if w.device {
		return w
	}
	return imageWriter{w}
}

// usable is what all that change the device check first: a device whose flush
// failed takes nothing more.
func (w *fileWriter) usable() error {
	if w.closed.Load() {
		return errClosed(w.info.Name)
	}
	if err := w.failed.Load(); err != nil {
		return err
	}
	return nil
}

// WriteAt implements Writer.
func (w *fileWriter) WriteAt(p []byte, off int64) (int, error) {
	if err := w.usable(); err != nil {
		return 0, err
	}
	w.shape.RLock()
	size := w.size.Load()
	if err := checkWrite(w.info.Name, int64(len(p)), off, size); err != nil || len(p) == 0 {
		w.shape.RUnlock()
		return 0, err
	}
	var n int
	var err error
	if off%w.align == 0 && int64(len(p))%w.align == 0 {
		n, err = w.f.WriteAt(p, off)
		w.shape.RUnlock()
	} else {
		w.shape.RUnlock()
		w.shape.Lock()
		n, err = writeAligned(w.f, p, off, w.align)
		w.shape.Unlock()
	}
	if err != nil {
		return n, w.changeError(off+int64(n), "write failed", err)
	}
	return n, nil
}

// changeError names the reason why the device was not changed.
func (w *fileWriter) changeError(off int64, reason string, err error) error {
	if errors.Is(err, os.ErrClosed) {
		return errClosed(w.info.Name)
	}
	return ioError(w.info.Name, off, reason, err)
}

// Flush implements Writer.
func (w *fileWriter) Flush(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := w.usable(); err != nil {
		return err
	}
	w.join.Lock()
	if c := w.next; c != nil {
		w.join.Unlock()
		<-c.done
		return c.err
	}
	c := &flush{done: make(chan struct{})}
	w.next = c
	w.join.Unlock()

	w.flushing.Lock()
	w.join.Lock()
	w.next = nil
	w.join.Unlock()
	c.err = w.flushNow()
	w.flushing.Unlock()
	close(c.done)
	return c.err
}

// flushNow flushes, with w.flushing held: the system tells only one of those who
// ask about a failure, so the next one must find it in w.failed.
func (w *fileWriter) flushNow() error {
	if err := w.usable(); err != nil {
		return err
	}
	err := w.sync(w.f, w.device)
	if err == nil {
		return nil
	}
	if errors.Is(err, os.ErrClosed) {
		return errClosed(w.info.Name)
	}
	return w.fail(err)
}

// fail notes that a flush failed.
func (w *fileWriter) fail(err error) error {
	e := &errs.Error{Where: where(w.info.Name, -1), Kind: errs.ErrIO, Reason: "flush failed", Cause: err}
	w.failed.CompareAndSwap(nil, e)
	return e
}

// Discard implements Writer. A block device gets only the whole blocks inside
// the range.
func (w *fileWriter) Discard(ctx context.Context, off, n int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := w.usable(); err != nil {
		return err
	}
	w.shape.RLock()
	defer w.shape.RUnlock()
	if err := checkWrite(w.info.Name, n, off, w.size.Load()); err != nil {
		return err
	}
	if w.device {
		unit := int64(w.info.LogicalBlock)
		end := (off + n) / unit * unit
		off = (off + unit - 1) / unit * unit
		n = end - off
	}
	if n <= 0 || w.noDiscard.Load() {
		return nil
	}
	switch err := discardRange(w.f, w.device, off, n); {
	case err == nil:
	case errors.Is(err, errors.ErrUnsupported):
		w.noDiscard.Store(true)
	default:
		return w.changeError(off, "discard failed", err)
	}
	return nil
}

// imageWriter is a fileWriter for a regular file.
type imageWriter struct{ *fileWriter }

// Resize implements Resizer.
func (w imageWriter) Resize(ctx context.Context, size int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := w.usable(); err != nil {
		return err
	}
	if size < 0 {
		return &errs.Error{Where: where(w.info.Name, -1), Kind: errs.ErrUsage, Reason: "negative device size"}
	}
	w.shape.Lock()
	defer w.shape.Unlock()
	old := w.size.Load()
	// A reader that has seen the old size of a device that shrinks finds less; so
	// the size goes first.
	w.size.Store(min(old, size))
	if err := w.f.Truncate(size); err != nil {
		w.size.Store(old)
		return w.changeError(-1, fmt.Sprintf("cannot change the size to %d", size), err)
	}
	w.size.Store(size)
	w.flushing.Lock()
	defer w.flushing.Unlock()
	if err := w.f.Sync(); err != nil {
		return w.fail(err)
	}
	return nil
}

// writeAligned writes p at off to a device that takes only whole multiples of
// align bytes: what it shares with the first and last of them is read first, and
// nobody else may write there meanwhile.
func writeAligned(f interface {
	io.ReaderAt
	io.WriterAt
}, p []byte, off, align int64) (int, error) {
	buf := make([]byte, max(bounceSize, align)/align*align)
	done := 0
	for done < len(p) {
		at := off + int64(done)
		start := at - at%align
		skip := at - start
		n := min(int64(len(p)-done), int64(len(buf))-skip)
		want := (skip + n + align - 1) / align * align
		if skip > 0 || n < want {
			if _, err := f.ReadAt(buf[:want], start); err != nil {
				return done, err
			}
		}
		copy(buf[skip:], p[done:done+int(n)])
		if _, err := f.WriteAt(buf[:want], start); err != nil {
			return done, err
		}
		done += int(n)
	}
	return done, nil
}
