package cli

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/errs"
)

func rangesOf(n ...uint64) (out []bcachefs.DataRange) {
	for i := 0; i < len(n); i += 2 {
		out = append(out, bcachefs.DataRange{Start: n[i], End: n[i+1]})
	}
	return out
}

func sumOf(t *testing.T, f *os.File, m *fileMap) []byte {
	t.Helper()
	h := sha256.New()
	for _, r := range m.data {
		b := make([]byte, r.End-r.Start)
		if _, err := f.ReadAt(b, int64(r.Start)); err != nil {
			t.Fatal(err)
		}
		h.Write(b)
	}
	return h.Sum(nil)
}

func TestHumanSize(t *testing.T) {
	for _, c := range []struct {
		n    uint64
		want string
	}{
		{0, "0"}, {1, "1"}, {1023, "1023"}, {1024, "1.0K"}, {1025, "1.1K"}, {1536, "1.5K"}, {10 << 10, "10K"}, {10<<10 + 1, "11K"},
		{1023 << 10, "1023K"}, {1023<<10 + 1, "1.0M"}, {1<<20 - 1, "1.0M"}, {1 << 20, "1.0M"}, {20971520, "20M"}, {1<<30 + 1, "1.1G"},
		{1 << 40, "1.0T"}, {1 << 50, "1.0P"}, {1 << 60, "1.0E"}, {1<<64 - 1, "16E"}, {9<<20 + 1000000, "10M"},
	} {
		if got := humanSize(c.n); got != c.want {
			t.Errorf("humanSize(%d) = %s, want %s", c.n, got, c.want)
		}
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct{ in, escaped, masked, line string }{
		{"plain", "plain", "plain", "plain"},
		{"", "", "", ""},
		{"a\nb", `a\nb`, "a?b", "a; b"},
		{"\x1b[31m", `\033[31m`, "?[31m", `\x1b[31m`},
		{"\x7f", `\177`, "?", `\x7f`},
		{`back\slash`, `back\\slash`, `back\slash`, `back\slash`},
		{"bad\xff", `bad\377`, "bad?", `bad\xff`},
		{"\u202egnp.exe", `\342\200\256gnp.exe`, "?gnp.exe", `\xe2\x80\xaegnp.exe`},
		{"é日🙂", "é日🙂", "é日🙂", "é日🙂"},
		{"\a\b\t\v\f\r", `\a\b\t\v\f\r`, "??????", `\x07\x08\x09\x0b\x0c\x0d`},
		{"\ufffd", "\ufffd", "\ufffd", "\ufffd"},
	} {
		if got := escapeName(c.in); got != c.escaped {
			t.Errorf("escapeName(%q) = %q, want %q", c.in, got, c.escaped)
		}
		if got := maskName(c.in); got != c.masked {
			t.Errorf("maskName(%q) = %q, want %q", c.in, got, c.masked)
		}
		if got := oneLine(c.in); got != c.line {
			t.Errorf("oneLine(%q) = %q, want %q", c.in, got, c.line)
		}
	}
}

func TestModeString(t *testing.T) {
	for _, c := range []struct {
		mode uint32
		want string
	}{
		{0o100644, "-rw-r--r--"}, {0o040755, "drwxr-xr-x"}, {0o120777, "lrwxrwxrwx"}, {0o020600, "crw-------"}, {0o060640, "brw-r-----"},
		{0o010000, "p---------"}, {0o140755, "srwxr-xr-x"}, {0o104755, "-rwsr-xr-x"}, {0o104644, "-rwSr--r--"}, {0o102710, "-rwx--s---"},
		{0o102700, "-rwx--S---"}, {0o041777, "drwxrwxrwt"}, {0o041776, "drwxrwxrwT"}, {0o000644, "?rw-r--r--"},
	} {
		if got := modeString(c.mode); got != c.want {
			t.Errorf("modeString(%#o) = %s, want %s", c.mode, got, c.want)
		}
	}
}

func TestProgressLine(t *testing.T) {
	var p progress
	p.what = "copied"
	p.files.Store(12)
	p.bytes.Store(1 << 30)
	if got, want := p.line(2*time.Second), "copied 12 files, 1.0G, 512M/s"; got != want {
		t.Errorf("line = %q, want %q", got, want)
	}
	p.totalFiles.Store(80)
	p.totalBytes.Store(3 << 30)
	if got, want := p.line(2*time.Second), "copied 12 of 80 files, 1.0G of 3.0G, 512M/s, 4s left"; got != want {
		t.Errorf("line = %q, want %q", got, want)
	}
	if got, want := (&progress{what: "x"}).line(0), "x 0 files, 0, 0/s"; got != want {
		t.Errorf("line = %q, want %q", got, want)
	}
}

// TestLineWriter: a message takes the status line away, and the two never mix.
func TestLineWriter(t *testing.T) {
	var b bytes.Buffer
	l := &lineWriter{w: &b, terminal: true}
	l.show("one")
	l.show("two")
	_, _ = l.Write([]byte("message\n"))
	_, _ = l.Write([]byte("more\n"))
	l.show("three")
	l.done()
	l.done()
	if got, want := b.String(), clearLine+"one"+clearLine+"two"+clearLine+"message\nmore\n"+clearLine+"three"+clearLine; got != want {
		t.Errorf("terminal: %q, want %q", got, want)
	}
	b.Reset()
	l = &lineWriter{w: &b}
	l.show("one")
	_, _ = l.Write([]byte("message\n"))
	l.done()
	if got, want := b.String(), "one\nmessage\n"; got != want {
		t.Errorf("file: %q, want %q", got, want)
	}
}

func TestReport(t *testing.T) {
	var b strings.Builder
	a := &app{ctx: t.Context(), Streams: Streams{Err: &b}}
	r := a.report("tar")
	if err := r.err(); err != nil {
		t.Errorf("err of nothing = %v, want nil", err)
	}
	boom := errors.New("boom\n\x1b[1m")
	r.fail("/a\nb", boom)
	r.fail("/a\nb", boom)
	r.fail("/c", &os.PathError{Op: "open", Path: "/c", Err: errs.ErrIO})
	r.suspect("/d", boom)
	r.summary(7, "files")
	want := "gobcachefs: tar: /a\\nb: boom; \\x1b[1m\n" +
		"gobcachefs: tar: /c: input/output error\n" +
		"gobcachefs: tar: /d: possibly wrong: boom; \\x1b[1m\n" +
		"gobcachefs: tar: 2 failed of 7 files (listed above)\n" +
		"gobcachefs: tar: 1 possibly wrong (listed above)\n"
	if b.String() != want {
		t.Errorf("report = %q, want %q", b.String(), want)
	}
	if err := r.err(); !errors.Is(err, errFailed) || len(r.failures()) != 3 {
		t.Errorf("err = %v with %d failures, want %v with 3", err, len(r.failures()), errFailed)
	}
}

func TestColumns(t *testing.T) {
	for _, c := range []struct {
		names []string
		width int
		want  []string
	}{
		{nil, 80, nil},
		{[]string{"a", "b", "c"}, 80, []string{"a  b  c"}},
		{[]string{"a", "b", "c"}, 4, []string{"a  c", "b"}},
		{[]string{"a", "b", "c"}, 1, []string{"a", "b", "c"}},
		{[]string{"long-name", "b", "c", "d"}, 12, []string{"long-name  c", "b          d"}},
		{[]string{"longer than the line"}, 5, []string{"longer than the line"}},
	} {
		if got := columns(c.names, c.width); !cmp.Equal(got, c.want) {
			t.Errorf("columns(%q, %d) = %q, want %q", c.names, c.width, got, c.want)
		}
	}
	many := make([]string, 200_000)
	for i := range many {
		many[i] = "name"
	}
	if got := columns(many, 80); len(got) < len(many)/14 {
		t.Errorf("columns of %d names: %d lines", len(many), len(got))
	}
}

// TestFeedRanges: chunks cover the ranges exactly, in order, none too large.
func TestBadRanges(t *testing.T) {
	boom := errors.New("boom")
	var list []badRange
	list = addBad(list, 0, 0, boom)
	list = addBad(list, 10, 5, boom)
	list = addBad(list, 15, 5, boom)
	list = addBad(list, 30, 1, boom)
	if len(list) != 2 || list[0].off != 10 || list[0].n != 10 || list[1].off != 30 {
		t.Errorf("addBad = %+v, want 10+10 and 30+1", list)
	}
	if got, want := badSum(list).Error(), "11 bytes in 2 places cannot be read, the first at offset 10: boom"; got != want {
		t.Errorf("badSum = %q, want %q", got, want)
	}
	if got, want := badSum(list[:1]).Error(), "10 bytes at offset 10 cannot be read: boom"; got != want {
		t.Errorf("badSum = %q, want %q", got, want)
	}
}

func TestManPages(t *testing.T) {
	dir := t.TempDir() + "/man"
	a := &app{ctx: t.Context(), Streams: Streams{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}}
	root := a.root()
	if err := writeMan(dir, root); err != nil {
		t.Fatal(err)
	}
	// Requests that the pages use; anything else at the start of a line would be
	// text that roff takes for one.
	known := map[string]bool{".TH": true, ".nh": true, ".SH": true, ".TP": true, ".PP": true, ".B": true, ".BR": true, ".nf": true, ".fi": true}
	n := 0
	for _, c := range root.Commands() {
		if c.Hidden || !c.IsAvailableCommand() {
			continue
		}
		n++
		b, err := os.ReadFile(dir + "/gobcachefs-" + c.Name() + ".1")
		if err != nil {
			t.Error(err)
			continue
		}
		for line := range strings.Lines(string(b)) {
			word, _, _ := strings.Cut(strings.TrimSpace(line), " ")
			if strings.HasPrefix(line, ".") && !known[word] || strings.HasPrefix(line, "'") {
				t.Errorf("%s: line %q is taken for a request", c.Name(), line)
			}
		}
		for _, want := range []string{".SH NAME\ngobcachefs\\-" + roff(c.Name()) + " \\- ", ".SH SYNOPSIS\n.B gobcachefs " + roff(c.Name()) + "\n", ".SH DESCRIPTION\n"} {
			if !strings.Contains(string(b), want) {
				t.Errorf("page of %s: no %q", c.Name(), want)
			}
		}
	}
	if n < 9 {
		t.Errorf("pages of %d commands, want at least 9", n)
	}
	for in, want := range map[string]string{".x": `\&.x`, "'x": `\(aqx`, `a\b-c`: `a\eb\-c`} {
		if got := roff(in); got != want {
			t.Errorf("roff(%q) = %q, want %q", in, got, want)
		}
	}
}
