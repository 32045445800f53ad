package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vedette/internal/testenv"
)

// An incident shows the first bad check beside the last good one and what changed, with
// our own health at that moment; and no credential, though the target echoes them.
func TestAnIncidentShowsWhatChanged(t *testing.T) {
	t.Parallel()
	var failures, hits atomic.Int64 // how many requests are to fail; how many came
	tg := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer hits.Add(1)
		if failures.Add(-1) >= 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintf(w, "Busy. You sent %s.", r.Header)
			return
		}
		fmt.Fprintf(w, "Hello. You sent %s.%s", r.Header, strings.Repeat("x", 8000))
	}))
	t.Cleanup(tg.Close)
	c := embedded(t, testenv.SMTP(t).URL())
	var m struct {
		ID int64 `json:"id"`
	}
	c.must("POST", "/api/v1/monitors", object{"name": "Shop", "type": "http", "target": tg.URL, "interval": "1s", "timeout": "900ms",
		"config":  object{"auth": object{"kind": "bearer", "token": "canary-token"}, "headers": object{"X-Api-Key": "canary-key"}},
		"confirm": object{"failures": 1, "interval": "100ms", "successes": 1}}, &m)
	c.until(m.ID, "up")
	failures.Store(1) // not confirmed; the good check after a failure is kept
	seen := hits.Load()
	eventually(t, 30*time.Second, "three more checks", func() bool { return hits.Load() >= seen+3 })
	failures.Store(1 << 40)
	c.until(m.ID, "down")

	list := c.list(fmt.Sprintf("/api/v1/incidents?monitor_id=%d", m.ID))
	if len(list) != 1 || list[0]["evidence"] != nil {
		t.Fatalf("got the incidents %v, want one, and what was seen only where one is asked for", list)
	}
	var in struct {
		Evidence struct {
			FirstBad sight    `json:"first_bad"`
			LastGood sight    `json:"last_good"`
			Changed  []string `json:"difference"`
		} `json:"evidence"`
	}
	path := fmt.Sprintf("/api/v1/incidents/%v", list[0]["id"])
	var whole json.RawMessage
	c.must("GET", path, nil, &whole)
	if err := json.Unmarshal(whole, &in); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(whole), "canary") {
		t.Errorf("a credential is shown: %s", whole)
	}
	bad, good := in.Evidence.FirstBad, in.Evidence.LastGood
	if bad.Status != 503 || good.Status != 200 || !good.At.Before(bad.At) || len(good.Body) > 4096 || !strings.HasPrefix(good.Body, "Hello. You sent map[") || len(good.Phases) == 0 {
		t.Errorf("got first bad %s %d and last good %s %d with %d bytes, want 503 after 200 with times and the first 4 KiB",
			bad.At, bad.Status, good.At, good.Status, len(good.Body))
	}
	if bad.Local["timer_late"] == "" {
		t.Errorf("got our own health %v, want it beside the first bad check", bad.Local)
	}
	if !slices.Contains(in.Evidence.Changed, "status 200 → 503") {
		t.Errorf("got the changes %q, want that of the status among them", in.Evidence.Changed)
	}
}

// sight is one check as an incident shows it.
type sight struct {
	At     time.Time         `json:"at"`
	Status int               `json:"status"`
	Body   string            `json:"body"`
	Phases map[string]string `json:"phases"`
	Local  map[string]string `json:"local"`
}
