package data

import (
	"context"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Range is a part of a file in bytes, [Start, End).
type Range struct{ Start, End uint64 }

// Next finds the next data (or, with hole set, the next hole) at or after off,
// as SEEK_DATA and SEEK_HOLE have it: reservations are holes, unwritten extents
// are not, the end of the file is a hole. ok is false when there is none before the
// end; for holes the end itself is the answer then.
func (r *Reader) Next(ctx context.Context, f File, off uint64, hole bool) (at uint64, ok bool, err error) {
	if off >= f.Size {
		return 0, false, nil
	}
	if !hole {
		rg, ok, err := r.nextData(ctx, f, off)
		return rg.Start, ok, err
	}
	// Walk adjacent data until it stops.
	for off < f.Size {
		rg, ok, err := r.nextData(ctx, f, off)
		if err != nil {
			return 0, false, err
		}
		if !ok || rg.Start > off {
			return off, true, nil
		}
		off = rg.End
	}
	return f.Size, true, nil
}

// nextData finds the first run of data that ends after off. The run may go on
// in a following call. Start is at least off.
func (r *Reader) nextData(ctx context.Context, f File, off uint64) (Range, bool, error) {
	var out Range
	err := r.Data(ctx, f, off, func(rg Range) bool { out = rg; return false })
	return out, out.End > 0, err
}

// Data calls yield with the ranges of data from off on, in order, adjacent keys
// merged, cut to the size of the file.
func (r *Reader) Data(ctx context.Context, f File, off uint64, yield func(Range) bool) error {
	first, end := off/512, (f.Size+511)/512
	w := r.trees.Visible(ctx, ondisk.BtreeExtents, f.View, ondisk.Pos{Inode: f.Inum, Offset: first}, ondisk.Pos{Inode: f.Inum, Offset: end})
	var cur Range
	emit := func() bool {
		rg := Range{max(cur.Start, off), min(cur.End, f.Size)}
		return rg.Start >= rg.End || yield(rg)
	}
	for {
		k, ok := w.Next()
		if !ok {
			break
		}
		if !isData(k) {
			continue
		}
		s, e := k.Start().Offset*512, k.Pos.Offset*512
		if s == cur.End && cur.End > 0 {
			cur.End = e
			continue
		}
		if cur.End > 0 && !emit() {
			return nil
		}
		cur = Range{s, e}
	}
	if s := w.Suspect(); s != nil && f.Suspect != nil {
		f.Suspect(s)
	}
	if cur.End > 0 {
		emit()
	}
	return w.Err()
}

// isData: the key owns stored sectors, written or not (the kernel counts
// unwritten extents as data), or lost ones.
func isData(k ondisk.KV) bool {
	switch k.Type {
	case ondisk.KeyExtent, ondisk.KeyInlineData, ondisk.KeyReflinkP, ondisk.KeyReflinkV, ondisk.KeyError, ondisk.KeyIndirectInlineData:
		return true
	}
	return false
}
