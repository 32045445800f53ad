package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"vedette/internal/uptime"
)

const alertColumns = `a.id, a.kind, a.incident_id, a.monitor_id, a.owner_id, a.created_at, a.routed_at, a.body`

// alertDest are the places that alertColumns are scanned into; done finishes the alert.
func alertDest(a *uptime.Alert) (dest []any, done func() error) {
	var created, routed int64
	var body string
	return []any{&a.ID, &a.Kind, &a.IncidentID, &a.MonitorID, &a.OwnerID, &created, &routed, &body}, func() error {
		a.CreatedAt, a.RoutedAt = instant(created), instant(routed)
		return json.Unmarshal([]byte(body), &a.Body)
	}
}

func scanAlert(r row) (a uptime.Alert, err error) {
	dest, done := alertDest(&a)
	if err := r.Scan(dest...); err != nil {
		return a, err
	}
	return a, done()
}

// RouteAlert: see notify.Store.
func (s *Store) RouteAlert(ctx context.Context, alertID int64, route func(uptime.Alert, []uptime.Channel) []uptime.Delivery) (out []uptime.Delivery, err error) {
	err = s.tx(ctx, "route alert", func(ctx context.Context, tx *sql.Tx) error {
		out = nil
		a, err := scanAlert(tx.QueryRowContext(ctx, `SELECT `+alertColumns+` FROM alerts a WHERE a.id = $1 AND a.routed_at = 0`+s.d.forUpdate(), alertID))
		if err == sql.ErrNoRows {
			return nil
		}
		if err != nil {
			return err
		}
		channels, err := s.candidates(ctx, tx, a)
		if err != nil {
			return err
		}
		for _, d := range route(a, channels) {
			if err := insertDelivery(ctx, tx, &d); err != nil {
				return wrap("insert delivery", err)
			}
			out = append(out, d)
		}
		_, err = tx.ExecContext(ctx, `UPDATE alerts SET routed_at = $2 WHERE id = $1`, alertID, micro(uptime.Now()))
		return err
	})
	return out, err
}

// candidates are the channels an alert may go to. A deleted monitor's own channels
// are gone with it; those that were told of its incident are told of its end.
func (s *Store) candidates(ctx context.Context, tx *sql.Tx, a uptime.Alert) ([]uptime.Channel, error) {
	if a.OwnerID == 0 {
		return s.channelsWhere(ctx, tx, `c.is_default = 1 AND c.owner_id IN (SELECT id FROM users WHERE role = 'admin') ORDER BY c.id`)
	}
	return s.channelsWhere(ctx, tx, `c.owner_id = $1 AND (c.is_default = 1
 OR c.id IN (SELECT channel_id FROM monitor_channels WHERE monitor_id = $2)
 OR c.id IN (SELECT channel_id FROM deliveries WHERE incident_id = $3 AND $3 <> 0)) ORDER BY c.id`, a.OwnerID, a.MonitorID, a.IncidentID)
}

// UnroutedAlerts: see notify.Store.
func (s *Store) UnroutedAlerts(ctx context.Context, before time.Time, limit int) ([]int64, error) {
	var out []int64
	err := s.query(ctx, "find unrouted alerts", `SELECT id FROM alerts WHERE routed_at = 0 AND created_at < $1 ORDER BY id LIMIT $2`, []any{micro(before), limit}, func(r row) error {
		var id int64
		err := r.Scan(&id)
		out = append(out, id)
		return err
	})
	return out, err
}

// TestChannel: see service.Channels. The delivery is written with the alert, so that
// it goes to this channel whatever the router would say.
func (s *Store) TestChannel(ctx context.Context, owner, id int64) (deliveryID, alertID int64, err error) {
	err = s.tx(ctx, "test channel", func(ctx context.Context, tx *sql.Tx) error {
		c, err := s.scanChannel(tx.QueryRowContext(ctx, oneChannel, id, owner))
		if err != nil {
			return err
		}
		now := uptime.Now()
		a := uptime.Alert{Kind: uptime.AlertTest, OwnerID: c.OwnerID, CreatedAt: now,
			Body: uptime.AlertBody{Incident: uptime.AlertIncident{Message: "This is a test of the channel. Nothing is wrong.", FirstBadAt: now, ConfirmedAt: now}, Monitor: uptime.AlertMonitor{Name: "Test"}}}
		if err := s.insertAlerts(ctx, tx, []uptime.Alert{a}, func(_, id int64) { a.ID = id }); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE alerts SET routed_at = $2 WHERE id = $1`, a.ID, micro(now)); err != nil {
			return err
		}
		d := uptime.Delivery{AlertID: a.ID, ChannelID: c.ID, OwnerID: c.OwnerID, Key: uptime.DeliveryKey(s.opts.Installation, a, c.ID), Kind: a.Kind,
			ChannelName: c.Name, ChannelType: c.Type, Status: uptime.DeliveryPending, NextAt: now, CreatedAt: now}
		if err := insertDelivery(ctx, tx, &d); err != nil {
			return err
		}
		deliveryID, alertID = d.ID, a.ID
		return nil
	})
	return deliveryID, alertID, err
}
