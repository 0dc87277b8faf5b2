package block

import "sync"

// Small reads that fall close together, as of the small files of a directory,
// cost a seek or a round trip each. When the third of them in a short while
// falls into the same stretch of the device, the system is told to read all of
// the stretch: the rest of them find it in memory.

const (
	// clusterShift makes stretches of 1 MiB.
	clusterShift = 20
	// clusterSmall is the largest read that counts as small.
	clusterSmall = 128 << 10
	// clusterHits is how many of the last clusterRecent small reads must have
	// been in a stretch before. Reads at random in a gigabyte get there once in
	// ten thousand.
	clusterHits   = 2
	clusterRecent = 16
	// clusterDone is how many stretches are remembered as read.
	clusterDone = 64
)

// clusters finds such stretches. The zero value is ready; safe for concurrent
// use.
type clusters struct {
	mu           sync.Mutex
	recent       [clusterRecent]int64 // numbers of stretches, plus one
	done         [clusterDone]int64
	next, nextDo int
}

// note takes in a read of n bytes at off. ok says that the stretch of n2 bytes
// at off2 should be read.
func (c *clusters) note(off int64, n int) (off2, n2 int64, ok bool) {
	if n > clusterSmall {
		return 0, 0, false
	}
	at := off>>clusterShift + 1
	c.mu.Lock()
	defer c.mu.Unlock()
	hits := 0
	for _, r := range c.recent {
		if r == at {
			hits++
		}
	}
	c.recent[c.next] = at
	c.next = (c.next + 1) % clusterRecent
	if hits < clusterHits {
		return 0, 0, false
	}
	for _, d := range c.done {
		if d == at {
			return 0, 0, false
		}
	}
	c.done[c.nextDo] = at
	c.nextDo = (c.nextDo + 1) % clusterDone
	return (at - 1) << clusterShift, 1 << clusterShift, true
}
