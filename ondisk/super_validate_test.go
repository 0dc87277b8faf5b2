package ondisk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/gobcachefs/gobcachefs/errs"
)

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

// Input that claims more than it holds must not cost more than its size.
func TestSuperblockLimits(t *testing.T) {
	sb := mustFixture(t, "plain")
	for range maxSBFields {
		sb.Fields = append(sb.Fields, SBField{Type: 50})
	}
	if _, err := DecodeSuperblock(sb.Append(nil)); !errors.Is(err, errs.ErrCorrupt) || !strings.Contains(err.Error(), "sb_too_many_fields") {
		t.Errorf("%d fields: %v", len(sb.Fields), err)
	}
	sb = mustFixture(t, "plain")
	sb.SetDiskGroups(make([]DiskGroup, maxDiskGroups+1))
	if l, err := sb.DiskGroups(); !errors.Is(err, errs.ErrCorrupt) {
		t.Errorf("%d groups: %v", len(l), err)
	}
	sb.SetDiskGroups(nil)
	if g, err := sb.AddGroup(strings.Repeat("a.", maxGroupDepth) + "a"); !errors.Is(err, errs.ErrUsage) {
		t.Errorf("a label of %d components: %d, %v", maxGroupDepth+1, g, err)
	}
	sb.SetField(FieldReplicasV0, bytes.Repeat([]byte{1, 0}, maxReplicas+4))
	if l, err := sb.Replicas(); !errors.Is(err, errs.ErrCorrupt) {
		t.Errorf("%d replicas: %v", len(l), err)
	}
	ms, err := sb.Members()
	if err != nil {
		t.Fatal(err)
	}
	ms[0].NBuckets = MemberMaxBuckets
	if err := sb.SetMembers(ms, 0); err != nil {
		t.Fatal(err)
	}
	sb.SetField(FieldJournalV2, []byte{17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0, 0, 0})
	if l, err := sb.JournalBuckets(); !errors.Is(err, errs.ErrCorrupt) {
		t.Errorf("%d journal buckets: %v", len(l), err)
	}
}
