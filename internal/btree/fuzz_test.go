package btree

import (
	"bytes"
	"testing"

	"github.com/gobcachefs/gobcachefs/internal/testvol/build"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// FuzzNode reads a node whose keys the fuzzer made, with right checksums: in two
// records, packed with a format of its own.
func FuzzNode(f *testing.F) {
	fb := ondisk.NewFormatBuilder(ondisk.PosMin, ondisk.Pos{Inode: 100})
	format := fb.Format(false)
	good := format.AppendKV(val(ondisk.Pos{Inode: 3}, 7).Append(nil), val(ondisk.Pos{Inode: 4}, 8))
	f.Add(uint8(free), false, format.Append(nil), good, build.Deleted(ondisk.Pos{Inode: 3}).Append(nil))
	ext := build.ExtentKey(ondisk.KeyReservation, 5, 8, 8, ondisk.Bversion{}, make([]byte, 8))
	f.Add(uint8(0), true, format.Append(nil), ext.Append(nil), ext.Append(nil))
	ptr := build.PtrKey(ondisk.BtreePtr{V2: true, Seq: 1, Ptrs: []ondisk.Ptr{{Offset: 77}}}, ondisk.SPosMax)
	f.Add(uint8(free|128), false, format.Append(nil), ptr.Append(nil), []byte{})
	f.Add(uint8(ondisk.BtreeAccounting), true, make([]byte, 56), []byte{3, 0, 34, 0, 0, 0, 0, 0}, []byte{5, 1, 0, 0})
	f.Fuzz(func(t *testing.T, id uint8, salvage bool, format, one, two []byte) {
		pad := func(b []byte) []byte { b = b[:min(len(b), 14<<10)]; return bytes.Clone(b[:len(b)&^7]) }
		v := build.New(build.Config{Size: 4 << 20, Bucket: 64, Node: 64})
		level := int(id >> 7)
		n := build.Node{Btree: ondisk.BtreeID(id & 63), Level: level, Records: []build.Record{{Raw: pad(one)}, {Raw: pad(two), JournalSeq: 1}}}
		if n.Btree >= ondisk.MaxBtrees {
			return
		}
		var fm [ondisk.BkeyFormatSize]byte
		copy(fm[:], format)
		x := ondisk.DecodeBkeyFormat(fm[:])
		n.Format = &x
		v.Roots[n.Btree] = build.Root{Key: v.Write(n), Level: level}
		tr := open(t, v.Devices(), Config{CacheBytes: 1 << 20, Salvage: salvage}, func(error) {})
		root, err := tr.Root(ctx, n.Btree)
		if err != nil {
			return
		}
		if m, most := root.memory(), int64(24*(len(one)+len(two))+1024); m > most {
			t.Errorf("%d bytes of keys take %d in memory, want at most %d", len(one)+len(two), m, most)
		}
		for i := range root.Len() {
			k := root.Key(i)
			if i > 0 && !root.Key(i-1).Pos.Less(k.Pos) {
				t.Fatalf("%v after %v", k.Pos, root.Key(i-1).Pos)
			}
			if k.Type == ondisk.KeyDeleted {
				t.Fatalf("a deleted key at %v", k.Pos)
			}
			if level == 0 {
				if err := ondisk.CheckLeafKey(n.Btree, k, true); err != nil {
					t.Fatalf("key %v breaks a rule: %v", k.Pos, err)
				}
			}
			if j := root.Search(k.Pos); j != i {
				t.Fatalf("Search(%v) = %d, want %d", k.Pos, j, i)
			}
		}
		// Walks end, over whatever damage there is.
		c := tr.Cursor(ctx, n.Btree, ondisk.PosMin, ondisk.SPosMax)
		for steps := 0; ; steps++ {
			if steps > 100_000 {
				t.Fatal("the walk does not end")
			}
			if _, ok := c.Next(); !ok && (c.Err() == nil || !c.SkipDamage()) {
				break
			}
		}
	})
}
