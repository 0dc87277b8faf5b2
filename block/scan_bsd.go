//go:build freebsd || darwin

package block

import (
	"context"
	"os"
	"path/filepath"
	"slices"
)

// List names the disks and partitions of this machine, sorted. Nothing is
// opened, so some may be without medium.
func List(ctx context.Context) ([]string, error) { return listDev(ctx, "/dev") }

func listDev(ctx context.Context, dev string) ([]string, error) {
	entries, err := os.ReadDir(dev)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		// A link names a device that is listed by its own name too.
		if diskName.MatchString(e.Name()) && e.Type()&os.ModeSymlink == 0 {
			out = append(out, filepath.Join(dev, e.Name()))
		}
	}
	slices.Sort(out)
	return out, nil
}
