package bcachefs_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block/blocktest"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/testvol/build"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// TestSyntheticExtentList lists one of each kind, and shared ones with a gap.
func TestSyntheticExtentList(t *testing.T) {
	v := build.New(build.Config{Members: 2, Version: ondisk.Version1_39})
	v.Base()
	a := text(40*512, 1)
	data := v.Extent(inum, 0, a, build.Enc{Csum: ondisk.CsumCRC32C, Compression: ondisk.CompressionZstd, Devs: []uint8{0, 1}})
	place := v.Store(a)[0]
	unwritten := place
	unwritten.Unwritten = true
	cached := place
	cached.Cached = true
	key := func(typ ondisk.KeyType, end uint64, val []byte) ondisk.KV {
		return build.ExtentKey(typ, inum, end, 8, ondisk.Bversion{}, val)
	}
	shared := func(end uint64, size uint32, val []byte) ondisk.KV {
		return build.ExtentKey(ondisk.KeyReflinkV, 0, end, size, ondisk.Bversion{}, ondisk.AppendReflinkV(nil, 3, val))
	}
	v.Add(ondisk.BtreeReflink, shared(120, 20, place.Append(nil)), shared(140, 10, place.Append(nil)))
	v.File("f", inum, ondisk.Inode{Size: 150 * 512}, data,
		key(ondisk.KeyReservation, 48, ondisk.Reservation{NrReplicas: 1}.Append(nil)),
		key(ondisk.KeyInlineData, 56, []byte("inline!!")),
		key(ondisk.KeyExtent, 64, unwritten.Append(nil)),
		key(ondisk.KeyError, 72, nil),
		key(ondisk.KeyExtent, 80, place.Append(ondisk.ExtentEntry{Type: ondisk.XEFlags, Raw: []uint64{1<<6 | 1<<7}}.Append(nil))),
		key(ondisk.KeyExtent, 88, nil),
		key(ondisk.KeyExtent, 96, ondisk.Ptr{Dev: ondisk.InvalidDev}.Append(ondisk.StripePtr{Index: 5, Block: 1}.Append(cached.Append(nil)))),
		build.ExtentKey(ondisk.KeyReflinkP, inum, 140, 36, ondisk.Bversion{}, ondisk.ReflinkP{Idx: 108}.Append(nil)))
	vol := opened(t, v)
	ctx := context.Background()
	f, err := vol.Root().Open(ctx, "/f")
	if err != nil {
		t.Fatal(err)
	}
	list := func(off uint64, limit int) (out []string) {
		if err := f.Handle().Extents(ctx, off, func(e bcachefs.Extent) bool {
			s := fmt.Sprintf("%d+%d %s", e.Offset/512, e.Length/512, e.Kind)
			if e.Shared {
				s += fmt.Sprintf(" shared %d refs %d", e.Reflink, e.Refs)
			}
			for _, c := range e.Copies {
				s += fmt.Sprintf(" [dev %d %v %v %d/%d+%d", c.Dev, c.Checksum, c.Compression, c.StoredSectors, c.DataSectors, c.BlobOffset)
				for name, on := range map[string]bool{" cached": c.Cached, " absent": !c.Present, " striped": c.HasStripe} {
					if on {
						s += name
						break
					}
				}
				s += "]"
			}
			if (e.Err != nil) != (e.Kind == bcachefs.ExtentLost) {
				t.Errorf("%s: error %v", s, e.Err)
			}
			out = append(out, s)
			return len(out) < limit
		}); err != nil {
			t.Error(err)
		}
		return out
	}
	got := list(0, 100)
	stored := 0
	x, err := ondisk.DecodeExtent(data.Val, data.Size, nil)
	if err != nil {
		t.Fatal(err)
	}
	stored = int(x.Ptrs[0].Crc.CompressedSize)
	want := []string{
		fmt.Sprintf("0+40 data [dev 0 crc32c zstd %d/40+0] [dev 1 crc32c zstd %d/40+0]", stored, stored),
		"40+8 reserved", "48+8 inline", "56+8 unwritten [dev 0 none none 8/8+0]", "64+8 lost", "72+8 lost [dev 0 none none 8/8+0]", "80+8 lost",
		"88+8 data [dev 0 none none 8/8+0 cached] [dev 255 none none 8/8+0 absent]",
		"104+12 data shared 108 refs 3 [dev 0 none none 20/20+8]", "116+10 lost shared 120 refs 0", "126+10 data shared 130 refs 3 [dev 0 none none 10/10+0]", "136+4 lost shared 140 refs 0",
	}
	for i := range got {
		got[i] = strings.Replace(got[i], " striped]", " absent]", 1) // both are true of it
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("extents (-want +got):\n%s", d)
	}
	if got := list(57*512, 2); len(got) != 2 || !strings.HasPrefix(got[0], "56+8 unwritten") {
		t.Errorf("extents from sector 57, two of them: %q", got)
	}
}

// TestSyntheticSkipBad: after an error, reading goes on behind what cannot be read: the
// whole of a checksummed blob, a block of plain data, the lost range of keys.
func TestSyntheticSkipBad(t *testing.T) {
	ctx := context.Background()
	v := build.New(build.Config{})
	v.Base()
	a := text(32*512, 1)
	sum := v.Extent(inum, 32, a, build.Enc{Csum: ondisk.CsumCRC32C})
	plain := v.Extent(inum, 64, a, build.Enc{})
	v.File("f", inum, ondisk.Inode{Size: 100 * 512}, sum, plain)
	place := func(kv ondisk.KV) int64 {
		x, err := ondisk.DecodeExtent(kv.Val, kv.Size, nil)
		if err != nil {
			t.Fatal(err)
		}
		return int64(x.Ptrs[0].Offset) * 512
	}
	devs := v.Devices()
	devs[0] = blocktest.NewFault(devs[0], blocktest.Flip(place(sum)+16000, 1, 1), blocktest.EIO(place(plain)+8192, 512))
	vol := open(t, devs, bcachefs.Options{Warn: func(error) {}})
	f, err := vol.Root().Open(ctx, "/f")
	if err != nil {
		t.Fatal(err)
	}
	h := f.Handle()
	var bad []string
	for off := int64(0); off < 100*512; {
		p := make([]byte, 4096)
		n, err := h.ReadAt(ctx, p, off)
		off += int64(n)
		if err == nil && n > 0 {
			continue
		}
		if err == nil || !errors.Is(err, errs.ErrChecksum) && !errors.Is(err, errs.ErrIO) {
			t.Fatalf("ReadAt(%d) = %d, %v", off, n, err)
		}
		next := h.SkipBad(ctx, off, err)
		if next <= off {
			t.Fatalf("SkipBad(%d) = %d", off, next)
		}
		bad = append(bad, fmt.Sprintf("%d..%d", off, next))
		off = next
	}
	if d := cmp.Diff([]string{"16384..32768", "40960..45056"}, bad); d != "" {
		t.Errorf("skipped (-want +got):\n%s", d)
	}
}

// TestSyntheticLostKeys: where the keys of a range of a file are lost, it is neither
// data nor hole.
func TestSyntheticLostKeys(t *testing.T) {
	ctx := context.Background()
	v := build.New(build.Config{KeysPerLeaf: 3, Fanout: 20})
	v.Base()
	var keys []ondisk.KV
	for i := range uint64(12) {
		keys = append(keys, v.Extent(inum, i*8, text(4*512, byte(i)), build.Enc{Csum: ondisk.CsumCRC32C}))
	}
	v.File("f", inum, ondisk.Inode{Size: 12 * 8 * 512}, keys...)
	leaf := 0
	v.Roots[ondisk.BtreeExtents] = tree(v, ondisk.BtreeExtents, func(n *build.Node) {
		if leaf++; leaf == 2 {
			n.Damage = func(b []byte) { clear(b) } // the keys 3 to 5: sectors 24 to 44
		}
	})
	vol := open(t, v.Devices(), bcachefs.Options{Warn: func(error) {}})
	f, err := vol.Root().Open(ctx, "/f")
	if err != nil {
		t.Fatal(err)
	}
	known, lost, err := f.Handle().Map(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range known {
		got = append(got, fmt.Sprintf("%d..%d", r.Start/512, r.End/512))
	}
	if d := cmp.Diff([]string{"0..4", "8..12", "16..20", "48..52", "56..60", "64..68", "72..76", "80..84", "88..92"}, got); d != "" {
		t.Errorf("data (-want +got):\n%s", d)
	}
	if len(lost) != 1 || lost[0].Start != 20*512 || lost[0].End != 44*512 || lost[0].Err == nil {
		t.Errorf("lost %v, want sectors 20 to 44", lost)
	}
	p := make([]byte, 512)
	n, err := f.Handle().ReadAt(ctx, p, 30*512)
	if err == nil || n != 0 {
		t.Fatalf("ReadAt in the lost range = %d, %v, want an error", n, err)
	}
	if next := f.Handle().SkipBad(ctx, 30*512, err); next != 44*512 {
		t.Errorf("SkipBad = sector %d, want 44", next/512)
	}
}
