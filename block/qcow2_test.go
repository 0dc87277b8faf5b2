package block_test

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/block/blocktest"
	"github.com/gobcachefs/gobcachefs/errs"
)

// Ways to store a cluster.
const (
	stored = iota
	packed
	zeroFlag // version 3
	absent
)

// makeQcow2 builds an image of a disk, each cluster stored the way that how says.
func makeQcow2(t testing.TB, version uint32, bits uint, zstdPacked bool, disk []byte, how func(i int) int) []byte {
	t.Helper()
	be := binary.BigEndian
	cluster := 1 << bits
	n := (len(disk) + cluster - 1) / cluster
	per := cluster / 8
	nl2 := (n + per - 1) / per
	l1Clusters := (nl2*8 + cluster - 1) / cluster
	// Header, first-level table, second-level tables, data.
	img := make([]byte, cluster*(1+l1Clusters+nl2))
	h := img
	copy(h, "QFI\xfb")
	be.PutUint32(h[4:], version)
	be.PutUint32(h[20:], uint32(bits))
	be.PutUint64(h[24:], uint64(len(disk)))
	be.PutUint32(h[36:], uint32(nl2))
	be.PutUint64(h[40:], uint64(cluster))
	if version == 3 {
		be.PutUint32(h[96:], 4)
		be.PutUint32(h[100:], 112)
		if zstdPacked {
			be.PutUint64(h[72:], 1<<3)
			h[104] = 1
		}
	}
	for i := range nl2 {
		be.PutUint64(img[cluster+8*i:], uint64((1+l1Clusters+i)*cluster)|1<<63)
	}
	for i := range n {
		c := make([]byte, cluster)
		copy(c, disk[i*cluster:])
		var entry uint64
		switch how(i) {
		case stored:
			img = append(img, make([]byte, -len(img)&(cluster-1))...)
			entry = uint64(len(img)) | 1<<63
			img = append(img, c...)
		case packed:
			var p []byte
			if zstdPacked {
				p = compress(t, c, zstd.WithEncoderCRC(false))
			} else {
				var b bytes.Buffer
				w, err := flate.NewWriter(&b, 6)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := w.Write(c); err != nil {
					t.Fatal(err)
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				p = b.Bytes()
			}
			at := uint64(len(img))
			sectors := (at+uint64(len(p))-1)/512 - at/512
			shift := 62 - (bits - 8)
			entry = 1<<62 | sectors<<shift | at
			if sectors >= 1<<(bits-8) {
				t.Fatalf("cluster %d packs to %d bytes", i, len(p))
			}
			img = append(img, p...)
			img = append(img, 0x55, 0xaa) // something else comes next
		case zeroFlag:
			img = append(img, make([]byte, -len(img)&(cluster-1))...)
			entry = uint64(len(img)) | 1 // preallocated: what stands there does not count
			img = append(img, bytes.Repeat([]byte{0xee}, cluster)...)
		}
		at := (1 + l1Clusters) * cluster
		be.PutUint64(img[at+8*i:], entry)
	}
	return img
}

// testDisk is a disk with compressible, random and zero parts.
func testDisk(size, cluster int) []byte {
	d := blocktest.Pattern(size)
	for i := 0; i < size; i += cluster {
		c := d[i:min(i+cluster, size)]
		switch i / cluster % 4 {
		case 1, 2:
			for k := range c {
				c[k] = byte(k / 100 * 7)
			}
		case 3:
			clear(c)
		}
	}
	return d
}

func TestQcow2Suite(t *testing.T) {
	for _, tt := range []struct {
		version uint32
		bits    uint
		zstd    bool
	}{{2, 9, false}, {2, 16, false}, {3, 12, false}, {3, 16, true}, {3, 21, true}} {
		t.Run(fmt.Sprintf("v%d %d bits", tt.version, tt.bits), func(t *testing.T) {
			size := min(40<<tt.bits, 5<<20) + 512*7
			want := testDisk(size, 1<<tt.bits)
			img := makeQcow2(t, tt.version, tt.bits, tt.zstd, want, func(i int) int {
				switch {
				case i%4 == 3 && tt.version == 3 && i%8 == 3:
					return zeroFlag
				case i%4 == 3:
					return absent
				case i%4 == 1:
					return packed
				}
				return stored
			})
			p := writeFile(t, "x.qcow2", img)
			blocktest.Suite(t, func() block.Reader { return mustOpen(t, p, block.Options{}) }, want)
		})
	}
}

func TestQcow2Info(t *testing.T) {
	want := testDisk(1<<20, 65536)
	img := makeQcow2(t, 3, 16, false, want, func(int) int { return stored })
	for name, b := range map[string][]byte{"x.qcow2": img, "x.qcow2.zst": compress(t, img), "cut.qcow2": img[:len(img)-40000]} {
		r := mustOpen(t, writeFile(t, name, b), block.Options{SpoolDir: t.TempDir()})
		got := make([]byte, 1<<20)
		if _, err := r.ReadAt(got, 0); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		exp := want
		if name == "cut.qcow2" { // the end of the last cluster reads as zeros
			exp = append(bytes.Clone(want[:len(want)-40000]), make([]byte, 40000)...)
		}
		if !bytes.Equal(got, exp) {
			t.Errorf("%s: another disk", name)
		}
		if i := r.Info(); i.Kind != block.KindQcow2 || !i.ReadOnly {
			t.Errorf("%s: Info() = %+v", name, i)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestQcow2Refuses(t *testing.T) {
	good := makeQcow2(t, 3, 12, false, testDisk(1<<20, 4096), func(i int) int { return i % 2 })
	for _, tt := range []struct {
		name   string
		change func(b []byte) []byte
		want   error
	}{
		{"version 1", func(b []byte) []byte { b[7] = 1; return b }, errs.ErrUnsupported},
		{"version 4", func(b []byte) []byte { b[7] = 4; return b }, errs.ErrUnsupported},
		{"backing file", func(b []byte) []byte { b[15] = 104; return b }, errs.ErrUnsupported},
		{"encryption", func(b []byte) []byte { b[35] = 1; return b }, errs.ErrUnsupported},
		{"external data file", func(b []byte) []byte { b[79] = 4; return b }, errs.ErrUnsupported},
		{"extended L2", func(b []byte) []byte { b[79] = 16; return b }, errs.ErrUnsupported},
		{"unknown feature", func(b []byte) []byte { b[72] = 1; return b }, errs.ErrUnsupported},
		{"compression type", func(b []byte) []byte { b[79] = 8; b[104] = 9; return b }, errs.ErrUnsupported},
		{"cluster size", func(b []byte) []byte { b[23] = 22; return b }, errs.ErrCorrupt},
		{"small clusters", func(b []byte) []byte { b[23] = 8; return b }, errs.ErrCorrupt},
		{"short table", func(b []byte) []byte { b[39] = 0; return b }, errs.ErrCorrupt},
		{"huge disk", func(b []byte) []byte { b[24] = 0x20; b[36] = 0xff; return b }, errs.ErrCorrupt},
		{"table outside", func(b []byte) []byte { b[42] = 1; return b }, errs.ErrCorrupt},
		{"cut header", func(b []byte) []byte { return b[:60] }, errs.ErrCorrupt},
	} {
		r, err := block.OpenQcow2(block.NewMemory(tt.name, tt.change(bytes.Clone(good))))
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: error %v, want %v", tt.name, err, tt.want)
			if err == nil {
				r.Close()
			}
		}
	}
	// Damage of one table or cluster is an error there only.
	const l2 = 2 * 4096
	for _, tt := range []struct {
		name   string
		change func(b []byte)
	}{
		{"unaligned cluster", func(b []byte) { b[l2+7] ^= 2; b[l2+6] ^= 2 }},
		{"cluster outside", func(b []byte) { b[l2+2] = 1 }},
		{"table outside", func(b []byte) { b[4096+2] = 1 }},
		{"unaligned table", func(b []byte) { b[4096+6] ^= 2 }},
	} {
		b := bytes.Clone(good)
		tt.change(b)
		r, err := block.OpenQcow2(block.NewMemory(tt.name, b))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if _, err := r.ReadAt(make([]byte, 512), 0); !errors.Is(err, errs.ErrCorrupt) {
			t.Errorf("%s: ReadAt = %v, want %v", tt.name, err, errs.ErrCorrupt)
		}
	}
	bad := bytes.Clone(good)
	at := binary.BigEndian.Uint64(bad[l2+8:]) & (1<<54 - 1) &^ (0xff << 50)
	at &= 1<<40 - 1
	for i := range 40 {
		bad[at+uint64(i)] = 0xff
	}
	r, err := block.OpenQcow2(block.NewMemory("packed", bad))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadAt(make([]byte, 512), 4096); !errors.Is(err, errs.ErrCorrupt) {
		t.Errorf("damaged packed cluster: ReadAt = %v, want %v", err, errs.ErrCorrupt)
	}
	if _, err := r.ReadAt(make([]byte, 512), 8192); err != nil {
		t.Errorf("cluster beside it: ReadAt = %v, want nil", err)
	}
}

// TestQcow2Concurrent reads with more tables and packed clusters than the caches
// keep.
func TestQcow2Concurrent(t *testing.T) {
	want := testDisk(24<<20, 512)
	img := makeQcow2(t, 2, 9, false, want, func(i int) int { return i % 2 * (i / 2 % 2) })
	r, err := block.OpenQcow2(block.NewMemory("x", img))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rnd := rand.New(rand.NewPCG(1, uint64(g)))
			buf := make([]byte, 20000)
			for range 300 {
				off, n := rnd.Int64N(int64(len(want))), rnd.IntN(len(buf))
				m, err := r.ReadAt(buf[:n], off)
				if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("ReadAt(%d at %d) = %v", n, off, err)
				}
				if !bytes.Equal(buf[:m], want[off:off+int64(m)]) {
					t.Errorf("ReadAt(%d at %d): other bytes", n, off)
				}
			}
		}()
	}
	wg.Wait()
}

func FuzzQcow2(f *testing.F) {
	for _, z := range []bool{false, true} {
		f.Add(makeQcow2(f, 3, 9, z, testDisk(20<<9, 512), func(i int) int { return i % 4 }))
	}
	f.Add(makeQcow2(f, 2, 9, false, testDisk(3<<9, 512), func(i int) int { return stored }))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := block.OpenQcow2(block.NewMemory("fuzz", b))
		if err != nil {
			return
		}
		defer r.Close()
		buf := make([]byte, 5000)
		for _, off := range []int64{0, 511, 5 << 9, r.Size() / 2, r.Size() - 1} {
			n, err := r.ReadAt(buf, off)
			if err == nil && n != len(buf) {
				t.Errorf("ReadAt(%d) = %d, nil", off, n)
			}
		}
	})
}

func TestQcow2Context(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := block.Open(ctx, "x.qcow2", block.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Open with a canceled context = %v", err)
	}
}
