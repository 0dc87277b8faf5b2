package blocktest

import (
	"bytes"
	"context"
	"io"
	"slices"
	"syscall"

	"github.com/gobcachefs/gobcachefs/block"
)

// WriteEIO fails writes that touch n bytes at off; the bytes before those are
// written.
func WriteEIO(off, n int64) Rule { return Rule{Off: off, N: n, on: onWrite, do: doEIO} }

// WriteShort ends writes at off with io.ErrShortWrite; the bytes before it are
// written.
func WriteShort(off, n int64) Rule { return Rule{Off: off, N: n, on: onWrite, do: doShort} }

// WriteLost forgets writes that touch the range, as a whole, and reports success.
func WriteLost(off, n int64) Rule { return Rule{Off: off, N: n, on: onWrite, do: doLose} }

// WriteMisdirected puts writes that touch the range by bytes further on (back, if
// negative), as a whole, and reports success. What would lie outside of the
// device is lost.
func WriteMisdirected(off, n, by int64) Rule {
	return Rule{Off: off, N: n, on: onWrite, do: doMisdirect, by: by}
}

// WriteFlip stores bytes of the range with the bits of mask flipped, and reports
// success.
func WriteFlip(off, n int64, mask byte) Rule {
	return Rule{Off: off, N: n, on: onWrite, do: doFlip, mask: mask}
}

// WriteGate holds writes that touch the range until the test lets them go.
func WriteGate(off, n int64) (Rule, *GateControl) { return gateOn(onWrite, off, n) }

// FlushEIO fails flushes, which then do nothing; Skip and Times say which.
func FlushEIO() Rule { return Rule{on: onFlush, do: doEIO} }

// FlushLost makes flushes do nothing, and report success.
func FlushLost() Rule { return Rule{on: onFlush, do: doLose} }

// FlushGate holds flushes until the test lets them go.
func FlushGate() (Rule, *GateControl) { return gateOn(onFlush, 0, 0) }

// DiscardEIO fails discards that touch the range.
func DiscardEIO(off, n int64) Rule { return Rule{Off: off, N: n, on: onDiscard, do: doEIO} }

func gateOn(on operation, off, n int64) (Rule, *GateControl) {
	r, g := Gate(off, n)
	r.on = on
	return r, g
}

// FaultWriter is a Fault above a device that can be written: its rules act on
// reads, writes, flushes and discards, and it counts all of them. Where several
// act on a write, the first that loses or misdirects it decides where it goes,
// and the one that ends it first how much of it.
type FaultWriter struct {
	*Fault
	w       block.Writer
	writes  []Read
	flushes int
}

var _ block.Writer = (*FaultWriter)(nil)

// NewFaultWriter makes a device that passes everything through until rules are
// added.
func NewFaultWriter(base block.Writer, rules ...Rule) *FaultWriter {
	return &FaultWriter{Fault: NewFault(base, rules...), w: base}
}

// Writes returns where all writes went, in the order they began.
func (f *FaultWriter) Writes() []Read {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.writes)
}

// Flushes is how many flushes there were.
func (f *FaultWriter) Flushes() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.flushes
}

// WriteAt implements block.Writer.
func (f *FaultWriter) WriteAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	f.writes = append(f.writes, Read{off, len(p)})
	act, err := f.begin(onWrite, off, int64(len(p)))
	f.mu.Unlock()
	if err != nil {
		return 0, err
	}
	pass(act)
	to, lost, moved := off, false, false
	n, end := len(p), error(nil)
	data := p
	for _, r := range act {
		from := int(max(0, r.Off-off))
		switch r.do {
		case doFlip:
			if &data[0] == &p[0] {
				data = bytes.Clone(p)
			}
			upto := int64(len(p))
			if r.N > 0 {
				upto = min(upto, r.Off+r.N-off)
			}
			for i := int64(from); i < upto; i++ {
				data[i] ^= r.mask
			}
		case doLose:
			lost = lost || !moved
		case doMisdirect:
			if !moved && !lost {
				to, moved = off+r.by, true
			}
		case doEIO:
			if from < n || end == nil {
				n, end = min(n, from), injected(f, off+int64(from), syscall.EIO)
			}
		case doShort:
			if from < n || end == nil {
				n, end = min(n, from), io.ErrShortWrite
			}
		}
	}
	data = data[:n]
	if moved {
		// What does not fit is lost.
		if to < 0 {
			data = data[min(int64(len(data)), -to):]
			to = 0
		}
		data = data[:max(0, min(int64(len(data)), f.Size()-to))]
		lost = len(data) == 0
	}
	if !lost && (len(data) > 0 || len(p) == 0) {
		if k, err := f.w.WriteAt(data, to); err != nil {
			return min(k, n), err
		}
	}
	return n, end
}

// Flush implements block.Writer.
func (f *FaultWriter) Flush(ctx context.Context) error {
	f.mu.Lock()
	f.flushes++
	act, err := f.begin(onFlush, -1, 0)
	f.mu.Unlock()
	if err != nil {
		return err
	}
	pass(act)
	for _, r := range act {
		switch r.do {
		case doEIO:
			return injected(f, -1, syscall.EIO)
		case doLose:
			return ctx.Err()
		}
	}
	return f.w.Flush(ctx)
}

// Discard implements block.Writer.
func (f *FaultWriter) Discard(ctx context.Context, off, n int64) error {
	f.mu.Lock()
	act, err := f.begin(onDiscard, off, n)
	f.mu.Unlock()
	if err != nil {
		return err
	}
	for _, r := range act {
		if r.do == doEIO {
			return injected(f, off, syscall.EIO)
		}
	}
	return f.w.Discard(ctx, off, n)
}
