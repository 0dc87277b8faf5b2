//go:build (linux && !(386 || arm || mips || mipsle)) || darwin || freebsd

package fuse

import (
	"sync"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Cookies of the entries that the volume does not store; those of the others
// are greater (bcachefs.Files.ReadDir).
const (
	dotCookie    = 1
	dotdotCookie = 2
)

// OpenDir implements gofuse.RawFileSystem.
func (f *filesystem) OpenDir(_ <-chan struct{}, in *gofuse.OpenIn, out *gofuse.OpenOut) gofuse.Status {
	if f.noOpendir {
		return gofuse.ENOSYS
	}
	out.OpenFlags = gofuse.FOPEN_KEEP_CACHE | gofuse.FOPEN_CACHE_DIR
	return gofuse.OK
}

// ReadDir implements gofuse.RawFileSystem.
func (f *filesystem) ReadDir(_ <-chan struct{}, in *gofuse.ReadIn, out *gofuse.DirEntryList) gofuse.Status {
	return f.list(in, func(e gofuse.DirEntry, _ *bcachefs.NodeID) bool { return out.AddDirEntry(e) })
}

// ReadDirPlus implements gofuse.RawFileSystem: each entry is a lookup too.
func (f *filesystem) ReadDirPlus(_ <-chan struct{}, in *gofuse.ReadIn, out *gofuse.DirEntryList) gofuse.Status {
	return f.list(in, func(e gofuse.DirEntry, id *bcachefs.NodeID) bool {
		entry := out.AddDirLookupEntry(e)
		if entry == nil {
			return false
		}
		if id == nil || *id == f.nodes.root {
			return true
		}
		// A node id of 0 leaves the lookup to be done, and to fail, when
		// somebody wants the file.
		if a, err := f.files.Getattr(f.ctx, *id); err == nil {
			f.entry(&a, entry)
			if a.IsRegular() && a.Size <= aheadFile {
				f.ahead.listed(sibling{nr: entry.NodeId, id: a.ID, size: int(a.Size)})
			}
		}
		return true
	})
}

// list gives the entries of a directory behind the cookie in.Offset to add,
// until that reports that it is full. id is nil for "." and "..".
func (f *filesystem) list(in *gofuse.ReadIn, add func(e gofuse.DirEntry, id *bcachefs.NodeID) bool) gofuse.Status {
	dir, st := f.node(&in.InHeader)
	if !st.Ok() {
		return st
	}
	added := false
	if in.Offset < dotCookie {
		if !add(gofuse.DirEntry{Name: ".", Ino: bcachefs.Ino(dir), Mode: ondisk.ModeDir, Off: dotCookie}, nil) {
			return gofuse.EINVAL
		}
		added = true
	}
	if in.Offset < dotdotCookie {
		// Where the directory's parent is not known, any number will do.
		p, err := f.parent(dir)
		if err != nil {
			p = dir
		}
		if !add(gofuse.DirEntry{Name: "..", Ino: bcachefs.Ino(p), Mode: ondisk.ModeDir, Off: dotdotCookie}, nil) {
			return gofuse.OK
		}
		added = true
	}
	after := in.Offset
	if after <= dotdotCookie {
		after = 0
	}
	full := false
	err := f.files.ReadDir(f.ctx, dir, after, func(e bcachefs.Entry) bool {
		if !add(gofuse.DirEntry{Name: e.Name, Ino: e.Ino, Mode: e.Type, Off: e.Cookie}, &e.ID) {
			full = true
			return false
		}
		added = true
		return true
	})
	if err != nil {
		f.damaged.note(dir, err)
	}
	if added {
		return gofuse.OK // an error comes with the request that finds the end
	}
	if full {
		return gofuse.EINVAL // not even one entry fits
	}
	if err == nil {
		err = f.damaged.of(dir)
	}
	if err != nil {
		return f.fail("list", dir, err)
	}
	return gofuse.OK
}

// dirErrors remembers of which directories not all entries could be read. A
// listing is many requests, and the one that finds the end need not be the one
// that met the damage.
type dirErrors struct {
	mu sync.Mutex
	m  map[bcachefs.NodeID]error
}

// maxDamaged bounds dirErrors.
const maxDamaged = 1 << 16

func (d *dirErrors) note(id bcachefs.NodeID, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.m == nil {
		d.m = map[bcachefs.NodeID]error{}
	}
	if len(d.m) < maxDamaged {
		d.m[id] = err
	}
}

func (d *dirErrors) of(id bcachefs.NodeID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.m[id]
}
