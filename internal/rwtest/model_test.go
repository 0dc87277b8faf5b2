// Package rwtest tests the writing engine as a whole: random operations against
// a model, power cuts, and (with the tag oracle) the real implementation.
package rwtest

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/internal/engine"
	"github.com/gobcachefs/gobcachefs/internal/mkfs"
	"github.com/gobcachefs/gobcachefs/internal/objects"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// node is a file of the model.
type node struct {
	id     objects.ID
	dir    bool
	link   string
	data   []byte
	kids   map[string]*node
	xattrs map[string]string
	nlink  int
	sub    bool // root of a subvolume
	ro     bool
}

// clone is the tree as a snapshot of it shows it, in another subvolume.
func (n *node) clone(sub uint32, seen map[*node]*node) *node {
	if c := seen[n]; c != nil {
		return c
	}
	c := &node{id: objects.ID{Subvol: sub, Inum: n.id.Inum}, dir: n.dir, link: n.link, data: slices.Clone(n.data), xattrs: map[string]string{}, nlink: n.nlink}
	seen[n] = c
	for k, v := range n.xattrs {
		c.xattrs[k] = v
	}
	if n.dir {
		c.kids = map[string]*node{}
		for name, k := range n.kids {
			if !k.sub {
				c.kids[name] = k.clone(sub, seen)
			}
		}
	}
	return c
}

// dirs lists the directories of a tree that can be changed.
func (n *node) dirs(out []*node) []*node {
	if !n.dir || n.ro {
		return out
	}
	out = append(out, n)
	for _, name := range sortedNames(n.kids) {
		out = n.kids[name].dirs(out)
	}
	return out
}

func sortedNames(m map[string]*node) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// model is a tree in memory that the volume must equal.
type model struct {
	root *node
	all  []*node // directories that still exist
}

type fixture struct {
	t  *testing.T
	w  *objects.Writer
	rw *engine.RW
	m  *model
	r  *rand.Rand
	n  int

	snaps int // 3 with snapshot operations
}

func (f *fixture) dir() *node { return f.m.all[f.r.IntN(len(f.m.all))] }

func (f *fixture) name() string {
	f.n++
	if f.r.IntN(4) == 0 {
		return fmt.Sprintf("n%d", f.r.IntN(20))
	}
	return fmt.Sprintf("name-%d-%s", f.n, strings.Repeat("x", f.r.IntN(40)))
}

func (f *fixture) child(d *node) (string, *node) {
	if len(d.kids) == 0 {
		return "", nil
	}
	names := make([]string, 0, len(d.kids))
	for n := range d.kids {
		names = append(names, n)
	}
	sort.Strings(names)
	n := names[f.r.IntN(len(names))]
	return n, d.kids[n]
}

func (f *fixture) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(f.r.Uint32())
	}
	if f.r.IntN(3) == 0 {
		b = bytes.Repeat([]byte("compressible text "), n/18+1)[:n]
	}
	return b
}

// step does one random operation on both.
func (f *fixture) step(ctx context.Context) {
	check := func(err, want error) bool {
		f.t.Helper()
		if want == nil && err != nil || want != nil && (err == nil || !strings.Contains(err.Error(), want.Error())) {
			f.t.Fatalf("operation %d: error %v, want %v", f.n, err, want)
		}
		return err == nil
	}
	d := f.dir()
	switch f.r.IntN(15 + f.snaps) {
	case 12: // fallocate
		_, n := f.child(d)
		if n == nil || n.dir || n.link != "" || len(n.data) == 0 {
			return
		}
		const block = 4096
		off, size := f.r.IntN(len(n.data)+5000), 1+f.r.IntN(60000)
		grow := func(to int) {
			if to > len(n.data) {
				n.data = append(n.data, make([]byte, to-len(n.data))...)
			}
		}
		mode := []int{0, objects.FallocKeepSize, objects.FallocPunch | objects.FallocKeepSize, objects.FallocZero, objects.FallocInsert, objects.FallocCollapse}[f.r.IntN(6)]
		var want error
		switch mode {
		case objects.FallocInsert, objects.FallocCollapse:
			off, size = off/block*block, (size+block-1)/block*block
			if off >= len(n.data) || mode == objects.FallocCollapse && off+size >= len(n.data) {
				want = syscall.EINVAL
			}
		}
		_, err := f.w.Fallocate(ctx, n.id, mode, uint64(off), uint64(size))
		if !check(err, want) {
			return
		}
		switch mode {
		case 0:
			grow(off + size)
		case objects.FallocPunch | objects.FallocKeepSize:
			for i := off; i < min(off+size, len(n.data)); i++ {
				n.data[i] = 0
			}
		case objects.FallocZero:
			grow(off + size)
			clear(n.data[off : off+size])
		case objects.FallocInsert:
			n.data = slices.Insert(n.data, off, make([]byte, size)...)
		case objects.FallocCollapse:
			n.data = slices.Delete(n.data, off, off+size)
		}
	case 13, 14: // reflink
		_, n := f.child(d)
		_, x := f.child(f.dir())
		if n == nil || n.dir || n.link != "" || len(n.data) == 0 || x == nil || x.dir || x.link != "" || x == n || x.id.Subvol != n.id.Subvol {
			return
		}
		const block = 4096
		from := f.r.IntN(len(n.data)) / block * block
		size := len(n.data) - from
		if f.r.IntN(2) == 0 && size > block {
			size = (1 + f.r.IntN(size/block)) * block
		}
		to := f.r.IntN(len(x.data)+2*block) / block * block
		if size%block != 0 && to+size < len(x.data) {
			return // the kernel refuses a partial block in the middle
		}
		_, err := f.w.Reflink(ctx, n.id, uint64(from), x.id, uint64(to), uint64(size))
		if check(err, nil) {
			if to+size > len(x.data) {
				x.data = append(x.data, make([]byte, to+size-len(x.data))...)
			}
			copy(x.data[to:], n.data[from:from+size])
		}
	case 15: // snapshot of any subvolume into any directory
		var roots []*node
		for _, x := range f.m.all {
			if x == f.m.root || x.sub {
				roots = append(roots, x)
			}
		}
		src, name, ro := roots[f.r.IntN(len(roots))], f.name(), f.r.IntN(4) == 0
		var want error
		if d.kids[name] != nil {
			want = syscall.EEXIST
		}
		id, _, err := f.w.Snapshot(ctx, src.id.Subvol, d.id, []byte(name), ro)
		if check(err, want) {
			// What was there before the snapshot is in it, its own name is not.
			c := src.clone(id.Subvol, map[*node]*node{})
			c.sub, c.ro = true, ro
			d.kids[name] = c
			f.m.all = f.m.root.dirs(nil)
		}
	case 16: // delete a subvolume
		name, n := f.child(d)
		if n == nil || !n.sub {
			return
		}
		var want error
		if n.hasSub() {
			want = syscall.ENOTEMPTY
		}
		_, err := f.w.DeleteSubvolume(ctx, d.id, []byte(name))
		if check(err, want) {
			delete(d.kids, name)
			f.m.all = f.m.root.dirs(nil)
		}
	case 17: // empty subvolume
		name := f.name()
		if d.kids[name] != nil {
			return
		}
		id, _, err := f.w.CreateSubvolume(ctx, d.id, []byte(name), 0o755, 0, 0)
		if check(err, nil) {
			n := &node{id: id, dir: true, sub: true, kids: map[string]*node{}, xattrs: map[string]string{}}
			d.kids[name] = n
			f.m.all = append(f.m.all, n)
		}
	case 0, 1: // file
		name := f.name()
		var want error
		if d.kids[name] != nil {
			want = syscall.EEXIST
		}
		id, _, err := f.w.Create(ctx, d.id, []byte(name), objects.Spec{Mode: ondisk.ModeRegular | 0o644})
		if check(err, want) {
			d.kids[name] = &node{id: id, nlink: 1, xattrs: map[string]string{}}
		}
	case 2: // directory
		name := f.name()
		var want error
		if d.kids[name] != nil {
			want = syscall.EEXIST
		}
		id, _, err := f.w.Create(ctx, d.id, []byte(name), objects.Spec{Mode: ondisk.ModeDir | 0o755})
		if check(err, want) {
			n := &node{id: id, dir: true, kids: map[string]*node{}, xattrs: map[string]string{}}
			d.kids[name] = n
			f.m.all = append(f.m.all, n)
		}
	case 3: // symlink
		name, target := f.name(), "t/"+strings.Repeat("y", 1+f.r.IntN(80))
		if d.kids[name] != nil {
			return
		}
		id, _, err := f.w.Create(ctx, d.id, []byte(name), objects.Spec{Mode: ondisk.ModeSymlink | 0o777, Target: []byte(target)})
		if check(err, nil) {
			d.kids[name] = &node{id: id, link: target, nlink: 1, xattrs: map[string]string{}}
		}
	case 4, 5, 6: // write
		_, n := f.child(d)
		if n == nil || n.dir || n.link != "" {
			return
		}
		off := 0
		if len(n.data) > 0 && f.r.IntN(2) == 0 {
			off = f.r.IntN(len(n.data) + 10000)
		}
		p := f.bytes(1 + f.r.IntN([]int{100, 5000, 200000}[f.r.IntN(3)]))
		_, err := f.w.WriteAt(ctx, n.id, p, uint64(off))
		if check(err, nil) {
			if end := off + len(p); end > len(n.data) {
				n.data = append(n.data, make([]byte, end-len(n.data))...)
			}
			copy(n.data[off:], p)
		}
	case 7: // truncate
		_, n := f.child(d)
		if n == nil || n.dir || n.link != "" {
			return
		}
		size := f.r.IntN(len(n.data) + 5000)
		_, err := f.w.Truncate(ctx, n.id, uint64(size))
		if check(err, nil) {
			if size > len(n.data) {
				n.data = append(n.data, make([]byte, size-len(n.data))...)
			}
			n.data = slices.Clone(n.data[:size])
		}
	case 8: // unlink or rmdir
		name, n := f.child(d)
		if n == nil || n.sub {
			return
		}
		if n.dir {
			var want error
			if len(n.kids) > 0 {
				want = syscall.ENOTEMPTY
			}
			_, err := f.w.Rmdir(ctx, d.id, []byte(name))
			if check(err, want) {
				delete(d.kids, name)
				f.m.all = slices.DeleteFunc(f.m.all, func(x *node) bool { return x == n })
			}
			return
		}
		_, err := f.w.Unlink(ctx, d.id, []byte(name))
		if check(err, nil) {
			delete(d.kids, name)
			n.nlink--
		}
	case 9: // link
		_, n := f.child(d)
		if n == nil || n.dir {
			return
		}
		to, name := f.dir(), f.name()
		if to.id.Subvol != n.id.Subvol {
			_, err := f.w.Link(ctx, n.id, to.id, []byte(name))
			check(err, syscall.EXDEV)
			return
		}
		var want error
		if to.kids[name] != nil {
			want = syscall.EEXIST
		}
		_, err := f.w.Link(ctx, n.id, to.id, []byte(name))
		if check(err, want) {
			to.kids[name] = n
			n.nlink++
		}
	case 10: // rename
		name, n := f.child(d)
		to, nn := f.dir(), f.name()
		if n == nil || n.sub {
			return
		}
		if o, _ := f.child(to); o != "" && f.r.IntN(2) == 0 {
			nn = o
		}
		old := to.kids[nn]
		if old != nil && old.sub {
			return
		}
		if to.id.Subvol != d.id.Subvol {
			_, err := f.w.Rename(ctx, d.id, []byte(name), to.id, []byte(nn), 0)
			check(err, syscall.EXDEV)
			return
		}
		if n.dir && (to == n || n.holds(to)) {
			_, err := f.w.Rename(ctx, d.id, []byte(name), to.id, []byte(nn), 0)
			check(err, syscall.EINVAL)
			return
		}
		var want error
		switch {
		case old == nil || old == n:
		case n.dir && !old.dir:
			want = syscall.ENOTDIR
		case !n.dir && old.dir:
			want = syscall.EISDIR
		case old.dir && len(old.kids) > 0:
			want = syscall.ENOTEMPTY
		}
		_, err := f.w.Rename(ctx, d.id, []byte(name), to.id, []byte(nn), 0)
		if check(err, want) && old != n {
			if old != nil {
				old.nlink--
				f.m.all = slices.DeleteFunc(f.m.all, func(x *node) bool { return x == old })
			}
			to.kids[nn] = n
			delete(d.kids, name)
		}
	case 11: // xattr
		_, n := f.child(d)
		if n == nil || n.link != "" || n.sub {
			return
		}
		name := fmt.Sprintf("user.a%d", f.r.IntN(12))
		if _, ok := n.xattrs[name]; ok && f.r.IntN(2) == 0 {
			_, err := f.w.RemoveXattr(ctx, n.id, name)
			if check(err, nil) {
				delete(n.xattrs, name)
			}
			return
		}
		v := string(f.bytes(f.r.IntN(200)))
		_, err := f.w.SetXattr(ctx, n.id, name, []byte(v), 0)
		if check(err, nil) {
			n.xattrs[name] = v
		}
	}
}

// hasSub: there is a subvolume somewhere below.
func (n *node) hasSub() bool {
	for _, k := range n.kids {
		if k.sub || k.dir && k.hasSub() {
			return true
		}
	}
	return false
}

func (n *node) holds(x *node) bool {
	for _, k := range n.kids {
		if k == x || k.dir && k.holds(x) {
			return true
		}
	}
	return false
}

// compare walks volume and model.
func compare(t *testing.T, ctx context.Context, f *bcachefs.Files, id bcachefs.NodeID, n *node, path string) {
	a, err := f.Getattr(ctx, id)
	if err != nil {
		t.Errorf("%s: %v", path, err)
		return
	}
	xs, err := f.ListXattr(ctx, id)
	if err != nil || len(xs) != len(n.xattrs) {
		t.Errorf("%s: xattrs %v (%v), want %d", path, xs, err, len(n.xattrs))
	}
	for name, v := range n.xattrs {
		if got, err := f.GetXattr(ctx, id, name); err != nil || string(got) != v {
			t.Errorf("%s: xattr %s = %q, %v, want %q", path, name, got, err, v)
		}
	}
	switch {
	case n.dir:
		names := map[string]bool{}
		if err := f.ReadDir(ctx, id, 0, func(e bcachefs.Entry) bool { names[e.Name] = true; return true }); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		subs := uint32(2)
		for name, k := range n.kids {
			if k.dir && !k.sub {
				subs++
			}
			if !names[name] {
				t.Errorf("%s/%s: missing", path, name)
				continue
			}
			delete(names, name)
			c, err := f.Lookup(ctx, id, name)
			if err != nil {
				t.Errorf("%s/%s: %v", path, name, err)
				continue
			}
			compare(t, ctx, f, c.ID, k, path+"/"+name)
		}
		for name := range names {
			t.Errorf("%s/%s: should not be there", path, name)
		}
		if a.Nlink != subs {
			t.Errorf("%s: nlink %d, want %d", path, a.Nlink, subs)
		}
	case n.link != "":
		if got, err := f.Readlink(ctx, id); err != nil || got != n.link {
			t.Errorf("%s -> %q, %v, want %q", path, got, err, n.link)
		}
	default:
		if a.Nlink != uint32(n.nlink) {
			t.Errorf("%s: nlink %d, want %d", path, a.Nlink, n.nlink)
		}
		h, err := f.Open(ctx, id)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			return
		}
		got := make([]byte, a.Size)
		m, err := h.ReadAt(ctx, got, 0)
		if err != nil || !bytes.Equal(got[:m], n.data) {
			t.Errorf("%s: %d bytes, %v, want %d bytes; equal: %v", path, m, err, len(n.data), bytes.Equal(got[:m], n.data))
		}
	}
}

func random(t *testing.T, seed uint64, steps, snaps int, o mkfs.Options, devs []mkfs.Device) {
	ctx := context.Background()
	o.Warn = func(err error) { t.Error(err) }
	rw, err := mkfs.Open(ctx, devs, o)
	if err != nil {
		t.Fatal(err)
	}
	m := &model{root: &node{id: objects.Root, dir: true, kids: map[string]*node{}, xattrs: map[string]string{}}}
	m.root.kids["lost+found"] = &node{id: objects.ID{Subvol: 1, Inum: objects.Root.Inum + 1}, dir: true, kids: map[string]*node{}, xattrs: map[string]string{}}
	m.all = m.root.dirs(nil)
	f := &fixture{t: t, snaps: snaps, rw: rw, w: rw.Writer(), m: m, r: rand.New(rand.NewPCG(seed, 7))}
	for i := range steps {
		f.step(ctx)
		if i%200 == 199 {
			// Close and open again now and then.
			f.w.Close()
			if err := f.rw.Close(ctx); err != nil {
				t.Fatal(err)
			}
			var rs []block.Reader
			for _, d := range devs {
				rs = append(rs, d.W)
			}
			wo := engine.WriteOptions{}
			wo.CacheBytes = 1 << 20
			wo.Members.Warn = o.Warn
			if f.rw, err = engine.OpenWrite(ctx, rs, wo); err != nil {
				t.Fatal(err)
			}
			f.w = f.rw.Writer()
		}
	}
	f.w.Close()
	if err := f.rw.Close(ctx); err != nil {
		t.Fatal(err)
	}
	var rs []block.Reader
	for _, d := range devs {
		rs = append(rs, d.W)
	}
	v, err := bcachefs.Open(ctx, rs, bcachefs.Options{Warn: o.Warn})
	if err != nil {
		t.Fatal(err)
	}
	compare(t, ctx, v.Files(), v.Files().Root(), m.root, "")
	if dir := os.Getenv("KEEP_IMAGES"); dir != "" {
		for i, d := range devs {
			b := make([]byte, d.W.Size())
			if _, err := d.W.ReadAt(b, 0); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(fmt.Sprintf("%s/%s-%d.%d.img", dir, strings.ReplaceAll(t.Name(), "/", "_"), seed, i), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestRandomOperations(t *testing.T) {
	seeds, steps := 2, 600
	if s := os.Getenv("MODEL_SEEDS"); s != "" {
		seeds, _ = strconv.Atoi(s)
	}
	if s := os.Getenv("MODEL_STEPS"); s != "" {
		steps, _ = strconv.Atoi(s)
	}
	for name, opts := range map[string]map[string]uint64{
		"default": nil,
		"zstd":    {"compression": 3},
		"nocsum":  {"data_checksum": 0, "metadata_checksum": 0},
		"small":   {"block_size": 512, "btree_node_size": 8192, "str_hash": 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(seeds) {
				random(t, seed, steps, 0, mkfs.Options{Options: opts}, []mkfs.Device{{W: block.NewSparse("x.img", 128<<20), Durability: -1}})
			}
		})
	}
}

func TestRandomSnapshots(t *testing.T) {
	seeds, steps := 3, 300
	if s := os.Getenv("MODEL_SEEDS"); s != "" {
		seeds, _ = strconv.Atoi(s)
	}
	if s := os.Getenv("MODEL_STEPS"); s != "" {
		steps, _ = strconv.Atoi(s)
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			random(t, seed, steps, 3, mkfs.Options{}, []mkfs.Device{{W: block.NewSparse("x.img", 128<<20), Durability: -1}})
		})
	}
}
