package mkfs

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gobcachefs/gobcachefs/internal/data"
	"github.com/gobcachefs/gobcachefs/internal/engine"
	"github.com/gobcachefs/gobcachefs/internal/objects"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Source copies a directory of the host into the root of a new volume.
type Source struct {
	Dir  string
	Warn func(error)
	// Progress is told of files and bytes done.
	Progress func(files, bytes int64)

	w     *objects.Writer
	opts  data.IOOptions
	links map[hostID]uint64
	files int64
	bytes int64
}

type hostID struct{ dev, ino uint64 }

// hostFile is what the host says of a file.
type hostFile struct {
	spec  objects.Spec
	size  int64
	id    hostID
	nlink uint64
}

// Copy copies everything.
func (s *Source) Copy(ctx context.Context, rw *engine.RW) error {
	s.w = rw.Writer()
	defer s.w.Close()
	s.opts = data.OptionsOf(rw.WS.Current(), nil)
	s.links = map[hostID]uint64{}
	if s.Warn == nil {
		s.Warn = func(error) {}
	}
	h, err := hostStat(s.Dir)
	if err != nil {
		return err
	}
	if err := s.dir(ctx, s.Dir, objects.Root); err != nil {
		return err
	}
	return s.stamp(ctx, objects.Root, &h.spec)
}

// stamp sets what creating files in a directory changed.
func (s *Source) stamp(ctx context.Context, id objects.ID, spec *objects.Spec) error {
	_, err := s.w.SetAttrs(ctx, id, func(in *ondisk.Inode) error {
		in.Mode, in.UID, in.GID = spec.Mode, spec.UID, spec.GID
		t := func(x time.Time) int64 { return s.w.Stored(x) }
		in.Atime, in.Mtime, in.Ctime = t(spec.Atime), t(spec.Mtime), t(spec.Ctime)
		return nil
	})
	return err
}

const batch = 64

func (s *Source) dir(ctx context.Context, path string, id objects.ID) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	names, err := f.Readdirnames(-1)
	_ = f.Close()
	if err != nil {
		return err
	}
	slices.Sort(names)
	type sub struct {
		path string
		spec objects.Spec
		at   int
	}
	var todo []objects.NewFile
	var subs []sub
	var pending []hostID
	var dirs []struct {
		path string
		id   objects.ID
		spec objects.Spec
	}
	flush := func() error {
		if len(todo) == 0 {
			return nil
		}
		if _, err := s.w.CreateMany(ctx, id, todo); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for i := range todo {
			if pending[i] != (hostID{}) {
				s.links[pending[i]] = todo[i].Inum
			}
		}
		for _, x := range subs {
			dirs = append(dirs, struct {
				path string
				id   objects.ID
				spec objects.Spec
			}{x.path, objects.ID{Subvol: id.Subvol, Inum: todo[x.at].Inum}, x.spec})
		}
		todo, subs, pending = todo[:0], subs[:0], pending[:0]
		return nil
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if id == objects.Root && name == "lost+found" {
			continue
		}
		p := filepath.Join(path, name)
		h, err := hostStat(p)
		if err != nil {
			return err
		}
		nf := objects.NewFile{Name: []byte(name), Spec: h.spec}
		var link hostID
		if h.nlink > 1 && h.spec.Mode&ondisk.ModeTypeMask == ondisk.ModeRegular {
			if _, ok := s.links[h.id]; !ok && slices.Contains(pending, h.id) {
				if err := flush(); err != nil {
					return err
				}
			}
			if n, ok := s.links[h.id]; ok {
				nf.Link = n
			} else {
				link = h.id
			}
		}
		if nf.Link == 0 && h.spec.Mode&ondisk.ModeTypeMask == ondisk.ModeRegular {
			if err := s.data(ctx, p, &h, &nf); err != nil {
				return fmt.Errorf("%s: %w", p, err)
			}
		}
		if h.spec.Mode&ondisk.ModeTypeMask == ondisk.ModeDir {
			subs = append(subs, sub{p, h.spec, len(todo)})
		}
		todo = append(todo, nf)
		pending = append(pending, link)
		if s.files++; s.Progress != nil {
			s.Progress(s.files, s.bytes)
		}
		if len(todo) >= batch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	for _, d := range dirs {
		if err := s.dir(ctx, d.path, d.id); err != nil {
			return err
		}
		if err := s.stamp(ctx, d.id, &d.spec); err != nil {
			return err
		}
	}
	return nil
}

// data reads a file's data and writes it to the volume.
func (s *Source) data(ctx context.Context, path string, h *hostFile, nf *objects.NewFile) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if h.size <= int64(s.w.InlineMax()) {
		b, err := io.ReadAll(io.LimitReader(f, h.size))
		nf.Spec.Inline, nf.Spec.Size = b, uint64(len(b))
		s.bytes += int64(len(b))
		return err
	}
	nf.Spec.Size = uint64(h.size)
	buf := make([]byte, 1<<20)
	for off := int64(0); off < h.size; {
		start, err := seekData(f, off)
		if err != nil {
			return err
		}
		block := int64(s.w.Bytes.Block())
		start = start / block * block
		if start >= h.size {
			break
		}
		n, err := f.ReadAt(buf[:min(int64(len(buf)), h.size-start)], start)
		if err != nil && err != io.EOF {
			return err
		}
		if n == 0 {
			break
		}
		x, err := s.w.WriteNew(ctx, s.opts, uint64(start/512), buf[:n])
		if err != nil {
			return err
		}
		nf.Spec.Data = append(nf.Spec.Data, x.Keys...)
		if nf.Written == nil {
			nf.Written = x
		} else {
			nf.Written.Merge(x)
		}
		s.bytes += int64(n)
		off = start + int64(n)
	}
	return nil
}
