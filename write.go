package bcachefs

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/engine"
	"github.com/gobcachefs/gobcachefs/internal/objects"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// WriteOptions of OpenWrite, beside Options. The zero value is what a careful
// user wants.
type WriteOptions struct {
	// Now is the clock of the changes; nil is the real one.
	Now func() time.Time
	// Seed makes what must be different every time (identities of btree nodes,
	// hash seeds of inodes); nil makes it unpredictable. Tests want the same twice.
	Seed func() uint64
}

// Writable says whether volumes with this superblock can be changed: nil, or an
// error of kind errs.ErrReadOnly that names the version.
func Writable(sb *ondisk.Superblock) error { return engine.Writable(sb) }

// WritableVolume is a Volume that can be changed. What its reading methods show
// is what was changed so far. Safe for concurrent use.
//
// Every change is a transaction: after a power cut it is there in full or not at
// all, and what a Sync or Close that succeeded came after is there. An operation
// that has begun is finished even if its context ends meanwhile.
type WritableVolume struct {
	*Volume
	rw     *engine.RW
	w      *objects.Writer
	seq    atomic.Uint64 // newest change
	files  [64]sync.Mutex
	mu     sync.RWMutex // held to read by operations, to write to close
	closed bool
}

// OpenWrite opens a volume to change it. The devices must be block.Writers, all
// members of the volume, and opened for this alone (block.OpenWriter sees to
// that); they stay the caller's to close, after the volume. A volume that was not
// shut down properly is recovered first. The volume is marked as in use on disk
// before OpenWrite returns; Close takes that back.
//
// Errors are those of Open and errs.ErrReadOnly: for a version that is not
// written here (see Writable), and for devices opened to read.
func OpenWrite(ctx context.Context, devices []block.Writer, o Options, wo WriteOptions) (*WritableVolume, error) {
	readers := make([]block.Reader, len(devices))
	for i, d := range devices {
		readers[i] = d
	}
	o.Salvage = false // what may be wrong must not be written back as right
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// From the first write on, only Close makes it a clean volume again.
	ctx = context.WithoutCancel(ctx)
	rw, err := engine.OpenWrite(ctx, readers, engine.WriteOptions{Options: o.engine(), Now: wo.Now, Seed: wo.Seed})
	if err != nil {
		return nil, err
	}
	return &WritableVolume{Volume: &Volume{e: rw.Engine, opts: o, live: true}, rw: rw, w: rw.Writer()}, nil
}

// OpenWriteSpec opens the volume that a device argument names (see OpenDevices)
// to change it, and closes its devices with the volume.
func OpenWriteSpec(ctx context.Context, spec string, o Options, wo WriteOptions) (*WritableVolume, error) {
	ws, err := OpenWriters(ctx, spec, block.Options{})
	if err != nil {
		return nil, err
	}
	v, err := OpenWrite(ctx, ws, o, wo)
	if err != nil {
		closeWriters(ws)
		return nil, err
	}
	for _, w := range ws {
		v.close = append(v.close, w)
	}
	return v, nil
}

// OpenWriters opens the devices that a device argument names, as OpenDevices
// does, to write: locked against everybody else.
func OpenWriters(ctx context.Context, spec string, o block.Options) ([]block.Writer, error) {
	names := block.SplitDevices(spec)
	// A list names them all. One name may stand for several: it is looked at
	// first, and given free again.
	plain := len(names) > 1
	if len(names) == 1 {
		st, err := os.Stat(names[0])
		plain = err == nil && st.Mode().IsRegular()
	}
	if !plain {
		rs, err := OpenDevices(ctx, spec, o)
		if err != nil {
			return nil, err
		}
		names = names[:0]
		for _, r := range rs {
			names = append(names, r.Info().Name)
		}
		closeAll(rs)
	}
	var ws []block.Writer
	for _, n := range names {
		w, err := block.OpenWriter(ctx, n, o)
		if err != nil {
			closeWriters(ws)
			return nil, err
		}
		ws = append(ws, w)
	}
	return ws, nil
}

func closeWriters(ws []block.Writer) {
	for _, w := range ws {
		_ = w.Close()
	}
}

// errClosed is what a volume that was closed says.
func errClosed() error {
	return &errs.Error{Where: errs.Nowhere, Kind: os.ErrClosed, Reason: "the volume is closed"}
}

// do runs an operation that changes something. ctx can keep it from starting,
// but does not end it in the middle: f gets one that does not.
func (v *WritableVolume) do(ctx context.Context, f func(ctx context.Context) (seq uint64, err error)) error {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.closed {
		return errClosed()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	seq, err := f(context.WithoutCancel(ctx))
	for old := v.seq.Load(); seq > old && !v.seq.CompareAndSwap(old, seq); old = v.seq.Load() {
	}
	return err
}

// lockData keeps changes of the data of one file apart.
func (v *WritableVolume) lockData(id NodeID) func() {
	h := (id.Inode*0x9e3779b97f4a7c15 + uint64(id.Subvol)*0xc2b2ae3d27d4eb4f) >> 58
	m := &v.files[h]
	m.Lock()
	return m.Unlock
}

// Sync makes all changes that were done before it durable.
func (v *WritableVolume) Sync(ctx context.Context) error {
	return v.do(ctx, func(ctx context.Context) (uint64, error) {
		return 0, v.rw.Store.Sync(ctx, v.seq.Load())
	})
}

// Close writes everything, marks the volume as clean, and closes the devices
// that OpenWriteSpec opened. It waits for operations that run. If it fails the
// volume is as after a power cut: what was synced is there, and the next opening
// recovers it.
func (v *WritableVolume) Close(ctx context.Context) error { return v.end(ctx, true) }

// Abandon gives the volume up without writing anything more: it is then as after
// a power cut.
func (v *WritableVolume) Abandon() error { return v.end(context.Background(), false) }

func (v *WritableVolume) end(ctx context.Context, clean bool) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil
	}
	v.closed = true
	v.w.Close()
	var err error
	if clean {
		err = v.rw.Close(context.WithoutCancel(ctx))
	}
	return errors.Join(err, v.Volume.Close())
}

// Err is why nothing can be changed any more: a device that failed, or an
// inconsistency that was met. nil as long as all is well.
func (v *WritableVolume) Err() error { return v.rw.Store.Err() }

// WriteFiles is the door for servers and everything else that works without
// paths.
func (v *WritableVolume) WriteFiles() *WriteFiles { return &WriteFiles{Files: v.Files(), v: v} }

// Root is the subvolume that a plain mount shows.
func (v *WritableVolume) Root() *WritableSubvolume { return v.writable(v.Volume.Root()) }

// Subvolume opens a subvolume by id.
func (v *WritableVolume) Subvolume(id uint32) (*WritableSubvolume, error) {
	s, err := v.Volume.Subvolume(id)
	if err != nil {
		return nil, err
	}
	return v.writable(s), nil
}

// SubvolumeAt opens the subvolume whose root is at a path of the volume.
func (v *WritableVolume) SubvolumeAt(ctx context.Context, path string) (*WritableSubvolume, error) {
	s, err := v.Volume.SubvolumeAt(ctx, path)
	if err != nil {
		return nil, err
	}
	return v.writable(s), nil
}

func (v *WritableVolume) writable(s *Subvolume) *WritableSubvolume {
	return &WritableSubvolume{Subvolume: s, f: v.WriteFiles()}
}
