package objects

import (
	"context"
	"encoding/binary"
	"strings"
	"syscall"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/strhash"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Prefixes of the virtual attributes that show the options of an inode.
const (
	optPrefix       = "bcachefs."
	effectivePrefix = "bcachefs_effective."
)

// Xattrs lists the names of the extended attributes of a file: the stored ones
// and, after them, the options set on it as bcachefs.* and bcachefs_effective.*.
func (f *FS) Xattrs(ctx context.Context, id ID, in *ondisk.Inode) ([]string, error) {
	v, err := f.Snapshots().View(id.Subvol)
	if err != nil {
		return nil, err
	}
	var names []string
	w := f.trees.Visible(ctx, ondisk.BtreeXattrs, v, ondisk.Pos{Inode: id.Inum}, ondisk.Pos{Inode: id.Inum, Offset: ^uint64(0)})
	for {
		kv, ok := w.Next()
		f.suspects.note(id.Inum, w.Suspect())
		if !ok {
			break
		}
		if kv.Type != ondisk.KeyXattr {
			continue
		}
		x, err := ondisk.DecodeXattr(kv)
		if err != nil {
			return names, errs.At(err, xattrPlace(kv))
		}
		if n := x.FullName(); n != "" { // a type of the future has no name
			names = append(names, n)
		}
	}
	for _, prefix := range []string{optPrefix, effectivePrefix} {
		for o := range ondisk.NrInodeOpts {
			if _, ok := optValue(f, in, o, prefix); ok {
				names = append(names, prefix+ondisk.InodeOption(o).Name)
			}
		}
	}
	return names, w.Err()
}

func xattrPlace(kv ondisk.KV) errs.Where {
	w := direntPlace(kv)
	w.Btree = int(ondisk.BtreeXattrs)
	return w
}

// Xattr reads an extended attribute. POSIX ACLs come in the form of the system
// calls, not as they are stored. The error is ENODATA when there is none.
func (f *FS) Xattr(ctx context.Context, id ID, in *ondisk.Inode, name string) ([]byte, error) {
	for _, prefix := range []string{optPrefix, effectivePrefix} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			for o := range ondisk.NrInodeOpts {
				if ondisk.InodeOption(o).Name == rest {
					if s, ok := optValue(f, in, o, prefix); ok {
						return []byte(s), nil
					}
				}
			}
			return nil, errs.NoData
		}
	}
	typ, stored, ok := ondisk.ParseXattrName(name)
	if !ok {
		return nil, syscall.ENOTSUP
	}
	v, err := f.Snapshots().View(id.Subvol)
	if err != nil {
		return nil, err
	}
	slot := strhash.Xattr(in.StrHash, in.HashSeed, typ, []byte(stored))
	w := f.trees.Visible(ctx, ondisk.BtreeXattrs, v, ondisk.Pos{Inode: id.Inum, Offset: slot}, ondisk.Pos{Inode: id.Inum, Offset: ^uint64(0)})
	for {
		kv, ok := w.Next()
		f.suspects.note(id.Inum, w.Suspect())
		if !ok || kv.Pos.Offset != slot {
			if err := w.Err(); err != nil {
				return nil, err
			}
			return nil, errs.NoData
		}
		slot++
		if kv.Type != ondisk.KeyXattr {
			continue
		}
		x, err := ondisk.DecodeXattr(kv)
		if err != nil {
			return nil, errs.At(err, xattrPlace(kv))
		}
		if x.Type != typ || string(x.Name) != stored {
			continue
		}
		if typ == ondisk.XattrACLAccess || typ == ondisk.XattrACLDefault {
			b, err := aclToXattr(x.Value)
			return b, errs.At(err, xattrPlace(kv))
		}
		return x.Value, nil
	}
}

// optValue is the text of an inode option, if it is set (optPrefix) or set or
// inherited (effectivePrefix).
func optValue(f *FS, in *ondisk.Inode, o int, prefix string) (string, bool) {
	v := in.Opt(o)
	if v == 0 || prefix == optPrefix && in.FieldsSet>>o&1 == 0 {
		return "", false
	}
	return ondisk.InodeOption(o).Format(v-1, f.set.SB.TargetString), true
}

// Tags of POSIX ACL entries that carry an id.
const (
	aclUser  = 2
	aclGroup = 8
)

// aclToXattr converts a stored ACL (chapter 04 section 7.1) to the value of the
// system.posix_acl_* attributes: version 2, entries of 8 bytes.
func aclToXattr(b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) < 4 || binary.LittleEndian.Uint32(b) != 1 {
		return nil, &errs.Error{Where: errs.Nowhere, Kind: syscall.EINVAL, Reason: "bad ACL version"}
	}
	out := binary.LittleEndian.AppendUint32(nil, 2)
	for b = b[4:]; len(b) > 0; {
		if len(b) < 4 {
			return nil, &errs.Error{Where: errs.Nowhere, Kind: syscall.EINVAL, Reason: "ACL entry cut short"}
		}
		tag, perm := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:])
		id, n := ^uint32(0), 4
		switch tag {
		case aclUser, aclGroup:
			if len(b) < 8 {
				return nil, &errs.Error{Where: errs.Nowhere, Kind: syscall.EINVAL, Reason: "ACL entry cut short"}
			}
			id, n = binary.LittleEndian.Uint32(b[4:]), 8
		case 1, 4, 0x10, 0x20:
		default:
			return nil, &errs.Error{Where: errs.Nowhere, Kind: syscall.EINVAL, Reason: "unknown ACL tag"}
		}
		out = binary.LittleEndian.AppendUint16(out, tag)
		out = binary.LittleEndian.AppendUint16(out, perm)
		out = binary.LittleEndian.AppendUint32(out, id)
		b = b[n:]
	}
	return out, nil
}
