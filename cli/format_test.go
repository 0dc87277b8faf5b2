package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gobcachefs/gobcachefs/cli"
)

type formatDoc struct {
	UUID    string
	Label   string
	Version string
	Devices []struct {
		Size       int64
		BucketSize int64 `json:"bucket_size"`
		Buckets    int64
	}
	Source   *struct{ Files, Bytes int64 }
	Excludes []string
}

func TestFormat(t *testing.T) {
	dir := t.TempDir()
	a, b, c := filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "c")
	src := filepath.Join(dir, "src")
	if err := os.Mkdir(src, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(src, "hello"), []byte("hello\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const uuid = "11111111-2222-4333-8444-555555555555"
	// Options of devices hold until changed; names take both - and _.
	d := parse[formatDoc](t, ok(t, "format", "--json", "-L", "lab", "-U", uuid, "--replicas=2", "--source", src,
		"--fs-size=64M", a, "--bucket_size=64k", b, "--fs_size", "128M", c))
	if d.UUID != uuid || d.Label != "lab" || d.Version != "1.13" || len(d.Devices) != 3 || d.Source == nil || d.Source.Files != 1 || len(d.Excludes) == 0 {
		t.Fatalf("format --json = %+v", d)
	}
	for i, want := range [][3]int64{{64 << 20, 128 << 10, 512}, {64 << 20, 64 << 10, 1024}, {128 << 20, 64 << 10, 2048}} {
		if g := d.Devices[i]; g.Size != want[0] || g.BucketSize != want[1] || g.Buckets != want[2] {
			t.Errorf("device %d = %+v, want %v", i, g, want)
		}
	}
	vol := a + ":" + b + ":" + c
	if out := ok(t, "cat", vol, "/hello"); out != "hello\n" {
		t.Errorf("cat = %q, want hello", out)
	}
	out := ok(t, "format", "-f", a)
	for _, want := range []string{"Version:", "Options:", "Version 1.13 excludes:", "case-insensitive directories"} {
		if !strings.Contains(out, want) {
			t.Errorf("format prints no %q:\n%s", want, out)
		}
	}
	if out := ok(t, "format", "-q", "--force", a); out != "" {
		t.Errorf("format -q prints %q, want nothing", out)
	}
}

func TestFormatBadUsage(t *testing.T) {
	dir := t.TempDir()
	img := filepath.Join(dir, "x.img")
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{}, 2, "DEVICE is missing"},
		{[]string{img}, 1, "no such file"},
		{[]string{"--fs_size=64M", img, "--label=x"}, 2, "after the last device"},
		{[]string{"--version=1.39", "--fs_size=64M", img}, 1, "only of 1.13"},
		{[]string{"--version=1.99", "--fs_size=64M", img}, 2, "not known"},
		{[]string{"--bogus", "--fs_size=64M", img}, 2, "bogus"},
		{[]string{"--data_replicas=4", "--fs_size=64M", img}, 2, "too big (max 3)"},
		{[]string{"--gc_reserve_percent=4", "--fs_size=64M", img}, 2, "too small (min 5)"},
		{[]string{"--compression=zstd:16", "--fs_size=64M", img}, 2, "invalid compression level"},
		{[]string{"--superblock_size=3k", "--fs_size=64M", img}, 2, "too small"},
		{[]string{"--bucket_size=100k", "--fs_size=64M", img}, 2, "power of two"},
		{[]string{"-L", strings.Repeat("l", 32), "--fs_size=64M", img}, 2, "too long"},
		{[]string{"--no_passphrase", "--passphrase_file=/dev/null", "--fs_size=64M", img}, 2, "exclude each other"},
		{[]string{"--encrypted", "--fs_size=64M", img}, 1, "no terminal"},
		{[]string{"--encrypted", "--seed=x", "--fs_size=64M", img}, 2, "seed"},
		{[]string{"--fs_size=2M", img}, 1, "device too small"},
		{[]string{"--source=" + filepath.Join(dir, "none"), "--fs_size=64M", img}, 1, "no such file"},
	} {
		r := run(append([]string{"format"}, tt.args...)...)
		if r.code != tt.code || !strings.Contains(r.err, tt.want) {
			t.Errorf("format %q: exit code %d, %q, want %d and %q", tt.args, r.code, r.err, tt.code, tt.want)
		}
		if _, err := os.Stat(img); err == nil {
			t.Errorf("format %q leaves the file it made", tt.args)
			_ = os.Remove(img)
		}
	}
	ok(t, "format", "-q", "--fs_size=64M", img)
	if r := run("format", img); r.code != 1 || !strings.Contains(r.err, "--force") {
		t.Errorf("format over a volume: exit code %d, %q, want 1 and --force named", r.code, r.err)
	}
}

func TestFormatByName(t *testing.T) {
	img := filepath.Join(t.TempDir(), "x.img")
	var out, errb strings.Builder
	code := cli.Run(t.Context(), "/sbin/mkfs.bcachefs", []string{"-q", "--fs_size=64M", img}, cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errb})
	if code != 0 || out.String() != "" {
		t.Errorf("mkfs.bcachefs = %d, %q, %q, want 0 and nothing", code, &out, &errb)
	}
}

func TestImageIsRefused(t *testing.T) {
	for _, sub := range []string{"create", "update"} {
		if r := run("image", sub, "--source", "/", "x"); r.code != 1 || !strings.Contains(r.err, "image "+sub+" is not supported") {
			t.Errorf("image %s: exit code %d, %q, want 1 and a refusal by name", sub, r.code, r.err)
		}
	}
}
