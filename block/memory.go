package block

import "sync/atomic"

// Memory is a device whose bytes are a slice.
type Memory struct {
	name   string
	b      []byte
	closed atomic.Bool
}

var _ Reader = (*Memory)(nil)

// NewMemory makes a device of b, which the caller must not change while the
// device is in use. name is what errors call it.
func NewMemory(name string, b []byte) *Memory { return &Memory{name: name, b: b} }

// ReadAt implements Reader.
func (m *Memory) ReadAt(p []byte, off int64) (int, error) {
	if m.closed.Load() {
		return 0, errClosed(m.name)
	}
	n, err, done := checkRange(m.name, len(p), off, int64(len(m.b)))
	if done {
		return 0, err
	}
	return copy(p[:n], m.b[off:]), err
}

// Size implements Reader.
func (m *Memory) Size() int64 { return int64(len(m.b)) }

// Info implements Reader.
func (m *Memory) Info() Info {
	return Info{Name: m.name, Kind: KindMemory, LogicalBlock: SectorSize, PhysicalBlock: SectorSize, ReadOnly: true}
}

// Close implements Reader.
func (m *Memory) Close() error {
	m.closed.Store(true)
	return nil
}
