package compress

import (
	"bytes"
	stdflate "compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// lz4Case is a hand-made block and what it must give, nil for an error.
type lz4Case struct {
	name  string
	block string
	want  []byte
	size  int
}

func lz4Cases() []lz4Case {
	return []lz4Case{
		{"literals only", "50 6162636465", []byte("abcde"), 0},
		{"literals with padding", "50 6162636465 000000", []byte("abcde"), 0},
		{"ends with a match", "14 61 0100", []byte("aaaaaaaaa"), 0},
		{"distance 3", "38 616263 0300", []byte("abcabcabcabcabc"), 0},
		{"long literals", "f001 6162636465666768696a6b6c6d6e6f70", []byte("abcdefghijklmnop"), 0},
		{"long match", "1f 61 0100 ff00 00", bytes.Repeat([]byte("a"), 1+19+255), 0},
		{"garbage behind the end", "50 6162636465 ffffffff", []byte("abcde"), 0},
		{"empty", "", nil, 5},
		{"token only", "50", nil, 5},
		{"literals cut", "50 616263", nil, 5},
		{"literals over the end", "50 6162636465", nil, 4},
		{"match over the end", "14 61 0100", nil, 8},
		{"distance 0", "14 61 0000", nil, 9},
		{"distance before the start", "14 61 0200", nil, 9},
		{"match at the start", "04 0100", nil, 4},
		{"no distance", "14 61", nil, 9},
		{"half a distance", "14 61 01", nil, 9},
		{"literal length cut", "f0", nil, 20},
		{"literal length without end", "f0 ffffffffffff", nil, 20},
		{"match length cut", "1f 61 0100", nil, 20},
		{"match length without end", "1f 61 0100 ffffffff", nil, 20},
		{"all zeros", "0000000000000000", nil, 5},
	}
}

func TestLZ4Blocks(t *testing.T) {
	for _, c := range lz4Cases() {
		size := max(c.size, len(c.want))
		dst := make([]byte, size)
		err := Decompress(LZ4, dst, unhex(t, c.block))
		if c.want == nil {
			checkReason(t, "Decompress("+c.name+")", err, "lz4")
			checkReason(t, "Decompress("+c.name+", old)", Decompress(LZ4Old, dst, unhex(t, c.block)), "lz4_old")
		} else if err != nil || !bytes.Equal(dst, c.want) {
			t.Errorf("Decompress(%s) = %v, %q, want nil, %q", c.name, err, dst, c.want)
		}
	}
}

// TestLZ4Matches tries every distance and length around the sizes at which the
// decoder changes its way of copying.
func TestLZ4Matches(t *testing.T) {
	lits := []byte("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+-.,;:")
	for dist := 1; dist <= len(lits); dist++ {
		for n := 4; n <= 80; n++ {
			for tail := 0; tail <= 40; tail += 5 {
				block := append([]byte{0xf0 | byte(min(n-4, 15)), byte(len(lits) - 15)}, lits...)
				block = append(block, byte(dist), 0)
				if n >= 19 {
					block = append(block, byte(n-19))
				}
				want := bytes.Clone(lits)
				for range n {
					want = append(want, want[len(want)-dist])
				}
				if tail > 0 {
					block = append(block, byte(min(tail, 15)<<4))
					if tail >= 15 {
						block = append(block, byte(tail-15))
					}
					block = append(block, lits[:tail]...)
					want = append(want, lits[:tail]...)
				}
				got := make([]byte, len(want))
				if !decodeLZ4(got, block) || !bytes.Equal(got, want) {
					t.Fatalf("decodeLZ4(distance %d, length %d, tail %d) = %q, want %q", dist, n, tail, got, want)
				}
			}
		}
	}
}

func deflated(t *testing.T, p []byte) []byte {
	var b bytes.Buffer
	w, err := stdflate.NewWriter(&b, 6)
	if err == nil {
		_, err = w.Write(p)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestGzipReasons(t *testing.T) {
	text := formatText()[:2048]
	blob := deflated(t, text)
	exact := make([]byte, 2048)
	if err := Decompress(Gzip, exact, blob); err != nil || !bytes.Equal(exact, text) {
		t.Errorf("Decompress(a stream of another encoder) = %v, want nil and the same bytes", err)
	}
	for _, c := range []struct {
		name, reason string
		src          []byte
		size         int
	}{
		{"too short, padded", "gzip_size_mismatch", append(bytes.Clone(blob), 0, 0, 0), 2560},
		{"too short, not padded", "gzip_size_mismatch", blob, 2560},
		{"too long", "gzip_size_mismatch", blob, 1536},
		{"one byte too long", "gzip_size_mismatch", blob, 2047},
		{"nothing", "gzip", nil, 512},
		{"cut", "gzip", blob[:len(blob)-3], 2048},
		{"reserved block type", "gzip", []byte{7, 0, 0, 0}, 512},
		{"stored length not complemented", "gzip", []byte{1, 4, 0, 0, 0, 1, 2, 3, 4}, 512},
		{"gzip header", "gzip", []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3}, 512},
	} {
		checkReason(t, "Decompress("+c.name+")", Decompress(Gzip, make([]byte, c.size), c.src), c.reason)
	}
	if err := Decompress(Gzip, exact, deflated(t, make([]byte, 2048))); err != nil || !bytes.Equal(exact, make([]byte, 2048)) {
		t.Errorf("Decompress(zeros) = %v, want nil and zeros", err)
	}
}

func prefixed(frame []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(frame))), frame...)
}

// TestZstdFrames: frames of any standard one-shot form are taken.
func TestZstdFrames(t *testing.T) {
	text := formatText()[:8192]
	for _, single := range []bool{false, true} {
		for _, crc := range []bool{false, true} {
			for _, window := range []int{1 << 10, 1 << 20, 64 << 20} {
				w, err := zstd.NewWriter(nil, zstd.WithSingleSegment(single), zstd.WithEncoderCRC(crc), zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(1))
				if err != nil {
					t.Fatal(err)
				}
				blob := append(prefixed(w.EncodeAll(text, nil)), make([]byte, 77)...)
				got := make([]byte, len(text))
				if err := Decompress(Zstd, got, blob); err != nil || !bytes.Equal(got, text) {
					t.Errorf("Decompress(single %v, crc %v, window %d) = %v, want nil and the same bytes", single, crc, window, err)
				}
				if crc {
					n := binary.LittleEndian.Uint32(blob)
					blob[n+3] ^= 1 // the last byte of the frame, of its checksum
					checkReason(t, "Decompress(wrong checksum)", Decompress(Zstd, got, blob), "zstd_checksum_wrong")
				}
			}
		}
	}
	// Without a content size in the header, as a stream is written.
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
	if err == nil {
		_, err = w.Write(text[:5000])
	}
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		_, err = w.Write(text[5000:])
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if err := Decompress(Zstd, got, prefixed(b.Bytes())); err != nil || !bytes.Equal(got, text) {
		t.Errorf("Decompress(stream) = %v, want nil and the same bytes", err)
	}
}

// TestZstdReasons has the frames that want more than they may, and checks that
// they do not get it.
func TestZstdReasons(t *testing.T) {
	// An RLE block: three bytes of header, one of content.
	rle := func(last bool, size int) []byte {
		h := uint32(size)<<3 | 1<<1
		if last {
			h |= 1
		}
		return []byte{byte(h), byte(h >> 8), byte(h >> 16), 'x'}
	}
	frame := func(header string, blocks ...[]byte) []byte {
		return append(unhex(t, "28b52ffd"+header), bytes.Join(blocks, nil)...)
	}
	many := make([][]byte, 1000)
	for i := range many {
		many[i] = rle(i == len(many)-1, 128<<10)
	}
	// Sized as a header gives it: window descriptor 0 (1 KiB), content size 8192.
	good := frame("a0 00200000", rle(true, 8192))
	got := make([]byte, 8192)
	if err := Decompress(Zstd, got, prefixed(good)); err != nil || !bytes.Equal(got, bytes.Repeat([]byte("x"), 8192)) {
		t.Errorf("Decompress(good) = %v, want nil and 8192 times x", err)
	}
	for _, c := range []struct {
		name, reason string
		blob         []byte
	}{
		{"no length", "zstd_src_len_bad", []byte{1, 2, 3}},
		{"no blob", "zstd_src_len_bad", nil},
		{"length one too long", "zstd_src_len_bad", append([]byte{byte(len(good) + 1), 0, 0, 0}, good...)},
		{"length of 4 GiB", "zstd_src_len_bad", append([]byte{255, 255, 255, 255}, good...)},
		{"empty frame", "zstd_src_size_wrong", make([]byte, 512)},
		{"frame cut", "zstd_src_size_wrong", append([]byte{byte(len(good) - 1), 0, 0, 0}, good...)},
		{"other magic", "zstd_prefix_unknown", prefixed([]byte("28b52ffd"))},
		{"garbage behind the frame", "zstd_prefix_unknown", prefixed(append(bytes.Clone(good), 1, 2, 3, 4, 5))},
		{"content too small", "zstd_size_mismatch", prefixed(frame("a0 00100000", rle(true, 4096)))},
		{"content too big", "zstd_dst_size_too_small", prefixed(frame("a0 01200000", rle(true, 8193)))},
		{"content of 2^60", "zstd_dst_size_too_small", prefixed(frame("e0 0000000000000010", rle(true, 8192)))},
		{"content of 2^64-2", "zstd_dst_size_too_small", prefixed(frame("e0 feffffffffffffff", rle(true, 8192)))},
		{"blocks over the content", "zstd_dst_size_too_small", prefixed(frame("a0 00200000", rle(false, 8192), rle(true, 8192)))},
		{"blocks under the content", "zstd_corruption_detected", prefixed(frame("a0 00200000", rle(true, 8191)))},
		{"window of 3.75 TB", "zstd_memory_allocation", prefixed(frame("80 ff 00200000", rle(true, 8192)))},
		{"bomb", "zstd_dst_size_too_small", prefixed(frame("00 58", many...))},
		{"dictionary", "zstd_corruption_detected", prefixed(frame("a1 07 00200000", rle(true, 8192)))},
		{"reserved block", "zstd_corruption_detected", prefixed(frame("a0 00200000", []byte{7, 0, 1, 0}))},
	} {
		var err error
		n := allocated(func() { err = Decompress(Zstd, got, c.blob) })
		checkReason(t, "Decompress("+c.name+")", err, c.reason)
		if n > 2<<20 {
			t.Errorf("Decompress(%s) allocates %d bytes, want at most 2 MiB", c.name, n)
		}
	}
}

// TestHostileMemory: blobs that promise much allocate little, however large the
// window they announce.
func TestHostileMemory(t *testing.T) {
	dst := make([]byte, 4096)
	for wd := range 256 {
		blob := prefixed(append(unhex(t, "28b52ffd 80"), byte(wd), 0, 16, 0, 0, 3, 128, 0, 'x'))
		n := allocated(func() { _ = Decompress(Zstd, dst, blob) })
		if n > 2<<20 {
			t.Errorf("Decompress(window descriptor %#x) allocates %d bytes, want at most 2 MiB", wd, n)
		}
	}
	for name, typ := range types {
		n := allocated(func() {
			for i := range 50 {
				_ = Decompress(typ, dst, bytes.Repeat([]byte(fmt.Sprint(i)), 100))
			}
		})
		if n > 4<<20 {
			t.Errorf("50 × Decompress(%s, garbage) allocate %d bytes, want at most 4 MiB", name, n)
		}
	}
}

// TestEncodedForm: what the encoders write keeps to the letter of the formats,
// as other readers may insist on: another deflate decoder takes the stream, an
// LZ4 block ends in at least 5 literals and starts no match within its last 12
// bytes, and a zstd frame is one segment with its content size and no checksum.
func TestEncodedForm(t *testing.T) {
	for in, src := range inputs() {
		src = src[:min(len(src), 65536)]
		for _, level := range []int{0, 3, 9} {
			name := fmt.Sprintf("level %d, %s", level, in)
			dst := make([]byte, len(src))
			if n, ok := Compress(Gzip, level, dst, src); ok {
				got, err := io.ReadAll(stdflate.NewReader(bytes.NewReader(dst[:n])))
				if err != nil || !bytes.Equal(got, src) {
					t.Errorf("another decoder of Compress(gzip, %s): %v, want nil and the same bytes", name, err)
				}
			}
			if n, ok := Compress(LZ4, level, dst, src); ok {
				if got, ok := plainLZ4(len(src), dst[:n]); !ok || !bytes.Equal(got, src) {
					t.Errorf("plainLZ4(Compress(lz4, %s)) = %v, want true and the same bytes", name, ok)
				}
				lastMatch, lits := lz4End(dst[:n])
				if lits < 5 || lastMatch > len(src)-12 {
					t.Errorf("Compress(lz4, %s) ends in %d literals and a match at %d of %d, want at least 5, at most %d",
						name, lits, lastMatch, len(src), len(src)-12)
				}
			}
			if n, ok := Compress(Zstd, level, dst, src); ok {
				var h zstd.Header
				err := h.Decode(dst[4:n])
				if err != nil || !h.SingleSegment || !h.HasFCS || h.FrameContentSize != uint64(len(src)) || h.HasCheckSum || h.DictionaryID != 0 {
					t.Errorf("header of Compress(zstd, %s) = %+v, %v, want one segment of %d bytes", name, h, err, len(src))
				}
				if got := int(binary.LittleEndian.Uint32(dst)); got != n-4 {
					t.Errorf("length of Compress(zstd, %s) = %d, want %d", name, got, n-4)
				}
			}
		}
	}
}

// lz4End walks a good block: where its last match starts, and how many literals
// follow it.
func lz4End(block []byte) (lastMatch, lits int) {
	at := 0
	length := func(n int) int {
		for more := n == 15; more; block = block[1:] {
			n += int(block[0])
			more = block[0] == 255
		}
		return n
	}
	for {
		token := block[0]
		block = block[1:]
		lits = length(int(token >> 4))
		at += lits
		if len(block) == lits {
			return lastMatch, lits
		}
		block = block[lits+2:]
		lastMatch = at
		at += length(int(token&15)) + 4
	}
}
