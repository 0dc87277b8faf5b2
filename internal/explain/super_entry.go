package explain

import (
	"encoding/binary"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// jsetEntry prints a journal sub-entry as the clean section shows it, a line each;
// of one with keys, a line for each key.
func (t *superText) jsetEntry(e ondisk.JsetEntry) {
	if e.Type >= t.known.entry {
		t.f("(unknown jset_entry_type %d)\n", e.Type)
		return
	}
	if e.Type.HasKeys() {
		e.Keys(func(kv ondisk.KV) bool { t.entryKey(e, kv); return true }, func(err error) { t.f("%v: (invalid: %v)\n", e.Type, err) })
		return
	}
	t.f("%v: ", e.Type)
	word := func(i int) uint64 {
		if 8*i+8 <= len(e.Data) {
			return binary.LittleEndian.Uint64(e.Data[8*i:])
		}
		return 0
	}
	switch e.Type {
	case ondisk.EntryBlacklist:
		t.f("seq=%d", word(0))
	case ondisk.EntryBlacklistV2:
		t.f("start=%d end=%d", word(0), word(1))
	case ondisk.EntryUsage:
		names := []string{"reserved", "inodes", "key_version"}
		name := "(unknown fs_usage_type " + itoa(uint64(e.Btree)) + ")"
		if int(e.Btree) < len(names) {
			name = names[e.Btree]
		}
		t.f("type=%s v=%d", name, word(0))
	case ondisk.EntryDataUsage:
		if d := e.Data; len(d) >= 11 && int(d[9]) <= len(d)-11 {
			t.f("%s: %d/%d %v=%d", t.dataType(ondisk.DataType(d[8])), d[10], d[9], d[11:11+int(d[9])], word(0))
		}
	case ondisk.EntryClock:
		dir := "read"
		if len(e.Data) > 0 && e.Data[0] != 0 {
			dir = "write"
		}
		t.f("%s=%d", dir, word(1))
	case ondisk.EntryDevUsage:
		t.f("dev=%d  ", uint32(word(0)))
		// Device and pad, two words that no longer mean anything, then three for
		// every data type.
		for d := ondisk.DataType(0); 8*(6+3*int(d)) <= len(e.Data); d++ {
			i := 3 + 3*int(d)
			t.f("\n  %s: buckets=%d sectors=%d fragmented=%d", t.dataType(d), word(i), word(i+1), word(i+2))
		}
	case ondisk.EntryLog:
		t.text(e.Data)
	case ondisk.EntryDatetime:
		t.s(t.date(word(0)))
	case ondisk.EntryPrioPtrs:
	default:
		t.f("%x", e.Data)
	}
	t.s("\n")
}

func (t *superText) entryKey(e ondisk.JsetEntry, kv ondisk.KV) {
	level := "level"
	if t.old() {
		level = "l"
	}
	t.f("%v: btree=%s %s=%d ", e.Type, t.btreeName(e.Btree), level, e.Level)
	if kv.Type == ondisk.KeyBtreePtrV2 && e.Type == ondisk.EntryBtreeRoot {
		t.root(kv)
	} else {
		t.b = Key(t.b, t.Env, e.Btree, int(e.Level), kv)
	}
	t.s("\n")
}

// root prints the pointer to a root. It is not the text of other keys: tools
// 1.13 print it without knowing the members, and tools 1.39 start a new line.
func (t *superText) root(kv ondisk.KV) {
	t.w.header(kv)
	p, err := ondisk.DecodeBtreePtr(kv)
	if t.old() {
		t.s(": ")
	} else {
		t.s("  : \n  ")
	}
	t.f("seq %x written %d min_key %s", p.Seq, p.SectorsWritten, p.MinKey)
	if p.RangeUpdated {
		t.s(" R")
	}
	val := kv.Val[min(len(kv.Val), 40):]
	if !t.old() {
		t.f(" durability: %d ", t.extentDurability(val))
	}
	if err == nil {
		err = ondisk.ExtentEntries(val, t.sizes, func(e ondisk.ExtentEntry) bool {
			switch {
			case t.old():
				t.s(" ")
				saved := t.Members
				t.Members = nil
				t.entry(e)
				t.Members = saved
			case e.Type == ondisk.XEPtr:
				t.s("\n  ptr:  " + t.devName(e.Ptr.Dev) + " ")
				t.ptr(e.Ptr)
			default:
				t.s("\n  ")
				t.entry(e)
			}
			return true
		})
	}
	t.bad(err)
}

// devName is what style 1.39 calls a member: the device that was read by its
// file name, the others by number.
func (t *superText) devName(dev uint8) string {
	if int(dev) == int(t.sb.DevIdx) && t.opts.DevName != "" {
		return t.opts.DevName
	}
	return "dev-" + itoa(uint64(dev))
}
