package ondisk

import (
	"strconv"

	"github.com/gobcachefs/gobcachefs/errs"
)

// KeyType says what a value is (chapter 02 section 6).
type KeyType uint8

// Key types, with the names of the format.
const (
	KeyDeleted            KeyType = 0
	KeyWhiteout           KeyType = 1
	KeyError              KeyType = 2
	KeyCookie             KeyType = 3
	KeyHashWhiteout       KeyType = 4
	KeyBtreePtr           KeyType = 5
	KeyExtent             KeyType = 6
	KeyReservation        KeyType = 7
	KeyInode              KeyType = 8
	KeyInodeGeneration    KeyType = 9
	KeyDirent             KeyType = 10
	KeyXattr              KeyType = 11
	KeyAlloc              KeyType = 12
	KeyQuota              KeyType = 13
	KeyStripe             KeyType = 14
	KeyReflinkP           KeyType = 15
	KeyReflinkV           KeyType = 16
	KeyInlineData         KeyType = 17
	KeyBtreePtrV2         KeyType = 18
	KeyIndirectInlineData KeyType = 19
	KeyAllocV2            KeyType = 20
	KeySubvolume          KeyType = 21
	KeySnapshot           KeyType = 22
	KeyInodeV2            KeyType = 23
	KeyAllocV3            KeyType = 24
	KeySet                KeyType = 25
	KeyLRU                KeyType = 26
	KeyAllocV4            KeyType = 27
	KeyBackpointer        KeyType = 28
	KeyInodeV3            KeyType = 29
	KeyBucketGens         KeyType = 30
	KeySnapshotTree       KeyType = 31
	KeyLoggedOpTruncate   KeyType = 32
	KeyLoggedOpFinsert    KeyType = 33
	KeyAccounting         KeyType = 34
	KeyInodeAllocCursor   KeyType = 35
	KeyExtentWhiteout     KeyType = 36
	KeyLoggedOpStripe     KeyType = 37
	KeyDamage             KeyType = 38
	NrKeyTypes                    = 39
)

type keyTypeInfo struct {
	name   string
	strict bool // allowed btrees are enforced on read
	min    int  // smallest value, bytes
}

var keyTypes = [NrKeyTypes]keyTypeInfo{
	{"deleted", false, 0}, {"whiteout", false, 0}, {"error", false, 0}, {"cookie", false, 8},
	{"hash_whiteout", true, 0}, {"btree_ptr", true, 0}, {"extent", true, 0}, {"reservation", true, 8},
	{"inode", true, 16}, {"inode_generation", true, 8}, {"dirent", true, 16}, {"xattr", true, 8},
	{"alloc", true, 8}, {"quota", true, 32}, {"stripe", true, 8}, {"reflink_p", true, 16},
	{"reflink_v", true, 8}, {"inline_data", true, 0}, {"btree_ptr_v2", true, 40}, {"indirect_inline_data", true, 8},
	{"alloc_v2", true, 8}, {"subvolume", true, 16}, {"snapshot", true, 24}, {"inode_v2", true, 32},
	{"alloc_v3", true, 16}, {"set", false, 0}, {"lru", true, 8}, {"alloc_v4", true, 48},
	{"backpointer", true, 32}, {"inode_v3", true, 48}, {"bucket_gens", true, 0}, {"snapshot_tree", true, 8},
	{"logged_op_truncate", true, 24}, {"logged_op_finsert", true, 24}, {"accounting", true, 8}, {"inode_alloc_cursor", true, 16},
	{"extent_whiteout", true, 0}, {"logged_op_stripe_update", true, 40}, {"damage", true, 16},
}

// String is the name of the type, or its number when unknown.
func (t KeyType) String() string {
	if int(t) < len(keyTypes) {
		return keyTypes[t].name
	}
	return "(unknown key type " + strconv.Itoa(int(t)) + ")"
}

// MinVal is the smallest legal value in bytes; 0 for unknown types.
func (t KeyType) MinVal() int {
	if int(t) < len(keyTypes) {
		return keyTypes[t].min
	}
	return 0
}

// IsWhiteout: the key says that nothing is visible here (types whiteout and
// extent_whiteout; hash_whiteout is another matter, chapter 04 section 3).
func (t KeyType) IsWhiteout() bool { return t == KeyWhiteout || t == KeyExtentWhiteout }

// BtreeID numbers a btree (chapter 02 section 7).
type BtreeID uint8

// The btrees.
const (
	BtreeExtents            BtreeID = 0
	BtreeInodes             BtreeID = 1
	BtreeDirents            BtreeID = 2
	BtreeXattrs             BtreeID = 3
	BtreeAlloc              BtreeID = 4
	BtreeQuotas             BtreeID = 5
	BtreeStripes            BtreeID = 6
	BtreeReflink            BtreeID = 7
	BtreeSubvolumes         BtreeID = 8
	BtreeSnapshots          BtreeID = 9
	BtreeLRU                BtreeID = 10
	BtreeFreespace          BtreeID = 11
	BtreeNeedDiscard        BtreeID = 12
	BtreeBackpointers       BtreeID = 13
	BtreeBucketGens         BtreeID = 14
	BtreeSnapshotTrees      BtreeID = 15
	BtreeDeletedInodes      BtreeID = 16
	BtreeLoggedOps          BtreeID = 17
	BtreeReconcileWork      BtreeID = 18 // named rebalance_work before 1.33
	BtreeSubvolumeChildren  BtreeID = 19
	BtreeAccounting         BtreeID = 20
	BtreeReconcileHipri     BtreeID = 21
	BtreeReconcilePending   BtreeID = 22
	BtreeReconcileScan      BtreeID = 23
	BtreeReconcileWorkPhys  BtreeID = 24
	BtreeReconcileHipriPhys BtreeID = 25
	BtreeBucketToStripe     BtreeID = 26
	BtreeStripeBackpointers BtreeID = 27
	BtreeDamage             BtreeID = 28
	NrBtrees                        = 29
	// MaxBtrees bounds the ids that a volume of a newer version may use.
	MaxBtrees = 63
)

// MaxLevel is the highest level a node can have.
const MaxLevel = 3

type btreeInfo struct {
	name     string
	extents  bool // keys have a size
	snaps    bool // snapshot visibility applies
	snapFld  bool // the snapshot field is used freely
	dataPtrs bool // keys may point to data
	derived  bool // can be rebuilt from the others
	types    []KeyType
}

var btrees = [NrBtrees]btreeInfo{
	{name: "extents", extents: true, snaps: true, dataPtrs: true, types: []KeyType{KeyWhiteout, KeyExtentWhiteout, KeyError, KeyCookie, KeyExtent, KeyReservation, KeyReflinkP, KeyInlineData}},
	{name: "inodes", snaps: true, types: []KeyType{KeyWhiteout, KeyInode, KeyInodeV2, KeyInodeV3, KeyInodeGeneration}},
	{name: "dirents", snaps: true, types: []KeyType{KeyWhiteout, KeyHashWhiteout, KeyDirent}},
	{name: "xattrs", snaps: true, types: []KeyType{KeyWhiteout, KeyCookie, KeyHashWhiteout, KeyXattr}},
	{name: "alloc", derived: true, types: []KeyType{KeyAlloc, KeyAllocV2, KeyAllocV3, KeyAllocV4}},
	{name: "quotas", types: []KeyType{KeyQuota}},
	{name: "stripes", dataPtrs: true, types: []KeyType{KeyStripe}},
	{name: "reflink", extents: true, dataPtrs: true, types: []KeyType{KeyReflinkV, KeyIndirectInlineData, KeyError}},
	{name: "subvolumes", types: []KeyType{KeySubvolume}},
	{name: "snapshots", types: []KeyType{KeySnapshot}},
	{name: "lru", derived: true, types: []KeyType{KeySet, KeyLRU}},
	{name: "freespace", extents: true, derived: true, types: []KeyType{KeySet}},
	{name: "need_discard", derived: true, types: []KeyType{KeySet}},
	{name: "backpointers", derived: true, types: []KeyType{KeyBackpointer}},
	{name: "bucket_gens", derived: true, types: []KeyType{KeyBucketGens}},
	{name: "snapshot_trees", derived: true, types: []KeyType{KeySnapshotTree}},
	{name: "deleted_inodes", snapFld: true, derived: true, types: []KeyType{KeySet}},
	{name: "logged_ops", types: []KeyType{KeyLoggedOpTruncate, KeyLoggedOpFinsert, KeyLoggedOpStripe, KeyInodeAllocCursor}},
	{name: "reconcile_work", snapFld: true, derived: true, types: []KeyType{KeySet, KeyCookie}},
	{name: "subvolume_children", derived: true, types: []KeyType{KeySet}},
	{name: "accounting", snapFld: true, derived: true, types: []KeyType{KeyAccounting}},
	{name: "reconcile_hipri", snapFld: true, derived: true, types: []KeyType{KeySet}},
	{name: "reconcile_pending", snapFld: true, derived: true, types: []KeyType{KeySet}},
	{name: "reconcile_scan", derived: true, types: []KeyType{KeyCookie, KeyBackpointer}},
	{name: "reconcile_work_phys", types: []KeyType{KeySet}},
	{name: "reconcile_hipri_phys", types: []KeyType{KeySet}},
	{name: "bucket_to_stripe", types: []KeyType{KeySet}},
	{name: "stripe_backpointers", derived: true, types: []KeyType{KeyBackpointer}},
	{name: "damage", snaps: true, types: []KeyType{KeyWhiteout, KeyDamage}},
}

func init() {
	errs.BtreeName = func(id int) string {
		if id < 0 || id >= MaxBtrees {
			return strconv.Itoa(id)
		}
		return BtreeID(id).String()
	}
}

// String is the name of the btree, or "btree N" for one of a newer version.
func (b BtreeID) String() string {
	if int(b) < len(btrees) {
		return btrees[b].name
	}
	return "btree " + strconv.Itoa(int(b))
}

func (b BtreeID) info() btreeInfo {
	if int(b) < len(btrees) {
		return btrees[b]
	}
	return btreeInfo{}
}

// Known: the btree is one of chapter 02 section 7, not of a newer version.
func (b BtreeID) Known() bool { return int(b) < len(btrees) }

// IsExtents: keys of the btree have a size and sit at their end.
func (b BtreeID) IsExtents() bool { return b.info().extents }

// HasSnapshots: the snapshot visibility rules apply to keys of the btree.
func (b BtreeID) HasSnapshots() bool { return b.info().snaps }

// HasSnapshotField: the snapshot field of positions may be non-zero.
func (b BtreeID) HasSnapshotField() bool { i := b.info(); return i.snaps || i.snapFld || !b.Known() }

// HasDataPtrs: keys of the btree may hold pointers to data.
func (b BtreeID) HasDataPtrs() bool { return b.info().dataPtrs }

// Derived: the btree can be rebuilt from other btrees when it is lost.
func (b BtreeID) Derived() bool { return b.info().derived }

// Allows: keys of type t may be stored in leaves of the btree. Types and btrees
// that this program does not know are allowed, as a newer version may use them.
func (b BtreeID) Allows(t KeyType) bool {
	if !b.Known() || int(t) >= NrKeyTypes || t == KeyDeleted {
		return true
	}
	for _, a := range btrees[b].types {
		if a == t {
			return true
		}
	}
	return false
}

// ParseBtreeID finds a btree by name; the names of both 1.13 and 1.39 are
// accepted.
func ParseBtreeID(s string) (BtreeID, bool) {
	if s == "rebalance_work" {
		return BtreeReconcileWork, true
	}
	for i, b := range btrees {
		if b.name == s {
			return BtreeID(i), true
		}
	}
	return 0, false
}

// CheckLeafKey applies the rules of chapter 02 section 5.3 that need only the
// key: type, size, snapshot and value size. strictOnly limits the type rule to
// the types that readers enforce.
func CheckLeafKey(b BtreeID, kv KV, strictOnly bool) error {
	t := kv.Type
	bad := func(reason, want, got string) error {
		return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrCorrupt, Reason: reason, Want: want, Got: got}
	}
	if !b.Known() || int(t) >= NrKeyTypes {
		return nil
	}
	if t != KeyDeleted && len(kv.Val) < keyTypes[t].min {
		return bad("bkey_val_size_too_small", "at least "+strconv.Itoa(keyTypes[t].min), strconv.Itoa(len(kv.Val)))
	}
	if (!strictOnly || keyTypes[t].strict) && !b.Allows(t) {
		return bad("bkey_invalid_type_for_btree", "a type of btree "+b.String(), t.String())
	}
	if b.IsExtents() && t != KeyDeleted && !t.IsWhiteout() {
		if kv.Size == 0 {
			return bad("bkey_extent_size_zero", "size > 0", "0")
		}
		if uint64(kv.Size) > kv.Pos.Offset {
			return bad("bkey_extent_size_greater_than_offset", "size <= "+strconv.FormatUint(kv.Pos.Offset, 10), strconv.Itoa(int(kv.Size)))
		}
	} else if kv.Size != 0 && t != KeyDeleted {
		return bad("bkey_size_nonzero", "0", strconv.Itoa(int(kv.Size)))
	}
	if b.HasSnapshots() {
		if kv.Pos.Snapshot == 0 {
			return bad("bkey_snapshot_zero", "a snapshot", "0")
		}
	} else if !b.HasSnapshotField() && kv.Pos.Snapshot != 0 {
		return bad("bkey_snapshot_nonzero", "0", u32str(kv.Pos.Snapshot))
	}
	if kv.Pos.SameSlot(PosMax) {
		return bad("bkey_at_pos_max", "less", kv.Pos.String())
	}
	return nil
}
