package mkfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gobcachefs/gobcachefs/internal/objects"
)

// host is a directory of the host. Plain descriptors: package os would make each
// file known to the poller, which costs more than reading it.
type host struct {
	fd   int
	path string
}

// retry repeats a call that a signal interrupted.
func retry[T any](f func() (T, error)) (T, error) {
	for {
		v, err := f()
		if err != unix.EINTR {
			return v, err
		}
	}
}

// openAt opens without a trace in the access time where that is allowed.
func openAt(dir int, name string, flags int) (int, error) {
	flags |= unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK
	fd, err := retry(func() (int, error) { return unix.Openat(dir, name, flags|unix.O_NOATIME, 0) })
	if err == unix.EPERM {
		fd, err = retry(func() (int, error) { return unix.Openat(dir, name, flags, 0) })
	}
	return fd, err
}

// maxPath is the longest path given to the system at once.
const maxPath = 2000

// openHostDir opens a directory below top, however long its path is. Links in
// path, which may have been put there since it was found, are not followed.
func openHostDir(top, path string) (host, error) {
	fd, err := openAt(unix.AT_FDCWD, top, unix.O_DIRECTORY)
	if err != nil {
		return host{}, &os.PathError{Op: "open", Path: top, Err: err}
	}
	for rest := strings.TrimPrefix(path, "/"); rest != ""; {
		part := rest
		if len(part) > maxPath {
			part = part[:strings.LastIndexByte(part[:maxPath], '/')]
		}
		next, err := openAt(fd, part, unix.O_DIRECTORY|unix.O_NOFOLLOW)
		_ = unix.Close(fd)
		if err != nil {
			return host{}, err
		}
		fd = next
		rest = strings.TrimPrefix(rest[len(part):], "/")
	}
	return host{fd, filepath.Join(top, path)}, nil
}

func (d *host) close() { _ = unix.Close(d.fd) }

// names lists a directory.
func (d *host) names() ([]string, error) {
	var names []string
	buf := make([]byte, 64<<10)
	for {
		n, err := retry(func() (int, error) { return unix.ReadDirent(d.fd, buf) })
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return names, nil
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

func fromStat(st *unix.Stat_t) hostFile {
	t := func(ts unix.Timespec) time.Time { return time.Unix(ts.Unix()) }
	return hostFile{size: st.Size, sparse: st.Blocks*512 < st.Size, id: hostID{st.Dev, st.Ino}, nlink: uint64(st.Nlink),
		spec: objects.Spec{Mode: uint16(st.Mode), UID: st.Uid, GID: st.Gid, RdevMajor: unix.Major(st.Rdev), RdevMinor: unix.Minor(st.Rdev),
			Atime: t(st.Atim), Mtime: t(st.Mtim), Ctime: t(st.Ctim)}}
}

// hostRoot describes the root of a source, which may be named by a link.
func hostRoot(top string) (hostFile, []objects.Xattr, error) {
	d, err := openHostDir(top, "")
	if err != nil {
		return hostFile{}, nil, err
	}
	defer d.close()
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return hostFile{}, nil, &os.PathError{Op: "stat", Path: top, Err: err}
	}
	xs, err := xattrsOf(listFd(d.fd), getFd(d.fd))
	return fromStat(&st), xs, err
}

func (d *host) stat(name string) (hostFile, error) {
	var st unix.Stat_t
	_, err := retry(func() (int, error) { return 0, unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return fromStat(&st), err
}

func (d *host) readlink(name string, size int64) ([]byte, error) {
	for n := max(int(size)+1, 256); ; n *= 2 {
		b := make([]byte, n)
		m, err := retry(func() (int, error) { return unix.Readlinkat(d.fd, name, b) })
		if err != nil || m < n {
			return b[:max(m, 0)], err
		}
	}
}

// xattrs reads the attributes of a file that is not regular.
func (d *host) xattrs(name string, dir bool) ([]objects.Xattr, error) {
	if dir {
		fd, err := openAt(d.fd, name, unix.O_DIRECTORY|unix.O_NOFOLLOW)
		if err != nil {
			return nil, err
		}
		defer unix.Close(fd)
		return xattrsOf(listFd(fd), getFd(fd))
	}
	// Such a file cannot be opened (a device must not be).
	path := fmt.Sprintf("/proc/self/fd/%d/%s", d.fd, name)
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		path = filepath.Join(d.path, name)
	}
	return xattrsOf(func(b []byte) (int, error) { return unix.Llistxattr(path, b) },
		func(attr string, b []byte) (int, error) { return unix.Lgetxattr(path, attr, b) })
}

func listFd(fd int) func([]byte) (int, error) {
	return func(b []byte) (int, error) { return unix.Flistxattr(fd, b) }
}

func getFd(fd int) func(string, []byte) (int, error) {
	return func(attr string, b []byte) (int, error) { return unix.Fgetxattr(fd, attr, b) }
}

// maxXattr is the longest list and the longest value that Linux has.
const maxXattr = 64 << 10

// grow calls f with a larger buffer while it says that there is more.
func grow(buf []byte, f func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := retry(func() (int, error) { return f(buf) })
		if err == unix.ERANGE && len(buf) < maxXattr {
			buf = make([]byte, maxXattr)
			continue
		}
		return buf[:max(n, 0)], err
	}
}

// xattrsOf reads all attributes. A file system without any has none; one that
// does not give a value away leaves it out, as copying programs do.
func xattrsOf(list func([]byte) (int, error), get func(string, []byte) (int, error)) ([]objects.Xattr, error) {
	var buf [1024]byte
	names, err := grow(buf[:], list)
	switch {
	case errors.Is(err, unix.ENOTSUP):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("listxattr: %w", err)
	}
	var out []objects.Xattr
	for name := range bytes.SplitSeq(names, []byte{0}) {
		if len(name) == 0 {
			continue
		}
		var vb [1024]byte
		v, err := grow(vb[:], func(b []byte) (int, error) { return get(string(name), b) })
		switch {
		case errors.Is(err, unix.ENODATA), errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOTSUP):
			continue
		case err != nil:
			return nil, fmt.Errorf("getxattr %s: %w", name, err)
		}
		out = append(out, objects.Xattr{Name: string(name), Value: bytes.Clone(v)})
	}
	return out, nil
}

// hostHandle is an open regular file.
type hostHandle struct{ fd int }

// open opens a regular file that must still be the one that was found.
func (d *host) open(name string, id hostID) (hostHandle, error) {
	fd, err := openAt(d.fd, name, unix.O_NOFOLLOW)
	if err != nil {
		return hostHandle{}, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return hostHandle{}, err
	}
	if (hostID{st.Dev, st.Ino}) != id || st.Mode&unix.S_IFMT != unix.S_IFREG {
		_ = unix.Close(fd)
		return hostHandle{}, errors.New("was replaced by another file while it was copied")
	}
	return hostHandle{fd}, nil
}

func (f hostHandle) close() { _ = unix.Close(f.fd) }

func (f hostHandle) xattrs() ([]objects.Xattr, error) { return xattrsOf(listFd(f.fd), getFd(f.fd)) }

// readAt reads all of p, less only with an error.
func (f hostHandle) readAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		m, err := retry(func() (int, error) { return unix.Pread(f.fd, p[n:], off+int64(n)) })
		if err != nil {
			return n, err
		}
		if m == 0 {
			return n, io.EOF
		}
		n += m
	}
	return n, nil
}

// data finds the first run of data in [off, end); off is end when there is none.
func (f hostHandle) data(off, end int64) (from, to int64, err error) {
	seek := func(at int64, whence int) (int64, error) {
		return retry(func() (int64, error) { return unix.Seek(f.fd, at, whence) })
	}
	from, err = seek(off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, syscall.ENXIO):
		return end, end, nil
	case err != nil:
		return off, end, nil // the file system cannot tell
	}
	if to, err = seek(from, unix.SEEK_HOLE); err != nil {
		to = end
	}
	return min(from, end), min(to, end), nil
}
