package check

import (
	"testing"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// allocKV finds an alloc key.
func (v *volume) allocKV(fits func(a *ondisk.Alloc) bool) ondisk.KV {
	v.t.Helper()
	return v.find(ondisk.BtreeAlloc, func(kv ondisk.KV) bool {
		a, err := ondisk.DecodeAlloc(kv)
		return err == nil && fits(&a)
	})
}

func editAlloc(t ondisk.DataType, edit func(a *ondisk.Alloc)) func(v *volume) {
	return func(v *volume) { v.alloc(ofType(t), edit) }
}

// lru finds an entry of an LRU: id by whether it fits.
func (v *volume) lru(fits func(id uint16, time uint64) bool) ondisk.KV {
	v.t.Helper()
	return v.find(ondisk.BtreeLRU, func(kv ondisk.KV) bool {
		id, time, _ := ondisk.SplitLRUPos(kv.Pos)
		return fits(id, time)
	})
}

func fragmentation(id uint16, _ uint64) bool {
	return id == ondisk.LRUFragmentation || id >= ondisk.LRUFragmentationPerDev && id < ondisk.LRUFragmentationPerDev+64
}

func addKeys(b ondisk.BtreeID, kvs ...ondisk.KV) func(v *volume) {
	return func(v *volume) { v.set(b, kvs...) }
}

func delFirst(b ondisk.BtreeID, fits func(kv ondisk.KV) bool) func(v *volume) {
	return func(v *volume) { v.del(b, v.find(b, fits)) }
}

var allocMistakes = []mistake{
	{"dirty sectors", "plain", editAlloc(ondisk.DataUser, func(a *ondisk.Alloc) { a.DirtySectors-- }), "alloc_key_dirty_sectors_wrong×1"},
	{"dirty sectors of a btree bucket", "plain", editAlloc(ondisk.DataBtree, func(a *ondisk.Alloc) { a.DirtySectors = 1 }), "alloc_key_dirty_sectors_wrong×1"},
	{"dirty sectors of a journal bucket", "plain", editAlloc(ondisk.DataJournal, func(a *ondisk.Alloc) { a.DirtySectors-- }), "alloc_key_dirty_sectors_wrong×1"},
	{"dirty sectors of a superblock's bucket", "plain", editAlloc(ondisk.DataSB, func(a *ondisk.Alloc) { a.DirtySectors-- }), "alloc_key_dirty_sectors_wrong×1"},
	{"cached sectors", "plain", editAlloc(ondisk.DataUser, func(a *ondisk.Alloc) { a.CachedSectors++ }), "alloc_key_cached_sectors_wrong×1"},
	{"stripe sectors", "plain", editAlloc(ondisk.DataUser, func(a *ondisk.Alloc) { a.StripeSectors++ }), "alloc_key_stripe_sectors_wrong×1"},
	{"stripe", "plain", editAlloc(ondisk.DataUser, func(a *ondisk.Alloc) { a.Stripe = 7 }), "alloc_key_data_type_bad×1 alloc_key_stripe_wrong×1"},
	{"stripe of a striped bucket", "v39ec", editAlloc(ondisk.DataStripe, func(a *ondisk.Alloc) { a.Stripe++ }), "alloc_key_stripe_refcount_wrong×1"},
	{"parity sectors", "v39ec", editAlloc(ondisk.DataParity, func(a *ondisk.Alloc) { a.DirtySectors-- }), "alloc_key_dirty_sectors_wrong×1"},
	{"type", "plain", editAlloc(ondisk.DataUser, func(a *ondisk.Alloc) { a.DataType = ondisk.DataBtree }), "alloc_key_data_type_wrong×1"},
	{"type of a journal bucket", "plain", editAlloc(ondisk.DataJournal, func(a *ondisk.Alloc) { a.DataType = ondisk.DataUser }), "alloc_key_data_type_wrong×1"},
	{"data of a free bucket", "plain", editAlloc(ondisk.DataFree, func(a *ondisk.Alloc) {
		a.DataType, a.DirtySectors, a.NeedDiscard, a.NeedIncGen = ondisk.DataUser, 8, true, true
	}), "alloc_key_data_type_wrong×1 alloc_key_dirty_sectors_wrong×1"},
	{"gen behind its pointers", "plain", editAlloc(ondisk.DataUser, func(a *ondisk.Alloc) { a.Gen--; a.OldestGen-- }), "bucket_gens_key_wrong×1 ptr_gen_newer_than_bucket_gen×13"},
	{"gen ahead of its pointers", "plain", editAlloc(ondisk.DataUser, func(a *ondisk.Alloc) { a.Gen++ }), "bucket_gens_key_wrong×1 stale_dirty_ptr×13"},
	{"oldest gen", "plain", editAlloc(ondisk.DataUser, func(a *ondisk.Alloc) { a.OldestGen = a.Gen + 1 }), "alloc_key_oldest_gen_newer×1"},
	{"journal seq", "plain", editAlloc(ondisk.DataUser, func(a *ondisk.Alloc) { a.JournalSeq = 1 << 40 }), "alloc_key_journal_seq_in_future×1"},
	{"journal seq of becoming empty", "v39plain", editAlloc(ondisk.DataUser, func(a *ondisk.Alloc) { a.JournalSeqEmpty = 1 << 40 }), "alloc_key_journal_seq_in_future×1"},
	{"journal seq of a free bucket", "v39plain", func(v *volume) {
		free := v.find(ondisk.BtreeFreespace, func(kv ondisk.KV) bool { return kv.Pos.Offset>>56 == 0 })
		kv := v.allocKV(ofType(ondisk.DataUser))
		kv.Pos.Offset = free.Pos.Offset - 1
		kv.Val = (&ondisk.Alloc{JournalSeq: 1, DataType: ondisk.DataFree}).Append(nil, v.version())
		v.set(ondisk.BtreeAlloc, kv)
	}, "alloc_key_data_type_free_dirty_bookkeeping×1"},
	{"io time", "plain", editAlloc(ondisk.DataUser, func(a *ondisk.Alloc) { a.IOTime[0] = 1 << 40 }), "alloc_key_io_time_in_future×1"},
	{"need_discard", "plain", editAlloc(ondisk.DataUser, func(a *ondisk.Alloc) { a.NeedDiscard = false }), "alloc_key_need_discard_not_set×1"},
	{"need_inc_gen", "plain", editAlloc(ondisk.DataUser, func(a *ondisk.Alloc) { a.NeedIncGen = false }), "alloc_key_need_inc_gen_not_set×1"},
	{"alloc key missing", "plain", func(v *volume) { v.del(ondisk.BtreeAlloc, v.allocKV(ofType(ondisk.DataUser))) },
		"bucket_gens_hole_wrong×1 ptr_gen_newer_than_bucket_gen×13 ptr_to_missing_alloc_key×1"},
	{"alloc key of a journal bucket missing", "plain", func(v *volume) { v.del(ondisk.BtreeAlloc, v.allocKV(ofType(ondisk.DataJournal))) },
		"alloc_key_data_type_wrong×1"},
	{"alloc key of a free bucket missing", "plain", func(v *volume) { v.del(ondisk.BtreeAlloc, v.allocKV(ofType(ondisk.DataFree))) }, "bucket_gens_hole_wrong×1"},
	{"alloc key of no bucket", "plain", func(v *volume) {
		kv := v.allocKV(ofType(ondisk.DataFree))
		kv.Pos.Offset = 1 << 30
		v.set(ondisk.BtreeAlloc, kv)
	}, "alloc_key_to_missing_dev_bucket×1"},
	{"alloc key of no member", "plain", func(v *volume) {
		kv := v.allocKV(ofType(ondisk.DataFree))
		kv.Pos.Inode = 5
		v.set(ondisk.BtreeAlloc, kv)
	}, "alloc_key_to_missing_dev_bucket×1"},

	{"bucket missing in freespace", "plain", func(v *volume) {
		kv := v.find(ondisk.BtreeFreespace, func(kv ondisk.KV) bool { return kv.Size > 1 })
		kv.Size--
		v.set(ondisk.BtreeFreespace, kv)
	}, "freespace_key_wrong×1"},
	{"freespace of a bucket with data", "plain", func(v *volume) {
		kv := v.allocKV(ofType(ondisk.DataUser))
		v.set(ondisk.BtreeFreespace, ondisk.KV{Key: ondisk.Key{Pos: pos(0, kv.Pos.Offset+1, 0), Type: ondisk.KeySet, Size: 1}})
	}, "need_discard_freespace_key_bad×1"},
	{"freespace with other gen bits", "v39plain", func(v *volume) {
		kv := v.find(ondisk.BtreeFreespace, func(kv ondisk.KV) bool { return kv.Size == 1 })
		v.del(ondisk.BtreeFreespace, kv)
		kv.Pos.Offset ^= 1 << 56
		v.set(ondisk.BtreeFreespace, kv)
	}, "freespace_key_wrong×1"},
	{"freespace of no bucket", "plain", addKeys(ondisk.BtreeFreespace, ondisk.KV{Key: ondisk.Key{Pos: pos(0, 1<<30, 0), Type: ondisk.KeySet, Size: 1}}), "need_discard_freespace_key_to_invalid_dev_bucket×1"},
	{"freespace of no member", "plain", addKeys(ondisk.BtreeFreespace, ondisk.KV{Key: ondisk.Key{Pos: pos(5, 100, 0), Type: ondisk.KeySet, Size: 1}}), "need_discard_freespace_key_to_invalid_dev_bucket×1"},
	{"freespace twice", "plain", func(v *volume) {
		kv := v.find(ondisk.BtreeFreespace, func(kv ondisk.KV) bool { return kv.Size > 2 })
		kv.Pos.Offset--
		kv.Size = 1
		v.set(ondisk.BtreeFreespace, kv)
	}, "extent_overlapping×1 freespace_key_wrong×1"},
	{"bucket missing in need_discard, 1.39", "v39plain", delFirst(ondisk.BtreeNeedDiscard, anyKey), "need_discard_key_wrong×1"},
	{"need_discard at another seq", "v39plain", func(v *volume) {
		kv := v.find(ondisk.BtreeNeedDiscard, anyKey)
		v.del(ondisk.BtreeNeedDiscard, kv)
		kv.Pos.Inode ^= 1
		v.set(ondisk.BtreeNeedDiscard, kv)
	}, "need_discard_key_wrong×1"},
	{"need_discard of a bucket with data", "plain", func(v *volume) {
		v.set(ondisk.BtreeNeedDiscard, set(pos(0, v.allocKV(ofType(ondisk.DataUser)).Pos.Offset, 0)))
	}, "need_discard_freespace_key_bad×1"},
	{"need_discard of no bucket", "plain", addKeys(ondisk.BtreeNeedDiscard, set(pos(0, 1<<30, 0))), "need_discard_freespace_key_to_invalid_dev_bucket×1"},

	{"fragmentation LRU entry missing", "plain", delFirst(ondisk.BtreeLRU, anyKey), "alloc_key_to_missing_lru_entry×1"},
	{"fragmentation LRU entry missing, 1.39", "v39plain", func(v *volume) { v.del(ondisk.BtreeLRU, v.lru(fragmentation)) }, "alloc_key_to_missing_lru_entry×1"},
	{"fragmentation LRU entry at another time", "plain", func(v *volume) {
		kv := v.lru(fragmentation)
		v.del(ondisk.BtreeLRU, kv)
		kv.Pos.Inode++
		v.set(ondisk.BtreeLRU, kv)
	}, "lru_entry_bad×1"},
	{"fragmentation LRU entry of the old id", "v39plain", func(v *volume) {
		kv := v.lru(fragmentation)
		_, time, value := ondisk.SplitLRUPos(kv.Pos)
		v.set(ondisk.BtreeLRU, set(ondisk.LRUPos(ondisk.LRUFragmentation, time, value)))
	}, "lru_entry_bad×1"},
	{"LRU entry of a free bucket", "plain", func(v *volume) {
		kv := v.allocKV(ofType(ondisk.DataFree))
		v.set(ondisk.BtreeLRU, set(ondisk.LRUPos(0, 77, kv.Pos.Offset)))
	}, "lru_entry_bad×1"},
	{"LRU entry of no bucket", "plain", addKeys(ondisk.BtreeLRU, set(ondisk.LRUPos(0, 77, 1<<30))), "lru_entry_to_invalid_bucket×1"},
	{"stripe LRU entry of no stripe", "v39ec", addKeys(ondisk.BtreeLRU, set(ondisk.LRUPos(ondisk.LRUStripes, 77, 1<<20))), "lru_entry_bad×1"},
	{"stripe LRU entry of a full stripe", "v39ec", addKeys(ondisk.BtreeLRU, set(ondisk.LRUPos(ondisk.LRUStripes, 77, 1))), "lru_entry_bad×1"},

	{"bucket_gens", "plain", func(v *volume) {
		kv := v.find(ondisk.BtreeBucketGens, anyKey)
		kv.Val[200]++
		v.set(ondisk.BtreeBucketGens, kv)
	}, "bucket_gens_key_wrong×1"},
	{"bucket_gens missing", "plain", delFirst(ondisk.BtreeBucketGens, anyKey), "bucket_gens_key_wrong×26"},
	{"bucket_gens of no bucket", "plain", func(v *volume) {
		kv := v.find(ondisk.BtreeBucketGens, anyKey)
		kv.Pos.Offset = 1 << 20
		v.set(ondisk.BtreeBucketGens, kv)
	}, "bucket_gens_to_invalid_buckets×1"},
	{"bucket_gens of no member", "plain", func(v *volume) {
		kv := v.find(ondisk.BtreeBucketGens, anyKey)
		kv.Pos.Inode = 5
		v.set(ondisk.BtreeBucketGens, kv)
	}, "bucket_gens_to_invalid_dev×1"},

	{"backpointer missing", "plain", func(v *volume) { v.del(ondisk.BtreeBackpointers, v.find(ondisk.BtreeBackpointers, anyKey)) }, "ptr_to_missing_backpointer×1"},
	{"backpointer of a node missing", "plain", delFirst(ondisk.BtreeBackpointers, func(kv ondisk.KV) bool {
		b, _ := ondisk.DecodeBackpointer(kv.Val, ondisk.Version1_13)
		return b.Level > 0
	}), "ptr_to_missing_backpointer×1"},
	{"backpointer of a stripe missing", "v39ec", delFirst(ondisk.BtreeBackpointers, func(kv ondisk.KV) bool {
		b, _ := ondisk.DecodeBackpointer(kv.Val, ondisk.Version1_39)
		return b.Btree == ondisk.BtreeStripes
	}), "ptr_to_missing_backpointer×1"},
	{"backpointer missing, 1.39", "v39plain", delFirst(ondisk.BtreeBackpointers, anyKey), "ptr_to_missing_backpointer×1"},
	{"backpointer to nothing", "plain", func(v *volume) {
		kv := v.find(ondisk.BtreeBackpointers, anyKey)
		kv.Pos.Offset++
		v.set(ondisk.BtreeBackpointers, kv)
	}, "backpointer_bucket_offset_wrong×1 backpointer_to_missing_ptr×1"},
	{"backpointer in no bucket", "plain", func(v *volume) {
		kv := v.find(ondisk.BtreeBackpointers, anyKey)
		kv.Pos.Offset = 1 << 50
		v.set(ondisk.BtreeBackpointers, kv)
	}, "backpointer_to_missing_alloc×1"},
	{"backpointer in no member", "plain", func(v *volume) {
		kv := v.find(ondisk.BtreeBackpointers, anyKey)
		kv.Pos.Inode = 5
		v.set(ondisk.BtreeBackpointers, kv)
	}, "backpointer_to_missing_device×1"},
	{"backpointer in a free bucket", "plain", func(v *volume) {
		free := v.allocKV(ofType(ondisk.DataFree))
		kv := v.find(ondisk.BtreeBackpointers, anyKey)
		c := v.checker()
		kv.Pos.Offset = free.Pos.Offset * c.devs[0].size << c.bpShift
		v.set(ondisk.BtreeBackpointers, kv)
	}, "backpointer_to_missing_ptr×1"},
	{"backpointer with another position", "plain", func(v *volume) { v.backpointer(toFile, func(b *ondisk.Backpointer) { b.Pos.Offset++ }) }, "ptr_to_missing_backpointer×1"},
	{"backpointer with another snapshot", "plain", func(v *volume) { v.backpointer(toFile, func(b *ondisk.Backpointer) { b.Pos.Snapshot-- }) }, "ptr_to_missing_backpointer×1"},
	{"backpointer with another btree", "plain", func(v *volume) {
		v.backpointer(toFile, func(b *ondisk.Backpointer) { b.Btree = ondisk.BtreeReflink })
	}, "ptr_to_missing_backpointer×1"},
	{"backpointer with another type", "plain", func(v *volume) {
		v.backpointer(toFile, func(b *ondisk.Backpointer) { b.DataType = ondisk.DataCached })
	}, "ptr_to_missing_backpointer×1"},
	{"backpointer with another length", "plain", func(v *volume) { v.backpointer(toFile, func(b *ondisk.Backpointer) { b.BucketLen-- }) }, "ptr_to_missing_backpointer×1"},
	{"backpointer with another level", "plain", func(v *volume) { v.backpointer(toFile, func(b *ondisk.Backpointer) { b.Level = 1 }) }, "ptr_to_missing_backpointer×1"},
	{"backpointer with another bucket offset", "plain", func(v *volume) { v.backpointer(toFile, func(b *ondisk.Backpointer) { b.BucketOffset++ }) }, "backpointer_bucket_offset_wrong×1 ptr_to_missing_backpointer×1"},
	{"backpointer with another gen", "v39plain", func(v *volume) { v.backpointer(toFile, func(b *ondisk.Backpointer) { b.BucketGen++ }) }, "ptr_to_missing_backpointer×1"},
	{"backpointer with flags", "v39plain", func(v *volume) { v.backpointer(toFile, func(b *ondisk.Backpointer) { b.Flags |= 1 }) }, "ptr_to_missing_backpointer×1"},
	{"backpointer with a longer value", "plain", func(v *volume) {
		kv := v.find(ondisk.BtreeBackpointers, anyKey)
		kv.Val = append(kv.Val, make([]byte, 8)...)
		v.set(ondisk.BtreeBackpointers, kv)
	}, "ptr_to_missing_backpointer×1"},
	{"all backpointers of a bucket missing", "plain", func(v *volume) {
		c := v.checker()
		user := v.allocKV(ofType(ondisk.DataUser)).Pos.Offset
		for _, kv := range v.keys(ondisk.BtreeBackpointers) {
			if kv.Pos.Offset>>c.bpShift/c.devs[0].size == user {
				v.del(ondisk.BtreeBackpointers, kv)
			}
		}
	}, "ptr_to_missing_backpointer×13"},
}

// TestAllocMistakes: buckets and what indexes them.
func TestAllocMistakes(t *testing.T) { plantAll(t, allocMistakes) }
