package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// randomReads is how many pages a random measurement reads.
const randomReads = 20_000

func (b *bench) measurements() []measurement {
	treeBytes := treeSize(b.tree("small") + "/tree")
	tarBytes := float64(treeBytes)
	return []measurement{
		{name: "sequential read of a 1 GiB file", target: "≥ 0.8", ours: b.onMount("plain", "", readBig), other: b.onExt4("", readBig), otherName: "ext4",
			work: bigFile / 1e6, unit: "MB/s"},
		{name: "sequential read of a 1 GiB file, no checksums", ours: b.onMount("nosum", "", readBig), other: b.onExt4("", readBig), otherName: "ext4",
			work: bigFile / 1e6, unit: "MB/s"},
		{name: "sequential read of a 1 GiB file, 64 KiB extents", ours: b.onMount("sum64", "", readBig), other: b.onExt4("", readBig), otherName: "ext4",
			work: bigFile / 1e6, unit: "MB/s"},
		{name: "walk and stat of 12,000 files", target: "≥ 0.6", ours: b.onMount("plain", "/tree", walk), other: b.onExt4("/tree", walk), otherName: "ext4",
			work: treeFiles, unit: "files/s"},
		{name: "reading that whole tree", target: "≥ 1", ours: b.onMount("plain", "/tree", readTree), other: b.onExt4("/tree", readTree), otherName: "ext4",
			work: treeFiles, unit: "files/s"},
		{name: "reading that whole tree, zstd", ours: b.onMount("zstd", "/tree", readTree), other: b.onExt4("/tree", readTree), otherName: "ext4, not compressed",
			work: treeFiles, unit: "files/s"},
		{name: "`gobcachefs tar` of it to /dev/null", target: "≥ 1.5", ours: b.tar("plain"), other: b.onMount("plain", "/tree", readTree), otherName: "reading it through our mount",
			work: tarBytes / 1e6, unit: "MB/s"},
		{name: "random 4 KiB reads, no checksums", target: "≥ 0.8", ours: b.onMount("nosum", "/big", randomPages), other: b.onExt4("/big", randomPages), otherName: "ext4",
			work: randomReads, unit: "reads/s"},
		{name: "random 4 KiB reads, 64 KiB checksummed extents", target: "≥ 0.8", ours: b.onMount("sum64", "/big", randomPages), other: b.rawExtents("sum64"),
			otherName: "reading and summing 64 KiB of the raw image", work: randomReads, unit: "reads/s"},
		{name: "open", ours: b.open("plain"), other: b.open("plain"), otherName: "the same"},
	}
}

// bigMeasurements are those with a million files.
func (b *bench) bigMeasurements() []measurement {
	return []measurement{
		{name: "open, a million files", target: "the same", ours: b.open("million"), other: b.open("plain"), otherName: "12,000 files"},
		{name: "walk and stat of a million files", ours: b.memory("million"), other: b.memory("million"), otherName: "the same", work: 1e6, unit: "files/s"},
	}
}

// onMount measures f on a fresh mount of ours.
func (b *bench) onMount(vol, sub string, f func(string) error) func() (time.Duration, error) {
	return func() (d time.Duration, err error) {
		if err := dropCaches(); err != nil {
			return 0, err
		}
		if err := command(b.program, "mount", b.image(vol), b.mnt); err != nil {
			return 0, err
		}
		d, err = timed(func() error { return f(b.mnt + sub) })
		return d, errors.Join(err, b.unmount())
	}
}

// onExt4 measures f on a fresh mount of ext4.
func (b *bench) onExt4(sub string, f func(string) error) func() (time.Duration, error) {
	return func() (d time.Duration, err error) {
		if err := dropCaches(); err != nil {
			return 0, err
		}
		if err := command("mount", "-o", "loop,ro", b.image("ext4"), b.mnt); err != nil {
			return 0, err
		}
		d, err = timed(func() error { return f(b.mnt + sub) })
		return d, errors.Join(err, b.unmount())
	}
}

func (b *bench) unmount() error { return command("umount", b.mnt) }

func timed(f func() error) (time.Duration, error) {
	start := time.Now()
	err := f()
	return time.Since(start), err
}

// tar measures the command, without a mount.
func (b *bench) tar(vol string) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		if err := dropCaches(); err != nil {
			return 0, err
		}
		null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		if err != nil {
			return 0, err
		}
		defer null.Close()
		cmd := exec.Command(b.program, "tar", b.image(vol), "/tree")
		var msg bytes.Buffer
		cmd.Stdout, cmd.Stderr = null, &msg
		return timed(func() error {
			if err := cmd.Run(); err != nil {
				return fmt.Errorf("tar: %w: %s", err, &msg)
			}
			return nil
		})
	}
}

// open measures opening a volume and looking at its root.
func (b *bench) open(vol string) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		if err := dropCaches(); err != nil {
			return 0, err
		}
		return timed(func() error { return command(b.program, "stat", b.image(vol), "/") })
	}
}

// memory walks a volume with a small cache, and says on standard error how much
// memory the process that serves it took at most.
func (b *bench) memory(vol string) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		if err := dropCaches(); err != nil {
			return 0, err
		}
		const cache = 64
		cmd := exec.Command(b.program, "mount", "--foreground", "-v", "-o", fmt.Sprintf("cache=%dM", cache), b.image(vol), b.mnt)
		ready, err := cmd.StderrPipe()
		if err != nil {
			return 0, err
		}
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		if _, err := ready.Read(make([]byte, 4096)); err != nil {
			return 0, err
		}
		d, err := timed(func() error { return walk(b.mnt) })
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
		for line := range strings.Lines(string(status)) {
			if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
				kb, _ := strconv.Atoi(strings.Fields(v)[0])
				fmt.Fprintf(os.Stderr, "bench: at most %d MB resident, %d MB more than the cache\n", kb/1000, kb/1000-cache<<20/1_000_000)
			}
		}
		return d, errors.Join(err, b.unmount(), cmd.Wait())
	}
}

// readBig reads the big file from start to end.
func readBig(root string) error {
	n, err := readFile(root+"/big", make([]byte, 1<<20))
	if err == nil && n != bigFile {
		err = fmt.Errorf("read %d bytes of %d", n, bigFile)
	}
	return err
}

func readFile(path string, buf []byte) (total int64, err error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	defer unix.Close(fd)
	for {
		n, err := unix.Read(fd, buf)
		if n == 0 || err != nil {
			return total, err
		}
		total += int64(n)
	}
}

// walk lists a tree and looks at each file, as find -ls does.
func walk(root string) error { return visit(root, func(string, *unix.Stat_t) error { return nil }) }

// readTree reads every file of a tree, in the order of its listing.
func readTree(root string) error {
	buf := make([]byte, 128<<10)
	return visit(root, func(path string, st *unix.Stat_t) error {
		if st.Mode&unix.S_IFMT != unix.S_IFREG {
			return nil
		}
		n, err := readFile(path, buf)
		if err == nil && n != st.Size {
			err = fmt.Errorf("%s: read %d bytes of %d", path, n, st.Size)
		}
		return err
	})
}

func visit(dir string, f func(string, *unix.Stat_t) error) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	defer unix.Close(fd)
	buf := make([]byte, 32<<10) // as libc does
	var subs []string
	for {
		n, err := unix.Getdents(fd, buf)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		for b := buf[:n]; len(b) > 0; {
			l := binary.NativeEndian.Uint16(b[16:])
			name, _, _ := bytes.Cut(b[19:l], []byte{0})
			b = b[l:]
			if s := string(name); s != "." && s != ".." {
				var st unix.Stat_t
				if err := unix.Fstatat(fd, s, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
					return fmt.Errorf("%s/%s: %w", dir, s, err)
				}
				if err := f(dir+"/"+s, &st); err != nil {
					return err
				}
				if st.Mode&unix.S_IFMT == unix.S_IFDIR {
					subs = append(subs, dir+"/"+s)
				}
			}
		}
	}
	for _, s := range subs {
		if err := visit(s, f); err != nil {
			return err
		}
	}
	return nil
}

func treeSize(root string) (total int64) {
	_ = visit(root, func(_ string, st *unix.Stat_t) error { total += st.Size; return nil })
	return total
}

// randomPages reads pages of a file at random, none twice.
func randomPages(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	buf := make([]byte, 4096)
	for _, p := range rand.New(rand.NewPCG(3, 3)).Perm(bigFile / 4096)[:randomReads] {
		if n, err := unix.Pread(fd, buf, int64(p)*4096); err != nil || n != len(buf) {
			return fmt.Errorf("page %d: %d bytes, %w", p, n, err)
		}
	}
	return nil
}

// rawExtents reads 64 KiB at random places of an image, and sums them.
func (b *bench) rawExtents(vol string) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		if err := dropCaches(); err != nil {
			return 0, err
		}
		return timed(func() error {
			fd, err := unix.Open(b.image(vol), unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			table := crc32.MakeTable(crc32.Castagnoli)
			buf := make([]byte, 64<<10)
			r := rand.New(rand.NewPCG(3, 3))
			for range randomReads {
				// The data of the big file lies in the first part of the image.
				at := int64(64<<20) + r.Int64N(bigFile>>16)<<16
				if n, err := unix.Pread(fd, buf, at); err != nil || n != len(buf) {
					return fmt.Errorf("%d bytes at %d: %w", n, at, err)
				}
				crc32.Checksum(buf, table)
			}
			return nil
		})
	}
}
