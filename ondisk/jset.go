package ondisk

import (
	"encoding/binary"

	"github.com/gobcachefs/gobcachefs/errs"
)

// JsetHeaderSize is the fixed part of a journal entry, JsetCryptStart the first
// encrypted byte of it (chapter 03 section 2).
const (
	JsetHeaderSize = 56
	JsetCryptStart = 44
)

// Jset is the header of a journal entry. LastSeq is only valid after decryption
// and, in a no-flush entry, not at all.
type Jset struct {
	Csum    Csum
	Magic   uint64
	Seq     uint64
	Version uint32
	Flags   uint32
	U64s    uint32 // size of the sub-entries
	LastSeq uint64
}

// CsumType is bits 0..4 of the flags.
func (j Jset) CsumType() CsumType { return CsumType(j.Flags & 15) }

// BigEndian is bit 4: refused.
func (j Jset) BigEndian() bool { return j.Flags&16 != 0 }

// NoFlush is bit 5: the entry is no commit point.
func (j Jset) NoFlush() bool { return j.Flags&32 != 0 }

// HasOverwrites is bit 6 (1.37 and later).
func (j Jset) HasOverwrites() bool { return j.Flags&64 != 0 }

// Bytes is the size of the entry without padding.
func (j Jset) Bytes() int64 { return JsetHeaderSize + 8*int64(j.U64s) }

// DecodeJset reads the 56 bytes at the start of b.
func DecodeJset(b []byte) (Jset, error) {
	if len(b) < JsetHeaderSize {
		return Jset{}, errs.Corruptf("jset_past_bucket_end", "%d bytes left", len(b))
	}
	return Jset{
		Csum:    DecodeCsum(b),
		Magic:   binary.LittleEndian.Uint64(b[16:]),
		Seq:     binary.LittleEndian.Uint64(b[24:]),
		Version: binary.LittleEndian.Uint32(b[32:]),
		Flags:   binary.LittleEndian.Uint32(b[36:]),
		U64s:    binary.LittleEndian.Uint32(b[40:]),
		LastSeq: binary.LittleEndian.Uint64(b[48:]),
	}, nil
}

// Append adds the 56 bytes of j to b; the two unused clocks are zero.
func (j Jset) Append(b []byte) []byte {
	b = j.Csum.Append(b)
	b = binary.LittleEndian.AppendUint64(b, j.Magic)
	b = binary.LittleEndian.AppendUint64(b, j.Seq)
	b = binary.LittleEndian.AppendUint32(b, j.Version)
	b = binary.LittleEndian.AppendUint32(b, j.Flags)
	b = binary.LittleEndian.AppendUint32(b, j.U64s)
	b = binary.LittleEndian.AppendUint32(b, 0)
	return binary.LittleEndian.AppendUint64(b, j.LastSeq)
}

// JsetEntryType is the type of a sub-entry (chapter 03 section 3).
type JsetEntryType uint8

// Sub-entry types.
const (
	EntryBtreeKeys       JsetEntryType = 0
	EntryBtreeRoot       JsetEntryType = 1
	EntryPrioPtrs        JsetEntryType = 2
	EntryBlacklist       JsetEntryType = 3
	EntryBlacklistV2     JsetEntryType = 4
	EntryUsage           JsetEntryType = 5
	EntryDataUsage       JsetEntryType = 6
	EntryClock           JsetEntryType = 7
	EntryDevUsage        JsetEntryType = 8
	EntryLog             JsetEntryType = 9
	EntryOverwrite       JsetEntryType = 10
	EntryWriteBufferKeys JsetEntryType = 11
	EntryDatetime        JsetEntryType = 12
	EntryLogBkey         JsetEntryType = 13
	EntryRewindLimit     JsetEntryType = 14
	EntryRewind          JsetEntryType = 15
	nrJsetEntryTypes                   = 16
)

var jsetEntryNames = [nrJsetEntryTypes]string{"btree_keys", "btree_root", "prio_ptrs", "blacklist", "blacklist_v2", "usage", "data_usage", "clock", "dev_usage", "log", "overwrite", "write_buffer_keys", "datetime", "log_bkey", "rewind_limit", "rewind"}

// String is the name of the type.
func (t JsetEntryType) String() string {
	if t < nrJsetEntryTypes {
		return jsetEntryNames[t]
	}
	return "unknown entry"
}

// HasKeys: the payload is a list of unpacked keys.
func (t JsetEntryType) HasKeys() bool {
	switch t {
	case EntryBtreeKeys, EntryBtreeRoot, EntryOverwrite, EntryWriteBufferKeys, EntryLogBkey:
		return true
	}
	return false
}

// JsetEntry is one sub-entry of a journal entry or of the clean section. Data
// aliases the buffer it was read from. Off is its byte offset in the payload.
type JsetEntry struct {
	Btree BtreeID // or the usage type
	Level uint8
	Type  JsetEntryType
	Off   int
	Data  []byte
}

// JsetEntries walks the sub-entries of a payload. An entry that runs past the
// end is reported with the reason journal_entry_past_jset_end and ends the walk.
func JsetEntries(b []byte, yield func(JsetEntry) bool) error {
	for off := 0; off < len(b); {
		if len(b)-off < 8 {
			return errs.Corruptf("journal_entry_past_jset_end", "%d bytes left", len(b)-off)
		}
		n := 8 + 8*int(binary.LittleEndian.Uint16(b[off:]))
		if n > len(b)-off {
			return errs.Corruptf("journal_entry_past_jset_end", "entry of %d bytes at byte %d of %d", n, off, len(b))
		}
		e := JsetEntry{Btree: BtreeID(b[off+2]), Level: b[off+3], Type: JsetEntryType(b[off+4]), Off: off, Data: b[off+8 : off+n : off+n]}
		if !yield(e) {
			return nil
		}
		off += n
	}
	return nil
}

// Append adds the sub-entry to b; len(Data) must be a multiple of 8.
func (e JsetEntry) Append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, uint16(len(e.Data)/8))
	b = append(b, byte(e.Btree), e.Level, byte(e.Type), 0, 0, 0)
	return append(b, e.Data...)
}

// Keys walks the keys of a sub-entry that holds keys. A key that does not parse
// but has a size is reported to bad and skipped; one without ends the walk.
func (e JsetEntry) Keys(yield func(KV) bool, bad func(error)) {
	for b := e.Data; len(b) > 0; {
		kv, n, err := DecodeKV(b)
		if err != nil {
			if bad != nil {
				bad(err)
			}
			if n == 0 {
				return
			}
		} else if !yield(kv) {
			return
		}
		b = b[n:]
	}
}

// Usage types: JsetEntry.Btree of an EntryUsage.
const (
	UsageReserved   = 0
	UsageInodes     = 1
	UsageKeyVersion = 2
)
