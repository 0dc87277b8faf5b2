package journal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// maxEntry bounds an entry; it is also at most a bucket.
const maxEntry = 1 << 20

// Source is what the writer asks of the btrees when it closes an entry. It is
// called with the lock of Append held, so that an entry is consistent.
type Source interface {
	// Tail appends the roots of all btrees that are not in the entry already.
	Tail(b []byte) []byte
	// LastSeq is the oldest entry that holds keys which are not yet in nodes on
	// disk, or next if there is none.
	LastSeq(next uint64) uint64
}

// Writer writes the journal: one entry is open at a time, transactions append
// to it, and whoever needs it durable closes and flushes it for all that wait.
//
// Locks: the caller's lock (Locker, the commit lock of the btrees) guards the
// open entry and is never held over I/O; mu guards who is writing.
type Writer struct {
	set    *members.WriteSet
	lock   sync.Locker
	src    Source
	magic  uint64
	block  int // bytes
	csum   ondisk.CsumType
	copies int

	// Guarded by lock:
	seq     uint64 // of the open entry
	buf     []byte // its sub-entries
	keys    bool   // it holds keys
	flushed uint64 // last_seq of the last flush entry
	state   Tail

	mu       sync.Mutex
	cond     sync.Cond
	writing  bool
	durable  uint64 // newest durable flush entry
	lastSeq  uint64 // its last_seq
	err      error  // the journal is broken
	rings    []*wring
	maxBytes int
}

// Tail is what every entry carries besides keys and roots.
type Tail struct {
	KeyVersion uint64
	Clock      [2]uint64
	Datetime   bool // releases of 1.6 and later write it
}

// wring is the journal of one member while it is written.
type wring struct {
	dev     uint8
	buckets []uint64
	bsize   uint64   // sectors
	high    []uint64 // newest seq in each bucket, 0 for none
	cur     int
	used    uint64 // sectors used of the current bucket
}

// WriterConfig says where a Writer starts.
type WriterConfig struct {
	// NextSeq is the number of the first entry; Durable the newest entry that is
	// on disk, LastSeq its last_seq.
	NextSeq, Durable, LastSeq uint64
	Tail                      Tail
	// Entries lists what is on disk, so that nothing still needed is overwritten.
	// nil after a clean shutdown: then only the entry Durable is kept.
	Entries []*Entry
	// Copies is the number of members each entry goes to.
	Copies int
}

// NewWriter makes a writer. lock is the lock the callers of Append hold.
func NewWriter(set *members.WriteSet, lock sync.Locker, src Source, c WriterConfig) (*Writer, error) {
	sb := set.Current()
	w := &Writer{set: set, lock: lock, src: src, magic: ondisk.JsetMagic(sb.UUID), block: int(sb.BlockSize) * 512,
		seq: c.NextSeq, durable: c.Durable, lastSeq: c.LastSeq, flushed: c.LastSeq, state: c.Tail, copies: max(1, c.Copies), maxBytes: maxEntry}
	w.cond.L = &w.mu
	w.csum = sb.MetadataChecksum().MetaType()
	if sb.Encrypted() {
		w.csum = ondisk.CsumPoly1305_128
	}
	for i, d := range set.Devs {
		if !d.Online() {
			continue
		}
		b, err := d.SB.JournalBuckets()
		if err != nil {
			return nil, err
		}
		if len(b) == 0 || d.Member.State() != ondisk.MemberRW {
			continue
		}
		r := &wring{dev: uint8(i), buckets: b, bsize: uint64(d.Member.BucketSize), high: make([]uint64, len(b))}
		w.maxBytes = min(w.maxBytes, int(r.bsize)*512)
		if h := int(d.Member.LastJournalBucket); c.Entries == nil && h < len(b) && uint64(d.Member.LastJournalBucketOffset) <= r.bsize {
			r.cur, r.used = h, uint64(d.Member.LastJournalBucketOffset)
			r.high[h] = c.Durable
		} else if c.Entries == nil {
			r.used = r.bsize
			r.high[0] = c.Durable
		}
		w.rings = append(w.rings, r)
	}
	for _, e := range c.Entries {
		for _, p := range e.Places {
			for _, r := range w.rings {
				if int(r.dev) != p.Dev || p.Ring >= len(r.high) {
					continue
				}
				if e.Seq >= r.high[p.Ring] {
					r.high[p.Ring] = e.Seq
				}
				if e.Seq >= r.high[r.cur] {
					r.cur = p.Ring
					r.used = p.Sector - p.Bucket*r.bsize + uint64(w.round(int(e.Bytes())))/512
				}
			}
		}
	}
	if len(w.rings) == 0 {
		return nil, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUnsupported, Reason: "no member with a journal can be written"}
	}
	return w, nil
}

func (w *Writer) round(n int) int { return (n + w.block - 1) / w.block * w.block }

// tailRoom is kept free in an entry for roots, usage and clocks.
const tailRoom = 4096

// Seq is the number of the open entry. The caller holds the lock.
func (w *Writer) Seq() uint64 { return w.seq }

// Offset is the number of u64s already in the open entry. The caller holds the
// lock.
func (w *Writer) Offset() int { return len(w.buf) / 8 }

// Room reports whether n more bytes fit the open entry. If not, the caller lets
// go of the lock, calls Close and tries again. The caller holds the lock.
func (w *Writer) Room(n int) bool {
	return ondisk.JsetHeaderSize+len(w.buf)+n+tailRoom <= w.maxBytes || len(w.buf) == 0
}

// MaxBody is the most that one transaction may add.
func (w *Writer) MaxBody() int { return w.maxBytes - ondisk.JsetHeaderSize - tailRoom }

// Append adds sub-entries to the open entry; keys says that there are keys among
// them. The caller holds the lock and asked Room.
func (w *Writer) Append(b []byte, keys bool) {
	w.buf = append(w.buf, b...)
	w.keys = w.keys || keys
}

// SetTail changes what every entry carries. The caller holds the lock.
func (w *Writer) SetTail(f func(*Tail)) { f(&w.state) }

// State gives it. The caller holds the lock.
func (w *Writer) State() Tail { return w.state }

// Durable is the newest entry known durable, and its last_seq: older entries are
// not needed any more.
func (w *Writer) Durable() (seq, lastSeq uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.durable, w.lastSeq
}

// Err is the reason why the journal cannot be written any more.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Free is the part of the smallest ring that can be written, in buckets, and how
// many there are.
func (w *Writer) Free() (free, total int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	free = 1 << 30
	for _, r := range w.rings {
		n := 0
		for i, h := range r.high {
			if i != r.cur && h < w.lastSeq {
				n++
			}
		}
		if n < free {
			free, total = n, len(r.buckets)
		}
	}
	return free, total
}

// Sync makes entry seq, and with it all before it, durable. Callers that come
// while an entry is being written share the next write.
func (w *Writer) Sync(ctx context.Context, seq uint64) error {
	return w.flush(ctx, func() bool { return w.durable >= seq })
}

// Close writes the open entry, if it is still seq, as a flush entry.
func (w *Writer) Close(ctx context.Context, seq uint64) error { return w.Sync(ctx, seq) }

// flush writes entries until done, with mu held, says so.
func (w *Writer) flush(ctx context.Context, done func() bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		if w.err != nil {
			return w.err
		}
		if done() {
			return nil
		}
		if w.writing {
			w.cond.Wait()
			continue
		}
		w.writing = true
		w.mu.Unlock()
		seq, last, err := w.writeOpen(ctx)
		w.mu.Lock()
		w.writing = false
		if err != nil {
			// A failed journal write leaves it open what is on disk.
			w.err = fmt.Errorf("journal: %w", err)
		} else {
			w.durable, w.lastSeq = seq, last
		}
		w.cond.Broadcast()
	}
}

// writeOpen closes the open entry and writes it as a flush entry. Only one
// goroutine is in here at a time.
func (w *Writer) writeOpen(ctx context.Context) (seq, lastSeq uint64, err error) {
	w.lock.Lock()
	seq = w.seq
	last := w.src.LastSeq(seq)
	body := w.closeBody()
	w.seq++
	w.buf, w.keys = nil, false
	w.lock.Unlock()

	b := make([]byte, 0, w.round(ondisk.JsetHeaderSize+len(body)))
	j := ondisk.Jset{Magic: w.magic, Seq: seq, Version: uint32(w.set.Current().Version), Flags: uint32(w.csum), U64s: uint32(len(body) / 8), LastSeq: last}
	b = j.Append(b)
	b = append(b, body...)
	if len(b) > w.maxBytes {
		return 0, 0, fmt.Errorf("entry of %d bytes, at most %d fit", len(b), w.maxBytes)
	}
	n := crypt.JournalNonce(seq)
	w.set.Encrypt(w.csum, n, b[ondisk.JsetCryptStart:])
	sum, err := w.set.Sum(w.csum, n, b[16:])
	if err != nil {
		return 0, 0, err
	}
	copy(b, sum.Append(nil))
	b = b[:w.round(len(b))]
	if err := w.write(ctx, seq, b); err != nil {
		return 0, 0, err
	}
	return seq, last, nil
}

// closeBody completes the open entry. The lock is held.
func (w *Writer) closeBody() []byte {
	b := w.src.Tail(w.buf)
	u64 := func(v ...uint64) []byte {
		var d []byte
		for _, x := range v {
			d = binary.LittleEndian.AppendUint64(d, x)
		}
		return d
	}
	if w.state.Datetime {
		b = ondisk.JsetEntry{Type: ondisk.EntryDatetime, Data: u64(uint64(w.set.Now().Unix()))}.Append(b)
	}
	b = ondisk.JsetEntry{Type: ondisk.EntryUsage, Btree: ondisk.UsageKeyVersion, Data: u64(w.state.KeyVersion)}.Append(b)
	for rw, t := range w.state.Clock {
		b = ondisk.JsetEntry{Type: ondisk.EntryClock, Data: u64(uint64(rw), t)}.Append(b)
	}
	return b
}

// write puts an entry into the rings: everything that was written before is made
// durable, and the entry without its first sector; then, durable again, the first
// sector. So no torn entry can be seen (chapter 03 section 12): other readers
// believe its last_seq though its checksum is wrong, and drop what is older.
func (w *Writer) write(ctx context.Context, seq uint64, b []byte) error {
	type place struct {
		r      *wring
		sector uint64
	}
	var places []place
	w.mu.Lock()
	for _, r := range w.rings {
		if len(places) == w.copies {
			break
		}
		if s, ok := w.place(r, seq, uint64(len(b)/512)); ok {
			places = append(places, place{r, s})
		}
	}
	w.mu.Unlock()
	if len(places) == 0 {
		return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUnsupported, Reason: "journal full"}
	}
	var fails []error
	head := min(len(b), 512) // what devices write in one piece, whatever their blocks
	var ok []place
	for _, p := range places {
		var err error
		if len(b) > head {
			err = w.set.WriteSectors(p.r.dev, p.sector+uint64(head/512), b[head:])
		}
		if err != nil {
			fails = append(fails, err)
			continue
		}
		ok = append(ok, p)
	}
	if err := w.set.Flush(ctx); err != nil {
		return err
	}
	written := 0
	for _, p := range ok {
		if err := w.set.WriteSectors(p.r.dev, p.sector, b[:head]); err != nil {
			fails = append(fails, err)
			continue
		}
		written++
	}
	if err := w.set.Flush(ctx); err != nil {
		return err
	}
	if written == 0 {
		return errors.Join(fails...)
	}
	for _, err := range fails {
		w.set.Warn(err)
	}
	return nil
}

// place finds room for n sectors in a ring. mu is held.
func (w *Writer) place(r *wring, seq, n uint64) (sector uint64, ok bool) {
	if r.used+n > r.bsize {
		next := (r.cur + 1) % len(r.buckets)
		if r.high[next] >= w.lastSeq && r.high[next] != 0 {
			return 0, false
		}
		r.cur, r.used = next, 0
	}
	sector = r.buckets[r.cur]*r.bsize + r.used
	r.used += n
	r.high[r.cur] = seq
	return sector, true
}

// Position is where the next entry of a member goes: ring index and sectors
// used, for the superblock of a clean shutdown.
func (w *Writer) Position() map[int][2]uint32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := map[int][2]uint32{}
	for _, r := range w.rings {
		m[int(r.dev)] = [2]uint32{uint32(r.cur), uint32(r.used)}
	}
	return m
}

// Devices lists the members that entries go to.
func (w *Writer) Devices() []uint8 {
	var d []uint8
	for _, r := range w.rings {
		if len(d) == w.copies {
			break
		}
		d = append(d, r.dev)
	}
	slices.Sort(d)
	return d
}
