package crypt

import (
	"encoding/binary"

	"golang.org/x/crypto/chacha20"
)

const (
	blockSize = 64            // bytes of keystream for one count of the nonce's first word
	groupSize = 8 * blockSize // what the kernel for amd64 does at once: a sector
)

// XOR encrypts or decrypts p in place: the keystream of (k, n) is xored to it
// from its first block on, the counter n[0] wrapping within its 32 bits.
//
// The library has no assembly for amd64, and a round of plain Go costs what it
// costs; a kernel of ours does whole sectors there.
func XOR(k *Key, n Nonce, p []byte) {
	if done := xorGroups(k, n, p); done > 0 {
		p = p[done:]
		n = n.Advance(done)
	}
	var b [12]byte
	binary.LittleEndian.PutUint32(b[0:], n[1])
	binary.LittleEndian.PutUint32(b[4:], n[2])
	binary.LittleEndian.PutUint32(b[8:], n[3])
	for len(p) > 0 {
		// The library refuses to let the counter wrap; stop there and go on at 0.
		part := p
		if room := (1<<32 - uint64(n[0])) * blockSize; uint64(len(p)) > room {
			part = p[:room]
		}
		c, err := chacha20.NewUnauthenticatedCipher(k[:], b[:])
		if err != nil {
			panic(err) // invariant: only for a wrong length of key or nonce, which are constants here
		}
		c.SetCounter(n[0])
		c.XORKeyStream(part, part)
		p = p[len(part):]
		n[0] = 0
	}
}

// initialState is the state that the rounds of the first block begin with.
func initialState(k *Key, n Nonce) [16]uint32 {
	s := [16]uint32{0x61707865, 0x3320646e, 0x79622d32, 0x6b206574}
	for i := range 8 {
		s[4+i] = binary.LittleEndian.Uint32(k[4*i:])
	}
	copy(s[12:], n[:])
	return s
}
