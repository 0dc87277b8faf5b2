package members

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
	"github.com/gobcachefs/gobcachefs/internal/testvol/build"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

var ctx = context.Background()

// over writes bytes above a device.
func over(t *testing.T, r block.Reader, sector uint64, b []byte) *block.Overlay {
	t.Helper()
	o, ok := r.(*block.Overlay)
	if !ok {
		o = block.NewOverlay(r)
	}
	if _, err := o.WriteAt(b, int64(sector)*512); err != nil {
		t.Fatal(err)
	}
	return o
}

// flip changes one byte above a device.
func flip(t *testing.T, r block.Reader, at int64) *block.Overlay {
	t.Helper()
	b := make([]byte, 512)
	if _, err := r.ReadAt(b, at&^511); err != nil {
		t.Fatal(err)
	}
	b[at%512] ^= 0x10
	return over(t, r, uint64(at)/512, b)
}

// copies gives a one-member volume whose superblock copies differ: seqs are
// their sequence numbers.
func copies(seqs ...uint64) (*build.Volume, block.Reader) {
	v := build.New(build.Config{})
	d := v.Devices()[0]
	return v, build.Restamp(d, func(i int, sb *ondisk.Superblock) {
		sb.Seq = seqs[i]
		sb.Label = fmt.Sprintf("copy %d", i)
	})
}

func TestNewestGoodCopyWins(t *testing.T) {
	for _, c := range []struct {
		name  string
		seqs  []uint64
		hurt  []int // copies with a flipped byte
		sb    uint64
		label string
		bad   int // copies reported
	}{
		{"equal: the last in layout order", []uint64{5, 5, 5}, nil, 0, "copy 2", 0},
		{"newest first", []uint64{7, 6, 6}, nil, 0, "copy 0", 0},
		{"newest in the middle", []uint64{5, 6, 5}, nil, 0, "copy 1", 0},
		{"newest damaged", []uint64{7, 6, 6}, []int{0}, 0, "copy 2", 1},
		{"two damaged", []uint64{7, 6, 5}, []int{0, 2}, 0, "copy 1", 2},
		{"chosen, though older", []uint64{7, 6, 5}, nil, 136, "copy 1", 0},
		{"chosen, though the others are damaged", []uint64{7, 6, 5}, []int{0, 2}, 136, "copy 1", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, d := copies(c.seqs...)
			for _, i := range c.hurt {
				d = flip(t, d, int64(v.Layout(0).Offsets[i])*512+700)
			}
			sb, all, err := ReadSuper(ctx, d, c.sb)
			if err != nil {
				t.Fatal(err)
			}
			if sb.Label != c.label {
				t.Errorf("ReadSuper = %q, want %q", sb.Label, c.label)
			}
			bad := 0
			for _, x := range all {
				if x.Err != nil {
					bad++
				}
			}
			if bad != c.bad {
				t.Errorf("%d copies reported bad, want %d", bad, c.bad)
			}
		})
	}
}

func TestDamagedCopyIsReported(t *testing.T) {
	v, d := copies(7, 6, 5)
	d = flip(t, d, int64(v.Layout(0).Offsets[1])*512+700)
	var got []string
	if _, err := Open(ctx, []block.Reader{d}, Options{Warn: func(err error) { got = append(got, err.Error()) }}); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || !strings.Contains(got[0], "member0, sector 136") || !strings.Contains(got[0], "sb_csum") {
		t.Errorf("warnings = %q, want one that names member0, sector 136 and sb_csum", got)
	}
}

// TestNewerRefusedCopyIsTheTruth: a copy that is newer and intact, but of a
// volume that uses what is not known, must not be passed over for an older one.
func TestNewerRefusedCopyIsTheTruth(t *testing.T) {
	d := build.Restamp(build.New(build.Config{}).Devices()[0], func(i int, sb *ondisk.Superblock) {
		if i == 0 {
			sb.Seq++
			sb.Features[0] |= 1 << 30
		}
	})
	if _, _, err := ReadSuper(ctx, d, 0); !errors.Is(err, errs.ErrFeature) {
		t.Errorf("ReadSuper with a newer copy that has an unknown feature = %v, want ErrFeature", err)
	}
}

func TestNoGoodCopy(t *testing.T) {
	zero := make([]byte, 64<<10)
	for _, c := range []struct {
		name string
		dev  func() block.Reader
		kind error
		says []string
	}{
		{"layout and all copies but one lost: the stray one is named", func() block.Reader {
			d := build.New(build.Config{}).Devices()[0]
			return over(t, d, 0, zero)
		}, errs.ErrCorrupt, []string{"default superblock damaged", "sector 136", "-o sb=136"}},
		{"layout lost, first copy damaged", func() block.Reader {
			d := build.New(build.Config{}).Devices()[0]
			return flip(t, over(t, d, 7, make([]byte, 512)), 8*512+700)
		}, errs.ErrCorrupt, []string{"-o sb=136"}},
		{"all three copies damaged", func() block.Reader {
			v := build.New(build.Config{})
			d := v.Devices()[0]
			for _, off := range v.Layout(0).Offsets {
				d = flip(t, d, int64(off)*512+700)
			}
			return d
		}, errs.ErrChecksum, []string{"member0", "sector 8", "sb_csum", "expected crc32c_nonzero"}},
		{"empty", func() block.Reader { return block.NewSparse("disk", 1<<20) }, errs.ErrNotBcachefs, []string{"disk", "no bcachefs superblock", "empty"}},
		{"ext4", func() block.Reader {
			s := block.NewSparse("disk", 1<<20)
			b := make([]byte, 1024)
			b[0x38], b[0x39] = 0x53, 0xef
			b[0x5c], b[0x60] = 0x04, 0x40 // journal, extents
			if _, err := s.WriteAt(b, 1024); err != nil {
				t.Fatal(err)
			}
			return s
		}, errs.ErrNotBcachefs, []string{"ext4"}},
		{"LUKS", func() block.Reader {
			s := block.NewSparse("disk", 1<<20)
			if _, err := s.WriteAt([]byte("LUKS\xba\xbe\x00\x01"), 0); err != nil {
				t.Fatal(err)
			}
			return s
		}, errs.ErrNotBcachefs, []string{"LUKS"}},
		{"too short for a superblock", func() block.Reader { return block.NewMemory("stub", make([]byte, 4096+100)) }, errs.ErrNotBcachefs, []string{"stub"}},
		{"cut inside of the superblock", func() block.Reader {
			d := build.New(build.Config{}).Devices()[0]
			b := make([]byte, 8*512+1024)
			if _, err := d.ReadAt(b, 0); err != nil {
				t.Fatal(err)
			}
			return block.NewMemory("cut", b)
		}, nil, []string{"cut"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Open(ctx, []block.Reader{c.dev()}, Options{})
			if err == nil || c.kind != nil && !errors.Is(err, c.kind) {
				t.Errorf("Open = %v, want %v", err, c.kind)
				return
			}
			for _, s := range c.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("Open = %v, want it to say %q", err, s)
				}
			}
		})
	}
}

func TestTruncatedDeviceIsReported(t *testing.T) {
	d := build.New(build.Config{}).Devices()[0]
	b := make([]byte, 8<<20)
	if _, err := d.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	var got []string
	if _, err := Open(ctx, []block.Reader{block.NewMemory("half", b)}, Options{Warn: func(err error) { got = append(got, err.Error()) }}); err != nil {
		t.Fatal(err)
	}
	if s := strings.Join(got, "\n"); !strings.Contains(s, "device is truncated at half, member 0: expected 32768 sectors, found 16384") {
		t.Errorf("warnings of a truncated device:\n%s", s)
	}
}

// three gives the devices of a volume of three members.
func three(c build.Config) (*build.Volume, []block.Reader) {
	c.Members = 3
	v := build.New(c)
	v.SB.SetReplicas([]ondisk.ReplicasEntry{
		{DataType: ondisk.DataBtree, Required: 1, Devs: []uint8{0, 1}},
		{DataType: ondisk.DataUser, Required: 1, Devs: []uint8{1, 2}},
	})
	v.Member(2, func(m *ondisk.Member) { m.DeviceName = "sdz" })
	return v, v.Devices()
}

func names(s *Set) (out []string) {
	for _, d := range s.Devs {
		n := "-"
		if d.Online() {
			n = d.R.Info().Name
		}
		out = append(out, n)
	}
	return out
}

func TestAssembleInAnyOrder(t *testing.T) {
	_, devs := three(build.Config{})
	want := []string{"member0", "member1", "member2"}
	for _, p := range [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		s, err := Open(ctx, []block.Reader{devs[p[0]], devs[p[1]], devs[p[2]]}, Options{Warn: func(err error) { t.Error(err) }})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, names(s)); d != "" {
			t.Errorf("order %v (-want +got):\n%s", p, d)
		}
	}
}

// seqs re-stamps a member: its own seq and write time, and what it says of the
// seqs of all.
func seqs(d block.Reader, seq, writeTime uint64, members ...uint64) block.Reader {
	return build.Restamp(d, func(_ int, sb *ondisk.Superblock) {
		sb.Seq, sb.WriteTime = seq, writeTime
		ms, err := sb.Members()
		if err != nil {
			panic(err)
		}
		for i := range ms {
			ms[i].Seq = members[i]
		}
		if err := sb.SetMembers(ms, sb.MemberStride()); err != nil {
			panic(err)
		}
	})
}

func TestAssemble(t *testing.T) {
	_, d := three(build.Config{})
	_, old := three(build.Config{Version: ondisk.Version1_0 + 3})
	foreign := build.Restamp(d[1], func(_ int, sb *ondisk.Superblock) { sb.UUID[0] ^= 1; sb.UserUUID[0] ^= 1 })
	blocks := build.Restamp(d[1], func(_ int, sb *ondisk.Superblock) { sb.BlockSize = 1 })
	removed := build.Restamp(d[0], func(_ int, sb *ondisk.Superblock) {
		sb.Seq++
		ms, err := sb.Members()
		if err != nil {
			panic(err)
		}
		ms[1].UUID = ondisk.DeletedMemberUUID
		if err := sb.SetMembers(ms, sb.MemberStride()); err != nil {
			panic(err)
		}
		sb.SetReplicas([]ondisk.ReplicasEntry{{DataType: ondisk.DataBtree, Required: 1, Devs: []uint8{0}}, {DataType: ondisk.DataUser, Required: 1, Devs: []uint8{2}}})
	})
	newer := build.Restamp(d[1], func(_ int, sb *ondisk.Superblock) { sb.Seq++ })
	for _, c := range []struct {
		name string
		devs []block.Reader
		o    Options
		want []string
		kind error
		says []string // of the error, else of the warnings
	}{
		{name: "another volume", devs: []block.Reader{d[0], foreign, d[2]}, kind: errs.ErrUsage, says: []string{"member1 belongs to volume "}},
		{name: "another block size", devs: []block.Reader{d[0], blocks, d[2]}, kind: errs.ErrUsage, says: []string{"member1: block size 1 sectors, the volume has 8"}},
		{name: "the same device twice", devs: []block.Reader{same{d[0]}, same{d[0]}}, kind: errs.ErrUsage, says: []string{"the same device as"}},
		{name: "a clone of a member", devs: []block.Reader{d[0], d[1], named{d[1], "clone"}, d[2]}, kind: errs.ErrUsage, says: []string{"clone: duplicate of member 1"}},
		{name: "an old clone, given first", devs: []block.Reader{named{d[1], "clone"}, newer, d[0], d[2]}, kind: errs.ErrUsage, says: []string{"clone: duplicate of member 1, older by seq than member1"}},
		{name: "a member that was removed", devs: []block.Reader{removed, d[1], d[2]}, want: []string{"member0", "-", "member2"}, says: []string{"member1: member 1 has been removed from the volume, device ignored"}},
		{name: "a member that missed superblock writes", devs: []block.Reader{seqs(d[0], 15, 9, 15, 15, 10), seqs(d[1], 15, 9, 15, 15, 10), d[2]}, want: []string{"member0", "member1", "member2"}},
		{name: "split brain: both went on alone", devs: []block.Reader{seqs(d[0], 15, 9, 15, 12, 15), seqs(d[1], 14, 9, 12, 14, 12), d[2]}, kind: errs.ErrSplitBrain, says: []string{"member1", "written 2 times without member0", "no_splitbrain_check"}},
		{name: "split brain: the same number of writes", devs: []block.Reader{seqs(d[0], 15, 9, 15, 12, 15), seqs(d[1], 15, 8, 12, 15, 12), d[2]}, kind: errs.ErrSplitBrain, says: []string{"member1", "both have superblock seq 15, written at different times"}},
		{name: "split brain, accepted", devs: []block.Reader{seqs(d[0], 15, 9, 15, 12, 15), seqs(d[1], 15, 8, 12, 15, 12), d[2]}, o: Options{NoSplitBrainCheck: true}, want: []string{"member0", "member1", "member2"}},
		{name: "below 1.4 members have no seq", devs: []block.Reader{seqs(old[0], 15, 9, 15, 12, 15), seqs(old[1], 15, 8, 12, 15, 12), old[2]}, want: []string{"member0", "member1", "member2"}},
		{name: "no device", kind: errs.ErrUsage, says: []string{"no device given"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var warned []string
			c.o.Warn = func(err error) { warned = append(warned, err.Error()) }
			s, err := Open(ctx, c.devs, c.o)
			text := strings.Join(warned, "\n")
			if c.kind != nil {
				if !errors.Is(err, c.kind) {
					t.Fatalf("Open = %v, want %v", err, c.kind)
				}
				text = err.Error()
			} else if err != nil {
				t.Fatal(err)
			} else if d := cmp.Diff(c.want, names(s)); d != "" {
				t.Errorf("members (-want +got):\n%s", d)
			}
			for _, w := range c.says {
				if !strings.Contains(text, w) {
					t.Errorf("Open says %q, want %q in it", text, w)
				}
			}
			if c.kind == nil && len(c.says) != len(warned) {
				t.Errorf("%d warnings, want %d: %q", len(warned), len(c.says), warned)
			}
		})
	}
}

// same is a device whose identity is known.
type same struct{ block.Reader }

func (s same) Info() block.Info { i := s.Reader.Info(); i.ID = "1:2"; return i }

// named is a device with another name.
type named struct {
	block.Reader
	name string
}

func (n named) Info() block.Info { i := n.Reader.Info(); i.Name = n.name; return i }

// TestReaderNeedNotBeComparable: a Reader may be a struct with a slice in it.
func TestReaderNeedNotBeComparable(t *testing.T) {
	_, d := three(build.Config{})
	var rs []block.Reader
	for _, r := range d {
		rs = append(rs, odd{r, nil})
	}
	if _, err := Open(ctx, rs, Options{}); err != nil {
		t.Error(err)
	}
}

type odd struct {
	block.Reader
	_ []int
}

func TestMissingMembers(t *testing.T) {
	_, d := three(build.Config{Version: ondisk.Version1_0 + 30})
	evac := func(version ondisk.Version) []block.Reader {
		v := build.New(build.Config{Members: 3, Version: version})
		v.SB.SetReplicas([]ondisk.ReplicasEntry{{DataType: ondisk.DataBtree, Required: 1, Devs: []uint8{0, 1}}})
		v.SB.SetVersionIncompat(min(version, ondisk.Version1_0+36))
		v.Member(2, func(m *ondisk.Member) { m.SetState(ondisk.MemberEvacuating) })
		return v.Devices()
	}
	e13, e39 := evac(ondisk.Version1_13), evac(ondisk.Version1_39)
	used := build.Restamp(e13[0], func(_ int, sb *ondisk.Superblock) {
		sb.Seq++
		sb.SetReplicas([]ondisk.ReplicasEntry{{DataType: ondisk.DataUser, Required: 1, Devs: []uint8{1, 2}}})
	})
	for _, c := range []struct {
		name string
		devs []block.Reader
		mode Degraded
		ok   bool
		says []string
	}{
		{"one, covered, no", []block.Reader{d[0], d[1]}, DegradedNo, false, []string{"insufficient_devices_to_start", "missing member 2", "last seen as sdz", "add -o degraded "}},
		{"one, covered, yes", []block.Reader{d[0], d[1]}, DegradedYes, true, []string{"degraded: missing member 2"}},
		{"one, covered, very", []block.Reader{d[0], d[1]}, DegradedVery, true, []string{"degraded: missing member 2"}},
		{"two, user data lost, no", []block.Reader{d[0]}, DegradedNo, false, []string{"missing member 1 ", "; member 2 ", "only -o degraded=very opens it", "user on [1 2]"}},
		{"two, user data lost, yes", []block.Reader{d[0]}, DegradedYes, false, []string{"user on [1 2]"}},
		{"two, user data lost, very", []block.Reader{d[0]}, DegradedVery, true, []string{"degraded: missing member 1"}},
		{"two, metadata lost", []block.Reader{d[2]}, DegradedYes, false, []string{"btree on [0 1]"}},
		{"evacuated", e13[:2], DegradedNo, true, []string{"holds nothing any more: member 2"}},
		{"evacuating, still in use", []block.Reader{used, e13[1]}, DegradedNo, false, []string{"missing member 2"}},
		{"evacuated, but 1.36 does not say of what", e39[:2], DegradedNo, false, []string{"missing member 2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var warned []string
			s, err := Open(ctx, c.devs, Options{Degraded: c.mode, Warn: func(err error) { warned = append(warned, err.Error()) }})
			text := strings.Join(warned, "\n")
			if !c.ok {
				if !errors.Is(err, errs.ErrDegraded) || !errors.Is(err, errs.ErrMissingDevice) {
					t.Fatalf("Open = %v, want ErrDegraded and ErrMissingDevice", err)
				}
				text = err.Error()
			} else if err != nil {
				t.Fatal(err)
			} else if n := len(s.Missing()); n != 3-len(c.devs) {
				t.Errorf("%d missing, want %d", n, 3-len(c.devs))
			}
			for _, w := range c.says {
				if !strings.Contains(text, w) {
					t.Errorf("Open says %q, want %q in it", text, w)
				}
			}
		})
	}
}

func TestEncrypted(t *testing.T) {
	key := crypt.Key{1, 2, 3}
	pass := crypt.Key{9, 8, 7}
	sealed := build.New(build.Config{Key: &key, PassKey: &pass}).Devices()
	plain := build.New(build.Config{Key: &key}).Devices()
	give := func(k crypt.Key) func(context.Context, *ondisk.Superblock) (*crypt.Key, error) {
		return func(context.Context, *ondisk.Superblock) (*crypt.Key, error) { return &k, nil }
	}
	never := func(context.Context, *ondisk.Superblock) (*crypt.Key, error) {
		return nil, errors.New("asked for a key")
	}
	asked := errors.New("no terminal")
	for _, c := range []struct {
		name string
		devs []block.Reader
		key  func(context.Context, *ondisk.Superblock) (*crypt.Key, error)
		want error
	}{
		{"right key", sealed, give(pass), nil},
		{"wrong key", sealed, give(crypt.Key{1}), errs.ErrPassphrase},
		{"nobody to ask", sealed, nil, errs.ErrLocked},
		{"asking fails", sealed, func(context.Context, *ondisk.Superblock) (*crypt.Key, error) { return nil, asked }, asked},
		{"key stored in the clear", plain, never, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Open(ctx, c.devs, Options{Key: c.key})
			if !errors.Is(err, c.want) {
				t.Fatalf("Open = %v, want %v", err, c.want)
			}
			if c.want == nil && *s.Master != key {
				t.Error("Open found another master key")
			}
		})
	}
}

// TestVersionsAndFeatures: what is newer is read where that is safe, and refused
// by name where it is not.
func TestVersionsAndFeatures(t *testing.T) {
	major := ondisk.Version(1 << 10)
	for _, c := range []struct {
		name   string
		change func(sb *ondisk.Superblock)
		kind   error
		says   string
	}{
		{"1.41, nothing incompatible in use", func(sb *ondisk.Superblock) {
			sb.Version = ondisk.Version1_0 + 41
			sb.SetVersionIncompat(ondisk.Version1_0 + 36)
			sb.SetVersionIncompatAllowed(ondisk.Version1_0 + 41)
		}, nil, ""},
		{"1.41 in use", func(sb *ondisk.Superblock) {
			sb.Version = ondisk.Version1_0 + 41
			sb.SetVersionIncompat(ondisk.Version1_0 + 41)
			sb.SetVersionIncompatAllowed(ondisk.Version1_0 + 41)
		}, errs.ErrVersion, "expected at most 1.39: per_dev_fragmentation_lru, found 1.41"},
		{"2.0", func(sb *ondisk.Superblock) { sb.Version = 2 * major }, errs.ErrVersion, "expected 0.9 to 1.x, found 2.0"},
		{"2.0 with 2.0 as the oldest", func(sb *ondisk.Superblock) { sb.Version, sb.VersionMin = 2*major, 2*major }, errs.ErrVersion, "found 2.0"},
		{"0.8", func(sb *ondisk.Superblock) { sb.Version, sb.VersionMin = 8, 8 }, errs.ErrVersion, "found 0.8"},
		{"bsets of 0.13", func(sb *ondisk.Superblock) { sb.VersionMin = 13 }, errs.ErrVersion, "expected at least 0.14, found 0.13"},
		{"feature 24", func(sb *ondisk.Superblock) { sb.Features[0] |= 1 << 24 }, errs.ErrFeature, "unknown incompatible features: bit 24"},
		{"features 40 and 64", func(sb *ondisk.Superblock) { sb.Features[0] |= 1 << 40; sb.Features[1] = 1 }, errs.ErrFeature, "bit 40, bit 64"},
		{"unknown compatible feature", func(sb *ondisk.Superblock) { sb.Compat[0] |= 1 << 50 }, nil, ""},
		{"atomic_nlink", func(sb *ondisk.Superblock) { sb.Features[0] |= 1 << 3 }, nil, ""},
		{"no_default_sb", func(sb *ondisk.Superblock) { sb.Features[0] |= 1 << 23 }, nil, ""},
		{"unknown field", func(sb *ondisk.Superblock) { sb.SetField(99, make([]byte, 16)) }, nil, ""},
		{"big endian", func(sb *ondisk.Superblock) { sb.Flags[0] |= 1 << 62 }, errs.ErrUnsupported, "big-endian"},
		{"without new_extent_overwrite", func(sb *ondisk.Superblock) { sb.SetFeature(ondisk.FeatureNewExtentOverwrite, false) }, errs.ErrVersion, "new_extent_overwrite"},
		{"every known feature", func(sb *ondisk.Superblock) { sb.Features[0] = ondisk.FeaturesKnown }, nil, ""},
		{"never initialized", func(sb *ondisk.Superblock) { sb.SetInitialized(false) }, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := build.Restamp(build.New(build.Config{Version: ondisk.Version1_39}).Devices()[0], func(_ int, sb *ondisk.Superblock) { c.change(sb) })
			_, err := Open(ctx, []block.Reader{d}, Options{Warn: func(err error) { t.Error(err) }})
			if !errors.Is(err, c.kind) {
				t.Fatalf("Open = %v, want %v", err, c.kind)
			}
			if c.kind != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("Open = %v, want %q in it", err, c.says)
			}
		})
	}
}

// TestNoDefaultSuperblock: a volume that was made by migrating another file
// system has nothing at sector 8; it is opened where one says.
func TestNoDefaultSuperblock(t *testing.T) {
	v := build.New(build.Config{})
	v.Devices()
	sb := v.DeviceSuper(0)
	sb.SetFeature(ondisk.FeatureNoDefaultSB, true)
	sb.Layout.Offsets = sb.Layout.Offsets[1:]
	d := block.NewOverlay(v.Dev[0])
	if _, err := d.WriteAt(make([]byte, 16<<10), 0); err != nil {
		t.Fatal(err)
	}
	for _, off := range sb.Layout.Offsets {
		c := sb.Clone()
		c.Offset = off
		over(t, d, off, c.Append(nil))
	}
	if _, err := Open(ctx, []block.Reader{d}, Options{}); err == nil || !strings.Contains(err.Error(), "-o sb=136") {
		t.Errorf("Open = %v, want to be told of -o sb=136", err)
	}
	if _, err := Open(ctx, []block.Reader{d}, Options{SBSector: 136}); err != nil {
		t.Errorf("Open at sector 136 = %v", err)
	}
}

func TestReadSectors(t *testing.T) {
	_, d := three(build.Config{})
	s, err := Open(ctx, []block.Reader{d[0], d[2]}, Options{Degraded: DegradedVery})
	if err != nil {
		t.Fatal(err)
	}
	end := uint64(d[0].Size()) / 512
	for _, c := range []struct {
		name   string
		dev    uint8
		sector uint64
		want   error
	}{
		{"good", 0, 0, nil},
		{"last sector", 2, end - 1, nil},
		{"member missing", 1, 0, errs.ErrMissingDevice},
		{"no such member", 9, 0, errs.ErrMissingDevice},
		{"invalid member", ondisk.InvalidDev, 0, errs.ErrMissingDevice},
		{"at the end", 0, end, errs.ErrIO},
		{"behind the end", 0, end + 1, errs.ErrIO},
		{"far behind the end", 0, 1<<63 + 5, errs.ErrIO},
		{"where bytes wrap", 0, 1<<55 - 1, errs.ErrIO},
	} {
		if err := s.ReadSectors(c.dev, c.sector, make([]byte, 512)); !errors.Is(err, c.want) {
			t.Errorf("%s: ReadSectors(%d, %d) = %v, want %v", c.name, c.dev, c.sector, err, c.want)
		}
	}
	if err := s.ReadSectors(0, end-1, make([]byte, 1024)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("ReadSectors across the end = %v, want ErrUnexpectedEOF", err)
	}
}

// TestRealMembers assembles the volumes of several members of the real
// implementation from every order of their devices.
func TestRealMembers(t *testing.T) {
	for _, name := range []string{"replicas2", "stripe3", "v39ec"} {
		devs := testvol.Load(t, name)
		slices.Reverse(devs)
		for range devs {
			devs = append(devs[1:], devs[0])
			s, err := Open(ctx, devs, Options{Warn: func(err error) { t.Error(err) }})
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			for i, d := range s.Devs {
				if !d.Online() || int(d.SB.DevIdx) != i {
					t.Errorf("%s: member %d is in the wrong place", name, i)
				}
			}
		}
	}
}
