package cli_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestListDamaged: a node that cannot be read is an error line, the nodes beside it
// are listed, and the exit code is 1.
func TestListDamaged(t *testing.T) {
	// The second leaf of inodes is in bucket 70 of 128 KiB; its first record has keys.
	path := patched(t, "plain", func(f *os.File) { write(t, f, 70*131072+300, []byte("XXXX")) })
	good := ok(t, on(t, "list", "plain", "-b", "inodes")...)
	r := run("list", "-b", "inodes", path)
	if r.code != 1 || !strings.Contains(r.err, "bset_bad_csum") || !strings.Contains(r.err, "btree inodes, keys 0:4613:0..SPOS_MAX cannot be read") {
		t.Errorf("list of a damaged leaf: exit code %d, stderr %q", r.code, r.err)
	}
	if n := len(r.out); n == 0 || !strings.HasPrefix(good, r.out) || n == len(good) {
		t.Errorf("list of a damaged leaf: %d bytes, want the first part of %d", n, len(good))
	}
	if r := run("list", "-b", "inodes", "-o", "salvage", path); !strings.Contains(r.err, "bset_bad_csum") || len(r.out) <= len(good)/2 {
		t.Errorf("list -o salvage: stderr %q, %d bytes", r.err, len(r.out))
	}
	for _, mode := range []string{"nodes", "formats"} {
		r := run("list", "-b", "inodes", "-m", mode, path)
		if r.code != 1 || r.err == "" || strings.Count(r.out, "seq ") != 2 {
			t.Errorf("list -m %s of a damaged leaf: exit code %d, stderr %q, stdout %q", mode, r.code, r.err, r.out)
		}
	}
	if r := run("list", "-b", "dirents", path); r.code != 0 {
		t.Errorf("list of another btree: exit code %d, stderr %q", r.code, r.err)
	}
	r = run("list", "-b", "inodes", "--json", path)
	if r.code != 1 || len(parseLines[map[string]any](t, r.out)) == 0 {
		t.Errorf("list --json of a damaged leaf: exit code %d", r.code)
	}
}

// TestUsageDamaged: counters that cannot be read are said to be missing.
func TestUsageDamaged(t *testing.T) {
	// The accounting btree is one node in bucket 39.
	path := patched(t, "plain", func(f *os.File) { write(t, f, 39*131072, make([]byte, 65536)) })
	r := run("fs", "usage", path)
	if r.code != 1 || !strings.Contains(r.out, "the numbers are too low") || !strings.Contains(r.err, "btree accounting") {
		t.Errorf("fs usage: exit code %d, stdout %q, stderr %q", r.code, r.out, r.err)
	}
}

// TestJournalDamaged: an entry with a bad checksum is listed as one, without items.
func TestJournalDamaged(t *testing.T) {
	// Entry 117 of plain is at sector 7936.
	path := patched(t, "plain", func(f *os.File) { write(t, f, 7936*512+100, []byte("XXXX")) })
	r := run("list_journal", "-s", "117", path)
	if r.code != 1 || !strings.Contains(r.out, "journal entry     117\n") || !strings.Contains(r.out, "bad checksum") || strings.Contains(r.out, "btree_root") || r.err == "" {
		t.Errorf("list_journal of a damaged entry: exit code %d, stdout %q, stderr %q", r.code, r.out, r.err)
	}
}

// TestListEncrypted: without the key there is nothing to list.
func TestListEncrypted(t *testing.T) {
	dev := volume(t, "enczstdwide")
	for _, cmd := range []string{"list", "list_journal"} {
		if r := run(cmd, dev[2]); r.code != 1 || !strings.Contains(r.err, "encrypted") {
			t.Errorf("%s without a key: exit code %d, stderr %q", cmd, r.code, r.err)
		}
		if got := ok(t, append([]string{cmd}, dev...)...); len(got) < 1000 {
			t.Errorf("%s with a passphrase = %q", cmd, got)
		}
	}
	if r := run("dump", "-o", filepath.Join(t.TempDir(), "x"), dev[2]); r.code != 1 || !strings.Contains(r.err, "encrypted") {
		t.Errorf("dump without a key: exit code %d, stderr %q", r.code, r.err)
	}
}

// TestListInodeCount: there are as many inodes as the volume counts.
func TestListInodeCount(t *testing.T) {
	for _, name := range []string{"plain", "snapshots", "crash", "v39zstd", "up39reflink"} {
		n := 0
		for l := range strings.Lines(ok(t, on(t, "list", name, "-b", "inodes")...)) {
			if strings.HasPrefix(l, "u64s ") && strings.Contains(l, " type inode_v3 ") {
				n++
			}
		}
		u := parse[usageDoc](t, ok(t, append([]string{"fs"}, on(t, "usage", name, "--json")...)...))
		if int(u.Inodes) != n {
			t.Errorf("%s: %d inode keys, counted %s", name, n, strconv.FormatInt(u.Inodes, 10))
		}
	}
	all := ok(t, on(t, "list", "v39casefold", "-b", "inodes", "--json")...)
	if lines := strings.Count(all, "\n"); lines < 5 || !slices.Contains([]byte(all), '{') {
		t.Errorf("list --json v39casefold: %d lines", lines)
	}
}
