package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/gobcachefs/gobcachefs/errs"
)

// booted exists where systemd runs the system.
var booted = "/run/systemd/system"

// ask asks for a passphrase where f.passphrase does and, if there is no terminal,
// through the password agents of systemd: on the boot screen, for a volume of
// /etc/fstab.
func (f *volumeFlags) ask(a *app) func(context.Context, string) ([]byte, error) {
	return func(ctx context.Context, uuid string) ([]byte, error) {
		p, err := f.passphrase(a)(ctx, uuid)
		if !errors.Is(err, errs.ErrLocked) {
			return p, err
		}
		if _, no := os.Stat(booted); no != nil {
			return nil, err
		}
		exe, no := exec.LookPath("systemd-ask-password")
		if no != nil {
			return nil, err
		}
		var out bytes.Buffer
		cmd := exec.CommandContext(ctx, exe, "--id=gobcachefs:"+uuid, "--icon=drive-harddisk", "Passphrase for bcachefs volume "+uuid+":")
		cmd.Stdout, cmd.Stderr = &out, a.Err
		if no := cmd.Run(); no != nil {
			return nil, fmt.Errorf("%w (%s: %w)", err, "systemd-ask-password", no)
		}
		return firstLine(&out)
	}
}
