package ondisk

import "math"

const (
	kib = 1 << 10
	mib = 1 << 20
)

var (
	csumChoices        = []string{"none", "crc32c", "crc64", "xxhash"}
	compressionChoices = []string{"none", "lz4", "gzip", "zstd"}
	// allowedChoices are the data types that a member may be allowed to hold.
	allowedChoices = []string{2: "journal", 3: "btree", 4: "user"}
)

const (
	fmtM  = OptFormat | OptMount
	fmtMR = OptFormat | OptMount | OptRuntime
	fmtMo = OptFormat | OptMount | OptMountNotice | OptRuntime
	mr    = OptMount | OptRuntime
)

func atFlags(word, lo, hi uint8) optStore {
	return optStore{where: storeFlags, bits: sbBits{word, lo, hi}}
}

func atFlagsEnc(word, lo, hi uint8, enc optEnc) optStore {
	return optStore{where: storeFlags, bits: sbBits{word, lo, hi}, enc: enc}
}

func atExt(lo, hi uint8, enc optEnc) optStore {
	return optStore{where: storeExt, bits: sbBits{0, lo, hi}, enc: enc}
}

func atMember(lo, hi uint8, enc optEnc) optStore {
	return optStore{where: storeMember, bits: sbBits{0, lo, hi}, enc: enc}
}

var (
	v1_14 = Version1_14
	v1_24 = Version1_0 + 24
	v1_37 = Version1_0 + 37
	v1_38 = Version1_0 + 38
)

// optionTable has the stored options in the order of show-super, then those of
// members, then those that are not stored.
var optionTable = []Option{
	{Name: "block_size", Scope: OptFS, Flags: OptFormat | OptSize | OptPow2, Type: OptUint, Min: 512, Max: 32 * kib, OldMax: 4 * kib, Default: 4096, OldDefault: 4096,
		store: optStore{where: storeBlockSize, enc: encSectors}, Help: "unit of data extents and journal writes; never changes after format"},
	{Name: "btree_node_size", Scope: OptFS, Flags: OptFormat | OptSize | OptPow2, Type: OptUint, Min: 512, Max: 512 * kib, OldMax: 256 * kib, Default: 256 * kib, OldDefault: 256 * kib,
		store: atFlagsEnc(0, 12, 28, encSectors), Help: "larger than a block, not larger than a bucket"},
	{Name: "errors", Scope: OptFS, Flags: fmtMR, Type: OptEnum, Max: 3, Choices: []string{"continue", "fix_safe", "panic", "ro"}, Default: 1, OldDefault: 1,
		store: atFlags(0, 8, 12), Help: "reaction to an inconsistency at run time"},
	{Name: "write_error_timeout", Scope: OptFS, Flags: fmtMR, Type: OptUint, Min: 1, Max: 300, Default: 30, OldDefault: 30, Since: v1_14,
		store: atFlags(6, 4, 14), Help: "seconds a device may fail writes before it is made read-only"},
	{Name: "metadata_replicas", Scope: OptFS, Flags: fmtMo, Type: OptUint, Min: 1, Max: 4, OldMax: 3, Default: 1, OldDefault: 1,
		store: atFlags(0, 48, 52), Help: "copies of btree nodes and journal entries"},
	{Name: "data_replicas", Scope: OptFS | OptInode, Flags: fmtMo, Type: OptUint, Min: 1, Max: 4, OldMax: 3, Default: 1, OldDefault: 1,
		store: atFlags(0, 52, 56), inode: InodeOptDataReplicas + 1, Help: "copies of file data"},
	{Name: "metadata_replicas_required", Scope: OptFS, Flags: fmtM, Type: OptUint, Min: 1, Max: 4, OldMax: 3, Default: 1, OldDefault: 1, Until: Version1_13,
		store: atFlags(1, 20, 24), Help: "copies of metadata that must succeed"},
	{Name: "data_replicas_required", Scope: OptFS, Flags: fmtM, Type: OptUint, Min: 1, Max: 4, OldMax: 3, Default: 1, OldDefault: 1, Until: Version1_13,
		store: atFlags(1, 24, 28), Help: "copies of data that must succeed"},
	{Name: "encoded_extent_max", Scope: OptFS, Flags: OptFormat | OptSize | OptPow2, Type: OptUint, Min: 4 * kib, Max: 2 * mib, OldMax: mib, Default: 256 * kib, OldDefault: 64 * kib,
		store: atFlagsEnc(1, 14, 20, encLog2), Help: "largest checksummed or compressed extent"},
	{Name: "metadata_checksum", Scope: OptFS, Flags: fmtMo, Type: OptEnum, Max: 3, Choices: csumChoices, Default: 1, OldDefault: 1,
		store: atFlags(0, 40, 44), Help: "checksum of btree nodes and journal"},
	{Name: "data_checksum", Scope: OptFS | OptInode, Flags: fmtMo, Type: OptEnum, Max: 3, Choices: csumChoices, Default: 1, OldDefault: 1,
		store: atFlags(0, 44, 48), inode: InodeOptDataChecksum + 1, Help: "checksum of data extents"},
	{Name: "checksum_err_retry_nr", Scope: OptFS, Flags: fmtMR, Type: OptUint, Max: 32, Default: 3, OldDefault: 3, Since: v1_14,
		store: atFlags(6, 14, 20), Help: "reads of one replica after a checksum mismatch"},
	{Name: "compression", Scope: OptFS | OptInode, Flags: fmtMo, Type: OptCompression, Max: 0xff, Choices: compressionChoices,
		store: optStore{where: storeSplit, bits: sbBits{1, 4, 8}, high: sbBits{4, 56, 60}}, inode: InodeOptCompression + 1, Help: "compression of new data, TYPE[:LEVEL]"},
	{Name: "background_compression", Scope: OptFS | OptInode, Flags: fmtMo, Type: OptCompression, Max: 0xff, Choices: compressionChoices,
		store: optStore{where: storeSplit, bits: sbBits{2, 0, 4}, high: sbBits{4, 60, 64}}, inode: InodeOptBackgroundCompression + 1, Help: "compression applied later"},
	{Name: "str_hash", Scope: OptFS, Flags: fmtMR, Type: OptEnum, Max: 2, Choices: []string{"crc32c", "crc64", "siphash"}, Default: 2, OldDefault: 2,
		store: atFlags(1, 0, 4), Help: "hash of names in new directories"},
	{Name: "metadata_target", Scope: OptFS, Flags: fmtMo, Type: OptTarget, Max: maxTarget,
		store: atFlags(3, 16, 28), Help: "preferred devices for metadata"},
	{Name: "foreground_target", Scope: OptFS | OptInode, Flags: fmtMo, Type: OptTarget, Max: maxTarget,
		store: atFlags(1, 40, 52), inode: InodeOptForegroundTarget + 1, Help: "devices that are written first"},
	{Name: "background_target", Scope: OptFS | OptInode, Flags: fmtMo, Type: OptTarget, Max: maxTarget,
		store: atFlags(1, 52, 64), inode: InodeOptBackgroundTarget + 1, Help: "devices that data is moved to"},
	{Name: "promote_target", Scope: OptFS | OptInode, Flags: fmtMo, Type: OptTarget, Max: maxTarget,
		store: atFlags(1, 28, 40), inode: InodeOptPromoteTarget + 1, Help: "devices that get a cached copy on read"},
	{Name: "erasure_code", Scope: OptFS | OptInode, Flags: fmtMo, Type: OptBool, Max: 1,
		store: atFlags(3, 0, 16), inode: InodeOptErasureCode + 1, Help: "write data into parity stripes"},
	{Name: "ec_max_data_blocks", Scope: OptFS, Flags: fmtMR, Type: OptUint, Max: 15, Since: v1_38,
		store: atFlags(6, 50, 58), Help: "most data blocks of a stripe, 0 for no limit"},
	{Name: "casefold", Scope: OptFS | OptInode, Flags: OptFormat, Type: OptBool, Max: 1, Since: v1_24,
		store: atFlags(6, 22, 23), inode: InodeOptCasefold + 1, Help: "names ignore case"},
	{Name: "inodes_32bit", Scope: OptFS | OptInode, Flags: fmtMR, Type: OptBool, Max: 1, OldDefault: 1,
		store: atFlags(1, 8, 9), inode: InodeOptInodes32bit + 1, Help: "inode numbers below 2^31"},
	{Name: "shard_inode_numbers", Scope: OptFS, Flags: fmtM, Type: OptBool, Max: 1, Default: 1, OldDefault: 1, Until: Version1_13,
		store: atFlags(3, 28, 29), Help: "inode numbers by CPU"},
	{Name: "shard_inode_numbers_bits", Scope: OptFS, Flags: OptFormat, Type: OptUint, Max: 15, Since: v1_14,
		store: atFlags(6, 0, 4), Help: "top bits of inode numbers that come from the CPU"},
	{Name: "inodes_use_key_cache", Scope: OptFS, Flags: fmtM, Type: OptBool, Max: 1, Default: 1, OldDefault: 1, Until: Version1_13,
		store: atFlags(3, 29, 30), Help: "key cache for inodes"},
	{Name: "gc_reserve_percent", Scope: OptFS, Flags: fmtMR, Type: OptUint, Min: 5, Max: 20, Default: 8, OldDefault: 8,
		store: atFlags(0, 28, 33), Help: "space kept free for copygc"},
	{Name: "gc_reserve_bytes", Scope: OptFS, Flags: fmtMR | OptSize, Type: OptUint, Max: (1<<60 - 1) << 9 & math.MaxInt64,
		store: atFlagsEnc(2, 4, 64, encSectors), Help: "the same as a size; not 0: wins"},
	{Name: "root_reserve_percent", Scope: OptFS, Flags: fmtM, Type: OptUint, Max: 100, OldMax: 99,
		store: atFlags(0, 33, 40), Help: "share of blocks for root"},
	{Name: "wide_macs", Scope: OptFS, Flags: fmtMR, Type: OptBool, Max: 1,
		store: atFlags(1, 9, 10), Help: "128-bit MACs on encrypted volumes"},
	{Name: "promote_whole_extents", Scope: OptFS, Flags: mr, Type: OptBool, Max: 1, Default: 1, OldDefault: 1,
		store: atFlags(0, 63, 64), Help: "promote complete extents"},
	{Name: "acl", Scope: OptFS, Flags: fmtM, Type: OptBool, Max: 1, Default: 1, OldDefault: 1, store: atFlags(0, 56, 57), Help: "POSIX ACLs"},
	{Name: "usrquota", Scope: OptFS, Flags: fmtM, Type: OptBool, Max: 1, store: atFlags(0, 57, 58), Help: "user quotas"},
	{Name: "grpquota", Scope: OptFS, Flags: fmtM, Type: OptBool, Max: 1, store: atFlags(0, 58, 59), Help: "group quotas"},
	{Name: "prjquota", Scope: OptFS, Flags: fmtM, Type: OptBool, Max: 1, store: atFlags(0, 59, 60), Help: "project quotas"},
	{Name: "degraded", Scope: OptFS, Flags: OptMount, Type: OptEnum, Max: 3, Choices: []string{"ask", "yes", "very", "no"}, Since: v1_14,
		store: atFlags(6, 20, 22), Help: "mount with members missing"},
	{Name: "missing_dev_timeout", Scope: OptFS, Flags: fmtMR, Type: OptUint, Max: 3600, Since: v1_37,
		store: atExt(49, 61, encRaw), Help: "seconds to wait for members, 0 for 30"},
	{Name: "journal_flush_delay", Scope: OptFS, Flags: mr, Type: OptUint, Min: 1, Max: math.MaxUint32, Default: 1000, OldDefault: 1000,
		store: atFlags(3, 30, 62), Help: "milliseconds before the journal is flushed"},
	{Name: "journal_flush_disabled", Scope: OptFS, Flags: mr, Type: OptBool, Max: 1,
		store: atFlags(3, 62, 63), Help: "fsync does not flush"},
	{Name: "move_writes_fua", Scope: OptFS, Flags: mr, Type: OptBool, Max: 1, Since: Version1_39,
		store: atFlags(6, 58, 59), Help: "moved data is written with FUA"},
	{Name: "journal_reclaim_delay", Scope: OptFS, Flags: mr, Type: OptUint, Max: math.MaxUint32, Default: 100, OldDefault: 100,
		store: atFlags(4, 0, 32), Help: "milliseconds between background reclaims"},
	{Name: "writeback_timeout", Scope: OptFS, Flags: mr, Type: OptUint, Max: math.MaxUint16, Since: v1_14,
		store: atFlags(6, 24, 40), Help: "seconds after which dirty pages are written"},
	{Name: "journal_rewind_discard_buffer_percent", Scope: OptFS, Flags: OptMount, Type: OptUint, Max: 10, Default: 4, OldDefault: 4, Since: v1_37,
		store: atExt(38, 42, encRaw), Help: "space whose discards wait so that old nodes stay readable"},
	{Name: "scrub_recent_journal_entries", Scope: OptFS, Flags: OptMount, Type: OptEnum, Max: 2, Choices: []string{"unclean", "no", "always"}, Since: v1_14,
		store: atFlags(6, 48, 50), Help: "verify what was written last at mount"},
	{Name: "scrub_journal_max_rewind_secs", Scope: OptFS, Flags: fmtM, Type: OptUint, Max: 3600, Default: 10, OldDefault: 10, Since: v1_37,
		store: atExt(26, 38, encRaw), Help: "how far that may rewind"},
	{Name: "journal_transaction_names", Scope: OptFS, Flags: fmtMR, Type: OptBool, Max: 1, Default: 1, OldDefault: 1,
		store: atFlags(4, 32, 33), Help: "log transactions and overwritten keys to the journal"},
	{Name: "allocator_stuck_timeout", Scope: OptFS, Flags: fmtMR, Type: OptUint, Max: math.MaxUint16, Default: 30, OldDefault: 30,
		store: atFlags(5, 16, 32), Help: "seconds before a stalled allocation is reported"},
	{Name: "version_upgrade", Scope: OptFS, Flags: mr, Type: OptEnum, Max: 2, Choices: []string{"compatible", "incompatible", "none"},
		store: atFlags(4, 54, 56), Help: "how far to upgrade the format at mount"},
	{Name: "nocow", Scope: OptFS | OptInode, Flags: fmtMR, Type: OptBool, Max: 1,
		store: atFlags(4, 33, 34), inode: InodeOptNocow + 1, Help: "overwrite in place"},
	{Name: "reconcile_on_ac_only", Scope: OptFS, Flags: mr, Type: OptBool, Max: 1, Since: v1_14,
		store: atFlags(6, 23, 24), Help: "pause background work on battery"},
	{Name: "btree_cache_shrinker_seeks", Scope: OptFS, Flags: mr, Type: OptUint, Min: 1, Max: 100, Default: 2, OldDefault: 2, Since: v1_37,
		store: atExt(42, 49, encRaw), Help: "eagerness of shrinking the node cache"},
	{Name: "dev_readahead", Scope: OptFS, Flags: mr | OptSize, Type: OptUint, Max: (1<<20 - 1) << 9, Default: 2 * mib, OldDefault: 2 * mib, Since: v1_37,
		store: atExt(0, 20, encSectors), Help: "read-ahead hint for devices"},
	{Name: "ec_stripe_buf_limit", Scope: OptFS, Flags: mr, Type: OptUint, Min: 1, Max: 25, Default: 5, OldDefault: 5, Since: v1_37,
		store: atExt(20, 26, encRaw), Help: "percent of memory for stripe buffers"},

	// Members.
	{Name: "state", Scope: OptDevice, Flags: OptRuntime, Type: OptEnum, Max: 3, Choices: memberStateNames[:],
		store: atMember(0, 4, encRaw), Help: "what the member may be used for"},
	{Name: "label", Scope: OptDevice, Flags: OptFormat | OptRuntime, Type: OptString, Max: 255,
		store: optStore{where: storeGroup}, Help: "dotted path of groups"},
	{Name: "failure_domain", Scope: OptDevice, Flags: OptFormat | OptRuntime, Type: OptString, Max: 31, Since: Version1_39,
		store: optStore{where: storeDomain}, Help: "replicas are put in different domains"},
	{Name: "bucket_size", Scope: OptDevice, Flags: OptFormat | OptSize | OptPow2, Type: OptUint, Min: 512, Max: 16 * mib,
		store: optStore{where: storeBucketSize}, Help: "unit of allocation"},
	{Name: "durability", Scope: OptDevice, Flags: OptFormat | OptRuntime, Type: OptUint, Max: 2, Default: 1, OldDefault: 1,
		store: atMember(28, 30, encPlus1), Help: "how many copies one copy counts for"},
	{Name: "data_allowed", Scope: OptDevice, Flags: OptFormat, Type: OptBits, Max: 0x1c, Choices: allowedChoices, Default: 0x1c, OldDefault: 0x1c,
		store: atMember(15, 20, encRaw), Help: "what may be stored"},
	{Name: "discard", Scope: OptDevice | OptFS, Flags: fmtMR, Type: OptBool, Max: 1, Default: 1,
		store: atMember(14, 15, encRaw), Help: "discard freed buckets"},
	{Name: "rotational", Scope: OptDevice, Flags: OptRuntime, Type: OptBool, Max: 1, Since: v1_14,
		store: atMember(32, 33, encRaw), Help: "a spinning disk"},

	// Inodes only.
	{Name: "project", Scope: OptInode, Type: OptUint, Max: math.MaxUint32 - 1, inode: InodeOptProject + 1, Help: "project quota id"},

	// Mount only.
	{Name: "casefold_disabled", Scope: OptFS, Flags: OptMount, Type: OptBool, Max: 1, Since: v1_24, Help: "ignore case folding for this mount"},
	{Name: "nocow_enabled", Scope: OptFS, Flags: OptMount, Type: OptBool, Max: 1, Default: 1, OldDefault: 1, Help: "master switch of nocow"},
	{Name: "inline_data", Scope: OptFS, Flags: mr, Type: OptBool, Max: 1, Default: 1, OldDefault: 1, Help: "store tails of tiny files in the key"},
	{Name: "move_bytes_in_flight", Scope: OptFS, Flags: mr | OptSize, Type: OptUint, Min: 1024, Max: math.MaxUint32, Default: 64 * mib, OldDefault: mib, Help: "data in flight of move operations"},
	{Name: "move_ios_in_flight", Scope: OptFS, Flags: mr, Type: OptUint, Min: 1, Max: 1024, Default: 64, OldDefault: 32, Help: "requests in flight of move operations"},
	{Name: "copygc_enabled", Scope: OptFS, Flags: mr, Type: OptBool, Max: 1, Default: 1, OldDefault: 1, Since: v1_14, Help: "background compaction"},
	{Name: "reconcile_enabled", OldName: "rebalance_enabled", Scope: OptFS, Flags: mr, Type: OptBool, Max: 1, Default: 1, OldDefault: 1, Help: "background data processing"},
	{Name: "auto_snapshot_deletion", Scope: OptFS, Flags: mr, Type: OptBool, Max: 1, Default: 1, OldDefault: 1, Since: v1_14, Help: "delete dead snapshots in the background"},
	{Name: "btree_node_prefetch", Scope: OptFS, Flags: mr, Type: OptBool, Max: 1, Default: 1, OldDefault: 1, Help: "read leaf nodes ahead"},
	{Name: "no_data_io", Scope: OptFS, Flags: OptMount, Type: OptBool, Max: 1, Help: "skip data IO, for measurements"},
	{Name: "mount_trusts_udev", Scope: OptFS, Flags: OptMount, Type: OptBool, Max: 1, Default: 1, OldDefault: 1, Since: v1_14, Help: "find members by the database of udev"},
	{Name: "no_splitbrain_check", Scope: OptFS, Flags: OptMount, Type: OptBool, Max: 1, Help: "accept members with divergent histories"},
	{Name: "verbose", Scope: OptFS, Flags: mr, Type: OptBool, Max: 1, Help: "log every recovery pass"},
	{Name: "ratelimit_errors", Scope: OptFS, Flags: mr, Type: OptBool, Max: 1, Help: "cap repeated messages"},
	{Name: "fsck", Scope: OptFS, Flags: OptMount, Type: OptBool, Max: 1, Help: "run the check passes at mount"},
	{Name: "fix_errors", Scope: OptFS, Flags: OptMount, Type: OptEnum, Max: 3, Choices: []string{"exit", "yes", "no", "ask"}, Help: "what to do about findings"},
	{Name: "fsck_memory_usage_percent", Scope: OptFS, Flags: OptMount, Type: OptUint, Min: 20, Max: 70, Default: 50, OldDefault: 50, Help: "memory of backpointer checks"},
	{Name: "no_commit_validate", Scope: OptFS, Flags: OptMount, Type: OptBool, Max: 1, Since: v1_14, Help: "skip key validation at commit"},
	{Name: "nochanges", Scope: OptFS, Flags: OptMount, Type: OptBool, Max: 1, Help: "never write anything"},
	{Name: "norecovery", Scope: OptFS, Flags: OptMount, Type: OptBool, Max: 1, Help: "no repair, implies nochanges"},
	{Name: "journal_rewind", Scope: OptFS, Flags: OptMount, Type: OptUint, Max: math.MaxUint64, Since: v1_14, Help: "go back to this journal entry"},
	{Name: "recovery_passes", Scope: OptFS, Flags: OptMount, Type: OptBits, Max: 1<<NrRecoveryPasses - 1, Choices: passNames(), Help: "passes to run too"},
	{Name: "recovery_passes_exclude", Scope: OptFS, Flags: OptMount, Type: OptBits, Max: 1<<NrRecoveryPasses - 1, Choices: passNames(), Help: "passes to skip"},
	{Name: "recovery_pass_last", Scope: OptFS, Flags: OptMount, Type: OptChoice, Max: NrRecoveryPasses, Choices: passNames(), Help: "stop after this pass"},
	{Name: "recovery_passes_skip_scheduled", Scope: OptFS, Flags: OptMount, Type: OptBool, Max: 1, Since: v1_14, Help: "ignore passes that the superblock asks for"},
	{Name: "retain_recovery_info", Scope: OptFS, Flags: OptMount | OptInternal, Type: OptBool, Max: 1},
	{Name: "read_entire_journal", Scope: OptFS, Flags: OptMount | OptInternal, Type: OptBool, Max: 1},
	{Name: "read_journal_only", Scope: OptFS, Flags: OptMount | OptInternal, Type: OptBool, Max: 1},
	{Name: "nostart", Scope: OptFS, Flags: OptMount | OptInternal, Type: OptBool, Max: 1},
	{Name: "stdio", Scope: OptFS, Flags: OptMount | OptInternal, Type: OptUint, Max: math.MaxUint64},
	{Name: "noexcl", Scope: OptFS, Flags: OptMount | OptInternal, Type: OptBool, Max: 1, Help: "open without exclusive claim"},
	{Name: "direct_io", Scope: OptFS, Flags: OptMount | OptInternal, Type: OptBool, Max: 1, Default: 1, OldDefault: 1},
	{Name: "sb", Scope: OptFS, Flags: OptMount, Type: OptUint, Max: math.MaxUint64, Default: SBSector, OldDefault: SBSector, Help: "sector of the superblock to use"},
	{Name: "read_only", Scope: OptFS, Flags: OptInternal, Type: OptBool, Max: 1},
	{Name: "no_version_check", Scope: OptFS, Flags: OptInternal, Type: OptBool, Max: 1},
	{Name: "dangerously_reconstruct_alloc", OldName: "reconstruct_alloc", Scope: OptFS, Flags: OptMount, Type: OptBool, Max: 1, Help: "discard and rebuild all allocation data"},
}

func passNames() []string {
	l := make([]string, NrRecoveryPasses)
	for i := range l {
		l[i] = passes[i].name
	}
	return l
}

var (
	optionList    []*Option
	optionsByName = map[string]*Option{}
	inodeOptions  [NrInodeOpts]*Option
)

func init() {
	for i := range optionTable {
		o := &optionTable[i]
		optionList = append(optionList, o)
		optionsByName[o.Name] = o
		if o.OldName != "" {
			optionsByName[o.OldName] = o
		}
		if o.inode > 0 {
			inodeOptions[o.inode-1] = o
		}
	}
}
