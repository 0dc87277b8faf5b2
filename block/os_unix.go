//go:build linux || freebsd || darwin

package block

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// rawDeviceName is for systems whose devices are not files.
func rawDeviceName(string) bool { return false }

// isBusy reports whether an open failed because of another user of the device.
func isBusy(err error) bool { return errors.Is(err, syscall.EBUSY) }

// fileID names a file by device and inode.
func fileID(_ *os.File, st fs.FileInfo) string {
	s, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("file:%d:%d", s.Dev, s.Ino)
}

// removeEarly unlinks a file that stays open: nothing is left behind, however
// the program ends.
func removeEarly(f *os.File) error { return os.Remove(f.Name()) }

// removeLate has nothing left to do here.
func removeLate(string) error { return nil }
