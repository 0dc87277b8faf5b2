package block_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/block/blocktest"
	"github.com/gobcachefs/gobcachefs/errs"
)

func compress(t testing.TB, b []byte, opts ...zstd.EOption) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, append([]zstd.EOption{zstd.WithEncoderConcurrency(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestZstdSuite(t *testing.T) {
	want := blocktest.Pattern(2_500_123)
	p := writeFile(t, "x.img.zst", compress(t, want))
	dir := t.TempDir()
	blocktest.Suite(t, func() block.Reader { return mustOpen(t, p, block.Options{SpoolDir: dir}) }, want)
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("spool directory after Close: %v, %v, want it empty", left, err)
	}
}

func TestZstdForms(t *testing.T) {
	want := blocktest.Pattern(500_000)
	skippable := append([]byte{0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0}, "abc"...)
	for name, tt := range map[string]struct {
		in   []byte
		want []byte
	}{
		"long=27":     {compress(t, want, zstd.WithWindowSize(128<<20)), want},
		"two frames":  {append(compress(t, want), compress(t, want)...), append(bytes.Clone(want), want...)},
		"skippable":   {append(compress(t, want), skippable...), want},
		"empty frame": {compress(t, nil, zstd.WithZeroFrames(true)), nil},
		"all zero":    {compress(t, make([]byte, 10<<20)), make([]byte, 10<<20)},
		"no checksum": {compress(t, want, zstd.WithEncoderCRC(false)), want},
	} {
		r := mustOpen(t, writeFile(t, "x", tt.in), block.Options{SpoolDir: t.TempDir()})
		got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
		if err != nil || !bytes.Equal(got, tt.want) {
			t.Errorf("%s: unpacked to %d bytes, %v, want the %d that were packed", name, len(got), err, len(tt.want))
		}
		if i := r.Info(); i.Kind != block.KindZstd || !i.ReadOnly || i.Locked || i.ID == "" {
			t.Errorf("%s: Info() = %+v, want a read-only zstd device, not locked, with an ID", name, i)
		}
	}
}

func TestZstdRefuses(t *testing.T) {
	data := bytes.Repeat(blocktest.Pattern(10_000), 30)
	good := compress(t, data)
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 1
	// A frame header with a window of 256 MiB: magic, descriptor, window 28-10 << 3.
	wide := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 18 << 3, 1, 0, 0}
	for name, tt := range map[string]struct {
		in   []byte
		opts block.Options
		want error
		text string
	}{
		"cut in the data":     {good[:len(good)/2], block.Options{}, errs.ErrCorrupt, "damaged"},
		"cut in the checksum": {good[:len(good)-1], block.Options{}, errs.ErrCorrupt, "damaged"},
		"cut in the header":   {good[:5], block.Options{}, errs.ErrCorrupt, "damaged"},
		"only the magic":      {good[:4], block.Options{}, errs.ErrCorrupt, "damaged"},
		"bit flip":            {flipped, block.Options{}, errs.ErrCorrupt, "damaged"},
		"garbage behind":      {append(bytes.Clone(good), "garbage"...), block.Options{}, errs.ErrCorrupt, "damaged"},
		"window of 256 MiB":   {wide, block.Options{}, errs.ErrUnsupported, "--long=27"},
		"over the limit":      {good, block.Options{SpoolLimit: 100_000}, errs.ErrUnsupported, "SpoolLimit"},
	} {
		tt.opts.SpoolDir = t.TempDir()
		r, err := block.Open(context.Background(), writeFile(t, "x", tt.in), tt.opts)
		if r != nil || !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: Open = %v, %v, want nil, %v with %q", name, r, err, tt.want, tt.text)
		}
		if left, _ := os.ReadDir(tt.opts.SpoolDir); len(left) != 0 {
			t.Errorf("%s: Open left %v in the spool directory", name, left)
		}
	}
}

// Every shorter prefix of an image is refused: a cut download must never open.
func TestZstdEveryCut(t *testing.T) {
	good := compress(t, blocktest.Pattern(6000), zstd.WithEncoderCRC(false))
	dir := t.TempDir()
	for n := 4; n < len(good); n += 31 {
		r, err := block.Open(context.Background(), writeFile(t, "x", good[:n]), block.Options{SpoolDir: dir})
		if err == nil {
			t.Errorf("an image cut to %d of %d bytes opened, with %d bytes", n, len(good), r.Size())
			r.Close()
		}
	}
}

func TestZstdLimitCountsData(t *testing.T) {
	// 64 KiB of data in 64 MiB of zeros fits a limit of 64 KiB, no less.
	b := make([]byte, 64<<20)
	for i := range 65536 {
		b[32<<20+i] = 1
	}
	p := writeFile(t, "x", compress(t, b))
	mustOpen(t, p, block.Options{SpoolLimit: 65536, SpoolDir: t.TempDir()})
	mustOpen(t, p, block.Options{SpoolLimit: -1, SpoolDir: t.TempDir()})
	if _, err := block.Open(context.Background(), p, block.Options{SpoolLimit: 65535, SpoolDir: t.TempDir()}); !errors.Is(err, errs.ErrUnsupported) {
		t.Errorf("Open over the limit by one byte = %v, want ErrUnsupported", err)
	}
}

func TestZstdNoSpoolDir(t *testing.T) {
	p := writeFile(t, "x", compress(t, []byte("data")))
	if _, err := block.Open(context.Background(), p, block.Options{SpoolDir: t.TempDir() + "/none"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open without a spool directory = %v, want ErrNotExist", err)
	}
}
