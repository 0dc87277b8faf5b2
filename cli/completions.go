package cli

import (
	"slices"

	"github.com/spf13/cobra"
)

func init() { commands = append(commands, newCompletionsCmd) }

func newCompletionsCmd(a *app) *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completions SHELL",
		Short: "Print a completion script for bash, zsh, fish or powershell",
		Long: `Print a script that completes commands and options, to be sourced by the shell:

  bash        source <(gobcachefs completions bash)
  zsh         gobcachefs completions zsh > "${fpath[1]}/_gobcachefs"
  fish        gobcachefs completions fish > ~/.config/fish/completions/gobcachefs.fish
  powershell  gobcachefs completions powershell | Out-String | Invoke-Expression`,
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(shells, args[0]) {
				return usageErr("SHELL: invalid selection: choose bash, zsh, fish, powershell")
			}
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.Out, true)
			case "zsh":
				return root.GenZshCompletion(a.Out)
			case "fish":
				return root.GenFishCompletion(a.Out, true)
			}
			return root.GenPowerShellCompletionWithDesc(a.Out)
		},
	}
}
