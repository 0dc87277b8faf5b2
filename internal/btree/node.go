package btree

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"sort"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/internal/journal"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Node is a btree node as it counts: the records of the node on disk merged, the
// journal's newer keys merged into that, whiteouts of the node log gone. It is
// immutable, so what it hands out may be kept; the collector frees it.
type Node struct {
	Btree    ondisk.BtreeID
	Level    int
	Min, Max ondisk.Pos // range, as the pointer says
	// Info describes the node on disk; zero for a btree that has no root yet.
	Info NodeInfo
	// Suspect is set when the node (or one above it) had to be used although a
	// checksum did not match: what it says may be wrong or incomplete.
	Suspect error

	// delta are changes on top of the arrays, sorted, of a node that is newer in
	// memory than on disk; nil for all others.
	delta    []change
	grows    bool // the arrays have room that belongs to this node's successors
	used     int  // bytes of values that slots refer to, when grows is set
	slots    []slot
	vals     []byte
	versions []ondisk.Bversion // parallel to slots, nil when all are zero
	ptrs     []ondisk.BtreePtr // interior nodes: parallel to slots
}

// NodeInfo is what only the inspection commands ask about.
type NodeInfo struct {
	Ptr     ondisk.BtreePtr
	Header  ondisk.NodeHeader
	Records []RecordInfo
	Keys    int // keys in all records, before merging
	Packed  int
	Bytes   int // bytes of live keys, as stored
}

// RecordInfo describes one record (bset) of a node.
type RecordInfo struct {
	Sector  uint32 // inside the node
	Sectors uint32
	Bset    ondisk.Bset
	Keys    int
	Ignored bool // its journal sequence number is blacklisted
}

// slot is a key in 32 bytes; most of a node's memory is slots.
type slot struct {
	inode, offset  uint64
	snapshot, size uint32
	val            uint32 // offset in vals
	valLen         uint16
	typ            ondisk.KeyType
}

func (s *slot) pos() ondisk.Pos {
	return ondisk.Pos{Inode: s.inode, Offset: s.offset, Snapshot: s.snapshot}
}

// Len is the number of keys.
func (n *Node) Len() int { return len(n.slots) }

// Key gives key i. The value aliases the node, which is never changed.
func (n *Node) Key(i int) ondisk.KV {
	s := &n.slots[i]
	kv := ondisk.KV{Key: ondisk.Key{Pos: s.pos(), Size: s.size, Type: s.typ}}
	kv.Val = n.vals[s.val : s.val+uint32(s.valLen) : s.val+uint32(s.valLen)]
	if n.versions != nil {
		kv.Version = n.versions[i]
	}
	return kv
}

// Search gives the index of the first key at or after p.
func (n *Node) Search(p ondisk.Pos) int {
	lo, hi := 0, len(n.slots)
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		s := &n.slots[m]
		var less bool
		switch {
		case s.inode != p.Inode:
			less = s.inode < p.Inode
		case s.offset != p.Offset:
			less = s.offset < p.Offset
		default:
			less = s.snapshot < p.Snapshot
		}
		if less {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo
}

func (n *Node) memory() int64 {
	return int64(len(n.slots))*32 + int64(cap(n.vals)) + int64(len(n.versions))*16 + int64(len(n.ptrs))*128 + 512
}

// want is what the parent says about a node.
type want struct {
	btree ondisk.BtreeID
	level int
	min   ondisk.Pos
	max   ondisk.Pos
	ptr   ondisk.BtreePtr
}

func (w want) where() errs.Where {
	e := errs.Nowhere
	e.Btree, e.Level = int(w.btree), w.level
	e.HasPos, e.Inode, e.Offset, e.Snapshot = true, w.max.Inode, w.max.Offset, w.max.Snapshot
	return e
}

// rec is a key of a record while a node is put together.
type rec struct {
	key    ondisk.Key
	at     uint32 // record number, later wins
	val    uint32 // offset in the raw buffer
	valLen uint16
	packed bool
}

// decoder reads one copy of a node.
type decoder struct {
	set       *members.Set
	blacklist journal.Blacklist
	salvage   bool
	warn      func(error)
}

// decode checks and merges one copy of a node (chapter 02 section 5). raw holds
// the whole copy and is decrypted in place. An error means that this copy cannot
// be used; Node.Suspect that it can, but that a checksum did not match or that a
// record is lost, and is only possible in salvage mode.
func (d *decoder) decode(raw []byte, w want, dev uint8, sector uint64) (*Node, error) {
	where := w.where()
	where.Dev, where.Sector = int(dev), int64(sector)
	bad := func(reason, want, got string) error { return errs.Corrupt(where, reason, want, got) }
	hdr, err := ondisk.DecodeNodeHeader(raw)
	if err != nil {
		return nil, errs.At(err, where)
	}
	if m := ondisk.NodeMagic(d.set.SB.UUID); hdr.Magic != m {
		return nil, bad("btree_node_bad_magic", fmt.Sprintf("%x", m), fmt.Sprintf("%x", hdr.Magic))
	}
	if hdr.Bset.BigEndian() {
		return nil, bad("btree_node_big_endian", "little endian", "big endian")
	}
	if w.ptr.Seq != 0 && hdr.Bset.Seq != w.ptr.Seq {
		return nil, bad("btree_node_bad_seq", fmt.Sprintf("%x", w.ptr.Seq), fmt.Sprintf("%x", hdr.Bset.Seq))
	}
	n := &Node{Btree: w.btree, Level: w.level, Min: w.min, Max: w.max}
	n.Info.Ptr = w.ptr
	block := int(d.set.SB.BlockSize) * 512
	limit := len(raw)
	if w.ptr.SectorsWritten != 0 {
		limit = int(w.ptr.SectorsWritten) * 512
		if limit > len(raw) {
			return nil, bad("btree_node_data_missing", fmt.Sprintf("at most %d sectors", len(raw)/512), fmt.Sprint(w.ptr.SectorsWritten))
		}
	}
	var recs []rec
	var format ondisk.BkeyFormat
	for off := 0; off < limit; {
		first := off == 0
		// lost gives up the record, and the copy with it unless what follows can
		// be salvaged: all records of a node carry its seq.
		lost := func(err error) error {
			if first || !d.salvage {
				return err
			}
			n.Suspect = err
			off = nextRecord(raw[:limit], off+block, block, hdr.Bset.Seq)
			return nil
		}
		head := ondisk.NodeHeaderSize
		bs := hdr.Bset
		var sum ondisk.Csum = hdr.Csum
		if !first {
			head = ondisk.EntryHeaderSize
			e, err := ondisk.DecodeEntryHeader(raw[off:])
			if err != nil {
				return nil, errs.At(err, where)
			}
			if e.Bset.Seq != hdr.Bset.Seq {
				// Without a known end this is the end, unless more follows.
				if w.ptr.SectorsWritten == 0 && nextRecord(raw[:limit], off+block, block, hdr.Bset.Seq) == limit {
					break
				}
				if err := lost(bad("btree_node_data_missing", fmt.Sprintf("%d sectors", limit/512), fmt.Sprint(off/512))); err != nil {
					return nil, err
				}
				continue
			}
			bs, sum = e.Bset, e.Csum
		}
		end := off + head + 8*int(bs.U64s)
		next := off + (head+8*int(bs.U64s)+block-1)/block*block
		if end > limit || next > limit && w.ptr.SectorsWritten != 0 || next > len(raw) {
			if err := lost(bad("bset_past_end_of_btree_node", fmt.Sprintf("at most byte %d", limit), fmt.Sprint(next))); err != nil {
				return nil, err
			}
			continue
		}
		ct := bs.CsumType()
		if ct >= ondisk.NrCsumTypes {
			if err := lost(bad("bset_unknown_csum", "a known type", fmt.Sprint(uint8(ct)))); err != nil {
				return nil, err
			}
			continue
		}
		nonce := crypt.BtreeNonce(uint32(off), bs.Seq, bs.JournalSeq)
		got, err := d.set.Sum(ct, nonce, raw[off+16:end])
		if err != nil {
			return nil, errs.At(err, where)
		}
		if got != sum {
			err := members.ChecksumError(where, fmt.Sprintf("bset_bad_csum (node offset %d/%d)", off/512, limit/512), ct, sum, got)
			if ct.Encrypted() {
				if err := lost(err); err != nil {
					return nil, err
				}
				continue
			}
			if !d.salvage {
				return nil, err
			}
			n.Suspect = err
		}
		if first {
			if ct.Encrypted() {
				d.set.Decrypt(ct, nonce, raw[ondisk.NodeCryptStart:ondisk.NodeCryptEnd])
				d.set.Decrypt(ct, nonce.Advance(128), raw[head:end])
				hdr, _ = ondisk.DecodeNodeHeader(raw)
			}
			if err := d.checkHeader(hdr, w, where); err != nil {
				return nil, err
			}
			format = hdr.Format
			n.Info.Header = hdr
		} else {
			d.set.Decrypt(ct, nonce, raw[off+head:end])
		}
		if err := d.checkBset(bs, off, first, where); err != nil {
			if err := lost(err); err != nil {
				return nil, err
			}
			continue
		}
		ri := RecordInfo{Sector: uint32(off / 512), Sectors: uint32((next - off) / 512), Bset: bs}
		ri.Ignored = !first && d.blacklist.Has(bs.JournalSeq)
		before := len(recs)
		recs, err = d.keys(recs, raw[:end], off+head, &format, w, len(n.Info.Records), where)
		if err != nil {
			if !d.salvage {
				return nil, err
			}
			n.Suspect = err // the rest of the record is lost
		}
		ri.Keys = len(recs) - before
		if ri.Ignored {
			recs = recs[:before]
		}
		n.Info.Records = append(n.Info.Records, ri)
		off = next
	}
	n.build(raw, recs)
	return n, nil
}

// nextRecord finds the first block from off on that looks like a record of the
// node with a seq; the end of raw when there is none.
func nextRecord(raw []byte, off, block int, seq uint64) int {
	for ; off+ondisk.EntryHeaderSize <= len(raw); off += block {
		if e, err := ondisk.DecodeEntryHeader(raw[off:]); err == nil && e.Bset.Seq == seq {
			return off
		}
	}
	return len(raw)
}

// checkHeader compares the node's header with what the parent says.
func (d *decoder) checkHeader(h ondisk.NodeHeader, w want, where errs.Where) error {
	bad := func(reason, want, got string) error { return errs.Corrupt(where, reason, want, got) }
	switch {
	case h.Btree() != int(w.btree):
		return bad("btree_node_bad_btree", w.btree.String(), fmt.Sprint(h.Btree()))
	case h.Level() != w.level:
		return bad("btree_node_bad_level", fmt.Sprint(w.level), fmt.Sprint(h.Level()))
	case w.btree.IsExtents() && w.level == 0 && !h.NewExtentOverwrite():
		return bad("btree_node_unsupported_version", "new_extent_overwrite", "flag clear")
	}
	if err := h.Format.Validate(); err != nil {
		return errs.At(err, where)
	}
	if w.ptr.RangeUpdated {
		return nil
	}
	if w.ptr.V2 && h.MinKey != w.min { // the old pointer knows no min key
		return bad("btree_node_bad_min_key", w.min.String(), h.MinKey.String())
	}
	if h.MaxKey != w.max {
		return bad("btree_node_bad_max_key", w.max.String(), h.MaxKey.String())
	}
	return nil
}

func (d *decoder) checkBset(bs ondisk.Bset, off int, first bool, where errs.Where) error {
	bad := func(reason, want, got string) error { return errs.Corrupt(where, reason, want, got) }
	switch {
	case bs.Version.Major() > 1 || bs.Version < ondisk.VersionOldest:
		return bad("btree_node_unsupported_version", "major 1", bs.Version.String())
	case bs.Version < 12:
		// Positions and key types of these differ; no volume that old can be mounted by anybody today.
		return bad("btree_node_unsupported_version", "0.12 or newer", bs.Version.String())
	case bs.SeparateWhiteouts():
		return bad("btree_node_unsupported_version", "no separate whiteouts", "flag set")
	case !first && bs.U64s == 0:
		return bad("bset_empty", "keys", "none")
	case bs.OffsetSectors() != 0 && int(bs.OffsetSectors()) != off/512:
		return bad("bset_wrong_sector_offset", fmt.Sprint(off/512), fmt.Sprint(bs.OffsetSectors()))
	}
	return nil
}

// keys reads the keys of one record. Single keys that break a rule are reported
// and dropped.
func (d *decoder) keys(recs []rec, b []byte, at int, f *ondisk.BkeyFormat, w want, nr int, where errs.Where) ([]rec, error) {
	drop := func(k ondisk.Key, err error) {
		e := where
		e.HasPos, e.Inode, e.Offset, e.Snapshot = true, k.Pos.Inode, k.Pos.Offset, k.Pos.Snapshot
		d.warn(fmt.Errorf("key dropped: %w", errs.At(err, e)))
	}
	start := len(recs)
	err := ondisk.DecodeBsetKeys(b[at:], f, func(k ondisk.Key, off, vo, vl int) bool {
		packed := b[at+off+1]&0x7f == 0
		if k.Type == ondisk.KeyDeleted {
			k.Size, k.Version, vl = 0, ondisk.Bversion{}, 0
		}
		if k.Pos.Less(w.min) || w.max.Less(k.Pos) {
			if !w.ptr.RangeUpdated && w.ptr.V2 {
				drop(k, errs.Corruptf("bkey_before_start_of_btree_node", "%v outside of %v..%v", k.Pos, w.min, w.max))
			}
			return true
		}
		kv := ondisk.KV{Key: k, Val: b[at+vo : at+vo+vl]}
		var err error
		if w.level == 0 {
			err = ondisk.CheckLeafKey(w.btree, kv, true)
		} else if k.Type != ondisk.KeyDeleted && k.Type != ondisk.KeyBtreePtr && k.Type != ondisk.KeyBtreePtrV2 {
			err = errs.Corruptf("bkey_invalid_type_for_btree", "%v in an interior node", k.Type)
		}
		if err != nil {
			drop(k, err)
			return true
		}
		if n := len(recs); n > start {
			p := &recs[n-1]
			c := p.key.Pos.Compare(k.Pos)
			if c > 0 || c == 0 && !(p.key.Type == ondisk.KeyDeleted && k.Type != ondisk.KeyDeleted) {
				// One key is out of place: the previous one, if this one still
				// follows the one before it, else this one.
				if n-2 >= start && recs[n-2].key.Pos.Compare(k.Pos) >= 0 {
					drop(k, errs.Corruptf("btree_node_bkey_out_of_order", "%v after %v", k.Pos, p.key.Pos))
					return true
				}
				drop(p.key, errs.Corruptf("btree_node_bkey_out_of_order", "%v before %v", p.key.Pos, k.Pos))
				recs = recs[:n-1]
			} else if c == 0 {
				recs = recs[:n-1]
			}
		}
		recs = append(recs, rec{key: k, at: uint32(nr), val: uint32(at + vo), valLen: uint16(vl), packed: packed})
		return true
	})
	if err != nil {
		return recs, errs.At(err, where)
	}
	return recs, nil
}

// build merges the records into slots and copies the values of live keys.
func (n *Node) build(raw []byte, recs []rec) {
	n.Info.Keys = len(recs)
	for i := range recs {
		if recs[i].packed {
			n.Info.Packed++
		}
	}
	if len(n.Info.Records) > 1 {
		slices.SortStableFunc(recs, func(a, b rec) int {
			if c := a.key.Pos.Compare(b.key.Pos); c != 0 {
				return c
			}
			return cmp.Compare(a.at, b.at)
		})
	}
	live, bytes, versions := 0, 0, false
	for i := range recs {
		if i+1 < len(recs) && recs[i+1].key.Pos == recs[i].key.Pos || recs[i].key.Type == ondisk.KeyDeleted {
			continue
		}
		recs[live] = recs[i]
		live++
		bytes += int(recs[i].valLen)
		versions = versions || recs[i].key.Version != ondisk.Bversion{}
	}
	recs = recs[:live]
	n.slots = make([]slot, live)
	n.vals = make([]byte, 0, bytes)
	if versions {
		n.versions = make([]ondisk.Bversion, live)
	}
	for i, r := range recs {
		n.slots[i] = slot{r.key.Pos.Inode, r.key.Pos.Offset, r.key.Pos.Snapshot, r.key.Size, uint32(len(n.vals)), r.valLen, r.key.Type}
		n.vals = append(n.vals, raw[r.val:r.val+uint32(r.valLen)]...)
		if versions {
			n.versions[i] = r.key.Version
		}
	}
}

// overlay merges the journal's keys of the node's range into the node. It must
// be called before the node is shared.
func (n *Node) overlay(o *journal.Overlay) {
	ks := o.Range(n.Btree, n.Level, n.Min, n.Max)
	if len(ks) == 0 {
		return
	}
	old := *n
	n.slots = make([]slot, 0, len(old.slots)+len(ks))
	n.vals = slices.Clone(old.vals)
	n.versions = make([]ondisk.Bversion, 0, len(old.slots)+len(ks))
	add := func(kv ondisk.KV) {
		n.slots = append(n.slots, slot{kv.Pos.Inode, kv.Pos.Offset, kv.Pos.Snapshot, kv.Size, uint32(len(n.vals)), uint16(len(kv.Val)), kv.Type})
		n.vals = append(n.vals, kv.Val...)
		n.versions = append(n.versions, kv.Version)
	}
	keep := func(i int) {
		n.slots = append(n.slots, old.slots[i])
		var v ondisk.Bversion
		if old.versions != nil {
			v = old.versions[i]
		}
		n.versions = append(n.versions, v)
	}
	i := 0
	for j := 0; j < len(ks); {
		k := ks[j]
		for i < len(old.slots) && old.slots[i].pos().Less(k.Pos) {
			keep(i)
			i++
		}
		same := i < len(old.slots) && old.slots[i].pos() == k.Pos
		if k.Type == ondisk.KeyAccounting && n.Level == 0 {
			// Accounting keys are deltas on what the node says.
			end := j + 1
			for end < len(ks) && ks[end].Pos == k.Pos {
				end++
			}
			var base ondisk.KV
			if same {
				base = old.Key(i)
			}
			add(addDeltas(base, ks[j:end]))
			j = end
		} else {
			if k.Type != ondisk.KeyDeleted {
				add(k.KV)
			}
			j++
		}
		if same {
			i++
		}
	}
	for ; i < len(old.slots); i++ {
		keep(i)
	}
}

// addDeltas adds to an accounting key the deltas that it does not contain yet
// (chapter 03 section 8.3).
func addDeltas(base ondisk.KV, deltas []journal.OKey) ondisk.KV {
	sum := ondisk.KV{Key: deltas[0].Key}
	sum.Version = base.Version
	var c [32]uint64
	n := len(base.Val) / 8
	for i := range min(n, len(c)) {
		c[i] = binary.LittleEndian.Uint64(base.Val[8*i:])
	}
	for _, d := range deltas {
		if d.Type != ondisk.KeyAccounting || d.Version.Compare(base.Version) <= 0 {
			continue
		}
		n = min(max(n, len(d.Val)/8), len(c))
		for i := range min(len(d.Val)/8, len(c)) {
			c[i] += binary.LittleEndian.Uint64(d.Val[8*i:])
		}
		if d.Version.Compare(sum.Version) > 0 {
			sum.Version = d.Version
		}
	}
	for i := range min(n, len(c)) {
		sum.Val = binary.LittleEndian.AppendUint64(sum.Val, c[i])
	}
	return sum
}

// children decodes the pointers of an interior node and checks that they cover
// its range without gap or overlap. Bad ones are reported; the node stays
// usable for the rest of its range.
func (n *Node) children(warn func(error)) {
	if n.Level == 0 {
		return
	}
	n.ptrs = make([]ondisk.BtreePtr, len(n.slots))
	start := n.Min
	w := errs.Nowhere
	w.Btree, w.Level = int(n.Btree), n.Level
	keep := 0
	for i := range n.slots {
		kv := n.Key(i)
		e := w
		e.HasPos, e.Inode, e.Offset, e.Snapshot = true, kv.Pos.Inode, kv.Pos.Offset, kv.Pos.Snapshot
		p, err := ondisk.DecodeBtreePtr(kv)
		if err == nil && !p.V2 {
			p.MinKey = start
		}
		if err == nil && kv.Pos.Less(p.MinKey) {
			err = errs.Corruptf("btree_ptr_v2_min_key_bad", "%v > %v", p.MinKey, kv.Pos)
		}
		if err != nil {
			warn(errs.At(err, e))
			continue
		}
		if p.MinKey != start {
			reason := "btree_node_topology_gap_between_nodes"
			if p.MinKey.Less(start) {
				reason = "btree_node_topology_overwritten_by_prev_node"
			}
			warn(errs.Corrupt(e, reason, "a child that starts at "+start.String(), p.MinKey.String()))
		}
		start = kv.Pos.Successor()
		n.slots[keep], n.ptrs[keep] = n.slots[i], p
		if n.versions != nil {
			n.versions[keep] = n.versions[i]
		}
		keep++
	}
	n.slots, n.ptrs = n.slots[:keep], n.ptrs[:keep]
	if n.versions != nil {
		n.versions = n.versions[:keep]
	}
	if keep == 0 {
		warn(errs.Corrupt(w, "btree_node_topology_empty_interior_node", "children", "none"))
	} else if last := n.slots[keep-1].pos(); last != n.Max {
		warn(errs.Corrupt(w, "btree_node_topology_bad_max_key", n.Max.String(), last.String()))
	}
}

// child finds the pointer that covers p, or a negative index and the range that
// no child covers.
func (n *Node) child(p ondisk.Pos) (i int, gapFrom, gapTo ondisk.Pos) {
	i = sort.Search(len(n.slots), func(i int) bool { return !n.slots[i].pos().Less(p) })
	from := n.Min
	if i > 0 {
		from = n.slots[i-1].pos().Successor()
	}
	if i == len(n.slots) {
		return -1, from, n.Max
	}
	if m := n.ptrs[i].MinKey; p.Less(m) {
		return -1, from, m.Predecessor()
	}
	return i, n.ptrs[i].MinKey, n.slots[i].pos()
}
