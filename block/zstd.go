package block

import (
	"context"

	"github.com/gobcachefs/gobcachefs/errs"
)

func isZstd(Reader) (bool, error) { return false, nil }

func spoolZstd(_ context.Context, r Reader, _ Options) (Reader, error) {
	return nil, &errs.Error{Where: where(r.Info().Name, -1), Kind: errs.ErrUnsupported, Reason: "zstd is not there yet"}
}
