package compress

import (
	"bytes"
	stdflate "compress/flate"
	"errors"
	"io"
	"testing"

	"github.com/gobcachefs/gobcachefs/errs"
)

// plainLZ4 decodes by the letter of the block format, a byte at a time.
func plainLZ4(size int, src []byte) ([]byte, bool) {
	var out []byte
	next := func() (int, bool) {
		if len(src) == 0 {
			return 0, false
		}
		b := src[0]
		src = src[1:]
		return int(b), true
	}
	length := func(n int) (int, bool) {
		for n >= 15 {
			b, ok := next()
			if !ok {
				return 0, false
			}
			n += b
			if b != 255 {
				break
			}
		}
		return n, true
	}
	for {
		token, ok := next()
		if !ok {
			return nil, false
		}
		n, ok := length(token >> 4)
		if !ok {
			return nil, false
		}
		for range n {
			b, ok := next()
			if !ok || len(out) == size {
				return nil, false
			}
			out = append(out, byte(b))
		}
		if len(out) == size {
			return out, true
		}
		lo, _ := next()
		hi, ok := next()
		if !ok {
			return nil, false
		}
		n, ok = length(token & 15)
		dist := lo | hi<<8
		if !ok || dist == 0 || dist > len(out) {
			return nil, false
		}
		for range n + 4 {
			if len(out) == size {
				return nil, false
			}
			out = append(out, out[len(out)-dist])
		}
		if len(out) == size {
			return out, true
		}
	}
}

func addSeeds(f *testing.F, typ uint8) {
	f.Add(uint16(0), []byte{})
	f.Add(uint16(512), make([]byte, 64))
	src := formatText()[:1024]
	dst := make([]byte, len(src))
	if n, ok := Compress(typ, 0, dst, src); ok {
		f.Add(uint16(1024), dst[:n])
		f.Add(uint16(1000), dst[:n])
	}
	src = append(bytes.Repeat([]byte("ab"), 300), src[:424]...)
	if n, ok := Compress(typ, 9, dst, src); ok {
		f.Add(uint16(1024), dst[:n+20])
	}
}

// decompress runs the decoder with guards around dst.
func decompress(t *testing.T, typ uint8, size uint16, src []byte) ([]byte, bool) {
	buf := make([]byte, 32+int(size)+32)
	dst := buf[32 : 32+int(size)]
	in := bytes.Clone(src)
	err := Decompress(typ, dst, in)
	if !bytes.Equal(buf[:32], make([]byte, 32)) || !bytes.Equal(buf[32+int(size):], make([]byte, 32)) {
		t.Fatal("the decoder wrote outside of its output")
	}
	if !bytes.Equal(in, src) {
		t.Fatal("the decoder wrote to its input")
	}
	if err != nil && !errors.Is(err, errs.ErrCorrupt) {
		t.Fatalf("Decompress(%d) = %v, want nil or ErrCorrupt", typ, err)
	}
	return dst, err == nil
}

func FuzzLZ4(f *testing.F) {
	addSeeds(f, LZ4)
	for _, c := range lz4Cases() {
		f.Add(uint16(max(c.size, len(c.want))), unhex(f, c.block))
	}
	f.Fuzz(func(t *testing.T, size uint16, src []byte) {
		if size == 0 {
			return // the decoders differ in whether an empty block is one
		}
		got, ok := decompress(t, LZ4, size, src)
		want, wantOK := plainLZ4(int(size), src)
		if ok != wantOK || ok && !bytes.Equal(got, want) {
			t.Fatalf("Decompress(lz4, %x) into %d = %x, %v, want %x, %v", src, size, got, ok, want, wantOK)
		}
	})
}

func FuzzGzip(f *testing.F) {
	addSeeds(f, Gzip)
	f.Fuzz(func(t *testing.T, size uint16, src []byte) {
		got, ok := decompress(t, Gzip, size, src)
		want, err := io.ReadAll(io.LimitReader(stdflate.NewReader(bytes.NewReader(src)), int64(size)+1))
		wantOK := err == nil && len(want) == int(size)
		if ok != wantOK || ok && !bytes.Equal(got, want) {
			t.Fatalf("Decompress(gzip, %x) into %d = %x, %v, want %x, %v (%v)", src, size, got, ok, want, wantOK, err)
		}
	})
}

func FuzzZstd(f *testing.F) {
	addSeeds(f, Zstd)
	f.Fuzz(func(t *testing.T, size uint16, src []byte) {
		got, ok := decompress(t, Zstd, size, src)
		if !ok {
			return
		}
		again, ok := decompress(t, Zstd, size, append(bytes.Clone(src), 0, 1, 2))
		if !ok || !bytes.Equal(again, got) {
			t.Fatalf("Decompress(zstd, %x) with more padding = %x, %v, want %x", src, again, ok, got)
		}
	})
}

// FuzzRoundTrip: whatever can be compressed comes back.
func FuzzRoundTrip(f *testing.F) {
	f.Add(uint8(0), []byte("hello"))
	f.Add(uint8(3), make([]byte, 1024))
	f.Add(uint8(9), formatText()[:1500])
	f.Add(uint8(200), bytes.Repeat([]byte{1, 2, 3}, 400))
	f.Fuzz(func(t *testing.T, level uint8, src []byte) {
		for name, typ := range types {
			dst := make([]byte, len(src))
			n, ok := Compress(typ, int(level%16), dst, src)
			if !ok {
				continue
			}
			got := make([]byte, len(src))
			if err := Decompress(typ, got, dst[:n]); err != nil || !bytes.Equal(got, src) {
				t.Fatalf("Decompress(%s, Compress(level %d, %x)) = %v, %x", name, level%16, src, err, got)
			}
		}
	})
}
