package mkfs_test

import (
	"context"
	"os"
	"strconv"
	"testing"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/internal/mkfs"
)

func TestFormat(t *testing.T) {
	ctx := context.Background()
	dev := block.NewSparse("x.img", 128<<20)
	res, err := mkfs.Format(ctx, []mkfs.Device{{W: dev, Durability: -1}}, mkfs.Options{Warn: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	sb := res.Super
	if !sb.Clean() || !sb.Initialized() {
		t.Errorf("clean %v, initialized %v, want both", sb.Clean(), sb.Initialized())
	}
	if p := os.Getenv("KEEP_IMAGE"); p != "" {
		b := make([]byte, dev.Size())
		if _, err := dev.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	v, err := bcachefs.Open(ctx, []block.Reader{dev}, bcachefs.Options{Warn: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	es, err := v.Root().ReadDir(ctx, "/")
	if err != nil || len(es) != 1 || es[0].Name != "lost+found" {
		t.Errorf("ReadDir(/) = %v, %v, want lost+found", es, err)
	}
}

func keep(t *testing.T, dev *block.Sparse) {
	if p := os.Getenv("KEEP_IMAGE"); p != "" {
		b := make([]byte, dev.Size())
		if _, err := dev.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSource(t *testing.T) {
	ctx := context.Background()
	src := os.Getenv("SOURCE")
	if src == "" {
		src = "../../docs"
	}
	size := int64(256 << 20)
	if s := os.Getenv("SIZE"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		size = n
	}
	dev := block.NewSparse("x.img", size)
	res, err := mkfs.Format(ctx, []mkfs.Device{{W: dev, Durability: -1}}, mkfs.Options{Source: mkfs.DirSource{Dir: src}, Warn: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", res.Stats)
	keep(t, dev)
}
