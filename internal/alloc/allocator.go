package alloc

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"syscall"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/btree"
	"github.com/gobcachefs/gobcachefs/internal/consequence"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Allocator hands out buckets of the members and knows the state of all of them
// in memory. It implements btree.Allocator. mu is taken with the commit lock
// held and never held over I/O.
type Allocator struct {
	ws    *members.WriteSet
	store *btree.Store
	node  uint64 // sectors of a btree node

	mu    sync.Mutex
	devs  []*device
	open  map[consequence.Bucket]*openBucket
	nodes map[uint8]*openBucket // where the next btree nodes of a member go
	sbMu  sync.Mutex            // one change of the superblock at a time
}

// device is the state of a member.
type device struct {
	idx         uint8
	size        uint64 // bucket, sectors
	first, nb   uint64
	gens        []uint8
	types       []ondisk.DataType
	seqs        map[uint64]uint64 // journal seq of the last change between empty and not
	free        uint64            // buckets of type free, open ones included
	cursor      uint64
	hand        uint64 // grows with what is taken, in inverse proportion to what is free
	allowed     uint8
	durability  int
	rw          bool
	needDiscard map[uint64]struct{}
	cached      map[uint64]uint64 // buckets of cached data: last read
	discard     bool
}

// openBucket is a bucket that something is being put into.
type openBucket struct {
	consequence.Bucket
	gen  uint8
	used uint64 // sectors handed out
	refs int    // write points and unfinished writes
	dead bool   // emptied meanwhile: must not be used any more
}

// New loads the state of all buckets.
func New(ctx context.Context, ws *members.WriteSet, store *btree.Store) (*Allocator, error) {
	sb := ws.Current()
	a := &Allocator{ws: ws, store: store, node: uint64(sb.NodeSectors()), open: map[consequence.Bucket]*openBucket{}, nodes: map[uint8]*openBucket{}}
	a.devs = make([]*device, len(ws.Devs))
	for i, d := range ws.Devs {
		if d == nil {
			continue
		}
		m := &d.Member
		x := &device{idx: uint8(i), size: uint64(m.BucketSize), first: uint64(m.FirstBucket), nb: m.NBuckets,
			gens: make([]uint8, m.NBuckets), types: make([]ondisk.DataType, m.NBuckets), seqs: map[uint64]uint64{},
			needDiscard: map[uint64]struct{}{}, cached: map[uint64]uint64{}, allowed: m.DataAllowed(), durability: m.Durability(),
			rw: d.Online() && m.State() == ondisk.MemberRW, discard: m.Discard()}
		x.free = x.nb - x.first
		x.cursor = x.first
		a.devs[i] = x
	}
	c := store.Cursor(ctx, ondisk.BtreeAlloc, ondisk.PosMin, ondisk.SPosMax)
	c.ReadAhead()
	for {
		kv, ok := c.Next()
		if !ok {
			break
		}
		al, err := ondisk.DecodeAlloc(kv)
		if err != nil {
			return nil, err
		}
		if d := a.device(kv.Pos.Inode); d != nil && kv.Pos.Offset < d.nb {
			var zero ondisk.Alloc
			a.changed(d, kv.Pos.Offset, &zero, &al)
		}
	}
	return a, c.Err()
}

func (a *Allocator) device(i uint64) *device {
	if i >= uint64(len(a.devs)) {
		return nil
	}
	return a.devs[i]
}

// BucketSize implements consequence.Devices.
func (a *Allocator) BucketSize(dev uint8) uint64 {
	if d := a.device(uint64(dev)); d != nil {
		return d.size
	}
	return 0
}

// Stale implements consequence.Devices.
func (a *Allocator) Stale(dev uint8, bucket uint64, gen uint8) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	d := a.device(uint64(dev))
	return d == nil || bucket >= d.nb || d.gens[bucket] != gen
}

// InTarget implements consequence.Devices: targets name a member or a disk group
// with all below it.
func (a *Allocator) InTarget(dev uint8, target uint16) bool {
	return InTarget(a.ws.Current(), dev, target)
}

// InTarget reports whether a member belongs to a target.
func InTarget(sb *ondisk.Superblock, dev uint8, target uint16) bool {
	if target == 0 {
		return true
	}
	td, group := ondisk.DecodeTarget(target)
	if td >= 0 {
		return int(dev) == td
	}
	groups, err := sb.DiskGroups()
	m, err2 := sb.Member(int(dev))
	if err != nil || err2 != nil || group < 0 {
		return false
	}
	for g, n := m.Group(), 0; g >= 0 && g < len(groups) && n <= len(groups); g, n = groups[g].Parent, n+1 {
		if g == group {
			return true
		}
	}
	return false
}

// Open implements btree.Allocator.
func (a *Allocator) Open(b consequence.Bucket) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.open[b]
	return ok
}

// Changed implements btree.Allocator.
func (a *Allocator) Changed(b consequence.Bucket, old, new *ondisk.Alloc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	d := a.device(uint64(b.Dev))
	if d == nil || b.Bucket >= d.nb {
		return
	}
	a.changed(d, b.Bucket, old, new)
	if o := a.open[b]; o != nil && new.DataType == ondisk.DataNeedDiscard {
		// It ran empty: what is put into it from now on would be under the old
		// generation.
		o.dead = true
	}
}

func (a *Allocator) changed(d *device, b uint64, old, new *ondisk.Alloc) {
	d.gens[b], d.types[b] = new.Gen, new.DataType
	if old.DataType != new.DataType {
		if old.DataType == ondisk.DataFree {
			d.free--
		}
		if new.DataType == ondisk.DataFree {
			d.free++
		}
		delete(d.needDiscard, b)
		delete(d.cached, b)
		if new.DataType == ondisk.DataNeedDiscard {
			d.needDiscard[b] = struct{}{}
		}
	}
	if new.DataType == ondisk.DataCached {
		d.cached[b] = new.IOTime[ondisk.IORead]
	}
	seq := new.JournalSeq
	if a.store.Caps().BucketSeqs {
		seq = new.JournalSeqEmpty
	}
	if seq != 0 && (new.DataType == ondisk.DataFree || new.DataType == ondisk.DataNeedDiscard || new.DataType == ondisk.DataNeedGCGens) {
		d.seqs[b] = seq
	} else {
		delete(d.seqs, b)
	}
}

// reserved is what must stay free for work of higher rank (chapter 06 section
// 16), in buckets.
func (a *Allocator) reserved(d *device, user bool) uint64 {
	if !user {
		return 0
	}
	perBucket := max(1, d.size/a.node)
	nbr := (28 + perBucket - 1) / perBucket
	return d.nb>>6 + 2*nbr
}

// take finds a free bucket of a member and opens it. mu is held.
func (a *Allocator) take(d *device, user bool) *openBucket {
	openFree := uint64(0)
	for b := range a.open {
		if b.Dev == d.idx && d.types[b.Bucket] == ondisk.DataFree {
			openFree++
		}
	}
	if d.free <= openFree+a.reserved(d, user) {
		return nil
	}
	durable, _ := a.store.Journal().Durable()
	for n := d.first; n < d.nb; n++ {
		b := d.cursor
		if d.cursor++; d.cursor >= d.nb {
			d.cursor = d.first
		}
		if d.types[b] != ondisk.DataFree || b == 0 && d.first == 0 {
			continue
		}
		k := consequence.Bucket{Dev: d.idx, Bucket: b}
		if _, ok := a.open[k]; ok || d.seqs[b] > durable {
			continue
		}
		o := &openBucket{Bucket: k, gen: d.gens[b], refs: 1}
		a.open[k] = o
		d.hand += 1 << 52 / max(1, d.free)
		return o
	}
	return nil
}

// Keep says that a bucket that counts as free will be marked as something else:
// nothing is put into it.
func (a *Allocator) Keep(dev uint8, bucket uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if d := a.device(uint64(dev)); d != nil && bucket < d.nb && d.types[bucket] == ondisk.DataFree {
		d.types[bucket] = ondisk.DataSB
	}
}

// release drops a reference to an open bucket. mu is held.
func (a *Allocator) release(o *openBucket) {
	if o.refs--; o.refs == 0 {
		delete(a.open, o.Bucket)
	}
}

// candidates lists the members that may take data of a type, best first:
// members of the target, those least filled before. mu is held.
func (a *Allocator) candidates(t ondisk.DataType, target uint16, skip []uint8) []*device {
	sb := a.ws.Current()
	var out []*device
	for _, d := range a.devs {
		if d == nil || !d.rw || d.durability == 0 || d.allowed>>t&1 == 0 || slices.Contains(skip, d.idx) {
			continue
		}
		out = append(out, d)
	}
	rank := map[*device]int{}
	for _, d := range out {
		if !InTarget(sb, d.idx, target) {
			rank[d] = 1
		}
	}
	slices.SortStableFunc(out, func(x, y *device) int {
		if r := rank[x] - rank[y]; r != 0 {
			return r
		}
		if x.hand != y.hand {
			if x.hand < y.hand {
				return -1
			}
			return 1
		}
		return int(x.idx) - int(y.idx)
	})
	return out
}

// AllocNode implements btree.Allocator: places for a node on as many members as
// metadata_replicas says, fewer when there are no more, at least one.
func (a *Allocator) AllocNode(ctx context.Context) ([]ondisk.Ptr, error) {
	sb := a.ws.Current()
	want := int(option(sb, "metadata_replicas"))
	target := uint16(option(sb, "metadata_target"))
	if target == 0 {
		target = uint16(option(sb, "foreground_target"))
	}
	for try := 0; ; try++ {
		a.mu.Lock()
		var ptrs []ondisk.Ptr
		have := 0
		for _, d := range a.candidates(ondisk.DataBtree, target, nil) {
			if have >= want {
				break
			}
			o := a.nodes[d.idx]
			if o != nil && (o.dead || o.used+a.node > d.size) {
				a.release(o)
				delete(a.nodes, d.idx)
				o = nil
			}
			if o == nil {
				if o = a.take(d, false); o == nil {
					continue
				}
				a.nodes[d.idx] = o
			}
			ptrs = append(ptrs, ondisk.Ptr{Dev: d.idx, Offset: o.Bucket.Bucket*d.size + o.used, Gen: o.gen})
			o.used += a.node
			o.refs++
			have += d.durability
		}
		a.mu.Unlock()
		if len(ptrs) == 0 {
			if try == 0 && a.waiting() {
				if _, err := a.Discards(ctx); err != nil {
					return nil, err
				}
				continue
			}
			return nil, &errs.Error{Where: errs.Nowhere, Kind: syscall.ENOSPC, Reason: "no free bucket for a btree node"}
		}
		if err := a.mark(ctx, ondisk.DataBtree, ptrs, a.node); err != nil {
			a.Abandon(ptrs)
			return nil, err
		}
		return ptrs, nil
	}
}

func option(sb *ondisk.Superblock, name string) uint64 {
	o, ok := ondisk.FindOption(name)
	if !ok {
		return 0
	}
	return o.Effective(sb)
}

// waiting: there are buckets that only wait for their discard.
func (a *Allocator) waiting() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range a.devs {
		if d != nil && len(d.needDiscard) > 0 {
			return true
		}
	}
	return false
}

// Abandon implements btree.Allocator.
func (a *Allocator) Abandon(ptrs []ondisk.Ptr) { a.NodeCommitted(ptrs) }

// NodeCommitted implements btree.Allocator.
func (a *Allocator) NodeCommitted(ptrs []ondisk.Ptr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range ptrs {
		if d := a.device(uint64(p.Dev)); d != nil {
			if o := a.open[consequence.Bucket{Dev: p.Dev, Bucket: p.Offset / d.size}]; o != nil {
				a.release(o)
			}
		}
	}
}

// mark makes sure that the superblock on disk says what must be said before a
// key may refer to the places: the set of members (replicas), and for nodes the
// bitmap of where nodes are (chapter 01 sections 5.2 and 5.4).
func (a *Allocator) mark(ctx context.Context, t ondisk.DataType, ptrs []ondisk.Ptr, sectors uint64) error {
	var devs []uint8
	for _, p := range ptrs {
		devs = append(devs, p.Dev)
	}
	slices.Sort(devs)
	if a.marked(t, devs, ptrs, sectors) {
		return nil
	}
	a.sbMu.Lock()
	defer a.sbMu.Unlock()
	if a.marked(t, devs, ptrs, sectors) {
		return nil
	}
	return a.ws.Update(ctx, func(sb *ondisk.Superblock) error {
		if needsReplicas(sb, t) {
			if err := AddReplicas(sb, t, 1, devs); err != nil {
				return err
			}
		}
		if t != ondisk.DataBtree {
			return nil
		}
		ms, err := sb.Members()
		if err != nil {
			return err
		}
		for _, p := range ptrs {
			markBitmap(&ms[p.Dev], p.Offset, p.Offset+sectors)
		}
		return sb.SetMembers(ms, sb.MemberStride())
	})
}

func needsReplicas(sb *ondisk.Superblock, t ondisk.DataType) bool {
	return t <= ondisk.DataBtree || sb.VersionIncompat() < ondisk.Version1_0+36
}

func (a *Allocator) marked(t ondisk.DataType, devs []uint8, ptrs []ondisk.Ptr, sectors uint64) bool {
	sb := a.ws.Current()
	if needsReplicas(sb, t) && !HasReplicas(sb, t, devs) {
		return false
	}
	if t == ondisk.DataBtree {
		for _, p := range ptrs {
			m, err := sb.Member(int(p.Dev))
			if err != nil || !bitmapHas(&m, p.Offset, p.Offset+sectors) {
				return false
			}
		}
	}
	return true
}

// HasReplicas reports whether the superblock lists a set of members (ascending).
func HasReplicas(sb *ondisk.Superblock, t ondisk.DataType, devs []uint8) bool {
	l, err := sb.Replicas()
	return err == nil && slices.ContainsFunc(l, func(e ondisk.ReplicasEntry) bool {
		return ondisk.DataType(e.DataType) == t && slices.Equal(e.Devs, devs)
	})
}

// AddReplicas lists a set of members in the superblock.
func AddReplicas(sb *ondisk.Superblock, t ondisk.DataType, required int, devs []uint8) error {
	if HasReplicas(sb, t, devs) {
		return nil
	}
	l, err := sb.Replicas()
	if err != nil {
		return err
	}
	e := ondisk.ReplicasEntry{Required: required, Devs: slices.Clone(devs)}
	e.DataType = t
	sb.SetReplicas(append(l, e))
	return nil
}

func bitmapHas(m *ondisk.Member, start, end uint64) bool {
	shift := m.BtreeBitmapShift
	if end > 64<<shift {
		return false
	}
	for i := start >> shift; i <= (end-1)>>shift; i++ {
		if m.BtreeAllocatedBitmap>>i&1 == 0 {
			return false
		}
	}
	return true
}

// markBitmap sets the bits of a range of sectors, making the bits coarser when
// it lies beyond them (chapter 01 section 5.2).
func markBitmap(m *ondisk.Member, start, end uint64) {
	for end > 64<<m.BtreeBitmapShift {
		var half uint64
		for i := range 64 {
			if m.BtreeAllocatedBitmap>>i&1 != 0 {
				half |= 1 << (i / 2)
			}
		}
		m.BtreeAllocatedBitmap = half
		m.BtreeBitmapShift++
	}
	for i := start >> m.BtreeBitmapShift; i <= (end-1)>>m.BtreeBitmapShift; i++ {
		m.BtreeAllocatedBitmap |= 1 << i
	}
}

// Discards makes buckets free that were emptied by a durable transaction
// (chapter 06 section 3.2) and says how many. If none qualifies the journal is
// flushed first.
func (a *Allocator) Discards(ctx context.Context) (int, error) {
	total := 0
	for {
		list := a.discardable(min(256, max(1, a.store.Journal().MaxBody()/1000)))
		if len(list) == 0 {
			return total, nil
		}
		for _, b := range list {
			d := a.devs[b.Dev]
			if d.discard {
				if err := a.ws.Discard(ctx, b.Dev, b.Bucket*d.size, d.size); err != nil {
					a.ws.Warn(fmt.Errorf("discard: %w", err))
				}
			}
		}
		_, err := a.store.Update(ctx, "discard", func(tx *btree.Tx) error {
			for _, b := range list {
				tx.Bucket(b, func(x *ondisk.Alloc) {
					if x.DataType == ondisk.DataNeedDiscard {
						x.NeedDiscard, x.DataType = false, ondisk.DataFree
					}
				})
			}
			return nil
		})
		if err != nil {
			return total, err
		}
		total += len(list)
	}
}

func (a *Allocator) discardable(limit int) []consequence.Bucket {
	durable, _ := a.store.Journal().Durable()
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []consequence.Bucket
	for _, d := range a.devs {
		if d == nil {
			continue
		}
		var l []consequence.Bucket
		for b := range d.needDiscard {
			k := consequence.Bucket{Dev: d.idx, Bucket: b}
			if _, open := a.open[k]; !open && d.seqs[b] <= durable {
				l = append(l, k)
			}
		}
		slices.SortFunc(l, func(x, y consequence.Bucket) int {
			if x.Bucket < y.Bucket {
				return -1
			}
			return 1
		})
		out = append(out, l...)
	}
	return out[:min(len(out), limit)]
}
