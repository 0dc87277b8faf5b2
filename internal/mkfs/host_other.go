//go:build !linux

package mkfs

import (
	"os"

	"github.com/gobcachefs/gobcachefs/internal/objects"
)

// hostStat describes a file of the host, as far as Go tells of it.
func hostStat(path string) (hostFile, error) {
	st, err := os.Lstat(path)
	if err != nil {
		return hostFile{}, err
	}
	h := hostFile{size: st.Size(), nlink: 1, spec: objects.Spec{Mode: uint16(st.Mode().Perm()), Atime: st.ModTime(), Mtime: st.ModTime(), Ctime: st.ModTime()}}
	switch {
	case st.IsDir():
		h.spec.Mode |= 0o040000
	case st.Mode()&os.ModeSymlink != 0:
		target, err := os.Readlink(path)
		if err != nil {
			return h, err
		}
		h.spec.Mode |= 0o120000
		h.spec.Target = []byte(target)
	case st.Mode()&os.ModeNamedPipe != 0:
		h.spec.Mode |= 0o010000
	default:
		h.spec.Mode |= 0o100000
	}
	return h, nil
}

func seekData(_ *os.File, off int64) (int64, error) { return off, nil }
