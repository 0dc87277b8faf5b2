package objects

import (
	"context"
	"syscall"

	"github.com/gobcachefs/gobcachefs/internal/data"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Imported is a file that an import made or knows: a place for its number, which
// steps share before it is known.
type Imported struct{ Inum uint64 }

// StepKind says what a step of an import does.
type StepKind uint8

// Kinds of steps.
const (
	StepCreate StepKind = iota // make File with Spec as Name in Dir
	StepLink                   // enter Name in Dir for File
	StepExtend                 // add Spec.Data and Spec.Xattrs to File
	StepSet                    // give File the mode, owner, times and Xattrs of Spec
)

// Step is one thing that an import does.
type Step struct {
	Kind StepKind
	Dir  *Imported
	Name []byte
	File *Imported
	Spec Spec
	// Written is closed when the step is in.
	Written *data.Extents
}

// Bytes estimates what a step adds to the journal, at least that much.
func (s *Step) Bytes() int {
	n := 500 + len(s.Name) + len(s.Spec.Inline) + len(s.Spec.Target) + 450*len(s.Spec.Data)
	for _, x := range s.Spec.Xattrs {
		n += 200 + len(x.Name) + len(x.Value)
	}
	return n
}

// ImportRoom is how much of Step.Bytes one Import may hold; a single step may be
// larger as long as the journal takes it.
func (w *Writer) ImportRoom() int { return min(w.Store.Journal().MaxBody()/2, 256<<10) }

// StepError says which step of an Import failed.
type StepError struct {
	Step int
	Err  error
}

func (e *StepError) Error() string { return e.Err.Error() }

func (e *StepError) Unwrap() error { return e.Err }

// Import does many steps in one transaction, in order. What they create gets the
// times of its Spec; unlike other operations it leaves the times of directories
// alone, which are the importer's to set.
func (w *Writer) Import(ctx context.Context, subvol uint32, steps []Step) (seq uint64, err error) {
	hint, runs := w.hint.Load(), 0
	seq, err = w.update(ctx, "import", subvol, func(o *op) error {
		if runs++; runs > 1 {
			w.hint.Store(hint) // the same numbers again
		}
		dirs := map[uint64]*ondisk.Inode{}
		for i := range steps {
			if err := o.step(dirs, &steps[i]); err != nil {
				return &StepError{i, err}
			}
		}
		for inum, d := range dirs {
			if err := o.putInode(inum, d); err != nil {
				return err
			}
		}
		return nil
	})
	for i := range steps {
		if steps[i].Written != nil {
			steps[i].Written.Done()
		}
	}
	return seq, err
}

// step does one of them. dirs are the directories that were entered, not yet
// stored.
func (o *op) step(dirs map[uint64]*ondisk.Inode, s *Step) error {
	parent := func() (*ondisk.Inode, error) {
		if d := dirs[s.Dir.Inum]; d != nil {
			return d, nil
		}
		in, err := o.dir(s.Dir.Inum)
		if err != nil {
			return nil, err
		}
		dirs[s.Dir.Inum] = &in
		return &in, nil
	}
	file := func() (*ondisk.Inode, error) {
		if d := dirs[s.File.Inum]; d != nil {
			return d, nil
		}
		in, err := o.inode(s.File.Inum)
		return &in, err
	}
	switch s.Kind {
	case StepCreate:
		d, err := parent()
		if err != nil {
			return err
		}
		s.File.Inum, _, err = o.create(s.Dir.Inum, d, s.Name, &s.Spec)
		return err
	case StepLink:
		d, err := parent()
		if err != nil {
			return err
		}
		in, err := o.inode(s.File.Inum)
		if err != nil {
			return err
		}
		slot, err := o.addDirent(s.Dir.Inum, d, s.Name, ondisk.Dirent{Type: uint8(in.Mode >> 12), Inum: s.File.Inum})
		if err != nil {
			return err
		}
		in.SetLinks(in.Links() + 1)
		in.Dir, in.DirOffset = s.Dir.Inum, slot
		return o.putInode(s.File.Inum, &in)
	}
	in, err := file()
	if err != nil {
		return err
	}
	switch s.Kind {
	case StepExtend:
		in.Sectors += o.putExtents(s.File.Inum, s.Spec.Data)
	case StepSet:
		in.Mode = in.Mode&ondisk.ModeTypeMask | s.Spec.Mode&^ondisk.ModeTypeMask
		in.UID, in.GID = s.Spec.UID, s.Spec.GID
		in.Atime, in.Mtime, in.Ctime = o.w.Stored(s.Spec.Atime), o.w.Stored(s.Spec.Mtime), o.w.Stored(s.Spec.Ctime)
	default:
		return syscall.EINVAL
	}
	for _, x := range s.Spec.Xattrs {
		if err := o.setXattr(s.File.Inum, in, x.Name, x.Value, 0); err != nil {
			return err
		}
	}
	return o.putInode(s.File.Inum, in)
}

// putExtents enters extents where there is nothing yet and says how many sectors
// they have.
func (o *op) putExtents(inum uint64, kvs []ondisk.KV) (sectors uint64) {
	for _, kv := range kvs {
		kv.Pos.Inode, kv.Pos.Snapshot = inum, o.v.ID
		sectors += uint64(kv.Size)
		o.tx.Set(ondisk.BtreeExtents, kv)
	}
	return sectors
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

// NewExtents collects data that is written through the writer's own point.
func (w *Writer) NewExtents() *data.Extents { return data.NewExtents(w.point) }

// Close gives back what the writer holds.
func (w *Writer) Close() { w.point.Close() }
