package ondisk

import (
	"encoding/binary"

	"github.com/gobcachefs/gobcachefs/errs"
)

// Kinds of keys in the logged_ops btree: the inode field of the position.
const (
	LoggedOpOps          = 0 // operations to resume
	LoggedOpInodeCursors = 1 // cursors of the inode allocator (1.18)
)

// LoggedOpTruncate is a truncation under way (chapter 04 section 9).
type LoggedOpTruncate struct {
	Subvol  uint32
	Inum    uint64
	NewSize uint64 // bytes
}

// DecodeLoggedOpTruncate reads the value of a logged_op_truncate key.
func DecodeLoggedOpTruncate(val []byte) (LoggedOpTruncate, error) {
	if len(val) < 24 {
		return LoggedOpTruncate{}, errs.Corruptf("bkey_val_size_too_small", "logged_op_truncate of %d bytes", len(val))
	}
	le := binary.LittleEndian
	return LoggedOpTruncate{Subvol: le.Uint32(val), Inum: le.Uint64(val[8:]), NewSize: le.Uint64(val[16:])}, nil
}

// Append adds the 24 bytes of the value to b.
func (o LoggedOpTruncate) Append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(o.Subvol))
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b, o.Inum), o.NewSize)
}

// States of a LoggedOpFinsert.
const (
	FinsertStart = 0
	FinsertShift = 1
	FinsertDone  = 2
)

// LoggedOpFinsert is an insertion or collapse of a range under way (chapter 04
// section 9). Offsets are in sectors.
type LoggedOpFinsert struct {
	State     uint8
	Subvol    uint32
	Inum      uint64
	DstOffset uint64 // DstOffset - SrcOffset is the shift; it wraps below zero
	SrcOffset uint64
	Pos       uint64
}

// DecodeLoggedOpFinsert reads the value of a logged_op_finsert key.
func DecodeLoggedOpFinsert(val []byte) (LoggedOpFinsert, error) {
	if len(val) < KeyLoggedOpFinsert.MinVal() {
		return LoggedOpFinsert{}, errs.Corruptf("bkey_val_size_too_small", "logged_op_finsert of %d bytes", len(val))
	}
	le, v := binary.LittleEndian, tail(val, 40)
	return LoggedOpFinsert{State: v[0], Subvol: le.Uint32(v[4:]), Inum: le.Uint64(v[8:]),
		DstOffset: le.Uint64(v[16:]), SrcOffset: le.Uint64(v[24:]), Pos: le.Uint64(v[32:])}, nil
}

// Append adds the 40 bytes of the value to b.
func (o LoggedOpFinsert) Append(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(append(b, o.State, 0, 0, 0), o.Subvol)
	for _, w := range [...]uint64{o.Inum, o.DstOffset, o.SrcOffset, o.Pos} {
		b = le.AppendUint64(b, w)
	}
	return b
}

// LoggedOpStripe is the change of extents to a new stripe under way (1.37,
// chapter 05 section 15.5).
type LoggedOpStripe struct {
	OldIdx, NewIdx uint64 // keys of the stripes btree
	OldBlocksNr    uint8
	OldBlockMap    [16]uint8
}

// DecodeLoggedOpStripe reads the value of a logged_op_stripe_update key.
func DecodeLoggedOpStripe(val []byte) (LoggedOpStripe, error) {
	if len(val) < KeyLoggedOpStripe.MinVal() {
		return LoggedOpStripe{}, errs.Corruptf("bkey_val_size_too_small", "logged_op_stripe_update of %d bytes", len(val))
	}
	return LoggedOpStripe{OldIdx: binary.LittleEndian.Uint64(val), NewIdx: binary.LittleEndian.Uint64(val[8:]),
		OldBlocksNr: val[16], OldBlockMap: [16]uint8(val[17:33])}, nil
}

// Append adds the 40 bytes of the value to b.
func (o LoggedOpStripe) Append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b, o.OldIdx), o.NewIdx)
	b = append(b, o.OldBlocksNr)
	b = append(b, o.OldBlockMap[:]...)
	return append(b, 0, 0, 0, 0, 0, 0, 0)
}

// InodeAllocCursor is where the inode allocator goes on (1.18, chapter 04
// section 1.9).
type InodeAllocCursor struct {
	Bits uint8 // shard_inode_numbers_bits
	Gen  uint32
	Idx  uint64 // next inode number to try
}

// DecodeInodeAllocCursor reads the value of an inode_alloc_cursor key.
func DecodeInodeAllocCursor(val []byte) (InodeAllocCursor, error) {
	if len(val) < 16 {
		return InodeAllocCursor{}, errs.Corruptf("bkey_val_size_too_small", "inode_alloc_cursor of %d bytes", len(val))
	}
	return InodeAllocCursor{Bits: val[0], Gen: binary.LittleEndian.Uint32(val[4:]), Idx: binary.LittleEndian.Uint64(val[8:])}, nil
}

// Append adds the 16 bytes of the value to b.
func (c InodeAllocCursor) Append(b []byte) []byte {
	b = append(b, c.Bits, 0, 0, 0)
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint32(b, c.Gen), c.Idx)
}

// Range is the lowest and the highest inode number of the shard whose cursor is
// at the given offset of the btree: 0 for numbers of 31 bits, else one more than
// the shard (chapter 04 section 1.10).
func (c InodeAllocCursor) Range(offset uint64) (lo, hi uint64) {
	if offset == 0 {
		return FirstInode, 1<<31 - 1
	}
	if c.Bits > 63 || (offset-1)>>c.Bits != 0 {
		return 1 << 31, 1<<63 - 1 // no such shard
	}
	shift := 63 - c.Bits
	lo = (offset - 1) << shift
	return max(lo, 1<<31), lo | (1<<shift - 1)
}
