package check

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/internal/journal"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// volume is a test volume in which mistakes are planted: single keys are changed
// in the nodes that hold them, with new checksums, and nothing else.
type volume struct {
	t    testing.TB
	name string
	devs []*block.Overlay
}

func openVolume(t testing.TB, set *testvol.Set, name string) *volume {
	t.Helper()
	v := &volume{t: t, name: name}
	for _, r := range set.Load(t, name) {
		v.devs = append(v.devs, block.NewOverlay(r))
	}
	return v
}

func (v *volume) readers() []block.Reader {
	var rs []block.Reader
	for _, d := range v.devs {
		rs = append(rs, d)
	}
	return rs
}

// options are those of every check in tests.
func options() Options {
	o := Options{PerKind: -1}
	o.Members.Key = func(_ context.Context, sb *ondisk.Superblock) (*crypt.Key, error) {
		c, err := sb.Crypt()
		if err != nil {
			return nil, err
		}
		k, err := crypt.DeriveKey([]byte(testvol.Passphrase), c.KDFFlags)
		return &k, err
	}
	return o
}

// run checks the volume and gives the findings.
func (v *volume) run(change ...func(*Options)) ([]Finding, *Result) {
	v.t.Helper()
	var fs []Finding
	o := options()
	o.Found = func(f Finding) { fs = append(fs, f) }
	for _, f := range change {
		f(&o)
	}
	r, err := Run(v.t.Context(), v.readers(), o)
	if err != nil {
		v.t.Fatalf("Run(%s) = %v", v.name, err)
	}
	return fs, r
}

// tally counts findings by name; notes get a leading "note ".
func tally(fs []Finding) map[string]int {
	m := map[string]int{}
	for _, f := range fs {
		n := f.Name
		if f.Note {
			n = "note " + n
		}
		m[n]++
	}
	return m
}

// show prints a tally, sorted.
func show(m map[string]int) string {
	var s []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		s = append(s, fmt.Sprintf("%s×%d", k, m[k]))
	}
	return strings.Join(s, " ")
}

// checker opens the volume as a check does, up to the btrees' pointers.
func (v *volume) checker() *checker {
	v.t.Helper()
	c := newChecker(options())
	if err := c.open(v.t.Context(), v.readers()); err != nil {
		v.t.Fatalf("open(%s) = %v", v.name, err)
	}
	if err := c.loadTrees(v.t.Context()); err != nil {
		v.t.Fatalf("loadTrees(%s) = %v", v.name, err)
	}
	return c
}

// keys gives all keys of a btree.
func (v *volume) keys(b ondisk.BtreeID) []ondisk.KV {
	v.t.Helper()
	c := v.checker()
	var all []ondisk.KV
	if err := c.walkAll(v.t.Context(), b, func(kv *ondisk.KV) {
		all = append(all, ondisk.KV{Key: kv.Key, Val: bytes.Clone(kv.Val)})
	}); err != nil {
		v.t.Fatal(err)
	}
	return all
}

// find gives the first key of a btree that fits.
func (v *volume) find(b ondisk.BtreeID, fits func(kv ondisk.KV) bool) ondisk.KV {
	v.t.Helper()
	for _, kv := range v.keys(b) {
		if fits(kv) {
			return kv
		}
	}
	v.t.Fatalf("%s: no key of btree %v fits", v.name, b)
	return ondisk.KV{}
}

// nodeKeys reads a node's keys and header.
func (v *volume) nodeKeys(c *checker, r nodeRef) ([]ondisk.KV, ondisk.NodeHeader) {
	v.t.Helper()
	b, err := c.readBatch(v.t.Context(), []nodeRef{r})
	if err != nil {
		v.t.Fatal(err)
	}
	raw := bytes.Clone(b.copies[0][0].raw)
	n := b.next(func(*nodeRef) bool { return false })
	defer c.release(n)
	h, err := ondisk.DecodeNodeHeader(raw)
	if err != nil {
		v.t.Fatal(err)
	}
	var ks []ondisk.KV
	for _, kv := range n.keys {
		ks = append(ks, ondisk.KV{Key: kv.Key, Val: bytes.Clone(kv.Val)})
	}
	return ks, h
}

// set stores keys, replacing what is at their positions; type deleted removes.
func (v *volume) set(b ondisk.BtreeID, kvs ...ondisk.KV) {
	v.t.Helper()
	for _, kv := range kvs {
		v.setKey(b, kv)
	}
}

// del removes keys.
func (v *volume) del(b ondisk.BtreeID, kvs ...ondisk.KV) {
	v.t.Helper()
	for _, kv := range kvs {
		v.setKey(b, ondisk.KV{Key: ondisk.Key{Pos: kv.Pos}})
	}
}

func (v *volume) setKey(b ondisk.BtreeID, kv ondisk.KV) {
	v.t.Helper()
	c := v.checker()
	refs := c.leavesIn(b, kv.Pos, kv.Pos)
	if len(refs) != 1 || refs[0].fake {
		v.t.Fatalf("%s: btree %v has no node on disk for %v", v.name, b, kv.Pos)
	}
	ks, h := v.nodeKeys(c, refs[0])
	i, found := slices.BinarySearchFunc(ks, kv.Pos, func(k ondisk.KV, p ondisk.Pos) int { return k.Pos.Compare(p) })
	switch {
	case kv.Type == ondisk.KeyDeleted && !found:
		v.t.Fatalf("%s: btree %v has no key at %v", v.name, b, kv.Pos)
	case kv.Type == ondisk.KeyDeleted:
		ks = slices.Delete(ks, i, i+1)
	case found:
		ks[i] = kv
	default:
		ks = slices.Insert(ks, i, kv)
	}
	v.writeNode(c, refs[0], ks, h, nil)
}

// nodeEdit changes how a node is written.
type nodeEdit struct {
	head   func(h *ondisk.NodeHeader) // before the checksum
	keys   []ondisk.KV                // raw order, instead of the sorted keys
	filler func(e *ondisk.Bset)       // of the records behind the first
	noSum  bool
}

// writeNode writes a node in its place, in one record and as many more of a single
// key as its sectors_written asks for.
func (v *volume) writeNode(c *checker, r nodeRef, ks []ondisk.KV, h ondisk.NodeHeader, e *nodeEdit) {
	v.t.Helper()
	if e == nil {
		e = &nodeEdit{}
	}
	if e.keys != nil {
		ks = e.keys
	}
	var body []byte
	for _, kv := range ks {
		body = h.Format.AppendKV(body, kv)
	}
	block := c.blockBytes
	round := func(n int) int { return (n + block - 1) / block * block }
	size := int(r.ptr.SectorsWritten) * 512
	first := round(ondisk.NodeHeaderSize + len(body))
	if first > c.nodeBytes {
		v.t.Fatalf("%s: node of %d bytes", v.name, first)
	}
	h.Bset.U64s = uint16(len(body) / 8)
	h.Bset.Flags &= 0xffff
	if e.head != nil {
		e.head(&h)
	}
	out := append(h.Append(nil), body...)
	ct := h.Bset.CsumType()
	stamp := func(rec []byte, off int, bs ondisk.Bset) {
		sum, err := c.set.Sum(ct, crypt.BtreeNonce(uint32(off), bs.Seq, bs.JournalSeq), rec[16:])
		if err != nil && ct < ondisk.NrCsumTypes {
			v.t.Fatal(err)
		}
		if e.noSum {
			sum.Lo ^= 1
		}
		copy(rec, sum.Append(nil))
	}
	if ct.Encrypted() {
		v.t.Fatal("nodes of encrypted volumes are not written")
	}
	stamp(out, 0, h.Bset)
	out = append(out, make([]byte, first-len(out))...)
	for len(out) < size {
		fill := ondisk.KV{Key: ondisk.Key{Pos: r.max}}
		if r.max == ondisk.SPosMax {
			fill.Pos = ondisk.Pos{Inode: ^uint64(0), Offset: 1}
			if r.btree.HasSnapshotField() {
				fill.Pos.Snapshot = ^uint32(0)
			}
		}
		if k := slices.IndexFunc(ks, func(x ondisk.KV) bool { return x.Pos == fill.Pos }); k >= 0 {
			fill = ks[k]
		}
		if !r.btreeAllows(fill) {
			v.t.Fatal("no key to fill with")
		}
		b := h.Format.AppendKV(nil, fill)
		bs := h.Bset
		bs.U64s, bs.Flags = uint16(len(b)/8), uint32(ct)|uint32(len(out)/512)<<16
		if bs.JournalSeq == 0 {
			bs.JournalSeq = 1
		}
		if e.filler != nil {
			e.filler(&bs)
		}
		rec := append(ondisk.EntryHeader{Bset: bs}.Append(nil), b...)
		stamp(rec, len(out), bs)
		out = append(append(out, rec...), make([]byte, round(len(rec))-len(rec))...)
	}
	for _, p := range r.ptr.Ptrs {
		v.write(int(p.Dev), p.Offset, out)
	}
	if len(out) != size {
		v.setWritten(r, uint16(len(out)/512))
	}
}

func (r *nodeRef) btreeAllows(kv ondisk.KV) bool {
	return kv.Type == ondisk.KeyDeleted || r.level > 0 || r.btree.Allows(kv.Type)
}

func (v *volume) write(dev int, sector uint64, b []byte) {
	v.t.Helper()
	for i, d := range v.devs {
		if v.index(i) == dev {
			if _, err := d.WriteAt(b, int64(sector)*512); err != nil {
				v.t.Fatal(err)
			}
			return
		}
	}
	v.t.Fatalf("no member %d", dev)
}

// index is the member index of a device.
func (v *volume) index(i int) int {
	b := make([]byte, 4096)
	if _, err := v.devs[i].ReadAt(b, 4096); err != nil {
		v.t.Fatal(err)
	}
	return int(b[122])
}

// setWritten changes sectors_written in the pointer to a node.
func (v *volume) setWritten(r nodeRef, sectors uint16) {
	v.t.Helper()
	v.editPtr(r, func(p *ondisk.BtreePtr, _ *ondisk.KV) { p.SectorsWritten = sectors })
}

// editPtr changes the pointer to a node, in its parent or in the roots.
func (v *volume) editPtr(r nodeRef, edit func(p *ondisk.BtreePtr, kv *ondisk.KV)) {
	v.t.Helper()
	c := v.checker()
	if root := c.state.Roots[r.btree]; root.Level == int(r.level) {
		kv := root.Key
		p, err := ondisk.DecodeBtreePtr(kv)
		if err != nil {
			v.t.Fatal(err)
		}
		edit(&p, &kv)
		kv.Val = p.Append(nil)
		v.setRoot(r.btree, kv)
		return
	}
	for _, parent := range c.trees[r.btree].inner {
		if parent.level != r.level+1 || r.max.Less(parent.min()) || parent.max.Less(r.max) {
			continue
		}
		ks, h := v.nodeKeys(c, parent)
		for i := range ks {
			if ks[i].Pos == r.max {
				p, err := ondisk.DecodeBtreePtr(ks[i])
				if err != nil {
					v.t.Fatal(err)
				}
				edit(&p, &ks[i])
				ks[i].Val = p.Append(nil)
			}
		}
		v.writeNode(c, parent, ks, h, nil)
		return
	}
	v.t.Fatal("no parent")
}

// setRoot changes the root of a btree in the clean section and in the last
// journal entry.
func (v *volume) setRoot(b ondisk.BtreeID, kv ondisk.KV) {
	v.t.Helper()
	replace := func(payload []byte) []byte {
		var out []byte
		if err := ondisk.JsetEntries(payload, func(e ondisk.JsetEntry) bool {
			if e.Type == ondisk.EntryBtreeRoot && e.Btree == b {
				e.Data = kv.Append(nil)
			}
			out = e.Append(out)
			return true
		}); err != nil {
			v.t.Fatal(err)
		}
		return out
	}
	v.super(func(sb *ondisk.Superblock) {
		s, err := sb.CleanSection()
		if err != nil {
			v.t.Fatal(err)
		}
		s.Entries = replace(s.Entries)
		sb.SetCleanSection(s)
	})
	v.lastEntry(func(_ *ondisk.Jset, payload []byte) []byte { return replace(payload) })
}

// super changes every superblock copy of every member.
func (v *volume) super(edit func(sb *ondisk.Superblock)) {
	v.t.Helper()
	for i := range v.devs {
		v.superOf(i, func(_ int, sb *ondisk.Superblock) bool { edit(sb); return true })
	}
}

// superOf changes superblock copies of one device; edit reports whether the copy
// is to be written.
func (v *volume) superOf(dev int, edit func(copy int, sb *ondisk.Superblock) bool) {
	v.t.Helper()
	d := v.devs[dev]
	read := func(sector uint64) *ondisk.Superblock {
		b := make([]byte, 1<<20)
		n, _ := d.ReadAt(b, int64(sector)*512)
		sb, err := ondisk.DecodeSuperblock(b[:n])
		if err != nil {
			v.t.Fatal(err)
		}
		return sb
	}
	for i, off := range read(ondisk.SBSector).Layout.Offsets {
		sb := read(off)
		if edit(i, sb) {
			b := sb.Append(nil)
			b = append(b, make([]byte, (512-len(b)%512)%512)...)
			if _, err := d.WriteAt(b, int64(off)*512); err != nil {
				v.t.Fatal(err)
			}
		}
	}
}

// lastEntry changes the newest flush entry of the journal on all members.
func (v *volume) lastEntry(edit func(j *ondisk.Jset, payload []byte) []byte) {
	v.t.Helper()
	c := newChecker(options())
	c.mute.Store(true)
	if err := c.open(v.t.Context(), v.readers()); err != nil {
		v.t.Fatal(err)
	}
	var last *journal.Entry
	if err := journal.Scan(v.t.Context(), c.set, func(e *journal.Entry) error {
		if e.Good && !e.NoFlush() && (last == nil || e.Seq > last.Seq) {
			x := *e
			last = &x
		}
		return nil
	}); err != nil {
		v.t.Fatal(err)
	}
	if last == nil {
		return
	}
	j := last.Jset
	payload := edit(&j, bytes.Clone(last.Payload))
	j.U64s = uint32(len(payload) / 8)
	b := append(j.Append(nil), payload...)
	sum, err := c.set.Sum(j.CsumType(), crypt.JournalNonce(j.Seq), b[16:])
	if err != nil {
		v.t.Fatal(err)
	}
	copy(b, sum.Append(nil))
	b = append(b, make([]byte, (c.blockBytes-len(b)%c.blockBytes)%c.blockBytes)...)
	for _, p := range last.Places {
		v.write(p.Dev, p.Sector, b)
	}
}

// TestWriteNode: writing nodes and roots back as they are changes nothing that
// the check sees, so that what it sees after a mistake comes from that.
func TestWriteNode(t *testing.T) {
	for _, name := range []string{"plain", "snapshots", "v39repl", "geometry"} {
		v := openVolume(t, testvol.Small(t), name)
		before, _ := v.run()
		c := v.checker()
		n := 0
		for _, tr := range c.trees {
			if tr == nil {
				continue
			}
			for _, r := range slices.Concat(tr.leaves, tr.inner) {
				ks, h := v.nodeKeys(c, r)
				v.writeNode(c, r, ks, h, nil)
				n++
			}
		}
		v.super(func(*ondisk.Superblock) {})
		v.lastEntry(func(_ *ondisk.Jset, p []byte) []byte { return p })
		after, _ := v.run()
		if got, want := show(tally(after)), show(tally(before)); got != want || n < 15 {
			t.Errorf("%s: %d nodes written as they were: findings %q, want %q", name, n, got, want)
		}
	}
}
