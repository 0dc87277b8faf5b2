package ondisk

import (
	"encoding/binary"
	"strconv"

	"github.com/gobcachefs/gobcachefs/errs"
)

// InvalidDev in a pointer stands for a member that is gone or was never there:
// a lost block of a stripe, or the placeholder of a missing replica (chapter 05
// section 14). There are no bytes behind it.
const InvalidDev = 255

// MaxPtrs is the largest number of pointers of one key.
const MaxPtrs = 16

// Ptr is one copy of an extent or of a btree node (`bch_extent_ptr`, chapter 05
// section 2.2).
type Ptr struct {
	Cached    bool   // may vanish: valid only while the bucket has generation Gen
	Unwritten bool   // allocated, never written: reads as zeros
	Offset    uint64 // device sector, 44 bits
	Dev       uint8  // member index, InvalidDev for none
	Gen       uint8  // low 8 bits of the bucket's generation
}

func decodePtr(w uint64) Ptr {
	return Ptr{
		Cached:    w&2 != 0,
		Unwritten: w&8 != 0,
		Offset:    w >> 4 & (1<<44 - 1),
		Dev:       uint8(w >> 48),
		Gen:       uint8(w >> 56),
	}
}

func (p Ptr) word() uint64 {
	w := uint64(1) | p.Offset&(1<<44-1)<<4 | uint64(p.Dev)<<48 | uint64(p.Gen)<<56
	if p.Cached {
		w |= 2
	}
	if p.Unwritten {
		w |= 8
	}
	return w
}

// Append adds the 8 bytes of p to b.
func (p Ptr) Append(b []byte) []byte { return binary.LittleEndian.AppendUint64(b, p.word()) }

// GenCompare compares bucket generations with wrap-around: negative when a is
// older than b (chapter 06 section 1.1).
func GenCompare(a, b uint8) int { return int(int8(a - b)) }

// CompressionType is how a blob is stored (chapter 05 section 9.1). These are
// not the numbers of the compression options.
type CompressionType uint8

// Compression types.
const (
	CompressionNone           CompressionType = 0
	CompressionLZ4Old         CompressionType = 1 // decodes like lz4, never written
	CompressionGzip           CompressionType = 2
	CompressionLZ4            CompressionType = 3
	CompressionZstd           CompressionType = 4
	CompressionIncompressible CompressionType = 5 // tried, stored plain
	NrCompressionTypes                        = 6
)

var compressionNames = [NrCompressionTypes]string{"none", "lz4_old", "gzip", "lz4", "zstd", "incompressible"}

// String is the name of the type.
func (t CompressionType) String() string {
	if t < NrCompressionTypes {
		return compressionNames[t]
	}
	return "(unknown compression_type " + strconv.Itoa(int(t)) + ")"
}

// Compressed: the stored bytes are not the data itself.
func (t CompressionType) Compressed() bool {
	return t != CompressionNone && t != CompressionIncompressible
}

// Crc is what is known of a stored blob: the entries crc32, crc64 and crc128
// (chapter 05 section 2.3). A blob has CompressedSize sectors on disk, which
// verify against Csum and expand to UncompressedSize sectors; the data of the
// key starts at sector Offset of those.
type Crc struct {
	Kind             uint8  // 32, 64 or 128: the width of the entry; 0: no entry
	CompressedSize   uint32 // sectors
	UncompressedSize uint32 // sectors
	Offset           uint32 // sectors
	Nonce            uint32
	CsumType         CsumType
	Compression      CompressionType
	Csum             Csum
}

// Encoded: only the whole blob can be read, because it is checksummed or
// compressed.
func (c Crc) Encoded() bool { return c.CsumType != CsumNone || c.Compression.Compressed() }

// Limits of the three kinds.
const (
	crc32MaxSize, crc32MaxNonce   = 1 << 7, 0
	crc64MaxSize, crc64MaxNonce   = 1 << 9, 1<<10 - 1
	crc128MaxSize, crc128MaxNonce = 1 << 13, 1<<13 - 1
)

var csumBytes = [16]uint8{0, 4, 8, 10, 16, 4, 8, 8}

// Bytes is the number of significant bytes of a checksum of this type; 0 for
// unknown types.
func (t CsumType) Bytes() int {
	if t < NrCsumTypes {
		return int(csumBytes[t])
	}
	return 0
}

// SmallestKind gives c the narrowest entry kind that holds it, as writers do.
// It is 0 when none does.
func (c Crc) SmallestKind() uint8 {
	n := c.CsumType.Bytes()
	switch {
	case n <= 4 && c.fits(32):
		return 32
	case n <= 10 && c.fits(64):
		return 64
	case c.fits(128):
		return 128
	}
	return 0
}

// fits: the numbers of c have room in an entry of a kind. What of a checksum has
// no room is cut off, which is not said here.
func (c Crc) fits(kind uint8) bool {
	var size, nonce uint32
	switch kind {
	case 32:
		size, nonce = crc32MaxSize, crc32MaxNonce
	case 64:
		size, nonce = crc64MaxSize, crc64MaxNonce
	case 128:
		size, nonce = crc128MaxSize, crc128MaxNonce
	}
	in := func(n uint32) bool { return n-1 < size } // 1 to size
	return in(c.CompressedSize) && in(c.UncompressedSize) && c.Offset < size && c.Nonce <= nonce && c.CsumType < 16 && c.Compression < 16
}

func decodeCrc(kind uint8, b []byte) Crc {
	w := binary.LittleEndian.Uint64(b)
	f := func(lo, n uint) uint32 { return uint32(w >> lo & (1<<n - 1)) }
	c := Crc{Kind: kind}
	switch kind {
	case 32:
		c.CompressedSize, c.UncompressedSize, c.Offset = f(2, 7)+1, f(9, 7)+1, f(16, 7)
		c.CsumType, c.Compression = CsumType(f(24, 4)), CompressionType(f(28, 4))
		c.Csum.Lo = w >> 32
	case 64:
		c.CompressedSize, c.UncompressedSize, c.Offset, c.Nonce = f(3, 9)+1, f(12, 9)+1, f(21, 9), f(30, 10)
		c.CsumType, c.Compression = CsumType(f(40, 4)), CompressionType(f(44, 4))
		c.Csum = Csum{Lo: binary.LittleEndian.Uint64(b[8:]), Hi: w >> 48}
	case 128:
		c.CompressedSize, c.UncompressedSize, c.Offset, c.Nonce = f(4, 13)+1, f(17, 13)+1, f(30, 13), f(43, 13)
		c.CsumType, c.Compression = CsumType(f(56, 4)), CompressionType(f(60, 4))
		c.Csum = DecodeCsum(b[8:])
	}
	return c
}

// Append adds the entry to b in its kind; with kind 0 in the smallest one. What
// was decoded can always be encoded. It panics if a size, the offset or the
// nonce does not fit: that is a bug of the caller.
func (c Crc) Append(b []byte) []byte {
	if c.Kind == 0 {
		c.Kind = c.SmallestKind()
	}
	if !c.fits(c.Kind) {
		panic("ondisk: crc entry does not fit its kind") // invariant: a bug of the caller
	}
	cs, us, off, non := uint64(c.CompressedSize-1), uint64(c.UncompressedSize-1), uint64(c.Offset), uint64(c.Nonce)
	ct, comp := uint64(c.CsumType), uint64(c.Compression)
	switch c.Kind {
	case 32:
		return binary.LittleEndian.AppendUint64(b, 2|cs<<2|us<<9|off<<16|ct<<24|comp<<28|c.Csum.Lo<<32)
	case 64:
		b = binary.LittleEndian.AppendUint64(b, 4|cs<<3|us<<12|off<<21|non<<30|ct<<40|comp<<44|c.Csum.Hi<<48)
		return binary.LittleEndian.AppendUint64(b, c.Csum.Lo)
	default:
		b = binary.LittleEndian.AppendUint64(b, 8|cs<<4|us<<17|off<<30|non<<43|ct<<56|comp<<60)
		return c.Csum.Append(b)
	}
}

// StripePtr says that the next pointer's bytes are also part of a stripe
// (chapter 05 section 2.4).
type StripePtr struct {
	Block      uint8  // data block of the stripe
	Redundancy uint8  // parity blocks of the stripe
	Index      uint64 // offset of its key in the stripes btree
}

func decodeStripePtr(w uint64) StripePtr {
	return StripePtr{Block: uint8(w >> 5), Redundancy: uint8(w >> 13 & 15), Index: w >> 17}
}

// Append adds the 8 bytes of s to b.
func (s StripePtr) Append(b []byte) []byte {
	return binary.LittleEndian.AppendUint64(b, 1<<4|uint64(s.Block)<<5|uint64(s.Redundancy&15)<<13|s.Index<<17)
}

// BtreePtr is the pointer to a btree node: the value of btree_ptr_v2 and of the
// older btree_ptr (chapter 05 section 3.1). Ptrs holds all pointers, those to
// InvalidDev too, which a reader skips.
type BtreePtr struct {
	V2             bool // false: btree_ptr, which has only Ptrs
	MemPtr         uint64
	Seq            uint64 // must equal the node's bset.seq
	SectorsWritten uint16 // sectors of the node in use, 0 unknown
	RangeUpdated   bool   // this range replaces the one in the node's header
	MinKey         Pos
	Ptrs           []Ptr
	Reconcile      uint64 // raw reconcile entry, 0 none (>= 1.33)
	ReconcileBp    uint64 // index of the backpointer that tracks this node, 0 none (>= 1.33)
}

// btreePtrHeader is the size of the fixed part of a btree_ptr_v2 in bytes.
const btreePtrHeader = 40

// DecodeBtreePtr reads the value of a key of type btree_ptr or btree_ptr_v2 and
// checks it as far as that needs no superblock: chapter 02 section 4.1.
func DecodeBtreePtr(kv KV) (BtreePtr, error) {
	var p BtreePtr
	v := kv.Val
	switch kv.Type {
	case KeyBtreePtrV2:
		if len(v) < btreePtrHeader {
			return p, errs.Corruptf("bkey_val_size_too_small", "btree_ptr_v2 of %d bytes", len(v))
		}
		p.V2 = true
		p.MemPtr = binary.LittleEndian.Uint64(v)
		p.Seq = binary.LittleEndian.Uint64(v[8:])
		p.SectorsWritten = binary.LittleEndian.Uint16(v[16:])
		p.RangeUpdated = v[18]&1 != 0
		p.MinKey = DecodePos(v[20:])
		v = v[btreePtrHeader:]
	case KeyBtreePtr:
	default:
		return p, errs.Corruptf("bkey_invalid_type_for_btree", "key type %s as a node pointer", kv.Type)
	}
	var bad error
	err := ExtentEntries(v, nil, func(e ExtentEntry) bool {
		switch e.Type {
		case XEPtr:
			p.Ptrs = append(p.Ptrs, e.Ptr)
		case XEReconcile:
			p.Reconcile = e.Raw[0]
		case XEReconcileBp:
			p.ReconcileBp = e.Raw[0] >> 9
		default:
			bad = errs.Corruptf("btree_ptr_has_non_ptr", "entry %s", e.Type)
		}
		return bad == nil
	})
	switch {
	case err != nil:
		return p, err
	case bad != nil:
		return p, bad
	case len(p.Ptrs) == 0:
		return p, errs.Corruptf("extent_ptrs_no_ptrs", "no pointer")
	case len(p.Ptrs) > MaxPtrs:
		return p, errs.Corruptf("extent_ptrs_too_many_ptrs", "%d pointers", len(p.Ptrs))
	case p.V2 && !p.MinKey.Less(kv.Pos):
		return p, errs.Corruptf("btree_ptr_v2_min_key_bad", "min_key %s, key %s", p.MinKey, kv.Pos)
	}
	return p, nil
}

// Append adds the value to b. Entries are written in the order pointers,
// reconcile, reconcile_bp. MemPtr is only meaningful in the memory of its
// writer and is stored as zero.
func (p BtreePtr) Append(b []byte) []byte {
	if p.V2 {
		b = binary.LittleEndian.AppendUint64(b, 0)
		b = binary.LittleEndian.AppendUint64(b, p.Seq)
		b = binary.LittleEndian.AppendUint16(b, p.SectorsWritten)
		var f uint16
		if p.RangeUpdated {
			f = 1
		}
		b = binary.LittleEndian.AppendUint16(b, f)
		b = p.MinKey.Append(b)
	}
	for _, q := range p.Ptrs {
		b = q.Append(b)
	}
	if p.Reconcile != 0 {
		b = binary.LittleEndian.AppendUint64(b, p.Reconcile)
	}
	if p.ReconcileBp != 0 {
		b = binary.LittleEndian.AppendUint64(b, 1<<8|p.ReconcileBp<<9)
	}
	return b
}
