// Package journal reads what happened last on a volume.
//
// A clean volume keeps its btree roots in the superblock's clean section and
// needs nothing else. On any other the journal entries of the window
// [last_seq, replay_end] hold keys that are newer than what the btree nodes
// say: they become an Overlay, which package btree merges into the nodes as it
// reads them. Chapter 03 throughout.
package journal

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Place is where a copy of an entry stands.
type Place struct {
	Dev    int
	Ring   int    // index in the device's journal ring
	Bucket uint64 // bucket number
	Sector uint64 // device sector
}

// Entry is one journal entry found on the members.
type Entry struct {
	ondisk.Jset
	Good   bool    // checksum ok
	Places []Place // copies, the one that was kept first
	// Payload holds the decrypted sub-entries once loaded.
	Payload []byte
}

func (e *Entry) where() errs.Where {
	w := errs.Nowhere
	w.Seq = e.Seq
	if len(e.Places) > 0 {
		w.Dev, w.Sector = e.Places[0].Dev, int64(e.Places[0].Sector)
	}
	return w
}

// ring is the journal of one member.
type ring struct {
	dev     int
	buckets []uint64
	bsize   uint64 // sectors
}

// reader holds what reading entries needs.
type reader struct {
	set   *members.Set
	magic uint64
	block int // bytes
}

func newReader(set *members.Set) *reader {
	return &reader{set: set, magic: ondisk.JsetMagic(set.SB.UUID), block: int(set.SB.BlockSize) * 512}
}

// rings lists the journals of all members at hand.
func (r *reader) rings() []ring {
	var rs []ring
	for i, d := range r.set.Devs {
		if !d.Online() {
			continue
		}
		b, err := d.SB.JournalBuckets()
		if err != nil {
			r.set.Warn(errs.At(err, errs.Where{Path: d.R.Info().Name, Dev: i, Sector: -1, Btree: -1, Level: -1}))
			continue
		}
		if len(b) > 0 {
			rs = append(rs, ring{i, b, uint64(d.Member.BucketSize)})
		}
	}
	return rs
}

// scan calls found with every entry of every ring, in ring order per member but
// concurrently between members. The payload is decrypted and only valid during
// the call. Members that cannot be read are reported and passed over. Errors:
// errs.ErrVersion, errs.ErrUnsupported.
func (r *reader) scan(ctx context.Context, found func(e Entry, payload []byte)) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, rg := range r.rings() {
		g.Go(func() error {
			var buf []byte
			outside := 0
			for i, b := range rg.buckets {
				if err := ctx.Err(); err != nil {
					return err
				}
				// Nothing is allocated for what the device does not have.
				if err := r.set.InRange(uint8(rg.dev), b*rg.bsize, rg.bsize); err != nil {
					if outside++; outside == 1 {
						r.set.Warn(fmt.Errorf("journal bucket %d: %w", b, err))
					}
					continue
				}
				if buf == nil {
					buf = make([]byte, rg.bsize*512)
				}
				if err := r.set.ReadSectors(uint8(rg.dev), b*rg.bsize, buf); err != nil {
					r.set.Warn(fmt.Errorf("journal bucket %d: %w", b, err))
					continue
				}
				if err := r.scanBucket(rg, i, buf, found); err != nil {
					return err
				}
			}
			if outside > 1 {
				r.set.Warn(fmt.Errorf("journal of member %d: %d more buckets are past the end of the device", rg.dev, outside-1))
			}
			return nil
		})
	}
	return g.Wait()
}

// scanBucket finds the entries of one bucket (chapter 03 section 5). The error
// is about the volume: an intact entry that this program cannot read.
func (r *reader) scanBucket(rg ring, ringIdx int, buf []byte, found func(Entry, []byte)) error {
	var sawBad bool
	var high uint64 // of good entries
	budget := 4 * len(buf)
	for pos := 0; pos+ondisk.JsetHeaderSize <= len(buf); {
		j, _ := ondisk.DecodeJset(buf[pos:])
		if j.Magic != r.magic {
			if !sawBad {
				return nil
			}
			pos += r.block // after a bad checksum sizes cannot be trusted
			continue
		}
		e := Entry{Jset: j, Places: []Place{{rg.dev, ringIdx, rg.buckets[ringIdx], rg.buckets[ringIdx]*rg.bsize + uint64(pos/512)}}}
		size := j.Bytes()
		cut := size > int64(len(buf)-pos)
		if cut {
			r.set.Warn(errs.Corrupt(e.where(), "jset_past_bucket_end", fmt.Sprintf("at most %d bytes", len(buf)-pos), fmt.Sprint(size)))
			size = int64(len(buf) - pos)
			e.U64s = uint32((size - ondisk.JsetHeaderSize) / 8)
		}
		b := buf[pos : pos+int(size)]
		n := crypt.JournalNonce(j.Seq)
		if t := j.CsumType(); t < ondisk.NrCsumTypes {
			sum, err := r.set.Sum(t, n, b[16:])
			e.Good = err == nil && sum == j.Csum && !cut
		} else {
			r.set.Warn(errs.Corrupt(e.where(), "jset_unknown_csum", "a known type", fmt.Sprint(uint8(t))))
		}
		if e.Good {
			if v := ondisk.Version(j.Version); j.Version > 0xffff || v.Major() > ondisk.VersionNewest.Major() || v < ondisk.VersionOldest {
				return &errs.Error{Where: e.where(), Kind: errs.ErrVersion, Reason: "jset_unsupported_version", Want: fmt.Sprintf("%v to %d.x", ondisk.VersionOldest, ondisk.VersionNewest.Major()), Got: fmt.Sprintf("%v (%#x)", v, j.Version)}
			}
			if j.BigEndian() {
				return &errs.Error{Where: e.where(), Kind: errs.ErrUnsupported, Reason: "jset_big_endian", Want: "little endian", Got: "big endian"}
			}
			if j.Seq < high {
				return nil // stale tail of an earlier lap
			}
			high = j.Seq
			r.set.Decrypt(j.CsumType(), n, b[ondisk.JsetCryptStart:])
			full, _ := ondisk.DecodeJset(b)
			e.LastSeq = full.LastSeq
		}
		found(e, b[ondisk.JsetHeaderSize:])
		// The size of a bad entry is as doubtful as the rest of it: look for what
		// follows in every block, as long as that is not too much work.
		if sawBad = sawBad || !e.Good; !e.Good && budget > 0 {
			budget -= int(size)
			pos += r.block
			continue
		}
		pos += int((size + int64(r.block) - 1) / int64(r.block) * int64(r.block))
	}
	return nil
}

// load reads the payload of an entry again, from any of its places.
func (r *reader) load(e *Entry) error {
	var last error
	for _, p := range e.Places {
		b := make([]byte, (e.Bytes()+511)/512*512)
		if last = r.set.ReadSectors(uint8(p.Dev), p.Sector, b); last != nil {
			continue
		}
		b = b[:e.Bytes()]
		n, t := crypt.JournalNonce(e.Seq), e.CsumType()
		sum, err := r.set.Sum(t, n, b[16:])
		if err == nil && sum != e.Csum {
			err = members.ChecksumError(e.where(), "jset checksum", t, e.Csum, sum)
		}
		if last = err; err != nil {
			continue
		}
		r.set.Decrypt(t, n, b[ondisk.JsetCryptStart:])
		e.Payload = b[ondisk.JsetHeaderSize:]
		return nil
	}
	return last
}

// collect scans all rings and merges copies of the same seq.
func (r *reader) collect(ctx context.Context) ([]*Entry, error) {
	var mu sync.Mutex
	bySeq := map[uint64]*Entry{}
	err := r.scan(ctx, func(e Entry, _ []byte) {
		mu.Lock()
		defer mu.Unlock()
		old := bySeq[e.Seq]
		switch {
		case old == nil:
			bySeq[e.Seq] = &e
		case e.Good && !old.Good:
			bySeq[e.Seq] = &e
		case e.Good == old.Good && e.Good && e.Csum != old.Csum:
			r.set.Warn(errs.Corrupt(e.where(), "journal_entry_replicas_data_mismatch", fmt.Sprint(old.Csum), fmt.Sprint(e.Csum)))
			if a, b := e.Places[0], old.Places[0]; cmp.Or(cmp.Compare(a.Dev, b.Dev), cmp.Compare(a.Ring, b.Ring)) < 0 {
				bySeq[e.Seq] = &e // members are read at once: let not the timing decide
			}
		case e.Good == old.Good:
			for _, p := range old.Places {
				if p.Dev == e.Places[0].Dev {
					r.set.Warn(errs.Corrupt(e.where(), "journal_entry_dup_same_device", fmt.Sprintf("only sector %d", p.Sector), fmt.Sprint(e.Places[0].Sector)))
				}
			}
			old.Places = append(old.Places, e.Places...)
		}
	})
	all := make([]*Entry, 0, len(bySeq))
	for _, e := range bySeq {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *Entry) int { return cmp.Compare(a.Seq, b.Seq) })
	return all, err
}

// Scan reads all entries of all members in ascending order of seq and calls fn
// with each, payload loaded (nil for entries with a bad checksum). It stops at
// the first error of fn.
func Scan(ctx context.Context, set *members.Set, fn func(*Entry) error) error {
	r := newReader(set)
	all, err := r.collect(ctx)
	if err != nil {
		return err
	}
	for _, e := range all {
		if e.Good {
			if err := r.load(e); err != nil {
				set.Warn(err)
			}
		}
		if err := fn(e); err != nil {
			return err
		}
		e.Payload = nil
	}
	return nil
}

// Found are the journal entries of all members, ascending by seq, without their
// payloads.
type Found struct {
	Entries []*Entry
	r       *reader
}

// Find looks for all entries of all members, whether they count or not. Copies
// of one entry are merged.
func Find(ctx context.Context, set *members.Set) (*Found, error) {
	r := newReader(set)
	all, err := r.collect(ctx)
	return &Found{all, r}, err
}

// Load reads the payload of an entry. The caller drops it when done with it.
func (f *Found) Load(e *Entry) error {
	if !e.Good {
		return errs.Corrupt(e.where(), "jset checksum", "a good copy", "none")
	}
	return f.r.load(e)
}
