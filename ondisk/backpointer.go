package ondisk

import (
	"encoding/binary"

	"github.com/gobcachefs/gobcachefs/errs"
)

// Flags of a backpointer (1.33).
const (
	BackpointerReconcilePhys = 3      // bits 0..1: 0 none, 1 high priority, 2 normal
	BackpointerErasureCoded  = 1 << 2 // the pointer has a stripe entry (1.37)
	BackpointerStripePtr     = 1 << 3 // and its device is gone (1.37)
)

// DefaultBackpointerShift is the shift of positions when the superblock names
// none.
const DefaultBackpointerShift = 10

// Backpointer is the value of a backpointer key: the reverse of a data pointer
// (chapter 06 section 7).
type Backpointer struct {
	Btree    BtreeID // where the key with the pointer is,
	Level    uint8   // 0 for leaf keys
	DataType DataType
	// BucketOffset is only stored up to 1.13: (sector in its bucket << 10) + crc
	// offset. BucketGen and Flags are only stored from 1.14 on.
	BucketOffset uint64
	BucketGen    uint8
	Flags        uint32
	BucketLen    uint32 // sectors on the device
	Pos          Pos    // of the key
}

// DecodeBackpointer reads the value of a backpointer key of a volume of version v.
func DecodeBackpointer(val []byte, v Version) (Backpointer, error) {
	if len(val) < KeyBackpointer.MinVal() {
		return Backpointer{}, errs.Corruptf("bkey_val_size_too_small", "backpointer of %d bytes", len(val))
	}
	le := binary.LittleEndian
	b := Backpointer{Btree: BtreeID(val[0]), Level: val[1], DataType: DataType(val[2]), BucketLen: le.Uint32(val[8:]), Pos: DecodePos(val[12:])}
	if v < Version1_14 {
		b.BucketOffset = le.Uint64(val) >> 24
	} else {
		b.BucketGen, b.Flags = val[3], le.Uint32(val[4:])
	}
	return b, nil
}

// Append adds the 32 bytes of the value as a volume of version v has it.
func (p Backpointer) Append(b []byte, v Version) []byte {
	le := binary.LittleEndian
	w := uint64(p.Btree) | uint64(p.Level)<<8 | uint64(p.DataType)<<16
	if v < Version1_14 {
		w |= p.BucketOffset << 24
	} else {
		w |= uint64(p.BucketGen)<<24 | uint64(p.Flags)<<32
	}
	b = le.AppendUint64(b, w)
	b = le.AppendUint32(b, p.BucketLen)
	return p.Pos.Append(b)
}

// BackpointerPos is the position of the backpointer of a pointer to a device
// sector; crcOffset is the offset of the crc entry that governs it.
func BackpointerPos(dev uint8, sector uint64, crcOffset uint32, shift uint) Pos {
	return Pos{Inode: uint64(dev), Offset: sector<<shift + uint64(crcOffset)}
}

// BackpointerSector is the device sector that a position in the backpointers
// btree is about.
func BackpointerSector(p Pos, shift uint) uint64 { return p.Offset >> shift }

// StripeBackpointerPos is the position of the backpointer of one block of a
// stripe (1.22): just below the end of the block.
func StripeBackpointerPos(dev uint8, sector uint64, blockSectors uint16, shift uint) Pos {
	return Pos{Inode: uint64(dev), Offset: (sector+uint64(blockSectors))<<shift - 1}
}
