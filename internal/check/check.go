package check

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/journal"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Options of Run. The zero value checks metadata with the defaults.
type Options struct {
	Members members.Options
	// Data reads and verifies every copy of every extent too.
	Data bool
	// Memory bounds the tables of buckets, inodes and indirect extents in bytes; 0
	// is DefaultMemory. With less than the volume asks for, the check goes over the
	// btrees several times. What grows with the number of directories, snapshots,
	// stripes and btree nodes is not in it.
	Memory int64
	// PerKind bounds how many findings of each kind are handed out; 0 is
	// DefaultPerKind, negative no bound. All are counted.
	PerKind int
	// Workers is how many pieces of work go on at once; 0 for a default by the
	// number of processors.
	Workers int
	// Found is called with each finding, from one goroutine, in an order that
	// depends on the volume alone.
	Found func(Finding)
	// Progress is called now and then, from any goroutine.
	Progress func(Progress)
}

// Defaults of Options.
const (
	DefaultMemory  = 1 << 30
	DefaultPerKind = 1000
)

// Progress says how far the check is.
type Progress struct {
	Stage string // what is being done
	Nodes int64  // btree nodes read; with several passes some more than once
	Total int64  // btree nodes that there are
	Bytes int64  // of file data verified
	// TotalBytes is about how much file data there is to verify, 0 until known.
	TotalBytes int64
}

// Result is what came out.
type Result struct {
	Version ondisk.Version
	Clean   bool // the volume was shut down properly
	// Errors and Notes count the findings by name.
	Errors, Notes map[string]int
	Passes        int
	Nodes, Bytes  int64
	// Stages say how long the parts of the check took.
	Stages []Stage
	// Incomplete: parts of the volume could not be read, so that not everything
	// was compared.
	Incomplete bool
}

// Stage is a part of the check; of several passes every one has its own.
type Stage struct {
	Name    string
	Seconds float64
}

// Bad is the number of findings that are not notes.
func (r *Result) Bad() (n int) {
	for _, k := range r.Errors {
		n += k
	}
	return n
}

// checker is one run.
type checker struct {
	opts  Options
	set   *members.Set
	sb    *ondisk.Superblock
	state *journal.State
	rep   *report
	mute  atomic.Bool // of warnings

	v       ondisk.Version
	clean   bool
	noAlloc bool // the volume has no allocation info
	// staleInums: the volume was upgraded from before 1.15, when all counters moved
	// and those of inode numbers were left behind.
	staleInums bool
	nrStale    int
	nodeBytes  int
	blockBytes int
	nodeMagic  uint64
	bpShift    uint
	accForm    ondisk.AccountingForm
	keyVersion uint64
	clockLimit [2]uint64
	keyRules   ondisk.CheckContext
	devs       []*geom
	nbuckets   uint64
	groups     []ondisk.DiskGroup
	replicas   []ondisk.ReplicasEntry
	workers    int
	hash       hasher

	trees     [ondisk.MaxBtrees]*tree
	lostMu    sync.Mutex
	lostTrees uint64
	walked    uint64 // btrees whose leaves were walked before

	stages     []Stage
	stageStart time.Time

	nodePool, bufPool, stretches sync.Pool
	prog                         struct {
		stage atomic.Value // string
		nodes atomic.Int64
		bytes atomic.Int64
		total atomic.Int64
		data  atomic.Int64
	}

	snaps     *snapTable
	deleted   map[deletedKey]bool
	stripes   map[uint64]*stripe
	stripeLRU map[uint64]uint64
	gens      genTable
	gensSeen  []uint32

	pass       int
	win        window
	volumeOpts ioOpts
	unmarked   atomic.Int64    // extents, see noteUnmarked
	macType    ondisk.CsumType // of data, if encrypted
	cookies    map[uint64]bool // scans that are due: 0 all, else of an inode
	inodes     *inodeTable
	nextInode  uint64
	inodesSeen ondisk.Pos // last position of the leaves of inodes read so far
	reflink    *reflinkTable
	nextShared uint64

	accMu     sync.Mutex
	acc       *counters
	haveAcc   *counters
	inums     *sumTable
	works     *sumTable
	scans     map[scanKey]*nodeRef
	entriesOf map[uint32][]entryOf
	overlaps  []overlap
	dirs      []directory

	paths   map[inView]string
	nrPaths int

	seenCompression atomic.Uint32
	seenTypes       atomic.Uint64
}

// minor: the volume has version 1.n or a newer one.
func (c *checker) minor(n int) bool { return c.v >= ondisk.Version1_0+ondisk.Version(n) }

// Run checks the volume that the readers hold, in any order. The error says that
// the check could not be made, or was canceled; what is wrong with the volume is
// in the findings and the Result.
func Run(ctx context.Context, readers []block.Reader, o Options) (*Result, error) {
	if o.Memory <= 0 {
		o.Memory = DefaultMemory
	}
	if o.PerKind == 0 {
		o.PerKind = DefaultPerKind
	}
	if o.Found == nil {
		o.Found = func(Finding) {}
	}
	c := newChecker(o)
	stop := c.startProgress()
	defer stop()
	err := c.open(ctx, readers)
	if err == nil {
		err = c.run(ctx)
	}
	c.flush(ctx)
	if err != nil {
		return nil, err
	}
	return c.result(), nil
}

func newChecker(o Options) *checker {
	c := &checker{opts: o, rep: newReport(o.PerKind), workers: o.Workers, hash: newHasher(), acc: newCounters(), scans: map[scanKey]*nodeRef{}, paths: map[inView]string{}, entriesOf: map[uint32][]entryOf{}}
	if c.workers <= 0 {
		// Some more than processors, so that reads overlap.
		c.workers = max(4, 2*runtime.GOMAXPROCS(0))
	}
	return c
}

// open assembles the volume and checks what is not in a btree: superblocks and
// journal.
func (c *checker) open(ctx context.Context, readers []block.Reader) error {
	c.stage("opening")
	mo := c.opts.Members
	mo.Warn = func(err error) {
		if !c.mute.Load() {
			c.warned(err)
		}
	}
	set, err := members.Open(ctx, readers, mo)
	if err != nil {
		return err
	}
	c.set, c.sb, c.v = set, set.SB, set.SB.Version
	if !set.SB.Initialized() {
		return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUnsupported, Reason: "the volume was never initialized: there is nothing to check yet (its first read-write mount makes it)"}
	}
	if err := c.setup(); err != nil {
		return err
	}
	if c.state, err = journal.Load(ctx, set); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	c.clean = c.state.Clean
	c.keyVersion = c.state.KeyVersion
	for i, t := range c.state.Clock {
		c.clockLimit[i] = max(t, 1) // the clock reads at least 1
	}
	c.checkSupers(ctx, readers)
	// An unclean volume's journal was read, and what is wrong with it reported.
	c.mute.Store(!c.clean)
	defer c.mute.Store(true)
	return c.checkJournal(ctx)
}

// setup fills in what is derived from the superblock.
func (c *checker) setup() error {
	sb := c.sb
	c.nodeBytes, c.blockBytes = sb.NodeSectors()*512, int(sb.BlockSize)*512
	if c.nodeBytes == 0 || c.blockBytes == 0 || c.nodeBytes < c.blockBytes {
		return errs.Corruptf("btree_node_size", "%d bytes, blocks of %d", c.nodeBytes, c.blockBytes)
	}
	c.nodeMagic, c.bpShift, c.accForm = ondisk.NodeMagic(sb.UUID), uint(sb.ExtentBPShift()), ondisk.AccountingFormOf(c.v)
	var err error
	if c.groups, err = sb.DiskGroups(); err != nil {
		return err
	}
	if c.replicas, err = sb.Replicas(); err != nil {
		return err
	}
	c.devs = make([]*geom, len(c.set.Devs))
	for i, d := range c.set.Devs {
		if d == nil {
			continue
		}
		g := &geom{dev: i, m: d.Member, size: uint64(d.Member.BucketSize), base: c.nbuckets, online: d.Online()}
		if d.Online() {
			g.sb = d.SB
		}
		if g.size == 0 {
			return errs.Corruptf("sb_member_bucket_size", "0, member %d", i)
		}
		c.nbuckets += d.Member.NBuckets
		c.devs[i] = g
	}
	c.keyRules = ondisk.CheckContext{Version: c.v, Sizes: c.set.ExtentTypes, NodeSectors: uint32(sb.NodeSectors()),
		Member: func(dev uint8) (size, first, n uint64, ok bool) {
			g := c.geometry(dev)
			if g == nil {
				return 0, 0, 0, false
			}
			return g.size, uint64(g.m.FirstBucket), g.m.NBuckets, true
		}}
	return nil
}

// run checks everything in the btrees.
func (c *checker) run(ctx context.Context) error {
	c.stage("btree nodes")
	if err := c.loadTrees(ctx); err != nil {
		return err
	}
	for _, t := range c.trees {
		if t != nil {
			c.prog.total.Add(int64(len(t.inner) + len(t.leaves)))
		}
	}
	c.noAlloc = c.sb.HasFeature(ondisk.FeatureNoAllocInfo) || c.trees[ondisk.BtreeAlloc] == nil
	c.staleInums = c.minor(15) && c.sb.VersionMin < ondisk.Version1_15
	c.inums, c.works = newSumTable(&c.hash, 1<<16), newSumTable(&c.hash, 1<<12)
	c.stage("snapshots")
	for _, f := range []func(context.Context) error{c.loadSnapshots, c.loadDeleted, c.loadStripes} {
		if err := f(ctx); err != nil {
			return err
		}
	}
	if err := c.loadCookies(ctx); err != nil {
		return err
	}
	c.gens = newGenTable(c.nbuckets)
	for more := true; more; c.pass++ {
		var err error
		if more, err = c.onePass(ctx); err != nil {
			return err
		}
		c.flush(ctx)
	}
	c.stage("directories")
	c.compareAccounting()
	c.checkStructure()
	c.checkFeatures()
	c.noteUnmarked()
	if c.opts.Data {
		return c.checkData(ctx)
	}
	return nil
}

// onePass looks at one window of buckets, of inodes and of indirect extents. It
// reports whether another pass is needed.
func (c *checker) onePass(ctx context.Context) (more bool, err error) {
	first := c.pass == 0
	c.stage("allocation")
	c.nextWindow()
	buckets := len(c.win.b) > 0
	t := c.tasks(ctx)
	if buckets {
		t.loadAlloc(first)
	}
	if err := t.wait(); err != nil {
		return false, err
	}
	c.markOwn()
	if first || c.nextInode != 0 {
		c.stage("inodes")
		if err := c.loadInodes(ctx); err != nil {
			return false, err
		}
	} else {
		c.inodes = &inodeTable{from: 1, to: 0}
	}
	if first || c.nextShared != 0 {
		if err := c.loadReflink(ctx); err != nil {
			return false, err
		}
	} else {
		c.reflink = &reflinkTable{from: math.MaxUint64}
	}
	c.stage("files")
	t = c.tasks(ctx)
	if buckets {
		t.walkPointers(nil)
	}
	if c.inodes.from <= c.inodes.to || first {
		t.walkFiles(first)
	} else {
		t.walkExtents()
	}
	t.walkDamage(first)
	if !c.noAlloc && buckets {
		t.walkBackpointers(first)
		t.walkIndexes(first, c.subtract)
	}
	if first {
		if !c.noAlloc {
			t.walkBucketGens()
		}
		t.walkAccounting()
		t.walkWork()
		t.walkSmall()
	}
	if err := t.wait(); err != nil {
		return false, err
	}
	c.stage("comparing")
	if first {
		c.missingGens()
		if err := c.checkStripes(ctx); err != nil {
			return false, err
		}
		if err := c.checkScan(ctx); err != nil {
			return false, err
		}
		c.checkStripeLRU()
	}
	if !c.noAlloc && buckets {
		if err := c.runBuckets(ctx, c.acc); err != nil {
			return false, err
		}
		c.checkOverlaps()
	}
	if len(c.inodes.all) > 0 || first {
		if err := c.compareLinks(ctx); err != nil {
			return false, err
		}
		c.checkDeletedList()
		c.keepDirs()
	}
	c.compareRefs()
	return c.win.to < c.nbuckets || c.nextInode != 0 || c.nextShared != 0, nil
}

// nextWindow moves on to the next buckets.
func (c *checker) nextWindow() {
	n := uint64(max(c.opts.Memory/2/bucketBytes, 256))
	from := c.win.to
	to := min(from+n, c.nbuckets)
	c.win = window{from: from, to: to, b: make([]bucket, to-from)}
}

// walkPointers follows the pointers that do not belong to files: of btree nodes,
// stripes and indirect extents; with d for the details, of files too.
func (t *tasks) walkPointers(d *detail) {
	c := t.c
	first := c.pass == 0 && d == nil
	make1 := func() *pointers {
		p := c.pointers(first)
		if p.d = d; d != nil {
			p.acc = newCounters()
		}
		return p
	}
	t.do(func(context.Context) error {
		p := make1()
		defer p.done()
		for _, tr := range c.trees {
			if tr != nil {
				tr.nodes(p.node)
			}
		}
		p.allStripes()
		p.workStripes()
		return nil
	})
	t.leavesWith(ondisk.BtreeReflink, make1, func(p *pointers, kv *ondisk.KV) {
		c.sawType(kv.Type)
		p.leaf(ondisk.BtreeReflink, kv)
	})
	if d != nil {
		t.leavesWith(ondisk.BtreeExtents, make1, func(p *pointers, kv *ondisk.KV) { p.leaf(ondisk.BtreeExtents, kv) })
	}
}

// walkExtents follows the pointers of files only: all inodes were looked at.
func (t *tasks) walkExtents() {
	c := t.c
	t.leavesWith(ondisk.BtreeExtents, func() *pointers { return c.pointers(false) }, func(p *pointers, kv *ondisk.KV) {
		p.leaf(ondisk.BtreeExtents, kv)
		if kv.Type == ondisk.KeyReflinkP {
			c.reflink.ref(c, kv)
		}
	})
}

// leavesWith is leaves with pointers for each piece.
func (t *tasks) leavesWith(b ondisk.BtreeID, make1 func() *pointers, fn func(*pointers, *ondisk.KV)) {
	c := t.c
	refs := c.leavesIn(b, ondisk.PosMin, ondisk.SPosMax)
	report := c.first(b)
	for len(refs) > 0 {
		k := min(len(refs), batchNodes)
		part := refs[:k]
		refs = refs[k:]
		t.do(func(ctx context.Context) error {
			p := make1()
			defer p.done()
			return c.inBatches(ctx, part, func(*nodeRef) bool { return report }, func(n *node) {
				for i := range n.keys {
					fn(p, &n.keys[i])
				}
			})
		})
	}
}

// stage begins a part of the check; its name is for people.
func (c *checker) stage(s string) {
	c.prog.stage.Store(s)
	now := time.Now()
	if n := len(c.stages); n > 0 && c.stages[n-1].Seconds == 0 {
		c.stages[n-1].Seconds = now.Sub(c.stageStart).Seconds()
	}
	if s != "" {
		c.stages = append(c.stages, Stage{Name: s})
	}
	c.stageStart = now
}

// startProgress tells about progress until the returned function is called.
func (c *checker) startProgress() (stop func()) {
	if c.opts.Progress == nil {
		return func() {}
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		t := time.NewTicker(200 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-t.C:
				s, _ := c.prog.stage.Load().(string)
				c.opts.Progress(Progress{Stage: s, Nodes: c.prog.nodes.Load(), Total: c.prog.total.Load(), Bytes: c.prog.bytes.Load(), TotalBytes: c.prog.data.Load()})
			}
		}
	}()
	return func() { close(done); wg.Wait() }
}

// flush hands out the findings since the last time.
func (c *checker) flush(ctx context.Context) {
	list := c.rep.take()
	c.addPaths(ctx, list)
	for _, f := range list {
		c.opts.Found(f)
	}
}

func (c *checker) result() *Result {
	c.stage("")
	r := &Result{Stages: c.stages, Version: c.v, Clean: c.clean, Errors: map[string]int{}, Notes: map[string]int{}, Passes: c.pass,
		Nodes: c.prog.nodes.Load(), Bytes: c.prog.bytes.Load(), Incomplete: c.lostNodes()}
	for name, n := range c.rep.counts {
		if n.note {
			r.Notes[name] = n.n
		} else {
			r.Errors[name] = n.n
		}
	}
	return r
}
