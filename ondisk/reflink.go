package ondisk

import (
	"encoding/binary"

	"github.com/gobcachefs/gobcachefs/errs"
)

// ReflinkIdxMax is the largest position in the reflink btree: 56 bits.
const ReflinkIdxMax = 1<<56 - 1

// ReflinkP is the value of a reflink_p key: a range of the reflink btree in the
// place of data (chapter 05 section 3.4).
type ReflinkP struct {
	Idx              uint64 // sector in the reflink btree of the key's start, 56 bits
	Error            bool   // the range is missing (1.16)
	MayUpdateOptions bool   // (1.16)
	// FrontPad and BackPad are the sectors around the range on which the key
	// holds references too.
	FrontPad, BackPad uint32
}

// DecodeReflinkP reads the value of a reflink_p key.
func DecodeReflinkP(val []byte) (ReflinkP, error) {
	if len(val) < KeyReflinkP.MinVal() {
		return ReflinkP{}, errs.Corruptf("bkey_val_size_too_small", "reflink_p of %d bytes", len(val))
	}
	w := binary.LittleEndian.Uint64(val)
	return ReflinkP{
		Idx: w & ReflinkIdxMax, Error: w>>56&1 != 0, MayUpdateOptions: w>>57&1 != 0,
		FrontPad: binary.LittleEndian.Uint32(val[8:]), BackPad: binary.LittleEndian.Uint32(val[12:]),
	}, nil
}

// Append adds the 16 bytes of the value to b.
func (p ReflinkP) Append(b []byte) []byte {
	w := p.Idx & ReflinkIdxMax
	if p.Error {
		w |= 1 << 56
	}
	if p.MayUpdateOptions {
		w |= 1 << 57
	}
	b = binary.LittleEndian.AppendUint64(b, w)
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(b, p.FrontPad), p.BackPad)
}

// DecodeReflinkV splits the value of a reflink_v or indirect_inline_data key
// into its reference count and the rest: extent entries, or bytes of data.
func DecodeReflinkV(val []byte) (refcount uint64, entries []byte, err error) {
	if len(val) < 8 {
		return 0, nil, errs.Corruptf("bkey_val_size_too_small", "reflink_v of %d bytes", len(val))
	}
	return binary.LittleEndian.Uint64(val), val[8:], nil
}

// AppendReflinkV adds the value of a reflink_v or indirect_inline_data key to b.
func AppendReflinkV(b []byte, refcount uint64, entries []byte) []byte {
	return append(binary.LittleEndian.AppendUint64(b, refcount), entries...)
}

// Reservation is the value of a reservation key (chapter 05 section 3.2).
type Reservation struct {
	Generation uint32 // always 0
	NrReplicas uint8  // 1 to 4
}

// DecodeReservation reads the value of a reservation key.
func DecodeReservation(val []byte) (Reservation, error) {
	if len(val) < 8 {
		return Reservation{}, errs.Corruptf("bkey_val_size_too_small", "reservation of %d bytes", len(val))
	}
	return Reservation{Generation: binary.LittleEndian.Uint32(val), NrReplicas: val[4]}, nil
}

// Append adds the 8 bytes of the value to b.
func (r Reservation) Append(b []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(b, r.Generation), r.NrReplicas, 0, 0, 0)
}
