package ondisk

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestEntries has the examples of chapter 05 sections 2, 14 and 20.
func TestEntries(t *testing.T) {
	ptr := func(p Ptr) ExtentEntry { return ExtentEntry{Type: XEPtr, Ptr: p} }
	crc := func(typ ExtentEntryType, c Crc) ExtentEntry {
		c.Kind = crcKind(typ)
		return ExtentEntry{Type: typ, Crc: c}
	}
	raw := func(typ ExtentEntryType, w uint64) ExtentEntry { return ExtentEntry{Type: typ, Raw: []uint64{w}} }
	for _, c := range []struct {
		val  string
		want []ExtentEntry
		same bool // encodes to the same bytes
	}{
		{"8132020000000001", []ExtentEntry{ptr(Ptr{Offset: 9000, Gen: 1})}, true},
		{"0958020000000100", []ExtentEntry{ptr(Ptr{Unwritten: true, Offset: 9600, Dev: 1})}, true},
		{"feff8005ec4c4f0d", []ExtentEntry{crc(XECrc32, Crc{CompressedSize: 128, UncompressedSize: 128, CsumType: CsumCRC32C, Csum: Csum{Lo: 0x0d4f4cec}})}, false}, // garbage in bit 23
		{"feff0005ec4c4f0d", []ExtentEntry{crc(XECrc32, Crc{CompressedSize: 128, UncompressedSize: 128, CsumType: CsumCRC32C, Csum: Csum{Lo: 0x0d4f4cec}})}, true},
		{"5aba2835d748c277", []ExtentEntry{crc(XECrc32, Crc{CompressedSize: 23, UncompressedSize: 94, Offset: 40, CsumType: CsumCRC32C, Compression: CompressionLZ4, Csum: Csum{Lo: 0x77c248d7}})}, true},
		{"02020045d942ede7", []ExtentEntry{crc(XECrc32, Crc{CompressedSize: 1, UncompressedSize: 2, CsumType: CsumCRC32C, Compression: CompressionZstd, Csum: Csum{Lo: 0xe7ed42d9}})}, true},
		{"fcf0010000060000115d3535f0211734", []ExtentEntry{crc(XECrc64, Crc{CompressedSize: 32, UncompressedSize: 32, CsumType: CsumCRC64, Csum: Csum{Lo: 0x341721f035355d11}})}, true},
		{"bc7205000a0314744ad0d0baa0dbda8c", []ExtentEntry{crc(XECrc64, Crc{CompressedSize: 88, UncompressedSize: 88, Nonce: 40, CsumType: CsumPoly1305_80, Csum: Csum{Lo: 0x8cdadba0bad0d04a, Hi: 0x7414}})}, true},
		{"7802ee00000000446fc097f0d9bef51fb18900816e5e5993", []ExtentEntry{crc(XECrc128, Crc{CompressedSize: 40, UncompressedSize: 120, CsumType: CsumPoly1305_128, Compression: CompressionZstd, Csum: Csum{Lo: 0x1ff5bed9f097c06f, Hi: 0x93595e6e810089b1}})}, true},
		{"7e3e0005c4ca54ac018002000000000011b9010000000100", []ExtentEntry{
			crc(XECrc32, Crc{CompressedSize: 32, UncompressedSize: 32, CsumType: CsumCRC32C, Csum: Csum{Lo: 0xac54cac4}}), ptr(Ptr{Offset: 10240}), ptr(Ptr{Dev: 1, Offset: 7057})}, true},
		{"feff0005ec4c4f0d11a00200000000002000000000000301", []ExtentEntry{
			crc(XECrc32, Crc{CompressedSize: 128, UncompressedSize: 128, CsumType: CsumCRC32C, Csum: Csum{Lo: 0x0d4f4cec}}), ptr(Ptr{Offset: 10753}), raw(XERebalance, 0x0103000000000020)}, true},
		{"010000000000ff00", []ExtentEntry{ptr(Ptr{Dev: InvalidDev})}, true},
		{"8000109030000000", []ExtentEntry{raw(XEReconcile, 0x3090100080)}, true},
		{"0003000000000000", []ExtentEntry{raw(XEReconcileBp, 0x300)}, true},
		{"c000000000000000", []ExtentEntry{raw(XEFlags, 0xc0)}, true},
		{"500042000000000001d8010000000100", []ExtentEntry{{Type: XEStripePtr, Stripe: StripePtr{Block: 2, Redundancy: 0, Index: 33}}, ptr(Ptr{Dev: 1, Offset: 7552})}, true}, // synthetic
	} {
		var got []ExtentEntry
		var enc []byte
		val := unhex(t, c.val)
		if err := ExtentEntries(val, nil, func(e ExtentEntry) bool { got, enc = append(got, e), e.Append(enc); return true }); err != nil {
			t.Errorf("ExtentEntries(%s): %v", c.val, err)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("ExtentEntries(%s) (-want +got):\n%s", c.val, d)
		}
		if same := bytes.Equal(enc, val); same != c.same {
			t.Errorf("entries of %s encode to %x", c.val, enc)
		}
	}
}

func TestDecodeExtent(t *testing.T) {
	sizes := &ExtentTypeSizes{1, 1, 2, 3, 1, 1, 1, 1, 1, 2}
	none := Crc{CompressedSize: 8, UncompressedSize: 8}
	c32 := Crc{Kind: 32, CompressedSize: 32, UncompressedSize: 32, CsumType: CsumCRC32C, Csum: Csum{Lo: 0xac54cac4}}
	for _, c := range []struct {
		val    string
		sizes  *ExtentTypeSizes
		size   uint32
		want   Extent
		reason string
	}{
		{"7e3e0005c4ca54ac 0180020000000000 11b9010000000100", nil, 32, Extent{Ptrs: []ExtentPtr{{Ptr: Ptr{Offset: 10240}, Crc: c32}, {Ptr: Ptr{Dev: 1, Offset: 7057}, Crc: c32}}}, ""},
		{"c000000000000000 8132020000000001", nil, 8, Extent{Ptrs: []ExtentPtr{{Ptr: Ptr{Offset: 9000, Gen: 1}, Crc: none}}, Poisoned: true, Flags: 1}, ""},
		{"8132020000000001 7e3e0005c4ca54ac 11b9010000000100 8000109030000000", nil, 8, Extent{
			Ptrs: []ExtentPtr{{Ptr: Ptr{Offset: 9000, Gen: 1}, Crc: none}, {Ptr: Ptr{Dev: 1, Offset: 7057}, Crc: c32}}, Reconcile: 0x3090100080}, ""},
		{"1020020000000000 8132020000000001 11b9010000000100", nil, 8, Extent{Ptrs: []ExtentPtr{
			{Ptr: Ptr{Offset: 9000, Gen: 1}, Crc: none, HasStripe: true, Stripe: StripePtr{Redundancy: 1, Index: 1}}, {Ptr: Ptr{Dev: 1, Offset: 7057}, Crc: none}}}, ""},
		{"0002000000000000 0000000000000000 8132020000000001", sizes, 8, Extent{Ptrs: []ExtentPtr{{Ptr: Ptr{Offset: 9000, Gen: 1}, Crc: none}}}, ""},
		{"0002000000000000 0000000000000000 8132020000000001", nil, 8, Extent{}, "extent_ptrs_invalid_entry"},
		{"0002000000000000", sizes, 8, Extent{}, "extent_ptrs_invalid_entry"},
		{"0000000000000000", nil, 8, Extent{}, "extent_ptrs_invalid_entry"},
		{"fcf0010000060000", nil, 8, Extent{}, "extent_ptrs_invalid_entry"},
		{"", nil, 8, Extent{}, "extent_ptrs_no_ptrs"},
		{"7e3e0005c4ca54ac", nil, 32, Extent{}, "extent_ptrs_no_ptrs"},
		{"7e3e0005c4ca54ac 0180020000000000", nil, 33, Extent{}, "ptr_crc_uncompressed_size_too_small"},
		{"7e3e0008c4ca54ac 0180020000000000", nil, 32, Extent{}, "ptr_crc_csum_type_unknown"},
		{"7e3e0065c4ca54ac 0180020000000000", nil, 32, Extent{}, "ptr_crc_compression_type_unknown"},
		{"7a3e0005c4ca54ac 0180020000000000", nil, 32, Extent{}, "ptr_crc_uncompressed_size_mismatch"},
	} {
		got, err := DecodeExtent(unhex(t, c.val), c.size, c.sizes)
		if reason(err) != c.reason {
			t.Errorf("DecodeExtent(%s) = %v, want reason %q", c.val, err, c.reason)
		}
		if d := cmp.Diff(c.want, got); c.reason == "" && d != "" {
			t.Errorf("DecodeExtent(%s) (-want +got):\n%s", c.val, d)
		}
	}
	if _, err := DecodeExtent(bytes.Repeat(unhex(t, "8132020000000001"), 17), 8, nil); reason(err) != "extent_ptrs_too_many_ptrs" {
		t.Errorf("DecodeExtent(17 pointers) = %v, want extent_ptrs_too_many_ptrs", err)
	}
}

func TestTypeSizes(t *testing.T) {
	s, err := DecodeExtentTypeSizes(unhex(t, "0101020301010101010200ff"))
	if err != nil || s[9] != 2 || s[10] != 0 {
		t.Errorf("DecodeExtentTypeSizes = %v, %v", s, err)
	}
	if _, err := DecodeExtentTypeSizes([]byte{1, 1, 3}); err == nil {
		t.Errorf("DecodeExtentTypeSizes(crc64 of 3 u64s) succeeds, want an error")
	}
}

func TestCrcKinds(t *testing.T) {
	for _, c := range []struct {
		crc  Crc
		kind uint8
	}{
		{Crc{CompressedSize: 128, UncompressedSize: 128, CsumType: CsumCRC32C}, 32},
		{Crc{CompressedSize: 197, UncompressedSize: 197, CsumType: CsumCRC32C, Csum: Csum{Lo: 0xdeadbeef}}, 64}, // seen at 1.39
		{Crc{CompressedSize: 8, UncompressedSize: 8, CsumType: CsumCRC64}, 64},
		{Crc{CompressedSize: 8, UncompressedSize: 8, Nonce: 40, CsumType: CsumPoly1305_80}, 64},
		{Crc{CompressedSize: 8, UncompressedSize: 8, Nonce: 1024, CsumType: CsumPoly1305_80}, 128},
		{Crc{CompressedSize: 8, UncompressedSize: 8, CsumType: CsumPoly1305_128}, 128},
		{Crc{CompressedSize: 513, UncompressedSize: 4096, Offset: 17, CsumType: CsumXXHash, Compression: CompressionZstd}, 128},
		{Crc{CompressedSize: 8192, UncompressedSize: 8193, CsumType: CsumCRC32C, Compression: CompressionZstd}, 0},
	} {
		if got := c.crc.SmallestKind(); got != c.kind {
			t.Errorf("SmallestKind(%+v) = %d, want %d", c.crc, got, c.kind)
		}
		if c.kind == 0 {
			continue
		}
		want := c.crc
		want.Kind = c.kind
		b := c.crc.Append(nil)
		if got := decodeCrc(c.kind, b); got != want {
			t.Errorf("decodeCrc(%x) = %+v, want %+v", b, got, want)
		}
	}
	p := ExtentPtr{Crc: Crc{CompressedSize: 23, UncompressedSize: 94, Compression: CompressionLZ4}}
	if got := p.DiskSectors(54); got != 14 {
		t.Errorf("DiskSectors(54 of 94, stored in 23) = %d, want 14", got)
	}
	p.Crc.Compression = CompressionIncompressible
	if got := p.DiskSectors(54); got != 54 {
		t.Errorf("DiskSectors(incompressible) = %d, want 54", got)
	}
}

func TestRebalanceReconcile(t *testing.T) {
	for _, c := range []struct {
		w    uint64
		want Rebalance
	}{
		{0x0103000000000020, Rebalance{BackgroundTarget: 259}},
		{0x0000030000000020, Rebalance{BackgroundCompression: 3}},
		{0x01030f2580827e20, Rebalance{FromInode: 0x3f, PromoteTarget: 260, ErasureCode: true, DataChecksum: 5, DataReplicas: 2, BackgroundCompression: 15, BackgroundTarget: 259}}, // synthetic
	} {
		if got := DecodeRebalance(c.w); got != c.want {
			t.Errorf("DecodeRebalance(%#x) = %+v, want %+v", c.w, got, c.want)
		}
		if got := c.want.Word(); got != c.w {
			t.Errorf("%+v.Word() = %#x, want %#x", c.want, got, c.w)
		}
	}
	for _, c := range []struct {
		w    uint64
		want Reconcile
	}{
		{0x3090100080, Reconcile{Need: ReconcileBackgroundCompression, DataReplicas: 1, DataChecksum: 1, BackgroundCompression: 3}},
		{0xa0028080, Reconcile{Hipri: true, Need: ReconcileDataReplicas, DataReplicas: 2, DataChecksum: 1}},
		{0xa0038080, Reconcile{Hipri: true, Pending: true, Need: ReconcileDataReplicas, DataReplicas: 2, DataChecksum: 1}},
		{0xffff_ffff_ffff_fc80, Reconcile{PtrsMoving: 31, Hipri: true, Pending: true, Need: 31, FromInode: 63, DataReplicas: 7, DataChecksum: 15, ErasureCode: true,
			BackgroundCompression: 255, BackgroundTarget: 1023, PromoteTarget: 1023}}, // synthetic
	} {
		if got := DecodeReconcile(c.w); got != c.want {
			t.Errorf("DecodeReconcile(%#x) = %+v, want %+v", c.w, got, c.want)
		}
		if got := c.want.Word(); got != c.w {
			t.Errorf("%+v.Word() = %#x, want %#x", c.want, got, c.w)
		}
	}
}

func TestReflinkV(t *testing.T) {
	// Chapter 05 section 20.7.
	n, entries, err := DecodeReflinkV(unhex(t, "0200000000000000 feff0005ec4c4f0d 11c0010000000000 2000000000030000"))
	if err != nil || n != 2 || len(entries) != 24 {
		t.Errorf("DecodeReflinkV = %d, %x, %v", n, entries, err)
	}
	x, err := DecodeExtent(entries, 128, nil)
	if err != nil || len(x.Ptrs) != 1 || DecodeRebalance(x.Rebalance).BackgroundCompression != 3 {
		t.Errorf("DecodeExtent of its entries = %+v, %v", x, err)
	}
	v := unhex(t, "0200000000000000 68656c6c6f20696e6c696e6500000000")
	n, data, err := DecodeReflinkV(v)
	if err != nil || n != 2 || string(data[:12]) != "hello inline" {
		t.Errorf("DecodeReflinkV(inline) = %d, %q, %v", n, data, err)
	}
	if got := AppendReflinkV(nil, n, data); hex.EncodeToString(got) != hex.EncodeToString(v) {
		t.Errorf("AppendReflinkV = %x, want %x", got, v)
	}
}

func TestBtreePtr(t *testing.T) {
	// Chapter 02 section 4.1, the words after min_key.
	head := "0000000000000000 0807060504030201 0800 0100" + zeros(20)
	kv := KV{Key: Key{Type: KeyBtreePtrV2, Pos: Pos{Offset: 9}}, Val: unhex(t, head+"0168010000000000 808003a000000000 010000000000ff00 0013000000000000")}
	want := BtreePtr{V2: true, Seq: 0x0102030405060708, SectorsWritten: 8, RangeUpdated: true, Ptrs: []Ptr{{Offset: 5760}, {Dev: InvalidDev}}, Reconcile: 0xa0038080, ReconcileBp: 9}
	got, err := DecodeBtreePtr(kv)
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("DecodeBtreePtr = %v (-want +got):\n%s", err, d)
	}
	again, err := DecodeBtreePtr(KV{Key: kv.Key, Val: got.Append(nil)})
	if d := cmp.Diff(got, again); err != nil || d != "" {
		t.Errorf("DecodeBtreePtr of its encoding = %v (-want +got):\n%s", err, d)
	}
	for _, c := range []struct {
		typ    KeyType
		val    string
		reason string
	}{
		{KeyBtreePtrV2, zeros(32), "bkey_val_size_too_small"},
		{KeyBtreePtrV2, head, "extent_ptrs_no_ptrs"},
		{KeyBtreePtrV2, head + "7e3e0005c4ca54ac 0168010000000000", "btree_ptr_has_non_ptr"},
		{KeyBtreePtrV2, zeros(20) + "000000000900000000000000" + zeros(8) + "0168010000000000", "btree_ptr_v2_min_key_bad"},
		{KeyExtent, "0168010000000000", "bkey_invalid_type_for_btree"},
	} {
		if _, err := DecodeBtreePtr(KV{Key: Key{Type: c.typ, Pos: Pos{Offset: 9}}, Val: unhex(t, c.val)}); reason(err) != c.reason {
			t.Errorf("DecodeBtreePtr(%s, %s) = %v, want reason %s", c.typ, c.val, err, c.reason)
		}
	}
}

func TestStripe(t *testing.T) {
	s, err := DecodeStripe(unhex(t, "4000 00 05 01 09 05 00 0170010000000100 0170010000000200 0170010000000300 0174010000000400 0170010000000000"+
		"8c112ba5 4eece715 a0e594f5 73ef180a 11f7404f 4000 4000 4000 4000 0000 0000"))
	if err != nil {
		t.Fatal(err)
	}
	if got := s.BlockCsum(2, 0); got.Lo != 0xf594e5a0 || s.Columns() != 1 {
		t.Errorf("BlockCsum(2, 0) = %#x of %d columns", got, s.Columns())
	}
	for _, c := range [][2]int{{-1, 0}, {5, 0}, {0, 1}, {0, -1}} {
		if got := s.BlockCsum(c[0], c[1]); got != (Csum{}) {
			t.Errorf("BlockCsum(%d, %d) = %#x, want none", c[0], c[1], got)
		}
	}
	if s.BlockSectors(3) != 64 || s.BlockSectors(4) != 0 || s.BlockSectors(9) != 0 || s.NrData() != 4 {
		t.Errorf("BlockSectors(3, 4, 9) = %d, %d, %d, NrData = %d", s.BlockSectors(3), s.BlockSectors(4), s.BlockSectors(9), s.NrData())
	}
	in := ExtentPtr{Ptr: Ptr{Dev: 2, Offset: 5888 + 63}, HasStripe: true, Stripe: StripePtr{Block: 1, Redundancy: 1, Index: 1}}
	if !s.Matches(in) {
		t.Errorf("Matches(%+v) = false, want true", in)
	}
	gone := in
	gone.Dev = InvalidDev
	if !s.Matches(gone) {
		t.Errorf("Matches(pointer to no device) = false, want true")
	}
	for name, change := range map[string]func(*ExtentPtr){
		"no stripe entry": func(p *ExtentPtr) { p.HasStripe = false },
		"another device":  func(p *ExtentPtr) { p.Dev = 3 },
		"another gen":     func(p *ExtentPtr) { p.Gen = 1 },
		"before":          func(p *ExtentPtr) { p.Offset = 5887 },
		"behind":          func(p *ExtentPtr) { p.Offset = 5888 + 64 },
		"a parity block":  func(p *ExtentPtr) { p.Stripe.Block = 4 },
	} {
		p := in
		change(&p)
		if s.Matches(p) {
			t.Errorf("Matches(%s) = true, want false", name)
		}
	}
	for _, c := range []struct{ val, reason string }{
		{"4000", "bkey_val_size_too_small"},
		{"0000000501090500", "stripe_sectors_zero"},
		{"40000005011f0500", "stripe_csum_granularity_bad"},
		{"4000000501090500", "stripe_val_size_bad"},
		{"4000000102090500" + zeros(64), "stripe_val_size_bad"},
		{"ffff00ff02000700" + zeros(64), "stripe_val_size_bad"},
		{"4000000501090900" + zeros(128), "stripe_val_size_bad"},
	} {
		if _, err := DecodeStripe(unhex(t, c.val)); reason(err) != c.reason {
			t.Errorf("DecodeStripe(%s) = %v, want reason %s", c.val, err, c.reason)
		}
	}
}
