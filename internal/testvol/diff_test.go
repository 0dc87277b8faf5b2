package testvol

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDiffNamesEachField(t *testing.T) {
	base := func() Entry {
		return Entry{
			Path: "a b", Type: 'f', Mode: 0o644, UID: 1, GID: 2, Mtime: 3, Ctime: 4, Nlink: 1, Ino: 7, Size: 10, SHA256: "aa", Data: "0-10",
			Xattr: map[string]string{"user.x": "v"},
		}
	}
	for _, c := range []struct {
		change func(*Entry)
		want   string
	}{
		{func(e *Entry) { e.Type = 'd' }, `a\x20b: type = d, want f`},
		{func(e *Entry) { e.Mode = 0o4600 }, `a\x20b: mode = 4600, want 0644`},
		{func(e *Entry) { e.UID = 9 }, `a\x20b: uid = 9, want 1`},
		{func(e *Entry) { e.GID = 9 }, `a\x20b: gid = 9, want 2`},
		{func(e *Entry) { e.Mtime = -9 }, `a\x20b: mtime = -9, want 3`},
		{func(e *Entry) { e.Ctime = 9 }, `a\x20b: ctime = 9, want 4`},
		{func(e *Entry) { e.Nlink = 9 }, `a\x20b: nlink = 9, want 1`},
		{func(e *Entry) { e.Ino = 9 }, `a\x20b: ino = 9, want 7`},
		{func(e *Entry) { e.Size = 9 }, `a\x20b: size = 9, want 10`},
		{func(e *Entry) { e.SHA256 = "ERR:EIO" }, `a\x20b: sha256 = ERR:EIO, want aa`},
		{func(e *Entry) { e.Data = "none" }, `a\x20b: data = none, want 0-10`},
		{func(e *Entry) { e.Target = "\n" }, `a\x20b: target = \x0a, want `},
		{func(e *Entry) { e.Minor = 5 }, `a\x20b: rdev = 0:5, want 0:0`},
		{func(e *Entry) { e.Xattr = nil }, `a\x20b: xattr.user.x = absent, want 76`},
		{func(e *Entry) { e.Xattr["user.x"] = "w" }, `a\x20b: xattr.user.x = 77, want 76`},
		{func(e *Entry) { e.Xattr["user.y"] = "w" }, `a\x20b: xattr.user.y = 77, want absent`},
		{func(e *Entry) { e.StatErr = "ERR:EIO" }, `a\x20b: stat error = ERR:EIO, want `},
		{func(e *Entry) { e.TargetErr = "ERR:EIO" }, `a\x20b: readlink error = ERR:EIO, want `},
		{func(e *Entry) { e.XattrErr = "ERR:EIO" }, `a\x20b: xattr error = ERR:EIO, want `},
	} {
		got := base()
		c.change(&got)
		if d := Diff([]Entry{base()}, []Entry{got}, Quirks{}); len(d) != 1 || d[0] != c.want {
			t.Errorf("Diff = %q, want %q", d, c.want)
		}
	}
}

func TestDiffPaths(t *testing.T) {
	d := func(p string) Entry { return Entry{Path: p, Type: 'd', Mode: 0o755} }
	bad := Entry{Path: "b", ReadDirErr: "ERR:EIO"}
	for _, c := range []struct {
		want, got []Entry
		lines     int
	}{
		{nil, nil, 0},
		{[]Entry{d("a"), d("b")}, []Entry{d("b"), d("a")}, 0},
		{[]Entry{d("a")}, nil, 1},
		{nil, []Entry{d("a")}, 1},
		{[]Entry{d("a")}, []Entry{d("a"), d("a")}, 1},
		{[]Entry{d("b"), bad}, []Entry{d("b"), bad}, 0},
		{[]Entry{d("b")}, []Entry{d("b"), bad}, 1},
	} {
		if l := Diff(c.want, c.got, Quirks{}); len(l) != c.lines {
			t.Errorf("Diff(%v, %v) = %q, want %d lines", c.want, c.got, l, c.lines)
		}
	}
}

func TestQuirks(t *testing.T) {
	root := func(ino uint64) Entry { return Entry{Path: ".", Type: 'd', Ino: ino} }
	file := func(data string) Entry { return Entry{Path: "f", Type: 'f', Size: 100, Data: data} }
	dev := func(major, minor uint32) Entry { return Entry{Path: "d", Type: 'c', Major: major, Minor: minor} }
	in := func(path string, ino uint64) Entry { return Entry{Path: path, Type: 'p', Ino: ino} }
	x := func(names ...string) Entry {
		e := Entry{Path: "x", Type: 'p', Xattr: map[string]string{}}
		for _, n := range names {
			e.Xattr[n] = "v"
		}
		return e
	}
	for _, c := range []struct {
		name      string
		want, got Entry
		q         Quirks
		lines     int
	}{
		{"root ino, compared", root(1), root(4096), Quirks{}, 1},
		{"root ino, quirk", root(1), root(4096), Quirks{RootIno1: true}, 0},
		{"root ino that is not 1", root(2), root(4096), Quirks{RootIno1: true}, 1},
		{"data, compared", file("0-100"), file("none"), Quirks{}, 1},
		{"data, quirk", file("0-100"), file("none"), Quirks{WholeData: true}, 0},
		{"data that is not whole", file("0-50"), file("none"), Quirks{WholeData: true}, 1},
		{"rdev, compared", dev(259, 70000), dev(273, 66416), Quirks{}, 1},
		{"rdev, quirk", dev(259, 70000), dev(273, 66416), Quirks{UserRdev: true}, 0},
		{"rdev, quirk, as shown", dev(259, 70000), dev(259, 70000), Quirks{UserRdev: true}, 1},
		{"rdev below 1<<20", dev(1, 3), dev(1, 3), Quirks{UserRdev: true}, 0},
		{"more xattrs, compared", x("user.a"), x("user.a", "user.b"), Quirks{}, 1},
		{"more xattrs, quirk", x("user.a"), x("user.a", "user.b"), Quirks{MoreXattrs: true}, 0},
		{"fewer xattrs, quirk", x("user.a"), x("user.b"), Quirks{MoreXattrs: true}, 1},
		{"ino below", in("s/f", 1), in("s/f", 2), Quirks{AnyIno: []string{"s"}}, 0},
		{"ino at", in("s", 1), in("s", 2), Quirks{AnyIno: []string{"s"}}, 0},
		{"ino beside", in("s2", 1), in("s2", 2), Quirks{AnyIno: []string{"s"}}, 1},
	} {
		if d := Diff([]Entry{c.want}, []Entry{c.got}, c.q); len(d) != c.lines {
			t.Errorf("%s: Diff = %q, want %d lines", c.name, d, c.lines)
		}
	}
	for name, want := range map[string]Quirks{
		"plain":       {},
		"up39plain":   {},
		"v39plain":    {RootIno1: true, UserRdev: true, WholeData: true},
		"v39source":   {RootIno1: true, UserRdev: true, WholeData: true, MoreXattrs: true},
		"v39casefold": {RootIno1: true, UserRdev: true, WholeData: true},
	} {
		if d := cmp.Diff(want, QuirksOf(name)); d != "" {
			t.Errorf("QuirksOf(%s): (-want +got)\n%s", name, d)
		}
	}
}
