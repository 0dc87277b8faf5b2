package data

import (
	"context"
	"fmt"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/alloc"
	"github.com/gobcachefs/gobcachefs/internal/btree"
	"github.com/gobcachefs/gobcachefs/internal/compress"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// IOOptions say how new data is stored: those of the inode, else of the volume,
// with the corrections of chapter 05 section 7.
type IOOptions struct {
	Csum        ondisk.CsumType
	Compression uint8 // option byte: type | level << 4
	Background  uint8 // option byte that background work wants
	Replicas    int
	Target      uint16 // foreground
	BackTarget  uint16
	Nocow       bool
}

// OptionsOf works out the options for an inode; nil stands for the volume's.
func OptionsOf(sb *ondisk.Superblock, in *ondisk.Inode) IOOptions {
	val := func(id int, name string) uint64 {
		if in != nil {
			if v := in.Opt(id); v != 0 {
				return v - 1
			}
		}
		o, _ := ondisk.FindOption(name)
		return o.Effective(sb)
	}
	o := IOOptions{
		Csum:        ondisk.CsumOpt(val(ondisk.InodeOptDataChecksum, "data_checksum")).DataType(),
		Compression: uint8(val(ondisk.InodeOptCompression, "compression")),
		Background:  uint8(val(ondisk.InodeOptBackgroundCompression, "background_compression")),
		Replicas:    int(val(ondisk.InodeOptDataReplicas, "data_replicas")),
		Target:      uint16(val(ondisk.InodeOptForegroundTarget, "foreground_target")),
		BackTarget:  uint16(val(ondisk.InodeOptBackgroundTarget, "background_target")),
		Nocow:       val(ondisk.InodeOptNocow, "nocow") != 0,
	}
	if o.BackTarget == 0 {
		o.BackTarget = o.Target
	}
	if o.Background == 0 {
		o.Background = o.Compression
	}
	switch {
	case o.Nocow:
		o.Csum, o.Compression, o.Background = ondisk.CsumNone, 0, 0
	case sb.Encrypted() && sb.WideMacs():
		o.Csum = ondisk.CsumPoly1305_128
	case sb.Encrypted():
		o.Csum = ondisk.CsumPoly1305_80
	}
	return o
}

// compressionOf maps the option to the type stored with a blob.
func compressionOf(opt uint8) ondisk.CompressionType {
	switch opt & 15 {
	case 1:
		return ondisk.CompressionLZ4
	case 2:
		return ondisk.CompressionGzip
	case 3:
		return ondisk.CompressionZstd
	}
	return ondisk.CompressionNone
}

// Writer writes file data. Safe for concurrent use.
type Writer struct {
	*Reader
	ws    *members.WriteSet
	store *btree.Store
	block int // sectors
	max   int // sectors of an encoded blob
}

// NewWriter makes a writer.
func NewWriter(r *Reader, ws *members.WriteSet, store *btree.Store) *Writer {
	sb := ws.Current()
	w := &Writer{Reader: r, ws: ws, store: store, block: int(sb.BlockSize), max: sb.EncodedExtentMax()}
	for _, d := range ws.Devs {
		if d != nil && d.Member.BucketSize > 0 {
			// A compressed blob must lie in one bucket, on whichever member.
			w.max = min(w.max, int(d.Member.BucketSize))
		}
	}
	return w
}

// Block is the block size in bytes.
func (w *Writer) Block() int { return w.block * 512 }

// Extents is data that is on the devices but that no key refers to yet.
type Extents struct {
	Keys  []ondisk.KV // snapshot 0; ascending
	point *alloc.Point
	ptrs  [][]ondisk.Ptr
}

// NewExtents starts an empty collection of what is written through a point.
func NewExtents(point *alloc.Point) *Extents { return &Extents{point: point} }

// Done says that the keys were committed, or will not be.
func (x *Extents) Done() {
	for _, p := range x.ptrs {
		x.point.Done(p)
	}
	x.ptrs = nil
}

// Merge takes over the keys and places of another write through the same point.
func (x *Extents) Merge(y *Extents) {
	x.Keys = append(x.Keys, y.Keys...)
	x.ptrs = append(x.ptrs, y.ptrs...)
	y.Keys, y.ptrs = nil, nil
}

// Write stores p, whole blocks, that belong at a sector of a file, and gives the
// keys. It is durable with the next journal flush after they are committed.
func (w *Writer) Write(ctx context.Context, point *alloc.Point, o IOOptions, inum, sector uint64, p []byte) (*Extents, error) {
	x := NewExtents(point)
	if len(p)%w.Block() != 0 {
		return nil, fmt.Errorf("data: write of %d bytes", len(p))
	}
	for len(p) > 0 {
		c, n := w.Pack(o, sector, p)
		err := w.Place(ctx, x, c)
		if err == nil {
			_, err = w.Store(c)
		}
		if err != nil {
			w.Drop(c)
			x.Done()
			return nil, err
		}
		x.Keys = append(x.Keys, c.Keys(inum)...)
		p = p[n:]
		sector += uint64(n / 512)
	}
	return x, nil
}

// Piece is a run of whole blocks of a file on its way to the devices: Pack, then
// Place, then Store. Pack and Store cost time and may run for many pieces at
// once; what a volume looks like depends on the order of the calls of Place only.
type Piece struct {
	o      IOOptions
	sector uint64
	src    []byte  // as it is in the file
	packed *[]byte // compressed, nil when it is stored plain
	crc    ondisk.Crc
	blobs  []blob
}

// blob is what one key stands for.
type blob struct {
	from int // offset in the file's bytes
	buf  []byte
	crc  ondisk.Crc
	ver  ondisk.Bversion
	ptrs []ondisk.Ptr
	val  []byte
}

// Pack takes as much off the front of p as goes into one piece, compresses it if
// the options say so, and reports how much it took. p, whole blocks, must stay as
// it is until Store returns.
func (w *Writer) Pack(o IOOptions, sector uint64, p []byte) (*Piece, int) {
	ct := compressionOf(o.Compression)
	if o.Csum != ondisk.CsumNone || ct != ondisk.CompressionNone {
		p = p[:min(len(p), w.max*512)]
	} else {
		p = p[:min(len(p), 1<<20)]
	}
	c := &Piece{o: o, sector: sector, src: p, crc: ondisk.Crc{CsumType: o.Csum}}
	if ct == ondisk.CompressionNone {
		return c, len(p)
	}
	c.crc.Compression = ondisk.CompressionIncompressible
	if len(p) > w.Block() {
		b := w.bufs.get(len(p) - w.Block())
		n, ok := compress.Compress(uint8(ct), int(o.Compression>>4), *b, p)
		if !ok {
			w.bufs.put(b)
			return c, len(p)
		}
		*b = (*b)[:(n+w.Block()-1)/w.Block()*w.Block()]
		c.packed, c.crc.Compression = b, ct
	}
	return c, len(p)
}

// Place finds room for a piece. The error is ENOSPC when there is none.
func (w *Writer) Place(ctx context.Context, x *Extents, c *Piece) error {
	q := alloc.Request{Block: uint64(w.block), Replicas: c.o.Replicas, Target: c.o.Target}
	add := func(from, size int, buf []byte, whole bool) (int, error) {
		q.Sectors, q.Whole = uint64(len(buf)/512), whole
		ptrs, got, err := x.point.Alloc(ctx, q)
		if err != nil {
			return 0, err
		}
		x.ptrs = append(x.ptrs, ptrs)
		b := blob{from: from, buf: buf, crc: c.crc, ptrs: ptrs}
		if !whole {
			size = int(got * 512)
			b.buf = buf[:size]
		} else if got != q.Sectors {
			return 0, fmt.Errorf("data: %d sectors found for a blob of %d", got, q.Sectors)
		}
		b.crc.UncompressedSize, b.crc.CompressedSize = uint32(size/512), uint32(len(b.buf)/512)
		if c.o.Csum.Encrypted() {
			b.ver.Lo = w.store.NextKeyVersion()
		}
		w.store.AddClock(1, uint64(len(ptrs)*len(b.buf)/512))
		c.blobs = append(c.blobs, b)
		return size, nil
	}
	if c.packed != nil {
		_, err := add(0, len(c.src), *c.packed, true)
		return err
	}
	for at := 0; at < len(c.src); {
		n, err := add(at, len(c.src)-at, c.src[at:], false)
		if err != nil {
			return err
		}
		at += n
	}
	return nil
}

// Store sums, encrypts and writes a piece that has its place. lost is how many
// copies could not be written although others could.
func (w *Writer) Store(c *Piece) (lost int, err error) {
	for i := range c.blobs {
		n, err := w.storeBlob(c, &c.blobs[i])
		if err != nil {
			return lost, err
		}
		lost += n
	}
	w.Drop(c)
	return lost, nil
}

// Drop frees the memory of a piece.
func (w *Writer) Drop(c *Piece) {
	if c.packed != nil {
		w.bufs.put(c.packed)
	}
	c.packed, c.src = nil, nil
	for i := range c.blobs {
		c.blobs[i].buf = nil
	}
}

func (w *Writer) storeBlob(c *Piece, b *blob) (lost int, err error) {
	buf := b.buf
	if c.o.Csum.Encrypted() {
		e := w.bufs.get(len(buf))
		defer w.bufs.put(e)
		copy(*e, buf)
		buf = *e
		w.ws.Encrypt(c.o.Csum, nonceOf(b.crc, b.ver), buf)
	}
	if c.o.Csum != ondisk.CsumNone || b.crc.Compression != ondisk.CompressionNone {
		if c.o.Csum != ondisk.CsumNone {
			if b.crc.Csum, err = w.ws.Sum(c.o.Csum, nonceOf(b.crc, b.ver), buf); err != nil {
				return 0, err
			}
		}
		b.val = b.crc.Append(b.val)
	}
	var fails []error
	for _, pt := range b.ptrs {
		if err := w.ws.WriteSectors(pt.Dev, pt.Offset, buf); err != nil {
			fails = append(fails, err)
			continue
		}
		b.val = pt.Append(b.val)
	}
	if len(fails) == len(b.ptrs) {
		return 0, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrIO, Reason: "no copy of the data could be written", Cause: fails[0]}
	}
	return len(fails), nil
}

// Keys are the keys of a piece that was stored, for an inode, in snapshot 0.
func (c *Piece) Keys(inum uint64) []ondisk.KV {
	out := make([]ondisk.KV, 0, len(c.blobs))
	for i := range c.blobs {
		b := &c.blobs[i]
		size := b.crc.UncompressedSize
		end := c.sector + uint64(b.from/512) + uint64(size)
		out = append(out, ondisk.KV{Key: ondisk.Key{Type: ondisk.KeyExtent, Pos: ondisk.Pos{Inode: inum, Offset: end}, Size: size, Version: b.ver}, Val: b.val})
	}
	return out
}
