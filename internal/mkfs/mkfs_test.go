package mkfs_test

import (
	"context"
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
	v, err := bcachefs.Open(ctx, []block.Reader{dev}, bcachefs.Options{Warn: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	es, err := v.Root().ReadDir(ctx, "/")
	if err != nil || len(es) != 1 || es[0].Name != "lost+found" {
		t.Errorf("ReadDir(/) = %v, %v, want lost+found", es, err)
	}
}
