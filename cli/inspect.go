package cli

import (
	"bufio"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// compatFlag is --compat: whose text is printed.
type compatFlag struct{ v string }

func (c *compatFlag) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.v, "compat", "", "print as tools `VERSION` do: 1.13 or 1.39 (default: what made the volume)")
}

// style is the style for a volume.
func (c *compatFlag) style(sb *ondisk.Superblock) bcachefs.Style {
	switch c.v {
	case "1.13":
		return bcachefs.Style1_13
	case "1.39":
		return bcachefs.Style1_39
	}
	return bcachefs.StyleOf(sb)
}

// check refuses what is not a style.
func (c *compatFlag) check() error {
	switch c.v {
	case "", "1.13", "1.39":
		return nil
	}
	return usageErr("--compat: invalid selection: choose 1.13, 1.39")
}

// devices are the members of a command that takes nothing but devices: all
// arguments, or those of --device.
func (f *volumeFlags) all(args []string) ([]string, error) {
	spec := append(append([]string{}, f.devices...), args...)
	if len(spec) == 0 {
		return nil, usageErr("VOLUME is missing")
	}
	return spec, nil
}

// addWithout is add for a command that has another use for the letter of a flag.
func (f *volumeFlags) addWithout(cmd *cobra.Command, flag string) {
	tmp := &cobra.Command{}
	f.add(tmp)
	tmp.Flags().Lookup(flag).Shorthand = ""
	cmd.Flags().AddFlagSet(tmp.Flags())
}

// openInspect opens a volume for a command that shows its structures: also one
// whose files cannot be reached. The returned function closes it.
func (a *app) openInspect(f *volumeFlags, args []string) (*bcachefs.Inspector, func(), error) {
	return a.openInspectWith(f, args, false)
}

// openInspectWith is openInspect; live takes no locks.
func (a *app) openInspectWith(f *volumeFlags, args []string, live bool) (*bcachefs.Inspector, func(), error) {
	spec, err := f.all(args)
	if err != nil {
		return nil, nil, err
	}
	o := bcachefs.Options{Degraded: bcachefs.DegradedVery, Warn: a.warner()}
	if err := f.parse(&o, nil); err != nil {
		return nil, nil, err
	}
	rs, err := devicesOf(a.ctx, spec, block.Options{NoLock: live})
	if err != nil {
		return nil, nil, err
	}
	done := func() { closeReaders(rs) }
	layers, err := f.layered(rs)
	if err != nil {
		done()
		return nil, nil, err
	}
	rs = layers
	o.Passphrase = f.passphrase(a)
	o.Key = keyringKey
	i, err := bcachefs.OpenInspector(a.ctx, rs, o)
	if err != nil {
		done()
		return nil, nil, err
	}
	return i, done, nil
}

// findings prints what an inspecting command came across and goes on after.
type findings struct {
	a   *app
	cmd string
	n   int
}

func (f *findings) add(err error) {
	f.n++
	if f.n <= maxWarnings {
		fmt.Fprintf(f.a.Err, "gobcachefs: %s: %s\n", f.cmd, errText(err))
	}
	if f.n == maxWarnings {
		fmt.Fprintf(f.a.Err, "gobcachefs: %s: more than %d findings; the rest is not shown\n", f.cmd, maxWarnings)
	}
}

// err is what the command ends with.
func (f *findings) err() error {
	if err := f.a.ctx.Err(); err != nil {
		return err
	}
	if f.n > 0 {
		return errFailed
	}
	return nil
}

// buffered runs fn with a buffered standard output.
func (a *app) buffered(fn func(w *bufio.Writer) error) error {
	w := bufio.NewWriterSize(a.Out, 1<<16)
	err := fn(w)
	if ferr := w.Flush(); ferr != nil && (err == nil || errors.Is(err, errFailed)) {
		err = ferr
	}
	return err
}

// indent puts spaces before every line of text but the first.
func indent(text []byte, by string) string {
	return strings.ReplaceAll(string(text), "\n", "\n"+by)
}

// parsePos reads the value of a flag.
func parsePos(flag, s string, def ondisk.Pos) (ondisk.Pos, error) {
	if s == "" {
		return def, nil
	}
	p, err := ondisk.ParsePos(s)
	if err != nil {
		return p, usageErr("%s: %v", flag, err)
	}
	return p, nil
}

// parseBtree reads the name of a btree.
func parseBtree(s string) (ondisk.BtreeID, error) {
	b, ok := ondisk.ParseBtreeID(s)
	if !ok {
		var names []string
		for b := ondisk.BtreeID(0); b < ondisk.NrBtrees; b++ {
			names = append(names, b.String())
		}
		return 0, usageErr("unknown btree %q; choose %s", s, strings.Join(names, ", "))
	}
	return b, nil
}

// parseKeyType reads the name of a key type.
func parseKeyType(s string) (ondisk.KeyType, error) {
	var names []string
	for t := ondisk.KeyType(0); t < ondisk.NrKeyTypes; t++ {
		if t.String() == s {
			return t, nil
		}
		names = append(names, t.String())
	}
	return 0, usageErr("unknown key type %q; choose %s", s, strings.Join(names, ", "))
}
