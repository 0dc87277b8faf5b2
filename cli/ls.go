package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

func init() { commands = append(commands, newLsCmd) }

// lsFlags are what ls was asked for.
type lsFlags struct {
	long, all, almostAll, recursive, inode, dir, one, numeric bool
	human, byTime, bySize, reverse, fullTime                  bool
}

// needAttr: names alone will not do.
func (f *lsFlags) needAttr() bool { return f.long || f.inode || f.byTime || f.bySize }

func newLsCmd(a *app) *cobra.Command {
	var vf volumeFlags
	var f lsFlags
	var nf nameFlags
	cmd := &cobra.Command{
		Use:   "ls VOLUME [PATH...]",
		Short: "List directories of a volume",
		Long: `List directories of a volume, "/" if no PATH is given.

Names are printed as they are, or with escapes on a terminal. Owners are numbers
always: the names of the volume's users are in its own /etc/passwd.

With --json: one document, {"schema":1,"entries":[...],"errors":[...]}; with -R
as well, one object a line, without a list around them, and the errors last.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withTree(cmd, &vf, args, 0, -1, func(t *tree, paths []string) error {
				if len(paths) == 0 {
					paths = []string{"/"}
				}
				l := &ls{tree: t, lsFlags: f, name: nf.style(a.Out), seen: map[bcachefs.NodeID]bool{}}
				return l.run(paths)
			})
		},
	}
	vf.add(cmd)
	nf.add(cmd)
	a.jsonFlag(cmd)
	fl := cmd.Flags()
	fl.BoolP("help", "", false, "help for ls") // -h is taken
	fl.BoolVarP(&f.long, "long", "l", false, "mode, links, owner, group, size or device number, mtime, name, target")
	fl.BoolVarP(&f.all, "all", "a", false, "names that start with a dot too, . and .. among them")
	fl.BoolVarP(&f.almostAll, "almost-all", "A", false, "names that start with a dot too, without . and ..")
	fl.BoolVarP(&f.recursive, "recursive", "R", false, "directories below too")
	fl.BoolVarP(&f.inode, "inode", "i", false, "inode number, as a mount shows it")
	fl.BoolVarP(&f.dir, "directory", "d", false, "directories themselves, not what is in them")
	fl.BoolVarP(&f.one, "one", "1", false, "one name a line (the default but on a terminal)")
	fl.BoolVarP(&f.numeric, "numeric-uid-gid", "n", false, "as -l")
	fl.BoolVarP(&f.human, "human-readable", "h", false, "sizes like 1.5K, 234M")
	fl.BoolVarP(&f.byTime, "time", "t", false, "by mtime, newest first")
	fl.BoolVarP(&f.bySize, "size", "S", false, "by size, largest first")
	fl.BoolVarP(&f.reverse, "reverse", "r", false, "in reverse order")
	fl.BoolVar(&f.fullTime, "full-time", false, "as -l, with times in full")
	cmd.PreRun = func(*cobra.Command, []string) { f.long = f.long || f.numeric || f.fullTime }
	return cmd
}

// ls is one run of the command.
type ls struct {
	*tree
	lsFlags
	name   nameStyle
	js     *jsonList
	seen   map[bcachefs.NodeID]bool // directories listed by -R
	headed bool                     // several directories: say which
	blank  bool                     // something was printed before
	width  [5]int                   // of the columns of -l
}

// lsEntry is a line of the output.
type lsEntry struct {
	name, path string
	typ        uint32
	attr       bcachefs.Attr
	target     string
	bad        bool // attr could not be read
}

func (l *ls) run(paths []string) error {
	if l.json {
		if l.recursive {
			l.js = l.jsonLines(l.out)
		} else {
			l.js = l.jsonList(l.out, "entries")
		}
	}
	var dirs []walkRoot
	var files []lsEntry
	for _, p := range paths {
		a, ok := l.stat(p, !l.long && !l.dir)
		switch {
		case !ok:
		case a.IsDir() && !l.dir:
			dirs = append(dirs, walkRoot{p, a.ID, ondisk.ModeDir})
		default:
			e := lsEntry{name: p, path: p, typ: a.Mode & ondisk.ModeTypeMask, attr: a}
			l.readlink(l.ctx, &e)
			files = append(files, e)
		}
	}
	l.sort(files)
	if err := l.print(files); err != nil {
		return err
	}
	l.headed = len(paths) > 1 || l.recursive
	for _, d := range dirs {
		if err := l.list(d.path, d.id, 0); err != nil {
			return err
		}
	}
	if l.js != nil {
		return l.js.end(map[string]any{"errors": l.r.failures()})
	}
	return nil
}

func (l *ls) readlink(ctx context.Context, e *lsEntry) {
	if e.typ != ondisk.ModeSymlink || !l.long && l.js == nil {
		return
	}
	var err error
	if e.target, err = l.files.Readlink(ctx, e.attr.ID); err != nil {
		l.r.fail(e.path, err)
		e.target = "?"
	}
}

// lsFlush is how many entries are printed at once when the order allows it:
// directories can be larger than memory likes.
const lsFlush = 4096

// list prints a directory, and with -R those below it.
func (l *ls) list(path string, id bcachefs.NodeID, depth int) error {
	if l.seen[id] || depth > maxWalkDepth {
		l.fail(path, fmt.Errorf("not listed again: directory %d is in more than one place", id.Inode))
		return nil
	}
	if l.recursive {
		l.seen[id] = true
	}
	if l.js == nil && l.headed {
		if l.blank {
			_ = l.out.WriteByte('\n')
		}
		_, _ = fmt.Fprintf(l.out, "%s:\n", l.name(path))
		l.blank = true
	}
	l.width = [5]int{}
	var batch []lsEntry
	if l.all {
		batch = append(batch, l.dots(path, id)...)
	}
	type sub struct {
		path string
		id   bcachefs.NodeID
	}
	var subs []sub
	sorted := !l.byTime && !l.bySize && !l.reverse
	o := walkOptions{maxDepth: 1, names: !l.needAttr() && l.js == nil, prepare: func(ctx context.Context, e *entry) {
		x := lsEntry{name: e.name, path: e.path, typ: e.typ, attr: e.attr}
		l.readlink(ctx, &x)
		e.data = x
	}}
	err := walk(l.ctx, l.files, []walkRoot{{path, id, ondisk.ModeDir}}, o, func(e *entry) error {
		switch {
		case e.kind == entryFailed:
			l.fail(e.path, e.err)
			return nil
		case e.depth == 0:
			return nil
		case e.name[0] == '.' && !l.all && !l.almostAll:
			return nil
		}
		x, ok := e.data.(lsEntry)
		if !ok {
			x = lsEntry{name: e.name, path: e.path, typ: e.typ, bad: true}
			l.fail(e.path, e.err)
		}
		batch = append(batch, x)
		if l.recursive && e.typ == ondisk.ModeDir {
			subs = append(subs, sub{e.path, e.id})
		}
		if sorted && len(batch) >= lsFlush {
			err := l.print(batch)
			batch = batch[:0]
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	l.sort(batch)
	if err := l.print(batch); err != nil {
		return err
	}
	l.r.check(path, l.files, id)
	if l.reverse {
		slices.Reverse(subs)
	}
	for _, s := range subs {
		if err := l.list(s.path, s.id, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// dots makes the entries of . and .. (which at the top is the same).
func (l *ls) dots(path string, id bcachefs.NodeID) (out []lsEntry) {
	parent := id
	if id != l.sub.Node() {
		p, err := l.files.Parent(l.ctx, id)
		if err != nil {
			l.fail(path+"/..", err)
		} else {
			parent = p
		}
	}
	for i, n := range []bcachefs.NodeID{id, parent} {
		name := "..."[:i+1]
		e := lsEntry{name: name, path: strings.TrimSuffix(path, "/") + "/" + name, typ: ondisk.ModeDir}
		var err error
		if e.attr, err = l.files.Getattr(l.ctx, n); err != nil {
			e.bad = true
			l.fail(e.path, err)
		}
		out = append(out, e)
	}
	return out
}

func (l *ls) sort(list []lsEntry) {
	less := func(a, b lsEntry) int {
		c := 0
		switch {
		case l.byTime:
			c = b.attr.Mtime.Compare(a.attr.Mtime)
		case l.bySize:
			c = cmp.Compare(b.attr.Size, a.attr.Size)
		}
		if c == 0 {
			c = cmp.Compare(a.name, b.name)
		}
		if l.reverse {
			c = -c
		}
		return c
	}
	slices.SortStableFunc(list, less)
}

func (l *ls) print(list []lsEntry) error {
	if len(list) > 0 {
		l.blank = true
	}
	if l.js != nil {
		for i := range list {
			e := &list[i]
			if e.bad {
				continue // it is among the errors
			}
			j := newJSONFile(e.path, &e.attr)
			if e.typ == ondisk.ModeSymlink {
				j.setTarget(e.target)
			}
			if err := l.js.add(j); err != nil {
				return err
			}
		}
		return nil
	}
	if l.long {
		return l.printLong(list)
	}
	names := make([]string, len(list))
	for i := range list {
		names[i] = l.name(list[i].name)
		if l.inode {
			names[i] = l.ino(&list[i]) + " " + names[i]
		}
	}
	if f, ok := l.Out.(*os.File); ok && !l.one && !l.inode && isTerminal(f) {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil {
			names = columns(names, w)
		}
	}
	for _, n := range names {
		_, _ = l.out.WriteString(n)
		if err := l.out.WriteByte('\n'); err != nil {
			return err
		}
	}
	return nil
}

func (l *ls) ino(e *lsEntry) string {
	if e.bad {
		return "?"
	}
	return strconv.FormatUint(e.attr.Ino, 10)
}

func (l *ls) printLong(list []lsEntry) error {
	rows := make([][5]string, len(list)) // ino, nlink, uid, gid, size
	for i := range list {
		e := &list[i]
		row := &rows[i]
		if e.bad {
			*row = [5]string{"?", "?", "?", "?", "?"}
		} else {
			a := &e.attr
			*row = [5]string{l.ino(e), fmt.Sprint(a.Nlink), fmt.Sprint(a.UID), fmt.Sprint(a.GID), l.size(a)}
		}
		for c := range row {
			l.width[c] = max(l.width[c], len(row[c]))
		}
	}
	for i := range list {
		e, row := &list[i], &rows[i]
		if l.inode {
			_, _ = fmt.Fprintf(l.out, "%*s ", l.width[0], row[0])
		}
		mode, mtime := modeString(e.attr.Mode), l.time(e.attr.Mtime)
		if e.bad {
			mode, mtime = string(typeLetter(e.typ))+"?????????", "?"
		}
		_, err := fmt.Fprintf(l.out, "%s %*s %*s %*s %*s %s %s", mode, l.width[1], row[1], l.width[2], row[2], l.width[3], row[3], l.width[4], row[4], mtime, l.name(e.name))
		if e.typ == ondisk.ModeSymlink && !e.bad {
			_, err = l.out.WriteString(" -> " + l.name(e.target))
		}
		_ = l.out.WriteByte('\n')
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *ls) size(a *bcachefs.Attr) string {
	switch a.Mode & ondisk.ModeTypeMask {
	case ondisk.ModeChar, ondisk.ModeBlock:
		return fmt.Sprintf("%d,%d", a.RdevMajor, a.RdevMinor)
	}
	if l.human {
		return humanSize(a.Size)
	}
	return strconv.FormatUint(a.Size, 10)
}

func (l *ls) time(t time.Time) string {
	if l.fullTime {
		return t.Format("2006-01-02 15:04:05.000000000 -0700")
	}
	return t.Format("2006-01-02 15:04")
}

// columns lays names out in as many columns as fit, down first.
func columns(names []string, width int) []string {
	n := len(names)
	if n == 0 {
		return nil
	}
	for rows := 1; ; rows += rows/8 + 1 {
		cols := (n + rows - 1) / rows
		widths, total := make([]int, cols), 2*(cols-1)
		for c := range cols {
			for _, s := range names[c*rows : min(n, (c+1)*rows)] {
				widths[c] = max(widths[c], utf8.RuneCountInString(s))
			}
			total += widths[c]
		}
		if total > width && cols > 1 {
			continue
		}
		out := make([]string, rows)
		for r := range rows {
			var b strings.Builder
			for c := 0; c*rows+r < n; c++ {
				s := names[c*rows+r]
				b.WriteString(s)
				if (c+1)*rows+r < n {
					b.WriteString(strings.Repeat(" ", widths[c]-utf8.RuneCountInString(s)+2))
				}
			}
			out[r] = b.String()
		}
		return out
	}
}
