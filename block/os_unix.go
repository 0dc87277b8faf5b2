//go:build linux || freebsd || darwin

package block

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// rawDeviceName is for systems whose devices are not files.
func rawDeviceName(string) bool { return false }

// isBusy reports whether an open failed because of another user of the device
// or file (ETXTBSY: it is swapped to, or runs).
func isBusy(err error) bool { return errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.ETXTBSY) }

// control calls f with the descriptor of a file, which stays open meanwhile.
func control(file *os.File, f func(fd uintptr) error) error {
	c, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var opErr error
	if err := c.Control(func(fd uintptr) { opErr = f(fd) }); err != nil {
		return err
	}
	return opErr
}

// syncDir makes the entries of the directory that holds name durable.
func syncDir(name string) error {
	d, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer d.Close()
	// Some file systems cannot sync directories; they have no entry to lose, or
	// nothing can be done about it.
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	return nil
}

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
