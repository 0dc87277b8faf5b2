package bcachefs_test

import (
	"math/rand/v2"
	"testing"

	"github.com/gobcachefs/gobcachefs"
)

// inos are inode numbers as the format gives them out (chapter 04 section 5):
// from 4096 on; in a shard of 2^bits, whose number is at the top; and below 2^31
// with the option inodes_32bit, there too by shards up to release 1.17.
func inos() []uint64 {
	var all []uint64
	for _, n := range []uint64{0, 1, 2, 95, 1 << 20, 1<<31 - 1, 1<<36 - 1} {
		if n < 1<<30 {
			all = append(all, 4096+n, 1<<30+n)
		}
		all = append(all, 1<<31+n)
		for bits := 1; bits <= 8; bits++ {
			for _, shard := range []uint64{1, 1<<bits - 1} {
				if n < 1<<36 {
					all = append(all, shard<<(63-bits)+n)
				}
			}
		}
	}
	return all
}

// TestInoUnique: no two files of a volume show the same number. Constructed are
// those that a simpler function would give the same: subvolume and inode number
// that add up, or-ed, xor-ed or shifted into each other, and neighbors of every
// boundary.
func TestInoUnique(t *testing.T) {
	ids := map[bcachefs.NodeID]bool{}
	var subvols []uint32
	for b := range 18 {
		subvols = append(subvols, 1<<b, 1<<b+1, 1<<(b+1)-1)
	}
	for _, s := range subvols {
		for _, n := range inos() {
			ids[bcachefs.NodeID{Subvol: s, Inode: n}] = true
		}
		// What packing by addition or by 32-bit halves would confuse.
		for _, d := range []uint64{0, 1, 2, 4096} {
			ids[bcachefs.NodeID{Subvol: s, Inode: 8192 + d - uint64(s)%4096}] = true
			ids[bcachefs.NodeID{Subvol: s, Inode: 8192 ^ uint64(s)}] = true
			ids[bcachefs.NodeID{Subvol: 1, Inode: uint64(s)<<32 | 4096 + d}] = true
			ids[bcachefs.NodeID{Subvol: 1, Inode: uint64(s)<<44 | 4096 + d}] = true
		}
	}
	seen := make(map[uint64]bcachefs.NodeID, len(ids))
	for id := range ids {
		n := bcachefs.Ino(id)
		if other, twice := seen[n]; twice {
			t.Errorf("Ino(%v) = Ino(%v) = %#x, want different numbers", id, other, n)
		}
		seen[n] = id
	}
}

// TestInoUniqueHashed: numbers that do not fit are hashed. A collision of those
// takes some 2^31 files; here are as many as a test can look at, and none of
// them meets a number that fits.
func TestInoUniqueHashed(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	seen := map[uint64]bcachefs.NodeID{}
	for range 200_000 {
		id := bcachefs.NodeID{Subvol: 2 + r.Uint32(), Inode: 4096 + r.Uint64()>>1}
		if r.IntN(2) == 0 {
			id.Subvol = 2 + r.Uint32N(1<<18)
		}
		n := bcachefs.Ino(id)
		if other, twice := seen[n]; twice && other != id {
			t.Errorf("Ino(%v) = Ino(%v) = %#x, want different numbers", id, other, n)
		}
		seen[n] = id
		if n>>63 == 0 {
			t.Errorf("Ino(%v) = %#x, want the top bit set: the others are subvolume 1's", id, n)
		}
	}
}

// TestInoIsStable pins numbers: they are the same after a remount, and in the
// next release.
func TestInoIsStable(t *testing.T) {
	for _, c := range []struct {
		id   bcachefs.NodeID
		want uint64
	}{
		{bcachefs.NodeID{Subvol: 1, Inode: 4096}, 4096},
		{bcachefs.NodeID{Subvol: 1, Inode: 1<<62 + 5}, 1<<62 + 5},
		{bcachefs.NodeID{Subvol: 2, Inode: 4096}, 0x8000_2000_0000_1000},
		{bcachefs.NodeID{Subvol: 3, Inode: 1073741824}, 0x8000_3000_4000_0000},
		{bcachefs.NodeID{Subvol: 1<<18 - 1, Inode: 1<<62 + 7}, 0xbfff_f800_0000_0007},
		{bcachefs.NodeID{Subvol: 2, Inode: 1 << 40}, inoHashed240},
		{bcachefs.NodeID{Subvol: 1 << 18, Inode: 4096}, inoHashed18},
	} {
		if got := bcachefs.Ino(c.id); got != c.want {
			t.Errorf("Ino(%v) = %#x, want %#x", c.id, got, c.want)
		}
	}
}

// Numbers made by a hash of the 12 bytes of subvolume and inode number:
// sha256, its first 8 bytes, little endian, above them the two top bits.
const (
	inoHashed240 = 0xd969_815e_c51a_0eac
	inoHashed18  = 0xe611_b436_23cd_b446
)
