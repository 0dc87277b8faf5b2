//go:build unix

package cli

import (
	"os"

	"golang.org/x/sys/unix"
)

// appends reports whether writes to f go to its end wherever it is positioned.
func appends(f *os.File) bool {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	return err != nil || flags&unix.O_APPEND != 0
}
