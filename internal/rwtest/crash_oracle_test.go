//go:build oracle

package rwtest

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/block/blocktest"
	"github.com/gobcachefs/gobcachefs/internal/oracle"
)

// number is the value of a variable of the environment, for longer campaigns.
func number(t *testing.T, name string, n int) int {
	if s := os.Getenv(name); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// writeSparse writes an image file without the zeros.
func writeSparse(t *testing.T, path string, r block.Reader) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(r.Size()); err != nil {
		t.Fatal(err)
	}
	const chunk = 1 << 16
	b, zero := make([]byte, chunk), string(make([]byte, chunk))
	for off := int64(0); off < r.Size(); off += chunk {
		p := b[:min(chunk, r.Size()-off)]
		if _, err := r.ReadAt(p, off); err != nil {
			t.Fatal(err)
		}
		if string(p) == zero[:len(p)] {
			continue
		}
		if _, err := f.WriteAt(p, off); err != nil {
			t.Fatal(err)
		}
	}
}

// keepImage copies an image to the directory KEEP_IMAGES.
func keepImage(t *testing.T, path string) {
	dir := os.Getenv("KEEP_IMAGES")
	if dir == "" {
		return
	}
	b, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d-%s", time.Now().UnixNano(), filepath.Base(path))), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// kernelList is a script that lists a tree below /mnt: every path, then the sums of
// the regular files.
const kernelList = `cd /mnt; find . | sort; find . -type f | sort | while read -r f; do sha256sum "$f"; done; cd /`

// ourList is what kernelList prints, of a volume that was not shut down.
func ourList(t *testing.T, devs []block.Reader) string {
	t.Helper()
	ctx := context.Background()
	v, err := bcachefs.Open(ctx, devs, bcachefs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	var paths, sums []string
	var walk func(path string, id bcachefs.NodeID)
	walk = func(path string, id bcachefs.NodeID) {
		paths = append(paths, path)
		if err := v.Files().ReadDir(ctx, id, 0, func(e bcachefs.Entry) bool {
			p := path + "/" + e.Name
			switch e.Type {
			case 0o040000:
				walk(p, e.ID)
				return true
			case 0o100000:
				h, err := v.Files().Open(ctx, e.ID)
				if err != nil {
					t.Fatal(err)
				}
				b := make([]byte, h.Attr().Size)
				if n, err := h.ReadAt(ctx, b, 0); n != len(b) {
					t.Fatal(n, err)
				}
				sums = append(sums, fmt.Sprintf("%x  %s", sha256.Sum256(b), p))
			}
			paths = append(paths, p)
			return true
		}); err != nil {
			t.Fatal(err)
		}
	}
	walk(".", v.Root().Node())
	slices.Sort(paths)
	byPath := func(a, b string) int { return strings.Compare(a[66:], b[66:]) }
	slices.SortFunc(sums, byPath)
	return strings.Join(append(paths, sums...), "\n")
}

// kernelBatch boots once, mounts images read-write and compares what is there.
// Afterwards the real fsck must find nothing.
func kernelBatch(t *testing.T, o oracle.Oracle, dir string, want map[string]string) {
	script := `cd /host; for f in *.img; do
mount -t bcachefs -o loop $f /mnt || { echo FAILED > $f.list; dmesg | tail -20 >> $f.list; continue; }
(` + kernelList + `) > /host/$f.list 2>&1; echo after > /mnt/after; cd /host; umnt; done`
	var files []string
	for name := range want {
		files = append(files, filepath.Join(dir, name))
	}
	r := o.VMIn(t, dir, script)
	if r.Code != 0 {
		t.Fatalf("vm: exit code %d\n%s%s", r.Code, r.Out, r.Err)
	}
	for _, f := range files {
		name := filepath.Base(f)
		got, err := os.ReadFile(f + ".list")
		if err != nil {
			t.Error(err)
			continue
		}
		if g := strings.TrimSpace(string(got)); g != want[name] {
			t.Errorf("%s: the kernel shows something else:\n%s\n%s", name, diffLines(want[name], g), g[max(0, len(g)-2000):])
			keepImage(t, f)
		}
		if r := o.Fsck(t, f); r.Code != 0 {
			t.Errorf("%s, after the kernel: fsck -n: exit code %d\n%s%s", name, r.Code, r.Out, r.Err)
		}
	}
}

// TestPowerCutsOracle gives states of TestPowerCuts, as the power cut left them
// and as our recovery left them, to the real fsck, and some of the former to the
// real kernel. CRASH_FSCK and CRASH_KERNEL are how many.
func TestPowerCutsOracle(t *testing.T) {
	o := oracle.New(t)
	base := crashBase(t)
	nFsck, nKernel := number(t, "CRASH_FSCK", 240), number(t, "CRASH_KERNEL", 24)
	sequences := len(crashOps) * (len(crashOps) + 1)
	// With less states than sequences, take every so manieth of these.
	per := max(1, nFsck/2/sequences)
	step := max(1, sequences/max(1, nFsck/2))
	var fscks atomic.Int64
	var kernel []string
	lists := map[string]string{}
	host := t.TempDir()
	work := t.TempDir()
	fsck := func(path, what string) bool {
		r := o.Fsck(t, path)
		fscks.Add(1)
		if r.Code != 0 {
			t.Errorf("%s: fsck -n: exit code %d\n%s%s", what, r.Code, r.Out, r.Err)
			keepImage(t, path)
		}
		return r.Code == 0
	}
	kernelStep := max(1, nFsck/2/max(1, nKernel))
	flush := func() {
		if len(kernel) > 0 {
			kernelBatch(t, o, host, lists)
			for _, f := range kernel {
				os.Remove(f)
				os.Remove(f + ".list")
			}
			kernel, lists = nil, map[string]string{}
		}
	}
	states, kernels, bad := 0, 0, 0
	for s := 0; s < sequences && bad < 10; s += step {
		ops := crashOps[s%len(crashOps) : s%len(crashOps)+1 : s%len(crashOps)+1]
		what := ops[0].name
		if j := s / len(crashOps); j > 0 {
			ops = append(ops, crashOps[j-1])
			what += "," + ops[1].name
		}
		if only := os.Getenv("CRASH_ONLY"); only != "" && only != what {
			continue
		}
		log, _ := runOps(t, base, ops)
		img := filepath.Join(work, "cut.img")
		writeSparse(t, img, base)
		f, err := os.OpenFile(img, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		so := blocktest.StateOptions{}
		if n := log.Count(so); n > per {
			so.Every, so.Phase = n/per, (s*37)%(n/per)
		}
		for st := range log.States(so) {
			if err := st.Patch(0, f); err != nil {
				t.Fatal(err)
			}
			name := fmt.Sprintf("%s: %v", what, st)
			if !fsck(img, name) {
				bad++
			}
			if states%kernelStep == 0 && kernels < nKernel {
				k := filepath.Join(host, fmt.Sprintf("k%d.img", kernels))
				writeSparse(t, k, st.Readers()[0])
				lists[filepath.Base(k)] = ourList(t, st.Readers())
				kernel = append(kernel, k)
				kernels++
				if len(kernel) == 25 {
					flush()
				}
			}
			states++
			// And as our recovery leaves it.
			devs := st.Devices()
			rw, err := openWrite([]block.Reader{devs[0]}, nil)
			if err == nil {
				err = rw.Close(context.Background())
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			rec := filepath.Join(work, "rec.img")
			writeSparse(t, rec, devs[0])
			if !fsck(rec, name+", recovered") {
				bad++
			}
		}
		f.Close()
	}
	flush()
	t.Logf("%d states, %d checked by the real fsck, %d mounted by the real kernel", states, fscks.Load(), kernels)
	if states == 0 || kernels == 0 {
		t.Error("nothing was checked")
	}
}
