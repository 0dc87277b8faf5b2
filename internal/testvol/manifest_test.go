package testvol

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestManifestsRoundTrip(t *testing.T) {
	roundTrip(t, Small(t), 45)
}

// roundTrip reads and writes every manifest of a set, which holds at least so many.
func roundTrip(t *testing.T, s *Set, atLeast int) {
	n := 0
	for _, name := range s.Names() {
		for _, kind := range s.Kinds(name) {
			if !strings.Contains(kind, "manifest") || kind == "manifest-statfs" {
				continue
			}
			b := s.Text(t, name, kind)
			if bytes.HasPrefix(b, []byte("does not mount")) {
				continue // tiers.without-0: not a manifest
			}
			n++
			all, err := ReadManifest(b)
			if err != nil {
				t.Errorf("%s.%s: %v", name, kind, err)
				continue
			}
			if got := WriteManifest(all); !bytes.Equal(got, b) {
				t.Errorf("%s.%s changes when read and written: %s", name, kind, cmp.Diff(strings.Split(string(b), "\n"), strings.Split(string(got), "\n")))
			}
			if d := Diff(all, all, Quirks{}); len(d) != 0 {
				t.Errorf("Diff(%s.%s, itself) = %v, want none", name, kind, d)
			}
		}
	}
	if n < atLeast {
		t.Errorf("read %d manifests, want at least %d", n, atLeast)
	}
}

func TestReadManifest(t *testing.T) {
	const line = `names/bad\xff\x5c f 4755 uid=4000000000 gid=1 mtime=-1000000000 ctime=2 nlink=3 ino=4 size=5 sha256=ab data=none xattr.user.\x20=00ff xattr.user.e=`
	got, err := ReadManifest([]byte(line + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Entry{{
		Path: "names/bad\xff\\", Type: 'f', Mode: 0o4755, UID: 4000000000, GID: 1, Mtime: -1000000000, Ctime: 2, Nlink: 3, Ino: 4,
		Size: 5, SHA256: "ab", Data: "none", Xattr: map[string]string{"user. ": "\x00\xff", "user.e": ""},
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("ReadManifest: (-want +got)\n%s", d)
	}
	for _, bad := range []string{
		"", "x", "x f", "x q 0644", "x f 0844", `x\xzz f 0644`, `x\x1 f 0644`, `\y f 0644`, "x f 0644 uid", "x f 0644 uid=-1",
		"x f 0644 color=red", "x f 0644 xattr.a=0", "x c 0644 rdev=1", "a b", "x\x01 f 0644",
	} {
		if e, err := ReadManifest([]byte(bad)); err == nil {
			t.Errorf("ReadManifest(%q) = %+v, want an error", bad, e)
		}
	}
}

func TestStatfs(t *testing.T) {
	s := Small(t)
	got, err := ReadStatfs(s.Text(t, "plain", "manifest-statfs"))
	want := Statfs{Bsize: 4096, Frsize: 4096, Blocks: 58400, Bfree: 52689, Bavail: 51878, Files: 3372096, Ffree: 3372096, Namemax: 512}
	if err != nil || got != want {
		t.Errorf("ReadStatfs(plain) = %+v, %v, want %+v", got, err, want)
	}
	if _, err := ReadStatfs([]byte("bsize=x")); err == nil {
		t.Error("ReadStatfs(bsize=x) = nil, want an error")
	}
}
