//go:build shared

package bcachefs_test

import (
	"testing"

	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// TestManifestsShared compares every volume at hand with what the real
// implementation shows of it.
func TestManifestsShared(t *testing.T) { checkSet(t, testvol.Full(t)) }
