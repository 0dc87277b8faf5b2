package cli_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// TestBadInput runs what cannot work: exit codes and texts of chapter 08
// sections 5.3 and 5.4.
func TestBadInput(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	zero := file("zero", make([]byte, 1<<20))
	ext := make([]byte, 1<<20)
	copy(ext[1024+56:], "\x53\xef")
	ext[1024+24] = 2                                 // block size
	copy(ext[1024:], "\x40\x00\x00\x00\x00\x04\x00") // inodes, blocks
	ext[1024+96] = 0x40                              // extents: ext4
	text := file("text", []byte(strings.Repeat("hello ", 20000)))
	wrong := file("wrong", []byte("not it\n"))
	plain := volume(t, "plain")[0]
	zstd := volume(t, "zstd")[0]
	enc := volume(t, "enczstdwide")[2]
	none := filepath.Join(dir, "none")
	for _, c := range []struct {
		args []string
		code int
		err  string // the last line of standard error
	}{
		{[]string{"bogus"}, 2, `gobcachefs: unknown command "bogus"; see gobcachefs --help`},
		{nil, 2, "gobcachefs: missing command"},
		{[]string{"ls"}, 2, "gobcachefs: ls: VOLUME is missing"},
		{[]string{"ls", "--bogus", plain}, 2, "gobcachefs: ls: unknown flag: --bogus"},
		{[]string{"cat", plain}, 2, "gobcachefs: cat: an argument is missing"},
		{[]string{"stat", plain}, 2, "gobcachefs: stat: an argument is missing"},
		{[]string{"cp", plain, "/docs"}, 2, "gobcachefs: cp: an argument is missing"},
		{[]string{"cat", "--device", plain}, 2, "gobcachefs: cat: an argument is missing"},
		{[]string{"cat", plain, "/appended", "--offset", "-1"}, 2, "gobcachefs: cat: offset and length must not be negative"},
		{[]string{"cat", plain, "/appended", "--length", "x"}, 2, `gobcachefs: cat: invalid argument "x" for "--length" flag: strconv.ParseInt: parsing "x": invalid syntax`},
		{[]string{"du", "-s", "-a", plain}, 2, "gobcachefs: du: --summarize excludes --all and --max-depth"},
		{[]string{"ls", "-o", "bogus", plain}, 2, "gobcachefs: ls: unknown option bogus"},
		{[]string{"ls", "-o", "degarded", plain}, 2, "gobcachefs: ls: unknown option degarded; did you mean degraded"},
		{[]string{"ls", "-o", "subvolidd=1", plain}, 2, "gobcachefs: ls: unknown option subvolidd; did you mean subvolid"},
		{[]string{"ls", "-o", "sb=8x", plain}, 2, "gobcachefs: ls: sb: must be a sector number"},
		{[]string{"ls", "-o", "sb=x", plain}, 2, "gobcachefs: ls: sb: must be a sector number"},
		{[]string{"ls", "-o", "subvolid=x", plain}, 2, "gobcachefs: ls: subvolid: must be a subvolume number"},
		{[]string{"ls", "-o", "subvolid=1,subvol=/", plain}, 2, "gobcachefs: ls: subvol and subvolid exclude each other"},
		{[]string{"ls", "-o", "subvolid=99", plain}, 1, "gobcachefs: ls: subvolume 99: no such file or directory"},
		{[]string{"ls", "-o", "subvol=/docs", plain}, 1, "gobcachefs: ls: /docs: not a subvolume: invalid argument"},
		{[]string{"ls", "-o", "subvol=/none", plain}, 1, "gobcachefs: ls: /none: no such file or directory"},
		{[]string{"ls", none}, 1, "gobcachefs: ls: " + none + ": no such file or device"},
		{[]string{"ls", zero}, 1, "gobcachefs: ls: " + zero + ": no bcachefs superblock (found: empty (all zero))"},
		{[]string{"ls", file("ext", ext)}, 1, "gobcachefs: ls: " + dir + "/ext: no bcachefs superblock (found: ext4)"},
		{[]string{"show-super", file("ext", ext)}, 1, "gobcachefs: show-super: " + dir + "/ext: no bcachefs superblock (found: ext4)"},
		{[]string{"probe", file("tiny", []byte("hello\n"))}, 1, "gobcachefs: probe: " + dir + "/tiny: no bcachefs superblock (found: nothing known in 6 bytes, too few for one)"},
		{[]string{"ls", text}, 1, "gobcachefs: ls: " + text + ": no bcachefs superblock (found: nothing known)"},
		{[]string{"ls", plain + ":" + plain}, 1, "gobcachefs: ls: " + plain + ": the same device as " + plain},
		{[]string{"ls", enc}, 1, "gobcachefs: ls: encrypted: run unlock, or give --passphrase-file"},
		{[]string{"ls", enc, "--passphrase-file", wrong}, 1, "gobcachefs: ls: incorrect passphrase"},
		{[]string{"ls", enc, "--passphrase-file", none}, 1, "gobcachefs: ls: " + none + ": no such file or directory"},
		{[]string{"ls", plain, "/none"}, 1, "gobcachefs: ls: /none: no such file or directory"},
		{[]string{"ls", plain, "/appended/x"}, 1, "gobcachefs: ls: /appended/x: not a directory"},
		{[]string{"cat", plain, "/docs"}, 1, "gobcachefs: cat: /docs: is a directory"},
		{[]string{"cat", plain, "/fifo"}, 1, "gobcachefs: cat: /fifo: invalid argument"},
		{[]string{"cat", plain, "/a\x1bb\nc"}, 1, `gobcachefs: cat: /a\033b\nc: no such file or directory`},
		{[]string{"tar", plain, "/none"}, 1, "gobcachefs: tar: /none: no such file or directory"},
		{[]string{"tar", plain, "-f", none + "/x/y"}, 1, "gobcachefs: tar: "},
		{[]string{"cp", plain, "/docs", "/fifo", none}, 2, "gobcachefs: cp: " + none + ": not a directory, and there are several SRC"},
		{[]string{"cp", plain, "/docs", text}, 1, "gobcachefs: cp: " + text + ": not a directory"},
		{[]string{"cp", plain, "/docs", none + "/x/y"}, 1, "gobcachefs: cp: " + none + "/x/y: no such file or directory"},
		{[]string{"find", plain, "-name"}, 2, "gobcachefs: find: -name needs an argument"},
		{[]string{"find", plain, "-bogus"}, 2, "gobcachefs: find: unknown predicate -bogus"},
		{[]string{"find", plain, "-size", "3x"}, 2, "gobcachefs: find: -size 3x: must be a number, with + or - before it for more or less"},
		{[]string{"find", plain, "(", "-type", "f"}, 2, "gobcachefs: find: missing ) in the expression"},
		{[]string{"find", plain, "-type", "f", ")"}, 2, "gobcachefs: find: unexpected ) in the expression"},
		{[]string{"find", plain, "-type", "z"}, 2, "gobcachefs: find: -type z: must be of f, d, l, c, b, p, s"},
		{[]string{"find", plain, "!"}, 2, "gobcachefs: find: the expression ends too early"},
		{[]string{"find", plain, "-newer", "/none"}, 1, "gobcachefs: find: /none: no such file or directory"},
		{[]string{"find"}, 2, "gobcachefs: find: VOLUME is missing"},
		{[]string{"completions", "tcsh"}, 2, "gobcachefs: completions: SHELL: invalid selection: choose bash, zsh, fish, powershell"},
		{[]string{"version", "x"}, 2, "gobcachefs: version: too many arguments: x"},
		{[]string{"man", "x", "y"}, 2, "gobcachefs: man: too many arguments: y"},
		{[]string{"man", none + "/x/y"}, 1, "gobcachefs: man: " + none + "/x/y: no such file or directory"},
	} {
		r := run(c.args...)
		lines := strings.Split(strings.TrimSuffix(r.err, "\n"), "\n")
		if last := lines[len(lines)-1]; r.code != c.code || !strings.HasPrefix(last, c.err) || len(c.err) < len(last) && !strings.HasSuffix(c.err, ": ") {
			t.Errorf("%q: exit code %d, stderr %q, want %d, %q", c.args, r.code, last, c.code, c.err)
		}
	}
	if r := run("show-super", filepath.Join(dir, "ext")); strings.Count(r.err, "\n") != 1 {
		t.Errorf("show-super of ext4: stderr %q, want one line", r.err)
	}
	if r := run("ls", plain+":"+zstd); r.code != 1 || !strings.Contains(r.err, " belongs to volume ") {
		t.Errorf("members of two volumes: exit code %d, stderr %q, want 1, … belongs to volume …", r.code, r.err)
	}
}

func TestJSONError(t *testing.T) {
	r := run("stat", "--json", "-o", "subvolid=99", volume(t, "plain")[0], "/")
	type doc struct {
		Schema int
		Error  struct {
			Exit int
			Msg  string
		}
	}
	d := parse[doc](t, r.out)
	if d.Schema != 1 || d.Error.Exit != 1 || d.Error.Msg != "subvolume 99: no such file or directory" || r.code != 1 {
		t.Errorf("JSON of a failure = %+v, exit code %d", d, r.code)
	}
	type list struct {
		Schema int
		Files  []any
		Errors []struct{ Path, Error string }
	}
	r = run("stat", "--json", volume(t, "plain")[0], "/none")
	if l := parse[list](t, r.out); r.code != 1 || len(l.Errors) != 1 || l.Errors[0].Path != "/none" || l.Errors[0].Error != "no such file or directory" {
		t.Errorf("JSON of a missing file = %+v, exit code %d", l, r.code)
	}
}

// TestInterrupted runs commands whose context has ended: exit code 130.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	dir := t.TempDir()
	for _, args := range [][]string{
		on(t, "ls", "plain", "-R"),
		on(t, "du", "plain"),
		on(t, "tar", "plain", "-f", filepath.Join(dir, "x.tar")),
		on(t, "cp", "plain", "/", filepath.Join(dir, "x")),
	} {
		r := runCtx(ctx, args...)
		if r.code != 130 || !strings.HasSuffix(r.err, ": interrupted\n") {
			t.Errorf("%q: exit code %d, stderr %q, want 130, interrupted", args, r.code, r.err)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("%d files left behind, want none", len(left))
	}
}

// TestDevices gives the members in every way that the commands take.
func TestDevices(t *testing.T) {
	members := strings.Split(volume(t, "replicas2")[0], ":")
	want := ok(t, "ls", "-la", members[0]+":"+members[1])
	for _, args := range [][]string{
		{"ls", "-la", members[1] + ":" + members[0], "/"},
		{"ls", "-la", "--device", members[0], "--device", members[1]},
		{"ls", "-la", "--device", members[1], "--device", members[0], "/"},
	} {
		if got := ok(t, args...); got != want {
			t.Errorf("%q = %q, want %q", args, got, want)
		}
	}
	// A compressed image, and one behind a web server.
	dir := filepath.Join(testvol.Root(t), "testdata", "volumes")
	zst := filepath.Join(dir, "v39casefold.img.zst")
	want2 := ok(t, on(t, "ls", "v39casefold", "-laR")...)
	if got := ok(t, "ls", "-laR", zst, "/"); got != want2 || !strings.Contains(got, "lost+found") {
		t.Errorf("ls of a compressed image = %q, want %q", got, want2)
	}
	web := httptest.NewServer(http.FileServer(http.Dir(filepath.Dir(members[0]))))
	defer web.Close()
	var urls []string
	for _, m := range members {
		urls = append(urls, web.URL+"/"+filepath.Base(m))
	}
	if got := ok(t, "ls", "-la", strings.Join(urls, ":"), "/"); got != want {
		t.Errorf("ls of two URLs = %q, want %q", got, want)
	}
	r := run("ls", "-la", members[0])
	if r.code != 0 || r.out != want || !strings.HasPrefix(r.err, "gobcachefs: warning: degraded: missing member 1 ") {
		t.Errorf("ls of one member of two: exit code %d, stderr %q, want 0 and a warning", r.code, r.err)
	}
}

// TestSubvolumes looks at subvolumes with -o.
func TestSubvolumes(t *testing.T) {
	snap := volume(t, "snapshots")[0]
	want := ok(t, "ls", "-la", snap, "/snap1/docs")
	for _, o := range []string{"subvol=/snap1", "subvol=snap1"} {
		if got := ok(t, "ls", "-la", "-o", o, snap, "/docs"); got != want {
			t.Errorf("ls -o %s = %q, want %q", o, got, want)
		}
	}
	if got := ok(t, "ls", "-la", "-o", "subvolid=1", snap, "/snap1/docs"); got != want {
		t.Errorf("ls -o subvolid=1 = %q, want %q", got, want)
	}
}

// TestTarJSONError: an archive on standard output has no JSON in it.
func TestTarJSONError(t *testing.T) {
	r := run("tar", "--json", "-o", "subvolid=99", volume(t, "plain")[0])
	if r.code != 1 || r.out != "" || !strings.Contains(r.err, `"msg": "subvolume 99: no such file or directory"`) {
		t.Errorf("tar --json that fails: exit code %d, output %q, stderr %q", r.code, r.out, r.err)
	}
	r = run("tar", "--json", volume(t, "plain")[0], "/fifo", "/none")
	if got := readTar(t, []byte(r.out)); r.code != 1 || len(got) != 1 || !strings.Contains(r.err, `{"errors":[{"path":"/none"`) {
		t.Errorf("tar --json with a missing path: exit code %d, %d members, stderr %q, want 1, 1, the error as JSON", r.code, len(got), r.err)
	}
}
