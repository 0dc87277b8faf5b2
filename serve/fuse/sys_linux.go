//go:build !(386 || arm || mips || mipsle)

package fuse

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/errs"
)

// extraCapabilities of the protocol, beside those go-fuse takes anyway: node ids
// outlive the kernel's memory of them (NFS). CAP_READDIRPLUS_AUTO is not among
// them: it has the kernel guess whether attributes will be wanted with a listing,
// and guess wrong for ls -l, which lists all before it looks at the first.
const extraCapabilities = gofuse.CAP_EXPORT_SUPPORT

// storesCache: the kernel takes data for its cache unasked.
const storesCache = true

const (
	seekData = unix.SEEK_DATA
	seekHole = unix.SEEK_HOLE
)

// fillBirth: statx(2) asks for the time of creation by itself.
func fillBirth(*bcachefs.Attr, *gofuse.Attr) {}

func noOpendir(flags uint64) bool { return flags&gofuse.CAP_NO_OPENDIR_SUPPORT != 0 }

// mountFlags are the flags of mount(2) that generic words set or clear.
var mountFlags = map[string]struct {
	flag  uintptr
	clear bool
}{
	"nosuid": {unix.MS_NOSUID, false}, "suid": {unix.MS_NOSUID, true},
	"nodev": {unix.MS_NODEV, false}, "dev": {unix.MS_NODEV, true},
	"noexec": {unix.MS_NOEXEC, false}, "exec": {unix.MS_NOEXEC, true},
	"noatime": {unix.MS_NOATIME, false}, "atime": {unix.MS_NOATIME, true},
	"nodiratime": {unix.MS_NODIRATIME, false}, "diratime": {unix.MS_NODIRATIME, true},
	"strictatime": {unix.MS_STRICTATIME, false}, "relatime": {unix.MS_RELATIME, false},
	"sync": {unix.MS_SYNCHRONOUS, false}, "async": {unix.MS_SYNCHRONOUS, true},
	"dirsync": {unix.MS_DIRSYNC, false},
}

// mount mounts, by mount(2) if the user may, else through fusermount3.
func mount(fs *filesystem, dir string, mo *gofuse.MountOptions, words []string) (*gofuse.Server, error) {
	if err := checkDevice(); err != nil {
		return nil, err
	}
	flags := uintptr(unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV)
	for _, w := range words {
		f, ok := mountFlags[w]
		switch {
		case !ok:
			return nil, usage("%s: not a generic mount option", w)
		case f.clear:
			flags &^= f.flag
		default:
			flags |= f.flag
		}
	}
	mo.Options = []string{"default_permissions"}
	if os.Geteuid() == 0 {
		mo.DirectMountStrict, mo.DirectMountFlags = true, flags
		srv, err := gofuse.NewServer(fs, dir, mo)
		if err == nil || !errors.Is(err, syscall.EPERM) {
			return srv, err
		}
		// Root of a user namespace, without the right to mount here.
		mo.DirectMountStrict = false
	}
	if _, err := exec.LookPath("fusermount3"); err != nil {
		if _, err := exec.LookPath("fusermount"); err != nil {
			return nil, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUnsupported, Reason: "fusermount3 is not installed (package fuse3): only root can mount without it"}
		}
	}
	if mo.AllowOther && !userAllowOther() {
		return nil, &errs.Error{Where: errs.Nowhere, Kind: syscall.EPERM, Reason: "allow_other needs a line user_allow_other in /etc/fuse.conf"}
	}
	mo.Options = append(mo.Options, "ro")
	for _, w := range words {
		if !slices.Contains([]string{"relatime", "strictatime"}, w) { // fusermount does not know them
			mo.Options = append(mo.Options, w)
		}
	}
	return gofuse.NewServer(fs, dir, mo)
}

// checkDevice says why there can be no mount.
func checkDevice() error {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	reason := ""
	switch {
	case err == nil:
		return f.Close()
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ENXIO):
		reason = "this system has no /dev/fuse: load the module fuse, or in a container pass the device in"
	case errors.Is(err, os.ErrPermission):
		reason = "no permission to open /dev/fuse, which usually has mode 0666 (in a container it may not be allowed)"
	default:
		return err
	}
	return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUnsupported, Reason: reason}
}

// userAllowOther: /etc/fuse.conf lets ordinary users give allow_other. Where it
// cannot be read, fusermount will know.
func userAllowOther() bool {
	b, err := os.ReadFile("/etc/fuse.conf")
	if err != nil {
		return !errors.Is(err, os.ErrNotExist)
	}
	for line := range strings.Lines(string(b)) {
		if strings.TrimSpace(line) == "user_allow_other" {
			return true
		}
	}
	return false
}

// detach takes a mount out of the tree that is still in use.
func detach(dir string) error {
	err := unix.Unmount(dir, unix.MNT_DETACH)
	if errors.Is(err, unix.EPERM) {
		for _, name := range []string{"fusermount3", "fusermount"} {
			var out []byte
			if out, err = exec.Command(name, "-u", "-z", "--", dir).CombinedOutput(); err == nil {
				return nil
			} else if !errors.Is(err, exec.ErrNotFound) {
				return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
			}
		}
	}
	return err
}

// readAhead is how far the kernel reads ahead in files, in KiB.
const readAhead = 4096

// tune raises the kernel's read-ahead, which FUSE starts with 128 KiB. Only root
// may; for others it stays.
func tune(dir string) {
	if dev := deviceOf(dir); dev != "" {
		_ = os.WriteFile("/sys/class/bdi/"+dev+"/read_ahead_kb", fmt.Append(nil, readAhead), 0)
	}
}

// deviceOf finds the device number, as major:minor, of the mount on a directory.
// It does not touch the mount.
func deviceOf(dir string) string {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	dev := ""
	for sc := bufio.NewScanner(f); sc.Scan(); {
		// id parent major:minor root mountpoint …; the last one is on top.
		w := strings.Fields(sc.Text())
		if len(w) > 4 && unescapeMount(w[4]) == dir {
			dev = w[2]
		}
	}
	return dev
}

// unescapeMount undoes the octal escapes of mount tables.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
