package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

func init() { commands = append(commands, newFindCmd) }

type bcachefsEntry = bcachefs.Entry

func newFindCmd(a *app) *cobra.Command {
	var vf volumeFlags
	var nf nameFlags
	cmd := &cobra.Command{
		Use:   "find VOLUME [PATH...] [EXPRESSION]",
		Short: "Find files of a volume by name, type, size, age…",
		Long: `Walk directories of a volume, "/" if no PATH is given, and print what the
EXPRESSION, spelled as for find(1), is true for:

  -name -iname -path -ipath PATTERN   the name, or the whole path, matches
  -type f|d|l|c|b|p|s                 several with commas
  -size [+-]N[cwbkMG]                 in units, rounded up; 512 bytes without one
  -mtime -atime -ctime [+-]DAYS       age in whole days; -mmin in minutes
  -newer PATH, -newermt TIME          modified after that file of the volume, or time
  -uid -gid -links -inum [+-]N
  -perm MODE, -MODE, /MODE            octal: exactly, all bits, any bit
  -empty, -true, -false
  -maxdepth N, -mindepth N
  -xdev                               as --one-subvolume
  -print, -print0, -ls                -print if there is no other
  ! A, A -o B, A [-a] B, ( A )

Options (--json, -o …) stand before VOLUME. With --json one object a line for each
file, as of stat but without extended attributes, and {"schema":1,"errors":[...]}
as the last line.`,
		DisableFlagParsing: true, // the expression looks like flags
		Args:               cobra.ArbitraryArgs,
	}
	vf.add(cmd)
	nf.add(cmd)
	a.jsonFlag(cmd)
	oneSubvol := cmd.Flags().BoolP("one-subvolume", "x", false, "do not go into nested subvolumes")
	help := cmd.Flags().BoolP("help", "h", false, "help for find")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		// Everything up to the first word of the expression is parsed as usual:
		// options may stand between the paths, but not in the expression.
		fl := cmd.Flags()
		fl.SetInterspersed(false)
		var words []string
		for {
			if err := fl.Parse(args); err != nil {
				return &exitError{ExitUsage, err}
			}
			args = fl.Args()
			for len(args) > 0 && !strings.HasPrefix(args[0], "-") && args[0] != "(" && args[0] != "!" {
				words = append(words, args[0])
				args = args[1:]
			}
			if len(args) == 0 || !strings.HasPrefix(args[0], "--") && !(strings.HasPrefix(args[0], "-o") && len(words) == 0) {
				break
			}
		}
		if *help {
			return cmd.Help()
		}
		x, err := parseFind(args, time.Now())
		if err != nil {
			return err
		}
		return a.withTree(cmd, &vf, words, 0, -1, func(t *tree, paths []string) error {
			if len(paths) == 0 {
				paths = []string{"/"}
			}
			f := &finder{tree: t, name: nf.style(a.Out)}
			return f.run(paths, x, *oneSubvol)
		})
	}
	return cmd
}

type finder struct {
	*tree
	name nameStyle
	js   *jsonList
}

func (f *finder) run(paths []string, x *findExpr, oneSubvol bool) error {
	if f.json {
		f.js = f.jsonLines(f.out)
	}
	if err := x.resolve(f.ctx, f.tree); err != nil {
		return err
	}
	o := walkOptions{maxDepth: x.maxDepth, oneSubvol: oneSubvol || x.oneSubvol, leave: true, prepare: f.readlink}
	for _, p := range paths {
		err := walk(f.ctx, f.files, f.roots([]string{p}, false), o, func(e *entry) error { return f.visit(e, x) })
		if err != nil {
			return err
		}
	}
	if f.js != nil {
		return f.js.end(map[string]any{"errors": f.r.failures()})
	}
	return nil
}

// readlink leaves the target of a symlink in the entry, for output.
func (f *finder) readlink(ctx context.Context, e *entry) {
	if !e.attr.IsSymlink() {
		return
	}
	t, err := f.files.Readlink(ctx, e.id)
	if err != nil {
		f.r.fail(e.path, err)
		return
	}
	e.data = t
}

func (f *finder) visit(e *entry, x *findExpr) error {
	if e.err != nil {
		f.fail(e.path, e.err)
	}
	if e.kind != entryFound {
		f.r.check(e.path, f.files, e.id)
		return nil
	}
	if e.depth < x.minDepth {
		return nil
	}
	ok, err := x.match(f, e)
	if err != nil || !ok || x.acts {
		return err
	}
	return f.print(e)
}

func (f *finder) print(e *entry) error {
	if f.js != nil {
		if e.err != nil {
			return nil // it is among the errors
		}
		j := newJSONFile(e.path, &e.attr)
		if t, ok := e.data.(string); ok {
			j.setTarget(t)
		}
		return f.js.add(j)
	}
	_, _ = f.out.WriteString(f.name(e.path))
	return f.out.WriteByte('\n')
}

func (f *finder) print0(e *entry) error {
	if f.js != nil {
		return f.print(e)
	}
	_, _ = f.out.WriteString(e.path)
	return f.out.WriteByte(0)
}

// ls prints an entry as -ls of find(1) does: inode number, KiB stored, and the
// line of ls -l.
func (f *finder) ls(e *entry) error {
	if f.js != nil {
		return f.print(e)
	}
	if e.err != nil {
		_, err := fmt.Fprintf(f.out, "? ? %c????????? ? ? ? ? ? %s\n", typeLetter(e.typ), f.name(e.path))
		return err
	}
	a := &e.attr
	size := fmt.Sprint(a.Size)
	if e.isType(ondisk.ModeChar) || e.isType(ondisk.ModeBlock) {
		size = fmt.Sprintf("%d,%d", a.RdevMajor, a.RdevMinor)
	}
	_, err := fmt.Fprintf(f.out, "%9d %6d %s %3d %-8d %-8d %8s %s %s", a.Ino, (a.Blocks+1)/2, modeString(a.Mode), a.Nlink, a.UID, a.GID, size,
		a.Mtime.Format("2006-01-02 15:04"), f.name(e.path))
	if t, ok := e.data.(string); ok {
		_, _ = f.out.WriteString(" -> " + f.name(t))
	}
	return errors.Join(err, f.out.WriteByte('\n'))
}
