//go:build unix && !linux

package cli

import (
	"os"

	"golang.org/x/sys/unix"
)

// fragment is the unit of the counts of statfs.
func fragment(s *unix.Statfs_t) uint64 { return uint64(s.Bsize) }

// setXattr sets an extended attribute of f, which is the open file of a name.
// What cannot be opened gets none.
func setXattr(_ *os.File, _ string, f *os.File, attr string, value []byte) error {
	if f == nil {
		return unix.ENOTSUP
	}
	return unix.Fsetxattr(int(f.Fd()), attr, value, 0)
}

// syncFS waits until what was written is on stable storage, as far as the
// system has a call for that.
func syncFS(*os.File) error { return unix.Sync() }

// dropCache makes the system forget what it holds of a file in memory; there is
// no such call.
func dropCache(*os.File) {}
