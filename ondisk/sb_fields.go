package ondisk

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/gobcachefs/gobcachefs/errs"
)

// Crypt is the field crypt (chapter 01 section 5.3).
type Crypt struct {
	Flags    uint64   // bits 0..4: how the key was derived, 0 scrypt
	KDFFlags uint64   // 16 bits each: log2 of N, r and p
	Key      [40]byte // magic and key, encrypted unless the magic is plain
}

// CryptKeyMagic is the magic at the start of a key that is not encrypted.
const CryptKeyMagic = 0x79656b2a2a686362 // "bch**key"

// Plain: the key is stored without a passphrase.
func (c *Crypt) Plain() bool { return binary.LittleEndian.Uint64(c.Key[:]) == CryptKeyMagic }

// KDF is the key derivation, 0 for scrypt.
func (c *Crypt) KDF() int { return int(c.Flags & 15) }

// ScryptParams are the base-2 logarithms of the scrypt parameters.
func (c *Crypt) ScryptParams() (n, r, p uint16) {
	return uint16(c.KDFFlags), uint16(c.KDFFlags >> 16), uint16(c.KDFFlags >> 32)
}

// Crypt decodes the field crypt; nil without it.
func (sb *Superblock) Crypt() (*Crypt, error) {
	d := sb.Field(FieldCrypt)
	switch {
	case d == nil:
		return nil, nil
	case len(d) < 56:
		return nil, errs.Corruptf("sb_crypt", "%d bytes", len(d))
	}
	return &Crypt{Flags: binary.LittleEndian.Uint64(d), KDFFlags: binary.LittleEndian.Uint64(d[8:]), Key: [40]byte(d[16:])}, nil
}

// SetCrypt stores the field; nil removes it.
func (sb *Superblock) SetCrypt(c *Crypt) {
	if c == nil {
		sb.SetField(FieldCrypt, nil)
		return
	}
	old := sb.Field(FieldCrypt)
	d := binary.LittleEndian.AppendUint64(nil, c.Flags)
	d = binary.LittleEndian.AppendUint64(d, c.KDFFlags)
	d = append(d, c.Key[:]...)
	if len(old) > len(d) {
		d = append(d, old[len(d):]...)
	}
	sb.SetField(FieldCrypt, d)
}

// ReplicasEntry says that something is stored on a set of devices, of which
// Required must be there to read it (chapter 01 section 5.4). A device 255 was
// removed.
type ReplicasEntry struct {
	DataType DataType
	Required int
	Devs     []uint8
}

// Replicas decodes the replicas field of either form; no entries without one.
func (sb *Superblock) Replicas() ([]ReplicasEntry, error) {
	if d := sb.Field(FieldReplicas); d != nil {
		return decodeReplicas(d, 3)
	}
	return decodeReplicas(sb.Field(FieldReplicasV0), 2)
}

// maxReplicas bounds the entries: a superblock of the usual megabyte has room
// for fewer.
const maxReplicas = 1 << 19

// decodeReplicas reads packed entries with a header of head bytes, up to the
// end or a zero data type.
func decodeReplicas(d []byte, head int) ([]ReplicasEntry, error) {
	var l []ReplicasEntry
	d = bytes.Clone(d) // the entries share it
	for off := 0; off < len(d) && d[off] != 0; {
		if len(d)-off < head || len(d)-off-head < int(d[off+1]) {
			return nil, errs.Corruptf("sb_replicas", "entry at byte %d of %d runs past the end", off, len(d))
		}
		e := ReplicasEntry{DataType: DataType(d[off]), Required: 1}
		nr := int(d[off+1])
		if head == 3 {
			e.Required = int(d[off+2])
		}
		e.Devs = d[off+head : off+head+nr : off+head+nr]
		if l = append(l, e); len(l) > maxReplicas {
			return nil, errs.Corruptf("sb_replicas", "more than %d entries", maxReplicas)
		}
		off += head + nr
	}
	return l, nil
}

// SetReplicas stores the entries in the old form when every entry has Required
// 1, else in the new one, and removes the other. No entries: no field.
func (sb *Superblock) SetReplicas(l []ReplicasEntry) {
	v1 := slices.ContainsFunc(l, func(e ReplicasEntry) bool { return e.Required != 1 })
	var d []byte
	for _, e := range l {
		d = append(d, byte(e.DataType), byte(len(e.Devs)))
		if v1 {
			d = append(d, byte(e.Required))
		}
		d = append(d, e.Devs...)
	}
	if d != nil {
		d = append(d, make([]byte, roundUp8(len(d))-len(d))...)
	}
	if v1 {
		sb.SetField(FieldReplicasV0, nil)
		sb.SetField(FieldReplicas, d)
	} else {
		sb.SetField(FieldReplicas, nil)
		sb.SetField(FieldReplicasV0, d)
	}
}

// Clean is the section that a clean shutdown leaves (chapter 01 section 5.7).
// Entries are journal sub-entries, to be walked with JsetEntries.
type Clean struct {
	Flags      uint32
	JournalSeq uint64 // of the last journal entry
	Entries    []byte
}

// CleanSection decodes the field clean; nil without it. Entries belongs to sb.
// It only means something when Clean is true.
func (sb *Superblock) CleanSection() (*Clean, error) {
	d := sb.Field(FieldClean)
	switch {
	case d == nil:
		return nil, nil
	case len(d) < 16:
		return nil, errs.Corruptf("sb_clean", "%d bytes", len(d))
	}
	return &Clean{Flags: binary.LittleEndian.Uint32(d), JournalSeq: binary.LittleEndian.Uint64(d[8:]), Entries: d[16:]}, nil
}

// SetCleanSection stores the section; the unused clocks are zero. Nil removes it.
func (sb *Superblock) SetCleanSection(c *Clean) {
	if c == nil {
		sb.SetField(FieldClean, nil)
		return
	}
	d := binary.LittleEndian.AppendUint32(nil, c.Flags)
	d = binary.LittleEndian.AppendUint32(d, 0)
	d = binary.LittleEndian.AppendUint64(d, c.JournalSeq)
	sb.SetField(FieldClean, append(d, c.Entries...))
}

// BucketRange is a run of journal buckets.
type BucketRange struct{ Start, Nr uint64 }

// MaxJournalBuckets bounds the ring of one device: a million buckets, a hundred
// times what any release allocates.
const MaxJournalBuckets = 1 << 20

// JournalRanges lists the journal of this device in ring order; none without a
// journal.
func (sb *Superblock) JournalRanges() ([]BucketRange, error) {
	if d := sb.Field(FieldJournalV2); d != nil {
		if len(d)%16 != 0 {
			return nil, errs.Corruptf("sb_journal_v2", "%d bytes", len(d))
		}
		l := make([]BucketRange, 0, len(d)/16)
		for ; len(d) > 0; d = d[16:] {
			l = append(l, BucketRange{binary.LittleEndian.Uint64(d), binary.LittleEndian.Uint64(d[8:])})
		}
		return l, nil
	}
	d := sb.Field(FieldJournal)
	l := make([]BucketRange, 0, len(d)/8)
	for ; len(d) >= 8; d = d[8:] {
		l = append(l, BucketRange{binary.LittleEndian.Uint64(d), 1})
	}
	return l, nil
}

// JournalBuckets lists the journal buckets of this device in ring order, all of
// them valid buckets of the member, none twice.
func (sb *Superblock) JournalBuckets() ([]uint64, error) {
	l, err := sb.JournalRanges()
	if err != nil || len(l) == 0 {
		return nil, err
	}
	m, err := sb.Member(int(sb.DevIdx))
	if err != nil {
		return nil, err
	}
	bad := func(r BucketRange, want string) error {
		return errs.Corrupt(errs.Nowhere, "sb_journal", want, fmt.Sprintf("buckets %d, %d of them", r.Start, r.Nr))
	}
	total := uint64(0)
	for _, r := range l {
		first := max(1, uint64(m.FirstBucket))
		if r.Nr == 0 || r.Start < first || r.Start >= m.NBuckets || r.Nr > m.NBuckets-r.Start {
			return nil, bad(r, fmt.Sprintf("buckets %d to %d", first, m.NBuckets))
		}
		if total += r.Nr; total > MaxJournalBuckets {
			return nil, bad(r, fmt.Sprintf("at most %d buckets in all", MaxJournalBuckets))
		}
	}
	sorted := slices.Clone(l)
	slices.SortFunc(sorted, func(a, b BucketRange) int { return cmp.Compare(a.Start, b.Start) })
	for i := 1; i < len(sorted); i++ {
		if sorted[i-1].Start+sorted[i-1].Nr > sorted[i].Start {
			return nil, bad(sorted[i], "no bucket twice")
		}
	}
	buckets := make([]uint64, 0, total)
	for _, r := range l {
		for b := range r.Nr {
			buckets = append(buckets, r.Start+b)
		}
	}
	return buckets, nil
}

// SetJournalBuckets stores the ring, adjacent ascending buckets merged into
// ranges, and removes the old form. No buckets: no field.
func (sb *Superblock) SetJournalBuckets(buckets []uint64) {
	var l []BucketRange
	for _, b := range buckets {
		if n := len(l); n > 0 && l[n-1].Start+l[n-1].Nr == b {
			l[n-1].Nr++
		} else {
			l = append(l, BucketRange{b, 1})
		}
	}
	var d []byte
	for _, r := range l {
		d = binary.LittleEndian.AppendUint64(d, r.Start)
		d = binary.LittleEndian.AppendUint64(d, r.Nr)
	}
	sb.SetField(FieldJournal, nil)
	sb.SetField(FieldJournalV2, d)
}

// SeqRange is a range of journal sequence numbers: Start is in it, End is not.
type SeqRange struct{ Start, End uint64 }

// Contains: seq lies in the range.
func (r SeqRange) Contains(seq uint64) bool { return r.Start <= seq && seq < r.End }

// Blacklist decodes the field journal_seq_blacklist: sorted, not overlapping
// (chapter 01 section 5.9).
func (sb *Superblock) Blacklist() ([]SeqRange, error) {
	d := sb.Field(FieldJournalBlacklist)
	if len(d)%16 != 0 {
		return nil, errs.Corruptf("sb_journal_seq_blacklist", "%d bytes", len(d))
	}
	l := make([]SeqRange, 0, len(d)/16)
	for ; len(d) > 0; d = d[16:] {
		r := SeqRange{binary.LittleEndian.Uint64(d), binary.LittleEndian.Uint64(d[8:])}
		if n := len(l); r.Start >= r.End || n > 0 && l[n-1].End > r.Start {
			return nil, errs.Corruptf("sb_journal_seq_blacklist", "range %d to %d at entry %d", r.Start, r.End, n)
		}
		l = append(l, r)
	}
	return l, nil
}

// SetBlacklist stores the ranges; none removes the field. It sets the feature
// bit that goes with the first range.
func (sb *Superblock) SetBlacklist(l []SeqRange) {
	var d []byte
	for _, r := range l {
		d = binary.LittleEndian.AppendUint64(d, r.Start)
		d = binary.LittleEndian.AppendUint64(d, r.End)
	}
	if len(l) > 0 {
		sb.SetFeature(FeatureJournalSeqBlacklistV3, true)
	}
	sb.SetField(FieldJournalBlacklist, d)
}
