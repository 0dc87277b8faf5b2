package journal

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Root is the root of one btree. Level is that of the root node. A root without
// a key (Lost) is known to exist, or with Guessed may exist, but its pointer
// cannot be read.
type Root struct {
	Key     ondisk.KV
	Level   int
	Lost    bool
	Guessed bool
}

// State is what a mount knows before it reads the first btree node.
type State struct {
	Clean bool
	// Seq is the newest journal sequence number in use.
	Seq uint64
	// Window of the entries that count; both 0 on a clean volume.
	First, Last uint64
	// Missing entries of the window.
	Missing    []ondisk.SeqRange
	Roots      map[ondisk.BtreeID]Root
	Overlay    *Overlay
	Blacklist  Blacklist
	KeyVersion uint64
	Clock      [2]uint64 // IO clocks, read and write, sectors
	// Usage holds the usage, data_usage and dev_usage sub-entries, which are
	// the only space counters before format 1.9.
	Usage []ondisk.JsetEntry
	// Entries are all entries found, without payload, when the journal was read.
	Entries []*Entry
}

// Blacklist is a sorted list of sequence number ranges that must be ignored.
type Blacklist []ondisk.SeqRange

// Has reports whether seq is blacklisted.
func (b Blacklist) Has(seq uint64) bool {
	i := sort.Search(len(b), func(i int) bool { return b[i].End > seq })
	return i < len(b) && b[i].Start <= seq
}

// Load reads the clean section or, on an unclean volume, the journal.
func Load(ctx context.Context, set *members.Set) (*State, error) {
	s := &State{Roots: map[ondisk.BtreeID]Root{}, Overlay: newOverlay()}
	bl, err := set.SB.Blacklist()
	if err != nil {
		return nil, err
	}
	s.Blacklist = slices.Clone(bl)
	slices.SortFunc(s.Blacklist, func(a, b ondisk.SeqRange) int {
		if a.Start < b.Start {
			return -1
		}
		return 1
	})
	if !set.SB.Initialized() {
		return s, nil
	}
	if set.SB.Clean() {
		c, err := set.SB.CleanSection()
		if err == nil && c == nil {
			err = errs.Corruptf("sb_clean_missing", "flag clean set, no clean section")
		}
		if err == nil {
			s.Clean, s.Seq = true, c.JournalSeq
			err = ondisk.JsetEntries(c.Entries, func(e ondisk.JsetEntry) bool { s.early(set, e, 0); return true })
		}
		for b, r := range s.Roots {
			if err == nil && r.Lost {
				err = errs.Corruptf("sb_clean_btree_root_mismatch", "no root of btree %v", b)
			}
		}
		if err == nil {
			return s, nil
		}
		// A damaged clean section is no reason to give up: the last journal
		// entry of a clean shutdown says the same.
		set.Warn(fmt.Errorf("clean section not usable, reading the journal: %w", err))
		*s = State{Roots: map[ondisk.BtreeID]Root{}, Overlay: newOverlay(), Blacklist: s.Blacklist}
	}
	return s, s.readJournal(ctx, set)
}

// Guess is the state of a volume whose roots are nowhere to be found: every
// btree that cannot be rebuilt from others may exist. What a scan of the devices
// finds of them is all there is.
func Guess(set *members.Set) *State {
	s := &State{Roots: map[ondisk.BtreeID]Root{}, Overlay: newOverlay()}
	if bl, err := set.SB.Blacklist(); err == nil {
		for _, r := range bl {
			s.Blacklist.add(r.Start, r.End)
		}
	}
	for b := range ondisk.BtreeID(ondisk.NrBtrees) {
		if !b.Derived() {
			s.Roots[b] = Root{Lost: true, Guessed: true}
		}
	}
	return s
}

// readJournal decides which entries count (chapter 03 section 6) and collects
// what they say.
func (s *State) readJournal(ctx context.Context, set *members.Set) error {
	r := newReader(set)
	all, err := r.collect(ctx)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrCorrupt, Reason: "dirty_but_no_journal_entries"}
	}
	// Bit flips in a seq must not decide anything: entries lie together, and the
	// good ones say where.
	good := slices.DeleteFunc(slices.Clone(all), func(e *Entry) bool { return !e.Good })
	if len(good) == 0 {
		good = all
	}
	mid := good[len(good)/2].Seq
	all = slices.DeleteFunc(all, func(e *Entry) bool {
		return e.Seq > mid && e.Seq-mid > math.MaxInt32 || e.Seq < mid && mid-e.Seq > math.MaxInt32
	})
	s.Seq, s.Entries = all[len(all)-1].Seq, all
	var end *Entry
	torn := 0
	for i := len(all) - 1; i >= 0 && end == nil; i-- {
		e := all[i]
		switch {
		case e.NoFlush() || s.Blacklist.Has(e.Seq):
		case !e.Good:
			// One torn entry at the end is what a power cut leaves; more is loss.
			if torn++; torn > 1 {
				set.Warn(errs.Corrupt(e.where(), "journal entry lost: checksum", "", ""))
			}
		case e.LastSeq > e.Seq:
			set.Warn(errs.Corrupt(e.where(), "jset_last_seq_newer_than_seq", fmt.Sprintf("at most %d", e.Seq), fmt.Sprint(e.LastSeq)))
			e.LastSeq = e.Seq
			end = e
		default:
			end = e
		}
	}
	if end == nil {
		// No commit point at all: the newest readable entry at least has roots.
		for i := len(all) - 1; i >= 0 && end == nil; i-- {
			if all[i].Good {
				end = all[i]
				end.LastSeq = end.Seq
			}
		}
		if end == nil {
			return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrCorrupt, Reason: "dirty_but_no_journal_entries_post_drop_nonflushes"}
		}
		set.Warn(errs.Corrupt(end.where(), "dirty_but_no_journal_entries_post_drop_nonflushes", "", "using the newest entry"))
	}
	s.First, s.Last = end.LastSeq, end.Seq
	next := s.First
	for _, e := range all {
		if e.Seq < s.First || e.Seq > s.Last {
			continue
		}
		if s.Blacklist.Has(e.Seq) {
			if !e.NoFlush() {
				set.Warn(errs.Corrupt(e.where(), "jset_seq_blacklisted", "", ""))
			}
			continue
		}
		if e.Good {
			err = r.load(e)
		} else {
			err = errs.Corrupt(e.where(), "jset checksum", "a good copy", "none")
		}
		if err != nil {
			set.Warn(err)
			continue // reported as missing below
		}
		s.gap(next, e.Seq)
		next = e.Seq + 1
		err = ondisk.JsetEntries(e.Payload, func(se ondisk.JsetEntry) bool {
			s.early(set, se, e.Seq)
			if se.Type == ondisk.EntryBtreeKeys || se.Type == ondisk.EntryWriteBufferKeys {
				s.Overlay.addEntry(se, e.Seq, func(err error) { set.Warn(errs.At(err, e.where())) })
			}
			return true
		})
		if err != nil {
			set.Warn(errs.At(err, e.where()))
		}
	}
	s.gap(next, s.Last+1)
	for _, m := range s.Missing {
		set.Warn(&errs.Error{Where: errs.Nowhere, Kind: errs.ErrCorrupt, Reason: "journal_entries_missing", Got: fmt.Sprintf("entries %d-%d of %d-%d", m.Start, m.End-1, s.First, s.Last)})
	}
	s.Overlay.finish()
	return nil
}

// gap records [from, to) as missing, less what is blacklisted.
func (s *State) gap(from, to uint64) {
	for from < to {
		if s.Blacklist.Has(from) {
			i := sort.Search(len(s.Blacklist), func(i int) bool { return s.Blacklist[i].End > from })
			from = s.Blacklist[i].End
			continue
		}
		end := to
		if i := sort.Search(len(s.Blacklist), func(i int) bool { return s.Blacklist[i].Start > from }); i < len(s.Blacklist) {
			end = min(end, s.Blacklist[i].Start)
		}
		s.Missing = append(s.Missing, ondisk.SeqRange{Start: from, End: end})
		from = end
	}
}

// early takes in the sub-entries that matter before any btree is read.
func (s *State) early(set *members.Set, e ondisk.JsetEntry, seq uint64) {
	u64 := func(i int) uint64 { return binary.LittleEndian.Uint64(e.Data[8*i:]) }
	switch e.Type {
	case ondisk.EntryBtreeRoot:
		if len(e.Data) == 0 {
			// Its writer could not read it either; an older one may still do.
			if _, have := s.Roots[e.Btree]; !have && e.Btree < ondisk.MaxBtrees {
				s.Roots[e.Btree] = Root{Lost: true}
			}
			return
		}
		kv, n, err := ondisk.DecodeKV(e.Data)
		if err == nil && n != len(e.Data) {
			err = errs.Corruptf("journal_entry_btree_root_bad_size", "key of %d bytes in %d", n, len(e.Data))
		}
		if err == nil && (e.Level > ondisk.MaxLevel || e.Btree >= ondisk.MaxBtrees) {
			err = errs.Corruptf("invalid_btree_id", "btree %d level %d", e.Btree, e.Level)
		}
		if err == nil {
			_, err = ondisk.DecodeBtreePtr(kv)
		}
		if err != nil {
			w := errs.Nowhere
			w.Btree, w.Seq = int(e.Btree), seq
			set.Warn(fmt.Errorf("btree root: %w", errs.At(err, w)))
			if e.Btree < ondisk.MaxBtrees {
				if _, have := s.Roots[e.Btree]; !have {
					s.Roots[e.Btree] = Root{Lost: true}
				}
			}
			return
		}
		s.Roots[e.Btree] = Root{Key: kv, Level: int(e.Level)}
	case ondisk.EntryUsage:
		if len(e.Data) >= 8 && int(e.Btree) == ondisk.UsageKeyVersion {
			s.KeyVersion = u64(0)
		}
		s.Usage = append(s.Usage, e)
	case ondisk.EntryDataUsage, ondisk.EntryDevUsage:
		s.Usage = append(s.Usage, e)
	case ondisk.EntryClock:
		if len(e.Data) == 16 && e.Data[0] <= 1 {
			s.Clock[e.Data[0]] = u64(1)
		}
	case ondisk.EntryBlacklist:
		if len(e.Data) == 8 {
			s.Blacklist.add(u64(0), u64(0)+1)
		}
	case ondisk.EntryBlacklistV2:
		if len(e.Data) == 16 && u64(0) <= u64(1) && u64(1) != math.MaxUint64 {
			s.Blacklist.add(u64(0), u64(1)+1)
		}
	}
}

func (b *Blacklist) add(start, end uint64) {
	if b.Has(start) && b.Has(end-1) {
		return
	}
	*b = append(*b, ondisk.SeqRange{Start: start, End: end})
	slices.SortFunc(*b, func(x, y ondisk.SeqRange) int {
		if x.Start < y.Start {
			return -1
		}
		return 1
	})
	out := (*b)[:0]
	for _, r := range *b {
		if n := len(out); n > 0 && r.Start <= out[n-1].End {
			out[n-1].End = max(out[n-1].End, r.End)
		} else {
			out = append(out, r)
		}
	}
	*b = out
}
