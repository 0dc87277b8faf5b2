package build

import (
	"bytes"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/internal/csum"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Piece is a structure with a checksum of its own: a superblock copy, a record
// of a node, a journal entry.
type Piece struct {
	Kind  string // super, node, jset
	Dev   int
	Off   int64  // byte on the device
	Plain []byte // not encrypted
	seal  func([]byte)
}

// Put writes the piece with other bytes, of the same length and in the clear,
// encrypted and summed as they ask for themselves.
func (p Piece) Put(w block.Writer, plain []byte) {
	b := bytes.Clone(plain)
	p.seal(b)
	_, err := w.WriteAt(b, p.Off)
	must(err)
}

func resealSuper(b []byte) {
	n, err := ondisk.SuperblockBytes(b)
	if err != nil || n > len(b) {
		n = len(b)
	}
	lo, _ := csum.Sum(b[144]>>2&63, b[16:n])
	copy(b, ondisk.Csum{Lo: lo}.Append(nil))
}

func (v *Volume) resealJset(b []byte) {
	h, err := ondisk.DecodeJset(b)
	must(err)
	t := h.CsumType()
	if t.Encrypted() && v.Key == nil {
		return
	}
	b = b[:min(int64(len(b)), h.Bytes())]
	n := crypt.JournalNonce(h.Seq)
	if t.Encrypted() {
		crypt.XOR(v.Key, n, b[min(len(b), ondisk.JsetCryptStart):])
	}
	stamp(t, v.Key, n, b)
}
