package ondisk

import (
	"encoding/binary"

	"github.com/gobcachefs/gobcachefs/errs"
)

// Flags of a snapshot node.
const (
	SnapshotWillDelete = 1 << 0
	SnapshotSubvol     = 1 << 1 // Subvol is set
	SnapshotDeleted    = 1 << 2 // tombstone (1.26)
	SnapshotNoKeys     = 1 << 3 // (1.26)
)

// States of a snapshot node, stored from 1.39 on.
const (
	SnapshotStateLive       = 0x757c47a2
	SnapshotStateWillDelete = 0x3316a8d2
	SnapshotStateNoKeys     = 0x372b5a01
	SnapshotStateDeleted    = 0x7cd4a225
)

// Sizes of the value: up to 1.38, and from 1.39 on.
const (
	snapshotBytes   = 56
	snapshotBytes39 = 64
)

// Snapshot is the value of a snapshot key: a node of the snapshot forest
// (chapter 04 section 10.2). Ids decrease from parents to children.
type Snapshot struct {
	Flags    uint32
	Parent   uint32    // 0 at the root of a tree
	Children [2]uint32 // descending, 0 none
	Subvol   uint32    // subvolume whose leaf this is, 0 none
	Tree     uint32    // key of the snapshot_trees btree
	Depth    uint32    // 0 at the root
	Skip     [3]uint32 // ancestors, ascending
	Btime    int64     // TimeToUnix
	BtimeHi  uint64    // upper half of the stored 128 bits, 0
	State    uint32    // as stored, 0 when the value has none: see LiveState
}

// LiveState is the state, derived from the flags when none is stored.
func (s Snapshot) LiveState() uint32 {
	switch {
	case s.State != 0:
		return s.State
	case s.Flags&SnapshotDeleted != 0:
		return SnapshotStateDeleted
	case s.Flags&SnapshotNoKeys != 0:
		return SnapshotStateNoKeys
	case s.Flags&SnapshotWillDelete != 0:
		return SnapshotStateWillDelete
	}
	return SnapshotStateLive
}

// DecodeSnapshot reads the value of a snapshot key; what a short value lacks is
// zero.
func DecodeSnapshot(val []byte) (Snapshot, error) {
	if len(val) < KeySnapshot.MinVal() {
		return Snapshot{}, errs.Corruptf("bkey_val_size_too_small", "snapshot of %d bytes", len(val))
	}
	le, v := binary.LittleEndian, tail(val, snapshotBytes39)
	u := func(off int) uint32 { return le.Uint32(v[off:]) }
	return Snapshot{
		Flags: u(0), Parent: u(4), Children: [2]uint32{u(8), u(12)}, Subvol: u(16), Tree: u(20), Depth: u(24),
		Skip: [3]uint32{u(28), u(32), u(36)}, Btime: int64(le.Uint64(v[40:])), BtimeHi: le.Uint64(v[48:]), State: u(56),
	}, nil
}

// Append adds the value to b: 56 bytes when State is 0, as volumes below 1.39
// want it, else 64.
func (s Snapshot) Append(b []byte) []byte {
	le := binary.LittleEndian
	for _, w := range [...]uint32{s.Flags, s.Parent, s.Children[0], s.Children[1], s.Subvol, s.Tree, s.Depth, s.Skip[0], s.Skip[1], s.Skip[2]} {
		b = le.AppendUint32(b, w)
	}
	b = le.AppendUint64(le.AppendUint64(b, uint64(s.Btime)), s.BtimeHi)
	if s.State != 0 {
		b = le.AppendUint64(b, uint64(s.State))
	}
	return b
}

func (s Snapshot) check(kv KV) error {
	id := uint32(kv.Pos.Offset)
	if kv.Pos.Inode != 0 || kv.Pos.Offset == 0 || kv.Pos.Offset > 1<<32-1 {
		return errs.Corruptf("snapshot_pos_bad", "%s", kv.Pos)
	}
	if s.Parent != 0 && s.Parent <= id {
		return errs.Corruptf("snapshot_parent_bad", "parent %d of %d", s.Parent, id)
	}
	if s.Children[0] < s.Children[1] {
		return errs.Corruptf("snapshot_children_not_normalized", "children %d %d", s.Children[0], s.Children[1])
	}
	if s.Children[0] != 0 && s.Children[0] == s.Children[1] {
		return errs.Corruptf("snapshot_child_duplicate", "child %d twice", s.Children[0])
	}
	for _, c := range s.Children {
		if c >= id {
			return errs.Corruptf("snapshot_child_bad", "child %d of %d", c, id)
		}
	}
	if len(kv.Val) < snapshotBytes {
		return nil // older than depth and skip
	}
	if s.Skip[0] > s.Skip[1] || s.Skip[1] > s.Skip[2] {
		return errs.Corruptf("snapshot_skiplist_not_normalized", "skip %d %d %d", s.Skip[0], s.Skip[1], s.Skip[2])
	}
	for _, k := range s.Skip {
		if k != 0 && k < s.Parent {
			return errs.Corruptf("snapshot_skiplist_bad", "skip %d below parent %d", k, s.Parent)
		}
	}
	if len(kv.Val) < snapshotBytes39 {
		return nil
	}
	switch s.State {
	case 0, SnapshotStateLive, SnapshotStateWillDelete, SnapshotStateNoKeys, SnapshotStateDeleted:
	default:
		return errs.Corruptf("snapshot_state_bad", "state %#x", s.State)
	}
	if pad := binary.LittleEndian.Uint32(kv.Val[60:]); pad != 0 {
		return errs.Corruptf("snapshot_pad_nonzero", "%#x", pad)
	}
	return nil
}

// SnapshotTree is the value of a snapshot_tree key (chapter 04 section 10.3).
type SnapshotTree struct {
	MasterSubvol uint32 // the subvolume of the tree that is no snapshot, 0 none
	RootSnapshot uint32
}

// DecodeSnapshotTree reads the value of a snapshot_tree key.
func DecodeSnapshotTree(val []byte) (SnapshotTree, error) {
	if len(val) < 8 {
		return SnapshotTree{}, errs.Corruptf("bkey_val_size_too_small", "snapshot_tree of %d bytes", len(val))
	}
	return SnapshotTree{MasterSubvol: binary.LittleEndian.Uint32(val), RootSnapshot: binary.LittleEndian.Uint32(val[4:])}, nil
}

// Append adds the 8 bytes of the value to b.
func (t SnapshotTree) Append(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(b, t.MasterSubvol), t.RootSnapshot)
}
