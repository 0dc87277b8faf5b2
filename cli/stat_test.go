package cli_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func rfc3339(ns int64) string {
	return time.Unix(0, ns).UTC().Format(time.RFC3339Nano)
}

func local(ns int64) string { return time.Unix(0, ns).Format("2006-01-02 15:04") }

// unraw is the string that JSON gives twice when it is not UTF-8.
func unraw(t *testing.T, s, raw string) string {
	if raw == "" {
		return s
	}
	b, err := base64.StdEncoding.DecodeString(raw)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

type statDoc struct {
	Schema int
	Files  []struct {
		jsonFile
		Xattrs []struct {
			Name     string
			NameRaw  string `json:"name_base64"`
			Value    *string
			ValueRaw string `json:"value_base64"`
			Size     int
		}
		Extents []struct {
			Offset, Length int64
			Kind           string
			Shared         bool
			References     int
			Copies         []struct {
				Member                     *int
				Sector                     int64
				Stored, Decoded            int64
				BlobOffset                 int64 `json:"blob_offset"`
				Compression, Checksum, Sum string
				Missing, Cached            bool
				Stripe                     *uint64
			}
		}
	}
	Errors []any
}

// TestStatJSON compares stat --json with the manifest, xattrs too.
func TestStatJSON(t *testing.T) {
	for _, name := range []string{"plain", "aclquota"} {
		m := manifest(t, name)
		var paths []string
		for _, e := range m {
			paths = append(paths, e.Path)
		}
		d := parse[statDoc](t, ok(t, on(t, "stat", name, append([]string{"--json"}, paths...)...)...))
		if len(d.Files) != len(m) || d.Schema != 1 {
			t.Fatalf("%d files, schema %d, want %d and 1", len(d.Files), d.Schema, len(m))
		}
		for i, f := range d.Files {
			if got, want := f.line(t), entryLine(&m[i], ""); got != want {
				t.Errorf("stat = %s, want %s", got, want)
			}
			var xattrs map[string]string
			for _, x := range f.Xattrs {
				if xattrs == nil {
					xattrs = map[string]string{}
				}
				v := ""
				if x.Value != nil {
					v = *x.Value
				}
				if v = unraw(t, v, x.ValueRaw); x.Size != len(v) {
					t.Errorf("%s: xattr %s: size = %d, value of %d bytes", m[i].Path, x.Name, x.Size, len(v))
				}
				xattrs[unraw(t, x.Name, x.NameRaw)] = v
			}
			if diff := cmp.Diff(m[i].Xattr, xattrs); diff != "" {
				t.Errorf("%s: xattrs (-want +got):\n%s", m[i].Path, diff)
			}
		}
	}
}

// TestStatExtents reads the data of a file from where stat says that it is.
func TestStatExtents(t *testing.T) {
	for _, c := range []struct{ vol, path string }{{"plain", "/docs/f17_0_3145745"}, {"plain", "/sparse"}, {"replicas2", "/docs/f17_0_3145745"}, {"reflink", "/docs/f16_0_1048576"}} {
		want := ok(t, on(t, "cat", c.vol, c.path)...)
		d := parse[statDoc](t, ok(t, on(t, "stat", c.vol, "--json", "--extents", c.path)...))
		var members []*os.File
		for _, p := range strings.Split(volume(t, c.vol)[0], ":") {
			f, err := os.Open(p)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			members = append(members, f)
		}
		copies := map[int]int64{} // bytes found by number of the copy
		for _, x := range d.Files[0].Extents {
			for i, k := range x.Copies {
				if k.Compression != "none" && k.Compression != "incompressible" || k.Checksum != "crc32c" || k.Sum == "" {
					t.Errorf("%s: copy %+v, want crc32c of plain data", c.path, k)
				}
				b := make([]byte, x.Length)
				if _, err := members[*k.Member].ReadAt(b, k.Sector*512+k.BlobOffset); err != nil {
					t.Fatal(err)
				}
				n := min(x.Length, int64(len(want))-x.Offset)
				if string(b[:n]) != want[x.Offset:x.Offset+n] {
					t.Errorf("%s %s: extent %d+%d: what is stored at %d:%d is not the data", c.vol, c.path, x.Offset, x.Length, *k.Member, k.Sector)
				}
				copies[i] += n
			}
		}
		wantCopies := len(members)
		if len(copies) != wantCopies || copies[0] == 0 {
			t.Errorf("%s %s: %d copies of %d bytes, want %d", c.vol, c.path, len(copies), copies[0], wantCopies)
		}
		for i, n := range copies {
			if n != copies[0] {
				t.Errorf("%s %s: copy %d has %d bytes, want %d", c.vol, c.path, i, n, copies[0])
			}
		}
	}
	// Compressed: less is stored than there is.
	d := parse[statDoc](t, ok(t, on(t, "stat", "zstd", "--json", "--extents", "/appended")...))
	n := 0
	for _, x := range d.Files[0].Extents {
		for _, k := range x.Copies {
			if k.Compression == "zstd" && k.Stored < k.Decoded {
				n++
			}
		}
	}
	if n == 0 {
		t.Error("no extent of the compressed file is shown as zstd and smaller than its data")
	}
}

func TestStatText(t *testing.T) {
	e := find(t, manifest(t, "plain"), "sparse")
	got := ok(t, on(t, "stat", "plain", "/sparse", "--extents")...)
	for _, want := range []string{
		"  File: /sparse\n  Type: file\n  Size: 20971520 bytes, 77824 allocated, block 4096\n",
		fmt.Sprintf(" Inode: %d in subvolume 1, st_ino %d, generation 0\n", e.Ino, e.Ino),
		"  Mode: 0644 (-rw-r--r--), uid 0, gid 0, links 1\n",
		"Modify: " + time.Unix(0, e.Mtime).Format("2006-01-02 15:04:05.000000000 -0700") + "\n",
		"Extent: 5242880+4096 data\n        copy 0:",
		", 4096 bytes, crc32c 0:",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("stat = %q, want it to contain %q", got, want)
		}
	}
	// A symlink is shown, or what it leads to.
	if got := ok(t, on(t, "stat", "plain", "/link-rel")...); !strings.HasPrefix(got, "  File: /link-rel -> docs/f11_1_12345\n  Type: symlink\n") {
		t.Errorf("stat of a symlink = %q", got)
	}
	if got := ok(t, on(t, "stat", "plain", "-L", "/link-rel")...); !strings.HasPrefix(got, "  File: /link-rel\n  Type: file\n  Size: 11742 bytes") {
		t.Errorf("stat -L of a symlink = %q", got)
	}
}
