package ondisk

import (
	"hash/crc32"

	"github.com/cespare/xxhash/v2"
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	crc64Table = makeCRC64(0x42F0E1EBA9EA3693)
)

// makeCRC64 makes the table of the MSB-first CRC, which hash/crc64 cannot do.
func makeCRC64(poly uint64) (t [256]uint64) {
	for i := range t {
		c := uint64(i) << 56
		for range 8 {
			if c>>63 != 0 {
				c = c<<1 ^ poly
			} else {
				c <<= 1
			}
		}
		t[i] = c
	}
	return t
}

func crc64(crc uint64, b []byte) uint64 {
	for _, c := range b {
		crc = crc<<8 ^ crc64Table[byte(crc>>56)^c]
	}
	return crc
}

// sbCsum is the checksum of a superblock (chapter 01 section 2.2): no nonce,
// result in the low word. ok is false for types that superblocks cannot have.
func sbCsum(t CsumType, b []byte) (c Csum, ok bool) {
	switch t {
	case CsumNone:
		return Csum{}, true
	case CsumCRC32CNonzero:
		return Csum{Lo: uint64(crc32.Checksum(b, castagnoli))}, true
	case CsumCRC64Nonzero:
		return Csum{Lo: ^crc64(^uint64(0), b)}, true
	case CsumCRC32C:
		// The library inverts before and after: undo both.
		return Csum{Lo: uint64(^crc32.Update(^uint32(0), castagnoli, b))}, true
	case CsumCRC64:
		return Csum{Lo: crc64(0, b)}, true
	case CsumXXHash:
		return Csum{Lo: xxhash.Sum64(b)}, true
	}
	return Csum{}, false
}
