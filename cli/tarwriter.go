package cli

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// tarWriter writes a POSIX.1-2001 (PAX) archive. archive/tar cannot: it writes no
// sparse files and no names that are not UTF-8.
type tarWriter struct {
	w    io.Writer
	size int64 // bytes written
	left int64 // bytes of the current member that are still to come
	pad  int64 // zeros after them
	hdr  []byte
	recs []byte
}

// tarMember is a member of an archive.
type tarMember struct {
	name   string // without the slash of directories
	typ    byte   // type flag
	link   string // target of a symlink, or name of the member that a hard link is to
	attr   *bcachefs.Attr
	xattrs []bcachefs.Xattr
	// size is that of the file. If sparse is set, only its ranges are in the
	// archive; each of them starts and ends at a multiple of 512, or at the end
	// of the file.
	size   int64
	sparse bool
	ranges []bcachefs.DataRange
}

// Type flags.
const (
	tarRegular  = '0'
	tarHardLink = '1'
	tarSymlink  = '2'
	tarChar     = '3'
	tarBlock    = '4'
	tarDir      = '5'
	tarFifo     = '6'
	tarExtended = 'x'
)

const (
	tarBlockSize  = 512
	tarRecordSize = 20 * tarBlockSize
)

// header starts a member: the caller then writes the bytes of a regular file
// (of its ranges if it is sparse) with data.
func (t *tarWriter) header(m *tarMember) error {
	if t.left != 0 {
		return fmt.Errorf("tar: %d bytes of the last member missing", t.left) // a bug of the caller
	}
	name := m.name
	if m.typ == tarDir {
		name += "/"
	}
	stored := m.size // bytes in the archive
	var sparseMap []byte
	t.recs = t.recs[:0]
	short := name
	if m.sparse {
		stored = 0
		for _, r := range m.ranges {
			stored += int64(r.End - r.Start)
		}
		sparseMap = tarSparseMap(m.ranges, m.size)
		stored += int64(len(sparseMap))
		t.record("GNU.sparse.major", "1")
		t.record("GNU.sparse.minor", "0")
		t.record("GNU.sparse.name", name)
		t.record("GNU.sparse.realsize", strconv.FormatInt(m.size, 10))
		dir, base := splitPath(name)
		short = dir + "GNUSparseFile.0/" + base
	}
	h := t.block()
	if !t.name(h, short, m.sparse) {
		t.record("path", name)
	}
	if len(m.link) > 100 || utf8.ValidString(m.link) && !isASCII(m.link) {
		t.record("linkpath", m.link)
	}
	copy(h[157:257], m.link)
	if !utf8.Valid(t.recs) {
		// Only names are left that no other field can hold; values come later.
		t.recs = append(tarRecord(nil, "hdrcharset", "BINARY"), t.recs...)
	}
	a := m.attr
	tarOctal(h[100:108], uint64(a.Mode&0o7777))
	t.number(h[108:116], "uid", uint64(a.UID))
	t.number(h[116:124], "gid", uint64(a.GID))
	t.number(h[124:136], "size", uint64(stored))
	t.time(h[136:148], "mtime", a.Mtime)
	t.time(nil, "atime", a.Atime)
	t.time(nil, "ctime", a.Ctime)
	h[156] = m.typ
	if m.typ == tarChar || m.typ == tarBlock {
		if !tarOctal(h[329:337], uint64(a.RdevMajor)) || !tarOctal(h[337:345], uint64(a.RdevMinor)) {
			return fmt.Errorf("device number %d:%d does not fit a tar archive", a.RdevMajor, a.RdevMinor)
		}
	}
	for _, x := range m.xattrs {
		t.recs = tarRecord(t.recs, "SCHILY.xattr."+tarXattrName(x.Name), string(x.Value))
		if k, ok := tarACLs[x.Name]; ok {
			if s, ok := aclText(x.Value); ok {
				t.record(k, s)
			}
		}
	}
	if len(t.recs) > 0 {
		if err := t.extended(name); err != nil {
			return err
		}
	}
	tarSum(h)
	if err := t.write(h); err != nil {
		return err
	}
	t.left, t.pad = stored, (tarBlockSize-stored%tarBlockSize)%tarBlockSize
	if len(sparseMap) > 0 {
		return t.data(sparseMap)
	}
	return t.end()
}

// extended writes the records as a member of their own, before the member
// that they are about.
func (t *tarWriter) extended(name string) error {
	x := make([]byte, tarBlockSize)
	_, base := splitPath(name)
	copy(x[:100], "PaxHeaders/"+base)
	tarOctal(x[100:108], 0o644)
	tarOctal(x[108:116], 0)
	tarOctal(x[116:124], 0)
	if !tarOctal(x[124:136], uint64(len(t.recs))) {
		return fmt.Errorf("%d bytes of attributes do not fit a tar archive", len(t.recs))
	}
	tarOctal(x[136:148], 0)
	x[156] = tarExtended
	copy(x[257:], "ustar\x0000")
	tarSum(x)
	if err := t.write(x); err != nil {
		return err
	}
	n := (tarBlockSize - len(t.recs)%tarBlockSize) % tarBlockSize
	t.recs = append(t.recs, make([]byte, n)...)
	return t.write(t.recs)
}

// data writes bytes of the current member.
func (t *tarWriter) data(p []byte) error {
	if int64(len(p)) > t.left {
		return fmt.Errorf("tar: %d bytes too many for the member", int64(len(p))-t.left) // a bug of the caller
	}
	t.left -= int64(len(p))
	if err := t.write(p); err != nil {
		return err
	}
	return t.end()
}

var tarZeros [256 << 10]byte

// zeros writes n zero bytes of the current member.
func (t *tarWriter) zeros(n int64) error {
	for n > 0 {
		k := min(n, int64(len(tarZeros)))
		if err := t.data(tarZeros[:k]); err != nil {
			return err
		}
		n -= k
	}
	return nil
}

// end pads a finished member.
func (t *tarWriter) end() error {
	if t.left > 0 || t.pad == 0 {
		return nil
	}
	n := t.pad
	t.pad = 0
	return t.write(tarZeros[:n])
}

// close ends the archive.
func (t *tarWriter) close() error {
	n := 2 * tarBlockSize
	if rest := (t.size + int64(n)) % tarRecordSize; rest > 0 {
		n += int(tarRecordSize - rest)
	}
	return t.write(tarZeros[:n])
}

func (t *tarWriter) write(p []byte) error {
	n, err := t.w.Write(p)
	t.size += int64(n)
	return err
}

// block is an empty header.
func (t *tarWriter) block() []byte {
	if t.hdr == nil {
		t.hdr = make([]byte, tarBlockSize)
	}
	clear(t.hdr)
	copy(t.hdr[257:], "ustar\x0000")
	return t.hdr
}

// name puts a name where it fits in a header. It reports false if a record is
// needed, as for every name in UTF-8 that is not ASCII; final says that the name
// need not fit. A name in no known encoding is better off in the header, where
// every reader takes it for bytes.
func (t *tarWriter) name(h []byte, name string, final bool) bool {
	if final || utf8.ValidString(name) && !isASCII(name) {
		copy(h[:100], name)
		return final
	}
	if len(name) <= 100 {
		copy(h[:100], name)
		return true
	}
	// The first slash that leaves few enough bytes behind it.
	if i := strings.IndexByte(name[len(name)-101:], '/'); i >= 0 {
		if i += len(name) - 101; i > 0 && i <= 155 && i < len(name)-1 {
			copy(h[345:500], name[:i])
			copy(h[:100], name[i+1:])
			return true
		}
	}
	copy(h[:100], name)
	return false
}

// record adds a record whose key is known to be fine.
func (t *tarWriter) record(k, v string) { t.recs = tarRecord(t.recs, k, v) }

// tarRecord appends "LENGTH key=value\n"; the length counts itself.
func tarRecord(b []byte, k, v string) []byte {
	n := len(k) + len(v) + 3
	size := n + len(strconv.Itoa(n))
	if s := n + len(strconv.Itoa(size)); s > size {
		size = s
	}
	b = strconv.AppendInt(b, int64(size), 10)
	b = append(b, ' ')
	b = append(b, k...)
	b = append(b, '=')
	b = append(b, v...)
	return append(b, '\n')
}

// number puts n into a field, or into a record if it does not fit. The field
// then has its largest value: nobody's id rather than root's for a reader that
// knows no records.
func (t *tarWriter) number(f []byte, key string, n uint64) {
	if !tarOctal(f, n) {
		t.record(key, strconv.FormatUint(n, 10))
		tarOctal(f, 1<<(3*(len(f)-1))-1)
	}
}

// time puts a time into a field (nil: none) and what that cannot hold into a
// record.
func (t *tarWriter) time(f []byte, key string, at time.Time) {
	sec, nsec := at.Unix(), at.Nanosecond()
	const last = 1<<33 - 1
	if f != nil {
		tarOctal(f, uint64(min(max(sec, 0), last)))
		if nsec == 0 && sec >= 0 && sec <= last {
			return
		}
	}
	sign := ""
	if sec < 0 {
		sign, sec = "-", -sec
		if nsec > 0 {
			sec, nsec = sec-1, 1e9-nsec
		}
	}
	b := append(make([]byte, 0, 32), sign...)
	b = strconv.AppendInt(b, sec, 10)
	if nsec > 0 {
		b = append(b, '.')
		for d := 100_000_000; d > 0 && nsec > 0; d /= 10 {
			b = append(b, '0'+byte(nsec/d))
			nsec %= d
		}
	}
	t.record(key, string(b))
}

// tarOctal puts n into a field as octal digits and a NUL; it reports false if it
// does not fit.
func tarOctal(f []byte, n uint64) bool {
	if n >= 1<<(3*(len(f)-1)) {
		return false
	}
	for i := len(f) - 2; i >= 0; i-- {
		f[i] = '0' + byte(n&7)
		n >>= 3
	}
	f[len(f)-1] = 0
	return true
}

// tarSum puts the checksum of a header into it.
func tarSum(h []byte) {
	copy(h[148:156], "        ")
	var n uint64
	for _, c := range h {
		n += uint64(c)
	}
	tarOctal(h[148:155], n)
}

// tarSparseMap is the map at the start of the data of a sparse file (GNU sparse
// format 1.0): the number of ranges, then offset and length of each, a line
// each, padded to whole blocks. A hole at the end is a range without length.
func tarSparseMap(ranges []bcachefs.DataRange, size int64) []byte {
	n := len(ranges)
	tail := n == 0 || ranges[n-1].End < uint64(size)
	if tail {
		n++
	}
	b := strconv.AppendInt(nil, int64(n), 10)
	b = append(b, '\n')
	line := func(v uint64) {
		b = strconv.AppendUint(b, v, 10)
		b = append(b, '\n')
	}
	for _, r := range ranges {
		line(r.Start)
		line(r.End - r.Start)
	}
	if tail {
		line(uint64(size))
		line(0)
	}
	return append(b, make([]byte, (tarBlockSize-len(b)%tarBlockSize)%tarBlockSize)...)
}

// tarXattrName is the name of an attribute in a record's key, which ends at the
// first "=": GNU tar escapes it like this.
func tarXattrName(name string) string {
	return strings.NewReplacer("%", "%25", "=", "%3D").Replace(name)
}

// tarACLs are the records that hold ACLs as text, beside the attribute.
var tarACLs = map[string]string{
	"system.posix_acl_access":  "SCHILY.acl.access",
	"system.posix_acl_default": "SCHILY.acl.default",
}

// aclText is a POSIX ACL as text: "user::rwx,user:1000:r--,mask::rwx". Its value
// is that of the system calls: version 2, then tag, permissions and id.
func aclText(v []byte) (string, bool) {
	if len(v) < 4 || binary.LittleEndian.Uint32(v) != 2 || len(v)%8 != 4 {
		return "", false
	}
	var out []string
	for v = v[4:]; len(v) > 0; v = v[8:] {
		tag, perm, id := binary.LittleEndian.Uint16(v), binary.LittleEndian.Uint16(v[2:]), binary.LittleEndian.Uint32(v[4:])
		kinds := map[uint16]string{1: "user:", 2: "user:", 4: "group:", 8: "group:", 0x10: "mask:", 0x20: "other:"}
		s, ok := kinds[tag]
		if !ok || perm > 7 {
			return "", false
		}
		if tag == 2 || tag == 8 {
			s += strconv.FormatUint(uint64(id), 10)
		}
		out = append(out, s+":"+modeString(uint32(perm) << 6)[1:4])
	}
	return strings.Join(out, ","), len(out) > 0
}

// tarType is the type flag of a file; 0 for what an archive cannot hold.
func tarType(mode uint32) byte {
	switch mode & ondisk.ModeTypeMask {
	case ondisk.ModeRegular:
		return tarRegular
	case ondisk.ModeDir:
		return tarDir
	case ondisk.ModeSymlink:
		return tarSymlink
	case ondisk.ModeChar:
		return tarChar
	case ondisk.ModeBlock:
		return tarBlock
	case ondisk.ModeFifo:
		return tarFifo
	}
	return 0
}

// splitPath splits a path behind its last slash, but one at the end.
func splitPath(p string) (dir, base string) {
	i := strings.LastIndexByte(strings.TrimSuffix(p, "/"), '/')
	return p[:i+1], p[i+1:]
}

func isASCII(s string) bool {
	return bytes.IndexFunc([]byte(s), func(r rune) bool { return r >= utf8.RuneSelf }) < 0
}
