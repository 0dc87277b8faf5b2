package cli_test

import (
	"slices"
	"strings"
	"testing"
)

// TestListJournal compares whole journals with what tools 1.13 printed of them.
func TestListJournal(t *testing.T) {
	t.Setenv("TZ", "UTC")
	for _, name := range []string{"replicas2", "crash"} {
		same(t, name, ok(t, on(t, "list_journal", name, "-a")...), sections(golden(t, name+".journal.zst"))[""])
	}
}

// journalDoc is an entry of list_journal --json.
type journalDoc struct {
	Seq, LastSeq uint64
	Flush        bool
	Sectors      int64
	Places       []struct{ Dev, Ring, Offset, Sector int }
	Items        []struct {
		Type, Btree, Text string
		Level             int
		Keys              []struct {
			Type string
			Pos  struct{ Inode, Offset uint64 }
		}
	}
}

func journalOf(t *testing.T, name string, args ...string) []journalDoc {
	t.Helper()
	return parseLines[journalDoc](t, ok(t, on(t, "list_journal", name, append([]string{"--json"}, args...)...)...))
}

func seqs(l []journalDoc) []uint64 {
	var s []uint64
	for _, e := range l {
		s = append(s, e.Seq)
	}
	return s
}

func TestListJournalEntries(t *testing.T) {
	// After a clean shutdown one entry matters; a crash leaves a window.
	if got := seqs(journalOf(t, "plain")); !slices.Equal(got, []uint64{117}) {
		t.Errorf("list_journal plain = entries %d, want 117", got)
	}
	if got := seqs(journalOf(t, "crash")); len(got) != 13 || got[0] != 108 || got[12] != 120 {
		t.Errorf("list_journal crash = entries %d, want 108 to 120", got)
	}
	all := journalOf(t, "crash", "-a", "-V", "false")
	if len(all) != 22 || all[0].Seq != 99 {
		t.Errorf("list_journal -a crash: %d entries from %d, want 22 from 99", len(all), all[0].Seq)
	}
	if got := seqs(journalOf(t, "crash", "--compat=1.39")); len(got) != 22 {
		t.Errorf("list_journal --compat=1.39 crash: %d entries, want 22: none is missing", len(got))
	}
	if got := seqs(journalOf(t, "crash", "-a", "-n", "2")); !slices.Equal(got, []uint64{119, 120}) {
		t.Errorf("list_journal -n 2 = entries %d, want 119 and 120", got)
	}
	if got := seqs(journalOf(t, "crash", "-s", "100..102")); !slices.Equal(got, []uint64{100, 101, 102}) {
		t.Errorf("list_journal -s 100..102 = entries %d", got)
	}
	for _, e := range journalOf(t, "crash", "-a", "-F", "-H") {
		if !e.Flush || len(e.Items) != 0 {
			t.Errorf("list_journal -F -H: entry %d, flush %v, %d items, want flush and none", e.Seq, e.Flush, len(e.Items))
		}
	}
	for _, e := range journalOf(t, "replicas2", "-H", "-a") {
		if len(e.Places) != 2 || e.Places[0].Dev != 0 || e.Places[1].Dev != 1 || e.Places[0].Sector == 0 {
			t.Errorf("entry %d of replicas2 stands at %+v, want both members", e.Seq, e.Places)
		}
	}
	if r := run(on(t, "list_journal", "crash", "-H", "-a", "--compat=1.39")...); !strings.Contains(r.out, "\n  bytes           ") || !strings.Contains(r.out, "\n  sectors         ") {
		t.Errorf("list_journal --compat=1.39 = %.200q, want the sizes of entries", r.out)
	}
}

func TestListJournalFilters(t *testing.T) {
	count := func(args ...string) (items, logs int, btrees map[string]int, names map[string]int) {
		btrees, names = map[string]int{}, map[string]int{}
		for _, e := range journalOf(t, "crash", append([]string{"-a"}, args...)...) {
			for _, it := range e.Items {
				items++
				if it.Type == "log" {
					logs++
					names[it.Text]++
				}
				if len(it.Keys) > 0 {
					btrees[it.Btree]++
				}
			}
		}
		return items, logs, btrees, names
	}
	_, _, all, names := count()
	if all["alloc"] == 0 || all["inodes"] == 0 || names["bch2_rename2"] == 0 {
		t.Fatalf("the journal has keys of %v, transactions %v", all, names)
	}
	if _, logs, b, _ := count("-b", "inodes,dirents"); logs != 0 || len(b) != 2 || b["inodes"] != all["inodes"] {
		t.Errorf("-b inodes,dirents: %d log items, keys of %v", logs, b)
	}
	if _, logs, b, _ := count("-b", "-alloc,inodes", "-l"); logs == 0 || b["alloc"]+b["inodes"] != 0 || b["dirents"] != all["dirents"] {
		t.Errorf("-b -alloc,inodes -l: %d log items, keys of %v", logs, b)
	}
	if _, _, _, n := count("-t", "bch2_rename2"); len(n) != 1 || n["bch2_rename2"] != names["bch2_rename2"] {
		t.Errorf("-t bch2_rename2: transactions %v", n)
	}
	if _, _, _, n := count("-t", "-bch2_*,__bch2_*"); len(n) == 0 || n["bch2_rename2"]+n["__bch2_create"] != 0 {
		t.Errorf("-t -bch2_*,__bch2_*: transactions %v", n)
	}
	// Transactions that change a name in the root directory also change inodes.
	if _, _, b, n := count("-k", "dirents:4096:0-dirents:4096:U64_MAX"); len(n) == 0 || b["inodes"] == 0 || b["dirents"] == 0 || b["dirents"] == all["dirents"] {
		t.Errorf("-k dirents of the root: transactions %v, keys of %v of %v", n, b, all)
	}
	if items, _, _, _ := count("-D"); items != 22 {
		t.Errorf("-D: %d items, want one for each of 22 entries", items)
	}
	if items, _, _, _ := count("-L"); items != 0 {
		t.Errorf("-L: %d items, want none: no transaction has messages", items)
	}
	got := ok(t, on(t, "list_journal", "crash", "-s", "101", "-V", "false", "-O")...)
	if strings.Contains(got, "mode=") || !strings.Contains(got, "\n  offset 0\n") || !strings.Contains(got, "btree_keys: btree=inodes l=0 u64s 18 type inode_v3") {
		t.Errorf("-V false -O = %.300q", got)
	}
}
