package data

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/block/blocktest"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/internal/raidpq"
	"github.com/gobcachefs/gobcachefs/internal/testvol/build"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// striped is a volume with a file in a stripe of 4 data blocks and parity. The
// trees are on member 0, which holds no block.
type striped struct {
	*build.Volume
	st     ondisk.Stripe
	blocks [][]byte
	want   []byte
}

// newStriped makes it: every block holds extents of different kinds. gran is
// log2 of the sectors that a checksum of the stripe covers.
func newStriped(parity int, csum ondisk.CsumType, gran uint8) *striped {
	const nrData, sectors = 4, 64
	s := &striped{Volume: build.New(build.Config{Members: 1 + nrData + parity, Version: ondisk.Version1_39, Key: &crypt.Key{9}})}
	s.st = ondisk.Stripe{Sectors: sectors, NrBlocks: uint8(nrData + parity), NrRedundant: uint8(parity), CsumType: csum, CsumGranularityBits: gran, Live: make([]uint16, nrData+parity)}
	for i := range nrData + parity {
		s.blocks = append(s.blocks, make([]byte, sectors*512))
		p := s.Store(s.blocks[i], uint8(1+i))[0] // a whole bucket
		s.st.Ptrs = append(s.st.Ptrs, p)
	}
	encs := []build.Enc{{}, {Csum: ondisk.CsumCRC32C}, {Csum: ondisk.CsumXXHash, Compression: ondisk.CompressionZstd}, {Csum: ondisk.CsumPoly1305_80, Version: ondisk.Bversion{Lo: 5}}, {Kind: 64}}
	at := uint64(0)
	for i := range nrData {
		used := uint64(0)
		for j := 0; used+11 <= sectors; j++ {
			n := 11
			data := text(n*512, byte(10*i+j))
			stored, crc, has := s.Encode(data, encs[(i+j)%len(encs)])
			e := encs[(i+j)%len(encs)]
			var val []byte
			if has {
				crc.Kind = e.Kind
				val = crc.Append(val)
			}
			val = ondisk.StripePtr{Block: uint8(i), Redundancy: uint8(parity), Index: 3}.Append(val)
			p := s.st.Ptrs[i]
			copy(s.blocks[i][used*512:], stored)
			p.Offset += used
			val = p.Append(val)
			s.Add(ondisk.BtreeExtents, build.ExtentKey(ondisk.KeyExtent, inum, at+uint64(n), uint32(n), e.Version, val))
			s.want = append(s.want, data...)
			at += uint64(n)
			used += uint64(len(stored) / 512)
		}
	}
	if err := raidpq.Encode(s.blocks, nrData); err != nil {
		panic(err)
	}
	for _, b := range s.blocks {
		for c := range s.st.Columns() {
			lo := c << gran * 512
			sum, _, err := crypt.Sum(uint8(csum), nil, crypt.Nonce{}, b[lo:min(len(b), lo+512<<gran)])
			if err != nil {
				panic(err)
			}
			if csum != ondisk.CsumNone {
				s.st.Csums = append(s.st.Csums, ondisk.Csum{Lo: sum})
			}
		}
	}
	for i, b := range s.blocks {
		if _, err := s.Dev[1+i].WriteAt(b, int64(s.st.Ptrs[i].Offset)*512); err != nil {
			panic(err)
		}
	}
	return s
}

func (s *striped) devices() []block.Reader {
	s.Add(ondisk.BtreeStripes, build.Key(ondisk.KeyStripe, 0, 3, 0, s.st.Append(nil)))
	return s.Devices()
}

// corrupt flips a bit in every fourth sector of a block.
func (s *striped) corrupt(devs []block.Reader, i int) {
	f := blocktest.NewFault(devs[1+i])
	for off := int64(0); off < int64(s.st.Sectors)*512; off += 2048 {
		f.Add(blocktest.Flip(int64(s.st.Ptrs[i].Offset)*512+off, 1, 1))
	}
	devs[1+i] = f
}

// TestStripes reads a file with members gone and blocks corrupt: as many as
// there is parity for are made up, one more is an error.
func TestStripes(t *testing.T) {
	for _, parity := range []int{1, 2} {
		for _, gran := range []uint8{2, 3, 9} {
			t.Run(fmt.Sprintf("4+%d, checksums of %d sectors", parity, 1<<gran), func(t *testing.T) {
				t.Parallel()
				s := newStriped(parity, ondisk.CsumCRC32C, gran)
				all := s.devices()
				n := len(s.blocks)
				rnd := rand.New(rand.NewPCG(uint64(parity), uint64(gran)))
				try := func(gone, bad []int) {
					var devs []block.Reader
					devs = append(devs, all...)
					for _, i := range bad {
						s.corrupt(devs, i)
					}
					left := devs[:1:1]
					for i := range n {
						lost := false
						for _, g := range gone {
							lost = lost || g == i
						}
						if !lost {
							left = append(left, devs[1+i])
						}
					}
					r := reader(t, left, func(error) {})
					if len(gone) <= parity && len(bad) == 0 {
						checkReads(t, r, file(len(s.want)), s.want, rnd, 8)
						return
					}
					// Right or an error, never wrong.
					failed := 0
					for off := 0; off < len(s.want); off += 512 {
						p := make([]byte, 512)
						k, err := r.ReadAt(ctx, file(len(s.want)), p, int64(off))
						if !bytes.Equal(p[:k], s.want[off:off+k]) && !unsummed(s, off, bad) {
							t.Fatalf("gone %v, bad %v: wrong bytes at %d", gone, bad, off)
						}
						if err != nil {
							failed++
						}
					}
					if covered := len(gone)+len(bad) <= parity; covered != (failed == 0) {
						t.Errorf("gone %v, bad %v: %d reads failed", gone, bad, failed)
					}
				}
				try(nil, nil)
				for i := range n {
					try([]int{i}, nil)
					for j := range n {
						if i == j {
							continue
						}
						if parity == 2 {
							try([]int{i}, []int{j})
						} else if i < 2 && j < 2 {
							try([]int{i}, []int{j})
						}
						if i < j && (parity == 2 || i == 0) {
							try([]int{i, j}, nil)
						}
					}
				}
				try([]int{0, 1, 2}, nil)
				try([]int{0, 4}, []int{1, 2})
			})
		}
	}
}

// unsummed: the sector belongs to an extent without checksum in a block that is
// corrupt: nothing protects it when it is read directly.
func unsummed(s *striped, off int, bad []int) bool {
	for _, kv := range s.Keys(ondisk.BtreeExtents) {
		if uint64(off/512) >= kv.Pos.Offset || uint64(off/512) < kv.Start().Offset {
			continue
		}
		x, err := ondisk.DecodeExtent(kv.Val, kv.Size, nil)
		if err != nil {
			return false
		}
		for _, b := range bad {
			if int(x.Ptrs[0].Stripe.Block) == b {
				return x.Ptrs[0].Crc.CsumType == ondisk.CsumNone
			}
		}
	}
	return false
}

// TestHostileStripes: stripe keys that make no sense are errors, and take no
// memory for what they claim.
func TestHostileStripes(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(st *ondisk.Stripe)
		says   string
	}{
		{"no sectors", func(st *ondisk.Stripe) { st.Sectors = 0 }, "stripe_sectors_zero"},
		{"granularity 2^40", func(st *ondisk.Stripe) { st.CsumGranularityBits, st.CsumType, st.Csums = 40, 0, nil }, "stripe_csum_granularity_bad"},
		{"parity only", func(st *ondisk.Stripe) { st.NrRedundant = 5 }, "ptr_to_incorrect_stripe"},
		{"more parity than blocks", func(st *ondisk.Stripe) { st.NrRedundant = 9 }, "stripe_val_size_bad"},
		{"three parity blocks", func(st *ondisk.Stripe) { st.NrRedundant = 3 }, ""},
		{"no parity", func(st *ondisk.Stripe) { st.NrRedundant = 0 }, "stripe reconstruction"},
		{"another generation", func(st *ondisk.Stripe) { st.Ptrs[0].Gen = 9 }, "ptr_to_incorrect_stripe"},
		{"another place", func(st *ondisk.Stripe) { st.Ptrs[0].Offset += 512 }, "ptr_to_incorrect_stripe"},
		{"two blocks on one member", func(st *ondisk.Stripe) { st.Ptrs[2] = st.Ptrs[3] }, "ptr_to_duplicate_device"},
		{"blocks of 32 MiB that are not there", func(st *ondisk.Stripe) {
			st.Sectors, st.CsumType, st.Csums, st.CsumGranularityBits = 65535, 0, nil, 30
		}, "stripe reconstruction"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStriped(1, ondisk.CsumCRC32C, 9)
			c.change(&s.st)
			devs := s.devices()
			devs = append(devs[:1:1], devs[2:]...) // without block 0
			r := reader(t, devs, func(error) {})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			n, err := r.ReadAt(ctx, file(len(s.want)), make([]byte, 512), 0)
			runtime.ReadMemStats(&after)
			if err == nil || n != 0 || !strings.Contains(err.Error(), c.says) || !errors.Is(err, errs.ErrIO) && !errors.Is(err, errs.ErrCorrupt) {
				t.Errorf("ReadAt = %d, %v, want an error with %q", n, err, c.says)
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > 16<<20 {
				t.Errorf("%d bytes allocated for a block of 32 KiB", got)
			}
		})
	}
}
