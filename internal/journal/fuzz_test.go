package journal

import (
	"encoding/binary"
	"testing"

	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/internal/testvol/build"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// FuzzJournal reads a journal whose entries the fuzzer made, with right
// checksums: b is a list of entries, each two bytes of length, seq, last_seq and
// flags of a byte each, and a payload.
func FuzzJournal(f *testing.F) {
	entry := func(seq, last, flags byte, es ...ondisk.JsetEntry) []byte {
		var p []byte
		for _, e := range es {
			p = e.Append(p)
		}
		b := binary.LittleEndian.AppendUint16(nil, uint16(len(p)))
		return append(append(b, seq, last, flags), p...)
	}
	f.Add(false, []byte{})
	f.Add(false, entry(3, 3, 0, root(0, 0, 77), key(1, 30)))
	f.Add(true, append(entry(3, 3, 0, root(0, 0, 77), key(1, 30)), entry(4, 3, 1, build.Keys(ondisk.BtreeReconcileScan, 0, build.Deleted(ondisk.Pos{Offset: 1})))...))
	f.Add(false, append(entry(200, 3, 2, root(1, 1, 77)), entry(201, 199, 0, ondisk.JsetEntry{Type: ondisk.EntryBlacklistV2, Data: make([]byte, 16)})...))
	f.Fuzz(func(t *testing.T, encrypted bool, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		cfg := build.Config{Members: 2, Block: 1, Size: 4 << 20, Bucket: 32, Node: 16}
		if encrypted {
			cfg.Key = &crypt.Key{1}
		}
		v := unclean(cfg)
		v.SB.SetBlacklist([]ondisk.SeqRange{{Start: 20, End: 30}})
		ring, at := [2]int{}, [2]uint64{}
		for len(b) >= 5 {
			n, seq, last, flags := int(binary.LittleEndian.Uint16(b)), uint64(b[2]), uint64(b[3]), b[4]
			b = b[5:]
			n = min(n, len(b), 12<<10) &^ 7
			payload := b[:n]
			b = b[n:]
			j := build.Jset{Seq: seq, LastSeq: last, NoFlush: flags&1 != 0, Raw: payload}
			if flags&2 != 0 {
				j.Damage = func(b []byte) { b[len(b)/2] ^= 1 }
			}
			if flags&4 != 0 {
				j.Header = func(h *ondisk.Jset) { h.Seq |= uint64(flags) << 40 }
			}
			dev := int(flags >> 3 & 1)
			if size := uint64(len(v.EncodeJset(j)) / 512); at[dev]+size > uint64(v.Bucket) {
				if ring[dev]++; ring[dev] == build.JournalNr {
					break
				}
				at[dev] = 0
			}
			at[dev] = v.PutJset(dev, ring[dev], at[dev], j)
		}
		set, err := members.Open(ctx, v.Devices(), members.Options{Warn: func(error) {}})
		if err != nil {
			t.Fatal(err)
		}
		s, err := Load(ctx, set)
		if err != nil {
			return
		}
		if s.First > s.Last || s.Last > s.Seq {
			t.Errorf("window %d..%d, newest %d", s.First, s.Last, s.Seq)
		}
		for i, m := range s.Missing {
			if m.Start >= m.End || m.Start < s.First || m.End > s.Last+1 || i > 0 && m.Start < s.Missing[i-1].End {
				t.Errorf("missing %v of %d..%d", s.Missing, s.First, s.Last)
			}
		}
		for i, r := range s.Blacklist {
			if r.Start >= r.End || i > 0 && r.Start <= s.Blacklist[i-1].End {
				t.Errorf("blacklist %v", s.Blacklist)
			}
		}
		for id, r := range s.Roots {
			if r.Lost {
				continue
			}
			if _, err := ondisk.DecodeBtreePtr(r.Key); err != nil || id >= ondisk.MaxBtrees || r.Level > ondisk.MaxLevel {
				t.Errorf("root of %v at level %d: %v", id, r.Level, err)
			}
		}
		for id := range ondisk.BtreeID(ondisk.MaxBtrees) {
			for _, l := range s.Overlay.Levels(id) {
				ks := s.Overlay.Range(id, l, ondisk.PosMin, ondisk.SPosMax)
				for i, k := range ks {
					if k.Seq < s.First || k.Seq > s.Last {
						t.Errorf("key of entry %d outside of %d..%d", k.Seq, s.First, s.Last)
					}
					if c := -1; i > 0 {
						if c = ks[i-1].Pos.Compare(k.Pos); c > 0 || c == 0 && (id != ondisk.BtreeAccounting || l > 0) {
							t.Errorf("%v level %d: %v after %v", id, l, k.Pos, ks[i-1].Pos)
						}
					}
				}
			}
		}
	})
}
