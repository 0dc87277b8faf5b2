package check

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// detail finds out, where sums differ, which keys make the difference: everything
// that points and everything that indexes is walked again, and what belongs to
// the places in question is kept and compared.
type detail struct {
	c       *checker
	buckets map[uint64]bool // numbers among those of all members: backpointers
	works   map[int]bool    // parts of checker.works
	inums   map[int]bool    // parts of checker.inums

	mu        sync.Mutex
	wantBp    []bpKey
	haveBp    []bpKey
	wantWrk   []workEntry
	haveWrk   []workEntry
	wantInums map[uint64]sum
	haveInums map[uint64]sum
}

type bpKey struct {
	pos ondisk.Pos
	val [32]byte
	len int // of the value; 32 is right
}

func (a bpKey) compare(b bpKey) int {
	return cmp.Or(a.pos.Compare(b.pos), slices.Compare(a.val[:], b.val[:]), cmp.Compare(a.len, b.len))
}

type workEntry struct {
	btree ondisk.BtreeID
	pos   ondisk.Pos
}

func (a workEntry) compare(b workEntry) int {
	return cmp.Or(cmp.Compare(a.btree, b.btree), a.pos.Compare(b.pos))
}

// maxDetail bounds the buckets that are looked at key by key.
const maxDetail = 4096

// detail looks into the differences of the pass.
func (c *checker) detail(ctx context.Context) error {
	d := &detail{c: c, buckets: map[uint64]bool{}, works: map[int]bool{}, inums: map[int]bool{}, wantInums: map[uint64]sum{}, haveInums: map[uint64]sum{}}
	idx := map[uint64]bool{}
	more := 0
	for i := range c.win.b {
		b := &c.win.b[i]
		if b.bpSum != 0 {
			if len(d.buckets) < maxDetail {
				d.buckets[c.win.from+uint64(i)] = true
			} else {
				more++
			}
		}
		if b.idxSum != 0 {
			idx[c.win.from+uint64(i)] = true
		}
	}
	if more > 0 {
		c.badf("ptr_to_missing_backpointer", errs.Nowhere, "backpointers of %d more buckets differ: not looked at one by one", more)
	}
	if len(idx) > 0 {
		if err := c.detailIndexes(ctx, idx); err != nil {
			return err
		}
	}
	if c.pass == 0 {
		d.works, d.inums = c.works.differ(), c.inums.differ()
	}
	if len(d.buckets)+len(d.works)+len(d.inums) == 0 {
		return nil
	}
	t := c.tasks(ctx)
	t.walkPointers(d)
	if len(d.buckets) > 0 {
		t.leaves(ondisk.BtreeBackpointers, ondisk.PosMin, ondisk.SPosMax, func() func(*ondisk.KV) { return d.haveBackpointer })
	}
	if len(d.works) > 0 {
		for _, b := range workTrees {
			t.leaves(b, ondisk.PosMin, ondisk.SPosMax, func() func(*ondisk.KV) {
				return func(kv *ondisk.KV) {
					if kv.Type == ondisk.KeySet && d.works[c.works.part(c.workKey(b, kv.Pos))] {
						d.mu.Lock()
						d.haveWrk = append(d.haveWrk, workEntry{b, kv.Pos})
						d.mu.Unlock()
					}
				}
			})
		}
	}
	if len(d.inums) > 0 {
		t.leaves(ondisk.BtreeAccounting, ondisk.PosMin, ondisk.SPosMax, func() func(*ondisk.KV) { return d.haveInum })
	}
	if err := t.wait(); err != nil {
		return err
	}
	d.compareBackpointers()
	d.compareWork()
	d.compareInums()
	return nil
}

func (d *detail) wantBackpointer(g *geom, nr uint64, pos ondisk.Pos, val []byte) {
	if d.buckets[g.base+nr] {
		d.mu.Lock()
		d.wantBp = append(d.wantBp, bpKey{pos, [32]byte(val), 32})
		d.mu.Unlock()
	}
}

func (d *detail) haveBackpointer(kv *ondisk.KV) {
	g := d.c.geometry8(kv.Pos.Inode)
	if g == nil || len(kv.Val) < 32 {
		return
	}
	if nr := kv.Pos.Offset >> d.c.bpShift / g.size; g.valid(nr) && d.buckets[g.base+nr] {
		d.mu.Lock()
		d.haveBp = append(d.haveBp, bpKey{kv.Pos, [32]byte(kv.Val[:32]), len(kv.Val)})
		d.mu.Unlock()
	}
}

// compareBackpointers reports what is there and should not be, and the other way
// round; a key with another value is one finding.
func (d *detail) compareBackpointers() {
	c := d.c
	slices.SortFunc(d.wantBp, bpKey.compare)
	slices.SortFunc(d.haveBp, bpKey.compare)
	describe := func(k bpKey) string {
		b, _ := ondisk.DecodeBackpointer(k.val[:], c.v)
		s := fmt.Sprintf("btree %s level %d %s len %d pos %v", b.Btree, b.Level, b.DataType, b.BucketLen, b.Pos)
		if c.minor(14) {
			s += fmt.Sprintf(" gen %d flags %#x", b.BucketGen, b.Flags)
		} else {
			s += fmt.Sprintf(" bucket_offset %#x", b.BucketOffset)
		}
		if k.len != 32 {
			s += fmt.Sprintf(" value of %d bytes", k.len)
		}
		return s
	}
	place := func(k bpKey) errs.Where {
		w := leafAt(ondisk.BtreeBackpointers, k.pos)
		w.Dev, w.Sector = int(k.pos.Inode), int64(k.pos.Offset>>c.bpShift)
		return w
	}
	i, j := 0, 0
	for i < len(d.wantBp) || j < len(d.haveBp) {
		var o int
		switch {
		case i == len(d.wantBp):
			o = 1
		case j == len(d.haveBp):
			o = -1
		default:
			o = d.wantBp[i].pos.Compare(d.haveBp[j].pos)
		}
		switch {
		case o < 0:
			k := d.wantBp[i]
			if i > 0 && d.wantBp[i-1].pos == k.pos {
				c.bad("dup_extents_to_reflink", place(k), "one key whose data starts here", describe(d.wantBp[i-1])+" and "+describe(k))
			} else {
				c.bad("ptr_to_missing_backpointer", place(k), describe(k), "none")
			}
			i++
		case o > 0:
			k := d.haveBp[j]
			g := c.geometry8(k.pos.Inode)
			name := "backpointer_to_missing_ptr"
			if b := c.win.at(g, k.pos.Offset>>c.bpShift/g.size); b != nil && b.flags&bucketHasKey == 0 {
				name = "backpointer_to_missing_alloc"
			}
			c.bad(name, place(k), "no backpointer", describe(k))
			j++
		default:
			if a, b := d.wantBp[i], d.haveBp[j]; a != b {
				c.bad("ptr_to_missing_backpointer", place(a), describe(a), describe(b))
			}
			i++
			j++
		}
	}
}

func (d *detail) wantWork(b ondisk.BtreeID, pos ondisk.Pos) {
	if d.works[d.c.works.part(d.c.workKey(b, pos))] {
		d.mu.Lock()
		d.wantWrk = append(d.wantWrk, workEntry{b, pos})
		d.mu.Unlock()
	}
}

func (d *detail) compareWork() {
	c := d.c
	slices.SortFunc(d.wantWrk, workEntry.compare)
	slices.SortFunc(d.haveWrk, workEntry.compare)
	name := func(b ondisk.BtreeID) string {
		if b == ondisk.BtreeReconcileHipriPhys || b == ondisk.BtreeReconcileWorkPhys {
			return "reconcile_work_phys_incorrectly_set"
		}
		return "reconcile_work_incorrectly_set"
	}
	i, j := 0, 0
	for i < len(d.wantWrk) || j < len(d.haveWrk) {
		switch {
		case j == len(d.haveWrk) || i < len(d.wantWrk) && d.wantWrk[i].compare(d.haveWrk[j]) < 0:
			k := d.wantWrk[i]
			c.bad(name(k.btree), leafAt(k.btree, k.pos), "an entry: the key has work", "none")
			i++
		case i == len(d.wantWrk) || d.wantWrk[i].compare(d.haveWrk[j]) > 0:
			k := d.haveWrk[j]
			c.bad(name(k.btree), leafAt(k.btree, k.pos), "no entry: no key there has such work", "an entry")
			j++
		default:
			i++
			j++
		}
	}
}

func (d *detail) wantInum(inum uint64, s sum) {
	if d.inums[d.c.inums.part(inum)] {
		d.mu.Lock()
		x := d.wantInums[inum] // a number's keys may be in several pieces
		x.add(s[:]...)
		d.wantInums[inum] = x
		d.mu.Unlock()
	}
}

func (d *detail) haveInum(kv *ondisk.KV) {
	p, s, ok := d.c.inumKey(kv)
	if !ok || !d.inums[d.c.inums.part(p)] {
		return
	}
	d.mu.Lock()
	d.haveInums[p] = s
	d.mu.Unlock()
}

func (d *detail) compareInums() {
	for inum, want := range d.wantInums {
		if got := d.haveInums[inum]; got != want {
			d.c.badCounter(ondisk.AccountingPos{Type: ondisk.AccInum, Inode: inum}, want, got)
		}
	}
	for inum, got := range d.haveInums {
		if _, ok := d.wantInums[inum]; !ok {
			d.c.badCounter(ondisk.AccountingPos{Type: ondisk.AccInum, Inode: inum}, sum{}, got)
		}
	}
}

// indexEntry is an entry of freespace, need_discard or lru.
type indexEntry struct {
	nr   uint64 // bucket, among those of all members
	kind int
	pos  ondisk.Pos
}

func (a indexEntry) compare(b indexEntry) int {
	return cmp.Or(cmp.Compare(a.nr, b.nr), cmp.Compare(a.kind, b.kind), a.pos.Compare(b.pos))
}

// detailIndexes compares the index entries of single buckets.
func (c *checker) detailIndexes(ctx context.Context, bad map[uint64]bool) error {
	var mu sync.Mutex
	var want, have []indexEntry
	t := c.tasks(ctx)
	t.walkIndexes(false, func(g *geom, nr uint64, kind int, p ondisk.Pos) {
		if bad[g.base+nr] {
			mu.Lock()
			have = append(have, indexEntry{g.base + nr, kind, p})
			mu.Unlock()
		}
	})
	if err := t.wait(); err != nil {
		return err
	}
	for _, g := range c.devs {
		if g == nil {
			continue
		}
		for nr := uint64(g.m.FirstBucket); nr < g.m.NBuckets; nr++ {
			if b := c.win.at(g, nr); b != nil && bad[g.base+nr] {
				a := c.corrected(g, b)
				c.entries(g, nr, &a, func(kind int, p ondisk.Pos) { want = append(want, indexEntry{g.base + nr, kind, p}) })
			}
		}
	}
	slices.SortFunc(want, indexEntry.compare)
	slices.SortFunc(have, indexEntry.compare)
	i, j := 0, 0
	for i < len(want) || j < len(have) {
		switch {
		case j == len(have) || i < len(want) && want[i].compare(have[j]) < 0:
			// Another entry of the same kind in its place is one mistake.
			if j < len(have) && have[j].nr == want[i].nr && have[j].kind == want[i].kind && (i+1 == len(want) || want[i+1].compare(have[j]) > 0) {
				c.badIndex(want[i], &have[j], true)
				j++
			} else {
				c.badIndex(want[i], nil, true)
			}
			i++
		case i == len(want) || want[i].compare(have[j]) > 0:
			if i < len(want) && have[j].nr == want[i].nr && have[j].kind == want[i].kind && (j+1 == len(have) || have[j+1].compare(want[i]) > 0) {
				c.badIndex(want[i], &have[j], true)
				i++
			} else {
				c.badIndex(have[j], nil, false)
			}
			j++
		default:
			i++
			j++
		}
	}
	return nil
}

// badIndex reports an entry that is missing (or replaced by another), or that is
// there and should not be.
func (c *checker) badIndex(e indexEntry, other *indexEntry, missing bool) {
	b := [...]ondisk.BtreeID{sumFree: ondisk.BtreeFreespace, sumDiscard: ondisk.BtreeNeedDiscard, sumLRU: ondisk.BtreeLRU}[e.kind]
	name := [...]string{sumFree: "freespace_key_wrong", sumDiscard: "need_discard_key_wrong", sumLRU: "alloc_key_to_missing_lru_entry"}[e.kind]
	g, nr := c.bucketNr(e.nr)
	x := c.win.at(g, nr)
	want, got := "an entry", "none"
	switch {
	case other != nil && e.kind == sumLRU:
		name, got = "lru_entry_bad", fmt.Sprintf("an entry at %v", other.pos)
		want = fmt.Sprintf("an entry at %v", e.pos)
	case other != nil:
		got = fmt.Sprintf("an entry at %v", other.pos)
	case missing && e.kind == sumFree && x.flags&bucketHasKey == 0:
		name = "freespace_hole_missing"
	case !missing && e.kind == sumLRU:
		name, want, got = "lru_entry_bad", "no entry", "an entry"
	case !missing:
		name, want, got = "need_discard_freespace_key_bad", "no entry: the bucket is not in that state", "an entry"
	}
	f := finding(name, leafAt(b, e.pos))
	f.Dev, f.Bucket, f.Want, f.Got = g.dev, int64(nr), want, got
	c.rep.add(f)
}

// bucketNr is the inverse of geom.base + bucket.
func (c *checker) bucketNr(n uint64) (*geom, uint64) {
	for _, g := range c.devs {
		if g != nil && n >= g.base && n < g.base+g.m.NBuckets {
			return g, n - g.base
		}
	}
	return nil, 0
}
