package rwtest

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/internal/engine"
	"github.com/gobcachefs/gobcachefs/internal/objects"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// openReal opens a volume that the real implementation wrote, above a layer that
// takes the changes.
func openReal(t *testing.T, name string) (*engine.RW, []block.Reader) {
	t.Helper()
	var devs []block.Reader
	for _, d := range testvol.Load(t, name) {
		devs = append(devs, block.NewOverlay(d))
	}
	o := engine.WriteOptions{}
	o.CacheBytes = 16 << 20
	o.Members.Warn = func(err error) { t.Errorf("warning: %v", err) }
	o.Members.Key = func(_ context.Context, sb *ondisk.Superblock) (*crypt.Key, error) {
		c, err := sb.Crypt()
		if err != nil {
			return nil, err
		}
		k, err := crypt.DeriveKey([]byte(testvol.Passphrase), c.KDFFlags)
		return &k, err
	}
	rw, err := engine.OpenWrite(context.Background(), devs, o)
	if err != nil {
		t.Fatal(err)
	}
	return rw, devs
}

func keepDevices(t *testing.T, name string, devs []block.Reader) {
	dir := os.Getenv("KEEP_IMAGES")
	if dir == "" {
		return
	}
	for i, d := range devs {
		b := make([]byte, d.Size())
		if _, err := d.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(fmt.Sprintf("%s/real-%s.%d.img", dir, name, i), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestChangeRealVolumes changes files of volumes that the kernel wrote: those
// that were changed are as the changes say, all others as before.
func TestChangeRealVolumes(t *testing.T) {
	for _, name := range []string{"plain", "zstd", "nocsum", "geometry", "crc64", "xxhash", "replicas2", "reflink", "aclquota", "snapshots", "enczstdwide", "crash", "crash2dev", "nocow", "bgcomp", "stripe3", "gzip"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			rw, devs := openReal(t, name)
			w := rw.Writer()
			r := rand.New(rand.NewPCG(1, 2))
			type want struct {
				id   objects.ID
				data []byte
			}
			var wants []want
			var files []objects.ID
			var dirs []objects.ID
			var walk func(id objects.ID, depth int)
			walk = func(id objects.ID, depth int) {
				in, err := w.Inode(ctx, id)
				if err != nil {
					t.Fatal(err)
				}
				dirs = append(dirs, id)
				var sub []objects.DirEntry
				if err := w.ReadDir(ctx, id, &in, 0, func(e objects.DirEntry) bool { sub = append(sub, e); return true }, nil); err != nil {
					t.Fatal(err)
				}
				for _, e := range sub {
					if s, ok := w.Snapshots().Subvolume(e.ID.Subvol); ok && s.ReadOnly() {
						continue
					}
					if e.Type == ondisk.DTDir && depth < 4 {
						walk(e.ID, depth+1)
					} else if e.Type == ondisk.DTRegular {
						files = append(files, e.ID)
					}
				}
			}
			walk(objects.Root, 0)
			if len(files) == 0 {
				t.Fatal("no files")
			}
			read := func(id objects.ID) []byte {
				in, err := w.Inode(ctx, id)
				if err != nil {
					t.Fatal(err)
				}
				f, err := w.File(id, &in)
				if err != nil {
					t.Fatal(err)
				}
				b := make([]byte, in.Size)
				if _, err := w.Data().ReadAt(ctx, f, b, 0); err != nil {
					t.Fatal(err)
				}
				return b
			}
			for i := range 40 {
				id := files[r.IntN(len(files))]
				b := read(id)
				if len(b) > 4<<20 {
					continue
				}
				switch i % 3 {
				case 0:
					off := r.IntN(len(b) + 1000)
					p := bytes.Repeat([]byte{byte(i), byte(i >> 1)}, 1+r.IntN(30000))
					if _, err := w.WriteAt(ctx, id, p, uint64(off)); err != nil {
						t.Fatal(err)
					}
					if end := off + len(p); end > len(b) {
						b = append(b, make([]byte, end-len(b))...)
					}
					copy(b[off:], p)
				case 1:
					n := r.IntN(len(b) + 1)
					if _, err := w.Truncate(ctx, id, uint64(n)); err != nil {
						t.Fatal(err)
					}
					b = b[:n]
				case 2:
					d := dirs[r.IntN(len(dirs))]
					nid, _, err := w.Create(ctx, d, fmt.Appendf(nil, "new-%d", i), objects.Spec{Mode: ondisk.ModeRegular | 0o600})
					if err != nil {
						t.Fatal(err)
					}
					id, b = nid, []byte("new data")
					if _, err := w.WriteAt(ctx, id, b, 0); err != nil {
						t.Fatal(err)
					}
				}
				wants = append(wants, want{id, b})
			}
			// Remove a directory with everything in it.
			in, err := w.Inode(ctx, objects.Root)
			if err != nil {
				t.Fatal(err)
			}
			if e, err := w.Lookup(ctx, objects.Root, &in, []byte("names")); err == nil {
				din, err := w.Inode(ctx, e.ID)
				if err != nil {
					t.Fatal(err)
				}
				var names [][]byte
				if err := w.ReadDir(ctx, e.ID, &din, 0, func(x objects.DirEntry) bool { names = append(names, bytes.Clone(x.Name)); return true }, nil); err != nil {
					t.Fatal(err)
				}
				for _, n := range names {
					if _, err := w.Unlink(ctx, e.ID, n); err != nil {
						t.Fatalf("unlink %q: %v", n, err)
					}
				}
				if _, err := w.Rmdir(ctx, objects.Root, []byte("names")); err != nil {
					t.Fatal(err)
				}
			}
			w.Close()
			if err := rw.Close(ctx); err != nil {
				t.Fatal(err)
			}
			keepDevices(t, name, devs)
			v, err := bcachefs.Open(ctx, devs, bcachefs.Options{Warn: func(err error) { t.Error(err) },
				Passphrase: func(context.Context, string) ([]byte, error) { return []byte(testvol.Passphrase), nil }})
			if err != nil {
				t.Fatal(err)
			}
			last := map[objects.ID][]byte{}
			for _, x := range wants {
				last[x.id] = x.data
			}
			for id, want := range last {
				h, err := v.Files().Open(ctx, bcachefs.NodeID{Subvol: id.Subvol, Inode: id.Inum})
				if err != nil {
					continue // one of those removed
				}
				got := make([]byte, h.Attr().Size)
				if n, err := h.ReadAt(ctx, got, 0); err != nil || !bytes.Equal(got[:n], want) {
					t.Errorf("%v: %d bytes (%v), want %d", id, n, err, len(want))
				}
			}
		})
	}
}
