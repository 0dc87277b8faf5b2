package bcachefs

import (
	"context"
	"time"

	"github.com/gobcachefs/gobcachefs/internal/data"
	"github.com/gobcachefs/gobcachefs/internal/objects"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// NodeID names a file for good: the same inode number in another subvolume is
// another file.
type NodeID struct {
	Subvol uint32
	Inode  uint64
}

// Attr is what stat(2) and statx(2) tell of a file.
type Attr struct {
	ID NodeID
	// Ino is the number to show as st_ino: unique within the volume, and a
	// function of ID alone. See Ino.
	Ino        uint64
	Mode       uint32 // type and permissions, Linux encoding
	Nlink      uint32
	UID, GID   uint32
	RdevMajor  uint32 // character and block devices
	RdevMinor  uint32
	Size       uint64 // bytes
	Blocks     uint64 // allocated, in sectors of 512 bytes
	BlockSize  uint32 // bytes, preferred size of I/O
	Atime      time.Time
	Mtime      time.Time
	Ctime      time.Time
	Btime      time.Time // creation
	Generation uint32
	Project    uint32 // project quota id
	Flags      AttrFlags
	Unlinked   bool   // no name left
	SubvolRoot uint32 // root directory of this subvolume, else 0
}

// AttrFlags are the flags of chattr(1) that bcachefs stores.
type AttrFlags struct {
	Sync, Immutable, Append, Nodump, Noatime, Casefold bool
}

// IsDir, IsRegular and IsSymlink tell the type of the file.
func (a *Attr) IsDir() bool     { return a.Mode&ondisk.ModeTypeMask == ondisk.ModeDir }
func (a *Attr) IsRegular() bool { return a.Mode&ondisk.ModeTypeMask == ondisk.ModeRegular }
func (a *Attr) IsSymlink() bool { return a.Mode&ondisk.ModeTypeMask == ondisk.ModeSymlink }

// Files is the node level of a volume: no paths, no state, no open-file table.
// FUSE and other servers translate to it. The methods correspond to system
// calls; errors that a caller of those would expect are syscall.Errno values in
// the chain (errs.Errno finds them).
type Files struct {
	v  *Volume
	fs *objects.FS
}

// Root is the root directory of the volume.
func (f *Files) Root() NodeID { return nodeID(objects.Root) }

func (id NodeID) object() objects.ID { return objects.ID{Subvol: id.Subvol, Inum: id.Inode} }

func nodeID(id objects.ID) NodeID { return NodeID{id.Subvol, id.Inum} }

// Getattr reads the attributes of a file; ENOENT when there is none.
func (f *Files) Getattr(ctx context.Context, id NodeID) (Attr, error) {
	in, err := f.fs.Inode(ctx, id.object())
	if err != nil {
		return Attr{}, err
	}
	return f.attr(id, &in), nil
}

func (f *Files) attr(id NodeID, in *ondisk.Inode) Attr {
	a := Attr{
		ID: id, Ino: Ino(id), Mode: uint32(in.Mode), Nlink: in.Links(), UID: in.UID, GID: in.GID,
		Size: in.Size, Blocks: in.Sectors, BlockSize: uint32(f.v.e.Set.SB.BlockSize) * 512,
		Atime: f.fs.Time(in.Atime), Mtime: f.fs.Time(in.Mtime), Ctime: f.fs.Time(in.Ctime), Btime: f.fs.Time(in.Otime),
		Generation: in.Generation, Unlinked: in.Unlinked(), SubvolRoot: in.Subvol,
	}
	if in.Project != 0 {
		a.Project = in.Project - 1
	}
	switch in.Mode & ondisk.ModeTypeMask {
	case ondisk.ModeChar, ondisk.ModeBlock:
		a.RdevMajor, a.RdevMinor = in.DeviceNumber()
	case ondisk.ModeDir:
		a.Size = uint64(a.BlockSize) // the stored size of a directory means nothing
	}
	a.Flags = AttrFlags{
		Sync: in.Flags&ondisk.InodeSync != 0, Immutable: in.Flags&ondisk.InodeImmutable != 0, Append: in.Flags&ondisk.InodeAppend != 0,
		Nodump: in.Flags&ondisk.InodeNodump != 0, Noatime: in.Flags&ondisk.InodeNoatime != 0, Casefold: f.fs.Casefolded(in),
	}
	return a
}

// Lookup finds a name in a directory: ENOENT, ENOTDIR, ENAMETOOLONG.
func (f *Files) Lookup(ctx context.Context, dir NodeID, name string) (Attr, error) {
	in, err := f.fs.Inode(ctx, dir.object())
	if err != nil {
		return Attr{}, err
	}
	e, err := f.fs.Lookup(ctx, dir.object(), &in, []byte(name))
	if err != nil {
		return Attr{}, err
	}
	return f.Getattr(ctx, nodeID(e.ID))
}

// Entry is an entry of a directory.
type Entry struct {
	Name   string
	ID     NodeID
	Ino    uint64 // as Attr.Ino of the file
	Type   uint32 // type bits of Attr.Mode
	Subvol bool   // the entry is the root of a subvolume
	// Cookie is the value to give ReadDir to go on behind this entry. It stays
	// valid for the life of the entry, also over a remount.
	Cookie uint64
}

// ReadDir calls yield with the entries of a directory behind a cookie (0: from
// the start) until it returns false. "." and ".." are left to the caller; no
// entry has a cookie below 3. Entries that cannot be read are skipped; then, at
// the end, the error tells.
func (f *Files) ReadDir(ctx context.Context, dir NodeID, after uint64, yield func(Entry) bool) error {
	in, err := f.fs.Inode(ctx, dir.object())
	if err != nil {
		return err
	}
	var first error
	err = f.fs.ReadDir(ctx, dir.object(), &in, after, func(e objects.DirEntry) bool {
		id := nodeID(e.ID)
		return yield(Entry{Name: string(e.Name), ID: id, Ino: Ino(id), Type: uint32(e.Type) << 12, Subvol: e.Subvol, Cookie: e.Cookie})
	}, func(err error) {
		if first == nil {
			first = err
		}
	})
	if err == nil {
		err = first
	}
	return err
}

// Parent is the directory that holds the file: ".." of a directory. The root of
// the volume is its own parent; a file without a known name gives ENOENT.
func (f *Files) Parent(ctx context.Context, id NodeID) (NodeID, error) {
	p, err := f.fs.Parent(ctx, id.object())
	return nodeID(p), err
}

// Path finds one path of a file, for messages.
func (f *Files) Path(ctx context.Context, id NodeID) (string, error) {
	return f.fs.Path(ctx, id.object())
}

// Readlink reads the target of a symlink; EINVAL for other files.
func (f *Files) Readlink(ctx context.Context, id NodeID) (string, error) {
	in, err := f.fs.Inode(ctx, id.object())
	if err != nil {
		return "", err
	}
	b, err := f.fs.Readlink(ctx, id.object(), &in)
	return string(b), err
}

// ListXattr lists the names of the extended attributes of a file, full names
// such as "user.mime", the virtual bcachefs.* ones last.
func (f *Files) ListXattr(ctx context.Context, id NodeID) ([]string, error) {
	in, err := f.fs.Inode(ctx, id.object())
	if err != nil {
		return nil, err
	}
	return f.fs.Xattrs(ctx, id.object(), &in)
}

// GetXattr reads an extended attribute; the error is errs.NoData (ENODATA) when
// there is none. POSIX ACLs have the form of the system calls.
func (f *Files) GetXattr(ctx context.Context, id NodeID, name string) ([]byte, error) {
	in, err := f.fs.Inode(ctx, id.object())
	if err != nil {
		return nil, err
	}
	return f.fs.Xattr(ctx, id.object(), &in, name)
}

// Suspect tells why what was read of a file may be wrong: with Options.Salvage,
// a btree node with a bad checksum was used for it. nil when nothing is known
// against it. Ask after reading.
func (f *Files) Suspect(id NodeID) error { return f.fs.Suspect(id.Inode) }

// Handle reads the data of one file. Safe for concurrent use. There is nothing
// to close.
type Handle struct {
	f    *Files
	file data.File
	attr Attr
}

// Open prepares reading a regular file (or a symlink's target): EISDIR for
// directories, EINVAL for others.
func (f *Files) Open(ctx context.Context, id NodeID) (*Handle, error) {
	in, err := f.fs.Inode(ctx, id.object())
	if err != nil {
		return nil, err
	}
	if err := openable(in.Mode); err != nil {
		return nil, err
	}
	file, err := f.fs.File(id.object(), &in)
	if err != nil {
		return nil, err
	}
	return &Handle{f: f, file: file, attr: f.attr(id, &in)}, nil
}

// Attr gives the attributes the file had when it was opened.
func (h *Handle) Attr() *Attr { return &h.attr }

// ReadAt fills p from a byte offset on and says how many bytes it filled: less
// than len(p) only at the end of the file, where err is nil, or with an error.
// Bytes before the first that could not be read are valid.
func (h *Handle) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	return h.f.fs.Data().ReadAt(ctx, h.file, p, off)
}

// SeekData finds the first data at or after off; ENXIO behind the last.
func (h *Handle) SeekData(ctx context.Context, off int64) (int64, error) {
	return h.seek(ctx, off, false)
}

// SeekHole finds the first hole at or after off; the end of the file is one.
func (h *Handle) SeekHole(ctx context.Context, off int64) (int64, error) {
	return h.seek(ctx, off, true)
}
