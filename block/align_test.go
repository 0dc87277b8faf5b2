package block

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// picky takes only whole sectors, as raw devices of some systems do.
type picky struct {
	b     []byte
	align int64
}

func (p picky) ReadAt(b []byte, off int64) (int, error) {
	if off%p.align != 0 || int64(len(b))%p.align != 0 {
		return 0, errors.New("unaligned")
	}
	return bytes.NewReader(p.b).ReadAt(b, off)
}

func TestReadAligned(t *testing.T) {
	size := int64(400 << 10)
	want := make([]byte, size)
	for i := range want {
		want[i] = byte(i>>9 + i)
	}
	for _, align := range []int64{512, 4096, 128 << 10} {
		for _, c := range [][2]int64{{0, size}, {0, 512}, {1, 1}, {511, 2}, {4095, 4097}, {100, 200 << 10}, {size - 3, 3}, {size - 5000, 4999}, {512, 70 << 10}} {
			got := make([]byte, c[1])
			n, err := readAligned(picky{want, align}, got, c[0], align, size)
			if n != len(got) || err != nil {
				t.Errorf("readAligned(%d bytes at %d, align %d) = %d, %v, want %d, nil", c[1], c[0], align, n, err, c[1])
			} else if !bytes.Equal(got, want[c[0]:c[0]+c[1]]) {
				t.Errorf("readAligned(%d bytes at %d, align %d) gave wrong bytes", c[1], c[0], align)
			}
		}
	}
	// A device that ends early, and one that fails.
	n, err := readAligned(picky{want[:4096], 512}, make([]byte, 5000), 1, 512, size)
	if n != 4095 || err == nil {
		t.Errorf("readAligned over the end = %d, %v, want 4095 and an error", n, err)
	}
	n, err = readAligned(broken{}, make([]byte, 5000), 1, 512, size)
	if n != 0 || err != io.ErrClosedPipe {
		t.Errorf("readAligned of a broken device = %d, %v, want 0 and its error", n, err)
	}
}

type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error) { return 0, io.ErrClosedPipe }
