package block

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/windows"

	"github.com/gobcachefs/gobcachefs/errs"
)

// Requests of winioctl.h.
const (
	ioctlDiskGetDriveGeometry = 0x70000
	ioctlDiskGetLengthInfo    = 0x7405c
	ioctlDiskIsWritable       = 0x70024
	fsctlLockVolume           = 0x90018
)

// rawDeviceName reports whether name is in the device namespace, as
// \\.\PhysicalDrive1 and \\.\E: are; os.Stat cannot describe those.
func rawDeviceName(name string) bool { return strings.HasPrefix(name, `\\.\`) }

// isDisk is for systems whose devices are files.
func isDisk(fs.FileInfo) bool { return false }

// isBusy reports whether an open failed because of another user of the device.
func isBusy(err error) bool {
	return errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_LOCK_VIOLATION)
}

// probe asks the system for the geometry of a disk. Disks take only whole
// sectors.
func probe(f *os.File) (geometry, error) {
	var g geometry
	c, err := f.SyscallConn()
	if err != nil {
		return g, err
	}
	var opErr error
	err = c.Control(func(fd uintptr) {
		h := windows.Handle(fd)
		var n uint32
		length := make([]byte, 8)
		if e := windows.DeviceIoControl(h, ioctlDiskGetLengthInfo, nil, 0, &length[0], 8, &n, nil); e != nil {
			opErr = os.NewSyscallError("IOCTL_DISK_GET_LENGTH_INFO", e)
			return
		}
		g.size = int64(binary.LittleEndian.Uint64(length))
		// DISK_GEOMETRY: cylinders 8, media type 4, tracks 4, sectors 4, bytes per sector 4.
		geo := make([]byte, 24)
		if e := windows.DeviceIoControl(h, ioctlDiskGetDriveGeometry, nil, 0, &geo[0], 24, &n, nil); e != nil {
			opErr = os.NewSyscallError("IOCTL_DISK_GET_DRIVE_GEOMETRY", e)
			return
		}
		g.logical = int(binary.LittleEndian.Uint32(geo[20:]))
		g.align = int64(g.logical)
		g.readOnly = errors.Is(windows.DeviceIoControl(h, ioctlDiskIsWritable, nil, 0, nil, 0, &n, nil), windows.ERROR_WRITE_PROTECT)
	})
	return g, errors.Join(err, opErr)
}

// openToWrite opens a file or device. A volume with a drive letter is locked,
// which fails while a file system on it is in use.
func openToWrite(name string, device bool) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil || !device {
		return f, err
	}
	if vol := strings.TrimPrefix(name, `\\.\`); len(vol) == 2 && vol[1] == ':' {
		c, err := f.SyscallConn()
		if err == nil {
			var opErr error
			err = c.Control(func(fd uintptr) {
				var n uint32
				opErr = windows.DeviceIoControl(windows.Handle(fd), fsctlLockVolume, nil, 0, nil, 0, &n, nil)
			})
			err = errors.Join(err, opErr)
		}
		if err != nil {
			f.Close()
			return nil, &errs.Error{Where: where(name, -1), Kind: errs.ErrBusy, Reason: "device is in use", Cause: err}
		}
	}
	return f, nil
}

// flushFile returns when the bytes of f are on stable storage.
func flushFile(f *os.File, _ bool) error { return f.Sync() }

// discardRange does nothing here.
func discardRange(*os.File, bool, int64, int64) error { return errors.ErrUnsupported }

// syncDir has nothing to do here: entries of directories are in the journal of
// the file system.
func syncDir(string) error { return nil }

// lockFile takes a lock on one byte that no file reaches, as locks are mandatory
// here and this one is between programs of this package: a writer's is
// exclusive, readers share theirs. errs.ErrBusy: somebody has one that excludes
// it.
func lockFile(f *os.File, exclusive bool) error {
	how := uint32(windows.LOCKFILE_FAIL_IMMEDIATELY)
	if exclusive {
		how |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var opErr error
	err = c.Control(func(fd uintptr) {
		opErr = windows.LockFileEx(windows.Handle(fd), how, 0, 1, 0,
			&windows.Overlapped{Offset: 0xfffffffe, OffsetHigh: 0x7fffffff})
	})
	if err == nil {
		err = opErr
	}
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return errs.ErrBusy
	}
	return err
}

// deviceID names a device by its name, as there is no number.
func deviceID(name string, _ fs.FileInfo) string { return "dev:" + strings.ToLower(name) }

// fileID names a file by volume and index.
func fileID(f *os.File, _ fs.FileInfo) string {
	c, err := f.SyscallConn()
	if err != nil {
		return ""
	}
	var id string
	c.Control(func(fd uintptr) {
		var i windows.ByHandleFileInformation
		if windows.GetFileInformationByHandle(windows.Handle(fd), &i) == nil {
			id = fmt.Sprintf("file:%d:%d", i.VolumeSerialNumber, uint64(i.FileIndexHigh)<<32|uint64(i.FileIndexLow))
		}
	})
	return id
}

// removeEarly cannot remove an open file here; removeLate does it at Close.
func removeEarly(*os.File) error { return nil }

// removeLate removes the file after it was closed.
func removeLate(name string) error { return os.Remove(name) }
