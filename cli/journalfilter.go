package cli

import (
	"path"
	"slices"
	"strings"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// signed is a list with a sign: keep what matches, or leave it out.
type signed[T any] struct {
	list []T
	not  bool
}

func (s *signed[T]) wants(match func(T) bool) bool {
	return len(s.list) == 0 || slices.ContainsFunc(s.list, match) != s.not
}

// keyRange is a range of positions of one btree, both ends included.
type keyRange struct {
	btree    ondisk.BtreeID
	from, to ondisk.Pos
}

func (r keyRange) has(b ondisk.BtreeID, k ondisk.Key) bool {
	if b != r.btree {
		return false
	}
	if b.IsExtents() && k.Size > 0 {
		// The key covers what lies before its position.
		start := k.Start()
		return start.Offset <= r.to.Offset && start.Inode <= r.to.Inode && !k.Pos.Less(r.from)
	}
	return !k.Pos.Less(r.from) && !r.to.Less(k.Pos)
}

// journalFilter says which items of a journal entry are shown.
type journalFilter struct {
	btrees           signed[ondisk.BtreeID]
	names            signed[string]
	keys             signed[keyRange]
	keepLog, logOnly bool
}

// sign takes the sign off a list.
func sign(flag string, args []string, list func(string) error) (not bool, err error) {
	for i, a := range args {
		n := strings.HasPrefix(a, "-")
		if i > 0 && n != not {
			return false, usageErr("%s: cannot both keep and leave out", flag)
		}
		not = n
		for _, v := range strings.Split(strings.TrimLeft(a, "+-"), ",") {
			if err := list(v); err != nil {
				return false, err
			}
		}
	}
	return not, nil
}

func (f *journalFilter) parse(btrees, names, keys []string) (err error) {
	if f.btrees.not, err = sign("--btree", btrees, func(v string) error {
		b, err := parseBtree(v)
		f.btrees.list = append(f.btrees.list, b)
		return err
	}); err != nil {
		return err
	}
	if f.names.not, err = sign("--transaction", names, func(v string) error {
		if _, err := path.Match(v, ""); err != nil {
			return usageErr("--transaction: bad pattern %q", v)
		}
		f.names.list = append(f.names.list, v)
		return nil
	}); err != nil {
		return err
	}
	f.keys.not, err = sign("--key", keys, func(v string) error {
		r, err := parseKeyRange(v)
		f.keys.list = append(f.keys.list, r)
		return err
	})
	return err
}

// parseKeyRange reads BTREE:POS[-BTREE:POS].
func parseKeyRange(s string) (keyRange, error) {
	one := func(s string) (ondisk.BtreeID, ondisk.Pos, error) {
		b, p, ok := strings.Cut(s, ":")
		if !ok {
			return 0, ondisk.Pos{}, usageErr("--key: %q: want BTREE:POS", s)
		}
		id, err := parseBtree(b)
		if err != nil {
			return 0, ondisk.Pos{}, err
		}
		pos, err := ondisk.ParsePos(p)
		if err != nil {
			return 0, pos, usageErr("--key: %v", err)
		}
		return id, pos, nil
	}
	from, to, ok := strings.Cut(s, "-")
	r := keyRange{}
	var err error
	if r.btree, r.from, err = one(from); err != nil {
		return r, err
	}
	if !ok {
		r.to = r.from
		if strings.Count(from, ":") < 3 {
			r.to.Snapshot = ^uint32(0) // all snapshots
		}
		return r, nil
	}
	b, p, err := one(to)
	if err == nil && b != r.btree {
		err = usageErr("--key: %q: both ends must be in one btree", s)
	}
	if strings.Count(to, ":") < 3 && p.Snapshot == 0 && r.btree.HasSnapshots() {
		p.Snapshot = ^uint32(0)
	}
	r.to = p
	return r, err
}

// only gives the items that pass.
func only(items []ondisk.JsetEntry, keep func(ondisk.JsetEntry) bool) []ondisk.JsetEntry {
	var out []ondisk.JsetEntry
	for _, it := range items {
		if keep(it) {
			out = append(out, it)
		}
	}
	return out
}

// filter applies the filters to the items of one entry.
func (f *journalFilter) filter(items []ondisk.JsetEntry) []ondisk.JsetEntry {
	if len(f.names.list) > 0 || len(f.keys.list) > 0 || f.logOnly {
		var out []ondisk.JsetEntry
		for len(items) > 0 {
			n := transaction(items)
			if f.wants(items[:n]) {
				out = append(out, items[:n]...)
			}
			items = items[n:]
		}
		items = out
	}
	if len(f.btrees.list) == 0 {
		return items
	}
	return only(items, func(it ondisk.JsetEntry) bool {
		switch {
		case it.Type == ondisk.EntryLog:
			return f.keepLog
		case it.Type.HasKeys():
			return f.btrees.wants(func(b ondisk.BtreeID) bool { return b == it.Btree })
		}
		return false
	})
}

// starts: a transaction begins with the item.
func starts(it ondisk.JsetEntry) bool { return it.Type == ondisk.EntryLog && it.Level == 0 }

// transaction is the number of items of the transaction at the start of items,
// which has one or more. What closes an entry is no part of one.
func transaction(items []ondisk.JsetEntry) int {
	for n := 1; n < len(items); n++ {
		if starts(items[n]) {
			return n
		}
		switch items[n].Type {
		case ondisk.EntryDatetime, ondisk.EntryUsage, ondisk.EntryClock, ondisk.EntryDataUsage, ondisk.EntryDevUsage, ondisk.EntryRewindLimit:
			if items[0].Type == ondisk.EntryLog {
				return n
			}
		}
	}
	return len(items)
}

// logText is the text of a log item.
func logText(it ondisk.JsetEntry) string {
	text, _, _ := strings.Cut(string(it.Data), "\x00")
	return text
}

// wants: the transaction passes -t, -k and -L. What belongs to none does not.
func (f *journalFilter) wants(items []ondisk.JsetEntry) bool {
	if !starts(items[0]) {
		return false
	}
	name := logText(items[0])
	if !f.names.wants(func(p string) bool { ok, _ := path.Match(p, name); return ok }) {
		return false
	}
	if f.logOnly && !slices.ContainsFunc(items, func(it ondisk.JsetEntry) bool {
		return it.Type == ondisk.EntryLog && it.Level != 0 || it.Type == ondisk.EntryLogBkey
	}) {
		return false
	}
	return f.keys.wants(func(r keyRange) bool {
		hit := false
		for _, it := range items {
			if it.Type.HasKeys() {
				it.Keys(func(kv ondisk.KV) bool { hit = hit || r.has(it.Btree, kv.Key); return !hit }, nil)
			}
		}
		return hit
	})
}
