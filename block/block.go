package block

import (
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/gobcachefs/gobcachefs/errs"
)

// SectorSize is the unit of addresses in the format, in bytes. Devices are
// addressed in bytes here.
const SectorSize = 512

// DefaultSpoolLimit bounds the unpacked data of one compressed image, in bytes
// that are not zero (whole 4 KiB blocks).
const DefaultSpoolLimit = 8 << 30

// Reader is a device opened to read. All methods are safe for concurrent use.
type Reader interface {
	// ReadAt reads len(p) bytes at byte off, or returns an error: it never
	// reads less without one. An off at or past the end gives io.EOF, a range
	// that crosses the end gives the bytes before it and io.ErrUnexpectedEOF,
	// a negative off is errs.ErrUsage, a closed device os.ErrClosed. A device
	// that fails to deliver gives errs.ErrIO with device and sector. An empty
	// p reads nothing and succeeds.
	ReadAt(p []byte, off int64) (n int, err error)
	// Size is the length in bytes. It does not change while the device is open,
	// but by Resize of a Resizer.
	Size() int64
	// Info says what the device is.
	Info() Info
	// Close frees the device. A second Close does nothing.
	Close() error
}

// Writer is a device opened to write.
type Writer interface {
	Reader
	// WriteAt writes all of p at byte off, or returns an error with the number
	// of bytes at the start of p that were written; it does not extend the
	// device (errs.ErrUsage, before anything is written). Written bytes are
	// read back at once, and are on stable storage after the next Flush. p may
	// be reused when it returns.
	WriteAt(p []byte, off int64) (n int, err error)
	// Flush returns when everything that was written before it was called is on
	// stable storage. When it fails, what was written since the last good Flush
	// may be lost, in part and in any order, and no later Flush succeeds: the
	// system may have dropped those bytes, and reports that once only.
	Flush(ctx context.Context) error
	// Discard says that n bytes at off are no longer needed. What they read as
	// afterwards is undefined. It is a hint: where the device has no such thing
	// it does nothing and succeeds.
	Discard(ctx context.Context, off, n int64) error
}

// Resizer is a Writer whose size can change: an image file, or memory.
type Resizer interface {
	Writer
	// Resize makes the device size bytes long. Bytes that it gains read as
	// zero, bytes that it loses are gone. The new size is on stable storage
	// when it returns. Ranges that the old and the new size have in common can
	// be read and written meanwhile.
	Resize(ctx context.Context, size int64) error
}

// Kind says what sort of device it is.
type Kind string

// The kinds of devices.
const (
	KindFile     Kind = "file"
	KindBlockdev Kind = "blockdev"
	KindMemory   Kind = "memory"
	KindHTTP     Kind = "http"
	KindZstd     Kind = "zstd"
	KindQcow2    Kind = "qcow2"
	KindOverlay  Kind = "overlay"
)

// Info describes a device.
type Info struct {
	Name          string // as given to Open; a password inside a URL is replaced by "xxxxx"
	Kind          Kind
	LogicalBlock  int    // smallest addressable unit in bytes, at least 512
	PhysicalBlock int    // smallest unit that the medium writes, in bytes
	Rotational    bool   // a spinning disk, as far as the system knows
	ReadOnly      bool   // the system would refuse to write it
	Locked        bool   // an advisory lock is held until Close: shared by readers, a writer's alone
	ID            string // identity: equal IDs mean the same device given twice; "" unknown
}

// Options changes how Open works. The zero value is what most callers want.
type Options struct {
	// NoLock opens to read without the advisory lock, so also beside a writer:
	// what is read then may be torn. A writer takes its lock always; with NoLock
	// it goes on where the file system has no locks at all.
	NoLock bool
	// Force lets Create replace a file that exists.
	Force bool
	// SpoolLimit bounds the unpacked non-zero bytes of a compressed image;
	// 0 means DefaultSpoolLimit, negative no bound.
	SpoolLimit int64
	// SpoolDir is where compressed images are unpacked to; "" means $TMPDIR,
	// or else /var/tmp where that exists (it is for large files), or else the
	// system's default.
	SpoolDir string
	// HTTPClient makes the requests of http and https names; nil means a
	// client of this package that follows redirects, but never from https to http.
	HTTPClient *http.Client
	// HTTPTimeout bounds one HTTP request; 0 means 30 s.
	HTTPTimeout time.Duration
	// HTTPBackoff is the pause before the first retry of an HTTP request, and
	// doubles with each one; 0 means 200 ms.
	HTTPBackoff time.Duration
}

// Open opens what name says: an http:// or https:// URL, or the path of a block
// device, of a regular file, or of a zstd-compressed image (a regular file or
// URL whose bytes start with the zstd magic). Of a qcow2 image, compressed or
// not, it opens the virtual disk; images that depend on other files are refused.
// It opens to read, always; OpenWriter opens to write.
//
// ctx bounds the opening (which unpacks a compressed image), not the life of
// the Reader. Errors: *fs.PathError for what the system refuses, errs.ErrBusy
// for a device that a writer has locked, errs.ErrUnsupported for what is
// neither file nor device (and servers without range requests), errs.ErrUsage
// for an empty name.
func Open(ctx context.Context, name string, opts Options) (Reader, error) {
	if err := checkName(ctx, name); err != nil {
		return nil, err
	}
	if isURL(name) {
		return openHTTP(ctx, name, opts)
	}
	return openFile(ctx, name, opts)
}

// checkName is what all that open a name check first.
func checkName(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if name == "" {
		return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUsage, Reason: "empty device name"}
	}
	return nil
}

// isURL reports whether Open takes name for a URL.
func isURL(name string) bool { return urlScheme(name) > 0 }

// urlScheme returns the length of the "http://" or "https://" that s starts
// with, 0 if it does not.
func urlScheme(s string) int {
	for _, p := range []string{"http://", "https://"} {
		if len(s) >= len(p) && strings.EqualFold(s[:len(p)], p) {
			return len(p)
		}
	}
	return 0
}

// where pins an error to a device and byte offset.
func where(name string, off int64) errs.Where {
	w := errs.Nowhere
	w.Path = name
	if off >= 0 {
		w.Sector = off / SectorSize
	}
	return w
}

// checkRange is the part of ReadAt that all kinds share. It returns how many of
// the n bytes at off exist, and the error to return with them; done means that
// there is nothing to read.
func checkRange(name string, n int, off, size int64) (avail int, err error, done bool) {
	switch {
	case off < 0:
		return 0, &errs.Error{Where: where(name, -1), Kind: errs.ErrUsage, Reason: "negative device offset"}, true
	case n == 0:
		return 0, nil, true
	case off >= size:
		return 0, io.EOF, true
	case int64(n) > size-off:
		return int(size - off), io.ErrUnexpectedEOF, false
	}
	return n, nil, false
}

// checkWrite is checkRange for changes: a device does not grow.
func checkWrite(name string, n, off, size int64) error {
	if off < 0 || n < 0 || n > size || off > size-n {
		return &errs.Error{Where: where(name, -1), Kind: errs.ErrUsage, Reason: "write outside of the device"}
	}
	return nil
}

// ioError makes the error of a device that failed to deliver.
func ioError(name string, off int64, reason string, cause error) error {
	return &errs.Error{Where: where(name, off), Kind: errs.ErrIO, Reason: reason, Cause: cause}
}

// errClosed is what methods of a closed device return.
func errClosed(name string) error {
	return &errs.Error{Where: where(name, -1), Kind: os.ErrClosed, Reason: "device is closed"}
}
