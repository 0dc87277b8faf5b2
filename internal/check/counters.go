package check

import (
	"cmp"
	"slices"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// sum is the value of an accounting key while it is recomputed.
type sum [ondisk.MaxCounters]int64

func (s *sum) add(v ...int64) {
	for i, x := range v {
		s[i] += x
	}
}

// counters are recomputed accounting keys but those of inode numbers, which are
// too many. One for each goroutine; merged in the end.
type counters struct {
	m map[ondisk.AccountingPos]*sum

	lastPos ondisk.AccountingPos // the last one asked for
	last    *sum
}

func newCounters() *counters { return &counters{m: map[ondisk.AccountingPos]*sum{}} }

func (a *counters) at(p ondisk.AccountingPos) *sum {
	if a.last != nil && a.lastPos == p {
		return a.last
	}
	s := a.m[p]
	if s == nil {
		s = &sum{}
		a.m[p] = s
	}
	a.lastPos, a.last = p, s
	return s
}

func (a *counters) dev(dev int, t ondisk.DataType) *sum {
	return a.at(ondisk.AccountingPos{Type: ondisk.AccDevDataType, Dev: uint32(dev), DataType: t})
}

func (a *counters) merge(o *counters) {
	for p, s := range o.m {
		a.at(p).add(s[:]...)
	}
}

// sorted lists the positions in order.
func (a *counters) sorted() []ondisk.AccountingPos {
	out := make([]ondisk.AccountingPos, 0, len(a.m))
	for p := range a.m {
		out = append(out, p)
	}
	slices.SortFunc(out, func(x, y ondisk.AccountingPos) int {
		return cmp.Or(cmp.Compare(x.Type, y.Type), x.Pos(ondisk.AccountingBigEndian).Compare(y.Pos(ondisk.AccountingBigEndian)))
	})
	return out
}
