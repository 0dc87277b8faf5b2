package blocktest

import (
	"errors"
	"io"
	"sync"
	"syscall"

	"github.com/gobcachefs/gobcachefs/block"
)

// Rule makes reads that touch a range of the device go wrong; those of
// faultwrite.go do so with writes and flushes. Make one with EIO, Short, Flip,
// Zero or Gate, and change its fields where needed.
type Rule struct {
	Off int64 // first byte
	N   int64 // bytes; 0 means to the end of the device
	// Skip is how many reads that touch the range pass before the rule acts,
	// Times how many it then acts on; 0 means all.
	Skip, Times int

	on   operation
	do   action
	mask byte
	by   int64 // of a misdirected write
	gate *GateControl
}

// operation is what a rule acts on.
type operation int

const (
	onRead operation = iota
	onWrite
	onFlush
	onDiscard
)

type action int

const (
	doEIO action = iota
	doShort
	doFlip
	doZero
	doGate
	doLose
	doMisdirect
)

// EIO fails reads that touch n bytes at off, as a disk does that cannot read a
// sector: the bytes before it are delivered.
func EIO(off, n int64) Rule { return Rule{Off: off, N: n, do: doEIO} }

// Short ends reads at off with io.ErrUnexpectedEOF, as a device does that was
// truncated since it was opened.
func Short(off, n int64) Rule { return Rule{Off: off, N: n, do: doShort} }

// Flip flips the bits of mask in every byte of the range, and tells nobody.
func Flip(off, n int64, mask byte) Rule { return Rule{Off: off, N: n, do: doFlip, mask: mask} }

// Zero makes the range read as zeros, and tells nobody.
func Zero(off, n int64) Rule { return Rule{Off: off, N: n, do: doZero} }

// Gate holds reads that touch the range until the test lets them go.
func Gate(off, n int64) (Rule, *GateControl) {
	g := &GateControl{entered: make(chan struct{}), open: make(chan struct{})}
	return Rule{Off: off, N: n, do: doGate, gate: g}, g
}

// GateControl is the test's side of a Gate.
type GateControl struct {
	entered  chan struct{}
	open     chan struct{}
	once     sync.Once
	openOnce sync.Once
}

// Entered is closed when the first read waits at the gate.
func (g *GateControl) Entered() <-chan struct{} { return g.entered }

// Open lets all reads pass, now and later.
func (g *GateControl) Open() { g.openOnce.Do(func() { close(g.open) }) }

func (g *GateControl) wait() {
	g.once.Do(func() { close(g.entered) })
	<-g.open
}

// Read is one call of ReadAt.
type Read struct {
	Off int64
	N   int
}

// Fault is a device above another one that fails by rules and counts reads.
// Rules act in the order they were added: first gates, then what the bytes
// are, then errors.
type Fault struct {
	block.Reader
	mu    sync.Mutex
	rules []Rule
	seen  []int // per rule: operations that touched its range
	reads []Read
	bytes int64
	ops   int // of all kinds
	last  int // the device dies when ops gets past it; negative: it does not
}

var _ block.Reader = (*Fault)(nil)

// NewFault makes a device that passes everything through until rules are added.
func NewFault(base block.Reader, rules ...Rule) *Fault {
	f := &Fault{Reader: base, last: -1}
	f.Add(rules...)
	return f
}

// Add adds rules.
func (f *Fault) Add(rules ...Rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = append(f.rules, rules...)
	f.seen = append(f.seen, make([]int, len(rules))...)
}

// Clear removes all rules: the device is well again.
func (f *Fault) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules, f.seen, f.last = nil, nil, -1
}

// DieAfter makes the device die after n more operations of any kind: all later
// ones fail. Clear brings it back.
func (f *Fault) DieAfter(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = f.ops + n
}

// Ops is how many operations of any kind there were, dead or alive.
func (f *Fault) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// begin counts an operation and says which rules act on it, with the lock held.
func (f *Fault) begin(on operation, off, n int64) (act []Rule, err error) {
	f.ops++
	if f.last >= 0 && f.ops > f.last {
		return nil, injected(f, off, syscall.ENXIO)
	}
	for i, r := range f.rules {
		if r.N == 0 {
			r.N = max(0, f.Size()-r.Off)
		}
		if r.on != on || (on != onFlush && (off >= r.Off+r.N || off+n <= r.Off)) {
			continue
		}
		f.seen[i]++
		if f.seen[i] > r.Skip && (r.Times == 0 || f.seen[i] <= r.Skip+r.Times) {
			act = append(act, r)
		}
	}
	return act, nil
}

// pass waits at the gates among the rules.
func pass(act []Rule) {
	for _, r := range act {
		if r.do == doGate {
			r.gate.wait()
		}
	}
}

// Reads is how many reads there were.
func (f *Fault) Reads() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.reads)
}

// Bytes is how many bytes reads have asked for.
func (f *Fault) Bytes() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bytes
}

// Log returns all reads in the order they began.
func (f *Fault) Log() []Read {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Read(nil), f.reads...)
}

// ReadsOf is how many reads touched n bytes at off.
func (f *Fault) ReadsOf(off, n int64) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := 0
	for _, r := range f.reads {
		if r.Off < off+n && off < r.Off+int64(r.N) {
			c++
		}
	}
	return c
}

// ResetCounts forgets the reads so far.
func (f *Fault) ResetCounts() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads, f.bytes = nil, 0
}

// ReadAt implements block.Reader.
func (f *Fault) ReadAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	f.reads = append(f.reads, Read{off, len(p)})
	f.bytes += int64(len(p))
	act, err := f.begin(onRead, off, int64(len(p)))
	f.mu.Unlock()
	if err != nil {
		clear(p)
		return 0, err
	}
	pass(act)
	n, err := f.Reader.ReadAt(p, off)
	for _, r := range act {
		from, to := max(0, r.Off-off), min(int64(n), r.Off+r.N-off)
		if from > to {
			continue
		}
		switch r.do {
		case doFlip:
			for i := range p[from:to] {
				p[from+int64(i)] ^= r.mask
			}
		case doZero:
			clear(p[from:to])
		}
	}
	for _, r := range act {
		from := int(max(0, r.Off-off))
		if from >= n && err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			continue
		}
		switch r.do {
		case doEIO:
			n, err = min(n, from), injected(f, off+int64(from), syscall.EIO)
		case doShort:
			n, err = min(n, from), io.ErrUnexpectedEOF
		}
	}
	clear(p[n:]) // what was not delivered must not be there to be used by mistake
	return n, err
}
