package bcachefs_test

import (
	"context"
	"testing"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
	"github.com/gobcachefs/gobcachefs/internal/testvol/build"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// labelled gives a volume whose superblocks say that it is of another version.
// Synthetic: what is on it stays as its writer made it.
func labelled(devs []block.Reader, v ondisk.Version) []block.Reader {
	var out []block.Reader
	for _, d := range devs {
		out = append(out, build.Restamp(d, func(_ int, sb *ondisk.Superblock) {
			sb.Version = v
			sb.VersionMin = min(sb.VersionMin, v)
			sb.SetVersionUpgradeComplete(v)
			if v <= ondisk.Version1_15 {
				sb.SetFeature(ondisk.FeatureIncompatVersionField, false)
				sb.SetVersionIncompat(0)
				sb.SetVersionIncompatAllowed(0)
				return
			}
			sb.SetVersionIncompat(min(sb.VersionIncompat(), v))
			sb.SetVersionIncompatAllowed(min(sb.VersionIncompatAllowed(), v))
		}))
	}
	return out
}

// TestVersions reads a volume of each version from 1.0 to 1.39: those made at
// 1.13, made at 1.39 and upgraded to it as they are, and all others as labels on them.
// What a version changes in structures that a reader of files looks at is in
// TestSynthetic….
func TestVersions(t *testing.T) {
	set := testvol.Small(t)
	for minor := range 40 {
		v := ondisk.Version1_0 + ondisk.Version(minor)
		name := [2]string{"v39plain", "up39reflink"}[minor%2]
		if v <= ondisk.Version1_13 {
			name = [2]string{"reflink", "plain"}[minor%2]
		}
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			vol := open(t, labelled(set.Load(t, name), v), options(t, name))
			if got := vol.Superblock().Version; got != v {
				t.Errorf("version = %v, want %v", got, v)
			}
			testvol.Check(t, set.Manifest(t, name, "manifest"), manifest(t, vol.Root()), testvol.QuirksOf(name))
		})
	}
}

// TestUsageByWhatIsThere: the space counters of a volume that says it is older
// than they are (a kernel that is told not to upgrade makes such) are used all
// the same.
func TestUsageByWhatIsThere(t *testing.T) {
	ctx := context.Background()
	set := testvol.Small(t)
	want, err := open(t, set.Load(t, "plain"), options(t, "plain")).Statfs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, minor := range []ondisk.Version{0, 3, 8, 10, 12} {
		got, err := open(t, labelled(set.Load(t, "plain"), ondisk.Version1_0+minor), options(t, "plain")).Statfs(ctx)
		if err != nil || got != want {
			t.Errorf("Statfs at 1.%d = %+v, %v, want %+v", minor, got, err, want)
		}
	}
}
