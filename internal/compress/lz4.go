package compress

import (
	"encoding/binary"
	"sync"

	"github.com/pierrec/lz4/v4"
)

// What one round of the fast loop may touch: 14 literals and three pieces of 8
// from there; a token, a copy of 16 literals, and the distance behind 14.
const (
	lz4FastDst = 14 + 24
	lz4FastSrc = 1 + 16
)

// decodeLZ4 decodes one raw LZ4 block from the start of src until dst is full,
// and ignores what follows: the blob does not say where the block ends, and
// parsers that read to the end of their input trip over the padding. It reports
// false if the block ends early, refers to before its start, or holds a sequence
// that runs over the end of dst, which no encoder makes.
func decodeLZ4(dst, src []byte) bool {
	d, s := 0, 0
	for {
		// Most sequences have less than 15 literals and less than 19 bytes of
		// match, and while both ends are far away they are copied in fixed
		// pieces: what is too much is overwritten by what follows.
		for len(dst)-d >= lz4FastDst && len(src)-s >= lz4FastSrc {
			token := src[s]
			lit, n := int(token>>4), int(token&15)
			if lit == 15 || n == 15 {
				break
			}
			copy16(dst[d:], src[s+1:])
			off := int(binary.LittleEndian.Uint16(src[s+1+lit:]))
			m := d + lit
			if off < 8 || off > m {
				break
			}
			s += 1 + lit + 2
			// In steps of 8, as the distance may be as short.
			copy8(dst[m:], dst[m-off:])
			copy8(dst[m+8:], dst[m+8-off:])
			copy8(dst[m+16:], dst[m+16-off:])
			d = m + n + 4
		}

		// Any sequence, with care.
		if s >= len(src) {
			return false
		}
		token := src[s]
		s++

		// Literals.
		n := int(token >> 4)
		if n == 15 {
			var ok bool
			if n, s, ok = lz4Length(n, src, s, len(dst)-d); !ok {
				return false
			}
		}
		if n > len(dst)-d || n > len(src)-s {
			return false
		}
		if n <= 16 && len(dst)-d >= 16 && len(src)-s >= 16 {
			// Bytes after the nth are overwritten by what follows.
			copy16(dst[d:], src[s:])
		} else {
			copy(dst[d:d+n], src[s:s+n])
		}
		d, s = d+n, s+n
		if d == len(dst) {
			return true
		}

		// Match.
		if len(src)-s < 2 {
			return false
		}
		off := int(binary.LittleEndian.Uint16(src[s:]))
		s += 2
		n = int(token & 15)
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
		if off >= 16 && n <= 32 && len(dst)-d >= 32 {
			copy16(dst[d:], dst[d-off:])
			copy16(dst[d+16:], dst[d+16-off:])
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

// copy16 copies the first 16 bytes of src to dst; both must be that long.
func copy16(dst, src []byte) {
	_, _ = dst[15], src[15]
	a, b := binary.LittleEndian.Uint64(src), binary.LittleEndian.Uint64(src[8:])
	binary.LittleEndian.PutUint64(dst, a)
	binary.LittleEndian.PutUint64(dst[8:], b)
}

// copy8 copies the first 8 bytes of src to dst; both must be that long.
func copy8(dst, src []byte) {
	binary.LittleEndian.PutUint64(dst, binary.LittleEndian.Uint64(src))
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
