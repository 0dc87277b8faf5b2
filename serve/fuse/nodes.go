package fuse

import (
	"sync"

	"github.com/gobcachefs/gobcachefs"
)

// rootNode is the node id of the root of a mount (FUSE_ROOT_ID).
const rootNode = 1

// Layout of bcachefs.Ino.
const (
	inoOther   = 1 << 63 // not in subvolume 1
	inoHashed  = 1 << 62 // cannot be taken apart
	inoSubvol  = 44
	inoShard   = 36
	inoLow     = 1<<inoShard - 1
	shardShift = 55
)

// nodes maps (subvolume, inode) pairs to node ids and back, exactly. Safe for
// concurrent use.
type nodes struct {
	root bcachefs.NodeID

	// For the ids that are not pure functions of the pair.
	mu   sync.Mutex
	byID map[bcachefs.NodeID]*counted
	byNr map[uint64]*counted
	last uint64 // number given last
}

// counted is a node with an id from the table. lookups is how often the kernel
// was told of it, minus what it has forgotten.
type counted struct {
	id      bcachefs.NodeID
	nr      uint64
	lookups uint64
}

func newNodes(root bcachefs.NodeID) *nodes {
	return &nodes{root: root, byID: map[bcachefs.NodeID]*counted{}, byNr: map[uint64]*counted{}}
}

// unpack takes an inode number of bcachefs.Ino apart. It is right only when Ino
// of the result is the number again.
func unpack(ino uint64) bcachefs.NodeID {
	if ino&inoOther == 0 {
		return bcachefs.NodeID{Subvol: 1, Inode: ino}
	}
	return bcachefs.NodeID{
		Subvol: uint32(ino &^ inoOther >> inoSubvol),
		Inode:  ino>>inoShard&0xff<<shardShift | ino&inoLow,
	}
}

// pure gives the node id that follows from the pair alone. ok is false if there
// is none: the number cannot be taken apart, or means something to the protocol.
func pure(id bcachefs.NodeID) (nr uint64, ok bool) {
	nr = bcachefs.Ino(id)
	if nr <= rootNode || nr&(inoOther|inoHashed) == inoOther|inoHashed {
		return 0, false
	}
	return nr, unpack(nr) == id
}

// look gives the node id of a file that the kernel is told of, and counts that.
func (n *nodes) look(id bcachefs.NodeID) uint64 {
	if id == n.root {
		return rootNode
	}
	if nr, ok := pure(id); ok {
		return nr
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.byID[id]
	if c == nil {
		// Numbers are not used again: the kernel may be about to ask for one
		// that it was told of while it was forgetting it.
		n.last++
		c = &counted{id: id, nr: inoOther | inoHashed | n.last}
		n.byID[id], n.byNr[c.nr] = c, c
	}
	c.lookups++
	return c.nr
}

// id gives the file that a node id stands for. ok is false for ids that were
// never given, or were forgotten.
func (n *nodes) id(nr uint64) (id bcachefs.NodeID, ok bool) {
	switch {
	case nr == rootNode:
		return n.root, true
	case nr == 0:
		return id, false
	case nr&(inoOther|inoHashed) != inoOther|inoHashed:
		id = unpack(nr)
		return id, bcachefs.Ino(id) == nr
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.byNr[nr]; c != nil {
		return c.id, true
	}
	return id, false
}

// forget takes back count lookups.
func (n *nodes) forget(nr, count uint64) {
	if nr&(inoOther|inoHashed) != inoOther|inoHashed {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.byNr[nr]
	if c == nil {
		return
	}
	if c.lookups > count {
		c.lookups -= count
		return
	}
	delete(n.byNr, nr)
	delete(n.byID, c.id)
}

// counted is how many nodes the table holds.
func (n *nodes) counted() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.byNr)
}
