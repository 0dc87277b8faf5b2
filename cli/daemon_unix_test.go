//go:build unix

package cli

import (
	"slices"
	"testing"
)

// TestChildArgs: the daemon gets all that was said, and no secret.
func TestChildArgs(t *testing.T) {
	m := &mountCmd{f: volumeFlags{options: []string{"degraded,cache=1G", "ro"}, passphraseFile: "/secret", overlay: "changes"}, spec: []string{"-odd:b"}, dir: "/mnt", verbose: true, keyMode: "wait"}
	got := m.childArgs()
	want := []string{"mount", "--daemon-child", "-o", "degraded,cache=1G", "-o", "ro", "-v", "-k", "wait", "--overlay=changes", "--", "-odd:b", "/mnt"}
	if !slices.Equal(got, want) {
		t.Errorf("childArgs() = %q, want %q", got, want)
	}
	m.f.devices = []string{"a", "b"}
	m.spec = m.f.devices
	if got := m.childArgs(); !slices.Equal(got[len(got)-4:], []string{"--device=a", "--device=b", "--", "/mnt"}) {
		t.Errorf("childArgs() with --device = %q, want it to end with them", got)
	}
}
