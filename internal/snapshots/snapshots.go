// Package snapshots knows the snapshot trees and the subvolumes of a volume, and
// what each of them sees (chapter 04 sections 10 and 11).
package snapshots

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/btree"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// RootSubvol is the subvolume that a plain mount shows; its root directory is
// RootInode.
const (
	RootSubvol = 1
	RootInode  = 4096
)

// Table holds all snapshot nodes and subvolumes. It is immutable and safe for
// concurrent use.
type Table struct {
	nodes   map[uint32]ondisk.Snapshot
	trees   map[uint32]ondisk.SnapshotTree
	subvols map[uint32]ondisk.Subvolume
	views   map[uint32]*btree.View // by subvolume
	errs    map[uint32]error       // why a subvolume has no view
}

// Load reads the three btrees. Keys that cannot be used are reported to warn.
func Load(ctx context.Context, t *btree.Trees, warn func(error)) (*Table, error) {
	s := &Table{nodes: map[uint32]ondisk.Snapshot{}, trees: map[uint32]ondisk.SnapshotTree{}, subvols: map[uint32]ondisk.Subvolume{},
		views: map[uint32]*btree.View{}, errs: map[uint32]error{}}
	walk := func(b ondisk.BtreeID, want ondisk.KeyType, limit uint64, take func(id uint32, val []byte) error) error {
		c := t.Cursor(ctx, b, ondisk.PosMin, ondisk.SPosMax)
		for {
			kv, ok := c.Next()
			if !ok {
				var d *btree.DamageError
				if err := c.Err(); err == nil {
					return nil
				} else if !errors.As(err, &d) {
					return err
				}
				warn(c.Err())
				if !c.SkipDamage() {
					return nil
				}
				continue
			}
			err := errs.Corruptf(want.String()+"_pos_bad", "%v", kv.Pos)
			if kv.Type == want && kv.Pos.Inode == 0 && kv.Pos.Offset != 0 && kv.Pos.Offset <= limit {
				if e := take(uint32(kv.Pos.Offset), kv.Val); e == nil {
					continue
				} else {
					warn(errs.At(e, place(b, kv.Pos)))
					continue
				}
			}
			warn(errs.At(err, place(b, kv.Pos)))
		}
	}
	err := walk(ondisk.BtreeSnapshots, ondisk.KeySnapshot, 1<<32-1, func(id uint32, val []byte) (err error) {
		n, err := ondisk.DecodeSnapshot(val)
		if err == nil {
			s.nodes[id] = n
		}
		return err
	})
	if err == nil {
		err = walk(ondisk.BtreeSnapshotTrees, ondisk.KeySnapshotTree, 1<<32-1, func(id uint32, val []byte) error {
			n, err := ondisk.DecodeSnapshotTree(val)
			if err == nil {
				s.trees[id] = n
			}
			return err
		})
	}
	if err == nil {
		err = walk(ondisk.BtreeSubvolumes, ondisk.KeySubvolume, 1<<31-1, func(id uint32, val []byte) error {
			v, err := ondisk.DecodeSubvolume(val)
			if err == nil {
				s.subvols[id] = v
			}
			return err
		})
	}
	if err != nil {
		return nil, err
	}
	for id, v := range s.subvols {
		view, err := s.view(v.Snapshot)
		if err != nil {
			s.errs[id] = fmt.Errorf("subvolume %d: %w", id, err)
			warn(s.errs[id])
			continue
		}
		s.views[id] = view
	}
	return s, nil
}

func place(b ondisk.BtreeID, p ondisk.Pos) errs.Where {
	w := errs.Nowhere
	w.Btree, w.Level, w.HasPos, w.Inode, w.Offset, w.Snapshot = int(b), 0, true, p.Inode, p.Offset, p.Snapshot
	return w
}

// view collects the ancestors of a snapshot. Ids grow towards the root, which
// also bounds the walk.
func (s *Table) view(id uint32) (*btree.View, error) {
	n, ok := s.nodes[id]
	if !ok {
		return nil, errs.Corruptf("snapshot_node_missing", "snapshot %d", id)
	}
	var anc []uint32
	for at := id; n.Parent != 0; {
		if n.Parent <= at {
			return nil, errs.Corruptf("snapshot_parent_bad", "snapshot %d has parent %d", at, n.Parent)
		}
		at = n.Parent
		anc = append(anc, at)
		if n, ok = s.nodes[at]; !ok {
			return nil, errs.Corruptf("snapshot_node_missing", "snapshot %d", at)
		}
	}
	return btree.NewView(id, anc), nil
}

// View is what a subvolume sees. The error is ENOENT-like (errs.ErrCorrupt when
// the subvolume exists but its snapshot does not).
func (s *Table) View(subvol uint32) (*btree.View, error) {
	if v := s.views[subvol]; v != nil {
		return v, nil
	}
	if err := s.errs[subvol]; err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("subvolume %d: %w", subvol, errNoSubvol)
}

// SnapshotView is the view of a snapshot node.
func (s *Table) SnapshotView(id uint32) (*btree.View, error) { return s.view(id) }

// Subvolume gives a subvolume's key.
func (s *Table) Subvolume(id uint32) (ondisk.Subvolume, bool) { v, ok := s.subvols[id]; return v, ok }

// Snapshot gives a snapshot node.
func (s *Table) Snapshot(id uint32) (ondisk.Snapshot, bool) { n, ok := s.nodes[id]; return n, ok }

// Tree gives a snapshot tree.
func (s *Table) Tree(id uint32) (ondisk.SnapshotTree, bool) { n, ok := s.trees[id]; return n, ok }

// Subvolumes lists the ids of all subvolumes, ascending, deleted ones included.
func (s *Table) Subvolumes() []uint32 { return slices.Sorted(maps.Keys(s.subvols)) }

// Snapshots lists the ids of all snapshot nodes, ascending.
func (s *Table) Snapshots() []uint32 { return slices.Sorted(maps.Keys(s.nodes)) }

// Descendants lists a snapshot and all nodes below it, ascending.
func (s *Table) Descendants(id uint32) []uint32 {
	var out []uint32
	for n := range s.nodes {
		if v, err := s.view(n); err == nil && v.Sees(id) {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, func(a, b uint32) int { return cmp.Compare(a, b) })
	return out
}

// Descends reports whether a snapshot is anc or descends from it.
func (s *Table) Descends(id, anc uint32) bool {
	for id != 0 && id < anc {
		n, ok := s.nodes[id]
		if !ok || n.Parent != 0 && n.Parent <= id {
			return false
		}
		id = n.Parent
	}
	return id == anc
}
