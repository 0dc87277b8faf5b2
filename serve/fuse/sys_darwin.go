package fuse

import (
	"syscall"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/gobcachefs/gobcachefs"
)

// extraCapabilities of the protocol, beside those go-fuse takes anyway.
const extraCapabilities = 0

// storesCache: the kernel takes data for its cache unasked.
const storesCache = false

const (
	seekData = unix.SEEK_DATA
	seekHole = unix.SEEK_HOLE
)

func fillBirth(a *bcachefs.Attr, out *gofuse.Attr) {
	out.Crtime_, out.Crtimensec_ = uint64(a.Btime.Unix()), uint32(a.Btime.Nanosecond())
}

func noOpendir(uint64) bool { return false }

// mount mounts through macFUSE.
func mount(fs *filesystem, dir string, mo *gofuse.MountOptions, words []string) (*gofuse.Server, error) {
	mo.Options = append([]string{"ro", "default_permissions", "noappledouble"}, words...)
	return gofuse.NewServer(fs, dir, mo)
}

// detach takes a mount away that is still in use.
func detach(dir string) error { return syscall.Unmount(dir, unix.MNT_FORCE) }

func tune(string) {}
