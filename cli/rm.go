package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

func init() { commands = append(commands, newRmCmd) }

func newRmCmd(a *app) *cobra.Command {
	var wf writeFlags
	var recursive, force, dirs bool
	cmd := &cobra.Command{
		Use:   "rm VOLUME PATH...",
		Short: "Remove files of a volume",
		Long: `Remove files of a volume, with -d also empty directories, with -r directories and all
that is below them. Subvolumes are not removed that way: they, and the directories
that hold them, stay.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withWrite(cmd, &wf, args, 1, -1, func(t *writeTree, paths []string) error {
				return t.each(paths, func(p string) error {
					err := t.remove(p, recursive, dirs)
					if force && errors.Is(err, fs.ErrNotExist) {
						return nil
					}
					return err
				})
			})
		},
	}
	wf.add(a, cmd)
	fl := cmd.Flags()
	fl.BoolVarP(&recursive, "recursive", "r", false, "remove directories with all that is below them")
	fl.BoolVarP(&force, "force", "f", false, "do not mind paths that are not there")
	fl.BoolVarP(&dirs, "dir", "d", false, "remove empty directories")
	return cmd
}

// remove removes what is at a path.
func (t *writeTree) remove(p string, recursive, dirs bool) error {
	switch base := path.Base(p); {
	case path.Clean("/"+p) == "/":
		return errors.New("the root directory stays")
	case base == "." || base == "..":
		return errors.New("\".\" and \"..\" are not removed")
	}
	a, err := t.sub.Lstat(t.ctx, p)
	switch {
	case err != nil:
		return err
	case a.SubvolRoot != 0:
		return errIsSubvolume
	case !a.IsDir():
		if err := t.sub.Remove(t.ctx, p); err != nil {
			return err
		}
		t.did("removed", p, "")
		return nil
	case !recursive && !dirs:
		return syscall.EISDIR
	case !recursive:
		if err := t.sub.Remove(t.ctx, strings.TrimRight(p, "/")+"/"); err != nil {
			return err
		}
		t.did("removed", p, "")
		return nil
	}
	parent, name, _, err := t.sub.Parent(t.ctx, "rm", p)
	if err != nil {
		return err
	}
	return t.removeTree(strings.TrimRight(p, "/"), parent, name, a.ID)
}

var errIsSubvolume = fmt.Errorf("a subvolume: use subvolume delete: %w", syscall.EBUSY)

// removeTree removes a directory, from the bottom up. What fails is reported, and
// the directories above it stay.
func (t *writeTree) removeTree(p string, parent bcachefs.NodeID, name string, id bcachefs.NodeID) error {
	type open struct {
		id   bcachefs.NodeID
		name string
		kept bool // something in it could not be removed
	}
	dirs := []open{{id: parent}}
	keep := func() {
		for i := range dirs {
			dirs[i].kept = true
		}
	}
	o := walkOptions{maxDepth: -1, oneSubvol: true, leave: true}
	return walk(t.ctx, t.files.Files, []walkRoot{{p, id, ondisk.ModeDir}}, o, func(e *entry) error {
		n := e.name
		if e.depth == 0 {
			n = name
		}
		up := &dirs[len(dirs)-1]
		var err error
		switch {
		case e.kind == entryFailed:
			err = e.err
		case e.kind == entryLeave:
			d := dirs[len(dirs)-1]
			dirs = dirs[:len(dirs)-1]
			if d.kept {
				return nil // reported
			}
			err = t.files.Rmdir(t.ctx, dirs[len(dirs)-1].id, n)
		case e.subvol:
			err = errIsSubvolume
		case e.typ == ondisk.ModeDir && !e.pruned:
			dirs = append(dirs, open{id: e.id, name: n})
			return nil
		default:
			// Also what has no inode, or another type than its name says, if it lets
			// itself be removed.
			err = t.files.Unlink(t.ctx, up.id, n)
		}
		if err != nil {
			t.fail(e.path, err)
			keep()
			return t.vol.Err()
		}
		t.did("removed", e.path, "")
		return nil
	})
}
