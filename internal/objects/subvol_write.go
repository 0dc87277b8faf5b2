package objects

import (
	"context"
	"slices"
	"syscall"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/btree"
	"github.com/gobcachefs/gobcachefs/internal/snapshots"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

func getSnapshot(tx *btree.Tx, id uint32) (ondisk.Snapshot, error) {
	kv, ok, err := tx.Get(ondisk.BtreeSnapshots, ondisk.Pos{Offset: uint64(id)})
	if err != nil {
		return ondisk.Snapshot{}, err
	}
	if !ok || kv.Type != ondisk.KeySnapshot {
		return ondisk.Snapshot{}, errs.Corruptf("snapshot_node_missing", "snapshot %d", id)
	}
	return ondisk.DecodeSnapshot(kv.Val)
}

func setSnapshot(tx *btree.Tx, id uint32, n ondisk.Snapshot) {
	slices.SortFunc(n.Children[:], func(a, b uint32) int { return int(int64(b) - int64(a)) })
	tx.Set(ondisk.BtreeSnapshots, ondisk.KV{Key: ondisk.Key{Pos: ondisk.Pos{Offset: uint64(id)}, Type: ondisk.KeySnapshot}, Val: n.Append(nil)})
}

func setSubvolume(tx *btree.Tx, id uint32, s ondisk.Subvolume) {
	tx.Set(ondisk.BtreeSubvolumes, ondisk.KV{Key: ondisk.Key{Pos: ondisk.Pos{Offset: uint64(id)}, Type: ondisk.KeySubvolume}, Val: s.Append(nil)})
}

func setTree(tx *btree.Tx, id uint32, t ondisk.SnapshotTree) {
	tx.Set(ondisk.BtreeSnapshotTrees, ondisk.KV{Key: ondisk.Key{Pos: ondisk.Pos{Offset: uint64(id)}, Type: ondisk.KeySnapshotTree}, Val: t.Append(nil)})
}

// lowestSnapshot is the smallest snapshot id in use.
func lowestSnapshot(tx *btree.Tx) (uint32, error) {
	kv, ok, err := tx.Next(ondisk.BtreeSnapshots, ondisk.PosMin, ondisk.SPosMax)
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, errs.Corruptf("snapshot_node_missing", "no snapshots")
	}
	if kv.Pos.Offset < 8 {
		return 0, syscall.ENOSPC
	}
	return uint32(kv.Pos.Offset), nil
}

// nextID is the highest id of a btree of numbered things, plus one.
func nextID(tx *btree.Tx, b ondisk.BtreeID) (uint32, error) {
	kv, ok, err := tx.Prev(b, ondisk.PosMin, ondisk.Pos{Offset: 1<<32 - 1})
	if err != nil || !ok {
		return 1, err
	}
	if kv.Pos.Offset >= 1<<31-1 {
		return 0, syscall.ENOSPC
	}
	return uint32(kv.Pos.Offset) + 1, nil
}

// reload takes in the changed snapshot tables.
func (w *Writer) reload(ctx context.Context) error {
	t, err := snapshots.Load(ctx, w.trees, w.set.Warn)
	if err != nil {
		return err
	}
	w.snaps.Store(t)
	return nil
}

// skips are the skip pointers of a node: its parent is always a valid one.
func skips(parent uint32) [3]uint32 { return [3]uint32{parent, parent, parent} }

// CreateSubvolume makes an empty subvolume as a name in a directory (chapter 04
// section 13.1).
func (w *Writer) CreateSubvolume(ctx context.Context, dir ID, name []byte, mode uint16, uid, gid uint32) (id ID, seq uint64, err error) {
	if err := CheckName(name); err != nil {
		return ID{}, 0, err
	}
	seq, err = w.update(ctx, "subvolume create", dir.Subvol, func(o *op) error {
		d, err := o.dir(dir.Inum)
		if err != nil {
			return err
		}
		low, err := lowestSnapshot(o.tx)
		if err != nil {
			return err
		}
		sub, err := nextID(o.tx, ondisk.BtreeSubvolumes)
		if err != nil {
			return err
		}
		tree, err := nextID(o.tx, ondisk.BtreeSnapshotTrees)
		if err != nil {
			return err
		}
		inum, err := o.newInum()
		if err != nil {
			return err
		}
		snap := low - 1
		slot, err := o.addDirent(dir.Inum, &d, name, ondisk.Dirent{Type: ondisk.DTSubvol, ChildSubvol: sub, ParentSubvol: o.sub})
		if err != nil {
			return err
		}
		in := ondisk.Inode{HashSeed: o.w.seed(), Mode: ondisk.ModeDir | mode&0o7777, StrHash: uint8(w.set.SB.StrHashType()), UID: uid, GID: gid,
			Atime: o.now, Mtime: o.now, Ctime: o.now, Otime: o.now, Subvol: sub, ParentSubvol: o.sub, Dir: dir.Inum, DirOffset: slot}
		inherit(&in, &d)
		o.tx.Set(ondisk.BtreeInodes, ondisk.KV{Key: ondisk.Key{Pos: ondisk.Pos{Offset: inum, Snapshot: snap}, Type: ondisk.KeyInodeV3}, Val: in.Append(nil)})
		setSubvolume(o.tx, sub, ondisk.Subvolume{Snapshot: snap, Inode: inum, FSPathParent: o.sub, Otime: o.now})
		setSnapshot(o.tx, snap, ondisk.Snapshot{Flags: ondisk.SnapshotSubvol, Subvol: sub, Tree: tree, Btime: o.now})
		setTree(o.tx, tree, ondisk.SnapshotTree{MasterSubvol: sub, RootSnapshot: snap})
		d.Mtime, d.Ctime = o.now, o.now
		id = ID{sub, inum}
		return o.putInode(dir.Inum, &d)
	})
	if err == nil {
		err = w.reload(ctx)
	}
	return id, seq, err
}

// Snapshot makes a snapshot of a subvolume as a name in a directory (chapter 04
// section 13.2).
func (w *Writer) Snapshot(ctx context.Context, source uint32, dir ID, name []byte, readOnly bool) (id ID, seq uint64, err error) {
	if err := CheckName(name); err != nil {
		return ID{}, 0, err
	}
	seq, err = w.update(ctx, "subvolume snapshot", dir.Subvol, func(o *op) error {
		src, sv, err := w.leafView(o.tx, source)
		if err != nil {
			return err
		}
		if src.LiveState() != ondisk.SubvolStateLive {
			return syscall.ENOENT
		}
		low, err := lowestSnapshot(o.tx)
		if err != nil {
			return err
		}
		sub, err := nextID(o.tx, ondisk.BtreeSubvolumes)
		if err != nil {
			return err
		}
		x := src.Snapshot
		n1, n2 := low-1, low-2
		old, err := getSnapshot(o.tx, x)
		if err != nil {
			return err
		}
		child := ondisk.Snapshot{Flags: ondisk.SnapshotSubvol, Parent: x, Tree: old.Tree, Depth: old.Depth + 1, Skip: skips(x), Btime: o.now}
		c1, c2 := child, child
		c1.Subvol, c2.Subvol = sub, source
		setSnapshot(o.tx, n1, c1)
		setSnapshot(o.tx, n2, c2)
		old.Children, old.Subvol = [2]uint32{n1, n2}, 0
		old.Flags &^= ondisk.SnapshotSubvol
		setSnapshot(o.tx, x, old)
		anc := append([]uint32{x}, sv.Ancestors()...)
		if dir.Subvol == source {
			// The directory is in the source: it goes on in its new leaf.
			o.v = btree.NewView(n2, anc)
		}
		d, err := o.dir(dir.Inum)
		if err != nil {
			return err
		}
		slot, err := o.addDirent(dir.Inum, &d, name, ondisk.Dirent{Type: ondisk.DTSubvol, ChildSubvol: sub, ParentSubvol: o.sub})
		if err != nil {
			return err
		}
		d.Mtime, d.Ctime = o.now, o.now
		if err := o.putInode(dir.Inum, &d); err != nil {
			return err
		}
		src.Snapshot = n2
		setSubvolume(o.tx, source, src)
		ns := ondisk.Subvolume{Flags: ondisk.SubvolSnap, Snapshot: n1, Inode: src.Inode, CreationParent: source, FSPathParent: o.sub, Otime: o.now}
		if readOnly {
			ns.Flags |= ondisk.SubvolRO
		}
		setSubvolume(o.tx, sub, ns)
		// The root directory of the snapshot is another one than the source's.
		so := &op{w: w, tx: o.tx, sub: sub, v: btree.NewView(n1, anc), now: o.now}
		root, err := so.inode(src.Inode)
		if err != nil {
			return err
		}
		root.Subvol, root.ParentSubvol, root.Dir, root.DirOffset = sub, o.sub, dir.Inum, slot
		id = ID{sub, src.Inode}
		return so.putInode(src.Inode, &root)
	})
	if err == nil {
		err = w.reload(ctx)
	}
	return id, seq, err
}

// DeleteSubvolume removes a subvolume by its name and frees what only it had
// (chapter 04 sections 13.3 and 13.4). A subvolume that holds others is refused
// with ENOTEMPTY, anything else than a subvolume with ENOENT.
func (w *Writer) DeleteSubvolume(ctx context.Context, dir ID, name []byte) (seq uint64, err error) {
	_, err = w.update(ctx, "subvolume delete", dir.Subvol, func(o *op) error {
		d, err := o.dir(dir.Inum)
		if err != nil {
			return err
		}
		kv, e, err := o.lookup(dir.Inum, &d, name)
		if err != nil {
			return err
		}
		if e.Type != ondisk.DTSubvol {
			return syscall.ENOENT
		}
		sub := e.ChildSubvol
		if _, ok, err := o.tx.Next(ondisk.BtreeSubvolumeChildren, ondisk.Pos{Inode: uint64(sub)}, ondisk.Pos{Inode: uint64(sub), Offset: ^uint64(0)}); err != nil || ok {
			if err == nil {
				err = syscall.ENOTEMPTY
			}
			return err
		}
		s, _, err := w.leafView(o.tx, sub)
		if err != nil {
			return err
		}
		// There is one dirent key of a subvolume, where it was made: it goes there.
		at := &op{w: w, tx: o.tx, sub: o.sub, v: o.v, now: o.now}
		if kv.Pos.Snapshot != o.v.ID {
			at.v = btree.NewView(kv.Pos.Snapshot, nil)
		}
		if err := at.delDirent(dir.Inum, &d, kv.Pos.Offset); err != nil {
			return err
		}
		d.Mtime, d.Ctime = o.now, o.now
		if err := o.putInode(dir.Inum, &d); err != nil {
			return err
		}
		return w.dropSubvolume(o, sub, s)
	})
	if err == nil {
		err = w.reload(ctx)
	}
	if err != nil {
		return 0, err
	}
	return w.DeleteDeadSnapshots(ctx)
}

// dropSubvolume removes a subvolume's key and gives its snapshot up.
func (w *Writer) dropSubvolume(o *op, sub uint32, s ondisk.Subvolume) error {
	n, err := getSnapshot(o.tx, s.Snapshot)
	if err != nil {
		return err
	}
	o.tx.Delete(ondisk.BtreeSubvolumes, ondisk.Pos{Offset: uint64(sub)})
	n.Flags, n.Subvol = ondisk.SnapshotWillDelete, 0
	setSnapshot(o.tx, s.Snapshot, n)
	t := w.Snapshots()
	// Those who were made of it hang on to what it was made of.
	for _, id := range t.Subvolumes() {
		if x, ok := t.Subvolume(id); ok && id != sub && x.CreationParent == sub {
			x.CreationParent = s.CreationParent
			setSubvolume(o.tx, id, x)
		}
	}
	tree, ok := t.Tree(n.Tree)
	if ok && tree.MasterSubvol == sub {
		// Another subvolume of the tree becomes its master.
		tree.MasterSubvol = 0
		for _, id := range t.Subvolumes() {
			x, _ := t.Subvolume(id)
			y, ok := t.Snapshot(x.Snapshot)
			if !ok || id == sub || y.Tree != n.Tree || x.LiveState() != ondisk.SubvolStateLive {
				continue
			}
			tree.MasterSubvol = id
			if cur, found, err := o.tx.Get(ondisk.BtreeSubvolumes, ondisk.Pos{Offset: uint64(id)}); err != nil {
				return err
			} else if found {
				if x, err = ondisk.DecodeSubvolume(cur.Val); err != nil {
					return err
				}
			}
			x.Flags &^= ondisk.SubvolSnap
			setSubvolume(o.tx, id, x)
			break
		}
		if tree.MasterSubvol != 0 {
			setTree(o.tx, n.Tree, tree)
		}
	}
	return w.adoptRoots(o, sub, s)
}

// adoptRoots makes older versions of a deleted subvolume's root directory, which
// snapshots of it share, the root of one of those.
func (w *Writer) adoptRoots(o *op, sub uint32, s ondisk.Subvolume) error {
	t := w.Snapshots()
	for at := (ondisk.Pos{Offset: s.Inode}); ; {
		k, ok, err := o.tx.Next(ondisk.BtreeInodes, at, ondisk.Pos{Offset: s.Inode, Snapshot: ^uint32(0)})
		if err != nil || !ok {
			return err
		}
		at = k.Pos.Successor()
		if k.Pos.Snapshot == s.Snapshot || !isInodeKey(k.Type) {
			continue
		}
		in, err := ondisk.DecodeInode(k)
		if err != nil {
			return err
		}
		if in.Subvol != sub {
			continue
		}
		for _, id := range t.Subvolumes() {
			x, _ := t.Subvolume(id)
			if id == sub || x.Inode != s.Inode || x.LiveState() != ondisk.SubvolStateLive || !t.Descends(x.Snapshot, k.Pos.Snapshot) {
				continue
			}
			v, err := t.View(id)
			if err != nil {
				return err
			}
			other, err := (&op{w: w, tx: o.tx, sub: id, v: v}).inode(x.Inode)
			if err != nil {
				return err
			}
			in.Subvol, in.ParentSubvol, in.Dir, in.DirOffset = id, other.ParentSubvol, other.Dir, other.DirOffset
			k.Type, k.Val = ondisk.KeyInodeV3, in.Append(nil)
			o.tx.Set(ondisk.BtreeInodes, k)
			break
		}
	}
}
