package check

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// NoID is the ID of findings that chapter 01 appendix A has no number for.
const NoID = -1

// Finding is one thing that is wrong.
type Finding struct {
	Name string
	ID   int // of chapter 01 appendix A, or NoID
	// Note: not wrong, but worth knowing. Notes do not make a volume bad.
	Note bool
	errs.Where
	Bucket int64  // bucket of Dev, -1 unknown
	Want   string // expected, "" when meaningless
	Got    string
	File   string // path from the root directory, "" when not known
}

// String is the finding on one line.
func (f Finding) String() string {
	var b strings.Builder
	b.WriteString(f.Name)
	if f.ID != NoID {
		fmt.Fprintf(&b, " (%d)", f.ID)
	}
	w := f.Where.String()
	if f.Bucket >= 0 {
		w = strings.TrimPrefix(w+fmt.Sprintf(", bucket %d", f.Bucket), ", ")
	}
	if w != "" {
		b.WriteString(" at " + w)
	}
	if f.File != "" {
		fmt.Fprintf(&b, " (%q)", f.File)
	}
	switch {
	case f.Want != "":
		b.WriteString(": want " + f.Want + ", got " + f.Got)
	case f.Got != "":
		b.WriteString(": " + f.Got)
	}
	return strings.ReplaceAll(b.String(), "\n", " ")
}

// compare orders findings by place, so that the same volume always gives the same
// report, whatever ran first.
func (f *Finding) compare(g *Finding) int {
	return cmp.Or(cmp.Compare(f.Btree, g.Btree), -cmp.Compare(f.Level, g.Level), cmp.Compare(f.Inode, g.Inode), cmp.Compare(f.Offset, g.Offset),
		cmp.Compare(f.Snapshot, g.Snapshot), cmp.Compare(f.Dev, g.Dev), cmp.Compare(f.Bucket, g.Bucket), cmp.Compare(f.Sector, g.Sector),
		cmp.Compare(f.Seq, g.Seq), cmp.Compare(f.Name, g.Name), cmp.Compare(f.Got, g.Got), cmp.Compare(f.Want, g.Want))
}

// report collects findings: all are counted, of each kind up to a number is kept.
// Safe for concurrent use.
type report struct {
	perKind int

	mu     sync.Mutex
	kept   []Finding // since the last flush
	counts map[string]*count
}

type count struct {
	n, kept int
	note    bool
}

func newReport(perKind int) *report {
	return &report{perKind: perKind, counts: map[string]*count{}}
}

func (r *report) add(f Finding) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.counts[f.Name]
	if c == nil {
		c = &count{note: f.Note}
		r.counts[f.Name] = c
	}
	c.n++
	if r.perKind > 0 && c.kept >= r.perKind {
		return
	}
	c.kept++
	r.kept = append(r.kept, f)
}

// take hands out what was kept since the last call, in order.
func (r *report) take() []Finding {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.kept
	r.kept = nil
	slices.SortStableFunc(out, func(a, b Finding) int { return a.compare(&b) })
	return out
}

// errors is the number of findings that are not notes.
func (r *report) errors() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.counts {
		if !c.note {
			n += c.n
		}
	}
	return n
}

// ids are the numbers of the names, looked up once.
var ids = func() map[string]int {
	m := map[string]int{}
	for i := range ondisk.NrErrorIDs {
		m[ondisk.ErrorID(i).String()] = i
	}
	return m
}()

// finding makes a finding at a place; name without explanation.
func finding(name string, w errs.Where) Finding {
	f := Finding{Name: name, ID: NoID, Where: w, Bucket: -1}
	if id, ok := ids[name]; ok {
		f.ID = id
	}
	return f
}

// bad reports an error.
func (c *checker) bad(name string, w errs.Where, want, got string) {
	f := finding(name, w)
	f.Want, f.Got = want, got
	c.rep.add(f)
}

// badf reports an error that needs no expected value.
func (c *checker) badf(name string, w errs.Where, format string, a ...any) {
	c.bad(name, w, "", fmt.Sprintf(format, a...))
}

// note reports what is worth knowing.
func (c *checker) note(name string, w errs.Where, format string, a ...any) {
	f := finding(name, w)
	f.Note, f.Got = true, fmt.Sprintf(format, a...)
	c.rep.add(f)
}

// badErr reports an error that a decoder or a rule gave. Reasons that are no
// names become the name fallback.
func (c *checker) badErr(err error, w errs.Where, fallback string) {
	var e *errs.Error
	if !errors.As(err, &e) {
		c.bad(fallback, w, "", err.Error())
		return
	}
	name, got := e.Reason, e.Got
	if head, _, ok := strings.Cut(name, " "); ok {
		if _, known := ids[head]; known {
			name = head
		}
	}
	if !isName(name) {
		got = strings.TrimSuffix(name+": "+got, ": ")
		name = fallback
	}
	if e.Cause != nil {
		got = strings.TrimPrefix(got+": "+e.Cause.Error(), ": ")
	}
	at, _ := errs.At(e, w).(*errs.Error)
	c.bad(name, at.Where, e.Want, got)
}

func isName(s string) bool {
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_') {
			return false
		}
	}
	return s != ""
}

// at is the place of a key.
func at(b ondisk.BtreeID, level int, p ondisk.Pos) errs.Where {
	w := errs.Nowhere
	w.Btree, w.Level, w.HasPos, w.Inode, w.Offset, w.Snapshot = int(b), level, true, p.Inode, p.Offset, p.Snapshot
	return w
}

// leafAt is the place of a leaf key; the level is not worth saying.
func leafAt(b ondisk.BtreeID, p ondisk.Pos) errs.Where {
	w := at(b, 0, p)
	w.Level = -1
	return w
}

// onDev is a place on a member.
func onDev(dev int, sector int64) errs.Where {
	w := errs.Nowhere
	w.Dev, w.Sector = dev, sector
	return w
}

// bucketAt is a finding about a bucket.
func bucketAt(name string, dev int, bucket uint64) Finding {
	f := finding(name, onDev(dev, -1))
	f.Bucket = int64(bucket)
	return f
}
