package journal

import (
	"slices"
	"sort"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// OKey is a key of the journal window: newer than what any node holds at its
// position. For accounting it is one delta of possibly many at its position.
type OKey struct {
	ondisk.KV
	Seq uint64
	Off int
}

type treeLevel struct {
	btree ondisk.BtreeID
	level uint8
}

// Overlay holds the keys of the window, by btree and level, sorted by position.
// Except in the accounting btree each position is there once, with the newest
// key. After finish it is not changed any more and safe for concurrent use.
type Overlay struct {
	keys map[treeLevel][]OKey
}

// NewOverlay makes an empty overlay.
func NewOverlay() *Overlay { return newOverlay() }

func newOverlay() *Overlay { return &Overlay{keys: map[treeLevel][]OKey{}} }

// addEntry takes in the keys of a btree_keys sub-entry.
func (o *Overlay) addEntry(e ondisk.JsetEntry, seq uint64, bad func(error)) {
	if e.Btree >= ondisk.MaxBtrees || e.Level > ondisk.MaxLevel {
		return
	}
	tl := treeLevel{e.Btree, e.Level}
	at := e.Off
	e.Keys(func(kv ondisk.KV) bool {
		var err error
		if e.Level == 0 {
			err = ondisk.CheckLeafKey(e.Btree, kv, true)
		} else if kv.Type != ondisk.KeyDeleted {
			_, err = ondisk.DecodeBtreePtr(kv)
		}
		if err != nil {
			bad(err)
			return true
		}
		o.keys[tl] = append(o.keys[tl], OKey{kv, seq, at})
		at += kv.U64s() * 8
		return true
	}, bad)
}

// finish sorts the keys and drops all but the newest of each position.
func (o *Overlay) finish() {
	for tl, ks := range o.keys {
		// Entries were added in order of seq and offset: a stable sort keeps it.
		slices.SortStableFunc(ks, func(a, b OKey) int { return a.Pos.Compare(b.Pos) })
		if tl.btree == ondisk.BtreeAccounting && tl.level == 0 {
			continue
		}
		out := ks[:0]
		for i, k := range ks {
			if i+1 < len(ks) && ks[i+1].Pos == k.Pos {
				continue
			}
			out = append(out, k)
		}
		o.keys[tl] = out
	}
}

// Range gives the keys with min <= position <= max.
func (o *Overlay) Range(b ondisk.BtreeID, level int, min, max ondisk.Pos) []OKey {
	ks := o.keys[treeLevel{b, uint8(level)}]
	i := sort.Search(len(ks), func(i int) bool { return !ks[i].Pos.Less(min) })
	j := sort.Search(len(ks), func(j int) bool { return max.Less(ks[j].Pos) })
	if i >= j {
		return nil
	}
	return ks[i:j]
}

// Levels lists the levels at which a btree has keys.
func (o *Overlay) Levels(b ondisk.BtreeID) []int {
	var out []int
	for tl, ks := range o.keys {
		if tl.btree == b && len(ks) > 0 {
			out = append(out, int(tl.level))
		}
	}
	slices.Sort(out)
	return out
}

// Empty: the journal held no keys.
func (o *Overlay) Empty() bool { return len(o.keys) == 0 }

// Btrees lists the btrees that have keys at a level.
func (o *Overlay) Btrees(level int) []ondisk.BtreeID {
	var ids []ondisk.BtreeID
	for tl, ks := range o.keys {
		if int(tl.level) == level && len(ks) > 0 {
			ids = append(ids, tl.btree)
		}
	}
	slices.Sort(ids)
	return ids
}
