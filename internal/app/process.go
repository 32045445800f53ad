package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"vedette/internal/config"
	"vedette/internal/failpoint"
	"vedette/internal/guard"
	"vedette/internal/incident"
	"vedette/internal/notify"
	"vedette/internal/obs"
	"vedette/internal/probe"
	"vedette/internal/queue"
	"vedette/internal/service"
	"vedette/internal/store"
	"vedette/internal/uptime"
)

// process is an App whose database and queue answer: everything that its roles
// share, made once, in order.
type process struct {
	*App
	holder       string
	lock         *os.File // nil unless this process is alone on its SQLite database
	installation string
	store        *store.Store
	broker       queue.Broker

	registry  *prometheus.Registry
	fail      *failpoint.Set // nil outside tests
	guard     *guard.Guard
	probes    *probe.Set
	providers []notify.Provider
	alerts    queue.Queue
	service   *service.Service
	recorder  *incident.Recorder // nil without scheduler and worker
	demo      *demo              // nil without --demo
	runDemo   func(context.Context) error
}

// prepare makes what the roles share. A mistake in an option shows here.
func (p *process) prepare(ctx context.Context) error {
	p.registry = obs.NewRegistry()
	var err error
	if p.fail, err = failpoint.Parse(failpoint.Environment()); err != nil {
		return err
	}
	p.guard = guard.New(guard.Options{Policy: p.policy, Own: ownServers(ctx, p.cfg)})
	p.probes = probe.New(probe.Env{Guard: p.guard, UserAgent: userAgent(), Logger: p.log, Facts: p.store})
	if p.cfg.Demo {
		if p.demo, p.runDemo, err = startDemo(p.out); err != nil {
			return err
		}
		p.smtp = &p.demo.smtp
	}
	p.providers = p.channelTypes()
	if p.alerts, err = p.broker.Queue(uptime.AlertQueue, queue.Options{}); err != nil {
		return err
	}
	p.service = p.newService()
	if p.cfg.Has(config.RoleScheduler) || p.cfg.Has(config.RoleWorker) {
		p.recorder = p.newRecorder()
	}
	return p.firstUser(ctx)
}

// channelTypes is the table of providers: a channel type is one file of notify and
// one line here.
func (p *process) channelTypes() []notify.Provider {
	return []notify.Provider{
		notify.NewEmail(notify.EmailOptions{Server: p.smtp, Dial: p.dial}),
		notify.NewWebhook(notify.WebhookOptions{Dial: p.dial, Version: obs.Version()}),
	}
}

// dial is the guard's, with a refusal of the kind that a provider takes as final.
func (p *process) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := p.guard.DialContext(ctx, network, address)
	if errors.Is(err, guard.ErrBlocked) {
		return nil, &uptime.Error{Kind: uptime.Forbidden, Message: err.Error(), Err: err}
	}
	return c, err
}

func (p *process) newService() *service.Service {
	channels := map[string]service.Provider{}
	for _, provider := range p.providers {
		channels[provider.Type()] = provider
	}
	return service.New(service.Options{Store: p.store, Probes: probes{p.probes}, Channels: channels, Hint: p.hint,
		NotifyAlerts: p.notifyAlerts, CheckNow: p.checkNow, Logger: p.log})
}

func (p *process) newRecorder() *incident.Recorder {
	writers := 1 // SQLite has one writer
	if !p.cfg.SQLite() {
		writers = 2
	}
	return incident.NewRecorder(incident.RecorderOptions{Store: p.store, Notify: p.notifyAlerts, Writers: writers,
		Hint: func(ctx context.Context) { p.hint(ctx, uptime.TopicEvents, "") }, Logger: p.log, Registerer: p.registry, Failpoints: p.fail})
}

// firstUser makes the administrator that the environment names, or the demo's, or
// prints how to become one.
func (p *process) firstUser(ctx context.Context) error {
	needed, err := p.service.NeedsSetup(ctx)
	if err != nil || !needed || !p.cfg.Has(config.RoleAPI) {
		return err
	}
	if p.demo != nil {
		return p.seedDemo(ctx)
	}
	if p.cfg.AdminEmail != "" {
		_, err := p.service.Bootstrap(ctx, p.cfg.AdminEmail, p.cfg.AdminPassword)
		if uptime.Is(err, uptime.Conflict) { // another replica was quicker
			return nil
		}
		return err
	}
	token, err := p.service.OpenSetup(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.out, `
There is no user yet. This makes you the first administrator and prints your API key:

  curl -sS http://%s/api/v1/setup -H 'Content-Type: application/json' \
    -d '{"token":"%s","email":"you@example.org","password":"…at least 12 characters…","api_key_name":"first"}'

`, p.Addr(), token)
	return nil
}

// hint tells every process that something changed; it may be lost.
func (p *process) hint(ctx context.Context, topic, payload string) {
	if err := p.broker.Hint(ctx, topic, payload); err != nil {
		p.log.Debug("hint not sent", slog.String("topic", topic), slog.Any("error", err))
	}
}

// notifyAlerts hints the notifier about alerts that were written; its sweep finds
// those whose hint was lost.
func (p *process) notifyAlerts(ctx context.Context, ids []int64) {
	items := make([]queue.Item, 0, len(ids))
	for _, id := range ids {
		b, err := uptime.AlertRef{ID: id}.MarshalBinary()
		if err != nil {
			continue // a reference always encodes
		}
		items = append(items, queue.Item{Body: b})
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := p.alerts.Publish(ctx, items); err != nil {
		p.log.Warn("alerts not queued, the sweep will find them", slog.Int("alerts", len(ids)), slog.Any("error", err))
	}
}

// checkNow queues one urgent job.
func (p *process) checkNow(ctx context.Context, j uptime.Job) error {
	b, err := j.MarshalBinary()
	if err != nil {
		return err
	}
	q, err := p.broker.Queue(uptime.MonitorQueue+":"+j.Region, queue.Options{})
	if err != nil {
		return err
	}
	return q.Publish(ctx, []queue.Item{{Body: b, Urgent: true}})
}

// close lets go of what connect made.
func (p *process) close() {
	err := errors.Join(p.broker.Close(), p.store.Close())
	if p.lock != nil {
		err = errors.Join(err, p.lock.Close())
	}
	if err != nil {
		p.log.Warn("not closed cleanly", slog.Any("error", err))
	}
}

// probes lends the service what it needs of the check types.
type probes struct{ *probe.Set }

// Validate compiles the monitor and throws the result away.
func (s probes) Validate(m uptime.Monitor) error {
	_, err := s.Compile(m)
	return err
}

// randomSuffix keeps two processes of one host and pid apart, in containers.
func randomSuffix() string { return strings.ToLower(rand.Text()[:6]) }
