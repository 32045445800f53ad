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

const claimDue = `UPDATE deliveries SET status = 'sending', lease_until = v.lease, token = v.token, attempts = attempts + 1 FROM v WHERE deliveries.id = v.id`

const selectClaims = `SELECT ` + deliveryColumns + `, ` + alertColumns + ` FROM deliveries d JOIN alerts a ON a.id = d.alert_id WHERE `

// ClaimDeliveries: see notify.Store.
func (s *Store) ClaimDeliveries(ctx context.Context, terms uptime.ClaimTerms) (claims []uptime.Claim, err error) {
	err = s.tx(ctx, "claim deliveries", func(ctx context.Context, tx *sql.Tx) error {
		now := uptime.Now()
		due, err := s.due(ctx, tx, now, terms)
		if err != nil || len(due) == 0 {
			claims = nil
			return err
		}
		claims, err = s.claim(ctx, tx, due, now, terms.Lease)
		return err
	})
	return claims, err
}

// due picks what may be claimed now, within each channel's share. It looks at more
// than the limit, so that one channel's queue does not hide the others.
func (s *Store) due(ctx context.Context, tx *sql.Tx, now time.Time, terms uptime.ClaimTerms) (ids []int64, err error) {
	c := s.script(ctx, tx)
	busy := c.busyChannels(now)
	c.add("find due deliveries", selectDue, []any{micro(now), terms.Limit*8 + 256}, func(r row) error {
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
	return ids, c.run()
}

// busyChannels appends a count of what is being sent, by channel, and keeps other
// notifiers from claiming until the transaction ends.
func (c *script) busyChannels(now time.Time) map[int64]int {
	c.lock(lockClaims)
	busy := map[int64]int{}
	const q = `SELECT channel_id, count(*) FROM deliveries WHERE status = 'sending' AND lease_until > $1 GROUP BY channel_id`
	c.add("count sends", q, []any{micro(now)}, func(r row) error {
		var channel int64
		var n int
		err := r.Scan(&channel, &n)
		busy[channel] = n
		return err
	})
	return busy
}

// claim takes deliveries and writes the intent to send them.
func (s *Store) claim(ctx context.Context, tx *sql.Tx, ids []int64, now time.Time, lease time.Duration) ([]uptime.Claim, error) {
	tokens := make(map[int64]string, len(ids))
	var rows [][]any
	for _, id := range ids {
		tokens[id] = rand.Text()
		rows = append(rows, []any{id, micro(now.Add(lease)), tokens[id]})
	}
	c := s.script(ctx, tx)
	c.values("claim deliveries", "id, lease, token", rows, claimDue, nil)
	found := map[int64]uptime.Claim{}
	in, args := s.d.in("d.id", 1, ids)
	c.add("read claims", selectClaims+in, args, func(r row) error {
		var x uptime.Claim
		dest, done := deliveryDest(&x.Delivery)
		alert, finish := alertDest(&x.Alert)
		if err := r.Scan(append(dest, alert...)...); err != nil {
			return err
		}
		done()
		x.Token, x.Attempt = tokens[x.Delivery.ID], x.Delivery.Attempts
		err := finish()
		found[x.Delivery.ID] = x
		return err
	})
	in, args = s.d.in("d.id", 1, ids)
	channels := map[int64]uptime.Channel{}
	c.channels(`c.id IN (SELECT d.channel_id FROM deliveries d WHERE `+in+`)`, args, func(x uptime.Channel) { channels[x.ID] = x })
	if err := c.run(); err != nil {
		return nil, err
	}
	var claims []uptime.Claim
	var attempts [][]any
	for _, id := range ids {
		x := found[id]
		channel, exists := channels[x.Delivery.ChannelID]
		if !exists { // deleted between two statements of its owner's
			c.add("suppress", `UPDATE deliveries SET status = 'suppressed', cause = 'channel deleted', done_at = $2, token = '' WHERE id = $1`, []any{id, micro(now)}, nil)
			continue
		}
		x.Channel = channel
		claims = append(claims, x)
		attempts = append(attempts, attemptRow(id, x.Attempt, now))
	}
	c.attempts(attempts)
	return claims, c.run()
}

const attemptColumns = `delivery_id, number, started_at, outcome`

// attempts appends the intents to send, which are on record before the first byte.
func (c *script) attempts(rows [][]any) {
	c.values("insert attempts", attemptColumns, rows, `INSERT INTO delivery_attempts (`+attemptColumns+`) SELECT `+attemptColumns+` FROM v`, nil)
}

func attemptRow(delivery int64, number int, now time.Time) []any {
	return []any{delivery, int64(number), micro(now), string(uptime.OutcomeUnknown)}
}

const finishAttempt = `UPDATE delivery_attempts SET started_at = $3, finished_at = $4, outcome = $5, peer = $6, code = $7, excerpt = $8, provider_id = $9, latency_us = $10
 WHERE delivery_id = $1 AND number = $2`

const finishDelivery = `UPDATE deliveries SET status = $3, cause = $4, next_at = $5, done_at = $6, lease_until = 0, token = '' WHERE id = $1 AND token = $2`

// FinishDelivery: see notify.Store.
func (s *Store) FinishDelivery(ctx context.Context, c uptime.Claim, r uptime.SendResult) error {
	current := false
	err := s.tx(ctx, "finish delivery", func(ctx context.Context, tx *sql.Tx) error {
		a, d := r.Attempt, c.Delivery
		now := uptime.Now()
		var doneAt time.Time
		if r.Status.Final() {
			doneAt = now
		}
		w := s.script(ctx, tx)
		w.add("finish attempt", finishAttempt, []any{d.ID, c.Attempt, micro(a.StartedAt), micro(a.FinishedAt), string(a.Outcome), a.Peer, a.Code, a.Excerpt,
			a.ProviderID, span(a.Latency)}, nil)
		w.add("finish delivery", finishDelivery, []any{d.ID, c.Token, string(r.Status), r.Cause, micro(r.NextAt), micro(doneAt)}, nil)
		w.steps[1].done = func(n int64) error { current = n > 0; return nil }
		if err := w.run(); err != nil || !current {
			return err
		}
		w.afterDelivery(c, r, now)
		return w.run()
	})
	if err == nil && !current {
		return uptime.Errorf(uptime.Conflict, "delivery %d was given to another notifier", c.Delivery.ID)
	}
	return err
}

// afterDelivery notes on channel, incident and live stream what became of it.
func (w *script) afterDelivery(c uptime.Claim, r uptime.SendResult, now time.Time) {
	d := c.Delivery
	switch r.Status {
	case uptime.DeliveryDelivered, uptime.DeliveryDead:
		problem := ""
		if r.Status == uptime.DeliveryDead {
			problem = r.Cause
		}
		w.add("flag channel", `UPDATE channels SET problem = $2 WHERE id = $1 AND problem <> $2`, []any{d.ChannelID, problem}, nil)
	}
	if d.IncidentID != 0 && r.Status.Final() {
		text := string(d.Kind) + " to " + d.ChannelName + ": " + string(r.Status)
		if r.Cause != "" {
			text += " (" + r.Cause + ")"
		}
		w.timeline(uptime.Event{IncidentID: d.IncidentID, At: now, Kind: "delivery", Text: text})
		if r.Status == uptime.DeliveryDelivered {
			w.add("note first delivery", `UPDATE incidents SET notified_at = $2 WHERE id = $1 AND notified_at = 0`, []any{d.IncidentID, micro(now)}, nil)
		}
	}
	w.events(uptime.LiveEvent{OwnerID: d.OwnerID, Type: "delivery.changed", MonitorID: c.Alert.MonitorID, Incident: d.IncidentID, Delivery: d.ID})
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
