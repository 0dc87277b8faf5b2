package btree

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// job is a node to be written, as it was when the checkpoint looked at it.
type job struct {
	l    *live
	node *Node
	ptr  ondisk.KV
	unw  runs
	cs   []change // not yet on disk
	seq  uint64   // newest of them

	isRoot bool
	seeds  []uint64 // identities of new nodes
	// What is written: one node in place of the old (or its next record), or
	// several.
	appendRec bool
	pieces    []written
	root      *written // new root above the pieces
	places    [][]ondisk.Ptr
}

// written is a node on disk.
type written struct {
	min, max ondisk.Pos
	keys     []ondisk.KV
	node     *Node
	kv       ondisk.KV // pointer
}

// insideCheckpoint marks a context.
type insideCheckpoint struct{}

// Checkpoint writes nodes until no change of journal entry upTo or older is only
// in the journal, and nodes that are too big. With math.MaxUint64 that is all
// there is.
func (s *Store) Checkpoint(ctx context.Context, upTo uint64) error {
	s.ckpt.Lock()
	defer s.ckpt.Unlock()
	// Finding room for nodes may need transactions; they must not come back here.
	ctx = context.WithValue(ctx, insideCheckpoint{}, true)
	for round, limit := 0, 200; ; round++ {
		if round > limit {
			return s.fail(fmt.Errorf("checkpoint does not converge"))
		}
		if err := s.Err(); err != nil {
			return err
		}
		s.mu.Lock()
		open := s.j.Seq()
		jobs := s.jobs(upTo)
		s.mu.Unlock()
		if len(jobs) == 0 {
			return nil
		}
		if round == 0 {
			limit += 2 * len(jobs)
		}
		// The journal first: a node must not be ahead of it. What changes from
		// now on is not in the jobs.
		if err := s.j.Sync(ctx, open); err != nil {
			return s.fail(err)
		}
		jobs, err := s.plan(ctx, jobs)
		if err == nil {
			err = s.writeJobs(ctx, jobs)
		}
		if err != nil {
			for _, j := range jobs {
				for _, p := range j.places {
					s.alloc.Abandon(p)
				}
			}
			return err
		}
		if err := s.publish(ctx, jobs); err != nil {
			return s.fail(err)
		}
	}
}

// What a node adds to the journal at most, about: its pointer, and when it gets a
// new place what follows from that for two buckets.
const (
	appendCost  = 500
	rewriteCost = 3000
	maxRound    = 256 << 10
)

// plan decides how jobs are written, as many of them as go into one round, and
// takes the places they need, in order, so that they do not depend on timing.
func (s *Store) plan(ctx context.Context, jobs []*job) ([]*job, error) {
	room := min(s.j.MaxBody(), maxRound)
	for i, j := range jobs {
		if err := s.planJob(ctx, j); err != nil {
			return jobs[:i+1], err
		}
		if room -= max(appendCost, len(j.places)*rewriteCost); room < rewriteCost {
			return jobs[:i+1], nil
		}
	}
	return jobs, nil
}

// Reclaim makes room in the journal when it is more than half full: transactions
// wait for that before they start, so that a checkpoint always has room for its
// own entries. It also writes nodes that have become so big that the pieces they
// fall into would no longer fit one transaction.
func (s *Store) Reclaim(ctx context.Context) error {
	free, total := s.j.Free()
	big := s.bigs.Load() > 0
	if free*2 >= total && !big {
		return nil
	}
	s.reclaim.Lock()
	defer s.reclaim.Unlock()
	if big {
		if err := s.Checkpoint(ctx, 0); err != nil {
			return err
		}
	}
	if free, total := s.j.Free(); free*2 >= total {
		return nil // somebody else did it
	}
	durable, _ := s.j.Durable()
	if err := s.Checkpoint(ctx, durable); err != nil {
		return err
	}
	s.mu.Lock()
	open := s.j.Seq()
	s.mu.Unlock()
	// Only an entry on disk that says so makes older ones reusable.
	if err := s.j.Sync(ctx, open); err != nil {
		return s.fail(err)
	}
	return nil
}

// Dirty is the number of nodes that are newer in memory than on disk.
func (s *Store) Dirty() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, l := range s.lives {
		if l.pin != 0 {
			n++
		}
	}
	return n
}

// jobs collects the nodes to write, lower levels first. mu is held.
func (s *Store) jobs(upTo uint64) []*job {
	var out []*job
	lowest := math.MaxInt
	wanted := func(l *live) bool { return l.pin != 0 && (l.pin <= upTo || l.big) }
	for _, l := range s.lives {
		if wanted(l) {
			lowest = min(lowest, l.id.level)
		}
	}
	for _, l := range s.lives {
		// One level a round: the pointers of this one change the next.
		if !wanted(l) || l.id.level != lowest {
			continue
		}
		j := &job{l: l, node: l.node, ptr: l.ptr, unw: slices.Clone(l.unwritten), seq: l.maxSeq}
		rs := s.roots[l.id.btree]
		j.isRoot = rs != nil && rs.level == l.id.level && l.id.max == ondisk.SPosMax
		out = append(out, j)
	}
	// Those that change because of nodes being written come last, and so together:
	// else they would be written again and again.
	late := func(j *job) int {
		switch j.l.id.btree {
		case ondisk.BtreeAlloc, ondisk.BtreeLRU, ondisk.BtreeFreespace, ondisk.BtreeNeedDiscard, ondisk.BtreeBackpointers, ondisk.BtreeBucketGens, ondisk.BtreeAccounting:
			return 1
		}
		return 0
	}
	slices.SortFunc(out, func(a, b *job) int {
		return cmp.Or(cmp.Compare(late(a), late(b)), cmp.Compare(a.l.id.btree, b.l.id.btree), a.l.id.max.Compare(b.l.id.max))
	})
	return out
}

// writeJobs writes all of them, concurrently, and makes them durable.
func (s *Store) writeJobs(ctx context.Context, jobs []*job) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0) + 2)
	for _, j := range jobs {
		g.Go(func() error {
			if err := gctx.Err(); err != nil {
				return err
			}
			return s.writeJob(j)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return s.ws.Flush(ctx)
}

// capacity is the bytes of a node.
func (s *Store) capacity() int { return s.size }

// planJob decides how a node is written and takes the places it needs.
func (s *Store) planJob(ctx context.Context, j *job) error {
	j.cs = j.unw.with(j.node.delta)
	if s.fits(j) {
		j.appendRec = true
		return nil
	}
	var keys []ondisk.KV
	j.node.all(func(kv ondisk.KV) bool { keys = append(keys, kv); return true })
	f := s.format(j.node.Min, j.node.Max, keys)
	total := 0
	for i := range keys {
		total += packedSize(&f, keys[i])
	}
	room := s.capacity() - ondisk.NodeHeaderSize - s.blockBytes()
	n := 1
	if total > room*3/4 {
		n = (total + room*6/10 - 1) / (room * 6 / 10)
	}
	var pieces []written
	from, start, size := j.node.Min, 0, 0
	for i := range keys {
		size += packedSize(&f, keys[i])
		if last := i == len(keys)-1; last || len(pieces) < n-1 && size >= total/n || size > room*9/10 {
			w := written{min: from, max: keys[i].Pos, keys: keys[start : i+1]}
			if last {
				w.max = j.node.Max
			}
			pieces = append(pieces, w)
			from, start, size = w.max.Successor(), i+1, 0
		}
	}
	if len(keys) == 0 {
		pieces = []written{{min: j.node.Min, max: j.node.Max}}
	}
	j.pieces = pieces
	places := len(pieces)
	if j.isRoot && len(pieces) > 1 {
		if j.l.id.level == ondisk.MaxLevel {
			return s.fail(errs.Corruptf("btree too deep", "%v", j.l.id.btree))
		}
		j.root = &written{max: ondisk.SPosMax}
		places++
	}
	for range places {
		p, err := s.alloc.AllocNode(ctx)
		if err != nil {
			return err
		}
		j.places = append(j.places, p)
		j.seeds = append(j.seeds, s.seeds())
	}
	return nil
}

// fits: the changes can be appended to the node on disk.
func (s *Store) fits(j *job) bool {
	if j.ptr.Type != ondisk.KeyBtreePtrV2 || j.l.rewrite || len(j.cs) == 0 {
		return false
	}
	p, err := ondisk.DecodeBtreePtr(j.ptr)
	if err != nil || p.SectorsWritten == 0 || p.RangeUpdated || j.node.Info.Header.Format.Validate() != nil || j.node.Info.Header.Bset.Seq != p.Seq {
		return false
	}
	for _, x := range p.Ptrs {
		if x.Dev == ondisk.InvalidDev || !s.ws.Online(x.Dev) {
			return false
		}
	}
	n := ondisk.EntryHeaderSize
	for i := range j.cs {
		n += packedSize(&j.node.Info.Header.Format, j.cs[i].kv)
	}
	return int(p.SectorsWritten)*512+n+8 <= s.capacity()-(s.blockBytes()-1) && n/8 < math.MaxUint16
}

// writeJob encodes and writes.
func (s *Store) writeJob(j *job) error {
	if j.appendRec {
		p, _ := ondisk.DecodeBtreePtr(j.ptr)
		var jseq uint64
		for i := range j.cs {
			jseq = max(jseq, j.cs[i].seq)
		}
		b, err := s.encodeRecord(&j.node.Info.Header.Format, p.Seq, jseq, int(p.SectorsWritten), j.cs)
		if err != nil {
			return err
		}
		for _, x := range p.Ptrs {
			if err := s.ws.WriteSectors(x.Dev, x.Offset+uint64(p.SectorsWritten), b); err != nil {
				return s.fail(err)
			}
		}
		p.SectorsWritten += uint16(len(b) / 512)
		kv := ondisk.KV{Key: j.ptr.Key, Val: p.Append(nil)}
		info := j.node.Info
		info.Ptr = p
		n := *j.node
		n.Info = info
		j.pieces = []written{{min: j.node.Min, max: j.node.Max, node: &n, kv: kv}}
		return nil
	}
	nodeSeq := j.node.Info.Header.NodeSeq() + 1
	for i := range j.pieces {
		if err := s.writeNode(&j.pieces[i], j.l.id.btree, j.l.id.level, nodeSeq, j.places[i], j.seeds[i]); err != nil {
			return err
		}
	}
	if j.root != nil {
		for i := range j.pieces {
			j.root.keys = append(j.root.keys, j.pieces[i].kv)
		}
		return s.writeNode(j.root, j.l.id.btree, j.l.id.level+1, 0, j.places[len(j.pieces)], j.seeds[len(j.pieces)])
	}
	return nil
}

// writeNode writes a new node and makes its pointer and its clean form.
func (s *Store) writeNode(w *written, b ondisk.BtreeID, level int, nodeSeq uint32, ptrs []ondisk.Ptr, seed uint64) error {
	h := ondisk.NodeHeader{Flags: ondisk.NodeFlags(b, level, nodeSeq), MinKey: w.min, MaxKey: w.max, Format: s.format(w.min, w.max, w.keys)}
	h.Bset.Seq = placeSeed(ptrs, seed)
	raw, err := s.encodeNode(h, w.keys)
	if err != nil {
		return err
	}
	if len(raw) > s.capacity() {
		return s.fail(fmt.Errorf("btree node of %d bytes", len(raw)))
	}
	for _, p := range ptrs {
		if err := s.ws.WriteSectors(p.Dev, p.Offset, raw); err != nil {
			return err
		}
	}
	bp := ondisk.BtreePtr{V2: true, Seq: h.Bset.Seq, SectorsWritten: uint16(len(raw) / 512), MinKey: w.min, Ptrs: ptrs}
	w.kv = ondisk.KV{Key: ondisk.Key{Pos: w.max, Type: ondisk.KeyBtreePtrV2}, Val: bp.Append(nil)}
	n := &Node{Btree: b, Level: level, Min: w.min, Max: w.max}
	vals := 0
	for i := range w.keys {
		vals += len(w.keys[i].Val)
	}
	n.slots, n.vals = make([]slot, 0, len(w.keys)), make([]byte, 0, vals)
	for i := range w.keys {
		n.push(&w.keys[i], len(w.keys)-i)
	}
	n.Info.Ptr, n.Info.Header = bp, h
	n.children(s.warn)
	w.node = n
	return nil
}

// publish commits the new pointers and then makes memory follow.
func (s *Store) publish(ctx context.Context, jobs []*job) error {
	tx := &Tx{s: s, ctx: ctx, name: "btree_update_nodes", sets: map[ondisk.BtreeID][]change{}, pinned: map[nodeKey]*Node{}}
	for _, j := range jobs {
		lv := j.l.id.level
		switch {
		case j.root != nil:
			for i := range j.pieces {
				tx.interior = append(tx.interior, levelKey{j.l.id.btree, lv + 1, j.pieces[i].kv})
			}
			tx.extra = append(tx.extra, ondisk.JsetEntry{Type: ondisk.EntryBtreeRoot, Btree: j.l.id.btree, Level: uint8(lv + 1), Data: j.root.kv.Append(nil)})
		case j.isRoot:
			tx.extra = append(tx.extra, ondisk.JsetEntry{Type: ondisk.EntryBtreeRoot, Btree: j.l.id.btree, Level: uint8(lv), Data: j.pieces[0].kv.Append(nil)})
		default:
			for i := range j.pieces {
				tx.interior = append(tx.interior, levelKey{j.l.id.btree, lv + 1, j.pieces[i].kv})
			}
		}
	}
	tx.n = len(tx.interior)
	tx.OnCommit(func(uint64) {
		for _, j := range jobs {
			s.settle(j)
		}
		s.epoch.Add(1)
	})
	if err := s.commit(tx); err != nil {
		return err
	}
	for _, j := range jobs {
		for _, p := range j.places {
			s.alloc.NodeCommitted(p)
		}
	}
	return nil
}

// settle makes the nodes in memory what was written, plus what changed since.
// mu is held.
func (s *Store) settle(j *job) {
	l := j.l
	all := l.unwritten.with(l.node.delta)
	rest := slices.DeleteFunc(all, func(c change) bool { return c.seq <= j.seq })
	s.liveMu.Lock()
	delete(s.lives, l.id)
	s.liveMu.Unlock()
	if l.big {
		s.bigs.Add(-1)
	}
	if j.root != nil {
		s.liveMu.Lock()
		s.roots[l.id.btree] = &rootState{key: j.root.kv, level: l.id.level + 1}
		s.liveMu.Unlock()
		s.cache.put(keyOf(l.id.btree, l.id.level+1, &j.root.node.Info.Ptr), j.root.node)
	} else if j.isRoot {
		s.liveMu.Lock()
		s.roots[l.id.btree] = &rootState{key: j.pieces[0].kv, level: l.id.level}
		s.liveMu.Unlock()
	}
	for i := range j.pieces {
		w := &j.pieces[i]
		n := w.node.settled()
		lo := find(rest, w.min)
		hi := lo
		for hi < len(rest) && !w.max.Less(rest[hi].kv.Pos) {
			hi++
		}
		if lo == hi {
			s.cache.put(keyOf(n.Btree, n.Level, &n.Info.Ptr), n)
			continue
		}
		nl := &live{id: liveID{n.Btree, n.Level, n.Max}, ptr: w.kv, node: n}
		s.apply(nl, rest[lo:hi])
	}
}

// placeSeed makes the identity of a node: never zero.
func placeSeed(ptrs []ondisk.Ptr, seed uint64) uint64 {
	if seed == 0 {
		seed = 1
	}
	for _, p := range ptrs {
		seed ^= p.Offset << 1
	}
	if seed == 0 {
		seed = 1
	}
	return seed
}
