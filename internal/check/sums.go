package check

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"sync/atomic"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// hasher makes keyed sums of positions and values. Equal sets of keys have equal
// sums; the key is random, so that no volume can be made to have equal sums of
// different sets.
type hasher [8]uint64

func newHasher() (h hasher) {
	for i := range h {
		h[i] = rand.Uint64() | 1
	}
	return h
}

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// words hashes up to seven words.
func (h *hasher) words(ws ...uint64) uint64 {
	x := h[7]
	for i, w := range ws {
		x = mix(x^w^h[i], h[6]^uint64(i)+0x9e3779b97f4a7c15)
		x ^= mix(w+h[i], h[(i+3)&7])
	}
	return mix(x^h[5], h[4])
}

// backpointer hashes a backpointer; val may be longer than it should be.
func (h *hasher) backpointer(p ondisk.Pos, val []byte) uint64 {
	le := binary.LittleEndian
	x := h.words(p.Inode, p.Offset, le.Uint64(val), le.Uint64(val[8:]), le.Uint64(val[16:]), le.Uint64(val[24:]))
	if len(val) != 32 || p.Snapshot != 0 {
		x += h.words(uint64(len(val)), uint64(p.Snapshot))
	}
	return x
}

// Kinds of index entries, in the sums.
const (
	sumFree = iota + 1
	sumDiscard
	sumLRU
	sumStripeRef
)

func (h *hasher) index(kind int, p ondisk.Pos) uint64 {
	return h.words(uint64(kind), p.Inode, p.Offset, uint64(p.Snapshot))
}

// sumTable compares two big sets of things, each of which is found on its own on
// either side: a sum for each of many parts of the key space.
type sumTable struct {
	h     *hasher
	parts []uint64
}

func newSumTable(h *hasher, n int) *sumTable { return &sumTable{h, make([]uint64, n)} }

func (t *sumTable) part(key uint64) int {
	hi, _ := bits.Mul64(t.h.words(key), uint64(len(t.parts)))
	return int(hi)
}

// add adds (or with sign -1 takes away) the hash of something to the part of key.
func (t *sumTable) add(key, hash uint64, sign int) {
	if sign < 0 {
		hash = -hash
	}
	atomic.AddUint64(&t.parts[t.part(key)], hash)
}

// differ lists the parts that are not balanced.
func (t *sumTable) differ() map[int]bool {
	m := map[int]bool{}
	for i, x := range t.parts {
		if x != 0 {
			m[i] = true
		}
	}
	return m
}
