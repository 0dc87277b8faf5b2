package btree

import (
	"context"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// View is what one snapshot sees: itself and its ancestors (chapter 04 section
// 11). Package snapshots makes them.
type View struct {
	ID        uint32
	ancestors []uint32 // ascending, without ID
}

// NewView makes the view of a snapshot with the given ancestors, in the order
// from parent to root (ids grow).
func NewView(id uint32, ancestors []uint32) *View { return &View{id, ancestors} }

// Sees reports whether keys of a snapshot can be visible in the view.
func (v *View) Sees(snapshot uint32) bool {
	if snapshot == v.ID {
		return true
	}
	if snapshot < v.ID {
		return false
	}
	lo, hi := 0, len(v.ancestors)
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		if v.ancestors[m] < snapshot {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo < len(v.ancestors) && v.ancestors[lo] == snapshot
}

// Visible walks the keys of a btree with snapshots that a view sees, one for
// each (inode, offset), whiteouts left out. For extents it gives the extents
// that overlap [from, to) in order of their end (chapter 02 section 11.4).
type Visible struct {
	c     Cursor
	v     *View
	ext   bool
	limit ondisk.Pos // extents: first position not wanted; else last wanted
	done  bool
}

// Visible starts a walk. For non-extents from and to are both included, and
// their snapshots do not matter; for extents the range is [from, to) and both
// must have the same inode.
func (t *Trees) Visible(ctx context.Context, b ondisk.BtreeID, v *View, from, to ondisk.Pos) Visible {
	w := Visible{v: v, ext: b.IsExtents(), limit: to}
	from.Snapshot = v.ID
	end := ondisk.Pos{Inode: to.Inode, Offset: to.Offset, Snapshot: ^uint32(0)}
	if w.ext {
		from = ondisk.Pos{Inode: from.Inode, Offset: from.Offset + 1, Snapshot: v.ID}
		end.Offset = ^uint64(0)
	}
	w.c = t.Cursor(ctx, b, from, end)
	return w
}

// ReadAhead makes the walk load the next leaf early.
func (w *Visible) ReadAhead() { w.c.ReadAhead() }

// Next gives the next visible key.
func (w *Visible) Next() (ondisk.KV, bool) {
	for !w.done {
		k, ok := w.c.Next()
		if !ok {
			return ondisk.KV{}, false
		}
		if k.Pos.Snapshot < w.v.ID {
			// A descendant or another branch: the version we want sorts later.
			w.c.Seek(ondisk.Pos{Inode: k.Pos.Inode, Offset: k.Pos.Offset, Snapshot: w.v.ID})
			continue
		}
		if !w.v.Sees(k.Pos.Snapshot) {
			continue
		}
		// This version decides for the slot; older ones are hidden.
		w.c.Seek(k.Pos.NextSlot().WithSnapshot(w.v.ID))
		if k.Type.IsWhiteout() {
			continue
		}
		if w.ext && k.Pos.Offset-uint64(k.Size) >= w.limit.Offset {
			w.done = true
			break
		}
		return k, true
	}
	return ondisk.KV{}, false
}

// Suspect is the reason not to trust the walk, if there is one: see
// Cursor.Suspect.
func (w *Visible) Suspect() error { return w.c.Suspect() }

// Err is what ended the walk early.
func (w *Visible) Err() error { return w.c.Err() }

// SkipDamage goes on behind a range that could not be read.
func (w *Visible) SkipDamage() bool { return w.c.SkipDamage() }

// Get gives the key visible at exactly (inode, offset), found false if there is
// none. Not for extents.
func (t *Trees) Get(ctx context.Context, b ondisk.BtreeID, v *View, inode, offset uint64) (kv ondisk.KV, suspect error, found bool, err error) {
	p := ondisk.Pos{Inode: inode, Offset: offset}
	w := t.Visible(ctx, b, v, p, p)
	kv, found = w.Next()
	return kv, w.Suspect(), found, w.Err()
}

// GetExact gives the key stored at exactly p.
func (t *Trees) GetExact(ctx context.Context, b ondisk.BtreeID, p ondisk.Pos) (kv ondisk.KV, found bool, err error) {
	c := t.Cursor(ctx, b, p, p)
	kv, found = c.Next()
	return kv, found, c.Err()
}

// Depth is the number of ancestors.
func (v *View) Depth() int { return len(v.ancestors) }

// HasAncestors reports whether the view sees more than one snapshot.
func (v *View) HasAncestors() bool { return len(v.ancestors) > 0 }

// Ancestors lists the snapshots above the view's own, from parent to root.
func (v *View) Ancestors() []uint32 { return v.ancestors }
