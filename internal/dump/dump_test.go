package dump

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/internal/btree"
	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/internal/journal"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// volume is an opened volume.
type volume struct {
	set   *members.Set
	state *journal.State
	trees *btree.Trees
	warn  []string
}

func open(t *testing.T, devs []block.Reader) *volume {
	t.Helper()
	v := &volume{}
	o := members.Options{Degraded: members.DegradedVery, Warn: func(err error) { v.warn = append(v.warn, err.Error()) },
		Key: func(_ context.Context, sb *ondisk.Superblock) (*crypt.Key, error) {
			c, err := sb.Crypt()
			if err != nil {
				return nil, err
			}
			k, err := crypt.DeriveKey([]byte(testvol.Passphrase), c.KDFFlags)
			return &k, err
		}}
	ctx := context.Background()
	var err error
	if v.set, err = members.Open(ctx, devs, o); err != nil {
		t.Fatal(err)
	}
	if v.state, err = journal.Load(ctx, v.set); err != nil {
		t.Fatal(err)
	}
	v.trees = btree.New(v.set, v.state, btree.Config{CacheBytes: 16 << 20, Warn: o.Warn})
	return v
}

// keys calls fn with all keys of all btrees and levels.
func (v *volume) keys(t *testing.T, fn func(b ondisk.BtreeID, level int, kv ondisk.KV)) {
	t.Helper()
	for _, b := range v.trees.Btrees() {
		root, err := v.trees.Root(context.Background(), b)
		if err != nil {
			t.Fatal(err)
		}
		for level := 0; level <= root.Level; level++ {
			c := v.trees.LevelCursor(context.Background(), b, level, ondisk.PosMin, ondisk.SPosMax)
			for kv, ok := c.Next(); ok; kv, ok = c.Next() {
				fn(b, level, kv)
			}
			if err := c.Err(); err != nil {
				t.Fatalf("btree %s level %d: %v", b, level, err)
			}
		}
	}
}

// write dumps a volume into files and returns their paths by member.
func write(t *testing.T, v *volume, o Options) (paths map[int]string, stats map[int]Stats) {
	t.Helper()
	if o.Warn == nil {
		o.Warn = func(err error) { t.Errorf("dump warns: %v", err) }
	}
	d, err := Plan(context.Background(), v.set, v.state, o)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	paths, stats = map[int]string{}, map[int]Stats{}
	for _, m := range d.Members() {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%d.qcow2", m)))
		if err != nil {
			t.Fatal(err)
		}
		var done int64
		st, err := d.Write(context.Background(), m, f, func(n int64) { done += n })
		if err != nil {
			t.Fatal(err)
		}
		if done != d.Bytes(m) {
			t.Errorf("progress of member %d: %d bytes, want %d", m, done, d.Bytes(m))
		}
		if fi, err := f.Stat(); err != nil || fi.Size() != st.File {
			t.Errorf("file of member %d: %v, %v, want %d bytes", m, fi.Size(), err, st.File)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		paths[m], stats[m] = f.Name(), st
	}
	return paths, stats
}

// openAll opens dumps as devices.
func openAll(t *testing.T, paths map[int]string) (rs []block.Reader) {
	t.Helper()
	for m := range 256 {
		if p, ok := paths[m]; ok {
			r, err := block.Open(context.Background(), p, block.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { r.Close() })
			rs = append(rs, r)
		}
	}
	return rs
}

// disk is what a dump maps, read without the help of package block: byte offset of
// a cluster to its bytes.
type disk struct {
	size     int64
	clusters map[int64][]byte
}

// readImage reads an image of the layout that is written, and checks that every
// cluster of the file is used once and counted once.
func readImage(t *testing.T, path string) disk {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	be := binary.BigEndian
	if string(b[:4]) != "QFI\xfb" || be.Uint32(b[4:]) != 2 || be.Uint64(b[8:]) != 0 || be.Uint32(b[20:]) != 16 || be.Uint32(b[32:]) != 0 || be.Uint32(b[60:]) != 0 {
		t.Fatalf("header % x", b[:72])
	}
	if len(b)%65536 != 0 {
		t.Fatalf("file of %d bytes, want whole clusters", len(b))
	}
	used := make([]int, len(b)/65536)
	use := func(at uint64, n int) []byte {
		if at%65536 != 0 || at == 0 || at+uint64(n) > uint64(len(b)) {
			t.Fatalf("table or cluster at byte %d of %d", at, len(b))
		}
		for c := int(at / 65536); c*65536 < int(at)+n; c++ {
			used[c]++
		}
		return b[at : at+uint64(n)]
	}
	used[0]++
	d := disk{size: int64(be.Uint64(b[24:])), clusters: map[int64][]byte{}}
	n := int(be.Uint32(b[36:]))
	if want := int((d.size + 65536*8192 - 1) / (65536 * 8192)); n != want {
		t.Errorf("%d L1 entries, want %d", n, want)
	}
	entry := func(e uint64) uint64 {
		if e != 0 && e>>63 != 1 {
			t.Errorf("entry %x without COPIED", e)
		}
		return e &^ (1 << 63)
	}
	l1 := use(be.Uint64(b[40:]), 8*n)
	for i := range n {
		at := entry(be.Uint64(l1[8*i:]))
		if at == 0 {
			continue
		}
		l2 := use(at, 65536)
		for k := range 8192 {
			if at := entry(be.Uint64(l2[8*k:])); at != 0 {
				c := use(at, 65536)
				if bytes.Count(c, []byte{0}) == len(c) {
					t.Errorf("a cluster of zeros at byte %d of the file", at)
				}
				d.clusters[int64(i*8192+k)*65536] = c
			}
		}
	}
	clusters := int(be.Uint32(b[56:]))
	table := use(be.Uint64(b[48:]), clusters*65536)
	counts := []uint16{}
	for i := 0; i < len(table); i += 8 {
		if at := be.Uint64(table[i:]); at != 0 {
			for c := use(at, 65536); len(c) > 0; c = c[2:] {
				counts = append(counts, be.Uint16(c))
			}
		}
	}
	for i, n := range counts {
		want := 0
		if i < len(used) {
			if want = used[i]; want != 1 {
				t.Errorf("cluster %d of the file is used %d times", i, want)
			}
		}
		if int(n) != want {
			t.Errorf("cluster %d of the file: reference count %d, want %d", i, n, want)
		}
	}
	if len(counts) < len(used) {
		t.Errorf("%d reference counts for %d clusters", len(counts), len(used))
	}
	return d
}

// zero reports whether a range of the disk reads as zeros.
func (d disk) zero(at, n int64) bool {
	for n > 0 {
		in := at % 65536
		k := min(n, 65536-in)
		if c := d.clusters[at-in]; c != nil && bytes.Count(c[in:in+k], []byte{0}) != int(k) {
			return false
		}
		at, n = at+k, n-k
	}
	return true
}

// TestDump: the image holds what the members have, and nothing of the data of
// files; the volume in it has the same keys.
func TestDump(t *testing.T) {
	for _, name := range []string{"plain", "crash", "crash2dev", "replicas2", "nocsum", "geometry", "enczstdwide", "snapshots", "v39ec", "v39crash", "v39image"} {
		t.Run(name, func(t *testing.T) {
			devs := testvol.Load(t, name)
			v := open(t, devs)
			paths, stats := write(t, v, Options{})
			if len(paths) != len(devs) {
				t.Fatalf("%d images of %d members", len(paths), len(devs))
			}
			disks := map[int]disk{}
			for m, p := range paths {
				d := readImage(t, p)
				disks[m] = d
				r := v.set.Devs[m].R
				if d.size != r.Size() {
					t.Errorf("size of member %d: %d, want %d", m, d.size, r.Size())
				}
				buf := make([]byte, 65536)
				for at, c := range d.clusters {
					n, _ := r.ReadAt(buf[:min(65536, d.size-at)], at)
					for i := range c {
						if c[i] != 0 && (i >= n || c[i] != buf[i]) {
							t.Fatalf("member %d: byte %d is %#x, the device has another", m, at+int64(i), c[i])
						}
					}
				}
				if st := stats[m]; st.Superblock == 0 || (st.Journal == 0) != (name == "v39image") {
					t.Errorf("member %d: %+v", m, st)
				}
			}
			data := 0
			v.keys(t, func(b ondisk.BtreeID, level int, kv ondisk.KV) {
				if level > 0 || kv.Type != ondisk.KeyExtent && kv.Type != ondisk.KeyReflinkV {
					return
				}
				val := kv.Val
				if kv.Type == ondisk.KeyReflinkV {
					_, val, _ = ondisk.DecodeReflinkV(val)
				}
				x, err := ondisk.DecodeExtent(val, kv.Size, v.set.ExtentTypes)
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range x.Ptrs {
					data++
					if d, ok := disks[int(p.Dev)]; ok && !d.zero(int64(p.Offset)*512, int64(p.Crc.CompressedSize)*512) {
						t.Errorf("data at sector %d of member %d is in the dump", p.Offset, p.Dev)
					}
				}
			})
			if data == 0 {
				t.Error("no data to leave out")
			}
			equal(t, v, open(t, openAll(t, paths)), nil)
		})
	}
}

// equal compares all keys of two volumes; edit, if not nil, says what is expected
// of a key.
func equal(t *testing.T, want, got *volume, edit func(b ondisk.BtreeID, kv ondisk.KV) ondisk.KV) {
	t.Helper()
	type key struct {
		b     ondisk.BtreeID
		level int
		kv    ondisk.KV
	}
	var l []key
	want.keys(t, func(b ondisk.BtreeID, level int, kv ondisk.KV) {
		if edit != nil {
			kv = edit(b, kv)
		}
		l = append(l, key{b, level, kv})
	})
	i, bad := 0, 0
	got.keys(t, func(b ondisk.BtreeID, level int, kv ondisk.KV) {
		if i < len(l) && (l[i].b != b || l[i].level != level || l[i].kv.Key != kv.Key || !bytes.Equal(l[i].kv.Val, kv.Val)) {
			if bad++; bad < 4 {
				t.Errorf("key %d: %s level %d %v %x, want %s level %d %v %x", i, b, level, kv.Key, kv.Val, l[i].b, l[i].level, l[i].kv.Key, l[i].kv.Val)
			}
		}
		i++
	})
	if i != len(l) || i == 0 {
		t.Errorf("%d keys, want %d", i, len(l))
	}
}

// names are the names of files of a volume that nothing else contains.
func names(t *testing.T, name string) (l []string) {
	t.Helper()
	for _, e := range testvol.Manifest(t, name) {
		base := e.Path[strings.LastIndexByte(e.Path, '/')+1:]
		if len(base) >= 6 && !strings.Contains(base, `\`) && strings.Trim(base, base[:1]) != "" {
			l = append(l, base)
		}
	}
	return l
}

func TestSanitize(t *testing.T) {
	for _, tt := range []struct {
		name string
		san  Sanitize
	}{{"plain", SanitizeData}, {"plain", SanitizeNames}, {"crash", SanitizeNames}, {"enczstdwide", SanitizeNames}, {"v39casefold", SanitizeNames}, {"replicas2", SanitizeData}} {
		t.Run(fmt.Sprintf("%s %d", tt.name, tt.san), func(t *testing.T) {
			v := open(t, testvol.Load(t, tt.name))
			paths, _ := write(t, v, Options{Sanitize: tt.san})
			var raw []byte
			for _, p := range paths {
				readImage(t, p)
				b, err := os.ReadFile(p)
				if err != nil {
					t.Fatal(err)
				}
				raw = append(raw, b...)
			}
			found := ""
			l := names(t, tt.name)
			for i, n := range l {
				if i%(len(l)/100+1) == 0 && bytes.Contains(raw, []byte(n)) {
					found = n
				}
			}
			if len(l) < 5 {
				t.Fatalf("%d names", len(l))
			}
			if hidden := tt.san == SanitizeNames || tt.name == "enczstdwide"; (found == "") != hidden {
				t.Errorf("name %q found in the dump, want some: %v", found, !hidden)
			}
			w := open(t, openAll(t, paths))
			renamed := map[string]string{}
			var old, clean []ondisk.KV
			v.keys(t, func(_ ondisk.BtreeID, level int, kv ondisk.KV) { old = append(old, kv) })
			w.keys(t, func(_ ondisk.BtreeID, level int, kv ondisk.KV) { clean = append(clean, kv) })
			if len(old) != len(clean) {
				t.Fatalf("%d keys, want %d", len(clean), len(old))
			}
			inline := 0
			for i, kv := range clean {
				o := old[i]
				if kv.Key != o.Key || len(kv.Val) != len(o.Val) {
					t.Fatalf("key %v, want %v", kv.Key, o.Key)
				}
				switch kv.Type {
				case ondisk.KeyInlineData:
					inline++
					if bytes.Count(kv.Val, []byte{0}) != len(kv.Val) {
						t.Errorf("inline data of %v: % x", kv.Pos, kv.Val)
					}
				case ondisk.KeyDirent:
					a, err := ondisk.DecodeDirent(o)
					b, err2 := ondisk.DecodeDirent(kv)
					if err != nil || err2 != nil || a.Inum != b.Inum || a.Type != b.Type || len(a.Name) != len(b.Name) || len(a.CfName) != len(b.CfName) {
						t.Fatalf("dirent %v: %+v, want the form of %+v", kv.Pos, b, a)
					}
					if same := bytes.Equal(a.Name, b.Name); same != (tt.san == SanitizeData) && len(a.Name) > 3 {
						t.Errorf("dirent %v: name %q became %q", kv.Pos, a.Name, b.Name)
					}
					if was, ok := renamed[string(a.Name)]; ok && was != string(b.Name) {
						t.Errorf("name %q became %q and %q", a.Name, was, b.Name)
					}
					renamed[string(a.Name)] = string(b.Name)
				case ondisk.KeyXattr:
					x, err := ondisk.DecodeXattr(kv)
					if err != nil {
						t.Fatal(err)
					}
					if acl := x.Type == ondisk.XattrACLAccess || x.Type == ondisk.XattrACLDefault; !acl && bytes.Count(x.Value, []byte{0}) != len(x.Value) {
						t.Errorf("xattr %v: value % x", kv.Pos, x.Value)
					}
				default:
					if !bytes.Equal(kv.Val, o.Val) {
						t.Errorf("%s %v changed", kv.Type, kv.Pos)
					}
				}
			}
			if inline == 0 {
				t.Error("no inline data")
			}
			if len(w.warn) != len(v.warn) {
				t.Errorf("the dump warns of %q", w.warn)
			}
			checkJournal(t, w, tt.san)
		})
	}
}

// checkJournal: all entries are good, and their keys as clean as those of nodes.
func checkJournal(t *testing.T, v *volume, san Sanitize) {
	t.Helper()
	n := 0
	err := journal.Scan(context.Background(), v.set, func(e *journal.Entry) error {
		if !e.Good {
			t.Errorf("entry %d has a bad checksum", e.Seq)
		}
		return ondisk.JsetEntries(e.Payload, func(it ondisk.JsetEntry) bool {
			if it.Type.HasKeys() {
				it.Keys(func(kv ondisk.KV) bool {
					n++
					if kv.Type == ondisk.KeyInlineData && bytes.Count(kv.Val, []byte{0}) != len(kv.Val) {
						t.Errorf("entry %d: inline data % x", e.Seq, kv.Val)
					}
					return true
				}, func(err error) { t.Errorf("entry %d: %v", e.Seq, err) })
			}
			return true
		})
	})
	if err != nil || n == 0 {
		t.Errorf("journal: %d keys, %v", n, err)
	}
}

func TestNoJournal(t *testing.T) {
	for _, name := range []string{"plain", "crash"} {
		v := open(t, testvol.Load(t, name))
		full, fs := write(t, v, Options{})
		paths, st := write(t, v, Options{NoJournal: true})
		if st[0].Journal == 0 || st[0].Journal >= fs[0].Journal || len(full) != len(paths) {
			t.Errorf("%s: journal of %d bytes, want more than none and less than %d", name, st[0].Journal, fs[0].Journal)
		}
		equal(t, v, open(t, openAll(t, paths)), nil)
	}
}

func TestSingleReplica(t *testing.T) {
	for _, san := range []Sanitize{SanitizeNothing, SanitizeData} {
		v := open(t, testvol.Load(t, "replicas2"))
		_, both := write(t, v, Options{Sanitize: san})
		paths, st := write(t, v, Options{SingleReplica: true, Sanitize: san})
		if both[1].Nodes == 0 || st[1].Nodes != 0 || st[0].Nodes != both[0].Nodes {
			t.Errorf("nodes of the members: %d and %d, with all copies %d and %d", st[0].Nodes, st[1].Nodes, both[0].Nodes, both[1].Nodes)
		}
		delete(paths, 1)
		w := open(t, openAll(t, paths))
		ptrs := 0
		check := func(kv ondisk.KV) {
			if kv.Type != ondisk.KeyBtreePtrV2 {
				return
			}
			p, err := ondisk.DecodeBtreePtr(kv)
			if err != nil {
				t.Fatal(err)
			}
			var devs []uint8
			for _, q := range p.Ptrs {
				devs = append(devs, q.Dev)
			}
			if ptrs++; !slices.Equal(devs, []uint8{0, ondisk.InvalidDev}) {
				t.Errorf("pointer %v to members %d, want 0 and none", kv.Pos, devs)
			}
		}
		w.keys(t, func(_ ondisk.BtreeID, level int, kv ondisk.KV) { check(kv) })
		for _, r := range w.state.Roots {
			check(r.Key)
		}
		if ptrs < 10 {
			t.Errorf("%d pointers", ptrs)
		}
	}
}

// TestDamage: what cannot be taken is said; a bad node is taken as it is, or left
// out when something is to be hidden.
func TestDamage(t *testing.T) {
	v := open(t, testvol.Load(t, "plain"))
	var leaf btree.NodeRef
	err := v.trees.Walk(context.Background(), ondisk.BtreeDirents, 0, ondisk.PosMin, ondisk.SPosMax, func(r btree.NodeRef, _ *btree.Node, err error) bool {
		leaf = r
		return err == nil
	})
	if err != nil || len(leaf.Ptr.Ptrs) != 1 {
		t.Fatalf("leaf %+v, %v", leaf, err)
	}
	at := int64(leaf.Ptr.Ptrs[0].Offset) * 512
	over := block.NewOverlay(v.set.Devs[0].R)
	if _, err := over.WriteAt([]byte("XXXXXXXX"), at+4096+60); err != nil {
		t.Fatal(err)
	}
	for _, san := range []Sanitize{SanitizeNothing, SanitizeNames} {
		bad := open(t, []block.Reader{over})
		var warn []string
		paths, _ := write(t, bad, Options{Sanitize: san, Warn: func(err error) { warn = append(warn, err.Error()) }})
		if !slices.ContainsFunc(warn, func(s string) bool { return strings.Contains(s, "bset_bad_csum") && strings.Contains(s, "dirents") }) {
			t.Errorf("warnings %q, want the checksum of a node of dirents", warn)
		}
		d := readImage(t, paths[0])
		has := false
		for _, c := range d.clusters {
			has = has || bytes.Contains(c, []byte("XXXXXXXX"))
		}
		if has != (san == SanitizeNothing) {
			t.Errorf("sanitize %d: damaged record in the dump: %v", san, has)
		}
	}
}

// TestLargeImage: tables of more than one cluster.
func TestLargeImage(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "large.qcow2"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const span = 65536 * 8192
	m := newImage(f, 9000*span+12345)
	want := map[int64]byte{}
	buf := make([]byte, 65536)
	for i := range int64(300) {
		n := i * 30 * 8192 // a new second-level table for each
		buf[i] = byte(i%200 + 1)
		if err := m.cluster(n, buf); err != nil {
			t.Fatal(err)
		}
		want[n*65536+i] = byte(i%200 + 1)
		clear(buf)
	}
	if _, err := m.finish(); err != nil {
		t.Fatal(err)
	}
	d := readImage(t, f.Name())
	r, err := block.Open(context.Background(), f.Name(), block.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if len(d.clusters) != 300 || r.Size() != d.size || r.Size() != 9000*span+12345 {
		t.Errorf("%d clusters, size %d and %d", len(d.clusters), d.size, r.Size())
	}
	for at, c := range want {
		b := make([]byte, 1)
		if _, err := r.ReadAt(b, at); err != nil || b[0] != c {
			t.Errorf("byte %d = %d, %v, want %d", at, b[0], err, c)
		}
	}
}
