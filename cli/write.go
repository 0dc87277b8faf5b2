package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// writeFlags are the flags of every command that changes a volume.
type writeFlags struct {
	volumeFlags
	dryRun  bool
	verbose bool
}

func (f *writeFlags) add(a *app, cmd *cobra.Command) {
	f.addQuiet(a, cmd)
	cmd.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "list what was changed")
}

// addQuiet is add without -v, for commands where that means something else.
func (f *writeFlags) addQuiet(a *app, cmd *cobra.Command) {
	f.volumeFlags.add(cmd)
	a.jsonFlag(cmd)
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "do everything but write: the changes are made in memory and forgotten")
}

// writersOf opens the devices that arguments name to write: for this program
// alone, or with --overlay and --dry-run to read, under a layer that takes the
// changes.
func (a *app) writersOf(f *writeFlags, spec []string) (ws []block.Writer, err error) {
	if f.overlay == "" && !f.dryRun {
		for _, s := range spec {
			l, err := bcachefs.OpenWriters(a.ctx, s, block.Options{})
			if err != nil {
				closeWriters(ws)
				return nil, writeOpenError(err)
			}
			ws = append(ws, l...)
		}
		return ws, nil
	}
	rs, err := devicesOf(a.ctx, spec, block.Options{})
	if err != nil {
		return nil, err
	}
	if f.overlay != "" {
		if ws, err = block.OpenOverlayFiles(rs, f.overlay); err != nil {
			closeReaders(rs)
			return nil, &exitError{ExitFailed, err}
		}
		for i, w := range ws {
			rs[i] = w
		}
	}
	if f.dryRun {
		ws = ws[:0]
		for _, r := range rs {
			ws = append(ws, block.NewOverlay(r))
		}
	}
	return ws, nil
}

// layered puts the overlay file of --overlay above the devices of a command that
// reads. On error the devices stay open.
func (f *volumeFlags) layered(rs []block.Reader) ([]block.Reader, error) {
	if f.overlay == "" {
		return rs, nil
	}
	if _, err := os.Stat(f.overlay); err != nil {
		return nil, err // nothing to read: it would only be made
	}
	ws, err := block.OpenOverlayFiles(rs, f.overlay)
	if err != nil {
		return nil, &exitError{ExitFailed, err}
	}
	out := make([]block.Reader, len(ws))
	for i, w := range ws {
		out[i] = w
	}
	return out, nil
}

// writeOpenError says of what the system refuses to write what it means here.
func writeOpenError(err error) error {
	var pe *fs.PathError
	switch {
	case !errors.As(err, &pe):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return &fs.PathError{Op: pe.Op, Path: pe.Path, Err: errNoDevice}
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return &fs.PathError{Op: pe.Op, Path: pe.Path, Err: fmt.Errorf("read-only: %w", pe.Err)}
	}
	return err
}

func closeWriters(ws []block.Writer) {
	for _, w := range ws {
		_ = w.Close()
	}
}

func closeReaders(rs []block.Reader) {
	for _, r := range rs {
		_ = r.Close()
	}
}

// options are those of a writing command: what may be wrong is not used, and
// missing members are refused.
func (f *writeFlags) options(a *app) (bcachefs.Options, error) {
	o := bcachefs.Options{Warn: a.warner(), Passphrase: f.passphrase(a), Key: keyringKey}
	err := f.parse(&o, nil)
	o.Salvage = false
	return o, err
}

// openWrite opens a volume to change it. The caller closes both, the volume
// first.
func (a *app) openWrite(f *writeFlags, spec []string) (*bcachefs.WritableVolume, []block.Writer, error) {
	o, err := f.options(a)
	if err != nil {
		return nil, nil, err
	}
	ws, err := a.writersOf(f, spec)
	if err != nil {
		return nil, nil, err
	}
	v, err := bcachefs.OpenWrite(a.ctx, ws, o, bcachefs.WriteOptions{})
	if err != nil {
		closeWriters(ws)
		if errors.Is(err, errs.ErrUsage) {
			err = &exitError{ExitFailed, err}
		}
		return nil, nil, err
	}
	return v, ws, nil
}

// writeTree is the subvolume that a command changes, and where it reports.
type writeTree struct {
	*app
	vol     *bcachefs.WritableVolume
	sub     *bcachefs.WritableSubvolume
	files   *bcachefs.WriteFiles
	r       *report
	out     *bufio.Writer
	js      *jsonList // with --json: the list "changes"
	verbose bool
	changed int64
}

// withWrite opens the volume of a command to change it, runs f, and closes it
// cleanly whatever happened. args are VOLUME and the paths, of which there are
// min to max (-1: any number). With --json it prints one document, {"schema":1,
// "changes":[...],"errors":[...]}.
func (a *app) withWrite(cmd *cobra.Command, wf *writeFlags, args []string, min, max int, f func(t *writeTree, paths []string) error) error {
	spec, paths, err := wf.split(args, min, max)
	if err != nil {
		return err
	}
	v, ws, err := a.openWrite(wf, spec)
	if err != nil {
		return err
	}
	t := &writeTree{app: a, vol: v, r: a.report(cmd.Name()), out: bufio.NewWriterSize(a.Out, 64<<10), verbose: wf.verbose}
	if a.json {
		t.js = a.jsonList(t.out, "changes")
	}
	t.sub, err = t.subvolume(&wf.volumeFlags)
	started := err == nil
	if started {
		t.files = t.sub.Files()
		err = f(t, paths)
	}
	// What was done is kept, also of a run that was interrupted: each change is
	// whole.
	cerr := v.Close(a.ctx)
	for _, w := range ws {
		cerr = errors.Join(cerr, w.Close())
	}
	if cerr != nil {
		cerr = fmt.Errorf("the volume was not closed cleanly: %w", cerr)
		if err == nil || a.ctx.Err() != nil {
			err = &exitError{ExitFailed, cerr}
		} else {
			t.r.note("%v", cerr)
		}
	}
	if err == nil {
		err = t.r.err()
	}
	if t.js != nil && started && (err == nil || err == error(errFailed)) {
		more := map[string]any{"errors": t.r.failures()}
		if wf.dryRun {
			more["dry_run"] = true
		}
		if jerr := t.js.end(more); err == nil {
			err = jerr
		}
	}
	if ferr := t.out.Flush(); err == nil {
		err = ferr
	}
	return err
}

// subvolume is the one that -o says.
func (t *writeTree) subvolume(f *volumeFlags) (*bcachefs.WritableSubvolume, error) {
	switch {
	case f.subvol != "" && f.subvolid != 0:
		return nil, usageErr("subvol and subvolid exclude each other")
	case f.subvol != "":
		return t.vol.SubvolumeAt(t.ctx, f.subvol)
	case f.subvolid != 0:
		return t.vol.Subvolume(f.subvolid)
	}
	return t.vol.Root(), nil
}

// changeJSON is an element of the list "changes".
type changeJSON struct {
	Path    string `json:"path"`
	PathRaw string `json:"path_base64,omitempty"`
	Action  string `json:"action"`
	To      string `json:"to,omitempty"`
	ToRaw   string `json:"to_base64,omitempty"`
	Name    string `json:"name,omitempty"`
	Value   string `json:"value,omitempty"`
}

// did reports a change: for -v a line "ACTION: PATH [-> TO]".
func (t *writeTree) did(action, path, to string) {
	t.report(changeJSON{Path: path, PathRaw: rawBytes(path), Action: action, To: to, ToRaw: rawBytes(to)})
}

func (t *writeTree) report(c changeJSON) {
	t.changed++
	switch {
	case t.js != nil:
		_ = t.js.add(c) // the error comes back from Flush
	case t.verbose:
		line := c.Action + ": " + escapeName(c.Path)
		if c.To != "" {
			line += " -> " + escapeName(c.To)
		}
		if c.Name != "" {
			line += " " + escapeName(c.Name)
		}
		if c.Value != "" {
			line += "=" + escapeName(c.Value)
		}
		fmt.Fprintln(t.out, line)
	}
}

// fail reports what could not be done with a path.
func (t *writeTree) fail(path string, err error) {
	_ = t.out.Flush()
	t.r.fail(path, err)
}

// each runs f for each path until the run is interrupted; failures are reported.
func (t *writeTree) each(paths []string, f func(path string) error) error {
	for _, p := range paths {
		if err := t.ctx.Err(); err != nil {
			return err
		}
		if err := f(p); err != nil {
			if err == error(errFailed) {
				continue // reported
			}
			t.fail(p, err)
		}
		if err := t.vol.Err(); err != nil {
			return err // nothing more can be changed
		}
	}
	return t.ctx.Err()
}

// walk walks what is below a path of the volume, for -R: the tree as it was when
// each directory was listed. Failures to list are reported.
func (t *writeTree) walk(path string, o walkOptions, visit func(e *entry) error) error {
	a, err := t.sub.Lstat(t.ctx, path)
	if err != nil {
		return err
	}
	o.maxDepth = -1
	return walk(t.ctx, t.files.Files, []walkRoot{{path, a.ID, a.Mode & ondisk.ModeTypeMask}}, o, func(e *entry) error {
		if e.kind == entryFailed || e.err != nil {
			t.fail(e.path, e.err)
			return nil
		}
		return visit(e)
	})
}
