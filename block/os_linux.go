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

// lockFile takes a lock of the open file description on the whole file: a
// writer's is exclusive, readers share theirs. errs.ErrBusy: somebody has one
// that excludes it.
func lockFile(f *os.File, exclusive bool) error {
	how := int16(unix.F_RDLCK)
	if exclusive {
		how = unix.F_WRLCK
	}
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var opErr error
	err = c.Control(func(fd uintptr) {
		opErr = unix.FcntlFlock(fd, unix.F_OFD_SETLK, &unix.Flock_t{Type: how, Whence: io.SeekStart})
	})
	if err == nil {
		err = opErr
	}
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return errs.ErrBusy
	}
	return err
}

// openToWrite opens a file or device. A device is opened for this program alone:
// one that is mounted, swapped to, or part of another device is refused.
func openToWrite(name string, device bool) (*os.File, error) {
	flags := os.O_RDWR
	if device {
		flags |= unix.O_EXCL
	}
	return os.OpenFile(name, flags, 0)
}

// flushFile returns when the bytes of f, and what is needed to find them, are on
// stable storage.
func flushFile(f *os.File, _ bool) error {
	return control(f, func(fd uintptr) error { return noIntr(func() error { return unix.Fdatasync(int(fd)) }) })
}

// discardRange frees a range of a file or device: errors.ErrUnsupported where
// there is no such thing. A device takes only whole sectors.
func discardRange(f *os.File, device bool, off, n int64) error {
	return control(f, func(fd uintptr) error {
		if !device {
			return noIntr(func() error {
				return unix.Fallocate(int(fd), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
			})
		}
		arg := [2]uint64{uint64(off), uint64(n)}
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, fd, unix.BLKDISCARD, uintptr(unsafe.Pointer(&arg))); e != 0 {
			return os.NewSyscallError("BLKDISCARD", e)
		}
		return nil
	})
}

// noIntr calls f until no signal interrupts it.
func noIntr(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// deviceID names a device by its number, so that two nodes of one device match.
func deviceID(_ string, st fs.FileInfo) string {
	s, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("dev:%d:%d", unix.Major(uint64(s.Rdev)), unix.Minor(uint64(s.Rdev)))
}
