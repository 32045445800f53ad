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

// RouteAlerts: see notify.Store.
func (s *Store) RouteAlerts(ctx context.Context, ids []int64, terms uptime.ClaimTerms, route func(uptime.Alert, []uptime.Channel) []uptime.Delivery) (out []uptime.Routed, err error) {
	err = s.tx(ctx, "route alerts", func(ctx context.Context, tx *sql.Tx) error {
		if out, err = unrouted(ctx, tx, s.d, ids); err != nil || len(out) == 0 {
			return err
		}
		room, err := s.room(ctx, tx, terms, out, route)
		if err != nil {
			return err
		}
		return room.write()
	})
	return out, err
}

// unrouted locks the alerts that are not routed yet, and with them the others of
// their incidents: the order of deliveries is that of routing, and the hint about the
// end of an outage may be quicker than the one about its beginning.
func unrouted(ctx context.Context, tx *sql.Tx, d dialect, ids []int64) (out []uptime.Routed, err error) {
	in, args := d.in("b.id", 1, ids)
	q := `SELECT ` + alertColumns + ` FROM alerts a WHERE a.routed_at = 0 AND a.incident_id IN (SELECT b.incident_id FROM alerts b WHERE ` + in + `) ORDER BY a.id`
	err = queryOn(ctx, tx, q+d.forUpdate(), args, func(r row) error {
		a, err := scanAlert(r)
		out = append(out, uptime.Routed{Alert: a})
		return err
	})
	return out, err
}

// candidates are the channels an alert may go to. A deleted monitor's own channels
// are gone with it; those that were told of its incident are told of its end.
func (c *script) candidates(a uptime.Alert, fn func(uptime.Channel)) {
	where, args := `c.is_default = 1 AND c.owner_id IN (SELECT id FROM users WHERE role = 'admin') ORDER BY c.id`, []any(nil)
	if a.OwnerID != 0 {
		where, args = `c.owner_id = $1 AND (c.is_default = 1
 OR c.id IN (SELECT channel_id FROM monitor_channels WHERE monitor_id = $2)
 OR c.id IN (SELECT channel_id FROM deliveries WHERE incident_id = $3 AND $3 <> 0)) ORDER BY c.id`, []any{a.OwnerID, a.MonitorID, a.IncidentID}
	}
	c.channels(where, args, fn)
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
		alert := s.script(ctx, tx)
		if err := alert.writeAlerts([]uptime.Alert{a}, func(_, id int64) { a.ID = id }); err != nil {
			return err
		}
		if err := alert.run(); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE alerts SET routed_at = $2 WHERE id = $1`, a.ID, micro(now)); err != nil {
			return err
		}
		d := uptime.Delivery{AlertID: a.ID, ChannelID: c.ID, OwnerID: c.OwnerID, Key: uptime.DeliveryKey(s.opts.Installation, a, c.ID), Kind: a.Kind,
			ChannelName: c.Name, ChannelType: c.Type, Status: uptime.DeliveryPending, NextAt: now, CreatedAt: now}
		delivery := s.script(ctx, tx)
		delivery.delivery(&d, "", 0)
		if err := delivery.run(); err != nil {
			return err
		}
		deliveryID, alertID = d.ID, a.ID
		return nil
	})
	return deliveryID, alertID, err
}
