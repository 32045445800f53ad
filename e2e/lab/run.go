package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// decideWithin is how long a mode may take until every monitor has its first verdict.
const decideWithin = 60 * time.Second

// judgement is one verdict beside what it should be.
type judgement struct {
	title   string
	want    string
	got     answer
	message string
	timed   bool          // what follows was measured
	late    time.Duration // when the check ended, after its timeout; negative: before
	read    time.Duration // when a client could read it, after the timeout
}

// session is one mode at work.
type session struct {
	p     *product
	hook  int64        // the channel of monitors whose alerts are counted
	again atomic.Int64 // checks that were asked for again
	mu    sync.Mutex
	all   []judgement // guarded by mu
}

func (s *session) judge(j judgement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, j)
}

// result is a row of a monitor's history, as the API shows it.
type result struct {
	ScheduledAt time.Time `json:"scheduled_at"`
	StartedAt   time.Time `json:"started_at"`
	Duration    string
	Kind        string
	Verdict     string
	Reason      string
	Message     string
}

// runMode has the product watch every target, all at once, and reports.
func runMode(ctx context.Context, o options, mode string) (passed bool, err error) {
	l := newLab()
	defer l.close()
	rows, err := l.table()
	if err != nil {
		return false, err
	}
	rows = slices.DeleteFunc(rows, func(s scenario) bool { return !strings.Contains(s.title(), o.only) })
	p, err := install(ctx, o.bin, mode)
	if err != nil {
		return false, err
	}
	defer p.close()
	begin := time.Now()
	s := &session{p: p}
	if err := s.channel(ctx, "http://"+l.page(says(response("204 No Content", "")))+"/"); err != nil {
		return false, err
	}
	if err := s.run(ctx, rows); err != nil {
		return false, err
	}
	peaks, err := p.peaks()
	if err != nil {
		return false, err
	}
	r := report{mode: mode, rows: rows, all: s.all, again: s.again.Load(), peaks: peaks, took: time.Since(begin)}
	return r.print(o.all), nil
}

// run creates the monitors and follows each.
func (s *session) run(ctx context.Context, rows []scenario) error {
	ids := make([]int64, len(rows))
	var g errgroup.Group
	g.SetLimit(16)
	for i := range rows {
		g.Go(func() (err error) {
			ids[i], err = s.create(ctx, &rows[i])
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	waiting := map[int64]*scenario{}
	var follow errgroup.Group
	for i := range rows {
		if rows[i].acts != nil || strings.HasPrefix(rows[i].want, "unknown") { // which never is a state
			follow.Go(func() error { return s.follow(ctx, &rows[i], ids[i], time.Time{}) })
			continue
		}
		waiting[ids[i]] = &rows[i]
	}
	err := until(ctx, decideWithin, "every monitor has a verdict", func() (bool, error) {
		decided, err := s.decided(ctx, waiting)
		for id, seen := range decided {
			row := waiting[id]
			delete(waiting, id)
			follow.Go(func() error { return s.follow(ctx, row, id, seen) })
		}
		return len(waiting) == 0, err
	})
	for _, row := range waiting {
		s.judge(judgement{title: row.title(), want: row.want, got: answer{"none", ""}, message: fmt.Sprintf("no verdict within %s", decideWithin), timed: true, late: decideWithin, read: decideWithin})
	}
	if len(waiting) > 0 && ctx.Err() == nil {
		err = nil // it is in the report
	}
	return errors.Join(err, follow.Wait())
}

// channel makes the webhook that alerts go to.
func (s *session) channel(ctx context.Context, url string) error {
	body, err := json.Marshal(object{"name": "Lab", "type": "webhook", "config": object{"url": url}})
	if err != nil {
		return err
	}
	var made struct{ ID int64 }
	err = s.p.callAs(ctx, s.p.users[0], http.MethodPost, "/api/v1/channels", body, &made)
	s.hook = made.ID
	return err
}

func (s *session) create(ctx context.Context, row *scenario) (int64, error) {
	if row.tale != nil {
		row.monitor = row.monitor.set("channels", []int64{s.hook})
	}
	body, err := row.body()
	if err != nil {
		return 0, err
	}
	u := s.p.users[s.p.turn.Add(1)%users]
	if row.tale != nil {
		u = s.p.users[0] // whose channel it is
	}
	var made struct{ ID int64 }
	if err := s.p.callAs(ctx, u, http.MethodPost, "/api/v1/monitors", body, &made); err != nil {
		return 0, fmt.Errorf("%s: %w", row.title(), err)
	}
	return made.ID, nil
}

// decided are those of waiting that have a verdict now, and when that was seen.
func (s *session) decided(ctx context.Context, waiting map[int64]*scenario) (map[int64]time.Time, error) {
	type monitor struct {
		ID      int64
		Problem string
		State   struct{ Verdict, Reason string }
	}
	monitors, err := list[monitor](ctx, s.p, "/api/v1/monitors?enabled=true")
	if err != nil {
		return nil, err
	}
	now := time.Now()
	out := map[int64]time.Time{}
	for _, m := range monitors {
		if waiting[m.ID] != nil && (m.State.Verdict != "unknown" || m.State.Reason != "pending" && m.State.Reason != "" || m.Problem != "") {
			out[m.ID] = now
		}
	}
	return out, nil
}

// follow judges the first verdict of a monitor, which was seen at an instant, and
// those after each change of its target.
func (s *session) follow(ctx context.Context, row *scenario, id int64, seen time.Time) error {
	if row.tale != nil {
		return s.followTale(ctx, row, id)
	}
	if row.acts != nil {
		return s.followActs(ctx, row, id)
	}
	r, at, err := s.next(ctx, row, id, time.Time{})
	if err != nil {
		return err
	}
	if s.again.Load() == 0 && !seen.IsZero() {
		at = seen
	}
	s.judge(judge(row.title(), row, r, at))
	for _, c := range row.then {
		c.do()
		after := *row
		after.want, after.name = c.want, row.name+", "+c.name
		r, at, err := s.next(ctx, &after, id, time.Now())
		if err != nil {
			return err
		}
		s.judge(judge(after.title(), &after, r, at))
	}
	return nil
}

// own are reasons by which the product says that its own machine was too slow to
// tell. That is no verdict, and right on a machine that others use too: the check
// is asked for again.
var own = map[string]bool{"starved": true, "missed": true, "aborted": true}

// next is the first check after an instant that says something of the target, and
// when it could be read.
func (s *session) next(ctx context.Context, row *scenario, id int64, after time.Time) (r result, at time.Time, err error) {
	asked := 0
	err = until(ctx, decideWithin, row.title()+": a check", func() (bool, error) {
		results, err := s.results(ctx, id, after)
		if err != nil {
			return false, err
		}
		at = time.Now()
		for i := range results {
			if r = results[i]; !own[r.Reason] {
				return true, nil
			}
		}
		if len(results) > asked {
			asked = len(results)
			s.again.Add(1)
			return false, s.p.call(ctx, http.MethodPost, fmt.Sprintf("/api/v1/monitors/%d/check", id), nil, nil)
		}
		return false, nil
	})
	if err != nil && ctx.Err() == nil {
		return result{Verdict: "none", Message: err.Error()}, at, nil // it is in the report
	}
	return r, at, err
}

func judge(title string, row *scenario, r result, seen time.Time) judgement {
	timeout, _ := time.ParseDuration(fmt.Sprint(row.monitor["timeout"]))
	took, _ := time.ParseDuration(r.Duration)
	return judgement{title: title, want: row.want, got: answer{r.Verdict, r.Reason}, message: r.Message,
		timed: !r.StartedAt.IsZero(), late: took - timeout, read: seen.Sub(r.StartedAt) - timeout}
}

// results are the checks of a monitor that began after an instant, the first first.
func (s *session) results(ctx context.Context, id int64, after time.Time) ([]result, error) {
	from := after.Add(-5 * time.Second)
	if after.IsZero() {
		from = time.Now().Add(-10 * time.Minute)
	}
	all, err := list[result](ctx, s.p, fmt.Sprintf("/api/v1/monitors/%d/results?from=%s", id, url.QueryEscape(from.UTC().Format(time.RFC3339))))
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(r result) bool { return r.Kind == "gap" || !r.StartedAt.After(after) })
	slices.SortFunc(all, func(a, b result) int { return a.StartedAt.Compare(b.StartedAt) })
	return all, nil
}
