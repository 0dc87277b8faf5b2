package strhash

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/dchest/siphash"
)

// seed reads the 8 bytes of a seed as they are on disk.
func seed(b ...byte) uint64 { return binary.LittleEndian.Uint64(b) }

func TestDirentSlotVectors(t *testing.T) {
	for _, tt := range []struct {
		typ  uint8
		seed uint64
		name string
		want uint64
	}{
		// Chapter 04 section 3.
		{CRC32C, seed(0x02, 0x27, 0x60, 0x01, 0x12, 0xde, 0x80, 0xa6), "lost+found", 757480964},
		{CRC64, seed(0x73, 0xae, 0xd0, 0x0d, 0x41, 0x36, 0x4c, 0x83), "lost+found", 6150995765770604118},
		{SipHash, seed(0x2f, 0x74, 0xb8, 0xd3, 0x10, 0xae, 0xbe, 0x05), "lost+found", 7437412571173146197},
		{SipHashOld, seed(0x2f, 0x74, 0xb8, 0xd3, 0x10, 0xae, 0xbe, 0x05), "lost+found", 1540115286870247461},
		// The volume plain, upgraded by the 1.39 tools, which print the seed.
		{SipHash, 0x85a4ebacbc5407ee, "xattrs", 339352098844001705},
		{SipHash, 0x85a4ebacbc5407ee, "names", 417081447101444267},
		{SipHash, 0x5aee3ca4ad942d82, ".hidden", 225447511113712032},
		{SipHash, 0x5aee3ca4ad942d82, "bad\xff\xfeutf8", 1059759390480068439},
		{SipHash, 0x5aee3ca4ad942d82, "tab\there", 2203499510719995692},
		{SipHash, 0x5aee3ca4ad942d82, "日本語のファイル", 4337069768244232462},
		{SipHash, 0x5aee3ca4ad942d82, strings.Repeat("a", 255), 4271173507884834028},
		// The volume v39casefold: folded names.
		{SipHash, 0xbe6e44b218478b13, "casefolded", 6130719896512842039},
		{SipHash, 0xd4c6fbb480376fa8, "a\u030angstro\u0308m", 1263496149429527014},
		{SipHash, 0xd4c6fbb480376fa8, "strasse", 1527248292809401768},
	} {
		if got := DirentSlot(tt.typ, tt.seed, false, []byte(tt.name)); got != tt.want {
			t.Errorf("DirentSlot(%d, %#x, false, %q) = %d, want %d", tt.typ, tt.seed, tt.name, got, tt.want)
		}
	}
}

func TestXattrVectors(t *testing.T) {
	s := seed(0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01)
	n := func(n int) string { return strings.Repeat("n", n) }
	for _, tt := range []struct {
		typ   uint8
		seed  uint64
		xtype uint8
		name  string
		want  uint64
	}{
		// Chapter 04 section 3: the trap.
		{SipHash, s, 0, n(8), 4100869538237221851},
		{SipHash, s, 0, n(9), 6516384240516262032},
		{SipHash, s, 0, n(16), 6081928206161768937},
		{SipHash, s, 0, n(17), 2689237944506661287},
		{SipHash, s, 0, n(200), 2686809639662112819},
		// The volumes plain, reflink and snapshots, upgraded by the 1.39 tools.
		{SipHash, 0x76c6f14c626ee17b, 0, "on-dir", 6435371959102953572},
		{SipHash, 0x425f2686456c87a2, 0, "small", 2712796011601411109},
		{SipHash, 0x425f2686456c87a2, 0, "empty", 4793789166598555463},
		{SipHash, 0x425f2686456c87a2, 0, "big", 4876125979185604392},
		{SipHash, 0x425f2686456c87a2, 3, "t", 6756684522124688601},
		{SipHash, 0x425f2686456c87a2, 4, "foo", 8466910582076982530},
		{SipHash, 0x425f2686456c87a2, 0, n(200), 869591677164177229},
		{SipHash, 0xace217ef99095084, 0, n(200), 1038028410888235033},
		{SipHash, 0x807252fdd2c9c96e, 0, n(200), 9050435881018399101},
	} {
		if got := Xattr(tt.typ, tt.seed, tt.xtype, []byte(tt.name)); got != tt.want {
			t.Errorf("Xattr(%d, %#x, %d, %q) = %d, want %d", tt.typ, tt.seed, tt.xtype, tt.name, got, tt.want)
		}
	}
}

// bitwise checksums, straight from their polynomials.
func slowCRC32C(crc uint32, p []byte) uint32 {
	for _, b := range p {
		crc ^= uint32(b)
		for range 8 {
			crc = crc>>1 ^ 0x82f63b78&-(crc&1)
		}
	}
	return crc
}

func slowCRC64(crc uint64, p []byte) uint64 {
	for _, b := range p {
		crc ^= uint64(b) << 56
		for range 8 {
			crc = crc<<1 ^ 0x42f0e1eba9ea3693&-(crc>>63)
		}
	}
	return crc
}

// The crc types against bit-by-bit code, and the SipHash ones against the words
// of the chapter, for all lengths.
func TestAgainstPlainCode(t *testing.T) {
	const sd = 0x0123456789abcdef
	sb := binary.LittleEndian.AppendUint64(nil, sd)
	name := []byte(strings.Repeat("The quick brown fox, \xff\x00 and more. ", 20))
	for n := range 600 {
		msg := name[:n]
		if got, want := Dirent(CRC32C, sd, msg), uint64(slowCRC32C(slowCRC32C(^uint32(0), sb), msg)); got != want {
			t.Fatalf("Dirent(CRC32C, %d bytes) = %#x, want %#x", n, got, want)
		}
		if got, want := Dirent(CRC64, sd, msg), slowCRC64(slowCRC64(^uint64(0), sb), msg)>>1; got != want {
			t.Fatalf("Dirent(CRC64, %d bytes) = %#x, want %#x", n, got, want)
		}
		if got, want := Dirent(SipHash, sd, msg), siphash.Hash(sd, 0, msg)>>1; got != want {
			t.Fatalf("Dirent(SipHash, %d bytes) = %#x, want %#x", n, got, want)
		}
		x := append([]byte{4}, msg...)
		for _, typ := range []uint8{CRC32C, CRC64} {
			if got, want := Xattr(typ, sd, 4, msg), Dirent(typ, sd, x); got != want {
				t.Fatalf("Xattr(%d, %d bytes) = %#x, want %#x", typ, n, got, want)
			}
		}
		m := len(x)
		r := m % 8
		want := x
		if m >= 8 && r != 0 {
			want = bytes.Join([][]byte{x[:m-r], {4}, x[m-r : m-1]}, nil)
		}
		for _, typ := range []uint8{SipHash, SipHashOld} {
			if got, want := Xattr(typ, sd, 4, msg), Dirent(typ, sd, want); got != want {
				t.Fatalf("Xattr(%d, %d bytes) = %#x, want %#x", typ, n, got, want)
			}
		}
	}
}

func TestDirentSlotRange(t *testing.T) {
	for typ := range uint8(nrTypes) {
		name := []byte("name")
		h := Dirent(typ, 7, name)
		if h>>63 != 0 {
			t.Errorf("Dirent(%d) = %#x, want 63 bits at most", typ, h)
		}
		if got, want := DirentSlot(typ, 7, true, name), h&0x7fffffff; got != want {
			t.Errorf("DirentSlot(%d, masked) = %#x, want %#x", typ, got, want)
		}
	}
	// A name whose hash is one of the two slots of "." and "..".
	name := make([]byte, 4)
	for want := range uint32(2) {
		// The crc is a bijection of the last four bytes: undo it.
		c := want
		for range 32 {
			if c>>31 != 0 {
				c = (c^0x82f63b78)<<1 | 1
			} else {
				c <<= 1
			}
		}
		start := slowCRC32C(^uint32(0), make([]byte, 8))
		binary.LittleEndian.PutUint32(name, c^start)
		if got := Dirent(CRC32C, 0, name); got != uint64(want) {
			t.Fatalf("Dirent of a name made for it = %d, want %d", got, want)
		}
		if got := DirentSlot(CRC32C, 0, false, name); got != 2 {
			t.Errorf("DirentSlot of a name with hash %d = %d, want 2", want, got)
		}
	}
	// Nothing of the kind for attributes.
	if got, want := Xattr(CRC32C, 0, name[0], name[1:]), uint64(1); got != want {
		t.Errorf("Xattr of the same bytes = %d, want %d", got, want)
	}
}

func TestCollisions(t *testing.T) {
	// Chapter 04 section 3.1: these collide whatever the seed.
	for sd := range uint64(100) {
		a, b := Dirent(CRC32C, sd*0x9e3779b97f4a7c15, []byte("ccaoacux")), Dirent(CRC32C, sd*0x9e3779b97f4a7c15, []byte("wcjifoae"))
		if a != b {
			t.Fatalf("Dirent(CRC32C) of two names that collide = %#x, %#x", a, b)
		}
	}
}

func TestValid(t *testing.T) {
	for typ := range 256 {
		if got, want := Valid(uint8(typ)), typ < 4; got != want {
			t.Errorf("Valid(%d) = %v, want %v", typ, got, want)
		}
		if typ >= 4 && (Dirent(uint8(typ), 1, []byte("x")) != 0 || Xattr(uint8(typ), 1, 0, []byte("x")) != 0) {
			t.Errorf("type %d hashes to something, want 0", typ)
		}
	}
}

func TestAllocations(t *testing.T) {
	name := []byte(strings.Repeat("n", 255))
	for typ := range uint8(nrTypes) {
		var sink uint64
		if n := testing.AllocsPerRun(100, func() {
			sink += DirentSlot(typ, sink, true, name) + Xattr(typ, sink, 0, name)
		}); n != 0 {
			t.Errorf("type %d: %v allocations, want 0", typ, n)
		}
	}
}

func BenchmarkDirent(b *testing.B) {
	name := []byte("some-file-16.txt")
	for typ, label := range []string{"crc32c", "crc64", "siphash_old", "siphash"} {
		b.Run(label, func(b *testing.B) {
			var sink uint64
			for b.Loop() {
				sink += DirentSlot(uint8(typ), sink, false, name)
			}
		})
	}
}
