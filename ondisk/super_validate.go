package ondisk

import (
	"fmt"
	"math/bits"
	"strings"

	"github.com/gobcachefs/gobcachefs/errs"
)

// VersionMinOldest is the oldest bset that anybody still reads (chapter 09
// section 3).
const VersionMinOldest Version = 14

func sbBad(reason, want, format string, a ...any) error {
	return errs.Corrupt(errs.Nowhere, reason, want, fmt.Sprintf(format, a...))
}

// Validate applies what chapter 01 section 2.5 calls the full stage; sector is
// where sb was read from. Errors: ErrFeature naming the unknown bits,
// ErrVersion when a newer incompatible version is in use, ErrUnsupported for
// big-endian volumes, ErrCorrupt for the rest. Nothing is changed: values that
// mean "unset" are filled in by Option.Effective.
func (sb *Superblock) Validate(sector uint64) error {
	if err := sb.validateHead(sector); err != nil {
		return err
	}
	if err := sb.Layout.Validate(); err != nil {
		return err
	}
	if err := sb.validateOptions(); err != nil {
		return err
	}
	return sb.validateFields()
}

// ValidateWrite applies Validate and the rules for writers: version_incompat is
// allowed, the sequence number is that of the member, and both forms of member
// array are there that readers of the volume's version want.
func (sb *Superblock) ValidateWrite(sector uint64) error {
	if err := sb.Validate(sector); err != nil {
		return err
	}
	if sb.Magic != SBMagic || sb.Layout.Magic != SBMagic {
		return sbBad("sb_magic", "the current magic", "the old one")
	}
	if raw := Version(sbVersionAllowed.get(sb)); sb.VersionIncompat() > raw || raw > sb.Version {
		return sbBad("sb_version_incompat", fmt.Sprintf("%v allowed, version %v", raw, sb.Version), "%v in use", sb.VersionIncompat())
	}
	if sb.Version >= Version1_0+4 && sb.MemberStride() >= 128 {
		m, err := sb.Member(int(sb.DevIdx))
		if err != nil {
			return err
		}
		if m.Seq != sb.Seq {
			return sbBad("sb_member_seq", fmt.Sprint(sb.Seq), "%d", m.Seq)
		}
	}
	// Releases up to 1.13 refuse a superblock without members_v1.
	if sb.VersionIncompat() <= Version1_0+25 && sb.Field(FieldMembersV1) == nil {
		return sbBad("sb_members_missing", "a field members_v1", "none")
	}
	if !sb.Clean() && sb.Initialized() && sb.Features[0]&FeaturesAlways != FeaturesAlways {
		return sbBad("sb_features", fmt.Sprintf("%#x in a volume that is not clean", FeaturesAlways), "%#x", sb.Features[0])
	}
	return nil
}

func (sb *Superblock) validateHead(sector uint64) error {
	if err := checkVersions(sb.Version, sb.VersionMin); err != nil {
		return err
	}
	if u := [2]uint64{sb.Features[0] &^ FeaturesKnown, sb.Features[1]}; u != [2]uint64{} {
		var names []string
		for _, b := range bitList[Feature](u[:]) {
			names = append(names, fmt.Sprintf("bit %d", b))
		}
		return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrFeature, Reason: "sb_features", Want: fmt.Sprintf("bits 0 to %d", NrFeatures-1), Got: "unknown incompatible features: " + strings.Join(names, ", ")}
	}
	if v := sb.VersionIncompat(); v > VersionNewest {
		return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrVersion, Reason: "sb_version_incompat",
			Want: fmt.Sprintf("at most %v: %s", VersionNewest, VersionNewest.Name()), Got: fmt.Sprintf("%v: %s", v, v.Name())}
	}
	if sb.Initialized() {
		if !sb.HasFeature(FeatureNewExtentOverwrite) {
			return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrVersion, Reason: "sb_features", Want: "feature new_extent_overwrite", Got: "a volume that an older release must upgrade first"}
		}
		if sb.VersionMin < VersionMinOldest {
			return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrVersion, Reason: "sb_version_min", Want: "at least " + VersionMinOldest.String(), Got: sb.VersionMin.String() + ": an older release must upgrade the volume first"}
		}
	}
	bs := sb.BlockSize
	switch {
	case sb.BigEndian():
		return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUnsupported, Reason: "sb_big_endian", Got: "a volume of a big-endian machine"}
	case sb.EncryptionType() > 1:
		return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUnsupported, Reason: "sb_encryption_type", Want: "0 or 1", Got: fmt.Sprint(sb.EncryptionType())}
	case sb.UserUUID.IsZero():
		return sbBad("sb_user_uuid", "a UUID", "zeros")
	case sb.UUID.IsZero():
		return sbBad("sb_uuid", "a UUID", "zeros")
	case sb.Offset != sector:
		return sbBad("sb_offset", fmt.Sprintf("sector %d", sector), "sector %d", sb.Offset)
	case bs == 0 || bits.OnesCount16(bs) != 1 || bs > 64:
		return sbBad("sb_block_size", "a power of two of 1 to 64 sectors", "%d", bs)
	case sb.NrDevices == 0:
		return sbBad("sb_nr_devices", "1 to 255 devices", "0")
	case sb.DevIdx >= sb.NrDevices:
		return sbBad("sb_dev_idx", fmt.Sprintf("less than %d", sb.NrDevices), "%d", sb.DevIdx)
	case sb.TimePrecision < 1 || sb.TimePrecision > 1e9:
		return sbBad("sb_time_precision", "1 to 10^9", "%d", sb.TimePrecision)
	case uint64(sb.Bytes()) > sb.Layout.Reserved()<<9:
		return sbBad("sb_too_big", fmt.Sprintf("at most %d bytes", sb.Layout.Reserved()<<9), "%d", sb.Bytes())
	}
	return nil
}

// validateFields checks every known field by its own rule, members first, as
// the others refer to them. Unknown fields are left alone.
func (sb *Superblock) validateFields() error {
	ms, err := sb.Members()
	if err != nil {
		return err
	}
	groups, err := sb.DiskGroups()
	if err != nil {
		return err
	}
	for i := range ms {
		if err := sb.validateMember(&ms[i]); err != nil {
			return errs.At(err, errs.Where{Dev: i, Sector: -1, Btree: -1, Level: -1})
		}
	}
	checks := []func() error{
		func() error { return validateGroups(groups, ms) },
		func() error { return sb.validateReplicas(ms) },
		sb.validateCrypt,
		sb.validateClean,
		func() error { _, err := sb.JournalBuckets(); return err },
		func() error { _, err := sb.Blacklist(); return err },
		func() error { _, err := sb.Ext(); return err },
		func() error { _, err := sb.Quota(); return err },
		func() error { _, err := sb.Errors(); return err },
		sb.validateDowngrade,
		sb.validateExtentTypes,
	}
	for _, f := range checks {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// minBuckets is the smallest member that the volume's own version accepts.
func (sb *Superblock) minBuckets() uint64 {
	if sb.Version <= Version1_13 {
		return MemberMinBuckets1_13
	}
	// Volumes of up to 1.13 that were upgraded may have fewer than 512.
	if sb.VersionMin <= Version1_13 {
		return MemberMinBuckets1_13
	}
	return MemberMinBuckets
}

// validateMember checks a slot, also that of a removed member. A slot that was
// never used is all zeros and has no geometry to check.
func (sb *Superblock) validateMember(m *Member) error {
	if !m.Exists() && m.NBuckets == 0 && m.BucketSize == 0 {
		return nil
	}
	switch {
	case m.NBuckets > MemberMaxBuckets:
		return sbBad("sb_member_nbuckets", fmt.Sprintf("at most %d", MemberMaxBuckets), "%d", m.NBuckets)
	case m.NBuckets < uint64(m.FirstBucket) || m.NBuckets-uint64(m.FirstBucket) < sb.minBuckets():
		return sbBad("sb_member_nbuckets", fmt.Sprintf("at least %d", uint64(m.FirstBucket)+sb.minBuckets()), "%d", m.NBuckets)
	case m.BucketSize < sb.BlockSize:
		return sbBad("sb_member_bucket_size", fmt.Sprintf("at least a block of %d sectors", sb.BlockSize), "%d", m.BucketSize)
	case int(m.BucketSize) < sb.NodeSectors():
		return sbBad("sb_member_bucket_size", fmt.Sprintf("at least a btree node of %d sectors", sb.NodeSectors()), "%d", m.BucketSize)
	case m.BtreeBitmapShift >= 58:
		return sbBad("sb_member_btree_bitmap_shift", "less than 58", "%d", m.BtreeBitmapShift)
	case m.FreespaceInitialized() && sb.HasFeature(FeatureNoAllocInfo):
		return sbBad("sb_member_freespace_initialized", "no freespace with feature no_alloc_info", "freespace initialized")
	}
	return nil
}

func validateGroups(groups []DiskGroup, ms []Member) error {
	for i := range ms {
		if g := ms[i].Group(); g >= 0 && (g >= len(groups) || groups[g].Deleted) {
			return sbBad("sb_disk_groups", "a group that exists", "group %d of member %d", g, i)
		}
	}
	type name struct {
		parent int
		label  string
	}
	seen := map[name]int{}
	for i, g := range groups {
		if g.Deleted {
			continue
		}
		if g.Label == "" || g.Parent >= len(groups) {
			return sbBad("sb_disk_groups", "a label and a parent that exists", "group %d: %q, parent %d", i, g.Label, g.Parent)
		}
		n := name{g.Parent, g.Label}
		if j, dup := seen[n]; dup {
			return sbBad("sb_disk_groups", "no label twice", "groups %d and %d: %q", j, i, g.Label)
		}
		seen[n] = i
	}
	return nil
}

func (sb *Superblock) validateReplicas(ms []Member) error {
	for _, old := range []bool{true, false} {
		d, head := sb.Field(FieldReplicasV0), 2
		if !old {
			d, head = sb.Field(FieldReplicas), 3
		}
		l, err := decodeReplicas(d, head)
		if err != nil {
			return err
		}
		for _, e := range l {
			if err := e.validate(ms); err != nil {
				return err
			}
		}
	}
	return nil
}

// validate checks an entry against the members; a device 255 was removed.
func (e ReplicasEntry) validate(ms []Member) error {
	switch {
	case len(e.Devs) == 0:
		return sbBad("sb_replicas", "at least one device", "%v: none", e.DataType)
	case e.Required > 1 && e.Required >= len(e.Devs):
		return sbBad("sb_replicas", fmt.Sprintf("less than %d required", len(e.Devs)), "%v: %d", e.DataType, e.Required)
	}
	var seen [256]bool
	for _, d := range e.Devs {
		if d == InvalidDev {
			continue
		}
		if int(d) >= len(ms) || !ms[d].Exists() {
			return sbBad("sb_replicas", "members that exist", "%v: %d", e.DataType, d)
		}
		if seen[d] {
			return sbBad("sb_replicas", "no member twice", "%v: %d", e.DataType, d)
		}
		seen[d] = true
	}
	return nil
}

func (sb *Superblock) validateCrypt() error {
	c, err := sb.Crypt()
	switch {
	case err != nil:
		return err
	case c == nil && sb.Encrypted():
		return sbBad("sb_crypt", "a field crypt in an encrypted volume", "none")
	case c != nil && c.KDF() != 0:
		return sbBad("sb_crypt", "key derivation 0 (scrypt)", "%d", c.KDF())
	}
	return nil
}

func (sb *Superblock) validateClean() error {
	c, err := sb.CleanSection()
	if err != nil || c == nil {
		return err
	}
	if err := JsetEntries(c.Entries, func(JsetEntry) bool { return true }); err != nil {
		return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrCorrupt, Reason: "sb_clean_entry_overrun", Cause: err}
	}
	return nil
}

func (sb *Superblock) validateDowngrade() error {
	l, err := sb.Downgrade()
	if err != nil {
		return err
	}
	for _, e := range l {
		if e.Version.Major() != sb.Version.Major() {
			return sbBad("sb_downgrade", fmt.Sprintf("major version %d", sb.Version.Major()), "%v", e.Version)
		}
	}
	return nil
}

func (sb *Superblock) validateExtentTypes() error {
	for i, n := range sb.ExtentTypeU64s() {
		if i < len(knownExtentTypeU64s) && n != knownExtentTypeU64s[i] {
			return sbBad("sb_extent_type_u64s", fmt.Sprintf("%d u64s for type %d", knownExtentTypeU64s[i], i), "%d", n)
		}
	}
	return nil
}
