package lint

import (
	"go/ast"
	"go/build/constraint"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// tagSuffix is how the tests that need a build tag are named, so that the make
// target of the tag runs them and nothing else; of several tags the first counts.
var tagSuffix = []struct{ tag, suffix string }{{"oracle", "Oracle"}, {"shared", "Shared"}, {"fuse", "FUSE"}}

// buildTags lists the words of the file's build constraint.
func (s source) buildTags(t *testing.T) (tags []string) {
	t.Helper()
	for _, g := range s.ast.Comments {
		for _, c := range g.List {
			if !constraint.IsGoBuild(c.Text) || c.Pos() > s.ast.Package {
				continue
			}
			x, err := constraint.Parse(c.Text)
			if err != nil {
				t.Errorf("%s: %v", s.file, err)
				continue
			}
			x.Eval(func(tag string) bool { tags = append(tags, tag); return true })
		}
	}
	return tags
}

func TestTagsAndNames(t *testing.T) {
	count := map[string]int{}
	for _, s := range load(t) {
		if !s.test {
			continue
		}
		tags := s.buildTags(t)
		want := ""
		for _, x := range tagSuffix {
			if want == "" && slices.Contains(tags, x.tag) {
				want = x.suffix
			}
		}
		for _, d := range s.ast.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !isTest(f.Name.Name) {
				continue
			}
			count[want]++
			if want != "" && !strings.HasSuffix(f.Name.Name, want) {
				t.Errorf("%s: %s needs the tag of its file, so its name must end in %s for make and CI to run it", s.file, f.Name.Name, want)
			}
			for _, x := range tagSuffix {
				if want == "" && strings.HasSuffix(f.Name.Name, x.suffix) {
					t.Errorf("%s: %s ends in %s, but its file has no build tag %s", s.file, f.Name.Name, x.suffix, x.tag)
				}
			}
		}
	}
	for _, suffix := range []string{"", "FUSE", "Shared", "Oracle"} {
		if count[suffix] == 0 {
			t.Errorf("no test whose name ends in %q: its make target would pass without running one", suffix)
		}
	}
}

func isTest(name string) bool {
	rest, ok := strings.CutPrefix(name, "Test")
	return ok && name != "TestMain" && (rest == "" || !token.IsIdentifier(rest) || token.IsExported(rest))
}
