package bcachefs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/mkfs"
	"github.com/gobcachefs/gobcachefs/internal/signature"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// FormatDevice is a device that becomes a member of a new volume.
type FormatDevice struct {
	Device block.Writer
	// Options of this member by name, values as on the command line: label,
	// durability, discard, data_allowed, bucket_size, fs_size.
	Options map[string]string
}

// FormatOptions of Format. The zero value makes an empty volume of the default
// version with default options.
type FormatOptions struct {
	Version ondisk.Version // 0 for the default, 1.13
	Label   string         // at most 31 bytes
	UUID    ondisk.UUID    // external uuid, zero for a random one
	// Options of the volume by name, values as on the command line:
	// {"compression": "zstd:5", "foreground_target": "ssd"}.
	Options map[string]string
	// SuperblockSize is the room for each copy of the superblock in bytes, 0 for
	// 1 MiB (less on tiny devices).
	SuperblockSize int64
	// Encrypt makes an encrypted volume; the key is stored in the clear when
	// there is no Passphrase.
	Encrypt    bool
	Passphrase []byte
	// Source fills the volume; the zero value leaves it empty.
	Source FormatSource
	// Seed and Time make the result reproducible: the same source, options, Seed,
	// UUID and Time give the same bytes on devices that were all zero. With a Seed
	// the files' times are all that of their modification, and none is later than
	// Time. A Seed is refused with Encrypt.
	Seed string
	Time time.Time // of creation, zero for now
	// Force overwrites what is on the devices.
	Force bool
	// Progress is told of the files and bytes copied, from one goroutine.
	Progress func(files, bytes int64)
	// Warn is told of what could not be copied as it is. It may be called from
	// many goroutines at once.
	Warn func(error)
}

// FormatSource says where the files of a new volume come from.
type FormatSource struct{ src mkfs.Source }

// FormatFromDir copies a directory of the host with everything below it, its own
// owner, mode, times and attributes included; lost+found in it is left out. Files
// must not change meanwhile.
func FormatFromDir(dir string) FormatSource { return FormatSource{mkfs.DirSource{Dir: dir}} }

// FormatFromTar unpacks a tar stream. Later entries replace earlier ones of the
// same name; directories that no entry describes are made. Names that lead out
// of the root are an error.
func FormatFromTar(r io.Reader) FormatSource { return FormatSource{&mkfs.TarSource{R: r}} }

// Formatted says what Format made.
type Formatted struct {
	// Members are the superblocks, in order of the devices.
	Members []*ondisk.Superblock
	// Files counts what was copied, of all types; Dirs the directories among
	// them, Links further names of files, Bytes data without holes.
	Files, Dirs, Links, Bytes int64
	// LostXattrs counts attributes that the format has no place for.
	LostXattrs int64
}

// Format makes a new volume. What the devices held is lost; without Force a
// device that holds something known is refused (errs.ErrBusy, see Holds). When it
// fails after it began to write, the devices hold no volume. The devices stay the
// caller's to close.
//
// Errors: errs.ErrUsage for options that make no sense, errs.ErrUnsupported for
// versions that cannot be made and devices that are too small, ENOSPC when the
// source does not fit.
func Format(ctx context.Context, devices []FormatDevice, o FormatOptions) (*Formatted, error) {
	if len(devices) == 0 {
		return nil, usageErr("no device given")
	}
	if o.Version == 0 {
		o.Version = ondisk.Version1_13
	}
	m := mkfs.Options{Version: o.Version, Label: o.Label, UUID: o.UUID, SuperblockBytes: o.SuperblockSize, Encrypted: o.Encrypt,
		Source: o.Source.src, Progress: o.Progress, Warn: o.Warn, Options: map[string]uint64{}, Targets: map[string]string{}}
	if o.Encrypt {
		m.Passphrase = o.Passphrase
	} else if o.Passphrase != nil {
		return nil, usageErr("a passphrase without encryption")
	}
	if o.Seed != "" {
		m.Seed = mkfs.SeedFrom(o.Seed)
	}
	if !o.Time.IsZero() {
		m.Now = func() time.Time { return o.Time }
	}
	for name, value := range o.Options {
		opt, v, err := FormatOption(name, value)
		switch {
		case err != nil:
			return nil, err
		case opt.Scope&ondisk.OptDevice != 0:
			return nil, usageErr("%s: an option of devices", name)
		case opt.Type == ondisk.OptTarget:
			m.Targets[opt.Name] = value
		default:
			m.Options[opt.Name] = v
		}
	}
	devs := make([]mkfs.Device, len(devices))
	for i, d := range devices {
		var err error
		if devs[i], err = formatDevice(d); err != nil {
			return nil, err
		}
	}
	seen := map[string]bool{}
	for _, d := range devices {
		id := d.Device.Info().ID
		if id != "" && seen[id] {
			return nil, usageErr("%s: given twice", d.Device.Info().Name)
		}
		seen[id] = true
		if what, ok := Holds(ctx, d.Device); ok && !o.Force {
			w := errs.Nowhere
			w.Path = d.Device.Info().Name
			return nil, &errs.Error{Where: w, Kind: errs.ErrBusy, Reason: "holds " + what + "; not overwritten without force"}
		}
	}
	res, err := mkfs.Format(ctx, devs, m)
	if err != nil {
		return nil, err
	}
	return &Formatted{Members: res.Members, Files: res.Stats.Files, Dirs: res.Stats.Dirs, Links: res.Stats.Links, Bytes: res.Stats.Bytes, LostXattrs: res.Stats.LostXattrs}, nil
}

func usageErr(format string, a ...any) error {
	return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUsage, Reason: fmt.Sprintf(format, a...)}
}

// FormatOption finds an option that can be given to Format, for the volume or a
// device, and reads a value of it. The value of a target is 0: it is looked up
// when the labels are known. Besides the options of ondisk there is fs_size.
func FormatOption(name, value string) (*ondisk.Option, uint64, error) {
	opt, ok := formatOption(name)
	if !ok {
		return nil, 0, usageErr("unknown option %s", name)
	}
	if opt.Type == ondisk.OptTarget {
		return opt, 0, nil
	}
	v, err := opt.Parse(value, nil)
	if err == nil && !opt.InVersion(ondisk.Version1_13) {
		err = usageErr("%s needs version %v, the volume is of %v", name, opt.Since, ondisk.Version1_13)
	}
	if err == nil && opt.Scope&ondisk.OptDevice == 0 {
		err = opt.Check(v, ondisk.Version1_13)
	}
	return opt, v, err
}

// fsSize is the option fs_size, which is stored as the number of buckets.
var fsSize = &ondisk.Option{Name: "fs_size", Scope: ondisk.OptDevice, Flags: ondisk.OptFormat | ondisk.OptSize, Type: ondisk.OptUint, Min: 1, Max: 1 << 62, Help: "part of the device to use, size of a new image file"}

func formatOption(name string) (*ondisk.Option, bool) {
	name = strings.ReplaceAll(name, "-", "_")
	switch name {
	case "fs_size":
		return fsSize, true
	case "bucket": // 1.13 calls it so
		name = "bucket_size"
	}
	opt, ok := ondisk.FindOption(name)
	return opt, ok && opt.Flags&ondisk.OptFormat != 0
}

// FormatOptionList lists the options that Format takes, those of volumes and
// those of devices, for help texts.
func FormatOptionList() []*ondisk.Option {
	l := []*ondisk.Option{}
	for _, o := range ondisk.Options() {
		if o.Flags&ondisk.OptFormat != 0 {
			l = append(l, o)
		}
	}
	return append(l, fsSize)
}

func formatDevice(d FormatDevice) (mkfs.Device, error) {
	m := mkfs.Device{W: d.Device, Durability: -1}
	for name, value := range d.Options {
		opt, v, err := FormatOption(name, value)
		if err != nil {
			return m, err
		}
		switch opt.Name {
		case "label":
			m.Label = value
		case "durability":
			m.Durability = int(v)
		case "discard":
			m.Discard = v != 0
		case "data_allowed":
			if v == 0 {
				return m, usageErr("data_allowed: nothing is")
			}
			m.Allowed = uint8(v)
		case "bucket_size":
			m.BucketSize = uint32(v)
		case "fs_size":
			m.Size = int64(v)
		default:
			return m, usageErr("%s: not an option of devices", name)
		}
	}
	return m, nil
}

// FormatExcludes lists, for people, what a volume of a version excludes: what it
// cannot have and who cannot use it.
func FormatExcludes(v ondisk.Version) []string { return mkfs.Excludes(v) }

// CanFormat says whether volumes of a version can be made, and if not, why.
func CanFormat(v ondisk.Version) error { return mkfs.Makeable(v) }

// Holds says what is on a device: a bcachefs volume, another file system, a
// partition table, an archive. ok is false when nothing is known, or it is blank.
func Holds(ctx context.Context, r block.Reader) (what string, ok bool) {
	sb, _, err := ReadSuperblock(ctx, r, 0)
	switch {
	case sb != nil && sb.Label != "":
		return fmt.Sprintf("a member of bcachefs volume %v (%s)", sb.UserUUID, sb.Label), true
	case sb != nil:
		return fmt.Sprintf("a member of bcachefs volume %v", sb.UserUUID), true
	case err != nil && !errors.Is(err, errs.ErrNotBcachefs):
		return "a damaged bcachefs volume", true
	}
	name, ok := signature.Identify(r, r.Size())
	if !ok || strings.HasPrefix(name, "empty") {
		return "", false
	}
	return name, true
}
