package objects

import (
	"bytes"
	"context"
	"errors"
	"syscall"

	"github.com/gobcachefs/gobcachefs/internal/data"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Body is the data of a file to put into the volume. Offsets only grow, so a
// stream can be one.
type Body interface {
	// Next gives the first range [from, to) of data at or after off; ok is false
	// when there is none before the end of the file.
	Next(off int64) (from, to int64, ok bool, err error)
	// ReadAt fills p, all of it. What it asks for lies within the size of the
	// file; holes read as zeros.
	ReadAt(p []byte, off int64) error
}

// ZeroHoles wraps a body that does not tell its holes: blocks of zeros become
// some.
type ZeroHoles struct{ Body }

// piece is how much of a file is read and written at a time.
const piece = 1 << 20

// Put makes a regular file with all its data and attributes (Spec, Size too), or
// any other file when body is nil, as a name in a directory. The name appears
// when everything is there; with replace it takes the place of a file of that
// name, which must not be a directory. When Put fails, or the program ends before
// it returns, nothing is left of the file. The end of ctx ends it between pieces
// of data, without harm to the volume.
func (w *Writer) Put(stop context.Context, dir ID, name []byte, s Spec, body Body, replace bool) (id ID, seq uint64, err error) {
	if err := CheckName(name); err != nil {
		return ID{}, 0, err
	}
	ctx := context.WithoutCancel(stop)
	d, err := w.Inode(ctx, dir)
	if err != nil {
		return ID{}, 0, err
	}
	if !d.IsDir() {
		return ID{}, 0, syscall.ENOTDIR
	}
	if err := mayEnter(&d); err != nil {
		return ID{}, 0, err
	}
	if !replace {
		if _, err := w.Lookup(ctx, dir, &d, name); err == nil {
			return ID{}, 0, syscall.EEXIST // before all the work
		} else if !errors.Is(err, syscall.ENOENT) {
			return ID{}, 0, err
		}
	}
	if s.Mode&ondisk.ModeTypeMask == ondisk.ModeSymlink {
		s.Size = uint64(len(s.Target))
		if len(s.Target) > w.InlineMax() {
			body = Bytes(s.Target)
		}
	} else if s.Mode&ondisk.ModeTypeMask == ondisk.ModeDir {
		return ID{}, 0, syscall.EISDIR
	}
	// The options that the new inode will have.
	like := ondisk.Inode{Mode: s.Mode}
	inherit(&like, &d)
	p := &put{w: w, dir: dir, name: name, spec: s, replace: replace, opts: data.OptionsOf(w.WS.Current(), &like), x: w.NewExtents()}
	defer func() { p.x.Done() }()
	if body != nil {
		err = p.fill(ctx, stop, body)
	}
	if err == nil {
		seq, err = p.commit(ctx, true)
	}
	if err != nil {
		if p.inum != 0 {
			_, derr := w.DeleteInode(ctx, ID{dir.Subvol, p.inum})
			err = errors.Join(err, derr)
		}
		return ID{}, 0, err
	}
	if p.gone != 0 {
		_, err = w.DeleteInode(ctx, ID{dir.Subvol, p.gone})
	}
	return ID{dir.Subvol, p.inum}, seq, err
}

// put is a file on its way into the volume. Until it has its name it is an inode
// without one, which an unclean stop leaves to be deleted.
type put struct {
	w       *Writer
	dir     ID
	name    []byte
	spec    Spec
	replace bool
	opts    data.IOOptions
	x       *data.Extents // written, not committed
	inum    uint64        // 0 before the first commit
	gone    uint64        // the file that lost its last name
}

// fill reads the data, and writes it.
func (p *put) fill(ctx, stop context.Context, body Body) error {
	size, block := int64(p.spec.Size), int64(p.w.Bytes.Block())
	if size < 0 {
		return syscall.EFBIG
	}
	zeroHoles := false
	if z, ok := body.(ZeroHoles); ok {
		body, zeroHoles = z.Body, true
	}
	if size <= int64(p.w.InlineMax()) {
		_, _, some, err := body.Next(0)
		if err != nil || !some || size == 0 {
			return err
		}
		b := make([]byte, size)
		if err := body.ReadAt(b, 0); err != nil {
			return err
		}
		p.spec.Inline = b
		return nil
	}
	room := p.w.ImportRoom()
	buf := make([]byte, piece)
	end := int64(0) // of what was written
	for {
		from, to, ok, err := body.Next(end)
		if err != nil || !ok {
			return err
		}
		from, to = max(from/block*block, end), min((to+block-1)/block*block, (size+block-1)/block*block)
		for from < to {
			if err := stop.Err(); err != nil {
				return err
			}
			n := min(to-from, piece)
			b := buf[:n]
			have := min(n, size-from)
			clear(b[have:])
			if err := body.ReadAt(b[:have], from); err != nil {
				return err
			}
			if err := p.store(ctx, from, b, zeroHoles); err != nil {
				return err
			}
			from += n
			if 500*len(p.x.Keys) > room {
				if _, err := p.commit(ctx, false); err != nil {
					return err
				}
			}
		}
		end = to
	}
}

// store writes whole blocks, all of them or those that are not zero.
func (p *put) store(ctx context.Context, off int64, b []byte, zeroHoles bool) error {
	block := p.w.Bytes.Block()
	for len(b) > 0 {
		n := len(b)
		if zeroHoles {
			skip := 0
			for skip < len(b) && isZero(b[skip:skip+block]) {
				skip += block
			}
			if b, off = b[skip:], off+int64(skip); len(b) == 0 {
				return nil
			}
			for n = block; n < len(b) && !isZero(b[n:n+block]); {
				n += block
			}
		}
		y, err := p.w.Bytes.Write(ctx, p.w.point, p.opts, 0, uint64(off/512), b[:n])
		if err != nil {
			return err
		}
		p.x.Merge(y)
		b, off = b[n:], off+int64(n)
	}
	return nil
}

var zeroBlock [64 << 10]byte

func isZero(b []byte) bool {
	for len(b) > len(zeroBlock) {
		if !bytes.Equal(b[:len(zeroBlock)], zeroBlock[:]) {
			return false
		}
		b = b[len(zeroBlock):]
	}
	return bytes.Equal(b, zeroBlock[:len(b)])
}

// commit puts what was written into the volume; last gives the file its name.
func (p *put) commit(ctx context.Context, last bool) (uint64, error) {
	var inum, gone uint64
	seq, err := p.w.update(ctx, "put", p.dir.Subvol, func(o *op) error {
		inum, gone = p.inum, 0
		d, err := o.dir(p.dir.Inum)
		if err != nil {
			return err
		}
		var in ondisk.Inode
		if inum == 0 {
			if inum, err = o.newInum(); err != nil {
				return err
			}
			s := p.spec
			s.Data = p.x.Keys
			if in, err = o.newInode(inum, p.dir.Inum, &d, &s); err != nil {
				return err
			}
			in.SetLinks(0)
		} else {
			if in, err = o.inode(inum); err != nil {
				return err
			}
			in.Sectors += o.putExtents(inum, p.x.Keys)
		}
		if !last {
			return o.putInode(inum, &in)
		}
		if gone, err = o.install(p.dir.Inum, &d, p.name, inum, &in, p.replace); err != nil {
			return err
		}
		if err := o.putInode(inum, &in); err != nil {
			return err
		}
		d.Mtime, d.Ctime = o.now, o.now
		return o.putInode(p.dir.Inum, &d)
	})
	if err != nil {
		return 0, err
	}
	p.inum, p.gone = inum, gone
	p.x.Done()
	p.x.Keys = nil
	return seq, nil
}

// install gives an inode without a name its first one. gone is the file that it
// took the place of, if that has no name left. The caller stores both inodes.
func (o *op) install(dirNum uint64, dir *ondisk.Inode, name []byte, inum uint64, in *ondisk.Inode, replace bool) (gone uint64, err error) {
	d := ondisk.Dirent{Type: uint8(in.Mode >> 12), Inum: inum}
	key, _, err := o.fold(dir, name)
	if err != nil {
		return 0, err
	}
	kv, old, found, _, err := o.findDirent(dirNum, dir, key)
	if err != nil {
		return 0, err
	}
	in.SetLinks(1)
	if !found {
		if err := mayEnter(dir); err != nil {
			return 0, err
		}
		in.Dir = dirNum
		in.DirOffset, err = o.addDirent(dirNum, dir, name, d)
		return 0, err
	}
	if !replace {
		return 0, syscall.EEXIST
	}
	if old.Type == ondisk.DTSubvol || old.Type == ondisk.DTDir {
		return 0, syscall.EISDIR
	}
	was, err := o.inode(old.Inum)
	if err != nil {
		return 0, err
	}
	if err := mayLeave(dir, &was); err != nil {
		return 0, err
	}
	if err := o.drop(dir, dirNum, kv.Pos.Offset, old.Inum, &was); err != nil {
		return 0, err
	}
	if was.Unlinked() {
		gone = old.Inum
	}
	d.Name, d.Casefold, d.CfName = old.Name, old.Casefold, old.CfName
	in.Dir, in.DirOffset = dirNum, kv.Pos.Offset
	o.tx.Set(ondisk.BtreeDirents, ondisk.KV{Key: ondisk.Key{Pos: ondisk.Pos{Inode: dirNum, Offset: kv.Pos.Offset, Snapshot: o.v.ID}, Type: ondisk.KeyDirent}, Val: d.Append(nil)})
	return gone, nil
}

// Bytes is a Body in memory.
type Bytes []byte

// Next implements Body.
func (b Bytes) Next(off int64) (from, to int64, ok bool, err error) {
	return off, int64(len(b)), off < int64(len(b)), nil
}

// ReadAt implements Body.
func (b Bytes) ReadAt(p []byte, off int64) error {
	copy(p, b[off:])
	return nil
}
