package check

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// pointers follows the pointers of keys: each counts for its bucket, wants a
// backpointer, and goes into the counters. One for each goroutine.
type pointers struct {
	c *checker
	// first: the first pass, which reports and counts what has no window.
	first bool
	// acc takes the counters; nil when they were counted in an earlier pass.
	acc *counters
	// inum are the counters of the inode whose keys come now.
	inum    sum
	inumNow uint64
	// d takes what should be, in the walk for details, in which nothing is counted
	// for buckets and nothing reported.
	d *detail

	devs []uint8
	buf  []byte
	bps  []byte
}

// pointers makes one for a walk; first says that it is the first one.
func (c *checker) pointers(first bool) *pointers {
	p := &pointers{c: c, first: first}
	if first {
		p.acc = newCounters()
	}
	return p
}

// done merges what was counted.
func (p *pointers) done() {
	p.flushInum()
	if !p.first {
		return
	}
	p.c.accMu.Lock()
	defer p.c.accMu.Unlock()
	p.c.acc.merge(p.acc)
	p.acc = nil
}

func (p *pointers) flushInum() {
	if p.inum == (sum{}) {
		return
	}
	if p.d != nil {
		p.d.wantInum(p.inumNow, p.inum)
	} else {
		p.c.inums.add(p.inumNow, p.c.inumHash(p.inumNow, &p.inum), 1)
	}
	p.inum = sum{}
}

// node follows the pointer to a btree node.
func (p *pointers) node(r *nodeRef) {
	c := p.c
	n := int64(c.nodeBytes / 512)
	bp := ondisk.Backpointer{Btree: r.btree, Level: uint8(r.level) + 1, DataType: ondisk.DataBtree, BucketLen: uint32(n), Pos: r.max}
	p.devs = p.devs[:0]
	var total int64
	for _, q := range r.ptr.Ptrs {
		if p.ptr(r.where, ondisk.ExtentPtr{Ptr: q}, n, bp) {
			p.devs, total = append(p.devs, q.Dev), total+n
		}
	}
	if p.acc == nil {
		return
	}
	p.replicas(ondisk.DataBtree, 1, total)
	s := p.acc.at(ondisk.AccountingPos{Type: ondisk.AccBtree, Btree: uint32(r.btree)})
	if !c.minor(31) {
		s.add(total)
	} else if r.level > 0 {
		s.add(total, 1, 1)
	} else {
		s.add(total, 1, 0)
	}
	p.reconcileNode(r, n)
}

// replicas adds to the counter of the set of devices in p.devs.
func (p *pointers) replicas(t ondisk.DataType, required uint8, sectors int64) {
	if len(p.devs) == 0 {
		return
	}
	slices.Sort(p.devs)
	a := ondisk.AccountingPos{Type: ondisk.AccReplicas, DataType: t, NrRequired: required}
	a.NrDevs = uint8(copy(a.DevList[:], p.devs))
	p.acc.at(a).add(sectors)
}

// ptr follows one pointer that stands for sectors on its member. It reports
// whether the pointer is a dirty copy of its own: not cached, not part of a stripe.
func (p *pointers) ptr(where func() errs.Where, q ondisk.ExtentPtr, sectors int64, bp ondisk.Backpointer) bool {
	c := p.c
	if q.Dev == ondisk.InvalidDev {
		return !q.Cached && !q.HasStripe // a placeholder counts, but has no place
	}
	g := c.geometry(q.Dev)
	if g == nil {
		if p.first && bp.Level == 0 {
			c.badPtrDev(q.Dev, where())
		}
		return false
	}
	nr := q.Offset / g.size
	if !g.valid(nr) {
		return false // a rule of single keys
	}
	gen := c.gens.at(g.base + nr)
	age := 0
	if !c.noAlloc {
		age = ondisk.GenCompare(gen, q.Gen)
	}
	if q.Cached && age > 0 {
		if p.first {
			c.stale(where(), q, gen, nr)
		}
		return false
	}
	b := c.win.at(g, nr)
	if p.first && age != 0 {
		w := where()
		w.Dev, w.Sector = int(q.Dev), int64(q.Offset)
		if age < 0 {
			c.bad("ptr_gen_newer_than_bucket_gen", w, fmt.Sprintf("gen %d of bucket %d", gen, nr), fmt.Sprint(q.Gen))
		} else {
			c.bad("stale_dirty_ptr", w, fmt.Sprintf("gen %d of bucket %d", gen, nr), fmt.Sprint(q.Gen))
		}
	}
	if b != nil && p.d == nil {
		switch {
		case q.HasStripe:
			atomicAdd(&b.stripe, uint32(sectors))
			b.mark(ondisk.DataUser)
		case q.Cached:
			atomicAdd(&b.cached, uint32(sectors))
		default:
			atomicAdd(&b.dirty, uint32(sectors))
			b.mark(bp.DataType.Bucket())
		}
	}
	if b != nil && (!q.Cached || c.minor(21)) {
		pos := ondisk.BackpointerPos(q.Dev, q.Offset, q.Crc.Offset, c.bpShift)
		bp.BucketGen = q.Gen
		bp.BucketOffset = (q.Offset%g.size)<<10 + uint64(q.Crc.Offset)
		p.backpointer(g, b, nr, pos, bp)
	}
	return !q.Cached && !q.HasStripe
}

// stale reports what is wrong with a cached pointer whose bucket was reused:
// usually nothing.
func (c *checker) stale(w errs.Where, q ondisk.ExtentPtr, gen uint8, nr uint64) {
	w.Dev, w.Sector = int(q.Dev), int64(q.Offset)
	if age := gen - q.Gen; age > ondisk.BucketGCGenMax {
		c.bad("ptr_too_stale", w, fmt.Sprintf("at most %d behind gen %d of bucket %d", ondisk.BucketGCGenMax, gen, nr), fmt.Sprint(q.Gen))
	} else if c.sb.HasCompat(ondisk.CompatNoStalePtrs) {
		c.bad("stale_ptr_with_no_stale_ptrs_feature", w, fmt.Sprintf("gen %d of bucket %d", gen, nr), fmt.Sprint(q.Gen))
	}
}

// backpointer wants a backpointer.
func (p *pointers) backpointer(g *geom, b *bucket, nr uint64, pos ondisk.Pos, bp ondisk.Backpointer) {
	p.bps = bp.Append(p.bps[:0], p.c.v)
	if p.d != nil {
		p.d.wantBackpointer(g, nr, pos, p.bps)
		return
	}
	atomic.AddUint64(&b.bpSum, p.c.hash.backpointer(pos, p.bps))
}

// leaf follows the pointers of a leaf key of a btree that may have any.
func (p *pointers) leaf(b ondisk.BtreeID, kv *ondisk.KV) {
	switch kv.Type {
	case ondisk.KeyExtent:
		p.extent(b, kv, kv.Val)
	case ondisk.KeyReflinkV:
		if _, entries, err := ondisk.DecodeReflinkV(kv.Val); err == nil {
			p.extent(b, kv, entries)
		}
	case ondisk.KeyReservation:
		r, err := ondisk.DecodeReservation(kv.Val)
		if err != nil || p.acc == nil {
			return
		}
		p.acc.at(ondisk.AccountingPos{Type: ondisk.AccPersistentReserved, NrReplicas: r.NrReplicas}).add(int64(kv.Size))
		if p.c.minor(39) {
			p.snapshotKey(b, kv, int64(kv.Size)*int64(r.NrReplicas))
		}
	default:
		p.plain(b, kv)
	}
}

// plain counts a key without pointers.
func (p *pointers) plain(b ondisk.BtreeID, kv *ondisk.KV) {
	if p.acc == nil || !p.c.minor(39) || kv.Type.IsWhiteout() {
		return
	}
	p.snapshotKey(b, kv, 0)
}

// snapshotKey counts a key of a snapshot, from 1.39 on (chapter 06 section 9.4).
func (p *pointers) snapshotKey(b ondisk.BtreeID, kv *ondisk.KV, sectors int64) {
	if kv.Pos.Snapshot != 0 && b.HasSnapshots() {
		p.acc.at(ondisk.AccountingPos{Type: ondisk.AccSnapshot, Snapshot: kv.Pos.Snapshot, Btree: uint32(b)}).add(1, int64(8*kv.U64s()), sectors)
	}
}

// extent follows the pointers of an extent or a reflink_v (chapter 06 section 9).
func (p *pointers) extent(b ondisk.BtreeID, kv *ondisk.KV, entries []byte) {
	c := p.c
	e, err := ondisk.DecodeExtent(entries, kv.Size, c.set.ExtentTypes)
	if err != nil {
		return // reported with the key
	}
	where := func() errs.Where { return leafAt(b, kv.Pos) }
	p.devs = p.devs[:0]
	var total int64
	required := uint8(1)
	compression := ondisk.CompressionType(0)
	comp := sum{1, 0, 0}
	phys := c.physWork(e.Reconcile)
	for i := range e.Ptrs {
		q := &e.Ptrs[i]
		d := int64(q.DiskSectors(kv.Size))
		bp := ondisk.Backpointer{Btree: b, DataType: ondisk.DataUser, BucketLen: uint32(d), Pos: kv.Pos}
		switch {
		case q.HasStripe:
			bp.DataType = ondisk.DataStripe
			if c.minor(37) {
				bp.Flags |= ondisk.BackpointerErasureCoded
			}
		case q.Cached:
			bp.DataType = ondisk.DataCached
		}
		if phys != 0 && c.rotational(q.Dev) {
			bp.Flags |= phys
			if p.acc != nil {
				p.workPhys(q, phys)
			}
		}
		own := p.ptr(where, *q, d, bp)
		if own {
			p.devs, total = append(p.devs, q.Dev), total+d
		}
		if q.Cached && c.isStale(q.Ptr) {
			continue
		}
		switch {
		case p.acc == nil:
		case q.Cached:
			if c.geometry(q.Dev) != nil {
				p.acc.at(ondisk.ReplicasPos(ondisk.DataCached, 1, []uint8{q.Dev})).add(d)
			}
		case q.HasStripe:
			required = 0
		}
		if p.acc == nil {
			continue
		}
		if q.HasStripe {
			p.stripePtr(where, q, d)
		}
		t := q.Crc.Compression
		if q.Crc.Kind == 0 {
			t = 0
		}
		if compression != 0 && compression != t {
			p.acc.at(ondisk.AccountingPos{Type: ondisk.AccCompression, Compression: compression}).add(comp[:]...)
			comp = sum{1, 0, 0}
		}
		if compression = t; t != 0 {
			comp[1] += int64(q.Crc.UncompressedSize)
			comp[2] += int64(q.Crc.CompressedSize)
			c.seenCompression.Or(1 << t)
		}
	}
	if p.acc == nil {
		return
	}
	p.work(b, kv, &e)
	p.replicas(ondisk.DataUser, required, total)
	if compression != 0 {
		p.acc.at(ondisk.AccountingPos{Type: ondisk.AccCompression, Compression: compression}).add(comp[:]...)
	}
	if c.minor(39) {
		p.snapshotKey(b, kv, total)
	} else if kv.Pos.Snapshot != 0 && len(p.devs) > 0 {
		p.acc.at(ondisk.AccountingPos{Type: ondisk.AccSnapshot, Snapshot: kv.Pos.Snapshot}).add(total)
	}
	if c.minor(11) {
		if kv.Pos.Inode == 0 { // the reflink btree
			p.acc.at(ondisk.AccountingPos{Type: ondisk.AccInum}).add(1, int64(kv.Size), total)
			return
		}
		if kv.Pos.Inode != p.inumNow {
			p.flushInum()
			p.inumNow = kv.Pos.Inode
		}
		p.inum.add(1, int64(kv.Size), total)
	}
}

// isStale: the bucket of a cached pointer was reused.
func (c *checker) isStale(q ondisk.Ptr) bool {
	g := c.geometry(q.Dev)
	if g == nil || c.noAlloc {
		return false
	}
	nr := q.Offset / g.size
	return g.valid(nr) && ondisk.GenCompare(c.gens.at(g.base+nr), q.Gen) > 0
}

func (c *checker) rotational(dev uint8) bool {
	g := c.geometry(dev)
	return g != nil && g.m.Rotational()
}
