package app

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"vedette/internal/api"
	"vedette/internal/config"
	"vedette/internal/notify"
	"vedette/internal/obs"
	"vedette/internal/queue"
	"vedette/internal/schedule"
	"vedette/internal/uptime"
	"vedette/internal/web"
	"vedette/internal/worker"
)

// run starts the roles and waits for their end. When ctx ends, the stages stop in
// the order of the flow, each with what the next still needs: the scheduler and
// the worker first, then the recorder that stores what the worker had in hand;
// the notifier finishes its sends beside them, and the API goes on answering
// until they are done.
func (p *process) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	if p.cfg.Has(config.RoleAPI) {
		// Before anything is checked: a heartbeat is not missing while nobody listened. Alone
		// on its database, this process knows that nobody did since its former life.
		noted := p.noteListening(ctx, p.lock != nil)
		g.Go(func() error { p.listen(ctx, p.lock != nil && !noted); return nil })
	}
	if p.recorder != nil {
		recording, stop := context.WithCancel(context.WithoutCancel(ctx))
		checks, running := errgroup.WithContext(ctx)
		p.startChecks(running, checks)
		g.Go(func() error {
			defer stop()
			return checks.Wait()
		})
		g.Go(func() error { return p.recorder.Run(recording) })
	}
	if p.cfg.Has(config.RoleNotifier) {
		n, err := notify.New(notify.Options{Store: p.store, Queue: p.alerts, Providers: p.providers, Installation: p.installation,
			Logger: p.log, Registerer: p.registry, Failpoint: p.fail.Hook("notify")})
		if err != nil {
			return err
		}
		if p.lock != nil { // its former life cannot be sending any more
			if err := p.store.ReleaseClaims(ctx); err != nil {
				p.log.Warn("deliveries under way at the last end wait for their lease", slog.Any("error", err))
			}
		}
		g.Go(func() error { return n.Run(ctx) })
	}
	if p.cfg.Pprof != "" {
		g.Go(func() error { return profile(ctx, p.cfg.Pprof) })
	}
	if p.runDemo != nil {
		g.Go(func() error { return p.runDemo(ctx) })
	}
	h, err := p.handler(ctx, g)
	if err != nil {
		return err
	}
	p.gate.open(h)
	p.log.Info("started", slog.Any("roles", p.cfg.Roles), slog.String("version", obs.Version()), slog.String("address", p.Addr()))
	return g.Wait()
}

// startChecks starts the stages that make results.
func (p *process) startChecks(ctx context.Context, g *errgroup.Group) {
	if p.cfg.Has(config.RoleWorker) {
		g.Go(func() error {
			q, err := p.broker.Queue(uptime.MonitorQueue+":"+p.cfg.Region, queue.Options{})
			if err != nil {
				return err
			}
			w, err := worker.New(worker.Options{Queue: q, Store: p.store, Compile: p.probes.Compile, Recorder: p.recorder,
				Health: worker.NewSelfCheck(p.cfg.Sentinels, p.guard.DialContext), Crowd: len(p.cfg.Sentinels) == 0,
				Region: p.cfg.Region, Holder: p.holder, Concurrency: p.cfg.Concurrency, Logger: p.log, Metrics: p.registry,
				Failpoint: p.fail.Hook("worker")})
			if err != nil {
				return err
			}
			return w.Run(ctx)
		})
	}
	if p.cfg.Has(config.RoleScheduler) {
		g.Go(func() error {
			s, err := schedule.New(schedule.Options{Store: p.store, Queues: p.broker, Hints: p.broker, Recorder: p.recorder,
				Holder: p.holder, Logger: p.log, Metrics: p.registry, Failpoint: p.fail.Hook("schedule")})
			if err != nil {
				return err
			}
			return s.Run(ctx)
		})
		g.Go(func() error { p.upkeep(ctx); return nil })
	}
}

// upkeepEvery is how often partitions, roll-ups and retention are looked after. A
// run that finds nothing to do costs a query or two.
const upkeepEvery = time.Minute

// upkeep looks after the tables until ctx ends. Its failures are told and tried
// again; they never stop a check.
func (p *process) upkeep(ctx context.Context) {
	t := time.NewTicker(upkeepEvery)
	defer t.Stop()
	for {
		if err := p.store.Upkeep(ctx); err != nil && ctx.Err() == nil {
			p.log.Warn("upkeep failed, it will be tried again", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// listenEvery is how often it is noted that pings can be received. The store takes
// three notes missing for a span in which they could not; a process that stood still
// for standStill knows better.
const (
	listenEvery = 10 * time.Second
	standStill  = 3 * time.Second
)

// listen notes it until ctx ends. returned says that the first note must tell of a
// return, since it could not be made yet.
func (p *process) listen(ctx context.Context, returned bool) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	wall := func() time.Time { return time.Now().Round(0) } // which also shows that the machine slept
	for woke, noted := wall(), wall(); ; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now := wall()
		returned = returned || now.Sub(woke) > standStill
		woke = now
		if (returned || now.Sub(noted) >= listenEvery) && p.noteListening(ctx, returned) {
			returned, noted = false, now
		}
	}
}

func (p *process) noteListening(ctx context.Context, returned bool) bool {
	err := p.service.Listening(ctx, returned)
	if err != nil && ctx.Err() == nil {
		p.log.Warn("not noted that pings are received", slog.Any("error", err))
	}
	return err == nil
}

// handler is what this process answers over HTTP: the whole API for the role api,
// health and metrics for every other.
func (p *process) handler(ctx context.Context, g *errgroup.Group) (http.Handler, error) {
	ready := []api.Check{{Name: "database", Ask: p.store.Ping}, {Name: "queue", Ask: p.broker.Ping}}
	if !p.cfg.Has(config.RoleAPI) {
		return api.NewHealth(api.Options{Service: p.service, Ready: ready, Metrics: obs.Handler(p.registry), Logger: p.log}), nil
	}
	hub := api.NewHub()
	g.Go(func() error { return p.broker.Watch(ctx, uptime.TopicEvents, func(string) { hub.Wake() }) })
	mode := "scaled"
	if p.cfg.Embedded() {
		mode = "embedded"
	}
	home, err := web.New(web.Options{Version: obs.Version(), Mode: mode, Roles: p.cfg.Roles, Demo: p.cfg.Demo,
		NeedsSetup: p.service.NeedsSetup, OwnTrouble: p.store.OwnTrouble})
	if err != nil {
		return nil, err
	}
	var proxies []netip.Prefix
	for _, text := range p.cfg.TrustedProxies {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, err
		}
		proxies = append(proxies, prefix)
	}
	return api.New(api.Options{Service: p.service, Hub: hub, Ready: ready, Metrics: obs.Handler(p.registry), Web: home, Logger: p.log,
		TrustedProxies: proxies, Limiter: limiter{p.broker}, Secure: strings.HasPrefix(p.cfg.PublicURL, "https:"),
		PublicURL: cmp.Or(strings.TrimSuffix(p.cfg.PublicURL, "/"), "http://"+p.Addr()), Version: obs.Version()})
}

// limiter counts requests in the broker, so that a limit holds over all replicas.
type limiter struct{ queue.Broker }

// Allow reports whether key may do one more of at most n per period.
func (l limiter) Allow(ctx context.Context, key string, n int, per time.Duration) (bool, error) {
	ok, _, err := l.Broker.Allow(ctx, key, n, per)
	return ok, err
}
