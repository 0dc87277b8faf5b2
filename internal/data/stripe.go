package data

import (
	"context"
	"errors"
	"fmt"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/internal/raidpq"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// reconstruct fills s.dst from the stripe of a pointer whose own member is gone
// or whose copy is bad (chapter 05 section 15.4).
func (r *Reader) reconstruct(ctx context.Context, s *segment, p *ondisk.ExtentPtr) error {
	st, err := r.stripe(ctx, p)
	if err != nil {
		return err
	}
	b := int(p.Stripe.Block)
	// The sectors of the blob inside its block.
	base := st.Ptrs[b].Offset
	from := p.Offset - base
	length := uint64(p.Crc.CompressedSize)
	if !encoded(p.Crc) {
		if from, length = from+uint64(p.Crc.Offset)+s.off/512, (s.off%512+uint64(len(s.dst))+511)/512; p.Crc.Kind == 0 {
			from = p.Offset - base + s.off/512
		}
	}
	if p.Offset < base || from+length > uint64(st.Sectors) {
		return r.stripeErr(p, "ptr_to_incorrect_stripe", fmt.Sprintf("sectors %d+%d of a block of %d", from, length, st.Sectors))
	}
	raw, err := r.rebuild(st, b, from, length)
	if err != nil {
		return err
	}
	if !encoded(p.Crc) {
		copy(s.dst, (*raw)[s.off%512:])
		r.bufs.put(raw)
		return nil
	}
	return r.deliver(s, p, raw, blobKey{p.Dev, p.Gen, p.Offset, p.Crc.CompressedSize, p.Crc.Csum})
}

func (r *Reader) stripeErr(p *ondisk.ExtentPtr, reason, got string) error {
	w := errs.Nowhere
	w.Btree, w.HasPos, w.Offset = int(ondisk.BtreeStripes), true, p.Stripe.Index
	return &errs.Error{Where: w, Kind: errs.ErrCorrupt, Reason: reason, Got: got, Cause: errs.ErrIO}
}

// stripe finds the stripe that a pointer belongs to and checks that both agree.
func (r *Reader) stripe(ctx context.Context, p *ondisk.ExtentPtr) (*ondisk.Stripe, error) {
	kv, found, err := r.trees.GetExact(ctx, ondisk.BtreeStripes, ondisk.Pos{Offset: p.Stripe.Index})
	if err != nil {
		return nil, err
	}
	if !found || kv.Type != ondisk.KeyStripe {
		return nil, r.stripeErr(p, "ptr_to_missing_stripe", "no stripe")
	}
	st, err := ondisk.DecodeStripe(kv.Val)
	if err != nil {
		return nil, errs.At(err, keyPlace(ondisk.BtreeStripes, kv.Pos))
	}
	var seen [ondisk.InvalidDev]bool
	for i, q := range st.Ptrs {
		if q.Dev == ondisk.InvalidDev {
			continue
		}
		if seen[q.Dev] {
			return nil, r.stripeErr(p, "ptr_to_duplicate_device", fmt.Sprintf("block %d on member %d, as another", i, q.Dev))
		}
		seen[q.Dev] = true
	}
	if !st.Matches(*p) {
		return nil, r.stripeErr(p, "ptr_to_incorrect_stripe", fmt.Sprintf("block %d of the stripe", p.Stripe.Block))
	}
	return &st, nil
}

// rebuild computes sectors [from, from+length) of a data block from the others.
// The range is widened to the granularity of the stripe's checksums so that each
// block read can be verified.
func (r *Reader) rebuild(st *ondisk.Stripe, block int, from, length uint64) (*[]byte, error) {
	gran := uint64(1) << st.CsumGranularityBits
	lo := from / gran * gran
	hi := min((from+length+gran-1)/gran*gran, uint64(st.Sectors))
	n := int(hi-lo) * 512
	blocks := make([][]byte, st.NrBlocks)
	var bufs []*[]byte
	defer func() {
		for _, b := range bufs {
			r.bufs.put(b)
		}
	}()
	var fails []error
	for i := range blocks {
		if i == block {
			continue
		}
		p := st.Ptrs[i]
		if p.Dev == ondisk.InvalidDev {
			fails = append(fails, fmt.Errorf("stripe block %d: member removed", i))
			continue
		}
		if ok, known := r.gens.Current(p.Dev, p.Offset, p.Gen); known && !ok {
			fails = append(fails, fmt.Errorf("stripe block %d: bucket reused", i))
			continue
		}
		// The size of the range is what the key claims: nothing is allocated for
		// what the device does not have, or kept of what is no good.
		err := r.set.InRange(p.Dev, p.Offset+lo, hi-lo)
		if err == nil {
			b := r.bufs.get(n)
			if err = r.set.ReadSectors(p.Dev, p.Offset+lo, *b); err == nil {
				err = r.checkBlock(st, i, lo, *b)
			}
			if err == nil {
				blocks[i], bufs = *b, append(bufs, b)
				continue
			}
			r.bufs.put(b)
		}
		fails = append(fails, fmt.Errorf("stripe block %d: %w", i, err))
	}
	if len(fails)+1 > int(st.NrRedundant) {
		return nil, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrIO, Reason: "stripe reconstruction", Want: fmt.Sprintf("at most %d blocks lost", st.NrRedundant), Got: fmt.Sprint(len(fails) + 1), Cause: errors.Join(fails...)}
	}
	if err := raidpq.Reconstruct(blocks, st.NrData()); err != nil {
		return nil, err
	}
	if err := r.checkBlock(st, block, lo, blocks[block]); err != nil {
		return nil, err
	}
	out := r.bufs.get(int(length) * 512)
	copy(*out, blocks[block][(from-lo)*512:])
	return out, nil
}

// checkBlock verifies part of a stripe block that starts at sector lo of it.
func (r *Reader) checkBlock(st *ondisk.Stripe, block int, lo uint64, b []byte) error {
	t := ondisk.CsumType(st.CsumType)
	if t == ondisk.CsumNone {
		return nil
	}
	gran := uint64(1) << st.CsumGranularityBits
	for col := lo / gran; len(b) > 0; col++ {
		part := b[:min(uint64(len(b)), gran*512)]
		got, err := r.set.Sum(t, [4]uint32{}, part)
		if err != nil {
			return err
		}
		if want := st.BlockCsum(block, int(col)); got != want {
			w := errs.Nowhere
			w.Dev, w.Sector = int(st.Ptrs[block].Dev), int64(st.Ptrs[block].Offset+col*gran)
			return members.ChecksumError(w, "stripe checksum", t, want, got)
		}
		b = b[len(part):]
	}
	return nil
}
