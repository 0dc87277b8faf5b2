package cli_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gobcachefs/gobcachefs/cli"
)

// TestFsck: findings, summary and exit codes (chapter 08 section 5.3).
func TestFsck(t *testing.T) {
	plain, snapshots := volume(t, "plain")[0], volume(t, "snapshots")[0]
	none := filepath.Join(t.TempDir(), "none")
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte(strings.Repeat("hello ", 20000)), 0o600); err != nil {
		t.Fatal(err)
	}
	const missing = "error: snapshot_tree_to_missing_subvol (172) at btree snapshot_trees, position 0:3:0: want subvolume 7, got no such subvolume\n"
	for _, c := range []struct {
		args     []string
		code     int
		out, err string
	}{
		{[]string{"-n", plain}, 0, "clean (version 1.13, 18 btree nodes)\n", ""},
		{[]string{"-fn", plain, "-K", "-r"}, 0, "clean (version 1.13, 18 btree nodes)\n", ""},
		{[]string{"-n", plain, "--data"}, 0, "clean (version 1.13, 19 btree nodes, 19M of data)\n", ""},
		{[]string{"-n", "--device", plain, "-o", "nochanges,fix_errors=no"}, 0, "clean (version 1.13, 18 btree nodes)\n", ""},
		{[]string{"-n", snapshots}, 4, missing + "1 errors: 1 snapshot_tree_to_missing_subvol (version 1.13, 25 btree nodes)\n", ""},
		{[]string{plain}, 8, "", "repair is not implemented yet; -n checks without changing anything"},
		{[]string{"-p", plain}, 8, "", "repair is not implemented yet; -n checks without changing anything"},
		{[]string{"-a", plain}, 8, "", "repair is not implemented yet; -n checks without changing anything"},
		{[]string{"-y", plain}, 8, "", "repair is not implemented yet; -n checks without changing anything"},
		{[]string{"-n", "-o", "fix_errors=yes", plain}, 8, "", "fix_errors: repair is not implemented yet"},
		{[]string{"-n", "-y", plain}, 16, "", "-n excludes -y, -p and -a"},
		{[]string{"-n"}, 16, "", "VOLUME is missing"},
		{[]string{"-n", "--device", plain, plain}, 16, "", "--device takes the place of VOLUME"},
		{[]string{"-n", "--bogus", plain}, 16, "", "unknown flag: --bogus"},
		{[]string{"-n", "-o", "bogus", plain}, 16, "", "unknown option bogus"},
		{[]string{"-n", "--memory", "x", plain}, 16, "", "--memory: must be a number of bytes, as 512M"},
		{[]string{"-n", none}, 8, "", none + ": no such file or device"},
		{[]string{"-n", text}, 8, "", text + ": no bcachefs superblock (found: nothing known)"},
		{[]string{"-n", plain, snapshots}, 8, "", ""},
		{[]string{"-n", volume(t, "enczstdwide")[2]}, 8, "", "encrypted: run unlock, or give --passphrase-file"},
	} {
		r := run(append([]string{"fsck"}, c.args...)...)
		stderr := strings.TrimSuffix(strings.TrimPrefix(r.err, "gobcachefs: fsck: "), "\n")
		if r.code != c.code || r.out != c.out || stderr != c.err && c.err != "" {
			t.Errorf("fsck %q: exit code %d, stdout %q, stderr %q, want %d, %q, %q", c.args, r.code, r.out, stderr, c.code, c.out, c.err)
		}
	}
}

// TestFsckLink: the program called by the names of the links is fsck.
func TestFsckLink(t *testing.T) {
	for _, name := range []string{"fsck.bcachefs", "/sbin/fsck.fuse.bcachefs", "fsck.bcachefs.exe"} {
		var out, errb strings.Builder
		code := cli.Run(context.Background(), name, []string{"-n", volume(t, "plain")[0]}, cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errb})
		if code != 0 || !strings.HasPrefix(out.String(), "clean ") {
			t.Errorf("%s -n: exit code %d, stdout %q, stderr %q, want 0, clean …", name, code, out.String(), errb.String())
		}
	}
}

// TestFsckJSON: one document, with what was found and where.
func TestFsckJSON(t *testing.T) {
	type doc struct {
		Schema int
		Fsck   struct {
			Clean     bool
			Remaining int
			Version   string
			Shutdown  bool
			Errors    []struct {
				Kind  string
				Count int
			}
			Passes []struct{ Name string }

			Findings []struct {
				Kind  string
				ID    int
				Btree string
				Pos   struct{ Inode, Offset, Snapshot uint64 }
			}
		}
	}
	r := run("fsck", "-n", "--json", volume(t, "snapshots")[0])
	f := parse[doc](t, r.out).Fsck
	if r.code != 4 || f.Clean || f.Remaining != 1 || f.Version != "1.13" || !f.Shutdown || len(f.Errors) != 1 || f.Errors[0].Count != 1 || len(f.Passes) < 5 || len(f.Findings) != 1 ||
		f.Findings[0].ID != 172 || f.Findings[0].Btree != "snapshot_trees" || f.Findings[0].Pos.Offset != 3 {
		t.Errorf("JSON of fsck of snapshots: exit code %d, %s", r.code, r.out)
	}
	r = run("fsck", "-n", "--json", volume(t, "plain")[0])
	if f := parse[doc](t, r.out).Fsck; r.code != 0 || !f.Clean || f.Remaining != 0 || len(f.Findings) != 0 {
		t.Errorf("JSON of fsck of plain: exit code %d, %s", r.code, r.out)
	}
}

// TestFsckCanceled: exit code 32.
func TestFsckCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if r := runCtx(ctx, "fsck", "-n", volume(t, "plain")[0]); r.code != 32 || !strings.HasSuffix(r.err, "canceled\n") {
		t.Errorf("canceled fsck: exit code %d, stderr %q, want 32, … canceled", r.code, r.err)
	}
}
