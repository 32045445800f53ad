package schedule

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"vedette/internal/uptime"
)

const (
	topicMonitors = uptime.TopicMonitors
	progressAudit = "audit"
	batchSize     = 500  // jobs a publish
	pageSize      = 1000 // monitors a read
	storeTimeout  = 10 * time.Second
)

// term is one span of leadership.
type term struct {
	s     *Scheduler
	audit *Auditor
	wake  chan struct{}
	wg    sync.WaitGroup

	mu         sync.Mutex // guards what follows
	plan       *plan
	publishers map[string]*publisher
}

func newTerm(s *Scheduler) *term {
	return &term{s: s, audit: newAuditor(s), wake: make(chan struct{}, 1), plan: newPlan(), publishers: map[string]*publisher{}}
}

// run reads all monitors, then dispatches until ctx ends or the lease is lost.
func (t *term) run(ctx context.Context) {
	ctx, stop := context.WithCancel(ctx)
	defer t.wg.Wait()
	defer stop()
	from, ok := t.begin(ctx)
	if !ok {
		return
	}
	t.wg.Go(func() { t.follow(ctx) })
	t.wg.Go(func() { t.audit.run(ctx, from) })
	t.dispatch(ctx)
}

// begin loads the monitors and accounts for the time nobody scheduled.
func (t *term) begin(ctx context.Context) (from time.Time, ok bool) {
	for t.s.Leading() && ctx.Err() == nil {
		from, err := t.s.o.Store.Progress(ctx, progressAudit)
		if err == nil {
			err = t.reload(ctx, from)
		}
		if err != nil {
			t.s.o.Logger.Warn("monitors are not read", slog.Any("error", err))
			sleep(ctx, time.Second)
			continue
		}
		now := t.s.o.wall()
		if !from.IsZero() && now.Sub(from) > t.s.o.PauseAfter {
			t.paused(from, now)
		}
		return from, true
	}
	return time.Time{}, false
}

// paused accounts for a span in which we did not run: one spread catch-up check a
// monitor, and a gap on record.
func (t *term) paused(from, to time.Time) {
	t.s.o.Logger.Warn("scheduler did not run", slog.Time("from", from), slog.Time("to", to))
	t.mu.Lock()
	t.plan.realign(from, to, t.s.o.CatchUpRate)
	t.mu.Unlock()
	t.audit.pause(from, to)
}

// dispatch hands out each slot at its instant. It does no I/O, waits on the
// monotonic clock and looks at the wall clock at least every second, so that it
// sees a step or a pause.
func (t *term) dispatch(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	mono, wall := time.Now(), t.s.o.wall()
	for t.s.Leading() {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-t.wake:
		}
		m, w := time.Now(), t.s.o.wall()
		switch drift := w.Round(0).Sub(wall.Round(0)) - m.Sub(mono); {
		case w.Round(0).Sub(wall.Round(0)) > t.s.o.PauseAfter:
			t.paused(wall.Round(0), w)
		case drift < -time.Second:
			t.s.o.Logger.Warn("clock went back", slog.Duration("by", -drift))
			t.mu.Lock()
			t.plan.realign(w, w, 0)
			t.mu.Unlock()
			t.audit.rewind(w)
		}
		mono, wall = m, w
		if !t.s.Leading() {
			return // a pause may have cost us the lease since the loop's check
		}
		timer.Reset(t.dispatchDue(ctx, w))
	}
}

// dispatchDue hands over what is due and says how long to wait, at most a second.
func (t *term) dispatchDue(ctx context.Context, now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := now.UnixMicro()
	batches := map[string][]uptime.Job{}
	t.plan.due(now, batchSize, func(j uptime.Job, at int64) {
		t.s.m.lateness.Observe(float64(n-at) / 1e6)
		batches[j.Region] = append(batches[j.Region], j)
	})
	if len(batches) > 0 {
		t.s.o.Failpoint("due")
	}
	for region, jobs := range batches {
		t.publisher(ctx, region).add(jobs)
	}
	d, ok := t.plan.wait(t.s.o.wall())
	if !ok || d > time.Second {
		return time.Second
	}
	return max(d, t.plan.linger())
}

// publisher of a region; t.mu is held.
func (t *term) publisher(ctx context.Context, region string) *publisher {
	p := t.publishers[region]
	if p == nil {
		p = newPublisher(t.s, region)
		t.publishers[region] = p
		t.wg.Go(func() { p.run(ctx) })
	}
	return p
}

// follow applies hints at once and re-reads everything now and then.
func (t *term) follow(ctx context.Context) {
	tick := time.NewTicker(t.s.o.Reload)
	defer tick.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case id := <-t.s.changed:
			err = t.refresh(ctx, id)
		case <-t.s.lost:
			err = t.reload(ctx, time.Time{})
		case <-tick.C:
			err = t.reload(ctx, time.Time{})
		}
		if err != nil && ctx.Err() == nil {
			t.s.o.Logger.Warn("monitors are not read", slog.Any("error", err))
		}
	}
}

// refresh reads one monitor that is said to have changed.
func (t *term) refresh(ctx context.Context, id int64) error {
	call, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	e, active, err := t.s.o.Store.ActiveMonitor(call, id)
	if err != nil {
		return err
	}
	now := t.s.o.wall()
	if !active {
		t.mu.Lock()
		t.plan.drop(id)
		t.mu.Unlock()
		t.audit.drop(id)
		return nil
	}
	t.apply(ctx, []uptime.ScheduleEntry{e}, now, time.Time{})
	return nil
}

// reload reads all monitors. Since, when set, marks the first read of a term: a
// monitor that is older than it is not new, only new to us.
func (t *term) reload(ctx context.Context, since time.Time) error {
	t.mu.Lock()
	t.plan.round++
	first := len(t.plan.heap) == 0
	t.mu.Unlock()
	t.audit.begin()
	if first && since.IsZero() {
		since = t.s.o.wall().Add(-2 * t.s.o.Reload)
	}
	for after := int64(0); ; {
		call, cancel := context.WithTimeout(ctx, storeTimeout)
		page, err := t.s.o.Store.ActiveMonitors(call, after, pageSize)
		cancel()
		if err != nil {
			return err
		}
		t.apply(ctx, page, t.s.o.wall(), since)
		if len(page) < pageSize {
			break
		}
		after = page[len(page)-1].MonitorID
	}
	t.audit.sweep()
	t.sweep()
	return nil
}

// sweep drops what the full read that just ended did not see, a stretch at a time: a
// million monitors take longer to look through than a slot may wait.
func (t *term) sweep() {
	const stretch = 10_000
	for from := 0; from >= 0; {
		t.mu.Lock()
		from = t.plan.sweep(from, stretch)
		t.s.m.monitors.Set(float64(len(t.plan.heap)))
		t.mu.Unlock()
	}
}

// apply puts entries into the plan; those that changed get a first check at once.
func (t *term) apply(ctx context.Context, page []uptime.ScheduleEntry, now, since time.Time) {
	first := map[string][]uptime.Job{}
	t.mu.Lock()
	for _, e := range page {
		if !t.plan.put(e, now) || e.Since.Before(since) {
			continue
		}
		at := uptime.Instant(now)
		for _, r := range e.Regions {
			first[r] = append(first[r], uptime.Job{MonitorID: e.MonitorID, Region: r, ScheduledAt: at,
				Kind: uptime.KindFirst, Revision: e.Revision, Expires: at.Add(e.Interval)})
		}
	}
	for r, jobs := range first {
		t.publisher(ctx, r).add(jobs)
	}
	t.mu.Unlock()
	t.audit.put(page, now)
	select {
	case t.wake <- struct{}{}:
	default:
	}
}
