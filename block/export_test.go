package block

import "hash/crc32"

// For tests in package block_test, which can use blocktest.

// SideFile is sideFile.
type SideFile = sideFile

// OpenOverlay is openOverlay.
var OpenOverlay = openOverlay

// OverlayHeaderSum restores the sum of the header of an overlay file.
func OverlayHeaderSum(b []byte) {
	le.PutUint32(b[overlayHeader-4:], crc32.Checksum(b[:overlayHeader-4], castagnoli))
}

// OverlaySum restores the sum of a slot or of the header of a record, of n bytes
// at off.
func OverlaySum(b []byte, off, n int) {
	if off < 0 || n < 0 || off > len(b)-n-4 {
		return
	}
	l := &overlayLog{}
	copy(l.id[:], b[16:])
	le.PutUint32(b[off+n:], l.sum(b[off:off+n]))
}
