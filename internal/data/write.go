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
	return &Writer{Reader: r, ws: ws, store: store, block: int(sb.BlockSize), max: sb.EncodedExtentMax()}
}

// Block is the block size in bytes.
func (w *Writer) Block() int { return w.block * 512 }

// Extents is data that is on the devices but that no key refers to yet.
type Extents struct {
	Keys  []ondisk.KV // snapshot 0; ascending
	point *alloc.Point
	ptrs  [][]ondisk.Ptr
}

// Done says that the keys were committed, or will not be.
func (x *Extents) Done() {
	for _, p := range x.ptrs {
		x.point.Done(p)
	}
	x.ptrs = nil
}

// Write stores p, whole blocks, that belong at a sector of a file, and gives the
// keys. It is durable with the next journal flush after they are committed.
func (w *Writer) Write(ctx context.Context, point *alloc.Point, o IOOptions, inum, sector uint64, p []byte) (*Extents, error) {
	x := &Extents{point: point}
	if len(p)%w.Block() != 0 {
		return nil, fmt.Errorf("data: write of %d bytes", len(p))
	}
	for len(p) > 0 {
		n, err := w.chunk(ctx, x, o, inum, sector, p)
		if err != nil {
			x.Done()
			return nil, err
		}
		p = p[n:]
		sector += uint64(n / 512)
	}
	return x, nil
}

// chunk stores the first part of p as one blob and says how much it took.
func (w *Writer) chunk(ctx context.Context, x *Extents, o IOOptions, inum, sector uint64, p []byte) (int, error) {
	ct := compressionOf(o.Compression)
	q := alloc.Request{Block: uint64(w.block), Replicas: o.Replicas, Target: o.Target}
	if o.Csum != ondisk.CsumNone || ct != ondisk.CompressionNone {
		p = p[:min(len(p), w.max*512)]
	} else {
		p = p[:min(len(p), 1<<20)]
	}
	crc := ondisk.Crc{CsumType: o.Csum, UncompressedSize: uint32(len(p) / 512), CompressedSize: uint32(len(p) / 512)}
	buf := p
	if ct != ondisk.CompressionNone {
		crc.Compression = ondisk.CompressionIncompressible
		if len(p) > w.Block() {
			b := w.bufs.get(len(p) - w.Block())
			defer w.bufs.put(b)
			if n, ok := compress.Compress(uint8(ct), int(o.Compression>>4), *b, p); ok {
				n = (n + w.Block() - 1) / w.Block() * w.Block()
				buf = (*b)[:n]
				crc.Compression, crc.CompressedSize = ct, uint32(n/512)
				q.Whole = true
			}
		}
	}
	q.Sectors = uint64(len(buf) / 512)
	ptrs, got, err := x.point.Alloc(ctx, q)
	if err != nil {
		return 0, err
	}
	x.ptrs = append(x.ptrs, ptrs)
	if !crc.Compression.Compressed() {
		p = p[:got*512]
		buf = p
		crc.UncompressedSize, crc.CompressedSize = uint32(got), uint32(got)
	}
	kv := ondisk.KV{Key: ondisk.Key{Type: ondisk.KeyExtent, Pos: ondisk.Pos{Inode: inum, Offset: sector + uint64(len(p)/512)}, Size: uint32(len(p) / 512)}}
	if o.Csum.Encrypted() {
		kv.Version.Lo = w.store.NextKeyVersion()
		b := w.bufs.get(len(buf))
		defer w.bufs.put(b)
		copy(*b, buf)
		buf = *b
		w.ws.Encrypt(o.Csum, nonceOf(crc, kv.Version), buf)
	}
	var val []byte
	if o.Csum != ondisk.CsumNone || crc.Compression != ondisk.CompressionNone {
		if o.Csum != ondisk.CsumNone {
			if crc.Csum, err = w.ws.Sum(o.Csum, nonceOf(crc, kv.Version), buf); err != nil {
				return 0, err
			}
		}
		val = crc.Append(val)
	}
	var fails []error
	ok := 0
	for _, pt := range ptrs {
		if err := w.ws.WriteSectors(pt.Dev, pt.Offset, buf); err != nil {
			fails = append(fails, err)
			continue
		}
		ok++
		val = pt.Append(val)
	}
	if ok == 0 {
		return 0, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrIO, Reason: "no copy of the data could be written", Cause: fails[0]}
	}
	w.store.AddClock(1, uint64(ok*len(buf)/512))
	kv.Val = val
	x.Keys = append(x.Keys, kv)
	return len(p), nil
}

// Merge takes over the places of another write through the same point.
func (x *Extents) Merge(y *Extents) {
	x.ptrs = append(x.ptrs, y.ptrs...)
	y.ptrs = nil
}
