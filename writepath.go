package bcachefs

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"syscall"

	"github.com/gobcachefs/gobcachefs/internal/objects"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// WritableSubvolume changes files by path. Paths are those of Subvolume; the
// errors are *fs.PathError.
type WritableSubvolume struct {
	*Subvolume
	f *WriteFiles
}

// Files is the node level.
func (s *WritableSubvolume) Files() *WriteFiles { return s.f }

// Parent finds the directory that a path leads to the last name of, and that
// name. dir tells that the path ends with a slash, so what it names must be a
// directory. The root itself, "." and ".." at the end are EBUSY: they are not
// names that can be made or removed.
func (s *WritableSubvolume) Parent(ctx context.Context, op, path string) (parent NodeID, name string, dir bool, err error) {
	p := strings.TrimRight(path, "/")
	dir = p != path
	up, name := "", p
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		up, name = p[:i+1], p[i+1:]
	}
	switch {
	case path == "":
		return NodeID{}, "", dir, &fs.PathError{Op: op, Path: path, Err: syscall.ENOENT}
	case name == "" || name == "." || name == "..":
		return NodeID{}, "", dir, &fs.PathError{Op: op, Path: path, Err: syscall.EBUSY}
	}
	id, in, err := s.v.e.Files.Walk(ctx, s.root.object(), s.root.object(), up, true)
	if err == nil && !in.IsDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return NodeID{}, "", dir, &fs.PathError{Op: op, Path: path, Err: err}
	}
	return nodeID(id), name, dir, nil
}

func wrapPath(op, path string, err error) error {
	var pe *fs.PathError
	if err == nil || errors.As(err, &pe) {
		return err
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// Create makes a file of any type.
func (s *WritableSubvolume) Create(ctx context.Context, path string, n NewFile) (Attr, error) {
	op := "create"
	if n.Mode&ondisk.ModeTypeMask == ondisk.ModeDir {
		op = "mkdir"
	}
	parent, name, dir, err := s.Parent(ctx, op, path)
	if err != nil {
		if errors.Is(err, syscall.EBUSY) {
			err = &fs.PathError{Op: op, Path: path, Err: syscall.EEXIST}
		}
		return Attr{}, err
	}
	if dir && op != "mkdir" {
		return Attr{}, &fs.PathError{Op: op, Path: path, Err: syscall.ENOTDIR}
	}
	a, err := s.f.Create(ctx, parent, name, n)
	return a, wrapPath(op, path, err)
}

// Mkdir makes a directory with what NewFile says of permissions and owner.
func (s *WritableSubvolume) Mkdir(ctx context.Context, path string, n NewFile) (Attr, error) {
	n.Mode = n.Mode&0o7777 | ondisk.ModeDir
	return s.Create(ctx, path, n)
}

// MkdirAll makes a directory and those above it that are missing; those get the
// permissions with which their owner can go on. made are the paths that were made.
func (s *WritableSubvolume) MkdirAll(ctx context.Context, path string, n NewFile) (made []string, err error) {
	if a, err := s.Stat(ctx, path); err == nil {
		if !a.IsDir() {
			return nil, &fs.PathError{Op: "mkdir", Path: path, Err: syscall.EEXIST}
		}
		return nil, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	p := strings.TrimRight(path, "/")
	if i := strings.LastIndexByte(p, '/'); i > 0 {
		up := n
		up.Mode = up.Mode | 0o300
		if made, err = s.MkdirAll(ctx, p[:i], up); err != nil {
			return made, err
		}
	}
	if last := p[strings.LastIndexByte(p, '/')+1:]; last == "." || last == ".." {
		return made, nil
	}
	if _, err := s.Mkdir(ctx, p, n); err != nil {
		return made, err
	}
	return append(made, p), nil
}

// Link gives the file at a path another name. A symlink at the end of the old
// path is followed or itself linked.
func (s *WritableSubvolume) Link(ctx context.Context, oldPath, newPath string, follow bool) error {
	id, _, err := s.walk(ctx, "link", oldPath, follow)
	if err != nil {
		return err
	}
	parent, name, dir, err := s.Parent(ctx, "link", newPath)
	if err != nil {
		return err
	}
	if dir {
		return &fs.PathError{Op: "link", Path: newPath, Err: syscall.ENOENT}
	}
	return wrapPath("link", newPath, s.f.Link(ctx, id, parent, name))
}

// Remove removes a file or an empty directory.
func (s *WritableSubvolume) Remove(ctx context.Context, path string) error {
	parent, name, dir, err := s.Parent(ctx, "remove", path)
	if err != nil {
		return err
	}
	if !dir {
		if err = s.f.Unlink(ctx, parent, name); err == nil {
			return nil
		}
	}
	if dir || errors.Is(err, syscall.EISDIR) {
		err = s.f.Rmdir(ctx, parent, name)
	}
	return wrapPath("remove", path, err)
}

// Rename moves what is at a path to another.
func (s *WritableSubvolume) Rename(ctx context.Context, oldPath, newPath string, flags int) error {
	op, on, od, err := s.Parent(ctx, "rename", oldPath)
	if err != nil {
		return err
	}
	np, nn, nd, err := s.Parent(ctx, "rename", newPath)
	if err != nil {
		return err
	}
	if od || nd {
		// A slash at the end wants a directory.
		a, err := s.f.Lookup(ctx, op, on)
		if err == nil && !a.IsDir() {
			err = syscall.ENOTDIR
		}
		if err != nil {
			return wrapPath("rename", oldPath, err)
		}
	}
	return wrapPath("rename", oldPath, s.f.Rename(ctx, op, on, np, nn, flags))
}

// Setattr changes attributes of the file at a path; follow says what to do with a
// symlink at its end.
func (s *WritableSubvolume) Setattr(ctx context.Context, path string, follow bool, set SetAttr) (Attr, error) {
	id, _, err := s.walk(ctx, "setattr", path, follow)
	if err != nil {
		return Attr{}, err
	}
	a, err := s.f.Setattr(ctx, id, set)
	return a, wrapPath("setattr", path, err)
}

// WriteFile makes a regular file with the data, or replaces one with all its
// attributes.
func (s *WritableSubvolume) WriteFile(ctx context.Context, path string, data []byte, n NewFile) (Attr, error) {
	parent, name, dir, err := s.Parent(ctx, "write", path)
	if err == nil && dir {
		err = &fs.PathError{Op: "write", Path: path, Err: syscall.EISDIR}
	}
	if err != nil {
		return Attr{}, err
	}
	n.Mode = n.Mode&0o7777 | ondisk.ModeRegular
	a, err := s.f.Put(ctx, parent, name, n, uint64(len(data)), objects.Bytes(data), true)
	return a, wrapPath("write", path, err)
}
