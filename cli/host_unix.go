//go:build unix

package cli

import (
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// appends reports whether writes to f go to its end wherever it is positioned.
func appends(f *os.File) bool {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	return err != nil || flags&unix.O_APPEND != 0
}

// freeSpace is what is free for this user on the file system of a directory, and
// its unit of allocation, in bytes.
func freeSpace(top *os.Root) (free, block uint64, err error) {
	f, err := top.Open(".")
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &s); err != nil {
		return 0, 0, err
	}
	block = uint64(s.Bsize)
	avail := int64(s.Bavail) // signed on some systems: less than nothing is left
	if avail < 0 || block == 0 {
		return 0, 4096, nil
	}
	return uint64(avail) * fragment(&s), block, nil
}

// setTimes sets the times of a file, not of what a symlink points to.
func setTimes(dir *os.File, _ *os.Root, name string, atime, mtime time.Time) error {
	ts := make([]unix.Timespec, 2)
	for i, t := range []time.Time{atime, mtime} {
		var err error
		if ts[i], err = unix.TimeToTimespec(t); err != nil {
			return err
		}
	}
	return unix.UtimesNanoAt(int(dir.Fd()), name, ts, unix.AT_SYMLINK_NOFOLLOW)
}

// allocated is the space that an open file takes, in bytes.
func allocated(f *os.File) int64 {
	var s unix.Stat_t
	if unix.Fstat(int(f.Fd()), &s) != nil {
		return 0
	}
	return int64(s.Blocks) * 512
}

// identity tells files of a file system apart, whatever name led to them.
func identity(fi os.FileInfo) any {
	if s, ok := fi.Sys().(*syscall.Stat_t); ok {
		return [2]uint64{uint64(s.Dev), uint64(s.Ino)}
	}
	return fi.Name()
}

// notAllowed: the user or the file system cannot do this, but nothing is broken.
func notAllowed(err error) bool {
	for _, e := range []error{syscall.EPERM, syscall.EACCES, syscall.ENOTSUP, syscall.EOPNOTSUPP, syscall.ENOSYS, syscall.EINVAL, errors.ErrUnsupported} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// isDiskFull: there is no space, in words that only this system has.
func isDiskFull(err error) bool { return errors.Is(err, syscall.EDQUOT) }

// badName: the file system does not take the name of a file.
func badName(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EILSEQ) || errors.Is(err, syscall.ENAMETOOLONG)
}

// legalName refuses names that mean something else to the system.
func legalName(string) error { return nil }
