package objects

import (
	"context"

	"github.com/gobcachefs/gobcachefs/internal/btree"
	"github.com/gobcachefs/gobcachefs/internal/snapshots"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// dying says what happens to the keys of snapshot nodes that go away.
type dying struct {
	dead   map[uint32]bool   // keys are removed
	target map[uint32]uint32 // keys move to the only live child
}

// classify finds the nodes to be removed (chapter 04 section 13.4): leaves that
// were given up, nodes with only such children, and nodes with one live child.
func classify(t *snapshots.Table) dying {
	d := dying{dead: map[uint32]bool{}, target: map[uint32]uint32{}}
	for _, id := range t.Snapshots() { // children come before their parents
		n, _ := t.Snapshot(id)
		if n.Flags&ondisk.SnapshotDeleted != 0 {
			continue
		}
		var live []uint32
		kids := 0
		for _, c := range n.Children {
			if c == 0 {
				continue
			}
			kids++
			if !d.dead[c] {
				live = append(live, c)
			}
		}
		switch {
		case kids == 0:
			if n.Flags&ondisk.SnapshotWillDelete != 0 {
				d.dead[id] = true
			}
		case len(live) == 0:
			d.dead[id] = true
		case len(live) == 1:
			to := live[0]
			if x, ok := d.target[to]; ok {
				to = x
			}
			d.target[id] = to
		}
	}
	return d
}

// DeleteDeadSnapshots removes the keys of snapshots that nobody sees any more,
// and then the snapshots. It can be interrupted and started again.
func (w *Writer) DeleteDeadSnapshots(ctx context.Context) (seq uint64, err error) {
	d := classify(w.Snapshots())
	if len(d.dead)+len(d.target) == 0 {
		return 0, nil
	}
	for _, b := range []ondisk.BtreeID{ondisk.BtreeExtents, ondisk.BtreeDirents, ondisk.BtreeXattrs, ondisk.BtreeInodes} {
		if err := w.sweep(ctx, b, d); err != nil {
			return 0, err
		}
	}
	for {
		t := w.Snapshots()
		d := classify(t)
		done := true
		for _, id := range t.Snapshots() {
			_, redundant := d.target[id]
			if !d.dead[id] && !redundant {
				continue
			}
			if seq, err = w.Store.Update(ctx, "delete snapshot", func(tx *btree.Tx) error { return removeNode(tx, t, id, d.dead[id]) }); err != nil {
				return seq, err
			}
			if err := w.reload(ctx); err != nil {
				return seq, err
			}
			done = false
			break
		}
		if done {
			return seq, nil
		}
	}
}

// sweep removes or moves the keys of one btree, some in each transaction.
func (w *Writer) sweep(ctx context.Context, b ondisk.BtreeID, d dying) error {
	for from := ondisk.PosMin; ; {
		// Find the next keys without keeping what is passed over in a transaction.
		var keys []ondisk.Pos
		c := w.trees.Cursor(ctx, b, from, ondisk.SPosMax)
		for len(keys) < w.maxTx() {
			k, ok := c.Next()
			if !ok {
				break
			}
			if _, redundant := d.target[k.Pos.Snapshot]; d.dead[k.Pos.Snapshot] || redundant {
				keys = append(keys, k.Pos)
			}
		}
		if err := c.Err(); err != nil || len(keys) == 0 {
			return err
		}
		_, err := w.Store.Update(ctx, "delete dead snapshots", func(tx *btree.Tx) error {
			for _, p := range keys {
				k, ok, err := tx.Get(b, p)
				if err != nil {
					return err
				}
				if !ok {
					continue
				}
				tx.Delete(b, p)
				if d.dead[p.Snapshot] {
					if b == ondisk.BtreeInodes && isInodeKey(k.Type) {
						if err := w.unflagAbove(tx, p, d); err != nil {
							return err
						}
					}
					continue
				}
				to := p.WithSnapshot(d.target[p.Snapshot])
				if _, taken, err := tx.Get(b, to); err != nil {
					return err
				} else if taken {
					continue
				}
				k.Pos = to
				if b == ondisk.BtreeInodes && isInodeKey(k.Type) {
					if err := w.recomputeFlag(tx, &k, d); err != nil {
						return err
					}
				}
				tx.Set(b, k)
			}
			return nil
		})
		if err != nil {
			return err
		}
		from = keys[len(keys)-1].Successor()
	}
}

// hasBelow: an inode has a version in a live descendant of a snapshot.
func (w *Writer) hasBelow(tx *btree.Tx, inum uint64, snap uint32, d dying) (bool, error) {
	t := w.Snapshots()
	for at := (ondisk.Pos{Offset: inum}); ; {
		k, ok, err := tx.Next(ondisk.BtreeInodes, at, ondisk.Pos{Offset: inum, Snapshot: snap - 1})
		if err != nil || !ok {
			return false, err
		}
		if isInodeKey(k.Type) && !d.dead[k.Pos.Snapshot] && t.Descends(k.Pos.Snapshot, snap) {
			return true, nil
		}
		at = k.Pos.Successor()
	}
}

func (w *Writer) recomputeFlag(tx *btree.Tx, k *ondisk.KV, d dying) error {
	in, err := ondisk.DecodeInode(*k)
	if err != nil {
		return err
	}
	below, err := w.hasBelow(tx, k.Pos.Offset, k.Pos.Snapshot, d)
	if err != nil {
		return err
	}
	in.Flags &^= ondisk.InodeHasChildSnapshot
	if below {
		in.Flags |= ondisk.InodeHasChildSnapshot
	}
	k.Type, k.Val = ondisk.KeyInodeV3, in.Append(nil)
	return nil
}

// unflagAbove clears has_child_snapshot of the version above one that was
// removed, if it was the last.
func (w *Writer) unflagAbove(tx *btree.Tx, p ondisk.Pos, d dying) error {
	t := w.Snapshots()
	for at := p.Successor(); ; {
		k, ok, err := tx.Next(ondisk.BtreeInodes, at, ondisk.Pos{Offset: p.Offset, Snapshot: ^uint32(0)})
		if err != nil || !ok {
			return err
		}
		at = k.Pos.Successor()
		if !isInodeKey(k.Type) || d.dead[k.Pos.Snapshot] || !t.Descends(p.Snapshot, k.Pos.Snapshot) {
			continue
		}
		if err := w.recomputeFlag(tx, &k, d); err != nil {
			return err
		}
		tx.Set(ondisk.BtreeInodes, k)
		return nil
	}
}

// removeNode takes a node without keys out of its tree.
func removeNode(tx *btree.Tx, t *snapshots.Table, id uint32, dead bool) error {
	n, err := getSnapshot(tx, id)
	if err != nil {
		return err
	}
	var child uint32
	if !dead {
		for _, c := range n.Children {
			if c != 0 {
				child = c
			}
		}
	}
	tx.Delete(ondisk.BtreeSnapshots, ondisk.Pos{Offset: uint64(id)})
	if n.Parent != 0 {
		p, err := getSnapshot(tx, n.Parent)
		if err != nil {
			return err
		}
		for i := range p.Children {
			if p.Children[i] == id {
				p.Children[i] = child
			}
		}
		if p.Children == [2]uint32{} {
			p.Flags |= ondisk.SnapshotWillDelete // its keys went with those of its children
		}
		setSnapshot(tx, n.Parent, p)
	}
	tree, ok := t.Tree(n.Tree)
	if ok && tree.RootSnapshot == id {
		if child == 0 {
			tx.Delete(ondisk.BtreeSnapshotTrees, ondisk.Pos{Offset: uint64(n.Tree)})
		} else {
			tree.RootSnapshot = child
			setTree(tx, n.Tree, tree)
		}
	}
	if child == 0 {
		return nil
	}
	for _, x := range t.Descendants(id) {
		if x == id {
			continue
		}
		c, err := getSnapshot(tx, x)
		if err != nil {
			return err
		}
		if c.Parent == id {
			c.Parent = n.Parent
		}
		if c.Depth > 0 {
			c.Depth--
		}
		c.Skip = skips(c.Parent)
		setSnapshot(tx, x, c)
	}
	return nil
}
