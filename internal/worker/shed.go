package worker

import (
	"context"
	"log/slog"
	"time"

	"vedette/internal/uptime"
)

// When more is asked for than this machine can do, something must give. It is
// routine checks, before they start, and each is on record as unknown at the cost of
// one row in a batch: a worker that is busy with what it cannot do does nothing else.
const (
	shedEvery   = 50 * time.Millisecond
	maxShed     = 20_000                // not recorded yet; beyond it nothing is received
	paceEvery   = 20 * time.Millisecond // how often the worker looks how late it wakes
	paceLate    = 50 * time.Millisecond // later than that on the average, it takes no more on
	queuedShare = 4                     // nothing is received while a quarter of Concurrency waits for a place
)

// busy reports that jobs had better stay in the queue, where another worker finds them.
func (w *Worker) busy() bool {
	if w.late.Load() > int64(paceLate) || w.gate.queued() >= max(w.o.Concurrency/queuedShare, batchSize) {
		return true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.held) >= w.o.Held || len(w.sheds) >= maxShed
}

// pace measures how late this process is at what it does: the mean of how much
// longer a short wait took than it should. It notes when the process stood still:
// stopped or starved, or the whole machine asleep, which only the wall clock shows.
func (w *Worker) pace(ctx context.Context) {
	var mean time.Duration
	for began := time.Now(); wait(ctx, paceEvery); {
		now := time.Now()
		late := now.Sub(began) - paceEvery
		mean += (late - mean) / 8
		w.late.Store(int64(mean))
		w.mu.Lock()
		if still := max(late, now.Round(0).Sub(began.Round(0))-paceEvery); still > timerLate {
			w.stall = stall{end: now, length: still}
		}
		w.beat = now
		w.mu.Unlock()
		began = now
	}
}

// stall is a span in which this process did not run.
type stall struct {
	end    time.Time
	length time.Duration
}

// stalled reports whether this process stood still, since started, for a good part
// of timeout: the time then ran out here, and not at the target.
func (w *Worker) stalled(started time.Time, timeout time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.stall
	if now := time.Now(); now.Sub(w.beat) > timerLate { // we woke before pace did
		s = stall{end: now, length: now.Sub(w.beat)}
	}
	return s.length > max(timerLate, timeout/4) && s.end.After(started)
}

// overdue is why a job that was just received is not run, or ReasonOK.
func (w *Worker) overdue(t *task) uptime.Reason {
	switch {
	case t.c == nil || t.c.err != nil || !t.c.monitor.Enabled:
		return uptime.ReasonOK // do knows
	case !t.dequeued.Before(t.job.Expires):
		return uptime.Missed
	case t.job.Kind == uptime.KindSlot && w.gate.crowded(t.c.host, t.c.monitor.OwnerID):
		return uptime.Starved
	}
	return uptime.ReasonOK
}

// shed gives up a slot before its check started. The job is let go of when that is
// on record.
func (w *Worker) shed(t *task, reason uptime.Reason) {
	w.m.checks.WithLabelValues(uptime.VerdictUnknown.String(), string(reason)).Inc()
	if reason == uptime.Starved {
		w.m.starved.Inc()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sheds = append(w.sheds, shed{t, w.notRun(t, reason, "")})
}

// shed is a job that is given up, and what is to be recorded of it.
type shed struct {
	t *task
	r uptime.CheckResult
}

// recordSheds stores what was given up, all at once, until ctx ends. What cannot be
// stored is left to the queue's lease and the auditor.
func (w *Worker) recordSheds(ctx context.Context) {
	var rs []uptime.CheckResult
	for wait(ctx, shedEvery) {
		w.mu.Lock()
		sheds := w.sheds
		w.sheds = nil
		w.mu.Unlock()
		rs = rs[:0]
		for _, s := range sheds {
			rs = append(rs, s.r)
		}
		err := w.o.Recorder.RecordAll(ctx, rs)
		if err != nil && ctx.Err() == nil {
			w.o.Logger.Warn("slots that were given up are not recorded", slog.Int("slots", len(rs)), slog.Any("error", err))
		}
		for _, s := range sheds {
			w.finish(s.t, err == nil)
		}
	}
}
