package bcachefs

import (
	"context"
	"time"

	"github.com/gobcachefs/gobcachefs/internal/alloc"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// SnapshotInfo describes a node of the snapshot forest. Keys and data belong to
// nodes; a subvolume sees those of its node and of all above it.
type SnapshotInfo struct {
	ID       uint32
	Parent   uint32   // 0 at the root of a tree
	Children []uint32 // at most two
	Subvol   uint32   // whose node it is; 0 for nodes that only have descendants
	Tree     uint32
	Depth    uint32
	Created  time.Time // zero when not recorded
	// Deleted: it only waits for its cleanup, or is what is left of one.
	Deleted bool
	NoKeys  bool // nothing belongs to it any more

	// HasUsage: the volume counts what belongs to the node (1.9 and later), in
	// bytes with all copies. Keys and KeyBytes are counted from 1.39 on.
	HasUsage       bool
	Bytes          int64
	Keys, KeyBytes int64
}

// Snapshots lists the nodes of the snapshot forest by id, with what the volume
// knows of their size. With an error the sizes are missing or too small.
func (v *Volume) Snapshots(ctx context.Context) ([]SnapshotInfo, error) {
	u, err := alloc.ReadUsage(ctx, v.e.Set, v.e.Trees)
	usage := map[uint32]alloc.SnapshotUsage{}
	if u != nil {
		for _, s := range u.Snapshots {
			usage[s.ID] = s
		}
	}
	counted := u != nil && u.Source == alloc.SourceAccounting && v.e.Set.SB.Version >= ondisk.Version1_9
	table := v.e.Files.Snapshots()
	var out []SnapshotInfo
	for _, id := range table.Snapshots() {
		n, ok := table.Snapshot(id)
		if !ok {
			continue
		}
		s := SnapshotInfo{ID: id, Parent: n.Parent, Tree: n.Tree, Depth: n.Depth, HasUsage: counted}
		for _, c := range n.Children {
			if c != 0 {
				s.Children = append(s.Children, c)
			}
		}
		if n.Flags&ondisk.SnapshotSubvol != 0 {
			s.Subvol = n.Subvol
		}
		switch n.LiveState() {
		case ondisk.SnapshotStateDeleted, ondisk.SnapshotStateWillDelete:
			s.Deleted = true
		case ondisk.SnapshotStateNoKeys:
			s.NoKeys = true
		}
		if n.Btime != 0 {
			s.Created = v.e.Files.Time(n.Btime)
		}
		c := usage[id]
		s.Bytes, s.Keys, s.KeyBytes = c.Sectors*512, c.Keys, c.KeyBytes
		out = append(out, s)
	}
	return out, err
}
