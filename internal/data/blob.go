package data

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/compress"
	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// encoded: the pointer's bytes must be read as a whole blob.
func encoded(c ondisk.Crc) bool {
	return c.Kind != 0 && (c.CsumType != ondisk.CsumNone || c.Compression.Compressed())
}

// nonceOf is the nonce of a blob (chapter 05 section 10.4).
func nonceOf(c ondisk.Crc, v ondisk.Bversion) crypt.Nonce {
	ct, size := uint8(0), uint32(0)
	if c.Compression.Compressed() {
		ct, size = uint8(c.Compression), c.UncompressedSize
	}
	return crypt.ExtentNonce(v.Hi, v.Lo, ct, size, c.Nonce)
}

// usable says whether a pointer may be read at all, and how gladly: lower is
// better, negative is no.
func (r *Reader) usable(p *ondisk.ExtentPtr) int {
	if p.Dev == ondisk.InvalidDev || !r.set.Online(p.Dev) {
		if p.HasStripe {
			return 8
		}
		return -1
	}
	rank := 0
	if p.Crc.Kind == 0 || p.Crc.CsumType == ondisk.CsumNone {
		rank += 2
	}
	// A checksum says whether the bytes are ours. Where there is none, or where
	// the bucket may have been reused, the generation has to.
	if p.Cached || rank > 0 {
		ok, known := r.gens.Current(p.Dev, p.Offset, p.Gen)
		if known && !ok {
			return -1
		}
	}
	if p.Cached {
		rank++
	}
	return rank
}

func (r *Reader) anyUsable(e ondisk.Extent) bool {
	for i := range e.Ptrs {
		if r.usable(&e.Ptrs[i]) >= 0 {
			return true
		}
	}
	return false
}

// readExtent fills s.dst from the best copy that is good.
func (r *Reader) readExtent(ctx context.Context, f File, s *segment) error {
	// Order the candidates by rank; there are at most a handful.
	var order []int
	for rank := 0; rank <= 8; rank++ {
		for i := range s.ext.Ptrs {
			if r.usable(&s.ext.Ptrs[i]) == rank {
				order = append(order, i)
			}
		}
	}
	var fails []error
	note := func(err error) {
		fails = append(fails, err)
	}
	recovered := func() {
		for _, e := range fails {
			name := "data_read_io_err_recovered"
			if errors.Is(e, errs.ErrCorrupt) {
				name = "data_read_csum_err_recovered"
			}
			r.set.Warn(fmt.Errorf("%s: inode %d, file offset %d: %w", name, f.Inum, s.kv.Start().Offset*512, e))
		}
	}
	for _, i := range order {
		p := &s.ext.Ptrs[i]
		if !r.set.Online(p.Dev) {
			continue
		}
		for try := 0; ; try++ {
			err := r.readPtr(s, p)
			if err == nil {
				recovered()
				return nil
			}
			if try == 0 {
				note(err)
			}
			if !errors.Is(err, errs.ErrChecksum) || try >= r.retries {
				break
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
	for _, i := range order {
		p := &s.ext.Ptrs[i]
		if !p.HasStripe {
			continue
		}
		if err := r.reconstruct(ctx, s, p); err != nil {
			note(err)
			continue
		}
		recovered()
		return nil
	}
	w := keyPlace(ondisk.BtreeExtents, s.kv.Pos)
	if s.kv.Type == ondisk.KeyReflinkV {
		w.Btree = int(ondisk.BtreeReflink)
	}
	if len(fails) == 0 {
		why := "data_lost_device_removed"
		var devs []byte
		for i := range s.ext.Ptrs {
			devs = fmt.Appendf(devs, " %d", s.ext.Ptrs[i].Dev)
		}
		return &errs.Error{Where: w, Kind: errs.ErrMissingDevice, Reason: why, Want: "a copy on members" + string(devs), Got: "none of them usable", Cause: errs.ErrIO}
	}
	kind, reason := errs.ErrIO, "data_read_io_err"
	if errors.Is(fails[0], errs.ErrCorrupt) {
		kind, reason = errs.ErrChecksum, "data_read_csum_err"
	}
	return &errs.Error{Where: w, Kind: kind, Reason: fmt.Sprintf("%s: inode %d, file offset %d", reason, f.Inum, s.kv.Start().Offset*512), Cause: errors.Join(fails...)}
}

// readPtr fills s.dst from one pointer.
func (r *Reader) readPtr(s *segment, p *ondisk.ExtentPtr) error {
	if !encoded(p.Crc) {
		return r.readPlain(s, p)
	}
	if r.direct(s, p) {
		if err := r.set.ReadSectors(p.Dev, p.Offset, s.dst); err != nil {
			return err
		}
		return r.verify(s.dst, s.kv, p)
	}
	key := blobKey{p.Dev, p.Gen, p.Offset, p.Crc.CompressedSize, p.Crc.Csum}
	if p.Crc.CsumType != ondisk.CsumNone && r.blobs.copy(key, s.dst, int(p.Crc.Offset)*512+int(s.off)) {
		return nil
	}
	raw := r.bufs.get(int(p.Crc.CompressedSize) * 512)
	if err := r.set.ReadSectors(p.Dev, p.Offset, *raw); err != nil {
		r.bufs.put(raw)
		return err
	}
	return r.deliver(s, p, raw, key)
}

// deliver verifies and decodes a raw blob, copies the wanted part and leaves the
// decoded blob in the cache. It takes over raw.
func (r *Reader) deliver(s *segment, p *ondisk.ExtentPtr, raw *[]byte, key blobKey) error {
	blob, err := r.decode(raw, s.kv, p)
	if err != nil {
		return err
	}
	from := int(p.Crc.Offset)*512 + int(s.off)
	if from+len(s.dst) > len(*blob) {
		r.bufs.put(blob)
		return errs.Corruptf("ptr_crc_uncompressed_size_too_small", "%d sectors, %d bytes at %d wanted", p.Crc.UncompressedSize, len(s.dst), from)
	}
	copy(s.dst, (*blob)[from:])
	if old := r.blobs.put(key, blob); old != nil {
		r.bufs.put(old)
	}
	return nil
}

// direct: the segment is exactly the whole plain blob, so that it can be read
// and verified where it is wanted.
func (r *Reader) direct(s *segment, p *ondisk.ExtentPtr) bool {
	return !p.Crc.Compression.Compressed() && p.Crc.Offset == 0 && s.off == 0 && len(s.dst) == int(p.Crc.UncompressedSize)*512
}

// readPlain reads from a pointer without checksum or compression: only the
// sectors wanted.
func (r *Reader) readPlain(s *segment, p *ondisk.ExtentPtr) error {
	off := p.Offset + uint64(p.Crc.Offset) + s.off/512
	skip := int(s.off % 512)
	if skip == 0 && len(s.dst)%512 == 0 {
		return r.set.ReadSectors(p.Dev, off, s.dst)
	}
	n := (skip + len(s.dst) + 511) / 512 * 512
	b := r.bufs.get(n)
	defer r.bufs.put(b)
	if err := r.set.ReadSectors(p.Dev, off, *b); err != nil {
		return err
	}
	copy(s.dst, (*b)[skip:])
	return nil
}

// verify checks a raw blob and decrypts it in place.
func (r *Reader) verify(b []byte, kv ondisk.KV, p *ondisk.ExtentPtr) error {
	t := p.Crc.CsumType
	n := nonceOf(p.Crc, kv.Version)
	if t != ondisk.CsumNone {
		got, err := r.set.Sum(t, n, b)
		if err != nil {
			return err
		}
		if got != p.Crc.Csum {
			w := keyPlace(ondisk.BtreeExtents, kv.Pos)
			if kv.Type == ondisk.KeyReflinkV {
				w.Btree = int(ondisk.BtreeReflink)
			}
			w.Dev, w.Sector = int(p.Dev), int64(p.Offset)
			return members.ChecksumError(w, "data checksum", t, p.Crc.Csum, got)
		}
	}
	r.set.Decrypt(t, n, b)
	return nil
}

// decode turns a raw blob into its data. It takes over raw; the result belongs
// to the caller.
func (r *Reader) decode(raw *[]byte, kv ondisk.KV, p *ondisk.ExtentPtr) (*[]byte, error) {
	if err := r.verify(*raw, kv, p); err != nil {
		r.bufs.put(raw)
		return nil, err
	}
	if !p.Crc.Compression.Compressed() {
		return raw, nil
	}
	size := int(p.Crc.UncompressedSize) * 512
	if size > r.maxBlob {
		r.bufs.put(raw)
		return nil, errs.Corruptf("data_decompress_err_exceeded_max_encoded_extent", "%d bytes", size)
	}
	out := r.bufs.get(size)
	err := compress.Decompress(uint8(p.Crc.Compression), *out, *raw)
	r.bufs.put(raw)
	if err != nil {
		r.bufs.put(out)
		w := keyPlace(ondisk.BtreeExtents, kv.Pos)
		w.Dev, w.Sector = int(p.Dev), int64(p.Offset)
		return nil, errs.At(err, w)
	}
	return out, nil
}

// group puts neighbors together that one device read can serve: whole plain
// blobs that follow each other both in the file and on their member.
func (r *Reader) group(segs []segment) [][]segment {
	var out [][]segment
	for i := 0; i < len(segs); {
		j := i + 1
		if p := r.runPtr(&segs[i]); p != nil {
			for j < len(segs) {
				q := r.runPtr(&segs[j])
				if q == nil || q.Dev != p.Dev || q.Offset != p.Offset+uint64(len(segs[j-1].dst)/512) {
					break
				}
				p = q
				j++
			}
		}
		out = append(out, segs[i:j])
		i = j
	}
	return out
}

// runPtr is the pointer a segment of a run would be read from, nil if it cannot
// be part of one.
func (r *Reader) runPtr(s *segment) *ondisk.ExtentPtr {
	if s.kind != segExtent {
		return nil
	}
	for i := range s.ext.Ptrs {
		p := &s.ext.Ptrs[i]
		if !p.Cached && r.set.Online(p.Dev) && encoded(p.Crc) && r.direct(s, p) {
			return p
		}
	}
	return nil
}

// readRun reads the segments of a run with one device read into their place and
// verifies each. It reports false when anything is wrong; the caller then goes
// the long way.
func (r *Reader) readRun(f File, segs []segment) bool {
	total := 0
	for i := range segs {
		total += len(segs[i].dst)
	}
	dst := segs[0].dst[:total] // they are neighbors in the caller's buffer
	p := r.runPtr(&segs[0])
	if err := r.set.ReadSectors(p.Dev, p.Offset, dst); err != nil {
		return false
	}
	for i := range segs {
		if err := r.verify(segs[i].dst, segs[i].kv, r.runPtr(&segs[i])); err != nil {
			return false
		}
	}
	return true
}

// blobCache keeps the last decoded blobs, for readers that take them in small
// pieces. Few slots, each with its own lock; buffers are reused, not collected.
type blobCache struct{ slots [32]blobSlot }

type blobSlot struct {
	mu  sync.RWMutex
	key blobKey
	buf *[]byte
}

// blobKey identifies a stored blob.
type blobKey struct {
	dev, gen uint8
	offset   uint64
	csize    uint32
	csum     ondisk.Csum
}

func (c *blobCache) slot(k blobKey) *blobSlot {
	return &c.slots[(k.offset*0x9e3779b97f4a7c15)>>59]
}

// copy fills dst from a cached blob, from a byte offset on.
func (c *blobCache) copy(k blobKey, dst []byte, from int) bool {
	s := c.slot(k)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.buf == nil || s.key != k || from+len(dst) > len(*s.buf) {
		return false
	}
	copy(dst, (*s.buf)[from:])
	return true
}

// put stores a blob and gives back the one it displaces, or the blob itself when
// the slot is in use.
func (c *blobCache) put(k blobKey, b *[]byte) *[]byte {
	s := c.slot(k)
	if !s.mu.TryLock() {
		return b
	}
	defer s.mu.Unlock()
	old := s.buf
	s.key, s.buf = k, b
	return old
}
