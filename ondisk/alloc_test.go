package ondisk

import (
	"encoding/hex"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAllocOldForms(t *testing.T) {
	// All synthetic: no volume at hand has keys of these forms.
	for _, c := range []struct {
		name   string
		typ    KeyType
		val    string
		want   Alloc
		reason string
	}{
		{"v1", KeyAlloc, "ff 07 0100 0200 04 0300 0400 06 05000000 01" + zeros(7), Alloc{Gen: 7, IOTime: [2]uint64{1, 2}, DataType: DataUser, DirtySectors: 3, CachedSectors: 4, OldestGen: 6, Stripe: 5, StripeRedundancy: 1}, ""},
		{"v1 with few fields", KeyAlloc, "0c 07 04 0300 000000", Alloc{Gen: 7, DataType: DataUser, DirtySectors: 3}, ""},
		{"v1 cut", KeyAlloc, "ff 07 0100 0200 0403", Alloc{}, "alloc_v1_val_size_bad"},
		{"v2", KeyAllocV2, "06 07 06 04 02 04 06 0102 0a 02 000000000000", Alloc{Gen: 7, OldestGen: 6, DataType: DataUser, IOTime: [2]uint64{1, 2}, DirtySectors: 3, CachedSectors: 128, Stripe: 5, StripeRedundancy: 1}, ""},
		{"v2 with few fields", KeyAllocV2, "02 07 06 04 02 04 06 00", Alloc{Gen: 7, OldestGen: 6, DataType: DataUser, IOTime: [2]uint64{1, 2}}, ""},
		{"v2 too wide", KeyAllocV2, "03 07 06 04 02 04 0f00000020 000000", Alloc{}, "alloc_v2_unpack_error"},
		{"v3", KeyAllocV3, "6300000000000000 03000000 06 07 06 04 02 04 06 0102 0a 02 00", Alloc{JournalSeq: 99, NeedDiscard: true, Gen: 7, OldestGen: 6, DataType: DataUser, IOTime: [2]uint64{1, 2}, DirtySectors: 3, CachedSectors: 128, Stripe: 5, StripeRedundancy: 1}, ""},
		{"v3 cut", KeyAllocV3, "6300000000000000 03000000 06 07 06 04", Alloc{}, "alloc_v3_unpack_error"},
		// 48 bytes, start 0 meaning 6; the rest of the value is an inline backpointer.
		{"v4 of 48 bytes", KeyAllocV4, "0100000000000000 00000000 07 06 04 01 03000000 04000000" + "0500000000000000 0600000000000000 07000000 00000000",
			Alloc{JournalSeq: 1, Gen: 7, OldestGen: 6, DataType: DataUser, StripeRedundancy: 1, DirtySectors: 3, CachedSectors: 4, IOTime: [2]uint64{5, 6}, Stripe: 7}, ""},
		{"v4 of 56 bytes and a backpointer", KeyAllocV4, "0100000000000000 1c010000 07 06 04 01 03000000 04000000" + "0500000000000000 0600000000000000 07000000 00000000 0800000000000000" + "ffffffffffffffff" + zeros(24),
			Alloc{JournalSeq: 1, Gen: 7, OldestGen: 6, DataType: DataUser, StripeRedundancy: 1, DirtySectors: 3, CachedSectors: 4, IOTime: [2]uint64{5, 6}, Stripe: 7, JournalSeqEmpty: 8, BackpointersStart: 7, NrBackpointers: 1}, ""},
		{"v4 with too many backpointers", KeyAllocV4, "0100000000000000 20010000" + zeros(52), Alloc{}, "alloc_v4_val_size_bad"},
		{"v4 with backpointers at 0", KeyAllocV4, "0100000000000000 00010000" + zeros(36+32), Alloc{}, "alloc_v4_backpointers_start_bad"},
	} {
		got, err := DecodeAlloc(KV{Key: Key{Type: c.typ}, Val: unhex(t, c.val)})
		if reason(err) != c.reason {
			t.Errorf("%s: DecodeAlloc = %v, want reason %q", c.name, err, c.reason)
		}
		if d := cmp.Diff(c.want, got); c.reason == "" && d != "" {
			t.Errorf("%s: DecodeAlloc (-want +got):\n%s", c.name, d)
		}
	}
	if got := len(Alloc{}.Append(nil, Version1_0+7)); got != 56 {
		t.Errorf("an alloc_v4 of 1.7 has %d bytes, want 56", got)
	}
}

func TestDerivedType(t *testing.T) {
	for _, c := range []struct {
		a        Alloc
		hint     DataType
		old, new DataType
	}{
		{Alloc{}, DataUser, DataFree, DataFree},
		{Alloc{NeedDiscard: true}, DataUser, DataNeedDiscard, DataFree},
		{Alloc{}, DataNeedDiscard, DataFree, DataNeedDiscard},
		{Alloc{Gen: 100, OldestGen: 4}, DataFree, DataNeedGCGens, DataNeedGCGens},
		{Alloc{Gen: 2, OldestGen: 250}, DataFree, DataFree, DataFree},
		{Alloc{CachedSectors: 1}, DataUser, DataCached, DataCached},
		{Alloc{CachedSectors: 1, DirtySectors: 1}, DataCached, DataUser, DataUser},
		{Alloc{StripeSectors: 1}, DataStripe, DataUser, DataUser},
		{Alloc{Stripe: 1, StripeSectors: 1}, DataUser, DataStripe, DataStripe},
		{Alloc{Stripe: 1, DirtySectors: 1}, DataParity, DataParity, DataParity},
		{Alloc{DataType: DataMultiple}, DataUser, DataMultiple, DataMultiple},
	} {
		if o, n := c.a.DerivedType(c.hint, true), c.a.DerivedType(c.hint, false); o != c.old || n != c.new {
			t.Errorf("DerivedType(%+v, %s) = %s by the flag, %s by the hint, want %s, %s", c.a, c.hint, o, n, c.old, c.new)
		}
	}
}

func TestIndexPositions(t *testing.T) {
	// Chapter 06 section 24.2.
	a := Alloc{DataType: DataUser, DirtySectors: 128}
	if got := LRUPos(LRUFragmentation, a.FragmentationIndex(256), DevBucket(1, 123)); got != (Pos{Inode: 0xffff000040000000, Offset: 0x100000000007b}) {
		t.Errorf("fragmentation LRU position = %x", got)
	}
	a.DirtySectors = 51
	if got := LRUPos(LRUFragmentationPerDev+3, a.FragmentationIndex(64), DevBucket(3, 0x159)); got != (Pos{Inode: 0x2003000066000000, Offset: 0x3000000000159}) {
		t.Errorf("fragmentation LRU position of a device = %x", got)
	}
	if id, time, v := SplitLRUPos(Pos{Inode: 1, Offset: 0x1d}); id != 0 || time != 1 || v != 0x1d {
		t.Errorf("SplitLRUPos = %d, %d, %d", id, time, v)
	}
	for _, b := range []Alloc{{DataType: DataUser, DirtySectors: 64}, {DataType: DataParity, DirtySectors: 3}, {DataType: DataCached, CachedSectors: 3}} {
		if got := b.FragmentationIndex(64); got != 0 {
			t.Errorf("FragmentationIndex(%+v) = %d, want 0", b, got)
		}
	}
	if got := FreespacePos(0, 30, Alloc{Gen: 1}.GenBits()); got != (Pos{Offset: 30}) {
		t.Errorf("FreespacePos = %v", got)
	}
	if got := FreespacePos(2, 30, Alloc{Gen: 17, OldestGen: 250}.GenBits()); got != (Pos{Inode: 2, Offset: 30 | 1<<56}) {
		t.Errorf("FreespacePos with genbits = %v", got)
	}
	// Section 24.3.
	if got := BackpointerPos(0, 7936, 0, 10); got != (Pos{Offset: 0x7c0000}) {
		t.Errorf("BackpointerPos = %x", got)
	}
	if got := BackpointerPos(0, 7808, 0, 16); got != (Pos{Offset: 0x1e800000}) || BackpointerSector(got, 16) != 7808 {
		t.Errorf("BackpointerPos = %x", got)
	}
	if got := StripeBackpointerPos(0, 6272, 64, 16); got != (Pos{Offset: 0x18bfffff}) {
		t.Errorf("StripeBackpointerPos = %x", got)
	}
	if GenCompare(1, 255) <= 0 || GenCompare(255, 1) >= 0 || GenCompare(7, 7) != 0 {
		t.Errorf("GenCompare(1, 255) = %d, (255, 1) = %d, (7, 7) = %d", GenCompare(1, 255), GenCompare(255, 1), GenCompare(7, 7))
	}
}

func TestAccountingPos(t *testing.T) {
	// Chapter 06 section 24.5; the forms of 1.9 are synthetic.
	at := func(i, o uint64, s uint32) Pos { return Pos{Inode: i, Offset: o, Snapshot: s} }
	for _, c := range []struct {
		form AccountingForm
		pos  Pos
		want AccountingPos
	}{
		{AccountingOldOrder, at(0, 0, 3), AccountingPos{Type: AccDevDataType}},
		{AccountingOldOrder, at(0, 0, 0x10003), AccountingPos{Type: AccDevDataType, DataType: DataSB}},
		{AccountingOldOrder, at(0, 0, 0x1010402), ReplicasPos(DataUser, 1, []uint8{0})},
		{AccountingOldOrder, at(0, 1, 0x1010402), ReplicasPos(DataUser, 1, []uint8{1})},
		{AccountingOldOrder, at(0, 0xff, 0xfffffc05), AccountingPos{Type: AccSnapshot, Snapshot: 0xfffffffc}},
		{AccountingOldOrder, at(0, 4100>>24, 4100<<8|8), AccountingPos{Type: AccInum, Inode: 4100}},
		{AccountingBigEndian, at(0x0203010101000000, 0, 0), ReplicasPos(DataBtree, 1, []uint8{1})},
		{AccountingBigEndian, at(0x0300010000000000, 0, 0), AccountingPos{Type: AccDevDataType, DataType: DataSB}},
		{AccountingBigEndian, at(0x05ffffffff010000, 0, 0), AccountingPos{Type: AccSnapshot, Snapshot: ^uint32(0), Btree: 1}},
		{AccountingBigEndian, at(0x0600000000000000, 0, 0), AccountingPos{Type: AccBtree}},
		{AccountingBigEndian, at(0x0802000080000000, 0, 0), AccountingPos{Type: AccInum, Inode: 2147483650}},
		{AccountingBigEndian, at(0x0905000000000000, 0, 0), AccountingPos{Type: AccReconcileWork, Kind: ReconcileWorkHighPriority}},
		{AccountingBigEndian, at(0x0a07000000000000, 0, 0), AccountingPos{Type: AccDevLeaving, Dev: 7}},
		{AccountingBigEndian, at(0x0103000000000000, 0, 0), AccountingPos{Type: AccPersistentReserved, NrReplicas: 3}},
		{AccountingBigEndian, at(0x0404000000000000, 0, 0), AccountingPos{Type: AccCompression, Compression: CompressionZstd}},
		{AccountingBigEndian, at(0x0204030200010200, 0, 0), ReplicasPos(DataUser, 2, []uint8{2, 0, 1})},
		{AccountingUnpacked, at(0, 0xfffffffc, 5), AccountingPos{Type: AccSnapshot, Snapshot: 0xfffffffc}},
		{AccountingUnpacked, at(0, 2, 6), AccountingPos{Type: AccBtree, Btree: 2}},
	} {
		got, err := DecodeAccountingPos(c.pos, c.form)
		if err != nil || got != c.want {
			t.Errorf("DecodeAccountingPos(%v, form %d) = %+v, %v, want %+v", c.pos, c.form, got, err, c.want)
		}
		if p := c.want.Pos(c.form); p != c.pos {
			t.Errorf("%+v.Pos(%d) = %v, want %v", c.want, c.form, p, c.pos)
		}
	}
	for _, c := range []struct {
		pos    Pos
		reason string
	}{
		{at(0x0204000000000000, 0, 0), "accounting_key_replicas_nr_devs_0"},
		{at(0x0204ff0100000000, 0, 0), "accounting_key_replicas_nr_devs_0"},
		{at(0x0204020300010000, 0, 0), "accounting_key_replicas_nr_required_bad"},
		{at(0x0204020200010000, 0, 0), "accounting_key_replicas_nr_required_bad"},
		{at(0x0204020101000000, 0, 0), "accounting_key_replicas_devs_unsorted"},
		{at(0x0204020101010000, 0, 0), "accounting_key_replicas_devs_unsorted"},
		{at(0x0204010101010000, 0, 0), "accounting_key_junk_at_end"},
		{at(0, 0, 1), "accounting_key_junk_at_end"},
	} {
		if _, err := DecodeAccountingPos(c.pos, AccountingBigEndian); reason(err) != c.reason {
			t.Errorf("DecodeAccountingPos(%v) = %v, want reason %s", c.pos, err, c.reason)
		}
	}
	// A lost device may be there several times, and a new type is no error.
	for _, p := range []Pos{at(0x02040301_00ffff00, 0, 0), at(0x7f01020304050607, 1, 2)} {
		if _, err := DecodeAccountingPos(p, AccountingBigEndian); err != nil {
			t.Errorf("DecodeAccountingPos(%v) = %v, want no error", p, err)
		}
	}
	for _, c := range []struct {
		v    Version
		want AccountingForm
	}{{Version1_9, AccountingUnpacked}, {Version1_0 + 10, AccountingOldOrder}, {Version1_14, AccountingOldOrder}, {Version1_15, AccountingBigEndian}} {
		if got := AccountingFormOf(c.v); got != c.want {
			t.Errorf("AccountingFormOf(%s) = %d, want %d", c.v, got, c.want)
		}
	}
}

func TestCounters(t *testing.T) {
	v := unhex(t, "ffffffffffffffff 0200000000000000 0300000000000000 0400000000000000")
	c, n, err := DecodeCounters(v)
	if err != nil || n != 4 || c != (Counters{-1, 2, 3}) {
		t.Errorf("DecodeCounters = %v, %d, %v", c, n, err)
	}
	if got := hex.EncodeToString(c.Append(nil, 2)); got != "ffffffffffffffff0200000000000000" {
		t.Errorf("Append of two = %s", got)
	}
	if got := c.Add(Counters{1, -2, -3}); !got.IsZero() {
		t.Errorf("Add = %v, want zeros", got)
	}
	if _, _, err := DecodeCounters(nil); reason(err) != "bkey_val_size_too_small" {
		t.Errorf("DecodeCounters(nothing) = %v", err)
	}
	for _, c := range []struct {
		t    AccountingType
		v    Version
		want int
	}{
		{AccNrInodes, Version1_13, 1}, {AccDevDataType, Version1_13, 3}, {AccSnapshot, Version1_13, 1}, {AccSnapshot, Version1_39, 3}, {AccBtree, Version1_13, 1}, {AccBtree, Version1_31, 3},
		{AccRebalanceWork, Version1_13, 1}, {AccRebalanceWork, Version1_33, 0}, {AccInum, Version1_9, 0}, {AccInum, Version1_11, 3}, {AccReconcileWork, Version1_39, 2}, {AccDevLeaving, Version1_39, 1},
		{AccDevLeaving, Version1_13, 0}, {AccountingType(99), Version1_39, 0},
	} {
		if got := c.t.NrCounters(c.v); got != c.want {
			t.Errorf("%s.NrCounters(%s) = %d, want %d", c.t, c.v, got, c.want)
		}
	}
}

func TestSmallValues(t *testing.T) {
	tr := LoggedOpTruncate{Subvol: 1, Inum: 4100, NewSize: 12345}
	if got, err := DecodeLoggedOpTruncate(tr.Append(nil)); err != nil || got != tr {
		t.Errorf("LoggedOpTruncate: %+v, %v, want %+v", got, err, tr)
	}
	fi := LoggedOpFinsert{State: FinsertShift, Subvol: 1, Inum: 4100, DstOffset: ^uint64(7), SrcOffset: 8, Pos: ^uint64(0)}
	if got, err := DecodeLoggedOpFinsert(fi.Append(nil)); err != nil || got != fi {
		t.Errorf("LoggedOpFinsert: %+v, %v, want %+v", got, err, fi)
	}
	st := LoggedOpStripe{OldIdx: 1, NewIdx: 2, OldBlocksNr: 3, OldBlockMap: [16]uint8{2, 0, 1}}
	if got, err := DecodeLoggedOpStripe(st.Append(nil)); err != nil || got != st || len(st.Append(nil)) != 40 {
		t.Errorf("LoggedOpStripe: %+v, %v, want %+v", got, err, st)
	}
	for i, c := range []struct {
		cur    InodeAllocCursor
		off    uint64
		lo, hi uint64
	}{
		{InodeAllocCursor{Bits: 1}, 1, 2147483648, 4611686018427387903}, // as 1.39 prints it
		{InodeAllocCursor{Bits: 1}, 2, 4611686018427387904, 9223372036854775807},
		{InodeAllocCursor{Bits: 1}, 0, 4096, 2147483647},
		{InodeAllocCursor{Bits: 0}, 1, 2147483648, 9223372036854775807},
		{InodeAllocCursor{Bits: 1}, 3, 2147483648, 9223372036854775807},
		{InodeAllocCursor{Bits: 255}, 1, 2147483648, 9223372036854775807},
	} {
		if lo, hi := c.cur.Range(c.off); lo != c.lo || hi != c.hi {
			t.Errorf("%d: Range = %d, %d, want %d, %d", i, lo, hi, c.lo, c.hi)
		}
	}
	if g, err := DecodeInodeGeneration(AppendInodeGeneration(nil, 7)); err != nil || g != 7 {
		t.Errorf("inode_generation = %d, %v, want 7", g, err)
	}
	if n, err := DecodeCookie(AppendCookie(nil, 9)); err != nil || n != 9 {
		t.Errorf("cookie = %d, %v, want 9", n, err)
	}
	if got := DecodeErrorKey(LostReason(3).Append(nil)); got.String() != "no_valid_pointers_repair" || DecodeErrorKey(nil) != 0 {
		t.Errorf("error key = %s", got)
	}
	tree := SnapshotTree{MasterSubvol: 1, RootSnapshot: ^uint32(0)}
	if got, err := DecodeSnapshotTree(tree.Append(nil)); err != nil || got != tree {
		t.Errorf("snapshot_tree = %+v, %v, want %+v", got, err, tree)
	}
	dmg := []ErrorCount{{ID: 200, Count: 3, First: 1 << 39, Last: 1<<39 + 5}, {ID: 392, Count: 1, First: 7, Last: 7}}
	if got, err := DecodeDamage(AppendDamage(nil, dmg)); err != nil || !cmp.Equal(got, dmg) {
		t.Errorf("damage = %v, %v, want %v", got, err, dmg)
	}
	for _, bad := range [][]ErrorCount{nil, {{ID: 3}}, {{ID: 3, Count: 1}, {ID: 3, Count: 1}}} {
		if _, err := DecodeDamage(AppendDamage(nil, bad)); reason(err) != "damage_entries_bad" {
			t.Errorf("DecodeDamage(%v) = %v, want damage_entries_bad", bad, err)
		}
	}
	gens := make([]byte, 256)
	gens[3] = 9
	if g, err := DecodeBucketGens(gens); err != nil || g[3] != 9 {
		t.Errorf("DecodeBucketGens = %d, %v", g[3], err)
	}
	if _, err := DecodeBucketGens(gens[:248]); reason(err) != "bucket_gens_val_size_bad" {
		t.Errorf("DecodeBucketGens(248 bytes) = %v", err)
	}
}
