package explain

import (
	"io"
	"strings"
	"time"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// ShowSuperOpts say what of a superblock is printed, and how.
type ShowSuperOpts struct {
	// Style is whose text is printed; nil: that of the release that would have
	// made a volume of this version.
	Style *Style
	// Fields are the sections to print; nil: members, ext and the error counts.
	Fields []ondisk.SBFieldType
	// All prints every section, also those without a name.
	All bool
	// Only prints the sections without anything else.
	Only bool
	// Layout prints where the copies are.
	Layout bool
	// Location is where times are shown, nil for the local one.
	Location *time.Location
	// DevName is the file name of the device, which style 1.39 prints with
	// pointers to it.
	DevName string
	// DevKind is what style 1.13 says of the device: its model, "(reg file)" for
	// a file, "" for an unknown device.
	DevKind string
	// MemberPaths are what style 1.39 says of the members: their device and
	// model. Missing ones are "(not found)".
	MemberPaths []string
	// Escape prints bytes of labels and names that are no printable ASCII as
	// \xNN. The reference prints them as they are.
	Escape bool
}

// StyleOf is the style of the release that goes with the version of a volume.
func StyleOf(sb *ondisk.Superblock) Style {
	if sb.Version <= ondisk.Version1_13 {
		return Style1_13
	}
	return Style1_39
}

// ParseSuperFields reads the argument of -f: names separated by commas, or
// "all".
func ParseSuperFields(s string) (fields []ondisk.SBFieldType, all bool, err error) {
	if s == "all" {
		return nil, true, nil
	}
	for _, n := range strings.Split(s, ",") {
		t, ok := ondisk.ParseSBFieldType(n)
		if !ok {
			return nil, false, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUsage, Reason: "bad superblock field " + n}
		}
		fields = append(fields, t)
	}
	return fields, false, nil
}

// superText prints a superblock.
type superText struct {
	w
	sb      *ondisk.Superblock
	opts    ShowSuperOpts
	loc     *time.Location
	members []ondisk.Member
	groups  []ondisk.DiskGroup
	held    map[uint8]uint64 // data types that members hold, by the replicas
	// column is where values start, counted from 0. The reference has 43 with
	// the header and 31 without.
	column int
	known  styleLimits
}

// styleLimits are the first ids that the release of a style does not know. It
// passes over most of them and calls others unknown.
type styleLimits struct {
	version ondisk.Version
	field   ondisk.SBFieldType
	err     ondisk.ErrorID
	pass    ondisk.RecoveryPass
	btree   ondisk.BtreeID
	data    ondisk.DataType
	entry   ondisk.JsetEntryType
	counter int
}

var (
	limits1_13 = styleLimits{ondisk.Version1_14, 15, 290, 41, 21, 11, 13, 79}
	limits1_39 = styleLimits{ondisk.VersionNewest + 1, ondisk.NrSBFields, ondisk.NrErrorIDs, ondisk.NrRecoveryPasses, ondisk.NrBtrees, ondisk.NrDataTypes, 16, ondisk.NrCounters}
)

// ShowSuper prints a superblock as text, byte for byte as the maker's tools 1.13
// or 1.39 do, as far as they are known to: what 1.39 makes of sections that no
// volume at hand has is our own. Known differences, all on purpose:
//
//   - Tools 1.39 read past the end of an ext section of 1.13 and print what
//     follows it as options; here such options are what a mount would use.
//   - A section that does not decode is reported, and the rest printed. The
//     tools refuse the superblock, or loop.
//   - Tools 1.13 print "(null)" for -F of an empty or missing section; here
//     nothing is printed.
//
// sb need not have passed Validate.
func ShowSuper(out io.Writer, sb *ondisk.Superblock, opts ShowSuperOpts) error {
	t := newSuperText(sb, opts)
	if !opts.Only {
		t.head()
		t.options()
		if opts.Layout {
			t.layout()
		}
	}
	t.sections()
	_, err := out.Write(t.b)
	return err
}

func newSuperText(sb *ondisk.Superblock, opts ShowSuperOpts) *superText {
	style := StyleOf(sb)
	if opts.Style != nil {
		style = *opts.Style
	}
	env := NewEnv(sb, style)
	env.Escape = opts.Escape
	t := &superText{w: w{Env: env}, sb: sb, opts: opts, loc: opts.Location, members: env.Members, column: 43, known: limits1_39}
	t.groups, _ = sb.DiskGroups()
	replicas, _ := sb.Replicas()
	t.held = map[uint8]uint64{}
	for _, e := range replicas {
		for _, d := range e.Devs {
			t.held[d] |= 1 << (e.DataType & 63)
		}
	}
	if t.loc == nil {
		t.loc = time.Local
	}
	if env.old() {
		t.known = limits1_13
	}
	if opts.Only {
		t.column = 31
	}
	return t
}

// pad adds spaces up to a column of the line that began at start.
func (t *superText) pad(start, column int) {
	for n := len(t.b) - start; n < column; n++ {
		t.b = append(t.b, ' ')
	}
}

// label starts a line: the value follows at the usual column.
func (t *superText) label(name string) {
	start := len(t.b)
	t.s(name)
	t.pad(start, t.column)
}

// line prints a line. The text is a format.
func (t *superText) line(name, format string, a ...any) {
	t.label(name)
	t.f(format, a...)
	t.s("\n")
}

// escaped prints text of the volume.
func (t *superText) escaped(name, text string) {
	t.label(name)
	t.text([]byte(text))
	t.s("\n")
}

func (t *superText) list(names []string) { t.s(strings.Join(names, ",")) }

func (t *superText) size(v uint64) string { return sizeText(v, t.old()) }

func (t *superText) date(sec uint64) string { return dateText(sec, t.loc) }

func (t *superText) versionText(v ondisk.Version) string {
	name := v.Name()
	if v >= t.known.version {
		name = "(unknown version)"
	}
	if t.old() {
		return v.String() + ": " + name
	}
	return name + " (" + v.String() + ")"
}

// alive: the release of the style takes the slot for a member. The UUID of
// removed members is newer than 1.13.
func (t *superText) alive(m *ondisk.Member) bool {
	if t.old() {
		return !m.UUID.IsZero()
	}
	return m.Exists()
}

func (t *superText) head() {
	sb := t.sb
	if t.old() {
		kind := t.opts.DevKind
		if kind == "" {
			kind = "(unknown device)"
		}
		t.line("Device:", " %s", kind)
	}
	t.line("External UUID:", "%v", sb.UserUUID)
	t.line("Internal UUID:", "%v", sb.UUID)
	t.line("Magic number:", "%v", sb.Magic)
	t.line("Device index:", "%d", sb.DevIdx)
	if sb.Label == "" {
		t.line("Label:", "(none)")
	} else {
		t.escaped("Label:", sb.Label)
	}
	t.line("Version:", "%s", t.versionText(sb.Version))
	if !t.old() {
		t.line("Incompatible features allowed:", "%s", t.versionText(sb.VersionIncompatAllowed()))
		t.line("Incompatible features in use:", "%s", t.versionText(sb.VersionIncompat()))
	}
	t.line("Version upgrade complete:", "%s", t.versionText(sb.VersionUpgradeComplete()))
	t.line("Oldest version on disk:", "%s", t.versionText(sb.VersionMin))
	t.line("Created:", "%s", t.date(uint64(sb.Created().Unix())))
	t.line("Sequence number:", "%d", sb.Seq)
	t.line("Time of last write:", "%s", t.date(sb.WriteTime))
	t.line("Superblock size:", "%s/%s", t.size(uint64(sb.Bytes())), t.size(sb.Layout.Reserved()<<9))
	t.line("Clean:", "%d", btoi(sb.Clean()))
	n := 0
	for i := range t.members {
		n += btoi(t.alive(&t.members[i]))
	}
	t.line("Devices:", "%d", n)
	t.label("Sections:")
	var names []string
	for f := range t.known.field {
		if sb.Field(f) != nil {
			names = append(names, f.String())
		}
	}
	t.list(names)
	t.s("\n")
	names = nil
	for _, f := range sb.FeatureBits() {
		if f < ondisk.NrFeatures {
			names = append(names, f.String())
		}
	}
	t.label("Features:")
	t.list(names)
	t.s("\n")
	names = nil
	for _, c := range sb.CompatBits() {
		if c < ondisk.NrCompats && (!t.old() || c != ondisk.CompatNoStalePtrs) {
			names = append(names, c.String())
		}
	}
	t.label("Compat features:")
	t.list(names)
	t.s("\n")
}

// styleVersion is the format version of the release that the style is of.
func (t *superText) styleVersion() ondisk.Version {
	if t.old() {
		return ondisk.Version1_13
	}
	return ondisk.Version1_39
}

func (t *superText) options() {
	t.s("\nOptions:\n")
	for _, o := range ondisk.Options() {
		if !o.Stored() || !o.InVersion(t.styleVersion()) {
			continue
		}
		t.label("  " + o.NameAt(t.styleVersion()) + ":")
		v := o.Effective(t.sb)
		switch {
		case o.Type == ondisk.OptEnum:
			for i, c := range o.Choices {
				if uint64(i) == v {
					c = "[" + c + "]"
				}
				t.s(c + " ")
			}
		case o.Type == ondisk.OptTarget:
			t.target(uint16(v))
		case o.Flags&ondisk.OptSize != 0:
			t.s(t.size(v))
		default:
			t.s(o.Format(v, nil))
		}
		t.s("\n")
	}
}

func (t *superText) target(target uint16) {
	dev, group := ondisk.DecodeTarget(target)
	switch {
	case dev >= 0 && dev < len(t.members) && t.alive(&t.members[dev]):
		t.f("Device %v (%d)", t.members[dev].UUID, dev)
	case dev >= 0:
		t.f("Bad device %d", dev)
	case group >= 0:
		if p := t.groupPath(group); p != "" {
			t.text([]byte(p))
		} else {
			t.f("invalid label %d", group)
		}
	default:
		t.s("none")
	}
}

// groupPath is the label of a group that exists, else "".
func (t *superText) groupPath(i int) string {
	if i < 0 || i >= len(t.groups) || t.groups[i].Deleted {
		return ""
	}
	return t.sb.GroupPath(i)
}

func (t *superText) layout() {
	l := t.sb.Layout
	column := t.column
	t.column = 27
	t.s("\nlayout:\n")
	t.line("  Type:", "%d", l.Type)
	t.line("  Superblock max size:", "%s", t.size(l.Reserved()<<9))
	t.line("  Nr superblocks:", "%d", len(l.Offsets))
	t.label("  Offsets:")
	for i, o := range l.Offsets {
		if i > 0 {
			t.s(", ")
		}
		t.f("%d", o)
	}
	t.s("\n")
	t.column = column
}
