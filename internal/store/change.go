package store

import (
	"context"
	"database/sql"
	"encoding/json"

	"vedette/internal/uptime"
)

// apply writes one decision. It returns the ids of the alerts it wrote.
func (s *Store) apply(ctx context.Context, tx *sql.Tx, f uptime.Facts, c uptime.Change) ([]int64, error) {
	if err := s.saveState(ctx, tx, f, c); err != nil {
		return nil, wrap("save state", err)
	}
	for _, key := range c.Superseded {
		if err := s.supersede(ctx, tx, key); err != nil {
			return nil, wrap("mark superseded", err)
		}
	}
	if err := s.applyGap(ctx, tx, f, c); err != nil {
		return nil, wrap("write gap", err)
	}
	alerts, err := s.applyIncident(ctx, tx, c)
	for _, more := range c.More {
		if err != nil {
			break
		}
		if err = s.applyGap(ctx, tx, f, more); err != nil {
			break
		}
		var ids []int64
		ids, err = s.applyIncident(ctx, tx, more)
		alerts = append(alerts, ids...)
	}
	return alerts, err
}

const updateState = `UPDATE monitor_states SET verdict = $2, reason = $3, message = $4, since = $5, steady = $6, regions = $7 WHERE monitor_id = $1`

func (s *Store) saveState(ctx context.Context, tx *sql.Tx, f uptime.Facts, c uptime.Change) error {
	regions, err := json.Marshal(c.State.Regions)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, updateState, f.Monitor.ID, int64(c.State.Verdict), string(c.State.Reason), c.State.Message,
		micro(c.State.Since), bit(c.State.Steady()), string(regions))
	if err != nil || (c.State.Verdict == f.State.Verdict && c.State.Reason == f.State.Reason) {
		return err
	}
	return s.addEvent(ctx, tx, uptime.LiveEvent{OwnerID: f.Monitor.OwnerID, Type: "state.changed", MonitorID: f.Monitor.ID,
		Verdict: c.State.Verdict.String(), Reason: string(c.State.Reason)})
}

func (s *Store) supersede(ctx context.Context, tx *sql.Tx, k uptime.ResultKey) error {
	region, err := s.regionID(ctx, k.Region)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE check_results SET superseded = 1
 WHERE scheduled_at = $1 AND monitor_id = $2 AND region_id = $3 AND attempt = $4`, k.ScheduledAt.UnixMicro(), k.MonitorID, region, k.Attempt)
	return err
}

func (s *Store) applyGap(ctx context.Context, tx *sql.Tx, f uptime.Facts, c uptime.Change) error {
	if f.Gap != nil && !c.CloseGap.IsZero() {
		_, err := tx.ExecContext(ctx, `UPDATE gaps SET ended_at = $2 WHERE id = $1 AND ended_at = 0`, f.Gap.ID, micro(c.CloseGap))
		if err != nil {
			return err
		}
	}
	if c.OpenGap == nil {
		return nil
	}
	return insertGap(ctx, tx, *c.OpenGap)
}

func insertGap(ctx context.Context, db querier, g uptime.Gap) error {
	_, err := db.ExecContext(ctx, `INSERT INTO gaps (monitor_id, region, started_at, ended_at, cause) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
		g.MonitorID, g.Region, micro(g.From), micro(g.To), string(g.Cause))
	return err
}

// applyIncident writes the incident, its timeline and its alerts.
func (s *Store) applyIncident(ctx context.Context, tx *sql.Tx, c uptime.Change) ([]int64, error) {
	var opened int64
	if c.Open != nil {
		id, err := s.insertIncident(ctx, tx, c.Open)
		if err != nil {
			return nil, wrap("open incident", err)
		}
		opened = id
	}
	if c.Update != nil {
		if err := s.updateIncident(ctx, tx, c.Update); err != nil {
			return nil, wrap("update incident", err)
		}
	}
	for _, e := range c.Events {
		if e.IncidentID == 0 {
			e.IncidentID = opened
		}
		if _, err := insertIncidentEvent(ctx, tx, e); err != nil {
			return nil, wrap("write timeline", err)
		}
	}
	var ids []int64
	for _, a := range c.Alerts {
		if a.IncidentID == 0 {
			a.IncidentID = opened
		}
		id, err := insertAlert(ctx, tx, a)
		if err != nil {
			return nil, wrap("write alert", err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

const insertIncidentRow = `INSERT INTO incidents (kind, monitor_id, owner_id, monitor_name, reason, message, last_good_at, first_bad_at,
 confirmed_at, opening, resolved_at, resolution, recovery) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) RETURNING id`

func (s *Store) insertIncident(ctx context.Context, tx *sql.Tx, i *uptime.Incident) (id int64, err error) {
	opening, err := evidenceText(i.Opening)
	if err != nil {
		return 0, err
	}
	recovery, err := evidenceText(i.Recovery)
	if err != nil {
		return 0, err
	}
	err = tx.QueryRowContext(ctx, insertIncidentRow, string(i.Kind), i.MonitorID, i.OwnerID, i.MonitorName, string(i.Reason), i.Message,
		micro(i.LastGoodAt), micro(i.FirstBadAt), micro(i.ConfirmedAt), opening,
		micro(i.ResolvedAt), i.Resolution, recovery).Scan(&id)
	if err != nil {
		return 0, err
	}
	return id, s.addEvent(ctx, tx, uptime.LiveEvent{OwnerID: i.OwnerID, Type: "incident.opened", MonitorID: i.MonitorID, Incident: id,
		Verdict: uptime.VerdictDown.String(), Reason: string(i.Reason)})
}

func (s *Store) updateIncident(ctx context.Context, tx *sql.Tx, i *uptime.Incident) error {
	recovery, err := evidenceText(i.Recovery)
	if err != nil {
		return err
	}
	// Opening evidence is never written again, and what is resolved stays so.
	_, err = tx.ExecContext(ctx, `UPDATE incidents SET reason = $2, message = $3, resolved_at = $4, resolution = $5, recovery = $6
 WHERE id = $1 AND resolved_at = 0`, i.ID, string(i.Reason), i.Message, micro(i.ResolvedAt), i.Resolution, recovery)
	if err != nil || i.Open() {
		return err
	}
	return s.addEvent(ctx, tx, uptime.LiveEvent{OwnerID: i.OwnerID, Type: "incident.resolved", MonitorID: i.MonitorID, Incident: i.ID,
		Reason: string(i.Reason)})
}

func insertIncidentEvent(ctx context.Context, db querier, e uptime.Event) (id int64, err error) {
	err = db.QueryRowContext(ctx, `INSERT INTO incident_events (incident_id, at, kind, user_id, text) VALUES ($1, $2, $3, $4, $5) RETURNING id`,
		e.IncidentID, micro(e.At), e.Kind, e.UserID, e.Text).Scan(&id)
	return id, err
}

func insertAlert(ctx context.Context, db querier, a uptime.Alert) (id int64, err error) {
	if a.Body.Incident.ID == 0 {
		a.Body.Incident.ID = a.IncidentID
	}
	body, err := json.Marshal(a.Body)
	if err != nil {
		return 0, err
	}
	err = db.QueryRowContext(ctx, `INSERT INTO alerts (kind, incident_id, monitor_id, owner_id, created_at, body) VALUES ($1, $2, $3, $4, $5, $6) RETURNING id`,
		string(a.Kind), a.IncidentID, a.MonitorID, a.OwnerID, micro(a.CreatedAt), string(body)).Scan(&id)
	return id, err
}
