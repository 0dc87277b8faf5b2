package block

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestListSysfs(t *testing.T) {
	dir := t.TempDir()
	sys, dev := filepath.Join(dir, "sys"), filepath.Join(dir, "dev")
	write := func(name, value string) {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(value+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, attrs := range map[string]map[string]string{
		"sda":       {"size": "1000"},
		"sda1":      {"size": "900", "partition": "1"},
		"sr0":       {"size": "0"},                                           // no medium
		"nosize":    {"ro": "0"},                                             // no size
		"loop0":     {"size": "8", "loop/backing_file": "/x.img"},            // in use
		"loop0p1":   {"size": "4"},                                           // its partition
		"loop1":     {"size": "8"},                                           // no file behind it
		"loop":      {"size": "8"},                                           // not a loop device
		"sdb":       {"size": "8", "holders/dm-0/dm/uuid": "mpath-36001405"}, // a leg
		"sdc":       {"size": "8", "holders/dm-1/dm/uuid": "LVM-abc"},        // a volume group
		"dm-0":      {"size": "8", "dm/uuid": "mpath-36001405"},              // the whole
		"cciss!c0d": {"size": "8"},                                           // a node in a directory
		"sdz":       {"size": "8"},                                           // no node
	} {
		for k, v := range attrs {
			write(filepath.Join("sys", name, k), v)
		}
	}
	for _, n := range []string{"sda", "sda1", "sr0", "nosize", "loop0", "loop0p1", "loop1", "loop", "sdb", "sdc", "dm-0", "cciss/c0d"} {
		write(filepath.Join("dev", n), "")
	}
	got, err := listSysfs(context.Background(), sys, dev)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, n := range []string{"cciss/c0d", "dm-0", "loop", "loop0", "loop0p1", "sda", "sda1", "sdc"} {
		want = append(want, filepath.Join(dev, n))
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("listSysfs (-want +got):\n%s", d)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := listSysfs(ctx, sys, dev); !errors.Is(err, context.Canceled) {
		t.Errorf("listSysfs canceled = %v, want context.Canceled", err)
	}
	if _, err := listSysfs(context.Background(), sys+"x", dev); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("listSysfs without sysfs = %v, want ErrNotExist", err)
	}
}
