package check

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sort"
	"sync/atomic"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Dirents and the inodes they name: each must know of the other.

// entryOf is a dirent of a subvolume, as its root inode should name it.
type entryOf struct{ dir, offset uint64 }

// target follows dirent i of the slot to what it names.
func (w *fileWalk) target(i int) {
	c, k := w.c, &w.slot[i]
	if k.d.Type == ondisk.DTSubvol {
		if w.first {
			w.targetSubvol(i)
		}
		return
	}
	vs, in := c.inodes.versions(k.d.Inum)
	if !in || c.lost(ondisk.BtreeInodes) {
		return
	}
	at := func() errs.Where { return leafAt(ondisk.BtreeDirents, k.pos) }
	below := false // a version in a descendant that sees the dirent
	for j := range vs {
		v := &vs[j]
		if v.si < 0 || !w.sees(v.si, i) {
			continue
		}
		if v.kind == isInode {
			below = true
			atomic.AddUint32(&v.links, 1)
			if v.dir == w.inum && v.dirOffset == w.off {
				atomic.StoreUint32(&v.found, 1)
			}
			w.direntType(k, v)
		} else if v.snap != k.pos.Snapshot && !c.snaps.nodes[v.si].dying {
			c.bad("dirent_to_overwritten_inode", at(), fmt.Sprintf("a target in snapshot %d", v.snap), fmt.Sprintf("inode %d was deleted there; %q", k.d.Inum, k.d.Name))
		}
	}
	switch v := c.visible(vs, k.si); {
	case v != nil && v.kind == isInode:
		w.direntType(k, v)
	case c.snaps.nodes[k.si].dying:
	case below:
		c.bad("dirent_to_inode_in_descendant_snapshot", at(), fmt.Sprintf("inode %d", k.d.Inum), fmt.Sprintf("only in descendants; %q", k.d.Name))
	default:
		c.bad("dirent_to_missing_inode", at(), fmt.Sprintf("inode %d", k.d.Inum), fmt.Sprintf("no such inode; %q", k.d.Name))
	}
}

// direntType compares the type in a dirent with that of the inode.
func (w *fileWalk) direntType(k *slotKey, v *inode) {
	want := uint8(v.mode >> 12)
	if v.subvol != 0 {
		want = ondisk.DTSubvol
	}
	if want != k.d.Type && !k.told {
		k.told = true
		w.c.bad("dirent_d_type_wrong", leafAt(ondisk.BtreeDirents, k.pos), fmt.Sprintf("type %d of inode %d", want, v.inum), fmt.Sprintf("%d; %q", k.d.Type, k.d.Name))
	}
}

// targetSubvol follows a dirent of a subvolume.
func (w *fileWalk) targetSubvol(i int) {
	c, k := w.c, &w.slot[i]
	at := leafAt(ondisk.BtreeDirents, k.pos)
	parent, child := c.snaps.subvols[k.d.ParentSubvol], c.snaps.subvols[k.d.ChildSubvol]
	switch {
	case parent == nil || parent.state == ondisk.SubvolStateDeleted:
		c.bad("dirent_to_missing_parent_subvol", at, fmt.Sprintf("subvolume %d", k.d.ParentSubvol), "no such subvolume")
	case parent.live() && !w.sees(parent.si, i):
		c.bad("dirent_not_visible_in_parent_subvol", at, fmt.Sprintf("to be visible in subvolume %d", parent.id), fmt.Sprintf("snapshot %d", k.pos.Snapshot))
	}
	if child == nil || child.state == ondisk.SubvolStateDeleted {
		c.bad("dirent_to_missing_subvol", at, fmt.Sprintf("subvolume %d", k.d.ChildSubvol), fmt.Sprintf("no such subvolume; %q", k.d.Name))
		return
	}
	if c.minor(5) && child.live() && child.FSPathParent != k.d.ParentSubvol {
		c.bad("subvol_fs_path_parent_wrong", leafAt(ondisk.BtreeSubvolumes, ondisk.Pos{Offset: uint64(child.id)}), fmt.Sprintf("%d, as its dirent", k.d.ParentSubvol), fmt.Sprint(child.FSPathParent))
	}
	c.accMu.Lock()
	child.links++
	c.entriesOf[child.id] = append(c.entriesOf[child.id], entryOf{w.inum, w.off})
	c.accMu.Unlock()
}

// compareLinks compares, for every inode of the window, the dirents that were
// found with what the inode says.
func (c *checker) compareLinks(ctx context.Context) error {
	if c.lost(ondisk.BtreeInodes) {
		return nil
	}
	roots := c.checkSubvolRoots()
	if c.lost(ondisk.BtreeDirents) {
		return nil
	}
	for i := range c.inodes.all {
		v := &c.inodes.all[i]
		if v.kind != isInode || v.si < 0 || c.snaps.nodes[v.si].dying {
			continue
		}
		name, want, got := "", "", ""
		switch {
		case v.subvol != 0:
			name, want, got = c.subvolLinks(v)
		case roots[v]:
			continue // what is wrong with it was reported
		default:
			name, want, got = c.inodeLinks(v)
		}
		switch name {
		case "":
			continue
		case "inode_points_to_missing_dirent":
			pos, ok, err := c.direntAt(ctx, v)
			if err != nil {
				return err
			}
			want = fmt.Sprintf("a dirent at %d:%d", v.dir, v.dirOffset)
			if got = "none"; ok {
				name, got = "inode_points_to_wrong_dirent", fmt.Sprintf("the one at %v names something else", pos)
			}
		case "note":
			c.note("subvol_root_old_version_backpointer", v.where(), "%s", got)
			continue
		}
		c.bad(name, v.where(), want, got)
	}
	return nil
}

// inodeLinks decides what is wrong with the links of an inode that is no root of
// a subvolume; "" for nothing.
func (c *checker) inodeLinks(v *inode) (name, want, got string) {
	pointsBack := v.dir != 0 || v.dirOffset != 0
	missing := "inode_points_to_missing_dirent" // or a wrong one
	switch {
	case v.unlinked() && v.links > 0:
		return "inode_unlinked_but_has_dirent", "no dirent, as it is unlinked", fmt.Sprint(v.links)
	case v.unlinked():
		if pointsBack && v.found == 0 {
			return missing, "", ""
		}
		return "", "", ""
	case v.links == 0 && pointsBack:
		return missing, "", ""
	case v.links == 0:
		return "inode_unreachable", "a dirent", "none"
	case v.isDir() && v.links > 1:
		return "inode_dir_multiple_links", "one dirent", fmt.Sprint(v.links)
	case pointsBack && v.found == 0:
		return missing, "", ""
	case v.isDir() && !pointsBack:
		return "inode_dir_missing_backpointer", "the position of its dirent", "none"
	case v.isDir():
		return "", "", ""
	case v.nlink == 0 && v.links > 1:
		return "inode_multiple_links_but_nlink_0", fmt.Sprintf("nlink %d", v.links-1), "0"
	case uint64(v.links) != uint64(v.nlink)+1:
		return "inode_wrong_nlink", fmt.Sprint(int64(v.links) - 1), fmt.Sprint(v.nlink)
	}
	return "", "", ""
}

// subvolLinks is inodeLinks for the roots of subvolumes.
func (c *checker) subvolLinks(v *inode) (name, want, got string) {
	s := c.snaps.subvols[v.subvol]
	if s == nil || s.Inode != v.inum || !s.live() {
		return "", "", "" // reported with the inode, or on its way out
	}
	back := entryOf{v.dir, v.dirOffset}
	found := slices.Contains(c.entriesOf[s.id], back)
	vs, _ := c.inodes.versions(v.inum)
	if c.visible(vs, s.si) != v {
		// An older version, which no release keeps current.
		if back != (entryOf{}) && !found {
			return "note", "", fmt.Sprintf("an older version of the root of subvolume %d points at %d:%d, where its dirent is no more", s.id, v.dir, v.dirOffset)
		}
		return "", "", ""
	}
	switch {
	case s.id == ondisk.RootSubvolume:
		if back != (entryOf{}) {
			return "inode_points_to_missing_dirent", "", ""
		}
	case v.parentSubvol != s.FSPathParent && c.minor(5):
		return "inode_bi_parent_wrong", fmt.Sprint(s.FSPathParent), fmt.Sprint(v.parentSubvol)
	case s.links > 1:
		return "inode_dir_multiple_links", "one dirent", fmt.Sprint(s.links)
	case found:
	case back != (entryOf{}):
		return "inode_points_to_missing_dirent", "", ""
	case s.links == 0:
		return "inode_unreachable", "a dirent", "none"
	default:
		return "inode_dir_missing_backpointer", "the position of its dirent", "none"
	}
	return "", "", ""
}

// checkSubvolRoots checks that every subvolume has a root directory that names it.
// It gives the versions that are roots.
func (c *checker) checkSubvolRoots() map[*inode]bool {
	roots := map[*inode]bool{}
	for _, id := range slices.Sorted(maps.Keys(c.snaps.subvols)) {
		s := c.snaps.subvols[id]
		vs, in := c.inodes.versions(s.Inode)
		if !in || !s.live() || s.si < 0 {
			continue
		}
		w := leafAt(ondisk.BtreeSubvolumes, ondisk.Pos{Offset: uint64(id)})
		v := c.visible(vs, s.si)
		switch {
		case v == nil || v.kind != isInode:
			name := "subvol_to_missing_root"
			if id == ondisk.RootSubvolume {
				name = "root_dir_missing"
			}
			c.bad(name, w, fmt.Sprintf("inode %d in snapshot %d", s.Inode, s.Snapshot), "no such inode")
			continue
		case !v.isDir() && id == ondisk.RootSubvolume:
			c.bad("root_inode_not_dir", v.where(), "a directory", fmt.Sprintf("mode %o", v.mode))
		case v.subvol != id:
			c.bad("subvol_root_wrong_bi_subvol", v.where(), fmt.Sprint(id), fmt.Sprint(v.subvol))
		}
		roots[v] = true
	}
	return roots
}

// direntAt looks whether a dirent is where an inode points back at.
func (c *checker) direntAt(ctx context.Context, v *inode) (pos ondisk.Pos, found bool, err error) {
	si := v.si
	if s := c.snaps.subvols[v.parentSubvol]; v.subvol != 0 && s != nil {
		si = s.si
	}
	p := ondisk.Pos{Inode: v.dir, Offset: v.dirOffset}
	u := c.cursor(ctx, ondisk.BtreeDirents, p, ondisk.Pos{Inode: v.dir, Offset: v.dirOffset, Snapshot: ^uint32(0)}, false)
	defer u.close()
	for kv := u.peek(); kv != nil; kv = u.peek() {
		if c.snaps.sees(si, c.snaps.find(kv.Pos.Snapshot)) {
			return kv.Pos, kv.Type == ondisk.KeyDirent, nil
		}
		u.take()
	}
	return p, false, u.err
}

// directory is what is kept of a directory's inode for the walks up the tree.
type directory struct {
	inum, dir            uint64
	snap                 uint32
	si                   int32
	subvol, parentSubvol uint32
	flags, depth         uint32
	state                dirState
}

type dirState uint8

const (
	dirUnknown dirState = iota
	dirOpen             // on the way up from where the walk started
	dirDone             // reaches a root, or what is wrong was reported
)

// keepDirs remembers the directories of the window.
func (c *checker) keepDirs() {
	for i := range c.inodes.all {
		v := &c.inodes.all[i]
		if v.kind == isInode && v.isDir() && v.si >= 0 && !c.snaps.nodes[v.si].dead {
			c.dirs = append(c.dirs, directory{v.inum, v.dir, v.snap, v.si, v.subvol, v.parentSubvol, v.flags, v.depth, dirUnknown})
		}
	}
}

// parentDir gives the directory that holds d, seen from a snapshot, and the
// snapshot that it is seen from; nil for a root or when it is missing.
func (c *checker) parentDir(d *directory, view int32) (*directory, int32) {
	if d.subvol != 0 {
		s := c.snaps.subvols[d.parentSubvol]
		if s == nil {
			return nil, -1
		}
		view = s.si
	}
	i := sort.Search(len(c.dirs), func(i int) bool { return c.dirs[i].inum >= d.dir })
	for ; i < len(c.dirs) && c.dirs[i].inum == d.dir; i++ {
		if c.snaps.sees(view, c.dirs[i].si) {
			return &c.dirs[i], view
		}
	}
	return nil, view
}

// checkStructure follows every directory up to a root: no loops (chapter 07
// section 5.6).
func (c *checker) checkStructure() {
	if c.lost(ondisk.BtreeInodes, ondisk.BtreeDirents) {
		return
	}
	reached := map[inView]bool{} // directories that a snapshot sees in an ancestor
	shallow := 0
	for i := range c.dirs {
		start := &c.dirs[i]
		if c.snaps.nodes[start.si].dying {
			continue
		}
		if p, _ := c.parentDir(start, start.si); p != nil {
			if c.minor(28) && start.flags&ondisk.InodeHasCaseInsensitive != 0 && p.flags&ondisk.InodeHasCaseInsensitive == 0 {
				c.bad("inode_parent_has_case_insensitive_not_set", leafAt(ondisk.BtreeInodes, ondisk.Pos{Offset: p.inum, Snapshot: p.snap}), fmt.Sprintf("flag has_case_insensitive, as directory %d below it", start.inum), "clear")
			}
			if c.minor(17) && start.subvol == 0 && start.depth <= p.depth {
				shallow++
			}
		}
		var path []*directory
		var foreign []inView
		d, view := start, start.si
		for steps := 0; d != nil; steps++ {
			if d.si == view {
				if d.state == dirDone {
					break
				}
				if d.state == dirOpen {
					c.reportLoop(path, d)
					break
				}
				d.state = dirOpen
				path = append(path, d)
			} else {
				k := inView{d.inum, view}
				if reached[k] {
					break
				}
				if slices.Contains(foreign, k) || steps > 2*len(c.dirs) {
					c.reportLoop(append(path, d), d)
					break
				}
				foreign = append(foreign, k)
			}
			d, view = c.parentDir(d, view)
		}
		for _, d := range path {
			d.state = dirDone
		}
		for _, k := range foreign {
			reached[k] = true
		}
	}
	if shallow > 0 {
		c.note("inode_depth_not_increasing", errs.Nowhere, "%d directories do not have a greater depth than their parents", shallow)
	}
}

// reportLoop reports a loop once, at its lowest directory.
func (c *checker) reportLoop(path []*directory, at *directory) {
	i := slices.Index(path, at)
	loop := path[max(i, 0):]
	least := slices.MinFunc(loop, func(a, b *directory) int { return cmp.Compare(a.inum, b.inum) })
	c.bad("dir_loop", leafAt(ondisk.BtreeInodes, ondisk.Pos{Offset: least.inum, Snapshot: least.snap}), "a way up to the root", fmt.Sprintf("a loop of %d directories", len(loop)))
}
