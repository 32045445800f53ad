package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"time"

	"vedette/internal/uptime"
)

// Deliveries that are due: waiting and their time has come, or taken by a notifier
// whose lease is over; never one with an earlier one unfinished for its incident
// and channel.
const selectDue = `SELECT d.id, d.channel_id FROM deliveries d
 WHERE ((d.status = 'pending' AND d.next_at <= $1) OR (d.status = 'sending' AND d.lease_until <= $1))
 AND (d.incident_id = 0 OR NOT EXISTS (SELECT 1 FROM deliveries e WHERE e.incident_id = d.incident_id AND e.channel_id = d.channel_id
  AND e.id < d.id AND e.status IN ('pending', 'sending')))
 ORDER BY d.next_at, d.id LIMIT $2`

const claimOne = `UPDATE deliveries SET status = 'sending', lease_until = $2, token = $3, attempts = attempts + 1 WHERE id = $1`

const selectClaim = `SELECT ` + deliveryColumns + `, ` + alertColumns + ` FROM deliveries d JOIN alerts a ON a.id = d.alert_id WHERE d.id = $1`

// ClaimDeliveries: see notify.Store.
func (s *Store) ClaimDeliveries(ctx context.Context, holder string, lease time.Duration, limit, perChannel int) (claims []uptime.Claim, err error) {
	err = s.tx(ctx, "claim deliveries", func(ctx context.Context, tx *sql.Tx) error {
		claims = nil
		now := uptime.Now()
		due, err := s.due(ctx, tx, now, limit, perChannel)
		if err != nil {
			return err
		}
		for _, id := range due {
			c, ok, err := s.claim(ctx, tx, id, now, lease)
			if err != nil {
				return err
			}
			if ok {
				claims = append(claims, c)
			}
		}
		return nil
	})
	return claims, err
}

// due picks what may be claimed now, within each channel's share. It looks at more
// than limit, so that one channel's queue does not hide the others.
func (s *Store) due(ctx context.Context, tx *sql.Tx, now time.Time, limit, perChannel int) ([]int64, error) {
	if err := s.d.serialise(ctx, tx, lockClaims); err != nil {
		return nil, err
	}
	busy := map[int64]int{}
	err := queryOn(ctx, tx, `SELECT channel_id, count(*) FROM deliveries WHERE status = 'sending' AND lease_until > $1 GROUP BY channel_id`, []any{micro(now)}, func(r row) error {
		var channel int64
		var n int
		err := r.Scan(&channel, &n)
		busy[channel] = n
		return err
	})
	if err != nil {
		return nil, err
	}
	var ids []int64
	err = queryOn(ctx, tx, selectDue, []any{micro(now), limit*8 + 256}, func(r row) error {
		var id, channel int64
		if err := r.Scan(&id, &channel); err != nil {
			return err
		}
		if len(ids) < limit && busy[channel] < perChannel {
			busy[channel]++
			ids = append(ids, id)
		}
		return nil
	})
	return ids, err
}

// claim takes one delivery and writes the intent to send it.
func (s *Store) claim(ctx context.Context, tx *sql.Tx, id int64, now time.Time, lease time.Duration) (c uptime.Claim, ok bool, err error) {
	c.Token = rand.Text()
	if _, err := tx.ExecContext(ctx, claimOne, id, micro(now.Add(lease)), c.Token); err != nil {
		return c, false, err
	}
	dest, done := deliveryDest(&c.Delivery)
	alert, finish := alertDest(&c.Alert)
	if err := tx.QueryRowContext(ctx, selectClaim, id).Scan(append(dest, alert...)...); err != nil {
		return c, false, err
	}
	done()
	if err := finish(); err != nil {
		return c, false, err
	}
	c.Attempt = c.Delivery.Attempts
	channels, err := s.channelsWhere(ctx, tx, `c.id = $1`, c.Delivery.ChannelID)
	if err != nil {
		return c, false, err
	}
	if len(channels) == 0 { // deleted between two statements of its owner's
		_, err := tx.ExecContext(ctx, `UPDATE deliveries SET status = 'suppressed', cause = 'channel deleted', done_at = $2, token = '' WHERE id = $1`, id, micro(now))
		return c, false, err
	}
	c.Channel = channels[0]
	_, err = tx.ExecContext(ctx, `INSERT INTO delivery_attempts (delivery_id, number, started_at, outcome) VALUES ($1, $2, $3, $4)`,
		id, c.Attempt, micro(now), string(uptime.OutcomeUnknown))
	return c, err == nil, err
}

const finishAttempt = `UPDATE delivery_attempts SET started_at = $3, finished_at = $4, outcome = $5, peer = $6, code = $7, excerpt = $8, provider_id = $9, latency_us = $10
 WHERE delivery_id = $1 AND number = $2`

const finishDelivery = `UPDATE deliveries SET status = $3, cause = $4, next_at = $5, done_at = $6, lease_until = 0, token = '' WHERE id = $1 AND token = $2`

// FinishDelivery: see notify.Store.
func (s *Store) FinishDelivery(ctx context.Context, c uptime.Claim, r uptime.SendResult) error {
	stale := false
	err := s.tx(ctx, "finish delivery", func(ctx context.Context, tx *sql.Tx) error {
		a, d := r.Attempt, c.Delivery
		_, err := tx.ExecContext(ctx, finishAttempt, d.ID, c.Attempt, micro(a.StartedAt), micro(a.FinishedAt), string(a.Outcome), a.Peer, a.Code, a.Excerpt, a.ProviderID, span(a.Latency))
		if err != nil {
			return err
		}
		now := uptime.Now()
		var doneAt time.Time
		if r.Status.Final() {
			doneAt = now
		}
		n, err := affected(tx.ExecContext(ctx, finishDelivery, d.ID, c.Token, string(r.Status), r.Cause, micro(r.NextAt), micro(doneAt)))
		if err != nil {
			return err
		}
		if stale = n == 0; stale {
			return nil
		}
		return s.afterDelivery(ctx, tx, c, r, now)
	})
	if err == nil && stale {
		return uptime.Errorf(uptime.Conflict, "delivery %d was given to another notifier", c.Delivery.ID)
	}
	return err
}

// afterDelivery notes on channel, incident and live stream what became of it.
func (s *Store) afterDelivery(ctx context.Context, tx *sql.Tx, c uptime.Claim, r uptime.SendResult, now time.Time) error {
	d := c.Delivery
	switch r.Status {
	case uptime.DeliveryDelivered, uptime.DeliveryDead:
		problem := ""
		if r.Status == uptime.DeliveryDead {
			problem = r.Cause
		}
		if _, err := tx.ExecContext(ctx, `UPDATE channels SET problem = $2 WHERE id = $1 AND problem <> $2`, d.ChannelID, problem); err != nil {
			return err
		}
	}
	if d.IncidentID != 0 && r.Status.Final() {
		text := string(d.Kind) + " to " + d.ChannelName + ": " + string(r.Status)
		if r.Cause != "" {
			text += " (" + r.Cause + ")"
		}
		if err := s.insertIncidentEvents(ctx, tx, uptime.Event{IncidentID: d.IncidentID, At: now, Kind: "delivery", Text: text}); err != nil {
			return err
		}
		if r.Status == uptime.DeliveryDelivered {
			if _, err := tx.ExecContext(ctx, `UPDATE incidents SET notified_at = $2 WHERE id = $1 AND notified_at = 0`, d.IncidentID, micro(now)); err != nil {
				return err
			}
		}
	}
	return s.addEvent(ctx, tx, uptime.LiveEvent{OwnerID: d.OwnerID, Type: "delivery.changed", MonitorID: c.Alert.MonitorID, Incident: d.IncidentID, Delivery: d.ID})
}

// ReleaseClaims ends the lease of every delivery that is being sent: for an
// installation of one process, which has just started, they are a dead process's. The
// fence stays: should that one live after all, its outcome is not taken.
func (s *Store) ReleaseClaims(ctx context.Context) error {
	return s.tx(ctx, "release claims", func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE deliveries SET lease_until = 0 WHERE status = 'sending'`)
		return err
	})
}

// NextDelivery: see notify.Store.
func (s *Store) NextDelivery(ctx context.Context) (at time.Time, err error) {
	const q = `SELECT coalesce(min(CASE WHEN status = 'sending' THEN lease_until ELSE next_at END), 0) FROM deliveries WHERE status IN ('pending', 'sending')`
	err = s.query(ctx, "find the next delivery", q, nil, func(r row) error {
		var us int64
		err := r.Scan(&us)
		at = instant(us)
		return err
	})
	return at, err
}
