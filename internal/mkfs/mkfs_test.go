package mkfs_test

import (
	"context"
	"os"
	"testing"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/internal/mkfs"
)

func TestFormat(t *testing.T) {
	ctx := context.Background()
	dev := block.NewSparse("x.img", 128<<20)
	sb, err := mkfs.Format(ctx, []mkfs.Device{{W: dev, Durability: -1}}, mkfs.Options{Warn: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
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
