package block_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/block/blocktest"
	"github.com/gobcachefs/gobcachefs/errs"
)

func TestMemorySuite(t *testing.T) {
	want := blocktest.Pattern(300_123)
	blocktest.Suite(t, func() block.Reader { return block.NewMemory("m", want) }, want)
}

func TestSparseSuite(t *testing.T) {
	want := blocktest.Pattern(300_123)
	blocktest.Suite(t, func() block.Reader {
		s, err := block.ReadSparse("s", bytes.NewReader(want))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}, want)
}

func TestOverlaySuite(t *testing.T) {
	want := blocktest.Pattern(300_123)
	below := bytes.Clone(want)
	patches := [][2]int{{0, 10}, {4096, 8192}, {100_000, 100_001}, {110_000, 130_000}, {300_000, 300_123}}
	for _, p := range patches {
		for i := p[0]; i < p[1]; i++ {
			below[i] ^= 0xff
		}
	}
	blocktest.Suite(t, func() block.Reader {
		o := block.NewOverlay(block.NewMemory("m", below))
		for _, p := range patches {
			if n, err := o.WriteAt(want[p[0]:p[1]], int64(p[0])); n != p[1]-p[0] || err != nil {
				t.Fatalf("WriteAt = %d, %v, want %d, nil", n, err, p[1]-p[0])
			}
		}
		return o
	}, want)
	t.Run("Empty", func(t *testing.T) {
		blocktest.Suite(t, func() block.Reader { return block.NewOverlay(block.NewMemory("m", want)) }, want)
	})
}

// writers makes each writable kind over the same bytes.
func writers(t *testing.T, b []byte) map[string]block.Writer {
	s, err := block.ReadSparse("s", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return map[string]block.Writer{"sparse": s, "overlay": block.NewOverlay(block.NewMemory("m", bytes.Clone(b)))}
}

func TestWritersFollowModel(t *testing.T) {
	ctx := context.Background()
	for name, w := range writers(t, blocktest.Pattern(100_003)) {
		model := blocktest.Pattern(100_003)
		rng := rand.New(rand.NewPCG(5, 6))
		for i := range 400 {
			off := rng.IntN(len(model))
			n := min(rng.IntN(9000), len(model)-off)
			p := make([]byte, n)
			if i%4 != 0 { // every fourth one writes zeros
				for j := range p {
					p[j] = byte(rng.Uint32())
				}
			}
			if k, err := w.WriteAt(p, int64(off)); k != n || err != nil {
				t.Fatalf("%s: WriteAt(%d bytes, %d) = %d, %v, want %d, nil", name, n, off, k, err, n)
			}
			copy(model[off:], p)
			got := make([]byte, len(model))
			if _, err := w.ReadAt(got, 0); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, model) {
				t.Fatalf("%s: after write %d the bytes differ from the model", name, i)
			}
		}
		if err := w.Flush(ctx); err != nil {
			t.Errorf("%s: Flush() = %v, want nil", name, err)
		}
		for _, bad := range [][2]int64{{-1, 1}, {100_003, 1}, {100_000, 4}, {1<<63 - 1, 1}} {
			if n, err := w.WriteAt(make([]byte, bad[1]), bad[0]); n != 0 || !errors.Is(err, errs.ErrUsage) {
				t.Errorf("%s: WriteAt(%d bytes, %d) = %d, %v, want 0, ErrUsage", name, bad[1], bad[0], n, err)
			}
			if err := w.Discard(ctx, bad[0], bad[1]); !errors.Is(err, errs.ErrUsage) {
				t.Errorf("%s: Discard(%d, %d) = %v, want ErrUsage", name, bad[0], bad[1], err)
			}
		}
	}
}

func TestOverlayLeavesBaseAlone(t *testing.T) {
	b := blocktest.Pattern(50_000)
	before := bytes.Clone(b)
	o := block.NewOverlay(block.NewMemory("m", b))
	if _, err := o.WriteAt(bytes.Repeat([]byte{1}, 20_000), 1000); err != nil {
		t.Fatal(err)
	}
	if err := o.Discard(context.Background(), 0, 50_000); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, before) {
		t.Error("WriteAt changed the device below")
	}
	if got, want := o.Changed(), int64(6*4096); got != want {
		t.Errorf("Changed() = %d, want %d", got, want)
	}
	if i := o.Info(); i.Kind != block.KindOverlay || i.ReadOnly {
		t.Errorf("Info() = %+v, want a writable overlay", i)
	}
}

func TestOverlayErrorsBelow(t *testing.T) {
	b := blocktest.Pattern(50_000)
	o := block.NewOverlay(blocktest.NewFault(block.NewMemory("m", b), blocktest.EIO(8192, 512)))
	if n, err := o.WriteAt([]byte{1}, 9000); n != 0 || !errors.Is(err, errs.ErrIO) {
		t.Errorf("WriteAt to part of an unreadable page = %d, %v, want 0, ErrIO", n, err)
	}
	if n, err := o.WriteAt(make([]byte, 100), 0); n != 100 || err != nil {
		t.Fatalf("WriteAt = %d, %v, want 100, nil", n, err)
	}
	got := make([]byte, 20_000)
	n, err := o.ReadAt(got, 0)
	if n != 8192 || !errors.Is(err, errs.ErrIO) {
		t.Errorf("ReadAt over an unreadable sector = %d, %v, want 8192, ErrIO", n, err)
	}
	// A page written as a whole needs nothing from below.
	if n, err := o.WriteAt(b[8192:12288], 8192); n != 4096 || err != nil {
		t.Errorf("WriteAt of a whole page = %d, %v, want 4096, nil", n, err)
	}
	if n, err := o.ReadAt(got, 0); n != len(got) || err != nil {
		t.Errorf("ReadAt after the page was rewritten = %d, %v, want %d, nil", n, err, len(got))
	}
}

func TestSparseIsSparse(t *testing.T) {
	ctx := context.Background()
	s := block.NewSparse("s", 1<<50)
	if _, err := s.WriteAt([]byte("x"), 1<<49); err != nil {
		t.Fatal(err)
	}
	if _, err := s.WriteAt(make([]byte, 1<<20), 0); err != nil {
		t.Fatal(err)
	}
	if got := s.InUse(); got != 4096 {
		t.Errorf("InUse() = %d, want 4096", got)
	}
	if err := s.Discard(ctx, 1, 1<<50-2); err != nil || s.InUse() != 0 {
		t.Errorf("Discard = %v and InUse() = %d, want nil and 0", err, s.InUse())
	}
	if _, err := s.WriteAt(bytes.Repeat([]byte{7}, 8192), 4096); err != nil {
		t.Fatal(err)
	}
	if err := s.Discard(ctx, 5000, 100); err != nil {
		t.Fatal(err)
	}
	want := append(bytes.Repeat([]byte{7}, 5000-4096), make([]byte, 100)...)
	want = append(want, bytes.Repeat([]byte{7}, 12288-5100)...)
	got := make([]byte, 8192)
	if _, err := s.ReadAt(got, 4096); err != nil || !bytes.Equal(got, want) {
		t.Errorf("a discarded part does not read as zero beside the rest")
	}
	if _, err := block.ReadSparse("s", io.MultiReader(bytes.NewReader(got), failing{})); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("ReadSparse of a failing reader = %v, want its error", err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }
