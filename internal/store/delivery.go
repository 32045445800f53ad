package store

import (
	"context"
	"database/sql"
	"time"

	"vedette/internal/uptime"
)

const deliveryColumns = `d.id, d.alert_id, d.incident_id, d.channel_id, d.owner_id, d.key, d.kind, d.channel_name, d.channel_type, d.status, d.cause,
 d.attempts, d.next_at, d.created_at, d.done_at`

// deliveryDest are the places that deliveryColumns are scanned into.
func deliveryDest(d *uptime.Delivery) (dest []any, done func()) {
	var next, created, finished int64
	return []any{&d.ID, &d.AlertID, &d.IncidentID, &d.ChannelID, &d.OwnerID, &d.Key, &d.Kind, &d.ChannelName, &d.ChannelType, &d.Status, &d.Cause,
			&d.Attempts, &next, &created, &finished}, func() {
			d.NextAt, d.CreatedAt, d.DoneAt = instant(next), instant(created), instant(finished)
		}
}

func scanDelivery(r row) (d uptime.Delivery, err error) {
	dest, done := deliveryDest(&d)
	err = r.Scan(dest...)
	done()
	return d, err
}

const insertDeliveryRow = `INSERT INTO deliveries (alert_id, incident_id, channel_id, owner_id, key, kind, channel_name, channel_type, status, cause, next_at, created_at, done_at, attempts, token, lease_until)
 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) RETURNING id`

// delivery appends the insert of d, whose ID it sets. A delivery that is being sent
// has a token and a lease.
func (c *script) delivery(d *uptime.Delivery, token string, lease int64) {
	c.add("insert delivery", insertDeliveryRow, []any{d.AlertID, d.IncidentID, d.ChannelID, d.OwnerID, d.Key, string(d.Kind), d.ChannelName, d.ChannelType,
		string(d.Status), d.Cause, micro(d.NextAt), micro(d.CreatedAt), micro(d.DoneAt), d.Attempts, token, lease}, func(r row) error { return r.Scan(&d.ID) })
}

// ListDeliveries: see service.Deliveries.
func (s *Store) ListDeliveries(ctx context.Context, f uptime.DeliveryFilter) ([]uptime.Delivery, error) {
	var c conditions
	if f.OwnerID != 0 {
		c.add(`d.owner_id = $%d`, f.OwnerID)
	}
	if f.IncidentID != 0 {
		c.add(`d.incident_id = $%d`, f.IncidentID)
	}
	if f.ChannelID != 0 {
		c.add(`d.channel_id = $%d`, f.ChannelID)
	}
	if f.Status != "" {
		c.add(`d.status = $%d`, string(f.Status))
	}
	if f.Before != 0 {
		c.add(`d.id < $%d`, f.Before)
	}
	c.add(`TRUE ORDER BY d.id DESC LIMIT $%d`, f.Limit)
	var out []uptime.Delivery
	err := s.query(ctx, "list deliveries", `SELECT `+deliveryColumns+` FROM deliveries d WHERE `+c.String(), c.args, func(r row) error {
		d, err := scanDelivery(r)
		out = append(out, d)
		return err
	})
	return out, err
}

const oneDelivery = `SELECT ` + deliveryColumns + ` FROM deliveries d WHERE d.id = $1 AND ($2 = 0 OR d.owner_id = $2)`

// Delivery: see service.Deliveries.
func (s *Store) Delivery(ctx context.Context, owner, id int64) (d uptime.Delivery, err error) {
	found := false
	err = s.query(ctx, "read delivery", oneDelivery, []any{id, owner}, func(r row) (err error) {
		found = true
		d, err = scanDelivery(r)
		return err
	})
	if err == nil && !found {
		err = notFound()
	}
	if err != nil {
		return d, err
	}
	const log = `SELECT delivery_id, number, started_at, finished_at, outcome, peer, code, excerpt, provider_id, latency_us
 FROM delivery_attempts WHERE delivery_id = $1 ORDER BY number`
	err = s.query(ctx, "read attempts", log, []any{id}, func(r row) error {
		var a uptime.DeliveryAttempt
		var started, finished, latency int64
		err := r.Scan(&a.DeliveryID, &a.Number, &started, &finished, &a.Outcome, &a.Peer, &a.Code, &a.Excerpt, &a.ProviderID, &latency)
		a.StartedAt, a.FinishedAt, a.Latency = instant(started), instant(finished), time.Duration(latency)*time.Microsecond
		d.Log = append(d.Log, a)
		return err
	})
	return d, err
}

// Resend: see service.Deliveries.
func (s *Store) Resend(ctx context.Context, owner, id int64) (d uptime.Delivery, err error) {
	err = s.tx(ctx, "resend delivery", func(ctx context.Context, tx *sql.Tx) error {
		if d, err = scanDelivery(tx.QueryRowContext(ctx, oneDelivery+s.d.forUpdate(), id, owner)); err != nil {
			return err
		}
		if !d.Status.Final() {
			return uptime.Errorf(uptime.Conflict, "delivery %d is still under way: it is sent again by itself", id)
		}
		d.Status, d.Cause, d.NextAt, d.DoneAt = uptime.DeliveryPending, "", uptime.Now(), time.Time{}
		if _, err := tx.ExecContext(ctx, `UPDATE deliveries SET status = 'pending', cause = '', next_at = $2, done_at = 0, token = '' WHERE id = $1`, id, micro(d.NextAt)); err != nil {
			return err
		}
		return s.addEvent(ctx, tx, uptime.LiveEvent{OwnerID: d.OwnerID, Type: "delivery.changed", Incident: d.IncidentID, Delivery: id})
	})
	return d, err
}
