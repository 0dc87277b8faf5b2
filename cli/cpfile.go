package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// copyJob is a file to copy, anything but a directory.
type copyJob struct {
	dir  *targetDir
	e    *entry
	name string // in dir
}

// copiedLink is a file with several names. The lock is held while it is copied.
type copiedLink struct {
	mu   sync.Mutex
	path string // where it is, in the top directory; "" if it is not there
	left uint32 // names still to come
}

// job copies a file and reports what goes wrong.
func (c *copier) job(ctx context.Context, j *copyJob) {
	err := c.copyEntry(ctx, j)
	c.p.files.Add(1)
	if err == nil {
		return
	}
	if ctx.Err() == nil {
		c.failed(j.e.path, plainErr(err))
	}
}

func (c *copier) copyEntry(ctx context.Context, j *copyJob) error {
	a := &j.e.attr
	if err := legalName(j.name); err != nil {
		return err
	}
	old, err := j.dir.root.Lstat(j.name)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		old = nil
	}
	if a.Nlink <= 1 {
		return c.copyOne(ctx, j, old)
	}
	l := c.link(a)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.path != "" && l.path != j.dir.path(j.name) {
		done, err := c.hardLink(j, l, old)
		if done || err != nil {
			return err
		}
		c.lose(j.e.path, lossLinks)
	}
	if err := c.copyOne(ctx, j, old); err != nil {
		return err
	}
	if l.path == "" {
		l.path = j.dir.path(j.name)
	}
	return nil
}

// link finds the state of a file with several names, and forgets it with the
// last one.
func (c *copier) link(a *bcachefs.Attr) *copiedLink {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.links[a.ID]
	if l == nil {
		l = &copiedLink{left: a.Nlink}
		c.links[a.ID] = l
	}
	if l.left--; l.left == 0 {
		delete(c.links, a.ID)
	}
	return l
}

// hardLink gives a file that is there another name. It reports false if the
// target cannot, and a copy must do.
func (c *copier) hardLink(j *copyJob, l *copiedLink, old os.FileInfo) (done bool, err error) {
	if old != nil {
		if first, err := c.top.Lstat(l.path); err == nil && os.SameFile(first, old) || c.resume && c.matches(old, &j.e.attr) {
			c.same.Add(1)
			return true, nil
		}
		if err := c.mayReplace(j, old); err != nil {
			return false, err
		}
	}
	tmp := tempName()
	if err := c.top.Link(l.path, j.dir.path(tmp)); err != nil {
		if notAllowed(err) || errors.Is(err, syscall.EMLINK) || errors.Is(err, syscall.EXDEV) {
			return false, nil
		}
		return false, err
	}
	return true, c.commit(j, tmp, nil)
}

// mayReplace decides whether a file takes the place of what is there.
func (c *copier) mayReplace(j *copyJob, old os.FileInfo) error {
	j.dir.mu.Lock()
	other, ours := c.madeHere(j.dir, old, j.name)
	j.dir.mu.Unlock()
	switch {
	case ours:
		return collides(other)
	case old.IsDir():
		return fmt.Errorf("there is a directory of this name: %w", errIsDir)
	case !c.force:
		return fmt.Errorf("%w on the target, and is not the same (--force replaces it)", fs.ErrExist)
	}
	return nil
}

// copyOne copies a file to its name; old is what has that name now.
func (c *copier) copyOne(ctx context.Context, j *copyJob, old os.FileInfo) (err error) {
	a := &j.e.attr
	target := ""
	if a.IsSymlink() {
		if target, err = c.files.Readlink(ctx, a.ID); err != nil {
			return err
		}
	}
	if old != nil {
		if c.resume && c.isSame(j, old, target) {
			c.same.Add(1)
			return nil
		}
		if err := c.mayReplace(j, old); err != nil {
			return err
		}
	}
	var xs []bcachefs.Xattr
	if !c.noXattrs {
		if xs, err = c.files.Xattrs(ctx, a.ID); err != nil {
			c.r.fail(j.e.path, err)
		}
	}
	tmp := tempName()
	made := false
	defer func() {
		if made && err != nil {
			_ = j.dir.root.Remove(tmp)
		}
	}()
	var f *os.File
	switch a.Mode & ondisk.ModeTypeMask {
	case ondisk.ModeRegular:
		if f, err = j.dir.root.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return err
		}
		made = true
		defer f.Close() // a second Close does nothing
		if err := c.contents(ctx, j, f); err != nil {
			return err
		}
	case ondisk.ModeSymlink:
		err = j.dir.root.Symlink(target, tmp)
	default:
		err = c.special(j, tmp)
	}
	if err != nil {
		return err
	}
	made = true
	if err := c.setAttrs(j.dir, tmp, f, j.e.path, a, xs); err != nil {
		return err
	}
	c.r.check(j.e.path, c.files, a.ID)
	return c.commit(j, tmp, f)
}

// isSame: a former run copied this file.
func (c *copier) isSame(j *copyJob, old os.FileInfo, target string) bool {
	if j.e.attr.IsSymlink() {
		t, err := j.dir.root.Readlink(j.name)
		return err == nil && t == target
	}
	return c.matches(old, &j.e.attr)
}

// special makes a device, fifo or socket.
func (c *copier) special(j *copyJob, tmp string) error {
	dir, err := j.dir.open()
	if err != nil {
		return err
	}
	a := &j.e.attr
	if err := makeSpecial(dir, tmp, a.Mode&ondisk.ModeTypeMask, a.RdevMajor, a.RdevMinor); err != nil {
		return fmt.Errorf("a file of type %s cannot be made here: %w", typeName(a.Mode), err)
	}
	return nil
}

// commit gives a complete file its name.
func (c *copier) commit(j *copyJob, tmp string, f *os.File) (err error) {
	defer func() {
		if err != nil {
			_ = j.dir.root.Remove(tmp)
		}
	}()
	if f != nil {
		if err := f.Close(); err != nil { // before others can see it: some systems tell of errors only now
			return err
		}
	}
	if c.target.folds {
		j.dir.mu.Lock()
		defer j.dir.mu.Unlock()
		if fi, err := j.dir.root.Lstat(j.name); err == nil {
			if other, ok := c.madeHere(j.dir, fi, j.name); ok {
				return collides(other)
			}
		}
	}
	if err := j.dir.root.Rename(tmp, j.name); err != nil {
		if badName(err) {
			return fmt.Errorf("the target does not take this name: %w", plainErr(err))
		}
		return err
	}
	if c.target.folds {
		if fi, err := j.dir.root.Lstat(j.name); err == nil {
			c.note(j.dir, fi, j.name)
		}
	}
	c.copied.Add(1)
	if c.verbose {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, _ = c.out.WriteString(escapeName(j.e.path) + "\n")
	}
	return nil
}

// contents writes the data of a regular file, and verifies it if asked to.
func (c *copier) contents(ctx context.Context, j *copyJob, f *os.File) error {
	a := &j.e.attr
	size := int64(a.Size)
	if size == 0 {
		return nil
	}
	if size < 0 {
		return fmt.Errorf("size %d is more than a file can have", a.Size)
	}
	h, err := c.files.Open(ctx, a.ID)
	if err != nil {
		return err
	}
	m, err := mapFile(ctx, h, 0, size)
	if err != nil {
		return err
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	var sum hash.Hash
	if c.verify {
		sum = sha256.New()
	}
	bad := m.lost
	if len(bad) > 0 && !c.keepDamaged {
		return badSum(bad)
	}
	put := func(b []byte, off int64) error {
		if sum != nil {
			sum.Write(b)
		}
		_, err := f.WriteAt(b, off)
		c.p.bytes.Add(int64(len(b)))
		return err
	}
	if m.bytes() <= smallFile {
		bad, err = c.smallContents(ctx, h, &m, bad, put)
	} else {
		err = c.pool.each(ctx, h, m.data, func(k *chunk) error {
			bad = append(bad, k.bad...)
			if len(bad) > 0 && !c.keepDamaged {
				return badSum(bad)
			}
			b := k.buf
			for _, s := range k.segs {
				if err := put(b[:s.n], s.off); err != nil {
					return err
				}
				b = b[s.n:]
			}
			return nil
		})
	}
	if err != nil {
		return contextErr(ctx, err)
	}
	if len(bad) > 0 {
		c.r.fail(j.e.path, badSum(bad)) // and is kept
	}
	if sum != nil {
		return verifyFile(ctx, f, &m, size, sum.Sum(nil))
	}
	return nil
}

// smallContents is contents for a file that one buffer holds.
func (c *copier) smallContents(ctx context.Context, h *bcachefs.Handle, m *fileMap, bad []badRange, put func([]byte, int64) error) ([]badRange, error) {
	buf, _ := c.small.Get().(*[]byte)
	if buf == nil {
		b := make([]byte, smallFile)
		buf = &b
	}
	defer c.small.Put(buf)
	for _, r := range m.data {
		b := (*buf)[:r.End-r.Start]
		bad = append(bad, readFull(ctx, h, b, int64(r.Start))...)
		if len(bad) > 0 && !c.keepDamaged {
			return bad, badSum(bad)
		}
		if err := put(b, int64(r.Start)); err != nil {
			return bad, err
		}
	}
	return bad, ctx.Err()
}

// verifyFile reads back, from the device as far as the system lets it, what was
// written of a file, and compares it with the sum of what was to be written.
func verifyFile(ctx context.Context, f *os.File, m *fileMap, size int64, want []byte) error {
	if err := f.Sync(); err != nil {
		return err
	}
	dropCache(f)
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Size() != size {
		return fmt.Errorf("verification failed: the file has %d bytes, want %d", st.Size(), size)
	}
	sum := sha256.New()
	buf := make([]byte, min(chunkSize, m.bytes()))
	for _, r := range m.data {
		for off := r.Start; off < r.End; {
			if err := ctx.Err(); err != nil {
				return err
			}
			b := buf[:min(uint64(len(buf)), r.End-off)]
			if _, err := f.ReadAt(b, int64(off)); err != nil {
				return fmt.Errorf("verification failed: %w", err)
			}
			sum.Write(b)
			off += uint64(len(b))
		}
	}
	if !bytes.Equal(sum.Sum(nil), want) {
		return errors.New("verification failed: what was written reads back different")
	}
	return nil
}
