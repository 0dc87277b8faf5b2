// Package signature says what a device holds when it is not a bcachefs volume,
// so that a refusal can name it ("holds ext4"), and so that format does not
// destroy something by mistake. It knows file systems, encryption and RAID
// members, partition tables, disk images, and compressed files.
package signature

import (
	"bytes"
	"encoding/binary"
	"io"
)

// Identify names what is on the device r of size bytes. ok is false if nothing
// is recognized. Devices are often used again without being wiped, so that
// several signatures may be there: what is named is the layer that a system
// would see first (a RAID member before the file system inside it, a file
// system before a partition table).
//
// It reads some hundred KiB at the start and a little at the end; what cannot
// be read does not match. A device without any signature is named empty when
// what was read of it is all zero, and the name says whether that was all.
func Identify(r io.ReaderAt, size int64) (name string, ok bool) {
	if size <= 0 {
		return "empty (0 bytes)", true
	}
	d := &device{r: r, size: size, head: make([]byte, min(size, headSize))}
	n, _ := r.ReadAt(d.head, 0)
	d.head = d.head[:max(0, min(n, len(d.head)))]
	for _, f := range []func(*device) string{members, fileSystems, zfs, images, partitions, archives, empty} {
		if name := f(d); name != "" {
			return name, true
		}
	}
	return "", false
}

// headSize holds every signature at a fixed place, and the first two labels of
// a ZFS device.
const headSize = 512 << 10

// device is what is looked at.
type device struct {
	r    io.ReaderAt
	size int64
	head []byte
}

// at returns n bytes at off, nil if they do not exist or cannot be read.
func (d *device) at(off int64, n int) []byte {
	if off < 0 || off > d.size-int64(n) {
		return nil
	}
	if off+int64(n) <= int64(len(d.head)) {
		return d.head[off : off+int64(n)]
	}
	b := make([]byte, n)
	if k, _ := d.r.ReadAt(b, off); k < n {
		return nil
	}
	return b
}

// is reports whether magic is at off.
func (d *device) is(off int64, magic string) bool {
	return string(d.at(off, len(magic))) == magic
}

func (d *device) le16(off int64) uint16 {
	if b := d.at(off, 2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (d *device) le32(off int64) uint32 {
	if b := d.at(off, 4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (d *device) le64(off int64) uint64 {
	if b := d.at(off, 8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (d *device) be16(off int64) uint16 {
	if b := d.at(off, 2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (d *device) be32(off int64) uint32 {
	if b := d.at(off, 4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// magicAt is a signature of one string at one place.
type magicAt struct {
	off   int64
	magic string
	name  string
}

// first returns the name of the first signature of a table that is there.
func (d *device) first(table []magicAt) string {
	for _, m := range table {
		if d.is(m.off, m.magic) {
			return m.name
		}
	}
	return ""
}

// empty names a device of zeros. Reading all of a disk would take hours: above
// headSize, its start and end must do.
func empty(d *device) string {
	if int64(len(d.head)) < min(d.size, headSize) || !zero(d.head) {
		return ""
	}
	if d.size <= headSize {
		return "empty (all zero)"
	}
	tail := int(min(d.size-headSize, headSize))
	b := d.at(d.size-int64(tail), tail)
	if b == nil || !zero(b) {
		return ""
	}
	if d.size <= 2*headSize {
		return "empty (all zero)"
	}
	return "empty (start and end all zero)"
}

func zero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }
