package members_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/internal/members"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// dying is a device whose flushes fail from the one with number last on.
type dying struct {
	block.Writer
	last int
}

func (d *dying) Flush(ctx context.Context) error {
	if d.last--; d.last < 0 {
		return fmt.Errorf("flush: %w", errors.ErrUnsupported)
	}
	return d.Writer.Flush(ctx)
}

// ending is a context that ends after it was asked a number of times.
type ending struct {
	context.Context
	left int
}

func (e *ending) Err() error {
	if e.left--; e.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestUpdateFails: wherever the writing of a superblock stops, at most one copy
// is torn, and an update that was canceled before has written nothing.
func TestUpdateFails(t *testing.T) {
	t.Parallel()
	for n := range 10 {
		for _, cancel := range []bool{false, true} {
			under := block.NewOverlay(testvol.Load(t, "plain")[0])
			var dev block.Writer = under
			ctx := t.Context()
			if cancel {
				ctx = &ending{ctx, n}
			} else {
				dev = &dying{under, n}
			}
			set, err := members.Open(t.Context(), []block.Reader{dev}, members.Options{})
			if err != nil {
				t.Fatal(err)
			}
			ws, err := members.NewWriteSet(set, nil)
			if err != nil {
				t.Fatal(err)
			}
			seq := set.SB.Seq
			err = ws.Update(ctx, func(sb *ondisk.Superblock) error { sb.Label = "new"; return nil })
			_, copies, rerr := members.ReadSuper(t.Context(), under, 0)
			if rerr != nil {
				t.Fatalf("%d, %v: no good copy left: %v", n, cancel, rerr)
			}
			torn, fresh := 0, 0
			for _, c := range copies {
				if c.Err != nil {
					torn++
				} else if c.SB.Seq == seq+1 {
					fresh++
				}
			}
			if torn > 1 {
				t.Errorf("%d, %v: %d copies are torn, want at most 1", n, cancel, torn)
			}
			if err == nil && (fresh != len(copies) && cancel || fresh == 0) {
				t.Errorf("%d, %v: %d of %d copies are new, without an error", n, cancel, fresh, len(copies))
			}
			if cancel && err != nil && fresh+torn > 0 {
				t.Errorf("%d: canceled, but %d copies are new and %d torn", n, fresh, torn)
			}
		}
	}
}
