//go:build fuse

package fuse

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/block/blocktest"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// These tests mount. They touch the mounts by plain system calls and by other
// programs: package os would register descriptors with the poller of the
// process that serves them.

// mounted mounts a volume and unmounts it when the test ends, which must work
// at the first try.
func mounted(t *testing.T, vol *bcachefs.Volume, o Options) string {
	t.Helper()
	s, dir, serve := mountServer(t, vol, o)
	t.Cleanup(func() {
		if err := s.Unmount(); err != nil {
			t.Errorf("unmounting: %v", err)
			_ = detach(dir)
		}
		if err := <-serve(context.Background()); err != nil {
			t.Errorf("serving ended with %v", err)
		}
		if dev := deviceOf(dir); dev != "" {
			t.Errorf("%s is still mounted", dir)
		}
	})
	return dir
}

func mountServer(t *testing.T, vol *bcachefs.Volume, o Options) (s *Server, dir string, serve func(context.Context) <-chan error) {
	t.Helper()
	if o.Warn == nil {
		o.Warn = func(err error) { t.Errorf("warning: %v", err) }
	}
	s, err := New(vol, o)
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	// Other users must be able to reach the mounts.
	for d := dir; d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Mount(dir); err != nil {
		t.Fatal(err)
	}
	return s, dir, func(ctx context.Context) <-chan error {
		c := make(chan error, 1)
		go func() { c <- s.Serve(ctx) }()
		return c
	}
}

// checkMount compares a mount with a manifest.
func checkMount(t *testing.T, vol *bcachefs.Volume, o Options, want []testvol.Entry, q testvol.Quirks) {
	t.Helper()
	got, err := testvol.ManifestOf(context.Background(), testvol.OSFS(mounted(t, vol, o)))
	if err != nil {
		t.Fatal(err)
	}
	if o.Subvolume == nil {
		q.AnyIno = subvolumes(t, vol)
	} else {
		for _, e := range got {
			q.AnyIno = append(q.AnyIno, e.Path)
		}
	}
	testvol.Check(t, want, got, q)
}

// checkMounts mounts every volume of a set, and the subvolumes that have a
// manifest of their own.
func checkMounts(t *testing.T, set *testvol.Set) {
	for _, name := range set.Names() {
		t.Run(name, func(t *testing.T) {
			v := openVolume(t, name, set.Load(t, name))
			checkMount(t, v, Options{}, set.Manifest(t, name, wantKind(set, name)), testvol.QuirksOf(name))
			for p, kind := range set.Subvolumes(name) {
				sub, err := v.SubvolumeAt(context.Background(), "/"+p)
				if err != nil {
					t.Fatal(err)
				}
				checkMount(t, v, Options{Subvolume: sub}, set.Manifest(t, name, kind), testvol.QuirksOf(name))
			}
		})
	}
}

func TestMountsFUSE(t *testing.T) { checkMounts(t, testvol.Small(t)) }

// checkDegradedMounts mounts volumes with a member missing, and compares with
// what the real kernel shows then.
func checkDegradedMounts(t *testing.T, set *testvol.Set) {
	n := 0
	for _, name := range set.Names() {
		for _, kind := range set.Kinds(name) {
			s, ok := strings.CutPrefix(kind, "without-")
			if !ok || strings.HasPrefix(string(set.Text(t, name, kind)), "does not mount") {
				continue
			}
			n++
			gone, err := strconv.Atoi(strings.TrimSuffix(s, ".manifest"))
			if err != nil {
				t.Fatal(err)
			}
			t.Run(name+"/"+kind, func(t *testing.T) {
				v, err := bcachefs.Open(context.Background(), slices.Delete(set.Load(t, name), gone, gone+1),
					bcachefs.Options{Degraded: bcachefs.DegradedVery, Warn: func(error) {}})
				if err != nil {
					t.Fatal(err)
				}
				// What the missing member held is warned of, rightly.
				checkMount(t, v, Options{Warn: func(error) {}}, set.Manifest(t, name, kind), testvol.QuirksOf(name))
			})
		}
	}
	if n == 0 {
		t.Error("no manifest of a volume with a member missing")
	}
}

func TestDegradedMountsFUSE(t *testing.T) { checkDegradedMounts(t, testvol.Small(t)) }

// TestMountTableFUSE says how the mount shows.
func TestMountTableFUSE(t *testing.T) {
	dir := mounted(t, openVolume(t, "plain", testvol.Load(t, "plain")), Options{Source: "a.img:b, c.img", AllowOther: true, Words: []string{"noexec", "noatime"}})
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if f[1] != dir {
			continue
		}
		if f[0] != `a.img:b,\040c.img` || f[2] != "fuse.bcachefs" {
			t.Errorf("mount table says %q of type %q, want %q of type fuse.bcachefs", f[0], f[2], `a.img:b,\040c.img`)
		}
		opts := strings.Split(f[3], ",")
		for _, o := range []string{"ro", "nosuid", "nodev", "noexec", "noatime", "default_permissions", "allow_other"} {
			if !slices.Contains(opts, o) {
				t.Errorf("options of the mount = %s, want %s among them", f[3], o)
			}
		}
		return
	}
	t.Errorf("%s is not in the mount table", dir)
}

// TestDirectorySeeksFUSE goes to every cookie of a directory with lseek(2), from the
// last to the first, so that nothing that the kernel keeps of the listing helps.
func TestDirectorySeeksFUSE(t *testing.T) {
	dir, n := biggestDir(testvol.Manifest(t, "plain"))
	root := mounted(t, openVolume(t, "plain", testvol.Load(t, "plain")), Options{})
	fd := open(t, root+"/"+dir, unix.O_DIRECTORY)
	all := getdents(t, fd, 1<<20)
	if len(all) != n+2 {
		t.Fatalf("%s lists %d entries, want %d", dir, len(all), n+2)
	}
	for i := len(all) - 1; i >= 0; i-- {
		if _, err := unix.Seek(fd, all[i].off, unix.SEEK_SET); err != nil {
			t.Fatal(err)
		}
		if rest := getdents(t, fd, 400); !slices.Equal(rest, all[i+1:]) {
			t.Fatalf("behind entry %d come %d entries, want %d", i, len(rest), len(all)-i-1)
		}
	}
}

func open(t *testing.T, path string, flags int) int {
	t.Helper()
	fd, err := unix.Open(path, flags|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("open %s: %v", path, err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

type dirent struct {
	name string
	ino  uint64
	off  int64
	typ  byte
}

// getdents lists a directory from its offset on.
func getdents(t *testing.T, fd, size int) (all []dirent) {
	t.Helper()
	buf := make([]byte, size)
	for {
		n, err := unix.Getdents(fd, buf)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return all
		}
		for b := buf[:n]; len(b) > 0; {
			l := binary.NativeEndian.Uint16(b[16:])
			name, _, _ := bytes.Cut(b[19:l], []byte{0})
			all = append(all, dirent{string(name), binary.NativeEndian.Uint64(b), int64(binary.NativeEndian.Uint64(b[8:])), b[18]})
			b = b[l:]
		}
	}
}

// TestStatxFUSE asks for the time of creation, and for flags.
func TestStatxFUSE(t *testing.T) {
	v := openVolume(t, "v39casefold", testvol.Load(t, "v39casefold"))
	root := mounted(t, v, Options{})
	for _, p := range []string{"", "/Casefolded", "/README"} {
		a, err := v.Root().Lstat(context.Background(), p)
		if err != nil {
			t.Fatal(err)
		}
		var x unix.Statx_t
		if err := unix.Statx(unix.AT_FDCWD, root+p, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &x); err != nil {
			t.Fatal(err)
		}
		if got := time.Unix(x.Btime.Sec, int64(x.Btime.Nsec)); x.Mask&unix.STATX_BTIME == 0 || !got.Equal(a.Btime) {
			t.Errorf("%q was created %v (mask %#x), want %v", p, got, x.Mask, a.Btime)
		}
		if x.Blocks != a.Blocks || x.Ino != a.Ino {
			t.Errorf("%q: %d blocks, inode %d, want %d, %d", p, x.Blocks, x.Ino, a.Blocks, a.Ino)
		}
		flags, err := unix.IoctlGetUint32(open(t, root+p, 0), unix.FS_IOC_GETFLAGS)
		if err != nil {
			t.Fatal(err)
		}
		if got := flags&flagCasefold != 0; got != a.Flags.Casefold {
			t.Errorf("%q: casefolded %v, want %v", p, got, a.Flags.Casefold)
		}
	}
}

// TestCasefoldedNamesFUSE: names that differ by case lead to the same file, also
// after the kernel was told that another one does not exist.
func TestCasefoldedNamesFUSE(t *testing.T) {
	root := mounted(t, openVolume(t, "v39casefold", testvol.Load(t, "v39casefold")), Options{})
	var want, got unix.Stat_t
	if err := unix.Lstat(root+"/Casefolded/Straße", &want); err != nil {
		t.Fatal(err)
	}
	if err := unix.Lstat(root+"/Casefolded/Strasze", &got); !errors.Is(err, unix.ENOENT) {
		t.Errorf("lstat of a name that is not there = %v, want ENOENT", err)
	}
	for _, name := range []string{"STRASSE", "strasse", "sTRAßE"} {
		p := "/Casefolded/" + name
		if err := unix.Lstat(root+p, &got); err != nil || got.Ino != want.Ino {
			t.Errorf("%s is inode %d, %v, want %d", p, got.Ino, err, want.Ino)
		}
	}
}

// TestWritesAreRefusedFUSE tries to change things as root.
func TestWritesAreRefusedFUSE(t *testing.T) {
	root := mounted(t, openVolume(t, "plain", testvol.Load(t, "plain")), Options{})
	path, _, _, _ := bigFile(t, openVolume(t, "plain", testvol.Load(t, "plain")))
	file := root + "/" + path
	_, create := unix.Open(root+"/new", unix.O_CREAT|unix.O_WRONLY, 0o644)
	_, write := unix.Open(file, unix.O_RDWR, 0)
	for what, err := range map[string]error{
		"create":   create,
		"write":    write,
		"mkdir":    unix.Mkdir(root+"/dir", 0o755),
		"unlink":   unix.Unlink(file),
		"rename":   unix.Rename(file, file+"x"),
		"chmod":    unix.Chmod(file, 0o600),
		"chown":    unix.Chown(file, 1, 1),
		"truncate": unix.Truncate(file, 0),
		"symlink":  unix.Symlink("x", root+"/link"),
		"link":     unix.Link(file, root+"/link"),
		"setxattr": unix.Setxattr(file, "user.x", []byte("x"), 0),
		"utimes":   unix.Utimes(file, []unix.Timeval{{}, {}}),
	} {
		if !errors.Is(err, unix.EROFS) {
			t.Errorf("%s = %v, want EROFS", what, err)
		}
	}
}

// as runs a program as another user, with the groups given.
func as(uid, gid uint32, args ...string) ([]byte, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	return cmd.CombinedOutput()
}

// TestPermissionsFUSE reads files as other users; ACLs count. perm4 of aclquota
// belongs to 12:34 with mode 0660, and its ACL says user 1000 rw, group 33 r.
func TestPermissionsFUSE(t *testing.T) {
	v := openVolume(t, "aclquota", testvol.Load(t, "aclquota"))
	root := mounted(t, v, Options{AllowOther: true})
	for _, c := range []struct {
		uid, gid uint32
		want     bool
	}{
		{12, 1, true}, {1000, 1000, true}, {1001, 33, true}, {1001, 34, true}, {1001, 1001, false}, {33, 1000, false},
	} {
		out, err := as(c.uid, c.gid, "cat", root+"/perm4")
		if got := err == nil; got != c.want || err != nil && !strings.Contains(string(out), "Permission denied") {
			t.Errorf("user %d:%d reads perm4: %v (%v, %s), want %v", c.uid, c.gid, got, err, out, c.want)
		}
	}
	closed := mounted(t, v, Options{})
	if out, err := as(1000, 1000, "ls", closed); err == nil {
		t.Errorf("without AllowOther another user lists %s, want no access", out)
	}
}

// TestHandlesOutliveTheKernelsMemoryFUSE does what an NFS server does: a file is
// opened by its handle after the kernel has dropped what it knew of it.
func TestHandlesOutliveTheKernelsMemoryFUSE(t *testing.T) {
	v := openVolume(t, "snapshots", testvol.Load(t, "snapshots"))
	root := mounted(t, v, Options{})
	sub := subvolumes(t, v)[0]
	for _, p := range []string{sub, "."} {
		h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, root+"/"+p, 0)
		if err != nil {
			t.Fatal(err)
		}
		var want, got unix.Stat_t
		if err := unix.Stat(root+"/"+p, &want); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0); err != nil {
			t.Fatal(err)
		}
		fd, err := unix.OpenByHandleAt(open(t, root, unix.O_DIRECTORY), h, unix.O_RDONLY)
		if err != nil {
			t.Fatalf("%s: open by handle: %v", p, err)
		}
		err = unix.Fstat(fd, &got)
		unix.Close(fd)
		if err != nil || got.Ino != want.Ino {
			t.Errorf("%s by handle is inode %d, %v, want %d", p, got.Ino, err, want.Ino)
		}
	}
}

// TestStatfsFUSE: statfs(2) says what the library says, and of plain what the real
// kernel said.
func TestStatfsFUSE(t *testing.T) {
	set := testvol.Small(t)
	for _, name := range []string{"plain", "nocsum", "replicas2", "v39ec"} {
		v := openVolume(t, name, set.Load(t, name))
		st, err := v.Statfs(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		want := testvol.Statfs{Bsize: uint64(st.BlockSize), Frsize: uint64(st.BlockSize), Blocks: st.Blocks, Bfree: st.Free, Bavail: st.Avail,
			Files: st.Files, Ffree: st.FilesFree, Namemax: uint64(st.NameLen)}
		got, err := testvol.StatfsOf(mounted(t, v, Options{}))
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%s: statfs = %+v, want %+v", name, got, want)
		}
		if name != "plain" {
			continue
		}
		real, err := testvol.ReadStatfs(set.Text(t, name, "manifest-statfs"))
		if err != nil {
			t.Fatal(err)
		}
		if got != real {
			t.Errorf("%s: statfs = %+v, want the real kernel's %+v", name, got, real)
		}
	}
}

// TestMountedDamageFUSE flips a byte of an extent below the mount: the extent is an
// error, page by page, and everything else is as before.
func TestMountedDamageFUSE(t *testing.T) {
	devs := testvol.Load(t, "plain")
	path, size, first, _ := bigFile(t, openVolume(t, "plain", devs))
	fault := blocktest.NewFault(devs[0], blocktest.Flip(int64(first.Copies[0].Sector)*512, 1, 1))
	root := mounted(t, openQuietly(t, fault), Options{Warn: func(error) {}})
	good, err := openVolume(t, "plain", devs).Root().Open(context.Background(), "/"+path)
	if err != nil {
		t.Fatal(err)
	}
	fd := open(t, root+"/"+path, 0)
	bad := 0
	for off := int64(0); off < size; off += 4096 {
		got, want := make([]byte, 4096), make([]byte, 4096)
		w, _ := good.ReadAt(want, off)
		n, err := unix.Pread(fd, got, off)
		inside := off >= int64(first.Offset) && off < int64(first.Offset+first.Length)
		switch {
		case inside && !errors.Is(err, unix.EIO):
			t.Errorf("page at %d, in the damaged extent: %d bytes, %v, want EIO", off, n, err)
		case inside:
			bad++
		case err != nil || !bytes.Equal(got[:n], want[:w]):
			t.Errorf("page at %d: %d bytes, %v, want the %d of the file", off, n, err, w)
		}
	}
	if bad == 0 {
		t.Error("no page was in the damaged extent")
	}
	var st unix.Stat_t
	if err := unix.Stat(root+"/"+path, &st); err != nil || st.Size != size {
		t.Errorf("size of the damaged file = %d, %v, want %d", st.Size, err, size)
	}
}

// TestReadersTogetherFUSE reads the same tree from several processes at once.
func TestReadersTogetherFUSE(t *testing.T) {
	root := mounted(t, openVolume(t, "lz4", testvol.Load(t, "lz4")), Options{})
	want := testvol.WriteManifest(testvol.Manifest(t, "lz4"))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			got, err := testvol.ManifestOf(context.Background(), testvol.OSFS(root))
			if err != nil {
				t.Error(err)
				return
			}
			if b := testvol.WriteManifest(got); !bytes.Equal(b, want) {
				t.Errorf("manifest of %d bytes, want the %d of the maker's", len(b), len(want))
			}
		})
	}
	wg.Wait()
}

// TestUnmountedFromOutsideFUSE: umount(8) ends serving.
func TestUnmountedFromOutsideFUSE(t *testing.T) {
	s, dir, serve := mountServer(t, openVolume(t, "plain", testvol.Load(t, "plain")), Options{})
	served := serve(context.Background())
	fd, err := unix.Open(dir, unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Unmount(); !errors.Is(err, unix.EBUSY) && err == nil {
		t.Error("unmounting while a directory is open succeeds, want an error")
	}
	unix.Close(fd)
	if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
		t.Fatalf("umount: %v: %s", err, out)
	}
	if err := <-served; err != nil {
		t.Errorf("serving ended with %v, want no error", err)
	}
	if err := s.Mount(dir); err == nil {
		t.Error("mounting again succeeds, want an error: a Server mounts once")
	}
}

// TestContextEndsMountFUSE: the mount goes when the context does, also while it is
// in use.
func TestContextEndsMountFUSE(t *testing.T) {
	for _, busy := range []bool{false, true} {
		t.Run(fmt.Sprint("busy ", busy), func(t *testing.T) {
			_, dir, serve := mountServer(t, openVolume(t, "plain", testvol.Load(t, "plain")), Options{})
			ctx, cancel := context.WithCancel(context.Background())
			served := serve(ctx)
			fd, err := unix.Open(dir, unix.O_RDONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if !busy {
				unix.Close(fd)
			}
			cancel()
			if busy {
				// It leaves the tree at once, and serves on until it is let go.
				waitUntilGone(t, dir)
				var st unix.Stat_t
				if err := unix.Fstat(fd, &st); err != nil {
					t.Errorf("stat of what was open: %v", err)
				}
				unix.Close(fd)
			}
			if err := <-served; err != nil {
				t.Errorf("serving ended with %v, want no error", err)
			}
			if dev := deviceOf(dir); dev != "" {
				t.Errorf("%s is still mounted", dir)
			}
		})
	}
}

// waitUntilGone returns when a mount has left the mount table.
func waitUntilGone(t *testing.T, dir string) {
	t.Helper()
	table := open(t, "/proc/self/mountinfo", 0) // polls as changed with every change
	for deviceOf(dir) != "" {
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(table), Events: unix.POLLPRI}}, 10_000); err != nil && !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
	}
}

// TestSlowDeviceFUSE: a read that waits for its device does not hold up others.
func TestSlowDeviceFUSE(t *testing.T) {
	devs := testvol.Load(t, "plain")
	path, size, first, _ := bigFile(t, openVolume(t, "plain", devs))
	rule, gate := blocktest.Gate(int64(first.Copies[0].Sector)*512, 512)
	t.Cleanup(gate.Open)
	root := mounted(t, openVolume(t, "plain", []block.Reader{blocktest.NewFault(devs[0], rule)}), Options{})
	done := make(chan error, 1)
	go func() {
		fd, err := unix.Open(root+"/"+path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			_, err = unix.Pread(fd, make([]byte, 4096), int64(first.Offset))
			unix.Close(fd)
		}
		done <- err
	}()
	<-gate.Entered()
	// The first read waits. The rest of the volume answers.
	for _, e := range testvol.Manifest(t, "plain") {
		if e.Type != 'f' || e.Path == path || e.Size > 64<<10 {
			continue
		}
		fd := open(t, root+"/"+e.Path, 0)
		if _, err := unix.Pread(fd, make([]byte, e.Size+1), 0); err != nil {
			t.Errorf("%s: %v", e.Path, err)
		}
	}
	select {
	case err := <-done:
		t.Errorf("the gated read of %d bytes ended with %v, want it to wait", size, err)
	default:
	}
	gate.Open()
	if err := <-done; err != nil {
		t.Errorf("the gated read: %v", err)
	}
}

// TestMappedFileFUSE maps files, which reads them by page faults. Another process
// does it: a fault in this one would hold up the runtime that has to serve it.
func TestMappedFileFUSE(t *testing.T) {
	root := mounted(t, openVolume(t, "zstd", testvol.Load(t, "zstd")), Options{})
	n := 0
	for _, e := range testvol.Manifest(t, "zstd") {
		if e.Type != 'f' || e.Size < 64<<10 || e.Size > 16<<20 {
			continue
		}
		n++
		cmd := exec.Command(os.Args[0], "-test.run", "^TestMappingFUSE$")
		cmd.Env = append(os.Environ(), mapFile+"="+root+"/"+e.Path, mapSum+"="+e.SHA256)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", e.Path, err, out)
		}
	}
	if n == 0 {
		t.Error("no file to map")
	}
}

// Variables that make a child process of TestMappedFileFUSE.
const (
	mapFile = "GOBCACHEFS_TEST_MAP_FILE"
	mapSum  = "GOBCACHEFS_TEST_MAP_SUM"
)

// TestMappingFUSE is the child process of TestMappedFileFUSE; by itself it maps
// nothing.
func TestMappingFUSE(t *testing.T) {
	path := os.Getenv(mapFile)
	if path == "" {
		return
	}
	fd := open(t, path, 0)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	b, err := unix.Mmap(fd, 0, int(st.Size), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprintf("%x", sha256.Sum256(b)), os.Getenv(mapSum); got != want {
		t.Errorf("sha256 of the mapped file = %s, want %s", got, want)
	}
}

// TestAheadFUSE reads a directory in the order of its listing: much of it is
// handed to the kernel before it asks, and is right.
func TestAheadFUSE(t *testing.T) {
	v := openVolume(t, "plain", testvol.Load(t, "plain"))
	s, dir, serve := mountServer(t, v, Options{})
	sums := map[string]string{}
	for _, e := range testvol.Manifest(t, "plain") {
		if e.Type == 'f' && e.Size > 0 {
			sums[e.Path] = e.SHA256
		}
	}
	sub, _ := biggestDir(testvol.Manifest(t, "plain"))
	fd, err := unix.Open(dir+"/"+sub, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1<<20)
	read := 0
	for _, d := range getdents(t, fd, 32<<10) {
		want, ok := sums[sub+"/"+d.name]
		if !ok {
			continue
		}
		file, err := unix.Open(dir+"/"+sub+"/"+d.name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		for {
			n, err := unix.Read(file, buf)
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				break
			}
			h.Write(buf[:n])
		}
		if got := fmt.Sprintf("%x", h.Sum(nil)); got != want {
			t.Errorf("%s: sha256 = %s, want %s", d.name, got, want)
		}
		unix.Close(file)
		read++
	}
	unix.Close(fd)
	for len(s.fs.ahead.jobs) > 0 {
		runtime.Gosched() // on one processor all of it is still to be done
	}
	if err := s.Unmount(); err != nil {
		t.Fatal(err)
	}
	if err := <-serve(context.Background()); err != nil {
		t.Errorf("serving ended with %v", err)
	}
	if n := s.fs.ahead.stored.Load(); read < 50 || n == 0 {
		t.Errorf("%d of %d files were read ahead, want some of many", n, read)
	}
}
