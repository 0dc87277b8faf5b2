package btree

import (
	"context"
	"errors"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Cursor walks the stored keys of a btree at one level in full order. It is a
// value for one goroutine. After an error Next keeps returning false until Seek
// or SkipDamage.
type Cursor struct {
	t     *Trees
	ctx   context.Context
	btree ondisk.BtreeID
	level int

	pos    ondisk.Pos // where the next search starts
	end    ondisk.Pos // last position wanted
	node   *Node
	i, j   int // next key of the node's arrays, of its changes
	done   bool
	err    error
	ahead  bool
	parent *Node

	suspect error // of any node visited
}

// Cursor starts at from and ends after to, both included.
func (t *Trees) Cursor(ctx context.Context, b ondisk.BtreeID, from, to ondisk.Pos) Cursor {
	return Cursor{t: t, ctx: ctx, btree: b, pos: from, end: to}
}

// LevelCursor walks the keys of the nodes of a level: pointers to the nodes one
// level down.
func (t *Trees) LevelCursor(ctx context.Context, b ondisk.BtreeID, level int, from, to ondisk.Pos) Cursor {
	c := t.Cursor(ctx, b, from, to)
	c.level = level
	return c
}

// ReadAhead makes the cursor load the next leaf while this one is walked.
func (c *Cursor) ReadAhead() { c.ahead = true }

// Seek moves the cursor so that Next gives the first key at or after p.
func (c *Cursor) Seek(p ondisk.Pos) {
	c.err, c.done = nil, false
	c.pos = p
	if n := c.node; n != nil && !p.Less(n.Min) && !n.Max.Less(p) {
		c.j = 0
		if len(n.delta) > 0 {
			c.j = find(n.delta, p)
		}
		// Most seeks go a few keys forward.
		if c.i < n.Len() && n.slots[c.i].pos().Less(p) {
			for k := c.i + 1; k <= c.i+4; k++ {
				if k == n.Len() || !n.slots[k].pos().Less(p) {
					c.i = k
					return
				}
			}
		}
		c.i = n.Search(p)
		return
	}
	c.node = nil
}

// Next gives the next key.
func (c *Cursor) Next() (ondisk.KV, bool) {
	for {
		if c.done || c.err != nil {
			return ondisk.KV{}, false
		}
		if c.node == nil {
			if c.end.Less(c.pos) {
				c.done = true
				return ondisk.KV{}, false
			}
			var idx int
			c.node, c.parent, idx, c.err = c.t.leaf(c.ctx, c.btree, c.level, c.pos)
			if c.err != nil {
				return ondisk.KV{}, false
			}
			if c.node == nil {
				c.done = true
				return ondisk.KV{}, false
			}
			c.i, c.j = c.node.Search(c.pos), 0
			if len(c.node.delta) > 0 {
				c.j = find(c.node.delta, c.pos)
			}
			if c.node.Suspect != nil {
				c.suspect = c.node.Suspect
			}
			if c.ahead && c.parent != nil {
				c.t.prefetch(c.ctx, c.parent, idx+1)
			}
		}
		n := c.node
		if c.j < len(n.delta) && (c.i >= n.Len() || !n.slots[c.i].pos().Less(n.delta[c.j].kv.Pos)) {
			kv := n.delta[c.j].kv
			if c.end.Less(kv.Pos) {
				c.done = true
				return ondisk.KV{}, false
			}
			if c.i < n.Len() && n.slots[c.i].pos() == kv.Pos {
				c.i++
			}
			c.j++
			if kv.Type == ondisk.KeyDeleted {
				continue
			}
			return kv, true
		}
		if c.i < n.Len() {
			if c.end.Less(n.slots[c.i].pos()) {
				c.done = true
				return ondisk.KV{}, false
			}
			kv := n.Key(c.i)
			c.i++
			return kv, true
		}
		if n.Max == ondisk.SPosMax {
			c.done = true
			return ondisk.KV{}, false
		}
		c.pos, c.node = n.Max.Successor(), nil
	}
}

// Node is the node that the last key came from, nil if there was none.
func (c *Cursor) Node() *Node { return c.node }

// Suspect is the reason not to trust what the walk gave, and what it did not
// give, if there is one: a node it visited had a bad checksum.
func (c *Cursor) Suspect() error { return c.suspect }

// Err is what ended the walk, if it was not the end of the range. A *DamageError
// says which range could not be read.
func (c *Cursor) Err() error { return c.err }

// SkipDamage goes on behind the range that could not be read. It reports false
// when there is nothing to skip or nothing behind it.
func (c *Cursor) SkipDamage() bool {
	var d *DamageError
	if !errors.As(c.err, &d) || d.To == ondisk.SPosMax || c.end.Less(d.To) {
		return false
	}
	c.Seek(d.To.Successor())
	return true
}

// prefetch loads a child in the background, unless it is there.
func (t *Trees) prefetch(ctx context.Context, parent *Node, i int) {
	if i >= parent.Len() {
		return
	}
	w := parent.want(i)
	if t.cache.has(keyOf(w.btree, w.level, &w.ptr)) {
		return
	}
	go func() { _, _ = t.load(ctx, w, parent) }()
}
