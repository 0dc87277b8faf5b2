package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

func init() {
	commands = append(commands, newSetPassphraseCmd, newRemovePassphraseCmd, newResetCountersCmd)
}

// withSuper opens the devices of a command that changes superblocks only, and
// runs f.
func (a *app) withSuper(wf *writeFlags, args []string, f func(ws []block.Writer, o bcachefs.Options) error) error {
	spec, err := wf.all(args)
	if err != nil {
		return err
	}
	o, err := wf.options(a)
	if err != nil {
		return err
	}
	ws, err := a.writersOf(wf, spec)
	if err != nil {
		return err
	}
	if err = f(ws, o); errors.Is(err, errs.ErrUsage) {
		err = &exitError{ExitFailed, err} // devices that do not belong together
	}
	for _, w := range ws {
		if cerr := w.Close(); err == nil {
			err = cerr
		}
	}
	return err
}

// done ends a command that has nothing else to say: with --json there is a
// document all the same.
func (a *app) done(more map[string]any) error {
	if !a.json {
		return nil
	}
	m := map[string]any{"schema": 1}
	for k, v := range more {
		m[k] = v
	}
	return a.writeJSON(m)
}

func newSetPassphraseCmd(a *app) *cobra.Command {
	var wf writeFlags
	var file string
	cmd := &cobra.Command{
		Use:   "set-passphrase VOLUME",
		Short: "Change the passphrase of an encrypted volume",
		Long: `Change the passphrase of an encrypted volume, or give one to a volume whose key is
stored in the clear. The present passphrase comes from --passphrase-file, the
keyring or the terminal, the new one from --new-passphrase-file or the terminal.

The key that the data is encrypted with stays the same: a copy of the volume that
was made before still opens with the old passphrase.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withSuper(&wf, args, func(ws []block.Writer, o bcachefs.Options) error {
				// Asked for before the new one: a wrong old one is said at once.
				p, err := a.newPassphrase(file)
				if err != nil {
					return err
				}
				if err := bcachefs.SetPassphrase(a.ctx, ws, o, p); err != nil {
					return err
				}
				return a.done(nil)
			})
		},
	}
	wf.addQuiet(a, cmd)
	cmd.Flags().StringVar(&file, "new-passphrase-file", "", "read the new passphrase from a `FILE` (first line); - for standard input")
	return cmd
}

// newPassphrase asks for a new passphrase, twice at a terminal.
func (a *app) newPassphrase(file string) ([]byte, error) {
	if file != "" {
		f := volumeFlags{passphraseFile: file}
		p, err := f.passphrase(a)(a.ctx, "")
		if err == nil && len(p) == 0 {
			err = fmt.Errorf("%s: empty passphrase", file)
		}
		return p, err
	}
	in, ok := a.In.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return nil, errors.New("no new passphrase: give --new-passphrase-file")
	}
	ask := func(prompt string) ([]byte, error) {
		fmt.Fprint(a.Err, prompt)
		p, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(a.Err)
		return p, err
	}
	p, err := ask("Enter new passphrase: ")
	if err != nil {
		return nil, err
	}
	again, err := ask("Enter it again: ")
	switch {
	case err != nil:
		return nil, err
	case len(p) == 0:
		return nil, errors.New("empty passphrase")
	case !bytes.Equal(p, again):
		return nil, errors.New("they are not the same")
	}
	return p, nil
}

func newRemovePassphraseCmd(a *app) *cobra.Command {
	var wf writeFlags
	cmd := &cobra.Command{
		Use:   "remove-passphrase VOLUME",
		Short: "Store the key of an encrypted volume in the clear",
		Long: `Store the key of an encrypted volume in the clear, so that it opens without a
passphrase. Its data stays encrypted, but whoever has the devices can read it.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withSuper(&wf, args, func(ws []block.Writer, o bcachefs.Options) error {
				if err := bcachefs.RemovePassphrase(a.ctx, ws, o); err != nil {
					return err
				}
				return a.done(nil)
			})
		},
	}
	wf.addQuiet(a, cmd)
	return cmd
}

func newResetCountersCmd(a *app) *cobra.Command {
	var wf writeFlags
	var names []string
	cmd := &cobra.Command{
		Use:   "reset-counters [-c NAME,...] VOLUME",
		Short: "Set event counters of a volume to zero",
		Long: `Set event counters of a volume to zero, all or those that are named (show-super -f
counters lists them), and print how many were not zero.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			var counters []ondisk.Counter
			for _, n := range names {
				c, ok := ondisk.ParseCounter(n)
				if !ok {
					return usageErr("unknown counter %s", n)
				}
				counters = append(counters, c)
			}
			return a.withSuper(&wf, args, func(ws []block.Writer, o bcachefs.Options) error {
				n, err := bcachefs.ResetCounters(a.ctx, ws, o, counters)
				if err != nil {
					return err
				}
				if !a.json {
					fmt.Fprintf(a.Out, "%d counters reset\n", n)
				}
				return a.done(map[string]any{"reset": n})
			})
		},
	}
	wf.addQuiet(a, cmd)
	cmd.Flags().StringSliceVarP(&names, "counters", "c", nil, "only the counters with these `NAMES`")
	return cmd
}
