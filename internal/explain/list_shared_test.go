//go:build shared

package explain

import (
	"testing"

	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// TestListsShared has the volumes that are too big for testdata.
func TestListsShared(t *testing.T) {
	checkLists(t, testvol.Full(t), []list{{"tiers", Style1_13}})
}
