package objects

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/gobcachefs/gobcachefs/internal/btree"
	"github.com/gobcachefs/gobcachefs/internal/data"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Recover finishes what an unclean stop left half done: logged operations,
// subvolumes and snapshots on their way out, and files without a name (chapter
// 04 sections 8, 9 and 13).
func (w *Writer) Recover(ctx context.Context) error {
	if err := w.resumeOps(ctx); err != nil {
		return fmt.Errorf("resume_logged_ops: %w", err)
	}
	t := w.Snapshots()
	for _, id := range t.Subvolumes() {
		s, _ := t.Subvolume(id)
		if s.LiveState() == ondisk.SubvolStateLive {
			continue
		}
		_, err := w.Store.Update(ctx, "subvolume delete", func(tx *btree.Tx) error {
			return w.dropSubvolume(&op{w: w, tx: tx, now: w.Now()}, id, s)
		})
		if err != nil {
			return fmt.Errorf("subvolume %d: %w", id, err)
		}
	}
	if err := w.reload(ctx); err != nil {
		return err
	}
	if _, err := w.DeleteDeadSnapshots(ctx); err != nil {
		return fmt.Errorf("delete_dead_snapshots: %w", err)
	}
	if err := w.deleteDeadInodes(ctx); err != nil {
		return fmt.Errorf("delete_dead_inodes: %w", err)
	}
	return nil
}

// resumeOps finishes the logged operations.
func (w *Writer) resumeOps(ctx context.Context) error {
	var ops []ondisk.KV
	c := w.trees.Cursor(ctx, ondisk.BtreeLoggedOps, ondisk.PosMin, ondisk.Pos{Offset: ^uint64(0), Snapshot: ^uint32(0)})
	for {
		k, ok := c.Next()
		if !ok {
			break
		}
		ops = append(ops, k)
	}
	if err := c.Err(); err != nil {
		return err
	}
	for _, k := range ops {
		drop := func(tx *btree.Tx) { tx.Delete(ondisk.BtreeLoggedOps, k.Pos) }
		var err error
		switch k.Type {
		case ondisk.KeyLoggedOpTruncate:
			err = w.resumeTruncate(ctx, k, drop)
		case ondisk.KeyLoggedOpFinsert:
			err = w.resumeFinsert(ctx, k, drop)
		default:
			_, err = w.Store.Update(ctx, "logged op", func(tx *btree.Tx) error { drop(tx); return nil })
		}
		if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.EROFS) {
			// Its file or subvolume is gone.
			_, err = w.Store.Update(ctx, "logged op", func(tx *btree.Tx) error { drop(tx); return nil })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) resumeTruncate(ctx context.Context, k ondisk.KV, drop func(*btree.Tx)) error {
	t, err := ondisk.DecodeLoggedOpTruncate(k.Val)
	if err != nil {
		return err
	}
	block := uint64(w.Bytes.Block())
	from := (t.NewSize + block - 1) / block * block / 512
	for more := true; more; {
		_, err := w.update(ctx, "truncate", t.Subvol, func(o *op) error {
			in, err := o.inode(t.Inum)
			if err != nil {
				return err
			}
			in.Size = t.NewSize
			if more, err = o.punchSome(t.Inum, &in, from, ^uint64(0)>>9); err != nil {
				return err
			}
			if !more {
				drop(o.tx)
			}
			return o.putInode(t.Inum, &in)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// resumeFinsert finishes an insert or collapse of a range (chapter 05 section
// 12.6). Offsets are sectors.
func (w *Writer) resumeFinsert(ctx context.Context, k ondisk.KV, drop func(*btree.Tx)) error {
	f, err := ondisk.DecodeLoggedOpFinsert(k.Val)
	if err != nil {
		return err
	}
	shift := int64(f.DstOffset - f.SrcOffset)
	insert := shift > 0
	store := func(o *op) {
		o.tx.Set(ondisk.BtreeLoggedOps, ondisk.KV{Key: k.Key, Val: f.Append(nil)})
	}
	for {
		before := f
		done := false
		_, err := w.update(ctx, "finsert", f.Subvol, func(o *op) error {
			f, done = before, false
			in, err := o.inode(f.Inum)
			if err != nil {
				return err
			}
			switch f.State {
			case 0:
				if insert {
					in.Size += uint64(shift) * 512
				} else if err := o.punch(f.Inum, &in, f.SrcOffset, f.SrcOffset+uint64(-shift)); err != nil {
					return err
				}
				f.State = 1
				store(o)
			case 1:
				more, err := o.shiftOne(&f.Pos, f.Inum, &in, f.SrcOffset, shift)
				if err != nil {
					return err
				}
				if !more {
					f.State = 2
				}
				store(o)
			default:
				if !insert {
					in.Size -= uint64(-shift) * 512
				}
				in.Mtime, in.Ctime = o.now, o.now
				drop(o.tx)
				done = true
			}
			return o.putInode(f.Inum, &in)
		})
		if err != nil || done {
			return err
		}
	}
}

// shiftOne moves the next extent of an insert or collapse and remembers where it
// was.
func (o *op) shiftOne(pos *uint64, inum uint64, in *ondisk.Inode, src uint64, shift int64) (more bool, err error) {
	var kv ondisk.KV
	found := false
	if shift > 0 {
		// Highest first, below pos.
		w := o.tx.Visible(ondisk.BtreeExtents, o.v, ondisk.Pos{Inode: inum, Offset: src}, ondisk.Pos{Inode: inum, Offset: ^uint64(0) >> 9})
		for {
			k, ok := w.Next()
			if err := w.Err(); err != nil {
				return false, err
			}
			if !ok || k.Pos.Offset > *pos {
				break
			}
			kv, found = k, true
		}
	} else {
		w := o.tx.Visible(ondisk.BtreeExtents, o.v, ondisk.Pos{Inode: inum, Offset: max(*pos, src)}, ondisk.Pos{Inode: inum, Offset: ^uint64(0) >> 9})
		kv, found = w.Next()
		if err := w.Err(); err != nil {
			return false, err
		}
	}
	if !found {
		return false, nil
	}
	if kv.Type == ondisk.KeyExtent && kv.Pos.Snapshot != o.v.ID {
		// Other snapshots keep it where it is: the moved copy must share it.
		if kv, err = o.indirect(kv); err != nil {
			return false, err
		}
	}
	if s := kv.Start().Offset; s < src {
		if kv, err = data.CutFront(kv, uint32(src-s), o.w.set.ExtentTypes); err != nil {
			return false, err
		}
	}
	start, end := kv.Start().Offset, kv.Pos.Offset
	hole := ondisk.KV{Key: ondisk.Key{Pos: ondisk.Pos{Inode: inum, Offset: end}, Size: kv.Size}}
	n, err := data.Insert(o.tx, o.v, o.w.Snapshots(), hole, o.w.set.ExtentTypes)
	if err != nil {
		return false, err
	}
	kv.Pos.Offset = uint64(int64(kv.Pos.Offset) + shift)
	m, err := data.Insert(o.tx, o.v, o.w.Snapshots(), kv, o.w.set.ExtentTypes)
	if err != nil {
		return false, err
	}
	in.Sectors = uint64(int64(in.Sectors) + n + m)
	if *pos = start; shift < 0 {
		*pos = end
	}
	return true, nil
}

// deleteDeadInodes deletes the files that have no name, and forgets those that
// are listed for no reason.
func (w *Writer) deleteDeadInodes(ctx context.Context) error {
	for from := ondisk.PosMin; ; {
		c := w.trees.Cursor(ctx, ondisk.BtreeDeletedInodes, from, ondisk.SPosMax)
		k, ok := c.Next()
		if !ok {
			return c.Err()
		}
		from = k.Pos.Successor()
		v, err := w.Snapshots().SnapshotView(k.Pos.Snapshot)
		if err != nil {
			w.set.Warn(err)
			continue
		}
		for more := true; more; {
			_, err = w.Store.Update(ctx, "delete dead inode", func(tx *btree.Tx) error {
				o := &op{w: w, tx: tx, v: v, now: w.Now()}
				kv, ok, err := tx.Get(ondisk.BtreeInodes, k.Pos)
				if err != nil {
					return err
				}
				more = false
				if !ok || !isInodeKey(kv.Type) {
					tx.Delete(ondisk.BtreeDeletedInodes, k.Pos)
					return nil
				}
				in, err := ondisk.DecodeInode(kv)
				if err != nil {
					return err
				}
				empty := true
				if in.IsDir() {
					if empty, err = o.isEmpty(k.Pos.Offset); err != nil {
						return err
					}
				}
				if !in.Unlinked() || !empty || in.Subvol != 0 || in.Flags&ondisk.InodeHasChildSnapshot != 0 {
					tx.Delete(ondisk.BtreeDeletedInodes, k.Pos)
					return nil
				}
				if more, err = o.empty(k.Pos.Offset, &in); err != nil {
					return err
				}
				if more {
					return o.putInode(k.Pos.Offset, &in)
				}
				return o.removeInode(k.Pos.Offset, &in)
			})
			if err != nil {
				return err
			}
		}
	}
}
