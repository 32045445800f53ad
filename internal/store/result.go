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
	resultWidth  = 17
	resultReason = 6
)

const resultColumns = `scheduled_at, monitor_id, region_id, attempt, kind, verdict, reason, revision, superseded,
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
	return [resultWidth]int64{r.ScheduledAt.UnixMicro(), r.MonitorID, w.region, int64(r.Attempt), int64(r.Kind), int64(r.Verdict), 0,
		r.Revision, bit(r.Superseded), lag, wait, span(r.Duration), span(p.DNS), span(p.Connect), span(p.TLS),
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
	var at, region, superseded, lag, wait, duration int64
	var p [5]int64
	err := r.Scan(append([]any{&at, &c.MonitorID, &region, &c.Attempt, &c.Kind, &c.Verdict, &c.Reason, &c.Revision, &superseded,
		&lag, &wait, &duration, &p[0], &p[1], &p[2], &p[3], &p[4]}, more...)...)
	if err != nil {
		return c, err
	}
	us := func(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
	c.ScheduledAt, c.Region, c.Superseded = instant(at), s.regionName(region), superseded != 0
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

// schedule is what finding a monitor's results needs to know of it.
type schedule struct {
	monitorID int64
	regions   []string
	interval  time.Duration
	since     time.Time // slots before it followed another schedule
}

// window is a span of one monitor's results, [from, to] by their schedule.
type window struct {
	schedule
	from, to time.Time
}

const rangedResults = `SELECT ` + resultColumns + ` FROM check_results WHERE scheduled_at >= $1 AND scheduled_at <= $2 AND monitor_id = $3`

// resultsOf returns a monitor's results scheduled in [from, to], in ResultKey order.
// What is older than its present schedule is scanned in SQLite.
func (s *Store) resultsOf(ctx context.Context, db querier, m schedule, from, to time.Time) (out []uptime.CheckResult, err error) {
	if !s.d.postgres() && from.Before(m.since) {
		end := earlier(m.since.Add(-time.Microsecond), to)
		if err := queryOn(ctx, db, rangedResults, []any{from.UnixMicro(), end.UnixMicro(), m.monitorID}, s.addResult(&out)); err != nil {
			return nil, err
		}
		from = m.since
	}
	more, err := s.resultsIn(ctx, db, []window{{m, from, to}})
	out = append(out, more...)
	sortResults(out)
	return out, err
}

// addResult is a scan function that appends to out.
func (s *Store) addResult(out *[]uptime.CheckResult) func(row) error {
	return func(r row) error {
		c, err := s.scanResult(r)
		if err == nil {
			*out = append(*out, c)
		}
		return err
	}
}

// resultsIn returns the results in windows, in no order, all windows at once.
// PostgreSQL has an index that begins with the monitor. SQLite has none
// (docs/decisions/0001): the slots are computed and looked up, the results outside
// a slot have an index of their own, and slots of former schedules are not found.
func (s *Store) resultsIn(ctx context.Context, db querier, windows []window) (out []uptime.CheckResult, err error) {
	spans, slots := make([][]any, 0, len(windows)), make([][]any, 0, 4*len(windows))
	for _, w := range windows {
		spans = append(spans, []any{w.monitorID, w.from.UnixMicro(), w.to.UnixMicro()})
		if !s.d.postgres() {
			for _, at := range slotsOf(w.schedule, w.from, w.to) {
				slots = append(slots, []any{w.monitorID, at})
			}
		}
	}
	const names, within = `monitor, first, last`, ` AND c.scheduled_at >= v.first AND c.scheduled_at <= v.last`
	if s.d.postgres() {
		err := s.queryValues(ctx, db, names, spans, `SELECT `+resultColumns+` FROM v JOIN check_results c ON c.monitor_id = v.monitor`+within, s.addResult(&out))
		return out, err
	}
	// CROSS JOIN keeps SQLite from beginning with the larger table.
	err = s.queryValues(ctx, db, `monitor, at`, slots,
		`SELECT `+resultColumns+` FROM v CROSS JOIN check_results c ON c.scheduled_at = v.at AND c.monitor_id = v.monitor AND c.kind = 0`, s.addResult(&out))
	if err != nil {
		return nil, err
	}
	err = s.queryValues(ctx, db, names, spans,
		`SELECT `+resultColumns+` FROM v CROSS JOIN check_results c INDEXED BY check_results_outside ON c.monitor_id = v.monitor AND c.kind <> 0`+within, s.addResult(&out))
	return out, err
}

// slotsOf are the instants of m's slots in [from, to], over all its regions.
func slotsOf(m schedule, from, to time.Time) []int64 {
	var slots []int64
	for _, region := range m.regions {
		for t := uptime.SlotAfter(m.monitorID, region, m.interval, from.Add(-time.Microsecond)); !t.After(to); t = t.Add(m.interval) {
			slots = append(slots, t.UnixMicro())
		}
	}
	slices.Sort(slots)
	return slices.Compact(slots)
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
	m := schedule{monitorID: id, regions: v.Regions, interval: v.Interval, since: v.ScheduledSince}
	end := to.Add(-time.Microsecond)
	if !before.ScheduledAt.IsZero() && before.ScheduledAt.Before(end) {
		end = before.ScheduledAt
	}
	var page []uptime.CheckResult
	// Walk back in windows that hold about a page each, doubling while they are empty.
	for width := time.Duration(limit+1) * v.Interval; len(page) < limit && !end.Before(from); width *= 2 {
		start := end.Add(-width)
		if start.Before(from) {
			start = from
		}
		found, err := s.resultsOf(ctx, s.read, m, start, end)
		if err != nil {
			return nil, s.fail("list results", err)
		}
		for _, r := range slices.Backward(found) {
			if (failing && r.Verdict == uptime.VerdictUp) || (!before.ScheduledAt.IsZero() && !r.ResultKey.Before(before)) {
				continue
			}
			if len(page) < limit {
				page = append(page, r)
			}
		}
		end = start.Add(-time.Microsecond)
	}
	return page, s.addEvidence(ctx, page)
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
