package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"time"

	"vedette/internal/uptime"
)

// order is what deliveries keep their order in.
type order struct{ incident, channel int64 }

// room routes alerts, and knows what may still be claimed while it does.
type room struct {
	*script
	now      time.Time
	terms    uptime.ClaimTerms
	routed   []uptime.Routed
	channels [][]uptime.Channel // by alert: its candidates
	busy     map[int64]int      // sends under way, by channel
	waiting  map[order]bool     // an earlier delivery is not done
}

// room calls route with each alert, and finds what must be known to claim.
func (s *Store) room(ctx context.Context, tx *sql.Tx, terms uptime.ClaimTerms, routed []uptime.Routed, route func(uptime.Alert, []uptime.Channel) []uptime.Delivery) (*room, error) {
	m := &room{script: s.script(ctx, tx), now: uptime.Now(), terms: terms, routed: routed, channels: make([][]uptime.Channel, len(routed)), waiting: map[order]bool{}}
	for i := range routed {
		m.candidates(routed[i].Alert, func(c uptime.Channel) { m.channels[i] = append(m.channels[i], c) })
	}
	if terms.Limit > 0 {
		m.busy = m.busyChannels(m.now)
	}
	if err := m.run(); err != nil {
		return nil, err
	}
	var pairs [][]any
	for i := range routed {
		r := &routed[i]
		r.Deliveries = route(r.Alert, m.channels[i])
		for _, d := range r.Deliveries {
			if d.IncidentID != 0 && r.Alert.Kind != uptime.AlertOpened { // which nothing comes before
				pairs = append(pairs, []any{d.IncidentID, d.ChannelID})
			}
		}
	}
	m.values("find earlier deliveries", "incident, channel", pairs, `SELECT v.incident, v.channel FROM v WHERE EXISTS
 (SELECT 1 FROM deliveries e WHERE e.incident_id = v.incident AND e.channel_id = v.channel AND e.status IN ('pending', 'sending'))`, func(r row) error {
		var o order
		err := r.Scan(&o.incident, &o.channel)
		m.waiting[o] = true
		return err
	})
	return m, m.run()
}

// write stores the deliveries, claimed where that may be, and that the alerts are
// routed.
func (m *room) write() error {
	var claimed []func() // what waits for the ids of deliveries
	var attempts [][]any
	ids := make([]int64, len(m.routed))
	for i := range m.routed {
		r := &m.routed[i]
		ids[i] = r.Alert.ID
		for n := range r.Deliveries {
			d := &r.Deliveries[n]
			c := uptime.Claim{Alert: r.Alert, Attempt: 1}
			var lease int64
			if channel := find(m.channels[i], d.ChannelID); channel != nil && d.Status == uptime.DeliveryPending && !d.NextAt.After(uptime.Now()) &&
				m.take(order{d.IncidentID, d.ChannelID}) {
				c.Token, c.Channel, lease = rand.Text(), *channel, micro(m.now.Add(m.terms.Lease))
				d.Status, d.Attempts = uptime.DeliverySending, 1
				claimed = append(claimed, func() {
					c.Delivery = *d
					r.Claims = append(r.Claims, c)
					attempts = append(attempts, attemptRow(d.ID, c.Attempt, m.now))
				})
			}
			m.delivery(d, c.Token, lease)
		}
	}
	if err := m.run(); err != nil {
		return err
	}
	for _, f := range claimed {
		f()
	}
	m.attempts(attempts)
	in, args := m.s.d.in("id", 2, ids)
	m.add("note routing", `UPDATE alerts SET routed_at = $1 WHERE `+in+` AND routed_at = 0`, append([]any{micro(m.now)}, args...), nil)
	return m.run()
}

func find(channels []uptime.Channel, id int64) *uptime.Channel {
	for i := range channels {
		if channels[i].ID == id {
			return &channels[i]
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
