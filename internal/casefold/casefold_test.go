package casefold

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"
)

// fold is Fold for names that must fold.
func fold(t testing.TB, s string) string {
	t.Helper()
	b, err := Fold(nil, []byte(s))
	if err != nil {
		t.Fatalf("Fold(%+q) = %v, want nil", s, err)
	}
	return string(b)
}

func TestVectors(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		// Chapter 04 section 4.2.
		{"Straße", "strasse"},
		{"\u0130", "\x69\xcc\x87"},
		{"\u00c5", "\x61\xcc\x8a"},
		{"\u212b", "\x61\xcc\x8a"},
		{"\u1e9e", "ss"},
		{"\ufb01", "fi"},
		{"Σς", "\xcf\x83\xcf\x83"},
		{"e\u0301\u0327", "\x65\xcc\xa7\xcc\x81"},
		{"\uac00", "\xe1\x84\x80\xe1\x85\xa1"},
		{"a\u200db", "ab"},
		{"\u0378", "\xcd\xb8"},
		{"\U0001fae0", "\xf0\x9f\xab\xa0"},
		// The volume v39casefold.
		{"ÅNGSTRÖM", "a\u030angstro\u0308m"},
		{"lost+found", "lost+found"},
		{"README", "readme"},
		// The rules one by one.
		{"\uac01", "\u1100\u1161\u11a8"},
		{"\ud7a3", "\u1112\u1175\u11c2"},
		{"\u0344", "\u0308\u0301"},                     // a decomposition that begins with a mark
		{"\u0327\u0344", "\u0327\u0308\u0301"},         // which goes behind a lower class
		{"\u0344\u0327", "\u0327\u0308\u0301"},         // and before it
		{"a\u0301\u0300", "a\u0301\u0300"},             // equal classes keep their order
		{"a\u0301\u200d\u0327", "a\u0301\u0327"},       // an ignorable one keeps them apart
		{"a\u0301\u0378\u0327", "a\u0301\u0378\u0327"}, // and so does an unassigned one
		{"\u13a0\uab70", "\u13a0\u13a0"},               // Cherokee folds to upper case
		{"\u13f8", "\u13f0"},
		{"\u32ff", "\u32ff"},         // the one character of 12.1
		{"\u2c2f", "\u2c2f"},         // a capital that came with 14.0
		{"\ua7c7", "\ua7c7"},         // a capital that came with 13.0
		{"\u2065x\U000e0fffx", "xx"}, // reserved ignorable ones
		{"\U0010ffff", "\U0010ffff"},
		{"\ue000", "\ue000"},
	} {
		if got := fold(t, tt.in); got != tt.want {
			t.Errorf("Fold(%+q) = %+q, want %+q", tt.in, got, tt.want)
		}
	}
}

func TestRefuses(t *testing.T) {
	for _, s := range []string{
		"", "\ufe0f", "\u200d\u00ad", // nothing
		"\xff", "a\xff", "\xed\xa0\x80", "\xc0\xaf", "\xe0\x80\xaf", "\xf4\x90\x80\x80", "\xc3", "\xf0\x9f\xab", "\x80", // not UTF-8
		"\x00", "a\x00b",
		strings.Repeat("a", 513), strings.Repeat("ΐ", 86), // 513 and 516 bytes
	} {
		dst := []byte("kept")
		got, err := Fold(dst, []byte(s))
		if !errors.Is(err, syscall.EINVAL) || string(got) != "kept" {
			t.Errorf("Fold(kept, %+q) = %q, %v, want it unchanged and EINVAL", s, got, err)
		}
	}
	for _, s := range []string{strings.Repeat("a", 512), strings.Repeat("ΐ", 85), strings.Repeat("\ufe0f", 1000) + "a"} {
		if got := fold(t, s); len(got) > 512 {
			t.Errorf("Fold(%+q) has %d bytes, want 512 at most", s, len(got))
		}
	}
}

func TestAppends(t *testing.T) {
	got, err := Fold([]byte("\u0301"), []byte("\u0327A"))
	if want := "\u0301\u0327a"; err != nil || string(got) != want {
		t.Errorf("Fold(dst, ...) = %+q, %v, want %+q: nothing is reordered into dst", got, err, want)
	}
}

func scalar(r rune) bool { return r < 0xd800 || 0xdfff < r }

// golden reads one of the hashes that the generator wrote.
func golden(t *testing.T, key string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/golden.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, key+" "); ok {
			return strings.TrimSpace(v)
		}
	}
	t.Fatalf("testdata/golden.txt has no %s", key)
	return ""
}

// Every code point folds as the recipe of the generator says.
func TestGoldenSingle(t *testing.T) {
	h := sha256.New()
	var in, out []byte
	for r := rune(1); r <= utf8.MaxRune; r++ {
		if scalar(r) {
			in = utf8.AppendRune(in[:0], r)
			out, _ = Fold(out[:0], in) // what folds to nothing is nothing
			out = append(out, '\n')
			h.Write(out)
		}
	}
	if got, want := fmt.Sprintf("%x", h.Sum(nil)), golden(t, "single"); got != want {
		t.Errorf("hash over all code points = %s, want %s", got, want)
	}
}

// pool is the code points that fold to something else or have a class.
func pool() []rune {
	var p []rune
	for r := rune(1); r < 0xe0200; r++ {
		if lookup(r) != 0 {
			p = append(p, r)
		}
	}
	return p
}

// And so do random texts of what is most likely to go wrong.
func TestGoldenRandom(t *testing.T) {
	h := sha256.New()
	p := pool()
	rng := rand.New(rand.NewPCG(12, 1))
	var out []byte
	for range 50000 {
		var s []rune
		for range 1 + rng.IntN(12) {
			switch rng.IntN(8) {
			case 0:
				s = append(s, 'a'+rng.Int32N(26))
			case 1:
				r := rng.Int32N(0x30000)
				for !scalar(r) || r == 0 {
					r = rng.Int32N(0x30000)
				}
				s = append(s, r)
			default:
				s = append(s, p[rng.IntN(len(p))])
			}
		}
		out, _ = Fold(out[:0], []byte(string(s)))
		out = append(out, '\n')
		h.Write(out)
	}
	if got, want := fmt.Sprintf("%x", h.Sum(nil)), golden(t, "random"); got != want {
		t.Errorf("hash over random texts = %s, want %s", got, want)
	}
}

// What every code point must do, without looking at the tables.
func TestEachCodePoint(t *testing.T) {
	bad := 0
	for r := rune(1); r <= utf8.MaxRune && bad < 10; r++ {
		if !scalar(r) {
			continue
		}
		once, err := Fold(nil, []byte(string(r)))
		if err != nil {
			continue
		}
		twice, err := Fold(nil, once)
		switch {
		case !utf8.Valid(once):
			t.Errorf("Fold(%U) = %x, which is not UTF-8", r, once)
		case err != nil || !bytes.Equal(once, twice):
			t.Errorf("Fold(Fold(%U)) = %x, %v, want %x", r, twice, err, once)
		case len(once) > 16:
			t.Errorf("Fold(%U) has %d bytes", r, len(once))
		default:
			continue
		}
		bad++
	}
	for r := 'a'; r <= 'z'; r++ {
		if got := fold(t, string(r-'a'+'A')); got != string(r) {
			t.Errorf("Fold(%c) = %q, want %c", r-'a'+'A', got, r)
		}
	}
}

// A run of marks that is longer than what Unicode's stream-safe form allows is
// sorted all the same.
func TestLongRun(t *testing.T) {
	s := "a" + strings.Repeat("\u0301\u0327", 60)
	want := "a" + strings.Repeat("\u0327", 60) + strings.Repeat("\u0301", 60)
	if got := fold(t, s); got != want {
		t.Errorf("Fold of 120 marks = %+q, want them sorted", got)
	}
}

func TestAllocations(t *testing.T) {
	name, dst := []byte("Ein Ünïcödé Name mit e\u0301\u0327 und 한글.txt"), make([]byte, 0, 600)
	if n := testing.AllocsPerRun(100, func() { dst, _ = Fold(dst[:0], name) }); n != 0 {
		t.Errorf("Fold into a large enough dst: %v allocations, want 0", n)
	}
}

func FuzzFold(f *testing.F) {
	for _, s := range []string{"Straße", "\u0344\u0327", "e\u0301\u0327", "\uac01", "\ufe0f", "\xff", "a\u0301\u200d\u0327"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, name []byte) {
		once, err := Fold(nil, name)
		if err != nil {
			if !errors.Is(err, syscall.EINVAL) || len(once) != 0 {
				t.Fatalf("Fold(%+q) = %q, %v, want nothing and EINVAL", name, once, err)
			}
			return
		}
		if !utf8.Valid(name) || len(once) == 0 || len(once) > MaxLen {
			t.Fatalf("Fold(%+q) = %+q, which must be refused", name, once)
		}
		if !utf8.Valid(once) {
			t.Fatalf("Fold(%+q) = %x, which is not UTF-8", name, once)
		}
		// Classes do not fall within a run, but where an ignorable character
		// stood: without those, folding twice changes nothing.
		for _, r := range string(name) {
			if lookup(r) == 1 {
				return
			}
		}
		twice, err := Fold(nil, once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("Fold(Fold(%+q)) = %+q, %v, want %+q", name, twice, err, once)
		}
	})
}

func BenchmarkFold(b *testing.B) {
	for _, s := range []string{"some-file-16.txt", "Ünïcödé Nåme.txt"} {
		b.Run(s, func(b *testing.B) {
			dst, name := make([]byte, 0, 600), []byte(s)
			for b.Loop() {
				dst, _ = Fold(dst[:0], name)
			}
		})
	}
}
