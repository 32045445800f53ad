package middleware

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// identify gives the request an id and its client's address, and logs it when it
// is done. The id is always ours: one that came along could forge log lines.
func identify(o Options, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		i := &info{id: newRequestID()}
		i.ip, i.secure = client(r, o.TrustedProxies)
		i.secure = i.secure || o.Secure
		r = r.WithContext(context.WithValue(r.Context(), infoKey{}, i))
		w.Header().Set("X-Request-Id", i.id)
		rec := &recorder{ResponseWriter: w}
		defer func() { logRequest(r, o.Logger, i, rec, time.Since(start)) }()
		next.ServeHTTP(rec, r)
	})
}

func logRequest(r *http.Request, log *slog.Logger, i *info, rec *recorder, took time.Duration) {
	level := slog.LevelDebug
	if rec.status() >= 500 {
		level = slog.LevelError
	} else if !i.quiet && r.Method != http.MethodGet && r.Method != http.MethodHead {
		level = slog.LevelInfo
	}
	attrs := []slog.Attr{
		slog.String("request_id", i.id), slog.String("method", r.Method), slog.String("route", i.pattern),
		slog.Int("status", rec.status()), slog.Float64("duration_ms", float64(took.Microseconds())/1000),
		slog.Int64("user_id", i.actor.User.ID), slog.String("client", i.ip.String()),
	}
	if i.cause != nil {
		attrs = append(attrs, slog.String("error", i.cause.Error()))
	}
	log.LogAttrs(r.Context(), level, "request", attrs...)
}

// recorder notes the status. It unwraps, so that flushing and deadlines of live
// streams reach the connection.
type recorder struct {
	http.ResponseWriter
	code int
}

func (r *recorder) WriteHeader(code int) {
	if r.code == 0 && code >= 200 {
		r.code = code
	}
	r.ResponseWriter.WriteHeader(code)
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) status() int {
	if r.code == 0 {
		return http.StatusOK
	}
	return r.code
}

// recoverer turns a panic into a 500 with the request's id, and logs its stack.
func recoverer(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so too
				panic(p)
			}
			Failed(r.Context(), fmt.Errorf("panic: %v", p))
			log.ErrorContext(r.Context(), "panic in handler", "request_id", RequestID(r.Context()), "stack", string(debug.Stack()))
			if rec, ok := w.(*recorder); ok && rec.code != 0 {
				panic(http.ErrAbortHandler) // half an answer is out: break it off, so that it does not look whole
			}
			Problem(w, r, http.StatusInternalServerError, "something went wrong here; the log has it under request id "+RequestID(r.Context()))
		}()
		next.ServeHTTP(w, r)
	})
}

func securityHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'self'; script-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if Secure(r.Context()) {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		if strings.HasPrefix(r.URL.Path, "/api/") {
			h.Set("Cache-Control", "no-store")
		}
		next.ServeHTTP(w, r)
	})
}

// Bounds of what is read, and thrown away, of a body that is too large. Closing on
// a client that still sends would reset the connection, and our answer with it.
const (
	maxDrain    = 16 << 20
	drainWithin = 5 * time.Second
)

// capBody bounds what a request may send. A packed body is refused: it would pass
// the cap and burst behind it.
func capBody(limit int64, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if enc := r.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
			Problem(w, r, http.StatusUnsupportedMediaType, "send the body as it is, without Content-Encoding")
			return
		}
		body, rec := r.Body, &recorder{ResponseWriter: w}
		defer func() {
			if rec.code == http.StatusRequestEntityTooLarge && r.Header.Get("Expect") == "" {
				_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(drainWithin))
				_, _ = io.CopyN(io.Discard, body, maxDrain) // what is left does not matter
			}
		}()
		if r.ContentLength > limit {
			Problem(rec, r, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes", limit))
			return
		}
		r.Body = io.NopCloser(http.MaxBytesReader(w, body, limit)) // the server closes it, when we are done
		next.ServeHTTP(rec, r)
	})
}

// client is the address of whoever asks. X-Forwarded-For is read from its right
// end, and only as far as trusted proxies wrote it: what is left of that is the
// client's own invention.
func client(r *http.Request, trusted []netip.Prefix) (ip netip.Addr, secure bool) {
	secure = r.TLS != nil
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil { // a Unix socket has no address
		return netip.Addr{}, secure
	}
	ip = ap.Addr().Unmap()
	if !within(ip, trusted) {
		return ip, secure
	}
	secure = secure || r.Header.Get("X-Forwarded-Proto") == "https"
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		next, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			break
		}
		if ip = next.Unmap().WithZone(""); !within(ip, trusted) {
			break
		}
	}
	return ip, secure
}

func within(ip netip.Addr, nets []netip.Prefix) bool {
	return slices.ContainsFunc(nets, func(n netip.Prefix) bool { return n.Contains(ip) })
}
