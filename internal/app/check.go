package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"vedette/internal/config"
	"vedette/internal/guard"
	"vedette/internal/obs"
	"vedette/internal/probe"
	"vedette/internal/service"
	"vedette/internal/uptime"
)

// Exit codes of check.
const (
	checkUp      = 0
	checkDown    = 1
	checkUsage   = 2
	checkUnknown = 3
)

// Check makes one probe and prints what it saw. The returned value is the exit
// code: 0 up or degraded, 1 down, 3 unknown, 2 when it could not be asked for.
func Check(ctx context.Context, cfg config.Check, stdout, stderr io.Writer) int {
	outcome, target, err := probeOnce(ctx, cfg)
	if err != nil {
		fmt.Fprintf(stderr, "vedette: %v\n", err)
		return checkUsage
	}
	if err := printOutcome(stdout, cfg.JSON, target, outcome); err != nil {
		fmt.Fprintf(stderr, "vedette: %v\n", err)
		return checkUnknown
	}
	switch outcome.Verdict {
	case uptime.VerdictUp, uptime.VerdictDegraded:
		return checkUp
	case uptime.VerdictDown:
		return checkDown
	default:
		return checkUnknown
	}
}

func probeOnce(ctx context.Context, cfg config.Check) (probe.Outcome, string, error) {
	policy, err := guard.Parse(cfg.PrivateTargets)
	if err != nil {
		return probe.Outcome{}, "", fmt.Errorf("--private-targets: %w", err)
	}
	m, err := checkedMonitor(cfg)
	if err != nil {
		return probe.Outcome{}, "", err
	}
	set := probe.New(probe.Env{Guard: guard.New(guard.Options{Policy: policy}), UserAgent: userAgent(), AlwaysEvidence: true})
	check, err := set.Compile(m)
	if err != nil {
		return probe.Outcome{}, "", err
	}
	return check.Run(ctx, probe.Attempt{}), m.Target, nil
}

// checkedMonitor is the monitor of --file, or an http monitor of the target.
func checkedMonitor(cfg config.Check) (uptime.Monitor, error) {
	if cfg.File == "" {
		return uptime.Monitor{Type: "http", Target: cfg.Target, Timeout: uptime.DefaultTimeout, Config: json.RawMessage(`{}`)}, nil
	}
	b, err := os.ReadFile(cfg.File)
	if err != nil {
		return uptime.Monitor{}, err
	}
	m, err := service.DecodeMonitor(b)
	if err != nil {
		return m, fmt.Errorf("%s: %w", cfg.File, err)
	}
	return m, nil
}

// userAgent is how our probes and webhooks introduce themselves.
func userAgent() string { return "Vedette/" + obs.Version() }

// printOutcome writes a report for a person, or for a program.
func printOutcome(out io.Writer, asJSON bool, target string, o probe.Outcome) error {
	if !asJSON {
		f, ok := out.(*os.File)
		return probe.WriteReport(out, target, o, probe.ReportOptions{Color: ok && term.IsTerminal(int(f.Fd())), Width: 100})
	}
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(probe.NewReport(target, o))
}
