package ondisk

import (
	"errors"
	"strings"
	"testing"

	"github.com/gobcachefs/gobcachefs/errs"
)

func option(t *testing.T, name string) *Option {
	t.Helper()
	o, ok := FindOption(name)
	if !ok {
		t.Fatalf("no option %s", name)
	}
	return o
}

// No two options may share bits, and every default must be legal and fit.
func TestOptionTable(t *testing.T) {
	type word struct {
		where optWhere
		n     uint8
	}
	used := map[word]map[uint8]string{}
	take := func(w word, lo, hi uint8, name string) {
		if used[w] == nil {
			used[w] = map[uint8]string{}
		}
		if lo >= hi || hi > 64 {
			t.Errorf("%s: bits %d:%d", name, lo, hi)
		}
		for b := lo; b < hi; b++ {
			if o := used[w][b]; o != "" {
				t.Errorf("bit %d of %v belongs to %s and %s", b, w, o, name)
			}
			used[w][b] = name
		}
	}
	for _, f := range []sbBits{sbInitialized, sbClean, sbCsumTypeBits, sbHasErrors, sbHasTopologyErrors, sbBigEndian, sbEncryptionType, sbMultiDevice, sbVersionUpgradeDone, sbVersionIncompat, sbVersionAllowed, sbExtentBPShift, sbDirentsSanitized} {
		take(word{storeFlags, f.word}, f.lo, f.hi, "a state bit")
	}
	for _, f := range []memberBits{memberGroup, memberFreespaceInit, memberResize, memberRotationalSet, memberInitialized} {
		take(word{storeMember, 0}, f.lo, f.hi, "a member bit")
	}
	names := map[string]bool{}
	for _, o := range Options() {
		if names[o.Name] {
			t.Errorf("%s is there twice", o.Name)
		}
		names[o.Name] = true
		s := o.store
		switch s.where {
		case storeFlags:
			take(word{storeFlags, s.bits.word}, s.bits.lo, s.bits.hi, o.Name)
		case storeSplit:
			take(word{storeFlags, s.bits.word}, s.bits.lo, s.bits.hi, o.Name)
			take(word{storeFlags, s.high.word}, s.high.lo, s.high.hi, o.Name)
		case storeExt:
			take(word{storeExt, 0}, s.bits.lo, s.bits.hi, o.Name)
		case storeMember:
			take(word{storeMember, 0}, s.bits.lo, s.bits.hi, o.Name)
		}
		if s.where == storeFlags || s.where == storeExt || s.where == storeMember {
			if v := o.encode(o.Max); o.Type != OptBool && v > s.bits.mask() {
				t.Errorf("%s: the largest value %d does not fit in %d bits", o.Name, o.Max, s.bits.hi-s.bits.lo)
			}
		}
		if o.OldMax > o.Max {
			t.Errorf("%s: OldMax %d above Max %d", o.Name, o.OldMax, o.Max)
		}
		for _, v := range []Version{Version1_13, Version1_39} {
			// The default size of buckets is computed.
			if o.InVersion(v) && o.Name != "bucket_size" {
				if err := o.Check(o.DefaultAt(v), v); err != nil {
					t.Errorf("%s: default at %v: %v", o.Name, v, err)
				}
			}
		}
		if f, ok := FindOption(o.NameAt(Version1_13)); !ok || f != o {
			t.Errorf("FindOption(%s) = %v", o.NameAt(Version1_13), f)
		}
		if id := o.InodeID(); id >= 0 && (InodeOption(id) != o || o.Scope&OptInode == 0) {
			t.Errorf("%s: inode option %d is %v", o.Name, id, InodeOption(id))
		}
		if (o.Scope&OptInode != 0) != (o.InodeID() >= 0) {
			t.Errorf("%s: scope %d, inode id %d", o.Name, o.Scope, o.InodeID())
		}
	}
	for i := range NrInodeOpts {
		if InodeOption(i) == nil {
			t.Errorf("no inode option %d", i)
		}
	}
	if InodeOption(-1) != nil || InodeOption(NrInodeOpts) != nil {
		t.Error("inode options out of range")
	}
}

// Every stored option keeps its smallest, largest and default value, and no
// other option changes with it.
func TestOptionSetGet(t *testing.T) {
	for _, o := range Options() {
		if !o.Stored() || o.Until != 0 {
			continue
		}
		for _, v := range []uint64{o.Min, o.Max, o.Default} {
			if o.Type == OptCompression && v == 0xff {
				v = 3 | 15<<4
			}
			sb := mustFixture(t, "v39plain")
			before := map[string]uint64{}
			for _, p := range Options() {
				before[p.Name] = p.Get(sb)
			}
			if o.Flags&OptSize != 0 && v%512 != 0 {
				v &^= 511
			}
			if err := o.Set(sb, v); err != nil {
				t.Errorf("Set(%s, %d) = %v", o.Name, v, err)
				continue
			}
			sb = mustDecode(t, sb.Append(nil))
			for _, p := range Options() {
				want := before[p.Name]
				if p == o {
					want = v
				}
				if got := p.Get(sb); got != want {
					t.Errorf("Set(%s, %d): %s = %d, want %d", o.Name, v, p.Name, got, want)
				}
			}
		}
	}
}

func TestOptionSetRefuses(t *testing.T) {
	for _, c := range []struct {
		fixture, name string
		v             uint64
		text          string
	}{
		{"plain", "data_replicas", 4, "data_replicas: too big (max 3)"},
		{"v39plain", "data_replicas", 5, "data_replicas: too big (max 4)"},
		{"v39plain", "data_replicas", 0, "data_replicas: too small (min 1)"},
		{"plain", "block_size", 8192, "block_size: too big (max 4096)"},
		{"plain", "encoded_extent_max", 2 << 20, "too big (max 1048576)"},
		{"v39plain", "encoded_extent_max", 3 << 10 << 2, "must be a power of two"},
		{"v39plain", "gc_reserve_bytes", 1000, "not a multiple of 512"},
		{"plain", "casefold", 1, "does not exist in format 1.13"},
		{"plain", "dev_readahead", 4096, "does not exist in format 1.13"},
		{"v39plain", "shard_inode_numbers", 1, "does not exist in format 1.39"},
		{"v39plain", "acl", 2, "must be bool"},
		{"v39plain", "errors", 4, "invalid selection"},
		{"v39plain", "compression", 0x10, "invalid compression level"},
		{"v39plain", "compression", 4, "invalid compression type"},
		{"v39plain", "inline_data", 1, "not stored"},
		{"v39plain", "durability", 1, "not stored"},
	} {
		sb := mustFixture(t, c.fixture)
		before := string(sb.Append(nil))
		err := option(t, c.name).Set(sb, c.v)
		if !errors.Is(err, errs.ErrUsage) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("Set(%s, %d) = %v, want %q", c.name, c.v, err, c.text)
		}
		if string(sb.Append(nil)) != before {
			t.Errorf("Set(%s, %d) failed but changed the superblock", c.name, c.v)
		}
	}
}

func TestOptionMember(t *testing.T) {
	var m Member
	for _, c := range []struct {
		name  string
		v     uint64
		flags uint64
	}{
		{"durability", 0, 1 << 28}, {"durability", 2, 3 << 28}, {"durability", 1, 2 << 28},
		{"state", 3, 2<<28 | 3}, {"state", 0, 2 << 28}, {"data_allowed", 0x1c, 2<<28 | 0xe0000}, {"discard", 1, 2<<28 | 0xe4000}, {"rotational", 1, 0x3200e4000},
	} {
		o := option(t, c.name)
		if err := o.SetMember(&m, c.v); err != nil || m.Flags != c.flags || o.GetMember(&m) != c.v {
			t.Errorf("SetMember(%s, %d) = %v: flags %#x, value %d, want %#x", c.name, c.v, err, m.Flags, o.GetMember(&m), c.flags)
		}
	}
	// The field has two bits: 3 would be stored as "not set".
	if err := option(t, "durability").SetMember(&m, 3); err == nil {
		t.Error("durability 3 was accepted")
	}
	if err := option(t, "data_allowed").SetMember(&m, 3); err == nil {
		t.Error("data_allowed with superblock was accepted")
	}
	if got := option(t, "durability").GetMember(&Member{}); got != 1 {
		t.Errorf("unset durability = %d, want 1", got)
	}
}

func TestOptionEffective(t *testing.T) {
	for _, c := range []struct {
		name string
		ver  Version
		want uint64
	}{
		{"journal_flush_delay", Version1_13, 1000}, {"journal_reclaim_delay", Version1_39, 1000}, {"write_error_timeout", Version1_39, 30},
		{"allocator_stuck_timeout", Version1_9, 30}, {"allocator_stuck_timeout", Version1_13, 0}, {"promote_whole_extents", Version1_9, 1},
		{"promote_whole_extents", Version1_13, 0}, {"checksum_err_retry_nr", Version1_13, 3}, {"checksum_err_retry_nr", Version1_39, 0},
		{"journal_rewind_discard_buffer_percent", Version1_33, 4}, {"journal_rewind_discard_buffer_percent", Version1_39, 0},
		{"btree_cache_shrinker_seeks", Version1_39, 4}, {"dev_readahead", Version1_39, 2 << 20}, {"ec_stripe_buf_limit", Version1_39, 5}, {"acl", Version1_39, 0},
	} {
		if got := option(t, c.name).Effective(&Superblock{Version: c.ver}); got != c.want {
			t.Errorf("Effective(%s) at %v = %d, want %d", c.name, c.ver, got, c.want)
		}
	}
}

func TestOptionParse(t *testing.T) {
	sb := mustFixture(t, "tiers.0")
	const bad = 1 << 63
	for _, c := range []struct {
		name, in string
		want     uint64 // bad: text is the error
		text     string // Format of it, "" the same as in
	}{
		{"acl", "", 1, "1"}, {"acl", "yes", 1, "1"}, {"acl", "true", 1, "1"}, {"acl", "no", 0, "0"}, {"acl", "false", 0, "0"}, {"acl", "0", 0, ""},
		{"acl", "2", bad, "acl: must be bool"}, {"acl", "True", bad, "acl: must be bool"},
		{"data_replicas", "2", 2, ""}, {"data_replicas", "5", bad, "data_replicas: too big (max 4)"}, {"data_replicas", "0", bad, "data_replicas: too small (min 1)"},
		{"data_replicas", "-1", bad, "non-negative number"}, {"data_replicas", "+1", bad, "non-negative number"}, {"data_replicas", "", bad, "number"}, {"data_replicas", "0x1", bad, "number"},
		{"errors", "ro", 3, ""}, {"errors", "", bad, "invalid selection"}, {"errors", "remount-ro", bad, "invalid selection"},
		{"metadata_checksum", "xxhash", 3, ""}, {"fix_errors", "", 1, "yes"}, {"fix_errors", "ask", 3, ""},
		{"compression", "none", 0, ""}, {"compression", "zstd", 3, ""}, {"compression", "zstd:7", 3 | 7<<4, ""}, {"compression", "lz4:0", 1, "lz4"},
		{"compression", "zstd:16", bad, "invalid compression level"}, {"compression", "zstd:", bad, "invalid compression level"}, {"compression", "zstd:+1", bad, "invalid compression level"},
		{"compression", "none:1", bad, "invalid compression level"}, {"compression", "lzo", bad, "invalid compression type"}, {"compression", "", bad, "invalid compression type"},
		{"foreground_target", "none", 0, ""}, {"foreground_target", "", 0, "none"}, {"foreground_target", "ssd", 257, ""}, {"foreground_target", "hdd.b", 260, ""},
		{"foreground_target", "device 1", 2, ""}, {"foreground_target", "device 2", bad, "parse error"}, {"foreground_target", "tape", bad, "parse error"}, {"foreground_target", "ssd.", bad, "parse error"},
		{"data_allowed", "btree,user", 0x18, ""}, {"data_allowed", "user;journal", 0x14, "journal,user"}, {"data_allowed", "-btree", 0x14, "journal,user"}, {"data_allowed", "sb", bad, "invalid selection"},
		{"state", "evacuating", 2, ""}, {"state", "failed", 2, "evacuating"},
		{"recovery_passes", "check_dirents;check_topology", 1<<27 | 1<<4, "check_topology,check_dirents"}, {"recovery_passes", "set_fs_needs_rebalance", 1 << 34, "set_fs_needs_reconcile"},
		{"recovery_pass_last", "alloc_read", 1, ""}, {"recovery_pass_last", "", bad, "invalid selection"},
		{"failure_domain", strings.Repeat("x", 32), bad, "too long (max 31 bytes)"}, {"label", "a..b", bad, "components"}, {"label", "ssd.a", 0, "0"},
		{"block_size", "4k", 4096, ""}, {"block_size", "4096", 4096, "4k"}, {"block_size", "8K", 8192, "8k"}, {"block_size", "3k", bad, "must be a power of two"},
		{"block_size", "100", bad, "too small (min 512)"}, {"block_size", "513", bad, "not a multiple of 512"}, {"block_size", "64k", bad, "too big (max 32768)"},
		{"move_bytes_in_flight", "1.5M", 1572864, "1536k"}, {"gc_reserve_bytes", "1M", 1 << 20, ""},
	} {
		o := option(t, c.name)
		got, err := o.Parse(c.in, sb.ParseTarget)
		if c.want == bad {
			if !errors.Is(err, errs.ErrUsage) || !strings.Contains(err.Error(), c.text) || !strings.HasPrefix(err.Error(), c.name+": ") {
				t.Errorf("%s: Parse(%q) = %d, %v, want error %q", c.name, c.in, got, err, c.text)
			}
			continue
		}
		if c.text == "" {
			c.text = c.in
		}
		if f := o.Format(got, sb.TargetString); err != nil || got != c.want || f != c.text {
			t.Errorf("%s: Parse(%q) = %d, %v, formats as %q; want %d, %q", c.name, c.in, got, err, f, c.want, c.text)
		}
	}
	if _, err := option(t, "foreground_target").Parse("ssd", nil); err == nil {
		t.Error("a target was found without a volume")
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]uint64{
		"65536": 65536, "64k": 65536, "64K": 65536, "1M": 1 << 20, "1.5M": 3 << 19, "64 k": 65536, "64KiB": 65536, "64kiB": 65536, "64 KiB": 65536, "512B": 512, "1MiB": 1 << 20,
		"1 MiB": 1 << 20, "+1M": 1 << 20, "0.3k": 307, "1.25k": 1280, "1G": 1 << 30, "2T": 2 << 40, "3P": 3 << 50, "15E": 15 << 60, "0": 0, "1.9": 1, "0.999999999999999999999k": 1023,
		"15.999999999E": 15<<60 + 1<<60 - 1152921505,
	} {
		if got, err := parseSize(in); err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "-1M", "0x100", "1e6", "1M ", " 1M", "64kB", "1MB", "1Mb", "16E", "1m", "1g", "1Z", "1.k", ".5k", "1  k", "1 ", "k", "18446744073709551616", "1KiBs", "1Ki", "1,5k"} {
		if got, err := parseSize(in); err == nil {
			t.Errorf("parseSize(%q) = %d, want an error", in, got)
		}
	}
	for v, want := range map[uint64]string{0: "0", 1: "1", 512: "512", 1024: "1k", 1536: "1536", 3 << 19: "1536k", 1 << 60: "1E", 1 << 63: "8E"} {
		got := formatSize(v)
		if back, err := parseSize(got); got != want || err != nil || back != v {
			t.Errorf("formatSize(%d) = %q, reads as %d, %v; want %q", v, got, back, err, want)
		}
	}
}

func TestLookupOption(t *testing.T) {
	for _, c := range []struct{ word, name, value string }{
		{"acl", "acl", ""}, {"noacl", "acl", "0"}, {"no-acl", "acl", "0"}, {"acl=1", "acl", "1"}, {"nodiscard", "discard", "0"}, {"nocow", "nocow", ""}, {"nonocow", "nocow", "0"},
		{"nochanges", "nochanges", ""}, {"norecovery", "norecovery", ""}, {"degraded", "degraded", "yes"}, {"degraded=1", "degraded", "yes"}, {"degraded=0", "degraded", "no"},
		{"degraded=ask", "degraded", "ask"}, {"very_degraded", "degraded", "very"}, {"quota", "usrquota", ""}, {"rebalance_enabled=0", "reconcile_enabled", "0"},
		{"reconstruct_alloc", "dangerously_reconstruct_alloc", ""}, {"foreground-target=a=b", "foreground_target", "a=b"}, {"compression=zstd:3", "compression", "zstd:3"},
	} {
		o, v, ok := LookupOption(c.word)
		if !ok || o.Name != c.name || v != c.value {
			t.Errorf("LookupOption(%q) = %v, %q, %v, want %s %q", c.word, o, v, ok, c.name, c.value)
		}
	}
	for _, w := range []string{"", "bogus", "bogus=1", "nobogus", "noacl=1", "nocompression", "ro"} {
		if o, _, ok := LookupOption(w); ok {
			t.Errorf("LookupOption(%q) = %s, want none", w, o.Name)
		}
	}
}

func FuzzOptionParse(f *testing.F) {
	for i, s := range []string{"1", "4k", "zstd:3", "-user", "check_dirents", "none", "0.5E", "a.b"} {
		f.Add(i*7, s)
	}
	f.Fuzz(func(t *testing.T, i int, s string) {
		o := optionList[uint(i)%uint(len(optionList))]
		v, err := o.Parse(s, nil)
		if err != nil || o.Type == OptString || o.Type == OptTarget || o.Type == OptBits {
			return
		}
		if back, err := o.Parse(o.Format(v, nil), nil); err != nil || back != v {
			t.Errorf("%s: %q is %d, formats as %q, reads as %d, %v", o.Name, s, v, o.Format(v, nil), back, err)
		}
	})
}
