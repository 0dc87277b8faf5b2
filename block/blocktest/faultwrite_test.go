package blocktest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
)

func TestWriteRules(t *testing.T) {
	skip := func(r Rule, skip, times int) Rule {
		r.Skip, r.Times = skip, times
		return r
	}
	// Writes 8 bytes of 0x22 at 100 over 0x11.
	for _, tt := range []struct {
		name  string
		rules []Rule
		n     int
		err   error
		want  map[int]byte // what is not 0x11 afterwards, from 90 to 120
	}{
		{"none", nil, 8, nil, at(100, 108, 0x22)},
		{"behind", []Rule{WriteEIO(108, 10)}, 8, nil, at(100, 108, 0x22)},
		{"before", []Rule{WriteEIO(90, 10)}, 8, nil, at(100, 108, 0x22)},
		{"a rule for reads", []Rule{EIO(100, 8), Zero(0, 0)}, 8, nil, at(100, 108, 0x22)},
		{"eio", []Rule{WriteEIO(103, 1)}, 3, syscall.EIO, at(100, 103, 0x22)},
		{"eio at once", []Rule{WriteEIO(0, 0)}, 0, syscall.EIO, nil},
		{"the first of two", []Rule{WriteEIO(105, 1), WriteShort(103, 1)}, 3, io.ErrShortWrite, at(100, 103, 0x22)},
		{"short", []Rule{WriteShort(107, 0)}, 7, io.ErrShortWrite, at(100, 107, 0x22)},
		{"lost", []Rule{WriteLost(107, 1)}, 8, nil, nil},
		{"misdirected", []Rule{WriteMisdirected(0, 0, 10)}, 8, nil, at(110, 118, 0x22)},
		{"misdirected back", []Rule{WriteMisdirected(0, 0, -8)}, 8, nil, at(92, 100, 0x22)},
		{"misdirected over the start", []Rule{WriteMisdirected(0, 0, -1000)}, 8, nil, nil},
		{"misdirected over the end", []Rule{WriteMisdirected(0, 0, 1<<20)}, 8, nil, nil},
		{"lost, not misdirected", []Rule{WriteLost(0, 0), WriteMisdirected(0, 0, 10)}, 8, nil, nil},
		{"misdirected, not lost", []Rule{WriteMisdirected(0, 0, 10), WriteLost(0, 0)}, 8, nil, at(110, 118, 0x22)},
		{"flip", []Rule{WriteFlip(101, 1, 0x0f)}, 8, nil, merge(at(100, 108, 0x22), at(101, 102, 0x2d))},
		{"second only", []Rule{skip(WriteLost(0, 0), 1, 1)}, 8, nil, at(100, 108, 0x22)},
		{"first only", []Rule{skip(WriteLost(0, 0), 0, 1)}, 8, nil, nil},
	} {
		below := NewRecorder(block.NewMemory("m", bytes.Repeat([]byte{0x11}, 4096)))
		f := NewFaultWriter(below, tt.rules...)
		p := bytes.Repeat([]byte{0x22}, 8)
		n, err := f.WriteAt(p, 100)
		if n != tt.n || !errors.Is(err, tt.err) {
			t.Errorf("%s: WriteAt = %d, %v, want %d, %v", tt.name, n, err, tt.n, tt.err)
		}
		if !bytes.Equal(p, bytes.Repeat([]byte{0x22}, 8)) {
			t.Errorf("%s: WriteAt changed its argument", tt.name)
		}
		got := map[int]byte{}
		all := make([]byte, 4096)
		if _, err := below.ReadAt(all, 0); err != nil {
			t.Fatal(err)
		}
		for i, b := range all {
			if b != 0x11 {
				got[i] = b
			}
		}
		if tt.want == nil {
			tt.want = map[int]byte{}
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: on the device (-want +got):\n%s", tt.name, d)
		}
		if d := cmp.Diff([]Read{{100, 8}}, f.Writes()); d != "" {
			t.Errorf("%s: Writes (-want +got):\n%s", tt.name, d)
		}
	}
}

func at(from, to int, b byte) map[int]byte {
	m := map[int]byte{}
	for i := from; i < to; i++ {
		m[i] = b
	}
	return m
}

func merge(a, b map[int]byte) map[int]byte {
	for k, v := range b {
		a[k] = v
	}
	return a
}

func TestFlushRules(t *testing.T) {
	ctx := context.Background()
	r := NewRecorder(block.NewSparse("s", 1<<16))
	fail, lose := FlushEIO(), FlushLost()
	fail.Times = 1
	lose.Skip, lose.Times = 1, 1
	f := NewFaultWriter(r, fail, lose, DiscardEIO(4096, 1))
	if err := f.Flush(ctx); !errors.Is(err, syscall.EIO) || !errors.Is(err, errs.ErrIO) {
		t.Errorf("first Flush = %v, want EIO", err)
	}
	for range 2 {
		if err := f.Flush(ctx); err != nil {
			t.Errorf("Flush = %v, want nil", err)
		}
	}
	if got := r.Log().Stats().Flushes; got != 1 {
		t.Errorf("%d flushes came through, want the third only", got)
	}
	if f.Flushes() != 3 {
		t.Errorf("Flushes() = %d, want 3", f.Flushes())
	}
	if err := f.Discard(ctx, 0, 4096); err != nil {
		t.Errorf("Discard beside the rule = %v, want nil", err)
	}
	if err := f.Discard(ctx, 0, 4097); !errors.Is(err, syscall.EIO) {
		t.Errorf("Discard = %v, want EIO", err)
	}
	if got := r.Log().Stats().Discards; got != 1 {
		t.Errorf("%d discards came through, want 1", got)
	}
}

// TestDie lets a device die after each number of operations.
func TestDie(t *testing.T) {
	ctx := context.Background()
	ops := func(f *FaultWriter) (ok []bool) {
		_, err := f.WriteAt([]byte{1}, 0)
		ok = append(ok, err == nil)
		ok = append(ok, f.Flush(ctx) == nil)
		_, err = f.ReadAt(make([]byte, 1), 0)
		ok = append(ok, err == nil)
		return append(ok, f.Discard(ctx, 0, 512) == nil)
	}
	for n := range 5 {
		f := NewFaultWriter(NewRecorder(block.NewSparse("s", 1<<16)))
		f.DieAfter(n)
		want := []bool{n > 0, n > 1, n > 2, n > 3}
		if d := cmp.Diff(want, ops(f)); d != "" {
			t.Errorf("dead after %d: what works (-want +got):\n%s", n, d)
		}
		if f.Ops() != 4 {
			t.Errorf("dead after %d: Ops() = %d, want 4", n, f.Ops())
		}
		if _, err := f.ReadAt(make([]byte, 1), 0); n < 4 && !errors.Is(err, syscall.ENXIO) {
			t.Errorf("dead after %d: ReadAt = %v, want ENXIO", n, err)
		}
		f.Clear()
		if d := cmp.Diff([]bool{true, true, true, true}, ops(f)); d != "" {
			t.Errorf("dead after %d, cleared: what works (-want +got):\n%s", n, d)
		}
	}
}

func TestWriteAndFlushGates(t *testing.T) {
	ctx := context.Background()
	r := NewRecorder(block.NewSparse("s", 1<<16))
	onWrite, wg := WriteGate(4096, 4096)
	onFlush, fg := FlushGate()
	f := NewFaultWriter(r, onWrite, onFlush)
	var all sync.WaitGroup
	all.Go(func() {
		if _, err := f.WriteAt([]byte{1}, 5000); err != nil {
			t.Error(err)
		}
	})
	all.Go(func() {
		if err := f.Flush(ctx); err != nil {
			t.Error(err)
		}
	})
	<-wg.Entered()
	<-fg.Entered()
	if _, err := f.WriteAt([]byte{1}, 0); err != nil { // elsewhere: passes
		t.Error(err)
	}
	if got := r.Log().Stats(); got.Writes != 1 || got.Flushes != 0 {
		t.Errorf("with closed gates, %+v came through, want one write", got)
	}
	wg.Open()
	fg.Open()
	all.Wait()
	if got := r.Log().Stats(); got.Writes != 2 || got.Flushes != 1 {
		t.Errorf("with open gates, %+v came through, want 2 writes and a flush", got)
	}
}
