package alloc_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gobcachefs/gobcachefs/internal/alloc"
	"github.com/gobcachefs/gobcachefs/internal/btree"
	"github.com/gobcachefs/gobcachefs/internal/journal"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

func open(t *testing.T, name string) (*members.Set, *btree.Trees) {
	t.Helper()
	ctx := context.Background()
	set, err := members.Open(ctx, testvol.Load(t, name), members.Options{})
	if err != nil {
		t.Fatal(err)
	}
	state, err := journal.Load(ctx, set)
	if err != nil {
		t.Fatal(err)
	}
	return set, btree.New(set, state, btree.Config{CacheBytes: 8 << 20})
}

// TestCountedUsage counts volumes and compares with the counters they keep.
func TestCountedUsage(t *testing.T) {
	for _, name := range []string{"plain", "lz4", "bgcomp", "geometry", "nocow", "replicas2", "stripe3", "snapshots", "reflink", "crash", "crash2dev", "v39plain", "v39zstd", "v39repl", "v39ec", "v39crash", "up39snapshots"} {
		t.Run(name, func(t *testing.T) {
			set, trees := open(t, name)
			ctx := context.Background()
			want, err := alloc.ReadUsage(ctx, set, trees)
			if err != nil {
				t.Fatal(err)
			}
			got, err := alloc.CountUsage(ctx, set, trees)
			if err != nil {
				t.Fatal(err)
			}
			// What the keys do not say: buckets that wait to be discarded, snapshots
			// (not counted), background work.
			for i := range want.Devs {
				ty := &want.Devs[i].Types
				for _, e := range []ondisk.DataType{ondisk.DataNeedDiscard, ondisk.DataNeedGCGens} {
					ty[ondisk.DataFree].Buckets += ty[e].Buckets
					ty[e] = alloc.Counts{}
				}
				ty[ondisk.DataUnstriped] = alloc.Counts{}
				want.Devs[i].Leaving = 0
			}
			if set.SB.Version < ondisk.Version1_31 {
				for i := range got.Btrees {
					got.Btrees[i].Nodes, got.Btrees[i].Interior = 0, 0
				}
			}
			if d := cmp.Diff(want, got, cmpopts.IgnoreFields(alloc.Usage{}, "Source", "Snapshots", "Rebalance", "Reconcile")); d != "" {
				t.Errorf("(-kept +counted):\n%s", d)
			}
		})
	}
}
