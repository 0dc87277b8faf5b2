package check

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// stripe is a stripe with what points into it.
type stripe struct {
	ondisk.Stripe
	live []uint32 // recomputed sectors of each block, atomically
	refs int      // entries of bucket_to_stripe that name it and should
}

// loadStripes reads all stripes; there is one for some buckets at most.
func (c *checker) loadStripes(ctx context.Context) error {
	c.stripes = map[uint64]*stripe{}
	return c.walkAll(ctx, ondisk.BtreeStripes, func(kv *ondisk.KV) {
		c.sawType(kv.Type)
		s, err := ondisk.DecodeStripe(kv.Val)
		if err != nil || kv.Type != ondisk.KeyStripe {
			return
		}
		for i := range s.Ptrs {
			s.Csums = nil // not needed here, and most of the value
			if q := s.Ptrs[i]; q.Dev != ondisk.InvalidDev && c.geometry(q.Dev) == nil {
				c.badPtrDev(q.Dev, leafAt(ondisk.BtreeStripes, kv.Pos))
			}
		}
		c.stripes[kv.Pos.Offset] = &stripe{Stripe: s, live: make([]uint32, s.NrBlocks)}
	})
}

// sortedStripes lists the indexes of the stripes in order.
func (c *checker) sortedStripes() []uint64 { return slices.Sorted(maps.Keys(c.stripes)) }

// allStripes follows the pointers of every stripe to the buckets of its blocks
// (chapter 06 section 13.2).
func (p *pointers) allStripes() {
	for _, idx := range p.c.sortedStripes() {
		p.stripeBlocks(idx, p.c.stripes[idx])
	}
}

func (p *pointers) stripeBlocks(idx uint64, s *stripe) {
	c := p.c
	pos := ondisk.Pos{Offset: idx}
	p.devs = p.devs[:0]
	for i, q := range s.Ptrs {
		p.devs = append(p.devs, q.Dev)
		g := c.geometry(q.Dev)
		if g == nil || !g.valid(q.Offset/g.size) {
			continue
		}
		nr := q.Offset / g.size
		if gen := c.gens.at(g.base + nr); p.first && gen != q.Gen && !c.noAlloc {
			w := leafAt(ondisk.BtreeStripes, pos)
			w.Dev, w.Sector = int(q.Dev), int64(q.Offset)
			name := "stale_dirty_ptr"
			if ondisk.GenCompare(gen, q.Gen) < 0 {
				name = "ptr_gen_newer_than_bucket_gen"
			}
			c.bad(name, w, fmt.Sprintf("gen %d of bucket %d", gen, nr), fmt.Sprint(q.Gen))
		}
		b := c.win.at(g, nr)
		if b == nil {
			continue
		}
		parity := i >= s.NrData()
		if p.d == nil {
			if c.minor(35) {
				atomicAdd(&b.stripes, 1)
			} else {
				atomic.StoreUint32(&b.stripes, uint32(idx))
			}
			if parity {
				atomicAdd(&b.dirty, uint32(s.Sectors))
				b.mark(ondisk.DataParity)
			}
		}
		if c.minor(22) {
			bp := ondisk.Backpointer{Btree: ondisk.BtreeStripes, DataType: ondisk.DataUser, BucketGen: q.Gen, Pos: pos}
			if parity {
				bp.DataType = ondisk.DataParity
			}
			if s.NeedsReconcile && c.minor(33) && g.m.Rotational() {
				bp.Flags |= 1
			}
			p.backpointer(g, b, nr, ondisk.StripeBackpointerPos(q.Dev, q.Offset, s.Sectors, c.bpShift), bp)
		}
	}
	if p.acc != nil {
		p.replicas(ondisk.DataParity, uint8(s.NrData()), int64(s.Sectors)*int64(s.NrRedundant))
	}
}

// stripePtr checks that an extent's pointer and its stripe agree, and counts it.
func (p *pointers) stripePtr(where func() errs.Where, q *ondisk.ExtentPtr, sectors int64) {
	c := p.c
	s := c.stripes[q.Stripe.Index]
	if s == nil {
		if p.first {
			c.bad("ptr_to_missing_stripe", where(), fmt.Sprintf("stripe %d", q.Stripe.Index), "none")
		}
		return
	}
	if !s.Matches(*q) {
		if !p.first {
			return
		}
		c.bad("ptr_to_incorrect_stripe", where(), fmt.Sprintf("the block of stripe %d at member %d sector %d", q.Stripe.Index, q.Dev, q.Offset), fmt.Sprintf("block %d", q.Stripe.Block))
		return
	}
	if p.first {
		atomicAdd(&s.live[q.Stripe.Block], uint32(sectors))
	}
	devs := make([]uint8, 0, len(s.Ptrs))
	for _, b := range s.Ptrs {
		devs = append(devs, b.Dev)
	}
	p.acc.at(ondisk.ReplicasPos(ondisk.DataUser, uint8(s.NrData()), devs)).add(sectors)
}

// checkStripes compares the sectors of each block with what was counted, and the
// index from buckets to stripes both ways.
func (c *checker) checkStripes(ctx context.Context) error {
	if c.lost(ondisk.BtreeExtents, ondisk.BtreeReflink, ondisk.BtreeStripes) {
		return nil
	}
	err := c.walkAll(ctx, ondisk.BtreeBucketToStripe, func(kv *ondisk.KV) {
		w := leafAt(ondisk.BtreeBucketToStripe, kv.Pos)
		s := c.stripes[kv.Pos.Offset]
		dev, bucket := uint8(kv.Pos.Inode>>48), kv.Pos.Inode&(1<<48-1)
		if s == nil {
			c.bad("bucket_stripe_ref_to_missing_stripe", w, "a stripe", fmt.Sprintf("stripe %d does not exist", kv.Pos.Offset))
			return
		}
		g := c.geometry(dev)
		for _, q := range s.Ptrs {
			if g != nil && q.Dev == dev && q.Offset/g.size == bucket {
				s.refs++
				return
			}
		}
		c.bad("bucket_stripe_ref_to_incorrect_stripe", w, "a stripe with a block in the bucket", fmt.Sprintf("stripe %d has none", kv.Pos.Offset))
	})
	if err != nil {
		return err
	}
	for _, idx := range c.sortedStripes() {
		s := c.stripes[idx]
		w := leafAt(ondisk.BtreeStripes, ondisk.Pos{Offset: idx})
		blocks := 0
		for i, q := range s.Ptrs {
			if q.Dev != ondisk.InvalidDev {
				blocks++
			}
			got := uint32(s.Live[i])
			if i >= s.NrData() {
				if got != 0 {
					c.bad("stripe_parity_block_sector_count_wrong", w, "0", fmt.Sprintf("%d in block %d", got, i))
				}
			} else if got != s.live[i] {
				c.bad("stripe_sector_count_wrong", w, fmt.Sprintf("%d in block %d", s.live[i], i), fmt.Sprint(got))
			}
		}
		if c.minor(35) && s.refs < blocks {
			c.bad("stripe_to_missing_bucket_ref", w, fmt.Sprintf("%d entries in bucket_to_stripe", blocks), fmt.Sprint(s.refs))
		}
	}
	return nil
}

// stripeTime is a stripe's time in its LRU, 0 for none (chapter 06 section 13.3).
func (c *checker) stripeTime(s *stripe) uint64 {
	empty := 0
	for i := range s.NrData() {
		if s.live[i] == 0 {
			empty++
		}
	}
	if empty == s.NrData() {
		return 1
	}
	r := empty + int(s.CanWiden)
	if r == 0 {
		return 0
	}
	return ondisk.LRUTimeMax - uint64(r)
}
