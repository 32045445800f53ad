// Package schedule is the scheduler box of the diagram: it turns active monitors
// into jobs, each slot at its own instant, and audits that every slot got a verdict.
//
// Slots are a pure function of monitor, region and interval, so nothing is stored
// per check, and a second scheduler or a restart computes the same ones. One
// scheduler dispatches at a time, the holder of a lease; one that cannot prove by
// the monotonic clock that it holds it stops. A queue that fails delays jobs
// within their slot and never another monitor; what was lost becomes a recorded
// unknown, through the publisher at once or through the Auditor later.
package schedule

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"vedette/internal/queue"
)

// leaseName is the row that the dispatching scheduler holds.
const leaseName = "scheduler"

// Hints tells of monitors that changed; a queue.Broker is one.
type Hints interface {
	Watch(ctx context.Context, topic string, fn func(payload string)) error
}

// Options of a Scheduler. Store, Queues, Recorder and Holder are required.
type Options struct {
	Store    Store
	Queues   Queues
	Hints    Hints // nil: changes are seen by the re-read only
	Recorder Recorder
	Holder   string // names this process in the lease row; unique
	Logger   *slog.Logger
	Metrics  prometheus.Registerer // nil: not exported

	LeaseTTL    time.Duration // default 10 s
	Reload      time.Duration // default 30 s: how often all monitors are read
	PauseAfter  time.Duration // default 10 s: a longer silence of ours is a gap, not lateness
	CatchUpRate int           // default 500 catch-up checks a second
	Queue       queue.Options // of the job queues

	// Failpoint, for tests, is called at each step's end with its name: due, published,
	// audited.
	Failpoint func(name string)

	wall func() time.Time // the wall clock; tests step it
}

func (o Options) defaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.LeaseTTL == 0 {
		o.LeaseTTL = 10 * time.Second
	}
	if o.Reload == 0 {
		o.Reload = 30 * time.Second
	}
	if o.PauseAfter == 0 {
		o.PauseAfter = 10 * time.Second
	}
	if o.CatchUpRate == 0 {
		o.CatchUpRate = 500
	}
	if o.Failpoint == nil {
		o.Failpoint = func(string) {}
	}
	if o.wall == nil {
		o.wall = time.Now
	}
	return o
}

// Scheduler dispatches jobs while it holds the lease. Make it with New.
type Scheduler struct {
	o       Options
	m       *metrics
	base    time.Time    // origin of the monotonic readings below
	until   atomic.Int64 // the lease is proven until base+until
	changed chan int64   // ids from hints
	lost    chan struct{}
}

// New makes a Scheduler. It fails when its metrics are registered already.
func New(o Options) (*Scheduler, error) {
	if o.Store == nil || o.Queues == nil || o.Recorder == nil || o.Holder == "" {
		return nil, errors.New("scheduler needs a store, queues, a recorder and a holder")
	}
	m, err := newMetrics(o.Metrics)
	if err != nil {
		return nil, err
	}
	return &Scheduler{o: o.defaults(), m: m, base: time.Now(),
		changed: make(chan int64, 4096), lost: make(chan struct{}, 1)}, nil
}

// Leading reports whether this scheduler holds the lease, provably, now.
func (s *Scheduler) Leading() bool { return int64(time.Since(s.base)) < s.until.Load() }

// Run stands by, dispatches while it leads, and returns nil once ctx ends and the
// lease is given back.
func (s *Scheduler) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { s.watch(ctx) })
	for ctx.Err() == nil {
		if s.renew(ctx) {
			s.lead(ctx)
		}
		sleep(ctx, s.o.LeaseTTL/3)
	}
	return nil
}

// watch hands hints over. One too many, or a sign that some were lost, asks for a
// full read instead.
func (s *Scheduler) watch(ctx context.Context) {
	if s.o.Hints == nil {
		return
	}
	for ctx.Err() == nil {
		err := s.o.Hints.Watch(ctx, topicMonitors, func(payload string) {
			id, err := strconv.ParseInt(payload, 10, 64)
			if err == nil {
				select {
				case s.changed <- id:
					return
				default:
				}
			}
			select {
			case s.lost <- struct{}{}:
			default:
			}
		})
		if err != nil && ctx.Err() == nil {
			s.o.Logger.Warn("hints are not watched", slog.Any("error", err))
		}
		sleep(ctx, time.Second)
	}
}

// renew takes or keeps the lease. The proof counts from before the request.
func (s *Scheduler) renew(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, s.o.LeaseTTL/3)
	defer cancel()
	asked := time.Since(s.base)
	_, held, err := s.o.Store.HoldLease(ctx, leaseName, s.o.Holder, s.o.LeaseTTL)
	if err != nil {
		if ctx.Err() == nil {
			s.o.Logger.Warn("lease is not renewed", slog.Any("error", err))
		}
		return false
	}
	if held {
		s.until.Store(int64(asked + s.o.LeaseTTL))
	}
	if !held {
		s.until.Store(0)
	}
	return held
}

// lead runs one term: until ctx ends or the lease is lost.
func (s *Scheduler) lead(ctx context.Context) {
	s.o.Logger.Info("scheduler leads", slog.String("holder", s.o.Holder))
	s.m.leading.Set(1)
	term, stop := context.WithCancel(ctx)
	t := newTerm(s)
	var wg sync.WaitGroup
	wg.Go(func() { s.keep(term) })
	wg.Go(func() { t.run(term); stop() })
	wg.Wait()
	stop()
	s.m.leading.Set(0)
	s.until.Store(0)
	s.o.Logger.Info("scheduler leads no longer", slog.String("holder", s.o.Holder))
	// Given back even when ctx is over, or the next would wait for the lease to end.
	out, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := s.o.Store.ReleaseLease(out, leaseName, s.o.Holder); err != nil {
		s.o.Logger.Warn("lease is not released", slog.Any("error", err))
	}
}

// keep renews the lease every third of its time until the term ends.
func (s *Scheduler) keep(term context.Context) {
	for sleep(term, s.o.LeaseTTL/3) {
		s.renew(term)
	}
}

// sleep waits for d; false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return ctx.Err() == nil
	}
}
