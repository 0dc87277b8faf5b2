package alloc

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/btree"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Source says where the numbers of a Usage come from.
type Source uint8

// Sources.
const (
	SourceAccounting Source = iota // the accounting btree (1.9 and later)
	SourceJournal                  // usage entries of the journal (before 1.9)
	SourceCounted                  // counted from the keys: the volume keeps no numbers
)

var sourceNames = [...]string{"accounting", "journal", "counted"}

// String is the name of the source.
func (s Source) String() string {
	if int(s) < len(sourceNames) {
		return sourceNames[s]
	}
	return fmt.Sprint(uint8(s))
}

// Usage is what a volume keeps count of (chapter 06 sections 11 and 12). Sizes
// are in sectors. Counters that the volume has but that are zero are left out of
// the lists.
type Usage struct {
	Source Source
	// Incomplete is set when a part of the numbers could not be read.
	Incomplete bool

	NrInodes    int64
	Reserved    []Reserved      // by number of replicas, ascending
	Replicas    []Replicas      // by data type, then devices
	Compression []Compression   // by type
	Btrees      []BtreeUsage    // by id
	Snapshots   []SnapshotUsage // by id
	Reconcile   []Reconcile     // by kind, 1.33 and later
	Rebalance   int64           // pending work up to 1.32
	Devs        []DevUsage      // by index; members that exist, whether here or not
}

// Reserved is space that fallocate and buffered writes have reserved for good.
type Reserved struct {
	Replicas uint8
	Sectors  int64 // of one copy: below 1.9 of all
	Total    int64 // of all copies
}

// Replicas is what is stored on one set of devices.
type Replicas struct {
	Type     ondisk.DataType
	Required uint8
	Devs     []uint8
	Sectors  int64 // of all copies together
}

// Compression is what is stored with one compression type.
type Compression struct {
	Type         ondisk.CompressionType
	Extents      int64
	Uncompressed int64
	Compressed   int64
}

// BtreeUsage is the size of a btree. Nodes and Interior are 0 below 1.31.
type BtreeUsage struct {
	Btree    ondisk.BtreeID
	Sectors  int64
	Nodes    int64
	Interior int64 // those of Nodes that are no leaves
}

// SnapshotUsage is what the keys of one snapshot id take; Keys and KeyBytes are
// counted from 1.39 on.
type SnapshotUsage struct {
	ID       uint32
	Keys     int64
	KeyBytes int64
	Sectors  int64
}

// Reconcile is the pending background work of a kind.
type Reconcile struct {
	Kind           uint8
	Data, Metadata int64
}

// Counts are the buckets of a data type on a member.
type Counts struct {
	Buckets    int64
	Sectors    int64
	Fragmented int64
}

// DevUsage is what a member holds.
type DevUsage struct {
	Dev     int
	Types   [ondisk.NrDataTypes]Counts
	Leaving int64 // sectors that are to leave the member (1.33)
}

// ReadUsage reads the numbers of a volume, or counts them if it keeps none. With
// damage it gives what could be read and an error.
func ReadUsage(ctx context.Context, set *members.Set, trees *btree.Trees) (*Usage, error) {
	if set.SB.HasFeature(ondisk.FeatureNoAllocInfo) {
		return CountUsage(ctx, set, trees)
	}
	u := &Usage{}
	for i, d := range set.Devs {
		if d != nil {
			u.Devs = append(u.Devs, DevUsage{Dev: i})
		}
	}
	// The version is no proof: a kernel of 1.13 that is told not to upgrade makes
	// its own structures in a volume of 1.3 (chapter 09 section 3).
	form := ondisk.AccountingFormOf(set.SB.Version)
	_, rooted := trees.State().Roots[ondisk.BtreeAccounting]
	switch old := set.SB.Version < ondisk.Version1_9; {
	case old && rooted:
		form = ondisk.AccountingOldOrder
	case old:
		u.Source = SourceJournal
		u.fromJournal(trees.State().Usage)
		u.sort()
		return u, nil
	}
	err := u.fromBtree(ctx, form, trees)
	u.sort()
	return u, err
}

// dev gives the numbers of a member, nil for one that does not exist.
func (u *Usage) dev(i uint32) *DevUsage {
	for k := range u.Devs {
		if u.Devs[k].Dev == int(i) {
			return &u.Devs[k]
		}
	}
	return nil
}

func (u *Usage) fromBtree(ctx context.Context, form ondisk.AccountingForm, trees *btree.Trees) error {
	c := trees.Cursor(ctx, ondisk.BtreeAccounting, ondisk.PosMin, ondisk.SPosMax)
	var bad []error
	snaps := map[uint32]*SnapshotUsage{}
	// The counters of single inodes are as many as inodes; big-endian positions
	// keep them together.
	inums := uint64(ondisk.AccInum) << 56
	for {
		kv, ok := c.Next()
		if ok && form == ondisk.AccountingBigEndian && kv.Pos.Inode&(0xff<<56) == inums {
			c.Seek(ondisk.Pos{Inode: inums + 1<<56})
			continue
		}
		if !ok {
			err := c.Err()
			if err == nil {
				break
			}
			u.Incomplete = true
			bad = append(bad, err)
			if ctx.Err() != nil || !c.SkipDamage() {
				break
			}
			continue
		}
		if kv.Type != ondisk.KeyAccounting {
			continue
		}
		p, err := ondisk.DecodeAccountingPos(kv.Pos, form)
		if err != nil {
			continue // e.g. left behind by an upgrade at the old position
		}
		n, _, err := ondisk.DecodeCounters(kv.Val)
		if err != nil || n.IsZero() {
			continue
		}
		u.add(p, n, snaps)
	}
	for _, s := range snaps {
		u.Snapshots = append(u.Snapshots, *s)
	}
	return errors.Join(bad...)
}

// add takes in one key that counts something.
func (u *Usage) add(p ondisk.AccountingPos, n ondisk.Counters, snaps map[uint32]*SnapshotUsage) {
	switch p.Type {
	case ondisk.AccNrInodes:
		u.NrInodes = n[0]
	case ondisk.AccPersistentReserved:
		u.Reserved = append(u.Reserved, Reserved{p.NrReplicas, n[0], n[0] * int64(p.NrReplicas)})
	case ondisk.AccReplicas:
		u.Replicas = append(u.Replicas, Replicas{p.DataType, p.NrRequired, slices.Clone(p.Devs()), n[0]})
	case ondisk.AccDevDataType:
		if d := u.dev(p.Dev); d != nil && p.DataType < ondisk.NrDataTypes {
			d.Types[p.DataType] = Counts{n[0], n[1], n[2]}
		}
	case ondisk.AccCompression:
		u.Compression = append(u.Compression, Compression{p.Compression, n[0], n[1], n[2]})
	case ondisk.AccSnapshot:
		s := snaps[p.Snapshot]
		if s == nil {
			s = &SnapshotUsage{ID: p.Snapshot}
			snaps[p.Snapshot] = s
		}
		if n[1] == 0 && n[2] == 0 {
			s.Sectors += n[0] // the form of up to 1.38
			break
		}
		s.Keys, s.KeyBytes, s.Sectors = s.Keys+n[0], s.KeyBytes+n[1], s.Sectors+n[2]
	case ondisk.AccBtree:
		if p.Btree < ondisk.MaxBtrees {
			u.Btrees = append(u.Btrees, BtreeUsage{ondisk.BtreeID(p.Btree), n[0], n[1], n[2]})
		}
	case ondisk.AccRebalanceWork:
		u.Rebalance = n[0]
	case ondisk.AccReconcileWork:
		u.Reconcile = append(u.Reconcile, Reconcile{p.Kind, n[0], n[1]})
	case ondisk.AccDevLeaving:
		if d := u.dev(p.Dev); d != nil {
			d.Leaving = n[0]
		}
	}
}

// fromJournal takes the totals of usage entries, of which later ones win.
func (u *Usage) fromJournal(entries []ondisk.JsetEntry) {
	type set struct {
		t    ondisk.DataType
		req  uint8
		devs string
	}
	replicas := map[set]int64{}
	reserved := map[uint8]int64{}
	le := binary.LittleEndian
	for _, e := range entries {
		switch {
		case e.Type == ondisk.EntryUsage && len(e.Data) >= 8:
			v := int64(le.Uint64(e.Data))
			switch int(e.Btree) {
			case ondisk.UsageReserved:
				reserved[e.Level+1] = v
			case ondisk.UsageInodes:
				u.NrInodes = v
			}
		case e.Type == ondisk.EntryDataUsage && len(e.Data) >= 11 && int(e.Data[9]) <= len(e.Data)-11:
			d := e.Data
			replicas[set{ondisk.DataType(d[8]), d[10], string(d[11 : 11+int(d[9])])}] = int64(le.Uint64(d))
		case e.Type == ondisk.EntryDevUsage && len(e.Data) >= 24:
			d := u.dev(le.Uint32(e.Data))
			if d == nil {
				continue
			}
			for t := range d.Types {
				if b := e.Data[24:]; len(b) >= 24*(t+1) {
					b = b[24*t:]
					d.Types[t] = Counts{int64(le.Uint64(b)), int64(le.Uint64(b[8:])), int64(le.Uint64(b[16:]))}
				}
			}
		}
	}
	for k, v := range replicas {
		if v != 0 {
			u.Replicas = append(u.Replicas, Replicas{k.t, k.req, []byte(k.devs), v})
		}
	}
	for r, v := range reserved {
		if v != 0 {
			u.Reserved = append(u.Reserved, Reserved{r, v, v})
		}
	}
}

func (u *Usage) sort() {
	slices.SortFunc(u.Reserved, func(a, b Reserved) int { return cmp.Compare(a.Replicas, b.Replicas) })
	slices.SortFunc(u.Replicas, func(a, b Replicas) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(len(a.Devs), len(b.Devs)), cmp.Compare(a.Required, b.Required), slices.Compare(a.Devs, b.Devs))
	})
	slices.SortFunc(u.Compression, func(a, b Compression) int { return cmp.Compare(a.Type, b.Type) })
	slices.SortFunc(u.Btrees, func(a, b BtreeUsage) int { return cmp.Compare(a.Btree, b.Btree) })
	slices.SortFunc(u.Snapshots, func(a, b SnapshotUsage) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(u.Reconcile, func(a, b Reconcile) int { return cmp.Compare(a.Kind, b.Kind) })
}

// Base are the sums that decide how much fits (chapter 06 section 11.5), in
// sectors of all copies together.
type Base struct {
	Btree, Data, Cached, Reserved int64
	Hidden                        int64 // superblocks and journals, whole buckets
}

// Base computes the sums. The geometry of the members is that of set.
func (u *Usage) Base(set *members.Set) Base {
	var b Base
	for _, r := range u.Replicas {
		switch r.Type {
		case ondisk.DataBtree:
			b.Btree += r.Sectors
		case ondisk.DataUser, ondisk.DataParity:
			b.Data += r.Sectors
		case ondisk.DataCached:
			b.Cached += r.Sectors
		}
	}
	for _, r := range u.Reserved {
		b.Reserved += r.Total
	}
	for _, d := range u.Devs {
		b.Hidden += (d.Types[ondisk.DataSB].Buckets + d.Types[ondisk.DataJournal].Buckets) * int64(set.BucketSize(uint8(d.Dev)))
	}
	return b
}

// Space is what a volume can hold, in sectors.
type Space struct {
	Total   int64 // of the members that may be written, without the superblock area
	Reserve int64 // kept free for the allocator and copygc
	// Capacity is Total without Reserve and Hidden: what files can take.
	Capacity int64
	Used     int64
	Free     int64
	// Avail is Free without what is kept for the rounding of reservations.
	Avail int64
	Base
}

// Space computes the space of a volume the way the kernel does (chapter 06
// section 16). Only members that are here and in state rw count.
func (u *Usage) Space(set *members.Set) Space {
	s := Space{Base: u.Base(set)}
	node := int64(set.SB.NodeSectors())
	for _, d := range set.Devs {
		if !d.Online() || d.Member.State() != ondisk.MemberRW {
			continue
		}
		// A member that holds no copies of its own (durability 0) is a cache. Up to
		// 1.13 it counted all the same.
		if d.Member.Durability() == 0 && set.SB.Version > ondisk.Version1_13 {
			continue
		}
		m := &d.Member
		bucket := int64(m.BucketSize)
		if bucket == 0 || node == 0 || bucket < node {
			continue
		}
		perBucket := bucket / node
		nbr := (28 + perBucket - 1) / perBucket
		s.Total += (int64(m.NBuckets) - int64(m.FirstBucket)) * bucket
		s.Reserve += 2 * bucket * (2*nbr + int64(m.NBuckets>>6) + 3)
	}
	gc := s.Total * optionValue(set.SB, "gc_reserve_percent") / 100
	if n := optionValue(set.SB, "gc_reserve_bytes"); n != 0 {
		gc = n / 512
	}
	s.Reserve = min(s.Total, max(gc, s.Reserve))
	s.Capacity = max(0, s.Total-s.Reserve-s.Hidden)
	s.Used = min(s.Capacity, max(0, s.Btree+s.Data+Reserve(s.Reserved)))
	s.Free = s.Capacity - s.Used
	s.Avail = s.Free * 64 / 65
	return s
}

// Reserve is what a reservation of n sectors takes: the rounding included.
func Reserve(n int64) int64 { return n + (n+63)/64 }

func optionValue(sb *ondisk.Superblock, name string) int64 {
	o, ok := ondisk.FindOption(name)
	if !ok {
		panic(&errs.Error{Where: errs.Nowhere, Kind: errs.ErrUsage, Reason: "no option " + name}) // invariant: a name of ours
	}
	return int64(o.Effective(sb))
}
