package cli_test

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// jsonFile is a file as the commands print it with --json.
type jsonFile struct {
	Path      string
	PathRaw   string `json:"path_base64"`
	Type      string
	Mode      string
	Nlink     uint64
	UID, GID  uint32
	Size      int64
	Allocated int64
	Major     uint32
	Minor     uint32
	Inode     uint64
	Ino       uint64
	Subvolume uint32
	Mtime     string
	MtimeUnix int64 `json:"mtime_unix"`
	Target    *string
	TargetRaw string `json:"target_base64"`
	Link      string `json:"hard_link_to"`
	Error     string
	Schema    int
	Errors    []struct{ Path, Error string }
}

var typeNames = map[byte]string{'f': "file", 'd': "directory", 'l': "symlink", 'c': "char", 'b': "block", 'p': "fifo", 's': "socket"}

// line is what tests compare of a file: JSON and manifest tell it alike.
func (j *jsonFile) line(t *testing.T) string {
	size := j.Size
	if j.Type != "file" {
		size = 0
	}
	s := fmt.Sprintf("%q %s %s nlink %d %d:%d size %d rdev %d:%d inode %d mtime %s", unraw(t, j.Path, j.PathRaw), j.Type, j.Mode, j.Nlink, j.UID, j.GID, size, j.Major, j.Minor, j.Inode, j.Mtime)
	if j.Target != nil {
		s += fmt.Sprintf(" -> %q", unraw(t, *j.Target, j.TargetRaw))
	}
	return s
}

func entryLine(e *testvol.Entry, prefix string) string {
	s := fmt.Sprintf("%q %s %04o nlink %d %d:%d size %d rdev %d:%d inode %d mtime %s", path.Join(prefix, e.Path), typeNames[e.Type], e.Mode, e.Nlink, e.UID, e.GID, e.Size, e.Major, e.Minor, e.Ino, rfc3339(e.Mtime))
	if e.Type == 'l' {
		s += fmt.Sprintf(" -> %q", e.Target)
	}
	return s
}

// TestLsJSON compares ls -aR --json with what a mount shows.
func TestLsJSON(t *testing.T) {
	for _, name := range []string{"plain", "aclquota", "snapshots", "enczstdwide"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := ok(t, on(t, "ls", name, "-AR", "--json")...)
			all := parseLines[jsonFile](t, out)
			last := all[len(all)-1]
			if last.Schema != 1 || len(last.Errors) != 0 {
				t.Errorf("last line = %+v, want schema 1 and no errors", last)
			}
			var got, want []string
			for _, j := range all[:len(all)-1] {
				got = append(got, j.line(t))
			}
			for _, e := range manifest(t, name) {
				if e.Path != "." {
					want = append(want, entryLine(&e, "/"))
				}
			}
			slices.Sort(got)
			slices.Sort(want)
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("ls -AR --json differs from the manifest (-want +got):\n%s", d)
			}
		})
	}
}

func TestLsText(t *testing.T) {
	ls := func(args ...string) string { t.Helper(); return ok(t, on(t, "ls", "plain", args...)...) }
	m := manifest(t, "plain")
	var top []string
	for _, e := range m {
		if e.Path != "." && !strings.Contains(e.Path, "/") {
			top = append(top, e.Path)
		}
	}
	slices.Sort(top)
	if got, want := ls(), strings.Join(top, "\n")+"\n"; got != want {
		t.Errorf("ls = %q, want %q", got, want)
	}
	slices.Reverse(top)
	if got, want := ls("-r", "/"), strings.Join(top, "\n")+"\n"; got != want {
		t.Errorf("ls -r = %q, want %q", got, want)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-d", "/docs"}, "/docs\n"},
		{[]string{"-d", "docs"}, "docs\n"},
		{[]string{"/docs/deep"}, "d0\n"},
		{[]string{"/fifo", "/docs/deep", "/chr"}, "/chr\n/fifo\n\n/docs/deep:\nd0\n"},
		{[]string{"-R", "/docs/deep/d0/d1/d2/d3/d4/d5/d6/d7/d8/d9"}, "/docs/deep/d0/d1/d2/d3/d4/d5/d6/d7/d8/d9:\nd10\n\n/docs/deep/d0/d1/d2/d3/d4/d5/d6/d7/d8/d9/d10:\nd11\n\n/docs/deep/d0/d1/d2/d3/d4/d5/d6/d7/d8/d9/d10/d11:\n"},
		{[]string{"-i", "-d", "/"}, "4096 /\n"},
		{[]string{"-ld", "/perm0"}, "-rwsr-xr-x 1 0 0 0 " + local(find(t, m, "perm0").Mtime) + " /perm0\n"},
		{[]string{"-nd", "/perm2"}, "-rwxrwxrwt 1 65534 65534 0 " + local(find(t, m, "perm2").Mtime) + " /perm2\n"},
		{[]string{"-ld", "/blk"}, "brw-r----- 1 0 0 259,70000 " + local(find(t, m, "blk").Mtime) + " /blk\n"},
		{[]string{"-l", "/link-rel"}, "lrwxrwxrwx 1 0 0 16 " + local(find(t, m, "link-rel").Mtime) + " /link-rel -> docs/f11_1_12345\n"},
		{[]string{"-ldh", "/sparse"}, "-rw-r--r-- 1 0 0 20M " + local(find(t, m, "sparse").Mtime) + " /sparse\n"},
	} {
		if got := ls(c.args...); got != c.want {
			t.Errorf("ls %q = %q, want %q", c.args, got, c.want)
		}
	}
	// By size and by time: the order of the manifest.
	docs := func(less func(a, b testvol.Entry) int) string {
		var es []testvol.Entry
		for _, e := range m {
			if path.Dir(e.Path) == "docs" && e.Type == 'f' {
				es = append(es, e)
			}
		}
		slices.SortStableFunc(es, less)
		var b strings.Builder
		for _, e := range es {
			b.WriteString(path.Base(e.Path) + "\n")
		}
		return b.String()
	}
	noDir := func(s string) string { return strings.ReplaceAll(s, "deep\n", "") }
	if got, want := noDir(ls("-S", "/docs")), docs(func(a, b testvol.Entry) int { return int(b.Size - a.Size) }); got != want {
		t.Errorf("ls -S = %q, want %q", got, want)
	}
	if got, want := noDir(ls("-t", "/docs")), docs(func(a, b testvol.Entry) int {
		switch {
		case a.Mtime > b.Mtime:
			return -1
		case a.Mtime < b.Mtime:
			return 1
		}
		return 0
	}); got != want {
		t.Errorf("ls -t = %q, want %q", got, want)
	}
	if got := ls("-a", "/docs"); !strings.HasPrefix(got, ".\n..\n") {
		t.Errorf("ls -a = %q, want . and .. first", got)
	}
	if a, b := ls("-A", "/names"), ls("/names"); strings.TrimPrefix(a, ".hidden\n") == a && !strings.Contains(a, "\n.hidden\n") || strings.Contains(b, "\n.hidden\n") {
		t.Errorf("ls -A = %q and ls = %q, want .hidden in the first alone", a, b)
	}
}

// TestLsNames prints names with control characters and bytes that are no text.
func TestLsNames(t *testing.T) {
	raw, mask, esc := ok(t, on(t, "ls", "plain", "/names")...), ok(t, on(t, "ls", "plain", "-q", "/names")...), ok(t, on(t, "ls", "plain", "-b", "/names")...)
	for _, c := range []struct{ raw, mask, esc string }{
		{"new\nline", "new?line", `new\nline`},
		{"tab\there", "tab?here", `tab\there`},
		{"bad\xff\xfeutf8", "bad??utf8", `bad\377\376utf8`},
		{"日本語のファイル", "日本語のファイル", "日本語のファイル"},
		{"with space", "with space", "with space"},
	} {
		for _, x := range []struct{ what, got, want string }{{"ls", raw, c.raw}, {"ls -q", mask, c.mask}, {"ls -b", esc, c.esc}} {
			if !strings.Contains(x.got, "\n"+x.want+"\n") {
				t.Errorf("%s /names = %q, want a line %q", x.what, x.got, x.want)
			}
		}
	}
}
