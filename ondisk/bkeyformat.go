package ondisk

import (
	"encoding/binary"
	"math/bits"

	"github.com/gobcachefs/gobcachefs/errs"
)

// BkeyFormat says how the keys of one node are packed (`bkey_format`, chapter 02
// section 2.3). Fields in order: inode, offset, snapshot, size, version high,
// version low.
type BkeyFormat struct {
	KeyU64s  uint8
	NrFields uint8
	Bits     [6]uint8
	Offset   [6]uint64
}

// BkeyFormatSize is the size of a format on disk in bytes.
const BkeyFormatSize = 56

var fieldWidth = [6]uint8{64, 64, 32, 32, 32, 64}

// FormatCurrent describes unpacked keys in the terms of a format.
var FormatCurrent = BkeyFormat{KeyU64s: 5, NrFields: 6, Bits: fieldWidth}

// DecodeBkeyFormat reads 56 bytes; b must hold them. The result may be invalid.
func DecodeBkeyFormat(b []byte) BkeyFormat {
	_ = b[BkeyFormatSize-1]
	f := BkeyFormat{KeyU64s: b[0], NrFields: b[1]}
	copy(f.Bits[:], b[2:8])
	for i := range f.Offset {
		f.Offset[i] = binary.LittleEndian.Uint64(b[8+8*i:])
	}
	return f
}

// Append adds the 56 bytes of f to b.
func (f BkeyFormat) Append(b []byte) []byte {
	b = append(b, f.KeyU64s, f.NrFields)
	b = append(b, f.Bits[:]...)
	for _, o := range f.Offset {
		b = binary.LittleEndian.AppendUint64(b, o)
	}
	return b
}

// Validate checks the rules that make every packed key decodable.
func (f BkeyFormat) Validate() error {
	bad := func(format string, a ...any) error { return errs.Corruptf("btree_node_bad_format", format, a...) }
	if f.NrFields != 6 {
		return bad("%d fields", f.NrFields)
	}
	sum := 24
	for i, n := range f.Bits {
		w := fieldWidth[i]
		if n > w || n == w && f.Offset[i] != 0 {
			return bad("field %d: %d bits, offset %d", i, n, f.Offset[i])
		}
		if n < w {
			top := ^uint64(0) >> (64 - w)
			last := f.Offset[i] + (uint64(1)<<n - 1)
			if last < f.Offset[i] || last > top {
				return bad("field %d overflows: %d bits, offset %d", i, n, f.Offset[i])
			}
		}
		sum += int(n)
	}
	if int(f.KeyU64s) != (sum+63)/64 {
		return bad("key_u64s %d for %d bits", f.KeyU64s, sum)
	}
	return nil
}

// unpack reads the packed key at the start of b, which must hold 8*KeyU64s
// bytes. f must be valid.
func (f *BkeyFormat) unpack(b []byte) Key {
	var v [6]uint64
	w := int(f.KeyU64s) - 1
	word := binary.LittleEndian.Uint64(b[8*w:])
	left := 64 // unread bits of word
	for i, n8 := range f.Bits {
		n := int(n8)
		var r uint64
		if n > left {
			// The upper part is what is left of word, the rest comes from the next one down.
			if left > 0 {
				r = word & (^uint64(0) >> (64 - left))
			}
			n -= left
			w--
			if w < 0 {
				break
			}
			word = binary.LittleEndian.Uint64(b[8*w:])
			left = 64
			if n == 64 {
				r = 0
			} else {
				r <<= uint(n)
			}
		}
		if n > 0 {
			r |= (word >> uint(left-n)) & (^uint64(0) >> uint(64-n))
			left -= n
		}
		v[i] = r + f.Offset[i]
	}
	return Key{
		Type:    KeyType(b[2]),
		Pos:     Pos{Inode: v[0], Offset: v[1], Snapshot: uint32(v[2])},
		Size:    uint32(v[3]),
		Version: Bversion{Hi: uint32(v[4]), Lo: v[5]},
	}
}

func (k Key) fields() [6]uint64 {
	return [6]uint64{k.Pos.Inode, k.Pos.Offset, uint64(k.Pos.Snapshot), uint64(k.Size), uint64(k.Version.Hi), k.Version.Lo}
}

// Packs reports whether k can be stored in format f. A deleted key stores only
// its position.
func (f *BkeyFormat) Packs(k Key) bool {
	for i, v := range k.fields() {
		if k.Type == KeyDeleted && i > 2 {
			break
		}
		if v < f.Offset[i] || f.Bits[i] < 64 && (v-f.Offset[i])>>f.Bits[i] != 0 {
			return false
		}
	}
	return true
}

// AppendKV adds kv to b, packed in format f if it fits, else unpacked.
func (f *BkeyFormat) AppendKV(b []byte, kv KV) []byte {
	if !f.Packs(kv.Key) {
		return kv.Append(b)
	}
	n := int(f.KeyU64s)
	at := len(b)
	b = append(b, make([]byte, 8*n)...)
	k := b[at:]
	pos := 64 * n
	for i, v := range kv.fields() {
		nb := int(f.Bits[i])
		if kv.Type == KeyDeleted && i > 2 {
			break
		}
		v -= f.Offset[i]
		pos -= nb
		// Put nb bits of v at bit pos of the little-endian integer k.
		for done := 0; done < nb; {
			w, sh := (pos+done)/64, (pos+done)%64
			take := min(nb-done, 64-sh)
			part := v >> uint(done)
			if take < 64 {
				part &= 1<<uint(take) - 1
			}
			old := binary.LittleEndian.Uint64(k[8*w:])
			binary.LittleEndian.PutUint64(k[8*w:], old|part<<uint(sh))
			done += take
		}
	}
	k[0], k[1], k[2] = byte(n+len(kv.Val)/8), keyFormatLocal, byte(kv.Type)
	return append(b, kv.Val...)
}

// FormatBuilder computes the format of a new node from its range and its keys,
// bit for bit as the reference does.
type FormatBuilder struct {
	seen     [6]bool
	min, max [6]uint64
}

// NewFormatBuilder starts with the node's range.
func NewFormatBuilder(minKey, maxKey Pos) *FormatBuilder {
	fb := &FormatBuilder{}
	for _, p := range []Pos{minKey, maxKey} {
		fb.add(0, p.Inode)
		fb.add(1, p.Offset)
		fb.add(2, uint64(p.Snapshot))
	}
	fb.add(3, 0)
	return fb
}

func (fb *FormatBuilder) add(i int, v uint64) {
	if !fb.seen[i] {
		fb.seen[i], fb.min[i], fb.max[i] = true, v, v
		return
	}
	fb.min[i], fb.max[i] = min(fb.min[i], v), max(fb.max[i], v)
}

// Add takes one live key into account.
func (fb *FormatBuilder) Add(k Key) {
	for i, v := range k.fields() {
		fb.add(i, v)
	}
}

// Format is the result. growSize gives extents room to grow, as writers up to
// format 1.13 do.
func (fb *FormatBuilder) Format(growSize bool) BkeyFormat {
	f := BkeyFormat{NrFields: 6}
	sum := 24
	set := func(i, n int) {
		w := int(fieldWidth[i])
		if n >= w {
			f.Bits[i], f.Offset[i] = uint8(w), 0
			return
		}
		top := ^uint64(0) >> (64 - w)
		f.Bits[i] = uint8(n)
		f.Offset[i] = min(fb.min[i], top-(uint64(1)<<n-1))
	}
	for i := range f.Bits {
		n := bits.Len64(fb.max[i] - fb.min[i])
		if i == 3 && growSize && n > 0 {
			n += min(4, 32-n)
		}
		set(i, n)
		sum += int(f.Bits[i])
	}
	f.KeyU64s = uint8((sum + 63) / 64)
	spare := int(f.KeyU64s)*64 - sum
	for i := range f.Bits {
		n := int(f.Bits[i])
		r := (n+7)/8*8 - n
		if r <= spare && r > 0 {
			set(i, n+r)
			spare -= r
		}
	}
	return f
}
