package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

func init() { commands = append(commands, newVersionCmd) }

// versionJSON is the document of version --json.
type versionJSON struct {
	Schema  int    `json:"schema"`
	Version string `json:"version"`
	// Revision is the commit the program was built from, if known.
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	// Format is the newest format version whose structures are all known.
	Format     string   `json:"format"`
	FormatName string   `json:"format_name"`
	Go         string   `json:"go"`
	Platform   string   `json:"platform"`
	Commands   []string `json:"commands"`
}

func newVersionCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of the program and the newest format it knows",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageErr("too many arguments: %s", strings.Join(args, " "))
			}
			v := programVersion()
			for _, c := range cmd.Root().Commands() {
				if !c.Hidden {
					v.Commands = append(v.Commands, c.Name())
				}
			}
			if a.json {
				return a.writeJSON(v)
			}
			rev := ""
			if v.Revision != "" {
				rev = ", commit " + v.Revision
				if v.Modified {
					rev += " (modified)"
				}
			}
			_, err := fmt.Fprintf(a.Out, "gobcachefs %s%s\nnewest format: %s (%s)\nbuilt by %s for %s\n", v.Version, rev, v.Format, v.FormatName, v.Go, v.Platform)
			return err
		},
	}
	a.jsonFlag(cmd)
	return cmd
}

// programVersion is what the build recorded.
func programVersion() versionJSON {
	v := versionJSON{
		Schema: 1, Version: "(unknown)", Format: ondisk.VersionNewest.String(), FormatName: ondisk.VersionNewest.Name(),
		Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Commands: []string{},
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}
