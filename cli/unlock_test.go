package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnlockRefuses: what does not reach the keyring.
func TestUnlockRefuses(t *testing.T) {
	args := volume(t, "enczstdwide")
	img := args[len(args)-1]
	plain := volume(t, "plain")[0]
	wrong := filepath.Join(t.TempDir(), "wrong")
	if err := os.WriteFile(wrong, []byte("incorrect horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		text string
	}{
		{nil, 2, "VOLUME is missing"},
		{[]string{"-k", "pocket", img}, 2, "choose session, user, user_session"},
		{[]string{img + ".none"}, 1, "none"},
		{[]string{wrong}, 1, "no bcachefs superblock"},
		{[]string{plain}, 1, "Device has no encryption"},
		{[]string{"-f", wrong, img}, 1, "incorrect passphrase"},
		{[]string{img}, 1, "encrypted"},
	} {
		r := run(append([]string{"unlock"}, c.args...)...)
		if r.code != c.code || !strings.Contains(r.err, c.text) || r.out != "" {
			t.Errorf("unlock %q: exit code %d, stdout %q, stderr %q, want %d, nothing and %q", c.args, r.code, r.out, r.err, c.code, c.text)
		}
	}
	if r := run("unlock", "-c", plain); r.code != 1 || r.out != "Device has no encryption\n" {
		t.Errorf("unlock -c of a plain volume: exit code %d, stdout %q, want 1, Device has no encryption", r.code, r.out)
	}
	type document struct {
		Schema              int
		UUID                string
		Encrypted, Unlocked bool
	}
	r := run("unlock", "-c", "--json", plain)
	if d := parse[document](t, r.out); r.code != 1 || d.Schema != 1 || d.UUID == "" || d.Encrypted || d.Unlocked {
		t.Errorf("unlock -c --json of a plain volume = %d, %+v, want 1, not encrypted", r.code, d)
	}
}
