package ondisk

import (
	"encoding/binary"

	"github.com/gobcachefs/gobcachefs/errs"
)

// Sizes and constants of btree nodes (chapter 02 section 3).
const (
	NodeHeaderSize  = 160 // first record, header with bset header, bytes
	EntryHeaderSize = 40  // later records
	NodeCryptStart  = 24  // first encrypted byte of a node header
	NodeCryptEnd    = 136 // end of the encrypted part of a node header
	nodeMagicXor    = 0x90135c78b99e07f5
	jsetMagicXor    = 0x245235c1a3625032
)

// Csum is a stored checksum: 16 bytes, as two little-endian words.
type Csum struct{ Lo, Hi uint64 }

// DecodeCsum reads 16 bytes; b must hold them.
func DecodeCsum(b []byte) Csum {
	return Csum{Lo: binary.LittleEndian.Uint64(b), Hi: binary.LittleEndian.Uint64(b[8:])}
}

// Append adds the 16 bytes of c to b.
func (c Csum) Append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, c.Lo)
	return binary.LittleEndian.AppendUint64(b, c.Hi)
}

// CsumType is how something on disk is checksummed (chapter 05 section 8.1).
type CsumType uint8

// Checksum types. These are not the numbers of the checksum options.
const (
	CsumNone          CsumType = 0
	CsumCRC32CNonzero CsumType = 1
	CsumCRC64Nonzero  CsumType = 2
	CsumPoly1305_80   CsumType = 3
	CsumPoly1305_128  CsumType = 4
	CsumCRC32C        CsumType = 5
	CsumCRC64         CsumType = 6
	CsumXXHash        CsumType = 7
	NrCsumTypes                = 8
)

var csumNames = [NrCsumTypes]string{"none", "crc32c_nonzero", "crc64_nonzero", "chacha20_poly1305_80", "chacha20_poly1305_128", "crc32c", "crc64", "xxhash"}

// String is the name of the type.
func (t CsumType) String() string {
	if t < NrCsumTypes {
		return csumNames[t]
	}
	return "unknown checksum type"
}

// Encrypted: what has this checksum type is encrypted too.
func (t CsumType) Encrypted() bool { return t == CsumPoly1305_80 || t == CsumPoly1305_128 }

// Bset is the header of a sorted run of keys inside a node (24 bytes).
type Bset struct {
	Seq        uint64 // identity of the node, the same in all its records
	JournalSeq uint64 // highest journal sequence of its keys
	Flags      uint32
	Version    Version
	U64s       uint16 // size of the keys
}

// CsumType is bits 0..4 of the flags.
func (s Bset) CsumType() CsumType { return CsumType(s.Flags & 15) }

// BigEndian is bit 4: refused.
func (s Bset) BigEndian() bool { return s.Flags&16 != 0 }

// SeparateWhiteouts is bit 5: not supported by anybody.
func (s Bset) SeparateWhiteouts() bool { return s.Flags&32 != 0 }

// OffsetSectors is where the record says it stands inside its node.
func (s Bset) OffsetSectors() uint32 { return s.Flags >> 16 }

func decodeBset(b []byte) Bset {
	return Bset{
		Seq:        binary.LittleEndian.Uint64(b),
		JournalSeq: binary.LittleEndian.Uint64(b[8:]),
		Flags:      binary.LittleEndian.Uint32(b[16:]),
		Version:    Version(binary.LittleEndian.Uint16(b[20:])),
		U64s:       binary.LittleEndian.Uint16(b[22:]),
	}
}

func (s Bset) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, s.Seq)
	b = binary.LittleEndian.AppendUint64(b, s.JournalSeq)
	b = binary.LittleEndian.AppendUint32(b, s.Flags)
	b = binary.LittleEndian.AppendUint16(b, uint16(s.Version))
	return binary.LittleEndian.AppendUint16(b, s.U64s)
}

// NodeMagic is the magic of the volume's btree nodes; uuid is the internal one.
func NodeMagic(uuid [16]byte) uint64 { return binary.LittleEndian.Uint64(uuid[:]) ^ nodeMagicXor }

// JsetMagic is the magic of the volume's journal entries.
func JsetMagic(uuid [16]byte) uint64 { return binary.LittleEndian.Uint64(uuid[:]) ^ jsetMagicXor }

// NodeHeader is the first record of a btree node without its keys.
type NodeHeader struct {
	Csum   Csum
	Magic  uint64
	Flags  uint64
	MinKey Pos
	MaxKey Pos
	Format BkeyFormat
	Bset   Bset
}

// Btree is the btree id in the flags.
func (h NodeHeader) Btree() int { return int(h.Flags&15 | (h.Flags>>9&0xffff)<<4) }

// Level is the level in the flags.
func (h NodeHeader) Level() int { return int(h.Flags >> 4 & 15) }

// NewExtentOverwrite is bit 8; leaves of extents btrees must have it.
func (h NodeHeader) NewExtentOverwrite() bool { return h.Flags&(1<<8) != 0 }

// NodeSeq is the generation counter of chapter 02 section 9.6.
func (h NodeHeader) NodeSeq() uint32 { return uint32(h.Flags >> 32) }

// NodeFlags makes the flags word of a node header.
func NodeFlags(b BtreeID, level int, nodeSeq uint32) uint64 {
	return uint64(b&15) | uint64(level)<<4 | 1<<8 | uint64(b>>4)<<9 | uint64(nodeSeq)<<32
}

// DecodeNodeHeader reads the 160 bytes at the start of b. On encrypted volumes
// only Csum, Magic and Bset mean something before decryption.
func DecodeNodeHeader(b []byte) (NodeHeader, error) {
	if len(b) < NodeHeaderSize {
		return NodeHeader{}, errs.Corruptf("btree_node_data_missing", "%d bytes", len(b))
	}
	return NodeHeader{
		Csum:   DecodeCsum(b),
		Magic:  binary.LittleEndian.Uint64(b[16:]),
		Flags:  binary.LittleEndian.Uint64(b[24:]),
		MinKey: DecodePos(b[32:]),
		MaxKey: DecodePos(b[52:]),
		Format: DecodeBkeyFormat(b[80:]),
		Bset:   decodeBset(b[136:]),
	}, nil
}

// Append adds the 160 bytes of h to b.
func (h NodeHeader) Append(b []byte) []byte {
	b = h.Csum.Append(b)
	b = binary.LittleEndian.AppendUint64(b, h.Magic)
	b = binary.LittleEndian.AppendUint64(b, h.Flags)
	b = h.MinKey.Append(b)
	b = h.MaxKey.Append(b)
	b = binary.LittleEndian.AppendUint64(b, 0)
	b = h.Format.Append(b)
	return h.Bset.append(b)
}

// EntryHeader is the header of a later record of a node.
type EntryHeader struct {
	Csum Csum
	Bset Bset
}

// DecodeEntryHeader reads the 40 bytes at the start of b.
func DecodeEntryHeader(b []byte) (EntryHeader, error) {
	if len(b) < EntryHeaderSize {
		return EntryHeader{}, errs.Corruptf("btree_node_data_missing", "%d bytes", len(b))
	}
	return EntryHeader{Csum: DecodeCsum(b), Bset: decodeBset(b[16:])}, nil
}

// Append adds the 40 bytes of h to b.
func (h EntryHeader) Append(b []byte) []byte { return h.Bset.append(h.Csum.Append(b)) }

// DecodeBsetKeys walks the keys of one record: b holds exactly the keys (8*U64s
// bytes, decrypted), f is the valid format of the node. It calls yield with
// each key, its byte offset in b, and the offset and length of its value. A key
// that does not parse ends the walk with an error, as its size is unknown.
func DecodeBsetKeys(b []byte, f *BkeyFormat, yield func(k Key, off, valOff, valLen int) bool) error {
	for off := 0; off < len(b); {
		if len(b)-off < 8 {
			return errs.Corruptf("btree_node_bkey_past_bset_end", "%d bytes left", len(b)-off)
		}
		n := int(b[off]) * 8
		packed := b[off+1]&0x7f == keyFormatLocal
		head := KeyBytes
		if packed {
			head = int(f.KeyU64s) * 8
		}
		switch {
		case b[off+1]&0x7f > keyFormatCurrent:
			return errs.Corruptf("btree_node_bkey_bad_format", "format %d at byte %d", b[off+1]&0x7f, off)
		case n < head || n-head > MaxValBytes:
			return errs.Corruptf("btree_node_bkey_bad_u64s", "u64s %d at byte %d", b[off], off)
		case n > len(b)-off:
			return errs.Corruptf("btree_node_bkey_past_bset_end", "u64s %d at byte %d of %d", b[off], off, len(b))
		}
		var k Key
		if packed {
			k = f.unpack(b[off : off+head])
		} else {
			k = decodeUnpacked(b[off:])
		}
		if !yield(k, off, off+head, n-head) {
			return nil
		}
		off += n
	}
	return nil
}
