package btree

import (
	"slices"
	"sort"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// change is a key as a transaction left it: newer than what its node has on
// disk. Type KeyDeleted says that the key is gone.
type change struct {
	kv  ondisk.KV
	seq uint64 // journal entry of the transaction
}

// maxDelta is how many changes a node keeps beside its arrays before they are
// merged in: a share of the node, so that merging costs each change the same.
func (n *Node) maxDelta() int { return 128 + len(n.slots)/8 }

// liveID names a node that is in memory because it is newer than its disk copy.
type liveID struct {
	btree ondisk.BtreeID
	level int
	max   ondisk.Pos
}

// live is such a node. Its content is an immutable Node that commits replace;
// everything else is guarded by Store.mu.
type live struct {
	id   liveID
	node *Node // guarded by Store.liveMu for readers
	// ptr is the pointer key of the node on disk; type KeyDeleted when there is
	// none yet.
	ptr ondisk.KV
	// unwritten are the changes that are merged in node's arrays but not on disk;
	// those of node.delta come on top.
	unwritten runs
	pin       uint64 // oldest seq of any unwritten change, 0 for none
	maxSeq    uint64
	rewrite   bool // must not be appended to
	big       bool // has far outgrown a node on disk: to be written soon
}

// find gives the index of the first change at or after p.
func find(cs []change, p ondisk.Pos) int {
	return sort.Search(len(cs), func(i int) bool { return !cs[i].kv.Pos.Less(p) })
}

// mergeChanges puts newer changes on top of older ones; both are sorted. What
// only comes behind is appended to old's array: nobody else may do that.
func mergeChanges(old, new []change) []change {
	if len(old) == 0 {
		return slices.Clone(new)
	}
	if len(new) == 0 {
		return old
	}
	if old[len(old)-1].kv.Pos.Less(new[0].kv.Pos) {
		return append(old, new...)
	}
	out := make([]change, 0, len(old)+len(new))
	for _, n := range new {
		i := find(old, n.kv.Pos)
		out = append(out, old[:i]...)
		if i < len(old) && old[i].kv.Pos == n.kv.Pos {
			i++
		}
		old = old[i:]
		out = append(out, n)
	}
	return append(out, old...)
}

// runs are lists of changes, each sorted, later ones newer, of falling sizes.
type runs [][]change

// add puts newer changes on top. cs is kept.
func (r runs) add(cs []change) runs {
	r = append(r, cs)
	for n := len(r); n > 1 && 2*len(r[n-1]) >= len(r[n-2]); n = len(r) {
		r[n-2] = mergeChanges(r[n-2], r[n-1])
		r[n-1] = nil
		r = r[:n-1]
	}
	return r
}

// with gives all changes as one list with newer ones on top, in an array of its
// own.
func (r runs) with(top []change) []change {
	for i := len(r) - 1; i >= 0; i-- {
		top = mergeChanges(slices.Clip(r[i]), top)
	}
	return slices.Clone(top)
}

// with gives the node with changes on top. Leaves keep them beside their arrays
// up to a number; folded says that they were merged in instead. Of all nodes
// that come from each other this way only the newest may be asked: arrays are
// shared, and what comes behind is appended in place.
func (n *Node) with(cs []change) (m *Node, folded []change) {
	c := *n
	if !c.grows {
		c.slots, c.vals, c.versions, c.delta = slices.Clip(c.slots), slices.Clip(c.vals), slices.Clip(c.versions), slices.Clip(c.delta)
		c.grows, c.used = true, n.liveBytes()
	}
	c.delta = mergeChanges(c.delta, cs)
	if n.Level == 0 && len(c.delta) <= n.maxDelta() {
		return &c, nil
	}
	folded = c.delta
	c.fold()
	return &c, folded
}

// settled gives the node without changes beside its arrays, which are not to be
// appended to.
func (n *Node) settled() *Node {
	c := *n
	c.slots, c.vals, c.versions, c.delta = slices.Clip(c.slots), slices.Clip(c.vals), slices.Clip(c.versions), slices.Clip(c.delta)
	if len(c.delta) > 0 {
		c.fold()
	}
	c.grows = false
	return &c
}

// fold merges the changes into the arrays.
func (n *Node) fold() {
	cs := n.delta
	n.delta = nil
	if len(cs) == 0 {
		return
	}
	if n.Level == 0 && n.appends(cs) { // children writes to the arrays of interior nodes
		for i := range cs {
			n.push(&cs[i].kv, len(cs)-i)
		}
		return
	}
	old := *n
	var grow int
	for i := range cs {
		grow += len(cs[i].kv.Val)
	}
	n.slots = make([]slot, 0, len(old.slots)+len(cs))
	// Values of replaced keys stay in the array until the node is rebuilt; when
	// they are most of it, copy only what is used.
	n.used = old.liveBytes()
	compact := len(old.vals)+grow > 2*n.used+grow+(64<<10)
	if compact {
		n.vals = make([]byte, 0, n.used+grow)
	} else {
		n.vals = append(make([]byte, 0, len(old.vals)+grow), old.vals...)
	}
	n.versions = nil
	if old.versions != nil {
		n.versions = make([]ondisk.Bversion, 0, len(old.slots)+len(cs))
	}
	keep := func(from, to int) {
		at := len(n.slots)
		n.slots = append(n.slots, old.slots[from:to]...)
		if old.versions != nil {
			n.versions = append(n.versions, old.versions[from:to]...)
		} else if n.versions != nil {
			n.versions = append(n.versions, make([]ondisk.Bversion, to-from)...) // push has made them
		}
		if !compact {
			return
		}
		for i := range n.slots[at:] {
			s := &n.slots[at+i]
			v := uint32(len(n.vals))
			n.vals = append(n.vals, old.vals[s.val:s.val+uint32(s.valLen)]...)
			s.val = v
		}
	}
	i := 0
	for k := range cs {
		c := &cs[k]
		to := i + old.from(i, c.kv.Pos)
		keep(i, to)
		i = to
		if i < len(old.slots) && old.slots[i].pos() == c.kv.Pos {
			n.used -= int(old.slots[i].valLen)
			i++
		}
		if c.kv.Type != ondisk.KeyDeleted {
			n.push(&c.kv, 0)
		}
	}
	keep(i, len(old.slots))
}

// from gives the distance from slot i to the first slot at or after p.
func (n *Node) from(i int, p ondisk.Pos) int {
	m := Node{slots: n.slots[i:]}
	return m.Search(p)
}

// appends: the changes are keys that come behind all others.
func (n *Node) appends(cs []change) bool {
	if k := len(n.slots); k > 0 && !n.slots[k-1].pos().Less(cs[0].kv.Pos) {
		return false
	}
	for i := range cs {
		if cs[i].kv.Type == ondisk.KeyDeleted {
			return false
		}
	}
	return true
}

// push appends a key to the arrays; more is how many are to follow.
func (n *Node) push(kv *ondisk.KV, more int) {
	if n.versions == nil && kv.Version != (ondisk.Bversion{}) {
		n.versions = make([]ondisk.Bversion, len(n.slots), len(n.slots)+more+1)
	}
	n.slots = append(n.slots, slot{kv.Pos.Inode, kv.Pos.Offset, kv.Pos.Snapshot, kv.Size, uint32(len(n.vals)), uint16(len(kv.Val)), kv.Type})
	n.vals = append(n.vals, kv.Val...)
	n.used += len(kv.Val)
	if n.versions != nil {
		n.versions = append(n.versions, kv.Version)
	}
}

// bytes is about what a node that with gave takes on disk.
func (n *Node) bytes() int {
	b := n.used + 24*(len(n.slots)+len(n.delta))
	for i := range n.delta {
		b += len(n.delta[i].kv.Val)
	}
	return b
}

func (n *Node) liveBytes() int {
	b := 0
	for i := range n.slots {
		b += int(n.slots[i].valLen)
	}
	return b
}

// get gives the key at exactly p, changes included.
func (n *Node) get(p ondisk.Pos) (ondisk.KV, bool) {
	if i := find(n.delta, p); i < len(n.delta) && n.delta[i].kv.Pos == p {
		kv := n.delta[i].kv
		return kv, kv.Type != ondisk.KeyDeleted
	}
	if i := n.Search(p); i < len(n.slots) && n.slots[i].pos() == p {
		return n.Key(i), true
	}
	return ondisk.KV{}, false
}

// next gives the first key at or after p, changes included.
func (n *Node) next(p ondisk.Pos) (ondisk.KV, bool) {
	i, j := n.Search(p), find(n.delta, p)
	for {
		switch {
		case j < len(n.delta) && (i >= len(n.slots) || !n.slots[i].pos().Less(n.delta[j].kv.Pos)):
			kv := n.delta[j].kv
			if i < len(n.slots) && n.slots[i].pos() == kv.Pos {
				i++
			}
			j++
			if kv.Type == ondisk.KeyDeleted {
				continue
			}
			return kv, true
		case i < len(n.slots):
			return n.Key(i), true
		default:
			return ondisk.KV{}, false
		}
	}
}

// all calls yield with all keys in order, changes included.
func (n *Node) all(yield func(ondisk.KV) bool) {
	i, j := 0, 0
	for i < len(n.slots) || j < len(n.delta) {
		var kv ondisk.KV
		if j < len(n.delta) && (i >= len(n.slots) || !n.slots[i].pos().Less(n.delta[j].kv.Pos)) {
			kv = n.delta[j].kv
			if i < len(n.slots) && n.slots[i].pos() == kv.Pos {
				i++
			}
			j++
			if kv.Type == ondisk.KeyDeleted {
				continue
			}
		} else {
			kv = n.Key(i)
			i++
		}
		if !yield(kv) {
			return
		}
	}
}
