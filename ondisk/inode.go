package ondisk

import (
	"encoding/binary"

	"github.com/gobcachefs/gobcachefs/errs"
)

// Numbers of inodes.
const (
	// RootInode is the root directory of every subvolume made by a formatter.
	RootInode = 4096
	// FirstInode is the lowest number an inode can have.
	FirstInode = 4096
	// RootSubvolume is the subvolume that a mount shows.
	RootSubvolume = 1
)

// Flags of an inode (chapter 04 section 1.2).
const (
	InodeSync               = 1 << 0
	InodeImmutable          = 1 << 1
	InodeAppend             = 1 << 2
	InodeNodump             = 1 << 3
	InodeNoatime            = 1 << 4
	InodeISizeDirty         = 1 << 5 // obsolete
	InodeISectorsDirty      = 1 << 6 // obsolete
	InodeUnlinked           = 1 << 7 // link count 0
	InodeBackptrUntrusted   = 1 << 8 // obsolete
	InodeHasChildSnapshot   = 1 << 9
	InodeHasCaseInsensitive = 1 << 10
	Inode31bitDirentOffset  = 1 << 11
	InodeHasInodeOpts       = 1 << 12 // 1.39
	InodeHasAccessACL       = 1 << 13 // 1.39
	InodeHasDefaultACL      = 1 << 14 // 1.39
	inodeFlagBits           = 1<<20 - 1 | 0xfff<<52
)

// File type bits of Inode.Mode.
const (
	ModeTypeMask = 0o170000
	ModeSocket   = 0o140000
	ModeSymlink  = 0o120000
	ModeRegular  = 0o100000
	ModeBlock    = 0o060000
	ModeDir      = 0o040000
	ModeChar     = 0o020000
	ModeFifo     = 0o010000
)

// Inode is the decoded value of an inode key of any of the three forms
// (chapter 04 section 1). Fields named after options hold the option's value
// plus one, 0 when the inode does not have the option.
type Inode struct {
	JournalSeq uint64
	HashSeed   uint64 // the 8 bytes of the seed as a little-endian word
	Flags      uint64 // bits 0..19 and 52..63 of bi_flags
	Sectors    uint64 // allocated, in sectors
	Size       uint64 // bytes
	Version    uint64
	Mode       uint16 // st_mode
	StrHash    uint8  // type of the name hash: chapter 04 section 3

	// Times in units relative to the superblock's time base: TimeToUnix.
	Atime, Ctime, Mtime, Otime int64

	UID, GID   uint32
	Nlink      uint32 // biased: see Links
	Generation uint32
	Dev        uint32 // kernel form: major<<20 | minor

	DataChecksum          uint8
	Compression           uint8
	Project               uint32
	BackgroundCompression uint8
	DataReplicas          uint8
	PromoteTarget         uint16
	ForegroundTarget      uint16
	BackgroundTarget      uint16
	ErasureCode           uint16
	FieldsSet             uint16 // options that the user set on this very inode, by option id

	Dir, DirOffset        uint64 // position of the dirent that names this inode
	Subvol                uint32 // root of this subvolume, else 0
	ParentSubvol          uint32 // subvolume of the dirent, on subvolume roots
	Nocow                 uint8
	Depth                 uint32
	Inodes32bit           uint8
	Casefold              uint8
	UnusedECMaxDataBlocks uint8 // retired
}

// Options of an inode, by the bit in FieldsSet (chapter 04 section 1.6).
const (
	InodeOptDataChecksum          = 0
	InodeOptCompression           = 1
	InodeOptProject               = 2
	InodeOptBackgroundCompression = 3
	InodeOptDataReplicas          = 4
	InodeOptPromoteTarget         = 5
	InodeOptForegroundTarget      = 6
	InodeOptBackgroundTarget      = 7
	InodeOptErasureCode           = 8
	InodeOptNocow                 = 9
	InodeOptInodes32bit           = 10
	InodeOptCasefold              = 11
	NrInodeOpts                   = 12
)

// Opt gives the stored value of an option by its id: the value plus one, or 0.
func (i *Inode) Opt(id int) uint64 {
	switch id {
	case InodeOptDataChecksum:
		return uint64(i.DataChecksum)
	case InodeOptCompression:
		return uint64(i.Compression)
	case InodeOptProject:
		return uint64(i.Project)
	case InodeOptBackgroundCompression:
		return uint64(i.BackgroundCompression)
	case InodeOptDataReplicas:
		return uint64(i.DataReplicas)
	case InodeOptPromoteTarget:
		return uint64(i.PromoteTarget)
	case InodeOptForegroundTarget:
		return uint64(i.ForegroundTarget)
	case InodeOptBackgroundTarget:
		return uint64(i.BackgroundTarget)
	case InodeOptErasureCode:
		return uint64(i.ErasureCode)
	case InodeOptNocow:
		return uint64(i.Nocow)
	case InodeOptInodes32bit:
		return uint64(i.Inodes32bit)
	case InodeOptCasefold:
		return uint64(i.Casefold)
	}
	return 0
}

// SetOpt stores an option by its id; v is the value plus one, or 0. It is cut
// to the width of the field.
func (i *Inode) SetOpt(id int, v uint64) {
	switch id {
	case InodeOptDataChecksum:
		i.DataChecksum = uint8(v)
	case InodeOptCompression:
		i.Compression = uint8(v)
	case InodeOptProject:
		i.Project = uint32(v)
	case InodeOptBackgroundCompression:
		i.BackgroundCompression = uint8(v)
	case InodeOptDataReplicas:
		i.DataReplicas = uint8(v)
	case InodeOptPromoteTarget:
		i.PromoteTarget = uint16(v)
	case InodeOptForegroundTarget:
		i.ForegroundTarget = uint16(v)
	case InodeOptBackgroundTarget:
		i.BackgroundTarget = uint16(v)
	case InodeOptErasureCode:
		i.ErasureCode = uint16(v)
	case InodeOptNocow:
		i.Nocow = uint8(v)
	case InodeOptInodes32bit:
		i.Inodes32bit = uint8(v)
	case InodeOptCasefold:
		i.Casefold = uint8(v)
	}
}

// HasOpts: some option is set, which the flag InodeHasInodeOpts tells too from
// 1.39 on.
func (i *Inode) HasOpts() bool {
	for id := 0; id < NrInodeOpts; id++ {
		if i.Opt(id) != 0 {
			return true
		}
	}
	return false
}

// IsDir, IsRegular and IsSymlink test the file type.
func (i *Inode) IsDir() bool { return i.Mode&ModeTypeMask == ModeDir }

// IsRegular tests for a regular file.
func (i *Inode) IsRegular() bool { return i.Mode&ModeTypeMask == ModeRegular }

// IsSymlink tests for a symbolic link.
func (i *Inode) IsSymlink() bool { return i.Mode&ModeTypeMask == ModeSymlink }

// Unlinked: no dirent names the inode, its link count is 0.
func (i *Inode) Unlinked() bool { return i.Flags&InodeUnlinked != 0 }

// nlinkBias is what Nlink leaves out.
func (i *Inode) nlinkBias() uint32 {
	if i.IsDir() {
		return 2
	}
	return 1
}

// Links is the link count that stat shows (chapter 04 section 5).
func (i *Inode) Links() uint32 {
	if i.Unlinked() {
		return 0
	}
	return i.Nlink + i.nlinkBias()
}

// SetLinks stores a link count. 0, and anything below what the file type always
// has, means unlinked.
func (i *Inode) SetLinks(n uint32) {
	if n < i.nlinkBias() {
		i.Nlink = 0
		i.Flags |= InodeUnlinked
		return
	}
	i.Nlink = n - i.nlinkBias()
	i.Flags &^= InodeUnlinked
}

// DeviceNumber splits Dev. A non-zero number below 2^20 can only be the form
// that the user-space tools store (chapter 04 section 6.1).
func (i *Inode) DeviceNumber() (major, minor uint32) {
	if d := i.Dev; d == 0 || d >= 1<<20 {
		return d >> 20, d & (1<<20 - 1)
	}
	return i.Dev >> 8 & 0xfff, i.Dev&0xff | i.Dev>>12&0xfff00
}

// SetDeviceNumber stores a device number in the kernel's form.
func (i *Inode) SetDeviceNumber(major, minor uint32) { i.Dev = major<<20 | minor&(1<<20-1) }

// inodeFields is the list of varint fields of inode_v3; inodes of the older
// forms have size and sectors after the times. width 96 is a time.
const (
	nrInodeV3Fields   = 28
	nrInodeOldFields  = 25
	inodeV3FixedBytes = 48
)

// field sets or reads the varint field nr of the v3 list.
func (i *Inode) setField(nr int, v uint64) bool {
	u8 := func(p *uint8) bool { *p = uint8(v); return v>>8 == 0 }
	u16 := func(p *uint16) bool { *p = uint16(v); return v>>16 == 0 }
	u32 := func(p *uint32) bool { *p = uint32(v); return v>>32 == 0 }
	switch nr {
	case 0:
		i.Atime = int64(v)
	case 1:
		i.Ctime = int64(v)
	case 2:
		i.Mtime = int64(v)
	case 3:
		i.Otime = int64(v)
	case 4:
		return u32(&i.UID)
	case 5:
		return u32(&i.GID)
	case 6:
		return u32(&i.Nlink)
	case 7:
		return u32(&i.Generation)
	case 8:
		return u32(&i.Dev)
	case 9:
		return u8(&i.DataChecksum)
	case 10:
		return u8(&i.Compression)
	case 11:
		return u32(&i.Project)
	case 12:
		return u8(&i.BackgroundCompression)
	case 13:
		return u8(&i.DataReplicas)
	case 14:
		return u16(&i.PromoteTarget)
	case 15:
		return u16(&i.ForegroundTarget)
	case 16:
		return u16(&i.BackgroundTarget)
	case 17:
		return u16(&i.ErasureCode)
	case 18:
		return u16(&i.FieldsSet)
	case 19:
		i.Dir = v
	case 20:
		i.DirOffset = v
	case 21:
		return u32(&i.Subvol)
	case 22:
		return u32(&i.ParentSubvol)
	case 23:
		return u8(&i.Nocow)
	case 24:
		return u32(&i.Depth)
	case 25:
		return u8(&i.Inodes32bit)
	case 26:
		return u8(&i.Casefold)
	case 27:
		return u8(&i.UnusedECMaxDataBlocks)
	}
	return true
}

func (i *Inode) v3Fields() [nrInodeV3Fields]uint64 {
	return [nrInodeV3Fields]uint64{
		uint64(i.Atime), uint64(i.Ctime), uint64(i.Mtime), uint64(i.Otime),
		uint64(i.UID), uint64(i.GID), uint64(i.Nlink), uint64(i.Generation), uint64(i.Dev),
		uint64(i.DataChecksum), uint64(i.Compression), uint64(i.Project), uint64(i.BackgroundCompression),
		uint64(i.DataReplicas), uint64(i.PromoteTarget), uint64(i.ForegroundTarget), uint64(i.BackgroundTarget),
		uint64(i.ErasureCode), uint64(i.FieldsSet), i.Dir, i.DirOffset, uint64(i.Subvol), uint64(i.ParentSubvol),
		uint64(i.Nocow), uint64(i.Depth), uint64(i.Inodes32bit), uint64(i.Casefold), uint64(i.UnusedECMaxDataBlocks),
	}
}

// DecodeInode reads a key of type inode, inode_v2 or inode_v3. After an error
// the fields before the bad one are set and the rest are zero, as the reference
// leaves them.
func DecodeInode(kv KV) (Inode, error) {
	var i Inode
	v := kv.Val
	if !isInode(kv.Type) {
		return i, errs.Corruptf("bkey_invalid_type_for_btree", "key type %s as an inode", kv.Type)
	}
	if len(v) < kv.Type.MinVal() {
		return i, errs.Corruptf("bkey_val_size_too_small", "%s of %d bytes", kv.Type, len(v))
	}
	le := binary.LittleEndian
	var flags uint64
	switch kv.Type {
	case KeyInodeV3:
		i.JournalSeq, i.HashSeed, flags = le.Uint64(v), le.Uint64(v[8:]), le.Uint64(v[16:])
		i.Sectors, i.Size, i.Version = le.Uint64(v[24:]), le.Uint64(v[32:]), le.Uint64(v[40:])
		i.Mode = uint16(flags >> 36)
		i.Flags = flags & inodeFlagBits
		i.StrHash = uint8(flags >> 20 & 15)
		return i, i.decodeFields(v[inodeV3FixedBytes:], int(flags>>24&127))
	case KeyInodeV2:
		i.JournalSeq, i.HashSeed, flags = le.Uint64(v), le.Uint64(v[8:]), le.Uint64(v[16:])
		i.Mode = le.Uint16(v[24:])
		v = v[26:]
	default:
		i.HashSeed, flags = le.Uint64(v), uint64(le.Uint32(v[8:]))
		i.Mode = le.Uint16(v[12:])
		v = v[14:]
	}
	i.Flags = flags & (1<<20 - 1)
	i.StrHash = uint8(flags >> 20 & 15)
	return i, i.decodeOldFields(v, int(flags>>24&127), kv.Type == KeyInodeV2 || flags>>31&1 != 0)
}

func isInode(t KeyType) bool { return t == KeyInode || t == KeyInodeV2 || t == KeyInodeV3 }

// decodeFields reads the varints of an inode_v3.
func (i *Inode) decodeFields(b []byte, nr int) error {
	for f := 0; f < min(nr, nrInodeV3Fields); f++ {
		v, n := Varint(b)
		b = b[n:]
		if n != 0 && f < 4 { // times have an upper word, always zero
			var hi uint64
			var m int
			if hi, m = Varint(b); hi != 0 || m == 0 {
				n = 0
			}
			b = b[m:]
		}
		if n == 0 || !i.setField(f, v) {
			i.setField(f, 0)
			return errs.Corruptf("inode_unpack_error", "varint field %d of %d", f, nr)
		}
	}
	return nil
}

// decodeOldFields reads the varints of an inode or inode_v2: the same list with
// size and sectors after the times, and no more than 25 fields.
func (i *Inode) decodeOldFields(b []byte, nr int, newVarint bool) error {
	for f := 0; f < min(nr, nrInodeOldFields); f++ {
		var hi, v uint64
		var n int
		if newVarint {
			v, n = Varint(b)
			b = b[n:]
			if n != 0 && f < 4 {
				var m int
				if hi, m = Varint(b); m == 0 {
					n = 0
				}
				b = b[m:]
			}
		} else {
			hi, v, n = oldVarint(b)
			b = b[n:]
		}
		ok := n != 0 && hi == 0
		if ok {
			switch {
			case f < 4:
				i.setField(f, v)
			case f == 4:
				i.Size = v
			case f == 5:
				i.Sectors = v
			default:
				if ok = i.setField(f-2, v); !ok {
					i.setField(f-2, 0)
				}
			}
		}
		if !ok {
			return errs.Corruptf("inode_unpack_error", "varint field %d of %d", f, nr)
		}
	}
	return nil
}

// Append adds the value of an inode_v3 to b: fields after the last non-zero one
// are left out, the end is padded to 8 bytes. The result is a whole number of
// u64s when len(b) is a multiple of 8.
func (i *Inode) Append(b []byte) []byte {
	le := binary.LittleEndian
	start := len(b)
	fields := i.v3Fields()
	nr := nrInodeV3Fields
	for nr > 0 && fields[nr-1] == 0 {
		nr--
	}
	flags := i.Flags&inodeFlagBits | uint64(i.StrHash&15)<<20 | uint64(nr)<<24 | inodeV3FixedBytes/8<<31 | uint64(i.Mode)<<36
	for _, w := range [...]uint64{i.JournalSeq, i.HashSeed, flags, i.Sectors, i.Size, i.Version} {
		b = le.AppendUint64(b, w)
	}
	for f, v := range fields[:nr] {
		b = AppendVarint(b, v)
		if f < 4 {
			b = append(b, 0)
		}
	}
	return pad8(b, start)
}

// pad8 adds zeros until b[start:] is a whole number of u64s.
func pad8(b []byte, start int) []byte {
	for (len(b)-start)%8 != 0 {
		b = append(b, 0)
	}
	return b
}

// DecodeInodeGeneration reads the value of an inode_generation: the generation
// that the next inode of this number gets (obsolete from 1.18 on).
func DecodeInodeGeneration(val []byte) (uint32, error) {
	if len(val) < 8 {
		return 0, errs.Corruptf("bkey_val_size_too_small", "inode_generation of %d bytes", len(val))
	}
	return binary.LittleEndian.Uint32(val), nil
}

// AppendInodeGeneration adds the value of an inode_generation to b.
func AppendInodeGeneration(b []byte, gen uint32) []byte {
	return binary.LittleEndian.AppendUint64(b, uint64(gen))
}
