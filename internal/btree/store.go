package btree

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/consequence"
	"github.com/gobcachefs/gobcachefs/internal/journal"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Store is the trees of a volume opened to write.
//
// Transactions are optimistic: they read without locks, remember which nodes
// they read, and commit under one lock that is held for memory operations only.
// A commit that finds one of its nodes changed runs the transaction again. Nodes
// that a commit needs and that are not in memory are read after letting go of
// the lock.
//
// Lock order (docs/design/locks.md): reclaim → ckpt → mu → liveMu → allocator → cache
// shard. mu is never held over I/O.
type Store struct {
	*Trees
	ws    *members.WriteSet
	caps  consequence.Caps
	alloc Allocator
	j     *journal.Writer

	mu    sync.Mutex // the commit lock
	roots map[ondisk.BtreeID]*rootState
	lives map[liveID]*live
	seeds func() uint64 // node identities

	liveMu sync.RWMutex // content of live nodes, for readers
	epoch  atomic.Uint64
	bigs   atomic.Int64 // live nodes that are too big to wait for

	ckpt    sync.Mutex // one checkpoint at a time
	reclaim sync.Mutex // one reclaim at a time
	broken  atomic.Pointer[error]
	clock   [2]uint64
	names   bool // journal_transaction_names: log overwritten keys
}

// rootState is the root of a btree; key type KeyDeleted means that the root is
// only in memory so far.
type rootState struct {
	key   ondisk.KV
	level int
}

// Allocator hands out buckets. Package alloc implements it. All methods may be
// called with the commit lock held and do no I/O, except AllocNode, Prepare and
// Discards, which are called without.
type Allocator interface {
	consequence.Devices
	// AllocNode finds places for a btree node on as many members as metadata has
	// copies. The places count as open until Committed or Abandon.
	AllocNode(ctx context.Context) ([]ondisk.Ptr, error)
	// Abandon gives places back that no committed key refers to.
	Abandon(ptrs []ondisk.Ptr)
	// NodeCommitted says that a key that refers to the places was committed.
	NodeCommitted(ptrs []ondisk.Ptr)
	// Open reports whether a write point holds a bucket.
	Open(b consequence.Bucket) bool
	// Changed tells of every alloc key that a commit changed.
	Changed(b consequence.Bucket, old, new *ondisk.Alloc)
}

// ErrRestart makes Update run a transaction again. Functions that see it pass it
// on.
var ErrRestart = errors.New("transaction restart")

// StoreConfig of NewStore.
type StoreConfig struct {
	Caps  consequence.Caps
	Clock [2]uint64
	// Seed makes the identities of new nodes; they must be unpredictable, except
	// where reproducible images are wanted.
	Seed func() uint64
}

// NewStore makes trees writable. The journal and the allocator are set with
// Attach before the first transaction.
func NewStore(t *Trees, ws *members.WriteSet, c StoreConfig) *Store {
	s := &Store{Trees: t, ws: ws, caps: c.Caps, roots: map[ondisk.BtreeID]*rootState{}, lives: map[liveID]*live{}, seeds: c.Seed, clock: c.Clock}
	for id, r := range t.state.Roots {
		if !r.Lost {
			s.roots[id] = &rootState{key: r.Key, level: r.Level}
		}
	}
	if o, ok := ondisk.FindOption("journal_transaction_names"); ok {
		s.names = o.Effective(ws.Current()) != 0
	}
	t.rw = s
	return s
}

// Attach completes the store.
func (s *Store) Attach(j *journal.Writer, a Allocator) { s.j, s.alloc = j, a }

// Lock is the commit lock, for the journal.
func (s *Store) Lock() sync.Locker { return &s.mu }

// Journal is the volume's journal.
func (s *Store) Journal() *journal.Writer { return s.j }

// Caps are the capabilities of the volume's version.
func (s *Store) Caps() consequence.Caps { return s.caps }

// Members is the set the store writes to.
func (s *Store) Members() *members.WriteSet { return s.ws }

// fail makes the store read-only for good: an inconsistency was found or a write
// failed after which memory and disk may differ.
func (s *Store) fail(err error) error {
	e := fmt.Errorf("volume is read-only now: %w", err)
	s.broken.CompareAndSwap(nil, &e)
	return e
}

// Err is the reason why the store went read-only, if it did.
func (s *Store) Err() error {
	if e := s.broken.Load(); e != nil {
		return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrReadOnly, Reason: "emergency read-only", Cause: *e}
	}
	return nil
}

// rootNode gives the root as readers see it; ok is false when there is nothing
// in memory and the caller has to load what key says.
func (s *Store) rootNode(b ondisk.BtreeID) (n *Node, r rootState, ok bool) {
	s.liveMu.RLock()
	defer s.liveMu.RUnlock()
	rs := s.roots[b]
	if rs == nil {
		return nil, rootState{}, false
	}
	if l := s.lives[liveID{b, rs.level, ondisk.SPosMax}]; l != nil {
		return l.node, *rs, true
	}
	return nil, *rs, false
}

// liveNode gives a node that is newer in memory than on disk.
func (s *Store) liveNode(b ondisk.BtreeID, level int, max ondisk.Pos) *Node {
	s.liveMu.RLock()
	defer s.liveMu.RUnlock()
	if l := s.lives[liveID{b, level, max}]; l != nil {
		return l.node
	}
	return nil
}

// Tail implements journal.Source: the roots of all btrees, ascending. mu is held.
func (s *Store) Tail(b []byte) []byte {
	// Roots that transactions logged are in the entry already, maybe in an older
	// version; the newest comes last and wins.
	ids := make([]ondisk.BtreeID, 0, len(s.roots))
	for id := range s.roots {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		r := s.roots[id]
		if r.key.Type == ondisk.KeyDeleted {
			continue
		}
		b = ondisk.JsetEntry{Type: ondisk.EntryBtreeRoot, Btree: id, Level: uint8(r.level), Data: r.key.Append(nil)}.Append(b)
	}
	return b
}

// LastSeq implements journal.Source. mu is held.
func (s *Store) LastSeq(next uint64) uint64 {
	for _, l := range s.lives {
		if l.pin != 0 && l.pin < next {
			next = l.pin
		}
	}
	return next
}

// setNode publishes the new content of a live node. mu is held.
func (s *Store) setNode(l *live, n *Node) {
	s.liveMu.Lock()
	l.node = n
	s.lives[l.id] = l
	s.liveMu.Unlock()
}

// makeLive turns a clean node into a live one, or finds it. mu is held.
func (s *Store) makeLive(n *Node, ptr ondisk.KV) *live {
	id := liveID{n.Btree, n.Level, n.Max}
	if l := s.lives[id]; l != nil {
		return l
	}
	l := &live{id: id, ptr: ptr, node: n}
	s.liveMu.Lock()
	s.lives[id] = l
	s.liveMu.Unlock()
	return l
}

// apply puts changes (sorted, all within the node) on a live node. mu is held.
func (s *Store) apply(l *live, cs []change) {
	n, folded := l.node.with(cs)
	if folded != nil {
		l.unwritten = l.unwritten.add(folded)
		if n.Level > 0 {
			n.children(s.warn)
		}
	}
	for i := range cs {
		if l.pin == 0 || cs[i].seq < l.pin {
			l.pin = cs[i].seq
		}
		l.maxSeq = max(l.maxSeq, cs[i].seq)
	}
	if !l.big && n.bytes() > s.size+s.size/2 {
		l.big = true
		s.bigs.Add(1)
	}
	s.setNode(l, n)
}

// resident finds the node of a level that covers p without any I/O: live, in the
// cache, or pinned by the transaction. missing is true when it is neither. mu is
// held.
func (s *Store) resident(b ondisk.BtreeID, level int, p ondisk.Pos, pinned map[nodeKey]*Node) (n *Node, ptr ondisk.KV, missing bool) {
	rs := s.roots[b]
	if rs == nil {
		// A btree that never had a key: an empty leaf that is not on disk.
		rs = &rootState{key: ondisk.KV{Key: ondisk.Key{Type: ondisk.KeyDeleted, Pos: ondisk.SPosMax}}}
		s.liveMu.Lock()
		s.roots[b] = rs
		s.lives[liveID{b, 0, ondisk.SPosMax}] = &live{id: liveID{b, 0, ondisk.SPosMax}, ptr: rs.key, node: &Node{Btree: b, Max: ondisk.SPosMax}}
		s.liveMu.Unlock()
	}
	if level > rs.level {
		return nil, ptr, false
	}
	get := func(lv int, key ondisk.KV, lmin ondisk.Pos) *Node {
		if l := s.lives[liveID{b, lv, key.Pos}]; l != nil {
			return l.node
		}
		bp, err := ondisk.DecodeBtreePtr(key)
		if err != nil {
			return nil
		}
		k := keyOf(b, lv, &bp)
		if n := pinned[k]; n != nil {
			return n
		}
		return s.cache.peek(k)
	}
	ptr = rs.key
	n = get(rs.level, ptr, ondisk.PosMin)
	for n != nil && n.Level > level {
		i, _, _ := n.child(p)
		if i < 0 {
			return nil, ptr, true
		}
		ptr = n.ptrKey(i)
		n = get(n.Level-1, ptr, n.ptrs[i].MinKey)
	}
	return n, ptr, n == nil
}

// ptrKey is the key of child i.
func (n *Node) ptrKey(i int) ondisk.KV { return n.Key(i) }

// NextKeyVersion draws a number for new encrypted data; it is journalled before
// the data can be referred to.
func (s *Store) NextKeyVersion() (v uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.j.SetTail(func(t *journal.Tail) { t.KeyVersion++; v = t.KeyVersion })
	return v
}

// AddClock advances an IO clock (0 read, 1 write) by sectors.
func (s *Store) AddClock(rw int, sectors uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock[rw] += sectors
	s.j.SetTail(func(t *journal.Tail) { t.Clock = s.clock })
}
