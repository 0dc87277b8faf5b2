package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/internal/human"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

func init() { commands = append(commands, newRecoverSuperCmd, newMigrateSuperblockCmd) }

func newRecoverSuperCmd(a *app) *cobra.Command {
	var wf writeFlags
	var offset, length, uuid, source string
	var index int
	var yes bool
	cmd := &cobra.Command{
		Use:   "recover-super DEVICE",
		Short: "Restore a damaged superblock from a copy of it",
		Long: `Search a device for superblocks, list those that are found, and write the newest good
one to all places where its copies belong. Without -o and -l the first and the last
16 MiB are searched. Superblocks of former volumes may turn up as well: if there are
several volumes, --uuid chooses one.

With --json: one document, {"schema":1,"found":[...],"chosen":N,"written":[...]}.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if source != "" || cmd.Flags().Changed("dev_idx") {
				return errors.New("the superblock of another member cannot be used: where the copies of a lost one were is not known, and data could be overwritten")
			}
			var off, n uint64
			var err error
			for _, x := range []struct {
				s  string
				to *uint64
			}{{offset, &off}, {length, &n}} {
				if x.s == "" {
					continue
				}
				if *x.to, err = human.ParseSize(x.s); err != nil {
					return usageErr("%v", err)
				}
			}
			if offset != "" && n == 0 {
				n = 4096
			}
			spec, err := wf.all(args)
			if err != nil {
				return err
			}
			if len(spec) != 1 {
				return usageErr("one DEVICE at a time")
			}
			ws, err := a.writersOf(&wf, spec)
			if err != nil {
				return err
			}
			defer closeWriters(ws)
			if len(ws) != 1 {
				return usageErr("one DEVICE at a time")
			}
			return a.recoverSuper(ws[0], int64(off), int64(n), uuid, yes || wf.dryRun)
		},
	}
	wf.addQuiet(a, cmd)
	fl := cmd.Flags()
	fl.StringVar(&offset, "offset", "", "search from this `OFFSET` (bytes) on")
	fl.StringVarP(&length, "scan_len", "l", "", "search this many `BYTES`")
	fl.StringVar(&uuid, "uuid", "", "only superblocks of the volume with this `UUID`")
	fl.BoolVarP(&yes, "yes", "y", false, "write without asking")
	fl.StringVarP(&source, "src_device", "s", "", "the superblock of another member (refused)")
	fl.IntVarP(&index, "dev_idx", "i", 0, "the index of the member (refused)")
	return cmd
}

// foundJSON is a superblock that recover-super met.
type foundJSON struct {
	Sector  uint64 `json:"sector"`
	UUID    string `json:"uuid,omitempty"`
	Member  *int   `json:"member,omitempty"`
	Seq     uint64 `json:"seq,omitempty"`
	Written string `json:"written,omitempty"`
	Error   string `json:"error,omitempty"`
}

func (a *app) recoverSuper(w block.Writer, off, n int64, uuid string, yes bool) error {
	found, err := bcachefs.FindSupers(a.ctx, w, off, n)
	if err != nil {
		return err
	}
	var best *bcachefs.SuperCopy
	volumes := map[ondisk.UUID]bool{}
	list := []foundJSON{}
	for i := range found {
		c := &found[i]
		j := foundJSON{Sector: c.Sector}
		if c.Err != nil {
			j.Error = reason(c.Err)
			list = append(list, j)
			continue
		}
		idx := int(c.SB.DevIdx)
		j.UUID, j.Member, j.Seq = c.SB.UserUUID.String(), &idx, c.SB.Seq
		j.Written = time.Unix(int64(c.SB.WriteTime), 0).UTC().Format(time.RFC3339)
		list = append(list, j)
		if uuid != "" && c.SB.UserUUID.String() != strings.ToLower(uuid) {
			continue
		}
		volumes[c.SB.UUID] = true
		if best == nil || c.SB.Seq > best.SB.Seq || c.SB.Seq == best.SB.Seq && c.SB.WriteTime > best.SB.WriteTime {
			best = c
		}
	}
	if !a.json {
		for _, j := range list {
			if j.Error != "" {
				fmt.Fprintf(a.Out, "sector %d: %s\n", j.Sector, j.Error)
			} else {
				fmt.Fprintf(a.Out, "sector %d: volume %s member %d seq %d written %s\n", j.Sector, j.UUID, *j.Member, j.Seq, j.Written)
			}
		}
	}
	doc := map[string]any{"found": list, "chosen": nil, "written": []uint64{}}
	switch {
	case best == nil:
		where := "the first and the last 16 MiB were searched"
		if n != 0 {
			where = fmt.Sprintf("%d bytes from %d on were searched", n, off)
		}
		return fmt.Errorf("%s: no good superblock found (%s)", escapeName(w.Info().Name), where)
	case len(volumes) > 1:
		return errors.New("superblocks of several volumes: choose one with --uuid")
	}
	if !yes {
		if err := a.confirm(fmt.Sprintf("Write the superblock of sector %d to all its places?", best.Sector), "--yes"); err != nil {
			return err
		}
	}
	written, err := bcachefs.RestoreSuper(a.ctx, w, best.Sector)
	if err != nil {
		return err
	}
	if a.json {
		doc["chosen"] = best.Sector
		if len(written) > 0 {
			doc["written"] = written
		}
		return a.done(doc)
	}
	if len(written) == 0 {
		fmt.Fprintln(a.Out, "all copies are good: nothing to do")
	}
	for _, s := range written {
		fmt.Fprintf(a.Out, "written: sector %d\n", s)
	}
	return nil
}

// confirm asks a question at a terminal; only y and yes are a yes. Elsewhere it
// says which flag would answer.
func (a *app) confirm(question, flag string) error {
	if !isTerminal(a.In) {
		return fmt.Errorf("not without %s, as there is no terminal to ask at", flag)
	}
	fmt.Fprintf(a.Err, "%s [y/N] ", question)
	line, err := bufio.NewReader(a.In).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was changed")
}

func newMigrateSuperblockCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate-superblock -d DEVICE -o SECTOR",
		Short: "Finish the migration of a volume (refused)",
		Long: `Give a volume that was made by migrating another file system its superblocks at the
usual places. This is not done here: use the tools that made the volume.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUnsupported, Reason: "volumes made by migrate cannot be changed here: finish the migration with the tools that made it"}
		},
	}
	a.jsonFlag(cmd)
	fl := cmd.Flags()
	fl.StringP("dev", "d", "", "the `DEVICE`")
	fl.StringP("offset", "o", "", "the `SECTOR` of the superblock")
	return cmd
}
