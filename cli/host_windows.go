package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/windows"
)

// appends reports whether writes to f go to its end wherever it is positioned:
// there is no way to know.
func appends(*os.File) bool { return true }

// freeSpace is what is free for this user on the file system of a directory, and
// its unit of allocation, in bytes.
func freeSpace(top *os.Root) (free, block uint64, err error) {
	p, err := windows.UTF16PtrFromString(top.Name())
	if err != nil {
		return 0, 0, err
	}
	err = windows.GetDiskFreeSpaceEx(p, &free, nil, nil)
	return free, 4096, err
}

// setTimes sets the times of a file; those of symlinks stay.
func setTimes(_ *os.File, root *os.Root, name string, atime, mtime time.Time) error {
	if fi, err := root.Lstat(name); err == nil && fi.Mode()&os.ModeSymlink != 0 {
		return errors.ErrUnsupported
	}
	return root.Chtimes(name, atime, mtime)
}

// allocated is the space that an open file takes: files have no holes unless
// asked for.
func allocated(*os.File) int64 { return 1 << 62 }

// identity tells files of a directory apart, whatever name led to them.
func identity(fi os.FileInfo) any { return strings.ToLower(fi.Name()) }

// notAllowed: the user or the file system cannot do this, but nothing is broken.
func notAllowed(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EWINDOWS) || errors.Is(err, windows.ERROR_PRIVILEGE_NOT_HELD)
}

// isDiskFull: there is no space, in words that only this system has.
func isDiskFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

// badName: the file system does not take the name of a file.
func badName(err error) bool { return errors.Is(err, windows.ERROR_INVALID_NAME) }

// legalName refuses names that mean something else to the system: a stream of
// another file, a device, the same name without its last characters.
func legalName(name string) error {
	bad := func(r rune) bool { return r < ' ' || strings.ContainsRune(`<>:"/\|?*`, r) }
	if strings.IndexFunc(name, bad) >= 0 || strings.HasSuffix(name, ".") || strings.HasSuffix(name, " ") {
		return fmt.Errorf("not a legal file name on Windows")
	}
	return nil
}

// setXattr sets an extended attribute: there are none.
func setXattr(*os.File, string, *os.File, string, []byte) error { return errors.ErrUnsupported }

// makeSpecial makes a device, fifo or socket: there are none.
func makeSpecial(*os.File, string, uint32, uint32, uint32) error { return errors.ErrUnsupported }

// syncFS waits until what was written is on stable storage: the system has no
// call for a whole file system that a user may make.
func syncFS(*os.File) error { return nil }

// dropCache makes the system forget what it holds of a file in memory; there is
// no such call.
func dropCache(*os.File) {}
