package bcachefs

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"sort"
	"time"

	"github.com/gobcachefs/gobcachefs/internal/explain"
	"github.com/gobcachefs/gobcachefs/internal/journal"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// JournalRange says which entries of the journal are wanted.
type JournalRange int

const (
	// JournalTail is the newest entry and those before it without a gap.
	JournalTail JournalRange = iota
	// JournalDirty is what a mount replays: after a clean shutdown the last entry.
	JournalDirty
	// JournalAll is everything that is still there.
	JournalAll
)

// JournalOptions select entries of the journal.
type JournalOptions struct {
	Range       JournalRange
	First, Last uint64 // sequence numbers, both included; Last 0 is no bound
	FlushOnly   bool
	Blacklisted bool // with those that must be ignored
	Newest      int  // at most so many, the newest; 0 is no bound
}

// JournalPlace is where a copy of an entry stands.
type JournalPlace = explain.JournalPlace

// JournalEntry is an entry of the journal.
type JournalEntry struct {
	explain.JournalHead
	// Items are the sub-entries; they may be kept.
	Items []ondisk.JsetEntry
}

// Journal walks the journal entries of all members in ascending order of their
// sequence numbers. An entry whose payload cannot be read comes without items and
// with an error.
func (i *Inspector) Journal(ctx context.Context, o JournalOptions) iter.Seq2[*JournalEntry, error] {
	return func(yield func(*JournalEntry, error) bool) {
		found, err := journal.Find(ctx, i.e.Set)
		if err != nil {
			yield(nil, err)
			return
		}
		for _, e := range i.selectEntries(found.Entries, o) {
			if ctx.Err() != nil {
				yield(nil, ctx.Err())
				return
			}
			je := &JournalEntry{JournalHead: explain.JournalHead{Jset: e.Jset, Bad: !e.Good, Blacklisted: i.e.State.Blacklist.Has(e.Seq)}}
			block := max(1, int64(i.e.Set.SB.BlockSize)) * 512
			je.Sectors = (e.Bytes() + block - 1) / block * block / 512
			for _, p := range e.Places {
				size := max(1, i.e.Set.BucketSize(uint8(p.Dev)))
				je.Places = append(je.Places, JournalPlace{Dev: p.Dev, Ring: p.Ring, Bucket: p.Bucket, Offset: p.Sector % size, Sector: p.Sector})
			}
			slices.SortFunc(je.Places, func(a, b JournalPlace) int { return cmp.Or(cmp.Compare(a.Dev, b.Dev), cmp.Compare(a.Ring, b.Ring)) })
			err := found.Load(e)
			if err == nil {
				err = ondisk.JsetEntries(e.Payload, func(it ondisk.JsetEntry) bool { je.Items = append(je.Items, it); return true })
				e.Payload = nil
			}
			if !yield(je, err) {
				return
			}
		}
	}
}

// selectEntries applies the options to the entries, which are in order of seq.
func (i *Inspector) selectEntries(all []*journal.Entry, o JournalOptions) []*journal.Entry {
	bl := i.e.State.Blacklist
	first, last := uint64(0), ^uint64(0)
	switch o.Range {
	case JournalDirty:
		first, last = i.window(all)
	case JournalTail:
		for k := len(all) - 1; k > 0; k-- {
			if !covered(bl, all[k-1].Seq+1, all[k].Seq) {
				first = all[k].Seq
				break
			}
		}
	}
	first = max(first, o.First)
	if o.Last != 0 {
		last = min(last, o.Last)
	}
	var out []*journal.Entry
	for _, e := range all {
		if e.Seq < first || e.Seq > last || o.FlushOnly && e.NoFlush() || !o.Blacklisted && bl.Has(e.Seq) {
			continue
		}
		out = append(out, e)
	}
	if o.Newest > 0 && len(out) > o.Newest {
		out = out[len(out)-o.Newest:]
	}
	return out
}

// covered reports whether all of [from, to) is blacklisted.
func covered(bl journal.Blacklist, from, to uint64) bool {
	for from < to {
		i := sort.Search(len(bl), func(i int) bool { return bl[i].End > from })
		if i == len(bl) || bl[i].Start > from {
			return false
		}
		from = bl[i].End
	}
	return true
}

// window is the range of entries that a mount replays. After a clean shutdown
// that is the last entry, which says of itself from where on entries matter.
func (i *Inspector) window(all []*journal.Entry) (first, last uint64) {
	st := i.e.State
	if !st.Clean {
		return st.First, st.Last
	}
	for k := len(all) - 1; k >= 0; k-- {
		e := all[k]
		if e.Seq == st.Seq && e.Good && !e.NoFlush() {
			return min(e.LastSeq, e.Seq), e.Seq
		}
	}
	return st.Seq, st.Seq
}

// JournalPrinter turns journal entries into text and JSON. It is for one
// goroutine.
type JournalPrinter struct {
	p    *Printer
	text *explain.JournalText
}

// JournalPrinter makes a JournalPrinter whose times are in loc, nil for the local
// zone.
func (p *Printer) JournalPrinter(loc *time.Location) *JournalPrinter {
	// Whether a pointer is stale today says nothing of the day of the entry.
	env := *p.env
	env.Stale = nil
	p = &Printer{&env}
	return &JournalPrinter{p, explain.NewJournalText(p.env, loc)}
}

// Head appends the lines about an entry without its items.
func (j *JournalPrinter) Head(b []byte, e *JournalEntry) []byte {
	return j.text.Head(b, &e.JournalHead)
}

// Item appends the lines of one item; values prints the values of keys.
func (j *JournalPrinter) Item(b []byte, e ondisk.JsetEntry, values bool) []byte {
	return j.text.Item(b, e, values)
}

// JSON gives an entry as a document for encoding/json.
func (j *JournalPrinter) JSON(e *JournalEntry) any {
	return explain.JournalJSON(j.p.env, &e.JournalHead, e.Items)
}
