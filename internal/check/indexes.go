package check

import (
	"fmt"
	"sync/atomic"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// What is indexed by bucket: freespace, need_discard, lru, bucket_gens and the
// backpointers (chapter 06 sections 4 to 7).

const bucketMask = 1<<48 - 1

// discardPos is the position of a bucket in need_discard.
func (c *checker) discardPos(dev int, nr, seqEmpty uint64) ondisk.Pos {
	if c.minor(38) {
		return ondisk.Pos{Inode: seqEmpty, Offset: ondisk.DevBucket(uint8(dev), nr)}
	}
	return ondisk.Pos{Inode: uint64(dev), Offset: nr}
}

// fragmentLRU is the LRU that a member's partly filled buckets are in.
func (c *checker) fragmentLRU(dev int) uint16 {
	if c.minor(39) {
		return ondisk.LRUFragmentationPerDev + uint16(dev)
	}
	return ondisk.LRUFragmentation
}

// entries calls fn with every entry that the indexes should have of a bucket.
func (c *checker) entries(g *geom, nr uint64, a *ondisk.Alloc, fn func(kind int, p ondisk.Pos)) {
	value := ondisk.DevBucket(uint8(g.dev), nr)
	switch a.DataType {
	case ondisk.DataFree:
		if g.m.FreespaceInitialized() {
			fn(sumFree, ondisk.FreespacePos(uint8(g.dev), nr, a.GenBits()))
		}
	case ondisk.DataNeedDiscard:
		if g.m.FreespaceInitialized() {
			fn(sumDiscard, c.discardPos(g.dev, nr, a.JournalSeqEmpty))
		}
	case ondisk.DataCached:
		if t := a.IOTime[ondisk.IORead]; t != 0 {
			fn(sumLRU, ondisk.LRUPos(uint16(g.dev), t, value))
		}
	}
	if x := a.FragmentationIndex(uint32(g.size)); x != 0 {
		fn(sumLRU, ondisk.LRUPos(c.fragmentLRU(g.dev), x, value))
	}
}

func (c *checker) expectIndexes(g *geom, nr uint64, b *bucket, a *ondisk.Alloc) {
	c.entries(g, nr, a, func(kind int, p ondisk.Pos) { b.idxSum += c.hash.index(kind, p) })
}

// found is what walks of the indexes do with an entry of a bucket.
type found func(g *geom, nr uint64, kind int, p ondisk.Pos)

// subtract is found in the walk for sums.
func (c *checker) subtract(g *geom, nr uint64, kind int, p ondisk.Pos) {
	if b := c.win.at(g, nr); b != nil {
		atomic.AddUint64(&b.idxSum, -c.hash.index(kind, p))
	}
}

// walkIndexes walks freespace, need_discard and lru; first says that what is wrong
// with an entry by itself is reported.
func (t *tasks) walkIndexes(first bool, to found) {
	c := t.c
	all := func(b ondisk.BtreeID, fn func(kv *ondisk.KV)) {
		t.leaves(b, ondisk.PosMin, ondisk.SPosMax, func() func(*ondisk.KV) { return fn })
	}
	t.leaves(ondisk.BtreeFreespace, ondisk.PosMin, ondisk.SPosMax, func() func(*ondisk.KV) {
		last := ondisk.PosMin // where the key before ended
		return func(kv *ondisk.KV) {
			if kv.Pos.Inode == last.Inode && kv.Pos.Offset-uint64(kv.Size) < last.Offset {
				// Nothing may cover a bucket twice, nor make us go over it so often.
				if first {
					c.bad("extent_overlapping", leafAt(ondisk.BtreeFreespace, kv.Pos), fmt.Sprintf("a start at or after %d", last.Offset), fmt.Sprint(kv.Pos.Offset-uint64(kv.Size)))
				}
				kv.Size = uint32(min(uint64(kv.Size), kv.Pos.Offset-min(last.Offset, kv.Pos.Offset)))
			}
			last = kv.Pos
			if kv.Size > 0 {
				c.freespaceKey(kv, first, to)
			}
		}
	})
	all(ondisk.BtreeNeedDiscard, func(kv *ondisk.KV) {
		dev, nr := kv.Pos.Inode, kv.Pos.Offset
		if c.minor(38) {
			dev, nr = kv.Pos.Offset>>48, kv.Pos.Offset&bucketMask
		}
		g := c.geometry8(dev)
		if g == nil || !g.valid(nr) {
			if first {
				c.bad("need_discard_freespace_key_to_invalid_dev_bucket", leafAt(ondisk.BtreeNeedDiscard, kv.Pos), "a bucket that exists", fmt.Sprintf("%d:%d", dev, nr))
			}
			return
		}
		if g.m.FreespaceInitialized() {
			to(g, nr, sumDiscard, kv.Pos)
		}
	})
	all(ondisk.BtreeLRU, func(kv *ondisk.KV) { c.lruKey(kv, first, to) })
}

func (c *checker) freespaceKey(kv *ondisk.KV, first bool, to found) {
	g := c.geometry8(kv.Pos.Inode)
	from := kv.Pos.Offset - uint64(kv.Size)
	bits := from >> 56
	lo, hi := from&^(0xff<<56), (kv.Pos.Offset-1)&^(0xff<<56)
	if g == nil || kv.Size == 0 || (kv.Pos.Offset-1)>>56 != bits || !g.valid(lo) || !g.valid(hi) {
		if first {
			c.bad("need_discard_freespace_key_to_invalid_dev_bucket", leafAt(ondisk.BtreeFreespace, kv.Pos), "buckets that exist", fmt.Sprintf("%d to %d of member %d", lo, hi, kv.Pos.Inode))
		}
		if g == nil || kv.Size == 0 || (kv.Pos.Offset-1)>>56 != bits {
			return
		}
		lo, hi = max(lo, uint64(g.m.FirstBucket)), min(hi, g.m.NBuckets-1)
	}
	if !g.m.FreespaceInitialized() {
		return
	}
	// What is not in the window need not be gone through.
	if g.base >= c.win.to || c.win.to == 0 || g.base+hi < c.win.from {
		return
	}
	lo, hi = max(lo, c.win.from-min(c.win.from, g.base)), min(hi, c.win.to-1-g.base)
	for nr := lo; nr <= hi; nr++ {
		to(g, nr, sumFree, ondisk.FreespacePos(uint8(g.dev), nr, uint8(bits)))
	}
}

func (c *checker) lruKey(kv *ondisk.KV, first bool, to found) {
	id, time, value := ondisk.SplitLRUPos(kv.Pos)
	w := func() errs.Where { return leafAt(ondisk.BtreeLRU, kv.Pos) }
	if id == ondisk.LRUStripes && c.minor(23) {
		if first {
			c.lruStripe(w, time, value)
		}
		return
	}
	dev, nr := value>>48, value&bucketMask
	g := c.geometry8(dev)
	if g == nil || !g.valid(nr) {
		if first {
			c.bad("lru_entry_to_invalid_bucket", w(), "a bucket that exists", fmt.Sprintf("%d:%d", dev, nr))
		}
		return
	}
	if kv.Type != ondisk.KeySet || uint64(id) != dev && id != c.fragmentLRU(g.dev) {
		if first {
			c.bad("lru_entry_bad", w(), fmt.Sprintf("key type set in LRU %#x or %#x", dev, c.fragmentLRU(g.dev)), fmt.Sprintf("key type %s in LRU %#x", kv.Type, id))
		}
		return
	}
	to(g, nr, sumLRU, kv.Pos)
}

// lruStripe takes in an entry of the LRU of stripes.
func (c *checker) lruStripe(w func() errs.Where, time, idx uint64) {
	c.accMu.Lock()
	defer c.accMu.Unlock()
	if c.stripeLRU == nil {
		c.stripeLRU = map[uint64]uint64{}
	}
	if c.stripes[idx] == nil {
		c.bad("lru_entry_bad", w(), "a stripe", fmt.Sprintf("stripe %d does not exist", idx))
		return
	}
	if old, twice := c.stripeLRU[idx]; twice {
		c.bad("lru_entry_bad", w(), "one entry", fmt.Sprintf("another at time %d", old))
	}
	c.stripeLRU[idx] = time
}

// checkStripeLRU compares the LRU of stripes with the stripes.
func (c *checker) checkStripeLRU() {
	if !c.minor(23) || c.lost(ondisk.BtreeExtents, ondisk.BtreeReflink, ondisk.BtreeStripes, ondisk.BtreeLRU) {
		return
	}
	for _, idx := range c.sortedStripes() {
		want, got := c.stripeTime(c.stripes[idx]), c.stripeLRU[idx]
		switch {
		case want == got:
		case got == 0:
			c.bad("alloc_key_to_missing_lru_entry", leafAt(ondisk.BtreeStripes, ondisk.Pos{Offset: idx}), fmt.Sprintf("an entry in the LRU of stripes at time %d", want), "none")
		default:
			c.bad("lru_entry_bad", leafAt(ondisk.BtreeLRU, ondisk.LRUPos(ondisk.LRUStripes, got, idx)), fmt.Sprintf("time %d (0: none)", want), fmt.Sprint(got))
		}
	}
}

// walkBucketGens compares bucket_gens with the alloc keys. It needs all
// generations; run it in the first pass, then missingGens.
func (t *tasks) walkBucketGens() {
	c := t.c
	seen := make([]uint32, (c.nbuckets+256*32)/(256*32)+uint64(len(c.devs)))
	c.gensSeen = seen
	t.leaves(ondisk.BtreeBucketGens, ondisk.PosMin, ondisk.SPosMax, func() func(*ondisk.KV) {
		return func(kv *ondisk.KV) {
			gens, err := ondisk.DecodeBucketGens(kv.Val)
			if err != nil {
				return
			}
			w := leafAt(ondisk.BtreeBucketGens, kv.Pos)
			g := c.geometry8(kv.Pos.Inode)
			if g == nil {
				c.bad("bucket_gens_to_invalid_dev", w, "a member that exists", fmt.Sprint(kv.Pos.Inode))
				return
			}
			if lo := kv.Pos.Offset << 8; kv.Pos.Offset > 1<<40 || lo >= g.m.NBuckets || lo+256 <= uint64(g.m.FirstBucket) {
				c.bad("bucket_gens_to_invalid_buckets", w, "buckets that exist", fmt.Sprintf("%d to %d", lo, lo+255))
				return
			}
			i := c.gensGroup(g, kv.Pos.Offset<<8)
			atomic.OrUint32(&seen[i/32], 1<<(i%32))
			for k, gen := range gens {
				nr := kv.Pos.Offset<<8 + uint64(k)
				switch {
				case !g.valid(nr):
					if gen != 0 {
						c.bad("bucket_gens_nonzero_for_invalid_buckets", w, "0", fmt.Sprintf("gen %d of bucket %d", gen, nr))
					}
				case gen != c.gens.at(g.base+nr):
					name := "bucket_gens_key_wrong"
					if b := c.win.at(g, nr); b != nil && b.flags&bucketHasKey == 0 {
						name = "bucket_gens_hole_wrong"
					}
					c.bad(name, w, fmt.Sprintf("gen %d of bucket %d", c.gens.at(g.base+nr), nr), fmt.Sprint(gen))
				}
			}
		}
	})
}

// gensGroup numbers the groups of 256 buckets; each member starts a new one.
func (c *checker) gensGroup(g *geom, nr uint64) uint64 { return g.base>>8 + uint64(g.dev) + nr>>8 }

func (c *checker) missingGens() {
	if c.lost(ondisk.BtreeBucketGens, ondisk.BtreeAlloc) || c.noAlloc {
		return
	}
	for _, g := range c.devs {
		if g == nil {
			continue
		}
		for nr := uint64(0); nr < g.m.NBuckets; nr++ {
			gen := c.gens.at(g.base + nr)
			if i := c.gensGroup(g, nr); gen != 0 && c.gensSeen[i/32]>>(i%32)&1 == 0 {
				c.bad("bucket_gens_key_wrong", leafAt(ondisk.BtreeBucketGens, ondisk.Pos{Inode: uint64(g.dev), Offset: nr >> 8}), fmt.Sprintf("gen %d of bucket %d", gen, nr), "no key")
			}
		}
	}
}

// overlap is a pair of backpointers that claim the same sectors.
type overlap struct {
	g    *geom
	nr   uint64
	pos  ondisk.Pos
	a, b ondisk.Pos // the keys
}

// walkBackpointers sums up the backpointers of the window.
func (t *tasks) walkBackpointers(first bool) {
	c := t.c
	from, to := ondisk.PosMin, ondisk.SPosMax
	if !first { // what is wrong with nodes and positions the first pass finds
		f, l := c.windowPos()
		from, to = c.bpRange(f), c.bpRange(l)
		to.Offset, to.Snapshot = to.Offset+(uint64(c.devs[l.Inode].size)<<c.bpShift-1), ^uint32(0)
	}
	t.leaves(ondisk.BtreeBackpointers, from, to, func() func(*ondisk.KV) {
		var lastDev, lastEnd uint64
		var last ondisk.Pos
		return func(kv *ondisk.KV) {
			if len(kv.Val) < 32 {
				return
			}
			g := c.geometry8(kv.Pos.Inode)
			if g == nil {
				if first {
					c.bad("backpointer_to_missing_device", leafAt(ondisk.BtreeBackpointers, kv.Pos), "a member that exists", fmt.Sprint(kv.Pos.Inode))
				}
				return
			}
			sector := kv.Pos.Offset >> c.bpShift
			nr := sector / g.size
			b := c.win.at(g, nr)
			if b == nil {
				if first && !g.valid(nr) {
					c.bad("backpointer_to_missing_alloc", leafAt(ondisk.BtreeBackpointers, kv.Pos), "a bucket that exists", fmt.Sprint(nr))
				}
				return
			}
			atomic.AddUint64(&b.bpSum, -c.hash.backpointer(kv.Pos, kv.Val))
			bp, _ := ondisk.DecodeBackpointer(kv.Val, c.v)
			if bp.DataType == ondisk.DataCached || bp.BucketLen == 0 {
				return
			}
			off := kv.Pos.Offset & (1<<c.bpShift - 1)
			if kv.Pos.Inode == lastDev && sector+off < lastEnd {
				c.accMu.Lock()
				if len(c.overlaps) < 10000 {
					c.overlaps = append(c.overlaps, overlap{g, nr, kv.Pos, last, bp.Pos})
				}
				c.accMu.Unlock()
			}
			// With an offset into a compressed blob the end is not known: such
			// ones are only looked at from the other side.
			if off == 0 {
				lastDev, lastEnd, last = kv.Pos.Inode, sector+uint64(bp.BucketLen), bp.Pos
			}
		}
	})
}

// bpRange is the first position of a bucket's backpointers.
func (c *checker) bpRange(p ondisk.Pos) ondisk.Pos {
	return ondisk.Pos{Inode: p.Inode, Offset: p.Offset * c.devs[p.Inode].size << c.bpShift}
}

// checkOverlaps reports sectors that two keys claim, in buckets whose backpointers
// are all right.
func (c *checker) checkOverlaps() {
	for _, o := range c.overlaps {
		if b := c.win.at(o.g, o.nr); b == nil || b.bpSum != 0 {
			continue
		}
		w := leafAt(ondisk.BtreeBackpointers, o.pos)
		w.Dev, w.Sector = o.g.dev, int64(o.pos.Offset>>c.bpShift)
		c.bad("dup_extents_to_reflink", w, "sectors of one key", fmt.Sprintf("of keys %v and %v", o.a, o.b))
	}
	c.overlaps = nil
}
