package ondisk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/gobcachefs/gobcachefs/errs"
)

// Sizes of the payload of the field ext, without the 8-byte header.
const (
	ExtSize1_13 = 88
	ExtSize1_39 = 112
	extSizeMin  = 80
)

// Ext is the field ext (chapter 01 section 5.10).
type Ext struct {
	RecoveryPassesRequired [2]uint64 // by stable id
	ErrorsSilent           [8]uint64 // by error id
	BtreesLostData         uint64    // by btree id
	Flags0                 uint64    // options, 1.37 and later
	BtreesLostDataEver     uint64    // 1.39
	BtreesClean            uint64    // 1.39
	// Size is the payload that was there, in bytes: what lies beyond is zero
	// above. 0 without the field.
	Size int
}

// words lists the words of the field in order.
func (e *Ext) words() []*uint64 {
	w := make([]*uint64, 0, 14)
	for i := range e.RecoveryPassesRequired {
		w = append(w, &e.RecoveryPassesRequired[i])
	}
	for i := range e.ErrorsSilent {
		w = append(w, &e.ErrorsSilent[i])
	}
	return append(w, &e.BtreesLostData, &e.Flags0, &e.BtreesLostDataEver, &e.BtreesClean)
}

// HasFlags0: the field reaches to the word that holds options.
func (e *Ext) HasFlags0() bool { return e.Size >= 96 }

// Passes lists the passes that must run at the next mount.
func (e *Ext) Passes() []RecoveryPass { return bitList[RecoveryPass](e.RecoveryPassesRequired[:]) }

// Silent lists the errors that are to be repaired without reporting.
func (e *Ext) Silent() []ErrorID { return bitList[ErrorID](e.ErrorsSilent[:]) }

// Ext decodes the field ext; zero without it.
func (sb *Superblock) Ext() (Ext, error) {
	var e Ext
	d := sb.Field(FieldExt)
	if d == nil {
		return e, nil
	}
	if len(d) < extSizeMin {
		return e, errs.Corruptf("sb_ext", "%d bytes", len(d))
	}
	e.Size = len(d)
	for i, w := range e.words() {
		if 8*i+8 <= len(d) {
			*w = binary.LittleEndian.Uint64(d[8*i:])
		}
	}
	return e, nil
}

// SetExt stores the field in at least size bytes of payload (ExtSize1_13 or
// ExtSize1_39); a larger field keeps its size and unknown tail. Size of e is
// ignored.
func (sb *Superblock) SetExt(e Ext, size int) {
	d := bytes.Clone(sb.Field(FieldExt))
	if n := roundUp8(max(size, extSizeMin)); len(d) < n {
		d = append(d, make([]byte, n-len(d))...)
	}
	for i, w := range e.words() {
		if 8*i+8 <= len(d) {
			binary.LittleEndian.PutUint64(d[8*i:], *w)
		}
	}
	sb.SetField(FieldExt, d)
}

// SBQuotaLimit are the limits of one counter of a quota type.
type SBQuotaLimit struct{ TimeLimit, WarnLimit uint32 }

// SBQuota are the settings of one quota type (chapter 01 section 5.5).
type SBQuota struct {
	Flags  uint64
	Limits [2]SBQuotaLimit // space, inodes
}

const sbQuotaBytes = 72

// Quota decodes the field quota: user, group, project. Nil without it.
func (sb *Superblock) Quota() (*[3]SBQuota, error) {
	d := sb.Field(FieldQuota)
	switch {
	case d == nil:
		return nil, nil
	case len(d) < sbQuotaBytes:
		return nil, errs.Corruptf("sb_quota", "%d bytes", len(d))
	}
	var q [3]SBQuota
	for i := range q {
		b := d[24*i:]
		q[i].Flags = binary.LittleEndian.Uint64(b)
		for j := range q[i].Limits {
			q[i].Limits[j] = SBQuotaLimit{binary.LittleEndian.Uint32(b[8+8*j:]), binary.LittleEndian.Uint32(b[12+8*j:])}
		}
	}
	return &q, nil
}

// SetQuota stores the field; nil removes it.
func (sb *Superblock) SetQuota(q *[3]SBQuota) {
	if q == nil {
		sb.SetField(FieldQuota, nil)
		return
	}
	var d []byte
	for _, t := range q {
		d = binary.LittleEndian.AppendUint64(d, t.Flags)
		for _, l := range t.Limits {
			d = binary.LittleEndian.AppendUint32(d, l.TimeLimit)
			d = binary.LittleEndian.AppendUint32(d, l.WarnLimit)
		}
	}
	if old := sb.Field(FieldQuota); len(old) > len(d) {
		d = append(d, old[len(d):]...)
	}
	sb.SetField(FieldQuota, d)
}

// DowngradeEntry says what an implementation older than Version must do
// (chapter 01 section 5.11).
type DowngradeEntry struct {
	Version Version
	Passes  [2]uint64 // by stable id
	Errors  []ErrorID
}

// PassList lists the passes of the entry.
func (e DowngradeEntry) PassList() []RecoveryPass { return bitList[RecoveryPass](e.Passes[:]) }

const downgradeHead = 20

// Downgrade decodes the field downgrade; none without it. A tail too short for
// an entry is padding.
func (sb *Superblock) Downgrade() ([]DowngradeEntry, error) {
	var l []DowngradeEntry
	le := binary.LittleEndian
	for d := sb.Field(FieldDowngrade); len(d) >= downgradeHead; {
		n := downgradeHead + 2*int(le.Uint16(d[18:]))
		if n > len(d) {
			break
		}
		e := DowngradeEntry{Version: Version(le.Uint16(d)), Passes: [2]uint64{le.Uint64(d[2:]), le.Uint64(d[10:])}}
		if e.Version == 0 && e.Passes == [2]uint64{} && n == downgradeHead {
			// Zeros are the padding of a field that was larger once.
			break
		}
		for i := downgradeHead; i < n; i += 2 {
			e.Errors = append(e.Errors, ErrorID(le.Uint16(d[i:])))
		}
		l = append(l, e)
		d = d[n:]
	}
	return l, nil
}

// SetDowngrade stores the entries; none removes the field.
func (sb *Superblock) SetDowngrade(l []DowngradeEntry) {
	var d []byte
	le := binary.LittleEndian
	for _, e := range l {
		d = le.AppendUint16(d, uint16(e.Version))
		d = le.AppendUint64(d, e.Passes[0])
		d = le.AppendUint64(d, e.Passes[1])
		d = le.AppendUint16(d, uint16(len(e.Errors)))
		for _, id := range e.Errors {
			d = le.AppendUint16(d, uint16(id))
		}
	}
	if d != nil {
		d = append(d, make([]byte, roundUp8(len(d))-len(d))...)
	}
	sb.SetField(FieldDowngrade, d)
}

// ErrorCount says how often an inconsistency was found, and when (seconds since
// 1970). First is 0 when it is not known: the field errors has no place for it.
type ErrorCount struct {
	ID    ErrorID
	Count uint64
	First uint64
	Last  uint64
}

// Errors decodes the fields errors and errors_v2, merged, in order of id
// (chapter 01 section 5.12).
func (sb *Superblock) Errors() ([]ErrorCount, error) {
	l, err := sb.ErrorsV1()
	if err != nil {
		return nil, err
	}
	l2, err := sb.ErrorsV2()
	if err != nil {
		return nil, err
	}
	if len(l) == 0 || len(l2) == 0 {
		return append(l, l2...), nil
	}
	for _, e := range l2 {
		i, ok := slices.BinarySearchFunc(l, e.ID, func(a ErrorCount, id ErrorID) int { return int(a.ID) - int(id) })
		if !ok {
			l = slices.Insert(l, i, e)
			continue
		}
		o := &l[i]
		if o.Count += e.Count; o.Count < e.Count {
			o.Count = math.MaxUint64
		}
		o.Last, o.First = max(o.Last, e.Last), e.First
	}
	return l, nil
}

// ErrorsV1 decodes the field errors alone.
func (sb *Superblock) ErrorsV1() ([]ErrorCount, error) {
	return decodeErrors(sb.Field(FieldErrors), "sb_errors", func(a, b uint64) ErrorCount {
		return ErrorCount{ID: ErrorID(a), Count: a >> 16, Last: b}
	})
}

// ErrorsV2 decodes the field errors_v2 alone.
func (sb *Superblock) ErrorsV2() ([]ErrorCount, error) {
	return decodeErrors(sb.Field(FieldErrorsV2), "sb_errors_v2", func(a, b uint64) ErrorCount {
		return ErrorCount{ID: ErrorID(a), Count: a >> 16 & math.MaxUint32, Last: a>>48 | b&(1<<24-1)<<16, First: b >> 24}
	})
}

func decodeErrors(d []byte, reason string, entry func(a, b uint64) ErrorCount) ([]ErrorCount, error) {
	if len(d)%16 != 0 {
		return nil, errs.Corruptf(reason, "%d bytes", len(d))
	}
	l := make([]ErrorCount, 0, min(len(d)/16, 1<<16)) // ids ascend
	for ; len(d) > 0; d = d[16:] {
		e := entry(binary.LittleEndian.Uint64(d), binary.LittleEndian.Uint64(d[8:]))
		if n := len(l); e.Count == 0 || e.First > e.Last || n > 0 && l[n-1].ID >= e.ID {
			return nil, errs.Corruptf(reason, "error %v, count %d, times %d to %d, at entry %d", e.ID, e.Count, e.First, e.Last, n)
		}
		l = append(l, e)
	}
	return l, nil
}

// SetErrors stores the counts, sorted by id, in the field errors (v2 false) or
// errors_v2, and removes the other. The field stays when there are no counts.
func (sb *Superblock) SetErrors(l []ErrorCount, v2 bool) {
	d := []byte{}
	for _, e := range l {
		a, b := uint64(e.ID)|min(e.Count, 1<<48-1)<<16, e.Last
		if v2 {
			last := min(e.Last, 1<<40-1)
			first := min(e.First, last)
			a = uint64(e.ID) | min(e.Count, math.MaxUint32)<<16 | last<<48
			b = last>>16 | first<<24
		}
		d = binary.LittleEndian.AppendUint64(d, a)
		d = binary.LittleEndian.AppendUint64(d, b)
	}
	if v2 {
		sb.SetField(FieldErrors, nil)
		sb.SetField(FieldErrorsV2, d)
	} else {
		sb.SetField(FieldErrorsV2, nil)
		sb.SetField(FieldErrors, d)
	}
}

// Counters decodes the field counters: values by stable number (appendix B).
func (sb *Superblock) Counters() []uint64 {
	d := sb.Field(FieldCounters)
	l := make([]uint64, len(d)/8)
	for i := range l {
		l[i] = binary.LittleEndian.Uint64(d[8*i:])
	}
	return l
}

// SetCounters stores the field, which never shrinks.
func (sb *Superblock) SetCounters(l []uint64) {
	d := bytes.Clone(sb.Field(FieldCounters))
	if n := 8 * len(l); len(d) < n {
		d = append(d, make([]byte, n-len(d))...)
	}
	for i, v := range l {
		binary.LittleEndian.PutUint64(d[8*i:], v)
	}
	sb.SetField(FieldCounters, d)
}

// ExtentTypeU64s decodes the field extent_type_u64s: the size in u64s of every
// type of extent entry, so that unknown ones can be skipped.
func (sb *Superblock) ExtentTypeU64s() []uint8 {
	d := sb.Field(FieldExtentTypeU64s)
	if i := bytes.IndexByte(d, 0); i >= 0 {
		d = d[:i]
	}
	return bytes.Clone(d)
}

// knownExtentTypeU64s are the sizes of the extent entries that 1.39 has.
var knownExtentTypeU64s = []uint8{1, 1, 2, 3, 1, 1, 1, 1, 1}

// SetExtentTypeU64s stores the sizes of the entries of 1.39, unless a newer
// implementation stored more.
func (sb *Superblock) SetExtentTypeU64s() {
	if len(sb.ExtentTypeU64s()) < len(knownExtentTypeU64s) {
		sb.SetField(FieldExtentTypeU64s, append(bytes.Clone(knownExtentTypeU64s), make([]byte, roundUp8(len(knownExtentTypeU64s))-len(knownExtentTypeU64s))...))
	}
}

// PassRun says when a recovery pass ran last (chapter 01 section 5.13).
type PassRun struct {
	LastRun     uint64 // seconds since 1970
	LastRuntime uint32 // seconds
	Flags       uint32 // bit 0: do not rate-limit
}

// RecoveryPasses decodes the field recovery_passes, by stable id.
func (sb *Superblock) RecoveryPasses() []PassRun {
	d := sb.Field(FieldRecoveryPasses)
	l := make([]PassRun, len(d)/16)
	for i := range l {
		b := d[16*i:]
		l[i] = PassRun{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:])}
	}
	return l
}

// SetRecoveryPasses stores the field, which never shrinks.
func (sb *Superblock) SetRecoveryPasses(l []PassRun) {
	d := bytes.Clone(sb.Field(FieldRecoveryPasses))
	if n := 16 * len(l); len(d) < n {
		d = append(d, make([]byte, n-len(d))...)
	}
	for i, r := range l {
		binary.LittleEndian.PutUint64(d[16*i:], r.LastRun)
		binary.LittleEndian.PutUint32(d[16*i+8:], r.LastRuntime)
		binary.LittleEndian.PutUint32(d[16*i+12:], r.Flags)
	}
	sb.SetField(FieldRecoveryPasses, d)
}

func (e ErrorCount) String() string { return fmt.Sprintf("%v %d", e.ID, e.Count) }
