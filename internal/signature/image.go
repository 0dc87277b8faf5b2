package signature

import "fmt"

// images recognizes disk images of virtual machines.
func images(d *device) string {
	if d.is(0, "QFI\xfb") {
		switch v := d.be32(4); v {
		case 1:
			return "qcow image"
		default:
			return fmt.Sprintf("qcow2 image (version %d)", v)
		}
	}
	if name := d.first([]magicAt{
		{0, "KDMV", "VMDK image"},
		{0, "COWD", "VMDK image"},
		{0, "# Disk DescriptorFile", "VMDK descriptor"},
		{64, "\x7f\x10\xda\xbe", "VDI image"},
		{0, "conectix", "VHD image"},
		{0, "vhdxfile", "VHDX image"},
		{0, "QED\x00", "QED image"},
		{0, "WithoutFreeSpace", "Parallels image"},
		{0, "WithouFreSpacExt", "Parallels image"},
		{0, "\x3a\xff\x26\xed", "Android sparse image"},
	}); name != "" {
		return name
	}
	// A fixed VHD and a DMG are told by their last sector.
	return d.first([]magicAt{
		{d.size - 512, "conectix", "VHD image (fixed)"},
		{d.size - 512, "koly\x00\x00\x00\x04", "Apple disk image"},
	})
}

// partitions recognizes partition tables.
func partitions(d *device) string {
	for _, sector := range []int64{512, 4096} {
		if d.is(sector, "EFI PART") {
			return "GPT partition table"
		}
	}
	if d.is(0, "ER") && (d.is(512, "PM\x00\x00") || d.is(2048, "PM\x00\x00")) {
		return "Apple partition map"
	}
	return mbr(d)
}

// mbr tells a partition table from the boot sectors and other things that have
// the same two bytes at their end: all four entries must make sense.
func mbr(d *device) string {
	if !d.is(510, "\x55\xaa") {
		return ""
	}
	used, protective := 0, false
	for i := int64(0); i < 4; i++ {
		e := d.at(446+16*i, 16)
		if e[0] != 0 && e[0] != 0x80 {
			return ""
		}
		start, length := d.le32(446+16*i+8), d.le32(446+16*i+12)
		switch {
		case e[4] == 0 && (start != 0 || length != 0):
			return ""
		case e[4] == 0:
			continue
		case length == 0:
			return ""
		}
		used++
		protective = protective || e[4] == 0xee
	}
	switch {
	case used == 0:
		return ""
	case protective:
		return "GPT partition table (only its protective MBR)"
	}
	return "MBR partition table"
}

// archives recognizes compressed files and archives: an image that must be
// unpacked first.
func archives(d *device) string {
	if b := d.at(0, 10); b != nil && string(b[:3]) == "BZh" && b[3] >= '1' && b[3] <= '9' &&
		(string(b[4:]) == "\x31\x41\x59\x26\x53\x59" || string(b[4:]) == "\x17\x72\x45\x38\x50\x90") {
		return "bzip2 compressed file"
	}
	return d.first([]magicAt{
		{0, "\x1f\x8b\x08", "gzip compressed file"},
		{0, "\xfd7zXZ\x00", "xz compressed file"},
		{0, "\x28\xb5\x2f\xfd", "zstd compressed file"},
		{0, "\x04\x22\x4d\x18", "lz4 compressed file"},
		{0, "LZIP", "lzip compressed file"},
		{0, "PK\x03\x04", "zip archive"},
		{0, "PK\x05\x06", "zip archive"},
		{0, "7z\xbc\xaf\x27\x1c", "7z archive"},
		{0, "Rar!\x1a\x07", "rar archive"},
		{257, "ustar\x0000", "tar archive"},
		{257, "ustar  \x00", "tar archive"},
		{257, "ustar\x00", "tar archive"},
		{0, "\x7fELF", "ELF program"},
		{0, "%PDF-", "PDF document"},
	})
}
