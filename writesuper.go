package bcachefs

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/internal/engine"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/internal/objects"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// OptionSetting is a new value of an option that the superblock keeps.
type OptionSetting struct {
	Name, Value string
	Member      int // -1: an option of the volume
}

// OptionChange is what SetOptions did.
type OptionChange struct {
	OptionSetting
	Old, New string // as they are shown
}

// SetOptions changes options that the superblock keeps, all of them or none. The
// values have the syntax of their options; targets are paths of members as they
// were given, or labels. What was written stays as it is; where data must follow
// an option, background work of a mount moves it.
//
// Errors: errs.ErrUsage for an unknown option or a bad value; errs.ErrUnsupported
// for what can only be set at format time, or not at the volume's version.
func (v *WritableVolume) SetOptions(ctx context.Context, settings ...OptionSetting) ([]OptionChange, error) {
	var done []OptionChange
	err := v.do(ctx, func(ctx context.Context) (seq uint64, err error) {
		scan := false
		change := func(sb *ondisk.Superblock) error {
			done, scan = nil, false
			before := sb.Append(nil)
			for _, s := range settings {
				c, err := v.setOption(sb, s)
				if err != nil {
					return err
				}
				done = append(done, c)
				scan = scan || c.Old != c.New && s.Member < 0
			}
			if bytes.Equal(sb.Append(nil), before) {
				return members.ErrUnchanged
			}
			return nil
		}
		if err := v.rw.WS.Update(ctx, change); err != nil || !scan {
			return 0, err
		}
		for _, c := range done {
			if opt, _ := ondisk.FindOption(c.Name); c.Member < 0 && c.Old != c.New && objects.MovesData(opt) {
				return v.w.Scan(ctx)
			}
		}
		return 0, nil
	})
	if err != nil {
		done = nil
	}
	return done, err
}

// setOption changes one option in a superblock.
func (v *WritableVolume) setOption(sb *ondisk.Superblock, s OptionSetting) (OptionChange, error) {
	c := OptionChange{OptionSetting: s}
	opt, err := settable(sb, s.Name, s.Value, s.Member)
	if err != nil {
		return c, err
	}
	c.Name = opt.Name
	if s.Member >= 0 {
		return c, setMember(sb, opt, &c)
	}
	n, err := opt.Parse(s.Value, v.w.Target)
	if err != nil {
		return c, err
	}
	c.Old, c.New = opt.Format(opt.Get(sb), sb.TargetString), opt.Format(n, sb.TargetString)
	if f, ok := objects.FeatureOf(opt, n); ok {
		sb.SetFeature(f, true)
	}
	return c, opt.Set(sb, n)
}

// settable finds an option and says whether it can be changed in a volume.
func settable(sb *ondisk.Superblock, name, value string, member int) (*ondisk.Option, error) {
	usage := func(format string, a ...any) error {
		return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUsage, Reason: fmt.Sprintf(format, a...)}
	}
	refuse := func(format string, a ...any) error {
		return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUnsupported, Reason: fmt.Sprintf(format, a...)}
	}
	opt, ok := ondisk.FindOption(name)
	switch {
	case !ok || opt.Flags&ondisk.OptInternal != 0:
		return nil, usage("unknown option %s", name)
	case !opt.Stored() && !opt.MemberStored():
		if opt.InodeID() >= 0 {
			return nil, usage("%s is an option of files: use set-file-option", opt.Name)
		}
		return nil, usage("%s is an option of a mount: it is not stored", opt.Name)
	case opt.MemberStored() && member < 0:
		return nil, usage("%s is an option of a member: say which one", opt.Name)
	case !opt.MemberStored() && member >= 0:
		return nil, usage("%s is an option of the volume, not of a member", opt.Name)
	case opt.Flags&(ondisk.OptMount|ondisk.OptRuntime) == 0:
		return nil, refuse("%s can only be set at format time", opt.Name)
	case sb.Version < opt.Since:
		return nil, refuse("%s=%s needs version %v, volume is %v", opt.Name, value, opt.Since, sb.Version)
	case !opt.InVersion(sb.Version):
		return nil, refuse("%s is no option of version %v", opt.Name, sb.Version)
	case opt.Name == "state":
		return nil, refuse("state cannot be set here: data may have to be moved first")
	}
	return opt, nil
}

// setMember changes an option of a member in a superblock.
func setMember(sb *ondisk.Superblock, opt *ondisk.Option, c *OptionChange) error {
	ms, err := sb.Members()
	if err != nil {
		return err
	}
	if c.Member >= len(ms) || !ms[c.Member].Exists() {
		return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUsage, Reason: fmt.Sprintf("no member %d", c.Member)}
	}
	m := &ms[c.Member]
	n, err := opt.Parse(c.Value, nil)
	if err != nil {
		return err
	}
	if opt.Name == "label" {
		g := -1
		c.Old, c.New = sb.GroupPath(m.Group()), c.Value
		if c.Value != "" {
			if g, err = sb.AddGroup(c.Value); err != nil {
				return err
			}
		}
		m.SetGroup(g)
	} else {
		c.Old, c.New = opt.Format(opt.GetMember(m), nil), opt.Format(n, nil)
		if err := opt.SetMember(m, n); err != nil {
			return err
		}
	}
	return sb.SetMembers(ms, sb.MemberStride())
}

// updateSuper changes the superblock of a volume that is not in use, and nothing
// else: an unclean volume stays so.
func updateSuper(ctx context.Context, devices []block.Writer, o Options, unlock bool, change func(set *members.Set, sb *ondisk.Superblock) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	readers := make([]block.Reader, len(devices))
	for i, d := range devices {
		readers[i] = d
	}
	mo := o.engine().Members
	mo.SuperOnly = !unlock
	if mo.Warn == nil {
		mo.Warn = func(error) {}
	}
	set, err := members.Open(ctx, readers, mo)
	if err != nil {
		return err
	}
	if err := engine.Writable(set.SB); err != nil {
		return err
	}
	ws, err := members.NewWriteSet(set, nil)
	if err != nil {
		return err
	}
	return ws.Update(context.WithoutCancel(ctx), func(sb *ondisk.Superblock) error { return change(set, sb) })
}

func notEncrypted() error {
	return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUnsupported, Reason: "the volume is not encrypted"}
}

// SetPassphrase makes passphrase the one that opens an encrypted volume. The
// options give the present one, if there is one. The volume's own key, and so its
// data, stays: copies of the old superblock still open with the old passphrase.
func SetPassphrase(ctx context.Context, devices []block.Writer, o Options, passphrase []byte) error {
	if len(passphrase) == 0 {
		return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUsage, Reason: "empty passphrase: use remove-passphrase"}
	}
	return updateSuper(ctx, devices, o, true, func(set *members.Set, sb *ondisk.Superblock) error {
		c, err := sb.Crypt()
		if err != nil {
			return err
		}
		if c == nil || set.Master == nil {
			return notEncrypted()
		}
		c.Flags, c.KDFFlags = 0, crypt.DefaultKDFFlags // scrypt
		k, err := crypt.DeriveKey(passphrase, c.KDFFlags)
		if err != nil {
			return err
		}
		c.Key = crypt.SealKey(set.Master, &k, sb.UUID)
		sb.SetCrypt(c)
		return nil
	})
}

// RemovePassphrase stores the key of an encrypted volume in the clear: whoever
// has the devices can then read it.
func RemovePassphrase(ctx context.Context, devices []block.Writer, o Options) error {
	return updateSuper(ctx, devices, o, true, func(set *members.Set, sb *ondisk.Superblock) error {
		c, err := sb.Crypt()
		if err != nil {
			return err
		}
		switch {
		case c == nil || set.Master == nil:
			return notEncrypted()
		case crypt.IsPlain(&c.Key):
			return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUnsupported, Reason: "the volume has no passphrase"}
		}
		c.Key = crypt.SealKey(set.Master, nil, sb.UUID)
		sb.SetCrypt(c)
		return nil
	})
}

// ResetCounters sets event counters of the superblock to zero, all of them if
// none is named, and says how many were not.
func ResetCounters(ctx context.Context, devices []block.Writer, o Options, counters []ondisk.Counter) (n int, err error) {
	err = updateSuper(ctx, devices, o, false, func(_ *members.Set, sb *ondisk.Superblock) error {
		n = 0
		l := slices.Clone(sb.Counters())
		for i := range l {
			if l[i] != 0 && (len(counters) == 0 || slices.Contains(counters, ondisk.Counter(i))) {
				l[i] = 0
				n++
			}
		}
		if n == 0 {
			return members.ErrUnchanged
		}
		sb.SetCounters(l)
		return nil
	})
	return n, err
}

// SuperCopy is a superblock that FindSupers met.
type SuperCopy struct {
	Sector uint64
	SB     *ondisk.Superblock
	Err    error // why it cannot be used; SB is nil then
}

// FindSupers searches a device for superblocks, good and bad ones: in length
// bytes from offset on, or, with length 0, in the first and the last 16 MiB.
func FindSupers(ctx context.Context, r block.Reader, offset, length int64) ([]SuperCopy, error) {
	l, err := members.FindSupers(ctx, r, offset, length)
	out := make([]SuperCopy, len(l))
	for i, c := range l {
		out[i] = SuperCopy{c.Sector, c.SB, c.Err}
	}
	return out, err
}

// RestoreSuper writes the superblock that a device has at a sector to all the
// places where its copies belong, unless they have it already, and says to which
// it wrote. Only what can be written back byte by byte is: a superblock of which
// this program would lose something is refused.
func RestoreSuper(ctx context.Context, w block.Writer, sector uint64) (written []uint64, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return members.RestoreSuper(context.WithoutCancel(ctx), w, sector)
}
