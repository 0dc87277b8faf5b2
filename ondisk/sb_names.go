package ondisk

import "strconv"

// SBFieldType is the type of a variable-length field of the superblock (chapter
// 01 section 5).
type SBFieldType uint32

// Field types. Those of a newer version must be kept.
const (
	FieldJournal          SBFieldType = 0 // per device, before journal_v2
	FieldMembersV1        SBFieldType = 1
	FieldCrypt            SBFieldType = 2
	FieldReplicasV0       SBFieldType = 3
	FieldQuota            SBFieldType = 4
	FieldDiskGroups       SBFieldType = 5
	FieldClean            SBFieldType = 6
	FieldReplicas         SBFieldType = 7
	FieldJournalBlacklist SBFieldType = 8
	FieldJournalV2        SBFieldType = 9 // per device
	FieldCounters         SBFieldType = 10
	FieldMembersV2        SBFieldType = 11
	FieldErrors           SBFieldType = 12
	FieldExt              SBFieldType = 13
	FieldDowngrade        SBFieldType = 14
	FieldRecoveryPasses   SBFieldType = 15
	FieldExtentTypeU64s   SBFieldType = 16
	FieldErrorsV2         SBFieldType = 17
	NrSBFields                        = 18
)

var sbFieldNames = [NrSBFields]string{"journal", "members_v1", "crypt", "replicas_v0", "quota", "disk_groups", "clean", "replicas",
	"journal_seq_blacklist", "journal_v2", "counters", "members_v2", "errors", "ext", "downgrade", "recovery_passes", "extent_type_u64s", "errors_v2"}

// String is the name of the field, or "(unknown field N)".
func (t SBFieldType) String() string {
	if t < NrSBFields {
		return sbFieldNames[t]
	}
	return "(unknown field " + strconv.FormatUint(uint64(t), 10) + ")"
}

// PerDevice: the field belongs to one member and is not copied to the others.
func (t SBFieldType) PerDevice() bool { return t == FieldJournal || t == FieldJournalV2 }

// ParseSBFieldType finds a field by name.
func ParseSBFieldType(s string) (SBFieldType, bool) {
	i, ok := findName(sbFieldNames[:], s)
	return SBFieldType(i), ok
}

// Feature numbers a bit of the incompatible features (chapter 01 section 4).
type Feature uint8

// Features.
const (
	FeatureLZ4                      Feature = 0
	FeatureGzip                     Feature = 1
	FeatureZstd                     Feature = 2
	FeatureAtomicNlink              Feature = 3
	FeatureEC                       Feature = 4
	FeatureJournalSeqBlacklistV3    Feature = 5
	FeatureReflink                  Feature = 6
	FeatureNewSiphash               Feature = 7
	FeatureInlineData               Feature = 8
	FeatureNewExtentOverwrite       Feature = 9
	FeatureIncompressible           Feature = 10
	FeatureBtreePtrV2               Feature = 11
	FeatureExtentsAboveBtreeUpdates Feature = 12
	FeatureBtreeUpdatesJournalled   Feature = 13
	FeatureReflinkInlineData        Feature = 14
	FeatureNewVarint                Feature = 15
	FeatureJournalNoFlush           Feature = 16
	FeatureAllocV2                  Feature = 17
	FeatureExtentsAcrossBtreeNodes  Feature = 18
	FeatureIncompatVersionField     Feature = 19
	FeatureCasefolding              Feature = 20
	FeatureNoAllocInfo              Feature = 21
	FeatureSmallImage               Feature = 22
	FeatureNoDefaultSB              Feature = 23
	NrFeatures                              = 24
	FeaturesKnown                   uint64  = 1<<NrFeatures - 1
	// FeaturesAlways must be set whenever the volume is not clean; FeaturesAll
	// is what a new volume up to 1.15 has, later ones add bit 19.
	FeaturesAlways uint64 = 0x63200
	FeaturesAll    uint64 = 0x7ba80
)

var featureNames = [NrFeatures]string{"lz4", "gzip", "zstd", "atomic_nlink", "ec", "journal_seq_blacklist_v3", "reflink", "new_siphash",
	"inline_data", "new_extent_overwrite", "incompressible", "btree_ptr_v2", "extents_above_btree_updates", "btree_updates_journalled",
	"reflink_inline_data", "new_varint", "journal_no_flush", "alloc_v2", "extents_across_btree_nodes", "incompat_version_field",
	"casefolding", "no_alloc_info", "small_image", "no_default_sb"}

// String is the name of the feature, or "(unknown feature N)".
func (f Feature) String() string { return nameOf(featureNames[:], int(f), "feature") }

// ParseFeature finds a feature by name.
func ParseFeature(s string) (Feature, bool) {
	i, ok := findName(featureNames[:], s)
	return Feature(i), ok
}

// Compat numbers a bit of the compatible features (chapter 01 section 4).
type Compat uint8

// Compatible features.
const (
	CompatAllocInfo                    Compat = 0
	CompatAllocMetadata                Compat = 1
	CompatExtentsAboveBtreeUpdatesDone Compat = 2
	CompatBformatOverflowDone          Compat = 3
	CompatNoStalePtrs                  Compat = 4
	NrCompats                                 = 5
)

var compatNames = [NrCompats]string{"alloc_info", "alloc_metadata", "extents_above_btree_updates_done", "bformat_overflow_done", "no_stale_ptrs"}

// String is the name of the bit, or "(unknown compat feature N)".
func (c Compat) String() string { return nameOf(compatNames[:], int(c), "compat feature") }

// MemberState is what a member may be used for (chapter 01 section 5.2).
type MemberState uint8

// Member states.
const (
	MemberRW         MemberState = 0
	MemberRO         MemberState = 1
	MemberEvacuating MemberState = 2 // named failed up to 1.13
	MemberSpare      MemberState = 3
	NrMemberStates               = 4
)

var memberStateNames = [NrMemberStates]string{"rw", "ro", "evacuating", "spare"}

// String is the name that 1.39 uses.
func (s MemberState) String() string { return nameOf(memberStateNames[:], int(s), "member state") }

// ParseMemberState finds a state by name; "failed" is the old name of
// evacuating.
func ParseMemberState(s string) (MemberState, bool) {
	if s == "failed" {
		return MemberEvacuating, true
	}
	i, ok := findName(memberStateNames[:], s)
	return MemberState(i), ok
}

func nameOf(names []string, i int, what string) string {
	if i < len(names) {
		return names[i]
	}
	return "(unknown " + what + " " + strconv.Itoa(i) + ")"
}

func findName(names []string, s string) (int, bool) {
	for i, n := range names {
		if n == s {
			return i, true
		}
	}
	return 0, false
}
