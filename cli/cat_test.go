package cli_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gobcachefs/gobcachefs/cli"
)

// TestCat writes out every file of some volumes.
func TestCat(t *testing.T) {
	for _, name := range []string{"plain", "zstd", "reflink", "v39ec"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var paths []string
			sum := sha256.New()
			var size int64
			for _, e := range manifest(t, name) {
				// All in one go: the sum of what cat alone gives for each is checked below.
				if e.Type == 'f' && strings.HasPrefix(e.Path, "docs/") {
					paths = append(paths, "/"+e.Path)
					size += e.Size
					out := ok(t, on(t, "cat", name, "/"+e.Path)...)
					if h := sha256.Sum256([]byte(out)); hex.EncodeToString(h[:]) != e.SHA256 {
						t.Errorf("cat %s: sha256 %x, want %s", e.Path, h, e.SHA256)
					}
					sum.Write([]byte(out))
				}
			}
			all := ok(t, on(t, "cat", name, paths...)...)
			if h := sha256.Sum256([]byte(all)); int64(len(all)) != size || string(h[:]) != string(sum.Sum(nil)) {
				t.Errorf("cat of %d files: %d bytes, want %d, or they differ", len(paths), len(all), size)
			}
		})
	}
}

func TestCatParts(t *testing.T) {
	whole := ok(t, on(t, "cat", "plain", "/sparse")...)
	for _, c := range []struct{ off, n int }{{0, 1}, {5242870, 30}, {5242880, 4096}, {5246970, 100}, {15728640 - 5, 73728 + 10}, {20971519, 10}, {20971520, 1}, {99999999, 1}, {3, 0}} {
		want := whole[min(c.off, len(whole)):min(c.off+c.n, len(whole))]
		if got := ok(t, on(t, "cat", "plain", "/sparse", "--offset", fmt.Sprint(c.off), "--length", fmt.Sprint(c.n))...); got != want {
			t.Errorf("cat --offset %d --length %d: %d bytes, want %d, or they differ", c.off, c.n, len(got), len(want))
		}
	}
	if got := ok(t, on(t, "cat", "plain", "/sparse", "--offset", "20000000")...); got != whole[20000000:] {
		t.Errorf("cat --offset 20000000: %d bytes, want %d, or they differ", len(got), len(whole)-20000000)
	}
	if got, want := ok(t, on(t, "cat", "plain", "/link-rel")...), ok(t, on(t, "cat", "plain", "/docs/f11_1_12345")...); got != want {
		t.Errorf("cat of a symlink: %d bytes, want %d, or they differ", len(got), len(want))
	}
}

// TestCatHoles writes into regular files: holes stay holes, and what is there
// already stays too.
func TestCatHoles(t *testing.T) {
	whole := ok(t, on(t, "cat", "plain", "/sparse", "/appended", "/sparse")...)
	for _, before := range []string{"", "before"} {
		p := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(p, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, flag := range []int{0, os.O_APPEND} {
			f, err := os.OpenFile(p, os.O_WRONLY|flag, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Seek(0, 2); err != nil {
				t.Fatal(err)
			}
			var msg strings.Builder
			if code := cli.Run(t.Context(), "gobcachefs", on(t, "cat", "plain", "/sparse", "/appended", "/sparse"), cli.Streams{Out: f, Err: &msg}); code != 0 {
				t.Fatalf("cat into a file: exit code %d, %s", code, msg.String())
			}
			f.Close()
			got, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != before+whole {
				t.Errorf("cat into a file: %d bytes, want %d, or they differ", len(got), len(before)+len(whole))
			}
			before += whole
		}
	}
}
