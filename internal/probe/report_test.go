package probe

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"vedette/internal/uptime"
)

// reportOutcomes are one outcome of each kind, complete.
func reportOutcomes() map[string]Outcome {
	day := func(n int) time.Time { return time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC) }
	chain := []uptime.Certificate{
		{Subject: "CN=shop.example", Issuer: "CN=Authority,O=Trust", DNSNames: []string{"shop.example", "www.shop.example"}, Addresses: []string{"192.0.2.1"},
			NotBefore: day(1), NotAfter: day(31), DaysLeft: 20, Key: "ECDSA P-256", Signature: "ECDSA-SHA256", SHA256: "ab"},
		{Subject: "CN=Authority,O=Trust", Issuer: "CN=Root,O=Trust", NotBefore: day(1), NotAfter: day(31), DaysLeft: 20, Key: "RSA 4096", Signature: "SHA256-RSA", SHA256: "cd"},
	}
	in := uptime.Assertion{Source: "status", Op: "in", Value: json.RawMessage(`"200-299"`)}
	has := uptime.Assertion{Source: "header", Property: "x-state", Op: "exists"}
	return map[string]Outcome{
		"down": {
			Verdict: uptime.VerdictDown, Reason: uptime.HTTPStatus, Message: "Expected status in \"200-299\", got 503.", Duration: 123456 * time.Microsecond,
			Phases: uptime.Phases{DNS: time.Millisecond, Connect: 20 * time.Millisecond, TLS: 40 * time.Millisecond, FirstByte: 60 * time.Millisecond, Transfer: 2 * time.Millisecond},
			Evidence: &uptime.Evidence{
				Request: "GET https://www.shop.example/health", Redirects: []string{"https://www.shop.example/health"}, Statuses: []int{301},
				Addresses: []string{"192.0.2.1", "2001:db8::1", "192.0.2.2"}, Dialled: "[2001:db8::1]:443",
				Attempts: []uptime.DialAttempt{{Address: "192.0.2.1:443", Error: "conn_refused"}, {Address: "[2001:db8::1]:443"}},
				Status:   503, Protocol: "HTTP/1.1", Headers: map[string]string{"Server": "x", "Content-Type": "text/plain"},
				Body: "Busy \x1b[2J\r\n" + strings.Repeat("line\n", 20), BodyBytes: 120, Certificates: chain,
				Assertions: []uptime.AssertionResult{{Assertion: in, Actual: "503", Message: "Expected status in \"200-299\", got 503."}, {Assertion: has, OK: true, Actual: "up"}},
				Diagnosis:  []string{"192.0.2.1:443 refuses the connection.", "192.0.2.2:443 answers."},
				Phases:     map[string]string{"dns": "1ms"},
			},
		},
		"up":      {Verdict: uptime.VerdictUp, Duration: time.Millisecond, Evidence: &uptime.Evidence{Request: "tcp db.example:5432", Protocol: "TLS 1.3", Body: "a greeting"}},
		"unknown": {Verdict: uptime.VerdictUnknown, Reason: uptime.Blocked, Message: "The target's address is not allowed by --private-targets."},
	}
}

func TestReportsAreTheGoldens(t *testing.T) {
	t.Parallel()
	for name, o := range reportOutcomes() {
		var text strings.Builder
		if err := WriteReport(&text, "https://shop.example/health", o, ReportOptions{}); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text.String(), "\x1b") {
			t.Errorf("%s: the report holds an escape sequence", name)
		}
		raw, err := json.MarshalIndent(NewReport("https://shop.example/health", o), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "testdata/report_"+name+".txt.golden", text.String())
		golden(t, "testdata/report_"+name+".json.golden", string(raw)+"\n")
	}
}
