package objects

import (
	"encoding/binary"
	"syscall"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// aclFromXattr reads the value of a system.posix_acl_* attribute: version 2,
// entries of 8 bytes, in the order that the system checks for. No entries are no
// ACL.
func aclFromXattr(b []byte) ([]ondisk.ACLEntry, error) {
	le := binary.LittleEndian
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) < 4 || (len(b)-4)%8 != 0 {
		return nil, syscall.EINVAL
	}
	if le.Uint32(b) != 2 {
		return nil, syscall.EOPNOTSUPP
	}
	var acl []ondisk.ACLEntry
	for b = b[4:]; len(b) > 0; b = b[8:] {
		e := ondisk.ACLEntry{Tag: ondisk.ACLTag(le.Uint16(b)), Perm: le.Uint16(b[2:])}
		if e.Tag == ondisk.ACLUser || e.Tag == ondisk.ACLGroup {
			e.ID = le.Uint32(b[4:])
		}
		acl = append(acl, e)
	}
	return acl, validACL(acl)
}

// validACL checks an ACL as acl_valid(3) does: one entry each for owner, group
// and others, a mask if anybody is named, all in the order of the tags.
func validACL(acl []ondisk.ACLEntry) error {
	if len(acl) == 0 {
		return nil
	}
	// The order of tags; named ones may repeat.
	order := []ondisk.ACLTag{ondisk.ACLUserObj, ondisk.ACLUser, ondisk.ACLGroupObj, ondisk.ACLGroup, ondisk.ACLMask, ondisk.ACLOther}
	var seen [6]int
	at := 0
	for _, e := range acl {
		for at < len(order) && order[at] != e.Tag {
			at++
		}
		if at == len(order) || e.Perm > 7 {
			return syscall.EINVAL
		}
		seen[at]++
		named := e.Tag == ondisk.ACLUser || e.Tag == ondisk.ACLGroup
		if !named {
			at++
		} else if e.ID == ^uint32(0) {
			return syscall.EINVAL
		}
	}
	if seen[0] != 1 || seen[2] != 1 || seen[5] != 1 || seen[1]+seen[3] > 0 && seen[4] != 1 {
		return syscall.EINVAL
	}
	return nil
}

// aclMode is the permission bits that an access ACL implies; extended says that
// it tells more than those.
func aclMode(acl []ondisk.ACLEntry) (perm uint16, extended bool) {
	var group, mask uint16
	hasMask := false
	for _, e := range acl {
		switch e.Tag {
		case ondisk.ACLUserObj:
			perm |= e.Perm << 6
		case ondisk.ACLGroupObj:
			group = e.Perm
		case ondisk.ACLOther:
			perm |= e.Perm
		case ondisk.ACLMask:
			mask, hasMask, extended = e.Perm, true, true
		default:
			extended = true
		}
	}
	if hasMask {
		group = mask
	}
	return perm | group<<3, extended
}

// readACL reads a stored ACL in the transaction; nil if there is none.
func (o *op) readACL(inum uint64, in *ondisk.Inode, typ uint8) (acl []ondisk.ACLEntry, slot uint64, err error) {
	slot, found, err := o.findXattr(inum, in, typ, "")
	if err != nil || !found {
		return nil, slot, err
	}
	kv, ok, err := o.tx.GetVisible(ondisk.BtreeXattrs, o.v, inum, slot)
	if err != nil || !ok {
		return nil, slot, err
	}
	x, err := ondisk.DecodeXattr(kv)
	if err == nil {
		acl, err = ondisk.DecodeACL(x.Value)
	}
	if err == nil && validACL(acl) != nil {
		err = errs.Corruptf("xattr_acl_invalid", "entries that make no sense")
	}
	return acl, slot, errs.At(err, xattrPlace(kv))
}

// writeACL stores an ACL at the slot that readACL gave.
func (o *op) writeACL(inum, slot uint64, typ uint8, acl []ondisk.ACLEntry) {
	x := ondisk.Xattr{Type: typ, Value: ondisk.AppendACL(nil, acl)}
	o.tx.Set(ondisk.BtreeXattrs, ondisk.KV{Key: ondisk.Key{Pos: ondisk.Pos{Inode: inum, Offset: slot, Snapshot: o.v.ID}, Type: ondisk.KeyXattr}, Val: x.Append(nil)})
}

// chmod changes the mode, and the access ACL with it if there is one. The caller
// stores the inode.
func (o *op) chmod(inum uint64, in *ondisk.Inode, mode uint16) error {
	in.Mode = in.Mode&ondisk.ModeTypeMask | mode&^ondisk.ModeTypeMask
	acl, slot, err := o.readACL(inum, in, ondisk.XattrACLAccess)
	if err != nil || acl == nil {
		return err
	}
	hasMask := false
	for _, e := range acl {
		hasMask = hasMask || e.Tag == ondisk.ACLMask
	}
	for i := range acl {
		switch e := &acl[i]; {
		case e.Tag == ondisk.ACLUserObj:
			e.Perm = mode >> 6 & 7
		case e.Tag == ondisk.ACLMask, e.Tag == ondisk.ACLGroupObj && !hasMask:
			e.Perm = mode >> 3 & 7
		case e.Tag == ondisk.ACLOther:
			e.Perm = mode & 7
		}
	}
	o.writeACL(inum, slot, ondisk.XattrACLAccess, acl)
	return nil
}

// inheritPosix gives a new inode what its directory says of new files: group and
// ACLs (chapter 04 sections 7.1 and 12).
func (o *op) inheritPosix(inum uint64, in *ondisk.Inode, dirNum uint64, dir *ondisk.Inode, umask uint16) error {
	const setgid = 0o2000
	if dir.Mode&setgid != 0 {
		in.GID = dir.GID
		if in.IsDir() {
			in.Mode |= setgid
		}
	}
	if in.IsSymlink() {
		return nil
	}
	acl, _, err := o.readACL(dirNum, dir, ondisk.XattrACLDefault)
	if err != nil {
		return err
	}
	if acl == nil {
		in.Mode &^= umask & 0o777
		return nil
	}
	put := func(typ uint8, acl []ondisk.ACLEntry) error {
		slot, _, err := o.findXattr(inum, in, typ, "")
		if err == nil {
			o.writeACL(inum, slot, typ, acl)
		}
		return err
	}
	if in.IsDir() {
		if err := put(ondisk.XattrACLDefault, acl); err != nil {
			return err
		}
	}
	// Owner, group (or mask) and others get no more than the mode asks for.
	hasMask := false
	for _, e := range acl {
		hasMask = hasMask || e.Tag == ondisk.ACLMask
	}
	access := append([]ondisk.ACLEntry(nil), acl...)
	for i := range access {
		switch e := &access[i]; {
		case e.Tag == ondisk.ACLUserObj:
			e.Perm &= in.Mode >> 6 & 7
		case e.Tag == ondisk.ACLMask, e.Tag == ondisk.ACLGroupObj && !hasMask:
			e.Perm &= in.Mode >> 3 & 7
		case e.Tag == ondisk.ACLOther:
			e.Perm &= in.Mode & 7
		}
	}
	perm, extended := aclMode(access)
	in.Mode = in.Mode&^0o777 | perm
	if extended {
		return put(ondisk.XattrACLAccess, access)
	}
	return nil
}
