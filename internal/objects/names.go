package objects

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/casefold"
	"github.com/gobcachefs/gobcachefs/internal/strhash"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// DirEntry is an entry of a directory. Cookie is where to go on after it: the
// slot of the name plus one, the same for the life of the entry.
type DirEntry struct {
	Name   []byte
	ID     ID
	Type   uint8 // DT_ value; subvolumes are directories
	Subvol bool  // the entry is a subvolume
	Cookie uint64
}

// Casefolded reports whether a directory compares names without case.
func (f *FS) Casefolded(dir *ondisk.Inode) bool {
	if !dir.IsDir() {
		return false
	}
	if dir.Casefold != 0 {
		return dir.Casefold-1 != 0
	}
	return f.set.SB.CasefoldDefault()
}

// entry turns a dirent key into an entry, seen through a subvolume. ok is false
// for keys that are no visible entry.
func (f *FS) entry(subvol uint32, kv ondisk.KV, d *ondisk.Dirent) (DirEntry, bool) {
	e := DirEntry{Name: d.Name, Type: d.Type, ID: ID{subvol, d.Inum}, Cookie: kv.Pos.Offset + 1}
	if d.Type == ondisk.DTSubvol {
		if d.ParentSubvol != subvol {
			return e, false
		}
		e.Type, e.Subvol = ondisk.DTDir, true
		e.ID.Subvol = d.ChildSubvol
		e.ID.Inum = 0
		if s, ok := f.Snapshots().Subvolume(d.ChildSubvol); ok {
			e.ID.Inum = s.Inode
		}
	}
	return e, true
}

// Lookup finds a name in a directory. Errors: ENOENT, ENOTDIR, ENAMETOOLONG,
// EINVAL for a name that a casefolded directory cannot hold; "." and ".." are
// not entries.
func (f *FS) Lookup(ctx context.Context, dir ID, in *ondisk.Inode, name []byte) (DirEntry, error) {
	if !in.IsDir() {
		return DirEntry{}, syscall.ENOTDIR
	}
	if len(name) > ondisk.NameMax {
		return DirEntry{}, syscall.ENAMETOOLONG
	}
	if len(name) == 0 {
		return DirEntry{}, syscall.ENOENT
	}
	v, err := f.Snapshots().View(dir.Subvol)
	if err != nil {
		return DirEntry{}, err
	}
	fold := f.Casefolded(in)
	key := name
	if fold {
		if key, err = casefold.Fold(nil, name); err != nil {
			return DirEntry{}, err
		}
	}
	slot := strhash.DirentSlot(in.StrHash, in.HashSeed, in.Flags&ondisk.Inode31bitDirentOffset != 0, key)
	w := f.trees.Visible(ctx, ondisk.BtreeDirents, v, ondisk.Pos{Inode: dir.Inum, Offset: slot}, ondisk.Pos{Inode: dir.Inum, Offset: ^uint64(0)})
	for {
		kv, ok := w.Next()
		f.suspects.note(dir.Inum, w.Suspect())
		if !ok || kv.Pos.Offset != slot {
			if err := w.Err(); err != nil {
				return DirEntry{}, err
			}
			return DirEntry{}, syscall.ENOENT
		}
		slot++
		if kv.Type == ondisk.KeyHashWhiteout {
			continue
		}
		d, err := ondisk.DecodeDirent(kv)
		if err != nil {
			return DirEntry{}, errs.At(err, direntPlace(kv))
		}
		e, visible := f.entry(dir.Subvol, kv, &d)
		if !visible {
			return DirEntry{}, syscall.ENOENT
		}
		have := d.Name
		if d.Casefold {
			have = d.CfName
		}
		if bytes.Equal(have, key) {
			if e.Subvol && e.ID.Inum == 0 {
				return e, errs.At(errs.Corruptf("dirent_to_missing_subvol", "subvolume %d", d.ChildSubvol), direntPlace(kv))
			}
			return e, nil
		}
	}
}

func direntPlace(kv ondisk.KV) errs.Where {
	w := errs.Nowhere
	w.Btree, w.Level, w.HasPos, w.Inode, w.Offset, w.Snapshot = int(ondisk.BtreeDirents), 0, true, kv.Pos.Inode, kv.Pos.Offset, kv.Pos.Snapshot
	return w
}

// ReadDir calls yield with the entries of a directory whose cookie is greater
// than after (0: all), in the order of their slots, until it returns false. "."
// and ".." are not among them. Entries that cannot be read are reported to bad
// (which may be nil) and passed over; a range of entries that cannot be read is
// passed over too and makes ReadDir return its error at the end.
func (f *FS) ReadDir(ctx context.Context, dir ID, in *ondisk.Inode, after uint64, yield func(DirEntry) bool, bad func(error)) error {
	if !in.IsDir() {
		return syscall.ENOTDIR
	}
	v, err := f.Snapshots().View(dir.Subvol)
	if err != nil {
		return err
	}
	w := f.trees.Visible(ctx, ondisk.BtreeDirents, v, ondisk.Pos{Inode: dir.Inum, Offset: after}, ondisk.Pos{Inode: dir.Inum, Offset: ^uint64(0)})
	w.ReadAhead()
	var damage []error
	for {
		kv, ok := w.Next()
		f.suspects.note(dir.Inum, w.Suspect())
		if !ok {
			err := w.Err()
			if err == nil || !isDamage(err) {
				return errors.Join(append(damage, err)...)
			}
			damage = append(damage, err)
			if !w.SkipDamage() {
				return errors.Join(damage...)
			}
			continue
		}
		if kv.Type != ondisk.KeyDirent {
			continue
		}
		d, err := ondisk.DecodeDirent(kv)
		if err != nil {
			if bad != nil {
				bad(errs.At(err, direntPlace(kv)))
			}
			continue
		}
		e, visible := f.entry(dir.Subvol, kv, &d)
		if !visible {
			continue
		}
		if e.Subvol && e.ID.Inum == 0 {
			if bad != nil {
				bad(errs.At(errs.Corruptf("dirent_to_missing_subvol", "%q: subvolume %d", d.Name, d.ChildSubvol), direntPlace(kv)))
			}
			continue
		}
		if !yield(e) {
			return errors.Join(damage...) // met on the way
		}
	}
}

// Walk resolves a path of names separated by '/', from a directory. Empty names
// and "." are passed over, ".." goes to the parent, symlinks are followed except
// (without follow) the last. Paths that start with '/' start at root.
func (f *FS) Walk(ctx context.Context, root, at ID, path string, follow bool) (ID, ondisk.Inode, error) {
	links := 0
	return f.walk(ctx, root, at, path, follow, &links)
}

func (f *FS) walk(ctx context.Context, root, at ID, path string, follow bool, links *int) (ID, ondisk.Inode, error) {
	if strings.HasPrefix(path, "/") {
		at = root
	}
	in, err := f.Inode(ctx, at)
	if err != nil {
		return at, in, err
	}
	rest := path
	for rest != "" {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		switch name {
		case "", ".":
			// A name followed by a slash must be a directory.
			if !in.IsDir() {
				return at, in, syscall.ENOTDIR
			}
			continue
		case "..":
			if at == root {
				continue
			}
			if !in.IsDir() {
				return at, in, syscall.ENOTDIR
			}
			if at, err = f.Parent(ctx, at); err == nil {
				in, err = f.Inode(ctx, at)
			}
			if err != nil {
				return at, in, err
			}
			continue
		}
		e, err := f.Lookup(ctx, at, &in, []byte(name))
		if err != nil {
			return at, in, err
		}
		next, err := f.Inode(ctx, e.ID)
		if err != nil {
			if errors.Is(err, syscall.ENOENT) {
				err = fmt.Errorf("%q in directory %v: %w", name, at, errs.Corruptf("dirent_to_missing_inode", "inode %v", e.ID))
			}
			return e.ID, next, err
		}
		if next.IsSymlink() && (follow || strings.Trim(rest, "/") != "" || strings.HasPrefix(rest, "/")) {
			if *links++; *links > 40 {
				return e.ID, next, syscall.ELOOP
			}
			target, err := f.Readlink(ctx, e.ID, &next)
			if err != nil {
				return e.ID, next, err
			}
			if at, in, err = f.walk(ctx, root, at, string(target), true, links); err != nil {
				return at, in, err
			}
			continue
		}
		at, in = e.ID, next
		if rest == "" && strings.HasSuffix(path, "/") && !in.IsDir() {
			return at, in, syscall.ENOTDIR
		}
	}
	return at, in, nil
}

// Path finds a path to a file by its backpointers, from the root of the volume.
// It is a guess for messages: a file may have other names, or none.
func (f *FS) Path(ctx context.Context, id ID) (string, error) {
	var parts []string
	for range 4096 {
		if id == Root {
			s := "/"
			for i := len(parts) - 1; i >= 0; i-- {
				s += parts[i]
				if i > 0 {
					s += "/"
				}
			}
			return s, nil
		}
		in, err := f.Inode(ctx, id)
		if err != nil {
			return "", err
		}
		parent, err := f.Parent(ctx, id)
		if err != nil {
			return "", err
		}
		name, err := f.nameAt(ctx, parent, in.DirOffset)
		if err != nil {
			return "", err
		}
		parts = append(parts, name)
		id = parent
	}
	return "", syscall.ELOOP
}

func (f *FS) nameAt(ctx context.Context, dir ID, slot uint64) (string, error) {
	v, err := f.Snapshots().View(dir.Subvol)
	if err != nil {
		return "", err
	}
	kv, _, found, err := f.trees.Get(ctx, ondisk.BtreeDirents, v, dir.Inum, slot)
	if err != nil {
		return "", err
	}
	if !found || kv.Type != ondisk.KeyDirent {
		return "", syscall.ENOENT
	}
	d, err := ondisk.DecodeDirent(kv)
	return string(d.Name), err
}
