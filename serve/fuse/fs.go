//go:build (linux && !(386 || arm || mips || mipsle)) || darwin || freebsd

package fuse

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// defaultCacheTime is Options.CacheTime when it is 0.
const defaultCacheTime = 30 * 24 * time.Hour

// filesystem answers the kernel's requests.
//
// The cancel channels of requests are not used: the kernel interrupts a request
// for any signal that the caller gets, and a read of a file that fails with
// EINTR is more than most programs are ready for. What ends requests early is
// the end of the mount.
type filesystem struct {
	gofuse.RawFileSystem // answers ENOSYS to the rest

	files   *bcachefs.Files
	vol     *bcachefs.Volume
	nodes   *nodes
	handles handles
	damaged dirErrors
	ahead   ahead
	ctx     context.Context
	cancel  context.CancelFunc
	valid   time.Duration
	warn    func(error)

	// The kernel understands that it need not open files and directories.
	noOpen, noOpendir bool

	warned   sync.Map // what was told to warn: string
	warnings atomic.Int64
}

var _ gofuse.RawFileSystem = (*filesystem)(nil)

func newFilesystem(vol *bcachefs.Volume, o Options) *filesystem {
	sub := o.Subvolume
	if sub == nil {
		sub = vol.Root()
	}
	f := &filesystem{
		RawFileSystem: gofuse.NewDefaultRawFileSystem(),
		files:         vol.Files(), vol: vol, nodes: newNodes(sub.Node()), valid: o.CacheTime, warn: o.Warn,
	}
	if f.valid == 0 {
		f.valid = defaultCacheTime
	}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f
}

// String implements gofuse.RawFileSystem.
func (f *filesystem) String() string { return "bcachefs" }

// Init implements gofuse.RawFileSystem.
func (f *filesystem) Init(s *gofuse.Server) {
	flags := s.KernelSettings().Flags64()
	f.noOpen = flags&gofuse.CAP_NO_OPEN_SUPPORT != 0
	f.noOpendir = noOpendir(flags)
	if storesCache && s.KernelSettings().SupportsNotify(gofuse.NOTIFY_STORE_CACHE) {
		f.ahead.start(f.ctx, f.load, func(nr uint64, data []byte) bool { return s.InodeNotifyStoreCache(nr, 0, data).Ok() })
	}
}

// OnUnmount implements gofuse.RawFileSystem.
func (f *filesystem) OnUnmount() { f.cancel() }

// maxWarnings bounds what a mount remembers of what it has warned of.
const maxWarnings = 10000

// fail turns the error of a request into its answer.
func (f *filesystem) fail(op string, id bcachefs.NodeID, err error) gofuse.Status {
	n := errs.Errno(err)
	if n == syscall.EIO {
		f.report(op, id, err)
	}
	return gofuse.Status(n)
}

// report tells an error to Options.Warn, once for each operation and file.
func (f *filesystem) report(op string, id bcachefs.NodeID, err error) {
	if f.warn == nil {
		return
	}
	key := fmt.Sprint(op, id)
	if _, again := f.warned.Load(key); again || f.warnings.Add(1) > maxWarnings {
		return
	}
	f.warned.Store(key, nil)
	where := fmt.Sprintf("inode %d of subvolume %d", id.Inode, id.Subvol)
	if p, err := f.files.Path(f.ctx, id); err == nil {
		where = p
	}
	f.warn(fmt.Errorf("%s %s: %w", op, where, err))
}

// panicked answers a request whose handler panicked, which is a bug of ours that
// must not take the mount down.
func (f *filesystem) panicked(what any) gofuse.Status {
	if f.warn != nil && f.warnings.Add(1) <= maxWarnings {
		f.warn(fmt.Errorf("internal error: %v\n%s", what, debug.Stack()))
	}
	return gofuse.EIO
}

// node gives the file of a request. The kernel only uses ids that it was given,
// or that an NFS client has kept; for those that mean nothing it is ESTALE.
func (f *filesystem) node(h *gofuse.InHeader) (bcachefs.NodeID, gofuse.Status) {
	id, ok := f.nodes.id(h.NodeId)
	if !ok {
		return id, gofuse.Status(syscall.ESTALE)
	}
	return id, gofuse.OK
}

// Lookup implements gofuse.RawFileSystem. "." and ".." come from NFS servers.
func (f *filesystem) Lookup(_ <-chan struct{}, h *gofuse.InHeader, name string, out *gofuse.EntryOut) gofuse.Status {
	dir, st := f.node(h)
	if !st.Ok() {
		return st
	}
	var a bcachefs.Attr
	var err error
	switch name {
	case ".":
		a, err = f.files.Getattr(f.ctx, dir)
	case "..":
		var p bcachefs.NodeID
		if p, err = f.parent(dir); err == nil {
			a, err = f.files.Getattr(f.ctx, p)
		}
	default:
		a, err = f.files.Lookup(f.ctx, dir, name)
	}
	if err == nil {
		f.entry(&a, out)
		return gofuse.OK
	}
	if errs.Errno(err) == syscall.ENOENT && f.absent(dir) {
		// A node id of 0 says: no such name, and remember that.
		out.SetEntryTimeout(f.valid)
		return gofuse.OK
	}
	return f.fail("lookup in", dir, err)
}

// absent: the kernel may remember that a name is not in this directory. Not so
// where names differ by case only: it compares bytes.
func (f *filesystem) absent(dir bcachefs.NodeID) bool {
	a, err := f.files.Getattr(f.ctx, dir)
	return err == nil && !a.Flags.Casefold
}

// parent is "..", which stops at the root of the mount.
func (f *filesystem) parent(id bcachefs.NodeID) (bcachefs.NodeID, error) {
	if id == f.nodes.root {
		return id, nil
	}
	return f.files.Parent(f.ctx, id)
}

// Forget implements gofuse.RawFileSystem.
func (f *filesystem) Forget(nr, count uint64) { f.nodes.forget(nr, count) }

// Readlink implements gofuse.RawFileSystem.
func (f *filesystem) Readlink(_ <-chan struct{}, h *gofuse.InHeader) ([]byte, gofuse.Status) {
	id, st := f.node(h)
	if !st.Ok() {
		return nil, st
	}
	t, err := f.files.Readlink(f.ctx, id)
	if err != nil {
		return nil, f.fail("readlink", id, err)
	}
	return []byte(t), gofuse.OK
}

// StatFs implements gofuse.RawFileSystem. A volume whose counters cannot be read
// is shown as full rather than not at all.
func (f *filesystem) StatFs(_ <-chan struct{}, _ *gofuse.InHeader, out *gofuse.StatfsOut) gofuse.Status {
	st, err := f.vol.Statfs(f.ctx)
	if err != nil {
		f.report("count the space of", f.nodes.root, err)
		block := uint32(f.vol.Superblock().BlockSize) * 512
		st = bcachefs.Statfs{BlockSize: block, NameLen: ondisk.NameMax}
	}
	*out = gofuse.StatfsOut{
		Blocks: st.Blocks, Bfree: st.Free, Bavail: st.Avail, Files: st.Files, Ffree: st.FilesFree,
		Bsize: st.BlockSize, Frsize: st.BlockSize, NameLen: st.NameLen,
	}
	return gofuse.OK
}

// Access implements gofuse.RawFileSystem. The kernel checks by itself and does
// not ask; this is for those that do.
func (f *filesystem) Access(_ <-chan struct{}, in *gofuse.AccessIn) gofuse.Status {
	if in.Mask&gofuse.W_OK != 0 {
		return gofuse.EROFS
	}
	return gofuse.ENOSYS
}
