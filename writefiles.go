package bcachefs

import (
	"context"
	"syscall"
	"time"

	"github.com/gobcachefs/gobcachefs/internal/objects"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// WriteFiles is Files with what changes them. The methods correspond to system
// calls, made by root: permissions are the caller's to check, but immutable and
// append-only files are protected (EPERM), and so are read-only subvolumes
// (EROFS). Each is one transaction unless it says otherwise.
type WriteFiles struct {
	*Files
	v *WritableVolume
}

// NewFile describes a file to make.
type NewFile struct {
	Mode                 uint32 // type and permissions, Linux encoding
	UID, GID             uint32
	RdevMajor, RdevMinor uint32 // of character and block devices
	Target               string // of a symlink
	// Times; zero is now.
	Atime, Mtime, Ctime, Btime time.Time
	Xattrs                     []Xattr
	// Inherit makes the file as a system call would: the group of a directory with
	// the setgid bit, the ACLs of one with a default ACL, else Mode without the
	// bits of Umask. Otherwise everything is as it is said here, for copies.
	Inherit bool
	Umask   uint32
}

func (n *NewFile) spec() objects.Spec {
	s := objects.Spec{Mode: uint16(n.Mode), UID: n.UID, GID: n.GID, RdevMajor: n.RdevMajor, RdevMinor: n.RdevMinor, Target: []byte(n.Target),
		Atime: n.Atime, Mtime: n.Mtime, Ctime: n.Ctime, Otime: n.Btime, Inherit: n.Inherit, Umask: uint16(n.Umask)}
	for _, x := range n.Xattrs {
		s.Xattrs = append(s.Xattrs, objects.Xattr{Name: x.Name, Value: x.Value})
	}
	return s
}

// typeOf checks the type of a new file; no type is a regular file.
func (n *NewFile) typeOf() error {
	switch n.Mode & ondisk.ModeTypeMask {
	case 0:
		n.Mode |= ondisk.ModeRegular
	case ondisk.ModeSymlink:
		if n.Target == "" {
			return syscall.ENOENT
		}
		if len(n.Target) > symlinkMax {
			return syscall.ENAMETOOLONG
		}
	case ondisk.ModeRegular, ondisk.ModeDir, ondisk.ModeChar, ondisk.ModeBlock, ondisk.ModeFifo, ondisk.ModeSocket:
	default:
		return syscall.EINVAL
	}
	if n.Mode > 0xffff || n.RdevMajor >= 1<<12 || n.RdevMinor >= 1<<20 {
		return syscall.EINVAL
	}
	return nil
}

// symlinkMax is the longest target of a symlink that Linux shows.
const symlinkMax = 4095

// Create makes a file of any type as a name in a directory: open(O_CREAT|O_EXCL),
// mkdir, symlink and mknod. EEXIST when there is the name.
func (f *WriteFiles) Create(ctx context.Context, dir NodeID, name string, n NewFile) (Attr, error) {
	if err := n.typeOf(); err != nil {
		return Attr{}, err
	}
	var a Attr
	err := f.v.do(ctx, func(ctx context.Context) (uint64, error) {
		s := n.spec()
		var id objects.ID
		var seq uint64
		var err error
		if len(s.Target) > f.v.w.InlineMax() {
			id, seq, err = f.v.w.Put(ctx, dir.object(), []byte(name), s, nil, false)
		} else {
			id, seq, err = f.v.w.Create(ctx, dir.object(), []byte(name), s)
		}
		if err == nil {
			a, err = f.Getattr(ctx, nodeID(id))
		}
		return seq, err
	})
	return a, err
}

// Body is the data of a file to Put. Offsets only grow, so that a stream can be
// one.
type Body interface {
	// Next gives the first range [from, to) of data at or after off; ok is false
	// when there is none before the end of the file.
	Next(off int64) (from, to int64, ok bool, err error)
	// ReadAt fills p, all of it. What it asks for lies within the size of the
	// file; holes read as zeros.
	ReadAt(p []byte, off int64) error
}

// ZeroHoles wraps a Body that does not know its holes: blocks of zeros become
// some.
func ZeroHoles(b Body) Body { return objects.ZeroHoles{Body: b} }

// Put makes a regular file of size bytes with all its data, or any file but a
// directory without (body nil), as a name in a directory. The name appears when
// everything is there; with replace it takes the place of a file that is not a
// directory. If Put fails, nothing is left of the file. Unlike other operations
// it ends in the middle when ctx does.
func (f *WriteFiles) Put(ctx context.Context, dir NodeID, name string, n NewFile, size uint64, body Body, replace bool) (Attr, error) {
	if err := n.typeOf(); err != nil {
		return Attr{}, err
	}
	var a Attr
	err := f.v.do(ctx, func(whole context.Context) (uint64, error) {
		s := n.spec()
		s.Size = size
		id, seq, err := f.v.w.Put(ctx, dir.object(), []byte(name), s, body, replace)
		if err == nil {
			a, err = f.Getattr(whole, nodeID(id))
		}
		return seq, err
	})
	return a, err
}

// Link gives a file another name: EPERM for directories, EXDEV for a directory of
// another subvolume or with other options than the file has.
func (f *WriteFiles) Link(ctx context.Context, file, dir NodeID, name string) error {
	return f.v.do(ctx, func(ctx context.Context) (uint64, error) {
		return f.v.w.Link(ctx, file.object(), dir.object(), []byte(name))
	})
}

// Unlink removes a name of a file; with the last one the file goes. EISDIR for
// directories. A large file takes several transactions to go, the first of which
// removes the name.
func (f *WriteFiles) Unlink(ctx context.Context, dir NodeID, name string) error {
	return f.v.do(ctx, func(ctx context.Context) (uint64, error) {
		return f.v.w.Unlink(ctx, dir.object(), []byte(name))
	})
}

// Rmdir removes an empty directory: ENOTEMPTY, ENOTDIR; EBUSY for a subvolume.
func (f *WriteFiles) Rmdir(ctx context.Context, dir NodeID, name string) error {
	return f.v.do(ctx, func(ctx context.Context) (uint64, error) {
		return f.v.w.Rmdir(ctx, dir.object(), []byte(name))
	})
}

// Flags of Rename, the numbers of renameat2(2).
const (
	RenameNoReplace = objects.RenameNoReplace // EEXIST rather than replace
	RenameExchange  = objects.RenameExchange  // both must exist, and change places
)

// Rename moves a name: rename(2). EXDEV for a directory of another subvolume, and
// for a directory that would get other options in its new place.
func (f *WriteFiles) Rename(ctx context.Context, oldDir NodeID, oldName string, newDir NodeID, newName string, flags int) error {
	if flags&^(RenameNoReplace|RenameExchange) != 0 || flags == RenameNoReplace|RenameExchange {
		return syscall.EINVAL
	}
	return f.v.do(ctx, func(ctx context.Context) (uint64, error) {
		return f.v.w.Rename(ctx, oldDir.object(), []byte(oldName), newDir.object(), []byte(newName), flags)
	})
}

// SetAttr says which attributes of a file to change; nil ones stay.
type SetAttr struct {
	Mode     *uint32 // permissions with setuid, setgid and sticky, 0 to 07777
	UID, GID *uint32
	Size     *uint64
	Atime    *time.Time
	Mtime    *time.Time
	Ctime    *time.Time // nil: now
	Flags    *AttrFlags // without Casefold, which is an option
	Project  *uint32
}

// Setattr changes attributes: chmod, chown, truncate, utimensat and the flags of
// chattr. chmod changes the access ACL, too (EOPNOTSUPP for symlinks). chown takes
// setuid, setgid and capabilities from a file, as the system does, before Mode is
// set. Size is changed first, in transactions of its own.
func (f *WriteFiles) Setattr(ctx context.Context, id NodeID, s SetAttr) (Attr, error) {
	if s.Size != nil {
		if err := f.Truncate(ctx, id, *s.Size); err != nil {
			return Attr{}, err
		}
	}
	oa := objects.Attrs{UID: s.UID, GID: s.GID, Atime: s.Atime, Mtime: s.Mtime, Ctime: s.Ctime, Project: s.Project}
	if s.Mode != nil {
		if *s.Mode&^0o7777 != 0 {
			return Attr{}, syscall.EINVAL
		}
		m := uint16(*s.Mode)
		oa.Mode = &m
	}
	if s.Flags != nil {
		oa.FlagMask = ondisk.InodeSync | ondisk.InodeImmutable | ondisk.InodeAppend | ondisk.InodeNodump | ondisk.InodeNoatime
		for _, x := range []struct {
			on  bool
			bit uint64
		}{{s.Flags.Sync, ondisk.InodeSync}, {s.Flags.Immutable, ondisk.InodeImmutable}, {s.Flags.Append, ondisk.InodeAppend}, {s.Flags.Nodump, ondisk.InodeNodump}, {s.Flags.Noatime, ondisk.InodeNoatime}} {
			if x.on {
				oa.Flags |= x.bit
			}
		}
	}
	var a Attr
	err := f.v.do(ctx, func(ctx context.Context) (seq uint64, err error) {
		size := s
		size.Size = nil
		if s.Size == nil || size != (SetAttr{}) {
			if seq, err = f.v.w.Setattr(ctx, id.object(), oa); err != nil {
				return seq, err
			}
		}
		a, err = f.Getattr(ctx, id)
		return seq, err
	})
	return a, err
}

// Truncate sets the size of a regular file; growing makes a hole. A crash in the
// middle is finished at the next opening.
func (f *WriteFiles) Truncate(ctx context.Context, id NodeID, size uint64) error {
	if size > maxFileSize {
		return syscall.EFBIG
	}
	defer f.v.lockData(id)()
	return f.v.do(ctx, func(ctx context.Context) (uint64, error) {
		return f.v.w.Truncate(ctx, id.object(), size)
	})
}

// maxFileSize is the largest size of a file.
const maxFileSize = 1<<63 - 1

// WriteAt writes p into a regular file from byte off on, which grows as needed.
// It appears a mebibyte at a time, each in one transaction: n says how much did.
// Setuid, setgid and capabilities stay: they are the caller's to take away.
func (f *WriteFiles) WriteAt(ctx context.Context, id NodeID, p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, syscall.EINVAL
	}
	if uint64(len(p)) > maxFileSize-uint64(off) {
		return 0, syscall.EFBIG
	}
	defer f.v.lockData(id)()
	const step = 1 << 20
	for n < len(p) && err == nil {
		q := p[n:min(len(p), n+step-int(off%step))]
		err = f.v.do(ctx, func(ctx context.Context) (uint64, error) {
			return f.v.w.WriteAt(ctx, id.object(), q, uint64(off))
		})
		if err == nil {
			n, off = n+len(q), off+int64(len(q))
		}
	}
	return n, err
}

// Flags of SetXattr, the numbers of setxattr(2).
const (
	XattrCreate  = objects.XattrCreate  // EEXIST if there is one
	XattrReplace = objects.XattrReplace // ENODATA if there is none
)

// SetXattr stores an extended attribute. POSIX ACLs have the form of the system
// calls; an access ACL sets the mode, and is not stored if it says no more than
// that. bcachefs.OPTION sets an option of the file. Errors: ERANGE for what does
// not fit, ENOTSUP for a name without a prefix that is known.
func (f *WriteFiles) SetXattr(ctx context.Context, id NodeID, name string, value []byte, flags int) error {
	return f.v.do(ctx, func(ctx context.Context) (uint64, error) {
		return f.v.w.SetXattr(ctx, id.object(), name, value, flags)
	})
}

// RemoveXattr removes an extended attribute: ENODATA if there is none. For
// bcachefs.OPTION the file goes back to the option of its directory.
func (f *WriteFiles) RemoveXattr(ctx context.Context, id NodeID, name string) error {
	return f.v.do(ctx, func(ctx context.Context) (uint64, error) {
		return f.v.w.RemoveXattr(ctx, id.object(), name)
	})
}

// Reinherit gives a file the options of a directory as far as they were not set
// on it, and reports whether any changed.
func (f *WriteFiles) Reinherit(ctx context.Context, id, dir NodeID) (changed bool, err error) {
	err = f.v.do(ctx, func(ctx context.Context) (seq uint64, err error) {
		changed, seq, err = f.v.w.Reinherit(ctx, id.object(), dir.object())
		return seq, err
	})
	return changed, err
}

// Sync is WritableVolume.Sync: everything that was done before is durable then.
func (f *WriteFiles) Sync(ctx context.Context) error { return f.v.Sync(ctx) }

// CreateSubvolume makes an empty subvolume as a name in a directory and returns
// its root directory.
func (f *WriteFiles) CreateSubvolume(ctx context.Context, dir NodeID, name string, n NewFile) (Attr, error) {
	return f.subvolume(ctx, func(ctx context.Context) (objects.ID, uint64, error) {
		return f.v.w.CreateSubvolume(ctx, dir.object(), []byte(name), uint16(n.Mode&0o7777), n.UID, n.GID)
	})
}

// Snapshot makes a snapshot of a subvolume as a name in a directory and returns
// its root directory.
func (f *WriteFiles) Snapshot(ctx context.Context, subvol uint32, dir NodeID, name string, readOnly bool) (Attr, error) {
	return f.subvolume(ctx, func(ctx context.Context) (objects.ID, uint64, error) {
		return f.v.w.Snapshot(ctx, subvol, dir.object(), []byte(name), readOnly)
	})
}

func (f *WriteFiles) subvolume(ctx context.Context, make func(context.Context) (objects.ID, uint64, error)) (Attr, error) {
	var a Attr
	err := f.v.do(ctx, func(ctx context.Context) (uint64, error) {
		id, seq, err := make(ctx)
		if err == nil {
			a, err = f.Getattr(ctx, nodeID(id))
		}
		return seq, err
	})
	return a, err
}

// DeleteSubvolume removes a subvolume, by its name in a directory, with all that
// is in it and in no other: ENOTEMPTY if it holds other subvolumes, ENOENT if it
// is none. It takes several transactions, the first of which removes the name.
func (f *WriteFiles) DeleteSubvolume(ctx context.Context, dir NodeID, name string) error {
	return f.v.do(ctx, func(ctx context.Context) (uint64, error) {
		return f.v.w.DeleteSubvolume(ctx, dir.object(), []byte(name))
	})
}
