package bcachefs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// libFS shows a subvolume through the library as testvol wants it.
type libFS struct {
	s *bcachefs.Subvolume
}

func (l libFS) files() *bcachefs.Files { return l.s.Volume().Files() }

// id resolves a path name by name, without following symlinks.
func (l libFS) id(ctx context.Context, p string) (bcachefs.NodeID, error) {
	id := l.s.Node()
	if p == "." {
		return id, nil
	}
	for _, name := range strings.Split(p, "/") {
		a, err := l.files().Lookup(ctx, id, name)
		if err != nil {
			return id, err
		}
		id = a.ID
	}
	return id, nil
}

func (l libFS) ReadDir(ctx context.Context, p string) ([]string, error) {
	id, err := l.id(ctx, p)
	if err != nil {
		return nil, err
	}
	var names []string
	err = l.files().ReadDir(ctx, id, 0, func(e bcachefs.Entry) bool { names = append(names, e.Name); return true })
	return names, err
}

func (l libFS) Lstat(ctx context.Context, p string) (testvol.Stat, error) {
	id, err := l.id(ctx, p)
	if err != nil {
		return testvol.Stat{}, err
	}
	a, err := l.files().Getattr(ctx, id)
	if err != nil {
		return testvol.Stat{}, err
	}
	typ := map[uint32]byte{0o100000: 'f', 0o040000: 'd', 0o120000: 'l', 0o010000: 'p', 0o020000: 'c', 0o060000: 'b', 0o140000: 's'}[a.Mode&0o170000]
	return testvol.Stat{Type: typ, Mode: a.Mode & 0o7777, UID: a.UID, GID: a.GID, Mtime: a.Mtime.UnixNano(), Ctime: a.Ctime.UnixNano(),
		Nlink: uint64(a.Nlink), Ino: a.ID.Inode, Size: int64(a.Size), Major: a.RdevMajor, Minor: a.RdevMinor}, nil
}

func (l libFS) Readlink(ctx context.Context, p string) (string, error) {
	id, err := l.id(ctx, p)
	if err != nil {
		return "", err
	}
	return l.files().Readlink(ctx, id)
}

func (l libFS) ListXattr(ctx context.Context, p string) ([]string, error) {
	id, err := l.id(ctx, p)
	if err != nil {
		return nil, err
	}
	return l.files().ListXattr(ctx, id)
}

func (l libFS) GetXattr(ctx context.Context, p, name string) ([]byte, error) {
	id, err := l.id(ctx, p)
	if err != nil {
		return nil, err
	}
	return l.files().GetXattr(ctx, id, name)
}

type libFile struct {
	h   *bcachefs.Handle
	ctx context.Context
}

func (l libFS) Open(ctx context.Context, p string) (testvol.File, error) {
	id, err := l.id(ctx, p)
	if err != nil {
		return nil, err
	}
	h, err := l.files().Open(ctx, id)
	if err != nil {
		return nil, err
	}
	return libFile{h, ctx}, nil
}

func (f libFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.h.ReadAt(f.ctx, p, off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}
func (f libFile) SeekData(off int64) (int64, error) { return f.h.SeekData(f.ctx, off) }
func (f libFile) SeekHole(off int64) (int64, error) { return f.h.SeekHole(f.ctx, off) }
func (f libFile) Close() error                      { return nil }

// options open any test volume.
func options(t *testing.T, name string) bcachefs.Options {
	return bcachefs.Options{
		Passphrase: func(context.Context, string) ([]byte, error) {
			if !testvol.Encrypted(name) {
				return nil, errors.New("asked for a passphrase of a volume that has none")
			}
			return []byte(testvol.Passphrase), nil
		},
		Warn: func(err error) { t.Errorf("%s: warning: %v", name, err) },
	}
}

func open(t *testing.T, devs []block.Reader, o bcachefs.Options) *bcachefs.Volume {
	t.Helper()
	v, err := bcachefs.Open(context.Background(), devs, o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func manifest(t *testing.T, s *bcachefs.Subvolume) []testvol.Entry {
	t.Helper()
	m, err := testvol.ManifestOf(context.Background(), libFS{s})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// checkSet compares every volume of a set with its manifests.
func checkSet(t *testing.T, set *testvol.Set) {
	for _, name := range set.Names() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := open(t, set.Load(t, name), options(t, name))
			kind := "manifest"
			for _, k := range set.Kinds(name) {
				if k == "manifest-recovered" {
					kind = k
				}
			}
			testvol.Check(t, set.Manifest(t, name, kind), manifest(t, v.Root()), testvol.QuirksOf(name))
			for p, kind := range set.Subvolumes(name) {
				s, err := v.SubvolumeAt(context.Background(), path.Clean("/"+p))
				if err != nil {
					t.Fatal(err)
				}
				testvol.Check(t, set.Manifest(t, name, kind), manifest(t, s), testvol.QuirksOf(name))
			}
		})
	}
}

func TestManifests(t *testing.T) { checkSet(t, testvol.Small(t)) }

// checkDegraded opens volumes with members missing and compares what is left
// with what the real kernel shows then.
func checkDegraded(t *testing.T, set *testvol.Set) {
	for _, name := range set.Names() {
		for _, kind := range set.Kinds(name) {
			n, ok := strings.CutPrefix(kind, "without-")
			if !ok {
				continue
			}
			gone, err := strconv.Atoi(strings.TrimSuffix(n, ".manifest"))
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(string(set.Text(t, name, kind)), "does not mount") {
				continue // TestTiersWithoutMetadata states what we do then
			}
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				v := open(t, without(set.Load(t, name), gone), degraded(t, name))
				testvol.Check(t, set.Manifest(t, name, kind), manifest(t, v.Root()), testvol.QuirksOf(name))
			})
		}
	}
}

func degraded(t *testing.T, name string) bcachefs.Options {
	o := options(t, name)
	o.Degraded = bcachefs.DegradedVery
	o.Warn = func(error) {} // it warns of the missing member, rightly
	return o
}

func without(devs []block.Reader, gone ...int) []block.Reader {
	var left []block.Reader
	for i, d := range devs {
		if !slices.Contains(gone, i) {
			left = append(left, d)
		}
	}
	return left
}

func TestDegraded(t *testing.T) { checkDegraded(t, testvol.Small(t)) }

// checkRedundant opens volumes without members that a copy or parity covers:
// everything must be there.
func checkRedundant(t *testing.T, set *testvol.Set, name string, lose int) {
	n := set.Members(name)
	try := func(gone ...int) {
		t.Run(fmt.Sprint(name, " without ", gone), func(t *testing.T) {
			t.Parallel()
			v := open(t, without(set.Load(t, name), gone...), degraded(t, name))
			testvol.Check(t, set.Manifest(t, name, "manifest"), manifest(t, v.Root()), testvol.QuirksOf(name))
		})
	}
	for i := range n {
		if lose == 1 {
			try(i)
			continue
		}
		for j := i + 1; j < n; j++ {
			try(i, j)
		}
	}
}
