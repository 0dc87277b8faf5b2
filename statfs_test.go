package bcachefs_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// freshStatfs is what kernel 6.12 said of fresh mounts (see the README beside).
func freshStatfs(t *testing.T) map[string]testvol.Statfs {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("cli", "testdata", "inspect", "statfs.txt"))
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]testvol.Statfs{}
	for l := range strings.Lines(string(b)) {
		name, rest, _ := strings.Cut(l, " ")
		if m[name], err = testvol.ReadStatfs([]byte(rest)); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// sameMount are the volumes whose manifest-statfs was taken in the mount that made
// them, in which the kernel gives other numbers: without the superblocks and the
// journal that it made itself, with snapshots that were not cleaned up yet.
var sameMount = []string{"encrypted", "enczstdwide", "snapshots"}

// checkStatfs compares with what the real kernel said of the same volumes. Volumes
// upgraded to 1.39 have as much space as before.
func checkStatfs(t *testing.T, set *testvol.Set) (n int) {
	fresh := freshStatfs(t)
	for _, name := range set.Names() {
		base := strings.TrimPrefix(strings.TrimPrefix(name, "upc39"), "up39")
		want, have := fresh[base]
		if !have {
			continue
		}
		n++
		t.Run(name, func(t *testing.T) {
			if slices.Contains(set.Kinds(name), "manifest-statfs") && !slices.Contains(sameMount, base) {
				old, err := testvol.ReadStatfs(set.Text(t, name, "manifest-statfs"))
				if err != nil || old != want {
					t.Errorf("the kernel said %+v, and %+v later", old, want)
				}
			}
			v := open(t, set.Load(t, name), options(t, name))
			got, err := v.Statfs(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if base != name {
				// Releases of 1.39 promise fewer inodes, and count those in use; an
				// upgrade can take a few btree nodes of 128 KiB.
				sectors := got.Free * uint64(got.BlockSize) / 512
				if got.FilesFree/2 < sectors || got.FilesFree/2-sectors >= uint64(got.BlockSize)/512 || got.Files <= got.FilesFree {
					t.Errorf("files %d, free %d with %d sectors free", got.Files, got.FilesFree, sectors)
				}
				want.Files, want.Ffree = got.Files, got.FilesFree
				if node := uint64(128 << 10 / got.BlockSize); got.Free < want.Bfree && want.Bfree-got.Free <= 2*node {
					want.Bfree, want.Bavail = got.Free, got.Avail
				}
			}
			s := testvol.Statfs{Bsize: uint64(got.BlockSize), Frsize: uint64(got.BlockSize), Blocks: got.Blocks, Bfree: got.Free, Bavail: got.Avail, Files: got.Files, Ffree: got.FilesFree, Namemax: uint64(got.NameLen)}
			if s != want {
				t.Errorf("Statfs() = %+v, want %+v", s, want)
			}
			if got.Type != bcachefs.StatfsType || got.FSID == 0 {
				t.Errorf("Statfs() = %+v", got)
			}
		})
	}
	return n
}

func TestStatfs(t *testing.T) {
	if n := checkStatfs(t, testvol.Small(t)); n < 25 {
		t.Errorf("%d volumes compared, want at least 25", n)
	}
}
