package blocktest

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
)

// pageSize is the unit in which a Log keeps bytes.
const pageSize = 4096

// Discarded is what every byte of a discarded range reads as on a Recorder:
// whoever counts on zeros, or on the old bytes, shall notice.
const Discarded = 0xdb

// discardedPage is a whole page of it.
var discardedPage = bytes.Repeat([]byte{Discarded}, pageSize)

// OpKind says what an Op is.
type OpKind string

// What a Log holds.
const (
	OpWrite   OpKind = "write"
	OpDiscard OpKind = "discard"
	OpFlush   OpKind = "flush"
	OpMark    OpKind = "mark"
)

// Op is one entry of a Log.
type Op struct {
	Kind OpKind
	Dev  int    // device; 0 for a mark
	Off  int64  // first byte of a write or discard
	N    int64  // its length in bytes
	Name string // of a mark

	chunks [][]byte // of a write: a piece for each page; shared, never changed
}

// Data returns the bytes of a write.
func (o Op) Data() []byte { return bytes.Join(o.chunks, nil) }

// String prints one line.
func (o Op) String() string {
	switch o.Kind {
	case OpMark:
		return fmt.Sprintf("mark %q", o.Name)
	case OpFlush:
		return fmt.Sprintf("flush of device %d", o.Dev)
	}
	return fmt.Sprintf("%s of %d bytes at %d of device %d", o.Kind, o.N, o.Off, o.Dev)
}

// Log is what happened to the devices of a volume, in one order. Its Recorders
// add to it; States goes through what a power cut could have left. All methods
// are safe for concurrent use.
type Log struct {
	bases []block.Reader
	seed  maphash.Seed

	mu   sync.RWMutex
	gen  *generation
	same map[uint64][]byte // pages by hash: equal ones are kept once
}

// generation is the log since the last Reset. The slices grow, what is in them
// never changes, so that states outlive a Reset.
type generation struct {
	mu   *sync.RWMutex // of the Log
	ops  []Op
	devs []devPages
}

// devPages holds all versions of every page that was ever changed, oldest first.
type devPages struct {
	base     block.Reader
	size     int64
	versions map[int64][]version
}

// version is a page after an op, which has every older op of the device in it.
type version struct {
	op int // -1: before the first
	b  []byte
}

// at returns a page with all ops below limit in it; nil if none changed it.
func (d *devPages) at(page int64, limit int) []byte {
	v := d.versions[page]
	i, _ := slices.BinarySearchFunc(v, limit, func(v version, limit int) int { return v.op - limit })
	if i == 0 {
		return nil
	}
	return v[i-1].b
}

// length is how many bytes of a page the device has.
func (d *devPages) length(page int64) int64 { return min(pageSize, d.size-page*pageSize) }

// NewRecorder makes a recorder of one device over base: see NewRecorders.
func NewRecorder(base block.Reader) *Recorder { return NewRecorders(base)[0] }

// NewRecorders makes recorders that share one Log, one over each base. A
// recorder is a device in memory: bases are never written, and stay open when
// the recorders are closed, so that any number of logs can share them, and
// states be looked at later.
func NewRecorders(bases ...block.Reader) []*Recorder {
	l := &Log{bases: bases, seed: maphash.MakeSeed(), same: map[uint64][]byte{}}
	l.gen = l.newGeneration()
	var r []*Recorder
	for i := range bases {
		r = append(r, l.Open(i))
	}
	return r
}

func (l *Log) newGeneration() *generation {
	g := &generation{mu: &l.mu}
	for _, b := range l.bases {
		g.devs = append(g.devs, devPages{base: b, size: b.Size(), versions: map[int64][]version{}})
	}
	return g
}

// Open makes another recorder of a device, as a closed one stays closed: what
// was written is there, what is written goes to the same log.
func (l *Log) Open(dev int) *Recorder { return &Recorder{log: l, dev: dev, base: l.bases[dev]} }

// OpenAll is Open for all devices.
func (l *Log) OpenAll() []*Recorder {
	var r []*Recorder
	for i := range l.bases {
		r = append(r, l.Open(i))
	}
	return r
}

// Mark notes that something was reached, so that states know whether the power
// went before or after it.
func (l *Log) Mark(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gen.ops = append(l.gen.ops, Op{Kind: OpMark, Name: name})
}

// Reset forgets what happened: the present contents are on stable storage, and
// what comes now is a new log. States of the old one stay good.
func (l *Log) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.gen
	l.gen, l.same = l.newGeneration(), map[uint64][]byte{}
	for i, d := range old.devs {
		for page, v := range d.versions {
			b := v[len(v)-1].b
			l.gen.devs[i].versions[page] = []version{{-1, b}}
		}
	}
}

// Ops returns all entries in their order.
func (l *Log) Ops() []Op {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.Clone(l.gen.ops)
}

// Stats is how much happened.
type Stats struct {
	Writes, Flushes, Discards int
	Bytes                     int64 // written
}

// Stats counts what happened since the last Reset.
func (l *Log) Stats() (s Stats) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, o := range l.gen.ops {
		switch o.Kind {
		case OpWrite:
			s.Writes++
			s.Bytes += o.N
		case OpFlush:
			s.Flushes++
		case OpDiscard:
			s.Discards++
		}
	}
	return s
}

// share returns a page equal to b that is never changed: one kept before, or b.
func (l *Log) share(b []byte) []byte {
	h := maphash.Bytes(l.seed, b)
	old, ok := l.same[h]
	switch {
	case !ok:
		l.same[h] = b
	case bytes.Equal(old, b):
		return old
	}
	return b
}

// change adds a write or a discard to the log, with the lock held.
func (l *Log) change(o Op, data []byte) error {
	g := l.gen
	d := &g.devs[o.Dev]
	n := len(g.ops)
	type newPage struct {
		page int64
		b    []byte
	}
	var pages []newPage
	for at := int64(0); at < o.N; {
		page, in := (o.Off+at)/pageSize, (o.Off+at)%pageSize
		k := min(pageSize-in, o.N-at)
		piece := discardedPage[:k]
		if data != nil {
			piece = data[at : at+k]
			if k == pageSize {
				piece = l.share(bytes.Clone(piece))
			}
		}
		whole := piece
		if k < pageSize {
			whole = make([]byte, pageSize)
			if old := d.at(page, n); old != nil {
				copy(whole, old)
			} else if k < d.length(page) {
				if _, err := d.base.ReadAt(whole[:d.length(page)], page*pageSize); err != nil {
					return err
				}
			}
			copy(whole[in:], piece)
			whole = l.share(whole)
			piece = whole[in : in+k : in+k]
		}
		if data != nil {
			o.chunks = append(o.chunks, piece)
		}
		pages = append(pages, newPage{page, whole})
		at += k
	}
	for _, p := range pages {
		v := d.versions[p.page]
		d.versions[p.page] = append(v, version{n, p.b})
	}
	g.ops = append(g.ops, o)
	return nil
}

// Recorder is a device whose writes, discards and flushes go to a Log.
type Recorder struct {
	log    *Log
	dev    int
	base   block.Reader
	closed bool // under log.mu
}

var _ block.Writer = (*Recorder)(nil)

// Log is where the recorder records.
func (r *Recorder) Log() *Log { return r.log }

// Mark is Mark of the log.
func (r *Recorder) Mark(name string) { r.log.Mark(name) }

// ReadAt implements block.Reader.
func (r *Recorder) ReadAt(p []byte, off int64) (int, error) {
	r.log.mu.RLock()
	defer r.log.mu.RUnlock()
	if r.closed {
		return 0, errClosed(r.base)
	}
	d := &r.log.gen.devs[r.dev]
	return readPages(d, p, off, func(page int64) ([]byte, error) { return d.at(page, len(r.log.gen.ops)), nil })
}

// readPages reads from a device whose changed pages get gives; nil are those
// that are as in the base. Runs of them are one read.
func readPages(d *devPages, p []byte, off int64, get func(page int64) ([]byte, error)) (int, error) {
	var end error
	switch {
	case off < 0:
		return 0, &errs.Error{Where: placeOf(d.base, -1), Kind: errs.ErrUsage, Reason: "negative device offset"}
	case len(p) == 0:
		return 0, nil
	case off >= d.size:
		return 0, io.EOF
	case int64(len(p)) > d.size-off:
		p, end = p[:d.size-off], io.ErrUnexpectedEOF
	}
	below := 0
	fill := func(to int) (int, error) {
		if below == to {
			return to, nil
		}
		n, err := d.base.ReadAt(p[below:to], off+int64(below))
		if n == to-below {
			return to, nil
		}
		return below + n, err
	}
	for at := 0; at < len(p); {
		page, in := (off+int64(at))/pageSize, int((off+int64(at))%pageSize)
		k := min(pageSize-in, len(p)-at)
		b, err := get(page)
		if err != nil {
			return at, err
		}
		if b != nil {
			if n, err := fill(at); err != nil {
				return n, err
			}
			copy(p[at:at+k], b[in:])
			below = at + k
		}
		at += k
	}
	if n, err := fill(len(p)); err != nil {
		return n, err
	}
	return len(p), end
}

// change checks and records a write or discard.
func (r *Recorder) change(o Op, data []byte) error {
	if o.Off < 0 || o.N < 0 || o.N > r.Size() || o.Off > r.Size()-o.N {
		return &errs.Error{Where: placeOf(r.base, -1), Kind: errs.ErrUsage, Reason: "write outside of the device"}
	}
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	if r.closed {
		return errClosed(r.base)
	}
	if o.N == 0 {
		return nil
	}
	o.Dev = r.dev
	return r.log.change(o, data)
}

// WriteAt implements block.Writer. An error of the base leaves no trace.
func (r *Recorder) WriteAt(p []byte, off int64) (int, error) {
	if p == nil {
		p = []byte{}
	}
	if err := r.change(Op{Kind: OpWrite, Off: off, N: int64(len(p))}, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Discard implements block.Writer: the range reads as Discarded.
func (r *Recorder) Discard(ctx context.Context, off, n int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return r.change(Op{Kind: OpDiscard, Off: off, N: n}, nil)
}

// Flush implements block.Writer.
func (r *Recorder) Flush(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	if r.closed {
		return errClosed(r.base)
	}
	r.log.gen.ops = append(r.log.gen.ops, Op{Kind: OpFlush, Dev: r.dev})
	return nil
}

// Size implements block.Reader.
func (r *Recorder) Size() int64 { return r.base.Size() }

// Info implements block.Reader: that of the base, but for the kind.
func (r *Recorder) Info() block.Info { return infoOf(r.base) }

// Close implements block.Reader. The base stays open.
func (r *Recorder) Close() error {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	r.closed = true
	return nil
}

func infoOf(base block.Reader) block.Info {
	i := base.Info()
	i.Kind, i.ReadOnly = block.KindOverlay, false
	return i
}

// placeOf pins an error to a byte of a device.
func placeOf(r block.Reader, off int64) errs.Where {
	w := errs.Nowhere
	w.Path = r.Info().Name
	if off >= 0 {
		w.Sector = off / block.SectorSize
	}
	return w
}

func errClosed(r block.Reader) error {
	return &errs.Error{Where: placeOf(r, -1), Kind: os.ErrClosed, Reason: "device is closed"}
}

// injected is the error of a rule.
func injected(r block.Reader, off int64, cause error) error {
	return &errs.Error{Where: placeOf(r, off), Kind: errs.ErrIO, Reason: "injected", Cause: cause}
}
