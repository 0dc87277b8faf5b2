package cli

import (
	"bufio"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/internal/human"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

func init() {
	subvolumeCommands = append(subvolumeCommands, newSubvolumeListCmd, newListSnapshotsCmd)
}

// subvolSort are the orders of --sort.
var subvolSort = []string{"name", "size", "time"}

func checkSort(s string) error {
	if s != "" && !slices.Contains(subvolSort, s) {
		return usageErr("--sort: invalid selection: choose %s", strings.Join(subvolSort, ", "))
	}
	return nil
}

// subvolDoc is a subvolume for JSON. Keys are those of tools 1.39.
type subvolDoc struct {
	Subvolid       uint32      `json:"subvolid"`
	Path           string      `json:"path"`
	PathRaw        string      `json:"path_base64,omitempty"`
	Otime          *string     `json:"otime"`
	OtimeUnix      *int64      `json:"otime_unix"`
	SnapshotParent uint32      `json:"snapshot_parent"` // the subvolume it is a snapshot of
	Flags          string      `json:"flags"`
	Size           *int64      `json:"size"` // bytes
	Sectors        *int64      `json:"sectors"`
	Children       []subvolDoc `json:"children"`
}

// subvols is what both commands need to know of a volume.
type subvols struct {
	a     *app
	vol   *bcachefs.Volume
	found findings
	list  map[uint32]bcachefs.SubvolumeInfo
	paths map[uint32]string
	snaps map[uint32]bcachefs.SnapshotInfo
	at    bcachefs.NodeID // what PATH names
}

// openSubvols opens a volume and finds the subvolume that PATH is in.
func (a *app) openSubvols(cmd string, vf *volumeFlags, args []string) (*subvols, string, func(), error) {
	spec, rest, err := vf.split(args, 0, 1)
	if err != nil {
		return nil, "", nil, err
	}
	vol, done, err := a.open(vf, spec)
	if err != nil {
		return nil, "", nil, err
	}
	s := &subvols{a: a, vol: vol, found: findings{a: a, cmd: cmd}, list: map[uint32]bcachefs.SubvolumeInfo{}, paths: map[uint32]string{}, snaps: map[uint32]bcachefs.SnapshotInfo{}}
	path := "/"
	if len(rest) > 0 {
		path = rest[0]
	}
	if s.at, err = vol.Root().Resolve(a.ctx, path); err != nil {
		done()
		return nil, "", nil, err
	}
	for _, i := range vol.Subvolumes() {
		s.list[i.ID] = i
		p, err := vol.Files().Path(a.ctx, i.Root)
		if err != nil {
			s.found.add(fmt.Errorf("path of subvolume %d: %w", i.ID, err))
			p = fmt.Sprintf("(subvolume %d)", i.ID)
		}
		s.paths[i.ID] = p
	}
	snaps, err := vol.Snapshots(a.ctx)
	if err != nil {
		s.found.add(err)
	}
	for _, n := range snaps {
		s.snaps[n.ID] = n
	}
	return s, path, done, nil
}

// size is what a subvolume sees: what belongs to its snapshot node and to those
// above it. ok is false when the volume does not count that.
func (s *subvols) size(id uint32) (n int64, ok bool) {
	for range 1 << 16 {
		node, have := s.snaps[id]
		if !have {
			return n, ok
		}
		if !node.HasUsage {
			return 0, false
		}
		n, ok = n+node.Bytes, true
		if node.Parent == 0 || node.Parent <= id {
			return n, ok // ids grow towards the root
		}
		id = node.Parent
	}
	return n, ok
}

func subvolFlags(flags uint32) string {
	var l []string
	for _, f := range []struct {
		bit  uint32
		name string
	}{{ondisk.SubvolRO, "ro"}, {ondisk.SubvolSnap, "snap"}, {ondisk.SubvolUnlinked, "unlinked"}} {
		if flags&f.bit != 0 {
			l = append(l, f.name)
		}
	}
	return strings.Join(l, ",")
}

// doc describes a subvolume without its children.
func (s *subvols) doc(i bcachefs.SubvolumeInfo) subvolDoc {
	d := subvolDoc{Subvolid: i.ID, Path: s.paths[i.ID], SnapshotParent: i.CreationParent, Flags: subvolFlags(i.Flags), Children: []subvolDoc{}}
	d.PathRaw = rawBytes(d.Path)
	if !i.Created.IsZero() {
		t, u := i.Created.UTC().Format(time.RFC3339Nano), i.Created.Unix()
		d.Otime, d.OtimeUnix = &t, &u
	}
	if n, ok := s.size(i.Snapshot); ok {
		sectors := n / 512
		d.Size, d.Sectors = &n, &sectors
	}
	return d
}

// under gives the subvolumes that are directly below another one, in order.
func (s *subvols) under(parent uint32, by string) []bcachefs.SubvolumeInfo {
	var l []bcachefs.SubvolumeInfo
	for id, i := range s.list {
		if i.Parent == parent && id != parent || parent == 1 && i.Parent == 0 && id != 1 {
			l = append(l, i)
		}
	}
	slices.SortFunc(l, func(a, b bcachefs.SubvolumeInfo) int {
		c := 0
		switch by {
		case "size":
			x, _ := s.size(a.Snapshot)
			y, _ := s.size(b.Snapshot)
			c = cmp.Compare(y, x)
		case "time":
			c = a.Created.Compare(b.Created)
		}
		return cmp.Or(c, strings.Compare(s.paths[a.ID], s.paths[b.ID]), cmp.Compare(a.ID, b.ID))
	})
	return l
}

// subvolList is one run of subvolume list.
type subvolList struct {
	*subvols
	tree, recursive, snapshots, readonly bool
	sort                                 string
	seen                                 map[uint32]bool
}

func newSubvolumeListCmd(a *app) *cobra.Command {
	var vf volumeFlags
	var l subvolList
	cmd := &cobra.Command{
		Use:   "list VOLUME [PATH]",
		Short: "List subvolumes",
		Long: `List the subvolumes directly below the one that PATH is in, with -R all below it.

Size is what the subvolume sees, with all copies, what it shares with snapshots
included: sizes do not add up. A "-" stands for what the volume does not record.
With --json: an array, where the subvolumes below another one are its children.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkSort(l.sort); err != nil {
				return err
			}
			s, _, done, err := a.openSubvols("subvolume list", &vf, args)
			if err != nil {
				return err
			}
			defer done()
			l.subvols, l.seen = s, map[uint32]bool{}
			docs := l.below(s.at.Subvol)
			if a.json {
				if err := a.writeJSON(docs); err != nil {
					return err
				}
			} else if err := a.buffered(func(w *bufio.Writer) error { return l.print(w, docs) }); err != nil {
				return err
			}
			return s.found.err()
		},
	}
	vf.add(cmd)
	a.jsonFlag(cmd)
	fl := cmd.Flags()
	fl.BoolVarP(&l.tree, "tree", "t", false, "indent by nesting (implies -R)")
	fl.BoolVarP(&l.recursive, "recursive", "R", false, "subvolumes below those too")
	fl.BoolVarP(&l.snapshots, "snapshots", "s", false, "only snapshots, and of what they are")
	fl.BoolVar(&l.readonly, "readonly", false, "only read-only ones")
	fl.StringVar(&l.sort, "sort", "", "order: `name|size|time` (default name)")
	return cmd
}

func (l *subvolList) wants(d *subvolDoc) bool {
	i := l.list[d.Subvolid]
	return (!l.snapshots || i.Flags&ondisk.SubvolSnap != 0) && (!l.readonly || i.ReadOnly())
}

// below describes the subvolumes below another one. Those that are filtered out
// leave their children in their place.
func (l *subvolList) below(parent uint32) []subvolDoc {
	docs := []subvolDoc{}
	if l.seen[parent] {
		return docs // a loop: a damaged volume
	}
	l.seen[parent] = true
	for _, i := range l.under(parent, l.sort) {
		d := l.doc(i)
		if l.recursive || l.tree {
			d.Children = l.below(i.ID)
		}
		if l.wants(&d) {
			docs = append(docs, d)
		} else {
			docs = append(docs, d.Children...)
		}
	}
	return docs
}

func (l *subvolList) print(w *bufio.Writer, docs []subvolDoc) error {
	head := []string{"Path", "ID", "Created", "Flags", "Size"}
	if l.snapshots {
		head = append(head, "Snapshot")
	}
	rows := [][]string{head}
	type entry struct {
		d     *subvolDoc
		depth int
	}
	var flat []entry
	var walk func(docs []subvolDoc, depth int)
	walk = func(docs []subvolDoc, depth int) {
		for i := range docs {
			flat = append(flat, entry{&docs[i], depth})
			walk(docs[i].Children, depth+1)
		}
	}
	walk(docs, 0)
	if !l.tree {
		// One list in one order, whatever the nesting.
		slices.SortStableFunc(flat, func(a, b entry) int {
			switch l.sort {
			case "size":
				return cmp.Compare(deref(b.d.Size), deref(a.d.Size))
			case "time":
				return cmp.Compare(deref(a.d.OtimeUnix), deref(b.d.OtimeUnix))
			}
			return strings.Compare(a.d.Path, b.d.Path)
		})
	}
	for _, e := range flat {
		name := escapeName(e.d.Path)
		if l.tree {
			name = strings.Repeat("  ", e.depth) + name
		}
		row := []string{name, fmt.Sprint(e.d.Subvolid), localTime(e.d.OtimeUnix), dash(e.d.Flags), tableSize(e.d.Size)}
		if l.snapshots {
			of := "-"
			if e.d.SnapshotParent != 0 {
				if of = l.paths[e.d.SnapshotParent]; of == "" {
					of = fmt.Sprintf("(subvolume %d)", e.d.SnapshotParent)
				}
			}
			row = append(row, escapeName(of))
		}
		rows = append(rows, row)
	}
	return writeTable(w, rows, map[int]bool{1: true, 4: true})
}

func deref(p *int64) int64 {
	if p == nil {
		return 0
	}
	return *p
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func tableSize(n *int64) string {
	if n == nil {
		return "-"
	}
	return human.Table.Bytes(uint64(max(0, *n)))
}

func localTime(unix *int64) string {
	if unix == nil {
		return "-"
	}
	return time.Unix(*unix, 0).Format("2006-01-02 15:04:05")
}

// writeTable prints columns with two spaces between them; those in right are
// aligned to the right. The last column is not padded.
func writeTable(w *bufio.Writer, rows [][]string, right map[int]bool) error {
	var width []int
	for _, r := range rows {
		for i, c := range r {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	for _, r := range rows {
		var b strings.Builder
		for i, c := range r {
			pad := strings.Repeat(" ", width[i]-len([]rune(c)))
			switch {
			case right[i]:
				b.WriteString(pad + c)
			case i == len(r)-1:
				b.WriteString(c)
			default:
				b.WriteString(c + pad)
			}
			if i < len(r)-1 {
				b.WriteString("  ")
			}
		}
		if _, err := w.WriteString(b.String() + "\n"); err != nil {
			return err
		}
	}
	return nil
}
