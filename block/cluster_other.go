//go:build !(linux || freebsd)

package block

import "os"

// willNeed would ask the system to read a range of a file soon.
func willNeed(*os.File, int64, int64) {}
