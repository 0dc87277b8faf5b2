package check

import (
	"encoding/binary"
	"testing"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// extent finds an extent of a file that fits.
func (v *volume) extent(fits func(kv ondisk.KV, e *ondisk.Extent) bool) ondisk.KV {
	v.t.Helper()
	return v.find(ondisk.BtreeExtents, func(kv ondisk.KV) bool {
		if kv.Type != ondisk.KeyExtent {
			return false
		}
		e, err := ondisk.DecodeExtent(kv.Val, kv.Size, nil)
		return err == nil && fits(kv, &e)
	})
}

func anyExtent(ondisk.KV, *ondisk.Extent) bool { return true }

// lastPtr changes the last pointer of an extent, which is the last word here.
func lastPtr(kv *ondisk.KV, edit func(w uint64) uint64) {
	at := len(kv.Val) - 8
	binary.LittleEndian.PutUint64(kv.Val[at:], edit(binary.LittleEndian.Uint64(kv.Val[at:])))
}

func changeExtent(fits func(kv ondisk.KV, e *ondisk.Extent) bool, edit func(kv *ondisk.KV)) func(v *volume) {
	return func(v *volume) {
		kv := v.extent(fits)
		edit(&kv)
		v.set(ondisk.BtreeExtents, kv)
	}
}

func reflinkP(edit func(p *ondisk.ReflinkP, kv *ondisk.KV)) func(v *volume) {
	return func(v *volume) {
		kv := v.find(ondisk.BtreeExtents, func(kv ondisk.KV) bool { return kv.Type == ondisk.KeyReflinkP })
		p, _ := ondisk.DecodeReflinkP(kv.Val)
		edit(&p, &kv)
		kv.Val = p.Append(nil)
		v.set(ondisk.BtreeExtents, kv)
	}
}

func stripeOf(edit func(s *ondisk.Stripe)) func(v *volume) {
	return func(v *volume) {
		kv := v.find(ondisk.BtreeStripes, anyKey)
		s, _ := ondisk.DecodeStripe(kv.Val)
		edit(&s)
		kv.Val = s.Append(nil)
		v.set(ondisk.BtreeStripes, kv)
	}
}

func striped(_ ondisk.KV, e *ondisk.Extent) bool {
	return len(e.Ptrs) == 1 && e.Ptrs[0].HasStripe
}

// stripeWord changes the stripe pointer of an extent: an entry of type 1<<5.
func stripeWord(edit func(w uint64) uint64) func(v *volume) {
	return changeExtent(striped, func(kv *ondisk.KV) {
		at := len(kv.Val) - 16
		binary.LittleEndian.PutUint64(kv.Val[at:], edit(binary.LittleEndian.Uint64(kv.Val[at:])))
	})
}

// journalKey puts a key into the journal of a volume that was not shut down.
func journalKey(b ondisk.BtreeID, kv ondisk.KV) func(v *volume) {
	return addEntry(ondisk.JsetEntry{Type: ondisk.EntryBtreeKeys, Btree: b, Data: kv.Append(nil)})
}

var extentMistakes = []mistake{
	{"extent missing", "plain", changeExtent(anyExtent, func(kv *ondisk.KV) { *kv = ondisk.KV{Key: ondisk.Key{Pos: kv.Pos}} }), "accounting_mismatch×4 alloc_key_dirty_sectors_wrong×1 backpointer_to_missing_ptr×1 inode_i_sectors_wrong×1 lru_entry_bad×1"},
	{"overlapping", "plain", func(v *volume) {
		// The one before ends where this starts.
		kv := v.find(ondisk.BtreeExtents, func(kv ondisk.KV) bool { return kv.Type == ondisk.KeyExtent && kv.Pos.Offset > uint64(kv.Size) })
		kv.Size += 8
		v.set(ondisk.BtreeExtents, kv)
	}, "accounting_mismatch×4 alloc_key_dirty_sectors_wrong×1 alloc_key_to_missing_lru_entry×1 backpointer_to_missing_ptr×1 extent_overlapping×1 inode_i_sectors_wrong×1 ptr_crc_uncompressed_size_too_small×1"},
	{"of no inode", "plain", func(v *volume) {
		kv := v.extent(anyExtent)
		kv.Pos.Inode = 1 << 40
		v.set(ondisk.BtreeExtents, kv)
	}, "accounting_mismatch×4 alloc_key_dirty_sectors_wrong×1 dup_extents_to_reflink×1 key_in_missing_inode×1 lru_entry_bad×1 ptr_to_missing_backpointer×1"},
	{"of a directory", "plain", func(v *volume) {
		v.set(ondisk.BtreeExtents, ondisk.KV{Key: ondisk.Key{Pos: pos(4096, 8, ^uint32(0)), Type: ondisk.KeyReservation, Size: 8}, Val: []byte{0, 0, 0, 0, 1, 0, 0, 0}})
	}, "accounting_mismatch×1 inode_i_sectors_wrong×1 key_in_wrong_inode_type×1"},
	{"hole in a file", "plain", func(v *volume) {
		f, _ := v.fileKV(isFile)
		v.set(ondisk.BtreeExtents, ondisk.KV{Key: ondisk.Key{Pos: pos(f.Pos.Offset, 1<<20, ^uint32(0)), Type: ondisk.KeyError, Size: 8}})
	}, "extent_past_end_of_inode×1 inode_i_sectors_wrong×1"},
	{"snapshot without a version of the inode", "snapshots", func(v *volume) {
		has := map[ondisk.Pos]bool{}
		for _, kv := range v.keys(ondisk.BtreeExtents) {
			has[pos(0, kv.Pos.Inode, kv.Pos.Snapshot)] = true
		}
		root := map[uint64]bool{}
		for _, kv := range v.keys(ondisk.BtreeInodes) {
			root[kv.Pos.Offset] = root[kv.Pos.Offset] || kv.Pos.Snapshot == 4294967294
		}
		v.del(ondisk.BtreeInodes, v.find(ondisk.BtreeInodes, func(kv ondisk.KV) bool {
			return kv.Type == ondisk.KeyInodeV3 && kv.Pos.Snapshot < 4294967294 && root[kv.Pos.Offset] && has[kv.Pos]
		}))
	}, "accounting_mismatch×1 snapshot_key_missing_inode_snapshot×1"},
	{"pointer to no member", "plain", changeExtent(anyExtent, func(kv *ondisk.KV) { lastPtr(kv, func(w uint64) uint64 { return w&^(0xff<<48) | 9<<48 }) }), "accounting_mismatch×4 alloc_key_dirty_sectors_wrong×1 backpointer_to_missing_ptr×1 lru_entry_bad×1 ptr_to_invalid_device×1"},
	{"pointer with another gen", "plain", changeExtent(anyExtent, func(kv *ondisk.KV) { lastPtr(kv, func(w uint64) uint64 { return w + 1<<56 }) }), "ptr_gen_newer_than_bucket_gen×1"},
	{"pointer to another bucket", "plain", changeExtent(anyExtent, func(kv *ondisk.KV) { lastPtr(kv, func(w uint64) uint64 { return w + 1<<20<<4 }) }), "accounting_mismatch×4 alloc_key_dirty_sectors_wrong×1 backpointer_to_missing_ptr×1 lru_entry_bad×1 ptr_after_last_bucket×1"},
	{"pointer to other sectors", "plain", changeExtent(anyExtent, func(kv *ondisk.KV) { lastPtr(kv, func(w uint64) uint64 { return w + 1<<4 }) }), "backpointer_to_missing_ptr×1 ptr_to_missing_backpointer×1"},
	{"pointer into the superblock", "plain", changeExtent(anyExtent, func(kv *ondisk.KV) { lastPtr(kv, func(w uint64) uint64 { return w&^(1<<48-16) | 16<<4 }) }), "accounting_mismatch×2 alloc_key_dirty_sectors_wrong×1 backpointer_to_missing_ptr×1 lru_entry_bad×1 ptr_bucket_data_type_mismatch×1 ptr_gen_newer_than_bucket_gen×1 ptr_to_missing_backpointer×1"},
	{"two of the same sectors", "plain", func(v *volume) {
		a := v.extent(anyExtent)
		b := v.extent(func(kv ondisk.KV, _ *ondisk.Extent) bool {
			return kv.Pos != a.Pos && kv.Size == a.Size && len(kv.Val) == len(a.Val)
		})
		b.Val = a.Val
		v.set(ondisk.BtreeExtents, b)
	}, "backpointer_to_missing_ptr×1 dup_extents_to_reflink×1"},
	{"pointer cached", "replicas2", changeExtent(anyExtent, func(kv *ondisk.KV) { lastPtr(kv, func(w uint64) uint64 { return w | 2 }) }), "accounting_mismatch×6 accounting_replicas_not_marked×2 alloc_key_cached_sectors_wrong×1 alloc_key_dirty_sectors_wrong×1 backpointer_to_missing_ptr×1 lru_entry_bad×1"},
	{"crc size", "plain", changeExtent(func(_ ondisk.KV, e *ondisk.Extent) bool { return e.Ptrs[0].Crc.Kind == 32 }, func(kv *ondisk.KV) { kv.Val[1] |= 0x40 }), "accounting_mismatch×4 alloc_key_dirty_sectors_wrong×1 backpointer_to_missing_ptr×1 lru_entry_bad×1 ptr_crc_uncompressed_size_mismatch×1"},
	{"no pointers", "plain", changeExtent(anyExtent, func(kv *ondisk.KV) { kv.Val = nil }), "accounting_mismatch×4 alloc_key_dirty_sectors_wrong×1 backpointer_to_missing_ptr×1 extent_ptrs_no_ptrs×1 lru_entry_bad×1"},

	{"refcount", "reflink", func(v *volume) {
		kv := v.find(ondisk.BtreeReflink, anyKey)
		kv.Val[0]++
		v.set(ondisk.BtreeReflink, kv)
	}, "reflink_v_refcount_wrong×1"},
	{"indirect extent missing", "reflink", func(v *volume) { v.del(ondisk.BtreeReflink, v.find(ondisk.BtreeReflink, anyKey)) }, "accounting_mismatch×3 alloc_key_dirty_sectors_wrong×1 alloc_key_to_missing_lru_entry×1 backpointer_to_missing_ptr×1 reflink_p_to_missing_reflink_v×3"},
	{"reference elsewhere", "reflink", reflinkP(func(p *ondisk.ReflinkP, _ *ondisk.KV) { p.Idx += 8 }), "reflink_v_refcount_wrong×1"},
	{"front pad", "reflink", func(v *volume) {
		kv := v.find(ondisk.BtreeExtents, func(kv ondisk.KV) bool {
			p, err := ondisk.DecodeReflinkP(kv.Val)
			return kv.Type == ondisk.KeyReflinkP && err == nil && p.FrontPad > 100
		})
		p, _ := ondisk.DecodeReflinkP(kv.Val)
		p.FrontPad += 128
		kv.Val = p.Append(nil)
		v.set(ondisk.BtreeExtents, kv)
	}, "reflink_p_front_pad_bad×1"},
	{"reference missing", "reflink", reflinkP(func(_ *ondisk.ReflinkP, kv *ondisk.KV) { kv.Pos.Snapshot = ^uint32(0) - 50 }), "bkey_in_missing_snapshot×1 reflink_v_refcount_wrong×1"},
	{"no feature of indirect inline data", "reflink", noFeature(ondisk.FeatureReflinkInlineData), ""},

	{"stripe's sectors of a block", "v39ec", stripeOf(func(s *ondisk.Stripe) { s.Live[0]-- }), "stripe_sector_count_wrong×1"},
	{"stripe's sectors of parity", "v39ec", stripeOf(func(s *ondisk.Stripe) { s.Live[len(s.Live)-1] = 8 }), "stripe_parity_block_sector_count_wrong×1"},
	{"stripe's gen", "v39ec", stripeOf(func(s *ondisk.Stripe) { s.Ptrs[0].Gen++ }), "accounting_mismatch×1 alloc_key_to_missing_lru_entry×1 ptr_gen_newer_than_bucket_gen×1 ptr_to_incorrect_stripe×18 ptr_to_missing_backpointer×1 stripe_sector_count_wrong×1"},
	{"stripe's member", "v39ec", stripeOf(func(s *ondisk.Stripe) { s.Ptrs[0].Dev = 9 }), "accounting_mismatch×6 alloc_key_data_type_wrong×1 alloc_key_stripe_refcount_wrong×1 alloc_key_to_missing_lru_entry×1 backpointer_to_missing_ptr×1 bucket_stripe_ref_to_incorrect_stripe×1 ptr_to_incorrect_stripe×18 ptr_to_invalid_device×1 stripe_sector_count_wrong×1 stripe_to_missing_bucket_ref×1"},
	{"stripe missing", "v39ec", func(v *volume) { v.del(ondisk.BtreeStripes, v.find(ondisk.BtreeStripes, anyKey)) }, "accounting_mismatch×10 alloc_key_data_type_wrong×4 alloc_key_dirty_sectors_wrong×1 alloc_key_stripe_refcount_wrong×4 backpointer_to_missing_ptr×4 bucket_stripe_ref_to_missing_stripe×4 freespace_key_wrong×1 ptr_to_missing_stripe×27"},
	{"bucket of a stripe not listed", "v39ec", delFirst(ondisk.BtreeBucketToStripe, anyKey), "stripe_to_missing_bucket_ref×1"},
	{"bucket of no stripe", "v39ec", addKeys(ondisk.BtreeBucketToStripe, set(pos(200, 1<<20, 0))), "bucket_stripe_ref_to_missing_stripe×1"},
	{"bucket of another stripe", "v39ec", func(v *volume) {
		kv := v.find(ondisk.BtreeBucketToStripe, anyKey)
		kv.Pos.Offset = 3
		v.set(ondisk.BtreeBucketToStripe, kv)
	}, "bucket_stripe_ref_to_incorrect_stripe×1"},
	{"extent in no stripe", "v39ec", stripeWord(func(w uint64) uint64 { return w | 1<<60 }), "accounting_mismatch×1 ptr_to_missing_stripe×1 stripe_sector_count_wrong×1"},
	{"extent in another block", "v39ec", stripeWord(func(w uint64) uint64 { return w ^ 1<<6 }), "accounting_mismatch×1 ptr_to_incorrect_stripe×1 stripe_sector_count_wrong×1"},

	{"compression of a file asked for", "v39plain", func(v *volume) {
		v.inode(isFile, func(i *ondisk.Inode) { i.BackgroundCompression, i.Flags = 4, i.Flags|ondisk.InodeHasInodeOpts })
	}, "extent_io_opts_not_set×1"},
	{"checksum of a file asked for", "v39plain", func(v *volume) {
		v.inode(isFile, func(i *ondisk.Inode) { i.DataChecksum, i.Flags = 3, i.Flags|ondisk.InodeHasInodeOpts })
	}, "extent_io_opts_not_set×1"},
	{"compression of a file asked for, 1.13", "plain", func(v *volume) {
		v.inode(isFile, func(i *ondisk.Inode) { i.BackgroundCompression = 4 })
	}, "note extent_io_opts_not_set×1"},
	{"target of a file asked for, 1.13", "plain", func(v *volume) {
		v.inode(isFile, func(i *ondisk.Inode) { i.BackgroundTarget = 4 })
	}, "note extent_io_opts_not_set×1"},
	{"operation under way", "plain", addKeys(ondisk.BtreeLoggedOps, ondisk.KV{Key: ondisk.Key{Pos: pos(0, 5, 0), Type: ondisk.KeyLoggedOpTruncate}, Val: words(1, 4096, 0)}), "logged_op_but_clean×1"},
	{"cursor outside its range", "v39plain", func(v *volume) {
		kv := v.find(ondisk.BtreeLoggedOps, anyKey)
		x, _ := ondisk.DecodeInodeAllocCursor(kv.Val)
		x.Idx = 1 << 62
		kv.Val = x.Append(nil)
		v.set(ondisk.BtreeLoggedOps, kv)
	}, "inode_alloc_cursor_range_bad×1"},
	{"logged op of no kind", "plain", addKeys(ondisk.BtreeLoggedOps, ondisk.KV{Key: ondisk.Key{Pos: pos(9, 5, 0), Type: ondisk.KeyLoggedOpTruncate}, Val: words(1, 4096, 0)}), "logged_op_kind_unknown×1"},
	{"quota of no kind", "crash", journalKey(ondisk.BtreeQuotas, ondisk.KV{Key: ondisk.Key{Pos: pos(5, 5, 0), Type: ondisk.KeyQuota}, Val: words(1, 2, 3, 4)}), "quota_type_invalid×2"},
	{"quota of no id", "crash", journalKey(ondisk.BtreeQuotas, ondisk.KV{Key: ondisk.Key{Pos: pos(1, 1<<40, 0), Type: ondisk.KeyQuota}, Val: words(1, 2, 3, 4)}), "quota_id_bad×1"},
	{"work that is none", "v39crash", journalKey(ondisk.BtreeReconcileWork, set(pos(4096, 77, ^uint32(0)))), "reconcile_work_incorrectly_set×1"},
	{"urgent work that is none", "v39crash", journalKey(ondisk.BtreeReconcileHipri, set(pos(4096, 77, ^uint32(0)))), "reconcile_work_incorrectly_set×1"},
	{"work on a member that is none", "v39crash", journalKey(ondisk.BtreeReconcileWorkPhys, set(pos(0, 77, 0))), "reconcile_work_phys_incorrectly_set×1"},
	{"rebalance work that is none", "crash", journalKey(ondisk.BtreeReconcileWork, set(pos(4096, 77, ^uint32(0)))), "reconcile_work_incorrectly_set×1"},
	{"damage of no inode", "v39crash", journalKey(ondisk.BtreeDamage, ondisk.KV{Key: ondisk.Key{Pos: pos(0, 1<<40, ^uint32(0)), Type: ondisk.KeyDamage}, Val: words(1, 0, 0, 0)}), "accounting_mismatch×1 damage_entries_bad×2 damage_key_no_inode×1"},
	{"entry of reconcile_scan for no node", "v39crash", journalKey(ondisk.BtreeReconcileScan, ondisk.KV{Key: ondisk.Key{Pos: pos(1, 5, 0), Type: ondisk.KeyBackpointer}, Val: (&ondisk.Backpointer{Btree: ondisk.BtreeXattrs, Level: 1, DataType: ondisk.DataBtree}).Append(nil, ondisk.Version1_39)}), "reconcile_bp_to_missing_btree_ptr×1"},
	{"entry of reconcile_scan for a leaf key", "v39crash", journalKey(ondisk.BtreeReconcileScan, ondisk.KV{Key: ondisk.Key{Pos: pos(1, 5, 0), Type: ondisk.KeyBackpointer}, Val: (&ondisk.Backpointer{Btree: ondisk.BtreeXattrs, DataType: ondisk.DataBtree}).Append(nil, ondisk.Version1_39)}), "reconcile_bp_to_leaf_node_key×1"},
	{"key of a btree of a newer version", "v39crash", journalKey(50, set(pos(1, 5, 0))), ""},
}

// TestExtentMistakes: data, what it stands on and what it waits for.
func TestExtentMistakes(t *testing.T) { plantAll(t, extentMistakes) }
