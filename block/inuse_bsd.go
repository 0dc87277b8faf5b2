//go:build freebsd || darwin

package block

import (
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Mounted lists where a device is mounted. What does not exist is not mounted.
func Mounted(name string) ([]string, error) {
	st, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	own, ok := st.Sys().(*syscall.Stat_t)
	if !ok || !isDisk(st) {
		return nil, nil
	}
	n, err := unix.Getfsstat(nil, unix.MNT_NOWAIT)
	if err != nil {
		return nil, os.NewSyscallError("getfsstat", err)
	}
	all := make([]unix.Statfs_t, n+8)
	if n, err = unix.Getfsstat(all, unix.MNT_NOWAIT); err != nil {
		return nil, os.NewSyscallError("getfsstat", err)
	}
	var at []string
	for i := range all[:min(n, len(all))] {
		m := &all[i]
		st, err := os.Stat(unix.ByteSliceToString(m.Mntfromname[:]))
		if err != nil || !isDisk(st) {
			continue
		}
		if s, ok := st.Sys().(*syscall.Stat_t); ok && s.Rdev == own.Rdev {
			if p := unix.ByteSliceToString(m.Mntonname[:]); !slices.Contains(at, p) {
				at = append(at, p)
			}
		}
	}
	return at, nil
}

// attached is for systems that tell which files are attached to devices.
func attached(fs.FileInfo) string { return "" }

// users says who uses a device, as far as that is known.
func users(name string, _ *os.File) string {
	at, err := Mounted(name)
	if err != nil || len(at) == 0 {
		return ""
	}
	return "mounted on " + strings.Join(at, ", ")
}
