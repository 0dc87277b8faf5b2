package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/errs"
)

func init() { commands = append(commands, newUnlockCmd) }

// unlockJSON is the document of unlock -c --json.
type unlockJSON struct {
	Schema    int    `json:"schema"`
	UUID      string `json:"uuid"`
	Encrypted bool   `json:"encrypted"`
	Unlocked  bool   `json:"unlocked"`
}

func newUnlockCmd(a *app) *cobra.Command {
	var f volumeFlags
	var check bool
	var ring string
	cmd := &cobra.Command{
		Use:   "unlock [-c] [-k KEYRING] [-f FILE] VOLUME",
		Short: "Put the key of an encrypted volume into the kernel's keyring",
		Long: `Ask for the passphrase of an encrypted volume and put the key that it gives into
the kernel's keyring, where mount and the other commands (and the real tools)
find it. With -c only say whether the volume is encrypted, and whether the key is
there.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			spec, err := f.all(args)
			if err != nil {
				return err
			}
			if _, ok := keyrings[ring]; !ok {
				return usageErr("-k: invalid selection: choose session, user, user_session")
			}
			return a.unlock(&f, spec, check, ring)
		},
	}
	fl := cmd.Flags()
	fl.StringArrayVar(&f.devices, "device", nil, "a member `DEVICE` of the volume; repeat for each")
	fl.StringVarP(&f.passphraseFile, "file", "f", "", "read the passphrase from a `FILE` (first line); - for standard input")
	fl.StringVar(&f.passphraseFile, "passphrase-file", "", "the same")
	fl.BoolVarP(&check, "check", "c", false, "only say whether the volume is encrypted and unlocked")
	fl.StringVarP(&ring, "keyring", "k", "user", "`KEYRING` to use: session, user, user_session")
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) unlock(f *volumeFlags, spec []string, check bool, ring string) error {
	rs, err := devicesOf(a.ctx, spec, block.Options{})
	if err != nil {
		return err
	}
	defer func() {
		for _, r := range rs {
			_ = r.Close()
		}
	}()
	sb, err := bcachefs.NewestSuperblock(a.ctx, rs)
	if err != nil {
		return err
	}
	locked, err := bcachefs.NeedsPassphrase(sb)
	if err != nil {
		return err
	}
	uuid := sb.UserUUID.String()
	have := false
	if locked {
		k, err := keyringKey(a.ctx, uuid)
		if err != nil {
			return err
		}
		have = k != nil
	}
	switch {
	case check && a.json:
		if err := a.writeJSON(unlockJSON{1, uuid, locked, have}); err != nil {
			return err
		}
		if !locked {
			return errFailed
		}
		return nil
	case !locked && check:
		fmt.Fprintln(a.Out, "Device has no encryption")
		return errFailed
	case !locked:
		//lint:ignore ST1005 the text of the real tools
		return errors.New("Device has no encryption")
	case check && have:
		fmt.Fprintln(a.Out, "Device is encrypted and unlocked")
		return nil
	case check:
		fmt.Fprintln(a.Out, "Device is encrypted and locked")
		return nil
	}
	for try := 1; ; try++ {
		p, err := f.ask(a)(a.ctx, uuid)
		if err != nil {
			return err
		}
		key, err := bcachefs.DeriveKey(sb, p)
		if errors.Is(err, errs.ErrPassphrase) && f.passphraseFile == "" && try < tries {
			fmt.Fprintln(a.Err, "gobcachefs: incorrect passphrase")
			continue
		}
		if err != nil {
			return err
		}
		return storeKey(ring, uuid, key)
	}
}
