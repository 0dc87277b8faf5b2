package ondisk

import (
	"encoding/binary"
	"math"
	"strconv"

	"github.com/gobcachefs/gobcachefs/errs"
)

// DecodeCookie reads the value of a cookie key: a counter.
func DecodeCookie(val []byte) (uint64, error) {
	if len(val) < 8 {
		return 0, errs.Corruptf("bkey_val_size_too_small", "cookie of %d bytes", len(val))
	}
	return binary.LittleEndian.Uint64(val), nil
}

// AppendCookie adds the value of a cookie key to b.
func AppendCookie(b []byte, n uint64) []byte { return binary.LittleEndian.AppendUint64(b, n) }

// LostReason says why data is gone: the value of an error key (1.34, chapter 02
// section 6.1).
type LostReason uint8

var lostReasons = [...]string{"unknown", "device_removed", "double_allocation", "no_valid_pointers_repair",
	"decompress_exceeded_max_encoded_extent", "decompress_lz4_old", "decompress_lz4", "decompress_gzip", "decompress_gzip_size_mismatch",
	"decompress_zstd_src_len_bad", "decompress_zstd_size_mismatch", "decompress_zstd_corruption_detected", "decompress_zstd_checksum_wrong",
	"decompress_zstd_prefix_unknown", "decompress_zstd_src_size_wrong", "decompress_zstd_dst_size_too_small", "decompress_zstd_memory_allocation",
	"decompress_zstd_unknown", "decompress_unknown"}

// String is the name of the reason.
func (r LostReason) String() string {
	if int(r) < len(lostReasons) {
		return lostReasons[r]
	}
	return "(unknown reason " + strconv.Itoa(int(r)) + ")"
}

// DecodeErrorKey reads the value of an error key, which may be empty.
func DecodeErrorKey(val []byte) LostReason {
	if len(val) == 0 {
		return 0
	}
	return LostReason(val[0])
}

// Append adds the 8 bytes of the value to b.
func (r LostReason) Append(b []byte) []byte { return append(b, byte(r), 0, 0, 0, 0, 0, 0, 0) }

// DecodeDamage reads the value of a damage key: what was found wrong with an
// inode, in the records of the superblock field errors_v2 (chapter 07, chapter
// 01 section 5.12).
func DecodeDamage(val []byte) ([]ErrorCount, error) {
	if len(val) == 0 {
		return nil, errs.Corruptf("damage_entries_bad", "no record")
	}
	return decodeErrors(val, "damage_entries_bad", func(a, b uint64) ErrorCount {
		return ErrorCount{ID: ErrorID(a), Count: a >> 16 & math.MaxUint32, Last: a>>48 | b&(1<<24-1)<<16, First: b >> 24}
	})
}

// AppendDamage adds the value of a damage key to b. The records must be in order
// of id; counts saturate at 32 bits, times at 40.
func AppendDamage(b []byte, d []ErrorCount) []byte {
	for _, e := range d {
		last := min(e.Last, 1<<40-1)
		b = binary.LittleEndian.AppendUint64(b, uint64(e.ID)|min(e.Count, math.MaxUint32)<<16|last<<48)
		b = binary.LittleEndian.AppendUint64(b, last>>16|min(e.First, last)<<24)
	}
	return b
}

// Positions in the lru btree (chapter 06 section 6).
const (
	LRUTimeBits            = 48
	LRUFragmentation       = 0xffff // up to 1.38
	LRUStripes             = 0xfffe // 1.23
	LRUFragmentationPerDev = 0x2000 // plus the device: from 1.39 on
	LRUTimeMax             = 1<<LRUTimeBits - 1
)

// LRUPos is the position of an entry: an LRU, a time, and what is in it.
func LRUPos(id uint16, time, value uint64) Pos {
	return Pos{Inode: uint64(id)<<LRUTimeBits | time&LRUTimeMax, Offset: value}
}

// SplitLRUPos is the inverse of LRUPos.
func SplitLRUPos(p Pos) (id uint16, time, value uint64) {
	return uint16(p.Inode >> LRUTimeBits), p.Inode & LRUTimeMax, p.Offset
}

// FreespacePos is the entry of a free bucket as a position: extents in the
// freespace btree cover ranges of them.
func FreespacePos(dev uint8, bucket uint64, genBits uint8) Pos {
	return Pos{Inode: uint64(dev), Offset: bucket | uint64(genBits)<<56}
}

// Rebalance is the extent entry of pending work of 1.3 to 1.32, in its wider
// form (chapter 05 section 2.5). The first form has only the last two fields.
type Rebalance struct {
	FromInode             uint8 // 6 bits: promote_target, erasure_code, data_checksum, background_compression, data_replicas, background_target
	PromoteTarget         uint16
	ErasureCode           bool
	DataChecksum          uint8
	DataReplicas          uint8
	BackgroundCompression uint8
	BackgroundTarget      uint16
}

// DecodeRebalance reads the word of the entry.
func DecodeRebalance(w uint64) Rebalance {
	return Rebalance{
		FromInode: uint8(w >> 9 & 63), PromoteTarget: uint16(w >> 15), ErasureCode: w>>31&1 != 0,
		DataChecksum: uint8(w >> 32 & 15), DataReplicas: uint8(w >> 36 & 15),
		BackgroundCompression: uint8(w >> 40), BackgroundTarget: uint16(w >> 48),
	}
}

// Word is the inverse of DecodeRebalance.
func (r Rebalance) Word() uint64 {
	w := uint64(1<<5) | uint64(r.FromInode&63)<<9 | uint64(r.PromoteTarget)<<15 | uint64(r.DataChecksum&15)<<32 |
		uint64(r.DataReplicas&15)<<36 | uint64(r.BackgroundCompression)<<40 | uint64(r.BackgroundTarget)<<48
	if r.ErasureCode {
		w |= 1 << 31
	}
	return w
}

// Bits of Reconcile.Need and FromInode; PromoteTarget only of the latter.
const (
	ReconcileDataReplicas          = 1 << 0
	ReconcileDataChecksum          = 1 << 1
	ReconcileErasureCode           = 1 << 2
	ReconcileBackgroundCompression = 1 << 3
	ReconcileBackgroundTarget      = 1 << 4
	ReconcilePromoteTarget         = 1 << 5
)

// Reconcile is the extent entry of pending work from 1.33 on (chapter 05 section
// 2.7).
type Reconcile struct {
	PtrsMoving            uint8 // bit i: pointer i
	Hipri, Pending        bool
	Need                  uint8 // 5 bits
	FromInode             uint8 // 6 bits
	DataReplicas          uint8
	DataChecksum          uint8 // option number
	ErasureCode           bool
	BackgroundCompression uint8 // option byte
	BackgroundTarget      uint16
	PromoteTarget         uint16
}

// DecodeReconcile reads the word of the entry.
func DecodeReconcile(w uint64) Reconcile {
	return Reconcile{
		PtrsMoving: uint8(w >> 10 & 31), Hipri: w>>15&1 != 0, Pending: w>>16&1 != 0, Need: uint8(w >> 17 & 31), FromInode: uint8(w >> 22 & 63),
		DataReplicas: uint8(w >> 28 & 7), DataChecksum: uint8(w >> 31 & 15), ErasureCode: w>>35&1 != 0,
		BackgroundCompression: uint8(w >> 36), BackgroundTarget: uint16(w >> 44 & 1023), PromoteTarget: uint16(w >> 54),
	}
}

// Word is the inverse of DecodeReconcile.
func (r Reconcile) Word() uint64 {
	w := uint64(1<<7) | uint64(r.PtrsMoving&31)<<10 | uint64(r.Need&31)<<17 | uint64(r.FromInode&63)<<22 | uint64(r.DataReplicas&7)<<28 |
		uint64(r.DataChecksum&15)<<31 | uint64(r.BackgroundCompression)<<36 | uint64(r.BackgroundTarget&1023)<<44 | uint64(r.PromoteTarget&1023)<<54
	if r.Hipri {
		w |= 1 << 15
	}
	if r.Pending {
		w |= 1 << 16
	}
	if r.ErasureCode {
		w |= 1 << 35
	}
	return w
}

// RebalanceCookieOffset is the offset of a scan cookie in the rebalance_work
// btree; its inode is the inode's number, 0 for the whole volume.
const RebalanceCookieOffset = math.MaxUint64 - 1
