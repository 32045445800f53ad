package store

import (
	"context"
	"database/sql"

	"vedette/internal/uptime"
)

// addEvent writes live events in the transaction that makes them true. In PostgreSQL
// a lock until the commit keeps ids in the order of commits, so that a stream which
// has seen one id misses none before it; so this comes last in a transaction.
func (s *Store) addEvent(ctx context.Context, tx *sql.Tx, events ...uptime.LiveEvent) error {
	c := s.script(ctx, tx)
	c.events(events...)
	return c.run()
}

// events appends the writing of live events. See addEvent.
func (c *script) events(events ...uptime.LiveEvent) {
	if len(events) == 0 {
		return
	}
	c.lock(lockEvents)
	var rows [][]any
	now := micro(uptime.Now())
	for n, e := range events {
		rows = append(rows, []any{int64(n), now, e.OwnerID, e.Type, e.MonitorID, e.Incident, e.Delivery, e.Verdict, e.Reason})
	}
	const columns = `at, owner_id, type, monitor_id, incident_id, delivery_id, verdict, reason`
	c.values("write events", `n, `+columns, rows, `INSERT INTO events (`+columns+`) SELECT `+columns+` FROM v ORDER BY n`, nil)
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
