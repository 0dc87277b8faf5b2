package btree

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/internal/journal"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// NodeRef is what is known of a node before it is read: the pointer to it.
type NodeRef struct {
	Btree    ondisk.BtreeID
	Level    int
	Min, Max ondisk.Pos
	Ptr      ondisk.BtreePtr
	Key      ondisk.KV // the pointer as it is stored; type deleted without one
}

func (r NodeRef) want() want { return want{r.Btree, r.Level, r.Min, r.Max, r.Ptr} }

// Where is the place of the node in its btree, for errors.
func (r NodeRef) Where() errs.Where { return r.want().where() }

// Walk calls visit with the nodes of a btree that hold a part of [from, to],
// from level up, each one after its children. A node that cannot be read comes
// with its error, and what is below it not at all. A btree without root has one
// node with an empty pointer. visit stops the walk by returning false.
func (t *Trees) Walk(ctx context.Context, b ondisk.BtreeID, level int, from, to ondisk.Pos, visit func(NodeRef, *Node, error) bool) error {
	ref := NodeRef{Btree: b, Max: ondisk.SPosMax}
	if r, ok := t.state.Roots[b]; ok {
		ref.Level = r.Level
		if !r.Lost {
			ref.Key = r.Key
			ref.Ptr, _ = ondisk.DecodeBtreePtr(r.Key)
		}
	}
	root, err := t.Root(ctx, b)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		visit(ref, nil, err)
		return nil
	}
	ref.Level = root.Level
	_, err = t.walk(ctx, ref, root, level, from, to, visit)
	return err
}

func (t *Trees) walk(ctx context.Context, ref NodeRef, n *Node, level int, from, to ondisk.Pos, visit func(NodeRef, *Node, error) bool) (bool, error) {
	if n.Level > level {
		for i := n.Search(from); i < len(n.ptrs); i++ {
			w := n.want(i)
			if to.Less(w.min) {
				break
			}
			r := NodeRef{w.btree, w.level, w.min, w.max, w.ptr, n.Key(i)}
			c, err := t.load(ctx, w, n)
			if ctx.Err() != nil {
				return false, ctx.Err()
			}
			if err != nil {
				if !visit(r, nil, &DamageError{w.btree, w.min, w.max, err}) {
					return false, nil
				}
				continue
			}
			if more, err := t.walk(ctx, r, c, level, from, to, visit); !more {
				return false, err
			}
		}
	}
	if n.Level < level {
		return true, nil
	}
	return visit(ref, n, nil), nil
}

// RawRecord is one record (bset) of a node as it stands on disk.
type RawRecord struct {
	Off, KeysOff  int // byte offsets in the node: of the record, of its keys
	End, Next     int // end of the keys, and of the record with its padding
	Bset          ondisk.Bset
	Err           error // what is wrong with it, e.g. its checksum
	Ignored       bool  // its journal sequence number is blacklisted
	csum          ondisk.Csum
	hasNodeHeader bool
	plain         bool // decrypted
}

// RawNode is one copy of a node, decrypted, nothing merged or dropped.
type RawNode struct {
	Ref     NodeRef
	Dev     uint8
	Sector  uint64
	Buf     []byte // the whole node
	Header  ondisk.NodeHeader
	Records []RawRecord
}

// ReadRaw reads one copy of a node and finds its records: all that the pointer
// counts as written, or as many as there are when it does not say. The error is
// about the copy as a whole; damage of a record is in the record.
func (t *Trees) ReadRaw(ref NodeRef, p ondisk.Ptr) (*RawNode, error) {
	return ReadRaw(t.set, t.state.Blacklist, ref, p)
}

// ReadRaw is Trees.ReadRaw without trees.
func ReadRaw(set *members.Set, bl journal.Blacklist, ref NodeRef, p ondisk.Ptr) (*RawNode, error) {
	where := ref.Where()
	where.Dev, where.Sector = int(p.Dev), int64(p.Offset)
	n := &RawNode{Ref: ref, Dev: p.Dev, Sector: p.Offset, Buf: make([]byte, set.SB.NodeSectors()*512)}
	if err := set.ReadSectors(p.Dev, p.Offset, n.Buf); err != nil {
		return n, errs.At(err, where)
	}
	hdr, err := ondisk.DecodeNodeHeader(n.Buf)
	if err != nil {
		return n, errs.At(err, where)
	}
	if m := ondisk.NodeMagic(set.SB.UUID); hdr.Magic != m {
		return n, errs.Corrupt(where, "btree_node_bad_magic", fmt.Sprintf("%x", m), fmt.Sprintf("%x", hdr.Magic))
	}
	if ref.Ptr.Seq != 0 && hdr.Bset.Seq != ref.Ptr.Seq {
		return n, errs.Corrupt(where, "btree_node_bad_seq", fmt.Sprintf("%x", ref.Ptr.Seq), fmt.Sprintf("%x", hdr.Bset.Seq))
	}
	block := max(1, int(set.SB.BlockSize)) * 512
	limit := len(n.Buf)
	if s := int(ref.Ptr.SectorsWritten) * 512; s != 0 && s < limit {
		limit = s
	}
	for off := 0; off < limit; {
		r := RawRecord{Off: off, KeysOff: off + ondisk.NodeHeaderSize, Bset: hdr.Bset, csum: hdr.Csum, hasNodeHeader: off == 0}
		if off > 0 {
			e, err := ondisk.DecodeEntryHeader(n.Buf[off:])
			if err != nil || e.Bset.Seq != hdr.Bset.Seq {
				break
			}
			r.KeysOff, r.Bset, r.csum = off+ondisk.EntryHeaderSize, e.Bset, e.Csum
			r.Ignored = bl.Has(e.Bset.JournalSeq)
		}
		r.End = r.KeysOff + 8*int(r.Bset.U64s)
		r.Next = off + (r.End-off+block-1)/block*block
		if r.End > len(n.Buf) || r.Next > len(n.Buf) {
			r.End, r.Next = min(r.End, len(n.Buf)), len(n.Buf)
			r.Err = errs.Corrupt(where, "bset_past_end_of_btree_node", fmt.Sprintf("at most %d bytes", len(n.Buf)), fmt.Sprint(r.KeysOff+8*int(r.Bset.U64s)))
			n.Records = append(n.Records, r)
			break
		}
		n.open(set, &r, where)
		n.Records = append(n.Records, r)
		off = r.Next
	}
	n.Header, _ = ondisk.DecodeNodeHeader(n.Buf)
	if err := n.Header.Format.Validate(); err != nil {
		return n, errs.At(err, where)
	}
	return n, nil
}

// open checks and decrypts a record.
func (n *RawNode) open(set *members.Set, r *RawRecord, where errs.Where) {
	ct := r.Bset.CsumType()
	if ct >= ondisk.NrCsumTypes {
		r.Err = errs.Corrupt(where, "bset_unknown_csum", "a known type", fmt.Sprint(uint8(ct)))
		return
	}
	sum, err := set.Sum(ct, n.nonce(r), n.Buf[r.Off+16:r.End])
	if err == nil && sum != r.csum {
		err = members.ChecksumError(where, fmt.Sprintf("bset_bad_csum (node offset %d)", r.Off/512), ct, r.csum, sum)
	}
	r.Err = err
	n.crypt(set, r)
	r.plain = true
}

func (n *RawNode) nonce(r *RawRecord) crypt.Nonce {
	return crypt.BtreeNonce(uint32(r.Off), r.Bset.Seq, r.Bset.JournalSeq)
}

// crypt encrypts or decrypts a record in place: that is the same.
func (n *RawNode) crypt(set *members.Set, r *RawRecord) {
	ct, nonce := r.Bset.CsumType(), n.nonce(r)
	if !ct.Encrypted() {
		return
	}
	if r.hasNodeHeader {
		set.Decrypt(ct, nonce, n.Buf[ondisk.NodeCryptStart:ondisk.NodeCryptEnd])
		nonce = nonce.Advance(ondisk.NodeCryptEnd - ondisk.NodeCryptStart)
	}
	set.Decrypt(ct, nonce, n.Buf[r.KeysOff:r.End])
}

// Keys walks the keys of a record. val is the byte offset of the value in Buf,
// size what the key takes there with its header.
func (n *RawNode) Keys(r *RawRecord, yield func(kv ondisk.KV, val, size int, packed bool) bool) error {
	b := n.Buf[r.KeysOff:r.End]
	return ondisk.DecodeBsetKeys(b, &n.Header.Format, func(k ondisk.Key, off, vo, vl int) bool {
		return yield(ondisk.KV{Key: k, Val: b[vo : vo+vl : vo+vl]}, r.KeysOff+vo, vo+vl-off, b[off+1]&0x7f == 0)
	})
}

// Seal makes Buf what stands on disk again, after values were changed in place:
// it encrypts the records and computes their checksums. Records that were
// damaged are left as they were read.
func (n *RawNode) Seal(set *members.Set) error {
	for i := range n.Records {
		r := &n.Records[i]
		if r.plain {
			n.crypt(set, r)
		}
		if r.Err != nil {
			continue
		}
		sum, err := set.Sum(r.Bset.CsumType(), n.nonce(r), n.Buf[r.Off+16:r.End])
		if err != nil {
			return err
		}
		copy(n.Buf[r.Off:], sum.Append(nil))
	}
	return nil
}

// NodeStats says how full a node is once its records are merged.
type NodeStats struct {
	Bytes, Capacity  int // of keys
	Packed, Unpacked int // keys
	// Cachelines are the groups of 256 bytes whose first keys the reference
	// searches first; UnpackedLines are those that begin with an unpacked key.
	Cachelines, UnpackedLines int
}

// cacheline is the unit of the search tree that the reference builds over a node,
// in bytes; lineBias was found by comparing with what it prints of real nodes.
const (
	cacheline = 256
	lineBias  = 32
)

// Stats merges the records of a node in memory the way a reader does.
func (n *RawNode) Stats() NodeStats {
	type key struct {
		pos    ondisk.Pos
		rec    int
		size   int
		packed bool
		dead   bool
	}
	var keys []key
	for i := range n.Records {
		if n.Records[i].Ignored || n.Records[i].Err != nil {
			continue
		}
		_ = n.Keys(&n.Records[i], func(kv ondisk.KV, _, size int, packed bool) bool {
			keys = append(keys, key{kv.Pos, i, size, packed, kv.Type == ondisk.KeyDeleted})
			return true
		})
	}
	slices.SortStableFunc(keys, func(a, b key) int { return cmp.Or(a.pos.Compare(b.pos), cmp.Compare(a.rec, b.rec)) })
	s := NodeStats{Capacity: len(n.Buf) - ondisk.NodeHeaderSize}
	var starts []int // where the keys begin, and whether they are unpacked
	var unpacked []bool
	for i, k := range keys {
		if k.dead || i+1 < len(keys) && keys[i+1].pos == k.pos {
			continue
		}
		starts, unpacked = append(starts, s.Bytes), append(unpacked, !k.packed)
		s.Bytes += k.size
		if k.packed {
			s.Packed++
		} else {
			s.Unpacked++
		}
	}
	s.Cachelines = max(0, (s.Bytes+lineBias)/cacheline-1)
	for line := 1; line <= s.Cachelines; line++ {
		i, _ := slices.BinarySearch(starts, line*cacheline-lineBias)
		if i < len(unpacked) && unpacked[i] {
			s.UnpackedLines++
		}
	}
	return s
}
