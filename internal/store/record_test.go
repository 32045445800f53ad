package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vedette/internal/incident"
	"vedette/internal/store/storetest"
	"vedette/internal/uptime"
)

const (
	up       = uptime.VerdictUp
	down     = uptime.VerdictDown
	degraded = uptime.VerdictDegraded
	unknown  = uptime.VerdictUnknown
)

var manager incident.Manager // has no state

// incidents are those of a monitor, newest first.
func incidents(t *testing.T, e storetest.Env, m uptime.Monitor) []uptime.Incident {
	t.Helper()
	out, err := e.ListIncidents(t.Context(), uptime.IncidentFilter{MonitorID: m.ID, Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// results are all of a monitor, newest first.
func results(t *testing.T, e storetest.Env, m uptime.Monitor) []uptime.CheckResult {
	t.Helper()
	out, err := e.ListResults(t.Context(), 0, m.ID, m.CreatedAt.Add(-time.Hour), m.CreatedAt.Add(time.Hour), uptime.ResultKey{}, false, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func alerts(t *testing.T, e storetest.Env) []int64 {
	t.Helper()
	ids, err := e.UnroutedAlerts(t.Context(), uptime.Now().Add(24*time.Hour), 1000)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func TestASteadyResultIsStoredAndNothingIsAsked(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		m := e.Monitor(t, e.User(t, "a@example.org").ID, nil)
		first := e.Record(t, manager.Decide, storetest.Result(m, 0, up))
		if first[0].Quiet || first[0].State.Verdict != up {
			t.Fatalf("the first result: got %+v, want a decision that it is up", first[0])
		}
		asked := func(uptime.Facts) uptime.Change {
			t.Error("a plainly up result of a steady monitor was decided upon")
			return uptime.Change{}
		}
		if got := e.Record(t, asked, storetest.Result(m, 1, up), storetest.Result(m, 2, unknown)); !got[0].Quiet || !got[1].Quiet {
			t.Errorf("got %+v, want quiet", got)
		}
		if got := results(t, e, m); len(got) != 3 {
			t.Errorf("got %d results, want 3", len(got))
		}
	})
}

func TestAResultComesBackAsItWasStored(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		m := e.Monitor(t, e.User(t, "a@example.org").ID, func(m *uptime.Monitor) { m.Regions = []string{"default", "eu"} })
		var want []uptime.CheckResult
		for i, change := range []func(*uptime.CheckResult){
			func(r *uptime.CheckResult) {},
			func(r *uptime.CheckResult) { r.Kind = uptime.KindManual; r.ScheduledAt = r.ScheduledAt.Add(7) },
			func(r *uptime.CheckResult) { r.Attempt = 1; r.Phases.TLS = time.Second },
			func(r *uptime.CheckResult) { r.DequeuedAt, r.StartedAt = time.Time{}, time.Time{} },
			func(r *uptime.CheckResult) { r.StartedAt, r.Duration, r.Phases = time.Time{}, 0, uptime.Phases{} },
			func(r *uptime.CheckResult) { r.DequeuedAt = time.Time{} },
			func(r *uptime.CheckResult) {
				r.Region, r.ScheduledAt = "eu", uptime.SlotAfter(m.ID, "eu", m.Interval, r.ScheduledAt)
				r.DequeuedAt, r.StartedAt = r.ScheduledAt.Add(time.Minute), r.ScheduledAt.Add(2*time.Minute)
			},
		} {
			r := storetest.Result(m, i, []uptime.Verdict{up, unknown, degraded, down}[i%4])
			change(&r)
			r.ScheduledAt = uptime.Instant(r.ScheduledAt)
			want = append([]uptime.CheckResult{r}, want...)
		}
		e.Record(t, func(f uptime.Facts) uptime.Change { return uptime.Change{State: f.State} }, want...)
		if diff := cmp.Diff(want, results(t, e, m)); diff != "" {
			t.Errorf("stored and read differ (-want +got):\n%s", diff)
		}
	})
}

// TestAnOutageOpensAndClosesOnce goes through the incident's whole life, each
// result recorded three times (FAULTS 15, 28, 36): the second as a late repeat of
// the commit, the third much later.
func TestAnOutageOpensAndClosesOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		m := e.Monitor(t, e.User(t, "a@example.org").ID, nil)
		verdicts := []uptime.Verdict{up, up, down, down, down, up, up}
		for i, v := range verdicts {
			for range 2 {
				e.Record(t, manager.Decide, storetest.Result(m, i, v))
			}
		}
		for i, v := range verdicts {
			e.Record(t, manager.Decide, storetest.Result(m, i, v))
		}
		in := incidents(t, e, m)
		if len(in) != 1 || in[0].Open() {
			t.Fatalf("got %d incidents %+v, want one that is resolved", len(in), in)
		}
		start := func(n int) time.Time { return storetest.Result(m, n, up).StartedAt }
		for _, c := range []struct {
			name      string
			got, want time.Time
		}{
			{"last good", in[0].LastGoodAt, start(1)}, {"first bad", in[0].FirstBadAt, start(2)}, {"resolved", in[0].ResolvedAt, start(5)},
			{"confirmed", in[0].ConfirmedAt, start(3).Add(12345 * time.Microsecond)},
		} {
			if !c.got.Equal(c.want) {
				t.Errorf("%s: got %s, want %s", c.name, c.got, c.want)
			}
		}
		if in[0].Reason != uptime.HTTPStatus || in[0].Resolution != "recovered" || in[0].Opening == nil || in[0].Opening.Status != 503 {
			t.Errorf("got %+v, want reason, resolution and the evidence of the first failure", in[0])
		}
		_, timeline, _, err := e.Incident(t.Context(), 0, in[0].ID)
		if err != nil || len(timeline) != 2 || timeline[0].Kind != "opened" || timeline[1].Kind != "resolved" {
			t.Errorf("timeline: got %+v, %v, want opened and resolved", timeline, err)
		}
		if n := len(alerts(t, e)); n != 2 {
			t.Errorf("got %d alerts, want 2", n)
		}
		for _, r := range results(t, e, m) {
			if r.Superseded {
				t.Errorf("the result of %s was evaluated, and is marked as superseded by its repeat", r.ScheduledAt)
			}
		}
	})
}

// TestEveryOrderOfArrivalGivesOneOutcome is FAULTS 17: six results of an outage, in
// every order, one by one.
func TestEveryOrderOfArrivalGivesOneOutcome(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		owner := e.User(t, "a@example.org").ID
		verdicts := []uptime.Verdict{up, down, down, down, up, up}
		permutations(len(verdicts), func(order []int) {
			m := e.Monitor(t, owner, nil)
			for _, i := range order {
				e.Record(t, manager.Decide, storetest.Result(m, i, verdicts[i]))
			}
			open := 0
			for _, in := range incidents(t, e, m) {
				if in.Open() {
					open++
				}
				if in.FirstBadAt.Before(storetest.Slot(m, 1)) || in.FirstBadAt.After(storetest.Slot(m, 4)) {
					t.Fatalf("order %v: the outage began at %s", order, in.FirstBadAt)
				}
			}
			v, err := e.Store.Monitor(t.Context(), 0, m.ID)
			if err != nil {
				t.Fatal(err)
			}
			newest := verdicts[order[len(order)-1]]
			if last := order[len(order)-1]; last == 5 && (open != 0 || v.State.Verdict != up) {
				t.Fatalf("order %v: after the newest result, %s, got %d open incidents and %s", order, newest, open, v.State.Verdict)
			}
			if n := len(results(t, e, m)); n != len(verdicts) {
				t.Fatalf("order %v: got %d results, want all %d", order, n, len(verdicts))
			}
			refold(t, e, m, fmt.Sprint("order ", order))
		})
	})
}

// TestOneBatchIsFoldedInOrder has the six results come together, in every order.
func TestOneBatchIsFoldedInOrder(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		owner := e.User(t, "a@example.org").ID
		verdicts := []uptime.Verdict{up, down, down, down, up, up}
		permutations(len(verdicts), func(order []int) {
			m := e.Monitor(t, owner, nil)
			e.Record(t, manager.Decide, storetest.Result(m, -1, up)) // it is steady before
			var batch []uptime.CheckResult
			for _, i := range order {
				batch = append(batch, storetest.Result(m, i, verdicts[i]))
			}
			e.Record(t, manager.Decide, batch...)
			in := incidents(t, e, m)
			if len(in) != 1 || !in[0].FirstBadAt.Equal(storetest.Result(m, 1, up).StartedAt) || !in[0].ResolvedAt.Equal(storetest.Result(m, 4, up).StartedAt) {
				t.Fatalf("order %v: got %+v, want one outage from slot 1 to slot 4", order, in)
			}
			refold(t, e, m, fmt.Sprint("batch ", order))
		})
	})
}

// refold checks that what is believed of m is what its stored results say: a state
// is a fold over results.
func refold(t *testing.T, e storetest.Env, m uptime.Monitor, what string) {
	t.Helper()
	v, err := e.Store.Monitor(t.Context(), 0, m.ID)
	if err != nil {
		t.Fatal(err)
	}
	f := uptime.Facts{Monitor: v.Monitor, State: uptime.State{MonitorID: m.ID}}
	for _, r := range results(t, e, m) {
		if !r.Superseded {
			f.Results = append([]uptime.CheckResult{r}, f.Results...)
		}
	}
	if want := manager.Decide(f).State; want.Verdict != v.State.Verdict {
		t.Fatalf("%s: state is %s, its results say %s", what, v.State.Verdict, want.Verdict)
	}
}

// permutations calls fn with every order of 0…n-1.
func permutations(n int, fn func(order []int)) {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	var walk func(k int)
	walk = func(k int) {
		if k == n {
			fn(order)
			return
		}
		for i := k; i < n; i++ {
			order[k], order[i] = order[i], order[k]
			walk(k + 1)
			order[k], order[i] = order[i], order[k]
		}
	}
	walk(0)
}

// TestFiftyRecordersOpenOneIncident is FAULTS 35 and 42: fifty batches that all
// confirm the same outage, from two processes at once.
func TestFiftyRecordersOpenOneIncident(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		m := e.Monitor(t, e.User(t, "a@example.org").ID, nil)
		e.Record(t, manager.Decide, storetest.Result(m, 0, up), storetest.Result(m, 1, down))
		other := e
		other.Store = e.Open(t)
		var mu sync.Mutex
		told := 0
		var wg sync.WaitGroup
		for i := range 50 {
			env := []storetest.Env{e, other}[i%2]
			wg.Go(func() {
				recorded, err := env.RecordResults(t.Context(), []uptime.CheckResult{storetest.Result(m, 2+i, down)}, manager.Decide)
				if err != nil {
					t.Errorf("batch %d: %v", i, err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				told += len(recorded[0].AlertIDs)
			})
		}
		wg.Wait()
		if in := incidents(t, e, m); len(in) != 1 || !in[0].Open() {
			t.Errorf("got %d incidents, want one open", len(in))
		}
		if n := len(alerts(t, e)); n != 1 || told != 1 {
			t.Errorf("got %d alerts, told of %d, want one", n, told)
		}
	})
}

// TestManyMonitorsFailAtOnceInTwoProcesses is a storm: what is locked must not be
// locked in two orders.
func TestManyMonitorsFailAtOnceInTwoProcesses(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		owner := e.User(t, "a@example.org").ID
		var ms []uptime.Monitor
		var steady []uptime.CheckResult
		for range 60 {
			m := e.Monitor(t, owner, func(m *uptime.Monitor) { m.Confirm.Failures = 0 })
			ms = append(ms, m)
			steady = append(steady, storetest.Result(m, 0, up))
		}
		e.Record(t, manager.Decide, steady...)
		other := e.Open(t)
		var wg sync.WaitGroup
		for n := range 4 {
			s := []interface {
				RecordResults(context.Context, []uptime.CheckResult, func(uptime.Facts) uptime.Change) ([]uptime.Recorded, error)
			}{e.Store, other}[n%2]
			var batch []uptime.CheckResult
			for i := range ms {
				batch = append(batch, storetest.Result(ms[(i*7+n*13)%len(ms)], 1+n, down))
			}
			wg.Go(func() {
				if _, err := s.RecordResults(t.Context(), batch, manager.Decide); err != nil {
					t.Errorf("process %d: %v", n, err)
				}
			})
		}
		wg.Wait()
		if n := len(alerts(t, e)); n != len(ms) {
			t.Errorf("got %d alerts, want %d", n, len(ms))
		}
	})
}

func TestAResultOfADeletedMonitorLeavesNothing(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		owner := e.User(t, "a@example.org").ID
		m, kept := e.Monitor(t, owner, nil), e.Monitor(t, owner, nil)
		if _, err := e.DeleteMonitor(t.Context(), owner, m.ID); err != nil {
			t.Fatal(err)
		}
		got := e.Record(t, manager.Decide, storetest.Result(m, 0, down), storetest.Result(kept, 0, up), storetest.Result(m, 1, up))
		if !got[0].Quiet || !got[2].Quiet || got[1].State.Verdict != up {
			t.Errorf("got %+v, want the deleted monitor's results quiet and the other's evaluated", got)
		}
		seen := 0
		err := e.ObservedSlots(t.Context(), storetest.Slot(m, -1), storetest.Slot(m, 9), func(k uptime.ResultKey, _ bool, _ uptime.Reason) {
			if k.MonitorID == m.ID {
				seen++
			}
		})
		if err != nil || seen != 0 {
			t.Errorf("got %d results of the deleted monitor, %v, want none", seen, err)
		}
	})
}

func TestAnErrorInsideChangesNothing(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, e storetest.Env) {
		m := e.Monitor(t, e.User(t, "a@example.org").ID, nil)
		bad := func(f uptime.Facts) uptime.Change {
			c := manager.Decide(f)
			c.Update = &uptime.Incident{ID: -1, Recovery: &uptime.Evidence{Assertions: []uptime.AssertionResult{{Assertion: uptime.Assertion{Value: []byte("{")}}}}}
			return c
		}
		_, err := e.RecordResults(t.Context(), []uptime.CheckResult{storetest.Result(m, 0, down)}, bad)
		if err == nil || uptime.Is(err, uptime.Unavailable) {
			t.Errorf("got %v, want an error that does not blame the database", err)
		}
		if n := len(results(t, e, m)); n != 0 {
			t.Errorf("%d results were stored by a transaction that failed", n)
		}
		var kind *uptime.Error
		if !errors.As(err, &kind) {
			t.Errorf("got %T, want an error with a kind", err)
		}
	})
}
