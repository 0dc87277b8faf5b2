package signature

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
)

// sparse is a device of zeros with pieces in it; it counts what is read.
type sparse struct {
	size   int64
	pieces map[int64]string
	bad    int64 // reads that reach this offset fail there, if it is not 0
	read   int64
}

func (s *sparse) ReadAt(p []byte, off int64) (int, error) {
	s.read += int64(len(p))
	clear(p)
	n := len(p)
	var err error
	if off+int64(n) > s.size {
		n, err = int(max(0, s.size-off)), io.EOF
	}
	if s.bad != 0 && off < s.bad+512 && off+int64(n) > s.bad {
		n, err = int(max(0, s.bad-off)), errors.New("bad sector")
	}
	for at, piece := range s.pieces {
		from, to := max(at, off), min(at+int64(len(piece)), off+int64(n))
		if from < to {
			copy(p[from-off:to-off], piece[from-at:to-at])
		}
	}
	return n, err
}

func le16(v uint16) string { return string(binary.LittleEndian.AppendUint16(nil, v)) }
func le32(v ...uint32) string {
	var b []byte
	for _, v := range v {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return string(b)
}
func be32(v ...uint32) string {
	var b []byte
	for _, v := range v {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return string(b)
}

// partition is an MBR entry.
func partition(flag, typ byte, start, n uint32) string {
	return string([]byte{flag, 0, 0, 0, typ, 0, 0, 0}) + le32(start, n)
}

const (
	mdMagic   = 0xa92b4efc
	bcachefs1 = "\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"
	bcache    = "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"
	m         = 1 << 20
)

// ext makes the magic and feature words of a superblock.
func extSB(compat, incompat, ro uint32) map[int64]string {
	return map[int64]string{1080: le16(0xef53), 1024 + 92: le32(compat, incompat, ro)}
}

// at makes one piece.
func at(off int64, b string) map[int64]string { return map[int64]string{off: b} }

type pieces = map[int64]string

var tests = []struct {
	what   string
	size   int64
	pieces pieces
	want   string // "" for not recognized
}{
	{"nothing", 0, nil, "empty (0 bytes)"},
	{"one zero", 1, nil, "empty (all zero)"},
	{"zeros", 4 * m, nil, "empty (start and end all zero)"},
	{"small zeros", m, nil, "empty (all zero)"},
	{"last byte set", m, at(m-1, "\x01"), ""},
	{"last byte set, large", 64 * m, at(64*m-1, "\x01"), ""},
	{"data in the middle", 64 * m, at(32*m, "x"), "empty (start and end all zero)"},
	{"text", m, at(0, "hello"), ""},

	{"ext2", m, extSB(0, 0x2, 0x3), "ext2"},
	{"ext3", m, extSB(0x4, 0x6, 0x3), "ext3"},
	{"ext4 by extents", m, extSB(0x4, 0x42, 0x3), "ext4"},
	{"ext4 by huge files", m, extSB(0x4, 0x2, 0xb), "ext4"},
	{"ext4 without journal", m, extSB(0, 0x2c2, 0x7b), "ext4"},
	{"ext journal", m, extSB(0, 0x8, 0), "ext journal device"},
	{"ext magic cut", 1090, at(1080, le16(0xef53)), ""},
	{"btrfs", m, at(65536+64, "_BHRfS_M"), "btrfs"},
	{"xfs", m, at(0, "XFSB"), "XFS"},
	{"f2fs", m, at(1024, le32(0xf2f52010)), "F2FS"},
	{"zfs", m, at(128<<10, le32(0x00bab10c, 0)), "ZFS member"},
	{"zfs, later uberblock", m, at(128<<10+77<<10, le32(0x00bab10c, 0)), "ZFS member"},
	{"zfs, second label, big endian", m, at(256<<10+128<<10+3<<10, be32(0, 0x00bab10c)), "ZFS member"},
	{"zfs magic elsewhere", m, at(127<<10, le32(0x00bab10c, 0)), ""},
	{"ntfs", m, pieces{3: "NTFS    ", 510: "\x55\xaa"}, "NTFS"},
	{"exfat", m, pieces{3: "EXFAT   ", 510: "\x55\xaa"}, "exFAT"},
	{"refs", m, at(3, "ReFS\x00\x00\x00\x00"), "ReFS"},
	{"fat32", m, pieces{0: "\xeb\x58\x90mkfs.fat", 82: "FAT32   ", 510: "\x55\xaa"}, "vfat (FAT32)"},
	{"fat16", m, pieces{0: "\xeb\x3c\x90mkfs.fat", 54: "FAT16   ", 510: "\x55\xaa"}, "vfat (FAT16)"},
	{"fat12", m, pieces{0: "\xe9\x3c\x90mkfs.fat", 54: "FAT12   ", 510: "\x55\xaa"}, "vfat (FAT12)"},
	{"fat without jump", m, pieces{0: "x", 54: "FAT12   ", 510: "\x55\xaa"}, ""},
	{"fat without end mark", m, pieces{0: "\xeb\x3c\x90", 54: "FAT12   "}, ""},
	{"iso9660", m, at(32769, "CD001"), "ISO 9660"},
	{"hybrid iso", m, pieces{32769: "CD001", 446: partition(0x80, 0x17, 0, 100), 510: "\x55\xaa"}, "ISO 9660"},
	{"udf", m, pieces{32769: "BEA01", 34817: "NSR02", 36865: "TEA01"}, "UDF"},
	{"udf bridge", m, pieces{32769: "CD001", 34817: "CD001", 36865: "BEA01", 38913: "NSR03"}, "UDF and ISO 9660"},
	{"squashfs", m, at(0, "hsqs"), "SquashFS"},
	{"squashfs, big endian", m, at(0, "sqsh"), "SquashFS"},
	{"erofs", m, at(1024, le32(0xe0f5e1e2)), "EROFS"},
	{"reiserfs", m, at(65536+52, "ReIsEr2Fs"), "ReiserFS"},
	{"reiserfs 3.5", m, at(8192+52, "ReIsErFs"), "ReiserFS"},
	{"reiser4", m, at(65536, "ReIsEr4"), "Reiser4"},
	{"jfs", m, at(32768, "JFS1"), "JFS"},
	{"nilfs2", m, at(1024, le32(2)+le16(0)+le16(0x3434)+le16(280)), "NILFS2"},
	{"nilfs2 with impossible size", m, at(1024, le32(2)+le16(0)+le16(0x3434)+le16(1)), ""},
	{"nilfs2 of another revision", m, at(1024, le32(3)+le16(0)+le16(0x3434)+le16(280)), ""},
	{"apfs", m, at(32, "NXSB"), "APFS"},
	{"hfs+", m, at(1024, "H+\x00\x04"), "HFS+"},
	{"hfsx", m, at(1024, "HX\x00\x05"), "HFSX"},
	{"hfs+ of another version", m, at(1024, "H+\x00\x07"), ""},
	{"hfs", m, pieces{1024: "BD", 1044: be32(4096)}, "HFS"},
	{"hfs with impossible block", m, pieces{1024: "BD", 1044: be32(100)}, ""},
	{"cramfs", m, at(0, le32(0x28cd3d45)), "cramfs"},
	{"cramfs, big endian", m, at(0, be32(0x28cd3d45)), "cramfs"},
	{"romfs", m, at(0, "-rom1fs-"), "romfs"},
	{"gfs2", m, at(65536, be32(0x01161970)), "GFS2"},
	{"ufs2", m, at(65536+1372, le32(0x19540119)), "UFS2"},
	{"ufs1", m, at(8192+1372, le32(0x00011954)), "UFS1"},

	{"luks1", m, at(0, "LUKS\xba\xbe\x00\x01"), "LUKS1"},
	{"luks2", m, at(0, "LUKS\xba\xbe\x00\x02"), "LUKS2"},
	{"lvm2", m, at(512, "LABELONE................LVM2 001"), "LVM2 physical volume"},
	{"lvm2 in sector 3", m, at(3*512, "LABELONE................LVM2 001"), "LVM2 physical volume"},
	{"another label", m, at(512, "LABELONE................LVM1 001"), ""},
	{"md 1.0", m + 1000, at((m+1000)/512*512/4096*4096-8192, le32(mdMagic, 1)), "md RAID member (1.0)"},
	{"md 1.1", m, at(0, le32(mdMagic, 1)), "md RAID member (1.1)"},
	{"md 1.2", m, at(4096, le32(mdMagic, 1)), "md RAID member (1.2)"},
	{"md 0.90", m + 5000, at(m-65536, le32(mdMagic, 0, 90)), "md RAID member (0.90)"},
	{"md 0.90, big endian", m, at(m-65536, be32(mdMagic, 0, 90)), "md RAID member (0.90)"},
	{"md 0.90 around ext4", m, pieces{m - 65536: le32(mdMagic, 0, 90), 1080: le16(0xef53)}, "md RAID member (0.90)"},
	{"md magic alone", m, at(0, le32(mdMagic, 7)), ""},
	{"bcache", m, at(4096+16, le32(1, 0)+bcache), "bcache"},
	{"old bcachefs", m, at(4096+16, le16(11)+le16(11)+le32(0)+bcache), "bcachefs"},
	{"bcachefs", m, at(4096+24, bcachefs1), "bcachefs"},
	{"swap", m, at(4086, "SWAPSPACE2"), "swap"},
	{"swap, old", m, at(4086, "SWAP-SPACE"), "swap"},
	{"swap, 64k pages", m, at(65526, "SWAPSPACE2"), "swap"},
	{"suspended", m, at(4086, "S1SUSPEND\x00"), "swap with a suspended system"},
	{"hibernated", m, at(4086, "LINHIB0001"), "swap with a suspended system"},
	{"bitlocker", m, at(3, "-FVE-FS-"), "BitLocker"},
	{"ceph", m, at(0, "bluestore block device\n"), "Ceph BlueStore"},
	{"vdo", m, at(0, "dmvdo001"), "VDO"},
	{"ubi", m, at(0, "UBI#"), "UBI"},
	{"ubifs", m, at(0, le32(0x06101831)), "UBIFS"},

	{"qcow", m, at(0, "QFI\xfb"+be32(1)), "qcow image"},
	{"qcow2", m, at(0, "QFI\xfb"+be32(2)), "qcow2 image (version 2)"},
	{"qcow2 v3", m, at(0, "QFI\xfb"+be32(3)), "qcow2 image (version 3)"},
	{"vmdk", m, at(0, "KDMV"), "VMDK image"},
	{"vmdk, old", m, at(0, "COWD"), "VMDK image"},
	{"vmdk text", 400, at(0, "# Disk DescriptorFile\nversion=1\n"), "VMDK descriptor"},
	{"vdi", m, at(64, le32(0xbeda107f)), "VDI image"},
	{"vhd", m, at(0, "conectix"), "VHD image"},
	{"vhd, fixed", m + 512, at(m, "conectix"), "VHD image (fixed)"},
	{"vhdx", m, at(0, "vhdxfile"), "VHDX image"},
	{"qed", m, at(0, "QED\x00"), "QED image"},
	{"parallels", m, at(0, "WithouFreSpacExt"), "Parallels image"},
	{"android sparse", m, at(0, le32(0xed26ff3a)), "Android sparse image"},
	{"dmg", m, at(m-512, "koly"+be32(4)), "Apple disk image"},

	{"gpt", m, pieces{446: partition(0, 0xee, 1, 2047), 510: "\x55\xaa", 512: "EFI PART"}, "GPT partition table"},
	{"gpt, 4k sectors", m, at(4096, "EFI PART"), "GPT partition table"},
	{"protective mbr alone", m, pieces{446: partition(0, 0xee, 1, 2047), 510: "\x55\xaa"}, "GPT partition table (only its protective MBR)"},
	{"mbr", m, pieces{446: partition(0x80, 0x83, 63, 100), 462: partition(0, 5, 200, 100), 510: "\x55\xaa"}, "MBR partition table"},
	{"mbr, only the fourth", m, pieces{494: partition(0, 0x83, 63, 100), 510: "\x55\xaa"}, "MBR partition table"},
	{"mbr without partitions", m, at(510, "\x55\xaa"), ""},
	{"mbr with a bad flag", m, pieces{446: partition(0x81, 0x83, 63, 100), 510: "\x55\xaa"}, ""},
	{"mbr with a partition of no type", m, pieces{446: partition(0, 0, 63, 100), 510: "\x55\xaa"}, ""},
	{"mbr with a partition of no length", m, pieces{446: partition(0, 0x83, 63, 0), 510: "\x55\xaa"}, ""},
	{"apple partitions", m, pieces{0: "ER", 512: "PM\x00\x00"}, "Apple partition map"},

	{"gzip", 100, at(0, "\x1f\x8b\x08\x00"), "gzip compressed file"},
	{"xz", 100, at(0, "\xfd7zXZ\x00"), "xz compressed file"},
	{"zstd", 100, at(0, "\x28\xb5\x2f\xfd"), "zstd compressed file"},
	{"lz4", 100, at(0, "\x04\x22\x4d\x18"), "lz4 compressed file"},
	{"lzip", 100, at(0, "LZIP\x01"), "lzip compressed file"},
	{"bzip2", 100, at(0, "BZh91AY&SY"), "bzip2 compressed file"},
	{"bzip2, nothing in it", 14, at(0, "BZh9\x17\x72\x45\x38\x50\x90"), "bzip2 compressed file"},
	{"bzip2 level 0", 100, at(0, "BZh01AY&SY"), ""},
	{"zip", 100, at(0, "PK\x03\x04"), "zip archive"},
	{"zip, nothing in it", 22, at(0, "PK\x05\x06"), "zip archive"},
	{"7z", 100, at(0, "7z\xbc\xaf\x27\x1c"), "7z archive"},
	{"rar", 100, at(0, "Rar!\x1a\x07\x01\x00"), "rar archive"},
	{"tar", 10240, pieces{0: "name", 257: "ustar\x0000"}, "tar archive"},
	{"tar, gnu", 10240, pieces{0: "name", 257: "ustar  \x00"}, "tar archive"},
	{"elf", 100, at(0, "\x7fELF"), "ELF program"},
	{"pdf", 100, at(0, "%PDF-1.7"), "PDF document"},
}

func TestIdentify(t *testing.T) {
	for _, tt := range tests {
		d := &sparse{size: tt.size, pieces: tt.pieces}
		got, ok := Identify(d, tt.size)
		if got != tt.want || ok != (tt.want != "") {
			t.Errorf("%s: Identify = %q, %v, want %q, %v", tt.what, got, ok, tt.want, tt.want != "")
		}
		if d.read > 2*m {
			t.Errorf("%s: Identify read %d bytes, want 2 MiB at most", tt.what, d.read)
		}
	}
}

// A signature is found also where a bad sector comes before it, and none is made
// up where it lies in the bad sector.
func TestIdentifyBadSectors(t *testing.T) {
	for _, tt := range tests {
		if len(tt.pieces) != 1 || strings.HasPrefix(tt.want, "empty") {
			continue
		}
		for off := range tt.pieces {
			if off >= 1024 {
				if got, ok := Identify(&sparse{size: tt.size, pieces: tt.pieces, bad: 512}, tt.size); got != tt.want || ok != (tt.want != "") {
					t.Errorf("%s beside a bad sector: Identify = %q, %v, want %q", tt.what, got, ok, tt.want)
				}
				if got, ok := Identify(&sparse{size: tt.size, pieces: tt.pieces, bad: off/512*512 + 1}, tt.size); ok {
					t.Errorf("%s in a bad sector: Identify = %q, true, want none", tt.what, got)
				}
			}
		}
	}
}

func FuzzIdentify(f *testing.F) {
	for _, tt := range tests {
		if tt.size <= 10240 {
			b := make([]byte, tt.size)
			(&sparse{size: tt.size, pieces: tt.pieces}).ReadAt(b, 0)
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		name, ok := Identify(bytes.NewReader(b), int64(len(b)))
		if ok != (name != "") {
			t.Errorf("Identify = %q, %v", name, ok)
		}
		// A size that is a lie must do no harm.
		Identify(bytes.NewReader(b), int64(len(b))+70_000)
		Identify(bytes.NewReader(b), int64(len(b))/2)
	})
}
