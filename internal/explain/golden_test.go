package explain

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/gobcachefs/gobcachefs/internal/testvol"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// TestGolden prints keys that no volume at hand has. The text is what tools 1.13
// printed of them after they had been put into a copy of the volume plain.
func TestGolden(t *testing.T) {
	v := open(t, testvol.Small(t), "plain", Style1_13)
	v.env.DevNames = []string{"p13.img"}
	v.env.Stale = func(p ondisk.Ptr) bool { return p.Offset == 10752 && p.Gen == 0 } // gen of the bucket: 1
	b, err := os.ReadFile("testdata/keys-1.13.txt")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, c := range strings.Split(string(b), "key ")[1:] {
		lines := strings.Split(strings.TrimRight(c, "\n"), "\n")
		bt, kv := parseKey(t, lines[0])
		var want []string
		for _, l := range lines[1:] {
			want = append(want, strings.TrimPrefix(strings.TrimPrefix(l, ">"), " "))
		}
		compare(t, lines[0], sections(strings.Join(want, "\n"))[""], Key(nil, v.env, bt, 0, kv), Style1_13)
		if _, err := json.Marshal(KeyJSON(v.env, bt, 0, kv)); err != nil {
			t.Errorf("JSON of %s: %v", lines[0], err)
		}
		n++
	}
	if n < 60 {
		t.Errorf("%d keys, want at least 60", n)
	}
}

// parseKey reads "btree type position size value".
func parseKey(t *testing.T, line string) (ondisk.BtreeID, ondisk.KV) {
	t.Helper()
	f := strings.Fields(line)
	b, ok := ondisk.ParseBtreeID(f[0])
	if !ok {
		t.Fatalf("btree in %q", line)
	}
	var kv ondisk.KV
	for kv.Type = 0; kv.Type.String() != f[1]; kv.Type++ {
		if kv.Type == ondisk.NrKeyTypes {
			t.Fatalf("key type in %q", line)
		}
	}
	var err error
	if kv.Pos, err = ondisk.ParsePos(f[2]); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(f[3]), &kv.Size); err != nil {
		t.Fatal(err)
	}
	if len(f) > 4 {
		if kv.Val, err = hex.DecodeString(f[4]); err != nil {
			t.Fatal(err)
		}
	}
	if b == ondisk.BtreeAccounting {
		kv.Version.Lo = 77
	}
	return b, kv
}
