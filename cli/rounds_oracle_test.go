//go:build oracle

package cli_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gobcachefs/gobcachefs/internal/oracle"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// roundVolume is a volume that the kernel and our commands change in turns.
type roundVolume struct {
	name    string
	format  []string
	devices int
	size    int64
	ours    bool // the real tools cannot format it here: small blocks, passphrases not from a terminal
	images  []string
	pass    []string // arguments that open it
	noise   string   // what the real check said before anybody but the kernel touched it
}

// roundScript is what the kernel does in one round: show what our commands left,
// then change things.
const roundScript = `
up() {
  if [ $v = encrypted ]; then echo 'correct horse' | R sh -c "keyctl link @u @s; bcachefs unlock -k user ${devs%%:*}"; R mount -t bcachefs $devs /mnt; else mount -t bcachefs $devs /mnt; fi
}
for v in $(cat /host/volumes); do
  devs=""; loops=""
  for f in /host/$v.*.img; do l=$(losetup -f); losetup $l $f; devs="$devs${devs:+:}$l"; loops="$loops $l"; done
  up
  if ! grep -q " /mnt bcachefs" /proc/mounts; then echo "FAIL $v does not mount"; dmesg | tail -20; else
  R python3 /host/tree.py manifest /mnt > /host/$v.ours || echo "FAIL $v manifest"
  R python3 /host/ops.py options /mnt > /host/$v.ours-options || echo "FAIL $v options"
  R python3 /host/ops.py change /mnt $(cat /host/seed) $v || echo "FAIL $v change"
  # What is cached of inodes is not all that is stored.
  umnt; up
  R python3 /host/tree.py manifest /mnt > /host/$v.kernel || echo "FAIL $v manifest"
  R python3 /host/ops.py options /mnt > /host/$v.kernel-options || echo "FAIL $v options"
  umnt
  fi
  for l in $loops; do losetup -d $l; done
done
dmesg | grep -i -E 'bcachefs.*(error|inconsist|corrupt|BUG)|WARNING' | head -40
exit 0
`

// kernelOps is what the kernel is made to do.
const kernelOps = `
import os, sys, random, stat, struct, ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
root = sys.argv[2]
def esc(b): return "".join(chr(c) if 33 <= c < 127 and c not in (92,) else "\\x%02x" % c for c in b)
def walk(dirs_only=False):
    out = []
    for d, ds, fs in os.walk(os.fsencode(root)):
        ds.sort(); fs.sort()
        ds[:] = [x for x in ds if not (d == os.fsencode(root) and x == b"lost+found")]
        out += [os.path.join(d, x) for x in ds]
        if not dirs_only: out += [os.path.join(d, x) for x in fs]
    return out
if sys.argv[1] == "options":
    lines = []
    for p in [os.fsencode(root)] + walk():
        for n in os.listxattr(p, follow_symlinks=False):
            if n.startswith("bcachefs"):
                v = os.getxattr(p, n, follow_symlinks=False).decode()
                rel = os.path.relpath(p, os.fsencode(root))
                lines.append("%s %s=%s" % (esc(rel), n, v))
    print("\n".join(sorted(lines))); sys.exit(0)
r = random.Random(int(sys.argv[3]) * 1000 + sum(map(ord, sys.argv[4])))
def name():
    return b"k%d-%s" % (r.randrange(10**6), b"x" * r.randrange(0, 30))
def data(n):
    k = r.randrange(3)
    if k == 0: return r.randbytes(n)
    if k == 1: return (b"text that compresses %d\n" % r.randrange(9) * (n // 20 + 1))[:n]
    return b"\0" * n
def ok(f, *a, allow=()):
    try: return f(*a)
    except OSError as e:
        if e.errno not in allow: raise
everyday = (errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.EISDIR, errno.ENOTDIR, errno.EXDEV, errno.EINVAL, errno.ENODATA, errno.EPERM, errno.ERANGE, errno.EBUSY, errno.EOPNOTSUPP)
for i in range(60):
    every = walk(); dirs = [os.fsencode(root)] + [p for p in every if stat.S_ISDIR(os.lstat(p).st_mode)]
    files = [p for p in every if stat.S_ISREG(os.lstat(p).st_mode)]
    d = r.choice(dirs); op = r.randrange(17)
    if op in (0, 1):
        with open(os.path.join(d, name()), "xb") as f: f.write(data(r.choice([0, 10, 500, 5000, 70000, 300000])))
    elif op == 2 and len(dirs) < 60: os.mkdir(os.path.join(d, name()), r.choice([0o755, 0o2775, 0o700]))
    elif op == 3: os.symlink("t" * r.choice([1, 50, 600, 3000]), os.path.join(d, name()))
    elif op in (4, 5) and files:
        with open(r.choice(files), "r+b") as f:
            n = os.fstat(f.fileno()).st_size; f.seek(r.randrange(n + 5000)); f.write(data(r.randrange(1, 60000)))
    elif op == 6 and files: os.truncate(r.choice(files), r.randrange(200000))
    elif op == 7 and every and len(every) > 20:
        p = r.choice(every)
        ok(os.rmdir if stat.S_ISDIR(os.lstat(p).st_mode) else os.unlink, p, allow=everyday)
    elif op == 8 and every:
        q = os.path.join(d, name()); ok(os.rename, r.choice(every), q, allow=everyday)
    elif op == 9 and len(every) > 1:
        libc.renameat2(-100, r.choice(every), -100, r.choice(every), r.choice([0, 2]))
    elif op == 10 and files: ok(os.link, r.choice(files), os.path.join(d, name()), allow=everyday)
    elif op == 11 and every:
        p = r.choice(files + dirs); ok(os.setxattr, p, r.choice(["user.a", "user.b", "user.long-name-%d" % r.randrange(50), "trusted.t", "security.s"]), data(r.randrange(0, 300)), allow=everyday)
    elif op == 12 and files:
        p = r.choice(files + dirs); l = [n for n in os.listxattr(p) if not n.startswith("bcachefs")]
        if l: ok(os.removexattr, p, r.choice(l), allow=everyday)
    elif op == 13 and every: os.chmod(r.choice(files + dirs[1:] or [d]), r.choice([0o644, 0o755, 0o600, 0o4755, 0o2750]))
    elif op == 14 and every: os.lchown(r.choice(every), r.randrange(5) * 1000, r.randrange(5) * 100)
    elif op == 15 and files:
        p = r.choice(files + dirs)
        acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in [(1, 7, 0xffffffff), (2, r.randrange(8), 1000), (4, 5, 0xffffffff), (0x10, r.randrange(8), 0xffffffff), (0x20, 4, 0xffffffff)])
        ok(os.setxattr, p, "system.posix_acl_access", acl, allow=everyday)
        if os.path.isdir(p): ok(os.setxattr, p, "system.posix_acl_default", acl, allow=everyday)
    elif op == 16 and dirs:
        p = r.choice(files + dirs); o, v = r.choice([("compression", "zstd:3"), ("compression", "lz4"), ("compression", "none"), ("data_checksum", "crc64"), ("data_checksum", "none"), ("background_compression", "gzip"), ("nocow", "1"), ("nocow", "0")])
        if r.randrange(3): ok(os.setxattr, p, "bcachefs." + o, v.encode(), allow=everyday)
        else: ok(os.removexattr, p, "bcachefs." + o, allow=everyday)
`

// roundVolumes are the kinds of volumes that go through the rounds.
func roundVolumes() []*roundVolume {
	return []*roundVolume{
		{name: "default", devices: 1, size: 128 << 20},
		{name: "zstd", devices: 1, size: 128 << 20, format: []string{"--compression=zstd", "--background_compression=gzip:5", "--data_checksum=xxhash"}},
		{name: "nocsum", ours: true, devices: 1, size: 96 << 20, format: []string{"--block_size=512", "--data_checksum=none", "--metadata_checksum=none", "--str_hash=crc32c", "--btree_node_size=64k"}},
		{name: "replicas", devices: 2, size: 96 << 20, format: []string{"--replicas=2", "--metadata_checksum=crc64", "--str_hash=crc64"}},
		{name: "encrypted", ours: true, devices: 1, size: 96 << 20, format: []string{"--encrypted", "--compression=lz4"}},
		{name: "nocow", devices: 1, size: 96 << 20, format: []string{"--nocow", "--acl=1"}},
	}
}

// TestRoundsOracle lets the kernel and our commands change volumes in turns: what each
// shows of the other's work is the same, and the real check finds nothing to say.
func TestRoundsOracle(t *testing.T) {
	o := oracle.New(t)
	rounds := 2 // ROUNDS=20 for a campaign
	if s := os.Getenv("ROUNDS"); s != "" {
		rounds, _ = strconv.Atoi(s)
	}
	seed := 1
	if s := os.Getenv("ROUNDS_SEED"); s != "" {
		seed, _ = strconv.Atoi(s)
	}
	dir := t.TempDir()
	pass := passFile(t)
	vols := roundVolumes()
	if s := os.Getenv("ROUNDS_ONLY"); s != "" {
		vols = slices.DeleteFunc(vols, func(v *roundVolume) bool { return v.name != s })
	}
	var names []string
	for _, v := range vols {
		names = append(names, v.name)
		args := append([]string{"format"}, v.format...)
		for i := range v.devices {
			p := filepath.Join(dir, fmt.Sprintf("%s.%d.img", v.name, i))
			f, err := os.Create(p)
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Truncate(v.size); err != nil {
				t.Fatal(err)
			}
			f.Close()
			v.images = append(v.images, p)
		}
		if v.name == "encrypted" {
			v.pass = []string{"--passphrase-file", pass}
		}
		if v.ours {
			ok(t, append(append(append(args, "-q"), v.pass...), v.images...)...)
			continue
		}
		if r := o.Tools(t, append(args, v.images...)...); r.Code != 0 {
			t.Fatalf("format %s: %s%s", v.name, r.Out, r.Err)
		}
	}
	tree, err := os.ReadFile(o.TreeScript())
	must(t, err)
	writeFile(t, filepath.Join(dir, "tree.py"), string(tree))
	writeFile(t, filepath.Join(dir, "ops.py"), kernelOps)
	writeFile(t, filepath.Join(dir, "volumes"), strings.Join(names, "\n")+"\n")
	for round := range rounds {
		writeFile(t, filepath.Join(dir, "seed"), strconv.Itoa(seed*100+round))
		began := time.Now()
		r := o.VMIn(t, dir, roundScript)
		machine := time.Since(began)
		if r.Code != 0 || strings.Contains(r.Out, "FAIL") {
			t.Fatalf("round %d: exit code %d\n%s%s", round, r.Code, r.Out, r.Err)
		}
		if r.Out != "" {
			t.Logf("round %d: %s", round, r.Out)
		}
		for _, v := range vols {
			if round > 0 {
				v.compare(t, dir, "ours", round)
			}
			v.judge(t, o, fmt.Sprintf("round %d, after the kernel", round), round == 0)
			v.compare(t, dir, "kernel", round)
			v.change(t, rand.New(rand.NewPCG(uint64(seed), uint64(round))), round)
			v.judge(t, o, fmt.Sprintf("round %d, after our commands", round), false)
			if v.name != "encrypted" {
				ok(t, append([]string{"fsck", "-n"}, strings.Join(v.images, ":"))...)
			}
			// What the kernel must see next round.
			v.save(t, dir)
			if t.Failed() {
				t.FailNow()
			}
		}
		t.Logf("round %d: %v, %v of it the machine's", round, time.Since(began).Round(time.Second), machine.Round(time.Second))
	}
}

// save notes what our reader shows now.
func (v *roundVolume) save(t *testing.T, dir string) {
	all, opts := shows(t, v.images)
	var b bytes.Buffer
	for _, e := range all {
		fmt.Fprintln(&b, &e)
	}
	writeFile(t, filepath.Join(dir, v.name+".want"), b.String())
	writeFile(t, filepath.Join(dir, v.name+".want-options"), strings.Join(opts, "\n"))
}

// compare holds what the kernel showed against what our reader shows: of the
// kernel's work now, of our own when it was done.
func (v *roundVolume) compare(t *testing.T, dir, whose string, round int) {
	t.Helper()
	read := func(name string) []testvol.Entry {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		all, err := testvol.ReadManifest(b)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	lines := func(name string) []string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		l := strings.Fields(strings.TrimSpace(string(b)))
		slices.Sort(l)
		return l
	}
	want := read(v.name + "." + whose)
	wantOpts := lines(v.name + "." + whose + "-options")
	var got []testvol.Entry
	var gotOpts []string
	if whose == "ours" {
		got, gotOpts = read(v.name+".want"), lines(v.name+".want-options")
	} else {
		var opts []string
		got, opts = shows(t, v.images)
		gotOpts = strings.Fields(strings.Join(opts, "\n"))
		slices.Sort(gotOpts)
	}
	for _, d := range testvol.Diff(want, got, testvol.Quirks{}) {
		t.Errorf("round %d, %s, %s: %s", round, v.name, whose, d)
	}
	if !slices.Equal(wantOpts, gotOpts) {
		t.Errorf("round %d, %s, %s: options = %q, want %q", round, v.name, whose, gotOpts, wantOpts)
	}
}

// judge has the real tools check the volume. The first time what they say is
// noise; later it must be no more than that.
func (v *roundVolume) judge(t *testing.T, o oracle.Oracle, when string, first bool) {
	t.Helper()
	if v.name == "encrypted" {
		return // the tools have no way to get the passphrase; the kernel looks at it
	}
	r := o.Fsck(t, v.images...)
	var said []string
	for l := range strings.Lines(r.Out + r.Err) {
		l = strings.TrimSpace(l)
		switch {
		case strings.HasSuffix(l, "... done"), strings.HasPrefix(l, "starting version"), strings.HasPrefix(l, "Running userspace"), strings.HasPrefix(l, "recovering from clean"),
			strings.HasPrefix(l, "going read-write"), strings.HasPrefix(l, "shutdown complete"), strings.Contains(l, "modprobe"), l == "",
			// A race in the tools' own shutdown: it comes and goes, on their own volumes too.
			strings.HasPrefix(l, "insufficient writeable journal devices"), strings.HasPrefix(l, "rw journal devs"):
		default:
			said = append(said, l)
		}
	}
	if r.Code != 0 || len(said) > 0 && !first {
		t.Errorf("%s, %s: the real check exits %d and says %q", v.name, when, r.Code, said)
	} else if first && len(said) > 0 {
		t.Logf("%s: noise: %q", v.name, said)
	}
}

// change runs commands of ours on the volume.
func (v *roundVolume) change(t *testing.T, r *rand.Rand, round int) {
	t.Helper()
	all, _ := shows(t, v.images)
	spec := strings.Join(v.images, ":")
	var dirs, files, every []string
	for _, e := range all {
		switch {
		case e.Path == "." || e.Path == "lost+found":
			continue
		case e.Type == 'd':
			dirs = append(dirs, e.Path)
		case e.Type == 'f':
			files = append(files, e.Path)
		}
		every = append(every, e.Path)
	}
	pick := func(l []string) string {
		if len(l) == 0 {
			return ""
		}
		return "/" + l[r.IntN(len(l))]
	}
	n := 0
	name := func() string {
		n++
		return fmt.Sprintf("o%d-%d-%s", round, n, strings.Repeat("y", r.IntN(30)))
	}
	in := func() string { return pick(append([]string{"."}, dirs...)) + "/" + name() }
	host := t.TempDir()
	tree := func() string {
		d := filepath.Join(host, name())
		must(t, os.MkdirAll(filepath.Join(d, "sub"), 0o755))
		for i := range 1 + r.IntN(8) {
			size := []int{0, 5, 900, 5000, 100000, 1500000}[r.IntN(6)]
			b := bytes.Repeat([]byte(fmt.Sprintf("compressible %d ", r.IntN(9))), size/15+1)[:size]
			if r.IntN(2) == 0 {
				for j := range b {
					b[j] = byte(r.Uint32())
				}
			}
			p := filepath.Join(d, []string{"", "sub"}[r.IntN(2)], fmt.Sprintf("f%d", i))
			writeFile(t, p, string(b))
			if r.IntN(3) == 0 {
				must(t, os.Truncate(p, int64(size+r.IntN(2000000))))
			}
			if r.IntN(4) == 0 {
				must(t, os.Link(p, p+"-link"))
			}
		}
		must(t, os.Symlink(strings.Repeat("t/", 1+r.IntN(1500)), filepath.Join(d, "symlink")))
		return d
	}
	// do runs a command; what the state of the volume forbids is all right.
	do := func(cmd string, args ...string) {
		t.Helper()
		a := append(append([]string{cmd}, v.pass...), args...)
		for i, s := range a {
			if s == "VOL" {
				a[i] = spec
			}
		}
		res := run(a...)
		if res.code == 0 {
			return
		}
		for _, fine := range []string{"exists", "not empty", "is a directory", "not a directory", "cross-device", "invalid argument", "no such", "not permitted", "permission denied", "one name only", "too long", "other options", "directories differ"} {
			if strings.Contains(res.err, fine) {
				return
			}
		}
		t.Errorf("%s, round %d: %q: exit code %d: %s", v.name, round, a, res.code, res.err)
	}
	count := 24
	if len(v.pass) > 0 {
		count = 12 // each derives the key anew
	}
	for range count {
		switch r.IntN(16) {
		case 0:
			do("mkdir", "-p", "VOL", in()+"/"+name())
		case 1, 2:
			do("cp", "--into", "VOL", tree(), pick(append([]string{"."}, dirs...)))
		case 3:
			if len(every) > 15 {
				do("rm", "-r", "VOL", pick(every))
			}
		case 4:
			if p := pick(every); p != "" {
				do("mv", "VOL", p, in())
			}
		case 5:
			if p, q := pick(every), pick(every); p != "" {
				do("mv", []string{"-T", "--exchange"}[r.IntN(2)], "VOL", p, q)
			}
		case 6:
			if p := pick(files); p != "" {
				do("ln", "VOL", p, in())
			}
			do("ln", "-s", "VOL", strings.Repeat("z", 1+r.IntN(3500)), in())
		case 7:
			if p := pick(every); p != "" {
				do("chmod", "-R", "VOL", []string{"u+x", "g=u", "0640", "2755", "o-rwx"}[r.IntN(5)], p)
			}
		case 8:
			if p := pick(every); p != "" {
				do("chown", "-h", "VOL", fmt.Sprintf("%d:%d", r.IntN(9)*500, r.IntN(9)*100), p)
			}
		case 9:
			do("touch", "-d", fmt.Sprintf("@%d.%09d", r.IntN(2000000000), r.IntN(1e9)), "VOL", in())
			if p := pick(every); p != "" {
				do("touch", "-h", "-m", "-d", "1999-12-31T23:59:59.123456789Z", "VOL", p)
			}
		case 10:
			if p := pick(files); p != "" {
				do("truncate", "-s", strconv.Itoa(r.IntN(400000)), "VOL", p)
			}
		case 11:
			if p := pick(append(files, dirs...)); p != "" {
				do("setfattr", "-n", []string{"user.a", "user.o" + strconv.Itoa(r.IntN(40)), "trusted.x", "security.y"}[r.IntN(4)], "-v", "0s"+strings.Repeat("QUJD", r.IntN(80)), "VOL", p)
			}
		case 12:
			if p := pick(append(files, dirs...)); p != "" {
				do("setfattr", "-x", "user.a", "VOL", p)
			}
		case 13:
			if p := pick(append(files, dirs...)); p != "" {
				acl := fmt.Sprintf("0x0200000001000700ffffffff02000%d00e803000004000500ffffffff10000%d00ffffffff20000400ffffffff", r.IntN(8), r.IntN(8))
				do("setfattr", "-n", []string{"system.posix_acl_access", "system.posix_acl_default"}[r.IntN(2)], "-v", acl, "VOL", p)
			}
		case 14:
			if p := pick(append(files, dirs...)); p != "" {
				do("set-file-option", []string{"--compression=gzip", "--compression=-", "--data_checksum=crc32c", "--background_compression=zstd", "--nocow=1", "--nocow=-", "--remove-all"}[r.IntN(7)], "VOL", p)
			}
		case 15:
			do("set-fs-option", []string{"--compression=lz4", "--compression=none", "--str_hash=siphash", "--data_checksum=crc64", "--background_compression=none", "--gc_reserve_percent=9"}[r.IntN(6)], "VOL")
		}
	}
}
