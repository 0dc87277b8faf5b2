package check

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sort"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// inode is what the check keeps of a key of the inodes btree.
type inode struct {
	inum           uint64
	snap           uint32
	si             int32 // index of the snapshot, -1 none
	size, sectors  uint64
	seed           uint64
	dir, dirOffset uint64
	flags          uint32
	nlink          uint32
	subvol         uint32
	parentSubvol   uint32
	depth          uint32
	mode           uint16
	strHash        uint8
	kind           inodeKind
	casefold       uint8 // option plus one
	opts           bool
	opt            ioOpts

	// Recomputed, atomically.
	links uint32 // dirents that name it in its own view
	found uint32 // the one it points back at is among them
}

type inodeKind uint8

const (
	isInode    inodeKind = iota
	isWhiteout           // whiteout, or a generation: no inode here
)

func (i *inode) isDir() bool    { return i.mode&ondisk.ModeTypeMask == ondisk.ModeDir }
func (i *inode) unlinked() bool { return i.flags&ondisk.InodeUnlinked != 0 }
func (i *inode) where() errs.Where {
	return leafAt(ondisk.BtreeInodes, ondisk.Pos{Offset: i.inum, Snapshot: i.snap})
}

// inodeBytes is the memory of an inode, for the budget.
const inodeBytes = 136

// inodeTable holds the inodes of the window, in order of number and snapshot. The
// numbers stand in an array of their own, which is what searches go through.
type inodeTable struct {
	from, to uint64 // numbers in the window: from <= inum <= to
	nums     []uint64
	all      []inode
}

// versions gives the keys of an inode number, ascending by snapshot. ok is false
// when the number is not in the window.
func (t *inodeTable) versions(inum uint64) (v []inode, ok bool) {
	if inum < t.from || inum > t.to {
		return nil, false
	}
	n := len(t.nums)
	if n == 0 {
		return nil, true
	}
	i := -1
	// Numbers are usually dense.
	if d := inum - t.nums[0]; inum >= t.nums[0] && d < uint64(n) && t.nums[d] == inum {
		for i = int(d); i > 0 && t.nums[i-1] == inum; i-- {
		}
	} else if i = sort.Search(n, func(k int) bool { return t.nums[k] >= inum }); i == n || t.nums[i] != inum {
		return nil, true
	}
	j := i + 1
	for j < n && t.nums[j] == inum {
		j++
	}
	return t.all[i:j], true
}

// loadInodes reads inode keys from c.nextInode on, until the budget is used up.
// It leaves in nextInode where the next pass goes on, 0 when all were read. Nodes
// are read as a whole: what a pass has read beyond its window, the next reads
// again, and does not report and count again.
func (c *checker) loadInodes(ctx context.Context) error {
	from := ondisk.Pos{Offset: c.nextInode}
	refs := c.leavesIn(ondisk.BtreeInodes, from, ondisk.SPosMax)
	type part struct{ list []inode }
	t := &inodeTable{from: c.nextInode, to: ^uint64(0)}
	c.inodes = t
	c.nextInode = 0
	budget := int(max(c.opts.Memory/2/inodeBytes, 64))
	seen, some := c.inodesSeen, c.pass > 0
	fresh := func(p ondisk.Pos) bool { return !some || seen.Less(p) }
	// All versions of a number belong together, so that of one with more of them
	// than the budget has room for all are taken.
	room := func() bool {
		return len(t.all) <= budget || t.all[0].inum == t.all[len(t.all)-1].inum
	}
	for len(refs) > 0 && room() {
		// A round of pieces at once; whether there is room for another is
		// decided between rounds. Leaves of the usual size hold some 1000 inodes.
		n := min(len(refs), batchNodes*c.workers, 1+max(budget-len(t.all), 0)/1000)
		parts := make([]part, (n+batchNodes-1)/batchNodes)
		w := c.tasks(ctx)
		for i := range parts {
			piece := refs[i*batchNodes : min((i+1)*batchNodes, n)]
			w.do(func(ctx context.Context) error {
				p := &parts[i]
				snaps := snapCache{t: c.snaps, si: -1}
				ptrs := c.pointers(true)
				defer ptrs.done()
				return c.inBatches(ctx, piece, func(r *nodeRef) bool { return fresh(r.max) }, func(n *node) {
					p.list = slices.Grow(p.list, len(n.keys))
					for k := range n.keys {
						if kv := &n.keys[k]; !kv.Pos.Less(from) {
							p.list = append(p.list, c.inodeKey(kv, &snaps, ptrs, fresh(kv.Pos)))
						}
					}
				})
			})
		}
		if err := w.wait(); err != nil {
			return err
		}
		if last := refs[n-1].max; fresh(last) {
			c.inodesSeen = last
		}
		refs = refs[n:]
		for i := range parts {
			t.all = append(t.all, parts[i].list...)
		}
	}
	k := min(budget, len(t.all))
	for k > 0 && k < len(t.all) && t.all[k-1].inum == t.all[k].inum {
		k--
	}
	if k == 0 {
		for k < len(t.all) && t.all[0].inum == t.all[k].inum {
			k++
		}
	}
	if k < len(t.all) {
		c.nextInode = t.all[k].inum
		t.all, t.to = t.all[:k], c.nextInode-1
	}
	t.nums = make([]uint64, len(t.all))
	for i := range t.all {
		t.nums[i] = t.all[i].inum
	}
	return nil
}

// inodeKey decodes a key of the inodes btree and checks what does not depend on
// others; fresh unless that was done before.
func (c *checker) inodeKey(kv *ondisk.KV, snaps *snapCache, p *pointers, fresh bool) inode {
	i := inode{inum: kv.Pos.Offset, snap: kv.Pos.Snapshot, si: snaps.find(kv.Pos.Snapshot), kind: isWhiteout}
	if fresh {
		c.checkSnap(ondisk.BtreeInodes, kv.Pos, i.si)
		p.plain(ondisk.BtreeInodes, kv)
	}
	switch kv.Type {
	case ondisk.KeyInode, ondisk.KeyInodeV2, ondisk.KeyInodeV3:
	default:
		return i
	}
	x, _ := ondisk.DecodeInode(*kv) // what is wrong with it was reported with the key
	i.kind = isInode
	i.size, i.sectors, i.seed, i.dir, i.dirOffset = x.Size, x.Sectors, x.HashSeed, x.Dir, x.DirOffset
	i.flags, i.nlink, i.subvol, i.parentSubvol, i.depth = uint32(x.Flags), x.Nlink, x.Subvol, x.ParentSubvol, x.Depth
	i.mode, i.strHash, i.casefold, i.opts = x.Mode, x.StrHash, x.Casefold, x.HasOpts()
	i.opt = inodeOpts(&x)
	if fresh {
		p.acc.at(ondisk.AccountingPos{Type: ondisk.AccNrInodes}).add(1)
		c.checkInode(&i, &x)
	}
	return i
}

// checkInode checks an inode by itself (chapter 04 section 1, chapter 07 section
// 5.6).
func (c *checker) checkInode(i *inode, x *ondisk.Inode) {
	w := i.where()
	if x.JournalSeq > c.state.Seq {
		c.bad("inode_journal_seq_in_future", w, fmt.Sprintf("at most %d", c.state.Seq), fmt.Sprint(x.JournalSeq))
	}
	if i.isDir() && i.size != 0 && (!c.minor(20) || c.minor(39)) {
		c.bad("inode_dir_has_nonzero_i_size", w, "0", fmt.Sprint(i.size))
	}
	if i.flags&ondisk.InodeHasChildSnapshot != 0 && !c.minor(13) {
		c.bad("inode_has_child_snapshots_wrong", w, "no flag has_child_snapshot before 1.13", "set")
	}
	if c.minor(39) {
		if (i.flags&ondisk.InodeHasInodeOpts != 0) != i.opts {
			c.bad("inode_has_inode_opts_flag_wrong", w, fmt.Sprint(i.opts), fmt.Sprint(!i.opts))
		}
	}
	if i.parentSubvol != 0 && (i.subvol == 0 || i.subvol == ondisk.RootSubvolume) {
		c.bad("inode_bi_parent_nonzero", w, "0 in what is no root of a subvolume below another", fmt.Sprint(i.parentSubvol))
	}
	if c.minor(28) && i.isDir() && c.casefolded(i) && i.flags&ondisk.InodeHasCaseInsensitive == 0 {
		c.bad("inode_has_case_insensitive_not_set", w, "flag has_case_insensitive on a casefolded directory", "clear")
	}
	if i.flags&ondisk.Inode31bitDirentOffset != 0 && !c.incompat(30) {
		c.bad("incompat_feature_not_allowed", w, "version_incompat_allowed of 1.30", "flag 31bit_dirent_offset")
	}
	if c.clean && i.flags&ondisk.InodeISizeDirty != 0 {
		c.bad("inode_i_size_dirty_but_clean", w, "clear", "set")
	}
	if c.clean && i.flags&ondisk.InodeISectorsDirty != 0 {
		c.bad("inode_i_sectors_dirty_but_clean", w, "clear", "set")
	}
}

// casefolded: names in the directory ignore case.
func (c *checker) casefolded(i *inode) bool {
	if i.casefold != 0 {
		return i.casefold > 1
	}
	return c.sb.CasefoldDefault() && c.minor(24)
}

// checkVersions compares the versions of one inode number with each other.
func (c *checker) checkVersions(vs []inode) {
	var first *inode
	for k := len(vs) - 1; k >= 0; k-- {
		v := &vs[k]
		if v.kind != isInode {
			continue
		}
		if first == nil {
			first = v // the oldest
		} else if v.seed != first.seed || v.strHash != first.strHash {
			c.bad("inode_snapshot_mismatch", v.where(), fmt.Sprintf("hash type %d seed %#x of snapshot %d", first.strHash, first.seed, first.snap), fmt.Sprintf("hash type %d seed %#x", v.strHash, v.seed))
		}
		c.checkChildSnapshot(vs, k)
		c.checkDeleted(v)
		c.checkInodeSubvol(v)
	}
}

// checkChildSnapshot checks flag has_child_snapshot: an inode key exists in a
// descendant.
func (c *checker) checkChildSnapshot(vs []inode, k int) {
	v := &vs[k]
	if !c.minor(13) || v.si < 0 {
		return
	}
	want, dying := false, false
	for j := range k { // descendants have lower ids
		if d := &vs[j]; d.kind == isInode && c.snaps.sees(d.si, v.si) {
			want = true
			dying = dying || c.snaps.nodes[d.si].dying
		}
	}
	got := v.flags&ondisk.InodeHasChildSnapshot != 0
	if want != got && !(dying && !got) && !c.snaps.nodes[v.si].dying {
		c.bad("inode_has_child_snapshots_wrong", v.where(), fmt.Sprint(want), fmt.Sprint(got))
	}
}

// deletedKey names an entry of deleted_inodes.
type deletedKey struct {
	inum uint64
	snap uint32
}

// loadDeleted reads deleted_inodes, which is small.
func (c *checker) loadDeleted(ctx context.Context) error {
	c.deleted = map[deletedKey]bool{}
	return c.walkAll(ctx, ondisk.BtreeDeletedInodes, func(kv *ondisk.KV) {
		c.deleted[deletedKey{kv.Pos.Offset, kv.Pos.Snapshot}] = false
		if kv.Pos.Inode != 0 {
			c.bad("deleted_inode_missing", leafAt(ondisk.BtreeDeletedInodes, kv.Pos), "a position of an inode", kv.Pos.String())
		}
	})
}

// checkDeleted checks that an unlinked inode is on the list of those to delete.
func (c *checker) checkDeleted(v *inode) {
	if !c.minor(2) || c.lost(ondisk.BtreeDeletedInodes) {
		return
	}
	k := deletedKey{v.inum, v.snap}
	_, listed := c.deleted[k]
	reapable := v.unlinked() && !(c.minor(13) && v.flags&ondisk.InodeHasChildSnapshot != 0)
	if reapable && !listed && v.subvol == 0 {
		c.bad("unlinked_inode_not_on_deleted_list", v.where(), "an entry in deleted_inodes", "none")
	}
}

// checkDeletedList checks the entries of deleted_inodes of the window.
func (c *checker) checkDeletedList() {
	if c.lost(ondisk.BtreeInodes) {
		return
	}
	var keys []deletedKey
	for k := range c.deleted {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b deletedKey) int { return cmp.Or(cmp.Compare(a.inum, b.inum), cmp.Compare(a.snap, b.snap)) })
	for _, k := range keys {
		vs, ok := c.inodes.versions(k.inum)
		if !ok {
			continue
		}
		w := leafAt(ondisk.BtreeDeletedInodes, ondisk.Pos{Offset: k.inum, Snapshot: k.snap})
		var v *inode
		for i := range vs {
			if vs[i].snap == k.snap && vs[i].kind == isInode {
				v = &vs[i]
			}
		}
		switch {
		case v == nil:
			c.bad("deleted_inode_missing", w, "an inode", "none")
		case !v.unlinked():
			c.bad("deleted_inode_not_unlinked", w, "an unlinked inode", "flag unlinked is clear")
		case c.minor(13) && v.flags&ondisk.InodeHasChildSnapshot != 0:
			c.bad("deleted_inode_has_child_snapshots", w, "an inode without versions in descendants", "flag has_child_snapshot is set")
		case c.clean && v.subvol == 0:
			c.bad("deleted_inode_but_clean", w, "no entry after a clean shutdown", "an entry")
		}
	}
}

// checkInodeSubvol checks that a subvolume root and its subvolume name each other.
func (c *checker) checkInodeSubvol(v *inode) {
	if v.subvol == 0 || v.si < 0 || c.snaps.nodes[v.si].dying {
		return
	}
	s := c.snaps.subvols[v.subvol]
	switch {
	case s == nil || s.state == ondisk.SubvolStateDeleted:
		c.bad("inode_bi_subvol_missing", v.where(), fmt.Sprintf("subvolume %d", v.subvol), "no such subvolume")
	case s.Inode != v.inum || !c.snaps.sees(s.si, v.si):
		c.bad("inode_bi_subvol_wrong", v.where(), fmt.Sprintf("to be the root of subvolume %d", v.subvol), fmt.Sprintf("its root is inode %d in snapshot %d", s.Inode, s.Snapshot))
	}
}

// visible gives the version of an inode that a snapshot sees: the nearest one, or
// nil. A whiteout is a version too.
func (c *checker) visible(vs []inode, si int32) *inode {
	for i := range vs { // ascending: nearest first
		if c.snaps.sees(si, vs[i].si) {
			return &vs[i]
		}
	}
	return nil
}
