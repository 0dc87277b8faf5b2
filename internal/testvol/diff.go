package testvol

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// Quirks are the ways in which a manifest differs from what a correct reader
// shows, for reasons of how the volume or the manifest was made. The zero
// value compares everything.
type Quirks struct {
	// RootIno1: the root is shown as inode 1, whatever its number is. Not compared.
	RootIno1 bool
	// UserRdev: device numbers are stored in the user-space form, so that the
	// kernel shows other ones than the manifest says: those are wanted.
	UserRdev bool
	// WholeData: SEEK_DATA answered with the whole file. Not compared where the
	// manifest says so; holes are then shown by nothing but the contents.
	WholeData bool
	// MoreXattrs: the volume holds xattrs that the maker did not show. Those
	// that it did show are compared.
	MoreXattrs bool
	// AnyIno: paths below which (and at which) inode numbers are not compared:
	// subvolumes, through a mount, where st_ino is not the inode number itself.
	AnyIno []string
}

// QuirksOf gives the quirks of the manifests of a volume, by its name.
func QuirksOf(name string) Quirks {
	if !strings.HasPrefix(name, "v39") {
		return Quirks{}
	}
	// Made over the FUSE mount of 1.39, and shown by it.
	q := Quirks{RootIno1: true, UserRdev: true, WholeData: true}
	switch name {
	case "v39source", "v39image":
		q.MoreXattrs = true
	}
	return q
}

// Diff compares two trees, in any order, and returns one line for each
// difference, sorted: "path: field = got, want want". want is the maker's.
func Diff(want, got []Entry, q Quirks) []string {
	index := func(all []Entry, whose string) (map[string]*Entry, []string) {
		m := make(map[string]*Entry, len(all))
		var twice []string
		for i := range all {
			k := all[i].key()
			if m[k] != nil {
				twice = append(twice, fmt.Sprintf("%s: listed twice in %s", escape(all[i].Path), whose))
			}
			m[k] = &all[i]
		}
		return m, twice
	}
	w, out := index(want, "want")
	g, twice := index(got, "got")
	out = append(out, twice...)
	for k, e := range w {
		if o := g[k]; o != nil {
			out = append(out, diffEntry(e, o, q)...)
		} else {
			out = append(out, fmt.Sprintf("%s: missing, want %s", escape(e.Path), e))
		}
	}
	for k, e := range g {
		if w[k] == nil {
			out = append(out, fmt.Sprintf("%s: got %s, want no such path", escape(e.Path), e))
		}
	}
	slices.Sort(out)
	return out
}

func diffEntry(w, g *Entry, q Quirks) (out []string) {
	field := func(name string, got, want any) {
		if got != want {
			out = append(out, fmt.Sprintf("%s: %s = %v, want %v", escape(w.Path), name, got, want))
		}
	}
	field("type", string(rune(g.Type)), string(rune(w.Type)))
	field("mode", fmt.Sprintf("%04o", g.Mode), fmt.Sprintf("%04o", w.Mode))
	field("uid", g.UID, w.UID)
	field("gid", g.GID, w.GID)
	field("mtime", g.Mtime, w.Mtime)
	field("ctime", g.Ctime, w.Ctime)
	field("nlink", g.Nlink, w.Nlink)
	if !(q.RootIno1 && w.Path == "." && w.Ino == 1) && !q.anyIno(w.Path) {
		field("ino", g.Ino, w.Ino)
	}
	field("size", g.Size, w.Size)
	field("sha256", g.SHA256, w.SHA256)
	if !(q.WholeData && w.Data == fmt.Sprintf("0-%d", w.Size)) {
		field("data", g.Data, w.Data)
	}
	field("target", escape(g.Target), escape(w.Target))
	major, minor := w.Major, w.Minor
	if q.UserRdev {
		major, minor = kernelRdev(major, minor)
	}
	field("rdev", fmt.Sprintf("%d:%d", g.Major, g.Minor), fmt.Sprintf("%d:%d", major, minor))
	for _, k := range slices.Sorted(maps.Keys(w.Xattr)) {
		v, ok := g.Xattr[k]
		if !ok {
			field("xattr."+escape(k), "absent", fmt.Sprintf("%x", w.Xattr[k]))
			continue
		}
		field("xattr."+escape(k), fmt.Sprintf("%x", v), fmt.Sprintf("%x", w.Xattr[k]))
	}
	if !q.MoreXattrs {
		for _, k := range slices.Sorted(maps.Keys(g.Xattr)) {
			if _, ok := w.Xattr[k]; !ok {
				field("xattr."+escape(k), fmt.Sprintf("%x", g.Xattr[k]), "absent")
			}
		}
	}
	field("stat error", g.StatErr, w.StatErr)
	field("readdir error", g.ReadDirErr, w.ReadDirErr)
	field("readlink error", g.TargetErr, w.TargetErr)
	field("xattr error", g.XattrErr, w.XattrErr)
	return out
}

func (q Quirks) anyIno(path string) bool {
	for _, p := range q.AnyIno {
		if path == p || strings.HasPrefix(path, p+"/") {
			return true
		}
	}
	return false
}

// kernelRdev says how the kernel, which stores a device number as
// major<<20|minor (chapter 04 section 6.1), shows one that was stored in the
// user-space form: minor bits 0..7, major, minor bits 8..19.
func kernelRdev(major, minor uint32) (uint32, uint32) {
	dev := minor&0xff | major<<8 | minor&^0xff<<12
	if dev < 1<<20 {
		// Major 0 does not occur: such a number is taken for what it is.
		return major, minor
	}
	return dev >> 20, dev & 0xfffff
}

// Check fails t with the differences of two trees, the first 20 in full.
func Check(t testing.TB, want, got []Entry, q Quirks) {
	t.Helper()
	d := Diff(want, got, q)
	for i, s := range d {
		if i == 20 {
			t.Errorf("… and %d more differences", len(d)-i)
			break
		}
		t.Error(s)
	}
}
