package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"slices"
	"time"

	"vedette/internal/uptime"
)

const insertState = `INSERT INTO monitor_states (monitor_id, verdict, reason, message, since, steady, regions)
 SELECT id, 0, '', '', 0, 0, '[]' FROM monitors WHERE `

// facts locks the states of monitors, in the order of ids, and reads what a decision
// about each needs. A monitor that does not exist any more is left out. However many
// they are, it asks a fixed number of questions: after an outage of everything, or a
// start, every monitor of a batch needs a decision.
func (s *Store) facts(ctx context.Context, tx *sql.Tx, ids []int64, rows []resultRow) ([]uptime.Facts, error) {
	fs, at, err := s.readFacts(ctx, tx, ids)
	if err != nil {
		return nil, err
	}
	return fs, s.addResults(ctx, tx, fs, at, rows)
}

// readFacts reads what is known without the results; at says where each monitor is.
func (s *Store) readFacts(ctx context.Context, tx *sql.Tx, ids []int64) (fs []uptime.Facts, at map[int64]int, err error) {
	for first := true; ; first = false {
		fs, at = make([]uptime.Facts, 0, len(ids)), make(map[int64]int, len(ids))
		c := s.script(ctx, tx)
		states := c.lockStates(ids)
		in, args := s.d.in("m.id", 1, ids)
		c.add("read monitors", `SELECT `+monitorColumns+` FROM monitors m WHERE `+in+` ORDER BY m.id`, args, func(r row) error {
			m, err := scanMonitor(r)
			if state, ok := states[m.ID]; ok && err == nil {
				at[m.ID] = len(fs)
				fs = append(fs, uptime.Facts{Monitor: m, State: state, Latest: map[string]time.Time{}})
			}
			return err
		})
		c.openIncidents(ids, func(i uptime.Incident) {
			if n, ok := at[i.MonitorID]; ok {
				fs[n].Open = &i
			}
		})
		c.openGaps(ids, func(g uptime.Gap) {
			if n, ok := at[g.MonitorID]; ok && fs[n].Gap == nil {
				fs[n].Gap = &g
			}
		})
		if err := c.run(); err != nil || len(states) == len(ids) || !first {
			return fs, at, err
		}
		in, args = s.d.in("id", 1, ids)
		if _, err := tx.ExecContext(ctx, insertState+in+` ON CONFLICT DO NOTHING`, args...); err != nil {
			return nil, nil, wrap("insert states", err)
		}
	}
}

// lockStates appends the reading of monitors' states, which keeps others from changing
// them.
func (c *script) lockStates(ids []int64) map[int64]uptime.State {
	states := make(map[int64]uptime.State, len(ids))
	in, args := c.s.d.in("monitor_id", 1, ids)
	q := `SELECT monitor_id, verdict, reason, message, since, regions FROM monitor_states WHERE ` + in + ` ORDER BY monitor_id` + c.s.d.forUpdate()
	c.add("lock states", q, args, func(r row) error {
		var st uptime.State
		var since int64
		var regions string
		if err := r.Scan(&st.MonitorID, &st.Verdict, &st.Reason, &st.Message, &since, &regions); err != nil {
			return err
		}
		st.Since = instant(since)
		err := json.Unmarshal([]byte(regions), &st.Regions)
		states[st.MonitorID] = st
		return err
	})
	return states
}

// openIncidents appends the reading of the open incident of each monitor that has one.
func (c *script) openIncidents(monitors []int64, fn func(uptime.Incident)) {
	in, args := c.s.d.in("i.monitor_id", 1, monitors)
	q := `SELECT ` + incidentColumns + ` FROM incidents i WHERE ` + in + ` AND i.kind = 'target' AND i.resolved_at = 0`
	c.add("read open incidents", q, args, func(r row) error {
		i, err := scanIncident(r)
		if err == nil {
			fn(i)
		}
		return err
	})
}

// openGaps appends the reading of the open gaps of each monitor, the oldest first.
func (c *script) openGaps(monitors []int64, fn func(uptime.Gap)) {
	in, args := c.s.d.in("monitor_id", 1, monitors)
	q := `SELECT id, monitor_id, region, started_at, cause FROM gaps WHERE ` + in + ` AND ended_at = 0 ORDER BY id`
	c.add("read open gaps", q, args, func(r row) error {
		var g uptime.Gap
		var from int64
		err := r.Scan(&g.ID, &g.MonitorID, &g.Region, &from, &g.Cause)
		if g.From = instant(from); err == nil {
			fn(g)
		}
		return err
	})
}

// fresh is what a batch brings for one monitor.
type fresh struct {
	first, last time.Time // scheduled
	keys        map[uptime.ResultKey]bool
}

// addResults fills Results, LastGood and Latest. What was stored by another
// transaction since the region's cursor is read too, so that a result which two
// recorders both thought quiet is folded by the next that looks.
func (s *Store) addResults(ctx context.Context, tx *sql.Tx, fs []uptime.Facts, at map[int64]int, rows []resultRow) error {
	news := make([]fresh, len(fs))
	for _, w := range rows {
		i, ok := at[w.r.MonitorID]
		if !ok {
			continue
		}
		n := &news[i]
		if n.first.IsZero() || w.r.ScheduledAt.Before(n.first) {
			n.first = w.r.ScheduledAt
		}
		if w.r.ScheduledAt.After(n.last) {
			n.last = w.r.ScheduledAt
		}
		if !w.repeat {
			if n.keys == nil {
				n.keys = map[uptime.ResultKey]bool{}
			}
			n.keys[w.r.ResultKey] = true
			fs[i].Results = append(fs[i].Results, *w.r)
		}
	}
	windows := make([]window, len(fs))
	for i := range fs {
		f, n := &fs[i], &news[i]
		windows[i] = window{present(&f.Monitor), n.first.Add(-lookBack(f, n.first)), lookAhead(f, n.last)}
	}
	stored, err := s.resultsIn(ctx, tx, windows...)
	if err != nil {
		return wrap("read results", err)
	}
	for i := range stored {
		r := &stored[i]
		f, n := &fs[at[r.MonitorID]], &news[at[r.MonitorID]]
		if n.keys[r.ResultKey] {
			continue
		}
		if f.Open == nil && beganStreak(f, r) {
			if err := s.loadEvidence(ctx, tx, r); err != nil {
				return wrap("read evidence", err)
			}
			f.FirstBad = append(f.FirstBad, *r)
		}
		if r.Verdict == uptime.VerdictUp && r.ScheduledAt.After(f.Latest[r.Region]) {
			f.Latest[r.Region] = r.ScheduledAt
		}
		if r.ScheduledAt.Before(n.first) && r.Verdict.Good() && r.StartedAt.After(f.LastGood) {
			f.LastGood = r.StartedAt
		}
		if !unfolded(f, r) {
			continue
		}
		if r.Verdict == uptime.VerdictDown {
			if err := s.loadEvidence(ctx, tx, r); err != nil {
				return wrap("read evidence", err)
			}
		}
		f.Results = append(f.Results, *r)
	}
	for i := range fs {
		sortResults(fs[i].Results)
	}
	return s.addLastSeen(ctx, tx, fs, at)
}

// beganStreak reports whether r is the first of its region's failures in a row.
func beganStreak(f *uptime.Facts, r *uptime.CheckResult) bool {
	return r.Verdict == uptime.VerdictDown && slices.ContainsFunc(f.State.Regions, func(g uptime.RegionState) bool {
		return g.Region == r.Region && g.Failures > 0 && g.FirstBad.Equal(r.StartedAt)
	})
}

// addLastSeen fills LastSeen where an incident may open.
func (s *Store) addLastSeen(ctx context.Context, tx *sql.Tx, fs []uptime.Facts, at map[int64]int) error {
	var ids []int64
	for i := range fs {
		failing := func(r uptime.CheckResult) bool { return r.Verdict == uptime.VerdictDown }
		if fs[i].Open == nil && slices.ContainsFunc(fs[i].Results, failing) {
			ids = append(ids, fs[i].Monitor.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	in, args := s.d.in("monitor_id", 1, ids)
	q := `SELECT monitor_id, region_id, started_at, evidence FROM last_good WHERE ` + in
	return wrap("read the last good checks", queryOn(ctx, tx, q, args, func(r row) error {
		var monitor, region, started int64
		var text string
		if err := r.Scan(&monitor, &region, &started, &text); err != nil {
			return err
		}
		seen := uptime.Sight{At: instant(started), Region: s.regionName(region)}
		if err := json.Unmarshal([]byte(text), &seen.Evidence); err != nil {
			return err
		}
		f := &fs[at[monitor]]
		if f.LastSeen == nil {
			f.LastSeen = map[string]uptime.Sight{}
		}
		f.LastSeen[seen.Region] = seen
		return nil
	}))
}

// How many slots a decision reads at most, since it happens inside the transaction
// that every other result waits for: around the new results, and after one that is
// late, where a single newer result tells that it is.
const (
	lookSlots = 16
	lookLate  = 512
)

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// lookBack is how far before the first new result there may be results that were
// not folded, or the last good one: to the oldest cursor of an unsteady state, and
// three intervals at least.
func lookBack(f *uptime.Facts, first time.Time) time.Duration {
	back := 3*f.Monitor.Interval + f.Monitor.Timeout
	if f.State.Steady() {
		return back
	}
	for _, r := range f.State.Regions {
		if !r.Cursor.IsZero() {
			back = max(back, min(first.Sub(r.Cursor), lookSlots*f.Monitor.Interval))
		}
	}
	return back
}

// lookAhead is until when there may be results newer than the last of the batch: to
// this moment, or a little beyond where the clock of the last one is ahead of ours.
func lookAhead(f *uptime.Facts, last time.Time) time.Time {
	if now := uptime.Now(); now.After(last) {
		return earlier(now, last.Add(lookLate*f.Monitor.Interval))
	}
	return last.Add(lookSlots * f.Monitor.Interval)
}

// unfolded reports whether r was stored after its region's cursor, in a state that
// is not steady: then it may have been recorded beside us.
func unfolded(f *uptime.Facts, r *uptime.CheckResult) bool {
	if f.State.Steady() || r.Superseded {
		return false
	}
	for _, g := range f.State.Regions {
		if g.Region == r.Region {
			return r.ScheduledAt.After(g.Cursor) || (r.ScheduledAt.Equal(g.Cursor) && r.Attempt > g.Attempt)
		}
	}
	return false
}
