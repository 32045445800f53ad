package worker

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"vedette/internal/probe"
	"vedette/internal/uptime"
)

// task is one job in hand.
type task struct {
	id       string
	job      uptime.Job
	dequeued time.Time
	c        *compiled // nil: the monitor is gone
	// abandoned is set once the watchdog has recorded the slot for a probe that hangs.
	abandoned atomic.Bool
}

// do runs a job to its end. ctx ends when no check may start; work ends when
// running ones must stop.
func (w *Worker) do(ctx, work context.Context, t *task) {
	stored, given := false, false
	defer func() {
		if !given {
			w.finish(t, stored)
		}
	}()
	switch {
	case t.c == nil || !t.c.monitor.Enabled:
		stored = true
		return
	case t.c.err != nil:
		w.park(work, t, t.c.monitor.Problem)
		stored = w.unknown(work, t, uptime.BadConfig, "The monitor's definition cannot be run: "+t.c.monitor.Problem)
		return
	}
	for attempt := 0; ; attempt++ {
		since := time.Now()
		limit := t.c.monitor.Interval + w.o.StartLag
		if attempt == 0 {
			limit = min(w.o.StartLag, t.job.Expires.Sub(since))
		}
		if limit <= 0 {
			given = true
			w.shed(t, uptime.Missed)
			return
		}
		got, leave := w.enter(ctx, t, attempt > 0, limit)
		if ctx.Err() != nil {
			if got {
				leave()
			}
			stored = attempt > 0
			return
		}
		if !got {
			if stored = attempt > 0; stored {
				w.m.starved.Inc()
				return
			}
			given = true
			w.shed(t, uptime.Starved)
			return
		}
		w.m.lag.Observe(time.Since(since).Seconds())
		r, over := w.attempt(work, t, attempt, leave)
		if over {
			stored = attempt > 0 || t.abandoned.Load()
			return
		}
		w.o.Failpoint("checked")
		rec, ok := w.record(work, r)
		if !ok {
			return
		}
		w.o.Failpoint("recorded")
		stored = true
		if t.c.cannot(r.Reason, r.ScheduledAt) && !w.seen(work, t, r.Message) {
			w.park(work, t, r.Message)
		}
		suspect := r.Verdict == uptime.VerdictDown && !down(rec.State, t.job.Region)
		t.c.suspect.Store(suspect)
		if !suspect || attempt >= t.c.monitor.Confirm.Failures {
			return
		}
		if !wait(ctx, t.c.monitor.Confirm.Interval) {
			return
		}
	}
}

// enter takes a place among the running checks, waiting at most limit.
func (w *Worker) enter(ctx context.Context, t *task, urgent bool, limit time.Duration) (bool, func()) {
	leave := func() { w.gate.leave(t.c.host, t.c.monitor.OwnerID) }
	return w.gate.enter(ctx, t.c.host, t.c.monitor.OwnerID, urgent || t.job.Kind != uptime.KindSlot, limit), leave
}

// attempt runs the probe once. over is true when we were told to stop meanwhile: a
// check of ours that was cut says nothing.
func (w *Worker) attempt(work context.Context, t *task, n int, leave func()) (r uptime.CheckResult, over bool) {
	started, clock := uptime.Now(), time.Now()
	out, abandoned := w.run(work, t, n, leave)
	if abandoned || work.Err() != nil {
		return r, true
	}
	alone := !w.o.Crowd || !w.crowd.saw(t.c, out, clock)
	if out.Verdict == uptime.VerdictDown {
		out = w.judge(work, out, clock, t.c.monitor.Timeout, alone)
	}
	keep := t.c.good.saw(out, clock, &t.c.monitor)
	w.own.saw(t.job.MonitorID, out.Verdict, out.Reason, clock, t.c.monitor.Interval)
	w.m.checks.WithLabelValues(out.Verdict.String(), string(out.Reason)).Inc()
	return uptime.CheckResult{
		ResultKey: uptime.ResultKey{MonitorID: t.job.MonitorID, Region: t.job.Region, ScheduledAt: t.job.ScheduledAt, Attempt: n},
		Kind:      t.job.Kind, Revision: t.c.monitor.Revision, Verdict: out.Verdict, Reason: out.Reason, Message: out.Message,
		DequeuedAt: t.dequeued, StartedAt: started, Duration: out.Duration, Phases: out.Phases, Evidence: out.Evidence, Keep: keep,
	}, false
}

// judge is a failure with this machine's own health beside it, and unknown where that
// is in doubt. alone is false when everything outside has fallen silent with it.
func (w *Worker) judge(work context.Context, out probe.Outcome, started time.Time, timeout time.Duration, alone bool) probe.Outcome {
	reason, local := w.doubt(work, out, started, timeout)
	if reason == uptime.ReasonOK && !alone {
		reason = uptime.OwnNetwork
	}
	if reason != uptime.ReasonOK {
		out.Verdict, out.Reason = uptime.VerdictUnknown, reason
		out.Message = "The check failed, and so did this worker's own health: " + out.Message
	}
	if out.Evidence == nil {
		out.Evidence = &uptime.Evidence{}
	}
	out.Evidence.Local = local
	return out
}

// takeIn is how long after a stall a ping is not missed.
const takeIn = 5 * time.Second

// doubt is why a check that started at started and failed is not believed, or
// ReasonOK.
func (w *Worker) doubt(work context.Context, out probe.Outcome, started time.Time, timeout time.Duration) (uptime.Reason, map[string]string) {
	switch {
	case out.Reason.Told():
		return uptime.ReasonOK, nil // that was said, whatever state this machine is in
	case out.Reason == uptime.MissedBeat: // pings that were sent while we stood still come in now
		started, timeout = started.Add(-takeIn), takeIn
	}
	if w.stalled(started, timeout) {
		return uptime.Starved, nil
	}
	if w.o.Health == nil {
		return uptime.ReasonOK, nil
	}
	var addresses []string
	if out.Evidence != nil {
		addresses = out.Evidence.Addresses
	}
	_, reason, local := w.o.Health.Check(work, out.Reason, started, addresses)
	return reason, local
}

// run makes the probe in this goroutine. abandoned is true when the watchdog gave
// the check up meanwhile: its place is given on and its slot recorded already.
func (w *Worker) run(work context.Context, t *task, attempt int, leave func()) (out probe.Outcome, abandoned bool) {
	f := w.watch.begin(t, leave)
	defer func() {
		if p := recover(); p != nil {
			w.o.Logger.Error("probe panicked", slog.Int64("monitor_id", t.job.MonitorID), slog.Any("panic", p))
			out = probe.Outcome{Reason: uptime.InternalError, Message: "The check ended by a fault of ours."}
		}
		if abandoned = !w.watch.end(f); !abandoned {
			leave()
		}
	}()
	w.goods.check()
	return t.c.check.Run(work, probe.Attempt{
		Number: attempt, Evidence: t.c.good.wanted(time.Now()) && w.goods.take(),
		// The first attempt of a slot confirms, too, when slots come faster than
		// confirmations, and when there are to be none.
		Diagnose: t.c.suspect.Load() || t.c.monitor.Confirm.Failures == 0,
	}), false
}

// record stores r, trying for as long as the job may be in hand.
func (w *Worker) record(ctx context.Context, r uptime.CheckResult) (uptime.Recorded, bool) {
	backoff := 50 * time.Millisecond
	for end := time.Now().Add(2 * w.o.Lease); ; backoff = min(2*backoff, 2*time.Second) {
		rec, err := w.o.Recorder.Record(ctx, r)
		if err == nil {
			return rec, true
		}
		w.m.unrecorded.Inc()
		if time.Now().After(end) || !wait(ctx, backoff) {
			w.o.Logger.Warn("result is not recorded", slog.Int64("monitor_id", r.MonitorID), slog.Any("error", err))
			return uptime.Recorded{}, false
		}
	}
}

// unknown records that the slot was not observed, and why.
func (w *Worker) unknown(ctx context.Context, t *task, reason uptime.Reason, message string) bool {
	_, ok := w.record(ctx, w.notRun(t, reason, message))
	w.m.checks.WithLabelValues(uptime.VerdictUnknown.String(), string(reason)).Inc()
	return ok
}

// notRun is the result of a slot that was not observed.
func (w *Worker) notRun(t *task, reason uptime.Reason, message string) uptime.CheckResult {
	return uptime.CheckResult{
		ResultKey: uptime.ResultKey{MonitorID: t.job.MonitorID, Region: t.job.Region, ScheduledAt: t.job.ScheduledAt},
		Kind:      t.job.Kind, Revision: t.c.monitor.Revision, Reason: reason, Message: message,
		DequeuedAt: t.dequeued, StartedAt: uptime.Now()}
}

// retryEvery is how often, beside each start, parked monitors are tried once more.
const retryEvery = 10 * time.Minute

// retryParked keeps a monitor from being forgotten because a check of it could not be
// made: what was missing may be there by now.
func (w *Worker) retryParked(ctx context.Context) {
	for {
		if err := w.o.Store.RetryParked(ctx); err != nil && ctx.Err() == nil {
			w.o.Logger.Warn("parked monitors are not tried again", slog.Any("error", err))
		}
		if !wait(ctx, retryEvery) {
			return
		}
	}
}

// seen reports whether others can make the check that cannot be made here: then it is
// this machine that lacks something, a right to send ICMP, say, and they go on.
func (w *Worker) seen(ctx context.Context, t *task, problem string) bool {
	m := &t.c.monitor
	slots := t.c.lately(time.Now())
	if len(slots) == 0 {
		return false
	}
	seen, err := w.o.Store.Seen(ctx, m.ID, m.Revision, slots)
	if err != nil {
		w.o.Logger.Warn("it is not known whether others can make a check", slog.Int64("monitor_id", m.ID), slog.Any("error", err))
		return true // it is asked again
	}
	if seen {
		t.c.impossible.Store(0)
		w.lacks.Do(func() {
			w.o.Logger.Warn("this worker cannot make a check that others can", slog.Int64("monitor_id", m.ID), slog.String("problem", problem))
		})
	}
	return seen
}

func (w *Worker) park(ctx context.Context, t *task, problem string) {
	if err := w.o.Store.ParkMonitor(ctx, t.job.MonitorID, t.c.monitor.Revision, problem); err != nil {
		w.o.Logger.Warn("monitor is not parked", slog.Int64("monitor_id", t.job.MonitorID), slog.Any("error", err))
	}
}

// down reports whether region is down already, so that nothing needs confirming.
func down(s uptime.State, region string) bool {
	for i := range s.Regions {
		if s.Regions[i].Region == region {
			return s.Regions[i].Verdict == uptime.VerdictDown
		}
	}
	return false
}
