package compress

import (
	"bytes"
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
)

// inflater is a pooled decoder with its input.
type inflater struct {
	in   bytes.Reader
	r    io.ReadCloser
	more [1]byte
}

var inflaters = sync.Pool{New: func() any {
	f := new(inflater)
	f.r = flate.NewReader(&f.in)
	return f
}}

// decodeGzip decodes the raw deflate stream at the start of src, which must give
// exactly len(dst) bytes; what follows its final block is padding.
func decodeGzip(dst, src []byte) error {
	f := inflaters.Get().(*inflater)
	defer func() {
		f.in.Reset(nil) // do not hold the caller's buffer in the pool
		inflaters.Put(f)
	}()
	f.in.Reset(src)
	if err := f.r.(flate.Resetter).Reset(&f.in, nil); err != nil {
		return fail("gzip", "%v", err)
	}
	n := 0
	for {
		// One byte more than dst, as the stream must end with it.
		to := f.more[:]
		if n < len(dst) {
			to = dst[n:]
		}
		m, err := f.r.Read(to)
		n += m
		switch {
		case n > len(dst):
			return fail("gzip_size_mismatch", "more than %d bytes", len(dst))
		case err == io.EOF && n == len(dst):
			return nil
		case err == io.EOF:
			return fail("gzip_size_mismatch", "%d bytes, want %d", n, len(dst))
		case err != nil:
			return fail("gzip", "%v after %d of %d bytes", err, n, len(dst))
		case m == 0:
			return fail("gzip", "no progress after %d of %d bytes", n, len(dst))
		}
	}
}

// deflater is a pooled encoder with its output.
type deflater struct {
	out boundedWriter
	w   *flate.Writer
}

// deflaters has a pool for each level 1 to 9.
var deflaters [10]sync.Pool

// encodeGzip writes a raw deflate stream; level 0 is 6, others are cut to 1..9
// (chapter 05 section 9.3).
func encodeGzip(level int, dst, src []byte) (int, bool) {
	if level == 0 {
		level = 6
	}
	level = max(1, min(level, 9))
	f, _ := deflaters[level].Get().(*deflater)
	if f == nil {
		f = new(deflater)
		var err error
		if f.w, err = flate.NewWriter(&f.out, level); err != nil {
			panic(err) // invariant: only for levels that do not exist
		}
	}
	defer func() {
		f.out.buf = nil // do not hold the caller's buffer in the pool
		deflaters[level].Put(f)
	}()
	f.out = boundedWriter{buf: dst}
	f.w.Reset(&f.out)
	if _, err := f.w.Write(src); err != nil {
		return 0, false
	}
	if err := f.w.Close(); err != nil {
		return 0, false
	}
	return f.out.n, true
}

var errFull = errors.New("no room")

// boundedWriter writes into buf and fails when it is full.
type boundedWriter struct {
	buf []byte
	n   int
}

func (b *boundedWriter) Write(p []byte) (int, error) {
	if len(p) > len(b.buf)-b.n {
		return 0, errFull
	}
	b.n += copy(b.buf[b.n:], p)
	return len(p), nil
}
