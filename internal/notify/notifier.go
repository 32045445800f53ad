// Package notify is the notifier of the diagram: it takes alert ids from the
// alerts queue, routes each alert to channels, and has each delivery sent by its
// channel's provider.
//
// It owns no state that matters. Deliveries are written before anything is sent
// and every attempt is on record before its first byte (ClaimDeliveries), its
// outcome after (FinishDelivery); so a crash anywhere leads to a repeat under the
// same key, never to silence. The queue is a hint: a sweep finds alerts and
// deliveries that are owed whatever the queue lost.
//
// A channel has at most Options.PerChannel sends under way, so one that hangs
// delays nobody else, and the store keeps the order per incident and channel. A
// store that does not answer stops the work until it does; nothing is dropped.
package notify

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"vedette/internal/queue"
	"vedette/internal/uptime"
)

// Options of a Notifier. Store, Queue and Installation are required.
type Options struct {
	Store     Store
	Queue     queue.Queue // the alerts queue
	Providers []Provider
	// Installation is the random id of this installation; it makes delivery keys
	// unique and may hold letters, digits and dashes.
	Installation string
	Logger       *slog.Logger          // default: discards
	Registerer   prometheus.Registerer // default: none

	PerChannel  int           // sends under way per channel, over all processes; default 4
	InFlight    int           // sends under way in this process; default 512
	SendTimeout time.Duration // of one attempt; default 15 s
	Lease       time.Duration // of a claim; default 30 s, at least SendTimeout + 10 s
	Sweep       time.Duration // between sweeps; default 3 s
	Drain       time.Duration // for sends under way when Run is told to stop; default 8 s

	// Failpoint, for tests, is called at each step's end with its name: received,
	// routed, claimed, sent, finished. It may end the process.
	Failpoint func(name string)
}

// validate fills defaults and reports what is missing.
func (o *Options) validate() error {
	if o.Store == nil || o.Queue == nil || o.Installation == "" {
		return fmt.Errorf("notify: Store, Queue and Installation are required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Failpoint == nil {
		o.Failpoint = func(string) {}
	}
	if o.PerChannel == 0 {
		o.PerChannel = 4
	}
	if o.InFlight == 0 {
		o.InFlight = 512
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&o.SendTimeout, 15 * time.Second}, {&o.Lease, 30 * time.Second}, {&o.Sweep, 3 * time.Second}, {&o.Drain, 8 * time.Second}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if o.Lease < o.SendTimeout+10*time.Second {
		return fmt.Errorf("notify: Lease of %s is less than SendTimeout of %s + 10s", o.Lease, o.SendTimeout)
	}
	return nil
}

// Notifier routes alerts and sends deliveries. Any number may run on one store.
type Notifier struct {
	opts      Options
	log       *slog.Logger
	providers map[string]Provider
	metrics   *metrics
	wake      chan struct{} // capacity 1: something may be due
	sweepNow  chan struct{} // capacity 1: alerts may be unrouted
	slots     chan struct{} // one per send under way
	sends     sync.WaitGroup
	trouble   trouble
}

// New makes a notifier. It fails when a required option is missing, two providers
// have one type, or metrics are registered already.
func New(o Options) (*Notifier, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register metrics of notify: %w", err)
	}
	n := &Notifier{
		opts: o, log: o.Logger, metrics: m,
		providers: make(map[string]Provider, len(o.Providers)),
		wake:      make(chan struct{}, 1),
		sweepNow:  make(chan struct{}, 1),
		slots:     make(chan struct{}, o.InFlight),
	}
	for _, p := range o.Providers {
		if _, twice := n.providers[p.Type()]; twice {
			return nil, fmt.Errorf("notify: two providers of type %q", p.Type())
		}
		n.providers[p.Type()] = p
	}
	return n, nil
}

// Wake says that an alert or a delivery was written: a resend, a channel test, an
// alert whose hint the queue would not take. It never blocks.
func (n *Notifier) Wake() {
	nudge(n.sweepNow)
	nudge(n.wake)
}

// nudge leaves one signal in c; a second one would say nothing more.
func nudge(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run works until ctx ends, then waits up to Options.Drain for sends under way and
// interrupts the rest, recorded as due again. It returns within Drain + 2 s, and
// always nil: trouble of the store or queue is waited out.
func (n *Notifier) Run(ctx context.Context) error {
	sendCtx, interrupt := context.WithCancelCause(context.WithoutCancel(ctx))
	defer interrupt(nil)
	n.trouble.begin(time.Now())
	var loops sync.WaitGroup
	loops.Go(func() { n.receive(ctx, sendCtx) })
	loops.Go(func() { n.sweep(ctx, sendCtx) })
	loops.Go(func() { n.dispatch(ctx, sendCtx) })
	<-ctx.Done()
	timer := time.AfterFunc(n.opts.Drain, func() { interrupt(errDrained) })
	defer timer.Stop()
	loops.Wait()
	n.sends.Wait()
	return nil
}

// receive takes alert ids from the queue and routes them at once.
func (n *Notifier) receive(ctx, sendCtx context.Context) {
	for failing := false; ctx.Err() == nil; {
		msgs, err := n.opts.Queue.Receive(ctx, 64, time.Second)
		if err != nil && ctx.Err() == nil {
			if !failing {
				n.log.Warn("alerts queue does not answer, sweeping instead", slog.Any("error", err))
			}
			failing = true
			pause(ctx, time.Second)
			continue
		}
		failing = false
		n.opts.Failpoint("received")
		n.routeMessages(ctx, sendCtx, msgs)
	}
}

// routeMessages routes what was received and acknowledges what is done. An alert
// that could not be routed is left to its lease and to the sweep.
func (n *Notifier) routeMessages(ctx, sendCtx context.Context, msgs []queue.Message) {
	var ids []int64
	messages := map[int64][]string{} // by alert
	for _, m := range msgs {
		var ref uptime.AlertRef
		if err := ref.UnmarshalBinary(m.Body); err != nil {
			n.log.Error("alerts queue holds a message we cannot read", slog.Any("error", err))
			if err := n.opts.Queue.Dead(ctx, m, err.Error()); err != nil {
				n.log.Warn("dead letter not kept", slog.Any("error", err))
			}
			continue
		}
		if len(messages[ref.ID]) == 0 {
			ids = append(ids, ref.ID)
		}
		messages[ref.ID] = append(messages[ref.ID], m.ID)
	}
	var done []string
	for _, id := range n.route(ctx, sendCtx, ids) {
		done = append(done, messages[id]...)
	}
	if len(done) == 0 {
		return
	}
	if err := n.opts.Queue.Ack(ctx, done); err != nil && ctx.Err() == nil {
		n.log.Warn("alerts not acknowledged, they will come again", slog.Any("error", err))
	}
}

// route writes the deliveries of alerts, starts those that may be sent at once and
// returns the alerts that need no routing any more. Where they cannot be routed
// together, one of them may be to blame: then each is routed alone.
func (n *Notifier) route(ctx, sendCtx context.Context, ids []int64) (done []int64) {
	if len(ids) == 0 {
		return nil
	}
	err := n.routeTogether(ctx, sendCtx, ids)
	switch {
	case err == nil:
		return ids
	case len(ids) > 1 && !uptime.Is(err, uptime.Unavailable):
		for _, id := range ids {
			done = append(done, n.route(ctx, sendCtx, []int64{id})...)
		}
		return done
	}
	n.log.Warn("alerts not routed yet", slog.Int("alerts", len(ids)), slog.Int64("alert_id", ids[0]), slog.Any("error", err))
	return nil
}

func (n *Notifier) routeTogether(ctx, sendCtx context.Context, ids []int64) error {
	// What commits claims must reach its sends, so the statement is not cut short.
	storeCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	var routed []uptime.Routed
	err := n.start(sendCtx, 128, func(terms uptime.ClaimTerms) (claims []uptime.Claim, err error) {
		routed, err = n.opts.Store.RouteAlerts(storeCtx, ids, terms, func(a uptime.Alert, cs []uptime.Channel) []uptime.Delivery {
			return Route(n.opts.Installation, a, cs)
		})
		if err != nil {
			return nil, err
		}
		n.opts.Failpoint("routed")
		for _, r := range routed {
			claims = append(claims, r.Claims...)
		}
		return claims, nil
	})
	if err != nil {
		return err
	}
	for _, r := range routed {
		if !heard(r.Deliveries) {
			n.unheard(ctx, r.Alert, len(r.Deliveries))
			continue
		}
		n.metrics.routed.WithLabelValues("routed").Inc()
		if len(r.Claims) < len(r.Deliveries) {
			nudge(n.wake)
		}
	}
	return nil
}

// sweep routes alerts whose hint was lost, at start, then every Options.Sweep and
// when woken.
func (n *Notifier) sweep(ctx, sendCtx context.Context) {
	tick := time.NewTicker(n.opts.Sweep)
	defer tick.Stop()
	grace := time.Duration(0) // at start and when woken nothing is known to be on its way
	for ctx.Err() == nil {
		ids, err := n.opts.Store.UnroutedAlerts(ctx, uptime.Now().Add(-grace), 500)
		if err != nil && ctx.Err() == nil {
			n.log.Warn("unrouted alerts not read", slog.Any("error", err))
		}
		for some := range slices.Chunk(ids, 64) {
			n.metrics.swept.Add(float64(len(n.route(ctx, sendCtx, some))))
		}
		n.settle(ctx)
		nudge(n.wake)
		select {
		case <-ctx.Done():
		case <-tick.C:
			grace = time.Second // spares alerts that the queue is just bringing
		case <-n.sweepNow:
			grace = 0
		}
	}
}

// pause waits d, or less when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
