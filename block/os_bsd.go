//go:build freebsd || darwin

package block

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/gobcachefs/gobcachefs/errs"
)

// lockFile takes a lock on the whole file: a writer's is exclusive, readers share
// theirs. It belongs to the open file, not to the process. errs.ErrBusy: somebody
// has one that excludes it.
func lockFile(f *os.File, exclusive bool) error {
	how := unix.LOCK_SH | unix.LOCK_NB
	if exclusive {
		how = unix.LOCK_EX | unix.LOCK_NB
	}
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var opErr error
	err = c.Control(func(fd uintptr) { opErr = unix.Flock(int(fd), how) })
	if err == nil {
		err = opErr
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		return errs.ErrBusy
	}
	return err
}

// openToWrite opens a file or device. The kernel refuses devices that are mounted.
func openToWrite(name string, _ bool) (*os.File, error) { return os.OpenFile(name, os.O_RDWR, 0) }

// deviceID names a device by its number, so that two nodes of one device match.
func deviceID(_ string, st fs.FileInfo) string {
	s, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("dev:%d", s.Rdev)
}
