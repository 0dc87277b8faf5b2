package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

func init() { commands = append(commands, newTarCmd) }

// tarFlags are what tar was asked for.
type tarFlags struct {
	file, dir                                        string
	verbose, noSparse, noXattrs, oneSubvol, progress bool
}

func newTarCmd(a *app) *cobra.Command {
	var vf volumeFlags
	var f tarFlags
	cmd := &cobra.Command{
		Use:   "tar VOLUME [PATH...]",
		Short: "Write files of a volume as a tar archive",
		Long: `Write files of a volume and all below them, "/" if no PATH is given, as a tar
archive to standard output or to FILE.

The archive is in the PAX format: names byte by byte, nanoseconds, extended
attributes (SCHILY.xattr.*; extract with tar --xattrs --xattrs-include='*'), POSIX
ACLs (the same, and SCHILY.acl.* for tar --acls), holes (GNU sparse format 1.0),
hard links, devices and fifos. Sockets are left out. Members are ordered by name,
and the same volume gives the same archive. Names are without the leading "/".

What cannot be read is listed, and the exit code is 1: a file that cannot be read
in full has zeros in place of what is missing, one without attributes is left out.

With -v each member is listed on standard output, or standard error if the archive
goes there; with --json as an object a line, {"schema":1,"errors":[...]} the last.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.file == "" || f.file == "-" {
				if isTerminal(a.Out) {
					return usageErr("not writing an archive to a terminal: use -f FILE")
				}
				a.jsonOut = a.Err // standard output is the archive's
			}
			return a.withTree(cmd, &vf, args, 0, -1, func(t *tree, paths []string) error { return t.tar(f, paths) })
		},
	}
	vf.add(cmd)
	a.jsonFlag(cmd)
	fl := cmd.Flags()
	fl.StringVarP(&f.file, "file", "f", "", "write the archive to this `FILE`")
	fl.StringVarP(&f.dir, "directory", "C", "", "PATHs, and the names in the archive, are relative to this `DIR` of the volume")
	fl.BoolVarP(&f.verbose, "verbose", "v", false, "list the members")
	fl.BoolVar(&f.noSparse, "no-sparse", false, "write holes as zeros, for readers that do not know sparse files")
	fl.BoolVar(&f.noXattrs, "no-xattrs", false, "leave out extended attributes and ACLs")
	fl.BoolVarP(&f.oneSubvol, "one-subvolume", "x", false, "do not go into nested subvolumes")
	progressFlag(cmd, &f.progress)
	return cmd
}

// tar opens the output and writes the archive.
func (t *tree) tar(f tarFlags, paths []string) error {
	base := path.Clean("/" + f.dir)
	var roots []walkRoot
	if len(paths) == 0 {
		paths = []string{"."}
	}
	for _, p := range paths {
		full := path.Join(base, p)
		if strings.HasPrefix(p, "/") {
			full = path.Clean(p)
		}
		slash := full
		if strings.HasSuffix(p, "/") && full != "/" {
			slash += "/" // a directory, or a symlink to one
		}
		if a, ok := t.stat(slash, false); ok {
			roots = append(roots, walkRoot{full, a.ID, a.Mode & ondisk.ModeTypeMask})
		}
	}
	if err := t.r.err(); err != nil && len(roots) == 0 {
		return err
	}
	list := t.Err
	var out io.Writer = t.Out
	finish := func(error) error { return nil }
	if f.file != "" && f.file != "-" {
		list = t.Out
		file, done, err := createFile(f.file)
		if err != nil {
			return err
		}
		out, finish = file, done
	}
	r := &tarRun{tree: t, tarFlags: f, base: base, links: map[bcachefs.NodeID]*tarLink{}, pool: newChunkPool()}
	if f.verbose || t.json {
		r.list = bufio.NewWriter(list)
		if t.json {
			r.js = t.jsonLines(r.list)
		}
	}
	r.p = t.startProgress("archived", f.progress)
	buf := bufio.NewWriterSize(out, 256<<10)
	r.w.w = buf
	err := r.run(roots)
	if err == nil {
		err = r.w.close()
	}
	if ferr := buf.Flush(); err == nil {
		err = ferr
	}
	if ferr := finish(err); err == nil {
		err = ferr
	}
	r.p.finish()
	if r.js != nil && err == nil {
		err = r.js.end(map[string]any{"errors": t.r.failures()})
	}
	if r.list != nil {
		err = errors.Join(err, r.list.Flush())
	}
	if err == nil {
		t.r.summary(r.p.files.Load(), "files")
	}
	return err
}

// createFile opens a file to write. It gets its name only when it is complete,
// by calling done with nil; else it vanishes. What is there and is not a regular
// file (a device, a fifo) is written to as it is.
func createFile(name string) (f *os.File, done func(error) error, err error) {
	if st, err := os.Stat(name); err == nil && !st.Mode().IsRegular() {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		return f, func(error) error { return f.Close() }, err
	}
	// Not os.CreateTemp: the mode is to be what the umask leaves.
	f, err = os.OpenFile(filepath.Join(filepath.Dir(name), tempName()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, nil, err
	}
	return f, func(failed error) error {
		err := f.Sync()
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err == nil && failed == nil {
			if err = os.Rename(f.Name(), name); err == nil {
				return nil
			}
		}
		_ = os.Remove(f.Name())
		return err
	}, nil
}

// tempName is a new name for a file that is not complete.
func tempName() string { return fmt.Sprintf("%s%016x%s", tempPrefix, rand.Uint64(), tempSuffix) }

// What names of files that are not complete begin and end with.
const (
	tempPrefix = ".gobcachefs-"
	tempSuffix = ".part"
)

// tarRun is one archive being written. Entries flow through three stages, so
// that all cores have work: workers of the walk read attributes and small files,
// one goroutine decides on hard links and starts to read large files, one writes.
type tarRun struct {
	*tree
	tarFlags
	base  string
	w     tarWriter
	list  *bufio.Writer
	js    *jsonList
	p     *progress
	links map[bcachefs.NodeID]*tarLink
	pool  *chunkPool
	small sync.Pool
}

// tarLink is a member that further names may link to.
type tarLink struct {
	name string
	left uint32 // names still to come
}

// tarItem is an entry on its way.
type tarItem struct {
	m      tarMember
	path   string
	id     bcachefs.NodeID
	err    error // it cannot be archived
	xerr   error // its attributes or target are not complete
	h      *bcachefs.Handle
	layout fileMap
	buf    *[]byte // the data, if it is small
	bad    []badRange
	chunks chan *chunk // the data, if it is large
}

// smallFile is the most data that is read along with the attributes.
const smallFile = 128 << 10

// run writes the members.
func (r *tarRun) run(roots []walkRoot) error {
	ctx, cancel := context.WithCancelCause(r.ctx)
	defer cancel(nil)
	items := make(chan *tarItem, 64)
	written := make(chan error, 1)
	go func() {
		var err error
		for it := range items {
			if err == nil {
				if err = r.write(it); err != nil {
					cancel(err)
				}
			}
			r.drop(it)
		}
		written <- err
	}()
	var err error
	for _, root := range roots {
		o := walkOptions{maxDepth: -1, oneSubvol: r.oneSubvol, leave: true, batch: 8, prepare: r.prepare}
		err = walk(ctx, r.files, []walkRoot{root}, o, func(e *entry) error { return r.pass(ctx, e, items) })
		if err != nil {
			break
		}
	}
	close(items)
	if werr := <-written; werr != nil {
		return werr // the cause; err says only that the walk was canceled
	}
	return err
}

// prepare reads what a member needs beside its attributes. Many goroutines.
func (r *tarRun) prepare(ctx context.Context, e *entry) {
	it := &tarItem{path: e.path, id: e.id}
	e.data = it
	it.m = tarMember{name: r.memberName(e.path), typ: tarType(e.attr.Mode), attr: &e.attr}
	if it.m.typ == 0 {
		return
	}
	if !r.noXattrs {
		it.m.xattrs, it.xerr = r.files.Xattrs(ctx, e.id)
	}
	switch it.m.typ {
	case tarSymlink:
		it.m.link, it.err = r.files.Readlink(ctx, e.id)
	case tarRegular:
		it.m.size = int64(e.attr.Size)
		it.err = r.open(ctx, it)
	}
}

// open finds the data of a file, and reads it if it is small.
func (r *tarRun) open(ctx context.Context, it *tarItem) (err error) {
	if it.m.size == 0 {
		return nil
	}
	if it.m.size < 0 {
		return fmt.Errorf("size %d is more than a file can have", uint64(it.m.size))
	}
	if it.h, err = r.files.Open(ctx, it.id); err != nil {
		return err
	}
	if it.layout, err = mapFile(ctx, it.h, 0, it.m.size); err != nil {
		return err
	}
	n := it.layout.bytes()
	it.m.sparse = n < it.m.size && !r.noSparse
	it.m.ranges = it.layout.data
	it.bad = append(it.bad, it.layout.lost...)
	if n == 0 || n > smallFile {
		return nil
	}
	if it.buf, _ = r.small.Get().(*[]byte); it.buf == nil {
		b := make([]byte, smallFile)
		it.buf = &b
	}
	p := (*it.buf)[:n]
	for _, s := range it.layout.data {
		k := s.End - s.Start
		it.bad = append(it.bad, readFull(ctx, it.h, p[:k], int64(s.Start))...)
		p = p[k:]
	}
	return nil
}

// memberName is the name of a file in the archive.
func (r *tarRun) memberName(p string) string {
	if p == r.base {
		return "."
	}
	if rest, ok := strings.CutPrefix(p, strings.TrimSuffix(r.base, "/")+"/"); ok {
		p = rest
	}
	if p = strings.TrimLeft(p, "/"); p == "" {
		return "."
	}
	return p
}

// pass hands an entry on to be written, in order. One goroutine.
func (r *tarRun) pass(ctx context.Context, e *entry, items chan<- *tarItem) error {
	if e.kind == entryLeave {
		r.r.check(e.path, r.files, e.id) // now that it was listed
		return nil
	}
	it, ok := e.data.(*tarItem)
	if e.kind == entryFailed || !ok {
		r.r.fail(e.path, e.err)
		return nil
	}
	if it.m.typ == 0 {
		if e.attr.Mode&ondisk.ModeTypeMask != ondisk.ModeSocket {
			r.r.fail(e.path, fmt.Errorf("unknown file type %#o", e.attr.Mode))
			return nil
		}
		r.r.note("%s: socket left out", escapeName(e.path))
		return nil
	}
	if it.err == nil && it.m.typ != tarDir && e.attr.Nlink > 1 {
		if l := r.links[it.id]; l != nil {
			it.m.typ, it.m.link, it.m.size, it.m.sparse, it.m.ranges = tarHardLink, l.name, 0, false, nil
			it.m.xattrs, it.xerr = nil, nil // they are with the first
			if l.left--; l.left == 0 {
				delete(r.links, it.id)
			}
		} else {
			r.links[it.id] = &tarLink{it.m.name, e.attr.Nlink - 1}
		}
	}
	large := it.err == nil && it.m.typ == tarRegular && it.buf == nil && len(it.layout.data) > 0
	if large {
		it.chunks = make(chan *chunk, cap(r.pool.tokens))
	}
	select {
	case items <- it:
	case <-ctx.Done():
		r.drop(it)
		return ctx.Err()
	}
	if large {
		r.pool.feed(ctx, it.h, it.layout.data, func(c *chunk) bool { it.chunks <- c; return true })
		close(it.chunks)
	}
	return ctx.Err()
}

// drop frees what an item holds.
func (r *tarRun) drop(it *tarItem) {
	if it.buf != nil {
		r.small.Put(it.buf)
		it.buf = nil
	}
	if it.chunks != nil {
		for c := range it.chunks {
			c.wait()
			c.free()
		}
	}
}

// write writes a member. One goroutine, in order. The error ends the archive.
func (r *tarRun) write(it *tarItem) error {
	r.p.files.Add(1)
	if it.err != nil {
		r.r.fail(it.path, it.err)
		return r.ctx.Err()
	}
	if it.xerr != nil {
		r.r.fail(it.path, it.xerr)
	}
	if err := r.listed(it); err != nil {
		return err
	}
	if err := r.w.header(&it.m); err != nil {
		return err
	}
	if it.m.typ == tarRegular && it.m.size > 0 {
		if err := r.body(it); err != nil {
			return err
		}
	}
	r.r.check(it.path, r.files, it.id)
	return r.ctx.Err()
}

// body writes the data of a file, and reports what of it could not be read.
func (r *tarRun) body(it *tarItem) error {
	at := int64(0)
	put := func(b []byte, s segment) error {
		if !it.m.sparse {
			if err := r.w.zeros(s.off - at); err != nil {
				return err
			}
		}
		at = s.off + int64(s.n)
		r.p.bytes.Add(int64(s.n))
		return r.w.data(b)
	}
	bad := it.bad
	if it.buf != nil {
		p := *it.buf
		for _, d := range it.layout.data {
			s := segment{int64(d.Start), int(d.End - d.Start)}
			if err := put(p[:s.n], s); err != nil {
				return err
			}
			p = p[s.n:]
		}
	} else if it.chunks != nil {
		for c := range it.chunks {
			c.wait()
			p := c.buf
			var err error
			for _, s := range c.segs {
				if err == nil {
					err = put(p[:s.n], s)
				}
				p = p[s.n:]
			}
			bad = append(bad, c.bad...)
			c.free()
			if err != nil {
				return err
			}
		}
	}
	if err := r.ctx.Err(); err != nil {
		return err // the chunks may have ended early
	}
	if !it.m.sparse {
		if err := r.w.zeros(it.m.size - at); err != nil {
			return err
		}
	}
	if len(bad) > 0 {
		r.r.fail(it.path, badSum(bad))
	}
	return nil
}

// badSum says in one error what of a file could not be read.
func badSum(bad []badRange) error {
	var n int64
	for _, b := range bad {
		n += b.n
	}
	if len(bad) == 1 {
		return badError(bad[0])
	}
	return fmt.Errorf("%d bytes in %d places cannot be read, the first at offset %d: %w", n, len(bad), bad[0].off, bad[0].err)
}

// listed prints a member for -v and --json.
func (r *tarRun) listed(it *tarItem) error {
	switch {
	case r.js != nil:
		j := newJSONFile(it.m.name, it.m.attr)
		if it.m.typ == tarSymlink {
			j.setTarget(it.m.link)
		}
		v := struct {
			jsonFile
			Link string `json:"hard_link_to,omitempty"`
		}{jsonFile: j}
		if it.m.typ == tarHardLink {
			v.Link = it.m.link
		}
		return r.js.add(v)
	case r.list != nil:
		_, err := r.list.WriteString(escapeName(it.m.name) + "\n")
		return err
	}
	return nil
}
