//go:build !(386 || arm || mips || mipsle)

package fuse

import (
	"encoding/binary"
	"syscall"
	"testing"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

func TestFileFlags(t *testing.T) {
	all := bcachefs.AttrFlags{Sync: true, Immutable: true, Append: true, Nodump: true, Noatime: true, Casefold: true}
	for _, c := range []struct {
		f           bcachefs.AttrFlags
		want, xwant uint32
	}{
		{bcachefs.AttrFlags{}, 0, 0},
		{bcachefs.AttrFlags{Immutable: true}, 0x10, 0x8},
		{bcachefs.AttrFlags{Append: true}, 0x20, 0x10},
		{all, 0x400000f8, 0xf8},
	} {
		a := bcachefs.Attr{Flags: c.f, Project: 77}
		if got := binary.NativeEndian.Uint32(fileFlags(&a)); got != c.want {
			t.Errorf("fileFlags(%+v) = %#x, want %#x", c.f, got, c.want)
		}
		x := fsxattr(&a)
		if got, p := binary.NativeEndian.Uint32(x), binary.NativeEndian.Uint32(x[12:]); len(x) != 28 || got != c.xwant || p != 77 {
			t.Errorf("fsxattr(%+v) = flags %#x, project %d, %d bytes, want %#x, 77, 28", c.f, got, p, len(x), c.xwant)
		}
	}
	if fsGetXattr != 0x801c581f && fsGetXattr != 0x401c581f {
		t.Errorf("FS_IOC_FSGETXATTR = %#x", fsGetXattr)
	}
}

func TestIoctl(t *testing.T) {
	v := openVolume(t, "v39casefold", testvol.Load(t, "v39casefold"))
	k := testKernel(t, v, Options{})
	nr := mustNode(t, k, "Casefolded")
	out := make([]byte, 4)
	if st := k.f.Ioctl(nil, &gofuse.IoctlIn{InHeader: header(nr), Cmd: unix.FS_IOC_GETFLAGS}, nil, &gofuse.IoctlOut{}, out); !st.Ok() {
		t.Fatal(st)
	}
	if got := binary.NativeEndian.Uint32(out); got&flagCasefold == 0 {
		t.Errorf("flags of a casefolded directory = %#x, want bit %#x", got, flagCasefold)
	}
	if st := k.f.Ioctl(nil, &gofuse.IoctlIn{InHeader: header(nr), Cmd: 12345}, nil, &gofuse.IoctlOut{}, out); st != gofuse.Status(syscall.ENOTTY) {
		t.Errorf("unknown ioctl = %v, want ENOTTY", st)
	}
}
