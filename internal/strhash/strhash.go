// Package strhash hashes names of directory entries and extended attributes:
// the hash is the slot in the dirents and xattrs btrees where the search for a
// name begins (chapter 04 section 3).
//
// Each inode has a hash type and a random seed of 8 bytes, and all names in it
// are hashed with those. None of the functions allocates, but for attribute
// names that are longer than the format's 255 bytes.
package strhash

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"

	"github.com/dchest/siphash"
)

// Hash types, as the STR_HASH bits of an inode's flags have them. (The
// superblock option str_hash numbers them differently: chapter 04 section 3.)
const (
	CRC32C     = 0
	CRC64      = 1
	SipHashOld = 2 // the seed goes through SHA-256 first
	SipHash    = 3
	nrTypes    = 4
)

// Valid reports whether typ is one of the four types. The functions of this
// package return 0 for others, which inode validation keeps away.
func Valid(typ uint8) bool { return typ < nrTypes }

// Dirent hashes a directory entry's name: the folded name where the directory
// is casefolded. seed is the inode's bi_hash_seed as a little-endian number.
// What it returns is not yet a slot: see DirentSlot.
func Dirent(typ uint8, seed uint64, name []byte) uint64 {
	switch typ {
	case CRC32C:
		return uint64(crc32c(crc32cSeed(seed), name))
	case CRC64:
		return crc64(crc64Seed(seed), name) >> 1
	case SipHashOld, SipHash:
		k0, k1 := sipKey(typ, seed)
		return siphash.Hash(k0, k1, name) >> 1
	}
	return 0
}

// DirentSlot is the first slot where a directory entry may be: offset in the
// dirents btree. mask31 is the inode's flag 31bit_dirent_offset. Slots 0 and 1
// belong to "." and "..", which are not stored.
func DirentSlot(typ uint8, seed uint64, mask31 bool, name []byte) uint64 {
	h := Dirent(typ, seed, name)
	if mask31 {
		h &= 1<<31 - 1
	}
	return max(h, 2)
}

// Xattr is the first slot where an extended attribute may be: offset in the
// xattrs btree. name is without the prefix that xtype stands for, so it is empty
// for ACLs. There is no smallest slot and no mask here.
func Xattr(typ uint8, seed uint64, xtype uint8, name []byte) uint64 {
	switch typ {
	case CRC32C:
		return uint64(crc32c(crc32cByte(crc32cSeed(seed), xtype), name))
	case CRC64:
		return crc64(crc64Byte(crc64Seed(seed), xtype), name) >> 1
	case SipHashOld, SipHash:
		k0, k1 := sipKey(typ, seed)
		return sipXattr(k0, k1, xtype, name) >> 1
	}
	return 0
}

// sipXattr is not SipHash of type byte and name, in spite of what one would
// think. The reference feeds them one after the other and loses track in the
// last block: where the message of n = 1 + len(name) bytes has at least 8 and
// is not a multiple of 8, the bytes behind its last whole block are shifted by
// one, the last one is dropped, and the type byte comes in front of them. (The
// trap of chapter 04 section 3.)
func sipXattr(k0, k1 uint64, xtype uint8, name []byte) uint64 {
	var stack [256]byte // holds every name that the format allows
	msg := append(stack[:0], xtype)
	msg = append(msg, name...)
	if n, r := len(msg), len(msg)%8; n >= 8 && r != 0 {
		copy(msg[n-r+1:], msg[n-r:n-1])
		msg[n-r] = xtype
	}
	return siphash.Hash(k0, k1, msg)
}

// sipKey is the key of the SipHash types.
func sipKey(typ uint8, seed uint64) (k0, k1 uint64) {
	if typ == SipHash {
		return seed, 0
	}
	var s [8]byte
	binary.LittleEndian.PutUint64(s[:], seed)
	d := sha256.Sum256(s[:])
	return binary.LittleEndian.Uint64(d[0:]), binary.LittleEndian.Uint64(d[8:])
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crc32c continues a checksum. The library inverts it at both ends, the format
// does not.
func crc32c(crc uint32, p []byte) uint32 { return ^crc32.Update(^crc, castagnoli, p) }

// crc32cByte continues a checksum with one byte. (A slice of it given to the
// library would be on the heap.)
func crc32cByte(crc uint32, b byte) uint32 { return crc>>8 ^ castagnoli[byte(crc)^b] }

// crc32cSeed is the checksum of a seed: every hash starts with it.
func crc32cSeed(seed uint64) uint32 {
	crc := ^uint32(0)
	for range 8 {
		crc = crc32cByte(crc, byte(seed))
		seed >>= 8
	}
	return crc
}

// crc64 continues the checksum that hash/crc64 does not have: ECMA polynomial,
// most significant bit first, no inversions.
func crc64(crc uint64, p []byte) uint64 {
	for _, b := range p {
		crc = crc64Byte(crc, b)
	}
	return crc
}

func crc64Byte(crc uint64, b byte) uint64 { return crc<<8 ^ crc64Table[byte(crc>>56)^b] }

// crc64Seed is the checksum of a seed.
func crc64Seed(seed uint64) uint64 {
	crc := ^uint64(0)
	for range 8 {
		crc = crc64Byte(crc, byte(seed))
		seed >>= 8
	}
	return crc
}

var crc64Table = func() (t [256]uint64) {
	for i := range t {
		c := uint64(i) << 56
		for range 8 {
			if c>>63 != 0 {
				c = c<<1 ^ 0x42f0e1eba9ea3693
			} else {
				c <<= 1
			}
		}
		t[i] = c
	}
	return t
}()
