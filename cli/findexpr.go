package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// predicate is a part of a find expression. The entry has its attributes.
type predicate func(f *finder, e *entry) (bool, error)

// findExpr is a parsed expression with what it says of the walk.
type findExpr struct {
	match              predicate
	acts               bool // it prints by itself
	minDepth, maxDepth int
	oneSubvol          bool
	newer              []*newerTest // references to look up in the volume first
}

// newerTest is -newer PATH.
type newerTest struct {
	path string
	than time.Time
}

// exprParser reads an expression as find(1) has it:
//
//	expr = and { -o and }    and = not { [-a] not }    not = [!] primary
type exprParser struct {
	args []string
	x    *findExpr
	now  time.Time
}

// parseFind reads the words of an expression; no words match everything.
func parseFind(args []string, now time.Time) (*findExpr, error) {
	p := &exprParser{args: args, x: &findExpr{maxDepth: -1}, now: now}
	if len(args) == 0 {
		p.x.match = always
		return p.x, nil
	}
	m, err := p.or(0)
	if err == nil && len(p.args) > 0 {
		err = usageErr("unexpected %s in the expression", p.args[0])
	}
	p.x.match = m
	return p.x, err
}

func always(*finder, *entry) (bool, error) { return true, nil }

func (p *exprParser) peek() string {
	if len(p.args) == 0 {
		return ""
	}
	return p.args[0]
}

func (p *exprParser) next() string {
	s := p.args[0]
	p.args = p.args[1:]
	return s
}

// maxNesting bounds parentheses and negations.
const maxNesting = 1000

func (p *exprParser) or(depth int) (predicate, error) {
	left, err := p.and(depth)
	for err == nil && (p.peek() == "-o" || p.peek() == "-or") {
		p.next()
		var right predicate
		if right, err = p.and(depth); err != nil {
			break
		}
		l := left
		left = func(f *finder, e *entry) (bool, error) {
			if ok, err := l(f, e); ok || err != nil {
				return ok, err
			}
			return right(f, e)
		}
	}
	return left, err
}

func (p *exprParser) and(depth int) (predicate, error) {
	left, err := p.not(depth)
	for err == nil {
		switch p.peek() {
		case "", "-o", "-or", ")":
			return left, nil
		case "-a", "-and":
			p.next()
		}
		var right predicate
		if right, err = p.not(depth); err != nil {
			break
		}
		l := left
		left = func(f *finder, e *entry) (bool, error) {
			if ok, err := l(f, e); !ok || err != nil {
				return false, err
			}
			return right(f, e)
		}
	}
	return left, err
}

func (p *exprParser) not(depth int) (predicate, error) {
	if depth > maxNesting {
		return nil, usageErr("the expression is nested too deeply")
	}
	switch p.peek() {
	case "":
		return nil, usageErr("the expression ends too early")
	case "!", "-not":
		p.next()
		m, err := p.not(depth + 1)
		return func(f *finder, e *entry) (bool, error) {
			ok, err := m(f, e)
			return !ok, err
		}, err
	case "(":
		p.next()
		m, err := p.or(depth + 1)
		if err == nil && p.peek() != ")" {
			return nil, usageErr("missing ) in the expression")
		}
		if err == nil {
			p.next()
		}
		return m, err
	}
	return p.primary()
}

// primary reads one test or action.
func (p *exprParser) primary() (predicate, error) {
	name := p.next()
	noArg, ok := p.plain(name)
	if ok {
		return noArg, nil
	}
	test, ok := argTests[name]
	if !ok {
		return nil, usageErr("unknown predicate %s", name)
	}
	if len(p.args) == 0 {
		return nil, usageErr("%s needs an argument", name)
	}
	arg := p.next()
	m, err := test(p, arg)
	if err != nil {
		var ee *exitError
		if errors.As(err, &ee) {
			return nil, err
		}
		return nil, usageErr("%s %s: %v", name, arg, err)
	}
	return m, nil
}

// plain are the predicates without an argument.
func (p *exprParser) plain(name string) (predicate, bool) {
	act := func(f func(*finder, *entry) error) (predicate, bool) {
		p.x.acts = true
		return func(fd *finder, e *entry) (bool, error) { return true, f(fd, e) }, true
	}
	switch name {
	case "-true":
		return always, true
	case "-false":
		return func(*finder, *entry) (bool, error) { return false, nil }, true
	case "-xdev", "-mount":
		p.x.oneSubvol = true
		return always, true
	case "-print":
		return act((*finder).print)
	case "-print0":
		return act((*finder).print0)
	case "-ls":
		return act((*finder).ls)
	case "-empty":
		return isEmpty, true
	}
	return nil, false
}

func isEmpty(f *finder, e *entry) (bool, error) {
	if !e.attr.IsDir() {
		return e.attr.IsRegular() && e.attr.Size == 0, nil
	}
	empty := true
	err := f.files.ReadDir(f.ctx, e.id, 0, func(bcachefsEntry) bool { empty = false; return false })
	if err != nil {
		f.fail(e.path, err)
		return false, f.ctx.Err()
	}
	return empty, nil
}

// test makes a predicate of a function of the entry.
func test(f func(*entry) bool) (predicate, error) {
	return func(_ *finder, e *entry) (bool, error) { return f(e), nil }, nil
}

// argTests are the predicates with an argument.
var argTests map[string]func(*exprParser, string) (predicate, error)

func init() {
	argTests = map[string]func(*exprParser, string) (predicate, error){
		"-name": func(_ *exprParser, s string) (predicate, error) {
			return test(func(e *entry) bool { return fnmatch(s, e.base()) })
		},
		"-iname": func(_ *exprParser, s string) (predicate, error) {
			s = strings.ToLower(s)
			return test(func(e *entry) bool { return fnmatch(s, strings.ToLower(e.base())) })
		},
		"-path": func(_ *exprParser, s string) (predicate, error) {
			return test(func(e *entry) bool { return fnmatch(s, e.path) })
		},
		"-ipath": func(_ *exprParser, s string) (predicate, error) {
			s = strings.ToLower(s)
			return test(func(e *entry) bool { return fnmatch(s, strings.ToLower(e.path)) })
		},
		"-type": typeTest,
		"-size": sizeTest,
		"-perm": permTest,
		"-newer": func(p *exprParser, s string) (predicate, error) {
			n := &newerTest{path: s}
			p.x.newer = append(p.x.newer, n)
			return test(func(e *entry) bool { return e.attr.Mtime.After(n.than) })
		},
		"-newermt": func(_ *exprParser, s string) (predicate, error) {
			t, err := parseTime(s)
			if err != nil {
				return nil, err
			}
			return test(func(e *entry) bool { return e.attr.Mtime.After(t) })
		},
		"-maxdepth": func(p *exprParser, s string) (_ predicate, err error) {
			p.x.maxDepth, err = depthArg(s)
			return always, err
		},
		"-mindepth": func(p *exprParser, s string) (_ predicate, err error) {
			p.x.minDepth, err = depthArg(s)
			return always, err
		},
		"-uid":   numTest(func(e *entry) uint64 { return uint64(e.attr.UID) }),
		"-gid":   numTest(func(e *entry) uint64 { return uint64(e.attr.GID) }),
		"-links": numTest(func(e *entry) uint64 { return uint64(e.attr.Nlink) }),
		"-inum":  numTest(func(e *entry) uint64 { return e.attr.Ino }),
		"-mtime": ageTest(24*time.Hour, func(e *entry) time.Time { return e.attr.Mtime }),
		"-mmin":  ageTest(time.Minute, func(e *entry) time.Time { return e.attr.Mtime }),
		"-atime": ageTest(24*time.Hour, func(e *entry) time.Time { return e.attr.Atime }),
		"-ctime": ageTest(24*time.Hour, func(e *entry) time.Time { return e.attr.Ctime }),
	}
	argTests["-wholename"] = argTests["-path"]
	argTests["-iwholename"] = argTests["-ipath"]
}

func depthArg(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("must be a number")
	}
	return int(n), nil
}

func typeTest(_ *exprParser, s string) (predicate, error) {
	want := map[byte]bool{}
	for _, t := range strings.Split(s, ",") {
		if len(t) != 1 || !strings.Contains("fdlcbps", t) {
			return nil, fmt.Errorf("must be of f, d, l, c, b, p, s")
		}
		c := t[0]
		if c == 'f' {
			c = '-'
		}
		want[c] = true
	}
	return test(func(e *entry) bool { return want[typeLetter(e.mode())] })
}

// comparison is a number with the + or - of find: more than, less than.
type comparison struct {
	sign byte
	n    uint64
}

func parseComparison(s string) (comparison, error) {
	var c comparison
	if s != "" && (s[0] == '+' || s[0] == '-') {
		c.sign, s = s[0], s[1:]
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return c, fmt.Errorf("must be a number, with + or - before it for more or less")
	}
	c.n = n
	return c, nil
}

func (c comparison) holds(n uint64) bool {
	switch c.sign {
	case '+':
		return n > c.n
	case '-':
		return n < c.n
	}
	return n == c.n
}

func numTest(get func(*entry) uint64) func(*exprParser, string) (predicate, error) {
	return func(_ *exprParser, s string) (predicate, error) {
		c, err := parseComparison(s)
		if err != nil {
			return nil, err
		}
		return test(func(e *entry) bool { return c.holds(get(e)) })
	}
}

// sizeTest is -size: units of 512 bytes, or as the letter says, rounded up.
func sizeTest(_ *exprParser, s string) (predicate, error) {
	unit := uint64(512)
	if n := len(s); n > 0 {
		switch s[n-1] {
		case 'c':
			unit = 1
		case 'w':
			unit = 2
		case 'b':
		case 'k':
			unit = 1 << 10
		case 'M':
			unit = 1 << 20
		case 'G':
			unit = 1 << 30
		default:
			n++
		}
		s = s[:n-1]
	}
	c, err := parseComparison(s)
	if err != nil {
		return nil, err
	}
	return test(func(e *entry) bool {
		n := e.attr.Size / unit
		if e.attr.Size%unit > 0 {
			n++
		}
		return c.holds(n)
	})
}

// permTest is -perm with an octal mode: exactly it, with - all of its bits,
// with / any of them.
func permTest(_ *exprParser, s string) (predicate, error) {
	kind := byte(0)
	if s != "" && (s[0] == '-' || s[0] == '/') {
		kind, s = s[0], s[1:]
	}
	n, err := strconv.ParseUint(s, 8, 12)
	if err != nil {
		return nil, fmt.Errorf("must be an octal mode")
	}
	want := uint32(n)
	return test(func(e *entry) bool {
		m := e.attr.Mode & 0o7777
		switch kind {
		case '-':
			return m&want == want
		case '/':
			return want == 0 || m&want != 0
		}
		return m == want
	})
}

// ageTest compares an age in whole units. A time of the future is less than any.
func ageTest(unit time.Duration, get func(*entry) time.Time) func(*exprParser, string) (predicate, error) {
	return func(p *exprParser, s string) (predicate, error) {
		c, err := parseComparison(s)
		if err != nil {
			return nil, err
		}
		now := p.now
		return test(func(e *entry) bool {
			// Not time.Duration: it ends after 292 years.
			t := get(e)
			age := now.Unix() - t.Unix()
			if now.Nanosecond() < t.Nanosecond() {
				age--
			}
			if age < 0 {
				return c.sign == '-'
			}
			n := uint64(age) / uint64(unit/time.Second)
			return c.n <= math.MaxInt64 && c.holds(n) || c.n > math.MaxInt64 && c.sign == '-'
		})
	}
}

var timeForms = []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999 -0700", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02"}

func parseTime(s string) (time.Time, error) {
	if rest, ok := strings.CutPrefix(s, "@"); ok {
		n, err := strconv.ParseInt(rest, 10, 64)
		if err != nil {
			return time.Time{}, fmt.Errorf("must be a number of seconds")
		}
		return time.Unix(n, 0), nil
	}
	for _, f := range timeForms {
		if t, err := time.ParseInLocation(f, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("must be a time like 2026-01-31 12:00:00 or @SECONDS")
}

// base is the last part of the path, as -name sees it.
func (e *entry) base() string {
	if e.name != "" {
		return e.name
	}
	s := strings.TrimRight(e.path, "/")
	if s == "" {
		return e.path
	}
	return s[strings.LastIndexByte(s, '/')+1:]
}

// mode is the mode, or just the type if the attributes could not be read.
func (e *entry) mode() uint32 {
	if e.err != nil {
		return e.typ
	}
	return e.attr.Mode
}

// isType reports whether an entry has a type.
func (e *entry) isType(t uint32) bool { return e.mode()&ondisk.ModeTypeMask == t }

// resolve looks up the references of -newer.
func (x *findExpr) resolve(ctx context.Context, t *tree) error {
	for _, n := range x.newer {
		a, err := t.sub.Stat(ctx, n.path)
		if err != nil {
			return err
		}
		n.than = a.Mtime
	}
	return nil
}
