package cli_test

import (
	"slices"
	"strings"
	"testing"
)

// subvol is what subvolume list --json prints.
type subvol struct {
	Subvolid       uint32
	Path, Flags    string
	Otime          *string
	SnapshotParent uint32 `json:"snapshot_parent"`
	Size, Sectors  *int64
	Children       []subvol
}

func subvolPaths(l []subvol) (p []string) {
	for _, s := range l {
		p = append(p, s.Path)
	}
	return p
}

func listSubvols(t *testing.T, name string, args ...string) []subvol {
	t.Helper()
	return parse[[]subvol](t, ok(t, append([]string{"subvolume"}, on(t, "list", name, append(args, "--json")...)...)...))
}

func TestSubvolumeList(t *testing.T) {
	direct := []string{"/gone2", "/snap-ro", "/snap1", "/snap2", "/sub/inner", "/sub/snap3", "/vol"}
	if got := subvolPaths(listSubvols(t, "snapshots")); !slices.Equal(got, direct) {
		t.Errorf("subvolume list = %q, want %q", got, direct)
	}
	all := listSubvols(t, "snapshots", "-R")
	vol := all[len(all)-1]
	if len(all) != 7 || vol.Subvolid != 2 || vol.SnapshotParent != 0 || vol.Flags != "" || !slices.Equal(subvolPaths(vol.Children), []string{"/vol/nested"}) {
		t.Errorf("subvolume list -R = %+v", all)
	}
	ro := listSubvols(t, "snapshots", "--readonly")
	if len(ro) != 1 || ro[0].Path != "/snap-ro" || ro[0].Flags != "ro,snap" || ro[0].SnapshotParent != 2 || ro[0].Size == nil || *ro[0].Size != 18907136 || ro[0].Otime == nil {
		t.Errorf("subvolume list --readonly = %+v", ro)
	}
	if got := subvolPaths(listSubvols(t, "snapshots", "/vol")); !slices.Equal(got, []string{"/vol/nested"}) {
		t.Errorf("subvolume list /vol = %q, want the one below", got)
	}
	if got := subvolPaths(listSubvols(t, "snapshots", "-s", "-R", "vol")); !slices.Equal(got, []string{"/vol/nested"}) {
		t.Errorf("subvolume list -s -R vol = %q", got)
	}
	for _, args := range [][]string{{"--sort", "size"}, {"--sort", "time"}} {
		if got := subvolPaths(listSubvols(t, "snapshots", args...)); len(got) != 7 || slices.Equal(got, direct) {
			t.Errorf("subvolume list %q = %q, want another order", args, got)
		}
	}
	if got := listSubvols(t, "plain"); len(got) != 0 {
		t.Errorf("subvolume list plain = %+v, want none", got)
	}
	t.Setenv("TZ", "UTC")
	want := `Path           ID  Created              Flags     Size
/gone2          8  2026-11-23 16:12:44  snap        0B
/snap-ro        4  2026-11-23 16:12:43  ro,snap  18.0M
/snap1          3  2026-11-23 16:12:43  snap     18.0M
/snap2          5  2026-11-23 16:12:43  snap     18.0M
/sub/inner      9  2026-11-23 16:12:45  -           0B
/sub/snap3     10  2026-11-23 16:12:45  snap     18.0M
/vol            2  2026-11-23 16:12:37  -        18.0M
  /vol/nested   6  2026-11-23 16:12:44  snap     18.0M
`
	if got := ok(t, append([]string{"subvol"}, on(t, "list", "snapshots", "-t")...)...); got != want {
		t.Errorf("subvol list -t =\n%swant\n%s", got, want)
	}
	if got := ok(t, append([]string{"subvol"}, on(t, "list", "snapshots", "-s")...)...); !strings.Contains(got, "snap     18.0M  /snap1\n") {
		t.Errorf("subvol list -s = %q, want what the snapshots are of", got)
	}
	if r := run(append([]string{"subvolume"}, on(t, "list", "snapshots", "/nope")...)...); r.code != 1 || !strings.Contains(r.err, "/nope") {
		t.Errorf("subvolume list /nope: exit code %d, stderr %q", r.code, r.err)
	}
}

// snapshotDoc is what subvolume list-snapshots --json prints.
type snapshotDoc struct {
	QueryRoot struct {
		Subvol, Snapshot uint32
		Path             string
	} `json:"query_root"`
	Nodes []struct {
		ID, Parent, Subvol uint32
		Children           []uint32
		Size, Sectors      *int64
		NrKeys             *int64 `json:"nr_keys"`
		KeyBytes           *int64 `json:"key_bytes"`
		Flags, Path        string
	}
}

func TestListSnapshots(t *testing.T) {
	for _, name := range []string{"snapshots", "up39snapshots"} {
		d := parse[snapshotDoc](t, ok(t, append([]string{"subvolume"}, on(t, "list-snapshots", name, "--json", "/vol")...)...))
		if d.QueryRoot.Subvol != 2 || d.QueryRoot.Snapshot != 4294967286 || d.QueryRoot.Path != "/vol" || len(d.Nodes) != 11 {
			t.Fatalf("%s: list-snapshots --json /vol = %+v", name, d)
		}
		index := map[uint32]int{}
		for i, n := range d.Nodes {
			index[n.ID] = i
			if (n.Subvol == 0) != (n.Path == "") || (len(n.Children) == 0) != (n.Subvol != 0) {
				t.Errorf("%s: node %+v", name, n)
			}
			if p, known := index[n.Parent]; n.Parent != 0 && (!known || !slices.Contains(d.Nodes[p].Children, n.ID)) {
				t.Errorf("%s: node %d comes before its parent %d", name, n.ID, n.Parent)
			}
			if n.Size == nil || *n.Size != *n.Sectors*512 || (n.NrKeys != nil) != (name == "up39snapshots" && n.ID != 4294967292) {
				t.Errorf("%s: sizes of node %+v", name, n)
			}
		}
		if root := d.Nodes[0]; root.Parent != 0 || *root.Size < 18<<20 {
			t.Errorf("%s: root %+v, want most of the data", name, root)
		}
	}
	d := parse[snapshotDoc](t, ok(t, append([]string{"subvolume"}, on(t, "list-snapshots", "snapshots", "--json")...)...))
	if len(d.Nodes) != 1 || d.Nodes[0].Path != "/" {
		t.Errorf("list-snapshots of the root = %+v, want one node", d.Nodes)
	}
	d = parse[snapshotDoc](t, ok(t, append([]string{"subvolume"}, on(t, "list-snapshots", "snapshots", "--json", "-R", "-f")...)...))
	if len(d.Nodes) != 9 {
		t.Errorf("list-snapshots -R -f: %d nodes, want those of 9 subvolumes", len(d.Nodes))
	}
	want := `Path                       ID    Own   Meta  Keys  Total  Flags
-                  4294967294  20.0M   221K  2498  20.0M  -
  -                4294967292     0B      -     -  20.0M  -
    -              4294967290     0B  20.9K   437  20.0M  -
      /vol         4294967286     0B  34.7K   247  20.0M  -
`
	if got := ok(t, append([]string{"subvolume"}, on(t, "list-snapshots", "up39snapshots", "/vol")...)...); !strings.HasPrefix(got, want) {
		t.Errorf("list-snapshots up39snapshots /vol =\n%swant first\n%s", got, want)
	}
	if got := ok(t, append([]string{"subvolume"}, on(t, "list-snapshots", "snapshots", "--readonly", "/vol")...)...); !strings.Contains(got, "/snap-ro") || strings.Contains(got, "/snap1") {
		t.Errorf("list-snapshots --readonly = %q", got)
	}
}
