package ondisk

import (
	"bytes"
	"encoding/binary"

	"github.com/gobcachefs/gobcachefs/errs"
)

// Types of extended attributes (chapter 04 section 7).
const (
	XattrUser       = 0
	XattrACLAccess  = 1 // empty name
	XattrACLDefault = 2 // empty name
	XattrTrusted    = 3
	XattrSecurity   = 4
	NrXattrTypes    = 5
)

var xattrPrefixes = [NrXattrTypes]string{"user.", "system.posix_acl_access", "system.posix_acl_default", "trusted.", "security."}

// Xattr is the value of an xattr key. Name is without the prefix that Type
// stands for. Name and Value alias the value they were decoded from.
type Xattr struct {
	Type        uint8
	Name, Value []byte
}

// Prefix is the prefix that Type stands for, for the ACL types the whole name;
// "" for an unknown type.
func (x Xattr) Prefix() string {
	if x.Type >= NrXattrTypes {
		return ""
	}
	return xattrPrefixes[x.Type]
}

// FullName is the name as a system call shows it, "" for an unknown type.
func (x Xattr) FullName() string {
	if x.Type >= NrXattrTypes {
		return ""
	}
	return xattrPrefixes[x.Type] + string(x.Name)
}

// ParseXattrName splits the name of a system call into type and stored name.
func ParseXattrName(name string) (typ uint8, stored string, ok bool) {
	for t, p := range xattrPrefixes {
		acl := t == XattrACLAccess || t == XattrACLDefault
		if acl && name == p {
			return uint8(t), "", true
		}
		if !acl && len(name) > len(p) && name[:len(p)] == p {
			return uint8(t), name[len(p):], true
		}
	}
	return 0, "", false
}

// DecodeXattr reads a key of type xattr. The lengths must fit the value; the
// type may be one that is not known.
func DecodeXattr(kv KV) (Xattr, error) {
	v := kv.Val
	if len(v) < 8 {
		return Xattr{}, errs.Corruptf("bkey_val_size_too_small", "xattr of %d bytes", len(v))
	}
	n, m := int(v[1]), int(binary.LittleEndian.Uint16(v[2:]))
	if 4+n+m > len(v) {
		return Xattr{}, errs.Corruptf("xattr_val_size_too_small", "name of %d and value of %d bytes in %d", n, m, len(v))
	}
	return Xattr{Type: v[0], Name: v[4 : 4+n : 4+n], Value: v[4+n : 4+n+m : 4+n+m]}, nil
}

// Append adds the value to b; len(b) should be a multiple of 8. Name and Value
// must be at most 255 and 65535 bytes.
func (x Xattr) Append(b []byte) []byte {
	start := len(b)
	b = append(b, x.Type, byte(len(x.Name)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(x.Value)))
	b = append(append(b, x.Name...), x.Value...)
	return pad8(b, start)
}

// check applies the rules of chapter 04 section 7.
func (x Xattr) check(kv KV) error {
	if n := len(x.Name) + len(x.Value); len(kv.Val) > (4+n+4+7)/8*8 {
		return errs.Corruptf("xattr_val_size_too_big", "name of %d and value of %d bytes in %d", len(x.Name), len(x.Value), len(kv.Val))
	}
	if x.Type >= NrXattrTypes {
		return errs.Corruptf("xattr_invalid_type", "type %d", x.Type)
	}
	if bytes.IndexByte(x.Name, 0) >= 0 {
		return errs.Corruptf("xattr_name_invalid_chars", "%q", x.Name)
	}
	return nil
}
