package check

import (
	"context"
	"fmt"
	"slices"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// What belongs to inodes, extents, dirents and xattrs, is sorted by the inode's
// number in all of their btrees: a walk over a range of numbers goes through the
// inodes and the three btrees side by side, an inode at a time. Ranges are
// independent of each other.

// rangeLeaves is about how many leaves of the three btrees make a range.
const rangeLeaves = 24

// inumRanges cuts the inode numbers into ranges of about equal work.
func (c *checker) inumRanges() [][2]uint64 {
	var ends []uint64
	for _, b := range []ondisk.BtreeID{ondisk.BtreeExtents, ondisk.BtreeDirents, ondisk.BtreeXattrs} {
		if t := c.trees[b]; t != nil {
			for i := range t.leaves {
				ends = append(ends, t.leaves[i].max.Inode)
			}
		}
	}
	slices.Sort(ends)
	var out [][2]uint64
	from := uint64(0)
	for i := rangeLeaves; i < len(ends); i += rangeLeaves {
		if e := ends[i]; e > from && e < ^uint64(0) {
			out = append(out, [2]uint64{from, e})
			from = e + 1
		}
	}
	return append(out, [2]uint64{from, ^uint64(0)})
}

// fileWalk is the walk over one range.
type fileWalk struct {
	c     *checker
	first bool // the first pass: what has no window is checked and counted
	ptrs  *pointers
	snaps snapCache

	inum uint64
	vs   []inode // the versions of the inode; nil when it is not in the window
	in   bool    // it is
	vers []version
	bad  []badOwner

	slot  []slotKey // keys at one offset, ascending by snapshot
	names []byte    // of the keys in slot
	off   uint64
}

// version is what is recomputed of one version of an inode.
type version struct {
	*inode
	skip bool // its snapshot is not there, or on its way out
	// extents
	sectors uint64
	end     uint64 // of the last one seen
	// dirents
	subdirs, entries uint64
	// xattrs
	access, def bool
	// hash chains of dirents, then of xattrs
	chain chain
}

// badOwner remembers what was reported of keys without an inode.
type badOwner struct {
	btree ondisk.BtreeID
	snap  uint32
}

// slotKey is a key at the offset that is looked at.
type slotKey struct {
	pos  ondisk.Pos
	si   int32
	typ  ondisk.KeyType
	size uint32
	past bool // extents: may lie past the end of the file

	d    ondisk.Dirent
	x    xattrKey
	told bool
}

// walkFiles walks all ranges.
func (t *tasks) walkFiles(first bool) {
	c := t.c
	for _, b := range []ondisk.BtreeID{ondisk.BtreeExtents, ondisk.BtreeDirents, ondisk.BtreeXattrs} {
		c.first(b)
	}
	for _, r := range c.inumRanges() {
		t.do(func(ctx context.Context) error {
			w := &fileWalk{c: c, first: first, ptrs: c.pointers(first), snaps: snapCache{t: c.snaps, si: -1}}
			defer w.ptrs.done()
			return w.run(ctx, r[0], r[1])
		})
	}
}

func (w *fileWalk) run(ctx context.Context, from, to uint64) error {
	c := w.c
	lo, hi := ondisk.Pos{Inode: from}, ondisk.Pos{Inode: to, Offset: ^uint64(0), Snapshot: ^uint32(0)}
	ext := c.cursor(ctx, ondisk.BtreeExtents, lo, hi, w.first)
	dir := c.cursor(ctx, ondisk.BtreeDirents, lo, hi, w.first)
	xat := c.cursor(ctx, ondisk.BtreeXattrs, lo, hi, w.first)
	defer ext.close()
	defer dir.close()
	defer xat.close()
	t := c.inodes
	next, _ := slices.BinarySearch(t.nums, max(from, t.from))
	for {
		inum, some := uint64(0), false
		for _, u := range []*cursor{ext, dir, xat} {
			if kv := u.peek(); kv != nil && (!some || kv.Pos.Inode < inum) {
				inum, some = kv.Pos.Inode, true
			}
			if u.err != nil {
				return u.err
			}
		}
		if next < len(t.nums) && t.nums[next] <= to && (!some || t.nums[next] < inum) {
			inum, some = t.nums[next], true
		}
		if !some {
			return nil
		}
		w.start(inum)
		if len(w.vs) > 0 {
			next += len(w.vs)
		}
		w.extents(ext)
		w.dirents(dir)
		w.xattrs(xat)
		w.finish()
		for _, u := range []*cursor{ext, dir, xat} {
			if u.err != nil {
				return u.err
			}
		}
	}
}

// start begins an inode.
func (w *fileWalk) start(inum uint64) {
	w.inum = inum
	w.vs, w.in = w.c.inodes.versions(inum)
	w.vers, w.bad = w.vers[:0], w.bad[:0]
	for i := range w.vs {
		v := &w.vs[i]
		if v.kind == isInode {
			k := len(w.vers)
			w.vers = slices.Grow(w.vers, 1)[:k+1]
			ch := w.vers[k].chain
			w.vers[k] = version{inode: v, skip: v.si < 0 || w.c.snaps.nodes[v.si].dying, chain: ch}
			w.vers[k].chain.reset()
		}
	}
	if w.in && len(w.vs) > 0 {
		w.c.checkVersions(w.vs)
	}
}

// owner checks that a key belongs to an inode: a version of it must be in exactly
// the key's snapshot (chapter 04 section 10.5). It reports whether the key is worth
// looking at.
func (w *fileWalk) owner(b ondisk.BtreeID, kv *ondisk.KV, si int32) {
	c := w.c
	if !w.in || c.lost(ondisk.BtreeInodes) || si >= 0 && c.snaps.nodes[si].dying || si < 0 {
		return
	}
	whiteout := kv.Type.IsWhiteout()
	for i := range w.vs {
		v := &w.vs[i]
		if v.snap != kv.Pos.Snapshot {
			continue
		}
		switch {
		case v.kind == isWhiteout && !whiteout:
			w.noOwner("key_in_missing_inode", b, kv, "an inode", "a whiteout")
		case v.kind == isInode && !whiteout && !w.fits(b, v):
			w.noOwner("key_in_wrong_inode_type", b, kv, "an inode of the right type", fmt.Sprintf("mode %o", v.mode))
		}
		return
	}
	switch v := c.visible(w.vs, si); {
	case v != nil && v.kind == isInode:
		w.noOwner("snapshot_key_missing_inode_snapshot", b, kv, "a version of the inode in this snapshot", fmt.Sprintf("one in ancestor %d", v.snap))
	case !whiteout:
		w.noOwner("key_in_missing_inode", b, kv, "an inode", "none")
	}
}

// fits: keys of a btree may belong to such an inode.
func (w *fileWalk) fits(b ondisk.BtreeID, v *inode) bool {
	switch t := v.mode & ondisk.ModeTypeMask; b {
	case ondisk.BtreeExtents:
		return t == ondisk.ModeRegular || t == ondisk.ModeSymlink
	case ondisk.BtreeDirents:
		return t == ondisk.ModeDir
	}
	return true
}

// noOwner reports once for an inode, a btree and a snapshot.
func (w *fileWalk) noOwner(name string, b ondisk.BtreeID, kv *ondisk.KV, want, got string) {
	k := badOwner{b, kv.Pos.Snapshot}
	if !slices.Contains(w.bad, k) {
		w.bad = append(w.bad, k)
		w.c.bad(name, leafAt(b, kv.Pos), want, got)
	}
}

// seen gives the key of the slot that a version's view sees, nil if none.
func (w *fileWalk) seen(v *version) *slotKey {
	for i := range w.slot {
		if k := &w.slot[i]; k.pos.Snapshot == v.snap || w.c.snaps.sees(v.si, k.si) {
			return k
		}
	}
	return nil
}

func (w *fileWalk) extents(u *cursor) {
	c := w.c
	w.slot = w.slot[:0]
	for kv := u.peek(); kv != nil && kv.Pos.Inode == w.inum; kv = u.peek() {
		if len(w.slot) > 0 && kv.Pos.Offset != w.off {
			w.extentSlot()
		}
		w.off = kv.Pos.Offset
		si := w.snaps.find(kv.Pos.Snapshot)
		if w.first {
			c.checkSnap(ondisk.BtreeExtents, kv.Pos, si)
			c.checkExtentKey(kv)
		}
		w.ptrs.leaf(ondisk.BtreeExtents, kv)
		if kv.Type == ondisk.KeyReflinkP {
			c.reflink.ref(c, kv)
		}
		w.owner(ondisk.BtreeExtents, kv, si)
		if w.in {
			w.slot = append(w.slot, slotKey{pos: kv.Pos, si: si, typ: kv.Type, size: kv.Size, past: mayBePast(kv)})
			w.checkOptions(kv)
		}
		u.take()
	}
	if len(w.slot) > 0 {
		w.extentSlot()
	}
}

// mayBePast: space that was allocated but never written may lie past the end.
func mayBePast(kv *ondisk.KV) bool {
	switch kv.Type {
	case ondisk.KeyReservation:
		return true
	case ondisk.KeyExtent:
		return extentUnwritten(kv.Val)
	}
	return false
}

// extentUnwritten reports whether some pointer of an extent is unwritten.
func extentUnwritten(val []byte) (u bool) {
	_ = ondisk.ExtentEntries(val, nil, func(e ondisk.ExtentEntry) bool {
		u = e.Type == ondisk.XEPtr && e.Ptr.Unwritten
		return !u
	})
	return u
}

// allocated: keys of the type count in an inode's sectors.
func allocated(t ondisk.KeyType) bool {
	switch t {
	case ondisk.KeyExtent, ondisk.KeyReservation, ondisk.KeyReflinkP, ondisk.KeyReflinkV, ondisk.KeyInlineData, ondisk.KeyIndirectInlineData, ondisk.KeyError:
		return true
	}
	return false
}

// extentSlot looks at the keys that end at one offset, from every version's view.
func (w *fileWalk) extentSlot() {
	c := w.c
	for i := range w.vers {
		v := &w.vers[i]
		if v.skip {
			continue
		}
		k := w.seen(v)
		if k == nil || k.typ.IsWhiteout() || k.size == 0 {
			continue
		}
		start := k.pos.Offset - uint64(k.size)
		if start < v.end {
			c.bad("extent_overlapping", leafAt(ondisk.BtreeExtents, k.pos), fmt.Sprintf("a start at or after sector %d in the view of snapshot %d", v.end, v.snap), fmt.Sprint(start))
		}
		v.end = max(v.end, k.pos.Offset)
		if allocated(k.typ) {
			v.sectors += uint64(k.size)
		}
		if limit := c.blockRound(v.size) / 512; k.pos.Offset > limit && !k.past && !k.told {
			k.told = true
			c.bad("extent_past_end_of_inode", leafAt(ondisk.BtreeExtents, k.pos), fmt.Sprintf("an end at or before sector %d (size %d in snapshot %d)", limit, v.size, v.snap), fmt.Sprint(k.pos.Offset))
		}
	}
	w.slot = w.slot[:0]
}

// blockRound rounds bytes up to whole blocks.
func (c *checker) blockRound(n uint64) uint64 {
	b := uint64(c.blockBytes)
	if n > ^uint64(0)-b {
		return ^uint64(0)
	}
	return (n + b - 1) / b * b
}

// finish compares what was summed up of each version with what the inode says.
func (w *fileWalk) finish() {
	c := w.c
	for i := range w.vers {
		v := &w.vers[i]
		if v.skip {
			continue
		}
		if v.sectors != v.inode.sectors && v.flags&ondisk.InodeISectorsDirty == 0 && !c.lost(ondisk.BtreeExtents) {
			c.bad("inode_i_sectors_wrong", v.where(), fmt.Sprint(v.sectors), fmt.Sprint(v.inode.sectors))
		}
		if c.minor(39) && !c.lost(ondisk.BtreeXattrs) {
			flag := func(name string, bit uint32, want bool) {
				if (v.flags&bit != 0) != want {
					c.bad(name, v.where(), fmt.Sprint(want), fmt.Sprint(!want))
				}
			}
			flag("inode_has_access_acl_flag_wrong", ondisk.InodeHasAccessACL, v.access)
			flag("inode_has_default_acl_flag_wrong", ondisk.InodeHasDefaultACL, v.def)
		}
		if !v.isDir() || c.lost(ondisk.BtreeDirents) {
			continue
		}
		if v.unlinked() && v.entries > 0 {
			c.bad("inode_dir_unlinked_but_not_empty", v.where(), "no entries", fmt.Sprint(v.entries))
		}
		if uint64(v.nlink) != v.subdirs {
			c.bad("inode_dir_wrong_nlink", v.where(), fmt.Sprint(v.subdirs), fmt.Sprint(v.nlink))
		}
	}
}
