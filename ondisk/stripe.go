package ondisk

import (
	"encoding/binary"

	"github.com/gobcachefs/gobcachefs/errs"
)

// Stripe is the value of a stripe key: blocks on different devices of which the
// last NrRedundant hold parity of the others (chapter 05 section 15).
type Stripe struct {
	Sectors             uint16 // of one block
	Algorithm           uint8  // 0: P and Q
	NeedsReconcile      bool   // (1.37)
	CanWiden            uint8  // 3 bits, tools of 1.38 on
	NrBlocks            uint8  // data and parity
	NrRedundant         uint8
	CsumGranularityBits uint8 // log2 of the sectors that one checksum covers
	CsumType            CsumType
	DiskLabel           uint8 // group index + 1, 0 none

	Ptrs []Ptr // one per block, data blocks first
	// Csums are the checksums of the raw bytes: Columns of them for each block,
	// block by block. Nil without checksums.
	Csums []Csum
	// Live is the number of sectors that extents use of each block; 0 for parity.
	Live []uint16
}

const stripeHeader = 8

// Columns is the number of checksums of a block.
func (s *Stripe) Columns() int {
	if s.CsumGranularityBits > 31 {
		return 0
	}
	g := uint64(1) << s.CsumGranularityBits
	return int((uint64(s.Sectors) + g - 1) / g)
}

// BlockCsum is checksum number col of a block, zero when there is none.
func (s *Stripe) BlockCsum(block, col int) Csum {
	if n := s.Columns(); block >= 0 && col >= 0 && col < n && block*n+col < len(s.Csums) {
		return s.Csums[block*n+col]
	}
	return Csum{}
}

// BlockSectors is the number of sectors of a block that extents use.
func (s *Stripe) BlockSectors(block int) uint16 {
	if block >= 0 && block < len(s.Live) {
		return s.Live[block]
	}
	return 0
}

// NrData is the number of data blocks.
func (s *Stripe) NrData() int { return int(s.NrBlocks) - int(s.NrRedundant) }

// size is the bytes that the value needs at least.
func (s *Stripe) size() int {
	return stripeHeader + int(s.NrBlocks)*(8+s.Columns()*s.CsumType.Bytes()+2)
}

// DecodeStripe reads the value of a stripe key. Unknown checksum types are
// refused, as the size of the value depends on them.
func DecodeStripe(val []byte) (Stripe, error) {
	var s Stripe
	if len(val) < stripeHeader {
		return s, errs.Corruptf("bkey_val_size_too_small", "stripe of %d bytes", len(val))
	}
	le := binary.LittleEndian
	s = Stripe{
		Sectors: le.Uint16(val), Algorithm: val[2] & 15, NeedsReconcile: val[2]&16 != 0, CanWiden: val[2] >> 5,
		NrBlocks: val[3], NrRedundant: val[4], CsumGranularityBits: val[5], CsumType: CsumType(val[6]), DiskLabel: val[7],
	}
	switch {
	case s.Sectors == 0:
		return s, errs.Corruptf("stripe_sectors_zero", "0")
	case s.CsumGranularityBits >= 31:
		return s, errs.Corruptf("stripe_csum_granularity_bad", "2^%d sectors", s.CsumGranularityBits)
	case s.CsumType >= NrCsumTypes:
		return s, errs.Corruptf("stripe_val_size_bad", "checksum type %d", s.CsumType)
	case s.NrRedundant > s.NrBlocks:
		return s, errs.Corruptf("stripe_val_size_bad", "%d parity blocks of %d", s.NrRedundant, s.NrBlocks)
	case s.size() > len(val):
		return s, errs.Corruptf("stripe_val_size_bad", "%d bytes, needs %d", len(val), s.size())
	}
	n, v := int(s.NrBlocks), val[stripeHeader:]
	s.Ptrs = make([]Ptr, n)
	for i := range s.Ptrs {
		s.Ptrs[i] = decodePtr(le.Uint64(v[8*i:]))
	}
	v = v[8*n:]
	if w := s.CsumType.Bytes(); w > 0 {
		s.Csums = make([]Csum, n*s.Columns())
		for i := range s.Csums {
			var c [16]byte
			copy(c[:w], v)
			s.Csums[i] = DecodeCsum(c[:])
			v = v[w:]
		}
	}
	s.Live = make([]uint16, n)
	for i := range s.Live {
		s.Live[i] = le.Uint16(v[2*i:])
	}
	return s, nil
}

// Append adds the value to b; len(b) should be a multiple of 8. Ptrs, Csums and
// Live must have the lengths that NrBlocks and Columns say.
func (s *Stripe) Append(b []byte) []byte {
	le := binary.LittleEndian
	start := len(b)
	alg := s.Algorithm&15 | s.CanWiden<<5
	if s.NeedsReconcile {
		alg |= 16
	}
	b = le.AppendUint16(b, s.Sectors)
	b = append(b, alg, s.NrBlocks, s.NrRedundant, s.CsumGranularityBits, byte(s.CsumType), s.DiskLabel)
	for _, p := range s.Ptrs {
		b = p.Append(b)
	}
	for _, c := range s.Csums {
		b = c.Append(b)
		b = b[:len(b)-16+s.CsumType.Bytes()]
	}
	for _, n := range s.Live {
		b = le.AppendUint16(b, n)
	}
	return pad8(b, start)
}

// Matches reports whether an extent's pointer with its stripe entry is part of
// this stripe (chapter 05 section 15.3).
func (s *Stripe) Matches(p ExtentPtr) bool {
	i := int(p.Stripe.Block)
	if !p.HasStripe || i >= s.NrData() || i >= len(s.Ptrs) {
		return false
	}
	q := s.Ptrs[i]
	return p.Gen == q.Gen && (p.Dev == q.Dev || p.Dev == InvalidDev || q.Dev == InvalidDev) &&
		p.Offset >= q.Offset && p.Offset-q.Offset < uint64(s.Sectors)
}
