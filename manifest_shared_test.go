//go:build shared

package bcachefs_test

import (
	"os"
	"strconv"
	"testing"

	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// TestManifestsShared compares every volume at hand with what the real
// implementation shows of it.
func TestManifestsShared(t *testing.T) { checkSet(t, testvol.Full(t)) }

func TestDegradedShared(t *testing.T) { checkDegraded(t, testvol.Full(t)) }

// TestRedundantShared loses what a copy or parity covers: any one member of
// these, any two of v39ec2p.
func TestRedundantShared(t *testing.T) {
	set := testvol.Full(t)
	for _, name := range []string{"replicas2", "v39repl", "v39ec", "up39replicas2"} {
		checkRedundant(t, set, name, 1)
	}
	checkRedundant(t, set, "v39ec2p", 1)
	checkRedundant(t, set, "v39ec2p", 2)
}

// TestRandomDamageShared damages every volume, many times with DAMAGE_SEEDS.
func TestRandomDamageShared(t *testing.T) {
	seeds := 3
	if s := os.Getenv("DAMAGE_SEEDS"); s != "" {
		var err error
		if seeds, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	set := testvol.Full(t)
	damageRuns(t, set, set.Names(), seeds)
}
