package block

import (
	"bytes"
	"compress/flate"
	"container/list"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"

	"github.com/gobcachefs/gobcachefs/errs"
)

// qcow2Magic starts a qcow2 image.
var qcow2Magic = []byte("QFI\xfb")

// Limits of an image. The cluster size bounds what one entry of a table can make
// us read and unpack.
const (
	qcow2MinBits    = 9
	qcow2MaxBits    = 21
	qcow2CacheBytes = 8 << 20 // of tables, and again of unpacked clusters
	qcow2Window     = 8 << 20 // largest zstd window that is unpacked
)

// Feature bits that a reader must know (version 3).
const (
	qcow2Dirty       = 1 << 0 // reference counts may be wrong: no matter to a reader
	qcow2Corrupt     = 1 << 1 // somebody found damage: read what can be read
	qcow2External    = 1 << 2
	qcow2Compression = 1 << 3
	qcow2Extended    = 1 << 4
)

// qcow2 is the virtual disk in a qcow2 image: a tree of two levels of tables, in
// the unit of clusters. Clusters without an entry read as zeros.
type qcow2 struct {
	src    Reader
	info   Info
	size   int64
	bits   uint // log2 of the cluster size
	l1     []uint64
	v3     bool
	zstd   bool // compressed clusters are zstd, else deflate
	closed atomic.Bool

	mu     sync.Mutex
	tables clusterCache // of second-level tables, by their place
	plain  clusterCache // of unpacked clusters, by their number
}

var _ Reader = (*qcow2)(nil)

// isQcow2 reports whether a device holds a qcow2 image.
func isQcow2(r Reader) (bool, error) {
	b := make([]byte, len(qcow2Magic))
	if r.Size() < int64(len(b)) {
		return false, nil
	}
	if _, err := r.ReadAt(b, 0); err != nil {
		return false, err
	}
	return bytes.Equal(b, qcow2Magic), nil
}

// unwrap gives what src holds: the virtual disk if it is a qcow2 image, else src
// itself. On an error src is closed.
func unwrap(src Reader) (Reader, error) {
	is, err := isQcow2(src)
	if err == nil && is {
		var q *qcow2
		if q, err = openQcow2(src); err == nil {
			return q, nil
		}
	}
	if err != nil {
		src.Close()
		return nil, err
	}
	return src, nil
}

// openQcow2 reads the header and the first-level table. What would make the
// contents depend on other files, or need a key, is refused.
func openQcow2(src Reader) (*qcow2, error) {
	name := src.Info().Name
	bad := func(what, want string, got any) error {
		return &errs.Error{Where: where(name, -1), Kind: errs.ErrCorrupt, Reason: "qcow2 image: " + what, Want: want, Got: fmt.Sprint(got)}
	}
	refuse := func(what string, got any) error {
		return &errs.Error{Where: where(name, -1), Kind: errs.ErrUnsupported, Reason: "qcow2 image with " + what, Got: fmt.Sprint(got)}
	}
	h := make([]byte, 112)
	if n, err := src.ReadAt(h[:min(int64(len(h)), src.Size())], 0); err != nil && n < 72 {
		return nil, err
	} else if n < 72 {
		return nil, bad("too short", "72 bytes", n)
	}
	be := binary.BigEndian
	version := be.Uint32(h[4:])
	q := &qcow2{src: src, info: src.Info(), v3: version >= 3}
	if version < 2 || version > 3 {
		return nil, refuse("an unknown version", version)
	}
	if be.Uint64(h[8:]) != 0 {
		return nil, refuse("a backing file", fmt.Sprintf("name at byte %d", be.Uint64(h[8:])))
	}
	if m := be.Uint32(h[32:]); m != 0 {
		return nil, refuse("encryption", fmt.Sprintf("method %d", m))
	}
	if q.v3 {
		f := be.Uint64(h[72:])
		switch {
		case f&qcow2External != 0:
			return nil, refuse("an external data file", fmt.Sprintf("features %#x", f))
		case f&qcow2Extended != 0:
			return nil, refuse("extended L2 entries", fmt.Sprintf("features %#x", f))
		case f&^(qcow2Dirty|qcow2Corrupt|qcow2Compression) != 0:
			return nil, refuse("unknown features", fmt.Sprintf("%#x", f))
		}
		if f&qcow2Compression != 0 && be.Uint32(h[100:]) > 104 {
			switch h[104] {
			case 0:
			case 1:
				q.zstd = true
			default:
				return nil, refuse("an unknown compression type", h[104])
			}
		}
	}
	bits := be.Uint32(h[20:])
	if bits < qcow2MinBits || bits > qcow2MaxBits {
		return nil, bad("cluster size", fmt.Sprintf("2^%d to 2^%d", qcow2MinBits, qcow2MaxBits), fmt.Sprintf("2^%d", bits))
	}
	q.bits = uint(bits)
	size := be.Uint64(h[24:])
	if size > 1<<62 {
		return nil, bad("size", "at most 2^62", size)
	}
	q.size = int64(size)
	// A table of the second level fills a cluster, and so maps 2^(bits-3) of them.
	span := uint(bits + bits - 3)
	need := (size + 1<<span - 1) >> span
	if n := uint64(be.Uint32(h[36:])); n < need {
		return nil, bad("first-level table", fmt.Sprintf("%d entries", need), n)
	}
	at := be.Uint64(h[40:])
	if fileSize := uint64(src.Size()); need > fileSize/8 || need > 0 && (at > fileSize || need*8 > fileSize-at) {
		return nil, bad("first-level table", "inside of the file", fmt.Sprintf("%d entries at byte %d", need, at))
	}
	raw := make([]byte, need*8)
	if _, err := src.ReadAt(raw, int64(at)); err != nil {
		return nil, err
	}
	q.l1 = make([]uint64, need)
	for i := range q.l1 {
		q.l1[i] = be.Uint64(raw[8*i:])
	}
	q.info.Kind, q.info.ReadOnly = KindQcow2, true
	q.info.LogicalBlock = SectorSize
	n := max(2, qcow2CacheBytes>>bits)
	q.tables.limit, q.plain.limit = n, n
	return q, nil
}

// offsetMask takes the flags off an entry of a table.
const (
	offsetMask  = 1<<56 - 1<<9
	entryPacked = 1 << 62
	entryZero   = 1 << 0
)

// entry gives the table entry of a cluster, 0 when it has none.
func (q *qcow2) entry(cluster uint64) (uint64, error) {
	per := uint(q.bits - 3)
	l1 := cluster >> per
	if l1 >= uint64(len(q.l1)) {
		return 0, nil
	}
	at := q.l1[l1] & offsetMask
	if at == 0 {
		return 0, nil
	}
	q.mu.Lock()
	t := q.tables.get(at)
	q.mu.Unlock()
	if t == nil {
		if err := q.inside(at, "second-level table"); err != nil {
			return 0, err
		}
		t = make([]byte, 1<<q.bits)
		if _, err := q.src.ReadAt(t, int64(at)); err != nil {
			return 0, err
		}
		q.mu.Lock()
		q.tables.put(at, t)
		q.mu.Unlock()
	}
	return binary.BigEndian.Uint64(t[(cluster&(1<<per-1))*8:]), nil
}

// inside checks the place of a whole cluster of tables.
func (q *qcow2) inside(at uint64, what string) error {
	if at&(1<<q.bits-1) != 0 || at+1<<q.bits > uint64(q.src.Size()) {
		return &errs.Error{Where: where(q.info.Name, int64(at)), Kind: errs.ErrCorrupt, Reason: "qcow2 image: " + what,
			Want: fmt.Sprintf("a cluster of a file of %d bytes", q.src.Size()), Got: fmt.Sprintf("byte %d", at)}
	}
	return nil
}

// place says where n bytes from byte off of the disk stand: in the file at at, or
// nowhere (zero), or in a packed cluster (entry). n is cut at the cluster's end.
type place struct {
	at     int64
	n      int
	zero   bool
	packed uint64
}

func (q *qcow2) place(off int64, n int) (place, error) {
	cluster, in := uint64(off)>>q.bits, off&(1<<q.bits-1)
	p := place{n: int(min(int64(n), 1<<q.bits-in))}
	e, err := q.entry(cluster)
	if err != nil {
		return p, err
	}
	switch {
	case e&entryPacked != 0:
		p.packed = e
		return p, nil
	case e&offsetMask == 0, q.v3 && e&entryZero != 0:
		p.zero = true
		return p, nil
	}
	at := e & offsetMask
	if at&(1<<q.bits-1) != 0 || at >= uint64(q.src.Size()) {
		return p, &errs.Error{Where: where(q.info.Name, off), Kind: errs.ErrCorrupt, Reason: "qcow2 image: data cluster",
			Want: fmt.Sprintf("a cluster of a file of %d bytes", q.src.Size()), Got: fmt.Sprintf("byte %d", at)}
	}
	p.at = int64(at) + in
	return p, nil
}

// ReadAt implements Reader.
func (q *qcow2) ReadAt(b []byte, off int64) (int, error) {
	if q.closed.Load() {
		return 0, errClosed(q.info.Name)
	}
	avail, end, done := checkRange(q.info.Name, len(b), off, q.size)
	if done {
		return 0, end
	}
	b = b[:avail]
	for n := 0; n < avail; {
		p, err := q.place(off+int64(n), avail-n)
		// Clusters that stand one after the other are read at once.
		for err == nil && !p.zero && p.packed == 0 && n+p.n < avail {
			next, nerr := q.place(off+int64(n+p.n), avail-n-p.n)
			if nerr != nil || next.zero || next.packed != 0 || next.at != p.at+int64(p.n) {
				break
			}
			p.n += next.n
		}
		if err == nil {
			err = q.fill(b[n:n+p.n], off+int64(n), p)
		}
		if err != nil {
			return n, err
		}
		n += p.n
	}
	return avail, end
}

// fill reads what place found.
func (q *qcow2) fill(b []byte, off int64, p place) error {
	switch {
	case p.zero:
		clear(b)
	case p.packed != 0:
		c, err := q.unpack(uint64(off)>>q.bits, p.packed)
		if err != nil {
			return err
		}
		copy(b, c[off&(1<<q.bits-1):])
	default:
		// The last cluster of a file may be cut short: the rest is zeros.
		have := int(max(0, min(int64(len(b)), q.src.Size()-p.at)))
		clear(b[have:])
		if _, err := q.src.ReadAt(b[:have], p.at); err != nil {
			return err
		}
	}
	return nil
}

// unpack gives a compressed cluster.
func (q *qcow2) unpack(cluster, entry uint64) ([]byte, error) {
	q.mu.Lock()
	c := q.plain.get(cluster)
	q.mu.Unlock()
	if c != nil {
		return c, nil
	}
	// The entry has the byte offset, and above it the number of further sectors
	// of 512 bytes that the data reaches into.
	shift := 62 - (q.bits - 8)
	at := entry & (1<<shift - 1)
	sectors := entry >> shift & (1<<(q.bits-8) - 1)
	end := min(at&^511+(sectors+1)*512, uint64(q.src.Size()))
	bad := func(err error) error {
		return &errs.Error{Where: where(q.info.Name, int64(cluster<<q.bits)), Kind: errs.ErrCorrupt, Reason: "qcow2 image: compressed cluster", Cause: err}
	}
	if at >= end {
		return nil, bad(io.ErrUnexpectedEOF)
	}
	raw := make([]byte, end-at)
	if _, err := q.src.ReadAt(raw, int64(at)); err != nil {
		return nil, err
	}
	c = make([]byte, 1<<q.bits)
	if q.zstd {
		d, err := zstd.NewReader(bytes.NewReader(raw), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(qcow2Window))
		if err != nil {
			return nil, bad(err)
		}
		defer d.Close()
		if _, err := io.ReadFull(d, c); err != nil {
			return nil, bad(err)
		}
	} else if _, err := io.ReadFull(flate.NewReader(bytes.NewReader(raw)), c); err != nil {
		return nil, bad(err)
	}
	q.mu.Lock()
	q.plain.put(cluster, c)
	q.mu.Unlock()
	return c, nil
}

// Size implements Reader: that of the virtual disk.
func (q *qcow2) Size() int64 { return q.size }

// Info implements Reader. Name and identity are those of the image.
func (q *qcow2) Info() Info { return q.info }

// Close implements Reader.
func (q *qcow2) Close() error {
	if q.closed.Swap(true) {
		return nil
	}
	return q.src.Close()
}

// clusterCache keeps the clusters that were used last. They are never changed
// once they are here.
type clusterCache struct {
	limit int
	m     map[uint64]*list.Element
	lru   list.List // of cachedCluster, the latest first
}

type cachedCluster struct {
	key uint64
	b   []byte
}

func (c *clusterCache) get(key uint64) []byte {
	e := c.m[key]
	if e == nil {
		return nil
	}
	c.lru.MoveToFront(e)
	return e.Value.(cachedCluster).b
}

func (c *clusterCache) put(key uint64, b []byte) {
	if c.m == nil {
		c.m = map[uint64]*list.Element{}
	}
	if c.m[key] != nil {
		return
	}
	c.m[key] = c.lru.PushFront(cachedCluster{key, b})
	if c.lru.Len() > c.limit {
		delete(c.m, c.lru.Remove(c.lru.Back()).(cachedCluster).key)
	}
}
