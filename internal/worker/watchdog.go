package worker

import (
	"context"
	"sync"
	"time"

	"vedette/internal/uptime"
)

// watchEvery is how often running checks are looked at; a probe's promise is to
// end by its timeout + 2 s, and the watchdog gives up a little after.
const watchEvery = 250 * time.Millisecond

// watchdog knows the running checks and gives up those that outlive their promise,
// so that a probe which ignores its end keeps no place. One goroutine looks after
// all of them; a check costs it two map operations.
type watchdog struct {
	mu      sync.Mutex
	running map[*flight]struct{} // guarded by mu
}

// flight is one running check.
type flight struct {
	t        *task
	deadline time.Time
	leave    func() // gives its place back
}

func newWatchdog() *watchdog { return &watchdog{running: map[*flight]struct{}{}} }

// begin notes a check that starts now.
func (d *watchdog) begin(t *task, leave func()) *flight {
	f := &flight{t: t, deadline: time.Now().Add(t.c.monitor.Timeout + 2*time.Second), leave: leave}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running[f] = struct{}{}
	return f
}

// end forgets a check that is over; false if it was given up before.
func (d *watchdog) end(f *flight) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, mine := d.running[f]
	delete(d.running, f)
	return mine
}

// overdue takes the checks whose promise is broken.
func (d *watchdog) overdue(now time.Time) []*flight {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []*flight
	for f := range d.running {
		if now.After(f.deadline) {
			out = append(out, f)
			delete(d.running, f)
		}
	}
	return out
}

// watchChecks gives up overdue checks until ctx ends.
func (w *Worker) watchChecks(ctx context.Context) {
	var recording sync.WaitGroup
	defer recording.Wait()
	for wait(ctx, watchEvery) {
		for _, f := range w.watch.overdue(time.Now()) {
			w.m.leaked.Inc()
			f.leave()
			f.t.abandoned.Store(true)
			recording.Go(func() {
				stored := w.unknown(ctx, f.t, uptime.InternalError, "The check did not end in its time, by a fault of ours.")
				w.finish(f.t, stored)
			})
		}
	}
}
