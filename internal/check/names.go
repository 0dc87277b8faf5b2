package check

import (
	"bytes"
	"fmt"

	"github.com/gobcachefs/gobcachefs/internal/casefold"
	"github.com/gobcachefs/gobcachefs/internal/strhash"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Names of a directory, and those of an inode's xattrs, are hash tables with
// linear probing in slots of the key space (chapter 04 section 3).

// chain is the run of slots without a hole that a view is in.
type chain struct {
	start, last uint64
	some        bool
	names       []chainName
	bytes       []byte
	// byHash finds the last name of a hash, once a run is long.
	byHash map[uint64]int
}

type chainName struct {
	hash     uint64
	kind     uint8
	from, to int // in bytes
	prev     int // the name of the same hash before, -1 none; only with byHash
}

// longRun is how many names are compared one by one.
const longRun = 16

func (h *chain) reset() {
	h.some, h.names, h.bytes, h.byHash = false, h.names[:0], h.bytes[:0], nil
}

// occupy goes on to a slot that is not a hole.
func (h *chain) occupy(slot uint64) {
	if !h.some || slot != h.last+1 {
		h.reset()
		h.start = slot
	}
	h.some, h.last = true, slot
}

// add puts a name into the last slot. It reports whether the name is found there
// by probing from its hash, and whether it was in the run before.
func (h *chain) add(hash uint64, kind uint8, name []byte) (reachable, twice bool) {
	same := func(n *chainName) bool {
		return n.hash == hash && n.kind == kind && bytes.Equal(h.bytes[n.from:n.to], name)
	}
	n := chainName{hash, kind, len(h.bytes), len(h.bytes) + len(name), -1}
	if h.byHash == nil {
		for i := range h.names {
			twice = twice || same(&h.names[i])
		}
		if len(h.names) == longRun {
			h.byHash = map[uint64]int{}
			for i := range h.names {
				h.link(&h.names[i], i)
			}
		}
	} else if i, ok := h.byHash[hash]; ok {
		// Names of one hash in one run are few, unless somebody made them so.
		for k := 0; i >= 0 && k < 1000 && !twice; k, i = k+1, h.names[i].prev {
			twice = same(&h.names[i])
		}
	}
	if h.byHash != nil {
		h.link(&n, len(h.names))
	}
	h.bytes = append(h.bytes, name...)
	h.names = append(h.names, n)
	return hash >= h.start && hash <= h.last, twice
}

func (h *chain) link(n *chainName, i int) {
	n.prev = -1
	if p, ok := h.byHash[n.hash]; ok {
		n.prev = p
	}
	h.byHash[n.hash] = i
}

// keep copies a name that must outlive its leaf.
func (w *fileWalk) keep(name []byte) []byte {
	from := len(w.names)
	w.names = append(w.names, name...)
	return w.names[from:len(w.names):len(w.names)]
}

func (w *fileWalk) dirents(u *cursor) {
	c := w.c
	w.slot, w.names = w.slot[:0], w.names[:0]
	for kv := u.peek(); kv != nil && kv.Pos.Inode == w.inum; kv = u.peek() {
		if len(w.slot) > 0 && kv.Pos.Offset != w.off {
			w.direntSlot()
		}
		w.off = kv.Pos.Offset
		k := slotKey{pos: kv.Pos, si: w.snaps.find(kv.Pos.Snapshot), typ: kv.Type}
		if w.first {
			c.checkSnap(ondisk.BtreeDirents, kv.Pos, k.si)
			w.ptrs.plain(ondisk.BtreeDirents, kv)
		}
		w.owner(ondisk.BtreeDirents, kv, k.si)
		if kv.Type == ondisk.KeyDirent {
			d, err := ondisk.DecodeDirent(*kv)
			if err != nil {
				u.take()
				continue // reported with the key
			}
			d.Name, d.CfName = w.keep(d.Name), w.keep(d.CfName)
			k.d = d
		}
		w.slot = append(w.slot, k)
		u.take()
	}
	if len(w.slot) > 0 {
		w.direntSlot()
	}
}

// direntSlot looks at the keys in one slot of a directory, from the view of each
// of its versions, and follows them to their targets.
func (w *fileWalk) direntSlot() {
	c := w.c
	for i := range w.slot {
		if k := &w.slot[i]; k.typ == ondisk.KeyDirent && k.si >= 0 && !c.snaps.nodes[k.si].dead {
			w.target(i)
		}
	}
	for i := range w.vers {
		v := &w.vers[i]
		if v.skip || !v.isDir() {
			continue
		}
		k := w.seen(v)
		if k == nil || k.typ != ondisk.KeyDirent && k.typ != ondisk.KeyHashWhiteout || w.hiddenSubvol(k, v) {
			continue
		}
		v.chain.occupy(w.off)
		if k.typ == ondisk.KeyHashWhiteout {
			continue
		}
		v.entries++
		if k.d.Type == ondisk.DTDir {
			v.subdirs++
		}
		w.direntName(k, v)
	}
	w.slot, w.names = w.slot[:0], w.names[:0]
}

// hiddenSubvol: an entry of a subvolume shows only through one other subvolume.
func (w *fileWalk) hiddenSubvol(k *slotKey, v *version) bool {
	if k.typ != ondisk.KeyDirent || k.d.Type != ondisk.DTSubvol {
		return false
	}
	s := w.c.snaps.nodes[v.si].subvol
	return s != 0 && s != k.d.ParentSubvol
}

// direntName checks that a name can be found, and only once.
func (w *fileWalk) direntName(k *slotKey, v *version) {
	c := w.c
	if c.sb.DirentsSanitized() || !strhash.Valid(v.strHash) {
		return
	}
	name := k.d.HashedName()
	h := strhash.DirentSlot(v.strHash, v.seed, v.flags&ondisk.Inode31bitDirentOffset != 0, name)
	reachable, twice := v.chain.add(h, 0, name)
	if k.told {
		return
	}
	at := leafAt(ondisk.BtreeDirents, k.pos)
	switch fold := c.casefolded(v.inode); {
	case fold != k.d.Casefold:
		c.bad("dirent_casefold_mismatch", at, fmt.Sprintf("casefolded: %v, as its directory", fold), fmt.Sprint(k.d.Casefold))
		k.told = true
	case fold:
		if f, err := casefold.Fold(nil, k.d.Name); err != nil || !bytes.Equal(f, k.d.CfName) {
			c.bad("dirent_casefold_mismatch", at, fmt.Sprintf("%q folded to %q", k.d.Name, f), fmt.Sprintf("%q", k.d.CfName))
			k.told = true
		}
	}
	switch {
	case !reachable && !k.told:
		c.bad("hash_table_key_wrong_offset", at, fmt.Sprintf("slot %d or after it without a hole in snapshot %d", h, v.snap), fmt.Sprintf("slot %d, %q", k.pos.Offset, k.d.Name))
	case twice:
		c.bad("hash_table_key_duplicate", at, "one entry of a name", fmt.Sprintf("%q again in snapshot %d", k.d.Name, v.snap))
	default:
		return
	}
	k.told = true
}

// sees reports whether the key i of the slot is what snapshot si sees there.
func (w *fileWalk) sees(si int32, i int) bool {
	if !w.c.snaps.sees(si, w.slot[i].si) {
		return false
	}
	for j := range i { // lower ids: nearer, if they are ancestors at all
		if w.c.snaps.sees(si, w.slot[j].si) {
			return false
		}
	}
	return true
}

type xattrKey struct {
	ondisk.Xattr
}

func (w *fileWalk) xattrs(u *cursor) {
	c := w.c
	w.slot, w.names = w.slot[:0], w.names[:0]
	for i := range w.vers {
		w.vers[i].chain.reset()
	}
	for kv := u.peek(); kv != nil && kv.Pos.Inode == w.inum; kv = u.peek() {
		if len(w.slot) > 0 && kv.Pos.Offset != w.off {
			w.xattrSlot()
		}
		w.off = kv.Pos.Offset
		k := slotKey{pos: kv.Pos, si: w.snaps.find(kv.Pos.Snapshot), typ: kv.Type}
		if w.first {
			c.checkSnap(ondisk.BtreeXattrs, kv.Pos, k.si)
			w.ptrs.plain(ondisk.BtreeXattrs, kv)
		}
		w.owner(ondisk.BtreeXattrs, kv, k.si)
		if kv.Type == ondisk.KeyXattr {
			x, err := ondisk.DecodeXattr(*kv)
			if err != nil {
				u.take()
				continue
			}
			if w.first && (x.Type == ondisk.XattrACLAccess || x.Type == ondisk.XattrACLDefault) {
				if _, err := ondisk.DecodeACL(x.Value); err != nil {
					c.badErr(err, leafAt(ondisk.BtreeXattrs, kv.Pos), "xattr_acl_bad")
				}
			}
			x.Name, x.Value = w.keep(x.Name), nil
			k.x = xattrKey{x}
		}
		w.slot = append(w.slot, k)
		u.take()
	}
	if len(w.slot) > 0 {
		w.xattrSlot()
	}
}

func (w *fileWalk) xattrSlot() {
	c := w.c
	for i := range w.vers {
		v := &w.vers[i]
		if v.skip {
			continue
		}
		k := w.seen(v)
		if k == nil || k.typ != ondisk.KeyXattr && k.typ != ondisk.KeyHashWhiteout {
			continue
		}
		v.chain.occupy(w.off)
		if k.typ == ondisk.KeyHashWhiteout {
			continue
		}
		v.access = v.access || k.x.Type == ondisk.XattrACLAccess
		v.def = v.def || k.x.Type == ondisk.XattrACLDefault
		if !strhash.Valid(v.strHash) {
			continue
		}
		h := strhash.Xattr(v.strHash, v.seed, k.x.Type, k.x.Name)
		reachable, twice := v.chain.add(h, k.x.Type, k.x.Name)
		if k.told {
			continue
		}
		at := leafAt(ondisk.BtreeXattrs, k.pos)
		switch {
		case !reachable:
			c.bad("hash_table_key_wrong_offset", at, fmt.Sprintf("slot %d or after it without a hole in snapshot %d", h, v.snap), fmt.Sprintf("slot %d, %q", k.pos.Offset, k.x.FullName()))
		case twice:
			c.bad("hash_table_key_duplicate", at, "one entry of a name", fmt.Sprintf("%q again in snapshot %d", k.x.FullName(), v.snap))
		default:
			continue
		}
		k.told = true
	}
	w.slot, w.names = w.slot[:0], w.names[:0]
}
