package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

func init() { commands = append(commands, newDuCmd) }

// duFlags are what du was asked for.
type duFlags struct {
	summarize, all, human, bytes, shared, oneSubvol bool
	depth                                           int
}

func newDuCmd(a *app) *cobra.Command {
	var vf volumeFlags
	var nf nameFlags
	var f duFlags
	cmd := &cobra.Command{
		Use:   "du VOLUME [PATH...]",
		Short: "Sum up the space that directories of a volume take",
		Long: `Sum up the space that directories of a volume take, "/" if no PATH is given.

Each line has what the data takes on devices (all copies, after compression; no
parity, no metadata), the size as files show it, with --shared how much of the size
is in extents that something else refers to as well, and the path; in units of
1 KiB, rounded up. A file with several names counts once, a shared extent for each
file.

With --json: one document, {"schema":1,"paths":[...],"errors":[...]}, bytes.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.summarize && (f.all || cmd.Flags().Changed("max-depth") && f.depth != 0) {
				return usageErr("--summarize excludes --all and --max-depth")
			}
			if f.summarize {
				f.depth = 0
			} else if !cmd.Flags().Changed("max-depth") {
				f.depth = maxWalkDepth
			}
			return a.withTree(cmd, &vf, args, 0, -1, func(t *tree, paths []string) error {
				if len(paths) == 0 {
					paths = []string{"/"}
				}
				d := &du{tree: t, duFlags: f, name: nf.style(a.Out), linked: map[bcachefs.NodeID]bool{}}
				return d.run(paths)
			})
		},
	}
	vf.add(cmd)
	nf.addAs(cmd, "") // -b is for bytes, as du has it
	a.jsonFlag(cmd)
	fl := cmd.Flags()
	fl.BoolP("help", "", false, "help for du") // -h is taken
	fl.BoolVarP(&f.summarize, "summarize", "s", false, "only one line for each PATH")
	fl.BoolVarP(&f.all, "all", "a", false, "lines for files too")
	fl.BoolVarP(&f.human, "human-readable", "h", false, "sizes like 1.5K, 234M")
	fl.BoolVarP(&f.bytes, "bytes", "b", false, "sizes in bytes")
	fl.IntVarP(&f.depth, "max-depth", "d", 0, "lines only for what is at most `N` levels below PATH")
	fl.BoolVar(&f.shared, "shared", false, "also what is shared by reflinks")
	fl.BoolVarP(&f.oneSubvol, "one-subvolume", "x", false, "do not go into nested subvolumes")
	return cmd
}

type du struct {
	*tree
	duFlags
	name   nameStyle
	js     *jsonList
	linked map[bcachefs.NodeID]bool // files with several names that were counted
	stack  []usage                  // directories that the walk is in
}

// usage is a sum, in bytes.
type usage struct{ stored, size, shared, files uint64 }

func (u *usage) add(o usage) {
	u.stored += o.stored
	u.size += o.size
	u.shared += o.shared
	u.files += o.files
}

// duJSON is a line of du --json.
type duJSON struct {
	Path    string  `json:"path"`
	PathRaw string  `json:"path_base64,omitempty"`
	Stored  uint64  `json:"stored"`
	Size    uint64  `json:"size"`
	Shared  *uint64 `json:"shared,omitempty"`
	Files   uint64  `json:"files"` // names, the directory itself included
}

func (d *du) run(paths []string) error {
	if d.json {
		d.js = d.jsonList(d.out, "paths")
	}
	// Each PATH is a walk of its own: one inside of another counts in both, as du does.
	for _, p := range paths {
		roots := d.roots([]string{p}, false)
		o := walkOptions{maxDepth: -1, oneSubvol: d.oneSubvol, leave: true, prepare: d.sum}
		if err := walk(d.ctx, d.files, roots, o, d.visit); err != nil {
			return err
		}
	}
	if d.js != nil {
		return d.js.end(map[string]any{"errors": d.r.failures()})
	}
	return nil
}

// sum leaves in an entry what its data takes.
func (d *du) sum(ctx context.Context, e *entry) {
	if !e.attr.IsRegular() && !e.attr.IsSymlink() {
		return
	}
	u := usage{size: e.attr.Size}
	h, err := d.files.Open(ctx, e.id)
	if err == nil {
		err = h.Extents(ctx, 0, func(x bcachefs.Extent) bool {
			if x.Shared && x.Refs > 1 {
				u.shared += x.Length
			}
			for i := range x.Copies {
				if c := &x.Copies[i]; !c.Cached && c.Dev != ondisk.InvalidDev {
					u.stored += c.Charged(x.Length)
				}
			}
			return true
		})
	}
	if err != nil {
		d.r.fail(e.path, err)
	}
	e.data = u
}

func (d *du) visit(e *entry) error {
	switch e.kind {
	case entryFailed:
		d.fail(e.path, e.err)
		return nil
	case entryLeave:
		n := len(d.stack) - 1
		sum := d.stack[n]
		d.stack = d.stack[:n]
		d.r.check(e.path, d.files, e.id)
		return d.total(e, sum, true)
	}
	var own usage
	own.files = 1
	if e.err != nil {
		d.fail(e.path, e.err)
	} else if multi := !e.attr.IsDir() && e.attr.Nlink > 1; !multi || !d.linked[e.id] {
		if multi {
			d.linked[e.id] = true
		}
		if u, ok := e.data.(usage); ok {
			own.add(u)
		}
	}
	if e.typ == ondisk.ModeDir && !e.pruned {
		d.stack = append(d.stack, own)
		return nil
	}
	return d.total(e, own, e.typ == ondisk.ModeDir)
}

// total counts a file or finished directory where it belongs, and prints it.
func (d *du) total(e *entry, sum usage, dir bool) error {
	if n := len(d.stack); n > 0 {
		d.stack[n-1].add(sum)
	}
	if e.depth > d.depth || !(dir || d.all || e.depth == 0) {
		return nil
	}
	if d.js != nil {
		j := duJSON{Path: e.path, PathRaw: rawBytes(e.path), Stored: sum.stored, Size: sum.size, Files: sum.files}
		if d.shared {
			j.Shared = &sum.shared
		}
		return d.js.add(j)
	}
	cols := []string{d.amount(sum.stored), d.amount(sum.size)}
	if d.shared {
		cols = append(cols, d.amount(sum.shared))
	}
	_, err := fmt.Fprintf(d.out, "%s\t%s\n", strings.Join(cols, "\t"), d.name(e.path))
	return err
}

func (d *du) amount(n uint64) string {
	switch {
	case d.human:
		return humanSize(n)
	case d.bytes:
		return strconv.FormatUint(n, 10)
	}
	return strconv.FormatUint(n/1024+min(n%1024, 1), 10)
}
