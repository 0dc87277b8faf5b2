package ondisk

import "strconv"

// RecoveryPass is the stable id of a recovery or check pass (chapter 01 section
// 5.13), as the fields ext, downgrade and recovery_passes use it. Ids of a newer
// version have no name here and must be kept.
type RecoveryPass uint8

// Passes.
const (
	PassAllocRead                   RecoveryPass = 0
	PassStripesRead                 RecoveryPass = 1
	PassInitializeSubvolumes        RecoveryPass = 2
	PassSnapshotsRead               RecoveryPass = 3
	PassCheckTopology               RecoveryPass = 4
	PassCheckAllocations            RecoveryPass = 5
	PassTransMarkDevSBs             RecoveryPass = 6
	PassFSJournalAlloc              RecoveryPass = 7
	PassSetMayGoRW                  RecoveryPass = 8
	PassJournalReplay               RecoveryPass = 9
	PassCheckAllocInfo              RecoveryPass = 10
	PassCheckLRUs                   RecoveryPass = 11
	PassCheckBtreeBackpointers      RecoveryPass = 12
	PassCheckBackpointersToExtents  RecoveryPass = 13
	PassCheckExtentsToBackpointers  RecoveryPass = 14
	PassCheckAllocToLRURefs         RecoveryPass = 15
	PassFSFreespaceInit             RecoveryPass = 16
	PassBucketGensInit              RecoveryPass = 17
	PassCheckSnapshotTrees          RecoveryPass = 18
	PassCheckSnapshots              RecoveryPass = 19
	PassCheckSubvols                RecoveryPass = 20
	PassDeleteDeadSnapshots         RecoveryPass = 21
	PassFSUpgradeForSubvolumes      RecoveryPass = 22
	PassResumeLoggedOps             RecoveryPass = 23
	PassCheckInodes                 RecoveryPass = 24
	PassCheckExtents                RecoveryPass = 25
	PassCheckIndirectExtents        RecoveryPass = 26
	PassCheckDirents                RecoveryPass = 27
	PassCheckXattrs                 RecoveryPass = 28
	PassCheckRoot                   RecoveryPass = 29
	PassCheckDirectoryStructure     RecoveryPass = 30
	PassCheckNlinks                 RecoveryPass = 31
	PassDeleteDeadInodes            RecoveryPass = 32
	PassFixReflinkP                 RecoveryPass = 33
	PassSetFSNeedsReconcile         RecoveryPass = 34
	PassCheckSubvolChildren         RecoveryPass = 35
	PassCheckSubvolumeStructure     RecoveryPass = 36
	PassScanForBtreeNodes           RecoveryPass = 37
	PassReconstructSnapshots        RecoveryPass = 38
	PassAccountingRead              RecoveryPass = 39
	PassCheckUnreachableInodes      RecoveryPass = 40
	PassEmpty                       RecoveryPass = 41
	PassLookupRootInode             RecoveryPass = 42
	PassCheckReconcileWork          RecoveryPass = 43
	PassDeleteDeadInteriorSnapshots RecoveryPass = 44
	PassMergeBtreeNodes             RecoveryPass = 45
	PassBtreeBitmapGC               RecoveryPass = 46
	PassKillIGenerationKeys         RecoveryPass = 47
	PassPresplitShardBoundaries     RecoveryPass = 48
	PassCheckDamage                 RecoveryPass = 49
	NrRecoveryPasses                             = 50
	// MaxRecoveryPasses is what a bitmap has room for.
	MaxRecoveryPasses = 128
)

// PassFlags say when a pass runs.
type PassFlags uint8

// Pass flags.
const (
	PassAlways  PassFlags = 1 << iota // at every mount
	PassFsck                          // in every check
	PassAlloc                         // needs or makes allocation information
	PassSilent                        // not announced
	PassOnline                        // may run on a mounted volume
	PassNoDefer                       // not put off
)

type passInfo struct {
	name  string
	flags PassFlags
	deps  []RecoveryPass
	run   uint8 // place in the order of 1.39
}

var passes = [NrRecoveryPasses]passInfo{
	PassAllocRead:                   {"alloc_read", PassAlways, nil, 4},
	PassStripesRead:                 {"stripes_read", 0, nil, 5},
	PassInitializeSubvolumes:        {"initialize_subvolumes", 0, nil, 6},
	PassSnapshotsRead:               {"snapshots_read", PassAlways, nil, 7},
	PassCheckTopology:               {"check_topology", 0, []RecoveryPass{PassScanForBtreeNodes}, 2},
	PassCheckAllocations:            {"check_allocations", PassFsck | PassAlloc, []RecoveryPass{PassCheckTopology}, 8},
	PassTransMarkDevSBs:             {"trans_mark_dev_sbs", PassAlways | PassSilent | PassAlloc, nil, 9},
	PassFSJournalAlloc:              {"fs_journal_alloc", PassAlways | PassSilent | PassAlloc, nil, 10},
	PassSetMayGoRW:                  {"set_may_go_rw", PassAlways | PassSilent, []RecoveryPass{PassCheckAllocations}, 11},
	PassJournalReplay:               {"journal_replay", PassAlways, []RecoveryPass{PassSetMayGoRW}, 12},
	PassCheckAllocInfo:              {"check_alloc_info", PassOnline | PassFsck | PassAlloc, []RecoveryPass{PassCheckAllocations}, 15},
	PassCheckLRUs:                   {"check_lrus", PassOnline | PassFsck | PassAlloc, []RecoveryPass{PassCheckAllocations}, 16},
	PassCheckBtreeBackpointers:      {"check_btree_backpointers", PassOnline | PassFsck | PassAlloc, []RecoveryPass{PassCheckAllocations}, 17},
	PassCheckBackpointersToExtents:  {"check_backpointers_to_extents", PassOnline, []RecoveryPass{PassCheckAllocations}, 18},
	PassCheckExtentsToBackpointers:  {"check_extents_to_backpointers", PassOnline | PassFsck | PassAlloc, []RecoveryPass{PassCheckAllocations}, 19},
	PassCheckAllocToLRURefs:         {"check_alloc_to_lru_refs", PassOnline | PassFsck | PassAlloc, []RecoveryPass{PassCheckAllocations}, 20},
	PassFSFreespaceInit:             {"fs_freespace_init", PassAlways | PassSilent, nil, 21},
	PassBucketGensInit:              {"bucket_gens_init", 0, nil, 22},
	PassCheckSnapshotTrees:          {"check_snapshot_trees", PassOnline | PassFsck, []RecoveryPass{PassReconstructSnapshots}, 25},
	PassCheckSnapshots:              {"check_snapshots", PassAlways | PassOnline | PassFsck | PassNoDefer, []RecoveryPass{PassReconstructSnapshots, PassCheckSnapshotTrees}, 26},
	PassCheckSubvols:                {"check_subvols", PassOnline | PassFsck, []RecoveryPass{PassCheckSnapshots}, 27},
	PassDeleteDeadSnapshots:         {"delete_dead_snapshots", PassOnline | PassFsck, []RecoveryPass{PassCheckSnapshots}, 29},
	PassFSUpgradeForSubvolumes:      {"fs_upgrade_for_subvolumes", 0, nil, 30},
	PassResumeLoggedOps:             {"resume_logged_ops", PassAlways, nil, 43},
	PassCheckInodes:                 {"check_inodes", PassFsck, []RecoveryPass{PassCheckSnapshots, PassDeleteDeadSnapshots}, 31},
	PassCheckExtents:                {"check_extents", PassFsck, []RecoveryPass{PassCheckInodes, PassDeleteDeadSnapshots}, 32},
	PassCheckIndirectExtents:        {"check_indirect_extents", PassOnline | PassFsck, []RecoveryPass{PassCheckSnapshots}, 33},
	PassCheckDirents:                {"check_dirents", PassFsck, []RecoveryPass{PassCheckInodes, PassDeleteDeadSnapshots}, 34},
	PassCheckXattrs:                 {"check_xattrs", PassFsck, []RecoveryPass{PassCheckInodes, PassDeleteDeadSnapshots}, 35},
	PassCheckRoot:                   {"check_root", PassOnline | PassFsck, []RecoveryPass{PassCheckInodes}, 37},
	PassCheckDirectoryStructure:     {"check_directory_structure", PassOnline | PassFsck, []RecoveryPass{PassCheckUnreachableInodes}, 40},
	PassCheckNlinks:                 {"check_nlinks", PassFsck, []RecoveryPass{PassCheckInodes, PassCheckDirents}, 41},
	PassDeleteDeadInodes:            {"delete_dead_inodes", PassAlways, nil, 44},
	PassFixReflinkP:                 {"fix_reflink_p", 0, nil, 46},
	PassSetFSNeedsReconcile:         {"set_fs_needs_reconcile", 0, nil, 47},
	PassCheckSubvolChildren:         {"check_subvol_children", PassOnline | PassFsck, []RecoveryPass{PassCheckSubvols}, 28},
	PassCheckSubvolumeStructure:     {"check_subvolume_structure", PassOnline | PassFsck, []RecoveryPass{PassCheckSubvols, PassCheckInodes}, 39},
	PassScanForBtreeNodes:           {"scan_for_btree_nodes", 0, nil, 1},
	PassReconstructSnapshots:        {"reconstruct_snapshots", 0, nil, 23},
	PassAccountingRead:              {"accounting_read", PassAlways, []RecoveryPass{PassCheckTopology}, 3},
	PassCheckUnreachableInodes:      {"check_unreachable_inodes", PassFsck, []RecoveryPass{PassCheckInodes, PassCheckDirents}, 38},
	PassEmpty:                       {"recovery_pass_empty", PassSilent, nil, 0},
	PassLookupRootInode:             {"lookup_root_inode", PassAlways | PassSilent, nil, 49},
	PassCheckReconcileWork:          {"check_reconcile_work", PassOnline | PassFsck, []RecoveryPass{PassCheckSnapshots}, 42},
	PassDeleteDeadInteriorSnapshots: {"delete_dead_interior_snapshots", 0, nil, 24},
	PassMergeBtreeNodes:             {"merge_btree_nodes", PassOnline, nil, 13},
	PassBtreeBitmapGC:               {"btree_bitmap_gc", PassOnline, nil, 48},
	PassKillIGenerationKeys:         {"kill_i_generation_keys", PassOnline, nil, 45},
	PassPresplitShardBoundaries:     {"presplit_shard_boundaries", PassAlways, []RecoveryPass{PassJournalReplay}, 14},
	PassCheckDamage:                 {"check_damage", PassFsck, []RecoveryPass{PassCheckInodes}, 36},
}

// String is the name of the pass, or "(unknown pass N)".
func (p RecoveryPass) String() string {
	if p < NrRecoveryPasses {
		return passes[p].name
	}
	return "(unknown pass " + strconv.Itoa(int(p)) + ")"
}

// Flags say when the pass runs; 0 for unknown ones.
func (p RecoveryPass) Flags() PassFlags {
	if p < NrRecoveryPasses {
		return passes[p].flags
	}
	return 0
}

// DependsOn lists the passes that must have run before.
func (p RecoveryPass) DependsOn() []RecoveryPass {
	if p < NrRecoveryPasses {
		return append([]RecoveryPass(nil), passes[p].deps...)
	}
	return nil
}

// RunOrder is the place of the pass in a run of 1.39; unknown ones come last.
func (p RecoveryPass) RunOrder() int {
	if p < NrRecoveryPasses {
		return int(passes[p].run)
	}
	return int(p)
}

// RecoveryPassesInOrder lists all known passes in the order in which 1.39 runs
// them.
func RecoveryPassesInOrder() []RecoveryPass {
	l := make([]RecoveryPass, NrRecoveryPasses)
	for i, p := range passes {
		l[p.run] = RecoveryPass(i)
	}
	return l
}

// ParseRecoveryPass finds a pass by name; the names of both 1.13 and 1.39 are
// accepted.
func ParseRecoveryPass(s string) (RecoveryPass, bool) {
	if s == "set_fs_needs_rebalance" {
		return PassSetFSNeedsReconcile, true
	}
	for i, p := range passes {
		if p.name == s {
			return RecoveryPass(i), true
		}
	}
	return 0, false
}
