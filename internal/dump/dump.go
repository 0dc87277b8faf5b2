// Package dump writes the metadata of a volume into qcow2 images, one for each
// member: what a bug report needs, without the data of files.
//
// An image holds the superblock copies, the journal and every btree node that
// something points to, at their places; everything else of it reads as zeros. Of
// a node only the part that was written is taken, so that what stood in its
// bucket before stays out. Chapter 08 section 6.4.
package dump

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"slices"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/btree"
	"github.com/gobcachefs/gobcachefs/internal/journal"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Sanitize says what is made unreadable.
type Sanitize uint8

// Levels of Sanitize.
const (
	SanitizeNothing Sanitize = iota
	// SanitizeData blanks what files hold: inline data, values of xattrs.
	SanitizeData
	// SanitizeNames also replaces the names of files and xattrs. The check then
	// finds that names and hashes disagree.
	SanitizeNames
)

// Options of a dump.
type Options struct {
	Sanitize Sanitize
	// NoJournal leaves out the entries that a mount does not need.
	NoJournal bool
	// SingleReplica takes one copy of each node; pointers to the others say that
	// their member is gone.
	SingleReplica bool
	// Warn is told of what could not be taken.
	Warn func(error)
}

// Stats counts what an image holds, in bytes.
type Stats struct {
	Superblock, Journal, Btree int64
	Nodes                      int
	File                       int64 // size of the image file
}

// kind says what a piece is.
type kind uint8

const (
	kindSuper kind = iota
	kindJournal
	kindNode
)

// piece is a part of a member that goes into its image.
type piece struct {
	kind kind
	at   int64 // bytes
	len  int64
	node btree.NodeRef
	ptr  ondisk.Ptr
	// The entry, when only that is taken and not its bucket.
	entry *journal.Entry
}

// Dump is what goes into the images of a volume.
type Dump struct {
	set    *members.Set
	state  *journal.State
	found  *journal.Found
	o      Options
	key    [32]byte // makes replaced names unguessable
	pieces [][]piece
}

// place is where a copy of a node stands.
type place struct {
	dev    uint8
	sector uint64
}

// Plan finds out what there is to write. It reads all interior nodes, and the
// first sectors of the others.
func Plan(ctx context.Context, set *members.Set, state *journal.State, o Options) (*Dump, error) {
	if o.Warn == nil {
		o.Warn = func(error) {}
	}
	d := &Dump{set: set, state: state, o: o, pieces: make([][]piece, len(set.Devs))}
	if _, err := rand.Read(d.key[:]); err != nil {
		return nil, err
	}
	var err error
	if d.found, err = journal.Find(ctx, set); err != nil {
		return nil, err
	}
	for i, dev := range set.Devs {
		if dev.Online() {
			d.supers(i, dev)
			d.journal(i, dev)
		}
	}
	if err := d.nodes(ctx); err != nil {
		return nil, err
	}
	for i := range d.pieces {
		slices.SortStableFunc(d.pieces[i], func(a, b piece) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.kind, b.kind)) })
	}
	return d, nil
}

// Members lists the members that are here and have an image.
func (d *Dump) Members() []int {
	var l []int
	for i, dev := range d.set.Devs {
		if dev.Online() {
			l = append(l, i)
		}
	}
	return l
}

// Bytes is how much is written for a member.
func (d *Dump) Bytes(member int) (n int64) {
	for _, p := range d.pieces[member] {
		n += p.len
	}
	return n
}

func (d *Dump) supers(i int, dev *members.Device) {
	add := func(sector uint64, n int64) {
		at := int64(sector) * 512
		if sector < 1<<54 && at+n <= dev.R.Size() {
			d.pieces[i] = append(d.pieces[i], piece{kind: kindSuper, at: at, len: n})
		}
	}
	size := (int64(dev.SB.Bytes()) + 511) / 512 * 512
	add(members.LayoutSector, 512)
	for _, off := range dev.SB.Layout.Offsets {
		add(off, size)
	}
}

func (d *Dump) journal(i int, dev *members.Device) {
	bucket := int64(dev.Member.BucketSize) * 512
	if d.o.NoJournal {
		first, last := d.state.First, d.state.Last
		if d.state.Clean {
			first, last = d.state.Seq, d.state.Seq
		}
		for _, e := range d.found.Entries {
			if e.Seq < first || e.Seq > last {
				continue
			}
			for _, p := range e.Places {
				if p.Dev == i {
					d.pieces[i] = append(d.pieces[i], piece{kind: kindJournal, at: int64(p.Sector) * 512, len: (e.Bytes() + 511) / 512 * 512, entry: e})
				}
			}
		}
		return
	}
	buckets, err := dev.SB.JournalBuckets()
	if err != nil {
		d.o.Warn(fmt.Errorf("journal of member %d left out: %w", i, err))
		return
	}
	for _, b := range buckets {
		d.pieces[i] = append(d.pieces[i], piece{kind: kindJournal, at: int64(b) * bucket, len: bucket})
	}
}

// todo is a pointer to follow.
type todo struct {
	btree ondisk.BtreeID
	level int // of the node
	kv    ondisk.KV
	live  bool // not one that was replaced since
}

// walk is the state of the search for nodes.
type walk struct {
	stack []todo
	seen  map[place]int // index of the piece of the member
}

// nodes finds all nodes: from the roots, from every pointer in the entries that
// a mount replays, and from every pointer that stands in a node that was found,
// in old records too. A pointer whose node has been overwritten leads nowhere.
func (d *Dump) nodes(ctx context.Context) error {
	w := &walk{seen: map[place]int{}}
	for b, r := range d.state.Roots {
		if !r.Lost {
			w.stack = append(w.stack, todo{b, r.Level, r.Key, true})
		}
	}
	for _, e := range d.found.Entries {
		if !e.Good || e.Seq < d.state.First || e.Seq > d.state.Last {
			continue
		}
		if err := d.found.Load(e); err != nil {
			d.o.Warn(err)
			continue
		}
		_ = ondisk.JsetEntries(e.Payload, func(it ondisk.JsetEntry) bool {
			level := int(it.Level)
			switch {
			case it.Type == ondisk.EntryBtreeRoot:
			case it.Type.HasKeys() && level > 0:
				level-- // a key of the level above
			default:
				return true
			}
			it.Keys(func(kv ondisk.KV) bool {
				kv.Val = slices.Clone(kv.Val)
				w.stack = append(w.stack, todo{it.Btree, level, kv, false})
				return true
			}, nil)
			return true
		})
		e.Payload = nil
	}
	// In a fixed order, so that a dump can be repeated; what is live is reported.
	slices.SortStableFunc(w.stack, func(a, b todo) int { return cmp.Compare(a.btree, b.btree) })
	for len(w.stack) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		t := w.stack[len(w.stack)-1]
		w.stack = w.stack[:len(w.stack)-1]
		p, err := ondisk.DecodeBtreePtr(t.kv)
		if err != nil || t.level < 0 || t.level > ondisk.MaxLevel {
			continue
		}
		d.node(w, t, btree.NodeRef{Btree: t.btree, Level: t.level, Min: p.MinKey, Max: t.kv.Pos, Ptr: p, Key: t.kv})
	}
	return nil
}

// copies are the pointers of a node that are wanted.
func (d *Dump) copies(p *ondisk.BtreePtr) []ondisk.Ptr {
	var l []ondisk.Ptr
	for _, q := range p.Ptrs {
		if q.Dev != ondisk.InvalidDev && d.set.Online(q.Dev) {
			l = append(l, q)
		}
	}
	if d.o.SingleReplica && len(l) > 1 {
		return []ondisk.Ptr{slices.MinFunc(l, func(a, b ondisk.Ptr) int { return cmp.Compare(a.Dev, b.Dev) })}
	}
	return l
}

// node takes the copies of a node and puts what it points to on the stack.
func (d *Dump) node(w *walk, t todo, ref btree.NodeRef) {
	written := int64(ref.Ptr.SectorsWritten) * 512
	// Take all records of the node: an older pointer to it counts fewer.
	ref.Ptr.SectorsWritten = 0
	followed := false
	for _, q := range d.copies(&ref.Ptr) {
		at := place{q.Dev, q.Offset}
		if i, ok := w.seen[at]; ok {
			if p := &d.pieces[q.Dev][i]; p.node.Ptr.Seq == ref.Ptr.Seq {
				p.len = max(p.len, min(written, int64(d.set.SB.NodeSectors())*512))
			}
			continue
		}
		raw, err := btree.ReadRaw(d.set, d.state.Blacklist, ref, q)
		if len(raw.Records) == 0 {
			// Nothing of this node there: an old pointer, or damage of its header.
			if t.live {
				d.o.Warn(fmt.Errorf("node left out: %w", err))
			}
			continue
		}
		if err != nil {
			d.o.Warn(fmt.Errorf("node is damaged: %w", err))
		}
		for i := range raw.Records {
			if raw.Records[i].Err != nil {
				d.o.Warn(fmt.Errorf("node is damaged: %w", raw.Records[i].Err))
			}
		}
		end := max(int64(raw.Records[len(raw.Records)-1].Next), min(written, int64(len(raw.Buf))))
		w.seen[at] = len(d.pieces[q.Dev])
		d.pieces[q.Dev] = append(d.pieces[q.Dev], piece{kind: kindNode, at: int64(q.Offset) * 512, len: end, node: ref, ptr: q})
		if ref.Level > 0 && !followed && err == nil {
			followed = true
			d.children(w, t, ref, raw)
		}
	}
}

// children puts the pointers of a node on the stack, those of old records too.
func (d *Dump) children(w *walk, t todo, ref btree.NodeRef, raw *btree.RawNode) {
	newest := map[ondisk.Pos]int{}
	for i := range raw.Records {
		_ = raw.Keys(&raw.Records[i], func(kv ondisk.KV, _, _ int, _ bool) bool {
			if old, ok := newest[kv.Pos]; ok && !raw.Records[i].Ignored {
				w.stack[old].live = false
				delete(newest, kv.Pos)
			}
			if kv.Type == ondisk.KeyDeleted {
				return true
			}
			live := t.live && !raw.Records[i].Ignored && len(d.state.Overlay.Range(ref.Btree, ref.Level, kv.Pos, kv.Pos)) == 0
			kv.Val = slices.Clone(kv.Val)
			if !raw.Records[i].Ignored {
				newest[kv.Pos] = len(w.stack)
			}
			w.stack = append(w.stack, todo{ref.Btree, ref.Level - 1, kv, live})
			return true
		})
	}
}

// Write writes the image of a member. progress, if not nil, is told of bytes as
// they are done.
func (d *Dump) Write(ctx context.Context, member int, w io.WriterAt, progress func(int64)) (Stats, error) {
	dev := d.set.Devs[member]
	if !dev.Online() {
		return Stats{}, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrMissingDevice, Reason: fmt.Sprintf("member %d is not here", member)}
	}
	var st Stats
	img := newImage(w, dev.R.Size())
	cluster, at := make([]byte, clusterSize), int64(-1)
	flush := func() error {
		if at < 0 {
			return nil
		}
		err := img.cluster(at, cluster)
		clear(cluster)
		return err
	}
	end := int64(0) // what lies before is written
	for _, p := range d.pieces[member] {
		if err := ctx.Err(); err != nil {
			return st, err
		}
		b, err := d.content(member, &p)
		if err != nil {
			d.o.Warn(err)
		}
		switch p.kind {
		case kindSuper:
			st.Superblock += int64(len(b))
		case kindJournal:
			st.Journal += int64(len(b))
		case kindNode:
			st.Btree += int64(len(b))
			st.Nodes++
		}
		from := p.at
		if from < end { // nothing overlaps on a healthy volume
			b = b[min(int64(len(b)), end-from):]
			from = end
		}
		for len(b) > 0 {
			if n := from / clusterSize; n != at {
				if err := flush(); err != nil {
					return st, err
				}
				at = n
			}
			n := copy(cluster[from%clusterSize:], b)
			from, b = from+int64(n), b[n:]
			end = from
		}
		if progress != nil {
			progress(p.len)
		}
	}
	if err := flush(); err != nil {
		return st, err
	}
	var err error
	st.File, err = img.finish()
	return st, err
}

// content gives the bytes of a piece, with what the options ask for done to them.
// What cannot be read or must not be shown is left out or zero, with an error.
func (d *Dump) content(member int, p *piece) ([]byte, error) {
	var bad error
	if p.kind == kindNode && (d.o.Sanitize != SanitizeNothing || d.o.SingleReplica && p.node.Level > 0) {
		b, err := d.nodeContent(p)
		if err == nil || d.o.Sanitize != SanitizeNothing {
			return b, err
		}
		bad = err // take it as it stands
	}
	b := make([]byte, p.len)
	if err := d.set.ReadSectors(uint8(member), uint64(p.at)/512, b); err != nil {
		return nil, err
	}
	switch p.kind {
	case kindSuper:
		return d.superContent(b)
	case kindJournal:
		return d.journalContent(b)
	}
	return b, bad
}
