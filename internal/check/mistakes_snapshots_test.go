package check

import (
	"testing"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

func deleteKey(kv *ondisk.KV, _ *ondisk.Counters) { kv.Type = ondisk.KeyDeleted }

// counterAt sets a counter; the version is of some counter that is there.
func counterAt(p ondisk.AccountingPos, values ...int64) func(v *volume) {
	return func(v *volume) {
		kv := v.find(ondisk.BtreeAccounting, anyKey)
		kv.Pos = p.Pos(ondisk.AccountingFormOf(v.version()))
		var c ondisk.Counters
		copy(c[:], values)
		kv.Val = c.Append(nil, len(values))
		v.set(ondisk.BtreeAccounting, kv)
	}
}

func counter(t ondisk.AccountingType, edit func(kv *ondisk.KV, c *ondisk.Counters)) func(v *volume) {
	return func(v *volume) { v.counter(t, edit) }
}

// inumOf is the counter of the first file with data.
func inumCounter(edit func(kv *ondisk.KV, c *ondisk.Counters)) func(v *volume) {
	return func(v *volume) {
		form := ondisk.AccountingFormOf(v.version())
		kv := v.find(ondisk.BtreeAccounting, func(kv ondisk.KV) bool {
			p, err := ondisk.DecodeAccountingPos(kv.Pos, form)
			return err == nil && p.Type == ondisk.AccInum && p.Inode > 4096
		})
		c, n, _ := ondisk.DecodeCounters(kv.Val)
		edit(&kv, &c)
		kv.Val = c.Append(nil, n)
		if kv.Type == ondisk.KeyDeleted {
			v.del(ondisk.BtreeAccounting, kv)
			return
		}
		v.set(ondisk.BtreeAccounting, kv)
	}
}

var accountingMistakes = []mistake{
	{"nr_inodes", "plain", counter(ondisk.AccNrInodes, plusOne(0)), "accounting_mismatch×1"},
	{"nr_inodes missing", "plain", counter(ondisk.AccNrInodes, deleteKey), "accounting_mismatch×1"},
	{"persistent_reserved", "plain", counter(ondisk.AccPersistentReserved, plusOne(0)), "accounting_mismatch×1"},
	{"replicas", "plain", counter(ondisk.AccReplicas, plusOne(0)), "accounting_mismatch×1"},
	{"replicas missing", "replicas2", counter(ondisk.AccReplicas, deleteKey), "accounting_mismatch×1"},
	{"replicas on other members", "replicas2", counterAt(ondisk.ReplicasPos(ondisk.DataUser, 1, []uint8{1}), 8), "accounting_mismatch×1"},
	{"replicas on no member", "plain", counterAt(ondisk.ReplicasPos(ondisk.DataUser, 1, []uint8{7}), 8), "accounting_mismatch×1 accounting_to_invalid_device×1"},
	{"buckets of a type", "plain", counter(ondisk.AccDevDataType, plusOne(0)), "accounting_mismatch×1"},
	{"sectors of a type", "plain", counter(ondisk.AccDevDataType, plusOne(1)), "accounting_mismatch×1"},
	{"fragmentation of a type", "plain", counter(ondisk.AccDevDataType, plusOne(2)), "accounting_mismatch×1"},
	{"dev_data_type missing", "plain", counter(ondisk.AccDevDataType, deleteKey), "accounting_mismatch×1"},
	{"dev_data_type of no member", "plain", counterAt(ondisk.AccountingPos{Type: ondisk.AccDevDataType, Dev: 7, DataType: ondisk.DataUser}, 1, 2, 3), "accounting_mismatch×1 accounting_to_invalid_device×1"},
	{"compression", "lz4", counter(ondisk.AccCompression, plusOne(1)), "accounting_mismatch×1"},
	{"snapshot", "snapshots", counter(ondisk.AccSnapshot, plusOne(0)), "accounting_mismatch×1"},
	{"snapshot of a btree, 1.39", "v39plain", counter(ondisk.AccSnapshot, plusOne(0)), "accounting_mismatch×1"},
	{"btree", "plain", counter(ondisk.AccBtree, plusOne(0)), "accounting_mismatch×1"},
	{"btree's nodes, 1.39", "v39plain", counter(ondisk.AccBtree, plusOne(1)), "accounting_mismatch×1"},
	{"inum", "v39plain", inumCounter(plusOne(1)), "accounting_mismatch×1"},
	{"inum missing", "v39plain", inumCounter(deleteKey), "accounting_mismatch×1"},
	{"inum of nothing", "v39plain", counterAt(ondisk.AccountingPos{Type: ondisk.AccInum, Inode: 1 << 40}, 1, 2, 3), "accounting_mismatch×1"},
	{"stripe user sectors", "v39ec", counterAt(ondisk.ReplicasPos(ondisk.DataUser, 1, []uint8{0, 1}), 7), "accounting_mismatch×1"},
	{"key version 0", "plain", counter(ondisk.AccNrInodes, func(kv *ondisk.KV, _ *ondisk.Counters) { kv.Version = ondisk.Bversion{} }), "accounting_key_version_0×1"},
	{"key version in the future", "plain", counter(ondisk.AccNrInodes, func(kv *ondisk.KV, _ *ondisk.Counters) { kv.Version.Lo = 1 << 62 }), "accounting_key_version_in_future×1"},
	{"negative counter", "plain", counter(ondisk.AccNrInodes, func(_ *ondisk.KV, c *ondisk.Counters) { c[0] = -3 }), "accounting_key_underflow×1 accounting_mismatch×1"},
	{"type of no meaning", "plain", func(v *volume) {
		kv := v.find(ondisk.BtreeAccounting, anyKey)
		kv.Pos = ondisk.Pos{Inode: 0x77 << 56}
		v.set(ondisk.BtreeAccounting, kv)
	}, "accounting_key_junk_at_end×1"},
	{"junk in the position", "plain", func(v *volume) {
		kv := v.find(ondisk.BtreeAccounting, func(kv ondisk.KV) bool { return kv.Pos == ondisk.Pos{} })
		kv.Pos = ondisk.Pos{Offset: 1}
		v.set(ondisk.BtreeAccounting, kv)
	}, "accounting_key_junk_at_end×1"},
}

func ids3(a, b, c uint32) [3]uint32 { return [3]uint32{a, b, c} }

// snapshotAt changes a snapshot.
func snapshotAt(id uint64, edit func(s *ondisk.Snapshot)) func(v *volume) {
	return func(v *volume) {
		kv := v.find(ondisk.BtreeSnapshots, func(kv ondisk.KV) bool { return kv.Pos.Offset == id })
		s, _ := ondisk.DecodeSnapshot(kv.Val)
		n := len(kv.Val)
		edit(&s)
		kv.Val = append(s.Append(nil), make([]byte, 64)...)[:n]
		v.set(ondisk.BtreeSnapshots, kv)
	}
}

// subvolAt changes a subvolume.
func subvolAt(id uint64, edit func(s *ondisk.Subvolume)) func(v *volume) {
	return func(v *volume) {
		kv := v.find(ondisk.BtreeSubvolumes, func(kv ondisk.KV) bool { return kv.Pos.Offset == id })
		s, _ := ondisk.DecodeSubvolume(kv.Val)
		n := len(kv.Val)
		edit(&s)
		kv.Val = append(s.Append(nil), make([]byte, 64)...)[:n]
		v.set(ondisk.BtreeSubvolumes, kv)
	}
}

// treeAt changes a snapshot tree.
func treeAt(id uint64, edit func(s *ondisk.SnapshotTree)) func(v *volume) {
	return func(v *volume) {
		kv := v.find(ondisk.BtreeSnapshotTrees, func(kv ondisk.KV) bool { return kv.Pos.Offset == id })
		s, _ := ondisk.DecodeSnapshotTree(kv.Val)
		edit(&s)
		kv.Val = s.Append(nil)
		v.set(ondisk.BtreeSnapshotTrees, kv)
	}
}

// The snapshots of volume snapshots: tree 2 has root 4294967294 with children …293
// (…289 with leaves …282 and …281; leaf …288) and …292 (…290 with leaves …287 and
// …286, the master subvolume 2; leaf …291).
var snapshotMistakes = []mistake{
	{"parent missing", "snapshots", snapshotAt(4294967288, func(s *ondisk.Snapshot) { s.Parent = 4294967285 }), "snapshot_edge_bad×2 snapshot_parent_bad×1"},
	{"parent below", "snapshots", snapshotAt(4294967288, func(s *ondisk.Snapshot) { s.Parent = 4294967281 }), "snapshot_bad_depth×1 snapshot_edge_bad×2 snapshot_parent_bad×1"},
	{"child missing", "snapshots", snapshotAt(4294967293, func(s *ondisk.Snapshot) { s.Children[0] = 4294967285 }), "snapshot_children_not_normalized×1 snapshot_edge_bad×2"},
	{"child twice", "snapshots", snapshotAt(4294967293, func(s *ondisk.Snapshot) { s.Children[1] = s.Children[0] }), "snapshot_child_duplicate×1 snapshot_edge_bad×1"},
	{"children in the wrong order", "snapshots", snapshotAt(4294967293, func(s *ondisk.Snapshot) { s.Children[0], s.Children[1] = s.Children[1], s.Children[0] }), "snapshot_children_not_normalized×1"},
	{"depth", "snapshots", snapshotAt(4294967288, func(s *ondisk.Snapshot) { s.Depth++ }), "snapshot_bad_depth×1"},
	{"skiplist", "snapshots", snapshotAt(4294967288, func(s *ondisk.Snapshot) { s.Skip = ids3(4294967292, 4294967293, 4294967293) }), "snapshot_bad_skiplist×1 snapshot_skiplist_bad×1"},
	{"skiplist of a root", "snapshots", snapshotAt(4294967295, func(s *ondisk.Snapshot) { s.Skip[0] = 5 }), "snapshot_bad_skiplist×1 snapshot_skiplist_not_normalized×1"},
	{"tree of a snapshot", "snapshots", snapshotAt(4294967288, func(s *ondisk.Snapshot) { s.Tree = 1 }), "snapshot_to_bad_snapshot_tree×1"},
	{"tree of a snapshot missing", "snapshots", snapshotAt(4294967288, func(s *ondisk.Snapshot) { s.Tree = 77 }), "snapshot_to_bad_snapshot_tree×1"},
	{"subvolume of a snapshot", "snapshots", snapshotAt(4294967288, func(s *ondisk.Snapshot) { s.Subvol = 4 }), "snapshot_subvol_backref_wrong×1"},
	{"subvolume of a snapshot missing", "snapshots", snapshotAt(4294967288, func(s *ondisk.Snapshot) { s.Subvol = 77 }), "snapshot_subvol_backref_wrong×1"},
	{"subvolume of an interior snapshot", "snapshots", snapshotAt(4294967293, func(s *ondisk.Snapshot) { s.Subvol, s.Flags = 3, s.Flags|ondisk.SnapshotSubvol }), "snapshot_should_not_have_subvol×1"},
	{"flag subvol", "snapshots", snapshotAt(4294967288, func(s *ondisk.Snapshot) { s.Flags &^= ondisk.SnapshotSubvol }), "snapshot_subvol_flag_wrong×1"},
	{"snapshot deleted", "snapshots", snapshotAt(4294967288, func(s *ondisk.Snapshot) { s.Flags = ondisk.SnapshotWillDelete; s.Subvol = 0 }), "snapshot_subvol_state_mismatch×1"},
	{"state", "up39snapshots", snapshotAt(4294967288, func(s *ondisk.Snapshot) { s.State = 0 }), "snapshot_state_bad×1"},
	{"state before 1.39", "up39snapshots", snapshotAt(4294967288, func(s *ondisk.Snapshot) { s.Flags |= ondisk.SnapshotDeleted }), "snapshot_state_bad×1"},

	{"tree without its root", "snapshots", treeAt(2, func(s *ondisk.SnapshotTree) { s.RootSnapshot = 4294967293 }), "snapshot_to_bad_snapshot_tree×1 snapshot_tree_to_missing_snapshot×1 snapshot_tree_to_wrong_subvol×1"},
	{"tree without its master", "snapshots", treeAt(2, func(s *ondisk.SnapshotTree) { s.MasterSubvol = 77 }), "snapshot_tree_to_missing_subvol×1 subvol_not_master_and_not_snapshot×1"},
	{"tree with another's master", "snapshots", treeAt(2, func(s *ondisk.SnapshotTree) { s.MasterSubvol = 1 }), "snapshot_tree_to_wrong_subvol×1 subvol_not_master_and_not_snapshot×1"},
	{"tree whose master is a snapshot", "snapshots", treeAt(2, func(s *ondisk.SnapshotTree) { s.MasterSubvol = 3 }), "snapshot_tree_to_snapshot_subvol×1 subvol_not_master_and_not_snapshot×1"},
	{"tree missing", "snapshots", func(v *volume) {
		v.del(ondisk.BtreeSnapshotTrees, ondisk.KV{Key: ondisk.Key{Pos: pos(0, 4, 0)}})
	}, "snapshot_to_bad_snapshot_tree×1"},

	{"subvolume's snapshot missing", "snapshots", subvolAt(3, func(s *ondisk.Subvolume) { s.Snapshot = 77 }), "inode_bi_subvol_wrong×2 snapshot_subvol_backref_wrong×1 subvol_snapshot_bad×1"},
	{"subvolume's snapshot is no leaf", "snapshots", subvolAt(3, func(s *ondisk.Subvolume) { s.Snapshot = 4294967293 }), "inode_bi_subvol_wrong×1 snapshot_subvol_backref_wrong×1 subvol_snapshot_not_leaf×1"},
	{"subvolume's snapshot is another's", "snapshots", subvolAt(3, func(s *ondisk.Subvolume) { s.Snapshot = 4294967291 }), "inode_bi_subvol_wrong×2 snapshot_subvol_backref_wrong×2 subvol_root_wrong_bi_subvol×1"},
	{"subvolume's root missing", "snapshots", subvolAt(3, func(s *ondisk.Subvolume) { s.Inode = 4097 }), "inode_bi_subvol_wrong×2 subvol_to_missing_root×1"},
	{"subvolume's parent", "snapshots", subvolAt(3, func(s *ondisk.Subvolume) { s.FSPathParent = 2 }), "inode_bi_parent_wrong×1 subvol_children_bad×1 subvol_children_not_set×1 subvol_fs_path_parent_wrong×1"},
	{"subvolume's parent missing", "snapshots", subvolAt(3, func(s *ondisk.Subvolume) { s.FSPathParent = 77 }), "inode_bi_parent_wrong×1 subvol_children_bad×1 subvol_children_not_set×1 subvol_fs_path_parent_wrong×1 subvol_unreachable×1"},
	{"root subvolume with a parent", "snapshots", subvolAt(1, func(s *ondisk.Subvolume) { s.FSPathParent = 2 }), "subvol_children_not_set×1 subvol_root_fs_path_parent_nonzero×1"},
	{"subvolumes in a loop", "snapshots", func(v *volume) {
		subvolAt(2, func(s *ondisk.Subvolume) { s.FSPathParent = 6 })(v)
	}, "inode_bi_parent_wrong×1 subvol_children_bad×1 subvol_children_not_set×1 subvol_fs_path_parent_wrong×1 subvol_loop×2"},
	{"subvolume that is no snapshot and no master", "snapshots", subvolAt(3, func(s *ondisk.Subvolume) { s.Flags &^= ondisk.SubvolSnap }), "subvol_not_master_and_not_snapshot×1"},
	{"subvolume unlinked", "snapshots", subvolAt(6, func(s *ondisk.Subvolume) { s.Flags |= ondisk.SubvolUnlinked }), ""},
	{"subvolume missing", "snapshots", func(v *volume) {
		v.del(ondisk.BtreeSubvolumes, ondisk.KV{Key: ondisk.Key{Pos: pos(0, 6, 0)}})
	}, "dirent_to_missing_subvol×1 inode_bi_subvol_missing×1 snapshot_subvol_backref_wrong×1 subvol_children_bad×1"},
	{"root subvolume missing", "plain", func(v *volume) {
		v.del(ondisk.BtreeSubvolumes, ondisk.KV{Key: ondisk.Key{Pos: pos(0, 1, 0)}})
	}, "inode_bi_subvol_missing×1 root_subvol_missing×1 snapshot_subvol_backref_wrong×1 snapshot_tree_to_missing_subvol×1"},
	{"subvolume's state", "up39snapshots", subvolAt(3, func(s *ondisk.Subvolume) { s.State = 0 }), "subvol_state_bad×1"},
	{"child of a subvolume missing", "snapshots", func(v *volume) {
		v.del(ondisk.BtreeSubvolumeChildren, ondisk.KV{Key: ondisk.Key{Pos: pos(1, 5, 0)}})
	}, "subvol_children_not_set×1"},
	{"child of another subvolume", "snapshots", addKeys(ondisk.BtreeSubvolumeChildren, set(pos(2, 5, 0))), "subvol_children_bad×1"},
	{"child of a subvolume that is none", "snapshots", addKeys(ondisk.BtreeSubvolumeChildren, set(pos(2, 77, 0))), "subvol_children_bad×1"},
	{"key in a snapshot that is none", "snapshots", func(v *volume) {
		kv := v.find(ondisk.BtreeXattrs, anyKey)
		kv.Pos.Snapshot = 4294967285
		v.set(ondisk.BtreeXattrs, kv)
	}, "bkey_in_missing_snapshot×1"},
}

// TestAccountingMistakes and TestSnapshotMistakes: counters, snapshots and
// subvolumes.
func TestAccountingMistakes(t *testing.T) { plantAll(t, accountingMistakes) }
func TestSnapshotMistakes(t *testing.T)   { plantAll(t, snapshotMistakes) }
