package cli

import (
	"strconv"
	"strings"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// modeChange is a MODE of chmod: an octal number, or clauses that change what
// there is.
type modeChange struct {
	octal   bool
	value   uint32
	special bool // the number says of setuid and setgid of directories, too
	clauses []modeClause
}

// modeClause is WHO OP PERMISSIONS.
type modeClause struct {
	who  uint32 // bits that may change
	op   byte   // + - =
	bits uint32 // of all three classes
	x    bool   // X: x for directories and what is executable already
	copy byte   // u, g, o: the permissions of that class
	all  bool   // no WHO was given: the umask counts
}

// parseMode reads a mode: octal, or [ugoa]*([-+=]([rwxXst]*|[ugo]))+ with commas
// between.
func parseMode(s string) (*modeChange, error) {
	bad := func() error { return usageErr("mode %q: must be octal or like u+rw,g=u,o-x", s) }
	if s != "" && s[0] >= '0' && s[0] <= '9' {
		v, err := strconv.ParseUint(s, 8, 32)
		if err != nil || v > 0o7777 {
			return nil, bad()
		}
		return &modeChange{octal: true, value: uint32(v), special: len(s) >= 5}, nil
	}
	m := &modeChange{}
	for _, c := range strings.Split(s, ",") {
		var who uint32
		i := 0
		for ; i < len(c) && strings.IndexByte("ugoa", c[i]) >= 0; i++ {
			who |= map[byte]uint32{'u': 0o4700, 'g': 0o2070, 'o': 0o1007, 'a': 0o7777}[c[i]]
		}
		all := i == 0
		if all {
			who = 0o7777
		}
		if i == len(c) {
			return nil, bad()
		}
		for i < len(c) {
			k := modeClause{who: who, op: c[i], all: all}
			if strings.IndexByte("+-=", c[i]) < 0 {
				return nil, bad()
			}
			i++
			if i < len(c) && strings.IndexByte("ugo", c[i]) >= 0 {
				k.copy = c[i]
				i++
			} else {
				for ; i < len(c) && strings.IndexByte("+-=", c[i]) < 0; i++ {
					switch c[i] {
					case 'r':
						k.bits |= 0o444
					case 'w':
						k.bits |= 0o222
					case 'x':
						k.bits |= 0o111
					case 'X':
						k.x = true
					case 's':
						k.bits |= 0o6000
					case 't':
						k.bits |= 0o1000
					default:
						return nil, bad()
					}
				}
			}
			m.clauses = append(m.clauses, k)
		}
	}
	return m, nil
}

// apply gives the new permissions of a file with a mode. As chmod(1) has it, a
// number leaves setuid and setgid of directories unless it has five digits.
func (m *modeChange) apply(mode uint32) uint32 {
	dir := mode&ondisk.ModeTypeMask == ondisk.ModeDir
	perm := mode & 0o7777
	if m.octal {
		if dir && !m.special {
			return m.value | perm&0o6000
		}
		return m.value
	}
	for _, c := range m.clauses {
		bits := c.bits
		if c.x && (dir || perm&0o111 != 0) {
			bits |= 0o111
		}
		if c.copy != 0 {
			class := perm >> map[byte]uint{'u': 6, 'g': 3, 'o': 0}[c.copy] & 7
			bits = class<<6 | class<<3 | class
		}
		who := c.who
		if c.all {
			who &^= umask // no WHO: what the umask keeps back stays back
			if bits&0o1000 == 0 {
				who &^= 0o1000
			}
		}
		bits &= who
		switch c.op {
		case '+':
			perm |= bits
		case '-':
			perm &^= bits
		case '=':
			clear := c.who &^ 0o7000
			if c.all {
				clear = 0o777
			}
			clear |= c.who & 0o7000 &^ 0o1000
			if c.who&0o1007 == 0o1007 || c.bits&0o1000 != 0 {
				clear |= c.who & 0o1000
			}
			if dir {
				clear &^= 0o6000 &^ c.bits // directories keep them unless they are named
			}
			perm = perm&^clear | bits
		}
	}
	return perm
}
