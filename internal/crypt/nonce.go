package crypt

// Nonce is the 16-byte IV of the format as its four little-endian words: the
// first is the number of the first 64-byte block of keystream, the others are
// the nonce that ChaCha20 knows.
type Nonce [4]uint32

// Constants in the last word keep the keystreams of the kinds of things apart.
const (
	domainExtent  = 1 << 28
	domainBtree   = 2 << 28
	domainJournal = 3 << 28
	domainPoly    = 1 << 31
)

// compressionIncompressible is compression type 5: stored plain, and counted as
// no compression (chapter 05 section 9.4).
const compressionIncompressible = 5

// Advance is the nonce of what follows the given number of bytes in the same
// keystream. It counts whole blocks of 64 bytes, rounding up: after the 112
// encrypted bytes of a node header the keys begin two blocks further (chapter
// 05 section 10.5). bytes must not be negative.
func (n Nonce) Advance(bytes int) Nonce {
	n[0] += uint32((uint64(bytes) + blockSize - 1) / blockSize)
	return n
}

// ExtentNonce is the nonce of a data extent (chapter 05 section 10.4).
// versionHi and versionLo are the version of the key that holds the entry,
// compression, uncompressedSize (sectors) and nonce (sectors) the fields of its
// crc entry. To read a part of an uncompressed extent from the byte b on,
// Advance by b, a multiple of 512.
func ExtentNonce(versionHi uint32, versionLo uint64, compression uint8, uncompressedSize, nonce uint32) Nonce {
	ct, size := uint32(compression), uncompressedSize
	if ct == compressionIncompressible || ct == 0 {
		ct, size = 0, 0
	}
	return Nonce{
		size<<22 + nonce*8,
		uint32(versionLo),
		uint32(versionLo >> 32),
		(versionHi | ct<<24) ^ domainExtent,
	}
}

// BtreeNonce is the nonce of a record of a btree node: byteOff is the offset of
// its bset in the node, seq and journalSeq are fields of the bset header
// (chapter 05 section 10.5). For the record at 0 it is that of the 112 bytes
// from byte 24 on; its keys have Advance(112).
func BtreeNonce(byteOff uint32, seq, journalSeq uint64) Nonce {
	return Nonce{byteOff, uint32(seq), uint32(seq >> 32), uint32(journalSeq) ^ domainBtree}
}

// JournalNonce is the nonce of the journal entry seq (chapter 05 section 10.6).
func JournalNonce(seq uint64) Nonce {
	return Nonce{0, uint32(seq), uint32(seq >> 32), domainJournal}
}
