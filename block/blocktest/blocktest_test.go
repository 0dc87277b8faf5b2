package blocktest

import (
	"bytes"
	"errors"
	"io"
	"syscall"
	"testing"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
)

func TestFaultPassesSuite(t *testing.T) {
	want := Pattern(200_001)
	Suite(t, func() block.Reader { return NewFault(block.NewMemory("m", want)) }, want)
}

func TestRules(t *testing.T) {
	data := bytes.Repeat([]byte{0x11}, 4096)
	type result struct {
		n   int
		err error
		at  map[int]byte // bytes that differ from data
	}
	for _, tt := range []struct {
		name  string
		rules []Rule
		off   int64
		n     int
		want  result
	}{
		{"untouched", []Rule{EIO(1024, 512)}, 0, 1024, result{1024, nil, nil}},
		{"untouched behind", []Rule{EIO(1024, 512)}, 1536, 512, result{512, nil, nil}},
		{"eio", []Rule{EIO(1024, 512)}, 0, 4096, result{1024, syscall.EIO, nil}},
		{"eio inside", []Rule{EIO(1024, 512)}, 1100, 4, result{0, syscall.EIO, nil}},
		{"first of two eio", []Rule{EIO(2048, 512), EIO(1024, 512)}, 0, 4096, result{1024, syscall.EIO, nil}},
		{"short", []Rule{Short(1024, 0)}, 0, 4096, result{1024, io.ErrUnexpectedEOF, nil}},
		{"flip", []Rule{Flip(10, 1, 0x80)}, 9, 3, result{3, nil, map[int]byte{1: 0x91}}},
		{"zero", []Rule{Zero(10, 2)}, 9, 4, result{4, nil, map[int]byte{1: 0, 2: 0}}},
		{"zero to the end", []Rule{Zero(4094, 0)}, 4092, 4, result{4, nil, map[int]byte{2: 0, 3: 0}}},
		{"flip of zero", []Rule{Zero(10, 2), Flip(11, 1, 1)}, 9, 4, result{4, nil, map[int]byte{1: 0, 2: 1}}},
	} {
		f := NewFault(block.NewMemory("m", data), tt.rules...)
		buf := make([]byte, tt.n)
		n, err := f.ReadAt(buf, tt.off)
		if n != tt.want.n || !errors.Is(err, tt.want.err) {
			t.Errorf("%s: ReadAt = %d, %v, want %d, %v", tt.name, n, err, tt.want.n, tt.want.err)
			continue
		}
		want := bytes.Repeat([]byte{0x11}, n)
		for i, b := range tt.want.at {
			want[i] = b
		}
		if !bytes.Equal(buf[:n], want) {
			t.Errorf("%s: ReadAt gave %x, want %x", tt.name, buf[:n], want)
		}
		if !bytes.Equal(buf[n:], make([]byte, tt.n-n)) {
			t.Errorf("%s: ReadAt left bytes behind what it delivered", tt.name)
		}
	}
}

func TestRuleKindAndPlace(t *testing.T) {
	f := NewFault(block.NewMemory("m", make([]byte, 4096)), EIO(1024, 512))
	_, err := f.ReadAt(make([]byte, 4096), 0)
	var e *errs.Error
	if !errors.As(err, &e) || !errors.Is(err, errs.ErrIO) || e.Sector != 2 {
		t.Errorf("ReadAt = %v, want ErrIO at sector 2", err)
	}
}

func TestSkipTimes(t *testing.T) {
	r := EIO(0, 512)
	r.Skip, r.Times = 1, 2
	f := NewFault(block.NewMemory("m", make([]byte, 4096)), r)
	var got []bool
	for range 5 {
		_, err := f.ReadAt(make([]byte, 8), 100)
		got = append(got, err != nil)
		f.ReadAt(make([]byte, 8), 2048) // does not count
	}
	want := []bool{false, true, true, false, false}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("reads failed %v, want %v", got, want)
		}
	}
	f.Clear()
	if f.Reads() != 10 || f.Bytes() != 80 || f.ReadsOf(0, 512) != 5 || f.ReadsOf(108, 1940) != 0 {
		t.Errorf("Reads, Bytes, ReadsOf = %d, %d, %d, %d, want 10, 80, 5, 0", f.Reads(), f.Bytes(), f.ReadsOf(0, 512), f.ReadsOf(108, 1940))
	}
	if l := f.Log(); l[1] != (Read{2048, 8}) {
		t.Errorf("Log()[1] = %v, want {2048 8}", l[1])
	}
	f.ResetCounts()
	if f.Reads() != 0 || f.Bytes() != 0 {
		t.Errorf("counts are not reset")
	}
}

func TestGate(t *testing.T) {
	rule, g := Gate(512, 512)
	f := NewFault(block.NewMemory("m", make([]byte, 4096)), rule)
	done := make(chan error)
	go func() {
		_, err := f.ReadAt(make([]byte, 8), 600)
		done <- err
	}()
	<-g.Entered()
	if _, err := f.ReadAt(make([]byte, 8), 0); err != nil { // elsewhere: passes
		t.Errorf("ReadAt beside the gate = %v, want nil", err)
	}
	select {
	case err := <-done:
		t.Errorf("ReadAt passed a closed gate: %v", err)
	default:
	}
	g.Open()
	if err := <-done; err != nil {
		t.Errorf("ReadAt = %v, want nil", err)
	}
}
