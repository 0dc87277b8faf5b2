package check

import (
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// expected is what the check finds in each test volume, as the real
// implementations left them. Where that is not nothing, docs/check.md says why.
var expected = map[string]string{
	"aclquota":       "",
	"bgcomp":         "",
	"crash":          "note journal_unclean×1",
	"crash2dev":      "note journal_unclean×1",
	"crc64":          "",
	"encrypted":      "",
	"enczstdwide":    "",
	"geometry":       "",
	"gzip":           "",
	"lz4":            "",
	"nocow":          "",
	"nocsum":         "",
	"plain":          "",
	"reflink":        "",
	"replicas2":      "",
	"snapshots":      "snapshot_tree_to_missing_subvol×1",
	"stripe3":        "",
	"tiers":          "",
	"up39aclquota":   "note accounting_inum_stale×1 note inode_depth_not_increasing×1",
	"up39nocow":      "note accounting_inum_stale×1 note inode_depth_not_increasing×1",
	"up39plain":      "note accounting_inum_stale×1 note inode_depth_not_increasing×1",
	"up39reflink":    "note accounting_inum_stale×1 note inode_depth_not_increasing×1",
	"up39replicas2":  "note accounting_inum_stale×1 note inode_depth_not_increasing×1",
	"up39snapshots":  "note accounting_inum_stale×1 note inode_depth_not_increasing×1",
	"up39tiers":      "note accounting_inum_stale×1 note inode_depth_not_increasing×1",
	"up39zstd":       "note accounting_inum_stale×1 note inode_depth_not_increasing×1",
	"upc39plain":     "note accounting_inum_stale×1 note inode_depth_not_increasing×1",
	"upc39reflink":   "note accounting_inum_stale×1 note inode_depth_not_increasing×1",
	"upc39snapshots": "note accounting_inum_stale×1 note inode_depth_not_increasing×1",
	"v39casefold":    "",
	"v39crash":       "extent_past_end_of_inode×4 note journal_unclean×1",
	"v39ec":          "deleted_inode_but_clean×179 extent_past_end_of_inode×23",
	"v39ec2p":        "deleted_inode_but_clean×179 extent_past_end_of_inode×23",
	"v39enc":         "deleted_inode_but_clean×33 extent_past_end_of_inode×4",
	"v39image":       "note freespace_not_initialized×1",
	"v39plain":       "deleted_inode_but_clean×179 extent_past_end_of_inode×4",
	"v39repl":        "deleted_inode_but_clean×179 extent_past_end_of_inode×13",
	"v39source":      "",
	"v39zstd":        "deleted_inode_but_clean×179 extent_past_end_of_inode×2",
	"xxhash":         "",
	"zstd":           "",
}

// TestExpected checks every volume of the small set, data and all.
func TestExpected(t *testing.T) {
	set := testvol.Small(t)
	for _, name := range set.Names() {
		checkExpected(t, set, name)
	}
}

// checkExpected checks a volume in one pass, and in many.
func checkExpected(t *testing.T, set *testvol.Set, name string) {
	want, ok := expected[name]
	if !ok {
		t.Errorf("volume %s is not in the table", name)
		return
	}
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		v := openVolume(t, set, name)
		fs, r := v.run(func(o *Options) { o.Data = true })
		if got := show(tally(fs)); got != want {
			t.Errorf("Run(%s) found %q, want %q\n%s", name, got, want, lines(fs))
		}
		if r.Incomplete || r.Passes != 1 || r.Nodes < 10 {
			t.Errorf("Run(%s) = %+v, want all nodes in one pass", name, r)
		}
		if testvol.Encrypted(name) {
			return // making the key takes longer than all the rest
		}
		little, lr := v.run(func(o *Options) { o.Memory, o.Workers = 20_000, 1 })
		if diff := cmp.Diff(lines(fs), lines(little)); diff != "" || lr.Passes < 5 {
			t.Errorf("Run(%s) with little memory, %d passes, finds something else (-want +got):\n%s", name, lr.Passes, diff)
		}
	})
}

// lines are findings a line each, sorted.
func lines(fs []Finding) string {
	var s []string
	for _, f := range fs {
		s = append(s, f.String())
	}
	slices.Sort(s)
	return strings.Join(s, "\n")
}

// TestSameReport: the findings and their order depend on the volume alone.
func TestSameReport(t *testing.T) {
	v := openVolume(t, testvol.Small(t), "v39ec")
	first, _ := v.run(func(o *Options) { o.Workers = 1 })
	for range 4 {
		again, _ := v.run(func(o *Options) { o.Workers = 4 * runtime.NumCPU() })
		if diff := cmp.Diff(first, again); diff != "" {
			t.Fatalf("another run finds something else (-first +again):\n%s", diff)
		}
	}
}
