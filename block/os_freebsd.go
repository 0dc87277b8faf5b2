package block

import (
	"errors"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// isDisk reports whether a file may be a device that holds a volume. Disks are
// character devices here; probe tells them from terminals.
func isDisk(st fs.FileInfo) bool { return st.Mode()&fs.ModeDevice != 0 }

// probe asks the kernel for the geometry of a disk. Disks take only whole
// sectors.
func probe(f *os.File) (geometry, error) {
	var g geometry
	c, err := f.SyscallConn()
	if err != nil {
		return g, err
	}
	var opErr error
	err = c.Control(func(fd uintptr) {
		var size, stripe int64
		var sector uint32
		if opErr = ioctl(fd, unix.DIOCGMEDIASIZE, unsafe.Pointer(&size)); opErr != nil {
			return
		}
		if opErr = ioctl(fd, unix.DIOCGSECTORSIZE, unsafe.Pointer(&sector)); opErr != nil {
			return
		}
		if ioctl(fd, unix.DIOCGSTRIPESIZE, unsafe.Pointer(&stripe)) == nil {
			g.physical = int(stripe)
		}
		g.size, g.logical, g.align = size, int(sector), int64(sector)
	})
	return g, errors.Join(err, opErr)
}

func ioctl(fd uintptr, req uintptr, arg unsafe.Pointer) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, fd, req, uintptr(arg)); e != 0 {
		return os.NewSyscallError("ioctl", e)
	}
	return nil
}

// flushFile returns when the bytes of f are on stable storage: a device has a
// request of its own for that.
func flushFile(f *os.File, device bool) error {
	if !device {
		return f.Sync()
	}
	return control(f, func(fd uintptr) error { return ioctl(fd, unix.DIOCGFLUSH, nil) })
}

// discardRange frees a range of a device, in whole sectors; errors.ErrUnsupported
// for files.
func discardRange(f *os.File, device bool, off, n int64) error {
	if !device {
		return errors.ErrUnsupported
	}
	arg := [2]int64{off, n}
	return control(f, func(fd uintptr) error { return ioctl(fd, unix.DIOCGDELETE, unsafe.Pointer(&arg)) })
}
