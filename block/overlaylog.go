package block

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"slices"

	"github.com/gobcachefs/gobcachefs/errs"
)

// An overlay file is
//
//	0      header: magic, version, page size, id; size and fingerprint of each
//	       device below
//	16 KiB slot 0, 20 KiB slot 1: where the log is known to be whole
//	24 KiB log: records, each a block of header and then its pages
//
// all little endian, in blocks of 4 KiB. A record of pages holds a run of
// changed pages of one device; the index, a record as well, holds the place and
// sum of every changed page, so that nothing before it is needed but the pages
// that it names. Records have numbers that count up; headers have a sum that
// starts from the id of the file, pages one that starts from their address.
//
// What is appended is durable once the file was synced; then one of the two
// slots in turn gets the new end, which is durable with the next sync at the
// latest. So a record before the end of the newest slot must be good, or the file is
// damaged; after it, the first bad record is where the power went.
const (
	overlayVersion = 1
	overlayHeader  = 16 << 10
	overlayLogAt   = overlayHeader + 2*pageSize
	overlayDevice  = 8 + sha256.Size + 64 // in the header: size, fingerprint, name
	overlayDevices = 128

	recordMagic = 0x4c564f47 // "GOVL"
	recordHead  = 32         // and a sum of each page, and the sum of the header
	recordPages = 256        // at most, in one record
	recordOfRun = 1
	recordIndex = 2
	indexEntry  = 24
)

var (
	overlayMagic = []byte("gobcovl\x00")
	castagnoli   = crc32.MakeTable(crc32.Castagnoli)
	le           = binary.LittleEndian
)

// sideFile is what an overlay needs of its file; a test has one that loses what
// was not synced.
type sideFile interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Length() (int64, error)
	Sync() error
	// Free gives back the space of a range that is not read any more.
	Free(off, n int64)
	Close() error
}

// span is a range of bytes.
type span struct{ off, n int64 }

// pageRef says where in the side file a page is.
type pageRef struct {
	off int64
	sum uint32
}

// overlaySlot is the decoded slot of an overlay file.
type overlaySlot struct {
	seq      uint64 // of the slot
	end      int64  // the log is whole up to here
	index    span   // n is 0 if there is none
	indexSeq uint64 // number of the record after the index
}

// overlayLog is the side file. Its methods need the lock of whoever owns it.
type overlayLog struct {
	name string
	f    sideFile
	id   [16]byte
	devs []overlayBase
	slot overlaySlot // as last written
	end  int64       // where the next record goes
	seq  uint64      // its number
	refs []map[int64]pageRef
	// Before end, and needed by nobody once there is an index.
	dead    []span
	garbage int64 // bytes of dead
}

// overlayBase is what the header says about a device below.
type overlayBase struct {
	size  int64
	print [sha256.Size]byte
	name  string
}

// fingerprint describes a device: the sum of its ends. Where a volume is used
// otherwise its superblock changes, which is there.
func fingerprint(r Reader) (overlayBase, error) {
	const ends = 64 << 10
	b := overlayBase{size: r.Size(), name: r.Info().Name}
	h := sha256.New()
	buf := make([]byte, min(ends, b.size))
	for _, off := range []int64{0, max(0, b.size-ends)} {
		if _, err := r.ReadAt(buf, off); err != nil {
			return b, err
		}
		h.Write(buf)
	}
	h.Sum(b.print[:0])
	return b, nil
}

func (l *overlayLog) damaged(off int64, what string) error {
	w := where(l.name, -1)
	return &errs.Error{Where: w, Kind: errs.ErrCorrupt, Reason: "overlay file is damaged", Got: fmt.Sprintf("%s at byte %d", what, off)}
}

// newOverlayLog makes an empty overlay in f.
func newOverlayLog(f sideFile, name string, bases []overlayBase) (*overlayLog, error) {
	l := &overlayLog{name: name, f: f, devs: bases, end: overlayLogAt, seq: 1}
	if _, err := rand.Read(l.id[:]); err != nil {
		return nil, err
	}
	for range bases {
		l.refs = append(l.refs, map[int64]pageRef{})
	}
	// The header comes last: without it the file is as good as empty.
	if err := f.Truncate(0); err != nil {
		return nil, err
	}
	if err := f.Truncate(overlayLogAt); err != nil {
		return nil, err
	}
	l.slot.indexSeq = 1
	if err := l.writeSlot(l.end); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	if _, err := f.WriteAt(l.header(), 0); err != nil {
		return nil, err
	}
	return l, f.Sync()
}

// header encodes the header.
func (l *overlayLog) header() []byte {
	b := make([]byte, overlayHeader)
	copy(b, overlayMagic)
	le.PutUint32(b[8:], overlayVersion)
	le.PutUint32(b[12:], pageSize)
	copy(b[16:], l.id[:])
	le.PutUint32(b[32:], uint32(len(l.devs)))
	for i, d := range l.devs {
		p := b[40+i*overlayDevice:]
		le.PutUint64(p, uint64(d.size))
		copy(p[8:], d.print[:])
		copy(p[8+len(d.print):overlayDevice-1], d.name) // a zero ends it
	}
	le.PutUint32(b[overlayHeader-4:], crc32.Checksum(b[:overlayHeader-4], castagnoli))
	return b
}

// openOverlayLog reads the overlay in f, which must belong to bases; an empty
// file becomes a new one. What was appended, but not synced, before the power
// went may be cut off.
func openOverlayLog(f sideFile, name string, bases []overlayBase) (*overlayLog, error) {
	length, err := f.Length()
	if err != nil {
		return nil, err
	}
	b := make([]byte, overlayHeader)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if length == 0 || (length <= overlayLogAt && allZero(b[:n])) {
		return newOverlayLog(f, name, bases)
	}
	l := &overlayLog{name: name, f: f}
	if err := l.readHeader(b[:n], bases); err != nil {
		return nil, err
	}
	if err := l.readSlots(); err != nil {
		return nil, err
	}
	if err := l.readIndex(length); err != nil {
		return nil, err
	}
	if err := l.replay(length); err != nil {
		return nil, err
	}
	if length != l.end {
		// What is left of lost records must never be taken for new ones.
		if err := f.Truncate(l.end); err != nil {
			return nil, err
		}
	}
	if l.slot.end != l.end || length != l.end {
		// In two steps: the slot may say only what is durable.
		if err := f.Sync(); err != nil {
			return nil, err
		}
		if err := l.writeSlot(l.end); err != nil {
			return nil, err
		}
		return l, f.Sync()
	}
	return l, nil
}

// readHeader decodes a header and compares it with the devices that are here.
func (l *overlayLog) readHeader(b []byte, bases []overlayBase) error {
	w := where(l.name, -1)
	switch {
	case !bytes.HasPrefix(b, overlayMagic):
		return &errs.Error{Where: w, Kind: errs.ErrUsage, Reason: "not an overlay file"}
	case len(b) < overlayHeader || le.Uint32(b[overlayHeader-4:]) != crc32.Checksum(b[:overlayHeader-4], castagnoli):
		return l.damaged(0, "bad header")
	case le.Uint32(b[8:]) != overlayVersion || le.Uint32(b[12:]) != pageSize:
		return &errs.Error{Where: w, Kind: errs.ErrUnsupported, Reason: "overlay file of another version",
			Want: fmt.Sprint(overlayVersion), Got: fmt.Sprint(le.Uint32(b[8:]))}
	}
	copy(l.id[:], b[16:])
	n := int(le.Uint32(b[32:]))
	if n != len(bases) {
		return &errs.Error{Where: w, Kind: errs.ErrUsage, Reason: "overlay file is for another number of devices",
			Want: fmt.Sprint(len(bases)), Got: fmt.Sprint(n)}
	}
	for i, d := range bases {
		p := b[40+i*overlayDevice:]
		name, _, _ := bytes.Cut(p[8+len(d.print):overlayDevice], []byte{0})
		if int64(le.Uint64(p)) != d.size || !bytes.Equal(p[8:8+len(d.print)], d.print[:]) {
			return &errs.Error{Where: w, Kind: errs.ErrUsage, Reason: "overlay file belongs to another device, or the device has changed since",
				Want: fmt.Sprintf("%s of %d bytes", d.name, d.size), Got: fmt.Sprintf("%s of %d bytes", name, le.Uint64(p))}
		}
		l.refs = append(l.refs, map[int64]pageRef{})
	}
	l.devs = bases
	return nil
}

// sum starts the sum of headers.
func (l *overlayLog) sum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(l.id[:], castagnoli), castagnoli, b)
}

// pageSum is the sum of a page, which is good at its own address only.
func (l *overlayLog) pageSum(dev uint32, page int64, b []byte) uint32 {
	var at [12]byte
	le.PutUint32(at[:], dev)
	le.PutUint64(at[4:], uint64(page))
	return crc32.Update(l.sum(at[:]), castagnoli, b)
}

// writeSlot writes the slot whose turn it is. The caller syncs; the log must be
// durable up to end before.
func (l *overlayLog) writeSlot(end int64) error {
	s := l.slot
	s.seq++
	s.end = end
	b := make([]byte, pageSize)
	le.PutUint64(b, s.seq)
	le.PutUint64(b[8:], uint64(s.end))
	le.PutUint64(b[16:], uint64(s.index.off))
	le.PutUint64(b[24:], uint64(s.index.n))
	le.PutUint64(b[32:], s.indexSeq)
	le.PutUint32(b[40:], l.sum(b[:40]))
	if _, err := l.f.WriteAt(b, overlayHeader+int64(s.seq%2)*pageSize); err != nil {
		return err
	}
	l.slot = s
	return nil
}

// readSlots finds the newest slot.
func (l *overlayLog) readSlots() error {
	for i := range int64(2) {
		b := make([]byte, 44)
		if _, err := l.f.ReadAt(b, overlayHeader+i*pageSize); err != nil {
			return err
		}
		s := overlaySlot{seq: le.Uint64(b), end: int64(le.Uint64(b[8:])),
			index: span{int64(le.Uint64(b[16:])), int64(le.Uint64(b[24:]))}, indexSeq: le.Uint64(b[32:])}
		if le.Uint32(b[40:]) == l.sum(b[:40]) && s.seq > l.slot.seq {
			l.slot = s
		}
	}
	if l.slot.seq == 0 {
		return l.damaged(overlayHeader, "no good slot")
	}
	return nil
}

// recordHeader is the decoded header of a record.
type recordHeader struct {
	kind, dev uint32
	count     uint32 // pages, or entries
	seq       uint64
	page      int64 // the first
	sums      []uint32
}

// pages is how many blocks follow the header.
func (h *recordHeader) pages() int64 {
	if h.kind == recordIndex {
		return (int64(h.count)*indexEntry + pageSize - 1) / pageSize
	}
	return int64(h.count)
}

// size is the length of the record in bytes.
func (h *recordHeader) size() int64 { return (1 + h.pages()) * pageSize }

// putHeader encodes a header into a block of zeros.
func (l *overlayLog) putHeader(b []byte, h *recordHeader) {
	le.PutUint32(b, recordMagic)
	le.PutUint32(b[4:], h.count)
	le.PutUint64(b[8:], h.seq)
	le.PutUint32(b[16:], h.dev)
	le.PutUint32(b[20:], h.kind)
	le.PutUint64(b[24:], uint64(h.page))
	n := recordHead
	for _, s := range h.sums {
		le.PutUint32(b[n:], s)
		n += 4
	}
	le.PutUint32(b[n:], l.sum(b[:n]))
}

// readHeaderAt decodes the header of the record at off, nil if there is none
// with this number that fits into the file.
func (l *overlayLog) readHeaderAt(off, length int64, seq uint64) (*recordHeader, error) {
	if off > length-pageSize {
		return nil, nil
	}
	b := make([]byte, pageSize)
	if _, err := l.f.ReadAt(b, off); err != nil {
		return nil, err
	}
	h := &recordHeader{count: le.Uint32(b[4:]), seq: le.Uint64(b[8:]), dev: le.Uint32(b[16:]),
		kind: le.Uint32(b[20:]), page: int64(le.Uint64(b[24:]))}
	sums := h.count
	switch {
	case le.Uint32(b) != recordMagic || h.seq != seq:
		return nil, nil
	case h.kind == recordIndex:
		sums = 1
	case h.kind != recordOfRun || h.count < 1 || h.count > recordPages:
		return nil, nil
	}
	n := recordHead
	for range sums {
		h.sums = append(h.sums, le.Uint32(b[n:]))
		n += 4
	}
	if le.Uint32(b[n:]) != l.sum(b[:n]) || h.size() > length-off {
		return nil, nil
	}
	if h.kind == recordOfRun && (h.dev >= uint32(len(l.devs)) || h.page < 0 || h.page > (l.devs[h.dev].size-1)/pageSize-int64(h.count-1)) {
		return nil, nil
	}
	return h, nil
}

// readIndex reads the index that the slot names.
func (l *overlayLog) readIndex(length int64) error {
	l.end, l.seq = overlayLogAt, l.slot.indexSeq
	at := l.slot.index
	if at.n == 0 {
		return nil
	}
	if at.off < overlayLogAt || at.off%pageSize != 0 || at.off > length-pageSize || l.slot.indexSeq == 0 {
		return l.damaged(at.off, "bad place of the index")
	}
	h, err := l.readHeaderAt(at.off, length, l.slot.indexSeq-1)
	if err != nil {
		return err
	}
	if h == nil || h.kind != recordIndex || h.size() != at.n {
		return l.damaged(at.off, "bad index")
	}
	b := make([]byte, h.pages()*pageSize)
	if _, err := l.f.ReadAt(b, at.off+pageSize); err != nil {
		return err
	}
	if h.sums[0] != l.sum(b) {
		return l.damaged(at.off, "bad sum of the index")
	}
	for e := b[:int64(h.count)*indexEntry]; len(e) > 0; e = e[indexEntry:] {
		dev, ref := le.Uint32(e), pageRef{sum: le.Uint32(e[4:]), off: int64(le.Uint64(e[16:]))}
		page := int64(le.Uint64(e[8:]))
		if dev >= uint32(len(l.devs)) || page < 0 || page > (l.devs[dev].size-1)/pageSize || ref.off < overlayLogAt || ref.off > at.off-pageSize {
			return l.damaged(at.off, "bad entry of the index")
		}
		l.refs[dev][page] = ref
	}
	l.end = at.off + at.n
	return nil
}

// replay reads the records after the index.
func (l *overlayLog) replay(length int64) error {
	buf := make([]byte, pageSize)
	for {
		h, err := l.readHeaderAt(l.end, length, l.seq)
		if err != nil {
			return err
		}
		good := h != nil
		// Before the end in the slot everything is good, or will be found bad when
		// it is read; after it, a bad page ends the log.
		if good && l.end >= l.slot.end && h.kind == recordOfRun {
			for i, sum := range h.sums {
				if _, err := l.f.ReadAt(buf, l.end+int64(1+i)*pageSize); err != nil {
					return err
				}
				good = good && l.pageSum(h.dev, h.page+int64(i), buf) == sum
			}
		}
		if !good {
			if l.end < l.slot.end {
				return l.damaged(l.end, "bad record")
			}
			return nil
		}
		l.take(h)
	}
}

// take notes a record that is at the end of the log.
func (l *overlayLog) take(h *recordHeader) {
	l.drop(l.end, pageSize)
	if h.kind == recordIndex {
		// One that no slot names yet: it says what is known.
		l.drop(l.end+pageSize, h.size()-pageSize)
	} else {
		refs := l.refs[h.dev]
		for i, sum := range h.sums {
			page := h.page + int64(i)
			if old, ok := refs[page]; ok {
				l.drop(old.off, pageSize)
			}
			refs[page] = pageRef{l.end + int64(1+i)*pageSize, sum}
		}
	}
	l.end += h.size()
	l.seq++
}

// append appends a record of pages: b is a block for the header, then the pages.
func (l *overlayLog) append(dev uint32, page int64, b []byte) error {
	h := &recordHeader{kind: recordOfRun, dev: dev, count: uint32(len(b)/pageSize - 1), seq: l.seq, page: page}
	for at := pageSize; at < len(b); at += pageSize {
		h.sums = append(h.sums, l.pageSum(dev, page, b[at:at+pageSize]))
		page++
	}
	clear(b[:pageSize])
	l.putHeader(b, h)
	if _, err := l.f.WriteAt(b, l.end); err != nil {
		return err
	}
	l.take(h)
	return nil
}

// page reads a changed page.
func (l *overlayLog) page(dev uint32, page int64, ref pageRef, b []byte) error {
	w := where(l.devs[dev].name, page*pageSize)
	if _, err := l.f.ReadAt(b[:pageSize], ref.off); err != nil {
		return &errs.Error{Where: w, Kind: errs.ErrIO, Reason: "cannot read the overlay file", Cause: err}
	}
	if got := l.pageSum(dev, page, b[:pageSize]); got != ref.sum {
		return &errs.Error{Where: w, Kind: errs.ErrChecksum, Reason: "page of the overlay file",
			Want: fmt.Sprintf("%08x", ref.sum), Got: fmt.Sprintf("%08x", got)}
	}
	return nil
}

// unindexed reports whether there are records after the index.
func (l *overlayLog) unindexed() bool {
	return l.end != max(overlayLogAt, l.slot.index.off+l.slot.index.n)
}

// drop notes that a range is dead.
func (l *overlayLog) drop(off, n int64) {
	l.dead = append(l.dead, span{off, n})
	l.garbage += n
}

// writeIndex appends an index, makes everything durable, and gives back the
// space of what is not needed any more.
func (l *overlayLog) writeIndex() error {
	h := &recordHeader{kind: recordIndex, seq: l.seq}
	for _, r := range l.refs {
		h.count += uint32(len(r))
	}
	b := make([]byte, h.size())
	at := pageSize
	for dev, refs := range l.refs {
		for _, page := range slices.Sorted(maps.Keys(refs)) {
			e := b[at:]
			le.PutUint32(e, uint32(dev))
			le.PutUint32(e[4:], refs[page].sum)
			le.PutUint64(e[8:], uint64(page))
			le.PutUint64(e[16:], uint64(refs[page].off))
			at += indexEntry
		}
	}
	h.sums = []uint32{l.sum(b[pageSize:])}
	l.putHeader(b, h)
	if _, err := l.f.WriteAt(b, l.end); err != nil {
		return err
	}
	if err := l.f.Sync(); err != nil {
		return err
	}
	if l.slot.index.n > 0 {
		l.drop(l.slot.index.off, l.slot.index.n)
	}
	at64 := l.end
	l.end += h.size()
	l.seq++
	l.slot.index, l.slot.indexSeq = span{at64, h.size()}, l.seq
	if err := l.writeSlot(l.end); err != nil {
		return err
	}
	if err := l.f.Sync(); err != nil {
		return err
	}
	slices.SortFunc(l.dead, func(a, b span) int { return cmp.Compare(a.off, b.off) })
	for len(l.dead) > 0 {
		s := l.dead[0]
		for l.dead = l.dead[1:]; len(l.dead) > 0 && l.dead[0].off == s.off+s.n; l.dead = l.dead[1:] {
			s.n += l.dead[0].n
		}
		l.f.Free(s.off, s.n)
	}
	l.dead, l.garbage = nil, 0
	return nil
}
