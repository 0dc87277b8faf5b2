package ondisk

import (
	"encoding/binary"
	"fmt"

	"github.com/gobcachefs/gobcachefs/errs"
)

// Bversion is a key's 96-bit version (`bversion`, chapter 02 section 2.4).
type Bversion struct {
	Hi uint32
	Lo uint64
}

// Compare orders versions by Hi, then Lo.
func (v Bversion) Compare(w Bversion) int {
	switch {
	case v.Hi != w.Hi && v.Hi < w.Hi, v.Hi == w.Hi && v.Lo < w.Lo:
		return -1
	case v == w:
		return 0
	}
	return 1
}

// Key is the unpacked key part (`bkey`, chapter 02 section 2.1) without the
// fields that only describe its encoding. Size is in sectors (buckets in the
// freespace btree) and zero for keys that are not extents; the key then covers
// [Pos.Offset-Size, Pos.Offset).
type Key struct {
	Pos     Pos
	Size    uint32
	Type    KeyType
	Version Bversion
}

// Start is the first sector an extent key covers, as a position.
func (k Key) Start() Pos {
	return Pos{Inode: k.Pos.Inode, Offset: k.Pos.Offset - uint64(k.Size), Snapshot: k.Pos.Snapshot}
}

// KV is a key with its value. Val is a whole number of u64s. Whether Val may be
// kept is said by whoever hands the KV out.
type KV struct {
	Key
	Val []byte
}

// U64s is the size of the unpacked key and value, as text tools print it.
func (kv KV) U64s() int { return KeyU64s + len(kv.Val)/8 }

// Sizes of keys.
const (
	KeyU64s  = 5           // an unpacked key header, in u64s
	KeyBytes = 8 * KeyU64s // the same in bytes
	// MaxValBytes is the largest value: 250 u64s.
	MaxValBytes = 2000
)

// Formats of a stored key (`bkey.format`).
const (
	keyFormatLocal   = 0 // packed with the node's format
	keyFormatCurrent = 1 // unpacked
)

// DecodeKV reads one unpacked key with its value at the start of b and returns
// it and the bytes it took. The value aliases b. Only the encoding is checked,
// not what the key means.
func DecodeKV(b []byte) (KV, int, error) {
	if len(b) < 8 {
		return KV{}, 0, errs.Corruptf("journal_entry_bkey_past_end", "%d bytes left", len(b))
	}
	n := int(b[0]) * 8
	switch {
	case b[0] == 0:
		return KV{}, 0, errs.Corruptf("journal_entry_bkey_u64s_0", "u64s 0")
	case n > len(b):
		return KV{}, 0, errs.Corruptf("journal_entry_bkey_past_end", "u64s %d, %d bytes left", b[0], len(b))
	case b[1]&0x7f != keyFormatCurrent:
		return KV{}, n, errs.Corruptf("journal_entry_bkey_bad_format", "format %d", b[1]&0x7f)
	case n < KeyBytes:
		return KV{}, n, errs.Corruptf("bkey_u64s_too_small", "u64s %d", b[0])
	}
	return KV{Key: decodeUnpacked(b), Val: b[KeyBytes:n:n]}, n, nil
}

func decodeUnpacked(b []byte) Key {
	_ = b[KeyBytes-1]
	return Key{
		Type:    KeyType(b[2]),
		Version: Bversion{Lo: binary.LittleEndian.Uint64(b[4:]), Hi: binary.LittleEndian.Uint32(b[12:])},
		Size:    binary.LittleEndian.Uint32(b[16:]),
		Pos:     DecodePos(b[20:]),
	}
}

// Append adds the unpacked form of kv to b. It panics if the value is not a
// whole number of u64s or too long: that is a bug of the caller.
func (kv KV) Append(b []byte) []byte {
	if len(kv.Val)%8 != 0 || len(kv.Val) > MaxValBytes {
		panic(fmt.Sprintf("ondisk: value of %d bytes", len(kv.Val))) // invariant: a bug of the caller
	}
	b = append(b, byte(kv.U64s()), keyFormatCurrent, byte(kv.Type), 0)
	b = binary.LittleEndian.AppendUint64(b, kv.Version.Lo)
	b = binary.LittleEndian.AppendUint32(b, kv.Version.Hi)
	b = binary.LittleEndian.AppendUint32(b, kv.Size)
	b = kv.Pos.Append(b)
	return append(b, kv.Val...)
}
