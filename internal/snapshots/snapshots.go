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
	"sync"
	"sync/atomic"

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

// Table holds all snapshot nodes and subvolumes. What it says does not change;
// it is safe for concurrent use.
type Table struct {
	nodes   map[uint32]ondisk.Snapshot
	trees   map[uint32]ondisk.SnapshotTree
	subvols map[uint32]ondisk.Subvolume
	bad     map[uint32]error // why a snapshot has no view
	suspect error

	views sync.Map // by subvolume, made when asked for
	held  atomic.Int64
}

// maxHeld bounds the ancestors in all views that are kept: a volume may have
// very many snapshots, each the child of the one before.
const maxHeld = 1 << 22

// Load reads the three btrees. Keys that cannot be used are reported to warn.
func Load(ctx context.Context, t *btree.Trees, warn func(error)) (*Table, error) {
	s := &Table{nodes: map[uint32]ondisk.Snapshot{}, trees: map[uint32]ondisk.SnapshotTree{}, subvols: map[uint32]ondisk.Subvolume{}, bad: map[uint32]error{}}
	walk := func(b ondisk.BtreeID, want ondisk.KeyType, limit uint64, take func(id uint32, val []byte) error) error {
		c := t.Cursor(ctx, b, ondisk.PosMin, ondisk.SPosMax)
		for {
			kv, ok := c.Next()
			if err := c.Suspect(); err != nil {
				s.suspect = err
			}
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
	s.check()
	for id, v := range s.subvols {
		if err := s.broken(v.Snapshot); err != nil {
			warn(fmt.Errorf("subvolume %d: %w", id, err))
		}
	}
	return s, nil
}

// check finds the snapshots whose chain of ancestors is broken. Ids grow towards
// the root, so that parents come first here.
func (s *Table) check() {
	ids := s.Snapshots()
	for _, id := range slices.Backward(ids) {
		p := s.nodes[id].Parent
		if p == 0 {
			continue
		}
		if p <= id {
			s.bad[id] = errs.Corruptf("snapshot_parent_bad", "snapshot %d has parent %d", id, p)
		} else if err := s.broken(p); err != nil {
			s.bad[id] = err
		}
	}
}

// broken is why a snapshot cannot be seen through, nil if it can.
func (s *Table) broken(id uint32) error {
	if _, ok := s.nodes[id]; !ok {
		return errs.Corruptf("snapshot_node_missing", "snapshot %d", id)
	}
	return s.bad[id]
}

func place(b ondisk.BtreeID, p ondisk.Pos) errs.Where {
	w := errs.Nowhere
	w.Btree, w.Level, w.HasPos, w.Inode, w.Offset, w.Snapshot = int(b), 0, true, p.Inode, p.Offset, p.Snapshot
	return w
}

// view collects the ancestors of a snapshot.
func (s *Table) view(id uint32) (*btree.View, error) {
	if err := s.broken(id); err != nil {
		return nil, err
	}
	var anc []uint32
	for p := s.nodes[id].Parent; p != 0; p = s.nodes[p].Parent {
		anc = append(anc, p)
	}
	return btree.NewView(id, anc), nil
}

// View is what a subvolume sees. The error is ENOENT-like (errs.ErrCorrupt when
// the subvolume exists but its snapshot does not).
func (s *Table) View(subvol uint32) (*btree.View, error) {
	if v, ok := s.views.Load(subvol); ok {
		return v.(*btree.View), nil
	}
	sv, ok := s.subvols[subvol]
	if !ok {
		return nil, fmt.Errorf("subvolume %d: %w", subvol, errNoSubvol)
	}
	v, err := s.view(sv.Snapshot)
	if err != nil {
		return nil, fmt.Errorf("subvolume %d: %w", subvol, err)
	}
	if n := int64(v.Depth()); s.held.Add(n) <= maxHeld {
		s.views.Store(subvol, v)
	} else {
		s.held.Add(-n)
	}
	return v, nil
}

// Suspect is the reason not to trust the table, nil if there is none: with it
// any file may be shown in a wrong version.
func (s *Table) Suspect() error { return s.suspect }

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
	below := map[uint32]bool{id: true}
	for _, n := range slices.Backward(s.Snapshots()) {
		if s.broken(n) == nil && (n == id || below[s.nodes[n].Parent]) {
			below[n] = true
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
