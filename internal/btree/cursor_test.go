package btree

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/block/blocktest"
	"github.com/gobcachefs/gobcachefs/internal/journal"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/internal/testvol/build"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

var ctx = context.Background()

// open makes the trees of devices; warnings go to warn, which may be nil.
func open(t testing.TB, devs []block.Reader, c Config, warn func(error)) *Trees {
	t.Helper()
	if warn == nil {
		warn = func(err error) { t.Errorf("warning: %v", err) }
	}
	var mu sync.Mutex
	c.Warn = func(err error) { mu.Lock(); defer mu.Unlock(); warn(err) }
	set, err := members.Open(ctx, devs, members.Options{Warn: c.Warn, Degraded: members.DegradedVery})
	if err != nil {
		t.Fatal(err)
	}
	s, err := journal.Load(ctx, set)
	if err != nil {
		t.Fatal(err)
	}
	return New(set, s, c)
}

// free is a btree of a version to come: its leaf keys have no rules.
const free = ondisk.BtreeID(40)

// val makes keys that tell apart.
func val(p ondisk.Pos, n uint64) ondisk.KV {
	return ondisk.KV{Key: ondisk.Key{Type: ondisk.KeyCookie, Pos: p}, Val: binary.LittleEndian.AppendUint64(nil, n)}
}

// model is what a btree should hold.
type model map[ondisk.Pos]uint64

func (m model) sorted(from, to ondisk.Pos) []string {
	var ps []ondisk.Pos
	for p := range m {
		if !p.Less(from) && !to.Less(p) {
			ps = append(ps, p)
		}
	}
	slices.SortFunc(ps, ondisk.Pos.Compare)
	var out []string
	for _, p := range ps {
		out = append(out, fmt.Sprintf("%v=%d", p, m[p]))
	}
	return out
}

func show(kv ondisk.KV) string {
	return fmt.Sprintf("%v=%d", kv.Pos, binary.LittleEndian.Uint64(kv.Val))
}

func walk(t *testing.T, c *Cursor) (out []string) {
	t.Helper()
	for {
		kv, ok := c.Next()
		if !ok {
			if err := c.Err(); err != nil {
				t.Errorf("cursor: %v", err)
			}
			return out
		}
		out = append(out, show(kv))
	}
}

// randomTree writes a tree of several levels with nodes of several records, and
// a journal with changes of leaves and of interior nodes on top of it. It
// returns what the tree holds then.
func randomTree(r *rand.Rand) (*build.Volume, model) {
	v := build.New(build.Config{Block: 1, Node: 8, KeysPerLeaf: 3 + r.IntN(4), Fanout: 4 + r.IntN(3)})
	m := model{}
	pos := func() ondisk.Pos {
		return ondisk.Pos{Inode: r.Uint64N(6), Offset: r.Uint64N(12), Snapshot: r.Uint32N(4)}
	}
	n := uint64(0)
	next := func() uint64 { n++; return n }
	for range r.IntN(120) {
		p := pos()
		m[p] = next()
	}
	var keys []ondisk.KV
	for p, x := range m {
		keys = append(keys, val(p, x))
	}
	slices.SortFunc(keys, func(a, b ondisk.KV) int { return a.Pos.Compare(b.Pos) })
	// Leaves, each as one record or as several with old versions and deletions.
	var leaves []build.Node
	low := ondisk.PosMin
	for len(keys) > 0 || len(leaves) == 0 {
		k := min(len(keys), v.KeysPerLeaf)
		l := build.Node{Btree: free, Min: low, Max: ondisk.SPosMax, Records: []build.Record{{Keys: keys[:k]}}}
		if keys = keys[k:]; len(keys) > 0 {
			l.Max = l.Records[0].Keys[k-1].Pos
			low = l.Max.Successor()
		}
		if r.IntN(2) == 0 {
			l.Records = history(r, l.Records[0].Keys)
		}
		leaves = append(leaves, l)
	}
	var ptrs, journalled []ondisk.KV
	for _, l := range leaves {
		switch r.IntN(4) {
		case 0: // the interior node has an old version, the journal the new one
			new := v.Write(l)
			old := new
			p, err := ondisk.DecodeBtreePtr(new)
			if err != nil {
				panic(err)
			}
			if p.SectorsWritten > 1 {
				p.SectorsWritten = 1
			}
			old.Val = p.Append(nil)
			ptrs, journalled = append(ptrs, old), append(journalled, new)
		case 1: // split in the journal
			ks := l.Records[0].Keys
			pivot := l.Min
			if len(ks) > 1 {
				pivot = ks[len(ks)/2-1].Pos
			}
			if len(l.Records) > 1 || pivot == l.Min || pivot.Successor() == l.Max {
				ptrs = append(ptrs, v.Write(l)) // no room for a split: a node has at least two positions
				continue
			}
			ptrs = append(ptrs, v.Write(build.Node{Btree: free, Min: l.Min, Max: l.Max})) // emptied since
			journalled = append(journalled,
				v.Write(build.Node{Btree: free, Min: l.Min, Max: pivot, Records: []build.Record{{Keys: ks[:len(ks)/2]}}}),
				v.Write(build.Node{Btree: free, Min: pivot.Successor(), Max: l.Max, Records: []build.Record{{Keys: ks[len(ks)/2:]}}}))
		default:
			ptrs = append(ptrs, v.Write(l))
		}
	}
	level := 0
	for len(ptrs) > 1 || len(journalled) > 0 && level == 0 {
		level++
		var up []ondisk.KV
		low = ondisk.PosMin
		for len(ptrs) > 0 {
			k := min(len(ptrs), v.Fanout)
			hi := ondisk.SPosMax
			if k < len(ptrs) {
				hi = ptrs[k-1].Pos
			}
			up = append(up, v.Write(build.Node{Btree: free, Level: level, Min: low, Max: hi, Records: []build.Record{{Keys: ptrs[:k]}}}))
			low = hi.Successor()
			ptrs = ptrs[k:]
		}
		ptrs = up
	}
	v.Roots[free] = build.Root{Key: ptrs[0], Level: level}
	// The journal.
	v.Unclean()
	js := []build.Jset{{Seq: 10, LastSeq: 10, Entries: append(v.RootEntries(), build.Keys(free, 1, journalled...))}}
	for i := range uint64(4) {
		var changes []ondisk.KV
		for range r.IntN(12) {
			p := pos()
			if r.IntN(3) == 0 {
				delete(m, p)
				changes = append(changes, build.Deleted(p))
			} else {
				m[p] = next()
				changes = append(changes, val(p, m[p]))
			}
		}
		js = append(js, build.Jset{Seq: 11 + i, LastSeq: 10, Entries: append(v.RootEntries(), build.Keys(free, 0, changes...))})
	}
	v.PutJset(0, 0, 0, js...)
	return v, m
}

// history writes keys in several records: later ones replace, delete and bring
// back what earlier ones say.
func history(r *rand.Rand, keys []ondisk.KV) []build.Record {
	rs := make([]build.Record, 2+r.IntN(3))
	for i := range rs {
		rs[i].JournalSeq = uint64(i)
	}
	for _, k := range keys {
		at := r.IntN(len(rs))
		for i := range at {
			switch r.IntN(3) {
			case 0:
				rs[i].Keys = append(rs[i].Keys, val(k.Pos, 1<<40+r.Uint64N(100)))
			case 1:
				rs[i].Keys = append(rs[i].Keys, build.Deleted(k.Pos))
			}
		}
		rs[at].Keys = append(rs[at].Keys, k)
	}
	out := rs[:1]
	for _, x := range rs[1:] {
		if len(x.Keys) > 0 {
			out = append(out, x)
		}
	}
	return out
}

// TestCursorAgainstModel compares cursors over random trees with a sorted map.
func TestCursorAgainstModel(t *testing.T) {
	levels := map[int]int{}
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 1))
		v, m := randomTree(r)
		cache := int64(1 << 20)
		if seed%2 == 0 {
			cache = 1 // one node at a time
		}
		tr := open(t, v.Devices(), Config{CacheBytes: cache}, nil)
		levels[v.Roots[free].Level]++
		c := tr.Cursor(ctx, free, ondisk.PosMin, ondisk.SPosMax)
		if seed%3 == 0 {
			c.ReadAhead()
		}
		if d := cmp.Diff(m.sorted(ondisk.PosMin, ondisk.SPosMax), walk(t, &c)); d != "" {
			t.Fatalf("seed %d: whole tree (-want +got):\n%s", seed, d)
		}
		pos := func() ondisk.Pos {
			return ondisk.Pos{Inode: r.Uint64N(7), Offset: r.Uint64N(13), Snapshot: r.Uint32N(5)}
		}
		for range 20 {
			from, to := pos(), pos()
			c := tr.Cursor(ctx, free, from, to)
			if d := cmp.Diff(m.sorted(from, to), walk(t, &c)); d != "" {
				t.Fatalf("seed %d: %v..%v (-want +got):\n%s", seed, from, to, d)
			}
			p := pos()
			kv, found, err := tr.GetExact(ctx, free, p)
			want, has := m[p]
			if err != nil || found != has || found && binary.LittleEndian.Uint64(kv.Val) != want {
				t.Fatalf("seed %d: GetExact(%v) = %v, %t, %v, want %d, %t", seed, p, kv, found, err, want, has)
			}
		}
		// Seeks forth and back, with a few steps between.
		end := pos()
		c = tr.Cursor(ctx, free, pos(), end)
		for range 40 {
			p := pos()
			c.Seek(p)
			want := m.sorted(p, end)
			for i := range 1 + r.IntN(4) {
				kv, ok := c.Next()
				if ok != (i < len(want)) || ok && show(kv) != want[i] {
					t.Fatalf("seed %d: key %d behind Seek(%v) = %v, %t, want %q", seed, i, p, kv.Pos, ok, want)
				}
				if !ok {
					break
				}
			}
			if err := c.Err(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
	}
	for _, l := range []int{0, 1, 2, 3} {
		if levels[l] == 0 {
			t.Errorf("no tree had its root at level %d: %v", l, levels)
		}
	}
}

// TestLevelCursor lists the pointers of each level; together they cover
// everything without a gap.
func TestLevelCursor(t *testing.T) {
	for seed := range uint64(20) {
		v, _ := randomTree(rand.New(rand.NewPCG(seed, 2)))
		tr := open(t, v.Devices(), Config{CacheBytes: 1 << 20}, nil)
		for level := 1; level <= 4; level++ {
			c := tr.LevelCursor(ctx, free, level, ondisk.PosMin, ondisk.SPosMax)
			next, n := ondisk.PosMin, 0
			for {
				kv, ok := c.Next()
				if !ok {
					break
				}
				p, err := ondisk.DecodeBtreePtr(kv)
				if err != nil || p.MinKey != next {
					t.Fatalf("seed %d level %d: pointer %v starts at %v, %v, want %v", seed, level, kv.Pos, p.MinKey, err, next)
				}
				next = kv.Pos.Successor()
				n++
			}
			if c.Err() != nil || level <= v.Roots[free].Level && next != ondisk.SPosMax || level > v.Roots[free].Level && n > 0 {
				t.Errorf("seed %d: level %d of %d: %d pointers up to %v, %v", seed, level, v.Roots[free].Level, n, next, c.Err())
			}
		}
	}
}

// TestNoRoot: a btree without a root is empty but for what the journal holds.
func TestNoRoot(t *testing.T) {
	v := build.New(build.Config{})
	v.Unclean()
	p := ondisk.Pos{Inode: 1, Offset: 2}
	v.PutJset(0, 0, 0, build.Jset{Seq: 1, LastSeq: 1, Entries: []ondisk.JsetEntry{build.Keys(free, 0, val(p, 7), build.Deleted(ondisk.Pos{Inode: 3}))}})
	tr := open(t, v.Devices(), Config{CacheBytes: 1 << 20}, nil)
	c := tr.Cursor(ctx, free, ondisk.PosMin, ondisk.SPosMax)
	if got := walk(t, &c); !slices.Equal(got, []string{"1:2:0=7"}) {
		t.Errorf("keys %q, want that of the journal", got)
	}
	c = tr.Cursor(ctx, free+1, ondisk.PosMin, ondisk.SPosMax)
	if got := walk(t, &c); len(got) > 0 {
		t.Errorf("keys %q in a btree that does not exist", got)
	}
	if got := tr.Btrees(); !slices.Equal(got, []ondisk.BtreeID{free}) {
		t.Errorf("Btrees = %v, want [%v]", got, free)
	}
}

// TestJournalKeysAboveTheRoot have no node to be in, and change nothing.
func TestJournalKeysAboveTheRoot(t *testing.T) {
	v := build.New(build.Config{})
	p := ondisk.Pos{Inode: 1}
	v.Add(free, val(p, 7))
	v.Trees()
	v.Unclean()
	v.PutJset(0, 0, 0, build.Jset{Seq: 1, LastSeq: 1, Entries: append(v.RootEntries(), build.Keys(free, 1, v.Roots[free].Key), build.Keys(free, 2, build.Deleted(ondisk.SPosMax)))})
	tr := open(t, v.Devices(), Config{CacheBytes: 1 << 20}, nil)
	c := tr.Cursor(ctx, free, ondisk.PosMin, ondisk.SPosMax)
	if got := walk(t, &c); !slices.Equal(got, []string{"1:0:0=7"}) {
		t.Errorf("keys %q, want 1:0:0=7", got)
	}
}

// TestAccounting: journal keys are deltas, and those with a version that the
// node has already are in it (the example of chapter 03 section 8.3).
func TestAccounting(t *testing.T) {
	acc := func(pos, hi, lo uint64, c ...int64) ondisk.KV {
		kv := ondisk.KV{Key: ondisk.Key{Type: ondisk.KeyAccounting, Pos: ondisk.Pos{Inode: pos}, Version: ondisk.Bversion{Hi: uint32(hi), Lo: lo}}}
		for _, x := range c {
			kv.Val = binary.LittleEndian.AppendUint64(kv.Val, uint64(x))
		}
		return kv
	}
	v := build.New(build.Config{})
	b := ondisk.BtreeAccounting
	v.Add(b, acc(1, 0, 1554, 5000), acc(2, 0, 9, 10, 20), acc(5, 1, 1, 7))
	v.Trees()
	v.Unclean()
	v.PutJset(0, 0, 0, build.Jset{Seq: 8, LastSeq: 8, Entries: append(v.RootEntries(),
		build.Keys(b, 0, acc(1, 0, 1, 1000), acc(1, 8, 5, 100), acc(1, 8, 50, 10000)),
		build.Keys(b, 0, acc(2, 0, 9, 1, 1), acc(2, 0, 10, -10, -20)),
		build.Keys(b, 0, acc(3, 8, 1, -4), acc(3, 8, 2, 9, 1)),
		build.Keys(b, 0, acc(5, 0, 1<<40, 99)))})
	tr := open(t, v.Devices(), Config{CacheBytes: 1 << 20}, nil)
	want := []string{"1 v8.50: [15100]", "2 v0.10: [0 0]", "3 v8.2: [5 1]", "5 v1.1: [7]"}
	var got []string
	c := tr.Cursor(ctx, b, ondisk.PosMin, ondisk.SPosMax)
	for {
		kv, ok := c.Next()
		if !ok {
			break
		}
		var n []int64
		for x := kv.Val; len(x) > 0; x = x[8:] {
			n = append(n, int64(binary.LittleEndian.Uint64(x)))
		}
		got = append(got, fmt.Sprintf("%d v%d.%d: %v", kv.Pos.Inode, kv.Version.Hi, kv.Version.Lo, n))
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("accounting (-want +got):\n%s", d)
	}
}

// wide makes a tree of n leaves of one key each under one root and gives the
// places of the leaves on member 0.
func wide(n int, c build.Config) (*build.Volume, []ondisk.Ptr) {
	v := build.New(c)
	var ptrs []ondisk.KV
	var places []ondisk.Ptr
	low := ondisk.PosMin
	for i := range n {
		l := build.Node{Btree: free, Min: low, Max: ondisk.Pos{Inode: uint64(i + 1)}, Records: []build.Record{{Keys: []ondisk.KV{val(ondisk.Pos{Inode: uint64(i), Offset: 5}, uint64(i))}}}}
		for d := range v.Members {
			l.Devs = append(l.Devs, uint8(d))
		}
		if i == n-1 {
			l.Max = ondisk.SPosMax
		}
		kv := v.Write(l)
		p, err := ondisk.DecodeBtreePtr(kv)
		if err != nil {
			panic(err)
		}
		ptrs, places = append(ptrs, kv), append(places, p.Ptrs[0])
		low = l.Max.Successor()
	}
	all := build.Node{Btree: free, Level: 1, Records: []build.Record{{Keys: ptrs}}}
	for d := range v.Members {
		all.Devs = append(all.Devs, uint8(d))
	}
	v.Roots[free] = build.Root{Level: 1, Key: v.Write(all)}
	return v, places
}

// TestCacheIsBounded: whatever is read, the cache holds no more than its limit
// and one node a shard.
func TestCacheIsBounded(t *testing.T) {
	const leaves = 200
	v, _ := wide(leaves, build.Config{Node: 64, Block: 1})
	devs := v.Devices()
	for _, limit := range []int64{1, 16 << 10, 1 << 20} {
		tr := open(t, devs, Config{CacheBytes: limit}, nil)
		for range 3 {
			c := tr.Cursor(ctx, free, ondisk.PosMin, ondisk.SPosMax)
			if n := len(walk(t, &c)); n != leaves {
				t.Fatalf("limit %d: %d keys, want %d", limit, n, leaves)
			}
		}
		var held, biggest int64
		for i := range tr.cache.shards {
			s := &tr.cache.shards[i]
			var sum int64
			for _, e := range s.ring {
				sum += e.size
				biggest = max(biggest, e.size)
			}
			if sum != s.bytes || len(s.ring) != len(s.m) {
				t.Errorf("limit %d: shard %d counts %d bytes in %d nodes, has %d in %d", limit, i, s.bytes, len(s.ring), sum, len(s.m))
			}
			held += sum
		}
		if most := limit + cacheShards*biggest; held > most {
			t.Errorf("limit %d: %d bytes cached, want at most %d", limit, held, most)
		}
		hits, misses := tr.Stats()
		if limit == 1<<20 && (misses > leaves+1 || hits < 2*leaves) {
			t.Errorf("limit %d: %d hits, %d misses: all of %d nodes fit", limit, hits, misses, leaves+1)
		}
	}
}

// TestLoadedOnce: many readers of a node that is not there cause one read.
func TestLoadedOnce(t *testing.T) {
	v, places := wide(3, build.Config{})
	devs := v.Devices()
	rule, gate := blocktest.Gate(int64(places[1].Offset)*512, 512)
	f := blocktest.NewFault(devs[0], rule)
	tr := open(t, []block.Reader{f}, Config{CacheBytes: 1 << 20}, nil)
	var wg sync.WaitGroup
	for range 20 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if _, found, err := tr.GetExact(ctx, free, ondisk.Pos{Inode: 1, Offset: 5}); err != nil || !found {
				t.Errorf("GetExact = %t, %v", found, err)
			}
		}()
	}
	<-gate.Entered()
	gate.Open()
	wg.Wait()
	if n := f.ReadsOf(int64(places[1].Offset)*512, 512); n != 1 {
		t.Errorf("the leaf was read %d times, want once", n)
	}
}

// TestNoLockOverIO: while the read of one leaf hangs, others are read.
func TestNoLockOverIO(t *testing.T) {
	const leaves = 64 // so that several share a shard of the cache with the one that hangs
	v, places := wide(leaves, build.Config{Node: 64, Block: 1})
	devs := v.Devices()
	rule, gate := blocktest.Gate(int64(places[7].Offset)*512, 512)
	defer gate.Open()
	tr := open(t, []block.Reader{blocktest.NewFault(devs[0], rule)}, Config{CacheBytes: 1 << 20}, nil)
	done := make(chan error)
	go func() {
		_, _, err := tr.GetExact(ctx, free, ondisk.Pos{Inode: 7, Offset: 5})
		done <- err
	}()
	<-gate.Entered()
	for i := range uint64(leaves) {
		if i == 7 {
			continue
		}
		if _, found, err := tr.GetExact(ctx, free, ondisk.Pos{Inode: i, Offset: 5}); err != nil || !found {
			t.Fatalf("leaf %d: %t, %v", i, found, err)
		}
	}
	select {
	case err := <-done:
		t.Fatalf("the read that hangs ended: %v", err)
	default:
	}
	gate.Open()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestManyReaders walks one tree from many goroutines under a cache that holds
// next to nothing; it is for the race detector.
func TestManyReaders(t *testing.T) {
	v, m := randomTree(rand.New(rand.NewPCG(3, 3)))
	tr := open(t, v.Devices(), Config{CacheBytes: 64 << 10}, nil)
	want := m.sorted(ondisk.PosMin, ondisk.SPosMax)
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 20 {
				c := tr.Cursor(ctx, free, ondisk.PosMin, ondisk.SPosMax)
				c.ReadAhead()
				if got := walk(t, &c); !slices.Equal(got, want) {
					t.Errorf("%d keys, want %d", len(got), len(want))
				}
			}
		}()
	}
	wg.Wait()
}

// TestContext: a canceled walk says so, and does not call the tree damaged.
func TestContext(t *testing.T) {
	v, _ := wide(3, build.Config{})
	tr := open(t, v.Devices(), Config{CacheBytes: 1, Salvage: true}, nil)
	c, cancel := context.WithCancel(ctx)
	cur := tr.Cursor(c, free, ondisk.PosMin, ondisk.SPosMax)
	if _, ok := cur.Next(); !ok {
		t.Fatal(cur.Err())
	}
	cancel()
	for {
		if _, ok := cur.Next(); !ok {
			break
		}
	}
	if cur.Err() != context.Canceled {
		t.Errorf("Err = %v, want context.Canceled", cur.Err())
	}
	if cur.SkipDamage() {
		t.Error("SkipDamage goes on after a cancellation")
	}
}
