package objects

import (
	"context"
	"syscall"
	"time"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Attrs says which attributes of a file to change; nil ones stay.
type Attrs struct {
	Mode         *uint16 // permission bits with setuid, setgid, sticky
	UID, GID     *uint32
	Atime, Mtime *time.Time
	Ctime        *time.Time // nil: now
	// Flags are the new values of the flags in FlagMask: ondisk.InodeSync,
	// InodeImmutable, InodeAppend, InodeNodump, InodeNoatime.
	Flags, FlagMask uint64
	Project         *uint32
}

const userFlags = ondisk.InodeSync | ondisk.InodeImmutable | ondisk.InodeAppend | ondisk.InodeNodump | ondisk.InodeNoatime

// Setattr changes attributes of a file (chapter 04 section 12). A change of the
// mode rewrites the access ACL; a change of the owner takes setuid and setgid
// from a regular file, unless Mode says otherwise, and its capabilities.
func (w *Writer) Setattr(ctx context.Context, id ID, a Attrs) (uint64, error) {
	return w.update(ctx, "setattr", id.Subvol, func(o *op) error {
		in, err := o.inode(id.Inum)
		if err != nil {
			return err
		}
		if a.FlagMask&^userFlags != 0 {
			return syscall.EINVAL
		}
		if a.FlagMask&a.Flags&(ondisk.InodeNodump|ondisk.InodeNoatime) != 0 && !in.IsDir() && !in.IsRegular() {
			return syscall.EINVAL
		}
		in.Flags = in.Flags&^a.FlagMask | a.Flags&a.FlagMask
		if a.Mode != nil || a.UID != nil || a.GID != nil || a.Atime != nil || a.Mtime != nil || a.Project != nil {
			if err := mayChange(&in); err != nil {
				return err
			}
		}
		if a.UID != nil || a.GID != nil {
			if !in.IsDir() {
				if err := o.dropPrivileges(id.Inum, &in); err != nil {
					return err
				}
			}
			if a.UID != nil {
				in.UID = *a.UID
			}
			if a.GID != nil {
				in.GID = *a.GID
			}
		}
		if a.Mode != nil {
			if in.IsSymlink() {
				return syscall.EOPNOTSUPP
			}
			if err := o.chmod(id.Inum, &in, *a.Mode&0o7777); err != nil {
				return err
			}
		}
		if a.Project != nil {
			if *a.Project == ^uint32(0) {
				return syscall.EINVAL
			}
			in.Project = *a.Project + 1
			in.FieldsSet |= 1 << ondisk.InodeOptProject
		}
		if a.Atime != nil {
			in.Atime = w.Stored(*a.Atime)
		}
		if a.Mtime != nil {
			in.Mtime = w.Stored(*a.Mtime)
		}
		in.Ctime = o.now
		if a.Ctime != nil {
			in.Ctime = w.Stored(*a.Ctime)
		}
		return o.putInode(id.Inum, &in)
	})
}

// dropPrivileges takes from a file what gives its owner's rights to who runs it.
func (o *op) dropPrivileges(inum uint64, in *ondisk.Inode) error {
	const setuid, setgid, groupExec = 0o4000, 0o2000, 0o010
	if in.IsRegular() {
		in.Mode &^= setuid
		if in.Mode&groupExec != 0 {
			in.Mode &^= setgid
		}
	}
	err := o.removeXattr(inum, in, "security.capability")
	if err == errs.NoData {
		err = nil
	}
	return err
}

// mayChange refuses changes of a file that is immutable or append-only.
func mayChange(in *ondisk.Inode) error {
	if in.Flags&(ondisk.InodeImmutable|ondisk.InodeAppend) != 0 {
		return syscall.EPERM
	}
	return nil
}

// mayEnter refuses new names in a directory that is immutable, or gone.
func mayEnter(dir *ondisk.Inode) error {
	switch {
	case dir.Unlinked():
		return syscall.ENOENT
	case dir.Flags&ondisk.InodeImmutable != 0:
		return syscall.EPERM
	}
	return nil
}

// mayLeave refuses to take a name of a file off a directory.
func mayLeave(dir, in *ondisk.Inode) error {
	if err := mayChange(dir); err != nil {
		return err
	}
	return mayChange(in)
}
