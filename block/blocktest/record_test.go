package blocktest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
)

func TestRecorderSuite(t *testing.T) {
	want := Pattern(200_123)
	t.Run("Plain", func(t *testing.T) {
		WriterSuite(t, func() block.Writer { return NewRecorder(block.NewMemory("m", want)) }, want)
	})
	t.Run("Fault", func(t *testing.T) {
		WriterSuite(t, func() block.Writer { return NewFaultWriter(NewRecorder(block.NewMemory("m", want))) }, want)
	})
	// A device that holds want by way of a log.
	below := bytes.Clone(want)
	patches := [][2]int{{0, 10}, {4096, 8192}, {100_000, 100_001}, {110_000, 130_000}, {200_000, 200_123}}
	for _, p := range patches {
		for i := p[0]; i < p[1]; i++ {
			below[i] ^= 0xff
		}
	}
	changed := func() *Recorder {
		r := NewRecorder(block.NewMemory("m", below))
		for i, p := range patches {
			if n, err := r.WriteAt(want[p[0]:p[1]], int64(p[0])); n != p[1]-p[0] || err != nil {
				t.Fatalf("WriteAt = %d, %v, want %d, nil", n, err, p[1]-p[0])
			}
			if i == 2 {
				r.Flush(context.Background())
			}
		}
		return r
	}
	t.Run("Changed", func(t *testing.T) {
		WriterSuite(t, func() block.Writer { return changed() }, want)
	})
	t.Run("Reset", func(t *testing.T) {
		WriterSuite(t, func() block.Writer {
			r := changed()
			r.Log().Reset()
			return r
		}, want)
	})
	t.Run("Final", func(t *testing.T) {
		WriterSuite(t, func() block.Writer { return changed().Log().Final().Devices()[0] }, want)
	})
	t.Run("View", func(t *testing.T) {
		Suite(t, func() block.Reader { return changed().Log().Final().Readers()[0] }, want)
	})
}

func TestRecorderLog(t *testing.T) {
	ctx := context.Background()
	base := block.NewMemory("m", Pattern(100_000))
	rs := NewRecorders(base, block.NewMemory("n", make([]byte, 8192)))
	l := rs[0].Log()
	a, b := Pattern(9000), []byte{1, 2, 3}
	for _, err := range []error{
		write(rs[0], a, 1000), write(rs[1], b, 4095), rs[1].Flush(ctx), rs[0].Discard(ctx, 0, 512), write(rs[0], nil, 5),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	rs[1].Mark("here")
	var got []string
	for _, o := range l.Ops() {
		got = append(got, o.String())
	}
	want := []string{
		"write of 9000 bytes at 1000 of device 0",
		"write of 3 bytes at 4095 of device 1",
		"flush of device 1",
		"discard of 512 bytes at 0 of device 0",
		`mark "here"`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Ops (-want +got):\n%s", d)
	}
	if got := l.Ops()[0].Data(); !bytes.Equal(got, a) {
		t.Errorf("Ops()[0].Data() is not what was written")
	}
	if got := l.Ops()[1].Data(); !bytes.Equal(got, b) {
		t.Errorf("Ops()[1].Data() = %v, want %v", got, b)
	}
	if got, want := l.Stats(), (Stats{Writes: 2, Flushes: 1, Discards: 1, Bytes: 9003}); got != want {
		t.Errorf("Stats() = %+v, want %+v", got, want)
	}
	// Closed devices stay closed, but can be opened again.
	if err := rs[1].Close(); err != nil {
		t.Fatal(err)
	}
	got3 := make([]byte, 3)
	if _, err := l.OpenAll()[1].ReadAt(got3, 4095); err != nil || !bytes.Equal(got3, b) {
		t.Errorf("ReadAt of a device opened again = %v, %v, want %v, nil", got3, err, b)
	}
	if _, err := base.ReadAt(make([]byte, 1), 0); err != nil {
		t.Errorf("ReadAt of the base after Close = %v, want nil", err)
	}
	// States of before a Reset stay.
	before := l.Final()
	l.Reset()
	if n := len(l.Ops()); n != 0 {
		t.Errorf("%d ops after Reset, want 0", n)
	}
	if err := write(rs[0], []byte("new"), 1000); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 9000)
	if _, err := before.Readers()[0].ReadAt(p, 1000); err != nil || !bytes.Equal(p, a) {
		t.Errorf("a state of before Reset has changed (%v)", err)
	}
	first := l.State(StateOptions{}, 0)
	if _, err := first.Readers()[0].ReadAt(p, 1000); err != nil || !bytes.Equal(p, a) {
		t.Errorf("the first state after Reset has not what was there before (%v)", err)
	}
	if r := l.Final().Readers()[0]; readString(t, r, 1000, 3) != "new" {
		t.Errorf("Final has %q, want the last write", readString(t, r, 1000, 3))
	}
}

func TestRecorderBaseFails(t *testing.T) {
	base := NewFault(block.NewMemory("m", Pattern(50_000)), EIO(8192, 512))
	r := NewRecorder(base)
	if n, err := r.WriteAt(make([]byte, 5000), 4096); n != 0 || !errors.Is(err, errs.ErrIO) {
		t.Errorf("WriteAt to part of an unreadable page = %d, %v, want 0, ErrIO", n, err)
	}
	if n := len(r.Log().Ops()); n != 0 {
		t.Errorf("%d ops after a failed write, want 0", n)
	}
	if n, err := r.ReadAt(make([]byte, 9000), 0); n != 8192 || !errors.Is(err, errs.ErrIO) {
		t.Errorf("ReadAt of an unreadable sector = %d, %v, want 8192, ErrIO", n, err)
	}
	if err := write(r, make([]byte, 4096), 8192); err != nil {
		t.Errorf("WriteAt of a whole page = %v, want nil", err)
	}
}

// TestRecorderSharesPages: a log of equal pages takes the memory of one.
func TestRecorderSharesPages(t *testing.T) {
	r := NewRecorder(block.NewSparse("s", 1<<20))
	p := bytes.Repeat([]byte{1}, 8192)
	for off := int64(0); off < 1<<20; off += 8192 {
		if err := write(r, p, off); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.log.same); n != 1 {
		t.Errorf("%d pages kept, want 1", n)
	}
	for _, o := range r.log.gen.ops {
		if &o.chunks[0][0] != &o.chunks[1][0] {
			t.Fatalf("%v keeps equal pages twice", o)
		}
	}
}

func write(w block.Writer, p []byte, off int64) error {
	n, err := w.WriteAt(p, off)
	if err == nil && n != len(p) {
		err = fmt.Errorf("WriteAt wrote %d of %d bytes", n, len(p))
	}
	return err
}

func readString(t *testing.T, r block.Reader, off int64, n int) string {
	t.Helper()
	b := make([]byte, n)
	if _, err := r.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	return string(b)
}
