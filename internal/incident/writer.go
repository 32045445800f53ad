package incident

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"vedette/internal/uptime"
)

// Pauses between tries at a store that does not answer; each is spread by half.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = time.Second
)

// writer stores the results of its share of monitors, one transaction at a time.
type writer struct {
	r    *Recorder
	wake chan struct{} // capacity 1: look again
	room chan struct{} // a token for each result in hand

	mu      sync.Mutex // guards what follows
	waiting []*waiter  // oldest first
	urgent  int        // how many of them are
	closed  bool

	// These belong to the goroutine of run and are kept for their memory.
	taken   []*waiter
	batch   []uptime.CheckResult
	changes map[int64]change // by monitor
}

// change is what a decision did, for the log and the hints.
type change struct {
	transition *uptime.Transition
	visible    bool
}

// add hands x over; false when the writer takes no more.
func (w *writer) add(x *waiter) bool {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return false
	}
	w.waiting = append(w.waiting, x)
	if x.urgent {
		w.urgent++
	}
	n := len(w.waiting)
	w.mu.Unlock()
	if x.urgent || n == 1 || n == w.r.o.MaxBatch {
		w.nudge()
	}
	return true
}

func (w *writer) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// close lets run end once nothing waits.
func (w *writer) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.nudge()
}

// run writes groups until the writer is closed and empty. When ctx ends, what is
// left fails.
func (w *writer) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait, next := w.due()
		switch next {
		case nothing:
			<-w.wake
		case gathering:
			timer.Reset(wait)
			select {
			case <-w.wake:
			case <-timer.C:
			}
		case ready:
			w.take()
			w.flush(ctx)
		case over:
			return
		}
	}
}

// What is to be done next.
type next int

const (
	nothing   next = iota // nothing waits
	gathering             // the group may still grow
	ready                 // it must be written
	over                  // there will be no other
)

// due is what is to be done next, and for how long a group may still gather.
func (w *writer) due() (time.Duration, next) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case len(w.waiting) == 0 && w.closed:
		return 0, over
	case len(w.waiting) == 0:
		return 0, nothing
	case w.closed || w.urgent > 0 || len(w.waiting) >= w.r.o.MaxBatch:
		return 0, ready
	}
	if wait := w.r.o.FlushEvery - time.Since(w.waiting[0].arrived); wait > 0 {
		return wait, gathering
	}
	return 0, ready
}

// take moves the oldest results, at most MaxBatch, to w.taken.
func (w *writer) take() {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(len(w.waiting), w.r.o.MaxBatch)
	w.taken = append(w.taken[:0], w.waiting[:n]...)
	rest := copy(w.waiting, w.waiting[n:])
	clear(w.waiting[rest:])
	w.waiting = w.waiting[:rest]
	for _, x := range w.taken {
		if x.urgent {
			w.urgent--
		}
	}
}

// flush writes what was taken and lets go of it.
func (w *writer) flush(ctx context.Context) {
	started := time.Now()
	w.batch = w.batch[:0]
	for _, x := range w.taken {
		w.batch = append(w.batch, x.result)
	}
	w.write(ctx, w.taken, w.batch, started.Add(w.r.o.RetryFor))
	w.r.m.batch.Observe(float64(len(w.batch)))
	w.r.m.flush.Observe(time.Since(started).Seconds())
	clear(w.batch) // evidence is not ours to keep
	clear(w.taken)
}

// write stores xs, whose results are batch. An error that is not the store's
// absence is some row's fault: halves are tried until that row alone fails.
func (w *writer) write(ctx context.Context, xs []*waiter, batch []uptime.CheckResult, until time.Time) {
	recs, err := w.attempt(ctx, batch, until)
	switch {
	case err == nil:
		w.committed(ctx, xs, recs)
	case absent(err) || len(xs) == 1:
		w.failed(xs, err)
	default:
		w.r.m.bisected.Inc()
		half := len(xs) / 2
		w.write(ctx, xs[:half], batch[:half], until)
		w.write(ctx, xs[half:], batch[half:], until)
	}
}

// attempt runs the transaction, again and again until the given instant while the
// store does not answer.
func (w *writer) attempt(ctx context.Context, batch []uptime.CheckResult, until time.Time) ([]uptime.Recorded, error) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		recs, err := w.once(ctx, batch)
		if err == nil || !absent(err) {
			return recs, err
		}
		w.r.m.retried.Inc()
		pause := pause/2 + rand.N(pause)
		if ctx.Err() != nil || time.Now().Add(pause).After(until) {
			return nil, uptime.Errorf(uptime.Unavailable, "results are not stored: %w", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

var errWriteLimit = errors.New("the recorder's transaction took too long")

func (w *writer) once(ctx context.Context, batch []uptime.CheckResult) ([]uptime.Recorded, error) {
	if err := w.r.o.Failpoints.Hit("record.begin"); err != nil {
		return nil, uptime.Errorf(uptime.Unavailable, "store: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, w.r.o.WriteLimit, errWriteLimit)
	defer cancel()
	if w.changes == nil {
		w.changes = map[int64]change{}
	}
	clear(w.changes)
	recs, err := w.r.o.Store.RecordResults(ctx, batch, w.decide)
	if err == nil && len(recs) != len(batch) {
		err = uptime.Errorf(uptime.Internal, "store answered %d of %d results", len(recs), len(batch))
	}
	return recs, err
}

// decide is the manager's, with a note of what it did. It may be called again for
// the same monitor, by a transaction that is repeated.
func (w *writer) decide(f uptime.Facts) uptime.Change {
	c := w.r.o.Manager.Decide(f)
	w.changes[f.Monitor.ID] = change{c.Transition, c.Transition != nil || c.Open != nil || c.Update != nil}
	return c
}

// committed tells everybody: the hints first, since people wait for those.
func (w *writer) committed(ctx context.Context, xs []*waiter, recs []uptime.Recorded) {
	lost := w.r.o.Failpoints.Hit("record.committed") != nil
	var h hint
	for i := range recs {
		h.alerts = append(h.alerts, recs[i].AlertIDs...)
		if recs[i].Quiet {
			w.r.m.quiet.Inc()
		} else {
			w.r.m.judged.Inc()
		}
	}
	for id, c := range w.changes {
		h.events = h.events || c.visible
		if t := c.transition; t != nil {
			w.r.m.transitions.WithLabelValues(t.To.String()).Inc()
			w.r.o.Logger.InfoContext(ctx, "monitor changed", slog.Int64("monitor_id", id), slog.String("from", t.From.String()),
				slog.String("to", t.To.String()), slog.String("reason", string(t.Reason)))
		}
	}
	if !lost && (h.events || len(h.alerts) > 0) && !w.r.hints.send(h) {
		w.r.m.dropped.Inc()
	}
	for i, x := range xs {
		x.out = recs[i]
		w.release(x)
	}
}

func (w *writer) failed(xs []*waiter, err error) {
	w.r.m.failed.Add(float64(len(xs)))
	w.r.o.Logger.Warn("results are not stored", slog.Int("results", len(xs)), slog.Int64("monitor_id", xs[0].result.MonitorID), slog.Any("error", err))
	for _, x := range xs {
		x.err = err
		w.release(x)
	}
}

// release gives x back to its caller; x must not be touched after.
func (w *writer) release(x *waiter) {
	if g := x.group; g != nil {
		err := x.err
		w.r.forget(x)
		g.end(err)
	} else {
		x.done <- struct{}{}
	}
	<-w.room
}

// absent reports whether err says that the store did not answer, not that it
// refused something.
func absent(err error) bool {
	return uptime.Is(err, uptime.Unavailable) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}
