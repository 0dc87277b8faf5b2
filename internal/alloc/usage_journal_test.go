package alloc

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// TestJournalUsage: before 1.9 the numbers are in the journal, later entries win.
// Synthetic: there is no such volume.
func TestJournalUsage(t *testing.T) {
	le := binary.LittleEndian
	words := func(v ...uint64) (b []byte) {
		for _, w := range v {
			b = le.AppendUint64(b, w)
		}
		return b
	}
	replicas := func(sectors uint64, t ondisk.DataType, required byte, devs ...byte) ondisk.JsetEntry {
		b := append(words(sectors), byte(t), byte(len(devs)), required)
		b = append(b, devs...)
		return ondisk.JsetEntry{Type: ondisk.EntryDataUsage, Data: append(b, make([]byte, -len(b)&7)...)}
	}
	usage := func(kind ondisk.BtreeID, level uint8, v uint64) ondisk.JsetEntry {
		return ondisk.JsetEntry{Type: ondisk.EntryUsage, Btree: kind, Level: level, Data: words(v)}
	}
	dev := func(n uint64, types ...uint64) ondisk.JsetEntry {
		return ondisk.JsetEntry{Type: ondisk.EntryDevUsage, Data: words(append([]uint64{n, 0, 0}, types...)...)}
	}
	u := &Usage{Source: SourceJournal, Devs: []DevUsage{{Dev: 0}, {Dev: 2}}}
	u.fromJournal([]ondisk.JsetEntry{
		usage(ondisk.UsageReserved, 1, 99), usage(ondisk.UsageInodes, 0, 5), usage(ondisk.UsageKeyVersion, 0, 7777),
		replicas(1, ondisk.DataUser, 1, 0), replicas(512, ondisk.DataBtree, 1, 0, 2), replicas(0, ondisk.DataCached, 1, 2),
		dev(0, 10, 0, 0, 3, 300, 84),
		// A later entry.
		usage(ondisk.UsageReserved, 0, 0), usage(ondisk.UsageReserved, 1, 16), usage(ondisk.UsageInodes, 0, 6),
		replicas(800, ondisk.DataUser, 1, 0),
		dev(0, 9, 0, 0, 4, 400, 112), dev(2, 8, 0, 0), dev(1, 77, 0, 0),
		// Broken ones.
		{Type: ondisk.EntryDataUsage, Data: words(1)}, {Type: ondisk.EntryDevUsage, Data: words(0)}, {Type: ondisk.EntryUsage}, replicas(5, ondisk.DataUser, 1)})
	u.sort()
	want := &Usage{Source: SourceJournal, NrInodes: 6,
		Reserved: []Reserved{{Replicas: 2, Sectors: 16, Total: 16}},
		Replicas: []Replicas{{ondisk.DataBtree, 1, []byte{0, 2}, 512}, {ondisk.DataUser, 1, []byte{}, 5}, {ondisk.DataUser, 1, []byte{0}, 800}},
		Devs:     []DevUsage{{Dev: 0}, {Dev: 2}}}
	want.Devs[0].Types[0] = Counts{9, 0, 0}
	want.Devs[0].Types[1] = Counts{4, 400, 112}
	want.Devs[1].Types[0] = Counts{8, 0, 0}
	if d := cmp.Diff(want, u); d != "" {
		t.Errorf("fromJournal (-want +got):\n%s", d)
	}
}

func TestReserve(t *testing.T) {
	for _, tt := range [][2]int64{{0, 0}, {1, 2}, {64, 65}, {65, 67}, {2120, 2154}} {
		if got := Reserve(tt[0]); got != tt[1] {
			t.Errorf("Reserve(%d) = %d, want %d", tt[0], got, tt[1])
		}
	}
}
