// Package crypt is the encryption of the format (chapter 05 section 10):
// ChaCha20 over what is stored, a Poly1305 MAC in the place of the checksum,
// and the superblock's crypt field that keeps the master key.
//
// Every encrypted thing has its Nonce, made by one of the constructors from
// fields that are stored in the clear beside it. Encrypt first, then MAC the
// ciphertext; verify first, then decrypt. Whether a thing is encrypted is
// decided by its own checksum type, 3 or 4, not by the volume.
//
// Sum and Verify take all checksum types, so that callers need not know which
// of them are keyed.
//
// Nothing here retains a buffer or a key, and everything may be called from any
// goroutine.
package crypt

import (
	"encoding/binary"
	"fmt"

	// The standard construction (chacha20poly1305) frames the data before the
	// MAC and the format does not, so the bare function is needed. The marker
	// "deprecated" on it only says that there is nothing more to do with it.
	//lint:ignore SA1019 see above
	"golang.org/x/crypto/poly1305"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/csum"
)

// Key is a ChaCha20 key: the master key of a volume, or the passphrase key that
// seals it.
type Key [32]byte

// Format hides the key from every verb, so that it cannot end in a log.
func (Key) Format(f fmt.State, _ rune) { fmt.Fprint(f, "(key)") }

// MAC is the Poly1305 tag over p under the one-time key of (k, n), which is the
// keystream with the poly bit flipped in n (chapter 05 section 10.3). Checksum
// type 4 stores all of it, type 3 the first ten bytes.
func MAC(k *Key, n Nonce, p []byte) (tag [16]byte) {
	var once [32]byte
	n[3] ^= domainPoly
	XOR(k, n, once[:])
	poly1305.Sum(&tag, p, &once)
	return tag
}

// Sum is the checksum of any type over p, as the low and high little-endian
// halves of the stored 16 bytes; bytes that the type does not store are zero.
// k and n matter for the keyed types 3 and 4 only; k may be nil otherwise. A
// keyed type without a key is ErrLocked, an unknown type ErrCorrupt.
func Sum(t uint8, k *Key, n Nonce, p []byte) (lo, hi uint64, err error) {
	switch t {
	case csum.Poly1305_80, csum.Poly1305_128:
		if k == nil {
			return 0, 0, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrLocked}
		}
		tag := MAC(k, n, p)
		lo, hi = binary.LittleEndian.Uint64(tag[:]), binary.LittleEndian.Uint64(tag[8:])
		if t == csum.Poly1305_80 {
			hi &= 0xffff
		}
		return lo, hi, nil
	}
	lo, ok := csum.Sum(t, p)
	if !ok {
		return 0, 0, errs.Corruptf("unknown checksum type", "%d", t)
	}
	return lo, 0, nil
}

// Verify compares the checksum of p with the stored one, all 16 bytes of it:
// of type 0 (none) the field must be zero. A mismatch is ErrChecksum with the
// stored value as Want and the computed one as Got; its Reason and Where are
// left to the caller. Other errors are those of Sum.
func Verify(t uint8, k *Key, n Nonce, p []byte, lo, hi uint64) error {
	gotLo, gotHi, err := Sum(t, k, n, p)
	if err != nil {
		return err
	}
	if gotLo != lo || gotHi != hi {
		return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrChecksum, Want: sumString(lo, hi), Got: sumString(gotLo, gotHi)}
	}
	return nil
}

// sumString prints a checksum as one number, the high half only where it is set.
func sumString(lo, hi uint64) string {
	if hi == 0 {
		return fmt.Sprintf("%#x", lo)
	}
	return fmt.Sprintf("%#x%016x", hi, lo)
}
