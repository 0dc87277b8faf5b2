package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

func init() { commands = append(commands, newMkdirCmd) }

// newFileFlags say whose a new file is and what its permissions are.
type newFileFlags struct {
	mode, owner string
}

func (f *newFileFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.mode, "mode", "m", "", "permissions as for chmod, whatever the ACLs of the directory say (default: what 0755 or 0644 and those make)")
	cmd.Flags().StringVar(&f.owner, "owner", "0:0", "owner and group, `UID[:GID]`")
}

// umask is what new files do not get, where no ACL says otherwise.
const umask = 0o022

// file makes the description of a new file; all are the permissions that the
// system calls of mkdir(1) and so on ask for.
func (f *newFileFlags) file(typ, all uint32) (bcachefs.NewFile, error) {
	n := bcachefs.NewFile{Mode: typ | all, Inherit: true, Umask: umask}
	uid, gid, err := parseOwner(f.owner)
	if err != nil {
		return n, err
	}
	if uid != nil {
		n.UID = *uid
	}
	if gid != nil {
		n.GID = *gid
	}
	return n, nil
}

// chosen is the mode that was asked for by --mode, nil if none was. a is what the
// file has without.
func (f *newFileFlags) chosen(a *bcachefs.Attr) (*uint32, error) {
	if f.mode == "" {
		return nil, nil
	}
	m, err := parseMode(f.mode)
	if err != nil {
		return nil, err
	}
	// Symbolic modes are relative to all permissions, as mkdir(1) has it.
	base := uint32(0o777)
	if a.Mode&ondisk.ModeTypeMask != ondisk.ModeDir {
		base = 0o666
	}
	v := m.apply(a.Mode&^0o777|base) & 0o7777
	return &v, nil
}

// parseOwner reads UID, UID:GID, :GID: numbers only, as names of this system mean
// nothing in the volume.
func parseOwner(s string) (uid, gid *uint32, err error) {
	u, g, both := strings.Cut(s, ":")
	num := func(s string) (*uint32, error) {
		if s == "" {
			return nil, nil
		}
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil || n == 1<<32-1 {
			return nil, usageErr("owner %q: must be numbers, UID[:GID]", s)
		}
		v := uint32(n)
		return &v, nil
	}
	if uid, err = num(u); err != nil {
		return nil, nil, err
	}
	if gid, err = num(g); err != nil {
		return nil, nil, err
	}
	if uid == nil && gid == nil || both && g == "" {
		return nil, nil, usageErr("owner %q: must be numbers, UID[:GID]", s)
	}
	return uid, gid, nil
}

func newMkdirCmd(a *app) *cobra.Command {
	var wf writeFlags
	var nf newFileFlags
	var parents bool
	cmd := &cobra.Command{
		Use:   "mkdir VOLUME PATH...",
		Short: "Make directories in a volume",
		Long: `Make directories in a volume. They belong to root unless --owner says otherwise,
get the group of a directory with the setgid bit and the ACLs of one with a default
ACL, and the options of the directory that they are made in.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := nf.file(ondisk.ModeDir, 0o777)
			if err != nil {
				return err
			}
			if nf.mode != "" {
				if _, err := parseMode(nf.mode); err != nil {
					return err
				}
			}
			return a.withWrite(cmd, &wf, args, 1, -1, func(t *writeTree, paths []string) error {
				return t.each(paths, func(p string) error { return t.mkdir(p, n, &nf, parents) })
			})
		},
	}
	wf.add(a, cmd)
	nf.add(cmd)
	cmd.Flags().BoolVarP(&parents, "parents", "p", false, "make the directories above too, and do not mind if PATH is there")
	return cmd
}

func (t *writeTree) mkdir(path string, n bcachefs.NewFile, nf *newFileFlags, parents bool) error {
	made := []string{path}
	if parents {
		var err error
		made, err = t.sub.MkdirAll(t.ctx, path, n)
		for _, p := range made {
			t.did("created", p, "")
		}
		if err != nil || len(made) == 0 {
			return err
		}
	} else if _, err := t.sub.Mkdir(t.ctx, path, n); err != nil {
		return err
	} else {
		t.did("created", path, "")
	}
	last := made[len(made)-1]
	a, err := t.sub.Lstat(t.ctx, last)
	if err != nil {
		return err
	}
	mode, err := nf.chosen(&a)
	if err != nil || mode == nil {
		return err
	}
	if _, err := t.files.Setattr(t.ctx, a.ID, bcachefs.SetAttr{Mode: mode}); err != nil {
		return fmt.Errorf("mode: %w", err)
	}
	return nil
}
