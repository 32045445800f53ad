package notify_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vedette/internal/notify"
	"vedette/internal/uptime"
)

const (
	canary        = "canary-7f3a9c"
	webhookSecret = "whsec_Y2FuYXJ5LTdmM2E5Yy1jYW5hcnktN2YzYTljLWNhbmFyeQ==" // of "canary-7f3a9c-…"
)

func dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

// webhookClaim is a claim for a receiver at url, with secrets wherever they can be.
func webhookClaim(t *testing.T, url string, a uptime.Alert) uptime.Claim {
	t.Helper()
	cfg, err := json.Marshal(map[string]any{"url": url + "/hooks/" + canary + "?token=" + canary,
		"headers": map[string]string{"Authorization": "Bearer " + canary}, "secret": webhookSecret})
	if err != nil {
		t.Fatal(err)
	}
	return uptime.Claim{Attempt: 1, Alert: a, Delivery: uptime.Delivery{ID: 1, Key: uptime.DeliveryKey("inst", a, 3)},
		Channel: uptime.Channel{ID: 3, Name: "Ops", Type: "webhook", Config: cfg, Enabled: true}}
}

// noSecret fails when what we keep of an attempt shows a secret in any spelling.
func noSecret(t *testing.T, s notify.Sent) {
	t.Helper()
	for _, text := range []string{s.Excerpt, s.ProviderID, s.Peer} {
		if strings.Contains(text, canary) || strings.Contains(text, webhookSecret[6:20]) || strings.Contains(text, "Y2FuYXJ5") {
			t.Errorf("a secret shows in %q", text)
		}
	}
	if len(s.Excerpt) > 512 {
		t.Errorf("excerpt of %d bytes, want at most 512", len(s.Excerpt))
	}
}

func TestWebhookReplies(t *testing.T) {
	t.Parallel()
	echo := strings.Repeat("token "+canary+" "+webhookSecret+"\x1b[31m\r\n", 40)
	for code, want := range map[int]uptime.Outcome{
		200: uptime.OutcomeAccepted, 201: uptime.OutcomeAccepted, 204: uptime.OutcomeAccepted, 299: uptime.OutcomeAccepted,
		301: uptime.OutcomePermanent, 302: uptime.OutcomePermanent, 307: uptime.OutcomePermanent, 308: uptime.OutcomePermanent,
		400: uptime.OutcomePermanent, 401: uptime.OutcomePermanent, 403: uptime.OutcomePermanent, 404: uptime.OutcomePermanent,
		410: uptime.OutcomePermanent, 413: uptime.OutcomePermanent, 422: uptime.OutcomePermanent,
		408: uptime.OutcomeTemporary, 425: uptime.OutcomeTemporary, 429: uptime.OutcomeTemporary,
		500: uptime.OutcomeTemporary, 502: uptime.OutcomeTemporary, 503: uptime.OutcomeTemporary, 504: uptime.OutcomeTemporary, 599: uptime.OutcomeTemporary,
	} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			requests := 0
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests++
				w.Header().Set("Location", "/elsewhere")
				w.Header().Set("Retry-After", "120")
				w.Header().Set("X-Request-Id", "req-1 "+canary)
				w.WriteHeader(code)
				if code != 204 {
					_, _ = io.WriteString(w, echo)
				}
			}))
			defer srv.Close()
			p := notify.NewWebhook(notify.WebhookOptions{Dial: dial})
			defer p.Close()
			s := p.Send(t.Context(), webhookClaim(t, srv.URL, opened()))
			if s.Outcome != want || s.Code != code || requests != 1 || s.Peer == "" {
				t.Errorf("got %s, code %d, peer %q after %d requests; want %s, %d, a peer, 1", s.Outcome, s.Code, s.Peer, requests, want, code)
			}
			if wait := s.RetryAfter; (want == uptime.OutcomeTemporary) != (wait == 2*time.Minute) {
				t.Errorf("Retry-After: got %s", wait)
			}
			if strings.ContainsAny(s.Excerpt, "\x1b\r\n") || !strings.HasPrefix(s.Excerpt, fmt.Sprintf("HTTP %d", code)) {
				t.Errorf("excerpt %q is not one clean line", s.Excerpt)
			}
			noSecret(t, s)
		})
	}
}

func TestWebhookFailuresBelowHTTP(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		dial    notify.DialFunc
		outcome uptime.Outcome
		horizon time.Duration
		excerpt string
	}{
		"nobody listens": {func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, "tcp", "127.0.0.1:1") },
			uptime.OutcomeTemporary, 0, "connection refused"},
		"the name does not exist": {func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.DNSError{Err: "no such host", Name: canary, IsNotFound: true}
		}, uptime.OutcomeTemporary, time.Hour, "does not exist"},
		"the resolver does not answer": {func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.DNSError{Err: "server misbehaving", Name: canary, IsTemporary: true}
		}, uptime.OutcomeTemporary, 0, "could not be resolved"},
		"the address is forbidden": {func(context.Context, string, string) (net.Conn, error) {
			return nil, uptime.Errorf(uptime.Forbidden, "10.0.0.7:%s is blocked", canary)
		}, uptime.OutcomePermanent, 0, "not allowed by --private-targets"},
		"the connection is closed without a reply": {func(context.Context, string, string) (net.Conn, error) {
			a, b := net.Pipe()
			go func() { _, _ = io.CopyN(io.Discard, b, 10); _ = b.Close() }()
			return a, nil
		}, uptime.OutcomeTemporary, 0, ""},
		"the reply is not HTTP": {func(context.Context, string, string) (net.Conn, error) {
			a, b := net.Pipe()
			go func() {
				_, _ = io.CopyN(io.Discard, b, 10)
				go func() { _, _ = io.Copy(io.Discard, b) }()
				_, _ = io.WriteString(b, canary+" is no status line\r\n\r\n")
				_ = b.Close()
			}()
			return a, nil
		}, uptime.OutcomeTemporary, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := notify.NewWebhook(notify.WebhookOptions{Dial: c.dial})
			defer p.Close()
			s := p.Send(t.Context(), webhookClaim(t, "http://receiver.test", opened()))
			if s.Outcome != c.outcome || s.Horizon != c.horizon || !strings.Contains(s.Excerpt, c.excerpt) {
				t.Errorf("got %s, horizon %s, %q; want %s, %s, …%s…", s.Outcome, s.Horizon, s.Excerpt, c.outcome, c.horizon, c.excerpt)
			}
			noSecret(t, s)
		})
	}
}

func TestWebhookThatNeverAnswersEndsByItsDeadline(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer srv.Close()
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	p := notify.NewWebhook(notify.WebhookOptions{Dial: dial})
	defer p.Close()
	s := p.Send(ctx, webhookClaim(t, srv.URL, opened()))
	if s.Outcome != uptime.OutcomeTemporary || s.Excerpt != "no answer in time" {
		t.Fatalf("got %s %q, want temporary, no answer in time", s.Outcome, s.Excerpt)
	}
}

func TestWebhookWithAnUntrustedCertificateIsNotSent(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the request was sent") }))
	srv.Config.ErrorLog = nil
	srv.StartTLS()
	defer srv.Close()
	p := notify.NewWebhook(notify.WebhookOptions{Dial: dial})
	defer p.Close()
	s := p.Send(t.Context(), webhookClaim(t, srv.URL, opened()))
	if s.Outcome != uptime.OutcomeTemporary || !strings.Contains(s.Excerpt, "certificate") {
		t.Fatalf("got %s %q, want temporary and the certificate named", s.Outcome, s.Excerpt)
	}
}

func TestEveryAttemptOfAWebhookHasTheSameBodyAndId(t *testing.T) {
	t.Parallel()
	type received struct {
		header http.Header
		body   []byte
	}
	var mu sync.Mutex
	var got []received
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		got = append(got, received{r.Header, b})
		mu.Unlock()
		w.WriteHeader(502) // did it, and says it did not
	}))
	defer srv.Close()
	p := notify.NewWebhook(notify.WebhookOptions{Dial: dial, Version: "1.2"})
	defer p.Close()
	c := webhookClaim(t, srv.URL, opened())
	for c.Attempt = 1; c.Attempt <= 3; c.Attempt++ {
		p.Send(t.Context(), c)
	}
	for i, r := range got {
		if err := notify.Verify(webhookSecret, r.header, r.body, time.Now()); err != nil {
			t.Errorf("attempt %d: %v", i+1, err)
		}
		if string(r.body) != string(got[0].body) || r.header.Get("Webhook-Id") != c.Delivery.Key || r.header.Get("Idempotency-Key") != c.Delivery.Key {
			t.Errorf("attempt %d differs from the first", i+1)
		}
		if r.header.Get("Authorization") != "Bearer "+canary || r.header.Get("User-Agent") != "Vedette/1.2" {
			t.Errorf("headers of attempt %d: %v", i+1, r.header)
		}
	}
	if len(got) != 3 {
		t.Fatalf("got %d requests, want 3", len(got))
	}
}

func TestVerifyRefusesWhatWasNotSignedSo(t *testing.T) {
	t.Parallel()
	var header http.Header
	var body []byte
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		header = r.Header.Clone()
		body, _ = io.ReadAll(r.Body)
	}))
	defer srv.Close()
	p := notify.NewWebhook(notify.WebhookOptions{Dial: dial})
	defer p.Close()
	p.Send(t.Context(), webhookClaim(t, srv.URL, opened()))
	other := "whsec_" + strings.Repeat("QUJD", 10)
	with := func(k, v string) http.Header {
		h := header.Clone()
		h.Set(k, v)
		return h
	}
	now := time.Now()
	for name, c := range map[string]struct {
		secret string
		header http.Header
		body   []byte
		now    time.Time
		ok     bool
	}{
		"as sent":                   {webhookSecret, header, body, now, true},
		"one of two signatures":     {webhookSecret, with("Webhook-Signature", "v1,AAAA "+header.Get("Webhook-Signature")), body, now, true},
		"another body":              {webhookSecret, header, append(slices.Clone(body), ' '), now, false},
		"another id":                {webhookSecret, with("Webhook-Id", "msg_x"), body, now, false},
		"another secret":            {other, header, body, now, false},
		"a replay after 6 min":      {webhookSecret, header, body, now.Add(6 * time.Minute), false},
		"from 6 min in the future":  {webhookSecret, header, body, now.Add(-6 * time.Minute), false},
		"no timestamp":              {webhookSecret, with("Webhook-Timestamp", ""), body, now, false},
		"no signature":              {webhookSecret, with("Webhook-Signature", ""), body, now, false},
		"a secret that is not ours": {canary, header, body, now, false},
	} {
		if err := notify.Verify(c.secret, c.header, c.body, c.now); (err == nil) != c.ok {
			t.Errorf("%s: got %v, want ok %t", name, err, c.ok)
		}
	}
}

func TestATestDoesNotReflectTheReply(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(403)
		_, _ = io.WriteString(w, "internal service banner")
	}))
	defer srv.Close()
	p := notify.NewWebhook(notify.WebhookOptions{Dial: dial})
	defer p.Close()
	s := p.Send(t.Context(), webhookClaim(t, srv.URL, uptime.Alert{ID: 1, Kind: uptime.AlertTest}))
	if s.Excerpt != "HTTP 403" {
		t.Fatalf("got %q, want only the status", s.Excerpt)
	}
}

func TestWebhookCheck(t *testing.T) {
	t.Parallel()
	p := notify.NewWebhook(notify.WebhookOptions{Dial: dial})
	for name, c := range map[string]struct{ config, field string }{
		"a plain URL":                {`{"url":"https://a.example/x?k=v"}`, ""},
		"with headers":               {`{"url":"http://a.example","headers":{"X-Key":"v"}}`, ""},
		"with a secret of its own":   {`{"url":"http://a.example","secret":"` + webhookSecret + `"}`, ""},
		"not JSON":                   {`nope`, "config"},
		"two values":                 {`{"url":"http://a.example"}{}`, "config"},
		"an unknown field":           {`{"url":"http://a.example","uri":"x"}`, "config"},
		"a wrong type":               {`{"url":7}`, "config"},
		"a list for an object":       {`[7]`, "config"},
		"a text for an object":       {`{"url":"http://a.example","headers":"x"}`, "config"},
		"no URL":                     {`{}`, "config.url"},
		"another scheme":             {`{"url":"file:///etc/passwd"}`, "config.url"},
		"no host":                    {`{"url":"http:///x"}`, "config.url"},
		"a redacted URL":             {`{"url":"http://a.example/***"}`, "config.url"},
		"credentials in the URL":     {`{"url":"https://u:` + canary + `@a.example/"}`, "config.url"},
		"a URL that does not parse":  {`{"url":"http://a b:` + canary + `"}`, "config.url"},
		"a short secret":             {`{"url":"http://a.example","secret":"whsec_QUJD"}`, "config.secret"},
		"a redacted secret":          {`{"url":"http://a.example","secret":"***"}`, "config.secret"},
		"a header of ours":           {`{"url":"http://a.example","headers":{"webhook-id":"x"}}`, "config.headers.webhook-id"},
		"a header of the connection": {`{"url":"http://a.example","headers":{"host":"x"}}`, "config.headers.host"},
		"a header that splits":       {`{"url":"http://a.example","headers":{"X-A":"x\r\nX-B: ` + canary + `"}}`, "config.headers.X-A"},
		"a metadata header":          {`{"url":"http://a.example","headers":{"Metadata-Flavor":"Google"}}`, "config.headers.Metadata-Flavor"},
		"a header without a name":    {`{"url":"http://a.example","headers":{"":"x"}}`, "config.headers."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stored, reveal, err := p.Check([]byte(c.config))
			checkField(t, err, c.field)
			if c.field != "" {
				return
			}
			if has := strings.Contains(c.config, "secret"); has == (reveal["secret"] != "") {
				t.Errorf("revealed %v", reveal)
			}
			again, reveal, err := p.Check(stored)
			if err != nil || string(again) != string(stored) || reveal != nil {
				t.Errorf("what was stored does not check: %s, %v, %v", again, reveal, err)
			}
			shown, err := p.Redact(stored)
			if err != nil || strings.Contains(string(shown), "whsec_") || strings.Contains(string(shown), `"v"`) || strings.Contains(string(shown), "k=v") {
				t.Errorf("redacted: %s, %v", shown, err)
			}
		})
	}
}

// checkField fails unless err is Invalid on field ("" for none) and shows no secret.
func checkField(t *testing.T, err error, field string) {
	t.Helper()
	if field == "" {
		if err != nil {
			t.Fatalf("got %v, want it valid", err)
		}
		return
	}
	if err != nil && strings.Contains(err.Error(), "notify.") {
		t.Errorf("got %v: nobody outside knows our types", err)
	}
	if !uptime.Is(err, uptime.Invalid) || !strings.Contains(err.Error(), "; "+field+":") || strings.Contains(err.Error(), canary) {
		t.Errorf("got %v, want Invalid on %q without its value", err, field)
	}
}
