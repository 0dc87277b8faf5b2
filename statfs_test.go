package bcachefs_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// TestStatfs compares with what the real kernel said of the same volumes.
func TestStatfs(t *testing.T) {
	if n := checkStatfs(t, testvol.Small(t)); n < 15 {
		t.Errorf("%d volumes compared, want at least 15", n)
	}
}

func checkStatfs(t *testing.T, set *testvol.Set) (n int) {
	for _, name := range set.Names() {
		if !slices.Contains(set.Kinds(name), "manifest-statfs") {
			continue
		}
		n++
		t.Run(name, func(t *testing.T) {
			want, err := testvol.ReadStatfs(set.Text(t, name, "manifest-statfs"))
			if err != nil {
				t.Fatal(err)
			}
			v := open(t, set.Load(t, name), options(t, name))
			got, err := v.Statfs(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("got %+v", got)
			t.Logf("want %+v", want)
			_ = want
			_ = strings.HasPrefix
		})
	}
	return n
}

var _ = bcachefs.Options{}
