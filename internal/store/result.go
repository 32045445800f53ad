package store

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"vedette/internal/uptime"
)

// resultWidth is the number of columns that insertResultInto names, and
// resultReason the index of the one that is text.
const (
	resultWidth  = 16
	resultReason = 6
)

const resultColumns = `scheduled_at, monitor_id, region_id, attempt, kind, verdict, reason, revision,
 lag_us, wait_us, duration_us, dns_us, connect_us, tls_us, ttfb_us, transfer_us`

const insertResultInto = `INSERT INTO check_results (` + resultColumns + `) `

// resultRow is a result with its region's id.
type resultRow struct {
	r      *uptime.CheckResult
	region int64
	repeat bool // it was stored before this batch, or stands in it twice
}

// never stands in lag_us and wait_us for what did not happen.
const never = -1

// span is a duration as the INTEGER columns keep it: 0 to about 35 minutes.
func span(d time.Duration) int64 { return min(max(d.Microseconds(), 0), 1<<31-1) }

// numbers are the row's columns; the one at resultReason is empty and stands apart.
func (w resultRow) numbers() ([resultWidth]int64, string) {
	r, p := w.r, &w.r.Phases
	lag, wait := int64(never), int64(never)
	from := r.ScheduledAt
	if !r.DequeuedAt.IsZero() {
		lag = span(r.DequeuedAt.Sub(from))
		from = r.DequeuedAt
	}
	if !r.StartedAt.IsZero() {
		wait = span(r.StartedAt.Sub(from))
	}
	revision := r.Revision
	if r.Superseded {
		revision = -revision
	}
	return [resultWidth]int64{r.ScheduledAt.UnixMicro(), r.MonitorID, w.region, int64(r.Attempt), int64(r.Kind), int64(r.Verdict), 0,
		revision, lag, wait, span(r.Duration), span(p.DNS), span(p.Connect), span(p.TLS),
		span(p.FirstByte), span(p.Transfer)}, string(r.Reason)
}

// append adds the row's columns to args.
func (w resultRow) append(args []any) []any {
	values, reason := w.numbers()
	for i, v := range values {
		if i == resultReason {
			args = append(args, reason)
			continue
		}
		args = append(args, v)
	}
	return args
}

// scanResult reads resultColumns, with the region's name.
func (s *Store) scanResult(r row, more ...any) (uptime.CheckResult, error) {
	var c uptime.CheckResult
	var at, region, lag, wait, duration int64
	var p [5]int64
	err := r.Scan(append([]any{&at, &c.MonitorID, &region, &c.Attempt, &c.Kind, &c.Verdict, &c.Reason, &c.Revision,
		&lag, &wait, &duration, &p[0], &p[1], &p[2], &p[3], &p[4]}, more...)...)
	if err != nil {
		return c, err
	}
	us := func(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
	c.ScheduledAt, c.Region = instant(at), s.regionName(region)
	if c.Superseded = c.Revision < 0; c.Superseded {
		c.Revision = -c.Revision
	}
	from := c.ScheduledAt
	if lag != never {
		c.DequeuedAt = from.Add(us(lag))
		from = c.DequeuedAt
	}
	if wait != never {
		c.StartedAt = from.Add(us(wait))
	}
	c.Duration = us(duration)
	c.Phases = uptime.Phases{DNS: us(p[0]), Connect: us(p[1]), TLS: us(p[2]), FirstByte: us(p[3]), Transfer: us(p[4])}
	return c, nil
}

// schedule is what finding a monitor's results needs to know of it: nothing but the
// slots it had. check_results is in order of time, with no index that begins with the
// monitor (docs/decisions/0001), so slots are computed and looked up.
type schedule struct {
	monitorID int64
	spans     []scheduleSpan // oldest first
}

// scheduleSpan is a schedule and since when it was followed.
type scheduleSpan struct {
	since    time.Time
	interval time.Duration
	regions  []string
}

// present is the schedule that m follows now.
func present(m *uptime.Monitor) schedule {
	return schedule{m.ID, []scheduleSpan{{m.ScheduledSince, m.Interval, m.Regions}}}
}

// scheduleOf is m's schedule with those it followed before that reach to from.
func (s *Store) scheduleOf(ctx context.Context, db querier, m *uptime.Monitor, from time.Time) (schedule, error) {
	out := present(m)
	if !from.Before(m.ScheduledSince) {
		return out, nil
	}
	out.spans = nil
	const q = `SELECT since, interval_us, regions FROM monitor_schedules WHERE monitor_id = $1 ORDER BY since`
	err := queryOn(ctx, db, q, []any{m.ID}, func(r row) error {
		var since, interval int64
		var regions string
		if err := r.Scan(&since, &interval, &regions); err != nil {
			return err
		}
		p := scheduleSpan{since: instant(since), interval: time.Duration(interval) * time.Microsecond}
		err := json.Unmarshal([]byte(regions), &p.regions)
		out.spans = append(out.spans, p)
		return err
	})
	return out, wrap("read former schedules", err)
}

// saveSchedule notes the schedule that m follows from now on.
func saveSchedule(ctx context.Context, db querier, m *uptime.Monitor) error {
	_, err := db.ExecContext(ctx, `INSERT INTO monitor_schedules (monitor_id, since, interval_us, regions) VALUES ($1, $2, $3, $4)
 ON CONFLICT DO NOTHING`, m.ID, micro(m.ScheduledSince), m.Interval.Microseconds(), jsonText(m.Regions))
	return err
}

// window is a span of one monitor's results, [from, to] by their schedule.
type window struct {
	schedule
	from, to time.Time
}

// slots are the instants of the window's slots, over all regions.
func (w window) slots() []int64 {
	var slots []int64
	for n, p := range w.spans {
		from, to := w.from, w.to
		if from.Before(p.since) {
			from = p.since
		}
		if n+1 < len(w.spans) {
			to = earlier(to, w.spans[n+1].since.Add(-time.Microsecond))
		}
		for _, region := range p.regions {
			for t := uptime.SlotAfter(w.monitorID, region, p.interval, from.Add(-time.Microsecond)); !t.After(to); t = t.Add(p.interval) {
				slots = append(slots, t.UnixMicro())
			}
		}
	}
	slices.Sort(slots)
	return slices.Compact(slots)
}

// resultsIn returns the results in windows, all windows at once, in ResultKey order
// if there is one window.
func (s *Store) resultsIn(ctx context.Context, db querier, windows ...window) (out []uptime.CheckResult, err error) {
	spans, slots := make([][]any, 0, len(windows)), make([][]any, 0, 4*len(windows))
	for _, w := range windows {
		spans = append(spans, []any{w.monitorID, w.from.UnixMicro(), w.to.UnixMicro()})
		for _, at := range w.slots() {
			slots = append(slots, []any{w.monitorID, at})
		}
	}
	add := func(r row) error {
		c, err := s.scanResult(r)
		if err == nil {
			out = append(out, c)
		}
		return err
	}
	bySlot, outside := s.d.findResults()
	c := s.script(ctx, db)
	c.values("read slots", `monitor, at`, slots, bySlot, add)
	c.values("read results outside slots", `monitor, first, last`, spans, outside, add)
	if err := c.run(); err != nil {
		return nil, err
	}
	if len(windows) == 1 {
		sortResults(out)
	}
	return out, nil
}

func sortResults(rs []uptime.CheckResult) {
	slices.SortFunc(rs, func(a, b uptime.CheckResult) int {
		switch {
		case a.ResultKey.Before(b.ResultKey):
			return -1
		case b.ResultKey.Before(a.ResultKey):
			return 1
		}
		return 0
	})
}

// ListResults: see service.Monitors.
func (s *Store) ListResults(ctx context.Context, owner, id int64, from, to time.Time, before uptime.ResultKey, failing bool, limit int) ([]uptime.CheckResult, error) {
	v, err := s.Monitor(ctx, owner, id)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	end := to.Add(-time.Microsecond)
	if !before.ScheduledAt.IsZero() && before.ScheduledAt.Before(end) {
		end = before.ScheduledAt
	}
	find := s.walkBack
	if failing {
		find = s.failing
	}
	page, err := find(ctx, &v.Monitor, from, end, before, limit)
	if err != nil {
		return nil, s.fail("list results", err)
	}
	return page, s.addEvidence(ctx, page)
}

// walkBack is the last limit results in [from, end] that come before a key, if it is
// set: in windows that hold about a page each, doubling while they are empty.
func (s *Store) walkBack(ctx context.Context, m *uptime.Monitor, from, end time.Time, before uptime.ResultKey, limit int) (page []uptime.CheckResult, err error) {
	schedule, err := s.scheduleOf(ctx, s.read, m, from)
	if err != nil {
		return nil, err
	}
	for width := time.Duration(limit+1) * m.Interval; len(page) < limit && !end.Before(from); width *= 2 {
		start := end.Add(-width)
		if start.Before(from) {
			start = from
		}
		found, err := s.resultsIn(ctx, s.read, window{schedule, start, end})
		if err != nil {
			return nil, err
		}
		for _, r := range slices.Backward(found) {
			if len(page) < limit && (before.ScheduledAt.IsZero() || r.ResultKey.Before(before)) {
				page = append(page, r)
			}
		}
		end = start.Add(-time.Microsecond)
	}
	return page, nil
}

// failing is the same for results that are not up, which have an index of their own.
func (s *Store) failing(ctx context.Context, m *uptime.Monitor, from, end time.Time, before uptime.ResultKey, limit int) (page []uptime.CheckResult, err error) {
	const q = `SELECT ` + resultColumns + ` FROM check_results WHERE monitor_id = $1 AND scheduled_at >= $2 AND scheduled_at <= $3 AND verdict <> 1
 ORDER BY scheduled_at DESC LIMIT $4`
	// Results of one instant, of several regions and attempts, may surround the key.
	more := limit + (uptime.MaxConfirm+1)*len(m.Regions)
	err = queryOn(ctx, s.read, q, []any{m.ID, from.UnixMicro(), end.UnixMicro(), more}, func(r row) error {
		c, err := s.scanResult(r)
		if err == nil && (before.ScheduledAt.IsZero() || c.ResultKey.Before(before)) {
			page = append(page, c)
		}
		return err
	})
	sortResults(page)
	slices.Reverse(page)
	return page[:min(len(page), limit)], err
}

const selectEvidence = `SELECT message, evidence FROM check_evidence
 WHERE scheduled_at = $1 AND monitor_id = $2 AND region_id = $3 AND attempt = $4`

// addEvidence fills Message and Evidence of the results that have some.
func (s *Store) addEvidence(ctx context.Context, rs []uptime.CheckResult) error {
	for i := range rs {
		r := &rs[i]
		if r.Verdict == uptime.VerdictUp {
			continue
		}
		if err := s.loadEvidence(ctx, s.read, r); err != nil {
			return s.fail("read evidence", err)
		}
	}
	return nil
}

func (s *Store) loadEvidence(ctx context.Context, db querier, r *uptime.CheckResult) error {
	region, err := s.regionID(ctx, r.Region)
	if err != nil {
		return err
	}
	args := []any{r.ScheduledAt.UnixMicro(), r.MonitorID, region, r.Attempt}
	return queryOn(ctx, db, selectEvidence, args, func(w row) error {
		var text string
		if err := w.Scan(&r.Message, &text); err != nil {
			return err
		}
		if text == "" {
			return nil
		}
		return json.Unmarshal([]byte(text), &r.Evidence)
	})
}
