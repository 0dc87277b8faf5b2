package block

import (
	"context"

	"github.com/gobcachefs/gobcachefs/errs"
)

// List is not there on Windows: name the devices, as in \\.\PhysicalDrive1.
func List(context.Context) ([]string, error) {
	return nil, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUnsupported, Reason: "devices cannot be listed on this system"}
}
