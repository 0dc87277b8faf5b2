package ondisk

import (
	"fmt"
	"strconv"
	"strings"
)

// Version is an on-disk format version: major<<10 | minor (chapter 09).
type Version uint16

// Versions this program names.
const (
	Version1_0  Version = 1 << 10
	Version1_8          = Version1_0 + 8
	Version1_9          = Version1_0 + 9
	Version1_11         = Version1_0 + 11
	Version1_13         = Version1_0 + 13
	Version1_14         = Version1_0 + 14
	Version1_15         = Version1_0 + 15
	Version1_31         = Version1_0 + 31
	Version1_33         = Version1_0 + 33
	Version1_38         = Version1_0 + 38
	Version1_34         = Version1_0 + 34
	Version1_39         = Version1_0 + 39
	// VersionNewest is the newest version whose structures are all known here.
	VersionNewest = Version1_39
	// VersionOldest is the lowest number that any bset may carry.
	VersionOldest Version = 9
)

// Major is the part that decides whether a volume can be opened at all.
func (v Version) Major() int { return int(v >> 10) }

// Minor counts compatible steps.
func (v Version) Minor() int { return int(v & 0x3ff) }

var versionNames = map[Version]string{
	9: "(unsupported)", 10: "bkey_renumber", 11: "inode_btree_change", 12: "snapshot", 13: "inode_backpointers", 14: "btree_ptr_sectors_written",
	15: "snapshot_2", 16: "reflink_p_fix", 17: "subvol_dirent", 18: "inode_v2", 19: "freespace", 20: "alloc_v4", 21: "new_data_types",
	22: "backpointers", 23: "inode_v3", 24: "unwritten_extents", 25: "bucket_gens", 26: "lru_v2", 27: "fragmentation_lru",
	28: "no_bps_in_alloc_keys", 29: "snapshot_trees",
}

var minorNames = []string{"major_minor", "snapshot_skiplists", "deleted_inodes", "rebalance_work", "member_seq", "subvolume_fs_parent",
	"btree_subvolume_children", "mi_btree_bitmap", "bucket_stripe_sectors", "disk_accounting_v2", "disk_accounting_v3", "disk_accounting_inum",
	"rebalance_work_acct_fix", "inode_has_child_snapshots", "backpointer_bucket_gen", "disk_accounting_big_endian", "reflink_p_may_update_opts",
	"inode_depth", "persistent_inode_cursors", "autofix_errors", "directory_size", "cached_backpointers", "stripe_backpointers", "stripe_lru",
	"casefolding", "extent_flags", "snapshot_deletion_v2", "fast_device_removal", "inode_has_case_insensitive", "extent_snapshot_whiteouts",
	"31bit_dirent_offset", "btree_node_accounting", "sb_field_extent_type_u64s", "reconcile", "extented_key_type_error", "bucket_stripe_index",
	"no_sb_user_data_replicas", "erasure_coding", "need_discard_by_journal_seq", "per_dev_fragmentation_lru"}

// String prints "1.13", or "0.14".
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major(), v.Minor()) }

// Name is the upstream name of the version, "(unknown version)" if it has none.
func (v Version) Name() string {
	if v.Major() == 1 && v.Minor() < len(minorNames) {
		return minorNames[v.Minor()]
	}
	if n, ok := versionNames[v]; ok {
		return n
	}
	return "(unknown version)"
}

// ParseVersion reads "1.13".
func ParseVersion(s string) (Version, error) {
	a, b, ok := strings.Cut(s, ".")
	ma, err1 := strconv.ParseUint(a, 10, 6)
	mi, err2 := strconv.ParseUint(b, 10, 10)
	if !ok || err1 != nil || err2 != nil {
		return 0, fmt.Errorf("bad version %q: want MAJOR.MINOR", s)
	}
	return Version(ma<<10 | mi), nil
}
