//go:build oracle

package oracle

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// timeout bounds one virtual machine, which boots in 5 to 20 seconds.
const timeout = 300 * time.Second

// Oracle is the folder with the real implementation.
type Oracle struct{ dir string }

// New finds the oracle; it fails t where there is none, or where it was not
// set up.
func New(t testing.TB) Oracle {
	t.Helper()
	dir := os.Getenv("GOBCACHEFS_ORACLE")
	if dir == "" {
		dir = filepath.Join(testvol.Root(t), "..", "shared", "oracle")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"tools", "vm", "setup.sh"} {
		if _, err := os.Stat(filepath.Join(dir, f)); err != nil {
			t.Fatalf("no oracle: %v", err)
		}
	}
	home := os.Getenv("ORACLE_HOME")
	if home == "" {
		user, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		home = filepath.Join(user, ".cache", "bcachefs-oracle")
	}
	if _, err := os.Stat(filepath.Join(home, "ready")); err != nil {
		t.Fatalf("the oracle is not set up (run %s/setup.sh once): %v", dir, err)
	}
	return Oracle{dir}
}

// Result is what a command or a virtual machine left behind.
type Result struct {
	Out  string // standard output
	Err  string // standard error
	Code int    // exit code
	Dir  string // vm: the folder that it saw as /host
}

// Tools runs the real command line tools: Tools(t, "fsck", "-n", path).
func (o Oracle) Tools(t testing.TB, args ...string) Result {
	t.Helper()
	return run(t, exec.CommandContext(t.Context(), filepath.Join(o.dir, "tools"), args...))
}

// Fsck has the real tools check a volume without changing it.
func (o Oracle) Fsck(t testing.TB, images ...string) Result {
	t.Helper()
	return o.Tools(t, append([]string{"fsck", "-n"}, images...)...)
}

// one virtual machine at a time: each uses two processors.
var one sync.Mutex

// VM boots the real kernel with the images as /dev/vda, /dev/vdb, … and runs a
// script of busybox sh in it. files are copied into /host before; what the
// script leaves in /host is in Result.Dir, dmesg.log too. The script starts
// with `. /r/env` already done: R runs full tools, umnt unmounts /mnt. The
// machine writes to the images.
func (o Oracle) VM(t testing.TB, script string, files []string, images ...string) Result {
	t.Helper()
	host := t.TempDir()
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(host, filepath.Base(f)), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return o.VMIn(t, host, script, images...)
}

// VMIn is VM with a folder of the caller's as /host. Images in it can be mounted
// with -o loop, many in one boot.
func (o Oracle) VMIn(t testing.TB, host, script string, images ...string) Result {
	t.Helper()
	s := filepath.Join(t.TempDir(), "script.sh")
	if err := os.WriteFile(s, []byte(". /r/env\n"+script), 0o644); err != nil {
		t.Fatal(err)
	}
	one.Lock()
	defer one.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(o.dir, "vm"), append([]string{s}, images...)...)
	cmd.Env = append(os.Environ(), "HOSTDIR="+host)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	r := run(t, cmd)
	r.Dir = host
	if r.Code == 125 {
		t.Fatalf("the virtual machine did not answer: %s%s", r.Out, r.Err)
	}
	return r
}

// TreeScript is the script that writes trees and makes manifests: "write DIR SEED
// [big or small]", "manifest DIR".
func (o Oracle) TreeScript() string { return filepath.Join(o.dir, "..", "volumes", "tree.py") }

// Manifest mounts a volume in the real kernel, with options for mount -o (or
// ""), and returns what it shows. Without "nochanges" the mount changes the
// images. It fails t if the volume does not mount.
func (o Oracle) Manifest(t testing.TB, options string, images ...string) []testvol.Entry {
	t.Helper()
	if options == "" {
		options = "rw"
	}
	var devs []string
	for i := range images {
		devs = append(devs, "/dev/vd"+string(rune('a'+i)))
	}
	tree := o.TreeScript()
	r := o.VM(t, "mount -t bcachefs -o "+options+" "+strings.Join(devs, ":")+" /mnt || { dmesg | tail -20; exit 1; }\n"+
		"R python3 /host/tree.py manifest /mnt > /host/manifest || exit 2\numnt\n", []string{tree}, images...)
	if r.Code != 0 {
		t.Fatalf("the kernel mounts %v: exit code %d\n%s%s", images, r.Code, r.Out, r.Err)
	}
	b, err := os.ReadFile(filepath.Join(r.Dir, "manifest"))
	if err != nil {
		t.Fatal(err)
	}
	all, err := testvol.ReadManifest(b)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func run(t testing.TB, cmd *exec.Cmd) Result {
	t.Helper()
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	code := 0
	if err != nil {
		if errors.As(err, &exit) {
			code = exit.ExitCode()
			// Tools that give up on a volume abort: an answer, as a shell shows it.
			if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() && ws.Signal() != syscall.SIGKILL {
				code = 128 + int(ws.Signal())
			}
		}
		if code <= 0 {
			t.Fatalf("%s: %v\n%s%s", cmd, err, &out, &stderr)
		}
	}
	return Result{Out: out.String(), Err: stderr.String(), Code: code}
}
