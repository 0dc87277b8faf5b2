//go:build (linux && !(386 || arm || mips || mipsle)) || darwin || freebsd

package fuse

import (
	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/gobcachefs/gobcachefs"
)

// entry answers a lookup, and counts it.
func (f *filesystem) entry(a *bcachefs.Attr, out *gofuse.EntryOut) {
	out.NodeId = f.nodes.look(a.ID)
	out.Generation = uint64(a.Generation)
	out.SetEntryTimeout(f.valid)
	out.SetAttrTimeout(f.valid)
	fillAttr(a, &out.Attr)
}

func fillAttr(a *bcachefs.Attr, out *gofuse.Attr) {
	out.Ino, out.Size, out.Blocks, out.Blksize = a.Ino, a.Size, a.Blocks, a.BlockSize
	out.Mode, out.Nlink, out.Uid, out.Gid = a.Mode, a.Nlink, a.UID, a.GID
	out.Rdev = rdev(a.RdevMajor, a.RdevMinor)
	out.SetTimes(&a.Atime, &a.Mtime, &a.Ctime)
	fillBirth(a, out)
}

// rdev encodes a device number as the protocol has it: 12 bits of major and 20
// of minor number.
func rdev(major, minor uint32) uint32 { return minor&0xff | major&0xfff<<8 | minor>>8&0xfff<<20 }

// GetAttr implements gofuse.RawFileSystem.
func (f *filesystem) GetAttr(_ <-chan struct{}, in *gofuse.GetAttrIn, out *gofuse.AttrOut) gofuse.Status {
	id, st := f.node(&in.InHeader)
	if !st.Ok() {
		return st
	}
	a, err := f.files.Getattr(f.ctx, id)
	if err != nil {
		return f.fail("stat", id, err)
	}
	out.SetTimeout(f.valid)
	fillAttr(&a, &out.Attr)
	return gofuse.OK
}

// Flags of statx(2).
const (
	statxBasic = 0x7ff
	statxBtime = 0x800

	statxImmutable = 0x10
	statxAppend    = 0x20
	statxNodump    = 0x40
)

// Statx implements gofuse.RawFileSystem. Linux asks for it when a program wants
// the time of creation.
func (f *filesystem) Statx(_ <-chan struct{}, in *gofuse.StatxIn, out *gofuse.StatxOut) gofuse.Status {
	id, st := f.node(&in.InHeader)
	if !st.Ok() {
		return st
	}
	a, err := f.files.Getattr(f.ctx, id)
	if err != nil {
		return f.fail("stat", id, err)
	}
	out.SetTimeout(f.valid)
	fillStatx(&a, &out.Statx)
	return gofuse.OK
}

func fillStatx(a *bcachefs.Attr, out *gofuse.Statx) {
	out.Mask = statxBasic | statxBtime
	out.Ino, out.Size, out.Blocks, out.Blksize = a.Ino, a.Size, a.Blocks, a.BlockSize
	out.Mode, out.Nlink, out.Uid, out.Gid = uint16(a.Mode), a.Nlink, a.UID, a.GID
	out.RdevMajor, out.RdevMinor = a.RdevMajor, a.RdevMinor
	out.AttributesMask = statxImmutable | statxAppend | statxNodump
	for _, x := range []struct {
		set bool
		bit uint64
	}{{a.Flags.Immutable, statxImmutable}, {a.Flags.Append, statxAppend}, {a.Flags.Nodump, statxNodump}} {
		if x.set {
			out.Attributes |= x.bit
		}
	}
	out.Atime = gofuse.SxTime{Sec: uint64(a.Atime.Unix()), Nsec: uint32(a.Atime.Nanosecond())}
	out.Btime = gofuse.SxTime{Sec: uint64(a.Btime.Unix()), Nsec: uint32(a.Btime.Nanosecond())}
	out.Ctime = gofuse.SxTime{Sec: uint64(a.Ctime.Unix()), Nsec: uint32(a.Ctime.Nanosecond())}
	out.Mtime = gofuse.SxTime{Sec: uint64(a.Mtime.Unix()), Nsec: uint32(a.Mtime.Nanosecond())}
}
