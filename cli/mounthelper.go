package cli

import (
	"context"
	"errors"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/gobcachefs/gobcachefs/errs"
)

func init() { commands = append(commands, newMountHelperCmd) }

// Exit codes of mount(8), which those of mount.bcachefs are.
const (
	mountUsage       = 1
	mountSystem      = 2
	mountInternal    = 4
	mountInterrupted = 8
	mountFailed      = 32
)

// newMountHelperCmd is mount.bcachefs, as mount(8) calls it:
//
//	mount.bcachefs SPEC DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]
func newMountHelperCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:                "mount.bcachefs VOLUME MOUNTPOINT [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]",
		Short:              "Mount a volume, called by mount(8) through a link of this name",
		Hidden:             true,
		DisableFlagParsing: true, // errors of it are mount(8)'s too
		RunE:               func(cmd *cobra.Command, args []string) error { return mountCode(mountHelper(a, args)) },
	}
}

func mountHelper(a *app, args []string) error {
	m := &mountCmd{a: a, keyMode: "ask"}
	fl := pflag.NewFlagSet("mount.bcachefs", pflag.ContinueOnError)
	fl.SetOutput(a.Err)
	fl.Usage = func() {}
	fl.StringArrayVarP(&m.f.options, "options", "o", nil, "")
	fl.BoolVarP(&m.fake, "fake", "f", false, "")
	fl.BoolVarP(&m.verbose, "verbose", "v", false, "")
	for _, x := range []struct{ long, short string }{{"sloppy", "s"}, {"no-mtab", "n"}, {"read-only", "r"}, {"read-write", "w"}} {
		fl.BoolP(x.long, x.short, false, "")
	}
	fl.StringP("types", "t", "", "")
	namespace := fl.StringP("namespace", "N", "", "")
	switch err := fl.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		_, err := a.Out.Write([]byte("mount.bcachefs VOLUME MOUNTPOINT [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]\n"))
		return err
	case err != nil:
		return usageErr("%v", err)
	case *namespace != "":
		return usageErr("-N: mounting in another namespace is not supported; run mount in it (nsenter -m)")
	case fl.NArg() != 2:
		return usageErr("need VOLUME and MOUNTPOINT, and have %d arguments", fl.NArg())
	}
	// In a mount table fusectl-style names may stand: bcachefs#dev is dev.
	rest := fl.Args()
	rest[0] = strings.TrimPrefix(rest[0], "bcachefs#")
	return m.run(rest, 1)
}

// mountCode gives an error the exit code that mount(8) expects.
func mountCode(err error) error {
	if err == nil {
		return nil
	}
	code := mountFailed
	var ee *exitError
	switch {
	case errors.Is(err, context.Canceled), errors.As(err, &ee) && ee.code == ExitInterrupted:
		// A plain error: the caller of this would make 130 of a canceled context.
		return &exitError{mountInterrupted, errors.New("interrupted")}
	case errors.As(err, &ee) && ee.code == ExitUsage, ee == nil && errors.Is(err, errs.ErrUsage):
		code = mountUsage
	case errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.EAGAIN), errors.Is(err, errNoProcess):
		code = mountSystem
	case errors.Is(err, errDaemonDied):
		code = mountInternal
	}
	if ee != nil {
		err = ee.err
	}
	return &exitError{code, err}
}

var (
	errNoProcess  = errors.New("starting the process that serves the mount")
	errDaemonDied = errors.New("the process that serves the mount ended without a word")
)
