package cli_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/gobcachefs/gobcachefs/cli"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// readTar reads an archive as the tree that extracting it makes. Times that an
// archive does not keep, and inode numbers, are left out; nlink is the number of
// names in the archive.
func readTar(t *testing.T, b []byte) []testvol.Entry {
	t.Helper()
	maps := sparseMaps(t, b)
	var all []testvol.Entry
	at := map[string]int{}   // index by name
	names := map[int][]int{} // the names of a file, by the index of the first
	first := map[int]int{}   // and back
	r := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(h.Name, "/")
		i := len(all)
		at[name] = i
		e := testvol.Entry{Path: name, Mode: uint32(h.Mode), UID: uint32(h.Uid), GID: uint32(h.Gid), Mtime: h.ModTime.UnixNano(), Ctime: h.ChangeTime.UnixNano()}
		for k, v := range h.PAXRecords {
			if x, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
				if e.Xattr == nil {
					e.Xattr = map[string]string{}
				}
				e.Xattr[strings.NewReplacer("%3D", "=", "%25", "%").Replace(x)] = v
			}
		}
		switch h.Typeflag {
		case tar.TypeReg:
			e.Type, e.Size = 'f', h.Size
			sum := sha256.New()
			if _, err := io.Copy(sum, r); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			e.SHA256 = hex.EncodeToString(sum.Sum(nil))
			if e.Data = maps[name]; e.Data == "" {
				e.Data = "none"
				if e.Size > 0 {
					e.Data = fmt.Sprintf("0-%d", e.Size)
				}
			}
		case tar.TypeDir:
			e.Type = 'd'
		case tar.TypeSymlink:
			e.Type, e.Target = 'l', h.Linkname
		case tar.TypeChar, tar.TypeBlock:
			e.Type, e.Major, e.Minor = map[byte]byte{tar.TypeChar: 'c', tar.TypeBlock: 'b'}[h.Typeflag], uint32(h.Devmajor), uint32(h.Devminor)
		case tar.TypeFifo:
			e.Type = 'p'
		case tar.TypeLink:
			j, ok := at[h.Linkname]
			if !ok {
				t.Fatalf("%s is a link to %s, which is not before it", name, h.Linkname)
			}
			if f, ok := first[j]; ok {
				j = f
			}
			first[i] = j
			names[j] = append(names[j], i)
			e = all[j]
			e.Path = name
		default:
			t.Fatalf("%s: type flag %q", name, h.Typeflag)
		}
		all = append(all, e)
	}
	for i := range all {
		j := i
		if f, ok := first[i]; ok {
			j = f
		}
		all[i].Nlink = uint64(1 + len(names[j]))
	}
	return all
}

// sparseMaps reads the maps of the sparse files of an archive, which archive/tar
// keeps to itself: name to "start-end,start-end". It walks the blocks.
func sparseMaps(t *testing.T, b []byte) map[string]string {
	t.Helper()
	maps := map[string]string{}
	recs := map[string]string{}
	for len(b) >= 512 {
		h := b[:512]
		b = b[512:]
		if h[0] == 0 {
			continue
		}
		size, err := strconv.ParseInt(strings.Trim(string(h[124:136]), "\x00 "), 8, 64)
		if err != nil {
			t.Fatal(err)
		}
		body := b[:size]
		b = b[(size+511)/512*512:]
		if h[156] == 'x' {
			recs = map[string]string{}
			for len(body) > 0 {
				n, err := strconv.Atoi(string(body[:bytes.IndexByte(body, ' ')]))
				if err != nil || body[n-1] != '\n' {
					t.Fatalf("record %q", body)
				}
				k, v, _ := strings.Cut(string(body[bytes.IndexByte(body, ' ')+1:n-1]), "=")
				recs[k] = v
				body = body[n:]
			}
			continue
		}
		if recs["GNU.sparse.major"] == "1" {
			var nums []int64
			for i := int64(1); int64(len(nums)) < i; {
				line, rest, _ := bytes.Cut(body, []byte("\n"))
				n, err := strconv.ParseInt(string(line), 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				if nums = append(nums, n); len(nums) == 1 {
					i = 1 + 2*n
				}
				body = rest
			}
			var out []string
			for i := 1; i < len(nums); i += 2 {
				if nums[i+1] > 0 {
					out = append(out, fmt.Sprintf("%d-%d", nums[i], nums[i]+nums[i+1]))
				}
			}
			m := strings.Join(out, ",")
			if len(out) > 40 {
				m = strings.Join(out[:40], ",")
			}
			if m == "" {
				m = "none"
			}
			maps[recs["GNU.sparse.name"]] = m
		}
		recs = map[string]string{}
	}
	return maps
}

// forTar is a manifest without what an archive does not have.
func forTar(all []testvol.Entry) (out []testvol.Entry, sockets int) {
	names := map[uint64]uint64{} // of an inode, in the tree
	for _, e := range all {
		names[e.Ino]++
	}
	for _, e := range all {
		if e.Type == 's' {
			sockets++
			continue
		}
		e.Nlink, e.Ino = 1, 0
		out = append(out, e)
	}
	return out, sockets
}

// TestTar archives every small volume and compares what the archive holds with
// the manifest: names, contents, holes, attributes, xattrs, hard links.
func TestTar(t *testing.T) {
	for _, name := range testvol.Names(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out, msg bytes.Buffer
			code := cli.Run(t.Context(), "gobcachefs", on(t, "tar", name, "/"), cli.Streams{Out: &out, Err: &msg})
			want, sockets := forTar(manifest(t, name))
			if n := strings.Count(msg.String(), ": socket left out\n"); code != 0 || n != sockets || strings.Count(msg.String(), "\n") != n {
				t.Errorf("tar: exit code %d, stderr %q, want 0 and %d sockets", code, msg.String(), sockets)
			}
			if out.Len()%10240 != 0 {
				t.Errorf("archive of %d bytes, want a multiple of 10240", out.Len())
			}
			got := readTar(t, out.Bytes())
			links := map[uint64]int{}
			for i := range got {
				if got[i].Nlink > 1 {
					links[got[i].Nlink]++
				}
				got[i].Nlink = 1
			}
			q := testvol.QuirksOf(name)
			testvol.Check(t, want, got, q)
			// Files with several names, by how many of them are in the tree.
			wantLinks := map[uint64]int{}
			for _, group := range linkGroups(manifest(t, name), testvol.Small(t).Subvolumes(name)) {
				wantLinks[uint64(group)] += group
			}
			if fmt.Sprint(links) != fmt.Sprint(wantLinks) {
				t.Errorf("names of linked files by number of links = %v, want %v", links, wantLinks)
			}
		})
	}
}

// linkGroups gives for each file with several names in the tree how many. The
// same inode in another subvolume is another file.
func linkGroups(all []testvol.Entry, subvols map[string]string) []int {
	type file struct {
		subvol string
		ino    uint64
	}
	count := map[file]int{}
	for _, e := range all {
		if e.Type == 'd' {
			continue
		}
		p := e.Path
		for p != "." && subvols[p] == "" {
			p = filepath.Dir(p)
		}
		count[file{p, e.Ino}]++
	}
	var groups []int
	for _, n := range count {
		if n > 1 {
			groups = append(groups, n)
		}
	}
	return groups
}

// TestTarSame: the same volume gives the same archive.
func TestTarSame(t *testing.T) {
	a, b := run(on(t, "tar", "plain")...), run(on(t, "tar", "plain", "/")...)
	if a.code != 0 || b.code != 0 || a.out != b.out {
		t.Errorf("two archives differ, or failed: exit codes %d and %d, want 0", a.code, b.code)
	}
	file := filepath.Join(t.TempDir(), "x.tar")
	if c := run(on(t, "tar", "plain", "-f", file)...); c.code != 0 || c.out != "" {
		t.Errorf("tar -f: exit code %d, output %q, want 0 and none", c.code, c.out)
	}
	got, err := os.ReadFile(file)
	if err != nil || string(got) != a.out {
		t.Errorf("tar -f FILE: %v, or FILE differs from what goes to standard output", err)
	}
	if left, _ := os.ReadDir(filepath.Dir(file)); len(left) != 1 {
		t.Errorf("%d files beside the archive, want none", len(left)-1)
	}
}

func TestTarNames(t *testing.T) {
	names := func(args ...string) (all []string) {
		t.Helper()
		for _, e := range readTar(t, []byte(ok(t, on(t, "tar", "plain", args...)...))) {
			all = append(all, e.Path)
		}
		return all
	}
	for _, c := range []struct{ args, want string }{
		{"/docs/deep/d0/d1/d2/d3/d4/d5/d6/d7/d8/d9/d10", "docs/deep/d0/d1/d2/d3/d4/d5/d6/d7/d8/d9/d10 docs/deep/d0/d1/d2/d3/d4/d5/d6/d7/d8/d9/d10/d11"},
		{"-C /docs/deep/d0/d1/d2/d3/d4/d5/d6/d7/d8/d9", ". d10 d10/d11"},
		{"-C /docs/deep/d0/d1/d2/d3/d4/d5/d6/d7/d8/d9 .", ". d10 d10/d11"},
		{"-C /docs/deep/d0/d1/d2/d3/d4/d5/d6/d7/d8 d9/d10", "d9/d10 d9/d10/d11"},
		{"-C docs f00_0_0 f01_0_1 /chr", "f00_0_0 f01_0_1 chr"},
		{"link-rel", "link-rel"},
		{"/../fifo", "fifo"},
	} {
		if got := strings.Join(names(strings.Fields(c.args)...), " "); got != c.want {
			t.Errorf("tar %s = %s, want %s", c.args, got, c.want)
		}
	}
	r := run(on(t, "tar", "plain", "/fifo", "/none", "/chr")...)
	if got := readTar(t, []byte(r.out)); r.code != 1 || len(got) != 2 || !strings.Contains(r.err, "/none: no such file or directory") {
		t.Errorf("tar of a missing path: exit code %d, %d members, stderr %q, want 1, 2, the path", r.code, len(got), r.err)
	}
}

func TestTarOptions(t *testing.T) {
	m := manifest(t, "plain")
	// Without sparse files: one range, the same bytes.
	for _, e := range readTar(t, []byte(ok(t, on(t, "tar", "plain", "--no-sparse", "/sparse", "/prealloc")...))) {
		w := find(t, m, e.Path)
		if e.SHA256 != w.SHA256 || e.Data != fmt.Sprintf("0-%d", w.Size) {
			t.Errorf("tar --no-sparse: %s has sha256 %s, data %s, want %s, all", e.Path, e.SHA256, e.Data, w.SHA256)
		}
	}
	for _, e := range readTar(t, []byte(ok(t, on(t, "tar", "plain", "--no-xattrs", "/xattrs")...))) {
		if len(e.Xattr) != 0 {
			t.Errorf("tar --no-xattrs: %s has %d xattrs, want none", e.Path, len(e.Xattr))
		}
	}
	r := run(on(t, "tar", "plain", "-v", "/names", "/sock")...)
	if r.code != 0 || !strings.Contains(r.err, `names/new\nline`+"\n") || !strings.Contains(r.err, "socket left out") {
		t.Errorf("tar -v: exit code %d, stderr %q, want names", r.code, r.err)
	}
	file := filepath.Join(t.TempDir(), "x.tar")
	all := parseLines[jsonFile](t, ok(t, on(t, "tar", "plain", "--json", "-f", file, "/docs")...))
	links := 0
	for _, j := range all[:len(all)-1] {
		e := find(t, m, j.Path)
		if got, want := j.line(t), entryLine(&e, ""); got != want {
			t.Errorf("tar --json = %s, want %s", got, want)
		}
		if j.Link != "" {
			links++
		}
	}
	if len(all) < 50 || links != 1 {
		t.Errorf("tar --json: %d lines, %d links, want at least 50 and 1", len(all), links)
	}
	if snap := readTar(t, []byte(run("tar", "-x", volume(t, "snapshots")[0]).out)); len(snap) > 20 {
		t.Errorf("tar --one-subvolume: %d members, want few", len(snap))
	}
}

// TestTarFails: an output that does not take it all ends the command, and a file
// is left as it was.
func TestTarFails(t *testing.T) {
	for _, n := range []int{0, 100, 300_000, 5_000_000} {
		w := &failing{left: n}
		var msg strings.Builder
		code := cli.Run(t.Context(), "gobcachefs", on(t, "tar", "plain", "/"), cli.Streams{Out: w, Err: &msg})
		if code != 1 || !strings.Contains(msg.String(), "tar: no space here") {
			t.Errorf("tar into an output that ends after %d bytes: exit code %d, stderr %q, want 1, no space here", n, code, msg.String())
		}
	}
}

type failing struct{ left int }

func (f *failing) Write(p []byte) (int, error) {
	if len(p) > f.left {
		n := f.left
		f.left = 0
		return n, errors.New("no space here")
	}
	f.left -= len(p)
	return len(p), nil
}
