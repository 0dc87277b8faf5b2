package build

import (
	"bytes"

	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Jset is a journal entry to be written.
type Jset struct {
	Seq, LastSeq uint64
	NoFlush      bool
	Entries      []ondisk.JsetEntry
	Raw          []byte           // a payload in the place of Entries
	Csum         *ondisk.CsumType // nil: that of the volume
	// Header may change the header before it is summed, Damage the bytes after.
	Header func(*ondisk.Jset)
	Damage func(b []byte)
}

// Keys is a sub-entry of keys of a btree at a level.
func Keys(b ondisk.BtreeID, level uint8, kvs ...ondisk.KV) ondisk.JsetEntry {
	e := ondisk.JsetEntry{Type: ondisk.EntryBtreeKeys, Btree: b, Level: level}
	for _, kv := range kvs {
		e.Data = kv.Append(e.Data)
	}
	return e
}

// Deleted is the journal's form of a key that is gone.
func Deleted(p ondisk.Pos) ondisk.KV { return ondisk.KV{Key: ondisk.Key{Pos: p}} }

// EncodeJset gives the bytes of an entry, whole blocks.
func (v *Volume) EncodeJset(j Jset) []byte {
	t := v.SB.MetaCsumType()
	if j.Csum != nil {
		t = *j.Csum
	}
	payload := bytes.Clone(j.Raw)
	for _, e := range j.Entries {
		payload = e.Append(payload)
	}
	h := ondisk.Jset{Magic: ondisk.JsetMagic(v.SB.UUID), Seq: j.Seq, LastSeq: j.LastSeq, Version: uint32(v.SB.Version), Flags: uint32(t), U64s: uint32(len(payload) / 8)}
	if j.NoFlush {
		h.Flags |= 32
		h.LastSeq = 0
	}
	if j.Header != nil {
		j.Header(&h)
	}
	b := append(h.Append(nil), payload...)
	b = b[:min(int64(len(b)), max(h.Bytes(), ondisk.JsetHeaderSize))]
	v.last = []Piece{{Kind: "jset", Plain: bytes.Clone(b), seal: v.resealJset}}
	n := crypt.JournalNonce(h.Seq)
	if h.CsumType().Encrypted() {
		crypt.XOR(v.Key, n, b[ondisk.JsetCryptStart:])
	}
	stamp(h.CsumType(), v.Key, n, b)
	if j.Damage != nil {
		j.Damage(b)
	}
	blk := int(v.Block) * 512
	return append(b, make([]byte, (blk-len(b)%blk)%blk)...)
}

// PutJset writes entries one behind the other into a bucket of a member's ring,
// from a sector of it on, and gives the sector behind them.
func (v *Volume) PutJset(dev, ring int, sector uint64, js ...Jset) uint64 {
	for _, j := range js {
		b := v.EncodeJset(j)
		at := v.JournalBuckets()[ring]*uint64(v.Bucket) + sector
		v.write(dev, at, b)
		x := v.last[0]
		x.Dev, x.Off = dev, int64(at)*512
		v.Pieces = append(v.Pieces, x)
		sector += uint64(len(b) / 512)
	}
	return sector
}

// Unclean marks the volume as one whose machine lost power.
func (v *Volume) Unclean() { v.SB.SetClean(false) }
