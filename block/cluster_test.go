package block

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

func TestClusters(t *testing.T) {
	var c clusters
	at := func(off int64, n int) (int64, bool) {
		from, size, ok := c.note(off, n)
		if ok && size != 1<<clusterShift {
			t.Errorf("note(%d, %d) asks for %d bytes, want %d", off, n, size, 1<<clusterShift)
		}
		return from, ok
	}
	const m = 1 << 20
	for i, c := range []struct {
		off  int64
		n    int
		want bool
	}{
		{5*m + 100, 4096, false}, {5*m + 90000, 4096, false}, {5*m + 30000, 4096, true},
		{5*m + 1, 4096, false},                                                    // asked for already
		{7 * m, 1 << 20, false}, {7 * m, 1 << 20, false}, {7 * m, 1 << 20, false}, // not small
		{9 * m, 512, false}, {10 * m, 512, false}, {9 * m, 512, false}, {10*m + 7, 512, false}, {9*m + m - 512, 512, true}, {10*m - 1, 1, false},
		{0, 512, false}, {0, 512, false}, {0, 512, true},
	} {
		from, ok := at(c.off, c.n)
		if ok != c.want || ok && from != c.off>>20<<20 {
			t.Errorf("read %d: note(%d, %d) = %d, %v, want %v", i, c.off, c.n, from, ok, c.want)
		}
	}
}

// TestClustersLeaveRandomReadsAlone: reads at random hardly ever ask for more.
func TestClustersLeaveRandomReadsAlone(t *testing.T) {
	var c clusters
	r := rand.New(rand.NewPCG(1, 1))
	asked := 0
	for range 100_000 {
		if _, _, ok := c.note(r.Int64N(1<<30)&^4095, 4096); ok {
			asked++
		}
	}
	if asked > 50 {
		t.Errorf("%d of 100000 random reads of a gigabyte asked for a stretch, want at most 50", asked)
	}
}

// TestClusteredReads: what a file gives does not depend on what was read ahead,
// also at its end.
func TestClusteredReads(t *testing.T) {
	want := make([]byte, 2<<20+12345)
	for i := range want {
		want[i] = byte(i * 7 >> 3)
	}
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, want, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for off := int64(0); off+1000 < int64(len(want)); off += 50_000 {
		got := make([]byte, 1000)
		if _, err := r.ReadAt(got, off); err != nil || string(got) != string(want[off:off+1000]) {
			t.Errorf("1000 bytes at %d: %v, or they are others", off, err)
		}
	}
}
