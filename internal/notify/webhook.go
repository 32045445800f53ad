package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"time"

	"vedette/internal/uptime"
)

const (
	secretPrefix   = "whsec_"
	secretBytes    = 32       // Standard Webhooks: 24 to 64
	maxReply       = 64 << 10 // bytes of a receiver's reply that are read
	verifyTolerate = 5 * time.Minute
)

// DialFunc opens a connection; ours is the guarded dialer's. An address that may not
// be dialled is an error of kind Forbidden, which makes the failure permanent.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// WebhookOptions of a Webhook provider.
type WebhookOptions struct {
	Dial    DialFunc       // required: every connection goes through it
	RootCAs *x509.CertPool // default: the system's
	Version string         // shown in User-Agent
}

// Webhook sends alerts as signed HTTP posts (standardwebhooks.com). It keeps
// connections to receivers for a while, follows no redirect and uses no proxy. It
// is safe for concurrent use.
type Webhook struct {
	client *http.Client
	agent  string
}

// NewWebhook makes the provider of channels of type "webhook".
func NewWebhook(o WebhookOptions) *Webhook {
	agent := "Vedette"
	if o.Version != "" {
		agent += "/" + o.Version
	}
	return &Webhook{agent: agent, client: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:            o.Dial,
			TLSClientConfig:        tlsConfig("", o.RootCAs),
			ForceAttemptHTTP2:      true,
			MaxResponseHeaderBytes: maxReply,
			MaxIdleConnsPerHost:    2,
			IdleConnTimeout:        30 * time.Second,
			DisableCompression:     true, // an excerpt of the reply is all we want of it
		},
	}}
}

// Close ends idle connections.
func (w *Webhook) Close() { w.client.CloseIdleConnections() }

// Type is the channel type.
func (*Webhook) Type() string { return "webhook" }

// webhookEvent is the document that is posted. Its fields are only ever added to,
// and it holds nothing of the attempt, so that every repeat has the same bytes.
type webhookEvent struct {
	Type      uptime.AlertKind `json:"type"`
	Timestamp time.Time        `json:"timestamp"`
	Data      uptime.AlertBody `json:"data"`
}

// webhookBody is the body of every attempt to post a.
func webhookBody(a uptime.Alert) ([]byte, error) {
	if a.Body.Monitor.Tags == nil {
		a.Body.Monitor.Tags = []string{} // a list, for receivers with typed decoders
	}
	return json.Marshal(webhookEvent{a.Kind, a.CreatedAt.UTC(), a.Body})
}

// Send posts the alert once.
func (w *Webhook) Send(ctx context.Context, c uptime.Claim) Sent {
	cfg, err := decodeWebhook(c.Channel.Config)
	if err != nil {
		return permanent("the channel's configuration cannot be used: " + scrub(err.Error()))
	}
	req, err := w.request(cfg, c)
	if err != nil {
		return permanent("the channel's configuration cannot be used")
	}
	var peer string
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		peer = i.Conn.RemoteAddr().String()
	}})
	resp, err := w.client.Do(req.WithContext(ctx))
	if err != nil {
		sent := failed(err)
		sent.Peer, sent.Excerpt = peer, scrub(sent.Excerpt, cfg.secrets()...)
		return sent
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxReply)) // the status has decided already
	if c.Alert.Kind == uptime.AlertTest {
		body = nil // a test must not become a way to read what answers at an address
	}
	sent := judgeHTTP(resp, time.Now())
	sent.Peer = peer
	sent.Excerpt = scrub(sent.Excerpt+string(body), cfg.secrets()...)
	sent.ProviderID = cut(scrub(resp.Header.Get("X-Request-Id"), cfg.secrets()...), 128)
	return sent
}

// request makes the signed post.
func (w *Webhook) request(cfg webhookConfig, c uptime.Claim) (*http.Request, error) {
	body, err := webhookBody(c.Alert)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequest(http.MethodPost, cfg.URL, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for k, v := range cfg.Headers {
		req.Header.Set(k, v)
	}
	now := time.Now()
	signature, err := sign(cfg.Secret, c.Delivery.Key, now, body)
	if err != nil {
		return nil, err
	}
	for k, v := range map[string]string{
		"Content-Type": "application/json", "User-Agent": w.agent,
		"Webhook-Id": c.Delivery.Key, "Webhook-Timestamp": strconv.FormatInt(now.Unix(), 10),
		"Webhook-Signature": signature, "Idempotency-Key": c.Delivery.Key,
	} {
		req.Header.Set(k, v)
	}
	return req, nil
}

// judgeHTTP says what a reply means. 408, 425, 429 and 5xx ask for a repeat (RFC
// 9110, RFC 8470, RFC 6585); every other refusal would only be refused again. A
// redirect is a refusal: the signed document goes to the address its owner gave.
func judgeHTTP(r *http.Response, now time.Time) Sent {
	sent := Sent{Code: r.StatusCode, Outcome: uptime.OutcomePermanent}
	switch code := r.StatusCode; {
	case code >= 200 && code <= 299:
		sent.Outcome = uptime.OutcomeAccepted
	case code >= 300 && code <= 399:
		sent.Excerpt = fmt.Sprintf("HTTP %d: redirects are not followed, give the final URL. ", code)
		return sent
	case code == 408 || code == 425 || code == 429 || code >= 500:
		sent.Outcome = uptime.OutcomeTemporary
		sent.RetryAfter = retryAfter(r.Header.Get("Retry-After"), now)
	}
	sent.Excerpt = fmt.Sprintf("HTTP %d ", r.StatusCode)
	return sent
}

// retryAfter reads the header in either of its forms (RFC 9110 section 10.2.3);
// 0 if it is absent, past or nonsense.
func retryAfter(v string, now time.Time) time.Duration {
	v = strings.TrimSpace(v)
	if n, err := strconv.ParseInt(v, 10, 32); err == nil {
		return max(0, time.Duration(n)*time.Second)
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(0, t.Sub(now))
	}
	return 0
}

// sign is the value of webhook-signature: HMAC-SHA256 over id, timestamp and body.
func sign(secret, id string, at time.Time, body []byte) (string, error) {
	key, err := secretKey(secret)
	if err != nil {
		return "", err
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%d.", id, at.Unix())
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)), nil
}

// secretKey is the key inside a "whsec_" secret. Its errors do not repeat it.
func secretKey(secret string) ([]byte, error) {
	rest, ok := strings.CutPrefix(secret, secretPrefix)
	key, err := base64.StdEncoding.DecodeString(rest)
	if !ok || err != nil || len(key) < 24 || len(key) > 64 {
		return nil, errors.New("the secret must be whsec_ and the base64 of 24 to 64 bytes")
	}
	return key, nil
}

// newSecret makes a signing secret.
func newSecret() string {
	key := make([]byte, secretBytes)
	_, _ = rand.Read(key) // never fails: crypto/rand
	return secretPrefix + base64.StdEncoding.EncodeToString(key)
}

// Verify checks a received webhook as a receiver should: a matching v1 signature
// among those of the header, and a timestamp at most five minutes from now. The
// caller must also remember webhook-id values, to do nothing twice.
func Verify(secret string, h http.Header, body []byte, now time.Time) error {
	unix, err := strconv.ParseInt(h.Get("Webhook-Timestamp"), 10, 64)
	if err != nil {
		return errors.New("webhook-timestamp is missing or no number")
	}
	at := time.Unix(unix, 0)
	if now.Sub(at).Abs() > verifyTolerate {
		return errors.New("webhook-timestamp is too far from now")
	}
	want, err := sign(secret, h.Get("Webhook-Id"), at, body)
	if err != nil {
		return err
	}
	for got := range strings.FieldsSeq(h.Get("Webhook-Signature")) {
		if subtle.ConstantTimeCompare([]byte(got), []byte(want)) == 1 {
			return nil
		}
	}
	return errors.New("no signature matches")
}
