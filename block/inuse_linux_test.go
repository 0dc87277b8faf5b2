package block

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/gobcachefs/gobcachefs/errs"
)

func TestMountedAt(t *testing.T) {
	lines := strings.Split(`22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw,discard
44 27 7:0 / /mnt/with\040space\134 rw,relatime - ext2 /dev/loop0 rw
45 27 7:0 /sub /elsewhere rw,relatime - ext2 /dev/loop0 rw
46 27 7:0 / /elsewhere rw,relatime - ext2 /dev/loop0 rw
50 27 0:50 / /pool rw - bcachefs /dev/sda:/dev/sdb rw
51 27 0:51 / /more rw - btrfs /dev/sd\143 rw
52 27 8:32 / /plain rw - ext4 /dev/sdc rw
short line
53 27 7:0 - too short`, "\n")
	for _, tt := range []struct {
		number, source string
		want           []string
	}{
		{"254:0", "", []string{"/"}},
		{"7:0", "", []string{`/mnt/with space\`, "/elsewhere"}},
		{"7:1", "", nil},
		{"8:16", "/dev/sdb", []string{"/pool"}},
		{"8:32", "/dev/sdc", []string{"/more", "/plain"}},
		{"8:33", "/dev/sd", nil},
		{"8:33", "proc", []string{"/proc"}}, // asked for by name
	} {
		got := mountedAt(lines, map[string]bool{tt.number: true}, func(s string) bool { return s == tt.source })
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("mountedAt(%s, %q) (-want +got):\n%s", tt.number, tt.source, d)
		}
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "a": "a", `a\040b`: "a b", `\134040`: `\040`, `\04`: `\04`, `\999x`: `\999x`, `\`: `\`, `\011\012`: "\t\n", `\777`: `\777`,
	} {
		if got := unescape(in); got != want {
			t.Errorf("unescape(%q) = %q, want %q", in, got, want)
		}
	}
}

// tree makes files, and links for those whose content starts with an arrow.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, value := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if to, ok := strings.CutPrefix(value, "->"); ok {
			err = os.Symlink(strings.ReplaceAll(to, "DIR", dir), p)
		} else {
			err = os.WriteFile(p, []byte(strings.ReplaceAll(value, "DIR", dir)+"\n"), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLoopsOf(t *testing.T) {
	dir := tree(t, map[string]string{
		"x.img": "", "y.img": "",
		"block/loop0/loop/backing_file": "DIR/y.img",
		"block/loop1/loop/backing_file": "DIR/x.img",
		"block/loop1/dev":               "7:1",
		"block/loop1/loop1p1/partition": "1",
		"block/loop1/loop1p1/dev":       "259:5",
		"block/loop1/queue/dev":         "no",
		"block/loop2/loop/backing_file": "DIR/gone.img (deleted)",
		"block/loop3/dev":               "7:3",
		"block/sda/dev":                 "8:0",
	})
	st, err := os.Stat(filepath.Join(dir, "x.img"))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"loop1"}, loopsOf(filepath.Join(dir, "block"), st)); d != "" {
		t.Errorf("loopsOf (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"7:1", "259:5"}, deviceNumbers("", filepath.Join(dir, "block"), st)); d != "" {
		t.Errorf("deviceNumbers of a file (-want +got):\n%s", d)
	}
}

func TestHolders(t *testing.T) {
	dir := tree(t, map[string]string{
		"8:0/holders/dm-0/x":      "",
		"8:0/sda1/holders/md127":  "",
		"8:0/sda2/partition":      "2",
		"8:16/queue/rotational":   "0",
		"8:0/queue/holders-other": "",
	})
	if d := cmp.Diff([]string{"/dev/dm-0", "/dev/md127"}, holders(filepath.Join(dir, "8:0"))); d != "" {
		t.Errorf("holders (-want +got):\n%s", d)
	}
	if got := holders(filepath.Join(dir, "8:16")); got != nil {
		t.Errorf("holders of a device alone = %v, want none", got)
	}
}

func TestOpenBy(t *testing.T) {
	dir := tree(t, map[string]string{
		"x.img": "", "link": "->DIR/x.img",
		"proc/10/fd/3": "->DIR/x.img", "proc/10/comm": "qemu",
		"proc/11/fd/3": "->DIR/other", "proc/11/comm": "other",
		"proc/12/fd/0": "->DIR/x.img", "proc/12/fd/1": "->DIR/x.img", "proc/12/comm": "twice",
		"proc/13/fd/7": "->DIR/x.img", "proc/13/comm": "me",
		"proc/self/fd/7": "->DIR/x.img", "proc/14/comm": "hidden",
	})
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		self int
		mine bool
		want []string
	}{
		{"x.img", 1, false, []string{"qemu (process 10)", "twice (process 12)", "me (process 13)"}},
		{"link", 1, false, []string{"qemu (process 10)", "twice (process 12)", "me (process 13)"}},
		{"x.img", 13, true, []string{"qemu (process 10)", "twice (process 12)"}},
		{"x.img", 13, false, []string{"qemu (process 10)", "twice (process 12)", "this process"}},
		{"x.img", 12, true, []string{"qemu (process 10)", "this process", "me (process 13)"}},
		{"other", 1, false, nil}, // is not there
	} {
		if d := cmp.Diff(tt.want, openBy(filepath.Join(dir, "proc"), filepath.Join(dir, tt.name), tt.self, tt.mine)); d != "" {
			t.Errorf("openBy(%q, self %d, mine %v) (-want +got):\n%s", tt.name, tt.self, tt.mine, d)
		}
	}
}

// TestBusyNamesUser: the message says who is in the way, here this process.
func TestBusyNamesUser(t *testing.T) {
	p := filepath.Join(t.TempDir(), "x.img")
	if err := os.WriteFile(p, make([]byte, 4096), 0o644); err != nil {
		t.Fatal(err)
	}
	w, err := OpenWriter(context.Background(), p, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, open := range []func() error{
		func() error { _, err := OpenWriter(context.Background(), p, Options{}); return err },
		func() error { _, err := Open(context.Background(), p, Options{}); return err },
	} {
		var e *errs.Error
		if err := open(); !errors.As(err, &e) || e.Got != "open in this process" {
			t.Errorf("open beside a writer = %v, want that it is open in this process", err)
		}
	}
}

func TestMounted(t *testing.T) {
	p := filepath.Join(t.TempDir(), "x.img")
	if _, err := Mounted(p); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Mounted of no file = %v, want ErrNotExist", err)
	}
	if err := os.WriteFile(p, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if at, err := Mounted(p); at != nil || err != nil {
		t.Errorf("Mounted of a new file = %v, %v, want nil, nil", at, err)
	}
}

// TestDiscardPunches: an image file gives its space back.
func TestDiscardPunches(t *testing.T) {
	ctx := context.Background()
	w := newTestWriter(t, flushFile)
	b := make([]byte, 64<<10)
	for i := range b {
		b[i] = 1
	}
	if _, err := w.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	blocks := func() int64 {
		if err := w.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Stat(w.info.Name, &st); err != nil {
			t.Fatal(err)
		}
		return st.Blocks
	}
	before := blocks()
	if err := w.Discard(ctx, 8192, 32<<10); err != nil {
		t.Fatal(err)
	}
	// A file system that cannot do it says so, and is not asked again.
	if after := blocks(); !w.noDiscard.Load() && before-after < 32 {
		t.Errorf("%d blocks before Discard and %d after, want less", before, after)
	}
	if w.Size() != 64<<10 {
		t.Errorf("Size() after Discard = %d, want it as it was", w.Size())
	}
}
