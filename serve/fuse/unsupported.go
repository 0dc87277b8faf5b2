//go:build !((linux && !(386 || arm || mips || mipsle)) || darwin || freebsd)

package fuse

import (
	"context"
	"runtime"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/errs"
)

// Supported says whether volumes can be mounted on this system.
const Supported = false

// Server would mount a volume: not on this system (nor on 32-bit Linux, where the
// FUSE library does not build).
type Server struct{}

// New gives errs.ErrUnsupported.
func New(*bcachefs.Volume, Options) (*Server, error) {
	return nil, &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUnsupported, Reason: "no mounts on " + runtime.GOOS + "/" + runtime.GOARCH + ": use ls, cat, cp or tar"}
}

// Mount is not reached.
func (*Server) Mount(string) error { return errs.ErrUnsupported }

// Serve is not reached.
func (*Server) Serve(context.Context) error { return errs.ErrUnsupported }

// Unmount is not reached.
func (*Server) Unmount() error { return errs.ErrUnsupported }

// Mountpoint is not reached.
func (*Server) Mountpoint() string { return "" }
