// Command bench measures what docs/performance.md reports: Vedette in both modes
// beside a bare loop of fresh GETs, in one run on one machine, so that the ratios
// hold on a slow and shared one. It starts everything it measures, sends traffic
// only to loopback, and stops by itself. It is a benchmark, not a test: nothing
// here fails a build.
//
// The same binary plays the measured target (bench target) and the bare loop
// (bench bare), each as a process of its own, so that their CPU is told apart.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options of one run.
type options struct {
	window   time.Duration // measured span of each step
	warm     time.Duration // before it
	monitors int           // at the memory and deviation steps
	modes    string
	steps    string
	profiles string // folder for CPU profiles, or none
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "target" {
		return serveTarget(ctx, os.Stdout)
	}
	if len(args) > 0 && args[0] == "bare" {
		return bareLoop(ctx, args[1:], os.Stdout)
	}
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.DurationVar(&o.window, "window", 15*time.Second, "measured span of each step")
	f.DurationVar(&o.warm, "warm", 8*time.Second, "warm-up of each step")
	f.IntVar(&o.monitors, "monitors", 5000, "monitors at the memory and deviation steps")
	f.StringVar(&o.modes, "modes", "embedded,scaled", "which modes to measure")
	f.StringVar(&o.steps, "steps", "steady,throughput,latency,https,million", "which steps to measure")
	f.StringVar(&o.profiles, "profiles", "", "folder for a CPU profile of each step")
	if err := f.Parse(args); err != nil {
		return err
	}
	return measureAll(ctx, o)
}
