package check

import (
	"context"
	"encoding/binary"
	"fmt"
	"sort"
	"sync/atomic"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// shared is an indirect extent with the references to it.
type shared struct {
	start, end uint64
	refcount   uint64
	refs       uint32 // recomputed, atomically
	counted    bool   // it has a reference count
}

// sharedBytes is the memory of one, for the budget.
const sharedBytes = 32

// reflinkTable holds the indirect extents of the window, in order.
type reflinkTable struct {
	from, to uint64 // sectors of the reflink btree in the window: from <= s < to
	all      []shared
}

// loadReflink reads indirect extents from c.nextShared on, until the budget is
// used up, and leaves in nextShared where the next pass goes on, 0 for nowhere.
func (c *checker) loadReflink(ctx context.Context) error {
	t := &reflinkTable{from: c.nextShared, to: ^uint64(0)}
	c.reflink = t
	refs := c.leavesIn(ondisk.BtreeReflink, ondisk.Pos{Offset: c.nextShared}, ondisk.SPosMax)
	from := c.nextShared
	c.nextShared = 0
	budget := int(max(c.opts.Memory/8/sharedBytes, 16))
	for len(refs) > 0 && c.nextShared == 0 {
		n := min(len(refs), batchNodes)
		err := c.inBatches(ctx, refs[:n], func(*nodeRef) bool { return false }, func(n *node) {
			for i := range n.keys {
				kv := &n.keys[i]
				if kv.Pos.Offset <= from || kv.Pos.Inode != 0 || c.nextShared != 0 {
					continue
				}
				s := shared{start: kv.Pos.Offset - min(uint64(kv.Size), kv.Pos.Offset), end: kv.Pos.Offset}
				if (kv.Type == ondisk.KeyReflinkV || kv.Type == ondisk.KeyIndirectInlineData) && len(kv.Val) >= 8 {
					s.refcount, s.counted = binary.LittleEndian.Uint64(kv.Val), true
				}
				t.all = append(t.all, s)
				if len(t.all) == budget {
					c.nextShared, t.to = s.end, s.end
				}
			}
		})
		if err != nil {
			return err
		}
		refs = refs[n:]
	}
	return nil
}

// first gives the index of the first extent that ends after a sector.
func (t *reflinkTable) first(sector uint64) int {
	return sort.Search(len(t.all), func(i int) bool { return t.all[i].end > sector })
}

// ref counts the reference that a reflink_p holds (chapter 05 section 13) and
// checks that all of its range is there.
func (t *reflinkTable) ref(c *checker, kv *ondisk.KV) {
	p, err := ondisk.DecodeReflinkP(kv.Val)
	if err != nil {
		return
	}
	lo, hi := p.Idx-min(uint64(p.FrontPad), p.Idx), p.Idx+uint64(kv.Size)+uint64(p.BackPad)
	for i := t.first(lo); i < len(t.all) && t.all[i].start < hi; i++ {
		atomic.AddUint32(&t.all[i].refs, 1)
	}
	if p.Error || c.lost(ondisk.BtreeReflink) {
		return
	}
	at, end := max(p.Idx, t.from), min(p.Idx+uint64(kv.Size), t.to)
	for i := t.first(at); i < len(t.all) && at < end && t.all[i].start <= at; i++ {
		at = t.all[i].end
	}
	if at < end {
		c.bad("reflink_p_to_missing_reflink_v", leafAt(ondisk.BtreeExtents, kv.Pos), fmt.Sprintf("an indirect extent at %d", at), "none")
	}
}

// compareRefs compares the counts of the window.
func (c *checker) compareRefs() {
	if c.lost(ondisk.BtreeExtents, ondisk.BtreeReflink) {
		return
	}
	for i := range c.reflink.all {
		if s := &c.reflink.all[i]; s.counted && uint64(s.refs) != s.refcount {
			c.bad("reflink_v_refcount_wrong", leafAt(ondisk.BtreeReflink, ondisk.Pos{Offset: s.end}), fmt.Sprint(s.refs), fmt.Sprint(s.refcount))
		}
	}
}
