package ondisk

import (
	"math"
	"math/bits"
)

// OptScope says what an option can be set for. An option can have several.
type OptScope uint8

// Scopes.
const (
	OptFS OptScope = 1 << iota
	OptDevice
	OptInode
)

// OptFlags say where an option is accepted and how it is written (the letters
// of chapter 08 section 1.1).
type OptFlags uint8

// Flags.
const (
	OptFormat      OptFlags = 1 << iota // fmt: by the formatter
	OptMount                            // M: as a mount option
	OptMountNotice                      // Mo: as a mount option that 1.39 ignores
	OptRuntime                          // R: may change while mounted
	OptSize                             // H: a byte size in human form
	OptPow2                             // P2: a power of two
	OptInternal                         // not for users
)

// OptType is the syntax of values (chapter 08 section 1.4).
type OptType uint8

// Types. Values of all but strings are numbers.
const (
	OptBool        OptType = iota
	OptUint                // a number between Min and Max
	OptEnum                // an index in Choices
	OptBits                // a bit for each name in Choices; empty names cannot be chosen
	OptChoice              // like OptEnum, value index plus one, 0 not set
	OptTarget              // a device or a group, see DecodeTarget
	OptCompression         // type | level<<4
	OptString              // at most Max bytes; the number is 0
)

// optEnc is how a value is transformed for storage.
type optEnc uint8

const (
	encRaw     optEnc = iota
	encSectors        // value / 512
	encLog2           // log2(value / 512)
	encPlus1          // value + 1, 0 not set
)

type optWhere uint8

const (
	storeNone      optWhere = iota // mount only
	storeBlockSize                 // the field of that name
	storeFlags                     // bits of a flag word
	storeSplit                     // low nibble there, high nibble in another word
	storeExt                       // bits of flags0 of the field ext
	storeMember                    // bits of the flags of a member
	storeBucketSize
	storeDomain
	storeGroup
)

type optStore struct {
	where optWhere
	bits  sbBits // word is unused for ext and members
	high  sbBits // storeSplit: the high nibble
	enc   optEnc
}

// Option describes one option: everything that parsing, storing and printing it
// needs (chapter 08 sections 1.2 and 1.3). Options are shared: do not change.
type Option struct {
	Name string
	// OldName is the name up to 1.13 when that was another one.
	OldName  string
	Scope    OptScope
	Flags    OptFlags
	Type     OptType
	Min, Max uint64 // as 1.39 has them, both inclusive
	// OldMax bounds what may be written to volumes below 1.39, whose readers
	// take the bound as exclusive; 0 is no other than Max.
	OldMax  uint64
	Choices []string
	// Default is what 1.39 starts with, OldDefault what 1.13 did.
	Default, OldDefault uint64
	// Since and Until are the first and last version that has the option, 0 for
	// unbounded. Between 1.13 and 1.39 they are often only known to lie there.
	Since, Until Version
	Help         string

	store optStore
	inode int // option id of inodes plus one
}

// Options lists all options: those in the superblock in the order in which
// show-super prints them, those of members, then the others.
func Options() []*Option { return optionList }

// FindOption finds an option by its name of 1.13 or 1.39.
func FindOption(name string) (*Option, bool) {
	o, ok := optionsByName[name]
	return o, ok
}

// InodeOption is the option with an id of chapter 04 section 1.6, the bit in
// Inode.FieldsSet; nil for unknown ids.
func InodeOption(id int) *Option {
	if id < 0 || id >= NrInodeOpts {
		return nil
	}
	return inodeOptions[id]
}

// InodeID is the id that the option has in inodes, -1 when it has none.
func (o *Option) InodeID() int { return o.inode - 1 }

// InVersion: releases of format v have the option.
func (o *Option) InVersion(v Version) bool { return v >= o.Since && (o.Until == 0 || v <= o.Until) }

// NameAt is the name of the option in releases of format v.
func (o *Option) NameAt(v Version) string {
	if o.OldName != "" && v <= Version1_13 {
		return o.OldName
	}
	return o.Name
}

// DefaultAt is the default of releases of format v.
func (o *Option) DefaultAt(v Version) uint64 {
	if v <= Version1_13 {
		return o.OldDefault
	}
	return o.Default
}

// Stored: the superblock has a place for the option (not counting members).
func (o *Option) Stored() bool {
	return o.store.where != storeNone && !o.MemberStored()
}

// MemberStored: members have a place for the option.
func (o *Option) MemberStored() bool { return o.store.where >= storeMember }

// decode turns a stored number into a value.
func (o *Option) decode(v uint64) uint64 {
	switch o.store.enc {
	case encSectors:
		return v << 9
	case encLog2:
		if v > 40 {
			return math.MaxUint64
		}
		return 512 << v
	case encPlus1:
		if v == 0 {
			return o.Default
		}
		return v - 1
	}
	return v
}

func (o *Option) encode(v uint64) uint64 {
	switch o.store.enc {
	case encSectors:
		return v >> 9
	case encLog2:
		return uint64(bits.Len64(v>>9)) - 1
	case encPlus1:
		return v + 1
	}
	return v
}

// Get is the value that the superblock stores, in the unit of the option. What
// was never stored is 0; see Effective. Options without a place give their
// default.
func (o *Option) Get(sb *Superblock) uint64 {
	switch o.store.where {
	case storeBlockSize:
		return o.decode(uint64(sb.BlockSize))
	case storeFlags:
		return o.decode(o.store.bits.get(sb))
	case storeSplit:
		return o.store.bits.get(sb) | o.store.high.get(sb)<<4
	case storeExt:
		e, err := sb.Ext()
		if err != nil {
			return 0
		}
		return o.decode(e.Flags0 >> o.store.bits.lo & o.store.bits.mask())
	}
	return o.DefaultAt(sb.Version)
}

// Effective is Get with what readers fill in for values that were never stored
// (chapter 08 section 1.6). One fill-in is left out on purpose: 1.39 forces
// errors to fix_safe when it upgrades a volume from below 1.19.
func (o *Option) Effective(sb *Superblock) uint64 {
	v := o.Get(sb)
	switch o.Name {
	case "promote_whole_extents":
		if sb.Version <= Version1_9 {
			return 1
		}
	case "allocator_stuck_timeout":
		if v == 0 && sb.Version <= Version1_9 {
			return 30
		}
	case "checksum_err_retry_nr":
		if v == 0 && sb.Version <= Version1_0+25 {
			return 3
		}
	case "journal_rewind_discard_buffer_percent":
		if v == 0 && sb.Version <= Version1_0+37 {
			return 4
		}
	default:
		if f, ok := zeroFillIns[o.Name]; ok && v == 0 {
			return f
		}
	}
	return v
}

// zeroFillIns are what 0 means, in all versions.
var zeroFillIns = map[string]uint64{
	"journal_flush_delay":        1000,
	"journal_reclaim_delay":      1000, // not the 100 of the formatter
	"write_error_timeout":        30,
	"btree_cache_shrinker_seeks": 4,
	"dev_readahead":              2 << 20,
	"ec_stripe_buf_limit":        5,
}

// Set checks v against the range that readers of the volume's version have, and
// stores it. An option without a place, or unknown to that version, is refused.
func (o *Option) Set(sb *Superblock, v uint64) error {
	if !o.Stored() {
		return o.usage("is not stored in the superblock")
	}
	if !o.InVersion(sb.Version) {
		return o.usage("does not exist in format %v", sb.Version)
	}
	if err := o.Check(v, sb.Version); err != nil {
		return err
	}
	switch o.store.where {
	case storeBlockSize:
		sb.BlockSize = uint16(o.encode(v))
	case storeFlags:
		o.store.bits.set(sb, o.encode(v))
	case storeSplit:
		o.store.bits.set(sb, v&15)
		o.store.high.set(sb, v>>4)
	case storeExt:
		e, err := sb.Ext()
		if err != nil {
			return err
		}
		f := o.store.bits
		e.Flags0 = e.Flags0&^(f.mask()<<f.lo) | (o.encode(v)&f.mask())<<f.lo
		sb.SetExt(e, ExtSize1_39)
	}
	return nil
}

// GetMember is the value that a member stores. A label is the index of its
// group plus one; strings give 0, see Member.FailureDomain.
func (o *Option) GetMember(m *Member) uint64 {
	switch o.store.where {
	case storeMember:
		return o.decode(m.Flags >> o.store.bits.lo & o.store.bits.mask())
	case storeBucketSize:
		return uint64(m.BucketSize) << 9
	case storeGroup:
		return uint64(m.Group() + 1)
	}
	return 0
}

// SetMember checks v and stores it. Strings are set in the Member itself, labels
// by Superblock.AddGroup and Member.SetGroup.
func (o *Option) SetMember(m *Member, v uint64) error {
	if err := o.Check(v, VersionNewest); err != nil {
		return err
	}
	switch o.store.where {
	case storeMember:
		f := o.store.bits
		m.Flags = m.Flags&^(f.mask()<<f.lo) | (o.encode(v)&f.mask())<<f.lo
		if o.Name == "rotational" {
			m.SetRotational(v != 0)
		}
	case storeBucketSize:
		m.BucketSize = uint16(v >> 9)
	default:
		return o.usage("is not stored as a number in a member")
	}
	return nil
}

// validateOptions checks that every stored option is within its range, in the
// wide form of 1.39 and after filling in. Options that releases of the volume's
// version do not have are not looked at: their bits may mean nothing.
func (sb *Superblock) validateOptions() error {
	e, err := sb.Ext()
	if err != nil {
		return err
	}
	for _, o := range optionList {
		if !o.Stored() || o.Type == OptTarget || !o.InVersion(sb.Version) || o.store.where == storeExt && !e.HasFlags0() {
			continue
		}
		if err := o.check(o.Effective(sb), o.Max); err != nil {
			return sbBad("sb_option", "", "%v", err)
		}
	}
	if n := sb.NodeSectors(); n <= int(sb.BlockSize) {
		return sbBad("sb_option", "a btree node larger than a block", "%d sectors, block %d", n, sb.BlockSize)
	}
	return nil
}
