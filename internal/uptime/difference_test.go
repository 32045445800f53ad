package uptime_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vedette/internal/uptime"
)

func TestDifference(t *testing.T) {
	t.Parallel()
	leaf := func(issuer, sum string, day int, names ...string) []uptime.Certificate {
		return []uptime.Certificate{{Subject: "CN=shop", Issuer: issuer, SHA256: sum, DNSNames: names, NotAfter: time.Date(2026, 1, day, 0, 0, 0, 0, time.UTC)}}
	}
	has := uptime.Assertion{Source: "json", Property: "$.state", Op: "eq", Value: json.RawMessage(`"up"`)}
	status := uptime.Assertion{Source: "status", Op: "in", Value: json.RawMessage(`"200"`)}
	good := uptime.Evidence{
		Addresses: []string{"192.0.2.1"}, Dialled: "192.0.2.1:443", Status: 200, Protocol: "HTTP/1.1", BodyBytes: 5120,
		Headers: map[string]string{"Server": "a", "Content-Type": "text/html", "Date": "x"}, Certificates: leaf("CN=A", "1", 1, "a", "b"),
		Phases:     map[string]string{"connect": "1ms", "first_byte": "35.123ms", "transfer": "1ms"},
		Assertions: []uptime.AssertionResult{{Assertion: has, OK: true, Actual: "up"}, {Assertion: status, OK: true, Actual: "200"}},
		Local:      map[string]string{"timer_late": "1ms"},
	}
	for _, c := range []struct {
		name   string
		change func(*uptime.Evidence)
		want   []string
	}{
		{"nothing", func(*uptime.Evidence) {}, nil},
		{"times of the same order, a date, our own health", func(e *uptime.Evidence) {
			e.Phases = map[string]string{"connect": "40ms", "first_byte": "60ms", "transfer": "1ms"}
			e.Headers = map[string]string{"Server": "a", "Content-Type": "text/html", "Date": "y"}
			e.Local = nil
		}, nil},
		{"another address", func(e *uptime.Evidence) { e.Addresses, e.Dialled = []string{"192.0.2.9"}, "192.0.2.9:443" }, []string{"address 192.0.2.1 → 192.0.2.9"}},
		{"more addresses", func(e *uptime.Evidence) { e.Addresses = []string{"192.0.2.9", "192.0.2.1"} }, []string{"addresses 192.0.2.1 → 192.0.2.1, 192.0.2.9"}},
		{"another of the same addresses", func(e *uptime.Evidence) { e.Dialled = "[2001:db8::1]:443" }, []string{"dialled 192.0.2.1:443 → [2001:db8::1]:443"}},
		{"status, size and time", func(e *uptime.Evidence) {
			e.Status, e.BodyBytes, e.Phases = 503, 87, map[string]string{"connect": "1ms", "first_byte": "4.1s"}
			e.Assertions = []uptime.AssertionResult{{Assertion: status, Actual: "503"}}
		}, []string{"status 200 → 503", "body 5120 bytes → 87 bytes", "first byte 35ms → 4.1s"}},
		{"no answer at all", func(e *uptime.Evidence) {
			*e = uptime.Evidence{Addresses: e.Addresses, Dialled: e.Dialled, Phases: map[string]string{"connect": "2ms"}}
		}, []string{"status 200 → none"}},
		{"redirected", func(e *uptime.Evidence) { e.Redirects = []string{"https://b.example/"} }, []string{"redirects none → https://b.example/"}},
		{"another server", func(e *uptime.Evidence) { e.Headers = map[string]string{"Server": "b", "Content-Type": "text/plain"} },
			[]string{"header Content-Type text/html → text/plain", "header Server a → b"}},
		{"another certificate", func(e *uptime.Evidence) { e.Certificates = leaf("CN=B", "2", 2, "a") },
			[]string{"certificate issuer CN=A → CN=B", "certificate names a, b → a", "certificate valid until 2026-01-01 → 2026-01-02"}},
		{"a certificate that looks the same", func(e *uptime.Evidence) { e.Certificates = leaf("CN=A", "2", 1, "a", "b") }, []string{"certificate 1 → 2"}},
		{"an assertion", func(e *uptime.Evidence) {
			e.Assertions = []uptime.AssertionResult{{Assertion: has}, {Assertion: status, OK: true, Actual: "200"}}
		}, []string{"json $.state up → nothing"}},
	} {
		bad := good
		c.change(&bad)
		if diff := cmp.Diff(c.want, uptime.Difference(&good, &bad)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	if uptime.Difference(nil, &good) != nil || uptime.Difference(&good, nil) != nil {
		t.Error("a difference from nothing")
	}
}
