package bcachefs_test

import (
	"context"
	"encoding/binary"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/internal/raidpq"
	"github.com/gobcachefs/gobcachefs/internal/testvol/build"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// variety adds one of each kind of file to a volume.
func variety(v *build.Volume, e build.Enc) {
	v.Base()
	a := text(40*512, 3)
	v.File("plain", inum, ondisk.Inode{Size: 40 * 512}, v.Extent(inum, 0, a[:20*512], e), v.Extent(inum, 24, a[24*512:], build.Enc{}))
	z := e
	z.Compression = ondisk.CompressionZstd
	v.File("zstd", inum+1, ondisk.Inode{Size: 40 * 512}, v.Extent(inum+1, 0, a, z))
	v.File("inline", inum+2, ondisk.Inode{Size: 6}, build.ExtentKey(ondisk.KeyInlineData, inum+2, 8, 8, ondisk.Bversion{}, build.Pad8([]byte("inline"))))
	v.Add(ondisk.BtreeReflink, build.ExtentKey(ondisk.KeyReflinkV, 0, 20, 20, e.Version, ondisk.AppendReflinkV(nil, 2, v.Blob(a[:20*512], e))))
	v.File("shared", inum+3, ondisk.Inode{Size: 20 * 512}, build.ExtentKey(ondisk.KeyReflinkP, inum+3, 20, 20, ondisk.Bversion{}, ondisk.ReflinkP{}.Append(nil)))
	v.File("link", inum+4, ondisk.Inode{Mode: ondisk.ModeSymlink | 0o777, Size: 5}, build.ExtentKey(ondisk.KeyInlineData, inum+4, 8, 8, ondisk.Bversion{}, build.Pad8([]byte("plain"))))
	v.Inode(inum+5, ondisk.Inode{Mode: ondisk.ModeDir | 0o755, Dir: ondisk.RootInode})
	v.Dirent(ondisk.RootInode, "dir", inum+5, ondisk.DTDir)
	v.Dirent(inum+5, "other name", inum, ondisk.DTRegular)
	v.File("fifo", inum+6, ondisk.Inode{Mode: ondisk.ModeFifo | 0o600})
	v.Xattr(inum, "mime", []byte("text/plain"))
	v.Xattr(inum+5, "color", []byte("red"))
}

// fuzzBases are the volumes that FuzzOpen changes.
var fuzzBases = sync.OnceValue(func() (out []*build.Volume) {
	// Clean, trees of several levels.
	v := build.New(build.Config{KeysPerLeaf: 4, Fanout: 5})
	variety(v, build.Enc{Csum: ondisk.CsumCRC32C})
	out = append(out, v)

	// The machine lost power: some keys are in the journal only.
	v = build.New(build.Config{KeysPerLeaf: 4, Fanout: 5})
	variety(v, build.Enc{Csum: ondisk.CsumXXHash})
	v.Trees()
	v.Unclean()
	v.SB.SetBlacklist([]ondisk.SeqRange{{Start: 3, End: 5}})
	acc := build.Key(ondisk.KeyAccounting, 1, 0, 0, ondisk.AppendCookie(nil, 5))
	acc.Version.Lo = 9
	v.PutJset(0, 1, 0,
		build.Jset{Seq: 2, LastSeq: 2, Entries: append(v.Tail(), build.Keys(ondisk.BtreeDirents, 0, v.DirentKey(ondisk.RootInode, "new", ondisk.Dirent{Type: ondisk.DTRegular, Inum: inum})))},
		build.Jset{Seq: 5, LastSeq: 2, NoFlush: true, Entries: append(v.Tail(), build.Keys(ondisk.BtreeExtents, 0, build.Deleted(ondisk.Pos{Inode: inum, Offset: 20, Snapshot: build.RootSnapshot})), build.Keys(ondisk.BtreeAccounting, 0, acc, acc))},
		build.Jset{Seq: 6, LastSeq: 2, Entries: append(v.Tail(), build.Keys(ondisk.BtreeXattrs, 1, v.Roots[ondisk.BtreeXattrs].Key))})
	out = append(out, v)

	// Encrypted, 1.39, two copies of everything.
	v = build.New(build.Config{Key: &crypt.Key{1}, Version: ondisk.Version1_39, Members: 2, KeysPerLeaf: 6, Fanout: 5})
	variety(v, build.Enc{Csum: ondisk.CsumPoly1305_80, Devs: []uint8{0, 1}, Version: ondisk.Bversion{Lo: 3}})
	out = append(out, v)

	// A stripe without its first block.
	v = build.New(build.Config{Version: ondisk.Version1_39, Members: 4})
	variety(v, build.Enc{Csum: ondisk.CsumCRC32C})
	blocks := [][]byte{text(64*512, 1), text(64*512, 2), nil}
	if err := raidpq.Encode(blocks, 2); err != nil {
		panic(err)
	}
	st := ondisk.Stripe{Sectors: 64, NrBlocks: 3, NrRedundant: 1, Live: make([]uint16, 3)}
	for i, b := range blocks {
		st.Ptrs = append(st.Ptrs, v.Store(b, uint8(1+i))[0])
	}
	v.Add(ondisk.BtreeStripes, build.Key(ondisk.KeyStripe, 0, 1, 0, st.Append(nil)))
	lost := st.Ptrs[0]
	lost.Dev = ondisk.InvalidDev
	v.File("striped", inum+9, ondisk.Inode{Size: 64 * 512}, build.ExtentKey(ondisk.KeyExtent, inum+9, 64, 64, ondisk.Bversion{}, lost.Append(ondisk.StripePtr{Index: 1, Redundancy: 1}.Append(nil))))
	out = append(out, v)

	// Subvolumes and snapshots.
	v = build.New(build.Config{KeysPerLeaf: 4, Fanout: 5})
	variety(v, build.Enc{Csum: ondisk.CsumCRC32C})
	leaf := func(id, parent, subvol uint32) ondisk.KV {
		return build.Key(ondisk.KeySnapshot, 0, uint64(id), 0, ondisk.Snapshot{Flags: ondisk.SnapshotSubvol, Parent: parent, Subvol: subvol, Tree: 1}.Append(nil))
	}
	const top = build.RootSnapshot
	v.Add(ondisk.BtreeSnapshots, build.Key(ondisk.KeySnapshot, 0, top, 0, ondisk.Snapshot{Children: [2]uint32{top - 1, top - 2}, Tree: 1}.Append(nil)), leaf(top-1, top, 1), leaf(top-2, top, 2))
	v.Add(ondisk.BtreeSubvolumes, build.Key(ondisk.KeySubvolume, 0, 1, 0, ondisk.Subvolume{Snapshot: top - 1, Inode: ondisk.RootInode}.Append(nil)),
		build.Key(ondisk.KeySubvolume, 0, 2, 0, ondisk.Subvolume{Snapshot: top - 2, Inode: ondisk.RootInode, CreationParent: 1, FSPathParent: 1}.Append(nil)))
	d := v.DirentKey(ondisk.RootInode, "snap", ondisk.Dirent{Type: ondisk.DTSubvol, ChildSubvol: 2, ParentSubvol: 1})
	d.Pos.Snapshot = top - 1
	white := build.Key(ondisk.KeyWhiteout, inum, 20, top-2, nil)
	v.Add(ondisk.BtreeDirents, d)
	v.Add(ondisk.BtreeExtents, white)
	out = append(out, v)

	for _, v := range out {
		v.Devices()
	}
	return out
})

// mutate lays the changes that b describes over a volume, checksums made right.
// A change is: piece, operation, two bytes of offset, value.
func mutate(v *build.Volume, b []byte) []block.Reader {
	var devs []block.Reader
	var over []*block.Overlay
	for _, d := range v.Dev {
		o := block.NewOverlay(d)
		over, devs = append(over, o), append(devs, o)
	}
	changed := map[int][]byte{}
	for n := 0; len(b) >= 6 && n < 64; n++ {
		i := int(binary.LittleEndian.Uint16(b)) % len(v.Pieces)
		op, off, val := b[2], int(binary.LittleEndian.Uint16(b[3:])), b[5]
		b = b[6:]
		p := changed[i]
		if p == nil {
			p = append([]byte(nil), v.Pieces[i].Plain...)
			changed[i] = p
		}
		off %= len(p)
		switch op % 6 {
		case 0:
			p[off] = val
		case 1:
			p[off] ^= 1 << (val % 8)
		case 2: // a whole word
			var w [8]byte
			k := copy(w[:], b)
			b = b[k:]
			copy(p[off&^7:], w[:])
		case 3:
			clear(p[off:min(len(p), off+8*int(val))])
		case 4: // a part of itself, somewhere else
			copy(p[off:], p[int(val)*8%len(p):][:min(64, len(p)-int(val)*8%len(p))])
		case 5: // a part of another piece
			q := v.Pieces[int(val)%len(v.Pieces)].Plain
			copy(p[off:], q[min(len(q), off):])
		}
	}
	for i, p := range changed {
		v.Pieces[i].Put(over[v.Pieces[i].Dev], p)
	}
	return devs
}

// exercise looks at everything in a volume, within limits.
func exercise(ctx context.Context, v *bcachefs.Volume) {
	_, _ = v.Statfs(ctx)
	f := v.Files()
	budget := 400
	var visit func(id bcachefs.NodeID, depth int)
	visit = func(id bcachefs.NodeID, depth int) {
		if budget--; budget < 0 || ctx.Err() != nil {
			return
		}
		a, err := f.Getattr(ctx, id)
		if err != nil {
			return
		}
		_, _ = f.Parent(ctx, id)
		names, _ := f.ListXattr(ctx, id)
		for _, n := range names {
			_, _ = f.GetXattr(ctx, id, n)
		}
		_, _ = f.Xattrs(ctx, id)
		_ = f.Suspect(id)
		if a.IsSymlink() {
			_, _ = f.Readlink(ctx, id)
		}
		if h, err := f.Open(ctx, id); err == nil {
			buf := make([]byte, 64<<10)
			for _, off := range []int64{0, 5000, int64(a.Size) - 100, 1 << 40} {
				if off >= 0 {
					if _, err := h.ReadAt(ctx, buf, off); err != nil {
						_ = h.SkipBad(ctx, off, err)
					}
				}
			}
			n := 0
			_ = h.Extents(ctx, 0, func(bcachefs.Extent) bool { n++; return n < 1000 })
			_, _ = h.SeekData(ctx, 0)
			_, _ = h.SeekHole(ctx, 0)
			_, _, _ = h.Map(ctx)
		}
		if a.IsDir() {
			var es []bcachefs.Entry
			_ = f.ReadDir(ctx, id, 0, func(e bcachefs.Entry) bool { es = append(es, e); return len(es) < 200 })
			for _, e := range es {
				_, _ = f.Lookup(ctx, id, e.Name)
				if depth < 6 {
					visit(e.ID, depth+1)
				}
			}
		}
	}
	visit(f.Root(), 0)
	for i, s := range v.Subvolumes() {
		if i < 20 {
			visit(s.Root, 0)
		}
	}
	_, _ = f.Path(ctx, bcachefs.NodeID{Subvol: 1, Inode: inum})
}

// inspect looks at what is below the files, within limits.
func inspect(ctx context.Context, i *bcachefs.Inspector) {
	_, _ = i.Usage(ctx)
	p := i.Printer(bcachefs.StyleOf(i.Superblock()), true)
	var buf []byte
	for _, b := range i.Btrees() {
		for level := range 3 {
			n := 0
			for kv, err := range i.Keys(ctx, b, level, ondisk.PosMin, ondisk.SPosMax) {
				if n++; n > 200 {
					break
				}
				if err == nil {
					buf = p.Key(buf[:0], b, level, kv)
					_ = p.KeyJSON(b, level, kv)
				}
			}
		}
		n := 0
		for r, err := range i.Nodes(ctx, b, 0, ondisk.PosMin, ondisk.SPosMax) {
			if n++; n > 30 {
				break
			}
			if err == nil {
				_, _ = i.NodeRecords(r)
				_, _, _ = i.NodeStats(r)
			}
		}
	}
	for e, err := range i.Journal(ctx, bcachefs.JournalOptions{Range: bcachefs.JournalAll, Blacklisted: true}) {
		if err == nil {
			j := p.JournalPrinter(time.UTC)
			buf = j.Head(buf[:0], e)
			for _, it := range e.Items {
				buf = j.Item(buf[:0], it, true)
			}
			_ = j.JSON(e)
		}
	}
	_, _ = i.Dump(ctx, bcachefs.DumpOptions{Warn: func(error) {}, Sanitize: bcachefs.DumpNoNames}, func(int) (bcachefs.DumpFile, error) { return nowhere{}, nil })
}

// nowhere takes a dump.
type nowhere struct{}

func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (nowhere) Close() error                           { return nil }

// FuzzOpen opens a whole small volume with parts of it changed, checksums made
// right, and looks at everything. It must come to an end soon, without a panic,
// and take memory in proportion to the volume.
func FuzzOpen(f *testing.F) {
	f.Add([]byte{0, 0})
	for i := range byte(5) {
		f.Add([]byte{i, 0, 1, 0, 2, 40, 0, 0, 255, 255, 255, 255, 255, 255, 255, 127})
		f.Add([]byte{i, 1, 9, 0, 0, 24, 0, 7, 3, 0, 5, 160, 0, 2})
		f.Add([]byte{i, 5, 9, 0, 0, 24, 0, 7, 3, 0, 5, 160, 0, 2})
		f.Add([]byte{i, 2, 20, 0, 1, 170, 0, 3, 21, 0, 3, 150, 0, 1, 22, 0, 4, 160, 0, 24})
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 2 {
			return
		}
		bases := fuzzBases()
		v := bases[int(b[0])%len(bases)]
		devs := mutate(v, b[2:])
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		var warned int
		var mu sync.Mutex
		o := bcachefs.Options{Degraded: bcachefs.DegradedVery, Salvage: b[1]&1 != 0, NoSplitBrainCheck: b[1]&2 != 0, CacheBytes: 1 << 20, Warn: func(error) { mu.Lock(); warned++; mu.Unlock() }}
		if b[1]&4 == 0 {
			if vol, err := bcachefs.Open(ctx, devs, o); err == nil {
				exercise(ctx, vol)
			}
		} else if i, err := bcachefs.OpenInspector(ctx, devs, o); err == nil {
			inspect(ctx, i)
		}
		runtime.ReadMemStats(&after)
		if d := time.Since(start); d > 20*time.Second || ctx.Err() != nil {
			t.Errorf("took %v", d)
		}
		if m := after.Sys - before.Sys; after.Sys > before.Sys && m > 512<<20 {
			t.Errorf("memory grew by %d MiB", m>>20)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 2<<30 {
			t.Errorf("%d MiB allocated", n>>20)
		}
		if warned > 100_000 {
			t.Errorf("%d warnings", warned)
		}
	})
}
