package ondisk

import (
	"encoding/binary"

	"github.com/gobcachefs/gobcachefs/errs"
)

// Flags of a subvolume.
const (
	SubvolRO       = 1 << 0
	SubvolSnap     = 1 << 1 // was made as a snapshot
	SubvolUnlinked = 1 << 2
)

// States of a subvolume, stored from 1.39 on.
const (
	SubvolStateLive     = 0x4ad5447e
	SubvolStateUnlinked = 0x2d358e8f
	SubvolStateDeleted  = 0x3c6b2d4c // a tombstone
)

// Sizes of the value: up to 1.38, and from 1.39 on.
const (
	subvolumeBytes   = 40
	subvolumeBytes39 = 48
)

// Subvolume is the value of a subvolume key (chapter 04 section 10.1).
type Subvolume struct {
	Flags          uint32
	Snapshot       uint32 // leaf of the snapshot tree
	Inode          uint64 // root directory
	CreationParent uint32 // subvolume it is a snapshot of, 0 none
	FSPathParent   uint32 // subvolume of its dirent, 0 none (1.5)
	Otime          int64  // TimeToUnix
	OtimeHi        uint64 // upper half of the stored 128 bits, 0
	State          uint32 // as stored, 0 when the value has none: see LiveState
}

// LiveState is the state, derived from the flags when none is stored.
func (s Subvolume) LiveState() uint32 {
	switch {
	case s.State != 0:
		return s.State
	case s.Flags&SubvolUnlinked != 0:
		return SubvolStateUnlinked
	}
	return SubvolStateLive
}

// ReadOnly: writes are refused.
func (s Subvolume) ReadOnly() bool { return s.Flags&SubvolRO != 0 }

// tail gives a copy of val, cut or extended with zeros to n bytes.
func tail(val []byte, n int) []byte {
	if len(val) >= n {
		return val[:n]
	}
	return append(make([]byte, 0, n), val...)[:n]
}

// DecodeSubvolume reads the value of a subvolume key; what a short value lacks
// is zero.
func DecodeSubvolume(val []byte) (Subvolume, error) {
	if len(val) < KeySubvolume.MinVal() {
		return Subvolume{}, errs.Corruptf("bkey_val_size_too_small", "subvolume of %d bytes", len(val))
	}
	le, v := binary.LittleEndian, tail(val, subvolumeBytes39)
	return Subvolume{
		Flags: le.Uint32(v), Snapshot: le.Uint32(v[4:]), Inode: le.Uint64(v[8:]),
		CreationParent: le.Uint32(v[16:]), FSPathParent: le.Uint32(v[20:]),
		Otime: int64(le.Uint64(v[24:])), OtimeHi: le.Uint64(v[32:]), State: le.Uint32(v[40:]),
	}, nil
}

// Append adds the value to b: 40 bytes when State is 0, as volumes below 1.39
// want it, else 48.
func (s Subvolume) Append(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(le.AppendUint32(b, s.Flags), s.Snapshot)
	b = le.AppendUint64(b, s.Inode)
	b = le.AppendUint32(le.AppendUint32(b, s.CreationParent), s.FSPathParent)
	b = le.AppendUint64(le.AppendUint64(b, uint64(s.Otime)), s.OtimeHi)
	if s.State != 0 {
		b = le.AppendUint64(b, uint64(s.State))
	}
	return b
}

func (s Subvolume) check(kv KV) error {
	if kv.Pos.Inode != 0 || kv.Pos.Offset == 0 || kv.Pos.Offset > 1<<31-1 {
		return errs.Corruptf("subvol_pos_bad", "%s", kv.Pos)
	}
	if s.Snapshot == 0 {
		return errs.Corruptf("subvol_snapshot_bad", "snapshot 0")
	}
	if s.Inode == 0 {
		return errs.Corruptf("subvol_inode_bad", "inode 0")
	}
	if len(kv.Val) < subvolumeBytes39 {
		return nil
	}
	switch s.State {
	case 0, SubvolStateLive, SubvolStateUnlinked, SubvolStateDeleted:
	default:
		return errs.Corruptf("subvol_state_bad", "state %#x", s.State)
	}
	if binary.LittleEndian.Uint32(kv.Val[44:]) != 0 {
		return errs.Corruptf("subvol_pad_nonzero", "%#x", binary.LittleEndian.Uint32(kv.Val[44:]))
	}
	return nil
}
