package btree

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gobcachefs/gobcachefs/internal/testvol/build"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// forest is a random snapshot tree: ids grow towards the root.
type forest struct {
	parent map[uint32]uint32
	kids   map[uint32][]uint32
	next   uint32 // next id, going down
}

func newForest() *forest {
	return &forest{parent: map[uint32]uint32{1000: 0}, kids: map[uint32][]uint32{}, next: 999}
}

// split gives a leaf two children, as making a snapshot does.
func (f *forest) split(id uint32) (a, b uint32) {
	a, b = f.next, f.next-1
	f.next -= 2
	f.parent[a], f.parent[b] = id, id
	f.kids[id] = []uint32{a, b}
	return a, b
}

func (f *forest) ancestors(id uint32) (out []uint32) {
	for id = f.parent[id]; id != 0; id = f.parent[id] {
		out = append(out, id)
	}
	return out
}

func (f *forest) sees(id, snapshot uint32) bool {
	return id == snapshot || slices.Contains(f.ancestors(id), snapshot)
}

func (f *forest) leaves() (out []uint32) {
	for id := range f.parent {
		if len(f.kids[id]) == 0 {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

func (f *forest) view(id uint32) *View { return NewView(id, f.ancestors(id)) }

func TestViewSees(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	f := newForest()
	for range 30 {
		l := f.leaves()
		f.split(l[r.IntN(len(l))])
	}
	for id := range f.parent {
		v := f.view(id)
		for s := f.next - 3; s < 1004; s++ {
			if got, want := v.Sees(s), f.sees(id, s); got != want {
				t.Fatalf("view of %d sees %d = %t, want %t", id, s, got, want)
			}
		}
	}
}

// TestVisibleAgainstModel: for each (inode, offset), the key of the nearest
// ancestor counts, and a whiteout hides what is above it.
func TestVisibleAgainstModel(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 5))
		f := newForest()
		for range r.IntN(8) {
			l := f.leaves()
			f.split(l[r.IntN(len(l))])
		}
		ids := slices.Sorted(maps.Keys(f.parent))
		keys := map[ondisk.Pos]ondisk.KV{}
		for range r.IntN(150) {
			p := ondisk.Pos{Inode: 1 + r.Uint64N(3), Offset: r.Uint64N(10), Snapshot: ids[r.IntN(len(ids))]}
			keys[p] = val(p, r.Uint64N(1e6))
			if r.IntN(4) == 0 {
				keys[p] = ondisk.KV{Key: ondisk.Key{Type: ondisk.KeyWhiteout, Pos: p}}
			}
		}
		v := build.New(build.Config{KeysPerLeaf: 3, Fanout: 8})
		v.Add(ondisk.BtreeXattrs, slices.Collect(maps.Values(keys))...)
		tr := open(t, v.Devices(), Config{CacheBytes: 1 << 20}, nil)
		// visible is the definition.
		visible := func(id uint32, inode, offset uint64) (uint64, bool) {
			for _, s := range append([]uint32{id}, f.ancestors(id)...) {
				if kv, ok := keys[ondisk.Pos{Inode: inode, Offset: offset, Snapshot: s}]; ok {
					if kv.Type == ondisk.KeyWhiteout {
						return 0, false
					}
					return binary.LittleEndian.Uint64(kv.Val), true
				}
			}
			return 0, false
		}
		for _, id := range ids {
			w := f.view(id)
			for range 4 {
				from := ondisk.Pos{Inode: 1 + r.Uint64N(3), Offset: r.Uint64N(11)}
				to := ondisk.Pos{Inode: 1 + r.Uint64N(3), Offset: r.Uint64N(11)}
				var want, got []string
				for i := uint64(1); i < 5; i++ {
					for o := range uint64(12) {
						p := ondisk.Pos{Inode: i, Offset: o}
						if x, ok := visible(id, i, o); ok && !p.Less(from) && !to.Less(p) {
							want = append(want, fmt.Sprintf("%d:%d=%d", i, o, x))
						}
					}
				}
				it := tr.Visible(ctx, ondisk.BtreeXattrs, w, from, to)
				for {
					kv, ok := it.Next()
					if !ok {
						break
					}
					got = append(got, fmt.Sprintf("%d:%d=%d", kv.Pos.Inode, kv.Pos.Offset, binary.LittleEndian.Uint64(kv.Val)))
				}
				if d := cmp.Diff(want, got); d != "" || it.Err() != nil {
					t.Fatalf("seed %d: snapshot %d sees of %v..%v (-want +got), %v:\n%s", seed, id, from, to, it.Err(), d)
				}
				kv, _, found, err := tr.Get(ctx, ondisk.BtreeXattrs, w, from.Inode, from.Offset)
				x, ok := visible(id, from.Inode, from.Offset)
				if err != nil || found != ok || found && binary.LittleEndian.Uint64(kv.Val) != x {
					t.Fatalf("seed %d: Get(%d, %v) = %v, %t, %v, want %d, %t", seed, id, from, kv, found, err, x, ok)
				}
			}
		}
	}
}

// extents writes extents as chapter 02 section 11.2 says, for one inode. A data
// extent's identity is the first sector it was written with, and where in that
// write it begins.
type extents struct {
	f    *forest
	keys map[ondisk.Pos]ondisk.KV
}

const extInode = 7

func (e *extents) pos(end uint64, s uint32) ondisk.Pos {
	return ondisk.Pos{Inode: extInode, Offset: end, Snapshot: s}
}

// put stores [from, to) of a reservation that stands for the write id; value
// bytes: the id, and the start of the whole write.
func (e *extents) put(from, to uint64, s uint32, v []byte) {
	if from < to {
		p := e.pos(to, s)
		e.keys[p] = ondisk.KV{Key: ondisk.Key{Type: ondisk.KeyReservation, Pos: p, Size: uint32(to - from)}, Val: v}
	}
}

func (e *extents) whiteout(end uint64, s uint32) {
	p := e.pos(end, s)
	e.keys[p] = ondisk.KV{Key: ondisk.Key{Type: ondisk.KeyWhiteout, Pos: p}}
}

// hides puts whiteouts at the new end of a piece of what ended at d in snapshot
// s, for the topmost descendants that had overwritten position d.
func (e *extents) hides(newEnd, d uint64, s uint32) {
	var down func(id uint32)
	down = func(id uint32) {
		for _, k := range e.f.kids[id] {
			if _, ok := e.keys[e.pos(d, k)]; ok {
				if _, ok := e.keys[e.pos(newEnd, k)]; !ok {
					e.whiteout(newEnd, k)
				}
				continue
			}
			down(k)
		}
	}
	down(s)
}

// older says whether something shows through at (end, s) from above.
func (e *extents) older(end uint64, s uint32) bool {
	for _, a := range e.f.ancestors(s) {
		if kv, ok := e.keys[e.pos(end, a)]; ok {
			return kv.Type != ondisk.KeyWhiteout
		}
	}
	return false
}

// write overwrites [a, b) in a leaf; id 0 punches a hole.
func (e *extents) write(s uint32, a, b uint64, id uint64) {
	// What is visible in s and overlaps, before anything changes.
	var old []ondisk.KV
	ends := map[uint64]bool{}
	for p := range e.keys {
		ends[p.Offset] = true
	}
	for _, end := range slices.Sorted(maps.Keys(ends)) {
		for _, x := range append([]uint32{s}, e.f.ancestors(s)...) {
			kv, ok := e.keys[e.pos(end, x)]
			if !ok {
				continue
			}
			if kv.Type != ondisk.KeyWhiteout && kv.Start().Offset < b && end > a {
				old = append(old, kv)
			}
			break
		}
	}
	for _, o := range old {
		c, d, t := o.Start().Offset, o.Pos.Offset, o.Pos.Snapshot
		if c < a {
			e.put(c, a, t, o.Val)
			e.hides(a, d, t)
		}
		if t != s && (c < a || d > b) {
			e.put(max(a, c), min(b, d), t, o.Val)
			if min(b, d) != d {
				e.hides(min(b, d), d, t)
			}
		}
		switch {
		case d <= b && t != s:
			e.whiteout(d, s)
		case d <= b:
			delete(e.keys, e.pos(d, s))
			if e.older(d, s) {
				e.whiteout(d, s)
			}
		default:
			e.put(b, d, t, o.Val)
			if id == 0 && t != s {
				e.whiteout(b, s)
			}
		}
	}
	if id != 0 {
		e.put(a, b, s, binary.LittleEndian.AppendUint64(nil, id<<8|1))
	}
}

// TestVisibleExtents compares walks of extents in snapshots with one plain array
// for each leaf.
func TestVisibleExtents(t *testing.T) {
	const sectors = 40
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 6))
		e := &extents{f: newForest(), keys: map[ondisk.Pos]ondisk.KV{}}
		files := map[uint32][sectors]uint64{1000: {}}
		for id := uint64(1); id < 40; id++ {
			leaves := e.f.leaves()
			s := leaves[r.IntN(len(leaves))]
			if r.IntN(6) == 0 {
				a, b := e.f.split(s)
				files[a], files[b] = files[s], files[s]
				delete(files, s)
				continue
			}
			from := r.Uint64N(sectors - 1)
			to := from + 1 + r.Uint64N(min(12, sectors-from))
			x := id
			if r.IntN(4) == 0 {
				x = 0
			}
			e.write(s, from, to, x)
			file := files[s]
			for i := from; i < to; i++ {
				file[i] = x
			}
			files[s] = file
		}
		v := build.New(build.Config{KeysPerLeaf: 3, Fanout: 20})
		v.Add(ondisk.BtreeExtents, slices.Collect(maps.Values(e.keys))...)
		// Neighbors that must not be seen.
		for _, n := range []uint64{extInode - 1, extInode + 1} {
			v.Add(ondisk.BtreeExtents, ondisk.KV{Key: ondisk.Key{Type: ondisk.KeyReservation, Pos: ondisk.Pos{Inode: n, Offset: 20, Snapshot: 1000}, Size: 20}, Val: make([]byte, 8)})
		}
		tr := open(t, v.Devices(), Config{CacheBytes: 1 << 20}, nil)
		for s, want := range files {
			for range 6 {
				from := r.Uint64N(sectors)
				to := from + 1 + r.Uint64N(sectors-from)
				it := tr.Visible(ctx, ondisk.BtreeExtents, e.f.view(s), ondisk.Pos{Inode: extInode, Offset: from}, ondisk.Pos{Inode: extInode, Offset: to})
				var got [sectors]uint64
				last := uint64(0)
				for {
					kv, ok := it.Next()
					if !ok {
						break
					}
					start, end := kv.Start().Offset, kv.Pos.Offset
					if start >= to || end <= from || start < last {
						t.Fatalf("seed %d: snapshot %d: extent %d..%d after %d, in a walk of %d..%d", seed, s, start, end, last, from, to)
					}
					last = end
					for i := start; i < end; i++ {
						got[i] = binary.LittleEndian.Uint64(kv.Val) >> 8
					}
				}
				if it.Err() != nil {
					t.Fatal(it.Err())
				}
				if d := cmp.Diff(want[from:to], got[from:to]); d != "" {
					t.Fatalf("seed %d: snapshot %d, sectors %d..%d (-want +got):\n%s\nkeys: %v", seed, s, from, to, d, slices.SortedFunc(maps.Keys(e.keys), ondisk.Pos.Compare))
				}
			}
		}
	}
}
