package mkfs

import (
	"fmt"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Makeable says whether volumes of a version can be made, and if not, why.
func Makeable(v ondisk.Version) error {
	switch {
	case v == ondisk.Version1_13:
		return nil
	case v > ondisk.VersionNewest || v.Major() == 1 && v.Name() == "(unknown version)":
		return bad("version: %v is not known (newest %v)", v, ondisk.VersionNewest)
	case v < ondisk.Version1_0:
		return bad("version: %v: nothing below 1.0 was ever made by a formatter that is still in use", v)
	}
	return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUnsupported, Reason: fmt.Sprintf("version: making volumes of %v (%s) is not supported, only of %v", v, v.Name(), ondisk.Version1_13)}
}

// features that come with a version, for users, by the version that they need
// (chapter 09 section 5.2).
var features = []struct {
	since ondisk.Version
	what  string
}{
	{ondisk.Version1_15, "accounting keys in big-endian order"},
	{ondisk.Version1_0 + 16, "options that follow reflinked data"},
	{ondisk.Version1_0 + 21, "backpointers of cached data"},
	{ondisk.Version1_0 + 24, "case-insensitive directories"},
	{ondisk.Version1_0 + 25, "extents marked as poisoned"},
	{ondisk.Version1_0 + 26, "fast deletion of snapshots"},
	{ondisk.Version1_0 + 27, "fast removal of devices"},
	{ondisk.Version1_33, "reconcile (background work that survives a change of options)"},
	{ondisk.Version1_0 + 37, "erasure coding that is declared stable"},
	{ondisk.Version1_39, "failure domains"},
}

// Excludes lists what a volume of a version excludes: what it cannot have, and
// who cannot use it.
func Excludes(v ondisk.Version) []string {
	var out []string
	if v > ondisk.Version1_15 {
		out = append(out, "kernels below 6.14, and tools of format 1.15 and before: they refuse the volume")
	}
	for _, f := range features {
		if f.since > v {
			out = append(out, fmt.Sprintf("%s (%v)", f.what, f.since))
		}
	}
	for _, o := range ondisk.Options() {
		if o.Flags&ondisk.OptFormat == 0 || o.InVersion(v) {
			continue
		}
		if o.Since > v {
			out = append(out, fmt.Sprintf("option %s (not before 1.14)", o.Name))
			if o.Since > ondisk.Version1_14 {
				out[len(out)-1] = fmt.Sprintf("option %s (%v)", o.Name, o.Since)
			}
		} else {
			out = append(out, fmt.Sprintf("option %s (until %v)", o.Name, o.Until))
		}
	}
	return out
}
