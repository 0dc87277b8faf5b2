package mkfs

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/gobcachefs/gobcachefs/internal/data"
	"github.com/gobcachefs/gobcachefs/internal/engine"
	"github.com/gobcachefs/gobcachefs/internal/objects"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Source gives the files of a new volume.
type Source interface {
	// walk hands over all files in an order that is the same every time.
	walk(ctx context.Context, im *importer) error
}

// Stats count what was imported.
type Stats struct {
	Files int64 // of all types, without further names of hard links
	Dirs  int64
	Links int64 // further names
	Bytes int64 // of data, holes not counted
	// LostXattrs counts attributes that the format has no place for; Warn was
	// told of them.
	LostXattrs int64
}

// node is a file of the source: what its number will be, and its path for
// messages.
type node struct {
	objects.Imported
	up   *node // nil for the root
	name string
}

// path is where the file is below the root of the source.
func (n *node) path() string {
	var parts []string
	for ; n != nil && n.up != nil; n = n.up {
		parts = append(parts, n.name)
	}
	if len(parts) == 0 {
		return "/"
	}
	var b strings.Builder
	for i := len(parts) - 1; i >= 0; i-- {
		b.WriteByte('/')
		b.WriteString(parts[i])
	}
	return b.String()
}

// job is a step of the import on its way through the stages:
//
//	the source hands it over in order        (add; bounded memory)
//	work reads and compresses                (any order, many at once)
//	the sequencer gives its data a place     (in order)
//	data is summed, encrypted and written    (any order, many at once)
//	the sequencer commits                    (in order)
type job struct {
	kind   objects.StepKind
	node   *node
	dir    *node  // StepLink: where the name goes
	name   string // and the name
	spec   objects.Spec
	pieces []*data.Piece
	bytes  int64 // of data, for the statistics
	bufs   []*[]byte

	barrier func(context.Context) error // runs after all before is committed
	weight  int64
	ready   chan struct{} // closed when work is done; nil when there is none
	err     error
	stored  sync.WaitGroup
	x       *data.Extents
}

// path is where the file of the job is, for messages.
func (j *job) path() string {
	if j.dir != nil {
		return (&node{up: j.dir, name: j.name}).path()
	}
	return j.node.path()
}

const (
	// chunk is the most data of a file that one job holds.
	chunk = 1 << 20
	// inFlight bounds the data of all jobs that are not committed yet.
	inFlight = 32 << 20
	// ahead bounds their number.
	ahead = 1024
	// placed is how much data goes into one batch, at most.
	placed = 4 << 20
)

// importer fills a new volume.
type importer struct {
	w     *objects.Writer
	opts  data.IOOptions
	warn  func(error)
	tell  func(files, bytes int64)
	stats Stats
	root  *node

	tasks   chan func()
	ordered chan *job
	sem     *semaphore.Weighted
	bufs    sync.Pool
	lost    atomic.Int64
	latest  time.Time // of reproducible volumes: no time is later, and all are one
}

func newImporter(rw *engine.RW, o *Options) *importer {
	im := &importer{w: rw.Writer(), opts: data.OptionsOf(rw.WS.Current(), nil), warn: o.Warn, tell: o.Progress,
		tasks: make(chan func(), ahead), ordered: make(chan *job, ahead), sem: semaphore.NewWeighted(inFlight)}
	// There is no background here: data goes to where it would end up.
	im.opts.Compression, im.opts.Target = im.opts.Background, im.opts.BackTarget
	if im.warn == nil {
		im.warn = func(error) {}
	}
	if o.Seed != nil {
		im.latest = rw.WS.Now()
	}
	im.root = &node{Imported: objects.Imported{Inum: objects.Root.Inum}}
	im.bufs.New = func() any { b := make([]byte, chunk); return &b }
	return im
}

func (im *importer) close() { im.w.Close() }

// run imports everything that a source has.
func (im *importer) run(ctx context.Context, src Source) error {
	g, ctx := errgroup.WithContext(ctx)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) + 2 {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for f := range im.tasks {
				f()
			}
		}()
	}
	g.Go(func() error {
		defer close(im.ordered)
		return src.walk(ctx, im)
	})
	g.Go(func() error { return im.sequence(ctx) })
	err := g.Wait()
	close(im.tasks)
	workers.Wait()
	im.stats.LostXattrs = im.lost.Load()
	return err
}

// add hands a job over. work, which may be nil, runs in the background before
// the job's turn; size is the data that it will hold.
func (im *importer) add(ctx context.Context, j *job, size int64, work func(*job) error) error {
	if err := im.reserve(ctx, j, size); err != nil {
		return err
	}
	return im.push(ctx, j, work)
}

// reserve waits until the data of a job may be in memory. Jobs must be pushed in
// the order in which they were reserved.
func (im *importer) reserve(ctx context.Context, j *job, size int64) error {
	j.weight = size + 512
	return im.sem.Acquire(ctx, j.weight)
}

// push hands a job over.
func (im *importer) push(ctx context.Context, j *job, work func(*job) error) error {
	if s := &j.spec; !im.latest.IsZero() {
		if s.Mtime.After(im.latest) {
			s.Mtime = im.latest
		}
		s.Atime, s.Ctime = s.Mtime, s.Mtime
	}
	if work != nil {
		j.ready = make(chan struct{})
	}
	select {
	case im.ordered <- j:
	case <-ctx.Done():
		return ctx.Err()
	}
	if work == nil {
		return nil
	}
	return im.do(ctx, func() {
		j.err = work(j)
		close(j.ready)
	})
}

// do runs f in the background.
func (im *importer) do(ctx context.Context, f func()) error {
	select {
	case im.tasks <- f:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pack takes data of a job: whole blocks at a byte offset of its file.
func (im *importer) pack(j *job, off int64, p []byte) {
	for len(p) > 0 {
		c, n := im.w.Bytes.Pack(im.opts, uint64(off/512), p)
		j.pieces = append(j.pieces, c)
		p = p[n:]
		off += int64(n)
	}
}

// keep leaves out the attributes that a volume cannot hold, with a warning.
func (im *importer) keep(path string, xs []objects.Xattr) []objects.Xattr {
	lost := 0
	out := slices.DeleteFunc(xs, func(x objects.Xattr) bool {
		_, stored, ok := ondisk.ParseXattrName(x.Name)
		switch {
		case strings.HasPrefix(x.Name, "bcachefs_effective."), strings.HasPrefix(x.Name, "bcachefs."):
			return true // not stored there either
		case !ok:
			im.warn(fmt.Errorf("%s: attribute %s left out: the format has no such kind", path, x.Name))
		case len(stored) > 255, 4+len(stored)+len(x.Value) > ondisk.MaxValBytes && !strings.HasPrefix(x.Name, "system."):
			im.warn(fmt.Errorf("%s: attribute %s left out: %d bytes do not fit", path, x.Name, len(x.Value)))
		default:
			return false
		}
		lost++
		return true
	})
	im.lost.Add(int64(lost))
	return out
}

// target gives a symlink its target: as data where it is too long for a key.
func (im *importer) target(j *job, t []byte) {
	j.spec.Target = t
	if len(t) <= im.w.InlineMax() {
		return
	}
	block := im.w.Bytes.Block()
	p := im.buffer(j, (len(t)+block-1)/block*block)
	clear(p[copy(p, t):])
	im.pack(j, 0, p)
}

// buffer gives a job memory for n bytes of data, at most chunk.
func (im *importer) buffer(j *job, n int) []byte {
	b := im.bufs.Get().(*[]byte)
	j.bufs = append(j.bufs, b)
	return (*b)[:n]
}

// sequence is the part that decides what the volume looks like. It gives a batch
// its places before it commits the batch before, so that data is written while
// keys are committed.
func (im *importer) sequence(ctx context.Context) error {
	var prev []*job
	for {
		batch, more, err := im.batch(ctx)
		if err != nil {
			return err
		}
		if err := im.place(ctx, batch); err != nil {
			return err
		}
		if err := im.commit(ctx, prev); err != nil {
			return err
		}
		prev = batch
		if n := len(batch); n > 0 && batch[n-1].barrier != nil {
			if err := im.commit(ctx, prev); err != nil {
				return err
			}
			prev = nil
			if err := batch[n-1].barrier(ctx); err != nil {
				return fmt.Errorf("%s: %w", batch[n-1].node.path(), err)
			}
		}
		if !more {
			return im.commit(ctx, prev)
		}
	}
}

// batch collects jobs. Where it ends depends on what they are only.
func (im *importer) batch(ctx context.Context) (jobs []*job, more bool, err error) {
	room, bytes := im.w.ImportRoom(), int64(0)
	for len(jobs) == 0 || room > 0 && bytes < placed {
		var j *job
		select {
		case j = <-im.ordered:
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
		if j == nil {
			return jobs, false, ctx.Err()
		}
		if j.ready != nil {
			select {
			case <-j.ready:
			case <-ctx.Done():
				return nil, false, ctx.Err()
			}
		}
		if j.err != nil {
			return nil, false, fmt.Errorf("%s: %w", j.path(), j.err)
		}
		jobs = append(jobs, j)
		if j.barrier != nil {
			return jobs, true, nil
		}
		s := objects.Step{Name: []byte(j.node.name), Spec: j.spec}
		room -= s.Bytes() + 450*len(j.pieces)
		bytes += j.bytes
	}
	return jobs, true, nil
}

// place gives data its places and has it written.
func (im *importer) place(ctx context.Context, jobs []*job) error {
	for _, j := range jobs {
		if len(j.pieces) == 0 {
			continue
		}
		j.x = im.w.NewExtents()
		for _, c := range j.pieces {
			if err := im.w.Bytes.Place(ctx, j.x, c); err != nil {
				return fmt.Errorf("%s: %w", j.path(), err)
			}
		}
		j.stored.Add(1)
		err := im.do(ctx, func() {
			defer j.stored.Done()
			for _, c := range j.pieces {
				lost, err := im.w.Bytes.Store(c)
				if err == nil && lost > 0 {
					err = fmt.Errorf("%d copies could not be written", lost)
				}
				if err != nil {
					j.err = err
					return
				}
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// commit makes the files of a batch.
func (im *importer) commit(ctx context.Context, jobs []*job) error {
	var steps []objects.Step
	var of []*job // parallel to steps
	room := im.w.ImportRoom()
	left := room
	flush := func() error {
		if len(steps) == 0 {
			return nil
		}
		_, err := im.w.Import(ctx, objects.Root.Subvol, steps)
		var se *objects.StepError
		if errors.As(err, &se) {
			return fmt.Errorf("%s: %w", of[se.Step].path(), se.Err)
		} else if err != nil {
			return err
		}
		clear(steps)
		steps, of, left = steps[:0], of[:0], room
		return nil
	}
	put := func(j *job, s objects.Step) error {
		n := s.Bytes()
		if n > left {
			if err := flush(); err != nil {
				return err
			}
		}
		left -= n
		steps, of = append(steps, s), append(of, j)
		return nil
	}
	for _, j := range jobs {
		if j.barrier != nil {
			continue
		}
		j.stored.Wait()
		if j.err != nil {
			return fmt.Errorf("%s: %w", j.path(), j.err)
		}
		for i, s := range im.steps(j, room) {
			if err := put(j, s); err != nil {
				return err
			}
			if i == 0 {
				im.count(j)
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	for _, j := range jobs {
		for _, b := range j.bufs {
			im.bufs.Put(b)
		}
		j.bufs, j.pieces = nil, nil
		im.sem.Release(j.weight)
	}
	if im.tell != nil {
		im.tell(im.stats.Files, im.stats.Bytes)
	}
	return nil
}

func (im *importer) count(j *job) {
	switch j.kind {
	case objects.StepCreate:
		im.stats.Files++
		if j.spec.Mode&ondisk.ModeTypeMask == ondisk.ModeDir {
			im.stats.Dirs++
		}
	case objects.StepLink:
		im.stats.Links++
	}
	im.stats.Bytes += j.bytes
}

// steps are what a job asks for, in parts that fit a transaction.
func (im *importer) steps(j *job, room int) []objects.Step {
	s := objects.Step{Kind: j.kind, File: &j.node.Imported, Spec: j.spec, Name: []byte(j.node.name), Written: j.x}
	switch {
	case j.kind == objects.StepLink:
		s.Dir, s.Name = &j.dir.Imported, []byte(j.name)
	case j.node.up != nil:
		s.Dir = &j.node.up.Imported
	}
	var keys []ondisk.KV
	for _, c := range j.pieces {
		keys = append(keys, c.Keys(0)...)
	}
	s.Spec.Data = keys
	if s.Bytes() <= room {
		return []objects.Step{s}
	}
	// Too much at once: the rest of the data and of the attributes follow.
	xattrs := s.Spec.Xattrs
	s.Spec.Data, s.Spec.Xattrs, s.Written = nil, nil, nil
	out := []objects.Step{s}
	more := objects.Step{Kind: objects.StepExtend, File: s.File}
	cut := func() {
		if len(more.Spec.Data)+len(more.Spec.Xattrs) > 0 {
			out = append(out, more)
		}
		more = objects.Step{Kind: objects.StepExtend, File: s.File}
	}
	for _, x := range xattrs {
		more.Spec.Xattrs = append(more.Spec.Xattrs, x)
		if more.Bytes() > room {
			more.Spec.Xattrs = more.Spec.Xattrs[:len(more.Spec.Xattrs)-1]
			cut()
			more.Spec.Xattrs = append(more.Spec.Xattrs, x)
		}
	}
	for _, kv := range keys {
		if len(more.Spec.Data) > 0 && more.Bytes() > room-450 {
			cut()
		}
		more.Spec.Data = append(more.Spec.Data, kv)
	}
	cut()
	out[len(out)-1].Written = j.x
	return out
}
