package cli

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// copyWith runs cp of a test volume with a changed copier.
func copyWith(t *testing.T, f cpFlags, change func(*copier), srcs []string, dest string) (stderr string, err error) {
	t.Helper()
	var out, msg bytes.Buffer
	a := &app{ctx: t.Context(), Streams: Streams{Out: &out, Err: &lineWriter{w: &msg}}}
	paths := testvol.Paths(t, "plain")
	err = a.withTree(&cobra.Command{Use: "cp"}, &volumeFlags{}, append([]string{strings.Join(paths, ":")}, srcs...), 1, -1, func(tr *tree, srcs []string) error {
		c := newCopier(tr, f)
		change(c)
		return c.end(c.run(srcs, dest))
	})
	return msg.String(), err
}

// TestCopySpace: what cannot fit is not begun, unless asked for.
func TestCopySpace(t *testing.T) {
	for _, c := range []struct {
		free uint64
		srcs []string
		skip bool
		ok   bool
	}{
		{0, []string{"/sparse"}, false, false},
		{70_000, []string{"/sparse"}, false, false},
		{100_000, []string{"/sparse"}, false, true}, // 76 KiB of data in 20 MiB
		{12_345, []string{"/hard1", "/docs/hard2"}, false, false},
		{16_384, []string{"/hard1"}, false, true},
		{20_000_000, []string{"/docs"}, false, true},
		{1_000_000, []string{"/docs"}, false, false},
		{1_000_000, []string{"/docs"}, true, true},
	} {
		dest := t.TempDir()
		msg, err := copyWith(t, cpFlags{noSpaceCheck: c.skip}, func(k *copier) {
			k.space = func(*os.Root) (uint64, uint64, error) { return c.free, 4096, nil }
		}, c.srcs, dest)
		if (err == nil) != c.ok || strings.Contains(msg, "needed") != c.skip {
			t.Errorf("cp %q with %d bytes free = %v, stderr %q, want success: %v", c.srcs, c.free, err, msg, c.ok)
		}
		if left, _ := os.ReadDir(dest); !c.ok && len(left) != 0 {
			t.Errorf("cp %q with %d bytes free left %d files, want none", c.srcs, c.free, len(left))
		}
	}
}

// TestCopyFull: a target that is full ends the run with what to do, and leaves
// no file that is not complete.
func TestCopyFull(t *testing.T) {
	dest := t.TempDir()
	msg, err := copyWith(t, cpFlags{}, func(k *copier) {}, []string{"/fifo"}, dest)
	if err != nil {
		t.Fatalf("cp = %v, %q", err, msg)
	}
	var c copier
	c.tree = &tree{app: &app{ctx: t.Context(), Streams: Streams{Err: &bytes.Buffer{}}}}
	c.r = c.report("cp")
	ctx, cancel := context.WithCancelCause(t.Context())
	c.cancel = cancel
	c.failed("/x", &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC})
	if !errors.Is(context.Cause(ctx), errFull) {
		t.Errorf("cause after ENOSPC = %v, want %v", context.Cause(ctx), errFull)
	}
}

// TestCopyCollides pretends a target that takes two names for the same, which
// hard links are here.
func TestCopyCollides(t *testing.T) {
	dest := t.TempDir()
	r, err := os.OpenRoot(dest)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := &copier{target: target{folds: true}}
	d := &targetDir{root: r}
	if err := c.mkdir(d, "Docs"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dest, "tmp"), []byte("A"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.commit(&copyJob{dir: d, name: "A", e: &entry{}}, "tmp", nil); err != nil {
		t.Fatal(err)
	}
	// "a" now is "A" too.
	if err := os.Link(filepath.Join(dest, "A"), filepath.Join(dest, "a")); err != nil {
		t.Fatal(err)
	}
	old, err := r.Lstat("a")
	if err != nil {
		t.Fatal(err)
	}
	c.force = true
	if err := c.mayReplace(&copyJob{dir: d, name: "a"}, old); err == nil || err.Error() != "its name collides with A on the target" {
		t.Errorf("mayReplace of a colliding name = %v, want a collision", err)
	}
	if err := os.WriteFile(filepath.Join(dest, "tmp2"), []byte("a"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.commit(&copyJob{dir: d, name: "a", e: &entry{}}, "tmp2", nil); err == nil {
		t.Error("commit of a colliding name = nil, want an error")
	}
	if b, err := os.ReadFile(filepath.Join(dest, "A")); err != nil || string(b) != "A" {
		t.Errorf("the first file = %q, %v, want it untouched", b, err)
	}
	if _, err := os.Lstat(filepath.Join(dest, "tmp2")); err == nil {
		t.Error("the second file was left behind")
	}
	// The same name again is no collision.
	if err := c.mkdir(d, "Docs"); err != nil {
		t.Errorf("mkdir of the same directory again = %v, want nil", err)
	}
	t.Run("directory", func(t *testing.T) {
		if fi, err := r.Lstat("Docs"); err != nil {
			t.Fatal(err)
		} else if other, ok := c.madeHere(d, fi, "docs"); !ok || other != "Docs" {
			t.Errorf("madeHere(docs) = %q, %v, want Docs", other, ok)
		}
	})
}

func TestProbeTarget(t *testing.T) {
	dir := t.TempDir()
	r, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := probeTarget(r)
	if err != nil || got.tick < 1 {
		t.Errorf("probeTarget = %+v, %v", got, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("probeTarget left %d files, want none", len(left))
	}
}

// TestVerifyFile finds a byte that was not written as it should be.
func TestVerifyFile(t *testing.T) {
	dest := t.TempDir()
	if _, err := copyWith(t, cpFlags{verify: true}, func(*copier) {}, []string{"/appended"}, dest); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dest, "appended"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m := &fileMap{data: rangesOf(0, 1000, 4096, 222680)}
	sum := sumOf(t, f, m)
	if err := verifyFile(t.Context(), f, m, 222680, sum); err != nil {
		t.Errorf("verifyFile of a good file = %v, want nil", err)
	}
	if _, err := f.WriteAt([]byte{'!'}, 100_000); err != nil {
		t.Fatal(err)
	}
	if err := verifyFile(t.Context(), f, m, 222680, sum); err == nil {
		t.Error("verifyFile of a changed file = nil, want an error")
	}
	if err := verifyFile(t.Context(), f, m, 222681, sum); err == nil {
		t.Error("verifyFile of a short file = nil, want an error")
	}
}
