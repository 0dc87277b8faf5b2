//go:build (linux && !(386 || arm || mips || mipsle)) || darwin || freebsd

package fuse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/block/blocktest"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

func header(nr uint64) gofuse.InHeader { return gofuse.InHeader{NodeId: nr} }

func mustNode(t *testing.T, k *kernel, p string) uint64 {
	t.Helper()
	nr, err := k.node(p)
	if err != nil {
		t.Fatalf("%s: %v", p, err)
	}
	return nr
}

// biggestDir finds the directory of a manifest with the most entries.
func biggestDir(m []testvol.Entry) (string, int) {
	count := map[string]int{}
	for _, e := range m {
		dir := "."
		if i := strings.LastIndexByte(e.Path, '/'); i >= 0 {
			dir = e.Path[:i]
		}
		count[dir]++
	}
	best := "."
	for d, n := range count {
		if n > count[best] || n == count[best] && d < best {
			best = d
		}
	}
	return best, count[best]
}

// TestReadDirResumes lists from behind every entry of a directory, as seekdir(3)
// does: the rest must follow, neither more nor less.
func TestReadDirResumes(t *testing.T) {
	dir, n := biggestDir(testvol.Manifest(t, "plain"))
	if n < 100 {
		t.Fatalf("the biggest directory, %s, has %d entries, want enough for many requests", dir, n)
	}
	k := testKernel(t, openVolume(t, "plain", testvol.Load(t, "plain")), Options{})
	nr := mustNode(t, k, dir)
	all, err := k.entries(nr, 0, 4096, false)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(all) - 2; got != n {
		t.Errorf("%s lists %d entries, want %d", dir, got, n)
	}
	if all[0].Off != dotCookie || all[1].Off != dotdotCookie {
		t.Errorf(`cookies of "." and ".." = %d, %d, want %d, %d`, all[0].Off, all[1].Off, dotCookie, dotdotCookie)
	}
	for i, e := range all {
		if i > 0 && e.Off <= all[i-1].Off {
			t.Errorf("cookie %d = %d after %d, want them to rise", i, e.Off, all[i-1].Off)
		}
		rest, err := k.entries(nr, e.Off, 600, i%2 == 1)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(rest, all[i+1:]) {
			t.Fatalf("behind entry %d of %d (cookie %d) come %d entries, want %d", i, len(all), e.Off, len(rest), len(all)-i-1)
		}
	}
}

// TestReadDirTooSmall: a buffer that not even one entry fits in is an error, not
// the end of the directory.
func TestReadDirTooSmall(t *testing.T) {
	k := testKernel(t, openVolume(t, "plain", testvol.Load(t, "plain")), Options{})
	for _, from := range []uint64{0, dotdotCookie} {
		if _, err := k.entries(rootNode, from, 8, false); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("listing from %d into 8 bytes = %v, want EINVAL", from, err)
		}
	}
}

func TestLookupDots(t *testing.T) {
	v := openVolume(t, "snapshots", testvol.Load(t, "snapshots"))
	k := testKernel(t, v, Options{})
	for _, p := range subvolumes(t, v) {
		up := "."
		if i := strings.LastIndexByte(p, '/'); i >= 0 {
			up = p[:i]
		}
		nr, parent := mustNode(t, k, p), mustNode(t, k, up)
		for name, want := range map[string]uint64{".": nr, "..": parent} {
			out, err := k.lookup(nr, name)
			if err != nil || out.NodeId != want {
				t.Errorf("lookup of %q in %s = node %d, %v, want %d", name, p, out.NodeId, err, want)
			}
		}
	}
	out, err := k.lookup(rootNode, "..")
	if err != nil || out.NodeId != rootNode {
		t.Errorf("lookup of .. in the root = node %d, %v, want %d", out.NodeId, err, rootNode)
	}
}

// TestDotDotStopsAtSubvolume: the mount of a subvolume does not lead out of it.
func TestDotDotStopsAtSubvolume(t *testing.T) {
	v := openVolume(t, "snapshots", testvol.Load(t, "snapshots"))
	for _, s := range v.Subvolumes() {
		sub, err := v.Subvolume(s.ID)
		if err != nil {
			t.Fatal(err)
		}
		k := testKernel(t, v, Options{Subvolume: sub})
		out, err := k.lookup(rootNode, "..")
		if err != nil || out.NodeId != rootNode {
			t.Errorf("subvolume %d: lookup of .. in the root = node %d, %v, want %d", s.ID, out.NodeId, err, rootNode)
		}
		a, err := k.attr(rootNode)
		if want := bcachefs.Ino(s.Root); err != nil || a.Ino != want {
			t.Errorf("subvolume %d: root shows inode %d, %v, want %d", s.ID, a.Ino, err, want)
		}
	}
}

// TestNamesThatAreNotThere: the kernel may remember them, except where case
// does not matter.
func TestNamesThatAreNotThere(t *testing.T) {
	plain := testKernel(t, openVolume(t, "plain", testvol.Load(t, "plain")), Options{})
	k := testKernel(t, openVolume(t, "v39casefold", testvol.Load(t, "v39casefold")), Options{})
	folded := mustNode(t, k, "Casefolded")
	var out gofuse.EntryOut
	h := header(rootNode)
	if st := plain.f.Lookup(nil, &h, "no such name", &out); !st.Ok() || out.NodeId != 0 || out.EntryTimeout() != defaultCacheTime {
		t.Errorf("lookup of a name that is not there = %v, node %d, valid %v, want OK, 0, %v", st, out.NodeId, out.EntryTimeout(), defaultCacheTime)
	}
	h = header(folded)
	if st := k.f.Lookup(nil, &h, "no such name", &out); st != gofuse.ENOENT {
		t.Errorf("lookup of a name that is not there in a casefolded directory = %v, want ENOENT", st)
	}
	upper, err := k.lookup(folded, "STRASSE")
	if err != nil {
		t.Fatal(err)
	}
	lower, err := k.lookup(folded, "straße")
	if err != nil || lower.NodeId != upper.NodeId {
		t.Errorf("STRASSE is node %d, straße %d, %v, want the same", upper.NodeId, lower.NodeId, err)
	}
}

func TestLookupErrors(t *testing.T) {
	k := testKernel(t, openVolume(t, "plain", testvol.Load(t, "plain")), Options{})
	var file string
	for _, e := range testvol.Manifest(t, "plain") {
		if e.Type == 'f' && e.Size > 0 && !strings.Contains(e.Path, "/") {
			file = e.Path
		}
	}
	nr := mustNode(t, k, file)
	for _, c := range []struct {
		what string
		dir  uint64
		name string
		want syscall.Errno
	}{
		{"a name in a file", nr, "x", syscall.ENOTDIR},
		{"a name that is too long", rootNode, strings.Repeat("x", ondisk.NameMax+1), syscall.ENAMETOOLONG},
		{"a name in an inode that is not there", 1 << 40, "x", syscall.ENOENT},
		{"a name in node 0", 0, "x", syscall.ESTALE},
		{"a name in a node that was never given", inoOther | inoHashed | 1, "x", syscall.ESTALE},
	} {
		if _, err := k.lookup(c.dir, c.name); !errors.Is(err, c.want) {
			t.Errorf("lookup of %s = %v, want %v", c.what, err, c.want)
		}
	}
	if _, err := k.entries(nr, 0, 4096, false); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("listing a file = %v, want ENOTDIR", err)
	}
	h := header(nr)
	if _, st := k.f.Readlink(nil, &h); st != gofuse.EINVAL {
		t.Errorf("readlink of a file = %v, want EINVAL", st)
	}
	var open gofuse.OpenOut
	for _, flags := range []int{syscall.O_WRONLY, syscall.O_RDWR, syscall.O_TRUNC, syscall.O_APPEND} {
		if st := k.f.Open(nil, &gofuse.OpenIn{InHeader: header(nr), Flags: uint32(flags)}, &open); st != gofuse.EROFS {
			t.Errorf("open with flags %#x = %v, want EROFS", flags, st)
		}
	}
	if _, st := k.f.Read(nil, &gofuse.ReadIn{InHeader: header(rootNode), Size: 4096}, make([]byte, 4096)); st != gofuse.EISDIR {
		t.Errorf("read of a directory = %v, want EISDIR", st)
	}
	var seek gofuse.LseekOut
	if st := k.f.Lseek(nil, &gofuse.LseekIn{InHeader: header(nr), Whence: 9}, &seek); st != gofuse.EINVAL {
		t.Errorf("lseek with whence 9 = %v, want EINVAL", st)
	}
}

// TestReadOnly sends everything that would change something.
func TestReadOnly(t *testing.T) {
	f := testKernel(t, openVolume(t, "plain", testvol.Load(t, "plain")), Options{}).f
	h := header(rootNode)
	var entry gofuse.EntryOut
	write, _ := f.Write(nil, &gofuse.WriteIn{InHeader: h}, []byte("x"))
	_, wst := f.Write(nil, &gofuse.WriteIn{InHeader: h}, []byte("x"))
	_, cst := f.CopyFileRange(nil, &gofuse.CopyFileRangeIn{InHeader: h})
	for what, st := range map[string]gofuse.Status{
		"setattr":         f.SetAttr(nil, &gofuse.SetAttrIn{}, &gofuse.AttrOut{}),
		"mknod":           f.Mknod(nil, &gofuse.MknodIn{InHeader: h}, "x", &entry),
		"mkdir":           f.Mkdir(nil, &gofuse.MkdirIn{InHeader: h}, "x", &entry),
		"unlink":          f.Unlink(nil, &h, "x"),
		"rmdir":           f.Rmdir(nil, &h, "x"),
		"rename":          f.Rename(nil, &gofuse.RenameIn{InHeader: h}, "x", "y"),
		"link":            f.Link(nil, &gofuse.LinkIn{InHeader: h}, "x", &entry),
		"symlink":         f.Symlink(nil, &h, "x", "y", &entry),
		"setxattr":        f.SetXAttr(nil, &gofuse.SetXAttrIn{InHeader: h}, "user.x", nil),
		"removexattr":     f.RemoveXAttr(nil, &h, "user.x"),
		"create":          f.Create(nil, &gofuse.CreateIn{InHeader: h}, "x", &gofuse.CreateOut{}),
		"tmpfile":         f.Tmpfile(nil, &gofuse.CreateIn{InHeader: h}, &gofuse.CreateOut{}),
		"write":           wst,
		"fallocate":       f.Fallocate(nil, &gofuse.FallocateIn{InHeader: h}),
		"copy_file_range": cst,
		"access":          f.Access(nil, &gofuse.AccessIn{InHeader: h, Mask: gofuse.W_OK}),
	} {
		if st != gofuse.EROFS {
			t.Errorf("%s = %v, want EROFS", what, st)
		}
	}
	if write != 0 {
		t.Errorf("write took %d bytes, want none", write)
	}
}

func TestXattrErrors(t *testing.T) {
	f := testKernel(t, openVolume(t, "plain", testvol.Load(t, "plain")), Options{}).f
	h := header(rootNode)
	if _, st := f.GetXAttr(nil, &h, "user.no such name", make([]byte, 100)); st != gofuse.ENOATTR {
		t.Errorf("getxattr of a name that is not there = %v, want %v", st, gofuse.ENOATTR)
	}
	if _, st := f.GetXAttr(nil, &h, "strange.name", make([]byte, 100)); st != gofuse.ENOTSUP {
		t.Errorf("getxattr of a namespace that is not there = %v, want %v", st, gofuse.ENOTSUP)
	}
}

// TestTrustedXattrsAreForRoot lists as root and as somebody else.
func TestTrustedXattrsAreForRoot(t *testing.T) {
	var path string
	for _, e := range testvol.Manifest(t, "plain") {
		for name := range e.Xattr {
			if strings.HasPrefix(name, "trusted.") {
				path = e.Path
			}
		}
	}
	k := testKernel(t, openVolume(t, "plain", testvol.Load(t, "plain")), Options{})
	nr := mustNode(t, k, path)
	for uid, want := range map[uint32]bool{0: true, 1000: false} {
		h := header(nr)
		h.Uid = uid
		b := make([]byte, 4096)
		n, st := k.f.ListXAttr(nil, &h, b)
		if !st.Ok() {
			t.Fatal(st)
		}
		if got := bytes.Contains(b[:n], []byte("trusted.")); got != want {
			t.Errorf("uid %d: list %q has trusted names: %v, want %v", uid, b[:n], got, want)
		}
	}
}

// TestVirtualXattrs: the options of an inode can be listed and read.
func TestVirtualXattrs(t *testing.T) {
	k := testKernel(t, openVolume(t, "aclquota", testvol.Load(t, "aclquota")), Options{})
	found := 0
	for _, e := range testvol.Manifest(t, "aclquota") {
		names, err := k.ListXattr(context.Background(), e.Path)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			if !strings.HasPrefix(n, "bcachefs") {
				continue
			}
			found++
			if v, err := k.GetXattr(context.Background(), e.Path, n); err != nil || len(v) == 0 {
				t.Errorf("%s: %s = %q, %v, want a value", e.Path, n, v, err)
			}
		}
	}
	if found == 0 {
		t.Error("no virtual attributes in a volume whose files have options")
	}
}

// bigFile finds a file whose data is stored in several extents on a device with
// checksums, and two of those extents.
func bigFile(t *testing.T, v *bcachefs.Volume) (path string, size int64, first, last bcachefs.Extent) {
	t.Helper()
	ctx := context.Background()
	for _, e := range testvol.Manifest(t, "plain") {
		if e.Type != 'f' || e.Size < 256<<10 {
			continue
		}
		f, err := v.Root().Open(ctx, "/"+e.Path)
		if err != nil {
			t.Fatal(err)
		}
		var ext []bcachefs.Extent
		err = f.Handle().Extents(ctx, 0, func(x bcachefs.Extent) bool {
			if x.Kind == bcachefs.ExtentData && len(x.Copies) == 1 && x.Copies[0].Checksum != ondisk.CsumNone && !x.Shared {
				ext = append(ext, x)
			}
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(ext) > 2 {
			return e.Path, e.Size, ext[0], ext[len(ext)-1]
		}
	}
	t.Fatal("no file with several extents")
	return
}

// TestDamagedData flips a byte of an extent. Requests that touch any byte of it
// fail as a whole, others are served, and the warning says where.
func TestDamagedData(t *testing.T) {
	devs := testvol.Load(t, "plain")
	path, size, first, last := bigFile(t, openVolume(t, "plain", devs))
	fault := blocktest.NewFault(devs[0])
	v := openQuietly(t, fault)
	var mu sync.Mutex
	var warnings []string
	k := testKernel(t, v, Options{Warn: func(err error) { mu.Lock(); warnings = append(warnings, err.Error()); mu.Unlock() }})
	f, err := k.Open(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	fault.Add(blocktest.Flip(int64(first.Copies[0].Sector)*512+100, 1, 0x10))

	page := make([]byte, 4096)
	if _, err := f.ReadAt(page, int64(last.Offset)); err != nil {
		t.Errorf("page of an intact extent: %v", err)
	}
	// The last page of the damaged extent: not where the byte is.
	if _, err := f.ReadAt(page, int64(first.Offset+first.Length)-4096); !errors.Is(err, syscall.EIO) {
		t.Errorf("page of the damaged extent: %v, want EIO", err)
	}
	// All of the file in one request: no bytes, since fewer would be an end.
	whole := make([]byte, min(size, maxRequest))
	if n, err := f.ReadAt(whole, 0); !errors.Is(err, syscall.EIO) || n != 0 {
		t.Errorf("all of the file = %d bytes, %v, want 0, EIO", n, err)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], path) || !strings.Contains(warnings[0], "sector") {
		t.Errorf("warnings = %q, want one, with the path %s and the sector", warnings, path)
	}
	fault.Clear()
	if n, err := f.ReadAt(whole, 0); err != nil || n != len(whole) {
		t.Errorf("after the device got well: %d bytes, %v, want %d", n, err, len(whole))
	}
}

// openQuietly opens a volume whose warnings are expected.
func openQuietly(t *testing.T, devs ...block.Reader) *bcachefs.Volume {
	t.Helper()
	v, err := bcachefs.Open(context.Background(), devs, bcachefs.Options{Warn: func(error) {}})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestPanic: a handler that panics answers EIO and says where.
func TestPanic(t *testing.T) {
	var told error
	f := testKernel(t, openVolume(t, "plain", testvol.Load(t, "plain")), Options{Warn: func(err error) { told = err }}).f
	if st := f.panicked("lost the plot"); st != gofuse.EIO {
		t.Errorf("answer to a panic = %v, want EIO", st)
	}
	if told == nil || !strings.Contains(told.Error(), "lost the plot") || !strings.Contains(told.Error(), "TestPanic") {
		t.Errorf("told %v, want the panic and its stack", told)
	}
}

// TestWarningsAreBounded: a volume full of damage does not fill the log, or the
// memory.
func TestWarningsAreBounded(t *testing.T) {
	var n atomic.Int64
	f := testKernel(t, openVolume(t, "plain", testvol.Load(t, "plain")), Options{Warn: func(error) { n.Add(1) }}).f
	for i := range maxWarnings + 100 {
		id := bcachefs.NodeID{Subvol: 1, Inode: uint64(1<<40 + i)}
		f.fail("read", id, syscall.EIO)
		f.fail("read", id, syscall.EIO)
	}
	if n.Load() != maxWarnings {
		t.Errorf("%d warnings, want %d", n.Load(), maxWarnings)
	}
	f.fail("read", bcachefs.NodeID{Subvol: 1, Inode: 1}, syscall.ENOENT)
	if n.Load() != maxWarnings {
		t.Errorf("a plain answer was warned of")
	}
}

// TestHandlesAreBounded opens more files than the cache holds.
func TestHandlesAreBounded(t *testing.T) {
	var c handles
	for i := range uint64(3 * handleShards * handlesEach) {
		id := bcachefs.NodeID{Subvol: 1, Inode: i}
		h := new(bcachefs.Handle)
		c.put(id, h)
		if c.get(id) != h {
			t.Fatalf("handle %d is not there just after it was put", i)
		}
	}
	total := 0
	for i := range c {
		total += len(c[i].m)
	}
	if want := handleShards * handlesEach; total != want {
		t.Errorf("%d handles are kept, want %d", total, want)
	}
}

func TestRdev(t *testing.T) {
	for _, c := range []struct{ major, minor, want uint32 }{
		{0, 0, 0}, {1, 3, 0x103}, {8, 17, 0x811}, {0xfff, 0xfffff, 0xffffffff}, {259, 0x12345, 0x12310345},
	} {
		if got := rdev(c.major, c.minor); got != c.want {
			t.Errorf("rdev(%d, %#x) = %#x, want %#x", c.major, c.minor, got, c.want)
		}
	}
}

// TestBigReads reads with every alignment of offset and size.
func TestBigReads(t *testing.T) {
	v := openVolume(t, "plain", testvol.Load(t, "plain"))
	path, size, _, _ := bigFile(t, v)
	f, err := v.Root().Open(context.Background(), "/"+path)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, size)
	if _, err := f.ReadAt(want, 0); err != nil {
		t.Fatal(err)
	}
	k := testKernel(t, v, Options{})
	nr := mustNode(t, k, path)
	for _, c := range []struct{ off, n int64 }{
		{0, size}, {0, maxRequest}, {4096, 4096}, {1, 1}, {size - 1, 4096}, {size, 4096}, {size + 4096, 4096}, {size / 2, 8192}, {511, 513}, {100000, 1},
	} {
		buf := make([]byte, c.n)
		r, st := k.f.Read(nil, &gofuse.ReadIn{InHeader: header(nr), Offset: uint64(c.off), Size: uint32(c.n)}, buf)
		if !st.Ok() {
			t.Errorf("read of %d bytes at %d: %v", c.n, c.off, st)
			continue
		}
		got, _ := r.Bytes(nil)
		from, to := min(c.off, size), min(c.off+c.n, size)
		if !bytes.Equal(got, want[from:to]) {
			t.Errorf("read of %d bytes at %d gives %d bytes, want the %d of the file", c.n, c.off, len(got), to-from)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	v := openVolume(t, "plain", testvol.Load(t, "plain"))
	other := openVolume(t, "snapshots", testvol.Load(t, "snapshots"))
	if _, err := New(nil, Options{}); err == nil {
		t.Error("New without a volume succeeds, want an error")
	}
	if _, err := New(v, Options{Subvolume: other.Root()}); err == nil {
		t.Error("New with a subvolume of another volume succeeds, want an error")
	}
	s, err := New(v, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(context.Background()); err == nil {
		t.Error("Serve before Mount succeeds, want an error")
	}
	if err := s.Unmount(); err == nil {
		t.Error("Unmount before Mount succeeds, want an error")
	}
	file := fmt.Sprintf("%s/file", t.TempDir())
	for _, dir := range []string{"", file} {
		if err := s.Mount(dir); err == nil {
			t.Errorf("Mount on %q succeeds, want an error", dir)
		}
	}
}
