package middleware

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"vedette/internal/service"
	"vedette/internal/uptime"
)

// Names of the session cookie. Over TLS it has the prefix with which browsers
// refuse to take it from a sub-domain or an insecure page.
const (
	cookiePlain  = "vedette_session"
	cookieSecure = "__Host-vedette_session"
)

// SessionCookie is the cookie that carries a session's token; an empty token
// makes one that removes it.
func SessionCookie(ctx context.Context, token string, expires time.Time) *http.Cookie {
	c := &http.Cookie{
		Name: cookiePlain, Value: token, Path: "/", Expires: expires,
		HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: Secure(ctx),
	}
	if c.Secure {
		c.Name = cookieSecure
	}
	if token == "" {
		c.MaxAge, c.Expires = -1, time.Unix(1, 0)
	}
	return c
}

// authenticate finds out who asks. Wrong credentials are no credentials: the route
// then answers 401 if it wants any, and log-in and pages still work with a cookie
// that is over.
func authenticate(o Options, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i := infoOf(r.Context())
		if !allow(o, w, r, "ip:"+bucket(i.ip)) {
			return
		}
		actor, err := Reauthenticate(r, o.Credentials)
		if err != nil && !uptime.Is(err, uptime.Unauthorized) {
			Failed(r.Context(), err)
			w.Header().Set("Retry-After", "5")
			Problem(w, r, http.StatusServiceUnavailable, "the database does not answer; try again")
			return
		}
		i.actor = actor
		if actor.Known() && !allow(o, w, r, "user:"+strconv.FormatInt(actor.User.ID, 10)) {
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Reauthenticate looks the request's credentials up again, for streams that
// outlive a revocation. Unauthorized when they are over; a request without any is
// the zero Actor.
func Reauthenticate(r *http.Request, c Credentials) (service.Actor, error) {
	if h := r.Header.Get("Authorization"); h != "" {
		scheme, key, _ := strings.Cut(h, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return service.Actor{}, uptime.Errorf(uptime.Unauthorized, "use Authorization: Bearer")
		}
		return c.ByAPIKey(r.Context(), strings.TrimSpace(key))
	}
	name := cookiePlain
	if Secure(r.Context()) {
		name = cookieSecure
	}
	cookie, err := r.Cookie(name)
	if errors.Is(err, http.ErrNoCookie) || cookie.Value == "" || len(cookie.Value) > 128 {
		return service.Actor{}, nil
	}
	return c.BySession(r.Context(), cookie.Value)
}

// allow asks the limiter, and lets the request pass when that cannot answer.
func allow(o Options, w http.ResponseWriter, r *http.Request, key string) bool {
	if o.Limiter == nil {
		return true
	}
	ok, err := o.Limiter.Allow(r.Context(), key, o.PerMinute, time.Minute)
	if err != nil {
		o.Logger.WarnContext(r.Context(), "rate limiter does not answer", "error", err)
		return true
	}
	if !ok {
		w.Header().Set("Retry-After", "60")
		Problem(w, r, http.StatusTooManyRequests, "too many requests; try again in a minute")
	}
	return ok
}

// bucket is the address to count under: an IPv6 client owns a whole /64.
func bucket(ip netip.Addr) string {
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return p.String()
		}
	}
	return ip.String()
}

// crossOrigin refuses what another site's page makes a browser send. Requests with
// an Authorization header are exempt: no page can make a browser add that.
func crossOrigin(next http.Handler) http.Handler {
	guard := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			if err := guard.Check(r); err != nil {
				Problem(w, r, http.StatusForbidden, "this request comes from another site's page")
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}
