//go:build !unix

package cli

import "os"

// appends reports whether writes to f go to its end wherever it is positioned:
// there is no way to know.
func appends(*os.File) bool { return true }
