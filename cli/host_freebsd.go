package cli

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// makeSpecial makes a device or fifo.
func makeSpecial(dir *os.File, name string, typ, major, minor uint32) error {
	mode := map[uint32]uint32{ondisk.ModeChar: unix.S_IFCHR, ondisk.ModeBlock: unix.S_IFBLK, ondisk.ModeFifo: unix.S_IFIFO}[typ]
	if mode == 0 {
		return unix.ENOTSUP
	}
	return unix.Mknodat(int(dir.Fd()), name, mode|0o600, unix.Mkdev(major, minor))
}
