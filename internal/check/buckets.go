package check

import (
	"context"
	"fmt"
	"math/bits"
	"sync/atomic"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// geom is a member with what the check asks often.
type geom struct {
	dev    int
	m      ondisk.Member
	size   uint64 // of a bucket, sectors
	base   uint64 // number of the first bucket among those of all members
	online bool
	sb     *ondisk.Superblock // nil when the member is not here
}

// inBitmap reports whether sectors are marked as holding btree nodes.
func (g *geom) inBitmap(from, to uint64) bool {
	for i := from >> g.m.BtreeBitmapShift; i<<g.m.BtreeBitmapShift < to; i++ {
		if i >= 64 || g.m.BtreeAllocatedBitmap>>i&1 == 0 {
			return false
		}
	}
	return true
}

// valid reports whether a bucket exists.
func (g *geom) valid(bucket uint64) bool {
	return bucket >= uint64(g.m.FirstBucket) && bucket < g.m.NBuckets
}

// geometry gives a member, nil when there is none of that index.
func (c *checker) geometry(dev uint8) *geom {
	if int(dev) < len(c.devs) {
		return c.devs[dev]
	}
	return nil
}

// bucket is the state of a bucket: what points into it, and what its alloc key
// says. One cache line.
type bucket struct {
	// Recomputed, atomically.
	dirty, cached, stripe uint32 // sectors
	marks                 uint32 // bit n: something of data type n points here
	stripes               uint32 // up to 1.34 the stripe's index, then their number
	// What the alloc key says.
	keyDirty, keyCached, keyStripe, keyStripes uint32
	// aux is the time of the read LRU of a cached bucket, and of one that waits for
	// its discard from 1.38 on the journal seq that emptied it.
	aux uint64
	// Sums of backpointers, and of entries in the other indexes: what should be
	// there less what is.
	bpSum, idxSum uint64
	gen, oldest   uint8
	typ           ondisk.DataType
	flags         uint8
}

// Flags of a bucket.
const (
	bucketHasKey      = 1 << 0
	bucketNeedDiscard = 1 << 1
	bucketV4          = 1 << 2
)

// bucketBytes is the memory of a bucket, for the budget.
const bucketBytes = 64

// window is the part of the buckets of all members that a pass looks at.
type window struct {
	from, to uint64 // numbers among those of all members
	b        []bucket
}

// at gives the bucket's state, nil when it is not in the window or does not exist.
func (w *window) at(g *geom, b uint64) *bucket {
	if !g.valid(b) {
		return nil
	}
	if i := g.base + b; i >= w.from && i < w.to {
		return &w.b[i-w.from]
	}
	return nil
}

// genTable holds the generation of every bucket, in pages: where there are no
// alloc keys, none. Safe for concurrent use.
type genTable []atomic.Pointer[[genPage]uint8]

const genPage = 1 << 16

func newGenTable(n uint64) genTable { return make(genTable, (n+genPage-1)/genPage) }

func (t genTable) at(n uint64) uint8 {
	if p := t[n/genPage].Load(); p != nil {
		return p[n%genPage]
	}
	return 0
}

// set is called before all calls of at, and once for a bucket.
func (t genTable) set(n uint64, gen uint8) {
	if gen == 0 {
		return
	}
	p := t[n/genPage].Load()
	for p == nil {
		t[n/genPage].CompareAndSwap(nil, new([genPage]uint8))
		p = t[n/genPage].Load()
	}
	p[n%genPage] = gen
}

// loadAlloc reads the alloc keys: of all the generation, of those in the window
// the rest.
func (t *tasks) loadAlloc(all bool) {
	c := t.c
	from, to := ondisk.PosMin, ondisk.SPosMax
	if !all {
		from, to = c.windowPos()
	}
	t.leaves(ondisk.BtreeAlloc, from, to, func() func(*ondisk.KV) { return func(kv *ondisk.KV) { c.allocKey(kv, all) } })
}

// windowPos is the range of positions (device, bucket) of the window.
func (c *checker) windowPos() (from, to ondisk.Pos) {
	from, to = ondisk.SPosMax, ondisk.PosMin
	for _, g := range c.devs {
		if g == nil || g.base+g.m.NBuckets <= c.win.from || g.base >= c.win.to {
			continue
		}
		lo, hi := uint64(0), g.m.NBuckets
		if c.win.from > g.base {
			lo = c.win.from - g.base
		}
		if c.win.to < g.base+hi {
			hi = c.win.to - g.base
		}
		if p := (ondisk.Pos{Inode: uint64(g.dev), Offset: lo}); p.Less(from) {
			from = p
		}
		if p := (ondisk.Pos{Inode: uint64(g.dev), Offset: hi - 1, Snapshot: ^uint32(0)}); to.Less(p) {
			to = p
		}
	}
	return from, to
}

func (c *checker) allocKey(kv *ondisk.KV, first bool) {
	a, err := ondisk.DecodeAlloc(*kv)
	if err != nil || kv.Pos.Snapshot != 0 {
		return // reported with the key
	}
	w := leafAt(ondisk.BtreeAlloc, kv.Pos)
	g := c.geometry8(kv.Pos.Inode)
	if g == nil || !g.valid(kv.Pos.Offset) {
		if first {
			c.bad("alloc_key_to_missing_dev_bucket", w, "a bucket that exists", kv.Pos.String())
		}
		return
	}
	if first {
		c.gens.set(g.base+kv.Pos.Offset, a.Gen)
		c.allocFields(kv, &a, w)
	}
	b := c.win.at(g, kv.Pos.Offset)
	if b == nil {
		return
	}
	b.gen, b.oldest, b.typ = a.Gen, a.OldestGen, a.DataType
	b.keyDirty, b.keyCached, b.keyStripe, b.keyStripes = a.DirtySectors, a.CachedSectors, a.StripeSectors, a.Stripe
	b.flags = bucketHasKey
	if a.NeedDiscard {
		b.flags |= bucketNeedDiscard
	}
	if kv.Type == ondisk.KeyAllocV4 {
		b.flags |= bucketV4
	}
	if a.DataType == ondisk.DataNeedDiscard {
		b.aux = a.JournalSeqEmpty
	} else {
		b.aux = a.IOTime[ondisk.IORead]
	}
}

// geometry8 is geometry for what a position has in its inode field.
func (c *checker) geometry8(inode uint64) *geom {
	if inode < uint64(len(c.devs)) {
		return c.devs[inode]
	}
	return nil
}

// allocFields checks what of an alloc key does not depend on other keys, and what
// no release looks at (chapter 06 sections 2 and 3, chapter 07 section 9.1).
func (c *checker) allocFields(kv *ondisk.KV, a *ondisk.Alloc, w errs.Where) {
	cur := c.state.Seq
	if a.JournalSeq > cur {
		c.bad("alloc_key_journal_seq_in_future", w, fmt.Sprintf("at most %d", cur), fmt.Sprint(a.JournalSeq))
	}
	if c.minor(14) && a.JournalSeqEmpty > cur {
		c.bad("alloc_key_journal_seq_in_future", w, fmt.Sprintf("at most %d", cur), fmt.Sprintf("%d (empty)", a.JournalSeqEmpty))
	}
	if ondisk.GenCompare(a.OldestGen, a.Gen) > 0 {
		c.bad("alloc_key_oldest_gen_newer", w, fmt.Sprintf("not newer than gen %d", a.Gen), fmt.Sprint(a.OldestGen))
	}
	for i, name := range []string{"read", "write"} {
		// The clocks are stored with every journal entry; a bucket's times are
		// not ahead of them by more than what one entry may lag.
		if a.IOTime[i] > c.clockLimit[i] {
			c.bad("alloc_key_io_time_in_future", w, fmt.Sprintf("at most %d (%s clock)", c.clockLimit[i], name), fmt.Sprint(a.IOTime[i]))
		}
	}
	if kv.Type != ondisk.KeyAllocV4 {
		return
	}
	t := a.DataType
	if c.minor(0) && a.BackpointersStart == 0 {
		c.bad("alloc_v4_backpointers_start_bad", w, "the size of the struct", "0")
	}
	switch {
	case t == ondisk.DataSB || t == ondisk.DataJournal || t.Empty():
	case !a.NeedDiscard:
		c.bad("alloc_key_need_discard_not_set", w, "flag need_discard on a bucket with data", t.String())
	case !a.NeedIncGen:
		c.bad("alloc_key_need_inc_gen_not_set", w, "flag need_inc_gen on a bucket with data", t.String())
	}
	if t == ondisk.DataCached && a.IOTime[ondisk.IORead] == 0 {
		c.bad("alloc_key_cached_but_read_time_zero", w, "a time", "0")
	}
	// Keys of before an upgrade keep their seqs.
	if t == ondisk.DataFree && c.minor(38) && c.sb.VersionMin >= ondisk.Version1_38 && (a.NeedDiscard || a.JournalSeq != 0 || a.JournalSeqEmpty != 0) {
		c.bad("alloc_key_data_type_free_dirty_bookkeeping", w, "no flag need_discard and no journal seqs", fmt.Sprintf("need_discard %v, seqs %d and %d", a.NeedDiscard, a.JournalSeq, a.JournalSeqEmpty))
	}
}

// markOwn marks the buckets of the superblocks and the journal of every member
// (chapter 06 section 10).
func (c *checker) markOwn() {
	for _, g := range c.devs {
		if g == nil || g.sb == nil {
			continue
		}
		for i, off := range g.sb.Layout.Offsets {
			from := off
			if i == 0 && off == ondisk.SBSector {
				from = 0
			}
			to := off + g.sb.Layout.Reserved()
			for b := from / g.size; b*g.size < to && b < g.m.NBuckets; b++ {
				if x := c.win.at(g, b); x != nil {
					x.dirty += uint32(min(to, (b+1)*g.size) - max(from, b*g.size))
					x.marks |= 1 << ondisk.DataSB
				}
			}
		}
		js, err := g.sb.JournalBuckets()
		if err != nil {
			continue // a superblock finding
		}
		for _, b := range js {
			if x := c.win.at(g, b); x != nil {
				x.dirty += uint32(g.size)
				x.marks |= 1 << ondisk.DataJournal
			}
		}
	}
}

// corrected gives the state that a bucket should have: what was recomputed, and of
// the alloc key what cannot be.
func (c *checker) corrected(g *geom, b *bucket) ondisk.Alloc {
	a := ondisk.Alloc{Gen: b.gen, OldestGen: b.oldest, NeedDiscard: b.flags&bucketNeedDiscard != 0,
		DirtySectors: b.dirty, CachedSectors: b.cached, StripeSectors: b.stripe, Stripe: b.stripes}
	// Which of several types counts does not matter: that there are several is
	// reported.
	hint := b.typ
	for _, t := range []ondisk.DataType{ondisk.DataSB, ondisk.DataJournal, ondisk.DataBtree, ondisk.DataParity, ondisk.DataUser} {
		if b.marks>>t&1 != 0 {
			hint = t
		}
	}
	if hint == ondisk.DataMultiple {
		hint = ondisk.DataUser
	}
	a.DataType = a.DerivedType(hint, false)
	if a.DataType.Empty() && b.typ == ondisk.DataNeedDiscard {
		a.DataType = ondisk.DataNeedDiscard
	}
	if b.typ == ondisk.DataMultiple && bits.OnesCount32(b.marks&typeMarks) > 1 {
		a.DataType = ondisk.DataMultiple
	}
	if g.sb == nil && (b.typ == ondisk.DataSB || b.typ == ondisk.DataJournal) && b.marks == 0 {
		// What stands on a member that is not here only its alloc keys tell.
		a.DataType, a.DirtySectors = b.typ, b.keyDirty
	}
	switch a.DataType {
	case ondisk.DataCached:
		a.IOTime[ondisk.IORead] = b.aux
	case ondisk.DataNeedDiscard:
		a.JournalSeqEmpty = b.aux
	}
	return a
}

// typeMarks are the marks of types that may not share a bucket.
const typeMarks = 1<<ondisk.DataSB | 1<<ondisk.DataJournal | 1<<ondisk.DataBtree | 1<<ondisk.DataUser | 1<<ondisk.DataParity

// compareBuckets compares each alloc key of the window with what was recomputed
// and adds to the sums what the indexes should hold. Counters go to acc.
func (c *checker) compareBuckets(ctx context.Context, acc *counters) error {
	for _, g := range c.devs {
		if g == nil {
			continue
		}
		from, to := max(g.base+uint64(g.m.FirstBucket), c.win.from), min(g.base+g.m.NBuckets, c.win.to)
		for i := from; i < to; i++ {
			if i%(1<<16) == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			b := &c.win.b[i-c.win.from]
			a := c.corrected(g, b)
			c.compareBucket(g, i-g.base, b, &a)
			c.expectIndexes(g, i-g.base, b, &a)
			c.countBucket(acc, g, &a)
		}
	}
	return nil
}

func (c *checker) compareBucket(g *geom, nr uint64, b *bucket, a *ondisk.Alloc) {
	bad := func(name, want, got string) {
		f := bucketAt(name, g.dev, nr)
		f.Want, f.Got = want, got
		c.rep.add(f)
	}
	if m := b.marks & typeMarks; bits.OnesCount32(m) > 1 && b.typ != ondisk.DataMultiple {
		var names string
		for t := ondisk.DataType(0); t < ondisk.NrDataTypes; t++ {
			if m>>t&1 != 0 {
				names += " " + t.String()
			}
		}
		bad("ptr_bucket_data_type_mismatch", "one data type", names[1:])
		return
	}
	if b.flags&bucketHasKey == 0 {
		if a.DataType.Empty() {
			return
		}
		if b.marks&(1<<ondisk.DataSB|1<<ondisk.DataJournal) != 0 {
			bad("alloc_key_data_type_wrong", a.DataType.String(), "no alloc key")
		} else {
			bad("ptr_to_missing_alloc_key", fmt.Sprintf("an alloc key: %s, %d dirty, %d cached sectors", a.DataType, a.DirtySectors, a.CachedSectors), "none")
		}
		return
	}
	if b.typ != a.DataType {
		bad("alloc_key_data_type_wrong", a.DataType.String(), b.typ.String())
	}
	num := func(name string, want, got uint32) {
		if want != got {
			bad(name, fmt.Sprint(want), fmt.Sprint(got))
		}
	}
	num("alloc_key_dirty_sectors_wrong", a.DirtySectors, b.keyDirty)
	num("alloc_key_cached_sectors_wrong", b.cached, b.keyCached)
	num("alloc_key_stripe_sectors_wrong", b.stripe, b.keyStripe)
	if c.minor(35) {
		num("alloc_key_stripe_refcount_wrong", b.stripes, b.keyStripes)
	} else {
		num("alloc_key_stripe_wrong", b.stripes, b.keyStripes)
	}
}

// countBucket counts a bucket for the dev_data_type counters (chapter 06 section
// 11.6).
func (c *checker) countBucket(acc *counters, g *geom, a *ondisk.Alloc) {
	sectors := int64(a.DirtySectors) + int64(a.StripeSectors)
	if a.DataType == ondisk.DataCached {
		sectors = int64(a.CachedSectors)
	}
	frag := int64(0)
	switch {
	case sectors != 0:
		frag = max(0, int64(g.size)-sectors)
	case c.minor(37) && !a.DataType.Empty():
		frag = int64(g.size)
	}
	acc.dev(g.dev, a.DataType).add(1, sectors, frag)
	if a.DataType == ondisk.DataStripe && a.DirtySectors != 0 {
		acc.dev(g.dev, ondisk.DataUnstriped).add(1, int64(a.DirtySectors), 0)
	}
}

// runBuckets is one pass over the buckets of the window, after everything that
// points at them or indexes them was walked.
func (c *checker) runBuckets(ctx context.Context, acc *counters) error {
	if c.lost(ondisk.BtreeAlloc, ondisk.BtreeExtents, ondisk.BtreeReflink, ondisk.BtreeStripes) || c.lostNodes() {
		if c.pass > 0 {
			return nil
		}
		c.note("check_incomplete", errs.Nowhere, "buckets are not compared: btrees that point into them cannot be read in full")
		return nil
	}
	if err := c.compareBuckets(ctx, acc); err != nil {
		return err
	}
	return c.detail(ctx)
}

// lostNodes: the pointers to nodes of some btree are not all known.
func (c *checker) lostNodes() bool {
	c.lostMu.Lock()
	defer c.lostMu.Unlock()
	return c.lostTrees != 0
}

func atomicAdd(p *uint32, n uint32) { atomic.AddUint32(p, n) }

// mark notes that something of a type points into the bucket.
func (b *bucket) mark(t ondisk.DataType) {
	if m := uint32(1) << t; atomic.LoadUint32(&b.marks)&m == 0 {
		atomic.OrUint32(&b.marks, m)
	}
}
