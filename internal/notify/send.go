package notify

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"vedette/internal/uptime"
)

var errDrained = errors.New("stopping: the send took longer than the drain time")

// dispatch claims what is due and starts its sending, whenever it is woken (an
// alert was routed, a send ended) or something becomes due by time. It holds no
// claim that it has no slot for.
func (n *Notifier) dispatch(ctx, sendCtx context.Context) {
	for ctx.Err() == nil {
		timer := time.NewTimer(n.claim(ctx, sendCtx))
		select {
		case <-ctx.Done():
		case <-n.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// storeTimeout bounds a transaction that claims.
const storeTimeout = 5 * time.Second

// claim takes due deliveries and returns how long until the next try.
func (n *Notifier) claim(ctx, sendCtx context.Context) time.Duration {
	// A claim that commits must reach its send, so the statement is not cut short.
	claimCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	full := false
	err := n.start(sendCtx, 128, func(terms uptime.ClaimTerms) ([]uptime.Claim, error) {
		if terms.Limit == 0 {
			return nil, nil // a send that ends wakes us
		}
		claims, err := n.opts.Store.ClaimDeliveries(claimCtx, terms)
		full = len(claims) == terms.Limit
		return claims, err
	})
	switch {
	case err != nil:
		n.log.Warn("deliveries not claimed", slog.Any("error", err))
		return n.opts.Sweep
	case full:
		return 0
	}
	return n.untilNext(claimCtx)
}

// start reserves up to most free slots, has take claim within them, and sends what
// it claimed. Nothing is claimed that there is no slot for.
func (n *Notifier) start(sendCtx context.Context, most int, take func(uptime.ClaimTerms) ([]uptime.Claim, error)) error {
	reserved := 0
	for reserved < most {
		select {
		case n.slots <- struct{}{}:
			reserved++
			continue
		default:
		}
		break
	}
	taken := time.Now()
	claims, err := take(uptime.ClaimTerms{Lease: n.opts.Lease, Limit: reserved, PerChannel: n.opts.PerChannel})
	if err != nil {
		claims = nil // the intent may not be on record; if it is, the lease ends
	}
	for range reserved - len(claims) {
		<-n.slots
	}
	if len(claims) > 0 {
		n.opts.Failpoint("claimed")
	}
	for _, c := range claims {
		n.sends.Go(func() {
			n.send(sendCtx, c, taken.Add(n.opts.Lease))
			<-n.slots
			nudge(n.wake) // its channel may have more waiting
		})
	}
	return err
}

// untilNext is how long until a delivery becomes due, at most Options.Sweep. One
// that is due and was not claimed waits for a send to end, which wakes us.
func (n *Notifier) untilNext(ctx context.Context) time.Duration {
	next, err := n.opts.Store.NextDelivery(ctx)
	if err != nil || next.IsZero() {
		return n.opts.Sweep
	}
	if d := time.Until(next); d > 0 {
		return min(d, n.opts.Sweep)
	}
	return min(time.Second, n.opts.Sweep)
}

// send makes one attempt and records what came of it.
func (n *Notifier) send(sendCtx context.Context, c uptime.Claim, leaseEnd time.Time) {
	started := time.Now()
	n.metrics.inFlight.Inc()
	sent := n.attempt(sendCtx, c, leaseEnd)
	n.metrics.inFlight.Dec()
	n.opts.Failpoint("sent")
	latency := time.Since(started)

	result := Plan(c.Delivery, c.Attempt, sent, uptime.Now(), rand.Float64())
	if !c.Channel.Enabled && c.Alert.Kind != uptime.AlertTest {
		result = uptime.SendResult{Status: uptime.DeliverySuppressed, Cause: causeDisabled}
	}
	if context.Cause(sendCtx) != nil && result.Status == uptime.DeliveryPending {
		result.NextAt = uptime.Now() // no fault of the receiver: whoever runs next tries at once
	}
	result.Attempt = uptime.DeliveryAttempt{
		DeliveryID: c.Delivery.ID, Number: c.Attempt,
		StartedAt: uptime.Instant(started), FinishedAt: uptime.Now(),
		Outcome: sent.Outcome, Peer: sent.Peer, Code: sent.Code, Excerpt: sent.Excerpt,
		ProviderID: sent.ProviderID, Latency: latency,
	}
	n.report(c, result)
	if n.finish(sendCtx, c, result, leaseEnd) && result.Status == uptime.DeliveryDead {
		n.gaveUp(context.WithoutCancel(sendCtx), c, result)
	}
}

// attempt asks the channel's provider to send, within Options.SendTimeout and the
// claim's lease: a process that was stopped for longer finds the delivery given to
// another. A channel that nobody can send is a permanent failure; a provider that
// panics is a bug of ours, and must not take other channels down with it.
func (n *Notifier) attempt(ctx context.Context, c uptime.Claim, leaseEnd time.Time) (sent Sent) {
	if !c.Channel.Enabled && c.Alert.Kind != uptime.AlertTest {
		return permanent("not sent: " + causeDisabled) // switched off after it was routed
	}
	p, ok := n.providers[c.Channel.Type]
	if !ok {
		return permanent("this version cannot send to channels of this type")
	}
	left := time.Until(leaseEnd)
	if left <= 0 {
		return Sent{Outcome: uptime.OutcomeTemporary, Excerpt: "not sent: this process was stopped for longer than its claim"}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, min(n.opts.SendTimeout, left), errSendTimeout)
	defer cancel()
	defer func() {
		if v := recover(); v != nil {
			n.log.Error("provider panicked", slog.String("channel_type", c.Channel.Type),
				slog.Int64("delivery_id", c.Delivery.ID), slog.Any("panic", v))
			sent = Sent{Outcome: uptime.OutcomeUnknown, Excerpt: "internal error, see the log"}
		}
	}()
	sent = p.Send(ctx, c)
	sent.Excerpt = cut(sent.Excerpt, maxExcerpt)
	return sent
}

var errSendTimeout = errors.New("the send timeout has passed")

// finish records the outcome, and tries again while the claim is surely ours. When
// that fails the lease ends, and the delivery is sent once more under its key.
func (n *Notifier) finish(sendCtx context.Context, c uptime.Claim, r uptime.SendResult, leaseEnd time.Time) bool {
	limit := time.Until(leaseEnd)
	for delay := 50 * time.Millisecond; ; delay = min(2*delay, 2*time.Second) {
		if context.Cause(sendCtx) != nil {
			limit = min(limit, 1500*time.Millisecond) // stopping: one more try, no more
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(sendCtx), max(limit, time.Second))
		err := n.opts.Store.FinishDelivery(ctx, c, r)
		cancel()
		if err == nil {
			n.opts.Failpoint("finished")
			return true
		}
		if uptime.Is(err, uptime.Conflict) {
			n.log.Warn("delivery was claimed by another notifier meanwhile", slog.Int64("delivery_id", c.Delivery.ID))
			return false
		}
		n.metrics.unrecorded.Inc()
		n.log.Warn("outcome of a delivery not recorded", slog.Int64("delivery_id", c.Delivery.ID), slog.Any("error", err))
		limit = time.Until(leaseEnd)
		if limit <= delay || context.Cause(sendCtx) != nil {
			return false
		}
		pause(sendCtx, delay)
	}
}

// report tells logs and metrics what came of an attempt.
func (n *Notifier) report(c uptime.Claim, r uptime.SendResult) {
	a := r.Attempt
	n.metrics.attempts.WithLabelValues(c.Channel.Type, string(a.Outcome)).Inc()
	n.metrics.latency.WithLabelValues(c.Channel.Type).Observe(a.Latency.Seconds())
	attrs := []any{
		slog.Int64("delivery_id", c.Delivery.ID), slog.Int64("alert_id", c.Alert.ID),
		slog.Int64("incident_id", c.Delivery.IncidentID), slog.Int64("channel_id", c.Channel.ID),
		slog.String("channel_type", c.Channel.Type), slog.Int("attempt", a.Number),
		slog.String("outcome", string(a.Outcome)), slog.Int("code", a.Code), slog.String("peer", a.Peer),
		slog.Int64("duration_ms", a.Latency.Milliseconds()),
	}
	switch r.Status {
	case uptime.DeliveryDelivered:
		n.trouble.delivered()
		n.metrics.age.Observe(a.FinishedAt.Sub(c.Alert.CreatedAt).Seconds())
		n.log.Info("alert delivered", attrs...)
	case uptime.DeliveryDead:
		n.log.Error("delivery given up", append(attrs, slog.String("cause", r.Cause))...)
	default:
		n.log.Warn("delivery not accepted yet", append(attrs, slog.String("cause", r.Cause), slog.Time("next_at", r.NextAt))...)
	}
}
