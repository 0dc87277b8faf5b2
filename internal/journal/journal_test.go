package journal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/block/blocktest"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/internal/testvol/build"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

var ctx = context.Background()

// state is what Load made of a volume, in a form to compare.
type state struct {
	Clean            bool
	Seq, First, Last uint64
	Missing          []ondisk.SeqRange
	Roots            map[ondisk.BtreeID]string // level and sector, or "lost"
	Keys             []string                  // of the overlay
	Warnings         []string
}

func load(t *testing.T, v *build.Volume) (*State, []string, error) {
	t.Helper()
	return loadFrom(t, v.Devices())
}

func loadFrom(t *testing.T, devs []block.Reader) (*State, []string, error) {
	t.Helper()
	var warned []string
	set, err := members.Open(ctx, devs, members.Options{Warn: func(err error) { warned = append(warned, err.Error()) }})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Load(ctx, set)
	return s, warned, err
}

func show(s *State, warned []string) state {
	x := state{Clean: s.Clean, Seq: s.Seq, First: s.First, Last: s.Last, Missing: s.Missing, Warnings: warned}
	for b, r := range s.Roots {
		if x.Roots == nil {
			x.Roots = map[ondisk.BtreeID]string{}
		}
		if r.Lost {
			x.Roots[b] = "lost"
			continue
		}
		p, err := ondisk.DecodeBtreePtr(r.Key)
		if err != nil {
			x.Roots[b] = err.Error()
			continue
		}
		x.Roots[b] = fmt.Sprintf("%d@%d", r.Level, p.Ptrs[0].Offset)
	}
	for b := range ondisk.BtreeID(ondisk.MaxBtrees) {
		for _, l := range s.Overlay.Levels(b) {
			for _, k := range s.Overlay.Range(b, l, ondisk.PosMin, ondisk.SPosMax) {
				val := ""
				if len(k.Val) > 0 {
					val = fmt.Sprint("=", binary.LittleEndian.Uint64(k.Val))
				}
				x.Keys = append(x.Keys, fmt.Sprintf("%v/%d %v %v%s @%d", b, l, k.Pos, k.Type, val, k.Seq))
			}
		}
	}
	return x
}

// check compares, warnings by a part of each.
func check(t *testing.T, got, want state) {
	t.Helper()
	g, w := got.Warnings, want.Warnings
	got.Warnings, want.Warnings = nil, nil
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("state (-want +got):\n%s", d)
	}
	ok := len(g) == len(w)
	for i := range w {
		ok = ok && strings.Contains(g[i], w[i])
	}
	if !ok {
		t.Errorf("warnings:\n\t%s\nwant parts of:\n\t%s", strings.Join(g, "\n\t"), strings.Join(w, "\n\t"))
	}
}

// root is a root entry of a btree at a sector.
func root(b ondisk.BtreeID, level uint8, sector uint64) ondisk.JsetEntry {
	p := ondisk.BtreePtr{V2: true, Seq: 1, SectorsWritten: 8, Ptrs: []ondisk.Ptr{{Offset: sector}}}
	return ondisk.JsetEntry{Type: ondisk.EntryBtreeRoot, Btree: b, Level: level, Data: build.PtrKey(p, ondisk.SPosMax).Append(nil)}
}

// key is an entry of one key, a cookie at reconcile_scan:offset with a value.
func key(offset, val uint64) ondisk.JsetEntry {
	return build.Keys(ondisk.BtreeReconcileScan, 0, build.Key(ondisk.KeyCookie, 0, offset, 0, ondisk.AppendCookie(nil, val)))
}

// jset is a flush entry with a root, whose place tells the entry, and more.
func jset(seq, last uint64, more ...ondisk.JsetEntry) build.Jset {
	return build.Jset{Seq: seq, LastSeq: last, Entries: append(more, root(0, 0, 1000+seq))}
}

func noflush(j build.Jset) build.Jset { j.NoFlush = true; return j }

// torn ends in the middle: its last bytes are those of something else.
func torn(j build.Jset) build.Jset {
	j.Damage = func(b []byte) { b[len(b)-1] ^= 0x55 }
	return j
}

func roots(sector uint64) map[ondisk.BtreeID]string {
	return map[ondisk.BtreeID]string{0: fmt.Sprintf("0@%d", sector)}
}

func kv(offset, val, seq uint64) string {
	return fmt.Sprintf("reconcile_scan/0 %v cookie=%d @%d", ondisk.Pos{Offset: offset}, val, seq)
}

func unclean(c build.Config) *build.Volume {
	v := build.New(c)
	v.Unclean()
	return v
}

// TestRing reads journals of one member.
func TestRing(t *testing.T) {
	for _, c := range []struct {
		name string
		put  func(v *build.Volume)
		want state
	}{
		{"newest of each position wins", func(v *build.Volume) {
			v.PutJset(0, 1, 0, jset(3, 3, key(1, 30), key(2, 31)), jset(4, 3, key(2, 40), key(3, 41), key(3, 42)))
			v.PutJset(0, 2, 0, jset(5, 3, build.Keys(ondisk.BtreeReconcileScan, 0, build.Deleted(ondisk.Pos{Offset: 1}))))
		}, state{Seq: 5, First: 3, Last: 5, Roots: roots(1005), Keys: []string{"reconcile_scan/0 0:1:0 deleted @5", kv(2, 40, 4), kv(3, 42, 4)}}},
		{"older than the window", func(v *build.Volume) {
			v.PutJset(0, 0, 0, jset(3, 3, key(1, 30)), jset(4, 3, key(2, 40)), jset(5, 4, key(3, 50)))
		}, state{Seq: 5, First: 4, Last: 5, Roots: roots(1005), Keys: []string{kv(2, 40, 4), kv(3, 50, 5)}}},
		{"write_buffer_keys count as keys; log, overwrite and unknown entries do not", func(v *build.Volume) {
			w := key(1, 30)
			w.Type = ondisk.EntryWriteBufferKeys
			o := key(2, 31)
			o.Type = ondisk.EntryOverwrite
			x := key(3, 32)
			x.Type = 99
			v.PutJset(0, 0, 0, jset(3, 3, w, o, x, ondisk.JsetEntry{Type: ondisk.EntryLog, Data: []byte("mkdir\x00\x00\x00")}, ondisk.JsetEntry{}))
		}, state{Seq: 3, First: 3, Last: 3, Roots: roots(1003), Keys: []string{kv(1, 30, 3)}}},
		{"torn last entry", func(v *build.Volume) {
			v.PutJset(0, 0, 0, jset(3, 3, key(1, 30)), torn(jset(4, 4, key(2, 40))))
		}, state{Seq: 4, First: 3, Last: 3, Roots: roots(1003), Keys: []string{kv(1, 30, 3)}}},
		{"two damaged at the end: the second is lost data", func(v *build.Volume) {
			v.PutJset(0, 0, 0, jset(3, 3, key(1, 30)), torn(jset(4, 3)), torn(jset(5, 3)))
		}, state{Seq: 5, First: 3, Last: 3, Roots: roots(1003), Keys: []string{kv(1, 30, 3)}, Warnings: []string{"journal entry lost: checksum at member 0, sector 520, journal seq 4"}}},
		{"damaged inside of the window", func(v *build.Volume) {
			v.PutJset(0, 0, 0, jset(3, 3, key(1, 30)), torn(jset(4, 3, key(2, 40))), jset(5, 3, key(3, 50)))
		}, state{Seq: 5, First: 3, Last: 5, Roots: roots(1005), Missing: []ondisk.SeqRange{{Start: 4, End: 5}}, Keys: []string{kv(1, 30, 3), kv(3, 50, 5)},
			Warnings: []string{"jset checksum at member 0, sector 520, journal seq 4", "journal_entries_missing: found entries 4-4 of 3-5"}}},
		{"no-flush entries at the end do not count", func(v *build.Volume) {
			v.PutJset(0, 0, 0, jset(3, 3, key(1, 30)), noflush(jset(4, 3, key(2, 40))))
		}, state{Seq: 4, First: 3, Last: 3, Roots: roots(1003), Keys: []string{kv(1, 30, 3)}}},
		{"no-flush entries inside do", func(v *build.Volume) {
			v.PutJset(0, 0, 0, jset(3, 3, key(1, 30)), noflush(jset(4, 3, key(2, 40))), jset(5, 3))
		}, state{Seq: 5, First: 3, Last: 5, Roots: roots(1005), Keys: []string{kv(1, 30, 3), kv(2, 40, 4)}}},
		{"torn flush behind no-flush", func(v *build.Volume) {
			v.PutJset(0, 0, 0, jset(3, 3, key(1, 30)), noflush(jset(4, 3, key(2, 40))), torn(jset(5, 5)))
		}, state{Seq: 5, First: 3, Last: 3, Roots: roots(1003), Keys: []string{kv(1, 30, 3)}}},
		{"gap", func(v *build.Volume) {
			v.PutJset(0, 0, 0, jset(3, 3, key(1, 30)), jset(8, 3, key(2, 80)))
		}, state{Seq: 8, First: 3, Last: 8, Roots: roots(1008), Missing: []ondisk.SeqRange{{Start: 4, End: 8}}, Keys: []string{kv(1, 30, 3), kv(2, 80, 8)},
			Warnings: []string{"journal_entries_missing: found entries 4-7 of 3-8"}}},
		{"gap at the start", func(v *build.Volume) {
			v.PutJset(0, 0, 0, jset(8, 6, key(2, 80)))
		}, state{Seq: 8, First: 6, Last: 8, Roots: roots(1008), Missing: []ondisk.SeqRange{{Start: 6, End: 8}}, Keys: []string{kv(2, 80, 8)}, Warnings: []string{"found entries 6-7 of 6-8"}}},
		{"blacklisted gap", func(v *build.Volume) {
			v.SB.SetBlacklist([]ondisk.SeqRange{{Start: 4, End: 8}})
			v.PutJset(0, 0, 0, jset(3, 3, key(1, 30)), jset(8, 3, key(2, 80)))
		}, state{Seq: 8, First: 3, Last: 8, Roots: roots(1008), Keys: []string{kv(1, 30, 3), kv(2, 80, 8)}}},
		{"gap that is blacklisted in part", func(v *build.Volume) {
			v.SB.SetBlacklist([]ondisk.SeqRange{{Start: 1, End: 5}, {Start: 6, End: 7}, {Start: 9, End: 20}})
			v.PutJset(0, 0, 0, jset(8, 3, key(2, 80)))
		}, state{Seq: 8, First: 3, Last: 8, Roots: roots(1008), Missing: []ondisk.SeqRange{{Start: 5, End: 6}, {Start: 7, End: 8}}, Keys: []string{kv(2, 80, 8)},
			Warnings: []string{"found entries 5-5 of 3-8", "found entries 7-7 of 3-8"}}},
		{"entries of blacklisted numbers are ignored", func(v *build.Volume) {
			v.SB.SetBlacklist([]ondisk.SeqRange{{Start: 4, End: 6}})
			v.PutJset(0, 0, 0, jset(3, 3, key(1, 30)), noflush(jset(4, 3, key(1, 40))), jset(5, 3, key(1, 50)), jset(6, 3, key(2, 60)))
		}, state{Seq: 6, First: 3, Last: 6, Roots: roots(1006), Keys: []string{kv(1, 30, 3), kv(2, 60, 6)}, Warnings: []string{"jset_seq_blacklisted at member 0, sector 528, journal seq 5"}}},
		{"the newest entry is blacklisted", func(v *build.Volume) {
			v.SB.SetBlacklist([]ondisk.SeqRange{{Start: 4, End: 12}})
			v.PutJset(0, 0, 0, jset(3, 3, key(1, 30)), jset(5, 4, key(1, 50)))
		}, state{Seq: 5, First: 3, Last: 3, Roots: roots(1003), Keys: []string{kv(1, 30, 3)}}},
		{"blacklist entries of old writers", func(v *build.Volume) {
			le := binary.LittleEndian
			one := ondisk.JsetEntry{Type: ondisk.EntryBlacklist, Data: le.AppendUint64(nil, 4)}
			two := ondisk.JsetEntry{Type: ondisk.EntryBlacklistV2, Data: le.AppendUint64(le.AppendUint64(nil, 5), 6)}
			v.PutJset(0, 0, 0, jset(3, 3, one, two), jset(7, 3))
		}, state{Seq: 7, First: 3, Last: 7, Roots: roots(1007)}},
		{"stale lap behind the newest entry", func(v *build.Volume) {
			v.PutJset(0, 0, 0, jset(9, 9, key(1, 90)), jset(3, 3, key(1, 30)), jset(4, 3, key(5, 40)))
			v.PutJset(0, 1, 0, jset(5, 3, key(6, 50)))
		}, state{Seq: 9, First: 9, Last: 9, Roots: roots(1009), Keys: []string{kv(1, 90, 9)}}},
		{"ring wraps", func(v *build.Volume) {
			v.PutJset(0, build.JournalNr-1, 0, jset(8, 8, key(1, 80)))
			v.PutJset(0, 0, 0, jset(9, 8, key(2, 90)))
		}, state{Seq: 9, First: 8, Last: 9, Roots: roots(1009), Keys: []string{kv(1, 80, 8), kv(2, 90, 9)}}},
		{"last_seq newer than seq", func(v *build.Volume) {
			v.PutJset(0, 0, 0, jset(3, 3, key(1, 30)), jset(4, 9, key(2, 40)))
		}, state{Seq: 4, First: 4, Last: 4, Roots: roots(1004), Keys: []string{kv(2, 40, 4)}, Warnings: []string{"jset_last_seq_newer_than_seq at member 0, sector 520, journal seq 4: expected at most 4, found 9"}}},
		{"a bit flip makes a huge seq: in the last entry it is a torn one", func(v *build.Volume) {
			j := jset(4, 3)
			j.Damage = func(b []byte) { b[24+6] ^= 1 }
			v.PutJset(0, 0, 0, jset(3, 3, key(1, 30)), j)
		}, state{Seq: 3, First: 3, Last: 3, Roots: roots(1003), Keys: []string{kv(1, 30, 3)}}},
		{"a bit flip makes a huge seq in the middle of a bucket", func(v *build.Volume) {
			j := jset(4, 3, key(2, 40))
			j.Damage = func(b []byte) { b[24+6] ^= 1 }
			v.PutJset(0, 0, 0, jset(3, 3, key(1, 30)), j, jset(5, 3, key(3, 50)))
		}, state{Seq: 5, First: 3, Last: 5, Roots: roots(1005), Missing: []ondisk.SeqRange{{Start: 4, End: 5}}, Keys: []string{kv(1, 30, 3), kv(3, 50, 5)}, Warnings: []string{"found entries 4-4 of 3-5"}}},
		{"a bit flip makes a huge size: what follows is found all the same", func(v *build.Volume) {
			j := jset(4, 3, key(2, 40))
			j.Damage = func(b []byte) { b[42] ^= 1 }
			v.PutJset(0, 0, 0, jset(3, 3, key(1, 30)), j, jset(5, 3, key(3, 50)))
		}, state{Seq: 5, First: 3, Last: 5, Roots: roots(1005), Missing: []ondisk.SeqRange{{Start: 4, End: 5}}, Keys: []string{kv(1, 30, 3), kv(3, 50, 5)},
			Warnings: []string{"jset_past_bucket_end", "jset checksum", "found entries 4-4 of 3-5"}}},
		{"a bit flip in the version of one entry", func(v *build.Volume) {
			j := jset(4, 3, key(2, 40))
			j.Damage = func(b []byte) { b[33] ^= 0x80 }
			v.PutJset(0, 0, 0, jset(3, 3, key(1, 30)), j, jset(5, 3, key(3, 50)))
		}, state{Seq: 5, First: 3, Last: 5, Roots: roots(1005), Missing: []ondisk.SeqRange{{Start: 4, End: 5}}, Keys: []string{kv(1, 30, 3), kv(3, 50, 5)}, Warnings: []string{"jset checksum", "found entries 4-4 of 3-5"}}},
		{"unknown checksum type", func(v *build.Volume) {
			j := jset(4, 3, key(2, 40))
			j.Header = func(h *ondisk.Jset) { h.Flags = h.Flags&^15 | 9 }
			v.PutJset(0, 0, 0, jset(3, 3, key(1, 30)), j, jset(5, 3, key(3, 50)))
		}, state{Seq: 5, First: 3, Last: 5, Roots: roots(1005), Missing: []ondisk.SeqRange{{Start: 4, End: 5}}, Keys: []string{kv(1, 30, 3), kv(3, 50, 5)}, Warnings: []string{"jset_unknown_csum", "jset checksum", "found entries 4-4 of 3-5"}}},
		{"a newer minor version", func(v *build.Volume) {
			j := jset(3, 3, key(1, 30))
			j.Header = func(h *ondisk.Jset) { h.Version = uint32(ondisk.Version1_0 + 60) }
			v.PutJset(0, 0, 0, j)
		}, state{Seq: 3, First: 3, Last: 3, Roots: roots(1003), Keys: []string{kv(1, 30, 3)}}},
		{"a root without a key leaves the one before", func(v *build.Volume) {
			v.PutJset(0, 0, 0, jset(3, 3), build.Jset{Seq: 4, LastSeq: 3, Entries: []ondisk.JsetEntry{{Type: ondisk.EntryBtreeRoot, Btree: 0}}})
		}, state{Seq: 4, First: 3, Last: 4, Roots: roots(1003)}},
		{"a root without a key and none before is lost, not empty", func(v *build.Volume) {
			v.PutJset(0, 0, 0, jset(3, 3, ondisk.JsetEntry{Type: ondisk.EntryBtreeRoot, Btree: 1}))
		}, state{Seq: 3, First: 3, Last: 3, Roots: map[ondisk.BtreeID]string{0: "0@1003", 1: "lost"}}},
		{"roots that make no sense", func(v *build.Volume) {
			high := root(1, 9, 5)
			nokey := root(2, 0, 5)
			nokey.Data = nokey.Data[:40]
			noptr := root(3, 0, 5)
			noptr.Data = build.Key(ondisk.KeyCookie, 1, 2, 3, make([]byte, 8)).Append(nil)
			two := root(5, 0, 5)
			two.Data = append(two.Data, two.Data...)
			v.PutJset(0, 0, 0, jset(3, 3, high, nokey, noptr, two, root(63, 0, 5)))
		}, state{Seq: 3, First: 3, Last: 3, Roots: map[ondisk.BtreeID]string{0: "0@1003", 1: "lost", 2: "lost", 3: "lost", 5: "lost"},
			Warnings: []string{"invalid_btree_id at journal seq 3, btree inodes: found btree 1 level 9", "journal_entry_bkey_past_end", "bkey_invalid_type_for_btree", "journal_entry_btree_root_bad_size", "invalid_btree_id"}}},
		{"keys that make no sense are dropped, their neighbors are not", func(v *build.Volume) {
			e := key(1, 30)
			bad := key(2, 31)
			bad.Data[1] = 0 // packed
			e.Data = append(e.Data, bad.Data...)
			e.Data = append(e.Data, build.Keys(0, 0, build.Key(ondisk.KeyCookie, 0, 3, 0, nil)).Data...) // no value
			e.Data = append(e.Data, key(4, 33).Data...)
			// Inode positions have a snapshot.
			i := build.Keys(ondisk.BtreeInodes, 0, build.Key(ondisk.KeyInodeV3, 0, 5000, 0, make([]byte, 48)))
			p := build.Keys(ondisk.BtreeInodes, 1, build.Key(ondisk.KeyCookie, 0, 5000, 1, make([]byte, 8)))
			v.PutJset(0, 0, 0, jset(3, 3, e, i, p))
		}, state{Seq: 3, First: 3, Last: 3, Roots: roots(1003), Keys: []string{kv(1, 30, 3), kv(4, 33, 3)},
			Warnings: []string{"journal_entry_bkey_bad_format at member 0, sector 512, journal seq 3", "bkey_val_size_too_small", "bkey_snapshot_zero", "bkey_invalid_type_for_btree"}}},
		{"an entry that runs past the end", func(v *build.Volume) {
			j := jset(3, 3, key(1, 30))
			j.Entries = append(j.Entries, key(2, 31))
			j.Header = func(h *ondisk.Jset) { h.U64s-- }
			v.PutJset(0, 0, 0, j)
		}, state{Seq: 3, First: 3, Last: 3, Roots: roots(1003), Keys: []string{kv(1, 30, 3)}, Warnings: []string{"journal_entry_past_jset_end at member 0, sector 512, journal seq 3"}}},
		{"accounting: all deltas stay", func(v *build.Volume) {
			d := func(n, ver uint64) ondisk.JsetEntry {
				k := build.Key(ondisk.KeyAccounting, 7, 0, 0, ondisk.AppendCookie(nil, n))
				k.Version.Lo = ver
				return build.Keys(ondisk.BtreeAccounting, 0, k)
			}
			v.PutJset(0, 0, 0, jset(3, 3, d(5, 1), d(6, 2)), jset(4, 3, d(5, 3)))
		}, state{Seq: 4, First: 3, Last: 4, Roots: roots(1004), Keys: []string{"accounting/0 7:0:0 accounting=5 @3", "accounting/0 7:0:0 accounting=6 @3", "accounting/0 7:0:0 accounting=5 @4"}}},
		{"interior keys", func(v *build.Volume) {
			p := build.PtrKey(ondisk.BtreePtr{V2: true, Seq: 1, Ptrs: []ondisk.Ptr{{Offset: 77}}}, ondisk.Pos{Inode: 9})
			v.PutJset(0, 0, 0, jset(3, 3, build.Keys(0, 1, p, build.Deleted(ondisk.Pos{Inode: 8}))))
		}, state{Seq: 3, First: 3, Last: 3, Roots: roots(1003), Keys: []string{"extents/1 8:0:0 deleted @3", "extents/1 9:0:0 btree_ptr_v2=0 @3"}}},
		{"only no-flush entries: the newest has roots at least", func(v *build.Volume) {
			v.PutJset(0, 0, 0, noflush(jset(3, 3)), noflush(jset(4, 3, key(1, 40))))
		}, state{Seq: 4, First: 4, Last: 4, Roots: roots(1004), Keys: []string{kv(1, 40, 4)}, Warnings: []string{"dirty_but_no_journal_entries_post_drop_nonflushes"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, cfg := range []build.Config{{}, {Key: &crypt.Key{5}}} {
				v := unclean(cfg)
				c.put(v)
				s, w, err := load(t, v)
				if err != nil {
					t.Fatalf("encrypted %t: %v", cfg.Key != nil, err)
				}
				check(t, show(s, w), c.want)
			}
		})
	}
}

// TestSizes: entries of every size around those of blocks and buckets.
func TestSizes(t *testing.T) {
	for _, blk := range []uint16{1, 8} {
		v := unclean(build.Config{Block: blk})
		// 56 + 8 + 96 bytes of header and root, and a filler.
		var want []uint64
		at, ring, seq := uint64(0), 0, uint64(10)
		for _, n := range []int{0, 1, 43, 44, 45, 425, 490, 491, 492, 493, 1000, 3000} {
			j := jset(seq, 10, ondisk.JsetEntry{Type: ondisk.EntryLog, Data: make([]byte, 8*n)})
			if size := uint64(len(v.EncodeJset(j)) / 512); at+size > uint64(v.Bucket) {
				at, ring = 0, ring+1
			}
			at = v.PutJset(0, ring, at, j)
			want = append(want, seq)
			seq++
		}
		s, w, err := load(t, v)
		if err != nil || len(w) > 0 {
			t.Fatalf("Load: %v, %q", err, w)
		}
		var got []uint64
		for _, e := range s.Entries {
			if e.Good {
				got = append(got, e.Seq)
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("block of %d sectors: entries (-want +got):\n%s", blk, d)
		}
	}
}

// TestNothingUsable: without a readable entry there is no state.
func TestNothingUsable(t *testing.T) {
	for _, c := range []struct {
		name string
		put  func(v *build.Volume)
		kind error
		says string
	}{
		{"empty ring", func(*build.Volume) {}, errs.ErrCorrupt, "dirty_but_no_journal_entries"},
		{"nothing intact", func(v *build.Volume) { v.PutJset(0, 0, 0, torn(jset(3, 3)), torn(jset(4, 3))) }, errs.ErrCorrupt, "post_drop_nonflushes"},
		{"big endian", func(v *build.Volume) {
			j := jset(3, 3)
			j.Header = func(h *ondisk.Jset) { h.Flags |= 16 }
			v.PutJset(0, 0, 0, j)
		}, errs.ErrUnsupported, "jset_big_endian at member 0, sector 512, journal seq 3"},
		{"major version 2", func(v *build.Volume) {
			j := jset(3, 3)
			j.Header = func(h *ondisk.Jset) { h.Version = 2 << 10 }
			v.PutJset(0, 0, 0, j)
		}, errs.ErrVersion, "jset_unsupported_version at member 0, sector 512, journal seq 3: expected 0.9 to 1.x, found 2.0"},
		{"version that is no version", func(v *build.Volume) {
			j := jset(3, 3)
			j.Header = func(h *ondisk.Jset) { h.Version = 1<<20 | uint32(ondisk.Version1_13) }
			v.PutJset(0, 0, 0, j)
		}, errs.ErrVersion, "jset_unsupported_version"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := unclean(build.Config{})
			c.put(v)
			_, _, err := load(t, v)
			if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Load = %v, want %v with %q", err, c.kind, c.says)
			}
		})
	}
}

// TestNoChecksums: an entry that is cut off must not pass for a whole one only
// because nothing is summed.
func TestNoChecksums(t *testing.T) {
	v := unclean(build.Config{NoMetaCsum: true})
	j := jset(4, 3, key(2, 40))
	j.Header = func(h *ondisk.Jset) { h.U64s |= 1 << 20 }
	v.PutJset(0, 0, 0, jset(3, 3, key(1, 30)), j)
	s, w, err := load(t, v)
	if err != nil {
		t.Fatal(err)
	}
	check(t, show(s, w), state{Seq: 4, First: 3, Last: 3, Roots: roots(1003), Keys: []string{kv(1, 30, 3)}, Warnings: []string{"jset_past_bucket_end"}})
}

// TestMembers reads journals that are spread over members.
func TestMembers(t *testing.T) {
	for _, c := range []struct {
		name   string
		put    func(v *build.Volume)
		want   state
		places map[uint64]int // of entries, where not 1
	}{
		{"the same on both", func(v *build.Volume) {
			v.PutJset(0, 0, 0, jset(3, 3, key(1, 30)), jset(4, 3))
			v.PutJset(1, 5, 0, jset(3, 3, key(1, 30)), jset(4, 3))
		}, state{Seq: 4, First: 3, Last: 4, Roots: roots(1004), Keys: []string{kv(1, 30, 3)}}, map[uint64]int{3: 2, 4: 2}},
		{"each has some", func(v *build.Volume) {
			v.PutJset(0, 0, 0, jset(3, 3, key(1, 30)), jset(5, 3, key(3, 50)))
			v.PutJset(1, 0, 0, jset(4, 3, key(2, 40)), jset(6, 3))
		}, state{Seq: 6, First: 3, Last: 6, Roots: roots(1006), Keys: []string{kv(1, 30, 3), kv(2, 40, 4), kv(3, 50, 5)}}, nil},
		{"damaged on one", func(v *build.Volume) {
			v.PutJset(0, 0, 0, torn(jset(3, 3, key(1, 30))), jset(4, 3))
			v.PutJset(1, 0, 0, jset(3, 3, key(1, 30)), torn(jset(4, 3)))
		}, state{Seq: 4, First: 3, Last: 4, Roots: roots(1004), Keys: []string{kv(1, 30, 3)}}, nil},
		{"damaged on both", func(v *build.Volume) {
			v.PutJset(0, 0, 0, jset(3, 3, key(1, 30)), torn(jset(4, 3)), jset(5, 3))
			v.PutJset(1, 0, 0, torn(jset(4, 3)))
		}, state{Seq: 5, First: 3, Last: 5, Roots: roots(1005), Missing: []ondisk.SeqRange{{Start: 4, End: 5}}, Keys: []string{kv(1, 30, 3)}, Warnings: []string{"jset checksum", "found entries 4-4 of 3-5"}}, map[uint64]int{4: 2}},
		{"differ: the first member is believed", func(v *build.Volume) {
			v.PutJset(0, 0, 0, jset(3, 3, key(1, 30)))
			v.PutJset(1, 0, 0, jset(3, 3, key(1, 31)))
		}, state{Seq: 3, First: 3, Last: 3, Roots: roots(1003), Keys: []string{kv(1, 30, 3)}, Warnings: []string{"journal_entry_replicas_data_mismatch"}}, nil},
		{"twice on one member", func(v *build.Volume) {
			v.PutJset(0, 0, 0, jset(3, 3))
			v.PutJset(0, 2, 0, jset(3, 3))
		}, state{Seq: 3, First: 3, Last: 3, Roots: roots(1003), Warnings: []string{"journal_entry_dup_same_device at member 0, sector 640, journal seq 3: expected only sector 512, found 640"}}, map[uint64]int{3: 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for range 5 { // the order in which members are read varies
				v := unclean(build.Config{Members: 2})
				c.put(v)
				s, w, err := load(t, v)
				if err != nil {
					t.Fatal(err)
				}
				check(t, show(s, w), c.want)
				for _, e := range s.Entries {
					if want := max(1, c.places[e.Seq]); len(e.Places) != want {
						t.Errorf("entry %d has %d places, want %d", e.Seq, len(e.Places), want)
					}
				}
			}
		})
	}
}

// TestUnreadableBucket: what the device cannot deliver is missing, no more.
func TestUnreadableBucket(t *testing.T) {
	v := unclean(build.Config{Members: 2})
	v.PutJset(0, 0, 0, jset(3, 3, key(1, 30)))
	v.PutJset(0, 1, 0, jset(4, 3, key(2, 40)), jset(5, 3, key(3, 50)))
	v.PutJset(1, 0, 0, jset(4, 3, key(2, 40)), jset(6, 3))
	devs := v.Devices()
	bucket := int64(v.JournalBuckets()[1]) * int64(v.Bucket) * 512
	devs[0] = blocktest.NewFault(devs[0], blocktest.EIO(bucket, 512))
	s, w, err := loadFrom(t, devs)
	if err != nil {
		t.Fatal(err)
	}
	check(t, show(s, w), state{Seq: 6, First: 3, Last: 6, Roots: roots(1006), Missing: []ondisk.SeqRange{{Start: 5, End: 6}}, Keys: []string{kv(1, 30, 3), kv(2, 40, 4)},
		Warnings: []string{"journal bucket 9: device read at member0, member 0, sector 576", "found entries 5-5 of 3-6"}})
}

// TestGoneBetweenReads: the payload is read a second time; if that fails, from
// the other member, and if there is none the entry is missing.
func TestGoneBetweenReads(t *testing.T) {
	v := unclean(build.Config{Members: 2})
	v.PutJset(0, 0, 0, jset(3, 3, key(1, 30)), jset(4, 3, key(2, 40)), jset(5, 3))
	v.PutJset(1, 0, 0, jset(3, 3, key(1, 30)))
	devs := v.Devices()
	first := int64(v.JournalBuckets()[0]) * int64(v.Bucket) * 512
	flip := blocktest.Flip(first+100, 8000, 1) // the entries 3 and 4
	flip.Skip = 1
	devs[0] = blocktest.NewFault(devs[0], flip)
	s, w, err := loadFrom(t, devs)
	if err != nil {
		t.Fatal(err)
	}
	check(t, show(s, w), state{Seq: 5, First: 3, Last: 5, Roots: roots(1005), Missing: []ondisk.SeqRange{{Start: 4, End: 5}}, Keys: []string{kv(1, 30, 3)},
		Warnings: []string{"jset checksum at member 0, sector 520, journal seq 4", "found entries 4-4 of 3-5"}})
}

// TestTruncated: of a journal that the device does not reach, what is there is
// read, and the rest is said once.
func TestTruncated(t *testing.T) {
	v := unclean(build.Config{})
	v.PutJset(0, 0, 0, jset(3, 3, key(1, 30)))
	v.PutJset(0, 5, 0, jset(4, 3, key(2, 40)))
	d := v.Devices()[0]
	b := make([]byte, int64(v.JournalBuckets()[2])*int64(v.Bucket)*512)
	if _, err := d.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	s, w, err := loadFrom(t, []block.Reader{block.NewMemory("cut", b)})
	if err != nil {
		t.Fatal(err)
	}
	check(t, show(s, w), state{Seq: 3, First: 3, Last: 3, Roots: roots(1003), Keys: []string{kv(1, 30, 3)},
		Warnings: []string{"superblock copy ignored", "device is truncated", "journal bucket 10: read past the end of the device at cut, member 0, sector 640", "5 more buckets are past the end"}})
}

func TestCleanSection(t *testing.T) {
	section := func(v *build.Volume, es ...ondisk.JsetEntry) {
		c := &ondisk.Clean{JournalSeq: 7}
		for _, e := range es {
			c.Entries = e.Append(c.Entries)
		}
		v.SB.SetCleanSection(c)
	}
	le := binary.LittleEndian
	for _, c := range []struct {
		name string
		put  func(v *build.Volume)
		want state
	}{
		{"good", func(v *build.Volume) { section(v, root(0, 0, 500), root(1, 1, 600), ondisk.JsetEntry{}) },
			state{Clean: true, Seq: 7, Roots: map[ondisk.BtreeID]string{0: "0@500", 1: "1@600"}}},
		{"not there", func(v *build.Volume) {
			v.Change = func(_ int, sb *ondisk.Superblock) { sb.SetCleanSection(nil) }
			v.PutJset(0, 0, 0, jset(7, 7))
		}, state{Seq: 7, First: 7, Last: 7, Roots: roots(1007), Warnings: []string{"clean section not usable, reading the journal: sb_clean_missing"}}},
		{"with a root that makes no sense", func(v *build.Volume) {
			bad := root(0, 0, 500)
			bad.Data = build.Key(ondisk.KeyCookie, 1, 2, 3, make([]byte, 8)).Append(nil)
			section(v, bad, root(1, 0, 600))
			v.PutJset(0, 0, 0, jset(7, 7, root(1, 0, 600)))
		}, state{Seq: 7, First: 7, Last: 7, Roots: map[ondisk.BtreeID]string{0: "0@1007", 1: "0@600"}, Warnings: []string{"btree root: bkey_invalid_type_for_btree", "clean section not usable, reading the journal"}}},
		{"stale, of a volume that is not clean", func(v *build.Volume) {
			section(v, root(0, 0, 500))
			v.Unclean()
			v.PutJset(0, 0, 0, jset(9, 9))
		}, state{Seq: 9, First: 9, Last: 9, Roots: roots(1009)}},
		{"counters", func(v *build.Volume) {
			section(v, root(0, 0, 500), ondisk.JsetEntry{Type: ondisk.EntryUsage, Btree: ondisk.UsageKeyVersion, Data: le.AppendUint64(nil, 42)},
				ondisk.JsetEntry{Type: ondisk.EntryClock, Data: le.AppendUint64(le.AppendUint64(nil, 1), 99)})
		}, state{Clean: true, Seq: 7, Roots: map[ondisk.BtreeID]string{0: "0@500"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := build.New(build.Config{})
			c.put(v)
			s, w, err := load(t, v)
			if err != nil {
				t.Fatal(err)
			}
			check(t, show(s, w), c.want)
			if c.name == "counters" && (s.KeyVersion != 42 || s.Clock != [2]uint64{0, 99}) {
				t.Errorf("key version %d, clock %v, want 42, [0 99]", s.KeyVersion, s.Clock)
			}
		})
	}
}

// TestScan lists all entries there are, damaged ones without payload.
func TestScan(t *testing.T) {
	v := unclean(build.Config{Key: &crypt.Key{7}})
	v.PutJset(0, 3, 0, jset(5, 5, key(1, 50)))
	v.PutJset(0, 0, 0, jset(8, 8, key(1, 80)), torn(jset(9, 8)))
	set, err := members.Open(ctx, v.Devices(), members.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := Scan(ctx, set, func(e *Entry) error {
		n := 0
		if e.Payload != nil {
			if err := ondisk.JsetEntries(e.Payload, func(ondisk.JsetEntry) bool { n++; return true }); err != nil {
				return err
			}
		}
		got = append(got, fmt.Sprintf("%d %t %d entries, ring %d", e.Seq, e.Good, n, e.Places[0].Ring))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"5 true 2 entries, ring 3", "8 true 2 entries, ring 0", "9 false 0 entries, ring 0"}, got); d != "" {
		t.Errorf("Scan (-want +got):\n%s", d)
	}
	stop := errors.New("enough")
	if err := Scan(ctx, set, func(*Entry) error { return stop }); err != stop {
		t.Errorf("Scan = %v, want what the function says", err)
	}
}

func TestBlacklist(t *testing.T) {
	var b Blacklist
	for _, r := range [][2]uint64{{20, 30}, {5, 6}, {8, 10}, {6, 8}, {25, 40}, {22, 23}, {1, 2}} {
		b.add(r[0], r[1])
	}
	if d := cmp.Diff(Blacklist{{Start: 1, End: 2}, {Start: 5, End: 10}, {Start: 20, End: 40}}, b); d != "" {
		t.Errorf("blacklist (-want +got):\n%s", d)
	}
	for seq := range uint64(50) {
		want := seq == 1 || seq >= 5 && seq < 10 || seq >= 20 && seq < 40
		if got := b.Has(seq); got != want {
			t.Errorf("Has(%d) = %t, want %t", seq, got, want)
		}
	}
}
