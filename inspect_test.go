package bcachefs_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// TestInspectDamaged looks at everything of randomly damaged volumes, also one
// without checksums, where the damage gets through to every decoder.
func TestInspectDamaged(t *testing.T) {
	ctx := context.Background()
	opened := 0
	for _, name := range []string{"nocsum", "crash2dev", "v39zstd"} {
		for seed := range uint64(6) {
			t.Run(fmt.Sprintf("%s %d", name, seed), func(t *testing.T) {
				devs, _ := damaged(rand.New(rand.NewPCG(seed, 7)), testvol.Load(t, name), 200)
				o := options(t, name)
				o.Degraded, o.Salvage, o.Warn = bcachefs.DegradedVery, seed%2 == 1, func(error) {}
				i, err := bcachefs.OpenInspector(ctx, devs, o)
				if err != nil {
					return // a bad journal or superblock: an error is all there is to say
				}
				opened++
				inspect(ctx, i)
			})
		}
	}
	if opened < 6 {
		t.Errorf("%d volumes opened, want at least 6", opened)
	}
}

// TestInspectorWalks: nodes and keys agree; a range holds what it says.
func TestInspectorWalks(t *testing.T) {
	ctx := context.Background()
	v := open(t, testvol.Load(t, "geometry"), options(t, "geometry"))
	i := v.Inspect()
	for _, b := range i.Btrees() {
		inNodes, interior := 0, 0
		var last ondisk.Pos
		for n, err := range i.Nodes(ctx, b, 0, ondisk.PosMin, ondisk.SPosMax) {
			if err != nil {
				t.Fatal(err)
			}
			if n.Level > 0 {
				interior++
				continue
			}
			if n.Min != ondisk.PosMin && n.Min != last.Successor() {
				t.Errorf("%s: node %v..%v after %v", b, n.Min, n.Max, last)
			}
			last = n.Max
			_, st, err := i.NodeStats(n)
			if err != nil {
				t.Fatal(err)
			}
			inNodes += st.Packed + st.Unpacked
		}
		n := 0
		var prev ondisk.Pos
		for kv, err := range i.Keys(ctx, b, 0, ondisk.PosMin, ondisk.SPosMax) {
			if err != nil {
				t.Fatal(err)
			}
			if n > 0 && kv.Pos.Compare(prev) <= 0 {
				t.Fatalf("%s: %v after %v", b, kv.Pos, prev)
			}
			n, prev = n+1, kv.Pos
		}
		if n != inNodes || last != ondisk.SPosMax {
			t.Errorf("%s: %d keys, %d in the nodes, which end at %v", b, n, inNodes, last)
		}
		if b == ondisk.BtreeInodes && interior == 0 {
			t.Error("geometry has no interior node in inodes")
		}
	}
	from, to := ondisk.Pos{Offset: 4100}, ondisk.Pos{Offset: 4200, Snapshot: ^uint32(0)}
	var got []uint64
	for kv, err := range i.Keys(ctx, ondisk.BtreeInodes, 0, from, to) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, kv.Pos.Offset)
	}
	if len(got) == 0 || slices.Min(got) < 4100 || slices.Max(got) > 4200 {
		t.Errorf("Keys(inodes, %v, %v) = %d", from, to, got)
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	for _, err := range i.Nodes(ctx, ondisk.BtreeInodes, 0, ondisk.PosMin, ondisk.SPosMax) {
		if err == nil {
			t.Error("Nodes with a canceled context gives nodes")
		}
	}
}
