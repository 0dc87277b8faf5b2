package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func init() { commands = append(commands, newManCmd) }

func newManCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "man [DIR]",
		Short: "Write the manual pages",
		Long: `Write a manual page for the program and for each command into DIR, as
gobcachefs.1, gobcachefs-ls.1 and so on, or the first one to standard output:

  gobcachefs man | man -l -`,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch len(args) {
			case 0:
				_, err := a.Out.Write(manPage(cmd.Root()))
				return err
			case 1:
				return writeMan(args[0], cmd.Root())
			}
			return usageErr("too many arguments: %s", strings.Join(args[1:], " "))
		},
	}
}

// writeMan writes the page of a command and of all below it.
func writeMan(dir string, cmd *cobra.Command) error {
	if err := os.Mkdir(dir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, manName(cmd)+".1"), manPage(cmd), 0o666); err != nil {
		return err
	}
	for _, c := range cmd.Commands() {
		if c.Hidden || !c.IsAvailableCommand() {
			continue
		}
		if err := writeMan(dir, c); err != nil {
			return err
		}
	}
	return nil
}

func manName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// manPage is the page of a command in roff, with the man macros.
func manPage(cmd *cobra.Command) []byte {
	var b bytes.Buffer
	p := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	name := manName(cmd)
	p(".TH %s 1 \"\" gobcachefs \"User Commands\"\n.nh", roff(strings.ToUpper(name)))
	p(".SH NAME\n%s \\- %s", roff(name), roff(cmd.Short))
	p(".SH SYNOPSIS")
	use := cmd.UseLine()
	if cmd.HasAvailableSubCommands() {
		use = cmd.CommandPath() + " COMMAND [flags]"
	}
	p(`.B %s`, roff(cmd.CommandPath()))
	p("%s", roff(strings.TrimSpace(strings.TrimPrefix(use, cmd.CommandPath()))))
	p(".SH DESCRIPTION")
	long := cmd.Long
	if long == "" {
		long = cmd.Short + "."
	}
	manText(&b, long)
	if cmd.HasAvailableSubCommands() {
		p(".SH COMMANDS")
		for _, c := range cmd.Commands() {
			if !c.Hidden && c.IsAvailableCommand() {
				p(".TP\n.BR %s (1)\n%s", roff(manName(c)), roff(c.Short))
			}
		}
	}
	if flags := cmd.NonInheritedFlags(); flags.HasAvailableFlags() {
		p(".SH OPTIONS")
		flags.VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				manFlag(&b, f)
			}
		})
	}
	if !cmd.HasParent() {
		p(".SH EXIT STATUS\n.TP\n0\nDone.\n.TP\n1\nFailed or refused, or something could not be read.\n.TP\n2\nBad usage; nothing was opened.\n.TP\n130\nInterrupted.")
	} else {
		p(".SH SEE ALSO\n.BR %s (1)", roff(manName(cmd.Parent())))
	}
	return b.Bytes()
}

func manFlag(b *bytes.Buffer, f *pflag.Flag) {
	arg, usage := pflag.UnquoteUsage(f)
	names := `\fB` + roff("--"+f.Name) + `\fR`
	if f.Shorthand != "" {
		names = `\fB` + roff("-"+f.Shorthand) + `\fR, ` + names
	}
	if arg != "" {
		names += ` \fI` + roff(arg) + `\fR`
	}
	fmt.Fprintf(b, ".TP\n%s\n%s\n", names, roff(usage))
}

// manText sets text: paragraphs between empty lines, and lines that start with
// a blank as they are.
func manText(b *bytes.Buffer, text string) {
	literal := false
	set := func(on bool) {
		if on != literal {
			b.WriteString(map[bool]string{true: ".PP\n.nf\n", false: ".fi\n"}[on])
			literal = on
		}
	}
	for i, line := range strings.Split(strings.TrimSpace(text), "\n") {
		switch {
		case line == "":
			set(false)
			b.WriteString(".PP\n")
			continue
		case i > 0 && line[0] == ' ':
			set(true)
		default:
			set(false)
		}
		b.WriteString(roff(line) + "\n")
	}
	set(false)
}

// roff makes text safe for roff: no escapes, no hyphens that break words, no
// requests at the start of a line.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", "\\`", "…", "...", "→", `\(->`).Replace(s)
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	return s
}
