// Package cli is the command line: one file a command, each a thin translation
// to package bcachefs. It knows text, JSON and exit codes, and nothing of the
// engine. Names, arguments, texts and codes are those of docs/format/08.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/gobcachefs/gobcachefs/errs"
)

// Exit codes (chapter 08 section 5.3).
const (
	ExitOK          = 0
	ExitFailed      = 1 // also: done, but something could not be read
	ExitUsage       = 2
	ExitInterrupted = 130
)

// Streams are where a command reads and writes.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// app is one run of the program.
type app struct {
	ctx context.Context
	Streams
	json bool // --json of the running command
	// jsonOut is where JSON goes; nil is Out.
	jsonOut io.Writer
}

// commands make the command tree; each file of this package adds its own here.
var commands []func(*app) *cobra.Command

// exitError carries an exit code. With a nil err nothing is printed.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usageErr is bad usage: exit code 2.
func usageErr(format string, a ...any) error {
	return &exitError{ExitUsage, fmt.Errorf(format, a...)}
}

// failed makes the program exit 1 after everything was already reported.
var errFailed = &exitError{code: ExitFailed}

// Run runs a command line without the program name and returns the exit code.
// argv0 chooses the command for links such as mount.bcachefs.
func Run(ctx context.Context, argv0 string, args []string, s Streams) int {
	s.Err = &lineWriter{w: s.Err, terminal: isTerminal(s.Err)}
	a := &app{ctx: ctx, Streams: s}
	if sub := byProgramName(argv0); sub != "" {
		args = append([]string{sub}, args...)
	}
	root := a.root()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	return a.finish(cmd, err)
}

// byProgramName gives the command that a link to the program stands for.
func byProgramName(argv0 string) string {
	switch base := strings.TrimSuffix(filepath.Base(argv0), ".exe"); {
	case strings.Contains(base, "mkfs"):
		return "format"
	case strings.Contains(base, "fsck"):
		return "fsck"
	case strings.Contains(base, "mount.fuse") || strings.HasPrefix(base, "mount."):
		return "mount.bcachefs"
	}
	return ""
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "gobcachefs",
		Short:         "bcachefs volumes in user space",
		Long:          "gobcachefs reads bcachefs volumes (image files and block devices) without kernel support.",
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageErr("unknown command %q; see gobcachefs --help", args[0])
			}
			_ = cmd.Usage()
			return usageErr("missing command")
		},
		Args: cobra.ArbitraryArgs,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exitError{ExitUsage, err} })
	for _, f := range commands {
		root.AddCommand(f(a))
	}
	return root
}

// finish prints what went wrong and decides the exit code.
func (a *app) finish(cmd *cobra.Command, err error) int {
	if err == nil {
		return ExitOK
	}
	code := ExitFailed
	var ee *exitError
	switch {
	case a.ctx.Err() != nil && errors.Is(err, context.Canceled):
		code, err = ExitInterrupted, errors.New("interrupted")
	case errors.As(err, &ee):
		code, err = ee.code, ee.err
	case errors.Is(err, errs.ErrUsage), isCobraUsage(err):
		code = ExitUsage
	}
	if err == nil {
		return code
	}
	name := "gobcachefs"
	if cmd != nil && cmd.HasParent() {
		name += ": " + strings.TrimPrefix(cmd.CommandPath(), "gobcachefs ")
	}
	fmt.Fprintf(a.Err, "%s: %s\n", name, errText(err))
	if a.json {
		_ = a.writeJSON(map[string]any{"schema": 1, "error": map[string]any{"exit": code, "msg": errText(err)}})
	}
	return code
}

// isCobraUsage recognizes the errors that cobra makes of wrong arguments.
func isCobraUsage(err error) bool {
	s := err.Error()
	return strings.HasPrefix(s, "unknown command") || strings.HasPrefix(s, "accepts ") || strings.HasPrefix(s, "requires ") ||
		strings.HasPrefix(s, "unknown flag") || strings.HasPrefix(s, "required flag") || strings.HasPrefix(s, "invalid argument")
}

// writeJSON prints v, indented, as one document.
func (a *app) writeJSON(v any) error {
	w := a.jsonOut
	if w == nil {
		w = a.Out
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// jsonFlag adds --json to a command.
func (a *app) jsonFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&a.json, "json", false, "print JSON")
}

// isTerminal reports whether f is a terminal.
func isTerminal(f any) bool {
	switch f := f.(type) {
	case *os.File:
		return term.IsTerminal(int(f.Fd()))
	case *lineWriter:
		return f.terminal
	}
	return false
}
