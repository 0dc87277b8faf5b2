package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

func init() { commands = append(commands, newChmodCmd, newChownCmd) }

func newChmodCmd(a *app) *cobra.Command {
	var wf writeFlags
	var recursive bool
	cmd := &cobra.Command{
		Use:   "chmod VOLUME MODE PATH...",
		Short: "Change permissions of files of a volume",
		Long: `Change permissions of files of a volume. MODE is an octal number, or like u+rw,g=u,o-x
(as chmod(1) has it; without u, g, o or a, the umask 022 counts). An access ACL of the
file follows. A PATH that is a symlink is followed; below a directory (-R) symlinks
are left alone.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withMode(cmd, &wf, args, recursive)
		},
	}
	wf.add(a, cmd)
	cmd.Flags().BoolVarP(&recursive, "recursive", "R", false, "change everything below directories, too")
	return cmd
}

func (a *app) withMode(cmd *cobra.Command, wf *writeFlags, args []string, recursive bool) error {
	_, rest, err := wf.split(args, 2, -1)
	if err != nil {
		return err
	}
	m, err := parseMode(rest[0])
	if err != nil {
		return err
	}
	return a.withWrite(cmd, wf, args, 2, -1, func(t *writeTree, paths []string) error {
		set := func(path string, at *bcachefs.Attr) error {
			mode := m.apply(at.Mode)
			if mode == at.Mode&0o7777 {
				return nil
			}
			if _, err := t.files.Setattr(t.ctx, at.ID, bcachefs.SetAttr{Mode: &mode}); err != nil {
				return err
			}
			t.report(changeJSON{Path: path, PathRaw: rawBytes(path), Action: "mode changed", Value: fmt.Sprintf("%04o", mode)})
			return nil
		}
		return t.each(paths[1:], func(p string) error {
			at, err := t.sub.Stat(t.ctx, p)
			if err != nil {
				return err
			}
			return t.below(p, &at, recursive, func(path string, at *bcachefs.Attr) error {
				if at.IsSymlink() {
					return nil
				}
				return set(path, at)
			})
		})
	})
}

// below runs f on a file, and with recursive on all that is below it. Failures
// there are reported.
func (t *writeTree) below(path string, at *bcachefs.Attr, recursive bool, f func(path string, at *bcachefs.Attr) error) error {
	if !recursive || !at.IsDir() {
		return f(path, at)
	}
	return walk(t.ctx, t.files.Files, []walkRoot{{path, at.ID, ondisk.ModeDir}}, walkOptions{maxDepth: -1}, func(e *entry) error {
		err := e.err
		if err == nil {
			err = f(e.path, &e.attr)
		}
		if err != nil {
			t.fail(e.path, err)
		}
		return t.vol.Err()
	})
}

func newChownCmd(a *app) *cobra.Command {
	var wf writeFlags
	var recursive, noDeref bool
	cmd := &cobra.Command{
		Use:   "chown VOLUME UID[:GID] PATH...",
		Short: "Change owner and group of files of a volume",
		Long: `Change owner and group of files of a volume, by number: UID, UID:GID or :GID. As the
system does it, that takes setuid, setgid and capabilities from files. A PATH that
is a symlink is followed unless -h is given; below a directory (-R) symlinks
themselves are changed.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			_, rest, err := wf.split(args, 2, -1)
			if err != nil {
				return err
			}
			uid, gid, err := parseOwner(rest[0])
			if err != nil {
				return err
			}
			return a.withWrite(cmd, &wf, args, 2, -1, func(t *writeTree, paths []string) error {
				return t.each(paths[1:], func(p string) error {
					stat := t.sub.Stat
					if noDeref {
						stat = t.sub.Lstat
					}
					at, err := stat(t.ctx, p)
					if err != nil {
						return err
					}
					return t.below(p, &at, recursive, func(path string, at *bcachefs.Attr) error {
						if (uid == nil || *uid == at.UID) && (gid == nil || *gid == at.GID) {
							return nil
						}
						n, err := t.files.Setattr(t.ctx, at.ID, bcachefs.SetAttr{UID: uid, GID: gid})
						if err != nil {
							return err
						}
						t.report(changeJSON{Path: path, PathRaw: rawBytes(path), Action: "owner changed", Value: fmt.Sprintf("%d:%d", n.UID, n.GID)})
						return nil
					})
				})
			})
		},
	}
	wf.add(a, cmd)
	cmd.Flags().BoolVarP(&recursive, "recursive", "R", false, "change everything below directories, too")
	cmd.Flags().BoolVarP(&noDeref, "no-dereference", "h", false, "change a symlink itself")
	cmd.Flags().BoolP("help", "", false, "help for "+cmd.Name()) // -h is taken
	return cmd
}
