package btree

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// When an interior node cannot be read, the leaves below it are usually still
// there. In salvage mode they are found by looking at every place of the devices
// where a node can stand (chapter 02 section 10). Everything found that way is
// suspect: an old version of a leaf may have been taken for the current one.

// found is a leaf that the scan came across, with all of its copies.
type found struct {
	min, max ondisk.Pos
	seq      uint64
	nodeSeq  uint32
	ptrs     []ondisk.Ptr
}

// scan is the result of a scan of the devices, by btree.
type scan struct {
	turn   chan struct{} // holds a token of who works on it
	leaves map[ondisk.BtreeID][]*found
	built  map[scanKey]*Node
}

type scanKey struct {
	btree    ondisk.BtreeID
	from, to ondisk.Pos
}

// rescue puts an interior node together for a range that cannot be reached,
// from the leaves that a scan finds. nil when that is not wanted or finds none.
func (t *Trees) rescue(ctx context.Context, b ondisk.BtreeID, from, to ondisk.Pos, why error) *Node {
	if !t.cfg.Salvage || b.Derived() || ctx.Err() != nil {
		return nil
	}
	select {
	case t.scan.turn <- struct{}{}:
		defer func() { <-t.scan.turn }()
	case <-ctx.Done():
		return nil
	}
	if t.scan.leaves == nil {
		t.warn(fmt.Errorf("scanning the devices for btree nodes: %w", why))
		l := t.scanDevices(ctx)
		if ctx.Err() != nil {
			return nil
		}
		t.scan.leaves, t.scan.built = l, map[scanKey]*Node{}
	}
	k := scanKey{b, from, to}
	if n, ok := t.scan.built[k]; ok {
		return n
	}
	n := t.assemble(b, from, to, why)
	t.scan.built[k] = n
	return n
}

// piece is a part of the wanted range that a leaf answers for.
type piece struct {
	min, max ondisk.Pos
	leaf     *found
}

// assemble covers [from, to] with leaves; of leaves that overlap, the newer one
// gets the common part.
func (t *Trees) assemble(b ondisk.BtreeID, from, to ondisk.Pos, why error) *Node {
	var have []piece
	for _, l := range t.scan.leaves[b] { // newest first
		for _, p := range uncovered(have, max2(l.min, from), min2(l.max, to), l) {
			i, _ := slices.BinarySearchFunc(have, p, func(a, b piece) int { return a.min.Compare(b.min) })
			have = slices.Insert(have, i, p)
		}
	}
	if len(have) == 0 {
		return nil
	}
	n := &Node{Btree: b, Level: 1, Min: from, Max: to,
		Suspect: &errs.Error{Where: errs.Nowhere, Kind: errs.ErrCorrupt, Reason: fmt.Sprintf("btree %s: node found by scanning the devices, may be an old one", b), Cause: why}}
	for _, p := range have {
		n.slots = append(n.slots, slot{inode: p.max.Inode, offset: p.max.Offset, snapshot: p.max.Snapshot, typ: ondisk.KeyBtreePtrV2})
		n.ptrs = append(n.ptrs, ondisk.BtreePtr{V2: true, RangeUpdated: true, Seq: p.leaf.seq, MinKey: p.min, Ptrs: p.leaf.ptrs})
	}
	return n
}

func min2(a, b ondisk.Pos) ondisk.Pos {
	if a.Less(b) {
		return a
	}
	return b
}

func max2(a, b ondisk.Pos) ondisk.Pos {
	if a.Less(b) {
		return b
	}
	return a
}

// uncovered gives the parts of [from, to] that the sorted pieces leave open.
func uncovered(have []piece, from, to ondisk.Pos, l *found) []piece {
	var out []piece
	first, _ := slices.BinarySearchFunc(have, from, func(h piece, p ondisk.Pos) int { return h.max.Compare(p) })
	for _, h := range have[first:] {
		if to.Less(from) {
			return out
		}
		if to.Less(h.min) {
			break
		}
		if from.Less(h.min) {
			out = append(out, piece{from, h.min.Predecessor(), l})
		}
		if h.max == ondisk.SPosMax {
			return out
		}
		from = h.max.Successor()
	}
	if !to.Less(from) {
		out = append(out, piece{from, to, l})
	}
	return out
}

// scanDevices looks at every place where a node can stand.
func (t *Trees) scanDevices(ctx context.Context) map[ondisk.BtreeID][]*found {
	type id struct {
		btree ondisk.BtreeID
		seq   uint64
	}
	var mu sync.Mutex
	byID := map[id]*found{}
	var wg sync.WaitGroup
	for _, d := range t.set.Devs {
		if !d.Online() {
			continue
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			t.scanDevice(ctx, d, func(b ondisk.BtreeID, f found) {
				mu.Lock()
				defer mu.Unlock()
				k := id{b, f.seq}
				if o := byID[k]; o != nil {
					// The same identity at another place is another copy; on the
					// same member it is a leftover of nothing we know.
					if len(o.ptrs) < 4 && o.min == f.min && o.max == f.max && o.ptrs[0].Dev != f.ptrs[0].Dev {
						o.ptrs = append(o.ptrs, f.ptrs...)
					}
					return
				}
				byID[k] = &f
			})
		}()
	}
	wg.Wait()
	out := map[ondisk.BtreeID][]*found{}
	for k, f := range byID {
		out[k.btree] = append(out[k.btree], f)
	}
	for _, l := range out {
		slices.SortFunc(l, func(a, b *found) int {
			return cmp.Or(-cmp.Compare(a.nodeSeq, b.nodeSeq), a.min.Compare(b.min), cmp.Compare(a.seq, b.seq))
		})
	}
	return out
}

func (t *Trees) scanDevice(ctx context.Context, d *members.Device, add func(ondisk.BtreeID, found)) {
	size := uint64(d.Member.BucketSize)
	node := uint64(t.size / 512)
	if node == 0 || size < node {
		return
	}
	magic := ondisk.NodeMagic(t.set.SB.UUID)
	head := make([]byte, 4096)
	bitmap, shift := d.Member.BtreeAllocatedBitmap, d.Member.BtreeBitmapShift
	end := uint64(d.R.Size()) / 512 // whatever the superblock says
	for b := uint64(d.Member.FirstBucket); b < d.Member.NBuckets && b*size < end && ctx.Err() == nil; b++ {
		for k := uint64(0); k+node <= size; k += node {
			sector := b*size + k
			if bitmap != 0 && (sector>>shift >= 64 || bitmap>>(sector>>shift)&1 == 0) {
				continue
			}
			if t.set.ReadSectors(uint8(d.Index), sector, head) != nil {
				continue
			}
			h, err := ondisk.DecodeNodeHeader(head)
			if err != nil || h.Magic != magic {
				continue
			}
			if ct := h.Bset.CsumType(); ct.Encrypted() {
				t.set.Decrypt(ct, crypt.BtreeNonce(0, h.Bset.Seq, h.Bset.JournalSeq), head[ondisk.NodeCryptStart:ondisk.NodeCryptEnd])
				h, _ = ondisk.DecodeNodeHeader(head)
			}
			id := h.Btree()
			if h.Level() != 0 || id >= ondisk.NrBtrees || ondisk.BtreeID(id).Derived() || h.Format.Validate() != nil || h.MaxKey.Less(h.MinKey) {
				continue
			}
			add(ondisk.BtreeID(id), found{min: h.MinKey, max: h.MaxKey, seq: h.Bset.Seq, nodeSeq: h.NodeSeq(),
				ptrs: []ondisk.Ptr{{Dev: uint8(d.Index), Offset: sector}}})
		}
	}
}
