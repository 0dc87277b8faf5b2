package check

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/journal"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// warned takes what members and journal report of the volume while it is opened:
// most of it are findings.
func (c *checker) warned(err error) {
	var e *errs.Error
	switch {
	case strings.HasPrefix(err.Error(), "superblock copy ignored"):
		return // looked at again, with the other copies
	case strings.HasPrefix(err.Error(), "degraded"):
		c.note("degraded", errs.Nowhere, "%s", strings.TrimPrefix(err.Error(), "degraded: "))
	case errors.As(err, &e) && e.Reason == "journal entry lost: checksum":
		c.bad("journal_entry_lost", e.Where, "a good checksum", "a bad one, in a flush entry before the newest good one")
	case errors.As(err, &e) && e.Reason == "jset checksum":
		return // missing in the window: reported as that
	case errors.As(err, &e):
		c.badErr(e, errs.Nowhere, "volume_open_warning")
	default:
		c.note("volume_open_warning", errs.Nowhere, "%v", err)
	}
}

// checkJournal reads every entry in the rings of all members: those that count on
// a volume that is not clean, and on a clean one the last, which no release looks
// at (chapter 03 section 9).
func (c *checker) checkJournal(ctx context.Context) error {
	var last *journal.Entry // the newest flush entry, of a clean volume
	var payload []byte
	var version ondisk.Bversion
	var roots map[ondisk.BtreeID]bool // of the entry before, in the window
	any := false
	err := journal.Scan(ctx, c.set, func(e *journal.Entry) error {
		any = true
		if !e.Good {
			return nil // torn, or of an earlier time; in the window it is missing
		}
		w := entryPlace(e)
		if e.NoFlush() && e.LastSeq != 0 {
			c.bad("jset_no_flush_last_seq", w, "0 in a no-flush entry", fmt.Sprint(e.LastSeq))
		}
		if v := ondisk.Version(e.Version); v > c.sb.Version {
			c.note("jset_version_newer", w, "version %v, the volume has %v", v, c.sb.Version)
		}
		if c.state.Blacklist.Has(e.Seq) {
			return nil
		}
		if c.clean {
			if !e.NoFlush() && (last == nil || e.Seq > last.Seq) {
				x := *e
				last, payload = &x, e.Payload
			}
			return nil
		}
		if e.Seq < c.state.First || e.Seq > c.state.Last {
			return nil
		}
		have, _ := c.checkEntry(e, w, true, &version)
		c.checkEntryReplicas(e, w)
		for b := range roots {
			if _, ok := have[b]; !ok {
				c.bad("journal_entry_root_missing", w, "a root of every btree", "none of "+b.String())
			}
		}
		roots = map[ondisk.BtreeID]bool{}
		for b := range have {
			roots[b] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !c.clean {
		c.note("journal_unclean", errs.Nowhere, "not shut down cleanly: checked as it is after replay of the entries %d to %d", c.state.First, c.state.Last)
		return nil
	}
	if !c.hasJournal() {
		return nil
	}
	if last == nil {
		why := "no entry"
		if any {
			why = "no flush entry with a good checksum"
		}
		c.bad("clean_but_no_journal_entries", errs.Nowhere, fmt.Sprintf("entry %d", c.state.Seq), why)
		return nil
	}
	last.Payload = payload
	have, keys := c.checkEntry(last, entryPlace(last), false, &version)
	c.checkLastEntry(last, have, keys)
	return nil
}

func entryPlace(e *journal.Entry) errs.Where {
	w := errs.Nowhere
	w.Dev, w.Sector, w.Seq = e.Places[0].Dev, int64(e.Places[0].Sector), e.Seq
	return w
}

// hasJournal: some member that is here has journal buckets.
func (c *checker) hasJournal() bool {
	for _, g := range c.devs {
		if g != nil && g.sb != nil {
			if b, err := g.sb.JournalBuckets(); err == nil && len(b) > 0 {
				return true
			}
		}
	}
	return false
}

// checkLastEntry compares the last journal entry of a clean volume with the clean
// section: it is what a reader falls back on.
func (c *checker) checkLastEntry(e *journal.Entry, roots map[ondisk.BtreeID]journal.Root, keys bool) {
	w := entryPlace(e)
	if e.Seq != c.state.Seq {
		c.bad("sb_clean_journal_seq_mismatch", w, fmt.Sprintf("seq %d of the clean section", c.state.Seq), fmt.Sprint(e.Seq))
		return
	}
	if keys || e.LastSeq != e.Seq {
		c.bad("clean_but_journal_not_empty", w, "no keys and last_seq = seq in the last entry", fmt.Sprintf("keys: %v, last_seq %d", keys, e.LastSeq))
	}
	for b := ondisk.BtreeID(0); b < ondisk.MaxBtrees; b++ {
		x, inClean := c.state.Roots[b]
		y, inEntry := roots[b]
		w.Btree = int(b)
		switch {
		case inClean != inEntry:
			c.bad("sb_clean_btree_root_mismatch", w, fmt.Sprintf("root in the clean section: %v", inClean), fmt.Sprintf("in the journal: %v", inEntry))
		case inClean && !x.Lost && (x.Level != y.Level || !sameRoot(x.Key, y.Key)):
			c.bad("sb_clean_btree_root_mismatch", w, fmt.Sprintf("level %d, %s", x.Level, describeRoot(x.Key)), fmt.Sprintf("level %d, %s", y.Level, describeRoot(y.Key)))
		}
	}
	w.Btree = -1
	if c.minor(9) && !c.minor(14) { // the hint is written up to 1.13, later ones find the end themselves
		for _, p := range e.Places {
			m := c.devs[p.Dev].m
			if len(m.Raw) < 144 {
				continue
			}
			end := p.Sector%c.devs[p.Dev].size + uint64(c.blockRound(uint64(e.Bytes())))/512
			if m.LastJournalBucket != uint32(p.Ring) || uint64(m.LastJournalBucketOffset) != end {
				w.Dev, w.Sector = p.Dev, int64(p.Sector)
				c.note("journal_position_hint_wrong", w, "the next entry goes to ring index %d sector %d by the member, after ring index %d sector %d", m.LastJournalBucket, m.LastJournalBucketOffset, p.Ring, end)
			}
		}
	}
}

// sameRoot compares root pointers without what is only meaningful in memory.
func sameRoot(a, b ondisk.KV) bool {
	if a.Key != b.Key || len(a.Val) != len(b.Val) {
		return false
	}
	from := 0
	if a.Type == ondisk.KeyBtreePtrV2 {
		from = 8
	}
	return bytes.Equal(a.Val[from:], b.Val[from:])
}

func describeRoot(kv ondisk.KV) string {
	p, err := ondisk.DecodeBtreePtr(kv)
	if err != nil || len(p.Ptrs) == 0 {
		return "no pointer"
	}
	return fmt.Sprintf("member %d sector %d, %d sectors written", p.Ptrs[0].Dev, p.Ptrs[0].Offset, p.SectorsWritten)
}

// checkEntry checks the sub-entries of a journal entry. It gives the roots, and
// whether there are keys.
func (c *checker) checkEntry(e *journal.Entry, w errs.Where, inWindow bool, version *ondisk.Bversion) (roots map[ondisk.BtreeID]journal.Root, keys bool) {
	roots = map[ondisk.BtreeID]journal.Root{}
	// Positions and values are those of the version that the entry was written in.
	rules := c.keyRules
	rules.Version = ondisk.Version(e.Version)
	err := ondisk.JsetEntries(e.Payload, func(s ondisk.JsetEntry) bool {
		c.checkSubEntry(s, w, &rules)
		switch s.Type {
		case ondisk.EntryBtreeRoot:
			if kv, n, err := ondisk.DecodeKV(s.Data); err == nil && n == len(s.Data) {
				kv.Val = bytes.Clone(kv.Val)
				roots[s.Btree] = journal.Root{Key: kv, Level: int(s.Level)}
			}
		case ondisk.EntryBtreeKeys, ondisk.EntryWriteBufferKeys:
			keys = keys || len(s.Data) > 0
			if s.Btree == ondisk.BtreeAccounting && s.Level == 0 && inWindow {
				s.Keys(func(kv ondisk.KV) bool { c.checkDelta(kv, w, version); return true }, nil)
			}
		}
		return true
	})
	if err != nil {
		c.badErr(err, w, "journal_entry_past_jset_end")
	}
	return roots, keys
}

// checkDelta checks the version of an accounting delta: replay is only right when
// they grow.
func (c *checker) checkDelta(kv ondisk.KV, w errs.Where, last *ondisk.Bversion) {
	if kv.Type != ondisk.KeyAccounting {
		return
	}
	p := leafAt(ondisk.BtreeAccounting, kv.Pos)
	p.Seq, p.Dev, p.Sector = w.Seq, w.Dev, w.Sector
	switch {
	case kv.Version == (ondisk.Bversion{}):
		c.bad("accounting_key_version_0", p, "a version", "0")
	case kv.Version.Compare(*last) < 0:
		c.bad("accounting_key_version_out_of_order", p, fmt.Sprintf("after %d:%d", last.Hi, last.Lo), fmt.Sprintf("%d:%d", kv.Version.Hi, kv.Version.Lo))
	default:
		*last = kv.Version
	}
}

// checkSubEntry checks the size and contents of a sub-entry, of a journal entry or
// the clean section (chapter 03 section 3).
func (c *checker) checkSubEntry(s ondisk.JsetEntry, w errs.Where, rules *ondisk.CheckContext) {
	u64 := func(i int) uint64 { return binary.LittleEndian.Uint64(s.Data[8*i:]) }
	n := len(s.Data)
	bad := func(name, want, format string, a ...any) { c.bad(name, w, want, fmt.Sprintf(format, a...)) }
	switch s.Type {
	case ondisk.EntryBtreeRoot:
		if s.Btree >= ondisk.MaxBtrees {
			bad("invalid_btree_id", fmt.Sprintf("less than %d", ondisk.MaxBtrees), "%d", s.Btree)
			return
		}
		kv, used, err := ondisk.DecodeKV(s.Data)
		if err != nil || used != n {
			bad("journal_entry_btree_root_bad_size", "one key", "%d bytes", n)
			return
		}
		if err := ondisk.CheckKey(rules, s.Btree, int(s.Level)+1, kv); err != nil {
			r := w
			r.Btree = int(s.Btree)
			c.badErr(err, r, "btree_root_bkey_invalid")
		}
	case ondisk.EntryBtreeKeys, ondisk.EntryWriteBufferKeys:
		s.Keys(func(kv ondisk.KV) bool {
			if kv.Type == ondisk.KeyDeleted || s.Btree >= ondisk.MaxBtrees {
				return true
			}
			if err := ondisk.CheckKey(rules, s.Btree, int(s.Level), kv); err != nil {
				r := at(s.Btree, int(s.Level), kv.Pos)
				r.Seq, r.Dev, r.Sector = w.Seq, w.Dev, w.Sector
				c.badErr(err, r, "journal_entry_bkey_invalid")
			}
			return true
		}, func(err error) { c.badErr(err, w, "journal_entry_bkey_bad_format") })
	case ondisk.EntryBlacklist:
		if n != 8 {
			bad("journal_entry_blacklist_bad_size", "8 bytes", "%d", n)
		}
	case ondisk.EntryBlacklistV2:
		if n != 16 {
			bad("journal_entry_blacklist_v2_bad_size", "16 bytes", "%d", n)
		} else if u64(0) > u64(1) {
			bad("journal_entry_blacklist_v2_start_past_end", "start <= end", "%d to %d", u64(0), u64(1))
		}
	case ondisk.EntryUsage:
		if n < 8 {
			bad("journal_entry_usage_bad_size", "at least 8 bytes", "%d", n)
		}
	case ondisk.EntryDataUsage:
		if n < 16 || int(s.Data[9])+11 > n {
			bad("journal_entry_data_usage_bad_size", "a count and a replicas entry", "%d bytes", n)
		}
	case ondisk.EntryClock:
		if n != 16 {
			bad("journal_entry_clock_bad_size", "16 bytes", "%d", n)
		} else if s.Data[0] > 1 {
			bad("journal_entry_clock_bad_rw", "0 or 1", "%d", s.Data[0])
		}
	case ondisk.EntryDevUsage:
		if n < 24 {
			bad("journal_entry_dev_usage_bad_size", "at least 24 bytes", "%d", n)
		} else if binary.LittleEndian.Uint32(s.Data[4:]) != 0 {
			bad("journal_entry_dev_usage_bad_pad", "0", "%d", binary.LittleEndian.Uint32(s.Data[4:]))
		}
	case ondisk.EntryDatetime:
		if n < 8 {
			bad("journal_entry_dev_usage_bad_size", "8 bytes of a date", "%d", n)
		}
	case ondisk.EntryRewindLimit:
		if n < 8 {
			bad("journal_entry_rewind_limit_bad_size", "8 bytes", "%d", n)
		}
	case ondisk.EntryRewind:
		if n < 16 {
			bad("journal_entry_rewind_bad_size", "16 bytes", "%d", n)
		}
	}
}

// checkEntryReplicas checks that the superblock knows the members that an entry of
// the window stands on: others are not searched for entries.
func (c *checker) checkEntryReplicas(e *journal.Entry, w errs.Where) {
	var devs []uint8
	for _, p := range e.Places {
		devs = append(devs, uint8(p.Dev))
	}
	slices.Sort(devs)
	devs = slices.Compact(devs)
	for _, r := range c.replicas {
		if r.DataType != ondisk.DataJournal {
			continue
		}
		// With members missing, what is here of a set is enough.
		all := slices.DeleteFunc(slices.Clone(r.Devs), func(d uint8) bool { return !c.set.Online(d) })
		if slices.Equal(all, devs) {
			return
		}
	}
	c.bad("journal_entry_replicas_not_marked", w, "an entry in the superblock's replicas", fmt.Sprintf("none of journal on members %v", devs))
}
