//go:build !linux

package cli

import (
	"context"
	"runtime"

	"github.com/gobcachefs/gobcachefs/errs"
)

var keyrings = map[string]int{"session": 0, "user": 0, "user_session": 0}

// keyringKey finds a key that unlock left; there is no keyring here.
func keyringKey(context.Context, string) ([]byte, error) { return nil, nil }

func storeKey(string, string, []byte) error {
	return &errs.Error{Where: errs.Nowhere, Kind: errs.ErrUnsupported, Reason: "no kernel keyring on " + runtime.GOOS + ": give --passphrase-file to each command"}
}
