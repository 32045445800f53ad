package notify_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"vedette/internal/notify"
	"vedette/internal/uptime"
)

var update = flag.Bool("update", false, "rewrite testdata/*.golden")

// golden compares got with testdata/name.golden.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; make it with -update", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from its golden file (-update rewrites it); got:\n%s", name, got)
	}
}

func at(clock string) time.Time {
	t, err := time.Parse(time.DateTime, "2026-11-23 "+clock)
	if err != nil {
		panic(err)
	}
	return t
}

// opened is an outage with evidence, hostile text included.
func opened() uptime.Alert {
	good := at("18:43:35")
	return uptime.Alert{ID: 41, Kind: uptime.AlertOpened, IncidentID: 7, MonitorID: 5, OwnerID: 1, CreatedAt: at("18:44:17"),
		Body: uptime.AlertBody{
			Incident: uptime.AlertIncident{ID: 7, Kind: uptime.IncidentTarget, Reason: uptime.HTTPStatus,
				Message: "The server answered 503 Service Unavailable instead of 200–299.", LastGoodAt: &good, FirstBadAt: at("18:44:05"), ConfirmedAt: at("18:44:16")},
			Monitor: uptime.AlertMonitor{ID: 5, Name: "Checkout <b>\r\nBcc: x@example.org", Type: "http", Target: "https://shop.example/health", Tags: []string{"prod"}},
			Evidence: &uptime.Evidence{Request: "GET https://shop.example/health", Dialled: "192.0.2.7:443", Status: 503, Protocol: "HTTP/1.1",
				Attempts:   []uptime.DialAttempt{{Address: "[2001:db8::7]:443", Error: "network is unreachable"}, {Address: "192.0.2.7:443"}},
				Body:       "<script>alert(1)</script>\r\n.\r\nno upstream \x1b[31mleft\u202e",
				Phases:     map[string]string{"first_byte": "41ms", "dns": "2ms", "connect": "11ms", "tls": "23ms"},
				Assertions: []uptime.AssertionResult{{Message: "status is 503, expected 200-299"}}},
		}}
}

func resolved() uptime.Alert {
	a := opened()
	end := at("20:49:25")
	a.ID, a.Kind, a.CreatedAt = 42, uptime.AlertResolved, end
	a.Body.Incident.ResolvedAt, a.Body.Incident.Seconds = &end, 7520
	return a
}

func ourOwn() uptime.Alert {
	return uptime.Alert{ID: 43, Kind: uptime.AlertOpened, IncidentID: 8, CreatedAt: at("18:44:17"), Body: uptime.AlertBody{
		Incident: uptime.AlertIncident{ID: 8, Kind: uptime.IncidentSelf, Reason: uptime.Blind, Message: "5 monitors have had no verdict for 3 min.",
			FirstBadAt: at("18:41:00"), ConfirmedAt: at("18:44:17")}}}
}

func alerts() map[string]uptime.Alert {
	return map[string]uptime.Alert{"opened": opened(), "resolved": resolved(), "self": ourOwn(),
		"test": {ID: 44, Kind: uptime.AlertTest, CreatedAt: at("18:44:17")}}
}

func TestWebhookDocumentsAreAsPublished(t *testing.T) {
	t.Parallel()
	for name, a := range alerts() {
		var body []byte
		srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { body, _ = io.ReadAll(r.Body) }))
		p := notify.NewWebhook(notify.WebhookOptions{Dial: dial})
		p.Send(context.Background(), webhookClaim(t, srv.URL, a))
		p.Close()
		srv.Close()
		var b bytes.Buffer
		if err := json.Indent(&b, body, "", "  "); err != nil {
			t.Fatalf("%s: %v in %q", name, err, body)
		}
		golden(t, "webhook_"+name, b.Bytes())
	}
}
