package bcachefs_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"testing"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// damaged lays random damage over the parts of devices that hold something and
// says what it did.
func damaged(r *rand.Rand, devs []block.Reader, n int) ([]block.Reader, []string) {
	var out []block.Reader
	var over []*block.Overlay
	for _, d := range devs {
		o := block.NewOverlay(d)
		over = append(over, o)
		out = append(out, o)
	}
	var log []string
	for len(log) < n {
		i := r.IntN(len(devs))
		off := r.Int64N(devs[i].Size()/4096) * 4096
		b := make([]byte, 4096)
		if _, err := devs[i].ReadAt(b, off); err != nil || strings.Trim(string(b), "\x00") == "" {
			continue
		}
		var what string
		switch r.IntN(4) {
		case 0:
			at := r.IntN(len(b))
			b[at] ^= 1 << r.IntN(8)
			what = fmt.Sprintf("bit flipped at byte %d", at)
		case 1:
			at := r.IntN(len(b))
			b[at] ^= byte(1 + r.IntN(255))
			what = fmt.Sprintf("byte changed at %d", at)
		case 2:
			clear(b)
			what = "4 KiB zeroed"
		case 3:
			for j := range b {
				b[j] = byte(r.Uint32())
			}
			what = "4 KiB of noise"
		}
		if _, err := over[i].WriteAt(b, off); err != nil {
			panic(err)
		}
		log = append(log, fmt.Sprintf("member %d sector %d: %s", i, off/512, what))
	}
	return out, log
}

// checkDamaged opens a damaged volume in salvage mode and walks all of it.
// Nothing may differ from the intact volume without an error or a suspicion
// that covers it. It returns how many files are intact, of how many.
func checkDamaged(t *testing.T, name string, devs []block.Reader, log []string, want []testvol.Entry) (intact, total int) {
	ctx := context.Background()
	var mu sync.Mutex
	var warnings []string
	o := options(t, name)
	o.Degraded, o.Salvage = bcachefs.DegradedVery, true
	o.Warn = func(err error) { mu.Lock(); warnings = append(warnings, err.Error()); mu.Unlock() }
	v, err := bcachefs.Open(ctx, devs, o)
	if err != nil {
		return 0, len(want)
	}
	got := map[string]testvol.Entry{}
	readDirErr := map[string]bool{}
	for _, e := range manifest(t, v.Root()) {
		if e.ReadDirErr != "" {
			readDirErr[e.Path] = true
		} else {
			got[e.Path] = e
		}
	}
	// covered: an error or a suspicion about the file or a directory above it
	// explains a difference.
	covered := func(p string, ino uint64) bool {
		if ino != 0 && v.Files().Suspect(bcachefs.NodeID{Inode: ino}) != nil {
			return true
		}
		for d := p; ; d = path.Dir(d) {
			e, ok := got[d]
			if readDirErr[d] || ok && (e.StatErr != "" || v.Files().Suspect(bcachefs.NodeID{Inode: e.Ino}) != nil) {
				return true
			}
			if d == "." {
				return false
			}
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for _, w := range warnings {
		if strings.Contains(w, "journal") {
			// What the journal held and lost can be anywhere; the volume says so.
			return 0, len(want)
		}
	}
	quirks := testvol.QuirksOf(name)
	for _, e := range want {
		g, ok := got[e.Path]
		d := []string{"missing"}
		if ok {
			d = testvol.Diff([]testvol.Entry{e}, []testvol.Entry{g}, quirks)
		}
		if len(d) == 0 {
			intact++
			continue
		}
		if ok && (g.StatErr != "" || strings.HasPrefix(g.SHA256, "ERR:") || g.TargetErr != "" || strings.Contains(g.String(), "ERR:")) {
			continue
		}
		if !covered(e.Path, g.Ino) {
			t.Errorf("%s: %s: wrong without an error: %s\ndamage:\n\t%s\nwarnings:\n\t%s", name, e.Path, d[0], strings.Join(log, "\n\t"), strings.Join(warnings, "\n\t"))
		}
	}
	return intact, len(want)
}

// unverified names volumes (or files) whose bytes carry no checksum.
func unverified(name string) bool {
	return strings.Contains(name, "nocsum") || strings.Contains(name, "nocow")
}

func damageRuns(t *testing.T, set *testvol.Set, names []string, seeds int) {
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kind := "manifest"
			for _, k := range set.Kinds(name) {
				if k == "manifest-recovered" {
					kind = k
				}
			}
			want := set.Manifest(t, name, kind)
			if unverified(name) {
				want = nil
			}
			sum, all := 0, 0
			for seed := range uint64(seeds) {
				r := rand.New(rand.NewPCG(seed, 42))
				devs, log := damaged(r, set.Load(t, name), 1+r.IntN(6))
				intact, total := checkDamaged(t, name, devs, log, want)
				sum, all = sum+intact, all+total
			}
			t.Logf("%s: %d of %d files intact over %d runs", name, sum, all, seeds)
			// Of a handful of files one leaf has them all.
			if all >= 100 && sum*10 < all*7 || all > 0 && sum == 0 {
				t.Errorf("%s: only %d of %d files survived small damage", name, sum, all)
			}
		})
	}
}

func TestRandomDamage(t *testing.T) {
	set := testvol.Small(t)
	damageRuns(t, set, []string{"plain", "zstd", "replicas2", "snapshots", "enczstdwide", "v39ec", "nocsum"}, 4)
}
