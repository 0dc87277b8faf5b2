package ondisk

import (
	"encoding/binary"
	"slices"
	"strconv"

	"github.com/gobcachefs/gobcachefs/errs"
)

// AccountingType is what a key of the accounting btree counts (chapter 06
// section 11.2).
type AccountingType uint8

// Accounting types.
const (
	AccNrInodes           AccountingType = 0
	AccPersistentReserved AccountingType = 1
	AccReplicas           AccountingType = 2
	AccDevDataType        AccountingType = 3
	AccCompression        AccountingType = 4
	AccSnapshot           AccountingType = 5
	AccBtree              AccountingType = 6
	AccRebalanceWork      AccountingType = 7 // up to 1.32
	AccInum               AccountingType = 8
	AccReconcileWork      AccountingType = 9  // 1.33
	AccDevLeaving         AccountingType = 10 // 1.33
	NrAccountingTypes                    = 11
)

var accountingNames = [NrAccountingTypes]string{"nr_inodes", "persistent_reserved", "replicas", "dev_data_type", "compression", "snapshot", "btree", "rebalance_work", "inum", "reconcile_work", "dev_leaving"}

// String is the name of the type.
func (t AccountingType) String() string {
	if t < NrAccountingTypes {
		return accountingNames[t]
	}
	return "(unknown accounting type " + strconv.Itoa(int(t)) + ")"
}

// MaxCounters is the largest number of counters of one key.
const MaxCounters = 3

// ReplicasMaxDevs is the largest number of devices in a replicas position.
const ReplicasMaxDevs = 16

// AccountingForm is how positions of the accounting btree are laid out.
type AccountingForm uint8

// Forms of positions.
const (
	AccountingBigEndian AccountingForm = iota // 1.15 and later
	AccountingOldOrder                        // 1.10 to 1.14
	AccountingUnpacked                        // 1.9
)

// AccountingFormOf is the form that a volume of version v uses.
func AccountingFormOf(v Version) AccountingForm {
	switch {
	case v >= Version1_15:
		return AccountingBigEndian
	case v > Version1_9:
		return AccountingOldOrder
	}
	return AccountingUnpacked
}

// AccountingPos is a decoded position. Only the fields of its type are set, so
// that values can be compared and used as map keys.
type AccountingPos struct {
	Type       AccountingType
	NrReplicas uint8 // persistent_reserved

	DataType   DataType // replicas, dev_data_type
	NrRequired uint8    // replicas
	NrDevs     uint8
	DevList    [ReplicasMaxDevs]uint8 // ascending

	Dev         uint32 // dev_data_type, dev_leaving
	Compression CompressionType
	Snapshot    uint32 // snapshot
	Btree       uint32 // btree, and snapshot from 1.39 on
	Inode       uint64 // inum
	Kind        uint8  // reconcile_work
}

// Devs are the devices of a replicas position.
func (a *AccountingPos) Devs() []uint8 { return a.DevList[:min(a.NrDevs, ReplicasMaxDevs)] }

// ReplicasPos is the position that counts sectors on a set of devices. At most
// ReplicasMaxDevs devices are kept.
func ReplicasPos(t DataType, nrRequired uint8, devs []uint8) AccountingPos {
	a := AccountingPos{Type: AccReplicas, DataType: t, NrRequired: nrRequired}
	a.NrDevs = uint8(copy(a.DevList[:], devs))
	slices.Sort(a.Devs())
	return a
}

// posBytes are the 20 bytes of the position as a structure: type first.
func posBytes(p Pos, form AccountingForm) [PosSize]byte {
	var b [PosSize]byte
	p.Append(b[:0])
	if form == AccountingBigEndian {
		slices.Reverse(b[:])
	}
	return b
}

// DecodeAccountingPos reads a position. An unknown type is no error; keys of it
// are to be kept as they are.
func DecodeAccountingPos(p Pos, form AccountingForm) (AccountingPos, error) {
	b := posBytes(p, form)
	le := binary.LittleEndian
	a := AccountingPos{Type: AccountingType(b[0])}
	end := 1
	u32 := func(at int) uint32 {
		if form == AccountingUnpacked {
			at += 3 // u32 fields were aligned
		}
		end = at + 4
		return le.Uint32(b[at:])
	}
	switch a.Type {
	case AccNrInodes, AccRebalanceWork:
	case AccPersistentReserved:
		a.NrReplicas, end = b[1], 2
	case AccReplicas:
		a.DataType, a.NrDevs, a.NrRequired = DataType(b[1]), b[2], b[3]
		if a.NrDevs == 0 || a.NrDevs > ReplicasMaxDevs {
			return a, errs.Corruptf("accounting_key_replicas_nr_devs_0", "%d devices", a.NrDevs)
		}
		end = 4 + copy(a.DevList[:a.NrDevs], b[4:])
		if a.NrRequired > 1 && a.NrRequired >= a.NrDevs || a.NrRequired > a.NrDevs {
			return a, errs.Corruptf("accounting_key_replicas_nr_required_bad", "%d of %d devices", a.NrRequired, a.NrDevs)
		}
		for i, d := range a.Devs()[1:] {
			if prev := a.DevList[i]; d < prev || d == prev && d != InvalidDev {
				return a, errs.Corruptf("accounting_key_replicas_devs_unsorted", "devices %d", a.Devs())
			}
		}
	case AccDevDataType:
		a.Dev, a.DataType, end = uint32(b[1]), DataType(b[2]), 3
	case AccCompression:
		a.Compression, end = CompressionType(b[1]), 2
	case AccSnapshot:
		a.Snapshot = u32(1)
		if form == AccountingBigEndian {
			a.Btree = u32(5)
		}
	case AccBtree:
		a.Btree = u32(1)
	case AccInum:
		a.Inode, end = le.Uint64(b[1:]), 9
	case AccReconcileWork:
		a.Kind, end = b[1], 2
	case AccDevLeaving:
		a.Dev = u32(1)
	default:
		return a, nil
	}
	if form == AccountingUnpacked {
		return a, nil // padding may be anything
	}
	for _, c := range b[end:] {
		if c != 0 {
			return a, errs.Corruptf("accounting_key_junk_at_end", "%s: % x", a.Type, b[end:])
		}
	}
	return a, nil
}

// Pos is the inverse of DecodeAccountingPos for known types.
func (a AccountingPos) Pos(form AccountingForm) Pos {
	var b [PosSize]byte
	le := binary.LittleEndian
	b[0] = byte(a.Type)
	at := 1
	if form == AccountingUnpacked {
		at = 4
	}
	switch a.Type {
	case AccPersistentReserved:
		b[1] = a.NrReplicas
	case AccReplicas:
		b[1], b[2], b[3] = byte(a.DataType), a.NrDevs, a.NrRequired
		copy(b[4:], a.Devs())
	case AccDevDataType:
		b[1], b[2] = byte(a.Dev), byte(a.DataType)
	case AccCompression:
		b[1] = byte(a.Compression)
	case AccSnapshot:
		le.PutUint32(b[at:], a.Snapshot)
		if form == AccountingBigEndian {
			le.PutUint32(b[at+4:], a.Btree)
		}
	case AccBtree:
		le.PutUint32(b[at:], a.Btree)
	case AccInum:
		le.PutUint64(b[1:], a.Inode)
	case AccReconcileWork:
		b[1] = a.Kind
	case AccDevLeaving:
		le.PutUint32(b[at:], a.Dev)
	}
	if form == AccountingBigEndian {
		slices.Reverse(b[:])
	}
	return DecodePos(b[:])
}

// NrCounters is the number of counters that writers of version v store for a
// type; 0 for types that version does not have.
func (t AccountingType) NrCounters(v Version) int {
	switch t {
	case AccNrInodes, AccPersistentReserved, AccReplicas:
		return 1
	case AccDevDataType, AccCompression:
		return 3
	case AccSnapshot:
		if v >= Version1_39 {
			return 3
		}
		return 1
	case AccBtree:
		if v >= Version1_31 {
			return 3
		}
		return 1
	case AccRebalanceWork:
		if v < Version1_33 {
			return 1
		}
	case AccInum:
		if v >= Version1_11 {
			return 3
		}
	case AccReconcileWork:
		if v >= Version1_33 {
			return 2
		}
	case AccDevLeaving:
		if v >= Version1_33 {
			return 1
		}
	}
	return 0
}

// Counters are the values of an accounting key; missing ones are 0. A key in
// the journal holds differences, one in the btree sums.
type Counters [MaxCounters]int64

// IsZero: there is nothing counted.
func (c Counters) IsZero() bool { return c == Counters{} }

// Add sums two sets of counters.
func (c Counters) Add(d Counters) Counters {
	for i := range c {
		c[i] += d[i]
	}
	return c
}

// DecodeCounters reads the value of an accounting key and the number of
// counters it has, of which more than MaxCounters are ignored.
func DecodeCounters(val []byte) (c Counters, n int, err error) {
	n = len(val) / 8
	if n == 0 {
		return c, 0, errs.Corruptf("bkey_val_size_too_small", "accounting of %d bytes", len(val))
	}
	for i := range min(n, MaxCounters) {
		c[i] = int64(binary.LittleEndian.Uint64(val[8*i:]))
	}
	return c, n, nil
}

// Append adds the first n counters to b.
func (c Counters) Append(b []byte, n int) []byte {
	for _, v := range c[:min(n, MaxCounters)] {
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	}
	return b
}

// Kinds of reconcile work (chapter 06 section 14.3).
const (
	ReconcileWorkReplicas     = 0
	ReconcileWorkChecksum     = 1
	ReconcileWorkErasureCode  = 2
	ReconcileWorkCompression  = 3
	ReconcileWorkTarget       = 4
	ReconcileWorkHighPriority = 5
	ReconcileWorkPending      = 6
	ReconcileWorkStripes      = 7
	NrReconcileWorkKinds      = 8
)
