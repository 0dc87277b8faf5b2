package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

func init() { commands = append(commands, newSetFileOptionCmd, newGetFileOptionCmd) }

// inodeOptions are the options that files can have.
func inodeOptions() (l []*ondisk.Option) {
	for id := range ondisk.NrInodeOpts {
		l = append(l, ondisk.InodeOption(id))
	}
	return l
}

// optionFlags adds a flag --NAME=VALUE for each option and returns a function that
// gives those that were used, in the order of opts.
func optionFlags(cmd *cobra.Command, opts []*ondisk.Option) func() []fsOption {
	values := make([]string, len(opts))
	for i, o := range opts {
		help := o.Help
		if len(o.Choices) > 0 && o.Type == ondisk.OptEnum {
			help += ": " + strings.Join(o.Choices, ", ")
		}
		cmd.Flags().StringVar(&values[i], o.Name, "", help)
		if o.Type == ondisk.OptBool {
			cmd.Flags().Lookup(o.Name).NoOptDefVal = "1"
		}
	}
	// The release of the volume decides on - or _ in names: both will do.
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exitError{ExitUsage, unknownOption(err, opts)} })
	return func() (used []fsOption) {
		for i, o := range opts {
			if cmd.Flags().Changed(o.Name) {
				used = append(used, fsOption{o, values[i]})
			}
		}
		return used
	}
}

type fsOption struct {
	*ondisk.Option
	value string
}

// unknownOption makes the error about a flag that does not exist one about an
// option.
func unknownOption(err error, opts []*ondisk.Option) error {
	name, ok := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !ok {
		return err
	}
	name, _, _ = strings.Cut(name, "=")
	var names []string
	for _, o := range opts {
		names = append(names, o.Name)
	}
	if near := nearest(name, names); near != "" {
		return fmt.Errorf("unknown option %s; did you mean %s", name, near)
	}
	return fmt.Errorf("unknown option %s", name)
}

// removed is the value that takes an option off a file.
const removed = "-"

func newSetFileOptionCmd(a *app) *cobra.Command {
	var wf writeFlags
	var removeAll bool
	var used func() []fsOption
	cmd := &cobra.Command{
		Use:   "set-file-option --OPTION=VALUE... VOLUME PATH...",
		Short: "Set options of files and directories of a volume",
		Long: `Set options of files and directories of a volume: how new data of a file is stored,
and what new files in a directory start with. Files that are below a directory and
have no option of their own get it, too. The value - goes back to the option of the
directory above.

Data that is there stays as it is; where it must follow, background work of a mount
moves it.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts := used()
			if len(opts) == 0 && !removeAll {
				return usageErr("no option given")
			}
			// What is wrong whatever the volume is said before it is opened.
			for _, o := range opts {
				if o.Type == ondisk.OptTarget || o.value == removed {
					continue
				}
				if _, err := o.Parse(o.value, nil); err != nil {
					return err
				}
			}
			return a.withWrite(cmd, &wf, args, 1, -1, func(t *writeTree, paths []string) error {
				return t.each(paths, func(p string) error { return t.setOptions(p, opts, removeAll) })
			})
		},
	}
	wf.add(a, cmd)
	used = optionFlags(cmd, inodeOptions())
	cmd.Flags().BoolVar(&removeAll, "remove-all", false, "take all options off but casefold, before others are set")
	return cmd
}

// setOptions changes options of the file at a path, and of what is below it.
func (t *writeTree) setOptions(p string, opts []fsOption, removeAll bool) error {
	at, err := t.sub.Stat(t.ctx, p)
	if err != nil {
		return err
	}
	set := func(name, value string) error {
		var err error
		if value == removed {
			err = t.files.RemoveXattr(t.ctx, at.ID, "bcachefs."+name)
		} else {
			err = t.files.SetXattr(t.ctx, at.ID, "bcachefs."+name, []byte(value), 0)
		}
		if err == nil {
			t.report(changeJSON{Path: p, PathRaw: rawBytes(p), Action: "option set", Name: name, Value: value})
		}
		return err
	}
	if removeAll {
		names, err := t.files.ListXattr(t.ctx, at.ID)
		if err != nil {
			return err
		}
		for _, n := range names {
			if n, ok := strings.CutPrefix(n, "bcachefs."); ok && n != "casefold" {
				if err := set(n, removed); err != nil {
					return err
				}
			}
		}
	}
	for _, o := range opts {
		if err := set(o.Name, o.value); err != nil {
			return err
		}
	}
	if !at.IsDir() {
		return nil
	}
	dirs := []bcachefs.NodeID{}
	o := walkOptions{maxDepth: -1, oneSubvol: true, leave: true}
	return walk(t.ctx, t.files.Files, []walkRoot{{p, at.ID, ondisk.ModeDir}}, o, func(e *entry) error {
		if e.kind == entryLeave {
			dirs = dirs[:len(dirs)-1]
			return nil
		}
		if e.kind == entryFailed || e.err != nil {
			t.fail(e.path, e.err)
			return nil
		}
		if e.depth > 0 && !e.subvol {
			changed, err := t.files.Reinherit(t.ctx, e.id, dirs[len(dirs)-1])
			if err != nil {
				t.fail(e.path, err)
				return t.vol.Err()
			}
			if changed {
				t.did("options inherited", e.path, "")
			}
		}
		if e.typ == ondisk.ModeDir && !e.pruned {
			dirs = append(dirs, e.id)
		}
		return nil
	})
}

func newGetFileOptionCmd(a *app) *cobra.Command {
	var vf volumeFlags
	var effective, all bool
	cmd := &cobra.Command{
		Use:   "get-file-option VOLUME PATH...",
		Short: "Show options of files and directories of a volume",
		Long: `Show the options that were set on files and directories of a volume, a line
NAME<TAB>VALUE each (the path before it if there are several PATHs). With -e also
those that came from the directory above, with -a all, as they are in force.

With --json: one document, {"schema":1,"files":[...],"errors":[...]}.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withTree(cmd, &vf, args, 1, -1, func(t *tree, paths []string) error {
				var js *jsonList
				if a.json {
					js = t.jsonList(t.out, "files")
				}
				for _, p := range paths {
					at, ok := t.stat(p, true)
					if !ok {
						continue
					}
					got, err := t.fileOptions(at.ID, effective, all)
					if err != nil {
						t.fail(p, err)
						continue
					}
					if js != nil {
						m := map[string]string{}
						for _, o := range got {
							m[o.Name] = o.value
						}
						if err := js.add(map[string]any{"path": p, "options": m}); err != nil {
							return err
						}
						continue
					}
					for _, o := range got {
						if len(paths) > 1 {
							fmt.Fprintf(t.out, "%s\t", escapeName(p))
						}
						fmt.Fprintf(t.out, "%s\t%s\n", o.Name, o.value)
					}
				}
				if js != nil {
					return js.end(map[string]any{"errors": t.r.failures()})
				}
				return nil
			})
		},
	}
	vf.add(cmd)
	a.jsonFlag(cmd)
	cmd.Flags().BoolVarP(&effective, "effective", "e", false, "show inherited options, too")
	cmd.Flags().BoolVarP(&all, "all", "a", false, "show all options as they are in force")
	return cmd
}

// fileOptions gives the options of a file.
func (t *tree) fileOptions(id bcachefs.NodeID, effective, all bool) (got []fsOption, err error) {
	prefix := "bcachefs."
	if effective || all {
		prefix = "bcachefs_effective."
	}
	sb := t.sub.Volume().Superblock()
	for _, o := range inodeOptions() {
		v, err := t.files.GetXattr(t.ctx, id, prefix+o.Name)
		switch {
		case err == nil:
			got = append(got, fsOption{o, string(v)})
		case !errors.Is(err, errs.NoData):
			return nil, err
		case all && o.Stored() && o.InVersion(sb.Version):
			got = append(got, fsOption{o, o.Format(o.Effective(sb), sb.TargetString)})
		}
	}
	return got, nil
}
