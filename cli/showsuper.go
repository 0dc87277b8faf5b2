package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

func init() { commands = append(commands, newShowSuperCmd) }

// superDevices opens the devices of a command that looks at single devices: also
// those in use, and of a path only that device.
func superDevices(ctx context.Context, args []string, fn func(name string, r block.Reader, err error) error) error {
	o := block.Options{NoLock: true}
	for _, spec := range args {
		if key, _, ok := strings.Cut(spec, "="); ok && (key == "UUID" || key == "OLD_BLKID_UUID" || key == "LABEL") {
			rs, err := bcachefs.OpenDevices(ctx, spec, o)
			if err != nil {
				if err := fn(spec, nil, err); err != nil {
					return err
				}
			}
			for _, r := range rs {
				err := fn(r.Info().Name, r, nil)
				_ = r.Close()
				if err != nil {
					return err
				}
			}
			continue
		}
		for _, name := range block.SplitDevices(spec) {
			r, err := block.Open(ctx, name, o)
			if r == nil {
				err = fn(name, nil, err)
			} else {
				err = fn(name, r, nil)
				_ = r.Close()
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func fieldNames() string {
	var names []string
	for t := ondisk.SBFieldType(0); t < ondisk.NrSBFields; t++ {
		if n := t.String(); !strings.Contains(n, " ") {
			names = append(names, n)
		}
	}
	return strings.Join(names, ", ")
}

// parseFields reads the value of -f or -F.
func parseFields(s string) (fields []ondisk.SBFieldType, all bool, err error) {
	if s == "all" {
		return nil, true, nil
	}
	for _, n := range strings.Split(s, ",") {
		t, ok := ondisk.ParseSBFieldType(n)
		if !ok {
			return nil, false, usageErr("invalid superblock field %q; choose all, %s", n, fieldNames())
		}
		fields = append(fields, t)
	}
	return fields, false, nil
}

// superDoc is the superblock of a device for JSON.
type superDoc struct {
	Path   string    `json:"path"`
	Error  string    `json:"error,omitempty"`
	Copies []copyDoc `json:"copies,omitempty"`
	Super  any       `json:"super,omitempty"`
}

// copyDoc is a copy of the superblock: its seq, or what is wrong with it.
type copyDoc struct {
	Sector uint64 `json:"sector"`
	Seq    uint64 `json:"seq,omitempty"`
	Error  string `json:"error,omitempty"`
}

func copyDocs(copies []bcachefs.SuperblockCopy) []copyDoc {
	l := []copyDoc{}
	for _, c := range copies {
		d := copyDoc{Sector: c.Sector}
		if c.Err != nil {
			d.Error = errText(c.Err)
		} else {
			d.Seq = c.SB.Seq
		}
		l = append(l, d)
	}
	return l
}

func newShowSuperCmd(a *app) *cobra.Command {
	var compat compatFlag
	var fields, only string
	var sector uint64
	var o bcachefs.SuperOptions
	cmd := &cobra.Command{
		Use:   "show-super DEVICE...",
		Short: "Print the superblock of a device or image",
		Long: `Print the superblock of a device or image, as the tools of the same name do.

All copies are read and the newest good one is printed; bad ones are named on
standard error, and the exit code is 1 then. Nothing but superblocks is read and
no lock is taken, so that it works on devices in use.

Fields: all, ` + fieldNames() + `.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := compat.check(); err != nil {
				return err
			}
			if len(args) == 0 {
				return usageErr("DEVICE is missing")
			}
			var err error
			if fields != "" {
				o.Fields, o.All, err = parseFields(fields)
			}
			if err == nil && only != "" {
				if fields != "" {
					return usageErr("-f and -F exclude each other")
				}
				o.Only = true
				o.Fields, o.All, err = parseFields(only)
			}
			if err != nil {
				return err
			}
			f := &findings{a: a, cmd: "show-super"}
			docs := []superDoc{}
			n := 0
			err = superDevices(a.ctx, args, func(name string, r block.Reader, err error) error {
				d := superDoc{Path: name}
				if err != nil {
					f.add(err)
					d.Error = errText(err)
					docs = append(docs, d)
					return a.ctx.Err()
				}
				sb, copies, err := bcachefs.ReadSuperblock(a.ctx, r, sector)
				d.Copies = copyDocs(copies)
				// Where nothing looks like a superblock, that is one finding, not one a place.
				other := errors.Is(err, errs.ErrNotBcachefs)
				for _, c := range copies {
					if c.Err != nil && (err == nil || c.Err.Error() != err.Error()) && !(other && errors.Is(c.Err, errs.ErrNotBcachefs)) {
						f.add(fmt.Errorf("superblock copy: %w", c.Err))
					}
				}
				if err != nil {
					f.add(err)
					d.Error = errText(err)
				}
				if sb != nil && a.json {
					d.Super = bcachefs.SuperJSON(sb)
				}
				docs = append(docs, d)
				if sb == nil || a.json {
					return a.ctx.Err()
				}
				if len(args) > 1 || len(block.SplitDevices(args[0])) > 1 {
					if n > 0 {
						fmt.Fprintln(a.Out)
					}
					fmt.Fprintf(a.Out, "%s:\n", escapeName(name))
				}
				n++
				style := compat.style(sb)
				o := o
				o.Style = &style
				o.DevName = shortName(r.Info().Name)
				o.Escape = isTerminal(a.Out)
				if r.Info().Kind == block.KindFile {
					o.DevKind = "(reg file)"
				}
				return bcachefs.ShowSuper(a.Out, sb, o)
			})
			if err != nil {
				return err
			}
			if a.json {
				if err := a.writeJSON(struct {
					Schema      int        `json:"schema"`
					Superblocks []superDoc `json:"superblocks"`
				}{1, docs}); err != nil {
					return err
				}
			}
			return f.err()
		},
	}
	compat.add(cmd)
	a.jsonFlag(cmd)
	fl := cmd.Flags()
	fl.StringVarP(&fields, "fields", "f", "", "sections to print: `LIST` with commas, or all (default members, ext, errors)")
	fl.StringVarP(&only, "field-only", "F", "", "print only this `FIELD`, nothing else")
	fl.BoolVarP(&o.Layout, "layout", "l", false, "print where the copies are")
	fl.Uint64Var(&sector, "sector", 0, "print the copy at `SECTOR`")
	return cmd
}

// shortName is the last part of a device name.
func shortName(name string) string { return name[strings.LastIndexAny(name, `/\`)+1:] }
