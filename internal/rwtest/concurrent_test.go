package rwtest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/internal/mkfs"
	"github.com/gobcachefs/gobcachefs/internal/objects"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// counted counts the flushes of a device.
type counted struct {
	*block.Sparse
	flushes atomic.Int64
	gate    chan struct{} // flushes wait here while it is open
}

func (c *counted) Flush(ctx context.Context) error {
	c.flushes.Add(1)
	if c.gate != nil {
		<-c.gate
	}
	return c.Sparse.Flush(ctx)
}

// TestConcurrentCreates has many goroutines create and write files in their own
// and in one common directory; all of it must be there in the end.
func TestConcurrentCreates(t *testing.T) {
	ctx := context.Background()
	dev := block.NewSparse("x.img", 128<<20)
	rw, err := mkfs.Open(ctx, []mkfs.Device{{W: dev, Durability: -1}}, mkfs.Options{Warn: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	w := rw.Writer()
	const workers, files = 8, 60
	var wg sync.WaitGroup
	for g := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			dir, _, err := w.Create(ctx, objects.Root, fmt.Appendf(nil, "d%d", g), objects.Spec{Mode: ondisk.ModeDir | 0o755})
			if err != nil {
				t.Error(err)
				return
			}
			for i := range files {
				for _, d := range []objects.ID{dir, objects.Root} {
					id, seq, err := w.Create(ctx, d, fmt.Appendf(nil, "f-%d-%d", g, i), objects.Spec{Mode: ondisk.ModeRegular | 0o644})
					if err != nil {
						t.Error(err)
						return
					}
					if _, err := w.WriteAt(ctx, id, fmt.Appendf(nil, "data of %d %d", g, i), 0); err != nil {
						t.Error(err)
						return
					}
					if i%16 == 0 {
						if err := w.Store.Sync(ctx, seq); err != nil {
							t.Error(err)
						}
					}
				}
				if i%10 == 9 {
					if _, err := w.Unlink(ctx, dir, fmt.Appendf(nil, "f-%d-%d", g, i)); err != nil {
						t.Error(err)
					}
				}
			}
		}()
	}
	wg.Wait()
	w.Close()
	if err := rw.Close(ctx); err != nil {
		t.Fatal(err)
	}
	v, err := bcachefs.Open(ctx, []block.Reader{dev}, bcachefs.Options{Warn: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	es, err := v.Root().ReadDir(ctx, "/")
	if want := 1 + workers + workers*files; err != nil || len(es) != want {
		t.Errorf("root has %d entries (%v), want %d", len(es), err, want)
	}
	for g := range workers {
		es, err := v.Root().ReadDir(ctx, fmt.Sprintf("/d%d", g))
		if want := files - files/10; err != nil || len(es) != want {
			t.Errorf("d%d has %d entries (%v), want %d", g, len(es), err, want)
		}
	}
	keepDevices(t, "concurrent", []block.Reader{dev})
}

// TestSyncsShareAFlush holds up the first flush: syncs that come meanwhile share
// the next one.
func TestSyncsShareAFlush(t *testing.T) {
	ctx := context.Background()
	dev := &counted{Sparse: block.NewSparse("x.img", 128<<20)}
	rw, err := mkfs.Open(ctx, []mkfs.Device{{W: dev, Durability: -1}}, mkfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := rw.Writer()
	gate := make(chan struct{})
	dev.gate = gate
	before := dev.flushes.Load()
	const n = 16
	var wg sync.WaitGroup
	create := func(i int) {
		_, seq, err := w.Create(ctx, objects.Root, fmt.Appendf(nil, "f%d", i), objects.Spec{Mode: ondisk.ModeRegular | 0o644})
		if err != nil {
			t.Error(err)
			return
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := w.Store.Sync(ctx, seq); err != nil {
				t.Error(err)
			}
		}()
	}
	create(0)
	for dev.flushes.Load() == before { // polls: until the first sync is at the device
	}
	for i := 1; i < n; i++ {
		create(i)
	}
	close(gate)
	wg.Wait()
	// An entry takes two flushes: what it needs, then itself. The first sync and
	// the one that all others share make four.
	if got := dev.flushes.Load() - before; got > 6 {
		t.Errorf("%d syncs made %d flushes of the device, want at most 6", n, got)
	}
	w.Close()
	dev.gate = nil
	if err := rw.Close(ctx); err != nil {
		t.Fatal(err)
	}
}
