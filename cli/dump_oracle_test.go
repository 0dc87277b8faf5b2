//go:build oracle

package cli_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/internal/oracle"
)

// rawImage writes what a qcow2 image holds into a sparse file.
func rawImage(t *testing.T, path string) string {
	t.Helper()
	r, err := block.Open(context.Background(), path, block.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out := strings.TrimSuffix(path, ".qcow2") + ".img"
	f, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(r.Size()); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1<<20)
	for at := int64(0); at < r.Size(); at += int64(len(buf)) {
		n, err := r.ReadAt(buf, at)
		if err != nil && err != io.ErrUnexpectedEOF {
			t.Fatal(err)
		}
		if strings.Trim(string(buf[:n]), "\x00") != "" {
			if _, err := f.WriteAt(buf[:n], at); err != nil {
				t.Fatal(err)
			}
		}
	}
	return out
}

// TestDumpOracle has the real tools read and check volumes made of dumps. The
// check does not read the data of files.
func TestDumpOracle(t *testing.T) {
	o := oracle.New(t)
	address := regexp.MustCompile(`0x[0-9a-f]+hN`)
	for _, name := range []string{"plain", "crash", "replicas2", "geometry", "nocsum", "reflink"} {
		for _, san := range []string{"none", "data"} {
			t.Run(fmt.Sprintf("%s %s", name, san), func(t *testing.T) {
				out := filepath.Join(t.TempDir(), "d")
				ok(t, append([]string{"dump", "--sanitize=" + san, "-o", out}, volume(t, name)...)...)
				files, err := filepath.Glob(out + "*.qcow2")
				if err != nil || len(files) == 0 {
					t.Fatalf("%q, %v", files, err)
				}
				var imgs []string
				for _, f := range files {
					imgs = append(imgs, rawImage(t, f))
				}
				if r := o.Fsck(t, imgs...); r.Code != 0 {
					t.Errorf("fsck -n of the dump: exit code %d\n%s%s", r.Code, r.Out, r.Err)
				}
				spec := strings.Split(volume(t, name)[0], ":")
				for _, b := range []string{"inodes", "dirents", "extents", "alloc"} {
					args := []string{"list", "-b", b}
					got, want := o.Tools(t, append(args, imgs...)...), o.Tools(t, append(args, spec...)...)
					if g, w := address.ReplaceAllString(got.Out, ""), address.ReplaceAllString(want.Out, ""); g != w || len(g) < 1000 {
						t.Errorf("list -b %s of the dump: %d bytes that differ from the volume's %d", b, len(g), len(w))
					}
				}
			})
		}
	}
}
