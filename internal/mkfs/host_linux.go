package mkfs

import (
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gobcachefs/gobcachefs/internal/objects"
)

// hostStat describes a file of the host with its extended attributes. Attributes
// that cannot be read are left out.
func hostStat(path string) (hostFile, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return hostFile{}, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	t := func(ts unix.Timespec) time.Time { return time.Unix(ts.Unix()) }
	h := hostFile{size: st.Size, id: hostID{st.Dev, st.Ino}, nlink: uint64(st.Nlink),
		spec: objects.Spec{Mode: uint16(st.Mode), UID: st.Uid, GID: st.Gid, RdevMajor: unix.Major(st.Rdev), RdevMinor: unix.Minor(st.Rdev),
			Atime: t(st.Atim), Mtime: t(st.Mtim), Ctime: t(st.Ctim)}}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		target, err := os.Readlink(path)
		if err != nil {
			return h, err
		}
		h.spec.Target = []byte(target)
	}
	var list [4096]byte
	n, err := unix.Llistxattr(path, list[:])
	if err != nil || n <= 0 {
		return h, nil
	}
	for b := list[:n]; len(b) > 0; {
		i := 0
		for i < len(b) && b[i] != 0 {
			i++
		}
		name := string(b[:i])
		b = b[min(i+1, len(b)):]
		val := make([]byte, 4096)
		m, err := unix.Lgetxattr(path, name, val)
		if err != nil {
			continue
		}
		h.spec.Xattrs = append(h.spec.Xattrs, objects.Xattr{Name: name, Value: val[:m]})
	}
	return h, nil
}

// seekData finds the next data at or after off; the size of the file if there is
// none.
func seekData(f *os.File, off int64) (int64, error) {
	at, err := f.Seek(off, 3 /* SEEK_DATA */)
	switch {
	case errors.Is(err, syscall.ENXIO):
		st, err := f.Stat()
		if err != nil {
			return 0, err
		}
		return st.Size(), nil
	case err != nil:
		return off, nil // the host's file system cannot tell
	}
	return at, nil
}
