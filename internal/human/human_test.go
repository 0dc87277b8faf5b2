package human

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/gobcachefs/gobcachefs/errs"
)

func TestBytes113(t *testing.T) {
	for _, tt := range []struct {
		n    uint64
		want string
	}{
		// From show-super of the volumes: block and bucket sizes, superblock
		// size and its bound, and the bytes of the superblock where known.
		{0, "0 B"}, {512, "512 B"}, {976, "976 B"}, {4480, "4.38 KiB"}, {4096, "4.00 KiB"},
		{64 << 10, "64.0 KiB"}, {128 << 10, "128 KiB"}, {1 << 20, "1.00 MiB"}, {256 << 20, "256 MiB"},
		// gc_reserve_bytes, as the tools 1.13 print it.
		{1023, "1023 B"}, {1024, "1.00 KiB"}, {1536, "1.50 KiB"}, {5120, "5.00 KiB"}, {9728, "9.50 KiB"},
		{101888, "99.5 KiB"}, {102400, "100 KiB"}, {1023488, "1000 KiB"}, {1024512, "1001 KiB"},
		{1038336, "1014 KiB"}, {1043456, "1019 KiB"}, {1047552, "1023 KiB"}, {1048064, "1024 KiB"},
		{1053696, "1.00 MiB"}, {1054208, "1.00 MiB"}, {1054720, "1.01 MiB"}, {10480640, "10.00 MiB"},
		{10537984, "10.0 MiB"}, {10538496, "10.0 MiB"}, {10539008, "10.1 MiB"},
		{104857088, "100.0 MiB"}, {105381376, "100 MiB"}, {105381888, "101 MiB"},
		{1073741312, "1024 MiB"}, {1079508992, "1.00 GiB"}, {1080032768, "1.00 GiB"}, {1152921504606846976, "1.00 EiB"},
		{math.MaxUint64, "16.0 EiB"},
	} {
		if got := V113.Bytes(tt.n); got != tt.want {
			t.Errorf("V113.Bytes(%d) = %q, want %q", tt.n, got, tt.want)
		}
	}
}

func TestBytes139(t *testing.T) {
	for _, tt := range []struct {
		n    uint64
		want string
	}{
		// From show-super of the volumes: superblock sizes with the bytes that
		// are on them, and options.
		{6696, "6.54k"}, {7408, "7.23k"}, {8200, "8.01k"}, {8296, "8.10k"}, {8312, "8.12k"}, {8376, "8.18k"},
		{8512, "8.31k"}, {8528, "8.33k"}, {8624, "8.42k"}, {8848, "8.64k"}, {9200, "8.98k"}, {9848, "9.62k"},
		{0, "0"}, {512, "512"}, {1 << 10, "1.00k"}, {4 << 10, "4.00k"}, {32 << 10, "32.0k"}, {64 << 10, "64.0k"},
		{128 << 10, "128k"}, {256 << 10, "256k"}, {1 << 20, "1.00M"}, {2 << 20, "2.00M"}, {96 << 20, "96.0M"},
		{100 << 20, "100M"}, {256 << 20, "256M"},
		{1280, "1.25k"}, {64 << 20, "64.0M"}, // chapter 08 section 1.4
	} {
		if got := V139.Bytes(tt.n); got != tt.want {
			t.Errorf("V139.Bytes(%d) = %q, want %q", tt.n, got, tt.want)
		}
	}
}

func TestBytesTable(t *testing.T) {
	for _, tt := range []struct {
		n    uint64
		want string
	}{
		{0, "0B"}, {512, "512B"}, {1536, "1.50K"}, {20 << 20, "20.0M"}, {300 << 30, "300G"}, {1 << 40, "1.00T"}, {5 << 50, "5.00P"},
	} {
		if got := Table.Bytes(tt.n); got != tt.want {
			t.Errorf("Table.Bytes(%d) = %q, want %q", tt.n, got, tt.want)
		}
	}
	if got := Style(9).Bytes(1); got != "1B" {
		t.Errorf("Style(9).Bytes(1) = %q, want 1B", got)
	}
}

func TestDuration(t *testing.T) {
	const s, m, h = time.Second, time.Minute, time.Hour
	for _, tt := range []struct {
		d    time.Duration
		want string
	}{
		{0, "0.0 s"}, {-5 * s, "0.0 s"}, {49 * time.Millisecond, "0.0 s"}, {50 * time.Millisecond, "0.1 s"},
		{412 * time.Millisecond, "0.4 s"}, {9949 * time.Millisecond, "9.9 s"}, {9950 * time.Millisecond, "10 s"},
		{12400 * time.Millisecond, "12 s"}, {59499 * time.Millisecond, "59 s"}, {59500 * time.Millisecond, "1 min 00 s"},
		{3*m + 5*s, "3 min 05 s"}, {59*m + 59*s, "59 min 59 s"}, {59*m + 59*s + 500*time.Millisecond, "1 h 00 min"},
		{2*h + 10*m + 20*s, "2 h 10 min"}, {23*h + 59*m + 29*s, "23 h 59 min"}, {23*h + 59*m + 30*s, "1 d 00 h"},
		{99*h + 20*m, "4 d 03 h"}, {47*h + 45*m, "2 d 00 h"}, {math.MaxInt64, "106752 d 00 h"},
	} {
		if got := Duration(tt.d); got != tt.want {
			t.Errorf("Duration(%v) = %q, want %q", tt.d, got, tt.want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want uint64
	}{
		// Chapter 08 section 1.4: what the reference takes.
		{"65536", 65536}, {"64k", 65536}, {"1M", 1 << 20}, {"1.5M", 3 << 19}, {"64 k", 65536}, {"64KiB", 65536},
		{"64 KiB", 65536}, {"512B", 512}, {"+1M", 1 << 20}, {"0.3k", 307}, {"1T", 1 << 40}, {"1P", 1 << 50}, {"1E", 1 << 60},
		// What is added.
		{"64K", 65536}, {"1MiB", 1 << 20}, {"1 MiB", 1 << 20}, {"2GiB", 2 << 30}, {"64kiB", 65536}, {"3 EiB", 3 << 60},
		// Borders.
		{"0", 0}, {"0k", 0}, {"0.0", 0}, {"1.9", 1}, {"00012", 12}, {"512 B", 512},
		{"18446744073709551615", math.MaxUint64}, {"15.9999999999999999999E", math.MaxUint64}, // a tenth of a byte less than 16E
		{"0.00000000000000000000000000000000000001k", 0},
	} {
		got, err := ParseSize(tt.in)
		if got != tt.want || err != nil {
			t.Errorf("ParseSize(%q) = %d, %v, want %d, nil", tt.in, got, err, tt.want)
		}
	}
}

func TestParseSizeRefuses(t *testing.T) {
	for _, tt := range []struct{ in, text string }{
		{"", "empty"}, {"-1M", "negative"}, {"-", "negative"}, {"0x100", "unit"}, {"1e6", "unit"}, {"1M ", "unit"}, {"1 ", "space at the end"},
		{" 1M", "not a size"}, {"64  k", "unit"}, {"k", "not a size"}, {".5k", "not a size"}, {"5.k", "behind the point"}, {"5.", "behind the point"},
		{"1,5M", "decimal point"}, {"1.5.2M", "unit"}, {"++1", "not a size"}, {"+-1", "not a size"}, {"+", "not a size"},
		{"64kB", "KiB"}, {"64KB", "KiB"}, {"1MB", "MiB"}, {"1 GB", "GiB"}, {"5TB", "TiB"}, {"5PB", "PiB"}, {"5EB", "EiB"},
		{"1Mi", "MiB"}, {"1m", "upper case"}, {"1g", "upper case"}, {"1gib", "unit"}, {"1b", "unit"}, {"1Mb", "unit"}, {"1MIB", "unit"}, {"1KiBs", "unit"}, {"1bit", "unit"},
		{"1Z", "too large"}, {"1YiB", "too large"}, {"16E", "too large"}, {"18446744073709551616", "too large"}, {"99999999999999999999999999k", "too large"},
		{strings.Repeat("1", 65), "too long"}, {"1\x00", "unit"}, {"１", "not a size"}, {"1μ", "unit"},
	} {
		got, err := ParseSize(tt.in)
		if got != 0 || !errors.Is(err, errs.ErrUsage) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("ParseSize(%q) = %d, %v, want 0 and ErrUsage with %q", tt.in, got, err, tt.text)
		}
	}
}

// What is printed is read back as the same, up to what was rounded.
func FuzzBytesParse(f *testing.F) {
	for _, n := range []uint64{0, 512, 1048064, 10480640, math.MaxUint64 / 2} {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, n uint64) {
		if n >= 15<<60 {
			return // 16.0E is too large to be read
		}
		for _, s := range []Style{V113, V139, Table} {
			out := s.Bytes(n)
			got, err := ParseSize(out)
			if err != nil {
				t.Fatalf("ParseSize(%q) = %v, want nil", out, err)
			}
			if diff := math.Abs(float64(got) - float64(n)); diff > float64(n)*0.006 {
				t.Errorf("%d is %q is %d", n, out, got)
			}
		}
	})
}

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"64k", "1.5M", "1 KiB", "1MB", "-1", "0.3k", "16E"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseSize(s); err != nil && (n != 0 || !errors.Is(err, errs.ErrUsage)) {
			t.Errorf("ParseSize(%q) = %d, %v, want 0 and ErrUsage", s, n, err)
		}
	})
}
