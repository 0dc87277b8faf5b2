package cli

import (
	"bufio"
	"io"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// tree is the subvolume that a command works on, and where it prints.
type tree struct {
	*app
	sub   *bcachefs.Subvolume
	files *bcachefs.Files
	r     *report
	out   *bufio.Writer
}

// withTree opens the volume of a command and runs f on it: args are VOLUME and
// the paths, of which there are min to max (-1: any number).
func (a *app) withTree(cmd *cobra.Command, vf *volumeFlags, args []string, min, max int, f func(t *tree, paths []string) error) error {
	spec, paths, err := vf.split(args, min, max)
	if err != nil {
		return err
	}
	sub, done, err := a.openTree(vf, spec)
	if err != nil {
		return err
	}
	defer done()
	t := &tree{app: a, sub: sub, files: sub.Volume().Files(), r: a.report(cmd.Name()), out: bufio.NewWriterSize(a.Out, 64<<10)}
	err = f(t, paths)
	if ferr := t.out.Flush(); err == nil {
		err = ferr
	}
	if err == nil {
		err = t.r.err()
	}
	return err
}

// flushErr flushes what was printed, so that messages come after it.
func (t *tree) fail(path string, err error) {
	_ = t.out.Flush()
	t.r.fail(path, err)
}

// stat finds the file of an argument; a failure is reported.
func (t *tree) stat(path string, follow bool) (bcachefs.Attr, bool) {
	f := t.sub.Lstat
	if follow {
		f = t.sub.Stat
	}
	a, err := f(t.ctx, path)
	if err != nil {
		t.fail(path, err)
	}
	return a, err == nil
}

// roots finds the starts of a walk.
func (t *tree) roots(paths []string, follow bool) []walkRoot {
	var roots []walkRoot
	for _, p := range paths {
		if a, ok := t.stat(p, follow); ok {
			roots = append(roots, walkRoot{p, a.ID, a.Mode & ondisk.ModeTypeMask})
		}
	}
	return roots
}

// nameStyle is how names are printed.
type nameStyle func(string) string

// nameFlags add -q and -b to a command (-b only if it is not taken); style
// chooses by them and by whether out is a terminal.
type nameFlags struct{ mask, escape bool }

func (n *nameFlags) add(cmd *cobra.Command) { n.addAs(cmd, "b") }

func (n *nameFlags) addAs(cmd *cobra.Command, b string) {
	cmd.Flags().BoolVarP(&n.mask, "hide-control-chars", "q", false, "print ? for control characters in names")
	cmd.Flags().BoolVarP(&n.escape, "escape", b, false, `print \n, \ooo and so on for control characters in names (the default on a terminal)`)
}

func (n *nameFlags) style(out io.Writer) nameStyle {
	switch {
	case n.mask:
		return maskName
	case n.escape || isTerminal(out):
		return escapeName
	}
	return func(s string) string { return s }
}
