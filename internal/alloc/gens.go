// Package alloc knows about buckets. For reading that is their generation, which
// tells whether a pointer still points to its own data, and how much space is
// used (chapter 06).
package alloc

import (
	"context"

	"github.com/gobcachefs/gobcachefs/internal/btree"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Gens answers questions about bucket generations.
type Gens struct {
	set   *members.Set
	trees *btree.Trees
	none  bool // the volume has no allocation info
}

// NewGens makes a Gens. Nothing is read before the first question.
func NewGens(set *members.Set, trees *btree.Trees) *Gens {
	_, ok := trees.State().Roots[ondisk.BtreeAlloc]
	return &Gens{set: set, trees: trees, none: !ok && len(trees.State().Overlay.Range(ondisk.BtreeAlloc, 0, ondisk.PosMin, ondisk.SPosMax)) == 0}
}

// Current reports whether gen is the generation of the bucket that holds the
// sector. known is false when that cannot be told: no allocation info, or its
// part cannot be read.
func (g *Gens) Current(dev uint8, sector uint64, gen uint8) (current, known bool) {
	size := g.set.BucketSize(dev)
	if g.none || size == 0 {
		return false, false
	}
	kv, found, err := g.trees.GetExact(context.Background(), ondisk.BtreeAlloc, ondisk.Pos{Inode: uint64(dev), Offset: sector / size})
	if err != nil {
		return false, false
	}
	if !found {
		return gen == 0, true
	}
	a, err := ondisk.DecodeAlloc(kv)
	if err != nil {
		return false, false
	}
	return a.Gen == gen, true
}
