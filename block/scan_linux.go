package block

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// List names the block devices of this machine that may hold a member of a
// volume, sorted: disks and partitions, loop devices with a file behind them,
// what the device mapper and md make. Left out are devices without medium, the
// legs of a multipath device (the whole is listed), and those without a node
// in /dev. Nothing is opened.
func List(ctx context.Context) ([]string, error) { return listSysfs(ctx, "/sys/class/block", "/dev") }

func listSysfs(ctx context.Context, sys, dev string) ([]string, error) {
	entries, err := os.ReadDir(sys)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		dir := filepath.Join(sys, e.Name())
		if size := sysfsValue(dir, "size"); size == "" || size == "0" {
			continue
		}
		if isLoop(dir) && sysfsValue(dir, "loop/backing_file") == "" {
			continue
		}
		if isMultipathLeg(dir) {
			continue
		}
		// A slash in the name of a node is an exclamation mark here.
		node := filepath.Join(dev, strings.ReplaceAll(e.Name(), "!", "/"))
		if _, err := os.Lstat(node); err != nil {
			continue
		}
		out = append(out, node)
	}
	slices.Sort(out)
	return out, nil
}

// sysfsValue reads an attribute, "" if it is not there.
func sysfsValue(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// isLoop reports whether a device is a whole loop device. Those without a file
// have no loop directory, so that the name must do.
func isLoop(dir string) bool {
	n, ok := strings.CutPrefix(filepath.Base(dir), "loop")
	return ok && n != "" && strings.Trim(n, "0123456789") == ""
}

// isMultipathLeg reports whether a multipath device is made of this one.
func isMultipathLeg(dir string) bool {
	holders, err := os.ReadDir(filepath.Join(dir, "holders"))
	if err != nil {
		return false
	}
	for _, h := range holders {
		if strings.HasPrefix(sysfsValue(filepath.Join(dir, "holders", h.Name()), "dm/uuid"), "mpath-") {
			return true
		}
	}
	return false
}
