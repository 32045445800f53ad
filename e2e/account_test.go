package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"vedette/internal/uptime"
)

// history is what the API shows of a monitor's checks.
type history struct {
	id   int64
	rows []struct {
		ScheduledAt time.Time `json:"scheduled_at"`
		Attempt     int       `json:"attempt"`
		Kind        string    `json:"kind"`
		Verdict     string    `json:"verdict"`
		Reason      string    `json:"reason"`
	}
	gaps []struct {
		From  time.Time  `json:"from"`
		To    *time.Time `json:"to"`
		Cause string     `json:"cause"`
	}
}

func (c *cluster) history(id int64) history {
	c.t.Helper()
	h := history{id: id}
	b, err := json.Marshal(c.list(fmt.Sprintf("/api/v1/monitors/%d/results?limit=200", id)))
	if err == nil {
		err = json.Unmarshal(b, &h.rows)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	var up struct{ Gaps any }
	c.must("GET", fmt.Sprintf("/api/v1/monitors/%d/uptime", id), nil, &up)
	if b, err = json.Marshal(up.Gaps); err == nil {
		err = json.Unmarshal(b, &h.gaps)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return h
}

// count is how many first attempts at or after from have the verdict, of the reason
// if one is given.
func (h history) count(from time.Time, verdict string, reason uptime.Reason) int {
	n := 0
	for _, r := range h.rows {
		if !r.ScheduledAt.Before(from) && r.Attempt == 0 && r.Verdict == verdict && (reason == "" || r.Reason == string(reason)) {
			n++
		}
	}
	return n
}

// inGap reports whether at lies in a gap of ours, in which nobody scheduled.
func (h history) inGap(at time.Time) bool {
	for _, g := range h.gaps {
		if g.Cause == string(uptime.NotRunning) && at.After(g.From) && (g.To == nil || !at.After(*g.To)) {
			return true
		}
	}
	return false
}

// wrong is what is wrong with the slots before to: each has exactly one verdict, or
// lies in a gap. "" if nothing is. The monitors here have intervals of a second.
func (h history) wrong(to time.Time) string {
	seen, first := map[time.Time]int{}, to
	for _, r := range h.rows {
		if r.Kind != "slot" || r.Attempt != 0 {
			continue
		}
		seen[r.ScheduledAt]++
		if r.ScheduledAt.Before(first) {
			first = r.ScheduledAt
		}
	}
	for at := first; at.Before(to); at = at.Add(time.Second) {
		if n := seen[at]; n > 1 || n == 0 && !h.inGap(at) {
			return fmt.Sprintf("monitor %d: slot %s has %d verdicts", h.id, at.Format(time.TimeOnly), n)
		}
	}
	if len(seen) == 0 {
		return fmt.Sprintf("monitor %d has no slots", h.id)
	}
	return ""
}

// account waits until every slot so far has its one verdict. The last ones are left
// out: the auditor gives a slot of a second ten seconds until it is missed.
func (c *cluster) account(ids ...int64) {
	c.t.Helper()
	to := time.Now().Add(-15 * time.Second)
	for _, id := range ids {
		wrong := ""
		deadline := time.Now().Add(60 * time.Second)
		eventually(c.t, 90*time.Second, "the slots are read", func() bool {
			wrong = c.history(id).wrong(to)
			return wrong == "" || time.Now().After(deadline)
		})
		if wrong != "" {
			c.t.Error(wrong)
		}
	}
}

// every makes n monitors of url, checked every second, that are told nobody.
func (c *cluster) every(n int, url string, more object) []int64 {
	c.t.Helper()
	var ids []int64
	for i := range n {
		m := object{"name": fmt.Sprintf("%s %d", url, i), "type": "http", "target": url, "interval": "1s", "timeout": "900ms",
			"confirm": object{"failures": 1, "interval": "100ms", "successes": 1}, "channels": []int64{}, "enabled": true}
		for k, v := range more {
			m[k] = v
		}
		var made struct {
			ID int64 `json:"id"`
		}
		c.must("POST", "/api/v1/monitors", m, &made)
		ids = append(ids, made.ID)
	}
	return ids
}

// newSlow is a target that works and takes its time, so that checks are under way
// whenever something happens to us, and need more of the target after it.
func newSlow(t testing.TB) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/there" {
			return
		}
		select {
		case <-time.After(400 * time.Millisecond):
		case <-r.Context().Done():
		}
		http.Redirect(w, r, "/there", http.StatusFound)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// leader is the name of the scheduler that says it leads; "" if none of names does.
func (c *cluster) leader(names ...string) string {
	for _, name := range names {
		if strings.Contains(c.metrics(name), "\nvedette_schedule_leading 1\n") {
			return name
		}
	}
	return ""
}

// elapse waits until d has passed since begin: a lease has to end.
func elapse(t testing.TB, begin time.Time, d time.Duration) {
	t.Helper()
	eventually(t, d+30*time.Second, "time has passed", func() bool { return time.Since(begin) > d })
}
