// Package btree gives sorted keys: it reads nodes, merges their records and the
// journal's newer keys into one truth, caches the result and walks it.
//
// A node is immutable once it is read, so cursors take no locks and what they
// hand out may be kept. The only locks are those of the cache shards, never held
// over I/O. The journal overlay is merged into a node when the node is read, at
// every level, so that one cursor serves clean and unclean volumes alike.
// Chapters 02 and 03 section 8.
package btree

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/journal"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Config of Trees.
type Config struct {
	// CacheBytes bounds the memory of cached nodes.
	CacheBytes int64
	// Salvage uses nodes whose checksum does not match when there is no good
	// copy, and marks them (Node.Suspect).
	Salvage bool
	// Warn is told of damage that was worked around.
	Warn func(error)
}

// Trees are the btrees of a volume. Safe for concurrent use.
type Trees struct {
	set   *members.Set
	state *journal.State
	cfg   Config
	cache *cache
	bufs  sync.Pool
	size  int // bytes of a node on disk

	mu     sync.Mutex
	warned map[string]bool

	scan scan
	rw   *Store // nil when opened to read
}

// New makes the trees of an assembled volume in a journal state.
func New(set *members.Set, state *journal.State, cfg Config) *Trees {
	if cfg.Warn == nil {
		cfg.Warn = func(error) {}
	}
	t := &Trees{set: set, state: state, cfg: cfg, cache: newCache(cfg.CacheBytes), size: set.SB.NodeSectors() * 512, warned: map[string]bool{}, scan: scan{turn: make(chan struct{}, 1)}}
	t.bufs.New = func() any { b := make([]byte, t.size); return &b }
	return t
}

// State is the journal state the trees are in.
func (t *Trees) State() *journal.State { return t.state }

// warn passes a finding on once. The memory of what was said is bounded.
func (t *Trees) warn(err error) {
	s := err.Error()
	t.mu.Lock()
	seen := t.warned[s]
	if !seen && len(t.warned) < 10000 {
		t.warned[s] = true
	}
	t.mu.Unlock()
	if !seen {
		t.cfg.Warn(err)
	}
}

// Btrees lists the btrees that have a root or journal keys.
func (t *Trees) Btrees() []ondisk.BtreeID {
	ids := t.state.Overlay.Btrees(0)
	for id := range t.state.Roots {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// DamageError says that a range of a btree cannot be read.
type DamageError struct {
	Btree    ondisk.BtreeID
	From, To ondisk.Pos // both included
	Err      error
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("btree %s, keys %v..%v cannot be read: %v", e.Btree, e.From, e.To, e.Err)
}

func (e *DamageError) Unwrap() error { return e.Err }

// Root gives the root node of a btree. A btree without root is an empty leaf
// (plus what the journal holds).
func (t *Trees) Root(ctx context.Context, b ondisk.BtreeID) (*Node, error) {
	r, ok := t.state.Roots[b]
	if t.rw != nil {
		n, rs, live := t.rw.rootNode(b)
		if live {
			return n, nil
		}
		ok = rs.key.Type != ondisk.KeyDeleted
		r = journal.Root{Key: rs.key, Level: rs.level}
	}
	if !ok {
		// Cheap enough not to cache: it only holds journal keys.
		k := nodeKey{btree: b, offset: ^uint64(0)}
		return t.cache.get(k, func() (*Node, error) {
			n := &Node{Btree: b, Max: ondisk.SPosMax}
			n.overlay(t.state.Overlay)
			return n, nil
		})
	}
	lost := func(err error) (*Node, error) {
		if n := t.rescue(ctx, b, ondisk.PosMin, ondisk.SPosMax, err); n != nil {
			return n, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if r.Guessed {
			// Nothing of it anywhere: it never had a key, as far as one can tell.
			return &Node{Btree: b, Max: ondisk.SPosMax, Suspect: err}, nil
		}
		return nil, &DamageError{b, ondisk.PosMin, ondisk.SPosMax, err}
	}
	if r.Lost {
		return lost(errs.Corruptf("btree_root_bkey_invalid", "root pointer lost"))
	}
	p, err := ondisk.DecodeBtreePtr(r.Key)
	if err != nil {
		return lost(err)
	}
	n, err := t.load(ctx, want{b, r.Level, ondisk.PosMin, ondisk.SPosMax, p}, nil)
	if err != nil {
		return lost(fmt.Errorf("btree_root_read_error: %w", err))
	}
	return n, nil
}

// load gets a node from the cache or its devices.
func (t *Trees) load(ctx context.Context, w want, parent *Node) (*Node, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if t.rw != nil {
		if n := t.rw.liveNode(w.btree, w.level, w.max); n != nil {
			return n, nil
		}
	}
	return t.cache.get(keyOf(w.btree, w.level, &w.ptr), func() (*Node, error) {
		n, err := t.read(w)
		if err != nil {
			return nil, err
		}
		if parent != nil && n.Suspect == nil {
			n.Suspect = parent.Suspect
		}
		n.overlay(t.state.Overlay)
		n.children(t.warn)
		return n, nil
	})
}

// read reads a node from the first copy that is good.
func (t *Trees) read(w want) (*Node, error) {
	if t.size == 0 {
		return nil, errs.Corruptf("btree_node_size", "0")
	}
	d := decoder{set: t.set, blacklist: t.state.Blacklist, warn: t.warn}
	size := t.size
	if s := int(w.ptr.SectorsWritten) * 512; s != 0 && s < size {
		size = s
	}
	bufp := t.bufs.Get().(*[]byte)
	defer t.bufs.Put(bufp)
	var fails []error
	for pass := 0; pass < 2; pass++ {
		if pass == 1 {
			if !t.cfg.Salvage {
				break
			}
			d.salvage = true
		}
		for _, p := range w.ptr.Ptrs {
			if p.Dev == ondisk.InvalidDev || !t.set.Online(p.Dev) {
				continue
			}
			buf := (*bufp)[:size]
			err := t.set.ReadSectors(p.Dev, p.Offset, buf)
			var n *Node
			if err == nil {
				n, err = d.decode(buf, w, p.Dev, p.Offset)
			}
			if err == nil {
				for _, f := range fails {
					t.warn(fmt.Errorf("btree node: other copy used: %w", f))
				}
				if n.Suspect != nil {
					t.warn(fmt.Errorf("btree node used although damaged: %w", n.Suspect))
				}
				return n, nil
			}
			if pass == 0 {
				fails = append(fails, err)
			}
		}
	}
	if len(fails) == 0 {
		wh := w.where()
		return nil, &errs.Error{Where: wh, Kind: errs.ErrMissingDevice, Reason: "btree_node_read_error: no member with a copy", Cause: errs.ErrIO}
	}
	return nil, fmt.Errorf("btree_node_read_error: %w", errors.Join(fails...))
}

// leaf finds the leaf (or node of a level) that covers p, with the range it
// answers for. The parent and index allow to read ahead.
func (t *Trees) leaf(ctx context.Context, b ondisk.BtreeID, level int, p ondisk.Pos) (n, parent *Node, idx int, err error) {
	if t.rw == nil {
		return t.descend(ctx, b, level, p)
	}
	// A checkpoint may move nodes while we come down: then start again.
	for {
		e := t.rw.epoch.Load()
		n, parent, idx, err = t.descend(ctx, b, level, p)
		if t.rw.epoch.Load() == e || ctx.Err() != nil {
			return n, parent, idx, err
		}
	}
}

func (t *Trees) descend(ctx context.Context, b ondisk.BtreeID, level int, p ondisk.Pos) (n, parent *Node, idx int, err error) {
	n, err = t.Root(ctx, b)
	if err != nil {
		return nil, nil, 0, err
	}
	if n.Level < level {
		return nil, nil, 0, nil
	}
	for n.Level > level {
		i, from, to := n.child(p)
		if i < 0 {
			gap := errs.Corruptf("btree_node_topology_gap_between_nodes", "level %d", n.Level-1)
			if r := t.rescue(ctx, b, from, to, gap); r != nil && r != n {
				n = r
				continue
			}
			return nil, nil, 0, &DamageError{b, from, to, gap}
		}
		parent, idx = n, i
		c, err := t.load(ctx, n.want(i), n)
		if err != nil && n.Level > 1 {
			if r := t.rescue(ctx, b, from, to, err); r != nil {
				c, err = r, nil
			}
		}
		if err != nil {
			if ctx.Err() == nil {
				err = &DamageError{b, from, to, err}
			}
			return nil, nil, 0, err
		}
		n = c
	}
	return n, parent, idx, nil
}

// want describes child i.
func (n *Node) want(i int) want {
	return want{n.Btree, n.Level - 1, n.ptrs[i].MinKey, n.slots[i].pos(), n.ptrs[i]}
}

// Stats are counters of the node cache.
func (t *Trees) Stats() (hits, misses int64) { return t.cache.hits.Load(), t.cache.misses.Load() }
