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
func (s *Store) ClaimDeliveries(ctx context.Context, terms uptime.ClaimTerms) (claims []uptime.Claim, err error) {
	err = s.tx(ctx, "claim deliveries", func(ctx context.Context, tx *sql.Tx) error {
		claims = nil
		now := uptime.Now()
		due, err := s.due(ctx, tx, now, terms)
		if err != nil {
			return err
		}
		for _, id := range due {
			c, ok, err := s.claim(ctx, tx, id, now, terms.Lease)
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
// than the limit, so that one channel's queue does not hide the others.
func (s *Store) due(ctx context.Context, tx *sql.Tx, now time.Time, terms uptime.ClaimTerms) ([]int64, error) {
	busy, err := s.busyChannels(ctx, tx, now)
	if err != nil {
		return nil, err
	}
	var ids []int64
	err = queryOn(ctx, tx, selectDue, []any{micro(now), terms.Limit*8 + 256}, func(r row) error {
		var id, channel int64
		if err := r.Scan(&id, &channel); err != nil {
			return err
		}
		if len(ids) < terms.Limit && busy[channel] < terms.PerChannel {
			busy[channel]++
			ids = append(ids, id)
		}
		return nil
	})
	return ids, err
}

// busyChannels counts what is being sent, by channel, and keeps other notifiers from
// claiming until the transaction ends.
func (s *Store) busyChannels(ctx context.Context, tx *sql.Tx, now time.Time) (map[int64]int, error) {
	if err := s.d.serialise(ctx, tx, lockClaims); err != nil {
		return nil, err
	}
	busy := map[int64]int{}
	const q = `SELECT channel_id, count(*) FROM deliveries WHERE status = 'sending' AND lease_until > $1 GROUP BY channel_id`
	err := queryOn(ctx, tx, q, []any{micro(now)}, func(r row) error {
		var channel int64
		var n int
		err := r.Scan(&channel, &n)
		busy[channel] = n
		return err
	})
	return busy, err
}

// order is what deliveries keep their order in.
type order struct{ incident, channel int64 }

// room is what may still be claimed in a transaction that routes.
type room struct {
	s        *Store
	terms    uptime.ClaimTerms
	busy     map[int64]int  // sends under way, by channel
	waiting  map[order]bool // an earlier delivery is not done
	attempts [][]any        // to be inserted
}

func (s *Store) room(ctx context.Context, tx *sql.Tx, terms uptime.ClaimTerms, routed []uptime.Routed) (*room, error) {
	m := &room{s: s, terms: terms, waiting: map[order]bool{}}
	if terms.Limit == 0 {
		return m, nil
	}
	var err error
	if m.busy, err = s.busyChannels(ctx, tx, uptime.Now()); err != nil {
		return nil, err
	}
	var pairs [][]any
	for _, r := range routed {
		for _, d := range r.Deliveries {
			if d.IncidentID != 0 && r.Alert.Kind != uptime.AlertOpened { // which nothing comes before
				pairs = append(pairs, []any{d.IncidentID, d.ChannelID})
			}
		}
	}
	err = s.queryValues(ctx, tx, "incident, channel", pairs, `SELECT v.incident, v.channel FROM v WHERE EXISTS
 (SELECT 1 FROM deliveries e WHERE e.incident_id = v.incident AND e.channel_id = v.channel AND e.status IN ('pending', 'sending'))`, func(r row) error {
		var o order
		err := r.Scan(&o.incident, &o.channel)
		m.waiting[o] = true
		return err
	})
	return m, err
}

// send writes the deliveries of one alert: claimed, where that may be.
func (m *room) send(ctx context.Context, tx *sql.Tx, r *uptime.Routed, channels []uptime.Channel, now time.Time) error {
	for i := range r.Deliveries {
		d := &r.Deliveries[i]
		c := uptime.Claim{Alert: r.Alert, Attempt: 1}
		for _, channel := range channels {
			if channel.ID == d.ChannelID {
				c.Channel = channel
			}
		}
		free := c.Channel.ID != 0 && d.Status == uptime.DeliveryPending && !d.NextAt.After(now) && m.take(order{d.IncidentID, d.ChannelID})
		var lease int64
		if free {
			c.Token, lease = rand.Text(), micro(now.Add(m.terms.Lease))
			d.Status, d.Attempts = uptime.DeliverySending, 1
		}
		if err := insertDelivery(ctx, tx, d, c.Token, lease); err != nil {
			return err
		}
		if free {
			m.attempts = append(m.attempts, attemptRow(d.ID, c.Attempt, now))
			c.Delivery = *d
			r.Claims = append(r.Claims, c)
		}
	}
	return nil
}

// take reports whether a delivery may be claimed, and takes its place.
func (m *room) take(o order) bool {
	first := o.incident == 0 || !m.waiting[o]
	m.waiting[o] = true // what comes after it waits for it
	if !first || m.terms.Limit == 0 || m.busy[o.channel] >= m.terms.PerChannel {
		return false
	}
	m.terms.Limit--
	m.busy[o.channel]++
	return true
}

const attemptColumns = `delivery_id, number, started_at, outcome`

const insertAttempts = `INSERT INTO delivery_attempts (` + attemptColumns + `) SELECT ` + attemptColumns + ` FROM v`

// attemptRow is the intent to send, which is on record before the first byte.
func attemptRow(delivery int64, number int, now time.Time) []any {
	return []any{delivery, int64(number), micro(now), string(uptime.OutcomeUnknown)}
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
	err = s.execValues(ctx, tx, attemptColumns, [][]any{attemptRow(id, c.Attempt, now)}, insertAttempts)
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
