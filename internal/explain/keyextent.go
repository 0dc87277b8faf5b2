package explain

import (
	"encoding/binary"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// compressionOpt prints a compression option as stored: type and level.
func compressionOpt(v uint8) string {
	names := [...]string{"none", "lz4", "gzip", "zstd"}
	t, level := v&15, v>>4
	s := "(invalid compression " + itoa(uint64(t)) + ")"
	if int(t) < len(names) {
		s = names[t]
	}
	if level != 0 {
		s += ":" + itoa(uint64(level))
	}
	return s
}

// checksumOpt prints a checksum option.
func checksumOpt(v uint8) string {
	names := [...]string{"none", "crc32c", "crc64", "xxhash"}
	if int(v) < len(names) {
		return names[v]
	}
	return "(invalid checksum " + itoa(uint64(v)) + ")"
}

// entries prints the entries of an extent, a reflink_v or a node pointer. Style
// 1.39 puts each on a line of its own.
func (w *w) entries(val []byte, size uint32) {
	w.f("durability: %d", w.extentDurability(val))
	if !w.old() {
		w.s(" ")
	}
	err := ondisk.ExtentEntries(val, w.sizes, func(e ondisk.ExtentEntry) bool {
		if w.old() {
			w.s(" ")
		} else {
			w.s("\n  ")
		}
		w.entry(e)
		return true
	})
	w.bad(err)
}

func (w *w) entry(e ondisk.ExtentEntry) {
	switch e.Type {
	case ondisk.XEPtr:
		w.s("ptr: ")
		w.ptr(e.Ptr)
	case ondisk.XECrc32, ondisk.XECrc64, ondisk.XECrc128:
		if c := e.Crc; w.old() {
			w.s("crc: ")
		} else {
			w.f("crc%d: ", c.Kind)
		}
		c := e.Crc
		w.f("c_size %d size %d offset %d nonce %d csum %s %x:%x  compress %s",
			c.CompressedSize, c.UncompressedSize, c.Offset, c.Nonce, c.CsumType, c.Csum.Hi, c.Csum.Lo, c.Compression)
	case ondisk.XEStripePtr:
		if w.old() {
			w.f("ec: idx %d block %d", e.Stripe.Index, e.Stripe.Block)
		} else {
			w.f("stripe_ptr: idx %d block %d", e.Stripe.Index, e.Stripe.Block)
		}
	case ondisk.XERebalance:
		r := ondisk.DecodeRebalance(e.Raw[0])
		w.f("rebalance: target %s compression %s", w.target(r.BackgroundTarget), compressionOpt(r.BackgroundCompression))
	case ondisk.XEFlags:
		w.s("flags:")
		if f := e.Raw[0] >> 7; f&1 != 0 {
			w.s(" poisoned")
		}
	case ondisk.XEReconcile:
		w.reconcile(ondisk.DecodeReconcile(e.Raw[0]))
	case ondisk.XEReconcileBp:
		w.f("reconcile_bp: idx %d", e.Raw[0]>>9)
	default:
		w.f("(unknown extent entry %d)", e.Type)
	}
}

// ptr prints where a pointer leads: member, bucket and sector in it.
func (w *w) ptr(p ondisk.Ptr) {
	m := w.member(uint32(p.Dev))
	switch {
	case p.Dev == ondisk.InvalidDev || m == nil:
		w.f("%d:%d gen %d", p.Dev, p.Offset, p.Gen)
	default:
		if int(p.Dev) < len(w.DevNames) && w.DevNames[p.Dev] != "" && !w.old() {
			w.f("%s ", w.DevNames[p.Dev])
		}
		size := uint64(m.BucketSize)
		w.f("%d:%d:%d gen %d", p.Dev, p.Offset/size, p.Offset%size, p.Gen)
	}
	if p.Cached {
		w.s(" cached")
	}
	if p.Unwritten {
		w.s(" unwritten")
	}
	switch {
	case m == nil:
	case p.Offset/uint64(m.BucketSize) >= m.NBuckets || p.Offset/uint64(m.BucketSize) < uint64(m.FirstBucket):
		w.s(" invalid")
	case w.Stale != nil && w.Stale(p):
		w.s(" stale")
	}
}

var reconcileNames = [...]string{"data_replicas", "data_checksum", "erasure_code", "background_compression", "background_target", "promote_target"}

func (w *w) bits(v uint64, names []string) {
	first := true
	for i, n := range names {
		if v>>i&1 != 0 {
			if !first {
				w.s(",")
			}
			w.s(n)
			first = false
		}
	}
}

func (w *w) reconcile(r ondisk.Reconcile) {
	w.s("reconcile:")
	if r.Need != 0 {
		w.s(" need_rb=")
		w.bits(uint64(r.Need), reconcileNames[:5])
	}
	if r.Hipri {
		w.s(" hipri")
	}
	if r.Pending {
		w.s(" pending")
	}
	if r.PtrsMoving != 0 {
		w.f(" ptrs_moving=%05b", r.PtrsMoving)
	}
	w.f(" replicas=%d checksum=%s", r.DataReplicas, checksumOpt(r.DataChecksum))
	if r.ErasureCode {
		w.s(" ec=1")
	}
	if r.BackgroundCompression != 0 {
		w.f(" compression=%s", compressionOpt(r.BackgroundCompression))
	}
	if r.BackgroundTarget != 0 {
		w.f(" background_target=%s", w.target(r.BackgroundTarget))
	}
	if r.PromoteTarget != 0 {
		w.f(" promote_target=%s", w.target(r.PromoteTarget))
	}
}

// extentDurability sums what the copies that are no caches count for. A copy in
// a stripe counts for what parity replaces, too.
func (w *w) extentDurability(val []byte) int {
	sum, redundancy := 0, 0
	_ = ondisk.ExtentEntries(val, w.sizes, func(e ondisk.ExtentEntry) bool {
		switch e.Type {
		case ondisk.XEStripePtr:
			redundancy = int(e.Stripe.Redundancy)
		case ondisk.XEPtr:
			if d := w.durability(e.Ptr.Dev); !e.Ptr.Cached && d > 0 {
				sum += d + redundancy
			}
			redundancy = 0
		}
		return true
	})
	return sum
}

func (w *w) btreePtr(kv ondisk.KV) {
	p, err := ondisk.DecodeBtreePtr(kv)
	val := kv.Val
	if kv.Type == ondisk.KeyBtreePtrV2 {
		w.f("seq %x written %d min_key ", p.Seq, p.SectorsWritten)
		if p.RangeUpdated {
			w.s("R ")
		}
		w.f("%s ", p.MinKey)
		val = val[min(len(val), 40):]
	}
	w.entries(val, 0)
	w.bad(err)
}

func (w *w) reflinkP(kv ondisk.KV) {
	p, err := ondisk.DecodeReflinkP(kv.Val)
	if w.old() && err == nil {
		p.Idx = binary.LittleEndian.Uint64(kv.Val) // flags were not known
	}
	w.f("idx %d front_pad %d back_pad %d", p.Idx, p.FrontPad, p.BackPad)
	if !w.old() {
		if p.Error {
			w.s(" error")
		}
		if p.MayUpdateOptions {
			w.s(" may_update_options")
		}
	}
	w.bad(err)
}

func (w *w) stripe(kv ondisk.KV) {
	s, err := ondisk.DecodeStripe(kv.Val)
	if err != nil {
		w.bad(err)
		return
	}
	gran := uint64(1) << s.CsumGranularityBits
	if w.old() {
		w.f("algo %d sectors %d blocks %d:%d csum %s gran %d", s.Algorithm, s.Sectors, s.NrData(), s.NrRedundant, s.CsumType, gran)
		for i, p := range s.Ptrs {
			w.s(" ptr: ")
			w.ptr(p)
			if i < s.NrData() {
				w.f("#%d", s.Live[i])
			}
		}
		return
	}
	label := w.label(s.DiskLabel)
	w.f("algo %d sectors %d blocks %d:%d csum %s gran %d label=%s ", s.Algorithm, s.Sectors, s.NrData(), s.NrRedundant, s.CsumType, gran, label)
	if s.NeedsReconcile {
		w.s("needs_reconcile")
	}
	w.s(" ")
	for i, p := range s.Ptrs {
		w.s("\n    ")
		w.ptr(p)
		w.f("#%d", s.Live[i])
	}
}

// label names the group of a stripe, stored as its index plus one.
func (w *w) label(l uint8) string {
	if l == 0 {
		return "(none)"
	}
	return w.target(ondisk.GroupTarget(int(l) - 1))
}
