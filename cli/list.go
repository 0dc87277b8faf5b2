package cli

import (
	"bufio"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

func init() { commands = append(commands, newListCmd) }

// list is one run of the command.
type list struct {
	*app
	findings
	vol     *bcachefs.Inspector
	print   *bcachefs.Printer
	w       *bufio.Writer
	btree   ondisk.BtreeID
	level   int
	from    ondisk.Pos
	to      ondisk.Pos
	typ     ondisk.KeyType
	filter  bool // by typ
	verbose int
	buf     []byte
}

func newListCmd(a *app) *cobra.Command {
	var vf volumeFlags
	var compat compatFlag
	var btree, typ, start, end, mode string
	var level, verbose int
	cmd := &cobra.Command{
		Use:   "list VOLUME...",
		Short: "List the keys or nodes of a btree",
		Long: `List the keys or nodes of a btree, as the tools of the same name do.

On a volume that was not shut down the keys of its journal are included, so what
is shown is what a mount would see. Positions are POS_MIN, POS_MAX, SPOS_MAX or
INODE:OFFSET[:SNAPSHOT], with U64_MAX and U32_MAX for numbers; start and end are
both included. Modes:

  keys          the keys of a level (default: the leaves)
  formats       how the nodes from a level up pack their keys, and how full they are
  nodes         the pointers to the nodes from a level up
  nodes-ondisk  what stands in the nodes: every record, nothing merged or dropped

What cannot be read is an error on standard error; the listing goes on behind it
and ends with exit code 1. With --json: one object a line.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			l := &list{app: a, findings: findings{a: a, cmd: "list"}, level: level, verbose: verbose}
			var err error
			if err = compat.check(); err != nil {
				return err
			}
			if l.btree, err = parseBtree(btree); err != nil {
				return err
			}
			if l.filter = typ != ""; l.filter {
				if l.typ, err = parseKeyType(typ); err != nil {
					return err
				}
			}
			if l.from, err = parsePos("--start", start, ondisk.PosMin); err != nil {
				return err
			}
			if l.to, err = parsePos("--end", end, ondisk.SPosMax); err != nil {
				return err
			}
			if level < 0 || level > ondisk.MaxLevel+1 {
				return usageErr("--level: must be 0 to %d", ondisk.MaxLevel+1)
			}
			run, ok := map[string]func() error{"keys": l.keys, "formats": l.formats, "nodes": l.nodes, "nodes-ondisk": l.ondisk}[mode]
			if !ok {
				return usageErr("--mode: invalid selection: choose keys, formats, nodes, nodes-ondisk")
			}
			vol, done, err := a.openInspect(&vf, args)
			if err != nil {
				return err
			}
			defer done()
			l.vol = vol
			l.print = vol.Printer(compat.style(vol.Superblock()), isTerminal(a.Out))
			return a.buffered(func(w *bufio.Writer) error {
				l.w = w
				if err := run(); err != nil {
					return err
				}
				return l.err()
			})
		},
	}
	vf.add(cmd)
	compat.add(cmd)
	a.jsonFlag(cmd)
	fl := cmd.Flags()
	fl.StringVarP(&btree, "btree", "b", "extents", "`BTREE` to list")
	fl.StringVarP(&typ, "bkey-type", "k", "", "only keys of this `TYPE`")
	fl.IntVarP(&level, "level", "l", 0, "lowest `LEVEL` to show, 0 for the leaves")
	fl.StringVarP(&start, "start", "s", "", "first `POSITION` (default POS_MIN)")
	fl.StringVarP(&end, "end", "e", "", "last `POSITION` (default SPOS_MAX)")
	fl.StringVarP(&mode, "mode", "m", "keys", "`MODE`: keys, formats, nodes, nodes-ondisk")
	fl.CountVarP(&verbose, "verbose", "v", "say more on standard error")
	return cmd
}

// state tells with -v what is shown.
func (l *list) state() {
	if l.verbose == 0 {
		return
	}
	state := "clean"
	if !l.vol.Clean() {
		state = "not shut down: the keys of its journal are included"
	}
	sb := l.vol.Superblock()
	fmt.Fprintf(l.Err, "gobcachefs: list: volume %s, version %s, %s; btree %s\n", sb.UserUUID, sb.Version, state, l.btree)
}

// wants: the key passes -k.
func (l *list) wants(kv ondisk.KV) bool { return !l.filter || kv.Type == l.typ }

func (l *list) line(text []byte) error {
	l.buf = append(text, '\n')
	_, err := l.w.Write(l.buf)
	return err
}

func (l *list) keys() error {
	l.state()
	for kv, err := range l.vol.Keys(l.ctx, l.btree, l.level, l.from, l.to) {
		switch {
		case err != nil:
			l.add(err)
			continue
		case !l.wants(kv):
			continue
		case l.json:
			err = l.line(marshal(l.print.KeyJSON(l.btree, l.level, kv)))
		default:
			err = l.line(l.print.Key(l.buf[:0], l.btree, l.level, kv))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// each calls fn with the nodes.
func (l *list) each(fn func(bcachefs.NodeRef) error) error {
	l.state()
	for n, err := range l.vol.Nodes(l.ctx, l.btree, l.level, l.from, l.to) {
		if err != nil {
			l.add(err)
			continue
		}
		if err := fn(n); err != nil {
			return err
		}
	}
	return nil
}

// nodeDoc is a node for JSON.
type nodeDoc struct {
	Btree   string      `json:"btree"`
	Level   int         `json:"level"`
	Min     string      `json:"min"`
	Max     string      `json:"max"`
	Pointer any         `json:"pointer,omitempty"` // none for a btree without root
	Format  *formatDoc  `json:"format,omitempty"`
	Records []recordDoc `json:"records,omitempty"`
}

type formatDoc struct {
	KeyU64s  uint8       `json:"key_u64s"`
	Fields   [][2]uint64 `json:"fields"` // bits and offset
	Bytes    int         `json:"bytes_used"`
	Capacity int         `json:"capacity"`
	Packed   int         `json:"packed_keys"`
	Unpacked int         `json:"unpacked_keys"`
}

type recordDoc struct {
	Sector     int    `json:"sector"`
	Sectors    int    `json:"sectors"`
	Version    string `json:"version"`
	JournalSeq uint64 `json:"journal_seq"`
	Ignored    bool   `json:"ignored,omitempty"`
	Error      string `json:"error,omitempty"`
	Keys       []any  `json:"keys"`
}

func (l *list) nodeDoc(n bcachefs.NodeRef) nodeDoc {
	d := nodeDoc{Btree: l.btree.String(), Level: n.Level, Min: n.Min.String(), Max: n.Max.String()}
	if n.Key.Type != ondisk.KeyDeleted {
		d.Pointer = l.print.KeyJSON(l.btree, n.Level+1, n.Key)
	}
	return d
}

func (l *list) nodes() error {
	return l.each(func(n bcachefs.NodeRef) error {
		switch {
		case l.json:
			return l.line(marshal(l.nodeDoc(n)))
		case n.Key.Type == ondisk.KeyDeleted:
			return nil
		}
		return l.line(l.print.Key(l.buf[:0], l.btree, n.Level+1, n.Key))
	})
}

func (l *list) formats() error {
	return l.each(func(n bcachefs.NodeRef) error {
		f, s, err := l.vol.NodeStats(n)
		if err != nil {
			l.add(err)
			return nil
		}
		if l.json {
			d := l.nodeDoc(n)
			d.Format = &formatDoc{KeyU64s: f.KeyU64s, Bytes: s.Bytes, Capacity: s.Capacity, Packed: s.Packed, Unpacked: s.Unpacked}
			for i := range f.Bits {
				d.Format.Fields = append(d.Format.Fields, [2]uint64{uint64(f.Bits[i]), f.Offset[i]})
			}
			return l.line(marshal(d))
		}
		ptrs := "durability: 0 "
		if n.Key.Type != ondisk.KeyDeleted {
			ptrs = indent(l.print.Value(nil, l.btree, n.Level+1, n.Key), "    ")
		}
		fmt.Fprintf(l.w, "l %d %s - %s:\n    ptrs: %s\n    format: u64s %d fields ", n.Level, n.Min, n.Max, ptrs, f.KeyU64s)
		for i := range f.Bits {
			if i > 0 {
				_, _ = l.w.WriteString(", ")
			}
			fmt.Fprintf(l.w, "%d:%d", f.Bits[i], f.Offset[i])
		}
		// The reference compiles a function that unpacks keys, not in user space.
		fmt.Fprintf(l.w, "    unpack fn len: 0\n    bytes used %d/%d (%d%% full)\n", s.Bytes, s.Capacity, s.Bytes*100/max(1, s.Capacity))
		fmt.Fprintf(l.w, "    sib u64s: %d, %d (merge threshold %d)\n", s.Bytes/8, s.Bytes/8, s.Capacity/8/3)
		_, err = fmt.Fprintf(l.w, "    nr packed keys %d\n    nr unpacked keys %d\n    floats %d\n    failed unpacked %d\n\n", s.Packed, s.Unpacked, s.Cachelines, s.UnpackedLines)
		return err
	})
}

func (l *list) ondisk() error {
	return l.each(func(n bcachefs.NodeRef) error {
		if n.Key.Type == ondisk.KeyDeleted {
			return nil
		}
		records, err := l.vol.NodeRecords(n)
		if err != nil {
			l.add(err)
			return nil
		}
		d := l.nodeDoc(n)
		lead := "  "
		for _, r := range records {
			if r.Err != nil {
				l.add(r.Err)
			}
			if !l.json {
				fmt.Fprintf(l.w, "%soffset %d version %d, journal seq %d", lead, r.Sector, r.Bset.Version, r.Bset.JournalSeq)
				if r.Ignored {
					_, _ = l.w.WriteString(" (blacklisted)")
				}
				_ = l.w.WriteByte('\n')
			}
			rd := recordDoc{Sector: r.Sector, Sectors: r.Sectors, Version: r.Bset.Version.String(), JournalSeq: r.Bset.JournalSeq, Ignored: r.Ignored, Keys: []any{}}
			if r.Err != nil {
				rd.Error = errText(r.Err)
			}
			for _, kv := range r.Keys {
				switch {
				case !l.wants(kv):
				case l.json:
					rd.Keys = append(rd.Keys, l.print.KeyJSON(l.btree, n.Level, kv))
				default:
					l.buf = l.print.Key(l.buf[:0], l.btree, n.Level, kv)
					fmt.Fprintf(l.w, "    %s\n", indent(l.buf, "    "))
				}
			}
			d.Records = append(d.Records, rd)
			// The reference indents what follows a record without keys.
			if lead = "  "; len(r.Keys) == 0 {
				lead = "      "
			}
		}
		if l.json {
			return l.line(marshal(d))
		}
		return l.line([]byte(lead[2:]))
	})
}
