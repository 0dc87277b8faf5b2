package lint

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// dependency is a line of docs/dependencies.txt.
type dependency struct {
	module, license, reason string
	by                      []string
	tests, indirect, any    bool
}

func readDependencies(t *testing.T) map[string]dependency {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, "docs", "dependencies.txt"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]dependency{}
	for i, line := range strings.Split(string(b), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(line, " | ")
		if len(f) != 4 || slices.Contains(f, "") {
			t.Errorf("dependencies.txt:%d: %d fields, want module | license | imported by | reason", i+1, len(f))
			continue
		}
		d := dependency{module: f[0], license: f[1], reason: f[3]}
		for _, p := range strings.Fields(f[2]) {
			switch p {
			case "tests":
				d.tests = true
			case "-":
				d.indirect = true
			case "any":
				d.any = true
			default:
				d.by = append(d.by, p)
			}
		}
		if _, twice := all[d.module]; twice {
			t.Errorf("dependencies.txt:%d: %s twice", i+1, d.module)
		}
		all[d.module] = d
	}
	return all
}

// requirements are the modules of go.mod.
func requirements(t *testing.T) []string {
	t.Helper()
	cmd := exec.Command("go", "mod", "edit", "-json")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go mod edit -json: %v", err)
	}
	var mod struct {
		Require []struct{ Path string }
		Replace []any
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	if len(mod.Replace) > 0 {
		t.Errorf("go.mod replaces modules: %v; others who import this one would not see that", mod.Replace)
	}
	var all []string
	for _, r := range mod.Require {
		all = append(all, r.Path)
	}
	return all
}

func TestDependenciesAreListed(t *testing.T) {
	deps, need := readDependencies(t), requirements(t)
	for _, m := range need {
		if _, ok := deps[m]; !ok {
			t.Errorf("go.mod requires %s, which docs/dependencies.txt does not list: why is it needed?", m)
		}
	}
	for m := range deps {
		if !slices.Contains(need, m) {
			t.Errorf("docs/dependencies.txt lists %s, which go.mod does not require", m)
		}
	}
}

func TestDependenciesAreUsedAsListed(t *testing.T) {
	deps := readDependencies(t)
	for _, s := range load(t) {
		for _, imp := range s.imports {
			m := moduleOf(imp, deps)
			if m == "" {
				if _, ours := ourPackage(imp); !ours && strings.Contains(strings.Split(imp, "/")[0], ".") {
					t.Errorf("%s imports %s, of no module in docs/dependencies.txt", s.file, imp)
				}
				continue
			}
			d := deps[m]
			if !d.any && !slices.Contains(d.by, s.pkg) && !(d.tests && s.test) {
				t.Errorf("%s imports %s; docs/dependencies.txt allows it to %v (tests: %v)", s.file, imp, d.by, d.tests)
			}
		}
	}
	for m, d := range deps {
		if strings.HasPrefix(d.license, "MPL") && (d.any || len(d.by) > 0) {
			t.Errorf("%s is under %s and imported by %v, want tests only", m, d.license, d.by)
		}
		if d.indirect && (d.tests || len(d.by) > 0) {
			t.Errorf("%s is both needed by another module and imported by %v", m, d.by)
		}
	}
}

func moduleOf(imp string, deps map[string]dependency) string {
	for m := range deps {
		if imp == m || strings.HasPrefix(imp, m+"/") {
			return m
		}
	}
	return ""
}

// TestProgramIsPureGo lists everything that the program links on this system.
func TestProgramIsPureGo(t *testing.T) {
	deps := readDependencies(t)
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Standard,CgoFiles,Module", "./cmd/gobcachefs")
	cmd.Dir = root
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list -deps: %v\n%s", err, &stderr)
	}
	d := json.NewDecoder(strings.NewReader(string(out)))
	n := 0
	for d.More() {
		var p struct {
			ImportPath string
			Standard   bool
			CgoFiles   []string
			Module     *struct{ Path string }
		}
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		n++
		if p.Standard {
			continue
		}
		if len(p.CgoFiles) > 0 {
			t.Errorf("%s has cgo files %v: the program is pure Go", p.ImportPath, p.CgoFiles)
		}
		if p.Module == nil || p.Module.Path == module {
			continue
		}
		dep, ok := deps[p.Module.Path]
		if !ok {
			t.Errorf("the program links %s of %s, which docs/dependencies.txt does not list", p.ImportPath, p.Module.Path)
		} else if !dep.indirect && !dep.any && len(dep.by) == 0 {
			t.Errorf("the program links %s of %s, which is for tests only", p.ImportPath, p.Module.Path)
		}
	}
	if n < 20 {
		t.Errorf("go list -deps names %d packages, want the whole program", n)
	}
}
