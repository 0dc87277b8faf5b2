package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// hostStat looks at a name in a directory, not through a symlink.
func hostStat(dir *os.Root, name string) (hostInfo, error) {
	fi, err := dir.Lstat(name)
	if err != nil {
		return hostInfo{}, err
	}
	return hostInfoOf(fi)
}

func hostInfoOf(fi os.FileInfo) (hostInfo, error) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return hostInfo{}, errors.ErrUnsupported
	}
	h := hostInfo{id: hostFileID{st.Dev, st.Ino}, nlink: uint64(st.Nlink), size: st.Size}
	h.Mode, h.UID, h.GID = st.Mode, st.Uid, st.Gid // the numbers of Linux are those of the format
	h.RdevMajor, h.RdevMinor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	h.Atime, h.Mtime = time.Unix(st.Atim.Unix()), time.Unix(st.Mtim.Unix())
	return h, nil
}

// openHostFile opens the regular file that hostStat saw.
func openHostFile(dir *os.Root, name string, h hostInfo) (*os.File, error) {
	f, err := dir.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil {
		var now hostInfo
		if now, err = hostInfoOf(fi); err == nil && (now.id != h.id || now.Mode&ondisk.ModeTypeMask != ondisk.ModeRegular) {
			err = errors.New("the file was replaced while it was copied")
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// hostXattrs reads the extended attributes of a name in a directory; f is the
// open file of it, if there is one.
func hostXattrs(dir *os.Root, name string, f *os.File) ([]bcachefs.Xattr, error) {
	list := func(b []byte) (int, error) { return unix.Flistxattr(int(f.Fd()), b) }
	get := func(n string, b []byte) (int, error) { return unix.Fgetxattr(int(f.Fd()), n, b) }
	if f == nil {
		d, err := dir.Open(".")
		if err != nil {
			return nil, err
		}
		defer d.Close()
		// Below the open directory, so that nobody can put another in its place.
		p := fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name)
		list = func(b []byte) (int, error) { return unix.Llistxattr(p, b) }
		get = func(n string, b []byte) (int, error) { return unix.Lgetxattr(p, n, b) }
	}
	names, err := grownXattr(list)
	if err != nil {
		if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOSYS) || f == nil && errors.Is(err, unix.ENOENT) {
			return nil, nil
		}
		return nil, fmt.Errorf("listing attributes: %w", err)
	}
	var out []bcachefs.Xattr
	for _, n := range strings.Split(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		if n == "" {
			continue
		}
		v, err := grownXattr(func(b []byte) (int, error) { return get(n, b) })
		switch {
		case err == nil:
			out = append(out, bcachefs.Xattr{Name: n, Value: v})
		case errors.Is(err, unix.ENODATA), errors.Is(err, unix.ENOTSUP):
			// Gone meanwhile, or only listed.
		default:
			return nil, fmt.Errorf("attribute %s: %w", escapeName(n), err)
		}
	}
	return out, nil
}

// grownXattr calls f with a buffer that is large enough.
func grownXattr(f func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := f(nil)
		if err != nil || n == 0 {
			return nil, err
		}
		b := make([]byte, n)
		if n, err = f(b); !errors.Is(err, unix.ERANGE) {
			if err != nil {
				return nil, err
			}
			return b[:n], nil
		}
	}
}

// hostData finds the next range of data of a file.
func hostData(f *os.File, off, size int64) (from, to int64, ok bool, err error) {
	if from, err = unix.Seek(int(f.Fd()), off, unix.SEEK_DATA); err != nil {
		if errors.Is(err, unix.ENXIO) {
			return 0, 0, false, nil
		}
		return off, size, true, nil // a file system that knows no holes
	}
	if to, err = unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE); err != nil || to <= from {
		to = size
	}
	return from, min(to, size), from < size, nil
}

// isCrossLink: a link that only a copy can stand for.
func isCrossLink(err error) bool { return errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EMLINK) }
