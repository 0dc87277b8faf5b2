package data

import (
	"slices"

	"github.com/gobcachefs/gobcachefs/internal/btree"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Descent tells how snapshots are related; package snapshots implements it.
type Descent interface {
	// Descends reports whether id is anc or descends from it.
	Descends(id, anc uint32) bool
}

// Insert puts an extent key into the view of a snapshot, in place of everything
// it overlaps there; what other snapshots see stays (chapter 02 section 11.2). A
// key of type KeyDeleted with a size makes a hole. It returns by how much the
// number of allocated sectors changed.
func Insert(tx *btree.Tx, v *btree.View, dt Descent, new ondisk.KV, sizes *ondisk.ExtentTypeSizes) (sectors int64, err error) {
	const b = ondisk.BtreeExtents
	inum, s := new.Pos.Inode, v.ID
	from, to := new.Start().Offset, new.Pos.Offset
	new.Pos.Snapshot = s
	var old []ondisk.KV
	w := tx.Visible(b, v, ondisk.Pos{Inode: inum, Offset: from}, ondisk.Pos{Inode: inum, Offset: to})
	for {
		k, ok := w.Next()
		if !ok {
			break
		}
		old = append(old, k)
	}
	if err := w.Err(); err != nil {
		return 0, err
	}
	at := func(off uint64, snap uint32) ondisk.Pos {
		return ondisk.Pos{Inode: inum, Offset: off, Snapshot: snap}
	}
	hide := func(p ondisk.Pos) {
		tx.Set(b, ondisk.KV{Key: ondisk.Key{Pos: p, Type: ondisk.KeyWhiteout}})
	}
	// split inserts a part of an ancestor's extent that ends elsewhere than the
	// whole did: snapshots that overwrote the whole must not see the part.
	split := func(part ondisk.KV, end uint64) error {
		tx.Set(b, part)
		if part.Pos.Offset == end {
			return nil
		}
		us, err := overwriters(tx, dt, at(end, part.Pos.Snapshot))
		if err != nil {
			return err
		}
		for _, u := range us {
			p := at(part.Pos.Offset, u)
			if _, found, err := tx.Get(b, p); err != nil {
				return err
			} else if !found {
				hide(p)
			}
		}
		return nil
	}
	for _, o := range old {
		c, d, t := o.Start().Offset, o.Pos.Offset, o.Pos.Snapshot
		if allocated(o.Type) {
			sectors -= int64(min(d, to) - max(c, from))
		}
		if c < from {
			if err := split(cutBack(o, from), d); err != nil {
				return 0, err
			}
		}
		if t != s && (c < from || d > to) {
			mid := cutBack(o, min(to, d))
			if c < from {
				if mid, err = cutFront(mid, uint32(from-c), sizes); err != nil {
					return 0, err
				}
			}
			if err := split(mid, d); err != nil {
				return 0, err
			}
		}
		switch {
		case d <= to && t != s:
			hide(at(d, s))
		case d <= to:
			if err := DeleteKey(tx, b, v, inum, d); err != nil {
				return 0, err
			}
		default:
			back, err := cutFront(o, uint32(to-c), sizes)
			if err != nil {
				return 0, err
			}
			tx.Set(b, back)
			if new.Type == ondisk.KeyDeleted && t != s {
				hide(at(to, s))
			}
		}
	}
	if new.Type != ondisk.KeyDeleted {
		tx.Set(b, new)
		if allocated(new.Type) {
			sectors += int64(new.Size)
		}
	}
	return sectors, nil
}

// overwriters lists the snapshots below that of p that have a key at p's slot,
// topmost ones only.
func overwriters(tx *btree.Tx, dt Descent, p ondisk.Pos) ([]uint32, error) {
	var us []uint32
	for at := p.WithSnapshot(0); ; {
		k, ok, err := tx.Next(ondisk.BtreeExtents, at, p.Predecessor())
		if err != nil || !ok {
			return us, err
		}
		if u := k.Pos.Snapshot; dt.Descends(u, p.Snapshot) {
			// Ids fall from the root down: one above an earlier one replaces it.
			us = append(slices.DeleteFunc(us, func(x uint32) bool { return dt.Descends(x, u) }), u)
		}
		at = k.Pos.Successor()
	}
}

// DeleteKey removes what a view sees at (inode, offset): the key of its own
// snapshot goes, and a whiteout takes its place if an ancestor's key would come
// to light (chapter 02 section 11.4).
func DeleteKey(tx *btree.Tx, b ondisk.BtreeID, v *btree.View, inode, offset uint64) error {
	p := ondisk.Pos{Inode: inode, Offset: offset, Snapshot: v.ID}
	shows, err := ancestorShows(tx, b, v, p)
	if err != nil {
		return err
	}
	if shows {
		tx.Set(b, ondisk.KV{Key: ondisk.Key{Pos: p, Type: ondisk.KeyWhiteout}})
	} else {
		tx.Delete(b, p)
	}
	return nil
}

// ancestorShows: without a key at p, an ancestor's key would be visible there.
func ancestorShows(tx *btree.Tx, b ondisk.BtreeID, v *btree.View, p ondisk.Pos) (bool, error) {
	if !v.HasAncestors() {
		return false, nil
	}
	for at := p.Successor(); ; {
		k, ok, err := tx.Next(b, at, ondisk.Pos{Inode: p.Inode, Offset: p.Offset, Snapshot: ^uint32(0)})
		if err != nil || !ok {
			return false, err
		}
		if v.Sees(k.Pos.Snapshot) {
			return !k.Type.IsWhiteout(), nil
		}
		at = k.Pos.Successor()
	}
}
