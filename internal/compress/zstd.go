package compress

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// zstdPrefix is the length of the frame, u32, before the frame.
const zstdPrefix = 4

// maxZstdWindow is the largest window that a frame may announce. Nothing is
// allocated for it: matches refer to dst, which is whole.
const maxZstdWindow = 128 << 20

var zstdDecoders = sync.Pool{New: func() any {
	d, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(maxZstdWindow),
		zstd.WithDecodeAllCapLimit(true),
	)
	if err != nil {
		panic(err) // invariant: only for options out of range
	}
	return d
}}

// decodeZstd decodes the frame after the length at the start of src, which must
// give exactly len(dst) bytes.
func decodeZstd(dst, src []byte) error {
	if len(src) < zstdPrefix {
		return fail("zstd_src_len_bad", "blob of %d bytes", len(src))
	}
	size := binary.LittleEndian.Uint32(src)
	if int64(size) > int64(len(src)-zstdPrefix) {
		return fail("zstd_src_len_bad", "frame of %d bytes in a blob of %d", size, len(src))
	}
	frame := src[zstdPrefix : zstdPrefix+int(size)]
	if len(frame) == 0 {
		return fail("zstd_src_size_wrong", "empty frame")
	}
	d := zstdDecoders.Get().(*zstd.Decoder)
	out, err := d.DecodeAll(frame, dst[:0:len(dst)])
	zstdDecoders.Put(d)
	if err != nil {
		return fail(zstdReason(err), "%v", err)
	}
	if len(out) != len(dst) {
		return fail("zstd_size_mismatch", "%d bytes, want %d", len(out), len(dst))
	}
	if len(out) > 0 && &out[0] != &dst[0] {
		copy(dst, out) // the library moved to a buffer of its own
	}
	return nil
}

// zstdReason translates the library's errors to the format's names.
func zstdReason(err error) string {
	switch {
	case errors.Is(err, zstd.ErrMagicMismatch):
		return "zstd_prefix_unknown"
	case errors.Is(err, zstd.ErrCRCMismatch):
		return "zstd_checksum_wrong"
	case errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return "zstd_dst_size_too_small"
	case errors.Is(err, zstd.ErrWindowSizeExceeded):
		return "zstd_memory_allocation"
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return "zstd_src_size_wrong"
	}
	return "zstd_corruption_detected"
}

// zstdEncoders has a pool for each of the library's levels.
var zstdEncoders [zstd.SpeedBestCompression + 1]sync.Pool

// encodeZstd writes length and frame. The level is that of the reference library,
// times 3/2 (chapter 05 section 9.3), and picks the nearest of the four that the
// library here has, so blobs are larger than the real one's at high levels.
func encodeZstd(level int, dst, src []byte) (int, bool) {
	if len(dst) < zstdPrefix {
		return 0, false
	}
	zl := zstd.EncoderLevelFromZstd(3)
	if level > 0 {
		zl = zstd.EncoderLevelFromZstd(min(level*3/2, 22))
	}
	e, _ := zstdEncoders[zl].Get().(*zstd.Encoder)
	if e == nil {
		var err error
		e, err = zstd.NewWriter(nil,
			zstd.WithEncoderConcurrency(1),
			zstd.WithEncoderLevel(zl),
			zstd.WithSingleSegment(true),
			zstd.WithEncoderCRC(false),
			zstd.WithLowerEncoderMem(true),
			zstd.WithWindowSize(MaxSize),
		)
		if err != nil {
			panic(err) // invariant: only for options out of range
		}
	}
	out := e.EncodeAll(src, dst[zstdPrefix:zstdPrefix:len(dst)])
	zstdEncoders[zl].Put(e)
	if len(out) > len(dst)-zstdPrefix {
		return 0, false
	}
	if &out[0] != &dst[zstdPrefix:][0] {
		copy(dst[zstdPrefix:], out)
	}
	binary.LittleEndian.PutUint32(dst, uint32(len(out)))
	return zstdPrefix + len(out), true
}
