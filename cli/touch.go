package cli

import (
	"errors"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/internal/human"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

func init() { commands = append(commands, newTouchCmd, newTruncateCmd) }

func newTouchCmd(a *app) *cobra.Command {
	var wf writeFlags
	var nf newFileFlags
	var access, modify, noCreate, noDeref bool
	var date, ref string
	cmd := &cobra.Command{
		Use:   "touch VOLUME PATH...",
		Short: "Set times of files of a volume, or make empty files",
		Long: `Set the times of access and modification of files of a volume to now, or to a date;
files that are not there are made, empty. DATE is an RFC 3339 time, YYYY-MM-DD[
HH:MM[:SS[.fraction]]] in the local time zone or followed by Z or +HH:MM, or
@SECONDS[.fraction] since 1970. The time of change (ctime) is always now.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := nf.file(ondisk.ModeRegular, 0o666)
			if err != nil {
				return err
			}
			var at time.Time
			switch {
			case date != "" && ref != "":
				return usageErr("--date excludes --reference")
			case date != "":
				if at, err = parseDate(date, time.Local); err != nil {
					return err
				}
			}
			if !access && !modify {
				access, modify = true, true
			}
			return a.withWrite(cmd, &wf, args, 1, -1, func(t *writeTree, paths []string) error {
				atime, mtime := at, at
				switch {
				case ref != "":
					r, err := t.sub.Stat(t.ctx, ref)
					if err != nil {
						return err
					}
					atime, mtime = r.Atime, r.Mtime
				case date == "":
					atime = time.Now()
					mtime = atime
				}
				var s bcachefs.SetAttr
				if access {
					s.Atime = &atime
				}
				if modify {
					s.Mtime = &mtime
				}
				return t.each(paths, func(p string) error { return t.touch(p, n, s, noCreate, !noDeref) })
			})
		},
	}
	wf.add(a, cmd)
	fl := cmd.Flags()
	fl.StringVar(&nf.owner, "owner", "0:0", "owner and group of new files, `UID[:GID]`")
	fl.BoolVarP(&access, "access", "a", false, "set the time of access only")
	fl.BoolVarP(&modify, "modify", "m", false, "set the time of modification only")
	fl.BoolVarP(&noCreate, "no-create", "c", false, "make no files")
	fl.BoolVarP(&noDeref, "no-dereference", "h", false, "change a symlink itself; make no files")
	cmd.Flags().BoolP("help", "", false, "help for "+cmd.Name()) // -h is taken
	fl.StringVarP(&date, "date", "d", "", "this `DATE` instead of now")
	fl.StringVarP(&ref, "reference", "r", "", "the times of this `PATH` of the volume instead of now")
	return cmd
}

func (t *writeTree) touch(p string, n bcachefs.NewFile, s bcachefs.SetAttr, noCreate, follow bool) error {
	_, err := t.sub.Setattr(t.ctx, p, follow, s)
	if err == nil {
		t.did("times set", p, "")
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if noCreate || !follow {
		return nil
	}
	if s.Atime != nil {
		n.Atime = *s.Atime
	}
	if s.Mtime != nil {
		n.Mtime = *s.Mtime
	}
	if _, cerr := t.sub.Create(t.ctx, p, n); cerr != nil {
		if errors.Is(cerr, fs.ErrExist) {
			return err // a symlink to nowhere
		}
		return cerr
	}
	t.did("created", p, "")
	return nil
}

// dateLayouts are the forms of dates without time zone.
var dateLayouts = []string{"2006-01-02 15:04:05.999999999", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"}

// parseDate reads a DATE; without a zone it is in loc.
func parseDate(s string, loc *time.Location) (time.Time, error) {
	bad := func() (time.Time, error) {
		return time.Time{}, usageErr("date %q: must be like 2024-02-29, 2024-02-29 13:37:00.5, 2024-02-29T13:37:00Z or @1709213820.5", s)
	}
	if secs, ok := strings.CutPrefix(s, "@"); ok {
		whole, frac, hasFrac := strings.Cut(secs, ".")
		sec, err := strconv.ParseInt(whole, 10, 64)
		if err != nil || sec > math.MaxInt64/2 || sec < math.MinInt64/2 {
			return bad()
		}
		var nsec int64
		if hasFrac {
			if len(frac) == 0 || len(frac) > 9 || strings.Trim(frac, "0123456789") != "" {
				return bad()
			}
			nsec, _ = strconv.ParseInt((frac + "000000000")[:9], 10, 64)
			if strings.HasPrefix(whole, "-") {
				nsec = -nsec
			}
		}
		return inRange(time.Unix(sec, nsec), bad)
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return inRange(t, bad)
	}
	s = strings.Replace(s, "T", " ", 1)
	for _, l := range dateLayouts {
		for _, zone := range []string{"", "Z07:00", " Z07:00", " -0700"} {
			if t, err := time.ParseInLocation(l+zone, s, loc); err == nil {
				return inRange(t, bad)
			}
		}
	}
	return bad()
}

// inRange refuses times that a volume cannot store whatever its time base.
func inRange(t time.Time, bad func() (time.Time, error)) (time.Time, error) {
	if y := t.UTC().Year(); y < 1900 || y > 2200 {
		return bad()
	}
	return t, nil
}

func newTruncateCmd(a *app) *cobra.Command {
	var wf writeFlags
	var nf newFileFlags
	var size string
	var noCreate bool
	cmd := &cobra.Command{
		Use:   "truncate VOLUME -s SIZE PATH...",
		Short: "Set the size of files of a volume",
		Long: `Set the size of files of a volume. What a file gains is a hole, what it loses is gone;
files that are not there are made. SIZE is a number of bytes, or with K, M, G, T, P, E
of powers of 1024. With + or - before it the size changes by that much, with < or >
it becomes at most or at least that, with / or % it is rounded down or up to a
multiple.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if size == "" {
				return usageErr("missing --size")
			}
			change, err := parseSizeChange(size)
			if err != nil {
				return err
			}
			n, err := nf.file(ondisk.ModeRegular, 0o666)
			if err != nil {
				return err
			}
			return a.withWrite(cmd, &wf, args, 1, -1, func(t *writeTree, paths []string) error {
				return t.each(paths, func(p string) error {
					at, err := t.sub.Stat(t.ctx, p)
					if errors.Is(err, fs.ErrNotExist) {
						if noCreate {
							return nil
						}
						if at, err = t.sub.Create(t.ctx, p, n); err == nil {
							t.did("created", p, "")
						} else if errors.Is(err, fs.ErrExist) {
							err = &fs.PathError{Op: "truncate", Path: p, Err: fs.ErrNotExist} // a symlink to nowhere
						}
					}
					if err != nil {
						return err
					}
					to, ok := change(at.Size)
					if !ok {
						return errors.New("the size would be more than a file can have")
					}
					if to == at.Size && at.IsRegular() {
						return nil
					}
					if err := t.files.Truncate(t.ctx, at.ID, to); err != nil {
						return err
					}
					t.report(changeJSON{Path: p, PathRaw: rawBytes(p), Action: "size set", Value: strconv.FormatUint(to, 10)})
					return nil
				})
			})
		},
	}
	wf.add(a, cmd)
	fl := cmd.Flags()
	fl.StringVar(&nf.owner, "owner", "0:0", "owner and group of new files, `UID[:GID]`")
	fl.StringVarP(&size, "size", "s", "", "the new `SIZE`")
	fl.BoolVarP(&noCreate, "no-create", "c", false, "make no files")
	return cmd
}

// parseSizeChange reads a SIZE of truncate.
func parseSizeChange(s string) (func(old uint64) (uint64, bool), error) {
	op, num := byte(0), s
	if s != "" && strings.IndexByte("+-<>/%", s[0]) >= 0 {
		op, num = s[0], s[1:]
	}
	n, err := human.ParseSize(num)
	if err != nil {
		return nil, usageErr("size %q: %v", s, err)
	}
	if (op == '/' || op == '%') && n == 0 {
		return nil, usageErr("size %q: division by zero", s)
	}
	return func(old uint64) (uint64, bool) {
		v := n
		switch op {
		case '+':
			if v = old + n; v < old {
				return 0, false
			}
		case '-':
			v = old - min(n, old)
		case '<':
			v = min(old, n)
		case '>':
			v = max(old, n)
		case '/':
			v = old / n * n
		case '%':
			if r := old % n; r != 0 {
				if v = old - r + n; v < old {
					return 0, false
				}
			} else {
				v = old
			}
		}
		return v, v <= math.MaxInt64
	}, nil
}
