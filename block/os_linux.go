package block

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/gobcachefs/gobcachefs/errs"
)

// isDisk reports whether a file is a device that holds a volume.
func isDisk(st fs.FileInfo) bool {
	return st.Mode()&fs.ModeDevice != 0 && st.Mode()&fs.ModeCharDevice == 0
}

// probe asks the kernel for the geometry of a block device. Only the size is
// required to be known.
func probe(f *os.File) (geometry, error) {
	var g geometry
	c, err := f.SyscallConn()
	if err != nil {
		return g, err
	}
	var opErr error
	err = c.Control(func(fd uintptr) {
		var size uint64
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, fd, unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&size))); e != 0 {
			opErr = os.NewSyscallError("BLKGETSIZE64", e)
			return
		}
		g.size = int64(size)
		if v, e := unix.IoctlGetUint32(int(fd), unix.BLKSSZGET); e == nil {
			g.logical = int(v)
		}
		if v, e := unix.IoctlGetUint32(int(fd), unix.BLKPBSZGET); e == nil {
			g.physical = int(v)
		}
		if v, e := unix.IoctlGetUint32(int(fd), unix.BLKROGET); e == nil {
			g.readOnly = v != 0
		}
		var rot uint16
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, fd, unix.BLKROTATIONAL, uintptr(unsafe.Pointer(&rot))); e == 0 {
			g.rotational = rot != 0
		}
	})
	return g, errors.Join(err, opErr)
}

// lockShared takes a shared lock of the open file description on the whole
// file, which a writer's exclusive one excludes.
func lockShared(f *os.File) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var opErr error
	err = c.Control(func(fd uintptr) {
		opErr = unix.FcntlFlock(fd, unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK, Whence: io.SeekStart})
	})
	if err == nil {
		err = opErr
	}
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
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
	return fmt.Sprintf("dev:%d:%d", unix.Major(uint64(s.Rdev)), unix.Minor(uint64(s.Rdev)))
}
