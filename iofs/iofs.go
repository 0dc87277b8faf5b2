// Package iofs shows a subvolume as an fs.FS, so that everything in Go that
// works on file systems works on bcachefs volumes: fs.WalkDir, http.FileServerFS,
// template.ParseFS, archive/tar's AddFS and so on.
//
// Names follow fs.ValidPath: relative, slash separated, UTF-8. Files whose names
// are not valid UTF-8 show in listings but cannot be opened by path. Symlinks
// are followed inside of the subvolume.
package iofs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gobcachefs/gobcachefs"
)

// FS implements fs.FS, fs.ReadDirFS, fs.StatFS, fs.ReadFileFS, fs.ReadLinkFS
// and fs.SubFS. Safe for concurrent use.
type FS struct {
	ctx context.Context
	s   *bcachefs.Subvolume
	dir string
}

// New shows a subvolume. ctx ends the I/O of everything opened from it.
func New(ctx context.Context, s *bcachefs.Subvolume) *FS { return &FS{ctx: ctx, s: s, dir: "."} }

var (
	_ fs.ReadDirFS  = (*FS)(nil)
	_ fs.StatFS     = (*FS)(nil)
	_ fs.ReadFileFS = (*FS)(nil)
	_ fs.ReadLinkFS = (*FS)(nil)
	_ fs.SubFS      = (*FS)(nil)
)

// full is the path of a name in the subvolume.
func (f *FS) full(op, name string) (string, error) {
	if !fs.ValidPath(name) {
		return "", &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	return path.Join(f.dir, name), nil
}

// renamed gives an error the name the caller used.
func renamed(err error, op, name string) error {
	if err == nil {
		return nil
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// Open opens a file or directory.
func (f *FS) Open(name string) (fs.File, error) {
	p, err := f.full("open", name)
	if err != nil {
		return nil, err
	}
	a, err := f.s.Stat(f.ctx, p)
	if err != nil {
		return nil, renamed(err, "open", name)
	}
	i := info{path.Base(name), a}
	if a.IsDir() {
		return &dir{f: f, info: i, name: name}, nil
	}
	if !a.IsRegular() {
		return &special{i, name}, nil
	}
	file, err := f.s.Open(f.ctx, p)
	if err != nil {
		return nil, renamed(err, "open", name)
	}
	return &regular{file, i}, nil
}

// Stat describes a file, following symlinks.
func (f *FS) Stat(name string) (fs.FileInfo, error) {
	p, err := f.full("stat", name)
	if err != nil {
		return nil, err
	}
	a, err := f.s.Stat(f.ctx, p)
	if err != nil {
		return nil, renamed(err, "stat", name)
	}
	return info{path.Base(name), a}, nil
}

// Lstat describes a file without following a symlink at the end.
func (f *FS) Lstat(name string) (fs.FileInfo, error) {
	p, err := f.full("lstat", name)
	if err != nil {
		return nil, err
	}
	a, err := f.s.Lstat(f.ctx, p)
	if err != nil {
		return nil, renamed(err, "lstat", name)
	}
	return info{path.Base(name), a}, nil
}

// ReadLink reads the target of a symlink.
func (f *FS) ReadLink(name string) (string, error) {
	p, err := f.full("readlink", name)
	if err != nil {
		return "", err
	}
	t, err := f.s.Readlink(f.ctx, p)
	return t, renamed(err, "readlink", name)
}

// ReadDir lists a directory, sorted by name. With an error it gives what could
// be read.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	p, err := f.full("readdir", name)
	if err != nil {
		return nil, err
	}
	es, err := f.s.ReadDir(f.ctx, p)
	list := make([]fs.DirEntry, 0, len(es))
	for _, e := range es {
		list = append(list, &entry{f, e})
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list, renamed(err, "readdir", name)
}

// ReadFile reads a whole file.
func (f *FS) ReadFile(name string) ([]byte, error) {
	p, err := f.full("read", name)
	if err != nil {
		return nil, err
	}
	file, err := f.s.Open(f.ctx, p)
	if err != nil {
		return nil, renamed(err, "read", name)
	}
	// The size is what the volume claims: let memory follow what is really there.
	const step = 16 << 20
	size := int64(file.Attr().Size)
	b := make([]byte, min(size, step))
	n := 0
	for {
		m, err := file.ReadAt(b[n:], int64(n))
		n += m
		if err != nil && err != io.EOF {
			return b[:n], renamed(err, "read", name)
		}
		if int64(n) >= size || m == 0 {
			return b[:n], nil
		}
		if n == len(b) {
			b = append(b, make([]byte, min(size-int64(n), int64(len(b))))...)
		}
	}
}

// Sub gives the tree below a directory.
func (f *FS) Sub(name string) (fs.FS, error) {
	p, err := f.full("sub", name)
	if err != nil {
		return nil, err
	}
	return &FS{f.ctx, f.s, p}, nil
}

// info implements fs.FileInfo; Sys gives the bcachefs.Attr.
type info struct {
	name string
	a    bcachefs.Attr
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return int64(i.a.Size) }
func (i info) Mode() fs.FileMode  { return Mode(i.a.Mode) }
func (i info) ModTime() time.Time { return i.a.Mtime }
func (i info) IsDir() bool        { return i.a.IsDir() }
func (i info) Sys() any           { return &i.a }

// Mode converts a Linux st_mode.
func Mode(m uint32) fs.FileMode {
	fm := fs.FileMode(m & 0o777)
	for bit, x := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if m&bit != 0 {
			fm |= x
		}
	}
	switch m & 0o170000 {
	case 0o040000:
		fm |= fs.ModeDir
	case 0o120000:
		fm |= fs.ModeSymlink
	case 0o010000:
		fm |= fs.ModeNamedPipe
	case 0o140000:
		fm |= fs.ModeSocket
	case 0o060000:
		fm |= fs.ModeDevice
	case 0o020000:
		fm |= fs.ModeDevice | fs.ModeCharDevice
	}
	return fm
}

// entry implements fs.DirEntry.
type entry struct {
	f *FS
	e bcachefs.Entry
}

func (e *entry) Name() string      { return e.e.Name }
func (e *entry) IsDir() bool       { return e.Type().IsDir() }
func (e *entry) Type() fs.FileMode { return Mode(e.e.Type).Type() }
func (e *entry) String() string    { return fs.FormatDirEntry(e) }
func (e *entry) Info() (fs.FileInfo, error) {
	a, err := e.f.s.Volume().Files().Getattr(e.f.ctx, e.e.ID)
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: e.e.Name, Err: err}
	}
	return info{e.e.Name, a}, nil
}

// regular is an open regular file.
type regular struct {
	*bcachefs.File
	info info
}

func (r *regular) Stat() (fs.FileInfo, error) { return r.info, nil }

// special is an open fifo, socket or device: it has no data.
type special struct {
	info info
	name string
}

func (s *special) Stat() (fs.FileInfo, error) { return s.info, nil }
func (s *special) Close() error               { return nil }
func (s *special) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: s.name, Err: fs.ErrInvalid}
}

// dir is an open directory.
type dir struct {
	f    *FS
	info info
	name string

	mu   sync.Mutex
	list []fs.DirEntry
	err  error
	read bool
}

func (d *dir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *dir) Close() error               { return nil }
func (d *dir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.name, Err: errors.New("is a directory")}
}

// ReadDir implements fs.ReadDirFile.
func (d *dir) ReadDir(n int) ([]fs.DirEntry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.read {
		d.list, d.err = d.f.ReadDir(d.name)
		d.read = true
	}
	if n <= 0 {
		l := d.list
		d.list = nil
		return l, d.err
	}
	if len(d.list) == 0 {
		if d.err != nil {
			return nil, d.err
		}
		return nil, io.EOF
	}
	l := d.list[:min(n, len(d.list))]
	d.list = d.list[len(l):]
	return l, nil
}
