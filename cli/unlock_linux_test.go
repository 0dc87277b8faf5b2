package cli_test

import (
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/gobcachefs/gobcachefs/internal/testvol"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// renamedVolume unpacks an encrypted volume and gives it an external uuid of its
// own, since keyrings belong to the user and not to a test. It returns the
// image, the flags that open it, and the name of its key, which is dropped when
// the test ends.
func renamedVolume(t *testing.T) (img string, flags []string, key string) {
	t.Helper()
	flags = volume(t, "enczstdwide")[:2]
	img = testvol.Paths(t, "enczstdwide")[0]
	f, err := os.OpenFile(img, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	at := func(sector uint64) *ondisk.Superblock {
		head := make([]byte, ondisk.SBFixedSize)
		if _, err := f.ReadAt(head, int64(sector)*512); err != nil {
			t.Fatal(err)
		}
		n, err := ondisk.SuperblockBytes(head)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, n)
		if _, err := f.ReadAt(b, int64(sector)*512); err != nil {
			t.Fatal(err)
		}
		sb, err := ondisk.DecodeSuperblock(b)
		if err != nil {
			t.Fatal(err)
		}
		return sb
	}
	id := uuid.New()
	for _, sector := range at(8).Layout.Offsets {
		sb := at(sector)
		sb.UserUUID = ondisk.UUID(id)
		if _, err := f.WriteAt(sb.Append(nil), int64(sector)*512); err != nil {
			t.Fatal(err)
		}
	}
	key = "bcachefs:" + id.String()
	t.Cleanup(func() { dropKey(key) })
	return img, flags, key
}

// dropKey takes a key out of every keyring.
func dropKey(name string) {
	for _, ring := range []int{unix.KEY_SPEC_SESSION_KEYRING, unix.KEY_SPEC_USER_KEYRING, unix.KEY_SPEC_USER_SESSION_KEYRING} {
		if id, err := unix.KeyctlSearch(ring, "user", name, 0); err == nil {
			_, _ = unix.KeyctlInt(unix.KEYCTL_INVALIDATE, id, 0, 0, 0)
		}
	}
}

// TestUnlock puts the key into each keyring, and opens the volume with it.
func TestUnlock(t *testing.T) {
	img, flags, key := renamedVolume(t)
	for _, ring := range []string{"session", "user", "user_session"} {
		if out := ok(t, "unlock", "-c", img); out != "Device is encrypted and locked\n" {
			t.Errorf("unlock -c before unlock = %q, want locked", out)
		}
		ok(t, append(append([]string{"unlock", "-k", ring}, flags...), img)...)
		if out := ok(t, "unlock", "-c", img); out != "Device is encrypted and unlocked\n" {
			t.Errorf("unlock -c after unlock -k %s = %q, want unlocked", ring, out)
		}
		ok(t, "ls", img, "/")
		ok(t, "mount", "-f", "-k", "fail", img, t.TempDir())
		ok(t, "mount", "-f", "-k", "wait", img, t.TempDir())
		dropKey(key)
	}
}

// TestUnlockStaleKey: a key in the keyring that does not fit is said to be so,
// and the passphrase opens the volume.
func TestUnlockStaleKey(t *testing.T) {
	img, flags, key := renamedVolume(t)
	if _, err := unix.AddKey("user", key, make([]byte, 32), unix.KEY_SPEC_USER_KEYRING); err != nil {
		t.Fatal(err)
	}
	r := run(append(append([]string{"mount", "-f"}, flags...), img, t.TempDir())...)
	if r.code != 0 || !strings.Contains(r.err, "keyring") {
		t.Errorf("mount with a stale key and a passphrase: exit code %d, stderr %q, want 0 and a warning", r.code, r.err)
	}
	if r := run("mount", "-f", "-k", "fail", img, t.TempDir()); r.code != 1 {
		t.Errorf("mount with a stale key and no passphrase: exit code %d, stderr %q, want 1", r.code, r.err)
	}
}
