package bcachefs

import (
	"context"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// NewestSuperblock reads the superblocks of devices, without opening the volume,
// and gives the newest. The devices are expected to belong to one volume; that
// is for Open to check. Errors are those of Open for a device.
func NewestSuperblock(ctx context.Context, devices []block.Reader) (*ondisk.Superblock, error) {
	var newest *ondisk.Superblock
	for _, r := range devices {
		sb, _, err := members.ReadSuper(ctx, r, 0)
		if err != nil {
			return nil, err
		}
		if newest == nil || sb.Seq > newest.Seq {
			newest = sb
		}
	}
	if newest == nil {
		return nil, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUsage, Reason: "no device given"}
	}
	return newest, nil
}
