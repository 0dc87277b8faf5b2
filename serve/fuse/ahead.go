//go:build (linux && !(386 || arm || mips || mipsle)) || darwin || freebsd

package fuse

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/gobcachefs/gobcachefs"
)

// Programs that read a whole tree read the files of a directory in the order in
// which it lists them. The kernel reads ahead in a file, not from one to the next,
// so that each small file costs it a request, and the request a wait for the
// device. Where such a program is at work the files that follow are read here,
// and handed to the kernel's cache before it asks.

const (
	// aheadFile is the size of the largest file that is read ahead.
	aheadFile = 128 << 10
	// aheadBytes bounds what is read ahead at a time.
	aheadBytes = 2 << 20
	// aheadFirst and aheadMost are how many files are read ahead: few at first.
	aheadFirst, aheadMost = 8, 64
	// aheadRun is how many files must have been read in the order of the listing
	// before those that follow are. Between two of them aheadGap may be left out.
	aheadRun, aheadGap = 3, 2
	// aheadKept is how many files of the last listings are remembered.
	aheadKept = 4096
)

// sibling is a file of a listing.
type sibling struct {
	nr   uint64 // node id, 0 for none
	id   bcachefs.NodeID
	size int
}

// ahead decides which files to read ahead. Safe for concurrent use; nobody waits
// for it.
type ahead struct {
	mu    sync.Mutex
	kept  []sibling      // a ring: file number n is at n % aheadKept
	at    map[uint64]int // node id to file number
	files int            // how many were listed
	last  int            // number of the last file whose start was asked for
	run   int            // how many were asked for in order
	next  int            // number of the first file that was not read ahead
	batch int            // how many files the last batch had

	jobs   chan sibling
	busy   sync.WaitGroup
	stored atomic.Int64 // files handed to the kernel
}

// listed takes in a file of a listing.
func (a *ahead) listed(s sibling) {
	if s.size == 0 || s.size > aheadFile {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.at == nil {
		a.at = make(map[uint64]int, aheadKept)
		a.kept = make([]sibling, aheadKept)
	}
	slot := &a.kept[a.files%aheadKept]
	if n, ok := a.at[slot.nr]; ok && n == a.files-aheadKept {
		delete(a.at, slot.nr)
	}
	*slot = s
	a.at[s.nr] = a.files
	a.files++
}

// asks takes in that the kernel asked for the start of a file, and gives the
// files to read ahead. One in the middle is left out: when the kernel asks for
// it, it is time for those that follow.
func (a *ahead) asks(nr uint64) []sibling {
	a.mu.Lock()
	defer a.mu.Unlock()
	n, ok := a.at[nr]
	if !ok {
		return nil
	}
	// The kernel does not ask for what was read ahead for it.
	near := n > a.last && n <= max(a.last, a.next-1)+1+aheadGap
	a.last = n
	if !near {
		a.run, a.batch, a.next = 1, 0, n+1
		return nil
	}
	if a.run++; a.run < aheadRun {
		return nil
	}
	a.batch = min(max(aheadFirst, a.batch*2), aheadMost)
	from, to := max(a.next, n+1), min(n+1+a.batch, a.files)
	var out []sibling
	bytes, middle := 0, from+(to-from)/2
	for a.next = from; a.next < to && bytes < aheadBytes; a.next++ {
		if s := a.kept[a.next%aheadKept]; a.next != middle {
			out = append(out, s)
			bytes += s.size
		}
	}
	return out
}

// start makes the goroutines that read ahead, until ctx ends. load reads a file
// whole, store hands it to the kernel.
func (a *ahead) start(ctx context.Context, load func(sibling, []byte) bool, store func(nr uint64, data []byte) bool) {
	a.jobs = make(chan sibling, 2*aheadMost)
	for range runtime.GOMAXPROCS(0) {
		a.busy.Go(func() {
			buf := make([]byte, aheadFile)
			for {
				select {
				case <-ctx.Done():
					return
				case s := <-a.jobs:
					if load(s, buf[:s.size]) && store(s.nr, buf[:s.size]) {
						a.stored.Add(1)
					}
				}
			}
		})
	}
}

// wait returns when nothing is read ahead any more, after ctx of start has ended.
func (a *ahead) wait() { a.busy.Wait() }

// read is called when the kernel asks for the start of a file.
func (a *ahead) read(nr uint64) {
	if a.jobs == nil {
		return
	}
	for _, s := range a.asks(nr) {
		select {
		case a.jobs <- s:
		default:
			return // behind already: reading less far ahead is all there is to lose
		}
	}
}
