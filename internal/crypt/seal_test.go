package crypt

import (
	"errors"
	"testing"

	"github.com/gobcachefs/gobcachefs/errs"
)

// TestDeriveKeyVectors is chapter 05 section 20.3.
func TestDeriveKeyVectors(t *testing.T) {
	for _, c := range []struct{ pass, want string }{
		{"password", "4cdc353befc856bc289ee68e6354280283ec016193749ee010229d70a19d2d50"},
		{"", "e553a65ad97a36b16599ceed675e26791207ddfd35939be0a2d21f74c7d7ec17"},
	} {
		k, err := DeriveKey([]byte(c.pass), DefaultKDFFlags)
		if err != nil {
			t.Fatalf("DeriveKey(%q) = %v", c.pass, err)
		}
		checkHex(t, "DeriveKey("+c.pass+")", k[:], c.want)
	}
	// Bits above p mean nothing.
	cheap := uint64(4 | 1<<16 | 1<<32)
	a, errA := DeriveKey([]byte("x"), cheap)
	b, errB := DeriveKey([]byte("x"), cheap|0xabcd<<48)
	if errA != nil || errB != nil || a != b {
		t.Errorf("DeriveKey with bits 48..63 = %x, %v, want %x, %v", b[:], errB, a[:], errA)
	}
}

func TestDeriveKeyLimits(t *testing.T) {
	flags := func(n, r, p uint64) uint64 { return n | r<<16 | p<<32 }
	for _, c := range []struct {
		name  string
		flags uint64
	}{
		{"N 1", flags(0, 3, 4)},
		{"N over memory", flags(21, 3, 0)},
		{"r over memory", flags(2, 22, 0)},
		{"p over memory", flags(1, 10, 14)},
		{"both halves of memory", flags(12, 11, 12)},
		{"too much work", flags(14, 3, 10)},
		{"all ones", 1<<64 - 1},
		{"N of 2^65535", flags(65535, 0, 0)},
		{"r of 2^65535", flags(1, 65535, 0)},
		{"p of 2^65535", flags(1, 0, 65535)},
	} {
		if _, err := DeriveKey([]byte("x"), c.flags); !errors.Is(err, errs.ErrUnsupported) {
			t.Errorf("DeriveKey(%s) = %v, want ErrUnsupported", c.name, err)
		}
	}
}

// TestOpenRealKey opens the crypt field of the real volume of chapter 05
// section 20.3.
func TestOpenRealKey(t *testing.T) {
	uuid := [16]byte(unhex(t, "43570b30ca644829bb9d6b73d9b4b3b4"))
	sealed := [SealedSize]byte(unhex(t, "debd888da000a7d1b4a791594dd38baa082b678304b3a948989fc282f4f60426278ba3ccb7da39f5"))
	if got, want := sealNonce(uuid), (Nonce{0, 0, 0x300b5743, 0x294864ca}); got != want {
		t.Errorf("sealNonce = %x, want %x", got, want)
	}
	pass, err := DeriveKey([]byte("hunter2"), 0x000400030000+14)
	if err != nil {
		t.Fatal(err)
	}
	checkHex(t, "DeriveKey(hunter2)", pass[:], "192a226411a410eaeed7d625ba84f7b378684608955b97fcc9b81fe8839e2888")
	got, err := OpenKey(&sealed, &pass, uuid)
	if err != nil {
		t.Fatalf("OpenKey = %v", err)
	}
	checkHex(t, "OpenKey", got[:], k1)
	if again := SealKey(&got, &pass, uuid); again != sealed {
		t.Errorf("SealKey = %x, want %x", again, sealed)
	}

	if IsPlain(&sealed) {
		t.Error("IsPlain(sealed) = true, want false")
	}
	wrong := pass
	wrong[31] ^= 1
	if k, err := OpenKey(&sealed, &wrong, uuid); !errors.Is(err, errs.ErrPassphrase) || k != (Key{}) {
		t.Errorf("OpenKey(wrong key) = %x, %v, want no key, ErrPassphrase", k[:], err)
	}
	if _, err := OpenKey(&sealed, &pass, [16]byte{}); !errors.Is(err, errs.ErrPassphrase) {
		t.Errorf("OpenKey(wrong uuid) = %v, want ErrPassphrase", err)
	}
	if _, err := OpenKey(&sealed, nil, uuid); !errors.Is(err, errs.ErrLocked) {
		t.Errorf("OpenKey(no key) = %v, want ErrLocked", err)
	}
	if got := sealed; got != [SealedSize]byte(unhex(t, "debd888da000a7d1b4a791594dd38baa082b678304b3a948989fc282f4f60426278ba3ccb7da39f5")) {
		t.Error("OpenKey changed the field it was given")
	}
}

func TestSealSynthetic(t *testing.T) {
	uuid := [16]byte(unhex(t, "000102030405060708090a0b0c0d0e0f"))
	pass := keyOf(t, "4cdc353befc856bc289ee68e6354280283ec016193749ee010229d70a19d2d50")
	sealed := SealKey(keyOf(t, kCount), pass, uuid)
	checkHex(t, "SealKey", sealed[:], "179bdf32680eda3aa9f8151fd98edd51a4c7b9e39252c893bb2843a6e7bad3ad3cbfea08749fa631")
}

func TestPlainKey(t *testing.T) {
	master := keyOf(t, k1)
	field := SealKey(master, nil, [16]byte{1})
	checkHex(t, "SealKey(no passphrase)", field[:], "6263682a2a6b6579"+k1)
	if !IsPlain(&field) {
		t.Error("IsPlain = false, want true")
	}
	for _, pass := range []*Key{nil, keyOf(t, kCount)} {
		if got, err := OpenKey(&field, pass, [16]byte{2}); err != nil || got != *master {
			t.Errorf("OpenKey(plain) = %x, %v, want %s, nil", got[:], err, k1)
		}
	}
}
