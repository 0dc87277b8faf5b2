// Package compress decodes and encodes the compressed blobs of the format
// (chapter 05 section 9).
//
// A blob is a whole number of sectors: the output of one of three well-known
// compressors and zeros to the end of the last block. The uncompressed size is
// known from the crc entry that describes the blob, never from the blob, so a
// decoder fills a buffer of exactly that size or fails.
//
// Blobs come from a disk and may be anything: no blob makes a decoder panic,
// run longer than its own size and that of the output ask for, or hold memory
// beyond a fixed amount. What comes out of a decoder that failed is undefined.
//
// State is pooled; everything may be called from any goroutine.
package compress

import (
	"fmt"

	"github.com/gobcachefs/gobcachefs/errs"
)

// Compression types of crc entries (chapter 05 section 9.1). These are not the
// numbers of the compression options.
const (
	None           = 0 // stored plain
	LZ4Old         = 1 // decodes like LZ4; never written
	Gzip           = 2 // raw deflate
	LZ4            = 3 // one raw block
	Zstd           = 4 // length and one frame
	Incompressible = 5 // stored plain, compression was tried
)

// MaxSize is the largest size, compressed or not, that a crc entry can express,
// in bytes: 8192 sectors (chapter 05 section 2.3).
const MaxSize = 8192 * 512

// Decompress fills dst with the uncompressed bytes of src, a blob with its
// padding, of compression type t: 1 to 4. len(dst) is the uncompressed size of
// the crc entry in bytes; a blob that gives less or more is an error. Errors are
// ErrCorrupt with a reason data_decompress_err_* of chapter 01 appendix A.
func Decompress(t uint8, dst, src []byte) error {
	if len(dst) > MaxSize || len(src) > MaxSize {
		return fail("exceeded_max_encoded_extent", "%d bytes for %d", len(src), len(dst))
	}
	switch t {
	case LZ4Old, LZ4:
		if !decodeLZ4(dst, src) {
			reason := "lz4"
			if t == LZ4Old {
				reason = "lz4_old"
			}
			return fail(reason, "%d bytes that do not give %d", len(src), len(dst))
		}
		return nil
	case Gzip:
		return decodeGzip(dst, src)
	case Zstd:
		return decodeZstd(dst, src)
	}
	return fail("unknown", "compression type %d", t)
}

// Compress tries to compress src with type t (2 gzip, 3 lz4, 4 zstd) into dst.
// It reports the length of the blob, or false if there is none that fits dst and
// is shorter than src; dst is undefined then. The rest of dst is zeroed, so that
// dst up to the next multiple of the block size is what is to be written.
//
// As a blob pays only if it saves a block (chapter 05 section 9.3), dst is best
// given a length of len(src) less the block size. level is the level of the
// option, 0 to 15, 0 the default of the type. The same input gives the same
// output, whatever was compressed before.
func Compress(t uint8, level int, dst, src []byte) (n int, ok bool) {
	if len(src) == 0 || len(src) > MaxSize {
		return 0, false
	}
	if len(dst) >= len(src) {
		clear(dst[len(src)-1:])
		dst = dst[:len(src)-1]
	}
	switch t {
	case Gzip:
		n, ok = encodeGzip(level, dst, src)
	case LZ4:
		n, ok = encodeLZ4(level, dst, src)
	case Zstd:
		n, ok = encodeZstd(level, dst, src)
	}
	if !ok {
		return 0, false
	}
	clear(dst[n:])
	return n, true
}

// fail makes the error data_decompress_err_<reason>.
func fail(reason, format string, a ...any) error {
	return errs.Corruptf("data_decompress_err_"+reason, "%s", fmt.Sprintf(format, a...))
}
