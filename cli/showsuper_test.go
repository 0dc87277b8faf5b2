package cli_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gobcachefs/gobcachefs/internal/csum"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// superFields are the sections of the recorded texts.
const superFields = "ext,members_v2,crypt,clean,replicas_v0,journal_v2,downgrade,errors,counters"

// patched copies the first device of a volume and changes bytes of it.
func patched(t *testing.T, name string, change func(f *os.File)) string {
	t.Helper()
	path := testvol.Paths(t, name)[0]
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	change(f)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func write(t *testing.T, f *os.File, off int64, b []byte) {
	t.Helper()
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}

func TestShowSuper(t *testing.T) {
	t.Setenv("TZ", "UTC")
	set := testvol.Small(t)
	for _, name := range set.Names() {
		dev := volume(t, name)
		first, _, _ := strings.Cut(dev[len(dev)-1], ":")
		// Tools 1.39 print the name of the device with pointers.
		link := filepath.Join(t.TempDir(), "0.img")
		if err := os.Symlink(first, link); err != nil {
			t.Fatal(err)
		}
		if got, want := ok(t, "show-super", "-f", superFields, link), string(set.Text(t, name, "show-super")); got != want {
			t.Errorf("show-super %s:\n%s\nwant\n%s", name, got, want)
		}
	}
}

func TestShowSuperFlags(t *testing.T) {
	t.Setenv("TZ", "UTC")
	dev := volume(t, "plain")[0]
	two := volume(t, "replicas2")[0]
	if got := ok(t, "show-super", dev); !strings.Contains(got, "Device:") || !strings.Contains(got, "\nmembers_v2") || strings.Contains(got, "\ncounters") {
		t.Errorf("show-super prints %q, want the header and members, no counters", got)
	}
	if got := ok(t, "show-super", "--compat=1.39", dev); !strings.Contains(got, "Version:                                   inode_has_child_snapshots (1.13)") {
		t.Errorf("show-super --compat=1.39 = %q", got)
	}
	if got := ok(t, "show-super", "-F", "journal_v2", dev); !strings.Contains(got, "17-33") || strings.Contains(got, "UUID") {
		t.Errorf("show-super -F journal_v2 = %q, want the section alone", got)
	}
	if got := ok(t, "show-super", "-l", dev); !strings.Contains(got, "522240") {
		t.Errorf("show-super -l = %q, want the offsets of the copies", got)
	}
	if got := ok(t, "show-super", two); strings.Count(got, "External UUID:") != 2 || !strings.Contains(got, "replicas2.1.img:\n") {
		t.Errorf("show-super of two devices = %q", got)
	}
	if got := ok(t, "show-super", "--sector", "2056", dev); !strings.Contains(got, "External UUID:") {
		t.Errorf("show-super --sector 2056 = %q", got)
	}
	type doc struct {
		Schema      int
		Superblocks []struct {
			Path, Error string
			Copies      []struct {
				Sector, Seq uint64
				Error       string
			}
			Super *struct {
				Version      string
				ExternalUUID string `json:"external_uuid"`
			}
		}
	}
	d := parse[doc](t, ok(t, "show-super", "--json", two))
	if d.Schema != 1 || len(d.Superblocks) != 2 || d.Superblocks[1].Super == nil || d.Superblocks[1].Super.Version != "1.13" || len(d.Superblocks[0].Copies) != 3 {
		t.Errorf("show-super --json = %+v", d)
	}
}

// TestShowSuperDamaged: one bad copy is named and another one shown; with all
// checksums bad nothing is; a wrong field alone does not hide the rest.
func TestShowSuperDamaged(t *testing.T) {
	junk := []byte("damage")
	path := patched(t, "plain", func(f *os.File) { write(t, f, 8*512+200, junk) })
	r := run("show-super", path)
	if r.code != 1 || !strings.Contains(r.out, "External UUID:") || !strings.Contains(r.err, "sector 8") || !strings.Contains(r.err, "expected") {
		t.Errorf("first copy damaged: exit code %d, stdout %.60q, stderr %q", r.code, r.out, r.err)
	}
	path = patched(t, "plain", func(f *os.File) {
		for _, s := range []int64{8, 2056, 522240} {
			write(t, f, s*512+200, junk)
		}
	})
	if r := run("show-super", path); r.code != 1 || r.out != "" || !strings.Contains(r.err, "sector 522240") {
		t.Errorf("all copies damaged: exit code %d, stdout %.60q, stderr %q", r.code, r.out, r.err)
	}
	path = patched(t, "plain", func(f *os.File) { // block size 0, checksum made right
		for _, s := range []int64{8, 2056, 522240} {
			head := make([]byte, 752)
			if _, err := f.ReadAt(head, s*512); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 752+8*binary.LittleEndian.Uint32(head[124:]))
			if _, err := f.ReadAt(b, s*512); err != nil {
				t.Fatal(err)
			}
			b[120], b[121] = 0, 0
			lo, _ := csum.Sum(1, b[16:])
			binary.LittleEndian.PutUint64(b, lo)
			write(t, f, s*512, b)
		}
	})
	if r := run("show-super", path); r.code != 1 || !strings.Contains(r.out, "External UUID:") || r.err == "" {
		t.Errorf("invalid block size: exit code %d, stdout %.60q, stderr %q, want it shown and named", r.code, r.out, r.err)
	}
	zero := make([]byte, 4096)
	path = patched(t, "plain", func(f *os.File) { write(t, f, 3584, zero[:512]); write(t, f, 4096, zero) })
	if r := run("show-super", path); r.code != 1 || !strings.Contains(r.err, "a copy exists at sector 2056") {
		t.Errorf("default superblock gone: exit code %d, stderr %q", r.code, r.err)
	}
}

func TestProbe(t *testing.T) {
	dev := volume(t, "plain")[0]
	want := strings.Join([]string{
		"DEVNAME=" + dev, "TYPE=bcachefs", "UUID=44585b9b-3736-4ba3-ae29-9088b6052b4f", "UUID_SUB=b565597e-eb0a-42de-a82b-814dd416ac92",
		"VERSION=1.13", "BLOCK_SIZE=4096", "DEVICE_INDEX=0", "DEVICES=1", "ENCRYPTED=0", "CLEAN=1", "",
	}, "\n")
	if got := ok(t, "probe", dev); got != want {
		t.Errorf("probe plain = %q, want %q", got, want)
	}
	if got := ok(t, "probe", volume(t, "replicas2")[0]); strings.Count(got, "TYPE=bcachefs") != 2 || strings.Count(got, "\n\n") != 1 || !strings.Contains(got, "DEVICE_INDEX=1\nDEVICES=2") {
		t.Errorf("probe replicas2 = %q", got)
	}
	if got := ok(t, "probe", volume(t, "enczstdwide")[2]); !strings.Contains(got, "ENCRYPTED=1\n") {
		t.Errorf("probe enczstdwide = %q", got)
	}
	type doc struct {
		Devices []struct {
			Path, UUID, Error string
			Type              *string
			Copies            []struct{ Sector uint64 }
		}
	}
	d := parse[doc](t, ok(t, "probe", "--json", dev)).Devices
	if len(d) != 1 || d[0].Type == nil || *d[0].Type != "bcachefs" || len(d[0].Copies) != 3 {
		t.Errorf("probe --json = %+v", d)
	}
	other := filepath.Join(t.TempDir(), "ext4.img")
	b := make([]byte, 1<<20)
	copy(b[1024+56:], []byte{0x53, 0xef})
	b[1024+96] = 0x40 // extents
	if err := os.WriteFile(other, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := run("probe", other); r.code != 1 || r.out != "" || !strings.Contains(r.err, "no bcachefs superblock (found: ext4") {
		t.Errorf("probe of ext4: exit code %d, stdout %q, stderr %q", r.code, r.out, r.err)
	}
	r := run("probe", "--json", other, dev)
	if d := parse[doc](t, r.out).Devices; r.code != 1 || len(d) != 2 || d[0].Type != nil || !strings.Contains(d[0].Error, "ext4") || d[1].Type == nil {
		t.Errorf("probe --json of ext4 and plain: exit code %d, %+v", r.code, d)
	}
	names := slices.Sorted(slices.Values([]string{"a b", "x$(y)"}))
	for _, n := range names {
		p := filepath.Join(t.TempDir(), n)
		if err := os.Symlink(dev, p); err != nil {
			t.Fatal(err)
		}
		if got := ok(t, "probe", p); strings.Contains(strings.SplitN(got, "\n", 2)[0], " ") && !strings.Contains(got, `\ `) || strings.Contains(got, "x$(") {
			t.Errorf("probe %q = %q, want what a shell takes for text", n, got)
		}
	}
}
