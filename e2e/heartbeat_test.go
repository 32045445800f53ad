package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"vedette/internal/testenv"
)

// beat is a heartbeat monitor as its owner sees it.
type beat struct {
	ID    int64  `json:"id"`
	URL   string `json:"ping_url"`
	State struct {
		Verdict string `json:"verdict"`
		Reason  string `json:"reason"`
		Message string `json:"message"`
	} `json:"state"`
	Confirm struct {
		Failures int `json:"failures"`
	} `json:"confirm"`
}

func (c *cluster) passive(name, typ, interval string, config object) beat {
	c.t.Helper()
	var b beat
	c.must("POST", "/api/v1/monitors", object{"name": name, "type": typ, "interval": interval, "timeout": "900ms", "config": config}, &b)
	if b.Confirm.Failures != 0 {
		c.t.Errorf("a %s confirms %d times, want never", typ, b.Confirm.Failures)
	}
	return b
}

// send sends a ping and checks what it is answered.
func (c *cluster) send(method, url, body string, status int, answer string) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Errorf("%s %s: %v", method, url, err)
		return
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status || method != "HEAD" && strings.TrimSpace(string(got)) != answer {
		c.t.Errorf("%s %s: got %d %q, %v, want %d %q", method, url, resp.StatusCode, got, err, status, answer)
	}
}

// TestAHeartbeatThatStopsIsToldOnce pings in every way there is, stops, and pings again.
func TestAHeartbeatThatStopsIsToldOnce(t *testing.T) {
	t.Parallel()
	c := embedded(t, testenv.SMTP(t).URL())
	hook := newReceiver(t)
	c.hook(hook, nil)
	b := c.passive("Backup", "heartbeat", "1s", object{"period": "3s", "grace": "2s"})
	if got := c.verdict(b.ID); got != "unknown" {
		t.Errorf("never pinged it is %s, want unknown", got)
	}
	big := strings.Repeat("x", 3<<20)
	for _, p := range []struct{ method, body string }{{"GET", ""}, {"HEAD", ""}, {"POST", "done"}, {"POST", big}, {"GET", ""}} {
		c.send(p.method, b.URL, p.body, 200, "OK")
		c.until(b.ID, "up")
		elapse(t, time.Now(), time.Second)
	}
	for range 50 { // many at once
		c.send("POST", b.URL, "again", 200, "OK")
	}
	stopped := time.Now()
	if c.verdict(b.ID) != "up" || hook.count("incident.opened") != 0 {
		t.Error("regular pings are not up")
	}
	c.until(b.ID, "down")
	if took := time.Since(stopped); took < 4500*time.Millisecond {
		t.Errorf("down after %s, want period and grace at least", took)
	}
	elapse(t, time.Now(), 5*time.Second) // time for one message too many
	if n := hook.count("incident.opened"); n != 1 {
		t.Errorf("told %d times, want once", n)
	}
	incidents := c.list(fmt.Sprintf("/api/v1/monitors/%d/incidents", b.ID))
	if len(incidents) != 1 || incidents[0]["reason"] != "missed_heartbeat" {
		t.Errorf("got %v, want one missed heartbeat", incidents)
	}
	c.send("GET", b.URL, "", 200, "OK")
	eventually(t, 2*time.Second, "its return is told", func() bool { return hook.count("incident.resolved") == 1 })
	if pings := c.list(fmt.Sprintf("/api/v1/monitors/%d/pings", b.ID)); len(pings) != 56 || len(pings[52]["body"].(string)) != 10<<10 {
		t.Errorf("%d pings are listed, want 56, and 10 KiB of the large one", len(pings))
	}
}

// TestWhatAJobReportsIsKnownAtOnce has a check only once a day, besides those that
// pings ask for.
func TestWhatAJobReportsIsKnownAtOnce(t *testing.T) {
	for mode, begin := range map[string]func(testing.TB, string) *cluster{
		"embedded": func(t testing.TB, smtp string) *cluster { return embedded(t, smtp) },
		"scaled":   func(t testing.TB, smtp string) *cluster { return scaledBy(t, smtp, 1) },
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			jobReports(t, begin(t, testenv.SMTP(t).URL()))
		})
	}
}

func jobReports(t *testing.T, c *cluster) {
	b := c.passive("Import", "heartbeat", "24h", object{"period": "24h", "grace": "1h"})
	const run = "?rid=123e4567-e89b-12d3-a456-426614174000"
	push := strings.Replace(b.URL, "/ping/", "/api/push/", 1)
	for _, s := range []struct {
		name, method, url, body, answer string
		verdict, reason, says           string
	}{
		{"the first success", "GET", b.URL, "", "OK", "up", "", ""},
		{"a start", "POST", b.URL + "/start" + run, "", "OK", "up", "", ""},
		{"a failure", "POST", b.URL + "/fail" + run, "disk full", "OK", "down", "reported_failure", "reported a failure of run 123e4567"},
		{"a log", "POST", b.URL + "/log", "still at it", "OK", "down", "reported_failure", ""},
		{"a success", "HEAD", b.URL, "", "", "up", "", ""},
		{"exit code 3", "POST", b.URL + "/3", "trace", "OK", "down", "reported_failure", "exit code 3"},
		{"exit code 0", "POST", b.URL + "/0", "", "OK", "up", "", ""},
		{"Uptime Kuma's down", "GET", push + "?status=down&msg=broken&ping=12", "", `{"ok":true}`, "down", "reported_failure", ""},
		{"Uptime Kuma's up", "GET", push + "?status=up&msg=OK&ping=", "", `{"ok":true}`, "up", "", ""},
	} {
		c.send(s.method, s.url, s.body, 200, s.answer)
		eventually(t, 5*time.Second, s.name+" is known", func() bool { return c.verdict(b.ID) == s.verdict })
		c.must("GET", fmt.Sprintf("/api/v1/monitors/%d", b.ID), nil, &b)
		if s.verdict == "down" && (b.State.Reason != s.reason || !strings.Contains(b.State.Message, s.says)) {
			t.Errorf("%s: got %+v, want %s with %q", s.name, b.State, s.reason, s.says)
		}
	}
	var incident struct {
		Opening struct{ Body string } `json:"opening_evidence"`
	}
	incidents := c.list(fmt.Sprintf("/api/v1/monitors/%d/incidents", b.ID))
	if len(incidents) != 3 {
		t.Fatalf("got %v, want three incidents", incidents)
	}
	c.must("GET", fmt.Sprintf("/api/v1/incidents/%v", incidents[2]["id"]), nil, &incident)
	if incident.Opening.Body != "disk full" {
		t.Errorf("the evidence shows %q, want what the job said", incident.Opening.Body)
	}
	old := b.URL
	c.must("POST", fmt.Sprintf("/api/v1/monitors/%d/ping-token", b.ID), object{}, &b)
	c.send("GET", b.URL, "", 200, "OK")
	for url, status := range map[string]int{old: 404, b.URL + "/256": 404, b.URL + "/stop": 404, b.URL + "/start?rid=7": 400} {
		c.send("GET", url, "", status, map[int]string{404: "not found", 400: "invalid uuid format"}[status])
	}
	c.send("GET", strings.Replace(old, "/ping/", "/api/push/", 1), "", 404, `{"ok":false,"msg":"not found"}`)
	c.send("DELETE", b.URL, "", 405, "send GET, HEAD or POST")
}

// TestNoJobIsMissingWhileWeWereNotThere stops the only process, and then kills it, for
// longer than a heartbeat may be silent; its job pings all the time, and goes on.
func TestNoJobIsMissingWhileWeWereNotThere(t *testing.T) {
	t.Parallel()
	c := embedded(t, testenv.SMTP(t).URL())
	b := c.passive("Backup", "heartbeat", "1s", object{"period": "5s", "grace": "2s"})
	c.send("GET", b.URL, "", 200, "OK")
	c.until(b.ID, "up")
	c.procs["all"].pause()
	elapse(t, time.Now(), 9*time.Second)
	c.procs["all"].resume()
	elapse(t, time.Now(), 3*time.Second)
	c.send("GET", b.URL, "", 200, "OK")
	elapse(t, time.Now(), time.Second)
	c.neverDown(b.ID)
	c.procs["all"].kill()
	elapse(t, time.Now(), 9*time.Second)
	c.restart("all")
	c.ready()
	elapse(t, time.Now(), 3*time.Second)
	url := c.base() + b.URL[strings.Index(b.URL, "/ping/"):]
	c.send("GET", url, "", 200, "OK")
	elapse(t, time.Now(), 3*time.Second)
	c.until(b.ID, "up")
	c.neverDown(b.ID)
	c.until(b.ID, "down") // and yet its end is found
}

// TestAGroupFollowsItsMembers has two monitors that a person sets.
func TestAGroupFollowsItsMembers(t *testing.T) {
	t.Parallel()
	c := embedded(t, testenv.SMTP(t).URL())
	first, second := c.passive("Lift", "manual", "24h", object{}), c.passive("Door", "manual", "24h", object{})
	one := c.passive("Building", "group", "1s", object{"members": []int64{first.ID, second.ID}})
	both := c.passive("City", "group", "1s", object{"members": []int64{one.ID, second.ID}, "rule": "all"})
	set := func(b beat, verdict string) {
		t.Helper()
		c.must("PUT", fmt.Sprintf("/api/v1/monitors/%d/status", b.ID), object{"verdict": verdict, "message": "as seen by the porter"}, nil)
		eventually(t, 5*time.Second, "what was said is known", func() bool { return c.verdict(b.ID) == verdict })
	}
	set(first, "up")
	set(second, "up")
	c.until(one.ID, "up")
	c.until(both.ID, "up")
	set(first, "down")
	c.until(one.ID, "down")
	c.until(both.ID, "degraded")
	c.must("GET", fmt.Sprintf("/api/v1/monitors/%d", one.ID), nil, &one)
	if one.State.Reason != "members" || one.State.Message != "1 of 2 members are down: Lift." {
		t.Errorf("got %+v, want the one that is down by name", one.State)
	}
	c.must("GET", fmt.Sprintf("/api/v1/monitors/%d", first.ID), nil, &first)
	if first.State.Reason != "set_by_hand" || first.State.Message != "as seen by the porter" {
		t.Errorf("got %+v, want what the person said", first.State)
	}
	for name, wrong := range map[string]struct {
		id      int64
		members []int64
	}{"itself": {one.ID, []int64{one.ID}}, "a circle": {one.ID, []int64{first.ID, both.ID}}, "nobody": {one.ID, []int64{99999}}} {
		body := object{"name": "x", "type": "group", "interval": "1s", "timeout": "900ms", "config": object{"members": wrong.members}}
		if status := c.do("PUT", fmt.Sprintf("/api/v1/monitors/%d", wrong.id), body, nil); status != http.StatusUnprocessableEntity {
			t.Errorf("a group with %s: got %d, want 422", name, status)
		}
	}
	c.must("DELETE", fmt.Sprintf("/api/v1/monitors/%d", first.ID), nil, nil)
	c.until(one.ID, "up")
	c.until(both.ID, "up")
}
