//go:build shared

package bcachefs_test

import (
	"testing"

	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

func TestStatfsShared(t *testing.T) {
	if n := checkStatfs(t, testvol.Full(t)); n != 29 {
		t.Errorf("%d volumes compared, want 29", n)
	}
}
