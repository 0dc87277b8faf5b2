package cli_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// flipped unpacks a volume and flips a byte in one copy of the extent of a file
// that covers an offset. It gives the VOLUME argument and the bounds of the extent.
func flipped(t *testing.T, name, path string, at int64, copies ...int) (spec string, off, end int64) {
	t.Helper()
	d := parse[statDoc](t, ok(t, on(t, "stat", name, "--json", "--extents", path)...))
	files := testvol.Paths(t, name)
	for _, x := range d.Files[0].Extents {
		if at < x.Offset || at >= x.Offset+x.Length {
			continue
		}
		for _, i := range copies {
			k := x.Copies[i]
			f, err := os.OpenFile(files[*k.Member], os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 1)
			pos := k.Sector*512 + k.Stored/2
			if _, err := f.ReadAt(b, pos); err != nil {
				t.Fatal(err)
			}
			b[0] ^= 0x10
			if _, err := f.WriteAt(b, pos); err != nil {
				t.Fatal(err)
			}
			f.Close()
		}
		return strings.Join(files, ":"), x.Offset, min(x.Offset+x.Length, d.Files[0].Size)
	}
	t.Fatalf("no extent of %s at %d", path, at)
	return "", 0, 0
}

// TestDamagedFile reads a file with one bad extent with every command.
func TestDamagedFile(t *testing.T) {
	const path = "/docs/f17_0_3145745"
	for _, name := range []string{"plain", "zstd"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			whole := ok(t, on(t, "cat", name, path)...)
			spec, off, end := flipped(t, name, path, 1_500_000, 0)
			zeroed := whole[:off] + strings.Repeat("\x00", int(end-off)) + whole[end:]
			says := fmt.Sprintf("%s: %d bytes at offset %d cannot be read: data_read_csum_err", path, end-off, off)

			r := run("cat", spec, path)
			if r.code != 1 || r.out != whole[:off] || !strings.Contains(r.err, "gobcachefs: cat: "+says) {
				t.Errorf("cat: exit code %d, %d bytes, stderr %q, want 1, %d, %q", r.code, len(r.out), r.err, off, says)
			}
			r = run("cat", spec, path, "--ignore-errors")
			if r.code != 1 || r.out != zeroed || !strings.Contains(r.err, "gobcachefs: cat: "+says) {
				t.Errorf("cat --ignore-errors: exit code %d, %d bytes, stderr %q, want 1, %d, %q", r.code, len(r.out), r.err, len(zeroed), says)
			}
			// What is elsewhere is read as if nothing was.
			if got := ok(t, "cat", spec, path, "--offset", fmt.Sprint(end)); got != whole[end:] {
				t.Errorf("cat behind the damage: %d bytes, want %d, or they differ", len(got), len(whole)-int(end))
			}

			r = run("tar", spec, "/docs")
			if r.code != 1 || !strings.Contains(r.err, "gobcachefs: tar: "+says) || !strings.Contains(r.err, "tar: 1 failed of ") {
				t.Errorf("tar: exit code %d, stderr %q, want 1, %q", r.code, r.err, says)
			}
			good := readTar(t, []byte(run(on(t, "tar", name, "/docs")...).out))
			bad := readTar(t, []byte(r.out))
			if len(good) != len(bad) {
				t.Fatalf("tar: %d members, want %d", len(bad), len(good))
			}
			for i := range good {
				if good[i].Path == path[1:] {
					if good[i].SHA256 == bad[i].SHA256 || bad[i].Size != int64(len(whole)) || bad[i].SHA256 != sha(zeroed) {
						t.Errorf("tar: the damaged file is %s, want it with zeros", bad[i])
					}
					continue
				}
				if d := testvol.Diff(good[i:i+1], bad[i:i+1], testvol.Quirks{}); len(d) > 0 {
					t.Errorf("tar: another file differs: %q", d)
				}
			}

			dest := filepath.Join(t.TempDir(), "x")
			r = run("cp", spec, "/docs", dest)
			if r.code != 1 || !strings.Contains(r.err, "gobcachefs: cp: "+says) || !strings.Contains(r.err, "cp: 1 failed of ") {
				t.Errorf("cp: exit code %d, stderr %q, want 1, %q", r.code, r.err, says)
			}
			left, err := os.ReadDir(dest)
			if n := len(strings.Split(strings.TrimSpace(ok(t, on(t, "ls", name, "-A", "/docs")...)), "\n")); err != nil || len(left) != n-1 {
				t.Errorf("cp: %d files, want all of %d but one", len(left), n)
			}
			r = run("cp", spec, "--keep-damaged", "--resume", "--verify", "/docs/.", dest)
			got, err := os.ReadFile(filepath.Join(dest, filepath.Base(path)))
			if r.code != 1 || err != nil || string(got) != zeroed || !strings.Contains(r.err, says) {
				t.Errorf("cp --keep-damaged: exit code %d, %v, %d bytes, stderr %q, want 1, the file with zeros", r.code, err, len(got), r.err)
			}
		})
	}
}

func sha(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

// TestDamagedCopy: with another copy nothing is lost, and the damage is told.
func TestDamagedCopy(t *testing.T) {
	const path = "/docs/f17_0_3145745"
	whole := ok(t, on(t, "cat", "replicas2", path)...)
	for _, c := range []int{0, 1} {
		spec, off, _ := flipped(t, "replicas2", path, 2_000_000, c)
		r := run("cat", spec, path)
		if r.code != 0 || r.out != whole {
			t.Errorf("cat with copy %d damaged: exit code %d, %d bytes, want 0, %d", c, r.code, len(r.out), len(whole))
		}
		// Only what was tried first is found out.
		if want := fmt.Sprintf("gobcachefs: warning: data_read_csum_err_recovered: inode 4163, file offset %d", off); r.err != "" && !strings.HasPrefix(r.err, want) {
			t.Errorf("cat with copy %d damaged: stderr %q, want none or %q", c, r.err, want)
		}
	}
	spec, off, _ := flipped(t, "replicas2", path, 2_000_000, 0, 1)
	if r := run("cat", spec, path); r.code != 1 || int64(len(r.out)) != off {
		t.Errorf("cat with both copies damaged: exit code %d, %d bytes, want 1, %d", r.code, len(r.out), off)
	}
}

// TestSuspect changes a name in a btree node: nothing better is there, so it is
// used, and everything that came from it is named.
func TestSuspect(t *testing.T) {
	files := testvol.Paths(t, "plain")
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	n := bytes.Count(b, []byte("f17_2_3145745"))
	b = bytes.ReplaceAll(b, []byte("f17_2_3145745"), []byte("f17_2_3145746"))
	if err := os.WriteFile(files[0], b, 0o600); err != nil || n == 0 {
		t.Fatalf("%d names changed, %v", n, err)
	}
	for _, args := range [][]string{
		{"ls", files[0], "/docs"}, {"find", files[0], "/docs"}, {"du", files[0], "/docs"}, {"tar", files[0], "/docs"},
		{"cp", files[0], "/docs", filepath.Join(t.TempDir(), "x")},
	} {
		r := run(args...)
		if want := "gobcachefs: " + args[0] + ": /docs: possibly wrong: "; r.code != 1 || !strings.Contains(r.err, want) {
			t.Errorf("%s: exit code %d, stderr %.300q, want 1, %q", args[0], r.code, r.err, want)
		}
		if !strings.Contains(r.err, "gobcachefs: warning: ") {
			t.Errorf("%s: stderr %.300q, want a warning of the node", args[0], r.err)
		}
	}
}

// TestDirectoryLoop makes a directory the child of its own child. Every walk
// ends, and says so.
func TestDirectoryLoop(t *testing.T) {
	m := manifest(t, "plain")
	const deep = "docs/deep/d0/d1/d2/d3/d4/d5/d6/d7/d8/d9/d10/d11"
	dirent := func(path string) []byte {
		b := binary.LittleEndian.AppendUint64(nil, find(t, m, path).Ino)
		return append(append(b, 4), "d11\x00"...)
	}
	files := testvol.Paths(t, "plain")
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	n := bytes.Count(b, dirent(deep))
	b = bytes.ReplaceAll(b, dirent(deep), dirent("docs"))
	if err := os.WriteFile(files[0], b, 0o600); err != nil || n == 0 {
		t.Fatalf("%d entries changed, %v", n, err)
	}
	for _, args := range [][]string{
		{"ls", "-R", files[0], "/docs"}, {"ls", "-R", "--json", files[0], "/"}, {"find", files[0], "/docs"}, {"du", "-a", files[0], "/"}, {"tar", files[0], "/docs"},
		{"cp", files[0], "/docs", filepath.Join(t.TempDir(), "x")},
	} {
		r := run(args...)
		if r.code != 1 || !strings.Contains(r.err, "in more than one place") {
			t.Errorf("%q: exit code %d, stderr %.400q, want 1, in more than one place", args[:2], r.code, r.err)
		}
	}
}

// TestInterruptedAnywhere interrupts cp in the middle: exit code 130, no file that
// is not complete under its name, none half-written left behind; and --resume
// makes the copy complete.
func TestInterruptedAnywhere(t *testing.T) {
	m := manifest(t, "plain")
	interrupted := 0
	for _, files := range []int{5, 15} {
		dest := filepath.Join(t.TempDir(), "x")
		ctx, cancel := context.WithCancel(t.Context())
		args := on(t, "cp", "plain", "/", dest)
		done := make(chan result)
		go func() { done <- runCtx(ctx, args...) }()
		var r result
		for over := false; !over; {
			select {
			case r = <-done:
				over = true
			default:
				if left, _ := os.ReadDir(dest); len(left) >= files {
					cancel()
				}
			}
		}
		cancel()
		switch {
		case r.code == 130:
			interrupted++
		case r.code != 0 && os.Geteuid() == 0:
			t.Errorf("cp interrupted after %d files: exit code %d, stderr %.300q, want 130", files, r.code, r.err)
		}
		err := filepath.WalkDir(dest, func(p string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			rel, err := filepath.Rel(dest, p)
			if err != nil {
				return err
			}
			e := find(t, m, rel)
			if st, err := d.Info(); err != nil || st.Size() != e.Size || st.ModTime().UnixNano() != e.Mtime {
				t.Errorf("cp interrupted after %d files: %s is not complete: %v", files, rel, err)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		if r := run(append(on(t, "cp", "plain", "--resume"), "/", dest)...); os.Geteuid() == 0 && r.code != 0 {
			t.Errorf("cp --resume after %d files: exit code %d, stderr %.300q, want 0", files, r.code, r.err)
		}
		if got, want := countFiles(t, dest), len(m); os.Geteuid() == 0 && got != want {
			t.Errorf("cp --resume after %d files: %d files, want %d", files, got, want)
		}
	}
	if interrupted == 0 {
		t.Error("no run was interrupted in the middle, so the test says nothing")
	}
}

func countFiles(t *testing.T, dir string) (n int) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(string, os.DirEntry, error) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}
