package compress

import (
	"encoding/binary"
	"sync"

	"github.com/pierrec/lz4/v4"
)

// What one round of the fast loop may touch: 14 literals and three pieces of 8
// from there; a token, room for 15 literals and the distance.
const (
	lz4FastDst = 14 + 24
	lz4FastSrc = 1 + 15 + 2
)

// decodeLZ4 decodes one raw LZ4 block from the start of src until dst is full,
// and ignores what follows: the blob does not say where the block ends, and
// parsers that read to the end of their input trip over the padding. It reports
// false if the block ends early, refers to before its start, or holds a sequence
// that runs over the end of dst, which no encoder makes.
func decodeLZ4(dst, src []byte) bool {
	d, s := 0, 0
	for {
		var n, off int // of the match
		if len(dst)-d >= lz4FastDst && len(src)-s >= lz4FastSrc && src[s] < 15<<4 {
			// Few literals, as almost always, and both ends far away: copy in
			// fixed pieces, what is too much is overwritten by what follows.
			from, to := (*[lz4FastSrc]byte)(src[s:]), (*[16]byte)(dst[d:])
			*to = *(*[16]byte)(from[1:])
			lit := int(from[0] >> 4)
			n = int(from[0] & 15)
			d += lit
			off = int(from[1+lit]) | int(from[2+lit])<<8
			s += 1 + lit + 2
			if n < 15 && off >= 8 && off <= d {
				// In steps of 8, as the distance may be as short.
				from, to := (*[24]byte)(dst[d-off:]), (*[24]byte)(dst[d:])
				binary.LittleEndian.PutUint64(to[0:8], binary.LittleEndian.Uint64(from[0:8]))
				binary.LittleEndian.PutUint64(to[8:16], binary.LittleEndian.Uint64(from[8:16]))
				binary.LittleEndian.PutUint64(to[16:24], binary.LittleEndian.Uint64(from[16:24]))
				d += n + 4
				continue
			}
		} else {
			if s >= len(src) {
				return false
			}
			lit := int(src[s] >> 4)
			n = int(src[s] & 15)
			s++
			if lit == 15 {
				var ok bool
				if lit, s, ok = lz4Length(lit, src, s, len(dst)-d); !ok {
					return false
				}
			}
			if lit > len(dst)-d || lit > len(src)-s {
				return false
			}
			copy(dst[d:d+lit], src[s:s+lit])
			d, s = d+lit, s+lit
			if d == len(dst) {
				return true
			}
			if len(src)-s < 2 {
				return false
			}
			off = int(binary.LittleEndian.Uint16(src[s:]))
			s += 2
		}
		if n == 15 {
			var ok bool
			if n, s, ok = lz4Length(n, src, s, len(dst)-d); !ok {
				return false
			}
		}
		n += 4
		if off == 0 || off > d || n > len(dst)-d {
			return false
		}
		if off >= 8 && n <= 32 && len(dst)-d >= 32 {
			from, to := (*[32]byte)(dst[d-off:]), (*[32]byte)(dst[d:])
			binary.LittleEndian.PutUint64(to[0:8], binary.LittleEndian.Uint64(from[0:8]))
			binary.LittleEndian.PutUint64(to[8:16], binary.LittleEndian.Uint64(from[8:16]))
			binary.LittleEndian.PutUint64(to[16:24], binary.LittleEndian.Uint64(from[16:24]))
			binary.LittleEndian.PutUint64(to[24:32], binary.LittleEndian.Uint64(from[24:32]))
		} else {
			copyMatch(dst, d, off, n)
		}
		d += n
		if d == len(dst) {
			return true
		}
	}
}

// lz4Length reads the bytes that extend a length of 15. It gives up as soon as
// the length exceeds limit.
func lz4Length(n int, src []byte, s, limit int) (int, int, bool) {
	for s < len(src) {
		b := src[s]
		s++
		n += int(b)
		if b != 255 {
			return n, s, true
		}
		if n > limit {
			break
		}
	}
	return 0, s, false
}

// copyMatch copies n bytes within dst from off before d to d, in the order of
// addresses: what is copied may itself be a result of the copy. Preconditions:
// 0 < off <= d, d+n <= len(dst).
func copyMatch(dst []byte, d, off, n int) {
	from := d - off
	if off >= n {
		copy(dst[d:d+n], dst[from:from+n])
		return
	}
	// The result repeats off bytes; each round doubles what can be copied.
	for end := d + n; d < end; {
		d += copy(dst[d:end], dst[from:d])
	}
}

var (
	lz4Fast = sync.Pool{New: func() any { return new(lz4.Compressor) }}
	lz4HC   = sync.Pool{New: func() any { return new(lz4.CompressorHC) }}
)

// encodeLZ4 uses the fast encoder below level 3 and the thorough one from there
// on, as chapter 05 section 9.3 says.
func encodeLZ4(level int, dst, src []byte) (int, bool) {
	var n int
	var err error
	if level < 3 {
		c := lz4Fast.Get().(*lz4.Compressor)
		n, err = c.CompressBlock(src, dst)
		lz4Fast.Put(c)
	} else {
		c := lz4HC.Get().(*lz4.CompressorHC)
		// The library's levels are search depths, 512 for the first, doubling to
		// the ninth.
		c.Level = 1 << (8 + min(level, 9))
		n, err = c.CompressBlock(src, dst)
		lz4HC.Put(c)
	}
	return n, err == nil && n > 0
}
