package block

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The places that tell about users of a device; tests have others.
const (
	procDir  = "/proc"
	blockDir = "/sys/block"
	devDir   = "/sys/dev/block"
)

// Mounted lists where a block device is mounted, and also its partitions, the
// loop devices that an image file is attached to, and volumes of several devices
// that name it as a source. An empty list is no promise: file systems of other
// mount namespaces are not seen. What does not exist is not mounted.
func Mounted(name string) ([]string, error) {
	st, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(procDir, "self/mountinfo"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := bufio.NewScanner(f)
	b.Buffer(nil, 1<<20)
	var lines []string
	for b.Scan() {
		lines = append(lines, b.Text())
	}
	if err := b.Err(); err != nil {
		return nil, err
	}
	numbers := map[string]bool{}
	for _, n := range deviceNumbers(devDir, blockDir, st) {
		numbers[n] = true
	}
	return mountedAt(lines, numbers, func(source string) bool {
		return numbers[nodeNumber(source)]
	}), nil
}

// number is the device number of a device as the kernel writes it, "7:0".
func number(st fs.FileInfo) string {
	s, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%d:%d", unix.Major(uint64(s.Rdev)), unix.Minor(uint64(s.Rdev)))
}

// nodeNumber is the number of the device of a node below /dev, "" if it is none.
// Other names are not looked at: that could wait for a server that is gone.
func nodeNumber(node string) string {
	if !strings.HasPrefix(node, "/dev/") {
		return ""
	}
	st, err := os.Stat(node)
	if err != nil || !isDisk(st) {
		return ""
	}
	return number(st)
}

// deviceNumbers lists the numbers of a device and its partitions; for a file
// those of the loop devices that it is attached to.
func deviceNumbers(devs, blocks string, st fs.FileInfo) []string {
	if !isDisk(st) {
		var all []string
		for _, l := range loopsOf(blocks, st) {
			all = append(all, withPartitions(filepath.Join(blocks, l), sysfsValue(filepath.Join(blocks, l), "dev"))...)
		}
		return all
	}
	n := number(st)
	return withPartitions(filepath.Join(devs, n), n)
}

// withPartitions lists a number and those of the partitions in a directory of sysfs.
func withPartitions(dir, n string) []string {
	all := []string{n}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return all
	}
	for _, e := range entries {
		if sub := filepath.Join(dir, e.Name()); sysfsValue(sub, "partition") != "" {
			all = append(all, sysfsValue(sub, "dev"))
		}
	}
	return all
}

// loopsOf lists the loop devices that a file is attached to.
func loopsOf(blocks string, st fs.FileInfo) []string {
	dirs, _ := filepath.Glob(filepath.Join(blocks, "loop*", "loop", "backing_file"))
	var all []string
	for _, d := range dirs {
		loop := filepath.Dir(filepath.Dir(d))
		back, err := os.Stat(sysfsValue(loop, "loop/backing_file"))
		if err == nil && os.SameFile(back, st) {
			all = append(all, filepath.Base(loop))
		}
	}
	return all
}

// mountedAt lists the mount points of lines of mountinfo: 36 35 98:0 /root
// /mount/point options… - type source options.
func mountedAt(lines []string, numbers map[string]bool, isSource func(string) bool) []string {
	var all []string
	for _, line := range lines {
		f := strings.Fields(line)
		sep := slices.Index(f, "-")
		if sep < 6 || len(f) < sep+3 {
			continue
		}
		hit := numbers[f[2]]
		// File systems of several devices have a number of their own, and name the
		// devices in the source.
		if !hit && strings.HasPrefix(f[2], "0:") {
			hit = slices.ContainsFunc(strings.Split(unescape(f[sep+2]), ":"), isSource)
		}
		if at := unescape(f[4]); hit && !slices.Contains(all, at) {
			all = append(all, at)
		}
	}
	return all
}

// unescape replaces the octal escapes of mountinfo: \040 is a space.
func unescape(s string) string {
	for from := 0; ; {
		i := strings.IndexByte(s[from:], '\\')
		if i < 0 || from+i+4 > len(s) {
			return s
		}
		i += from
		if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
			s = s[:i] + string([]byte{byte(n)}) + s[i+4:]
		}
		from = i + 1
	}
}

// attached names the loop devices that an image file is attached to, "" if none:
// the kernel would not see what is written below it, nor the other way round.
func attached(st fs.FileInfo) string {
	loops := loopsOf(blockDir, st)
	for i := range loops {
		loops[i] = "/dev/" + loops[i]
	}
	return strings.Join(loops, ", ")
}

// users says who uses a device or file, as far as this process may know; "" if
// it does not.
func users(name string, f *os.File) string {
	var st fs.FileInfo
	var err error
	if f != nil {
		st, err = f.Stat()
	} else {
		st, err = os.Stat(name)
	}
	if err != nil {
		return ""
	}
	var all []string
	if at, err := Mounted(name); err == nil && len(at) > 0 {
		all = append(all, "mounted on "+strings.Join(at, ", "))
	}
	if isDisk(st) {
		if h := holders(filepath.Join(devDir, number(st))); len(h) > 0 {
			all = append(all, "part of "+strings.Join(h, ", "))
		}
		if swapped(filepath.Join(procDir, "swaps"), st) {
			all = append(all, "used for swap")
		}
	}
	if p := openBy(procDir, name, os.Getpid(), f != nil); len(p) > 0 {
		all = append(all, "open in "+strings.Join(p, ", "))
	}
	return strings.Join(all, "; ")
}

// holders lists the devices that are made of one and of its partitions.
func holders(dir string) []string {
	dirs, _ := filepath.Glob(filepath.Join(dir, "holders", "*"))
	parts, _ := filepath.Glob(filepath.Join(dir, "*", "holders", "*"))
	var all []string
	for _, d := range append(dirs, parts...) {
		all = append(all, "/dev/"+filepath.Base(d))
	}
	return all
}

// swapped reports whether a line of /proc/swaps names the device.
func swapped(file string, st fs.FileInfo) bool {
	b, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if nodeNumber(unescape(f[0])) == number(st) {
			return true
		}
	}
	return false
}

// maxUsers bounds the processes that a message names.
const maxUsers = 3

// openBy names the processes that have a file open under the name that it is
// known by here. mine says that this process has it open itself, and so is in
// its own way only if it has it open once more. Links are read, not followed:
// that could wait for a server that is gone.
func openBy(proc, name string, self int, mine bool) []string {
	name, err := filepath.Abs(name)
	if err != nil {
		return nil
	}
	if name, err = filepath.EvalSymlinks(name); err != nil {
		return nil
	}
	var all []string
	dirs, _ := filepath.Glob(filepath.Join(proc, "[0-9]*", "fd"))
	for _, d := range dirs {
		n := 0
		fds, err := os.ReadDir(d)
		if err != nil {
			continue
		}
		for _, e := range fds {
			if to, err := os.Readlink(filepath.Join(d, e.Name())); err == nil && to == name {
				n++
			}
		}
		pid := filepath.Base(filepath.Dir(d))
		own := pid == strconv.Itoa(self)
		if own && mine {
			n--
		}
		switch {
		case n <= 0:
			continue
		case own:
			all = append(all, "this process")
		default:
			comm, _ := os.ReadFile(filepath.Join(filepath.Dir(d), "comm"))
			all = append(all, fmt.Sprintf("%s (process %s)", bytes.TrimSpace(comm), pid))
		}
		if len(all) == maxUsers {
			break
		}
	}
	return all
}
