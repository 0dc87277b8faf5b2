package build

import (
	"bytes"

	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Record is one bset of a node.
type Record struct {
	Keys       []ondisk.KV
	JournalSeq uint64
	Version    ondisk.Version // 0: that of the volume
	Raw        []byte         // in the place of Keys, as they are stored
}

// Node is a btree node to be written. Zero values mean what the comments say.
type Node struct {
	Btree    ondisk.BtreeID
	Level    int
	Min, Max ondisk.Pos // Max zero: SPosMax
	Seq      uint64     // a fresh identity
	NodeSeq  uint32
	Records  []Record
	Format   *ondisk.BkeyFormat // computed from the keys
	Devs     []uint8            // member 0
	// Csum of all records; nil: that of the volume.
	Csum *ondisk.CsumType
	// Header may change the header of the first record before it is summed.
	Header func(*ondisk.NodeHeader)
	// Bset may change the header of a record before it is summed.
	Bset func(i int, b *ondisk.Bset)
	// Ptr may change the pointer that Write gives.
	Ptr func(*ondisk.BtreePtr)
	// Damage may change the bytes of the node after it is summed.
	Damage func(b []byte)
	// Size of the region that is written; the volume's node size.
	Sectors int
}

// Write stores a node on its members and gives the key that points to it.
func (v *Volume) Write(n Node) ondisk.KV {
	if n.Max == (ondisk.Pos{}) {
		n.Max = ondisk.SPosMax
	}
	if n.Seq == 0 {
		n.Seq = v.identity()
	}
	if len(n.Devs) == 0 {
		n.Devs = []uint8{0}
	}
	if len(n.Records) == 0 {
		n.Records = []Record{{}}
	}
	if n.Sectors == 0 {
		n.Sectors = int(v.Node)
	}
	b, written := v.EncodeNode(n)
	pieces := v.last
	if n.Damage != nil {
		n.Damage(b)
	}
	p := ondisk.BtreePtr{V2: true, Seq: n.Seq, SectorsWritten: uint16(written), MinKey: n.Min}
	for _, d := range n.Devs {
		s := v.take(int(d), uint64(v.Node), true)
		v.write(int(d), s, b)
		for _, x := range pieces {
			x.Dev, x.Off = int(d), x.Off+int64(s)*512
			v.Pieces = append(v.Pieces, x)
		}
		p.Ptrs = append(p.Ptrs, ondisk.Ptr{Dev: d, Offset: s})
	}
	if n.Ptr != nil {
		n.Ptr(&p)
	}
	return PtrKey(p, n.Max)
}

// PtrKey is the key of a node pointer.
func PtrKey(p ondisk.BtreePtr, max ondisk.Pos) ondisk.KV {
	kv := ondisk.KV{Key: ondisk.Key{Type: ondisk.KeyBtreePtrV2, Pos: max}, Val: p.Append(nil)}
	if !p.V2 {
		kv.Type = ondisk.KeyBtreePtr
	}
	return kv
}

// EncodeNode gives the bytes of a node, n.Sectors of them, and how many sectors
// its records take.
func (v *Volume) EncodeNode(n Node) (b []byte, written int) {
	f := n.Format
	if f == nil {
		fb := ondisk.NewFormatBuilder(n.Min, n.Max)
		for _, r := range n.Records {
			for _, k := range r.Keys {
				fb.Add(k.Key)
			}
		}
		x := fb.Format(v.Version <= ondisk.Version1_13)
		f = &x
	}
	csum := v.SB.MetaCsumType()
	if n.Csum != nil {
		csum = *n.Csum
	}
	out := make([]byte, n.Sectors*512)
	v.last = nil
	blk := int(v.Block) * 512
	off := 0
	for i, r := range n.Records {
		keys := r.Raw
		if keys == nil {
			for _, k := range r.Keys {
				keys = f.AppendKV(keys, k)
			}
		}
		bs := ondisk.Bset{Seq: n.Seq, JournalSeq: r.JournalSeq, Flags: uint32(csum) | uint32(off/512)<<16, Version: r.Version, U64s: uint16(len(keys) / 8)}
		if bs.Version == 0 {
			bs.Version = v.SB.Version
		}
		if n.Bset != nil {
			n.Bset(i, &bs)
		}
		head := ondisk.EntryHeaderSize
		var rec []byte
		if i == 0 {
			head = ondisk.NodeHeaderSize
			h := ondisk.NodeHeader{Magic: ondisk.NodeMagic(v.SB.UUID), Flags: ondisk.NodeFlags(n.Btree, n.Level, n.NodeSeq), MinKey: n.Min, MaxKey: n.Max, Format: *f, Bset: bs}
			if n.Header != nil {
				n.Header(&h)
			}
			rec = h.Append(nil)
		} else {
			rec = ondisk.EntryHeader{Bset: bs}.Append(nil)
		}
		rec = append(rec, keys...)
		v.last = append(v.last, Piece{Kind: "node", Off: int64(off), Plain: bytes.Clone(rec), seal: func(b []byte) { v.reseal(off, b) }})
		v.seal(bs.CsumType(), off, head, i == 0, bs, rec)
		if off+len(rec) > len(out) {
			panic("build: keys do not fit the node")
		}
		copy(out[off:], rec)
		off += (len(rec) + blk - 1) / blk * blk
	}
	return out, off / 512
}

// seal encrypts and sums a record in place.
func (v *Volume) seal(t ondisk.CsumType, off, head int, first bool, bs ondisk.Bset, rec []byte) {
	nonce := crypt.BtreeNonce(uint32(off), bs.Seq, bs.JournalSeq)
	if t.Encrypted() {
		if first {
			crypt.XOR(v.Key, nonce, rec[ondisk.NodeCryptStart:ondisk.NodeCryptEnd])
			crypt.XOR(v.Key, nonce.Advance(ondisk.NodeCryptEnd-ondisk.NodeCryptStart), rec[head:])
		} else {
			crypt.XOR(v.Key, nonce, rec[head:])
		}
	}
	stamp(t, v.Key, nonce, rec)
}

// reseal is seal for a record whose bytes, in the clear, were changed: what they
// say now decides.
func (v *Volume) reseal(off int, rec []byte) {
	var bs ondisk.Bset
	head := ondisk.EntryHeaderSize
	if off == 0 {
		h, err := ondisk.DecodeNodeHeader(rec)
		must(err)
		bs, head = h.Bset, ondisk.NodeHeaderSize
	} else {
		h, err := ondisk.DecodeEntryHeader(rec)
		must(err)
		bs = h.Bset
	}
	t := bs.CsumType()
	if t.Encrypted() && v.Key == nil {
		return
	}
	v.seal(t, off, head, off == 0, bs, rec[:min(len(rec), head+8*int(bs.U64s))])
}

// stamp puts the checksum of a structure that begins with one in its place.
func stamp(t ondisk.CsumType, k *crypt.Key, n crypt.Nonce, b []byte) {
	lo, hi, err := crypt.Sum(uint8(t), k, n, b[16:])
	if err != nil {
		return // an unknown type has no sum
	}
	copy(b, ondisk.Csum{Lo: lo, Hi: hi}.Append(nil))
}

// fit is how many u64s of keys a record of a node holds that has it alone.
func (v *Volume) fit() int { return min((int(v.Node)*512-ondisk.NodeHeaderSize)/8, 65535) }

// Tree writes a whole tree of sorted keys on member 0 and gives its root.
func (v *Volume) Tree(b ondisk.BtreeID, keys []ondisk.KV) Root {
	level := 0
	for {
		per := v.KeysPerLeaf
		if level > 0 {
			per = v.Fanout
		}
		groups := v.groups(keys, per)
		var up []ondisk.KV
		min := ondisk.PosMin
		for i, g := range groups {
			n := Node{Btree: b, Level: level, Min: min, Max: ondisk.SPosMax, NodeSeq: 1, Records: []Record{{Keys: g}}}
			if i+1 < len(groups) {
				n.Max = g[len(g)-1].Pos
				min = n.Max.Successor()
			}
			up = append(up, v.Write(n))
		}
		if len(up) == 1 {
			return Root{up[0], level}
		}
		keys = up
		level++
	}
}

func (v *Volume) groups(keys []ondisk.KV, per int) [][]ondisk.KV {
	var out [][]ondisk.KV
	room := v.fit()
	for start := 0; ; {
		used, i := 0, start
		for i < len(keys) && used+keys[i].U64s() <= room && (per == 0 || i-start < per) {
			used += keys[i].U64s()
			i++
		}
		out = append(out, keys[start:i])
		if start = i; start == len(keys) {
			return out
		}
	}
}
