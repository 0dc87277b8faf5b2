//go:build (linux && !(386 || arm || mips || mipsle)) || darwin || freebsd

package fuse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"sync"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/errs"
)

const (
	// maxRequest is the size of the largest read, as far as kernels go.
	maxRequest = 1 << 20
	// maxBackground is how many reads ahead the kernel may have under way.
	maxBackground = 32
)

// grace is how long Serve waits, after it was told to end, for those who still
// have files open.
const grace = 5 * time.Second

// Server mounts a volume once.
type Server struct {
	fs   *filesystem
	opts Options

	mu    sync.Mutex
	srv   *gofuse.Server // nil until mounted
	mount string
	done  chan struct{} // closed when serving has ended

	unmounting sync.Mutex // go-fuse unmounts once at a time
}

// New prepares a mount. The volume stays the caller's to close, after Serve has
// returned.
func New(vol *bcachefs.Volume, o Options) (*Server, error) {
	if vol == nil {
		return nil, usage("no volume")
	}
	if o.Subvolume != nil && o.Subvolume.Volume() != vol {
		return nil, usage("the subvolume is one of another volume")
	}
	return &Server{fs: newFilesystem(vol, o), opts: o, done: make(chan struct{})}, nil
}

func usage(format string, a ...any) error {
	return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUsage, Reason: fmt.Sprintf(format, a...)}
}

// Mount mounts on a directory, and returns when the mount answers. It can be
// done once.
//
// Errors: errs.ErrUsage, errs.ErrUnsupported where the system lacks FUSE, and
// those of the system.
func (s *Server) Mount(dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.srv != nil {
		return usage("mounted before, on %s", s.mount)
	}
	dir, err := mountpoint(dir)
	if err != nil {
		return err
	}
	mo := &gofuse.MountOptions{
		FsName: s.opts.Source, Name: "bcachefs", AllowOther: s.opts.AllowOther,
		MaxWrite: maxRequest, MaxReadAhead: maxRequest, MaxBackground: maxBackground,
		EnableSymlinkCaching: true, ExplicitDataCacheControl: true, EnableAcl: true,
		ExtraCapabilities: extraCapabilities,
		DisableSplice:     true, // nothing of ours can be spliced: it was verified in memory
		PanicHandler:      s.fs.panicked,
		Logger:            log.New(io.Discard, "", 0),
	}
	if s.fs.warn != nil {
		mo.Logger = log.New(warnWriter(s.fs.warn), "", 0)
	}
	srv, err := mount(s.fs, dir, mo, s.opts.Words)
	if err != nil {
		return fmt.Errorf("mounting on %s: %w", dir, err)
	}
	s.srv, s.mount = srv, dir
	go func() {
		srv.Serve()
		s.fs.ahead.wait() // who closes the volume now may rely on it
		close(s.done)
	}()
	if err := srv.WaitMount(); err != nil && !ownMountClosed(err) {
		_ = s.unmount()
		return fmt.Errorf("mounting on %s: %w", dir, err)
	}
	tune(dir)
	return nil
}

// warnWriter gives the lines that go-fuse logs to a function.
type warnWriter func(error)

func (w warnWriter) Write(b []byte) (int, error) {
	w(errors.New("fuse: " + string(trimNewline(b))))
	return len(b), nil
}

func trimNewline(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		return b[:n-1]
	}
	return b
}

// Serve returns when the mount is gone: because somebody unmounted it, or, when
// ctx ends, because Serve did. A mount that is in use then leaves the tree at
// once, and those who use it get a few seconds.
func (s *Server) Serve(ctx context.Context) error {
	s.mu.Lock()
	srv := s.srv
	s.mu.Unlock()
	if srv == nil {
		return usage("not mounted")
	}
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
	}
	if err := s.unmount(); err == nil {
		return nil
	}
	detached := detach(s.mount)
	timeout := time.NewTimer(grace)
	defer timeout.Stop()
	select {
	case <-s.done: // also if somebody else has unmounted in the meantime
		return nil
	case <-timeout.C:
	}
	if detached != nil {
		return fmt.Errorf("unmounting %s: %w", s.mount, detached)
	}
	s.fs.cancel()
	return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrBusy, Reason: "unmounted " + s.mount + " while files of it were open"}
}

// Unmount unmounts. The error is errs.ErrBusy while files are open. Serve
// returns after it.
func (s *Server) Unmount() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.srv == nil {
		return usage("not mounted")
	}
	return s.unmount()
}

func (s *Server) unmount() error {
	s.unmounting.Lock()
	defer s.unmounting.Unlock()
	select {
	case <-s.done:
		return nil
	default:
	}
	if err := s.srv.Unmount(); err != nil {
		return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrBusy, Reason: "unmounting " + s.mount, Cause: err}
	}
	<-s.done
	return nil
}

// Mountpoint is where Mount mounted, absolute.
func (s *Server) Mountpoint() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mount
}
