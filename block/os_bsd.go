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

// lockShared takes a shared lock on the whole file, which a writer's exclusive
// one excludes. It belongs to the open file, not to the process.
func lockShared(f *os.File) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var opErr error
	err = c.Control(func(fd uintptr) { opErr = unix.Flock(int(fd), unix.LOCK_SH|unix.LOCK_NB) })
	if err == nil {
		err = opErr
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		return errs.ErrBusy
	}
	return err
}

// deviceID names a device by its number, so that two nodes of one device match.
func deviceID(_ string, st fs.FileInfo) string {
	s, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("dev:%d", s.Rdev)
}
