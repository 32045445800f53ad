package e2e

import (
	"encoding/json"
	"fmt"
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
	order  []string               // guarded by mu: webhook-ids as they were first accepted
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
	r.bodies[id] = string(body)
	if r.fail != nil {
		if code := r.fail(r.seen); code != 0 {
			w.WriteHeader(code)
			_, _ = fmt.Fprintln(w, "no:", req.RequestURI, req.Header) // as some do, who echo secrets
			return
		}
	}
	if _, again := r.events[id]; !again {
		r.order = append(r.order, id)
	}
	r.events[id] = event.Type
}

// refuse has the receiver answer code from now on, 0 for accepting, and returns how
// many requests came until now.
func (r *receiver) refuse(code int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = func(int) int { return code }
	return r.seen
}

// told are the types of events in the order in which they were first accepted.
func (r *receiver) told() (kinds []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range r.order {
		kinds = append(kinds, r.events[id])
	}
	return kinds
}

// repeats is how many requests were for an event that came before.
func (r *receiver) repeats() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen - len(r.bodies)
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
