package ondisk

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/gobcachefs/gobcachefs/errs"
)

// UUID is 16 bytes, stored in the order in which they are printed.
type UUID [16]byte

// UUIDs with a meaning (chapter 01 section 2.1).
var (
	// SBMagic is the magic of superblocks and layouts.
	SBMagic = UUID{0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9, 0xd9, 0x6a, 0x60, 0xcf, 0x80, 0x3d, 0xf7, 0xef}
	// SBMagicOld is the magic of the first volumes: accepted, never written.
	SBMagicOld = UUID{0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d, 0x81}
	// DeletedMemberUUID marks the slot of a removed member that may not be
	// used again before a check (1.27 and later).
	DeletedMemberUUID = UUID{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xd9, 0x6a, 0x60, 0xcf, 0x80, 0x3d, 0xf7, 0xef}
)

// String prints u hyphenated in lower case.
func (u UUID) String() string {
	var b [36]byte
	hex.Encode(b[0:], u[0:4])
	hex.Encode(b[9:], u[4:6])
	hex.Encode(b[14:], u[6:8])
	hex.Encode(b[19:], u[8:10])
	hex.Encode(b[24:], u[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// IsZero: all bytes are zero.
func (u UUID) IsZero() bool { return u == UUID{} }

// ParseUUID reads what String prints; upper case and missing hyphens are
// accepted.
func ParseUUID(s string) (UUID, error) {
	h := s
	if len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' {
		h = s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	}
	var u UUID
	if len(h) == 32 {
		if _, err := hex.Decode(u[:], []byte(h)); err == nil {
			return u, nil
		}
	}
	return UUID{}, fmt.Errorf("bad UUID %q", s)
}

// Numbers of the layout (chapter 01 section 1.1).
const (
	SBLayoutSize    = 512 // bytes
	SBLayoutSector  = 7   // where the copy without a superblock stands
	SBSector        = 8   // where the primary superblock stands
	MaxSBCopies     = 61
	MaxSBSizeBits   = 16 // 32 MiB
	DefaultSizeBits = 11 // 1 MiB
	layoutOffsets   = 24
)

// SBLayout says where the superblock copies of one device are (`bch_sb_layout`,
// chapter 01 section 1.1). It differs between members.
type SBLayout struct {
	Magic       UUID
	Type        uint8    // 0
	MaxSizeBits uint8    // log2 of the room for each copy, in sectors
	Offsets     []uint64 // sector of each copy, ascending, 1 to 61 of them

	pad  [5]byte
	tail []uint64 // unused entries if any is not zero
}

// Reserved is the room for each copy, in sectors.
func (l SBLayout) Reserved() uint64 { return 1 << min(l.MaxSizeBits, 63) }

// DecodeSBLayout reads and validates the 512 bytes at the start of b. Without a
// magic the error is ErrNotBcachefs.
func DecodeSBLayout(b []byte) (SBLayout, error) {
	if len(b) < SBLayoutSize {
		return SBLayout{}, errs.Corruptf("sb_layout_truncated", "%d bytes", len(b))
	}
	l := SBLayout{Type: b[16], MaxSizeBits: b[17]}
	copy(l.Magic[:], b)
	copy(l.pad[:], b[19:24])
	nr := int(b[18])
	if l.Magic != SBMagic && l.Magic != SBMagicOld {
		return SBLayout{}, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrNotBcachefs, Reason: "sb_layout_magic", Want: SBMagic.String(), Got: l.Magic.String()}
	}
	if nr < 1 || nr > MaxSBCopies {
		return SBLayout{}, errs.Corrupt(errs.Nowhere, "sb_layout_nr_superblocks", "1 to 61 superblocks", fmt.Sprint(nr))
	}
	all := make([]uint64, MaxSBCopies)
	last := 0
	for i := range all {
		all[i] = binary.LittleEndian.Uint64(b[layoutOffsets+8*i:])
		if all[i] != 0 {
			last = i + 1
		}
	}
	l.Offsets = all[:nr:nr]
	if last > nr {
		l.tail = all[nr:last:last]
	}
	if err := l.Validate(); err != nil {
		return SBLayout{}, err
	}
	return l, nil
}

// Validate checks everything chapter 01 section 1.1 asks of a layout.
func (l SBLayout) Validate() error {
	bad := func(reason, want, format string, a ...any) error {
		return errs.Corrupt(errs.Nowhere, reason, want, fmt.Sprintf(format, a...))
	}
	switch {
	case l.Magic != SBMagic && l.Magic != SBMagicOld:
		return bad("sb_layout_magic", SBMagic.String(), "%v", l.Magic)
	case l.Type != 0:
		return bad("sb_layout_type", "type 0", "%d", l.Type)
	case len(l.Offsets) < 1 || len(l.Offsets) > MaxSBCopies:
		return bad("sb_layout_nr_superblocks", "1 to 61 superblocks", "%d", len(l.Offsets))
	case l.MaxSizeBits > MaxSBSizeBits:
		return bad("sb_layout_max_size_bits", "at most 16", "%d", l.MaxSizeBits)
	}
	for i := 1; i < len(l.Offsets); i++ {
		// Offsets may be anything in a hostile layout: subtract, do not add.
		if l.Offsets[i] < l.Offsets[i-1] || l.Offsets[i]-l.Offsets[i-1] < l.Reserved() {
			return bad("sb_layout_superblocks_overlap", fmt.Sprintf("copy %d at sector %d or later", i, l.Offsets[i-1]+l.Reserved()), "sector %d", l.Offsets[i])
		}
	}
	return nil
}

// Append adds the 512 bytes of l to b. Offsets beyond the 61st are dropped;
// Validate refuses such a layout.
func (l SBLayout) Append(b []byte) []byte {
	b = append(b, l.Magic[:]...)
	b = append(b, l.Type, l.MaxSizeBits, byte(min(len(l.Offsets), 255)))
	b = append(b, l.pad[:]...)
	n := 0
	for _, list := range [][]uint64{l.Offsets, l.tail} {
		for _, o := range list {
			if n < MaxSBCopies {
				b = binary.LittleEndian.AppendUint64(b, o)
				n++
			}
		}
	}
	return append(b, make([]byte, 8*(MaxSBCopies-n))...)
}
