package ondisk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gobcachefs/gobcachefs/errs"
)

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
