package cli

import (
	"context"
	"errors"
	"runtime"
	"sort"
	"strings"
	"sync"
	"syscall"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// entry is what a walk met.
type entry struct {
	kind   entryKind
	path   string // the path of the argument, and names below it
	name   string // last part; "" for an argument
	id     bcachefs.NodeID
	typ    uint32 // type bits as the directory says
	depth  int    // 0: an argument
	subvol bool   // root of a nested subvolume
	pruned bool   // a directory that the walk does not go into

	attr bcachefs.Attr
	err  error // attr could not be read; for entryFailed: what failed
	// data is what prepare leaves for visit.
	data any
}

type entryKind uint8

const (
	entryFound  entryKind = iota // a file; a directory before its contents
	entryLeave                   // a directory after its contents, with walkOptions.leave; without attr
	entryFailed                  // a directory that could not be read in full, after what could
)

// walkRoot is where a walk starts.
type walkRoot struct {
	path string
	id   bcachefs.NodeID
	typ  uint32
}

// walkOptions say how to walk.
type walkOptions struct {
	maxDepth  int // -1: no bound
	oneSubvol bool
	leave     bool // visit directories again after their contents
	names     bool // entries have no attr; prepare is called all the same
	batch     int  // entries handed to a worker at once; 0: many
	// prepare is called for each entry after its attributes were read, by many
	// goroutines, and before visit is called for it. It may be nil.
	prepare func(context.Context, *entry)
}

// Bounds of a walk, against volumes that have no end.
const (
	maxWalkDepth = 4096
	maxWalkPath  = 1 << 20 // bytes
)

// walk visits files and everything below them: directories before their
// contents, names in the order of their bytes, so that the same volume gives
// the same order. The order is that of a plain recursive walk, but attributes
// are read ahead by many goroutines. A directory is visited once: one with
// several names, which only a damaged volume has, is an entryFailed after the first.
func walk(ctx context.Context, files *bcachefs.Files, roots []walkRoot, o walkOptions, visit func(*entry) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if o.batch == 0 {
		o.batch = 32
	}
	workers := max(8, runtime.GOMAXPROCS(0)*2)
	w := &walker{
		ctx: ctx, files: files, o: o, seen: map[bcachefs.NodeID]struct{}{},
		jobs: make(chan *walkBatch, workers), queue: make(chan *walkBatch, workers*4),
	}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(w.work)
	}
	wg.Go(func() {
		w.roots(roots)
		w.flush()
		close(w.jobs)
		close(w.queue)
	})
	var err error
	for b := range w.queue {
		<-b.ready
		if err == nil {
			err = ctx.Err()
		}
		for i := range b.entries {
			if err != nil {
				break
			}
			err = visit(&b.entries[i])
		}
		if err != nil {
			cancel(err) // and let the others run dry
		}
	}
	wg.Wait()
	return err
}

type walkBatch struct {
	entries []entry
	ready   chan struct{}
}

type walker struct {
	ctx   context.Context
	files *bcachefs.Files
	o     walkOptions
	jobs  chan *walkBatch
	queue chan *walkBatch // in order
	cur   *walkBatch
	seen  map[bcachefs.NodeID]struct{} // directories
}

func (w *walker) work() {
	for b := range w.jobs {
		for i := range b.entries {
			e := &b.entries[i]
			if e.kind == entryFound {
				w.attr(e)
			}
		}
		close(b.ready)
	}
}

func (w *walker) attr(e *entry) {
	if w.o.names {
		if w.o.prepare != nil {
			w.o.prepare(w.ctx, e)
		}
		return
	}
	e.attr, e.err = w.files.Getattr(w.ctx, e.id)
	if e.err != nil {
		if errors.Is(e.err, syscall.ENOENT) {
			e.err = errs.Corruptf("dirent_to_missing_inode", "inode %d", e.id.Inode)
		}
		return
	}
	if t := e.attr.Mode & ondisk.ModeTypeMask; t != e.typ {
		e.err = wrongType(e.typ, t)
		return
	}
	if w.o.prepare != nil {
		w.o.prepare(w.ctx, e)
	}
}

func (w *walker) emit(e entry) bool {
	if w.cur == nil {
		w.cur = &walkBatch{entries: make([]entry, 0, w.o.batch), ready: make(chan struct{})}
	}
	w.cur.entries = append(w.cur.entries, e)
	if len(w.cur.entries) == cap(w.cur.entries) {
		w.flush()
	}
	return w.ctx.Err() == nil
}

func (w *walker) flush() {
	if w.cur != nil {
		w.jobs <- w.cur
		w.queue <- w.cur
		w.cur = nil
	}
}

func (w *walker) roots(roots []walkRoot) {
	for _, r := range roots {
		e := entry{path: r.path, id: r.id, typ: r.typ}
		if !w.one(e, nil) {
			return
		}
	}
}

// enters decides whether to list a directory.
func (w *walker) enters(e *entry) bool {
	return e.typ == ondisk.ModeDir && (w.o.maxDepth < 0 || e.depth < w.o.maxDepth) && !(w.o.oneSubvol && e.subvol)
}

// one walks a file and what is below it; l is its listing if it was started.
func (w *walker) one(e entry, l *listing) bool {
	enter := w.enters(&e)
	e.pruned = !enter
	if !w.emit(e) {
		return false
	}
	if !enter {
		return true
	}
	if !w.inside(&e, l) {
		return false
	}
	if w.o.leave {
		e.kind = entryLeave
		return w.emit(e)
	}
	return true
}

// inside walks the contents of a directory.
func (w *walker) inside(e *entry, l *listing) bool {
	fail := func(err error) bool {
		f := *e
		f.kind, f.err = entryFailed, err
		return w.emit(f)
	}
	if _, again := w.seen[e.id]; again {
		return fail(errs.Corruptf("inode_dir_multiple_links", "directory %d is in more than one place", e.id.Inode))
	}
	if e.depth >= maxWalkDepth || len(e.path) > maxWalkPath {
		return fail(syscall.ENAMETOOLONG)
	}
	w.seen[e.id] = struct{}{}
	if l == nil {
		l = w.list(e.id)
	}
	select {
	case <-l.done:
	default:
		w.flush() // what is there need not wait
		<-l.done
	}
	return w.children(e, l) && (l.err == nil || fail(l.err))
}

// listAhead is how many directories are listed before their turn.
const listAhead = 4

func (w *walker) children(dir *entry, l *listing) bool {
	prefix := dir.path
	if !strings.HasSuffix(prefix, "/") {
		prefix += "/"
	}
	child := func(i int) entry {
		d := &l.ents[i]
		name := l.name(i)
		return entry{path: prefix + name, name: name, id: d.id, typ: d.typ, depth: dir.depth + 1, subvol: d.subvol}
	}
	var ahead []*listing // of the next directories
	next := 0            // first child not considered for ahead
	for i := range l.ents {
		var mine *listing
		if l.ents[i].typ == ondisk.ModeDir {
			for next = max(next, i); next < len(l.ents) && len(ahead) < listAhead; next++ {
				if d := &l.ents[next]; d.typ == ondisk.ModeDir {
					e := entry{typ: d.typ, depth: dir.depth + 1, subvol: d.subvol}
					if _, again := w.seen[d.id]; w.enters(&e) && !again {
						ahead = append(ahead, w.list(d.id))
					} else {
						ahead = append(ahead, nil)
					}
				}
			}
			mine, ahead = ahead[0], ahead[1:]
		}
		if !w.one(child(i), mine) {
			return false
		}
	}
	return true
}

// listing is a directory's entries by name, compact: directories can be large.
type listing struct {
	done  chan struct{}
	names []byte
	ents  []listed
	err   error
}

type listed struct {
	id     bcachefs.NodeID
	typ    uint32
	off    uint32
	len    uint16
	subvol bool
}

func (l *listing) name(i int) string {
	d := &l.ents[i]
	return string(l.names[d.off : d.off+uint32(d.len)])
}

// list starts to read a directory.
func (w *walker) list(dir bcachefs.NodeID) *listing {
	l := &listing{done: make(chan struct{})}
	go func() {
		defer close(l.done)
		l.read(w.ctx, w.files, dir)
	}()
	return l
}

func (l *listing) read(ctx context.Context, files *bcachefs.Files, dir bcachefs.NodeID) {
	var bad error
	l.err = files.ReadDir(ctx, dir, 0, func(e bcachefs.Entry) bool {
		if err := checkName(e.Name); err != nil {
			bad = err
			return true
		}
		if uint64(len(l.names))+uint64(len(e.Name)) > 1<<32-1 {
			bad = syscall.EFBIG
			return false
		}
		l.ents = append(l.ents, listed{e.ID, e.Type, uint32(len(l.names)), uint16(len(e.Name)), e.Subvol})
		l.names = append(l.names, e.Name...)
		return true
	})
	if bad != nil {
		l.err = errors.Join(l.err, bad)
	}
	sort.Slice(l.ents, func(i, j int) bool {
		a, b := &l.ents[i], &l.ents[j]
		return string(l.names[a.off:a.off+uint32(a.len)]) < string(l.names[b.off:b.off+uint32(b.len)])
	})
}

// checkName refuses what no directory may hold: such a name would lead elsewhere.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > ondisk.NameMax || strings.ContainsAny(name, "/\x00") {
		return errs.Corruptf("dirent_name", "%q", name)
	}
	return nil
}
