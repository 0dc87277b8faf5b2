package signature

import (
	"encoding/binary"
	"fmt"
)

// fileSystems recognizes file systems by their superblocks.
func fileSystems(d *device) string {
	for _, f := range []func(*device) string{ext, fat, optical, nilfs, hfs} {
		if name := f(d); name != "" {
			return name
		}
	}
	return d.first([]magicAt{
		{64<<10 + 64, "_BHRfS_M", "btrfs"},
		{0, "XFSB", "XFS"},
		{1024, "\x10\x20\xf5\xf2", "F2FS"},
		{3, "NTFS    ", "NTFS"},
		{3, "EXFAT   ", "exFAT"},
		{3, "ReFS\x00\x00\x00\x00", "ReFS"},
		{0, "hsqs", "SquashFS"},
		{0, "sqsh", "SquashFS"},
		{1024, "\xe2\xe1\xf5\xe0", "EROFS"},
		{64<<10 + 52, "ReIsErFs", "ReiserFS"},
		{64<<10 + 52, "ReIsEr2Fs", "ReiserFS"},
		{64<<10 + 52, "ReIsEr3Fs", "ReiserFS"},
		{8<<10 + 52, "ReIsErFs", "ReiserFS"},
		{64 << 10, "ReIsEr4", "Reiser4"},
		{32 << 10, "JFS1", "JFS"},
		{32, "NXSB", "APFS"},
		{0, "\x45\x3d\xcd\x28", "cramfs"},
		{0, "\x28\xcd\x3d\x45", "cramfs"},
		{0, "-rom1fs-", "romfs"},
		{64 << 10, "\x01\x16\x19\x70", "GFS2"},
		{64<<10 + 1372, "\x19\x01\x54\x19", "UFS2"},
		{8<<10 + 1372, "\x54\x19\x01\x00", "UFS1"},
	})
}

// ext tells the members of the ext family apart by their feature words.
func ext(d *device) string {
	const sb = 1024
	if d.le16(sb+56) != 0xef53 || d.at(sb, 264) == nil {
		return ""
	}
	compat, incompat, ro := d.le32(sb+92), d.le32(sb+96), d.le32(sb+100)
	const (
		hasJournal   = 1 << 2
		journalDev   = 1 << 3
		ext3Incompat = 1<<1 | 1<<2 | 1<<4 // filetype, recover, meta_bg
		ext3RO       = 1<<0 | 1<<1 | 1<<2 // sparse_super, large_file, btree_dir
	)
	switch {
	case incompat&journalDev != 0:
		return "ext journal device"
	case incompat&^uint32(ext3Incompat) != 0 || ro&^uint32(ext3RO) != 0:
		return "ext4"
	case compat&hasJournal != 0:
		return "ext3"
	}
	return "ext2"
}

// fat recognizes FAT by the string that mkfs tools put into the boot sector,
// together with what every boot sector has.
func fat(d *device) string {
	if !d.is(510, "\x55\xaa") {
		return ""
	}
	if b := d.at(0, 1); b[0] != 0xeb && b[0] != 0xe9 {
		return ""
	}
	return d.first([]magicAt{
		{82, "FAT32   ", "vfat (FAT32)"},
		{54, "FAT16   ", "vfat (FAT16)"},
		{54, "FAT12   ", "vfat (FAT12)"},
		{54, "FAT     ", "vfat"},
	})
}

// optical recognizes UDF and ISO 9660 by their volume recognition sequence.
func optical(d *device) string {
	iso := d.is(32<<10+1, "CD001")
	for off := int64(32 << 10); off < 64<<10; off += 2048 {
		if d.is(off+1, "NSR02") || d.is(off+1, "NSR03") {
			if iso {
				return "UDF and ISO 9660"
			}
			return "UDF"
		}
	}
	if iso {
		return "ISO 9660"
	}
	return ""
}

// nilfs has a magic of 16 bits only: the revision and the size of the
// superblock have to fit too.
func nilfs(d *device) string {
	const sb = 1024
	if n := d.le16(sb + 8); d.le16(sb+6) == 0x3434 && d.le32(sb) == 2 && n >= 64 && n <= 1024 {
		return "NILFS2"
	}
	return ""
}

// hfs has magics of 16 bits: the version has to fit too, or the block size for
// the old one.
func hfs(d *device) string {
	const sb = 1024
	switch magic, version := d.be16(sb), d.be16(sb+2); {
	case magic == 0x482b && version == 4: // "H+"
		return "HFS+"
	case magic == 0x4858 && version == 5: // "HX"
		return "HFSX"
	case magic == 0x4244: // "BD"
		if n := d.be32(sb + 20); n != 0 && n%512 == 0 {
			return "HFS"
		}
	}
	return ""
}

// zfs looks for uberblocks in the two labels at the start of the device: label
// n is 256 KiB long, and its second half is a ring of uberblocks.
func zfs(d *device) string {
	const magic = 0x00bab10c
	for label := int64(0); label < 2; label++ {
		for i := int64(0); i < 128; i++ {
			b := d.at(label<<18+128<<10+i<<10, 8)
			if b == nil {
				break
			}
			if binary.LittleEndian.Uint64(b) == magic || binary.BigEndian.Uint64(b) == magic {
				return "ZFS member"
			}
		}
	}
	return ""
}

// members recognizes what is below a file system: encryption, RAID, volume
// groups, caches, swap.
func members(d *device) string {
	if d.is(0, "LUKS\xba\xbe") {
		return fmt.Sprintf("LUKS%d", d.be16(6))
	}
	if name := mdRaid(d); name != "" {
		return name
	}
	for off := int64(0); off < 4*512; off += 512 {
		if d.is(off, "LABELONE") && d.is(off+24, "LVM2 001") {
			return "LVM2 physical volume"
		}
	}
	// bcache and old bcachefs volumes share a magic, and differ in the version:
	// at most 6 in the one, at least 9 in the other.
	const sb = 4096
	switch {
	case d.is(sb+24, "\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"):
		return "bcachefs"
	case d.is(sb+24, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"):
		if d.le64(sb+16) > 6 {
			return "bcachefs"
		}
		return "bcache"
	}
	for _, page := range []int64{4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10} {
		for _, m := range []string{"SWAPSPACE2", "SWAP-SPACE"} {
			if d.is(page-10, m) {
				return "swap"
			}
		}
		for _, m := range []string{"S1SUSPEND\x00", "S2SUSPEND\x00", "ULSUSPEND\x00", "LINHIB0001"} {
			if d.is(page-10, m) {
				return "swap with a suspended system"
			}
		}
	}
	return d.first([]magicAt{
		{3, "-FVE-FS-", "BitLocker"},
		{0, "bluestore block device\n", "Ceph BlueStore"},
		{0, "dmvdo001", "VDO"},
		{0, "UBI#", "UBI"},
		{0, "\x31\x18\x10\x06", "UBIFS"},
	})
}

// mdRaid recognizes a member of a Linux RAID. Its superblock is at the end
// (0.90, 1.0), at the start (1.1), or 4 KiB behind it (1.2).
func mdRaid(d *device) string {
	const magic = 0xa92b4efc
	sectors := d.size / 512
	for _, v := range []struct {
		name string
		off  int64
	}{
		{"1.1", 0},
		{"1.2", 4096},
		{"1.0", (sectors - 16) &^ 7 * 512},
	} {
		if d.le32(v.off) == magic && d.le32(v.off+4) == 1 {
			return "md RAID member (" + v.name + ")"
		}
	}
	// 0.90 is in the byte order of its machine: magic, major 0, minor 90.
	off := d.size&^(64<<10-1) - 64<<10
	if d.le32(off) == magic && d.le32(off+4) == 0 && d.le32(off+8) == 90 ||
		d.be32(off) == magic && d.be32(off+4) == 0 && d.be32(off+8) == 90 {
		return "md RAID member (0.90)"
	}
	return ""
}
