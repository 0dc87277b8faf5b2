package csum

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"math/bits"
	"testing"

	"pgregory.net/rapid"
)

// formatText is the text T of chapter 05 section 20.
func formatText(t testing.TB) []byte {
	var b bytes.Buffer
	for i := 1; i <= 4000; i++ {
		fmt.Fprintf(&b, "line %d the quick brown fox\n", i)
	}
	sum := md5.Sum(b.Bytes())
	if got, want := hex.EncodeToString(sum[:]), "d4acdcf1544584972af2c69b05fa4caf"; got != want {
		t.Fatalf("md5(T) = %s, want %s", got, want)
	}
	return b.Bytes()
}

func padded(p []byte, n int) []byte { return append(bytes.Clone(p), make([]byte, n-len(p))...) }

func count256() []byte {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// TestVectors is the table of chapter 05 section 20.1.
func TestVectors(t *testing.T) {
	text := formatText(t)
	for _, c := range []struct {
		name                   string
		in                     []byte
		crc32c, crc32cNZ       uint64
		crc64, crc64NZ, xxhash uint64
	}{
		{"empty", nil, 0, 0, 0, 0, 0xef46db3751d8e999},
		{"123456789", []byte("123456789"), 0x58e3fa20, 0xe3069283, 0x6c40df5f0b497347, 0x62ec59e3f1a4f00a, 0x8cb841db40e6ae83},
		{"a", []byte("a"), 0x93ad1061, 0xc1d04330, 0x548f120162451c62, 0xce73f427acc0a99a, 0xd24ec4f1a98c6e5b},
		{"zeros", make([]byte, 512), 0, 0x30fcedc0, 0, 0x363fda3544d74996, 0x8bbf7f68e8c3b87c},
		{"ones", bytes.Repeat([]byte{0xff}, 512), 0x6b257f57, 0x5bd99297, 0xfc4ad3af7d7b3b64, 0xca75099a39ac72f2, 0x81a7e47b830ada04},
		{"00..ff", count256(), 0x2436a9db, 0x9c44184b, 0x62b0da1c1b130a91, 0x59c3325b2927a19a, 0x1facbe8406cd904b},
		{"A", text[:65536], 0x0d4f4cec, 0x7f8f8848, 0xf19d8a5c95a38987, 0x8b3b78cec6337ce3, 0x1917ce6dd79cc53d},
		{"B", padded(text[65536:], 53760), 0x45fc570b, 0x3d96cf3c, 0xa4addd5aee656809, 0xa163196b7639ac79, 0xa4cc60bcc27107c1},
		{"H", padded([]byte("hello inline"), 4096), 0x16669e4d, 0x8e9fdfc4, 0x4b1002d72d3fe032, 0xee1f557304f42b56, 0x5233f48701796ab7},
	} {
		for typ, want := range map[uint8]uint64{
			None: 0, CRC32CNonzero: c.crc32cNZ, CRC64Nonzero: c.crc64NZ, CRC32CZero: c.crc32c, CRC64Zero: c.crc64, XXHash: c.xxhash,
		} {
			if got, ok := Sum(typ, c.in); got != want || !ok {
				t.Errorf("Sum(%d, %s) = %#x, %v, want %#x, true", typ, c.name, got, ok, want)
			}
		}
		if got := CRC32C(c.in); uint64(got) != c.crc32c {
			t.Errorf("CRC32C(%s) = %#x, want %#x", c.name, got, c.crc32c)
		}
		if got := CRC64(c.in); got != c.crc64 {
			t.Errorf("CRC64(%s) = %#x, want %#x", c.name, got, c.crc64)
		}
	}
}

func TestUnknownTypes(t *testing.T) {
	for typ := 0; typ < 256; typ++ {
		want := typ < NrTypes && typ != Poly1305_80 && typ != Poly1305_128
		if _, ok := Sum(uint8(typ), []byte("x")); ok != want {
			t.Errorf("Sum(%d) ok = %v, want %v", typ, ok, want)
		}
		want = typ == 0 || typ == 5 || typ == 6
		if got := Mergeable(uint8(typ)); got != want {
			t.Errorf("Mergeable(%d) = %v, want %v", typ, got, want)
		}
		if _, ok := Merge(uint8(typ), 1, 2, 3); ok != want {
			t.Errorf("Merge(%d) ok = %v, want %v", typ, ok, want)
		}
		if _, ok := Merge(uint8(typ), 1, 2, -1); ok {
			t.Errorf("Merge(%d, lenB = -1) ok = true, want false", typ)
		}
		if got := Update(uint8(typ), 7, []byte("x")); !want && got != 0 {
			t.Errorf("Update(%d) = %#x, want 0", typ, got)
		}
	}
}

// TestMergeVectors is the combination line of chapter 05 section 20.1.
func TestMergeVectors(t *testing.T) {
	text := formatText(t)
	ab := append(bytes.Clone(text[:65536]), padded(text[65536:], 53760)...)
	x, y := bytes.Repeat([]byte("abcd"), 256), bytes.Repeat(count256(), 2)
	for _, c := range []struct {
		name  string
		typ   uint8
		a, b  uint64
		whole []byte
		lenB  int64
		want  uint64
		first []byte
	}{
		{"A|B", 5, 0x0d4f4cec, 0x45fc570b, ab, 53760, 0x8e9bdf1c, text[:65536]},
		{"X|Y", 5, 0x778fb665, 0x9eec039a, append(bytes.Clone(x), y...), 512, 0x0084a95a, x},
		{"X|Y", 6, 0x744f2ff9fe05e6e4, 0x167b8ea9c273a319, append(bytes.Clone(x), y...), 512, 0x2cb8784b0a6a422f, x},
	} {
		if got, _ := Sum(c.typ, c.first); got != c.a {
			t.Errorf("Sum(%d, first part of %s) = %#x, want %#x", c.typ, c.name, got, c.a)
		}
		if got, _ := Sum(c.typ, c.whole); got != c.want {
			t.Errorf("Sum(%d, %s) = %#x, want %#x", c.typ, c.name, got, c.want)
		}
		if got, ok := Merge(c.typ, c.a, c.b, c.lenB); got != c.want || !ok {
			t.Errorf("Merge(%d, %s) = %#x, %v, want %#x, true", c.typ, c.name, got, ok, c.want)
		}
	}
}

// Bit by bit, straight from the definitions of chapter 05 section 8.1.
func plainCRC32C(c uint32, p []byte) uint32 {
	for _, v := range p {
		c ^= uint32(v)
		for range 8 {
			if c&1 != 0 {
				c = c>>1 ^ bits.Reverse32(0x1EDC6F41)
			} else {
				c >>= 1
			}
		}
	}
	return c
}

func plainCRC64(c uint64, p []byte) uint64 {
	for _, v := range p {
		c ^= uint64(v) << 56
		for range 8 {
			if c>>63 != 0 {
				c = c<<1 ^ 0x42F0E1EBA9EA3693
			} else {
				c <<= 1
			}
		}
	}
	return c
}

func TestAgainstBitwise(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "p")
		for _, c := range []struct {
			typ  uint8
			want uint64
		}{
			{CRC32CNonzero, uint64(^plainCRC32C(^uint32(0), p))},
			{CRC64Nonzero, ^plainCRC64(^uint64(0), p)},
			{CRC32CZero, uint64(plainCRC32C(0, p))},
			{CRC64Zero, plainCRC64(0, p)},
		} {
			if got, ok := Sum(c.typ, p); got != c.want || !ok {
				t.Fatalf("Sum(%d, %x) = %#x, %v, want %#x, true", c.typ, p, got, ok, c.want)
			}
		}
	})
}

// TestPieces: a sum in pieces, and a sum merged from the sums of its parts,
// equal the sum of the whole; merging also takes a front part off again.
func TestPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "a")
		b := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "b")
		whole := append(bytes.Clone(a), b...)
		for _, typ := range []uint8{None, CRC32CZero, CRC64Zero} {
			sa, _ := Sum(typ, a)
			sb, _ := Sum(typ, b)
			want, _ := Sum(typ, whole)
			if got := Update(typ, Update(typ, 0, a), b); got != want {
				t.Fatalf("Update(%d) in two pieces = %#x, want %#x", typ, got, want)
			}
			if got, _ := Merge(typ, sa, sb, int64(len(b))); got != want {
				t.Fatalf("Merge(%d, %#x, %#x, %d) = %#x, want %#x", typ, sa, sb, len(b), got, want)
			}
			if got, _ := Merge(typ, sa, want, int64(len(b))); got != sb {
				t.Fatalf("Merge(%d) of the whole and its front = %#x, want %#x", typ, got, sb)
			}
		}
	})
}

// TestMergeLengths: merging twice equals merging once by the sum of the
// lengths, up to lengths that no buffer can have.
func TestMergeLengths(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.Uint64().Draw(t, "a")
		n := rapid.Int64Range(0, 1<<61).Draw(t, "n")
		m := rapid.Int64Range(0, 1<<61).Draw(t, "m")
		for _, typ := range []uint8{CRC32CZero, CRC64Zero} {
			once, _ := Merge(typ, a, 0, n+m)
			twice, _ := Merge(typ, a, 0, n)
			twice, _ = Merge(typ, twice, 0, m)
			if once != twice {
				t.Fatalf("Merge(%d, %#x, 0, %d) = %#x, want %#x as by %d and %d", typ, a, n+m, once, twice, n, m)
			}
		}
	})
	big := make([]byte, 3<<20)
	for _, typ := range []uint8{CRC32CZero, CRC64Zero} {
		want := Update(typ, 0x12345678, big)
		if got, _ := Merge(typ, 0x12345678, 0, int64(len(big))); got != want {
			t.Errorf("Merge(%d, 0x12345678, 0, %d) = %#x, want %#x", typ, len(big), got, want)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	p := make([]byte, 4096)
	for typ := uint8(0); typ < NrTypes; typ++ {
		n := testing.AllocsPerRun(10, func() {
			Sum(typ, p)
			Update(typ, 0, p)
			Merge(typ, 1, 2, 4096)
		})
		if n != 0 {
			t.Errorf("type %d allocates %v times, want 0", typ, n)
		}
	}
}

func BenchmarkSum(b *testing.B) {
	for _, typ := range []uint8{CRC32CZero, CRC64Zero, XXHash} {
		for _, size := range []int{4096, 131072} {
			b.Run(fmt.Sprintf("type=%d/size=%d", typ, size), func(b *testing.B) {
				p := bytes.Repeat([]byte("0123456789abcdef"), size/16)
				b.SetBytes(int64(size))
				for b.Loop() {
					Sum(typ, p)
				}
			})
		}
	}
}

func BenchmarkMerge(b *testing.B) {
	for _, typ := range []uint8{CRC32CZero, CRC64Zero} {
		b.Run(fmt.Sprintf("type=%d", typ), func(b *testing.B) {
			for b.Loop() {
				Merge(typ, 0x12345678, 0x9abcdef0, 0x1fe00)
			}
		})
	}
}
