package cli

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/gobcachefs/gobcachefs/errs"
)

// keyrings by the names of unlock -k.
var keyrings = map[string]int{
	"session":      unix.KEY_SPEC_SESSION_KEYRING,
	"user":         unix.KEY_SPEC_USER_KEYRING,
	"user_session": unix.KEY_SPEC_USER_SESSION_KEYRING,
}

func keyName(uuid string) string { return "bcachefs:" + uuid }

// keyringKey finds the key that unlock (ours or the real one) left in the
// kernel's keyrings: type "user", name bcachefs:UUID. (nil, nil) means that
// there is none.
func keyringKey(_ context.Context, uuid string) ([]byte, error) {
	// A key of the user keyring may only be read by those who possess it, and
	// a session that does not link that keyring does not. Finding the key links
	// it to the keyring of this thread, which makes it ours.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, ring := range []int{unix.KEY_SPEC_SESSION_KEYRING, unix.KEY_SPEC_USER_KEYRING, unix.KEY_SPEC_USER_SESSION_KEYRING} {
		id, err := unix.KeyctlSearch(ring, "user", keyName(uuid), unix.KEY_SPEC_THREAD_KEYRING)
		if err != nil {
			continue
		}
		buf := make([]byte, 64)
		n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, id, buf, 0)
		_, _ = unix.KeyctlInt(unix.KEYCTL_UNLINK, id, unix.KEY_SPEC_THREAD_KEYRING, 0, 0)
		if err == nil && n <= len(buf) {
			return buf[:n], nil
		}
	}
	return nil, nil
}

// storeKey puts a key where keyringKey finds it.
func storeKey(ring, uuid string, key []byte) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Where no login made a session keyring, adding to "the session keyring"
	// would make one that ends with this thread. Its number, asked for first, is
	// that of the user's then.
	id, err := unix.KeyctlGetKeyringID(keyrings[ring], false)
	if err == nil {
		id, err = unix.AddKey("user", keyName(uuid), key, id)
	}
	switch {
	case errors.Is(err, unix.ENOSYS):
		return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUnsupported, Reason: "this kernel has no keyrings: give --passphrase-file to each command"}
	case err != nil:
		return fmt.Errorf("%s keyring: %w", ring, err)
	}
	// All processes of the user, not only those of this session, may use it.
	if ring != "session" {
		const userAll = 0x3f3f0000
		_ = unix.KeyctlSetperm(id, userAll)
	}
	return nil
}
