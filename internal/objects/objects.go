// Package objects turns keys into files: inodes, names, links, extended
// attributes, subvolumes, paths. Chapter 04.
//
// Everything is addressed by ID, a (subvolume, inode) pair; a path is only a way
// to find one. The same inode number means different files in different
// subvolumes.
package objects

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/btree"
	"github.com/gobcachefs/gobcachefs/internal/data"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/internal/snapshots"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// ID names a file for good.
type ID struct {
	Subvol uint32
	Inum   uint64
}

func (id ID) String() string { return fmt.Sprintf("%d:%d", id.Subvol, id.Inum) }

// Root is the root directory of the volume.
var Root = ID{snapshots.RootSubvol, snapshots.RootInode}

// FS reads files of a volume. Safe for concurrent use.
type FS struct {
	set   *members.Set
	trees *btree.Trees
	snaps atomic.Pointer[snapshots.Table]
	data  *data.Reader

	suspects suspects
}

// New makes an FS.
func New(set *members.Set, trees *btree.Trees, snaps *snapshots.Table, d *data.Reader) *FS {
	f := &FS{set: set, trees: trees, data: d}
	f.snaps.Store(snaps)
	return f
}

// Snapshots is the volume's table of subvolumes and snapshots, as of now.
func (f *FS) Snapshots() *snapshots.Table { return f.snaps.Load() }

// Inode reads an inode. The error is ENOENT when there is none.
func (f *FS) Inode(ctx context.Context, id ID) (ondisk.Inode, error) {
	v, err := f.Snapshots().View(id.Subvol)
	if err != nil {
		return ondisk.Inode{}, err
	}
	return f.inode(ctx, v, id.Inum)
}

func (f *FS) inode(ctx context.Context, v *btree.View, inum uint64) (ondisk.Inode, error) {
	kv, suspect, found, err := f.trees.Get(ctx, ondisk.BtreeInodes, v, 0, inum)
	if err != nil {
		return ondisk.Inode{}, err
	}
	f.suspects.note(inum, suspect)
	if !found || kv.Type == ondisk.KeyInodeGeneration {
		return ondisk.Inode{}, syscall.ENOENT
	}
	in, err := ondisk.DecodeInode(kv)
	if err != nil {
		w := errs.Nowhere
		w.Btree, w.Level, w.HasPos, w.Offset, w.Snapshot = int(ondisk.BtreeInodes), 0, true, kv.Pos.Offset, kv.Pos.Snapshot
		return in, errs.At(err, w)
	}
	return in, nil
}

// Time converts a stored time of the volume.
func (f *FS) Time(t int64) time.Time {
	sec, nsec := ondisk.TimeToUnix(t, f.set.SB.TimeBaseLo, f.set.SB.TimePrecision)
	return time.Unix(sec, int64(nsec))
}

// Parent finds the directory that holds the dirent which an inode points back
// to; for a directory that is "..". The root of the volume is its own parent. A
// file without backpointer gives ENOENT.
func (f *FS) Parent(ctx context.Context, id ID) (ID, error) {
	in, err := f.Inode(ctx, id)
	if err != nil {
		return ID{}, err
	}
	switch {
	case in.Dir == 0 && in.Subvol == snapshots.RootSubvol && id.Subvol == snapshots.RootSubvol:
		return id, nil
	case in.Dir == 0:
		return ID{}, syscall.ENOENT
	case in.Subvol != 0 && in.ParentSubvol != 0:
		return ID{in.ParentSubvol, in.Dir}, nil
	}
	return ID{id.Subvol, in.Dir}, nil
}

// SubvolRoot is the root directory of a subvolume.
func (f *FS) SubvolRoot(subvol uint32) (ID, error) {
	s, ok := f.Snapshots().Subvolume(subvol)
	if !ok {
		return ID{}, fmt.Errorf("subvolume %d: %w", subvol, syscall.ENOENT)
	}
	return ID{subvol, s.Inode}, nil
}

// File prepares reading the data of an inode.
func (f *FS) File(id ID, in *ondisk.Inode) (data.File, error) {
	v, err := f.Snapshots().View(id.Subvol)
	if err != nil {
		return data.File{}, err
	}
	// Linux has no bigger files; a size beyond that is damage, and would wrap.
	return data.File{View: v, Inum: id.Inum, Size: min(in.Size, math.MaxInt64), Suspect: func(err error) { f.suspects.note(id.Inum, err) }}, nil
}

// Data is the reader of file data.
func (f *FS) Data() *data.Reader { return f.data }

// Readlink reads the target of a symlink. Targets are cut at the first NUL: the
// user-space tools count it in.
func (f *FS) Readlink(ctx context.Context, id ID, in *ondisk.Inode) ([]byte, error) {
	if !in.IsSymlink() {
		return nil, syscall.EINVAL
	}
	const maxTarget = 1 << 16 // PATH_MAX is 4096; leave room, but bound it
	if in.Size > maxTarget {
		return nil, errs.Corruptf("symlink target too long", "%d bytes", in.Size)
	}
	file, err := f.File(id, in)
	if err != nil {
		return nil, err
	}
	b := make([]byte, in.Size)
	n, err := f.data.ReadAt(ctx, file, b, 0)
	if err != nil {
		return nil, err
	}
	for i, c := range b[:n] {
		if c == 0 {
			return b[:i], nil
		}
	}
	return b[:n], nil
}

// suspects remembers, up to a bound, the inodes whose keys came from nodes with
// a bad checksum.
type suspects struct {
	mu sync.Mutex
	m  map[uint64]error
}

func (s *suspects) note(inum uint64, err error) {
	if err == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = map[uint64]error{}
	}
	if len(s.m) < 1<<20 {
		s.m[inum] = err
	}
}

// Suspect tells why what was read of an inode may be wrong: a node with a bad
// checksum was used. nil when nothing is known against it.
func (f *FS) Suspect(inum uint64) error {
	if err := f.snaps.Load().Suspect(); err != nil {
		return err
	}
	f.suspects.mu.Lock()
	defer f.suspects.mu.Unlock()
	return f.suspects.m[inum]
}

// isDamage: the error is about a range of a btree.
func isDamage(err error) bool {
	var d *btree.DamageError
	return errors.As(err, &d)
}
