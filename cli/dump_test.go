package cli_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestDump(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	got := ok(t, append([]string{"dump", "-o", out}, volume(t, "plain")...)...)
	if !strings.HasPrefix(got, out+".qcow2: member 0, superblocks ") {
		t.Errorf("dump = %q", got)
	}
	dump := out + ".qcow2"
	st, err := os.Stat(dump)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("%s: %v, %v, want mode 600", dump, st, err)
	}
	// What a reader of metadata says of the dump and of the volume is the same.
	for _, args := range [][]string{{"list", "-b", "inodes"}, {"list", "-b", "extents", "-m", "nodes-ondisk"}, {"list_journal", "-a", "-H"}, {"probe"}} {
		a, b := ok(t, append(args, volume(t, "plain")...)...), ok(t, append(args, dump)...)
		if args[0] == "probe" {
			_, a, _ = strings.Cut(a, "\n")
			_, b, _ = strings.Cut(b, "\n")
		}
		if a != b || a == "" {
			t.Errorf("%q of the dump differs from that of the volume", args)
		}
	}
	if got := ok(t, "ls", dump, "/"); !strings.Contains(got, "lost+found") {
		t.Errorf("ls of the dump = %q", got)
	}

	r := run(append([]string{"dump", "-o", dump}, volume(t, "plain")...)...)
	if r.code != 1 || !strings.Contains(r.err, "exists; -f overwrites it") {
		t.Errorf("dump over a file: exit code %d, stderr %q", r.code, r.err)
	}
	type doc struct {
		Schema int
		Files  []struct {
			Member                           int
			Path                             string
			Superblock, Journal, Btree, Size int64
			Nodes                            int
		}
	}
	d := parse[doc](t, ok(t, append([]string{"dump", "-f", "--json", "--sanitize=filenames", "-o", dump}, volume(t, "plain")...)...))
	if len(d.Files) != 1 || d.Files[0].Path != dump || d.Files[0].Nodes != 20 || d.Files[0].Btree == 0 {
		t.Errorf("dump --json = %+v", d)
	}
	if got := ok(t, "ls", dump, "/"); strings.Contains(got, "lost+found") || len(strings.Fields(got)) < 5 {
		t.Errorf("ls of a dump without names = %q", got)
	}
	two := parse[doc](t, ok(t, append([]string{"dump", "--json", "-o", out}, volume(t, "replicas2")...)...))
	if len(two.Files) != 2 || two.Files[1].Path != out+".1.qcow2" {
		t.Errorf("dump --json of two members = %+v", two)
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	if want := []string{"out.0.qcow2", "out.1.qcow2", "out.qcow2"}; !slices.Equal(names, want) {
		t.Errorf("files %q, want %q", names, want)
	}
	if r := run(append([]string{"dump", "-o", filepath.Join(dir, "no", "such")}, volume(t, "plain")...)...); r.code != 1 {
		t.Errorf("dump into a folder that is missing: exit code %d", r.code)
	}
}
