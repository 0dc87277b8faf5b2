package block

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"

	"github.com/gobcachefs/gobcachefs/errs"
)

// zstdMagic starts a zstd frame.
var zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}

// maxZstdWindow is the largest window that is unpacked, in bytes: that of
// zstd --long=27. A frame asks for it, so it bounds the memory.
const maxZstdWindow = 128 << 20

// spoolBlock is how much is unpacked at a time; zeros are left out in pages.
const spoolBlock = 1 << 20

// isZstd reports whether a device starts with a zstd frame.
func isZstd(r Reader) (bool, error) {
	b := make([]byte, len(zstdMagic))
	if r.Size() < int64(len(b)) {
		return false, nil
	}
	if _, err := r.ReadAt(b, 0); err != nil {
		return false, err
	}
	return bytes.Equal(b, zstdMagic), nil
}

// spool is a compressed image, unpacked.
type spool struct {
	f      *os.File
	info   Info
	size   int64
	closed atomic.Bool
}

var _ Reader = (*spool)(nil)

// spoolZstd unpacks src into a sparse temporary file that has no name. It does
// not close src.
func spoolZstd(ctx context.Context, src Reader, opts Options) (_ Reader, err error) {
	name := src.Info().Name
	f, err := os.CreateTemp(spoolDir(opts), "gobcachefs-*.img")
	if err != nil {
		return nil, fmt.Errorf("unpacking %s: %w", name, err)
	}
	s := &spool{f: f, info: src.Info()}
	s.info.Kind, s.info.ReadOnly, s.info.Locked = KindZstd, true, false
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if err := removeEarly(f); err != nil {
		return nil, fmt.Errorf("unpacking %s: %w", name, err)
	}
	// One goroutine and the low-memory mode: a window and a few blocks, no more.
	in := &sourceReader{ctx: ctx, r: io.NewSectionReader(src, 0, src.Size())}
	dec, err := zstd.NewReader(in,
		zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxZstdWindow))
	if err != nil {
		return nil, in.reason(name, err)
	}
	defer dec.Close()
	limit := opts.SpoolLimit
	if limit == 0 {
		limit = DefaultSpoolLimit
	}
	if s.size, err = copySparse(ctx, f, dec, in, name, limit); err != nil {
		return nil, err
	}
	return s, nil
}

// copySparse writes what r gives to f, leaving out pages of zeros, and returns
// the length. More than limit bytes in other pages are refused (limit < 0: none).
func copySparse(ctx context.Context, f *os.File, r io.Reader, in *sourceReader, name string, limit int64) (int64, error) {
	buf := make([]byte, spoolBlock)
	var size, used int64
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n, end, err := readFull(r, buf)
		if err != nil {
			return 0, in.reason(name, err)
		}
		// Runs of pages that are not zero are one write.
		for from := 0; from < n; {
			to := from
			for to < n && !allZero(buf[to:min(to+pageSize, n)]) {
				to = min(to+pageSize, n)
			}
			if to == from {
				from = min(from+pageSize, n)
				continue
			}
			if used += int64(to - from); limit >= 0 && used > limit {
				return 0, &errs.Error{Where: where(name, -1), Kind: errs.ErrUnsupported, Reason: "compressed image is too large to unpack",
					Want: fmt.Sprintf("at most %d bytes of data (option SpoolLimit)", limit), Got: "more"}
			}
			if _, err := f.WriteAt(buf[from:to], size+int64(from)); err != nil {
				return 0, fmt.Errorf("unpacking %s: %w", name, err)
			}
			from = to
		}
		size += int64(n)
		if end {
			break
		}
	}
	if err := f.Truncate(size); err != nil {
		return 0, fmt.Errorf("unpacking %s: %w", name, err)
	}
	return size, nil
}

// readFull reads until buf is full or r ends. It is not io.ReadFull, whose
// io.ErrUnexpectedEOF for a shorter end is also what r says when it was cut off.
func readFull(r io.Reader, buf []byte) (n int, end bool, err error) {
	for n < len(buf) {
		k, err := r.Read(buf[n:])
		n += k
		if err == io.EOF {
			return n, true, nil
		}
		if err != nil {
			return n, false, err
		}
	}
	return n, false, nil
}

// sourceReader gives the compressed bytes, stops when the context ends, and
// remembers what went wrong below the decoder.
type sourceReader struct {
	ctx context.Context
	r   io.Reader
	err error
}

func (s *sourceReader) Read(p []byte) (int, error) {
	n, err := 0, s.ctx.Err()
	if err == nil {
		n, err = s.r.Read(p)
	}
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// reason tells a damaged image from a source that failed to deliver.
func (s *sourceReader) reason(name string, err error) error {
	switch {
	case s.err != nil:
		return s.err
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return &errs.Error{Where: where(name, -1), Kind: errs.ErrUnsupported, Reason: "zstd window is too large",
			Want: fmt.Sprintf("at most %d bytes (--long=27)", maxZstdWindow), Got: "more", Cause: err}
	}
	return &errs.Error{Where: where(name, -1), Kind: errs.ErrCorrupt, Reason: "compressed image is damaged", Cause: err}
}

// spoolDir is where unpacked images go. The usual temporary directory is often
// in memory, /var/tmp is meant for large files.
func spoolDir(opts Options) string {
	if opts.SpoolDir != "" {
		return opts.SpoolDir
	}
	if os.Getenv("TMPDIR") == "" {
		if st, err := os.Stat("/var/tmp"); err == nil && st.IsDir() {
			return "/var/tmp"
		}
	}
	return os.TempDir()
}

// ReadAt implements Reader.
func (s *spool) ReadAt(p []byte, off int64) (int, error) {
	if s.closed.Load() {
		return 0, errClosed(s.info.Name)
	}
	avail, end, done := checkRange(s.info.Name, len(p), off, s.size)
	if done {
		return 0, end
	}
	n, err := s.f.ReadAt(p[:avail], off)
	if n == avail {
		return n, end
	}
	return n, readError(s.info.Name, off+int64(n), err)
}

// Size implements Reader.
func (s *spool) Size() int64 { return s.size }

// Info implements Reader. The identity is that of the compressed file.
func (s *spool) Info() Info { return s.info }

// Close implements Reader, and gives the disk space back.
func (s *spool) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	return errors.Join(s.f.Close(), removeLate(s.f.Name()))
}
