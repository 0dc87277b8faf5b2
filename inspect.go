package bcachefs

import (
	"context"
	"iter"
	"path"
	"path/filepath"
	"strings"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/btree"
	"github.com/gobcachefs/gobcachefs/internal/engine"
	"github.com/gobcachefs/gobcachefs/internal/explain"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Inspector shows the structures below the files: keys, btree nodes, the
// journal, space counters. It reads what is there and goes on behind damage. Safe
// for concurrent use.
type Inspector struct {
	e *engine.Engine
}

// Inspect gives the structures of an opened volume.
func (v *Volume) Inspect() *Inspector { return &Inspector{v.e} }

// OpenInspector opens a volume without its file layer, and so also one whose
// snapshots or root directory are damaged, or that was never initialized. The
// devices stay the caller's to close. Errors are those of Open.
func OpenInspector(ctx context.Context, devices []block.Reader, o Options) (*Inspector, error) {
	eo := o.engine()
	eo.NoFiles = true
	e, err := engine.Open(ctx, devices, eo)
	if err != nil {
		return nil, err
	}
	return &Inspector{e}, nil
}

// Superblock is the newest superblock of the volume. It must not be changed.
func (i *Inspector) Superblock() *ondisk.Superblock { return i.e.Set.SB }

// Clean reports whether the volume was shut down properly. If not, the journal's
// keys are part of what Keys and Nodes show.
func (i *Inspector) Clean() bool { return i.e.State.Clean }

// Members is the number of members that are here.
func (i *Inspector) Members() (n int) {
	for _, d := range i.e.Set.Devs {
		if d.Online() {
			n++
		}
	}
	return n
}

// Btrees lists the btrees that have a root, or keys in the journal.
func (i *Inspector) Btrees() []ondisk.BtreeID { return i.e.Trees.Btrees() }

// Keys walks the keys of a btree at a level (0 for the leaves) from one position
// to another, both included, in full order: all snapshots, whiteouts too. Ranges
// that cannot be read come as errors, and the walk goes on behind them. Values
// may be kept.
func (i *Inspector) Keys(ctx context.Context, b ondisk.BtreeID, level int, from, to ondisk.Pos) iter.Seq2[ondisk.KV, error] {
	return func(yield func(ondisk.KV, error) bool) {
		c := i.e.Trees.LevelCursor(ctx, b, level, from, to)
		c.ReadAhead()
		for {
			kv, ok := c.Next()
			if ok {
				if !yield(kv, nil) {
					return
				}
				continue
			}
			if c.Err() == nil || !yield(ondisk.KV{}, c.Err()) || ctx.Err() != nil || !c.SkipDamage() {
				return
			}
		}
	}
}

// NodeRef is a btree node as the pointer to it describes it. The range is that
// of the pointer. A btree without root has one leaf whose Ptr has no copies.
type NodeRef struct {
	Btree    ondisk.BtreeID
	Level    int
	Min, Max ondisk.Pos
	Ptr      ondisk.BtreePtr
	Key      ondisk.KV // the pointer as it is stored; of type deleted without one
}

// Nodes walks the nodes of a btree that hold a part of [from, to], from a level
// up, each after its children. A node that cannot be read comes with an error.
func (i *Inspector) Nodes(ctx context.Context, b ondisk.BtreeID, level int, from, to ondisk.Pos) iter.Seq2[NodeRef, error] {
	return func(yield func(NodeRef, error) bool) {
		err := i.e.Trees.Walk(ctx, b, level, from, to, func(r btree.NodeRef, _ *btree.Node, err error) bool {
			return yield(NodeRef(r), err)
		})
		if err != nil {
			yield(NodeRef{Btree: b}, err)
		}
	}
}

// NodeRecord is a record (bset) of a node as it stands on disk.
type NodeRecord struct {
	Sector  int // in the node
	Sectors int
	Bset    ondisk.Bset
	Ignored bool        // its journal sequence number is blacklisted
	Err     error       // what is wrong with it
	Keys    []ondisk.KV // as stored, not merged
}

// NodeStats says how full a node is, records merged, the journal left out.
type NodeStats struct {
	Bytes, Capacity  int // of keys
	Packed, Unpacked int // keys
	// Cachelines are the groups of 256 bytes that the reference searches by their
	// first keys, UnpackedLines those of them that begin with an unpacked key.
	Cachelines, UnpackedLines int
}

// raw reads the first copy of a node that can be read.
func (i *Inspector) raw(n NodeRef) (*btree.RawNode, error) {
	err := error(&errs.Error{Where: btree.NodeRef(n).Where(), Kind: errs.ErrMissingDevice, Reason: "btree_node_read_error: no member with a copy", Cause: errs.ErrIO})
	for _, p := range n.Ptr.Ptrs {
		if p.Dev == ondisk.InvalidDev || !i.e.Set.Online(p.Dev) {
			continue
		}
		var r *btree.RawNode
		if r, err = i.e.Trees.ReadRaw(btree.NodeRef(n), p); err == nil {
			return r, nil
		}
	}
	return nil, err
}

// NodeRecords reads the records of a node.
func (i *Inspector) NodeRecords(n NodeRef) ([]NodeRecord, error) {
	r, err := i.raw(n)
	if err != nil {
		return nil, err
	}
	var out []NodeRecord
	for k := range r.Records {
		raw := &r.Records[k]
		rec := NodeRecord{Sector: raw.Off / 512, Sectors: (raw.Next - raw.Off) / 512, Bset: raw.Bset, Ignored: raw.Ignored, Err: raw.Err}
		if err := r.Keys(raw, func(kv ondisk.KV, _, _ int, _ bool) bool { rec.Keys = append(rec.Keys, kv); return true }); err != nil && rec.Err == nil {
			rec.Err = errs.At(err, btree.NodeRef(n).Where())
		}
		out = append(out, rec)
	}
	return out, nil
}

// NodeStats reads a node and gives its key format and how full it is.
func (i *Inspector) NodeStats(n NodeRef) (ondisk.BkeyFormat, NodeStats, error) {
	if len(n.Ptr.Ptrs) == 0 {
		return ondisk.BkeyFormat{KeyU64s: 3, NrFields: 6, Bits: [6]uint8{64, 64, 32}}, NodeStats{Capacity: i.e.Set.SB.NodeSectors()*512 - ondisk.NodeHeaderSize}, nil
	}
	r, err := i.raw(n)
	if err != nil {
		return ondisk.BkeyFormat{}, NodeStats{}, err
	}
	return r.Header.Format, NodeStats(r.Stats()), nil
}

// Style says whose text is printed.
type Style = explain.Style

// Styles of text.
const (
	Style1_39 = explain.Style1_39 // of tools 1.39
	Style1_13 = explain.Style1_13 // of tools 1.13
)

// StyleOf is the style of the release that goes with a volume's version.
func StyleOf(sb *ondisk.Superblock) Style { return explain.StyleOf(sb) }

// Printer turns keys into text and JSON. Safe for concurrent use.
type Printer struct {
	env *explain.Env
}

// Printer makes a Printer for the keys of the volume. escape writes bytes of
// names that are no printable ASCII as \xNN; the reference prints them as they
// are.
func (i *Inspector) Printer(style Style, escape bool) *Printer {
	env := explain.NewEnv(i.e.Set.SB, style)
	env.Escape = escape
	env.DevNames = deviceNames(i.e.Set)
	env.Stale = func(p ondisk.Ptr) bool {
		current, known := i.e.Gens.Current(p.Dev, p.Offset, p.Gen)
		return known && !current
	}
	return &Printer{env}
}

// deviceNames are what the members are called in pointers.
func deviceNames(set *members.Set) []string {
	names := make([]string, len(set.Devs))
	for k, d := range set.Devs {
		if d.Online() {
			names[k] = baseName(d.R.Info().Name)
		}
	}
	return names
}

// baseName is the last part of a file name or URL.
func baseName(name string) string {
	if strings.Contains(name, "://") {
		name, _, _ = strings.Cut(name, "?")
		return path.Base(name)
	}
	return filepath.Base(name)
}

// Key appends the text of a key, as `list` prints it, without a line break at
// its end.
func (p *Printer) Key(b []byte, bt ondisk.BtreeID, level int, kv ondisk.KV) []byte {
	return explain.Key(b, p.env, bt, level, kv)
}

// Value appends the text of the value of a key alone.
func (p *Printer) Value(b []byte, bt ondisk.BtreeID, level int, kv ondisk.KV) []byte {
	return explain.Value(b, p.env, bt, level, kv)
}

// KeyJSON gives a key as a document for encoding/json.
func (p *Printer) KeyJSON(bt ondisk.BtreeID, level int, kv ondisk.KV) any {
	return explain.KeyJSON(p.env, bt, level, kv)
}
