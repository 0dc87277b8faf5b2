//go:build (linux && !(386 || arm || mips || mipsle)) || darwin || freebsd

package fuse

import (
	"fmt"
	"sync"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/errs"
)

// Open implements gofuse.RawFileSystem.
func (f *filesystem) Open(_ <-chan struct{}, in *gofuse.OpenIn, out *gofuse.OpenOut) gofuse.Status {
	if in.Flags&gofuse.O_ANYWRITE != 0 {
		return gofuse.EROFS
	}
	if f.noOpen {
		return gofuse.ENOSYS // never asks again; files keep their cache
	}
	id, st := f.node(&in.InHeader)
	if !st.Ok() {
		return st
	}
	if _, err := f.handle(id); err != nil {
		return f.fail("open", id, err)
	}
	out.OpenFlags = gofuse.FOPEN_KEEP_CACHE
	return gofuse.OK
}

// Flush implements gofuse.RawFileSystem: there is nothing to do when a file is
// closed, and no need to ask again.
func (f *filesystem) Flush(<-chan struct{}, *gofuse.FlushIn) gofuse.Status { return gofuse.ENOSYS }

// Read implements gofuse.RawFileSystem. The data goes straight into the buffer
// of the answer.
func (f *filesystem) Read(_ <-chan struct{}, in *gofuse.ReadIn, buf []byte) (gofuse.ReadResult, gofuse.Status) {
	id, st := f.node(&in.InHeader)
	if !st.Ok() {
		return nil, st
	}
	h, err := f.handle(id)
	if err != nil {
		return nil, f.fail("read", id, err)
	}
	if in.Offset == 0 {
		f.ahead.read(in.NodeId)
	}
	size := h.Attr().Size
	if in.Offset >= size {
		return gofuse.ReadResultData(nil), gofuse.OK
	}
	if want := min(uint64(in.Size), size-in.Offset); uint64(len(buf)) > want {
		buf = buf[:want]
	}
	n, err := h.ReadAt(f.ctx, buf, int64(in.Offset))
	if err == nil && n < len(buf) {
		err = &errs.Error{Where: errs.Nowhere, Kind: errs.ErrIO, Reason: "short read", Want: fmt.Sprint(len(buf), " bytes"), Got: fmt.Sprint(n)}
	}
	if err != nil {
		// Not even the bytes before the error: a short answer is the end of
		// the file. The kernel asks again for what it needs, page by page.
		return nil, f.fail("read", id, err)
	}
	return gofuse.ReadResultData(buf), gofuse.OK
}

// load reads a file whole, to be kept by the kernel. Where it fails nothing is
// kept, and who wants the file is told why.
func (f *filesystem) load(s sibling, buf []byte) bool {
	h, err := f.handle(s.id)
	if err != nil || h.Attr().Size != uint64(len(buf)) {
		return false
	}
	n, err := h.ReadAt(f.ctx, buf, 0)
	return err == nil && n == len(buf)
}

// Lseek implements gofuse.RawFileSystem. Only SEEK_DATA and SEEK_HOLE come here.
func (f *filesystem) Lseek(_ <-chan struct{}, in *gofuse.LseekIn, out *gofuse.LseekOut) gofuse.Status {
	id, st := f.node(&in.InHeader)
	if !st.Ok() {
		return st
	}
	h, err := f.handle(id)
	if err != nil {
		return f.fail("seek in", id, err)
	}
	var at int64
	switch in.Whence {
	case seekData:
		at, err = h.SeekData(f.ctx, int64(in.Offset))
	case seekHole:
		at, err = h.SeekHole(f.ctx, int64(in.Offset))
	default:
		return gofuse.EINVAL
	}
	if err != nil {
		return f.fail("seek in", id, err)
	}
	out.Offset = uint64(at)
	return gofuse.OK
}

// handle gives the handle of a file, from the cache if it is there.
func (f *filesystem) handle(id bcachefs.NodeID) (*bcachefs.Handle, error) {
	if h := f.handles.get(id); h != nil {
		return h, nil
	}
	h, err := f.files.Open(f.ctx, id)
	if err != nil {
		return nil, err
	}
	if err := f.files.Suspect(id); err != nil {
		f.report("read from damaged metadata:", id, err)
	}
	f.handles.put(id, h)
	return h, nil
}

const (
	handleShards = 16
	handlesEach  = 256 // handles of a shard
)

// handles caches handles of files by their id. They never go stale, and hold
// nothing open.
type handles [handleShards]struct {
	mu sync.RWMutex
	m  map[bcachefs.NodeID]*bcachefs.Handle
}

func (c *handles) get(id bcachefs.NodeID) *bcachefs.Handle {
	s := &c[id.Inode%handleShards]
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.m[id]
}

func (c *handles) put(id bcachefs.NodeID, h *bcachefs.Handle) {
	s := &c[id.Inode%handleShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = make(map[bcachefs.NodeID]*bcachefs.Handle, handlesEach)
	}
	if len(s.m) >= handlesEach {
		for old := range s.m { // any: to open one again costs little
			delete(s.m, old)
			break
		}
	}
	s.m[id] = h
}
