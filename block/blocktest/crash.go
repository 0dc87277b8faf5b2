package blocktest

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"github.com/gobcachefs/gobcachefs/block"
)

// StateOptions says which states States goes through. The zero value is the
// whole list.
type StateOptions struct {
	// Sector is what a device writes as a whole, in bytes; 0 means 512.
	Sector int64
	// Subsets is the number of pending writes up to which all subsets of them are
	// gone through; 0 means 8, negative none, 16 is the most.
	Subsets int
	// Samples is how many random subsets there are of more writes than that; 0
	// means 64, negative none.
	Samples int
	// Seed is for those.
	Seed uint64
	// MoreTears adds tears: only the first sector arrived, all but the middle one
	// did, and each tear also with all other writes there.
	MoreTears bool
	// After leaves out the states where this mark was not reached (the first of
	// that name). A mark that is not in the log panics: nothing would be tested.
	After string
	// Every takes only each Every-th state, from number Phase on; 0 means all.
	Every, Phase int
}

// States goes through the states that a power cut could have left the devices
// in, in an order that depends on nothing but the log and the options.
//
// The log is cut at every flush (of whatever device) and at its end. What a
// device flushed before is there, its writes since then, the pending ones, may
// be there or not, and so may discards, each on its own; of a write each sector
// on its own. For each cut these states are gone through, none of them twice:
//
//   - the first k pending writes are there, for all k (none and all included);
//   - each write is missing, all others are there;
//   - each write is there, all others are missing;
//   - all subsets of the writes, or a number of random ones if they are many;
//   - each write is torn, those before it are there, those after it are not: all
//     but the first sector arrived, the first half, all but the last sector.
//
// The power goes as late as it can, right before the flush is done: all marks
// before that count as reached. A cut at which nothing is new is left
// out.
//
// A State needs no memory of its own to speak of, and can be used as long as one
// likes, in other goroutines too.
func (l *Log) States(o StateOptions) iter.Seq[*State] {
	return func(yield func(*State) bool) {
		l.each(o, func(n int, c *cut, x choice) bool {
			return yield(&State{Index: n, cut: c, choice: x.clone()})
		})
	}
}

// Count is how many states States goes through.
func (l *Log) Count(o StateOptions) (n int) {
	l.each(o, func(int, *cut, choice) bool { n++; return true })
	return n
}

// State is the state of that number, nil if there is none: to look again at one
// that a test did not like. Every and Phase do not matter.
func (l *Log) State(o StateOptions, index int) (s *State) {
	o.Every, o.Phase = 0, 0
	l.each(o, func(n int, c *cut, x choice) bool {
		if n == index {
			s = &State{Index: n, cut: c, choice: x.clone()}
		}
		return s == nil
	})
	return s
}

// Final is the state after the last entry of the log, with every write there.
func (l *Log) Final() *State {
	var s *State
	l.mu.RLock()
	g := *l.gen
	l.mu.RUnlock()
	for c := range cuts(g, true) {
		x := newChoice(len(c.pending))
		for i := range c.pending {
			x.add(i)
		}
		s = &State{Index: -1, cut: c, choice: x}
	}
	return s
}

// cut is a place in the log where the power may go.
type cut struct {
	gen     generation // as it was when the iteration began
	number  int
	end     int      // ops below this one have begun
	durable []int    // for each device: its ops below this one are there
	pending []int    // ops that may be there, in order
	marks   []string // reached

	once    sync.Once
	touched []map[int64][]int // for each device and page: positions in pending
}

// cuts goes through the cuts of a log. all includes those where nothing is new.
func cuts(g generation, all bool) iter.Seq[*cut] {
	return func(yield func(*cut) bool) {
		durable := make([]int, len(g.devs))
		var pending []int
		var marks []string
		fresh := true // there are states that the last cut did not have
		number := 0
		for i := 0; i <= len(g.ops); i++ {
			if i < len(g.ops) {
				switch g.ops[i].Kind {
				case OpWrite, OpDiscard:
					pending = append(pending, i)
					fresh = true
					continue
				case OpMark:
					marks = append(marks, g.ops[i].Name)
					fresh = true
					continue
				}
			}
			if fresh || all {
				c := &cut{gen: g, number: number, end: i, durable: slices.Clone(durable),
					pending: slices.Clone(pending), marks: marks[:len(marks):len(marks)]}
				if !yield(c) {
					return
				}
			}
			number++
			if i < len(g.ops) {
				dev, n := g.ops[i].Dev, len(pending)
				durable[dev] = i
				pending = slices.DeleteFunc(pending, func(op int) bool { return g.ops[op].Dev == dev })
				// What is there now was among the states of this cut, unless others
				// may still be missing.
				fresh = len(pending) > 0 && len(pending) < n
			}
		}
	}
}

// index fills in touched.
func (c *cut) index() {
	c.once.Do(func() {
		c.touched = make([]map[int64][]int, len(c.gen.devs))
		for i := range c.touched {
			c.touched[i] = map[int64][]int{}
		}
		for i, n := range c.pending {
			o := &c.gen.ops[n]
			for page := o.Off / pageSize; page <= (o.Off+o.N-1)/pageSize; page++ {
				c.touched[o.Dev][page] = append(c.touched[o.Dev][page], i)
			}
		}
	})
}

// tear says which part of a torn write is missing.
type tear int

const (
	whole    tear = iota
	noFirst       // all but the first sector arrived
	half          // the first half arrived
	noLast        // all but the last sector arrived
	noMiddle      // all but the middle sector arrived
	oneFirst      // only the first sector arrived
)

var tears = []string{"", "without its first sector", "but only the first half", "without its last sector",
	"without its middle sector", "but only the first sector"}

// choice says which pending writes are there.
type choice struct {
	set      []uint64
	torn     int // position of the torn write, which is in the set; -1 if none
	tear     tear
	from, to int64 // what is missing of it
}

func newChoice(n int) choice { return choice{set: make([]uint64, (n+63)/64), torn: -1} }

func (x choice) clone() choice {
	x.set = slices.Clone(x.set)
	return x
}

func (x choice) add(i int)      { x.set[i/64] |= 1 << (i % 64) }
func (x choice) remove(i int)   { x.set[i/64] &^= 1 << (i % 64) }
func (x choice) has(i int) bool { return x.set[i/64]>>(i%64)&1 != 0 }

// key is the same for choices that are the same.
func (x choice) key() string {
	b := make([]byte, 0, 8*len(x.set)+24)
	for _, w := range x.set {
		b = appendUint64(b, w)
	}
	if x.torn >= 0 {
		b = appendUint64(appendUint64(appendUint64(b, uint64(x.torn)), uint64(x.from)), uint64(x.to))
	}
	return string(b)
}

func appendUint64(b []byte, v uint64) []byte {
	for i := range 8 {
		b = append(b, byte(v>>(8*i)))
	}
	return b
}

// each calls f for each state with its number, until f returns false. The choice
// is f's only until it returns.
func (l *Log) each(o StateOptions, f func(n int, c *cut, x choice) bool) {
	l.mu.RLock()
	g := *l.gen
	l.mu.RUnlock()
	if o.Sector <= 0 {
		o.Sector = block.SectorSize
	}
	switch {
	case o.Subsets == 0:
		o.Subsets = 8
	case o.Subsets > 16:
		o.Subsets = 16
	}
	if o.Samples == 0 {
		o.Samples = 64
	}
	if o.Every <= 0 {
		o.Every, o.Phase = 1, 0
	}
	if o.After != "" && !slices.ContainsFunc(g.ops, func(p Op) bool { return p.Kind == OpMark && p.Name == o.After }) {
		panic(fmt.Sprintf("no mark %q in the log", o.After))
	}
	n := 0
	for c := range cuts(g, false) {
		if o.After != "" && !slices.Contains(c.marks, o.After) {
			continue
		}
		more := c.each(o, func(x choice) bool {
			n++
			return (n-1)%o.Every != o.Phase%o.Every || n-1 < o.Phase || f(n-1, c, x)
		})
		if !more {
			return
		}
	}
}

// each calls f for each choice of the cut, until f returns false, which it then
// returns itself.
func (c *cut) each(o StateOptions, f func(x choice) bool) bool {
	n := len(c.pending)
	seen := map[string]bool{}
	more := true
	give := func(x choice) {
		if k := x.key(); more && !seen[k] {
			seen[k] = true
			more = f(x)
		}
	}
	prefix, all, one := newChoice(n), newChoice(n), newChoice(n)
	give(prefix)
	for i := range n {
		prefix.add(i)
		all.add(i)
		give(prefix)
	}
	for i := 0; i < n && more; i++ {
		all.remove(i)
		give(all)
		all.add(i)
	}
	for i := 0; i < n && more; i++ {
		one.add(i)
		give(one)
		one.remove(i)
	}
	if n <= o.Subsets {
		for m := uint64(0); m < 1<<n && n > 0 && more; m++ {
			one.set[0] = m
			give(one)
		}
	} else {
		r := rand.New(rand.NewPCG(o.Seed, uint64(c.number)))
		want := len(seen) + o.Samples
		for s := 0; len(seen) < want && s < 64*o.Samples && more; s++ {
			// Few, half, most of the writes.
			for i := range one.set {
				one.set[i] = r.Uint64()
				switch s % 4 {
				case 1:
					one.set[i] &= r.Uint64()
				case 3:
					one.set[i] |= r.Uint64()
				}
				if rest := n - 64*i; rest < 64 {
					one.set[i] &= 1<<rest - 1
				}
			}
			give(one)
		}
	}
	prefix = newChoice(n)
	for i := 0; i < n && more; i++ {
		prefix.add(i)
		c.eachTear(o, i, prefix, give)
		if o.MoreTears {
			c.eachTear(o, i, all, give)
		}
	}
	return more
}

// eachTear gives x with pending write i torn in all ways. A write of one sector
// is not torn, and neither is a discard.
func (c *cut) eachTear(o StateOptions, i int, x choice, give func(choice)) {
	op := &c.gen.ops[c.pending[i]]
	first, last := op.Off/o.Sector, (op.Off+op.N-1)/o.Sector
	if op.Kind != OpWrite || first == last {
		return
	}
	mid := first + (last-first+1)/2
	ways := []tear{noFirst, half, noLast}
	if o.MoreTears {
		ways = append(ways, oneFirst, noMiddle)
	}
	for _, t := range ways {
		x.torn, x.tear = i, t
		from, to := first, last+1
		switch t {
		case noFirst:
			to = first + 1
		case half:
			from = mid
		case noLast:
			from = last
		case oneFirst:
			from = first + 1
		case noMiddle:
			from, to = mid, mid+1
		}
		x.from, x.to = max(op.Off, from*o.Sector), min(op.Off+op.N, to*o.Sector)
		give(x)
	}
}

// State is what a power cut left.
type State struct {
	// Index is its number among the states of the same options, but for Every
	// and Phase; -1 for Final.
	Index int

	cut    *cut
	choice choice
}

// Marks lists the marks that were reached, in order.
func (s *State) Marks() []string { return slices.Clone(s.cut.marks) }

// Reached reports whether a mark was reached.
func (s *State) Reached(mark string) bool { return slices.Contains(s.cut.marks, mark) }

// Cut is the number of the flush that the power went in, counted from 0 over all
// devices; the last is the end of the log.
func (s *State) Cut() int { return s.cut.number }

// Ops is how many entries of the log had begun.
func (s *State) Ops() int { return s.cut.end }

// String says what is there, in one line; pending writes count from 1.
func (s *State) String() string {
	c, x := s.cut, s.choice
	var b strings.Builder
	if s.Index >= 0 {
		fmt.Fprintf(&b, "state %d: ", s.Index)
	}
	if c.end < len(c.gen.ops) {
		fmt.Fprintf(&b, "in flush %d (op %d, device %d)", c.number, c.end, c.gen.ops[c.end].Dev)
	} else {
		fmt.Fprintf(&b, "at the end (op %d)", c.end)
	}
	switch n := len(c.pending); {
	case n == 0:
		b.WriteString(", nothing pending")
	default:
		fmt.Fprintf(&b, ", %s of %d pending there", x.ranges(n), n)
	}
	if x.torn >= 0 {
		o := &c.gen.ops[c.pending[x.torn]]
		fmt.Fprintf(&b, ", %d (op %d, %v) %s", x.torn+1, c.pending[x.torn], o, tears[x.tear])
	}
	if len(c.marks) > 0 {
		fmt.Fprintf(&b, ", after %q", c.marks[len(c.marks)-1])
	}
	return b.String()
}

// ranges prints the members of the set, from 1: "1-3,5".
func (x choice) ranges(n int) string {
	var p []string
	for i := 0; i < n; i++ {
		if !x.has(i) {
			continue
		}
		from := i
		for i+1 < n && x.has(i+1) {
			i++
		}
		if from == i {
			p = append(p, fmt.Sprint(from+1))
		} else {
			p = append(p, fmt.Sprintf("%d-%d", from+1, i+1))
		}
	}
	if p == nil {
		return "none"
	}
	return strings.Join(p, ",")
}
