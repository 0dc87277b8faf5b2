package check

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// snapNode is a node of the snapshot forest.
type snapNode struct {
	ondisk.Snapshot
	id    uint32
	size  int // bytes of the value
	state uint32
	// in and out number the nodes in the order of a walk down from the roots:
	// below a node are those whose in lies in [in, out).
	in, out int32
	// dying: a deleted leaf, or an interior node that only deleted ones are below
	// or that has one living child. Its keys are on their way out or down, so that
	// they need not be consistent.
	dying bool
	dead  bool // nothing below it lives
	kids  []int32
	// subvol is the living subvolume whose snapshot this is, 0 none.
	subvol uint32
}

// snapTable is the snapshot forest and the subvolumes.
type snapTable struct {
	nodes   []snapNode // ascending by id
	index   map[uint32]int32
	trees   map[uint32]ondisk.SnapshotTree
	subvols map[uint32]*subvol
}

// subvol is a subvolume with what points at it.
type subvol struct {
	ondisk.Subvolume
	id    uint32
	size  int
	state uint32
	si    int32 // its snapshot, -1 none
	// root is whether its root directory was found, links the dirents that name it.
	root  bool
	links uint32
}

func (s *subvol) live() bool { return s.state == ondisk.SubvolStateLive }

// sees reports whether keys of snapshot x can be visible in snapshot s: x is s or
// an ancestor of it. Indexes; -1 sees nothing.
func (t *snapTable) sees(s, x int32) bool {
	if s < 0 || x < 0 {
		return false
	}
	a, b := &t.nodes[x], &t.nodes[s]
	return a.in <= b.in && b.in < a.out
}

// find gives the index of a snapshot, -1 if there is none.
func (t *snapTable) find(id uint32) int32 {
	if i, ok := t.index[id]; ok {
		return i
	}
	return -1
}

// loadSnapshots reads the three btrees.
func (c *checker) loadSnapshots(ctx context.Context) error {
	t := &snapTable{index: map[uint32]int32{}, trees: map[uint32]ondisk.SnapshotTree{}, subvols: map[uint32]*subvol{}}
	c.snaps = t
	inRange := func(kv *ondisk.KV, limit uint64) bool {
		return kv.Pos.Inode == 0 && kv.Pos.Offset != 0 && kv.Pos.Offset <= limit
	}
	err := c.walkAll(ctx, ondisk.BtreeSnapshots, func(kv *ondisk.KV) {
		if s, err := ondisk.DecodeSnapshot(kv.Val); err == nil && kv.Type == ondisk.KeySnapshot && inRange(kv, 1<<32-1) {
			id := uint32(kv.Pos.Offset)
			t.index[id] = int32(len(t.nodes))
			t.nodes = append(t.nodes, snapNode{Snapshot: s, id: id, size: len(kv.Val), state: s.LiveState()})
		}
	})
	if err == nil {
		err = c.walkAll(ctx, ondisk.BtreeSnapshotTrees, func(kv *ondisk.KV) {
			if s, err := ondisk.DecodeSnapshotTree(kv.Val); err == nil && kv.Type == ondisk.KeySnapshotTree && inRange(kv, 1<<32-1) {
				t.trees[uint32(kv.Pos.Offset)] = s
			}
		})
	}
	if err == nil {
		err = c.walkAll(ctx, ondisk.BtreeSubvolumes, func(kv *ondisk.KV) {
			if s, err := ondisk.DecodeSubvolume(kv.Val); err == nil && kv.Type == ondisk.KeySubvolume && inRange(kv, 1<<31-1) {
				id := uint32(kv.Pos.Offset)
				t.subvols[id] = &subvol{Subvolume: s, id: id, size: len(kv.Val), state: s.LiveState(), si: -1}
			}
		})
	}
	if err != nil {
		return err
	}
	t.link()
	c.checkSnapshots()
	c.checkSnapshotTrees()
	c.checkSubvols()
	return c.checkSubvolChildren(ctx)
}

// link numbers the nodes, which ids alone cannot send in circles: parents have the
// greater ones.
func (t *snapTable) link() {
	var roots []int32
	// Where a parent is wrong, the one that names the child will do, so that keys
	// are not taken for others over it.
	claims := map[uint32]int32{}
	for i := range t.nodes {
		for _, k := range t.nodes[i].Children {
			if n := &t.nodes[i]; k != 0 && k < n.id && n.state != ondisk.SnapshotStateDeleted {
				claims[k] = int32(i)
			}
		}
	}
	for i := range t.nodes {
		n := &t.nodes[i]
		p, ok := t.index[n.Parent]
		if ok = ok && n.Parent > n.id; !ok && n.Parent != 0 {
			p, ok = claims[n.id]
		}
		if ok && n.state != ondisk.SnapshotStateDeleted {
			t.nodes[p].kids = append(t.nodes[p].kids, int32(i))
		} else {
			roots = append(roots, int32(i))
		}
	}
	next := int32(0)
	type step struct {
		node int32
		kid  int
	}
	for _, r := range roots {
		t.nodes[r].in, next = next, next+1
		for stack := []step{{r, 0}}; len(stack) > 0; {
			s := &stack[len(stack)-1]
			n := &t.nodes[s.node]
			if s.kid == len(n.kids) {
				n.out = next
				stack = stack[:len(stack)-1]
				continue
			}
			k := n.kids[s.kid]
			s.kid++
			t.nodes[k].in, next = next, next+1
			stack = append(stack, step{k, 0})
		}
	}
	for _, s := range t.subvols {
		s.si = t.find(s.Snapshot)
		if s.si >= 0 && s.live() {
			t.nodes[s.si].subvol = s.id
		}
	}
	// Children have the lower ids, so come first.
	for i := range t.nodes {
		n := &t.nodes[i]
		live := 0
		for _, k := range n.kids {
			if !t.nodes[k].dead {
				live++
			}
		}
		switch {
		case n.state == ondisk.SnapshotStateDeleted:
			n.dead = true
		case len(n.kids) == 0:
			n.dead = n.state == ondisk.SnapshotStateWillDelete
		case live == 0:
			n.dead = true
		}
		n.dying = n.dead || len(n.kids) > 0 && live < 2
	}
}

func (c *checker) checkSnapshots() {
	t := c.snaps
	for i := len(t.nodes) - 1; i >= 0; i-- {
		n := &t.nodes[i]
		w := leafAt(ondisk.BtreeSnapshots, ondisk.Pos{Offset: uint64(n.id)})
		c.checkSnapshotState(n, w)
		if n.state == ondisk.SnapshotStateDeleted {
			continue
		}
		var parent *snapNode
		if n.Parent != 0 {
			if p := t.find(n.Parent); p < 0 {
				c.bad("snapshot_edge_bad", w, fmt.Sprintf("parent %d", n.Parent), "no such snapshot")
			} else if parent = &t.nodes[p]; parent.state == ondisk.SnapshotStateDeleted {
				c.bad("snapshot_deleted_but_linked", w, "a parent that is not deleted", fmt.Sprint(n.Parent))
			} else if parent.Children[0] != n.id && parent.Children[1] != n.id {
				c.bad("snapshot_edge_bad", w, fmt.Sprintf("parent %d with child %d", n.Parent, n.id), fmt.Sprintf("its children are %d and %d", parent.Children[0], parent.Children[1]))
			}
		}
		for _, k := range n.Children {
			if k == 0 {
				continue
			}
			if x := t.find(k); x < 0 {
				c.bad("snapshot_edge_bad", w, fmt.Sprintf("child %d", k), "no such snapshot")
			} else if kid := &t.nodes[x]; kid.state == ondisk.SnapshotStateDeleted {
				c.bad("snapshot_deleted_but_linked", w, "children that are not deleted", fmt.Sprint(k))
			} else if kid.Parent != n.id {
				c.bad("snapshot_edge_bad", w, fmt.Sprintf("child %d with parent %d", k, n.id), fmt.Sprintf("its parent is %d", kid.Parent))
			}
		}
		c.checkSnapshotSubvol(n, w)
		if tr, ok := t.trees[n.Tree]; !ok {
			c.bad("snapshot_to_bad_snapshot_tree", w, fmt.Sprintf("tree %d", n.Tree), "no such tree")
		} else if parent != nil && parent.Tree != n.Tree {
			c.bad("snapshot_to_bad_snapshot_tree", w, fmt.Sprintf("tree %d of its parent", parent.Tree), fmt.Sprint(n.Tree))
		} else if parent == nil && n.Parent == 0 && tr.RootSnapshot != n.id {
			c.bad("snapshot_to_bad_snapshot_tree", w, fmt.Sprintf("tree with root %d", n.id), fmt.Sprintf("tree %d has root %d", n.Tree, tr.RootSnapshot))
		}
		if n.size >= 40 && c.minor(1) {
			c.checkSkiplist(n, parent, int32(i), w)
		}
	}
}

// checkSnapshotState checks the state word and what the flags say beside it.
func (c *checker) checkSnapshotState(n *snapNode, w errs.Where) {
	if !c.minor(39) {
		if n.State != 0 {
			c.bad("snapshot_state_bad", w, "no state before 1.39", fmt.Sprintf("%#x", n.State))
		}
		if n.Flags&^(ondisk.SnapshotWillDelete|ondisk.SnapshotSubvol|ondisk.SnapshotDeleted|ondisk.SnapshotNoKeys) != 0 {
			c.bad("snapshot_state_bad", w, "known flags", fmt.Sprintf("%#x", n.Flags))
		}
		return
	}
	var flags uint32
	switch n.State {
	case ondisk.SnapshotStateLive:
		if n.Subvol != 0 {
			flags = ondisk.SnapshotSubvol
		}
	case ondisk.SnapshotStateWillDelete:
		flags = ondisk.SnapshotWillDelete
	case ondisk.SnapshotStateNoKeys:
		flags = ondisk.SnapshotNoKeys
	case ondisk.SnapshotStateDeleted:
		flags = ondisk.SnapshotDeleted
	case 0:
		c.bad("snapshot_state_bad", w, "a state", "0")
		return
	default:
		return // a rule of single keys
	}
	if n.Flags == flags {
		return
	}
	if n.State == ondisk.SnapshotStateLive && n.Flags^flags == ondisk.SnapshotSubvol {
		return // reported with the subvolume
	}
	c.bad("snapshot_state_bad", w, fmt.Sprintf("flags %#x by its state", flags), fmt.Sprintf("%#x", n.Flags))
}

// checkSnapshotSubvol checks that exactly the living leaves have a subvolume.
func (c *checker) checkSnapshotSubvol(n *snapNode, w errs.Where) {
	if n.state == ondisk.SnapshotStateLive && (n.Subvol != 0) != (n.Flags&ondisk.SnapshotSubvol != 0) {
		c.bad("snapshot_subvol_flag_wrong", w, fmt.Sprintf("flag subvol set: %v", n.Subvol != 0), fmt.Sprint(n.Flags&ondisk.SnapshotSubvol != 0))
		return
	}
	leaf := n.Children == [2]uint32{}
	s := c.snaps.subvols[n.Subvol]
	switch {
	case n.state == ondisk.SnapshotStateWillDelete && leaf:
		if s != nil && s.live() {
			c.bad("snapshot_deleted_but_subvol_live", w, "no living subvolume", fmt.Sprint(n.Subvol))
		} else if n.Subvol != 0 && !c.minor(39) {
			c.bad("snapshot_should_not_have_subvol", w, "0", fmt.Sprint(n.Subvol))
		}
	case n.state == ondisk.SnapshotStateNoKeys:
		if leaf {
			c.bad("snapshot_no_keys_childless", w, "children", "none")
		}
	case !leaf || n.state != ondisk.SnapshotStateLive:
		if n.Subvol != 0 {
			c.bad("snapshot_should_not_have_subvol", w, "0", fmt.Sprint(n.Subvol))
		}
	case n.Subvol == 0:
		c.bad("snapshot_subvol_backref_wrong", w, "a subvolume", "none")
	case s == nil:
		c.bad("snapshot_subvol_backref_wrong", w, fmt.Sprintf("subvolume %d", n.Subvol), "no such subvolume")
	case s.Snapshot != n.id:
		c.bad("snapshot_subvol_backref_wrong", w, fmt.Sprintf("subvolume %d with snapshot %d", n.Subvol, n.id), fmt.Sprintf("it has snapshot %d", s.Snapshot))
	case s.state == ondisk.SubvolStateDeleted:
		c.bad("snapshot_subvol_state_mismatch", w, "state will_delete, as its subvolume is deleted", "live")
	}
}

// checkSkiplist checks depth and skiplist.
func (c *checker) checkSkiplist(n, parent *snapNode, i int32, w errs.Where) {
	depth := uint32(0)
	if parent != nil {
		depth = parent.Depth + 1
	}
	if n.Depth != depth && (parent != nil || n.Parent == 0) {
		c.bad("snapshot_bad_depth", w, fmt.Sprint(depth), fmt.Sprint(n.Depth))
	}
	for _, k := range n.Skip {
		good := n.Parent == 0 && k == 0
		if n.Parent != 0 {
			x := c.snaps.find(k)
			good = k != n.id && c.snaps.sees(i, x)
		}
		if !good {
			c.bad("snapshot_bad_skiplist", w, "three ancestors, or zeros at a root", fmt.Sprint(n.Skip))
			return
		}
	}
}

func (c *checker) checkSnapshotTrees() {
	t := c.snaps
	for _, id := range slices.Sorted(maps.Keys(t.trees)) {
		tr := t.trees[id]
		w := leafAt(ondisk.BtreeSnapshotTrees, ondisk.Pos{Offset: uint64(id)})
		root := t.find(tr.RootSnapshot)
		if root < 0 || t.nodes[root].Parent != 0 || t.nodes[root].Tree != id {
			c.bad("snapshot_tree_to_missing_snapshot", w, "the root of this tree", fmt.Sprintf("snapshot %d", tr.RootSnapshot))
		}
		m := t.subvols[tr.MasterSubvol]
		switch {
		case tr.MasterSubvol == 0 && c.minor(39):
		case m == nil:
			c.bad("snapshot_tree_to_missing_subvol", w, fmt.Sprintf("subvolume %d", tr.MasterSubvol), "no such subvolume")
		case root >= 0 && !t.sees(m.si, root):
			c.bad("snapshot_tree_to_wrong_subvol", w, "a subvolume of this tree", fmt.Sprintf("subvolume %d has snapshot %d", m.id, m.Snapshot))
		case m.Flags&ondisk.SubvolSnap != 0:
			c.bad("snapshot_tree_to_snapshot_subvol", w, "a subvolume that is no snapshot", fmt.Sprint(m.id))
		}
	}
}

func (c *checker) checkSubvols() {
	t := c.snaps
	for _, id := range slices.Sorted(maps.Keys(t.subvols)) {
		s := t.subvols[id]
		w := leafAt(ondisk.BtreeSubvolumes, ondisk.Pos{Offset: uint64(id)})
		if c.minor(39) {
			if s.State == 0 {
				c.bad("subvol_state_bad", w, "a state", "0")
			} else if (s.Flags&ondisk.SubvolUnlinked != 0) != (s.State != ondisk.SubvolStateLive) {
				c.bad("subvol_state_bad", w, "flag unlinked as the state says", fmt.Sprintf("state %#x flags %#x", s.State, s.Flags))
			}
		} else if s.State != 0 {
			c.bad("subvol_state_bad", w, "no state before 1.39", fmt.Sprintf("%#x", s.State))
		}
		if s.state == ondisk.SubvolStateDeleted {
			continue
		}
		switch {
		case s.si < 0:
			c.bad("subvol_snapshot_bad", w, "a snapshot that exists", fmt.Sprint(s.Snapshot))
		case t.nodes[s.si].Children != [2]uint32{}:
			c.bad("subvol_snapshot_not_leaf", w, "a leaf", fmt.Sprintf("snapshot %d has children", s.Snapshot))
		case t.nodes[s.si].state == ondisk.SnapshotStateWillDelete:
			if s.live() {
				c.bad("snapshot_subvol_state_mismatch", w, "a live snapshot", fmt.Sprintf("%d will be deleted", s.Snapshot))
			}
		case t.nodes[s.si].Subvol != id:
			// A snapshot that names a subvolume which does not name it is
			// reported there already.
			if x := t.subvols[t.nodes[s.si].Subvol]; x != nil && x.Snapshot == s.Snapshot {
				c.bad("snapshot_subvol_backref_wrong", w, fmt.Sprintf("snapshot %d with subvolume %d", s.Snapshot, id), fmt.Sprintf("it has subvolume %d", x.id))
			}
		}
		if s.live() && s.si >= 0 && s.Flags&ondisk.SubvolSnap == 0 {
			if tr, ok := t.trees[t.nodes[s.si].Tree]; ok && tr.MasterSubvol != id {
				c.bad("subvol_not_master_and_not_snapshot", w, "flag snapshot, or to be the master of its tree", fmt.Sprintf("the master of tree %d is %d", t.nodes[s.si].Tree, tr.MasterSubvol))
			}
		}
		c.checkSubvolParents(s, w)
	}
	if s := t.subvols[ondisk.RootSubvolume]; s == nil && !c.lost(ondisk.BtreeSubvolumes) {
		c.bad("root_subvol_missing", leafAt(ondisk.BtreeSubvolumes, ondisk.Pos{Offset: ondisk.RootSubvolume}), "the root subvolume", "none")
	}
}

// checkSubvolParents follows the parents of a subvolume up to the root.
func (c *checker) checkSubvolParents(s *subvol, w errs.Where) {
	if !c.minor(5) || !s.live() {
		return
	}
	if s.id == ondisk.RootSubvolume {
		if s.FSPathParent != 0 {
			c.bad("subvol_root_fs_path_parent_nonzero", w, "0", fmt.Sprint(s.FSPathParent))
		}
		return
	}
	at := s
	for range len(c.snaps.subvols) + 1 {
		if at.id == ondisk.RootSubvolume {
			return
		}
		next := c.snaps.subvols[at.FSPathParent]
		if next == nil {
			if at == s {
				c.bad("subvol_unreachable", w, "a parent subvolume", fmt.Sprint(s.FSPathParent))
			}
			return // else reported there
		}
		at = next
	}
	c.bad("subvol_loop", w, "the root subvolume above it", "a loop")
}

// checkSubvolChildren compares subvolume_children with the parents in the
// subvolumes.
func (c *checker) checkSubvolChildren(ctx context.Context) error {
	have := map[uint32]bool{}
	t := c.snaps
	err := c.walkAll(ctx, ondisk.BtreeSubvolumeChildren, func(kv *ondisk.KV) {
		w := leafAt(ondisk.BtreeSubvolumeChildren, kv.Pos)
		var s *subvol
		if kv.Pos.Offset>>32 == 0 {
			s = t.subvols[uint32(kv.Pos.Offset)]
		}
		if s == nil || uint64(s.FSPathParent) != kv.Pos.Inode {
			c.bad("subvol_children_bad", w, "a subvolume with that parent", "none")
			return
		}
		have[s.id] = true
	})
	if err != nil || !c.minor(6) || c.lost(ondisk.BtreeSubvolumeChildren) {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(t.subvols)) {
		if s := t.subvols[id]; s.FSPathParent != 0 && s.live() && !have[id] {
			c.bad("subvol_children_not_set", leafAt(ondisk.BtreeSubvolumes, ondisk.Pos{Offset: uint64(id)}), fmt.Sprintf("an entry %d:%d in subvolume_children", s.FSPathParent, id), "none")
		}
	}
	return nil
}

// snapCache answers the same question many times in a row.
type snapCache struct {
	t  *snapTable
	id uint32
	si int32
}

func (s *snapCache) find(id uint32) int32 {
	if id != s.id {
		s.id, s.si = id, s.t.find(id)
	}
	return s.si
}

// checkSnap reports a key in a snapshot that is not there, or that may hold no
// keys.
func (c *checker) checkSnap(b ondisk.BtreeID, p ondisk.Pos, si int32) {
	name := "bkey_in_missing_snapshot"
	if si >= 0 {
		switch n := &c.snaps.nodes[si]; {
		case n.state == ondisk.SnapshotStateDeleted && len(n.Children) > 0 && n.Children[0] != 0,
			n.state == ondisk.SnapshotStateNoKeys:
			name = "bkey_in_deleted_interior_snapshot"
		case n.state == ondisk.SnapshotStateDeleted:
			name = "bkey_in_deleted_snapshot"
		default:
			return
		}
	}
	c.bad(name, leafAt(b, p), "a living snapshot", fmt.Sprint(p.Snapshot))
}
