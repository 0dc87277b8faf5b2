package check

import (
	"context"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// cursor gives the keys of a btree from one position up to another, in order. It
// reads leaves some at a time. A key is valid until the next peek after it was
// taken.
type cursor struct {
	c        *checker
	ctx      context.Context
	refs     []nodeRef
	from, to ondisk.Pos
	// report: leaves whose last position is in the range report their damage, so
	// that of neighboring ranges exactly one does.
	report bool

	batch *batch
	node  *node
	i     int
	kv    *ondisk.KV
	err   error
}

// cursor starts before the first key.
func (c *checker) cursor(ctx context.Context, b ondisk.BtreeID, from, to ondisk.Pos, report bool) *cursor {
	return &cursor{c: c, ctx: ctx, refs: c.leavesIn(b, from, to), from: from, to: to, report: report}
}

func (u *cursor) reports(r *nodeRef) bool {
	return u.report && !r.max.Less(u.from) && !u.to.Less(r.max)
}

// peek gives the next key without taking it, nil at the end or after an error.
func (u *cursor) peek() *ondisk.KV {
	for u.kv == nil && u.err == nil {
		if u.node != nil {
			if u.i < len(u.node.keys) {
				kv := &u.node.keys[u.i]
				u.i++
				if kv.Pos.Less(u.from) {
					continue
				}
				if u.to.Less(kv.Pos) {
					u.i--
					return nil
				}
				u.kv = kv
				break
			}
			u.c.release(u.node)
			u.node = nil
		}
		if u.batch != nil {
			if u.node, u.i = u.batch.next(u.reports), 0; u.node != nil {
				continue
			}
			u.batch = nil
		}
		if len(u.refs) == 0 {
			return nil
		}
		k := min(len(u.refs), batchNodes)
		u.batch, u.err = u.c.readBatch(u.ctx, u.refs[:k])
		u.refs = u.refs[k:]
	}
	return u.kv
}

// take moves on to the next key.
func (u *cursor) take() { u.kv = nil }

// close gives back what the cursor holds.
func (u *cursor) close() {
	if u.node != nil {
		u.c.release(u.node)
		u.node = nil
	}
	if u.batch != nil {
		u.batch.close()
		u.batch = nil
	}
}
