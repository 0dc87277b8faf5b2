// Package explain turns decoded structures into text and JSON: key lines as the
// reference tools print them, and the same as typed documents.
package explain

import (
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Style says whose text is printed.
type Style uint8

// Styles.
const (
	Style1_39 Style = iota // tools 1.39: entries of an extent on lines of their own
	Style1_13              // tools 1.13
)

// Env is what the text of a key depends on besides the key. The zero value
// works: positions are then not split into buckets, and targets are numbers.
type Env struct {
	Style Style
	// Super is the superblock; nil when it is not known. Its version decides how
	// backpointers and accounting positions are read.
	Super *ondisk.Superblock
	// Members are the member records by index.
	Members []ondisk.Member
	// DevNames are what pointers call the members in style 1.39: file names of
	// the devices. Missing ones are left out.
	DevNames []string
	// Stale reports whether a pointer's bucket was reused since, nil when that
	// is not known.
	Stale func(ondisk.Ptr) bool
	// Escape prints bytes of names and values that are no printable ASCII as
	// \xNN. The reference prints them as they are, so that a name can hold line
	// breaks and terminal codes.
	Escape bool

	sizes *ondisk.ExtentTypeSizes
}

// NewEnv makes the Env of a volume. The member records may be unreadable: keys
// are then printed without what depends on them.
func NewEnv(sb *ondisk.Superblock, style Style) *Env {
	e := &Env{Style: style, Super: sb}
	if sb != nil {
		e.Members, _ = sb.Members()
		e.sizes, _ = ondisk.DecodeExtentTypeSizes(sb.ExtentTypeU64s())
	}
	return e
}

// Version is the version that decides the layout of values.
func (e *Env) version() ondisk.Version {
	if e.Super != nil {
		return e.Super.Version
	}
	if e.Style == Style1_13 {
		return ondisk.Version1_13
	}
	return ondisk.VersionNewest
}

func (e *Env) old() bool { return e.Style == Style1_13 }

// member gives a member that exists.
func (e *Env) member(dev uint32) *ondisk.Member {
	if dev < uint32(len(e.Members)) && e.Members[dev].Exists() && e.Members[dev].BucketSize != 0 {
		return &e.Members[dev]
	}
	return nil
}

func (e *Env) bpShift() uint {
	if e.Super == nil {
		return ondisk.DefaultBackpointerShift
	}
	return uint(e.Super.ExtentBPShift())
}

// target names a device or group. The reference has a name for devices that are
// there, and 1.13 takes it for one below /dev.
func (e *Env) target(t uint16) string {
	dev, group := ondisk.DecodeTarget(t)
	switch {
	case group >= 0:
		if e.Super != nil {
			if p := e.Super.GroupPath(group); p != "" {
				return p
			}
		}
		return "invalid label " + itoa(uint64(group))
	case dev < 0:
		return "none"
	case e.member(uint32(dev)) == nil:
		return "invalid device " + itoa(uint64(dev))
	case dev < len(e.DevNames) && e.DevNames[dev] != "":
		if e.old() {
			return "/dev/" + e.DevNames[dev]
		}
		return e.DevNames[dev]
	}
	return "device " + itoa(uint64(dev))
}

// durability is what one copy on a member counts for.
func (e *Env) durability(dev uint8) int {
	m := e.member(uint32(dev))
	if m == nil || m.State() == ondisk.MemberEvacuating {
		return 0
	}
	return m.Durability()
}
