package check

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/gobcachefs/gobcachefs/internal/testvol"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// dataMistake damages bytes of files.
type dataMistake struct {
	name, vol string
	plant     func(v *volume)
	want      string
}

// damage changes a byte of a copy of the first extent with a checksum.
func damage(copy int) func(v *volume) {
	return func(v *volume) {
		kv := v.extent(func(_ ondisk.KV, e *ondisk.Extent) bool {
			return len(e.Ptrs) > copy && e.Ptrs[copy].Crc.CsumType != ondisk.CsumNone && !e.Ptrs[copy].Cached
		})
		e, _ := ondisk.DecodeExtent(kv.Val, kv.Size, nil)
		p := e.Ptrs[copy]
		b := make([]byte, 512)
		for i := range v.devs {
			if v.index(i) == int(p.Dev) {
				if _, err := v.devs[i].ReadAt(b, int64(p.Offset)*512); err != nil {
					v.t.Fatal(err)
				}
			}
		}
		b[7] ^= 1
		v.write(int(p.Dev), p.Offset, b)
	}
}

var dataMistakes = []dataMistake{
	{"only copy", "plain", damage(0), "data_read_csum_err×1"},
	{"first of two copies", "replicas2", damage(0), "data_read_csum_err_recovered×1"},
	{"second of two copies", "replicas2", damage(1), "data_read_csum_err_recovered×1"},
	{"both copies", "replicas2", func(v *volume) { damage(0)(v); damage(1)(v) }, "data_read_csum_err×2"},
	{"compressed", "lz4", damage(0), "data_read_csum_err×1"},
}

// TestDataMistakes: damaged bytes of files are found with Data, and only then.
func TestDataMistakes(t *testing.T) {
	for _, m := range dataMistakes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			v := openVolume(t, testvol.Small(t), m.vol)
			m.plant(v)
			fs, _ := v.run(func(o *Options) { o.Data = true })
			if got := show(tally(fs)); got != m.want {
				t.Errorf("%s of %s with Data: found %q, want %q\n%s", m.name, m.vol, got, m.want, lines(fs))
			}
			little, _ := v.run(func(o *Options) { o.Data, o.Memory, o.Workers = true, 60_000, 1 })
			if got := show(tally(little)); got != m.want {
				t.Errorf("%s of %s with Data and little memory: found %q, want %q", m.name, m.vol, got, m.want)
			}
			if fs, _ := v.run(); len(fs) != 0 {
				t.Errorf("%s of %s without Data: found %q, want nothing", m.name, m.vol, show(tally(fs)))
			}
		})
	}
}

// TestHostile: whatever keys say, with good checksums, the check ends, finds
// something and does not fail.
func TestHostile(t *testing.T) {
	trees := []ondisk.BtreeID{ondisk.BtreeExtents, ondisk.BtreeInodes, ondisk.BtreeDirents, ondisk.BtreeXattrs, ondisk.BtreeAlloc, ondisk.BtreeReflink,
		ondisk.BtreeSubvolumes, ondisk.BtreeSnapshots, ondisk.BtreeSnapshotTrees, ondisk.BtreeLRU, ondisk.BtreeFreespace, ondisk.BtreeBackpointers, ondisk.BtreeAccounting, ondisk.BtreeBucketGens}
	for seed := range uint64(24) {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 1))
			v := openVolume(t, testvol.Small(t), []string{"plain", "snapshots", "reflink", "v39ec"}[seed%4])
			c := v.checker()
			changed := 0
			for range 3 {
				b := trees[r.IntN(len(trees))]
				tr := c.trees[b]
				if tr == nil || len(tr.leaves) == 0 || tr.leaves[0].fake {
					continue
				}
				ref := tr.leaves[r.IntN(len(tr.leaves))]
				ks, h := v.nodeKeys(c, ref)
				for i := range ks {
					if r.IntN(8) != 0 {
						continue
					}
					changed++
					for range 1 + r.IntN(3) {
						if n := len(ks[i].Val); n > 0 && r.IntN(4) != 0 {
							ks[i].Val[r.IntN(n)] = byte(r.Uint32())
						} else {
							ks[i].Size = r.Uint32() >> r.IntN(32)
						}
					}
				}
				v.writeNode(c, ref, ks, h, nil)
				c = v.checker()
			}
			for _, memory := range []int64{0, 60_000} {
				fs, _ := v.run(func(o *Options) { o.Memory, o.Data = memory, true })
				if changed > 20 && len(fs) == 0 {
					t.Errorf("seed %d: %d keys changed, nothing found", seed, changed)
				}
			}
		})
	}
}

// TestCanceled: a canceled check is an error, not a clean volume.
func TestCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	v := openVolume(t, testvol.Small(t), "plain")
	if r, err := Run(ctx, v.readers(), options()); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled Run = %v, %v, want an error that is context.Canceled", r, err)
	}
}
