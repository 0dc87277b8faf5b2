package cli_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gobcachefs/gobcachefs/cli"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// runAs runs a command line under another name of the program.
func runAs(argv0 string, args ...string) result {
	var out, errb bytes.Buffer
	code := cli.Run(context.Background(), argv0, args, cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errb})
	return result{code, out.String(), errb.String()}
}

// TestMountRefuses: what can be told without a mount.
func TestMountRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	img := volume(t, "plain")[0]
	for _, c := range []struct {
		args []string
		code int
		text string
	}{
		{[]string{}, 2, "VOLUME is missing"},
		{[]string{img, dir, "more"}, 2, "too many arguments: more"},
		{[]string{"-k", "never", img, dir}, 2, "choose fail, wait, ask, stdin"},
		{[]string{"--bogus", img, dir}, 2, "bogus"},
		{[]string{"-o", "subvol=/a,subvolid=2", img, dir}, 2, "exclude each other"},
		{[]string{"-o", "degraded=maybe", img, dir}, 2, "choose ask, yes, very, no"},
		{[]string{img, filepath.Join(dir, "none")}, 1, "no such file or directory"},
		{[]string{img, file}, 1, "not a directory"},
		{[]string{"-f", filepath.Join(dir, "none.img"), dir}, 1, "none.img"},
		{[]string{"-f", file, dir}, 1, "no bcachefs superblock"},
		{[]string{"-f", "-o", "subvolid=77", img, dir}, 1, "subvolume 77"},
		{[]string{"-f", "-o", "subvol=/none", img, dir}, 1, "no such file or directory"},
		{[]string{"-o", "remount,ro", img, dir}, 1, "nothing of ours is mounted there"},
		{[]string{"--daemon-child", img, dir}, 2, "not for users"},
	} {
		r := run(append([]string{"mount"}, c.args...)...)
		if r.code != c.code || !strings.Contains(r.err, c.text) || !strings.HasPrefix(r.err, "gobcachefs: mount: ") {
			t.Errorf("mount %q: exit code %d, stderr %q, want %d and %q", c.args, r.code, r.err, c.code, c.text)
		}
	}
}

// TestMountFake checks everything and mounts nothing.
func TestMountFake(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"plain", "enczstdwide", "stripe3"} {
		ok(t, on(t, "mount", name, "-f", dir)...)
	}
	// Without a mount point a volume is opened, and no more.
	ok(t, on(t, "mount", "plain")...)
	for p := range testvol.Small(t).Subvolumes("snapshots") {
		ok(t, on(t, "mount", "snapshots", "-f", "-o", "subvol="+p, dir)...)
	}
	ok(t, on(t, "mount", "snapshots", "-f", "-o", "subvolid=2", dir)...)
}

// TestMountMissingMember: refused, and what would help is said; with -o degraded
// opened.
func TestMountMissingMember(t *testing.T) {
	spec := volume(t, "replicas2")[0]
	first, _, _ := strings.Cut(spec, ":")
	dir := t.TempDir()
	r := run("mount", "-f", first, dir)
	if r.code != 1 || !strings.Contains(r.err, "member 1") || !strings.Contains(r.err, "-o degraded") {
		t.Errorf("mount with a member missing: exit code %d, stderr %q, want 1, the member, and -o degraded", r.code, r.err)
	}
	r = run("mount", "-f", "-o", "degraded", first, dir)
	if r.code != 0 || !strings.Contains(r.err, "degraded") {
		t.Errorf("mount -o degraded: exit code %d, stderr %q, want 0 and a warning", r.code, r.err)
	}
	ok(t, "mount", "-f", "--device", first, "--device", strings.TrimPrefix(spec, first+":"), dir)
}

func TestMountEncrypted(t *testing.T) {
	args := volume(t, "enczstdwide")
	img, dir := args[len(args)-1], t.TempDir()
	wrong := filepath.Join(dir, "wrong")
	if err := os.WriteFile(wrong, []byte("incorrect horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		text string
	}{
		{[]string{img}, "encrypted: run unlock, or give --passphrase-file"},
		{[]string{"-k", "fail", img}, "the keyring has no key"},
		{[]string{"--passphrase-file", wrong, img}, "incorrect passphrase"},
		{[]string{"--passphrase-file", wrong + "er", img}, "no such file"},
	} {
		r := run(append(append([]string{"mount", "-f"}, c.args...), dir)...)
		if r.code != 1 || !strings.Contains(r.err, c.text) {
			t.Errorf("mount -f %q: exit code %d, stderr %q, want 1 and %q", c.args, r.code, r.err, c.text)
		}
	}
	var out, errb bytes.Buffer
	code := cli.Run(context.Background(), "gobcachefs", []string{"mount", "-f", "-k", "stdin", img, dir}, cli.Streams{In: strings.NewReader("correct horse\nmore"), Out: &out, Err: &errb})
	if code != 0 {
		t.Errorf("mount -k stdin: exit code %d, stderr %q, want 0", code, errb.String())
	}
}

// TestMountHelper is mount.bcachefs as mount(8) calls it, with its exit codes.
func TestMountHelper(t *testing.T) {
	dir := t.TempDir()
	img := volume(t, "plain")[0]
	for _, c := range []struct {
		args []string
		code int
		text string
	}{
		{[]string{img, dir, "-f", "-s", "-n", "-v", "-o", "rw,nofail,x-systemd.device-timeout=3"}, 0, "rw: mounted read-only"},
		{[]string{img, dir, "-f", "-o", "rw,bogus", "-t", "fuse.bcachefs"}, 0, "unknown option bogus"},
		{[]string{img}, 1, "need VOLUME and MOUNTPOINT"},
		{[]string{img, dir, "-z"}, 1, "unknown shorthand flag"},
		{[]string{img, dir, "-N", "/proc/1/ns/mnt"}, 1, "namespace"},
		{[]string{img, dir, "-f", "-o", "degraded=maybe"}, 1, "choose ask, yes, very, no"},
		{[]string{img, dir + "/none", "-f"}, 32, "no such file or directory"},
		{[]string{img + ".none", dir, "-f"}, 32, "none"},
		{[]string{img, dir, "-o", "remount,ro"}, 32, "nothing of ours is mounted there"},
	} {
		r := runAs("/sbin/mount.bcachefs", c.args...)
		if r.code != c.code || !strings.Contains(r.err, c.text) {
			t.Errorf("mount.bcachefs %q: exit code %d, stderr %q, want %d and %q", c.args, r.code, r.err, c.code, c.text)
		}
		if n := strings.Count(r.err, "gobcachefs: mount.bcachefs: "); c.code != 0 && n != 1 {
			t.Errorf("mount.bcachefs %q gives the reason %d times, want once: %q", c.args, n, r.err)
		}
	}
}
