package ondisk

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Pos is a position in a btree (`bpos`, chapter 02 section 1): 20 bytes on
// disk, ordered by Inode, then Offset, then Snapshot.
type Pos struct {
	Inode    uint64
	Offset   uint64
	Snapshot uint32
}

// Limits of the key space. PosMax is the highest position with snapshot 0,
// which is what the format calls POS_MAX.
var (
	PosMin  = Pos{}
	PosMax  = Pos{Inode: math.MaxUint64, Offset: math.MaxUint64}
	SPosMax = Pos{Inode: math.MaxUint64, Offset: math.MaxUint64, Snapshot: math.MaxUint32}
)

// PosSize is the size of a Pos on disk in bytes.
const PosSize = 20

// Compare is the full comparison: the sort order of keys and nodes.
func (p Pos) Compare(q Pos) int {
	if p.Inode != q.Inode {
		return cmp.Compare(p.Inode, q.Inode)
	}
	if p.Offset != q.Offset {
		return cmp.Compare(p.Offset, q.Offset)
	}
	return cmp.Compare(p.Snapshot, q.Snapshot)
}

// Less is p.Compare(q) < 0.
func (p Pos) Less(q Pos) bool { return p.Compare(q) < 0 }

// SameSlot ignores the snapshot.
func (p Pos) SameSlot(q Pos) bool { return p.Inode == q.Inode && p.Offset == q.Offset }

// Successor is the next position in full order; SPosMax stays.
func (p Pos) Successor() Pos {
	p.Snapshot++
	if p.Snapshot != 0 {
		return p
	}
	p.Offset++
	if p.Offset != 0 {
		return p
	}
	p.Inode++
	if p.Inode != 0 {
		return p
	}
	return SPosMax
}

// Predecessor is the previous position in full order; PosMin stays.
func (p Pos) Predecessor() Pos {
	if p == PosMin {
		return p
	}
	if p.Snapshot--; p.Snapshot != math.MaxUint32 {
		return p
	}
	if p.Offset--; p.Offset != math.MaxUint64 {
		return p
	}
	p.Inode--
	return p
}

// NextSlot is the first position of the next (inode, offset), with snapshot 0.
// At the end of the key space it gives SPosMax.
func (p Pos) NextSlot() Pos {
	p.Snapshot = 0
	p.Offset++
	if p.Offset != 0 {
		return p
	}
	p.Inode++
	if p.Inode != 0 {
		return p
	}
	return SPosMax
}

// WithSnapshot is p with another snapshot.
func (p Pos) WithSnapshot(s uint32) Pos { p.Snapshot = s; return p }

// DecodePos reads 20 bytes: snapshot, offset, inode. b must hold them.
func DecodePos(b []byte) Pos {
	_ = b[19]
	return Pos{
		Snapshot: binary.LittleEndian.Uint32(b),
		Offset:   binary.LittleEndian.Uint64(b[4:]),
		Inode:    binary.LittleEndian.Uint64(b[12:]),
	}
}

// Append adds the 20 bytes of p to b.
func (p Pos) Append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, p.Snapshot)
	b = binary.LittleEndian.AppendUint64(b, p.Offset)
	return binary.LittleEndian.AppendUint64(b, p.Inode)
}

// String prints a position as the reference tools do: POS_MIN, POS_MAX,
// SPOS_MAX, or inode:offset:snapshot with U64_MAX and U32_MAX.
func (p Pos) String() string {
	switch p {
	case PosMin:
		return "POS_MIN"
	case PosMax:
		return "POS_MAX"
	case SPosMax:
		return "SPOS_MAX"
	}
	return u64str(p.Inode) + ":" + u64str(p.Offset) + ":" + u32str(p.Snapshot)
}

func u64str(v uint64) string {
	if v == math.MaxUint64 {
		return "U64_MAX"
	}
	return strconv.FormatUint(v, 10)
}

func u32str(v uint32) string {
	if v == math.MaxUint32 {
		return "U32_MAX"
	}
	return strconv.FormatUint(uint64(v), 10)
}

// ParsePos reads what String prints; the snapshot (and its colon) may be left
// out and is 0 then.
func ParsePos(s string) (Pos, error) {
	switch s {
	case "POS_MIN":
		return PosMin, nil
	case "POS_MAX":
		return PosMax, nil
	case "SPOS_MAX":
		return SPosMax, nil
	}
	f := strings.Split(s, ":")
	if len(f) < 2 || len(f) > 3 {
		return Pos{}, fmt.Errorf("bad position %q: want inode:offset[:snapshot]", s)
	}
	num := func(t string, bits int) (uint64, error) {
		if t == "U64_MAX" && bits == 64 {
			return math.MaxUint64, nil
		}
		if t == "U32_MAX" {
			return math.MaxUint32, nil
		}
		return strconv.ParseUint(t, 10, bits)
	}
	var p Pos
	var err error
	if p.Inode, err = num(f[0], 64); err == nil {
		p.Offset, err = num(f[1], 64)
	}
	if err == nil && len(f) == 3 {
		var v uint64
		v, err = num(f[2], 32)
		p.Snapshot = uint32(v)
	}
	if err != nil {
		return Pos{}, fmt.Errorf("bad position %q: %w", s, err)
	}
	return p, nil
}
