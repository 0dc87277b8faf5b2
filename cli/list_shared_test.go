//go:build shared

package cli_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// TestListShared compares with all lists there are.
func TestListShared(t *testing.T) {
	set := testvol.Full(t)
	n := 0
	for _, name := range set.Names() {
		if slices.Contains(set.Kinds(name), "list") {
			n++
			t.Run(name, func(t *testing.T) {
				checkList(t, []string{strings.Join(set.Paths(t, name), ":")}, string(set.Text(t, name, "list")))
			})
		}
	}
	if n != 13 {
		t.Errorf("%d volumes, want 13", n)
	}
}
