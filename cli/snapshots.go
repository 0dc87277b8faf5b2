package cli

import (
	"bufio"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs"
)

// snapshotsDoc is the document of list-snapshots --json. Keys are those of tools
// 1.39.
type snapshotsDoc struct {
	QueryRoot struct {
		Subvol   uint32 `json:"subvol"`
		Snapshot uint32 `json:"snapshot"`
		Path     string `json:"path"`
	} `json:"query_root"`
	Nodes []snapshotDoc `json:"nodes"`
}

// snapshotDoc is a node of a snapshot tree; sizes in bytes.
type snapshotDoc struct {
	ID       uint32   `json:"id"`
	Parent   uint32   `json:"parent"`
	Children []uint32 `json:"children"`
	Subvol   uint32   `json:"subvol"`
	Sectors  *int64   `json:"sectors"` // that belong to the node itself
	Size     *int64   `json:"size"`    // the same in bytes
	NrKeys   *int64   `json:"nr_keys"` // from 1.39 on
	KeyBytes *int64   `json:"key_bytes"`
	Flags    string   `json:"flags"`
	Path     string   `json:"path"` // of the subvolume, "" without one
	PathRaw  string   `json:"path_base64,omitempty"`

	depth int
	total *int64
}

// snapshotList is one run of list-snapshots.
type snapshotList struct {
	*subvols
	flat, readonly, recursive bool
	sort                      string
	bySubvol                  map[uint32]uint32 // snapshot to subvolume
}

func newListSnapshotsCmd(a *app) *cobra.Command {
	var vf volumeFlags
	var l snapshotList
	cmd := &cobra.Command{
		Use:   "list-snapshots VOLUME [PATH]",
		Short: "List the snapshot tree of a subvolume, with sizes",
		Long: `List the snapshot tree of the subvolume that PATH is in, with -R the trees of all
subvolumes below it as well.

Snapshots of a subvolume form a tree. What two of them share belongs to a node
above both. Own is the data that belongs to a node itself, Meta and Keys its keys
(counted from format 1.39 on), Total the data of the node and of those above it,
which is what its subvolume sees. Sizes count all copies.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkSort(l.sort); err != nil {
				return err
			}
			s, path, done, err := a.openSubvols("subvolume list-snapshots", &vf, args)
			if err != nil {
				return err
			}
			defer done()
			l.subvols = s
			doc := l.doc(path)
			if a.json {
				if err := a.writeJSON(doc); err != nil {
					return err
				}
			} else if err := a.buffered(func(w *bufio.Writer) error { return l.print(w, doc.Nodes) }); err != nil {
				return err
			}
			return s.found.err()
		},
	}
	vf.add(cmd)
	a.jsonFlag(cmd)
	fl := cmd.Flags()
	fl.BoolVarP(&l.flat, "flat", "f", false, "only nodes of subvolumes, not indented")
	fl.BoolVar(&l.readonly, "readonly", false, "only nodes of read-only subvolumes")
	fl.StringVar(&l.sort, "sort", "", "order of nodes beside each other: `name|size|time` (default name)")
	fl.BoolVarP(&l.recursive, "recursive", "R", false, "trees of subvolumes below PATH too")
	return cmd
}

func (l *snapshotList) doc(path string) snapshotsDoc {
	var d snapshotsDoc
	at := l.list[l.at.Subvol]
	d.QueryRoot.Subvol, d.QueryRoot.Snapshot, d.QueryRoot.Path = at.ID, at.Snapshot, path
	l.bySubvol = map[uint32]uint32{}
	for id, i := range l.list {
		l.bySubvol[i.Snapshot] = id
	}
	d.Nodes = []snapshotDoc{}
	seen := map[uint32]bool{}
	for _, subvol := range l.wanted(at.ID) {
		root := l.list[subvol].Snapshot
		for range 1 << 16 {
			n, ok := l.snaps[root]
			if !ok || n.Parent <= root {
				break
			}
			root = n.Parent
		}
		l.walk(root, 0, 0, seen, &d.Nodes)
	}
	return d
}

// wanted lists the subvolumes whose trees are shown.
func (l *snapshotList) wanted(at uint32) []uint32 {
	out := []uint32{at}
	if !l.recursive {
		return out
	}
	seen := map[uint32]bool{at: true}
	for k := 0; k < len(out); k++ {
		for _, i := range l.under(out[k], "") {
			if !seen[i.ID] {
				seen[i.ID] = true
				out = append(out, i.ID)
			}
		}
	}
	return out
}

// walk adds a node and those below it.
func (l *snapshotList) walk(id uint32, depth int, above int64, seen map[uint32]bool, out *[]snapshotDoc) {
	n, ok := l.snaps[id]
	if !ok || seen[id] {
		return
	}
	seen[id] = true
	subvol, isSubvol := l.bySubvol[id]
	d := snapshotDoc{ID: id, Parent: n.Parent, Children: append([]uint32{}, n.Children...), Subvol: subvol, Flags: l.flags(n, subvol), depth: depth}
	if isSubvol {
		d.Path = l.paths[subvol]
		d.PathRaw = rawBytes(d.Path)
	}
	if n.HasUsage {
		size, sectors, total := n.Bytes, n.Bytes/512, above+n.Bytes
		d.Size, d.Sectors, d.total = &size, &sectors, &total
		if n.Keys != 0 || n.KeyBytes != 0 {
			d.NrKeys, d.KeyBytes = &n.Keys, &n.KeyBytes
		}
	}
	if (!l.flat || isSubvol) && (!l.readonly || l.list[subvol].ReadOnly()) {
		*out = append(*out, d)
	}
	for _, c := range l.children(n) {
		l.walk(c, depth+1, above+n.Bytes, seen, out)
	}
}

func (l *snapshotList) children(n bcachefs.SnapshotInfo) []uint32 {
	kids := slices.Clone(n.Children)
	slices.SortFunc(kids, func(a, b uint32) int {
		x, y := l.snaps[a], l.snaps[b]
		switch l.sort {
		case "size":
			return cmp.Compare(y.Bytes, x.Bytes)
		case "time":
			return x.Created.Compare(y.Created)
		}
		return cmp.Or(strings.Compare(l.paths[l.bySubvol[a]], l.paths[l.bySubvol[b]]), cmp.Compare(a, b))
	})
	return kids
}

func (l *snapshotList) flags(n bcachefs.SnapshotInfo, subvol uint32) string {
	f := subvolFlags(l.list[subvol].Flags)
	add := func(s string) {
		if f != "" {
			f += ","
		}
		f += s
	}
	if n.Deleted {
		add("deleted")
	}
	if n.NoKeys {
		add("no_keys")
	}
	return f
}

func (l *snapshotList) print(w *bufio.Writer, nodes []snapshotDoc) error {
	rows := [][]string{{"Path", "ID", "Own", "Meta", "Keys", "Total", "Flags"}}
	for _, d := range nodes {
		name := dash(escapeName(d.Path))
		if !l.flat {
			name = strings.Repeat("  ", d.depth) + name
		}
		keys := "-"
		if d.NrKeys != nil {
			keys = fmt.Sprint(*d.NrKeys)
		}
		rows = append(rows, []string{name, fmt.Sprint(d.ID), tableSize(d.Size), tableSize(d.KeyBytes), keys, tableSize(d.total), dash(d.Flags)})
	}
	return writeTable(w, rows, map[int]bool{1: true, 2: true, 3: true, 4: true, 5: true})
}
