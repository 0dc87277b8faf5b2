package bcachefs

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"github.com/gobcachefs/gobcachefs/internal/alloc"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Statfs is what statfs(2) says of a mounted volume. Blocks, Free and Avail are
// in units of BlockSize.
type Statfs struct {
	BlockSize uint32
	Blocks    uint64 // that files can use
	Free      uint64
	Avail     uint64 // Free without a small part that reservations round up to
	Files     uint64
	FilesFree uint64 // there is no fixed number: derived from Free
	NameLen   uint32
	FSID      uint64 // of the external uuid
	Type      uint32 // 0xca451a4e
}

// StatfsType is the magic number of the filesystem.
const StatfsType = 0xca451a4e

// nameLen is what the kernel says; names of 512 bytes do fit.
const nameLen = 512

// statfsCache keeps the answer: of a volume that does not change for good, of
// another one for as long as is needed not to spend all the time on answers.
type statfsCache struct {
	mu    sync.Mutex
	st    *Statfs
	until time.Time // on a volume that changes
}

// Statfs says how full the volume is, in the numbers that the kernel of the
// volume's version gives (chapter 06 section 16). Only members that are here
// count. An error means that the volume's own counters cannot be read.
func (v *Volume) Statfs(ctx context.Context) (Statfs, error) {
	v.statfs.mu.Lock()
	defer v.statfs.mu.Unlock()
	start := time.Now()
	if v.statfs.st != nil && (!v.live || start.Before(v.statfs.until)) {
		return *v.statfs.st, nil
	}
	u, err := alloc.ReadUsage(ctx, v.e.Set, v.e.Trees)
	if err != nil {
		return Statfs{}, err
	}
	st := statfsOf(v.e.Set.SB, u.Space(v.e.Set), u.NrInodes)
	v.statfs.st = &st
	v.statfs.until = time.Now().Add(4 * time.Since(start))
	return st, nil
}

func statfsOf(sb *ondisk.Superblock, s alloc.Space, inodes int64) Statfs {
	block := max(1, int64(sb.BlockSize))
	st := Statfs{BlockSize: uint32(block) * 512, NameLen: nameLen, Type: StatfsType}
	st.Blocks, st.Free, st.Avail = uint64(s.Capacity/block), uint64(s.Free/block), uint64(s.Avail/block)
	if sb.Version <= ondisk.Version1_13 {
		// Kernels of that time promise more inodes, and forget those in use.
		st.FilesFree = uint64(s.Free) << 3
		st.Files = st.FilesFree
	} else {
		st.FilesFree = uint64(s.Free) << 1
		st.Files = st.FilesFree + uint64(max(0, inodes))
	}
	le := binary.LittleEndian
	st.FSID = le.Uint64(sb.UserUUID[:8]) ^ le.Uint64(sb.UserUUID[8:])
	return st
}
