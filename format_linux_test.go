package bcachefs_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// sourceTree makes a directory with one of everything that needs no root. It
// holds a lost+found, which format leaves out, so that link counts agree.
func sourceTree(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "src")
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, b []byte) { check(os.WriteFile(path(name), b, 0o644)) }
	check(os.Mkdir(dir, 0o755))
	check(os.Mkdir(path("lost+found"), 0o700))
	write("lost+found/not me", []byte("x"))
	noise := make([]byte, 3<<20)
	for i := range noise {
		noise[i] = byte(i*i>>7) ^ byte(i>>3)
	}
	for _, n := range []int{0, 1, 511, 512, 513, 1023, 1024, 1025, 4095, 4096, 4097, 65535, 65536, 65537, 1<<20 - 1, 1 << 20, 1<<20 + 1, 2<<20 + 4097} {
		write(fmt.Sprintf("size-%d", n), noise[:n])
	}
	write("compressible", bytes.Repeat([]byte("compressible text "), 20000))
	// Holes: at the start, between, at the end; a file that is one hole.
	sparse := func(name string, size int64, at ...int64) {
		f, err := os.Create(path(name))
		check(err)
		for _, off := range at {
			_, err := f.WriteAt([]byte("data"), off)
			check(err)
		}
		check(f.Truncate(size))
		check(f.Close())
	}
	sparse("hole", 5<<20)
	sparse("hole-small", 1000)
	sparse("holes", 9<<20+123, 40000, 1<<20-2, 3<<20, 8<<20)
	sparse("hole-front", 2<<20, 2<<20-4)
	check(os.Mkdir(path("many"), 0o755))
	for i := range 1500 {
		write(fmt.Sprintf("many/file number %d", i), noise[i:i+i%40])
	}
	deep := "deep"
	for range 12 {
		check(os.Mkdir(path(deep), 0o711))
		write(deep+"/f", []byte(deep))
		deep += "/" + strings.Repeat("d", 9)
	}
	check(os.Mkdir(path("empty"), 0o1777))
	check(os.Mkdir(path("names"), 0o755))
	for _, n := range []string{strings.Repeat("n", 255), "\xff\xfe not UTF-8", "Ünïcödé", "new\nline", " ", "-f", "a", "A"} {
		write("names/"+n, []byte(n))
	}
	write("linked", noise[:10000])
	check(os.Link(path("linked"), path("many/link")))
	check(os.Link(path("linked"), path("zlink")))
	check(os.Symlink("size-1", path("symlink")))
	check(os.Symlink(strings.Repeat("long/", 800)+"end", path("symlink-long")))
	check(os.Symlink("nowhere", path("empty/dangling")))
	check(unix.Mkfifo(path("fifo"), 0o600))
	check(unix.Mknod(path("socket"), unix.S_IFSOCK|0o640, 0))
	for _, x := range []struct{ file, name, value string }{
		{"size-4096", "user.short", "v"}, {"size-4096", "user.empty", ""}, {"size-4096", "user.long", strings.Repeat("x", 1800)},
		{"many", "user.of a directory", "\x00\x01\xff"}, {"size-0", "user.alone", "1"}, {"", "user.root", "of the root"},
	} {
		check(unix.Setxattr(path(x.file), x.name, []byte(x.value), 0))
	}
	check(os.Chmod(path("size-512"), 0o7755&0o777|os.ModeSetuid|os.ModeSetgid))
	check(os.Chmod(path("size-513"), 0))
	if os.Geteuid() != 0 {
		check(os.Chmod(path("size-513"), 0o400))
	}
	when := func(name string, at time.Time) { check(os.Chtimes(path(name), at, at)) }
	when("size-1", time.Unix(-86400*365*20, 5))
	when("size-511", time.Unix(1<<32+7, 999999999))
	when("many", time.Unix(1e9, 123456789))
	when("", time.Unix(1.5e9, 1))
	return dir
}

// hostManifest is the manifest of a directory of the host, as tidy makes it.
func hostManifest(t testing.TB, dir string) []testvol.Entry {
	t.Helper()
	m, err := testvol.ManifestOf(context.Background(), testvol.OSFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	return tidy(m)
}

// tidy leaves out lost+found and numbers the inodes in order of their first path,
// so that trees of different file systems can be compared.
func tidy(m []testvol.Entry) []testvol.Entry {
	m = slices.DeleteFunc(m, func(e testvol.Entry) bool {
		return e.Path == "lost+found" || strings.HasPrefix(e.Path, "lost+found/")
	})
	slices.SortFunc(m, func(a, b testvol.Entry) int { return strings.Compare(a.Path, b.Path) })
	numbers := map[uint64]uint64{}
	for i := range m {
		n := numbers[m[i].Ino]
		if n == 0 {
			n = uint64(len(numbers) + 1)
			numbers[m[i].Ino] = n
		}
		m[i].Ino = n
	}
	return m
}

func strict(t testing.TB) func(error) {
	return func(err error) { t.Errorf("warning: %v", err) }
}

func format(t testing.TB, o bcachefs.FormatOptions, devs ...bcachefs.FormatDevice) *bcachefs.Formatted {
	t.Helper()
	if o.Warn == nil {
		o.Warn = strict(t)
	}
	f, err := bcachefs.Format(context.Background(), devs, o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func sparseDevice(name string, size int64, options map[string]string) bcachefs.FormatDevice {
	return bcachefs.FormatDevice{Device: block.NewSparse(name, size), Options: options}
}

func readers(devs []bcachefs.FormatDevice) (rs []block.Reader) {
	for _, d := range devs {
		rs = append(rs, d.Device)
	}
	return rs
}

func TestFormatFromDir(t *testing.T) {
	src := sourceTree(t)
	want := hostManifest(t, src)
	type devices []map[string]string
	for _, tt := range []struct {
		name    string
		options map[string]string
		o       bcachefs.FormatOptions
		size    int64
		devs    devices
	}{
		{name: "defaults"},
		{name: "blocks of 512", options: map[string]string{"block_size": "512"}},
		{name: "small nodes", options: map[string]string{"btree_node_size": "32k"}},
		{name: "small buckets", size: 48 << 20, devs: devices{{"bucket_size": "32k"}}},
		{name: "tiny", size: 16 << 20, options: map[string]string{"compression": "zstd"}},
		{name: "large buckets", size: 2 << 30, devs: devices{{"bucket_size": "2M"}}},
		{name: "no checksums", options: map[string]string{"data_checksum": "none", "metadata_checksum": "none"}},
		{name: "xxhash", options: map[string]string{"data_checksum": "xxhash", "metadata_checksum": "crc64", "str_hash": "crc32c"}},
		{name: "lz4", options: map[string]string{"compression": "lz4", "str_hash": "crc64"}},
		{name: "zstd", options: map[string]string{"compression": "lz4", "background_compression": "zstd:9", "encoded_extent_max": "256k"}},
		{name: "gzip, tiny extents", options: map[string]string{"compression": "gzip:1", "encoded_extent_max": "4k"}},
		{name: "nocow", options: map[string]string{"nocow": "1"}},
		{name: "two copies", options: map[string]string{"data_replicas": "2", "metadata_replicas": "2"}, devs: devices{{}, {}}},
		{name: "three devices", options: map[string]string{"foreground_target": "ssd", "background_target": "hdd", "metadata_target": "ssd"},
			devs: devices{{"label": "ssd.a"}, {"label": "hdd.a", "bucket_size": "256k", "fs_size": "130M"}, {"label": "hdd.b", "durability": "2"}}},
		{name: "roles", devs: devices{{"data_allowed": "journal,btree"}, {"data_allowed": "user", "discard": "1"}}},
		{name: "encrypted", o: bcachefs.FormatOptions{Encrypt: true, Passphrase: []byte("secret")}},
		{name: "encrypted, key in the clear", options: map[string]string{"compression": "zstd", "wide_macs": "1"}, o: bcachefs.FormatOptions{Encrypt: true}},
		{name: "small superblocks", o: bcachefs.FormatOptions{SuperblockSize: 64 << 10, Label: strings.Repeat("l", 31)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.size == 0 {
				tt.size = 160 << 20
			}
			if tt.devs == nil {
				tt.devs = devices{{}}
			}
			var devs []bcachefs.FormatDevice
			for i, o := range tt.devs {
				devs = append(devs, sparseDevice(fmt.Sprint("dev", i), tt.size, o))
			}
			tt.o.Options, tt.o.Source = tt.options, bcachefs.FormatFromDir(src)
			f := format(t, tt.o, devs...)
			if n := int64(len(want) - 1 - 2); f.Files != n || f.Links != 2 || f.LostXattrs != 0 {
				t.Errorf("Format = %d files, %d links, %d attributes lost, want %d, 2, 0", f.Files, f.Links, f.LostXattrs, n)
			}
			v := open(t, readers(devs), bcachefs.Options{Warn: strict(t), Passphrase: func(context.Context, string) ([]byte, error) { return tt.o.Passphrase, nil }})
			if sb := v.Superblock(); !sb.Clean() || sb.Version != ondisk.Version1_13 || sb.Label != tt.o.Label {
				t.Errorf("superblock: clean %v, version %v, label %q, want true, 1.13, %q", sb.Clean(), sb.Version, sb.Label, tt.o.Label)
			}
			testvol.Check(t, want, tidy(manifest(t, v.Root())), testvol.Quirks{})
			for name, value := range tt.options {
				o, _ := ondisk.FindOption(name)
				if got := o.Format(o.Get(v.Superblock()), v.Superblock().TargetString); got != value {
					t.Errorf("option %s = %s, want %s", name, got, value)
				}
			}
			checkVolume(t, devs, tt.o.Passphrase)
		})
	}
}

// image is all bytes of a device.
func imageOf(t testing.TB, d bcachefs.FormatDevice) []byte {
	t.Helper()
	b := make([]byte, d.Device.Size())
	if _, err := d.Device.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// One tree, options, seed and time are one image, on any number of processors.
func TestFormatReproducible(t *testing.T) {
	src := sourceTree(t)
	make := func(procs int, o bcachefs.FormatOptions) []byte {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
		d := sparseDevice("x.img", 96<<20, nil)
		o.Source, o.Time = bcachefs.FormatFromDir(src), time.Unix(1.7e9, 0)
		o.Options = map[string]string{"compression": "zstd"}
		format(t, o, d)
		return imageOf(t, d)
	}
	one := make(1, bcachefs.FormatOptions{Seed: "a"})
	for i := range 3 {
		if !bytes.Equal(one, make(8, bcachefs.FormatOptions{Seed: "a"})) {
			t.Fatalf("image %d made by 8 processors is not the one made by 1", i)
		}
	}
	if bytes.Equal(one, make(1, bcachefs.FormatOptions{Seed: "b"})) {
		t.Error("another seed gives the same image")
	}
	if bytes.Equal(make(1, bcachefs.FormatOptions{}), make(1, bcachefs.FormatOptions{})) {
		t.Error("no seed gives the same image twice")
	}
}

// checkVolume has our own check look at everything, data included.
func checkVolume(t testing.TB, devs []bcachefs.FormatDevice, passphrase []byte) {
	t.Helper()
	r, err := bcachefs.Check(context.Background(), readers(devs), bcachefs.Options{Passphrase: func(context.Context, string) ([]byte, error) { return passphrase, nil }},
		bcachefs.CheckOptions{Data: true, Found: func(f bcachefs.Finding) {
			if !f.Note {
				t.Errorf("check: %v", f)
			}
		}})
	if err != nil {
		t.Errorf("Check: %v", err)
	} else if r.Bad() > 0 || !r.Shutdown {
		t.Errorf("check: %d errors, shut down properly %v, want 0, true", r.Bad(), r.Shutdown)
	}
}
