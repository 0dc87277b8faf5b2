package fuse

import (
	"syscall"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/gobcachefs/gobcachefs"
)

// extraCapabilities of the protocol, beside those go-fuse takes anyway.
const extraCapabilities = gofuse.CAP_EXPORT_SUPPORT

// storesCache: the kernel takes data for its cache unasked.
const storesCache = false

const (
	seekData = unix.SEEK_DATA
	seekHole = unix.SEEK_HOLE
)

func fillBirth(*bcachefs.Attr, *gofuse.Attr) {}

func noOpendir(flags uint64) bool { return flags&gofuse.CAP_NO_OPENDIR_SUPPORT != 0 }

// mount mounts through mount_fusefs.
func mount(fs *filesystem, dir string, mo *gofuse.MountOptions, words []string) (*gofuse.Server, error) {
	mo.Options = append([]string{"ro", "default_permissions"}, words...)
	return gofuse.NewServer(fs, dir, mo)
}

// detach takes a mount away that is still in use.
func detach(dir string) error { return syscall.Unmount(dir, unix.MNT_FORCE) }

func tune(string) {}
