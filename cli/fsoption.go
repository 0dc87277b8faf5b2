package cli

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

func init() { commands = append(commands, newSetFSOptionCmd) }

// storedOptions are the options that superblocks keep.
func storedOptions() []*ondisk.Option {
	return slices.DeleteFunc(slices.Clone(ondisk.Options()), func(o *ondisk.Option) bool {
		return !o.Stored() && !o.MemberStored() || o.Flags&ondisk.OptInternal != 0
	})
}

func newSetFSOptionCmd(a *app) *cobra.Command {
	var wf writeFlags
	member := -1
	var used func() []fsOption
	cmd := &cobra.Command{
		Use:   "set-fs-option --OPTION=VALUE... [-d INDEX] VOLUME",
		Short: "Change options that a volume keeps",
		Long: `Change options that a volume keeps: what every mount starts with. Prints a line
"NAME: OLD -> NEW" for each. With -d they are those of the member with that index
(label, durability, discard).

Data that is there stays as it is; where it must follow, background work of a mount
moves it. What only the formatter can choose is refused.

With --json: one document, {"schema":1,"options":[...]}.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts := used()
			if len(opts) == 0 {
				return usageErr("no option given")
			}
			for _, o := range opts {
				if o.Type == ondisk.OptTarget || o.Flags&(ondisk.OptMount|ondisk.OptRuntime) == 0 {
					continue // the first needs the volume, the second is refused in any case
				}
				if _, err := o.Parse(o.value, nil); err != nil {
					return err
				}
			}
			spec, err := wf.all(args)
			if err != nil {
				return err
			}
			return a.setFSOptions(&wf, spec, opts, member)
		},
	}
	wf.addQuiet(a, cmd)
	used = optionFlags(cmd, storedOptions())
	cmd.Flags().IntVarP(&member, "member", "d", -1, "change options of the member with this `INDEX`")
	return cmd
}

// optionJSON is an element of the list "options".
type optionJSON struct {
	Name   string `json:"name"`
	Member *int   `json:"member,omitempty"`
	Old    string `json:"old"`
	New    string `json:"new"`
}

func (a *app) setFSOptions(wf *writeFlags, spec []string, opts []fsOption, member int) error {
	v, ws, err := a.openWrite(wf, spec)
	if err != nil {
		return err
	}
	var settings []bcachefs.OptionSetting
	for _, o := range opts {
		settings = append(settings, bcachefs.OptionSetting{Name: o.Name, Value: o.value, Member: -1})
		if o.MemberStored() {
			settings[len(settings)-1].Member = member
		}
	}
	done, err := v.SetOptions(a.ctx, settings...)
	if errors.Is(err, errs.ErrUsage) {
		err = &exitError{ExitUsage, err}
	}
	cerr := v.Close(a.ctx)
	for _, w := range ws {
		cerr = errors.Join(cerr, w.Close())
	}
	if cerr != nil {
		err = &exitError{ExitFailed, errors.Join(err, fmt.Errorf("the volume was not closed cleanly: %w", cerr))}
	}
	if err == nil && a.json {
		list := []optionJSON{}
		for _, c := range done {
			j := optionJSON{Name: c.Name, Old: c.Old, New: c.New}
			if c.Member >= 0 {
				j.Member = &c.Member
			}
			list = append(list, j)
		}
		return a.writeJSON(map[string]any{"schema": 1, "options": list})
	}
	if !a.json {
		for _, c := range done {
			fmt.Fprintf(a.Out, "%s: %s -> %s\n", c.Name, c.Old, c.New)
		}
	}
	return err
}
