package csum

import "math/bits"

// Appending n zero bytes multiplies the register by x^(8n) modulo the
// polynomial. The tables hold x^(8·2^k), so that any n costs one multiplication
// for each bit set in it.
var (
	crc32cPowers = makeCRC32CPowers()
	crc64Powers  = makeCRC64Powers()
)

// crc32cPoly is the polynomial in the order of the register, where the
// coefficient of x^31 is the lowest bit.
const crc32cPoly = 0x82F63B78

func makeCRC32CPowers() *[63]uint32 {
	t := new([63]uint32)
	t[0] = 1 << 23 // x^8
	for k := 1; k < len(t); k++ {
		t[k] = mulCRC32C(t[k-1], t[k-1])
	}
	return t
}

func makeCRC64Powers() *[63]uint64 {
	t := new([63]uint64)
	t[0] = 1 << 8 // x^8
	for k := 1; k < len(t); k++ {
		t[k] = mulCRC64(t[k-1], t[k-1])
	}
	return t
}

// mulCRC32C multiplies two polynomials modulo the CRC-32C one.
func mulCRC32C(a, b uint32) uint32 {
	var r uint32
	for range 32 { // from x^31 of a, the lowest bit, downward
		r = r>>1 ^ crc32cPoly&-(r&1)
		r ^= b & -(a & 1)
		a >>= 1
	}
	return r
}

// mulCRC64 multiplies two polynomials modulo the CRC-64 one.
func mulCRC64(a, b uint64) uint64 {
	var r uint64
	for range 64 { // from x^63 of a, the highest bit, downward
		r = mulX64(r) ^ b&-(a>>63)
		a <<= 1
	}
	return r
}

func shiftCRC32C(c uint32, n int64) uint32 {
	for u := uint64(n); u != 0 && c != 0; u &= u - 1 {
		c = mulCRC32C(c, crc32cPowers[bits.TrailingZeros64(u)])
	}
	return c
}

func shiftCRC64(c uint64, n int64) uint64 {
	for u := uint64(n); u != 0 && c != 0; u &= u - 1 {
		c = mulCRC64(c, crc64Powers[bits.TrailingZeros64(u)])
	}
	return c
}
