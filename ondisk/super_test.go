package ondisk

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

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
