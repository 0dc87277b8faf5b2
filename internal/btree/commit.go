package btree

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/consequence"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// place names the node of a level that covers a position.
type place struct {
	btree ondisk.BtreeID
	level int
	pos   ondisk.Pos
}

// keyID names a key.
type keyID struct {
	btree ondisk.BtreeID
	level int
	pos   ondisk.Pos
}

// committer works out one commit. The commit lock is held while it exists.
type committer struct {
	s      *Store
	tx     *Tx
	seq    uint64
	final  map[keyID]ondisk.KV
	before map[keyID]ondisk.KV // what each key was before the transaction
	order  []keyID
	miss   []place
	deltas []ondisk.KV // accounting, as journalled
	err    error
}

// commit tries until the transaction is in.
func (s *Store) commit(tx *Tx) error {
	if tx.n == 0 && len(tx.extra) == 0 {
		return nil
	}
	for {
		s.mu.Lock()
		miss, full, err := s.tryCommit(tx)
		seq := s.j.Seq()
		s.mu.Unlock()
		switch {
		case err != nil:
			return err
		case full:
			if err := s.j.Close(tx.ctx, seq); err != nil {
				return s.fail(err)
			}
		case len(miss) > 0:
			for _, m := range miss {
				n, parent, _, err := s.leaf(tx.ctx, m.btree, m.level, m.pos)
				if err != nil {
					return err
				}
				for _, x := range []*Node{n, parent} {
					if x != nil && len(x.Info.Ptr.Ptrs) > 0 {
						tx.pinned[keyOf(x.Btree, x.Level, &x.Info.Ptr)] = x
					}
				}
			}
		default:
			return nil
		}
	}
}

// tryCommit commits with the lock held, or says what is missing.
func (s *Store) tryCommit(tx *Tx) (miss []place, full bool, err error) {
	if err := s.Err(); err != nil {
		return nil, false, err
	}
	// What the transaction read must still be so.
	for id, n := range tx.reads {
		cur, _, missing := s.resident(id.btree, 0, id.max, tx.pinned)
		if missing {
			miss = append(miss, place{id.btree, 0, id.max})
		} else if cur != n && !sameContent(cur, n) {
			return nil, false, ErrRestart
		}
	}
	if len(miss) > 0 {
		return miss, false, nil
	}
	c := &committer{s: s, tx: tx, seq: s.j.Seq(), final: map[keyID]ondisk.KV{}, before: map[keyID]ondisk.KV{}}
	for b, cs := range tx.sets {
		for i := range cs {
			c.set(b, 0, cs[i].kv)
		}
	}
	for _, k := range tx.interior {
		c.set(k.btree, k.level, k.kv)
	}
	acct := c.consequences()
	for i := range acct {
		c.node(ondisk.BtreeAccounting, 0, acct[i].Pos)
	}
	if len(c.miss) > 0 {
		return c.miss, false, nil // whatever else is wrong may come from that
	}
	if c.err != nil {
		return nil, false, c.err
	}
	body := c.journal(acct)
	if n := s.j.MaxBody(); len(body) > n {
		return nil, false, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUnsupported, Reason: "transaction too large for the journal", Want: fmt.Sprintf("at most %d bytes", n), Got: fmt.Sprint(len(body))}
	}
	if !s.j.Room(len(body)) {
		return nil, true, nil
	}
	// From here on nothing fails.
	s.j.Append(body, true)
	c.apply()
	tx.seq = c.seq
	for _, f := range tx.hooks {
		f(c.seq)
	}
	return nil, false, nil
}

// sameContent: the node was written and read again, or the like, without change.
func sameContent(a, b *Node) bool {
	return a != nil && len(a.delta) == 0 && len(b.delta) == 0 && a.Min == b.Min && a.Max == b.Max &&
		len(a.Info.Ptr.Ptrs) > 0 && keyOf(a.Btree, a.Level, &a.Info.Ptr) == keyOf(b.Btree, b.Level, &b.Info.Ptr)
}

// node finds a node without I/O, or notes that it is missing.
func (c *committer) node(b ondisk.BtreeID, level int, p ondisk.Pos) *Node {
	n, _, missing := c.s.resident(b, level, p, c.tx.pinned)
	if missing {
		c.miss = append(c.miss, place{b, level, p})
	}
	return n
}

// get gives a key as the transaction leaves it so far.
func (c *committer) get(b ondisk.BtreeID, level int, p ondisk.Pos) ondisk.KV {
	if kv, ok := c.final[keyID{b, level, p}]; ok {
		return kv
	}
	return c.old(b, level, p)
}

// old gives a key as it is before the transaction. The pointer to the root is
// the only key of the level above the root.
func (c *committer) old(b ondisk.BtreeID, level int, p ondisk.Pos) ondisk.KV {
	if rs := c.s.roots[b]; rs != nil && level == rs.level+1 {
		if p == ondisk.SPosMax && rs.key.Type != ondisk.KeyDeleted {
			return rs.key
		}
		return ondisk.KV{Key: ondisk.Key{Pos: p}}
	}
	if n := c.node(b, level, p); n != nil {
		if kv, ok := n.get(p); ok {
			return kv
		}
	}
	return ondisk.KV{Key: ondisk.Key{Pos: p}}
}

func (c *committer) set(b ondisk.BtreeID, level int, kv ondisk.KV) {
	id := keyID{b, level, kv.Pos}
	if _, ok := c.final[id]; !ok {
		c.before[id] = c.old(b, level, kv.Pos)
		c.order = append(c.order, id)
	}
	c.final[id] = kv
}

// next gives the first leaf key at or after p, as the transaction leaves it.
func (c *committer) next(b ondisk.BtreeID, p, to ondisk.Pos) (ondisk.KV, bool) {
	for {
		n := c.node(b, 0, p)
		if n == nil {
			return ondisk.KV{}, false
		}
		kv, ok := n.next(p)
		limit := n.Max
		if ok {
			limit = kv.Pos
		}
		var own ondisk.KV
		have := false
		for id, k := range c.final {
			if id.btree == b && id.level == 0 && !id.pos.Less(p) && !limit.Less(id.pos) && (!have || id.pos.Less(own.Pos)) {
				own, have = k, true
			}
		}
		switch {
		case have && own.Type != ondisk.KeyDeleted:
			return own, !to.Less(own.Pos)
		case have:
			p = own.Pos.Successor()
			continue
		case ok:
			return kv, !to.Less(kv.Pos)
		case n.Max == ondisk.SPosMax || to.Less(n.Max):
			return ondisk.KV{}, false
		}
		p = n.Max.Successor()
	}
}

// consequences adds everything that follows from the keys set and returns the
// changes of accounting keys.
func (c *committer) consequences() []consequence.AcctDelta {
	ch := consequence.NewChanges()
	run := &consequence.Run{Caps: c.s.caps, Devs: c.s.alloc, Changes: ch}
	done := 0
	rules := func() {
		for ; done < len(c.order); done++ {
			id := c.order[done]
			o := consequence.Key{Btree: id.btree, Level: id.level, KV: c.before[id]}
			n := consequence.Key{Btree: id.btree, Level: id.level, KV: c.final[id]}
			if id.level == 0 && (id.btree == ondisk.BtreeInodes) {
				c.stampInode(id)
				n.KV = c.final[id]
			}
			if err := run.Replace(&o, &n); err != nil && c.err == nil {
				w := errs.Nowhere
				w.Btree, w.Level, w.HasPos, w.Inode, w.Offset, w.Snapshot = int(id.btree), id.level, true, id.pos.Inode, id.pos.Offset, id.pos.Snapshot
				c.err = errs.At(err, w)
			}
		}
	}
	rules()
	c.roots(run)
	c.reflinks(ch.Refs)
	rules()
	for _, b := range ch.SortedBuckets() {
		c.bucket(run, b, *ch.Buckets[b])
	}
	for _, op := range c.tx.buckets {
		old := c.bucketKey(op.b)
		a := old
		op.f(&a)
		if a != old {
			c.setBucket(run, op.b, old, &a)
		}
	}
	for _, i := range ch.Indexes() {
		c.index(i)
	}
	if c.tx.acct != nil {
		for p, v := range c.tx.acct.Acct {
			ch.Account(p, v[:]...)
		}
	}
	if c.s.caps.Version < ondisk.Version1_9 {
		return nil
	}
	return ch.AcctDeltas(c.s.caps)
}

// stampInode puts the journal sequence number into an inode.
func (c *committer) stampInode(id keyID) {
	kv := c.final[id]
	if kv.Type != ondisk.KeyInodeV3 || len(kv.Val) < 8 {
		return
	}
	v := slices.Clone(kv.Val)
	binary.LittleEndian.PutUint64(v, c.seq)
	kv.Val = v
	c.final[id] = kv
}

// roots adds what follows from new root pointers of the transaction.
func (c *committer) roots(run *consequence.Run) {
	for _, e := range c.tx.extra {
		if e.Type != ondisk.EntryBtreeRoot {
			continue
		}
		kv, _, err := ondisk.DecodeKV(e.Data)
		if err != nil {
			c.err = err
			return
		}
		n := consequence.Key{Btree: e.Btree, Level: int(e.Level) + 1, KV: kv}
		o := consequence.Key{Btree: e.Btree, KV: ondisk.KV{}}
		if rs := c.s.roots[e.Btree]; rs != nil && rs.key.Type != ondisk.KeyDeleted && rs.level == int(e.Level) {
			o.Level, o.KV = rs.level+1, rs.key
		}
		if err := run.Replace(&o, &n); err != nil {
			c.err = err
		}
	}
}

// reflinks applies the changes of reference counts, summed up so that none goes
// through zero on its way.
func (c *committer) reflinks(refs []consequence.RefRange) {
	sum := map[ondisk.Pos]int64{}
	for _, r := range refs {
		var front, back uint64
		for at := r.Start; at < r.End; {
			kv, ok := c.next(ondisk.BtreeReflink, ondisk.Pos{Offset: at + 1}, ondisk.Pos{Offset: ^uint64(0), Snapshot: ^uint32(0)})
			if len(c.miss) > 0 {
				return
			}
			if !ok || kv.Start().Offset > at {
				if r.Delta > 0 {
					c.err = errs.Corruptf("reflink_p_to_missing_reflink_v", "no extent at %d in the reflink btree", at)
					return
				}
				if !ok {
					break
				}
				if at = kv.Start().Offset; at >= r.End {
					break
				}
			}
			sum[kv.Pos] += r.Delta
			if s := kv.Start().Offset; s < r.Start {
				front = max(front, r.Start-s)
			}
			if kv.Pos.Offset > r.End {
				back = max(back, kv.Pos.Offset-r.End)
			}
			at = kv.Pos.Offset
		}
		if r.Delta > 0 {
			id := keyID{ondisk.BtreeExtents, 0, r.P}
			kv := c.final[id]
			p, err := ondisk.DecodeReflinkP(kv.Val)
			if err != nil {
				c.err = err
				return
			}
			p.FrontPad, p.BackPad = uint32(front), uint32(back)
			kv.Val = p.Append(nil)
			c.final[id] = kv
		}
	}
	for p, d := range sum {
		if d == 0 {
			continue
		}
		kv := c.get(ondisk.BtreeReflink, 0, p)
		n, rest, err := ondisk.DecodeReflinkV(kv.Val)
		if err != nil || int64(n)+d < 0 {
			c.err = errs.Corruptf("reflink_refcount_underflow", "extent %v: %d%+d", p, n, d)
			return
		}
		if n = uint64(int64(n) + d); n == 0 {
			kv = ondisk.KV{Key: ondisk.Key{Pos: p}}
		} else {
			kv.Val = ondisk.AppendReflinkV(nil, n, rest)
		}
		c.set(ondisk.BtreeReflink, 0, kv)
	}
}

// bucket applies what the transaction does to a bucket.
func (c *committer) bucket(run *consequence.Run, b consequence.Bucket, d consequence.BucketDelta) {
	old := c.bucketKey(b)
	a := old
	add := func(v *uint32, d int64) {
		n := int64(*v) + d
		if n < 0 || n > 1<<32-1 {
			c.err = errs.Corruptf("bucket_sector_count_overflow", "bucket %d:%d: %d%+d", b.Dev, b.Bucket, *v, d)
			return
		}
		*v = uint32(n)
	}
	add(&a.DirtySectors, d.Dirty)
	add(&a.CachedSectors, d.Cached)
	add(&a.StripeSectors, d.Stripe)
	if d.Type != ondisk.DataFree && (a.DataType == ondisk.DataFree || a.DataType == ondisk.DataNeedDiscard || a.DataType == ondisk.DataNeedGCGens || a.DataType == ondisk.DataCached) {
		a.DataType = d.Type
	}
	c.setBucket(run, b, old, &a)
}

// bucketKey is the state of a bucket so far.
func (c *committer) bucketKey(b consequence.Bucket) (a ondisk.Alloc) {
	if kv := c.get(ondisk.BtreeAlloc, 0, ondisk.Pos{Inode: uint64(b.Dev), Offset: b.Bucket}); kv.Type != ondisk.KeyDeleted {
		var err error
		if a, err = ondisk.DecodeAlloc(kv); err != nil && c.err == nil {
			c.err = err
		}
	}
	return a
}

// setBucket stores the changed state of a bucket with all that follows.
func (c *committer) setBucket(run *consequence.Run, b consequence.Bucket, old ondisk.Alloc, a *ondisk.Alloc) {
	st := consequence.BucketState{Size: c.s.alloc.BucketSize(b.Dev), Open: c.s.alloc.Open(b), Seq: c.seq,
		Now: [2]uint64{max(1, c.s.clock[0]), max(1, c.s.clock[1])}}
	run.UpdateBucket(b, old, a, st)
	if *a == old {
		return
	}
	p := ondisk.Pos{Inode: uint64(b.Dev), Offset: b.Bucket}
	c.set(ondisk.BtreeAlloc, 0, ondisk.KV{Key: ondisk.Key{Pos: p, Type: ondisk.KeyAllocV4}, Val: a.Append(nil, c.s.caps.Version)})
	if a.Gen != old.Gen && !c.s.caps.Without["bucket_gens"] {
		gp := ondisk.Pos{Inode: uint64(b.Dev), Offset: b.Bucket >> 8}
		var g [256]uint8
		if kv := c.get(ondisk.BtreeBucketGens, 0, gp); kv.Type == ondisk.KeyBucketGens {
			g, _ = ondisk.DecodeBucketGens(kv.Val)
		}
		g[b.Bucket&255] = a.Gen
		c.set(ondisk.BtreeBucketGens, 0, ondisk.KV{Key: ondisk.Key{Pos: gp, Type: ondisk.KeyBucketGens}, Val: g[:]})
	}
}

// index applies the change of a derived key.
func (c *committer) index(i consequence.Index) {
	if i.Btree == ondisk.BtreeFreespace {
		c.freespace(i)
		return
	}
	have := c.get(i.Btree, 0, i.Pos)
	switch {
	case i.Set:
		c.set(i.Btree, 0, ondisk.KV{Key: ondisk.Key{Pos: i.Pos, Type: i.Type}, Val: i.Val})
	case have.Type == i.Type && bytes.Equal(have.Val, i.Val):
		c.set(i.Btree, 0, ondisk.KV{Key: ondisk.Key{Pos: i.Pos}})
	}
}

// freespace changes one bucket's entry in an extents btree of ranges.
func (c *committer) freespace(i consequence.Index) {
	const b = ondisk.BtreeFreespace
	key := func(end, size uint64) {
		kv := ondisk.KV{Key: ondisk.Key{Pos: ondisk.Pos{Inode: i.Pos.Inode, Offset: end}}}
		if size > 0 {
			kv.Type, kv.Size = ondisk.KeySet, uint32(size)
		}
		c.set(b, 0, kv)
	}
	x := i.Pos.Offset - 1 // the entry
	if i.Set {
		key(x+1, 1)
		return
	}
	kv, ok := c.next(b, ondisk.Pos{Inode: i.Pos.Inode, Offset: x + 1}, ondisk.Pos{Inode: i.Pos.Inode, Offset: ^uint64(0), Snapshot: ^uint32(0)})
	if !ok || kv.Start().Offset > x {
		return // not there: the check reports it
	}
	start, end := kv.Start().Offset, kv.Pos.Offset
	switch {
	case x == start:
		key(end, end-x-1)
	case x == end-1:
		key(end, 0)
		key(x, x-start)
	default:
		key(x, x-start)
		key(end, end-x-1)
	}
}

func (c *committer) less(a, b keyID) int {
	// Alloc last, as others read better that way; the order has no meaning.
	rank := func(id keyID) int {
		if id.btree == ondisk.BtreeAlloc {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.btree, b.btree), -cmp.Compare(a.level, b.level), a.pos.Compare(b.pos))
}

// journal makes the sub-entries of the transaction.
func (c *committer) journal(acct []consequence.AcctDelta) []byte {
	var b []byte
	name := append([]byte(c.tx.name), make([]byte, (8-len(c.tx.name)%8)%8)...)
	b = ondisk.JsetEntry{Type: ondisk.EntryLog, Data: name}.Append(b)
	slices.SortFunc(c.order, c.less)
	names := c.s.names
	var buf []byte
	for _, id := range c.order {
		o, n := c.before[id], c.final[id]
		if sameKV(o, n) && id.btree != ondisk.BtreeInodes {
			continue
		}
		if names && id.level == 0 {
			buf = o.Append(buf[:0])
			b = ondisk.JsetEntry{Type: ondisk.EntryOverwrite, Btree: id.btree, Level: uint8(id.level), Data: buf}.Append(b)
		}
		buf = n.Append(buf[:0])
		b = ondisk.JsetEntry{Type: ondisk.EntryBtreeKeys, Btree: id.btree, Level: uint8(id.level), Data: buf}.Append(b)
	}
	for _, e := range c.tx.extra {
		b = e.Append(b)
	}
	at := c.s.j.Offset() + len(b)/8
	for i, d := range acct {
		kv := c.delta(d, at+i)
		c.deltas = append(c.deltas, kv)
		buf = kv.Append(buf[:0])
		b = ondisk.JsetEntry{Type: ondisk.EntryBtreeKeys, Btree: ondisk.BtreeAccounting, Data: buf}.Append(b)
	}
	return b
}

// delta is the journal form of an accounting change; nr grows within an entry.
func (c *committer) delta(d consequence.AcctDelta, nr int) ondisk.KV {
	kv := ondisk.KV{Key: ondisk.Key{Pos: d.Pos, Type: ondisk.KeyAccounting, Version: ondisk.Bversion{Hi: uint32(c.seq >> 32), Lo: c.seq<<32 | uint64(uint32(nr+1))}}}
	for _, v := range d.Counters {
		kv.Val = binary.LittleEndian.AppendUint64(kv.Val, uint64(v))
	}
	return kv
}

func sameKV(a, b ondisk.KV) bool { return a.Key == b.Key && bytes.Equal(a.Val, b.Val) }

// apply puts the keys into the nodes in memory.
func (c *committer) apply() {
	type nodeSet struct {
		l  *live
		cs []change
	}
	sets := map[*live]*nodeSet{}
	var order []*nodeSet
	put := func(id keyID, kv ondisk.KV) {
		n, ptr, _ := c.s.resident(id.btree, id.level, id.pos, c.tx.pinned)
		if n == nil {
			// Keys above the root: the new root takes them in (see checkpoint).
			return
		}
		l := c.s.makeLive(n, ptr)
		ns := sets[l]
		if ns == nil {
			ns = &nodeSet{l: l}
			sets[l] = ns
			order = append(order, ns)
		}
		ns.cs = append(ns.cs, change{kv, c.seq})
	}
	for _, id := range c.order {
		o, n := c.before[id], c.final[id]
		if sameKV(o, n) && id.btree != ondisk.BtreeInodes {
			continue
		}
		put(id, n)
		if id.btree == ondisk.BtreeAlloc && id.level == 0 {
			c.changed(id, o, n)
		}
	}
	for _, delta := range c.deltas {
		id := keyID{ondisk.BtreeAccounting, 0, delta.Pos}
		sum := c.old(id.btree, 0, id.pos)
		sum.Key.Type, sum.Key.Version = ondisk.KeyAccounting, delta.Version
		v := slices.Clone(sum.Val)
		for j := 0; 8*j < len(delta.Val); j++ {
			if 8*j >= len(v) {
				v = append(v, make([]byte, 8)...)
			}
			binary.LittleEndian.PutUint64(v[8*j:], binary.LittleEndian.Uint64(v[8*j:])+binary.LittleEndian.Uint64(delta.Val[8*j:]))
		}
		sum.Val = v
		put(id, sum)
	}
	for _, ns := range order {
		slices.SortFunc(ns.cs, func(a, b change) int { return a.kv.Pos.Compare(b.kv.Pos) })
		c.s.apply(ns.l, ns.cs)
	}
}

// changed tells the allocator.
func (c *committer) changed(id keyID, o, n ondisk.KV) {
	var oa, na ondisk.Alloc
	if o.Type != ondisk.KeyDeleted {
		oa, _ = ondisk.DecodeAlloc(o)
	}
	if n.Type != ondisk.KeyDeleted {
		na, _ = ondisk.DecodeAlloc(n)
	}
	c.s.alloc.Changed(consequence.Bucket{Dev: uint8(id.pos.Inode), Bucket: id.pos.Offset}, &oa, &na)
}
