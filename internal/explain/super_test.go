package explain

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

func gunzip(tb testing.TB, path string) []byte {
	tb.Helper()
	f, err := os.Open(path)
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
	return b
}

// fixtureSuper is the primary superblock of the first device of a volume; see
// ondisk/testdata.
func fixtureSuper(tb testing.TB, name string) *ondisk.Superblock {
	tb.Helper()
	p := filepath.Join("..", "..", "ondisk", "testdata", name+".sb.gz")
	if _, err := os.Stat(p); err != nil {
		p = filepath.Join("..", "..", "ondisk", "testdata", name+".0.sb.gz")
	}
	sb, err := ondisk.DecodeSuperblock(gunzip(tb, p)[ondisk.SBLayoutSize:])
	if err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	return sb
}

const volumesFields = "ext,members_v2,crypt,clean,replicas_v0,journal_v2,downgrade,errors,counters"

// What the maker's tools print for every volume, byte for byte.
func TestShowSuperVolumes(t *testing.T) {
	l, err := filepath.Glob("testdata/*.show-super.gz")
	if err != nil || len(l) != 40 {
		t.Fatalf("%d texts, %v, want 40", len(l), err)
	}
	fields, _, err := ParseSuperFields(volumesFields)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range l {
		name := strings.TrimSuffix(filepath.Base(f), ".show-super.gz")
		want := string(gunzip(t, f))
		var b bytes.Buffer
		err := ShowSuper(&b, fixtureSuper(t, name), ShowSuperOpts{Fields: fields, Location: time.UTC, DevKind: "(reg file)", DevName: "0.img"})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(strings.SplitAfter(want, "\n"), strings.SplitAfter(b.String(), "\n")); d != "" {
			t.Errorf("%s (-tools +ours):\n%s", name, d)
		}
	}
}

// Superblocks made up to hold what no volume does, printed by tools 1.13 with
// "-f all -l".
func TestShowSuperMade(t *testing.T) {
	l, err := filepath.Glob("testdata/made-*.sb.gz")
	if err != nil || len(l) != 22 {
		t.Fatalf("%d superblocks, %v, want 22", len(l), err)
	}
	style := Style1_13
	for _, f := range l {
		name := strings.TrimSuffix(filepath.Base(f), ".sb.gz")
		sb, err := ondisk.DecodeSuperblock(gunzip(t, f))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := string(gunzip(t, "testdata/"+name+".all.gz"))
		var b bytes.Buffer
		if err := ShowSuper(&b, sb, ShowSuperOpts{Style: &style, All: true, Layout: true, Location: time.UTC, DevKind: "(reg file)"}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(strings.SplitAfter(want, "\n"), strings.SplitAfter(b.String(), "\n")); d != "" {
			t.Errorf("%s (-tools +ours):\n%s", name, d)
		}
	}
}

// Single sections, as -F prints them.
func TestShowSuperOnly(t *testing.T) {
	sb := fixtureSuper(t, "tiers")
	text := string(gunzip(t, "testdata/tiers-only.txt.gz"))
	cases := strings.Split(text, "== tiers ")[1:]
	if len(cases) != 9 {
		t.Fatalf("%d sections, want 9", len(cases))
	}
	for _, c := range cases {
		field, want, _ := strings.Cut(c, "\n")
		fields, _, err := ParseSuperFields(field)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := ShowSuper(&b, sb, ShowSuperOpts{Fields: fields, Only: true, Location: time.UTC}); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, b.String()); d != "" {
			t.Errorf("%s (-tools +ours):\n%s", field, d)
		}
	}
}

func TestShowSuperDefaults(t *testing.T) {
	for _, c := range []struct{ name, want, dont string }{
		{"plain", "Device:                                     (unknown device)\n", "ext (size"},
		{"plain", "\nmembers_v2 (size 160):\nDevice:                                    0\n", "counters (size"},
		{"plain", "\nerrors (size 8):\n", "clean (size"},
		{"v39plain", "\next (size 120):\n", "members_v2 (size"},
		{"v39plain", "\nerrors_v2 (size 8):\n", "counters (size"},
		{"v39plain", "\nDevice 0:                                  (not found)     \n", "Device:"},
	} {
		var b bytes.Buffer
		if err := ShowSuper(&b, fixtureSuper(t, c.name), ShowSuperOpts{}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), c.want) || strings.Contains(b.String(), c.dont) {
			t.Errorf("%s: want %q and not %q in\n%s", c.name, c.want, c.dont, b.String())
		}
	}
}

// Options of a version that the volume predates are shown as a mount would have
// them: tools 1.39 print the bytes behind the section instead.
func TestShowSuperShortExt(t *testing.T) {
	style := Style1_39
	var b bytes.Buffer
	if err := ShowSuper(&b, fixtureSuper(t, "plain"), ShowSuperOpts{Style: &style}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\n  dev_readahead:                           2.00M\n", "\n  scrub_journal_max_rewind_secs:           0\n", "\n  ec_stripe_buf_limit:                     5\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
}

// Every section that only 1.39 has.
func TestShowSuperNewSections(t *testing.T) {
	sb := fixtureSuper(t, "up39tiers")
	sb.SetErrors([]ondisk.ErrorCount{{ID: 272, Count: 3, First: 1, Last: 1700000000}}, true)
	ms, err := sb.Members()
	if err != nil {
		t.Fatal(err)
	}
	ms[1].FailureDomain, ms[1].FlushErrors = "rack\x1b2", 7
	ms[1].SetState(ondisk.MemberEvacuating)
	ms[0].UUID = ondisk.DeletedMemberUUID
	if err := sb.SetMembers(ms, 0); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := ShowSuper(&b, sb, ShowSuperOpts{All: true, Layout: true, Location: time.UTC, Escape: true, MemberPaths: []string{1: "/dev/sdb  model"}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Devices:                                   1\n",
		"\nerrors_v2 (size 24):\naccounting_mismatch                         3               Tue Nov 14 22:13:20 2023\n",
		"\nextent_type_u64s (size 24):\n1 1 2 3 1 1 1 1 1\n",
		"\njournal_seq_blacklist (size 24):\n138-4234\n",
		"\ndisk_groups (size 200):\n[parent 0 name ssd] [parent 1 name a] [parent 0 name hdd] [parent 3 name b]\n",
		"\nDevice 1:                                  /dev/sdb  model\n  Label:                                   hdd.b\n  Failure domain:                          rack\\x1b2\n",
		"  State:                                   evacuating\n",
		"  Flush errors:                            7\n",
		"\nlayout:\n  Type:                    0\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "Device 0:") {
		t.Error("a removed member is shown")
	}
}

func TestParseSuperFields(t *testing.T) {
	if _, all, err := ParseSuperFields("all"); err != nil || !all {
		t.Errorf("all: %v, %v", all, err)
	}
	for _, bad := range []string{"", "bogus", "ext,", "members"} {
		if f, _, err := ParseSuperFields(bad); err == nil {
			t.Errorf("ParseSuperFields(%q) = %v, want an error", bad, f)
		}
	}
}

func TestSizeText(t *testing.T) {
	for _, c := range []struct {
		v        uint64
		old, new string
	}{
		{0, "0 B", "0"}, {1, "1.00 B", "1"}, {10, "10.0 B", "10"}, {512, "512 B", "512"}, {1023, "1023 B", "1023"}, {1024, "1.00 KiB", "1.00k"}, {4480, "4.38 KiB", "4.38k"},
		{8376, "8.18 KiB", "8.18k"}, {9200, "8.98 KiB", "8.98k"}, {65536, "64.0 KiB", "64.0k"}, {128 << 10, "128 KiB", "128k"}, {1<<20 - 1, "1024 KiB", "1024k"},
		{1<<40 + 1<<39, "1.50 TiB", "1.50T"}, {1<<64 - 1, "16.0 EiB", "16.0E"},
	} {
		if got := sizeText(c.v, true); got != c.old {
			t.Errorf("sizeText(%d, 1.13) = %q, want %q", c.v, got, c.old)
		}
		if got := sizeText(c.v, false); got != c.new {
			t.Errorf("sizeText(%d, 1.39) = %q, want %q", c.v, got, c.new)
		}
	}
}

func TestSuperJSON(t *testing.T) {
	for _, name := range []string{"plain", "tiers", "v39plain", "v39ec", "encrypted", "upc39plain", "aclquota"} {
		sb := fixtureSuper(t, name)
		var b bytes.Buffer
		if err := ShowSuperJSON(&b, sb); err != nil {
			t.Fatal(err)
		}
		var d SuperDoc
		if err := json.Unmarshal(b.Bytes(), &d); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d.Schema != 1 || d.ExternalUUID != sb.UserUUID.String() || d.Problems != nil || len(d.Members) != int(sb.NrDevices) || len(d.CleanSection.Entries) < 10 {
			t.Errorf("%s:\n%s", name, b.String())
		}
	}
	d := SuperJSON(fixtureSuper(t, "tiers"))
	got := []any{
		d.Version, d.Created, d.CreatedUnix, d.LastWriteUnix, d.Options["block_size"], d.Options["errors"], d.Options["acl"], d.Options["background_target"], d.Options["compression"],
		d.Members[0].Label, d.Members[0].Size, d.Members[0].HasData, d.Journal, d.Counters["data_read"], d.Downgrade[2].Errors, d.Ext.PassesRequired, *d.CleanSection.Entries[1].Value,
		d.CleanSection.Entries[3].Keys[0].Type, fmt.Sprint(d.Layout.Sectors), d.Groups[3].Path,
	}
	want := []any{
		"1.13", "2026-11-23T16:11:53Z", int64(1795450313), uint64(1795450348), uint64(4096), "fix_safe", true, "hdd", "none",
		"ssd.a", uint64(128 << 20), []string{"journal", "btree", "user", "cached"}, []JournalRangeDoc{{17, 8}}, uint64(109128), []string{"accounting_mismatch"}, []string{}, uint64(109040),
		"btree_ptr_v2", "[8 2056 260096]", "hdd.b",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tiers (-want +got):\n%s", diff)
	}
	// The sealed key is nobody's business.
	enc := fixtureSuper(t, "encrypted")
	c, err := enc.Crypt()
	if err != nil || c == nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := ShowSuperJSON(&b, enc); err != nil || !strings.Contains(b.String(), `"passphrase": true`) {
		t.Errorf("encrypted: %v\n%s", err, b.String())
	}
	for i := 0; i+8 <= len(c.Key); i += 8 {
		if strings.Contains(b.String(), fmt.Sprintf("%x", c.Key[i:i+8])) {
			t.Error("the key is printed")
		}
	}
}

// The keys of the document are a promise.
func TestSuperJSONKeys(t *testing.T) {
	sb := fixtureSuper(t, "up39aclquota")
	sb.SetErrors([]ondisk.ErrorCount{{ID: 272, Count: 3, First: 1, Last: 1700000000}}, true)
	sb.SetCrypt(&ondisk.Crypt{})
	sb.SetDiskGroups([]ondisk.DiskGroup{{Label: "a", Parent: -1}, {Label: "b"}, {Deleted: true}})
	ms, err := sb.Members()
	if err != nil {
		t.Fatal(err)
	}
	m := &ms[0]
	m.SetGroup(1)
	m.SetInitProgress(1)
	m.FailureDomain, m.DeviceModel, m.DeviceSerial, m.ErrorsResetTime = "f", "m", "s", 1
	if err := sb.SetMembers(ms, 0); err != nil {
		t.Fatal(err)
	}
	sb.SetField(ondisk.FieldMembersV1, []byte{}) // not looked at
	sb.SetField(ondisk.FieldJournalBlacklist, []byte{1})
	blk := fixtureSuper(t, "up39plain")
	keys := map[string]bool{}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, e := range v {
				keys[path+"."+k] = true
				walk(path+"."+k, e)
			}
		case []any:
			for _, e := range v {
				walk(path+"[]", e)
			}
		}
	}
	for _, sb := range []*ondisk.Superblock{sb, blk} {
		var b bytes.Buffer
		if err := ShowSuperJSON(&b, sb); err != nil {
			t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal(b.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		walk("", v)
	}
	var got []string
	for k := range keys {
		// The text of keys is a document of its own.
		if !strings.Contains(k, ".keys[]") {
			got = append(got, k)
		}
	}
	slices.Sort(got)
	want, err := os.ReadFile("testdata/super-json-keys.txt")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.Fields(string(want)), got); d != "" {
		t.Errorf("(-promised +got):\n%s", d)
	}
}

// A superblock whose sections do not decode is still shown.
func TestShowSuperBroken(t *testing.T) {
	sb := fixtureSuper(t, "tiers")
	for i := range sb.Fields {
		sb.Fields[i].Data = bytes.Repeat([]byte{0xff}, 24)
	}
	var b bytes.Buffer
	if err := ShowSuper(&b, sb, ShowSuperOpts{All: true, Layout: true}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"External UUID:", "replicas_v0 (size 32):\n(invalid: ", "members_v2 (size 32):\n(invalid: ", "disk_groups (size 32):\n(invalid: ", "errors (size 32):\n(invalid: "} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
	if d := SuperJSON(sb); len(d.Problems) < 5 {
		t.Errorf("problems: %q", d.Problems)
	}
}

func FuzzShowSuper(f *testing.F) {
	for _, n := range []string{"plain", "tiers", "v39plain", "aclquota", "v39ec", "encrypted"} {
		f.Add(fixtureSuper(f, n).Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b)
		if len(b) < ondisk.SBFixedSize {
			return
		}
		copy(b[24:], ondisk.SBMagic[:])
		copy(b[240:], ondisk.SBMagic[:])
		b[144] &^= 0xfc // no checksum
		sb, err := ondisk.DecodeSuperblock(b)
		if err != nil {
			return
		}
		for _, style := range []Style{Style1_13, Style1_39} {
			for _, only := range []bool{false, true} {
				if err := ShowSuper(io.Discard, sb, ShowSuperOpts{Style: &style, All: true, Layout: true, Only: only}); err != nil {
					t.Error(err)
				}
			}
		}
		if err := ShowSuperJSON(io.Discard, sb); err != nil {
			t.Error(err)
		}
	})
}
