package ondisk

import (
	"encoding/binary"
	"math/bits"
)

// Varint encodings of inodes and of old alloc keys (chapter 04 section 1.3,
// chapter 06 section 2.2).

// AppendVarint adds v in 1 to 9 bytes: the number of trailing ones of the first
// byte is the number of bytes that follow.
func AppendVarint(b []byte, v uint64) []byte {
	n := (bits.Len64(v|1) + 6) / 7
	if n > 8 {
		return binary.LittleEndian.AppendUint64(append(b, 0xff), v)
	}
	var w [8]byte
	binary.LittleEndian.PutUint64(w[:], v<<n|(1<<(n-1)-1))
	return append(b, w[:n]...)
}

// Varint reads a varint at the start of b and gives the bytes it took, 0 when b
// ends inside of it.
func Varint(b []byte) (v uint64, n int) {
	if len(b) == 0 {
		return 0, 0
	}
	n = bits.TrailingZeros8(^b[0]) + 1
	if n > len(b) {
		return 0, 0
	}
	if n == 9 {
		return binary.LittleEndian.Uint64(b[1:]), 9
	}
	for i := n - 1; i >= 0; i-- {
		v = v<<8 | uint64(b[i])
	}
	return v >> n, n
}

// oldVarintLen is the length of the encoding of the first inodes, by the
// position of the highest set bit of the first byte.
var oldVarintLen = [8]int{13, 10, 8, 6, 4, 3, 2, 1}

// oldVarint reads the encoding of the first inodes (type 8 without
// NEW_VARINT): big-endian, up to 100 bits, of which the upper 36 are given as
// hi. n is 0 when b is no such number.
func oldVarint(b []byte) (hi, lo uint64, n int) {
	if len(b) == 0 || b[0] == 0 {
		return 0, 0, 0
	}
	top := bits.Len8(b[0]) - 1
	n = oldVarintLen[top]
	if n > len(b) {
		return 0, 0, 0
	}
	lo = uint64(b[0] &^ (1 << top))
	for _, c := range b[1:n] {
		hi = hi<<8 | lo>>56
		lo = lo<<8 | uint64(c)
	}
	return hi, lo, n
}
