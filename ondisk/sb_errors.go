package ondisk

import "strconv"

// ErrorID numbers a kind of inconsistency (chapter 01 appendix A). The numbers
// are stable: the superblock counts findings by them and the fields ext and
// downgrade hold sets of them. Ids of a newer version have no name here and must
// be kept.
type ErrorID uint16

// NrErrorIDs is the number of ids that have a name; MaxErrorIDs is what the
// bitmap in the field ext has room for.
const (
	NrErrorIDs  = 428
	MaxErrorIDs = 512
)

// String is the stable lower-case name, or "(unknown error N)".
func (e ErrorID) String() string {
	if int(e) < len(errorNames) {
		return errorNames[e]
	}
	return "(unknown error " + strconv.Itoa(int(e)) + ")"
}

// AutoFix: the reference implementation repairs the finding without asking
// under errors=fix_safe (flags of 1.39).
func (e ErrorID) AutoFix() bool {
	return int(e) < NrErrorIDs && errorAutoFix[e/64]&(1<<(e%64)) != 0
}

// ParseErrorID finds an id by name.
func ParseErrorID(s string) (ErrorID, bool) {
	for i, n := range errorNames {
		if n == s {
			return ErrorID(i), true
		}
	}
	return 0, false
}

// errorAutoFix has the bits of the ids that are repaired without asking.
var errorAutoFix = [7]uint64{0xce01842000001000, 0xdfdcff000000ffff, 0x3b8000600538000f, 0x679fc06605fffc10, 0xfff8cd81fdf7870c, 0xff63f6859e27cdfe, 0x00000c0000000017}

var errorNames = [NrErrorIDs]string{
	/* 0 */ "clean_but_journal_not_empty", "dirty_but_no_journal_entries", "dirty_but_no_journal_entries_post_drop_nonflushes", "sb_clean_journal_seq_mismatch",
	/* 4 */ "sb_clean_btree_root_mismatch", "sb_clean_missing", "jset_unsupported_version", "jset_unknown_csum",
	/* 8 */ "jset_last_seq_newer_than_seq", "jset_past_bucket_end", "jset_seq_blacklisted", "journal_entries_missing",
	/* 12 */ "journal_entry_replicas_not_marked", "journal_entry_past_jset_end", "journal_entry_replicas_data_mismatch", "journal_entry_bkey_u64s_0",
	/* 16 */ "journal_entry_bkey_past_end", "journal_entry_bkey_bad_format", "journal_entry_bkey_invalid", "journal_entry_btree_root_bad_size",
	/* 20 */ "journal_entry_blacklist_bad_size", "journal_entry_blacklist_v2_bad_size", "journal_entry_blacklist_v2_start_past_end", "journal_entry_usage_bad_size",
	/* 24 */ "journal_entry_data_usage_bad_size", "journal_entry_clock_bad_size", "journal_entry_clock_bad_rw", "journal_entry_dev_usage_bad_size",
	/* 28 */ "journal_entry_dev_usage_bad_dev", "journal_entry_dev_usage_bad_pad", "btree_node_unreadable", "btree_node_fault_injected",
	/* 32 */ "btree_node_bad_magic", "btree_node_bad_seq", "btree_node_unsupported_version", "btree_node_bset_older_than_sb_min",
	/* 36 */ "btree_node_bset_newer_than_sb", "btree_node_data_missing", "btree_node_bset_after_end", "btree_node_replicas_sectors_written_mismatch",
	/* 40 */ "btree_node_replicas_data_mismatch", "bset_unknown_csum", "bset_bad_csum", "bset_past_end_of_btree_node",
	/* 44 */ "bset_wrong_sector_offset", "bset_empty", "bset_bad_seq", "bset_blacklisted_journal_seq",
	/* 48 */ "first_bset_blacklisted_journal_seq", "btree_node_bad_btree", "btree_node_bad_level", "btree_node_bad_min_key",
	/* 52 */ "btree_node_bad_max_key", "btree_node_bad_format", "btree_node_bkey_past_bset_end", "btree_node_bkey_bad_format",
	/* 56 */ "btree_node_bad_bkey", "btree_node_bkey_out_of_order", "btree_root_bkey_invalid", "btree_root_read_error",
	/* 60 */ "btree_root_bad_min_key", "btree_root_bad_max_key", "btree_node_read_error", "btree_node_topology_bad_min_key",
	/* 64 */ "btree_node_topology_bad_max_key", "btree_node_topology_overwritten_by_prev_node", "btree_node_topology_overwritten_by_next_node", "btree_node_topology_interior_node_empty",
	/* 68 */ "fs_usage_hidden_wrong", "fs_usage_btree_wrong", "fs_usage_data_wrong", "fs_usage_cached_wrong",
	/* 72 */ "fs_usage_reserved_wrong", "fs_usage_persistent_reserved_wrong", "fs_usage_nr_inodes_wrong", "fs_usage_replicas_wrong",
	/* 76 */ "dev_usage_buckets_wrong", "dev_usage_sectors_wrong", "dev_usage_fragmented_wrong", "dev_usage_buckets_ec_wrong",
	/* 80 */ "bkey_version_in_future", "bkey_u64s_too_small", "bkey_invalid_type_for_btree", "bkey_extent_size_zero",
	/* 84 */ "bkey_extent_size_greater_than_offset", "bkey_size_nonzero", "bkey_snapshot_nonzero", "bkey_snapshot_zero",
	/* 88 */ "bkey_at_pos_max", "bkey_before_start_of_btree_node", "bkey_after_end_of_btree_node", "bkey_val_size_nonzero",
	/* 92 */ "bkey_val_size_too_small", "alloc_v1_val_size_bad", "alloc_v2_unpack_error", "alloc_v3_unpack_error",
	/* 96 */ "alloc_v4_val_size_bad", "alloc_v4_backpointers_start_bad", "alloc_key_data_type_bad", "alloc_key_empty_but_have_data",
	/* 100 */ "alloc_key_dirty_sectors_0", "alloc_key_data_type_inconsistency", "alloc_key_to_missing_dev_bucket", "alloc_key_cached_inconsistency",
	/* 104 */ "alloc_key_cached_but_read_time_zero", "alloc_key_to_missing_lru_entry", "alloc_key_data_type_wrong", "alloc_key_gen_wrong",
	/* 108 */ "alloc_key_dirty_sectors_wrong", "alloc_key_cached_sectors_wrong", "alloc_key_stripe_wrong", "alloc_key_stripe_redundancy_wrong",
	/* 112 */ "bucket_sector_count_overflow", "bucket_metadata_type_mismatch", "need_discard_key_wrong", "freespace_key_wrong",
	/* 116 */ "freespace_hole_missing", "bucket_gens_val_size_bad", "bucket_gens_key_wrong", "bucket_gens_hole_wrong",
	/* 120 */ "bucket_gens_to_invalid_dev", "bucket_gens_to_invalid_buckets", "bucket_gens_nonzero_for_invalid_buckets", "need_discard_freespace_key_to_invalid_dev_bucket",
	/* 124 */ "need_discard_freespace_key_bad", "backpointer_bucket_offset_wrong", "backpointer_to_missing_device", "backpointer_to_missing_alloc",
	/* 128 */ "backpointer_to_missing_ptr", "lru_entry_at_time_0", "lru_entry_to_invalid_bucket", "lru_entry_bad",
	/* 132 */ "btree_ptr_val_too_big", "btree_ptr_v2_val_too_big", "btree_ptr_has_non_ptr", "extent_ptrs_invalid_entry",
	/* 136 */ "extent_ptrs_no_ptrs", "extent_ptrs_too_many_ptrs", "extent_ptrs_redundant_crc", "extent_ptrs_redundant_stripe",
	/* 140 */ "extent_ptrs_unwritten", "extent_ptrs_written_and_unwritten", "ptr_to_invalid_device", "ptr_to_duplicate_device",
	/* 144 */ "ptr_after_last_bucket", "ptr_before_first_bucket", "ptr_spans_multiple_buckets", "ptr_to_missing_backpointer",
	/* 148 */ "ptr_to_missing_alloc_key", "ptr_to_missing_replicas_entry", "ptr_to_missing_stripe", "ptr_to_incorrect_stripe",
	/* 152 */ "ptr_gen_newer_than_bucket_gen", "ptr_too_stale", "stale_dirty_ptr", "ptr_bucket_data_type_mismatch",
	/* 156 */ "ptr_cached_and_erasure_coded", "ptr_crc_uncompressed_size_too_small", "ptr_crc_csum_type_unknown", "ptr_crc_compression_type_unknown",
	/* 160 */ "ptr_crc_redundant", "ptr_crc_uncompressed_size_too_big", "ptr_crc_nonce_mismatch", "ptr_stripe_redundant",
	/* 164 */ "reservation_key_nr_replicas_invalid", "reflink_v_refcount_wrong", "reflink_p_to_missing_reflink_v", "stripe_pos_bad",
	/* 168 */ "stripe_val_size_bad", "stripe_sector_count_wrong", "snapshot_tree_pos_bad", "snapshot_tree_to_missing_snapshot",
	/* 172 */ "snapshot_tree_to_missing_subvol", "snapshot_tree_to_wrong_subvol", "snapshot_tree_to_snapshot_subvol", "snapshot_pos_bad",
	/* 176 */ "snapshot_parent_bad", "snapshot_children_not_normalized", "snapshot_child_duplicate", "snapshot_child_bad",
	/* 180 */ "snapshot_skiplist_not_normalized", "snapshot_skiplist_bad", "snapshot_should_not_have_subvol", "snapshot_to_bad_snapshot_tree",
	/* 184 */ "snapshot_bad_depth", "snapshot_bad_skiplist", "subvol_pos_bad", "subvol_not_master_and_not_snapshot",
	/* 188 */ "subvol_to_missing_root", "subvol_root_wrong_bi_subvol", "bkey_in_missing_snapshot", "inode_pos_inode_nonzero",
	/* 192 */ "inode_pos_blockdev_range", "inode_unpack_error", "inode_str_hash_invalid", "inode_v3_fields_start_bad",
	/* 196 */ "inode_snapshot_mismatch", "inode_unlinked_but_clean", "inode_unlinked_but_nlink_nonzero", "inode_checksum_type_invalid",
	/* 200 */ "inode_compression_type_invalid", "inode_subvol_root_but_not_dir", "inode_i_size_dirty_but_clean", "inode_i_sectors_dirty_but_clean",
	/* 204 */ "inode_i_sectors_wrong", "inode_dir_wrong_nlink", "inode_dir_multiple_links", "inode_multiple_links_but_nlink_0",
	/* 208 */ "inode_wrong_backpointer", "inode_wrong_nlink", "inode_unreachable", "deleted_inode_but_clean",
	/* 212 */ "deleted_inode_missing", "deleted_inode_is_dir", "deleted_inode_not_unlinked", "extent_overlapping",
	/* 216 */ "key_in_missing_inode", "key_in_wrong_inode_type", "extent_past_end_of_inode", "dirent_empty_name",
	/* 220 */ "dirent_val_too_big", "dirent_name_too_long", "dirent_name_embedded_nul", "dirent_name_dot_or_dotdot",
	/* 224 */ "dirent_name_has_slash", "dirent_d_type_wrong", "inode_bi_parent_wrong", "dirent_in_missing_dir_inode",
	/* 228 */ "dirent_in_non_dir_inode", "dirent_to_missing_inode", "dirent_to_missing_subvol", "dirent_to_itself",
	/* 232 */ "quota_type_invalid", "xattr_val_size_too_small", "xattr_val_size_too_big", "xattr_invalid_type",
	/* 236 */ "xattr_name_invalid_chars", "xattr_in_missing_inode", "root_subvol_missing", "root_dir_missing",
	/* 240 */ "root_inode_not_dir", "dir_loop", "hash_table_key_duplicate", "hash_table_key_wrong_offset",
	/* 244 */ "unlinked_inode_not_on_deleted_list", "reflink_p_front_pad_bad", "journal_entry_dup_same_device", "inode_bi_subvol_missing",
	/* 248 */ "inode_bi_subvol_wrong", "inode_points_to_missing_dirent", "inode_points_to_wrong_dirent", "inode_bi_parent_nonzero",
	/* 252 */ "dirent_to_missing_parent_subvol", "dirent_not_visible_in_parent_subvol", "subvol_fs_path_parent_wrong", "subvol_root_fs_path_parent_nonzero",
	/* 256 */ "subvol_children_not_set", "subvol_children_bad", "subvol_loop", "subvol_unreachable",
	/* 260 */ "btree_node_bkey_bad_u64s", "btree_node_topology_empty_interior_node", "btree_ptr_v2_min_key_bad", "btree_root_unreadable_and_scan_found_nothing",
	/* 264 */ "snapshot_node_missing", "dup_backpointer_to_bad_csum_extent", "btree_bitmap_not_marked", "sb_clean_entry_overrun",
	/* 268 */ "btree_ptr_v2_written_0", "subvol_snapshot_bad", "subvol_inode_bad", "alloc_key_stripe_sectors_wrong",
	/* 272 */ "accounting_mismatch", "accounting_replicas_not_marked", "invalid_btree_id", "alloc_key_io_time_bad",
	/* 276 */ "alloc_key_fragmentation_lru_wrong", "accounting_key_junk_at_end", "accounting_key_replicas_nr_devs_0", "accounting_key_replicas_nr_required_bad",
	/* 280 */ "accounting_key_replicas_devs_unsorted", "inode_unlinked_and_not_open", "accounting_key_version_0", "logged_op_but_clean",
	/* 284 */ "inode_dir_missing_backpointer", "inode_unlinked_but_has_dirent", "inode_dir_unlinked_but_not_empty", "inode_has_child_snapshots_wrong",
	/* 288 */ "deleted_inode_has_child_snapshots", "accounting_to_invalid_device", "stripe_csum_granularity_bad", "discarding_bucket_not_in_need_discard_btree",
	/* 292 */ "reflink_v_pos_bad", "reflink_refcount_underflow", "backpointer_level_bad", "compression_opt_not_marked_in_sb",
	/* 296 */ "compression_type_not_marked_in_sb", "backpointer_dev_bad", "alloc_key_journal_seq_in_future", "inode_journal_seq_in_future",
	/* 300 */ "ptr_crc_uncompressed_size_mismatch", "inode_alloc_cursor_inode_bad", "dirent_to_overwritten_inode", "directory_size_mismatch",
	/* 304 */ "dirent_cf_name_too_big", "dirent_stray_data_after_cf_name", "extent_flags_not_at_start", "accounting_key_nr_counters_wrong",
	/* 308 */ "subvol_missing", "reconcile_work_incorrectly_set", "reconcile_bp_to_missing_btree_ptr", "vfs_inode_i_blocks_underflow",
	/* 312 */ "inode_i_sectors_underflow", "vfs_inode_i_blocks_not_zero_at_truncate", "snapshot_key_missing_inode_snapshot", "bkey_in_deleted_snapshot",
	/* 316 */ "inode_has_case_insensitive_not_set", "inode_parent_has_case_insensitive_not_set", "dirent_casefold_mismatch", "inode_dir_has_nonzero_i_size",
	/* 320 */ "vfs_bad_inode_rm", "missing_inode_with_contents", "ptr_to_removed_device", "btree_node_topology_bad_root_min_key",
	/* 324 */ "btree_node_topology_bad_root_max_key", "accounting_key_underflow", "accounting_key_version_out_of_order", "stale_ptr_with_no_stale_ptrs_feature",
	/* 328 */ "btree_node_topology_gap_between_nodes", "validate_error_in_commit", "extent_io_opts_not_set", "extent_io_opts_unneeded",
	/* 332 */ "extent_reconcile_bad_pending", "extent_reconcile_bad_hipri", "reconcile_bp_to_leaf_node_key", "btree_ptr_with_no_reconcile_bp",
	/* 336 */ "btree_ptr_with_bad_reconcile_bp", "btree_ptr_to_bad_reconcile_bp", "extent_ptrs_all_invalid", "extent_reconcile_bad_replicas",
	/* 340 */ "stripe_sectors_zero", "reconcile_work_phys_incorrectly_set", "compression_error", "vfs_i_size_bad",
	/* 344 */ "vfs_i_sectors_bad", "alloc_key_stripe_refcount_wrong", "stripe_to_missing_bucket_ref", "bucket_stripe_ref_to_missing_stripe",
	/* 348 */ "bucket_stripe_ref_to_incorrect_stripe", "vfs_unlink_got_wrong_inum", "data_update_got_non_extent", "extent_ptrs_all_invalid_but_cached",
	/* 352 */ "stripe_needs_reconcile_not_set", "alloc_key_bucket_nonempty_to_empty_not_open", "stripe_update_stale_stripe_ptr", "journal_entry_rewind_limit_bad_size",
	/* 356 */ "journal_entry_rewind_bad_size", "device_bad_flush", "journal_bucket_seq_not_monotonic", "alloc_key_data_type_free_dirty_bookkeeping",
	/* 360 */ "stripe_parity_block_sector_count_wrong", "stripe_can_widen_wrong", "dup_extents_to_reflink", "stripe_read_ptr_stale",
	/* 364 */ "bkey_in_deleted_interior_snapshot", "inode_has_inode_opts_flag_wrong", "inode_has_access_acl_flag_wrong", "inode_has_default_acl_flag_wrong",
	/* 368 */ "dirent_to_inode_in_descendant_snapshot", "snapshot_subvol_flag_wrong", "snapshot_pad_nonzero", "snapshot_edge_bad",
	/* 372 */ "subvol_pad_nonzero", "snapshot_state_bad", "subvol_state_bad", "subvol_snapshot_not_leaf",
	/* 376 */ "snapshot_deleted_but_subvol_live", "snapshot_subvol_backref_wrong", "snapshot_no_keys_childless", "snapshot_state_bitflip",
	/* 380 */ "subvol_state_bitflip", "snapshot_deleted_has_live_children", "snapshot_state_stale_tombstone", "subvol_root_unlinked_flag_missing",
	/* 384 */ "snapshot_deleted_but_linked", "snapshot_deleted_but_has_data", "snapshot_subvol_state_mismatch", "damage_entries_bad",
	/* 388 */ "damage_key_no_inode", "data_read_io_err_recovered", "data_read_io_err", "data_read_csum_err_recovered",
	/* 392 */ "data_read_csum_err", "data_lost_device_removed", "blk_sts_notsupp", "blk_sts_timeout",
	/* 396 */ "blk_sts_nospc", "blk_sts_transport", "blk_sts_target", "blk_sts_resv_conflict",
	/* 400 */ "blk_sts_medium", "blk_sts_protection", "blk_sts_resource", "blk_sts_ioerr",
	/* 404 */ "blk_sts_again", "blk_sts_dev_resource", "blk_sts_offline", "blk_sts_duration_limit",
	/* 408 */ "blk_sts_inval", "blk_sts_removed", "blk_sts_unknown", "data_decompress_err_exceeded_max_encoded_extent",
	/* 412 */ "data_decompress_err_lz4_old", "data_decompress_err_lz4", "data_decompress_err_gzip", "data_decompress_err_gzip_size_mismatch",
	/* 416 */ "data_decompress_err_zstd_src_len_bad", "data_decompress_err_zstd_size_mismatch", "data_decompress_err_zstd_corruption_detected", "data_decompress_err_zstd_checksum_wrong",
	/* 420 */ "data_decompress_err_zstd_prefix_unknown", "data_decompress_err_zstd_src_size_wrong", "data_decompress_err_zstd_dst_size_too_small", "data_decompress_err_zstd_memory_allocation",
	/* 424 */ "data_decompress_err_zstd_unknown", "data_decompress_err_unknown", "snapshot_child_missing_but_accounted", "inode_unreachable_dirent_in_descendant",
}
