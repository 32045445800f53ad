// Package middleware is the outer part of every request's way through the API:
// request id and logger, recover, security headers, client address, body cap,
// cross-origin check, credentials and rate limit, in the order of Chain.
//
// It knows who asks, and leaves to package service what they may do. It logs the
// method, the route's pattern, status, duration and user, never a header, a query
// or a body, so that no secret reaches the log. A rate limiter that fails lets
// requests pass: losing Redis must not lock people out of their monitor.
package middleware

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"vedette/internal/service"
)

// Credentials finds out who sent a session's token or an API key.
type Credentials interface {
	BySession(ctx context.Context, token string) (service.Actor, error)
	ByAPIKey(ctx context.Context, key string) (service.Actor, error)
}

// Limiter counts requests. Implementations that hold over several replicas keep
// their counters in a shared place.
type Limiter interface {
	// Allow reports whether key may do one more of at most n per period.
	Allow(ctx context.Context, key string, n int, per time.Duration) (bool, error)
}

// Options of Chain.
type Options struct {
	Credentials    Credentials
	Limiter        Limiter // nil: no limit
	Logger         *slog.Logger
	TrustedProxies []netip.Prefix // whose X-Forwarded-For and -Proto are believed
	MaxBody        int64          // bytes of a request's body; default 1 MiB
	Secure         bool           // people reach this installation over TLS (its public URL is https)
	PerMinute      int            // requests per minute of one user or address; default 1200
}

// Chain puts everything around next, outermost first: request id and logger,
// recover, headers, client address, body cap, cross-origin check, rate limit of
// the address, credentials, rate limit of the user.
func Chain(o Options, next http.Handler) http.Handler {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MaxBody <= 0 {
		o.MaxBody = 1 << 20
	}
	if o.PerMinute <= 0 {
		o.PerMinute = 1200
	}
	h := authenticate(o, next)
	h = crossOrigin(h)
	h = capBody(o.MaxBody, h)
	h = securityHeaders(h)
	h = recoverer(o.Logger, h)
	return identify(o, h)
}

// Plain is the Chain of routes for programs that know nothing of us but a secret URL:
// no credentials, no cookie to protect, and no limit but those of next. Many senders
// may share one address.
func Plain(o Options, next http.Handler) http.Handler {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return identify(o, recoverer(o.Logger, securityHeaders(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		infoOf(r.Context()).quiet = true
		next.ServeHTTP(w, r)
	}))))
}

// info is what middleware knows about one request. It is made once, by identify,
// and filled in by those further in; one request is served by one goroutine.
type info struct {
	id      string
	ip      netip.Addr
	secure  bool // the browser's connection is TLS, ours or a trusted proxy's
	actor   service.Actor
	pattern string
	quiet   bool  // one of very many: logged for debugging only, unless it fails
	cause   error // of an internal error, for the log
}

type infoKey struct{}

func infoOf(ctx context.Context) *info {
	if i, ok := ctx.Value(infoKey{}).(*info); ok {
		return i
	}
	return &info{}
}

// RequestID is the request's id, as its X-Request-Id header and its log line say.
func RequestID(ctx context.Context) string { return infoOf(ctx).id }

// ClientIP is the address of whoever asks, behind trusted proxies too.
func ClientIP(ctx context.Context) netip.Addr { return infoOf(ctx).ip }

// Secure reports whether the client's connection is TLS.
func Secure(ctx context.Context) bool { return infoOf(ctx).secure }

// Actor is who asks; the zero Actor if we do not know.
func Actor(ctx context.Context) service.Actor { return infoOf(ctx).actor }

// Route names the route's pattern for the log: without it a path with ids would
// be logged, and no two lines would be alike.
func Route(ctx context.Context, pattern string) { infoOf(ctx).pattern = pattern }

// Failed keeps an internal error for the request's log line.
func Failed(ctx context.Context, err error) { infoOf(ctx).cause = err }

// Problem writes an RFC 9457 answer for refusals that happen before the API.
func Problem(w http.ResponseWriter, r *http.Request, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	body := struct {
		Title    string `json:"title"`
		Status   int    `json:"status"`
		Detail   string `json:"detail"`
		Instance string `json:"instance,omitempty"`
	}{http.StatusText(status), status, detail, "urn:vedette:request:" + RequestID(r.Context())}
	_ = json.NewEncoder(w).Encode(body) // the client is gone: nobody to tell
}

func newRequestID() string { return rand.Text()[:16] }
