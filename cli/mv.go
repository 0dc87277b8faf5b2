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

func init() { commands = append(commands, newMvCmd, newLnCmd) }

func newMvCmd(a *app) *cobra.Command {
	var wf writeFlags
	var force, noClobber, noDir, exchange bool
	cmd := &cobra.Command{
		Use:   "mv VOLUME SRC... DEST",
		Short: "Move files of a volume",
		Long: `Move or rename files of a volume. If DEST is a directory each SRC goes into it under
its own name, else a single SRC becomes DEST. A file that is there is replaced, in
one step; -n leaves it. Nothing is copied: files cannot be moved to another
subvolume, nor directories to one that would give them other options.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			flags := 0
			switch {
			case exchange && noClobber:
				return usageErr("--exchange excludes --no-clobber")
			case exchange:
				flags = bcachefs.RenameExchange
			case noClobber:
				flags = bcachefs.RenameNoReplace
			}
			return a.withWrite(cmd, &wf, args, 2, -1, func(t *writeTree, paths []string) error {
				srcs, dest := paths[:len(paths)-1], paths[len(paths)-1]
				into, err := t.intoDir(srcs, dest, noDir || exchange)
				if err != nil {
					return err
				}
				return t.each(srcs, func(p string) error {
					to := dest
					if into {
						to = path.Join(dest, path.Base(p))
					}
					err := t.sub.Rename(t.ctx, p, to, flags)
					switch {
					case err == nil:
						t.did("renamed", p, to)
					case noClobber && errors.Is(err, fs.ErrExist):
						return nil
					case errors.Is(err, syscall.EXDEV):
						err = fmt.Errorf("%s is another subvolume, or gives directories other options: %w", escapeName(to), syscall.EXDEV)
					}
					return err
				})
			})
		},
	}
	wf.add(a, cmd)
	fl := cmd.Flags()
	fl.BoolVarP(&force, "force", "f", false, "replace files that exist (this is what happens without -n anyway)")
	fl.BoolVarP(&noClobber, "no-clobber", "n", false, "leave files that exist")
	fl.BoolVarP(&noDir, "no-target-directory", "T", false, "DEST is the new name itself, even if it is a directory")
	fl.BoolVar(&exchange, "exchange", false, "let SRC and DEST change places")
	return cmd
}

// intoDir decides whether the sources go into dest or become it.
func (t *writeTree) intoDir(srcs []string, dest string, never bool) (bool, error) {
	a, err := t.sub.Stat(t.ctx, dest)
	isDir := err == nil && a.IsDir() && !never
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, err
	case len(srcs) > 1 && !isDir:
		return false, usageErr("%s: not a directory, and there are several SRC", escapeName(dest))
	}
	return isDir, nil
}

func newLnCmd(a *app) *cobra.Command {
	var wf writeFlags
	var nf newFileFlags
	var symbolic, force, noDir bool
	cmd := &cobra.Command{
		Use:   "ln VOLUME TARGET... LINK",
		Short: "Give files of a volume further names, or make symlinks",
		Long: `Give files of a volume further names (hard links), or with -s make symlinks, whose
TARGET is any text. If LINK is a directory the links go into it under the last name
of TARGET. A TARGET that is a symlink is linked itself.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := nf.file(ondisk.ModeSymlink, 0o777)
			if err != nil {
				return err
			}
			return a.withWrite(cmd, &wf, args, 2, -1, func(t *writeTree, paths []string) error {
				targets, link := paths[:len(paths)-1], paths[len(paths)-1]
				into, err := t.intoDir(targets, link, noDir)
				if err != nil {
					return err
				}
				return t.each(targets, func(target string) error {
					at := link
					if into {
						at = path.Join(link, path.Base(target))
					}
					return t.link(target, at, n, symbolic, force)
				})
			})
		},
	}
	wf.add(a, cmd)
	fl := cmd.Flags()
	fl.StringVar(&nf.owner, "owner", "0:0", "owner and group of symlinks, `UID[:GID]`")
	fl.BoolVarP(&symbolic, "symbolic", "s", false, "make symlinks")
	fl.BoolVarP(&force, "force", "f", false, "replace a file that exists, in one step")
	fl.BoolVarP(&noDir, "no-target-directory", "T", false, "LINK is the name itself, even if it is a directory")
	return cmd
}

// link makes one link. A file that is replaced is there until the link is.
func (t *writeTree) link(target, at string, n bcachefs.NewFile, symbolic, force bool) error {
	make := func(at string) error {
		if symbolic {
			n.Target = target
			_, err := t.sub.Create(t.ctx, at, n)
			return err
		}
		return t.sub.Link(t.ctx, target, at, false)
	}
	if !symbolic {
		// What is wrong with the target is said of the target.
		a, err := t.sub.Lstat(t.ctx, target)
		if err == nil && a.IsDir() {
			err = &fs.PathError{Op: "link", Path: target, Err: errors.New("directories have one name only")}
		}
		if err != nil {
			return atPath(t, target, err)
		}
	}
	err := make(at)
	if force && errors.Is(err, fs.ErrExist) {
		// A name beside it that then takes its place.
		tmp := path.Join(path.Dir(strings.TrimRight(at, "/")), tempName())
		if err = make(tmp); err == nil {
			if err = t.sub.Rename(t.ctx, tmp, at, 0); err != nil {
				_ = t.sub.Remove(t.ctx, tmp)
			} else {
				// Both were names of the same file: the rename did nothing.
				_ = t.sub.Remove(t.ctx, tmp)
			}
		}
	}
	if err != nil {
		return atPath(t, at, err)
	}
	t.did("linked", at, target)
	return nil
}

// atPath reports an error with another path than that of the argument.
func atPath(t *writeTree, path string, err error) error {
	t.fail(path, err)
	return errFailed
}
