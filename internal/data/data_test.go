package data

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/block/blocktest"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/alloc"
	"github.com/gobcachefs/gobcachefs/internal/btree"
	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/internal/journal"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/internal/testvol/build"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

var ctx = context.Background()

const inum = 5000

// reader reads the volume that devices hold. Warnings go to warn, or fail t.
func reader(t testing.TB, devs []block.Reader, warn func(error)) *Reader {
	t.Helper()
	if warn == nil {
		warn = func(err error) { t.Errorf("warning: %v", err) }
	}
	var mu sync.Mutex
	set, err := members.Open(ctx, devs, members.Options{Degraded: members.DegradedVery, Warn: func(err error) { mu.Lock(); defer mu.Unlock(); warn(err) }})
	if err != nil {
		t.Fatal(err)
	}
	s, err := journal.Load(ctx, set)
	if err != nil {
		t.Fatal(err)
	}
	tr := btree.New(set, s, btree.Config{CacheBytes: 1 << 20, Warn: set.Warn})
	return New(set, tr, alloc.NewGens(set, tr))
}

// file is the file of size bytes.
func file(size int) File {
	return File{View: btree.NewView(build.RootSnapshot, nil), Inum: inum, Size: uint64(size)}
}

func text(n int, seed byte) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%c%d to be compressed ", 'a'+seed, i)
	}
	return b.Bytes()[:n]
}

// checkReads compares reads at all sorts of places with what the file holds.
func checkReads(t *testing.T, r *Reader, f File, want []byte, rnd *rand.Rand, n int) {
	t.Helper()
	read := func(off, size int) {
		t.Helper()
		p := bytes.Repeat([]byte{0xee}, size)
		got, err := r.ReadAt(ctx, f, p, int64(off))
		w := want[min(off, len(want)):min(off+size, len(want))]
		if err != nil || got != len(w) || !bytes.Equal(p[:got], w) {
			t.Fatalf("ReadAt(%d bytes at %d) = %d, %v, want %d bytes, the right ones", size, off, got, err, len(w))
		}
	}
	read(0, len(want))
	read(0, len(want)+1000)
	read(len(want), 10)
	for _, off := range []int{0, 1, 511, 512, 513, 4095, 4096, len(want) - 1, len(want) - 513} {
		for _, size := range []int{0, 1, 511, 512, 513, 4096, 5000} {
			read(max(off, 0), size)
		}
	}
	for range n {
		off := rnd.IntN(len(want) + 1)
		read(off, rnd.IntN(len(want)+600-off))
	}
}

// cut makes the key of a fragment of an extent: sectors [from, to) of it.
func cut(t *testing.T, kv ondisk.KV, from, to uint32) ondisk.KV {
	t.Helper()
	start := kv.Start().Offset
	out, err := cutFront(kv, from, nil)
	if err != nil {
		t.Fatal(err)
	}
	return cutBack(out, start+uint64(to))
}

// TestEncodings reads whole extents and fragments of them, in every way in which
// data can be stored.
func TestEncodings(t *testing.T) {
	key := crypt.Key{1, 2, 3}
	for csum := ondisk.CsumType(0); csum < ondisk.NrCsumTypes; csum++ {
		for comp := ondisk.CompressionType(0); comp < ondisk.NrCompressionTypes; comp++ {
			t.Run(fmt.Sprintf("%v %v", csum, comp), func(t *testing.T) {
				t.Parallel()
				rnd := rand.New(rand.NewPCG(uint64(csum), uint64(comp)))
				v := build.New(build.Config{Key: &key})
				const sectors = 60
				want := text(4*sectors*512-100, byte(comp))
				e := build.Enc{Csum: csum, Compression: comp, Version: ondisk.Bversion{Lo: 77 + uint64(csum), Hi: 3}}
				var keys []ondisk.KV
				for i := range uint64(4) {
					// The entry kinds hold different sizes of checksum and nonce.
					switch e.Kind = []uint8{0, 128, 64, 0}[i]; {
					case e.Kind == 64 && csum.Bytes() > 10:
						e.Kind = 128
					case i == 3 && csum.Encrypted():
						e.Nonce = 40
					}
					data := want[i*sectors*512 : min((i+1)*sectors*512, uint64(len(want)))]
					k := v.Extent(inum, i*sectors, data, e)
					switch i {
					case 1: // two fragments of one blob
						keys = append(keys, cut(t, k, 0, 17), cut(t, k, 17, sectors))
					case 2: // the middle was overwritten by a copy of itself, stored plain
						keys = append(keys, cut(t, k, 0, 20), v.Extent(inum, 2*sectors+20, data[20*512:33*512], build.Enc{}), cut(t, k, 33, sectors))
					default:
						keys = append(keys, k)
					}
				}
				v.Add(ondisk.BtreeExtents, keys...)
				checkReads(t, reader(t, v.Devices(), nil), file(len(want)), want, rnd, 60)
			})
		}
	}
}

// TestByteNotAskedFor: a flipped byte of an extent fails reads of any part of
// it, though the part asked for may be intact.
func TestByteNotAskedFor(t *testing.T) {
	key := crypt.Key{1, 2, 3}
	const sectors = 32
	want := text(3*sectors*512, 0)
	for csum := ondisk.CsumType(0); csum < ondisk.NrCsumTypes; csum++ {
		for _, comp := range []ondisk.CompressionType{ondisk.CompressionNone, ondisk.CompressionZstd, ondisk.CompressionLZ4} {
			if csum == ondisk.CsumNone && comp.Compressed() {
				continue // nothing can be said of a flipped byte then
			}
			v := build.New(build.Config{Key: &key})
			var at int64
			for i := range uint64(3) {
				k := v.Extent(inum, i*sectors, want[i*sectors*512:(i+1)*sectors*512], build.Enc{Csum: csum, Compression: comp})
				v.Add(ondisk.BtreeExtents, k)
				if i == 1 {
					x, err := ondisk.DecodeExtent(k.Val, k.Size, nil)
					if err != nil {
						t.Fatal(err)
					}
					at = int64(x.Ptrs[0].Offset)*512 + int64(x.Ptrs[0].Crc.CompressedSize)*512 - 1
				}
			}
			devs := v.Devices()
			devs[0] = blocktest.NewFault(devs[0], blocktest.Flip(at, 1, 0x20))
			r := reader(t, devs, nil)
			p := make([]byte, 100)
			for _, c := range []struct {
				off  int64
				hurt bool
			}{{0, false}, {(sectors - 1) * 512, false}, {sectors * 512, true}, {sectors*512 + 5000, true}, {2 * sectors * 512, false}} {
				n, err := r.ReadAt(ctx, file(len(want)), p, c.off)
				if c.hurt && csum != ondisk.CsumNone {
					if !errors.Is(err, errs.ErrChecksum) || n != 0 {
						t.Errorf("%v %v: ReadAt(%d) = %d, %v, want ErrChecksum", csum, comp, c.off, n, err)
					} else if s := err.Error(); !strings.Contains(s, "data_read_csum_err: inode 5000, file offset 16384") || !strings.Contains(s, "member 0, sector ") || !strings.Contains(s, "expected "+csum.String()) {
						t.Errorf("%v %v: error %q lacks inode, offset, member, sector or checksum", csum, comp, s)
					}
				} else if err != nil || !bytes.Equal(p[:n], want[c.off:c.off+100]) {
					t.Errorf("%v %v: ReadAt(%d) = %d, %v, want what is there", csum, comp, c.off, n, err)
				}
			}
			// A read over all of it gives what comes before.
			all := make([]byte, len(want))
			if n, err := r.ReadAt(ctx, file(len(want)), all, 0); csum != ondisk.CsumNone && (n != sectors*512 || err == nil || !bytes.Equal(all[:n], want[:n])) {
				t.Errorf("%v %v: ReadAt of all = %d, %v, want %d and an error", csum, comp, n, err, sectors*512)
			}
		}
	}
}

// twice is a file with one extent of two copies; it gives where they are.
func twice(v *build.Volume, e build.Enc, data []byte) (at [2]int64, n int64) {
	e.Devs = []uint8{0, 1}
	k := v.Extent(inum, 0, data, e)
	v.Add(ondisk.BtreeExtents, k)
	x, err := ondisk.DecodeExtent(k.Val, k.Size, nil)
	if err != nil {
		panic(err)
	}
	for i := range at {
		at[i] = int64(x.Ptrs[i].Offset) * 512
	}
	return at, int64(x.Ptrs[0].Crc.CompressedSize) * 512
}

// TestOtherCopy: which copies are read, how often, and what is said.
func TestOtherCopy(t *testing.T) {
	data := text(16<<10, 1)
	times := func(r blocktest.Rule, n int) blocktest.Rule { r.Times = n; return r }
	for _, c := range []struct {
		name  string
		csum  ondisk.CsumType
		retry uint64 // option checksum_err_retry_nr, 0: the volume is of 1.13 and has none
		rules [2][]func(at, n int64) blocktest.Rule
		reads [2]int // of the extent
		ok    bool
		says  string
	}{
		{"both good", ondisk.CsumCRC32C, 0, [2][]func(at, n int64) blocktest.Rule{}, [2]int{1, 0}, true, ""},
		{"bad checksum for good", ondisk.CsumCRC32C, 0, [2][]func(at, n int64) blocktest.Rule{{func(at, n int64) blocktest.Rule { return blocktest.Flip(at+n-1, 1, 1) }}}, [2]int{4, 1}, true,
			"data_read_csum_err_recovered: inode 5000, file offset 0: data checksum at member 0, sector "},
		{"bad checksum twice: a cable", ondisk.CsumCRC32C, 0, [2][]func(at, n int64) blocktest.Rule{{func(at, n int64) blocktest.Rule { return times(blocktest.Flip(at, 1, 1), 2) }}}, [2]int{3, 0}, true, "data_read_csum_err_recovered"},
		{"one retry", ondisk.CsumCRC32C, 1, [2][]func(at, n int64) blocktest.Rule{{func(at, n int64) blocktest.Rule { return blocktest.Flip(at, 1, 1) }}}, [2]int{2, 1}, true, "data_read_csum_err_recovered"},
		{"ten retries", ondisk.CsumCRC32C, 10, [2][]func(at, n int64) blocktest.Rule{{func(at, n int64) blocktest.Rule { return blocktest.Flip(at, 1, 1) }}}, [2]int{11, 1}, true, "data_read_csum_err_recovered"},
		{"the device fails: no retry", ondisk.CsumCRC32C, 0, [2][]func(at, n int64) blocktest.Rule{{func(at, n int64) blocktest.Rule { return blocktest.EIO(at+n-512, 512) }}}, [2]int{1, 1}, true, "data_read_io_err_recovered: inode 5000, file offset 0: device read at member0, member 0"},
		{"without checksum the device can still fail", ondisk.CsumNone, 0, [2][]func(at, n int64) blocktest.Rule{{func(at, n int64) blocktest.Rule { return blocktest.EIO(at, 512) }}}, [2]int{1, 1}, true, "data_read_io_err_recovered"},
		{"both bad", ondisk.CsumXXHash, 1, [2][]func(at, n int64) blocktest.Rule{{func(at, n int64) blocktest.Rule { return blocktest.Flip(at, 1, 1) }}, {func(at, n int64) blocktest.Rule { return blocktest.EIO(at, 512) }}}, [2]int{2, 1}, false,
			"data_read_csum_err: inode 5000, file offset 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := build.Config{Members: 2}
			if c.retry > 0 {
				cfg.Version = ondisk.Version1_39
			}
			v := build.New(cfg)
			if o, ok := ondisk.FindOption("checksum_err_retry_nr"); ok && c.retry > 0 {
				if err := o.Set(v.SB, c.retry); err != nil {
					t.Fatal(err)
				}
			}
			at, n := twice(v, build.Enc{Csum: c.csum}, data)
			devs := v.Devices()
			var faults [2]*blocktest.Fault
			for i := range faults {
				faults[i] = blocktest.NewFault(devs[i])
				for _, f := range c.rules[i] {
					faults[i].Add(f(at[i], n))
				}
				devs[i] = faults[i]
			}
			var warned []string
			r := reader(t, devs, func(err error) { warned = append(warned, err.Error()) })
			p := make([]byte, len(data))
			got, err := r.ReadAt(ctx, file(len(data)), p, 0)
			text := strings.Join(warned, "\n")
			if !c.ok {
				if err == nil || got != 0 {
					t.Fatalf("ReadAt = %d, %v, want an error", got, err)
				}
				text = err.Error()
				for _, s := range []string{"member 0, sector ", "member1, member 1, sector "} {
					if !strings.Contains(text, s) {
						t.Errorf("error %q, want %q in it", text, s)
					}
				}
			} else if err != nil || !bytes.Equal(p[:got], data) {
				t.Fatalf("ReadAt = %d, %v, want the data", got, err)
			}
			if !strings.Contains(text, c.says) || c.says == "" && text != "" {
				t.Errorf("says %q, want %q", text, c.says)
			}
			for i, f := range faults {
				if k := f.ReadsOf(at[i], n); k != c.reads[i] {
					t.Errorf("copy %d was read %d times, want %d", i, k, c.reads[i])
				}
			}
		})
	}
}

// TestMissingMember: a copy on a member that is not here is passed over
// silently; the last copy gone is an error that says so.
func TestMissingMember(t *testing.T) {
	data := text(8<<10, 1)
	both := build.New(build.Config{Members: 3})
	twice(both, build.Enc{Csum: ondisk.CsumCRC32C}, data)
	d := both.Devices()
	checkReads(t, reader(t, []block.Reader{d[0], d[2]}, func(error) {}), file(len(data)), data, rand.New(rand.NewPCG(1, 1)), 5)
	v := build.New(build.Config{Members: 2})
	k := v.Extent(inum, 0, data, build.Enc{Csum: ondisk.CsumCRC32C, Devs: []uint8{1}})
	v.Add(ondisk.BtreeExtents, k)
	_, err := reader(t, v.Devices()[:1], func(error) {}).ReadAt(ctx, file(len(data)), make([]byte, 10), 0)
	if !errors.Is(err, errs.ErrMissingDevice) || !errors.Is(err, errs.ErrIO) || !strings.Contains(err.Error(), "expected a copy on members 1") {
		t.Errorf("ReadAt = %v, want ErrMissingDevice, ErrIO and the member", err)
	}
}

// TestCachedCopies: a stale one is never read, a good one is, but not first.
func TestCachedCopies(t *testing.T) {
	good, other := text(4096, 1), text(4096, 2)
	for _, csum := range []ondisk.CsumType{ondisk.CsumNone, ondisk.CsumCRC32C} {
		for _, c := range []struct {
			name string
			gen  uint8 // of the cached pointer; the bucket has 5
			lose bool  // the dirty copy cannot be read
			want []byte
		}{
			{"stale", 4, false, good}, {"stale, the other lost", 4, true, nil}, {"from the future", 6, true, nil},
			{"good", 5, false, good}, {"good, the other lost", 5, true, good}, {"far behind", 5 + 128, true, nil},
		} {
			v := build.New(build.Config{Members: 2})
			stored, crc, has := v.Encode(good, build.Enc{Csum: csum})
			var val []byte
			if has {
				val = crc.Append(val)
			}
			cached := v.Store(stored, 1)[0]
			if c.gen != 5 {
				// The bucket was used again; without a checksum only the generation tells.
				if _, err := v.Dev[1].WriteAt(other, int64(cached.Offset)*512); err != nil {
					t.Fatal(err)
				}
			}
			cached.Cached, cached.Gen = true, c.gen
			dirty := v.Store(stored, 0)[0]
			val = dirty.Append(cached.Append(val))
			v.Add(ondisk.BtreeExtents, build.ExtentKey(ondisk.KeyExtent, inum, 8, 8, ondisk.Bversion{}, val))
			v.Add(ondisk.BtreeAlloc, build.Key(ondisk.KeyAllocV4, 1, cached.Offset/uint64(v.Bucket), 0, ondisk.Alloc{Gen: 5, DataType: ondisk.DataCached}.Append(nil, v.Version)))
			devs := v.Devices()
			if c.lose {
				devs[0] = blocktest.NewFault(devs[0], blocktest.EIO(int64(dirty.Offset)*512, 4096))
			}
			f := blocktest.NewFault(devs[1])
			devs[1] = f
			r := reader(t, devs, func(error) {})
			p := make([]byte, 4096)
			n, err := r.ReadAt(ctx, file(4096), p, 0)
			if c.want == nil && (err == nil || n > 0) {
				t.Errorf("%v, %s: ReadAt = %d, %v, want an error", csum, c.name, n, err)
			}
			if c.want != nil && (err != nil || !bytes.Equal(p, c.want)) {
				t.Errorf("%v, %s: ReadAt = %d, %v, want the data", csum, c.name, n, err)
			}
			if reads := f.ReadsOf(int64(cached.Offset)*512, 4096); c.gen != 5 && reads > 0 || !c.lose && reads > 0 {
				t.Errorf("%v, %s: the cached copy was read %d times, want never", csum, c.name, reads)
			}
		}
	}
}

// TestNoLockOverIO: while the read of one file hangs, others are read.
func TestNoLockOverIO(t *testing.T) {
	v := build.New(build.Config{})
	const files = 40
	var at int64
	var want [files][]byte
	for i := range files {
		want[i] = text(4096, byte(i))
		k := v.Extent(inum+uint64(i), 0, want[i], build.Enc{Csum: ondisk.CsumCRC32C, Compression: ondisk.CompressionLZ4})
		v.Add(ondisk.BtreeExtents, k)
		if i == 3 {
			x, err := ondisk.DecodeExtent(k.Val, k.Size, nil)
			if err != nil {
				t.Fatal(err)
			}
			at = int64(x.Ptrs[0].Offset) * 512
		}
	}
	devs := v.Devices()
	rule, gate := blocktest.Gate(at, 512)
	defer gate.Open()
	devs[0] = blocktest.NewFault(devs[0], rule)
	r := reader(t, devs, nil)
	read := func(i int) error {
		f := file(4096)
		f.Inum += uint64(i)
		p := make([]byte, 4096)
		n, err := r.ReadAt(ctx, f, p, 0)
		if err == nil && !bytes.Equal(p[:n], want[i]) {
			err = errors.New("wrong bytes")
		}
		return err
	}
	done := make(chan error)
	go func() { done <- read(3) }()
	<-gate.Entered()
	for i := range files {
		if i != 3 {
			if err := read(i); err != nil {
				t.Fatalf("file %d: %v", i, err)
			}
		}
	}
	select {
	case err := <-done:
		t.Fatalf("the read that hangs ended: %v", err)
	default:
	}
	gate.Open()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestContext: a read that is canceled says so.
func TestContext(t *testing.T) {
	v := build.New(build.Config{})
	v.Add(ondisk.BtreeExtents, v.Extent(inum, 0, text(4096, 0), build.Enc{Csum: ondisk.CsumCRC32C}))
	r := reader(t, v.Devices(), nil)
	c, cancel := context.WithCancel(ctx)
	cancel()
	if n, err := r.ReadAt(c, file(4096), make([]byte, 10), 0); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("ReadAt = %d, %v, want 0, context.Canceled", n, err)
	}
}

// TestManyReaders reads random parts of one file from many goroutines; it is for
// the race detector.
func TestManyReaders(t *testing.T) {
	v := build.New(build.Config{})
	want := text(64*60*512, 0)
	for i := range uint64(64) {
		e := build.Enc{Csum: ondisk.CsumCRC32C}
		if i%2 == 0 {
			e.Compression = ondisk.CompressionZstd
		}
		v.Add(ondisk.BtreeExtents, v.Extent(inum, i*60, want[i*60*512:(i+1)*60*512], e))
	}
	r := reader(t, v.Devices(), nil)
	var wg sync.WaitGroup
	for g := range uint64(6) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rnd := rand.New(rand.NewPCG(g, 7))
			for range 150 {
				off := rnd.IntN(len(want))
				p := make([]byte, rnd.IntN(100_000))
				n, err := r.ReadAt(ctx, file(len(want)), p, int64(off))
				if err != nil || !bytes.Equal(p[:n], want[off:min(len(want), off+len(p))]) {
					t.Errorf("ReadAt(%d at %d) = %d, %v, want the data", len(p), off, n, err)
					return
				}
			}
		}()
	}
	wg.Wait()
}
