package rwtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/block/blocktest"
	"github.com/gobcachefs/gobcachefs/internal/engine"
	"github.com/gobcachefs/gobcachefs/internal/mkfs"
	"github.com/gobcachefs/gobcachefs/internal/objects"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// crashOp is an operation of the enumeration. It must leave the volume as before
// or as after it, whenever the power goes.
type crashOp struct {
	name string
	do   func(*objects.Writer, context.Context, func(string) objects.ID) error
}

func seq(_ uint64, err error) error { return err }

func idOf(_ objects.ID, _ uint64, err error) error { return err }

// crashOps works on the tree that crashBase makes.
var crashOps = []crashOp{
	{"create", func(w *objects.Writer, c context.Context, id func(string) objects.ID) error {
		return idOf(w.Create(c, id("d"), []byte("new"), objects.Spec{Mode: ondisk.ModeRegular | 0o600}))
	}},
	{"create-root", func(w *objects.Writer, c context.Context, id func(string) objects.ID) error {
		return idOf(w.Create(c, id("."), []byte("new"), objects.Spec{Mode: ondisk.ModeRegular | 0o600}))
	}},
	{"mkdir", func(w *objects.Writer, c context.Context, id func(string) objects.ID) error {
		return idOf(w.Create(c, id("d"), []byte("newdir"), objects.Spec{Mode: ondisk.ModeDir | 0o700}))
	}},
	{"symlink", func(w *objects.Writer, c context.Context, id func(string) objects.ID) error {
		return idOf(w.Create(c, id("."), []byte("ln"), objects.Spec{Mode: ondisk.ModeSymlink | 0o777, Target: []byte("d/f")}))
	}},
	{"mknod", func(w *objects.Writer, c context.Context, id func(string) objects.ID) error {
		return idOf(w.Create(c, id("."), []byte("null"), objects.Spec{Mode: ondisk.ModeChar | 0o666, RdevMajor: 1, RdevMinor: 3}))
	}},
	{"link", func(w *objects.Writer, c context.Context, id func(string) objects.ID) error {
		return seq(w.Link(c, id("f"), id("d"), []byte("hard")))
	}},
	{"unlink", func(w *objects.Writer, c context.Context, id func(string) objects.ID) error {
		return seq(w.Unlink(c, id("."), []byte("g")))
	}},
	{"unlink-one-of-two", func(w *objects.Writer, c context.Context, id func(string) objects.ID) error {
		return seq(w.Unlink(c, id("."), []byte("two")))
	}},
	{"rmdir", func(w *objects.Writer, c context.Context, id func(string) objects.ID) error {
		return seq(w.Rmdir(c, id("."), []byte("empty")))
	}},
	{"rename", func(w *objects.Writer, c context.Context, id func(string) objects.ID) error {
		return seq(w.Rename(c, id("."), []byte("f"), id("."), []byte("f-renamed"), 0))
	}},
	{"rename-to-dir", func(w *objects.Writer, c context.Context, id func(string) objects.ID) error {
		return seq(w.Rename(c, id("."), []byte("f"), id("d"), []byte("moved"), 0))
	}},
	{"rename-over", func(w *objects.Writer, c context.Context, id func(string) objects.ID) error {
		return seq(w.Rename(c, id("."), []byte("f"), id("."), []byte("g"), 0))
	}},
	{"rename-dir", func(w *objects.Writer, c context.Context, id func(string) objects.ID) error {
		return seq(w.Rename(c, id("."), []byte("d"), id("empty"), []byte("d2"), 0))
	}},
	{"rename-exchange", func(w *objects.Writer, c context.Context, id func(string) objects.ID) error {
		return seq(w.Rename(c, id("."), []byte("f"), id("."), []byte("d"), objects.RenameExchange))
	}},
	{"write-inline", func(w *objects.Writer, c context.Context, id func(string) objects.ID) error {
		return seq(w.WriteAt(c, id("g"), []byte("short"), 0))
	}},
	{"append", func(w *objects.Writer, c context.Context, id func(string) objects.ID) error {
		return seq(w.WriteAt(c, id("f"), bytes.Repeat([]byte("a"), 5000), 30000))
	}},
	{"overwrite", func(w *objects.Writer, c context.Context, id func(string) objects.ID) error {
		return seq(w.WriteAt(c, id("f"), bytes.Repeat([]byte("o"), 9000), 7000))
	}},
	{"overwrite-shared", func(w *objects.Writer, c context.Context, id func(string) objects.ID) error {
		return seq(w.WriteAt(c, id("shared"), bytes.Repeat([]byte("s"), 4096), 8192))
	}},
	{"truncate-down", func(w *objects.Writer, c context.Context, id func(string) objects.ID) error {
		return seq(w.Truncate(c, id("f"), 12288))
	}},
	{"truncate-up", func(w *objects.Writer, c context.Context, id func(string) objects.ID) error {
		return seq(w.Truncate(c, id("f"), 100000))
	}},
	{"fallocate", func(w *objects.Writer, c context.Context, id func(string) objects.ID) error {
		return seq(w.Fallocate(c, id("g"), 0, 0, 200000))
	}},
	{"punch", func(w *objects.Writer, c context.Context, id func(string) objects.ID) error {
		return seq(w.Fallocate(c, id("f"), objects.FallocPunch|objects.FallocKeepSize, 8192, 8192))
	}},
	{"insert-range", func(w *objects.Writer, c context.Context, id func(string) objects.ID) error {
		return seq(w.Fallocate(c, id("f"), objects.FallocInsert, 8192, 4096))
	}},
	{"collapse-range", func(w *objects.Writer, c context.Context, id func(string) objects.ID) error {
		return seq(w.Fallocate(c, id("f"), objects.FallocCollapse, 8192, 4096))
	}},
	{"reflink", func(w *objects.Writer, c context.Context, id func(string) objects.ID) error {
		return seq(w.Reflink(c, id("f"), 0, id("g"), 8192, 8192))
	}},
	{"setxattr", func(w *objects.Writer, c context.Context, id func(string) objects.ID) error {
		return seq(w.SetXattr(c, id("f"), "user.new", []byte("value"), 0))
	}},
	{"removexattr", func(w *objects.Writer, c context.Context, id func(string) objects.ID) error {
		return seq(w.RemoveXattr(c, id("f"), "user.old"))
	}},
	{"chmod", func(w *objects.Writer, c context.Context, id func(string) objects.ID) error {
		return seq(w.SetAttrs(c, id("f"), func(in *ondisk.Inode) error { in.Mode = in.Mode&^0o7777 | 0o755; return nil }))
	}},
	{"subvolume-create", func(w *objects.Writer, c context.Context, id func(string) objects.ID) error {
		return idOf(w.CreateSubvolume(c, id("."), []byte("sub"), 0o755, 0, 0))
	}},
	{"snapshot", func(w *objects.Writer, c context.Context, id func(string) objects.ID) error {
		return idOf(w.Snapshot(c, 1, id("."), []byte("snap"), false))
	}},
	{"snapshot-delete", func(w *objects.Writer, c context.Context, id func(string) objects.ID) error {
		return seq(w.DeleteSubvolume(c, id("."), []byte("oldsnap")))
	}},
}

// crashBase makes the volume that every sequence starts from.
func crashBase(t *testing.T) *block.Sparse {
	ctx := context.Background()
	dev := block.NewSparse("base.img", 64<<20)
	rw, err := mkfs.Open(ctx, []mkfs.Device{{W: dev, Durability: -1}}, mkfs.Options{Options: map[string]uint64{"btree_node_size": 16384}, Warn: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	w := rw.Writer()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	file := func(name string, n int) objects.ID {
		id, _, err := w.Create(ctx, objects.Root, []byte(name), objects.Spec{Mode: ondisk.ModeRegular | 0o644})
		must(err)
		_, err = w.WriteAt(ctx, id, bytes.Repeat([]byte(name+" "), n/(len(name)+1)), 0)
		must(err)
		return id
	}
	f := file("f", 30000)
	file("g", 6000)
	sh := file("shared", 20000)
	for _, n := range []string{"d", "empty"} {
		_, _, err := w.Create(ctx, objects.Root, []byte(n), objects.Spec{Mode: ondisk.ModeDir | 0o755})
		must(err)
	}
	_, err = w.Link(ctx, f, objects.Root, []byte("two"))
	must(err)
	_, err = w.SetXattr(ctx, f, "user.old", []byte("old value"), 0)
	must(err)
	copyOf, _, err := w.Create(ctx, objects.Root, []byte("copy"), objects.Spec{Mode: ondisk.ModeRegular | 0o644})
	must(err)
	_, err = w.Reflink(ctx, sh, 0, copyOf, 0, 8192)
	must(err)
	_, _, err = w.Snapshot(ctx, 1, objects.Root, []byte("oldsnap"), false)
	must(err)
	_, err = w.WriteAt(ctx, f, []byte("changed after the snapshot"), 100)
	must(err)
	w.Close()
	must(rw.Close(ctx))
	return dev
}

// dump describes a tree in a string; times are left out.
func dump(t *testing.T, devs []block.Reader) string {
	t.Helper()
	ctx := context.Background()
	v, err := bcachefs.Open(ctx, devs, bcachefs.Options{Warn: func(err error) { t.Errorf("after recovery: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	f := v.Files()
	var walk func(id bcachefs.NodeID, path string)
	walk = func(id bcachefs.NodeID, path string) {
		a, err := f.Getattr(ctx, id)
		if err != nil {
			lines = append(lines, path+": "+err.Error())
			return
		}
		line := fmt.Sprintf("%s %o nlink=%d", path, a.Mode, a.Nlink)
		xs, err := f.ListXattr(ctx, id)
		sort.Strings(xs)
		for _, x := range xs {
			b, err := f.GetXattr(ctx, id, x)
			line += fmt.Sprintf(" %s=%q%v", x, b, err)
		}
		if err != nil {
			line += err.Error()
		}
		if a.IsRegular() || a.IsSymlink() {
			h, err := f.Open(ctx, id)
			if err != nil {
				line += err.Error()
			} else {
				b := make([]byte, a.Size)
				n, err := h.ReadAt(ctx, b, 0)
				line += fmt.Sprintf(" size=%d %x %v", n, sha256.Sum256(b), err)
			}
		}
		lines = append(lines, line)
		if a.IsDir() {
			if err := f.ReadDir(ctx, id, 0, func(e bcachefs.Entry) bool {
				walk(e.ID, path+"/"+e.Name)
				return true
			}); err != nil {
				lines = append(lines, path+": "+err.Error())
			}
		}
	}
	walk(f.Root(), "")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func openWrite(devs []block.Reader, warn func(error)) (*engine.RW, error) {
	o := engine.WriteOptions{}
	o.CacheBytes = 8 << 20
	o.Members.Warn = warn
	return engine.OpenWrite(context.Background(), devs, o)
}

// finder resolves the names of the base tree.
func finder(t *testing.T, w *objects.Writer) func(string) objects.ID {
	return func(name string) objects.ID {
		id, _, err := w.Walk(context.Background(), objects.Root, objects.Root, name, false)
		if err != nil {
			return objects.ID{Subvol: 1, Inum: 2} // not there: the operation fails, as it must
		}
		return id
	}
}

// runOps does operations one after the other, each synced, and says what the
// tree is after each.
func runOps(t *testing.T, base *block.Sparse, ops []crashOp) (*blocktest.Log, []string) {
	ctx := context.Background()
	rec := blocktest.NewRecorder(base)
	trees := []string{dump(t, []block.Reader{base})}
	// What the tree is after each operation is found on a copy.
	over := block.NewOverlay(base)
	for _, o := range ops {
		rw, err := openWrite([]block.Reader{over}, nil)
		if err != nil {
			t.Fatal(err)
		}
		w := rw.Writer()
		_ = o.do(w, ctx, finder(t, w))
		w.Close()
		if err := rw.Close(ctx); err != nil {
			t.Fatal(err)
		}
		trees = append(trees, dump(t, []block.Reader{over}))
	}
	rw, err := openWrite([]block.Reader{rec}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := rw.Writer()
	for i, o := range ops {
		_ = o.do(w, ctx, finder(t, w))
		rw.Store.Lock().Lock()
		s := rw.J.Seq()
		rw.Store.Lock().Unlock()
		if err := rw.Store.Sync(ctx, s); err != nil {
			t.Fatal(err)
		}
		rec.Mark(strconv.Itoa(i + 1))
	}
	w.Close()
	if err := rw.Close(ctx); err != nil {
		t.Fatal(err)
	}
	rec.Mark("closed")
	return rec.Log(), trees
}

var crashStates atomic.Int64

// checkState recovers from a power cut and compares.
func checkState(t *testing.T, st *blocktest.State, trees []string, what string) {
	var devs []block.Reader
	for _, d := range st.Devices() {
		devs = append(devs, d)
	}
	rw, err := openWrite(devs, nil)
	if err != nil {
		t.Errorf("%s: %v: recovery: %v", what, st, err)
		return
	}
	if err := rw.Close(context.Background()); err != nil {
		t.Errorf("%s: %v: close after recovery: %v", what, st, err)
		return
	}
	r, err := bcachefs.Check(context.Background(), devs, bcachefs.Options{CacheBytes: 8 << 20}, bcachefs.CheckOptions{
		Found: func(f bcachefs.Finding) {
			if !f.Note {
				t.Errorf("%s: %v: check: %v", what, st, f)
			}
		},
	})
	if err != nil || r.Incomplete {
		t.Errorf("%s: %v: check: %v, %+v", what, st, err, r)
	}
	got := dump(t, devs)
	// All that was synced is there, and of the operation after it all or nothing.
	first := 0
	for i := 1; i < len(trees); i++ {
		if st.Reached(strconv.Itoa(i)) {
			first = i
		}
	}
	if !slices.Contains(trees[first:min(first+2, len(trees))], got) {
		t.Errorf("%s: %v: tree is neither as after %d operations nor as after %d:\n%s", what, st, first, first+1, diffLines(trees[first], got))
	}
	crashStates.Add(1)
}

func diffLines(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	var out []string
	for _, l := range w {
		if !slices.Contains(g, l) {
			out = append(out, "- "+l)
		}
	}
	for _, l := range g {
		if !slices.Contains(w, l) {
			out = append(out, "+ "+l)
		}
	}
	return strings.Join(out[:min(len(out), 12)], "\n")
}

// TestPowerCuts goes through all sequences of one and two operations. The number
// of states of each is bounded; CRASH_STATES=0 takes all of them.
func TestPowerCuts(t *testing.T) {
	base := crashBase(t)
	limit := 6
	if s := os.Getenv("CRASH_STATES"); s != "" {
		var err error
		if limit, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	only := os.Getenv("CRASH_ONLY")
	t.Run("sequences", func(t *testing.T) {
		for i := range crashOps {
			t.Run(crashOps[i].name, func(t *testing.T) {
				t.Parallel()
				for j := -1; j < len(crashOps); j++ {
					ops := crashOps[i : i+1 : i+1]
					if j >= 0 {
						ops = append(ops, crashOps[j])
					}
					what := ops[0].name
					if j >= 0 {
						what += "," + ops[1].name
					}
					if only != "" && only != what || limit > 0 && j >= 0 && (i+j)%4 != 0 {
						continue
					}
					log, trees := runOps(t, base, ops)
					o := blocktest.StateOptions{}
					if limit > 0 {
						if n := log.Count(o); n > limit {
							o.Every, o.Phase = n/limit, (i*31+j*7)%(n/limit)
						}
					}
					for st := range log.States(o) {
						checkState(t, st, trees, what)
						if t.Failed() {
							return
						}
					}
				}
			})
		}
	})
	t.Logf("%d states", crashStates.Load())
	if crashStates.Load() == 0 {
		t.Error("no state was checked")
	}
}
