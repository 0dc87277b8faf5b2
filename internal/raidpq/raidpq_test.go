package raidpq

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"sync"
	"testing"

	"github.com/gobcachefs/gobcachefs/errs"
)

// mul multiplies in GF(2^8) modulo 0x11d, bit by bit.
func mul(a, b byte) byte {
	var r int
	for i := range 8 {
		if b>>i&1 != 0 {
			r ^= int(a) << i
		}
	}
	for i := 14; i >= 8; i-- {
		if r>>i&1 != 0 {
			r ^= 0x11d << (i - 8)
		}
	}
	return byte(r)
}

// inverse finds by trying.
func inverse(a byte) byte {
	for b := range 256 {
		if mul(a, byte(b)) == 1 {
			return byte(b)
		}
	}
	panic("zero has no inverse")
}

// power is 2^n, n of either sign.
func power(n int) byte {
	v, by := byte(1), byte(2)
	if n < 0 {
		n, by = -n, inverse(2)
	}
	for range n {
		v = mul(v, by)
	}
	return v
}

// parities computes P and Q as chapter 05 section 15.2 says, by Horner; nil
// blocks count as zero.
func parities(data [][]byte, size int) (p, q []byte) {
	p, q = make([]byte, size), make([]byte, size)
	for i := len(data) - 1; i >= 0; i-- {
		for j := range size {
			var d byte
			if data[i] != nil {
				d = data[i][j]
			}
			p[j] ^= d
			q[j] = mul(2, q[j]) ^ d
		}
	}
	return p, q
}

// plainReconstruct recovers up to two data blocks by the formulas of chapter 05
// section 15.4.
func plainReconstruct(t *testing.T, blocks [][]byte, nrData, size int) [][]byte {
	out := slices.Clone(blocks)
	var lost []int
	for i := range nrData {
		if out[i] == nil {
			lost = append(lost, i)
		}
	}
	p1, q1 := parities(out[:nrData], size)
	p, q := out[nrData], []byte(nil)
	if len(out) > nrData+1 {
		q = out[nrData+1]
	}
	made := func(f func(j int) byte) []byte {
		b := make([]byte, size)
		for j := range b {
			b[j] = f(j)
		}
		return b
	}
	switch {
	case len(lost) == 1 && p != nil:
		out[lost[0]] = made(func(j int) byte { return p[j] ^ p1[j] })
	case len(lost) == 1:
		out[lost[0]] = made(func(j int) byte { return mul(power(-lost[0]), q[j]^q1[j]) })
	case len(lost) == 2:
		x, y := lost[0], lost[1]
		den := inverse(power(y-x) ^ 1)
		a, b := mul(power(y-x), den), mul(power(-x), den)
		out[x] = made(func(j int) byte { return mul(a, p[j]^p1[j]) ^ mul(b, q[j]^q1[j]) })
		out[y] = made(func(j int) byte { return p[j] ^ p1[j] ^ out[x][j] })
	}
	p2, q2 := parities(out[:nrData], size)
	out[nrData] = p2
	if len(out) > nrData+1 {
		out[nrData+1] = q2
	}
	return out
}

// stripe makes random data with the parity that Encode computes.
func stripe(t *testing.T, nrData, nrParity, size int) [][]byte {
	t.Helper()
	rng := rand.New(rand.NewSource(int64(nrData*1000 + size)))
	blocks := make([][]byte, nrData+nrParity)
	for i := range nrData {
		blocks[i] = make([]byte, size)
		rng.Read(blocks[i])
	}
	if err := Encode(blocks, nrData); err != nil {
		t.Fatalf("Encode(%d+%d) = %v", nrData, nrParity, err)
	}
	return blocks
}

// TestVector is chapter 05 section 20.6.
func TestVector(t *testing.T) {
	blocks := make([][]byte, 6)
	for i := range 4 {
		for j := range 64 {
			blocks[i] = append(blocks[i], byte(37*i+11*j+7))
		}
	}
	if err := Encode(blocks, 4); err != nil {
		t.Fatalf("Encode = %v", err)
	}
	if got, want := hex.EncodeToString(blocks[4][:16]), "0cf8b480b4780c70bc88b40014c89c90"; got != want {
		t.Errorf("P = %s, want %s", got, want)
	}
	if got, want := hex.EncodeToString(blocks[5][:16]), "916d0cab13e34ab2ea05e9f306723b34"; got != want {
		t.Errorf("Q = %s, want %s", got, want)
	}
}

func TestEncode(t *testing.T) {
	for nrParity := 1; nrParity <= MaxParity; nrParity++ {
		for nrData := 1; nrData+nrParity <= MaxBlocks; nrData++ {
			for _, size := range []int{1, 31, 512, 1000} {
				blocks := stripe(t, nrData, nrParity, size)
				p, q := parities(blocks[:nrData], size)
				for i, want := range [][]byte{p, q}[:nrParity] {
					if got := blocks[nrData+i]; !bytes.Equal(got, want) {
						t.Errorf("Encode(%d+%d, %d bytes) parity %d = %x…, want %x…", nrData, nrParity, size, i, got[:1], want[:1])
					}
				}
			}
		}
	}
}

// TestReconstruct loses every pair and every single block.
func TestReconstruct(t *testing.T) {
	const size = 200
	for nrParity := 1; nrParity <= MaxParity; nrParity++ {
		for nrData := 1; nrData+nrParity <= MaxBlocks; nrData++ {
			whole := stripe(t, nrData, nrParity, size)
			for x := range whole {
				for y := x; y < len(whole); y++ {
					if y > x && nrParity < 2 {
						break
					}
					name := fmt.Sprintf("%d+%d without %d and %d", nrData, nrParity, x, y)
					lossy := slices.Clone(whole)
					lossy[x], lossy[y] = nil, nil
					dataOnly := slices.Clone(lossy)
					plain := plainReconstruct(t, lossy, nrData, size)
					if err := Reconstruct(lossy, nrData); err != nil {
						t.Errorf("Reconstruct(%s) = %v, want nil", name, err)
						continue
					}
					if err := ReconstructData(dataOnly, nrData); err != nil {
						t.Errorf("ReconstructData(%s) = %v, want nil", name, err)
					}
					for i := range whole {
						if !bytes.Equal(plain[i], whole[i]) {
							t.Errorf("the formulas of the chapter give %x… for block %d of %s, want %x…", plain[i][:4], i, name, whole[i][:4])
						}
						if !bytes.Equal(lossy[i], whole[i]) {
							t.Errorf("Reconstruct(%s) block %d = %x, want %x", name, i, lossy[i], whole[i])
						}
						if i < nrData && !bytes.Equal(dataOnly[i], whole[i]) {
							t.Errorf("ReconstructData(%s) block %d = %x, want %x", name, i, dataOnly[i], whole[i])
						}
						if i >= nrData && (i == x || i == y) && len(dataOnly[i]) != 0 {
							t.Errorf("ReconstructData(%s) made parity block %d, want it left alone", name, i)
						}
					}
				}
			}
		}
	}
}

// TestBuffers: the capacity of a lost entry is used, and no more than the length.
func TestBuffers(t *testing.T) {
	whole := stripe(t, 4, 2, 512)
	buf := bytes.Repeat([]byte{0xee}, 600)
	lossy := slices.Clone(whole)
	lossy[2], lossy[5] = buf[:0], make([]byte, 0, 100)
	if err := Reconstruct(lossy, 4); err != nil {
		t.Fatalf("Reconstruct = %v, want nil", err)
	}
	if !bytes.Equal(lossy[2], whole[2]) || &lossy[2][0] != &buf[0] {
		t.Error("Reconstruct did not use the buffer it was given")
	}
	if !bytes.Equal(lossy[5], whole[5]) {
		t.Error("Reconstruct did not replace a buffer that was too small")
	}
	if !bytes.Equal(buf[512:], bytes.Repeat([]byte{0xee}, 88)) {
		t.Error("Reconstruct wrote behind the block")
	}
	again := append(slices.Clone(whole[:4]), buf[:0], bytes.Repeat([]byte{1}, 512))
	if err := Encode(again, 4); err != nil || !bytes.Equal(again[4], whole[4]) || !bytes.Equal(again[5], whole[5]) || &again[4][0] != &buf[0] {
		t.Errorf("Encode over old buffers = %v, want the same parity in them", err)
	}
}

func TestErrors(t *testing.T) {
	whole := stripe(t, 4, 2, 64)
	without := func(lost ...int) [][]byte {
		b := slices.Clone(whole)
		for _, i := range lost {
			b[i] = nil
		}
		return b
	}
	odd := slices.Clone(whole)
	odd[3] = odd[3][:63]
	oddParity := slices.Clone(whole)
	oddParity[5] = oddParity[5][:63]
	for _, c := range []struct {
		name   string
		blocks [][]byte
		nrData int
		want   error
	}{
		{"three lost", without(0, 3, 5), 4, errs.ErrIO},
		{"all lost", make([][]byte, 6), 4, errs.ErrIO},
		{"two lost of one parity", without(0, 3)[:5], 4, errs.ErrIO},
		{"no parity", whole, 6, errs.ErrCorrupt},
		{"three parities", whole, 3, errs.ErrCorrupt},
		{"no data", whole[:2], 0, errs.ErrCorrupt},
		{"negative", whole, -1, errs.ErrCorrupt},
		{"nothing", nil, 0, errs.ErrCorrupt},
		{"more data than blocks", whole, 7, errs.ErrCorrupt},
		{"17 blocks", make([][]byte, 17), 15, errs.ErrCorrupt},
		{"odd length", odd, 4, errs.ErrCorrupt},
		{"odd parity length", oddParity, 4, errs.ErrCorrupt},
	} {
		for name, f := range map[string]func([][]byte, int) error{"Reconstruct": Reconstruct, "ReconstructData": ReconstructData} {
			in := slices.Clone(c.blocks)
			if err := f(in, c.nrData); !errors.Is(err, c.want) {
				t.Errorf("%s(%s) = %v, want %v", name, c.name, err, c.want)
			}
			for i := range in {
				if len(in[i]) != len(c.blocks[i]) {
					t.Errorf("%s(%s) changed block %d", name, c.name, i)
				}
			}
		}
		if err := Encode(slices.Clone(c.blocks), c.nrData); c.want == errs.ErrCorrupt && !errors.Is(err, c.want) {
			t.Errorf("Encode(%s) = %v, want %v", c.name, err, c.want)
		}
	}
	if err := Encode(without(1), 4); !errors.Is(err, errs.ErrCorrupt) {
		t.Errorf("Encode without a data block = %v, want ErrCorrupt", err)
	}
	if err := Reconstruct(whole, 4); err != nil {
		t.Errorf("Reconstruct of a whole stripe = %v, want nil", err)
	}
	if err := Encode(make([][]byte, 6), 4); err != nil {
		t.Errorf("Encode of blocks of length 0 = %v, want nil", err)
	}
}

func TestConcurrent(t *testing.T) {
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := 2; n <= 14; n++ {
				whole := stripe(t, n, 2, 512)
				lossy := slices.Clone(whole)
				lossy[g%n], lossy[(g+1)%n] = nil, nil
				if err := Reconstruct(lossy, n); err != nil {
					t.Errorf("Reconstruct(%d+2) = %v, want nil", n, err)
				}
				for i := range whole {
					if !bytes.Equal(lossy[i], whole[i]) {
						t.Errorf("Reconstruct(%d+2) block %d differs", n, i)
					}
				}
			}
		}()
	}
	wg.Wait()
}

func BenchmarkEncode(b *testing.B) {
	for _, n := range []int{3, 8, 14} {
		b.Run(fmt.Sprintf("data=%d", n), func(b *testing.B) {
			blocks := make([][]byte, n+2)
			for i := range blocks {
				blocks[i] = bytes.Repeat([]byte{byte(i)}, 131072)
			}
			b.SetBytes(int64(n * 131072))
			for b.Loop() {
				if err := Encode(blocks, n); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkReconstruct(b *testing.B) {
	for _, n := range []int{3, 8, 14} {
		b.Run(fmt.Sprintf("data=%d", n), func(b *testing.B) {
			blocks := make([][]byte, n+2)
			for i := range blocks {
				blocks[i] = bytes.Repeat([]byte{byte(i)}, 131072)
			}
			b.SetBytes(2 * 131072)
			b.ReportAllocs()
			for b.Loop() {
				blocks[0], blocks[2] = blocks[0][:0], blocks[2][:0]
				if err := Reconstruct(blocks, n); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
