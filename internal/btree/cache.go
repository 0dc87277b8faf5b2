package btree

import (
	"sync"
	"sync/atomic"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// nodeKey identifies a node's content: the pointer changes with every write.
type nodeKey struct {
	btree   ondisk.BtreeID
	level   uint8
	written uint16
	dev     uint8
	seq     uint64
	offset  uint64
	min     ondisk.Pos // of nodes whose range is not their own
}

func keyOf(b ondisk.BtreeID, level int, p *ondisk.BtreePtr) nodeKey {
	k := nodeKey{btree: b, level: uint8(level), written: p.SectorsWritten, seq: p.Seq}
	if len(p.Ptrs) > 0 {
		k.dev, k.offset = p.Ptrs[0].Dev, p.Ptrs[0].Offset
	}
	if p.RangeUpdated {
		// Parts of the node may be children of their own.
		k.min = p.MinKey
	}
	return k
}

const cacheShards = 16

// cache keeps decoded nodes up to a number of bytes. Eviction is CLOCK by shard.
// Loads of the same node are done once; no lock is held while loading.
type cache struct {
	shards [cacheShards]cacheShard
	limit  int64 // bytes per shard
	hits   atomic.Int64
	misses atomic.Int64
}

type cacheShard struct {
	mu      sync.Mutex
	m       map[nodeKey]*cacheEntry
	ring    []*cacheEntry
	hand    int
	bytes   int64
	loading map[nodeKey]*load
}

type cacheEntry struct {
	key  nodeKey
	node *Node
	size int64
	used atomic.Bool
}

type load struct {
	done chan struct{}
	node *Node
	err  error
}

func newCache(limit int64) *cache {
	c := &cache{limit: max(limit/cacheShards, 1)}
	for i := range c.shards {
		c.shards[i].m = map[nodeKey]*cacheEntry{}
		c.shards[i].loading = map[nodeKey]*load{}
	}
	return c
}

func (c *cache) shard(k nodeKey) *cacheShard {
	h := (k.seq ^ k.offset) * 0x9e3779b97f4a7c15
	return &c.shards[h>>60]
}

// get returns the node, loading it with fn when it is not there.
func (c *cache) get(k nodeKey, fn func() (*Node, error)) (*Node, error) {
	s := c.shard(k)
	s.mu.Lock()
	if e := s.m[k]; e != nil {
		s.mu.Unlock()
		e.used.Store(true)
		c.hits.Add(1)
		return e.node, nil
	}
	if l := s.loading[k]; l != nil {
		s.mu.Unlock()
		<-l.done
		return l.node, l.err
	}
	l := &load{done: make(chan struct{})}
	s.loading[k] = l
	s.mu.Unlock()
	c.misses.Add(1)
	defer func() {
		s.mu.Lock()
		delete(s.loading, k)
		if l.err == nil && l.node != nil {
			s.add(k, l.node, c.limit)
		}
		s.mu.Unlock()
		close(l.done)
	}()
	l.node, l.err = fn()
	return l.node, l.err
}

// peek gives a node that is cached, nil if it is not.
func (c *cache) peek(k nodeKey) *Node {
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.m[k]; e != nil {
		e.used.Store(true)
		return e.node
	}
	return nil
}

// put inserts a node that was just written.
func (c *cache) put(k nodeKey, n *Node) {
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m[k] == nil {
		s.add(k, n, c.limit)
	}
}

// has reports whether a node is cached or on its way.
func (c *cache) has(k nodeKey) bool {
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m[k] != nil || s.loading[k] != nil
}

// add inserts a node and evicts others until the shard fits; s.mu is held. The
// new entry starts unused so that one long scan does not push out what is hot.
func (s *cacheShard) add(k nodeKey, n *Node, limit int64) {
	e := &cacheEntry{key: k, node: n, size: n.memory()}
	if n.Level > 0 {
		e.used.Store(true)
	}
	s.bytes += e.size
	for s.bytes > limit && len(s.ring) > 0 {
		if s.hand >= len(s.ring) {
			s.hand = 0
		}
		v := s.ring[s.hand]
		if v.used.CompareAndSwap(true, false) {
			s.hand++
			continue
		}
		s.bytes -= v.size
		delete(s.m, v.key)
		last := len(s.ring) - 1
		s.ring[s.hand] = s.ring[last]
		s.ring[last] = nil
		s.ring = s.ring[:last]
	}
	s.m[k] = e
	s.ring = append(s.ring, e)
}
