package check

import (
	"context"
	"fmt"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// The small btrees that nothing else looks into.

// walkSmall walks them.
func (t *tasks) walkSmall() {
	c := t.c
	t.do(func(ctx context.Context) error {
		return c.walkAll(ctx, ondisk.BtreeLoggedOps, c.loggedOp)
	})
	t.do(func(ctx context.Context) error { return c.walkAll(ctx, ondisk.BtreeQuotas, c.quotaKey) })
	for b := ondisk.BtreeID(ondisk.NrBtrees); b < ondisk.MaxBtrees; b++ {
		if c.trees[b] != nil {
			t.leaves(b, ondisk.PosMin, ondisk.SPosMax, func() func(*ondisk.KV) { return func(*ondisk.KV) {} })
		}
	}
}

// walkDamage walks the records of damage, in each pass for the inodes of its
// window.
func (t *tasks) walkDamage(first bool) {
	c := t.c
	t.do(func(ctx context.Context) error {
		snaps := snapCache{t: c.snaps, si: -1}
		p := c.pointers(first)
		defer p.done()
		return c.walkAll(ctx, ondisk.BtreeDamage, func(kv *ondisk.KV) {
			si := snaps.find(kv.Pos.Snapshot)
			if first {
				p.plain(ondisk.BtreeDamage, kv)
				c.checkSnap(ondisk.BtreeDamage, kv.Pos, si)
			}
			c.damageKey(kv)
		})
	})
}

// loggedOp checks an operation that was under way, or the cursor of an allocator
// of inode numbers.
func (c *checker) loggedOp(kv *ondisk.KV) {
	w := leafAt(ondisk.BtreeLoggedOps, kv.Pos)
	switch {
	case kv.Pos.Inode == ondisk.LoggedOpOps:
		if c.clean {
			c.bad("logged_op_but_clean", w, "no operation after a clean shutdown", kv.Type.String())
		}
	case kv.Pos.Inode == ondisk.LoggedOpInodeCursors:
		if kv.Type != ondisk.KeyInodeAllocCursor {
			return
		}
		x, err := ondisk.DecodeInodeAllocCursor(kv.Val)
		if err != nil {
			return
		}
		if lo, hi := x.Range(kv.Pos.Offset); x.Idx < lo && x.Idx != 0 || x.Idx > hi {
			c.bad("inode_alloc_cursor_range_bad", w, fmt.Sprintf("%d to %d", lo, hi), fmt.Sprint(x.Idx))
		}
	default:
		c.bad("logged_op_kind_unknown", w, "kind 0 or 1", fmt.Sprint(kv.Pos.Inode))
	}
}

// quotaKey checks a limit. What is used is not stored.
func (c *checker) quotaKey(kv *ondisk.KV) {
	if kv.Pos.Offset>>32 != 0 {
		c.bad("quota_id_bad", leafAt(ondisk.BtreeQuotas, kv.Pos), "an id of 32 bits", fmt.Sprint(kv.Pos.Offset))
	}
}

// damageKey checks that a record of damage belongs to an inode.
func (c *checker) damageKey(kv *ondisk.KV) {
	w := leafAt(ondisk.BtreeDamage, kv.Pos)
	if kv.Type != ondisk.KeyDamage || c.lost(ondisk.BtreeInodes) {
		return
	}
	vs, in := c.inodes.versions(kv.Pos.Offset)
	if !in {
		return
	}
	for i := range vs {
		if vs[i].snap == kv.Pos.Snapshot && vs[i].kind == isInode {
			return
		}
	}
	c.bad("damage_key_no_inode", w, "an inode at the same position", "none")
}
