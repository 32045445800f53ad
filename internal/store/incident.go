package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"vedette/internal/uptime"
)

// conditions builds a WHERE clause whose parameters are numbered as they come.
type conditions struct {
	where []string
	args  []any
}

// add appends a condition; each %d becomes the number of the next value.
func (c *conditions) add(format string, values ...any) {
	n := make([]any, len(values))
	for i, v := range values {
		c.args = append(c.args, v)
		n[i] = len(c.args)
	}
	c.where = append(c.where, fmt.Sprintf(format, n...))
}

func (c *conditions) String() string { return strings.Join(c.where, " AND ") }

// ListIncidents: see service.Incidents.
func (s *Store) ListIncidents(ctx context.Context, f uptime.IncidentFilter) ([]uptime.Incident, error) {
	var c conditions
	if f.OwnerID != 0 {
		c.add(`i.owner_id = $%d`, f.OwnerID)
	}
	if f.MonitorID != 0 {
		c.add(`i.monitor_id = $%d`, f.MonitorID)
	}
	if f.Open != nil {
		c.add(`(i.resolved_at = 0) = ($%d = 1)`, bit(*f.Open))
	}
	if f.Before != 0 {
		c.add(`i.id < $%d`, f.Before)
	}
	c.add(`TRUE ORDER BY i.id DESC LIMIT $%d`, f.Limit)
	var out []uptime.Incident
	err := s.query(ctx, "list incidents", `SELECT `+incidentColumns+` FROM incidents i WHERE `+c.String(), c.args, func(r row) error {
		i, err := scanIncident(r)
		out = append(out, i)
		return err
	})
	return out, err
}

const oneIncident = `SELECT ` + incidentColumns + ` FROM incidents i WHERE i.id = $1 AND ($2 = 0 OR i.owner_id = $2)`

// Incident: see service.Incidents.
func (s *Store) Incident(ctx context.Context, owner, id int64) (i uptime.Incident, timeline []uptime.Event, told []uptime.Delivery, err error) {
	found := false
	err = s.query(ctx, "read incident", oneIncident, []any{id, owner}, func(r row) (err error) {
		found = true
		i, err = scanIncident(r)
		return err
	})
	if err == nil && !found {
		err = notFound()
	}
	if err != nil {
		return i, nil, nil, err
	}
	err = s.query(ctx, "read timeline", `SELECT id, incident_id, at, kind, user_id, text FROM incident_events WHERE incident_id = $1 ORDER BY at, id`, []any{id}, func(r row) error {
		var e uptime.Event
		var at int64
		err := r.Scan(&e.ID, &e.IncidentID, &at, &e.Kind, &e.UserID, &e.Text)
		e.At = instant(at)
		timeline = append(timeline, e)
		return err
	})
	if err != nil {
		return i, nil, nil, err
	}
	told, err = s.ListDeliveries(ctx, uptime.DeliveryFilter{IncidentID: id, Limit: 1000})
	return i, timeline, told, err
}

// Acknowledge: see service.Incidents.
func (s *Store) Acknowledge(ctx context.Context, owner, id, userID int64, at time.Time) (i uptime.Incident, err error) {
	err = s.tx(ctx, "acknowledge incident", func(ctx context.Context, tx *sql.Tx) error {
		if i, err = scanIncident(tx.QueryRowContext(ctx, oneIncident+s.d.forUpdate(), id, owner)); err != nil {
			return err
		}
		if !i.AcknowledgedAt.IsZero() {
			return nil
		}
		i.AcknowledgedAt, i.AcknowledgedBy = at, userID
		if _, err := tx.ExecContext(ctx, `UPDATE incidents SET acknowledged_at = $2, acknowledged_by = $3 WHERE id = $1`, id, micro(at), userID); err != nil {
			return err
		}
		c := s.script(ctx, tx)
		c.timeline(uptime.Event{IncidentID: id, At: at, Kind: "acknowledged", UserID: userID})
		c.events(uptime.LiveEvent{OwnerID: i.OwnerID, Type: "incident.acknowledged", MonitorID: i.MonitorID, Incident: id})
		return c.run()
	})
	return i, err
}

// Comment: see service.Incidents.
func (s *Store) Comment(ctx context.Context, owner, id, userID int64, text string, at time.Time) (e uptime.Event, err error) {
	err = s.tx(ctx, "comment on incident", func(ctx context.Context, tx *sql.Tx) error {
		i, err := scanIncident(tx.QueryRowContext(ctx, oneIncident, id, owner))
		if err != nil {
			return err
		}
		e = uptime.Event{IncidentID: id, At: at, Kind: "comment", UserID: userID, Text: text}
		const insert = `INSERT INTO incident_events (incident_id, at, kind, user_id, text) VALUES ($1, $2, $3, $4, $5) RETURNING id`
		if err := tx.QueryRowContext(ctx, insert, e.IncidentID, micro(e.At), e.Kind, e.UserID, e.Text).Scan(&e.ID); err != nil {
			return err
		}
		return s.addEvent(ctx, tx, uptime.LiveEvent{OwnerID: i.OwnerID, Type: "incident.commented", MonitorID: i.MonitorID, Incident: id})
	})
	return e, err
}
