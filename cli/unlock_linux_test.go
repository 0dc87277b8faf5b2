package cli_test

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestUnlock puts the key into each keyring, and opens the volume with it.
func TestUnlock(t *testing.T) {
	args := volume(t, "enczstdwide")
	img := args[len(args)-1]
	drop := func() {
		for _, ring := range []int{unix.KEY_SPEC_SESSION_KEYRING, unix.KEY_SPEC_USER_KEYRING, unix.KEY_SPEC_USER_SESSION_KEYRING} {
			if id, err := unix.KeyctlSearch(ring, "user", keyOf(t, img), 0); err == nil {
				_, _ = unix.KeyctlInt(unix.KEYCTL_INVALIDATE, id, 0, 0, 0)
			}
		}
	}
	drop()
	t.Cleanup(drop)
	for _, ring := range []string{"session", "user", "user_session"} {
		if out := ok(t, "unlock", "-c", img); out != "Device is encrypted and locked\n" {
			t.Errorf("unlock -c before unlock = %q, want locked", out)
		}
		ok(t, append(append([]string{"unlock", "-k", ring}, args[:2]...), img)...)
		if out := ok(t, "unlock", "-c", img); out != "Device is encrypted and unlocked\n" {
			t.Errorf("unlock -c after unlock -k %s = %q, want unlocked", ring, out)
		}
		ok(t, "ls", img, "/")
		ok(t, "mount", "-f", "-k", "fail", img, t.TempDir())
		ok(t, "mount", "-f", "-k", "wait", img, t.TempDir())
		drop()
	}
}

// TestUnlockStaleKey: a key in the keyring that does not fit is said to be so,
// and the passphrase opens the volume.
func TestUnlockStaleKey(t *testing.T) {
	args := volume(t, "enczstdwide")
	img := args[len(args)-1]
	id, err := unix.AddKey("user", keyOf(t, img), make([]byte, 32), unix.KEY_SPEC_SESSION_KEYRING)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.KeyctlInt(unix.KEYCTL_INVALIDATE, id, 0, 0, 0) })
	r := run(append(append([]string{"mount", "-f"}, args...), t.TempDir())...)
	if r.code != 0 || !strings.Contains(r.err, "keyring") {
		t.Errorf("mount with a stale key and a passphrase: exit code %d, stderr %q, want 0 and a warning", r.code, r.err)
	}
}

// keyOf is the name of the key of a volume.
func keyOf(t *testing.T, img string) string {
	t.Helper()
	type document struct{ UUID string }
	return "bcachefs:" + parse[document](t, run("unlock", "-c", "--json", img).out).UUID
}
