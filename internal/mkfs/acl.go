package mkfs

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
)

// parseACL converts an ACL as text ("user::rwx,user:1000:r--,mask::rwx", with
// commas or newlines, comments, short kinds, and a number as fourth field where
// the second is a name) to the value of the system calls. ok is false when it is
// not understood; a name alone says nothing here.
func parseACL(text string) (value []byte, ok bool) {
	type entry struct {
		tag, perm uint16
		id        uint32
	}
	var all []entry
	for e := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == '\n' }) {
		e, _, _ = strings.Cut(e, "#")
		if e = strings.TrimSpace(e); e == "" {
			continue
		}
		f := strings.Split(e, ":")
		if len(f) == 2 && (f[0] == "mask" || f[0] == "m" || f[0] == "other" || f[0] == "o") {
			f = []string{f[0], "", f[1]} // some writers leave the empty field out
		}
		if len(f) < 3 || len(f) > 4 {
			return nil, false
		}
		x := entry{id: 0xffffffff}
		named := f[1] != ""
		switch f[0] {
		case "user", "u":
			x.tag = 1
		case "group", "g":
			x.tag = 4
		case "mask", "m":
			x.tag = 0x10
		case "other", "o":
			x.tag = 0x20
		default:
			return nil, false
		}
		if named {
			if x.tag > 4 {
				return nil, false
			}
			x.tag *= 2
			id := f[1]
			if len(f) == 4 {
				id = f[3]
			}
			n, err := strconv.ParseUint(id, 10, 32)
			if err != nil {
				return nil, false
			}
			x.id = uint32(n)
		}
		for _, c := range strings.TrimSpace(f[2]) {
			switch c {
			case 'r':
				x.perm |= 4
			case 'w':
				x.perm |= 2
			case 'x':
				x.perm |= 1
			case '-':
			default:
				return nil, false
			}
		}
		all = append(all, x)
	}
	if len(all) == 0 {
		return nil, false
	}
	slices.SortStableFunc(all, func(a, b entry) int { return cmp.Or(cmp.Compare(a.tag, b.tag), cmp.Compare(a.id, b.id)) })
	value = binary.LittleEndian.AppendUint32(nil, 2)
	for _, x := range all {
		value = binary.LittleEndian.AppendUint16(value, x.tag)
		value = binary.LittleEndian.AppendUint16(value, x.perm)
		value = binary.LittleEndian.AppendUint32(value, x.id)
	}
	return value, true
}
