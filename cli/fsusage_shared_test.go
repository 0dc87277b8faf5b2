//go:build shared

package cli_test

import (
	"testing"

	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

func TestFsUsageShared(t *testing.T) {
	if n := checkUsage(t, testvol.Full(t)); n != 18 {
		t.Errorf("%d volumes, want 18", n)
	}
}
