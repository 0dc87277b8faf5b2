package btree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/block/blocktest"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/internal/testvol/build"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// walkAll walks a whole btree, over damage, and gives the keys, the damage and
// the suspicion.
func walkAll(tr *Trees, b ondisk.BtreeID) (keys []string, damage []*DamageError, suspect error) {
	c := tr.Cursor(ctx, b, ondisk.PosMin, ondisk.SPosMax)
	for {
		kv, ok := c.Next()
		if ok {
			keys = append(keys, show(kv))
			continue
		}
		var d *DamageError
		if !errors.As(c.Err(), &d) {
			return keys, damage, c.Suspect()
		}
		damage = append(damage, d)
		if len(damage) > 1000 || !c.SkipDamage() {
			return keys, damage, c.Suspect()
		}
	}
}

// TestOtherCopies: a node is read from the first copy that is good; all that is
// wrong with the others is a note.
func TestOtherCopies(t *testing.T) {
	for _, c := range []struct {
		name string
		hurt func(devs []block.Reader, off int64)
		ok   bool
		says []string
	}{
		{"first has a bad checksum", func(d []block.Reader, off int64) {
			d[0] = blocktest.NewFault(d[0], blocktest.Flip(off+170, 1, 4))
		}, true, []string{"btree node: other copy used: bset_bad_csum (node offset 0/8) at member 0, sector "}},
		{"first cannot be read", func(d []block.Reader, off int64) {
			d[0] = blocktest.NewFault(d[0], blocktest.EIO(off, 512))
		}, true, []string{"other copy used: device read at member0, member 0, sector "}},
		{"first is another node", func(d []block.Reader, off int64) {
			d[0] = blocktest.NewFault(d[0], blocktest.Flip(off+136, 1, 4))
		}, true, []string{"btree_node_bad_seq"}},
		{"first member is gone", func(d []block.Reader, _ int64) { d[0] = d[1] }, true, nil},
		{"second has a bad checksum", func(d []block.Reader, off int64) {
			d[1] = blocktest.NewFault(d[1], blocktest.Flip(off+170, 1, 4))
		}, true, nil},
		{"both are bad", func(d []block.Reader, off int64) {
			d[0] = blocktest.NewFault(d[0], blocktest.Flip(off+170, 1, 4))
			d[1] = blocktest.NewFault(d[1], blocktest.Zero(off, 512))
		}, false, []string{"btree btree 40, keys 2:0:1..3:0:0 cannot be read", "bset_bad_csum (node offset 0/8) at member 0, sector ", "btree_node_bad_magic at member 1, sector ", "expected crc32c_nonzero 0:", "level 0, position 3:0:0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, places := wide(5, build.Config{Members: 2})
			devs := v.Devices()
			c.hurt(devs, int64(places[2].Offset)*512)
			if devs[0] == devs[1] {
				devs = devs[1:]
			}
			var warned []string
			tr := open(t, devs, Config{CacheBytes: 1 << 20}, func(err error) {
				if !strings.Contains(err.Error(), "degraded: missing") {
					warned = append(warned, err.Error())
				}
			})
			keys, damage, suspect := walkAll(tr, free)
			text := strings.Join(warned, "\n")
			if want := 5; c.ok && (len(keys) != want || len(damage) > 0 || suspect != nil) {
				t.Errorf("%d keys, damage %v, suspect %v, want %d keys", len(keys), damage, suspect, want)
			}
			if !c.ok {
				if len(keys) != 4 || len(damage) != 1 {
					t.Fatalf("%d keys, damage %v, want 4 keys and one damage", len(keys), damage)
				}
				text = damage[0].Error()
			}
			for _, s := range c.says {
				if !strings.Contains(text, s) {
					t.Errorf("says %q, want %q in it", text, s)
				}
			}
			if len(c.says) == 0 && text != "" {
				t.Errorf("says %q, want nothing", text)
			}
		})
	}
}

// records makes a node of four records of two keys each, in blocks of 512.
func records(c build.Config) (*build.Volume, build.Node) {
	c.Block, c.Node = 1, 8
	v := build.New(c)
	n := build.Node{Btree: free}
	for i := range uint64(4) {
		n.Records = append(n.Records, build.Record{JournalSeq: i, Keys: []ondisk.KV{val(ondisk.Pos{Inode: 10*i + 1}, i), val(ondisk.Pos{Inode: 10*i + 2}, i)}})
	}
	return v, n
}

func recordKeys(without ...int) (out []string) {
	for i := range uint64(4) {
		if !slices.Contains(without, int(i)) {
			out = append(out, fmt.Sprintf("%d:0:0=%d", 10*i+1, i), fmt.Sprintf("%d:0:0=%d", 10*i+2, i))
		}
	}
	return out
}

// TestDamagedRecords: strict, a damaged node is an error; in salvage mode what
// is left of it is shown, and suspect.
func TestDamagedRecords(t *testing.T) {
	key := crypt.Key{3}
	for _, c := range []struct {
		name   string
		damage func(b []byte)
		reason string
		left   []string // in salvage mode; nil: nothing
		enc    []string // of an encrypted node
	}{
		{"checksum of the first", func(b []byte) { b[0] ^= 1 }, "bset_bad_csum (node offset 0/4)", recordKeys(), nil},
		{"checksum of the third", func(b []byte) { b[2*512] ^= 1 }, "bset_bad_csum (node offset 2/4)", recordKeys(), recordKeys(2)},
		{"third is zero", func(b []byte) { clear(b[2*512 : 3*512]) }, "btree_node_data_missing", recordKeys(2), recordKeys(2)},
		{"seq of the second", func(b []byte) { b[512+16] ^= 1 }, "btree_node_data_missing", recordKeys(1), recordKeys(1)},
		{"last is zero", func(b []byte) { clear(b[3*512 : 4*512]) }, "btree_node_data_missing", recordKeys(3), recordKeys(3)},
		{"all but the first are zero", func(b []byte) { clear(b[512:]) }, "btree_node_data_missing", recordKeys(1, 2, 3), recordKeys(1, 2, 3)},
		{"size of the second", func(b []byte) { b[512+38+1] ^= 0x80 }, "bset_past_end_of_btree_node", recordKeys(1), recordKeys(1)},
		{"checksum type of the second", func(b []byte) { b[512+32] ^= 8 | 5 }, "bset_unknown_csum", recordKeys(1), recordKeys(1)},
		{"first is zero", func(b []byte) { clear(b[:512]) }, "btree_node_bad_magic", nil, nil},
		{"everything is zero", func(b []byte) { clear(b) }, "btree_node_bad_magic", nil, nil},
		{"key size in the second", func(b []byte) { b[512+40] = 200 }, "bset_bad_csum (node offset 1/4)", recordKeys(1), recordKeys(1)},
		{"seq of the node", func(b []byte) { b[136] ^= 1 }, "btree_node_bad_seq", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, cfg := range []build.Config{{}, {Key: &key}} {
				v, n := records(cfg)
				n.Damage = c.damage
				v.Roots[free] = build.Root{Key: v.Write(n)}
				devs := v.Devices()
				want, reason := c.left, c.reason
				if cfg.Key != nil {
					want = c.enc
					if strings.HasPrefix(c.name, "checksum type") {
						continue // 4 with these bits changed is a known type
					}
				}
				keys, damage, _ := walkAll(open(t, devs, Config{CacheBytes: 1 << 20}, func(error) {}), free)
				if len(keys) > 0 || len(damage) != 1 || !strings.Contains(damage[0].Error(), reason) {
					t.Errorf("encrypted %t, strict: %d keys, damage %v, want an error with %q", cfg.Key != nil, len(keys), damage, reason)
				}
				var warned []string
				keys, damage, suspect := walkAll(open(t, devs, Config{CacheBytes: 1 << 20, Salvage: true}, func(err error) { warned = append(warned, err.Error()) }), free)
				if d := cmp.Diff(want, keys); d != "" {
					t.Errorf("encrypted %t, salvage (-want +got):\n%s", cfg.Key != nil, d)
				}
				if want == nil {
					if len(damage) != 1 {
						t.Errorf("encrypted %t, salvage: damage %v, want one", cfg.Key != nil, damage)
					}
				} else if suspect == nil || !strings.Contains(strings.Join(warned, "\n"), "btree node used although damaged: ") {
					t.Errorf("encrypted %t, salvage: suspect %v, warnings %q", cfg.Key != nil, suspect, warned)
				}
			}
		})
	}
}

// TestEndUnknown: where the pointer does not say how long the node is, a record
// missing in the middle is noticed by the one that follows it.
func TestEndUnknown(t *testing.T) {
	v, n := records(build.Config{})
	n.Ptr = func(p *ondisk.BtreePtr) { p.SectorsWritten = 0 }
	n.Damage = func(b []byte) { clear(b[2*512 : 3*512]) }
	v.Roots[free] = build.Root{Key: v.Write(n)}
	devs := v.Devices()
	if keys, damage, _ := walkAll(open(t, devs, Config{CacheBytes: 1}, func(error) {}), free); len(damage) != 1 || !strings.Contains(damage[0].Error(), "btree_node_data_missing") {
		t.Errorf("strict: keys %q, damage %v, want btree_node_data_missing", keys, damage)
	}
	keys, _, suspect := walkAll(open(t, devs, Config{CacheBytes: 1, Salvage: true}, func(error) {}), free)
	if d := cmp.Diff(recordKeys(2), keys); d != "" || suspect == nil {
		t.Errorf("salvage, suspect %v (-want +got):\n%s", suspect, d)
	}
}

// TestHostileNodes: each rule of nodes, broken, with right checksums.
func TestHostileNodes(t *testing.T) {
	hdr := func(f func(h *ondisk.NodeHeader)) func(*build.Node) {
		return func(n *build.Node) { n.Header = f }
	}
	bset := func(i int, f func(b *ondisk.Bset)) func(*build.Node) {
		return func(n *build.Node) {
			n.Bset = func(j int, b *ondisk.Bset) {
				if i == j {
					f(b)
				}
			}
		}
	}
	raw := func(b ...byte) func(*build.Node) {
		return func(n *build.Node) { n.Records[1] = build.Record{Raw: b, JournalSeq: 1} }
	}
	key := val(ondisk.Pos{Inode: 5}, 1).Append(nil)
	with := func(at int, x ...byte) []byte { b := slices.Clone(key); copy(b[at:], x); return b }
	for _, c := range []struct {
		name   string
		change func(n *build.Node)
		reason string // of the error; "" when only keys are dropped
		warn   string
	}{
		{"btree", hdr(func(h *ondisk.NodeHeader) { h.Flags = ondisk.NodeFlags(free+1, 0, 0) }), "btree_node_bad_btree", ""},
		{"level", hdr(func(h *ondisk.NodeHeader) { h.Flags = ondisk.NodeFlags(free, 2, 0) }), "btree_node_bad_level", ""},
		{"min_key", hdr(func(h *ondisk.NodeHeader) { h.MinKey.Inode = 1 }), "btree_node_bad_min_key", ""},
		{"max_key", hdr(func(h *ondisk.NodeHeader) { h.MaxKey.Inode = 1 }), "btree_node_bad_max_key", ""},
		{"format: fields", hdr(func(h *ondisk.NodeHeader) { h.Format.NrFields = 5 }), "btree_node_bad_format", ""},
		{"format: size", hdr(func(h *ondisk.NodeHeader) { h.Format.KeyU64s = 0 }), "btree_node_bad_format", ""},
		{"format: bits", hdr(func(h *ondisk.NodeHeader) { h.Format.Bits[2] = 60 }), "btree_node_bad_format", ""},
		{"big endian", bset(0, func(b *ondisk.Bset) { b.Flags |= 16 }), "btree_node_big_endian", ""},
		{"version 2.0", bset(1, func(b *ondisk.Bset) { b.Version = 2 << 10 }), "btree_node_unsupported_version", ""},
		{"version 0.11", bset(1, func(b *ondisk.Bset) { b.Version = 11 }), "btree_node_unsupported_version", ""},
		{"version 0", bset(1, func(b *ondisk.Bset) { b.Version = 0 }), "btree_node_unsupported_version", ""},
		{"separate whiteouts", bset(1, func(b *ondisk.Bset) { b.Flags |= 32 }), "btree_node_unsupported_version", ""},
		{"empty record", raw(), "bset_empty", ""},
		{"offset of a record", bset(2, func(b *ondisk.Bset) { b.Flags += 1 << 16 }), "bset_wrong_sector_offset", ""},
		{"offset 0 is legal", bset(2, func(b *ondisk.Bset) { b.Flags &= 1<<16 - 1 }), "", ""},
		{"key: u64s 0", raw(with(0, 0)...), "btree_node_bkey_bad_u64s", ""},
		{"key: u64s below the header", raw(with(0, 4)...), "btree_node_bkey_bad_u64s", ""},
		{"key: past the end", raw(with(0, 7)...), "btree_node_bkey_past_bset_end", ""},
		{"key: format 2", raw(with(1, 2)...), "btree_node_bkey_bad_format", ""},
		{"key: needs_whiteout is ignored", raw(with(1, 0x81)...), "", ""},
		{"sectors_written past the node", func(n *build.Node) { n.Ptr = func(p *ondisk.BtreePtr) { p.SectorsWritten = 4000 } }, "btree_node_data_missing", ""},
		{"sectors_written in the middle of a record", func(n *build.Node) {
			for i := range uint64(20) {
				n.Records[3].Keys = append(n.Records[3].Keys, val(ondisk.Pos{Inode: 100 + i}, i))
			}
			n.Ptr = func(p *ondisk.BtreePtr) { p.SectorsWritten = 4 }
		}, "bset_past_end_of_btree_node", ""},
		{"seq 0 in the pointer is not looked at", func(n *build.Node) { n.Ptr = func(p *ondisk.BtreePtr) { p.Seq = 0 } }, "", ""},
		{"key out of order", func(n *build.Node) {
			n.Records[1].Keys = []ondisk.KV{val(ondisk.Pos{Inode: 11}, 1), val(ondisk.Pos{Inode: 90}, 1), val(ondisk.Pos{Inode: 12}, 1)}
		}, "", "btree_node_bkey_out_of_order"},
		{"two keys at one position", func(n *build.Node) {
			n.Records[1].Keys = []ondisk.KV{val(ondisk.Pos{Inode: 11}, 1), val(ondisk.Pos{Inode: 12}, 9), val(ondisk.Pos{Inode: 12}, 1)}
		}, "", "btree_node_bkey_out_of_order"},
		{"a deletion before the key is legal", func(n *build.Node) {
			n.Records[1].Keys = []ondisk.KV{val(ondisk.Pos{Inode: 11}, 1), build.Deleted(ondisk.Pos{Inode: 12}), val(ondisk.Pos{Inode: 12}, 1)}
		}, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, n := records(build.Config{})
			c.change(&n)
			v.Roots[free] = build.Root{Key: v.Write(n)}
			var warned []string
			tr := open(t, v.Devices(), Config{CacheBytes: 1 << 20}, func(err error) { warned = append(warned, err.Error()) })
			keys, damage, _ := walkAll(tr, free)
			if c.reason != "" {
				if len(damage) != 1 || !strings.Contains(damage[0].Error(), c.reason) || !errors.Is(damage[0], errs.ErrCorrupt) {
					t.Errorf("%d keys, damage %v, want an error with %q", len(keys), damage, c.reason)
				}
				return
			}
			if len(damage) > 0 {
				t.Fatal(damage[0])
			}
			if want := recordKeys(); !strings.HasPrefix(c.name, "key: needs") && !slices.Equal(keys, want) {
				t.Errorf("keys %q, want %q", keys, want)
			}
			if text := strings.Join(warned, "\n"); !strings.Contains(text, c.warn) || c.warn == "" && text != "" {
				t.Errorf("warnings %q, want %q", text, c.warn)
			}
		})
	}
}

// TestHostileKeys: keys that break a rule are dropped with a note; the others
// stay.
func TestHostileKeys(t *testing.T) {
	good := build.Key(ondisk.KeyXattr, 9, 9, 5, ondisk.Xattr{Name: []byte("a")}.Append(nil))
	ext := func(t ondisk.KeyType, size uint32, snapshot uint32) ondisk.KV {
		kv := build.Key(t, 9, 8, snapshot, make([]byte, 8))
		kv.Size = size
		return kv
	}
	for _, c := range []struct {
		name  string
		btree ondisk.BtreeID
		kv    ondisk.KV
		warn  string
	}{
		{"type of another btree", ondisk.BtreeXattrs, build.Key(ondisk.KeyDirent, 1, 1, 5, make([]byte, 16)), "bkey_invalid_type_for_btree"},
		{"no snapshot", ondisk.BtreeXattrs, build.Key(ondisk.KeyXattr, 1, 1, 0, make([]byte, 8)), "bkey_snapshot_zero"},
		{"snapshot where there is none", ondisk.BtreeQuotas, build.Key(ondisk.KeyQuota, 1, 1, 5, make([]byte, 32)), "bkey_snapshot_nonzero"},
		{"value too short", ondisk.BtreeQuotas, build.Key(ondisk.KeyQuota, 1, 1, 0, make([]byte, 8)), "bkey_val_size_too_small"},
		{"size of what has none", ondisk.BtreeXattrs, func() ondisk.KV { k := good; k.Pos.Inode, k.Size = 1, 3; return k }(), "bkey_size_nonzero"},
		{"extent without size", ondisk.BtreeExtents, ext(ondisk.KeyReservation, 0, 5), "bkey_extent_size_zero"},
		{"extent that begins before 0", ondisk.BtreeExtents, ext(ondisk.KeyReservation, 9, 5), "bkey_extent_size_greater_than_offset"},
		{"at POS_MAX", ondisk.BtreeXattrs, build.Key(ondisk.KeyXattr, ondisk.PosMax.Inode, ondisk.PosMax.Offset, 5, make([]byte, 8)), "bkey_at_pos_max"},
		{"unknown type", ondisk.BtreeXattrs, build.Key(77, 1, 1, 5, nil), ""},
	} {
		v := build.New(build.Config{})
		v.Add(c.btree, c.kv)
		if c.btree == ondisk.BtreeXattrs {
			v.Add(c.btree, good)
		}
		var warned []string
		tr := open(t, v.Devices(), Config{CacheBytes: 1 << 20}, func(err error) { warned = append(warned, err.Error()) })
		cur := tr.Cursor(ctx, c.btree, ondisk.PosMin, ondisk.SPosMax)
		n := 0
		for {
			if _, ok := cur.Next(); !ok {
				break
			}
			n++
		}
		want := 0
		if c.btree == ondisk.BtreeXattrs {
			want++
		}
		if c.warn == "" {
			want++
		}
		if cur.Err() != nil || n != want {
			t.Errorf("%s: %d keys, %v, want %d", c.name, n, cur.Err(), want)
		}
		if text := strings.Join(warned, "\n"); !strings.Contains(text, c.warn) || c.warn == "" && text != "" {
			t.Errorf("%s: warnings %q, want %q", c.name, text, c.warn)
		}
	}
}

// TestTopology: trees whose nodes do not fit together. What can be reached is
// read, walks end, and no key comes twice.
func TestTopology(t *testing.T) {
	// leaf covers [10a, 10b) with a key at each 10i+5.
	leaf := func(v *build.Volume, a, b uint64) ondisk.KV {
		n := build.Node{Btree: free, Max: ondisk.Pos{Inode: 10*b - 1}}
		if a > 0 {
			n.Min = ondisk.Pos{Inode: 10*a - 1}.Successor()
		}
		if b == 5 {
			n.Max = ondisk.SPosMax
		}
		var r build.Record
		for i := a; i < b; i++ {
			r.Keys = append(r.Keys, val(ondisk.Pos{Inode: 10*i + 5}, i))
		}
		n.Records = []build.Record{r}
		return v.Write(n)
	}
	root := func(v *build.Volume, kvs ...ondisk.KV) {
		v.Roots[free] = build.Root{Level: 1, Key: v.Write(build.Node{Btree: free, Level: 1, Records: []build.Record{{Keys: kvs}}})}
	}
	keys := func(is ...uint64) (out []string) {
		for _, i := range is {
			out = append(out, fmt.Sprintf("%d:0:0=%d", 10*i+5, i))
		}
		return out
	}
	for _, c := range []struct {
		name   string
		build  func(v *build.Volume)
		keys   []string
		damage []string // From..To
		warn   string
	}{
		{"good", func(v *build.Volume) { root(v, leaf(v, 0, 2), leaf(v, 2, 5)) }, keys(0, 1, 2, 3, 4), nil, ""},
		{"gap", func(v *build.Volume) { root(v, leaf(v, 0, 1), leaf(v, 3, 5)) }, keys(0, 3, 4), []string{"9:0:1..29:0:0"}, "btree_node_topology_gap_between_nodes"},
		{"gap at the start", func(v *build.Volume) { root(v, leaf(v, 1, 5)) }, keys(1, 2, 3, 4), []string{"POS_MIN..9:0:0"}, "btree_node_topology_gap_between_nodes"},
		{"gap at the end", func(v *build.Volume) { root(v, leaf(v, 0, 2)) }, keys(0, 1), []string{"19:0:1..SPOS_MAX"}, "btree_node_topology_bad_max_key"},
		{"overlap", func(v *build.Volume) { root(v, leaf(v, 0, 3), leaf(v, 1, 5)) }, keys(0, 1, 2, 3, 4), nil, "btree_node_topology_overwritten_by_prev_node"},
		{"the same range twice", func(v *build.Volume) {
			a := leaf(v, 0, 5)
			b := leaf(v, 0, 5)
			a.Pos = ondisk.Pos{Inode: 30}
			root(v, a, b)
		}, keys(3, 4), []string{"POS_MIN..30:0:0"}, "btree_node_topology_overwritten_by_prev_node"},
		{"no children", func(v *build.Volume) { root(v) }, nil, []string{"POS_MIN..SPOS_MAX"}, "btree_node_topology_empty_interior_node"},
		{"a key that is no pointer", func(v *build.Volume) { root(v, val(ondisk.Pos{Inode: 3}, 1), leaf(v, 0, 5)) }, keys(0, 1, 2, 3, 4), nil, "bkey_invalid_type_for_btree"},
		{"a pointer without places", func(v *build.Volume) {
			l := leaf(v, 0, 2)
			l.Val = l.Val[:40]
			root(v, l, leaf(v, 2, 5))
		}, keys(2, 3, 4), []string{"POS_MIN..19:0:0"}, "extent_ptrs_no_ptrs"},
		{"a pointer to nothing but placeholders", func(v *build.Volume) {
			l := leaf(v, 0, 2)
			l.Val = ondisk.Ptr{Dev: ondisk.InvalidDev}.Append(l.Val[:40])
			root(v, l, leaf(v, 2, 5))
		}, keys(2, 3, 4), []string{"POS_MIN..19:0:0"}, ""},
		{"a pointer behind the end of the device", func(v *build.Volume) {
			l := leaf(v, 0, 2)
			l.Val = ondisk.Ptr{Offset: 1<<44 - 1}.Append(l.Val[:40])
			root(v, l, leaf(v, 2, 5))
		}, keys(2, 3, 4), []string{"POS_MIN..19:0:0"}, ""},
		{"a node that is its own child", func(v *build.Volume) {
			n := build.Node{Btree: free, Level: 1, Seq: 77}
			first := v.Write(n)
			p, err := ondisk.DecodeBtreePtr(first)
			if err != nil {
				t.Fatal(err)
			}
			n.Records = []build.Record{{Keys: []ondisk.KV{first}}}
			b, _ := v.EncodeNode(build.Node{Btree: free, Level: 1, Seq: 77, Max: ondisk.SPosMax, Sectors: int(v.Node), Records: n.Records})
			if _, err := v.Dev[0].WriteAt(b, int64(p.Ptrs[0].Offset)*512); err != nil {
				t.Fatal(err)
			}
			v.Roots[free] = build.Root{Level: 1, Key: first}
		}, nil, []string{"POS_MIN..SPOS_MAX"}, ""},
		{"the root's level is not what the root says", func(v *build.Volume) {
			root(v, leaf(v, 0, 5))
			r := v.Roots[free]
			r.Level = 3
			v.Roots[free] = r
		}, nil, []string{"POS_MIN..SPOS_MAX"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := build.New(build.Config{})
			c.build(v)
			var warned []string
			tr := open(t, v.Devices(), Config{CacheBytes: 1 << 20}, func(err error) { warned = append(warned, err.Error()) })
			got, damage, _ := walkAll(tr, free)
			if d := cmp.Diff(c.keys, got); d != "" {
				t.Errorf("keys (-want +got):\n%s", d)
			}
			var where []string
			for _, d := range damage {
				where = append(where, fmt.Sprintf("%v..%v", d.From, d.To))
			}
			if d := cmp.Diff(c.damage, where); d != "" {
				t.Errorf("damage (-want +got):\n%s", d)
			}
			if text := strings.Join(warned, "\n"); !strings.Contains(text, c.warn) {
				t.Errorf("warnings %q, want %q", text, c.warn)
			}
		})
	}
}

// TestHostileNodeMemory: what a node takes in memory is in proportion to its
// size on disk, whatever it claims.
func TestHostileNodeMemory(t *testing.T) {
	v := build.New(build.Config{Node: 64})
	// Keys of one word, the smallest there are.
	f := ondisk.BkeyFormat{KeyU64s: 1, NrFields: 6, Bits: [6]uint8{0, 40, 0, 0, 0, 0}}
	var b []byte
	for i := range uint64(4000) {
		b = binary.LittleEndian.AppendUint64(b, i<<24|uint64(ondisk.KeySet)<<16|1)
	}
	v.Roots[free] = build.Root{Key: v.Write(build.Node{Btree: free, Format: &f, Records: []build.Record{{Raw: b}}})}
	tr := open(t, v.Devices(), Config{CacheBytes: 1 << 20}, nil)
	n, err := tr.Root(ctx, free)
	if err != nil || n.Len() != 4000 {
		t.Fatalf("node of %d keys, %v, want 4000", n.Len(), err)
	}
	if got, most := n.memory(), int64(8*len(b)); got > most {
		t.Errorf("a node of %d bytes takes %d in memory, want at most %d", len(b), got, most)
	}
}

// TestWarningsAreBounded: a finding is passed on once, and what was said is not
// remembered without end.
func TestWarningsAreBounded(t *testing.T) {
	n := 0
	tr := open(t, build.New(build.Config{}).Devices(), Config{CacheBytes: 1}, func(error) { n++ })
	for range 3 {
		tr.warn(errors.New("the same"))
	}
	if n != 1 {
		t.Errorf("the same finding was passed on %d times, want once", n)
	}
	for i := range 30_000 {
		tr.warn(fmt.Errorf("finding %d", i))
	}
	if len(tr.warned) > 10_000 {
		t.Errorf("%d findings remembered, want at most 10000", len(tr.warned))
	}
}
