package check

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/internal/journal"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// nodeRef is a node as its pointer describes it.
type nodeRef struct {
	btree ondisk.BtreeID
	level int8       // of the node, 0 for leaves
	max   ondisk.Pos // position of the pointer key
	ptr   ondisk.BtreePtr
	// fake: the btree has no root; the node holds journal keys only.
	fake bool
}

func (r *nodeRef) min() ondisk.Pos { return r.ptr.MinKey }

func (r *nodeRef) where() errs.Where { return at(r.btree, int(r.level), r.max) }

// node is a node's live keys: the records on disk merged, the journal's newer
// keys on top. It and its keys are valid until it is released.
type node struct {
	ref  *nodeRef
	keys []ondisk.KV
	ok   bool // false: no copy can be used

	bufs    []*[]byte // what the keys' values alias
	scratch []ondisk.KV
	runs    []run
	merged  []byte // values that were computed
}

// run is a sorted piece of node.scratch.
type run struct{ from, to int }

func (c *checker) getNode() *node {
	n, _ := c.nodePool.Get().(*node)
	if n == nil {
		n = &node{}
	}
	n.keys, n.scratch, n.runs, n.merged, n.ok = n.keys[:0], n.scratch[:0], n.runs[:0], n.merged[:0], false
	return n
}

func (c *checker) release(n *node) {
	for _, b := range n.bufs {
		c.bufPool.Put(b)
	}
	n.bufs = n.bufs[:0]
	c.nodePool.Put(n)
}

func (c *checker) getBuf() *[]byte {
	if b, ok := c.bufPool.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, c.nodeBytes)
	return &b
}

// copyOf is one copy of a node as it was read.
type copyOf struct {
	dev    uint8
	sector uint64
	buf    *[]byte
	raw    []byte
	err    error
}

// batch are nodes that were read together, in the order of their sectors, and not
// looked at yet.
type batch struct {
	c      *checker
	refs   []nodeRef
	copies [][]copyOf
}

// readBatch reads every copy of some nodes.
func (c *checker) readBatch(ctx context.Context, refs []nodeRef) (*batch, error) {
	b := &batch{c: c, refs: refs, copies: make([][]copyOf, len(refs))}
	type job struct{ ref, copy int }
	var jobs []job
	for i := range refs {
		for _, p := range refs[i].ptr.Ptrs {
			if p.Dev == ondisk.InvalidDev || !c.set.Online(p.Dev) {
				continue
			}
			jobs = append(jobs, job{i, len(b.copies[i])})
			b.copies[i] = append(b.copies[i], copyOf{dev: p.Dev, sector: p.Offset})
		}
	}
	slices.SortFunc(jobs, func(x, y job) int {
		p, q := &b.copies[x.ref][x.copy], &b.copies[y.ref][y.copy]
		return cmp.Or(cmp.Compare(p.dev, q.dev), cmp.Compare(p.sector, q.sector))
	})
	for _, j := range jobs {
		if err := ctx.Err(); err != nil {
			b.close()
			return nil, err
		}
		x := &b.copies[j.ref][j.copy]
		size := c.nodeBytes
		if s := int(refs[j.ref].ptr.SectorsWritten) * 512; s != 0 && s < size {
			size = s
		}
		x.buf = c.getBuf()
		x.raw = (*x.buf)[:size]
		x.err = c.set.ReadSectors(x.dev, x.sector, x.raw)
	}
	c.prog.nodes.Add(int64(len(refs)))
	return b, nil
}

// next makes the next node, nil after the last; the caller releases it. report
// says whether what is wrong with it is reported.
func (b *batch) next(report func(*nodeRef) bool) *node {
	if len(b.refs) == 0 {
		return nil
	}
	n := b.c.getNode()
	n.ref = &b.refs[0]
	b.c.build(n, b.copies[0], report(n.ref))
	b.drop(n)
	return n
}

// drop gives back the buffers of the first node that it does not use itself.
func (b *batch) drop(n *node) {
	for _, x := range b.copies[0] {
		if x.buf != nil && (n == nil || !slices.Contains(n.bufs, x.buf)) {
			b.c.bufPool.Put(x.buf)
		}
	}
	b.refs, b.copies = b.refs[1:], b.copies[1:]
}

func (b *batch) close() {
	for len(b.refs) > 0 {
		b.drop(nil)
	}
}

// build makes a node's keys out of its copies.
func (c *checker) build(n *node, copies []copyOf, report bool) {
	ref := n.ref
	if ref.fake {
		n.ok = true
	}
	if len(copies) == 0 && !ref.fake && report {
		c.bad("btree_node_read_error", ref.where(), "a member that holds a copy", "none is here")
	}
	tried := map[int]bool{}
	same := make([]int, len(copies)) // index of an equal copy before
	for i := range copies {
		same[i] = i
		for k := range i {
			if copies[i].err == nil && copies[k].err == nil && bytes.Equal(copies[i].raw, copies[k].raw) {
				same[i] = k
				break
			}
		}
	}
	if len(copies) > 1 {
		// Decoding decrypts in place: compare first, above.
		for i := range copies {
			if same[i] != i {
				copies[i].raw = nil
			}
		}
	}
	best, bestSum := -1, -1
	var other *node
	for i := range copies {
		x := &copies[i]
		if same[i] != i || tried[i] {
			continue
		}
		tried[i] = true
		w := ref.where()
		w.Dev, w.Sector = int(x.dev), int64(x.sector)
		if x.err != nil {
			if report {
				c.badErr(x.err, w, "btree_node_io_error")
			}
			continue
		}
		d := nodeDecoder{c: c, ref: ref, where: w, report: report}
		if best >= 0 {
			// Another copy with other bytes: only what is wrong with it matters.
			if other == nil {
				other = c.getNode()
			}
			other.scratch, other.runs = other.scratch[:0], other.runs[:0]
			if d.decode(x.raw, other) == decodeGood && report {
				c.bad("btree_node_replicas_data_mismatch", w, fmt.Sprintf("the bytes of the copy on member %d", copies[best].dev), "others, checksum good")
			}
			continue
		}
		switch d.decode(x.raw, n) {
		case decodeGood:
			best = i
		case decodeSum:
			if bestSum < 0 {
				bestSum = i
			}
			n.scratch, n.runs = n.scratch[:0], n.runs[:0]
		default:
			n.scratch, n.runs = n.scratch[:0], n.runs[:0]
		}
	}
	if other != nil {
		c.release(other)
	}
	if best < 0 && bestSum >= 0 {
		// Nothing better than a copy with a wrong checksum: what it says is
		// probably right (chapter 02 section 5.3).
		d := nodeDecoder{c: c, ref: ref, where: ref.where(), again: true}
		if d.decode(copies[bestSum].raw, n) != decodeBad {
			best = bestSum
		}
	}
	if best >= 0 {
		n.ok = true
		n.bufs = append(n.bufs, copies[best].buf)
	} else if !ref.fake {
		c.lose(ref.btree)
		return
	}
	n.merge()
	c.overlay(n)
	c.checkKeys(n, report)
}

// decodeResult says what a copy of a node is good for.
type decodeResult uint8

const (
	decodeGood decodeResult = iota
	decodeSum               // a checksum is wrong
	decodeBad
)

// nodeDecoder reads one copy of a node (chapter 02 section 5).
type nodeDecoder struct {
	c      *checker
	ref    *nodeRef
	where  errs.Where
	report bool
	again  bool // decrypted and reported before: take what is there
}

func (d *nodeDecoder) bad(name, want, got string) decodeResult {
	if d.report {
		d.c.bad(name, d.where, want, got)
	}
	return decodeBad
}

func (d *nodeDecoder) err(err error, fallback string) decodeResult {
	if d.report {
		d.c.badErr(err, d.where, fallback)
	}
	return decodeBad
}

// decode appends the keys of the records to n.scratch, a run each. Only findings
// that make the copy unusable end it.
func (d *nodeDecoder) decode(raw []byte, n *node) decodeResult {
	c, ptr := d.c, &d.ref.ptr
	hdr, err := ondisk.DecodeNodeHeader(raw)
	if err != nil {
		return d.err(err, "btree_node_bad_magic")
	}
	if hdr.Magic != c.nodeMagic {
		return d.bad("btree_node_bad_magic", fmt.Sprintf("%x", c.nodeMagic), fmt.Sprintf("%x", hdr.Magic))
	}
	if hdr.Bset.BigEndian() {
		return d.bad("btree_node_unsupported_version", "little endian", "big endian")
	}
	if ptr.V2 && hdr.Bset.Seq != ptr.Seq {
		return d.bad("btree_node_bad_seq", fmt.Sprintf("%016x", ptr.Seq), fmt.Sprintf("%016x", hdr.Bset.Seq))
	}
	limit := len(raw)
	if w := int(ptr.SectorsWritten); w*512 > limit || w%int(c.sb.BlockSize) != 0 {
		return d.bad("btree_node_data_missing", fmt.Sprintf("at most %d sectors in whole blocks", limit/512), fmt.Sprintf("sectors_written %d", w))
	}
	res := decodeGood
	for off := 0; off < limit; {
		first := off == 0
		head, bs, sum := ondisk.NodeHeaderSize, hdr.Bset, hdr.Csum
		if !first {
			head = ondisk.EntryHeaderSize
			e, err := ondisk.DecodeEntryHeader(raw[off:])
			if err != nil {
				return d.err(err, "btree_node_data_missing")
			}
			if e.Bset.Seq != hdr.Bset.Seq {
				if ptr.SectorsWritten != 0 {
					return d.bad("btree_node_data_missing", fmt.Sprintf("%d sectors", ptr.SectorsWritten), fmt.Sprint(off/512))
				}
				break
			}
			bs, sum = e.Bset, e.Csum
		}
		end := off + head + 8*int(bs.U64s)
		next := off + (end-off+c.blockBytes-1)/c.blockBytes*c.blockBytes
		if next > limit {
			return d.bad("bset_past_end_of_btree_node", fmt.Sprintf("at most byte %d", limit), fmt.Sprint(next))
		}
		ct := bs.CsumType()
		if ct >= ondisk.NrCsumTypes {
			return d.bad("bset_unknown_csum", "a known type", fmt.Sprint(uint8(ct)))
		}
		if !d.again {
			if r := d.verify(raw, off, head, end, bs, sum, limit); r == decodeBad {
				return r
			} else if r == decodeSum {
				res = r
			}
		}
		if first {
			hdr, _ = ondisk.DecodeNodeHeader(raw) // it may have been encrypted
			if r := d.header(hdr); r != decodeGood {
				return r
			}
		}
		if r := d.bset(bs, off, first); r != decodeGood {
			return r
		}
		if !first && c.state.Blacklist.Has(bs.JournalSeq) {
			d.bad("first_bset_blacklisted_journal_seq", "a sequence number in use", fmt.Sprint(bs.JournalSeq))
		} else if err := d.keys(n, raw[off+head:end], &hdr.Format); err != nil {
			return d.err(err, "btree_node_bkey_bad_u64s")
		}
		off = next
	}
	return res
}

// verify checks and decrypts one record.
func (d *nodeDecoder) verify(raw []byte, off, head, end int, bs ondisk.Bset, sum ondisk.Csum, limit int) decodeResult {
	c, ct := d.c, bs.CsumType()
	nonce := crypt.BtreeNonce(uint32(off), bs.Seq, bs.JournalSeq)
	got, err := c.set.Sum(ct, nonce, raw[off+16:end])
	if err != nil {
		return d.err(err, "bset_unknown_csum")
	}
	res := decodeGood
	if got != sum {
		d.bad("bset_bad_csum", fmt.Sprintf("%s %x:%x at node offset %d/%d", ct, sum.Hi, sum.Lo, off/512, limit/512), fmt.Sprintf("%x:%x", got.Hi, got.Lo))
		if ct.Encrypted() {
			return decodeBad
		}
		res = decodeSum
	}
	if ct.Encrypted() {
		if off == 0 {
			c.set.Decrypt(ct, nonce, raw[ondisk.NodeCryptStart:ondisk.NodeCryptEnd])
			nonce = nonce.Advance(128)
		}
		c.set.Decrypt(ct, nonce, raw[off+head:end])
	}
	return res
}

// header compares the node's header with what the pointer says.
func (d *nodeDecoder) header(h ondisk.NodeHeader) decodeResult {
	r := d.ref
	switch {
	case h.Btree() != int(r.btree):
		return d.bad("btree_node_bad_btree", r.btree.String(), errs.BtreeName(h.Btree()))
	case h.Level() != int(r.level):
		return d.bad("btree_node_bad_level", fmt.Sprint(r.level), fmt.Sprint(h.Level()))
	case r.btree.IsExtents() && r.level == 0 && !h.NewExtentOverwrite():
		return d.bad("btree_node_unsupported_version", "flag new_extent_overwrite", "clear")
	}
	if err := h.Format.Validate(); err != nil {
		return d.err(err, "btree_node_bad_format")
	}
	if r.ptr.RangeUpdated || !r.ptr.V2 {
		return decodeGood
	}
	if h.MinKey != r.ptr.MinKey {
		return d.bad("btree_node_bad_min_key", r.ptr.MinKey.String(), h.MinKey.String())
	}
	if h.MaxKey != r.max {
		return d.bad("btree_node_bad_max_key", r.max.String(), h.MaxKey.String())
	}
	return decodeGood
}

// bset checks the header of a record.
func (d *nodeDecoder) bset(bs ondisk.Bset, off int, first bool) decodeResult {
	sb := d.c.sb
	switch {
	case bs.Version.Major() > 1 || bs.Version < 12:
		return d.bad("btree_node_unsupported_version", "0.12 to 1.x", bs.Version.String())
	case bs.SeparateWhiteouts():
		return d.bad("btree_node_unsupported_version", "no separate whiteouts", "flag set")
	}
	// These do not make the copy unusable.
	switch {
	case bs.Version < sb.VersionMin:
		d.bad("btree_node_bset_older_than_sb_min", "at least "+sb.VersionMin.String(), bs.Version.String())
	case bs.Version > sb.Version:
		d.bad("btree_node_bset_newer_than_sb", "at most "+sb.Version.String(), bs.Version.String())
	case !first && bs.U64s == 0:
		d.bad("bset_empty", "keys", fmt.Sprintf("none at node offset %d", off/512))
	case bs.OffsetSectors() != 0 && int(bs.OffsetSectors()) != off/512:
		d.bad("bset_wrong_sector_offset", fmt.Sprint(off/512), fmt.Sprint(bs.OffsetSectors()))
	case bs.JournalSeq > d.c.state.Seq:
		d.bad("bset_journal_seq_in_future", fmt.Sprintf("at most %d", d.c.state.Seq), fmt.Sprint(bs.JournalSeq))
	}
	if first && bs.JournalSeq != 0 && d.c.state.Blacklist.Has(bs.JournalSeq) {
		d.bad("bset_blacklisted_journal_seq", "a sequence number in use", fmt.Sprint(bs.JournalSeq))
	}
	return decodeGood
}

// keys reads the keys of one record. Keys that are out of place are reported and
// left out.
func (d *nodeDecoder) keys(n *node, b []byte, f *ondisk.BkeyFormat) error {
	start := len(n.scratch)
	lo, hi := d.ref.ptr.MinKey, d.ref.max
	trim := d.ref.ptr.RangeUpdated || !d.ref.ptr.V2
	drop := func(p ondisk.Pos, name, want string) {
		if d.report {
			w := d.where
			w.HasPos, w.Inode, w.Offset, w.Snapshot = true, p.Inode, p.Offset, p.Snapshot
			d.c.bad(name, w, want, p.String())
		}
	}
	err := ondisk.DecodeBsetKeys(b, f, func(k ondisk.Key, _, vo, vl int) bool {
		switch {
		case k.Pos.Less(lo):
			if !trim {
				drop(k.Pos, "bkey_before_start_of_btree_node", "at least "+lo.String())
			}
			return true
		case hi.Less(k.Pos):
			if !trim {
				drop(k.Pos, "bkey_after_end_of_btree_node", "at most "+hi.String())
			}
			return true
		}
		if k.Type == ondisk.KeyDeleted {
			// Nothing comes of it, but a release that meets it takes the node for
			// damaged.
			if d.report && d.ref.level == 0 {
				if err := ondisk.CheckLeafKey(d.ref.btree, ondisk.KV{Key: k}, true); err != nil {
					d.c.badErr(err, leafAt(d.ref.btree, k.Pos), "bkey_invalid")
				}
			}
			k.Size, k.Version, vl = 0, ondisk.Bversion{}, 0
		}
		if m := len(n.scratch); m > start {
			p := &n.scratch[m-1]
			if o := p.Pos.Compare(k.Pos); o > 0 || o == 0 && (p.Type != ondisk.KeyDeleted || k.Type == ondisk.KeyDeleted) {
				drop(k.Pos, "btree_node_bkey_out_of_order", "after "+p.Pos.String())
				if o > 0 {
					// What follows decides which of the two was out of place.
					n.runs = append(n.runs, run{start, m})
					start = m
				}
			}
			if o := p.Pos.Compare(k.Pos); o == 0 && m > start {
				n.scratch = n.scratch[:m-1]
			}
		}
		n.scratch = append(n.scratch, ondisk.KV{Key: k, Val: b[vo : vo+vl : vo+vl]})
		return true
	})
	n.runs = append(n.runs, run{start, len(n.scratch)})
	return err
}

// merge puts the runs together: of keys at one position the last run's counts.
func (n *node) merge() {
	switch {
	case len(n.runs) == 0:
		return
	case len(n.runs) == 1:
		n.keys, n.scratch = n.scratch, n.keys
	default:
		// Neighbors are merged while the later one is not much smaller, so that
		// every key is copied a logarithmic number of times.
		var stack [][]ondisk.KV
		for _, r := range n.runs {
			stack = append(stack, n.scratch[r.from:r.to])
			for k := len(stack); k > 1 && 2*len(stack[k-1]) >= len(stack[k-2]); k = len(stack) {
				stack = append(stack[:k-2], mergeKeys(nil, stack[k-2], stack[k-1]))
			}
		}
		for k := len(stack); k > 2; k = len(stack) {
			stack = append(stack[:k-2], mergeKeys(nil, stack[k-2], stack[k-1]))
		}
		if len(stack) == 1 {
			n.keys = append(n.keys[:0], stack[0]...)
		} else {
			n.keys = mergeKeys(n.keys[:0], stack[0], stack[1])
		}
	}
	n.keys = slices.DeleteFunc(n.keys, func(k ondisk.KV) bool { return k.Type == ondisk.KeyDeleted })
}

// mergeKeys appends two sorted lists to out as one; of equal positions the key of
// b is taken.
func mergeKeys(out, a, b []ondisk.KV) []ondisk.KV {
	if out == nil {
		out = make([]ondisk.KV, 0, len(a)+len(b))
	}
	i := 0
	for j := range b {
		for i < len(a) && a[i].Pos.Less(b[j].Pos) {
			out = append(out, a[i])
			i++
		}
		if i < len(a) && a[i].Pos == b[j].Pos {
			i++
		}
		out = append(out, b[j])
	}
	return append(out, a[i:]...)
}

// overlay puts the journal's keys on top of the node's.
func (c *checker) overlay(n *node) {
	o := c.state.Overlay
	if o.Empty() {
		return
	}
	ks := o.Range(n.ref.btree, int(n.ref.level), n.ref.min(), n.ref.max)
	if len(ks) == 0 {
		return
	}
	newer := make([]ondisk.KV, 0, len(ks))
	for i := 0; i < len(ks); {
		k := ks[i]
		j := i + 1
		if k.Type == ondisk.KeyAccounting && n.ref.level == 0 {
			for j < len(ks) && ks[j].Pos == k.Pos {
				j++
			}
			newer = append(newer, n.addDeltas(ks[i:j]))
		} else {
			newer = append(newer, k.KV)
		}
		i = j
	}
	n.keys = slices.DeleteFunc(mergeKeys(nil, n.keys, newer), func(k ondisk.KV) bool { return k.Type == ondisk.KeyDeleted })
}

// addDeltas sums an accounting key and the deltas of the journal that it does not
// contain yet (chapter 03 section 8.3).
func (n *node) addDeltas(deltas []journal.OKey) ondisk.KV {
	sum := ondisk.KV{Key: deltas[0].Key}
	sum.Version = ondisk.Bversion{}
	i, found := slices.BinarySearchFunc(n.keys, deltas[0].Pos, func(k ondisk.KV, p ondisk.Pos) int { return k.Pos.Compare(p) })
	var v [8]uint64
	nr := 0
	take := func(val []byte) {
		nr = max(nr, min(len(val)/8, len(v)))
		for i := range min(len(val)/8, len(v)) {
			v[i] += binary.LittleEndian.Uint64(val[8*i:])
		}
	}
	var base ondisk.Bversion
	if found {
		base = n.keys[i].Version
		sum.Version = base
		take(n.keys[i].Val)
	}
	for _, d := range deltas {
		if d.Type != ondisk.KeyAccounting || d.Version.Compare(base) <= 0 {
			continue
		}
		take(d.Val)
		if d.Version.Compare(sum.Version) > 0 {
			sum.Version = d.Version
		}
	}
	at := len(n.merged)
	for _, x := range v[:nr] {
		n.merged = binary.LittleEndian.AppendUint64(n.merged, x)
	}
	sum.Val = n.merged[at:len(n.merged):len(n.merged)]
	return sum
}

// checkKeys applies the rules of single keys. Keys that break one of those that
// make them what they are, are left out.
func (c *checker) checkKeys(n *node, report bool) {
	b, level := n.ref.btree, int(n.ref.level)
	keep := n.keys[:0]
	for _, kv := range n.keys {
		err := ondisk.CheckKey(&c.keyRules, b, level, kv)
		if err == nil && report && level == 0 {
			err = ondisk.CheckLeafKey(b, kv, false) // types that no reader minds, too
		}
		if err != nil {
			if report {
				c.badErr(err, leafAt(b, kv.Pos), "bkey_invalid")
			}
			if level == 0 && ondisk.CheckLeafKey(b, kv, true) != nil {
				continue
			}
		}
		if report && b != ondisk.BtreeAccounting && kv.Version != (ondisk.Bversion{}) && (kv.Version.Hi != 0 || kv.Version.Lo > c.keyVersion) {
			c.bad("bkey_version_in_future", leafAt(b, kv.Pos), fmt.Sprintf("at most %d", c.keyVersion), fmt.Sprintf("%d:%d", kv.Version.Hi, kv.Version.Lo))
		}
		keep = append(keep, kv)
	}
	n.keys = keep
}
