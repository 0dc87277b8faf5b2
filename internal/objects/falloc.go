package objects

import (
	"context"
	"syscall"

	"github.com/gobcachefs/gobcachefs/internal/btree"
	"github.com/gobcachefs/gobcachefs/internal/data"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Modes of Fallocate, as fallocate(2) has them.
const (
	FallocKeepSize = 0x01
	FallocPunch    = 0x02
	FallocCollapse = 0x08
	FallocZero     = 0x10
	FallocInsert   = 0x20
)

// Fallocate changes how a range of a file is backed (chapter 05 section 12.6).
func (w *Writer) Fallocate(ctx context.Context, id ID, mode int, off, n uint64) (seq uint64, err error) {
	block := uint64(w.Bytes.Block())
	in, err := w.Inode(ctx, id)
	switch {
	case err != nil:
		return 0, err
	case !in.IsRegular():
		return 0, syscall.ENODEV
	case n == 0 || off+n < off:
		return 0, syscall.EINVAL
	}
	switch mode {
	case 0, FallocKeepSize:
		return w.reserve(ctx, id, off/block*block, (off+n+block-1)/block*block, off+n, mode == 0, false)
	case FallocPunch | FallocKeepSize, FallocZero, FallocZero | FallocKeepSize:
		// The blocks at the ends are zeroed by writing, those inside are replaced.
		from, to := (off+block-1)/block*block, (off+n)/block*block
		zero := func(a, b uint64) error {
			b = min(b, in.Size)
			if a >= b {
				return nil
			}
			file, err := w.File(id, &in)
			if err != nil {
				return err
			}
			at, ok, err := w.Bytes.Next(ctx, file, a, false)
			if err == nil && ok && at < b {
				_, err = w.WriteAt(ctx, id, make([]byte, b-a), a)
			}
			return err
		}
		if from >= to {
			if err := zero(off, off+n); err != nil || mode != FallocZero || off+n <= in.Size {
				return 0, err
			}
			return w.SetAttrs(ctx, id, func(in *ondisk.Inode) error { in.Size = max(in.Size, off+n); return nil })
		}
		if err := zero(off, from); err != nil {
			return 0, err
		}
		if err := zero(to, off+n); err != nil {
			return 0, err
		}
		if mode&FallocZero != 0 {
			return w.reserve(ctx, id, from, to, off+n, mode&FallocKeepSize == 0, true)
		}
		for more := true; more; {
			seq, err = w.update(ctx, "punch", id.Subvol, func(o *op) error {
				in, err := o.inode(id.Inum)
				if err != nil {
					return err
				}
				if more, err = o.punchSome(id.Inum, &in, from/512, to/512); err != nil {
					return err
				}
				in.Mtime, in.Ctime = o.now, o.now
				return o.putInode(id.Inum, &in)
			})
			if err != nil {
				return 0, err
			}
		}
		return seq, nil
	case FallocInsert, FallocCollapse:
		if off%block != 0 || n%block != 0 {
			return 0, syscall.EINVAL
		}
		if err := w.feature(ctx, ondisk.FeatureReflink, ondisk.FeatureReflinkInlineData); err != nil {
			return 0, err
		}
		dst := off/512 + n/512
		pos := ^uint64(0)
		if mode == FallocCollapse {
			if off+n >= in.Size {
				return 0, syscall.EINVAL
			}
			dst, pos = off/512-n/512, off/512
		} else if off >= in.Size {
			return 0, syscall.EINVAL
		}
		var kv ondisk.KV
		_, err := w.update(ctx, "finsert", id.Subvol, func(o *op) error {
			nr, err := o.freeOp()
			if err != nil {
				return err
			}
			f := ondisk.LoggedOpFinsert{Subvol: id.Subvol, Inum: id.Inum, DstOffset: dst, SrcOffset: off / 512, Pos: pos}
			kv = ondisk.KV{Key: ondisk.Key{Pos: ondisk.Pos{Offset: nr}, Type: ondisk.KeyLoggedOpFinsert}, Val: f.Append(nil)}
			o.tx.Set(ondisk.BtreeLoggedOps, kv)
			return nil
		})
		if err != nil {
			return 0, err
		}
		return 0, w.resumeFinsert(ctx, kv, func(tx *btree.Tx) { tx.Delete(ondisk.BtreeLoggedOps, kv.Pos) })
	}
	return 0, syscall.EOPNOTSUPP
}

// reserve fills holes of a range (all of it with replace) with reservations.
func (w *Writer) reserve(ctx context.Context, id ID, from, to, size uint64, grow, replace bool) (seq uint64, err error) {
	at, end := from/512, to/512
	for {
		done := false
		next := at
		seq, err = w.update(ctx, "fallocate", id.Subvol, func(o *op) error {
			in, err := o.inode(id.Inum)
			if err != nil {
				return err
			}
			opts := data.OptionsOf(w.WS.Current(), &in)
			put := func(a, b uint64) error {
				for a < b {
					n := min(b-a, 1<<31)
					kv := ondisk.KV{Key: ondisk.Key{Pos: ondisk.Pos{Inode: id.Inum, Offset: a + n}, Size: uint32(n), Type: ondisk.KeyReservation}, Val: []byte{0, 0, 0, 0, byte(opts.Replicas), 0, 0, 0}}
					d, err := data.Insert(o.tx, o.v, w.Snapshots(), kv, w.set.ExtentTypes)
					if err != nil {
						return err
					}
					in.Sectors = uint64(int64(in.Sectors) + d)
					a += n
				}
				return nil
			}
			next, done = at, false
			var holes [][2]uint64
			v := o.tx.Visible(ondisk.BtreeExtents, o.v, ondisk.Pos{Inode: id.Inum, Offset: at}, ondisk.Pos{Inode: id.Inum, Offset: end})
			for n := 0; ; n++ {
				k, ok := v.Next()
				if err := v.Err(); err != nil {
					return err
				}
				if !ok {
					holes = append(holes, [2]uint64{next, end})
					next, done = end, true
					break
				}
				if s := k.Start().Offset; s > next {
					holes = append(holes, [2]uint64{next, s})
				}
				next = min(k.Pos.Offset, end)
				if n == o.w.maxTx() || next == end {
					done = next == end
					break
				}
			}
			if replace {
				holes = [][2]uint64{{at, next}}
			}
			for _, h := range holes {
				if err := put(h[0], h[1]); err != nil {
					return err
				}
			}
			if grow && done {
				in.Size = max(in.Size, size)
			}
			in.Mtime, in.Ctime = o.now, o.now
			return o.putInode(id.Inum, &in)
		})
		if err != nil || done {
			return seq, err
		}
		at = next
	}
}

// Reflink makes a range of a file share the data of another one (chapter 05
// section 13). Offsets and length are whole blocks; the length may end with the
// source.
func (w *Writer) Reflink(ctx context.Context, src ID, srcOff uint64, dst ID, dstOff, n uint64) (seq uint64, err error) {
	block := uint64(w.Bytes.Block())
	if src.Subvol != dst.Subvol {
		return 0, syscall.EXDEV
	}
	sin, err := w.Inode(ctx, src)
	if err != nil {
		return 0, err
	}
	if srcOff+n > sin.Size || srcOff%block != 0 || dstOff%block != 0 || n%block != 0 && srcOff+n != sin.Size {
		return 0, syscall.EINVAL
	}
	if src == dst && srcOff < dstOff+n && dstOff < srcOff+n {
		return 0, syscall.EINVAL
	}
	size := dstOff + n
	from, end := srcOff/512, (srcOff+n+block-1)/block*block/512
	shift := int64(dstOff/512) - int64(from)
	if err := w.feature(ctx, ondisk.FeatureReflink, ondisk.FeatureReflinkInlineData); err != nil {
		return 0, err
	}
	for at := from; at < end; {
		next := at
		seq, err = w.update(ctx, "reflink", src.Subvol, func(o *op) error {
			next = at
			din, err := o.inode(dst.Inum)
			if err != nil {
				return err
			}
			add := func(kv ondisk.KV) error {
				kv.Pos.Inode = dst.Inum
				kv.Pos.Offset = uint64(int64(kv.Pos.Offset) + shift)
				d, err := data.Insert(o.tx, o.v, w.Snapshots(), kv, w.set.ExtentTypes)
				din.Sectors = uint64(int64(din.Sectors) + d)
				return err
			}
			hole := func(a, b uint64) error {
				if a >= b {
					return nil
				}
				return add(ondisk.KV{Key: ondisk.Key{Pos: ondisk.Pos{Offset: b}, Size: uint32(b - a)}})
			}
			v := o.tx.Visible(ondisk.BtreeExtents, o.v, ondisk.Pos{Inode: src.Inum, Offset: at}, ondisk.Pos{Inode: src.Inum, Offset: end})
			k, ok := v.Next()
			if err := v.Err(); err != nil {
				return err
			}
			if !ok {
				next = end
				if err := hole(at, end); err != nil {
					return err
				}
			} else {
				if s := k.Start().Offset; s > at {
					if err := hole(at, min(s, end)); err != nil {
						return err
					}
				}
				next = min(k.Pos.Offset, end)
				if err := o.shareOne(k, max(at, k.Start().Offset), next, add, hole); err != nil {
					return err
				}
			}
			if next == end {
				din.Size = max(din.Size, size)
			}
			din.Mtime, din.Ctime = o.now, o.now
			if err := o.putInode(dst.Inum, &din); err != nil {
				return err
			}
			if src.Inum != dst.Inum {
				// Its extent keys change: every snapshot with content has the inode.
				in, err := o.inode(src.Inum)
				if err != nil {
					return err
				}
				return o.putInode(src.Inum, &in)
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
		at = next
	}
	return seq, nil
}

// shareOne makes [from, to) of a source key shared and gives the pointer for the
// destination to add.
func (o *op) shareOne(k ondisk.KV, from, to uint64, add func(ondisk.KV) error, hole func(a, b uint64) error) error {
	start := k.Start().Offset
	var idx uint64
	switch k.Type {
	case ondisk.KeyReflinkP:
		p, err := ondisk.DecodeReflinkP(k.Val)
		if err != nil {
			return err
		}
		idx = p.Idx
	case ondisk.KeyExtent, ondisk.KeyInlineData:
		if k.Type == ondisk.KeyExtent {
			e, err := ondisk.DecodeExtent(k.Val, k.Size, o.w.set.ExtentTypes)
			if err != nil {
				return err
			}
			for i := range e.Ptrs {
				if e.Ptrs[i].Unwritten {
					return hole(from, to)
				}
			}
		}
		p, err := o.indirect(k)
		if err != nil {
			return err
		}
		rp, err := ondisk.DecodeReflinkP(p.Val)
		if err != nil {
			return err
		}
		idx = rp.Idx
	default:
		return hole(from, to)
	}
	return add(ondisk.KV{Key: ondisk.Key{Pos: ondisk.Pos{Offset: to}, Size: uint32(to - from), Type: ondisk.KeyReflinkP}, Val: ondisk.ReflinkP{Idx: idx + from - start}.Append(nil)})
}

// indirect moves the data of an extent to the reflink btree and puts a pointer in
// its place, in whichever snapshot it is: all who see it see the same data.
func (o *op) indirect(k ondisk.KV) (ondisk.KV, error) {
	last, ok, err := o.tx.Prev(ondisk.BtreeReflink, ondisk.PosMin, ondisk.Pos{Offset: ^uint64(0) - 1})
	if err != nil {
		return k, err
	}
	var idx uint64
	if ok {
		idx = last.Pos.Offset
	}
	v := ondisk.KV{Key: ondisk.Key{Pos: ondisk.Pos{Offset: idx + uint64(k.Size)}, Size: k.Size, Version: k.Version, Type: ondisk.KeyReflinkV}, Val: ondisk.AppendReflinkV(nil, 0, k.Val)}
	if k.Type == ondisk.KeyInlineData {
		v.Type = ondisk.KeyIndirectInlineData
	}
	o.tx.Set(ondisk.BtreeReflink, v)
	k.Type, k.Val = ondisk.KeyReflinkP, ondisk.ReflinkP{Idx: idx}.Append(nil)
	o.tx.Set(ondisk.BtreeExtents, k)
	return k, nil
}

// feature makes sure that the superblock names features before their first use.
func (w *Writer) feature(ctx context.Context, fs ...ondisk.Feature) error {
	missing := false
	for _, f := range fs {
		missing = missing || !w.WS.Current().HasFeature(f)
	}
	if !missing {
		return nil
	}
	return w.WS.Update(ctx, func(sb *ondisk.Superblock) error {
		for _, f := range fs {
			sb.SetFeature(f, true)
		}
		return nil
	})
}
