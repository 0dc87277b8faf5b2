package consequence

import (
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Key is a key before or after a transaction, with where it lives. Type
// KeyDeleted means that there is none.
type Key struct {
	Btree ondisk.BtreeID
	Level int // of the node that holds it: 0 for leaf keys
	ondisk.KV
}

// Rule is one line of the table.
type Rule struct {
	// Name is what tests and Caps.Without call it.
	Name string
	// For says to which keys it applies.
	For func(k *Key) bool
	// Do adds (sign 1, the new key) or takes away (sign -1, the old one).
	Do func(r *Run, k *decoded, sign int64)
}

// Run applies the rules of one transaction.
type Run struct {
	Caps Caps
	Devs Devices
	*Changes
}

// decoded is a key with what several rules want from its value.
type decoded struct {
	*Key
	sectors uint32 // what each pointer stands for: node size or key size
	ext     ondisk.Extent
	ptrs    []ptr
}

type ptr struct {
	ondisk.ExtentPtr
	disk   int64 // sectors on the device
	bucket uint64
	stale  bool
	none   bool // no such device: no bucket
}

// Key types by what the rules do with them.
func hasPtrs(k *Key) bool {
	switch k.Type {
	case ondisk.KeyBtreePtr, ondisk.KeyBtreePtrV2:
		return k.Level > 0
	case ondisk.KeyExtent, ondisk.KeyReflinkV:
		return k.Level == 0
	}
	return false
}

func isNodePtr(k *Key) bool { return k.Level > 0 }

func isInode(k *Key) bool {
	return k.Level == 0 && k.Btree == ondisk.BtreeInodes && (k.Type == ondisk.KeyInode || k.Type == ondisk.KeyInodeV2 || k.Type == ondisk.KeyInodeV3)
}

// Rules is the table. The order does not matter: everything is summed up.
var Rules = []Rule{
	{"bucket sectors", hasPtrs, bucketSectors},
	{"backpointers", hasPtrs, backpointers},
	{"replicas accounting", hasPtrs, replicasAccounting},
	{"btree accounting", func(k *Key) bool { return hasPtrs(k) && isNodePtr(k) }, btreeAccounting},
	{"compression accounting", hasPtrs, compressionAccounting},
	{"inum accounting", func(k *Key) bool { return hasPtrs(k) && !isNodePtr(k) }, inumAccounting},
	{"snapshot accounting", func(k *Key) bool { return k.Level == 0 && k.Pos.Snapshot != 0 }, snapshotAccounting},
	{"reservation accounting", func(k *Key) bool { return k.Level == 0 && k.Type == ondisk.KeyReservation }, reservationAccounting},
	{"rebalance work", func(k *Key) bool { return hasPtrs(k) && !isNodePtr(k) }, rebalanceWork},
	{"inode count", isInode, inodeCount},
	{"deleted inodes", isInode, deletedInodes},
	{"reflink references", func(k *Key) bool { return k.Level == 0 && k.Type == ondisk.KeyReflinkP }, reflinkRefs},
	{"subvolume children", func(k *Key) bool { return k.Level == 0 && k.Type == ondisk.KeySubvolume }, subvolumeChildren},
}

// Replace adds what follows from replacing old by new at one position; either
// may be of type KeyDeleted.
func (r *Run) Replace(old, new *Key) error {
	for _, h := range []struct {
		k    *Key
		sign int64
	}{{new, 1}, {old, -1}} {
		if h.k.Type == ondisk.KeyDeleted {
			continue
		}
		d, err := r.decode(h.k)
		if err != nil {
			return err
		}
		for i := range Rules {
			rule := &Rules[i]
			if rule.For(h.k) && !r.Caps.Without[rule.Name] {
				rule.Do(r, d, h.sign)
			}
		}
	}
	return nil
}

func (r *Run) decode(k *Key) (*decoded, error) {
	d := &decoded{Key: k}
	if !hasPtrs(k) {
		return d, nil
	}
	var err error
	if isNodePtr(k) {
		var p ondisk.BtreePtr
		if p, err = ondisk.DecodeBtreePtr(k.KV); err != nil {
			return nil, err
		}
		d.sectors = r.Caps.NodeSectors
		for _, x := range p.Ptrs {
			d.ext.Ptrs = append(d.ext.Ptrs, ondisk.ExtentPtr{Ptr: x})
		}
	} else {
		val := k.Val
		if k.Type == ondisk.KeyReflinkV {
			if _, val, err = ondisk.DecodeReflinkV(k.Val); err != nil {
				return nil, err
			}
		}
		if d.ext, err = ondisk.DecodeExtent(val, k.Size, r.Caps.ExtentTypes); err != nil {
			return nil, err
		}
		d.sectors = k.Size
	}
	for _, x := range d.ext.Ptrs {
		p := ptr{ExtentPtr: x, disk: int64(d.sectors)}
		if c := x.Crc; c.Kind != 0 && c.Compression.Compressed() {
			p.disk = (p.disk*int64(c.CompressedSize) + int64(c.UncompressedSize) - 1) / int64(c.UncompressedSize)
		}
		size := r.Devs.BucketSize(x.Dev)
		if p.none = size == 0 || x.Dev == ondisk.InvalidDev; !p.none {
			p.bucket = x.Offset / size
			p.stale = x.Cached && r.Devs.Stale(x.Dev, p.bucket, x.Gen)
		}
		d.ptrs = append(d.ptrs, p)
	}
	return d, nil
}

// dataType is what a pointer's bucket holds because of it.
func (d *decoded) dataType(p *ptr) ondisk.DataType {
	switch {
	case isNodePtr(d.Key):
		return ondisk.DataBtree
	case p.HasStripe:
		return ondisk.DataStripe
	case p.Cached:
		return ondisk.DataCached
	}
	return ondisk.DataUser
}

func bucketSectors(r *Run, d *decoded, sign int64) {
	for i := range d.ptrs {
		p := &d.ptrs[i]
		if p.none || p.stale {
			continue
		}
		b := Bucket{p.Dev, p.bucket}
		x := r.Buckets[b]
		if x == nil {
			x = &BucketDelta{}
			r.Buckets[b] = x
		}
		switch {
		case p.HasStripe:
			x.Stripe += sign * p.disk
		case p.Cached:
			x.Cached += sign * p.disk
		default:
			x.Dirty += sign * p.disk
		}
		if t := d.dataType(p); sign > 0 && (x.Type == ondisk.DataFree || x.Type == ondisk.DataCached) {
			x.Type = t
		}
	}
}

func backpointers(r *Run, d *decoded, sign int64) {
	for i := range d.ptrs {
		p := &d.ptrs[i]
		if p.none || p.Cached && !r.Caps.CachedBackpointers {
			continue
		}
		bp := ondisk.Backpointer{Btree: d.Btree, Level: uint8(d.Level), DataType: d.dataType(p), BucketGen: p.Gen, BucketLen: uint32(p.disk), Pos: d.Pos}
		size := r.Devs.BucketSize(p.Dev)
		bp.BucketOffset = p.Offset%size<<ondisk.DefaultBackpointerShift + uint64(p.Crc.Offset)
		pos := ondisk.BackpointerPos(p.Dev, p.Offset, p.Crc.Offset, r.Caps.BPShift)
		val := bp.Append(nil, r.Caps.Version)
		if sign > 0 {
			r.SetIndex(ondisk.BtreeBackpointers, pos, ondisk.KeyBackpointer, val)
		} else {
			r.DelIndex(ondisk.BtreeBackpointers, pos, ondisk.KeyBackpointer, val)
		}
	}
}

// total is the sum of the dirty copies that are not erasure coded, and their
// devices.
func (d *decoded) total() (sectors int64, devs []uint8, striped bool) {
	for i := range d.ptrs {
		p := &d.ptrs[i]
		switch {
		case p.Cached:
		case p.HasStripe:
			striped = true
		default:
			sectors += p.disk
			devs = append(devs, p.Dev)
		}
	}
	return sectors, devs, striped
}

func replicasAccounting(r *Run, d *decoded, sign int64) {
	t := ondisk.DataUser
	if isNodePtr(d.Key) {
		t = ondisk.DataBtree
	}
	for i := range d.ptrs {
		if p := &d.ptrs[i]; p.Cached && !p.stale && !p.none {
			r.Account(ondisk.ReplicasPos(ondisk.DataCached, 1, []uint8{p.Dev}), sign*p.disk)
		}
	}
	sum, devs, striped := d.total()
	if len(devs) > 0 {
		need := uint8(1)
		if striped {
			need = 0
		}
		r.Account(ondisk.ReplicasPos(t, need, devs), sign*sum)
	}
}

func btreeAccounting(r *Run, d *decoded, sign int64) {
	sum, _, _ := d.total()
	p := ondisk.AccountingPos{Type: ondisk.AccBtree, Btree: uint32(d.Btree)}
	if r.Caps.BtreeCounters == 1 {
		r.Account(p, sign*sum)
		return
	}
	interior := int64(0)
	if d.Level > 1 {
		interior = 1
	}
	r.Account(p, sign*sum, sign, sign*interior)
}

func compressionAccounting(r *Run, d *decoded, sign int64) {
	var t ondisk.CompressionType
	c := [3]int64{1}
	emit := func() {
		if t != 0 {
			r.Account(ondisk.AccountingPos{Type: ondisk.AccCompression, Compression: t}, sign*c[0], sign*c[1], sign*c[2])
		}
		c = [3]int64{1}
	}
	for i := range d.ptrs {
		p := &d.ptrs[i]
		if p.stale {
			continue
		}
		ct := p.Crc.Compression
		if t != 0 && t != ct {
			emit()
		}
		if t = ct; t != 0 {
			c[1] += int64(p.Crc.UncompressedSize)
			c[2] += int64(p.Crc.CompressedSize)
		}
	}
	emit()
}

func inumAccounting(r *Run, d *decoded, sign int64) {
	if r.Caps.Version < ondisk.Version1_0+11 {
		return
	}
	sum, _, _ := d.total()
	r.Account(ondisk.AccountingPos{Type: ondisk.AccInum, Inode: d.Pos.Inode}, sign, sign*int64(d.Size), sign*sum)
}

func snapshotAccounting(r *Run, d *decoded, sign int64) {
	if !d.Btree.HasSnapshots() {
		return
	}
	if !r.Caps.SnapshotKeys {
		if sum, devs, _ := d.total(); hasPtrs(d.Key) && len(devs) > 0 {
			r.Account(ondisk.AccountingPos{Type: ondisk.AccSnapshot, Snapshot: d.Pos.Snapshot}, sign*sum)
		}
		return
	}
	if d.Type.IsWhiteout() {
		return
	}
	sum, _, _ := d.total()
	if d.Type == ondisk.KeyReservation {
		sum = int64(d.Size) * int64(nrReplicas(d.Key))
	}
	r.Account(ondisk.AccountingPos{Type: ondisk.AccSnapshot, Snapshot: d.Pos.Snapshot, Btree: uint32(d.Btree)}, sign, sign*int64(d.U64s())*8, sign*sum)
}

func nrReplicas(k *Key) uint8 {
	if len(k.Val) < 5 {
		return 0
	}
	return k.Val[4]
}

func reservationAccounting(r *Run, d *decoded, sign int64) {
	r.Account(ondisk.AccountingPos{Type: ondisk.AccPersistentReserved, NrReplicas: nrReplicas(d.Key)}, sign*int64(d.Size))
}

// rebalanceWork keeps the index of extents with pending work below 1.33
// (chapter 05 section 16.1).
func rebalanceWork(r *Run, d *decoded, sign int64) {
	if !r.Caps.Rebalance {
		return
	}
	n := r.pendingSectors(d)
	if n == 0 {
		return
	}
	if sign > 0 {
		r.SetIndex(ondisk.BtreeReconcileWork, d.Pos, ondisk.KeySet, nil)
	} else {
		r.DelIndex(ondisk.BtreeReconcileWork, d.Pos, ondisk.KeySet, nil)
	}
	if r.Caps.Version >= ondisk.Version1_9 {
		r.Account(ondisk.AccountingPos{Type: ondisk.AccRebalanceWork}, sign*n)
	}
}

// pendingSectors is how much of a key its rebalance entry wants moved.
func (r *Run) pendingSectors(d *decoded) int64 {
	val := d.Val
	if d.Type == ondisk.KeyReflinkV {
		_, val, _ = ondisk.DecodeReflinkV(d.Val)
	}
	var entry uint64
	_ = ondisk.ExtentEntries(val, r.Caps.ExtentTypes, func(e ondisk.ExtentEntry) bool {
		if e.Type == ondisk.XERebalance && len(e.Raw) > 0 {
			entry = e.Raw[0]
		}
		return true
	})
	if entry == 0 {
		return 0
	}
	want, target := uint8(entry>>40), uint16(entry>>48)
	types := [...]ondisk.CompressionType{0, ondisk.CompressionLZ4, ondisk.CompressionGzip, ondisk.CompressionZstd}
	var n int64
	if want != 0 && int(want&15) < len(types) {
		for i := range d.ptrs {
			p := &d.ptrs[i]
			if p.Crc.Compression == ondisk.CompressionIncompressible || p.Unwritten {
				n = 0
				break
			}
			if !p.Cached && p.Crc.Compression != types[want&15] {
				n += d.stored(p)
			}
		}
	}
	if target != 0 {
		for i := range d.ptrs {
			if p := &d.ptrs[i]; !p.Cached && !r.Devs.InTarget(p.Dev, target) {
				n += d.stored(p)
			}
		}
	}
	return n
}

// stored is the size of the blob a pointer refers to.
func (d *decoded) stored(p *ptr) int64 {
	if p.Crc.Kind != 0 {
		return int64(p.Crc.CompressedSize)
	}
	return int64(d.sectors)
}

func inodeCount(r *Run, _ *decoded, sign int64) {
	r.Account(ondisk.AccountingPos{Type: ondisk.AccNrInodes}, sign)
}

// deletedInodes lists the inodes that wait for their deletion (chapter 04
// section 8).
func deletedInodes(r *Run, d *decoded, sign int64) {
	in, err := ondisk.DecodeInode(d.KV)
	if err != nil || !in.Unlinked() || in.Flags&ondisk.InodeHasChildSnapshot != 0 {
		return
	}
	pos := ondisk.Pos{Offset: d.Pos.Offset, Snapshot: d.Pos.Snapshot}
	if sign > 0 {
		r.SetIndex(ondisk.BtreeDeletedInodes, pos, ondisk.KeySet, nil)
	} else {
		r.DelIndex(ondisk.BtreeDeletedInodes, pos, ondisk.KeySet, nil)
	}
}

func reflinkRefs(r *Run, d *decoded, sign int64) {
	p, err := ondisk.DecodeReflinkP(d.Val)
	if err != nil {
		return
	}
	ref := RefRange{Start: p.Idx, End: p.Idx + uint64(d.Size), Delta: sign, P: d.Pos}
	if sign < 0 {
		ref.Start -= min(uint64(p.FrontPad), p.Idx)
		ref.End += uint64(p.BackPad)
	}
	r.Refs = append(r.Refs, ref)
}

func subvolumeChildren(r *Run, d *decoded, sign int64) {
	s, err := ondisk.DecodeSubvolume(d.Val)
	if err != nil || s.FSPathParent == 0 || r.Caps.Version < ondisk.Version1_0+6 {
		return
	}
	pos := ondisk.Pos{Inode: uint64(s.FSPathParent), Offset: d.Pos.Offset}
	if sign > 0 {
		r.SetIndex(ondisk.BtreeSubvolumeChildren, pos, ondisk.KeySet, nil)
	} else {
		r.DelIndex(ondisk.BtreeSubvolumeChildren, pos, ondisk.KeySet, nil)
	}
}
