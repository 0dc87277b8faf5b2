package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// target is what the file system of the target can do.
type target struct {
	folds  bool          // different names may be the same
	sparse bool          // files can have holes
	tick   time.Duration // finest difference of times that it keeps
}

// probeTarget tries the file system below a directory, in a directory of its own
// that it removes.
func probeTarget(top *os.Root) (target, error) {
	t := target{tick: 1}
	dir := tempName()
	if err := top.Mkdir(dir, 0o700); err != nil {
		return t, err
	}
	defer func() { _ = top.RemoveAll(dir) }()
	r, err := top.OpenRoot(dir)
	if err != nil {
		return t, err
	}
	defer r.Close()
	f, err := r.OpenFile("aé", os.O_CREATE|os.O_RDWR|os.O_EXCL, 0o600)
	if err != nil {
		return t, err
	}
	defer f.Close()
	for _, other := range []string{"Aé", "ae\u0301", "aÉ"} {
		if _, err := r.Lstat(other); err == nil {
			t.folds = true
		}
	}
	const size = 1 << 20
	if err := f.Truncate(size); err == nil {
		t.sparse = allocated(f) < size
	}
	// An odd second, with all nine digits.
	want := time.Unix(978307201, 123456789)
	if err := r.Chtimes("aé", want, want); err == nil {
		if fi, err := r.Lstat("aé"); err == nil {
			off := want.Sub(fi.ModTime())
			for _, tick := range []time.Duration{1, 100, time.Microsecond, time.Millisecond, 10 * time.Millisecond, time.Second, 2 * time.Second} {
				t.tick = tick
				if off >= 0 && off < tick {
					break
				}
			}
		}
	}
	return t, nil
}

// targetDir is a directory of the target that files are copied into. It gets its
// attributes and is closed when nobody holds it any more: the walk while it is
// inside, and each file that is being copied.
type targetDir struct {
	parent *targetDir
	root   *os.Root
	rel    string // path in the top directory, "" for that itself
	shown  string // path in the volume, for messages
	keep   bool   // it was there before, and is not SRC: its attributes stay
	attr   bcachefs.Attr
	holds  atomic.Int32

	openOnce sync.Once
	file     *os.File // see open
	openErr  error

	mu   sync.Mutex
	made map[any]string // with target.folds: what this run made here, by identity
}

// open gives the directory as an open file, for the calls that os.Root does not
// make. It is closed with the directory.
func (d *targetDir) open() (*os.File, error) {
	d.openOnce.Do(func() { d.file, d.openErr = d.root.Open(".") })
	return d.file, d.openErr
}

func (d *targetDir) retain() { d.holds.Add(1) }

// release gives a directory back; nil is a directory that could not be made.
func (d *targetDir) release(c *copier) {
	if d == nil || d.holds.Add(-1) > 0 {
		return
	}
	if !d.keep && c.ctx.Err() == nil {
		if err := c.finishDir(d); err != nil {
			c.failed(d.shown, plainErr(err))
		}
	}
	if d.file != nil {
		_ = d.file.Close()
	}
	if d.parent != nil {
		_ = d.root.Close()
		d.parent.release(c)
	}
}

// path is the path of a name of the directory in the top directory.
func (d *targetDir) path(name string) string {
	if d.rel == "" {
		return name
	}
	return d.rel + "/" + name
}

// makeDir makes a directory, or opens it if it is there. The walk holds it.
func (c *copier) makeDir(parent *targetDir, e *entry, name string) (*targetDir, error) {
	d := &targetDir{parent: parent, shown: e.path, attr: e.attr}
	if name == "." {
		d.root = parent.root
		r, err := parent.root.OpenRoot(".")
		if err != nil {
			return nil, err
		}
		d.root = r
	} else {
		if err := legalName(name); err != nil {
			return nil, err
		}
		if err := c.mkdir(parent, name); err != nil {
			return nil, err
		}
		r, err := parent.root.OpenRoot(name)
		if err != nil {
			return nil, err
		}
		d.root, d.rel = r, parent.path(name)
	}
	if c.resume {
		removeLeftovers(d.root)
	}
	parent.retain()
	d.retain()
	return d, nil
}

// mkdir makes sure that there is a directory that this user can write to.
func (c *copier) mkdir(parent *targetDir, name string) error {
	parent.mu.Lock()
	defer parent.mu.Unlock()
	err := parent.root.Mkdir(name, 0o700)
	fi, lerr := parent.root.Lstat(name)
	if err == nil || !errors.Is(err, fs.ErrExist) || lerr != nil {
		if err == nil && lerr == nil {
			c.note(parent, fi, name)
		}
		return errors.Join(err, lerr)
	}
	if other, ok := c.madeHere(parent, fi, name); ok {
		return collides(other)
	}
	if !fi.IsDir() {
		// A symlink too: following it could lead anywhere.
		return fmt.Errorf("there is something else of this name: %w", errNotDir)
	}
	if fi.Mode().Perm()&0o700 != 0o700 {
		return parent.root.Chmod(name, fi.Mode().Perm()|0o700)
	}
	return nil
}

// note remembers what this run made, if names can be ambiguous. parent.mu is held.
func (c *copier) note(parent *targetDir, fi os.FileInfo, name string) {
	if !c.target.folds {
		return
	}
	if parent.made == nil {
		parent.made = map[any]string{}
	}
	parent.made[identity(fi)] = name
}

// madeHere reports whether this run made a file under another name, which the
// target takes for the same. parent.mu is held.
func (c *copier) madeHere(parent *targetDir, fi os.FileInfo, name string) (string, bool) {
	other, ok := parent.made[identity(fi)]
	return other, ok && other != name
}

func collides(other string) error {
	return fmt.Errorf("its name collides with %s on the target", escapeName(other))
}

// removeLeftovers removes files that a former run did not complete.
func removeLeftovers(dir *os.Root) {
	f, err := dir.Open(".")
	if err != nil {
		return
	}
	defer f.Close()
	for {
		names, err := f.Readdirnames(1000)
		for _, n := range names {
			if strings.HasPrefix(n, tempPrefix) && strings.HasSuffix(n, tempSuffix) && len(n) == len(tempName()) {
				_ = dir.RemoveAll(n)
			}
		}
		if err != nil {
			return
		}
	}
}

// finishDir gives a directory its attributes.
func (c *copier) finishDir(d *targetDir) error {
	var xs []bcachefs.Xattr
	if !c.noXattrs {
		var err error
		if xs, err = c.files.Xattrs(c.ctx, d.attr.ID); err != nil {
			c.r.fail(d.shown, err)
		}
	}
	f, err := d.open()
	if err != nil {
		return err
	}
	c.r.check(d.shown, c.files, d.attr.ID)
	return c.setAttrs(d, ".", f, d.shown, &d.attr, xs)
}

// setAttrs gives a file its attributes, in the order in which they do not undo
// each other. f is the file if it is open: regular files and directories.
func (c *copier) setAttrs(d *targetDir, name string, f *os.File, shown string, a *bcachefs.Attr, xs []bcachefs.Xattr) error {
	mode := hostMode(a.Mode)
	if err := d.root.Lchown(name, int(a.UID), int(a.GID)); err != nil {
		if !notAllowed(err) {
			return err
		}
		c.lose(shown, lossOwner)
		mode = c.dropSetuid(mode, shown)
	}
	dir, err := d.open()
	if err != nil {
		return err
	}
	for _, x := range xs {
		err := setXattr(dir, name, f, x.Name, x.Value)
		switch {
		case err == nil:
		case !notAllowed(err):
			c.r.fail(shown, fmt.Errorf("attribute %s: %w", escapeName(x.Name), err))
		case strings.HasPrefix(x.Name, "system."):
			c.lose(shown, lossACL)
		case strings.HasPrefix(x.Name, "user."):
			c.lose(shown, lossXattrs)
		default:
			c.lose(shown, lossPrivXatt)
		}
	}
	if a.Mode&ondisk.ModeTypeMask != ondisk.ModeSymlink {
		var err error
		if f != nil {
			err = f.Chmod(mode)
		} else {
			err = d.root.Chmod(name, mode)
		}
		if err != nil {
			if !notAllowed(err) {
				return err
			}
			c.lose(shown, lossMode)
		}
	}
	if err := setTimes(dir, d.root, name, a.Atime, a.Mtime); err != nil {
		if !notAllowed(err) {
			return err
		}
		c.lose(shown, lossTimes)
	} else if fi, err := d.root.Lstat(name); err == nil && !fi.ModTime().Equal(a.Mtime) {
		c.lose(shown, lossTimes)
	}
	return nil
}

// dropSetuid takes away the rights of an owner who is not the owner here.
func (c *copier) dropSetuid(mode os.FileMode, shown string) os.FileMode {
	if mode.IsRegular() && mode&(os.ModeSetuid|os.ModeSetgid) != 0 {
		c.lose(shown, lossSetuid)
		mode &^= os.ModeSetuid | os.ModeSetgid
	}
	return mode
}

// hostMode is a mode as package os has it.
func hostMode(m uint32) os.FileMode {
	mode := os.FileMode(m & 0o777)
	switch m & ondisk.ModeTypeMask {
	case ondisk.ModeDir:
		mode |= os.ModeDir
	case ondisk.ModeSymlink:
		mode |= os.ModeSymlink
	case ondisk.ModeChar:
		mode |= os.ModeDevice | os.ModeCharDevice
	case ondisk.ModeBlock:
		mode |= os.ModeDevice
	case ondisk.ModeFifo:
		mode |= os.ModeNamedPipe
	case ondisk.ModeSocket:
		mode |= os.ModeSocket
	}
	for bit, x := range map[uint32]os.FileMode{0o4000: os.ModeSetuid, 0o2000: os.ModeSetgid, 0o1000: os.ModeSticky} {
		if m&bit != 0 {
			mode |= x
		}
	}
	return mode
}

// syncTarget waits until what was written is on stable storage.
func syncTarget(top *os.Root) error {
	f, err := top.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	return syncFS(f)
}

// contextErr prefers the end of ctx to an error that it caused.
func contextErr(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
