package block

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Requests of <sys/disk.h>.
const (
	dkiocGetBlockSize         = 0x40046418
	dkiocGetBlockCount        = 0x40086419
	dkiocIsWritable           = 0x4004641d
	dkiocGetPhysicalBlockSize = 0x4004644d
	dkiocSynchronizeCache     = 0x20006416
)

// isDisk reports whether a file may be a device that holds a volume: /dev/diskN
// is a block device, /dev/rdiskN a character device; probe tells it from a
// terminal.
func isDisk(st fs.FileInfo) bool { return st.Mode()&fs.ModeDevice != 0 }

// probe asks the kernel for the geometry of a disk. All darwin ports are 64 bit
// and little endian, so that an int holds a request's result of 4 or 8 bytes.
func probe(f *os.File) (geometry, error) {
	var g geometry
	st, err := f.Stat()
	if err != nil {
		return g, err
	}
	c, err := f.SyscallConn()
	if err != nil {
		return g, err
	}
	var opErr error
	err = c.Control(func(fd uintptr) {
		bs, e := unix.IoctlGetInt(int(fd), dkiocGetBlockSize)
		if e != nil {
			opErr = os.NewSyscallError("DKIOCGETBLOCKSIZE", e)
			return
		}
		n, e := unix.IoctlGetInt(int(fd), dkiocGetBlockCount)
		if e != nil {
			opErr = os.NewSyscallError("DKIOCGETBLOCKCOUNT", e)
			return
		}
		g.size, g.logical = int64(n)*int64(bs), bs
		if v, e := unix.IoctlGetInt(int(fd), dkiocGetPhysicalBlockSize); e == nil {
			g.physical = v
		}
		if v, e := unix.IoctlGetInt(int(fd), dkiocIsWritable); e == nil {
			g.readOnly = v == 0
		}
		if st.Mode()&fs.ModeCharDevice != 0 {
			g.align = int64(bs)
		}
	})
	return g, errors.Join(err, opErr)
}

// flushFile returns when the bytes of f are on stable storage: fsync alone only
// hands them to the drive here. Sync asks for F_FULLFSYNC, which devices do not
// know.
func flushFile(f *os.File, device bool) error {
	if err := f.Sync(); err != nil || !device {
		return err
	}
	return control(f, func(fd uintptr) error { return unix.IoctlSetInt(int(fd), dkiocSynchronizeCache, 0) })
}

// discardRange does nothing here.
func discardRange(*os.File, bool, int64, int64) error { return errors.ErrUnsupported }
