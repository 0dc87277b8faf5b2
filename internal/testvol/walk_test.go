package testvol

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"
)

// fakeFS is a tree in memory; errors are planted by path.
type fakeFS map[string]*fakeNode

type fakeNode struct {
	stat                                 Stat
	names                                []string
	body                                 []byte
	data                                 [][2]int64
	target                               string
	xattr                                map[string]string
	statErr, dirErr, linkErr, xErr, fErr error
}

func (f fakeFS) ReadDir(_ context.Context, p string) ([]string, error) {
	return f[p].names, f[p].dirErr
}
func (f fakeFS) Lstat(_ context.Context, p string) (Stat, error) { return f[p].stat, f[p].statErr }
func (f fakeFS) Readlink(_ context.Context, p string) (string, error) {
	return f[p].target, f[p].linkErr
}
func (f fakeFS) ListXattr(_ context.Context, p string) (l []string, err error) {
	for k := range f[p].xattr {
		l = append(l, k)
	}
	return l, f[p].xErr
}
func (f fakeFS) GetXattr(_ context.Context, p, n string) ([]byte, error) {
	return []byte(f[p].xattr[n]), nil
}
func (f fakeFS) Open(_ context.Context, p string) (File, error) {
	return &fakeFile{bytes.NewReader(f[p].body), f[p]}, f[p].fErr
}

type fakeFile struct {
	*bytes.Reader
	n *fakeNode
}

func (f *fakeFile) SeekData(off int64) (int64, error) {
	for _, r := range f.n.data {
		if off < r[1] {
			return max(off, r[0]), nil
		}
	}
	return 0, syscall.ENXIO
}

func (f *fakeFile) SeekHole(off int64) (int64, error) {
	for _, r := range f.n.data {
		if off < r[1] {
			return r[1], nil
		}
	}
	return f.Size(), nil
}
func (f *fakeFile) Close() error { return nil }

const abcSHA = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

func TestManifestOf(t *testing.T) {
	var many [][2]int64
	for i := range int64(50) {
		many = append(many, [2]int64{10 * i, 10*i + 5})
	}
	fsys := fakeFS{
		".":       {stat: Stat{Type: 'd', Mode: 0o755, Nlink: 5, Ino: 4096}, names: []string{"f", "l", "c", "bad", "d", "m", "e", "lbad"}},
		"f":       {stat: Stat{Type: 'f', Mode: 0o644, UID: 1, GID: 2, Mtime: -3, Ctime: 4, Nlink: 1, Ino: 5, Size: 3}, body: []byte("abc"), data: [][2]int64{{0, 3}}, xattr: map[string]string{"user.b": "\x01", "user.a": "", "bcachefs.x": "1"}},
		"l":       {stat: Stat{Type: 'l', Mode: 0o777}, target: "to here", xErr: syscall.ENOTSUP},
		"c":       {stat: Stat{Type: 'c', Major: 1, Minor: 3}, xErr: syscall.EIO},
		"bad":     {statErr: fs.ErrNotExist},
		"d":       {stat: Stat{Type: 'd', Nlink: 2}, names: []string{"x"}},
		"d/x":     {stat: Stat{Type: 'd'}, dirErr: errors.New("no errno in here")},
		"m":       {stat: Stat{Type: 'f', Size: 500}, body: []byte("abc"), data: many},
		"e":       {stat: Stat{Type: 'f'}, fErr: syscall.EIO},
		"lbad":    {stat: Stat{Type: 'l'}, linkErr: syscall.EIO},
		"nowhere": {},
	}
	got, err := ManifestOf(t.Context(), fsys)
	if err != nil {
		t.Fatal(err)
	}
	var forty []string
	for i := range 40 {
		forty = append(forty, fmt.Sprintf("%d-%d", many[i][0], many[i][1]))
	}
	want := strings.Join([]string{
		". d 0755 uid=0 gid=0 mtime=0 ctime=0 nlink=5 ino=4096",
		"bad stat=ERR:ENOENT",
		"c c 0000 uid=0 gid=0 mtime=0 ctime=0 nlink=0 ino=0 rdev=1:3 xattr=ERR:EIO",
		"d d 0000 uid=0 gid=0 mtime=0 ctime=0 nlink=2 ino=0",
		"d/x d 0000 uid=0 gid=0 mtime=0 ctime=0 nlink=0 ino=0",
		"d/x readdir=ERR:EIO",
		"e f 0000 uid=0 gid=0 mtime=0 ctime=0 nlink=0 ino=0 size=0 sha256=ERR:EIO",
		"f f 0644 uid=1 gid=2 mtime=-3 ctime=4 nlink=1 ino=5 size=3 sha256=" + abcSHA + " data=0-3 xattr.user.a= xattr.user.b=01",
		`l l 0777 uid=0 gid=0 mtime=0 ctime=0 nlink=0 ino=0 target=to\x20here`,
		"lbad l 0000 uid=0 gid=0 mtime=0 ctime=0 nlink=0 ino=0 target=ERR:EIO",
		"m f 0000 uid=0 gid=0 mtime=0 ctime=0 nlink=0 ino=0 size=500 sha256=" + abcSHA + " data=" + strings.Join(forty, ","),
	}, "\n") + "\n"
	if g := string(WriteManifest(got)); g != want {
		t.Errorf("ManifestOf = \n%s\nwant\n%s", g, want)
	}
}

func TestManifestOfStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ManifestOf(ctx, fakeFS{".": {stat: Stat{Type: 'd'}}}); !errors.Is(err, context.Canceled) {
		t.Errorf("ManifestOf with a canceled context = %v, want context.Canceled", err)
	}
}

func TestDataMapEnds(t *testing.T) {
	// An implementation that answers SEEK_HOLE with where it started.
	f := &fakeFile{bytes.NewReader(nil), &fakeNode{data: [][2]int64{{5, 5}, {5, 9}}}}
	if got := dataMap(stuck{f}, 10); !strings.HasPrefix(got, "wrong:") {
		t.Errorf("dataMap = %q, want wrong:…", got)
	}
}

type stuck struct{ *fakeFile }

func (stuck) SeekHole(off int64) (int64, error) { return off, nil }
