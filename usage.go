package bcachefs

import (
	"context"

	"github.com/gobcachefs/gobcachefs/internal/alloc"
	"github.com/gobcachefs/gobcachefs/internal/explain"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Usage says what takes up the space of a volume, in bytes. Counters that are
// zero are left out of the lists.
type Usage struct {
	UUID  string  `json:"uuid"`
	Label *string `json:"label"`
	// Source says where the numbers come from: "accounting" (1.9 and later),
	// "journal" (before), or "counted" from the keys for volumes that keep none.
	Source     string `json:"source"`
	Incomplete bool   `json:"incomplete,omitempty"` // a part could not be read

	Raw     uint64 `json:"raw"`     // all members that may be written, as they are
	Hidden  uint64 `json:"hidden"`  // of superblocks and journals
	Reserve uint64 `json:"reserve"` // kept free for the allocator and copygc
	// Size is what files can take, with all their copies.
	Size     uint64    `json:"size"`
	Used     uint64    `json:"used"`
	Reserved uint64    `json:"reserved"` // by fallocate; part of Used
	Free     FreeUsage `json:"free"`
	Inodes   int64     `json:"inodes"`

	PersistentReserved []ReservedUsage    `json:"persistent_reserved,omitempty"`
	Replicas           []ReplicasUsage    `json:"replicas"`
	Compression        []CompressionUsage `json:"compression,omitempty"`
	Btrees             []BtreeUsage       `json:"btrees,omitempty"`
	Rebalance          int64              `json:"rebalance_work,omitempty"`
	Reconcile          []ReconcileUsage   `json:"reconcile,omitempty"`
	Devices            []DeviceUsage      `json:"devices"`
}

// FreeUsage is free space: in all, and for files that have the copies that the
// volume's options want.
type FreeUsage struct {
	Raw      uint64 `json:"raw"`
	Usable   uint64 `json:"usable"`
	Replicas int    `json:"replicas"`
}

// ReservedUsage is space reserved with a number of copies.
type ReservedUsage struct {
	Replicas int   `json:"replicas"`
	Bytes    int64 `json:"bytes"` // as counted: up to 1.8 of all copies together
}

// ReplicasUsage is what is stored on one set of members, all copies together.
type ReplicasUsage struct {
	Type     string `json:"type"`
	Required int    `json:"required"`
	Total    int    `json:"total"`
	// Durability is for how many copies it counts, Missing how much of that was on
	// members that are not here.
	Durability int   `json:"durability"`
	Missing    int   `json:"missing,omitempty"`
	Devices    []int `json:"devices"`
	Bytes      int64 `json:"bytes"`
}

// CompressionUsage is what is stored with a compression type.
type CompressionUsage struct {
	Type         string `json:"type"`
	Extents      int64  `json:"extents"`
	Compressed   int64  `json:"compressed"`
	Uncompressed int64  `json:"uncompressed"`
}

// BtreeUsage is the size of a btree. Nodes are counted from 1.31 on.
type BtreeUsage struct {
	Btree    string `json:"btree"`
	Bytes    int64  `json:"bytes"`
	Nodes    int64  `json:"nodes,omitempty"`
	Interior int64  `json:"interior_nodes,omitempty"`
}

// ReconcileUsage is pending background work.
type ReconcileUsage struct {
	Kind     string `json:"kind"`
	Data     int64  `json:"data"`
	Metadata int64  `json:"metadata"`
}

// DeviceUsage is what a member holds.
type DeviceUsage struct {
	Index      int    `json:"index"`
	Label      string `json:"label,omitempty"`
	Path       string `json:"path,omitempty"` // "" when it is not here
	UUID       string `json:"uuid"`
	State      string `json:"state"`
	Durability int    `json:"durability"`
	BucketSize uint64 `json:"bucket_size"`
	Buckets    uint64 `json:"buckets"`
	Leaving    int64  `json:"leaving,omitempty"` // is to be moved away
	// Types has the data types of the volume's version by name.
	Types map[string]TypeUsage `json:"types"`
}

// Size is the size of the member.
func (d *DeviceUsage) Size() uint64 { return d.Buckets * d.BucketSize }

// Used is what the member holds, fragmentation included.
func (d *DeviceUsage) Used() uint64 {
	n := d.Size()
	for t := range ondisk.DataType(ondisk.NrDataTypes) {
		if t.Empty() {
			n -= min(n, uint64(max(0, d.Types[t.String()].Buckets))*d.BucketSize)
		}
	}
	return n
}

// TypeUsage is what buckets of one type hold.
type TypeUsage struct {
	Buckets    int64 `json:"buckets"`
	Bytes      int64 `json:"bytes"`
	Fragmented int64 `json:"fragmented,omitempty"`
}

// Usage reads the space counters of the volume. If a part of them cannot be read
// it gives the others and an error.
func (i *Inspector) Usage(ctx context.Context) (*Usage, error) {
	set := i.e.Set
	u, err := alloc.ReadUsage(ctx, set, i.e.Trees)
	if u == nil {
		return nil, err
	}
	sp := u.Space(set)
	b := func(sectors int64) uint64 { return uint64(max(0, sectors)) * 512 }
	out := &Usage{UUID: set.SB.UserUUID.String(), Source: u.Source.String(), Incomplete: u.Incomplete,
		Raw: b(sp.Total), Hidden: b(sp.Hidden), Reserve: b(sp.Reserve), Size: b(sp.Capacity), Used: b(sp.Used), Reserved: b(sp.Base.Reserved), Inodes: u.NrInodes,
		Replicas: []ReplicasUsage{}, Devices: []DeviceUsage{}, Rebalance: u.Rebalance * 512}
	if set.SB.Label != "" {
		out.Label = &set.SB.Label
	}
	replicas := 1
	if o, ok := ondisk.FindOption("data_replicas"); ok {
		replicas = max(1, int(o.Effective(set.SB)))
	}
	out.Free = FreeUsage{b(sp.Free), b(sp.Avail) / uint64(replicas), replicas}
	for _, r := range u.Reserved {
		out.PersistentReserved = append(out.PersistentReserved, ReservedUsage{int(r.Replicas), r.Sectors * 512})
	}
	for _, r := range u.Replicas {
		ru := ReplicasUsage{Type: r.Type.String(), Required: int(r.Required), Total: len(r.Devs), Bytes: r.Sectors * 512, Devices: []int{}}
		for _, d := range r.Devs {
			ru.Devices = append(ru.Devices, int(d))
			n := 0
			if int(d) < len(set.Devs) && set.Devs[d] != nil {
				n = set.Devs[d].Member.Durability()
			}
			if ru.Durability += n; !set.Online(d) {
				ru.Missing += n
			}
		}
		ru.Durability = max(0, ru.Durability-max(0, ru.Required-1))
		out.Replicas = append(out.Replicas, ru)
	}
	for _, c := range u.Compression {
		out.Compression = append(out.Compression, CompressionUsage{c.Type.String(), c.Extents, c.Compressed * 512, c.Uncompressed * 512})
	}
	for _, t := range u.Btrees {
		out.Btrees = append(out.Btrees, BtreeUsage{t.Btree.String(), t.Sectors * 512, t.Nodes, t.Interior})
	}
	for _, r := range u.Reconcile {
		out.Reconcile = append(out.Reconcile, ReconcileUsage{explain.ReconcileWorkName(r.Kind), r.Data * 512, r.Metadata * 512})
	}
	for _, d := range u.Devs {
		out.Devices = append(out.Devices, i.deviceUsage(d))
	}
	return out, err
}

func (i *Inspector) deviceUsage(d alloc.DevUsage) DeviceUsage {
	set := i.e.Set
	m := &set.Devs[d.Dev].Member
	du := DeviceUsage{Index: d.Dev, UUID: m.UUID.String(), State: m.State().String(), Durability: m.Durability(),
		BucketSize: uint64(m.BucketSize) * 512, Buckets: m.NBuckets, Leaving: d.Leaving * 512, Types: map[string]TypeUsage{}}
	if g := m.Group(); g >= 0 {
		du.Label = set.SB.GroupPath(g)
	}
	if set.Devs[d.Dev].Online() {
		du.Path = set.Devs[d.Dev].R.Info().Name
	}
	for t, c := range d.Types {
		if t := ondisk.DataType(t); t <= ondisk.DataUnstriped || c != (alloc.Counts{}) {
			tu := TypeUsage{c.Buckets, c.Sectors * 512, c.Fragmented * 512}
			if t.Empty() {
				tu.Bytes = c.Buckets * int64(du.BucketSize)
			}
			du.Types[t.String()] = tu
		}
	}
	return du
}
