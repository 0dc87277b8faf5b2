package cli_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// forCp makes two manifests comparable: what a copy does not keep, and what the
// user who runs the test may not make, is left out. Links are compared by the
// first path of each file.
func forCp(want, got []testvol.Entry, subvols map[string]string) (w, g []testvol.Entry) {
	root := os.Geteuid() == 0
	subvolOf := func(p string) string {
		for p != "." && subvols[p] == "" {
			p = filepath.Dir(p)
		}
		return p
	}
	clean := func(all []testvol.Entry, one bool) (out []testvol.Entry) {
		type file struct {
			subvol string
			ino    uint64
		}
		first := map[file]uint64{}
		count := map[file]uint64{}
		key := func(e testvol.Entry) file {
			if one {
				return file{"", e.Ino}
			}
			return file{subvolOf(e.Path), e.Ino}
		}
		for i, e := range all {
			if k := key(e); count[k] == 0 {
				first[k] = uint64(i)
			}
			count[key(e)]++
		}
		for _, e := range all {
			k := key(e)
			e.Ino, e.Nlink, e.Ctime = first[k], count[k], 0
			if e.Type == 'd' {
				e.Ino = 0
			}
			if !root {
				e.UID, e.GID, e.Mode = 0, 0, e.Mode&0o1777
				if e.Mode&0o400 == 0 {
					e.SHA256, e.Data = "", "" // not even its owner may read it
				}
				if e.Type == 'c' || e.Type == 'b' {
					continue
				}
				for k := range e.Xattr {
					if !strings.HasPrefix(k, "user.") {
						delete(e.Xattr, k)
					}
				}
				if len(e.Xattr) == 0 {
					e.Xattr = nil
				}
			}
			out = append(out, e)
		}
		return out
	}
	sortPaths := func(all []testvol.Entry) {
		slices.SortFunc(all, func(a, b testvol.Entry) int { return strings.Compare(a.Path, b.Path) })
	}
	sortPaths(want)
	sortPaths(got)
	w, g = clean(want, false), clean(got, true)
	if !root { // what is missing shifts the indexes
		for _, all := range [][]testvol.Entry{w, g} {
			for i := range all {
				all[i].Ino = 0
			}
		}
	}
	return w, g
}

// copied runs cp and checks what it made of a volume.
func copied(t *testing.T, name, dest string, args ...string) result {
	t.Helper()
	r := run(append(on(t, "cp", name, args...), "/", dest)...)
	wantCode := 0
	if os.Geteuid() != 0 {
		wantCode = 1 // devices
	}
	if r.code != wantCode {
		t.Errorf("cp: exit code %d, want %d; stderr %q", r.code, wantCode, r.err)
	}
	got, err := testvol.ManifestOf(t.Context(), testvol.OSFS(dest))
	if err != nil {
		t.Fatal(err)
	}
	w, g := forCp(manifest(t, name), got, testvol.Small(t).Subvolumes(name))
	testvol.Check(t, w, g, testvol.QuirksOf(name))
	return r
}

// TestCp copies whole volumes out and compares with what a mount shows.
func TestCp(t *testing.T) {
	for _, name := range []string{"plain", "aclquota", "snapshots", "reflink", "v39zstd"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dest := filepath.Join(t.TempDir(), "x")
			copied(t, name, dest, "--verify")
			// Once more: nothing to do.
			type doc struct {
				Schema         int
				Copied         int64
				CompleteBefore int64 `json:"complete_before"`
				Bytes          int64
				Errors         []any
			}
			r := run(append(on(t, "cp", name, "--resume", "--json"), "/", dest)...)
			d := parse[doc](t, r.out)
			if files := int64(notDirs(manifest(t, name))); d.Schema != 1 || d.Copied != 0 || d.Bytes != 0 || d.CompleteBefore+int64(len(d.Errors)) != files {
				t.Errorf("cp --resume of a complete copy = %+v, want %d complete before", d, files)
			}
		})
	}
}

func notDirs(all []testvol.Entry) (n int) {
	for _, e := range all {
		if e.Type != 'd' {
			n++
		}
	}
	return n
}

// TestCpResume goes on with a copy of which parts are missing, incomplete or
// something else.
func TestCpResume(t *testing.T) {
	dest := filepath.Join(t.TempDir(), "x")
	copied(t, "plain", dest)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.RemoveAll(filepath.Join(dest, "docs/deep")))
	must(os.Remove(filepath.Join(dest, "hard1")))
	must(os.Remove(filepath.Join(dest, "fifo")))
	must(os.Remove(filepath.Join(dest, "link-rel")))
	for _, n := range []string{".gobcachefs-0123456789abcdef.part", "docs/.gobcachefs-0123456789abcdef.part"} {
		must(os.WriteFile(filepath.Join(dest, n), []byte("half"), 0o600))
	}
	must(os.WriteFile(filepath.Join(dest, "mine"), []byte("mine"), 0o600))
	_, err := os.Lstat(filepath.Join(dest, "docs/f11_0_12345"))
	must(err)
	r := run(append(on(t, "cp", "plain", "--resume"), "/", dest)...)
	if os.Geteuid() == 0 && (r.code != 0 || r.err != "") {
		t.Errorf("cp --resume: exit code %d, stderr %q, want 0 and none", r.code, r.err)
	}
	if b, err := os.ReadFile(filepath.Join(dest, "mine")); err != nil || string(b) != "mine" {
		t.Errorf("a file that is not in the volume: %q, %v, want it untouched", b, err)
	}
	must(os.Remove(filepath.Join(dest, "mine")))
	copied(t, "plain", dest, "--resume")

	// What differs is not replaced, unless forced.
	must(os.WriteFile(filepath.Join(dest, "appended"), []byte("other"), 0o600))
	r = run(append(on(t, "cp", "plain", "--resume"), "/", dest)...)
	if r.code != 1 || !strings.Contains(r.err, "cp: /appended: file already exists on the target, and is not the same (--force replaces it)\n") {
		t.Errorf("cp --resume over another file: exit code %d, stderr %q, want 1", r.code, r.err)
	}
	if b, _ := os.ReadFile(filepath.Join(dest, "appended")); string(b) != "other" {
		t.Errorf("cp --resume replaced a file that differs")
	}
	copied(t, "plain", dest, "--resume", "--force")
	copied(t, "plain", dest, "--force")
}

// TestCpPlaces puts files and directories where cp(1) would.
func TestCpPlaces(t *testing.T) {
	dir := t.TempDir()
	cp := func(want string, args ...string) {
		t.Helper()
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "DIR", dir)
		}
		if r := run(on(t, "cp", "plain", args...)...); r.code != 0 || (os.Geteuid() == 0 && r.err != "") {
			t.Errorf("cp %q: exit code %d, stderr %q, want 0", args, r.code, r.err)
		}
		if _, err := os.Lstat(filepath.Join(dir, want)); err != nil {
			t.Errorf("cp %q: %v", args, err)
		}
	}
	cp("new", "/docs/f05_0_512", "DIR/new")
	cp("f05_0_512", "/docs/f05_0_512", "DIR")
	cp("deep/d0/d1", "/docs/deep", "DIR")
	cp("other/d0/d1", "/docs/deep", "DIR/other")
	cp("contents/d0/d1", "/docs/deep/.", "DIR/contents")
	if err := os.Mkdir(filepath.Join(dir, "into"), 0o755); err != nil {
		t.Fatal(err)
	}
	cp("into/d0/d1", "/docs/deep/.", "DIR/into")
	cp("into/deep/d0", "docs/deep/", "/docs/f05_0_512", "DIR/into")
	cp("into/link-rel", "/link-rel", "/docs/f04_0_511", "DIR/into")
	if to, err := os.Readlink(filepath.Join(dir, "into/link-rel")); err != nil || to != "docs/f11_1_12345" {
		t.Errorf("copied symlink = %q, %v, want docs/f11_1_12345", to, err)
	}
	// A directory that was there and is no SRC keeps its attributes.
	if st, err := os.Stat(dir); err != nil || time.Since(st.ModTime()) > time.Hour {
		t.Errorf("DEST itself got a time of %v (%v)", st.ModTime(), err)
	}
}

// TestCpLinksInTarget: symlinks that are in the target lead nowhere.
func TestCpLinksInTarget(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(dir, "outside")
	for _, d := range []string{"outside", "x", "x/inside"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"docs": outside, "names": "inside", "appended": filepath.Join(outside, "file")} {
		if err := os.Symlink(to, filepath.Join(dir, "x", name)); err != nil {
			t.Fatal(err)
		}
	}
	r := run(on(t, "cp", "plain", "--force", "/docs", "/names", "/appended", filepath.Join(dir, "x"))...)
	for _, want := range []string{
		"cp: /docs: there is something else of this name: not a directory; nothing in it is copied\n",
		"cp: /names: there is something else of this name: not a directory; nothing in it is copied\n",
	} {
		if r.code != 1 || !strings.Contains(r.err, want) {
			t.Errorf("cp over symlinks: exit code %d, stderr %q, want 1, %q", r.code, r.err, want)
		}
	}
	for _, d := range []string{"outside", "x/inside"} {
		if left, _ := os.ReadDir(filepath.Join(dir, d)); len(left) != 0 {
			t.Errorf("%d files were written through a symlink into %s", len(left), d)
		}
	}
	if st, err := os.Lstat(filepath.Join(dir, "x/appended")); err != nil || !st.Mode().IsRegular() {
		t.Errorf("a file in place of a symlink: %v, %v, want a regular file", st, err)
	}
}

func TestCpLists(t *testing.T) {
	dest := filepath.Join(t.TempDir(), "x")
	out := run(on(t, "cp", "plain", "-v", "/names", dest)...).out
	if !strings.Contains(out, `/names/new\nline`+"\n") || strings.Count(out, "\n") != len(strings.Split(ok(t, on(t, "ls", "plain", "-Ab", "/names")...), "\n"))-1 {
		t.Errorf("cp -v = %q, want the names", out)
	}
	fifo := filepath.Join(t.TempDir(), "x")
	r := run(on(t, "cp", "plain", "/docs/f05_0_512", "/none", "/fifo", filepath.Dir(fifo))...)
	if r.code != 1 || !strings.Contains(r.err, "cp: /none: no such file or directory\n") {
		t.Errorf("cp with a missing SRC: exit code %d, stderr %q, want 1", r.code, r.err)
	}
	if _, err := os.Lstat(filepath.Join(filepath.Dir(fifo), "fifo")); err != nil {
		t.Errorf("cp with a missing SRC: %v, want the others copied", fmt.Sprint(err))
	}
}
