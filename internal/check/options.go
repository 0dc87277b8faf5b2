package check

import (
	"context"
	"strings"

	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// Data is to be stored as the options of its inode and of the volume say, or to be
// marked for being rewritten, or a scan that marks it is to be due (chapter 05
// section 16).

// ioOpts are options that decide how data is stored. Of an inode: values plus one,
// 0 unset; of the volume: values.
type ioOpts struct {
	checksum, compression, background, nocow, erasure uint8
	foreground, target                                uint16
}

func inodeOpts(x *ondisk.Inode) ioOpts {
	return ioOpts{checksum: x.DataChecksum, compression: x.Compression, background: x.BackgroundCompression, nocow: x.Nocow, erasure: uint8(x.ErasureCode),
		foreground: x.ForegroundTarget, target: x.BackgroundTarget}
}

func volumeIOOpts(sb *ondisk.Superblock) ioOpts {
	get := func(name string) uint64 {
		if o, ok := ondisk.FindOption(name); ok {
			return o.Effective(sb)
		}
		return 0
	}
	return ioOpts{checksum: uint8(get("data_checksum")), compression: uint8(get("compression")), background: uint8(get("background_compression")), nocow: uint8(get("nocow")),
		erasure: uint8(get("erasure_code")), foreground: uint16(get("foreground_target")), target: uint16(get("background_target"))}
}

// with gives the options that hold for an inode (chapter 05 section 7).
func (v ioOpts) with(i ioOpts) ioOpts {
	byte1 := func(vol *uint8, own uint8) {
		if own != 0 {
			*vol = own - 1
		}
	}
	byte1(&v.checksum, i.checksum)
	byte1(&v.compression, i.compression)
	byte1(&v.background, i.background)
	byte1(&v.nocow, i.nocow)
	byte1(&v.erasure, i.erasure)
	if i.foreground != 0 {
		v.foreground = i.foreground - 1
	}
	if i.target != 0 {
		v.target = i.target - 1
	}
	if v.target == 0 {
		v.target = v.foreground
	}
	if v.background == 0 {
		v.background = v.compression
	}
	if v.nocow != 0 {
		v.compression, v.background, v.checksum, v.erasure = 0, 0, 0, 0
	}
	return v
}

// loadCookies reads which scans are due.
func (c *checker) loadCookies(ctx context.Context) error {
	c.volumeOpts, c.macType, c.cookies = volumeIOOpts(c.sb), dataMAC(c.sb), map[uint64]bool{}
	if c.minor(33) {
		// Read again, with the pointers of nodes, by checkScan.
		u := c.cursor(ctx, ondisk.BtreeReconcileScan, ondisk.PosMin, ondisk.Pos{Offset: ^uint64(0), Snapshot: ^uint32(0)}, false)
		defer u.close()
		for kv := u.peek(); kv != nil; kv = u.peek() {
			if kv.Type == ondisk.KeyCookie && (kv.Pos.Offset == 0 || kv.Pos.Offset >= ondisk.FirstInode) {
				c.cookies[kv.Pos.Offset] = true
			}
			u.take()
		}
		return u.err
	}
	u := c.cursor(ctx, ondisk.BtreeReconcileWork, ondisk.PosMin, ondisk.SPosMax, false)
	defer u.close()
	for kv := u.peek(); kv != nil; kv = u.peek() {
		if kv.Type == ondisk.KeyCookie {
			c.cookies[kv.Pos.Inode] = true
		}
		u.take()
	}
	return u.err
}

// checkOptions checks that an extent is stored as its inode's options say, or
// marked.
func (w *fileWalk) checkOptions(kv *ondisk.KV) {
	c := w.c
	if kv.Type != ondisk.KeyExtent || c.cookies[0] || c.cookies[kv.Pos.Inode] || c.lost(ondisk.BtreeReconcileScan, ondisk.BtreeReconcileWork) {
		return
	}
	var v *version
	for i := range w.vers {
		if w.vers[i].snap == kv.Pos.Snapshot && !w.vers[i].skip {
			v = &w.vers[i]
		}
	}
	if v == nil {
		return
	}
	e, err := ondisk.DecodeExtent(kv.Val, kv.Size, c.set.ExtentTypes)
	if err != nil || e.Poisoned {
		return
	}
	need := c.needs(c.volumeOpts.with(v.opt), &e)
	if !c.minor(33) {
		// Marked for some work, whatever the options were when it was.
		need &= ondisk.ReconcileBackgroundCompression | ondisk.ReconcileBackgroundTarget
		if need != 0 && e.Rebalance == 0 {
			// Tools of those versions change options without a scan: that there are
			// such extents is worth one note.
			c.unmarked.Add(1)
		}
		return
	}
	if have := ondisk.DecodeReconcile(e.Reconcile).Need; need&^have != 0 {
		c.bad("extent_io_opts_not_set", leafAt(ondisk.BtreeExtents, kv.Pos), "to be stored as the options say, or a reconcile entry for "+needNames(need), needNames(have))
	}
}

// noteUnmarked tells of extents that checkOptions counted.
func (c *checker) noteUnmarked() {
	if n := c.unmarked.Load(); n > 0 {
		c.note("extent_io_opts_not_set", errs.Nowhere, "%d extents are not stored as the options of compression and target say, and not marked for it", n)
	}
}

// needs is what of an extent is not as the options say, as bits of a reconcile
// entry.
func (c *checker) needs(o ioOpts, e *ondisk.Extent) (need uint8) {
	incompressible, unwritten := false, false
	wantComp, wantSum := compressionOf(o.background), c.dataChecksum(o)
	for i := range e.Ptrs {
		p := &e.Ptrs[i]
		if p.Crc.Compression == ondisk.CompressionIncompressible {
			incompressible = true
		}
		unwritten = unwritten || p.Unwritten
		if p.Cached {
			continue
		}
		if p.Crc.CsumType != wantSum {
			need |= ondisk.ReconcileDataChecksum
		}
		if p.Crc.Compression != wantComp {
			need |= ondisk.ReconcileBackgroundCompression
		}
		if o.target != 0 && !c.inTarget(p.Dev, o.target) {
			need |= ondisk.ReconcileBackgroundTarget
		}
	}
	if incompressible || unwritten || !c.minor(33) && o.background == 0 {
		need &^= ondisk.ReconcileBackgroundCompression
	}
	if unwritten {
		need &^= ondisk.ReconcileDataChecksum
	}
	return need
}

// dataChecksum is the type of checksum that options ask for.
func (c *checker) dataChecksum(o ioOpts) ondisk.CsumType {
	switch {
	case o.nocow != 0:
		return ondisk.CsumNone
	case c.macType != ondisk.CsumNone:
		return c.macType
	}
	switch o.checksum {
	case 1:
		return ondisk.CsumCRC32C
	case 2:
		return ondisk.CsumCRC64
	case 3:
		return ondisk.CsumXXHash
	}
	return ondisk.CsumNone
}

// dataMAC is the type of checksum of all data of an encrypted volume, CsumNone if
// it is not encrypted.
func dataMAC(sb *ondisk.Superblock) ondisk.CsumType {
	if k, err := sb.Crypt(); err != nil || k == nil {
		return ondisk.CsumNone
	}
	if o, ok := ondisk.FindOption("wide_macs"); ok && o.Effective(sb) != 0 {
		return ondisk.CsumPoly1305_128
	}
	return ondisk.CsumPoly1305_80
}

// needNames lists the bits of a reconcile entry.
func needNames(need uint8) string {
	if need == 0 {
		return "nothing"
	}
	var s []string
	for i, n := range []string{"data_replicas", "data_checksum", "erasure_code", "background_compression", "background_target"} {
		if need>>i&1 != 0 {
			s = append(s, n)
		}
	}
	return strings.Join(s, ", ")
}
