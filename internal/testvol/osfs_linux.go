package testvol

import (
	"context"
	"errors"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gobcachefs/gobcachefs/errs"
)

// OSFS is the tree below a directory of the host, a mount point usually. It
// uses plain system calls: the os package would register descriptors with the
// runtime's poller, which deadlocks a process that serves the mount itself.
func OSFS(root string) FS { return osFS{root} }

type osFS struct{ root string }

func (f osFS) path(p string) string { return f.root + "/" + p }

// retry repeats a call that a signal interrupted.
func retry[T any](call func() (T, error)) (T, error) {
	for {
		v, err := call()
		if !errors.Is(err, unix.EINTR) {
			return v, err
		}
	}
}

func (f osFS) open(path string, flags int) (int, error) {
	return retry(func() (int, error) {
		return unix.Open(f.path(path), flags|unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	})
}

// ReadDir implements FS.
func (f osFS) ReadDir(_ context.Context, path string) ([]string, error) {
	fd, err := f.open(path, unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var names []string
	buf := make([]byte, 64<<10)
	for {
		n, err := retry(func() (int, error) { return unix.ReadDirent(fd, buf) })
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return names, nil
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

// Lstat implements FS.
func (f osFS) Lstat(_ context.Context, path string) (Stat, error) {
	var s unix.Stat_t
	if _, err := retry(func() (int, error) { return 0, unix.Lstat(f.path(path), &s) }); err != nil {
		return Stat{}, err
	}
	t := map[uint32]byte{
		unix.S_IFREG: 'f', unix.S_IFDIR: 'd', unix.S_IFLNK: 'l', unix.S_IFIFO: 'p',
		unix.S_IFCHR: 'c', unix.S_IFBLK: 'b', unix.S_IFSOCK: 's',
	}[s.Mode&unix.S_IFMT]
	if t == 0 {
		return Stat{}, errs.Corruptf("file type", "mode %o", s.Mode)
	}
	out := Stat{
		Type: t, Mode: s.Mode &^ unix.S_IFMT, UID: s.Uid, GID: s.Gid,
		Mtime: s.Mtim.Nano(), Ctime: s.Ctim.Nano(), Nlink: uint64(s.Nlink), Ino: s.Ino, Size: s.Size,
	}
	if t == 'c' || t == 'b' {
		out.Major, out.Minor = unix.Major(uint64(s.Rdev)), unix.Minor(uint64(s.Rdev))
	}
	return out, nil
}

// Readlink implements FS.
func (f osFS) Readlink(_ context.Context, path string) (string, error) {
	b := make([]byte, unix.PathMax)
	n, err := retry(func() (int, error) { return unix.Readlink(f.path(path), b) })
	if err != nil {
		return "", err
	}
	return string(b[:n]), nil
}

// grow calls f with larger buffers until the answer fits.
func grow(f func([]byte) (int, error)) ([]byte, error) {
	for size := 4 << 10; ; size *= 2 {
		b := make([]byte, size)
		n, err := retry(func() (int, error) { return f(b) })
		if errors.Is(err, unix.ERANGE) && size < 1<<20 {
			continue
		}
		if err != nil {
			return nil, err
		}
		return b[:n], nil
	}
}

// ListXattr implements FS.
func (f osFS) ListXattr(_ context.Context, path string) ([]string, error) {
	b, err := grow(func(b []byte) (int, error) { return unix.Llistxattr(f.path(path), b) })
	if err != nil || len(b) == 0 {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00"), nil
}

// GetXattr implements FS.
func (f osFS) GetXattr(_ context.Context, path, name string) ([]byte, error) {
	return grow(func(b []byte) (int, error) { return unix.Lgetxattr(f.path(path), name, b) })
}

// Open implements FS.
func (f osFS) Open(_ context.Context, path string) (File, error) {
	fd, err := f.open(path, unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	return osFile(fd), nil
}

type osFile int

// ReadAt implements File.
func (fd osFile) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		n, err := retry(func() (int, error) { return unix.Pread(int(fd), p[done:], off+int64(done)) })
		if err != nil {
			return done, err
		}
		if n == 0 {
			return done, io.EOF
		}
		done += n
	}
	return done, nil
}

// SeekData implements File.
func (fd osFile) SeekData(off int64) (int64, error) {
	return unix.Seek(int(fd), off, unix.SEEK_DATA)
}

// SeekHole implements File.
func (fd osFile) SeekHole(off int64) (int64, error) {
	return unix.Seek(int(fd), off, unix.SEEK_HOLE)
}

// Close implements File.
func (fd osFile) Close() error { return unix.Close(int(fd)) }

// StatfsOf is what statfs(2) says of the file system at path.
func StatfsOf(path string) (Statfs, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return Statfs{}, err
	}
	return Statfs{
		Bsize: uint64(s.Bsize), Frsize: uint64(s.Frsize), Blocks: s.Blocks, Bfree: s.Bfree, Bavail: s.Bavail,
		Files: s.Files, Ffree: s.Ffree, Namemax: uint64(s.Namelen),
	}, nil
}
