package notify_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"vedette/internal/notify"
)

// What was found out when a failure was confirmed, and what changed since the last good
// check, is told in words and as data.
func TestADiagnosisIsTold(t *testing.T) {
	t.Parallel()
	const found = "192.0.2.9:443 answers."
	a := opened()
	a.Body.Difference = []string{"status 200 → 503"}
	evidence := *a.Body.Evidence
	evidence.Diagnosis = append([]string{found}, strings.Split(strings.Repeat("x,", 40), ",")...)
	a.Body.Evidence = &evidence

	s := newMailServer(t, nil)
	notify.NewEmail(notify.EmailOptions{Server: plain(), Dial: s.dial}).Send(context.Background(), mailClaim(a, "ops@example.org"))
	mails := s.got()
	if len(mails) != 1 {
		t.Fatalf("%d mails, want 1", len(mails))
	}
	if _, text, _ := parts(t, mails[0].data); !strings.Contains(text, found) || !strings.Contains(text, "status 200 → 503") || strings.Count(text, "Found out") != 8 {
		t.Errorf("mail %s, want it to tell %q, in eight lines at most, and what changed", text, found)
	}

	var body []byte
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { body, _ = io.ReadAll(r.Body) }))
	defer srv.Close()
	p := notify.NewWebhook(notify.WebhookOptions{Dial: dial})
	defer p.Close()
	p.Send(context.Background(), webhookClaim(t, srv.URL, a))
	if !strings.Contains(string(body), found) || !strings.Contains(string(body), `"difference":["status 200 → 503"]`) {
		t.Errorf("webhook %s, want it to hold %q and what changed", body, found)
	}
}
