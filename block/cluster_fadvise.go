//go:build linux || freebsd

package block

import (
	"os"

	"golang.org/x/sys/unix"
)

// willNeed asks the system to read a range of a file soon. It is only advice.
func willNeed(f *os.File, off, n int64) {
	if c, err := f.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { _ = unix.Fadvise(int(fd), off, n, unix.FADV_WILLNEED) })
	}
}
