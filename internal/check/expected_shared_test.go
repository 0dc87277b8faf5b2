//go:build shared

package check

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// TestExpectedShared checks every volume of the full set.
func TestExpectedShared(t *testing.T) {
	set := testvol.Full(t)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(expected)), set.Names()); diff != "" {
		t.Fatalf("the table has other volumes (-table +set):\n%s", diff)
	}
	for _, name := range set.Names() {
		checkExpected(t, set, name)
	}
}
