package ondisk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/csum"
)

// Sizes of the superblock.
const (
	SBFixedSize  = 752 // bytes before the fields
	SBLabelSize  = 32
	sbCsumStart  = 16 // the checksum covers everything behind itself
	sbLayoutOff  = 240
	sbFieldsHead = 8
	// maxSBFields is many times what any version has types for.
	maxSBFields = 4096
)

// SBField is one variable-length field of the superblock. Data is the payload
// without the 8-byte header; fields of unknown types are kept as they are.
type SBField struct {
	Type SBFieldType
	Data []byte
}

// Superblock is a decoded superblock (`bch_sb`, chapter 01 section 2) of one
// device. What is not decoded is kept, so that Append gives the same bytes.
type Superblock struct {
	Csum          Csum // as read; Append computes its own
	Version       Version
	VersionMin    Version // oldest version of any bset on disk
	Magic         UUID
	UUID          UUID   // internal, never changes
	UserUUID      UUID   // external, what users see
	Label         string // at most 32 bytes
	Offset        uint64 // sector of this very copy
	Seq           uint64 // counts superblock writes
	BlockSize     uint16 // sectors
	DevIdx        uint8
	NrDevices     uint8 // member slots, removed ones included
	TimeBaseLo    uint64
	TimeBaseHi    uint32
	TimePrecision uint32 // nanoseconds per unit of time
	Flags         [7]uint64
	WriteTime     uint64 // seconds since 1970
	Features      [2]uint64
	Compat        [2]uint64
	Layout        SBLayout
	Fields        []SBField

	pad   uint32
	label [SBLabelSize]byte // as read: bytes behind the NUL are kept
}

func notBcachefs(got UUID) error {
	return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrNotBcachefs, Reason: "sb_magic", Want: SBMagic.String(), Got: got.String()}
}

// SuperblockBytes gives the size of the superblock in bytes, from its first
// SBFixedSize bytes. The size fits the room that the embedded layout reserves
// (at most 32 MiB). Without a magic the error is ErrNotBcachefs.
func SuperblockBytes(head []byte) (int, error) {
	if len(head) < SBFixedSize {
		return 0, errs.Corruptf("sb_truncated", "%d bytes", len(head))
	}
	if m := UUID(head[24:40]); m != SBMagic && m != SBMagicOld {
		return 0, notBcachefs(m)
	}
	l, err := DecodeSBLayout(head[sbLayoutOff:])
	if err != nil {
		return 0, err
	}
	n := SBFixedSize + 8*uint64(binary.LittleEndian.Uint32(head[124:]))
	if room := l.Reserved() << 9; n > room {
		return 0, errs.Corrupt(errs.Nowhere, "sb_too_big", fmt.Sprintf("at most %d bytes", room), fmt.Sprint(n))
	}
	return int(n), nil
}

// DecodeSuperblock reads a whole superblock and checks what chapter 01 section
// 2.5 calls the read stage, checksum included, and that the fields tile it. b
// may be longer than the superblock. Nothing of b is kept. Errors:
// ErrNotBcachefs, ErrVersion, ErrChecksum, ErrCorrupt.
func DecodeSuperblock(b []byte) (*Superblock, error) {
	if len(b) >= 40 {
		if m := UUID(b[24:40]); m != SBMagic && m != SBMagicOld {
			return nil, notBcachefs(m)
		}
	}
	if len(b) >= SBFixedSize {
		// Versions come before the layout and size: a future major version may
		// have moved these.
		if err := checkVersions(Version(binary.LittleEndian.Uint16(b[16:])), Version(binary.LittleEndian.Uint16(b[18:]))); err != nil {
			return nil, err
		}
	}
	n, err := SuperblockBytes(b)
	if err != nil {
		return nil, err
	}
	if n > len(b) {
		return nil, errs.Corrupt(errs.Nowhere, "sb_truncated", fmt.Sprintf("%d bytes", n), fmt.Sprint(len(b)))
	}
	b = b[:n]
	le := binary.LittleEndian
	sb := &Superblock{
		Csum:          DecodeCsum(b),
		Version:       Version(le.Uint16(b[16:])),
		VersionMin:    Version(le.Uint16(b[18:])),
		pad:           le.Uint32(b[20:]),
		Magic:         UUID(b[24:40]),
		UUID:          UUID(b[40:56]),
		UserUUID:      UUID(b[56:72]),
		label:         [SBLabelSize]byte(b[72:104]),
		Label:         cstring(b[72:104]),
		Offset:        le.Uint64(b[104:]),
		Seq:           le.Uint64(b[112:]),
		BlockSize:     le.Uint16(b[120:]),
		DevIdx:        b[122],
		NrDevices:     b[123],
		TimeBaseLo:    le.Uint64(b[128:]),
		TimeBaseHi:    le.Uint32(b[136:]),
		TimePrecision: le.Uint32(b[140:]),
		WriteTime:     le.Uint64(b[200:]),
		Features:      [2]uint64{le.Uint64(b[208:]), le.Uint64(b[216:])},
		Compat:        [2]uint64{le.Uint64(b[224:]), le.Uint64(b[232:])},
	}
	for i := range sb.Flags {
		sb.Flags[i] = le.Uint64(b[144+8*i:])
	}
	if sb.Layout, err = DecodeSBLayout(b[sbLayoutOff:]); err != nil {
		return nil, err
	}
	lo, ok := csum.Sum(uint8(sb.CsumType()), b[sbCsumStart:])
	want := Csum{Lo: lo}
	if !ok {
		return nil, errs.Corrupt(errs.Nowhere, "sb_csum_type", "a checksum type of superblocks", fmt.Sprintf("%d (%v)", sb.CsumType(), sb.CsumType()))
	}
	if sb.CsumType() != CsumNone && want != sb.Csum {
		return nil, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrChecksum, Reason: "sb_csum",
			Want: fmt.Sprintf("%v %016x:%016x", sb.CsumType(), sb.Csum.Hi, sb.Csum.Lo), Got: fmt.Sprintf("%016x:%016x", want.Hi, want.Lo)}
	}
	if sb.Fields, err = decodeSBFields(b[SBFixedSize:]); err != nil {
		return nil, err
	}
	return sb, nil
}

func checkVersions(v, vmin Version) error {
	bad := func(reason string, v Version) error {
		return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrVersion, Reason: reason,
			Want: fmt.Sprintf("%v to %d.x", VersionOldest, VersionNewest.Major()), Got: fmt.Sprintf("%v: %s", v, v.Name())}
	}
	switch {
	case v < VersionOldest || v.Major() > VersionNewest.Major():
		return bad("sb_version", v)
	case vmin < VersionOldest || vmin.Major() > VersionNewest.Major():
		return bad("sb_version_min", vmin)
	case vmin > v:
		return errs.Corrupt(errs.Nowhere, "sb_version_min", "at most version "+v.String(), vmin.String())
	}
	return nil
}

func decodeSBFields(b []byte) ([]SBField, error) {
	var fields []SBField
	for off := 0; off < len(b); {
		// The whole area is a multiple of 8: a header always fits.
		n := 8 * uint64(binary.LittleEndian.Uint32(b[off:]))
		t := SBFieldType(binary.LittleEndian.Uint32(b[off+4:]))
		if n == 0 {
			return nil, errs.Corruptf("sb_field_size_zero", "field %v at byte %d", t, SBFixedSize+off)
		}
		if n > uint64(len(b)-off) {
			return nil, errs.Corruptf("sb_field_past_end", "field %v of %d bytes at byte %d, %d bytes left", t, n, SBFixedSize+off, len(b)-off)
		}
		if len(fields) >= maxSBFields {
			return nil, errs.Corruptf("sb_too_many_fields", "more than %d", maxSBFields)
		}
		fields = append(fields, SBField{Type: t, Data: bytes.Clone(b[off+sbFieldsHead : off+int(n)])})
		off += int(n)
	}
	return fields, nil
}

// Bytes is the size that Append gives.
func (sb *Superblock) Bytes() int {
	n := SBFixedSize
	for _, f := range sb.Fields {
		n += sbFieldsHead + roundUp8(len(f.Data))
	}
	return n
}

// Append adds the superblock to b: the exact inverse of DecodeSuperblock. The
// checksum is computed, of the type that the flags ask for; payloads are padded
// with zeros to 8 bytes. It does not validate.
func (sb *Superblock) Append(b []byte) []byte {
	le := binary.LittleEndian
	start := len(b)
	b = Csum{}.Append(b)
	b = le.AppendUint16(b, uint16(sb.Version))
	b = le.AppendUint16(b, uint16(sb.VersionMin))
	b = le.AppendUint32(b, sb.pad)
	b = append(b, sb.Magic[:]...)
	b = append(b, sb.UUID[:]...)
	b = append(b, sb.UserUUID[:]...)
	label := sb.label
	putCString(label[:], sb.Label)
	b = append(b, label[:]...)
	b = le.AppendUint64(b, sb.Offset)
	b = le.AppendUint64(b, sb.Seq)
	b = le.AppendUint16(b, sb.BlockSize)
	b = append(b, sb.DevIdx, sb.NrDevices)
	b = le.AppendUint32(b, uint32((sb.Bytes()-SBFixedSize)/8))
	b = le.AppendUint64(b, sb.TimeBaseLo)
	b = le.AppendUint32(b, sb.TimeBaseHi)
	b = le.AppendUint32(b, sb.TimePrecision)
	for _, f := range sb.Flags {
		b = le.AppendUint64(b, f)
	}
	b = le.AppendUint64(b, sb.WriteTime)
	for _, v := range [4]uint64{sb.Features[0], sb.Features[1], sb.Compat[0], sb.Compat[1]} {
		b = le.AppendUint64(b, v)
	}
	b = sb.Layout.Append(b)
	for _, f := range sb.Fields {
		n := roundUp8(len(f.Data))
		b = le.AppendUint32(b, uint32((sbFieldsHead+n)/8))
		b = le.AppendUint32(b, uint32(f.Type))
		b = append(b, f.Data...)
		b = append(b, make([]byte, n-len(f.Data))...)
	}
	if lo, ok := csum.Sum(uint8(sb.CsumType()), b[start+sbCsumStart:]); ok {
		le.PutUint64(b[start:], lo)
	}
	return b
}

// Clone is a deep copy.
func (sb *Superblock) Clone() *Superblock {
	c := *sb
	c.Layout.Offsets = append([]uint64(nil), sb.Layout.Offsets...)
	c.Layout.tail = append([]uint64(nil), sb.Layout.tail...)
	c.Fields = append([]SBField(nil), sb.Fields...)
	for i := range c.Fields {
		c.Fields[i].Data = bytes.Clone(c.Fields[i].Data)
	}
	return &c
}

// Field is the payload of the first field of type t, nil when there is none. A
// field without payload gives an empty slice. The bytes belong to sb.
func (sb *Superblock) Field(t SBFieldType) []byte {
	for _, f := range sb.Fields {
		if f.Type == t {
			if f.Data == nil {
				return []byte{}
			}
			return f.Data
		}
	}
	return nil
}

// SetField replaces the payload of the field of type t in its place, or adds it
// at the end. Nil deletes the field. sb keeps data.
func (sb *Superblock) SetField(t SBFieldType, data []byte) {
	for i, f := range sb.Fields {
		if f.Type != t {
			continue
		}
		if data == nil {
			sb.Fields = append(sb.Fields[:i:i], sb.Fields[i+1:]...)
		} else {
			sb.Fields[i].Data = data
		}
		return
	}
	if data != nil {
		sb.Fields = append(sb.Fields, SBField{Type: t, Data: data})
	}
}

// Time converts a timestamp of an inode or key, which counts units of
// TimePrecision nanoseconds from the time base, to real time (chapter 01
// section 2.4).
func (sb *Superblock) Time(t int64) time.Time {
	p := int64(max(sb.TimePrecision, 1))
	perSec := max(int64(time.Second)/p, 1)
	t += int64(sb.TimeBaseLo) / p
	s, r := t/perSec, t%perSec
	if r < 0 {
		s, r = s-1, r+perSec
	}
	return time.Unix(s, r*p)
}

// Created is when the volume was made: the time base.
func (sb *Superblock) Created() time.Time { return sb.Time(0) }

func roundUp8(n int) int { return (n + 7) &^ 7 }

// cstring is what stands before the first NUL.
func cstring(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// putCString stores s in dst, cut to fit and NUL padded. When dst already holds
// s nothing changes, not even what follows the NUL.
func putCString(dst []byte, s string) {
	s, _, _ = strings.Cut(s, "\x00")
	if len(s) > len(dst) {
		s = s[:len(dst)]
	}
	if cstring(dst) != s {
		clear(dst)
		copy(dst, s)
	}
}
