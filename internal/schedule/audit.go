package schedule

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"vedette/internal/uptime"
)

const (
	auditEvery  = time.Second
	auditLag    = 10 * time.Second // slots are looked for this long after their instant
	auditGrace  = 5 * time.Second  // from a check's latest end to its commit
	auditMemory = 10 * time.Minute // how far back a new leader looks for slots in flight
	blindLong   = 2 * time.Minute
)

// watched is what the auditor knows of one monitor in one region.
type watched struct {
	uptime.ScheduleEntry
	region string
	next   time.Time // first slot that was not looked for yet
	known  time.Time // last slot with a verdict other than unknown
	told   bool      // its blindness is on record
}

// owed is a slot that had no verdict when it was looked for.
type owed struct {
	job      uptime.Job
	deadline time.Time
}

// Auditor enforces, without the queue, that every due slot has a verdict.
//
// Progress("audit") = T vouches: every slot whose deadline (scheduled + interval +
// timeout + 7 s) was at or before T has a verdict, unknown ones included, or lies
// in a recorded gap. It says nothing of slots still allowed to run, so it stays
// about a second behind now whatever the intervals are.
type Auditor struct {
	s *Scheduler

	mu        sync.Mutex // guards what follows
	monitors  map[watchKey]*watched
	gaps      []uptime.Gap // to record
	skipFrom  time.Time    // slots in (skipFrom, skipTo] are covered by a gap
	skipTo    time.Time
	read      time.Time // slots before were looked for
	owing     []owed
	blindFrom time.Time
	open      bool // the self-incident is, as far as we know
	settled   bool // and the store was told so
}

type watchKey struct {
	id     int64
	region string
}

type seenKey struct {
	watchKey
	at int64
}

func newAuditor(s *Scheduler) *Auditor {
	return &Auditor{s: s, monitors: map[watchKey]*watched{}}
}

// put takes over the schedules of monitors; it is safe at any time.
func (a *Auditor) put(page []uptime.ScheduleEntry, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range page {
		for _, r := range e.Regions {
			k := watchKey{e.MonitorID, r}
			w := a.monitors[k]
			if w != nil && w.Revision == e.Revision {
				continue
			}
			start := now
			if w == nil && e.Since.Before(now.Add(-auditMemory)) {
				start = now.Add(-auditMemory)
			} else if w == nil {
				start = e.Since.Add(-1)
			}
			n := &watched{ScheduleEntry: e, region: r, known: now, next: uptime.SlotAfter(e.MonitorID, r, e.Interval, start)}
			if w != nil {
				n.known, n.told = w.known, w.told
			}
			a.monitors[k] = n
		}
	}
}

// drop forgets a monitor that is no longer active.
func (a *Auditor) drop(id int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k := range a.monitors {
		if k.id == id {
			delete(a.monitors, k)
		}
	}
}

// retain forgets all monitors but the active ones.
func (a *Auditor) retain(active map[int64]struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k := range a.monitors {
		if _, ok := active[k.id]; !ok {
			delete(a.monitors, k)
		}
	}
}

// pause notes a span in which nothing was dispatched: a gap, not missed slots.
func (a *Auditor) pause(from, to time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gaps = append(a.gaps, uptime.Gap{From: uptime.Instant(from), To: uptime.Instant(to), Cause: uptime.NotRunning})
	a.skipFrom, a.skipTo = from, to
}

// rewind starts over from now after the clock was set back.
func (a *Auditor) rewind(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.read = now.Add(-auditLag)
	for _, w := range a.monitors {
		w.next = uptime.SlotAfter(w.MonitorID, w.region, w.Interval, now)
		w.known = now
	}
}

// run audits every second until ctx ends. from is how far the last leader vouched.
func (a *Auditor) run(ctx context.Context, from time.Time) {
	now := a.s.o.wall()
	a.mu.Lock()
	a.read = now.Add(-auditMemory)
	if from.IsZero() {
		a.read = now.Add(-auditLag)
	}
	a.mu.Unlock()
	for sleep(ctx, auditEvery) {
		if err := a.tick(ctx, a.s.o.wall()); err != nil && ctx.Err() == nil {
			a.s.o.Logger.Warn("audit is not done", slog.Any("error", err))
		}
	}
}

// tick looks once. Nothing it does is lost when it fails half-way: what was owed
// stays owed, and progress does not move.
func (a *Auditor) tick(ctx context.Context, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, 3*storeTimeout)
	defer cancel()
	if err := a.recordGaps(ctx); err != nil {
		return err
	}
	if to := now.Add(-auditLag); to.After(a.read) {
		seen, err := a.observe(ctx, a.read, to)
		if err != nil {
			return err
		}
		a.expect(seen, to)
	}
	if err := a.settle(ctx, now); err != nil {
		return err
	}
	if err := a.tellBlind(ctx, now); err != nil {
		return err
	}
	if !a.s.Leading() {
		return nil
	}
	err := a.s.o.Store.SetProgress(ctx, progressAudit, uptime.Instant(now))
	a.s.o.Failpoint("audited")
	return err
}

func (a *Auditor) recordGaps(ctx context.Context) error {
	a.mu.Lock()
	gaps := slices.Clone(a.gaps)
	a.mu.Unlock()
	for _, g := range gaps {
		if err := a.s.o.Store.RecordGap(ctx, g); err != nil {
			return err
		}
	}
	a.mu.Lock()
	a.gaps = a.gaps[len(gaps):]
	a.mu.Unlock()
	return nil
}

// observe reads which slots of [from, to) have a verdict.
func (a *Auditor) observe(ctx context.Context, from, to time.Time) (map[seenKey]struct{}, error) {
	seen := map[seenKey]struct{}{}
	err := a.s.o.Store.ObservedSlots(ctx, uptime.Instant(from), uptime.Instant(to), func(k uptime.ResultKey, v uptime.Verdict) {
		key := watchKey{k.MonitorID, k.Region}
		seen[seenKey{key, k.ScheduledAt.UnixMicro()}] = struct{}{}
		a.mu.Lock()
		defer a.mu.Unlock()
		if w := a.monitors[key]; w != nil && v != uptime.VerdictUnknown && k.ScheduledAt.After(w.known) {
			w.known, w.told = k.ScheduledAt, false
		}
	})
	return seen, err
}

// expect notes the slots before to that have no verdict yet.
func (a *Auditor) expect(seen map[seenKey]struct{}, to time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	to = uptime.Instant(to)
	for k, w := range a.monitors {
		for ; w.next.Before(to); w.next = w.next.Add(w.Interval) {
			at := w.next
			if _, ok := seen[seenKey{k, at.UnixMicro()}]; ok || (at.After(a.skipFrom) && !at.After(a.skipTo)) {
				continue
			}
			a.owing = append(a.owing, owed{
				job:      uptime.Job{MonitorID: k.id, Region: k.region, ScheduledAt: at, Kind: uptime.KindSlot, Revision: w.Revision},
				deadline: at.Add(w.Interval + w.Timeout + 2*time.Second + auditGrace)})
		}
	}
	a.read = to
}

// settle records as missed what is owed beyond its deadline and still not there.
func (a *Auditor) settle(ctx context.Context, now time.Time) error {
	var due []uptime.Job
	var rest []owed
	a.mu.Lock()
	for _, o := range a.owing {
		if w := a.monitors[watchKey{o.job.MonitorID, o.job.Region}]; w == nil {
			continue // paused or deleted since
		}
		if o.deadline.After(now) {
			rest = append(rest, o)
		} else {
			due = append(due, o.job)
		}
	}
	a.mu.Unlock()
	missing, err := a.missing(ctx, due)
	if err != nil {
		return err
	}
	for len(missing) > 0 && err == nil {
		n := min(len(missing), recordAtOnce)
		if err = recordAll(ctx, a.s, missing[:n], uptime.Missed, ""); err == nil {
			a.s.m.missed.Add(float64(n))
			missing = missing[n:]
		}
	}
	for _, j := range missing { // for the next time
		rest = append(rest, owed{job: j, deadline: now})
	}
	a.mu.Lock()
	a.owing = rest
	a.mu.Unlock()
	if err != nil {
		return fmt.Errorf("record missed slots: %w", err)
	}
	return nil
}

// recordAtOnce is how many missed slots are handed to the recorder together, a part
// of what it holds, and little enough to be stored within storeTimeout.
const recordAtOnce = 5000

// missing are the jobs that have no result. It reads few, narrow windows.
func (a *Auditor) missing(ctx context.Context, due []uptime.Job) ([]uptime.Job, error) {
	slices.SortFunc(due, func(x, y uptime.Job) int { return x.ScheduledAt.Compare(y.ScheduledAt) })
	var out []uptime.Job
	for len(due) > 0 {
		n := 1
		for n < len(due) && due[n].ScheduledAt.Sub(due[n-1].ScheduledAt) < 5*time.Second {
			n++
		}
		seen, err := a.observe(ctx, due[0].ScheduledAt, due[n-1].ScheduledAt.Add(time.Microsecond))
		if err != nil {
			return nil, err
		}
		for _, j := range due[:n] {
			if _, ok := seen[seenKey{watchKey{j.MonitorID, j.Region}, j.ScheduledAt.UnixMicro()}]; !ok {
				out = append(out, j)
			}
		}
		due = due[n:]
	}
	return out, nil
}

// tellBlind states the blindness of monitors without a known verdict for 2.5
// intervals, and raises or closes the incident about ourselves.
func (a *Auditor) tellBlind(ctx context.Context, now time.Time) error {
	var tell []uptime.Job
	blind := 0
	a.mu.Lock()
	for k, w := range a.monitors {
		if a.read.Sub(w.known) <= w.Interval*5/2+w.Timeout+2*time.Second {
			continue
		}
		blind++
		if !w.told {
			w.told = true
			tell = append(tell, uptime.Job{MonitorID: k.id, Region: k.region, Kind: uptime.KindGap, Revision: w.Revision,
				ScheduledAt: uptime.SlotBefore(k.id, k.region, w.Interval, w.known).Add(w.Interval).Add(time.Microsecond)})
		}
	}
	a.mu.Unlock()
	a.s.m.blind.Set(float64(blind))
	if err := recordAll(ctx, a.s, tell, uptime.Blind, "There was no verdict for two and a half intervals."); err != nil {
		a.mu.Lock()
		for _, j := range tell {
			if w := a.monitors[watchKey{j.MonitorID, j.Region}]; w != nil {
				w.told = false
			}
		}
		a.mu.Unlock()
		return fmt.Errorf("record blind monitors: %w", err)
	}
	return a.incident(ctx, blind, now)
}

// incident keeps the incident about ourselves in step with blind.
func (a *Auditor) incident(ctx context.Context, blind int, now time.Time) error {
	if blind == 0 {
		a.blindFrom = time.Time{}
	} else if a.blindFrom.IsZero() {
		a.blindFrom = now
	}
	want := blind > 0 && now.Sub(a.blindFrom) > blindLong
	if (blind > 0 && !want) || (a.settled && want == a.open) {
		return nil
	}
	_, err := a.s.o.Store.SetSelfIncident(ctx, uptime.Blind, strconv.Itoa(blind)+" monitors have no verdict.", want)
	if err == nil {
		a.open, a.settled = want, true
	}
	return err
}
