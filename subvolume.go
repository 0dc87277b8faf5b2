package bcachefs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Subvolume finds files by path. Paths are relative to the root of the
// subvolume, with or without a leading slash; symlinks are resolved inside of
// it, and ".." stops at its root. Nested subvolumes are directories. Errors are
// *fs.PathError.
type Subvolume struct {
	v    *Volume
	id   uint32
	root NodeID
}

// ID is the id of the subvolume; its root directory is Node.
func (s *Subvolume) ID() uint32 { return s.id }

// Node is the root directory.
func (s *Subvolume) Node() NodeID { return s.root }

// Volume is the volume the subvolume belongs to.
func (s *Subvolume) Volume() *Volume { return s.v }

func (s *Subvolume) walk(ctx context.Context, op, path string, follow bool) (NodeID, ondisk.Inode, error) {
	id, in, err := s.v.e.Files.Walk(ctx, s.root.object(), s.root.object(), path, follow)
	if err != nil {
		return NodeID{}, in, &fs.PathError{Op: op, Path: path, Err: err}
	}
	return nodeID(id), in, nil
}

// Resolve finds the file at a path, following symlinks.
func (s *Subvolume) Resolve(ctx context.Context, path string) (NodeID, error) {
	id, _, err := s.walk(ctx, "open", path, true)
	return id, err
}

// Stat gives the attributes of the file at a path, following symlinks.
func (s *Subvolume) Stat(ctx context.Context, path string) (Attr, error) {
	id, in, err := s.walk(ctx, "stat", path, true)
	if err != nil {
		return Attr{}, err
	}
	return s.v.Files().attr(id, &in), nil
}

// Lstat is Stat without following a symlink at the end of the path.
func (s *Subvolume) Lstat(ctx context.Context, path string) (Attr, error) {
	id, in, err := s.walk(ctx, "lstat", path, false)
	if err != nil {
		return Attr{}, err
	}
	return s.v.Files().attr(id, &in), nil
}

// ReadDir lists a directory, in the order of the volume. With an error it gives
// the entries that could be read.
func (s *Subvolume) ReadDir(ctx context.Context, path string) ([]Entry, error) {
	id, _, err := s.walk(ctx, "readdir", path, true)
	if err != nil {
		return nil, err
	}
	var out []Entry
	err = s.v.Files().ReadDir(ctx, id, 0, func(e Entry) bool { out = append(out, e); return true })
	if err != nil {
		err = &fs.PathError{Op: "readdir", Path: path, Err: err}
	}
	return out, err
}

// Readlink reads the target of the symlink at a path.
func (s *Subvolume) Readlink(ctx context.Context, path string) (string, error) {
	id, _, err := s.walk(ctx, "readlink", path, false)
	if err != nil {
		return "", err
	}
	t, err := s.v.Files().Readlink(ctx, id)
	if err != nil {
		err = &fs.PathError{Op: "readlink", Path: path, Err: err}
	}
	return t, err
}

// Open opens a regular file, following symlinks.
func (s *Subvolume) Open(ctx context.Context, path string) (*File, error) {
	id, _, err := s.walk(ctx, "open", path, true)
	if err != nil {
		return nil, err
	}
	h, err := s.v.Files().Open(ctx, id)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return &File{h: h, ctx: ctx, path: path}, nil
}

// File is an open file: io.Reader, io.ReaderAt, io.Seeker, io.WriterTo and
// io.Closer. The context it was opened with ends its reads.
type File struct {
	h    *Handle
	ctx  context.Context
	path string

	mu  sync.Mutex
	off int64
}

// Handle is the file at the node level.
func (f *File) Handle() *Handle { return f.h }

// Attr gives the attributes of the file.
func (f *File) Attr() *Attr { return f.h.Attr() }

func (f *File) wrap(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &fs.PathError{Op: "read", Path: f.path, Err: err}
}

// ReadAt implements io.ReaderAt.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.h.ReadAt(f.ctx, p, off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, f.wrap(err)
}

// Read implements io.Reader.
func (f *File) Read(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	n, err := f.h.ReadAt(f.ctx, p, f.off)
	f.off += int64(n)
	if n > 0 {
		return n, f.wrap(err)
	}
	if err == nil {
		err = io.EOF
	}
	return 0, f.wrap(err)
}

// Seek implements io.Seeker.
func (f *File) Seek(off int64, whence int) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		off += f.off
	case io.SeekEnd:
		off += int64(f.h.attr.Size)
	default:
		return 0, &fs.PathError{Op: "seek", Path: f.path, Err: errors.New("bad whence")}
	}
	if off < 0 {
		return 0, &fs.PathError{Op: "seek", Path: f.path, Err: errors.New("negative position")}
	}
	f.off = off
	return off, nil
}

// Close implements io.Closer. There is nothing to do.
func (f *File) Close() error { return nil }
