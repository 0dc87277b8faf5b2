package objects

import (
	"context"

	"github.com/gobcachefs/gobcachefs/internal/data"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// NewFile is a file to be made by CreateMany.
type NewFile struct {
	Name []byte
	Spec Spec
	// Link, when set, makes a hard link to a file instead.
	Link uint64
	// Inum is filled in with the inode number.
	Inum    uint64
	Written *data.Extents
}

// CreateMany makes many files of one directory in one transaction.
func (w *Writer) CreateMany(ctx context.Context, dir ID, files []NewFile) (seq uint64, err error) {
	seq, err = w.update(ctx, "create", dir.Subvol, func(o *op) error {
		d, err := o.dir(dir.Inum)
		if err != nil {
			return err
		}
		for i := range files {
			f := &files[i]
			if f.Link != 0 {
				if err := o.link(dir.Inum, &d, f.Name, f.Link); err != nil {
					return err
				}
				f.Inum = f.Link
				continue
			}
			if f.Inum, _, err = o.create(dir.Inum, &d, f.Name, &f.Spec); err != nil {
				return err
			}
		}
		d.Mtime, d.Ctime = o.now, o.now
		return o.putInode(dir.Inum, &d)
	})
	for i := range files {
		if files[i].Written != nil {
			files[i].Written.Done()
		}
	}
	return seq, err
}

// link enters another name of a file; the caller stores the directory.
func (o *op) link(dirNum uint64, dir *ondisk.Inode, name []byte, inum uint64) error {
	if err := CheckName(name); err != nil {
		return err
	}
	in, err := o.inode(inum)
	if err != nil {
		return err
	}
	slot, err := o.addDirent(dirNum, dir, name, ondisk.Dirent{Type: uint8(in.Mode >> 12), Inum: inum})
	if err != nil {
		return err
	}
	in.SetLinks(in.Links() + 1)
	in.Ctime = o.now
	in.Dir, in.DirOffset = dirNum, slot
	return o.putInode(inum, &in)
}

// SetAttrs changes an inode in place.
func (w *Writer) SetAttrs(ctx context.Context, id ID, change func(in *ondisk.Inode) error) (uint64, error) {
	return w.update(ctx, "setattr", id.Subvol, func(o *op) error {
		in, err := o.inode(id.Inum)
		if err != nil {
			return err
		}
		if err := change(&in); err != nil {
			return err
		}
		return o.putInode(id.Inum, &in)
	})
}

// WriteNew stores the data of a file that does not exist yet. p is padded to
// whole blocks with zeros.
func (w *Writer) WriteNew(ctx context.Context, opts data.IOOptions, sector uint64, p []byte) (*data.Extents, error) {
	if n := len(p) % w.Bytes.Block(); n != 0 {
		p = append(p[:len(p):len(p)], make([]byte, w.Bytes.Block()-n)...)
	}
	return w.Bytes.Write(ctx, w.point, opts, 0, sector, p)
}

// Close gives back what the writer holds.
func (w *Writer) Close() { w.point.Close() }
