//go:build unix

package cli

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gobcachefs/gobcachefs/errs"
)

// TestAskAgent asks through a program in place of systemd-ask-password.
func TestAskAgent(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	defer func(old string) { booted = old }(booted)
	f := &volumeFlags{}
	ask := func() (string, error) {
		a := &app{ctx: t.Context(), Streams: Streams{In: strings.NewReader(""), Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}}
		p, err := f.ask(a)(t.Context(), "1234")
		return string(p), err
	}
	agent := func(script string) {
		if err := os.WriteFile(filepath.Join(dir, "systemd-ask-password"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	agent(`echo "secret of $*"`)
	booted = filepath.Join(dir, "no such file")
	if p, err := ask(); !errors.Is(err, errs.ErrLocked) {
		t.Errorf("without systemd: %q, %v, want ErrLocked", p, err)
	}
	booted = dir
	if p, err := ask(); err != nil || !strings.HasPrefix(p, "secret of ") || !strings.Contains(p, "1234") {
		t.Errorf("with an agent: %q, %v, want the secret, asked for with the uuid", p, err)
	}
	agent("exit 1")
	if p, err := ask(); !errors.Is(err, errs.ErrLocked) || !strings.Contains(err.Error(), "systemd-ask-password") {
		t.Errorf("with an agent that fails: %q, %v, want ErrLocked and its name", p, err)
	}
	f.passphraseFile = filepath.Join(dir, "none")
	if p, err := ask(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("with --passphrase-file: %q, %v, want its error, and no agent", p, err)
	}
}
