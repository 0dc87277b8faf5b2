package check

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// tree is what is kept of a btree: its pointers.
type tree struct {
	id     ondisk.BtreeID
	leaves []nodeRef // in order of position
	inner  []nodeRef // interior nodes, the root first
}

// nodes calls fn with every node on disk.
func (t *tree) nodes(fn func(r *nodeRef)) {
	for _, l := range [][]nodeRef{t.inner, t.leaves} {
		for i := range l {
			if !l[i].fake {
				fn(&l[i])
			}
		}
	}
}

// lose remembers that part of a btree cannot be read, so that what is derived
// from it is not compared.
func (c *checker) lose(b ondisk.BtreeID) {
	c.lostMu.Lock()
	defer c.lostMu.Unlock()
	c.lostTrees |= 1 << b
}

// lost reports whether any of the btrees is incomplete.
func (c *checker) lost(bs ...ondisk.BtreeID) bool {
	c.lostMu.Lock()
	defer c.lostMu.Unlock()
	for _, b := range bs {
		if c.lostTrees>>b&1 != 0 {
			return true
		}
	}
	return false
}

// loadTrees reads the interior nodes of all btrees.
func (c *checker) loadTrees(ctx context.Context) error {
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.workers)
	for b := ondisk.BtreeID(0); b < ondisk.MaxBtrees; b++ {
		if _, ok := c.state.Roots[b]; !ok && len(c.state.Overlay.Levels(b)) == 0 {
			continue
		}
		g.Go(func() error {
			t, err := c.loadTree(ctx, b)
			if err != nil {
				return err
			}
			mu.Lock()
			c.trees[b] = t
			mu.Unlock()
			return nil
		})
	}
	return g.Wait()
}

func (c *checker) loadTree(ctx context.Context, b ondisk.BtreeID) (*tree, error) {
	t := &tree{id: b}
	r, ok := c.state.Roots[b]
	root := nodeRef{btree: b, max: ondisk.SPosMax, fake: !ok}
	if ok {
		w := at(b, r.Level, ondisk.SPosMax)
		if r.Lost {
			c.bad("btree_root_bkey_invalid", w, "a pointer to the root", "none that can be read")
			c.lose(b)
			return t, nil
		}
		p, err := ondisk.DecodeBtreePtr(r.Key)
		if err != nil {
			c.badErr(err, w, "btree_root_bkey_invalid")
			c.lose(b)
			return t, nil
		}
		if p.V2 && p.MinKey != ondisk.PosMin {
			c.bad("btree_node_topology_bad_root_min_key", w, ondisk.PosMin.String(), p.MinKey.String())
		}
		if r.Key.Pos != ondisk.SPosMax {
			c.bad("btree_node_topology_bad_root_max_key", w, ondisk.SPosMax.String(), r.Key.Pos.String())
		}
		if r.Level > ondisk.MaxLevel {
			c.bad("btree_node_bad_level", w, fmt.Sprintf("at most %d", ondisk.MaxLevel), fmt.Sprint(r.Level))
		}
		root.level, root.max, root.ptr = int8(r.Level), r.Key.Pos, p
		c.checkNodePtr(r.Key, &root)
	}
	level := []nodeRef{root}
	for len(level) > 0 && level[0].level > 0 {
		t.inner = append(t.inner, level...)
		var next []nodeRef
		err := c.inBatches(ctx, level, func(*nodeRef) bool { return true }, func(n *node) { next = append(next, c.children(n)...) })
		if err != nil {
			return nil, err
		}
		level = next
	}
	t.leaves = level
	return t, nil
}

// children checks what an interior node says of the level below (chapter 02
// section 8).
func (c *checker) children(n *node) []nodeRef {
	if !n.ok {
		return nil
	}
	r := n.ref
	out := make([]nodeRef, 0, len(n.keys))
	start := r.min()
	gap := false
	for _, kv := range n.keys {
		p, err := ondisk.DecodeBtreePtr(kv)
		if err != nil {
			c.lose(r.btree) // checkKeys has reported it
			continue
		}
		if !p.V2 {
			p.MinKey = start
		}
		child := nodeRef{btree: r.btree, level: r.level - 1, max: kv.Pos, ptr: p}
		w := child.where()
		switch {
		case start.Less(p.MinKey):
			c.bad("btree_node_topology_gap_between_nodes", w, "a node that starts at "+start.String(), p.MinKey.String())
			gap = true
		case p.MinKey.Less(start):
			c.bad("btree_node_topology_bad_min_key", w, "a node that starts at "+start.String(), p.MinKey.String())
			if child.max.Less(start) {
				continue
			}
			// Ranges stay apart, so that nothing can make a node count many times.
			child.ptr.MinKey, child.ptr.RangeUpdated = start, true
		}
		start = kv.Pos.Successor()
		c.checkNodePtr(kv, &child)
		// The buffer that the value is in goes back: keep nothing of it.
		child.ptr.Ptrs = slices.Clone(p.Ptrs)
		out = append(out, child)
	}
	switch {
	case len(out) == 0:
		c.bad("btree_node_topology_empty_interior_node", r.where(), "children", "none")
		gap = true
	case out[len(out)-1].max != r.max:
		c.bad("btree_node_topology_bad_max_key", r.where(), r.max.String(), out[len(out)-1].max.String())
		gap = true
	}
	if gap {
		c.lose(r.btree)
	}
	return out
}

// checkNodePtr checks the pointer to a node beyond the rules of single keys.
func (c *checker) checkNodePtr(kv ondisk.KV, r *nodeRef) {
	w := r.where()
	p := &r.ptr
	if p.V2 && (p.SectorsWritten == 0 || int(p.SectorsWritten)*512 > c.nodeBytes) {
		c.bad("btree_ptr_v2_written_0", w, fmt.Sprintf("1 to %d sectors", c.nodeBytes/512), fmt.Sprint(p.SectorsWritten))
	}
	for _, q := range p.Ptrs {
		if q.Dev == ondisk.InvalidDev {
			continue
		}
		w.Dev, w.Sector = int(q.Dev), int64(q.Offset)
		g := c.geometry(q.Dev)
		if g == nil {
			c.badPtrDev(q.Dev, w)
			continue
		}
		if c.minor(7) && !g.inBitmap(q.Offset, q.Offset+uint64(c.nodeBytes/512)) {
			c.bad("btree_bitmap_not_marked", w, "the node's sectors in the member's btree_allocated_bitmap", fmt.Sprintf("bitmap %#x shift %d", g.m.BtreeAllocatedBitmap, g.m.BtreeBitmapShift))
		}
	}
	if kv.Size != 0 {
		c.bad("bkey_size_nonzero", w, "0", fmt.Sprint(kv.Size))
	}
}

// badPtrDev reports a pointer to a member that is not one.
func (c *checker) badPtrDev(dev uint8, w errs.Where) {
	name := "ptr_to_invalid_device"
	if ms, err := c.sb.Members(); err == nil && int(dev) < len(ms) && ms[dev].UUID == ondisk.DeletedMemberUUID {
		name = "ptr_to_removed_device"
	}
	c.bad(name, w, "a member that exists", fmt.Sprint(dev))
}

// batchNodes is how many nodes are read at once before any is looked at: enough to
// read them in the order of their sectors.
const batchNodes = 16

// inBatches reads nodes and calls each with every one in order.
func (c *checker) inBatches(ctx context.Context, refs []nodeRef, report func(*nodeRef) bool, each func(*node)) error {
	for len(refs) > 0 {
		k := min(len(refs), batchNodes)
		b, err := c.readBatch(ctx, refs[:k])
		if err != nil {
			return err
		}
		for n := b.next(report); n != nil; n = b.next(report) {
			each(n)
			c.release(n)
		}
		refs = refs[k:]
	}
	return nil
}

// tasks runs independent pieces of work, as many at once as there are workers.
type tasks struct {
	c   *checker
	ctx context.Context
	g   *errgroup.Group
}

func (c *checker) tasks(ctx context.Context) *tasks {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.workers)
	return &tasks{c, ctx, g}
}

func (t *tasks) do(fn func(ctx context.Context) error) {
	t.g.Go(func() error {
		if err := t.ctx.Err(); err != nil {
			return err
		}
		return fn(t.ctx)
	})
}

func (t *tasks) wait() error { return t.g.Wait() }

// leaves walks the leaves of a btree that hold keys from from to to, in pieces and
// no particular order. make makes what looks at the keys of one piece; its
// functions are called one after the other, keys in order.
func (t *tasks) leaves(b ondisk.BtreeID, from, to ondisk.Pos, make func() func(kv *ondisk.KV)) {
	c := t.c
	refs := c.leavesIn(b, from, to)
	report := c.first(b)
	for len(refs) > 0 {
		k := min(len(refs), batchNodes)
		part := refs[:k]
		refs = refs[k:]
		t.do(func(ctx context.Context) error {
			fn := make()
			return c.inBatches(ctx, part, func(*nodeRef) bool { return report }, func(n *node) {
				for i := range n.keys {
					if p := &n.keys[i].Pos; !p.Less(from) && !to.Less(*p) {
						fn(&n.keys[i])
					}
				}
			})
		})
	}
}

// leavesIn gives the leaves of a btree that hold keys from from to to.
func (c *checker) leavesIn(b ondisk.BtreeID, from, to ondisk.Pos) []nodeRef {
	t := c.trees[b]
	if t == nil {
		return nil
	}
	search := func(p ondisk.Pos) int {
		i, _ := slices.BinarySearchFunc(t.leaves, p, func(r nodeRef, p ondisk.Pos) int { return r.max.Compare(p) })
		return i
	}
	i, j := search(from), search(to)
	return t.leaves[min(i, len(t.leaves)):min(j+1, len(t.leaves))]
}

// first reports whether a btree's leaves are walked for the first time, when what
// is wrong with them is reported.
func (c *checker) first(b ondisk.BtreeID) bool {
	c.lostMu.Lock()
	defer c.lostMu.Unlock()
	seen := c.walked>>b&1 != 0
	c.walked |= 1 << b
	return !seen
}

// walkAll walks every key of a btree in order, for small ones.
func (c *checker) walkAll(ctx context.Context, b ondisk.BtreeID, fn func(kv *ondisk.KV)) error {
	report := c.first(b)
	return c.inBatches(ctx, c.leavesIn(b, ondisk.PosMin, ondisk.SPosMax), func(*nodeRef) bool { return report }, func(n *node) {
		for i := range n.keys {
			fn(&n.keys[i])
		}
	})
}
