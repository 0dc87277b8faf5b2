package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/serve/fuse"
)

// demoVolume is a volume that Linux made, with snapshots, and demoFiles what it
// showed of some of its files.
var (
	//go:embed demo/volume.img.zst
	demoVolume []byte
	//go:embed demo/files.manifest
	demoFiles string
)

func init() {
	commands = append(commands, func(a *app) *cobra.Command {
		return &cobra.Command{
			Use:   "demo",
			Short: "Show what this program does, on a volume that comes with it",
			Long: `Open a volume that Linux made and that is part of this program; show its
superblock, its snapshots and files; read files of each kind, compare them with
what Linux showed, through the library and through a mount. Then make a volume,
change it, take a snapshot, pull the plug, recover, and check it. Everything
happens in a temporary directory, which is removed.`,
			Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error { return a.demo() },
		}
	})
}

func (a *app) demo() error {
	dir, err := os.MkdirTemp("", "gobcachefs-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := a.demoRead(dir); err != nil {
		return err
	}
	return a.demoWrite(dir)
}

func (a *app) title(format string, args ...any) { fmt.Fprintf(a.Out, "\n== "+format+"\n", args...) }

// demoRead reads the embedded volume.
func (a *app) demoRead(dir string) error {
	image := filepath.Join(dir, "volume.img.zst")
	if err := os.WriteFile(image, demoVolume, 0o600); err != nil {
		return err
	}
	vol, err := bcachefs.OpenPath(a.ctx, image, bcachefs.Options{})
	if err != nil {
		return err
	}
	defer vol.Close()
	fmt.Fprintln(a.Out, "== a volume made by Linux 6.12: its superblock")
	var super bytes.Buffer
	if err := bcachefs.ShowSuper(&super, vol.Superblock(), bcachefs.SuperOptions{}); err != nil {
		return err
	}
	a.head(&super, 16)

	a.title("its subvolumes and snapshots")
	list, err := subvolumePaths(a.ctx, vol)
	if err != nil {
		return err
	}
	for _, l := range list {
		fmt.Fprintln(a.Out, l)
	}

	want, err := demoWant()
	if err != nil {
		return err
	}
	a.title("some of its files, compared with what Linux showed of them")
	for _, w := range want {
		attr, err := vol.Root().Lstat(a.ctx, w.path)
		if err != nil {
			return err
		}
		if err := w.compareVolume(a.ctx, vol, attr); err != nil {
			return fmt.Errorf("%s: %w", w.path, err)
		}
		fmt.Fprintf(a.Out, "ok  %s %9d  %s  %s%s\n", modeString(attr.Mode), attr.Size, attr.Mtime.UTC().Format("2006-01-02 15:04:05.000000000"), quoteDemo(w.path), w.note())
	}
	a.title("the same through a mount")
	return a.demoMount(vol, filepath.Join(dir, "mnt"), want)
}

// head prints the first lines of a text, and that there are more.
func (a *app) head(b *bytes.Buffer, n int) {
	lines := strings.SplitAfter(b.String(), "\n")
	fmt.Fprint(a.Out, strings.Join(lines[:min(n, len(lines))], ""))
	if len(lines) > n {
		fmt.Fprintf(a.Out, "… %d more lines; show-super prints all\n", len(lines)-n-1)
	}
}

// demoMount mounts the volume, or says why not, and compares what the mount shows.
func (a *app) demoMount(vol *bcachefs.Volume, dir string, want []demoFile) (err error) {
	if !fuse.Supported {
		fmt.Fprintln(a.Out, "not on this system: there is no mount here, everything else works")
		return nil
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	srv, err := fuse.New(vol, fuse.Options{Source: "demo"})
	if err != nil {
		return err
	}
	if err := srv.Mount(dir); err != nil {
		fmt.Fprintf(a.Out, "not here: %v; everything else works\n", err)
		return nil
	}
	ctx, stop := context.WithCancel(a.ctx)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx) }()
	defer func() {
		stop()
		if e := <-served; err == nil && a.ctx.Err() == nil {
			err = e
		}
	}()
	fmt.Fprintf(a.Out, "mounted on %s\n", dir)
	for _, w := range want {
		if err := w.compareMount(dir); err != nil {
			return fmt.Errorf("through the mount: %s: %w", w.path, err)
		}
	}
	fmt.Fprintf(a.Out, "ok  %d files are the same; unmounting\n", len(want))
	return nil
}

// demoFile is what Linux showed of a file.
type demoFile struct {
	path   string
	typ    byte
	fields map[string]string
}

// demoWant reads the embedded list: a path, the type, the permissions, and
// fields key=value, separated by spaces. Bytes are escaped as \xNN.
func demoWant() (files []demoFile, err error) {
	for line := range strings.Lines(demoFiles) {
		f := strings.Fields(line)
		if len(f) < 4 {
			return nil, fmt.Errorf("list of files: %q", line)
		}
		path, err := strconv.Unquote(`"` + f[0] + `"`)
		if err != nil {
			return nil, fmt.Errorf("list of files: %q: %w", f[0], err)
		}
		w := demoFile{path: path, typ: f[1][0], fields: map[string]string{"mode": f[2]}}
		for _, kv := range f[3:] {
			k, v, _ := strings.Cut(kv, "=")
			w.fields[k] = v
		}
		files = append(files, w)
	}
	return files, nil
}

// note says what is special about a file.
func (w *demoFile) note() string {
	switch {
	case w.typ == 'l':
		target := w.fields["target"]
		if len(target) > 40 {
			target = target[:36] + " ..."
		}
		return " -> " + target
	case w.fields["rdev"] != "":
		return " device " + w.fields["rdev"]
	case w.fields["nlink"] != "1" && w.typ == 'f':
		return " (" + w.fields["nlink"] + " names)"
	case strings.Contains(w.fields["data"], ","):
		return " (holes, data at " + w.fields["data"] + ")"
	case w.fields["xattr.user.on-dir"] != "":
		return " (with attributes)"
	}
	return ""
}

// expect compares a field with what Linux showed, if it showed it.
func (w *demoFile) expect(name, got string) error {
	if want, ok := w.fields[name]; ok && want != got {
		return fmt.Errorf("%s is %s, Linux showed %s", name, got, want)
	}
	return nil
}

// compareVolume compares a file, through the library.
func (w *demoFile) compareVolume(ctx context.Context, vol *bcachefs.Volume, attr bcachefs.Attr) error {
	errs := []error{
		w.expect("mode", fmt.Sprintf("%04o", attr.Mode&0o7777)),
		w.expect("nlink", fmt.Sprint(attr.Nlink)),
		w.expect("mtime", fmt.Sprint(attr.Mtime.UnixNano())),
	}
	if got := typeLetter(attr.Mode); got != w.typ && !(got == '-' && w.typ == 'f') {
		errs = append(errs, fmt.Errorf("type is %c, Linux showed %c", got, w.typ))
	}
	switch w.typ {
	case 'f':
		f, err := vol.Root().Open(ctx, w.path)
		if err != nil {
			return err
		}
		defer f.Close()
		errs = append(errs, w.expect("size", fmt.Sprint(attr.Size)), w.compareData(f))
	case 'l':
		target, err := vol.Root().Readlink(ctx, w.path)
		errs = append(errs, err, w.expect("target", target))
	case 'b', 'c':
		errs = append(errs, w.expect("rdev", fmt.Sprintf("%d:%d", attr.RdevMajor, attr.RdevMinor)))
	case 'd':
		v, err := vol.Files().GetXattr(ctx, attr.ID, "user.on-dir")
		errs = append(errs, err, w.expect("xattr.user.on-dir", fmt.Sprintf("%x", v)))
	}
	return errors.Join(errs...)
}

// compareMount compares a file below a directory of the host.
func (w *demoFile) compareMount(dir string) error {
	name := filepath.Join(dir, filepath.FromSlash(w.path))
	st, err := os.Lstat(name)
	if err != nil {
		return err
	}
	errs := []error{
		w.expect("mode", fmt.Sprintf("%04o", st.Mode().Perm())),
		w.expect("mtime", fmt.Sprint(st.ModTime().UnixNano())),
	}
	switch w.typ {
	case 'f':
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		errs = append(errs, w.expect("size", fmt.Sprint(st.Size())), w.compareData(f))
	case 'l':
		target, err := os.Readlink(name)
		errs = append(errs, err, w.expect("target", target))
	case 'd', 'b', 'c', 'p', 's':
		types := map[byte]fs.FileMode{'d': fs.ModeDir, 'b': fs.ModeDevice, 'c': fs.ModeDevice | fs.ModeCharDevice, 'p': fs.ModeNamedPipe, 's': fs.ModeSocket}
		if st.Mode().Type() != types[w.typ] {
			errs = append(errs, fmt.Errorf("type is %v, Linux showed %c", st.Mode().Type(), w.typ))
		}
	}
	return errors.Join(errs...)
}

// compareData reads all of a file.
func (w *demoFile) compareData(r io.Reader) error {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return err
	}
	return w.expect("sha256", fmt.Sprintf("%x", h.Sum(nil)))
}

func quoteDemo(path string) string {
	if q := strconv.Quote(path); q != `"`+path+`"` {
		return q
	}
	return path
}

// demoWrite makes a volume and loses its power.
func (a *app) demoWrite(dir string) error {
	ctx := a.ctx
	image := filepath.Join(dir, "new.img")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(image, 64<<20); err != nil {
		return err
	}
	w, err := block.OpenWriter(ctx, image, block.Options{})
	if err != nil {
		return err
	}
	_, err = bcachefs.Format(ctx, []bcachefs.FormatDevice{{Device: w}}, bcachefs.FormatOptions{
		Label: "demo", Options: map[string]string{"compression": "zstd"},
	})
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	a.title("a volume of our own, %s, compressed with zstd", humanSize(64<<20))

	vol, err := bcachefs.OpenWriteSpec(ctx, image, bcachefs.Options{}, bcachefs.WriteOptions{})
	if err != nil {
		return err
	}
	first, second := bytes.Repeat([]byte("the first version of a text\n"), 4000), []byte("the second version\n")
	step := func(what string, f func() error) {
		if err == nil {
			if err = f(); err == nil {
				fmt.Fprintln(a.Out, "ok ", what)
			}
		}
	}
	mode := bcachefs.NewFile{Mode: 0o644}
	step("wrote docs/text", func() error {
		if _, err := vol.Root().Mkdir(ctx, "docs", bcachefs.NewFile{Mode: 0o755}); err != nil {
			return err
		}
		_, err := vol.Root().WriteFile(ctx, "docs/text", first, mode)
		return err
	})
	step("took a snapshot: snap", func() error {
		root := vol.Root().Node()
		_, err := vol.WriteFiles().Snapshot(ctx, root.Subvol, root, "snap", true)
		return err
	})
	step("changed docs/text, and synced", func() error {
		if _, err := vol.Root().WriteFile(ctx, "docs/text", second, mode); err != nil {
			return err
		}
		return vol.Sync(ctx)
	})
	step("pulled the plug", func() error { return vol.Abandon() })
	if err != nil {
		_ = vol.Abandon()
		return err
	}

	again, err := bcachefs.OpenPath(ctx, image, bcachefs.Options{})
	if err != nil {
		return err
	}
	state := "clean"
	if !again.Clean() {
		state = "not shut down properly: the journal is replayed in memory"
	}
	fmt.Fprintln(a.Out, "ok  opened to read again;", state)
	err = errors.Join(a.demoSame(again, "docs/text", second), a.demoSame(again, "snap/docs/text", first), again.Close())
	if err != nil {
		return err
	}
	fmt.Fprintln(a.Out, "ok  docs/text is as it was when synced, snap/docs/text as it was before")

	if vol, err = bcachefs.OpenWriteSpec(ctx, image, bcachefs.Options{}, bcachefs.WriteOptions{}); err != nil {
		return err
	}
	if err := vol.Close(ctx); err != nil {
		return err
	}
	fmt.Fprintln(a.Out, "ok  recovered and shut down cleanly")
	return a.demoCheck(image)
}

// demoCheck checks the volume; there must be nothing wrong with it.
func (a *app) demoCheck(image string) (err error) {
	devs, err := bcachefs.OpenDevices(a.ctx, image, block.Options{})
	if err != nil {
		return err
	}
	defer func() {
		for _, d := range devs {
			err = errors.Join(err, d.Close())
		}
	}()
	found := func(f bcachefs.Finding) { fmt.Fprintln(a.Out, f) }
	r, err := bcachefs.Check(a.ctx, devs, bcachefs.Options{}, bcachefs.CheckOptions{Data: true, Found: found})
	if err != nil {
		return err
	}
	if n := r.Bad(); n != 0 || r.Incomplete {
		return fmt.Errorf("the check found %d errors", n)
	}
	fmt.Fprintf(a.Out, "ok  checked: clean (%d btree nodes, %s of data)\n", r.Nodes, humanSize(uint64(r.Bytes)))
	return nil
}

func (a *app) demoSame(vol *bcachefs.Volume, path string, want []byte) error {
	f, err := vol.Root().Open(a.ctx, path)
	if err != nil {
		return err
	}
	defer f.Close()
	got, err := io.ReadAll(f)
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("%s: %d bytes differ from the %d that were written", path, len(got), len(want))
	}
	return err
}

// subvolumePaths lists the subvolumes with the paths where they are found.
func subvolumePaths(ctx context.Context, vol *bcachefs.Volume) (lines []string, err error) {
	paths := map[uint32]string{vol.Root().ID(): "/"}
	var walk func(path string, depth int) error
	walk = func(path string, depth int) error {
		entries, err := vol.Root().ReadDir(ctx, path)
		if err != nil || depth > 4 {
			return err
		}
		for _, e := range entries {
			if e.Subvol {
				paths[e.ID.Subvol] = path + "/" + e.Name
			}
			if e.Type == 0o040000 {
				if err := walk(path+"/"+e.Name, depth+1); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := walk("", 0); err != nil {
		return nil, err
	}
	for _, s := range vol.Subvolumes() {
		what := "subvolume"
		if s.CreationParent != 0 {
			what = fmt.Sprintf("snapshot of %d", s.CreationParent)
		}
		if s.ReadOnly() {
			what += ", read-only"
		}
		path := paths[s.ID]
		if path == "" {
			path = "(no path)"
		}
		created := ""
		if !s.Created.IsZero() {
			created = s.Created.UTC().Format(time.DateTime)
		}
		lines = append(lines, fmt.Sprintf("%3d  %-14s %-28s %s", s.ID, path, what, created))
	}
	return lines, nil
}
