package block_test

import (
	"context"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
)

func TestLock(t *testing.T) {
	ctx := context.Background()
	p := writeFile(t, "x.img", make([]byte, 4096))
	w, err := os.OpenFile(p, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	lock := func(typ int16) error {
		return unix.FcntlFlock(w.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: typ})
	}
	// Readers share, and keep a writer away until the last is closed.
	r1, err := block.Open(ctx, p, block.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r2, err := block.Open(ctx, p, block.Options{})
	if err != nil {
		t.Fatalf("Open beside a reader = %v, want nil", err)
	}
	r1.Close()
	if err := lock(unix.F_WRLCK); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("writer's lock beside a reader = %v, want EAGAIN", err)
	}
	r2.Close()
	if err := lock(unix.F_WRLCK); err != nil {
		t.Fatalf("writer's lock after the readers closed = %v, want nil", err)
	}
	// A writer keeps readers away, but for those who insist.
	if _, err := block.Open(ctx, p, block.Options{}); !errors.Is(err, errs.ErrBusy) {
		t.Errorf("Open beside a writer = %v, want ErrBusy", err)
	}
	r, err := block.Open(ctx, p, block.Options{NoLock: true})
	if err != nil {
		t.Fatalf("Open with NoLock beside a writer = %v, want nil", err)
	}
	defer r.Close()
	if r.Info().Locked {
		t.Errorf("Info().Locked with NoLock = true, want false")
	}
}

func TestOpenRefusesFifo(t *testing.T) {
	p := t.TempDir() + "/fifo"
	if err := unix.Mkfifo(p, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{p, "/dev/null"} {
		if _, err := block.Open(context.Background(), name, block.Options{}); !errors.Is(err, errs.ErrUnsupported) {
			t.Errorf("Open(%q) = %v, want ErrUnsupported", name, err)
		}
	}
}
