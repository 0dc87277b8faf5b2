package explain

import (
	"encoding/binary"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func le64(b []byte) int64 { return int64(binary.LittleEndian.Uint64(b)) }

// devOf is the member that a position of alloc and backpointers is about.
func devOf(p ondisk.Pos) uint32 { return uint32(min(p.Inode, ondisk.InvalidDev)) }

func (w *w) alloc(kv ondisk.KV) {
	a, err := ondisk.DecodeAlloc(kv)
	var frag uint64
	if m := w.member(devOf(kv.Pos)); m != nil {
		frag = a.FragmentationIndex(uint32(m.BucketSize))
	}
	w.f("\n  gen %d oldest_gen %d data_type %s", a.Gen, a.OldestGen, a.DataType)
	line := func(name string, v uint64) {
		if w.old() {
			w.f("\n  %-17s %d", name, v)
		} else {
			w.f("\n  %-20s %d", name, v)
		}
	}
	if w.old() {
		line("journal_seq", a.JournalSeq)
	} else {
		line("journal_seq_nonempty", a.JournalSeq)
		line("journal_seq_empty", a.JournalSeqEmpty)
	}
	line("need_discard", uint64(btoi(a.NeedDiscard)))
	line("need_inc_gen", uint64(btoi(a.NeedIncGen)))
	line("dirty_sectors", uint64(a.DirtySectors))
	line("stripe_sectors", uint64(a.StripeSectors))
	line("cached_sectors", uint64(a.CachedSectors))
	if w.old() {
		line("stripe", uint64(a.Stripe))
		line("stripe_redundancy", uint64(a.StripeRedundancy))
	} else {
		line("stripe_refcount", uint64(a.Stripe))
	}
	line("io_time[READ]", a.IOTime[ondisk.IORead])
	line("io_time[WRITE]", a.IOTime[ondisk.IOWrite])
	// Older forms are shown as what they become when they are rewritten.
	w.f("\n  fragmentation     %d\n  bp_start          %d\n", frag, max(a.BackpointersStart, 8))
	w.bad(err)
}

func (w *w) bucketGens(kv ondisk.KV) {
	g, err := ondisk.DecodeBucketGens(kv.Val)
	if err != nil {
		w.bad(err)
		return
	}
	for i, n := range g {
		if i > 0 {
			w.s(" ")
		}
		w.s(itoa(uint64(n)))
	}
}

func (w *w) backpointer(bt ondisk.BtreeID, kv ondisk.KV) {
	p, err := ondisk.DecodeBackpointer(kv.Val, w.version())
	shift := w.bpShift()
	sector := ondisk.BackpointerSector(kv.Pos, shift)
	if m := w.member(devOf(kv.Pos)); bt == ondisk.BtreeBackpointers && m != nil {
		size := uint64(m.BucketSize)
		if w.old() {
			w.f("bucket=%d:%d:0 ", kv.Pos.Inode, sector/size)
		} else {
			w.f("bucket=%d:%d:%d ", kv.Pos.Inode, sector/size, sector%size)
		}
	}
	if w.old() {
		w.f("btree=%s l=%d offset=%d:%d len=%d pos=%s", w.btree(uint32(p.Btree)), p.Level, p.BucketOffset>>10, p.BucketOffset&1023, p.BucketLen, p.Pos)
	} else {
		w.f("btree=%s level=%d data_type=%s suboffset=%d len=%d gen=%d pos=%s", w.btree(uint32(p.Btree)), p.Level, p.DataType,
			kv.Pos.Offset&(1<<shift-1), p.BucketLen, p.BucketGen, p.Pos)
		if p.Flags&ondisk.BackpointerReconcilePhys != 0 {
			w.s(" phys")
		}
		if p.Flags&ondisk.BackpointerStripePtr != 0 {
			w.s(" stripe_ptr")
		}
	}
	w.bad(err)
}

var reconcileWorkNames = [...]string{"replicas", "checksum", "erasure_code", "compression", "target", "high_priority", "pending", "stripes"}

func reconcileWork(k uint8) string {
	if int(k) < len(reconcileWorkNames) {
		return reconcileWorkNames[k]
	}
	return itoa(uint64(k))
}

// ReconcileWorkName names a kind of reconcile work.
func ReconcileWorkName(k uint8) string { return reconcileWork(k) }

func (w *w) accounting(kv ondisk.KV) {
	a, err := ondisk.DecodeAccountingPos(kv.Pos, ondisk.AccountingFormOf(w.version()))
	w.accountingPos(&a)
	for v := kv.Val; len(v) >= 8; v = v[8:] {
		w.f(" %d", le64(v))
	}
	w.bad(err)
}

// accountingPos prints what is counted.
func (w *w) accountingPos(a *ondisk.AccountingPos) {
	if a.Type >= ondisk.NrAccountingTypes {
		w.f("unknown type %d", a.Type)
		return
	}
	w.f("%s ", a.Type)
	switch a.Type {
	case ondisk.AccPersistentReserved:
		w.f("replicas=%d", a.NrReplicas)
	case ondisk.AccReplicas:
		w.f("%s: %d/%d %d", a.DataType, a.NrRequired, a.NrDevs, a.Devs())
	case ondisk.AccDevDataType:
		w.f("dev=%d data_type=%s", a.Dev, a.DataType)
	case ondisk.AccCompression:
		w.s(a.Compression.String())
	case ondisk.AccSnapshot:
		w.f("id=%d", a.Snapshot)
		if !w.old() {
			w.f(" btree=%s", w.btree(a.Btree))
		}
	case ondisk.AccBtree:
		w.f("btree=%s", w.btree(a.Btree))
	case ondisk.AccReconcileWork:
		w.s(reconcileWork(a.Kind))
	case ondisk.AccDevLeaving:
		w.f("dev=%d", a.Dev)
	}
}

// btree names a btree; one got another name in 1.33.
func (w *w) btree(id uint32) string {
	switch {
	case w.old() && id == uint32(ondisk.BtreeReconcileWork):
		return "rebalance_work"
	case id < ondisk.NrBtrees:
		return ondisk.BtreeID(id).String()
	}
	return "(unknown)"
}

func (w *w) damage(kv ondisk.KV) {
	d, err := ondisk.DecodeDamage(kv.Val)
	for i, e := range d {
		if i > 0 {
			w.s(", ")
		}
		w.f("%s %d first %d last %d", e.ID, e.Count, e.First, e.Last)
	}
	w.bad(err)
}
