package cli

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// fragment is the unit of the counts of statfs.
func fragment(s *unix.Statfs_t) uint64 {
	if s.Frsize > 0 {
		return uint64(s.Frsize)
	}
	return uint64(s.Bsize)
}

// setXattr sets an extended attribute of a name in a directory, or of f, which
// is the open file of that name, without following a symlink.
func setXattr(dir *os.File, name string, f *os.File, attr string, value []byte) error {
	if f != nil {
		return unix.Fsetxattr(int(f.Fd()), attr, value, 0)
	}
	// What must not be opened (a device, a fifo, a symlink) is reached by its name
	// below the open directory.
	return unix.Lsetxattr(fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name), attr, value, 0)
}

// makeSpecial makes a device, fifo or socket.
func makeSpecial(dir *os.File, name string, typ, major, minor uint32) error {
	mode := map[uint32]uint32{
		ondisk.ModeChar: unix.S_IFCHR, ondisk.ModeBlock: unix.S_IFBLK, ondisk.ModeFifo: unix.S_IFIFO, ondisk.ModeSocket: unix.S_IFSOCK,
	}[typ]
	if mode == 0 {
		return unix.EINVAL
	}
	return unix.Mknodat(int(dir.Fd()), name, mode|0o600, int(unix.Mkdev(major, minor)))
}

// syncFS waits until all of a file system is on stable storage.
func syncFS(f *os.File) error { return unix.Syncfs(int(f.Fd())) }

// dropCache makes the system forget what it holds of a file in memory.
func dropCache(f *os.File) { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }
