package testvol

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Entry is one path of a tree, as a manifest line tells it. Fields that do not
// apply to the type of the file are zero.
type Entry struct {
	Path  string // relative to the root, raw bytes; "." the root
	Type  byte   // f d l p c b s; 0 if the path could not be looked at
	Mode  uint32 // permission bits with setuid, setgid, sticky
	UID   uint32
	GID   uint32
	Mtime int64 // ns since 1970
	Ctime int64 // ns since 1970
	Nlink uint64
	Ino   uint64

	Size   int64             // f
	SHA256 string            // f: hex, or "ERR:EIO" if it could not be read
	Data   string            // f: SEEK_DATA ranges, "start-end,start-end", at most 40; "none"; "ERR:…"; "" if SHA256 is an error
	Target string            // l: raw bytes
	Major  uint32            // c, b
	Minor  uint32            // c, b
	Xattr  map[string]string // raw name to raw value; nil if there is none

	// Errors, as "ERR:EIO"; "" if there was none.
	StatErr    string // the only field beside Path
	ReadDirErr string // an entry of its own, beside the directory's: the only field beside Path
	TargetErr  string
	XattrErr   string
}

// key tells entries apart: a directory that could not be listed has two.
func (e *Entry) key() string {
	if e.ReadDirErr != "" {
		return e.Path + "\x00readdir"
	}
	return e.Path
}

// ReadManifest parses a manifest (testdata/volumes/README.md).
func ReadManifest(b []byte) ([]Entry, error) {
	var all []Entry
	for n, line := range bytes.Split(bytes.TrimSuffix(b, []byte("\n")), []byte("\n")) {
		e, err := readEntry(string(line))
		if err != nil {
			return nil, fmt.Errorf("manifest line %d: %w", n+1, err)
		}
		all = append(all, e)
	}
	return all, nil
}

func readEntry(line string) (e Entry, err error) {
	f := strings.Split(line, " ")
	if len(f) < 2 {
		return e, fmt.Errorf("%d fields, want at least 2", len(f))
	}
	if e.Path, err = unescape(f[0]); err != nil {
		return e, err
	}
	rest := f[1:]
	if !strings.Contains(f[1], "=") {
		if len(f) < 3 || len(f[1]) != 1 || !strings.Contains("fdlpcbs", f[1]) {
			return e, fmt.Errorf("type %q and mode, want one letter and an octal number", f[1:])
		}
		m, err := strconv.ParseUint(f[2], 8, 32)
		if err != nil {
			return e, err
		}
		e.Type, e.Mode, rest = f[1][0], uint32(m), f[3:]
	}
	for _, kv := range rest {
		k, v, ok := strings.Cut(kv, "=")
		if !ok {
			return e, fmt.Errorf("field %q, want name=value", kv)
		}
		if err := e.set(k, v); err != nil {
			return e, fmt.Errorf("field %q: %w", kv, err)
		}
	}
	return e, nil
}

func (e *Entry) set(k, v string) (err error) {
	u32 := func(p *uint32) error { n, err := strconv.ParseUint(v, 10, 32); *p = uint32(n); return err }
	u64 := func(p *uint64) error { n, err := strconv.ParseUint(v, 10, 64); *p = n; return err }
	i64 := func(p *int64) error { n, err := strconv.ParseInt(v, 10, 64); *p = n; return err }
	failed := strings.HasPrefix(v, "ERR:")
	switch k {
	case "uid":
		return u32(&e.UID)
	case "gid":
		return u32(&e.GID)
	case "mtime":
		return i64(&e.Mtime)
	case "ctime":
		return i64(&e.Ctime)
	case "nlink":
		return u64(&e.Nlink)
	case "ino":
		return u64(&e.Ino)
	case "size":
		return i64(&e.Size)
	case "sha256":
		e.SHA256 = v
	case "data":
		e.Data = v
	case "target":
		if failed {
			e.TargetErr = v
			return nil
		}
		e.Target, err = unescape(v)
		return err
	case "rdev":
		_, err = fmt.Sscanf(v, "%d:%d", &e.Major, &e.Minor)
		return err
	case "stat":
		e.StatErr = v
	case "readdir":
		e.ReadDirErr = v
	case "xattr":
		e.XattrErr = v
	default:
		name, ok := strings.CutPrefix(k, "xattr.")
		if !ok {
			return fmt.Errorf("unknown name")
		}
		if name, err = unescape(name); err != nil {
			return err
		}
		value, err := hex.DecodeString(v)
		if err != nil {
			return err
		}
		if e.Xattr == nil {
			e.Xattr = map[string]string{}
		}
		e.Xattr[name] = string(value)
	}
	return nil
}

// String is the manifest line of the entry, without the newline.
func (e Entry) String() string {
	f := []string{escape(e.Path)}
	add := func(format string, a ...any) { f = append(f, fmt.Sprintf(format, a...)) }
	switch {
	case e.StatErr != "":
		add("stat=%s", e.StatErr)
		return strings.Join(f, " ")
	case e.ReadDirErr != "":
		add("readdir=%s", e.ReadDirErr)
		return strings.Join(f, " ")
	}
	add("%c %04o uid=%d gid=%d mtime=%d ctime=%d nlink=%d ino=%d", e.Type, e.Mode, e.UID, e.GID, e.Mtime, e.Ctime, e.Nlink, e.Ino)
	switch e.Type {
	case 'f':
		add("size=%d sha256=%s", e.Size, e.SHA256)
		if e.Data != "" {
			add("data=%s", e.Data)
		}
	case 'l':
		if e.TargetErr != "" {
			add("target=%s", e.TargetErr)
		} else {
			add("target=%s", escape(e.Target))
		}
	case 'c', 'b':
		add("rdev=%d:%d", e.Major, e.Minor)
	}
	for _, k := range slices.Sorted(maps.Keys(e.Xattr)) {
		add("xattr.%s=%x", escape(k), e.Xattr[k])
	}
	if e.XattrErr != "" {
		add("xattr=%s", e.XattrErr)
	}
	return strings.Join(f, " ")
}

// WriteManifest is the inverse of ReadManifest; lines are sorted.
func WriteManifest(all []Entry) []byte {
	lines := make([]string, len(all))
	for i, e := range all {
		lines[i] = e.String()
	}
	slices.Sort(lines)
	return []byte(strings.Join(lines, "\n") + "\n")
}

func plainByte(c byte) bool { return c >= 33 && c < 127 && c != '\\' }

func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if plainByte(s[i]) {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, `\x%02x`, s[i])
		}
	}
	return b.String()
}

func unescape(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case plainByte(s[i]):
			b.WriteByte(s[i])
			continue
		case len(s)-i < 4 || s[i] != '\\' || s[i+1] != 'x':
			return "", fmt.Errorf(`%q at byte %d: want \xNN`, s, i)
		}
		c, err := strconv.ParseUint(s[i+2:i+4], 16, 8)
		if err != nil {
			return "", err
		}
		b.WriteByte(byte(c))
		i += 3
	}
	return b.String(), nil
}

// Statfs is what statfs(2) said of a mounted volume.
type Statfs struct {
	Bsize, Frsize         uint64 // bytes
	Blocks, Bfree, Bavail uint64 // of Frsize
	Files, Ffree          uint64
	Namemax               uint64
}

// ReadStatfs parses a manifest-statfs file.
func ReadStatfs(b []byte) (s Statfs, err error) {
	_, err = fmt.Sscanf(string(b), "bsize=%d frsize=%d blocks=%d bfree=%d bavail=%d files=%d ffree=%d namemax=%d",
		&s.Bsize, &s.Frsize, &s.Blocks, &s.Bfree, &s.Bavail, &s.Files, &s.Ffree, &s.Namemax)
	return s, err
}
