package bcachefs

import (
	"context"
	"io"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/internal/explain"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// SuperblockCopy is one copy of a superblock: what it says, or why it is no good.
type SuperblockCopy struct {
	Sector uint64
	SB     *ondisk.Superblock
	Err    error
}

// ReadSuperblock reads all superblock copies of a device and gives the newest
// good one; sector, if not 0, names the only one to read. The copies come back
// with an error too. If no copy is quite right, but one has a good checksum, that
// one is given together with the error that says what it breaks.
//
// Errors: errs.ErrNotBcachefs (it says what is there instead), errs.ErrVersion,
// errs.ErrFeature, errs.ErrChecksum, errs.ErrCorrupt, errs.ErrIO.
func ReadSuperblock(ctx context.Context, r block.Reader, sector uint64) (*ondisk.Superblock, []SuperblockCopy, error) {
	sb, cs, err := members.ReadSuper(ctx, r, sector)
	copies := make([]SuperblockCopy, len(cs))
	for i, c := range cs {
		copies[i] = SuperblockCopy{c.Sector, c.SB, c.Err}
	}
	if err == nil || ctx.Err() != nil {
		return sb, copies, err
	}
	for _, c := range cs {
		if s := members.ReadUnchecked(r, c.Sector); s != nil && (sb == nil || s.Seq > sb.Seq) {
			sb = s
		}
	}
	return sb, copies, err
}

// SuperOptions say what of a superblock is printed, and how.
type SuperOptions = explain.ShowSuperOpts

// ShowSuper prints a superblock as the tools of the same name do. It need not be
// a valid one.
func ShowSuper(w io.Writer, sb *ondisk.Superblock, o SuperOptions) error {
	return explain.ShowSuper(w, sb, o)
}

// SuperJSON gives a superblock as a document for encoding/json.
func SuperJSON(sb *ondisk.Superblock) any { return explain.SuperJSON(sb) }
