package bcachefs

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/internal/engine"
	"github.com/gobcachefs/gobcachefs/internal/snapshots"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Volume is an opened volume. Safe for concurrent use.
type Volume struct {
	e     *engine.Engine
	opts  Options
	live  bool // it changes
	close []block.Reader

	statfs statfsCache
}

// Open opens the volume that the devices hold, in any order. The devices stay
// the caller's to close, after the Volume.
//
// Errors: errs.ErrNotBcachefs, ErrVersion, ErrFeature, ErrDegraded,
// ErrSplitBrain, ErrLocked, ErrPassphrase, ErrCorrupt, ErrIO.
func Open(ctx context.Context, devices []block.Reader, o Options) (*Volume, error) {
	e, err := engine.Open(ctx, devices, o.engine())
	if err != nil {
		return nil, err
	}
	return &Volume{e: e, opts: o}, nil
}

// OpenPath opens the volume that a device argument names (see OpenDevices) and
// closes its devices with the Volume.
func OpenPath(ctx context.Context, spec string, o Options) (*Volume, error) {
	rs, err := OpenDevices(ctx, spec, block.Options{})
	if err != nil {
		return nil, err
	}
	v, err := Open(ctx, rs, o)
	if err != nil {
		closeAll(rs)
		return nil, err
	}
	v.close = rs
	return v, nil
}

// Close closes the devices that OpenPath opened.
func (v *Volume) Close() error {
	var list []error
	for _, r := range v.close {
		list = append(list, r.Close())
	}
	v.close = nil
	return errors.Join(list...)
}

// Superblock is the newest superblock of the volume. It must not be changed.
func (v *Volume) Superblock() *ondisk.Superblock { return v.e.Set.SB }

// Clean reports whether the volume was shut down properly. If not, the journal
// was applied in memory.
func (v *Volume) Clean() bool { return v.e.State.Clean }

// Missing lists the indexes of the members that are not here.
func (v *Volume) Missing() []int { return v.e.Set.Missing() }

// MemberName describes a member for messages.
func (v *Volume) MemberName(i int) string { return v.e.Set.DescribeMember(i) }

// SubvolumeInfo describes a subvolume.
type SubvolumeInfo struct {
	ID       uint32
	Root     NodeID
	Snapshot uint32 // id of its snapshot node
	Flags    uint32 // ondisk.SubvolRO, ondisk.SubvolSnap, ondisk.SubvolUnlinked
	// CreationParent is the subvolume it was snapshotted from, Parent the one
	// whose directory tree holds it; 0 for none.
	CreationParent uint32
	Parent         uint32
	Created        time.Time // zero when not recorded
	Unlinked       bool      // deleted, not yet cleaned up
}

// ReadOnly reports whether the subvolume refuses writes.
func (s SubvolumeInfo) ReadOnly() bool { return s.Flags&ondisk.SubvolRO != 0 }

// Subvolumes lists the subvolumes by id, without those that are deleted and
// only wait for their cleanup.
func (v *Volume) Subvolumes() []SubvolumeInfo {
	var out []SubvolumeInfo
	for _, id := range v.e.Files.Snapshots().Subvolumes() {
		if s, err := v.SubvolumeInfo(id); err == nil && !s.Unlinked {
			out = append(out, s)
		}
	}
	return out
}

// SubvolumeInfo describes a subvolume by id; ENOENT when there is none.
func (v *Volume) SubvolumeInfo(id uint32) (SubvolumeInfo, error) {
	s, ok := v.e.Files.Snapshots().Subvolume(id)
	if !ok {
		return SubvolumeInfo{}, fmt.Errorf("subvolume %d: %w", id, syscall.ENOENT)
	}
	i := SubvolumeInfo{ID: id, Root: NodeID{id, s.Inode}, Snapshot: s.Snapshot, Flags: s.Flags, CreationParent: s.CreationParent, Parent: s.FSPathParent, Unlinked: s.LiveState() != ondisk.SubvolStateLive}
	if s.Otime != 0 {
		i.Created = v.e.Files.Time(s.Otime)
	}
	return i, nil
}

// Root is the subvolume that a plain mount shows.
func (v *Volume) Root() *Subvolume {
	return &Subvolume{v: v, id: snapshots.RootSubvol, root: NodeID{snapshots.RootSubvol, snapshots.RootInode}}
}

// Subvolume opens a subvolume by id.
func (v *Volume) Subvolume(id uint32) (*Subvolume, error) {
	s, err := v.SubvolumeInfo(id)
	if err != nil {
		return nil, err
	}
	return &Subvolume{v: v, id: id, root: s.Root}, nil
}

// SubvolumeAt opens the subvolume whose root is at a path of the volume.
func (v *Volume) SubvolumeAt(ctx context.Context, path string) (*Subvolume, error) {
	id, err := v.Root().Resolve(ctx, path)
	if err != nil {
		return nil, err
	}
	for _, s := range v.Subvolumes() {
		if s.Root == id {
			return &Subvolume{v: v, id: s.ID, root: id}, nil
		}
	}
	return nil, fmt.Errorf("%s: not a subvolume: %w", path, syscall.EINVAL)
}

// Files is the door for servers.
func (v *Volume) Files() *Files { return &Files{v: v, fs: v.e.Files} }
