package dump

import (
	"encoding/binary"
	"io"
)

// A qcow2 image (version 2, big-endian) maps clusters of a virtual disk to
// clusters of the file in two levels. This is the layout that is written:
//
//	header | data clusters and second-level tables as they come |
//	first-level table | reference counts | table of these
//
// Clusters that are all zero have no entry. Every cluster of the file has the
// reference count 1.
const (
	clusterBits = 16
	clusterSize = 1 << clusterBits
	perL2       = clusterSize / 8 // entries of a second-level table
	perRefcount = clusterSize / 2 // entries of a block of reference counts
	copied      = 1 << 63         // the entry's cluster has reference count 1
	headerSize  = 72
)

// image writes a qcow2 image.
type image struct {
	w    io.WriterAt
	size int64 // of the virtual disk
	next int64 // first cluster of the file that is free
	l1   []uint64
	l2   []byte // of the part that is being written
	at   int64  // index of l2 in l1, -1 none
}

func newImage(w io.WriterAt, size int64) *image {
	span := int64(clusterSize * perL2)
	return &image{w: w, size: size, next: 1, l1: make([]uint64, (size+span-1)/span), l2: make([]byte, clusterSize), at: -1}
}

// append writes a cluster behind the others and gives its byte offset.
func (m *image) append(b []byte) (uint64, error) {
	at := m.next * clusterSize
	m.next++
	_, err := m.w.WriteAt(b, at)
	return uint64(at), err
}

// cluster writes cluster n of the disk. Clusters must come in ascending order.
func (m *image) cluster(n int64, b []byte) error {
	zero := true
	for _, c := range b {
		if c != 0 {
			zero = false
			break
		}
	}
	if zero {
		return nil
	}
	if l1 := n / perL2; l1 != m.at {
		if err := m.flush(); err != nil {
			return err
		}
		m.at = l1
	}
	at, err := m.append(b)
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint64(m.l2[n%perL2*8:], at|copied)
	return nil
}

// flush writes the second-level table.
func (m *image) flush() error {
	if m.at < 0 {
		return nil
	}
	at, err := m.append(m.l2)
	if err != nil {
		return err
	}
	m.l1[m.at] = at | copied
	clear(m.l2)
	m.at = -1
	return nil
}

// finish writes the tables and the header and gives the size of the file.
func (m *image) finish() (int64, error) {
	if err := m.flush(); err != nil {
		return 0, err
	}
	be := binary.BigEndian
	b := make([]byte, 0, clusterSize)
	table := func(entries []uint64) (at uint64, clusters int64, err error) {
		at = uint64(m.next * clusterSize)
		clusters = max(1, int64((len(entries)+perL2-1)/perL2))
		for i := range clusters {
			b = b[:0]
			for _, e := range entries[min(len(entries), int(i)*perL2):min(len(entries), int(i+1)*perL2)] {
				b = be.AppendUint64(b, e)
			}
			if _, err := m.append(append(b, make([]byte, clusterSize-len(b))...)); err != nil {
				return 0, 0, err
			}
		}
		return at, clusters, nil
	}
	l1, _, err := table(m.l1)
	if err != nil {
		return 0, err
	}
	// The counts count themselves and their table too.
	blocks, tables := int64(0), int64(0)
	for {
		total := m.next + blocks + tables
		nb := (total + perRefcount - 1) / perRefcount
		nt := (nb + perL2 - 1) / perL2
		if nb == blocks && nt == tables {
			break
		}
		blocks, tables = nb, nt
	}
	total := m.next + blocks + tables
	refs := make([]uint64, blocks)
	for i := range refs {
		b = b[:0]
		for k := range int64(perRefcount) {
			n := uint16(0)
			if int64(i)*perRefcount+k < total {
				n = 1
			}
			b = be.AppendUint16(b, n)
		}
		if refs[i], err = m.append(b); err != nil {
			return 0, err
		}
	}
	refTable, refClusters, err := table(refs)
	if err != nil {
		return 0, err
	}
	h := append(make([]byte, 0, clusterSize), "QFI\xfb"...)
	h = be.AppendUint32(h, 2)
	h = append(h, make([]byte, 12)...) // no backing file
	h = be.AppendUint32(h, clusterBits)
	h = be.AppendUint64(h, uint64(m.size))
	h = be.AppendUint32(h, 0) // not encrypted
	h = be.AppendUint32(h, uint32(len(m.l1)))
	h = be.AppendUint64(h, l1)
	h = be.AppendUint64(h, refTable)
	h = be.AppendUint32(h, uint32(refClusters))
	h = append(h, make([]byte, clusterSize-len(h))...) // no snapshots; the rest of the cluster
	if _, err := m.w.WriteAt(h, 0); err != nil {
		return 0, err
	}
	return m.next * clusterSize, nil
}
