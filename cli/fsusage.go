package cli

import (
	"bufio"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/internal/human"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

func init() { fsCommands = append(fsCommands, newFsUsageCmd) }

// usageFields are the tables of fs usage.
var usageFields = []string{"replicas", "btree", "compression", "rebalance_work", "devices"}

// fsUsage is one run of the command.
type fsUsage struct {
	w     *bufio.Writer
	u     *bcachefs.Usage
	old   bool // as tools 1.13
	human bool
	show  map[string]bool
}

// usageJSON is the document of --json.
type usageJSON struct {
	Schema int `json:"schema"`
	*bcachefs.Usage
}

func newFsUsageCmd(a *app) *cobra.Command {
	var vf volumeFlags
	var compat compatFlag
	var fields string
	var all, humanSizes bool
	cmd := &cobra.Command{
		Use:   "usage VOLUME...",
		Short: "Report what takes up the space of a volume",
		Long: `Report what takes up the space of a volume.

A short summary comes first, then who holds how many copies of what, then the
members. -f adds tables (` + strings.Join(usageFields, ", ") + `), -a all of
them. Sizes are in bytes; with copies, all of them are counted.

The numbers are those that the volume keeps itself; a journal that was not
replayed yet is taken into account.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := compat.check(); err != nil {
				return err
			}
			f := &fsUsage{human: humanSizes, show: map[string]bool{}}
			if fields != "" {
				for _, n := range strings.Split(fields, ",") {
					if n == "reconcile" {
						n = "rebalance_work"
					}
					if !slices.Contains(usageFields, n) {
						return usageErr("unknown field %q; choose %s", n, strings.Join(usageFields, ", "))
					}
					f.show[n] = true
				}
			}
			vol, done, err := a.openInspect(&vf, args)
			if err != nil {
				return err
			}
			defer done()
			// Tools 1.13 always print everything, so only print like them on demand.
			f.old = compat.v == "1.13"
			if all || f.old {
				for _, n := range usageFields {
					f.show[n] = true
				}
			}
			found := &findings{a: a, cmd: "fs usage"}
			u, err := vol.Usage(a.ctx)
			if err != nil {
				if u == nil || a.ctx.Err() != nil {
					return err
				}
				found.add(err)
			}
			if a.json {
				if err := a.writeJSON(usageJSON{1, u}); err != nil {
					return err
				}
				return found.err()
			}
			return a.buffered(func(w *bufio.Writer) error {
				f.w, f.u = w, u
				f.print()
				return found.err()
			})
		},
	}
	vf.add(cmd)
	compat.add(cmd)
	a.jsonFlag(cmd)
	fl := cmd.Flags()
	fl.BoolP("help", "", false, "help for usage") // -h is taken
	fl.StringVarP(&fields, "fields", "f", "", "more tables: `LIST` with commas")
	fl.BoolVarP(&all, "all", "a", false, "all tables")
	fl.BoolVarP(&humanSizes, "human-readable", "h", false, "sizes like 1.50M")
	return cmd
}

// size prints a number of bytes.
func (f *fsUsage) size(n int64) string {
	switch {
	case !f.human:
		return strconv.FormatInt(n, 10)
	case n < 0:
		return "-" + f.humanSize(uint64(-n))
	}
	return f.humanSize(uint64(n))
}

func (f *fsUsage) humanSize(n uint64) string {
	if f.old {
		return human.V113.Bytes(n)
	}
	return human.V139.Bytes(n)
}

// cell is a column of a line: text that begins at, or with right ends before, a
// position.
type cell struct {
	text  string
	at    int
	right bool
}

func left(at int, text string) cell { return cell{text, at, false} }
func right(at int, text string) cell {
	return cell{text, at, true}
}

// row prints a line. What does not fit moves the rest on.
func (f *fsUsage) row(cells ...cell) {
	var b strings.Builder
	for i, c := range cells {
		at := c.at
		if c.right {
			at -= len([]rune(c.text))
		}
		n := at - len([]rune(b.String()))
		if n < 1 && i > 0 && c.text != "" {
			n = 1
		}
		if c.text != "" {
			b.WriteString(strings.Repeat(" ", max(0, n)) + c.text)
		}
	}
	b.WriteByte('\n')
	_, _ = f.w.WriteString(b.String())
}

func (f *fsUsage) line(format string, a ...any) { fmt.Fprintf(f.w, format+"\n", a...) }

func (f *fsUsage) print() {
	f.line("Filesystem: %s", f.u.UUID)
	if f.old {
		// Superblocks and journals count as usable there.
		f.row(left(0, "Size:"), right(36, f.size(int64(f.u.Size+f.u.Hidden))))
		f.row(left(0, "Used:"), right(36, f.size(int64(f.u.Used))))
		f.row(left(0, "Online reserved:"), right(36, f.size(0)))
	} else {
		f.summary()
		f.matrix()
	}
	if f.show["replicas"] {
		f.replicas()
	}
	if f.show["compression"] {
		f.compression()
	}
	if f.show["btree"] {
		f.btrees()
	}
	if f.show["rebalance_work"] {
		f.pending()
	}
	devs := slices.Clone(f.u.Devices)
	slices.SortStableFunc(devs, func(a, b bcachefs.DeviceUsage) int { return strings.Compare(a.Label, b.Label) })
	if f.show["devices"] {
		for i := range devs {
			f.device(&devs[i])
		}
	} else {
		f.deviceTable(devs)
	}
	if f.u.Incomplete {
		f.line("\nA part of the counters cannot be read: the numbers are too low.")
	}
}

func (f *fsUsage) summary() {
	u := f.u
	num := func(name string, n uint64, why string) {
		f.row(left(0, name), right(36, f.size(int64(n))), left(38, why))
	}
	num("Raw:", u.Raw, "all members that may be written")
	num("Superblocks, journal:", u.Hidden, "")
	num("Reserve:", u.Reserve, "kept free for the allocator and copygc")
	num("Size:", u.Size, "what files and metadata can take, with all copies")
	num("Used:", u.Used, "")
	if u.Reserved > 0 {
		num("  of which reserved:", u.Reserved, "by fallocate, nothing written yet")
	}
	num("Free:", u.Free.Raw, "")
	why := "for new files, which have one copy"
	if u.Free.Replicas > 1 {
		why = fmt.Sprintf("for new files, which have %d copies", u.Free.Replicas)
	}
	num("Usable:", u.Free.Usable, why)
	f.row(left(0, "Online reserved:"), right(36, f.size(0)))
	if u.Source == "counted" {
		f.line("\nThe volume keeps no counters: the numbers were counted from its keys.")
	}
}

// matrix prints what is stored how safely: a row for each durability, a column
// for each number of copies that are missing.
func (f *fsUsage) matrix() {
	type rowKey struct {
		name string
		sort int
	}
	cells := map[rowKey]map[int]int64{}
	worst := 0
	add := func(k rowKey, missing int, n int64) {
		if cells[k] == nil {
			cells[k] = map[int]int64{}
		}
		cells[k][missing] += n
		worst = max(worst, missing)
	}
	for _, r := range f.u.Replicas {
		switch {
		case r.Type == ondisk.DataCached.String():
			add(rowKey{"cached:", 1 << 20}, 0, r.Bytes)
		case r.Required > 1:
			// Erasure coded: data and parity blocks.
			add(rowKey{fmt.Sprintf("%d+%d:", r.Required, r.Total-r.Required), 1000 + r.Required*100 + r.Total}, r.Missing, r.Bytes)
		case r.Type == ondisk.DataBtree.String() || r.Type == ondisk.DataUser.String() || r.Type == ondisk.DataParity.String():
			add(rowKey{fmt.Sprintf("%dx:", r.Durability), r.Durability}, r.Missing, r.Bytes)
		}
	}
	for _, r := range f.u.PersistentReserved {
		add(rowKey{"reserved:", 1<<20 + 1}, 0, r.Bytes*int64(max(1, r.Replicas)))
	}
	if len(cells) == 0 {
		return
	}
	head := []cell{left(0, ""), right(28, "undegraded")}
	for i := 1; i <= worst; i++ {
		head = append(head, right(28+14*i, fmt.Sprintf("-%dx", i)))
	}
	f.line("")
	f.row(head...)
	var keys []rowKey
	for k := range cells {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b rowKey) int { return a.sort - b.sort })
	for _, k := range keys {
		line := []cell{left(0, k.name)}
		for i := 0; i <= worst; i++ {
			if n := cells[k][i]; n != 0 || i == 0 {
				line = append(line, right(28+14*i, f.size(n)))
			}
		}
		f.row(line...)
	}
}

func (f *fsUsage) deviceName(i int) string {
	for _, d := range f.u.Devices {
		if d.Index == i && d.Path != "" {
			return shortName(d.Path)
		}
	}
	return "dev-" + strconv.Itoa(i)
}

func (f *fsUsage) replicas() {
	f.line("")
	f.row(left(0, "Data type"), left(16, "Required/total"), left(32, "Durability"), left(46, "Devices"))
	for _, r := range f.u.PersistentReserved {
		f.row(left(0, "reserved:"), left(16, fmt.Sprintf("1/%d", r.Replicas)), right(46, "[] "+f.size(r.Bytes)))
	}
	for _, r := range f.u.Replicas {
		var names []string
		for _, d := range r.Devices {
			names = append(names, f.deviceName(d))
		}
		f.row(left(0, r.Type+":"), left(16, fmt.Sprintf("%d/%d", r.Required, r.Total)), left(32, strconv.Itoa(r.Durability)),
			left(46, "["+strings.Join(names, " ")+"]"), right(74, f.size(r.Bytes)))
	}
}

func (f *fsUsage) compression() {
	if len(f.u.Compression) == 0 {
		return
	}
	f.line("\nCompression:")
	f.row(left(0, "type"), right(28, "compressed"), right(44, "uncompressed"), right(68, "average extent size"))
	for _, c := range f.u.Compression {
		average := int64(0)
		if c.Extents > 0 {
			average = c.Uncompressed / c.Extents
		}
		f.row(left(0, c.Type), right(28, f.humanSize(uint64(max(0, c.Compressed)))), right(44, f.humanSize(uint64(max(0, c.Uncompressed)))), right(68, f.humanSize(uint64(max(0, average)))))
	}
}

func (f *fsUsage) btrees() {
	f.line("\nBtree usage:")
	for _, b := range f.u.Btrees {
		name := b.Btree
		if f.old && name == ondisk.BtreeReconcileWork.String() {
			name = "rebalance_work"
		}
		f.row(left(0, name+":"), right(28, f.size(b.Bytes)))
	}
}

func (f *fsUsage) pending() {
	if f.u.Rebalance != 0 {
		f.line("\nPending rebalance work:")
		f.line("%s", f.size(f.u.Rebalance))
	}
	if len(f.u.Reconcile) > 0 {
		f.line("\nPending reconcile:")
		f.row(right(28, "data"), right(44, "metadata"))
		for _, r := range f.u.Reconcile {
			f.row(left(0, r.Kind+":"), right(28, f.size(r.Data)), right(44, f.size(r.Metadata)))
		}
	}
}

// deviceHead is what a member is called.
func deviceHead(d *bcachefs.DeviceUsage) string {
	label := d.Label
	if label == "" {
		label = "(no label)"
	}
	return fmt.Sprintf("%s (device %d):", escapeName(label), d.Index)
}

func deviceState(d *bcachefs.DeviceUsage) string {
	if d.Path == "" {
		return "missing"
	}
	return d.State
}

func (f *fsUsage) deviceTable(devs []bcachefs.DeviceUsage) {
	f.line("")
	f.row(left(0, "Device"), left(32, "Name"), left(52, "State"), right(74, "Size"), right(90, "Used"), right(97, "Use%"), right(112, "Leaving"))
	for i := range devs {
		d := &devs[i]
		leaving := ""
		if d.Leaving != 0 {
			leaving = f.size(d.Leaving)
		}
		f.row(left(0, deviceHead(d)), left(32, f.deviceName(d.Index)), left(52, deviceState(d)), right(74, f.size(int64(d.Size()))), right(90, f.size(int64(d.Used()))),
			right(97, strconv.FormatUint(d.Used()*100/max(1, d.Size()), 10)+"%"), right(112, leaving))
	}
}

func (f *fsUsage) device(d *bcachefs.DeviceUsage) {
	f.line("")
	f.row(left(0, deviceHead(d)), right(36, f.deviceName(d.Index)), right(52, deviceState(d)))
	f.row(right(36, "data"), right(52, "buckets"), right(66, "fragmented"))
	for t := range ondisk.DataType(ondisk.NrDataTypes) {
		c, ok := d.Types[t.String()]
		if !ok {
			continue
		}
		frag := ""
		if c.Fragmented != 0 {
			frag = f.size(c.Fragmented)
		}
		f.row(left(0, "  "+t.String()+":"), right(36, f.size(c.Bytes)), right(52, strconv.FormatInt(c.Buckets, 10)), right(66, frag))
	}
	f.row(left(0, "  capacity:"), right(36, f.size(int64(d.Size()))), right(52, strconv.FormatUint(d.Buckets, 10)))
	if !f.old {
		f.row(left(0, "  bucket size:"), right(36, f.size(int64(d.BucketSize))))
	}
}
