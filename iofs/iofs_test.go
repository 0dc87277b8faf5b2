package iofs_test

import (
	"context"
	"io/fs"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
	"github.com/gobcachefs/gobcachefs/iofs"
)

func open(t *testing.T, name string) *iofs.FS {
	t.Helper()
	v, err := bcachefs.Open(context.Background(), testvol.Load(t, name), bcachefs.Options{Warn: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	return iofs.New(context.Background(), v.Root())
}

// utf8Only hides the names that fs.FS has no way to say.
type utf8Only struct{ *iofs.FS }

func (u utf8Only) Open(name string) (fs.File, error) {
	f, err := u.FS.Open(name)
	if d, ok := f.(fs.ReadDirFile); ok {
		return utf8Dir{d}, err
	}
	return f, err
}

func (u utf8Only) ReadDir(name string) ([]fs.DirEntry, error) {
	l, err := u.FS.ReadDir(name)
	return keepUTF8(l), err
}

func (u utf8Only) Sub(name string) (fs.FS, error) {
	s, err := u.FS.Sub(name)
	if err != nil {
		return nil, err
	}
	return utf8Only{s.(*iofs.FS)}, nil
}

type utf8Dir struct{ fs.ReadDirFile }

func (d utf8Dir) ReadDir(n int) ([]fs.DirEntry, error) {
	l, err := d.ReadDirFile.ReadDir(n)
	return keepUTF8(l), err
}

func keepUTF8(l []fs.DirEntry) []fs.DirEntry {
	var out []fs.DirEntry
	for _, e := range l {
		if utf8.ValidString(e.Name()) {
			out = append(out, e)
		}
	}
	return out
}

// TestFS runs the standard library's own conformance test on the small part of a
// volume that it can say: links that dangle are not part of it.
func TestFS(t *testing.T) {
	f := open(t, "v39casefold")
	if err := fstest.TestFS(f, "Casefolded"); err != nil {
		t.Error(err)
	}
	sub, err := utf8Only{open(t, "plain")}.Sub("names")
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(sub, "with space", "日本語のファイル"); err != nil {
		t.Error(err)
	}
}

func TestSymlinks(t *testing.T) {
	f := open(t, "plain")
	target, err := f.ReadLink("link-rel")
	if err != nil || target != "docs/f11_1_12345" {
		t.Errorf("ReadLink(link-rel) = %q, %v, want docs/f11_1_12345", target, err)
	}
	a, err := f.ReadFile("link-rel")
	if err != nil {
		t.Fatal(err)
	}
	b, err := f.ReadFile("docs/f11_1_12345")
	if err != nil || string(a) != string(b) || len(a) < 10000 {
		t.Errorf("through the link %d bytes, directly %d (%v), want the same", len(a), len(b), err)
	}
	l, err := f.Lstat("link-rel")
	if err != nil || l.Mode().Type() != fs.ModeSymlink {
		t.Errorf("Lstat(link-rel) = %v, %v, want a symlink", l.Mode(), err)
	}
}
