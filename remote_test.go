package bcachefs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
	"github.com/gobcachefs/gobcachefs/internal/testvol/build"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// serve serves files by their base name, with range requests; down makes every
// request fail from then on.
func serve(t *testing.T, paths ...string) (url string, requests *atomic.Int64, down *atomic.Bool) {
	t.Helper()
	requests, down = new(atomic.Int64), new(atomic.Bool)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		for _, p := range paths {
			if filepath.Base(p) == strings.TrimPrefix(r.URL.Path, "/") {
				http.ServeFile(w, r, p)
				return
			}
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, requests, down
}

// compressed packs a file.
func compressed(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	out := file + ".zst"
	if err := os.WriteFile(out, enc.EncodeAll(b, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestOpenPathKinds opens volumes behind every kind of name: files, compressed
// files, URLs, compressed ones behind URLs, several members.
func TestOpenPathKinds(t *testing.T) {
	set := testvol.Small(t)
	plain := set.Paths(t, "xxhash")
	two := set.Paths(t, "replicas2")
	pack := compressed(t, plain[0])
	url, _, _ := serve(t, append(append(slices.Clone(plain), two...), pack)...)
	for _, c := range []struct{ kind, spec, name string }{
		{"file", plain[0], "xxhash"},
		{"two files", two[1] + ":" + two[0], "replicas2"},
		{"zstd", pack, "xxhash"},
		{"http", url + "/xxhash.img", "xxhash"},
		{"two URLs", url + "/replicas2.0.img:" + url + "/replicas2.1.img", "replicas2"},
		{"a file and a URL", two[0] + ":" + url + "/replicas2.1.img", "replicas2"},
		{"zstd behind http", url + "/xxhash.img.zst", "xxhash"},
	} {
		t.Run(c.kind, func(t *testing.T) {
			t.Parallel()
			v, err := bcachefs.OpenPath(context.Background(), c.spec, options(t, c.name))
			if err != nil {
				t.Fatal(err)
			}
			testvol.Check(t, set.Manifest(t, c.name, "manifest"), manifest(t, v.Root()), testvol.QuirksOf(c.name))
			if err := v.Close(); err != nil {
				t.Error(err)
			}
			if _, err := readFile(t, v, "/appended"); err == nil {
				t.Error("a file is read after Close")
			}
		})
	}
}

// TestServerGoesAway: what was not fetched yet is an I/O error that names the
// URL; when the server is back, so are the files.
func TestServerGoesAway(t *testing.T) {
	url, _, down := serve(t, testvol.Small(t).Paths(t, "xxhash")...)
	ctx := context.Background()
	if _, err := bcachefs.OpenPath(ctx, url+"/nothing.img", bcachefs.Options{}); err == nil {
		t.Error("a URL that is not there can be opened")
	}
	devs, err := bcachefs.OpenDevices(ctx, url+"/xxhash.img", block.Options{HTTPBackoff: time.Microsecond})
	if err != nil {
		t.Fatal(err)
	}
	defer devs[0].Close()
	v := open(t, devs, bcachefs.Options{CacheBytes: 1, Warn: func(error) {}})
	down.Store(true)
	_, err = readFile(t, v, "/sparse")
	if !errors.Is(err, errs.ErrIO) || !strings.Contains(err.Error(), "xxhash.img") {
		t.Errorf("read without a server = %v, want ErrIO and the URL", err)
	}
	down.Store(false)
	if b, err := readFile(t, v, "/sparse"); err != nil || len(b) != 20<<20 {
		t.Errorf("read with the server back = %d bytes, %v, want 20 MiB", len(b), err)
	}
}

// TestOpenCost: opening and looking at one file of a volume behind a URL fetches
// a small part of it.
func TestOpenCost(t *testing.T) {
	url, requests, _ := serve(t, testvol.Small(t).Paths(t, "plain")...)
	v, err := bcachefs.OpenPath(context.Background(), url+"/plain.img", bcachefs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if _, err := v.Root().Stat(context.Background(), "/docs"); err != nil {
		t.Fatal(err)
	}
	if n := requests.Load(); n > 40 {
		t.Errorf("%d requests to open a volume and find a file, want at most 40", n)
	}
}

// TestManyGoroutines uses one volume from many goroutines at once, with a cache
// that holds next to nothing; it is for the race detector.
func TestManyGoroutines(t *testing.T) {
	set := testvol.Small(t)
	for _, name := range []string{"snapshots", "crash2dev", "v39ec"} {
		o := options(t, name)
		o.CacheBytes = 256 << 10
		v := open(t, set.Load(t, name), o)
		kind := "manifest"
		if slices.Contains(set.Kinds(name), "manifest-recovered") {
			kind = "manifest-recovered"
		}
		want := set.Manifest(t, name, kind)
		ctx := context.Background()
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for i, e := range want {
					if (i+g)%5 != 0 || e.Type == 0 {
						continue
					}
					p := "/" + e.Path
					a, err := v.Root().Lstat(ctx, p)
					if err != nil {
						t.Errorf("%s: %v", name, err)
						continue
					}
					if _, err := v.Files().ListXattr(ctx, a.ID); err != nil {
						t.Errorf("%s: %v", name, err)
					}
					if a.IsDir() {
						if _, err := v.Root().ReadDir(ctx, p); err != nil {
							t.Errorf("%s: %v", name, err)
						}
					}
					if a.IsRegular() && a.Size < 1<<18 {
						b, err := readFile(t, v, p)
						if err != nil || int64(len(b)) != e.Size {
							t.Errorf("%s: %s: %d bytes, %v, want %d", name, p, len(b), err, e.Size)
						}
					}
				}
				if _, err := v.Statfs(ctx); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}()
		}
		wg.Wait()
	}
}

// TestPassphrase asks as often as needed, and for the right volume.
func TestPassphrase(t *testing.T) {
	set := testvol.Small(t)
	const name = "enczstdwide"
	ctx := context.Background()
	for _, c := range []struct {
		pass string
		want error
	}{{testvol.Passphrase, nil}, {"wrong", errs.ErrPassphrase}} {
		asked := ""
		o := bcachefs.Options{Passphrase: func(_ context.Context, uuid string) ([]byte, error) { asked += uuid; return []byte(c.pass), nil }}
		v, err := bcachefs.Open(ctx, set.Load(t, name), o)
		if !errors.Is(err, c.want) {
			t.Errorf("Open with %q = %v, want %v", c.pass, err, c.want)
		}
		if v != nil && asked != v.Superblock().UserUUID.String() {
			t.Errorf("asked for the passphrase of %q", asked)
		}
	}
	if _, err := bcachefs.Open(ctx, set.Load(t, name), bcachefs.Options{}); !errors.Is(err, errs.ErrLocked) {
		t.Errorf("Open without anybody to ask = %v, want ErrLocked", err)
	}
	// A key, as the kernel's keyring holds it, comes first.
	sb, err := build.ReadSuper(set.Load(t, name)[0], ondisk.SBSector)
	if err != nil {
		t.Fatal(err)
	}
	key, err := bcachefs.DeriveKey(sb, []byte(testvol.Passphrase))
	if err != nil {
		t.Fatal(err)
	}
	give := func(b []byte) bcachefs.Options {
		return bcachefs.Options{Key: func(context.Context, string) ([]byte, error) { return b, nil },
			Passphrase: func(context.Context, string) ([]byte, error) { return nil, fmt.Errorf("asked all the same") }}
	}
	if _, err := bcachefs.Open(ctx, set.Load(t, name), give(key)); err != nil {
		t.Errorf("Open with the key = %v", err)
	}
	if _, err := bcachefs.Open(ctx, set.Load(t, name), give(bytes.Repeat([]byte{1}, 32))); !errors.Is(err, errs.ErrPassphrase) {
		t.Errorf("Open with a wrong key = %v, want ErrPassphrase", err)
	}
	if _, err := bcachefs.Open(ctx, set.Load(t, name), give([]byte{1})); !errors.Is(err, errs.ErrPassphrase) {
		t.Errorf("Open with a short key = %v, want ErrPassphrase", err)
	}
	if _, err := bcachefs.DeriveKey(sb, []byte("wrong")); !errors.Is(err, errs.ErrPassphrase) {
		t.Errorf("DeriveKey with a wrong passphrase = %v, want ErrPassphrase", err)
	}
}

// TestUninitialized: a volume that was made but never mounted is no damage; it
// just has no files.
func TestUninitialized(t *testing.T) {
	devs := freshVolume()
	if _, err := bcachefs.Open(context.Background(), devs, bcachefs.Options{}); !errors.Is(err, errs.ErrUnsupported) || !strings.Contains(err.Error(), "never initialized") {
		t.Errorf("Open = %v, want ErrUnsupported that says so", err)
	}
}
