package objects

import (
	"context"
	"syscall"

	"github.com/gobcachefs/gobcachefs/internal/data"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// maxTx bounds the keys that one transaction replaces or removes, so that it
// fits a journal entry.
func (w *Writer) maxTx() int { return max(4, min(w.Store.Journal().MaxBody()/1500, 64)) }

// WriteAt writes p into a file at a byte offset; the file grows as needed. It
// becomes visible piece by piece, each atomically. Concurrent writers of one
// block must be kept apart by the caller.
func (w *Writer) WriteAt(ctx context.Context, id ID, p []byte, off uint64) (seq uint64, err error) {
	block := uint64(w.Bytes.Block())
	const step = 1 << 20
	for len(p) > 0 {
		n := min(uint64(len(p)), step-off%block)
		if seq, err = w.writePiece(ctx, id, p[:n], off); err != nil {
			return seq, err
		}
		p, off = p[n:], off+n
	}
	return seq, nil
}

func (w *Writer) writePiece(ctx context.Context, id ID, p []byte, off uint64) (uint64, error) {
	block := uint64(w.Bytes.Block())
	in, err := w.Inode(ctx, id)
	if err != nil {
		return 0, err
	}
	if in.IsDir() {
		return 0, syscall.EISDIR
	}
	if in.Flags&ondisk.InodeImmutable != 0 || in.Flags&ondisk.InodeAppend != 0 && off < in.Size {
		return 0, syscall.EPERM
	}
	end := off + uint64(len(p))
	if off == 0 && end >= in.Size && len(p) <= w.InlineMax() {
		return w.update(ctx, "write", id.Subvol, func(o *op) error {
			in, err := o.inode(id.Inum)
			if err != nil {
				return err
			}
			if err := o.punch(id.Inum, &in, 0, ^uint64(0)>>9); err != nil {
				return err
			}
			in.Sectors += o.inline(id.Inum, p)
			in.Size = max(in.Size, end)
			in.Mtime, in.Ctime = o.now, o.now
			return o.putInode(id.Inum, &in)
		})
	}
	// Whole blocks are written: the rest of the first and the last is read.
	from, to := off/block*block, (end+block-1)/block*block
	buf := make([]byte, to-from)
	file, err := w.File(id, &in)
	if err != nil {
		return 0, err
	}
	fill := func(at uint64) error {
		_, err := w.Bytes.ReadAt(ctx, file, buf[at-from:at-from+block], int64(at))
		return err
	}
	if off > from {
		if err := fill(from); err != nil {
			return 0, err
		}
	}
	if end < to && end < in.Size && (to-block > from || off == from) {
		if err := fill(to - block); err != nil {
			return 0, err
		}
	}
	copy(buf[off-from:], p)
	x, err := w.Bytes.Write(ctx, w.point, data.OptionsOf(w.WS.Current(), &in), id.Inum, from/512, buf)
	if err != nil {
		return 0, err
	}
	defer x.Done()
	return w.update(ctx, "write", id.Subvol, func(o *op) error {
		in, err := o.inode(id.Inum)
		if err != nil {
			return err
		}
		for _, kv := range x.Keys {
			n, err := data.Insert(o.tx, o.v, w.Snapshots(), kv, w.set.ExtentTypes)
			if err != nil {
				return err
			}
			in.Sectors = uint64(int64(in.Sectors) + n)
		}
		in.Size = max(in.Size, end)
		in.Mtime, in.Ctime = o.now, o.now
		return o.putInode(id.Inum, &in)
	})
}

// punch removes what covers sectors [from, to); the caller stores the inode.
func (o *op) punch(inum uint64, in *ondisk.Inode, from, to uint64) error {
	for from < to {
		w := o.tx.Visible(ondisk.BtreeExtents, o.v, ondisk.Pos{Inode: inum, Offset: from}, ondisk.Pos{Inode: inum, Offset: to})
		k, ok := w.Next()
		if err := w.Err(); err != nil || !ok {
			return err
		}
		start, end := max(k.Start().Offset, from), min(k.Pos.Offset, to)
		n, err := data.Insert(o.tx, o.v, o.w.Snapshots(), ondisk.KV{Key: ondisk.Key{Pos: ondisk.Pos{Inode: inum, Offset: end}, Size: uint32(end - start)}}, o.w.set.ExtentTypes)
		if err != nil {
			return err
		}
		in.Sectors = uint64(int64(in.Sectors) + n)
		from = end
	}
	return nil
}

// punchSome removes what covers sectors [from, to) of a file, at most maxTx
// extents in a transaction, and says whether there is more.
func (o *op) punchSome(inum uint64, in *ondisk.Inode, from, to uint64) (more bool, err error) {
	w := o.tx.Visible(ondisk.BtreeExtents, o.v, ondisk.Pos{Inode: inum, Offset: from}, ondisk.Pos{Inode: inum, Offset: to})
	end := from
	for n := 0; ; n++ {
		k, ok := w.Next()
		if err := w.Err(); err != nil {
			return false, err
		}
		if !ok {
			end = to
			break
		}
		if n == o.w.maxTx() {
			more = true
			break
		}
		end = min(k.Pos.Offset, to)
	}
	return more, o.punch(inum, in, from, end)
}

// Truncate sets the size of a file. Growing makes a hole. Shrinking is a logged
// operation: a crash in the middle is finished at the next opening (chapter 04
// section 9).
func (w *Writer) Truncate(ctx context.Context, id ID, size uint64) (uint64, error) {
	block := uint64(w.Bytes.Block())
	in, err := w.Inode(ctx, id)
	if err != nil {
		return 0, err
	}
	if !in.IsRegular() {
		return 0, syscall.EINVAL
	}
	if err := mayChange(&in); err != nil {
		return 0, err
	}
	if size < in.Size && size%block != 0 {
		// The rest of the last block must read as zeros when the file grows again.
		from, to := size, min((size+block-1)/block*block, in.Size)
		file, err := w.File(id, &in)
		if err != nil {
			return 0, err
		}
		if at, ok, err := w.Bytes.Next(ctx, file, from, false); err != nil {
			return 0, err
		} else if ok && at < to {
			if _, err := w.WriteAt(ctx, id, make([]byte, to-from), from); err != nil {
				return 0, err
			}
		}
	}
	set := func(o *op) (ondisk.Inode, error) {
		in, err := o.inode(id.Inum)
		in.Size = size
		in.Mtime, in.Ctime = o.now, o.now
		return in, err
	}
	if size >= in.Size {
		return w.update(ctx, "truncate", id.Subvol, func(o *op) error {
			in, err := set(o)
			if err != nil {
				return err
			}
			return o.putInode(id.Inum, &in)
		})
	}
	logged := uint64(0)
	first := (size + block - 1) / block * block / 512
	for more := true; more; {
		seq, err := w.update(ctx, "truncate", id.Subvol, func(o *op) error {
			in, err := set(o)
			if err != nil {
				return err
			}
			if more, err = o.punchSome(id.Inum, &in, first, ^uint64(0)>>9); err != nil {
				return err
			}
			if err := o.putInode(id.Inum, &in); err != nil {
				return err
			}
			switch {
			case more && logged == 0:
				// Not finished in one transaction: leave a note.
				n, err := o.freeOp()
				if err != nil {
					return err
				}
				v := ondisk.LoggedOpTruncate{Subvol: id.Subvol, Inum: id.Inum, NewSize: size}.Append(nil)
				o.tx.Set(ondisk.BtreeLoggedOps, ondisk.KV{Key: ondisk.Key{Pos: ondisk.Pos{Offset: n}, Type: ondisk.KeyLoggedOpTruncate}, Val: v})
				o.tx.OnCommit(func(uint64) { logged = n })
			case !more && logged != 0:
				o.tx.Delete(ondisk.BtreeLoggedOps, ondisk.Pos{Offset: logged})
			}
			return nil
		})
		if err != nil || !more {
			return seq, err
		}
	}
	return 0, nil
}

// freeOp finds a number for a logged operation.
func (o *op) freeOp() (uint64, error) {
	last, ok, err := o.tx.Prev(ondisk.BtreeLoggedOps, ondisk.Pos{Offset: 1}, ondisk.Pos{Offset: ^uint64(0) - 1})
	if err != nil || !ok {
		return 1, err
	}
	return last.Pos.Offset + 1, nil
}

// DeleteInode removes a file that has no name any more: data, attributes, then
// the inode (chapter 04 section 8). It may take several transactions; the entry
// in deleted_inodes makes a later opening finish it.
func (w *Writer) DeleteInode(ctx context.Context, id ID) (seq uint64, err error) {
	for more := true; more; {
		seq, err = w.update(ctx, "delete inode", id.Subvol, func(o *op) error {
			in, err := o.inode(id.Inum)
			if err != nil {
				if err == syscall.ENOENT {
					more = false
					return nil
				}
				return err
			}
			if !in.Unlinked() {
				more = false
				return syscall.EBUSY
			}
			if more, err = o.empty(id.Inum, &in); err != nil {
				return err
			}
			if more {
				return o.putInode(id.Inum, &in)
			}
			return o.removeInode(id.Inum, &in)
		})
		if err != nil {
			return seq, err
		}
	}
	return seq, nil
}

// empty removes some of what belongs to an inode.
func (o *op) empty(inum uint64, in *ondisk.Inode) (more bool, err error) {
	if !in.IsDir() {
		if more, err = o.punchSome(inum, in, 0, ^uint64(0)>>9); err != nil || more {
			return more, err
		}
	}
	for _, b := range []ondisk.BtreeID{ondisk.BtreeDirents, ondisk.BtreeXattrs} {
		w := o.tx.Visible(b, o.v, ondisk.Pos{Inode: inum}, ondisk.Pos{Inode: inum, Offset: ^uint64(0)})
		var slots []uint64
		for len(slots) <= o.w.maxTx() {
			k, ok := w.Next()
			if err := w.Err(); err != nil {
				return false, err
			}
			if !ok {
				break
			}
			slots = append(slots, k.Pos.Offset)
		}
		for i, s := range slots {
			if i == o.w.maxTx() {
				return true, nil
			}
			if err := data.DeleteKey(o.tx, b, o.v, inum, s); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

// removeInode removes the inode key. Below format 1.18 a key with the next
// generation takes its place; where an ancestor's version would show, a whiteout.
func (o *op) removeInode(inum uint64, in *ondisk.Inode) error {
	p := ondisk.Pos{Offset: inum, Snapshot: o.v.ID}
	anc, shows, err := o.ancestor(p)
	if err != nil {
		return err
	}
	switch {
	case shows:
		o.tx.Set(ondisk.BtreeInodes, ondisk.KV{Key: ondisk.Key{Pos: p, Type: ondisk.KeyWhiteout}})
		return o.unflagAncestor(anc)
	case o.w.set.SB.Version < ondisk.Version1_0+18:
		o.tx.Set(ondisk.BtreeInodes, ondisk.KV{Key: ondisk.Key{Pos: p, Type: ondisk.KeyInodeGeneration}, Val: ondisk.AppendInodeGeneration(nil, in.Generation+1)})
	default:
		o.tx.Delete(ondisk.BtreeInodes, p)
	}
	return nil
}

// unflagAncestor clears has_child_snapshot of a version that has no newer ones
// left; a version that was only kept for them goes, too.
func (o *op) unflagAncestor(k ondisk.KV) error {
	for at := (ondisk.Pos{Offset: k.Pos.Offset}); ; {
		c, ok, err := o.tx.Next(ondisk.BtreeInodes, at, k.Pos.Predecessor())
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if isInodeKey(c.Type) && c.Pos.Snapshot != o.v.ID && o.w.Snapshots().Descends(c.Pos.Snapshot, k.Pos.Snapshot) {
			return nil
		}
		at = c.Pos.Successor()
	}
	in, err := ondisk.DecodeInode(k)
	if err != nil || in.Flags&ondisk.InodeHasChildSnapshot == 0 {
		return err
	}
	in.Flags &^= ondisk.InodeHasChildSnapshot
	k.Type, k.Val = ondisk.KeyInodeV3, in.Append(nil)
	o.tx.Set(ondisk.BtreeInodes, k)
	return nil
}
