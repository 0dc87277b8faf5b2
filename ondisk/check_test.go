package ondisk

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCheckKey(t *testing.T) {
	const ptr0, ptr1, crc = "8132020000000000", "8132020000000100", "7e3e0005c4ca54ac"
	poly := func(offset, nonce uint32) []byte {
		return Crc{Kind: 64, CompressedSize: 64, UncompressedSize: 64, Offset: offset, Nonce: nonce, CsumType: CsumPoly1305_80}.Append(nil)
	}
	inode := func(change func(*Inode)) []byte {
		i := Inode{Mode: 0o100644, StrHash: 3}
		change(&i)
		return i.Append(nil)
	}
	dirent := func(d Dirent) []byte { return d.Append(nil) }
	snap := func(change func(*Snapshot)) []byte {
		s := Snapshot{Parent: 20, Children: [2]uint32{9, 8}, Tree: 1, Depth: 1, Skip: [3]uint32{20, 20, 30}}
		change(&s)
		return s.Append(nil)
	}
	allocOf := func(a Alloc) []byte { return a.Append(nil, Version1_39) }
	h := func(s string) []byte { return unhex(t, s) }
	at := func(i, o uint64, s uint32) Pos { return Pos{Inode: i, Offset: o, Snapshot: s} }
	const ext, leaf = BtreeExtents, 0
	file := at(4100, 8, 1)
	old := Version1_13
	for _, c := range []struct {
		btree   BtreeID
		level   int
		typ     KeyType
		pos     Pos
		size    uint32
		val     []byte
		v       Version
		reading bool
		reason  string
	}{
		{ext, leaf, KeyExtent, file, 8, h(ptr0), 0, false, ""},
		{ext, leaf, KeyExtent, file, 8, h(ptr0 + ptr1), 0, false, ""},
		{ext, leaf, KeyExtent, file, 8, h(ptr0 + ptr0), 0, false, "ptr_to_duplicate_device"},
		{ext, leaf, KeyExtent, file, 8, h("010000000000ff00" + ptr0 + "010000000000ff00"), 0, false, ""},
		{ext, leaf, KeyExtent, file, 8, h("010000000000ff00"), 0, false, "extent_ptrs_all_invalid"},
		{ext, leaf, KeyExtent, file, 8, h("1020020000000000" + "010000000000ff00"), 0, false, ""},
		{ext, leaf, KeyExtent, file, 8, nil, 0, false, "extent_ptrs_no_ptrs"},
		{ext, leaf, KeyExtent, file, 8, h(crc + crc + ptr0), 0, false, "ptr_crc_redundant"},
		{ext, leaf, KeyExtent, file, 8, h(ptr0 + crc), 0, false, "extent_ptrs_redundant_crc"},
		{ext, leaf, KeyExtent, file, 8, h("1020020000000000" + "1020020000000000" + ptr0), 0, false, "ptr_stripe_redundant"},
		{ext, leaf, KeyExtent, file, 8, h(ptr0 + "1020020000000000"), 0, false, "extent_ptrs_redundant_stripe"},
		{ext, leaf, KeyExtent, file, 8, h("1020020000000000" + "8332020000000000"), 0, false, "ptr_cached_and_erasure_coded"},
		{ext, leaf, KeyExtent, file, 8, h(ptr0 + "c000000000000000"), 0, false, "extent_flags_not_at_start"},
		{ext, leaf, KeyExtent, file, 8, h("c000000000000000" + ptr0), 0, false, ""},
		{ext, leaf, KeyExtent, file, 8, h("8932020000000000" + ptr1), 0, false, "extent_ptrs_written_and_unwritten"},
		{BtreeReflink, leaf, KeyReflinkV, at(0, 8, 0), 8, h("0100000000000000" + "8932020000000000"), 0, false, "extent_ptrs_unwritten"},
		{BtreeReflink, leaf, KeyReflinkV, at(0, 1<<56, 0), 8, h("0100000000000000" + ptr0), 0, false, "reflink_v_pos_bad"},
		{ext, leaf, KeyExtent, file, 8, h("01ffffffffff0000"), 0, false, "ptr_after_last_bucket"},
		{ext, leaf, KeyExtent, file, 8, h("0100000000000000"), 0, false, "ptr_before_first_bucket"},
		{ext, leaf, KeyExtent, file, 8, Ptr{Offset: 2*4096 - 7}.Append(nil), 0, false, "ptr_spans_multiple_buckets"},
		{ext, leaf, KeyExtent, file, 8, h(crc + "61fe010000000000"), 0, false, "ptr_spans_multiple_buckets"},
		{ext, leaf, KeyExtent, file, 8, append(append(poly(0, 4), h(ptr0)...), append(poly(4, 0), h(ptr1)...)...), 0, false, ""},
		{ext, leaf, KeyExtent, file, 8, append(append(poly(0, 4), h(ptr0)...), append(poly(4, 1), h(ptr1)...)...), 0, false, "ptr_crc_nonce_mismatch"},
		{ext, leaf, KeyExtent, file, 8, append(Crc{CompressedSize: 200, UncompressedSize: 200, CsumType: CsumCRC32C}.Append(nil), h(ptr0)...), 0, false, "ptr_crc_uncompressed_size_too_big"},
		{ext, leaf, KeyExtent, file, 8, append(h(ptr0), le8(Reconcile{Pending: true, DataReplicas: 1}.Word())...), 0, false, "extent_reconcile_bad_pending"},
		{ext, leaf, KeyExtent, file, 8, append(h(ptr0), le8(Reconcile{Hipri: true, Need: 2, DataReplicas: 1}.Word())...), 0, false, "extent_reconcile_bad_hipri"},
		{ext, leaf, KeyExtent, file, 8, append(h(ptr0), le8(Reconcile{}.Word())...), 0, false, "extent_reconcile_bad_replicas"},
		{ext, leaf, KeyExtent, file, 8, bytes.Repeat(h("010000000000ff00"), 17), 0, false, "extent_ptrs_too_many_ptrs"},
		{ext, leaf, KeyExtent, file, 0, h(ptr0), 0, false, "bkey_extent_size_zero"},
		{ext, leaf, KeyReservation, file, 8, h("0000000001000000"), 0, false, ""},
		{ext, leaf, KeyReservation, file, 8, h("0000000005000000"), 0, false, "reservation_key_nr_replicas_invalid"},
		{ext, leaf, KeyReflinkP, file, 8, h("2800000000000000 29000000 00000000"), 0, false, "reflink_p_front_pad_bad"},
		{ext, leaf, KeyWhiteout, file, 0, h(zeros(8)), 0, false, "bkey_val_size_nonzero"},
		{ext, leaf, KeyError, file, 8, h("0300000000000000"), 0, false, ""},
		{ext, leaf, KeyError, file, 8, h("0300000000000000"), old, false, "bkey_val_size_nonzero"},
		{ext, leaf, KeyDirent, file, 8, h(zeros(16)), 0, false, "bkey_invalid_type_for_btree"},

		{ext, 1, KeyExtent, file, 0, h(ptr0), 0, false, "bkey_invalid_type_for_btree"},
		{ext, 1, KeyDeleted, file, 0, nil, 0, false, ""},
		{ext, 1, KeyBtreePtr, file, 0, h(ptr0), 0, false, ""},
		{ext, 1, KeyBtreePtr, file, 8, h(ptr0), 0, false, "bkey_size_nonzero"},
		{ext, 1, KeyBtreePtr, file, 0, bytes.Repeat(h("010000000000ff00"), 5), 0, false, "btree_ptr_val_too_big"},
		{ext, 1, KeyBtreePtrV2, file, 0, append(BtreePtr{V2: true, SectorsWritten: 8}.Append(nil), bytes.Repeat(h("010000000000ff00"), 11)...), 0, false, "btree_ptr_v2_val_too_big"},
		{ext, 1, KeyBtreePtrV2, file, 0, BtreePtr{V2: true, Ptrs: []Ptr{{Offset: 9000}}}.Append(nil), 0, false, "btree_ptr_v2_written_0"},
		{ext, 1, KeyBtreePtrV2, file, 0, BtreePtr{V2: true, Ptrs: []Ptr{{Offset: 9000}}}.Append(nil), 0, true, ""},
		{ext, 1, KeyBtreePtrV2, file, 0, BtreePtr{V2: true, SectorsWritten: 8, Ptrs: []Ptr{{Offset: 4096*3 + 4000}}}.Append(nil), 0, false, "ptr_spans_multiple_buckets"},

		{BtreeInodes, leaf, KeyInodeV3, at(0, 4100, 1), 0, inode(func(*Inode) {}), 0, false, ""},
		{BtreeInodes, leaf, KeyInodeV3, at(1, 4100, 1), 0, inode(func(*Inode) {}), 0, false, "inode_pos_inode_nonzero"},
		{BtreeInodes, leaf, KeyInodeV3, at(0, 4095, 1), 0, inode(func(*Inode) {}), 0, false, "inode_pos_blockdev_range"},
		{BtreeInodes, leaf, KeyInodeV3, at(0, 4100, 1), 0, inode(func(i *Inode) { i.StrHash = 4 }), 0, false, "inode_str_hash_invalid"},
		{BtreeInodes, leaf, KeyInodeV3, at(0, 4100, 1), 0, inode(func(i *Inode) { i.Flags = InodeUnlinked; i.Nlink = 1 }), 0, false, "inode_unlinked_but_nlink_nonzero"},
		{BtreeInodes, leaf, KeyInodeV3, at(0, 4100, 1), 0, inode(func(i *Inode) { i.Subvol = 1 }), 0, false, "inode_subvol_root_but_not_dir"},
		{BtreeInodes, leaf, KeyInodeV3, at(0, 4100, 1), 0, inode(func(i *Inode) { i.UID = 5 })[:48], 0, false, "inode_unpack_error"},
		{BtreeInodes, leaf, KeyInodeV3, at(0, 4100, 1), 0, append(bytes.Clone(inode(func(*Inode) {})[:16]), h(zeros(32))...), 0, false, "inode_v3_fields_start_bad"},
		{BtreeInodes, leaf, KeyInodeGeneration, at(1, 4100, 1), 0, h(zeros(8)), 0, false, "inode_pos_inode_nonzero"},

		{BtreeDirents, leaf, KeyDirent, file, 0, dirent(Dirent{Type: 8, Inum: 5000, Name: []byte("a")}), 0, false, ""},
		{BtreeDirents, leaf, KeyDirent, file, 0, dirent(Dirent{Type: 8, Inum: 5000}), 0, false, "dirent_empty_name"},
		{BtreeDirents, leaf, KeyDirent, file, 0, dirent(Dirent{Type: 8, Inum: 5000, Name: []byte("..")}), 0, false, "dirent_name_dot_or_dotdot"},
		{BtreeDirents, leaf, KeyDirent, file, 0, dirent(Dirent{Type: 8, Inum: 5000, Name: []byte("a/b")}), 0, false, "dirent_name_has_slash"},
		{BtreeDirents, leaf, KeyDirent, file, 0, dirent(Dirent{Type: 8, Inum: 5000, Name: []byte("a\x00b")}), 0, false, "dirent_name_embedded_nul"},
		{BtreeDirents, leaf, KeyDirent, file, 0, dirent(Dirent{Type: 8, Inum: 4100, Name: []byte("a")}), 0, false, "dirent_to_itself"},
		{BtreeDirents, leaf, KeyDirent, file, 0, dirent(Dirent{Type: 16, ChildSubvol: 4100, Name: []byte("a")}), 0, false, ""},
		{BtreeDirents, leaf, KeyDirent, file, 0, dirent(Dirent{Type: 8, Inum: 5000, Name: bytes.Repeat([]byte("a"), 513)}), 0, false, "dirent_name_too_long"},
		{BtreeDirents, leaf, KeyDirent, file, 0, dirent(Dirent{Type: 8, Inum: 5000, Name: bytes.Repeat([]byte("a"), 513)}), 0, true, ""},
		{BtreeDirents, leaf, KeyDirent, file, 0, h("8813000000000000 88 0000 0100 0900 41 61" + zeros(7)), 0, false, "dirent_cf_name_too_big"},
		{BtreeDirents, leaf, KeyDirent, file, 0, h("8813000000000000 88 0000 0100 0100 41 61" + zeros(6) + "01"), 0, false, "dirent_stray_data_after_cf_name"},
		{BtreeDirents, leaf, KeyDirent, file, 0, h("8813000000000000 88 0000 0100 0100 41 61" + zeros(7)), 0, false, ""},

		{BtreeXattrs, leaf, KeyXattr, file, 0, h("00030300 666f6f 626172" + zeros(6)), 0, false, ""},
		{BtreeXattrs, leaf, KeyXattr, file, 0, h("00030300 666f6f 626172" + zeros(14)), 0, false, "xattr_val_size_too_big"},
		{BtreeXattrs, leaf, KeyXattr, file, 0, h("00030a00 666f6f 626172" + zeros(6)), 0, false, "xattr_val_size_too_small"},
		{BtreeXattrs, leaf, KeyXattr, file, 0, h("05030300 666f6f 626172" + zeros(6)), 0, false, "xattr_invalid_type"},
		{BtreeXattrs, leaf, KeyXattr, file, 0, h("00030300 660066 626172" + zeros(6)), 0, false, "xattr_name_invalid_chars"},

		{BtreeQuotas, leaf, KeyQuota, at(2, 0, 0), 0, h(zeros(32)), 0, false, ""},
		{BtreeQuotas, leaf, KeyQuota, at(3, 0, 0), 0, h(zeros(32)), 0, false, "quota_type_invalid"},

		{BtreeAlloc, leaf, KeyAllocV4, at(0, 5, 0), 0, allocOf(Alloc{}), 0, false, ""},
		{BtreeAlloc, leaf, KeyAllocV4, at(0, 5, 0), 0, allocOf(Alloc{IOTime: [2]uint64{1 << 48}}), 0, false, "alloc_key_io_time_bad"},
		{BtreeAlloc, leaf, KeyAllocV4, at(0, 5, 0), 0, allocOf(Alloc{DirtySectors: 1}), 0, false, "alloc_key_empty_but_have_data"},
		{BtreeAlloc, leaf, KeyAllocV4, at(0, 5, 0), 0, allocOf(Alloc{DataType: DataUser}), 0, false, "alloc_key_data_type_bad"},
		{BtreeAlloc, leaf, KeyAllocV4, at(0, 5, 0), 0, allocOf(Alloc{DataType: DataBtree, DirtySectors: 256}), 0, false, ""},
		{BtreeAlloc, leaf, KeyAllocV4, at(0, 5, 0), 0, allocOf(Alloc{DataType: DataCached, CachedSectors: 8, IOTime: [2]uint64{1, 1}}), 0, false, ""},
		{BtreeAlloc, leaf, KeyAllocV4, at(0, 5, 0), 0, allocOf(Alloc{DataType: DataCached, CachedSectors: 8, DirtySectors: 8}), 0, false, "alloc_key_cached_inconsistency"},
		{BtreeAlloc, leaf, KeyAllocV4, at(0, 5, 0), 0, allocOf(Alloc{DataType: DataNeedDiscard, NeedDiscard: true}), 0, false, ""},
		{BtreeAlloc, leaf, KeyAllocV4, at(0, 5, 0), 0, allocOf(Alloc{DataType: DataStripe, Stripe: 1}), 0, false, ""},
		{BtreeAlloc, leaf, KeyAllocV4, at(0, 5, 0), 0, allocOf(Alloc{DataType: DataUser, Stripe: 1, DirtySectors: 1}), 0, false, "alloc_key_data_type_bad"},
		{BtreeBucketGens, leaf, KeyBucketGens, at(0, 0, 0), 0, h(zeros(248)), 0, false, "bucket_gens_val_size_bad"},

		{BtreeStripes, leaf, KeyStripe, at(0, 0, 0), 0, h("4000000301090000" + zeros(32)), 0, false, "stripe_pos_bad"},
		{BtreeStripes, leaf, KeyStripe, at(0, 1, 0), 0, h("4000000301090000" + ptr0 + ptr1 + "010000000000ff00" + zeros(8)), 0, false, ""},
		{BtreeStripes, leaf, KeyStripe, at(0, 1, 0), 0, h("4000000301090000" + ptr0 + ptr0 + "010000000000ff00" + zeros(8)), 0, false, "ptr_to_duplicate_device"},
		{BtreeStripes, leaf, KeyStripe, at(0, 1, 0), 0, h("4000000301090000" + ptr0 + "01ffffffffff0100" + "010000000000ff00" + zeros(8)), 0, false, "ptr_after_last_bucket"},

		{BtreeSubvolumes, leaf, KeySubvolume, at(0, 1, 0), 0, Subvolume{Snapshot: 1, Inode: 4096}.Append(nil), 0, false, ""},
		{BtreeSubvolumes, leaf, KeySubvolume, at(0, 1<<31, 0), 0, Subvolume{Snapshot: 1, Inode: 4096}.Append(nil), 0, false, "subvol_pos_bad"},
		{BtreeSubvolumes, leaf, KeySubvolume, at(0, 1, 0), 0, Subvolume{Inode: 4096}.Append(nil), 0, false, "subvol_snapshot_bad"},
		{BtreeSubvolumes, leaf, KeySubvolume, at(0, 1, 0), 0, Subvolume{Snapshot: 1}.Append(nil), 0, false, "subvol_inode_bad"},
		{BtreeSubvolumes, leaf, KeySubvolume, at(0, 1, 0), 0, Subvolume{Snapshot: 1, Inode: 4096, State: 7}.Append(nil), 0, false, "subvol_state_bad"},
		{BtreeSubvolumes, leaf, KeySubvolume, at(0, 1, 0), 0, append(Subvolume{Snapshot: 1, Inode: 4096}.Append(nil), h("7e44d54a01000000")...), 0, false, "subvol_pad_nonzero"},

		{BtreeSnapshots, leaf, KeySnapshot, at(0, 10, 0), 0, snap(func(*Snapshot) {}), 0, false, ""},
		{BtreeSnapshots, leaf, KeySnapshot, at(0, 1<<32, 0), 0, snap(func(*Snapshot) {}), 0, false, "snapshot_pos_bad"},
		{BtreeSnapshots, leaf, KeySnapshot, at(0, 10, 0), 0, snap(func(s *Snapshot) { s.Parent = 10 }), 0, false, "snapshot_parent_bad"},
		{BtreeSnapshots, leaf, KeySnapshot, at(0, 10, 0), 0, snap(func(s *Snapshot) { s.Children = [2]uint32{8, 9} }), 0, false, "snapshot_children_not_normalized"},
		{BtreeSnapshots, leaf, KeySnapshot, at(0, 10, 0), 0, snap(func(s *Snapshot) { s.Children = [2]uint32{8, 8} }), 0, false, "snapshot_child_duplicate"},
		{BtreeSnapshots, leaf, KeySnapshot, at(0, 10, 0), 0, snap(func(s *Snapshot) { s.Children = [2]uint32{10, 8} }), 0, false, "snapshot_child_bad"},
		{BtreeSnapshots, leaf, KeySnapshot, at(0, 10, 0), 0, snap(func(s *Snapshot) { s.Skip = [3]uint32{30, 20, 20} }), 0, false, "snapshot_skiplist_not_normalized"},
		{BtreeSnapshots, leaf, KeySnapshot, at(0, 10, 0), 0, snap(func(s *Snapshot) { s.Skip = [3]uint32{19, 20, 20} }), 0, false, "snapshot_skiplist_bad"},
		{BtreeSnapshots, leaf, KeySnapshot, at(0, 10, 0), 0, snap(func(s *Snapshot) { s.State = 3 }), 0, false, "snapshot_state_bad"},
		{BtreeSnapshots, leaf, KeySnapshot, at(0, 10, 0), 0, append(snap(func(*Snapshot) {}), h("a2477c7501000000")...), 0, false, "snapshot_pad_nonzero"},
		{BtreeSnapshotTrees, leaf, KeySnapshotTree, at(0, 0, 0), 0, h(zeros(8)), 0, false, "snapshot_tree_pos_bad"},

		{BtreeBackpointers, leaf, KeyBackpointer, at(0, 0x7c0000, 0), 0, Backpointer{Level: 1}.Append(nil, old), old, false, ""},
		{BtreeBackpointers, leaf, KeyBackpointer, at(0, 0x7c0000, 0), 0, Backpointer{Level: 1, BucketOffset: 8}.Append(nil, old), old, false, "backpointer_bucket_offset_wrong"},
		{BtreeBackpointers, leaf, KeyBackpointer, at(0, 0x7c0000, 0), 0, Backpointer{Level: 1, BucketOffset: 8}.Append(nil, old), 0, false, ""},
		{BtreeBackpointers, leaf, KeyBackpointer, at(0, 5, 0), 0, Backpointer{Level: 5}.Append(nil, Version1_39), 0, false, "backpointer_level_bad"},
		{BtreeBackpointers, leaf, KeyBackpointer, at(255, 5, 0), 0, Backpointer{Level: 1}.Append(nil, Version1_39), 0, false, "backpointer_dev_bad"},
		{BtreeLRU, leaf, KeySet, at(1<<48, 5, 0), 0, nil, 0, false, "lru_entry_at_time_0"},
		{BtreeLRU, leaf, KeySet, at(1<<48|1, 5, 0), 0, nil, 0, false, ""},
		{BtreeLoggedOps, leaf, KeyInodeAllocCursor, at(0, 5, 0), 0, h(zeros(16)), 0, false, "inode_alloc_cursor_inode_bad"},
		{BtreeDamage, leaf, KeyDamage, at(0, 5, 1), 0, h(zeros(16)), 0, false, "damage_entries_bad"},
		{BtreeAccounting, leaf, KeyAccounting, AccountingPos{Type: AccDevDataType}.Pos(AccountingBigEndian), 0, h(zeros(24)), 0, true, ""},
		{BtreeAccounting, leaf, KeyAccounting, AccountingPos{Type: AccDevDataType}.Pos(AccountingBigEndian), 0, h(zeros(24)), 0, false, "accounting_key_version_0"},
		{BtreeAccounting, leaf, KeyAccounting, at(1, 0, 0), 0, h(zeros(8)), 0, true, "accounting_key_junk_at_end"},
	} {
		if c.v == 0 {
			c.v = Version1_39
		}
		ctx := &CheckContext{Version: c.v, NodeSectors: 256, EncodedMax: 128, Writing: !c.reading, Member: func(dev uint8) (uint64, uint64, uint64, bool) {
			return 4096, 1, 1000, dev < 2
		}}
		if c.reason == "" && c.typ == KeyExtent || c.typ == KeyBackpointer {
			ctx.Member = func(dev uint8) (uint64, uint64, uint64, bool) { return 256, 1, 1 << 30, dev < 2 }
		}
		kv := KV{Key: Key{Pos: c.pos, Size: c.size, Type: c.typ}, Val: c.val}
		if got := reason(CheckKey(ctx, c.btree, c.level, kv)); got != c.reason {
			t.Errorf("CheckKey(%s level %d, %s %s, %x) = %q, want %q", c.btree, c.level, c.typ, c.pos, c.val, got, c.reason)
		}
	}
	acc := KV{Key: Key{Type: KeyAccounting, Pos: AccountingPos{Type: AccDevDataType}.Pos(AccountingBigEndian), Version: Bversion{Lo: 1}}, Val: make([]byte, 8)}
	if got := reason(CheckKey(&CheckContext{Version: Version1_39, Writing: true}, BtreeAccounting, 0, acc)); got != "accounting_key_nr_counters_wrong" {
		t.Errorf("CheckKey(accounting with one counter) = %q", got)
	}
}

func le8(w uint64) []byte {
	return []byte{byte(w), byte(w >> 8), byte(w >> 16), byte(w >> 24), byte(w >> 32), byte(w >> 40), byte(w >> 48), byte(w >> 56)}
}

// FuzzDecodeValue decodes any bytes as the value of any key: nothing may panic,
// and what decodes must encode to something that decodes to the same.
func FuzzDecodeValue(f *testing.F) {
	f.Add(uint8(1), uint8(KeyInodeV3), uint8(0), fullInode.Append(nil))
	f.Add(uint8(0), uint8(KeyExtent), uint8(0), unhex(f, "7e3e0005c4ca54ac018002000000000011b9010000000100"))
	f.Add(uint8(6), uint8(KeyStripe), uint8(0), unhex(f, "4000000501090500 0170010000000100 0170010000000200 0170010000000300 0174010000000400 0170010000000000"+
		"8c112ba5 4eece715 a0e594f5 73ef180a 11f7404f 4000 4000 4000 4000 0000 0000"))
	f.Add(uint8(2), uint8(KeyDirent), uint8(0), unhex(f, "0200008000000000 84 0000 0300 0300 446972 646972 000000"))
	f.Add(uint8(2), uint8(KeyXattr), uint8(0), unhex(f, "01002400 01000000 01000600 02000600e8030000 04000400"+zeros(4)))
	f.Add(uint8(4), uint8(KeyAllocV3), uint8(0), unhex(f, "6300000000000000 03000000 06 07 06 04 02 04 06 0102 0a 02 00"))
	f.Add(uint8(4), uint8(KeyAllocV4), uint8(0), Alloc{DataType: DataUser, DirtySectors: 3}.Append(nil, Version1_39))
	f.Add(uint8(28), uint8(KeyDamage), uint8(0), AppendDamage(nil, []ErrorCount{{ID: 200, Count: 3, First: 1, Last: 2}}))
	f.Add(uint8(0), uint8(KeyBtreePtrV2), uint8(1), BtreePtr{V2: true, SectorsWritten: 8, Ptrs: []Ptr{{Offset: 9000}}}.Append(nil))
	for t := range uint8(NrKeyTypes) {
		f.Add(uint8(0), t, uint8(0), make([]byte, 48))
	}
	f.Fuzz(func(t *testing.T, b, typ, level uint8, val []byte) {
		val = val[:min(len(val), MaxValBytes)&^7]
		pos := Pos{Inode: uint64(b) << 40, Offset: 4096, Snapshot: uint32(typ)}
		if len(val) >= PosSize {
			pos = DecodePos(val[len(val)-PosSize:])
		}
		kv := KV{Key: Key{Type: KeyType(typ), Pos: pos, Size: uint32(level) * 8}, Val: val}
		for _, v := range []Version{Version1_9, Version1_13, Version1_39} {
			c := &CheckContext{Version: v, NodeSectors: 256, EncodedMax: 128, Writing: level&1 == 0, Member: func(uint8) (uint64, uint64, uint64, bool) { return 256, 1, 1000, true }}
			_ = CheckKey(c, BtreeID(b), int(level&3), kv)
		}
		_, _ = DecodeExtent(val, kv.Size, nil)
		_, _ = DecodeACL(val)
		var entries []ExtentEntry
		var enc []byte
		if ExtentEntries(val, &ExtentTypeSizes{9: 1, 63: 3}, func(e ExtentEntry) bool { entries, enc = append(entries, e), e.Append(enc); return true }) == nil {
			var again []ExtentEntry
			_ = ExtentEntries(enc, &ExtentTypeSizes{9: 1, 63: 3}, func(e ExtentEntry) bool { again = append(again, e); return true })
			same(t, "extent entries", entries, again)
		}
		// Every type decodes every value.
		for kt := range KeyType(NrKeyTypes) {
			kv.Type = kt
			roundTrip(t, kv)
		}
	})
}

func same(t *testing.T, what string, a, b any) {
	t.Helper()
	if d := cmp.Diff(a, b); d != "" {
		t.Errorf("%s change when encoded and decoded (-first +second):\n%s", what, d)
	}
}

// roundTrip decodes, encodes, decodes.
func roundTrip(t *testing.T, kv KV) {
	t.Helper()
	what := kv.Type.String()
	again := func(val []byte) KV { return KV{Key: kv.Key, Val: val} }
	switch kv.Type {
	case KeyBtreePtr, KeyBtreePtrV2:
		if x, err := DecodeBtreePtr(kv); err == nil {
			y, err := DecodeBtreePtr(again(x.Append(nil)))
			x.MemPtr = 0
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
			same(t, what, x, y)
		}
	case KeyInode, KeyInodeV2, KeyInodeV3:
		if x, err := DecodeInode(kv); err == nil {
			v3 := again(x.Append(nil))
			v3.Type = KeyInodeV3
			y, _ := DecodeInode(v3)
			same(t, what, x, y)
			for n := range uint32(4) {
				y.SetLinks(n)
			}
			y.DeviceNumber()
		}
	case KeyDirent:
		// An encoded name ends at its last byte that is not zero.
		if x, err := DecodeDirent(kv); err == nil && len(x.Name) < 2000 {
			y, err := DecodeDirent(again(x.Append(nil)))
			if err == nil {
				same(t, what, len(bytes.TrimRight(x.Name, "\x00")), len(bytes.TrimRight(y.Name, "\x00")))
			} else if len(x.Append(nil)) >= 16 {
				t.Errorf("%s: %v", what, err)
			}
		}
	case KeyXattr:
		if x, err := DecodeXattr(kv); err == nil && len(x.Append(nil)) >= 8 {
			y, _ := DecodeXattr(again(x.Append(nil)))
			same(t, what, x, y)
		}
	case KeyAlloc, KeyAllocV2, KeyAllocV3, KeyAllocV4:
		if x, err := DecodeAlloc(kv); err == nil {
			v4 := again(x.Append(nil, Version1_39))
			v4.Type = KeyAllocV4
			y, _ := DecodeAlloc(v4)
			x.BackpointersStart, x.NrBackpointers = y.BackpointersStart, y.NrBackpointers
			same(t, what, x, y)
			_ = x.FragmentationIndex(256)
		}
	case KeyBackpointer:
		for _, v := range []Version{Version1_13, Version1_14} {
			if x, err := DecodeBackpointer(kv.Val, v); err == nil {
				y, _ := DecodeBackpointer(x.Append(nil, v), v)
				same(t, what, x, y)
			}
		}
	case KeyStripe:
		if x, err := DecodeStripe(kv.Val); err == nil {
			y, err := DecodeStripe(x.Append(nil))
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
			same(t, what, x, y)
		}
	case KeySubvolume:
		if x, err := DecodeSubvolume(kv.Val); err == nil {
			y, _ := DecodeSubvolume(x.Append(nil))
			same(t, what, x, y)
		}
	case KeySnapshot:
		if x, err := DecodeSnapshot(kv.Val); err == nil {
			y, _ := DecodeSnapshot(x.Append(nil))
			same(t, what, x, y)
		}
	case KeyDamage:
		if x, err := DecodeDamage(kv.Val); err == nil {
			y, _ := DecodeDamage(AppendDamage(nil, x))
			same(t, what, x, y)
		}
	case KeyAccounting:
		for form := AccountingBigEndian; form <= AccountingUnpacked; form++ {
			if x, err := DecodeAccountingPos(kv.Pos, form); err == nil && x.Type < NrAccountingTypes {
				y, err := DecodeAccountingPos(x.Pos(form), form)
				if err != nil {
					t.Errorf("%s position: %v", what, err)
				}
				same(t, what, x, y)
			}
		}
	case KeyReflinkP:
		if x, err := DecodeReflinkP(kv.Val); err == nil {
			y, _ := DecodeReflinkP(x.Append(nil))
			same(t, what, x, y)
		}
	case KeyInodeAllocCursor:
		if x, err := DecodeInodeAllocCursor(kv.Val); err == nil {
			y, _ := DecodeInodeAllocCursor(x.Append(nil))
			same(t, what, x, y)
			_, _ = x.Range(kv.Pos.Offset)
		}
	}
}
