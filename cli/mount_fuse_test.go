//go:build fuse

package cli_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gobcachefs/gobcachefs/cli"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// The daemon is this program run again as "gobcachefs": the test binary, then.
func init() {
	if name := filepath.Base(os.Args[0]); name != "gobcachefs" && name != "mount.bcachefs" {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Run(ctx, os.Args[0], os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	os.Exit(code)
}

// program makes a command of this program, as another process.
func program(argv0 string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = argv0
	return cmd
}

// open is a folder that other users can reach, and images in it.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// mountpoint is an empty folder; what is mounted on it when the test ends fails
// the test.
func mountpoint(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(openDir(t), "a mount point") // with spaces, to see that they survive
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if mounted(t, dir) != nil {
			t.Errorf("%s is still mounted", dir)
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
	})
	return dir
}

// mounted gives the fields of /proc/mounts of a folder, nil if nothing is there.
func mounted(t *testing.T, dir string) []string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); f[1] == strings.ReplaceAll(dir, " ", `\040`) {
			found = f
		}
	}
	return found
}

// daemonOf finds the process that serves a mount.
func daemonOf(t *testing.T, dir string) int {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		b, _ := os.ReadFile(p)
		if strings.HasSuffix(string(b), "\x00"+dir+"\x00") && strings.Contains(string(b), "\x00--daemon-child\x00") {
			pid, err := strconv.Atoi(strings.Split(p, "/")[2])
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatalf("no process serves %s", dir)
	return 0
}

// ended waits until a process has ended. It need not be a child.
func ended(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(p, 20_000)
		if n == 1 {
			return
		}
		if !errors.Is(err, unix.EINTR) {
			t.Fatalf("process %d did not end in 20 s: %v", pid, err)
		}
	}
}

// umount unmounts as umount(8) does, and waits for the daemon.
func umount(t *testing.T, dir string) {
	t.Helper()
	pid := daemonOf(t, dir)
	if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
		t.Fatalf("umount: %v: %s", err, out)
	}
	ended(t, pid)
}

// checkMounted compares a mount with the manifest of a volume; inode numbers
// only in subvolume 1.
func checkMounted(t *testing.T, dir string, want []testvol.Entry, q testvol.Quirks) {
	t.Helper()
	got, err := testvol.ManifestOf(context.Background(), testvol.OSFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	testvol.Check(t, want, got, q)
}

func TestDaemonFUSE(t *testing.T) {
	dir := mountpoint(t)
	img := volume(t, "plain")[0]
	if out := ok(t, "mount", img, dir); out != "" {
		t.Errorf("mount prints %q, want nothing", out)
	}
	if f := mounted(t, dir); f == nil || f[0] != img || f[2] != "fuse.bcachefs" || !strings.HasPrefix(f[3], "ro,nosuid,nodev") || !strings.Contains(f[3], ",allow_other") {
		t.Errorf("mount table: %q, want %s, fuse.bcachefs, ro,nosuid,nodev,…,allow_other", f, img)
	}
	pid := daemonOf(t, dir)
	sid, err := unix.Getsid(pid)
	if err != nil || sid != pid {
		t.Errorf("the daemon is in session %d, %v, want one of its own, %d", sid, err, pid)
	}
	if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err != nil || cwd != "/" {
		t.Errorf("the daemon stays in %s, %v, want /", cwd, err)
	}
	for fd := range 3 {
		if to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd)); err != nil || to != os.DevNull {
			t.Errorf("descriptor %d of the daemon is %s, %v, want %s", fd, to, err, os.DevNull)
		}
	}
	checkMounted(t, dir, manifest(t, "plain"), testvol.Quirks{})
	if r := run("mount", img, dir); r.code != 1 || !strings.Contains(r.err, img+" is mounted on "+dir+" already") {
		t.Errorf("mounting again: exit code %d, stderr %q, want 1, and that it is mounted", r.code, r.err)
	}
	if r := run("mount", "-o", "remount,ro", img, dir); r.code != 0 {
		t.Errorf("remount,ro: exit code %d, stderr %q, want 0", r.code, r.err)
	}
	if r := run("mount", "-o", "remount,rw", img, dir); r.code != 1 {
		t.Errorf("remount,rw: exit code %d, stderr %q, want 1", r.code, r.err)
	}
	umount(t, dir)
}

// TestDaemonSignalsFUSE: SIGTERM and SIGINT unmount, also while files are open.
func TestDaemonSignalsFUSE(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		for _, busy := range []bool{false, true} {
			if busy && sig == syscall.SIGINT {
				continue // takes its time, and is the same
			}
			t.Run(fmt.Sprint(sig, " busy ", busy), func(t *testing.T) {
				dir := mountpoint(t)
				ok(t, on(t, "mount", "plain", dir)...)
				pid := daemonOf(t, dir)
				fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_CLOEXEC, 0)
				if err != nil {
					t.Fatal(err)
				}
				if !busy {
					unix.Close(fd)
				}
				if err := unix.Kill(pid, sig); err != nil {
					t.Fatal(err)
				}
				ended(t, pid)
				if busy {
					unix.Close(fd)
				}
			})
		}
	}
}

// TestForegroundFUSE serves in the process itself.
func TestForegroundFUSE(t *testing.T) {
	dir := mountpoint(t)
	cmd := program("gobcachefs", on(t, "mount", "plain", "--foreground", "-v", dir)...)
	errR, errW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer errR.Close()
	cmd.Stderr = errW
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	errW.Close()
	line := make([]byte, 4096)
	n, err := errR.Read(line)
	if err != nil || !strings.Contains(string(line[:n]), "mounted on "+dir) {
		t.Errorf("mount -v says %q, %v, want where it mounted", line[:n], err)
	}
	checkMounted(t, dir, manifest(t, "plain"), testvol.Quirks{})
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("mount --foreground after SIGINT: %v, want exit code 0", err)
	}
}

// TestDaemonFailsFUSE: what goes wrong in the daemon is told by the process that
// the user started.
func TestDaemonFailsFUSE(t *testing.T) {
	dir := mountpoint(t)
	enc := volume(t, "enczstdwide")
	first, _, _ := strings.Cut(volume(t, "replicas2")[0], ":")
	wrong := filepath.Join(t.TempDir(), "wrong")
	if err := os.WriteFile(wrong, []byte("incorrect horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		text string
	}{
		{[]string{wrong, dir}, 1, "no bcachefs superblock"},
		{[]string{enc[2], dir}, 1, "encrypted: run unlock, or give --passphrase-file"},
		{[]string{"-k", "fail", enc[2], dir}, 1, "the keyring has no key"},
		{[]string{"--passphrase-file", wrong, enc[2], dir}, 1, "incorrect passphrase"},
		{[]string{first, dir}, 1, "add -o degraded"},
		{[]string{"-o", "subvolid=77", volume(t, "plain")[0], dir}, 1, "subvolume 77"},
	} {
		r := run(append([]string{"mount"}, c.args...)...)
		if r.code != c.code || !strings.HasPrefix(r.err, "gobcachefs: mount: ") || !strings.Contains(r.err, c.text) || strings.Count(r.err, "\n") != 1 {
			t.Errorf("mount %q: exit code %d, stderr %q, want %d and one line with %q", c.args, r.code, r.err, c.code, c.text)
		}
	}
}

// TestDaemonPassphraseFUSE: the passphrase goes to the daemon, and does not show.
func TestDaemonPassphraseFUSE(t *testing.T) {
	args := volume(t, "enczstdwide")
	for _, stdin := range []bool{false, true} {
		dir := mountpoint(t)
		if stdin {
			var out, errb bytes.Buffer
			code := cli.Run(context.Background(), "gobcachefs", []string{"mount", "-k", "stdin", args[2], dir},
				cli.Streams{In: strings.NewReader(testvol.Passphrase + "\n"), Out: &out, Err: &errb})
			if code != 0 {
				t.Fatalf("mount -k stdin: exit code %d, stderr %q", code, errb.String())
			}
		} else {
			ok(t, append(append([]string{"mount"}, args...), dir)...)
		}
		pid := daemonOf(t, dir)
		for _, f := range []string{"cmdline", "environ"} {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, f))
			if err != nil || bytes.Contains(b, []byte("horse")) {
				t.Errorf("%s of the daemon = %q, %v, want no passphrase", f, b, err)
			}
		}
		checkMounted(t, dir, manifest(t, "enczstdwide"), testvol.QuirksOf("enczstdwide"))
		umount(t, dir)
	}
}

// TestSubvolumesFUSE mounts subvolumes by path and by number.
func TestSubvolumesFUSE(t *testing.T) {
	set := testvol.Small(t)
	for p, kind := range set.Subvolumes("snapshots") {
		dir := mountpoint(t)
		ok(t, on(t, "mount", "snapshots", "-o", "subvol="+p, dir)...)
		want := set.Manifest(t, "snapshots", kind)
		var q testvol.Quirks
		for _, e := range want {
			q.AnyIno = append(q.AnyIno, e.Path)
		}
		checkMounted(t, dir, want, q)
		umount(t, dir)
	}
}

// TestDegradedFUSE mounts with a member missing; everything has another copy.
func TestDegradedFUSE(t *testing.T) {
	dir := mountpoint(t)
	first, _, _ := strings.Cut(volume(t, "replicas2")[0], ":")
	r := run("mount", "-o", "degraded", first, dir)
	if r.code != 0 || !strings.Contains(r.err, "degraded") {
		t.Fatalf("mount -o degraded: exit code %d, stderr %q, want 0 and a warning", r.code, r.err)
	}
	checkMounted(t, dir, manifest(t, "replicas2"), testvol.Quirks{})
	umount(t, dir)
}

// TestHelperFUSE mounts as mount(8) does.
func TestHelperFUSE(t *testing.T) {
	dir := mountpoint(t)
	cmd := program("mount.bcachefs", volume(t, "plain")[0], dir, "-o", "rw,noatime,nofail,x-systemd.automount,cache=32M", "-s")
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("mount.bcachefs: %v: %s", err, out)
	}
	if f := mounted(t, dir); f == nil || !strings.Contains(f[3], "noatime") {
		t.Errorf("mount table: %q, want noatime", f)
	}
	umount(t, dir)
}

// userID is nobody: fusermount3 wants a user with a name.
const userID = 65534

// as makes a process an ordinary user's.
func as(cmd *exec.Cmd) *exec.Cmd {
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: userID, Gid: userID}}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	return cmd
}

// openToAll gives /dev/fuse the mode that it has on most systems.
func openToAll(t *testing.T) {
	t.Helper()
	st, err := os.Stat("/dev/fuse")
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() == 0o666 {
		return
	}
	if err := os.Chmod("/dev/fuse", 0o666); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod("/dev/fuse", st.Mode().Perm()) })
}

// TestOrdinaryUserFUSE mounts through fusermount3.
func TestOrdinaryUserFUSE(t *testing.T) {
	openToAll(t)
	dir := mountpoint(t)
	img := filepath.Join(filepath.Dir(dir), "plain.img")
	if err := os.Rename(testvol.Paths(t, "plain")[0], img); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{dir, img} {
		if err := os.Chown(p, userID, userID); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := as(program("gobcachefs", "mount", "-o", "noexec", img, dir)).CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("mount as an ordinary user: %v: %s", err, out)
	}
	f := mounted(t, dir)
	if f == nil || f[0] != img || f[2] != "fuse.bcachefs" || !strings.Contains(f[3], fmt.Sprintf("user_id=%d", userID)) || !strings.HasPrefix(f[3], "ro,nosuid,nodev,noexec") {
		t.Errorf("mount table: %q, want %s, fuse.bcachefs, ro,nosuid,nodev,noexec,…,user_id=%d", f, img, userID)
	}
	pid := daemonOf(t, dir)
	if st, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err != nil || st.Sys().(*syscall.Stat_t).Uid != userID {
		t.Errorf("the daemon runs as %v, %v, want user %d", st, err, userID)
	}
	out, err := as(exec.Command("ls", dir)).CombinedOutput()
	if err != nil || len(out) == 0 {
		t.Errorf("the user lists the mount: %v: %s", err, out)
	}
	// Not even root may look into it.
	if _, err := os.ReadDir(dir); !errors.Is(err, os.ErrPermission) {
		t.Errorf("root lists the mount: %v, want no permission", err)
	}
	// A file of root's that nobody else may read is not the user's either.
	for _, e := range manifest(t, "plain") {
		if e.Type == 'f' && e.UID == 0 && e.Mode == 0o600 && !strings.Contains(e.Path, "/") {
			if out, err := as(exec.Command("cat", dir+"/"+e.Path)).CombinedOutput(); err == nil {
				t.Errorf("the user reads %s of root's, mode 0600: %.20q", e.Path, out)
			}
		}
	}
	if out, err := as(exec.Command("fusermount3", "-u", dir)).CombinedOutput(); err != nil {
		t.Fatalf("fusermount3 -u: %v: %s", err, out)
	}
	ended(t, pid)

	// SIGTERM unmounts here too.
	if out, err := as(program("gobcachefs", "mount", img, dir)).CombinedOutput(); err != nil {
		t.Fatalf("mount as an ordinary user: %v: %s", err, out)
	}
	pid = daemonOf(t, dir)
	if err := unix.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ended(t, pid)
}

// TestAllowOtherFUSE: ordinary users may let others in where /etc/fuse.conf says
// so, and else are told why not.
func TestAllowOtherFUSE(t *testing.T) {
	openToAll(t)
	dir := mountpoint(t)
	img := filepath.Join(filepath.Dir(dir), "plain.img")
	if err := os.Rename(testvol.Paths(t, "plain")[0], img); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, userID, userID); err != nil {
		t.Fatal(err)
	}
	conf, err := os.ReadFile("/etc/fuse.conf")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	allowed := false
	for line := range strings.Lines(string(conf)) {
		allowed = allowed || strings.TrimSpace(line) == "user_allow_other"
	}
	out, err := as(program("gobcachefs", "mount", "-o", "allow_other", img, dir)).CombinedOutput()
	if !allowed {
		if err == nil || !strings.Contains(string(out), "user_allow_other") {
			t.Errorf("mount -o allow_other: %v: %s, want why not", err, out)
		}
		return
	}
	if err != nil {
		t.Fatalf("mount -o allow_other: %v: %s", err, out)
	}
	if _, err := os.ReadDir(dir); err != nil {
		t.Errorf("root lists the mount: %v", err)
	}
	umount(t, dir)
}

// TestDeadMountFUSE: a mount whose daemon was killed is named as such.
func TestDeadMountFUSE(t *testing.T) {
	dir := mountpoint(t)
	ok(t, on(t, "mount", "plain", dir)...)
	pid := daemonOf(t, dir)
	if err := unix.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ended(t, pid)
	if r := run(on(t, "mount", "plain", dir)...); r.code != 1 || !strings.Contains(r.err, "unmount it first") {
		t.Errorf("mount on a dead mount: exit code %d, stderr %q, want 1 and what to do", r.code, r.err)
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
}
