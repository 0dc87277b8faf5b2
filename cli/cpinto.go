package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// cpInto is `cp --into`: files of this system go into a volume.
type cpInto struct {
	*incoming
	flags cpFlags
	top   *os.Root // of the SRC being copied
	oneD  uint64   // device that -x stays on
	seen  map[hostFileID]bcachefs.NodeID
	path  map[hostFileID]string
}

// hostFileID tells files of this system apart.
type hostFileID struct{ dev, ino uint64 }

// hostInfo is what the system says of a file.
type hostInfo struct {
	bcachefs.NewFile
	id    hostFileID
	nlink uint64
	size  int64
}

// cpIntoVolume runs cp --into.
func (a *app) cpIntoVolume(cmd *cobra.Command, wf *writeFlags, f cpFlags, owner string, args []string) error {
	return a.withWrite(cmd, wf, args, 2, -1, func(t *writeTree, paths []string) error {
		srcs, dest := paths[:len(paths)-1], paths[len(paths)-1]
		base, names, err := t.placeInto(srcs, dest)
		if err != nil {
			return err
		}
		in, err := t.incoming(base.path, base.id, owner)
		if err != nil {
			return err
		}
		in.force, in.noXattrs = f.force, f.noXattrs
		in.p = t.startProgress("copied", f.progress)
		c := &cpInto{incoming: in, flags: f, seen: map[hostFileID]bcachefs.NodeID{}, path: map[hostFileID]string{}}
		for i, s := range srcs {
			if err = c.source(s, names[i]); err != nil {
				break
			}
		}
		if err == nil {
			err = in.times()
		}
		in.p.finish()
		t.r.summary(in.copied+in.same+int64(t.r.failed), "files")
		return err
	})
}

// placeInto decides where sources go: a directory of the volume, and a name in it
// for each; "" stands for the directory itself.
func (t *writeTree) placeInto(srcs []string, dest string) (base incomingDir, names []string, err error) {
	a, err := t.sub.Stat(t.ctx, dest)
	isDir := err == nil && a.IsDir()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return base, nil, err
	}
	if len(srcs) > 1 && !isDir {
		return base, nil, usageErr("%s: not a directory, and there are several SRC", escapeName(dest))
	}
	for _, s := range srcs {
		name := filepath.Base(s)
		switch {
		case strings.HasSuffix(filepath.ToSlash(s), "/.") || s == "." || name == string(filepath.Separator):
			name = "" // what is in it
		case name == "..":
			return base, nil, usageErr("%s: no name to copy it under", s)
		}
		names = append(names, name)
	}
	if isDir {
		return incomingDir{path: path.Clean("/" + dest), id: a.ID}, names, nil
	}
	parent, name, dir, err := t.sub.Parent(t.ctx, "cp", dest)
	if err != nil {
		return base, nil, err
	}
	st, serr := os.Lstat(srcs[0])
	if serr == nil && (dir || names[0] == "") && !st.IsDir() {
		return base, nil, &fs.PathError{Op: "cp", Path: dest, Err: errNotDir}
	}
	return incomingDir{path: path.Dir(path.Clean("/" + dest)), id: parent}, []string{name}, nil
}

// source copies one SRC to a name of the base.
func (c *cpInto) source(src, name string) error {
	dir, base := filepath.Split(filepath.Clean(src))
	if dir == "" {
		dir = "."
	}
	if base == "" || strings.HasSuffix(filepath.ToSlash(src), "/.") || src == "." || src == ".." {
		dir, base = src, "." // a root, or what is in a directory, which may be a symlink
	}
	top, err := os.OpenRoot(dir)
	if err != nil {
		return c.hostFailed(src, err)
	}
	defer top.Close()
	c.top = top
	h, err := hostStat(top, base)
	if err != nil {
		return c.hostFailed(src, err)
	}
	c.oneD = h.id.dev
	return c.copy(top, base, src, name, h)
}

// hostFailed reports a file of this system that could not be read.
func (c *cpInto) hostFailed(src string, err error) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	c.fail(src, err)
	return nil
}

// copy copies a file, and all below it. dir is the open directory that has it as
// name; src is its path for messages, p where it goes. The error ends the run.
func (c *cpInto) copy(dir *os.Root, name, src, p string, h hostInfo) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if h.Mode&ondisk.ModeTypeMask == ondisk.ModeDir {
		return c.copyDir(dir, name, src, p, h)
	}
	c.p.files.Add(1)
	if p == "" {
		return c.failed(p, errIsDir)
	}
	if c.flags.resume && c.complete(dir, name, p, &h) {
		c.same++
		return nil
	}
	if h.nlink > 1 && h.id != (hostFileID{}) {
		if id, ok := c.seen[h.id]; ok {
			err := c.putLink(p, id, c.shown(c.path[h.id]))
			if err == nil {
				return nil
			}
			if !isCrossLink(err) {
				return c.failed(p, err)
			}
			c.r.note("%s: not a further name of %s, as the options of the directories differ: a copy", escapeName(c.shown(p)), escapeName(c.shown(c.path[h.id])))
		}
	}
	id, err := c.put(dir, name, p, h)
	var he *hostError
	switch {
	case errors.As(err, &he):
		return c.hostFailed(src, he.err)
	case err != nil:
		return c.failed(p, err)
	}
	if h.nlink > 1 {
		c.seen[h.id], c.path[h.id] = id, p
	}
	if c.flags.verify && h.Mode&ondisk.ModeTypeMask == ondisk.ModeRegular {
		if err := c.compare(dir, name, p, id, h); err != nil {
			return c.failed(p, err)
		}
	}
	return nil
}

// hostError is an error of this system's side.
type hostError struct{ err error }

func (e *hostError) Error() string { return e.err.Error() }
func (e *hostError) Unwrap() error { return e.err }

// put puts one file.
func (c *cpInto) put(dir *os.Root, name, p string, h hostInfo) (bcachefs.NodeID, error) {
	n := h.NewFile
	var err error
	if n.Mode&ondisk.ModeTypeMask != ondisk.ModeRegular {
		if n.Mode&ondisk.ModeTypeMask == ondisk.ModeSymlink {
			if n.Target, err = dir.Readlink(name); err != nil {
				return bcachefs.NodeID{}, &hostError{err}
			}
		}
		if !c.noXattrs {
			if n.Xattrs, err = hostXattrs(dir, name, nil); err != nil {
				return bcachefs.NodeID{}, &hostError{err}
			}
		}
		return c.putFile(c.ctx, p, n, 0, nil)
	}
	f, err := openHostFile(dir, name, h)
	if err != nil {
		return bcachefs.NodeID{}, &hostError{err}
	}
	defer f.Close()
	if !c.noXattrs {
		if n.Xattrs, err = hostXattrs(dir, name, f); err != nil {
			return bcachefs.NodeID{}, &hostError{err}
		}
	}
	return c.putFile(c.ctx, p, n, uint64(h.size), &hostBody{f: f, size: h.size, p: c.p})
}

// hostBody reads a file of this system.
type hostBody struct {
	f    *os.File
	size int64
	p    *progress
}

func (b *hostBody) Next(off int64) (from, to int64, ok bool, err error) {
	if off >= b.size {
		return 0, 0, false, nil
	}
	from, to, ok, err = hostData(b.f, off, b.size)
	if err != nil {
		err = &hostError{err}
	}
	return from, to, ok, err
}

func (b *hostBody) ReadAt(p []byte, off int64) error {
	n, err := b.f.ReadAt(p, off)
	b.p.bytes.Add(int64(n))
	switch {
	case n == len(p):
		return nil
	case err == io.EOF:
		err = errors.New("the file got shorter while it was read")
	}
	return &hostError{err}
}

// complete reports whether a former run copied a file already.
func (c *cpInto) complete(dir *os.Root, name, p string, h *hostInfo) bool {
	up, last := splitLast(p)
	d, err := c.dir(up)
	if err != nil {
		return false
	}
	a, err := c.files.Lookup(c.ctx, d.id, last)
	if err != nil || a.Mode&ondisk.ModeTypeMask != h.Mode&ondisk.ModeTypeMask {
		return false
	}
	switch a.Mode & ondisk.ModeTypeMask {
	case ondisk.ModeRegular:
		if a.Size != uint64(h.size) || !a.Mtime.Equal(h.Mtime) {
			return false
		}
	case ondisk.ModeSymlink:
		t, err := c.files.Readlink(c.ctx, a.ID)
		want, herr := dir.Readlink(name)
		if err != nil || herr != nil || t != want {
			return false
		}
	}
	if h.nlink > 1 {
		c.seen[h.id], c.path[h.id] = a.ID, p
	}
	return true
}

// copyDir copies a directory.
func (c *cpInto) copyDir(dir *os.Root, name, src, p string, h hostInfo) error {
	sub, err := dir.OpenRoot(name)
	if err != nil {
		return c.hostFailed(src, err)
	}
	defer sub.Close()
	f, err := sub.Open(".")
	if err != nil {
		return c.hostFailed(src, err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return c.hostFailed(src, err)
	}
	if !c.noXattrs {
		if h.Xattrs, err = hostXattrs(sub, ".", f); err != nil {
			if err := c.hostFailed(src, err); err != nil {
				return err
			}
		}
	}
	if p == "" {
		// What is in SRC goes into a directory that was there: that one stays as it is.
		c.p.files.Add(1)
	} else if err := c.putDir(p, h.NewFile); err != nil {
		return c.failed(p, fmt.Errorf("%w; nothing in it is copied", err))
	}
	slices.Sort(names)
	for _, n := range names {
		child := n
		if p != "" {
			child = p + "/" + n
		}
		hs := filepath.Join(src, n)
		ch, err := hostStat(sub, n)
		if err != nil {
			if err := c.hostFailed(hs, err); err != nil {
				return err
			}
			continue
		}
		if c.flags.oneSubvol && ch.Mode&ondisk.ModeTypeMask == ondisk.ModeDir && ch.id.dev != c.oneD {
			continue
		}
		if err := c.copy(sub, n, hs, child, ch); err != nil {
			return err
		}
	}
	return nil
}

// compare reads back what was written.
func (c *cpInto) compare(dir *os.Root, name, p string, id bcachefs.NodeID, h hostInfo) error {
	f, err := openHostFile(dir, name, h)
	if err != nil {
		return err
	}
	defer f.Close()
	v, err := c.files.Open(c.ctx, id)
	if err != nil {
		return err
	}
	x, y := make([]byte, chunkSize), make([]byte, chunkSize)
	for off := int64(0); ; {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		n, err := f.ReadAt(x, off)
		if err != nil && err != io.EOF {
			return err
		}
		m, verr := v.ReadAt(c.ctx, y, off)
		if verr != nil {
			return verr
		}
		if string(x[:n]) != string(y[:m]) {
			return fmt.Errorf("what was read back differs, within 1 MiB of offset %d", off)
		}
		if off += int64(n); n < len(x) {
			return nil
		}
	}
}
