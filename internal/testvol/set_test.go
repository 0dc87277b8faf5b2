package testvol

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gobcachefs/gobcachefs/errs"
)

// magic stands 24 bytes into the superblock at sector 8 (chapter 01 section 2.1).
var magic = []byte{0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9, 0xd9, 0x6a, 0x60, 0xcf, 0x80, 0x3d, 0xf7, 0xef}

func TestLoadEveryVolume(t *testing.T) {
	checkSet(t, Small(t), 33)
}

// checkSet loads every volume of a set, which holds at least so many.
func checkSet(t *testing.T, s *Set, atLeast int) {
	names := s.Names()
	if len(names) < atLeast {
		t.Errorf("%d volumes, want at least %d: %v", len(names), atLeast, names)
	}
	for _, name := range names {
		devs := s.Load(t, name)
		if got := s.Members(name); got != len(devs) {
			t.Errorf("Members(%s) = %d, want %d", name, got, len(devs))
		}
		for i, d := range devs {
			b := make([]byte, len(magic))
			if _, err := d.ReadAt(b, 8*512+24); err != nil {
				t.Errorf("%s member %d: %v", name, i, err)
			}
			if !bytes.Equal(b, magic) {
				t.Errorf("%s member %d: magic = %x, want %x", name, i, b, magic)
			}
		}
	}
}

func TestDeviceContract(t *testing.T) {
	d, again := Load(t, "v39casefold")[0], Load(t, "v39casefold")[0]
	size := d.Size()
	if size != 256<<20 {
		t.Fatalf("Size() = %d, want %d", size, 256<<20)
	}
	b := make([]byte, 8192)
	for _, c := range []struct {
		off  int64
		len  int
		n    int
		want error
	}{
		{0, 8192, 8192, nil},
		{size - 100, 100, 100, nil},
		{size - 100, 101, 100, io.ErrUnexpectedEOF},
		{size, 1, 0, io.EOF},
		{size + 5, 1, 0, io.EOF},
		{-1, 1, 0, errs.ErrUsage},
		{4000, 0, 0, nil},
	} {
		if n, err := d.ReadAt(b[:c.len], c.off); n != c.n || !errors.Is(err, c.want) {
			t.Errorf("ReadAt(%d bytes, %d) = %d, %v, want %d, %v", c.len, c.off, n, err, c.n, c.want)
		}
	}
	if err := d.Close(); err != nil {
		t.Errorf("Close() = %v, want nil", err)
	}
	if _, err := d.ReadAt(b, 0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("ReadAt after Close = %v, want os.ErrClosed", err)
	}
	if n, err := again.ReadAt(b, 0); n != len(b) || err != nil {
		t.Errorf("ReadAt of the other opening = %d, %v, want %d, nil", n, err, len(b))
	}
}

func TestPaths(t *testing.T) {
	devs, paths := Load(t, "stripe3"), Paths(t, "stripe3")
	if len(paths) != len(devs) {
		t.Fatalf("Paths gives %d files, want %d", len(paths), len(devs))
	}
	for i, d := range devs {
		f, err := os.Open(paths[i])
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if fi, err := f.Stat(); err != nil || fi.Size() != d.Size() {
			t.Errorf("%s: size %v (%v), want %d", paths[i], fi.Size(), err, d.Size())
		}
		sameBytes(t, paths[i], f, d, d.Size())
	}
}

func sameBytes(t *testing.T, name string, a, b io.ReaderAt, size int64) {
	t.Helper()
	x, y := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); off < size; off += int64(len(x)) {
		n := min(int64(len(x)), size-off)
		if _, err := a.ReadAt(x[:n], off); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := b.ReadAt(y[:n], off); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !bytes.Equal(x[:n], y[:n]) {
			t.Fatalf("%s: bytes differ in the MiB at %d", name, off)
		}
	}
}

func TestUnpackImageRefuses(t *testing.T) {
	s := Small(t)
	packed, err := os.ReadFile(filepath.Join(s.dir, "v39casefold.img.zst"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unpackImage("whole.img.zst", packed, nil); err != nil {
		t.Errorf("unpackImage(whole) = %v, want nil", err)
	}
	flipped := bytes.Clone(packed)
	flipped[len(flipped)/2] ^= 1
	for name, b := range map[string][]byte{
		"empty": nil, "cut": packed[:len(packed)-5000], "flipped": flipped, "text": []byte("not zstd at all"),
	} {
		if _, err := unpackImage(name+".img.zst", b, nil); err == nil {
			t.Errorf("unpackImage(%s) = nil, want an error", name)
		}
	}
}

func TestReadSparse(t *testing.T) {
	d, err := readSparse("x", strings.NewReader("sparse 20000 2\n4096 3\n19999 1\nabcd"))
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 20000)
	copy(want[4096:], "abc")
	want[19999] = 'd'
	got := make([]byte, 20000)
	if n, err := d.ReadAt(got, 0); n != 20000 || err != nil || !bytes.Equal(got, want) {
		t.Errorf("ReadAt = %d, %v, bytes as wanted: %v", n, err, bytes.Equal(got, want))
	}
	for _, bad := range []string{
		"", "sparse 10\n", "sparse -1 0\n", "sparse 10 11\n", "sparse 99999999999999 0\n", "sparse 10 1\n", "sparse 10 1\n8 3\nabc",
		"sparse 10 1\n-1 3\nabc", "sparse 10 1\n0 3\nab", "sparse 10 1\n0 3\nabcd", "sparse 10 -1\n",
	} {
		if _, err := readSparse("x", strings.NewReader(bad)); err == nil {
			t.Errorf("readSparse(%q) = nil, want an error", bad)
		}
	}
}

func TestCacheLimit(t *testing.T) {
	c := imageCache{limit: 40 << 20}
	s := Small(t)
	file := func(name string) string {
		f, err := s.files(name)
		if err != nil {
			t.Fatal(err)
		}
		return f[0]
	}
	get := func(name string) *image {
		m, err := c.get(file(name))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	plain := get("plain")
	if get("plain") != plain {
		t.Error("second get of plain gives another image, want the cached one")
	}
	for _, n := range []string{"lz4", "zstd", "gzip", "crc64"} {
		get(n)
		if c.held > c.limit {
			t.Errorf("after %s: %d bytes held, want at most %d", n, c.held, c.limit)
		}
	}
	if get("plain") == plain {
		t.Error("plain is still cached after four more volumes, want it dropped")
	}
	if _, err := c.get(filepath.Join(s.dir, "none.img.zst")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("get(none) = %v, want not found", err)
	}
}

func TestKindsAndSubvolumes(t *testing.T) {
	s := Small(t)
	want := map[string]string{
		"snap-ro": "manifest.snap-ro", "snap1": "manifest.snap1", "snap2": "manifest.snap2",
		"sub/snap3": "manifest.sub_snap3", "vol": "manifest.vol", "vol/nested": "manifest.vol_nested",
	}
	got := s.Subvolumes("snapshots")
	if len(got) != len(want) {
		t.Errorf("Subvolumes(snapshots) = %v, want %v", got, want)
	}
	for p, k := range want {
		if got[p] != k {
			t.Errorf("Subvolumes(snapshots)[%s] = %q, want %q", p, got[p], k)
		}
	}
	for name, kinds := range map[string]int{"plain": 4, "replicas2": 6, "crash": 3, "snapshots": 10} {
		if k := s.Kinds(name); len(k) != kinds {
			t.Errorf("Kinds(%s) = %v, want %d of them", name, k, kinds)
		}
	}
	if b := s.Text(t, "plain", "list"); !bytes.HasPrefix(b, []byte("== ")) {
		t.Errorf("list of plain starts %.20q, want ==", b)
	}
}
