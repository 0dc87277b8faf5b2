package members

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/signature"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Where superblocks are (chapter 01 section 1), in sectors.
const (
	LayoutSector  = 7
	DefaultSector = 8
	// scanBytes is how far from both ends of a device a lost superblock is searched.
	scanBytes = 16 << 20
)

// Copy is one superblock copy of a device: what was read, or why not.
type Copy struct {
	Sector uint64
	SB     *ondisk.Superblock
	Err    error

	refused bool // intact, but of a version or with a feature that is not known
	seq     uint64
}

// ReadSuper reads every superblock copy of a device and chooses the newest good
// one (the highest seq; of equals the last in layout order). sector is where to
// start: DefaultSector, or what the user says, and then only that copy counts.
// The copies, good and bad, come back too, also with an error.
//
// Errors: errs.ErrNotBcachefs (the message says what the device holds instead,
// or where a stray copy stands), errs.ErrVersion, errs.ErrFeature,
// errs.ErrChecksum, errs.ErrCorrupt, errs.ErrIO.
func ReadSuper(ctx context.Context, r block.Reader, sector uint64) (*ondisk.Superblock, []Copy, error) {
	if sector == 0 {
		sector = DefaultSector
	}
	first := readCopy(r, sector)
	if sector != DefaultSector {
		return first.SB, []Copy{first}, first.Err
	}
	copies := []Copy{first}
	var layout *ondisk.SBLayout
	if first.SB != nil {
		layout = &first.SB.Layout
	} else {
		b := make([]byte, 512)
		if _, err := r.ReadAt(b, LayoutSector*512); err == nil {
			if l, err := ondisk.DecodeSBLayout(b); err == nil {
				layout = &l
			}
		}
	}
	if layout != nil {
		for _, off := range layout.Offsets {
			if off == sector {
				continue
			}
			if err := ctx.Err(); err != nil {
				return nil, copies, err
			}
			copies = append(copies, readCopy(r, off))
		}
	}
	var best *Copy
	for i := range copies {
		if c := &copies[i]; c.SB != nil && (best == nil || c.SB.Seq >= best.SB.Seq) {
			best = c
		}
	}
	for _, c := range copies {
		// A copy that is newer and intact, but asks for more than this program
		// knows, is the truth; an older one would be misread as the volume.
		if c.SB == nil && c.refused && (best == nil || c.seq > best.SB.Seq) {
			return nil, copies, c.Err
		}
	}
	if best != nil {
		return best.SB, copies, nil
	}
	err := first.Err
	if !errors.Is(err, errs.ErrVersion) {
		if at, ok := scanSuper(ctx, r); ok {
			err = &errs.Error{Where: errs.Where{Path: r.Info().Name, Dev: -1, Sector: DefaultSector, Btree: -1, Level: -1}, Kind: errs.ErrCorrupt,
				Reason: fmt.Sprintf("default superblock damaged, a copy exists at sector %d: choose it with -o sb=%d", at, at), Cause: first.Err}
		} else if !errors.Is(err, errs.ErrNotBcachefs) {
			return nil, copies, err
		} else if what, ok := signature.Identify(r, r.Size()); ok {
			err = &errs.Error{Where: errs.Where{Path: r.Info().Name, Dev: -1, Sector: -1, Btree: -1, Level: -1}, Kind: errs.ErrNotBcachefs,
				Reason: "no bcachefs superblock", Got: what}
		} else if r.Size() < DefaultSector*512+ondisk.SBFixedSize {
			err = &errs.Error{Where: errs.Where{Path: r.Info().Name, Dev: -1, Sector: -1, Btree: -1, Level: -1}, Kind: errs.ErrNotBcachefs,
				Reason: "no bcachefs superblock", Got: fmt.Sprintf("nothing known in %d bytes, too few for one", r.Size())}
		}
	}
	return nil, copies, err
}

// readCopy reads and fully checks the superblock at a sector.
func readCopy(r block.Reader, sector uint64) Copy {
	c := Copy{Sector: sector}
	c.SB, c.Err = decodeAt(r, sector)
	if c.Err != nil {
		if c.SB != nil {
			c.seq = c.SB.Seq
			c.refused = errors.Is(c.Err, errs.ErrVersion) || errors.Is(c.Err, errs.ErrFeature) || errors.Is(c.Err, errs.ErrUnsupported)
		}
		c.Err = errs.At(c.Err, errs.Where{Path: r.Info().Name, Dev: -1, Sector: int64(sector), Btree: -1, Level: -1})
		c.SB = nil
	}
	return c
}

// ReadUnchecked reads the superblock at a sector if only its checksum and the
// sizes of its fields are right; else it gives nil. Such a superblock is for
// showing, not for opening a volume.
func ReadUnchecked(r block.Reader, sector uint64) *ondisk.Superblock {
	sb, _ := decodeAt(r, sector)
	return sb
}

func decodeAt(r block.Reader, sector uint64) (*ondisk.Superblock, error) {
	if sector > math.MaxInt64/512 || int64(sector)*512+ondisk.SBFixedSize > r.Size() {
		return nil, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrNotBcachefs, Reason: "no bcachefs superblock", Got: fmt.Sprintf("the end of the device (%d bytes)", r.Size())}
	}
	// The fixed part rounded up to whole 4 KiB, so that reads suit any device.
	head := make([]byte, 4096)
	n, err := r.ReadAt(head, int64(sector)*512)
	if err != nil && !(errors.Is(err, io.EOF) && n >= ondisk.SBFixedSize) {
		return nil, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrIO, Reason: "superblock read", Cause: err}
	}
	size, err := ondisk.SuperblockBytes(head[:n])
	if err != nil {
		return nil, err
	}
	b := head[:n]
	if size > n {
		b = make([]byte, (size+511)/512*512)
		if m, err := r.ReadAt(b, int64(sector)*512); err != nil && m < size {
			return nil, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrIO, Reason: "superblock read", Cause: err}
		}
	}
	sb, err := ondisk.DecodeSuperblock(b[:size])
	if err != nil {
		return nil, err
	}
	return sb, sb.Validate(sector)
}

// scanSuper searches the ends of a device for a valid superblock.
func scanSuper(ctx context.Context, r block.Reader) (sector uint64, ok bool) {
	buf := make([]byte, 1<<20)
	scan := func(from, to int64) (uint64, bool) {
		for off := from; off < to && ctx.Err() == nil; off += int64(len(buf)) {
			n, _ := r.ReadAt(buf[:min(int64(len(buf)), to-off)], off)
			for i := 0; i+512 <= n; i += 512 {
				s := uint64(off+int64(i)) / 512
				if !ondisk.HasSuperMagic(buf[i : i+512]) {
					continue
				}
				if _, err := decodeAt(r, s); err == nil {
					return s, true
				}
			}
		}
		return 0, false
	}
	size := r.Size()
	if s, ok := scan(0, min(size, scanBytes)); ok {
		return s, true
	}
	return scan(max(0, size-scanBytes)&^511, size)
}
