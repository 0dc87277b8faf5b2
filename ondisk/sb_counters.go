package ondisk

import "strconv"

// Counter is the stable number of an event counter (chapter 01 appendix B): the
// index in the field counters.
type Counter uint8

// NrCounters is the number of counters that 1.39 has.
const NrCounters = 136

// String is the name that 1.39 uses, or "(unknown counter N)".
func (c Counter) String() string {
	if c < NrCounters {
		return counterNames[c]
	}
	return "(unknown counter " + strconv.Itoa(int(c)) + ")"
}

// Sectors: the counter counts sectors, not events.
func (c Counter) Sectors() bool { return c < NrCounters && counterSectors[c/64]>>(c%64)&1 != 0 }

// ParseCounter finds a counter by name.
func ParseCounter(s string) (Counter, bool) {
	i, ok := findName(counterNames[:], s)
	return Counter(i), ok
}

// counterSectors has the bits of the counters of sectors.
var counterSectors = [3]uint64{0x0000007840000007, 0x43fe0001080f0000, 0x0000000000000025}

var counterNames = [NrCounters]string{
	/* 0 */ "data_read", "data_write", "data_update", "bucket_invalidate",
	/* 4 */ "bucket_discard", "bucket_alloc", "bucket_alloc_fail", "btree_cache_scan",
	/* 8 */ "btree_cache_reap", "btree_cache_cannibalize", "btree_cache_cannibalize_lock", "btree_cache_cannibalize_lock_fail",
	/* 12 */ "btree_cache_cannibalize_unlock", "btree_node_write", "btree_node_read", "btree_node_compact",
	/* 16 */ "btree_node_merge", "btree_node_split", "btree_node_rewrite", "btree_node_alloc",
	/* 20 */ "btree_node_free", "btree_node_set_root", "btree_path_relock_fail", "btree_path_upgrade_fail",
	/* 24 */ "btree_reserve_get_fail", "journal_res_get_blocked", "journal_full", "journal_reclaim_finish",
	/* 28 */ "journal_reclaim_start", "journal_write", "data_read_promote", "data_read_bounce",
	/* 32 */ "data_read_retry", "data_read_split", "data_read_reuse_race", "data_update_read",
	/* 36 */ "data_update_write", "data_update_key", "data_update_key_fail", "data_update_start_fail_obsolete",
	/* 40 */ "copygc", "copygc_wait_obsolete", "gc_gens_end", "gc_gens_start",
	/* 44 */ "trans_blocked_journal_reclaim", "trans_restart_btree_node_reused", "trans_restart_btree_node_split", "trans_restart_fault_inject",
	/* 48 */ "trans_restart_iter_upgrade", "trans_restart_journal_preres_get", "trans_restart_journal_reclaim", "trans_restart_journal_res_get",
	/* 52 */ "trans_restart_key_cache_key_realloced", "trans_restart_key_cache_raced", "trans_restart_mark_replicas", "trans_restart_mem_realloced",
	/* 56 */ "trans_restart_memory_allocation_failure", "trans_restart_relock", "trans_restart_relock_after_fill", "trans_restart_relock_key_cache_fill_obsolete",
	/* 60 */ "trans_restart_relock_next_node", "trans_restart_relock_parent_for_fill_obsolete", "trans_restart_relock_path", "trans_restart_relock_path_intent",
	/* 64 */ "trans_restart_too_many_iters", "trans_restart_traverse", "trans_restart_upgrade", "trans_restart_would_deadlock",
	/* 68 */ "trans_restart_would_deadlock_write", "trans_restart_injected", "trans_restart_key_cache_upgrade", "transaction_begin",
	/* 72 */ "transaction_commit", "write_super", "trans_restart_would_deadlock_recursion_limit", "trans_restart_write_buffer_flush",
	/* 76 */ "trans_restart_split_race", "write_buffer_flush_slowpath", "write_buffer_flush_sync", "bucket_discard_fast",
	/* 80 */ "data_read_inline", "data_read_hole", "data_update_fail", "reconcile_set_pending",
	/* 84 */ "evacuate_bucket", "data_read_nopromote", "data_read_nopromote_may_not", "data_read_nopromote_already_promoted",
	/* 88 */ "data_read_nopromote_unwritten", "data_read_nopromote_congested", "data_update_in_flight", "data_update_no_io",
	/* 92 */ "data_update_noop_obsolete", "error_throw", "accounting_key_to_wb_slowpath", "data_read_fail_and_poison",
	/* 96 */ "data_update_pred", "data_read_narrow_crcs", "data_read_narrow_crcs_fail", "stripe_update_extent",
	/* 100 */ "stripe_update_extent_fail", "btree_node_merge_attempt", "stripe_create", "stripe_create_fail",
	/* 104 */ "stripe_update_bucket", "write_buffer_flush", "write_buffer_maybe_flush", "btree_key_cache_fill",
	/* 108 */ "bucket_discard_worker", "bucket_discard_fast_worker", "sync_fs", "fsync",
	/* 112 */ "bkey_pack_pos_fail", "reconcile_scan_fs", "reconcile_scan_metadata", "reconcile_scan_pending",
	/* 116 */ "reconcile_scan_device", "reconcile_scan_inum", "reconcile_btree", "reconcile_data",
	/* 120 */ "reconcile_phys", "cached_ptr_drop", "open_bucket_alloc_fail", "stripe_reuse",
	/* 124 */ "stripe_delete", "stripe_alloc", "sectors_alloc", "bucket_alloc_from_stripe",
	/* 128 */ "data_update_useless_write_fail", "reconcile_clear_scan", "reconcile_stripe", "stripe_repair_race",
	/* 132 */ "trans_restart_deadlock_waitlist_alloc", "reconcile_scan_stripes", "journal_pin_resize", "journal_flush",
}
