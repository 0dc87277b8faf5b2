package bcachefs

import (
	"context"
	"syscall"

	"github.com/gobcachefs/gobcachefs/internal/data"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

func openable(mode uint16) error {
	switch mode & ondisk.ModeTypeMask {
	case ondisk.ModeRegular, ondisk.ModeSymlink:
		return nil
	case ondisk.ModeDir:
		return syscall.EISDIR
	}
	return syscall.EINVAL
}

func (h *Handle) seek(ctx context.Context, off int64, hole bool) (int64, error) {
	if off < 0 {
		return 0, syscall.EINVAL
	}
	at, ok, err := h.f.fs.Data().Next(ctx, h.file, uint64(off), hole)
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, enxio
	}
	return int64(at), nil
}

// enxio is "no data behind this offset".
const enxio = syscall.ENXIO

// DataRange is a part of a file that holds data, in bytes.
type DataRange struct{ Start, End uint64 }

// DataRanges calls yield with the parts of the file that hold data, from off on.
func (h *Handle) DataRanges(ctx context.Context, off uint64, yield func(DataRange) bool) error {
	return h.f.fs.Data().Data(ctx, h.file, off, func(r data.Range) bool { return yield(DataRange(r)) })
}
