package mkfs

import (
	"crypto/sha256"
	"math/rand/v2"
	"sync"
)

// SeedFrom makes a source of numbers for Options.Seed that is the same for the
// same text.
func SeedFrom(text string) func() uint64 {
	r := rand.NewChaCha8(sha256.Sum256([]byte("gobcachefs format\x00" + text)))
	var mu sync.Mutex
	return func() uint64 {
		mu.Lock()
		defer mu.Unlock()
		return r.Uint64()
	}
}
