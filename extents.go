package bcachefs

import (
	"context"
	"errors"
	"fmt"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/btree"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// ExtentKind says what stands for a range of a file.
type ExtentKind string

// Kinds of extents.
const (
	ExtentData      ExtentKind = "data"      // stored on devices
	ExtentInline    ExtentKind = "inline"    // stored in the btree itself
	ExtentUnwritten ExtentKind = "unwritten" // allocated, reads as zeros
	ExtentReserved  ExtentKind = "reserved"  // counted but not allocated, reads as zeros
	ExtentLost      ExtentKind = "lost"      // cannot be read: data lost, poisoned, or a key that makes no sense
)

// Extent is a range of a file and where its bytes are. What no extent covers is
// a hole.
type Extent struct {
	Offset, Length uint64 // bytes in the file; Length is a multiple of 512
	Kind           ExtentKind
	// Shared: the bytes belong to the reflink btree, at sector Reflink of it,
	// with Refs references to them.
	Shared  bool
	Reflink uint64
	Refs    uint64
	Copies  []ExtentCopy
	Err     error // for ExtentLost, why
}

// ExtentCopy is one place where the bytes of an extent are stored. The blob
// there holds StoredSectors sectors, which verify against Sum and expand to
// DataSectors; the extent starts at sector BlobOffset of those.
type ExtentCopy struct {
	Dev           int    // member index, ondisk.InvalidDev for a copy that is lost
	Sector        uint64 // first sector of the blob on the member
	Gen           uint8  // generation of its bucket that this pointer means
	Cached        bool   // may be dropped at any time
	Present       bool   // the member is here
	Compression   ondisk.CompressionType
	Checksum      ondisk.CsumType
	Sum           ondisk.Csum
	StoredSectors uint32
	DataSectors   uint32
	BlobOffset    uint32
	// Erasure coding: block Block of stripe Stripe.
	HasStripe bool
	Stripe    uint64
	Block     uint8
}

// Charged is what this copy of an extent of a length in bytes takes on its
// member: the part of the blob that the extent is of it (chapter 05 section 5).
func (c *ExtentCopy) Charged(length uint64) uint64 {
	p := ondisk.ExtentPtr{Crc: ondisk.Crc{Compression: c.Compression, CompressedSize: c.StoredSectors, UncompressedSize: c.DataSectors}}
	return uint64(p.DiskSectors(uint32(length/512))) * 512
}

// Extents calls yield with the extents of a file that end behind off, in order,
// until it returns false. Extents that are reflinks are split where the shared
// extents are. It reads keys only, not data.
func (h *Handle) Extents(ctx context.Context, off uint64, yield func(Extent) bool) error {
	trees := h.f.v.e.Trees
	end := ondisk.Pos{Inode: h.file.Inum, Offset: h.file.Size/512 + 1}
	w := trees.Visible(ctx, ondisk.BtreeExtents, h.file.View, ondisk.Pos{Inode: h.file.Inum, Offset: off / 512}, end)
	for {
		k, ok := w.Next()
		h.suspect(w.Suspect())
		if !ok {
			return w.Err()
		}
		e := Extent{Offset: k.Start().Offset * 512, Length: uint64(k.Size) * 512}
		if k.Type != ondisk.KeyReflinkP {
			h.f.describe(&e, k.Type, k.Val, k.Size)
			if !yield(e) {
				return nil
			}
			continue
		}
		if more, err := h.reflinked(ctx, k, yield); err != nil || !more {
			return err
		}
	}
}

func (h *Handle) suspect(err error) {
	if err != nil && h.file.Suspect != nil {
		h.file.Suspect(err)
	}
}

// reflinked yields the parts of a reflink_p key.
func (h *Handle) reflinked(ctx context.Context, k ondisk.KV, yield func(Extent) bool) (more bool, err error) {
	start, size := k.Start().Offset, uint64(k.Size)
	p, err := ondisk.DecodeReflinkP(k.Val)
	if err != nil {
		return yield(Extent{Offset: start * 512, Length: size * 512, Kind: ExtentLost, Shared: true, Err: err}), nil
	}
	c := h.f.v.e.Trees.Cursor(ctx, ondisk.BtreeReflink, ondisk.Pos{Offset: p.Idx + 1}, ondisk.Pos{Offset: ^uint64(0), Snapshot: ^uint32(0)})
	for at := uint64(0); at < size; {
		idx := p.Idx + at
		v, ok := c.Next()
		if err := c.Err(); err != nil {
			return false, err
		}
		h.suspect(c.Suspect())
		if !ok || v.Start().Offset > idx {
			n := size - at
			if ok {
				n = min(n, v.Start().Offset-idx)
			}
			e := Extent{Offset: (start + at) * 512, Length: n * 512, Kind: ExtentLost, Shared: true, Reflink: idx,
				Err: errs.Corruptf("reflink_p_to_missing_reflink_v", "nothing at %d in the reflink btree", idx)}
			if !yield(e) {
				return false, nil
			}
			at += n
			if !ok || at >= size {
				continue
			}
			idx = p.Idx + at
		}
		if v.Pos.Offset <= idx {
			continue
		}
		n := min(size-at, v.Pos.Offset-idx)
		e := Extent{Offset: (start + at) * 512, Length: n * 512, Shared: true, Reflink: idx}
		if refs, val, err := ondisk.DecodeReflinkV(v.Val); v.Type == ondisk.KeyError || err != nil {
			e.Kind, e.Err = ExtentLost, err
		} else {
			e.Refs = refs
			h.f.describe(&e, v.Type, val, v.Size)
			for i := range e.Copies {
				e.Copies[i].BlobOffset += uint32(idx - v.Start().Offset)
			}
		}
		if !yield(e) {
			return false, nil
		}
		at += n
	}
	return true, nil
}

// describe fills in what the value of a key of size sectors says.
func (f *Files) describe(e *Extent, t ondisk.KeyType, val []byte, size uint32) {
	switch t {
	case ondisk.KeyReservation, ondisk.KeyCookie, ondisk.KeyDeleted, ondisk.KeyWhiteout, ondisk.KeyExtentWhiteout:
		e.Kind = ExtentReserved
	case ondisk.KeyInlineData, ondisk.KeyIndirectInlineData:
		e.Kind = ExtentInline
	case ondisk.KeyExtent, ondisk.KeyReflinkV:
		e.Kind = ExtentData
		x, err := ondisk.DecodeExtent(val, size, f.v.e.Set.ExtentTypes)
		if err != nil {
			e.Kind, e.Err = ExtentLost, err
			return
		}
		if x.Poisoned {
			e.Kind, e.Err = ExtentLost, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrIO, Reason: "extent is poisoned"}
		}
		for i := range x.Ptrs {
			p := &x.Ptrs[i]
			if p.Unwritten {
				e.Kind = ExtentUnwritten
			}
			e.Copies = append(e.Copies, ExtentCopy{
				Dev: int(p.Dev), Sector: p.Offset, Gen: p.Gen, Cached: p.Cached, Present: f.v.e.Set.Online(p.Dev),
				Compression: p.Crc.Compression, Checksum: p.Crc.CsumType, Sum: p.Crc.Csum,
				StoredSectors: p.Crc.CompressedSize, DataSectors: p.Crc.UncompressedSize, BlobOffset: p.Crc.Offset,
				HasStripe: p.HasStripe, Stripe: p.Stripe.Index, Block: p.Stripe.Block,
			})
		}
	case ondisk.KeyError:
		e.Kind, e.Err = ExtentLost, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrIO, Reason: "data lost"}
	default:
		e.Kind, e.Err = ExtentLost, errs.Corruptf("bkey_invalid_type_for_btree", "%v", t)
	}
}

// SkipBad says where to go on reading after ReadAt failed at off with err: the
// end of what one blob holds where that cannot be read in parts, else the next
// block. The answer is greater than off and at most the size of the file.
func (h *Handle) SkipBad(ctx context.Context, off int64, err error) int64 {
	size := int64(h.file.Size)
	next := off + int64(max(h.attr.BlockSize, 512))
	next -= next % int64(max(h.attr.BlockSize, 512))
	found := false
	xerr := h.Extents(ctx, uint64(off), func(e Extent) bool {
		if e.Offset > uint64(off) || e.Offset+e.Length <= uint64(off) {
			return e.Offset <= uint64(off)
		}
		found = true
		whole := e.Kind != ExtentData || errors.Is(err, errs.ErrMissingDevice)
		for _, c := range e.Copies {
			whole = whole || c.Checksum != ondisk.CsumNone || c.Compression.Compressed()
		}
		if whole {
			next = int64(e.Offset + e.Length)
		}
		return false
	})
	var d *btree.DamageError
	if !found && errors.As(xerr, &d) && d.Btree == ondisk.BtreeExtents {
		next = size
		if d.To.Inode == h.file.Inum && d.To.Offset < uint64(size)/512 {
			next = int64(d.To.Offset) * 512
		}
	}
	return min(max(next, off+1), max(size, off+1))
}

// Xattr is an extended attribute with its value.
type Xattr struct {
	Name  string // full: "user.mime"
	Value []byte
}

// Xattrs reads the extended attributes that are stored with a file, in one go:
// ListXattr without the virtual ones, and their values, POSIX ACLs in the form
// of the system calls. With an error it gives those that could be read.
func (f *Files) Xattrs(ctx context.Context, id NodeID) ([]Xattr, error) {
	var out []Xattr
	err := f.fs.StoredXattrs(ctx, id.object(), func(name string, value []byte) { out = append(out, Xattr{name, value}) })
	if err != nil {
		err = fmt.Errorf("xattrs: %w", err)
	}
	return out, err
}

// LostRange is a part of a file of which nothing can be said.
type LostRange struct {
	DataRange
	Err error
}

// Map gives the parts of a file that hold data and, where its keys cannot be
// read, the parts that cannot be told from holes. Both are in order and do not
// overlap; what is in neither is a hole. The error is ctx's alone.
func (h *Handle) Map(ctx context.Context) (known []DataRange, lost []LostRange, err error) {
	size := h.file.Size
	for off := uint64(0); off < size; {
		from := off
		err := h.DataRanges(ctx, off, func(r DataRange) bool {
			known = append(known, r)
			from = r.End
			return true
		})
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return known, lost, ctx.Err()
		}
		to := size
		var d *btree.DamageError
		if errors.As(err, &d) && d.Btree == ondisk.BtreeExtents && d.To.Inode == h.file.Inum && d.To.Offset < size/512 {
			to = max(d.To.Offset*512, from)
		}
		if to > from {
			lost = append(lost, LostRange{DataRange{from, to}, err})
		}
		if to <= off {
			break // no progress: a range that contradicts itself
		}
		off = to
	}
	return known, lost, nil
}
