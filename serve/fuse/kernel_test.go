//go:build (linux && !(386 || arm || mips || mipsle)) || darwin || freebsd

package fuse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// kernel stands for the kernel: it turns the calls of testvol.FS into the
// requests that Linux would send, checks the form of the answers, and keeps
// count of the lookups it would have to forget. Safe for concurrent use.
type kernel struct {
	f *filesystem

	mu      sync.Mutex
	lookups map[uint64]uint64
}

func newKernel(f *filesystem) *kernel { return &kernel{f: f, lookups: map[uint64]uint64{}} }

func (k *kernel) note(nr uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lookups[nr]++
}

// forgetAll gives back every lookup.
func (k *kernel) forgetAll() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for nr, n := range k.lookups {
		k.f.Forget(nr, n)
	}
	clear(k.lookups)
}

func status(st gofuse.Status) error {
	if st.Ok() {
		return nil
	}
	return syscall.Errno(st)
}

func (k *kernel) lookup(dir uint64, name string) (gofuse.EntryOut, error) {
	var out gofuse.EntryOut
	err := status(k.f.Lookup(nil, &gofuse.InHeader{NodeId: dir}, name, &out))
	if err == nil && out.NodeId == 0 {
		if out.EntryTimeout() == 0 {
			return out, errors.New("no node id, and not to be remembered")
		}
		return out, syscall.ENOENT
	}
	if err == nil {
		k.note(out.NodeId)
	}
	return out, err
}

// node walks a path, name by name.
func (k *kernel) node(p string) (uint64, error) {
	nr := uint64(rootNode)
	if p == "." {
		return nr, nil
	}
	for name := range strings.SplitSeq(p, "/") {
		out, err := k.lookup(nr, name)
		if err != nil {
			return 0, err
		}
		nr = out.NodeId
	}
	return nr, nil
}

// entries lists a directory with buffers of a size, from a cookie on.
func (k *kernel) entries(nr, from uint64, size int, plus bool) ([]gofuse.DirEntry, error) {
	var all []gofuse.DirEntry
	for {
		buf := make([]byte, size)
		in := &gofuse.ReadIn{InHeader: gofuse.InHeader{NodeId: nr}, Offset: from, Size: uint32(size)}
		out := gofuse.NewDirEntryList(buf, from)
		var got []gofuse.DirEntry
		var err error
		if plus {
			if err = status(k.f.ReadDirPlus(nil, in, out)); err == nil {
				var entries []gofuse.EntryOut
				if got, entries, err = gofuse.ParseDirLookupEntries(out.Bytes()); err == nil {
					err = k.plus(got, entries)
				}
			}
		} else if err = status(k.f.ReadDir(nil, in, out)); err == nil {
			got, err = gofuse.ParseDirEntries(out.Bytes())
		}
		if err != nil {
			return all, err
		}
		if len(got) == 0 {
			return all, nil
		}
		all = append(all, got...)
		from = got[len(got)-1].Off
	}
}

// plus takes in the lookups that come with a listing.
func (k *kernel) plus(names []gofuse.DirEntry, entries []gofuse.EntryOut) error {
	for i, e := range entries {
		dots := names[i].Name == "." || names[i].Name == ".."
		switch {
		case dots && e.NodeId != 0:
			return fmt.Errorf("%q has node id %d, want none: nobody would forget it", names[i].Name, e.NodeId)
		case e.NodeId == 0:
			continue
		case e.Mode&ondisk.ModeTypeMask != names[i].Mode:
			return fmt.Errorf("%q: listed as type %o, attributes say %o", names[i].Name, names[i].Mode, e.Mode)
		case e.Ino != names[i].Ino:
			return fmt.Errorf("%q: listed as inode %d, attributes say %d", names[i].Name, names[i].Ino, e.Ino)
		}
		k.note(e.NodeId)
	}
	return nil
}

func (k *kernel) ReadDir(_ context.Context, p string) ([]string, error) {
	nr, err := k.node(p)
	if err != nil {
		return nil, err
	}
	// Small buffers, so that every directory takes many requests.
	list, err := k.entries(nr, 0, 700, false)
	if err != nil {
		return nil, err
	}
	plus, err := k.entries(nr, 0, 4096, true)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(list, plus) {
		return nil, fmt.Errorf("READDIR and READDIRPLUS list %s differently:\n%v\n%v", p, list, plus)
	}
	if len(list) < 2 || list[0].Name != "." || list[1].Name != ".." {
		return nil, fmt.Errorf("listing of %s starts with %v, want . and ..", p, list[:min(2, len(list))])
	}
	var names []string
	for _, e := range list[2:] {
		names = append(names, e.Name)
	}
	return names, nil
}

func (k *kernel) attr(nr uint64) (gofuse.Attr, error) {
	var out gofuse.AttrOut
	err := status(k.f.GetAttr(nil, &gofuse.GetAttrIn{InHeader: gofuse.InHeader{NodeId: nr}}, &out))
	return out.Attr, err
}

func (k *kernel) Lstat(_ context.Context, p string) (testvol.Stat, error) {
	nr, err := k.node(p)
	if err != nil {
		return testvol.Stat{}, err
	}
	a, err := k.attr(nr)
	if err != nil {
		return testvol.Stat{}, err
	}
	var x gofuse.StatxOut
	if err := status(k.f.Statx(nil, &gofuse.StatxIn{InHeader: gofuse.InHeader{NodeId: nr}}, &x)); err != nil {
		return testvol.Stat{}, err
	}
	if uint32(x.Mode) != a.Mode || x.Ino != a.Ino || x.Size != a.Size || x.Uid != a.Uid || x.Gid != a.Gid || x.Nlink != a.Nlink || x.Blocks != a.Blocks ||
		x.Mtime.Sec != a.Mtime || x.Mtime.Nsec != a.Mtimensec || x.Ctime.Sec != a.Ctime || x.Ctime.Nsec != a.Ctimensec {
		return testvol.Stat{}, fmt.Errorf("statx of %s = %+v, getattr = %+v", p, x.Statx, a)
	}
	typ := map[uint32]byte{0o100000: 'f', 0o040000: 'd', 0o120000: 'l', 0o010000: 'p', 0o020000: 'c', 0o060000: 'b', 0o140000: 's'}[a.Mode&ondisk.ModeTypeMask]
	s := testvol.Stat{Type: typ, Mode: a.Mode &^ ondisk.ModeTypeMask, UID: a.Uid, GID: a.Gid, Mtime: int64(a.Mtime)*1e9 + int64(a.Mtimensec),
		Ctime: int64(a.Ctime)*1e9 + int64(a.Ctimensec), Nlink: uint64(a.Nlink), Ino: a.Ino, Size: int64(a.Size)}
	if typ == 'c' || typ == 'b' {
		// new_decode_dev of Linux.
		s.Major, s.Minor = a.Rdev&0xfff00>>8, a.Rdev&0xff|a.Rdev>>12&0xfff00
		if x.RdevMajor != s.Major || x.RdevMinor != s.Minor {
			return s, fmt.Errorf("statx of %s: device %d:%d, getattr %d:%d", p, x.RdevMajor, x.RdevMinor, s.Major, s.Minor)
		}
	}
	return s, nil
}

func (k *kernel) Readlink(_ context.Context, p string) (string, error) {
	nr, err := k.node(p)
	if err != nil {
		return "", err
	}
	b, st := k.f.Readlink(nil, &gofuse.InHeader{NodeId: nr})
	return string(b), status(st)
}

// sized asks for a size, then for the value.
func sized(what string, call func(dest []byte) (uint32, gofuse.Status)) ([]byte, error) {
	n, st := call(nil)
	if st == gofuse.OK && n == 0 {
		return nil, nil
	}
	if st != gofuse.ERANGE {
		return nil, status(st)
	}
	if n > 1 {
		if m, st := call(make([]byte, n-1)); st != gofuse.ERANGE || m != n {
			return nil, fmt.Errorf("%s into %d bytes = %d, %v, want %d, ERANGE", what, n-1, m, st, n)
		}
	}
	b := make([]byte, n+10)
	m, st := call(b)
	if st.Ok() && m != n {
		return nil, fmt.Errorf("%s: %d bytes, want %d as it said", what, m, n)
	}
	return b[:m], status(st)
}

func (k *kernel) ListXattr(_ context.Context, p string) ([]string, error) {
	nr, err := k.node(p)
	if err != nil {
		return nil, err
	}
	b, err := sized("listxattr", func(d []byte) (uint32, gofuse.Status) { return k.f.ListXAttr(nil, &gofuse.InHeader{NodeId: nr}, d) })
	if err != nil || len(b) == 0 {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00"), nil
}

func (k *kernel) GetXattr(_ context.Context, p, name string) ([]byte, error) {
	nr, err := k.node(p)
	if err != nil {
		return nil, err
	}
	return sized("getxattr "+name, func(d []byte) (uint32, gofuse.Status) {
		return k.f.GetXAttr(nil, &gofuse.InHeader{NodeId: nr}, name, d)
	})
}

func (k *kernel) Open(_ context.Context, p string) (testvol.File, error) {
	nr, err := k.node(p)
	if err != nil {
		return nil, err
	}
	var out gofuse.OpenOut
	if err := status(k.f.Open(nil, &gofuse.OpenIn{InHeader: gofuse.InHeader{NodeId: nr}}, &out)); err != nil && !errors.Is(err, syscall.ENOSYS) {
		return nil, err
	}
	return kernelFile{k, nr}, nil
}

var buffers = sync.Pool{New: func() any { return new([maxRequest]byte) }}

type kernelFile struct {
	k  *kernel
	nr uint64
}

func (f kernelFile) read(p []byte, off int64) (int, error) {
	// Requests are of whole pages, also at the end of the file.
	whole := buffers.Get().(*[maxRequest]byte)
	defer buffers.Put(whole)
	buf := whole[:(len(p)+4095)/4096*4096]
	r, st := f.k.f.Read(nil, &gofuse.ReadIn{InHeader: gofuse.InHeader{NodeId: f.nr}, Offset: uint64(off), Size: uint32(len(buf))}, buf)
	if !st.Ok() {
		return 0, status(st)
	}
	defer r.Done()
	b, st := r.Bytes(nil)
	return copy(p, b), status(st)
}

func (f kernelFile) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		m, err := f.read(p[n:min(n+maxRequest, len(p))], off+int64(n))
		if err != nil {
			return n, err
		}
		if m == 0 {
			return n, io.EOF
		}
		n += m
	}
	return n, nil
}

func (f kernelFile) seek(off int64, whence uint32) (int64, error) {
	var out gofuse.LseekOut
	st := f.k.f.Lseek(nil, &gofuse.LseekIn{InHeader: gofuse.InHeader{NodeId: f.nr}, Offset: uint64(off), Whence: whence}, &out)
	return int64(out.Offset), status(st)
}

func (f kernelFile) SeekData(off int64) (int64, error) { return f.seek(off, seekData) }
func (f kernelFile) SeekHole(off int64) (int64, error) { return f.seek(off, seekHole) }
func (f kernelFile) Close() error                      { return nil }

// openVolume opens a volume of the small set; warnings fail the test.
func openVolume(t testing.TB, name string, devs []block.Reader) *bcachefs.Volume {
	t.Helper()
	v, err := bcachefs.Open(context.Background(), devs, bcachefs.Options{
		Passphrase: func(context.Context, string) ([]byte, error) { return []byte(testvol.Passphrase), nil },
		Warn:       func(err error) { t.Errorf("%s: warning: %v", name, err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func testKernel(t testing.TB, vol *bcachefs.Volume, o Options) *kernel {
	if o.Warn == nil {
		o.Warn = func(err error) { t.Errorf("warning: %v", err) }
	}
	f := newFilesystem(vol, o)
	t.Cleanup(f.cancel)
	return newKernel(f)
}

// subvolumes gives the paths of the subvolumes of a volume, relative to its
// root: below them inode numbers are not those of the manifest.
func subvolumes(t testing.TB, v *bcachefs.Volume) []string {
	t.Helper()
	var all []string
	for _, s := range v.Subvolumes() {
		if s.ID == v.Root().ID() {
			continue
		}
		p, err := v.Files().Path(context.Background(), s.Root)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.TrimPrefix(p, "/"))
	}
	return all
}

// wantKind is the manifest to expect of a volume.
func wantKind(set *testvol.Set, name string) string {
	if slices.Contains(set.Kinds(name), "manifest-recovered") {
		return "manifest-recovered"
	}
	return "manifest"
}

// TestManifests walks every small volume through the requests of a kernel.
func TestManifests(t *testing.T) {
	set := testvol.Small(t)
	for _, name := range set.Names() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := openVolume(t, name, set.Load(t, name))
			k := testKernel(t, v, Options{})
			got, err := testvol.ManifestOf(context.Background(), k)
			if err != nil {
				t.Fatal(err)
			}
			q := testvol.QuirksOf(name)
			q.AnyIno = subvolumes(t, v)
			testvol.Check(t, set.Manifest(t, name, wantKind(set, name)), got, q)
			k.forgetAll()
			if n := k.f.nodes.counted(); n != 0 {
				t.Errorf("%d nodes in the table after everything was forgotten, want 0", n)
			}
		})
	}
}

// TestSubvolumeManifests mounts the subvolumes themselves.
func TestSubvolumeManifests(t *testing.T) {
	set := testvol.Small(t)
	n := 0
	for _, name := range set.Names() {
		for p, kind := range set.Subvolumes(name) {
			n++
			t.Run(name+"/"+p, func(t *testing.T) {
				t.Parallel()
				v := openVolume(t, name, set.Load(t, name))
				sub, err := v.SubvolumeAt(context.Background(), "/"+p)
				if err != nil {
					t.Fatal(err)
				}
				k := testKernel(t, v, Options{Subvolume: sub})
				got, err := testvol.ManifestOf(context.Background(), k)
				if err != nil {
					t.Fatal(err)
				}
				q := testvol.QuirksOf(name)
				for _, e := range got {
					q.AnyIno = append(q.AnyIno, e.Path)
				}
				testvol.Check(t, set.Manifest(t, name, kind), got, q)
			})
		}
	}
	if n == 0 {
		t.Error("no volume with a manifest of a subvolume")
	}
}

// TestConcurrentKernels walks one filesystem from many goroutines at once.
func TestConcurrentKernels(t *testing.T) {
	const walkers = 6
	v := openVolume(t, "plain", testvol.Load(t, "plain"))
	k := testKernel(t, v, Options{})
	want := testvol.WriteManifest(testvol.Manifest(t, "plain"))
	var wg sync.WaitGroup
	for range walkers {
		wg.Go(func() {
			got, err := testvol.ManifestOf(context.Background(), k)
			if err != nil {
				t.Error(err)
				return
			}
			if b := testvol.WriteManifest(got); !bytes.Equal(b, want) {
				t.Errorf("manifest of a concurrent walk has %d bytes, want the %d of the maker's", len(b), len(want))
			}
		})
	}
	wg.Wait()
}
