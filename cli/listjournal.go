package cli

import (
	"bufio"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

func init() { commands = append(commands, newListJournalCmd) }

// listJournal is one run of the command.
type listJournal struct {
	findings
	journalFilter
	all, dirty, headers, allHeaders, datetime, offsets bool
	values                                             bool
	buf                                                []byte
}

func newListJournalCmd(a *app) *cobra.Command {
	var vf volumeFlags
	var compat compatFlag
	l := &listJournal{findings: findings{a: a, cmd: "list_journal"}}
	var o bcachefs.JournalOptions
	var seqs, values string
	var btrees, transactions, keys []string
	var verbose int
	cmd := &cobra.Command{
		Use:   "list_journal VOLUME...",
		Short: "List the entries of the journal",
		Long: `List the entries of the journal, as the tools of the same name do.

Without -a or -d the newest entries are listed, as far back as none is missing.
Entries consist of items; a transaction begins with a log item that names it.

-b, -t and -k take lists with commas; a '-' before the first one leaves out what
matches, a '+' or nothing keeps only that. -b is about items, -t and -k about
whole transactions:

  -b extents,inodes        keys of these btrees
  -b -alloc                keys of all others
  -t bch2_rename2          transactions of this name; * and ? match as in a shell
  -k extents:4096:0        transactions that change this key
  -k inodes:0:4096-inodes:0:5000:U32_MAX`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := compat.check(); err != nil {
				return err
			}
			if l.all && l.dirty {
				return usageErr("-a and -d exclude each other")
			}
			if o.Newest < 0 {
				return usageErr("--nr-entries: too small (min 0)")
			}
			var err error
			if o.First, o.Last, err = parseSeqs(seqs); err != nil {
				return err
			}
			if l.values, err = strconv.ParseBool(values); err != nil {
				return usageErr("--values: must be true or false")
			}
			if err := l.parse(btrees, transactions, keys); err != nil {
				return err
			}
			vol, done, err := a.openInspect(&vf, args)
			if err != nil {
				return err
			}
			defer done()
			style := compat.style(vol.Superblock())
			switch {
			case l.all, o.Last != 0:
				o.Range = bcachefs.JournalAll
			case l.dirty, style == bcachefs.Style1_13:
				o.Range = bcachefs.JournalDirty
			}
			if verbose > 0 {
				fmt.Fprintf(a.Err, "gobcachefs: list_journal: volume %s, version %s, clean %v\n", vol.Superblock().UserUUID, vol.Superblock().Version, vol.Clean())
			}
			p := vol.Printer(style, isTerminal(a.Out)).JournalPrinter(time.Local)
			return a.buffered(func(w *bufio.Writer) error {
				for e, err := range vol.Journal(a.ctx, o) {
					if err != nil {
						l.add(err)
					}
					if e == nil {
						continue
					}
					if err := l.entry(w, p, e); err != nil {
						return err
					}
				}
				return l.err()
			})
		},
	}
	vf.add(cmd)
	compat.add(cmd)
	a.jsonFlag(cmd)
	fl := cmd.Flags()
	fl.BoolVarP(&l.all, "all", "a", false, "the entire journal")
	fl.BoolVarP(&l.dirty, "dirty", "d", false, "only entries that a mount replays (default with --compat=1.13)")
	fl.IntVarP(&o.Newest, "nr-entries", "n", 0, "at most `N` entries, the newest")
	fl.StringVarP(&seqs, "seq", "s", "", "only the entry `SEQ`, or FIRST..LAST")
	fl.BoolVarP(&o.Blacklisted, "blacklisted", "B", false, "blacklisted entries too")
	fl.BoolVarP(&o.FlushOnly, "flush-only", "F", false, "only entries that are commit points")
	fl.BoolVarP(&l.datetime, "datetime", "D", false, "only items that say when")
	fl.BoolVarP(&l.headers, "headers", "H", false, "only what the entries are, no items")
	fl.BoolVar(&l.allHeaders, "all-headers", false, "entries of which no item is left by the filters, too")
	fl.BoolVarP(&l.keepLog, "log", "l", false, "keep log items when -b filters")
	fl.BoolVarP(&l.logOnly, "log-only", "L", false, "only transactions with messages")
	fl.BoolVarP(&l.offsets, "offset", "O", false, "the place of every item in its entry, in bytes")
	fl.StringVarP(&values, "values", "V", "true", "print the values of keys: `true|false`")
	fl.StringArrayVarP(&btrees, "btree", "b", nil, "`[+-]BTREE,…`")
	fl.StringArrayVarP(&transactions, "transaction", "t", nil, "`[+-]NAME,…`")
	fl.StringArrayVarP(&keys, "key", "k", nil, "`[+-]BTREE:POS[-BTREE:POS],…`")
	fl.CountVarP(&verbose, "verbose", "v", "say more on standard error")
	return cmd
}

// parseSeqs reads SEQ or FIRST..LAST, where one of them may be missing.
func parseSeqs(s string) (first, last uint64, err error) {
	if s == "" {
		return 0, 0, nil
	}
	num := func(t string, def uint64) uint64 {
		if t == "" {
			return def
		}
		v, perr := strconv.ParseUint(t, 10, 64)
		if perr != nil {
			err = usageErr("--seq: bad sequence number %q", t)
		}
		return v
	}
	if a, b, ok := strings.Cut(s, ".."); ok {
		first, last = num(a, 0), num(b, ^uint64(0))
	} else {
		first = num(s, 0)
		last = first
	}
	if err == nil && (last < first || last == 0) {
		err = usageErr("--seq: %s names no entry", s)
	}
	return first, last, err
}

// entry prints an entry with the items that are wanted.
func (l *listJournal) entry(w *bufio.Writer, p *bcachefs.JournalPrinter, e *bcachefs.JournalEntry) error {
	had := len(e.Items)
	switch {
	case l.headers:
		e.Items = nil
	case l.datetime:
		e.Items = only(e.Items, func(it ondisk.JsetEntry) bool { return it.Type == ondisk.EntryDatetime })
	default:
		e.Items = l.filter(e.Items)
	}
	if had > 0 && len(e.Items) == 0 && !l.headers && !l.allHeaders {
		return nil
	}
	if l.a.json {
		_, err := w.Write(append(marshal(p.JSON(e)), '\n'))
		return err
	}
	l.buf = p.Head(l.buf[:0], e)
	for _, it := range e.Items {
		if l.offsets {
			l.buf = fmt.Appendf(l.buf, "  offset %d\n", it.Off)
		}
		l.buf = p.Item(l.buf, it, l.values)
		if len(l.buf) > 1<<16 {
			if _, err := w.Write(l.buf); err != nil {
				return err
			}
			l.buf = l.buf[:0]
		}
	}
	_, err := w.Write(l.buf)
	return err
}
