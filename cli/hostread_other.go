//go:build !linux

package cli

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// hostStat looks at a name in a directory, not through a symlink. Owners and
// devices are not read on this system.
func hostStat(dir *os.Root, name string) (hostInfo, error) {
	fi, err := dir.Lstat(name)
	if err != nil {
		return hostInfo{}, err
	}
	m := fi.Mode()
	h := hostInfo{size: fi.Size(), nlink: 1}
	h.Mode, h.Mtime, h.Atime = uint32(m.Perm()), fi.ModTime(), fi.ModTime()
	for bit, x := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if m&bit != 0 {
			h.Mode |= x
		}
	}
	switch {
	case m.IsRegular():
		h.Mode |= ondisk.ModeRegular
	case m.IsDir():
		h.Mode |= ondisk.ModeDir
	case m&fs.ModeSymlink != 0:
		h.Mode |= ondisk.ModeSymlink
	case m&fs.ModeNamedPipe != 0:
		h.Mode |= ondisk.ModeFifo
	case m&fs.ModeSocket != 0:
		h.Mode |= ondisk.ModeSocket
	default:
		return h, errors.New("not a kind of file that can be copied on this system")
	}
	return h, nil
}

func openHostFile(dir *os.Root, name string, _ hostInfo) (*os.File, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(err, errors.New("the file was replaced while it was copied"))
	}
	return f, nil
}

func hostXattrs(*os.Root, string, *os.File) ([]bcachefs.Xattr, error) { return nil, nil }

func hostData(_ *os.File, off, size int64) (from, to int64, ok bool, err error) {
	return off, size, off < size, nil
}

func isCrossLink(err error) bool { return errors.Is(err, syscall.EXDEV) }
