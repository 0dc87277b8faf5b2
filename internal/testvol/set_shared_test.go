//go:build shared

package testvol

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

func TestLoadEveryVolumeShared(t *testing.T) { checkSet(t, Full(t), 41) }

func TestManifestsRoundTripShared(t *testing.T) { roundTrip(t, Full(t), 57) }

// TestSmallIsFullShared: what testdata holds are the same volumes, to the byte.
func TestSmallIsFullShared(t *testing.T) {
	small, full := Small(t), Full(t)
	for _, name := range small.Names() {
		a, b := small.Load(t, name), full.Load(t, name)
		if len(a) != len(b) {
			t.Errorf("%s: %d members, want %d", name, len(a), len(b))
			continue
		}
		for i := range a {
			if a[i].Size() != b[i].Size() {
				t.Errorf("%s member %d: %d bytes, want %d", name, i, a[i].Size(), b[i].Size())
				continue
			}
			sameBytes(t, name, a[i], b[i], a[i].Size())
		}
		if got, want := small.Kinds(name), full.Kinds(name); !slices.Equal(got, want) {
			t.Errorf("Kinds(%s) = %v, want %v", name, got, want)
		}
		for _, kind := range full.Kinds(name) {
			if got, want := small.Text(t, name, kind), full.Text(t, name, kind); !bytes.Equal(got, want) {
				t.Errorf("Text(%s, %s) differs from the full set", name, kind)
			}
		}
	}
}

// TestOSFSIsTreePyShared: our manifest of a directory is the one of the program that
// made the manifests of the volumes.
func TestOSFSIsTreePyShared(t *testing.T) {
	tree := filepath.Join(Full(t).dir, "tree.py")
	dir := t.TempDir()
	if out, err := exec.Command("python3", tree, "write", dir, "7", "small").CombinedOutput(); err != nil {
		t.Fatalf("tree.py write: %v\n%s", err, out)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	want, err := exec.Command("python3", tree, "manifest", dir).Output()
	if err != nil {
		t.Fatalf("tree.py manifest: %v", err)
	}
	got, err := ManifestOf(t.Context(), OSFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	w, err := ReadManifest(want)
	if err != nil {
		t.Fatal(err)
	}
	Check(t, w, got, Quirks{})
	if b := WriteManifest(got); !bytes.Equal(b, want) {
		t.Error("WriteManifest differs from tree.py's text")
	}
}
