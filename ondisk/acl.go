package ondisk

import (
	"encoding/binary"
	"strconv"

	"github.com/gobcachefs/gobcachefs/errs"
)

// ACLTag says whom an entry of an ACL is about.
type ACLTag uint16

// Tags, the numbers of the generic POSIX ACL.
const (
	ACLUserObj  ACLTag = 0x01
	ACLUser     ACLTag = 0x02
	ACLGroupObj ACLTag = 0x04
	ACLGroup    ACLTag = 0x08
	ACLMask     ACLTag = 0x10
	ACLOther    ACLTag = 0x20
)

// String is the name of the tag.
func (t ACLTag) String() string {
	switch t {
	case ACLUserObj:
		return "user_obj"
	case ACLUser:
		return "user"
	case ACLGroupObj:
		return "group_obj"
	case ACLGroup:
		return "group"
	case ACLMask:
		return "mask"
	case ACLOther:
		return "other"
	}
	return "(invalid tag " + strconv.Itoa(int(t)) + ")"
}

// hasID: the entry names a user or group.
func (t ACLTag) hasID() bool { return t == ACLUser || t == ACLGroup }

// ACLEntry is one entry of an ACL.
type ACLEntry struct {
	Tag  ACLTag
	Perm uint16 // rwx bits
	ID   uint32 // of ACLUser and ACLGroup
}

// aclVersion is the version of the stored form; the one of the xattr that Linux
// shows is 2, with entries of another size.
const aclVersion = 1

// DecodeACL reads the value of an xattr of type XattrACLAccess or
// XattrACLDefault (chapter 04 section 7.1).
func DecodeACL(v []byte) ([]ACLEntry, error) {
	le := binary.LittleEndian
	if len(v) < 4 || le.Uint32(v) != aclVersion {
		return nil, errs.Corruptf("xattr_acl_invalid", "%d bytes, % x", len(v), v[:min(len(v), 4)])
	}
	var a []ACLEntry
	for v = v[4:]; len(v) > 0; {
		if len(v) < 4 {
			return a, errs.Corruptf("xattr_acl_invalid", "%d bytes left", len(v))
		}
		e := ACLEntry{Tag: ACLTag(le.Uint16(v)), Perm: le.Uint16(v[2:])}
		n := 4
		switch e.Tag {
		case ACLUserObj, ACLGroupObj, ACLMask, ACLOther:
		case ACLUser, ACLGroup:
			if n = 8; len(v) < n {
				return a, errs.Corruptf("xattr_acl_invalid", "%d bytes left", len(v))
			}
			e.ID = le.Uint32(v[4:])
		default:
			return a, errs.Corruptf("xattr_acl_invalid", "tag %d", e.Tag)
		}
		a, v = append(a, e), v[n:]
	}
	return a, nil
}

// AppendACL adds the stored form of an ACL to b.
func AppendACL(b []byte, a []ACLEntry) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, aclVersion)
	for _, e := range a {
		b = le.AppendUint16(le.AppendUint16(b, uint16(e.Tag)), e.Perm)
		if e.Tag.hasID() {
			b = le.AppendUint32(b, e.ID)
		}
	}
	return b
}
