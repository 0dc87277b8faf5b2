package ondisk

import "bytes"

// HasSuperMagic reports whether b, the start of a sector, looks like a
// superblock: nothing but the magic is checked.
func HasSuperMagic(b []byte) bool {
	return len(b) >= 40 && (bytes.Equal(b[24:40], SBMagic[:]) || bytes.Equal(b[24:40], SBMagicOld[:]))
}
