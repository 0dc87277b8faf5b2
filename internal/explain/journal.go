package explain

import (
	"bytes"
	"time"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// JournalPlace is where a copy of a journal entry stands: the index in the ring
// of a member, the sector in that bucket, and the sector of the device.
type JournalPlace struct {
	Dev    int    `json:"dev"`
	Ring   int    `json:"ring"`
	Bucket uint64 `json:"bucket"`
	Offset uint64 `json:"offset"`
	Sector uint64 `json:"sector"`
}

// JournalHead is a journal entry without its sub-entries.
type JournalHead struct {
	ondisk.Jset
	Sectors     int64 // that it takes, padding included
	Bad         bool  // no copy with a good checksum
	Blacklisted bool
	Places      []JournalPlace
}

// JournalText prints journal entries as list_journal does.
type JournalText struct {
	t *superText
}

// NewJournalText makes a JournalText. Times are shown in loc, nil for the local
// zone.
func NewJournalText(env *Env, loc *time.Location) *JournalText {
	t := newSuperText(env.Super, ShowSuperOpts{Style: &env.Style, Location: loc})
	t.Env = env
	// Unlike in the superblock, everything this program knows is shown.
	t.known = limits1_39
	return &JournalText{t}
}

// Head appends the lines of an entry. Tools 1.39 also print its size.
func (j *JournalText) Head(b []byte, h *JournalHead) []byte {
	t := j.t
	t.b = b
	t.f("journal entry     %d\n", h.Seq)
	t.f("  version         %d\n", h.Version)
	t.f("  last seq        %d\n", h.LastSeq)
	t.f("  flush           %d\n", btoi(!h.NoFlush()))
	if !t.old() {
		t.f("  bytes           %d\n", h.Bytes())
		t.f("  sectors         %d\n", h.Sectors)
	}
	t.s("  written at      ")
	for i, p := range h.Places {
		if i > 0 {
			t.s(" ")
		}
		t.f("%d:%d:%d (sector %d)", p.Dev, p.Ring, p.Offset, p.Sector)
	}
	t.s("\n")
	if h.Blacklisted {
		t.s("  blacklisted\n")
	}
	if h.Bad {
		t.s("  bad checksum\n")
	}
	return t.take()
}

func (t *superText) take() []byte {
	b := t.b
	t.b = nil
	return b
}

// Item appends the lines of a sub-entry, indented by four columns. A log entry
// of level 0 starts a transaction: an empty line sets it off. values prints the
// values of keys.
func (j *JournalText) Item(b []byte, e ondisk.JsetEntry, values bool) []byte {
	t := j.t
	const indent = "    "
	add := func(text []byte) {
		b = append(b, indent...)
		b = append(b, bytes.ReplaceAll(text, []byte("\n"), []byte("\n"+indent))...)
		b = append(b, '\n')
	}
	switch {
	case e.Type == ondisk.EntryLog && e.Level == 0:
		b = append(b, '\n')
	case e.Type.HasKeys() && len(e.Data) == 0:
		t.f("%v: ", e.Type) // filler
		add(t.take())
		return b
	case e.Type.HasKeys():
		level := "level"
		if t.old() {
			level = "l"
		}
		e.Keys(func(kv ondisk.KV) bool {
			t.f("%v: btree=%s %s=%d ", e.Type, t.btreeName(e.Btree), level, e.Level)
			up := int(e.Level)
			if e.Type == ondisk.EntryBtreeRoot {
				up++ // the key stands above the node that it points to
			}
			if values {
				t.b = Key(t.b, t.Env, e.Btree, up, kv)
			} else {
				t.header(kv)
			}
			add(t.take())
			return true
		}, func(err error) {
			t.f("%v: (invalid: %v)", e.Type, err)
			add(t.take())
		})
		return b
	}
	t.jsetEntry(e)
	add(bytes.TrimSuffix(t.take(), []byte("\n")))
	return b
}

// JournalDoc is a journal entry for JSON.
type JournalDoc struct {
	Seq         uint64         `json:"seq"`
	Version     uint32         `json:"version"`
	LastSeq     uint64         `json:"last_seq"`
	Flush       bool           `json:"flush"`
	Bytes       int64          `json:"bytes"`
	Sectors     int64          `json:"sectors"`
	CsumType    string         `json:"csum_type"`
	Bad         bool           `json:"bad_checksum,omitempty"`
	Blacklisted bool           `json:"blacklisted,omitempty"`
	Places      []JournalPlace `json:"places"`
	Items       []JsetEntryDoc `json:"items"`
}

// JournalJSON gives an entry and its sub-entries for JSON.
func JournalJSON(env *Env, h *JournalHead, items []ondisk.JsetEntry) JournalDoc {
	d := JournalDoc{Seq: h.Seq, Version: h.Version, LastSeq: h.LastSeq, Flush: !h.NoFlush(), Bytes: h.Bytes(), Sectors: h.Sectors,
		CsumType: h.CsumType().String(), Bad: h.Bad, Blacklisted: h.Blacklisted, Places: h.Places, Items: []JsetEntryDoc{}}
	for _, e := range items {
		d.Items = append(d.Items, jsetEntryDoc(env, e))
	}
	return d
}
