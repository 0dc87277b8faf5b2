package build

import (
	"fmt"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// ReadSuper reads the superblock copy at a sector of a device, checked as far as
// decoding does.
func ReadSuper(r block.Reader, sector uint64) (*ondisk.Superblock, error) {
	head := make([]byte, 4096)
	if _, err := r.ReadAt(head, int64(sector)*512); err != nil {
		return nil, err
	}
	n, err := ondisk.SuperblockBytes(head)
	if err != nil {
		return nil, err
	}
	b := make([]byte, n)
	if _, err := r.ReadAt(b, int64(sector)*512); err != nil {
		return nil, err
	}
	return ondisk.DecodeSuperblock(b)
}

// Restamp gives a device whose superblock copies were changed, with right
// checksums; the device itself stays as it is.
func Restamp(r block.Reader, change func(copy int, sb *ondisk.Superblock)) *block.Overlay {
	o := block.NewOverlay(r)
	first, err := ReadSuper(r, ondisk.SBSector)
	must(err)
	for i, off := range first.Layout.Offsets {
		sb, err := ReadSuper(r, off)
		if err != nil {
			panic(fmt.Sprintf("build: superblock copy %d: %v", i, err))
		}
		change(i, sb)
		_, err = o.WriteAt(sb.Append(nil), int64(off)*512)
		must(err)
	}
	return o
}
