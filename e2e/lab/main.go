// Command lab is where targets fail. For each mode, embedded and scaled, it starts
// the real product and several hundred targets, each of which fails in a way of its
// own or works in an odd but legal one; has the product watch each through its API;
// and prints how many verdicts and reasons were right, what a failing target cost
// in memory, and whether any answer came late. It ends with status 1 when that is
// less than the product promises. docs/lab.md says how to read it.
//
// A target is one row of a table: see scenario.go, and a file for each class. All of
// it happens in a network of its own, which nothing leaves and where "no answer" and
// "no route" can be had.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"vedette/internal/testenv"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok, err := run(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// options of one run.
type options struct {
	modes string
	only  string // part of "class: name" that a scenario must have; "" is all
	all   bool   // print every scenario, not only the wrong ones
	bin   string // the product; "" builds it
}

func run(ctx context.Context, args []string) (ok bool, err error) {
	var o options
	f := flag.NewFlagSet("lab", flag.ContinueOnError)
	f.StringVar(&o.modes, "modes", "embedded,scaled", "which modes to run")
	f.StringVar(&o.only, "only", "", "run only scenarios whose class and name contain this")
	f.BoolVar(&o.all, "all", false, "print every scenario")
	f.StringVar(&o.bin, "bin", "", "the product's binary; built when empty")
	if err := f.Parse(args); err != nil {
		return false, err
	}
	if os.Getenv(inside) == "" {
		return enter(ctx, o, args)
	}
	if err := furnish(); err != nil {
		return false, err
	}
	ok = true
	for mode := range strings.SplitSeq(o.modes, ",") {
		passed, err := runMode(ctx, o, mode)
		if err != nil {
			return false, fmt.Errorf("%s: %w", mode, err)
		}
		ok = ok && passed
	}
	return ok, nil
}

// enter prepares what needs the machine's own network, and runs this command again
// in one that has nothing but what furnish puts there.
func enter(ctx context.Context, o options, args []string) (ok bool, err error) {
	for binary, pkg := range map[string]string{"ip": "iproute2", "redis-server": "redis-server", "initdb": "postgresql"} {
		if _, err := testenv.Require(binary, pkg); err != nil {
			return false, err
		}
	}
	if o.bin == "" {
		dir, err := os.MkdirTemp("", "vedette-lab")
		if err != nil {
			return false, err
		}
		defer os.RemoveAll(dir)
		if o.bin, err = buildProduct(ctx, dir); err != nil {
			return false, err
		}
	}
	return again(ctx, append(args, "-bin", o.bin))
}
