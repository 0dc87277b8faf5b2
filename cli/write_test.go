package cli_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// newVolume makes a small volume of our own.
func newVolume(t *testing.T, args ...string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "vol.img")
	ok(t, append(append([]string{"format", "-q", "--fs_size=32M"}, args...), p)...)
	return p
}

// checked has our check look at a volume that t changed.
func checked(t *testing.T, paths ...string) {
	t.Helper()
	if r := run("fsck", "-n", strings.Join(paths, ":")); r.code != 0 {
		t.Errorf("fsck -n: exit code %d, want 0\n%s%s", r.code, r.out, r.err)
	}
}

// lines runs a command that must succeed and gives the lines it prints.
func lines(t *testing.T, args ...string) []string {
	t.Helper()
	out := ok(t, args...)
	if out == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(out, "\n"), "\n")
}

// names lists what is in a directory of a volume.
func names(t *testing.T, vol, dir string) []string {
	t.Helper()
	return lines(t, "ls", "-1", vol, dir)
}

type fileDoc struct {
	Path, Type, Mode     string
	Nlink, UID, GID      uint32
	Size, Allocated      uint64
	Atime, Mtime, Ctime  string
	Target               *string
	Inode                uint64
	Xattrs, Options      []struct{ Name, Value string }
	ValueRaw, PathBase64 string
}

// attrs is what stat --json says of a file of a volume.
func attrs(t *testing.T, vol, path string) fileDoc {
	t.Helper()
	d := parse[struct{ Files []fileDoc }](t, ok(t, "stat", "--json", vol, path))
	if len(d.Files) != 1 {
		t.Fatalf("stat %s: %d files", path, len(d.Files))
	}
	return d.Files[0]
}

// refused runs a command that must fail with an exit code and say something.
func refused(t *testing.T, code int, text string, args ...string) {
	t.Helper()
	if r := run(args...); r.code != code || !strings.Contains(r.err, text) {
		t.Errorf("%q: exit code %d, %q, want %d, … %s", args, r.code, r.err, code, text)
	}
}

func TestMkdirRm(t *testing.T) {
	t.Parallel()
	v := newVolume(t)
	ok(t, "mkdir", v, "/a", "b")
	ok(t, "mkdir", "-p", "-m", "2750", "--owner", "7:8", v, "/a/x/y/z", "/a")
	if got, want := lines(t, "mkdir", "-v", "-p", v, "/p/q", "/a/x"), []string{"created: /p", "created: /p/q"}; !slices.Equal(got, want) {
		t.Errorf("mkdir -v = %q, want %q", got, want)
	}
	if a := attrs(t, v, "/a/x/y/z"); a.Mode != "2750" || a.UID != 7 || a.GID != 8 || a.Type != "directory" {
		t.Errorf("mkdir -m 2750 --owner 7:8 = %+v", a)
	}
	if a := attrs(t, v, "/a/x"); a.Mode != "0755" || a.UID != 7 || a.Nlink != 3 {
		t.Errorf("mkdir -p above = %+v, want 0755 of 7", a)
	}
	// The setgid bit hands on the group, and itself.
	ok(t, "mkdir", v, "/a/x/y/z/in")
	if a := attrs(t, v, "/a/x/y/z/in"); a.Mode != "2755" || a.UID != 0 || a.GID != 8 {
		t.Errorf("mkdir in a setgid directory = %+v, want 2755 0:8", a)
	}
	refused(t, 1, "/a: file exists", "mkdir", v, "/a")
	refused(t, 1, "/n/x: no such file or directory", "mkdir", v, "/n/x")
	refused(t, 1, "/: file exists", "mkdir", v, "/")
	refused(t, 1, "name too long", "mkdir", v, "/"+strings.Repeat("n", 256))
	refused(t, 2, `owner "joe"`, "mkdir", "--owner", "joe", v, "/j")
	refused(t, 2, `mode "9"`, "mkdir", "-m", "9", v, "/j")
	refused(t, 1, "/a: is a directory", "rm", v, "/a")
	refused(t, 1, "/a: directory not empty", "rm", "-d", v, "/a")
	refused(t, 1, "the root directory stays", "rm", "-r", v, "/")
	refused(t, 1, "are not removed", "rm", "-r", v, "/a/x/..")
	refused(t, 1, "/none: no such file or directory", "rm", v, "/none")
	ok(t, "rm", "-f", v, "/none")
	ok(t, "touch", v, "/a/x/file", "/a/x/y/other")
	got := lines(t, "rm", "-r", "-v", v, "/a", "/b")
	want := []string{"removed: /a/x/file", "removed: /a/x/y/other", "removed: /a/x/y/z/in", "removed: /a/x/y/z", "removed: /a/x/y", "removed: /a/x", "removed: /a", "removed: /b"}
	if !slices.Equal(got, want) {
		t.Errorf("rm -r -v = %q, want %q", got, want)
	}
	ok(t, "rm", "-d", v, "/p/q")
	if got := names(t, v, "/"); !slices.Equal(got, []string{"lost+found", "p"}) {
		t.Errorf("after rm: %q", got)
	}
	checked(t, v)
}

func TestMvLn(t *testing.T) {
	t.Parallel()
	v := newVolume(t)
	ok(t, "mkdir", v, "/d", "/e", "/d/sub")
	ok(t, "touch", v, "/f", "/g")
	ok(t, "ln", v, "/f", "/d/f2")
	ok(t, "ln", v, "/f", "/d")
	if a, b := attrs(t, v, "/f"), attrs(t, v, "/d/f"); a.Inode != b.Inode || a.Nlink != 3 {
		t.Errorf("hard links: inodes %d, %d, nlink %d, want the same and 3", a.Inode, b.Inode, a.Nlink)
	}
	long := strings.Repeat("dir/", 1000) + "x"
	ok(t, "ln", "-s", v, "../f", "/d/sym")
	ok(t, "ln", "-s", v, long, "/long")
	for p, want := range map[string]string{"/d/sym": "../f", "/long": long} {
		if a := attrs(t, v, p); a.Type != "symlink" || *a.Target != want || a.Size != uint64(len(want)) {
			t.Errorf("symlink %s -> %q (%d), want %q", p, *a.Target, a.Size, want)
		}
	}
	refused(t, 1, "/g: file exists", "ln", "-s", v, "y", "/g")
	refused(t, 1, "directories have one name only", "ln", v, "/d", "/e/d")
	refused(t, 1, "/x: file name too long", "ln", "-s", v, strings.Repeat("y", 4096), "/x")
	ok(t, "ln", "-s", "-f", v, "new", "/g")
	if a := attrs(t, v, "/g"); *a.Target != "new" {
		t.Errorf("ln -sf = %+v", a)
	}
	ok(t, "ln", "-f", v, "/f", "/g")
	ok(t, "ln", "-f", v, "/f", "/g") // the same file already
	if a := attrs(t, v, "/g"); a.Nlink != 4 {
		t.Errorf("ln -f: nlink %d, want 4", a.Nlink)
	}
	// mv: into a directory, to a name, over a file, over a directory.
	ok(t, "mv", v, "/g", "/d/sub", "/e")
	if got, want := names(t, v, "/e"), []string{"g", "sub"}; !slices.Equal(got, want) {
		t.Errorf("mv into = %q, want %q", got, want)
	}
	refused(t, 2, "not a directory, and there are several SRC", "mv", v, "/f", "/e/g", "/none")
	refused(t, 1, "/d: invalid argument", "mv", v, "/d", "/d/self")
	refused(t, 1, "/f: not a directory", "mv", v, "/f", "/new/")
	refused(t, 1, "/none: no such file", "mv", v, "/none", "/x")
	refused(t, 1, "/e: not a directory", "mv", "-T", v, "/e", "/f")
	ok(t, "touch", v, "/h")
	ok(t, "mv", "-n", v, "/h", "/f")
	ok(t, "mv", v, "/h", "/f")
	if a := attrs(t, v, "/f"); a.Nlink != 1 {
		t.Errorf("mv over a file: nlink %d, want 1", a.Nlink)
	}
	ok(t, "mv", "--exchange", v, "/f", "/d")
	if f, d := attrs(t, v, "/f"), attrs(t, v, "/d"); f.Type != "directory" || d.Type != "file" {
		t.Errorf("mv --exchange: /f is a %s, /d a %s", f.Type, d.Type)
	}
	refused(t, 1, "/e/sub: invalid argument", "mv", "--exchange", v, "/e/sub", "/e")
	ok(t, "mv", "-T", v, "/e", "/e2")
	checked(t, v)
}

func TestAttributes(t *testing.T) {
	t.Parallel()
	v := newVolume(t)
	ok(t, "mkdir", v, "/d")
	ok(t, "touch", "--owner", "3:4", v, "/d/f", "/d/g")
	ok(t, "ln", "-s", v, "f", "/d/l")
	ok(t, "chmod", v, "6755", "/d/f")
	ok(t, "chmod", "-R", v, "o-rx", "/d")
	if f, g, d := attrs(t, v, "/d/f"), attrs(t, v, "/d/g"), attrs(t, v, "/d"); f.Mode != "6750" || g.Mode != "0640" || d.Mode != "0750" {
		t.Errorf("chmod: %s %s %s, want 6750 0640 0750", f.Mode, g.Mode, d.Mode)
	}
	// As the system does it: a new owner has no setuid program.
	ok(t, "setfattr", "-n", "security.capability", "-v", "0x0100000200040000000000000000000000000000", v, "/d/f")
	ok(t, "chown", v, "5", "/d/f")
	if f := attrs(t, v, "/d/f"); f.UID != 5 || f.GID != 4 || f.Mode != "0750" || len(f.Xattrs) != 0 {
		t.Errorf("chown 5: %d:%d %s %v, want 5:4 0750 and no capabilities", f.UID, f.GID, f.Mode, f.Xattrs)
	}
	ok(t, "chown", "-R", v, ":9", "/d")
	ok(t, "chown", "-h", v, "1:2", "/d/l")
	ok(t, "chown", v, "8:8", "/d/l") // what it points to
	if f, g, l := attrs(t, v, "/d/f"), attrs(t, v, "/d/g"), attrs(t, v, "/d/l"); f.UID != 8 || g.GID != 9 || l.UID != 1 || l.GID != 2 {
		t.Errorf("chown: f %d, g :%d, l %d:%d, want 8, :9, 1:2", f.UID, g.GID, l.UID, l.GID)
	}
	refused(t, 2, `owner ""`, "chown", v, "", "/d")
	refused(t, 2, `owner "1:"`, "chown", v, "1:", "/d")
	refused(t, 2, `mode "u?"`, "chmod", v, "u?", "/d")
	refused(t, 2, "an argument is missing", "chmod", v, "755")
	refused(t, 1, "/none: no such file or directory", "chmod", v, "755", "/none")

	ok(t, "touch", "-d", "2001-02-03T04:05:06.789012345Z", v, "/d/f")
	ok(t, "touch", "-a", "-d", "@100.5", v, "/d/f")
	if f := attrs(t, v, "/d/f"); f.Mtime != "2001-02-03T04:05:06.789012345Z" || f.Atime != "1970-01-01T00:01:40.5Z" || f.Ctime < "2020" {
		t.Errorf("touch: mtime %s atime %s ctime %s", f.Mtime, f.Atime, f.Ctime)
	}
	ok(t, "touch", "-m", "-r", "/d/f", v, "/d/g")
	ok(t, "touch", "-h", "-d", "@1", v, "/d/l")
	ok(t, "touch", "-c", v, "/d/none")
	if g, l := attrs(t, v, "/d/g"), attrs(t, v, "/d/l"); g.Mtime != "2001-02-03T04:05:06.789012345Z" || l.Mtime != "1970-01-01T00:00:01Z" {
		t.Errorf("touch -r: %s, -h: %s", g.Mtime, l.Mtime)
	}
	refused(t, 2, `date "soon"`, "touch", "-d", "soon", v, "/d/f")

	ok(t, "truncate", "-s", "1M", v, "/d/f", "/d/new")
	ok(t, "truncate", "-s", "-1K", v, "/d/f")
	ok(t, "truncate", "-c", "-s", "5", v, "/d/none")
	if f, n := attrs(t, v, "/d/f"), attrs(t, v, "/d/new"); f.Size != 1<<20-1024 || n.Size != 1<<20 || n.Allocated != 0 || n.Mode != "0644" {
		t.Errorf("truncate: %d, %d (%d allocated)", f.Size, n.Size, n.Allocated)
	}
	refused(t, 1, "/d: invalid argument", "truncate", "-s", "0", v, "/d")
	refused(t, 2, "missing --size", "truncate", v, "/d/f")
	if got, want := names(t, v, "/d"), []string{"f", "g", "l", "new"}; !slices.Equal(got, want) {
		t.Errorf("files = %q, want %q", got, want)
	}
	checked(t, v)
}

// acl makes the value of a system.posix_acl_* attribute, for setfattr.
func acl(entries ...[3]uint32) string {
	b := []byte{2, 0, 0, 0}
	for _, e := range entries {
		b = append(b, byte(e[0]), 0, byte(e[1]), 0, byte(e[2]), byte(e[2]>>8), byte(e[2]>>16), byte(e[2]>>24))
	}
	return "0s" + base64.StdEncoding.EncodeToString(b)
}

func TestXattrs(t *testing.T) {
	t.Parallel()
	v := newVolume(t)
	ok(t, "mkdir", v, "/d")
	ok(t, "touch", v, "/f", "/d/x")
	ok(t, "ln", "-s", v, "f", "/l")
	ok(t, "setfattr", "-n", "user.text", "-v", "some \"text\"", v, "/f", "/d/x")
	ok(t, "setfattr", "-n", "user.hex", "-v", "0x00ff10", v, "/f")
	ok(t, "setfattr", "-n", "user.none", v, "/f")
	ok(t, "setfattr", "-n", "trusted.t", "-v", "0sdHQ=", v, "/l")
	ok(t, "setfattr", "-h", "-n", "trusted.link", "-v", "x", v, "/l")
	dump := ok(t, "getfattr", "-d", "-R", "-m", "-", v, "/")
	want := "# file: d/x\nuser.text=\"some \\\"text\\\"\"\n\n# file: f\ntrusted.t=\"tt\"\nuser.hex=0sAP8Q\nuser.none=\"\"\nuser.text=\"some \\\"text\\\"\"\n\n# file: l\ntrusted.link=\"x\"\n"
	if dump != want {
		t.Errorf("getfattr -d -R = %q, want %q", dump, want)
	}
	if got, want := ok(t, "getfattr", "-n", "user.hex", "-e", "hex", v, "/f"), "# file: f\nuser.hex=0x00ff10\n"; got != want {
		t.Errorf("getfattr -n = %q, want %q", got, want)
	}
	if got := ok(t, "getfattr", "--only-values", "-n", "user.hex", v, "/f"); got != "\x00\xff\x10" {
		t.Errorf("getfattr --only-values = %q", got)
	}
	if got, want := ok(t, "getfattr", v, "/f"), "# file: f\nuser.hex\nuser.none\nuser.text\n"; got != want {
		t.Errorf("getfattr = %q, want %q", got, want)
	}
	refused(t, 1, "/f: user.nope: no such attribute", "getfattr", "-n", "user.nope", v, "/f")
	refused(t, 1, "/f: user.nope: no such attribute", "setfattr", "-x", "user.nope", v, "/f")
	refused(t, 1, "/f: strange.name: names begin with", "setfattr", "-n", "strange.name", v, "/f")
	refused(t, 1, "too long for a volume", "setfattr", "-n", "user.big", "-v", strings.Repeat("x", 2100), v, "/f")
	refused(t, 2, "exactly one of -n, -x, --restore", "setfattr", v, "/f")
	refused(t, 2, "not hexadecimal", "setfattr", "-n", "user.x", "-v", "0xyz", v, "/f")

	// Into another volume, from the dump.
	w := newVolume(t)
	ok(t, "mkdir", w, "/d")
	ok(t, "touch", w, "/f", "/d/x")
	ok(t, "ln", "-s", w, "f", "/l")
	file := filepath.Join(t.TempDir(), "dump")
	writeFile(t, file, dump)
	ok(t, "setfattr", "-h", "--restore", file, w)
	if got := ok(t, "getfattr", "-d", "-R", "-m", "-", w, "/"); got != dump {
		t.Errorf("restored: %q, want %q", got, dump)
	}
	ok(t, "setfattr", "-x", "user.hex", v, "/f")
	if got := len(attrs(t, v, "/f").Xattrs); got != 3 {
		t.Errorf("after setfattr -x: %d attributes, want 3", got)
	}
	checked(t, v)
	checked(t, w)
}

// TestACL: an access ACL and the mode say the same, whichever is changed; a
// default ACL is inherited.
func TestACL(t *testing.T) {
	t.Parallel()
	v := newVolume(t)
	const none = 0xffffffff
	ok(t, "mkdir", v, "/d")
	ok(t, "touch", v, "/f")
	ok(t, "setfattr", "-n", "system.posix_acl_access", "-v", acl([3]uint32{1, 6, none}, [3]uint32{2, 7, 1000}, [3]uint32{4, 4, none}, [3]uint32{0x10, 5, none}, [3]uint32{0x20, 1, none}), v, "/f")
	if a := attrs(t, v, "/f"); a.Mode != "0651" {
		t.Errorf("mode by the ACL = %s, want 0651", a.Mode)
	}
	ok(t, "chmod", v, "4724", "/f")
	get := func(path, name string) string {
		t.Helper()
		return "0s" + base64.StdEncoding.EncodeToString([]byte(ok(t, "getfattr", "--only-values", "-n", name, v, path)))
	}
	if got, want := get("/f", "system.posix_acl_access"), acl([3]uint32{1, 7, none}, [3]uint32{2, 7, 1000}, [3]uint32{4, 4, none}, [3]uint32{0x10, 2, none}, [3]uint32{0x20, 4, none}); got != want {
		t.Errorf("ACL after chmod = %s, want %s", got, want)
	}
	// One that says no more than the mode is none.
	ok(t, "setfattr", "-n", "system.posix_acl_access", "-v", acl([3]uint32{1, 7, none}, [3]uint32{4, 5, none}, [3]uint32{0x20, 0, none}), v, "/f")
	if a := attrs(t, v, "/f"); a.Mode != "4750" || len(a.Xattrs) != 0 {
		t.Errorf("a plain ACL: mode %s, attributes %v, want 4750 and none", a.Mode, a.Xattrs)
	}
	refused(t, 1, "permission denied", "setfattr", "-n", "system.posix_acl_default", "-v", acl([3]uint32{1, 7, none}, [3]uint32{4, 5, none}, [3]uint32{0x20, 0, none}), v, "/f")
	for what, bad := range map[string]string{
		"no others":  acl([3]uint32{1, 7, none}, [3]uint32{4, 5, none}),
		"no mask":    acl([3]uint32{1, 7, none}, [3]uint32{2, 7, 5}, [3]uint32{4, 5, none}, [3]uint32{0x20, 0, none}),
		"wrong way":  acl([3]uint32{4, 5, none}, [3]uint32{1, 7, none}, [3]uint32{0x20, 0, none}),
		"permission": acl([3]uint32{1, 8, none}, [3]uint32{4, 5, none}, [3]uint32{0x20, 0, none}),
		"short":      "0x0200000001",
	} {
		t.Run(what, func(t *testing.T) {
			refused(t, 1, "invalid argument", "setfattr", "-n", "system.posix_acl_access", "-v", bad, v, "/f")
		})
	}
	def := acl([3]uint32{1, 7, none}, [3]uint32{4, 7, none}, [3]uint32{8, 6, 50}, [3]uint32{0x10, 7, none}, [3]uint32{0x20, 5, none})
	ok(t, "setfattr", "-n", "system.posix_acl_default", "-v", def, v, "/d")
	ok(t, "mkdir", v, "/d/sub")
	ok(t, "touch", v, "/d/file")
	if got := get("/d/sub", "system.posix_acl_default"); got != def {
		t.Errorf("default ACL of a new directory = %s, want %s", got, def)
	}
	if got := get("/d/sub", "system.posix_acl_access"); got != def {
		t.Errorf("ACL of a new directory = %s, want %s", got, def)
	}
	if got, want := get("/d/file", "system.posix_acl_access"), acl([3]uint32{1, 6, none}, [3]uint32{4, 7, none}, [3]uint32{8, 6, 50}, [3]uint32{0x10, 6, none}, [3]uint32{0x20, 4, none}); got != want {
		t.Errorf("ACL of a new file = %s, want %s", got, want)
	}
	// The umask does not count there.
	if s, f := attrs(t, v, "/d/sub"), attrs(t, v, "/d/file"); s.Mode != "0775" || f.Mode != "0664" {
		t.Errorf("modes = %s, %s, want 0775, 0664", s.Mode, f.Mode)
	}
	ok(t, "setfattr", "-x", "system.posix_acl_default", v, "/d")
	ok(t, "touch", v, "/d/plain")
	if a := attrs(t, v, "/d/plain"); a.Mode != "0644" || len(a.Xattrs) != 0 {
		t.Errorf("without the default ACL: %s %v", a.Mode, a.Xattrs)
	}
	checked(t, v)
}

func TestFileOptions(t *testing.T) {
	t.Parallel()
	v := newVolume(t, "--label=ssd.a")
	ok(t, "mkdir", "-p", v, "/d/e")
	ok(t, "touch", v, "/d/f", "/d/e/own", "/d/e/g")
	get := func(flag, p string) string {
		t.Helper()
		return strings.Join(lines(t, "get-file-option", flag, v, p), " ")
	}
	ok(t, "set-file-option", "--compression=gzip:3", v, "/d/e/own")
	ok(t, "set-file-option", "--compression=zstd:7", "--data_replicas=2", "--foreground_target=ssd", v, "/d")
	for _, c := range []struct{ flag, path, want string }{
		{"-e", "/d", "compression\tzstd:7 data_replicas\t2 foreground_target\tssd"},
		{"", "/d", "compression\tzstd:7 data_replicas\t2 foreground_target\tssd"},
		{"", "/d/f", ""},
		{"-e", "/d/f", "compression\tzstd:7 data_replicas\t2 foreground_target\tssd"},
		{"-e", "/d/e/g", "compression\tzstd:7 data_replicas\t2 foreground_target\tssd"},
		{"-e", "/d/e/own", "compression\tgzip:3 data_replicas\t2 foreground_target\tssd"},
		{"", "/d/e/own", "compression\tgzip:3"},
	} {
		if c.flag == "" {
			c.flag = "--json=false"
		}
		if got := get(c.flag, c.path); got != c.want {
			t.Errorf("get-file-option %s %s = %q, want %q", c.flag, c.path, got, c.want)
		}
	}
	ok(t, "touch", v, "/d/e/later")
	ok(t, "set-file-option", "--compression=-", v, "/d/e/own")
	ok(t, "set-file-option", "--data_checksum=none", "--nocow", v, "/d/e/later")
	if got, want := get("-e", "/d/e/own"), "compression\tzstd:7 data_replicas\t2 foreground_target\tssd"; got != want {
		t.Errorf("after unsetting: %q, want %q", got, want)
	}
	ok(t, "set-file-option", "--remove-all", v, "/d")
	if got := get("-e", "/d/e/own") + get("-e", "/d"); got != "" {
		t.Errorf("after --remove-all: %q, want none", got)
	}
	if got, want := get("-e", "/d/e/later"), "data_checksum\tnone nocow\t1"; got != want {
		t.Errorf("own options after --remove-all above: %q, want %q", got, want)
	}
	// setfattr is the same, and effective ones are taken and ignored.
	ok(t, "setfattr", "-n", "bcachefs.background_compression", "-v", "lz4", v, "/d/f")
	ok(t, "setfattr", "-n", "bcachefs_effective.background_compression", "-v", "zstd", v, "/d/f")
	if got, want := get("-a", "/d/f"), "background_compression\tlz4"; !strings.Contains(got, want) || !strings.Contains(got, "data_checksum\tcrc32c") {
		t.Errorf("get-file-option -a = %q", got)
	}
	d := parse[struct {
		Files []struct{ Options map[string]string }
	}](t, ok(t, "get-file-option", "--json", v, "/d/f"))
	if want := map[string]string{"background_compression": "lz4"}; !cmp.Equal(d.Files[0].Options, want) {
		t.Errorf("get-file-option --json = %v, want %v", d.Files, want)
	}
	refused(t, 2, "unknown option compresion; did you mean compression", "set-file-option", "--compresion=lz4", v, "/d")
	refused(t, 2, "compression: invalid compression type", "set-file-option", "--compression=rar", v, "/d")
	refused(t, 2, "no option given", "set-file-option", v, "/d")
	refused(t, 1, "data_replicas: too big (max 3)", "set-file-option", "--data_replicas=4", v, "/d")
	refused(t, 1, "needs version 1.24", "set-file-option", "--casefold=1", v, "/d")
	refused(t, 1, "foreground_target: parse error", "set-file-option", "--foreground_target=hdd", v, "/d")
	refused(t, 1, "unknown option nothing", "setfattr", "-n", "bcachefs.nothing", "-v", "1", v, "/d")
	if sup := ok(t, "show-super", v); !strings.Contains(sup, "zstd") || !strings.Contains(sup, "gzip") || !strings.Contains(sup, "lz4") {
		t.Errorf("features of the superblock lack what files may be compressed with:\n%s", sup)
	}
	checked(t, v)
}

func TestFSOptions(t *testing.T) {
	t.Parallel()
	v := newVolume(t)
	if got, want := lines(t, "set-fs-option", "--compression=zstd:3", "--metadata_checksum=xxhash", "--errors=ro", v), []string{"errors: fix_safe -> ro", "metadata_checksum: crc32c -> xxhash", "compression: none -> zstd:3"}; !slices.Equal(got, want) {
		t.Errorf("set-fs-option = %q, want %q", got, want)
	}
	if got, want := lines(t, "set-fs-option", "-d", "0", "--label=hdd.x1", "--durability=0", v), []string{"label:  -> hdd.x1", "durability: 1 -> 0"}; !slices.Equal(got, want) {
		t.Errorf("set-fs-option -d = %q, want %q", got, want)
	}
	ok(t, "set-fs-option", "-d", "0", "--durability=1", v)
	ok(t, "set-fs-option", "--background_target=hdd", "--foreground_target="+v, v)
	d := parse[struct {
		Options []struct {
			Name, Old, New string
			Member         *int
		}
	}](t, ok(t, "set-fs-option", "--json", "--gc_reserve_percent=9", v))
	if len(d.Options) != 1 || d.Options[0].Old != "8" || d.Options[0].New != "9" || d.Options[0].Member != nil {
		t.Errorf("set-fs-option --json = %+v", d)
	}
	for _, c := range []struct {
		code int
		text string
		args []string
	}{
		{1, "block_size can only be set at format time", []string{"--block_size=4k"}},
		{1, "btree_node_size can only be set at format time", []string{"--btree_node_size=64k"}},
		{1, "data_allowed can only be set at format time", []string{"-d", "0", "--data_allowed=user"}},
		{1, "checksum_err_retry_nr=5 needs version", []string{"--checksum_err_retry_nr=5"}},
		{2, "unknown option compressor; did you mean compression", []string{"--compressor=x"}},
		{2, "unknown option bogus", []string{"--bogus=1"}},
		{2, "gc_reserve_percent: too big (max 20)", []string{"--gc_reserve_percent=50"}},
		{2, "data_replicas: too big (max 3)", []string{"--data_replicas=4", "--errors=continue"}},
		{2, "durability is an option of a member", []string{"--durability=1"}},
		{2, "no member 3", []string{"-d", "3", "--durability=1"}},
		{2, "no option given", nil},
		{1, "state cannot be set here", []string{"-d", "0", "--state=ro"}},
	} {
		refused(t, c.code, c.text, append(append([]string{"set-fs-option"}, c.args...), v)...)
	}
	sup := ok(t, "show-super", v)
	for _, want := range []string{"compression:", "zstd:3", "xxhash", "x1 ("} {
		if !strings.Contains(sup, want) {
			t.Errorf("show-super lacks %q:\n%s", want, sup)
		}
	}
	// What was refused together with something else was not done either.
	if strings.Contains(sup, "errors:\x20continue") || strings.Contains(ok(t, "set-fs-option", "--errors=ro", v), "continue") {
		t.Error("an option was set although another was refused")
	}
	checked(t, v)
}

// TestWriteRefuses opens what must not be written: versions, devices in use.
func TestWriteRefuses(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"v39zstd", "v39repl"} {
		paths := testvol.Paths(t, name)
		before := sums(t, paths)
		for _, args := range [][]string{{"mkdir", strings.Join(paths, ":"), "/x"}, {"set-fs-option", "--errors=ro", strings.Join(paths, ":")}, {"reset-counters", strings.Join(paths, ":")}} {
			refused(t, 1, "format version 1.39 is read-only here", args...)
		}
		if after := sums(t, paths); !cmp.Equal(before, after) {
			t.Errorf("%s was changed: %v, want %v", name, after, before)
		}
	}
	two := testvol.Paths(t, "replicas2")
	refused(t, 1, "insufficient_devices_to_start: missing member 1", "mkdir", two[0], "/x")
	v := newVolume(t)
	vol := openVolume(t, []string{v}) // a reader's lock
	refused(t, 1, "device is in use", "mkdir", v, "/x")
	vol.Close()
	ok(t, "mkdir", v, "/x")
	refused(t, 1, v+".none: no such file or device", "mkdir", v+".none", "/x")
	refused(t, 1, "no bcachefs superblock", "mkdir", passFile(t), "/x")
	refused(t, 1, "can only be read", "mkdir", filepath.Join(testvol.Root(t), "testdata", "volumes", "plain.sparse.zst"), "/x")
}

func sums(t *testing.T, paths []string) (s []string) {
	for _, p := range paths {
		b, err := os.ReadFile(p)
		must(t, err)
		s = append(s, fmt.Sprintf("%x", hashOf(b)))
	}
	return s
}

// TestDryRunAndOverlay leaves the volume as it is.
func TestDryRunAndOverlay(t *testing.T) {
	t.Parallel()
	paths := testvol.Paths(t, "replicas2")
	spec := strings.Join(paths, ":")
	before := sums(t, paths)
	if got := ok(t, "mkdir", "-v", "--dry-run", spec, "/new"); got != "created: /new\n" {
		t.Errorf("mkdir --dry-run -v = %q", got)
	}
	file := filepath.Join(t.TempDir(), "overlay")
	ok(t, "mkdir", "--overlay", file, spec, "/over")
	ok(t, "touch", "--overlay", file, spec, "/over/file")
	ok(t, "mkdir", "--dry-run", "--overlay", file, spec, "/over/not")
	if got := names2(t, "ls", "-1", "--overlay", file, spec, "/over"); !slices.Equal(got, []string{"file"}) {
		t.Errorf("in the overlay: %q, want file", got)
	}
	refused(t, 1, "/over: no such file or directory", "ls", spec, "/over")
	refused(t, 1, "no such file", "ls", "--overlay", file+".none", spec)
	if after := sums(t, paths); !cmp.Equal(before, after) {
		t.Errorf("the volume was changed: %v, want %v", after, before)
	}
	if _, err := os.Stat(file + ".none"); err == nil {
		t.Error("reading made an overlay file")
	}
	// Changed below its overlay, it makes no sense any more.
	ok(t, "touch", spec, "/below")
	refused(t, 1, "overlay file belongs to another device, or the device has changed since", "ls", "--overlay", file, spec)
}

func names2(t *testing.T, args ...string) []string { t.Helper(); return lines(t, args...) }

// stopper ends a context when it has been asked for its end a number of times.
type stopper struct {
	context.Context
	left int
}

func (s *stopper) Err() error {
	if s.left--; s.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestInterruptedWrites: Ctrl-C leaves a clean volume, with exit code 130.
func TestInterruptedWrites(t *testing.T) {
	t.Parallel()
	src := t.TempDir()
	for i := range 40 {
		writeFile(t, filepath.Join(src, fmt.Sprintf("f%02d", i)), strings.Repeat("x", i*2000))
	}
	for _, after := range []int{1, 5, 20, 60, 110} {
		v := newVolume(t)
		r := runCtx(&stopper{context.Background(), after}, "cp", "--into", v, src, "/")
		if r.code != 130 || !strings.HasSuffix(r.err, "cp: interrupted\n") {
			t.Errorf("cp interrupted after %d looks: exit code %d, %q, want 130", after, r.code, r.err)
		}
		if info := ok(t, "show-super", v); !strings.Contains(info, "Clean:                                     1") {
			t.Errorf("cp interrupted after %d looks: the volume is not clean", after)
		}
		checked(t, v)
		ok(t, "cp", "--into", "--resume", v, src, "/")
		if got := len(names(t, v, "/"+filepath.Base(src))); got != 40 {
			t.Errorf("after --resume: %d files, want 40", got)
		}
		checked(t, v)
	}
}
