package objects

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"syscall"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/btree"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// inodeOptionSince is the version from which on inodes have an option (chapter 04
// section 1.4): older ones drop the field.
func inodeOptionSince(id int) ondisk.Version {
	switch id {
	case ondisk.InodeOptInodes32bit:
		return ondisk.Version1_0 + 18
	case ondisk.InodeOptCasefold:
		return ondisk.Version1_0 + 24
	}
	return 0
}

// inodeOption finds the option that an attribute name stands for. virtual says
// that it stands for one, or pretends to; nil without an error means that nothing
// is to be done.
func inodeOption(sb *ondisk.Superblock, name string) (opt *ondisk.Option, virtual bool, err error) {
	if strings.HasPrefix(name, effectivePrefix) {
		return nil, true, nil
	}
	name, virtual = strings.CutPrefix(name, optPrefix)
	if !virtual {
		return nil, false, nil
	}
	opt, ok := ondisk.FindOption(name)
	if !ok || opt.InodeID() < 0 || opt.Name != name {
		return nil, true, &errs.Error{Where: errs.Nowhere, Kind: syscall.EINVAL, Reason: "unknown option " + name}
	}
	return opt, true, inodeOptionAt(sb, opt)
}

// inodeOptionAt refuses an option that inodes of the volume do not have, or that
// is not written here.
func inodeOptionAt(sb *ondisk.Superblock, opt *ondisk.Option) error {
	if since := inodeOptionSince(opt.InodeID()); sb.Version < since {
		return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUnsupported, Reason: fmt.Sprintf("%s needs version %v, volume is %v", opt.Name, since, sb.Version)}
	} else if since != 0 {
		return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUnsupported, Reason: opt.Name + " cannot be set here"}
	}
	return nil
}

// Target finds a target by the path of a member or by label.
func (w *Writer) Target(name string) (uint16, error) {
	for i, d := range w.set.Devs {
		if d.Online() && d.R.Info().Name == name {
			return ondisk.DevTarget(i), nil
		}
	}
	return w.WS.Current().ParseTarget(name)
}

// setOption sets an option of an inode, or with set false goes back to what its
// directory says (chapter 04 section 1.6). Children of a directory keep theirs.
func (w *Writer) setOption(ctx context.Context, id ID, opt *ondisk.Option, v uint64, set bool) (uint64, error) {
	if set {
		if err := opt.Check(v, w.WS.Current().Version); err != nil {
			return 0, err
		}
		if err := w.enableFeature(ctx, opt, v); err != nil {
			return 0, err
		}
	}
	return w.update(ctx, "set option", id.Subvol, func(o *op) error {
		in, err := o.inode(id.Inum)
		if err != nil {
			return err
		}
		if err := mayChange(&in); err != nil {
			return err
		}
		n, bit := opt.InodeID(), uint16(1)<<opt.InodeID()
		old := in
		if set {
			in.SetOpt(n, v+1)
			in.FieldsSet |= bit
		} else {
			var up uint64
			if in.Dir != 0 && in.Subvol == 0 {
				d, err := o.inode(in.Dir)
				if err != nil {
					return err
				}
				up = d.Opt(n)
			} else if in.ParentSubvol != 0 {
				d, err := w.Inode(ctx, ID{in.ParentSubvol, in.Dir})
				if err != nil {
					return err
				}
				up = d.Opt(n)
			}
			in.SetOpt(n, up)
			in.FieldsSet &^= bit
		}
		in.Ctime = o.now
		if err := o.rescan(id.Inum, &old, &in); err != nil {
			return err
		}
		return o.putInode(id.Inum, &in)
	})
}

// Reinherit gives a file the options of a directory, as far as they were not set
// on it, and reports whether any changed.
func (w *Writer) Reinherit(ctx context.Context, id, dir ID) (changed bool, seq uint64, err error) {
	seq, err = w.update(ctx, "reinherit", id.Subvol, func(o *op) error {
		changed = false
		d, err := w.Inode(ctx, dir)
		if dir.Subvol == id.Subvol {
			d, err = o.inode(dir.Inum)
		}
		if err != nil {
			return err
		}
		in, err := o.inode(id.Inum)
		if err != nil {
			return err
		}
		old := in
		if changed = reinherit(&in, &d); !changed {
			return nil
		}
		if err := o.rescan(id.Inum, &old, &in); err != nil {
			return err
		}
		return o.putInode(id.Inum, &in)
	})
	return changed, seq, err
}

// rescan asks background work to look at the data of a file again if options that
// matter to it changed.
func (o *op) rescan(inum uint64, old, in *ondisk.Inode) error {
	for n := range ondisk.NrInodeOpts {
		if in.IsRegular() && in.Opt(n) != old.Opt(n) && MovesData(ondisk.InodeOption(n)) {
			return o.scan(inum)
		}
	}
	return nil
}

// MovesData: data that was written under another value of the option is moved in
// the background.
func MovesData(opt *ondisk.Option) bool {
	switch opt.Name {
	case "compression", "background_compression", "foreground_target", "background_target":
		return true
	}
	return false
}

// Scan asks background work to look at all data of the volume again.
func (w *Writer) Scan(ctx context.Context) (uint64, error) {
	return w.Store.Update(ctx, "scan", func(tx *btree.Tx) error { return (&op{w: w, tx: tx}).scan(0) })
}

// scan leaves the note by which background work finds data whose options
// changed: of one file, or with 0 of all (chapter 05 section 16.1).
func (o *op) scan(inum uint64) error {
	if o.w.set.SB.Version >= ondisk.Version1_0+33 {
		return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUnsupported, Reason: "options that move data cannot be changed at this version"}
	}
	p := ondisk.Pos{Inode: inum, Offset: ^uint64(0) - 1, Snapshot: ^uint32(0)}
	kv, ok, err := o.tx.Get(ondisk.BtreeReconcileWork, p)
	if err != nil {
		return err
	}
	var n uint64
	if ok && kv.Type == ondisk.KeyCookie && len(kv.Val) >= 8 {
		n = binary.LittleEndian.Uint64(kv.Val)
	}
	o.tx.Set(ondisk.BtreeReconcileWork, ondisk.KV{Key: ondisk.Key{Pos: p, Type: ondisk.KeyCookie}, Val: binary.LittleEndian.AppendUint64(nil, n+1)})
	return nil
}

// FeatureOf is the feature that a value of an option may bring into the volume.
func FeatureOf(opt *ondisk.Option, v uint64) (ondisk.Feature, bool) {
	switch {
	case opt.Type == ondisk.OptCompression && v&15 == 1:
		return ondisk.FeatureLZ4, true
	case opt.Type == ondisk.OptCompression && v&15 == 2:
		return ondisk.FeatureGzip, true
	case opt.Type == ondisk.OptCompression && v&15 == 3:
		return ondisk.FeatureZstd, true
	case opt.Name == "erasure_code" && v != 0:
		return ondisk.FeatureEC, true
	}
	return 0, false
}

// enableFeature marks in the superblock what a value of an option may bring into
// the volume, before it does (chapter 01 section 4).
func (w *Writer) enableFeature(ctx context.Context, opt *ondisk.Option, v uint64) error {
	f, ok := FeatureOf(opt, v)
	if !ok {
		return nil
	}
	return w.WS.Update(ctx, func(sb *ondisk.Superblock) error {
		if sb.HasFeature(f) {
			return members.ErrUnchanged
		}
		sb.SetFeature(f, true)
		return nil
	})
}
