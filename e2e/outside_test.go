package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vedette/internal/notify"
	"vedette/internal/uptime"
)

// target is the page that a monitor watches.
type target struct {
	*httptest.Server
	status atomic.Int64
	hits   atomic.Int64
}

func newTarget(t testing.TB) *target {
	tg := &target{}
	tg.status.Store(http.StatusOK)
	tg.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		tg.hits.Add(1)
		w.WriteHeader(int(tg.status.Load()))
		_, _ = io.WriteString(w, "hello")
	}))
	t.Cleanup(tg.Close)
	return tg
}

// receiver takes webhooks, verifies their signatures, and counts each event once
// per webhook-id, as the README tells receivers to.
type receiver struct {
	*httptest.Server
	t      testing.TB
	mu     sync.Mutex
	secret uptime.Secret          // guarded by mu
	events map[string]string      // guarded by mu: webhook-id → type
	bodies map[string]string      // guarded by mu: webhook-id → body
	fail   func(n int) (code int) // guarded by mu; nil accepts all
	seen   int                    // guarded by mu: requests, repeats included
}

func newReceiver(t testing.TB) *receiver {
	r := &receiver{t: t, events: map[string]string{}, bodies: map[string]string{}}
	r.Server = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) serve(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen++
	if r.fail != nil {
		if code := r.fail(r.seen); code != 0 {
			w.WriteHeader(code)
			return
		}
	}
	if err := notify.Verify(r.secret.Reveal(), req.Header, body, time.Now()); err != nil {
		r.t.Errorf("a webhook does not verify: %v", err)
	}
	var event struct{ Type string }
	if err := json.Unmarshal(body, &event); err != nil {
		r.t.Errorf("a webhook is no JSON: %v", err)
	}
	id := req.Header.Get("webhook-id")
	if before, ok := r.bodies[id]; ok && before != string(body) {
		r.t.Errorf("a repeat of %s has another body", id)
	}
	r.bodies[id], r.events[id] = string(body), event.Type
}

// count is how many different events of a type arrived.
func (r *receiver) count(kind string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, k := range r.events {
		if k == kind {
			n++
		}
	}
	return n
}
