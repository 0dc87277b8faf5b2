package build

import (
	"github.com/gobcachefs/gobcachefs/internal/compress"
	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/internal/strhash"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Base adds what every volume has: the snapshot tree, subvolume 1 and its root
// directory, inode 4096.
func (v *Volume) Base() {
	v.Add(ondisk.BtreeSnapshotTrees, Key(ondisk.KeySnapshotTree, 0, 1, 0, ondisk.SnapshotTree{MasterSubvol: 1, RootSnapshot: RootSnapshot}.Append(nil)))
	v.Add(ondisk.BtreeSnapshots, Key(ondisk.KeySnapshot, 0, RootSnapshot, 0, ondisk.Snapshot{Flags: ondisk.SnapshotSubvol, Subvol: 1, Tree: 1}.Append(nil)))
	v.Add(ondisk.BtreeSubvolumes, Key(ondisk.KeySubvolume, 0, 1, 0, ondisk.Subvolume{Snapshot: RootSnapshot, Inode: ondisk.RootInode}.Append(nil)))
	v.Inode(ondisk.RootInode, ondisk.Inode{Mode: ondisk.ModeDir | 0o755, Subvol: 1})
}

// Key makes a key.
func Key(t ondisk.KeyType, inode, offset uint64, snapshot uint32, val []byte) ondisk.KV {
	return ondisk.KV{Key: ondisk.Key{Type: t, Pos: ondisk.Pos{Inode: inode, Offset: offset, Snapshot: snapshot}}, Val: Pad8(val)}
}

// Pad8 pads a value with zeros to whole u64s.
func Pad8(b []byte) []byte { return append(b, make([]byte, (8-len(b)%8)%8)...) }

// Inode adds an inode_v3 in the root snapshot. Hash type and seed are those that
// Dirent takes.
func (v *Volume) Inode(inum uint64, in ondisk.Inode) {
	v.Add(ondisk.BtreeInodes, Key(ondisk.KeyInodeV3, 0, inum, RootSnapshot, v.InodeValue(in)))
}

// InodeValue is the value of an inode_v3 with hash type and seed filled in.
func (v *Volume) InodeValue(in ondisk.Inode) []byte {
	in.StrHash, in.HashSeed = dirHash, RootHashSeed
	return in.Append(nil)
}

// Dirent adds a name to a directory.
func (v *Volume) Dirent(dir uint64, name string, inum uint64, typ uint8) {
	v.Add(ondisk.BtreeDirents, v.DirentKey(dir, name, ondisk.Dirent{Type: typ, Inum: inum}))
}

// DirentKey is the key of a name in a directory, at the slot of its hash.
func (v *Volume) DirentKey(dir uint64, name string, d ondisk.Dirent) ondisk.KV {
	d.Name = []byte(name)
	return Key(ondisk.KeyDirent, dir, strhash.DirentSlot(dirHash, RootHashSeed, false, d.Name), RootSnapshot, d.Append(nil))
}

// File adds a regular file to the root directory with its extents, and its size
// from in.
func (v *Volume) File(name string, inum uint64, in ondisk.Inode, extents ...ondisk.KV) {
	if in.Mode == 0 {
		in.Mode = ondisk.ModeRegular | 0o644
	}
	in.Dir, in.DirOffset = ondisk.RootInode, strhash.DirentSlot(dirHash, RootHashSeed, false, []byte(name))
	for _, e := range extents {
		in.Sectors += uint64(e.Size)
	}
	v.Inode(inum, in)
	v.Dirent(ondisk.RootInode, name, inum, ondisk.DTRegular)
	v.Add(ondisk.BtreeExtents, extents...)
}

// Xattr adds an extended attribute of the user class.
func (v *Volume) Xattr(inum uint64, name string, value []byte) {
	x := ondisk.Xattr{Type: ondisk.XattrUser, Name: []byte(name), Value: value}
	v.Add(ondisk.BtreeXattrs, Key(ondisk.KeyXattr, inum, strhash.Xattr(dirHash, RootHashSeed, ondisk.XattrUser, x.Name), RootSnapshot, x.Append(nil)))
}

// Enc says how an extent is stored.
type Enc struct {
	Csum        ondisk.CsumType
	Compression ondisk.CompressionType
	Kind        uint8 // of the crc entry; 0: the smallest, or none
	Nonce       uint32
	Version     ondisk.Bversion
	Devs        []uint8 // member 0
}

// ExtentKey is an extent of a file that ends at the given sector.
func ExtentKey(t ondisk.KeyType, inum, end uint64, size uint32, version ondisk.Bversion, val []byte) ondisk.KV {
	kv := Key(t, inum, end, RootSnapshot, val)
	if t == ondisk.KeyReflinkV || t == ondisk.KeyIndirectInlineData {
		kv.Pos.Snapshot = 0
	}
	kv.Size, kv.Version = size, version
	return kv
}

// Extent stores data, padded to whole sectors, and gives the key of an extent
// that starts at a sector of a file.
func (v *Volume) Extent(inum, start uint64, data []byte, e Enc) ondisk.KV {
	n := uint32(len(data)+511) / 512
	return ExtentKey(ondisk.KeyExtent, inum, start+uint64(n), n, e.Version, v.Blob(data, e))
}

// Blob stores data and gives the entries that describe it.
func (v *Volume) Blob(data []byte, e Enc) []byte {
	stored, crc, has := v.Encode(data, e)
	var val []byte
	if has {
		crc.Kind = e.Kind
		val = crc.Append(val)
	}
	for _, p := range v.Store(stored, e.Devs...) {
		val = p.Append(val)
	}
	return val
}

// Encode compresses, encrypts and sums data as it is to be stored. has is false
// when the blob needs no crc entry.
func (v *Volume) Encode(data []byte, e Enc) (stored []byte, crc ondisk.Crc, has bool) {
	plain := append([]byte(nil), data...)
	plain = append(plain, make([]byte, (512-len(plain)%512)%512)...)
	n := uint32(len(plain) / 512)
	crc = ondisk.Crc{CompressedSize: n, UncompressedSize: n, CsumType: e.Csum, Compression: e.Compression, Nonce: e.Nonce}
	stored = plain
	if e.Compression.Compressed() {
		t := uint8(e.Compression)
		if e.Compression == ondisk.CompressionLZ4Old {
			t = uint8(ondisk.CompressionLZ4)
		}
		out := make([]byte, len(plain)-512)
		m, ok := compress.Compress(t, 0, out, plain)
		if !ok {
			panic("build: data does not compress")
		}
		stored = out[:(m+511)/512*512]
		crc.CompressedSize = uint32(len(stored) / 512)
	}
	ct, size := uint8(0), uint32(0)
	if e.Compression.Compressed() {
		ct, size = uint8(e.Compression), n
	}
	nonce := crypt.ExtentNonce(e.Version.Hi, e.Version.Lo, ct, size, e.Nonce)
	if e.Csum.Encrypted() {
		crypt.XOR(v.Key, nonce, stored)
	}
	lo, hi, err := crypt.Sum(uint8(e.Csum), v.Key, nonce, stored)
	must(err)
	crc.Csum = ondisk.Csum{Lo: lo, Hi: hi}
	return stored, crc, e.Csum != ondisk.CsumNone || e.Compression != ondisk.CompressionNone || e.Nonce != 0 || e.Kind != 0
}

// Store writes bytes, whole sectors, to a fresh place on each member.
func (v *Volume) Store(b []byte, devs ...uint8) []ondisk.Ptr {
	if len(devs) == 0 {
		devs = []uint8{0}
	}
	var out []ondisk.Ptr
	for _, d := range devs {
		s := v.take(int(d), uint64(len(b)+511)/512, false)
		v.write(int(d), s, b)
		out = append(out, ondisk.Ptr{Dev: d, Offset: s})
	}
	return out
}
