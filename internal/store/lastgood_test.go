package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vedette/internal/store/storetest"
	"vedette/internal/uptime"
)

// kept is an up result whose evidence is kept.
func kept(m uptime.Monitor, n int, body string) uptime.CheckResult {
	r := storetest.Result(m, n, up)
	r.Evidence, r.Keep = &uptime.Evidence{Status: 200, Body: body}, true
	return r
}

// An incident has the evidence of the last good check kept before, and of the first of
// its failures though others confirmed it; what comes later changes neither.
func TestAnIncidentKeepsTheLastGoodAndTheFirstBad(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		owner := e.User(t, "a@example.org").ID
		m := e.Monitor(t, owner, func(m *uptime.Monitor) { m.Confirm.Failures = 2 })
		e.Record(t, manager.Decide, kept(m, 0, "first"))
		e.Record(t, manager.Decide, kept(m, 1, "second"), storetest.Result(m, 2, up))
		e.Record(t, manager.Decide, kept(m, 0, "a late repeat"))
		unkept := storetest.Result(m, 3, up)
		unkept.Evidence = &uptime.Evidence{Body: "not kept"}
		e.Record(t, manager.Decide, unkept)
		for attempt, body := range []string{"one", "two", "three"} {
			r := storetest.Result(m, 4, down)
			r.Attempt, r.StartedAt, r.Evidence = attempt, r.StartedAt.Add(time.Duration(attempt)*time.Second), &uptime.Evidence{Status: 503, Body: body}
			if attempt == 2 {
				r.Evidence.Diagnosis = []string{"The other answers."}
			}
			e.Record(t, manager.Decide, r)
		}
		e.Record(t, manager.Decide, kept(m, 5, "after"))

		got := incidents(t, e, m)
		if len(got) != 1 || got[0].Open() {
			t.Fatalf("got %+v, want one incident that is over", got)
		}
		in := got[0]
		want := &uptime.Sight{At: uptime.Instant(storetest.Result(m, 1, up).StartedAt), Region: "default", Evidence: uptime.Evidence{Status: 200, Body: "second"}}
		if diff := cmp.Diff(want, in.LastGood); diff != "" {
			t.Errorf("last good (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(&uptime.Evidence{Status: 503, Body: "one", Diagnosis: []string{"The other answers."}}, in.Opening); diff != "" {
			t.Errorf("first bad (-want +got):\n%s", diff)
		}
		if in.Recovery == nil || in.Recovery.Body != "after" {
			t.Errorf("recovery %+v, want the evidence of the good check after", in.Recovery)
		}
		if n := read[int64](t, e, `SELECT count(*) FROM check_evidence WHERE evidence LIKE '%kept%' OR evidence LIKE '%second%'`); !slices.Equal(n, []int64{0}) {
			t.Errorf("evidence of good results stands beside that of failures: %v rows", n)
		}
		if _, err := e.DeleteMonitor(t.Context(), owner, m.ID); err != nil {
			t.Fatal(err)
		}
		if n := read[int64](t, e, `SELECT count(*) FROM last_good`); !slices.Equal(n, []int64{0}) {
			t.Errorf("%v rows outlive their monitor", n)
		}
	})
}

// Without anything kept, or with only what came after, there is none.
func TestAnIncidentWithoutALastGood(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		m := e.Monitor(t, e.User(t, "a@example.org").ID, func(m *uptime.Monitor) { m.Confirm.Failures = 0 })
		e.Record(t, manager.Decide, storetest.Result(m, 0, up))
		e.Record(t, manager.Decide, storetest.Result(m, 1, down))
		if got := incidents(t, e, m); len(got) != 1 || got[0].LastGood != nil || got[0].Opening == nil {
			t.Errorf("got %+v, want an incident with its first failure alone", got)
		}
	})
}
