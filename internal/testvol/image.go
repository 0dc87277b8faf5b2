package testvol

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
)

// maxImage bounds what one compressed image may unpack to, in bytes.
const maxImage = 4 << 30

// image is an unpacked device image, sparse in memory. Nobody writes to it
// after unpackImage, so that any number of devices share one.
type image struct {
	name  string
	bytes *block.Sparse
}

// unpackImage unpacks an image file, NAME.img.zst or NAME.sparse.zst. dict may
// be nil: the raw content that it was compressed with.
func unpackImage(file string, packed, dict []byte) (*image, error) {
	m, err := unpackStream(file, packed, dict)
	if err != nil {
		return nil, fmt.Errorf("unpacking %s: %w", file, err)
	}
	return m, nil
}

func unpackStream(file string, packed, dict []byte) (*image, error) {
	var h zstd.Header
	if err := h.Decode(packed); err != nil {
		return nil, err
	}
	if !h.HasFCS || h.FrameContentSize > maxImage {
		return nil, fmt.Errorf("frame says size %d (given: %v), want a size up to %d", h.FrameContentSize, h.HasFCS, int64(maxImage))
	}
	z, err := getDecoder(dict)
	if err != nil {
		return nil, err
	}
	if err := z.Reset(bytes.NewReader(packed)); err != nil {
		return nil, err
	}
	var s *block.Sparse
	if stem, ok := strings.CutSuffix(file, ".sparse.zst"); ok {
		s, err = readSparse(stem+".img", z)
	} else {
		s, err = readPlain(strings.TrimSuffix(file, ".zst"), z, int64(h.FrameContentSize))
	}
	if err != nil {
		return nil, err
	}
	putDecoder(z, dict)
	return &image{name: s.Info().Name, bytes: s}, nil
}

func readPlain(name string, r io.Reader, size int64) (*block.Sparse, error) {
	s := block.NewSparse(name, size)
	// The structs hide WriteTo and ReadFrom, whose pieces do not match pages.
	n, err := io.CopyBuffer(struct{ io.Writer }{io.NewOffsetWriter(s, 0)}, struct{ io.Reader }{r}, make([]byte, 256<<10))
	if err == nil && n != size {
		err = fmt.Errorf("got %d bytes, want %d", n, size)
	}
	return s, err
}

// readSparse reads the sparse format: "sparse SIZE N", N lines "OFFSET LENGTH",
// and the bytes of those ranges; all else is zero.
func readSparse(name string, r io.Reader) (*block.Sparse, error) {
	b := bufio.NewReaderSize(r, 256<<10)
	var size int64
	var runs int
	if _, err := fmt.Fscanf(b, "sparse %d %d\n", &size, &runs); err != nil || size < 0 || size > maxImage || runs < 0 || int64(runs) > size {
		return nil, fmt.Errorf("sparse header: size %d, %d ranges, %w", size, runs, err)
	}
	type run struct{ off, n int64 }
	var all []run
	for range runs {
		var x run
		if _, err := fmt.Fscanf(b, "%d %d\n", &x.off, &x.n); err != nil {
			return nil, fmt.Errorf("sparse range %d: %w", len(all), err)
		}
		all = append(all, x)
	}
	s := block.NewSparse(name, size)
	for _, x := range all {
		if _, err := io.CopyN(io.NewOffsetWriter(s, x.off), b, x.n); err != nil {
			return nil, fmt.Errorf("sparse range at %d: %w", x.off, err)
		}
	}
	if _, err := b.ReadByte(); err != io.EOF {
		return nil, fmt.Errorf("after the sparse ranges: %v, want the end", err)
	}
	return s, nil
}

// decoders keeps idle decoders, whose window (128 MiB for plain images) is dear to clear, until
// the next garbage collection but one: one pool for each dictionary.
var decoders sync.Map // dictionary (string) to *sync.Pool

func getDecoder(dict []byte) (*zstd.Decoder, error) {
	if p, ok := decoders.Load(string(dict)); ok {
		if z, ok := p.(*sync.Pool).Get().(*zstd.Decoder); ok {
			return z, nil
		}
	}
	// Without concurrency a decoder has no goroutine that must be stopped.
	opts := []zstd.DOption{zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(256 << 20)}
	if len(dict) > 0 {
		opts = append(opts, zstd.WithDecoderDictRaw(0, dict))
	}
	return zstd.NewReader(nil, opts...)
}

// putDecoder takes back a decoder that met no error.
func putDecoder(z *zstd.Decoder, dict []byte) {
	p, _ := decoders.LoadOrStore(string(dict), new(sync.Pool))
	p.(*sync.Pool).Put(z)
}

// writeTo writes m into the new file path, without its ranges of zeros.
func (m *image) writeTo(path string) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	if err := f.Truncate(m.bytes.Size()); err != nil {
		return err
	}
	buf, zeros := make([]byte, 64<<10), make([]byte, 64<<10)
	for off := int64(0); off < m.bytes.Size(); off += int64(len(buf)) {
		b := buf[:min(int64(len(buf)), m.bytes.Size()-off)]
		if _, err := m.bytes.ReadAt(b, off); err != nil {
			return err
		}
		if bytes.Equal(b, zeros[:len(b)]) {
			continue
		}
		if _, err := f.WriteAt(b, off); err != nil {
			return err
		}
	}
	return nil
}

// device is one opening of an image, which Close leaves to the other ones. It
// implements block.Reader.
type device struct {
	m      *image
	closed atomic.Bool
}

var _ block.Reader = (*device)(nil)

// ReadAt implements block.Reader.
func (d *device) ReadAt(p []byte, off int64) (int, error) {
	if d.closed.Load() {
		w := errs.Nowhere
		w.Path = d.m.name
		return 0, &errs.Error{Where: w, Kind: os.ErrClosed, Reason: "device is closed"}
	}
	return d.m.bytes.ReadAt(p, off)
}

// Size implements block.Reader.
func (d *device) Size() int64 { return d.m.bytes.Size() }

// Info implements block.Reader.
func (d *device) Info() block.Info {
	i := d.m.bytes.Info()
	i.ReadOnly = true
	return i
}

// Close implements block.Reader.
func (d *device) Close() error {
	d.closed.Store(true)
	return nil
}
