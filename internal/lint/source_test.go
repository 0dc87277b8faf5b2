package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/gobcachefs/gobcachefs"

// source is one parsed Go file of the repository.
type source struct {
	file    string // relative to the repository, with slashes
	pkg     string // its folder; "." the root
	test    bool
	made    bool // generated
	lines   int
	ast     *ast.File
	imports []string
	comment map[int]string // line to the text of the comments on it
}

const root = "../.."

var fset = token.NewFileSet()

// sources parses every Go file, once.
var sources = sync.OnceValues(func() ([]source, error) {
	var all []source
	err := walk(func(file string) error {
		if !strings.HasSuffix(file, ".go") {
			return nil
		}
		b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(file)))
		if err != nil {
			return err
		}
		a, err := parser.ParseFile(fset, file, b, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		s := source{
			file: file, pkg: filepath.ToSlash(filepath.Dir(file)), test: strings.HasSuffix(file, "_test.go"),
			made: ast.IsGenerated(a), lines: strings.Count(string(b), "\n"), ast: a, comment: map[int]string{},
		}
		for _, i := range a.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			s.imports = append(s.imports, p)
		}
		for _, g := range a.Comments {
			for _, c := range g.List {
				s.comment[fset.Position(c.Pos()).Line] += c.Text
			}
		}
		all = append(all, s)
		return nil
	})
	return all, err
})

// walk visits every file of the repository that belongs to the project.
func walk(visit func(file string) error) error {
	return filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if d.Name() == "testdata" || d.Name() == ".git" {
				return fs.SkipDir
			}
			if _, err := os.Stat(filepath.Join(p, "go.mod")); err == nil && rel != "." {
				return fs.SkipDir // a module of its own: a generator
			}
			return nil
		}
		return visit(rel)
	})
}

func load(t *testing.T) []source {
	t.Helper()
	all, err := sources()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 50 {
		t.Fatalf("%d Go files found, want the whole repository", len(all))
	}
	return all
}

// inTestOnly reports whether the file serves tests.
func (s source) inTestOnly() bool { return s.test || servesTests(s.pkg) }

// marked reports whether a comment with the word stands on the line of pos or
// on the one above.
func (s source) marked(pos token.Pos, word string) bool {
	line := fset.Position(pos).Line
	return strings.Contains(s.comment[line], word) || strings.Contains(s.comment[line-1], word)
}
