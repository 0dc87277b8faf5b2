package snapshots

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/btree"
	"github.com/gobcachefs/gobcachefs/internal/journal"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/internal/testvol/build"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

var ctx = context.Background()

func trees(t *testing.T, v *build.Volume) *btree.Trees {
	t.Helper()
	set, err := members.Open(ctx, v.Devices(), members.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := journal.Load(ctx, set)
	if err != nil {
		t.Fatal(err)
	}
	return btree.New(set, s, btree.Config{CacheBytes: 1 << 20, Salvage: true})
}

func snapshot(id, parent uint32) ondisk.KV {
	return build.Key(ondisk.KeySnapshot, 0, uint64(id), 0, ondisk.Snapshot{Parent: parent, Tree: 1}.Append(nil))
}

func subvol(id, snapshot uint32) ondisk.KV {
	return build.Key(ondisk.KeySubvolume, 0, uint64(id), 0, ondisk.Subvolume{Snapshot: snapshot, Inode: 4096}.Append(nil))
}

func load(t *testing.T, v *build.Volume) (*Table, []string) {
	t.Helper()
	var warned []string
	s, err := Load(ctx, trees(t, v), func(err error) { warned = append(warned, err.Error()) })
	if err != nil {
		t.Fatal(err)
	}
	return s, warned
}

// TestViews: a forest with broken chains in it.
//
//	900 - 800 - 700      1000 (parent 999, missing) - 600
//	    \ 850 - 750      500 (parent 400: ids must grow)
func TestViews(t *testing.T) {
	v := build.New(build.Config{})
	v.Add(ondisk.BtreeSnapshots, snapshot(900, 0), snapshot(800, 900), snapshot(700, 800), snapshot(850, 900), snapshot(750, 850),
		snapshot(600, 998), snapshot(998, 999), snapshot(500, 400), snapshot(400, 0))
	v.Add(ondisk.BtreeSubvolumes, subvol(1, 700), subvol(2, 750), subvol(3, 900), subvol(4, 600), subvol(5, 500), subvol(6, 123))
	s, warned := load(t, v)
	sees := map[uint32][]uint32{}
	var refused []string
	for _, id := range s.Subvolumes() {
		w, err := s.View(id)
		if err != nil {
			if !errors.Is(err, errs.ErrCorrupt) {
				t.Errorf("View(%d) = %v, want ErrCorrupt", id, err)
			}
			refused = append(refused, err.Error())
			continue
		}
		for _, n := range s.Snapshots() {
			if w.Sees(n) {
				sees[id] = append(sees[id], n)
			}
		}
		if again, err := s.View(id); err != nil || !slices.Equal(sees[id], func() (l []uint32) {
			for _, n := range s.Snapshots() {
				if again.Sees(n) {
					l = append(l, n)
				}
			}
			return l
		}()) {
			t.Errorf("View(%d) is another one the second time (%v)", id, err)
		}
	}
	if d := cmp.Diff(map[uint32][]uint32{1: {700, 800, 900}, 2: {750, 850, 900}, 3: {900}}, sees); d != "" {
		t.Errorf("what subvolumes see (-want +got):\n%s", d)
	}
	want := []string{"subvolume 4: snapshot_node_missing: found snapshot 999", "subvolume 5: snapshot_parent_bad: found snapshot 500 has parent 400", "subvolume 6: snapshot_node_missing: found snapshot 123"}
	if d := cmp.Diff(want, refused); d != "" {
		t.Errorf("views refused (-want +got):\n%s", d)
	}
	slices.Sort(warned)
	if d := cmp.Diff(want, warned); d != "" {
		t.Errorf("warnings (-want +got):\n%s", d)
	}
	if _, err := s.View(77); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("View of no subvolume = %v, want ENOENT", err)
	}
	if d := cmp.Diff([]uint32{700, 750, 800, 850, 900}, s.Descendants(900)); d != "" {
		t.Errorf("Descendants(900) (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]uint32{750, 850}, s.Descendants(850)); d != "" {
		t.Errorf("Descendants(850) (-want +got):\n%s", d)
	}
	for _, c := range []struct {
		id, anc uint32
		want    bool
	}{{700, 900, true}, {700, 850, false}, {900, 900, true}, {900, 700, false}, {500, 400, false}, {600, 998, true}, {600, 900, false}} {
		if got := s.Descends(c.id, c.anc); got != c.want {
			t.Errorf("Descends(%d, %d) = %t, want %t", c.id, c.anc, got, c.want)
		}
	}
}

// TestKeysInWrongPlaces are passed over and reported.
func TestKeysInWrongPlaces(t *testing.T) {
	v := build.New(build.Config{})
	long := subvol(1, 900)
	long.Pos.Offset = 1 << 31
	inode := snapshot(900, 0)
	inode.Pos.Inode = 5
	v.Add(ondisk.BtreeSnapshots, snapshot(900, 0), inode, build.Key(60, 0, 7, 0, nil))
	v.Add(ondisk.BtreeSubvolumes, subvol(1, 900), long)
	s, warned := load(t, v)
	if got := s.Subvolumes(); !slices.Equal(got, []uint32{1}) {
		t.Errorf("subvolumes %v, want [1]", got)
	}
	if got := s.Snapshots(); !slices.Equal(got, []uint32{900}) {
		t.Errorf("snapshots %v, want [900]", got)
	}
	for i, want := range []string{"snapshot_pos_bad at btree snapshots, level 0, position 0:7:0", "snapshot_pos_bad at btree snapshots, level 0, position 5:900:0", "subvolume_pos_bad"} {
		if i >= len(warned) || !strings.Contains(warned[i], want) {
			t.Errorf("warnings %q, want %q at %d", warned, want, i)
		}
	}
}

// TestLongChains: a hostile chain of snapshots, each with a subvolume, takes
// memory in proportion to itself.
func TestLongChains(t *testing.T) {
	const n = 20_000
	v := build.New(build.Config{Size: 32 << 20})
	var snaps, subvols []ondisk.KV
	for i := range uint32(n) {
		parent := uint32(n + 10 - 1 - i + 1)
		if i == 0 {
			parent = 0
		}
		snaps = append(snaps, snapshot(n+10-1-i, parent))
		subvols = append(subvols, subvol(i+1, 10))
	}
	v.Add(ondisk.BtreeSnapshots, snaps...)
	v.Add(ondisk.BtreeSubvolumes, subvols...)
	s, warned := load(t, v)
	if len(warned) > 0 {
		t.Fatalf("warnings: %q", warned[0])
	}
	for i := range uint32(300) {
		w, err := s.View(i + 1)
		if err != nil {
			t.Fatal(err)
		}
		if !w.Sees(10) || !w.Sees(n+9) || w.Sees(n+10) {
			t.Fatalf("view of subvolume %d is wrong", i+1)
		}
	}
	if h := s.held.Load(); h > maxHeld {
		t.Errorf("views hold %d ancestors, want at most %d", h, maxHeld)
	}
}

// TestSuspectTable: a snapshot table out of a node with a bad checksum makes
// everything doubtful.
func TestSuspectTable(t *testing.T) {
	for _, hurt := range []bool{false, true} {
		v := build.New(build.Config{})
		v.Add(ondisk.BtreeSnapshots, snapshot(900, 0))
		n := build.Node{Btree: ondisk.BtreeSnapshots, Records: []build.Record{{Keys: v.Keys(ondisk.BtreeSnapshots)}}}
		n.Damage = func(b []byte) {
			if hurt {
				b[0] ^= 1
			}
		}
		v.Roots[ondisk.BtreeSnapshots] = build.Root{Key: v.Write(n)}
		s, _ := load(t, v)
		if got := s.Suspect(); (got != nil) != hurt {
			t.Errorf("with a bad checksum %t: Suspect = %v", hurt, got)
		}
		if fmt.Sprint(s.Snapshots()) != "[900]" {
			t.Errorf("snapshots %v, want [900]", s.Snapshots())
		}
	}
}
