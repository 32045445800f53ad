package store

import (
	"context"
	"slices"
	"time"

	"vedette/internal/uptime"
)

// interval is a half-open span of time.
type interval struct{ from, to time.Time }

// Uptime: see service.Monitors. It is weighted by time: what lies in a gap, or after
// the last moment the auditor vouches for while it is away, is unknown (or paused)
// whatever an incident says, the rest of incidents is down, and the rest of the
// monitor's life is up. A monitor's life begins with a gap, until its first verdict.
func (s *Store) Uptime(ctx context.Context, owner, id int64, from, to time.Time) (uptime.Uptime, error) {
	u := uptime.Uptime{From: from, To: to}
	v, err := s.Monitor(ctx, owner, id)
	if err != nil {
		return u, err
	}
	now := uptime.Now()
	if to.After(now) {
		to = now
	}
	if from.Before(v.CreatedAt) {
		from = v.CreatedAt
	}
	if !from.Before(to) {
		return u, nil
	}
	window := interval{from, to}
	gaps, err := s.Gaps(ctx, owner, id, from, to)
	if err != nil {
		return u, err
	}
	var unknown, paused []interval
	for _, g := range gaps {
		span := interval{g.From, g.To}
		if g.To.IsZero() {
			span.to = to
		}
		if g.Cause == uptime.Paused {
			paused = append(paused, span)
			continue
		}
		unknown = append(unknown, span)
	}
	audited, err := s.Progress(ctx, "audit")
	if err != nil {
		return u, err
	}
	if since := later(audited, v.CreatedAt); now.Sub(since) > vouchLimit(&v) {
		unknown = append(unknown, interval{since, now}) // nobody looks at present: see vouch
	}
	down, err := s.outages(ctx, id, window)
	if err != nil {
		return u, err
	}
	u.Incidents = len(down)
	paused = merge(paused, window)
	unknown = merge(unknown, window)
	u.Paused = length(paused)
	u.Unknown = length(merge(append(unknown, paused...), window)) - u.Paused
	blind := merge(append(slices.Clone(unknown), paused...), window)
	down = merge(down, window)
	u.Down = length(merge(append(down, blind...), window)) - length(blind)
	u.Up = window.to.Sub(window.from) - u.Paused - u.Unknown - u.Down
	if seen := u.Up + u.Down; seen > 0 {
		u.Ratio = float64(u.Up) / float64(seen)
		u.Coverage = float64(seen) / float64(seen+u.Unknown)
	}
	return u, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// outages are the monitor's incidents that touch the window; an open one lasts.
func (s *Store) outages(ctx context.Context, id int64, w interval) ([]interval, error) {
	const q = `SELECT first_bad_at, resolved_at FROM incidents WHERE monitor_id = $1 AND kind = 'target'
 AND first_bad_at < $3 AND (resolved_at = 0 OR resolved_at > $2) ORDER BY first_bad_at`
	var out []interval
	err := s.query(ctx, "read outages", q, []any{id, micro(w.from), micro(w.to)}, func(r row) error {
		var from, to int64
		err := r.Scan(&from, &to)
		span := interval{instant(from), instant(to)}
		if to == 0 {
			span.to = w.to
		}
		out = append(out, span)
		return err
	})
	return out, err
}

// merge cuts spans to the window, and joins those that touch.
func merge(spans []interval, w interval) []interval {
	spans = slices.Clone(spans)
	slices.SortFunc(spans, func(a, b interval) int { return a.from.Compare(b.from) })
	var out []interval
	for _, s := range spans {
		if s.from.Before(w.from) {
			s.from = w.from
		}
		if s.to.After(w.to) {
			s.to = w.to
		}
		if !s.from.Before(s.to) {
			continue
		}
		if last := len(out) - 1; last >= 0 && !s.from.After(out[last].to) {
			if s.to.After(out[last].to) {
				out[last].to = s.to
			}
			continue
		}
		out = append(out, s)
	}
	return out
}

func length(spans []interval) (d time.Duration) {
	for _, s := range spans {
		d += s.to.Sub(s.from)
	}
	return d
}

// Gaps: see service.Monitors. Those of every monitor are among them.
func (s *Store) Gaps(ctx context.Context, owner, id int64, from, to time.Time) ([]uptime.Gap, error) {
	const q = `SELECT id, monitor_id, region, started_at, ended_at, cause FROM gaps
 WHERE (monitor_id = $1 OR monitor_id = 0) AND started_at < $3 AND (ended_at = 0 OR ended_at > $2) ORDER BY started_at, id`
	if owner != 0 {
		if _, err := s.Monitor(ctx, owner, id); err != nil {
			return nil, err
		}
	}
	var out []uptime.Gap
	err := s.query(ctx, "read gaps", q, []any{id, micro(from), micro(to)}, func(r row) error {
		var g uptime.Gap
		var start, end int64
		err := r.Scan(&g.ID, &g.MonitorID, &g.Region, &start, &end, &g.Cause)
		g.From, g.To = instant(start), instant(end)
		out = append(out, g)
		return err
	})
	return out, err
}

// RecordGap: see schedule.Store.
func (s *Store) RecordGap(ctx context.Context, g uptime.Gap) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	return s.fail("record gap", s.insertGaps(ctx, s.write, g))
}

// ObservedSlots: see schedule.Store.
func (s *Store) ObservedSlots(ctx context.Context, from, to time.Time, fn func(uptime.ResultKey, bool, uptime.Reason)) error {
	if err := s.loadRegions(ctx); err != nil {
		return err
	}
	const q = `SELECT monitor_id, region_id, scheduled_at, verdict, reason FROM check_results
 WHERE scheduled_at >= $1 AND scheduled_at < $2 AND attempt = 0 AND kind = 0`
	return s.query(ctx, "read observed slots", q, []any{micro(from), micro(to)}, func(r row) error {
		var k uptime.ResultKey
		var region, at int64
		var verdict uptime.Verdict
		var reason uptime.Reason
		if err := r.Scan(&k.MonitorID, &region, &at, &verdict, &reason); err != nil {
			return err
		}
		k.Region, k.ScheduledAt = s.regionName(region), instant(at)
		fn(k, verdict != uptime.VerdictUnknown || reason.Awaits(), reason)
		return nil
	})
}
