package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/human"
)

func init() { commands = append(commands, newFsckCmd) }

// Exit codes of fsck; those of other programs of the name.
const (
	fsckErrors   = 4
	fsckFailed   = 8
	fsckUsage    = 16
	fsckCanceled = 32
)

// fsck is one run of the command.
type fsck struct {
	*app
	vf       volumeFlags
	no       bool
	yes      bool
	auto     bool
	data     bool
	verbose  bool
	progress bool
	memory   string
	all      bool

	list []fsckFinding // for JSON
}

func newFsckCmd(a *app) *cobra.Command {
	f := &fsck{app: a}
	cmd := &cobra.Command{
		Use:   "fsck -n VOLUME...",
		Short: "Check a volume",
		Long: `Check a volume for everything that is wrong with it, without changing it.

All that is derived from other things is recomputed and compared: superblock
copies, journal, every btree node on every member, allocation and its indexes,
backpointers, space counters, snapshots, inodes, directories, extents, stripes.
A volume that was not shut down is checked as it is after the replay of its
journal. With --data, every copy of every file's data is read and verified, too.

Each finding is a line on standard output: "error" for what is wrong, "note" for
what is worth knowing, the name and number of the format for it, where it is, and
what was expected. With --json, one document.

Only -n is there: repair is not implemented yet.

Exit codes: 0 nothing is wrong, 4 errors were found, 8 the check could not be
made, 16 bad usage, 32 canceled.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error { return fsckCode(f.run(args)) },
	}
	fl := cmd.Flags()
	fl.BoolVarP(&f.no, "no-changes", "n", false, "change nothing")
	fl.BoolVarP(&f.yes, "yes", "y", false, "repair everything (not implemented yet)")
	fl.BoolVarP(&f.auto, "auto", "p", false, "repair what is safe (not implemented yet)")
	fl.BoolVarP(&f.auto, "auto-repair", "a", false, "the same as -p")
	fl.BoolP("force", "f", false, "check even if the volume was shut down properly, as is always done")
	fl.BoolP("ratelimit", "r", false, "no effect: what is shown of each kind is bounded, see --all")
	fl.BoolP("no-kernel", "K", false, "no effect: the kernel is never asked")
	fl.BoolVarP(&f.verbose, "verbose", "v", false, "say how long each part took")
	fl.BoolVar(&f.data, "data", false, "read and verify all data, every copy")
	fl.StringVar(&f.memory, "memory", "", "`BYTES` that tables may take up (default 1G); with less, the btrees are read several times")
	fl.BoolVar(&f.all, "all", false, fmt.Sprintf("show all findings, not only %d of each kind", bcachefs.DefaultCheckPerKind))
	progressFlag(cmd, &f.progress)
	for _, name := range []string{"auto-repair", "force", "ratelimit", "no-kernel"} {
		_ = fl.MarkHidden(name)
	}
	f.vf.add(cmd)
	a.jsonFlag(cmd)
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exitError{fsckUsage, err} })
	return cmd
}

func (f *fsck) run(args []string) error {
	o := bcachefs.Options{Degraded: bcachefs.DegradedVery, Passphrase: f.vf.passphrase(f.app), Key: keyringKey}
	if err := f.vf.parse(&o, f.option); err != nil {
		return err
	}
	if len(f.vf.devices) > 0 && len(args) > 0 {
		return usageErr("--device takes the place of VOLUME")
	}
	spec := append(slices.Clone(f.vf.devices), args...)
	if len(spec) == 0 {
		return usageErr("VOLUME is missing")
	}
	co := bcachefs.CheckOptions{Data: f.data}
	if f.memory != "" {
		n, err := human.ParseSize(f.memory)
		if err != nil || n == 0 {
			return usageErr("--memory: must be a number of bytes, as 512M")
		}
		co.Memory = int64(min(n, 1<<62))
	}
	if f.all {
		co.PerKind = -1
	}
	switch {
	case f.no && (f.yes || f.auto):
		return usageErr("-n excludes -y, -p and -a")
	case !f.no:
		return errors.New("repair is not implemented yet; -n checks without changing anything")
	}
	rs, err := devicesOf(f.ctx, spec, block.Options{})
	if err != nil {
		return err
	}
	defer closeReaders(rs)
	layers, err := f.vf.layered(rs)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(f.Out)
	defer out.Flush()
	co.Found = func(x bcachefs.Finding) {
		if f.json {
			f.list = append(f.list, fsckFindingOf(&x))
			return
		}
		kind := "error"
		if x.Note {
			kind = "note"
		}
		fmt.Fprintf(out, "%s: %s\n", kind, oneLine(x.String()))
		_ = out.Flush()
	}
	stop := f.follow(&co)
	r, err := bcachefs.Check(f.ctx, layers, o, co)
	stop()
	if err != nil {
		return err
	}
	if f.json {
		err = f.writeJSON(f.document(r))
	} else {
		f.summary(out, r)
		err = out.Flush()
	}
	switch {
	case err != nil:
		return err
	case r.Bad() > 0:
		return &exitError{code: fsckErrors}
	}
	return nil
}

// option knows those of -o that say what is done anyway.
func (f *fsck) option(key, val string, has bool) (bool, error) {
	switch key {
	case "nochanges", "read_only", "ro", "fsck", "verbose", "noexcl":
		return true, nil
	case "fix_errors":
		if val != "no" && val != "exit" {
			return true, errors.New("fix_errors: repair is not implemented yet")
		}
		return true, nil
	}
	return false, nil
}

// follow shows progress while the check goes on.
func (f *fsck) follow(co *bcachefs.CheckOptions) (stop func()) {
	w, ok := f.Err.(*lineWriter)
	if !ok || !w.terminal && !f.progress {
		return func() {}
	}
	every := int64(progressLine)
	if w.terminal {
		every = int64(progressTerminal)
	}
	start := time.Now()
	var next atomic.Int64
	next.Store(int64(progressAfter))
	co.Progress = func(p bcachefs.CheckProgress) {
		since, at := int64(time.Since(start)), next.Load()
		if since >= at && next.CompareAndSwap(at, since+every) {
			w.show(fsckLine(p, time.Duration(since)))
		}
	}
	return w.done
}

// fsckLine is the line that shows progress.
func fsckLine(p bcachefs.CheckProgress, after time.Duration) string {
	s := fmt.Sprintf("%s: %d of %d nodes", p.Stage, min(p.Nodes, p.Total), p.Total)
	if p.Total == 0 {
		s = p.Stage
	}
	if p.Stage != "data" {
		return s
	}
	s = fmt.Sprintf("%s: %s", p.Stage, humanSize(uint64(p.Bytes)))
	if p.TotalBytes > 0 {
		s += " of " + humanSize(uint64(max(p.TotalBytes, p.Bytes)))
	}
	return s + fmt.Sprintf(", %s/s", humanSize(uint64(float64(p.Bytes)/max(after.Seconds(), 0.001))))
}

// summary says what came out.
func (f *fsck) summary(w *bufio.Writer, r *bcachefs.CheckResult) {
	if f.verbose {
		for _, s := range r.Stages {
			fmt.Fprintf(w, "%s: %.2fs\n", s.Name, s.Seconds)
		}
	}
	seen := fmt.Sprintf("version %s, %d btree nodes", r.Version, r.Nodes)
	if r.Bytes > 0 || f.data {
		seen += fmt.Sprintf(", %s of data", humanSize(uint64(r.Bytes)))
	}
	if r.Passes > 1 {
		seen += fmt.Sprintf(", %d passes", r.Passes)
	}
	if r.Incomplete {
		fmt.Fprintln(w, "incomplete: what depends on btree nodes that cannot be read was not compared")
	}
	n := r.Bad()
	if n == 0 {
		fmt.Fprintf(w, "clean (%s)\n", seen)
		return
	}
	var kinds []string
	for _, k := range countsOf(r.Errors) {
		kinds = append(kinds, fmt.Sprintf("%d %s", k.Count, k.Kind))
	}
	fmt.Fprintf(w, "%d errors: %s (%s)\n", n, strings.Join(kinds, ", "), seen)
}

// fsckCount is how often something was found.
type fsckCount struct {
	Kind  string `json:"kind"`
	Count int    `json:"count"`
	Fixed int    `json:"fixed"`
}

// countsOf sorts counts, the most frequent first.
func countsOf(m map[string]int) []fsckCount {
	out := []fsckCount{}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fsckCount{Kind: k, Count: m[k]})
	}
	slices.SortStableFunc(out, func(a, b fsckCount) int { return cmp.Compare(b.Count, a.Count) })
	return out
}

// fsckFinding is a finding in JSON. What does not apply is left out.
type fsckFinding struct {
	Kind     string   `json:"kind"`
	ID       *int     `json:"id,omitempty"`
	Note     bool     `json:"note,omitempty"`
	Text     string   `json:"text"`
	Btree    string   `json:"btree,omitempty"`
	Level    *int     `json:"level,omitempty"`
	Pos      *jsonPos `json:"pos,omitempty"`
	Device   *int     `json:"device,omitempty"`
	Bucket   *int64   `json:"bucket,omitempty"`
	Sector   *int64   `json:"sector,omitempty"`
	Seq      uint64   `json:"journal_seq,omitempty"`
	Expected string   `json:"expected,omitempty"`
	Found    string   `json:"found,omitempty"`
	Path     string   `json:"path,omitempty"`
	PathRaw  string   `json:"path_base64,omitempty"`
}

type jsonPos struct {
	Inode    uint64 `json:"inode"`
	Offset   uint64 `json:"offset"`
	Snapshot uint32 `json:"snapshot"`
}

func fsckFindingOf(x *bcachefs.Finding) fsckFinding {
	f := fsckFinding{Kind: x.Name, Note: x.Note, Text: x.String(), Seq: x.Seq, Expected: x.Want, Found: x.Got, Path: x.File, PathRaw: rawBytes(x.File)}
	if x.ID != bcachefs.FindingNoID {
		f.ID = &x.ID
	}
	if x.Btree >= 0 {
		f.Btree = errs.BtreeName(x.Btree)
		if x.Level >= 0 {
			f.Level = &x.Level
		}
	}
	if x.HasPos {
		f.Pos = &jsonPos{x.Inode, x.Offset, x.Snapshot}
	}
	if x.Dev >= 0 {
		f.Device = &x.Dev
	}
	if x.Bucket >= 0 {
		f.Bucket = &x.Bucket
	}
	if x.Sector >= 0 {
		f.Sector = &x.Sector
	}
	return f
}

// document is the outcome in JSON (chapter 08 section 5.5).
func (f *fsck) document(r *bcachefs.CheckResult) any {
	type pass struct {
		Name    string  `json:"name"`
		Seconds float64 `json:"seconds"`
	}
	type result struct {
		Clean      bool          `json:"clean"`
		Fixed      int           `json:"fixed"`
		Remaining  int           `json:"remaining"`
		Incomplete bool          `json:"incomplete,omitempty"`
		Version    string        `json:"version"`
		Shutdown   bool          `json:"shutdown"`
		Nodes      int64         `json:"nodes"`
		Bytes      int64         `json:"data_bytes,omitempty"`
		Errors     []fsckCount   `json:"errors"`
		Notes      []fsckCount   `json:"notes"`
		Passes     []pass        `json:"passes"`
		Findings   []fsckFinding `json:"findings"`
	}
	x := result{Clean: r.Bad() == 0, Remaining: r.Bad(), Incomplete: r.Incomplete, Version: r.Version.String(), Shutdown: r.Shutdown, Nodes: r.Nodes, Bytes: r.Bytes,
		Errors: countsOf(r.Errors), Notes: countsOf(r.Notes), Passes: []pass{}, Findings: append([]fsckFinding{}, f.list...)}
	for _, s := range r.Stages {
		x.Passes = append(x.Passes, pass(s))
	}
	return map[string]any{"schema": 1, "fsck": x}
}

// fsckCode gives an error the exit code of fsck.
func fsckCode(err error) error {
	var ee *exitError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		// A plain error: the caller of this would make 130 of a canceled context.
		return &exitError{fsckCanceled, errors.New("canceled")}
	case errors.As(err, &ee) && ee.code == ExitUsage:
		return &exitError{fsckUsage, ee.err}
	case errors.As(err, &ee):
		return err
	}
	return &exitError{fsckFailed, err}
}
