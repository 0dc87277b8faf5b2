package crypt

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/scrypt"

	"github.com/gobcachefs/gobcachefs/errs"
)

// SealedSize is the size of a sealed key in the superblock's crypt field: eight
// bytes of magic and the master key, together encrypted or together plain.
const SealedSize = 40

// sealMagic tells an open key from a sealed one, and a right key from a wrong.
const sealMagic = "bch**key"

// DefaultKDFFlags is the cost of the scrypt that format uses: N 2^14, r 2^3,
// p 2^4, about half a second.
const DefaultKDFFlags = 14 | 3<<16 | 4<<32

// Limits of the cost of scrypt. The numbers come from a superblock that nothing
// but an unkeyed checksum protects, so they are bounded before they are obeyed.
const (
	maxKDFMemory = 1 << 30 // bytes held at once
	maxKDFWork   = 1 << 33 // bytes mixed, 32 times the default
)

// kdfSalt is the word with its terminating zero.
var kdfSalt = []byte("bcache\x00")

// DeriveKey makes the passphrase key from a passphrase (chapter 05 section
// 10.2), which is taken as it is: cutting the end of line is the caller's. The
// cost is kdf_flags of the crypt field: log2 of N in bits 0..15, of r in 16..31,
// of p in 32..47. Costs over 1 GiB of memory or 32 times the default work are
// ErrUnsupported.
func DeriveKey(passphrase []byte, kdfFlags uint64) (Key, error) {
	logN, logR, logP := kdfFlags&0xffff, kdfFlags>>16&0xffff, kdfFlags>>32&0xffff
	// Each is below 2^16, so that the sums cannot overflow.
	if logN < 1 || scryptBytes(logN, logR)+scryptBytes(logR, logP) > maxKDFMemory || scryptBytes(logN, logR, logP) > maxKDFWork {
		return Key{}, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUnsupported, Reason: "cost of the key derivation",
			Got: fmt.Sprintf("scrypt N 2^%d, r 2^%d, p 2^%d", logN, logR, logP)}
	}
	b, err := scrypt.Key(passphrase, kdfSalt, 1<<logN, 1<<logR, 1<<logP, len(Key{}))
	if err != nil {
		return Key{}, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUnsupported, Reason: "cost of the key derivation", Cause: err}
	}
	return Key(b), nil
}

// scryptBytes is 128 bytes times the powers of two whose logarithms are given,
// or something over every limit.
func scryptBytes(logs ...uint64) uint64 {
	sum := uint64(7)
	for _, l := range logs {
		sum += l
	}
	return 1 << min(sum, 60)
}

// IsPlain says that the key field stores the master key in the clear, as after
// `--no_passphrase`.
func IsPlain(sealed *[SealedSize]byte) bool { return string(sealed[:len(sealMagic)]) == sealMagic }

// OpenKey takes the master key out of a key field (chapter 05 section 10.2).
// uuid is the internal one of the superblock. A key in the clear needs no
// passKey and ignores it; a sealed one is ErrLocked without passKey and
// ErrPassphrase with a wrong one.
func OpenKey(sealed *[SealedSize]byte, passKey *Key, uuid [16]byte) (Key, error) {
	s := *sealed
	if !IsPlain(&s) {
		if passKey == nil {
			return Key{}, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrLocked}
		}
		XOR(passKey, sealNonce(uuid), s[:])
		if !IsPlain(&s) {
			return Key{}, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrPassphrase}
		}
	}
	return Key(s[len(sealMagic):]), nil
}

// SealKey is the inverse of OpenKey: the key field for master sealed with
// passKey, or in the clear if passKey is nil.
func SealKey(master, passKey *Key, uuid [16]byte) (sealed [SealedSize]byte) {
	copy(sealed[:], sealMagic)
	copy(sealed[len(sealMagic):], master[:])
	if passKey != nil {
		XOR(passKey, sealNonce(uuid), sealed[:])
	}
	return sealed
}

func sealNonce(uuid [16]byte) Nonce {
	return Nonce{0, 0, binary.LittleEndian.Uint32(uuid[0:]), binary.LittleEndian.Uint32(uuid[4:])}
}

// Random fills b from the system's randomness.
func Random(b []byte) error {
	_, err := rand.Read(b)
	return err
}
