package engine

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/testvol/build"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// TestNoWritingOnLoss: a volume of which a root or journal entries are lost can
// be read, but not written.
func TestNoWritingOnLoss(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		name string
		put  func(v *build.Volume, roots []ondisk.JsetEntry)
		want string
	}{
		{"root", func(v *build.Volume, roots []ondisk.JsetEntry) {
			v.PutJset(0, 0, 0, build.Jset{Seq: 5, LastSeq: 5, Entries: append(roots, ondisk.JsetEntry{Type: ondisk.EntryBtreeRoot, Btree: ondisk.BtreeXattrs})})
		}, "the root of btree xattrs is lost"},
		{"entries", func(v *build.Volume, roots []ondisk.JsetEntry) {
			v.PutJset(0, 0, 0, build.Jset{Seq: 5, LastSeq: 3, Entries: roots})
		}, "journal_entries_missing: found entries 3-4"},
	} {
		v := build.New(build.Config{})
		v.Base()
		v.Trees()
		v.Unclean()
		c.put(v, v.RootEntries())
		devs := v.Devices()
		if _, err := Open(ctx, devs, Options{}); err != nil {
			t.Errorf("%s lost: Open = %v, want to read the rest", c.name, err)
		}
		before := devs[0].(*block.Sparse).InUse()
		_, err := OpenWrite(ctx, devs, WriteOptions{})
		if !errors.Is(err, errs.ErrCorrupt) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s lost: OpenWrite = %v, want %q", c.name, err, c.want)
		}
		if after := devs[0].(*block.Sparse).InUse(); after != before {
			t.Errorf("%s lost: the device grew from %d to %d bytes", c.name, before, after)
		}
	}
}
