package probe

import (
	"fmt"
	"io"
	"strings"
	"time"

	"vedette/internal/uptime"
)

// Report is an outcome as `vedette check --json` prints it. Fields are only ever
// added. Spans are milliseconds.
type Report struct {
	Target     string           `json:"target"`
	Verdict    uptime.Verdict   `json:"verdict"`
	Reason     uptime.Reason    `json:"reason"`
	Message    string           `json:"message"`
	DurationMS float64          `json:"duration_ms"`
	Phases     PhasesMS         `json:"phases_ms"`
	Evidence   *uptime.Evidence `json:"evidence,omitempty"`
}

// PhasesMS are the phases of a check in milliseconds; one that did not happen is 0.
type PhasesMS struct {
	DNS       float64 `json:"dns"`
	Connect   float64 `json:"connect"`
	TLS       float64 `json:"tls"`
	FirstByte float64 `json:"first_byte"`
	Transfer  float64 `json:"transfer"`
}

// NewReport makes the report of one outcome.
func NewReport(target string, o Outcome) Report {
	return Report{
		Target: target, Verdict: o.Verdict, Reason: o.Reason, Message: o.Message, DurationMS: millis(o.Duration),
		Phases: PhasesMS{
			millis(o.Phases.DNS), millis(o.Phases.Connect), millis(o.Phases.TLS),
			millis(o.Phases.FirstByte), millis(o.Phases.Transfer),
		},
		Evidence: o.Evidence,
	}
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// ReportOptions are how WriteReport draws. The zero value is 80 columns, no colour.
type ReportOptions struct {
	Color bool
	Width int // columns
}

// WriteReport prints an outcome for a person: verdict and reason, the phases as
// bars, and the evidence.
func WriteReport(w io.Writer, target string, o Outcome, opts ReportOptions) error {
	if opts.Width < 40 {
		opts.Width = 80
	}
	b := &strings.Builder{}
	verdict := strings.ToUpper(o.Verdict.String())
	if opts.Color {
		verdict = colorOf(o.Verdict) + verdict + "\x1b[0m"
	}
	fmt.Fprintf(b, "%s  %s  %s", verdict, clean(target, 200), o.Duration.Round(10*time.Microsecond))
	if o.Reason != uptime.ReasonOK {
		fmt.Fprintf(b, "  %s", o.Reason)
	}
	b.WriteByte('\n')
	if o.Message != "" {
		fmt.Fprintf(b, "  %s\n", o.Message)
	}
	writePhases(b, o, opts.Width)
	if o.Evidence != nil {
		writeEvidence(b, o.Evidence)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func colorOf(v uptime.Verdict) string {
	return map[uptime.Verdict]string{
		uptime.VerdictUp: "\x1b[32m", uptime.VerdictDegraded: "\x1b[33m",
		uptime.VerdictDown: "\x1b[31m", uptime.VerdictUnknown: "\x1b[35m",
	}[v]
}

// writePhases draws one bar per phase, each beginning where the last ended.
func writePhases(b *strings.Builder, o Outcome, width int) {
	phases := []struct {
		name string
		took time.Duration
	}{
		{"dns", o.Phases.DNS}, {"connect", o.Phases.Connect}, {"tls", o.Phases.TLS},
		{"first byte", o.Phases.FirstByte}, {"transfer", o.Phases.Transfer},
	}
	var sum time.Duration
	for _, p := range phases {
		sum += p.took
	}
	if sum == 0 {
		return
	}
	b.WriteByte('\n')
	columns := int64(width - 28)
	var before time.Duration
	for _, p := range phases {
		if p.took == 0 {
			continue
		}
		from := int64(before) * columns / int64(sum)
		before += p.took
		to := max(int64(before)*columns/int64(sum), from+1)
		fmt.Fprintf(b, "  %-10s %12s  %s%s\n", p.name, p.took.Round(time.Microsecond),
			strings.Repeat(" ", int(from)), strings.Repeat("█", int(to-from)))
	}
}

func writeEvidence(b *strings.Builder, e *uptime.Evidence) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(b, "  %-11s %s\n", name, clean(fmt.Sprintf(format, args...), 400))
	}
	b.WriteByte('\n')
	line("request", "%s", e.Request)
	for _, r := range e.Redirects {
		line("redirect", "%s", r)
	}
	if len(e.Addresses) > 0 {
		line("addresses", "%s", strings.Join(e.Addresses, ", "))
	}
	for _, a := range e.Attempts {
		result := "connected"
		if a.Error != "" {
			result = a.Error
		}
		line("dialled", "%s: %s", a.Address, result)
	}
	for _, c := range e.Certificates {
		line("certificate", "%s, by %s, until %s", c.Subject, c.Issuer, c.NotAfter.Format(time.DateOnly))
	}
	if e.Status != 0 {
		line("response", "%s %d, %d bytes", e.Protocol, e.Status, e.BodyBytes)
	}
	for _, a := range e.Assertions {
		mark := "holds:"
		if !a.OK {
			mark = "fails:"
		}
		line("assertion", "%s %s %s %s %s (%s)", mark, a.Assertion.Source, a.Assertion.Property, a.Assertion.Op, a.Assertion.Value, a.Actual)
	}
}
