// Command ringfence is the whole product in one binary: the web server, the job workers, and the tools of those who run
// it. `ringfence --help` lists the subcommands.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"ringfence/internal/config"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// errFailed ends a command whose output has said already what is wrong.
var errFailed = errors.New("failed")

// run is main without the process: end-to-end tests call it too. It returns the exit code: 0 for success, 1 when the
// command failed, 2 when the command line or the configuration is wrong.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	var grammar commands
	exit := -1
	parser, err := kong.New(&grammar,
		kong.Name("ringfence"), kong.Description("A prepaid wallet for managed telephony: nothing is spent that is not there."),
		kong.Writers(stdout, stderr), kong.Exit(func(code int) { exit = code }), kong.UsageOnError())
	if err != nil {
		fmt.Fprintln(stderr, "ringfence:", err)
		return 2
	}
	command, err := parser.Parse(args)
	switch {
	case exit >= 0: // --help has been printed
		return exit
	case err != nil:
		fmt.Fprintln(stderr, "ringfence:", err)
		return 2
	}
	err = command.Run(&env{ctx: ctx, getenv: getenv, stdout: stdout, stderr: stderr})
	if _, ok := errors.AsType[*config.Error](err); ok {
		fmt.Fprintln(stderr, "ringfence:", err)
		return 2
	}
	switch {
	case err == nil:
		return 0
	case !errors.Is(err, errFailed):
		fmt.Fprintln(stderr, "ringfence:", err)
	}
	return 1
}
