package cli_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// loops gives a volume under the device names that its usage was recorded with.
func loops(t *testing.T, set *testvol.Set, name string) []string {
	t.Helper()
	dir := t.TempDir()
	var args []string
	for i, p := range set.Paths(t, name) {
		l := filepath.Join(dir, fmt.Sprintf("loop%d", i))
		if err := os.Rename(p, l); err != nil {
			t.Fatal(err)
		}
		args = append(args, l)
	}
	if testvol.Encrypted(name) {
		pass := filepath.Join(dir, "passphrase")
		if err := os.WriteFile(pass, []byte(testvol.Passphrase+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--passphrase-file", pass)
	}
	return args
}

// checkUsage compares with what the real tools said of a mounted volume.
func checkUsage(t *testing.T, set *testvol.Set) (n int) {
	want := sections(golden(t, "usage-1.13.txt"))
	have := map[string]bool{}
	for _, name := range set.Names() {
		have[name] = true
	}
	for head, lines := range want {
		name, human, _ := strings.Cut(head, " ")
		if head == "" || human != "" || !have[name] {
			continue
		}
		n++
		dev := loops(t, set, name)
		same(t, head, ok(t, append([]string{"fs", "usage", "--compat=1.13"}, dev...)...), lines)
		same(t, head+" -h", ok(t, append([]string{"fs", "usage", "--compat=1.13", "-h"}, dev...)...), want[head+" -h"])
	}
	return n
}

func TestFsUsage(t *testing.T) {
	if n := checkUsage(t, testvol.Small(t)); n < 16 {
		t.Errorf("%d volumes, want at least 16", n)
	}
}

// usageDoc is fs usage --json.
type usageDoc struct {
	Schema                                     int
	UUID, Source                               string
	Raw, Hidden, Reserve, Size, Used, Reserved uint64
	Free                                       struct {
		Raw, Usable uint64
		Replicas    int
	}
	Inodes   int64
	Replicas []struct {
		Type                               string
		Required, Total, Durability, Bytes int
		Missing                            int
		Devices                            []int
	}
	Btrees  []struct{ Btree string }
	Devices []struct {
		Index       int
		Path, State string
		BucketSize  uint64 `json:"bucket_size"`
		Buckets     uint64
		Types       map[string]struct{ Buckets, Bytes, Fragmented uint64 }
	}
}

func TestFsUsageJSON(t *testing.T) {
	sum := func(u usageDoc) (n int) {
		for _, r := range u.Replicas {
			if r.Type != "cached" {
				n += r.Bytes
			}
		}
		return n
	}
	u := parse[usageDoc](t, ok(t, append([]string{"fs"}, on(t, "usage", "replicas2", "--json")...)...))
	if u.Schema != 1 || u.Source != "accounting" || len(u.Devices) != 2 || u.Free.Replicas != 2 || u.Size+u.Reserve+u.Hidden != u.Raw || u.Free.Raw != u.Size-u.Used {
		t.Errorf("fs usage --json replicas2 = %+v", u)
	}
	if got := uint64(sum(u)); got > u.Used || u.Used-got > u.Reserved*2 {
		t.Errorf("replicas sum up to %d, used %d", got, u.Used)
	}
	for _, d := range u.Devices {
		var n uint64
		for _, c := range d.Types {
			n += c.Buckets
		}
		if n != d.Buckets {
			t.Errorf("member %d: types have %d buckets, want all %d", d.Index, n, d.Buckets)
		}
	}
	if len(u.Replicas) == 0 || u.Replicas[0].Durability != 2 || u.Replicas[0].Total != 2 {
		t.Errorf("replicas of replicas2 = %+v, want durability 2", u.Replicas)
	}

	// Erasure coded, with a member gone.
	spec := volume(t, "v39ec")[0]
	spec = spec[:strings.LastIndexByte(spec, ':')]
	r := run("fs", "usage", "--json", spec)
	u = parse[usageDoc](t, r.out)
	stripes := 0
	for _, s := range u.Replicas {
		if s.Required == 3 && s.Total == 4 {
			stripes++
			if s.Durability != 2 || s.Missing != 1 {
				t.Errorf("stripes of v39ec = %+v, want durability 2, 1 missing", s)
			}
		}
	}
	if r.code != 0 || !strings.Contains(r.err, "missing member 3") || stripes != 2 || u.Devices[3].Path != "" {
		t.Errorf("fs usage of v39ec without member 3: exit code %d, stderr %q, %d kinds of stripes, path %q", r.code, r.err, stripes, u.Devices[3].Path)
	}
	if out := run("fs", "usage", spec).out; !strings.Contains(out, "3+1:") || !strings.Contains(out, "-1x") || !strings.Contains(out, "missing") {
		t.Errorf("fs usage of v39ec without member 3 = %q, want the stripes as degraded", out)
	}

	// A volume without counters.
	u = parse[usageDoc](t, ok(t, append([]string{"fs"}, on(t, "usage", "v39image", "--json")...)...))
	if u.Source != "counted" || u.Used == 0 || u.Inodes == 0 || len(u.Btrees) == 0 {
		t.Errorf("fs usage v39image = %+v, want counted numbers", u)
	}
}

func TestFsUsageText(t *testing.T) {
	out := ok(t, append([]string{"fs"}, on(t, "usage", "upc39plain", "-a", "-h")...)...)
	for _, want := range []string{
		"Raw:                            256M", "Size:                           228M", "Used:                          22.3M", "Usable:                         203M",
		"1x:                    20.3M", "Data type       Required/total  Durability    Devices", "extents:                128k", "  capacity:                     256M            2048",
		"  bucket size:                  128k",
	} {
		if !strings.Contains(out, "\n"+want) {
			t.Errorf("fs usage -a -h upc39plain has no line %q:\n%s", want, out)
		}
	}
	short := ok(t, append([]string{"fs"}, on(t, "usage", "upc39plain")...)...)
	if strings.Contains(short, "Btree usage") || !strings.Contains(short, "Use%") {
		t.Errorf("fs usage upc39plain = %q, want the short form", short)
	}
}
