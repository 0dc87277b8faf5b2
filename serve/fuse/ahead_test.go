//go:build (linux && !(386 || arm || mips || mipsle)) || darwin || freebsd

package fuse

import (
	"math/rand/v2"
	"testing"
)

// reader plays a kernel that reads files: it asks for those that were not read
// ahead.
type reader struct {
	a      ahead
	cached map[uint64]bool
	asked  int // requests
	ahead  int // files read ahead
	most   int // bytes read ahead at a time
}

func (r *reader) list(from, n, size int) {
	for i := from; i < from+n; i++ {
		r.a.listed(sibling{nr: uint64(i + 10), size: size})
	}
}

func (r *reader) read(i int) {
	nr := uint64(i + 10)
	if r.cached[nr] {
		return
	}
	r.asked++
	if r.cached == nil {
		r.cached = map[uint64]bool{}
	}
	r.cached[nr] = true
	bytes := 0
	for _, s := range r.a.asks(nr) {
		r.cached[s.nr] = true
		r.ahead++
		bytes += s.size
	}
	r.most = max(r.most, bytes)
}

// TestAheadInOrder: most files of a tree are not asked for.
func TestAheadInOrder(t *testing.T) {
	var r reader
	for d := range 40 { // directories of 30 files, listed one after the other
		r.list(d*30, 30, 8<<10)
		for i := range 30 {
			r.read(d*30 + i)
		}
	}
	if r.asked > 1200/5 {
		t.Errorf("%d requests for 1200 files in order, want at most %d", r.asked, 1200/5)
	}
	if r.asked+r.ahead != 1200 {
		t.Errorf("%d files asked for and %d read ahead, want 1200 together: none twice", r.asked, r.ahead)
	}
}

// TestAheadBigDirectory: the farther it goes the less is asked for.
func TestAheadBigDirectory(t *testing.T) {
	var r reader
	r.list(0, 4000, 4<<10)
	for i := range 4000 {
		r.read(i)
	}
	if r.asked > 4000/20 {
		t.Errorf("%d requests for 4000 files in order, want at most %d", r.asked, 4000/20)
	}
}

// TestAheadBytes: big files are not read ahead by the dozen.
func TestAheadBytes(t *testing.T) {
	var r reader
	r.list(0, 1000, aheadFile)
	for i := range 1000 {
		r.read(i)
	}
	if limit := aheadBytes + aheadFile; r.most > limit || r.most == 0 {
		t.Errorf("%d bytes read ahead at a time, want at most %d, and some", r.most, limit)
	}
	var big reader
	big.list(0, 100, aheadFile+1)
	big.list(0, 100, 0)
	for i := range 100 {
		big.read(i)
	}
	if big.ahead != 0 {
		t.Errorf("%d files read ahead that are too big, or empty; want none", big.ahead)
	}
}

// TestAheadLeavesOthersAlone: programs that do not go by the listing read what
// they read.
func TestAheadLeavesOthersAlone(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	for what, next := range map[string]func(i int) int{
		"every tenth file": func(i int) int { return i * 10 % 3990 },
		"backwards":        func(i int) int { return 3999 - i },
		"at random":        func(int) int { return rng.IntN(4000) },
		"two by two":       func(i int) int { return i/2*50%3990 + i%2 },
	} {
		var r reader
		r.list(0, 4000, 4<<10)
		for i := range 390 {
			r.read(next(i))
		}
		if r.ahead > 40 {
			t.Errorf("%s: %d files read ahead for nothing, want 40 at most", what, r.ahead)
		}
	}
	var r reader
	r.read(5) // never listed
	if r.ahead != 0 {
		t.Errorf("%d files read ahead of one that was not listed", r.ahead)
	}
}

// TestAheadForgets: what is remembered of listings is bounded.
func TestAheadForgets(t *testing.T) {
	var r reader
	r.list(0, 3*aheadKept, 100)
	r.list(2*aheadKept, aheadKept, 100) // again
	if n := len(r.a.at); n > aheadKept {
		t.Errorf("%d files are remembered, want at most %d", n, aheadKept)
	}
	for i := range 10 { // long gone
		r.read(i)
	}
	if r.ahead != 0 {
		t.Errorf("%d files read ahead of forgotten ones", r.ahead)
	}
	for i := 2 * aheadKept; i < 2*aheadKept+100; i++ {
		r.read(i)
	}
	if r.ahead == 0 {
		t.Error("nothing read ahead in the listing that is remembered")
	}
}
