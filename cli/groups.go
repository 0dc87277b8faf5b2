package cli

import "github.com/spf13/cobra"

// fsCommands and subvolumeCommands make the commands of these groups; files add
// theirs here.
var fsCommands, subvolumeCommands []func(*app) *cobra.Command

func init() {
	commands = append(commands, func(a *app) *cobra.Command {
		return a.group("fs", "Space and other numbers of a volume", nil, fsCommands)
	}, func(a *app) *cobra.Command {
		return a.group("subvolume", "Subvolumes and snapshots", []string{"subvol"}, subvolumeCommands)
	})
}

// group makes a command that only has subcommands. Alone it prints its help.
func (a *app) group(name, short string, aliases []string, sub []func(*app) *cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:     name,
		Short:   short,
		Aliases: aliases,
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageErr("unknown command %q; see gobcachefs %s --help", args[0], name)
			}
			return cmd.Help()
		},
	}
	for _, f := range sub {
		cmd.AddCommand(f(a))
	}
	return cmd
}
