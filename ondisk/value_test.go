package ondisk

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gobcachefs/gobcachefs/errs"
)

// unhex reads hex digits with any spaces and bars between.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	s = strings.NewReplacer(" ", "", "|", "", "\n", "", "\t", "").Replace(s)
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatalf("bad hex %q: %v", s, err)
	}
	return b
}

// zeros is n zero bytes in hex.
func zeros(n int) string { return strings.Repeat("00", n) }

func reason(err error) string {
	var e *errs.Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

func TestVarint(t *testing.T) {
	// Chapter 04 section 1.3.
	for _, c := range []struct {
		v   uint64
		enc string
	}{
		{0, "00"}, {1, "02"}, {2, "04"}, {16, "20"}, {127, "fe"}, {128, "0102"}, {4096, "0140"}, {1073741826, "4f00000008"},
		{1<<56 - 1, "7fffffffffffffff"}, {1 << 56, "ff0000000000000001"}, {^uint64(0), "ffffffffffffffffff"}, {17632469978552203978, "ffcafa5750061eb3f4"},
	} {
		enc := AppendVarint(nil, c.v)
		if got := hex.EncodeToString(enc); got != c.enc {
			t.Errorf("AppendVarint(%d) = %s, want %s", c.v, got, c.enc)
		}
		if v, n := Varint(append(enc, 0xaa)); v != c.v || n != len(enc) {
			t.Errorf("Varint(%x) = %d, %d, want %d, %d", enc, v, n, c.v, len(enc))
		}
		for n := range enc {
			if _, m := Varint(enc[:n]); m != 0 {
				t.Errorf("Varint(%x) takes %d bytes, want 0", enc[:n], m)
			}
		}
	}
}

func TestOldVarint(t *testing.T) {
	// Synthetic: the encoding of section 1.4, for v1 inodes.
	for _, c := range []struct {
		enc    string
		hi, lo uint64
		n      int
	}{
		{"80", 0, 0, 1}, {"ff", 0, 127, 1}, {"4001", 0, 1, 2}, {"7fff", 0, 0x3fff, 2}, {"200000", 0, 0, 3}, {"3f0102", 0, 0x1f0102, 3},
		{"1fffffff", 0, 0x0fffffff, 4}, {"0f0102030405", 0, 0x070102030405, 6}, {"0701020304050607", 0, 0x0301020304050607, 8},
		{"03ff0102030405060708", 1<<8 | 0xff, 0x0102030405060708, 10}, {"0100000000aabbccddeeff0102", 0, 0xaabbccddeeff0102, 13},
		{"00", 0, 0, 0}, {"40", 0, 0, 0}, {"", 0, 0, 0},
	} {
		b := unhex(t, c.enc)
		hi, lo, n := oldVarint(b)
		if hi != c.hi || lo != c.lo || n != c.n {
			t.Errorf("oldVarint(%s) = %#x, %#x, %d, want %#x, %#x, %d", c.enc, hi, lo, n, c.hi, c.lo, c.n)
		}
	}
}

func TestTimes(t *testing.T) {
	const base = 1767225600123456789 // 2026-01-01
	for _, c := range []struct {
		v     int64
		prec  uint32
		sec   int64
		nsec  uint32
		exact bool
	}{
		{0, 1, 1767225600, 123456789, true},
		{-814274095157347638, 1, 952951504, 966109151, true},
		{-1423998, 1, 1767225600, 122032791, true},
		{-1767225600123456789, 1, 0, 0, true},
		{-1767225600123456790, 1, -1, 999999999, true},
		{5, 1000, 1767225600, 123461000, true},
		{1, 7, 1767225600, 123456790, true}, // no divisor of a second: nanoseconds
	} {
		sec, nsec := TimeToUnix(c.v, base, c.prec)
		if sec != c.sec || nsec != c.nsec {
			t.Errorf("TimeToUnix(%d, precision %d) = %d.%09d, want %d.%09d", c.v, c.prec, sec, nsec, c.sec, c.nsec)
		}
		if v := TimeFromUnix(sec, nsec, base, c.prec); v != c.v {
			t.Errorf("TimeFromUnix(%d, %d, precision %d) = %d, want %d", sec, nsec, c.prec, v, c.v)
		}
	}
}

// TestValues decodes and encodes the examples of the chapters.
func TestValues(t *testing.T) {
	pos := func(i, o uint64, s uint32) Pos { return Pos{Inode: i, Offset: o, Snapshot: s} }
	// value gives decode and encode of one type in one form.
	type codec struct {
		decode func(KV) (any, error)
		encode func(any) []byte
	}
	inode := codec{func(kv KV) (any, error) { v, err := DecodeInode(kv); return v, err }, func(v any) []byte { i := v.(Inode); return i.Append(nil) }}
	dirent := codec{func(kv KV) (any, error) { v, err := DecodeDirent(kv); return v, err }, func(v any) []byte { return v.(Dirent).Append(nil) }}
	xattr := codec{func(kv KV) (any, error) { v, err := DecodeXattr(kv); return v, err }, func(v any) []byte { return v.(Xattr).Append(nil) }}
	subvol := codec{func(kv KV) (any, error) { v, err := DecodeSubvolume(kv.Val); return v, err }, func(v any) []byte { return v.(Subvolume).Append(nil) }}
	snap := codec{func(kv KV) (any, error) { v, err := DecodeSnapshot(kv.Val); return v, err }, func(v any) []byte { return v.(Snapshot).Append(nil) }}
	quota := codec{func(kv KV) (any, error) { v, err := DecodeQuota(kv.Val); return v, err }, func(v any) []byte { return v.(Quota).Append(nil) }}
	cursor := codec{func(kv KV) (any, error) { v, err := DecodeInodeAllocCursor(kv.Val); return v, err }, func(v any) []byte { return v.(InodeAllocCursor).Append(nil) }}
	reflinkP := codec{func(kv KV) (any, error) { v, err := DecodeReflinkP(kv.Val); return v, err }, func(v any) []byte { return v.(ReflinkP).Append(nil) }}
	reservation := codec{func(kv KV) (any, error) { v, err := DecodeReservation(kv.Val); return v, err }, func(v any) []byte { return v.(Reservation).Append(nil) }}
	btreePtr := codec{func(kv KV) (any, error) { v, err := DecodeBtreePtr(kv); return v, err }, func(v any) []byte { return v.(BtreePtr).Append(nil) }}
	alloc := codec{func(kv KV) (any, error) { v, err := DecodeAlloc(kv); return v, err }, func(v any) []byte { return v.(Alloc).Append(nil, Version1_39) }}
	bp := func(ver Version) codec {
		return codec{func(kv KV) (any, error) { v, err := DecodeBackpointer(kv.Val, ver); return v, err }, func(v any) []byte { return v.(Backpointer).Append(nil, ver) }}
	}
	stripe := codec{func(kv KV) (any, error) { v, err := DecodeStripe(kv.Val); return v, err }, func(v any) []byte { s := v.(Stripe); return s.Append(nil) }}

	dev := func(d uint8, sector uint64) Ptr { return Ptr{Dev: d, Offset: sector} }
	crc32c := func(b ...uint32) (c []Csum) {
		for _, v := range b {
			c = append(c, Csum{Lo: uint64(v)})
		}
		return c
	}
	for _, c := range []struct {
		name string
		codec
		kv   KV
		val  string
		want any
	}{
		{"root inode (04 1.4)", inode, KV{Key: Key{Type: KeyInodeV3, Pos: pos(0, 4096, ^uint32(0))}}, `
			1b00000000000000 0227600112de80a6 00000016d31e0400` + zeros(24) + `
			2f6f2484b100 2f3d30299400 2f3d30299400 cbffc100 0000040000 00000000000000000000 000002`,
			Inode{JournalSeq: 27, HashSeed: 0xa680de1201602702, Mode: 0o40755, Atime: 23825818489, Ctime: 19885818345, Mtime: 19885818345, Otime: 1589241, Nlink: 2, Subvol: 1}},
		{"inode with all fields (synthetic)", inode, KV{Key: Key{Type: KeyInodeV3}}, hex.EncodeToString(fullInode.Append(nil)), *fullInode},
		{"plain dirent (04 2.1)", dirent, KV{Key: Key{Type: KeyDirent}}, "0610000000000000 08 663372656e616d6564" + zeros(6), Dirent{Type: DTRegular, Inum: 4102, Name: []byte("f3renamed")}},
		{"dirent that fills its value (synthetic)", dirent, KV{Key: Key{Type: KeyDirent}}, "0610000000000000 08 61626364656667", Dirent{Type: DTRegular, Inum: 4102, Name: []byte("abcdefg")}},
		{"subvolume dirent (04 2.1)", dirent, KV{Key: Key{Type: KeyDirent}}, "0200000001000000 10 73763100000000", Dirent{Type: DTSubvol, ChildSubvol: 2, ParentSubvol: 1, Name: []byte("sv1")}},
		{"casefolded dirent (04 2.1)", dirent, KV{Key: Key{Type: KeyDirent}}, "0200008000000000 84 0000 0300 0300 446972 646972 000000",
			Dirent{Type: DTDir, Inum: 0x80000002, Casefold: true, Name: []byte("Dir"), CfName: []byte("dir")}},
		{"xattr (04 7)", xattr, KV{Key: Key{Type: KeyXattr}}, "00030300 666f6f 626172" + zeros(6), Xattr{Type: XattrUser, Name: []byte("foo"), Value: []byte("bar")}},
		{"subvolume of 1.13 (04 10.1)", subvol, KV{}, "02000000 fdffffff 1a10000000000000 02000000 01000000 4477abcf12000000" + zeros(8),
			Subvolume{Flags: SubvolSnap, Snapshot: 4294967293, Inode: 4122, CreationParent: 2, FSPathParent: 1, Otime: 0x12cfab7744}},
		{"subvolume of 1.39 (04 10.1)", subvol, KV{}, "00000000 ffffffff 0010000000000000 00000000 00000000" + zeros(16) + "7e44d54a 00000000",
			Subvolume{Snapshot: ^uint32(0), Inode: 4096, State: SubvolStateLive}},
		{"snapshot (04 10.2)", snap, KV{}, "00000000 feffffff fbffffff faffffff 00000000 02000000 01000000 feffffff feffffff feffffff 4477abcf12000000" + zeros(8),
			Snapshot{Parent: 4294967294, Children: [2]uint32{4294967291, 4294967290}, Tree: 2, Depth: 1, Skip: [3]uint32{4294967294, 4294967294, 4294967294}, Btime: 0x12cfab7744}},
		{"quota (04 15)", quota, KV{}, "c800000000000000 9001000000000000 0a00000000000000 1400000000000000", Quota{Space: QuotaLimits{200, 400}, Inodes: QuotaLimits{10, 20}}},
		{"inode cursor (04 1.9)", cursor, KV{}, "0100000000000000 0600008000000000", InodeAllocCursor{Bits: 1, Idx: 0x80000006}},
		{"reflink_p (05 3.4)", reflinkP, KV{}, "2800000000000000 28000000 00000000", ReflinkP{Idx: 40, FrontPad: 40}},
		{"reflink_p (05 20.7)", reflinkP, KV{}, "0000000000000000 00000000 68000000", ReflinkP{BackPad: 104}},
		{"reflink_p with flags (synthetic)", reflinkP, KV{}, "2800000000000003 00000000 00000000", ReflinkP{Idx: 40, Error: true, MayUpdateOptions: true}},
		{"reservation (05 3.2)", reservation, KV{}, "0000000001000000", Reservation{NrReplicas: 1}},
		{"root pointer (02 13.1)", btreePtr, KV{Key: Key{Type: KeyBtreePtrV2, Pos: SPosMax}}, "0000000000000000 23741b590b3f98fc 2800 0000" + zeros(20) + "01e8050000000000",
			BtreePtr{V2: true, Seq: 0xfc983f0b591b7423, SectorsWritten: 40, Ptrs: []Ptr{dev(0, 24192)}}},
		{"btree_ptr (synthetic)", btreePtr, KV{Key: Key{Type: KeyBtreePtr, Pos: SPosMax}}, "01e8050000000000 01e8050000000100", BtreePtr{Ptrs: []Ptr{dev(0, 24192), dev(1, 24192)}}},
		{"alloc_v4, cached (06 24.1)", alloc, KV{Key: Key{Type: KeyAllocV4}},
			"0d00000000000000 23000000 00 00 05 00 00000000 00010000 0100000000000000 4c00000000000000 00000000 00000000 0000000000000000 00000000 00000000",
			Alloc{JournalSeq: 13, NeedDiscard: true, NeedIncGen: true, DataType: DataCached, CachedSectors: 256, IOTime: [2]uint64{1, 76}, BackpointersStart: 8}},
		{"alloc_v4, stripe (06 24.1)", alloc, KV{Key: Key{Type: KeyAllocV4}},
			"0d00000000000000 23000000 00 00 07 00 00000000 00000000" + zeros(16) + "01000000 00000000 0000000000000000 40000000 00000000",
			Alloc{JournalSeq: 13, NeedDiscard: true, NeedIncGen: true, DataType: DataStripe, Stripe: 1, StripeSectors: 64, BackpointersStart: 8}},
		{"backpointer of 1.13 (06 24.3)", bp(Version1_13), KV{}, "0d 01 03 0000000000 00010000 ffffffff ffffffffffffffff ffffffffffffffff",
			Backpointer{Btree: BtreeBackpointers, Level: 1, DataType: DataBtree, BucketLen: 256, Pos: SPosMax}},
		{"backpointer of 1.13 with an offset (synthetic)", bp(Version1_13), KV{}, "00 00 04 0504030201 08000000 ffffffff 0800000000000000 0010000000000000",
			Backpointer{DataType: DataUser, BucketOffset: 0x0102030405, BucketLen: 8, Pos: pos(4096, 8, ^uint32(0))}},
		{"backpointer of 1.39 (06 24.3)", bp(Version1_39), KV{}, "07 00 05 00 00000000 80000000 00000000 8000000000000000 0000000000000000",
			Backpointer{Btree: BtreeReflink, DataType: DataCached, BucketLen: 128, Pos: pos(0, 128, 0)}},
		{"backpointer into a stripe (06 24.3)", bp(Version1_39), KV{}, "00 00 07 05 04000000 24000000 ffffffff 0200000000000000 0200008000000000",
			Backpointer{DataType: DataStripe, BucketGen: 5, Flags: BackpointerErasureCoded, BucketLen: 36, Pos: pos(2147483650, 2, ^uint32(0))}},
		{"stripe (05 15.1)", stripe, KV{}, `4000 00 05 01 09 05 00 0170010000000100 0170010000000200 0170010000000300 0174010000000400 0170010000000000
			8c112ba5 4eece715 a0e594f5 73ef180a 11f7404f 4000 4000 4000 4000 0000 0000`,
			Stripe{Sectors: 64, NrBlocks: 5, NrRedundant: 1, CsumGranularityBits: 9, CsumType: CsumCRC32C,
				Ptrs:  []Ptr{dev(1, 5888), dev(2, 5888), dev(3, 5888), dev(4, 5952), dev(0, 5888)},
				Csums: crc32c(0xa52b118c, 0x15e7ec4e, 0xf594e5a0, 0x0a18ef73, 0x4f40f711), Live: []uint16{64, 64, 64, 64, 0}}},
		{"stripe with two checksums a block (synthetic)", stripe, KV{}, `0004 32 03 01 09 03 02` + strings.Repeat("0170010000000000", 3) + strings.Repeat("01020304050607080910", 6) + "0004 0100 0000" + zeros(6),
			Stripe{Sectors: 1024, Algorithm: 2, NeedsReconcile: true, CanWiden: 1, NrBlocks: 3, NrRedundant: 1, CsumGranularityBits: 9, CsumType: CsumPoly1305_80, DiskLabel: 2,
				Ptrs: []Ptr{dev(0, 5888), dev(0, 5888), dev(0, 5888)}, Csums: repeat(Csum{Lo: 0x0807060504030201, Hi: 0x1009}, 6), Live: []uint16{1024, 1, 0}}},
	} {
		c.kv.Val = unhex(t, c.val)
		got, err := c.decode(c.kv)
		if err != nil {
			t.Errorf("%s: decode: %v", c.name, err)
			continue
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s: decode (-want +got):\n%s", c.name, d)
		}
		if enc := c.encode(got); hex.EncodeToString(enc) != hex.EncodeToString(c.kv.Val) {
			t.Errorf("%s: encode = %x, want %x", c.name, enc, c.kv.Val)
		}
	}
}

func repeat[T any](v T, n int) []T {
	s := make([]T, n)
	for i := range s {
		s[i] = v
	}
	return s
}

var fullInode = &Inode{
	JournalSeq: 1, HashSeed: 2, Flags: InodeUnlinked | InodeHasInodeOpts | 1<<52, Sectors: 3, Size: 1 << 40, Version: 5, Mode: 0o100644, StrHash: 3,
	Atime: -1, Ctime: 1 << 60, Mtime: -1 << 40, Otime: 77, UID: ^uint32(0), GID: 1000, Nlink: 7, Generation: 9, Dev: 10,
	DataChecksum: 2, Compression: 4, Project: 78, BackgroundCompression: 0xf4, DataReplicas: 3, PromoteTarget: 260, ForegroundTarget: 261, BackgroundTarget: 262,
	ErasureCode: 2, FieldsSet: 0xfff, Dir: 4096, DirOffset: 1<<63 - 1, Subvol: 3, ParentSubvol: 1, Nocow: 2, Depth: 12, Inodes32bit: 1, Casefold: 2, UnusedECMaxDataBlocks: 1,
}

func TestInodeOldForms(t *testing.T) {
	want := Inode{HashSeed: 0x0807060504030201, Mode: 0o100644, StrHash: 2, Flags: InodeNoatime, Atime: 1, Ctime: 2, Mtime: 3, Size: 4096, Sectors: 8, UID: 127, Dir: 300, ParentSubvol: 5}
	// fields in order: four times, size, sectors, uid, gid, nlink, generation,
	// dev, 10 options, dir, dir_offset, subvol, parent_subvol.
	newFields := "0200 0400 0600 0000 0140 10 fe 00000000 00000000000000000000 b104 00 00 0a"
	oldFields := "81 82 83 80 5000 88 ff 80808080 80808080808080808080 412c 80 80 85"
	for _, c := range []struct {
		name string
		kt   KeyType
		val  string
	}{
		{"v1, old varints (synthetic)", KeyInode, "0102030405060708 10002019 a481" + oldFields},
		{"v1, new varints (synthetic)", KeyInode, "0102030405060708 10002099 a481" + newFields},
		{"v2 (synthetic)", KeyInodeV2, "6300000000000000 0102030405060708 1000201900000000 a481" + newFields},
	} {
		v := pad8(unhex(t, c.val), 0)
		w := want
		if c.kt == KeyInodeV2 {
			w.JournalSeq = 99
		}
		got, err := DecodeInode(KV{Key: Key{Type: c.kt}, Val: v})
		if err != nil {
			t.Errorf("%s: DecodeInode: %v", c.name, err)
		}
		if d := cmp.Diff(w, got); d != "" {
			t.Errorf("%s: DecodeInode (-want +got):\n%s", c.name, d)
		}
	}
}

func TestInodeDamage(t *testing.T) {
	good := fullInode.Append(nil)
	kv := func(change func([]byte) []byte) KV {
		return KV{Key: Key{Type: KeyInodeV3, Pos: Pos{Offset: 4096, Snapshot: 1}}, Val: change(append([]byte(nil), good...))}
	}
	// A field that is cut off: it and what follows are zero, what was before stays.
	got, err := DecodeInode(kv(func(b []byte) []byte { return b[:72] }))
	if reason(err) != "inode_unpack_error" {
		t.Errorf("DecodeInode(cut) = %v, want inode_unpack_error", err)
	}
	if got.Atime != fullInode.Atime || got.Casefold != 0 || got.Size != fullInode.Size {
		t.Errorf("DecodeInode(cut) = %+v, want the fields before the cut only", got)
	}
	// More fields than are known.
	if got, err = DecodeInode(kv(func(b []byte) []byte { b[19] = b[19]&0x80 | 40; return append(b, zeros8(16)...) })); err != nil || got != *fullInode {
		t.Errorf("DecodeInode(40 fields) = %+v, %v, want %+v", got, err, *fullInode)
	}
	// The upper half of a time.
	if _, err = DecodeInode(kv(func(b []byte) []byte { b[48+9] = 2; return b })); reason(err) != "inode_unpack_error" {
		t.Errorf("DecodeInode(time of 96 bits) = %v, want inode_unpack_error", err)
	}
}

func zeros8(n int) []byte { return make([]byte, n) }

func TestLinks(t *testing.T) {
	for _, c := range []struct {
		mode uint16
		n    uint32
	}{{0o100644, 0}, {0o100644, 1}, {0o100644, 5}, {0o40755, 0}, {0o40755, 2}, {0o40755, 9}} {
		i := Inode{Mode: c.mode, Nlink: 77}
		if i.SetLinks(c.n); i.Links() != c.n || i.Unlinked() != (c.n == 0) {
			t.Errorf("mode %o: SetLinks(%d): Links() = %d, Unlinked() = %v", c.mode, c.n, i.Links(), i.Unlinked())
		}
	}
	for _, c := range []struct{ dev, major, minor uint32 }{{0x80012c, 8, 300}, {0x100003, 1, 3}, {259, 1, 3}, {0, 0, 0}, {0x10082c, 1, 0x82c}} {
		i := Inode{Dev: c.dev}
		if ma, mi := i.DeviceNumber(); ma != c.major || mi != c.minor {
			t.Errorf("DeviceNumber(%#x) = %d:%d, want %d:%d", c.dev, ma, mi, c.major, c.minor)
		}
	}
}

func TestInodeOpts(t *testing.T) {
	var i Inode
	for id := 0; id < NrInodeOpts; id++ {
		i.SetOpt(id, uint64(id)+1)
	}
	for id := 0; id < NrInodeOpts; id++ {
		if got := i.Opt(id); got != uint64(id)+1 {
			t.Errorf("Opt(%d) = %d, want %d", id, got, id+1)
		}
	}
	if !i.HasOpts() || (&Inode{FieldsSet: 3}).HasOpts() {
		t.Errorf("HasOpts() = %v with options, %v without", i.HasOpts(), (&Inode{FieldsSet: 3}).HasOpts())
	}
}

func TestACL(t *testing.T) {
	// Chapter 04 section 7.1.
	v := unhex(t, "01002400 | 01000000 | 01000600 | 02000600e8030000 | 04000400 | 0800040064000000 | 10000600 | 20000400")
	x, err := DecodeXattr(KV{Key: Key{Type: KeyXattr}, Val: v})
	if err != nil || x.FullName() != "system.posix_acl_access" {
		t.Fatalf("DecodeXattr = %+v, %v", x, err)
	}
	a, err := DecodeACL(x.Value)
	want := []ACLEntry{{ACLUserObj, 6, 0}, {ACLUser, 6, 1000}, {ACLGroupObj, 4, 0}, {ACLGroup, 4, 100}, {ACLMask, 6, 0}, {ACLOther, 4, 0}}
	if d := cmp.Diff(want, a); err != nil || d != "" {
		t.Errorf("DecodeACL = %v (-want +got):\n%s", err, d)
	}
	if got := (Xattr{Type: XattrACLAccess, Value: AppendACL(nil, a)}).Append(nil); hex.EncodeToString(got) != hex.EncodeToString(v) {
		t.Errorf("encoded ACL = %x, want %x", got, v)
	}
	for _, bad := range []string{"", "02000000", "0100000003000000", "01000000 02000600", "01000000 0100"} {
		if _, err := DecodeACL(unhex(t, bad)); err == nil {
			t.Errorf("DecodeACL(%s) succeeds, want an error", bad)
		}
	}
}

func TestXattrNames(t *testing.T) {
	for _, c := range []struct {
		name   string
		typ    uint8
		stored string
		ok     bool
	}{
		{"user.foo", XattrUser, "foo", true}, {"trusted.a.b", XattrTrusted, "a.b", true}, {"security.selinux", XattrSecurity, "selinux", true},
		{"system.posix_acl_access", XattrACLAccess, "", true}, {"system.posix_acl_default", XattrACLDefault, "", true},
		{"user.", 0, "", false}, {"system.posix_acl_accessX", 0, "", false}, {"foo", 0, "", false}, {"btrfs.x", 0, "", false},
	} {
		typ, stored, ok := ParseXattrName(c.name)
		if typ != c.typ || stored != c.stored || ok != c.ok {
			t.Errorf("ParseXattrName(%q) = %d, %q, %v, want %d, %q, %v", c.name, typ, stored, ok, c.typ, c.stored, c.ok)
		}
		if ok {
			if got := (Xattr{Type: typ, Name: []byte(stored)}).FullName(); got != c.name {
				t.Errorf("FullName of %q = %q", c.name, got)
			}
		}
	}
}
