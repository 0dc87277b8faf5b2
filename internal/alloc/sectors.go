package alloc

import (
	"context"
	"syscall"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/consequence"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Point is a write point: data that is written through the same one lies
// together. Safe for concurrent use.
type Point struct {
	a    *Allocator
	open map[uint8]*openBucket // guarded by Allocator.mu
}

// NewPoint makes a write point.
func (a *Allocator) NewPoint() *Point { return &Point{a: a, open: map[uint8]*openBucket{}} }

// Request says what a blob needs.
type Request struct {
	Sectors  uint64 // wanted
	Whole    bool   // all of it in one piece, else any multiple of Block will do
	Block    uint64 // sectors of a block
	Replicas int
	Target   uint16
}

// Alloc finds room for a blob on as many members as it has copies, at least on
// one. The places are open until Done. It gives the number of sectors found.
// The error is ENOSPC when no member has room.
func (p *Point) Alloc(ctx context.Context, q Request) ([]ondisk.Ptr, uint64, error) {
	a := p.a
	for try := 0; ; try++ {
		ptrs, n := p.alloc(q)
		if len(ptrs) > 0 {
			if err := a.mark(ctx, ondisk.DataUser, ptrs, n); err != nil {
				p.Done(ptrs)
				return nil, 0, err
			}
			return ptrs, n, nil
		}
		if try > 1 || !a.waiting() {
			return nil, 0, &errs.Error{Where: errs.Nowhere, Kind: syscall.ENOSPC, Reason: "no space left on the volume"}
		}
		// Emptied buckets become free once the journal is on disk.
		lock := a.store.Lock()
		lock.Lock()
		seq := a.store.Journal().Seq()
		lock.Unlock()
		if err := a.store.Journal().Sync(ctx, seq); err != nil {
			return nil, 0, err
		}
		if _, err := a.Discards(ctx); err != nil {
			return nil, 0, err
		}
		lock.Lock()
		seq = a.store.Journal().Seq()
		lock.Unlock()
		if err := a.store.Journal().Sync(ctx, seq); err != nil {
			return nil, 0, err
		}
	}
}

func (p *Point) alloc(q Request) ([]ondisk.Ptr, uint64) {
	a := p.a
	a.mu.Lock()
	defer a.mu.Unlock()
	var chosen []*openBucket
	n, have := q.Sectors, 0
	for _, d := range a.candidates(ondisk.DataUser, q.Target, nil) {
		if have >= q.Replicas {
			break
		}
		o := p.open[d.idx]
		if o != nil && (o.dead || o.used+q.Block > d.size || q.Whole && o.used+q.Sectors > d.size) {
			a.release(o)
			delete(p.open, d.idx)
			o = nil
		}
		if o == nil {
			if o = a.take(d, true); o == nil {
				continue
			}
			p.open[d.idx] = o
		}
		n = min(n, (d.size-o.used)/q.Block*q.Block)
		chosen = append(chosen, o)
		have += d.durability
	}
	var ptrs []ondisk.Ptr
	for _, o := range chosen {
		size := a.devs[o.Dev].size
		ptrs = append(ptrs, ondisk.Ptr{Dev: o.Dev, Offset: o.Bucket.Bucket*size + o.used, Gen: o.gen})
		o.used += n
		o.refs++
	}
	return ptrs, n
}

// Done closes places after the keys that refer to them were committed, or when
// they are not used.
func (p *Point) Done(ptrs []ondisk.Ptr) { p.a.NodeCommitted(ptrs) }

// Close gives back the buckets the point holds.
func (p *Point) Close() {
	p.a.mu.Lock()
	defer p.a.mu.Unlock()
	for d, o := range p.open {
		p.a.release(o)
		delete(p.open, d)
	}
}

// GenOf is the generation of a bucket.
func (a *Allocator) GenOf(b consequence.Bucket) uint8 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if d := a.device(uint64(b.Dev)); d != nil && b.Bucket < d.nb {
		return d.gens[b.Bucket]
	}
	return 0
}
