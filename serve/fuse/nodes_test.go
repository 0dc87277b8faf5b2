package fuse

import (
	"sync"
	"testing"

	"github.com/gobcachefs/gobcachefs"
)

// awkward are pairs whose inode number cannot be taken apart, or means
// something to the protocol.
var awkward = []bcachefs.NodeID{
	{Subvol: 1, Inode: 0},
	{Subvol: 1, Inode: 1},
	{Subvol: 1, Inode: 1<<63 | 2<<44 | 5}, // the number of {2, 5}
	{Subvol: 1, Inode: ^uint64(0)},
	{Subvol: 2, Inode: 1 << 40},
	{Subvol: 2, Inode: 1<<63 | 7},
	{Subvol: 1 << 18, Inode: 4096},
	{Subvol: ^uint32(0), Inode: ^uint64(0)},
}

var plainNodes = []bcachefs.NodeID{
	{Subvol: 1, Inode: 2},
	{Subvol: 1, Inode: 4096},
	{Subvol: 1, Inode: 1<<63 - 1},
	{Subvol: 2, Inode: 4096},
	{Subvol: 2, Inode: 1<<36 - 1},
	{Subvol: 2, Inode: 3<<55 | 12},
	{Subvol: 1<<18 - 1, Inode: 0xff<<55 | 1<<36 - 1},
}

func TestNodesArePure(t *testing.T) {
	n := newNodes(bcachefs.NodeID{Subvol: 1, Inode: 4096 + 1})
	for _, id := range plainNodes {
		nr := n.look(id)
		if want := bcachefs.Ino(id); nr != want {
			t.Errorf("node id of %v = %#x, want its inode number %#x", id, nr, want)
		}
		if got, ok := n.id(nr); !ok || got != id {
			t.Errorf("node id %#x stands for %v, %v, want %v", nr, got, ok, id)
		}
	}
	if c := n.counted(); c != 0 {
		t.Errorf("table holds %d nodes, want none", c)
	}
}

func TestNodesInTable(t *testing.T) {
	n := newNodes(bcachefs.NodeID{Subvol: 1, Inode: 4096})
	given := map[uint64]bcachefs.NodeID{}
	for _, id := range append(append([]bcachefs.NodeID{}, awkward...), plainNodes...) {
		if id == n.root {
			continue
		}
		nr := n.look(id)
		if other, twice := given[nr]; twice {
			t.Errorf("%v and %v have the same node id %#x", id, other, nr)
		}
		if nr == 0 || nr == rootNode || nr == ^uint64(0) {
			t.Errorf("node id of %v = %#x, which is taken", id, nr)
		}
		given[nr] = id
	}
	for nr, id := range given {
		if got, ok := n.id(nr); !ok || got != id {
			t.Errorf("node id %#x stands for %v, %v, want %v", nr, got, ok, id)
		}
		if again := n.look(id); again != nr {
			t.Errorf("second lookup of %v gives node id %#x, want %#x", id, again, nr)
		}
	}
	if c := n.counted(); c != len(awkward) {
		t.Errorf("table holds %d nodes, want %d", c, len(awkward))
	}
	for nr := range given {
		n.forget(nr, 1)
	}
	if c := n.counted(); c != len(awkward) {
		t.Errorf("table holds %d nodes after half of the lookups were forgotten, want %d", c, len(awkward))
	}
	for nr := range given {
		n.forget(nr, 1)
	}
	if c := n.counted(); c != 0 {
		t.Errorf("table holds %d nodes after all was forgotten, want none", c)
	}
	nr := n.look(awkward[0])
	if _, old := given[nr]; old {
		t.Errorf("node id %#x is given again", nr)
	}
}

func TestNodesRoot(t *testing.T) {
	root := bcachefs.NodeID{Subvol: 7, Inode: 99}
	n := newNodes(root)
	if nr := n.look(root); nr != rootNode {
		t.Errorf("node id of the root = %d, want %d", nr, rootNode)
	}
	if id, ok := n.id(rootNode); !ok || id != root {
		t.Errorf("node id %d stands for %v, %v, want %v", rootNode, id, ok, root)
	}
	for _, nr := range []uint64{0, inoOther | inoHashed | 5, ^uint64(0)} {
		if id, ok := n.id(nr); ok {
			t.Errorf("node id %#x stands for %v, want nothing", nr, id)
		}
	}
}

func TestNodesConcurrent(t *testing.T) {
	const rounds = 2000
	n := newNodes(bcachefs.NodeID{Subvol: 1, Inode: 4096})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range rounds {
				id := awkward[i%len(awkward)]
				nr := n.look(id)
				if got, ok := n.id(nr); !ok || got != id {
					t.Errorf("node id %#x stands for %v, %v while its lookup is counted, want %v", nr, got, ok, id)
					return
				}
				n.forget(nr, 1)
			}
		})
	}
	wg.Wait()
	if c := n.counted(); c != 0 {
		t.Errorf("table holds %d nodes after all was forgotten, want none", c)
	}
}
