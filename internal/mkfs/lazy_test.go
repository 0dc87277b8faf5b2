package mkfs_test

import (
	"context"
	"testing"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/block/blocktest"
	"github.com/gobcachefs/gobcachefs/internal/mkfs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// No superblock says clean before everything else on all devices is durable, and
// nothing is left to be flushed in the end.
func TestFormatFlushes(t *testing.T) {
	recs := blocktest.NewRecorders(block.NewSparse("a", 96<<20), block.NewSparse("b", 96<<20))
	devs := []mkfs.Device{{W: recs[0], Durability: -1}, {W: recs[1], Durability: -1}}
	o := mkfs.Options{Options: map[string]uint64{"data_replicas": 2, "metadata_replicas": 2}, Source: mkfs.DirSource{Dir: "."}, Warn: func(err error) { t.Error(err) }}
	res, err := mkfs.Format(context.Background(), devs, o)
	if err != nil {
		t.Fatal(err)
	}
	heads := []map[int64]bool{{}, {}}
	for i, sb := range res.Members {
		for _, s := range sb.Layout.Offsets {
			heads[i][int64(s)*512] = true
		}
	}
	var data, any [2]int // writes since the last flush: without superblocks, all
	clean := 0
	for _, op := range recs[0].Log().Ops() {
		switch op.Kind {
		case blocktest.OpFlush:
			data[op.Dev], any[op.Dev] = 0, 0
		case blocktest.OpWrite:
			any[op.Dev]++
			if !heads[op.Dev][op.Off] {
				data[op.Dev]++
				continue
			}
			// The sector with the magic and the flags, of which bit 1 is CLEAN.
			b := op.Data()
			if len(b) < 152 || ondisk.UUID(b[24:40]) != ondisk.SBMagic || b[144]&2 == 0 {
				continue
			}
			clean++
			if data != [2]int{} {
				t.Errorf("%v says clean with %v writes not flushed", op, data)
			}
		}
	}
	if clean != 6 {
		t.Errorf("%d superblocks say clean, want 3 on each of 2 devices", clean)
	}
	if any != [2]int{} {
		t.Errorf("%v writes are not flushed in the end, want none", any)
	}
}
