//go:build (linux && !(386 || arm || mips || mipsle)) || darwin || freebsd

package fuse

import (
	"strings"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
)

// GetXAttr implements gofuse.RawFileSystem. An empty dest asks for the size.
func (f *filesystem) GetXAttr(_ <-chan struct{}, h *gofuse.InHeader, name string, dest []byte) (uint32, gofuse.Status) {
	id, st := f.node(h)
	if !st.Ok() {
		return 0, st
	}
	v, err := f.files.GetXattr(f.ctx, id, name)
	if err != nil {
		return 0, f.fail("read xattr "+name+" of", id, err)
	}
	return answer(dest, v)
}

// ListXAttr implements gofuse.RawFileSystem. Only root sees trusted.*, as
// everywhere; reading those is refused to others by the kernel.
func (f *filesystem) ListXAttr(_ <-chan struct{}, h *gofuse.InHeader, dest []byte) (uint32, gofuse.Status) {
	id, st := f.node(h)
	if !st.Ok() {
		return 0, st
	}
	names, err := f.files.ListXattr(f.ctx, id)
	if err != nil {
		return 0, f.fail("list xattrs of", id, err)
	}
	var b []byte
	for _, n := range names {
		if h.Uid != 0 && strings.HasPrefix(n, "trusted.") {
			continue
		}
		b = append(append(b, n...), 0)
	}
	return answer(dest, b)
}

// answer copies v to dest if it fits and gives its size in any case.
func answer(dest, v []byte) (uint32, gofuse.Status) {
	if len(v) > len(dest) {
		return uint32(len(v)), gofuse.ERANGE // means "that much" if dest is empty
	}
	copy(dest, v)
	return uint32(len(v)), gofuse.OK
}
