package bcachefs

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/gobcachefs/gobcachefs/internal/snapshots"
)

// Ino computes the number that a mount shows as st_ino. It depends on the ID
// alone, so it is the same after a remount and whatever was looked up before.
//
// In subvolume 1 it is the inode number itself. Elsewhere inode numbers repeat
// (a snapshot has those of its origin), so the subvolume is packed in. Inode
// numbers are below 2^63: a set top bit keeps the two kinds apart. With
//
//	bit 63      1
//	bit 62      0
//	bits 44..61 subvolume, up to 2^18-1
//	bits 36..43 bits 55..62 of the inode number: the shard
//	bits 0..35  bits 0..35 of the inode number
//
// no two files get the same number as long as the inode number has no other
// bits set, that is, up to 2^36 files a shard. For the rest bit 62 is set and
// the lower 62 bits are a hash, which can collide in theory.
func Ino(id NodeID) uint64 {
	const (
		low      = 1<<36 - 1
		shard    = 0xff << 55
		top      = 1 << 63
		hashed   = 1 << 62
		maxSubv  = 1<<18 - 1
		subShift = 44
	)
	n := id.Inode
	if id.Subvol == snapshots.RootSubvol {
		return n
	}
	if id.Subvol <= maxSubv && n&^(low|shard) == 0 {
		return top | uint64(id.Subvol)<<subShift | n>>55<<36 | n&low
	}
	var b [12]byte
	binary.LittleEndian.PutUint32(b[:], id.Subvol)
	binary.LittleEndian.PutUint64(b[4:], n)
	h := sha256.Sum256(b[:])
	return top | hashed | binary.LittleEndian.Uint64(h[:])>>2
}
