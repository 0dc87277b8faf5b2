package ondisk

import (
	"bytes"
	"encoding/binary"
	"math/bits"

	"github.com/gobcachefs/gobcachefs/errs"
)

// Types of directory entries: (st_mode >> 12) & 15, and DTSubvol.
const (
	DTUnknown = 0
	DTFifo    = 1
	DTChar    = 2
	DTDir     = 4
	DTBlock   = 6
	DTRegular = 8
	DTSymlink = 10
	DTSocket  = 12
	DTSubvol  = 16 // the target is a subvolume
)

// NameMax is the longest name on disk in bytes. (A Linux mount takes 255.)
const NameMax = 512

// Dirent is the value of a dirent key (chapter 04 section 2). Name and CfName
// alias the value they were decoded from.
type Dirent struct {
	Type uint8 // DT…
	// Inum is the target; with Type DTSubvol the target is ChildSubvol, and the
	// entry is visible only through ParentSubvol.
	Inum                      uint64
	ChildSubvol, ParentSubvol uint32
	Casefold                  bool   // CfName is set, and is what is hashed
	Name, CfName              []byte // as given by the user, and folded
}

// HashedName is the name that the hash and comparisons are about.
func (d Dirent) HashedName() []byte {
	if d.Casefold {
		return d.CfName
	}
	return d.Name
}

// Places in the value.
const (
	direntName    = 9  // plain
	direntCfLens  = 11 // casefolded: two lengths,
	direntCfNames = 15 // then both names; the compiler padded the block
)

// DecodeDirent reads a key of type dirent. It checks lengths and types; what
// makes a bad name is for CheckKey.
func DecodeDirent(kv KV) (Dirent, error) {
	v := kv.Val
	if len(v) < 16 {
		return Dirent{}, errs.Corruptf("bkey_val_size_too_small", "dirent of %d bytes", len(v))
	}
	d := Dirent{Type: v[8] & 31, Casefold: v[8]&128 != 0}
	if d.Type == DTSubvol {
		d.ChildSubvol, d.ParentSubvol = binary.LittleEndian.Uint32(v), binary.LittleEndian.Uint32(v[4:])
	} else {
		d.Inum = binary.LittleEndian.Uint64(v)
	}
	if !d.Casefold {
		n := len(v) - direntName - bits.LeadingZeros64(binary.LittleEndian.Uint64(v[len(v)-8:]))/8
		d.Name = v[direntName:max(direntName+n, direntName):len(v)]
		return d, nil
	}
	n, c := int(binary.LittleEndian.Uint16(v[direntCfLens:])), int(binary.LittleEndian.Uint16(v[direntCfLens+2:]))
	if n+c > len(v)-direntCfNames {
		return d, errs.Corruptf("dirent_cf_name_too_big", "names of %d and %d bytes in a value of %d", n, c, len(v))
	}
	d.Name = v[direntCfNames : direntCfNames+n : direntCfNames+n]
	d.CfName = v[direntCfNames+n : direntCfNames+n+c : direntCfNames+n+c]
	return d, nil
}

// Append adds the value to b; len(b) should be a multiple of 8.
func (d Dirent) Append(b []byte) []byte {
	start := len(b)
	if d.Type == DTSubvol {
		b = binary.LittleEndian.AppendUint32(b, d.ChildSubvol)
		b = binary.LittleEndian.AppendUint32(b, d.ParentSubvol)
	} else {
		b = binary.LittleEndian.AppendUint64(b, d.Inum)
	}
	if !d.Casefold {
		b = append(b, d.Type&31)
		return pad8(append(b, d.Name...), start)
	}
	b = append(b, d.Type&31|128, 0, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(d.Name)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(d.CfName)))
	b = append(append(b, d.Name...), d.CfName...)
	return pad8(b, start)
}

// check applies the rules of chapter 04 section 2.1 that need only the key.
func (d Dirent) check(kv KV) error {
	name := d.Name
	switch {
	case len(name) == 0:
		return errs.Corruptf("dirent_empty_name", "empty name")
	case bytes.IndexByte(name, 0) >= 0 || bytes.IndexByte(d.CfName, 0) >= 0:
		return errs.Corruptf("dirent_name_embedded_nul", "%q", name)
	case len(name) == 1 && name[0] == '.' || len(name) == 2 && name[0] == '.' && name[1] == '.':
		return errs.Corruptf("dirent_name_dot_or_dotdot", "%q", name)
	case bytes.IndexByte(name, '/') >= 0:
		return errs.Corruptf("dirent_name_has_slash", "%q", name)
	case d.Type != DTSubvol && d.Inum == kv.Pos.Inode:
		return errs.Corruptf("dirent_to_itself", "%q", name)
	}
	if d.Casefold {
		end := direntCfNames + len(d.Name) + len(d.CfName)
		if len(bytes.TrimLeft(kv.Val[end:], "\x00")) != 0 {
			return errs.Corruptf("dirent_stray_data_after_cf_name", "%d bytes after the names", len(kv.Val)-end)
		}
	}
	return nil
}
