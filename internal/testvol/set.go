package testvol

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/gobcachefs/gobcachefs/block"
)

// Passphrase opens the encrypted volumes.
const Passphrase = "correct horse"

// Encrypted reports whether Passphrase is needed to read the volume name.
func Encrypted(name string) bool { return strings.HasPrefix(strings.TrimPrefix(name, "v39"), "enc") }

// Set is a folder of volumes and of what the real implementation said of them
// (testdata/volumes/README.md names its files). Safe for concurrent use.
type Set struct{ dir string }

// Small is the set in testdata/volumes.
func Small(t testing.TB) *Set {
	t.Helper()
	return openSet(t, filepath.Join(Root(t), "testdata", "volumes"))
}

// Full is the set that is too big for the repository: the folder
// $GOBCACHEFS_VOLUMES, or else ../shared/volumes beside the repository. Only
// tests with the build tag shared may ask for it; it fails t where there is none.
func Full(t testing.TB) *Set {
	t.Helper()
	dir := os.Getenv("GOBCACHEFS_VOLUMES")
	if dir == "" {
		dir = filepath.Join(Root(t), "..", "shared", "volumes")
	}
	return openSet(t, dir)
}

func openSet(t testing.TB, dir string) *Set {
	t.Helper()
	s := &Set{dir: dir}
	if len(s.Names()) == 0 {
		t.Fatalf("no test volumes (NAME.img.zst, NAME.sparse.zst) in %s", dir)
	}
	return s
}

// Load opens the members of a volume of Small, in the order of their index, to
// read. They are closed when t ends.
func Load(t testing.TB, name string) []block.Reader { t.Helper(); return Small(t).Load(t, name) }

// LoadShared is Load for a volume of Full.
func LoadShared(t testing.TB, name string) []block.Reader { t.Helper(); return Full(t).Load(t, name) }

// Names lists the volumes of Small, sorted.
func Names(t testing.TB) []string { t.Helper(); return Small(t).Names() }

// Paths unpacks a volume of Small into files that t may change: they are its
// own, and are removed when it ends.
func Paths(t testing.TB, name string) []string { t.Helper(); return Small(t).Paths(t, name) }

// Manifest is what a real mount of a volume of Small showed.
func Manifest(t testing.TB, name string) []Entry {
	t.Helper()
	return Small(t).Manifest(t, name, "manifest")
}

// imageSuffixes end the names of image files: a plain image, or one in the
// sparse format of testdata/volumes/README.md.
var imageSuffixes = []string{".img.zst", ".sparse.zst"}

// Names lists the volumes of the set, sorted.
func (s *Set) Names() []string {
	var names []string
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return nil
	}
	for _, f := range files {
		name, _, _ := strings.Cut(f.Name(), ".")
		if isImage(f.Name()) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func isImage(file string) bool {
	return slices.ContainsFunc(imageSuffixes, func(x string) bool { return strings.HasSuffix(file, x) })
}

// imageFile finds NAME or NAME.N with either suffix, "" if there is none.
func (s *Set) imageFile(stem string) string {
	for _, suffix := range imageSuffixes {
		f := filepath.Join(s.dir, stem+suffix)
		if _, err := os.Stat(f); err == nil {
			return f
		}
	}
	return ""
}

// files gives the image files of a volume, in the order of the member index.
func (s *Set) files(name string) ([]string, error) {
	if f := s.imageFile(name); f != "" {
		return []string{f}, nil
	}
	var all []string
	for f := s.imageFile(name + ".0"); f != ""; f = s.imageFile(name + "." + strconv.Itoa(len(all))) {
		all = append(all, f)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no volume %q in %s", name, s.dir)
	}
	return all, nil
}

// Members is the number of devices of a volume, 0 if the set does not hold it.
func (s *Set) Members(name string) int {
	files, _ := s.files(name)
	return len(files)
}

// Load opens the members of a volume, in the order of their index, to read.
// They are closed when t ends; the unpacked image is shared between tests.
func (s *Set) Load(t testing.TB, name string) []block.Reader {
	t.Helper()
	all, err := s.images(name)
	if err != nil {
		t.Fatal(err)
	}
	var devs []block.Reader
	for _, m := range all {
		d := &device{m: m}
		t.Cleanup(func() { _ = d.Close() })
		devs = append(devs, d)
	}
	return devs
}

// Paths unpacks a volume into sparse files NAME.img or NAME.0.img, NAME.1.img…
// of a new folder that is removed when t ends.
func (s *Set) Paths(t testing.TB, name string) []string {
	t.Helper()
	paths, err := s.unpack(name, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// Unpack writes the members of a volume of the set in the folder from into the
// folder to, and returns their paths. It is for programs; tests use Paths.
func Unpack(from, name, to string) ([]string, error) { return (&Set{from}).unpack(name, to) }

func (s *Set) unpack(name, to string) ([]string, error) {
	all, err := s.images(name)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, m := range all {
		p := filepath.Join(to, m.name)
		if err := m.writeTo(p); err != nil {
			return paths, fmt.Errorf("unpacking %s: %w", m.name, err)
		}
		paths = append(paths, p)
	}
	return paths, nil
}

func (s *Set) images(name string) ([]*image, error) {
	files, err := s.files(name)
	if err != nil {
		return nil, err
	}
	var all []*image
	for _, f := range files {
		m, err := cached.get(f)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// Text returns what the real implementation said of a volume: kind is what
// follows the name of the volume in the file name, without ".zst": "manifest",
// "manifest.snap1", "manifest-recovered", "manifest-statfs", "show-super",
// "list", "without-0.manifest".
func (s *Set) Text(t testing.TB, name, kind string) []byte {
	t.Helper()
	for _, dir := range []string{s.dir, filepath.Join(s.dir, "lists")} {
		for _, suffix := range []string{"", ".zst"} {
			b, err := os.ReadFile(filepath.Join(dir, name+"."+kind+suffix))
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err == nil && suffix != "" {
				b, err = unpackText(b)
			}
			if err != nil {
				t.Fatalf("%s.%s: %v", name, kind, err)
			}
			return b
		}
	}
	t.Fatalf("no %s of volume %q in %s", kind, name, s.dir)
	return nil
}

// Kinds lists the kinds of Text that the set has of a volume, sorted.
func (s *Set) Kinds(name string) []string {
	var kinds []string
	for _, dir := range []string{s.dir, filepath.Join(s.dir, "lists")} {
		files, _ := os.ReadDir(dir)
		for _, f := range files {
			kind, ok := strings.CutPrefix(f.Name(), name+".")
			if ok && !isImage(f.Name()) {
				kinds = append(kinds, strings.TrimSuffix(kind, ".zst"))
			}
		}
	}
	slices.Sort(kinds)
	return kinds
}

// Manifest reads the manifest of the given kind: "manifest",
// "manifest-recovered", "manifest.snap1", "without-0.manifest".
func (s *Set) Manifest(t testing.TB, name, kind string) []Entry {
	t.Helper()
	e, err := ReadManifest(s.Text(t, name, kind))
	if err != nil {
		t.Fatalf("%s.%s: %v", name, kind, err)
	}
	return e
}

// Subvolumes gives the paths of the subvolumes of a volume that have a manifest
// of their own, and the kind of that manifest.
func (s *Set) Subvolumes(name string) map[string]string {
	m := map[string]string{}
	for _, k := range s.Kinds(name) {
		if sub, ok := strings.CutPrefix(k, "manifest."); ok {
			m[strings.ReplaceAll(sub, "_", "/")] = k
		}
	}
	return m
}

func unpackText(b []byte) ([]byte, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	return z.DecodeAll(b, nil)
}

// imageCache keeps unpacked images for the tests of one process: the most
// recent ones, up to a number of stored bytes. An image in use lives on.
type imageCache struct {
	mu     sync.Mutex
	limit  int64
	held   int64
	recent []*cacheEntry // newest last
}

type cacheEntry struct {
	file string
	once sync.Once
	m    *image
	err  error
	held int64
}

var cached = imageCache{limit: 256 << 20}

func (c *imageCache) get(file string) (*image, error) {
	c.mu.Lock()
	var e *cacheEntry
	if i := slices.IndexFunc(c.recent, func(e *cacheEntry) bool { return e.file == file }); i >= 0 {
		e = c.recent[i]
		c.recent = append(slices.Delete(c.recent, i, i+1), e)
	} else {
		e = &cacheEntry{file: file}
		c.recent = append(c.recent, e)
	}
	c.mu.Unlock()

	e.once.Do(func() { e.m, e.err = openImage(file) })
	if e.err != nil {
		return nil, e.err
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	if e.held == 0 && slices.Contains(c.recent, e) {
		e.held = e.m.bytes.InUse()
		c.held += e.held
	}
	for c.held > c.limit && len(c.recent) > 1 && c.recent[0] != e {
		c.held -= c.recent[0].held
		c.recent = slices.Delete(c.recent, 0, 1)
	}
	return e.m, nil
}

func openImage(file string) (*image, error) {
	dict, err := os.ReadFile(filepath.Join(filepath.Dir(file), "tree.dict"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	packed, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return unpackImage(filepath.Base(file), packed, dict)
}

// Root is the folder of the repository: the one with go.mod, above the folder
// in which the test runs.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d
		}
		if d == filepath.Dir(d) {
			t.Fatalf("no go.mod above %s", dir)
		}
	}
}
