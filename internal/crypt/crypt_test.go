package crypt

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand"
	"testing"

	"golang.org/x/crypto/chacha20"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/csum"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatalf("DecodeString(%q): %v", s, err)
	}
	return b
}

func keyOf(t testing.TB, s string) *Key {
	t.Helper()
	k := Key(unhex(t, s))
	return &k
}

// defaultKernel is useKernel as the machine allows it.
var defaultKernel = useKernel

// k1 is K1 of chapter 05 section 20.3, the master key of a real volume.
const k1 = "ae122a4ec98c7d885419c3f7ee72c2e8ab10802dfa8231cffa956b8dcbb450b5"

// kCount is the key of the made-up vectors.
const kCount = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

func nonceBytes(n Nonce) string {
	var b []byte
	for _, w := range n {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return hex.EncodeToString(b)
}

func keystream(k *Key, n Nonce, size int) []byte {
	p := make([]byte, size)
	XOR(k, n, p)
	return p
}

func checkHex(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	if g := hex.EncodeToString(got); g != want {
		t.Errorf("%s = %s, want %s", what, g, want)
	}
}

// TestExtentVectors is chapter 05 section 20.4.
func TestExtentVectors(t *testing.T) {
	const lo, hi = 0x1122334455667788, 0x99
	for _, c := range []struct {
		comp        uint8
		size, nonce uint32
		iv, stream  string
	}{
		{0, 1, 0, "00000000887766554433221199000010", ""},
		{4, 128, 0, "00000020887766554433221199000014", "d361f85892fb5e086f69866e0deeff3a0237d68a8d5cf5a7835ea9f308140643"},
		{0, 128, 40, "40010000887766554433221199000010", "eb9640821faef26d0b209088ebf8177312b97452ac37b70d479a37158c74cbcf"},
		{5, 128, 3, "18000000887766554433221199000010", ""},
	} {
		n := ExtentNonce(hi, lo, c.comp, c.size, c.nonce)
		name := fmt.Sprintf("ExtentNonce(comp %d, size %d, nonce %d)", c.comp, c.size, c.nonce)
		if got := nonceBytes(n); got != c.iv {
			t.Errorf("%s = %s, want %s", name, got, c.iv)
		}
		if c.stream != "" {
			checkHex(t, "keystream of "+name, keystream(keyOf(t, kCount), n, 32), c.stream)
		}
	}
	n0 := ExtentNonce(hi, lo, 0, 1, 0)
	if got, want := n0.Advance(40*512), ExtentNonce(hi, lo, 0, 1, 40); got != want {
		t.Errorf("Advance(40 sectors) = %x, want %x", got, want)
	}

	p := make([]byte, 512)
	for i := range p {
		p[i] = byte(i)
	}
	k := keyOf(t, kCount)
	XOR(k, n0, p)
	checkHex(t, "ciphertext[0:32]", p[:32], "4947e602e53acd0d922d1a6077b9430b938f86924052282452599b83b057a2e9")
	checkHex(t, "ciphertext[64:80]", p[64:80], "abb8fd739f66b0cfe6a2858272a285de")
	poly := n0
	poly[3] ^= 1 << 31
	checkHex(t, "Poly1305 key", keystream(k, poly, 32), "4f28eb029ab95e03a00c1d067a0901b8561d1ec85d46d0e9f50a1eaeac95e29a")
	tag := MAC(k, n0, p)
	checkHex(t, "tag", tag[:], "fd8a2ed8d7cadf7b85b28d181c8d9b92")
}

// TestRealExtent is the first vector of chapter 05 section 20.4: a blob of a
// real volume.
func TestRealExtent(t *testing.T) {
	k := keyOf(t, k1)
	n := ExtentNonce(0, 1, 0, 8, 0)
	if want := (Nonce{0, 1, 0, 0x10000000}); n != want {
		t.Errorf("ExtentNonce(version 1) = %x, want %x", n, want)
	}
	p := make([]byte, 4096)
	copy(p, "hello inline")
	plain := bytes.Clone(p)
	XOR(k, n, p)
	checkHex(t, "ciphertext[:32]", p[:32], "d5bbabb6bb8adf73bdd2f64f685c0b606cee7df73494cc3c365ee55949819cfa")
	checkHex(t, "ciphertext[4080:]", p[4080:], "599d0929191fe95ded3bc5ef31980913")
	tag := MAC(k, n, p)
	checkHex(t, "tag", tag[:], "1cdbe075cae30c95364fdda6fc748714")

	// The crc64 entry 3c7000000003364f 1cdbe075cae30c95 stores it as type 3.
	entry := unhex(t, "3c7000000003364f1cdbe075cae30c95")
	wantLo, wantHi := binary.LittleEndian.Uint64(entry[8:]), binary.LittleEndian.Uint64(entry)>>48
	if lo, hi, err := Sum(csum.Poly1305_80, k, n, p); lo != wantLo || hi != wantHi || err != nil {
		t.Errorf("Sum(3) = %#x, %#x, %v, want %#x, %#x, nil", lo, hi, err, wantLo, wantHi)
	}
	if err := Verify(csum.Poly1305_80, k, n, p, wantLo, wantHi); err != nil {
		t.Errorf("Verify(3) = %v, want nil", err)
	}
	if lo, hi, err := Sum(csum.Poly1305_128, k, n, p); lo != wantLo || hi != 0x148774fca6dd4f36 || err != nil {
		t.Errorf("Sum(4) = %#x, %#x, %v, want %#x, 0x148774fca6dd4f36, nil", lo, hi, err, wantLo)
	}

	// A part of the blob by itself.
	part := bytes.Clone(p[512:1536])
	XOR(k, n.Advance(512), part)
	if !bytes.Equal(part, plain[512:1536]) {
		t.Errorf("XOR of sectors 1..2 = %x…, want %x…", part[:16], plain[512:528])
	}
}

// TestBtreeVectors is chapter 05 section 20.5.
func TestBtreeVectors(t *testing.T) {
	k := keyOf(t, k1)
	rec := unhex(t, "ef573eddc1b2cad746f8646399321c4f1e6c339a3e2318fb020000000000000004000800"+"0d045000"+
		"50ce9599c0857c24815a4489d4e21663e3ce4dfec7658a03")
	n := BtreeNonce(4096, binary.LittleEndian.Uint64(rec[16:]), binary.LittleEndian.Uint64(rec[24:]))
	if want := (Nonce{0x1000, 0x9a336c1e, 0xfb18233e, 0x20000002}); n != want {
		t.Errorf("BtreeNonce(4096) = %x, want %x", n, want)
	}
	poly := n
	poly[3] ^= 1 << 31
	checkHex(t, "MAC key", keystream(k, poly, 32), "5aa5972488473768766d5fa25f0f052b9de1c0d1223817e7747054004460bf42")
	XOR(k, n, rec[40:])
	checkHex(t, "keys", rec[40:], "0801060001000000000000000000000008000000ffffffff")

	head := unhex(t, "596bd1d6b28ad6bc75361e3330c829379330b789bdb3b92d9da268a04392f4a9362bf6ffe169259d")
	n = BtreeNonce(0, 0xfb18233e9a336c1e, 0)
	if want := (Nonce{0, 0x9a336c1e, 0xfb18233e, 0x20000000}); n != want {
		t.Errorf("BtreeNonce(0) = %x, want %x", n, want)
	}
	XOR(k, n, head)
	checkHex(t, "node header", head, "0001000001000000"+"0000000000000000000000000000000000000000"+"ffffffffffffffffffffffff")
	if got, want := n.Advance(112), (Nonce{2, 0x9a336c1e, 0xfb18233e, 0x20000000}); got != want {
		t.Errorf("Advance(112) = %x, want %x", got, want)
	}
}

func TestJournalVector(t *testing.T) {
	n := JournalNonce(0x123456789)
	if got, want := nonceBytes(n), "00000000896745230100000000000030"; got != want {
		t.Errorf("JournalNonce(0x123456789) = %s, want %s", got, want)
	}
	checkHex(t, "keystream", keystream(keyOf(t, kCount), n, 32), "bb1dce7d8a4ee062816cea5d25a0232e94056efd22ebc2062604edfdac684b71")
}

// rfcBlock is the ChaCha20 block function of RFC 8439 section 2.3, word by word.
func rfcBlock(k *Key, n Nonce) (out [64]byte) {
	var s [16]uint32
	s[0], s[1], s[2], s[3] = 0x61707865, 0x3320646e, 0x79622d32, 0x6b206574
	for i := range 8 {
		s[4+i] = binary.LittleEndian.Uint32(k[4*i:])
	}
	copy(s[12:], n[:])
	x := s
	qr := func(a, b, c, d int) {
		rot := func(v uint32, r int) uint32 { return v<<r | v>>(32-r) }
		x[a] += x[b]
		x[d] = rot(x[d]^x[a], 16)
		x[c] += x[d]
		x[b] = rot(x[b]^x[c], 12)
		x[a] += x[b]
		x[d] = rot(x[d]^x[a], 8)
		x[c] += x[d]
		x[b] = rot(x[b]^x[c], 7)
	}
	for range 10 {
		qr(0, 4, 8, 12)
		qr(1, 5, 9, 13)
		qr(2, 6, 10, 14)
		qr(3, 7, 11, 15)
		qr(0, 5, 10, 15)
		qr(1, 6, 11, 12)
		qr(2, 7, 8, 13)
		qr(3, 4, 9, 14)
	}
	for i := range x {
		binary.LittleEndian.PutUint32(out[4*i:], x[i]+s[i])
	}
	return out
}

// TestXORAgainstRFC compares every length, at counters that wrap and that do
// not, with the block function of the RFC; bytes outside of p stay as they are.
func TestXORAgainstRFC(t *testing.T) {
	defer func(k bool) { useKernel = k }(useKernel)
	testXORAgainstRFC(t)
	useKernel = false
	testXORAgainstRFC(t)
}

func testXORAgainstRFC(t *testing.T) {
	t.Helper()
	k := keyOf(t, k1)
	const guard, maxSize = 70, 1700
	for _, counter := range []uint32{0, 1, 0x20000000, 1<<32 - 9, 1<<32 - 1} {
		n := Nonce{counter, 0x01234567, 0x89abcdef, 0xfedcba98}
		var stream []byte
		for b := n; len(stream) < maxSize; b[0]++ {
			block := rfcBlock(k, b)
			stream = append(stream, block[:]...)
		}
		for size := range maxSize {
			buf := bytes.Repeat([]byte{0x5a}, guard+size+guard)
			want := bytes.Clone(buf)
			for i := range size {
				buf[guard+i], want[guard+i] = byte(i*7), byte(i*7)^stream[i]
			}
			XOR(k, n, buf[guard:guard+size])
			if !bytes.Equal(buf, want) {
				for i := range buf {
					if buf[i] != want[i] {
						t.Fatalf("XOR(n %x, %d bytes, kernel %v) byte %d = %#x, want %#x", n, size, useKernel, i-guard, buf[i], want[i])
					}
				}
			}
		}
	}
}

// TestXORRandom compares with the library on random keys, nonces, sizes and
// alignments.
func TestXORRandom(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	for range 300 {
		var k Key
		rng.Read(k[:])
		n := Nonce{rng.Uint32() >> 1, rng.Uint32(), rng.Uint32(), rng.Uint32()}
		off := rng.Intn(64)
		p := make([]byte, off+rng.Intn(6000))
		rng.Read(p)
		want := bytes.Clone(p)
		libraryXOR(t, &k, n, want[off:])
		XOR(&k, n, p[off:])
		if !bytes.Equal(p, want) {
			t.Fatalf("XOR(k %x, n %x, %d bytes at %d) differs from the library", k[:], n, len(p)-off, off)
		}
	}
}

func libraryXOR(t *testing.T, k *Key, n Nonce, p []byte) {
	t.Helper()
	var nb [12]byte
	for i, w := range n[1:] {
		binary.LittleEndian.PutUint32(nb[4*i:], w)
	}
	c, err := chacha20.NewUnauthenticatedCipher(k[:], nb[:])
	if err != nil {
		t.Fatal(err)
	}
	c.SetCounter(n[0])
	c.XORKeyStream(p, p)
}

// TestXORAgainstLibrary compares long runs with the library's cipher, and MAC
// with the standard construction taken apart.
func TestXORAgainstLibrary(t *testing.T) {
	k := keyOf(t, kCount)
	for _, size := range []int{1, 511, 512, 4096, 65536, 1<<20 + 17} {
		n := Nonce{77, 1, 2, 3}
		p := make([]byte, size)
		for i := range p {
			p[i] = byte(i * i >> 3)
		}
		want := bytes.Clone(p)
		libraryXOR(t, k, n, want)
		XOR(k, n, p)
		if !bytes.Equal(p, want) {
			t.Errorf("XOR(%d bytes) differs from the library", size)
		}
	}

	// With d0 = 0 the one-time key of the RFC construction is that of ours with
	// the poly bit flipped back, and the RFC pads and appends the lengths.
	aead, err := chacha20poly1305.New(k[:])
	if err != nil {
		t.Fatal(err)
	}
	var nb [12]byte
	binary.LittleEndian.PutUint32(nb[8:], 5)
	sealed := aead.Seal(nil, nb[:], make([]byte, 100), nil)
	msg := append(bytes.Clone(sealed[:100]), make([]byte, 12)...)
	msg = binary.LittleEndian.AppendUint64(msg, 0)
	msg = binary.LittleEndian.AppendUint64(msg, 100)
	tag := MAC(k, Nonce{0, 0, 0, 5 ^ 1<<31}, msg)
	if !bytes.Equal(tag[:], sealed[100:]) {
		t.Errorf("MAC = %x, want %x", tag, sealed[100:])
	}
}

func TestSumAndVerify(t *testing.T) {
	k := keyOf(t, kCount)
	n := JournalNonce(9)
	p := []byte("some bytes of a volume")
	for typ := uint8(0); typ < csum.NrTypes; typ++ {
		lo, hi, err := Sum(typ, k, n, p)
		if err != nil {
			t.Errorf("Sum(%d) = %v, want nil", typ, err)
			continue
		}
		if want, ok := csum.Sum(typ, p); ok && (lo != want || hi != 0) {
			t.Errorf("Sum(%d) = %#x, %#x, want %#x, 0", typ, lo, hi, want)
		}
		if err := Verify(typ, k, n, p, lo, hi); err != nil {
			t.Errorf("Verify(%d) = %v, want nil", typ, err)
		}
		for bit := range 128 {
			l, h := lo, hi
			if bit < 64 {
				l ^= 1 << bit
			} else {
				h ^= 1 << (bit - 64)
			}
			err := Verify(typ, k, n, p, l, h)
			if !errors.Is(err, errs.ErrChecksum) || !errors.Is(err, errs.ErrCorrupt) {
				t.Fatalf("Verify(%d) with bit %d flipped = %v, want ErrChecksum", typ, bit, err)
			}
			var e *errs.Error
			if errors.As(err, &e); e.Want != sumString(l, h) || e.Got != sumString(lo, hi) {
				t.Fatalf("Verify(%d) wants %s and got %s, want %s and %s", typ, e.Want, e.Got, sumString(l, h), sumString(lo, hi))
			}
		}
		if typ != csum.None {
			bad := bytes.Clone(p)
			bad[3] ^= 4
			if err := Verify(typ, k, n, bad, lo, hi); !errors.Is(err, errs.ErrChecksum) {
				t.Errorf("Verify(%d) of changed bytes = %v, want ErrChecksum", typ, err)
			}
		}
		keyed := typ == csum.Poly1305_80 || typ == csum.Poly1305_128
		if _, _, err := Sum(typ, nil, n, p); errors.Is(err, errs.ErrLocked) != keyed {
			t.Errorf("Sum(%d) without a key = %v, want ErrLocked: %v", typ, err, keyed)
		}
		if err := Verify(typ, nil, n, p, lo, hi); errors.Is(err, errs.ErrLocked) != keyed {
			t.Errorf("Verify(%d) without a key = %v, want ErrLocked: %v", typ, err, keyed)
		}
	}
	for _, typ := range []uint8{8, 255} {
		if _, _, err := Sum(typ, k, n, p); !errors.Is(err, errs.ErrCorrupt) {
			t.Errorf("Sum(%d) = %v, want ErrCorrupt", typ, err)
		}
		if err := Verify(typ, k, n, p, 0, 0); !errors.Is(err, errs.ErrCorrupt) || errors.Is(err, errs.ErrChecksum) {
			t.Errorf("Verify(%d) = %v, want ErrCorrupt and not ErrChecksum", typ, err)
		}
	}
	if got, want := sumString(0x1cdb, 0x36), "0x360000000000001cdb"; got != want {
		t.Errorf("sumString(0x1cdb, 0x36) = %s, want %s", got, want)
	}
}

func TestKeyDoesNotPrint(t *testing.T) {
	k := keyOf(t, k1)
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%d", "%s", "%q"} {
		if got := fmt.Sprintf(verb, *k); got != "(key)" {
			t.Errorf("Sprintf(%q, key) = %s, want (key)", verb, got)
		}
		if got := fmt.Sprintf(verb, k); got != "(key)" {
			t.Errorf("Sprintf(%q, &key) = %s, want (key)", verb, got)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	k, p := keyOf(t, kCount), make([]byte, 4096)
	for _, c := range []struct {
		name string
		max  float64
		f    func()
	}{
		{"XOR", 0, func() { XOR(k, Nonce{1, 2, 3, 4}, p) }},
		{"XOR tail", 0, func() { XOR(k, Nonce{1, 2, 3, 4}, p[:1000]) }},
		// The plain Go version of Poly1305 takes one.
		{"MAC", 1, func() { MAC(k, Nonce{1, 2, 3, 4}, p) }},
		{"Verify(0)", 0, func() { _ = Verify(0, nil, Nonce{}, p, 0, 0) }},
	} {
		if n := testing.AllocsPerRun(20, c.f); n > c.max {
			t.Errorf("%s allocates %v times, want at most %v", c.name, n, c.max)
		}
	}
}

func BenchmarkXOR(b *testing.B) {
	defer func(k bool) { useKernel = k }(useKernel)
	b.Run("library", func(b *testing.B) {
		useKernel = false
		k, p := keyOf(b, kCount), make([]byte, 65536)
		b.SetBytes(int64(len(p)))
		for b.Loop() {
			XOR(k, Nonce{0x20000000, 2, 3, 4}, p)
		}
	})
	useKernel = defaultKernel
	for _, size := range []int{64, 512, 4096, 65536} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			k, p := keyOf(b, kCount), make([]byte, size)
			b.SetBytes(int64(size))
			for b.Loop() {
				XOR(k, Nonce{0x20000000, 2, 3, 4}, p)
			}
		})
	}
}

func BenchmarkMAC(b *testing.B) {
	k, p := keyOf(b, kCount), make([]byte, 65536)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		MAC(k, Nonce{1, 2, 3, 4}, p)
	}
}
