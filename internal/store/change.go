package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"slices"

	"vedette/internal/uptime"
)

// decided is a decision about one monitor, and the facts it was made of.
type decided struct {
	f *uptime.Facts
	uptime.Change
}

// apply writes decisions, the statements being about all monitors at once, and
// returns the ids of the alerts by monitor, in order.
func (s *Store) apply(ctx context.Context, tx *sql.Tx, ds []decided) (map[int64][]int64, error) {
	w := changes{script: s.script(ctx, tx), alerts: map[int64][]int64{}}
	if err := w.states(ds); err != nil {
		return nil, err
	}
	w.closeGaps(ds)
	// What one monitor went through in turn is written in turn.
	ds = slices.Clone(ds)
	for step := 0; len(ds) > 0; step++ {
		cs := make([]*uptime.Change, len(ds))
		for i := range ds {
			if cs[i] = &ds[i].Change; step > 0 {
				cs[i] = &ds[i].More[step-1]
			}
		}
		if err := w.write(cs); err != nil {
			return nil, err
		}
		ds = slices.DeleteFunc(ds, func(d decided) bool { return len(d.More) <= step })
	}
	return w.alerts, w.done()
}

// applyIncident writes the incident, its timeline and its alerts of one change that
// came from elsewhere than from results.
func (s *Store) applyIncident(ctx context.Context, tx *sql.Tx, c uptime.Change) ([]int64, error) {
	w := changes{script: s.script(ctx, tx), alerts: map[int64][]int64{}}
	if err := w.write([]*uptime.Change{&c}); err != nil {
		return nil, err
	}
	if err := w.done(); err != nil {
		return nil, err
	}
	var alerts []int64
	for _, ids := range w.alerts {
		alerts = append(alerts, ids...)
	}
	return alerts, nil
}

// changes writes changes in one transaction. What needs no answer is gathered until
// something does.
type changes struct {
	*script
	alerts map[int64][]int64 // written, by monitor
	live   []uptime.LiveEvent
}

// done writes what is left, the live events last: their lock is held until the commit.
func (w *changes) done() error {
	w.events(w.live...)
	if err := w.run(); err != nil {
		return err
	}
	for _, ids := range w.alerts {
		slices.Sort(ids)
	}
	return nil
}

const updateSuperseded = `UPDATE check_results SET revision = -abs(revision) WHERE scheduled_at = $1 AND monitor_id = $2 AND region_id = $3 AND attempt = $4`

// states saves what is believed now, and marks the results that were not evaluated.
func (w *changes) states(ds []decided) error {
	var states [][]any
	for _, d := range ds {
		regions, err := json.Marshal(d.State.Regions)
		if err != nil {
			return err
		}
		states = append(states, []any{d.f.Monitor.ID, int64(d.State.Verdict), string(d.State.Reason), d.State.Message, micro(d.State.Since),
			bit(d.State.Steady()), string(regions)})
		if d.State.Verdict != d.f.State.Verdict || d.State.Reason != d.f.State.Reason {
			w.live = append(w.live, uptime.LiveEvent{OwnerID: d.f.Monitor.OwnerID, Type: "state.changed", MonitorID: d.f.Monitor.ID,
				Verdict: d.State.Verdict.String(), Reason: string(d.State.Reason)})
		}
		for _, k := range d.Superseded {
			region, err := w.s.regionID(w.ctx, k.Region)
			if err != nil {
				return err
			}
			w.add("mark superseded results", updateSuperseded, []any{k.ScheduledAt.UnixMicro(), k.MonitorID, region, k.Attempt}, nil)
		}
	}
	w.values("save states", `id, verdict, reason, message, since, steady, regions`, states, `UPDATE monitor_states SET
 verdict = v.verdict, reason = v.reason, message = v.message, since = v.since, steady = v.steady, regions = v.regions
 FROM v WHERE monitor_states.monitor_id = v.id`, nil)
	return nil
}

func (w *changes) closeGaps(ds []decided) {
	var rows [][]any
	for _, d := range ds {
		if d.f.Gap != nil && !d.CloseGap.IsZero() {
			rows = append(rows, []any{d.f.Gap.ID, micro(d.CloseGap)})
		}
	}
	w.values("close gaps", `id, ended_at`, rows, `UPDATE gaps SET ended_at = v.ended_at FROM v WHERE gaps.id = v.id AND gaps.ended_at = 0`, nil)
}

// write inserts gaps, updates and opens incidents, and adds timelines and alerts.
func (w *changes) write(cs []*uptime.Change) error {
	var gaps []uptime.Gap
	for _, c := range cs {
		if c.OpenGap != nil {
			gaps = append(gaps, *c.OpenGap)
		}
	}
	w.gaps(gaps...)
	if err := w.updateIncidents(cs); err != nil {
		return err
	}
	opened, err := w.openIncidents(cs)
	if err != nil {
		return err
	}
	var events []uptime.Event
	var alerts []uptime.Alert
	for _, c := range cs {
		for _, e := range c.Events {
			if e.IncidentID == 0 {
				e.IncidentID = opened[c.Open]
			}
			events = append(events, e)
		}
		for _, a := range c.Alerts {
			if a.IncidentID == 0 {
				a.IncidentID = opened[c.Open]
			}
			alerts = append(alerts, a)
		}
	}
	w.timeline(events...)
	return w.writeAlerts(alerts, func(monitor, id int64) { w.alerts[monitor] = append(w.alerts[monitor], id) })
}

// updateIncidents never writes the evidence before the outage again, and what is resolved stays so.
func (w *changes) updateIncidents(cs []*uptime.Change) error {
	var rows [][]any
	for _, c := range cs {
		i := c.Update
		if i == nil {
			continue
		}
		recovery, err := evidenceText(i.Recovery)
		if err != nil {
			return err
		}
		rows = append(rows, []any{i.ID, string(i.Reason), i.Message, micro(i.ResolvedAt), i.Resolution, recovery})
		if !i.Open() {
			w.live = append(w.live, uptime.LiveEvent{OwnerID: i.OwnerID, Type: "incident.resolved", MonitorID: i.MonitorID, Incident: i.ID,
				Reason: string(i.Reason)})
		}
	}
	w.values("update incidents", `id, reason, message, resolved_at, resolution, recovery`, rows, `UPDATE incidents SET
 reason = v.reason, message = v.message, resolved_at = v.resolved_at, resolution = v.resolution, recovery = v.recovery
 FROM v WHERE incidents.id = v.id AND incidents.resolved_at = 0`, nil)
	return nil
}

// openIncidents returns the ids of those that were opened.
func (w *changes) openIncidents(cs []*uptime.Change) (map[*uptime.Incident]int64, error) {
	var rows [][]any
	byMonitor := map[int64]*uptime.Incident{}
	for _, c := range cs {
		i := c.Open
		if i == nil {
			continue
		}
		opening, err := evidenceText(i.Opening)
		if err != nil {
			return nil, err
		}
		recovery, err := evidenceText(i.Recovery)
		if err != nil {
			return nil, err
		}
		seen, err := evidenceText(i.LastGood)
		if err != nil {
			return nil, err
		}
		byMonitor[i.MonitorID] = i
		rows = append(rows, []any{string(i.Kind), i.MonitorID, i.OwnerID, i.MonitorName, string(i.Reason), i.Message, micro(i.LastGoodAt),
			micro(i.FirstBadAt), micro(i.ConfirmedAt), seen, opening, micro(i.ResolvedAt), i.Resolution, recovery})
	}
	const columns = `kind, monitor_id, owner_id, monitor_name, reason, message, last_good_at, first_bad_at, confirmed_at, last_good, opening, resolved_at, resolution, recovery`
	opened := make(map[*uptime.Incident]int64, len(rows))
	if len(rows) == 0 {
		return nil, nil
	}
	w.values("open incidents", columns, rows, `INSERT INTO incidents (`+columns+`) SELECT `+columns+` FROM v RETURNING id, monitor_id`, func(r row) error {
		var id, monitor int64
		err := r.Scan(&id, &monitor)
		i := byMonitor[monitor]
		opened[i] = id
		w.live = append(w.live, uptime.LiveEvent{OwnerID: i.OwnerID, Type: "incident.opened", MonitorID: monitor, Incident: id,
			Verdict: uptime.VerdictDown.String(), Reason: string(i.Reason)})
		return err
	})
	return opened, w.run() // its timeline and its alerts need its id
}

// insertGaps writes gaps; one that is there stays as it is.
func (s *Store) insertGaps(ctx context.Context, db querier, gaps ...uptime.Gap) error {
	c := s.script(ctx, db)
	c.gaps(gaps...)
	return c.run()
}

func (c *script) gaps(gaps ...uptime.Gap) {
	var rows [][]any
	for _, g := range gaps {
		rows = append(rows, []any{g.MonitorID, g.Region, micro(g.From), micro(g.To), string(g.Cause)})
	}
	const columns = `monitor_id, region, started_at, ended_at, cause`
	c.values("open gaps", columns, rows, `INSERT INTO gaps (`+columns+`) SELECT `+columns+` FROM v WHERE true ON CONFLICT DO NOTHING`, nil)
}

// timeline appends events to the timelines of their incidents.
func (c *script) timeline(events ...uptime.Event) {
	var rows [][]any
	for n, e := range events {
		rows = append(rows, []any{int64(n), e.IncidentID, micro(e.At), e.Kind, e.UserID, e.Text})
	}
	c.values("write timelines", `n, incident_id, at, kind, user_id, text`, rows,
		`INSERT INTO incident_events (incident_id, at, kind, user_id, text) SELECT incident_id, at, kind, user_id, text FROM v ORDER BY n`, nil)
}

// writeAlerts calls fn, once the script has run, with the monitor and the id of each.
// Ids are in the order of alerts.
func (c *script) writeAlerts(alerts []uptime.Alert, fn func(monitor, id int64)) error {
	var rows [][]any
	for n, a := range alerts {
		if a.Body.Incident.ID == 0 {
			a.Body.Incident.ID = a.IncidentID
		}
		body, err := json.Marshal(a.Body)
		if err != nil {
			return err
		}
		rows = append(rows, []any{int64(n), string(a.Kind), a.IncidentID, a.MonitorID, a.OwnerID, micro(a.CreatedAt), string(body)})
	}
	c.values("write alerts", `n, kind, incident_id, monitor_id, owner_id, created_at, body`, rows,
		`INSERT INTO alerts (kind, incident_id, monitor_id, owner_id, created_at, body)
 SELECT kind, incident_id, monitor_id, owner_id, created_at, body FROM v ORDER BY n RETURNING monitor_id, id`, func(r row) error {
			var monitor, id int64
			err := r.Scan(&monitor, &id)
			if err == nil {
				fn(monitor, id)
			}
			return err
		})
	return nil
}
