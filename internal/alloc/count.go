package alloc

import (
	"context"
	"errors"
	"slices"

	"github.com/gobcachefs/gobcachefs/internal/btree"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// counter counts what a volume uses from its keys and nodes, for volumes that
// keep no numbers (chapter 06 sections 9, 10 and 20).
type counter struct {
	set     *members.Set
	trees   *btree.Trees
	sizes   *ondisk.ExtentTypeSizes
	u       *Usage
	bad     []error
	buckets []map[uint64]*bucketUse // by member
	sets    map[replicaSet]int64
	stripes map[uint64]ondisk.Stripe
	comp    map[ondisk.CompressionType]*Compression
}

// replicaSet is a set of members with what is on them.
type replicaSet struct {
	t        ondisk.DataType
	required uint8
	devs     string
}

// bucketUse is what a bucket holds, in sectors.
type bucketUse struct {
	typ           ondisk.DataType // of metadata buckets
	dirty, cached int64
	inStripe      bool
}

// CountUsage counts the usage of a volume by reading all its nodes and pointers.
// With damage it gives what could be read and an error.
func CountUsage(ctx context.Context, set *members.Set, trees *btree.Trees) (*Usage, error) {
	c := &counter{set: set, trees: trees, u: &Usage{Source: SourceCounted}, buckets: make([]map[uint64]*bucketUse, len(set.Devs)),
		sets: map[replicaSet]int64{}, stripes: map[uint64]ondisk.Stripe{}, comp: map[ondisk.CompressionType]*Compression{}}
	c.sizes, _ = ondisk.DecodeExtentTypeSizes(set.SB.ExtentTypeU64s())
	for i, d := range set.Devs {
		if d == nil {
			continue
		}
		c.u.Devs = append(c.u.Devs, DevUsage{Dev: i})
		c.buckets[i] = map[uint64]*bucketUse{}
		if d.Online() {
			c.metadata(d)
		}
	}
	c.keys(ctx, ondisk.BtreeStripes, c.stripe)
	for _, b := range trees.Btrees() {
		if err := c.nodes(ctx, b); err != nil {
			return nil, err
		}
	}
	c.keys(ctx, ondisk.BtreeExtents, c.data)
	c.keys(ctx, ondisk.BtreeReflink, c.data)
	c.keys(ctx, ondisk.BtreeInodes, func(kv ondisk.KV) {
		switch kv.Type {
		case ondisk.KeyInode, ondisk.KeyInodeV2, ondisk.KeyInodeV3:
			c.u.NrInodes++
		}
	})
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.finish()
	c.u.Incomplete = len(c.bad) > 0
	return c.u, errors.Join(c.bad...)
}

// keys calls fn with the keys of a btree.
func (c *counter) keys(ctx context.Context, b ondisk.BtreeID, fn func(ondisk.KV)) {
	cur := c.trees.Cursor(ctx, b, ondisk.PosMin, ondisk.SPosMax)
	cur.ReadAhead()
	for {
		kv, ok := cur.Next()
		if ok {
			fn(kv)
			continue
		}
		if err := cur.Err(); err == nil {
			return
		} else if ctx.Err() != nil {
			return
		} else {
			c.bad = append(c.bad, err)
		}
		if !cur.SkipDamage() {
			return
		}
	}
}

func (c *counter) bucket(dev uint8, sector uint64) *bucketUse {
	size := c.set.BucketSize(dev)
	if size == 0 || int(dev) >= len(c.buckets) || c.buckets[dev] == nil || sector/size >= c.set.Devs[dev].Member.NBuckets {
		return nil
	}
	m := c.buckets[dev]
	b := m[sector/size]
	if b == nil {
		b = &bucketUse{}
		m[sector/size] = b
	}
	return b
}

// metadata counts the superblocks and the journal of a member.
func (c *counter) metadata(d *members.Device) {
	dev, size := uint8(d.Index), uint64(d.Member.BucketSize)
	l := &d.SB.Layout
	mark := func(from, to uint64) {
		for from < to && size > 0 && from/size < d.Member.NBuckets {
			n := min(to, (from/size+1)*size) - from
			if b := c.bucket(dev, from); b != nil {
				b.typ = ondisk.DataSB
				b.dirty += int64(n)
			}
			from += n
		}
	}
	for _, off := range l.Offsets {
		if off == members.DefaultSector {
			mark(0, off)
		}
		mark(off, off+l.Reserved())
	}
	buckets, err := d.SB.JournalBuckets()
	if err != nil {
		c.bad = append(c.bad, err)
	}
	for _, n := range buckets {
		if b := c.bucket(dev, n*size); b != nil {
			b.typ, b.dirty = ondisk.DataJournal, int64(size)
		}
	}
}

// nodes counts the nodes of a btree.
func (c *counter) nodes(ctx context.Context, id ondisk.BtreeID) error {
	n := BtreeUsage{Btree: id}
	size := int64(c.set.SB.NodeSectors())
	err := c.trees.Walk(ctx, id, 0, ondisk.PosMin, ondisk.SPosMax, func(r btree.NodeRef, _ *btree.Node, err error) bool {
		if err != nil {
			c.bad = append(c.bad, err)
		}
		if len(r.Ptr.Ptrs) == 0 {
			return true
		}
		var devs []byte
		for _, p := range r.Ptr.Ptrs {
			devs = append(devs, p.Dev)
			n.Sectors += size
			if b := c.bucket(p.Dev, p.Offset); b != nil {
				b.typ = ondisk.DataBtree
				b.dirty += size
			}
		}
		c.add(ondisk.DataBtree, 1, devs, size*int64(len(devs)))
		n.Nodes++
		if r.Level > 0 {
			n.Interior++
		}
		return true
	})
	if n.Nodes > 0 {
		c.u.Btrees = append(c.u.Btrees, n)
	}
	return err
}

func (c *counter) add(t ondisk.DataType, required uint8, devs []byte, sectors int64) {
	slices.Sort(devs)
	c.sets[replicaSet{t, required, string(devs)}] += sectors
}

func (c *counter) stripe(kv ondisk.KV) {
	if kv.Type != ondisk.KeyStripe {
		return
	}
	s, err := ondisk.DecodeStripe(kv.Val)
	if err != nil || s.NrData() <= 0 {
		return
	}
	s.Csums = nil
	c.stripes[kv.Pos.Offset] = s
	for i, p := range s.Ptrs {
		b := c.bucket(p.Dev, p.Offset)
		switch {
		case b == nil:
		case i >= s.NrData():
			b.typ, b.dirty = ondisk.DataParity, b.dirty+int64(s.Sectors)
		default:
			b.inStripe = true
		}
	}
	c.add(ondisk.DataParity, uint8(s.NrData()), stripeDevs(&s), int64(s.Sectors)*int64(s.NrRedundant))
}

func stripeDevs(s *ondisk.Stripe) (devs []byte) {
	for _, p := range s.Ptrs {
		devs = append(devs, p.Dev)
	}
	return devs
}

// data counts a key of extents or reflink.
func (c *counter) data(kv ondisk.KV) {
	val := kv.Val
	switch kv.Type {
	case ondisk.KeyExtent:
	case ondisk.KeyReflinkV:
		_, entries, err := ondisk.DecodeReflinkV(val)
		if err != nil {
			return
		}
		val = entries
	case ondisk.KeyReservation:
		r, err := ondisk.DecodeReservation(val)
		if err == nil {
			c.reserve(r.NrReplicas, int64(kv.Size))
		}
		return
	default:
		return
	}
	x, err := ondisk.DecodeExtent(val, kv.Size, c.sizes)
	if err != nil {
		return
	}
	var devs []byte
	total := int64(0)
	comp := map[ondisk.CompressionType]*Compression{}
	for _, p := range x.Ptrs {
		n := int64(p.DiskSectors(kv.Size))
		b := c.bucket(p.Dev, p.Offset)
		if b == nil {
			b = &bucketUse{}
		}
		switch {
		case p.Cached:
			b.cached += n
			c.add(ondisk.DataCached, 1, []byte{p.Dev}, n)
		case p.HasStripe:
			b.dirty += n
			if s, ok := c.stripes[p.Stripe.Index]; ok {
				c.add(ondisk.DataUser, uint8(s.NrData()), stripeDevs(&s), n)
			}
		default:
			b.dirty += n
			total += n
			devs = append(devs, p.Dev)
		}
		if t := p.Crc.Compression; t != 0 {
			e := comp[t]
			if e == nil {
				e = &Compression{Type: t, Extents: 1}
				comp[t] = e
			}
			e.Uncompressed += int64(p.Crc.UncompressedSize)
			e.Compressed += int64(p.Crc.CompressedSize)
		}
	}
	if len(devs) > 0 {
		c.add(ondisk.DataUser, 1, devs, total)
	}
	for t, e := range comp {
		if c.comp[t] == nil {
			c.comp[t] = &Compression{Type: t}
		}
		c.comp[t].Extents += e.Extents
		c.comp[t].Uncompressed += e.Uncompressed
		c.comp[t].Compressed += e.Compressed
	}
}

func (c *counter) reserve(replicas uint8, sectors int64) {
	for i := range c.u.Reserved {
		if r := &c.u.Reserved[i]; r.Replicas == replicas {
			r.Sectors += sectors
			r.Total += sectors * int64(replicas)
			return
		}
	}
	c.u.Reserved = append(c.u.Reserved, Reserved{replicas, sectors, sectors * int64(replicas)})
}

// finish sums the buckets up by data type.
func (c *counter) finish() {
	for i := range c.u.Devs {
		d := &c.u.Devs[i]
		m := &c.set.Devs[d.Dev].Member
		free := int64(m.NBuckets) - int64(m.FirstBucket)
		for _, b := range c.buckets[d.Dev] {
			t, n := b.typ, b.dirty
			switch {
			case t != 0:
			case b.inStripe:
				t = ondisk.DataStripe
			case n > 0:
				t = ondisk.DataUser
			case b.cached > 0:
				t, n = ondisk.DataCached, b.cached
			default:
				continue
			}
			e := &d.Types[t]
			e.Buckets++
			e.Sectors += n
			if n != 0 || c.set.SB.Version >= ondisk.Version1_0+37 {
				e.Fragmented += max(0, int64(m.BucketSize)-n)
			}
			free--
		}
		d.Types[ondisk.DataFree].Buckets = max(0, free)
	}
	for k, n := range c.sets {
		if n != 0 {
			c.u.Replicas = append(c.u.Replicas, Replicas{k.t, k.required, []byte(k.devs), n})
		}
	}
	for _, e := range c.comp {
		c.u.Compression = append(c.u.Compression, *e)
	}
	c.u.sort()
}
