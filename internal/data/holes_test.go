package data

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/testvol/build"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// TestHolesAgainstModel: files made of every kind of extent; what is read, and
// where SEEK_DATA and SEEK_HOLE end, against two plain arrays.
func TestHolesAgainstModel(t *testing.T) {
	const sectors = 50
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 8))
		v := build.New(build.Config{KeysPerLeaf: 4, Fanout: 30})
		bytesOf := make([]byte, sectors*512)
		var data [sectors]bool
		for at := uint64(0); at < sectors; {
			n := 1 + r.Uint64N(min(8, sectors-at))
			end := at + n
			part := text(int(n)*512, byte(r.IntN(20)))
			stored := func(has bool) {
				for i := at; i < end; i++ {
					data[i] = has
				}
			}
			var k ondisk.KV
			switch r.IntN(9) {
			case 0: // a hole
				at = end
				continue
			case 1:
				k = build.ExtentKey(ondisk.KeyReservation, inum, end, uint32(n), ondisk.Bversion{}, ondisk.Reservation{NrReplicas: 1}.Append(nil))
			case 2: // unwritten counts as data, and is zero
				k = v.Extent(inum, at, part, build.Enc{})
				k.Val = ondisk.Ptr{Unwritten: true, Offset: v.Store(part)[0].Offset}.Append(nil)
				stored(true)
			case 3: // inline, shorter than its extent
				k = build.ExtentKey(ondisk.KeyInlineData, inum, end, uint32(n), ondisk.Bversion{}, bytes.Clone(part[:n*200]))
				copy(bytesOf[at*512:], part[:n*200])
				stored(true)
			case 4, 5:
				// A whiteout says nothing of what is around it.
				v.Add(ondisk.BtreeExtents, build.ExtentKey(ondisk.KeyWhiteout, inum, at+1, 0, ondisk.Bversion{}, nil))
				fallthrough
			default:
				k = v.Extent(inum, at, part, build.Enc{Csum: ondisk.CsumCRC32C})
				copy(bytesOf[at*512:], part)
				stored(true)
			}
			v.Add(ondisk.BtreeExtents, k)
			at = end
		}
		rd := reader(t, v.Devices(), nil)
		size := sectors*512 - r.IntN(3*512)
		f := file(size)
		checkReads(t, rd, f, bytesOf[:size], r, 10)
		isData := func(off int) bool { return data[off/512] }
		seek := func(off int, want bool) int {
			for ; off < size; off++ {
				if isData(off) == want {
					return off
				}
			}
			return size
		}
		for range 30 {
			off := r.IntN(size + 100)
			at, ok, err := rd.Next(ctx, f, uint64(off), false)
			want := seek(off, true)
			if err != nil || ok != (want < size) || ok && at != uint64(want) {
				t.Fatalf("seed %d: data from %d: %d, %t, %v, want %d of %d", seed, off, at, ok, err, want, size)
			}
			at, ok, err = rd.Next(ctx, f, uint64(off), true)
			want = seek(off, false)
			if err != nil || ok != (off < size) || ok && at != uint64(want) {
				t.Fatalf("seed %d: hole from %d: %d, %t, %v, want %d of %d", seed, off, at, ok, err, want, size)
			}
		}
		var got, want []Range
		for off := 0; off < size; {
			s := seek(off, true)
			if off = seek(s, false); s < off {
				want = append(want, Range{uint64(s), uint64(off)})
			}
		}
		if err := rd.Data(ctx, f, 0, func(r Range) bool { got = append(got, r); return true }); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("seed %d: data ranges (-want +got):\n%s", seed, d)
		}
	}
}

// TestHugeSize: an inode may say any size; what it holds is found all the same,
// and nothing wraps.
func TestHugeSize(t *testing.T) {
	v := build.New(build.Config{})
	data := text(4096, 1)
	const last = 1<<54 - 8 // sector
	v.Add(ondisk.BtreeExtents, v.Extent(inum, 8, data, build.Enc{Csum: ondisk.CsumCRC32C}), v.Extent(inum, last, data, build.Enc{Csum: ondisk.CsumCRC32C}))
	r := reader(t, v.Devices(), nil)
	f := file(0)
	f.Size = 1<<63 - 1
	var got []Range
	if err := r.Data(ctx, f, 0, func(x Range) bool { got = append(got, x); return true }); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]Range{{4096, 8192}, {last * 512, 1<<63 - 1}}, got); d != "" {
		t.Errorf("data ranges (-want +got):\n%s", d)
	}
	p := make([]byte, 5000)
	if n, err := r.ReadAt(ctx, f, p, last*512+10); err != nil || n != 4085 || !bytes.Equal(p[:n], data[10:4095]) {
		t.Errorf("ReadAt behind 2^62 = %d, %v, want 4085 bytes", n, err)
	}
	if at, ok, err := r.Next(ctx, f, 8192, true); at != 8192 || !ok || err != nil {
		t.Errorf("hole = %d, %t, %v, want 8192", at, ok, err)
	}
}

// TestReflink: pointers into the reflink btree, over the borders of what is
// there, with pads, into inline data, and to where nothing is.
func TestReflink(t *testing.T) {
	v := build.New(build.Config{})
	a, b, c := text(20*512, 1), text(30*512, 2), text(8*512, 3)
	shared := func(end uint64, data []byte, e build.Enc) ondisk.KV {
		n := uint32(len(data) / 512)
		return build.ExtentKey(ondisk.KeyReflinkV, 0, end, n, e.Version, ondisk.AppendReflinkV(nil, 2, v.Blob(data, e)))
	}
	v.Add(ondisk.BtreeReflink,
		shared(120, a, build.Enc{Csum: ondisk.CsumCRC32C}),
		shared(150, b, build.Enc{Csum: ondisk.CsumXXHash, Compression: ondisk.CompressionZstd}),
		build.ExtentKey(ondisk.KeyIndirectInlineData, 0, 158, 8, ondisk.Bversion{}, ondisk.AppendReflinkV(nil, 1, build.Pad8([]byte("inline")))),
		ondisk.KV{Key: ondisk.Key{Type: ondisk.KeyError, Pos: ondisk.Pos{Offset: 166}, Size: 8}},
		shared(200, c, build.Enc{}))
	inline := make([]byte, 8*512)
	copy(inline, "inline")
	space := append(append(append([]byte{}, a...), b...), inline...) // of the reflink btree, from 100 on
	ptr := func(at, n, idx uint64) ondisk.KV {
		return build.ExtentKey(ondisk.KeyReflinkP, inum, at+n, uint32(n), ondisk.Bversion{}, ondisk.ReflinkP{Idx: idx, FrontPad: 3, BackPad: 100, MayUpdateOptions: true}.Append(nil))
	}
	var want []byte
	add := func(n, idx uint64) {
		v.Add(ondisk.BtreeExtents, ptr(uint64(len(want)/512), n, idx))
		want = append(want, space[(idx-100)*512:(idx-100+n)*512]...)
	}
	add(20, 100) // exactly one
	add(10, 105) // inside of one
	add(30, 110) // over a border
	add(58, 100) // all of it
	add(1, 157)
	r := reader(t, v.Devices(), nil)
	checkReads(t, r, file(len(want)), want, rand.New(rand.NewPCG(2, 2)), 100)

	// What is missing is an error for its own range.
	for _, x := range []struct {
		idx, n uint64
		good   int // sectors before the error
		says   string
	}{
		{190, 10, 0, "reflink_p_to_missing_reflink_v at btree extents, position 5000:10:4294967295: expected an extent at 190 in the reflink btree"},
		{150, 16, 8, "data lost"},
		{195, 10, 5, "expected an extent at 200"},
		{1000, 4, 0, "reflink_p_to_missing_reflink_v"},
		{1<<56 - 1, 4, 0, "reflink_p_to_missing_reflink_v"},
	} {
		v.Roots = map[ondisk.BtreeID]build.Root{ondisk.BtreeReflink: v.Roots[ondisk.BtreeReflink]}
		v.SB.SetCleanSection(nil)
		p := ptr(0, x.n, x.idx)
		v.Roots[ondisk.BtreeExtents] = v.Tree(ondisk.BtreeExtents, []ondisk.KV{p})
		buf := make([]byte, x.n*512)
		n, err := reader(t, v.Devices(), nil).ReadAt(ctx, file(len(buf)), buf, 0)
		if err == nil || n != x.good*512 || !errors.Is(err, errs.ErrIO) || !strings.Contains(err.Error(), x.says) {
			t.Errorf("idx %d: ReadAt = %d, %v, want %d bytes and an I/O error with %q", x.idx, n, err, x.good*512, x.says)
		}
	}
}

// TestHostileExtents: keys that contradict themselves give errors.
func TestHostileExtents(t *testing.T) {
	v := build.New(build.Config{})
	data := text(8*512, 1)
	at := v.Store(data)[0]
	crc := ondisk.Crc{Kind: 128, CompressedSize: 8, UncompressedSize: 8, CsumType: ondisk.CsumCRC32C}
	with := func(f func(c *ondisk.Crc)) []byte {
		c := crc
		f(&c)
		return at.Append(c.Append(nil))
	}
	for _, c := range []struct {
		name string
		val  []byte
		says string
	}{
		{"no entries", nil, "extent_ptrs_no_ptrs"},
		{"entry of zeros", make([]byte, 8), "extent_ptrs_invalid_entry"},
		{"crc without its words", with(func(*ondisk.Crc) {})[:16], "extent_ptrs_invalid_entry"},
		{"17 pointers", bytes.Repeat(at.Append(nil), 17), "extent_ptrs_too_many_ptrs"},
		{"unknown checksum", with(func(c *ondisk.Crc) { c.CsumType = 9 }), "ptr_crc_csum_type_unknown"},
		{"unknown compression", with(func(c *ondisk.Crc) { c.Compression = 7 }), "ptr_crc_compression_type_unknown"},
		{"offset behind the blob", with(func(c *ondisk.Crc) { c.Offset = 1 }), "ptr_crc_uncompressed_size_too_small"},
		{"sizes that differ without compression", with(func(c *ondisk.Crc) { c.UncompressedSize = 16 }), "ptr_crc_uncompressed_size_mismatch"},
		{"a blob that is no zstd", with(func(c *ondisk.Crc) { c.Compression, c.CsumType = ondisk.CompressionZstd, 0 }), "data_decompress_err"},
		{"a blob that claims 4 MiB", with(func(c *ondisk.Crc) {
			c.Compression, c.CsumType, c.UncompressedSize = ondisk.CompressionLZ4, 0, 8192
		}), "data_decompress_err"},
		{"encrypted, no key", with(func(c *ondisk.Crc) { c.CsumType = ondisk.CsumPoly1305_80 }), "no key"},
		{"behind the device", ondisk.Ptr{Offset: 1 << 43}.Append(nil), "past the end of the device"},
		{"unknown member", ondisk.Ptr{Dev: 77}.Append(nil), "data_lost_device_removed"},
		{"only a placeholder", ondisk.Ptr{Dev: ondisk.InvalidDev}.Append(nil), "data_lost_device_removed"},
		{"block of a stripe that is not there", ondisk.Ptr{Dev: ondisk.InvalidDev, Offset: 9}.Append(ondisk.StripePtr{Index: 5}.Append(nil)), "ptr_to_missing_stripe"},
	} {
		v.Roots, v.SB = map[ondisk.BtreeID]build.Root{}, v.SB.Clone()
		v.SB.SetCleanSection(nil)
		v.Roots[ondisk.BtreeExtents] = v.Tree(ondisk.BtreeExtents, []ondisk.KV{build.ExtentKey(ondisk.KeyExtent, inum, 8, 8, ondisk.Bversion{}, c.val)})
		buf := make([]byte, 4096)
		n, err := reader(t, v.Devices(), nil).ReadAt(ctx, file(4096), buf, 0)
		if err == nil || n != 0 || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: ReadAt = %d, %v, want an error with %q", c.name, n, err, c.says)
		}
	}
}
