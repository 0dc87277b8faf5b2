package rwtest

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/internal/btree"
	"github.com/gobcachefs/gobcachefs/internal/consequence"
	"github.com/gobcachefs/gobcachefs/internal/engine"
	"github.com/gobcachefs/gobcachefs/internal/mkfs"
	"github.com/gobcachefs/gobcachefs/internal/objects"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// bucketRules are those that follow from an alloc key.
var bucketRules = []string{"freespace", "need_discard", "lru", "dev_data_type accounting"}

// changeAll does a bit of everything that a rule follows from.
func changeAll(t *testing.T, w *objects.Writer) {
	ctx := context.Background()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	r := rand.New(rand.NewPCG(3, 4))
	noise := make([]byte, 40<<10)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	file := func(name string, data []byte) objects.ID {
		id, _, err := w.Create(ctx, objects.Root, []byte(name), objects.Spec{Mode: ondisk.ModeRegular | 0o644})
		must(err)
		_, err = w.WriteAt(ctx, id, data, 0)
		must(err)
		return id
	}
	a := file("noise", noise)
	file("text", bytes.Repeat([]byte("compressible "), 4000))
	b := file("copy", nil)
	_, err := w.Reflink(ctx, a, 0, b, 0, 16384)
	must(err)
	c := file("reserved", nil)
	// A file without a name, as one that is still in use when the power goes.
	_, err = w.Store.Update(ctx, "orphan", func(tx *btree.Tx) error {
		p := ondisk.Pos{Offset: c.Inum, Snapshot: 0xffffffff}
		kv, ok, err := tx.Get(ondisk.BtreeInodes, p)
		if err != nil || !ok {
			return fmt.Errorf("inode %d: %v, %v", c.Inum, ok, err)
		}
		in, err := ondisk.DecodeInode(kv)
		if err != nil {
			return err
		}
		in.Flags |= ondisk.InodeUnlinked
		in.Dir, in.DirOffset = 0, 0
		kv.Pos.Offset += 100
		kv.Val = in.Append(nil)
		tx.Set(ondisk.BtreeInodes, kv)
		return nil
	})
	must(err)
	_, err = w.Fallocate(ctx, c, 0, 0, 100000)
	must(err)
	_, _, err = w.CreateSubvolume(ctx, objects.Root, []byte("sub"), 0o755, 0, 0)
	must(err)
	_, _, err = w.Snapshot(ctx, 1, objects.Root, []byte("snap"), false)
	must(err)
	file("after", noise[:12345])
	d := file("gone", bytes.Repeat(noise, 20))
	for i := range 400 {
		_, _, err := w.Create(ctx, objects.Root, []byte(fmt.Sprintf("many%d", i)), objects.Spec{Mode: ondisk.ModeRegular | 0o644})
		must(err)
	}
	_, err = w.WriteAt(ctx, a, noise[100:9000], 0)
	must(err)
	_, err = w.Truncate(ctx, d, 5000)
	must(err)
	_, err = w.Unlink(ctx, objects.Root, []byte("gone"))
	must(err)
}

// TestRulesAreChecked leaves out each rule of the table of consequences, in turn:
// the check, which shares no code with it, must find what is wrong then, and
// nothing when none is left out.
func TestRulesAreChecked(t *testing.T) {
	names := slices.Clone(bucketRules)
	for _, r := range consequence.Rules {
		// Work for the background follows from entries in extents that we keep but
		// never write, and that no volume here has.
		if r.Name != "rebalance work" {
			names = append(names, r.Name)
		}
	}
	for _, name := range append(names, "") {
		t.Run(strings.ReplaceAll("without "+name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			dev := block.NewSparse("x.img", 64<<20)
			rw, err := mkfs.Open(ctx, []mkfs.Device{{W: dev, Durability: -1}}, mkfs.Options{Options: map[string]uint64{"btree_node_size": 16384, "compression": 3}})
			if err != nil {
				t.Fatal(err)
			}
			w := rw.Writer()
			changeAllBefore(t, w)
			w.Close()
			if err := rw.Close(ctx); err != nil {
				t.Fatal(err)
			}
			o := engine.WriteOptions{}
			o.CacheBytes = 8 << 20
			if name != "" {
				o.Without = map[string]bool{name: true}
			}
			if rw, err = engine.OpenWrite(ctx, []block.Reader{dev}, o); err != nil {
				t.Fatal(err)
			}
			w = rw.Writer()
			changeAll(t, w)
			rw.Store.Lock().Lock()
			s := rw.J.Seq()
			rw.Store.Lock().Unlock()
			if err := rw.Store.Sync(ctx, s); err != nil {
				t.Fatal(err)
			}
			if name == "btree accounting" || name == "bucket sectors" || name == "backpointers" {
				// What follows from nodes shows when they are written.
				if err := rw.Store.Checkpoint(ctx, s); err != nil {
					t.Fatal(err)
				}
				rw.Store.Lock().Lock()
				s = rw.J.Seq()
				rw.Store.Lock().Unlock()
				if err := rw.Store.Sync(ctx, s); err != nil {
					t.Fatal(err)
				}
			}
			found := map[string]int{}
			r, err := bcachefs.Check(ctx, []block.Reader{dev}, bcachefs.Options{}, bcachefs.CheckOptions{Found: func(f bcachefs.Finding) {
				if !f.Note {
					found[f.Name]++
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			if bad := r.Bad() > 0; bad != (name != "") {
				t.Errorf("without %q the check finds %v", name, found)
			}
			t.Logf("%v", found)
		})
	}
}

// changeAllBefore makes what changeAll's kind of changes take away.
func changeAllBefore(t *testing.T, w *objects.Writer) {
	ctx := context.Background()
	id, _, err := w.Create(ctx, objects.Root, []byte("before"), objects.Spec{Mode: ondisk.ModeRegular | 0o644})
	if err == nil {
		_, err = w.WriteAt(ctx, id, bytes.Repeat([]byte("abcdefg"), 10000), 0)
	}
	if err != nil {
		t.Fatal(err)
	}
}
