package bcachefs_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/strhash"
	"github.com/gobcachefs/gobcachefs/internal/testvol/build"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Structures that no volume of the real implementation at hand holds, in small
// volumes of our own: synthetic.

// text is compressible content that differs in every sector.
func text(n int, seed byte) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%c line %d of a text that is made to be compressed\n", 'a'+seed, i)
	}
	return b.Bytes()[:n]
}

// opened opens a synthetic volume; warnings fail the test.
func opened(t *testing.T, v *build.Volume) *bcachefs.Volume {
	t.Helper()
	return open(t, v.Devices(), bcachefs.Options{Warn: func(err error) { t.Errorf("warning: %v", err) }})
}

func readFile(t *testing.T, v *bcachefs.Volume, path string) ([]byte, error) {
	t.Helper()
	f, err := v.Root().Open(context.Background(), path)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(f)
}

func wantFile(t *testing.T, v *bcachefs.Volume, path string, want []byte) {
	t.Helper()
	got, err := readFile(t, v, path)
	if err != nil {
		t.Errorf("%s: %v", path, err)
		return
	}
	if !bytes.Equal(got, want) {
		i := 0
		for i < len(got) && i < len(want) && got[i] == want[i] {
			i++
		}
		t.Errorf("%s = %d bytes, want %d; first difference at byte %d", path, len(got), len(want), i)
	}
}

const inum = 5000 // of the file in these volumes

// TestSyntheticExtents reads files whose extents have a form that the test
// volumes lack.
func TestSyntheticExtents(t *testing.T) {
	type file struct {
		keys []ondisk.KV
		want []byte
		err  string // a part of the error, instead of want
	}
	a := text(64*512, 0)
	for _, c := range []struct {
		name  string
		build func(v *build.Volume) file
	}{
		{"lz4_old", func(v *build.Volume) file {
			return file{keys: []ondisk.KV{v.Extent(inum, 0, a, build.Enc{Compression: ondisk.CompressionLZ4Old, Csum: ondisk.CsumCRC32C})}, want: a}
		}},
		{"flags, not poisoned", func(v *build.Volume) file {
			k := v.Extent(inum, 0, a, build.Enc{Csum: ondisk.CsumCRC32C})
			k.Val = append(ondisk.ExtentEntry{Type: ondisk.XEFlags, Raw: []uint64{1 << 6}}.Append(nil), k.Val...)
			return file{keys: []ondisk.KV{k}, want: a}
		}},
		{"poisoned", func(v *build.Volume) file {
			k := v.Extent(inum, 8, a[8*512:], build.Enc{Csum: ondisk.CsumCRC32C})
			k.Val = append(ondisk.ExtentEntry{Type: ondisk.XEFlags, Raw: []uint64{1<<6 | 1<<7}}.Append(nil), k.Val...)
			return file{keys: []ondisk.KV{v.Extent(inum, 0, a[:8*512], build.Enc{}), k}, err: "poisoned"}
		}},
		{"entry type of the future", func(v *build.Volume) file {
			v.SB.SetField(ondisk.FieldExtentTypeU64s, []byte{1, 1, 2, 3, 1, 1, 1, 1, 1, 2, 0, 0, 0, 0, 0, 0})
			k := v.Extent(inum, 0, a, build.Enc{Csum: ondisk.CsumCRC32C})
			k.Val = append(k.Val, ondisk.ExtentEntry{Raw: []uint64{1<<9 | 1<<40, 42}, Type: 9}.Append(nil)...)
			return file{keys: []ondisk.KV{k}, want: a}
		}},
		{"entry type of the future, size unknown", func(v *build.Volume) file {
			k := v.Extent(inum, 0, a, build.Enc{Csum: ondisk.CsumCRC32C})
			k.Val = append(k.Val, ondisk.ExtentEntry{Raw: []uint64{1<<9 | 1<<40, 42}, Type: 9}.Append(nil)...)
			return file{keys: []ondisk.KV{k}, err: "extent_ptrs_invalid_entry"}
		}},
		{"rebalance and reconcile entries", func(v *build.Volume) file {
			k := v.Extent(inum, 0, a[:32*512], build.Enc{Csum: ondisk.CsumCRC32C})
			k.Val = append(k.Val, ondisk.ExtentEntry{Type: ondisk.XERebalance, Raw: []uint64{ondisk.Rebalance{BackgroundTarget: 257}.Word()}}.Append(nil)...)
			l := v.Extent(inum, 32, a[32*512:], build.Enc{Csum: ondisk.CsumCRC32C})
			l.Val = append(l.Val, ondisk.ExtentEntry{Type: ondisk.XEReconcile, Raw: []uint64{ondisk.Reconcile{Need: 1, Hipri: true, DataReplicas: 2}.Word()}}.Append(nil)...)
			l.Val = ondisk.Ptr{Dev: ondisk.InvalidDev}.Append(l.Val)
			return file{keys: []ondisk.KV{k, l}, want: a}
		}},
		{"indirect inline data", func(v *build.Volume) file {
			v.Add(ondisk.BtreeReflink, build.ExtentKey(ondisk.KeyIndirectInlineData, 0, 108, 8, ondisk.Bversion{}, ondisk.AppendReflinkV(nil, 2, build.Pad8([]byte("inline in reflink")))))
			k := build.ExtentKey(ondisk.KeyReflinkP, inum, 8, 8, ondisk.Bversion{}, ondisk.ReflinkP{Idx: 100, FrontPad: 0}.Append(nil))
			want := make([]byte, 4096)
			copy(want, "inline in reflink")
			return file{keys: []ondisk.KV{k}, want: want}
		}},
		{"error keys", func(v *build.Volume) file {
			return file{keys: []ondisk.KV{build.ExtentKey(ondisk.KeyError, inum, 8, 8, ondisk.Bversion{}, nil), build.ExtentKey(ondisk.KeyError, inum, 16, 8, ondisk.Bversion{}, ondisk.LostReason(1).Append(nil))}, err: "data lost"}
		}},
		{"cookie, reservation, whiteouts, unwritten: zeros", func(v *build.Volume) file {
			p := ondisk.Ptr{Unwritten: true, Offset: v.Store(a)[0].Offset}
			return file{keys: []ondisk.KV{
				build.ExtentKey(ondisk.KeyCookie, inum, 8, 8, ondisk.Bversion{}, ondisk.AppendCookie(nil, 7)),
				build.ExtentKey(ondisk.KeyReservation, inum, 16, 8, ondisk.Bversion{}, ondisk.Reservation{NrReplicas: 1}.Append(nil)),
				build.ExtentKey(ondisk.KeyWhiteout, inum, 24, 0, ondisk.Bversion{}, nil),
				build.ExtentKey(ondisk.KeyExtentWhiteout, inum, 32, 0, ondisk.Bversion{}, nil),
				build.ExtentKey(ondisk.KeyExtent, inum, 40, 8, ondisk.Bversion{}, p.Append(nil)),
			}, want: make([]byte, 40*512)}
		}},
		{"only stale caches: a hole", func(v *build.Volume) file {
			p := v.Store(a[:4096])[0]
			p.Cached, p.Gen = true, 1
			v.Add(ondisk.BtreeAlloc, build.Key(ondisk.KeyAllocV4, 0, p.Offset/uint64(v.Bucket), 0, (&ondisk.Alloc{Gen: 2, DataType: ondisk.DataUser}).Append(nil, v.Version)))
			return file{keys: []ondisk.KV{build.ExtentKey(ondisk.KeyExtent, inum, 8, 8, ondisk.Bversion{}, p.Append(nil))}, want: make([]byte, 4096)}
		}},
		{"only a cache, still good", func(v *build.Volume) file {
			p := v.Store(a[:4096])[0]
			p.Cached, p.Gen = true, 2
			v.Add(ondisk.BtreeAlloc, build.Key(ondisk.KeyAllocV4, 0, p.Offset/uint64(v.Bucket), 0, (&ondisk.Alloc{Gen: 2, DataType: ondisk.DataUser}).Append(nil, v.Version)))
			return file{keys: []ondisk.KV{build.ExtentKey(ondisk.KeyExtent, inum, 8, 8, ondisk.Bversion{}, p.Append(nil))}, want: a[:4096]}
		}},
		{"stale dirty pointer without checksum", func(v *build.Volume) file {
			p := v.Store(a[:4096])[0]
			p.Gen = 1
			v.Add(ondisk.BtreeAlloc, build.Key(ondisk.KeyAllocV4, 0, p.Offset/uint64(v.Bucket), 0, (&ondisk.Alloc{Gen: 2, DataType: ondisk.DataUser}).Append(nil, v.Version)))
			return file{keys: []ondisk.KV{build.ExtentKey(ondisk.KeyExtent, inum, 8, 8, ondisk.Bversion{}, p.Append(nil))}, err: "none of them usable"}
		}},
		{"crc without checksum and compression, with offset", func(v *build.Volume) file {
			k := v.Extent(inum, 0, a[:32*512], build.Enc{Kind: 32})
			// The front 8 sectors were overwritten by a hole.
			var val []byte
			if err := ondisk.ExtentEntries(k.Val, nil, func(e ondisk.ExtentEntry) bool {
				if e.Type == ondisk.XECrc32 {
					e.Crc.Offset = 8
				}
				val = e.Append(val)
				return true
			}); err != nil {
				t.Fatal(err)
			}
			k.Val, k.Size = val, 24
			want := bytes.Clone(a[:32*512])
			clear(want[:8*512])
			return file{keys: []ondisk.KV{k}, want: want}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := build.New(build.Config{Version: ondisk.Version1_39})
			v.Base()
			f := c.build(v)
			size := len(f.want)
			if f.err != "" {
				size = 16 * 512
			}
			v.File("f", inum, ondisk.Inode{Size: uint64(size)}, f.keys...)
			vol := opened(t, v)
			if f.err == "" {
				wantFile(t, vol, "/f", f.want)
				return
			}
			if _, err := readFile(t, vol, "/f"); err == nil || !strings.Contains(err.Error(), f.err) {
				t.Errorf("read = %v, want an error with %q", err, f.err)
			}
		})
	}
}

// TestSyntheticInodes reads files described by the old forms of inodes.
func TestSyntheticInodes(t *testing.T) {
	le := binary.LittleEndian
	data := text(5*512, 1)
	varints := func(vs ...uint64) (b []byte) {
		for i, x := range vs {
			b = ondisk.AppendVarint(b, x)
			if i < 4 {
				b = ondisk.AppendVarint(b, 0) // the high half of a time
			}
		}
		return b
	}
	// atime, ctime, mtime, otime, size, sectors, uid, gid, nlink
	fields := varints(4e9, 3e9, 2e9, 1e9, uint64(len(data)), 5, 1000, 1001, 2)
	flags := uint64(9<<24 | 3<<20 | ondisk.InodeNodump)
	v1 := le.AppendUint64(nil, build.RootHashSeed)
	v1 = le.AppendUint32(v1, uint32(flags|1<<31))
	v1 = le.AppendUint16(v1, ondisk.ModeRegular|0o640)
	v1 = append(v1, fields...)
	v2 := le.AppendUint64(nil, 1)
	v2 = le.AppendUint64(v2, build.RootHashSeed)
	v2 = le.AppendUint64(v2, flags)
	v2 = le.AppendUint16(v2, ondisk.ModeRegular|0o640)
	v2 = append(v2, fields...)

	for name, kv := range map[string]ondisk.KV{
		"inode":    build.Key(ondisk.KeyInode, 0, inum, build.RootSnapshot, v1),
		"inode_v2": build.Key(ondisk.KeyInodeV2, 0, inum, build.RootSnapshot, v2),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := build.New(build.Config{})
			v.Base()
			v.Add(ondisk.BtreeInodes, kv)
			v.Dirent(ondisk.RootInode, "old", inum, ondisk.DTRegular)
			v.Add(ondisk.BtreeExtents, v.Extent(inum, 0, data, build.Enc{Csum: ondisk.CsumCRC32C}))
			vol := opened(t, v)
			wantFile(t, vol, "/old", data)
			a, err := vol.Root().Stat(context.Background(), "/old")
			if err != nil {
				t.Fatal(err)
			}
			type stat struct {
				Mode, Nlink, UID, GID uint32
				Size, Blocks          uint64
				Nodump                bool
				A, C, M, B            int64
			}
			got := stat{a.Mode, a.Nlink, a.UID, a.GID, a.Size, a.Blocks, a.Flags.Nodump, a.Atime.UnixNano(), a.Ctime.UnixNano(), a.Mtime.UnixNano(), a.Btime.UnixNano()}
			want := stat{ondisk.ModeRegular | 0o640, 3, 1000, 1001, uint64(len(data)), 5, true, build.TimeBase + 4e9, build.TimeBase + 3e9, build.TimeBase + 2e9, build.TimeBase + 1e9}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("stat of an %s (-want +got):\n%s", name, d)
			}
		})
	}
}

// TestSyntheticAlloc: the generations of old forms of alloc keys decide whether
// a cached copy is stale.
func TestSyntheticAlloc(t *testing.T) {
	data := text(4096, 2)
	for name, kv := range map[string]ondisk.KV{
		"alloc":    build.Key(ondisk.KeyAlloc, 0, 0, 0, []byte{0x0c, 7, 4, 3, 0, 0, 0, 0}), // fields data_type, dirty_sectors; gen 7
		"alloc_v2": build.Key(ondisk.KeyAllocV2, 0, 0, 0, []byte{2, 7, 6, 4, 2, 4, 6, 0}),
		"alloc_v3": build.Key(ondisk.KeyAllocV3, 0, 0, 0, []byte{99, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 2, 7, 6, 4, 2, 4, 6, 0}),
		"alloc_v4": build.Key(ondisk.KeyAllocV4, 0, 0, 0, (&ondisk.Alloc{Gen: 7, DataType: ondisk.DataCached}).Append(nil, ondisk.Version1_13)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, err := ondisk.DecodeAlloc(kv)
			if err != nil || want.Gen != 7 {
				t.Fatalf("DecodeAlloc = gen %d, %v, want gen 7: the vector is wrong", want.Gen, err)
			}
			v := build.New(build.Config{})
			v.Base()
			for i, gen := range []uint8{6, 7} {
				p := v.Store(data)[0]
				p.Cached, p.Gen = true, gen
				kv.Pos.Offset = p.Offset / uint64(v.Bucket)
				v.Add(ondisk.BtreeAlloc, kv)
				v.File(fmt.Sprintf("gen%d", gen), inum+uint64(i), ondisk.Inode{Size: 4096}, build.ExtentKey(ondisk.KeyExtent, inum+uint64(i), 8, 8, ondisk.Bversion{}, p.Append(nil)))
			}
			vol := opened(t, v)
			wantFile(t, vol, "/gen6", make([]byte, 4096))
			wantFile(t, vol, "/gen7", data)
		})
	}
}

// TestSyntheticSnapshots reads subvolumes whose keys have the length of older
// versions, or the marks of newer ones.
func TestSyntheticSnapshots(t *testing.T) {
	const top, old, leaf = uint32(build.RootSnapshot), uint32(build.RootSnapshot - 1), uint32(build.RootSnapshot - 2)
	for _, c := range []struct {
		name       string
		version    ondisk.Version
		snap, subv int    // bytes of the values, 0: all
		flags      uint32 // of the snapshot in the middle
	}{
		{"1.0: no depth, no skip list, no parent in the tree", ondisk.Version1_0, 24, 16, 0},
		{"1.4: depth and skip list", ondisk.Version1_0 + 4, 40, 16, 0},
		{"1.5: parent in the tree", ondisk.Version1_0 + 5, 56, 40, 0},
		{"1.26: a deleted snapshot stays as a tombstone", ondisk.Version1_0 + 26, 56, 40, ondisk.SnapshotDeleted | ondisk.SnapshotNoKeys},
		{"1.39: states", ondisk.Version1_39, 0, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := build.New(build.Config{Version: c.version})
			cut := func(b []byte, n int) []byte {
				if n == 0 {
					return b
				}
				return b[:min(n, len(b))]
			}
			snap := func(id uint32, s ondisk.Snapshot) {
				if c.version == ondisk.Version1_39 {
					s.State = ondisk.SnapshotStateLive
				}
				v.Add(ondisk.BtreeSnapshots, build.Key(ondisk.KeySnapshot, 0, uint64(id), 0, cut(s.Append(nil), c.snap)))
			}
			snap(top, ondisk.Snapshot{Children: [2]uint32{old}, Tree: 1})
			snap(old, ondisk.Snapshot{Parent: top, Children: [2]uint32{leaf}, Tree: 1, Depth: 1, Skip: [3]uint32{top, top, top}, Flags: c.flags})
			snap(leaf, ondisk.Snapshot{Parent: old, Tree: 1, Depth: 2, Skip: [3]uint32{old, old, top}, Subvol: 1, Flags: ondisk.SnapshotSubvol})
			sv := ondisk.Subvolume{Snapshot: leaf, Inode: ondisk.RootInode}
			if c.version == ondisk.Version1_39 {
				sv.State = ondisk.SubvolStateLive
			}
			v.Add(ondisk.BtreeSubvolumes, build.Key(ondisk.KeySubvolume, 0, 1, 0, cut(sv.Append(nil), c.subv)))
			v.Add(ondisk.BtreeSnapshotTrees, build.Key(ondisk.KeySnapshotTree, 0, 1, 0, ondisk.SnapshotTree{MasterSubvol: 1, RootSnapshot: top}.Append(nil)))
			v.Inode(ondisk.RootInode, ondisk.Inode{Mode: ondisk.ModeDir | 0o755, Subvol: 1})
			a, b := text(8*512, 1), text(8*512, 2)
			v.File("f", inum, ondisk.Inode{Size: 16 * 512}, v.Extent(inum, 0, a, build.Enc{}), v.Extent(inum, 8, a, build.Enc{}))
			v.File("gone", inum+1, ondisk.Inode{})
			over := v.Extent(inum, 8, b, build.Enc{})
			over.Pos.Snapshot = leaf
			v.Add(ondisk.BtreeExtents, over)
			d := v.DirentKey(ondisk.RootInode, "gone", ondisk.Dirent{})
			d.Type, d.Val, d.Pos.Snapshot = ondisk.KeyWhiteout, nil, leaf
			v.Add(ondisk.BtreeDirents, d)
			vol := opened(t, v)
			wantFile(t, vol, "/f", append(bytes.Clone(a), b...))
			if _, err := vol.Root().Stat(context.Background(), "/gone"); errs.Errno(err) != syscall.ENOENT {
				t.Errorf("Stat of a name that was deleted since = %v, want ENOENT", err)
			}
		})
	}
}

// TestSynthetic31BitDirents: directories of 1.30 and later may keep the hashes of
// their names below 2^31.
func TestSynthetic31BitDirents(t *testing.T) {
	v := build.New(build.Config{Version: ondisk.Version1_39})
	v.Base()
	const dir = inum + 1
	v.Inode(dir, ondisk.Inode{Mode: ondisk.ModeDir | 0o755, Flags: ondisk.Inode31bitDirentOffset, Dir: ondisk.RootInode})
	v.Dirent(ondisk.RootInode, "dir", dir, ondisk.DTDir)
	v.Inode(inum, ondisk.Inode{Mode: ondisk.ModeRegular | 0o644})
	want := map[string]bool{}
	for i := range 50 {
		name := fmt.Sprintf("name %d", i)
		d := v.DirentKey(dir, name, ondisk.Dirent{Type: ondisk.DTRegular, Inum: inum})
		d.Pos.Offset = strhash.DirentSlot(strhash.SipHash, build.RootHashSeed, true, []byte(name))
		if d.Pos.Offset >= 1<<31 {
			t.Fatalf("slot %#x of %q", d.Pos.Offset, name)
		}
		v.Add(ondisk.BtreeDirents, d)
		want[name] = true
	}
	vol := opened(t, v)
	for name := range want {
		if _, err := vol.Root().Stat(context.Background(), "/dir/"+name); err != nil {
			t.Errorf("Stat(%q) = %v", name, err)
		}
	}
	es, err := vol.Root().ReadDir(context.Background(), "/dir")
	if err != nil || len(es) != len(want) {
		t.Errorf("ReadDir = %d entries, %v, want %d", len(es), err, len(want))
	}
}

// manyFiles makes a volume of n files with inline data, in small nodes so that
// the trees have several levels, and checks all of them after fn had its way.
func manyFiles(v *build.Volume, n int) map[string][]byte {
	v.Base()
	want := map[string][]byte{}
	for i := range n {
		name, data := fmt.Sprintf("file%03d", i), fmt.Appendf(nil, "contents of file %d", i)
		id := uint64(inum + i)
		v.File(name, id, ondisk.Inode{Size: uint64(len(data))}, build.ExtentKey(ondisk.KeyInlineData, id, 8, 8, ondisk.Bversion{}, build.Pad8(bytes.Clone(data))))
		want["/"+name] = data
	}
	return want
}

func wantFiles(t *testing.T, vol *bcachefs.Volume, want map[string][]byte) {
	t.Helper()
	es, err := vol.Root().ReadDir(context.Background(), "/")
	if err != nil || len(es) != len(want) {
		t.Errorf("ReadDir = %d entries, %v, want %d", len(es), err, len(want))
	}
	for p, data := range want {
		wantFile(t, vol, p, data)
	}
}

// TestSyntheticNodes reads trees whose nodes and pointers have rare forms.
func TestSyntheticNodes(t *testing.T) {
	const files = 60
	small := build.Config{KeysPerLeaf: 7, Fanout: 4}
	each := func(v *build.Volume, change func(n *build.Node)) {
		// Every node of the file btrees in the changed form.
		for _, b := range []ondisk.BtreeID{ondisk.BtreeExtents, ondisk.BtreeInodes, ondisk.BtreeDirents} {
			v.Roots[b] = tree(v, b, change)
		}
	}
	for _, c := range []struct {
		name  string
		cfg   build.Config
		build func(v *build.Volume)
	}{
		{"plain", small, func(*build.Volume) {}},
		{"one leaf each", build.Config{}, func(*build.Volume) {}},
		{"512-byte blocks, 4 KiB nodes", build.Config{Block: 1, Node: 8}, func(*build.Volume) {}},
		{"no checksums", build.Config{NoMetaCsum: true, KeysPerLeaf: 7}, func(*build.Volume) {}},
		{"crc64", build.Config{MetaCsum: ondisk.CsumOptCRC64, KeysPerLeaf: 7}, func(*build.Volume) {}},
		{"xxhash", build.Config{MetaCsum: ondisk.CsumOptXXHash, KeysPerLeaf: 7}, func(*build.Volume) {}},
		{"btree_ptr: seq and size unknown", small, func(v *build.Volume) {
			each(v, func(n *build.Node) {
				n.Ptr = func(p *ondisk.BtreePtr) { *p = ondisk.BtreePtr{Ptrs: p.Ptrs} }
			})
		}},
		{"sectors_written unknown", small, func(v *build.Volume) {
			each(v, func(n *build.Node) {
				n.Records = split(n.Records[0].Keys)
				n.Ptr = func(p *ondisk.BtreePtr) { p.SectorsWritten = 0 }
			})
		}},
		{"many records, later ones win", small, func(v *build.Volume) {
			each(v, func(n *build.Node) { n.Records = split(n.Records[0].Keys) })
		}},
		{"records of different versions", small, func(v *build.Volume) {
			v.SB.VersionMin = 14
			each(v, func(n *build.Node) {
				n.Records = split(n.Records[0].Keys)
				for i := range n.Records {
					n.Records[i].Version = []ondisk.Version{14, 29, ondisk.Version1_0, ondisk.Version1_13}[i%4]
				}
			})
		}},
		{"data behind sectors_written does not count", small, func(v *build.Volume) {
			each(v, func(n *build.Node) {
				keys := n.Records[0].Keys
				n.Records = append(n.Records, build.Record{Keys: deletions(keys), JournalSeq: 9})
				n.Ptr = func(p *ondisk.BtreePtr) { p.SectorsWritten -= uint16(v.Block) }
			})
		}},
		{"blacklisted record", small, func(v *build.Volume) {
			v.SB.SetBlacklist([]ondisk.SeqRange{{Start: 9, End: 12}})
			each(v, func(n *build.Node) {
				n.Records = append(n.Records, build.Record{Keys: deletions(n.Records[0].Keys), JournalSeq: 9})
			})
		}},
		{"range_updated: keys outside of the pointer's range do not count", small, func(v *build.Volume) {
			// Two leaves with all keys; each pointer says which half is its own.
			for _, b := range []ondisk.BtreeID{ondisk.BtreeExtents, ondisk.BtreeInodes, ondisk.BtreeDirents} {
				ks := v.Keys(b)
				mid := ks[len(ks)/2].Pos
				left, right := build.Node{Btree: b, Records: []build.Record{{Keys: ks}}}, build.Node{Btree: b, Records: []build.Record{{Keys: ks}}}
				left.Ptr = func(p *ondisk.BtreePtr) { p.RangeUpdated = true }
				right.Ptr = func(p *ondisk.BtreePtr) { p.RangeUpdated, p.MinKey = true, mid.Successor() }
				l, r := v.Write(left), v.Write(right)
				l.Pos = mid
				v.Roots[b] = build.Root{Level: 1, Key: v.Write(build.Node{Btree: b, Level: 1, Records: []build.Record{{Keys: []ondisk.KV{l, r}}}})}
			}
		}},
		{"empty leaves", small, func(v *build.Volume) {
			for _, b := range []ondisk.BtreeID{ondisk.BtreeExtents, ondisk.BtreeInodes, ondisk.BtreeDirents} {
				ks := v.Keys(b)
				last := ks[len(ks)-1].Pos
				l := v.Write(build.Node{Btree: b, Max: last, Records: []build.Record{{Keys: ks}}})
				e := v.Write(build.Node{Btree: b, Min: last.Successor()})
				v.Roots[b] = build.Root{Level: 1, Key: v.Write(build.Node{Btree: b, Level: 1, Records: []build.Record{{Keys: []ondisk.KV{l, e}}}})}
			}
		}},
		{"btree of a newer version", small, func(v *build.Volume) {
			v.Add(ondisk.BtreeID(40), build.Key(60, 1, 2, 3, []byte("whatever")))
		}},
		{"key type of a newer version among dirents", small, func(v *build.Volume) {
			v.Add(ondisk.BtreeDirents, build.Key(60, ondisk.RootInode, 77, build.RootSnapshot, []byte("whatever")))
		}},
		{"reconcile entries and placeholders in node pointers", small, func(v *build.Volume) {
			each(v, func(n *build.Node) {
				n.Ptr = func(p *ondisk.BtreePtr) {
					p.Reconcile, p.ReconcileBp = ondisk.Reconcile{Need: 1, Hipri: true, DataReplicas: 2}.Word(), 9
					p.Ptrs = append([]ondisk.Ptr{{Dev: ondisk.InvalidDev}}, p.Ptrs...)
				}
			})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := build.New(c.cfg)
			want := manyFiles(v, files)
			c.build(v)
			wantFiles(t, opened(t, v), want)
		})
	}
}

// tree writes the tree of a btree with every node changed first.
func tree(v *build.Volume, b ondisk.BtreeID, change func(n *build.Node)) build.Root {
	ks, level := v.Keys(b), 0
	for {
		per := v.KeysPerLeaf
		if level > 0 {
			per = v.Fanout
		}
		var up []ondisk.KV
		low := ondisk.PosMin
		for len(ks) > 0 {
			n := build.Node{Btree: b, Level: level, Min: low, Max: ondisk.SPosMax, Records: []build.Record{{Keys: ks[:min(per, len(ks))]}}}
			if ks = ks[min(per, len(ks)):]; len(ks) > 0 {
				old := n.Records[0].Keys
				n.Max = old[len(old)-1].Pos
				low = n.Max.Successor()
			}
			change(&n)
			up = append(up, v.Write(n))
		}
		if len(up) == 1 {
			return build.Root{Key: up[0], Level: level}
		}
		ks, level = up, level+1
	}
}

// split spreads keys over records, with older versions of some in earlier
// records and keys that later records delete.
func split(keys []ondisk.KV) []build.Record {
	rs := make([]build.Record, 3)
	for i := range rs {
		rs[i].JournalSeq = uint64(i)
	}
	for i, k := range keys {
		rs[i%3].Keys = append(rs[i%3].Keys, k)
		old := ondisk.KV{Key: ondisk.Key{Pos: k.Pos}}
		switch i % 3 {
		case 1:
			old = k // an older version: the same
			rs[0].Keys = append(rs[0].Keys, old)
		case 2:
			old.Type = ondisk.KeyDeleted
			rs[1].Keys = append(rs[1].Keys, old)
		}
	}
	return slices.DeleteFunc(rs, func(r build.Record) bool { return len(r.Keys) == 0 })
}

// deletions delete all keys.
func deletions(keys []ondisk.KV) (out []ondisk.KV) {
	for _, k := range keys {
		out = append(out, build.Deleted(k.Pos))
	}
	return out
}

// freshVolume is a volume as the formatter leaves it.
func freshVolume() []block.Reader {
	v := build.New(build.Config{})
	v.SB.SetInitialized(false)
	v.SB.SetClean(false)
	return v.Devices()
}
