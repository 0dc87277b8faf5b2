package explain

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

func gunzip(tb testing.TB, path string) []byte {
	tb.Helper()
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// fixtureSuper is the primary superblock of the first device of a volume; see
// ondisk/testdata.
func fixtureSuper(tb testing.TB, name string) *ondisk.Superblock {
	tb.Helper()
	p := filepath.Join("..", "..", "ondisk", "testdata", name+".sb.gz")
	if _, err := os.Stat(p); err != nil {
		p = filepath.Join("..", "..", "ondisk", "testdata", name+".0.sb.gz")
	}
	sb, err := ondisk.DecodeSuperblock(gunzip(tb, p)[ondisk.SBLayoutSize:])
	if err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	return sb
}

const volumesFields = "ext,members_v2,crypt,clean,replicas_v0,journal_v2,downgrade,errors,counters"

// What the maker's tools print for every volume, byte for byte.
func TestShowSuperVolumes(t *testing.T) {
	l, err := filepath.Glob("testdata/*.show-super.gz")
	if err != nil || len(l) != 40 {
		t.Fatalf("%d texts, %v, want 40", len(l), err)
	}
	fields, _, err := ParseSuperFields(volumesFields)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range l {
		name := strings.TrimSuffix(filepath.Base(f), ".show-super.gz")
		want := string(gunzip(t, f))
		var b bytes.Buffer
		err := ShowSuper(&b, fixtureSuper(t, name), ShowSuperOpts{Fields: fields, Location: time.UTC, DevKind: "(reg file)", DevName: "0.img"})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(strings.SplitAfter(want, "\n"), strings.SplitAfter(b.String(), "\n")); d != "" {
			t.Errorf("%s (-tools +ours):\n%s", name, d)
		}
	}
}

// Superblocks made up to hold what no volume does, printed by tools 1.13 with
// "-f all -l".
func TestShowSuperMade(t *testing.T) {
	l, err := filepath.Glob("testdata/made-*.sb.gz")
	if err != nil || len(l) != 22 {
		t.Fatalf("%d superblocks, %v, want 22", len(l), err)
	}
	style := Style1_13
	for _, f := range l {
		name := strings.TrimSuffix(filepath.Base(f), ".sb.gz")
		sb, err := ondisk.DecodeSuperblock(gunzip(t, f))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := string(gunzip(t, "testdata/"+name+".all.gz"))
		var b bytes.Buffer
		if err := ShowSuper(&b, sb, ShowSuperOpts{Style: &style, All: true, Layout: true, Location: time.UTC, DevKind: "(reg file)"}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(strings.SplitAfter(want, "\n"), strings.SplitAfter(b.String(), "\n")); d != "" {
			t.Errorf("%s (-tools +ours):\n%s", name, d)
		}
	}
}

// Single sections, as -F prints them.
func TestShowSuperOnly(t *testing.T) {
	sb := fixtureSuper(t, "tiers")
	text := string(gunzip(t, "testdata/tiers-only.txt.gz"))
	cases := strings.Split(text, "== tiers ")[1:]
	if len(cases) != 9 {
		t.Fatalf("%d sections, want 9", len(cases))
	}
	for _, c := range cases {
		field, want, _ := strings.Cut(c, "\n")
		fields, _, err := ParseSuperFields(field)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := ShowSuper(&b, sb, ShowSuperOpts{Fields: fields, Only: true, Location: time.UTC}); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, b.String()); d != "" {
			t.Errorf("%s (-tools +ours):\n%s", field, d)
		}
	}
}
