// Command gobcachefs reads bcachefs volumes in user space. See package cli.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/gobcachefs/gobcachefs/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Run(ctx, os.Args[0], os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	os.Exit(code)
}
