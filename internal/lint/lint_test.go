package lint

import (
	"go/ast"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestLayers(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range load(t) {
		if s.test {
			continue // tests are free, and so are packages of nothing else
		}
		l, ok := layerOf(s.pkg)
		if !ok && !seen[s.pkg] {
			t.Errorf("package %s is not in the table of layers.go: add it, with a sentence why", s.pkg)
		}
		seen[s.pkg] = true
		if !ok {
			continue
		}
		for _, imp := range s.imports {
			p, ours := ourPackage(imp)
			if ours && p != s.pkg && !slices.Contains(l.may, p) && !(servesTests(s.pkg) && servesTests(p)) {
				t.Errorf("%s imports %s: %s", s.file, p, l.why)
			}
		}
	}
	for p, l := range layers {
		if l.why == "" {
			t.Errorf("layers[%s] has no sentence why", p)
		}
	}
}

// ourPackage gives the path of a package below the module.
func ourPackage(imp string) (string, bool) {
	if imp == module {
		return ".", true
	}
	return strings.CutPrefix(imp, module+"/")
}

func TestTestSupportStaysInTests(t *testing.T) {
	for _, s := range load(t) {
		if s.inTestOnly() {
			continue
		}
		for _, imp := range s.imports {
			if p, ours := ourPackage(imp); (ours && servesTests(p)) || imp == "testing" {
				t.Errorf("%s imports %s, which only tests may", s.file, imp)
			}
		}
	}
}

// unsafeFor names the files that may import unsafe, and what for.
var unsafeFor = map[string]string{
	"block/os_linux.go":   "ioctl with a pointer to its answer",
	"block/os_freebsd.go": "ioctl with a pointer to its answer",
}

func TestNoCgoNoUnsafe(t *testing.T) {
	stale := maps.Clone(unsafeFor)
	for _, s := range load(t) {
		if slices.Contains(s.imports, "unsafe") {
			delete(stale, s.file)
		}
		if slices.Contains(s.imports, "C") {
			t.Errorf("%s imports C: the program is pure Go", s.file)
		}
		if slices.Contains(s.imports, "unsafe") && unsafeFor[s.file] == "" {
			t.Errorf("%s imports unsafe: bytes become values by encoding/binary; only system calls need it (lint_test.go, unsafeFor)", s.file)
		}
	}
	for f := range stale {
		t.Errorf("unsafeFor names %s, which does not import unsafe", f)
	}
}

// calls visits every call of a function or method by a plain or qualified name.
func (s source) calls(visit func(c *ast.CallExpr, qualifier, name string)) {
	ast.Inspect(s.ast, func(n ast.Node) bool {
		c, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		switch f := c.Fun.(type) {
		case *ast.Ident:
			visit(c, "", f.Name)
		case *ast.SelectorExpr:
			if x, ok := f.X.(*ast.Ident); ok {
				visit(c, x.Name, f.Sel.Name)
			}
		}
		return true
	})
}

func TestNoPanics(t *testing.T) {
	for _, s := range load(t) {
		if s.inTestOnly() {
			continue
		}
		s.calls(func(c *ast.CallExpr, q, name string) {
			at := fset.Position(c.Pos())
			switch {
			case q == "" && name == "panic" && !s.marked(c.Pos(), "invariant:"):
				t.Errorf("%s:%d: panic without a comment `// invariant: why it cannot happen`; no input may panic", s.file, at.Line)
			case q == "log" && strings.HasPrefix(name, "Fatal"), q == "log" && strings.HasPrefix(name, "Panic"):
				t.Errorf("%s:%d: log.%s: return an error", s.file, at.Line, name)
			case q == "os" && name == "Exit" && s.ast.Name.Name != "main":
				t.Errorf("%s:%d: os.Exit outside of main: return the exit code", s.file, at.Line)
			}
		})
	}
}

func TestTestsNeitherSkipNorSleep(t *testing.T) {
	for _, s := range load(t) {
		if !s.inTestOnly() {
			continue
		}
		s.calls(func(c *ast.CallExpr, q, name string) {
			at := fset.Position(c.Pos())
			switch {
			case slices.Contains([]string{"t", "b", "f", "tb"}, q) && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, name):
				t.Errorf("%s:%d: %s.%s: a test whose needs are missing has a build tag, and fails", s.file, at.Line, q, name)
			case q == "testing" && name == "Short":
				t.Errorf("%s:%d: testing.Short: long tests are make targets", s.file, at.Line)
			case q == "time" && name == "Sleep" && !s.marked(c.Pos(), "polls:"):
				t.Errorf("%s:%d: time.Sleep in a test: wait for a signal, or say `// polls: what, up to when`", s.file, at.Line)
			}
		})
	}
}

// TestFileLength: files are read as a whole by people: 700 lines, and 1000 for
// tables of tests.
func TestFileLength(t *testing.T) {
	for _, s := range load(t) {
		limit := 700
		if s.test {
			limit = 1000
		}
		if s.lines > limit && !s.made {
			t.Errorf("%s has %d lines, want at most %d: would two files be easier to live in?", s.file, s.lines, limit)
		}
	}
}

func TestPackageNames(t *testing.T) {
	for _, s := range load(t) {
		switch n := s.ast.Name.Name; n {
		case "util", "utils", "common", "helpers", "helper", "types", "manager", "misc":
			t.Errorf("%s: package %s says nothing about what it is for", s.file, n)
		}
	}
}

func TestPackageComments(t *testing.T) {
	documented := map[string]bool{}
	for _, s := range load(t) {
		if s.test {
			continue
		}
		documented[s.pkg] = documented[s.pkg] || s.ast.Doc.Text() != ""
	}
	for p, ok := range documented {
		if !ok {
			t.Errorf("package %s has no package comment: what it is for, where it sits", p)
		}
	}
}

// machinePath is a path of somebody's machine.
var machinePath = regexp.MustCompile(`(^|[^\w.])/(work|root|home|Users)/\w`)

// beside are the files that may name ../shared, which CI and tests with tags use.
var beside = []string{
	".ci/run", "Makefile", "docs/testing.md", "internal/lint/lint_test.go", "internal/oracle", "internal/testvol", "bench",
}

func TestNoMachinePaths(t *testing.T) {
	text := []string{".go", ".md", ".txt", ".sh", ".txtar", ".yml", ".mod", ".service"}
	names := []string{"Makefile", "run", "LICENSE"}
	n := 0
	err := walk(func(file string) error {
		if !slices.Contains(text, filepath.Ext(file)) && !slices.Contains(names, filepath.Base(file)) {
			return nil
		}
		if strings.HasPrefix(file, "docs/format/") {
			return nil // /home as an example of a user's path
		}
		b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(file)))
		if err != nil {
			return err
		}
		n++
		for i, line := range strings.Split(string(b), "\n") {
			if machinePath.MatchString(line) && file != "internal/lint/lint_test.go" {
				t.Errorf("%s:%d: a machine's path: %s", file, i+1, strings.TrimSpace(line))
			}
			if strings.Contains(line, "../shared") && !slices.ContainsFunc(beside, func(p string) bool { return file == p || strings.HasPrefix(file, p+"/") }) {
				t.Errorf("%s:%d: names ../shared; only %v may", file, i+1, beside)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n < 50 {
		t.Errorf("%d text files read, want the whole repository", n)
	}
}

// TestRulesBite runs the rules that look at single files on files that break them.
func TestRulesBite(t *testing.T) {
	for _, c := range []struct {
		line string
		want bool
	}{
		{"see /work/x", true}, {"cd /root/go", true}, {`"/home/me"`, true}, {"http://h/work/x", false},
		{"ls a.img /docs", false}, {"/work", false}, {"a/work/b", false},
	} {
		if got := machinePath.MatchString(c.line); got != c.want {
			t.Errorf("machinePath.MatchString(%q) = %v, want %v", c.line, got, c.want)
		}
	}
	up := layers["internal/btree"].may
	for _, p := range []string{"internal/journal", "internal/members", "ondisk", "errs", "internal/csum"} {
		if !slices.Contains(up, p) {
			t.Errorf("btree may not import %s, want it allowed", p)
		}
	}
	for _, p := range []string{"internal/engine", "internal/data", "internal/snapshots", "internal/btree", ".", "cli"} {
		if slices.Contains(up, p) {
			t.Errorf("btree may import %s, want it forbidden", p)
		}
	}
	if slices.Contains(layers["cli"].may, "internal/engine") || slices.Contains(layers["serve/fuse"].may, "internal/objects") {
		t.Error("a front end may import the engine, want it forbidden")
	}
}
