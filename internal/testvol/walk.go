package testvol

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"syscall"

	"github.com/gobcachefs/gobcachefs/errs"
)

// FS is what a tree must offer to be walked. Paths are relative to its root,
// raw bytes joined by '/'; "." is the root. Errors are turned into numbers by
// errs.Errno.
type FS interface {
	// ReadDir gives the names in a directory, without "." and "..", in any order.
	ReadDir(ctx context.Context, path string) ([]string, error)
	// Lstat does not follow a symlink.
	Lstat(ctx context.Context, path string) (Stat, error)
	Readlink(ctx context.Context, path string) (string, error)
	// ListXattr gives the names that a listxattr(2) by root would; ENOTSUP and
	// ENOSYS mean that there are none.
	ListXattr(ctx context.Context, path string) ([]string, error)
	GetXattr(ctx context.Context, path, name string) ([]byte, error)
	// Open opens a regular file to read.
	Open(ctx context.Context, path string) (File, error)
}

// File is an open regular file.
type File interface {
	io.ReaderAt
	// SeekData and SeekHole are lseek(2) with SEEK_DATA and SEEK_HOLE: ENXIO at
	// and past the end, and for SeekData where only a hole follows.
	SeekData(off int64) (int64, error)
	SeekHole(off int64) (int64, error)
	io.Closer
}

// Stat is what lstat(2) says, as far as manifests tell it.
type Stat struct {
	Type         byte   // f d l p c b s
	Mode         uint32 // permission bits with setuid, setgid, sticky
	UID, GID     uint32
	Mtime, Ctime int64 // ns since 1970
	Nlink, Ino   uint64
	Size         int64
	Major, Minor uint32 // c, b
}

// ManifestOf walks fsys from its root and returns the manifest of it. What
// cannot be read is in the entries; the error is ctx's.
func ManifestOf(ctx context.Context, fsys FS) ([]Entry, error) {
	w := walker{fsys: fsys, buf: make([]byte, 1<<20)}
	w.out = append(w.out, w.entry(ctx, "."))
	err := w.dir(ctx, ".")
	return w.out, err
}

type walker struct {
	fsys FS
	buf  []byte
	out  []Entry
}

func (w *walker) dir(ctx context.Context, dir string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	names, err := w.fsys.ReadDir(ctx, dir)
	if err != nil {
		w.out = append(w.out, Entry{Path: dir, ReadDirErr: errName(err)})
		return ctx.Err()
	}
	for _, n := range names {
		p := n
		if dir != "." {
			p = dir + "/" + n
		}
		e := w.entry(ctx, p)
		w.out = append(w.out, e)
		if e.Type == 'd' {
			if err := w.dir(ctx, p); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

func (w *walker) entry(ctx context.Context, path string) Entry {
	s, err := w.fsys.Lstat(ctx, path)
	if err != nil {
		return Entry{Path: path, StatErr: errName(err)}
	}
	e := Entry{Path: path, Type: s.Type, Mode: s.Mode, UID: s.UID, GID: s.GID, Mtime: s.Mtime, Ctime: s.Ctime, Nlink: s.Nlink, Ino: s.Ino}
	switch s.Type {
	case 'f':
		e.Size = s.Size
		e.SHA256, e.Data = w.file(ctx, path, s.Size)
	case 'l':
		if e.Target, err = w.fsys.Readlink(ctx, path); err != nil {
			e.TargetErr = errName(err)
		}
	case 'c', 'b':
		e.Major, e.Minor = s.Major, s.Minor
	}
	w.xattrs(ctx, &e)
	return e
}

func (w *walker) file(ctx context.Context, path string, size int64) (sum, data string) {
	f, err := w.fsys.Open(ctx, path)
	if err != nil {
		return errName(err), ""
	}
	defer f.Close()
	h := sha256.New()
	for off := int64(0); ; {
		n, err := f.ReadAt(w.buf, off)
		h.Write(w.buf[:n])
		off += int64(n)
		if err == io.EOF {
			break
		}
		if err != nil {
			return errName(err), ""
		}
	}
	return hex.EncodeToString(h.Sum(nil)), dataMap(f, size)
}

// dataMap lists the data ranges, at most 40.
func dataMap(f File, size int64) string {
	var out []string
	for off := int64(0); off < size && len(out) < 40; {
		from, err := f.SeekData(off)
		if errors.Is(err, syscall.ENXIO) {
			break
		}
		if err != nil {
			return errName(err)
		}
		to, err := f.SeekHole(from)
		if err != nil {
			return errName(err)
		}
		if from < off || to <= from {
			// Would not end; no correct answer does this.
			return fmt.Sprintf("wrong:data=%d,hole=%d,from=%d", from, to, off)
		}
		out = append(out, fmt.Sprintf("%d-%d", from, to))
		off = to
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ",")
}

func (w *walker) xattrs(ctx context.Context, e *Entry) {
	names, err := w.fsys.ListXattr(ctx, e.Path)
	if err != nil {
		if n := errs.Errno(err); n != syscall.ENOTSUP && n != syscall.EOPNOTSUPP && n != syscall.ENOSYS {
			e.XattrErr = errName(err)
		}
		return
	}
	for _, n := range names {
		if strings.HasPrefix(n, "bcachefs") {
			continue // virtual: options
		}
		v, err := w.fsys.GetXattr(ctx, e.Path, n)
		if err != nil {
			e.XattrErr = errName(err)
			return
		}
		if e.Xattr == nil {
			e.Xattr = map[string]string{}
		}
		e.Xattr[n] = string(v)
	}
}

// errName is how a manifest tells an error.
func errName(err error) string {
	n := errs.Errno(err)
	for _, k := range []struct {
		n    syscall.Errno
		name string
	}{
		{syscall.EIO, "EIO"}, {syscall.ENOENT, "ENOENT"}, {syscall.EPERM, "EPERM"}, {syscall.EACCES, "EACCES"},
		{syscall.EINVAL, "EINVAL"}, {syscall.ENOTSUP, "EOPNOTSUPP"}, {syscall.ENOSYS, "ENOSYS"}, {syscall.ENXIO, "ENXIO"},
		{syscall.ERANGE, "ERANGE"}, {syscall.ESTALE, "ESTALE"}, {syscall.ENAMETOOLONG, "ENAMETOOLONG"}, {syscall.ELOOP, "ELOOP"},
	} {
		if n == k.n {
			return "ERR:" + k.name
		}
	}
	return "ERR:" + strconv.Itoa(int(n))
}
