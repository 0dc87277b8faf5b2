//go:build !linux

package mkfs

import (
	"io"
	"os"
	"path/filepath"

	"github.com/gobcachefs/gobcachefs/internal/objects"
)

// host is a directory of the host, as far as Go alone tells of it: no owners, no
// attributes, no holes, no hard links.
type host struct{ path string }

func openHostDir(top, path string) (host, error) { return host{filepath.Join(top, path)}, nil }

func (d *host) close() {}

func (d *host) names() ([]string, error) {
	f, err := os.Open(d.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

func hostRoot(top string) (hostFile, []objects.Xattr, error) {
	st, err := os.Stat(top)
	if err != nil {
		return hostFile{}, nil, err
	}
	if !st.IsDir() {
		return hostFile{}, nil, &os.PathError{Op: "open", Path: top, Err: os.ErrInvalid}
	}
	return fromInfo(st), nil, nil
}

func fromInfo(st os.FileInfo) hostFile {
	h := hostFile{size: st.Size(), nlink: 1, spec: objects.Spec{Mode: uint16(st.Mode().Perm()), Atime: st.ModTime(), Mtime: st.ModTime(), Ctime: st.ModTime()}}
	for _, x := range []struct {
		bit  os.FileMode
		mode uint16
	}{{os.ModeSetuid, 0o4000}, {os.ModeSetgid, 0o2000}, {os.ModeSticky, 0o1000}} {
		if st.Mode()&x.bit != 0 {
			h.spec.Mode |= x.mode
		}
	}
	switch {
	case st.IsDir():
		h.spec.Mode |= 0o040000
	case st.Mode()&os.ModeSymlink != 0:
		h.spec.Mode |= 0o120000
	case st.Mode()&os.ModeNamedPipe != 0:
		h.spec.Mode |= 0o010000
	case st.Mode()&os.ModeSocket != 0:
		h.spec.Mode |= 0o140000
	case st.Mode()&os.ModeCharDevice != 0:
		h.spec.Mode |= 0o020000
	case st.Mode()&os.ModeDevice != 0:
		h.spec.Mode |= 0o060000
	default:
		h.spec.Mode |= 0o100000
	}
	return h
}

func (d *host) stat(name string) (hostFile, error) {
	st, err := os.Lstat(filepath.Join(d.path, name))
	if err != nil {
		return hostFile{}, err
	}
	return fromInfo(st), nil
}

func (d *host) readlink(name string, _ int64) ([]byte, error) {
	t, err := os.Readlink(filepath.Join(d.path, name))
	return []byte(t), err
}

func (d *host) xattrs(string, bool) ([]objects.Xattr, error) { return nil, nil }

type hostHandle struct{ f *os.File }

func (d *host) open(name string, _ hostID) (hostHandle, error) {
	f, err := os.Open(filepath.Join(d.path, name))
	return hostHandle{f}, err
}

func (f hostHandle) close() { _ = f.f.Close() }

func (f hostHandle) xattrs() ([]objects.Xattr, error) { return nil, nil }

func (f hostHandle) readAt(p []byte, off int64) (int, error) {
	n, err := f.f.ReadAt(p, off)
	if n == len(p) {
		err = nil
	} else if err == nil {
		err = io.EOF
	}
	return n, err
}

func (f hostHandle) data(off, end int64) (from, to int64, err error) { return off, end, nil }
