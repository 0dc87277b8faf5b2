package block

import (
	"context"

	"github.com/gobcachefs/gobcachefs/errs"
)

func openHTTP(_ context.Context, name string, _ Options) (Reader, error) {
	return nil, &errs.Error{Where: where(name, -1), Kind: errs.ErrUnsupported, Reason: "http is not there yet"}
}
