package testvol

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOSFS(t *testing.T) {
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	p := func(n string) string { return filepath.Join(dir, n) }
	must(os.WriteFile(p("abc"), []byte("abc"), 0o600))
	must(unix.Chmod(p("abc"), 0o4640))
	must(os.Link(p("abc"), p("hard")))
	must(os.Symlink(strings.Repeat("y", 300), p("link")))
	must(unix.Mkfifo(p("fifo"), 0o600))
	must(os.Mkdir(p("sub"), 0o700))
	for i := range 800 { // more names than one getdents call returns
		must(os.WriteFile(filepath.Join(p("sub"), strings.Repeat("n", 100)+string(rune('a'+i%26))+strings.Repeat("m", i/26)), nil, 0o644))
	}
	must(os.WriteFile(p("bad\xff\n"), nil, 0o644))
	old := unix.NsecToTimespec(-1_000_000_001)
	must(unix.UtimesNanoAt(unix.AT_FDCWD, p("abc"), []unix.Timespec{old, old}, 0))

	got, err := ManifestOf(t.Context(), OSFS(dir))
	must(err)
	if len(got) != 807 {
		t.Errorf("%d entries, want 807", len(got))
	}
	by := map[string]Entry{}
	for _, e := range got {
		by[e.Path] = e
	}
	uid, gid := uint32(os.Getuid()), uint32(os.Getgid())
	abc := by["abc"]
	if abc.Type != 'f' || abc.Mode != 0o4640 || abc.UID != uid || abc.GID != gid || abc.Mtime != -1_000_000_001 ||
		abc.Nlink != 2 || abc.Size != 3 || abc.SHA256 != abcSHA || abc.Ino != by["hard"].Ino {
		t.Errorf("abc = %+v", abc)
	}
	if l := by["link"]; l.Type != 'l' || l.Target != strings.Repeat("y", 300) {
		t.Errorf("link = %+v", l)
	}
	if f := by["fifo"]; f.Type != 'p' || f.Mode != 0o600 {
		t.Errorf("fifo = %+v", f)
	}
	if f := by["bad\xff\n"]; f.Type != 'f' || f.Data != "none" {
		t.Errorf("bad name = %+v", f)
	}
	if r := by["."]; r.Type != 'd' || r.Nlink == 0 {
		t.Errorf("root = %+v", r)
	}
	if s, err := StatfsOf(dir); err != nil || s.Bsize == 0 || s.Namemax == 0 {
		t.Errorf("StatfsOf = %+v, %v", s, err)
	}
}

func TestGrow(t *testing.T) {
	want := strings.Repeat("z", 100_000)
	calls := 0
	b, err := grow(func(b []byte) (int, error) {
		calls++
		if calls == 1 {
			return 0, unix.EINTR
		}
		if len(b) < len(want) {
			return 0, unix.ERANGE
		}
		return copy(b, want), nil
	})
	if err != nil || string(b) != want {
		t.Errorf("grow = %d bytes, %v, want %d", len(b), err, len(want))
	}
	if _, err := grow(func([]byte) (int, error) { return 0, unix.ERANGE }); !errors.Is(err, unix.ERANGE) {
		t.Errorf("grow of what never fits = %v, want ERANGE", err)
	}
}
