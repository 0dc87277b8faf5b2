package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// checkSupers checks every superblock copy of every device against the others
// (chapter 01). The volume is assembled already, so that each device has a good
// one.
func (c *checker) checkSupers(ctx context.Context, readers []block.Reader) {
	for _, r := range readers {
		sb, copies, err := members.ReadSuper(ctx, r, 0)
		if sb == nil {
			// Opened by another copy than the usual ones (option sb=).
			if err != nil {
				c.badErr(err, namedPlace(r, -1), "superblock_copy_bad")
			}
			continue
		}
		c.checkCopies(r, sb, copies)
		c.checkLayout(r, sb)
		if g := c.geometry(sb.DevIdx); g != nil && g.sb != nil && sb.UUID == c.sb.UUID {
			c.checkMemberSuper(r, sb)
		}
	}
	c.checkSuper()
	c.checkCleanSection()
}

func namedPlace(r block.Reader, sector int64) errs.Where {
	w := errs.Nowhere
	w.Path, w.Sector = r.Info().Name, sector
	return w
}

// checkCopies compares the copies on one device: they are the same but for the
// sector they stand at.
func (c *checker) checkCopies(r block.Reader, best *ondisk.Superblock, copies []members.Copy) {
	for _, x := range copies {
		w := namedPlace(r, int64(x.Sector))
		if x.SB == nil {
			var e *errs.Error
			if errors.As(x.Err, &e) {
				f := finding("superblock_copy_bad", w)
				f.Got = errs.At(&errs.Error{Where: errs.Nowhere, Kind: e.Kind, Reason: e.Reason, Want: e.Want, Got: e.Got, Cause: e.Cause}, errs.Nowhere).Error()
				c.rep.add(f)
			} else {
				c.badf("superblock_copy_bad", w, "%v", x.Err)
			}
			continue
		}
		if x.SB.Seq != best.Seq {
			c.bad("superblock_copy_old", w, fmt.Sprintf("seq %d", best.Seq), fmt.Sprint(x.SB.Seq))
			continue
		}
		a, b := best.Clone(), x.SB.Clone()
		a.Offset, b.Offset = 0, 0
		if !bytes.Equal(a.Append(nil), b.Append(nil)) {
			c.bad("superblock_copy_differs", w, fmt.Sprintf("the bytes of the copy at sector %d", best.Offset), "others, of the same seq")
		}
	}
	for _, off := range best.Layout.Offsets {
		if !slices.ContainsFunc(copies, func(x members.Copy) bool { return x.Sector == off }) {
			c.badf("superblock_copy_bad", namedPlace(r, int64(off)), "not read")
		}
	}
}

// checkLayout compares the layout at sector 7 with the one in the superblock.
func (c *checker) checkLayout(r block.Reader, sb *ondisk.Superblock) {
	w := namedPlace(r, ondisk.SBLayoutSector)
	b := make([]byte, ondisk.SBLayoutSize)
	if _, err := r.ReadAt(b, ondisk.SBLayoutSector*512); err != nil {
		c.badErr(err, w, "superblock_layout_bad")
		return
	}
	l, err := ondisk.DecodeSBLayout(b)
	if err != nil {
		c.badf("superblock_layout_bad", w, "%v", err)
		return
	}
	if !bytes.Equal(l.Append(nil), sb.Layout.Append(nil)) {
		c.bad("superblock_layout_bad", w, "the layout in the superblock", "another")
	}
}

// checkMemberSuper compares a device's superblock with the volume's newest one.
func (c *checker) checkMemberSuper(r block.Reader, sb *ondisk.Superblock) {
	w := namedPlace(r, int64(sb.Offset))
	w.Dev = int(sb.DevIdx)
	if sb.Seq != c.sb.Seq {
		c.bad("superblock_member_old", w, fmt.Sprintf("seq %d", c.sb.Seq), fmt.Sprint(sb.Seq))
		return
	}
	// What belongs to the device is its own: put the rest side by side.
	common := func(x *ondisk.Superblock) []byte {
		y := x.Clone()
		y.Offset, y.DevIdx, y.Layout, y.Csum = 0, 0, c.sb.Layout, ondisk.Csum{}
		y.Magic = ondisk.SBMagic
		y.Fields = slices.DeleteFunc(y.Fields, func(f ondisk.SBField) bool { return f.Type.PerDevice() })
		slices.SortStableFunc(y.Fields, func(a, b ondisk.SBField) int { return int(a.Type) - int(b.Type) })
		return y.Append(nil)
	}
	if !bytes.Equal(common(sb), common(c.sb)) {
		c.bad("superblock_member_differs", w, "the contents of the other members' superblocks", "others, of the same seq")
	}
	if m, err := c.sb.Member(int(sb.DevIdx)); err == nil && c.minor(4) && c.sb.MemberStride() >= 128 && m.Seq != sb.Seq {
		c.bad("superblock_member_seq_wrong", w, fmt.Sprint(sb.Seq), fmt.Sprint(m.Seq))
	}
	if _, err := sb.JournalBuckets(); err != nil {
		c.badErr(err, w, "sb_journal")
	}
}

// checkSuper checks the contents of the volume's superblock beyond what every open
// asks for.
func (c *checker) checkSuper() {
	sb, w := c.sb, errs.Nowhere
	ms, err := sb.Members()
	if err != nil {
		return
	}
	if v1 := sb.Field(ondisk.FieldMembersV1); v1 != nil && sb.MemberStride() > 0 {
		for i := range ms {
			raw := ms[i].Raw
			if from := 56 * i; from+56 <= len(v1) && len(raw) >= 56 && !bytes.Equal(v1[from:from+56], raw[:56]) {
				w.Dev = i
				c.bad("superblock_members_v1_differ", w, "the first 56 bytes of the member in members_v2", "others")
				w.Dev = -1
			}
		}
	} else if v1 == nil && sb.VersionIncompat() <= ondisk.Version1_0+25 {
		c.bad("superblock_members_v1_missing", w, "a field members_v1 (version_incompat up to 1.25)", "none")
	}
	ext, _ := sb.Ext()
	if sb.HasErrors() {
		c.note("superblock_has_errors", w, "an earlier run found errors that were not all repaired")
	}
	if p := ext.Passes(); len(p) > 0 {
		c.note("superblock_passes_required", w, "the next mount runs %v", p)
	}
	if ext.BtreesLostData != 0 {
		c.note("superblock_btrees_lost_data", w, "btrees %#x", ext.BtreesLostData)
	}
	if u := sb.VersionUpgradeComplete(); u != sb.Version {
		c.note("superblock_upgrade_incomplete", w, "version %v, upgrade complete to %v", sb.Version, u)
	}
	if !sb.Clean() && sb.Features[0]&ondisk.FeaturesAlways != ondisk.FeaturesAlways {
		c.bad("superblock_features_missing", w, fmt.Sprintf("features %#x in a volume that is not clean", ondisk.FeaturesAlways), fmt.Sprintf("%#x", sb.Features[0]))
	}
	for i := range ms {
		if m := &ms[i]; m.Exists() && !m.FreespaceInitialized() && !c.noAlloc {
			w.Dev = i
			c.note("freespace_not_initialized", w, "free space is not indexed yet: freespace and need_discard are not compared")
			w.Dev = -1
		}
	}
	for _, name := range []string{"compression", "background_compression"} {
		if o, ok := ondisk.FindOption(name); ok {
			c.compressionOption(name, uint8(o.Get(sb)), w)
		}
	}
}

// compressionOption checks that a compression an option asks for is marked.
func (c *checker) compressionOption(name string, opt uint8, w errs.Where) {
	f := map[uint8]ondisk.Feature{1: ondisk.FeatureLZ4, 2: ondisk.FeatureGzip, 3: ondisk.FeatureZstd}
	if bit, ok := f[opt&15]; ok && !c.sb.HasFeature(bit) {
		c.bad("compression_opt_not_marked_in_sb", w, "feature "+bit.String()+" for option "+name, "clear")
	}
}

// checkFeatures compares the feature bits with what the walk has seen in use.
func (c *checker) checkFeatures() {
	// Feature incompressible is not looked at: kernel 6.12 never sets it.
	seen := c.seenCompression.Load()
	for t, bit := range map[ondisk.CompressionType]ondisk.Feature{
		ondisk.CompressionGzip: ondisk.FeatureGzip, ondisk.CompressionLZ4: ondisk.FeatureLZ4, ondisk.CompressionLZ4Old: ondisk.FeatureLZ4,
		ondisk.CompressionZstd: ondisk.FeatureZstd,
	} {
		if seen>>t&1 != 0 && !c.sb.HasFeature(bit) {
			c.bad("compression_type_not_marked_in_sb", errs.Nowhere, "feature "+bit.String(), "clear, but extents use it")
		}
	}
	types := c.seenTypes.Load()
	for t, bit := range map[ondisk.KeyType]ondisk.Feature{
		ondisk.KeyReflinkP: ondisk.FeatureReflink, ondisk.KeyInlineData: ondisk.FeatureInlineData,
		ondisk.KeyIndirectInlineData: ondisk.FeatureReflinkInlineData, ondisk.KeyStripe: ondisk.FeatureEC,
	} {
		if types>>t&1 != 0 && !c.sb.HasFeature(bit) {
			c.bad("feature_not_marked_in_sb", errs.Nowhere, "feature "+bit.String(), "clear, but keys of type "+t.String()+" exist")
		}
	}
}

// checkExtentKey notes what a key of the extents btree needs of the superblock.
func (c *checker) checkExtentKey(kv *ondisk.KV) {
	c.sawType(kv.Type)
	if kv.Type == ondisk.KeyExtentWhiteout && !c.incompat(29) {
		c.bad("incompat_feature_not_allowed", leafAt(ondisk.BtreeExtents, kv.Pos), "version_incompat_allowed of 1.29", "a key of type extent_whiteout")
	}
}

func (c *checker) sawType(t ondisk.KeyType) {
	if t < 64 {
		if bit := uint64(1) << t; c.seenTypes.Load()&bit == 0 {
			c.seenTypes.Or(bit)
		}
	}
}

// incompat reports whether structures of the incompatible version 1.n may be used.
func (c *checker) incompat(n int) bool {
	return c.sb.VersionIncompatAllowed() >= ondisk.Version1_0+ondisk.Version(n)
}

// checkCleanSection checks the sub-entries of the clean section of a clean volume.
func (c *checker) checkCleanSection() {
	if !c.sb.Clean() {
		return
	}
	s, err := c.sb.CleanSection()
	if err != nil || s == nil {
		return // reported when the journal state was loaded
	}
	keyVersion, clocks := false, 0
	_ = ondisk.JsetEntries(s.Entries, func(e ondisk.JsetEntry) bool {
		c.checkSubEntry(e, errs.Nowhere, &c.keyRules)
		keyVersion = keyVersion || e.Type == ondisk.EntryUsage && int(e.Btree) == ondisk.UsageKeyVersion
		if e.Type == ondisk.EntryClock {
			clocks++
		}
		return true
	})
	if !keyVersion || clocks != 2 {
		c.bad("superblock_clean_incomplete", errs.Nowhere, "key_version and two clocks in the clean section", fmt.Sprintf("key_version: %v, clocks: %d", keyVersion, clocks))
	}
}
