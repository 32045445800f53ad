package schedule

import (
	"cmp"
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

// watchKey names one monitor in one region; regions are numbered by the auditor.
type watchKey struct {
	id     int64
	region uint16
}

// watched is what the auditor knows of one monitor in one region. It is kept small,
// and free of pointers, because there are a million of them and all are looked at
// every second. Instants and durations are in µs.
type watched struct {
	watchKey        // of id 0: a free place
	told     bool   // its blindness is on record
	why      uint8  // what its last check said that could not observe; 0: nothing
	seen     uint32 // the last full read that had it
	revision int64
	interval int64
	timeout  int64
	next     int64 // first slot that was not looked for yet
	known    int64 // last slot in which we were not blind
}

// seenKey is a slot.
type seenKey struct {
	watchKey
	at int64 // µs
}

// owed is a slot that had no verdict when it was looked for.
type owed struct {
	seenKey
	revision int64
	deadline int64 // µs
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
	watched   []watched
	free      []int32 // places in watched
	index     map[watchKey]int32
	regions   []string
	reasons   []uptime.Reason // why is a place in it; few: their set is closed
	round     uint32          // the number of the present full read
	gaps      []uptime.Gap    // to record
	skipFrom  time.Time       // slots in (skipFrom, skipTo] are covered by a gap
	skipTo    time.Time
	read      time.Time // slots before were looked for
	owing     []owed
	blindFrom time.Time
	open      bool      // the self-incident is, as far as we know
	settled   bool      // and the store was told so
	excused   time.Time // until then, a worker's own trouble says why monitors are blind
}

func newAuditor(s *Scheduler) *Auditor {
	return &Auditor{s: s, index: map[watchKey]int32{}, reasons: []uptime.Reason{uptime.Blind}}
}

// key numbers the region; a.mu is held.
func (a *Auditor) key(id int64, region string) watchKey {
	n := slices.Index(a.regions, region)
	if n < 0 {
		n = len(a.regions)
		a.regions = append(a.regions, region)
	}
	return watchKey{id, uint16(n)}
}

// why numbers what a check said that could not observe. That a slot was missed says no
// more than that nobody looked. a.mu is held.
func (a *Auditor) why(reason uptime.Reason) uint8 {
	if reason == uptime.ReasonOK || reason == uptime.Missed {
		reason = uptime.Blind
	}
	n := slices.Index(a.reasons, reason)
	if n < 0 {
		n = len(a.reasons)
		a.reasons = append(a.reasons, reason)
	}
	return uint8(n)
}

// find is the place of k, nil if it is not watched; a.mu is held.
func (a *Auditor) find(k watchKey) *watched {
	if i, ok := a.index[k]; ok {
		return &a.watched[i]
	}
	return nil
}

// insert makes a place for k; a.mu is held.
func (a *Auditor) insert(k watchKey) *watched {
	i := int32(len(a.watched))
	if n := len(a.free); n > 0 {
		i, a.free = a.free[n-1], a.free[:n-1]
	} else {
		a.watched = append(a.watched, watched{})
	}
	a.index[k] = i
	a.watched[i] = watched{watchKey: k}
	return &a.watched[i]
}

// remove frees the place of k; a.mu is held.
func (a *Auditor) remove(k watchKey) {
	if i, ok := a.index[k]; ok {
		delete(a.index, k)
		a.watched[i] = watched{}
		a.free = append(a.free, i)
	}
}

// put takes over the schedules of monitors; it is safe at any time.
func (a *Auditor) put(page []uptime.ScheduleEntry, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range page {
		for _, r := range e.Regions {
			k := a.key(e.MonitorID, r)
			w := a.find(k)
			if w != nil && w.revision == e.Revision {
				w.seen = a.round
				continue
			}
			start := now
			if w == nil {
				start = e.Since.Add(-1)
				if oldest := now.Add(-auditMemory); start.Before(oldest) {
					start = oldest
				}
				w = a.insert(k)
				w.known = now.UnixMicro()
			}
			w.seen, w.revision, w.interval, w.timeout = a.round, e.Revision, e.Interval.Microseconds(), e.Timeout.Microseconds()
			w.next = uptime.SlotAfter(e.MonitorID, r, e.Interval, start).UnixMicro()
		}
	}
}

// drop forgets a monitor that is no longer active.
func (a *Auditor) drop(id int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for n := range a.regions {
		a.remove(watchKey{id, uint16(n)})
	}
}

// begin says that all monitors are about to be put, and sweep that they were: those
// that were not are no longer active.
func (a *Auditor) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.round++
}

func (a *Auditor) sweep() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.watched {
		if w := &a.watched[i]; w.id != 0 && w.seen != a.round {
			a.remove(w.watchKey)
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
	for i := range a.watched {
		w := &a.watched[i]
		if w.id == 0 {
			continue
		}
		w.next = uptime.SlotAfter(w.id, a.regions[w.region], time.Duration(w.interval)*time.Microsecond, now).UnixMicro()
		w.known = now.UnixMicro()
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
	err := a.s.o.Store.ObservedSlots(ctx, uptime.Instant(from), uptime.Instant(to), func(k uptime.ResultKey, known bool, reason uptime.Reason) {
		a.mu.Lock()
		defer a.mu.Unlock()
		at := k.ScheduledAt.UnixMicro()
		key := a.key(k.MonitorID, k.Region)
		seen[seenKey{key, at}] = struct{}{}
		switch w := a.find(key); {
		case w == nil || at <= w.known:
		case known:
			w.known, w.told, w.why = at, false, 0
		default:
			w.why = a.why(reason)
		}
	})
	return seen, err
}

// expect notes the slots before to that have no verdict yet.
func (a *Auditor) expect(seen map[seenKey]struct{}, to time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	to = uptime.Instant(to)
	end, skipFrom, skipTo := to.UnixMicro(), a.skipFrom.UnixMicro(), a.skipTo.UnixMicro()
	for i := range a.watched {
		w := &a.watched[i]
		for ; w.id != 0 && w.next < end; w.next += w.interval {
			slot := seenKey{w.watchKey, w.next}
			if _, ok := seen[slot]; ok || (w.next > skipFrom && w.next <= skipTo) {
				continue
			}
			allowed := w.interval + w.timeout + (2*time.Second + auditGrace).Microseconds()
			a.owing = append(a.owing, owed{slot, w.revision, w.next + allowed})
		}
	}
	a.read = to
}

// job is the slot as a job; a.mu is held.
func (a *Auditor) job(o owed) uptime.Job {
	return uptime.Job{MonitorID: o.id, Region: a.regions[o.region], ScheduledAt: time.UnixMicro(o.at).UTC(), Kind: uptime.KindSlot, Revision: o.revision}
}

// settle records as missed what is owed beyond its deadline and still not there.
func (a *Auditor) settle(ctx context.Context, now time.Time) error {
	var due []owed
	a.mu.Lock()
	a.owing = slices.DeleteFunc(a.owing, func(o owed) bool {
		if o.deadline > now.UnixMicro() {
			return false
		}
		if a.find(o.watchKey) != nil { // else paused or deleted since
			due = append(due, o)
		}
		return true
	})
	a.mu.Unlock()
	missing, err := a.missing(ctx, due)
	if err != nil {
		missing = due
	}
	for len(missing) > 0 && err == nil {
		n := min(len(missing), recordAtOnce)
		if err = recordAll(ctx, a.s, a.jobs(missing[:n]), uptime.Missed, ""); err == nil {
			a.s.m.missed.Add(float64(n))
			missing = missing[n:]
		}
	}
	a.mu.Lock()
	a.owing = append(a.owing, missing...) // for the next time
	a.mu.Unlock()
	if err != nil {
		return fmt.Errorf("record missed slots: %w", err)
	}
	return nil
}

func (a *Auditor) jobs(owing []owed) []uptime.Job {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]uptime.Job, len(owing))
	for i, o := range owing {
		out[i] = a.job(o)
	}
	return out
}

// recordAtOnce is how many missed slots are handed to the recorder together, a part
// of what it holds, and little enough to be stored within storeTimeout.
const recordAtOnce = 5000

// missing are the slots that have no result. It reads few, narrow windows.
func (a *Auditor) missing(ctx context.Context, due []owed) ([]owed, error) {
	const near = int64(5 * time.Second / time.Microsecond)
	slices.SortFunc(due, func(x, y owed) int { return cmp.Compare(x.at, y.at) })
	var out []owed
	for rest := due; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].at-rest[n-1].at < near {
			n++
		}
		seen, err := a.observe(ctx, time.UnixMicro(rest[0].at), time.UnixMicro(rest[n-1].at+1))
		if err != nil {
			return nil, err
		}
		for _, o := range rest[:n] {
			if _, ok := seen[o.seenKey]; !ok {
				out = append(out, o)
			}
		}
		rest = rest[n:]
	}
	return out, nil
}

// tellBlind states the blindness of monitors without a known verdict for 2.5
// intervals, with what their last check said, and raises or closes the incident about
// ourselves.
func (a *Auditor) tellBlind(ctx context.Context, now time.Time) error {
	tell := map[uptime.Reason][]uptime.Job{}
	blind, unexplained := 0, 0
	a.mu.Lock()
	read, excused := a.read.UnixMicro(), a.excused.UnixMicro()
	for i := range a.watched {
		w := &a.watched[i]
		allowed := w.interval*5/2 + w.timeout + (2 * time.Second).Microseconds()
		if w.id == 0 || read-w.known <= allowed {
			continue
		}
		blind++
		if read-max(w.known, excused) > allowed {
			unexplained++
		}
		if !w.told {
			w.told = true
			region, interval := a.regions[w.region], time.Duration(w.interval)*time.Microsecond
			first := uptime.SlotBefore(w.id, region, interval, time.UnixMicro(w.known)).Add(interval)
			why := a.reasons[w.why]
			tell[why] = append(tell[why], uptime.Job{MonitorID: w.id, Region: region, Kind: uptime.KindGap, Revision: w.revision,
				ScheduledAt: first.Add(time.Microsecond)})
		}
	}
	a.mu.Unlock()
	a.s.m.blind.Set(float64(blind))
	var failed error
	for reason, jobs := range tell {
		message := "There was no verdict for two and a half intervals."
		if cause := blindCauses[reason]; cause != "" {
			message += " " + cause
		}
		err := recordAll(ctx, a.s, jobs, reason, message)
		if err == nil {
			continue
		}
		failed = fmt.Errorf("record blind monitors: %w", err)
		a.mu.Lock()
		for _, j := range jobs {
			if w := a.find(a.key(j.MonitorID, j.Region)); w != nil {
				w.told = false
			}
		}
		a.mu.Unlock()
	}
	if failed != nil {
		return failed
	}
	if err := a.excuse(ctx, blind, now); err != nil {
		return err
	}
	return a.incident(ctx, unexplained, now)
}

// blindCauses are sentences for what of ours most often makes monitors blind.
var blindCauses = map[uptime.Reason]string{
	uptime.OwnNetwork:   "The network or resolver of the worker does not work: this says nothing about the target.",
	uptime.OwnResources: "The worker has no descriptors, ports or memory left: this says nothing about the target.",
	uptime.BadConfig:    "The worker cannot run this check; its log says why.",
	uptime.Starved:      "The worker is too late or too busy: this says nothing about the target.",
}

// excuse notes that a worker has told of trouble of its own: the blindness that comes
// of it is not told once more, while it lasts and until its monitors had their turn.
func (a *Auditor) excuse(ctx context.Context, blind int, now time.Time) error {
	if blind == 0 {
		return nil
	}
	reasons, err := a.s.o.Store.OwnTrouble(ctx)
	if slices.Contains(reasons, uptime.OwnNetwork) || slices.Contains(reasons, uptime.OwnResources) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.excused = now
	}
	return err
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
