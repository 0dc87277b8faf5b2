package csum

import "encoding/binary"

// crc64Poly is the ECMA-182 polynomial without its x^64 term, the coefficient
// of x^63 in the highest bit. The library's hash/crc64 keeps its register the
// other way round and cannot be used.
const crc64Poly = 0x42F0E1EBA9EA3693

// crc64Tables: table k maps a byte to what it leaves in the register after k
// more bytes of zeros, so that sixteen bytes can be looked up independently.
// 32 KiB in all.
var crc64Tables = makeCRC64Tables()

func makeCRC64Tables() *[16][256]uint64 {
	t := new([16][256]uint64)
	for i := range t[0] {
		c := uint64(i) << 56
		for range 8 {
			c = mulX64(c)
		}
		t[0][i] = c
	}
	for k := 1; k < len(t); k++ {
		for i := range t[k] {
			c := t[k-1][i]
			t[k][i] = c<<8 ^ t[0][c>>56]
		}
	}
	return t
}

// mulX64 multiplies by x modulo the polynomial.
func mulX64(c uint64) uint64 {
	return c<<1 ^ crc64Poly&-(c>>63)
}

// updateCRC64 runs the bare register over p.
func updateCRC64(c uint64, p []byte) uint64 {
	t := crc64Tables
	for len(p) >= 16 {
		a := c ^ binary.BigEndian.Uint64(p)
		b := binary.BigEndian.Uint64(p[8:])
		// Only a waits for the bytes before; short xor chains, with those of b
		// first, keep that wait short. Measured 1.5 times a single chain.
		b1 := t[7][byte(b>>56)] ^ t[6][byte(b>>48)] ^ t[5][byte(b>>40)] ^ t[4][byte(b>>32)]
		b0 := t[3][byte(b>>24)] ^ t[2][byte(b>>16)] ^ t[1][byte(b>>8)] ^ t[0][byte(b)]
		a1 := t[15][byte(a>>56)] ^ t[14][byte(a>>48)] ^ t[13][byte(a>>40)] ^ t[12][byte(a>>32)]
		a0 := t[11][byte(a>>24)] ^ t[10][byte(a>>16)] ^ t[9][byte(a>>8)] ^ t[8][byte(a)]
		c = (a1 ^ a0) ^ (b1 ^ b0)
		p = p[16:]
	}
	for _, v := range p {
		c = c<<8 ^ t[0][c>>56^uint64(v)]
	}
	return c
}
