package cli_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"

	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// golden reads a file of testdata/inspect.
func golden(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "inspect", name))
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(name, ".zst") {
		z, err := zstd.NewReader(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		if b, err = z.DecodeAll(b, nil); err != nil {
			t.Fatal(err)
		}
	}
	return string(b)
}

var logLine = regexp.MustCompile(`^[a-z_]+\.\.\. done$`)

// sections cuts a text into what stands under its "== NAME" lines. Log lines of
// the tools and empty lines at the end are left out.
func sections(text string) map[string][]string {
	m := map[string][]string{}
	head := ""
	for _, l := range strings.Split(text, "\n") {
		if h, ok := strings.CutPrefix(l, "== "); ok {
			head = h
			m[head] = nil
		} else if !logLine.MatchString(l) {
			m[head] = append(m[head], l)
		}
	}
	for h, l := range m {
		for len(l) > 0 && l[len(l)-1] == "" {
			l = l[:len(l)-1]
		}
		m[h] = l
	}
	return m
}

// lossy replaces what is no UTF-8 as the tools do: a whole cut-off sequence by
// one replacement character.
func lossy(s string) string {
	b := []byte(s)
	var out strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			for n < min(len(b), 4) && !utf8.FullRune(b[:n]) && b[n]&0xc0 == 0x80 && !utf8.FullRune(b[:n+1]) {
				n++
			}
		}
		out.WriteRune(r)
		b = b[n:]
	}
	return out.String()
}

// inline is the text of inline data: the tools 1.13 print an address.
var inline = regexp.MustCompile(`(datalen \d+:).*`)

// same compares output with that of the tools, line by line.
func same(t *testing.T, what string, got string, want []string) {
	t.Helper()
	g := sections(lossy(got))[""]
	if len(g) != len(want) {
		t.Errorf("%s: %d lines, want %d", what, len(g), len(want))
	}
	bad := 0
	for i := range min(len(g), len(want)) {
		gl, wl := g[i], want[i]
		if gl != wl && inline.ReplaceAllString(gl, "$1") != inline.ReplaceAllString(wl, "$1") {
			if bad++; bad <= 3 {
				t.Errorf("%s: line %d = %q, want %q", what, i+1, gl, wl)
			}
		}
	}
	if bad > 3 {
		t.Errorf("%s: %d more lines differ", what, bad-3)
	}
}

// checkList compares `list` with what the maker's tools printed of a volume, key by
// key; the style follows from the volume.
func checkList(t *testing.T, spec []string, text string) {
	t.Helper()
	want := sections(text)
	names := slices.Sorted(maps.Keys(want))
	n := 0
	for _, name := range names {
		if name == "" {
			continue
		}
		n++
		btree, mode, _ := strings.Cut(name, " mode ")
		args := append([]string{"list", "-b", btree}, spec...)
		if mode != "" {
			args = append(args, "-m", mode)
		}
		same(t, name, ok(t, args...), want[name])
	}
	if n < 10 {
		t.Errorf("%d btrees, want at least 10", n)
	}
}

func TestList(t *testing.T) {
	set := testvol.Small(t)
	n := 0
	for _, name := range set.Names() {
		if slices.Contains(set.Kinds(name), "list") {
			n++
			t.Run(name, func(t *testing.T) { checkList(t, volume(t, name), string(set.Text(t, name, "list"))) })
		}
	}
	if n < 12 {
		t.Errorf("%d volumes, want at least 12", n)
	}
}

// TestListModes compares the other modes with what tools 1.13 printed.
func TestListModes(t *testing.T) {
	for _, name := range []string{"plain", "geometry", "snapshots", "replicas2", "nocsum"} {
		t.Run(name, func(t *testing.T) {
			for head, want := range sections(golden(t, name+".modes.zst")) {
				btree, mode, _ := strings.Cut(head, " mode ")
				if head == "" || len(want) > 0 && strings.Contains(want[0], "btree_ptr SPOS_MAX") {
					continue // a btree without root, of which the tools print an empty pointer
				}
				got := ok(t, on(t, "list", name, "-b", btree, "-m", mode)...)
				if mode == "formats" && name == "snapshots" && btree == "extents" {
					// A node with packed and unpacked keys: the state of the reference's
					// search tree is only estimated.
					re := regexp.MustCompile(`failed unpacked \d+`)
					got = re.ReplaceAllString(got, "failed unpacked")
					for i := range want {
						want[i] = re.ReplaceAllString(want[i], "failed unpacked")
					}
				}
				same(t, head, got, want)
			}
		})
	}
}

// TestListUnclean shows that the keys of a journal that was not replayed are part
// of the list.
func TestListUnclean(t *testing.T) {
	for _, name := range []string{"crash", "crash2dev", "v39crash"} {
		got := ok(t, on(t, "list", name, "-b", "dirents", "-k", "dirent")...)
		names := map[string]bool{}
		for l := range strings.Lines(got) {
			if _, rest, found := strings.Cut(l, ": "); found {
				n, _, _ := strings.Cut(strings.TrimSpace(rest), " -> ")
				names[n] = true
			}
		}
		var missing []string
		all := manifest(t, name)
		for _, e := range all {
			base := e.Path[strings.LastIndexByte(e.Path, '/')+1:]
			if !strings.ContainsAny(base, "\\\n") && base != "" && base != "." && !names[base] {
				missing = append(missing, base)
			}
		}
		if len(missing) > 0 {
			t.Errorf("list %s: %d of %d names missing: %q", name, len(missing), len(all), missing)
		}
	}
}

func TestListRange(t *testing.T) {
	lines := func(args ...string) []string {
		return strings.Split(strings.TrimSuffix(ok(t, on(t, "list", "plain", args...)...), "\n"), "\n")
	}
	for _, tt := range []struct {
		args []string
		want []string // starts of the lines
	}{
		{[]string{"-s", "4130:5", "-e", "4132:5"}, []string{"u64s 70 type inline_data 4130:8:U32_MAX", "u64s 67 type inline_data 4131:8:U32_MAX"}},
		{[]string{"-s", "4130:9", "-e", "4131:9"}, []string{"u64s 67 type inline_data 4131:8:U32_MAX"}},
		{[]string{"-b", "inodes", "-m", "nodes", "-s", "0:4613"}, []string{"u64s 11 type btree_ptr_v2 SPOS_MAX", "u64s 11 type btree_ptr_v2 SPOS_MAX"}},
		{[]string{"-b", "inodes", "-m", "nodes", "-l", "1"}, []string{"u64s 11 type btree_ptr_v2 SPOS_MAX"}},
		{[]string{"-b", "inodes", "-l", "1"}, []string{"u64s 11 type btree_ptr_v2 0:4612:U32_MAX", "u64s 11 type btree_ptr_v2 SPOS_MAX"}},
		{[]string{"-b", "inodes", "-l", "2"}, []string{""}},
		{[]string{"-k", "reflink_p"}, []string{""}},
		{[]string{"-b", "stripes", "-m", "nodes"}, []string{""}},
	} {
		got := lines(tt.args...)
		for i := range got {
			if i < len(tt.want) && strings.HasPrefix(got[i], tt.want[i]) {
				got[i] = tt.want[i]
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("list %q = %q, want %q", tt.args, got, tt.want)
		}
	}
}

func TestListJSON(t *testing.T) {
	type key struct {
		Btree, Type string
		Pos         struct{ Inode, Offset uint64 }
		Value       map[string]any
		Error       string
	}
	for _, b := range []string{"extents", "inodes", "dirents", "alloc", "accounting"} {
		keys := parseLines[key](t, ok(t, on(t, "list", "plain", "-b", b, "--json")...))
		if len(keys) < 100 {
			t.Errorf("list -b %s --json: %d keys, want more than 100", b, len(keys))
		}
		for _, k := range keys {
			if k.Btree != b || k.Type == "" || k.Error != "" {
				t.Fatalf("list -b %s --json: key %+v", b, k)
			}
		}
	}
	type node struct {
		Level    int
		Min, Max string
		Pointer  *key
		Format   *struct {
			Bytes    int `json:"bytes_used"`
			Capacity int
		}
		Records []struct {
			Sector int
			Keys   []key
		}
	}
	for _, mode := range []string{"nodes", "formats", "nodes-ondisk"} {
		nodes := parseLines[node](t, ok(t, on(t, "list", "plain", "-b", "inodes", "-m", mode, "--json")...))
		if len(nodes) != 3 || nodes[2].Level != 1 || nodes[0].Min != "POS_MIN" || nodes[2].Max != "SPOS_MAX" {
			t.Fatalf("list -m %s --json = %+v", mode, nodes)
		}
		for _, n := range nodes {
			if n.Pointer == nil || (mode == "formats") != (n.Format != nil) || (mode == "nodes-ondisk") != (len(n.Records) > 0) {
				t.Errorf("list -m %s --json: node %+v", mode, n)
			}
		}
	}
}

func TestInspectUsage(t *testing.T) {
	for _, args := range [][]string{
		{"list", "-b", "foo", "x"}, {"list", "-s", "1:x", "x"}, {"list", "-e", "1", "x"}, {"list", "-m", "foo", "x"}, {"list", "-k", "foo", "x"},
		{"list", "-l", "9", "x"}, {"list", "--compat", "1.12", "x"}, {"list"},
		{"list_journal"}, {"list_journal", "-s", "x", "x"}, {"list_journal", "-s", "9..3", "x"}, {"list_journal", "-b", "foo", "x"}, {"list_journal", "-k", "extents", "x"},
		{"list_journal", "-a", "-d", "x"}, {"list_journal", "-t", "[", "x"}, {"list_journal", "-V", "perhaps", "x"}, {"list_journal", "-n", "-1", "x"},
		{"list_journal", "-k", "extents:1:0-inodes:2:0", "x"},
		{"show-super"}, {"show-super", "-f", "nope", "x"}, {"show-super", "-f", "ext", "-F", "ext", "x"}, {"probe"},
		{"fs", "usage"}, {"fs", "usage", "-f", "nope", "x"}, {"fs", "nope"}, {"subvolume", "nope"}, {"subvolume", "list"},
		{"subvolume", "list", "--sort", "color", "x"}, {"subvolume", "list-snapshots", "a", "b", "c"}, {"dump", "x"}, {"dump", "-o", "y"}, {"dump", "-o", "y", "--sanitize", "all", "x"},
	} {
		if r := run(args...); r.code != 2 || r.out != "" || r.err == "" {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q, want 2 and a reason", args, r.code, r.out, r.err)
		}
	}
	missing := filepath.Join(t.TempDir(), "missing.img")
	for _, args := range [][]string{{"list", missing}, {"list_journal", missing}, {"show-super", missing}, {"probe", missing}, {"fs", "usage", missing}, {"subvolume", "list", missing}, {"dump", "-o", missing + "x", missing}} {
		if r := run(args...); r.code != 1 || !strings.Contains(r.err, missing) {
			t.Errorf("%q: exit code %d, stderr %q, want 1 and the path", args, r.code, r.err)
		}
	}
	for _, group := range []string{"fs", "subvolume", "subvol"} {
		if r := run(group); r.code != 0 || !strings.Contains(r.out, "Available Commands") {
			t.Errorf("%s: exit code %d, stdout %q, want its help", group, r.code, r.out)
		}
	}
}
