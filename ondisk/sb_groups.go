package ondisk

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/gobcachefs/gobcachefs/errs"
)

// DiskGroup is one component of a label (chapter 01 section 5.6).
type DiskGroup struct {
	Label       string // at most 32 bytes
	Deleted     bool   // the slot may be used again
	DataAllowed uint8  // written 0x1f
	Parent      int    // index of the group above, -1 at the root

	raw [diskGroupSize]byte
}

const (
	diskGroupSize = 48
	// maxDiskGroups is more than targets can name.
	maxDiskGroups = 1 << 12
	// maxGroupDepth bounds the components of a label that are printed or made.
	maxGroupDepth = 64
)

// DiskGroups decodes the field disk_groups; none without it.
func (sb *Superblock) DiskGroups() ([]DiskGroup, error) {
	d := sb.Field(FieldDiskGroups)
	if len(d)%diskGroupSize != 0 || len(d) > maxDiskGroups*diskGroupSize {
		return nil, errs.Corruptf("sb_disk_groups", "%d bytes", len(d))
	}
	l := make([]DiskGroup, 0, len(d)/diskGroupSize)
	for ; len(d) > 0; d = d[diskGroupSize:] {
		f := binary.LittleEndian.Uint64(d[32:])
		l = append(l, DiskGroup{
			Label:       cstring(d[:32]),
			Deleted:     f&1 != 0,
			DataAllowed: uint8(f >> 1 & 31),
			Parent:      int(f>>6&(1<<18-1)) - 1,
			raw:         [diskGroupSize]byte(d),
		})
	}
	return l, nil
}

// SetDiskGroups stores the groups; none removes the field.
func (sb *Superblock) SetDiskGroups(l []DiskGroup) {
	var d []byte
	for _, g := range l {
		putCString(g.raw[:32], g.Label)
		f := binary.LittleEndian.Uint64(g.raw[32:])>>24<<24 | uint64(g.DataAllowed&31)<<1 | uint64(g.Parent+1)&(1<<18-1)<<6
		if g.Deleted {
			f |= 1
		}
		binary.LittleEndian.PutUint64(g.raw[32:], f)
		d = append(d, g.raw[:]...)
	}
	sb.SetField(FieldDiskGroups, d)
}

// GroupPath is the dotted label of group i, "" when there is no such group. A
// broken chain of parents is printed as far as it goes.
func (sb *Superblock) GroupPath(i int) string {
	l, err := sb.DiskGroups()
	if err != nil {
		return ""
	}
	return groupPath(l, i)
}

func groupPath(l []DiskGroup, i int) string {
	var p []string
	// Parents may form a loop: no path is longer than the array.
	for n := 0; i >= 0 && n < min(len(l), maxGroupDepth); n++ {
		if i >= len(l) || l[i].Deleted {
			p = append(p, "<invalid group>")
			break
		}
		p = append(p, l[i].Label)
		i = l[i].Parent
	}
	for a, b := 0, len(p)-1; a < b; a, b = a+1, b-1 {
		p[a], p[b] = p[b], p[a]
	}
	return strings.Join(p, ".")
}

// FindGroup finds a group by its dotted label.
func (sb *Superblock) FindGroup(path string) (int, bool) {
	l, err := sb.DiskGroups()
	if err != nil || path == "" {
		return 0, false
	}
	parent := -1
	for _, name := range strings.Split(path, ".") {
		found := -1
		for i, g := range l {
			if !g.Deleted && g.Parent == parent && g.Label == name {
				found = i
				break
			}
		}
		if found < 0 {
			return 0, false
		}
		parent = found
	}
	return parent, true
}

// AddGroup finds a group by its dotted label or makes it with all that is above
// it, in deleted slots first.
func (sb *Superblock) AddGroup(path string) (int, error) {
	bad := func(reason, want, got string) error {
		return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUsage, Reason: reason, Want: want, Got: got}
	}
	l, err := sb.DiskGroups()
	if err != nil {
		return 0, err
	}
	if strings.Count(path, ".") >= maxGroupDepth {
		return 0, bad("label", fmt.Sprintf("at most %d components", maxGroupDepth), fmt.Sprintf("%q", path))
	}
	parent := -1
	for _, name := range strings.Split(path, ".") {
		if name == "" || len(name) > 32 || strings.ContainsRune(name, 0) {
			return 0, bad("label", "components of 1 to 32 bytes", fmt.Sprintf("%q", path))
		}
		found, free := -1, -1
		for i, g := range l {
			if g.Deleted {
				if free < 0 {
					free = i
				}
			} else if g.Parent == parent && g.Label == name {
				found = i
				break
			}
		}
		if found < 0 {
			g := DiskGroup{Label: name, DataAllowed: 31, Parent: parent}
			if found = free; found < 0 {
				found = len(l)
				l = append(l, g)
			} else {
				l[found] = g
			}
		}
		parent = found
	}
	// A member stores the index plus one in 8 bits.
	if parent > 254 {
		return 0, bad("label", "at most 255 groups", fmt.Sprint(len(l)))
	}
	sb.SetDiskGroups(l)
	return parent, nil
}

// Targets (chapter 01 section 5.6): 0 none, then 256 devices, then groups.
const (
	targetDevs   = 1
	targetGroups = 257
	maxTarget    = 1<<12 - 1
)

// DevTarget is the target number of a device, GroupTarget of a group.
func DevTarget(dev int) uint16 { return uint16(targetDevs + dev) }

// GroupTarget is the target number of a group.
func GroupTarget(group int) uint16 { return uint16(targetGroups + group) }

// DecodeTarget takes a target number apart: the device or the group index, the
// other one is -1; both are for target 0.
func DecodeTarget(t uint16) (dev, group int) {
	switch {
	case t == 0:
		return -1, -1
	case t < targetGroups:
		return int(t) - targetDevs, -1
	}
	return -1, int(t) - targetGroups
}

// TargetString names a target without knowing devices: "none", "device N" or
// the label of the group.
func (sb *Superblock) TargetString(t uint16) string {
	dev, group := DecodeTarget(t)
	if group >= 0 {
		if p := sb.GroupPath(group); p != "" {
			return p
		}
		return fmt.Sprintf("invalid group %d", group)
	}
	if dev < 0 {
		return "none"
	}
	return fmt.Sprintf("device %d", dev)
}

// ParseTarget is the inverse of TargetString; "" is none too.
func (sb *Superblock) ParseTarget(s string) (uint16, error) {
	if s == "" || s == "none" {
		return 0, nil
	}
	if g, ok := sb.FindGroup(s); ok && g <= maxTarget-targetGroups {
		return GroupTarget(g), nil
	}
	var dev int
	if n, err := fmt.Sscanf(s, "device %d", &dev); n == 1 && err == nil && dev >= 0 && dev < int(sb.NrDevices) {
		return DevTarget(dev), nil
	}
	return 0, fmt.Errorf("no device or label %q", s)
}
