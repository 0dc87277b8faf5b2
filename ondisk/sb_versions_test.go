package ondisk

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The field downgrade of every volume is what the table says, byte for byte.
func TestDowngradeTable(t *testing.T) {
	for _, fx := range loadSBFixtures(t) {
		sb := mustDecode(t, fx.copies[0])
		got := sb.Clone()
		// A volume that was upgraded incompatibly keeps the longer field of
		// before, as the rows that are left would be fewer.
		v := sb.Version
		incompat := sb.VersionIncompat()
		if sb.Field(FieldMembersV1) == nil && sb.VersionMin == Version1_13 {
			v, incompat = Version1_13, 0
		}
		got.SetDowngrade(DowngradeTable(v, incompat, false))
		if d := cmp.Diff(sb.Field(FieldDowngrade), got.Field(FieldDowngrade)); d != "" {
			t.Errorf("%s (-volume +table):\n%s", fx.name, d)
		}
	}
}

func TestDowngradeWork(t *testing.T) {
	sb := mustFixture(t, "upc39plain")
	s, err := sb.DowngradeWork(Version1_13)
	if err != nil {
		t.Fatal(err)
	}
	var want WorkSet
	for _, p := range []RecoveryPass{PassCheckExtentsToBackpointers, PassCheckAllocations, PassCheckAllocInfo, PassCheckAllocToLRURefs, PassCheckLRUs} {
		want.AddPass(p)
	}
	for _, e := range []ErrorID{125, 128, 147, 272, 278, 277, 307, 124, 114, 123, 131, 105} {
		want.AddError(e)
	}
	if s != want {
		t.Errorf("DowngradeWork(1.13) = %x, want %x", s, want)
	}
	if s, err := sb.DowngradeWork(Version1_39); err != nil || !s.Empty() {
		t.Errorf("DowngradeWork(1.39) = %x, %v, want nothing", s, err)
	}
	if !want.HasPass(PassCheckLRUs) || want.HasPass(PassCheckRoot) || want.HasPass(200) {
		t.Error("HasPass is wrong")
	}
}

// The passes that tools 1.39 were seen to run on a volume of 1.13, and kernel
// 6.12 on one of 1.3 (chapter 09 section 3).
func TestUpgradeWork(t *testing.T) {
	names := func(s WorkSet) []string {
		var l []string
		for _, p := range RecoveryPassesInOrder() {
			if s.HasPass(p) {
				l = append(l, p.String())
			}
		}
		return l
	}
	for _, c := range []struct {
		from, to Version
		want     []string
	}{
		{Version1_13, Version1_39, []string{"check_allocations", "check_alloc_info", "check_lrus", "check_extents_to_backpointers", "check_alloc_to_lru_refs", "check_snapshots",
			"check_subvols", "delete_dead_snapshots", "check_inodes", "check_xattrs", "check_reconcile_work"}},
		{Version1_0 + 3, Version1_13, []string{"check_allocations", "check_subvols", "check_inodes", "check_dirents"}},
		{Version1_39, Version1_39, nil},
		{Version1_39, Version1_13, nil},
	} {
		if d := cmp.Diff(c.want, names(UpgradeWork(c.from, c.to, false))); d != "" {
			t.Errorf("UpgradeWork(%v, %v) (-want +got):\n%s", c.from, c.to, d)
		}
	}
	if s := UpgradeWork(Version1_0+7, Version1_0+8, true); !s.HasPass(PassCheckAllocations) {
		t.Error("stripes need check_allocations at 1.8")
	}
	if s := UpgradeWork(14, 29, false); !s.HasPass(PassBucketGensInit) || !s.HasPass(PassCheckExtents) || !s.HasPass(PassFixReflinkP) || s.HasPass(PassCheckDamage) != (PassCheckDamage.Flags()&PassFsck != 0) {
		t.Errorf("UpgradeWork(0.14, 0.29) = %v", names(s))
	}
	if s := IncompatUpgradeWork(0, Version1_39); !s.HasPass(PassCheckReconcileWork) {
		t.Error("allowing 1.33 needs check_reconcile_work")
	}
	if s := IncompatUpgradeWork(Version1_33, Version1_39); !s.Empty() {
		t.Errorf("IncompatUpgradeWork(1.33, 1.39) = %x", s)
	}
}

// Every superblock that the real implementation wrote passes the rules for
// writers, and breaking one of them is noticed.
func TestValidateWrite(t *testing.T) {
	for _, fx := range loadSBFixtures(t) {
		for i, b := range fx.copies {
			sb := mustDecode(t, b)
			if err := sb.ValidateWrite(sb.Offset); err != nil {
				t.Errorf("%s copy %d: %v", fx.name, i, err)
			}
		}
	}
	for name, change := range map[string]func(sb *Superblock){
		"seq":        func(sb *Superblock) { sb.Seq++ },
		"magic":      func(sb *Superblock) { sb.Magic = SBMagicOld },
		"layout":     func(sb *Superblock) { sb.Layout.Magic = SBMagicOld },
		"incompat":   func(sb *Superblock) { sb.SetVersionIncompat(Version1_9) },
		"allowed":    func(sb *Superblock) { sb.SetVersionIncompatAllowed(Version1_39) },
		"members_v1": func(sb *Superblock) { sb.SetField(FieldMembersV1, nil) },
		"not clean":  func(sb *Superblock) { sbClean.put(sb, false) },
		"full stage": func(sb *Superblock) { sb.NrDevices = 0 },
	} {
		sb := mustFixture(t, "plain")
		change(sb)
		if err := sb.ValidateWrite(8); err == nil {
			t.Errorf("%s: ValidateWrite accepts it", name)
		}
	}
}
