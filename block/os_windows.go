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

// lockShared takes a shared lock on one byte that no file reaches: locks are
// mandatory here, and this one must keep only writers of this package away.
func lockShared(f *os.File) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var opErr error
	err = c.Control(func(fd uintptr) {
		opErr = windows.LockFileEx(windows.Handle(fd), windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0,
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
