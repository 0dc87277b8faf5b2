package cli

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/errs"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

func init() { commands = append(commands, newGetfattrCmd, newSetfattrCmd) }

// xattrText writes a value: "text", with \NNN for bytes that are none; hex is
// 0x…, base64 is 0s….
func xattrText(v []byte, encoding string) string {
	switch encoding {
	case "hex":
		return "0x" + hex.EncodeToString(v)
	case "base64":
		return "0s" + base64.StdEncoding.EncodeToString(v)
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range v {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c >= 0x7f:
			fmt.Fprintf(&b, `\%03o`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// xattrEncoding chooses how to write a value that was not asked for in a certain
// way: as text if it is.
func xattrEncoding(v []byte) string {
	for _, c := range v {
		if c < ' ' && c != '\n' && c != '\t' && c != '\r' || c >= 0x7f {
			return "base64"
		}
	}
	return "text"
}

// parseXattr is the inverse of xattrText; text needs no quotes.
func parseXattr(s string) ([]byte, error) {
	switch {
	case strings.HasPrefix(s, "0x") || strings.HasPrefix(s, "0X"):
		b, err := hex.DecodeString(strings.ReplaceAll(s[2:], " ", ""))
		if err != nil {
			return nil, usageErr("value %q: not hexadecimal", s)
		}
		return b, nil
	case strings.HasPrefix(s, "0s") || strings.HasPrefix(s, "0S"):
		b, err := base64.StdEncoding.DecodeString(s[2:])
		if err != nil {
			return nil, usageErr("value %q: not base64", s)
		}
		return b, nil
	}
	quoted := false
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		s, quoted = s[1:len(s)-1], true
	}
	b := []byte{}
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b = append(b, s[i])
			continue
		}
		if n := i + 4; n <= len(s) {
			if c, err := strconv.ParseUint(s[i+1:n], 8, 8); err == nil {
				b = append(b, byte(c))
				i += 3
				continue
			}
		}
		if i+1 < len(s) && (s[i+1] == '\\' || s[i+1] == '"') {
			i++
			b = append(b, s[i])
			continue
		}
		if quoted {
			return nil, usageErr("value %q: a backslash is written \\\\, other bytes as three octal digits", s)
		}
		b = append(b, '\\')
	}
	return b, nil
}

func newGetfattrCmd(a *app) *cobra.Command {
	var vf volumeFlags
	var name, match, encoding string
	var dump, recursive, noDeref, onlyValues bool
	cmd := &cobra.Command{
		Use:   "getfattr VOLUME PATH...",
		Short: "Show extended attributes of files of a volume",
		Long: `Show extended attributes of files of a volume: their names, with -d their values too,
in the form that setfattr --restore reads. Without -n and -m those that begin with
"user."; -m - shows all, also ACLs and the options of the file (bcachefs.*).

Values are text in quotes, with \NNN for bytes that are no text; -e hex writes 0x…,
-e base64 0s….

With --json: one document, {"schema":1,"files":[...],"errors":[...]}.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch encoding {
			case "", "text", "hex", "base64":
			default:
				return usageErr("encoding: invalid selection: choose text, hex, base64")
			}
			g := &getfattr{name: name, encoding: encoding, values: dump || name != "" || onlyValues, raw: onlyValues}
			switch match {
			case "-":
				match = ""
			case "":
				match = `^user\.`
			}
			var err error
			if g.match, err = regexp.Compile(match); err != nil {
				return usageErr("%v", err)
			}
			return a.withTree(cmd, &vf, args, 1, -1, func(t *tree, paths []string) error {
				g.tree = t
				if a.json {
					g.js = t.jsonList(t.out, "files")
				}
				for _, p := range paths {
					if err := g.path(p, recursive, noDeref); err != nil {
						return err
					}
				}
				if g.js != nil {
					return g.js.end(map[string]any{"errors": t.r.failures()})
				}
				return nil
			})
		},
	}
	vf.add(cmd)
	a.jsonFlag(cmd)
	fl := cmd.Flags()
	fl.StringVarP(&name, "name", "n", "", "show the attribute `NAME` and its value")
	fl.StringVarP(&match, "match", "m", "", "show attributes whose names match the regular expression `PATTERN`; - for all")
	fl.StringVarP(&encoding, "encoding", "e", "", "write values as text, hex or base64 (default: what suits each)")
	fl.BoolVarP(&dump, "dump", "d", false, "show values, too")
	fl.BoolVarP(&recursive, "recursive", "R", false, "show everything below directories, too")
	fl.BoolVarP(&noDeref, "no-dereference", "h", false, "show those of a symlink itself")
	cmd.Flags().BoolP("help", "", false, "help for "+cmd.Name()) // -h is taken
	fl.BoolVar(&onlyValues, "only-values", false, "write the bytes of the values and nothing else")
	return cmd
}

type getfattr struct {
	*tree
	name, encoding string
	match          *regexp.Regexp
	values, raw    bool
	js             *jsonList
	some           bool
}

func (g *getfattr) path(p string, recursive, noDeref bool) error {
	at, ok := g.stat(p, !noDeref)
	if !ok {
		return g.ctx.Err()
	}
	if !recursive || !at.IsDir() {
		return g.file(p, at.ID)
	}
	return walk(g.ctx, g.files, []walkRoot{{p, at.ID, ondisk.ModeDir}}, walkOptions{maxDepth: -1}, func(e *entry) error {
		if e.kind == entryFailed || e.err != nil {
			g.fail(e.path, e.err)
			return nil
		}
		return g.file(e.path, e.id)
	})
}

func (g *getfattr) file(p string, id bcachefs.NodeID) error {
	names := []string{g.name}
	if g.name == "" {
		all, err := g.files.ListXattr(g.ctx, id)
		if err != nil {
			g.fail(p, err)
			return nil
		}
		names = slices.DeleteFunc(all, func(n string) bool { return !g.match.MatchString(n) })
		slices.Sort(names)
	}
	var xs []bcachefs.Xattr
	for _, n := range names {
		v, err := g.files.GetXattr(g.ctx, id, n)
		if err != nil {
			g.fail(p, fmt.Errorf("%s: %w", escapeName(n), xattrError(err)))
			continue
		}
		xs = append(xs, bcachefs.Xattr{Name: n, Value: v})
	}
	g.r.check(p, g.files, id)
	if g.js != nil {
		j := struct {
			Path    string      `json:"path"`
			PathRaw string      `json:"path_base64,omitempty"`
			Xattrs  []xattrJSON `json:"xattrs"`
		}{Path: p, PathRaw: rawBytes(p), Xattrs: []xattrJSON{}}
		for _, x := range xs {
			j.Xattrs = append(j.Xattrs, newXattrJSON(x.Name, x.Value))
		}
		return g.js.add(j)
	}
	if len(xs) == 0 {
		return nil
	}
	if !g.raw {
		if g.some {
			_ = g.out.WriteByte('\n')
		}
		fmt.Fprintf(g.out, "# file: %s\n", escapeName(strings.TrimLeft(p, "/")))
	}
	g.some = true
	for _, x := range xs {
		switch {
		case g.raw:
			_, _ = g.out.Write(x.Value)
		case !g.values:
			fmt.Fprintln(g.out, escapeName(x.Name))
		default:
			enc := g.encoding
			if enc == "" {
				enc = xattrEncoding(x.Value)
			}
			fmt.Fprintf(g.out, "%s=%s\n", escapeName(x.Name), xattrText(x.Value, enc))
		}
	}
	return nil
}

// xattrError puts errors of attributes into the words that suit them.
func xattrError(err error) error {
	switch {
	case errors.Is(err, errs.NoData):
		return errors.New("no such attribute")
	case errors.Is(err, syscall.ENOTSUP):
		return errors.New("names begin with user., trusted., security., or bcachefs. for options")
	case errors.Is(err, syscall.ERANGE):
		return errors.New("name and value are too long for a volume (about 2000 bytes together)")
	}
	return err
}

func newSetfattrCmd(a *app) *cobra.Command {
	var wf writeFlags
	var name, value, remove, restore string
	var noDeref bool
	cmd := &cobra.Command{
		Use:   "setfattr VOLUME {-n NAME [-v VALUE] | -x NAME} PATH...\n  gobcachefs setfattr VOLUME --restore FILE",
		Short: "Change extended attributes of files of a volume",
		Long: `Set (-n) or remove (-x) an extended attribute of files of a volume. VALUE is text, in
quotes or not, with \NNN for other bytes; or 0x… in hexadecimal, or 0s… in base64.
--restore reads what getfattr -d printed.

system.posix_acl_access and system.posix_acl_default are ACLs, in the binary form of
the system calls: an access ACL changes the permissions. bcachefs.OPTION sets an
option of the file, as set-file-option does.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			n := 0
			for _, s := range []string{name, remove, restore} {
				if s != "" {
					n++
				}
			}
			if n != 1 {
				return usageErr("exactly one of -n, -x, --restore is needed")
			}
			if cmd.Flags().Changed("value") && name == "" {
				return usageErr("-v needs -n")
			}
			v, err := parseXattr(value)
			if err != nil {
				return err
			}
			if restore != "" {
				return a.restoreXattrs(cmd, &wf, args, restore, !noDeref)
			}
			return a.withWrite(cmd, &wf, args, 1, -1, func(t *writeTree, paths []string) error {
				return t.each(paths, func(p string) error {
					if remove != "" {
						return t.setXattr(p, remove, nil, true, !noDeref)
					}
					return t.setXattr(p, name, v, false, !noDeref)
				})
			})
		},
	}
	wf.addQuiet(a, cmd)
	fl := cmd.Flags()
	fl.StringVarP(&name, "name", "n", "", "set the attribute `NAME`")
	fl.StringVarP(&value, "value", "v", "", "to this `VALUE` (default: an empty one)")
	fl.StringVarP(&remove, "remove", "x", "", "remove the attribute `NAME`")
	fl.StringVar(&restore, "restore", "", "set what a `FILE` says that getfattr -d wrote; - for standard input")
	fl.BoolVarP(&noDeref, "no-dereference", "h", false, "change those of a symlink itself")
	cmd.Flags().BoolP("help", "", false, "help for "+cmd.Name()) // -h is taken
	return cmd
}

// setXattr sets or removes an attribute of the file at a path.
func (t *writeTree) setXattr(p, name string, value []byte, remove, follow bool) error {
	stat := t.sub.Lstat
	if follow {
		stat = t.sub.Stat
	}
	a, err := stat(t.ctx, p)
	if err != nil {
		return err
	}
	action := "attribute set"
	if remove {
		action = "attribute removed"
		err = t.files.RemoveXattr(t.ctx, a.ID, name)
	} else {
		err = t.files.SetXattr(t.ctx, a.ID, name, value, 0)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", escapeName(name), xattrError(err))
	}
	t.report(changeJSON{Path: p, PathRaw: rawBytes(p), Action: action, Name: name})
	return nil
}

// restoreXattrs reads the output of getfattr -d.
func (a *app) restoreXattrs(cmd *cobra.Command, wf *writeFlags, args []string, file string, follow bool) error {
	var b []byte
	var err error
	if file == "-" {
		b, err = readBounded(a.In, maxRestore)
	} else {
		var f *os.File
		if f, err = os.Open(file); err == nil {
			b, err = readBounded(f, maxRestore)
			_ = f.Close()
		}
	}
	if err != nil {
		return err
	}
	type item struct {
		path, name string
		value      []byte
	}
	var items []item
	at := ""
	for n, line := range strings.Split(string(b), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if rest, ok := strings.CutPrefix(line, "# file: "); ok {
			p, err := unescapeName(rest)
			if err != nil {
				return usageErr("%s line %d: %v", file, n+1, err)
			}
			at = p
			continue
		}
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, _ := strings.Cut(line, "=")
		if name, err = unescapeName(name); err != nil || at == "" {
			return usageErr("%s line %d: not the output of getfattr -d", file, n+1)
		}
		v, err := parseXattr(value)
		if err != nil {
			return usageErr("%s line %d: %v", file, n+1, err)
		}
		items = append(items, item{at, name, v})
	}
	return a.withWrite(cmd, wf, args, 0, 0, func(t *writeTree, _ []string) error {
		for _, i := range items {
			if err := t.ctx.Err(); err != nil {
				return err
			}
			if err := t.setXattr(i.path, i.name, i.value, false, follow); err != nil {
				t.fail(i.path, err)
			}
			if err := t.vol.Err(); err != nil {
				return err
			}
		}
		return nil
	})
}

// maxRestore bounds the file of setfattr --restore.
const maxRestore = 1 << 30

// readBounded reads a file of a bounded size.
func readBounded(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("more than %d bytes", limit)
	}
	return b, err
}

// unescapeName is the inverse of escapeName.
func unescapeName(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) {
			if k := strings.IndexByte(`abtnvfr\`, s[i+1]); k >= 0 {
				b.WriteByte("\a\b\t\n\v\f\r\\"[k])
				i++
				continue
			}
		}
		if i+4 <= len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		return "", fmt.Errorf("bad escape in %q", s)
	}
	return b.String(), nil
}
