package ondisk

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/gobcachefs/gobcachefs/errs"
)

// Sizes of members (chapter 01 section 5.2).
const (
	memberV1Size     = 56
	membersV2Head    = 8 // member_bytes and padding, behind the field header
	MemberSize1_13   = 144
	MemberSize1_39   = 328
	MemberMaxBuckets = 1<<31 - 1 - 64
	// MemberMinBuckets is what 1.39 asks for, MemberMinBuckets1_13 what up to
	// 1.13 was enough.
	MemberMinBuckets     = 512
	MemberMinBuckets1_13 = 64
)

// Member is one slot of the member array (`bch_member`, chapter 01 section 5.2).
type Member struct {
	UUID                 UUID   // zero: free slot; DeletedMemberUUID: removed
	NBuckets             uint64 // of BucketSize
	FirstBucket          uint16
	BucketSize           uint16 // sectors
	BtreeBitmapShift     uint8  // log2 of the sectors that a bitmap bit covers
	LastMount            uint64 // seconds since 1970
	Flags                uint64
	Iops                 [4]uint32 // sequential read, write, random read, write
	Errors               [3]uint64 // read, write, checksum, since creation
	ErrorsAtReset        [3]uint64
	ErrorsResetTime      uint64 // seconds since 1970
	Seq                  uint64 // of the last superblock write to this device
	BtreeAllocatedBitmap uint64 // where btree nodes lie, see BtreeBitmapShift
	// LastJournalBucket is the index in the journal ring at clean shutdown (up
	// to 1.13), LastJournalBucketOffset the sectors used in that bucket.
	LastJournalBucket       uint32
	LastJournalBucketOffset uint32
	DeviceName              string
	DeviceModel             string
	FlushErrors             uint64
	DeviceSerial            string
	FailureDomain           string
	// Raw is the member as read, whole stride. Append starts from it, so that
	// what a newer version put there stays.
	Raw []byte
}

// memberBits is a bit range [lo, hi) of the flags of a member.
type memberBits struct{ lo, hi uint8 }

var (
	memberState         = memberBits{0, 4}
	memberDiscard       = memberBits{14, 15}
	memberDataAllowed   = memberBits{15, 20}
	memberGroup         = memberBits{20, 28}
	memberDurability    = memberBits{28, 30}
	memberFreespaceInit = memberBits{30, 31}
	memberResize        = memberBits{31, 32}
	memberRotational    = memberBits{32, 33}
	memberRotationalSet = memberBits{33, 34}
	memberInitialized   = memberBits{34, 38}
)

func (f memberBits) mask() uint64         { return 1<<(f.hi-f.lo) - 1 }
func (f memberBits) get(m *Member) uint64 { return m.Flags >> f.lo & f.mask() }
func (f memberBits) isSet(m *Member) bool { return f.get(m) != 0 }
func (f memberBits) set(m *Member, v uint64) {
	m.Flags = m.Flags&^(f.mask()<<f.lo) | (v&f.mask())<<f.lo
}
func (f memberBits) setBool(m *Member, v bool) {
	if f.set(m, 0); v {
		f.set(m, 1)
	}
}

// Exists: the slot belongs to a device, neither free nor removed.
func (m *Member) Exists() bool { return !m.UUID.IsZero() && m.UUID != DeletedMemberUUID }

// State is what the member may be used for.
func (m *Member) State() MemberState { return MemberState(memberState.get(m)) }

// SetState sets the state.
func (m *Member) SetState(s MemberState) { memberState.set(m, uint64(s)) }

// Discard: freed buckets are discarded.
func (m *Member) Discard() bool { return memberDiscard.isSet(m) }

// SetDiscard sets the flag.
func (m *Member) SetDiscard(on bool) { memberDiscard.setBool(m, on) }

// DataAllowed is the set of data types that may be allocated, a bit each.
func (m *Member) DataAllowed() uint8 { return uint8(memberDataAllowed.get(m)) }

// SetDataAllowed sets the set.
func (m *Member) SetDataAllowed(v uint8) { memberDataAllowed.set(m, uint64(v)) }

// Group is the disk group index, -1 for none.
func (m *Member) Group() int { return int(memberGroup.get(m)) - 1 }

// SetGroup sets the disk group index, -1 for none. Indexes above 254 do not fit.
func (m *Member) SetGroup(g int) { memberGroup.set(m, uint64(g+1)) }

// Durability is how many copies one copy here counts for, 0 to 2.
func (m *Member) Durability() int {
	if v := int(memberDurability.get(m)); v != 0 {
		return v - 1
	}
	return 1
}

// SetDurability sets the durability, 0 to 2: the field holds no more.
func (m *Member) SetDurability(n int) { memberDurability.set(m, uint64(min(max(n, 0), 2)+1)) }

// FreespaceInitialized: the btrees freespace and need_discard cover the device.
func (m *Member) FreespaceInitialized() bool { return memberFreespaceInit.isSet(m) }

// SetFreespaceInitialized sets the flag.
func (m *Member) SetFreespaceInitialized(on bool) { memberFreespaceInit.setBool(m, on) }

// ResizeOnMount: the member grows to the size of the device at the next mount.
func (m *Member) ResizeOnMount() bool { return memberResize.isSet(m) }

// SetResizeOnMount sets the flag.
func (m *Member) SetResizeOnMount(on bool) { memberResize.setBool(m, on) }

// Rotational: the device is known to be a spinning disk.
func (m *Member) Rotational() bool { return memberRotational.isSet(m) }

// RotationalKnown: Rotational was detected or set.
func (m *Member) RotationalKnown() bool { return memberRotationalSet.isSet(m) }

// SetRotational sets the flag and that it is known.
func (m *Member) SetRotational(on bool) {
	memberRotational.setBool(m, on)
	memberRotationalSet.setBool(m, true)
}

// InitProgress is 0 for a member that is fully initialized; 1 to 4 are steps of
// adding it (chapter 01 section 5.2).
func (m *Member) InitProgress() int { return int(memberInitialized.get(m)) }

// SetInitProgress sets the step.
func (m *Member) SetInitProgress(n int) { memberInitialized.set(m, uint64(n)) }

// Sectors is the size of the member in sectors.
func (m *Member) Sectors() uint64 { return m.NBuckets * uint64(m.BucketSize) }

// decodeMember reads one member of any stride; what is missing is zero.
func decodeMember(raw []byte) Member {
	var a [MemberSize1_39]byte
	copy(a[:], raw)
	le := binary.LittleEndian
	b := a[:]
	m := Member{
		UUID:                    UUID(b[0:16]),
		NBuckets:                le.Uint64(b[16:]),
		FirstBucket:             le.Uint16(b[24:]),
		BucketSize:              le.Uint16(b[26:]),
		BtreeBitmapShift:        b[28],
		LastMount:               le.Uint64(b[32:]),
		Flags:                   le.Uint64(b[40:]),
		ErrorsResetTime:         le.Uint64(b[112:]),
		Seq:                     le.Uint64(b[120:]),
		BtreeAllocatedBitmap:    le.Uint64(b[128:]),
		LastJournalBucket:       le.Uint32(b[136:]),
		LastJournalBucketOffset: le.Uint32(b[140:]),
		DeviceName:              cstring(b[144:160]),
		DeviceModel:             cstring(b[160:224]),
		FlushErrors:             le.Uint64(b[224:]),
		DeviceSerial:            cstring(b[232:296]),
		FailureDomain:           cstring(b[296:328]),
		Raw:                     bytes.Clone(raw),
	}
	for i := range m.Iops {
		m.Iops[i] = le.Uint32(b[48+4*i:])
	}
	for i := range m.Errors {
		m.Errors[i] = le.Uint64(b[64+8*i:])
		m.ErrorsAtReset[i] = le.Uint64(b[88+8*i:])
	}
	return m
}

// Append adds the member to b in stride bytes: what does not fit is cut, what
// is unknown is taken from Raw.
func (m *Member) Append(b []byte, stride int) []byte {
	le := binary.LittleEndian
	a := make([]byte, max(stride, MemberSize1_39, len(m.Raw)))
	copy(a, m.Raw)
	copy(a, m.UUID[:])
	le.PutUint64(a[16:], m.NBuckets)
	le.PutUint16(a[24:], m.FirstBucket)
	le.PutUint16(a[26:], m.BucketSize)
	a[28] = m.BtreeBitmapShift
	le.PutUint64(a[32:], m.LastMount)
	le.PutUint64(a[40:], m.Flags)
	for i, v := range m.Iops {
		le.PutUint32(a[48+4*i:], v)
	}
	for i := range m.Errors {
		le.PutUint64(a[64+8*i:], m.Errors[i])
		le.PutUint64(a[88+8*i:], m.ErrorsAtReset[i])
	}
	le.PutUint64(a[112:], m.ErrorsResetTime)
	le.PutUint64(a[120:], m.Seq)
	le.PutUint64(a[128:], m.BtreeAllocatedBitmap)
	le.PutUint32(a[136:], m.LastJournalBucket)
	le.PutUint32(a[140:], m.LastJournalBucketOffset)
	putCString(a[144:160], m.DeviceName)
	putCString(a[160:224], m.DeviceModel)
	le.PutUint64(a[224:], m.FlushErrors)
	putCString(a[232:296], m.DeviceSerial)
	putCString(a[296:328], m.FailureDomain)
	return append(b, a[:stride]...)
}

// Members gives one Member for each of the NrDevices slots, from members_v2 or,
// when that is absent, members_v1.
func (sb *Superblock) Members() ([]Member, error) {
	d, stride, err := sb.memberArray()
	if err != nil {
		return nil, err
	}
	ms := make([]Member, sb.NrDevices)
	for i := range ms {
		ms[i] = decodeMember(d[i*stride : (i+1)*stride])
	}
	return ms, nil
}

// memberArray is the array of members and its stride.
func (sb *Superblock) memberArray() ([]byte, int, error) {
	nr := int(sb.NrDevices)
	if d := sb.Field(FieldMembersV2); d != nil {
		if len(d) < membersV2Head {
			return nil, 0, errs.Corruptf("sb_members_v2", "%d bytes", len(d))
		}
		stride := int(binary.LittleEndian.Uint16(d))
		d = d[membersV2Head:]
		// Every version has at least the members_v1 part.
		if stride < memberV1Size || nr*stride > len(d) {
			return nil, 0, errs.Corruptf("sb_members_v2", "%d members of %d bytes in %d bytes", nr, stride, len(d))
		}
		return d, stride, nil
	}
	if d := sb.Field(FieldMembersV1); d != nil {
		if nr*memberV1Size > len(d) {
			return nil, 0, errs.Corruptf("sb_members_v1", "%d members in %d bytes", nr, len(d))
		}
		return d, memberV1Size, nil
	}
	return nil, 0, errs.Corruptf("sb_members_missing", "no field members_v2 or members_v1")
}

// Member gives the member of one slot.
func (sb *Superblock) Member(dev int) (Member, error) {
	d, stride, err := sb.memberArray()
	if err != nil {
		return Member{}, err
	}
	if dev < 0 || dev >= int(sb.NrDevices) {
		return Member{}, errs.Corruptf("sb_dev_idx", "member %d of %d", dev, sb.NrDevices)
	}
	return decodeMember(d[dev*stride : (dev+1)*stride]), nil
}

// MemberStride is the size of a member in the field members_v2, 0 without it.
func (sb *Superblock) MemberStride() int {
	if d := sb.Field(FieldMembersV2); len(d) >= membersV2Head {
		return int(binary.LittleEndian.Uint16(d))
	}
	return 0
}

// SetMembers stores all slots and sets NrDevices. Members keep the stride of
// the volume or take minStride, whichever is more. The copy for old readers,
// members_v1, is written too, or removed when the volume uses an incompatible
// version after 1.25 (chapter 01 section 5.1).
func (sb *Superblock) SetMembers(ms []Member, minStride int) error {
	if len(ms) == 0 || len(ms) > 255 {
		return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUsage, Reason: "sb_nr_devices", Want: "1 to 255 members", Got: fmt.Sprint(len(ms))}
	}
	stride := roundUp8(max(sb.MemberStride(), minStride, memberV1Size))
	old := sb.Field(FieldMembersV2)
	v2 := make([]byte, membersV2Head, membersV2Head+stride*len(ms))
	copy(v2, old)
	binary.LittleEndian.PutUint16(v2, uint16(stride))
	v1 := []byte{}
	for i := range ms {
		v2 = ms[i].Append(v2, stride)
		v1 = ms[i].Append(v1, memberV1Size)
	}
	// The field may be larger than needed and must not shrink.
	if len(v2) < len(old) {
		v2 = append(v2, make([]byte, len(old)-len(v2))...)
	}
	sb.NrDevices = uint8(len(ms))
	sb.SetField(FieldMembersV2, v2)
	if sb.VersionIncompat() > Version1_0+25 {
		v1 = nil
	}
	sb.SetField(FieldMembersV1, v1)
	return nil
}
