package block

import (
	"io/fs"
	"os"
)

// Mounted knows nothing here: the system itself refuses writes to what it has
// mounted.
func Mounted(name string) ([]string, error) { return nil, nil }

// attached is for systems that tell which files are attached to devices.
func attached(fs.FileInfo) string { return "" }

// users is for systems that tell who uses a device.
func users(string, *os.File) string { return "" }
