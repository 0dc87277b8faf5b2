package ondisk

import (
	"encoding/binary"
	"math/bits"
	"strconv"

	"github.com/gobcachefs/gobcachefs/errs"
)

// ExtentEntryType is the type of an entry in the value of an extent or a node
// pointer: the index of the lowest set bit of its first word (chapter 05
// section 2).
type ExtentEntryType uint8

// Extent entry types.
const (
	XEPtr              ExtentEntryType = 0
	XECrc32            ExtentEntryType = 1
	XECrc64            ExtentEntryType = 2
	XECrc128           ExtentEntryType = 3
	XEStripePtr        ExtentEntryType = 4
	XERebalance        ExtentEntryType = 5 // 1.3 to 1.32
	XEFlags            ExtentEntryType = 6 // 1.25
	XEReconcile        ExtentEntryType = 7 // 1.33
	XEReconcileBp      ExtentEntryType = 8 // 1.33, node pointers only
	NrExtentEntryTypes                 = 9
)

var extentEntryNames = [NrExtentEntryTypes]string{"ptr", "crc32", "crc64", "crc128", "stripe_ptr", "rebalance", "flags", "reconcile", "reconcile_bp"}

// String is the name of the type.
func (t ExtentEntryType) String() string {
	if t < NrExtentEntryTypes {
		return extentEntryNames[t]
	}
	return "(unknown extent entry type " + strconv.Itoa(int(t)) + ")"
}

// ExtentTypeSizes is the size of each entry type in u64s, 0 for types that the
// volume does not have: the superblock field extent_type_u64s (chapter 01
// section 5.12). It lets a reader skip types that are newer than itself.
type ExtentTypeSizes [64]uint8

var builtinTypeSizes = ExtentTypeSizes{1, 1, 2, 3, 1, 1, 1, 1, 1}

// DecodeExtentTypeSizes reads the payload of the field: one byte for each type,
// zero ends. Sizes of known types must be the known ones.
func DecodeExtentTypeSizes(b []byte) (*ExtentTypeSizes, error) {
	var s ExtentTypeSizes
	for i, n := range b {
		if n == 0 || i >= len(s) {
			break
		}
		if i < NrExtentEntryTypes && n != builtinTypeSizes[i] {
			return nil, errs.Corruptf("sb_field_extent_type_u64s_invalid", "entry type %s has %d u64s", ExtentEntryType(i), n)
		}
		s[i] = n
	}
	return &s, nil
}

// ExtentEntry is one entry. Which field is set follows from Type; Raw holds the
// words of every type other than pointers, crcs and stripe pointers.
type ExtentEntry struct {
	Type   ExtentEntryType
	Ptr    Ptr
	Crc    Crc
	Stripe StripePtr
	Raw    []uint64
}

// Append adds the entry to b. Bits that the format leaves unused are written as
// zero.
func (e ExtentEntry) Append(b []byte) []byte {
	switch e.Type {
	case XEPtr:
		return e.Ptr.Append(b)
	case XECrc32, XECrc64, XECrc128:
		e.Crc.Kind = crcKind(e.Type)
		return e.Crc.Append(b)
	case XEStripePtr:
		return e.Stripe.Append(b)
	}
	for _, w := range e.Raw {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

func crcKind(t ExtentEntryType) uint8 { return 32 << (t - XECrc32) }

// entryAt gives the type and the size in bytes of the entry at the start of
// val, which is not empty.
func entryAt(val []byte, sizes *ExtentTypeSizes) (ExtentEntryType, int, error) {
	if len(val) < 8 {
		return 0, 0, errs.Corruptf("extent_ptrs_invalid_entry", "%d bytes left", len(val))
	}
	w := binary.LittleEndian.Uint64(val)
	if w == 0 {
		return 0, 0, errs.Corruptf("extent_ptrs_invalid_entry", "entry of type 64")
	}
	t := ExtentEntryType(bits.TrailingZeros64(w))
	n := builtinTypeSizes[t]
	if n == 0 && sizes != nil {
		n = sizes[t]
	}
	if n == 0 {
		return t, 0, errs.Corruptf("extent_ptrs_invalid_entry", "%s", t)
	}
	if 8*int(n) > len(val) {
		return t, 0, errs.Corruptf("extent_ptrs_invalid_entry", "entry %s of %d u64s, %d bytes left", t, n, len(val))
	}
	return t, 8 * int(n), nil
}

// ExtentEntries walks the entries of val: the value of an extent, of a
// reflink_v after its refcount, or of a btree_ptr_v2 after its header. sizes may
// be nil; entries of unknown types that it covers are handed out raw. The error
// is about the entries themselves; yield returning false ends the walk without
// one.
func ExtentEntries(val []byte, sizes *ExtentTypeSizes, yield func(ExtentEntry) bool) error {
	for len(val) > 0 {
		t, n, err := entryAt(val, sizes)
		if err != nil {
			return err
		}
		e := ExtentEntry{Type: t}
		switch t {
		case XEPtr:
			e.Ptr = decodePtr(binary.LittleEndian.Uint64(val))
		case XECrc32, XECrc64, XECrc128:
			e.Crc = decodeCrc(crcKind(t), val)
		case XEStripePtr:
			e.Stripe = decodeStripePtr(binary.LittleEndian.Uint64(val))
		default:
			e.Raw = make([]uint64, n/8)
			for i := range e.Raw {
				e.Raw[i] = binary.LittleEndian.Uint64(val[8*i:])
			}
		}
		if !yield(e) {
			return nil
		}
		val = val[n:]
	}
	return nil
}

// ExtentPtr is a pointer with what governs it.
type ExtentPtr struct {
	Ptr
	// Crc describes the blob the pointer points to. With Kind 0 there is no
	// entry: the blob is the key's data itself, and its sizes are the key's.
	Crc       Crc
	HasStripe bool
	Stripe    StripePtr
}

// DiskSectors is the number of sectors that a pointer of a key of size live
// sectors is charged for (chapter 05 section 5).
func (p ExtentPtr) DiskSectors(live uint32) uint32 {
	if !p.Crc.Compression.Compressed() || p.Crc.UncompressedSize == 0 {
		return live
	}
	u := uint64(p.Crc.UncompressedSize)
	return uint32((uint64(live)*uint64(p.Crc.CompressedSize) + u - 1) / u)
}

// Extent is the decoded value of an extent or reflink_v.
type Extent struct {
	Ptrs      []ExtentPtr
	Poisoned  bool   // all copies are known to be bad (1.25)
	Flags     uint64 // the flags entry without its type bits, bit 0 poisoned
	Rebalance uint64 // raw rebalance entry, 0 none
	Reconcile uint64 // raw reconcile entry, 0 none
}

// DecodeExtent reads the entries of a key of size sectors and checks what a
// reader relies on: types and sizes of entries, 1 to 16 pointers, and of each
// crc entry its types and sizes. sizes may be nil.
func DecodeExtent(val []byte, size uint32, sizes *ExtentTypeSizes) (Extent, error) {
	var x Extent
	crc := Crc{CompressedSize: size, UncompressedSize: size}
	var stripe StripePtr
	hasStripe := false
	for len(val) > 0 {
		t, n, err := entryAt(val, sizes)
		if err != nil {
			return x, err
		}
		w := binary.LittleEndian.Uint64(val)
		switch t {
		case XEPtr:
			if len(x.Ptrs) == MaxPtrs {
				return x, errs.Corruptf("extent_ptrs_too_many_ptrs", "more than %d pointers", MaxPtrs)
			}
			x.Ptrs = append(x.Ptrs, ExtentPtr{Ptr: decodePtr(w), Crc: crc, HasStripe: hasStripe, Stripe: stripe})
			hasStripe, stripe = false, StripePtr{}
		case XECrc32, XECrc64, XECrc128:
			crc = decodeCrc(crcKind(t), val)
			if err := crc.check(size); err != nil {
				return x, err
			}
		case XEStripePtr:
			hasStripe, stripe = true, decodeStripePtr(w)
		case XERebalance:
			x.Rebalance = w
		case XEFlags:
			x.Flags = w >> 7
			x.Poisoned = x.Flags&1 != 0
		case XEReconcile:
			x.Reconcile = w
		}
		val = val[n:]
	}
	if len(x.Ptrs) == 0 {
		return x, errs.Corruptf("extent_ptrs_no_ptrs", "no pointer")
	}
	return x, nil
}

// check applies the rules of one crc entry in a key of size sectors.
func (c Crc) check(size uint32) error {
	switch {
	case c.CsumType >= NrCsumTypes:
		return errs.Corruptf("ptr_crc_csum_type_unknown", "checksum type %d", c.CsumType)
	case c.Compression >= NrCompressionTypes:
		return errs.Corruptf("ptr_crc_compression_type_unknown", "compression type %d", c.Compression)
	case uint64(c.Offset)+uint64(size) > uint64(c.UncompressedSize):
		return errs.Corruptf("ptr_crc_uncompressed_size_too_small", "offset %d + size %d, uncompressed %d", c.Offset, size, c.UncompressedSize)
	case !c.Compression.Compressed() && c.CompressedSize != c.UncompressedSize:
		return errs.Corruptf("ptr_crc_uncompressed_size_mismatch", "compressed %d, uncompressed %d, type %s", c.CompressedSize, c.UncompressedSize, c.Compression)
	}
	return nil
}
