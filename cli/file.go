package cli

import (
	"fmt"
	"time"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// typeName is the name of a file type in words, as JSON has it.
func typeName(mode uint32) string {
	switch mode & ondisk.ModeTypeMask {
	case ondisk.ModeRegular:
		return "file"
	case ondisk.ModeDir:
		return "directory"
	case ondisk.ModeSymlink:
		return "symlink"
	case ondisk.ModeChar:
		return "char"
	case ondisk.ModeBlock:
		return "block"
	case ondisk.ModeFifo:
		return "fifo"
	case ondisk.ModeSocket:
		return "socket"
	}
	return fmt.Sprintf("unknown (%#o)", mode&ondisk.ModeTypeMask)
}

// typeLetter is the type as ls -l shows it.
func typeLetter(mode uint32) byte {
	switch mode & ondisk.ModeTypeMask {
	case ondisk.ModeRegular:
		return '-'
	case ondisk.ModeDir:
		return 'd'
	case ondisk.ModeSymlink:
		return 'l'
	case ondisk.ModeChar:
		return 'c'
	case ondisk.ModeBlock:
		return 'b'
	case ondisk.ModeFifo:
		return 'p'
	case ondisk.ModeSocket:
		return 's'
	}
	return '?'
}

// modeString is the mode as ls -l shows it.
func modeString(mode uint32) string {
	b := []byte("?rwxrwxrwx")
	b[0] = typeLetter(mode)
	for i := range 9 {
		if mode>>(8-i)&1 == 0 {
			b[1+i] = '-'
		}
	}
	special := func(bit uint32, at int, with, without byte) {
		if mode&bit == 0 {
			return
		}
		if b[at] == 'x' {
			b[at] = with
		} else {
			b[at] = without
		}
	}
	special(0o4000, 3, 's', 'S')
	special(0o2000, 6, 's', 'S')
	special(0o1000, 9, 't', 'T')
	return string(b)
}

// jsonFile is a file in JSON, the same in every command. Sizes are bytes.
type jsonFile struct {
	Path      string `json:"path"`
	PathRaw   string `json:"path_base64,omitempty"` // when path is not UTF-8
	Type      string `json:"type"`
	Mode      string `json:"mode"` // octal, without the type
	Nlink     uint32 `json:"nlink"`
	UID       uint32 `json:"uid"`
	GID       uint32 `json:"gid"`
	Size      uint64 `json:"size"`
	Allocated uint64 `json:"allocated"` // the part of the file that is no hole
	BlockSize uint32 `json:"block_size"`
	Major     uint32 `json:"major,omitempty"`
	Minor     uint32 `json:"minor,omitempty"`
	Ino       uint64 `json:"ino"` // st_ino of a mount
	Subvolume uint32 `json:"subvolume"`
	Inode     uint64 `json:"inode"` // the number itself
	jsonTimes
	Generation uint32   `json:"generation"`
	Project    uint32   `json:"project,omitempty"`
	Flags      []string `json:"flags,omitempty"`
	SubvolRoot uint32   `json:"subvolume_root,omitempty"`
	Target     *string  `json:"target,omitempty"`
	TargetRaw  string   `json:"target_base64,omitempty"`
}

type jsonTimes struct {
	Atime     string `json:"atime"`
	AtimeUnix int64  `json:"atime_unix"`
	Mtime     string `json:"mtime"`
	MtimeUnix int64  `json:"mtime_unix"`
	Ctime     string `json:"ctime"`
	CtimeUnix int64  `json:"ctime_unix"`
	Btime     string `json:"btime"`
	BtimeUnix int64  `json:"btime_unix"`
}

func newJSONFile(path string, a *bcachefs.Attr) jsonFile {
	utc := func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
	f := jsonFile{
		Path: path, PathRaw: rawBytes(path), Type: typeName(a.Mode), Mode: fmt.Sprintf("%04o", a.Mode&0o7777),
		Nlink: a.Nlink, UID: a.UID, GID: a.GID, Size: a.Size, Allocated: a.Blocks * 512, BlockSize: a.BlockSize,
		Major: a.RdevMajor, Minor: a.RdevMinor, Ino: a.Ino, Subvolume: a.ID.Subvol, Inode: a.ID.Inode,
		jsonTimes:  jsonTimes{utc(a.Atime), a.Atime.Unix(), utc(a.Mtime), a.Mtime.Unix(), utc(a.Ctime), a.Ctime.Unix(), utc(a.Btime), a.Btime.Unix()},
		Generation: a.Generation, Project: a.Project, Flags: flagNames(a.Flags), SubvolRoot: a.SubvolRoot,
	}
	return f
}

func (f *jsonFile) setTarget(t string) {
	f.Target, f.TargetRaw = &t, rawBytes(t)
}

func flagNames(f bcachefs.AttrFlags) (names []string) {
	for _, x := range []struct {
		on   bool
		name string
	}{{f.Sync, "sync"}, {f.Immutable, "immutable"}, {f.Append, "append"}, {f.Nodump, "nodump"}, {f.Noatime, "noatime"}, {f.Casefold, "casefold"}} {
		if x.on {
			names = append(names, x.name)
		}
	}
	return names
}
