package ondisk

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/csum"
)

// sbFixture is what testdata has of one device.
type sbFixture struct {
	name   string
	layout []byte
	copies [][]byte
}

func loadSBFixture(tb testing.TB, name string) sbFixture {
	tb.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".sb.gz"))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		tb.Fatal(err)
	}
	fx := sbFixture{name: name, layout: b[:SBLayoutSize]}
	for b = b[SBLayoutSize:]; len(b) > 0; {
		n, err := SuperblockBytes(b)
		if err != nil {
			tb.Fatalf("%s: SuperblockBytes: %v", name, err)
		}
		fx.copies = append(fx.copies, b[:n])
		b = b[(n+511)&^511:]
	}
	return fx
}

func loadSBFixtures(tb testing.TB) []sbFixture {
	tb.Helper()
	l, err := filepath.Glob("testdata/*.sb.gz")
	if err != nil || len(l) < 50 {
		tb.Fatalf("%d fixtures, %v", len(l), err)
	}
	var fx []sbFixture
	for _, f := range l {
		fx = append(fx, loadSBFixture(tb, strings.TrimSuffix(filepath.Base(f), ".sb.gz")))
	}
	return fx
}

func mustDecode(tb testing.TB, b []byte) *Superblock {
	tb.Helper()
	sb, err := DecodeSuperblock(b)
	if err != nil {
		tb.Fatalf("DecodeSuperblock: %v", err)
	}
	return sb
}

func mustFixture(tb testing.TB, name string) *Superblock {
	tb.Helper()
	return mustDecode(tb, loadSBFixture(tb, name).copies[0])
}

// restamp sets the checksum that the type in the flags asks for.
func restamp(b []byte) {
	t := uint8(binary.LittleEndian.Uint64(b[144:]) >> 2 & 63)
	n, err := SuperblockBytes(b)
	if err != nil || n > len(b) {
		return
	}
	if lo, ok := csum.Sum(t, b[16:n]); ok {
		binary.LittleEndian.PutUint64(b, lo)
		binary.LittleEndian.PutUint64(b[8:], 0)
	}
}

// compareSB compares what callers see and the bits kept for Append.
var compareSB = cmp.AllowUnexported(Superblock{}, SBLayout{})

func TestSuperblockRoundTrip(t *testing.T) {
	for _, fx := range loadSBFixtures(t) {
		if len(fx.copies) == 0 {
			t.Errorf("%s: no copies", fx.name)
		}
		var offsets []uint64
		for i, b := range fx.copies {
			sb := mustDecode(t, b)
			offsets = append(offsets, sb.Offset)
			if err := sb.Validate(sb.Offset); err != nil {
				t.Errorf("%s copy %d: Validate = %v, want nil", fx.name, i, err)
			}
			if got := sb.Append(nil); !bytes.Equal(got, b) {
				t.Errorf("%s copy %d: Append differs from what was read:\n%s", fx.name, i, cmp.Diff(b, got))
			}
			if got := sb.Clone(); !cmp.Equal(got, sb, compareSB) {
				t.Errorf("%s copy %d: Clone differs", fx.name, i)
			}
			if got := sb.Layout.Append(nil); !bytes.Equal(got, fx.layout) {
				t.Errorf("%s copy %d: layout differs from that of sector 7", fx.name, i)
			}
		}
		if l, err := DecodeSBLayout(fx.layout); err != nil || !cmp.Equal(l.Offsets, offsets) {
			t.Errorf("%s: DecodeSBLayout = %v, %v, want offsets %v", fx.name, l.Offsets, err, offsets)
		}
	}
}

// Rewriting every field from its decoded form must change nothing: this is what
// every superblock update does.
func TestSuperblockFieldsRoundTrip(t *testing.T) {
	for _, fx := range loadSBFixtures(t) {
		b := fx.copies[0]
		sb := mustDecode(t, b)
		check := func(err error) {
			t.Helper()
			if err != nil {
				t.Errorf("%s: %v", fx.name, err)
			}
		}
		ms, err := sb.Members()
		check(err)
		check(sb.SetMembers(ms, 0))
		c, err := sb.Crypt()
		check(err)
		sb.SetCrypt(c)
		r, err := sb.Replicas()
		check(err)
		sb.SetReplicas(r)
		g, err := sb.DiskGroups()
		check(err)
		sb.SetDiskGroups(g)
		cl, err := sb.CleanSection()
		check(err)
		sb.SetCleanSection(cl)
		j, err := sb.JournalBuckets()
		check(err)
		sb.SetJournalBuckets(j)
		bl, err := sb.Blacklist()
		check(err)
		sb.SetBlacklist(bl)
		e, err := sb.Ext()
		check(err)
		if e.Size > 0 {
			sb.SetExt(e, 0)
		}
		q, err := sb.Quota()
		check(err)
		sb.SetQuota(q)
		d, err := sb.Downgrade()
		check(err)
		sb.SetDowngrade(d)
		if sb.Field(FieldErrorsV2) != nil {
			l, err := sb.ErrorsV2()
			check(err)
			sb.SetErrors(l, true)
		} else if sb.Field(FieldErrors) != nil {
			l, err := sb.ErrorsV1()
			check(err)
			sb.SetErrors(l, false)
		}
		if l := sb.Counters(); len(l) > 0 {
			sb.SetCounters(l)
		}
		if l := sb.RecoveryPasses(); len(l) > 0 {
			sb.SetRecoveryPasses(l)
		}
		if sb.Field(FieldExtentTypeU64s) != nil {
			sb.SetExtentTypeU64s()
		}
		for _, o := range Options() {
			if o.Stored() && o.InVersion(sb.Version) && !(o.store.where == storeExt && !e.HasFlags0()) {
				if v := o.Get(sb); v != o.Effective(sb) {
					continue // never stored: Set would refuse 0
				} else if err := o.Set(sb, v); err != nil {
					t.Errorf("%s: Set(%s, %d) = %v", fx.name, o.Name, v, err)
				}
			}
		}
		if got := sb.Append(nil); !bytes.Equal(got, b) {
			t.Errorf("%s: fields written back differ: %s", fx.name, cmp.Diff(mustDecode(t, b), mustDecode(t, got), compareSB))
		}
	}
}

func TestSuperblockValues(t *testing.T) {
	sb := mustFixture(t, "plain")
	got := []any{sb.Version, sb.VersionMin, sb.UserUUID.String(), sb.UUID.String(), sb.Seq, sb.BlockSize, sb.NodeSectors(), sb.EncodedExtentMax(),
		sb.NrDevices, sb.Clean(), sb.Initialized(), sb.Encrypted(), sb.CsumType(), sb.ExtentBPShift(), sb.VersionUpgradeComplete(), sb.VersionIncompat(),
		sb.MetadataChecksum(), sb.StrHashType(), sb.Inodes32Bit(), sb.CasefoldDefault(), sb.HasErrors(), sb.MetaCsumType(), sb.Bytes()}
	want := []any{Version1_13, Version1_13, "44585b9b-3736-4ba3-ae29-9088b6052b4f", "ad4c8072-6d3b-4e20-9bac-4c8b1a2d05de", uint64(28), uint16(8), 256, 128,
		uint8(1), true, true, false, CsumCRC32CNonzero, 10, Version1_13, Version(0),
		CsumOptCRC32C, 3, true, false, false, CsumCRC32CNonzero, 4480}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("plain (-want +got):\n%s", d)
	}
	sb = mustFixture(t, "v39plain")
	got = []any{sb.Version, sb.VersionIncompat(), sb.VersionIncompatAllowed(), sb.ExtentBPShift(), sb.IncompatAllowed(Version1_33), sb.EncodedExtentMax(), sb.ShardInodeBits(), sb.Field(FieldMembersV1) == nil}
	want = []any{Version1_39, Version1_0 + 36, Version1_39, 16, true, 512, 1, true}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("v39plain (-want +got):\n%s", d)
	}
	if sb := mustFixture(t, "v39enc"); !sb.Encrypted() || sb.MetaCsumType() != CsumPoly1305_128 {
		t.Errorf("v39enc: Encrypted = %v, MetaCsumType = %v", sb.Encrypted(), sb.MetaCsumType())
	}
}

func TestSuperblockFieldValues(t *testing.T) {
	sb := mustFixture(t, "tiers.0")
	g, err := sb.DiskGroups()
	if err != nil {
		t.Fatal(err)
	}
	want := []DiskGroup{{Label: "ssd", DataAllowed: 31, Parent: -1}, {Label: "a", DataAllowed: 31, Parent: 0}, {Label: "hdd", DataAllowed: 31, Parent: -1}, {Label: "b", DataAllowed: 31, Parent: 2}}
	if d := cmp.Diff(want, g, cmpopts.IgnoreUnexported(DiskGroup{})); d != "" {
		t.Errorf("DiskGroups (-want +got):\n%s", d)
	}
	ms, err := sb.Members()
	if err != nil || len(ms) != 2 {
		t.Fatalf("Members = %d, %v, want 2", len(ms), err)
	}
	for i, label := range []string{"ssd.a", "hdd.b"} {
		if got := sb.GroupPath(ms[i].Group()); got != label {
			t.Errorf("label of member %d = %q, want %q", i, got, label)
		}
		if got, ok := sb.FindGroup(label); !ok || got != ms[i].Group() {
			t.Errorf("FindGroup(%q) = %d, %v, want %d", label, got, ok, ms[i].Group())
		}
	}
	o, _ := FindOption("background_target")
	if got := sb.TargetString(uint16(o.Get(sb))); got != "hdd" {
		t.Errorf("background_target = %q, want hdd", got)
	}
	if v, err := o.Parse("ssd", sb.ParseTarget); err != nil || v != uint64(GroupTarget(0)) {
		t.Errorf("Parse(ssd) = %d, %v, want %d", v, err, GroupTarget(0))
	}

	m := ms[0]
	if !m.Exists() || m.State() != MemberRW || m.Durability() != 1 || m.DataAllowed() != 0x1c || !m.FreespaceInitialized() || len(m.Raw) != MemberSize1_13 {
		t.Errorf("member 0 = %+v", m)
	}

	blk := mustFixture(t, "upc39plain")
	r, err := blk.Blacklist()
	if err != nil || len(r) == 0 || !blk.HasFeature(FeatureJournalSeqBlacklistV3) {
		t.Errorf("Blacklist = %v, %v, want ranges", r, err)
	}
	for _, x := range r {
		if !x.Contains(x.Start) || x.Contains(x.End) {
			t.Errorf("Contains is wrong for %v", x)
		}
	}

	repl := mustFixture(t, "replicas2.1")
	l, err := repl.Replicas()
	wantR := []ReplicasEntry{{DataJournal, 1, []uint8{0, 1}}, {DataBtree, 1, []uint8{0, 1}}, {DataUser, 1, []uint8{0, 1}}}
	sortR := cmpopts.SortSlices(func(a, b ReplicasEntry) bool { return a.DataType < b.DataType })
	if d := cmp.Diff(wantR, l, sortR); err != nil || d != "" {
		t.Errorf("Replicas: %v (-want +got):\n%s", err, d)
	}
	if j, err := sb.JournalBuckets(); err != nil || len(j) < 8 {
		t.Errorf("JournalBuckets = %v, %v, want 8 or more", j, err)
	}
	enc := mustFixture(t, "encrypted")
	c, err := enc.Crypt()
	if err != nil || c == nil || c.Plain() || c.KDFFlags != 0x40003000e {
		t.Errorf("Crypt = %+v, %v", c, err)
	}
	n, rr, p := c.ScryptParams()
	if n != 14 || rr != 3 || p != 4 {
		t.Errorf("ScryptParams = %d %d %d, want 14 3 4", n, rr, p)
	}
	d, err := mustFixture(t, "plain").Downgrade()
	if err != nil || len(d) != 3 || d[0].Version != Version1_9 || !cmp.Equal(d[0].PassList(), []RecoveryPass{PassCheckAllocations}) ||
		!cmp.Equal(d[0].Errors, []ErrorID{76, 77, 78, 68, 69, 70, 71, 72, 74, 73, 75, 80}) {
		t.Errorf("Downgrade = %+v, %v", d, err)
	}
	if got := mustFixture(t, "v39plain").ExtentTypeU64s(); !cmp.Equal(got, knownExtentTypeU64s) {
		t.Errorf("ExtentTypeU64s = %v, want %v", got, knownExtentTypeU64s)
	}
	if got := mustFixture(t, "plain").Counters(); len(got) != 79 {
		t.Errorf("%d counters, want 79", len(got))
	}
}

// Members of every version up to 1.39 keep what they have when a stride changes.
func TestSetMembersGrows(t *testing.T) {
	sb := mustFixture(t, "plain")
	ms, err := sb.Members()
	if err != nil {
		t.Fatal(err)
	}
	ms[0].FailureDomain = "rack 1"
	if err := sb.SetMembers(ms, MemberSize1_39); err != nil {
		t.Fatal(err)
	}
	sb.Seq++
	sb = mustDecode(t, sb.Append(nil))
	got, err := sb.Members()
	if err != nil {
		t.Fatal(err)
	}
	ignoreRaw := cmpopts.IgnoreFields(Member{}, "Raw")
	if d := cmp.Diff(ms, got, ignoreRaw); d != "" || sb.MemberStride() != MemberSize1_39 {
		t.Errorf("stride %d (-want +got):\n%s", sb.MemberStride(), d)
	}
	if err := sb.Validate(sb.Offset); err != nil {
		t.Errorf("Validate = %v", err)
	}
}

func TestGroups(t *testing.T) {
	sb := mustFixture(t, "plain")
	for i, c := range []struct {
		path  string
		index int
	}{{"hdd.a", 1}, {"ssd.x.y", 4}, {"hdd", 0}, {"ssd.x", 3}, {"hdd.a", 1}} {
		if got, err := sb.AddGroup(c.path); err != nil || got != c.index {
			t.Errorf("%d: AddGroup(%q) = %d, %v, want %d", i, c.path, got, err, c.index)
		}
	}
	// The bytes of chapter 01 section 5.6.
	var flags []uint64
	d := sb.Field(FieldDiskGroups)
	for ; len(d) > 0; d = d[48:] {
		flags = append(flags, binary.LittleEndian.Uint64(d[32:]))
	}
	if want := []uint64{0x3e, 0x7e, 0x3e, 0xfe, 0x13e}; !cmp.Equal(flags, want) {
		t.Errorf("flags = %x, want %x", flags, want)
	}
	if _, err := sb.AddGroup("a..b"); !errors.Is(err, errs.ErrUsage) {
		t.Errorf("AddGroup(a..b) = %v, want ErrUsage", err)
	}
	l, _ := sb.DiskGroups()
	l[3].Parent, l[4].Parent = 4, 3 // a loop
	sb.SetDiskGroups(l)
	if got := sb.GroupPath(4); strings.Count(got, ".") != 4 {
		t.Errorf("GroupPath of a loop = %q, want five components", got)
	}
}

func TestDecodeSuperblockRefuses(t *testing.T) {
	good := loadSBFixture(t, "plain").copies[0]
	le := binary.LittleEndian
	for _, c := range []struct {
		name   string
		change func(b []byte)
		stamp  bool
		kind   error
	}{
		{"magic", func(b []byte) { b[24]++ }, true, errs.ErrNotBcachefs},
		{"zeros", func(b []byte) { clear(b) }, false, errs.ErrNotBcachefs},
		{"checksum", func(b []byte) { b[300]++ }, false, errs.ErrChecksum},
		{"checksum high", func(b []byte) { b[8] = 1 }, false, errs.ErrChecksum},
		{"last byte", func(b []byte) { b[len(b)-1]++ }, false, errs.ErrChecksum},
		{"checksum type 3", func(b []byte) { b[144] = b[144]&3 | 3<<2 }, true, errs.ErrCorrupt},
		{"checksum type 63", func(b []byte) { b[144] |= 63 << 2 }, true, errs.ErrCorrupt},
		{"major 2", func(b []byte) { le.PutUint16(b[16:], 2<<10) }, true, errs.ErrVersion},
		{"version 8", func(b []byte) { le.PutUint16(b[16:], 8); le.PutUint16(b[18:], 8) }, true, errs.ErrVersion},
		{"min version 8", func(b []byte) { le.PutUint16(b[18:], 8) }, true, errs.ErrVersion},
		{"min version above version", func(b []byte) { le.PutUint16(b[18:], uint16(Version1_14)) }, true, errs.ErrCorrupt},
		{"too big", func(b []byte) { le.PutUint32(b[124:], 1<<20/8) }, false, errs.ErrCorrupt},
		{"huge", func(b []byte) { le.PutUint32(b[124:], 1<<32-1) }, false, errs.ErrCorrupt},
		{"longer than read", func(b []byte) { le.PutUint32(b[124:], 4480/8) }, false, errs.ErrCorrupt},
		{"layout copies", func(b []byte) { b[258] = 62 }, true, errs.ErrCorrupt},
		{"layout size", func(b []byte) { b[257] = 17 }, true, errs.ErrCorrupt},
		{"layout type", func(b []byte) { b[256] = 1 }, true, errs.ErrCorrupt},
		{"layout overlap", func(b []byte) { le.PutUint64(b[272:], 9) }, true, errs.ErrCorrupt},
		{"layout wraps", func(b []byte) { le.PutUint64(b[280:], 1<<64-1); le.PutUint64(b[272:], 1<<64-1) }, true, errs.ErrCorrupt},
		{"field of size 0", func(b []byte) { le.PutUint32(b[752:], 0) }, true, errs.ErrCorrupt},
		{"field past end", func(b []byte) { le.PutUint32(b[752:], 1<<32-1) }, true, errs.ErrCorrupt},
	} {
		b := bytes.Clone(good)
		c.change(b)
		if c.stamp {
			restamp(b)
		}
		if _, err := DecodeSuperblock(b); !errors.Is(err, c.kind) {
			t.Errorf("%s: DecodeSuperblock = %v, want %v", c.name, err, c.kind)
		}
	}
	for _, n := range []int{0, 1, 39, 40, 751, 752, len(good) - 1} {
		if _, err := DecodeSuperblock(good[:n]); !errors.Is(err, errs.ErrCorrupt) {
			t.Errorf("DecodeSuperblock of %d bytes = %v, want ErrCorrupt", n, err)
		}
	}
	var e *errs.Error
	b := bytes.Clone(good)
	b[300]++
	if _, err := DecodeSuperblock(b); !errors.As(err, &e) || e.Want == "" || e.Got == "" || strings.Contains(e.Want, e.Got) {
		t.Errorf("checksum error = %v, want both sums", err)
	}
}

func TestValidateRefuses(t *testing.T) {
	members := func(f func(m *Member)) func(*Superblock) {
		return func(sb *Superblock) {
			ms, err := sb.Members()
			if err != nil {
				t.Fatal(err)
			}
			f(&ms[0])
			if err := sb.SetMembers(ms, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name   string
		change func(sb *Superblock)
		kind   error
		text   string
	}{
		{"feature 24", func(sb *Superblock) { sb.Features[0] |= 1<<24 | 1<<63 }, errs.ErrFeature, "bit 24, bit 63"},
		{"feature 64", func(sb *Superblock) { sb.Features[1] = 1 }, errs.ErrFeature, "bit 64"},
		{"incompat 1.40", func(sb *Superblock) { sb.SetVersionIncompat(Version1_0 + 40) }, errs.ErrVersion, "1.40"},
		{"extent overwrite", func(sb *Superblock) { sb.SetFeature(FeatureNewExtentOverwrite, false) }, errs.ErrVersion, "new_extent_overwrite"},
		{"min version", func(sb *Superblock) { sb.VersionMin = 13 }, errs.ErrVersion, "0.13"},
		{"big endian", func(sb *Superblock) { sbBigEndian.put(sb, true) }, errs.ErrUnsupported, "big-endian"},
		{"encryption", func(sb *Superblock) { sb.SetEncryptionType(2) }, errs.ErrUnsupported, "encryption"},
		{"user uuid", func(sb *Superblock) { sb.UserUUID = UUID{} }, errs.ErrCorrupt, "user_uuid"},
		{"uuid", func(sb *Superblock) { sb.UUID = UUID{} }, errs.ErrCorrupt, "sb_uuid"},
		{"offset", func(sb *Superblock) { sb.Offset = 2056 }, errs.ErrCorrupt, "2056"},
		{"block size 0", func(sb *Superblock) { sb.BlockSize = 0 }, errs.ErrCorrupt, "block_size"},
		{"block size 3", func(sb *Superblock) { sb.BlockSize = 3 }, errs.ErrCorrupt, "block_size"},
		{"block size 128", func(sb *Superblock) { sb.BlockSize = 128 }, errs.ErrCorrupt, "block_size"},
		{"no devices", func(sb *Superblock) { sb.NrDevices = 0 }, errs.ErrCorrupt, "nr_devices"},
		{"dev_idx", func(sb *Superblock) { sb.DevIdx = 1 }, errs.ErrCorrupt, "dev_idx"},
		{"precision 0", func(sb *Superblock) { sb.TimePrecision = 0 }, errs.ErrCorrupt, "precision"},
		{"precision", func(sb *Superblock) { sb.TimePrecision = 1e9 + 1 }, errs.ErrCorrupt, "precision"},
		{"replicas 0", func(sb *Superblock) { sbBits{0, 48, 52}.set(sb, 0) }, errs.ErrCorrupt, "metadata_replicas: too small (min 1)"},
		{"replicas 5", func(sb *Superblock) { sbBits{0, 52, 56}.set(sb, 5) }, errs.ErrCorrupt, "data_replicas: too big (max 4)"},
		{"replicas required", func(sb *Superblock) { sb.SetReplicasRequired(0, 1) }, errs.ErrCorrupt, "metadata_replicas_required: too small (min 1)"},
		{"str_hash", func(sb *Superblock) { sbBits{1, 0, 4}.set(sb, 3) }, errs.ErrCorrupt, "str_hash: invalid selection"},
		{"compression type", func(sb *Superblock) { sbBits{1, 4, 8}.set(sb, 4) }, errs.ErrCorrupt, "compression: invalid compression type"},
		{"compression level", func(sb *Superblock) { sbBits{4, 60, 64}.set(sb, 4) }, errs.ErrCorrupt, "background_compression: invalid compression level"},
		{"node size", func(sb *Superblock) { sbNodeSize.set(sb, 3) }, errs.ErrCorrupt, "btree_node_size: must be a power of two"},
		{"node size is block", func(sb *Superblock) { sbNodeSize.set(sb, 8) }, errs.ErrCorrupt, "larger than a block"},
		{"extent max", func(sb *Superblock) { sbExtentMax.set(sb, 63) }, errs.ErrCorrupt, "encoded_extent_max: too big"},
		{"extent max small", func(sb *Superblock) { sbExtentMax.set(sb, 2) }, errs.ErrCorrupt, "encoded_extent_max: too small"},
		{"no members", func(sb *Superblock) { sb.SetField(FieldMembersV1, nil); sb.SetField(FieldMembersV2, nil) }, errs.ErrCorrupt, "members_missing"},
		{"short members", func(sb *Superblock) { sb.SetField(FieldMembersV2, sb.Field(FieldMembersV2)[:16]) }, errs.ErrCorrupt, "sb_members_v2"},
		{"stride 0", func(sb *Superblock) { sb.Field(FieldMembersV2)[0] = 0 }, errs.ErrCorrupt, "sb_members_v2"},
		{"nbuckets", members(func(m *Member) { m.NBuckets = MemberMaxBuckets + 1 }), errs.ErrCorrupt, "at most"},
		{"few buckets", members(func(m *Member) { m.NBuckets = 63 }), errs.ErrCorrupt, "at least 64"},
		{"first bucket", members(func(m *Member) { m.NBuckets, m.FirstBucket = 80, 100 }), errs.ErrCorrupt, "at least 164"},
		{"bucket below block", members(func(m *Member) { m.BucketSize = 4 }), errs.ErrCorrupt, "block"},
		{"bucket below node", members(func(m *Member) { m.BucketSize = 128 }), errs.ErrCorrupt, "btree node"},
		{"bitmap shift", members(func(m *Member) { m.BtreeBitmapShift = 58 }), errs.ErrCorrupt, "bitmap_shift"},
		{"group", members(func(m *Member) { m.SetGroup(0) }), errs.ErrCorrupt, "group 0 of member 0"},
		{"no_alloc_info", func(sb *Superblock) { sb.SetFeature(FeatureNoAllocInfo, true) }, errs.ErrCorrupt, "freespace"},
		{"replicas device", func(sb *Superblock) { sb.SetReplicas([]ReplicasEntry{{DataBtree, 1, []uint8{7}}}) }, errs.ErrCorrupt, "btree: 7"},
		{"replicas twice", func(sb *Superblock) { sb.SetReplicas([]ReplicasEntry{{DataBtree, 1, []uint8{0, 0}}}) }, errs.ErrCorrupt, "twice"},
		{"replicas none", func(sb *Superblock) { sb.SetReplicas([]ReplicasEntry{{DataBtree, 1, nil}}) }, errs.ErrCorrupt, "at least one"},
		{"replicas required 2", func(sb *Superblock) { sb.SetReplicas([]ReplicasEntry{{DataBtree, 2, []uint8{0, 255}}}) }, errs.ErrCorrupt, "required"},
		{"replicas overrun", func(sb *Superblock) { sb.SetField(FieldReplicasV0, []byte{3, 200, 0, 0, 0, 0, 0, 0}) }, errs.ErrCorrupt, "past the end"},
		{"no crypt", func(sb *Superblock) { sb.SetEncryptionType(1) }, errs.ErrCorrupt, "sb_crypt"},
		{"kdf", func(sb *Superblock) { sb.SetCrypt(&Crypt{Flags: 1}) }, errs.ErrCorrupt, "key derivation"},
		{"clean", func(sb *Superblock) { sb.SetCleanSection(&Clean{Entries: []byte{2, 0, 0, 0, 0, 0, 0, 0}}) }, errs.ErrCorrupt, "sb_clean_entry_overrun"},
		{"journal at 0", func(sb *Superblock) { sb.SetJournalBuckets([]uint64{0}) }, errs.ErrCorrupt, "sb_journal"},
		{"journal beyond", func(sb *Superblock) { sb.SetJournalBuckets([]uint64{2048}) }, errs.ErrCorrupt, "sb_journal"},
		{"journal twice", func(sb *Superblock) { sb.SetJournalBuckets([]uint64{20, 22, 20}) }, errs.ErrCorrupt, "twice"},
		{"blacklist", func(sb *Superblock) { sb.SetBlacklist([]SeqRange{{5, 5}}) }, errs.ErrCorrupt, "blacklist"},
		{"blacklist order", func(sb *Superblock) { sb.SetBlacklist([]SeqRange{{5, 8}, {7, 9}}) }, errs.ErrCorrupt, "blacklist"},
		{"errors order", func(sb *Superblock) { sb.SetErrors([]ErrorCount{{ID: 5, Count: 1}, {ID: 4, Count: 1}}, false) }, errs.ErrCorrupt, "sb_errors"},
		{"errors count", func(sb *Superblock) { sb.SetErrors([]ErrorCount{{ID: 5}}, true) }, errs.ErrCorrupt, "sb_errors_v2"},
		{"ext", func(sb *Superblock) { sb.SetField(FieldExt, make([]byte, 72)) }, errs.ErrCorrupt, "sb_ext"},
		{"quota", func(sb *Superblock) { sb.SetField(FieldQuota, make([]byte, 64)) }, errs.ErrCorrupt, "sb_quota"},
		{"downgrade", func(sb *Superblock) { sb.SetDowngrade([]DowngradeEntry{{Version: 2 << 10}}) }, errs.ErrCorrupt, "sb_downgrade"},
		{"groups", func(sb *Superblock) {
			sb.SetDiskGroups([]DiskGroup{{Label: "a", Parent: -1}, {Label: "a", Parent: -1}})
		}, errs.ErrCorrupt, "twice"},
		{"group parent", func(sb *Superblock) { sb.SetDiskGroups([]DiskGroup{{Label: "a", Parent: 1}}) }, errs.ErrCorrupt, "parent"},
		{"extent types", func(sb *Superblock) { sb.SetField(FieldExtentTypeU64s, []byte{2, 0, 0, 0, 0, 0, 0, 0}) }, errs.ErrCorrupt, "extent_type"},
	} {
		sb := mustFixture(t, "plain")
		c.change(sb)
		err := sb.Validate(8)
		if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: Validate = %v, want %v with %q", c.name, err, c.kind, c.text)
		}
	}
}

// What only newer versions have must survive: unknown fields, bits and tails.
func TestSuperblockKeepsUnknown(t *testing.T) {
	sb := mustFixture(t, "plain")
	sb.SetField(99, []byte("whatever"))
	sb.Version += 30 // a newer minor
	sb.Flags[6] |= 1 << 63
	sb.Compat[1] = 1 << 40
	ms, err := sb.Members()
	if err != nil {
		t.Fatal(err)
	}
	if err := sb.SetMembers(ms, 400); err != nil {
		t.Fatal(err)
	}
	d := sb.Field(FieldMembersV2)
	copy(d[len(d)-8:], "the tail")
	b := sb.Append(nil)
	got := mustDecode(t, b)
	if err := got.Validate(8); err != nil {
		t.Errorf("Validate = %v, want nil", err)
	}
	ms, err = got.Members()
	if err != nil {
		t.Fatal(err)
	}
	ms[0].Errors[0]++
	if err := got.SetMembers(ms, MemberSize1_39); err != nil {
		t.Fatal(err)
	}
	if d := got.Field(FieldMembersV2); string(d[len(d)-8:]) != "the tail" || string(got.Field(99)) != "whatever" || got.Flags[6]>>63 != 1 || got.Compat[1] != 1<<40 {
		t.Errorf("unknown parts lost")
	}
	got.Label = "x"
	if again := mustDecode(t, got.Append(nil)); again.Label != "x" {
		t.Errorf("Label = %q, want x", again.Label)
	}
}

func TestSetCleanFeatures(t *testing.T) {
	sb := mustFixture(t, "plain")
	if sb.Features[0]&FeaturesAlways == FeaturesAlways {
		t.Fatal("a clean volume of 1.13 has bits 12 and 13 clear")
	}
	sb.SetClean(false)
	if sb.Clean() || sb.Features[0]&FeaturesAlways != FeaturesAlways {
		t.Errorf("SetClean(false): Clean %v, features %x, want all of %x", sb.Clean(), sb.Features[0], FeaturesAlways)
	}
}

func TestErrorsMerge(t *testing.T) {
	sb := mustFixture(t, "plain")
	sb.SetErrors([]ErrorCount{{ID: 3, Count: 7, Last: 100}, {ID: 9, Count: 1 << 40, Last: 50}}, false)
	v1 := sb.Field(FieldErrors)
	sb.SetErrors([]ErrorCount{{ID: 3, Count: 2, First: 120, Last: 1 << 35}, {ID: 5, Count: 1, First: 1, Last: 2}}, true)
	sb.SetField(FieldErrors, v1)
	got, err := sb.Errors()
	want := []ErrorCount{{ID: 3, Count: 9, First: 120, Last: 1 << 35}, {ID: 5, Count: 1, First: 1, Last: 2}, {ID: 9, Count: 1 << 40, Last: 50}}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("Errors: %v (-want +got):\n%s", err, d)
	}
}

func TestUUID(t *testing.T) {
	const s = "c68573f6-66ce-90a9-d96a-60cf803df7ef"
	if got := SBMagic.String(); got != s {
		t.Errorf("SBMagic = %s, want %s", got, s)
	}
	for _, in := range []string{s, strings.ToUpper(s), strings.ReplaceAll(s, "-", "")} {
		if u, err := ParseUUID(in); err != nil || u != SBMagic {
			t.Errorf("ParseUUID(%q) = %v, %v", in, u, err)
		}
	}
	for _, in := range []string{"", s[1:], s + "0", "g" + s[1:], strings.Replace(s, "-", "0", 1), "-" + s[1:]} {
		if u, err := ParseUUID(in); err == nil {
			t.Errorf("ParseUUID(%q) = %v, want an error", in, u)
		}
	}
}

func TestNameTables(t *testing.T) {
	for i := range ErrorID(NrErrorIDs) {
		if got, ok := ParseErrorID(i.String()); !ok || got != i {
			t.Errorf("ParseErrorID(%v) = %d, want %d", i, got, i)
		}
	}
	if ErrorID(266).String() != "btree_bitmap_not_marked" || !ErrorID(266).AutoFix() || ErrorID(0).AutoFix() || ErrorID(500).AutoFix() {
		t.Error("error table is wrong")
	}
	seen := map[string]bool{}
	for i := range RecoveryPass(NrRecoveryPasses) {
		if got, ok := ParseRecoveryPass(i.String()); !ok || got != i || seen[i.String()] {
			t.Errorf("ParseRecoveryPass(%v) = %d, want %d", i, got, i)
		}
		seen[i.String()] = true
		for _, d := range i.DependsOn() {
			if d.RunOrder() >= i.RunOrder() {
				t.Errorf("%v runs before %v, on which it depends", i, d)
			}
		}
	}
	order := RecoveryPassesInOrder()
	for i, p := range order {
		if p.RunOrder() != i {
			t.Errorf("pass %v at %d, want %d", p, i, p.RunOrder())
		}
	}
	for i := range SBFieldType(NrSBFields) {
		if got, ok := ParseSBFieldType(i.String()); !ok || got != i {
			t.Errorf("ParseSBFieldType(%v) = %v", i, got)
		}
	}
	for i := range Feature(NrFeatures) {
		if got, ok := ParseFeature(i.String()); !ok || got != i {
			t.Errorf("ParseFeature(%v) = %v", i, got)
		}
	}
	if FeaturesAlways&FeaturesAll != FeaturesAlways || FeaturesAlways != 1<<9|1<<12|1<<13|1<<17|1<<18 {
		t.Error("feature sets are wrong")
	}
}

func TestSuperblockTime(t *testing.T) {
	sb := &Superblock{TimeBaseLo: 1_500_000_000_750_000_000, TimePrecision: 1}
	if got := sb.Time(500_000_000).UnixNano(); got != 1_500_000_001_250_000_000 {
		t.Errorf("Time = %d", got)
	}
	if got := sb.Time(-1_500_000_001_000_000_000).UnixNano(); got != -250_000_000 {
		t.Errorf("Time before 1970 = %d, want -250000000", got)
	}
	sb.TimePrecision = 1000
	if got := sb.Time(2).UnixNano(); got != 1_500_000_000_750_002_000 {
		t.Errorf("Time in microseconds = %d", got)
	}
	for _, p := range []uint32{0, 1e9, 3e9} {
		sb.TimePrecision = p
		sb.Time(-1)
	}
}

// walkSB calls everything that reads a superblock.
func walkSB(sb *Superblock) {
	_ = sb.Validate(sb.Offset)
	ms, _ := sb.Members()
	for i := range ms {
		sb.GroupPath(ms[i].Group())
		ms[i].Append(nil, 64)
		for _, o := range Options() {
			o.GetMember(&ms[i])
		}
	}
	_, _ = sb.Crypt()
	_, _ = sb.Replicas()
	_, _ = sb.DiskGroups()
	if c, _ := sb.CleanSection(); c != nil {
		_ = JsetEntries(c.Entries, func(e JsetEntry) bool { e.Keys(func(KV) bool { return true }, nil); return true })
	}
	_, _ = sb.JournalBuckets()
	_, _ = sb.Blacklist()
	if e, err := sb.Ext(); err == nil {
		e.Passes()
		e.Silent()
	}
	_, _ = sb.Quota()
	_, _ = sb.Downgrade()
	_, _ = sb.Errors()
	sb.Counters()
	sb.ExtentTypeU64s()
	sb.RecoveryPasses()
	sb.FeatureBits()
	sb.CompatBits()
	sb.Created()
	sb.NodeSectors()
	sb.EncodedExtentMax()
	sb.StrHashType()
	sb.MetaCsumType()
	for _, o := range Options() {
		o.Format(o.Get(sb), sb.TargetString)
		o.Format(o.Effective(sb), nil)
	}
	for t := range uint16(300) {
		sb.TargetString(t)
	}
}

func FuzzDecodeSuperblock(f *testing.F) {
	for _, n := range []string{"plain", "v39plain", "encrypted", "tiers.0", "upc39plain", "v39ec.0", "nocsum", "crc64", "xxhash", "aclquota"} {
		f.Add(loadSBFixture(f, n).copies[0])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b)
		if len(b) >= SBFixedSize {
			// Without these two nearly everything is refused at the door.
			copy(b[24:], SBMagic[:])
			copy(b[240:], SBMagic[:])
			restamp(b)
		}
		sb, err := DecodeSuperblock(b)
		if err != nil {
			return
		}
		walkSB(sb)
		again := sb.Append(nil)
		n, _ := SuperblockBytes(b)
		if sb.CsumType() == CsumNone {
			clear(b[:16]) // an unused checksum is not kept
		}
		if !bytes.Equal(again, b[:n]) {
			t.Fatalf("Append differs:\n%s", cmp.Diff(b[:n], again))
		}
		sb2, err := DecodeSuperblock(again)
		if err != nil {
			t.Fatalf("decoding what was encoded: %v", err)
		}
		sb.Csum = sb2.Csum
		if !cmp.Equal(sb, sb2, compareSB) {
			t.Fatalf("differs:\n%s", cmp.Diff(sb, sb2, compareSB))
		}
	})
}

func FuzzDecodeSBLayout(f *testing.F) {
	f.Add(loadSBFixture(f, "plain").layout)
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := DecodeSBLayout(b)
		if err != nil {
			return
		}
		if got := l.Append(nil); !bytes.Equal(got, b[:SBLayoutSize]) {
			t.Errorf("Append differs:\n%s", cmp.Diff(b[:SBLayoutSize], got))
		}
	})
}
