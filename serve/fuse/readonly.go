//go:build (linux && !(386 || arm || mips || mipsle)) || darwin || freebsd

package fuse

import (
	gofuse "github.com/hanwen/go-fuse/v2/fuse"
)

// Everything that would change the volume. The kernel does not ask on a mount
// with the flag ro.

func (f *filesystem) SetAttr(<-chan struct{}, *gofuse.SetAttrIn, *gofuse.AttrOut) gofuse.Status {
	return gofuse.EROFS
}

func (f *filesystem) Mknod(<-chan struct{}, *gofuse.MknodIn, string, *gofuse.EntryOut) gofuse.Status {
	return gofuse.EROFS
}

func (f *filesystem) Mkdir(<-chan struct{}, *gofuse.MkdirIn, string, *gofuse.EntryOut) gofuse.Status {
	return gofuse.EROFS
}

func (f *filesystem) Unlink(<-chan struct{}, *gofuse.InHeader, string) gofuse.Status {
	return gofuse.EROFS
}

func (f *filesystem) Rmdir(<-chan struct{}, *gofuse.InHeader, string) gofuse.Status {
	return gofuse.EROFS
}

func (f *filesystem) Rename(<-chan struct{}, *gofuse.RenameIn, string, string) gofuse.Status {
	return gofuse.EROFS
}

func (f *filesystem) Link(<-chan struct{}, *gofuse.LinkIn, string, *gofuse.EntryOut) gofuse.Status {
	return gofuse.EROFS
}

func (f *filesystem) Symlink(<-chan struct{}, *gofuse.InHeader, string, string, *gofuse.EntryOut) gofuse.Status {
	return gofuse.EROFS
}

func (f *filesystem) SetXAttr(<-chan struct{}, *gofuse.SetXAttrIn, string, []byte) gofuse.Status {
	return gofuse.EROFS
}

func (f *filesystem) RemoveXAttr(<-chan struct{}, *gofuse.InHeader, string) gofuse.Status {
	return gofuse.EROFS
}

func (f *filesystem) Create(<-chan struct{}, *gofuse.CreateIn, string, *gofuse.CreateOut) gofuse.Status {
	return gofuse.EROFS
}

func (f *filesystem) Tmpfile(<-chan struct{}, *gofuse.CreateIn, *gofuse.CreateOut) gofuse.Status {
	return gofuse.EROFS
}

func (f *filesystem) Write(<-chan struct{}, *gofuse.WriteIn, []byte) (uint32, gofuse.Status) {
	return 0, gofuse.EROFS
}

func (f *filesystem) Fallocate(<-chan struct{}, *gofuse.FallocateIn) gofuse.Status {
	return gofuse.EROFS
}

func (f *filesystem) CopyFileRange(<-chan struct{}, *gofuse.CopyFileRangeIn) (uint32, gofuse.Status) {
	return 0, gofuse.EROFS
}
