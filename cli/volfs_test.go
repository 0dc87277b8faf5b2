package cli_test

import (
	"context"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// volFS shows a volume as testvol wants it, without following symlinks.
type volFS struct {
	files *bcachefs.Files
	root  bcachefs.NodeID
}

func (v volFS) id(ctx context.Context, p string) (bcachefs.NodeID, error) {
	id := v.root
	if p == "." {
		return id, nil
	}
	for _, name := range strings.Split(p, "/") {
		a, err := v.files.Lookup(ctx, id, name)
		if err != nil {
			return id, err
		}
		id = a.ID
	}
	return id, nil
}

func (v volFS) ReadDir(ctx context.Context, p string) (names []string, err error) {
	id, err := v.id(ctx, p)
	if err == nil {
		err = v.files.ReadDir(ctx, id, 0, func(e bcachefs.Entry) bool { names = append(names, e.Name); return true })
	}
	return names, err
}

func (v volFS) Lstat(ctx context.Context, p string) (testvol.Stat, error) {
	id, err := v.id(ctx, p)
	if err != nil {
		return testvol.Stat{}, err
	}
	a, err := v.files.Getattr(ctx, id)
	typ := map[uint32]byte{0o100000: 'f', 0o040000: 'd', 0o120000: 'l', 0o010000: 'p', 0o020000: 'c', 0o060000: 'b', 0o140000: 's'}[a.Mode&0o170000]
	return testvol.Stat{Type: typ, Mode: a.Mode & 0o7777, UID: a.UID, GID: a.GID, Mtime: a.Mtime.UnixNano(), Ctime: a.Ctime.UnixNano(),
		Nlink: uint64(a.Nlink), Ino: a.ID.Inode, Size: int64(a.Size), Major: a.RdevMajor, Minor: a.RdevMinor}, err
}

func (v volFS) Readlink(ctx context.Context, p string) (string, error) {
	id, err := v.id(ctx, p)
	if err != nil {
		return "", err
	}
	return v.files.Readlink(ctx, id)
}

func (v volFS) ListXattr(ctx context.Context, p string) ([]string, error) {
	id, err := v.id(ctx, p)
	if err != nil {
		return nil, err
	}
	return v.files.ListXattr(ctx, id)
}

func (v volFS) GetXattr(ctx context.Context, p, name string) ([]byte, error) {
	id, err := v.id(ctx, p)
	if err != nil {
		return nil, err
	}
	return v.files.GetXattr(ctx, id, name)
}

func (v volFS) Open(ctx context.Context, p string) (testvol.File, error) {
	id, err := v.id(ctx, p)
	if err != nil {
		return nil, err
	}
	h, err := v.files.Open(ctx, id)
	return volFile{h, ctx}, err
}

type volFile struct {
	h   *bcachefs.Handle
	ctx context.Context
}

func (f volFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.h.ReadAt(f.ctx, p, off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}
func (f volFile) SeekData(off int64) (int64, error) { return f.h.SeekData(f.ctx, off) }
func (f volFile) SeekHole(off int64) (int64, error) { return f.h.SeekHole(f.ctx, off) }
func (f volFile) Close() error                      { return nil }

// passphrase opens encrypted volumes of tests.
func passphrase(context.Context, string) ([]byte, error) { return []byte(testvol.Passphrase), nil }

// openVolume opens a volume of which t has the images.
func openVolume(t *testing.T, paths []string) *bcachefs.Volume {
	t.Helper()
	v, err := bcachefs.OpenPath(t.Context(), strings.Join(paths, ":"), bcachefs.Options{Passphrase: passphrase, Warn: func(err error) { t.Errorf("warning: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// shows is what our reader finds in a volume of which t has the images: the
// manifest, and the options of files as "PATH NAME=VALUE".
func shows(t *testing.T, paths []string) (all []testvol.Entry, options []string) {
	t.Helper()
	v := openVolume(t, paths)
	defer v.Close()
	f := volFS{v.Files(), v.Files().Root()}
	all, err := testvol.ManifestOf(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		names, err := f.ListXattr(t.Context(), e.Path)
		if err != nil {
			t.Errorf("%s: %v", e.Path, err)
		}
		for _, n := range names {
			if strings.HasPrefix(n, "bcachefs") {
				b, err := f.GetXattr(t.Context(), e.Path, n)
				if err != nil {
					t.Errorf("%s: %s: %v", e.Path, n, err)
				}
				options = append(options, e.Path+" "+n+"="+string(b))
			}
		}
	}
	return all, options
}

// passFile is a file with the passphrase of the encrypted test volumes.
func passFile(t *testing.T) string {
	t.Helper()
	f := filepath.Join(t.TempDir(), "passphrase")
	writeFile(t, f, testvol.Passphrase+"\n")
	return f
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	must(t, os.WriteFile(name, []byte(text), 0o644))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func hashOf(b []byte) [32]byte { return sha256.Sum256(b) }

// below is the part of a manifest below a directory, in a form that copies keep:
// without inode numbers and times of change.
func below(all []testvol.Entry, dir string) (out []testvol.Entry) {
	for _, e := range all {
		rest, ok := strings.CutPrefix(e.Path+"/", dir+"/")
		if dir == "." {
			rest, ok = e.Path, e.Path != "." && e.Path != "lost+found"
		} else if rest == "" {
			rest = "."
		}
		if !ok {
			continue
		}
		e.Path = strings.TrimSuffix(rest, "/")
		e.Ino, e.Ctime = 0, 0
		out = append(out, e)
	}
	return out
}

func sameTree(t *testing.T, want, got []testvol.Entry) {
	t.Helper()
	for _, d := range testvol.Diff(want, got, testvol.Quirks{}) {
		t.Error(d)
	}
}
