package cli

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

func init() { commands = append(commands, newStatCmd) }

func newStatCmd(a *app) *cobra.Command {
	var vf volumeFlags
	var nf nameFlags
	var follow, extents bool
	cmd := &cobra.Command{
		Use:   "stat VOLUME PATH...",
		Short: "Show all that is known of files of a volume",
		Long: `Show all that is known of files of a volume: attributes, names and sizes of
extended attributes, and with --extents where the data is: for each range of the
file its copies as member:sector, the size stored there, compression and checksum.

With --json: one document, {"schema":1,"files":[...],"errors":[...]}.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withTree(cmd, &vf, args, 1, -1, func(t *tree, paths []string) error {
				s := &statRun{tree: t, extents: extents, name: nf.style(a.Out)}
				if s.json {
					s.js = t.jsonList(t.out, "files")
				}
				for _, p := range paths {
					if err := s.file(p, follow); err != nil {
						return err
					}
				}
				if s.js != nil {
					return s.js.end(map[string]any{"errors": t.r.failures()})
				}
				return nil
			})
		},
	}
	vf.add(cmd)
	nf.add(cmd)
	a.jsonFlag(cmd)
	cmd.Flags().BoolVarP(&follow, "dereference", "L", false, "follow a symlink at the end of PATH")
	cmd.Flags().BoolVar(&extents, "extents", false, "list where the data is")
	return cmd
}

type statRun struct {
	*tree
	extents bool
	name    nameStyle
	js      *jsonList
}

// statJSON is a file of stat --json.
type statJSON struct {
	jsonFile
	Xattrs  []xattrJSON  `json:"xattrs"`
	Virtual []xattrJSON  `json:"options,omitempty"` // bcachefs.* attributes
	Extents []extentJSON `json:"extents,omitempty"`
}

type xattrJSON struct {
	Name    string `json:"name"`
	NameRaw string `json:"name_base64,omitempty"`
	Size    int    `json:"size"`
	// Value is given where it is text, ValueRaw in base64 else.
	Value    *string `json:"value,omitempty"`
	ValueRaw string  `json:"value_base64,omitempty"`
}

type extentJSON struct {
	Offset  uint64     `json:"offset"`
	Length  uint64     `json:"length"`
	Kind    string     `json:"kind"`
	Shared  bool       `json:"shared,omitempty"`
	Reflink uint64     `json:"reflink_sector,omitempty"`
	Refs    uint64     `json:"references,omitempty"`
	Copies  []copyJSON `json:"copies,omitempty"`
	Error   string     `json:"error,omitempty"`
}

type copyJSON struct {
	Member      *int    `json:"member"` // null: lost
	Sector      uint64  `json:"sector"`
	Generation  uint8   `json:"generation"`
	Cached      bool    `json:"cached,omitempty"`
	Missing     bool    `json:"missing,omitempty"`
	Compression string  `json:"compression"`
	Checksum    string  `json:"checksum"`
	Sum         string  `json:"sum,omitempty"` // hex
	Stored      uint64  `json:"stored"`        // bytes
	Decoded     uint64  `json:"decoded"`       // bytes
	BlobOffset  uint64  `json:"blob_offset"`   // bytes
	Stripe      *uint64 `json:"stripe,omitempty"`
	Block       *uint8  `json:"stripe_block,omitempty"`
}

func (s *statRun) file(path string, follow bool) error {
	a, ok := s.stat(path, follow)
	if !ok {
		return s.ctx.Err()
	}
	j := statJSON{jsonFile: newJSONFile(path, &a), Xattrs: []xattrJSON{}}
	if a.IsSymlink() {
		t, err := s.files.Readlink(s.ctx, a.ID)
		if err != nil {
			s.fail(path, err)
		}
		j.setTarget(t)
	}
	xs, err := s.files.Xattrs(s.ctx, a.ID)
	if err != nil {
		s.fail(path, err)
	}
	for _, x := range xs {
		j.Xattrs = append(j.Xattrs, newXattrJSON(x.Name, x.Value))
	}
	names, err := s.files.ListXattr(s.ctx, a.ID)
	if err != nil {
		s.fail(path, err)
	}
	for _, n := range names {
		if !strings.HasPrefix(n, "bcachefs") {
			continue
		}
		v, err := s.files.GetXattr(s.ctx, a.ID, n)
		if err != nil {
			s.fail(path, err)
			continue
		}
		j.Virtual = append(j.Virtual, newXattrJSON(n, v))
	}
	if s.extents && (a.IsRegular() || a.IsSymlink()) {
		if err := s.listExtents(s.ctx, a.ID, func(e bcachefs.Extent) { j.Extents = append(j.Extents, newExtentJSON(e)) }); err != nil {
			s.fail(path, err)
		}
	}
	s.r.check(path, s.files, a.ID)
	if s.js != nil {
		return s.js.add(j)
	}
	return s.print(&a, &j)
}

func (s *statRun) listExtents(ctx context.Context, id bcachefs.NodeID, yield func(bcachefs.Extent)) error {
	h, err := s.files.Open(ctx, id)
	if err != nil {
		return err
	}
	return h.Extents(ctx, 0, func(e bcachefs.Extent) bool { yield(e); return true })
}

func newXattrJSON(name string, value []byte) xattrJSON {
	x := xattrJSON{Name: name, NameRaw: rawBytes(name), Size: len(value)}
	if utf8.Valid(value) {
		v := string(value)
		x.Value = &v
	} else {
		x.ValueRaw = base64.StdEncoding.EncodeToString(value)
	}
	return x
}

func newExtentJSON(e bcachefs.Extent) extentJSON {
	j := extentJSON{Offset: e.Offset, Length: e.Length, Kind: string(e.Kind), Shared: e.Shared, Reflink: e.Reflink, Refs: e.Refs}
	if e.Err != nil {
		j.Error = e.Err.Error()
	}
	for _, c := range e.Copies {
		k := copyJSON{
			Sector: c.Sector, Generation: c.Gen, Cached: c.Cached, Missing: !c.Present, Compression: c.Compression.String(), Checksum: c.Checksum.String(),
			Stored: uint64(c.StoredSectors) * 512, Decoded: uint64(c.DataSectors) * 512, BlobOffset: uint64(c.BlobOffset) * 512,
		}
		if c.Dev != ondisk.InvalidDev {
			k.Member = &c.Dev
		}
		if c.Checksum != ondisk.CsumNone {
			k.Sum = sumText(c.Sum)
		}
		if c.HasStripe {
			k.Stripe, k.Block = &c.Stripe, &c.Block
		}
		j.Copies = append(j.Copies, k)
	}
	return j
}

// sumText prints a checksum as the volume's own tools do: high word, low word.
func sumText(c ondisk.Csum) string { return fmt.Sprintf("%x:%x", c.Hi, c.Lo) }

func (s *statRun) print(a *bcachefs.Attr, j *statJSON) error {
	w := s.out
	p := func(format string, a ...any) { _, _ = fmt.Fprintf(w, format, a...) }
	name := s.name(j.Path)
	if j.Target != nil {
		name += " -> " + s.name(*j.Target)
	}
	p("  File: %s\n", name)
	p("  Type: %s", j.Type)
	if j.Type == "char" || j.Type == "block" {
		p(" %d:%d", a.RdevMajor, a.RdevMinor)
	}
	if a.SubvolRoot != 0 {
		p(", root of subvolume %d", a.SubvolRoot)
	}
	p("\n  Size: %d bytes, %d allocated, block %d\n", a.Size, a.Blocks*512, a.BlockSize)
	p(" Inode: %d in subvolume %d, st_ino %d, generation %d\n", a.ID.Inode, a.ID.Subvol, a.Ino, a.Generation)
	p("  Mode: %04o (%s), uid %d, gid %d, links %d\n", a.Mode&0o7777, modeString(a.Mode), a.UID, a.GID, a.Nlink)
	for _, t := range []struct {
		name string
		t    time.Time
	}{{"Access", a.Atime}, {"Modify", a.Mtime}, {"Change", a.Ctime}, {"Birth", a.Btime}} {
		p("%6s: %s\n", t.name, t.t.Format("2006-01-02 15:04:05.000000000 -0700"))
	}
	if len(j.Flags) > 0 {
		p(" Flags: %s\n", strings.Join(j.Flags, " "))
	}
	if a.Project != 0 {
		p("Project: %d\n", a.Project)
	}
	for _, x := range j.Xattrs {
		p(" Xattr: %s, %d bytes\n", s.name(x.Name), x.Size)
	}
	for _, x := range j.Virtual {
		p("Option: %s=%s\n", s.name(x.Name), s.name(*x.Value))
	}
	for _, e := range j.Extents {
		p("Extent: %d+%d %s", e.Offset, e.Length, e.Kind)
		if e.Shared {
			p(", shared at %d", e.Reflink)
			if e.Refs > 0 {
				p(" (%d references)", e.Refs)
			}
		}
		if e.Error != "" {
			p(": %s", oneLine(e.Error))
		}
		p("\n")
		for _, c := range e.Copies {
			s.printCopy(&c)
		}
	}
	return w.Flush()
}

func (s *statRun) printCopy(c *copyJSON) {
	p := func(format string, a ...any) { _, _ = fmt.Fprintf(s.out, format, a...) }
	dev := "lost"
	if c.Member != nil {
		dev = fmt.Sprint(*c.Member)
	}
	p("        copy %s:%d gen %d", dev, c.Sector, c.Generation)
	if c.Cached {
		p(" cached")
	}
	if c.Missing {
		p(" missing")
	}
	p(", %d bytes", c.Stored)
	if c.Compression != "none" {
		p(" %s", c.Compression)
	}
	if c.Decoded != c.Stored || c.BlobOffset != 0 {
		p(", from %d of %d", c.BlobOffset, c.Decoded)
	}
	if c.Sum != "" {
		p(", %s %s", c.Checksum, c.Sum)
	}
	if c.Stripe != nil {
		p(", stripe %d block %d", *c.Stripe, *c.Block)
	}
	p("\n")
}
