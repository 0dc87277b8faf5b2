package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// incoming puts files from elsewhere into a directory of a volume. Paths are
// names with slashes between, below that directory; "" is it itself. Nothing
// below it is reached through a symlink.
type incoming struct {
	*writeTree
	base     bcachefs.NodeID
	basePath string // for messages
	force    bool   // replace files that exist
	owner    string // UID:GID of everything, "" for what each says
	noXattrs bool
	p        *progress

	uid, gid *uint32
	dirs     map[string]*incomingDir
	order    []*incomingDir   // as they were met
	mine     map[string]bool  // files that this run made, which it may replace again
	lost     map[string]int64 // attributes that the volume has no place for
	copied   int64
	same     int64
	bytes    int64
	full     bool
}

// incomingDir is a directory that files go into.
type incomingDir struct {
	path         string
	id           bcachefs.NodeID
	atime, mtime time.Time // to be set at the end; zero: none
}

func (t *writeTree) incoming(basePath string, id bcachefs.NodeID, owner string) (*incoming, error) {
	in := &incoming{writeTree: t, base: id, basePath: basePath, owner: owner, dirs: map[string]*incomingDir{"": {id: id}}, mine: map[string]bool{}, lost: map[string]int64{}}
	if owner != "" {
		var err error
		if in.uid, in.gid, err = parseOwner(owner); err != nil {
			return nil, err
		}
	}
	return in, nil
}

// shown is a path for people.
func (in *incoming) shown(p string) string { return path.Join(in.basePath, p) }

// own applies --owner.
func (in *incoming) own(n *bcachefs.NewFile) {
	if in.uid != nil {
		n.UID = *in.uid
	}
	if in.gid != nil {
		n.GID = *in.gid
	}
	if in.noXattrs {
		n.Xattrs = nil
	}
}

// dir finds a directory below the base, and makes what is missing of it. ENOTDIR
// for what is something else, also for a symlink to a directory.
func (in *incoming) dir(p string) (*incomingDir, error) {
	if d := in.dirs[p]; d != nil {
		return d, nil
	}
	up, name := splitLast(p)
	d, err := in.dir(up)
	if err != nil {
		return nil, err
	}
	a, err := in.files.Lookup(in.ctx, d.id, name)
	if errors.Is(err, syscall.ENOENT) {
		n := bcachefs.NewFile{Mode: ondisk.ModeDir | 0o755}
		in.own(&n)
		if a, err = in.files.Create(in.ctx, d.id, name, n); err == nil {
			in.did("created", in.shown(p), "")
		}
	}
	if err == nil && !a.IsDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, err
	}
	return in.enter(p, a.ID), nil
}

func (in *incoming) enter(p string, id bcachefs.NodeID) *incomingDir {
	d := &incomingDir{path: p, id: id}
	in.dirs[p] = d
	in.order = append(in.order, d)
	return d
}

// splitLast splits a path before its last name.
func splitLast(p string) (dir, name string) {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i], p[i+1:]
	}
	return "", p
}

// putDir makes a directory, or gives one that exists the attributes. Its times are
// set when everything is in it.
func (in *incoming) putDir(p string, n bcachefs.NewFile) error {
	in.own(&n)
	n.Mode = n.Mode&0o7777 | ondisk.ModeDir
	n.Xattrs = in.keep(p, n.Xattrs)
	if p == "" {
		return in.dress(p, in.dirs[""], n)
	}
	up, name := splitLast(p)
	d, err := in.dir(up)
	if err != nil {
		return err
	}
	if a, err := in.files.Lookup(in.ctx, d.id, name); err == nil {
		if !a.IsDir() {
			return fmt.Errorf("there is something else of this name: %w", syscall.ENOTDIR)
		}
		have := in.dirs[p]
		if have == nil {
			have = in.enter(p, a.ID)
		}
		return in.dress(p, have, n)
	} else if !errors.Is(err, syscall.ENOENT) {
		return err
	}
	a, err := in.files.Create(in.ctx, d.id, name, n)
	if err != nil {
		return err
	}
	in.did("created", in.shown(p), "")
	e := in.enter(p, a.ID)
	e.atime, e.mtime = n.Atime, n.Mtime
	return nil
}

// dress gives a directory that exists its attributes.
func (in *incoming) dress(p string, d *incomingDir, n bcachefs.NewFile) error {
	mode := n.Mode & 0o7777
	if _, err := in.files.Setattr(in.ctx, d.id, bcachefs.SetAttr{Mode: &mode, UID: &n.UID, GID: &n.GID}); err != nil {
		return err
	}
	for _, x := range n.Xattrs {
		if err := in.files.SetXattr(in.ctx, d.id, x.Name, x.Value, 0); err != nil {
			return fmt.Errorf("attribute %s: %w", escapeName(x.Name), err)
		}
	}
	d.atime, d.mtime = n.Atime, n.Mtime
	return nil
}

// times gives the directories their times, those below first.
func (in *incoming) times() error {
	set := func(d *incomingDir) error {
		if d.mtime.IsZero() {
			return nil
		}
		s := bcachefs.SetAttr{Mtime: &d.mtime}
		if !d.atime.IsZero() {
			s.Atime = &d.atime
		}
		if _, err := in.files.Setattr(in.ctx, d.id, s); err != nil && !errors.Is(err, syscall.ENOENT) {
			if err := in.ctx.Err(); err != nil {
				return err
			}
			in.fail(in.shown(d.path), err)
		}
		return in.vol.Err()
	}
	for i := len(in.order) - 1; i >= 0; i-- {
		if err := set(in.order[i]); err != nil {
			return err
		}
	}
	return set(in.dirs[""])
}

// putFile makes a file that is no directory, with all its data.
func (in *incoming) putFile(ctx context.Context, p string, n bcachefs.NewFile, size uint64, body bcachefs.Body) (bcachefs.NodeID, error) {
	in.own(&n)
	n.Xattrs = in.keep(p, n.Xattrs)
	up, name := splitLast(p)
	d, err := in.dir(up)
	if err != nil {
		return bcachefs.NodeID{}, err
	}
	a, err := in.files.Put(ctx, d.id, name, n, size, body, in.force || in.mine[p])
	if err != nil {
		if errors.Is(err, fs.ErrExist) {
			err = fmt.Errorf("%w (--force replaces it)", err)
		}
		return bcachefs.NodeID{}, err
	}
	in.mine[p] = true
	in.copied++
	in.bytes += int64(size)
	in.did("created", in.shown(p), "")
	return a.ID, nil
}

// putLink gives a file another name.
func (in *incoming) putLink(p string, id bcachefs.NodeID, target string) error {
	up, name := splitLast(p)
	d, err := in.dir(up)
	if err != nil {
		return err
	}
	err = in.files.Link(in.ctx, id, d.id, name)
	if errors.Is(err, fs.ErrExist) {
		if a, lerr := in.files.Lookup(in.ctx, d.id, name); lerr == nil && a.ID == id {
			return nil
		}
		if !in.force && !in.mine[p] {
			return fmt.Errorf("%w (--force replaces it)", err)
		}
		tmp := tempName()
		if err = in.files.Link(in.ctx, id, d.id, tmp); err == nil {
			if err = in.files.Rename(in.ctx, d.id, tmp, d.id, name, 0); err != nil {
				_ = in.files.Unlink(in.ctx, d.id, tmp)
			}
		}
	}
	if err != nil {
		return err
	}
	in.mine[p] = true
	in.copied++
	in.did("linked", in.shown(p), target)
	return nil
}

// keep leaves out attributes that a volume cannot hold, and counts them.
func (in *incoming) keep(p string, xs []bcachefs.Xattr) []bcachefs.Xattr {
	var out []bcachefs.Xattr
	for _, x := range xs {
		typ, stored, ok := ondisk.ParseXattrName(x.Name)
		switch {
		case strings.HasPrefix(x.Name, "bcachefs.") || strings.HasPrefix(x.Name, "bcachefs_effective."):
			// Options of another volume.
		case !ok, len(stored) > 255, typ != ondisk.XattrACLAccess && typ != ondisk.XattrACLDefault && 4+len(stored)+len(x.Value) > ondisk.MaxValBytes:
			if in.lost[x.Name] == 0 {
				in.r.note("%s: attribute %s (%d bytes) does not fit a volume and is left out", escapeName(in.shown(p)), escapeName(x.Name), len(x.Value))
			}
			in.lost[x.Name]++
		default:
			out = append(out, x)
		}
	}
	return out
}

// failed reports what could not be put into the volume. The error ends the run.
func (in *incoming) failed(p string, err error) error {
	if err := in.ctx.Err(); err != nil {
		return err
	}
	in.fail(in.shown(p), err)
	if err := in.vol.Err(); err != nil {
		return err
	}
	if errors.Is(err, syscall.ENOSPC) {
		in.full = true
		return &errs.Error{Where: errs.Nowhere, Kind: syscall.ENOSPC, Reason: "no space left in the volume; what is complete stays"}
	}
	return nil
}
