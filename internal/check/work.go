package check

import (
	"context"
	"fmt"
	"math/bits"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// What waits for the background: rebalance_work up to 1.32, the btrees of
// reconcile from 1.33 on (chapter 06 section 14).

// Work ids of reconcile.
const (
	workNone    = 0
	workHipri   = 1
	workNormal  = 2
	workPending = 3
)

func workID(r ondisk.Reconcile) int {
	switch {
	case r.Need == 0:
		return workNone
	case r.Pending:
		return workPending
	case r.Hipri:
		return workHipri
	}
	return workNormal
}

// workTree is the btree that indexes leaf keys with work, and workTreePhys the one
// for pointers on rotational devices.
func workTree(id int) ondisk.BtreeID {
	return [...]ondisk.BtreeID{0, ondisk.BtreeReconcileHipri, ondisk.BtreeReconcileWork, ondisk.BtreeReconcilePending}[id]
}

func workTreePhys(id int) ondisk.BtreeID {
	return [...]ondisk.BtreeID{0, ondisk.BtreeReconcileHipriPhys, ondisk.BtreeReconcileWorkPhys}[id]
}

// workTrees are all btrees whose entries are compared through checker.works.
var workTrees = []ondisk.BtreeID{ondisk.BtreeReconcileWork, ondisk.BtreeReconcileHipri, ondisk.BtreeReconcilePending, ondisk.BtreeReconcileWorkPhys, ondisk.BtreeReconcileHipriPhys}

// physWork gives the bits of a backpointer's flags, and the work id, of a key with
// a reconcile entry.
func (c *checker) physWork(entry uint64) uint32 {
	if entry == 0 || !c.minor(33) {
		return 0
	}
	if id := workID(ondisk.DecodeReconcile(entry)); id != workPending {
		return uint32(id)
	}
	return 0
}

// entry wants an entry in an index of work.
func (p *pointers) entry(b ondisk.BtreeID, pos ondisk.Pos) {
	if p.d != nil {
		p.d.wantWork(b, pos)
		return
	}
	p.c.works.add(p.c.workKey(b, pos), p.c.hash.index(int(b)+100, pos), 1)
}

func (c *checker) workKey(b ondisk.BtreeID, pos ondisk.Pos) uint64 {
	return c.hash.index(int(b)+200, pos)
}

// work follows the entry of pending work of an extent or a reflink_v.
func (p *pointers) work(b ondisk.BtreeID, kv *ondisk.KV, e *ondisk.Extent) {
	c := p.c
	if !c.minor(33) {
		if !c.minor(3) || e.Rebalance == 0 {
			return
		}
		if n := c.rebalanceSectors(ondisk.DecodeRebalance(e.Rebalance), e); n != 0 {
			p.entry(ondisk.BtreeReconcileWork, kv.Pos)
			p.acc.at(ondisk.AccountingPos{Type: ondisk.AccRebalanceWork}).add(n)
		}
		return
	}
	if e.Reconcile == 0 {
		return
	}
	r := ondisk.DecodeReconcile(e.Reconcile)
	id := workID(r)
	if id == workNone {
		return
	}
	pos := kv.Pos
	if b == ondisk.BtreeReflink {
		pos.Inode = 1
	} else if pos.Inode < ondisk.FirstInode {
		pos = ondisk.Pos{Inode: ondisk.FirstInode, Snapshot: pos.Snapshot}
	}
	p.entry(workTree(id), pos)
	p.workCounters(r, int64(kv.Size), false)
	if r.Pending {
		return
	}
	for i := range e.Ptrs {
		if q := &e.Ptrs[i]; r.PtrsMoving>>i&1 != 0 {
			p.acc.at(ondisk.AccountingPos{Type: ondisk.AccDevLeaving, Dev: uint32(q.Dev)}).add(int64(q.Crc.CompressedSize))
		}
	}
}

// workCounters adds to the counters of kinds of work (chapter 06 section 14.3).
func (p *pointers) workCounters(r ondisk.Reconcile, sectors int64, node bool) {
	kinds := uint32(r.Need)
	if r.Pending {
		kinds = kinds&^(1<<ondisk.ReconcileWorkTarget|1<<ondisk.ReconcileWorkReplicas) | 1<<ondisk.ReconcileWorkPending
	} else if r.Hipri {
		kinds |= 1 << ondisk.ReconcileWorkHighPriority
	}
	for ; kinds != 0; kinds &= kinds - 1 {
		s := p.acc.at(ondisk.AccountingPos{Type: ondisk.AccReconcileWork, Kind: uint8(bits.TrailingZeros32(kinds))})
		if node {
			s.add(0, sectors)
		} else {
			s.add(sectors)
		}
	}
}

// workPhys wants the entry of a pointer on a rotational device.
func (p *pointers) workPhys(q *ondisk.ExtentPtr, id uint32) {
	p.entry(workTreePhys(int(id)), ondisk.BackpointerPos(q.Dev, q.Offset, q.Crc.Offset, p.c.bpShift))
}

// workStripes wants the entries of stripes.
func (p *pointers) workStripes() {
	if !p.c.minor(33) || p.acc == nil {
		return
	}
	for _, idx := range p.c.sortedStripes() {
		s := p.c.stripes[idx]
		if !s.NeedsReconcile {
			continue
		}
		p.entry(ondisk.BtreeReconcileHipri, ondisk.Pos{Offset: idx})
		p.acc.at(ondisk.AccountingPos{Type: ondisk.AccReconcileWork, Kind: ondisk.ReconcileWorkStripes}).add(int64(s.NrBlocks) * int64(s.Sectors))
		for _, q := range s.Ptrs {
			if p.c.rotational(q.Dev) {
				p.entry(ondisk.BtreeReconcileHipriPhys, ondisk.StripeBackpointerPos(q.Dev, q.Offset, s.Sectors, p.c.bpShift))
			}
		}
	}
}

// rebalanceSectors is how much of a key must be rewritten by the options in its
// rebalance entry.
func (c *checker) rebalanceSectors(r ondisk.Rebalance, e *ondisk.Extent) (n int64) {
	if r.BackgroundCompression != 0 {
		want := compressionOf(r.BackgroundCompression)
		var differ int64
		for i := range e.Ptrs {
			q := &e.Ptrs[i]
			if q.Crc.Compression == ondisk.CompressionIncompressible || q.Unwritten {
				differ = 0
				break
			}
			if !q.Cached && q.Crc.Compression != want {
				differ += int64(q.Crc.CompressedSize)
			}
		}
		n += differ
	}
	if r.BackgroundTarget != 0 {
		for i := range e.Ptrs {
			if q := &e.Ptrs[i]; !q.Cached && !c.inTarget(q.Dev, r.BackgroundTarget) {
				n += int64(q.Crc.CompressedSize)
			}
		}
	}
	return n
}

// compressionOf is the compression type that an option byte asks for.
func compressionOf(opt uint8) ondisk.CompressionType {
	switch opt & 15 {
	case 1:
		return ondisk.CompressionLZ4
	case 2:
		return ondisk.CompressionGzip
	case 3:
		return ondisk.CompressionZstd
	}
	return ondisk.CompressionNone
}

// inTarget reports whether a member belongs to a target.
func (c *checker) inTarget(dev uint8, target uint16) bool {
	d, group := ondisk.DecodeTarget(target)
	if d >= 0 {
		return int(dev) == d
	}
	g := c.geometry(dev)
	if group < 0 || g == nil {
		return false
	}
	// A member belongs to its group and all above it.
	at := g.m.Group()
	for range len(c.groups) {
		if at == group {
			return true
		}
		if at < 0 || at >= len(c.groups) {
			break
		}
		at = c.groups[at].Parent
	}
	return false
}

// scanKey names an entry of reconcile_scan.
type scanKey struct {
	id  int
	idx uint64
}

// reconcileNode follows the reconcile entry of a node pointer.
func (p *pointers) reconcileNode(r *nodeRef, sectors int64) {
	c := p.c
	if !p.first || !c.minor(33) {
		return
	}
	w := r.where()
	w.Level++ // of the pointer's key
	rec := ondisk.DecodeReconcile(r.ptr.Reconcile)
	id := workNone
	if r.ptr.Reconcile != 0 {
		id = workID(rec)
		p.workCounters(rec, sectors, true)
		if !rec.Pending {
			for i, q := range r.ptr.Ptrs {
				if rec.PtrsMoving>>i&1 != 0 {
					p.acc.at(ondisk.AccountingPos{Type: ondisk.AccDevLeaving, Dev: uint32(q.Dev)}).add(sectors)
				}
			}
		}
	}
	switch {
	case id == workNone && r.ptr.ReconcileBp == 0:
	case id == workNone:
		c.bad("btree_ptr_with_bad_reconcile_bp", w, "no reconcile_bp entry", fmt.Sprint(r.ptr.ReconcileBp))
	case r.ptr.ReconcileBp == 0:
		c.bad("btree_ptr_with_no_reconcile_bp", w, "a reconcile_bp entry", "none")
	default:
		c.accMu.Lock()
		c.scans[scanKey{id, r.ptr.ReconcileBp}] = r
		c.accMu.Unlock()
	}
}

// checkScan compares reconcile_scan with the pointers of nodes.
func (c *checker) checkScan(ctx context.Context) error {
	if c.lostNodes() {
		return nil
	}
	seen := map[scanKey]bool{}
	err := c.walkAll(ctx, ondisk.BtreeReconcileScan, func(kv *ondisk.KV) {
		if kv.Type != ondisk.KeyBackpointer {
			return // a cookie
		}
		w := leafAt(ondisk.BtreeReconcileScan, kv.Pos)
		b, err := ondisk.DecodeBackpointer(kv.Val, c.v)
		if err != nil {
			return
		}
		if b.Level == 0 {
			c.bad("reconcile_bp_to_leaf_node_key", w, "a pointer to a node", fmt.Sprintf("btree %s level 0", b.Btree))
			return
		}
		k := scanKey{int(kv.Pos.Inode), kv.Pos.Offset}
		r := c.scans[k]
		if r == nil || r.btree != b.Btree || int(r.level)+1 != int(b.Level) || r.max != b.Pos {
			c.bad("reconcile_bp_to_missing_btree_ptr", w, "a node pointer that names it", fmt.Sprintf("btree %s level %d %v does not", b.Btree, b.Level, b.Pos))
			return
		}
		seen[k] = true
	})
	for k, r := range c.scans {
		if !seen[k] {
			w := r.where()
			w.Level++
			c.bad("btree_ptr_to_bad_reconcile_bp", w, fmt.Sprintf("a backpointer at %d:%d of reconcile_scan", k.id, k.idx), "none, or another's")
		}
	}
	return err
}

// walkWork walks the indexes of work.
func (t *tasks) walkWork() {
	c := t.c
	for _, b := range workTrees {
		t.leaves(b, ondisk.PosMin, ondisk.SPosMax, func() func(*ondisk.KV) {
			return func(kv *ondisk.KV) {
				if kv.Type == ondisk.KeySet {
					c.works.add(c.workKey(b, kv.Pos), c.hash.index(int(b)+100, kv.Pos), -1)
				}
			}
		})
	}
}
