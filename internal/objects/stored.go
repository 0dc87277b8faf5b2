package objects

import (
	"context"
	"errors"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// StoredXattrs calls yield with the extended attributes stored with an inode,
// in the order of their slots: full name and value, POSIX ACLs in the form of
// the system calls. What cannot be read is passed over; then the error tells.
// The value must not be changed.
func (f *FS) StoredXattrs(ctx context.Context, id ID, yield func(name string, value []byte)) error {
	v, err := f.Snapshots().View(id.Subvol)
	if err != nil {
		return err
	}
	var bad []error
	w := f.trees.Visible(ctx, ondisk.BtreeXattrs, v, ondisk.Pos{Inode: id.Inum}, ondisk.Pos{Inode: id.Inum, Offset: ^uint64(0)})
	for {
		kv, ok := w.Next()
		f.suspects.note(id.Inum, w.Suspect())
		if !ok {
			err := w.Err()
			if err != nil {
				bad = append(bad, err)
			}
			if err != nil && isDamage(err) && w.SkipDamage() {
				continue
			}
			return errors.Join(bad...)
		}
		if kv.Type != ondisk.KeyXattr {
			continue
		}
		x, err := ondisk.DecodeXattr(kv)
		if err == nil && x.FullName() == "" {
			continue // a type of the future has no name that a system call could show
		}
		value := x.Value
		if err == nil && (x.Type == ondisk.XattrACLAccess || x.Type == ondisk.XattrACLDefault) {
			value, err = aclToXattr(x.Value)
		}
		if err != nil {
			bad = append(bad, errs.At(err, xattrPlace(kv)))
			continue
		}
		yield(x.FullName(), value)
	}
}
