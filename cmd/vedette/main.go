// Command vedette is the uptime monitor: it turns flags, environment and file
// into options, and hands them to package app. Nothing is decided here.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/alecthomas/kong"

	"vedette/internal/app"
	"vedette/internal/config"
)

// Exit codes. `vedette check` has 1 for down and 3 for unknown beside these.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// cli is the whole command line.
type cli struct {
	Config kong.ConfigFlag `help:"YAML file with options, named as the flags are." env:"VEDETTE_CONFIG" placeholder:"FILE"`

	Serve   config.Serve `cmd:"" help:"Run the product: every role in this process, or those of --roles."`
	Check   config.Check `cmd:"" help:"Check one target now and show what was seen. Exit: 0 up or degraded, 1 down, 3 unknown, 2 usage."`
	User    userCommands `cmd:"" help:"Manage accounts."`
	APIKey  keyCommands  `cmd:"" name:"api-key" help:"Manage API keys."`
	Migrate struct {
		config.Storage `embed:""`
	} `cmd:"" help:"Bring the database to this version's schema."`
	Doctor  config.Serve `cmd:"" help:"Say what would keep this installation from working, with the mend."`
	Version struct{}     `cmd:"" help:"Print the version."`
}

type userCommands struct {
	Create config.UserCreate `cmd:"" help:"Create an account; the password is read from standard input."`
}

type keyCommands struct {
	Create config.APIKeyCreate `cmd:"" help:"Create an API key and print it, alone, on standard output. It is shown only here."`
}

// leastProcs is how many threads run Go code at the least. On one or two cores a
// transaction of the embedded database and one other busy goroutine would otherwise
// hold the scheduler's timers up for the 10 ms that Go lets them run; among threads,
// the kernel lets the one that woke up run at once. Measured: the p99 deviation from
// the interval falls from 4.9 to 2.2 ms at 500 checks a second (docs/performance.md).
const leastProcs = 4

func main() {
	if os.Getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) < leastProcs {
		runtime.GOMAXPROCS(leastProcs)
	}
	// We log nothing here, and libraries must not: net/http writes a line for every frame
	// of HTTP/2 that it does not know, of which a target can send a million a second.
	log.SetOutput(io.Discard)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var c cli
	exited := -1
	parser, err := kong.New(&c, kong.Name("vedette"),
		kong.Description("An uptime monitor that you can trust with your nights."),
		kong.Configuration(config.FileLoader), kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exited = code }))
	if err != nil {
		fmt.Fprintln(stderr, "vedette:", err)
		return exitError
	}
	cmd, err := parser.Parse(args)
	if exited >= 0 { // --help
		return exited
	}
	if err != nil {
		fmt.Fprintf(stderr, "vedette: %v\n", err)
		return exitUsage
	}
	return dispatch(ctx, cmd.Command(), &c, stdin, stdout, stderr)
}

func dispatch(ctx context.Context, command string, c *cli, stdin io.Reader, stdout, stderr io.Writer) int {
	var err error
	switch command {
	case "serve":
		err = app.Serve(ctx, c.Serve, stdout, stderr)
	case "check", "check <target>":
		return app.Check(ctx, c.Check, stdin, stdout, stderr)
	case "user create":
		err = app.CreateUser(ctx, c.User.Create, stdin, stdout)
	case "api-key create":
		err = app.CreateAPIKey(ctx, c.APIKey.Create, stdout)
	case "migrate":
		err = app.Migrate(ctx, c.Migrate.Storage, stdout)
	case "doctor":
		err = app.Doctor(ctx, c.Doctor, stdout)
	case "version":
		app.Version(stdout)
	}
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(stderr, "vedette: %v\n", err)
	if errors.As(err, new(config.UsageError)) {
		return exitUsage
	}
	return exitError
}
