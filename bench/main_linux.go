package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

func main() {
	dir := flag.String("dir", "/var/tmp/gobcachefs-bench", "where trees and volumes are kept")
	rounds := flag.Int("rounds", 5, "measure each figure this often")
	million := flag.Bool("million", false, "also a tree of a million files: time to open, memory of a walk (takes long to make)")
	program := flag.String("program", "", "measure this gobcachefs; it is built if none is named")
	only := flag.String("only", "", "run only the measurements whose name matches")
	flag.Parse()
	if err := run(*dir, *program, *rounds, *million, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(dir, program string, rounds int, million bool, only string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("needs root: to mount, and to drop caches")
	}
	want, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	b := &bench{dir: dir, rounds: rounds, mnt: filepath.Join(dir, "mnt")}
	if err := os.MkdirAll(b.mnt, 0o755); err != nil {
		return err
	}
	if b.program = program; program == "" {
		b.program = filepath.Join(dir, "gobcachefs")
		if err := command("go", "build", "-o", b.program, "./cmd/gobcachefs"); err != nil {
			return err
		}
	}
	if err := b.build(million); err != nil {
		return err
	}
	fmt.Println(machine())
	fmt.Println()
	fmt.Println("| what | target | figure | compared with, same run | ratio |")
	fmt.Println("| --- | --- | --- | --- | --- |")
	all := b.measurements()
	if million {
		all = append(all, b.bigMeasurements()...)
	}
	for _, m := range all {
		if !want.MatchString(m.name) {
			continue
		}
		if err := b.measure(m); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}

// bench is one run.
type bench struct {
	dir, mnt, program string
	rounds            int
}

// measurement compares two ways to do the same.
type measurement struct {
	name, target string
	ours, other  func() (time.Duration, error)
	otherName    string
	work         float64 // how much is done in the time
	unit         string  // of work in a second; "" shows the time
}

func (b *bench) measure(m measurement) error {
	best := func(d *time.Duration, f func() (time.Duration, error)) error {
		if f == nil {
			return nil
		}
		t, err := f()
		if err == nil && (*d == 0 || t < *d) {
			*d = t
		}
		return err
	}
	var ours, other time.Duration
	for range b.rounds {
		if err := best(&other, m.other); err != nil {
			return err
		}
		if err := best(&ours, m.ours); err != nil {
			return err
		}
	}
	show := func(d time.Duration) string {
		if m.unit == "" {
			return d.Round(time.Millisecond / 10).String()
		}
		return fmt.Sprintf("%.0f %s", m.work/d.Seconds(), m.unit)
	}
	fmt.Printf("| %s | %s | %s | %s: %s | %.2f |\n", m.name, m.target, show(ours), m.otherName, show(other), other.Seconds()/ours.Seconds())
	return nil
}

// machine describes what the figures were made on.
func machine() string {
	cpu := "unknown processor"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				cpu = strings.TrimSpace(v)
				break
			}
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	load, _ := os.ReadFile("/proc/loadavg")
	return fmt.Sprintf("%s, %d processors, Linux %s, %s, load %s, %s",
		cpu, runtime.NumCPU(), strings.TrimSpace(string(kernel)), runtime.Version(), strings.Fields(string(load))[0], time.Now().UTC().Format(time.DateOnly))
}

// command runs a program that has to succeed.
func command(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// dropCaches makes the kernel forget everything it has read.
func dropCaches() error {
	if err := command("sync"); err != nil {
		return err
	}
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}
