package notify_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"vedette/internal/notify"
	"vedette/internal/queue"
	"vedette/internal/uptime"
)

var errStoreDown = uptime.Errorf(uptime.Unavailable, "store does not answer")

// memStore is a notify.Store in memory that keeps the contract's promises: routing
// once, claims with leases and tokens, at most perChannel of a channel, and the
// order per incident and channel.
type memStore struct {
	mu         sync.Mutex // guards all below
	alerts     map[int64]*uptime.Alert
	channels   []uptime.Channel
	deliveries []*memDelivery
	selfOpen   bool
	selfTexts  []string
	failFinish int // so many calls fail
	loseClaims int // so many transactions with claims lose the answer to their commit
	claimToken int
}

type memDelivery struct {
	uptime.Delivery
	token string
	lease time.Time
	log   []uptime.DeliveryAttempt
}

func newMemStore(channels ...uptime.Channel) *memStore {
	return &memStore{alerts: map[int64]*uptime.Alert{}, channels: channels}
}

// add writes an alert and returns its id.
func (s *memStore) add(a uptime.Alert) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	a.ID = int64(len(s.alerts) + 1)
	a.CreatedAt = uptime.Now()
	s.alerts[a.ID] = &a
	return a.ID
}

func (s *memStore) RouteAlerts(_ context.Context, ids []int64, terms uptime.ClaimTerms, route func(uptime.Alert, []uptime.Channel) []uptime.Delivery) ([]uptime.Routed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []uptime.Routed
	for id, a := range s.alerts { // the others of their incidents come along
		if a.IncidentID != 0 && !slices.Contains(ids, id) && slices.ContainsFunc(ids, func(i int64) bool { return s.alerts[i] != nil && s.alerts[i].IncidentID == a.IncidentID }) {
			ids = append(slices.Clone(ids), id)
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		a := s.alerts[id]
		if a == nil || !a.RoutedAt.IsZero() {
			continue
		}
		r := uptime.Routed{Alert: *a, Deliveries: route(*a, slices.Clone(s.channels))}
		for i := range r.Deliveries {
			r.Deliveries[i].ID = int64(len(s.deliveries) + 1)
			d := &memDelivery{Delivery: r.Deliveries[i]}
			s.deliveries = append(s.deliveries, d)
			if c, ok := s.claim(d, terms); ok {
				terms.Limit--
				r.Claims = append(r.Claims, c)
				r.Deliveries[i] = d.Delivery
			}
		}
		a.RoutedAt = uptime.Now()
		out = append(out, r)
	}
	return out, nil
}

func (s *memStore) UnroutedAlerts(_ context.Context, before time.Time, limit int) ([]int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []int64
	for id, a := range s.alerts {
		if a.RoutedAt.IsZero() && !a.CreatedAt.After(before) && len(ids) < limit {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

func (s *memStore) ClaimDeliveries(_ context.Context, terms uptime.ClaimTerms) ([]uptime.Claim, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var claims []uptime.Claim
	due := slices.Clone(s.deliveries)
	slices.SortStableFunc(due, func(a, b *memDelivery) int { return cmp.Compare(a.NextAt.UnixMicro(), b.NextAt.UnixMicro()) })
	for _, d := range due {
		if c, ok := s.claim(d, terms); ok {
			terms.Limit--
			claims = append(claims, c)
		}
	}
	if s.loseClaims > 0 && len(claims) > 0 {
		s.loseClaims--
		return claims, errStoreDown
	}
	return claims, nil
}

// claim takes d if terms and its order allow that. s.mu is held.
func (s *memStore) claim(d *memDelivery, terms uptime.ClaimTerms) (c uptime.Claim, ok bool) {
	now := uptime.Now()
	ready := d.Status == uptime.DeliveryPending && !d.NextAt.After(now) ||
		d.Status == uptime.DeliverySending && !d.lease.After(now)
	if !ready || terms.Limit == 0 || s.busy(d, now) >= terms.PerChannel || s.blocked(d) {
		return c, false
	}
	s.claimToken++
	d.Status, d.token, d.lease = uptime.DeliverySending, strconv.Itoa(s.claimToken), now.Add(terms.Lease)
	d.Attempts++
	d.log = append(d.log, uptime.DeliveryAttempt{Number: d.Attempts, StartedAt: now, Outcome: uptime.OutcomeUnknown})
	return uptime.Claim{Delivery: d.Delivery, Attempt: d.Attempts, Token: d.token, Channel: s.channel(d.ChannelID), Alert: *s.alerts[d.AlertID]}, true
}

func (s *memStore) busy(d *memDelivery, now time.Time) int {
	n := 0
	for _, o := range s.deliveries {
		if o != d && o.ChannelID == d.ChannelID && o.Status == uptime.DeliverySending && o.lease.After(now) {
			n++
		}
	}
	return n
}

func (s *memStore) blocked(d *memDelivery) bool {
	return slices.ContainsFunc(s.deliveries, func(o *memDelivery) bool {
		return o.ID < d.ID && o.IncidentID != 0 && o.IncidentID == d.IncidentID && o.ChannelID == d.ChannelID && !o.Status.Final()
	})
}

func (s *memStore) channel(id int64) uptime.Channel {
	i := slices.IndexFunc(s.channels, func(c uptime.Channel) bool { return c.ID == id })
	return s.channels[i]
}

func (s *memStore) FinishDelivery(_ context.Context, c uptime.Claim, r uptime.SendResult) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failFinish > 0 {
		s.failFinish--
		return errStoreDown
	}
	d := s.deliveries[c.Delivery.ID-1]
	d.log[c.Attempt-1] = r.Attempt
	if d.token != c.Token {
		return uptime.Errorf(uptime.Conflict, "claim was given on")
	}
	d.Status, d.NextAt, d.Cause, d.token = r.Status, r.NextAt, r.Cause, ""
	return nil
}

func (s *memStore) NextDelivery(context.Context) (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var next time.Time
	for _, d := range s.deliveries {
		if d.Status == uptime.DeliveryPending && (next.IsZero() || d.NextAt.Before(next)) {
			next = d.NextAt
		}
	}
	return next, nil
}

func (s *memStore) SetSelfIncident(_ context.Context, reason uptime.Reason, message string, open bool) ([]int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.selfOpen == open {
		return nil, nil
	}
	s.selfOpen = open
	s.selfTexts = append(s.selfTexts, fmt.Sprintf("%s %t %s", reason, open, message))
	return nil, nil
}

// delivery is a copy of delivery id and its log.
func (s *memStore) delivery(id int) memDelivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := *s.deliveries[id-1]
	d.log = slices.Clone(d.log)
	return d
}

func (s *memStore) self() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.selfTexts)
}

// memQueue is an alerts queue that keeps what it is told to lose.
type memQueue struct {
	items chan queue.Message
	mu    sync.Mutex // guards all below
	next  int
	acked int
	dead  []string
}

func newMemQueue() *memQueue { return &memQueue{items: make(chan queue.Message, 1000)} }

func (q *memQueue) Publish(_ context.Context, items []queue.Item) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, i := range items {
		q.next++
		q.items <- queue.Message{ID: strconv.Itoa(q.next), Body: i.Body, Deliveries: 1}
	}
	return nil
}

func (q *memQueue) Receive(ctx context.Context, _ int, wait time.Duration) ([]queue.Message, error) {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case m := <-q.items:
		return []queue.Message{m}, nil
	case <-t.C:
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (q *memQueue) Ack(_ context.Context, ids []string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.acked += len(ids)
	return nil
}

func (q *memQueue) Extend(context.Context, []string) error { return nil }

func (q *memQueue) Dead(_ context.Context, _ queue.Message, cause string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dead = append(q.dead, cause)
	return nil
}

func (q *memQueue) Stats(context.Context) (queue.Stats, error) { return queue.Stats{}, nil }

// hint publishes alert id as the recorder does.
func (q *memQueue) hint(id int64) {
	b, _ := uptime.AlertRef{ID: id}.MarshalBinary()
	_ = q.Publish(context.Background(), []queue.Item{{Body: b}})
}

// scripted is a provider that answers as told and notes what it was given.
type scripted struct {
	answer func(ctx context.Context, c uptime.Claim) notify.Sent
	mu     sync.Mutex // guards all below
	sent   []sending
}

type sending struct {
	at    time.Time
	claim uptime.Claim
}

func (*scripted) Type() string { return "scripted" }

func (*scripted) Check(b []byte) ([]byte, map[string]string, error) {
	return nil, nil, errors.New("not asked for")
}

func (*scripted) Redact(b []byte) ([]byte, error) { return b, nil }

func (p *scripted) Send(ctx context.Context, c uptime.Claim) notify.Sent {
	p.mu.Lock()
	p.sent = append(p.sent, sending{time.Now(), c})
	p.mu.Unlock()
	return p.answer(ctx, c)
}

func (p *scripted) log() []sending {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.sent)
}

func accept(context.Context, uptime.Claim) notify.Sent {
	return notify.Sent{Outcome: uptime.OutcomeAccepted}
}

func refuse(o uptime.Outcome) func(context.Context, uptime.Claim) notify.Sent {
	return func(context.Context, uptime.Claim) notify.Sent { return notify.Sent{Outcome: o, Excerpt: "refused"} }
}

func channel(id int64) uptime.Channel {
	return uptime.Channel{ID: id, OwnerID: 1, Name: fmt.Sprintf("ops %d", id), Type: "scripted", Enabled: true}
}

func alert(kind uptime.AlertKind, incident int64) uptime.Alert {
	return uptime.Alert{Kind: kind, IncidentID: incident, MonitorID: 1, OwnerID: 1,
		Body: uptime.AlertBody{Incident: uptime.AlertIncident{ID: incident, Kind: uptime.IncidentTarget}, Monitor: uptime.AlertMonitor{Name: "Checkout"}}}
}
