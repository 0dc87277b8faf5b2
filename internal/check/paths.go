package check

import (
	"context"
	"slices"
	"strings"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Findings about files get the path of the file, for the first of them: each costs
// a few reads for every directory on the way up.

// maxPaths bounds how many findings get one.
const maxPaths = 200

// pathDepth bounds the way up.
const pathDepth = 256

// inView is an inode as a snapshot sees it.
type inView struct {
	inum uint64
	si   int32
}

// addPaths fills in the paths of findings.
func (c *checker) addPaths(ctx context.Context, fs []Finding) {
	if c.snaps == nil {
		return
	}
	for i := range fs {
		f := &fs[i]
		if !f.HasPos || f.Level != -1 || c.nrPaths >= maxPaths || ctx.Err() != nil {
			continue
		}
		k := inView{inum: f.Inode, si: c.snaps.find(f.Snapshot)}
		switch ondisk.BtreeID(f.Btree) {
		case ondisk.BtreeInodes, ondisk.BtreeDamage:
			k.inum = f.Offset
		case ondisk.BtreeExtents, ondisk.BtreeDirents, ondisk.BtreeXattrs:
		default:
			continue
		}
		if k.si < 0 || k.inum == 0 {
			continue
		}
		c.nrPaths++
		f.File = c.path(ctx, k)
	}
}

// path gives the path of an inode from the root directory, "" when there is no
// way up.
func (c *checker) path(ctx context.Context, k inView) string {
	if p, ok := c.paths[k]; ok {
		return p
	}
	var names []string
	var seen []inView
	tail := ""
	at := k
	for {
		if p, ok := c.paths[at]; ok {
			if p == "" {
				return ""
			}
			tail = p
			break
		}
		if slices.Contains(seen, at) || len(seen) > pathDepth {
			return ""
		}
		seen = append(seen, at)
		kv, ok := c.lookup(ctx, ondisk.BtreeInodes, ondisk.Pos{Offset: at.inum}, at.si)
		if !ok {
			return ""
		}
		x, err := ondisk.DecodeInode(kv)
		if err != nil {
			return ""
		}
		up := inView{inum: x.Dir, si: at.si}
		if x.Subvol != 0 {
			if x.Subvol == ondisk.RootSubvolume {
				tail = "/"
				break
			}
			s := c.snaps.subvols[x.ParentSubvol]
			if s == nil {
				return ""
			}
			up.si = s.si
		}
		if x.Dir == 0 && x.DirOffset == 0 {
			return ""
		}
		kv, ok = c.lookup(ctx, ondisk.BtreeDirents, ondisk.Pos{Inode: x.Dir, Offset: x.DirOffset}, up.si)
		if !ok || kv.Type != ondisk.KeyDirent {
			return ""
		}
		d, err := ondisk.DecodeDirent(kv)
		if err != nil || d.Type == ondisk.DTSubvol && d.ChildSubvol != x.Subvol || d.Type != ondisk.DTSubvol && d.Inum != at.inum {
			return ""
		}
		names = append(names, string(d.Name))
		at = up
	}
	// tail is the path of the directory that holds the last of names.
	for i := len(names) - 1; i >= 0; i-- {
		tail = strings.TrimSuffix(tail, "/") + "/" + names[i]
		if i < len(seen) && len(c.paths) < 1<<16 {
			c.paths[seen[i]] = tail
		}
	}
	return tail
}

// lookup finds the key at a position that a snapshot sees.
func (c *checker) lookup(ctx context.Context, b ondisk.BtreeID, p ondisk.Pos, si int32) (kv ondisk.KV, ok bool) {
	to := p
	to.Snapshot = ^uint32(0)
	u := c.cursor(ctx, b, p, to, false)
	defer u.close()
	for k := u.peek(); k != nil; k = u.peek() {
		if c.snaps.sees(si, c.snaps.find(k.Pos.Snapshot)) {
			return ondisk.KV{Key: k.Key, Val: slices.Clone(k.Val)}, true
		}
		u.take()
	}
	return ondisk.KV{}, false
}
