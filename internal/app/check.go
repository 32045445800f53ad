package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/term"

	"vedette/internal/config"
	"vedette/internal/curl"
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

// passive are the types whose verdict comes from elsewhere: there is nobody to ask.
var passive = []string{"group", "heartbeat", "manual"}

// Check makes one probe and prints what it saw, or prints the monitor that would make
// it. The returned value is the exit code: 0 up or degraded, 1 down, 3 unknown, 2 when
// it could not be asked for.
func Check(ctx context.Context, cfg config.Check, stdin io.Reader, stdout, stderr io.Writer) int {
	code, err := check(ctx, cfg, stdin, stdout)
	if err != nil {
		fmt.Fprintf(stderr, "vedette: %v\n", err)
	}
	return code
}

func check(ctx context.Context, cfg config.Check, stdin io.Reader, stdout io.Writer) (code int, err error) {
	policy, err := guard.Parse(cfg.PrivateTargets)
	if err != nil {
		return checkUsage, fmt.Errorf("--private-targets: %w", err)
	}
	probes := probe.New(probe.Env{Guard: guard.New(guard.Options{Policy: policy}), UserAgent: userAgent(), AlwaysEvidence: true})
	body, err := checkedBody(cfg, probes.Types(), stdin)
	if err != nil {
		return checkUsage, err
	}
	m, err := body.Checked()
	if err != nil {
		return checkUsage, err
	}
	if slices.Contains(passive, m.Type) {
		return checkUsage, fmt.Errorf("a monitor of type %s cannot be checked so: it dials nobody, and only serve knows its verdict", m.Type)
	}
	compiled, err := probes.Compile(m)
	if err != nil {
		return checkUsage, err
	}
	if cfg.PrintMonitor {
		return checkUp, printJSON(stdout, body)
	}
	outcome := compiled.Run(ctx, probe.Attempt{Diagnose: true})
	if err := printOutcome(stdout, cfg.JSON, uptime.PublicTarget(m.Target), outcome); err != nil {
		return checkUnknown, err
	}
	switch outcome.Verdict {
	case uptime.VerdictUp, uptime.VerdictDegraded:
		return checkUp, nil
	case uptime.VerdictDown:
		return checkDown, nil
	default:
		return checkUnknown, nil
	}
}

// checkedBody is the monitor of --file, of --curl, or of the target.
func checkedBody(cfg config.Check, types []string, stdin io.Reader) (service.MonitorBody, error) {
	switch {
	case cfg.Curl == "-":
		line, err := io.ReadAll(io.LimitReader(stdin, 4<<20))
		if err != nil {
			return service.MonitorBody{}, fmt.Errorf("read the curl line: %w", err)
		}
		return curl.Parse(string(line), os.ReadFile)
	case cfg.Curl != "":
		return curl.Parse(cfg.Curl, os.ReadFile)
	case cfg.File != "":
		b, err := os.ReadFile(cfg.File)
		if err != nil {
			return service.MonitorBody{}, err
		}
		body, err := service.DecodeBody(b)
		if err != nil {
			err = fmt.Errorf("%s: %w", cfg.File, err)
		}
		return body, err
	}
	typ, target := cfg.Type, cfg.Target
	if typ == "" {
		typ, target = splitType(target, append(types, passive...))
	}
	name := cfg.Target
	if len(name) > 100 {
		name = typ
	}
	return service.MonitorBody{Name: name, Type: typ, Target: target}, nil
}

// splitType reads TYPE:TARGET. A URL is of type http, unless its scheme is followed by
// something else than //.
func splitType(target string, types []string) (typ, rest string) {
	typ, rest, ok := strings.Cut(target, ":")
	if ok && slices.Contains(types, typ) && !strings.HasPrefix(rest, "//") {
		return typ, rest
	}
	return "http", target
}

// userAgent is how our probes and webhooks introduce themselves.
func userAgent() string { return "Vedette/" + obs.Version() }

// printOutcome writes a report for a person, or for a program.
func printOutcome(out io.Writer, asJSON bool, target string, o probe.Outcome) error {
	if !asJSON {
		f, ok := out.(*os.File)
		return probe.WriteReport(out, target, o, probe.ReportOptions{Color: ok && term.IsTerminal(int(f.Fd())), Width: 100})
	}
	return printJSON(out, probe.NewReport(target, o))
}

func printJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
