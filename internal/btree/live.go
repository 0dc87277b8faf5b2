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
// merged in.
const maxDelta = 128

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
	// unwritten are the changes that are merged in node's arrays but not on disk,
	// by position; those of node.delta come on top.
	unwritten []change
	pin       uint64 // oldest seq of any unwritten change, 0 for none
	maxSeq    uint64
	rewrite   bool // must not be appended to
}

// find gives the index of the first change at or after p.
func find(cs []change, p ondisk.Pos) int {
	return sort.Search(len(cs), func(i int) bool { return !cs[i].kv.Pos.Less(p) })
}

// mergeChanges puts newer changes on top of older ones; both are sorted.
func mergeChanges(old, new []change) []change {
	if len(old) == 0 {
		return slices.Clone(new)
	}
	out := make([]change, 0, len(old)+len(new))
	i := 0
	for _, n := range new {
		for i < len(old) && old[i].kv.Pos.Less(n.kv.Pos) {
			out = append(out, old[i])
			i++
		}
		if i < len(old) && old[i].kv.Pos == n.kv.Pos {
			i++
		}
		out = append(out, n)
	}
	return append(out, old[i:]...)
}

// with gives the node with changes on top. Leaves keep them beside their arrays
// up to a number; folded says that they were merged in instead.
func (n *Node) with(cs []change) (m *Node, folded []change) {
	d := mergeChanges(n.delta, cs)
	c := *n
	if n.Level == 0 && len(d) <= maxDelta {
		c.delta = d
		return &c, nil
	}
	c.delta = nil
	c.fold(d)
	return &c, d
}

// fold merges changes into fresh arrays.
func (n *Node) fold(cs []change) {
	old := *n
	old.delta = nil
	n.slots = make([]slot, 0, len(old.slots)+len(cs))
	n.vals = slices.Clip(old.vals)
	var grow int
	for i := range cs {
		grow += len(cs[i].kv.Val)
	}
	// Values of replaced keys stay in the array until the node is rebuilt; when
	// they are most of it, copy only what is used.
	compact := cap(old.vals)+grow > 2*old.liveBytes()+grow+(64<<10)
	if compact {
		n.vals = make([]byte, 0, old.liveBytes()+grow)
	} else {
		n.vals = append(make([]byte, 0, len(old.vals)+grow), old.vals...)
	}
	versions := old.versions != nil
	for i := range cs {
		versions = versions || cs[i].kv.Version != ondisk.Bversion{}
	}
	n.versions = nil
	if versions {
		n.versions = make([]ondisk.Bversion, 0, len(old.slots)+len(cs))
	}
	keep := func(i int) {
		s := old.slots[i]
		if compact {
			at := uint32(len(n.vals))
			n.vals = append(n.vals, old.vals[s.val:s.val+uint32(s.valLen)]...)
			s.val = at
		}
		n.slots = append(n.slots, s)
		if versions {
			var v ondisk.Bversion
			if old.versions != nil {
				v = old.versions[i]
			}
			n.versions = append(n.versions, v)
		}
	}
	i := 0
	for _, c := range cs {
		for i < len(old.slots) && old.slots[i].pos().Less(c.kv.Pos) {
			keep(i)
			i++
		}
		if i < len(old.slots) && old.slots[i].pos() == c.kv.Pos {
			i++
		}
		if c.kv.Type == ondisk.KeyDeleted {
			continue
		}
		kv := c.kv
		n.slots = append(n.slots, slot{kv.Pos.Inode, kv.Pos.Offset, kv.Pos.Snapshot, kv.Size, uint32(len(n.vals)), uint16(len(kv.Val)), kv.Type})
		n.vals = append(n.vals, kv.Val...)
		if versions {
			n.versions = append(n.versions, kv.Version)
		}
	}
	for ; i < len(old.slots); i++ {
		keep(i)
	}
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
