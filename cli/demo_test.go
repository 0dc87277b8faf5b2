package cli_test

import (
	"strings"
	"testing"
)

// TestDemo: what the demo compares is there, with or without a mount.
func TestDemo(t *testing.T) {
	r := run("demo")
	if r.code != 0 {
		t.Fatalf("exit code %d: %s", r.code, r.err)
	}
	for _, want := range []string{
		"ok  -rw-r--r--   1048576", "Linux", "ok  docs/text is as it was when synced", "not shut down properly",
		`vol/names2/bad\xff\xfeutf8`, "-> docs/f11_1_12345", "ok  recovered", "ok  checked: clean",
	} {
		if !strings.Contains(r.out, want) {
			t.Errorf("no %q in:\n%s", want, r.out)
		}
	}
	if n := strings.Count(r.out, "\nok  "); n < 25 {
		t.Errorf("%d things compared", n)
	}
}
