package members

import (
	"bytes"
	"context"
	"fmt"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// maxFound bounds what FindSupers returns: files may hold superblocks, too.
const maxFound = 1000

// FindSupers searches a device for superblocks: length bytes from offset on, or
// with length 0 the first and the last scanBytes. Whatever has the magic comes
// back, with an error if it cannot be used, in the order of sectors.
func FindSupers(ctx context.Context, r block.Reader, offset, length int64) ([]Copy, error) {
	size := r.Size()
	type span struct{ from, to int64 }
	spans := []span{{offset &^ 511, min(size, offset+min(length, size))}}
	if length == 0 {
		spans = []span{{0, min(size, scanBytes)}, {max(min(size, scanBytes), size-scanBytes) &^ 511, size}}
	}
	if offset < 0 || length < 0 {
		return nil, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUsage, Reason: "negative range"}
	}
	var found []Copy
	buf := make([]byte, 1<<20)
	for _, s := range spans {
		for off := s.from; off < s.to; off += int64(len(buf)) {
			if err := ctx.Err(); err != nil {
				return found, err
			}
			// What cannot be read is passed over: the next piece may be fine.
			n, _ := r.ReadAt(buf[:min(int64(len(buf)), s.to-off)], off)
			for i := 0; i+512 <= n; i += 512 {
				if !ondisk.HasSuperMagic(buf[i : i+512]) {
					continue
				}
				if found = append(found, readCopy(r, uint64(off+int64(i))/512)); len(found) == maxFound {
					return found, nil
				}
			}
		}
	}
	return found, nil
}

// RestoreSuper writes the superblock at a sector to all places of its layout that
// do not have it, and the layout to its own place. It returns the sectors written.
func RestoreSuper(ctx context.Context, w block.Writer, sector uint64) (written []uint64, err error) {
	place := func(at uint64) errs.Where {
		return errs.Where{Path: w.Info().Name, Dev: -1, Sector: int64(at), Btree: -1, Level: -1}
	}
	refuse := func(format string, a ...any) error {
		return &errs.Error{Where: place(sector), Kind: errs.ErrUnsupported, Reason: fmt.Sprintf(format, a...)}
	}
	sb, err := decodeAt(w, sector)
	if err != nil {
		return nil, errs.At(err, place(sector))
	}
	raw := make([]byte, sb.Bytes())
	if _, err := w.ReadAt(raw, int64(sector)*512); err != nil {
		return nil, errs.At(err, place(sector))
	}
	if !bytes.Equal(sb.Append(nil), raw) {
		return nil, refuse("this superblock would not be written back as it is")
	}
	m, err := sb.Member(int(sb.DevIdx))
	if err != nil {
		return nil, errs.At(err, place(sector))
	}
	if need := m.NBuckets * uint64(m.BucketSize); need > uint64(w.Size())/512 {
		return nil, refuse("the device has %d sectors, the superblock is of one with %d", w.Size()/512, need)
	}
	copyAt := func(off uint64) []byte {
		x := sb.Clone()
		x.Offset = off
		return x.Append(nil)
	}
	for _, off := range sb.Layout.Offsets {
		if off > uint64(w.Size())/512 || uint64(len(raw)) > uint64(w.Size())-off*512 {
			return nil, refuse("a copy at sector %d would be outside of the device", off)
		}
		if old, err := decodeAt(w, off); err == nil && old.UUID == sb.UUID && old.Seq > sb.Seq {
			return nil, refuse("sector %d has a newer one (seq %d, not %d)", off, old.Seq, sb.Seq)
		}
	}
	put := func(at uint64, b []byte) error {
		have := make([]byte, len(b))
		if _, err := w.ReadAt(have, int64(at)*512); err == nil && bytes.Equal(have, b) {
			return nil
		}
		if _, err := w.WriteAt(b, int64(at)*512); err != nil {
			return errs.At(err, place(at))
		}
		if err := w.Flush(ctx); err != nil {
			return err
		}
		written = append(written, at)
		return nil
	}
	if sb.Layout.Offsets[0] == DefaultSector {
		b := make([]byte, 512)
		copy(b, sb.Layout.Append(nil))
		if err := put(LayoutSector, b); err != nil {
			return written, err
		}
	}
	for _, off := range sb.Layout.Offsets {
		if off == sector {
			continue
		}
		b := copyAt(off)
		b = append(b, make([]byte, (512-len(b)%512)%512)...)
		if err := put(off, b); err != nil {
			return written, err
		}
	}
	return written, nil
}
