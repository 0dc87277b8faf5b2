// Package engine builds an opened volume out of its layers, from the bottom up:
// members → journal → btree → alloc → snapshots → data → objects.
package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/alloc"
	"github.com/gobcachefs/gobcachefs/internal/btree"
	"github.com/gobcachefs/gobcachefs/internal/data"
	"github.com/gobcachefs/gobcachefs/internal/journal"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/internal/objects"
	"github.com/gobcachefs/gobcachefs/internal/snapshots"
)

// Options of Open.
type Options struct {
	Members members.Options
	// CacheBytes bounds the memory of cached btree nodes.
	CacheBytes int64
	// Salvage uses btree nodes with a bad checksum when nothing better is there.
	Salvage bool
	// NoFiles leaves out what needs the file layer: for inspection of volumes
	// whose snapshots cannot be read.
	NoFiles bool
}

// Engine is an opened volume.
type Engine struct {
	Set   *members.Set
	State *journal.State
	Trees *btree.Trees
	Gens  *alloc.Gens
	Data  *data.Reader
	Snaps *snapshots.Table // nil with NoFiles
	Files *objects.FS      // nil with NoFiles
}

// Open opens a volume for reading. Nothing is written, ever: what the journal
// holds is applied in memory.
func Open(ctx context.Context, readers []block.Reader, o Options) (*Engine, error) {
	if o.Members.Warn == nil {
		o.Members.Warn = func(error) {}
	}
	set, err := members.Open(ctx, readers, o.Members)
	if err != nil {
		return nil, err
	}
	e := &Engine{Set: set}
	if e.State, err = journal.Load(ctx, set); err != nil {
		err = fmt.Errorf("journal: %w", err)
		if !o.Salvage || !errors.Is(err, errs.ErrCorrupt) {
			return nil, err
		}
		o.Members.Warn(err)
		e.State = journal.Guess(set)
	}
	e.Trees = btree.New(set, e.State, btree.Config{CacheBytes: o.CacheBytes, Salvage: o.Salvage, Warn: o.Members.Warn})
	e.Gens = alloc.NewGens(set, e.Trees)
	e.Data = data.New(set, e.Trees, e.Gens)
	if o.NoFiles {
		return e, nil
	}
	if !set.SB.Initialized() {
		return nil, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUnsupported, Reason: "the volume was never initialized: it holds no files yet (its first read-write mount creates the root directory)"}
	}
	if e.Snaps, err = snapshots.Load(ctx, e.Trees, o.Members.Warn); err != nil {
		return nil, err
	}
	e.Files = objects.New(set, e.Trees, e.Snaps, e.Data)
	return e, nil
}
