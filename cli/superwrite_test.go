package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// TestPassphrases changes and removes passphrases of a volume that the kernel
// wrote: the files are the same with each.
func TestPassphrases(t *testing.T) {
	t.Parallel()
	v := strings.Join(testvol.Paths(t, "enczstdwide"), ":")
	dir := t.TempDir()
	pass := func(name, text string) string {
		p := filepath.Join(dir, name)
		writeFile(t, p, text+"\n")
		return p
	}
	old, second := pass("old", testvol.Passphrase), pass("second", "another one")
	sum := func(args ...string) string {
		t.Helper()
		return ok(t, append(append([]string{"tar"}, args...), v, "/docs")...)
	}
	want := sum("--passphrase-file", old)
	refused(t, 1, "incorrect passphrase", "set-passphrase", "--passphrase-file", second, "--new-passphrase-file", old, v)
	refused(t, 1, "empty passphrase", "set-passphrase", "--passphrase-file", old, "--new-passphrase-file", pass("empty", ""), v)
	refused(t, 1, "no new passphrase", "set-passphrase", "--passphrase-file", old, v)
	ok(t, "set-passphrase", "--passphrase-file", old, "--new-passphrase-file", second, v)
	refused(t, 1, "incorrect passphrase", "ls", "--passphrase-file", old, v)
	if got := sum("--passphrase-file", second); got != want {
		t.Error("with the new passphrase the files differ")
	}
	refused(t, 1, "encrypted", "remove-passphrase", v)
	ok(t, "remove-passphrase", "--passphrase-file", second, v)
	if got := sum(); got != want {
		t.Error("without a passphrase the files differ")
	}
	refused(t, 1, "has no passphrase", "remove-passphrase", v)
	ok(t, "mkdir", v, "/written")
	ok(t, "set-passphrase", "--new-passphrase-file", old, v)
	if got := sum("--passphrase-file", old); got != want {
		t.Error("with the old passphrase again the files differ")
	}
	ok(t, "touch", "--passphrase-file", old, v, "/written/file")
	refused(t, 1, "not encrypted", "set-passphrase", "--new-passphrase-file", old, newVolume(t))
}

func TestResetCounters(t *testing.T) {
	t.Parallel()
	v := strings.Join(testvol.Paths(t, "replicas2"), ":")
	type doc struct{ Reset int }
	if got := ok(t, "reset-counters", "-c", "data_write,btree_node_read", v); !strings.HasSuffix(got, " counters reset\n") || got == "0 counters reset\n" {
		t.Errorf("reset-counters -c = %q", got)
	}
	if d := parse[doc](t, ok(t, "reset-counters", "--json", v)); d.Reset < 5 {
		t.Errorf("reset-counters = %+v, want more", d)
	}
	if d := parse[doc](t, ok(t, "reset-counters", "--json", v)); d.Reset != 0 {
		t.Errorf("reset-counters again = %+v, want 0", d)
	}
	refused(t, 2, "unknown counter bogus", "reset-counters", "-c", "bogus", v)
	checked(t, v)
}

// TestRecoverSuper damages superblocks and restores them, byte by byte.
func TestRecoverSuper(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"plain", "v39zstd"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := testvol.Paths(t, name)[0]
			type doc struct {
				Found []struct {
					Sector uint64
					Error  string
				}
				Chosen  *uint64
				Written []uint64
			}
			recoverSuper := func(want int) doc {
				t.Helper()
				d := parse[doc](t, ok(t, "recover-super", "--yes", "--json", p))
				if len(d.Written) != want || d.Chosen == nil {
					t.Errorf("recover-super = %+v, want %d written", d, want)
				}
				return d
			}
			first := recoverSuper(0) // a good volume is left alone
			if len(first.Found) < 2 {
				t.Fatalf("%d superblocks found, want 2 at least", len(first.Found))
			}
			before := sums(t, []string{p})
			wipe := func(sectors ...uint64) {
				t.Helper()
				f, err := os.OpenFile(p, os.O_RDWR, 0)
				must(t, err)
				defer f.Close()
				for _, s := range sectors {
					_, err := f.WriteAt(make([]byte, 512), int64(s)*512)
					must(t, err)
				}
			}
			check := func(what string) {
				t.Helper()
				if after := sums(t, []string{p}); !cmp.Equal(before, after) {
					t.Errorf("%s: not restored byte by byte", what)
				}
			}
			wipe(7, 8)
			refused(t, 1, "default superblock damaged", "ls", p)
			refused(t, 1, "not without --yes", "recover-super", p)
			recoverSuper(2)
			check("layout and first copy")
			wipe(first.Found[len(first.Found)-1].Sector)
			recoverSuper(1)
			check("last copy")
			for _, c := range first.Found {
				wipe(c.Sector)
			}
			refused(t, 1, "no good superblock found", "recover-super", "--yes", p)
		})
	}
	refused(t, 1, "cannot be used", "recover-super", "-s", "x", "-i", "1", newVolume(t))
	refused(t, 1, "finish the migration with the tools", "migrate-superblock", "-d", "x", "-o", "8")
}

// TestRecoverSuperStray: a superblock at a place that is none of its own is not
// taken for one of the volume.
func TestRecoverSuperStray(t *testing.T) {
	t.Parallel()
	a, b := newVolume(t), newVolume(t)
	other, err := os.ReadFile(b)
	must(t, err)
	f, err := os.OpenFile(a, os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt(other[8*512:8*512+8192], 5000*512)
	must(t, err)
	must(t, f.Close())
	d := parse[struct {
		Found []struct {
			Sector      uint64
			Error, UUID string
		}
		Written []uint64
	}](t, ok(t, "recover-super", "--yes", "--json", a))
	if len(d.Written) != 0 || len(d.Found) != 4 || d.Found[2].Sector != 5000 || d.Found[2].Error == "" {
		t.Errorf("recover-super = %+v, want 4 found, that at sector 5000 bad, none written", d)
	}
}

// TestUndump turns a dump into an image that opens.
func TestUndump(t *testing.T) {
	t.Parallel()
	v := newVolume(t)
	ok(t, "mkdir", v, "/in-the-dump")
	dir := t.TempDir()
	ok(t, "dump", "-o", filepath.Join(dir, "dump"), v)
	file := filepath.Join(dir, "dump.qcow2")
	ok(t, "undump", file)
	raw := strings.TrimSuffix(file, ".qcow2")
	if got := names(t, raw, "/"); len(got) != 2 || got[0] != "in-the-dump" {
		t.Errorf("the image shows %q", got)
	}
	a, err := os.Stat(raw)
	must(t, err)
	b, err := os.Stat(v)
	must(t, err)
	if a.Size() != b.Size() {
		t.Errorf("the image has %d bytes, want %d", a.Size(), b.Size())
	}
	refused(t, 1, "file already exists (--force", "undump", file)
	ok(t, "undump", "-f", file)
	other := filepath.Join(dir, "other")
	ok(t, "undump", "-o", other, file)
	refused(t, 1, "not a qcow2 image", "undump", "-o", filepath.Join(dir, "x"), v)
	refused(t, 2, "does not end in .qcow2", "undump", v)
	if !cmp.Equal(sums(t, []string{raw}), sums(t, []string{other})) {
		t.Error("two images of one dump differ")
	}
}
