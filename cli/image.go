package cli

import (
	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs/errs"
)

func init() { commands = append(commands, newImageCmd) }

// newImageCmd refuses by name: a small image (chapter 08 section 6.3) has its
// btree nodes moved behind the data, the file cut after them, and no journal.
func newImageCmd(*app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Make small images (not supported yet)",
		RunE:  func(*cobra.Command, []string) error { return usageErr("missing command: create or update") },
	}
	for _, name := range []string{"create", "update"} {
		cmd.AddCommand(&cobra.Command{
			Use:                name,
			Short:              "Not supported yet",
			DisableFlagParsing: true,
			RunE: func(*cobra.Command, []string) error {
				return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUnsupported,
					Reason: "image " + name + " is not supported yet; format --fs_size=SIZE --source=DIR FILE makes a volume from a tree"}
			},
		})
	}
	return cmd
}
