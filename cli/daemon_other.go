//go:build !unix

package cli

import "github.com/gobcachefs/gobcachefs/errs"

func (m *mountCmd) start() error  { return errs.ErrUnsupported }
func (m *mountCmd) daemon() error { return errs.ErrUnsupported }
