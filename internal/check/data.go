package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/compress"
	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// With Options.Data the bytes of files are verified, too: every copy of every
// extent and every block of every stripe, in the order of the members' sectors.
// What is to be read is collected as far as the memory allows, sorted, and read in
// long stretches.

// blob is a piece of a member to verify.
type blob struct {
	sector  uint64
	pos     ondisk.Pos // of the key
	csum    ondisk.Csum
	version ondisk.Bversion
	n       uint32 // sectors
	usize   uint32 // uncompressed sectors
	nonce   uint32
	dev     uint8
	btree   uint8 // of the key
	csumT   ondisk.CsumType
	comp    ondisk.CompressionType
	copies  uint8 // of the key's data that can be used
	block   uint8 // of a stripe
	flags   uint8
}

// Flags of a blob.
const (
	blobCached   = 1 << 0
	blobStripe   = 1 << 1 // a part of a block of a stripe
	blobInStripe = 1 << 2 // its block can be computed from others
)

func (a *blob) compare(b *blob) int {
	return cmp.Or(cmp.Compare(a.dev, b.dev), cmp.Compare(a.sector, b.sector), cmp.Compare(a.n, b.n), cmp.Compare(a.btree, b.btree), a.pos.Compare(b.pos))
}

// same: verifying one of them is verifying both.
func (a *blob) same(b *blob) bool {
	return a.dev == b.dev && a.sector == b.sector && a.n == b.n && a.csum == b.csum && a.csumT == b.csumT && a.comp == b.comp && a.usize == b.usize && a.nonce == b.nonce && a.version == b.version
}

func (b *blob) where() errs.Where {
	w := leafAt(ondisk.BtreeID(b.btree), b.pos)
	w.Dev, w.Sector = int(b.dev), int64(b.sector)
	return w
}

// blobBytes is the memory of a blob, for the budget.
const blobBytes = 112

// stretchBytes is about how much is read at once.
const stretchBytes = 1 << 20

// checkData verifies the data.
func (c *checker) checkData(ctx context.Context) error {
	c.stage("data")
	for p, n := range c.acc.m {
		if p.Type == ondisk.AccReplicas && p.DataType != ondisk.DataBtree && p.DataType != ondisk.DataJournal && p.DataType != ondisk.DataSB {
			c.prog.data.Add(n[0] * 512)
		}
	}
	budget := int(max(c.opts.Memory/4/blobBytes, 1<<10))
	for _, b := range []ondisk.BtreeID{ondisk.BtreeExtents, ondisk.BtreeReflink, ondisk.BtreeStripes} {
		refs := c.leavesIn(b, ondisk.PosMin, ondisk.SPosMax)
		var list []blob
		for len(refs) > 0 {
			n := min(len(refs), batchNodes*c.workers)
			parts := make([][]blob, (n+batchNodes-1)/batchNodes)
			t := c.tasks(ctx)
			for i := range parts {
				piece := refs[i*batchNodes : min((i+1)*batchNodes, n)]
				t.do(func(ctx context.Context) error {
					return c.inBatches(ctx, piece, func(*nodeRef) bool { return false }, func(n *node) {
						for k := range n.keys {
							parts[i] = c.blobs(parts[i], b, &n.keys[k])
						}
					})
				})
			}
			if err := t.wait(); err != nil {
				return err
			}
			refs = refs[n:]
			for _, p := range parts {
				list = append(list, p...)
			}
			if len(list) >= budget || len(refs) == 0 {
				if err := c.verify(ctx, list); err != nil {
					return err
				}
				list = list[:0]
			}
		}
	}
	return nil
}

// blobs appends what a key says is on the members.
func (c *checker) blobs(out []blob, b ondisk.BtreeID, kv *ondisk.KV) []blob {
	switch kv.Type {
	case ondisk.KeyStripe:
		return c.stripeBlobs(out, kv)
	case ondisk.KeyExtent, ondisk.KeyReflinkV:
	default:
		return out
	}
	val := kv.Val
	if kv.Type == ondisk.KeyReflinkV {
		var err error
		if _, val, err = ondisk.DecodeReflinkV(val); err != nil {
			return out
		}
	}
	e, err := ondisk.DecodeExtent(val, kv.Size, c.set.ExtentTypes)
	if err != nil {
		return out
	}
	if e.Poisoned {
		c.badf("data_poisoned", leafAt(b, kv.Pos), "%d sectors were lost before: no copy was good", kv.Size)
	}
	first := len(out)
	copies := uint8(0)
	for i := range e.Ptrs {
		p := &e.Ptrs[i]
		if p.Unwritten || p.Dev == ondisk.InvalidDev || !c.set.Online(p.Dev) || !c.current(p.Dev, p.Offset, p.Gen) {
			continue
		}
		x := blob{dev: p.Dev, btree: uint8(b), sector: p.Offset, pos: kv.Pos, n: p.Crc.CompressedSize, usize: p.Crc.UncompressedSize, nonce: p.Crc.Nonce,
			csum: p.Crc.Csum, csumT: p.Crc.CsumType, comp: p.Crc.Compression, version: kv.Version}
		if !p.Crc.Encoded() {
			// Only what the key is about has to be there.
			x.sector, x.n, x.csum = p.Offset+uint64(p.Crc.Offset), kv.Size, ondisk.Csum{}
			if p.Crc.Kind == 0 {
				x.sector = p.Offset
			}
		}
		if p.Cached {
			x.flags |= blobCached
		} else {
			copies++
		}
		if p.HasStripe {
			x.flags |= blobInStripe
		}
		out = append(out, x)
	}
	for i := range out[first:] {
		out[first+i].copies = copies
	}
	return out
}

func (c *checker) stripeBlobs(out []blob, kv *ondisk.KV) []blob {
	s, err := ondisk.DecodeStripe(kv.Val)
	if err != nil || s.CsumType == ondisk.CsumNone {
		return out
	}
	cols := s.Columns()
	for i, p := range s.Ptrs {
		if p.Dev == ondisk.InvalidDev || !c.set.Online(p.Dev) || !c.current(p.Dev, p.Offset, p.Gen) {
			continue
		}
		for col := range cols {
			from := uint64(col) << s.CsumGranularityBits
			n := min(uint64(1)<<s.CsumGranularityBits, uint64(s.Sectors)-from)
			out = append(out, blob{dev: p.Dev, btree: uint8(ondisk.BtreeStripes), sector: p.Offset + from, pos: kv.Pos, n: uint32(n), usize: uint32(n),
				csum: s.BlockCsum(i, col), csumT: s.CsumType, block: uint8(i), flags: blobStripe, copies: 1})
		}
	}
	return out
}

// current: a pointer's bucket was not reused since.
func (c *checker) current(dev uint8, sector uint64, gen uint8) bool {
	g := c.geometry(dev)
	if g == nil || !g.valid(sector/g.size) {
		return false
	}
	return c.noAlloc || c.gens.at(g.base+sector/g.size) == gen
}

// verify reads and verifies what was collected.
func (c *checker) verify(ctx context.Context, list []blob) error {
	slices.SortFunc(list, func(a, b blob) int { return a.compare(&b) })
	list = slices.CompactFunc(list, func(a, b blob) bool { return a.same(&b) })
	v := &verifier{c: c}
	t := c.tasks(ctx)
	for from := 0; from < len(list); {
		to, end := from+1, list[from].sector+uint64(list[from].n)
		for to < len(list) && list[to].dev == list[from].dev && list[to].sector <= end+16 {
			e := max(end, list[to].sector+uint64(list[to].n))
			if (e-list[from].sector)*512 > stretchBytes {
				break
			}
			end = e
			to++
		}
		piece := list[from:to]
		t.do(func(ctx context.Context) error { return v.stretch(ctx, piece) })
		from = to
	}
	if err := t.wait(); err != nil {
		return err
	}
	v.report()
	return nil
}

// verifier keeps what was bad, until all copies of a key were read.
type verifier struct {
	c   *checker
	bad []badBlob // under c.accMu
}

type badBlob struct {
	blob
	name, want, got string
}

func (v *verifier) fail(b *blob, name, want, got string) {
	v.c.accMu.Lock()
	v.bad = append(v.bad, badBlob{*b, name, want, got})
	v.c.accMu.Unlock()
}

// stretch verifies blobs that stand together.
func (v *verifier) stretch(ctx context.Context, list []blob) error {
	c := v.c
	first := &list[0]
	end := first.sector
	for i := range list {
		end = max(end, list[i].sector+uint64(list[i].n))
	}
	buf := c.getStretch()
	defer c.stretches.Put(buf)
	if size := (end - first.sector) * 512; size > stretchBytes {
		// One extent alone.
		if first.csumT == ondisk.CsumNone && !first.comp.Compressed() {
			return v.plain(ctx, first, *buf)
		}
		b := make([]byte, size)
		buf = &b
	}
	raw := (*buf)[:(end-first.sector)*512]
	err := c.set.ReadSectors(first.dev, first.sector, raw)
	for i := range list {
		b := &list[i]
		if e := ctx.Err(); e != nil {
			return e
		}
		part := raw[(b.sector-first.sector)*512:][:uint64(b.n)*512]
		if err != nil {
			// One of them cannot be read, or some.
			if e := c.set.ReadSectors(b.dev, b.sector, part); e != nil {
				v.fail(b, "data_read_io_err", "", e.Error())
				continue
			}
		}
		v.blob(b, part)
		c.prog.bytes.Add(int64(b.n) * 512)
	}
	return nil
}

// plain reads data that has no checksum and may be long.
func (v *verifier) plain(ctx context.Context, b *blob, buf []byte) error {
	for at := uint64(0); at < uint64(b.n); at += uint64(len(buf) / 512) {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := buf[:min(uint64(len(buf)), (uint64(b.n)-at)*512)]
		if err := v.c.set.ReadSectors(b.dev, b.sector+at, part); err != nil {
			v.fail(b, "data_read_io_err", "", err.Error())
			return nil
		}
		v.c.prog.bytes.Add(int64(len(part)))
	}
	return nil
}

// blob verifies one piece that was read.
func (v *verifier) blob(b *blob, raw []byte) {
	c := v.c
	var nonce crypt.Nonce
	if b.flags&blobStripe == 0 {
		ct, size := uint8(0), uint32(0)
		if b.comp.Compressed() {
			ct, size = uint8(b.comp), b.usize
		}
		nonce = crypt.ExtentNonce(b.version.Hi, b.version.Lo, ct, size, b.nonce)
	}
	if b.csumT != ondisk.CsumNone {
		got, err := c.set.Sum(b.csumT, nonce, raw)
		if err != nil {
			v.fail(b, "data_read_csum_err", "a checksum type that can be computed", err.Error())
			return
		}
		if got != b.csum {
			v.fail(b, "data_read_csum_err", fmt.Sprintf("%s %x:%x", b.csumT, b.csum.Hi, b.csum.Lo), fmt.Sprintf("%x:%x", got.Hi, got.Lo))
			return
		}
	}
	if !b.comp.Compressed() {
		return
	}
	size := int(b.usize) * 512 // bounded by the width of crc entries
	if b.csumT.Encrypted() {
		// What overlaps it is not looked at yet.
		raw = slices.Clone(raw)
		c.set.Decrypt(b.csumT, nonce, raw)
	}
	buf := c.getStretch()
	defer c.stretches.Put(buf)
	out := *buf
	if size > len(out) {
		out = make([]byte, size)
	}
	if err := compress.Decompress(uint8(b.comp), out[:size], raw); err != nil {
		name := "data_decompress_err_unknown"
		if e := (*errs.Error)(nil); errors.As(err, &e) {
			name, err = e.Reason, errors.New(e.Got)
		}
		v.fail(b, name, "", err.Error())
	}
}

// report tells what was bad: whether another copy was good decides the name.
func (v *verifier) report() {
	slices.SortFunc(v.bad, func(a, b badBlob) int {
		return cmp.Or(cmp.Compare(a.btree, b.btree), a.pos.Compare(b.pos), a.blob.compare(&b.blob))
	})
	for i := 0; i < len(v.bad); {
		j, lost := i, uint8(0)
		for ; j < len(v.bad) && v.bad[j].btree == v.bad[i].btree && v.bad[j].pos == v.bad[i].pos; j++ {
			if v.bad[j].flags&blobCached == 0 {
				lost++
			}
		}
		for k := i; k < j; k++ {
			x := &v.bad[k]
			name, got := x.name, x.got
			switch {
			case x.flags&blobStripe != 0:
				name, got = "stripe_data_bad", fmt.Sprintf("%s (block %d of the stripe)", got, x.block)
			case x.name != "data_read_csum_err" && x.name != "data_read_io_err":
			case x.flags&blobCached != 0, lost < x.copies:
				name += "_recovered"
			case x.flags&blobInStripe != 0:
				got += " (its stripe may give it back)"
			}
			v.c.bad(name, x.where(), x.want, got)
		}
		i = j
	}
}

func (c *checker) getStretch() *[]byte {
	if b, ok := c.stretches.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, stretchBytes)
	return &b
}
