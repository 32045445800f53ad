package app

import (
	"net/http"
	"sync/atomic"
)

// gate is the handler that listens from the first moment on. Until the product
// behind it stands (the database may be away for hours) it answers the health
// routes itself and everything else with 503, so that a load balancer and a
// person both learn what is going on.
type gate struct {
	inner  atomic.Pointer[http.Handler]
	status *status
}

// open puts h behind the gate.
func (g *gate) open(h http.Handler) { g.inner.Store(&h) }

// ServeHTTP passes to the inner handler once there is one.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h := g.inner.Load(); h != nil {
		(*h).ServeHTTP(w, r)
		return
	}
	if r.URL.Path == "/healthz" {
		w.WriteHeader(http.StatusOK)
		return
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Retry-After", "2")
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = w.Write(g.status.problem())
}
