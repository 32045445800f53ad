package notify

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"vedette/internal/uptime"
)

// quiet is how long nothing must have been given up before we say that alerts get
// through again.
const quiet = time.Hour

// trouble remembers when an alert last reached nobody, to resolve our own incident
// about it. It is per process, and begins anew with it: a restart waits quiet again.
type trouble struct {
	mu     sync.Mutex // guards all below
	last   time.Time
	proof  bool // something was delivered since last
	closed bool // our incident is known to be resolved
}

func (t *trouble) begin(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = now
}

func (t *trouble) seen(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last, t.proof, t.closed = now, false, false
}

func (t *trouble) delivered() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.proof = true
}

// over reports whether our incident may be resolved, and was not yet.
func (t *trouble) over(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.closed && t.proof && now.Sub(t.last) >= quiet
}

func (t *trouble) settled() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
}

// unheard deals with an alert that nobody is told of. That is never silent: it is
// counted, logged, and, unless its channels are all switched off on purpose (their
// suppressed deliveries say so), an incident of our own, which is shown and goes to
// the administrators' channels.
func (n *Notifier) unheard(ctx context.Context, a uptime.Alert, suppressed int) {
	if suppressed > 0 {
		n.metrics.routed.WithLabelValues("suppressed").Inc()
		n.log.Warn("alert suppressed, all its channels are switched off", slog.Int64("alert_id", a.ID), slog.Int64("monitor_id", a.MonitorID))
		return
	}
	n.metrics.routed.WithLabelValues("nobody").Inc()
	n.log.Error("alert reaches nobody, there is no channel for it", slog.Int64("alert_id", a.ID), slog.Int64("monitor_id", a.MonitorID))
	if a.Body.Incident.Kind == uptime.IncidentSelf {
		return
	}
	n.openTrouble(ctx, fmt.Sprintf("An alert about %q reached nobody: the monitor has no channel and its owner no default channel.", a.Body.Monitor.Name))
}

// gaveUp deals with a dead delivery. A failed test is in front of whoever asked for
// it; an alert about ourselves that dies must not make another one.
func (n *Notifier) gaveUp(ctx context.Context, c uptime.Claim, r uptime.SendResult) {
	n.metrics.dead.WithLabelValues(c.Channel.Type).Inc()
	if c.Alert.Kind == uptime.AlertTest || c.Alert.Body.Incident.Kind == uptime.IncidentSelf {
		return
	}
	n.openTrouble(ctx, fmt.Sprintf("An alert about %q was given up on channel %q: %s", c.Alert.Body.Monitor.Name, c.Channel.Name, r.Cause))
}

// openTrouble opens our incident, or leaves the open one as it is.
func (n *Notifier) openTrouble(ctx context.Context, message string) {
	n.trouble.seen(time.Now())
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	n.setTrouble(ctx, oneLine(message), true)
}

// settle resolves our incident when alerts have been getting through for a while.
func (n *Notifier) settle(ctx context.Context) {
	if n.trouble.over(time.Now()) && n.setTrouble(ctx, "Alerts are being delivered again.", false) {
		n.trouble.settled()
	}
}

// setTrouble sets our incident; the sweep routes the alert it may have made.
func (n *Notifier) setTrouble(ctx context.Context, message string, open bool) bool {
	ids, err := n.opts.Store.SetSelfIncident(ctx, uptime.Undelivered, message, open)
	if err != nil {
		n.log.Error("own incident not recorded", slog.String("reason", string(uptime.Undelivered)), slog.Any("error", err))
		return false
	}
	if len(ids) > 0 {
		nudge(n.sweepNow)
	}
	return true
}
