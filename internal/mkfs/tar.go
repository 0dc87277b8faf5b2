package mkfs

import (
	"context"
	"errors"
	"io"
)

// TarSource is a tar stream.
type TarSource struct{ R io.Reader }

func (s *TarSource) walk(ctx context.Context, im *importer) error { return errors.New("tar: to come") }
