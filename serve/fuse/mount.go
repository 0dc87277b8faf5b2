//go:build (linux && !(386 || arm || mips || mipsle)) || darwin || freebsd

package fuse

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// mountpoint makes a directory absolute and checks that it is one.
func mountpoint(dir string) (string, error) {
	if dir == "" {
		return "", usage("no mount point")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	st, err := os.Stat(abs)
	switch {
	case errors.Is(err, syscall.ENOTCONN):
		return "", usage("%s: a mount whose server is gone; unmount it first", abs)
	case err != nil:
		return "", err
	case !st.IsDir():
		return "", &fs.PathError{Op: "mount", Path: abs, Err: syscall.ENOTDIR}
	}
	// What the mount table shows, and unmounting asks for.
	return filepath.EvalSymlinks(abs)
}

// ownMountClosed: the process may not look into its own mount, since the root
// directory of the volume does not let it. It works all the same.
func ownMountClosed(err error) bool {
	return errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM)
}
