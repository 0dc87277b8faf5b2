package consequence

import (
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Ids of LRUs (chapter 06 section 6).
const (
	lruFragmentation    = 0xffff // up to 1.38
	lruFragmentationDev = 0x2000 // plus the member, from 1.39 on
	lruTimeMask         = 1<<48 - 1
)

// BucketState is what UpdateBucket needs to know besides the key.
type BucketState struct {
	Size uint64 // sectors
	// Open: a write point holds the bucket.
	Open bool
	// Now are the IO clocks.
	Now [2]uint64
	// Seq is the journal entry that the transaction goes into.
	Seq uint64
}

// DerivedType is the data type that the rest of an alloc key asks for (chapter
// 06 section 2.3); hint is the type of what is in the bucket.
func DerivedType(c Caps, a *ondisk.Alloc, hint ondisk.DataType) ondisk.DataType {
	switch {
	case a.DataType == ondisk.DataMultiple:
		return ondisk.DataMultiple
	case a.Stripe != 0:
		if hint == ondisk.DataParity {
			return ondisk.DataParity
		}
		return ondisk.DataStripe
	case a.DirtySectors+a.StripeSectors != 0:
		if c.Version > ondisk.Version1_13 && (hint == ondisk.DataCached || hint == ondisk.DataStripe) {
			return ondisk.DataUser
		}
		return hint
	case a.CachedSectors != 0:
		return ondisk.DataCached
	case a.NeedDiscard:
		return ondisk.DataNeedDiscard
	case a.Gen-a.OldestGen >= ondisk.BucketGCGenMax:
		return ondisk.DataNeedGCGens
	}
	return ondisk.DataFree
}

func empty(t ondisk.DataType) bool {
	switch t {
	case ondisk.DataFree, ondisk.DataNeedGCGens, ondisk.DataNeedDiscard:
		return true
	}
	return false
}

func sectors(a *ondisk.Alloc) uint32 { return a.DirtySectors + a.CachedSectors + a.StripeSectors }

// UpdateBucket completes the change of a bucket from old to new (chapter 06
// section 3.1): new gets its final type, generation and marks, and what follows
// from it is added to the changes. It is the only place that knows about
// freespace, need_discard, the LRUs, bucket generations and device counters.
func (r *Run) UpdateBucket(b Bucket, old ondisk.Alloc, new *ondisk.Alloc, st BucketState) {
	c := r.Caps
	new.DataType = DerivedType(c, new, new.DataType)
	if empty(old.DataType) && !empty(new.DataType) || !c.BucketSeqs && sectors(new) > sectors(&old) && sectors(&old) == 0 {
		new.IOTime = st.Now
		new.NeedIncGen, new.NeedDiscard = true, true
	}
	if empty(new.DataType) && new.NeedIncGen && !st.Open {
		if c.CachedBackpointers && new.OldestGen == new.Gen && sectors(new) == 0 {
			new.OldestGen++
		}
		new.Gen++
		new.NeedIncGen = false
		new.DataType = DerivedType(c, new, new.DataType)
	}
	if new.DataType == ondisk.DataCached && new.IOTime[ondisk.IORead] == 0 {
		new.IOTime[ondisk.IORead] = st.Now[ondisk.IORead]
	}
	r.bucketSeqs(old, new, st.Seq)

	if wasFree, isFree := old.DataType == ondisk.DataFree, new.DataType == ondisk.DataFree; wasFree != isFree || wasFree && genbits(&old) != genbits(new) {
		if wasFree && !c.Without["freespace"] {
			r.DelIndex(ondisk.BtreeFreespace, freespacePos(b, &old), ondisk.KeySet, nil)
		}
		if isFree && !c.Without["freespace"] {
			r.SetIndex(ondisk.BtreeFreespace, freespacePos(b, new), ondisk.KeySet, nil)
		}
	}
	was, is := old.DataType == ondisk.DataNeedDiscard, new.DataType == ondisk.DataNeedDiscard
	if !c.Without["need_discard"] && (was || is) {
		po, pn := discardPos(c, b, &old), discardPos(c, b, new)
		if was && (!is || po != pn) {
			r.DelIndex(ondisk.BtreeNeedDiscard, po, ondisk.KeySet, nil)
		}
		if is && (!was || po != pn) {
			r.SetIndex(ondisk.BtreeNeedDiscard, pn, ondisk.KeySet, nil)
		}
	}
	if !c.Without["lru"] {
		r.moveLRU(readLRU(b, &old), readLRU(b, new))
		r.moveLRU(fragLRU(c, b, &old, st.Size), fragLRU(c, b, new, st.Size))
	}
	if !c.Without["dev_data_type accounting"] {
		r.deviceCounters(b.Dev, &old, st.Size, -1)
		r.deviceCounters(b.Dev, new, st.Size, 1)
	}
}

// bucketSeqs keeps the journal sequence fields (section 3.1 step 10), always in
// the form that waits for the next flush.
func (r *Run) bucketSeqs(old ondisk.Alloc, new *ondisk.Alloc, seq uint64) {
	was, is := empty(old.DataType), empty(new.DataType)
	switch {
	case was == is:
	case !r.Caps.BucketSeqs:
		new.JournalSeq = seq
	case !is:
		new.JournalSeq = seq
		if r.Caps.Version < ondisk.Version1_38 {
			new.JournalSeqEmpty = 0
		}
	default:
		new.JournalSeqEmpty = seq
	}
	if r.Caps.Version >= ondisk.Version1_38 && new.DataType == ondisk.DataFree {
		new.JournalSeq, new.JournalSeqEmpty = 0, 0
	}
}

func genbits(a *ondisk.Alloc) uint64 { return uint64((a.Gen - a.OldestGen) >> 4) }

// freespacePos is the position of a free bucket's entry of size 1: freespace is
// an extents btree, keys stand at their end.
func freespacePos(b Bucket, a *ondisk.Alloc) ondisk.Pos {
	return ondisk.Pos{Inode: uint64(b.Dev), Offset: (b.Bucket | genbits(a)<<56) + 1}
}

func discardPos(c Caps, b Bucket, a *ondisk.Alloc) ondisk.Pos {
	if c.DiscardBySeq {
		return ondisk.Pos{Inode: a.JournalSeqEmpty, Offset: uint64(b.Dev)<<48 | b.Bucket}
	}
	return ondisk.Pos{Inode: uint64(b.Dev), Offset: b.Bucket}
}

func lruPos(id, time uint64, b Bucket) ondisk.Pos {
	if time == 0 {
		return ondisk.Pos{}
	}
	return ondisk.Pos{Inode: id<<48 | time&lruTimeMask, Offset: uint64(b.Dev)<<48 | b.Bucket}
}

func readLRU(b Bucket, a *ondisk.Alloc) ondisk.Pos {
	if a.DataType != ondisk.DataCached {
		return ondisk.Pos{}
	}
	return lruPos(uint64(b.Dev), a.IOTime[ondisk.IORead], b)
}

func fragLRU(c Caps, b Bucket, a *ondisk.Alloc, size uint64) ondisk.Pos {
	id := uint64(lruFragmentation)
	if c.PerDevFragLRU {
		id = lruFragmentationDev + uint64(b.Dev)
	}
	return lruPos(id, FragmentationIndex(c, a, size), b)
}

// FragmentationIndex is the time of a bucket in the fragmentation LRU, 0 when it
// is not in it (chapter 06 section 6.2).
func FragmentationIndex(c Caps, a *ondisk.Alloc, size uint64) uint64 {
	switch a.DataType {
	case ondisk.DataBtree, ondisk.DataUser, ondisk.DataStripe, ondisk.DataMultiple:
	default:
		return 0
	}
	if fragmented(c, a, size) == 0 {
		return 0
	}
	return min(uint64(a.DirtySectors)+uint64(a.StripeSectors), size) << 31 / size
}

func (r *Run) moveLRU(old, new ondisk.Pos) {
	if old == new {
		return
	}
	if old != (ondisk.Pos{}) {
		r.DelIndex(ondisk.BtreeLRU, old, ondisk.KeySet, nil)
	}
	if new != (ondisk.Pos{}) {
		r.SetIndex(ondisk.BtreeLRU, new, ondisk.KeySet, nil)
	}
}

func bucketUsed(a *ondisk.Alloc) int64 {
	if a.DataType == ondisk.DataCached {
		return int64(a.CachedSectors)
	}
	return int64(a.DirtySectors) + int64(a.StripeSectors)
}

func fragmented(c Caps, a *ondisk.Alloc, size uint64) int64 {
	n := bucketUsed(a)
	switch {
	case n != 0:
		return max(0, int64(size)-n)
	case c.EmptyFragmented && !empty(a.DataType):
		return int64(size)
	}
	return 0
}

func (r *Run) deviceCounters(dev uint8, a *ondisk.Alloc, size uint64, sign int64) {
	r.Account(ondisk.AccountingPos{Type: ondisk.AccDevDataType, Dev: uint32(dev), DataType: a.DataType}, sign, sign*bucketUsed(a), sign*fragmented(r.Caps, a, size))
	if a.DataType == ondisk.DataStripe && a.DirtySectors != 0 {
		r.Account(ondisk.AccountingPos{Type: ondisk.AccDevDataType, Dev: uint32(dev), DataType: ondisk.DataUnstriped}, sign, sign*int64(a.DirtySectors))
	}
}
