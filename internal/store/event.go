package store

import (
	"context"
	"database/sql"

	"vedette/internal/uptime"
)

// addEvent writes a live event in the transaction that makes it true. In PostgreSQL
// a lock until the commit keeps ids in the order of commits, so that a stream which
// has seen one id misses none before it.
func (s *Store) addEvent(ctx context.Context, tx *sql.Tx, e uptime.LiveEvent) error {
	if err := s.d.serialise(ctx, tx, lockEvents); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO events (at, owner_id, type, monitor_id, incident_id, delivery_id, verdict, reason)
 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`, micro(uptime.Now()), e.OwnerID, e.Type, e.MonitorID, e.Incident, e.Delivery, e.Verdict, e.Reason)
	return wrap("write event", err)
}

// EventsAfter: see service.Events.
func (s *Store) EventsAfter(ctx context.Context, id int64, limit int) ([]uptime.LiveEvent, error) {
	const q = `SELECT id, at, owner_id, type, monitor_id, incident_id, delivery_id, verdict, reason FROM events WHERE id > $1 ORDER BY id LIMIT $2`
	var out []uptime.LiveEvent
	err := s.query(ctx, "read events", q, []any{id, limit}, func(r row) error {
		var e uptime.LiveEvent
		var at int64
		err := r.Scan(&e.ID, &at, &e.OwnerID, &e.Type, &e.MonitorID, &e.Incident, &e.Delivery, &e.Verdict, &e.Reason)
		e.At = instant(at)
		out = append(out, e)
		return err
	})
	return out, err
}

// LastEventID: see service.Events.
func (s *Store) LastEventID(ctx context.Context) (id int64, err error) {
	err = s.query(ctx, "read the last event", `SELECT coalesce(max(id), 0) FROM events`, nil, func(r row) error { return r.Scan(&id) })
	return id, err
}
