package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/internal/human"
)

func init() { commands = append(commands, newDumpCmd) }

// dumpDoc is an image for JSON; sizes in bytes.
type dumpDoc struct {
	Member     int    `json:"member"`
	Path       string `json:"path"`
	Superblock int64  `json:"superblock"`
	Journal    int64  `json:"journal"`
	Btree      int64  `json:"btree"`
	Nodes      int    `json:"nodes"`
	Size       int64  `json:"size"`
}

// dumpFile writes to a temporary file that becomes the image when it is whole.
type dumpFile struct {
	*os.File
	path  string
	force bool
	done  bool
}

// createDump refuses a path that exists, unless force is set.
func createDump(path string, force bool) (*dumpFile, error) {
	if !force {
		if _, err := os.Lstat(path); err == nil {
			return nil, fmt.Errorf("%s exists; -f overwrites it", escapeName(path))
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, err
	}
	return &dumpFile{File: f, path: path, force: force}, nil
}

// commit gives the file its name. Nothing is overwritten that came to be
// meanwhile.
func (d *dumpFile) commit() error {
	// What people send away is theirs to open up.
	if err := os.Chmod(d.Name(), 0o600); err != nil {
		return err
	}
	if !d.force {
		// A link fails if the name exists; not every file system has links.
		switch err := os.Link(d.Name(), d.path); {
		case err == nil:
			d.done = true
			return os.Remove(d.Name())
		case errors.Is(err, fs.ErrExist):
			return fmt.Errorf("%s exists; -f overwrites it", escapeName(d.path))
		}
	}
	err := os.Rename(d.Name(), d.path)
	d.done = err == nil
	return err
}

// discard removes what was not committed.
func (d *dumpFile) discard() {
	if !d.done {
		_ = d.File.Close()
		_ = os.Remove(d.Name())
	}
}

func newDumpCmd(a *app) *cobra.Command {
	var vf volumeFlags
	var o bcachefs.DumpOptions
	var out, sanitize string
	var force, live, always bool
	cmd := &cobra.Command{
		Use:   "dump -o OUT VOLUME...",
		Short: "Write the metadata of a volume to qcow2 images, for a bug report",
		Long: `Write the metadata of a volume to qcow2 images, for a bug report.

The images hold the superblocks, the journal and all btree nodes of a member at
their places, and zeros elsewhere: not the data of files, but their names, and
the contents of the smallest ones and of symlinks. --sanitize=data blanks these,
--sanitize=filenames names too (the check then finds names that disagree with
their hashes). An encrypted volume stays encrypted.

One member is written to OUT.qcow2, several to OUT.INDEX.qcow2. All commands here
open such images directly; qemu-img convert makes a raw one.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch sanitize {
			case "none":
			case "data":
				o.Sanitize = bcachefs.DumpNoData
			case "filenames":
				o.Sanitize = bcachefs.DumpNoNames
			default:
				return usageErr("--sanitize: invalid selection: choose none, data, filenames")
			}
			if out == "" {
				return usageErr("-o OUT is missing")
			}
			vol, done, err := a.openInspectWith(&vf, args, live)
			if err != nil {
				return err
			}
			defer done()
			f := &findings{a: a, cmd: "dump"}
			o.Warn = f.add
			p := a.startProgress("dumped", always)
			o.Progress = func(done, total int64) { p.bytes.Store(done); p.totalBytes.Store(total) }
			docs, err := a.dump(vol, o, strings.TrimSuffix(out, ".qcow2"), force)
			p.finish()
			if err != nil {
				return err
			}
			if a.json {
				if err := a.writeJSON(struct {
					Schema int       `json:"schema"`
					Files  []dumpDoc `json:"files"`
				}{1, docs}); err != nil {
					return err
				}
			} else {
				size := func(n int64) string { return human.V139.Bytes(uint64(n)) }
				for _, d := range docs {
					fmt.Fprintf(a.Out, "%s: member %d, superblocks %s, journal %s, btree nodes %s (%d), file %s\n",
						escapeName(d.Path), d.Member, size(d.Superblock), size(d.Journal), size(d.Btree), d.Nodes, size(d.Size))
				}
			}
			return f.err()
		},
	}
	vf.addWithout(cmd, "option")
	a.jsonFlag(cmd)
	progressFlag(cmd, &always)
	fl := cmd.Flags()
	fl.StringVarP(&out, "output", "o", "", "`OUT`, the name of the images")
	fl.BoolVarP(&force, "force", "f", false, "overwrite images that exist")
	fl.StringVar(&sanitize, "sanitize", "none", "make unreadable: none, data or filenames (and data)")
	fl.BoolVar(&o.NoJournal, "nojournal", false, "leave out journal entries that a mount does not need")
	fl.BoolVar(&o.SingleReplica, "single-replica", false, "one copy of each node only")
	fl.BoolVar(&live, "live", false, "read devices that are in use: what changes meanwhile may not fit together")
	return cmd
}

// dump writes the images and gives them their names once all are whole.
func (a *app) dump(vol *bcachefs.Inspector, o bcachefs.DumpOptions, out string, force bool) ([]dumpDoc, error) {
	path := func(member int) string {
		if vol.Members() == 1 {
			return out + ".qcow2"
		}
		return fmt.Sprintf("%s.%d.qcow2", out, member)
	}
	files := map[int]*dumpFile{}
	defer func() {
		for _, f := range files {
			f.discard()
		}
	}()
	stats, err := vol.Dump(a.ctx, o, func(member int) (bcachefs.DumpFile, error) {
		f, err := createDump(path(member), force)
		if err == nil {
			files[member] = f
		}
		return f, err
	})
	if err != nil {
		return nil, err
	}
	docs := []dumpDoc{}
	for member := range 256 {
		st, ok := stats[member]
		if !ok {
			continue
		}
		if err := files[member].commit(); err != nil {
			return docs, err
		}
		docs = append(docs, dumpDoc{member, path(member), st.Superblock, st.Journal, st.Btree, st.Nodes, st.File})
	}
	return docs, nil
}
