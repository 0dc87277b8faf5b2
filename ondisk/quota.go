package ondisk

import (
	"encoding/binary"

	"github.com/gobcachefs/gobcachefs/errs"
)

// Kinds of quotas: the inode field of the key's position; the offset is the id.
const (
	QuotaUser    = 0
	QuotaGroup   = 1
	QuotaProject = 2
	NrQuotaTypes = 3
)

// QuotaLimits are the limits of one counter, 0 none.
type QuotaLimits struct{ Hard, Soft uint64 }

// Quota is the value of a quota key (chapter 04 section 15). What is in use is
// not stored.
type Quota struct {
	Space  QuotaLimits // sectors
	Inodes QuotaLimits
}

// DecodeQuota reads the value of a quota key.
func DecodeQuota(val []byte) (Quota, error) {
	if len(val) < KeyQuota.MinVal() {
		return Quota{}, errs.Corruptf("bkey_val_size_too_small", "quota of %d bytes", len(val))
	}
	le := binary.LittleEndian
	return Quota{
		Space:  QuotaLimits{Hard: le.Uint64(val), Soft: le.Uint64(val[8:])},
		Inodes: QuotaLimits{Hard: le.Uint64(val[16:]), Soft: le.Uint64(val[24:])},
	}, nil
}

// Append adds the 32 bytes of the value to b.
func (q Quota) Append(b []byte) []byte {
	for _, w := range [...]uint64{q.Space.Hard, q.Space.Soft, q.Inodes.Hard, q.Inodes.Soft} {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}
