package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

func init() { commands = append(commands, newCpCmd) }

// cpFlags are what cp was asked for.
type cpFlags struct {
	resume, force, verify, noSpaceCheck, keepDamaged bool
	noXattrs, oneSubvol, verbose, progress           bool
}

func newCpCmd(a *app) *cobra.Command {
	var vf volumeFlags
	var f cpFlags
	var into, dryRun bool
	var owner string
	cmd := &cobra.Command{
		Use:   "cp VOLUME SRC... DEST\n  gobcachefs cp --into VOLUME SRC... DEST",
		Short: "Copy files of a volume to this system, or of this system into a volume",
		Long: `Copy files of a volume, and all below them, to a directory of this system. If DEST
is a directory each SRC goes into it under its own name, and what is in SRC itself
if that is / or ends in "/."; else a single SRC becomes DEST.

Kept are contents and holes, mode, times to the nanosecond, extended attributes,
ACLs, hard links, symlinks, and as root owners, devices, fifos and sockets. What the
target or the rights of the user do not allow is counted at the end; that alone is
no failure. A file that could not be made at all is one.

A file appears under its name when it is complete, with all attributes. Files that
exist are not replaced without --force. --resume goes on after an interruption: it
leaves alone what has the same size and mtime (and symlinks with the same target),
and removes files that were not completed. --verify reads back what was written.

What cannot be read is listed, and the exit code is 1. A file that cannot be read
in full is left out, or with --keep-damaged has zeros in place of what is missing.

With --json: one document of totals, {"schema":1,...,"lost":[...],"errors":[...]}.

With --into it is the other way round: each SRC is a file of this system, and DEST a
path of the volume. Files are put into the volume complete, or not at all; where
other file systems are mounted below SRC, -x leaves those out. An interrupted copy
leaves a clean volume, and --resume goes on. --json is then as for other commands
that change a volume, {"schema":1,"changes":[...],"errors":[...]}.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if into {
				wf := writeFlags{volumeFlags: vf, dryRun: dryRun, verbose: f.verbose}
				return a.cpIntoVolume(cmd, &wf, f, owner, args)
			}
			if owner != "" || dryRun {
				return usageErr("--owner and --dry-run need --into")
			}
			return a.withTree(cmd, &vf, args, 2, -1, func(t *tree, paths []string) error {
				c := newCopier(t, f)
				err := c.run(paths[:len(paths)-1], paths[len(paths)-1])
				return c.end(err)
			})
		},
	}
	vf.add(cmd)
	a.jsonFlag(cmd)
	fl := cmd.Flags()
	fl.BoolVar(&f.resume, "resume", false, "go on with a copy that was interrupted")
	fl.BoolVarP(&f.force, "force", "f", false, "replace files that exist")
	fl.BoolVar(&f.verify, "verify", false, "read back and compare what was written")
	fl.BoolVar(&f.noSpaceCheck, "no-space-check", false, "start even if the target has too little space")
	fl.BoolVar(&f.keepDamaged, "keep-damaged", false, "keep files that cannot be read in full")
	fl.BoolVar(&f.noXattrs, "no-xattrs", false, "leave out extended attributes and ACLs")
	fl.BoolVarP(&f.oneSubvol, "one-subvolume", "x", false, "do not go into nested subvolumes")
	fl.BoolVarP(&f.verbose, "verbose", "v", false, "list the files copied")
	fl.BoolVar(&into, "into", false, "copy from this system into the volume")
	fl.StringVar(&owner, "owner", "", "with --into: `UID[:GID]` for everything that is copied")
	fl.BoolVar(&dryRun, "dry-run", false, "with --into: do everything but write")
	progressFlag(cmd, &f.progress)
	return cmd
}

// copier is one run of cp. A walk makes the directories in order and hands
// everything else to workers.
type copier struct {
	*tree
	cpFlags
	cancel context.CancelCauseFunc
	target target // what the target can
	space  func(*os.Root) (free, block uint64, err error)
	p      *progress
	pool   *chunkPool
	small  sync.Pool
	copied atomic.Int64 // files, without directories
	same   atomic.Int64 // left alone by --resume

	mu    sync.Mutex
	links map[bcachefs.NodeID]*copiedLink
	lost  map[loss]*lossCount
	top   *os.Root // that link names are relative to
}

func newCopier(t *tree, f cpFlags) *copier {
	return &copier{tree: t, cpFlags: f, space: freeSpace, pool: newChunkPool(), links: map[bcachefs.NodeID]*copiedLink{}, lost: map[loss]*lossCount{}}
}

// copyRoot is a SRC and where it goes.
type copyRoot struct {
	walkRoot
	name string // in the top directory; "." for the top directory itself
}

// errFull ends a run whose target has no space left.
var errFull = errors.New("no space left on the target; what is complete stays, and --resume goes on")

func (c *copier) run(srcs []string, dest string) error {
	ctx, cancel := context.WithCancelCause(c.ctx)
	defer cancel(nil)
	c.cancel = cancel
	c.p = c.startProgress("copied", c.progress)
	defer c.p.finish()

	top, roots, err := c.place(srcs, dest)
	if err != nil {
		return err
	}
	if len(roots) == 0 {
		return nil // reported
	}
	defer top.Close()
	c.top = top
	if c.resume {
		removeLeftovers(top)
	}
	if c.target, err = probeTarget(top); err != nil {
		return err
	}
	if c.target.folds {
		c.r.note("the target does not tell all names apart (upper and lower case, or forms of Unicode): of files that collide only the first is copied")
	}
	if err := c.checkSpace(ctx, roots, top, dest); err != nil {
		return err
	}

	work := make(chan *copyJob, 64)
	var wg sync.WaitGroup
	for range max(4, runtime.GOMAXPROCS(0)*2) {
		wg.Go(func() {
			for j := range work {
				if ctx.Err() == nil {
					c.job(ctx, j)
				}
				j.dir.release(c)
			}
		})
	}
	base := &targetDir{root: top, keep: true, shown: dest}
	base.retain()
	for _, r := range roots {
		if err = c.walkRoot(ctx, base, r, work); err != nil {
			break
		}
	}
	close(work)
	wg.Wait()
	base.release(c)
	if cause := context.Cause(ctx); cause != nil && c.ctx.Err() == nil {
		return cause
	}
	if err == nil {
		err = syncTarget(top)
	}
	return err
}

// place decides where each SRC goes and opens the top directory for it.
func (c *copier) place(srcs []string, dest string) (*os.Root, []copyRoot, error) {
	st, err := os.Stat(dest)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	isDir := err == nil && st.IsDir()
	if len(srcs) > 1 && !isDir {
		return nil, nil, usageErr("%s: not a directory, and there are several SRC", dest)
	}
	var roots []copyRoot
	for _, s := range srcs {
		a, ok := c.stat(s, false)
		if !ok {
			continue
		}
		r := copyRoot{walkRoot{path.Clean("/" + s), a.ID, a.Mode & ondisk.ModeTypeMask}, path.Base(path.Clean("/" + s))}
		if r.name == "/" || strings.HasSuffix(s, "/.") {
			r.name = "."
		}
		roots = append(roots, r)
	}
	if len(roots) == 0 {
		return nil, nil, c.ctx.Err()
	}
	dir := dest
	switch {
	case isDir:
	case roots[0].typ == ondisk.ModeDir && st == nil:
		// A new directory: DEST becomes SRC.
		roots[0].name = "."
		if err := os.Mkdir(dest, 0o700); err != nil {
			return nil, nil, err
		}
	case roots[0].typ == ondisk.ModeDir:
		return nil, nil, &fs.PathError{Op: "cp", Path: dest, Err: errNotDir}
	default:
		dir, roots[0].name = filepath.Dir(dest), filepath.Base(dest)
	}
	top, err := os.OpenRoot(dir)
	return top, roots, err
}

// checkSpace adds up what there is to copy, and refuses to start what cannot fit.
func (c *copier) checkSpace(ctx context.Context, roots []copyRoot, top *os.Root, dest string) error {
	free, block, err := c.space(top)
	if err != nil {
		c.r.note("%s: free space is not known: %v", dest, err)
		free, block = math.MaxUint64, 4096
	}
	var files, bytes int64
	var need uint64
	linked := map[bcachefs.NodeID]bool{}
	for _, r := range roots {
		o := walkOptions{maxDepth: -1, oneSubvol: c.oneSubvol, prepare: c.measure}
		err := walk(ctx, c.files, []walkRoot{r.walkRoot}, o, func(e *entry) error {
			if e.kind == entryFailed || e.err != nil {
				return nil // the copy reports it
			}
			files++
			n, ok := e.data.(uint64)
			if !ok {
				need += block
				return nil
			}
			if e.attr.Nlink > 1 {
				if linked[e.id] {
					return nil
				}
				linked[e.id] = true
			}
			if c.resume && c.complete(top, c.relative(r, e.path), &e.attr) {
				return nil
			}
			bytes += int64(min(n, math.MaxInt64-uint64(bytes)))
			if !c.target.sparse {
				n = e.attr.Size
			}
			if n = n/block*block + block; need+n < need {
				need = math.MaxUint64 // and stays there
			} else {
				need += n
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	c.p.totalFiles.Store(files)
	c.p.totalBytes.Store(bytes)
	if need > free {
		if !c.noSpaceCheck {
			return fmt.Errorf("%s: %s free, but %s needed (--no-space-check starts all the same)", escapeName(dest), humanSize(free), humanSize(need))
		}
		c.r.note("%s: %s free, but %s needed", escapeName(dest), humanSize(free), humanSize(need))
	}
	return nil
}

// measure leaves in an entry how much data a regular file has, in bytes.
func (c *copier) measure(ctx context.Context, e *entry) {
	if !e.attr.IsRegular() {
		return
	}
	n := e.attr.Size
	if n > chunkSize { // below, holes do not matter
		if h, err := c.files.Open(ctx, e.id); err == nil {
			if m, err := mapFile(ctx, h, 0, int64(min(n, math.MaxInt64))); err == nil {
				n = uint64(m.bytes())
			}
		}
	}
	e.data = n
}

// relative is the path in the top directory that a path of the walk goes to.
func (c *copier) relative(r copyRoot, p string) string {
	return path.Join(r.name, strings.TrimPrefix(strings.TrimPrefix(p, r.path), "/"))
}

// complete reports whether a former run copied a file already. It has its name
// only then.
func (c *copier) complete(root *os.Root, name string, a *bcachefs.Attr) bool {
	fi, err := root.Lstat(filepath.FromSlash(name))
	return err == nil && c.matches(fi, a)
}

// matches compares what there is with what would be copied.
func (c *copier) matches(fi os.FileInfo, a *bcachefs.Attr) bool {
	switch a.Mode & ondisk.ModeTypeMask {
	case ondisk.ModeRegular:
		d := a.Mtime.Sub(fi.ModTime())
		return fi.Mode().IsRegular() && uint64(fi.Size()) == a.Size && d > -c.target.tick && d < c.target.tick
	case ondisk.ModeSymlink:
		return false // the target is compared
	}
	return fi.Mode()&fs.ModeType == hostMode(a.Mode)&fs.ModeType
}

// walkRoot copies one SRC.
func (c *copier) walkRoot(ctx context.Context, base *targetDir, r copyRoot, work chan<- *copyJob) error {
	// dirs are the target directories that the walk is in; one that could not be
	// made is nil, and so is all below it.
	dirs := []*targetDir{base}
	defer func() {
		for _, d := range dirs[1:] {
			d.release(c)
		}
	}()
	o := walkOptions{maxDepth: -1, oneSubvol: c.oneSubvol, leave: true, batch: 8}
	return walk(ctx, c.files, []walkRoot{r.walkRoot}, o, func(e *entry) error {
		parent := dirs[len(dirs)-1]
		switch e.kind {
		case entryFailed:
			c.r.fail(e.path, e.err)
			return nil
		case entryLeave:
			dirs = dirs[:len(dirs)-1]
			parent.release(c)
			return nil
		}
		if parent == nil {
			if e.typ == ondisk.ModeDir && !e.pruned {
				dirs = append(dirs, nil)
			}
			return nil
		}
		name := e.name
		if e.depth == 0 {
			name = r.name
		}
		if e.err != nil {
			c.r.fail(e.path, e.err)
		} else if !e.attr.IsDir() {
			parent.retain()
			select {
			case work <- &copyJob{dir: parent, e: e, name: name}:
			case <-ctx.Done():
				parent.release(c)
				return context.Cause(ctx)
			}
			return nil
		}
		if e.typ != ondisk.ModeDir {
			return nil
		}
		var d *targetDir
		if e.err == nil {
			var err error
			if d, err = c.makeDir(parent, e, name); err != nil {
				c.failed(e.path, fmt.Errorf("%w; nothing in it is copied", plainErr(err)))
			}
			c.p.files.Add(1)
		}
		if !e.pruned {
			dirs = append(dirs, d)
		} else {
			d.release(c)
		}
		return nil
	})
}

// failed reports an error on the target, and ends the run when there is no space.
func (c *copier) failed(path string, err error) {
	c.r.fail(path, err)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EROFS) || isDiskFull(err) {
		c.cancel(errFull)
	}
}

// plainErr is an error without the path that it repeats.
func plainErr(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return fmt.Errorf("%s: %w", strings.TrimSuffix(pe.Op, "at"), pe.Err)
	}
	var le *os.LinkError
	if errors.As(err, &le) {
		return fmt.Errorf("%s: %w", strings.TrimSuffix(le.Op, "at"), le.Err)
	}
	return err
}

// cpJSON is the document of cp --json.
type cpJSON struct {
	Schema  int        `json:"schema"`
	Copied  int64      `json:"copied"`
	Skipped int64      `json:"complete_before"`
	Bytes   int64      `json:"bytes"`
	Lost    []lossJSON `json:"lost"`
	Errors  []failure  `json:"errors"`
}

// end says how it went.
func (c *copier) end(err error) error {
	lost := c.losses()
	for _, l := range lost {
		c.r.note("lost: %s of %d files, the first %s", l.What, l.Files, escapeName(l.First))
	}
	if c.p != nil {
		c.r.summary(c.copied.Load()+c.same.Load()+int64(c.r.failed), "files")
	}
	if c.json && (err == nil || errors.Is(err, errFull)) {
		doc := cpJSON{Schema: 1, Copied: c.copied.Load(), Skipped: c.same.Load(), Bytes: c.p.bytes.Load(), Lost: lost, Errors: c.r.failures()}
		if jerr := c.writeJSON(doc); jerr != nil {
			return jerr
		}
	}
	return err
}
