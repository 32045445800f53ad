package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"vedette/internal/uptime"
)

const incidentColumns = `i.id, i.kind, i.monitor_id, i.owner_id, i.monitor_name, i.reason, i.message, i.last_good_at, i.first_bad_at, i.confirmed_at,
 i.notified_at, i.resolved_at, i.acknowledged_at, i.acknowledged_by, i.resolution, i.last_good, i.opening, i.recovery`

func scanIncident(r row) (i uptime.Incident, err error) {
	var good, bad, confirmed, notified, resolved, acknowledged int64
	var seen, opening, recovery string
	err = r.Scan(&i.ID, &i.Kind, &i.MonitorID, &i.OwnerID, &i.MonitorName, &i.Reason, &i.Message, &good, &bad, &confirmed,
		&notified, &resolved, &acknowledged, &i.AcknowledgedBy, &i.Resolution, &seen, &opening, &recovery)
	if err != nil {
		return i, err
	}
	i.LastGoodAt, i.FirstBadAt, i.ConfirmedAt = instant(good), instant(bad), instant(confirmed)
	i.NotifiedAt, i.ResolvedAt, i.AcknowledgedAt = instant(notified), instant(resolved), instant(acknowledged)
	return i, errors.Join(readEvidence(seen, &i.LastGood), readEvidence(opening, &i.Opening), readEvidence(recovery, &i.Recovery))
}

// readEvidence reads what evidenceText wrote; to stays nil when that is nothing.
func readEvidence[T any](text string, to **T) error {
	if text == "" {
		return nil
	}
	return json.Unmarshal([]byte(text), to)
}

// closeIncident resolves the monitor's open incident, if there is one, because of
// something a person did, and writes the alert about it. It takes the lock of the
// state, as a recorder does, so that one of the two resolves it and tells so.
func (s *Store) closeIncident(ctx context.Context, tx *sql.Tx, m uptime.Monitor, resolution string, now time.Time) ([]int64, error) {
	var i *uptime.Incident
	c := s.script(ctx, tx)
	c.lockStates([]int64{m.ID})
	c.openIncidents([]int64{m.ID}, func(open uptime.Incident) { i = &open })
	if err := c.run(); err != nil || i == nil {
		return nil, err
	}
	i.ResolvedAt, i.Resolution = now, resolution
	return s.applyIncident(ctx, tx, uptime.Change{
		Update: i,
		Events: []uptime.Event{{IncidentID: i.ID, At: now, Kind: "resolved", Text: resolution}},
		Alerts: []uptime.Alert{{Kind: uptime.AlertResolved, IncidentID: i.ID, MonitorID: m.ID, OwnerID: m.OwnerID, CreatedAt: now,
			Body: uptime.AlertBody{Incident: alertIncident(i), Monitor: uptime.AlertMonitor{ID: m.ID, Name: m.Name, Type: m.Type, Target: uptime.PublicTarget(m.Target), Tags: m.Tags}}}},
	})
}

func alertIncident(i *uptime.Incident) uptime.AlertIncident {
	a := uptime.AlertIncident{ID: i.ID, Kind: i.Kind, Reason: i.Reason, Message: i.Message, FirstBadAt: i.FirstBadAt, ConfirmedAt: i.ConfirmedAt}
	if !i.LastGoodAt.IsZero() {
		a.LastGoodAt = &i.LastGoodAt
	}
	if !i.Open() {
		a.ResolvedAt, a.Seconds = &i.ResolvedAt, int64(i.ResolvedAt.Sub(i.FirstBadAt).Seconds())
	}
	return a
}

// SetSelfIncident: see schedule.Store.
func (s *Store) SetSelfIncident(ctx context.Context, reason uptime.Reason, message string, open bool) (alerts []int64, err error) {
	err = s.tx(ctx, "note an incident of our own", func(ctx context.Context, tx *sql.Tx) (err error) {
		alerts, err = s.setSelfIncident(ctx, tx, reason, message, open)
		return err
	})
	if uptime.Is(err, uptime.Conflict) { // another process opened it at the same instant
		return nil, nil
	}
	return alerts, err
}

func (s *Store) setSelfIncident(ctx context.Context, tx *sql.Tx, reason uptime.Reason, message string, open bool) ([]int64, error) {
	i, err := scanIncident(tx.QueryRowContext(ctx, `SELECT `+incidentColumns+` FROM incidents i
 WHERE i.kind = 'self' AND i.reason = $1 AND i.resolved_at = 0`, string(reason)))
	if err != nil && err != sql.ErrNoRows {
		return nil, err
	}
	if exists := err == nil; exists == open {
		return nil, nil
	}
	now := uptime.Now()
	if open {
		i = uptime.Incident{Kind: uptime.IncidentSelf, MonitorName: "Vedette", Reason: reason, Message: message, FirstBadAt: now, ConfirmedAt: now}
		return s.applyIncident(ctx, tx, uptime.Change{Open: &i, Events: []uptime.Event{{At: now, Kind: "opened", Text: message}},
			Alerts: []uptime.Alert{selfAlert(uptime.AlertOpened, &i, now)}})
	}
	i.ResolvedAt, i.Resolution = now, "recovered"
	return s.applyIncident(ctx, tx, uptime.Change{Update: &i, Events: []uptime.Event{{IncidentID: i.ID, At: now, Kind: "resolved", Text: message}},
		Alerts: []uptime.Alert{selfAlert(uptime.AlertResolved, &i, now)}})
}

// SetOwnTrouble: see worker.Store. Each who has trouble keeps a lease of it.
func (s *Store) SetOwnTrouble(ctx context.Context, reason uptime.Reason, holder, message string, has bool, ttl time.Duration) error {
	kind := "trouble/" + string(reason) + "/"
	err := s.tx(ctx, "note trouble of our own", func(ctx context.Context, tx *sql.Tx) error {
		now := uptime.Now()
		if has {
			var term int64
			if err := tx.QueryRowContext(ctx, holdLease, kind+holder, holder, micro(now.Add(ttl)), micro(now)).Scan(&term); err != nil {
				return err
			}
		} else {
			_, err := tx.ExecContext(ctx, `DELETE FROM leases WHERE substr(name, 1, $2) = $1 AND (holder = $3 OR expires_at < $4)`, kind, len(kind), holder, micro(now))
			if err != nil {
				return err
			}
			others := 0
			if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM leases WHERE substr(name, 1, $2) = $1`, kind, len(kind)).Scan(&others); err != nil || others > 0 {
				return err
			}
		}
		_, err := s.setSelfIncident(ctx, tx, reason, message, has)
		return err
	})
	if uptime.Is(err, uptime.Conflict) { // another process opened it at the same instant
		return nil
	}
	return err
}

// OwnTrouble are the reasons of the open incidents of our own.
func (s *Store) OwnTrouble(ctx context.Context) (out []uptime.Reason, err error) {
	err = s.query(ctx, "read incidents of our own", `SELECT reason FROM incidents WHERE kind = 'self' AND resolved_at = 0 ORDER BY id`, nil, func(r row) error {
		var reason uptime.Reason
		err := r.Scan(&reason)
		out = append(out, reason)
		return err
	})
	return out, err
}

func selfAlert(kind uptime.AlertKind, i *uptime.Incident, now time.Time) uptime.Alert {
	return uptime.Alert{Kind: kind, IncidentID: i.ID, CreatedAt: now,
		Body: uptime.AlertBody{Incident: alertIncident(i), Monitor: uptime.AlertMonitor{Name: "Vedette", Type: "self"}}}
}
