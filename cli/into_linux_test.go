package cli_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/gobcachefs/gobcachefs/cli"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// hostTree makes files of all kinds that this user may make.
func hostTree(t *testing.T) string {
	t.Helper()
	d := filepath.Join(t.TempDir(), "tree")
	r := rand.New(rand.NewPCG(1, 1))
	must(t, os.MkdirAll(filepath.Join(d, "dir", "deep", "er"), 0o755))
	for i, size := range []int{0, 1, 511, 512, 513, 2048, 4095, 4096, 4097, 70000, 1 << 20, 3<<20 + 17} {
		b := bytes.Repeat([]byte("a text that can be compressed "), size/30+1)[:size]
		if i%2 == 0 {
			for j := range b {
				b[j] = byte(r.Uint32())
			}
		}
		must(t, os.WriteFile(filepath.Join(d, "dir", fmt.Sprintf("f%d", size)), b, 0o600|os.FileMode(i)))
	}
	sparse, err := os.Create(filepath.Join(d, "sparse"))
	must(t, err)
	for _, off := range []int64{5 << 20, 9<<20 + 4096, 9<<20 + 12288} {
		_, err = sparse.WriteAt([]byte("data between holes"), off)
		must(t, err)
	}
	must(t, sparse.Truncate(20<<20+5))
	must(t, sparse.Close())
	must(t, os.WriteFile(filepath.Join(d, "odd \xff\n name"), []byte("x"), 0o644))
	must(t, os.Link(filepath.Join(d, "dir", "f4097"), filepath.Join(d, "dir", "deep", "link1")))
	must(t, os.Link(filepath.Join(d, "dir", "f4097"), filepath.Join(d, "link2")))
	must(t, os.Symlink("dir/f1", filepath.Join(d, "symlink")))
	must(t, os.Symlink(strings.Repeat("long/", 600), filepath.Join(d, "long")))
	must(t, os.Symlink("dir", filepath.Join(d, "to-dir")))
	must(t, unix.Mkfifo(filepath.Join(d, "fifo"), 0o640))
	must(t, unix.Mknod(filepath.Join(d, "socket"), unix.S_IFSOCK|0o700, 0))
	must(t, os.Chmod(filepath.Join(d, "dir", "f1"), 0o755|os.ModeSetuid|os.ModeSticky))
	must(t, os.Chmod(filepath.Join(d, "dir", "deep"), 0o711|os.ModeSetgid))
	for name, v := range map[string]string{"user.one": "1", "user.empty": "", "user.large": strings.Repeat("v", 1900)} {
		if err := unix.Setxattr(filepath.Join(d, "dir", "f512"), name, []byte(v), 0); err != nil {
			t.Logf("no attributes here: %v", err)
			break
		}
	}
	if os.Geteuid() == 0 {
		must(t, unix.Mknod(filepath.Join(d, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		must(t, unix.Mknod(filepath.Join(d, "disk"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70000))))
		must(t, os.Lchown(filepath.Join(d, "symlink"), 12, 34))
		must(t, os.Chown(filepath.Join(d, "dir", "f2048"), 2000000000, 7))
	}
	for p, at := range map[string]time.Time{"dir": time.Unix(1e9, 123456789), "dir/f1": time.Unix(-5, 999999999), "fifo": time.Unix(4e9, 1), "dir/deep/er": time.Unix(7, 7)} {
		must(t, os.Chtimes(filepath.Join(d, p), at, at))
	}
	return d
}

func hostManifest(t *testing.T, dir string) []testvol.Entry {
	t.Helper()
	all, err := testvol.ManifestOf(t.Context(), testvol.OSFS(dir))
	must(t, err)
	return all
}

func TestCpInto(t *testing.T) {
	t.Parallel()
	src := hostTree(t)
	want := below(hostManifest(t, src), ".")
	whole := append(below(hostManifest(t, filepath.Dir(src)), "tree"), testvol.Entry{})
	whole = whole[:len(whole)-1]
	for _, c := range []struct {
		name   string
		format []string
	}{
		{"plain", nil},
		{"zstd", []string{"--compression=zstd", "--block_size=512"}},
		{"nocsum", []string{"--data_checksum=none"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := newVolume(t, append(c.format, "--fs_size=96M")...)
			ok(t, "mkdir", v, "/in")
			out := ok(t, "cp", "--into", "--verify", "-v", v, src, "/in")
			if n := strings.Count(out, "\n"); n != len(whole) {
				t.Errorf("cp -v prints %d lines, want %d", n, len(whole))
			}
			got, _ := shows(t, []string{v})
			sameTree(t, whole, below(got, "in/tree"))
			// The contents of a directory, into one that is there; and to a new name.
			ok(t, "mkdir", v, "/flat")
			ok(t, "cp", "--into", v, src+"/.", "/flat")
			ok(t, "cp", "--into", v, src, "/renamed")
			ok(t, "cp", "--into", v, filepath.Join(src, "dir", "f4096"), "/file")
			ok(t, "cp", "--into", v, filepath.Join(src, "dir", "f1"), filepath.Join(src, "symlink"), "/flat/dir/deep")
			got, _ = shows(t, []string{v})
			sameTree(t, whole, below(got, "renamed"))
			checked(t, v)
			// Again: all there; nothing replaced, nothing done.
			r := run("cp", "--into", v, src, "/in")
			if r.code != 1 || !strings.Contains(r.err, "(--force replaces it)") {
				t.Errorf("cp over what exists: exit code %d, %q", r.code, r.err)
			}
			type doc struct {
				Changes []struct{ Path, Action string }
				Errors  []any
			}
			if d := parse[doc](t, ok(t, "cp", "--into", "--resume", "--json", v, src, "/in")); len(d.Errors) != 0 || slices.ContainsFunc(d.Changes, func(c struct{ Path, Action string }) bool {
				return !strings.Contains("fifo socket null disk", filepath.Base(c.Path)) && c.Action != "linked"
			}) {
				t.Errorf("cp --resume of a complete copy: %+v", d)
			}
			ok(t, "truncate", "-s", "3", v, "/in/tree/dir/f70000")
			ok(t, "cp", "--into", "--resume", "--force", v, src, "/in")
			ok(t, "cp", "--into", "--force", v, src, "/renamed/..")
			got, _ = shows(t, []string{v})
			sameTree(t, whole, below(got, "in/tree"))
			sameTree(t, whole, below(got, "tree"))
			ok(t, "cp", "--into", "--owner", "5:6", "--no-xattrs", v, src, "/owned")
			got, _ = shows(t, []string{v})
			for _, e := range below(got, "owned") {
				if e.UID != 5 || e.GID != 6 || e.Xattr != nil {
					t.Errorf("--owner 5:6 --no-xattrs: %v", e)
				}
			}
			checked(t, v)
			_ = want
		})
	}
}

func TestCpIntoRefuses(t *testing.T) {
	t.Parallel()
	v := newVolume(t)
	d := t.TempDir()
	file := filepath.Join(d, "file")
	writeFile(t, file, "x")
	must(t, os.Mkdir(filepath.Join(d, "dir"), 0o755))
	ok(t, "mkdir", v, "/dir", "/here")
	ok(t, "touch", v, "/f")
	refused(t, 1, file+"x: no such file or directory", "cp", "--into", v, file+"x", "/here")
	refused(t, 1, "not a directory", "cp", "--into", v, file, "/f/x")
	refused(t, 1, "not a directory", "cp", "--into", v, file, "/new/")
	refused(t, 1, "no such file or directory", "cp", "--into", v, file, "/no/x")
	refused(t, 2, "there are several SRC", "cp", "--into", v, file, d, "/f")
	refused(t, 2, "need --into", "cp", "--owner", "1", v, "/f", d)
	refused(t, 1, "1 failed of 1 files", "cp", "--into", "--force", v, filepath.Join(d, "dir"), "/f")
	ok(t, "mkdir", v, "/here/file")
	refused(t, 1, "1 failed of 1 files", "cp", "--into", "--force", v, file, "/here")
	// ENOSPC: what is complete stays, and the volume is clean.
	big := filepath.Join(d, "big")
	f, err := os.Create(big)
	must(t, err)
	for range 40 {
		b := make([]byte, 1<<20)
		for i := range b {
			b[i] = byte(rand.Uint32())
		}
		_, err = f.Write(b)
		must(t, err)
	}
	must(t, f.Close())
	r := run("cp", "--into", v, file, big, "/dir")
	if r.code != 1 || !strings.Contains(r.err, "no space left in the volume; what is complete stays") {
		t.Errorf("cp of what does not fit: exit code %d, %q", r.code, r.err)
	}
	if got := names(t, v, "/dir"); !slices.Equal(got, []string{"file"}) {
		t.Errorf("after ENOSPC: %q, want file", got)
	}
	checked(t, v)
	ok(t, "cp", "--into", v, file, "/dir/more")
	checked(t, v)
}

// TestCpIntoLarge copies a file whose extents need several transactions, once to
// the end and once with an interruption in the middle.
func TestCpIntoLarge(t *testing.T) {
	t.Parallel()
	p := filepath.Join(t.TempDir(), "large")
	f, err := os.Create(p)
	must(t, err)
	for i := range 120 {
		_, err = f.Write(bytes.Repeat([]byte(fmt.Sprintf("block %9d", i)), 1<<17)[:1<<20])
		must(t, err)
	}
	must(t, f.Close())
	v := newVolume(t, "--compression=lz4", "--encoded_extent_max=64k")
	ok(t, "cp", "--into", "--verify", v, p, "/")
	checked(t, v)
	r := runCtx(&stopper{context.Background(), 100}, "cp", "--into", v, p, "/second")
	if r.code != 130 {
		t.Errorf("interrupted: exit code %d, %q", r.code, r.err)
	}
	if got := names(t, v, "/"); !slices.Equal(got, []string{"large", "lost+found"}) {
		t.Errorf("after an interruption: %q", got)
	}
	checked(t, v)
	ok(t, "rm", v, "/large")
	checked(t, v)
	if d := attrs(t, v, "/"); d.Nlink != 3 {
		t.Errorf("root has %d links, want 3", d.Nlink)
	}
}

// TestImportOfTar: what tar makes of a volume of the kernel, import puts into
// another.
func TestImportOfTar(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"plain", "aclquota"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			archive := filepath.Join(t.TempDir(), "x.tar")
			r := run(append(on(t, "tar", name), "-f", archive)...)
			if r.code != 0 {
				t.Fatalf("tar: exit code %d, %s", r.code, r.err)
			}
			v := newVolume(t, "--fs_size=128M")
			ok(t, "import", v, "/", archive)
			got, _ := shows(t, []string{v})
			want := below(manifest(t, name), ".")
			want = slices.DeleteFunc(want, func(e testvol.Entry) bool { return e.Type == 's' }) // not in archives
			sameTree(t, want, below(got, "."))
			checked(t, v)
		})
	}
}

// member is a member of a test archive.
type member struct {
	tar.Header
	data string
}

func archive(t *testing.T, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		m.Size = int64(len(m.data))
		if m.Mode == 0 {
			m.Mode = 0o644
		}
		must(t, w.WriteHeader(&m.Header))
		_, err := w.Write([]byte(m.data))
		must(t, err)
	}
	must(t, w.Close())
	return b.Bytes()
}

// runIn runs a command with standard input.
func runIn(in []byte, args ...string) result {
	var out, errb bytes.Buffer
	code := cli.Run(context.Background(), "gobcachefs", args, cli.Streams{In: bytes.NewReader(in), Out: &out, Err: &errb})
	return result{code, out.String(), errb.String()}
}

func TestImport(t *testing.T) {
	t.Parallel()
	at := time.Unix(1e9, 5e8)
	b := archive(t,
		member{tar.Header{Name: "top/", Typeflag: tar.TypeDir, Mode: 0o750, ModTime: at, Uid: 3, Gid: 4, Format: tar.FormatPAX}, ""},
		member{tar.Header{Name: "top/file", Mode: 0o4711, ModTime: at, Uid: 1e6, PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b\x00c", "SCHILY.acl.access": "user::rwx,user:77:r--,group::--x,mask::r-x,other::--x"}, Format: tar.FormatPAX}, "contents"},
		member{tar.Header{Name: "./top/made/for/it", ModTime: at}, "x"},
		member{tar.Header{Name: "/top/hard", Typeflag: tar.TypeLink, Linkname: "top/file"}, ""},
		member{tar.Header{Name: "top/sym", Typeflag: tar.TypeSymlink, Linkname: "../else"}, ""},
		member{tar.Header{Name: "top/chr", Typeflag: tar.TypeChar, Devmajor: 10, Devminor: 200}, ""},
		member{tar.Header{Name: "top/fifo", Typeflag: tar.TypeFifo}, ""},
		member{tar.Header{Name: "top/twice", ModTime: at}, "first"},
		member{tar.Header{Name: "top/twice", ModTime: at}, "second"},
	)
	var gz, zs bytes.Buffer
	g := gzip.NewWriter(&gz)
	_, err := g.Write(b)
	must(t, err)
	must(t, g.Close())
	z, err := zstd.NewWriter(&zs)
	must(t, err)
	_, err = z.Write(b)
	must(t, err)
	must(t, z.Close())
	for name, in := range map[string][]byte{"plain": b, "gzip": gz.Bytes(), "zstd": zs.Bytes()} {
		t.Run(name, func(t *testing.T) {
			v := newVolume(t)
			r := runIn(in, "import", "-v", v, "/")
			want := "created: /top\ncreated: /top/file\ncreated: /top/made\ncreated: /top/made/for\ncreated: /top/made/for/it\nlinked: /top/hard -> /top/file\ncreated: /top/sym\ncreated: /top/chr\ncreated: /top/fifo\ncreated: /top/twice\ncreated: /top/twice\n"
			if r.code != 0 || r.out != want {
				t.Errorf("import -v = %q (%d, %s), want %q", r.out, r.code, r.err, want)
			}
			top, file := attrs(t, v, "/top"), attrs(t, v, "/top/file")
			if top.Mode != "0750" || top.UID != 3 || top.Mtime != "2001-09-09T01:46:40.5Z" {
				t.Errorf("/top = %+v", top)
			}
			if file.Mode != "4751" || file.UID != 1e6 || file.Nlink != 2 || len(file.Xattrs) != 2 || file.Mtime != "2001-09-09T01:46:40.5Z" {
				t.Errorf("/top/file = %+v", file)
			}
			if got := ok(t, "cat", v, "/top/file", "/top/hard", "/top/twice"); got != "contentscontentssecond" {
				t.Errorf("contents = %q", got)
			}
			if got := len(names(t, v, "/top")); got != 7 {
				t.Errorf("%d names in /top, want 7", got)
			}
			r = runIn(in, "import", v, "/")
			if r.code != 1 || !strings.Contains(r.err, "/top/file: file exists (--force replaces it)") {
				t.Errorf("import again: exit code %d, %q", r.code, r.err)
			}
			if r = runIn(in, "import", "--force", v, "/"); r.code != 0 {
				t.Errorf("import --force: exit code %d, %q", r.code, r.err)
			}
			ok(t, "mkdir", v, "/stripped")
			if r = runIn(in, "import", "--strip-components", "1", "--owner", "9:9", v, "/stripped"); r.code != 0 {
				t.Errorf("import --strip-components: exit code %d, %q", r.code, r.err)
			}
			if got := attrs(t, v, "/stripped/made/for/it"); got.UID != 9 || got.GID != 9 {
				t.Errorf("--owner 9:9: %+v", got)
			}
			checked(t, v)
		})
	}
}

// TestImportHostile: no archive leads out of the directory, and none hurts the
// volume.
func TestImportHostile(t *testing.T) {
	t.Parallel()
	v := newVolume(t)
	ok(t, "mkdir", v, "/dir", "/secret")
	for _, c := range []struct {
		what    string
		members []member
		err     string
	}{
		{"dots", []member{{tar.Header{Name: "../secret/x"}, "x"}}, "leads out of the directory"},
		{"dots inside", []member{{tar.Header{Name: "a/../../secret/x"}, "x"}}, "leads out of the directory"},
		{"symlink", []member{{tar.Header{Name: "out", Typeflag: tar.TypeSymlink, Linkname: "../secret"}, ""}, {tar.Header{Name: "out/x"}, "x"}}, "/dir/out/x: not a directory"},
		{"hard link", []member{{tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "../secret"}, ""}}, "hard link to nothing"},
		{"hard link to a directory", []member{{tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755}, ""}, {tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "d"}, ""}}, "operation not permitted"},
		{"hard link to itself", []member{{tar.Header{Name: "self", Typeflag: tar.TypeLink, Linkname: "self"}, ""}}, "no such file"},
		{"file over directory", []member{{tar.Header{Name: "e/", Typeflag: tar.TypeDir, Mode: 0o755}, ""}, {tar.Header{Name: "e"}, "x"}}, "/dir/e: "},
		{"long name", []member{{tar.Header{Name: strings.Repeat("n", 256), Format: tar.FormatPAX}, "x"}}, "name too long"},
		{"no name", []member{{tar.Header{Name: "."}, "x"}}, "has no name"},
		{"device", []member{{tar.Header{Name: "dev", Typeflag: tar.TypeBlock, Devmajor: 5000, Devminor: 1}, ""}}, "device number 5000:1"},
		{"type", []member{{tar.Header{Name: "odd", Typeflag: 'Q'}, ""}}, "unknown type of member"},
		{"ACL", []member{{tar.Header{Name: "bad-acl", Format: tar.FormatPAX, PAXRecords: map[string]string{"SCHILY.xattr.system.posix_acl_access": "\x02\x00\x00\x00\x01\x00"}}, "x"}}, "invalid argument"},
	} {
		t.Run(c.what, func(t *testing.T) {
			r := runIn(archive(t, append(c.members, member{tar.Header{Name: "after-" + strings.ReplaceAll(c.what, " ", "-")}, "y"})...), "import", v, "/dir")
			if r.code != 1 || !strings.Contains(r.err, c.err) {
				t.Errorf("exit code %d, %q, want 1, … %s", r.code, r.err, c.err)
			}
			if got := names(t, v, "/dir"); !slices.Contains(got, "after-"+strings.ReplaceAll(c.what, " ", "-")) {
				t.Errorf("the member behind it is missing: %q", got)
			}
		})
	}
	if got := names(t, v, "/secret"); len(got) != 0 {
		t.Errorf("outside of the directory: %q", got)
	}
	good := archive(t, member{tar.Header{Name: "whole"}, "x"}, member{tar.Header{Name: "cut"}, strings.Repeat("y", 100000)})
	for what, in := range map[string][]byte{"cut in a member": good[:50000], "cut in a header": good[:1024+100], "garbage": bytes.Repeat([]byte("garbage "), 1000), "empty": nil, "xz": []byte("\xfd7zXZ\x00....")} {
		t.Run(what, func(t *testing.T) {
			if r := runIn(in, "import", "--force", v, "/dir"); r.code != 1 {
				t.Errorf("exit code %d, %q, want 1", r.code, r.err)
			}
			if got := names(t, v, "/dir"); slices.Contains(got, "cut") {
				t.Error("a part of a file was left behind")
			}
		})
	}
	refused(t, 1, "/none: no such file or directory", "import", v, "/none", passFile(t))
	checked(t, v)
}
