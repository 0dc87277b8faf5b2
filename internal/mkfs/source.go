package mkfs

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync/atomic"

	"github.com/gobcachefs/gobcachefs/internal/objects"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// DirSource is a directory of the host with all that is below it: the names of
// each directory in byte order, one directory after the other, those of upper
// levels first (chapter 08 section 6.1). lost+found in its root is left out, as
// every volume has its own.
type DirSource struct{ Dir string }

// hostID names a file of the host.
type hostID struct{ dev, ino uint64 }

// hostFile is what the host says of a file.
type hostFile struct {
	spec   objects.Spec // without what takes opening the file
	size   int64
	sparse bool // it may have holes
	id     hostID
	nlink  uint64
}

// hostDir is an open directory of the host. Every job that needs it holds a
// reference.
type hostDir struct {
	host
	node *node
	refs atomic.Int32
}

func (d *hostDir) release() {
	if d.refs.Add(-1) == 0 {
		d.host.close()
	}
}

// openFile is a regular file of the host that several jobs read parts of.
type openFile struct {
	hostHandle
	refs atomic.Int32
}

func (f *openFile) release() {
	if f.refs.Add(-1) == 0 {
		f.hostHandle.close()
	}
}

func (s DirSource) walk(ctx context.Context, im *importer) error {
	w := &dirWalk{importer: im, links: map[hostID]*node{}, top: s.Dir}
	h, xattrs, err := hostRoot(s.Dir)
	if err != nil {
		return err
	}
	h.spec.Xattrs = w.keep("/", xattrs)
	if err := im.add(ctx, &job{kind: objects.StepSet, node: im.root, spec: h.spec}, 0, nil); err != nil {
		return err
	}
	w.queue = append(w.queue, im.root)
	for len(w.queue) > 0 {
		d := w.queue[0]
		w.queue[0] = nil
		w.queue = w.queue[1:]
		if err := w.dir(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// dirWalk is one walk of a DirSource.
type dirWalk struct {
	*importer
	top   string
	links map[hostID]*node // files with several names that were seen
	queue []*node          // directories to be read
}

// dir hands over everything in a directory.
func (w *dirWalk) dir(ctx context.Context, n *node) error {
	h, err := openHostDir(w.top, n.path())
	if err != nil {
		return fmt.Errorf("%s: %w", n.path(), err)
	}
	d := &hostDir{host: h, node: n}
	d.refs.Store(1)
	defer d.release()
	names, err := d.names()
	if err != nil {
		return fmt.Errorf("%s: %w", n.path(), err)
	}
	slices.Sort(names)
	for _, name := range names {
		if n.up == nil && name == "lost+found" {
			continue
		}
		if err := w.file(ctx, d, name); err != nil {
			return err
		}
	}
	return nil
}

// file hands over one entry of a directory.
func (w *dirWalk) file(ctx context.Context, d *hostDir, name string) error {
	n := &node{up: d.node, name: name}
	h, err := d.stat(name)
	if err != nil {
		return fmt.Errorf("%s: %w", n.path(), err)
	}
	typ := h.spec.Mode & ondisk.ModeTypeMask
	if h.nlink > 1 && typ != ondisk.ModeDir {
		if first := w.links[h.id]; first != nil {
			// A further name: its node is that of the file, its place its own.
			l := &job{kind: objects.StepLink, node: first, dir: d.node, name: name}
			return w.add(ctx, l, 0, nil)
		}
		w.links[h.id] = n
	}
	j := &job{kind: objects.StepCreate, node: n, spec: h.spec}
	d.refs.Add(1)
	switch typ {
	case ondisk.ModeDir:
		w.queue = append(w.queue, n)
	case ondisk.ModeRegular:
		return w.regular(ctx, d, j, &h)
	}
	return w.add(ctx, j, 0, func(j *job) error {
		defer d.release()
		if typ == ondisk.ModeSymlink {
			t, err := d.readlink(name, h.size)
			if err != nil {
				return err
			}
			w.target(j, t)
		}
		xs, err := d.xattrs(name, typ == ondisk.ModeDir)
		j.spec.Xattrs = w.keep(n.path(), xs)
		return err
	})
}

// regular hands over a regular file, in several jobs when it is large.
func (w *dirWalk) regular(ctx context.Context, d *hostDir, j *job, h *hostFile) error {
	n, size, sparse := j.node, h.size, h.sparse
	inline := size <= int64(w.w.InlineMax())
	j.spec.Size = uint64(size)
	var f openFile
	f.refs.Store(int32(max(1, (size+chunk-1)/chunk)))
	opened := make(chan struct{}) // by the first job
	var openErr error
	first := func(j *job) error {
		defer close(opened)
		defer d.release()
		f.hostHandle, openErr = d.open(n.name, h.id)
		if openErr != nil {
			return openErr
		}
		xs, err := f.xattrs()
		if err != nil {
			f.hostHandle.close()
			openErr = err
			return err
		}
		j.spec.Xattrs = w.keep(n.path(), xs)
		return nil
	}
	for off := int64(0); off < size || off == 0; off += chunk {
		part := min(chunk, size-off)
		if off > 0 {
			j = &job{kind: objects.StepExtend, node: n}
		}
		err := w.add(ctx, j, part, func(j *job) error {
			if off == 0 {
				if err := first(j); err != nil {
					return err
				}
			} else {
				<-opened
				if openErr != nil {
					return openErr
				}
			}
			defer f.release()
			switch {
			case part == 0:
				return nil
			case inline:
				return w.readInline(j, &f, part, sparse)
			}
			return w.read(j, &f, off, part, sparse)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// readInline reads a file whose data goes into its key.
func (w *dirWalk) readInline(j *job, f *openFile, n int64, sparse bool) error {
	if sparse {
		if at, _, err := f.data(0, n); err != nil || at >= n {
			return err // nothing but a hole
		}
	}
	j.spec.Inline = make([]byte, n)
	j.bytes = n
	return w.fill(j, f, j.spec.Inline, 0)
}

// read reads a part of a file as far as it is not holes.
func (w *dirWalk) read(j *job, f *openFile, off, n int64, sparse bool) error {
	block := int64(w.w.Bytes.Block())
	up := func(x int64) int64 { return (x + block - 1) / block * block }
	buf := w.buffer(j, int(up(n)))
	at, end := off, off+n
	for at < end {
		from, to := at, end
		if sparse {
			var err error
			if from, to, err = f.data(at, end); err != nil {
				return err
			}
			if from >= end {
				break
			}
			// Whole blocks: what is not data in them reads as zeros.
			from = max(at, from/block*block)
			to = min(up(to), end)
		}
		p := buf[from-off : up(to)-off]
		if err := w.fill(j, f, p[:to-from], from); err != nil {
			return err
		}
		clear(p[to-from:])
		w.pack(j, from, p)
		j.bytes += to - from
		at = up(to)
	}
	return nil
}

// fill reads p at off. A file that became shorter meanwhile reads as zeros.
func (w *dirWalk) fill(j *job, f *openFile, p []byte, off int64) error {
	n, err := f.readAt(p, off)
	if err == io.EOF || err == nil && n < len(p) {
		w.warn(fmt.Errorf("%s: became shorter while it was copied", j.node.path()))
		clear(p[n:])
		return nil
	}
	return err
}
