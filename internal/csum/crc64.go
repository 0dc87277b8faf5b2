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
		c = t[15][a>>56] ^ t[14][a>>48&0xff] ^ t[13][a>>40&0xff] ^ t[12][a>>32&0xff] ^
			t[11][a>>24&0xff] ^ t[10][a>>16&0xff] ^ t[9][a>>8&0xff] ^ t[8][a&0xff] ^
			t[7][b>>56] ^ t[6][b>>48&0xff] ^ t[5][b>>40&0xff] ^ t[4][b>>32&0xff] ^
			t[3][b>>24&0xff] ^ t[2][b>>16&0xff] ^ t[1][b>>8&0xff] ^ t[0][b&0xff]
		p = p[16:]
	}
	for _, v := range p {
		c = c<<8 ^ t[0][c>>56^uint64(v)]
	}
	return c
}
