package incident_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"vedette/internal/failpoint"
	"vedette/internal/incident"
	"vedette/internal/uptime"
)

// rig is a recorder that runs on a store in memory, inside a synctest bubble.
type rig struct {
	*incident.Recorder
	store *memStore
	stop  context.CancelFunc
	ended chan struct{} // closed when Run returned

	mu     sync.Mutex // guards what follows
	hinted []int64
	events int
}

// newRig starts a recorder over n monitors whose first failure counts.
func newRig(t *testing.T, n int, o incident.RecorderOptions) *rig {
	t.Helper()
	g := &rig{store: newMemStore(), ended: make(chan struct{})}
	for id := range n {
		g.store.monitors[int64(id+1)] = monitor(int64(id+1), 0, 1)
	}
	o.Store = g.store
	o.Notify = func(_ context.Context, ids []int64) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.hinted = append(g.hinted, ids...)
	}
	o.Hint = func(context.Context) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.events++
	}
	g.Recorder = incident.NewRecorder(o)
	ctx, stop := context.WithCancel(context.Background())
	g.stop = stop
	go func() {
		defer close(g.ended)
		if err := g.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	t.Cleanup(func() { stop(); <-g.ended })
	synctest.Wait()
	return g
}

// of makes r one of monitor id.
func of(id int64, r uptime.CheckResult) uptime.CheckResult {
	r.MonitorID = id
	return r
}

// send records rs, each by a caller of its own, and returns where their errors
// will be.
func (g *rig) send(rs ...uptime.CheckResult) (errs []error, wait func()) {
	errs = make([]error, len(rs))
	var wg sync.WaitGroup
	for i, r := range rs {
		wg.Go(func() { _, errs[i] = g.Record(context.Background(), r) })
		synctest.Wait() // so that they arrive in this order
	}
	return errs, wg.Wait
}

// sizes are those of the committed batches.
func (g *rig) sizes() (out []int) {
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	for _, b := range g.store.batches {
		out = append(out, len(b))
	}
	return out
}

func ups(n int) (out []uptime.CheckResult) {
	for id := range n {
		out = append(out, of(int64(id+1), result(0, 'u')))
	}
	return out
}

func TestQuietResultsWaitForCompany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 10, incident.RecorderOptions{})
		start := time.Now()
		errs, wait := g.send(append(ups(10), of(3, result(1, 's')))...)
		if got := g.sizes(); got != nil {
			t.Fatalf("batches before their time: %v", got)
		}
		wait()
		if took := time.Since(start); took != 100*time.Millisecond {
			t.Errorf("they waited %v, want 100 ms", took)
		}
		if err := errors.Join(errs...); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]int{11}, g.sizes()); diff != "" {
			t.Errorf("batches (-want +got):\n%s", diff)
		}
	})
}

func TestAResultThatMayChangeAStateTakesTheOthersAlongAtOnce(t *testing.T) {
	t.Parallel()
	for _, what := range "xtdg" {
		synctest.Test(t, func(t *testing.T) {
			g := newRig(t, 5, incident.RecorderOptions{})
			start := time.Now()
			_, wait := g.send(append(ups(4), of(5, result(0, what)))...)
			wait()
			if took := time.Since(start); took != 0 {
				t.Errorf("%c: it waited %v", what, took)
			}
			if diff := cmp.Diff([]int{5}, g.sizes()); diff != "" {
				t.Errorf("%c: batches (-want +got):\n%s", what, diff)
			}
		})
	}
}

func TestAFullBatchDoesNotWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 7, incident.RecorderOptions{MaxBatch: 3})
		start := time.Now()
		_, wait := g.send(ups(7)...)
		if took := time.Since(start); took != 0 {
			t.Errorf("full batches waited %v", took)
		}
		wait()
		if diff := cmp.Diff([]int{3, 3, 1}, g.sizes()); diff != "" {
			t.Errorf("batches (-want +got):\n%s", diff)
		}
	})
}

func TestTheNextGroupGathersWhileATransactionRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 5, incident.RecorderOptions{})
		g.store.before = func([]uptime.CheckResult) error {
			<-time.After(time.Second)
			return nil
		}
		start := time.Now()
		var rs []uptime.CheckResult
		for id := range 5 {
			rs = append(rs, of(int64(id+1), result(0, 'x')))
		}
		_, wait := g.send(rs...)
		wait()
		if diff := cmp.Diff([]int{1, 4}, g.sizes()); diff != "" {
			t.Errorf("batches (-want +got):\n%s", diff)
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("two transactions of 1 s took %v", took)
		}
	})
}

func TestResultsOfOneMonitorKeepTheirOrderOverManyWriters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 8, incident.RecorderOptions{Writers: 4, MaxBatch: 3})
		g.store.before = func(b []uptime.CheckResult) error {
			<-time.After(time.Duration(b[0].MonitorID%4) * 7 * time.Millisecond)
			return nil
		}
		var rs []uptime.CheckResult
		for n := range 20 {
			for id := int64(1); id <= 8; id++ {
				rs = append(rs, of(id, result(n, []rune("ux")[n%2])))
			}
		}
		errs, wait := g.send(rs...)
		wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		last := map[int64]time.Time{}
		for _, b := range g.store.batches {
			for _, r := range b {
				if r.ScheduledAt.Before(last[r.MonitorID]) {
					t.Fatalf("monitor %d: slot %v was stored after %v", r.MonitorID, r.ScheduledAt, last[r.MonitorID])
				}
				last[r.MonitorID] = r.ScheduledAt
			}
		}
		if want := 8 * 20; len(g.store.results) != want || len(g.store.alerts) != want-8 {
			t.Errorf("got %d results and %d alerts, want %d and %d", len(g.store.results), len(g.store.alerts), want, want-8)
		}
	})
}

func TestRecordTellsTheStateAndHintsAboutAlertsAfterTheCommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 1, incident.RecorderOptions{})
		rec, err := g.Record(t.Context(), result(0, 'u'))
		if err != nil || rec.State.Verdict != uptime.VerdictUp {
			t.Fatalf("first: %+v, %v", rec, err)
		}
		if rec, err = g.Record(t.Context(), result(1, 'u')); err != nil || !rec.Quiet {
			t.Errorf("second: %+v, %v; want it quiet", rec, err)
		}
		synctest.Wait()
		if g.hinted != nil {
			t.Errorf("hinted about %v before there was an alert", g.hinted)
		}
		if rec, err = g.Record(t.Context(), result(2, 'x')); err != nil || rec.State.Verdict != uptime.VerdictDown {
			t.Errorf("third: %+v, %v; want it down", rec, err)
		}
		synctest.Wait()
		if diff := cmp.Diff([]int64{1}, g.hinted); diff != "" || g.events != 2 {
			t.Errorf("hinted %v and %d times about events, want [1] and 2", g.hinted, g.events)
		}
	})
}

func TestAStoreThatComesBackInTimeLosesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 2, incident.RecorderOptions{})
		back := time.Now().Add(3 * time.Second)
		g.store.before = func([]uptime.CheckResult) error {
			if time.Now().Before(back) {
				return uptime.Errorf(uptime.Unavailable, "database is restarting")
			}
			return nil
		}
		errs, wait := g.send(of(1, result(0, 'u')), of(2, result(0, 'x')))
		wait()
		if err := errors.Join(errs...); err != nil || len(g.store.alerts) != 1 {
			t.Errorf("got %v and %d alerts, want none lost and 1", err, len(g.store.alerts))
		}
	})
}

func TestAStoreThatStaysAwayFailsTheBatchInBoundedTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 3, incident.RecorderOptions{})
		cause := errors.New("connection refused")
		g.store.before = func([]uptime.CheckResult) error { return uptime.Errorf(uptime.Unavailable, "database: %w", cause) }
		start := time.Now()
		errs, wait := g.send(append(ups(2), of(3, result(0, 'x')))...)
		wait()
		for i, err := range errs {
			if !uptime.Is(err, uptime.Unavailable) || !errors.Is(err, cause) {
				t.Errorf("result %d: got %v, want unavailable with its cause", i, err)
			}
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("it took %v, want at most 5 s", took)
		}
		if len(g.store.results) != 0 {
			t.Errorf("%d results are stored", len(g.store.results))
		}
	})
}

func TestAStoreThatHangsIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 1, incident.RecorderOptions{})
		hang := hangingStore{g.store}
		r := incident.NewRecorder(incident.RecorderOptions{Store: hang})
		ctx, stop := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { _ = r.Run(ctx) })
		start := time.Now()
		if _, err := r.Record(t.Context(), result(0, 'x')); !uptime.Is(err, uptime.Unavailable) {
			t.Errorf("got %v, want unavailable", err)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("it took %v, want at most the limit of one transaction", took)
		}
		stop()
		run.Wait()
	})
}

// hangingStore accepts and never answers.
type hangingStore struct{ incident.Store }

func (hangingStore) RecordResults(ctx context.Context, _ []uptime.CheckResult, _ func(uptime.Facts) uptime.Change) ([]uptime.Recorded, error) {
	<-ctx.Done()
	return nil, fmt.Errorf("insert: %w", ctx.Err())
}

func TestAPoisonousRowFailsAlone(t *testing.T) {
	t.Parallel()
	for _, poison := range []int64{1, 7, 12, 20} {
		synctest.Test(t, func(t *testing.T) {
			g := newRig(t, 20, incident.RecorderOptions{})
			bad := errors.New("NaN is no duration")
			g.store.before = func(b []uptime.CheckResult) error {
				if slices.ContainsFunc(b, func(r uptime.CheckResult) bool { return r.MonitorID == poison }) {
					return bad
				}
				return nil
			}
			errs, wait := g.send(ups(20)...)
			wait()
			for i, err := range errs {
				if is := int64(i+1) == poison; errors.Is(err, bad) != is || !is && err != nil {
					t.Errorf("poison %d: result of monitor %d: %v", poison, i+1, err)
				}
			}
			if len(g.store.results) != 19 || g.store.calls > 12 {
				t.Errorf("poison %d: %d stored in %d tries, want 19 in at most 12", poison, len(g.store.results), g.store.calls)
			}
		})
	}
}

func TestStoppingWritesWhatIsThereAndRefusesTheRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 5, incident.RecorderOptions{FlushEvery: time.Hour})
		errs, wait := g.send(ups(4)...)
		start := time.Now()
		g.stop()
		wait()
		<-g.ended
		if err := errors.Join(errs...); err != nil || len(g.store.results) != 4 {
			t.Errorf("got %v and %d results, want all 4 stored", err, len(g.store.results))
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("the end took %v", took)
		}
		if _, err := g.Record(t.Context(), of(5, result(0, 'x'))); !uptime.Is(err, uptime.Unavailable) {
			t.Errorf("after the end: got %v, want unavailable", err)
		}
	})
}

func TestStoppingEndsInTimeWhenTheStoreIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 2, incident.RecorderOptions{RetryFor: time.Hour, DrainFor: 2 * time.Second})
		g.store.before = func([]uptime.CheckResult) error { return uptime.Errorf(uptime.Unavailable, "gone") }
		errs, wait := g.send(of(1, result(0, 'x')), of(2, result(0, 'u')))
		start := time.Now()
		g.stop()
		<-g.ended
		wait()
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("the end took %v, want about 2 s", took)
		}
		for i, err := range errs {
			if !uptime.Is(err, uptime.Unavailable) {
				t.Errorf("result %d: got %v, want unavailable", i, err)
			}
		}
	})
}

func TestAFullBufferHoldsItsMakersBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 6, incident.RecorderOptions{Capacity: 4})
		open := make(chan struct{})
		g.store.before = func([]uptime.CheckResult) error { <-open; return nil }
		_, wait := g.send(append([]uptime.CheckResult{of(6, result(0, 'x'))}, ups(3)...)...)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := g.Record(ctx, of(5, result(0, 'u'))); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the fifth of four: got %v, want to wait until its deadline", err)
		}
		close(open)
		wait()
		if _, err := g.Record(t.Context(), of(5, result(0, 'u'))); err != nil {
			t.Errorf("with room again: %v", err)
		}
	})
}

func TestACallerThatLeavesDoesNotStopItsResult(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, 1, incident.RecorderOptions{})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := g.Record(ctx, result(0, 'u')); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want its own deadline", err)
		}
		rec, err := g.Record(t.Context(), result(0, 'u'))
		if err != nil || rec.State.Verdict != uptime.VerdictUp || len(g.store.results) != 1 {
			t.Errorf("once more: %+v, %v, %d stored; want one, up", rec, err, len(g.store.results))
		}
	})
}

// Row 43 and the first law: the alert is in the transaction, so a hint that is lost
// or a crash before it loses nothing.
func TestALostHintLeavesTheAlertForTheSweep(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"record.committed", "record.hint"} {
		synctest.Test(t, func(t *testing.T) {
			points, err := failpoint.Parse(point + "=error@1")
			if err != nil {
				t.Fatal(err)
			}
			g := newRig(t, 2, incident.RecorderOptions{Failpoints: points})
			if _, err := g.Record(t.Context(), of(1, result(0, 'x'))); err != nil {
				t.Fatalf("%s: %v", point, err)
			}
			synctest.Wait()
			if len(g.hinted) != 0 || len(g.store.alerts) != 1 {
				t.Errorf("%s: hinted %v, %d alerts stored; want none and 1", point, g.hinted, len(g.store.alerts))
			}
			if _, err := g.Record(t.Context(), of(2, result(0, 'x'))); err != nil {
				t.Fatalf("%s: %v", point, err)
			}
			synctest.Wait()
			if diff := cmp.Diff([]int64{2}, g.hinted); diff != "" {
				t.Errorf("%s: hinted (-want +got):\n%s", point, diff)
			}
		})
	}
}

// A queue that hangs must not stop the recording.
func TestASlowQueueDoesNotDelayTransactions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newMemStore()
		for id := range int64(1000) {
			s.monitors[id+1] = monitor(id+1, 0, 1)
		}
		queue := make(chan struct{})
		r := incident.NewRecorder(incident.RecorderOptions{Store: s, Notify: func(context.Context, []int64) { <-queue }, Registerer: prometheus.NewRegistry()})
		ctx, stop := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { _ = r.Run(ctx) })
		start := time.Now()
		for id := range int64(1000) {
			if _, err := r.Record(t.Context(), of(id+1, result(0, 'x'))); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took != 0 || len(s.alerts) != 1000 {
			t.Errorf("1000 outages took %v and left %d alerts", took, len(s.alerts))
		}
		close(queue)
		stop()
		run.Wait()
	})
}

// nullStore commits at once: what is measured is the recorder itself.
type nullStore struct{}

func (nullStore) RecordResults(_ context.Context, batch []uptime.CheckResult, _ func(uptime.Facts) uptime.Change) ([]uptime.Recorded, error) {
	return make([]uptime.Recorded, len(batch)), nil
}

// 2000 callers, each with one result at a time, as many as a worker has in flight.
func BenchmarkRecord(b *testing.B) {
	r := incident.NewRecorder(incident.RecorderOptions{Store: nullStore{}, FlushEvery: time.Millisecond})
	ctx, stop := context.WithCancel(b.Context())
	var run sync.WaitGroup
	run.Go(func() { _ = r.Run(ctx) })
	b.SetParallelism(1000)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		res := result(0, 'u')
		for pb.Next() {
			if _, err := r.Record(ctx, res); err != nil {
				b.Error(err)
			}
		}
	})
	stop()
	run.Wait()
}
