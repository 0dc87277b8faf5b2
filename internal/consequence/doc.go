// Package consequence says what follows from a key: which derived keys, counters
// and bucket states must change in the transaction that changes it (chapter 06
// section 8, chapter 02 section 9.10).
//
// Everything is a pure function (old key, new key, capabilities of the volume's
// version) → changes. There is no I/O and no state here; package btree collects
// the changes of a whole transaction and applies them once, so that sums never
// pass through a transient zero.
//
// The rules are one table (Rules). The check of package check recomputes the
// derived state on its own and must not import this package.
package consequence

import (
	"cmp"
	"slices"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Caps says how the volume's version wants things done.
type Caps struct {
	Version ondisk.Version
	// BPShift is the shift of backpointer positions.
	BPShift uint
	// AccForm is the layout of accounting positions.
	AccForm ondisk.AccountingForm
	// CachedBackpointers: cached pointers have backpointers (1.21).
	CachedBackpointers bool
	// BtreeCounters is the number of counters of btree accounting (1.31: 3).
	BtreeCounters int
	// SnapshotKeys: snapshot accounting counts every key by btree (1.39).
	SnapshotKeys bool
	// PerDevFragLRU: the fragmentation LRU is one per device (1.39).
	PerDevFragLRU bool
	// DiscardBySeq: need_discard is sorted by journal seq (1.38).
	DiscardBySeq bool
	// BucketSeqs: alloc keys hold journal_seq_nonempty and _empty (1.14).
	BucketSeqs bool
	// EmptyFragmented: nonempty types without sectors count as fragmented (1.37).
	EmptyFragmented bool
	// Rebalance: pending work is in rebalance_work (below 1.33).
	Rebalance bool
	// NodeSectors is the size of a btree node.
	NodeSectors uint32
	// ExtentTypes are the sizes of extent entries the volume declares.
	ExtentTypes *ondisk.ExtentTypeSizes
	// Without names rules that are left out: the tests' way to show that the
	// check notices.
	Without map[string]bool
}

// CapsOf reads the capabilities off a superblock.
func CapsOf(sb *ondisk.Superblock) Caps {
	v := sb.Version
	minor := func(n int) bool { return v >= ondisk.Version1_0+ondisk.Version(n) }
	c := Caps{
		Version: v, BPShift: uint(sb.ExtentBPShift()), AccForm: ondisk.AccountingFormOf(v),
		CachedBackpointers: minor(21), BtreeCounters: 1, SnapshotKeys: minor(39), PerDevFragLRU: minor(39),
		DiscardBySeq: minor(38), BucketSeqs: minor(14), EmptyFragmented: minor(37), Rebalance: !minor(33),
		NodeSectors: uint32(sb.NodeSectors()),
	}
	if minor(31) {
		c.BtreeCounters = 3
	}
	return c
}

// Devices is what the rules need to know of the members. It is asked without
// I/O.
type Devices interface {
	// BucketSize in sectors, 0 for no such member.
	BucketSize(dev uint8) uint64
	// Stale reports whether a cached pointer's bucket was reused.
	Stale(dev uint8, bucket uint64, gen uint8) bool
	// InTarget reports whether a member belongs to a target (option encoding).
	InTarget(dev uint8, target uint16) bool
}

// Bucket names a bucket.
type Bucket struct {
	Dev    uint8
	Bucket uint64
}

// BucketDelta is what a transaction does to the sectors of a bucket.
type BucketDelta struct {
	Dirty, Cached, Stripe int64
	// Type is the data type of what is added, DataFree when nothing is.
	Type ondisk.DataType
}

// Index is the change of a derived key. A nil Val deletes; Old is then the value
// that must still be there.
type Index struct {
	Btree ondisk.BtreeID
	Pos   ondisk.Pos
	Type  ondisk.KeyType
	Val   []byte
	Set   bool
}

// RefRange is a change of the reference count of a range of the reflink btree.
type RefRange struct {
	Start, End uint64
	Delta      int64
	// P is the pointer key that is inserted (Delta > 0); its pads are set from
	// the extents it refers to.
	P ondisk.Pos
}

// Changes collects what follows from the keys of a transaction.
type Changes struct {
	Buckets map[Bucket]*BucketDelta
	Acct    map[ondisk.AccountingPos]*[ondisk.MaxCounters]int64
	set     map[indexKey]Index
	del     map[indexKey]Index
	Refs    []RefRange
}

type indexKey struct {
	btree ondisk.BtreeID
	pos   ondisk.Pos
}

// NewChanges starts an empty collection.
func NewChanges() *Changes {
	return &Changes{Buckets: map[Bucket]*BucketDelta{}, Acct: map[ondisk.AccountingPos]*[ondisk.MaxCounters]int64{}, set: map[indexKey]Index{}, del: map[indexKey]Index{}}
}

// Account adds to a counter.
func (c *Changes) Account(p ondisk.AccountingPos, v ...int64) {
	a := c.Acct[p]
	if a == nil {
		a = &[ondisk.MaxCounters]int64{}
		c.Acct[p] = a
	}
	for i, x := range v {
		a[i] += x
	}
}

// SetIndex inserts a derived key, DelIndex removes one if its value is still val.
func (c *Changes) SetIndex(b ondisk.BtreeID, p ondisk.Pos, t ondisk.KeyType, val []byte) {
	c.set[indexKey{b, p}] = Index{b, p, t, val, true}
}

// DelIndex removes a derived key, unless the same transaction sets it.
func (c *Changes) DelIndex(b ondisk.BtreeID, p ondisk.Pos, t ondisk.KeyType, val []byte) {
	c.del[indexKey{b, p}] = Index{b, p, t, val, false}
}

// Indexes lists the changes of derived keys in order of btree and position. Of a
// key that is both removed and set only the setting is left: the remaining part
// of a cut extent has the same backpointer position as the whole had.
func (c *Changes) Indexes() []Index {
	out := make([]Index, 0, len(c.set)+len(c.del))
	for _, i := range c.set {
		out = append(out, i)
	}
	for k, i := range c.del {
		if _, ok := c.set[k]; !ok {
			out = append(out, i)
		}
	}
	slices.SortFunc(out, func(a, b Index) int { return cmp.Or(cmp.Compare(a.Btree, b.Btree), a.Pos.Compare(b.Pos)) })
	return out
}

// SortedBuckets lists the buckets that changed, in order.
func (c *Changes) SortedBuckets() []Bucket {
	out := make([]Bucket, 0, len(c.Buckets))
	for b := range c.Buckets {
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b Bucket) int {
		return cmp.Or(cmp.Compare(a.Dev, b.Dev), cmp.Compare(a.Bucket, b.Bucket))
	})
	return out
}

// AcctDelta is one change of an accounting key.
type AcctDelta struct {
	Pos      ondisk.Pos
	Counters []int64
}

// AcctDeltas lists the changes of the counters that are not zero, in order of
// position. They are to be taken after the buckets were updated.
func (c *Changes) AcctDeltas(caps Caps) []AcctDelta {
	var out []AcctDelta
	for p, v := range c.Acct {
		if *v == [ondisk.MaxCounters]int64{} {
			continue
		}
		n := counters(p.Type, caps)
		out = append(out, AcctDelta{p.Pos(caps.AccForm), slices.Clone(v[:n])})
	}
	slices.SortFunc(out, func(a, b AcctDelta) int { return a.Pos.Compare(b.Pos) })
	return out
}

// counters is the number of counters of an accounting key.
func counters(t ondisk.AccountingType, c Caps) int {
	switch t {
	case ondisk.AccDevDataType, ondisk.AccCompression, ondisk.AccInum:
		return 3
	case ondisk.AccSnapshot:
		if c.SnapshotKeys {
			return 3
		}
	case ondisk.AccBtree:
		return c.BtreeCounters
	case ondisk.AccReconcileWork:
		return 2
	}
	return 1
}
