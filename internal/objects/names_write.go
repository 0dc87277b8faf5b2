package objects

import (
	"context"
	"syscall"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Link gives a file another name (chapter 04 section 12). Directories, files of
// another subvolume and files whose options the directory would change are
// refused.
func (w *Writer) Link(ctx context.Context, file, dir ID, name []byte) (uint64, error) {
	if file.Subvol != dir.Subvol {
		return 0, syscall.EXDEV
	}
	return w.update(ctx, "link", dir.Subvol, func(o *op) error {
		d, err := o.dir(dir.Inum)
		if err != nil {
			return err
		}
		in, err := o.inode(file.Inum)
		if err != nil {
			return err
		}
		if in.IsDir() {
			return syscall.EPERM
		}
		if err := mayChange(&in); err != nil {
			return err
		}
		if err := mayEnter(&d); err != nil {
			return err
		}
		if reinherit(&in, &d) {
			return syscall.EXDEV
		}
		if err := o.link(dir.Inum, &d, name, file.Inum); err != nil {
			return err
		}
		d.Mtime, d.Ctime = o.now, o.now
		return o.putInode(dir.Inum, &d)
	})
}

// reinherit gives an inode the options of a directory it moves into, as far as
// they were not set on it, and reports whether any changed.
func reinherit(in, dir *ondisk.Inode) (changed bool) {
	for id := range ondisk.NrInodeOpts {
		if in.FieldsSet>>id&1 != 0 || id == ondisk.InodeOptCasefold && !in.IsDir() {
			continue
		}
		if in.Opt(id) != dir.Opt(id) {
			in.SetOpt(id, dir.Opt(id))
			changed = true
		}
	}
	return changed
}

// lookup finds an entry in the transaction.
func (o *op) lookup(dirNum uint64, dir *ondisk.Inode, name []byte) (ondisk.KV, ondisk.Dirent, error) {
	key, _, err := o.fold(dir, name)
	if err != nil {
		return ondisk.KV{}, ondisk.Dirent{}, err
	}
	kv, d, found, _, err := o.findDirent(dirNum, dir, key)
	if err == nil && !found {
		err = syscall.ENOENT
	}
	return kv, d, err
}

// Unlink removes a name of a file that is not a directory, Rmdir an empty
// directory. When it was the last name the file is deleted, too.
func (w *Writer) Unlink(ctx context.Context, dir ID, name []byte) (uint64, error) {
	return w.remove(ctx, dir, name, false)
}

// Rmdir removes an empty directory.
func (w *Writer) Rmdir(ctx context.Context, dir ID, name []byte) (uint64, error) {
	return w.remove(ctx, dir, name, true)
}

func (w *Writer) remove(ctx context.Context, dir ID, name []byte, isDir bool) (uint64, error) {
	var gone uint64
	seq, err := w.update(ctx, "unlink", dir.Subvol, func(o *op) error {
		gone = 0
		d, err := o.dir(dir.Inum)
		if err != nil {
			return err
		}
		kv, e, err := o.lookup(dir.Inum, &d, name)
		if err != nil {
			return err
		}
		if e.Type == ondisk.DTSubvol {
			if isDir {
				return syscall.EBUSY // subvolumes are deleted as such
			}
			return syscall.EISDIR
		}
		in, err := o.inode(e.Inum)
		if err != nil {
			return err
		}
		if in.IsDir() != isDir {
			if isDir {
				return syscall.ENOTDIR
			}
			return syscall.EISDIR
		}
		if err := mayLeave(&d, &in); err != nil {
			return err
		}
		if err := o.drop(&d, dir.Inum, kv.Pos.Offset, e.Inum, &in); err != nil {
			return err
		}
		if err := o.delDirent(dir.Inum, &d, kv.Pos.Offset); err != nil {
			return err
		}
		d.Mtime, d.Ctime = o.now, o.now
		if err := o.putInode(dir.Inum, &d); err != nil {
			return err
		}
		if in.Unlinked() {
			gone = e.Inum
		}
		return nil
	})
	if err != nil || gone == 0 {
		return seq, err
	}
	return w.DeleteInode(ctx, ID{dir.Subvol, gone})
}

// drop takes one name off an inode and stores it. The directory's link count
// changes; the caller stores the directory.
func (o *op) drop(dir *ondisk.Inode, dirNum, slot, inum uint64, in *ondisk.Inode) error {
	if in.IsDir() {
		empty, err := o.isEmpty(inum)
		if err != nil {
			return err
		}
		if !empty {
			return syscall.ENOTEMPTY
		}
		if dir.Nlink > 0 {
			dir.Nlink--
		}
		in.Nlink = 0
		in.Flags |= ondisk.InodeUnlinked
	} else {
		in.SetLinks(in.Links() - 1)
	}
	if in.Dir == dirNum && in.DirOffset == slot {
		in.Dir, in.DirOffset = 0, 0
	}
	in.Ctime = o.now
	return o.putInode(inum, in)
}

// Flags of Rename.
const (
	RenameNoReplace = 1
	RenameExchange  = 2
)

// Rename moves a name (chapter 04 section 12). Only within a subvolume.
func (w *Writer) Rename(ctx context.Context, from ID, oldName []byte, to ID, newName []byte, flags int) (uint64, error) {
	if from.Subvol != to.Subvol {
		return 0, syscall.EXDEV
	}
	if err := CheckName(newName); err != nil {
		return 0, err
	}
	var gone uint64
	seq, err := w.update(ctx, "rename", from.Subvol, func(o *op) error {
		gone = 0
		var err error
		gone, err = o.rename(from.Inum, oldName, to.Inum, newName, flags)
		return err
	})
	if err != nil || gone == 0 {
		return seq, err
	}
	return w.DeleteInode(ctx, ID{from.Subvol, gone})
}

func (o *op) rename(fromNum uint64, oldName []byte, toNum uint64, newName []byte, flags int) (gone uint64, err error) {
	fd, err := o.dir(fromNum)
	if err != nil {
		return 0, err
	}
	td := &fd
	if toNum != fromNum {
		t, err := o.dir(toNum)
		if err != nil {
			return 0, err
		}
		td = &t
	}
	skv, se, err := o.lookup(fromNum, &fd, oldName)
	if err != nil {
		return 0, err
	}
	if se.Type == ondisk.DTSubvol {
		return 0, syscall.EXDEV
	}
	src, err := o.inode(se.Inum)
	if err != nil {
		return 0, err
	}
	if err := mayLeave(&fd, &src); err != nil {
		return 0, err
	}
	if src.IsDir() && toNum != fromNum {
		if err := o.notBelow(toNum, se.Inum); err != nil {
			return 0, err
		}
	}
	before := src
	if toNum != fromNum && reinherit(&src, td) && src.IsDir() {
		return 0, syscall.EXDEV
	}
	key, folded, err := o.fold(td, newName)
	if err != nil {
		return 0, err
	}
	dkv, de, exists, free, err := o.findDirent(toNum, td, key)
	if err != nil {
		return 0, err
	}
	ne := ondisk.Dirent{Type: se.Type, Inum: se.Inum, Name: newName}
	if folded {
		ne.Casefold, ne.CfName = true, key
	}
	put := func(dir, slot uint64, d ondisk.Dirent) {
		o.tx.Set(ondisk.BtreeDirents, ondisk.KV{Key: ondisk.Key{Pos: ondisk.Pos{Inode: dir, Offset: slot, Snapshot: o.v.ID}, Type: ondisk.KeyDirent}, Val: d.Append(nil)})
	}
	if !exists {
		if err := mayEnter(td); err != nil {
			return 0, err
		}
	}
	src.Ctime = o.now
	switch {
	case exists && flags&RenameNoReplace != 0:
		return 0, syscall.EEXIST
	case flags&RenameExchange != 0:
		if !exists {
			return 0, syscall.ENOENT
		}
		if de.Type == ondisk.DTSubvol {
			return 0, syscall.EXDEV
		}
		if dkv.Pos == skv.Pos {
			return 0, nil
		}
		dst, err := o.inode(de.Inum)
		if err != nil {
			return 0, err
		}
		if err := mayLeave(td, &dst); err != nil {
			return 0, err
		}
		if dst.IsDir() && toNum != fromNum {
			if err := o.notBelow(fromNum, de.Inum); err != nil {
				return 0, err
			}
		}
		dstBefore := dst
		if toNum != fromNum && reinherit(&dst, &fd) && dst.IsDir() {
			return 0, syscall.EXDEV
		}
		if err := o.rescan(de.Inum, &dstBefore, &dst); err != nil {
			return 0, err
		}
		// Both names stay, what they name is swapped.
		nd, ns := de, se
		nd.Type, nd.Inum = se.Type, se.Inum
		ns.Type, ns.Inum = de.Type, de.Inum
		put(toNum, dkv.Pos.Offset, nd)
		put(fromNum, skv.Pos.Offset, ns)
		src.Dir, src.DirOffset = toNum, dkv.Pos.Offset
		dst.Dir, dst.DirOffset = fromNum, skv.Pos.Offset
		dst.Ctime = o.now
		if fromNum != toNum {
			if src.IsDir() {
				fd.Nlink--
				td.Nlink++
			}
			if dst.IsDir() {
				td.Nlink--
				fd.Nlink++
			}
		}
		if err := o.putInode(de.Inum, &dst); err != nil {
			return 0, err
		}
	case exists && de.Inum == se.Inum && de.Type == se.Type && dkv.Pos != skv.Pos:
		return 0, nil // two names of one file: nothing to do, says POSIX
	case exists && dkv.Pos != skv.Pos:
		if de.Type == ondisk.DTSubvol {
			return 0, syscall.EBUSY
		}
		dst, err := o.inode(de.Inum)
		if err != nil {
			return 0, err
		}
		switch {
		case src.IsDir() && !dst.IsDir():
			return 0, syscall.ENOTDIR
		case !src.IsDir() && dst.IsDir():
			return 0, syscall.EISDIR
		}
		if err := mayLeave(td, &dst); err != nil {
			return 0, err
		}
		if err := o.drop(td, toNum, dkv.Pos.Offset, de.Inum, &dst); err != nil {
			return 0, err
		}
		if dst.Unlinked() {
			gone = de.Inum
		}
		put(toNum, dkv.Pos.Offset, ne)
		if err := o.delDirent(fromNum, &fd, skv.Pos.Offset); err != nil {
			return 0, err
		}
		src.Dir, src.DirOffset = toNum, dkv.Pos.Offset
		o.moved(&fd, td, &src, fromNum != toNum)
	case exists && string(oldName) == string(newName):
		return 0, nil
	case exists:
		// The same entry: at most the spelling changes.
		put(toNum, skv.Pos.Offset, ne)
	default:
		slot := free
		if fromNum == toNum {
			if h := direntSlot(td, key); h <= skv.Pos.Offset && skv.Pos.Offset <= free {
				slot = skv.Pos.Offset // its own slot is in the new name's chain
			}
		}
		if slot != skv.Pos.Offset || fromNum != toNum {
			put(toNum, slot, ne)
			if err := o.delDirent(fromNum, &fd, skv.Pos.Offset); err != nil {
				return 0, err
			}
		} else {
			put(toNum, slot, ne)
		}
		src.Dir, src.DirOffset = toNum, slot
		o.moved(&fd, td, &src, fromNum != toNum)
	}
	if err := o.rescan(se.Inum, &before, &src); err != nil {
		return 0, err
	}
	if err := o.putInode(se.Inum, &src); err != nil {
		return 0, err
	}
	fd.Mtime, fd.Ctime = o.now, o.now
	if err := o.putInode(fromNum, &fd); err != nil {
		return 0, err
	}
	if toNum != fromNum {
		td.Mtime, td.Ctime = o.now, o.now
		if err := o.putInode(toNum, td); err != nil {
			return 0, err
		}
	}
	return gone, nil
}

// notBelow refuses to move a directory below itself: at is where it would go.
func (o *op) notBelow(at, inum uint64) error {
	for range 1 << 16 {
		if at == inum {
			return syscall.EINVAL
		}
		a, err := o.inode(at)
		if err != nil {
			return err
		}
		if a.Dir == 0 || a.Subvol != 0 {
			return nil
		}
		at = a.Dir
	}
	return syscall.ELOOP
}

// moved counts a directory that went from one to another.
func (o *op) moved(from, to, src *ondisk.Inode, other bool) {
	if other && src.IsDir() {
		from.Nlink--
		to.Nlink++
	}
}

// SetXattr stores an extended attribute, RemoveXattr removes one.
//
// The names bcachefs.OPTION set and unset options of the file (chapter 04 section
// 1.6); bcachefs_effective.OPTION is taken and ignored.
func (w *Writer) SetXattr(ctx context.Context, id ID, name string, value []byte, flags int) (uint64, error) {
	if opt, virtual, err := inodeOption(w.set.SB, name); virtual {
		if err != nil || opt == nil {
			return 0, err
		}
		v, err := opt.Parse(string(value), w.Target)
		if err != nil {
			return 0, err
		}
		return w.setOption(ctx, id, opt, v, true)
	}
	return w.update(ctx, "setxattr", id.Subvol, func(o *op) error {
		in, err := o.inode(id.Inum)
		if err != nil {
			return err
		}
		if err := mayChange(&in); err != nil {
			return err
		}
		if err := o.setXattr(id.Inum, &in, name, value, flags); err != nil {
			return err
		}
		in.Ctime = o.now
		return o.putInode(id.Inum, &in)
	})
}

// RemoveXattr removes an extended attribute.
func (w *Writer) RemoveXattr(ctx context.Context, id ID, name string) (uint64, error) {
	if opt, virtual, err := inodeOption(w.set.SB, name); virtual {
		if err != nil || opt == nil {
			return 0, err
		}
		return w.setOption(ctx, id, opt, 0, false)
	}
	return w.update(ctx, "removexattr", id.Subvol, func(o *op) error {
		in, err := o.inode(id.Inum)
		if err != nil {
			return err
		}
		if err := mayChange(&in); err != nil {
			return err
		}
		if err := o.removeXattr(id.Inum, &in, name); err != nil {
			return err
		}
		in.Ctime = o.now
		return o.putInode(id.Inum, &in)
	})
}
