package check

import (
	"testing"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// leaf rewrites the first leaf of a btree that has at least three keys.
func (v *volume) leaf(b ondisk.BtreeID, change func(ks []ondisk.KV, e *nodeEdit)) {
	v.t.Helper()
	c := v.checker()
	for _, r := range c.trees[b].leaves {
		ks, h := v.nodeKeys(c, r)
		if len(ks) < 3 {
			continue
		}
		var e nodeEdit
		change(ks, &e)
		v.writeNode(c, r, ks, h, &e)
		return
	}
	v.t.Fatalf("%s: no leaf of btree %v with three keys", v.name, b)
}

// head changes the header of a leaf of xattrs, which nothing else is compared with
// but the inodes' flags (1.39).
func head(edit func(h *ondisk.NodeHeader)) func(v *volume) {
	return func(v *volume) {
		v.leaf(ondisk.BtreeXattrs, func(_ []ondisk.KV, e *nodeEdit) { e.head = edit })
	}
}

// xattrRef is the pointer to the leaf of xattrs.
func xattrRef(c *checker) nodeRef { return c.trees[ondisk.BtreeXattrs].leaves[0] }

// deep gives the first btree that has several levels and leaves.
func (v *volume) deep() (b ondisk.BtreeID, ok bool) {
	c := v.checker()
	for b, t := range c.trees {
		if t != nil && len(t.inner) > 0 && len(t.leaves) > 2 {
			return ondisk.BtreeID(b), true
		}
	}
	return 0, false
}

// parent changes the keys of the root of a btree with several levels.
func (v *volume) parent(change func(ks []ondisk.KV) []ondisk.KV) {
	v.t.Helper()
	b, ok := v.deep()
	if !ok {
		v.t.Fatalf("%s: no btree with several levels", v.name)
	}
	c := v.checker()
	root := c.trees[b].inner[0]
	ks, h := v.nodeKeys(c, root)
	v.writeNode(c, root, change(ks), h, nil)
}

const lostNode = "note check_incomplete×2"

var nodeMistakes = []mistake{
	{"checksum", "plain", func(v *volume) { v.leaf(ondisk.BtreeXattrs, func(_ []ondisk.KV, e *nodeEdit) { e.noSum = true }) }, "bset_bad_csum×2"},
	{"magic", "plain", head(func(h *ondisk.NodeHeader) { h.Magic++ }), "btree_node_bad_magic×1 " + lostNode},
	{"seq", "plain", head(func(h *ondisk.NodeHeader) { h.Bset.Seq++ }), "btree_node_bad_seq×1 " + lostNode},
	{"btree", "plain", head(func(h *ondisk.NodeHeader) { h.Flags++ }), "btree_node_bad_btree×1 " + lostNode},
	{"level", "plain", head(func(h *ondisk.NodeHeader) { h.Flags += 16 }), "btree_node_bad_level×1 " + lostNode},
	{"min key", "plain", head(func(h *ondisk.NodeHeader) { h.MinKey.Inode = 5 }), "btree_node_bad_min_key×1 " + lostNode},
	{"max key", "plain", head(func(h *ondisk.NodeHeader) { h.MaxKey.Inode-- }), "btree_node_bad_max_key×1 " + lostNode},
	{"big endian", "plain", head(func(h *ondisk.NodeHeader) { h.Bset.Flags |= 1 << 4 }), "btree_node_unsupported_version×1 " + lostNode},
	{"separate whiteouts", "plain", head(func(h *ondisk.NodeHeader) { h.Bset.Flags |= 1 << 5 }), "btree_node_unsupported_version×1 " + lostNode},
	{"version of another major", "plain", head(func(h *ondisk.NodeHeader) { h.Bset.Version = 2 << 10 }), "btree_node_unsupported_version×1 " + lostNode},
	{"version newer than the volume", "plain", head(func(h *ondisk.NodeHeader) { h.Bset.Version = ondisk.Version1_39 }), "btree_node_bset_newer_than_sb×2"},
	{"version older than the oldest", "plain", head(func(h *ondisk.NodeHeader) { h.Bset.Version = ondisk.Version1_0 }), "btree_node_bset_older_than_sb_min×2"},
	{"checksum type", "plain", head(func(h *ondisk.NodeHeader) { h.Bset.Flags |= 15 }), "bset_unknown_csum×1 " + lostNode},
	{"offset of a record", "plain", head(func(h *ondisk.NodeHeader) { h.Bset.Flags |= 8 << 16 }), "bset_wrong_sector_offset×1"},
	{"journal seq of a record", "plain", head(func(h *ondisk.NodeHeader) { h.Bset.JournalSeq = 1 << 40 }), "bset_journal_seq_in_future×2"},
	{"keys out of order", "plain", func(v *volume) {
		v.leaf(ondisk.BtreeXattrs, func(ks []ondisk.KV, e *nodeEdit) {
			e.keys = append([]ondisk.KV{}, ks...)
			e.keys[0], e.keys[1] = e.keys[1], e.keys[0]
		})
	}, "btree_node_bkey_out_of_order×1"},
	{"key twice", "plain", func(v *volume) {
		v.leaf(ondisk.BtreeXattrs, func(ks []ondisk.KV, e *nodeEdit) {
			e.keys = append([]ondisk.KV{ks[0]}, ks...)
		})
	}, "btree_node_bkey_out_of_order×1"},
	{"format", "plain", func(v *volume) {
		v.leaf(ondisk.BtreeXattrs, func(ks []ondisk.KV, e *nodeEdit) {
			e.head = func(h *ondisk.NodeHeader) { h.Format.Bits[0] = 65 }
		})
	}, "btree_node_bad_format×1 " + lostNode},
	{"record past the end", "plain", func(v *volume) {
		v.leaf(ondisk.BtreeXattrs, func(_ []ondisk.KV, e *nodeEdit) {
			e.head = func(h *ondisk.NodeHeader) { h.Bset.U64s = 65000 }
		})
	}, "bset_past_end_of_btree_node×1 " + lostNode},
	{"sectors missing", "plain", func(v *volume) {
		r := xattrRef(v.checker())
		v.setWritten(r, r.ptr.SectorsWritten+8)
	}, "btree_node_data_missing×1 " + lostNode},
	{"no sectors written", "plain", func(v *volume) { v.setWritten(xattrRef(v.checker()), 0) }, "btree_ptr_v2_written_0×1"},
	{"copy with another checksum", "replicas2", func(v *volume) {
		c := v.checker()
		r := xattrRef(c)
		ks, h := v.nodeKeys(c, r)
		r.ptr.Ptrs = r.ptr.Ptrs[1:]
		v.writeNode(c, r, ks, h, &nodeEdit{noSum: true})
	}, "bset_bad_csum×2"},
	{"copy that is gone", "replicas2", func(v *volume) {
		p := xattrRef(v.checker()).ptr.Ptrs[0]
		v.zero(int(p.Dev), p.Offset, 8)
	}, "btree_node_bad_magic×1"},
	{"copy with other keys", "replicas2", func(v *volume) {
		c := v.checker()
		r := xattrRef(c)
		ks, h := v.nodeKeys(c, r)
		r.ptr.Ptrs = r.ptr.Ptrs[:1]
		v.writeNode(c, r, ks[1:], h, nil)
	}, "btree_node_replicas_data_mismatch×1"},
	{"both copies gone", "replicas2", func(v *volume) {
		for _, p := range xattrRef(v.checker()).ptr.Ptrs {
			v.zero(int(p.Dev), p.Offset, 8)
		}
	}, "btree_node_bad_magic×1 " + lostNode},
	{"root's min key", "plain", func(v *volume) {
		v.editPtr(xattrRef(v.checker()), func(p *ondisk.BtreePtr, _ *ondisk.KV) { p.MinKey.Inode, p.RangeUpdated = 5, true })
	}, "btree_node_topology_bad_root_min_key×1"},
	{"root's max key", "plain", func(v *volume) {
		v.editPtr(xattrRef(v.checker()), func(p *ondisk.BtreePtr, kv *ondisk.KV) { kv.Pos.Inode--; p.RangeUpdated = true })
	}, "btree_node_topology_bad_root_max_key×1 ptr_to_missing_backpointer×1"},
	{"pointer into no bucket", "plain", func(v *volume) {
		v.editPtr(xattrRef(v.checker()), func(p *ondisk.BtreePtr, _ *ondisk.KV) { p.Ptrs[0].Offset = 1 << 35 })
	}, "btree_bitmap_not_marked×1 btree_node_io_error×1 note check_incomplete×2 ptr_after_last_bucket×2"},
	{"pointer to no member", "plain", func(v *volume) {
		v.editPtr(xattrRef(v.checker()), func(p *ondisk.BtreePtr, _ *ondisk.KV) { p.Ptrs[0].Dev = 9 })
	}, "btree_node_read_error×1 note check_incomplete×2 ptr_to_invalid_device×1"},
	{"pointer with another gen", "plain", func(v *volume) {
		v.editPtr(xattrRef(v.checker()), func(p *ondisk.BtreePtr, _ *ondisk.KV) { p.Ptrs[0].Gen++ })
	}, "ptr_gen_newer_than_bucket_gen×1"},
	{"child missing", "geometry", func(v *volume) {
		v.parent(func(ks []ondisk.KV) []ondisk.KV { return append(ks[:1], ks[2:]...) })
	}, "btree_node_topology_gap_between_nodes×1 " + lostNode},
	{"last child missing", "geometry", func(v *volume) { v.parent(func(ks []ondisk.KV) []ondisk.KV { return ks[:len(ks)-1] }) }, "btree_node_topology_bad_max_key×1 " + lostNode},
	{"child starts too early", "geometry", func(v *volume) {
		v.parent(func(ks []ondisk.KV) []ondisk.KV {
			p, _ := ondisk.DecodeBtreePtr(ks[1])
			p.MinKey, p.RangeUpdated = ondisk.PosMin, true
			ks[1].Val = p.Append(nil)
			return ks
		})
	}, "btree_node_topology_bad_min_key×1"},
	{"child starts too late", "geometry", func(v *volume) {
		v.parent(func(ks []ondisk.KV) []ondisk.KV {
			p, _ := ondisk.DecodeBtreePtr(ks[1])
			p.MinKey.Inode++
			p.RangeUpdated = true
			ks[1].Val = p.Append(nil)
			return ks
		})
	}, "btree_node_topology_gap_between_nodes×1 btree_ptr_v2_min_key_bad×1 " + lostNode},
	{"no children", "geometry", func(v *volume) { v.parent(func(ks []ondisk.KV) []ondisk.KV { return nil }) }, "btree_node_topology_empty_interior_node×1 " + lostNode},
	{"key before its node", "geometry", func(v *volume) {
		b, _ := v.deep()
		c := v.checker()
		r := c.trees[b].leaves[1]
		ks, h := v.nodeKeys(c, r)
		ks[0].Pos = c.trees[b].leaves[0].max
		v.writeNode(c, r, ks, h, nil)
	}, "accounting_mismatch×1 bkey_before_start_of_btree_node×1 dirent_to_missing_inode×1 key_in_missing_inode×1"},
	{"key behind its node", "geometry", func(v *volume) {
		b, _ := v.deep()
		c := v.checker()
		r := c.trees[b].leaves[0]
		ks, h := v.nodeKeys(c, r)
		ks[len(ks)-1].Pos = r.max.Successor()
		v.writeNode(c, r, ks, h, nil)
	}, "accounting_mismatch×1 bkey_after_end_of_btree_node×1 dirent_to_missing_inode×1 key_in_missing_inode×1"},

	{"key of a type that does not belong", "plain", func(v *volume) {
		kv := v.find(ondisk.BtreeXattrs, anyKey)
		kv.Type, kv.Val = ondisk.KeySubvolume, make([]byte, 32)
		v.set(ondisk.BtreeXattrs, kv)
	}, "bkey_invalid_type_for_btree×1"},
	{"key version in the future", "plain", func(v *volume) {
		kv := v.find(ondisk.BtreeExtents, func(kv ondisk.KV) bool { return kv.Type == ondisk.KeyExtent })
		kv.Version.Lo = 1 << 60
		v.set(ondisk.BtreeExtents, kv)
	}, "bkey_version_in_future×1"},
	{"size in a btree without extents", "plain", func(v *volume) {
		kv := v.find(ondisk.BtreeXattrs, anyKey)
		kv.Size = 8
		v.set(ondisk.BtreeXattrs, kv)
	}, "bkey_size_nonzero×1"},
	{"key in no snapshot", "plain", func(v *volume) {
		kv := v.find(ondisk.BtreeXattrs, anyKey)
		kv.Pos.Snapshot = 77
		v.set(ondisk.BtreeXattrs, kv)
	}, "bkey_in_missing_snapshot×1"},
	{"snapshot in a btree without", "plain", func(v *volume) {
		kv := v.allocKV(ofType(ondisk.DataFree))
		kv.Pos.Snapshot = 5
		v.set(ondisk.BtreeAlloc, kv)
	}, "bkey_snapshot_nonzero×1"},
	{"value too small", "plain", func(v *volume) {
		kv := v.find(ondisk.BtreeXattrs, anyKey)
		kv.Val = nil
		v.set(ondisk.BtreeXattrs, kv)
	}, "bkey_val_size_too_small×1"},
}

// TestNodeMistakes: btree nodes and what any key must be.
func TestNodeMistakes(t *testing.T) { plantAll(t, nodeMistakes) }
