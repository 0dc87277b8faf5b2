// Package csum computes the unkeyed checksums of the format (chapter 05
// section 8): CRC-32C, the MSB-first CRC-64 and XXH64, over whole buffers, in
// pieces, and combined from the checksums of two parts without their bytes.
//
// A checksum on disk is 16 bytes. Everything here fits the low eight, so sums
// are plain uint64 values whose little-endian bytes are the low half of the
// stored field; the high half is zero. Types are the plain numbers of section
// 8.1, so that this package imports nothing of this module. The keyed types 3
// and 4 belong to package crypt.
//
// Nothing here allocates, and everything may be called from any goroutine.
package csum

import (
	"hash/crc32"

	"github.com/cespare/xxhash/v2"
)

// Checksum types (chapter 05 section 8.1). These are not the numbers of the
// checksum options.
const (
	None          = 0 // always zero
	CRC32CNonzero = 1 // 4 bytes, starts at ones and is complemented: the CRC-32C of the books
	CRC64Nonzero  = 2 // 8 bytes, starts at ones and is complemented: CRC-64/WE
	Poly1305_80   = 3 // 10 bytes of a MAC: package crypt
	Poly1305_128  = 4 // 16 bytes of a MAC: package crypt
	CRC32CZero    = 5 // 4 bytes, starts at zero, not complemented
	CRC64Zero     = 6 // 8 bytes, starts at zero, not complemented
	XXHash        = 7 // 8 bytes, XXH64 with seed 0
	NrTypes       = 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Sum is the checksum of type t over p. It reports false for the keyed types 3
// and 4 and for numbers that no version of the format has given out.
func Sum(t uint8, p []byte) (lo uint64, ok bool) {
	switch t {
	case None:
		return 0, true
	case CRC32CNonzero:
		return uint64(crc32.Update(0, castagnoli, p)), true
	case CRC64Nonzero:
		return ^updateCRC64(^uint64(0), p), true
	case CRC32CZero:
		return uint64(CRC32C(p)), true
	case CRC64Zero:
		return updateCRC64(0, p), true
	case XXHash:
		return xxhash.Sum64(p), true
	}
	return 0, false
}

// CRC32C is type 5 over p: the CRC-32C register started at zero and not
// complemented at the end. Zeros of any length give 0.
func CRC32C(p []byte) uint32 { return updateCRC32C(0, p) }

// CRC64 is type 6 over p: the MSB-first register started at zero and not
// complemented at the end. Zeros of any length give 0.
func CRC64(p []byte) uint64 { return updateCRC64(0, p) }

// Update continues the checksum state of what came before with p, for the types
// whose state is their result: 0, 5 and 6. The state of nothing is 0. For every
// other type it returns 0: those cannot be continued, and the caller must not
// try (see Mergeable).
func Update(t uint8, state uint64, p []byte) uint64 {
	switch t {
	case CRC32CZero:
		return uint64(updateCRC32C(uint32(state), p))
	case CRC64Zero:
		return updateCRC64(state, p)
	}
	return 0
}

// Mergeable says that Update and Merge work for type t: 0, 5 and 6.
func Mergeable(t uint8) bool { return t == None || t == CRC32CZero || t == CRC64Zero }

// Merge is the checksum of A followed by B, from the checksum a of A, the
// checksum b of B and the length of B in bytes (chapter 05 section 8.4). The
// work grows with the logarithm of lenB. It reports false for types that cannot
// be combined and for negative lengths.
//
// As combining is a xor, the same call also takes parts off the front: with b
// the checksum of A followed by B, the result is the checksum of B.
func Merge(t uint8, a, b uint64, lenB int64) (uint64, bool) {
	if lenB < 0 {
		return 0, false
	}
	switch t {
	case None:
		return 0, true
	case CRC32CZero:
		return uint64(shiftCRC32C(uint32(a), lenB) ^ uint32(b)), true
	case CRC64Zero:
		return shiftCRC64(a, lenB) ^ b, true
	}
	return 0, false
}

// updateCRC32C runs the bare register over p. The library complements the
// register on entry and on exit; complementing it again leaves it bare.
func updateCRC32C(state uint32, p []byte) uint32 {
	return ^crc32.Update(^state, castagnoli, p)
}
