//go:build !(386 || arm || mips || mipsle)

package fuse

import (
	"encoding/binary"
	"syscall"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/gobcachefs/gobcachefs"
)

// Flags of FS_IOC_GETFLAGS (lsattr) and FS_IOC_FSGETXATTR.
const (
	flagSync      = 0x8
	flagImmutable = 0x10
	flagAppend    = 0x20
	flagNodump    = 0x40
	flagNoatime   = 0x80
	flagCasefold  = 0x40000000

	xflagImmutable = 0x8
	xflagAppend    = 0x10
	xflagSync      = 0x20
	xflagNoatime   = 0x40
	xflagNodump    = 0x80
)

// Ioctl implements gofuse.RawFileSystem: the flags of files.
func (f *filesystem) Ioctl(_ <-chan struct{}, in *gofuse.IoctlIn, _ []byte, _ *gofuse.IoctlOut, out []byte) gofuse.Status {
	id, st := f.node(&in.InHeader)
	if !st.Ok() {
		return st
	}
	var answer func(*bcachefs.Attr) []byte
	switch in.Cmd {
	case unix.FS_IOC_GETFLAGS:
		answer = fileFlags
	case fsGetXattr:
		answer = fsxattr
	default:
		return gofuse.Status(syscall.ENOTTY)
	}
	a, err := f.files.Getattr(f.ctx, id)
	if err != nil {
		return f.fail("read flags of", id, err)
	}
	clear(out)
	copy(out, answer(&a))
	return gofuse.OK
}

type flagBit struct {
	set bool
	bit uint32
}

func join(bits ...flagBit) (v uint32) {
	for _, b := range bits {
		if b.set {
			v |= b.bit
		}
	}
	return v
}

func fileFlags(a *bcachefs.Attr) []byte {
	x := a.Flags
	return binary.NativeEndian.AppendUint32(nil, join(flagBit{x.Sync, flagSync}, flagBit{x.Immutable, flagImmutable}, flagBit{x.Append, flagAppend},
		flagBit{x.Nodump, flagNodump}, flagBit{x.Noatime, flagNoatime}, flagBit{x.Casefold, flagCasefold}))
}

// fsxattr is struct fsxattr: flags, extent size hint, extents, project, copy on
// write hint, 8 bytes of padding.
func fsxattr(a *bcachefs.Attr) []byte {
	x := a.Flags
	b := make([]byte, 28)
	binary.NativeEndian.PutUint32(b, join(flagBit{x.Sync, xflagSync}, flagBit{x.Immutable, xflagImmutable}, flagBit{x.Append, xflagAppend},
		flagBit{x.Nodump, xflagNodump}, flagBit{x.Noatime, xflagNoatime}))
	binary.NativeEndian.PutUint32(b[12:], a.Project)
	return b
}

// fsGetXattr is FS_IOC_FSGETXATTR: 'X' 31, 28 bytes read. The direction bits
// are where FS_IOC_GETFLAGS has them.
const fsGetXattr uint32 = unix.FS_IOC_GETFLAGS&0xe0000000 | 28<<16 | 'X'<<8 | 31
