//go:build oracle

package bcachefs_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/internal/oracle"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// fsckNoise reads the list of lines that do not count.
func fsckNoise(t *testing.T) []*regexp.Regexp {
	t.Helper()
	b, err := os.ReadFile("testdata/fsck-noise.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []*regexp.Regexp
	for l := range strings.Lines(string(b)) {
		if l = strings.TrimRight(l, "\n"); l != "" && l[0] != '#' {
			all = append(all, regexp.MustCompile(l))
		}
	}
	return all
}

// realFsck has the real tools check a volume: exit code 0, and no line that is
// not noise.
func realFsck(t *testing.T, o oracle.Oracle, noise []*regexp.Regexp, when string, images []string) {
	t.Helper()
	r := o.Fsck(t, images...)
	if r.Code != 0 {
		t.Errorf("%s: fsck -n exits %d, want 0", when, r.Code)
	}
lines:
	for l := range strings.Lines(r.Out + r.Err) {
		l = strings.TrimRight(l, "\n")
		for _, n := range noise {
			if n.MatchString(l) {
				continue lines
			}
		}
		if strings.TrimSpace(l) != "" {
			t.Errorf("%s: fsck -n says %q, want nothing", when, l)
		}
	}
}

type realVolume struct {
	name    string
	options map[string]string
	o       bcachefs.FormatOptions
	devs    []map[string]string
	size    int64
	images  []string
}

func realMatrix() []*realVolume {
	one := func(name string, options ...string) *realVolume {
		v := &realVolume{name: name, options: map[string]string{}, devs: []map[string]string{{}}, size: 96 << 20}
		for i := 0; i < len(options); i += 2 {
			v.options[options[i]] = options[i+1]
		}
		return v
	}
	with := func(v *realVolume, f func(*realVolume)) *realVolume { f(v); return v }
	return []*realVolume{
		one("defaults"),
		one("block512", "block_size", "512"),
		one("node32k", "btree_node_size", "32k"),
		with(one("bucket32k"), func(v *realVolume) { v.devs[0]["bucket_size"] = "32k" }),
		with(one("bucket1m"), func(v *realVolume) { v.devs[0]["bucket_size"], v.size = "1M", 640<<20 }),
		with(one("tiny"), func(v *realVolume) { v.size = 16 << 20; v.options["compression"] = "zstd" }),
		with(one("big"), func(v *realVolume) { v.size = 2 << 40 }),
		one("nosums", "data_checksum", "none", "metadata_checksum", "none"),
		one("xxhash", "data_checksum", "xxhash", "metadata_checksum", "xxhash", "str_hash", "crc32c"),
		one("crc64", "data_checksum", "crc64", "metadata_checksum", "crc64", "str_hash", "crc64"),
		one("lz4", "compression", "lz4"),
		one("gzip", "compression", "gzip:9", "encoded_extent_max", "128k"),
		one("zstd", "background_compression", "zstd:15"),
		one("ext4k", "encoded_extent_max", "4k"),
		one("nocow", "nocow", "1"),
		one("quotas", "usrquota", "1", "grpquota", "1", "prjquota", "1", "acl", "1"),
		with(one("clearkey"), func(v *realVolume) { v.o.Encrypt = true }),
		with(one("two", "data_replicas", "2", "metadata_replicas", "2"), func(v *realVolume) { v.devs = []map[string]string{{}, {}} }),
		with(one("three", "foreground_target", "ssd", "background_target", "hdd", "metadata_target", "ssd"), func(v *realVolume) {
			v.devs = []map[string]string{{"label": "ssd.a"}, {"label": "hdd.a"}, {"label": "hdd.b", "durability": "2"}}
		}),
	}
}

// Volumes made by us are volumes to the real tools and to the real kernel, which
// changes them; what it leaves is a volume to us.
func TestFormatOracle(t *testing.T) {
	o, noise, src := oracle.New(t), fsckNoise(t), sourceTree(t)
	want := hostManifest(t, src)
	host := t.TempDir()
	tree, err := os.ReadFile(o.TreeScript())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(host, "tree.py"), tree, 0o644); err != nil {
		t.Fatal(err)
	}
	vols := realMatrix()
	var script strings.Builder
	for _, v := range vols {
		var devs []bcachefs.FormatDevice
		var loops []string
		for i, options := range v.devs {
			name := fmt.Sprintf("%s.%d.img", v.name, i)
			v.images = append(v.images, filepath.Join(host, name))
			w, err := block.Create(context.Background(), v.images[i], v.size, block.Options{})
			if err != nil {
				t.Fatal(err)
			}
			devs = append(devs, bcachefs.FormatDevice{Device: w, Options: options})
			fmt.Fprintf(&script, "l%d=$(losetup -f); losetup $l%d /host/%s\n", i, i, name)
			loops = append(loops, fmt.Sprintf("$l%d", i))
		}
		v.o.Options, v.o.Source = v.options, bcachefs.FormatFromDir(src)
		format(t, v.o, devs...)
		for _, d := range devs {
			if err := d.Device.Close(); err != nil {
				t.Fatal(err)
			}
		}
		realFsck(t, o, noise, v.name+", made", v.images)
		fmt.Fprintf(&script, `if mount -t bcachefs %s /mnt; then
R python3 /host/tree.py manifest /mnt > /host/%s.manifest
cp -a /mnt/many /mnt/copy && rm -r /mnt/deep && echo changed > /mnt/size-4096 && mkdir /mnt/new && ln /mnt/linked /mnt/new/l && echo ok > /host/%s.ok
umnt
fi
for l in %s; do losetup -d $l; done
`, strings.Join(loops, ":"), v.name, v.name, strings.Join(loops, " "))
	}
	if r := o.VMIn(t, host, script.String()); r.Code != 0 {
		t.Errorf("the machine: exit code %d\n%s%s", r.Code, r.Out, r.Err)
	}
	for _, v := range vols {
		t.Run(v.name, func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join(host, v.name+".manifest"))
			if err != nil {
				t.Fatalf("the kernel does not mount it: %v", err)
			}
			got, err := testvol.ReadManifest(b)
			if err != nil {
				t.Fatal(err)
			}
			testvol.Check(t, want, tidy(got), testvol.Quirks{})
			if _, err := os.Stat(filepath.Join(host, v.name+".ok")); err != nil {
				t.Errorf("the kernel could not change it: %v", err)
			}
			realFsck(t, o, noise, v.name+", changed by the kernel", v.images)
			var rs []block.Reader
			var devs []bcachefs.FormatDevice
			for _, p := range v.images {
				w, err := block.OpenWriter(context.Background(), p, block.Options{})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = w.Close() })
				rs, devs = append(rs, w), append(devs, bcachefs.FormatDevice{Device: w})
			}
			checkVolume(t, devs, nil)
			vol := open(t, rs, bcachefs.Options{Warn: strict(t)})
			seen := map[string]testvol.Entry{}
			for _, e := range manifest(t, vol.Root()) {
				seen[e.Path] = e
			}
			if e, ok := seen["size-4096"]; !ok || e.Size != 8 {
				t.Errorf("size-4096 has %d bytes, want the 8 that the kernel wrote", e.Size)
			}
			if _, ok := seen["deep"]; ok {
				t.Error("deep is there, want it removed by the kernel")
			}
			for i := range 1500 {
				n := fmt.Sprintf("file number %d", i)
				if a, b := seen["many/"+n], seen["copy/"+n]; a.SHA256 == "" || a.SHA256 != b.SHA256 {
					t.Errorf("copy of %s = %s, want %s", n, b.SHA256, a.SHA256)
				}
			}
		})
	}
}
