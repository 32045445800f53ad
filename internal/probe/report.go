package probe

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
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
		writeEvidence(b, o.Evidence, !o.Verdict.Good(), opts.Width)
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

// excerptLines of a body are printed, each at most a line's width.
const excerptLines = 12

// evidenceWriter prints evidence in two columns: what it is, and what was seen.
type evidenceWriter struct {
	b     *strings.Builder
	width int
	last  string // the name of the line before, which is not repeated
}

func (w *evidenceWriter) line(name, format string, args ...any) {
	shown := name
	if name == w.last {
		shown = ""
	}
	w.last = name
	fmt.Fprintf(w.b, "  %-11s  %s\n", shown, clean(fmt.Sprintf(format, args...), 400))
}

// writeEvidence prints what was seen. The body is for those who look for a fault.
func writeEvidence(b *strings.Builder, e *uptime.Evidence, failed bool, width int) {
	w := &evidenceWriter{b: b, width: width}
	b.WriteByte('\n')
	w.line("request", "%s", e.Request)
	for i, r := range e.Redirects {
		status := ""
		if i < len(e.Statuses) {
			status = strconv.Itoa(e.Statuses[i]) + " "
		}
		w.line("redirect", "%sto %s", status, r)
	}
	w.addresses(e)
	for _, c := range e.Certificates {
		w.certificate(c)
	}
	if e.Status != 0 {
		w.line("response", "%s %d, %d bytes", e.Protocol, e.Status, e.BodyBytes)
	} else if e.Protocol != "" {
		w.line("protocol", "%s", e.Protocol)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Headers)) {
		w.line("header", "%s: %s", name, e.Headers[name])
	}
	for _, a := range e.Assertions {
		w.assertion(a)
	}
	for _, d := range e.Diagnosis {
		w.line("diagnosis", "%s", d)
	}
	if failed && e.Body != "" {
		w.body(e.Body)
	}
}

// addresses prints every address of the target and what came of it.
func (w *evidenceWriter) addresses(e *uptime.Evidence) {
	var tried []string
	for _, a := range e.Attempts {
		result := "connected"
		if a.Error != "" {
			result = a.Error
		}
		w.line("address", "%s  %s", a.Address, result)
		tried = append(tried, host(a.Address))
	}
	for _, a := range e.Addresses {
		if !slices.Contains(tried, a) {
			w.line("address", "%s  not tried", a)
		}
	}
}

// host is an address without its port.
func host(address string) string {
	h, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return h
}

func (w *evidenceWriter) certificate(c uptime.Certificate) {
	w.last = ""
	w.line("certificate", "%s", c.Subject)
	w.line("certificate", "  by %s", c.Issuer)
	if names := append(slices.Clone(c.DNSNames), c.Addresses...); len(names) > 0 {
		w.line("certificate", "  for %s", strings.Join(names, ", "))
	}
	w.line("certificate", "  from %s to %s, %d days left; %s, %s", c.NotBefore.Format(time.DateOnly), c.NotAfter.Format(time.DateOnly),
		c.DaysLeft, c.Key, c.Signature)
}

func (w *evidenceWriter) assertion(a uptime.AssertionResult) {
	mark := "holds:"
	if !a.OK {
		mark = "fails:"
	}
	expected := strings.Join(strings.Fields(strings.Join([]string{a.Assertion.Source, a.Assertion.Property, a.Assertion.Op, string(a.Assertion.Value)}, " ")), " ")
	w.line("assertion", "%s %s; got %s", mark, expected, cmp.Or(a.Actual, "nothing"))
}

// body prints the beginning of the answer's body.
func (w *evidenceWriter) body(text string) {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for _, l := range lines[:min(len(lines), excerptLines)] {
		w.line("body", "%s", clean(strings.TrimRight(l, "\r"), w.width-15))
	}
	if len(lines) > excerptLines {
		w.line("body", "… %d more lines", len(lines)-excerptLines)
	}
}
