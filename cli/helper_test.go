package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gobcachefs/gobcachefs/cli"
	"github.com/gobcachefs/gobcachefs/internal/testvol"
)

// result is what a command did.
type result struct {
	code     int
	out, err string
}

// run runs a command line.
func run(args ...string) result { return runCtx(context.Background(), args...) }

func runCtx(ctx context.Context, args ...string) result {
	var out, errb bytes.Buffer
	code := cli.Run(ctx, "gobcachefs", args, cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errb})
	return result{code, out.String(), errb.String()}
}

// ok runs a command line that must succeed without a word on standard error.
func ok(t *testing.T, args ...string) string {
	t.Helper()
	r := run(args...)
	if r.code != 0 || r.err != "" {
		t.Fatalf("%q: exit code %d, want 0; stderr %q, want none", args, r.code, r.err)
	}
	return r.out
}

// parse reads a JSON document.
func parse[T any](t *testing.T, s string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		t.Fatalf("JSON %q: %v", s, err)
	}
	return v
}

// parseLines reads JSON objects, one a line.
func parseLines[T any](t *testing.T, s string) (all []T) {
	t.Helper()
	for l := range strings.Lines(s) {
		all = append(all, parse[T](t, l))
	}
	return all
}

// images unpacks each volume once for all tests that do not change it.
var images struct {
	sync.Mutex
	dir  string
	spec map[string]string
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "gobcachefs-cli-*")
	if err != nil {
		panic(err)
	}
	images.dir, images.spec = dir, map[string]string{}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// volume gives the VOLUME argument of a test volume, with what opens it before.
func volume(t *testing.T, name string) []string {
	t.Helper()
	images.Lock()
	defer images.Unlock()
	spec, have := images.spec[name]
	if !have {
		paths, err := testvol.Unpack(filepath.Join(testvol.Root(t), "testdata", "volumes"), name, images.dir)
		if err != nil {
			t.Fatal(err)
		}
		spec = strings.Join(paths, ":")
		images.spec[name] = spec
	}
	if !testvol.Encrypted(name) {
		return []string{spec}
	}
	pass := filepath.Join(images.dir, "passphrase")
	if err := os.WriteFile(pass, []byte(testvol.Passphrase+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--passphrase-file", pass, spec}
}

// on puts the command and the volume before the other arguments.
func on(t *testing.T, cmd, name string, args ...string) []string {
	t.Helper()
	return append(append([]string{cmd}, volume(t, name)...), args...)
}

// manifest is what a mount of a volume shows.
func manifest(t *testing.T, name string) []testvol.Entry {
	t.Helper()
	set := testvol.Small(t)
	for _, k := range set.Kinds(name) {
		if k == "manifest-recovered" {
			return set.Manifest(t, name, k)
		}
	}
	return set.Manifest(t, name, "manifest")
}

// find gives the entry of a path.
func find(t *testing.T, all []testvol.Entry, path string) testvol.Entry {
	t.Helper()
	for _, e := range all {
		if e.Path == path {
			return e
		}
	}
	t.Fatalf("no %s in the manifest", path)
	return testvol.Entry{}
}
