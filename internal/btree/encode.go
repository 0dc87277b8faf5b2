package btree

import (
	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// metaCsum is the checksum type of nodes that are written.
func (s *Store) metaCsum() ondisk.CsumType {
	sb := s.ws.Current()
	if sb.Encrypted() {
		return ondisk.CsumPoly1305_128
	}
	return sb.MetadataChecksum().MetaType()
}

func (s *Store) blockBytes() int { return int(s.ws.Current().BlockSize) * 512 }

// encodeNode makes the first record of a node: all its keys, sorted, no deleted
// ones. The result is whole blocks.
func (s *Store) encodeNode(h ondisk.NodeHeader, keys []ondisk.KV) ([]byte, error) {
	b := make([]byte, ondisk.NodeHeaderSize, ondisk.NodeHeaderSize+64*len(keys))
	for _, k := range keys {
		b = h.Format.AppendKV(b, zeroMem(k))
	}
	ct := s.metaCsum()
	h.Magic = ondisk.NodeMagic(s.ws.Current().UUID)
	h.Bset.Flags = uint32(ct)
	h.Bset.Version = s.ws.Current().Version
	h.Bset.U64s = uint16((len(b) - ondisk.NodeHeaderSize) / 8)
	copy(b, h.Append(nil))
	n := crypt.BtreeNonce(0, h.Bset.Seq, h.Bset.JournalSeq)
	s.ws.Encrypt(ct, n, b[ondisk.NodeCryptStart:ondisk.NodeCryptEnd])
	s.ws.Encrypt(ct, n.Advance(ondisk.NodeCryptEnd-ondisk.NodeCryptStart), b[ondisk.NodeHeaderSize:])
	sum, err := s.ws.Sum(ct, n, b[16:])
	if err != nil {
		return nil, err
	}
	copy(b, sum.Append(nil))
	return s.pad(b), nil
}

// encodeRecord makes a later record that stands at a sector of its node.
func (s *Store) encodeRecord(f *ondisk.BkeyFormat, seq, journalSeq uint64, sector int, cs []change) ([]byte, error) {
	b := make([]byte, ondisk.EntryHeaderSize, ondisk.EntryHeaderSize+64*len(cs))
	for i := range cs {
		b = f.AppendKV(b, zeroMem(cs[i].kv))
	}
	ct := s.metaCsum()
	h := ondisk.EntryHeader{Bset: ondisk.Bset{Seq: seq, JournalSeq: journalSeq, Flags: uint32(ct) | uint32(sector)<<16, Version: s.ws.Current().Version, U64s: uint16((len(b) - ondisk.EntryHeaderSize) / 8)}}
	copy(b, h.Append(nil))
	n := crypt.BtreeNonce(uint32(sector)*512, seq, journalSeq)
	s.ws.Encrypt(ct, n, b[ondisk.EntryHeaderSize:])
	sum, err := s.ws.Sum(ct, n, b[16:])
	if err != nil {
		return nil, err
	}
	copy(b, sum.Append(nil))
	return s.pad(b), nil
}

// zeroMem clears the in-memory pointer that other writers leave in node
// pointers.
func zeroMem(k ondisk.KV) ondisk.KV {
	if k.Type != ondisk.KeyBtreePtrV2 || len(k.Val) < 8 || string(k.Val[:8]) == "\x00\x00\x00\x00\x00\x00\x00\x00" {
		return k
	}
	v := append(make([]byte, 8), k.Val[8:]...)
	k.Val = v
	return k
}

func (s *Store) pad(b []byte) []byte {
	n := s.blockBytes()
	return append(b, make([]byte, (n-len(b)%n)%n)...)
}

// packedSize is an upper bound of the bytes of a key in a node with a format.
func packedSize(f *ondisk.BkeyFormat, k ondisk.KV) int {
	if f.Packs(k.Key) {
		return 8*int(f.KeyU64s) + len(k.Val)
	}
	return ondisk.KeyBytes + len(k.Val)
}

// format computes the format of a node.
func (s *Store) format(min, max ondisk.Pos, keys []ondisk.KV) ondisk.BkeyFormat {
	fb := ondisk.NewFormatBuilder(min, max)
	for i := range keys {
		fb.Add(keys[i].Key)
	}
	return fb.Format(s.caps.Version <= ondisk.Version1_13)
}
