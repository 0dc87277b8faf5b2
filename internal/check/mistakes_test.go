package check

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gobcachefs/gobcachefs/internal/testvol"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// mistake is one mistake, and what of it must be found: beside what the volume has
// anyway, exactly that.
type mistake struct {
	name  string
	vol   string
	plant func(v *volume)
	want  string // as show prints it
}

func pos(inode, offset uint64, snap uint32) ondisk.Pos {
	return ondisk.Pos{Inode: inode, Offset: offset, Snapshot: snap}
}

func anyKey(ondisk.KV) bool { return true }

// inode changes an inode.
func (v *volume) inode(fits func(i *ondisk.Inode, kv ondisk.KV) bool, edit func(i *ondisk.Inode)) ondisk.KV {
	v.t.Helper()
	kv := v.find(ondisk.BtreeInodes, func(kv ondisk.KV) bool {
		if kv.Type != ondisk.KeyInodeV3 {
			return false
		}
		i, err := ondisk.DecodeInode(kv)
		return err == nil && fits(&i, kv)
	})
	i, _ := ondisk.DecodeInode(kv)
	edit(&i)
	kv.Val = i.Append(nil)
	v.set(ondisk.BtreeInodes, kv)
	return kv
}

func isFile(i *ondisk.Inode, _ ondisk.KV) bool {
	return i.IsRegular() && i.Nlink == 0 && i.Dir != 0 && i.Sectors > 8 && !i.Unlinked()
}
func isDirBelow(i *ondisk.Inode, _ ondisk.KV) bool {
	return i.IsDir() && i.Dir != 0 && i.Subvol == 0 && i.Dir != 4096
}

// alloc changes an alloc key.
func (v *volume) alloc(fits func(a *ondisk.Alloc) bool, edit func(a *ondisk.Alloc)) ondisk.KV {
	v.t.Helper()
	kv := v.find(ondisk.BtreeAlloc, func(kv ondisk.KV) bool {
		a, err := ondisk.DecodeAlloc(kv)
		return err == nil && fits(&a)
	})
	a, _ := ondisk.DecodeAlloc(kv)
	edit(&a)
	kv.Val = a.Append(nil, v.version())
	v.set(ondisk.BtreeAlloc, kv)
	return kv
}

func (v *volume) version() ondisk.Version { return v.checker().v }

func ofType(t ondisk.DataType) func(a *ondisk.Alloc) bool {
	return func(a *ondisk.Alloc) bool { return a.DataType == t }
}

// backpointer changes a backpointer.
func (v *volume) backpointer(fits func(b *ondisk.Backpointer) bool, edit func(b *ondisk.Backpointer)) {
	v.t.Helper()
	ver := v.version()
	kv := v.find(ondisk.BtreeBackpointers, func(kv ondisk.KV) bool {
		b, err := ondisk.DecodeBackpointer(kv.Val, ver)
		return err == nil && fits(&b)
	})
	b, _ := ondisk.DecodeBackpointer(kv.Val, ver)
	edit(&b)
	kv.Val = b.Append(nil, ver)
	v.set(ondisk.BtreeBackpointers, kv)
}

func toFile(b *ondisk.Backpointer) bool { return b.Btree == ondisk.BtreeExtents && b.Level == 0 }

// counter changes the first counter of an accounting type that fits.
func (v *volume) counter(t ondisk.AccountingType, edit func(kv *ondisk.KV, c *ondisk.Counters)) {
	v.t.Helper()
	form := ondisk.AccountingFormOf(v.version())
	kv := v.find(ondisk.BtreeAccounting, func(kv ondisk.KV) bool {
		p, err := ondisk.DecodeAccountingPos(kv.Pos, form)
		c, _, _ := ondisk.DecodeCounters(kv.Val)
		return err == nil && p.Type == t && !c.IsZero()
	})
	old := kv.Pos
	c, n, _ := ondisk.DecodeCounters(kv.Val)
	edit(&kv, &c)
	kv.Val = c.Append(nil, n)
	if kv.Pos != old || kv.Type == ondisk.KeyDeleted {
		v.del(ondisk.BtreeAccounting, ondisk.KV{Key: ondisk.Key{Pos: old}})
	}
	if kv.Type != ondisk.KeyDeleted {
		v.set(ondisk.BtreeAccounting, kv)
	}
}

func plusOne(i int) func(*ondisk.KV, *ondisk.Counters) {
	return func(_ *ondisk.KV, c *ondisk.Counters) { c[i]++ }
}

// subvolume, snapshot and dirent change such keys.
func (v *volume) subvolume(id uint64, edit func(s *ondisk.Subvolume)) {
	v.t.Helper()
	kv := v.find(ondisk.BtreeSubvolumes, func(kv ondisk.KV) bool { return kv.Pos.Offset == id })
	s, _ := ondisk.DecodeSubvolume(kv.Val)
	edit(&s)
	kv.Val = s.Append(nil)
	v.set(ondisk.BtreeSubvolumes, kv)
}

func (v *volume) snapshot(fits func(s *ondisk.Snapshot) bool, edit func(s *ondisk.Snapshot)) {
	v.t.Helper()
	kv := v.find(ondisk.BtreeSnapshots, func(kv ondisk.KV) bool {
		s, err := ondisk.DecodeSnapshot(kv.Val)
		return err == nil && fits(&s)
	})
	s, _ := ondisk.DecodeSnapshot(kv.Val)
	edit(&s)
	kv.Val = s.Append(nil)
	v.set(ondisk.BtreeSnapshots, kv)
}

func (v *volume) dirent(fits func(d *ondisk.Dirent, kv ondisk.KV) bool, edit func(d *ondisk.Dirent, kv *ondisk.KV)) {
	v.t.Helper()
	kv := v.find(ondisk.BtreeDirents, func(kv ondisk.KV) bool {
		if kv.Type != ondisk.KeyDirent {
			return false
		}
		d, err := ondisk.DecodeDirent(kv)
		return err == nil && fits(&d, kv)
	})
	d, _ := ondisk.DecodeDirent(kv)
	d.Name, d.CfName = append([]byte{}, d.Name...), append([]byte{}, d.CfName...)
	old := kv.Pos
	edit(&d, &kv)
	kv.Val = d.Append(nil)
	if kv.Pos != old {
		v.del(ondisk.BtreeDirents, ondisk.KV{Key: ondisk.Key{Pos: old}})
	}
	v.set(ondisk.BtreeDirents, kv)
}

func dtype(t uint8) func(*ondisk.Dirent, ondisk.KV) bool {
	return func(d *ondisk.Dirent, _ ondisk.KV) bool { return d.Type == t }
}

func set(p ondisk.Pos) ondisk.KV { return ondisk.KV{Key: ondisk.Key{Pos: p, Type: ondisk.KeySet}} }

// superFeature clears a feature.
func noFeature(f ondisk.Feature) func(v *volume) {
	return func(v *volume) { v.super(func(sb *ondisk.Superblock) { sb.SetFeature(f, false) }) }
}

// zero overwrites sectors.
func (v *volume) zero(dev int, sector uint64, n int) { v.write(dev, sector, make([]byte, n*512)) }

var superMistakes = []mistake{
	{"backup superblock lost", "plain", func(v *volume) { v.zero(0, v.checker().sb.Layout.Offsets[2], 8) }, "superblock_copy_bad×1"},
	{"backup superblock old", "plain", func(v *volume) {
		v.superOf(0, func(i int, sb *ondisk.Superblock) bool { sb.Seq--; return i == 1 })
	}, "superblock_copy_old×1"},
	{"backup superblock differs", "plain", func(v *volume) {
		v.superOf(0, func(i int, sb *ondisk.Superblock) bool { sb.Label = "x"; return i == 1 })
	}, "superblock_copy_differs×1"},
	{"layout lost", "plain", func(v *volume) { v.zero(0, 7, 1) }, "superblock_layout_bad×1"},
	{"layout differs", "plain", func(v *volume) {
		l := v.checker().sb.Layout
		l.MaxSizeBits--
		v.write(0, 7, l.Append(nil))
	}, "superblock_layout_bad×1"},
	{"member's superblock differs", "replicas2", func(v *volume) {
		v.superOf(1, func(_ int, sb *ondisk.Superblock) bool { sb.Label = "x"; return true })
	}, "superblock_member_differs×1"},
	{"member seq", "plain", func(v *volume) {
		v.super(func(sb *ondisk.Superblock) {
			ms, _ := sb.Members()
			ms[0].Seq++
			_ = sb.SetMembers(ms, sb.MemberStride())
		})
	}, "superblock_member_seq_wrong×1"},
	{"members_v1 differs", "plain", func(v *volume) {
		v.super(func(sb *ondisk.Superblock) {
			b := append([]byte{}, sb.Field(ondisk.FieldMembersV1)...)
			b[40]++
			sb.SetField(ondisk.FieldMembersV1, b)
		})
	}, "superblock_members_v1_differ×1"},
	{"members_v1 missing", "plain", func(v *volume) {
		v.super(func(sb *ondisk.Superblock) { sb.SetField(ondisk.FieldMembersV1, nil) })
	}, "superblock_members_v1_missing×1"},
	{"option without feature", "plain", func(v *volume) {
		v.super(func(sb *ondisk.Superblock) {
			o, _ := ondisk.FindOption("compression")
			_ = o.Set(sb, 1)
			sb.SetFeature(ondisk.FeatureLZ4, false)
		})
	}, "compression_opt_not_marked_in_sb×1 note extent_io_opts_not_set×1"},
	{"compression in use without feature", "bgcomp", noFeature(ondisk.FeatureZstd), "compression_opt_not_marked_in_sb×1 compression_type_not_marked_in_sb×1"},
	{"inline data without feature", "plain", noFeature(ondisk.FeatureInlineData), "feature_not_marked_in_sb×1"},
	{"reflink without feature", "reflink", noFeature(ondisk.FeatureReflink), "feature_not_marked_in_sb×1"},
	{"stripes without feature", "v39ec", noFeature(ondisk.FeatureEC), "feature_not_marked_in_sb×1"},
	{"clean section without key version", "plain", func(v *volume) {
		v.super(func(sb *ondisk.Superblock) {
			s, _ := sb.CleanSection()
			var out []byte
			_ = ondisk.JsetEntries(s.Entries, func(e ondisk.JsetEntry) bool {
				if e.Type != ondisk.EntryUsage {
					out = e.Append(out)
				}
				return true
			})
			s.Entries = out
			sb.SetCleanSection(s)
		})
	}, "superblock_clean_incomplete×1"},
	{"replicas entry of btree missing", "plain", func(v *volume) {
		v.super(func(sb *ondisk.Superblock) {
			l, _ := sb.Replicas()
			var out []ondisk.ReplicasEntry
			for _, e := range l {
				if e.DataType != ondisk.DataBtree {
					out = append(out, e)
				}
			}
			sb.SetReplicas(out)
		})
	}, "accounting_replicas_not_marked×1"},
	{"freespace not initialized", "plain", func(v *volume) {
		v.super(func(sb *ondisk.Superblock) {
			ms, _ := sb.Members()
			ms[0].SetFreespaceInitialized(false)
			_ = sb.SetMembers(ms, sb.MemberStride())
		})
	}, "note freespace_not_initialized×1"},
	{"btree bitmap", "plain", func(v *volume) {
		root := v.checker().trees[ondisk.BtreeXattrs].leaves[0].ptr.Ptrs[0].Offset
		v.super(func(sb *ondisk.Superblock) {
			ms, _ := sb.Members()
			ms[0].BtreeAllocatedBitmap &^= 1 << (root >> ms[0].BtreeBitmapShift)
			_ = sb.SetMembers(ms, sb.MemberStride())
		})
	}, "btree_bitmap_not_marked×2"},
	{"errors flagged", "plain", func(v *volume) { v.super(func(sb *ondisk.Superblock) { sb.SetHasErrors(true) }) }, "note superblock_has_errors×1"},
	{"passes required", "plain", func(v *volume) {
		v.super(func(sb *ondisk.Superblock) {
			e, _ := sb.Ext()
			e.RecoveryPassesRequired[0] |= 1 << ondisk.PassCheckAllocations
			sb.SetExt(e, ondisk.ExtSize1_13)
		})
	}, "note superblock_passes_required×1"},
}

// entries changes the sub-entries of the last journal entry; edit gives what a
// sub-entry is replaced by.
func (v *volume) entries(edit func(e ondisk.JsetEntry) []ondisk.JsetEntry) {
	v.t.Helper()
	v.lastEntry(func(_ *ondisk.Jset, payload []byte) []byte {
		var out []byte
		if err := ondisk.JsetEntries(payload, func(e ondisk.JsetEntry) bool {
			for _, x := range edit(e) {
				out = x.Append(out)
			}
			return true
		}); err != nil {
			v.t.Fatal(err)
		}
		return out
	})
}

// addEntry adds a sub-entry to the last journal entry.
func addEntry(x ondisk.JsetEntry) func(v *volume) {
	return func(v *volume) {
		v.lastEntry(func(_ *ondisk.Jset, p []byte) []byte { return x.Append(p) })
	}
}

func words(w ...uint64) (b []byte) {
	for _, x := range w {
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	return b
}

var journalMistakes = []mistake{
	{"no journal", "plain", func(v *volume) {
		c := v.checker()
		js, _ := c.sb.JournalBuckets()
		for _, b := range js {
			v.zero(0, b*c.devs[0].size, int(c.devs[0].size))
		}
	}, "clean_but_no_journal_entries×1"},
	{"last entry of another seq", "plain", func(v *volume) {
		v.super(func(sb *ondisk.Superblock) {
			s, _ := sb.CleanSection()
			s.JournalSeq++
			sb.SetCleanSection(s)
		})
	}, "sb_clean_journal_seq_mismatch×1"},
	{"last entry with another root", "plain", func(v *volume) {
		v.entries(func(e ondisk.JsetEntry) []ondisk.JsetEntry {
			if e.Type == ondisk.EntryBtreeRoot && e.Btree == ondisk.BtreeXattrs {
				e.Data = append([]byte{}, e.Data...)
				e.Data[40+16] += 8 // sectors_written
			}
			return []ondisk.JsetEntry{e}
		})
	}, "sb_clean_btree_root_mismatch×1"},
	{"last entry without a root", "plain", func(v *volume) {
		v.entries(func(e ondisk.JsetEntry) []ondisk.JsetEntry {
			if e.Type == ondisk.EntryBtreeRoot && e.Btree == ondisk.BtreeXattrs {
				return nil
			}
			return []ondisk.JsetEntry{e}
		})
	}, "sb_clean_btree_root_mismatch×1"},
	{"last entry with keys", "plain", addEntry(ondisk.JsetEntry{Type: ondisk.EntryBtreeKeys, Btree: ondisk.BtreeNeedDiscard, Data: set(pos(0, 3, 0)).Append(nil)}), "clean_but_journal_not_empty×1"},
	{"last entry needs older ones", "plain", func(v *volume) {
		v.lastEntry(func(j *ondisk.Jset, p []byte) []byte { j.LastSeq--; return p })
	}, "clean_but_journal_not_empty×1"},
	{"clock of no kind", "plain", addEntry(ondisk.JsetEntry{Type: ondisk.EntryClock, Data: words(2, 1)}), "journal_entry_clock_bad_rw×1"},
	{"clock too short", "plain", addEntry(ondisk.JsetEntry{Type: ondisk.EntryClock, Data: words(1)}), "journal_entry_clock_bad_size×1"},
	{"usage too short", "plain", addEntry(ondisk.JsetEntry{Type: ondisk.EntryUsage, Btree: ondisk.UsageInodes}), "journal_entry_usage_bad_size×1"},
	{"blacklist backwards", "plain", addEntry(ondisk.JsetEntry{Type: ondisk.EntryBlacklistV2, Data: words(9, 8)}), "journal_entry_blacklist_v2_start_past_end×1"},
	{"blacklist too short", "plain", addEntry(ondisk.JsetEntry{Type: ondisk.EntryBlacklist}), "journal_entry_blacklist_bad_size×1"},
	{"blacklist_v2 too short", "plain", addEntry(ondisk.JsetEntry{Type: ondisk.EntryBlacklistV2, Data: words(9)}), "journal_entry_blacklist_v2_bad_size×1"},
	{"data_usage too short", "plain", addEntry(ondisk.JsetEntry{Type: ondisk.EntryDataUsage, Data: words(9)}), "journal_entry_data_usage_bad_size×1"},
	{"dev_usage too short", "plain", addEntry(ondisk.JsetEntry{Type: ondisk.EntryDevUsage, Data: words(0, 0)}), "journal_entry_dev_usage_bad_size×1"},
	{"dev_usage pad", "plain", addEntry(ondisk.JsetEntry{Type: ondisk.EntryDevUsage, Data: words(1<<32, 0, 0)}), "journal_entry_dev_usage_bad_pad×1"},
	{"rewind too short", "plain", addEntry(ondisk.JsetEntry{Type: ondisk.EntryRewind, Data: words(1)}), "journal_entry_rewind_bad_size×1"},
	{"rewind_limit too short", "plain", addEntry(ondisk.JsetEntry{Type: ondisk.EntryRewindLimit}), "journal_entry_rewind_limit_bad_size×1"},
	{"root of no btree", "plain", addEntry(ondisk.JsetEntry{Type: ondisk.EntryBtreeRoot, Btree: 70, Data: set(pos(0, 3, 0)).Append(nil)}), "invalid_btree_id×1"},
	{"root that is no key", "plain", addEntry(ondisk.JsetEntry{Type: ondisk.EntryBtreeRoot, Btree: 40, Data: words(1)}), "journal_entry_btree_root_bad_size×1"},
	{"entry lost in the window", "crash", func(v *volume) {
		c := v.checker()
		for _, e := range c.state.Entries {
			if e.Seq == c.state.First+2 {
				v.zero(e.Places[0].Dev, e.Places[0].Sector, 1)
			}
		}
	}, "accounting_mismatch×2 alloc_key_data_type_wrong×2 alloc_key_dirty_sectors_wrong×2 backpointer_to_missing_ptr×1 freespace_key_wrong×1 journal_entries_missing×1 need_discard_freespace_key_bad×2 ptr_to_missing_backpointer×1"},
	{"no-flush entry with last_seq", "crash", func(v *volume) {
		v.lastEntry(func(j *ondisk.Jset, p []byte) []byte { j.Flags |= 32; return p })
	}, "jset_no_flush_last_seq×1"},
}

// TestJournalMistakes and its neighbors plant one mistake each.
func TestJournalMistakes(t *testing.T) { plantAll(t, journalMistakes) }
func TestSuperMistakes(t *testing.T)   { plantAll(t, superMistakes) }

func plantAll(t *testing.T, all []mistake) {
	bases := map[string]map[string]int{}
	for _, m := range all {
		if bases[m.vol] == nil {
			fs, _ := openVolume(t, testvol.Small(t), m.vol).run()
			bases[m.vol] = tally(fs)
		}
	}
	for _, m := range all {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			v := openVolume(t, testvol.Small(t), m.vol)
			m.plant(v)
			fs, r := v.run()
			got := tally(fs)
			for k, n := range bases[m.vol] {
				if got[k] -= n; got[k] == 0 {
					delete(got, k)
				}
			}
			if s := show(got); s != m.want {
				t.Errorf("%s of %s: found %q, want %q", m.name, m.vol, s, m.want)
				for i, f := range fs {
					if bases[m.vol][f.Name] == 0 && i < 400 {
						t.Log(f)
					}
				}
			}
			// With tables that hold a part only, the same must come out.
			little, lr := v.run(func(o *Options) { o.Memory, o.Workers = 60_000, 1 })
			if diff := cmp.Diff(lines(fs), lines(little)); diff != "" || lr.Incomplete != r.Incomplete {
				t.Errorf("%s of %s with little memory, %d passes, finds something else (-want +got):\n%s", m.name, m.vol, lr.Passes, diff)
			}
		})
	}
}
