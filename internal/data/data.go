// Package data turns extents into bytes: it finds the keys that cover a range of
// a file, chooses a copy, reads, verifies, decrypts, decompresses, and falls
// back to other copies and to parity. Chapter 05.
//
// Everything it returns was verified against its checksum where there is one.
// No lock is held over I/O; big buffers come from a pool.
package data

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/alloc"
	"github.com/gobcachefs/gobcachefs/internal/btree"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Reader reads file data. Safe for concurrent use.
type Reader struct {
	set     *members.Set
	trees   *btree.Trees
	gens    *alloc.Gens
	maxBlob int // bytes, the largest decoded blob the format allows
	retries int
	blobs   blobCache
	bufs    pool
}

// New makes a reader.
func New(set *members.Set, trees *btree.Trees, gens *alloc.Gens) *Reader {
	r := &Reader{set: set, trees: trees, gens: gens, maxBlob: 8192 * 512, retries: 3}
	if o, ok := ondisk.FindOption("checksum_err_retry_nr"); ok {
		r.retries = int(o.Effective(set.SB))
	}
	return r
}

// File names what to read: an inode in the view of a snapshot. Size in bytes
// bounds reads.
type File struct {
	View *btree.View
	Inum uint64
	Size uint64
	// Suspect is called when a key that was needed comes from a node whose
	// checksum did not match; it may be nil.
	Suspect func(error)
}

// segment is a part of a read that comes from one key.
type segment struct {
	dst  []byte // where it goes
	kind segKind
	off  uint64 // byte offset of dst[0] from the start of the key's data
	kv   ondisk.KV
	// extents:
	ext    ondisk.Extent
	inline []byte
	err    error
}

type segKind uint8

const (
	segZero segKind = iota
	segInline
	segExtent
	segError
)

// ReadAt fills p with the file's bytes from off on, as far as the file goes, and
// returns how many it filled; less than len(p) only at the end of the file or
// with an error. Bytes before the first that could not be read are valid.
func (r *Reader) ReadAt(ctx context.Context, f File, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUsage, Reason: "negative offset"}
	}
	if uint64(off) >= f.Size {
		return 0, nil
	}
	if left := f.Size - uint64(off); uint64(len(p)) > left {
		p = p[:left]
	}
	if len(p) == 0 {
		return 0, nil
	}
	var segArr [8]segment
	segs, err := r.segments(ctx, f, p, uint64(off), segArr[:0])
	if err != nil {
		// What cannot be mapped is an error for its own range only.
		n := 0
		for _, s := range segs {
			n += len(s.dst)
		}
		if n == 0 {
			return 0, err
		}
		m, err2 := r.run(ctx, f, segs)
		return m, errors.Join(err2, err)
	}
	return r.run(ctx, f, segs)
}

// run executes the segments, many at once when that pays.
func (r *Reader) run(ctx context.Context, f File, segs []segment) (int, error) {
	groups := r.group(segs)
	if len(groups) == 1 || runtime.GOMAXPROCS(0) == 1 {
		n := 0
		for _, g := range groups {
			m, err := r.group1(ctx, f, g)
			n += m
			if err != nil {
				return n, err
			}
		}
		return n, nil
	}
	type result struct {
		n   int
		err error
	}
	res := make([]result, len(groups))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0) + 2)
	for i := range groups {
		g.Go(func() error {
			res[i].n, res[i].err = r.group1(ctx, f, groups[i])
			return nil
		})
	}
	_ = g.Wait()
	n := 0
	for _, x := range res {
		n += x.n
		if x.err != nil {
			return n, x.err
		}
	}
	return n, nil
}

// group1 executes one group of segments and says how many bytes are valid.
func (r *Reader) group1(ctx context.Context, f File, segs []segment) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if len(segs) > 1 && r.readRun(f, segs) {
		n := 0
		for i := range segs {
			n += len(segs[i].dst)
		}
		return n, nil
	}
	n := 0
	for i := range segs {
		s := &segs[i]
		switch s.kind {
		case segZero:
			clear(s.dst)
		case segInline:
			m := 0
			if s.off < uint64(len(s.inline)) {
				m = copy(s.dst, s.inline[s.off:])
			}
			clear(s.dst[m:])
		case segError:
			return n, s.err
		case segExtent:
			if err := r.readExtent(ctx, f, s); err != nil {
				return n, err
			}
		}
		n += len(s.dst)
	}
	return n, nil
}

// segments maps [off, off+len(p)) to keys.
func (r *Reader) segments(ctx context.Context, f File, p []byte, off uint64, segs []segment) ([]segment, error) {
	first, end := off/512, (off+uint64(len(p))+511)/512
	at := off // next byte to map
	take := func(to uint64, s segment) {
		to = min(to, off+uint64(len(p)))
		if to <= at {
			return
		}
		s.dst = p[at-off : to-off]
		if n := len(segs); s.kind == segZero && n > 0 && segs[n-1].kind == segZero {
			segs[n-1].dst = p[at-off-uint64(len(segs[n-1].dst)) : to-off]
		} else {
			segs = append(segs, s)
		}
		at = to
	}
	w := r.trees.Visible(ctx, ondisk.BtreeExtents, f.View, ondisk.Pos{Inode: f.Inum, Offset: first}, ondisk.Pos{Inode: f.Inum, Offset: end})
	for at < off+uint64(len(p)) {
		k, ok := w.Next()
		if s := w.Suspect(); s != nil && f.Suspect != nil {
			f.Suspect(s)
		}
		if !ok {
			if err := w.Err(); err != nil {
				return segs, err
			}
			take(end*512, segment{kind: segZero})
			break
		}
		start := k.Start().Offset * 512
		if start > at {
			take(start, segment{kind: segZero})
		}
		if at >= k.Pos.Offset*512 {
			continue
		}
		if k.Type == ondisk.KeyReflinkP {
			if err := r.reflink(ctx, f, k, at, min(k.Pos.Offset*512, off+uint64(len(p))), take); err != nil {
				return segs, err
			}
			continue
		}
		s := r.segment(k, k.Val)
		s.off = at - start
		take(k.Pos.Offset*512, s)
	}
	return segs, nil
}

// segment makes the segment of a key with direct data; val is its value without
// a reference count.
func (r *Reader) segment(k ondisk.KV, val []byte) segment {
	s := segment{kv: k}
	fail := func(err error) segment {
		s.kind, s.err = segError, errs.At(err, keyPlace(ondisk.BtreeExtents, k.Pos))
		return s
	}
	switch k.Type {
	case ondisk.KeyReservation, ondisk.KeyCookie, ondisk.KeyDeleted, ondisk.KeyWhiteout, ondisk.KeyExtentWhiteout:
		s.kind = segZero
	case ondisk.KeyError:
		return fail(&errs.Error{Where: errs.Nowhere, Kind: errs.ErrIO, Reason: "data lost (key type error)"})
	case ondisk.KeyInlineData, ondisk.KeyIndirectInlineData:
		s.kind, s.inline = segInline, val
	case ondisk.KeyExtent, ondisk.KeyReflinkV:
		e, err := ondisk.DecodeExtent(val, k.Size, r.set.ExtentTypes)
		if err != nil {
			return fail(err)
		}
		if e.Poisoned {
			return fail(&errs.Error{Where: errs.Nowhere, Kind: errs.ErrIO, Reason: "extent is poisoned (its data was damaged when it was moved)"})
		}
		s.kind, s.ext = segExtent, e
		dirty := false
		for i := range e.Ptrs {
			if e.Ptrs[i].Unwritten {
				s.kind = segZero
			}
			dirty = dirty || !e.Ptrs[i].Cached
		}
		if !dirty && s.kind == segExtent && !r.anyUsable(e) {
			s.kind = segZero // only caches, all of them gone: a hole
		}
	default:
		return fail(errs.Corruptf("bkey_invalid_type_for_btree", "%v", k.Type))
	}
	return s
}

// reflink maps [at, to) of a reflink_p key through the reflink btree.
func (r *Reader) reflink(ctx context.Context, f File, k ondisk.KV, at, to uint64, take func(uint64, segment)) error {
	rp, err := ondisk.DecodeReflinkP(k.Val)
	if err != nil {
		return errs.At(err, keyPlace(ondisk.BtreeExtents, k.Pos))
	}
	start := k.Start().Offset * 512
	for at < to {
		idx := rp.Idx + (at-start)/512
		c := r.trees.Cursor(ctx, ondisk.BtreeReflink, ondisk.Pos{Offset: idx + 1}, ondisk.Pos{Offset: ^uint64(0), Snapshot: ^uint32(0)})
		v, ok := c.Next()
		if err := c.Err(); err != nil {
			return err
		}
		if s := c.Suspect(); s != nil && f.Suspect != nil {
			f.Suspect(s)
		}
		if !ok || v.Start().Offset > idx || v.Type != ondisk.KeyReflinkV && v.Type != ondisk.KeyIndirectInlineData && v.Type != ondisk.KeyError {
			e := keyPlace(ondisk.BtreeExtents, k.Pos)
			return &errs.Error{Where: e, Kind: errs.ErrCorrupt, Reason: "reflink_p_to_missing_reflink_v", Want: fmt.Sprintf("an extent at %d in the reflink btree", idx), Got: "none", Cause: errs.ErrIO}
		}
		val := v.Val
		if v.Type != ondisk.KeyError {
			if _, val, err = ondisk.DecodeReflinkV(v.Val); err != nil {
				return errs.At(err, keyPlace(ondisk.BtreeReflink, v.Pos))
			}
		}
		s := r.segment(v, val)
		s.off = (idx-v.Start().Offset)*512 + (at-start)%512
		next := min(to, at-(at-start)%512+(v.Pos.Offset-idx)*512)
		take(next, s)
		at = next
	}
	return nil
}

func keyPlace(b ondisk.BtreeID, p ondisk.Pos) errs.Where {
	w := errs.Nowhere
	w.Btree, w.HasPos, w.Inode, w.Offset, w.Snapshot = int(b), true, p.Inode, p.Offset, p.Snapshot
	return w
}

// pool hands out buffers by power-of-two size class.
type pool struct{ classes [24]sync.Pool }

func (p *pool) get(n int) *[]byte {
	c := 0
	for 512<<c < n {
		c++
	}
	if b, ok := p.classes[c].Get().(*[]byte); ok {
		*b = (*b)[:n]
		return b
	}
	b := make([]byte, n, 512<<c)
	return &b
}

func (p *pool) put(b *[]byte) {
	c := 0
	for 512<<c < cap(*b) {
		c++
	}
	if 512<<c == cap(*b) {
		p.classes[c].Put(b)
	}
}
