package ondisk

import (
	"encoding/binary"

	"github.com/gobcachefs/gobcachefs/errs"
)

// BucketGCGenMax is how far a bucket's generation may run ahead of the oldest
// pointer to it (chapter 06 section 1.1).
const BucketGCGenMax = 96

// Indexes of Alloc.IOTime.
const (
	IORead  = 0
	IOWrite = 1
)

// Flags of an alloc key.
const (
	allocNeedDiscard = 1 << 0
	allocNeedIncGen  = 1 << 1
)

// Sizes of the alloc_v4 struct in u64s: before BACKPOINTERS_START was stored, up
// to 1.7, and from 1.8 on.
const (
	allocV4U64sFirst = 6
	allocV4U64s7     = 7
	allocV4U64s8     = 8
)

// Alloc is the state of a bucket, from an alloc key of any form (chapter 06
// section 2). The zero value is what a missing key means: a free bucket.
type Alloc struct {
	// JournalSeq is the journal sequence number of the last change between empty
	// and nonempty (up to 1.13), or of the change to nonempty (from 1.14 on).
	JournalSeq       uint64
	NeedDiscard      bool
	NeedIncGen       bool
	Gen              uint8
	OldestGen        uint8
	DataType         DataType
	StripeRedundancy uint8 // up to 1.31
	DirtySectors     uint32
	CachedSectors    uint32
	IOTime           [2]uint64 // IO clocks in sectors, by IORead and IOWrite
	// Stripe is the index of the stripe that the bucket is part of (up to 1.34),
	// or the number of stripes (from 1.35 on); 0 none.
	Stripe                uint32
	NrExternalBackpointer uint32 // unused
	// JournalSeqEmpty is the word at byte 48: the fragmentation LRU index up to
	// 1.12, nothing in 1.13, from 1.14 on the journal sequence number of the
	// change to empty.
	JournalSeqEmpty uint64
	StripeSectors   uint32 // (1.8)

	// How an alloc_v4 was stored; writers choose these themselves.
	BackpointersStart uint8 // u64s, 0 means 6
	NrBackpointers    uint8
}

// DecodeAlloc reads a key of type alloc, alloc_v2, alloc_v3 or alloc_v4.
func DecodeAlloc(kv KV) (Alloc, error) {
	v := kv.Val
	if kv.Type != KeyAllocV4 && kv.Type != KeyAlloc && kv.Type != KeyAllocV2 && kv.Type != KeyAllocV3 {
		return Alloc{}, errs.Corruptf("bkey_invalid_type_for_btree", "key type %s as a bucket's", kv.Type)
	}
	if len(v) < kv.Type.MinVal() {
		return Alloc{}, errs.Corruptf("bkey_val_size_too_small", "%s of %d bytes", kv.Type, len(v))
	}
	switch kv.Type {
	case KeyAlloc:
		return decodeAllocV1(v)
	case KeyAllocV2:
		a := Alloc{Gen: v[1], OldestGen: v[2], DataType: DataType(v[3])}
		return a, a.decodeFields(v[4:], int(v[0]), "alloc_v2_unpack_error")
	case KeyAllocV3:
		a := Alloc{JournalSeq: binary.LittleEndian.Uint64(v), Gen: v[13], OldestGen: v[14], DataType: DataType(v[15])}
		a.NeedDiscard = v[8]&allocNeedDiscard != 0
		return a, a.decodeFields(v[16:], int(v[12]), "alloc_v3_unpack_error")
	}
	return decodeAllocV4(v)
}

func decodeAllocV4(val []byte) (Alloc, error) {
	le := binary.LittleEndian
	flags := le.Uint32(val[8:])
	start := int(flags >> 2 & 63)
	nrBps := int(flags >> 8 & 63)
	a := Alloc{BackpointersStart: uint8(start), NrBackpointers: uint8(nrBps)}
	if start == 0 {
		start = allocV4U64sFirst
	}
	// Everything from start on was not there for the writer.
	var v [8 * allocV4U64s8]byte
	copy(v[:min(8*start, len(v))], val)
	u32 := func(off int) uint32 { return le.Uint32(v[off:]) }
	u64 := func(off int) uint64 { return le.Uint64(v[off:]) }
	a.JournalSeq = u64(0)
	a.NeedDiscard, a.NeedIncGen = flags&allocNeedDiscard != 0, flags&allocNeedIncGen != 0
	a.Gen, a.OldestGen, a.DataType, a.StripeRedundancy = v[12], v[13], DataType(v[14]), v[15]
	a.DirtySectors, a.CachedSectors = u32(16), u32(20)
	a.IOTime = [2]uint64{u64(24), u64(32)}
	a.Stripe, a.NrExternalBackpointer = u32(40), u32(44)
	a.JournalSeqEmpty = u64(48)
	a.StripeSectors = u32(56)
	if 8*(start+4*nrBps) > len(val) {
		return a, errs.Corruptf("alloc_v4_val_size_bad", "value of %d u64s, backpointers at %d, %d of them", len(val)/8, start, nrBps)
	}
	if a.BackpointersStart == 0 && nrBps != 0 {
		return a, errs.Corruptf("alloc_v4_backpointers_start_bad", "%d backpointers at 0", nrBps)
	}
	return a, nil
}

// decodeFields reads the varints of alloc_v2 and alloc_v3.
func (a *Alloc) decodeFields(b []byte, nr int, reason string) error {
	for f := 0; f < min(nr, 6); f++ {
		v, n := Varint(b)
		b = b[n:]
		ok := n != 0
		switch f {
		case 0:
			a.IOTime[IORead] = v
		case 1:
			a.IOTime[IOWrite] = v
		case 2:
			a.DirtySectors, ok = uint32(v), ok && v>>32 == 0
		case 3:
			a.CachedSectors, ok = uint32(v), ok && v>>32 == 0
		case 4:
			a.Stripe, ok = uint32(v), ok && v>>32 == 0
		case 5:
			a.StripeRedundancy, ok = uint8(v), ok && v>>8 == 0
		}
		if !ok {
			return errs.Corruptf(reason, "varint field %d of %d", f, nr)
		}
	}
	return nil
}

// allocV1Widths is the size in bytes of the fields of an alloc key of the first
// form, by bit of its bitmap.
var allocV1Widths = [8]int{2, 2, 1, 2, 2, 1, 4, 1}

func decodeAllocV1(v []byte) (Alloc, error) {
	a := Alloc{Gen: v[1]}
	fields, rest := v[0], v[2:]
	for f, w := range allocV1Widths {
		if fields>>f&1 == 0 {
			continue
		}
		if len(rest) < w {
			return a, errs.Corruptf("alloc_v1_val_size_bad", "%d bytes, fields %#x", len(v), fields)
		}
		var x uint64
		for i := w - 1; i >= 0; i-- {
			x = x<<8 | uint64(rest[i])
		}
		rest = rest[w:]
		switch f {
		case 0:
			a.IOTime[IORead] = x
		case 1:
			a.IOTime[IOWrite] = x
		case 2:
			a.DataType = DataType(x)
		case 3:
			a.DirtySectors = uint32(x)
		case 4:
			a.CachedSectors = uint32(x)
		case 5:
			a.OldestGen = uint8(x)
		case 6:
			a.Stripe = uint32(x)
		case 7:
			a.StripeRedundancy = uint8(x)
		}
	}
	return a, nil
}

// Append adds the value of an alloc_v4 as a volume of version v has it: 56 bytes
// up to 1.7, else 64.
func (a Alloc) Append(b []byte, v Version) []byte {
	le := binary.LittleEndian
	start := uint32(allocV4U64s8)
	if v < Version1_8 {
		start = allocV4U64s7
	}
	flags := start << 2
	if a.NeedDiscard {
		flags |= allocNeedDiscard
	}
	if a.NeedIncGen {
		flags |= allocNeedIncGen
	}
	b = le.AppendUint64(b, a.JournalSeq)
	b = le.AppendUint32(b, flags)
	b = append(b, a.Gen, a.OldestGen, byte(a.DataType), a.StripeRedundancy)
	b = le.AppendUint32(le.AppendUint32(b, a.DirtySectors), a.CachedSectors)
	b = le.AppendUint64(le.AppendUint64(b, a.IOTime[IORead]), a.IOTime[IOWrite])
	b = le.AppendUint32(le.AppendUint32(b, a.Stripe), a.NrExternalBackpointer)
	b = le.AppendUint64(b, a.JournalSeqEmpty)
	if start == allocV4U64s8 {
		b = le.AppendUint64(b, uint64(a.StripeSectors))
	}
	return b
}

// DerivedType is the data type that the counters ask for, with the stored type
// or the type of a pointer being added as a hint (chapter 06 section 2.3).
// flagRule says what makes an empty bucket wait for its discard: the flag
// NeedDiscard (readers before tools 1.38.4), or the hint.
func (a Alloc) DerivedType(hint DataType, flagRule bool) DataType {
	switch {
	case a.DataType == DataMultiple:
		return DataMultiple
	case a.Stripe != 0 && hint == DataParity:
		return DataParity
	case a.Stripe != 0:
		return DataStripe
	case a.DirtySectors != 0 || a.StripeSectors != 0:
		return hint.Bucket()
	case a.CachedSectors != 0:
		return DataCached
	case flagRule && a.NeedDiscard, !flagRule && hint == DataNeedDiscard:
		return DataNeedDiscard
	case a.Gen-a.OldestGen >= BucketGCGenMax:
		return DataNeedGCGens
	}
	return DataFree
}

// FragmentationIndex is the time in the fragmentation LRU (1.8 and later): how
// full the bucket is, as a fraction of 2^31; 0 for full buckets and for those
// that are never compacted (chapter 06 section 6.2).
func (a Alloc) FragmentationIndex(bucketSectors uint32) uint64 {
	switch a.DataType {
	case DataBtree, DataUser, DataStripe, DataMultiple:
	default:
		return 0
	}
	n := uint64(a.DirtySectors) + uint64(a.StripeSectors)
	if n >= uint64(bucketSectors) {
		return 0
	}
	return n << 31 / uint64(bucketSectors)
}

// GenBits is what the positions of the freespace btree hold of a bucket's
// generations.
func (a Alloc) GenBits() uint8 { return (a.Gen - a.OldestGen) >> 4 }

// check applies the rules of chapter 06 section 2.3 that do not depend on the
// version.
func (a Alloc) check() error {
	const maxTime = 1<<48 - 1
	if a.IOTime[IORead] > maxTime || a.IOTime[IOWrite] > maxTime {
		return errs.Corruptf("alloc_key_io_time_bad", "io_time %d %d", a.IOTime[IORead], a.IOTime[IOWrite])
	}
	if t := a.DataType; t != a.DerivedType(t, false) && t != a.DerivedType(t, true) && t.Bucket() != a.DerivedType(t, false) {
		return errs.Corruptf("alloc_key_data_type_bad", "type %s, by its counters %s", t, a.DerivedType(t, false))
	}
	switch t := a.DataType; t {
	case DataFree, DataNeedGCGens, DataNeedDiscard:
		if a.Stripe != 0 || a.DirtySectors != 0 || a.CachedSectors != 0 || a.StripeSectors != 0 {
			return errs.Corruptf("alloc_key_empty_but_have_data", "type %s, %d dirty, %d cached, %d stripe sectors", t, a.DirtySectors, a.CachedSectors, a.StripeSectors)
		}
	case DataSB, DataJournal, DataBtree, DataUser, DataParity:
		if a.DirtySectors == 0 && a.StripeSectors == 0 && a.Stripe == 0 {
			return errs.Corruptf("alloc_key_dirty_sectors_0", "type %s", t)
		}
	case DataCached:
		if a.CachedSectors == 0 || a.DirtySectors != 0 || a.StripeSectors != 0 || a.Stripe != 0 {
			return errs.Corruptf("alloc_key_cached_inconsistency", "%d dirty, %d cached, %d stripe sectors", a.DirtySectors, a.CachedSectors, a.StripeSectors)
		}
	}
	return nil
}

// DevBucket is a bucket in one word, as several indexes store it.
func DevBucket(dev uint8, bucket uint64) uint64 { return uint64(dev)<<48 | bucket }

// DecodeBucketGens reads the value of a bucket_gens key: the generations of 256
// buckets (chapter 06 section 4).
func DecodeBucketGens(val []byte) ([256]uint8, error) {
	if len(val) != 256 {
		return [256]uint8{}, errs.Corruptf("bucket_gens_val_size_bad", "%d bytes", len(val))
	}
	return [256]uint8(val), nil
}
