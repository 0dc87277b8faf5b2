package cli

import (
	"context"
	"runtime"
	"sync"

	"github.com/gobcachefs/gobcachefs"
)

// badRange is a part of a file that could not be read.
type badRange struct {
	off, n int64
	err    error
}

// addBad appends a range, or extends the last one.
func addBad(list []badRange, off, n int64, err error) []badRange {
	if n <= 0 {
		return list
	}
	if k := len(list); k > 0 && list[k-1].off+list[k-1].n == off {
		list[k-1].n += n
		return list
	}
	return append(list, badRange{off, n, err})
}

// readFull fills p with the bytes of a file from off on, which must be inside of
// it. What cannot be read is zeros, and in the list it returns.
func readFull(ctx context.Context, h *bcachefs.Handle, p []byte, off int64) (bad []badRange) {
	for len(p) > 0 {
		n, err := h.ReadAt(ctx, p, off)
		p, off = p[n:], off+int64(n)
		if err == nil || len(p) == 0 {
			break // short without an error: the file ends, and the rest are zeros
		}
		next := off + int64(len(p))
		if ctx.Err() == nil {
			next = min(next, h.SkipBad(ctx, off, err))
		}
		skip := next - off
		clear(p[:skip])
		bad = addBad(bad, off, skip, err)
		p, off = p[skip:], next
	}
	clear(p)
	return bad
}

// chunk is a part of a file's data, read in the background.
type chunk struct {
	segs  []segment // in order; their bytes follow each other in buf
	buf   []byte
	bad   []badRange
	ready chan struct{}
	pool  *chunkPool
	mem   *[]byte
}

// segment is a range of a file, in bytes.
type segment struct {
	off int64
	n   int
}

// wait waits until the chunk is there.
func (c *chunk) wait() { <-c.ready }

// free gives the memory of the chunk back.
func (c *chunk) free() {
	c.pool.bufs.Put(c.mem)
	c.buf, c.mem = nil, nil
	<-c.pool.tokens
}

// chunkPool bounds the memory of all chunks that are read at a time.
type chunkPool struct {
	tokens chan struct{}
	bufs   sync.Pool
}

// chunkSize is the most one chunk holds: enough for devices to be fast, and for
// one request to hold several of the largest extents.
const chunkSize = 1 << 20

func newChunkPool() *chunkPool {
	p := &chunkPool{tokens: make(chan struct{}, max(6, 3*runtime.GOMAXPROCS(0)))}
	p.bufs.New = func() any { b := make([]byte, chunkSize); return &b }
	return p
}

// feed reads ranges of a file in the background and hands out the chunks in
// order, each as soon as it is begun: wait before using it, and free it after.
// It blocks while too many chunks are not yet freed, so whoever frees them must
// be another goroutine. It ends early, with false, when ctx ends or emit returns
// false.
func (p *chunkPool) feed(ctx context.Context, h *bcachefs.Handle, ranges []bcachefs.DataRange, emit func(*chunk) bool) bool {
	var at uint64 // within ranges[0], 0 for its start
	for len(ranges) > 0 {
		select {
		case p.tokens <- struct{}{}:
		case <-ctx.Done():
			return false
		}
		c := &chunk{ready: make(chan struct{}), pool: p}
		n := 0
		for len(ranges) > 0 && n < chunkSize {
			start, last := max(at, ranges[0].Start), ranges[0].End
			end := min(last, start+uint64(chunkSize-n))
			// End at a multiple of the chunk's size, which extents rarely cross.
			if aligned := end &^ (chunkSize - 1); end < last && aligned > start {
				end = aligned
			}
			c.segs = append(c.segs, segment{int64(start), int(end - start)})
			n += int(end - start)
			if end < last {
				at = end
				break
			}
			ranges = ranges[1:]
		}
		c.mem = p.bufs.Get().(*[]byte)
		c.buf = (*c.mem)[:n]
		go func() {
			defer close(c.ready)
			b := c.buf
			for _, s := range c.segs {
				c.bad = append(c.bad, readFull(ctx, h, b[:s.n], s.off)...)
				b = b[s.n:]
			}
		}()
		if !emit(c) {
			c.wait()
			c.free()
			return false
		}
	}
	return true
}

// each calls f with the chunks of ranges of a file in order, while it reads the
// next ones. The chunk is freed when f returns. The error is f's or ctx's.
func (p *chunkPool) each(ctx context.Context, h *bcachefs.Handle, ranges []bcachefs.DataRange, f func(*chunk) error) error {
	ctx, cancel := context.WithCancel(ctx)
	ch := make(chan *chunk, cap(p.tokens))
	go func() {
		defer close(ch)
		p.feed(ctx, h, ranges, func(c *chunk) bool { ch <- c; return true })
	}()
	var err error
	for c := range ch {
		c.wait()
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			if err = f(c); err != nil {
				cancel()
			}
		}
		c.free()
	}
	if err == nil {
		err = ctx.Err()
	}
	cancel()
	return err
}
