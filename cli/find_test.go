package cli_test

import (
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// TestFind compares expressions with what the manifest says of each file.
func TestFind(t *testing.T) {
	m := manifest(t, "plain")
	mtime := func(p string) int64 { return find(t, m, p).Mtime }
	age := func(e testvol.Entry, unit time.Duration) int64 {
		return int64(time.Since(time.Unix(0, e.Mtime)) / unit)
	}
	base := func(e testvol.Entry) string {
		if e.Path == "." {
			return "/"
		}
		return path.Base(e.Path)
	}
	depth := func(e testvol.Entry) int {
		if e.Path == "." {
			return 0
		}
		return strings.Count(e.Path, "/") + 1
	}
	all := func(testvol.Entry) bool { return true }
	for _, c := range []struct {
		args string
		want func(e testvol.Entry) bool
	}{
		{"", all},
		{"-true", all},
		{"-name f1*", func(e testvol.Entry) bool { return strings.HasPrefix(base(e), "f1") }},
		{"-name f1?_0_*", func(e testvol.Entry) bool {
			b := base(e)
			return strings.HasPrefix(b, "f1") && len(b) > 6 && b[3:6] == "_0_"
		}},
		{"-iname F0*", func(e testvol.Entry) bool { return strings.HasPrefix(base(e), "f0") }},
		{"-path /docs/deep*d3", func(e testvol.Entry) bool { return e.Path == "docs/deep/d0/d1/d2/d3" }},
		{"-type f", func(e testvol.Entry) bool { return e.Type == 'f' }},
		{"-type d,l", func(e testvol.Entry) bool { return e.Type == 'd' || e.Type == 'l' }},
		{"-type s -o -type p", func(e testvol.Entry) bool { return e.Type == 's' || e.Type == 'p' }},
		{"! -type f", func(e testvol.Entry) bool { return e.Type != 'f' }},
		{"-type f -size +100k", func(e testvol.Entry) bool { return e.Type == 'f' && e.Size > 100<<10 }},
		{"-type f -size -2", func(e testvol.Entry) bool { return e.Type == 'f' && e.Size <= 512 }},
		{"-type f -size 12345c", func(e testvol.Entry) bool { return e.Type == 'f' && e.Size == 12345 }},
		{"-type f -size 1M", func(e testvol.Entry) bool { return e.Type == 'f' && e.Size > 0 && e.Size <= 1<<20 }},
		{"-uid 1000", func(e testvol.Entry) bool { return e.UID == 1000 }},
		{"-uid +1000 -gid +1000", func(e testvol.Entry) bool { return e.UID > 1000 && e.GID > 1000 }},
		{"-links +2 -type f", func(e testvol.Entry) bool { return e.Type == 'f' && e.Nlink > 2 }},
		{"-perm 0640", func(e testvol.Entry) bool { return e.Mode == 0o640 }},
		{"-perm -4000", func(e testvol.Entry) bool { return e.Mode&0o4000 != 0 }},
		{"-perm /6000", func(e testvol.Entry) bool { return e.Mode&0o6000 != 0 }},
		{"-empty -type f", func(e testvol.Entry) bool { return e.Type == 'f' && e.Size == 0 }},
		{"-empty -type d", func(e testvol.Entry) bool {
			return e.Type == 'd' && !slices.ContainsFunc(m, func(o testvol.Entry) bool { return o.Path != "." && path.Dir(o.Path) == e.Path })
		}},
		{"-newer /docs/f11_1_12345", func(e testvol.Entry) bool { return e.Mtime > mtime("docs/f11_1_12345") }},
		{"-newermt 2099-01-01", func(e testvol.Entry) bool { return e.Path == "many" }},
		{"-newermt @1000000000", func(e testvol.Entry) bool { return e.Mtime > 1e18 }},
		{"-mtime +1000", func(e testvol.Entry) bool { return age(e, 24*time.Hour) > 1000 }},
		{"-mtime -0", func(e testvol.Entry) bool { return time.Until(time.Unix(0, e.Mtime)) > 0 }},
		{"-maxdepth 0", func(e testvol.Entry) bool { return e.Path == "." }},
		{"-maxdepth 1 -type d", func(e testvol.Entry) bool { return depth(e) <= 1 && e.Type == 'd' }},
		{"-mindepth 5", func(e testvol.Entry) bool { return depth(e) >= 5 }},
		{"( -type f -o -type d ) -a ! -path /docs*", func(e testvol.Entry) bool {
			return (e.Type == 'f' || e.Type == 'd') && !strings.HasPrefix(e.Path, "docs")
		}},
		{"-type l -print -o -false", func(e testvol.Entry) bool { return e.Type == 'l' }},
		{"-not -not -type c", func(e testvol.Entry) bool { return e.Type == 'c' }},
	} {
		args := append(on(t, "find", "plain", "/"), strings.Fields(c.args)...)
		var want []string
		for _, e := range m {
			if c.want(e) {
				want = append(want, path.Join("/", e.Path))
			}
		}
		got := strings.Split(strings.TrimSuffix(ok(t, append(args, "-print0")...), "\x00"), "\x00")
		if strings.Contains(c.args, " -o ") || strings.Contains(c.args, "-print") {
			// An action of our own would bind to the last alternative.
			got = strings.Split(strings.TrimSuffix(ok(t, args...), "\n"), "\n")
			want = slices.DeleteFunc(want, func(s string) bool { return strings.Contains(s, "\n") })
			got = slices.DeleteFunc(got, func(s string) bool { return s == "line" || s == "/names/new" })
		}
		if len(got) == 1 && got[0] == "" {
			got = nil
		}
		slices.Sort(got)
		slices.Sort(want)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("find %s (-want +got):\n%s", c.args, d)
		}
		if len(want) == 0 {
			t.Errorf("find %s: nothing is wanted, so the test says nothing", c.args)
		}
	}
}

// TestFindOrder: directories before what is in them, names by their bytes.
func TestFindOrder(t *testing.T) {
	out := ok(t, on(t, "find", "plain", "/", "-print0")...)
	got := strings.Split(strings.TrimSuffix(out, "\x00"), "\x00")
	key := func(p string) string { return strings.ReplaceAll(p, "/", "\x00") }
	if !slices.IsSortedFunc(got, func(a, b string) int { return strings.Compare(key(a), key(b)) }) {
		t.Errorf("find is not in order: %q", got[:20])
	}
	if again := ok(t, on(t, "find", "plain", "/", "-print0")...); again != out {
		t.Error("find gives another order the second time")
	}
}

func TestFindOutput(t *testing.T) {
	m := manifest(t, "plain")
	all := parseLines[jsonFile](t, ok(t, append([]string{"find", "--json"}, append(volume(t, "plain"), "/docs", "-type", "f")...)...))
	n := 0
	for i, j := range all {
		if i == len(all)-1 {
			if j.Schema != 1 {
				t.Errorf("last line = %+v, want schema 1", j)
			}
			break
		}
		e := find(t, m, strings.TrimPrefix(j.Path, "/"))
		if got, want := j.line(t), entryLine(&e, "/"); got != want {
			t.Errorf("find --json = %s, want %s", got, want)
		}
		n++
	}
	if n < 50 {
		t.Errorf("find --json printed %d files, want at least 50", n)
	}
	e := find(t, m, "link-rel")
	got := strings.Fields(ok(t, on(t, "find", "plain", "/link-rel", "-ls")...))
	want := []string{"4580", "4", "lrwxrwxrwx", "1", "0", "0", "16", local(e.Mtime)[:10], local(e.Mtime)[11:], "/link-rel", "->", "docs/f11_1_12345"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("find -ls (-want +got):\n%s", d)
	}
	// A subvolume is crossed, or not.
	snap := volume(t, "snapshots")
	crossed := strings.Count(ok(t, append([]string{"find"}, append(snap, "/")...)...), "\n")
	for _, args := range [][]string{{"find", "--one-subvolume", snap[0], "/"}, {"find", snap[0], "/", "-xdev"}} {
		if kept := strings.Count(ok(t, args...), "\n"); kept*10 > crossed {
			t.Errorf("%q: %d lines, want few of %d", args, kept, crossed)
		}
	}
}

func TestDu(t *testing.T) {
	m := manifest(t, "plain")
	type doc struct {
		Schema int
		Paths  []struct {
			Path                string
			Stored, Size, Files int64
		}
	}
	got := parse[doc](t, ok(t, on(t, "du", "plain", "--json", "-a")...))
	want := map[string][2]int64{} // size, files
	seen := map[uint64]bool{}
	slices.SortFunc(m, func(a, b testvol.Entry) int {
		return strings.Compare(strings.ReplaceAll(a.Path, "/", "\x00"), strings.ReplaceAll(b.Path, "/", "\x00"))
	})
	for _, e := range m {
		n := e.Size
		if e.Type == 'l' {
			n = int64(len(e.Target))
		}
		if e.Type == 'f' && e.Nlink > 1 && seen[e.Ino] {
			n = 0
		}
		seen[e.Ino] = true
		for p := e.Path; ; p = path.Dir(p) {
			w := want[p]
			want[p] = [2]int64{w[0] + n, w[1] + 1}
			if p == "." {
				break
			}
		}
	}
	if len(got.Paths) != len(m) {
		t.Errorf("du -a --json: %d paths, want %d", len(got.Paths), len(m))
	}
	for _, p := range got.Paths {
		k := strings.TrimPrefix(p.Path, "/")
		if k == "" {
			k = "."
		}
		if !strings.Contains(p.Path, "\ufffd") && (p.Size != want[k][0] || p.Files != want[k][1]) {
			t.Errorf("du %s = %d bytes in %d files, want %d in %d", p.Path, p.Size, p.Files, want[k][0], want[k][1])
		}
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-s", "/sparse"}, "76\t20480\t/sparse\n"},
		{[]string{"-sh", "/sparse"}, "76K\t20M\t/sparse\n"},
		{[]string{"-sb", "/sparse"}, "77824\t20971520\t/sparse\n"},
		{[]string{"-s", "/lost+found", "/sparse"}, "0\t0\t/lost+found\n76\t20480\t/sparse\n"},
		{[]string{"-d", "0", "/lost+found"}, "0\t0\t/lost+found\n"},
	} {
		if got := ok(t, on(t, "du", "plain", c.args...)...); got != c.want {
			t.Errorf("du %q = %q, want %q", c.args, got, c.want)
		}
	}
	// Two copies take twice the space; compression takes less.
	stored := func(vol string, args ...string) int64 {
		d := parse[doc](t, ok(t, on(t, "du", vol, append(args, "-s", "--json")...)...))
		return d.Paths[0].Stored
	}
	one, two := stored("plain", "/docs"), stored("replicas2", "/docs")
	if two != 2*one {
		t.Errorf("du of two copies = %d, want 2 * %d", two, one)
	}
	if c, p := stored("zstd", "/churn"), stored("plain", "/churn"); c*2 > p {
		t.Errorf("du of compressed files = %d, want less than half of %d", c, p)
	}
	type shared struct{ Paths []struct{ Shared int64 } }
	if s := parse[shared](t, ok(t, on(t, "du", "reflink", "-s", "--shared", "--json")...)); s.Paths[0].Shared < 1<<20 {
		t.Errorf("du --shared = %d, want at least 1 MiB", s.Paths[0].Shared)
	}
}
