package explain

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

func itoa(v uint64) string { return strconv.FormatUint(v, 10) }

// w collects text. Values that do not decode are printed as far as they do, and
// then what is wrong with them.
type w struct {
	*Env
	b []byte
}

func (w *w) s(s string)                { w.b = append(w.b, s...) }
func (w *w) f(format string, a ...any) { w.b = fmt.Appendf(w.b, format, a...) }

// text prints bytes of the volume that are text.
func (w *w) text(p []byte) {
	if i := bytes.IndexByte(p, 0); i >= 0 {
		p = p[:i] // as a C string
	}
	if !w.Escape {
		w.b = append(w.b, p...)
		return
	}
	for _, c := range p {
		if c < ' ' || c > '~' || c == '\\' {
			w.f("\\x%02x", c)
		} else {
			w.b = append(w.b, c)
		}
	}
}

// bad says that the value is broken; nothing is said of a nil error.
func (w *w) bad(err error) {
	if err != nil {
		w.f(" (invalid: %v)", err)
	}
}

// Key appends the line of a key to b, in most cases without a line break at its
// end: alloc keys, and inodes in style 1.39, end with an empty line. level is 0
// for leaf keys.
func Key(b []byte, env *Env, bt ondisk.BtreeID, level int, kv ondisk.KV) []byte {
	w := w{env, b}
	w.header(kv)
	if len(kv.Val) == 0 {
		return w.b
	}
	if env.old() {
		w.s(": ")
	} else {
		w.s("  : ")
	}
	w.value(bt, level, kv)
	return w.b
}

// Value appends the text of the value alone.
func Value(b []byte, env *Env, bt ondisk.BtreeID, level int, kv ondisk.KV) []byte {
	w := w{env, b}
	w.value(bt, level, kv)
	return w.b
}

// header prints what all keys have.
func (w *w) header(kv ondisk.KV) {
	w.f("u64s %d type %s %s len %d ver %d", kv.U64s(), kv.Type, kv.Pos, kv.Size, kv.Version.Lo)
}

func (w *w) value(bt ondisk.BtreeID, level int, kv ondisk.KV) {
	switch kv.Type {
	case ondisk.KeyBtreePtr, ondisk.KeyBtreePtrV2:
		w.btreePtr(kv)
	case ondisk.KeyExtent:
		w.entries(kv.Val, kv.Size)
	case ondisk.KeyReservation:
		r, err := ondisk.DecodeReservation(kv.Val)
		w.f("generation %d replicas %d", r.Generation, r.NrReplicas)
		w.bad(err)
	case ondisk.KeyReflinkP:
		w.reflinkP(kv)
	case ondisk.KeyReflinkV:
		n, entries, err := ondisk.DecodeReflinkV(kv.Val)
		w.f("refcount: %d ", n)
		if err == nil {
			w.entries(entries, kv.Size)
		}
		w.bad(err)
	case ondisk.KeyInlineData:
		w.inline(kv.Val)
	case ondisk.KeyIndirectInlineData:
		n, data, err := ondisk.DecodeReflinkV(kv.Val)
		w.f("refcount %d ", n)
		w.inline(data)
		w.bad(err)
	case ondisk.KeyInode, ondisk.KeyInodeV2, ondisk.KeyInodeV3:
		w.inode(kv)
	case ondisk.KeyInodeGeneration:
		g, err := ondisk.DecodeInodeGeneration(kv.Val)
		w.f("generation: %d", g)
		w.bad(err)
	case ondisk.KeyDirent:
		w.dirent(kv)
	case ondisk.KeyXattr:
		w.xattr(kv)
	case ondisk.KeyAlloc, ondisk.KeyAllocV2, ondisk.KeyAllocV3, ondisk.KeyAllocV4:
		w.alloc(kv)
	case ondisk.KeyBucketGens:
		w.bucketGens(kv)
	case ondisk.KeyBackpointer:
		w.backpointer(bt, kv)
	case ondisk.KeyStripe:
		w.stripe(kv)
	case ondisk.KeyAccounting:
		w.accounting(kv)
	case ondisk.KeyQuota:
		w.quota(kv)
	case ondisk.KeySubvolume:
		w.subvolume(kv)
	case ondisk.KeySnapshot:
		w.snapshot(kv)
	case ondisk.KeySnapshotTree:
		t, err := ondisk.DecodeSnapshotTree(kv.Val)
		w.f("subvol %d root snapshot %d", t.MasterSubvol, t.RootSnapshot)
		w.bad(err)
	case ondisk.KeyLoggedOpTruncate:
		o, err := ondisk.DecodeLoggedOpTruncate(kv.Val)
		w.f("subvol=%d inum=%d new_i_size=%d", o.Subvol, o.Inum, o.NewSize)
		w.bad(err)
	case ondisk.KeyLoggedOpFinsert:
		o, err := ondisk.DecodeLoggedOpFinsert(kv.Val)
		w.f("subvol=%d inum=%d dst_offset=%d src_offset=%d", o.Subvol, o.Inum, int64(o.DstOffset), o.SrcOffset)
		w.bad(err)
	case ondisk.KeyLoggedOpStripe:
		o, err := ondisk.DecodeLoggedOpStripe(kv.Val)
		w.f("old_idx=%d new_idx=%d old_blocks_nr=%d", o.OldIdx, o.NewIdx, o.OldBlocksNr)
		w.bad(err)
	case ondisk.KeyInodeAllocCursor:
		w.inodeCursor(kv)
	case ondisk.KeyCookie:
		n, err := ondisk.DecodeCookie(kv.Val)
		w.f("%d", n)
		w.bad(err)
	case ondisk.KeyLRU:
		n, err := ondisk.DecodeCookie(kv.Val)
		w.f("idx %d", n)
		w.bad(err)
	case ondisk.KeyError:
		w.s(ondisk.DecodeErrorKey(kv.Val).String())
	case ondisk.KeyDamage:
		w.damage(kv)
	default:
		w.s(hex.EncodeToString(kv.Val))
	}
}

// inline prints the first bytes of data that is the value.
func (w *w) inline(data []byte) {
	w.f("datalen %d: %x", len(data), data[:min(len(data), 32)])
}
