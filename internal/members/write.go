package members

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// WriteSet is a Set opened to write. Writes to the devices are not ordered until
// Flush; the superblock has one writer, Update.
type WriteSet struct {
	*Set
	w     []block.Writer // by member index, nil when missing
	dirty []atomic.Bool  // written since the last flush

	mu  sync.Mutex // superblock
	cur atomic.Pointer[ondisk.Superblock]
	now func() time.Time
}

// NewWriteSet makes an assembled set writable. Every member that is here must be
// a block.Writer: errs.ErrReadOnly else.
func NewWriteSet(s *Set, now func() time.Time) (*WriteSet, error) {
	ws := &WriteSet{Set: s, w: make([]block.Writer, len(s.Devs)), dirty: make([]atomic.Bool, len(s.Devs)), now: now}
	if ws.now == nil {
		ws.now = time.Now
	}
	for i, d := range s.Devs {
		if !d.Online() {
			continue
		}
		w, ok := d.R.(block.Writer)
		if !ok {
			return nil, &errs.Error{Where: errs.Where{Path: d.R.Info().Name, Dev: i, Sector: -1, Btree: -1, Level: -1}, Kind: errs.ErrReadOnly, Reason: "device is opened to read"}
		}
		ws.w[i] = w
	}
	ws.cur.Store(s.SB.Clone())
	return ws, nil
}

// Current is the superblock as last written. It must not be changed.
func (s *WriteSet) Current() *ondisk.Superblock { return s.cur.Load() }

// Now is the time that is written.
func (s *WriteSet) Now() time.Time { return s.now() }

// WriteSectors writes p (whole sectors) to a member.
func (s *WriteSet) WriteSectors(dev uint8, sector uint64, p []byte) error {
	w := errs.Where{Dev: int(dev), Sector: int64(sector), Btree: -1, Level: -1}
	if int(dev) >= len(s.w) || s.w[dev] == nil {
		return &errs.Error{Where: w, Kind: errs.ErrMissingDevice, Reason: "member is not here", Cause: errs.ErrIO}
	}
	if size := uint64(s.w[dev].Size()); sector > size/512 || uint64(len(p)) > size-sector*512 {
		return &errs.Error{Where: w, Kind: errs.ErrIO, Reason: "write past the end of the device"}
	}
	s.dirty[dev].Store(true)
	n, err := s.w[dev].WriteAt(p, int64(sector)*512)
	if err != nil || n != len(p) {
		if err == nil {
			err = errors.New("short write")
		}
		return &errs.Error{Where: w, Kind: errs.ErrIO, Reason: "device write", Cause: err}
	}
	return nil
}

// Flush makes everything written so far durable on every member.
func (s *WriteSet) Flush(ctx context.Context) error {
	var g errgroup.Group
	for i := range s.w {
		if s.w[i] == nil || !s.dirty[i].Swap(false) {
			continue
		}
		g.Go(func() error {
			if err := s.w[i].Flush(ctx); err != nil {
				s.dirty[i].Store(true)
				return &errs.Error{Where: errs.Where{Dev: i, Sector: -1, Btree: -1, Level: -1}, Kind: errs.ErrIO, Reason: "device flush", Cause: err}
			}
			return nil
		})
	}
	return g.Wait()
}

// Discard tells a member that sectors hold nothing any more.
func (s *WriteSet) Discard(ctx context.Context, dev uint8, sector, n uint64) error {
	return s.w[dev].Discard(ctx, int64(sector)*512, int64(n)*512)
}

// Encrypt encrypts p in place if t is an encrypted checksum type.
func (s *Set) Encrypt(t ondisk.CsumType, n crypt.Nonce, p []byte) { s.Decrypt(t, n, p) }

// Update changes the superblock and writes it to all members (chapter 01 section
// 6). change gets a copy to work on; if it fails, or leaves nothing to do by
// returning ErrUnchanged, nothing is written. A member whose copy on disk is not
// the one last read or written makes Update fail: somebody else uses the volume.
func (s *WriteSet) Update(ctx context.Context, change func(sb *ondisk.Superblock) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx) // half of it would be worse than all or nothing
	sb := s.cur.Load().Clone()
	if err := change(sb); err != nil {
		if errors.Is(err, ErrUnchanged) {
			return nil
		}
		return err
	}
	sb.Magic, sb.Layout.Magic = ondisk.SBMagic, ondisk.SBMagic
	sb.Seq++
	sb.WriteTime = uint64(s.now().Unix())
	sb.SetCsumType(sb.MetadataChecksum().MetaType())
	ms, err := sb.Members()
	if err != nil {
		return err
	}
	for i := range ms {
		if s.w[i] != nil {
			ms[i].Seq = sb.Seq
		}
	}
	if err := sb.SetMembers(ms, sb.MemberStride()); err != nil {
		return err
	}
	own := make([]*ondisk.Superblock, len(s.w))
	for i, d := range s.Devs {
		if s.w[i] == nil {
			continue
		}
		if own[i], err = s.forDevice(sb, d); err != nil {
			return err
		}
	}
	if err := s.writeCopies(ctx, own); err != nil {
		return err
	}
	for i, d := range s.Devs {
		if own[i] != nil {
			d.SB = own[i]
			d.Member = ms[i]
		}
	}
	s.cur.Store(sb)
	return nil
}

// ErrUnchanged is what a change given to Update returns when there is nothing
// to write.
var ErrUnchanged = errors.New("unchanged")

// forDevice is the superblock of one member: its own index, layout and journal,
// everything else common.
func (s *WriteSet) forDevice(sb *ondisk.Superblock, d *Device) (*ondisk.Superblock, error) {
	o := sb.Clone()
	o.DevIdx, o.Layout = uint8(d.Index), d.SB.Layout
	o.Layout.Magic = ondisk.SBMagic
	for _, t := range []ondisk.SBFieldType{ondisk.FieldJournal, ondisk.FieldJournalV2} {
		o.SetField(t, d.SB.Field(t))
	}
	if size, room := o.Bytes(), 512<<o.Layout.MaxSizeBits; size > room {
		return nil, &errs.Error{Where: errs.Where{Dev: d.Index, Sector: -1, Btree: -1, Level: -1}, Kind: errs.ErrUnsupported, Reason: "superblock too big for its place", Want: fmt.Sprintf("at most %d bytes", room), Got: fmt.Sprint(size)}
	}
	if len(o.Layout.Offsets) == 0 {
		return nil, errs.Corruptf("sb_layout", "no copies")
	}
	return o, nil
}

// writeCopies writes copy 0 of all members, then copy 1, and so on, so that at
// any time at most one copy a member is torn.
func (s *WriteSet) writeCopies(ctx context.Context, own []*ondisk.Superblock) error {
	most := 0
	for i, o := range own {
		if o == nil {
			continue
		}
		most = max(most, len(o.Layout.Offsets))
		if old, err := decodeAt(s.w[i], o.Layout.Offsets[0]); err == nil && old.Seq != s.Devs[i].SB.Seq {
			return &errs.Error{Where: errs.Where{Path: s.w[i].Info().Name, Dev: i, Sector: int64(o.Layout.Offsets[0]), Btree: -1, Level: -1}, Kind: errs.ErrBusy,
				Reason: "superblock changed by another process", Want: fmt.Sprintf("seq %d", s.Devs[i].SB.Seq), Got: fmt.Sprint(old.Seq)}
		}
	}
	if err := s.Flush(ctx); err != nil {
		return err
	}
	written := make([]bool, len(own))
	// A member that cannot flush gets no more: each further copy would be torn, too.
	dead := make([]bool, len(own))
	var fails []error
	for c := range most {
		var g errgroup.Group
		var mu sync.Mutex
		for i, o := range own {
			if o == nil || c >= len(o.Layout.Offsets) || dead[i] {
				continue
			}
			g.Go(func() error {
				x := o.Clone()
				x.Offset = o.Layout.Offsets[c]
				b := x.Append(nil)
				b = append(b, make([]byte, (4096-len(b)%4096)%4096)...)
				if room := int64(512) << o.Layout.MaxSizeBits; int64(len(b)) > room {
					b = b[:room]
				}
				// The first sector, which has the sequence number, comes last: 6.12 does
				// not mount where a torn copy has a newer number than the good ones.
				flush := func() error {
					err := s.w[i].Flush(ctx)
					dead[i] = err != nil
					return err
				}
				err := s.WriteSectors(uint8(i), x.Offset+1, b[512:])
				if err == nil {
					err = flush()
				}
				if err == nil {
					err = s.WriteSectors(uint8(i), x.Offset, b[:512])
				}
				if err == nil {
					err = flush()
				}
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					fails = append(fails, err)
				} else {
					written[i] = true
				}
				return nil
			})
		}
		_ = g.Wait()
	}
	for i, o := range own {
		if o != nil && !written[i] {
			return fmt.Errorf("superblock of member %d not written: %w", i, errors.Join(fails...))
		}
	}
	for _, err := range fails {
		s.Warn(err)
	}
	return nil
}
