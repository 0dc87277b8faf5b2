package btree

import (
	"context"
	"errors"
	"slices"
	"sort"

	"github.com/gobcachefs/gobcachefs/internal/consequence"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Tx is a transaction: it reads the trees as they are plus its own changes, and
// changes them all at once or not at all. It is for one goroutine. The function
// given to Update may run again: it must have no effects outside of the Tx.
type Tx struct {
	s    *Store
	ctx  context.Context
	name string

	sets map[ondisk.BtreeID][]change // sorted by position, one per position
	n    int

	reads  map[liveID]*Node // leaves that were read, by what they were then
	pinned map[nodeKey]*Node
	extra  []ondisk.JsetEntry
	// interior are pointer keys set by a checkpoint.
	interior []levelKey
	buckets  []bucketOp
	acct     *consequence.Changes
	seq      uint64
	hooks    []func(seq uint64)
}

// Update runs fn as a transaction and commits what it set. name goes to the
// journal for people. It returns the journal sequence number to Sync for
// durability, 0 when nothing was changed.
func (s *Store) Update(ctx context.Context, name string, fn func(*Tx) error) (uint64, error) {
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if err := s.Err(); err != nil {
			return 0, err
		}
		if ctx.Value(insideCheckpoint{}) == nil {
			if err := s.Reclaim(ctx); err != nil {
				return 0, err
			}
		}
		tx := &Tx{s: s, ctx: ctx, name: name, sets: map[ondisk.BtreeID][]change{}, reads: map[liveID]*Node{}, pinned: map[nodeKey]*Node{}}
		err := fn(tx)
		if err == nil {
			err = s.commit(tx)
		}
		if errors.Is(err, ErrRestart) {
			continue
		}
		return tx.seq, err
	}
}

// Sync makes a committed transaction, and all before it, durable.
func (s *Store) Sync(ctx context.Context, seq uint64) error {
	if seq == 0 {
		return nil
	}
	return s.j.Sync(ctx, seq)
}

// levelKey is a key of an interior node.
type levelKey struct {
	btree ondisk.BtreeID
	level int
	kv    ondisk.KV
}

// bucketOp changes a bucket's state directly.
type bucketOp struct {
	b consequence.Bucket
	f func(*ondisk.Alloc)
}

// Bucket changes the state of a bucket with all that follows from it: for marks
// of superblocks and journal, discards, invalidation.
func (tx *Tx) Bucket(b consequence.Bucket, f func(*ondisk.Alloc)) {
	tx.buckets = append(tx.buckets, bucketOp{b, f})
	tx.n++
}

// Account changes a counter directly.
func (tx *Tx) Account(p ondisk.AccountingPos, v ...int64) {
	if tx.acct == nil {
		tx.acct = consequence.NewChanges()
	}
	tx.acct.Account(p, v...)
	tx.n++
}

// Context is that of Update.
func (tx *Tx) Context() context.Context { return tx.ctx }

// Store is the store the transaction is of.
func (tx *Tx) Store() *Store { return tx.s }

// OnCommit calls f after the transaction is committed, with the commit lock
// held: f must be short and do no I/O.
func (tx *Tx) OnCommit(f func(seq uint64)) { tx.hooks = append(tx.hooks, f) }

// Set inserts or replaces the leaf key at kv.Pos. kv.Type KeyDeleted removes it.
// The value is kept; it must not be changed afterwards.
func (tx *Tx) Set(b ondisk.BtreeID, kv ondisk.KV) {
	if kv.Type == ondisk.KeyDeleted {
		kv = ondisk.KV{Key: ondisk.Key{Pos: kv.Pos}}
	}
	cs := tx.sets[b]
	i := find(cs, kv.Pos)
	if i < len(cs) && cs[i].kv.Pos == kv.Pos {
		cs[i].kv = kv
		return
	}
	tx.sets[b] = slices.Insert(cs, i, change{kv: kv})
	tx.n++
}

// Delete removes the leaf key at p.
func (tx *Tx) Delete(b ondisk.BtreeID, p ondisk.Pos) {
	tx.Set(b, ondisk.KV{Key: ondisk.Key{Pos: p}})
}

// Len is the number of keys set so far.
func (tx *Tx) Len() int { return tx.n }

// leaf reads the leaf that covers p and remembers that it was read.
func (tx *Tx) leaf(b ondisk.BtreeID, p ondisk.Pos) (*Node, error) {
	n, _, _, err := tx.s.leaf(tx.ctx, b, 0, p)
	if err != nil {
		return nil, err
	}
	id := liveID{b, 0, n.Max}
	if old := tx.reads[id]; old != nil && old != n {
		if !sameContent(old, n) {
			return nil, ErrRestart // changed since we read it
		}
		n = old // only read again, after the cache let go of it
	}
	tx.reads[id] = n
	if len(n.Info.Ptr.Ptrs) > 0 {
		tx.pinned[keyOf(b, 0, &n.Info.Ptr)] = n
	}
	return n, nil
}

// Get gives the key stored at exactly p.
func (tx *Tx) Get(b ondisk.BtreeID, p ondisk.Pos) (ondisk.KV, bool, error) {
	if cs := tx.sets[b]; len(cs) > 0 {
		if i := find(cs, p); i < len(cs) && cs[i].kv.Pos == p {
			return cs[i].kv, cs[i].kv.Type != ondisk.KeyDeleted, nil
		}
	}
	n, err := tx.leaf(b, p)
	if err != nil {
		return ondisk.KV{}, false, err
	}
	kv, ok := n.get(p)
	return kv, ok, nil
}

// Next gives the first stored key with from <= position <= to.
func (tx *Tx) Next(b ondisk.BtreeID, from, to ondisk.Pos) (ondisk.KV, bool, error) {
	cs := tx.sets[b]
	for {
		n, err := tx.leaf(b, from)
		if err != nil {
			return ondisk.KV{}, false, err
		}
		kv, ok := n.next(from)
		limit := n.Max
		if ok {
			limit = kv.Pos
		}
		i := find(cs, from)
		if i < len(cs) && !limit.Less(cs[i].kv.Pos) {
			if own := cs[i].kv; own.Type != ondisk.KeyDeleted {
				if to.Less(own.Pos) {
					return ondisk.KV{}, false, nil
				}
				return own, true, nil
			}
			if to.Less(cs[i].kv.Pos) || cs[i].kv.Pos == ondisk.SPosMax {
				return ondisk.KV{}, false, nil
			}
			from = cs[i].kv.Pos.Successor()
			continue
		}
		if ok {
			return kv, !to.Less(kv.Pos), nil
		}
		if n.Max == ondisk.SPosMax || to.Less(n.Max) {
			return ondisk.KV{}, false, nil
		}
		from = n.Max.Successor()
	}
}

// Prev gives the last stored key with from <= position <= to. It walks forward
// in steps of leaves, so the range should be small or its end populated.
func (tx *Tx) Prev(b ondisk.BtreeID, from, to ondisk.Pos) (last ondisk.KV, found bool, err error) {
	for end := to; ; {
		n, err := tx.leaf(b, end)
		if err != nil {
			return last, false, err
		}
		start := max2(n.Min, from)
		// The last key in [start, end] of this leaf and our own changes.
		var keys []ondisk.KV
		n.all(func(kv ondisk.KV) bool {
			if end.Less(kv.Pos) {
				return false
			}
			if !kv.Pos.Less(start) {
				keys = append(keys[:0], kv)
			}
			return true
		})
		cs := tx.sets[b]
		hi := sort.Search(len(cs), func(i int) bool { return end.Less(cs[i].kv.Pos) })
		for i := hi - 1; i >= 0 && !cs[i].kv.Pos.Less(start); i-- {
			own := cs[i].kv
			if len(keys) > 0 && own.Pos.Less(keys[0].Pos) {
				break
			}
			if own.Type != ondisk.KeyDeleted {
				return own, true, nil
			}
			if len(keys) > 0 && own.Pos == keys[0].Pos {
				// Ours hides it: look further down.
				if own.Pos == start || own.Pos == ondisk.PosMin {
					keys = nil
					break
				}
				end = own.Pos.Predecessor()
				keys = keys[:0]
				n.all(func(kv ondisk.KV) bool {
					if end.Less(kv.Pos) {
						return false
					}
					if !kv.Pos.Less(start) {
						keys = append(keys[:0], kv)
					}
					return true
				})
			}
		}
		if len(keys) > 0 {
			return keys[0], true, nil
		}
		if !from.Less(n.Min) {
			return last, false, nil
		}
		end = n.Min.Predecessor()
	}
}

// TxVisible walks what a view sees, as Visible does, with the transaction's own
// changes.
type TxVisible struct {
	tx    *Tx
	b     ondisk.BtreeID
	v     *View
	at    ondisk.Pos
	end   ondisk.Pos
	limit ondisk.Pos
	ext   bool
	err   error
}

// Visible starts a walk; see Trees.Visible for the range.
func (tx *Tx) Visible(b ondisk.BtreeID, v *View, from, to ondisk.Pos) *TxVisible {
	w := &TxVisible{tx: tx, b: b, v: v, limit: to, ext: b.IsExtents()}
	w.at = from.WithSnapshot(v.ID)
	w.end = ondisk.Pos{Inode: to.Inode, Offset: to.Offset, Snapshot: ^uint32(0)}
	if w.ext {
		w.at.Offset++
		w.end.Offset = ^uint64(0)
	}
	return w
}

// Next gives the next visible key.
func (w *TxVisible) Next() (ondisk.KV, bool) {
	for w.err == nil {
		k, ok, err := w.tx.Next(w.b, w.at, w.end)
		if w.err = err; err != nil || !ok {
			return ondisk.KV{}, false
		}
		switch {
		case k.Pos.Snapshot < w.v.ID:
			w.at = k.Pos.WithSnapshot(w.v.ID)
			continue
		case !w.v.Sees(k.Pos.Snapshot):
			w.at = k.Pos.Successor()
			continue
		}
		w.at = k.Pos.NextSlot().WithSnapshot(w.v.ID)
		if k.Type.IsWhiteout() {
			continue
		}
		if w.ext && k.Pos.Offset-uint64(k.Size) >= w.limit.Offset {
			return ondisk.KV{}, false
		}
		return k, true
	}
	return ondisk.KV{}, false
}

// Err is what ended the walk early.
func (w *TxVisible) Err() error { return w.err }

// GetVisible gives the key a view sees at exactly (inode, offset). Not for
// extents.
func (tx *Tx) GetVisible(b ondisk.BtreeID, v *View, inode, offset uint64) (ondisk.KV, bool, error) {
	p := ondisk.Pos{Inode: inode, Offset: offset}
	w := tx.Visible(b, v, p, p)
	kv, ok := w.Next()
	return kv, ok, w.Err()
}
