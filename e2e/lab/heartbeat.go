package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// act is what a job does, and what its heartbeat must then say.
type act struct {
	name  string
	pings []string      // method, signal and body: "POST /fail disk full"
	wait  time.Duration // before the heartbeat is looked at
	want  string
}

// settleWithin is how long after its instant a verdict may become visible: the tick
// of the monitor's interval, a second, and what a busy machine needs.
const settleWithin = 5 * time.Second

// heartbeat is jobs that ping, late or wrongly or not at all.
func (l *lab) heartbeat() []scenario {
	job := func(name, want, period, grace string, acts ...act) scenario {
		m := monitor{"type": "heartbeat", "interval": "1s", "timeout": "1s"}.config("period", period).config("grace", grace)
		return scenario{name: name, want: want, monitor: m, acts: acts}
	}
	good := act{"a ping", []string{"GET"}, 0, "up"}
	again := act{"another", []string{"GET"}, 1500 * time.Millisecond, "up"}
	many := make([]string, 50)
	for i := range many {
		many[i] = "GET"
	}
	return []scenario{
		job("regular", "up", "3s", "3s", good, again, again, again, again),
		job("late, within grace", "up", "1s", "10s", good, act{"nothing for four seconds", nil, 4 * time.Second, "up"}, good),
		job("POST and HEAD and a large body", "up", "1m", "1m", act{"HEAD", []string{"HEAD"}, 0, "up"}, act{"POST", []string{"POST  done"}, 0, "up"},
			act{"1 MiB", []string{"POST  " + strings.Repeat("x", 1<<20)}, 0, "up"}),
		job("many at once", "up", "1m", "1m", act{"fifty", many, 0, "up"}),
		job("a start and its end", "up", "1m", "1m", act{"both", []string{"POST /start", "POST"}, 0, "up"}),
		job("exit code 0", "up", "1m", "1m", act{"0", []string{"POST /0"}, 0, "up"}),
		job("stops, and returns", "down missed_heartbeat", "2s", "1s", good, act{"it stops", nil, 3 * time.Second, "down missed_heartbeat"}, good),
		job("reports a failure, and is well again", "down reported_failure", "1m", "1m", good, act{"it fails", []string{"POST /fail disk full"}, 0, "down reported_failure"}, good),
		job("exit code 3", "down reported_failure", "1m", "1m", act{"3", []string{"POST /3"}, 0, "down reported_failure"}),
		job("a start without an end", "down missed_heartbeat", "1m", "2s", good, act{"it starts", []string{"POST /start"}, 2 * time.Second, "down missed_heartbeat"}),
		job("never pinged, and not due yet", "unknown", "1m", "1m", act{"nothing", nil, 2 * time.Second, "unknown"}),
		job("never pinged, and due", "down missed_heartbeat", "1s", "1s", act{"nothing", nil, 2 * time.Second, "down missed_heartbeat"}),
	}
}

// followActs has a job do its acts and judges after each.
func (s *session) followActs(ctx context.Context, row *scenario, id int64) error {
	type heartbeat struct {
		URL   string `json:"ping_url"`
		State struct{ Verdict, Reason, Message string }
	}
	read := func() (h heartbeat, err error) {
		return h, s.p.call(ctx, http.MethodGet, fmt.Sprintf("/api/v1/monitors/%d", id), nil, &h)
	}
	for _, a := range row.acts {
		h, err := read()
		if err != nil {
			return err
		}
		if strings.HasPrefix(h.URL, "/") {
			h.URL = s.p.base + h.URL
		}
		for _, p := range a.pings {
			if err := ping(ctx, h.URL, p); err != nil {
				return fmt.Errorf("%s, %s: %w", row.title(), a.name, err)
			}
		}
		wait := time.NewTimer(a.wait)
		select {
		case <-wait.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		err = until(ctx, settleWithin, "as wanted", func() (bool, error) {
			h, err = read()
			return answers(a.want)[0].verdict == h.State.Verdict, err
		})
		if ctx.Err() != nil {
			return err
		}
		got := answer{h.State.Verdict, h.State.Reason}
		if got.verdict == "unknown" { // which is no state of its own, so it has no reason
			got.reason = ""
		}
		s.judge(judgement{title: row.title() + ", " + a.name, want: a.want, got: got, message: h.State.Message})
	}
	return nil
}

// ping sends one ping: its method, and, after spaces, its signal and body.
func ping(ctx context.Context, url, text string) error {
	f := append(strings.SplitN(text, " ", 3), "", "")
	req, err := http.NewRequestWithContext(ctx, f[0], url+f[1], strings.NewReader(f[2]))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the ping was answered %s", resp.Status)
	}
	return nil
}
