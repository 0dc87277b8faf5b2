package bcachefs_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// TestExtents compares, for every regular file of some volumes, what Extents says
// with DataRanges, Map and the inode, and Xattrs with the calls it stands for.
func TestExtents(t *testing.T) {
	ctx := context.Background()
	for _, name := range []string{"plain", "reflink", "snapshots", "replicas2", "v39ec", "enczstdwide", "up39reflink"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := open(t, testvol.Load(t, name), options(t, name))
			files, l := v.Files(), libFS{v.Root()}
			seen := map[bcachefs.ExtentKind]int{}
			shared, striped, compressed := 0, 0, 0
			for _, e := range testvol.Manifest(t, name) {
				id, err := l.id(ctx, e.Path)
				if err != nil {
					t.Fatal(err)
				}
				checkXattrs(t, files, id, e.Path)
				if e.Type != 'f' {
					continue
				}
				h, err := files.Open(ctx, id)
				if err != nil {
					t.Fatal(err)
				}
				var want, got []bcachefs.DataRange
				if err := h.DataRanges(ctx, 0, func(r bcachefs.DataRange) bool { want = append(want, r); return true }); err != nil {
					t.Fatal(err)
				}
				allocated, last := uint64(0), uint64(0)
				err = h.Extents(ctx, 0, func(x bcachefs.Extent) bool {
					seen[x.Kind]++
					if x.Offset < last || x.Length == 0 || x.Length%512 != 0 || x.Err != nil {
						t.Errorf("%s: extent %d+%d after %d, error %v", e.Path, x.Offset, x.Length, last, x.Err)
					}
					last = x.Offset + x.Length
					if x.Shared {
						shared++
					}
					for _, c := range x.Copies {
						if c.HasStripe {
							striped++
						}
						if c.Compression.Compressed() {
							compressed++
							if got := c.Charged(x.Length); got > x.Length {
								t.Errorf("%s: %d bytes charged for a compressed extent of %d", e.Path, got, x.Length)
							}
						} else if got := c.Charged(x.Length); got != x.Length {
							t.Errorf("%s: %d bytes charged for an extent of %d", e.Path, got, x.Length)
						}
						if !c.Present || uint64(c.BlobOffset)*512+x.Length > uint64(c.DataSectors)*512 {
							t.Errorf("%s: extent of %d bytes in copy %+v", e.Path, x.Length, c)
						}
					}
					if x.Kind == bcachefs.ExtentReserved {
						return true
					}
					allocated += x.Length
					r := bcachefs.DataRange{Start: x.Offset, End: min(x.Offset+x.Length, uint64(e.Size))}
					if n := len(got); n > 0 && got[n-1].End == r.Start {
						got[n-1].End = r.End
					} else if r.Start < r.End {
						got = append(got, r)
					}
					return true
				})
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(want, got); d != "" {
					t.Errorf("%s: extents and data ranges (-ranges +extents):\n%s", e.Path, d)
				}
				known, lost, err := h.Map(ctx)
				if d := cmp.Diff(want, known); d != "" || len(lost) != 0 || err != nil {
					t.Errorf("%s: Map gives %d lost ranges, %v, and (-ranges +map):\n%s", e.Path, len(lost), err, d)
				}
			}
			if seen[bcachefs.ExtentData] < 50 || seen[bcachefs.ExtentLost] > 0 {
				t.Errorf("extents by kind = %v, want some data and none lost", seen)
			}
			for _, c := range []struct {
				what string
				n    int
				want bool
			}{{"shared", shared, strings.Contains(name, "reflink")}, {"striped", striped, name == "v39ec"}, {"compressed", compressed, name == "enczstdwide"}} {
				if (c.n > 0) != c.want {
					t.Errorf("%d extents are %s, want some: %v", c.n, c.what, c.want)
				}
			}
		})
	}
}

func checkXattrs(t *testing.T, files *bcachefs.Files, id bcachefs.NodeID, path string) {
	t.Helper()
	ctx := context.Background()
	names, err := files.ListXattr(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	var want []bcachefs.Xattr
	for _, n := range names {
		if strings.HasPrefix(n, "bcachefs") {
			continue
		}
		b, err := files.GetXattr(ctx, id, n)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, bcachefs.Xattr{Name: n, Value: b})
	}
	got, err := files.Xattrs(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s: Xattrs (-want +got):\n%s", path, d)
	}
}

// TestSkipBad breaks every data extent of a file and reads it with SkipBad: it
// goes from one extent to the next, and ends.
func TestSkipBad(t *testing.T) {
	ctx := context.Background()
	for _, name := range []string{"plain", "zstd", "nocsum", "reflink"} {
		o := options(t, name)
		o.Warn = func(error) {}
		good := open(t, testvol.Load(t, name), o)
		id, err := libFS{good.Root()}.id(ctx, "docs/f16_0_1048576")
		if err != nil {
			t.Fatal(err)
		}
		h, err := good.Files().Open(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		over := block.NewOverlay(testvol.Load(t, name)[0])
		var ends []int64
		plain := false
		err = h.Extents(ctx, 0, func(x bcachefs.Extent) bool {
			for _, c := range x.Copies {
				plain = plain || c.Checksum == ondisk.CsumNone
				b := make([]byte, c.StoredSectors*512)
				if _, err := over.WriteAt(b, int64(c.Sector)*512); err != nil {
					t.Fatal(err)
				}
				ends = append(ends, int64(x.Offset+x.Length))
			}
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		bad := open(t, []block.Reader{over}, o)
		if h, err = bad.Files().Open(ctx, id); err != nil {
			t.Fatal(err)
		}
		if plain {
			// Nothing tells that the bytes are wrong. A failing device is skipped a block at a time.
			if got := h.SkipBad(ctx, 5000, errs.ErrIO); got != 5120 && got != 8192 {
				t.Errorf("%s: SkipBad(5000) = %d, want the next block", name, got)
			}
			continue
		}
		buf := make([]byte, 1<<20)
		var got []int64
		for off := int64(0); off < int64(h.Attr().Size); {
			n, err := h.ReadAt(ctx, buf, off)
			off += int64(n)
			if err == nil {
				if off < int64(h.Attr().Size) && n == 0 {
					t.Fatalf("%s: nothing read at %d", name, off)
				}
				continue
			}
			if !errors.Is(err, errs.ErrChecksum) {
				t.Errorf("%s: error at %d = %v, want a checksum mismatch", name, off, err)
			}
			off = h.SkipBad(ctx, off, err)
			got = append(got, off)
		}
		for i := range ends {
			ends[i] = min(ends[i], int64(h.Attr().Size))
		}
		if d := cmp.Diff(ends, got); d != "" {
			t.Errorf("%s: ends of the bad parts (-want +got):\n%s", name, d)
		}
	}
}
