package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs/block"
)

func init() { commands = append(commands, newUndumpCmd) }

func newUndumpCmd(a *app) *cobra.Command {
	var force, progress bool
	var out string
	cmd := &cobra.Command{
		Use:   "undump FILE.qcow2...",
		Short: "Turn metadata dumps (qcow2 images) into raw images",
		Long: `Write the raw image of a qcow2 file, as dump makes them, to a sparse file: its name
without .qcow2, or with -o another. The file appears when it is complete.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out != "" && len(args) > 1 {
				return usageErr("--output takes one FILE")
			}
			type done struct {
				File   string `json:"file"`
				Output string `json:"output"`
				Size   int64  `json:"size"`
				Bytes  int64  `json:"bytes"`
			}
			files := []done{}
			for _, name := range args {
				to := out
				if to == "" {
					base, ok := strings.CutSuffix(name, ".qcow2")
					if !ok || base == "" || strings.HasSuffix(base, "/") {
						return usageErr("%s: the name does not end in .qcow2: give --output", name)
					}
					to = base
				}
				size, n, err := a.undump(name, to, force, progress)
				if err != nil {
					return err
				}
				files = append(files, done{name, to, size, n})
			}
			return a.done(map[string]any{"files": files})
		},
	}
	a.jsonFlag(cmd)
	fl := cmd.Flags()
	fl.BoolVarP(&force, "force", "f", false, "replace a file that exists")
	fl.StringVarP(&out, "output", "o", "", "write to this `FILE`")
	progressFlag(cmd, &progress)
	return cmd
}

// undump writes one image; n is how much of it is not zero.
func (a *app) undump(name, to string, force, progress bool) (size, n int64, err error) {
	r, err := block.Open(a.ctx, name, block.Options{})
	if err != nil {
		return 0, 0, err
	}
	defer r.Close()
	if r.Info().Kind != block.KindQcow2 {
		return 0, 0, fmt.Errorf("%s: not a qcow2 image", escapeName(name))
	}
	if st, err := os.Stat(to); err == nil {
		switch {
		case !st.Mode().IsRegular():
			return 0, 0, &fs.PathError{Op: "undump", Path: to, Err: errors.New("not a regular file")}
		case !force:
			return 0, 0, &fs.PathError{Op: "undump", Path: to, Err: fmt.Errorf("%w (--force replaces it)", fs.ErrExist)}
		}
	}
	f, done, err := createFile(to)
	if err != nil {
		return 0, 0, err
	}
	defer func() {
		if derr := done(err); err == nil {
			err = derr
		}
	}()
	p := a.startProgress("unpacked", progress)
	defer p.finish()
	size = r.Size()
	p.totalBytes.Store(size)
	if err := f.Truncate(size); err != nil {
		return 0, 0, err
	}
	const grain = 4096
	buf := make([]byte, chunkSize)
	zero := make([]byte, grain)
	for off := int64(0); off < size; {
		if err := a.ctx.Err(); err != nil {
			return 0, 0, err
		}
		b := buf[:min(chunkSize, size-off)]
		if _, err := r.ReadAt(b, off); err != nil && err != io.EOF {
			return 0, 0, err
		}
		p.bytes.Add(int64(len(b)))
		for i := 0; i < len(b); {
			j := i
			for j < len(b) && !bytes.Equal(b[j:min(j+grain, len(b))], zero[:min(grain, len(b)-j)]) {
				j += grain
			}
			if j = min(j, len(b)); j > i {
				if _, err := f.WriteAt(b[i:j], off+int64(i)); err != nil {
					return 0, 0, err
				}
				n += int64(j - i)
				i = j
			} else {
				i += grain
			}
		}
		off += int64(len(b))
	}
	return size, n, nil
}
