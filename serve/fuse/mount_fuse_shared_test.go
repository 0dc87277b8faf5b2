//go:build fuse && shared

package fuse

import (
	"testing"

	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// TestMountsShared mounts every volume at hand and compares with what the real
// implementation shows of it.
func TestMountsShared(t *testing.T) { checkMounts(t, testvol.Full(t)) }

func TestDegradedMountsShared(t *testing.T) { checkDegradedMounts(t, testvol.Full(t)) }
