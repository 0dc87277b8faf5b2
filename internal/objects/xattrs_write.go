package objects

import (
	"syscall"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/strhash"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Flags of setxattr(2).
const (
	XattrCreate  = 1
	XattrReplace = 2
)

// setXattr stores an attribute; the caller stores the inode. An ACL that says no
// more than the mode is stored as none.
func (o *op) setXattr(inum uint64, in *ondisk.Inode, name string, value []byte, flags int) error {
	typ, stored, ok := ondisk.ParseXattrName(name)
	if !ok {
		return syscall.ENOTSUP
	}
	if typ == ondisk.XattrACLAccess || typ == ondisk.XattrACLDefault {
		if typ == ondisk.XattrACLDefault && !in.IsDir() {
			return syscall.EACCES
		}
		acl, err := aclFromXattr(value)
		if err != nil {
			return err
		}
		extended := true
		if typ == ondisk.XattrACLAccess && acl != nil {
			var perm uint16
			perm, extended = aclMode(acl)
			in.Mode = in.Mode&^0o777 | perm
		}
		if acl == nil || !extended {
			err := o.removeXattr(inum, in, name)
			if err == errs.NoData {
				err = nil
			}
			return err
		}
		value = ondisk.AppendACL(nil, acl)
	}
	if len(stored) > 255 || len(value) > 1<<16-1 || 4+len(stored)+len(value) > ondisk.MaxValBytes {
		return syscall.ERANGE
	}
	slot, found, err := o.findXattr(inum, in, typ, stored)
	if err != nil {
		return err
	}
	switch {
	case found && flags&XattrCreate != 0:
		return syscall.EEXIST
	case !found && flags&XattrReplace != 0:
		return errs.NoData
	}
	x := ondisk.Xattr{Type: typ, Name: []byte(stored), Value: value}
	o.tx.Set(ondisk.BtreeXattrs, ondisk.KV{Key: ondisk.Key{Pos: ondisk.Pos{Inode: inum, Offset: slot, Snapshot: o.v.ID}, Type: ondisk.KeyXattr}, Val: x.Append(nil)})
	return nil
}

// findXattr gives the slot of an attribute, or the one where it would go.
func (o *op) findXattr(inum uint64, in *ondisk.Inode, typ uint8, name string) (slot uint64, found bool, err error) {
	at := strhash.Xattr(in.StrHash, in.HashSeed, typ, []byte(name))
	free, haveFree := at, false
	w := o.tx.Visible(ondisk.BtreeXattrs, o.v, ondisk.Pos{Inode: inum, Offset: at}, ondisk.Pos{Inode: inum, Offset: ^uint64(0)})
	for {
		k, ok := w.Next()
		if err := w.Err(); err != nil {
			return 0, false, err
		}
		if !ok || k.Pos.Offset != at {
			if !haveFree {
				free = at
			}
			return free, false, nil
		}
		if k.Type == ondisk.KeyXattr {
			x, err := ondisk.DecodeXattr(k)
			if err != nil {
				return 0, false, errs.At(err, xattrPlace(k))
			}
			if x.Type == typ && string(x.Name) == name {
				return at, true, nil
			}
		} else if !haveFree {
			free, haveFree = at, true
		}
		at++
	}
}

// removeXattr removes an attribute; the caller stores the inode.
func (o *op) removeXattr(inum uint64, in *ondisk.Inode, name string) error {
	typ, stored, ok := ondisk.ParseXattrName(name)
	if !ok {
		return syscall.ENOTSUP
	}
	slot, found, err := o.findXattr(inum, in, typ, stored)
	if err != nil {
		return err
	}
	if !found {
		return errs.NoData
	}
	return o.delHashed(ondisk.BtreeXattrs, inum, slot, func(k ondisk.KV) (uint64, bool) {
		x, err := ondisk.DecodeXattr(k)
		if k.Type != ondisk.KeyXattr || err != nil {
			return 0, false
		}
		return strhash.Xattr(in.StrHash, in.HashSeed, x.Type, x.Name), true
	})
}
